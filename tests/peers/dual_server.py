"""feature_server.py on version 2 of the Python SDK: the same tools, resources and prompts, for clients of both eras.

    dual_server.py [--modern]            on stdio
    dual_server.py [--modern] --http     on the SDK's own Streamable HTTP server, at any free port
    dual_server.py --sse                 on the SDK's own HTTP+SSE server, likewise

With `--modern` it refuses legacy clients (refusing.py). One process has one state: a modern client has no connection
that could have its own.
"""

import base64
import json
import os
import sys
import warnings

import anyio
from mcp import MCPError, types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged

import refusing

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
COUNTER = "test://counter"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
BIG = 3 * 1024 * 1024
MODERN = "2026-07-28"
RESULTS = {
    types.CreateMessageRequest: types.CreateMessageResult,
    types.ElicitRequest: types.ElicitResult,
    types.ListRootsRequest: types.ListRootsResult,
}
TOOLS = {}


class State:
    """What the process remembers."""

    def __init__(self):
        self.level = "debug"
        self.word = None
        self.cancelled = 0
        self.counter = 0
        self.subscriptions = set()
        self.roots_changed = 0
        self.more_tools = []
        self.bus = InMemorySubscriptionBus()


class InputRequired(Exception):
    """Leaves a handler in the modern way of asking: its result is the questions."""

    def __init__(self, questions, known):
        self.result = types.InputRequiredResult(input_requests=questions, request_state=json.dumps(known))


class Call:
    """One request while it is handled: its context, the state, and how to ask the client."""

    def __init__(self, context, params, state):
        self.session = context.session
        self.context = context
        self.state = state
        answers = {name: wire(answer) for name, answer in (getattr(params, "input_responses", None) or {}).items()}
        self.known = json.loads(getattr(params, "request_state", None) or "{}") | answers
        self.modern = context.protocol_version == MODERN

    async def ask(self, **questions):
        """The answers to the questions, asked together: as requests, or as the result of this request."""
        if self.modern:
            if not questions.keys() <= self.known.keys():
                raise InputRequired(questions, self.known)
            return [self.known[name] for name in questions]
        answers = {}

        async def one(name, question):
            related = ServerMessageMetadata(related_request_id=self.context.request_id)
            answers[name] = wire(await self.session.send_request(question, RESULTS[type(question)], metadata=related))

        async with anyio.create_task_group() as tasks:
            for name, question in questions.items():
                tasks.start_soon(one, name, question)
        return [answers[name] for name in questions]

    async def tell(self, event, notification):
        """Tells that something changed: on the streams that listen, or on the legacy connection."""
        await self.state.bus.publish(event)
        if not self.modern:
            await self.session.send_notification(notification)


def wire(model):
    """A model of the SDK with the names of the protocol."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def sampling(text):
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return types.CreateMessageRequest(params={"messages": [message], "maxTokens": 7, "systemPrompt": "Be short."})


def elicitation(question):
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=question, requestedSchema=PERSON))


def sampled(answer):
    return f"{answer['model']}: {answer['content']['text']}"


def elicited(answer):
    return [answer["action"], answer.get("content")]


def listed(answer):
    return [[root["uri"], root.get("name")] for root in answer["roots"]]


def tool(function):
    """Adds a tool: a coroutine that takes the call and its arguments and returns the text of its answer."""
    TOOLS[function.__name__] = function
    return function


@tool
async def echo(call, text="", delay=0, **_):
    await anyio.sleep(delay)
    return text


@tool
async def region(call, region="", **_):
    return region


@tool
async def progress(call, steps=5, **_):
    for step in range(1, steps + 1):
        await call.session.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@tool
async def log(call, **_):
    level = (call.context.meta or {}).get(types.LOG_LEVEL_META_KEY, "none") if call.modern else call.state.level
    for name in LEVELS if level == "none" else LEVELS[LEVELS.index(level) :]:
        await call.session.send_log_message(name, {"about": name}, "feature", call.context.request_id)
    return level


@tool
async def sample(call, text="", **_):
    [answer] = await call.ask(sample=sampling(text))
    return sampled(answer)


@tool
async def elicit(call, question="", **_):
    [answer] = await call.ask(elicit=elicitation(question))
    return json.dumps(elicited(answer))


@tool
async def roots(call, **_):
    [answer] = await call.ask(roots=types.ListRootsRequest())
    return json.dumps(listed(answer))


@tool
async def ask_all(call, question="", **_):
    """Asks three things at the same moment."""
    questions = {"sample": sampling(question), "elicit": elicitation(question), "roots": types.ListRootsRequest()}
    first, second, third = await call.ask(**questions)
    return json.dumps([sampled(first), elicited(second), listed(third)])


@tool
async def ask_in_rounds(call, question="", **_):
    """Asks three times, each time with the answer before."""
    [first] = await call.ask(first=elicitation(question))
    [second] = await call.ask(second=elicitation(first["content"]["name"]))
    [third] = await call.ask(third=sampling(second["content"]["name"]))
    return sampled(third)


@tool
async def roots_changed(call, **_):
    return str(call.state.roots_changed)


@tool
async def ping(call, **_):
    await call.session.send_ping()
    return "pong"


@tool
async def big(call, **_):
    return "big" * (BIG // 3)


@tool
async def length(call, text="", **_):
    return str(len(text))


@tool
async def slow(call, **_):
    await call.session.report_progress(1)
    try:
        await anyio.sleep_forever()
    finally:
        call.state.cancelled += 1


@tool
async def cancelled(call, **_):
    return str(call.state.cancelled)


@tool
async def fail(call, **_):
    raise ValueError("failed on purpose")


@tool
async def die(call, code=7, **_):
    sys.stdout.flush()
    os._exit(code)


@tool
async def env(call, **_):
    return json.dumps(dict(os.environ))


@tool
async def pid(call, **_):
    return str(os.getpid())


@tool
async def remember(call, text="", **_):
    call.state.word = text
    return "remembered"


@tool
async def recall(call, **_):
    return str(call.state.word)


@tool
async def update(call, **_):
    call.state.counter += 1
    if call.modern or COUNTER in call.state.subscriptions:
        params = types.ResourceUpdatedNotificationParams(uri=COUNTER)
        await call.tell(ResourceUpdated(COUNTER), types.ResourceUpdatedNotification(params=params))
    return str(call.state.counter)


@tool
async def change(call, **_):
    call.state.more_tools.append(f"more_{len(call.state.more_tools)}")
    await call.tell(ToolsListChanged(), types.ToolListChangedNotification())
    await call.tell(ResourcesListChanged(), types.ResourceListChangedNotification())
    await call.tell(PromptsListChanged(), types.PromptListChangedNotification())
    return call.state.more_tools[-1]


class DualServer(Server):
    """Says the same about itself to both eras; the SDK's low-level server leaves that to us."""

    def create_initialization_options(self, *_):
        changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(changes)

    def get_capabilities(self, *arguments, **options):
        capabilities = super().get_capabilities(*arguments, **options)
        capabilities.experimental = {"x": {"y": 1}}
        return capabilities


def make_server():
    state = State()
    handlers = {**tools(state), **resources(state), **prompts(state), **settings(state)}
    listen = ListenHandler(state.bus)
    with warnings.catch_warnings(action="ignore"):  # some features of the legacy era are deprecated
        return DualServer(
            "feature-server",
            version="1.2.3",
            instructions="Call any tool.",
            on_subscriptions_listen=listen,
            **handlers,
        )


def tools(state):
    async def list_tools(context, params):
        names = [*TOOLS, *state.more_tools]
        kinds = [types.Tool(name=name, description=f"The tool {name}.", inputSchema=schema(name)) for name in names]
        return types.ListToolsResult(tools=kinds)

    async def call_tool(context, params):
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"no tool {params.name}")
        try:
            text = await TOOLS[params.name](Call(context, params, state), **(params.arguments or {}))
        except InputRequired as questions:
            return questions.result
        except ValueError as error:
            content = types.TextContent(type="text", text=str(error))
            return types.CallToolResult(content=[content], isError=True)
        content = types.TextContent(type="text", text=text)
        return types.CallToolResult(content=[content], structuredContent={"length": len(text)})

    return {"on_list_tools": list_tools, "on_call_tool": call_tool}


def schema(name):
    """What a tool takes. One of them wants its argument in a header where the transport has headers."""
    text = {"type": "string"}
    properties = {"region": {**text, "x-mcp-header": "Region"}} if name == "region" else {"text": text}
    return {"type": "object", "properties": properties}


def resources(state):
    """Two pages of resources, a template, and one resource that changes."""

    async def list_resources(context, params):
        if params and params.cursor == "second page":
            return types.ListResourcesResult(resources=[types.Resource(uri="test://blob", name="blob")])
        counter = types.Resource(uri=COUNTER, name="counter")
        return types.ListResourcesResult(resources=[counter], nextCursor="second page")

    async def list_resource_templates(context, params):
        template = types.ResourceTemplate(uriTemplate="test://item/{number}", name="item")
        return types.ListResourceTemplatesResult(resourceTemplates=[template])

    async def read_resource(context, params):
        uri = params.uri
        if uri == COUNTER:
            content = types.TextResourceContents(uri=uri, mimeType="text/plain", text=str(state.counter))
        elif uri == "test://blob":
            blob = base64.b64encode(bytes(range(256))).decode()
            content = types.BlobResourceContents(uri=uri, mimeType="application/octet-stream", blob=blob)
        else:
            modern = context.protocol_version == MODERN
            raise MCPError(types.INVALID_PARAMS if modern else -32002, f"no resource {uri}", {"uri": uri})
        return types.ReadResourceResult(contents=[content])

    async def subscribe(context, params):
        state.subscriptions.add(params.uri)
        return types.EmptyResult()

    async def unsubscribe(context, params):
        state.subscriptions.discard(params.uri)
        return types.EmptyResult()

    return {
        "on_list_resources": list_resources,
        "on_list_resource_templates": list_resource_templates,
        "on_read_resource": read_resource,
        "on_subscribe_resource": subscribe,
        "on_unsubscribe_resource": unsubscribe,
    }


def prompts(state):
    """A prompt, completions for its argument, and a prompt that asks the user."""

    async def list_prompts(context, params):
        argument = types.PromptArgument(name="name", required=True)
        names = {"greet": [argument], "ask": []}
        return types.ListPromptsResult(
            prompts=[types.Prompt(name=name, arguments=arguments) for name, arguments in names.items()]
        )

    async def get_prompt(context, params):
        name = (params.arguments or {}).get("name")
        try:
            if params.name == "ask":
                [answer] = await Call(context, params, state).ask(elicit=elicitation("Who?"))
                name = answer["content"]["name"]
        except InputRequired as questions:
            return questions.result
        text = types.TextContent(type="text", text=f"Hello, {name}!")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text)])

    async def complete(context, params):
        known = (params.context and params.context.arguments) or {}
        values = [params.argument.value + "a", *known.values()]
        return types.CompleteResult(completion=types.Completion(values=values, total=2, hasMore=False))

    return {"on_list_prompts": list_prompts, "on_get_prompt": get_prompt, "on_completion": complete}


def settings(state):
    """What only a legacy client can set."""

    async def set_level(context, params):
        state.level = params.level
        return types.EmptyResult()

    async def roots_list_changed(context, params):
        state.roots_changed += 1

    return {"on_set_logging_level": set_level, "on_roots_list_changed": roots_list_changed}


async def on_stdio(server, modern):
    async with stdio_server() as (read, write), refusing.legacy(read, write, modern) as read:
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "--http" in sys.argv:
        refusing.listen(make_server(), "--modern" in sys.argv)
    elif "--sse" in sys.argv:
        refusing.listen_sse(make_server())
    else:
        anyio.run(on_stdio, make_server(), "--modern" in sys.argv)
