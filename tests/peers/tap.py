"""A tap on a connection of the Python SDK: sees every message before the SDK does and may keep it.

The SDK refuses methods that it does not know; the tap is how the tests send and answer such messages.
Version 1 of the SDK keeps members of a message that it does not know, version 2 drops them.
"""

from contextlib import asynccontextmanager

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage
from pydantic import TypeAdapter

MESSAGE = TypeAdapter(JSONRPCMessage)


@asynccontextmanager
async def tap(read, take):
    """Yields a read stream with those messages of `read` of which `await take(message)` is false."""
    to_session, from_tap = anyio.create_memory_object_stream(0)

    async def pump():
        try:
            async with read, to_session:
                async for item in read:
                    message = plain(item) if isinstance(item, SessionMessage) else {}
                    if not await take(message):
                        await to_session.send(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # the session ended first

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pump)
        yield from_tap
        tasks.cancel_scope.cancel()


def plain(item):
    """A message of the SDK as a dictionary, with the members that the SDK keeps."""
    return item.message.model_dump(by_alias=True, mode="json", exclude_none=True)


def wrap(message):
    """A dictionary as a message of the SDK."""
    return SessionMessage(MESSAGE.validate_python({"jsonrpc": "2.0", **message}))
