"""What the server scenarios of the conformance suite ask for: tools, resources and prompts, the same for the servers
on both versions of the Python SDK.

Names, texts and schemas are the suite's; `conformance list` names its scenarios. A tool takes the call, through which
it asks the client, logs and tells progress in the way of its era:

    await call.ask(name=question, …)   the answers to the questions, asked together, as the protocol has them
    await call.log(words)              await call.progress(done)
    await call.changed(kind)           tells that the list of `tools` or `prompts` is another one now
    call.declared                      the client's capabilities
    call.error(code, message, data)    an exception that makes an error of the call
"""

import base64
import json
import struct
import zlib

import anyio
from mcp import types

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
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
IN_A_HEADER = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
MISSING_CAPABILITY = -32021
RESOURCES = {"static-text": "text/plain", "static-binary": "image/png", "watched-resource": "text/plain"}
PROMPTS = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}
TOOLS = {}


def tool(schema, name=None):
    """Adds a tool to the list: a coroutine that takes the call and its arguments and returns a list of content."""

    def add(function):
        TOOLS[name or function.__name__] = (schema, function)
        return function

    return add


def text(words):
    return types.TextContent(type="text", text=words)


def image():
    return types.ImageContent(type="image", data=encoded(png()), mimeType="image/png")


def embedded(uri, kind, words):
    resource = types.TextResourceContents(uri=uri, mimeType=kind, text=words)
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


def elicitation(message, schema):
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def one(name, kind="string"):
    """The schema of a form with one field."""
    return {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}


def sampling(prompt, tokens=100):
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": tokens}}


def roots():
    return {"method": "roots/list"}


@tool(NOTHING)
async def test_simple_text(call):
    return [text("This is a simple text response for testing.")]


@tool(NOTHING)
async def test_image_content(call):
    return [image()]


@tool(NOTHING)
async def test_audio_content(call):
    return [types.AudioContent(type="audio", data=encoded(wav()), mimeType="audio/wav")]


@tool(NOTHING)
async def test_embedded_resource(call):
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool(NOTHING)
async def test_multiple_content_types(call):
    data = json.dumps({"test": "data", "value": 123})
    mixed = embedded("test://mixed-content-resource", "application/json", data)
    return [text("Multiple content types test:"), image(), mixed]


@tool(NOTHING)
async def test_tool_with_logging(call):
    for words in ["Tool execution started", "Tool processing data", "Tool execution completed"]:
        await call.log(words)
        await anyio.sleep(0.05)
    return [text("logged")]


@tool(NOTHING)
async def test_logging_tool(call):
    await call.log("This tool logs.")
    return [text("logged")]


@tool(NOTHING)
async def test_error_handling(call):
    raise ValueError("This tool intentionally returns an error for testing")


@tool(NOTHING)
async def test_tool_with_progress(call):
    for done in [0, 50, 100]:
        await call.progress(done)
        await anyio.sleep(0.05)
    return [text("done")]


@tool(PROMPT)
async def test_sampling(call, prompt):
    [answer] = await call.ask(answer=sampling(prompt))
    return [text(f"LLM response: {answer['content']['text']}")]


@tool(MESSAGE)
async def test_elicitation(call, message):
    return await elicited(call, message, PERSON, "User response")


@tool(NOTHING)
async def test_elicitation_sep1034_defaults(call):
    return await elicited(call, "Please review", DEFAULTS, "Elicitation completed")


@tool(NOTHING)
async def test_elicitation_sep1330_enums(call):
    return await elicited(call, "Please choose", ENUMS, "Elicitation completed")


@tool(NOTHING)
async def test_streaming_elicitation(call):
    return await elicited(call, "Please confirm", one("confirmed", "boolean"), "Elicitation completed")


async def elicited(call, message, schema, label):
    [answer] = await call.ask(answer=elicitation(message, schema))
    return [text(f"{label}: action={answer['action']}, content={json.dumps(answer.get('content'))}")]


@tool(NOTHING)
async def test_missing_capability(call):
    """Needs sampling. A modern server has to say so itself; a legacy one just asks."""
    if call.modern and "sampling" not in call.declared:
        raise call.error(MISSING_CAPABILITY, "sampling is needed", {"requiredCapabilities": {"sampling": {}}})
    await call.ask(answer=sampling("Anything?"))
    return [text("sampled")]


@tool(NOTHING)
async def test_trigger_tool_change(call):
    await call.changed("tools")
    return [text("changed")]


@tool(NOTHING)
async def test_trigger_prompt_change(call):
    await call.changed("prompts")
    return [text("changed")]


@tool(NOTHING)
async def test_input_required_result_elicitation(call):
    [answer] = await call.ask(user_name=elicitation("What is your name?", one("name")))
    return [text(f"Hello, {answer['content']['name']}!")]


@tool(NOTHING)
async def test_input_required_result_sampling(call):
    [answer] = await call.ask(capital_question=sampling("What is the capital of France?"))
    return [text(answer["content"]["text"])]


@tool(NOTHING)
async def test_input_required_result_list_roots(call):
    [answer] = await call.ask(client_roots=roots())
    return [text(json.dumps(answer["roots"]))]


@tool(NOTHING)
async def test_input_required_result_request_state(call):
    await call.ask(confirm=elicitation("Please confirm", one("ok", "boolean")))
    return [text("state-ok")]


@tool(NOTHING)
async def test_input_required_result_tampered_state(call):
    await call.ask(confirm=elicitation("Please confirm", one("ok", "boolean")))
    return [text("state-ok")]


@tool(NOTHING)
async def test_input_required_result_multiple_inputs(call):
    await call.ask(
        user_name=elicitation("What is your name?", one("name")),
        greeting=sampling("Generate a greeting", 50),
        client_roots=roots(),
    )
    return [text("All three were answered.")]


@tool(NOTHING)
async def test_input_required_result_multi_round(call):
    [first] = await call.ask(step1=elicitation("Step 1: What is your name?", one("name")))
    [second] = await call.ask(step2=elicitation("Step 2: What is your favorite color?", one("color")))
    return [text(f"{first['content']['name']} likes {second['content']['color']}.")]


@tool(NOTHING)
async def test_input_required_result_capabilities(call):
    """Asks for as much as the client can."""
    questions = {"elicitation": elicitation("Who?", one("name")), "sampling": sampling("Who?"), "roots": roots()}
    await call.ask(**{name: question for name, question in questions.items() if name in call.declared})
    return [text("answered")]


@tool(IN_A_HEADER)
async def test_parameter_in_a_header(call, region=""):
    return [text(region)]


@tool(NOTHING)
async def test_reconnection(call):
    """Closes its own event stream in the middle of the call, where the transport can."""
    if call.close_stream:
        await call.close_stream()
    await anyio.sleep(0.1)
    return [text("Reconnection test completed successfully")]


@tool(SCHEMA_2020_12)
async def json_schema_2020_12_tool(call, **arguments):
    return [text(json.dumps(arguments))]


def resource(uri):
    """The content of a resource and its type; no such resource: None."""
    name = uri.removeprefix("test://")
    if name == "static-binary":
        return png(), "image/png"
    if name in RESOURCES:
        return "This is the content of the static text resource.", "text/plain"
    if not name.startswith("template/"):
        return None
    number = name.removeprefix("template/").removesuffix("/data")
    data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
    return json.dumps(data), "application/json"


async def prompt(call, name, arguments):
    """What the messages of a prompt hold."""
    if name == "test_input_required_result_prompt":
        [answer] = await call.ask(user_context=elicitation("What context should the prompt use?", one("context")))
        return [text(f"The context is {answer['content']['context']}.")]
    if name == "test_prompt_with_arguments":
        return [text(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'")]
    if name == "test_prompt_with_embedded_resource":
        content = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
        return [content, text("Please process the embedded resource above.")]
    if name == "test_prompt_with_image":
        return [image(), text("Please analyze the image above.")]
    return [text("This is a simple prompt for testing.")]
