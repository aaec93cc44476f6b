"""The client side of the Python SDK, the same for its versions 1 and 2: a connection, a session, what they carry.

Results, errors and notifications are read as dictionaries with the names of the protocol (`wire`).
"""

from contextlib import asynccontextmanager

import mcp
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from pydantic import AnyUrl

from tap import tap

MAJOR = 1 if hasattr(mcp, "McpError") else 2

if MAJOR == 1:
    from mcp import McpError as Failure
    from mcp.client.streamable_http import streamablehttp_client as http_client
else:
    from mcp import Client
    from mcp import MCPError as Failure
    from mcp.client import session as sdk_session
    from mcp.client.streamable_http import streamable_http_client as http_client

    # After its own ten seconds it goes on as a legacy client; on a busy machine a server may not have started by then.
    assert sdk_session.DISCOVER_TIMEOUT_SECONDS
    sdk_session.DISCOVER_TIMEOUT_SECONDS = 60

__all__ = ["MAJOR", "MODERN", "Failure", "connected", "make", "page", "types", "unknown", "uri", "wire"]

MODERN = "2026-07-28"


def transport(kind, target):
    """The SDK's own transport of this kind to a URL or a command."""
    if kind == "sse":
        return sse_client(target[0])
    if kind == "http":
        return http_client(target[0])
    return stdio_client(StdioServerParameters(command=target[0], args=target[1:]))


@asynccontextmanager
async def connected(kind, target, take, callbacks, mode="legacy"):
    """Yields session, write stream and the server's greeting; `take` sees each message first (`tap`).

    The session of version 2 is its `Client`, which answers what a modern server asks. `mode` is the client's: `legacy`,
    `auto`, or the modern revision; version 1 knows nothing but `legacy`.
    """
    writes = []

    @asynccontextmanager
    async def tapped():
        async with transport(kind, target) as (read, write, *_), tap(read, take) as read:
            writes.append(write)
            yield read, write

    if MAJOR == 1:
        async with tapped() as (read, write), ClientSession(read, write, **callbacks) as session:
            yield session, write, wire(await session.initialize())
    else:
        async with Client(tapped(), mode=mode, **callbacks) as client:
            session = client.session
            if mode == MODERN:  # pinned, it asks nobody
                greeting = await session.send_discover(mode)
            else:
                greeting = wire(session.initialize_result or session.discover_result)
            yield client, writes[0], greeting


def wire(model):
    """A result or a notification as a dictionary, as it was sent."""
    return getattr(model, "root", model).model_dump(by_alias=True, mode="json", exclude_none=True)


def make(kind, **members):
    """A result of the SDK from the names of the protocol."""
    return kind.model_validate(members)


def uri(text):
    """What the SDK takes for a URI."""
    return AnyUrl(text) if MAJOR == 1 else text


async def page(session, cursor):
    """A further page of the list of resources."""
    if MAJOR == 1:
        return await session.list_resources(params=types.PaginatedRequestParams(cursor=cursor))
    return await session.list_resources(cursor=cursor)


async def unknown(session):
    """Asks for a method that no server knows; what comes is an error."""
    request = types.Request[types.RequestParams, str](method="x/nothing", params=types.RequestParams())
    if MAJOR == 1:
        await session.send_request(types.ClientRequest.model_construct(root=request), types.EmptyResult)
    else:
        await session.session.send_request(request, types.EmptyResult)
