"""An MCP server on the Python SDK with everything that the server scenarios of the conformance suite ask for.

    conformance_server.py           on stdio
    conformance_server.py --http    on the SDK's own Streamable HTTP server, at any free port

Names, texts and schemas are the suite's; `conformance list` names its scenarios.
"""

import base64
import json
import struct
import zlib

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from pydantic import AnyUrl

from hosting import host

PROMPT = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}
MESSAGE = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
NOTHING = {"type": "object", "properties": {}}
PERSON = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
TITLED = [{"const": f"value{number}", "title": f"{name} Option"} for number, name in enumerate(["First", "Second"], 1)]
OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
    "required": [],
}
SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
TOOLS = {}


def tool(schema, name=None):
    """Adds a tool to the list: a coroutine that takes the request's context and returns a list of content."""

    def add(function):
        TOOLS[name or function.__name__] = (schema, function)
        return function

    return add


def text(words):
    return types.TextContent(type="text", text=words)


def image():
    return types.ImageContent(type="image", data=encoded(png()), mimeType="image/png")


def embedded(uri, kind, words):
    resource = types.TextResourceContents(uri=AnyUrl(uri), mimeType=kind, text=words)
    return types.EmbeddedResource(type="resource", resource=resource)


def encoded(data):
    return base64.b64encode(data).decode()


def png():
    """One red pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def wav():
    """A sound of no length."""
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", len(form)) + form


@tool(NOTHING)
async def test_simple_text(context):
    return [text("This is a simple text response for testing.")]


@tool(NOTHING)
async def test_image_content(context):
    return [image()]


@tool(NOTHING)
async def test_audio_content(context):
    return [types.AudioContent(type="audio", data=encoded(wav()), mimeType="audio/wav")]


@tool(NOTHING)
async def test_embedded_resource(context):
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool(NOTHING)
async def test_multiple_content_types(context):
    data = json.dumps({"test": "data", "value": 123})
    mixed = embedded("test://mixed-content-resource", "application/json", data)
    return [text("Multiple content types test:"), image(), mixed]


@tool(NOTHING)
async def test_tool_with_logging(context):
    for words in ["Tool execution started", "Tool processing data", "Tool execution completed"]:
        await context.session.send_log_message("info", words, related_request_id=context.request_id)
        await anyio.sleep(0.05)
    return [text("logged")]


@tool(NOTHING)
async def test_error_handling(context):
    raise ValueError("This tool intentionally returns an error for testing")


@tool(NOTHING)
async def test_tool_with_progress(context):
    token = context.meta and context.meta.progressToken
    for done in [0, 50, 100]:
        if token is not None:
            request = str(context.request_id)
            await context.session.send_progress_notification(token, done, 100, related_request_id=request)
        await anyio.sleep(0.05)
    return [text("done")]


@tool(PROMPT)
async def test_sampling(context, prompt):
    message = types.SamplingMessage(role="user", content=text(prompt))
    result = await context.session.create_message(
        [message], max_tokens=100, related_request_id=context.request_id
    )
    return [text(f"LLM response: {result.content.text}")]


@tool(MESSAGE)
async def test_elicitation(context, message):
    return await elicit(context, message, PERSON, "User response")


@tool(NOTHING)
async def test_elicitation_sep1034_defaults(context):
    return await elicit(context, "Please review", DEFAULTS, "Elicitation completed")


@tool(NOTHING)
async def test_elicitation_sep1330_enums(context):
    return await elicit(context, "Please choose", ENUMS, "Elicitation completed")


async def elicit(context, message, schema, label):
    result = await context.session.elicit(message, schema, context.request_id)
    return [text(f"{label}: action={result.action}, content={json.dumps(result.content)}")]


@tool(NOTHING)
async def test_reconnection(context):
    """Closes its own event stream in the middle of the call, where the transport can."""
    if context.close_sse_stream:
        await context.close_sse_stream()
    await anyio.sleep(0.1)
    return [text("Reconnection test completed successfully")]


@tool(SCHEMA_2020_12)
async def json_schema_2020_12_tool(context, **arguments):
    return [text(json.dumps(arguments))]


class ConformanceServer(Server):
    """Says that it takes subscriptions, which the SDK's low-level server never does."""

    def get_capabilities(self, *arguments):
        capabilities = super().get_capabilities(*arguments)
        capabilities.resources.subscribe = True
        return capabilities


def make_server():
    """A server with state of its own."""
    server = ConformanceServer("conformance-server", version="1.0.0")
    offer_tools(server)
    offer_resources(server)
    offer_prompts(server)
    return server


def offer_tools(server):
    @server.list_tools()
    async def list_tools():
        return [
            types.Tool(name=name, description=f"The tool {name}.", inputSchema=schema)
            for name, (schema, _) in TOOLS.items()
        ]

    @server.call_tool()
    async def call_tool(name, arguments):
        _, function = TOOLS[name]
        return await function(server.request_context, **arguments)

    @server.set_logging_level()
    async def set_level(level):
        pass


def offer_resources(server):
    kinds = {"static-text": "text/plain", "static-binary": "image/png", "watched-resource": "text/plain"}

    @server.list_resources()
    async def list_resources():
        return [
            types.Resource(uri=AnyUrl(f"test://{name}"), name=name, description=name, mimeType=kind)
            for name, kind in kinds.items()
        ]

    @server.list_resource_templates()
    async def list_resource_templates():
        return [types.ResourceTemplate(uriTemplate="test://template/{id}/data", name="template", description="data")]

    @server.read_resource()
    async def read_resource(uri):
        name = str(uri).removeprefix("test://")
        if name == "static-binary":
            return [ReadResourceContents(png(), "image/png")]
        if name in kinds:
            return [ReadResourceContents("This is the content of the static text resource.", "text/plain")]
        number = name.removeprefix("template/").removesuffix("/data")
        data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
        return [ReadResourceContents(json.dumps(data), "application/json")]

    @server.subscribe_resource()
    async def subscribe(uri):
        pass

    @server.unsubscribe_resource()
    async def unsubscribe(uri):
        pass


def offer_prompts(server):
    names = {
        "test_simple_prompt": [],
        "test_prompt_with_arguments": ["arg1", "arg2"],
        "test_prompt_with_embedded_resource": ["resourceUri"],
        "test_prompt_with_image": [],
    }

    @server.list_prompts()
    async def list_prompts():
        return [
            types.Prompt(
                name=name,
                description=f"The prompt {name}.",
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in names.items()
        ]

    @server.get_prompt()
    async def get_prompt(name, arguments):
        return types.GetPromptResult(
            messages=[types.PromptMessage(role="user", content=content) for content in contents(name, arguments or {})]
        )

    @server.completion()
    async def complete(ref, argument, context):
        return types.Completion(values=[argument.value + "a"], total=1, hasMore=False)


def contents(name, arguments):
    """What the messages of a prompt hold."""
    if name == "test_prompt_with_arguments":
        return [text(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'")]
    if name == "test_prompt_with_embedded_resource":
        resource = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
        return [resource, text("Please process the embedded resource above.")]
    if name == "test_prompt_with_image":
        return [image(), text("Please analyze the image above.")]
    return [text("This is a simple prompt for testing.")]


async def serve(read, write, stateless):
    server = make_server()
    await server.run(read, write, server.create_initialization_options(), stateless=stateless)


if __name__ == "__main__":
    host(serve)
