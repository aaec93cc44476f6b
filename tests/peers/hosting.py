"""The HTTP servers of the Python SDK, for a server of the tests that can also run on stdio.

    --sse            HTTP+SSE at /sse
    --http           Streamable HTTP at /mcp: sessions, events that can be resumed
    --json           the same, but every answer is plain JSON
    --stateless      Streamable HTTP without sessions

All listen on any free port of 127.0.0.1; uvicorn says on stderr which.
"""

import contextlib
import itertools
import sys

import anyio
import uvicorn
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

LOOPBACK = ["127.0.0.1:*", "localhost:*", "[::1]:*"]
RETRY_MS = 100


def host(serve):
    """Runs `serve(read, write, stateless)` once a connection, as the command line says: without a word, on stdio."""
    word = sys.argv[1] if len(sys.argv) > 1 else None
    if word is None:
        anyio.run(on_stdio, serve)
    elif word == "--sse":
        listen(sse_routes(serve))
    else:
        listen(**streamable(serve, json_response=word == "--json", stateless=word == "--stateless"))


async def on_stdio(serve):
    async with stdio_server() as (read, write):
        await serve(read, write, False)


def listen(routes, lifespan=None):
    uvicorn.run(Starlette(routes=routes, lifespan=lifespan), port=0, access_log=False)


def sse_routes(serve):
    transport = SseServerTransport("/messages/")

    async def stream(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await serve(read, write, False)
        return Response()

    return [Route("/sse", stream), Mount("/messages/", app=transport.handle_post_message)]


def streamable(serve, json_response, stateless):
    """Routes and lifespan of a Streamable HTTP server; requests from other sites are refused."""
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=LOOPBACK,
        allowed_origins=[f"http://{name}" for name in LOOPBACK],
    )
    manager = StreamableHTTPSessionManager(
        Application(serve),
        event_store=None if json_response or stateless else Events(),
        json_response=json_response,
        stateless=stateless,
        security_settings=security,
        retry_interval=RETRY_MS,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with manager.run():
            yield

    return {"routes": [Route("/mcp", Endpoint(manager.handle_request))], "lifespan": lifespan}


class Endpoint:
    """Starlette takes an object for an ASGI application and a function for something else."""

    def __init__(self, handle):
        self.handle = handle

    async def __call__(self, scope, receive, send):
        await self.handle(scope, receive, send)


class Application:
    """What the session manager takes for a server; each session gets one of its own."""

    def __init__(self, serve):
        self.serve = serve

    def create_initialization_options(self):
        return None

    async def run(self, read, write, _, stateless=False):
        await self.serve(read, write, stateless)


class Events(EventStore):
    """Keeps every event, so that any can be resumed; a test is short."""

    def __init__(self):
        self.numbers = itertools.count(1)
        self.events = {}

    async def store_event(self, stream_id, message):
        event_id = str(next(self.numbers))
        self.events[event_id] = (stream_id, message)
        return event_id

    async def replay_events_after(self, last_event_id, send_callback):
        if last_event_id not in self.events:
            return None
        stream_id, _ = self.events[last_event_id]
        for event_id, (stream, message) in list(self.events.items()):
            if stream == stream_id and int(event_id) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream_id
