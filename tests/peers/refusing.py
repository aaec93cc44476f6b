"""Servers on version 2 of the Python SDK as the specification describes a modern-only one: what carries no modern
version is refused with an error that names the versions. The SDK itself always serves both eras.
"""

import json
from contextlib import asynccontextmanager

import uvicorn
from mcp import types
from mcp.server.sse import SseServerTransport
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

from tap import tap, wrap

VERSION_HEADER = b"mcp-protocol-version"


def refusal(params):
    """The error for a request that carries no modern version, an `initialize` for example."""
    requested = (params or {}).get("protocolVersion", "none")
    data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested}
    return {"code": types.UNSUPPORTED_PROTOCOL_VERSION, "message": "unsupported protocol version", "data": data}


@asynccontextmanager
async def legacy(read, write, refuse):
    """Yields a read stream without the requests of legacy clients, which are refused if `refuse`."""

    async def take(message):
        params = message.get("params", {})
        refused = "id" in message and types.PROTOCOL_VERSION_META_KEY not in params.get("_meta", {})
        if refused:
            await write.send(wrap({"id": message["id"], "error": refusal(params)}))
        return refused

    if not refuse:
        yield read
        return
    async with tap(read, take) as read:
        yield read


def listen(server, refuse):
    """Runs a server on the SDK's Streamable HTTP at any free port of 127.0.0.1; uvicorn says on stderr which."""
    app = server.streamable_http_app()
    uvicorn.run(Modern(app) if refuse else app, host="127.0.0.1", port=0, access_log=False)


def listen_sse(server):
    """Runs a server on the SDK's HTTP+SSE, which the modern era does not have, likewise."""
    transport = SseServerTransport("/messages/")

    async def stream(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    app = Starlette(routes=[Route("/sse", stream), Mount("/messages/", app=transport.handle_post_message)])
    uvicorn.run(app, host="127.0.0.1", port=0, access_log=False)


class Modern:
    """An ASGI application in front of the SDK's: what belongs to the legacy era does not get there."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] != "POST":
            await answer(send, 405, b"", [(b"allow", b"POST")])
        elif dict(scope["headers"]).get(VERSION_HEADER, b"none").decode() in [*HANDSHAKE_PROTOCOL_VERSIONS, "none"]:
            request = json.loads(await body(receive))
            error = {"jsonrpc": "2.0", "id": request.get("id"), "error": refusal(request.get("params"))}
            await answer(send, 400, json.dumps(error).encode(), [(b"content-type", b"application/json")])
        else:
            await self.app(scope, receive, send)


async def body(receive):
    """The whole body of a request."""
    data, more = b"", True
    while more:
        message = await receive()
        data, more = data + message.get("body", b""), message.get("more_body", False)
    return data


async def answer(send, status, data, headers):
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
