"""An MCP server on the Python SDK that uses every feature of the protocol that a proxy must carry.

    feature_server.py           on stdio
    feature_server.py --sse     on the SDK's own HTTP+SSE server, at any free port
    feature_server.py --http    on its Streamable HTTP server; also --json and --stateless (hosting.py)

Each connection has its own state, so that a test sees at once when two are mixed up.
"""

import json
import os
import sys

import anyio
from mcp import McpError, types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from pydantic import AnyUrl

from hosting import host
from tap import tap, wrap

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
COUNTER = "test://counter"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
BIG = 3 * 1024 * 1024
RESOURCE_NOT_FOUND = -32002


class State:
    """What one connection remembers."""

    def __init__(self):
        self.level = "debug"
        self.word = None
        self.cancelled = 0
        self.counter = 0
        self.subscriptions = set()
        self.roots_changed = 0
        self.more_tools = []


class FeatureServer(Server):
    """Says that it takes subscriptions, which the SDK's low-level server never does."""

    def get_capabilities(self, *arguments):
        capabilities = super().get_capabilities(*arguments)
        capabilities.resources.subscribe = True
        return capabilities


def make_server():
    """A server with state of its own."""
    server = FeatureServer("feature-server", version="1.2.3", instructions="Call any tool.")
    state = State()
    offer_tools(server, state)
    offer_resources(server, state)
    offer_prompts(server)

    @server.set_logging_level()
    async def set_level(level):
        state.level = level

    async def roots_changed(_):
        state.roots_changed += 1

    server.notification_handlers[types.RootsListChangedNotification] = roots_changed
    return server


def offer_tools(server, state):
    """The tools are the coroutines of the table below; each returns the text of its answer."""

    async def echo(context, text="", delay=0, **_):
        await anyio.sleep(delay)
        return text

    async def progress(context, steps=5, **_):
        for step in range(1, steps + 1):
            await context.session.send_progress_notification(
                context.meta.progressToken, step, steps, f"step {step}", related_request_id=str(context.request_id)
            )
        return f"{steps} steps"

    async def log(context, **_):
        for level in LEVELS[LEVELS.index(state.level) :]:
            await context.session.send_log_message(level, {"about": level}, "feature", context.request_id)
        return state.level

    async def sample(context, text="", **_):
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))
        result = await context.session.create_message([message], max_tokens=7, system_prompt="Be short.")
        return f"{result.model}: {result.content.text}"

    async def elicit(context, question="", **_):
        result = await context.session.elicit(question, PERSON)
        return json.dumps([result.action, result.content])

    async def ask_all(context, question="", **_):
        """Asks three things at the same moment."""
        answers = {}

        async def ask(tool):
            answers[tool.__name__] = await tool(context, text=question, question=question)

        async with anyio.create_task_group() as tasks:
            for tool in [sample, elicit, roots]:
                tasks.start_soon(ask, tool)
        return json.dumps([answers["sample"], json.loads(answers["elicit"]), json.loads(answers["roots"])])

    async def ask_in_rounds(context, question="", **_):
        """Asks three times, each time with the answer before."""
        _, first = json.loads(await elicit(context, question=question))
        _, second = json.loads(await elicit(context, question=first["name"]))
        return await sample(context, text=second["name"])

    async def region(context, region="", **_):
        return region

    async def roots(context, **_):
        result = await context.session.list_roots()
        return json.dumps([[str(root.uri), root.name] for root in result.roots])

    async def roots_changed(context, **_):
        return str(state.roots_changed)

    async def ping(context, **_):
        await context.session.send_ping()
        return "pong"

    async def big(context, **_):
        return "big" * (BIG // 3)

    async def length(context, text="", **_):
        return str(len(text))

    async def slow(context, **_):
        await context.session.send_progress_notification(context.meta.progressToken, 1)
        try:
            await anyio.sleep_forever()
        finally:
            state.cancelled += 1

    async def cancelled(context, **_):
        return str(state.cancelled)

    async def fail(context, **_):
        raise ValueError("failed on purpose")

    async def die(context, code=7, **_):
        sys.stdout.flush()
        os._exit(code)

    async def env(context, **_):
        return json.dumps(dict(os.environ))

    async def pid(context, **_):
        return str(os.getpid())

    async def remember(context, text="", **_):
        state.word = text
        return "remembered"

    async def recall(context, **_):
        return str(state.word)

    async def update(context, **_):
        state.counter += 1
        if COUNTER in state.subscriptions:
            await context.session.send_resource_updated(AnyUrl(COUNTER))
        return str(state.counter)

    async def change(context, **_):
        state.more_tools.append(f"more_{len(state.more_tools)}")
        await context.session.send_tool_list_changed()
        await context.session.send_resource_list_changed()
        await context.session.send_prompt_list_changed()
        return state.more_tools[-1]

    functions = [echo, progress, log, sample, elicit, roots, roots_changed, ping, big, length, slow, cancelled]
    functions += [fail, die, env, pid, remember, recall, update, change, ask_all, ask_in_rounds, region]
    table = {function.__name__: function for function in functions}

    @server.list_tools()
    async def list_tools():
        names = [*table, *state.more_tools]
        return [types.Tool(name=name, description=f"The tool {name}.", inputSchema=schema(name)) for name in names]

    @server.call_tool()
    async def call_tool(name, arguments):
        text = await table[name](server.request_context, **arguments)
        return [types.TextContent(type="text", text=text)], {"length": len(text)}

    call = server.request_handlers[types.CallToolRequest]

    async def call_known(request):
        """The SDK makes a result of every exception in a tool; that there is no such tool is an error."""
        if request.params.name not in table:
            raise error(types.INVALID_PARAMS, f"no tool {request.params.name}")
        return await call(request)

    server.request_handlers[types.CallToolRequest] = call_known


def schema(name):
    """What a tool takes. One of them wants its argument in a header where the transport has headers."""
    text = {"type": "string"}
    properties = {"region": {**text, "x-mcp-header": "Region"}} if name == "region" else {"text": text}
    return {"type": "object", "properties": properties}


def error(code, message, data=None):
    return McpError(types.ErrorData(code=code, message=message, data=data))


def offer_resources(server, state):
    """Two pages of resources, a template, and one resource that changes."""

    @server.list_resources()
    async def list_resources(request: types.ListResourcesRequest) -> types.ListResourcesResult:
        counter = types.Resource(uri=AnyUrl(COUNTER), name="counter")
        blob = types.Resource(uri=AnyUrl("test://blob"), name="blob")
        if request.params and request.params.cursor == "second page":
            return types.ListResourcesResult(resources=[blob])
        return types.ListResourcesResult(resources=[counter], nextCursor="second page")

    @server.list_resource_templates()
    async def list_resource_templates():
        return [types.ResourceTemplate(uriTemplate="test://item/{number}", name="item")]

    @server.read_resource()
    async def read_resource(uri):
        if str(uri) == COUNTER:
            content = str(state.counter)
        elif str(uri) == "test://blob":
            content = bytes(range(256))
        else:
            raise error(RESOURCE_NOT_FOUND, f"no resource {uri}", {"uri": str(uri)})
        kind = "text/plain" if isinstance(content, str) else "application/octet-stream"
        return [ReadResourceContents(content, kind)]

    @server.subscribe_resource()
    async def subscribe(uri):
        state.subscriptions.add(str(uri))

    @server.unsubscribe_resource()
    async def unsubscribe(uri):
        state.subscriptions.discard(str(uri))


def offer_prompts(server):
    """A prompt, completions for its argument, and a prompt that asks the user."""

    @server.list_prompts()
    async def list_prompts():
        argument = types.PromptArgument(name="name", required=True)
        prompts = {"greet": [argument], "ask": []}
        return [types.Prompt(name=name, arguments=arguments) for name, arguments in prompts.items()]

    @server.get_prompt()
    async def get_prompt(name, arguments):
        if name == "ask":
            answer = await server.request_context.session.elicit("Who?", PERSON)
            arguments = answer.content
        text = types.TextContent(type="text", text=f"Hello, {(arguments or {})['name']}!")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text)])

    @server.completion()
    async def complete(ref, argument, context):
        known = (context and context.arguments) or {}
        return types.Completion(values=[argument.value + "a", *known.values()], total=2, hasMore=False)


async def serve(read, write, stateless):
    """Runs one connection. Methods that begin with `x/` are unknown to the SDK and answered here: with a
    notification and a request that are just as unknown, and then with everything that came. All of them have the
    member `extra`, which JSON-RPC does not know, if the question has it; some SDKs refuse such a message."""
    asked = {}

    async def send(question, extra, **message):
        await write.send(wrap(message | ({"extra": extra} if "extra" in question else {})))

    async def take(message):
        if message.get("method") == "x/ask":
            asked["x-back"] = message
            await send(message, "n", method="notifications/x", params={"seen": True})
            await send(message, "r", id="x-back", method="x/back", params={"deep": [{"er": 1}]})
        elif message.get("method") == "x/nothing":  # what the SDK does not know it calls invalid parameters
            await send(message, None, id=message["id"], error={"code": types.METHOD_NOT_FOUND, "message": "no method"})
        elif message.get("id") in asked and "method" not in message:
            question = asked.pop(message["id"])
            await send(question, {"of": "answer"}, id=question["id"], result={"question": question, "back": message})
        else:
            return False
        return True

    server = make_server()
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    async with tap(read, take) as read:
        options = server.create_initialization_options(changes, {"x": {"y": 1}})
        await server.run(read, write, options, stateless=stateless)


if __name__ == "__main__":
    host(serve)
