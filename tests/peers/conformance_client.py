"""What the conformance suite starts to test a client: an SDK client on stdio, and the proxy that connects it.

    conformance_client.py URL

MCP_CONFORMANCE_SCENARIO names the scenario, MCP_PROXY_BIN the proxy, MCP_PROXY_WORDS options for it. Without a proxy
the SDK's own Streamable HTTP client is used, which shows what the suite makes of that: MCP_CLIENT_MODE is the mode of
one on version 2 of the SDK.
"""

import json
import os
import sys
import urllib.request

import anyio

from sdk import connected, make, types, uri, wire


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


async def questions(session):
    """Calls several tools at the same moment; two of them ask."""
    await session.list_tools()
    async with anyio.create_task_group() as tasks:
        for name in ["echo_state", "unrelated", "no_state", "unrelated", "no_result_type"]:
            tasks.start_soon(session.call_tool, f"test_mrtr_{name}", {})


async def standard_headers(session):
    """Uses everything whose method or name belongs in a header."""
    for tool in wire(await session.list_tools())["tools"]:
        await session.call_tool(tool["name"], {})
    for resource in wire(await session.list_resources())["resources"]:
        await session.read_resource(uri(resource["uri"]))
    for prompt in wire(await session.list_prompts())["prompts"]:
        await session.get_prompt(prompt["name"])


async def custom_headers(session):
    await session.list_tools()
    for call in context()["toolCalls"]:
        await session.call_tool(call["name"], call["arguments"])


async def invalid_tools(session):
    """Calls every tool that is listed."""
    for tool in wire(await session.list_tools())["tools"]:
        await session.call_tool(tool["name"], {name: "value" for name in tool["inputSchema"]["required"]})


async def schema(session):
    """Gives back the schema that was listed."""
    [listed] = [tool for tool in wire(await session.list_tools())["tools"] if "$defs" in tool["inputSchema"]]
    await session.call_tool("json_schema_echo", {"schema": listed["inputSchema"]})


SCENARIOS = {
    "initialize": initialize,
    "tools_call": tools_call,
    "sse-retry": sse_retry,
    "elicitation-sep1034-client-defaults": elicitation,
    "auth/client-credentials-basic": initialize,
    "request-metadata": initialize,
    "sep-2322-client-request-state": questions,
    "http-standard-headers": standard_headers,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": invalid_tools,
    "json-schema-ref-no-deref": initialize,
    "json-schema-2020-12-preservation": schema,
}


def context():
    """What the suite tells the client about the scenario."""
    return json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))


def credentials(url):
    """The proxy's options from what the suite tells about the client and the server about its authorization."""
    known = context()
    if "client_secret" not in known:
        return []
    origin = url.removesuffix("/mcp")
    [issuer] = get(f"{origin}/.well-known/oauth-protected-resource/mcp")["authorization_servers"]
    token_url = get(f"{issuer}/.well-known/oauth-authorization-server")["token_endpoint"]
    options = {"--client-id": known["client_id"], "--client-secret": known["client_secret"]}
    return [word for pair in {**options, "--token-url": token_url}.items() for word in pair]


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


async def defaults(_, params):
    """Accepts with what the schema says for each field."""
    fields = wire(params)["requestedSchema"]["properties"]
    content = {name: field["default"] for name, field in fields.items() if "default" in field}
    return make(types.ElicitResult, action="accept", content=content)


async def nothing(_):
    """Keeps no message."""
    return False


async def main(url):
    proxy = os.environ.get("MCP_PROXY_BIN")
    options = [*os.environ.get("MCP_PROXY_WORDS", "").split(), *credentials(url)]
    kind, target = ("stdio", [proxy, *options, url]) if proxy else ("http", [url])
    mode = os.environ.get("MCP_CLIENT_MODE", "legacy")
    async with connected(kind, target, nothing, {"elicitation_callback": defaults}, mode) as (session, _, _):
        await SCENARIOS[os.environ["MCP_CONFORMANCE_SCENARIO"]](session)


anyio.run(main, sys.argv[1])
