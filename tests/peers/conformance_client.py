"""What the conformance suite starts to test a client: an SDK client on stdio, and the proxy that connects it.

    conformance_client.py URL

MCP_CONFORMANCE_SCENARIO names the scenario, MCP_PROXY_BIN the proxy. Without a proxy the SDK's own Streamable HTTP
client is used, which shows what the suite makes of that.
"""

import json
import os
import sys
import urllib.request

import anyio

from sdk import connected, make, types, wire


async def initialize(session):
    await session.list_tools()


async def tools_call(session):
    await session.list_tools()
    await session.call_tool("add_numbers", {"a": 2, "b": 3})


async def sse_retry(session):
    await session.list_tools()
    result = await session.call_tool("test_reconnection", {})
    assert "successfully" in result.content[0].text, result


async def elicitation(session):
    await session.list_tools()
    await session.call_tool("test_client_elicitation_defaults", {})


SCENARIOS = {
    "initialize": initialize,
    "tools_call": tools_call,
    "sse-retry": sse_retry,
    "elicitation-sep1034-client-defaults": elicitation,
    "auth/client-credentials-basic": initialize,
}


def credentials(url):
    """The proxy's options from what the suite tells about the client and the server about its authorization."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    if "client_secret" not in context:
        return []
    origin = url.removesuffix("/mcp")
    [issuer] = get(f"{origin}/.well-known/oauth-protected-resource/mcp")["authorization_servers"]
    token_url = get(f"{issuer}/.well-known/oauth-authorization-server")["token_endpoint"]
    options = {"--client-id": context["client_id"], "--client-secret": context["client_secret"]}
    return [word for pair in {**options, "--token-url": token_url}.items() for word in pair]


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


async def defaults(context, params):
    """Accepts with what the schema says for each field."""
    fields = wire(params)["requestedSchema"]["properties"]
    content = {name: field["default"] for name, field in fields.items() if "default" in field}
    return make(types.ElicitResult, action="accept", content=content)


async def nothing(_):
    """Keeps no message."""
    return False


async def main(url):
    proxy = os.environ.get("MCP_PROXY_BIN")
    kind, target = ("stdio", [proxy, *credentials(url), url]) if proxy else ("http", [url])
    async with connected(kind, target, nothing, {"elicitation_callback": defaults}) as (session, _, _):
        await SCENARIOS[os.environ["MCP_CONFORMANCE_SCENARIO"]](session)


anyio.run(main, sys.argv[1])
