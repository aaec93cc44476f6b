"""A client on the Python SDK that uses every feature of feature_server.py over one connection.

    features.py [OPTIONS] sse URL
    features.py [OPTIONS] stdio COMMAND [ARGUMENTS…]

Prints `ok NAME` or `FAIL NAME: why` a feature; the status is 0 only if none failed.
"""

import argparse
import json
import sys
import uuid

import anyio
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from pydantic import AnyUrl

from tap import tap, wrap

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
COUNTER = AnyUrl("test://counter")
LIMIT_S = 20
ODD_TEXT = "quote \" backslash \\ tab \t lines \r\n\u2028\u2029\u0085 nul \0 bell \a é 漢 😀 \ufeff </script> data: {}"
FEATURES = {}


def feature(function):
    """Adds a feature to the list; they run in the order of this file."""
    FEATURES[function.__name__.replace("_", "-")] = function
    return function


class Client:
    """One session and everything that the server sent without being asked."""

    def __init__(self, options):
        self.options = options
        self.word = uuid.uuid4().hex
        self.logs = []
        self.notes = []
        self.unknown = []
        self.session = None
        self.write = None
        self.greeting = None

    async def call(self, tool, **arguments):
        """The text of a tool's answer."""
        result = await self.session.call_tool(tool, arguments)
        text = result.content[0].text
        check(not result.isError, text)
        equal(result.structuredContent, {"length": len(text)})
        return text

    async def until(self, condition):
        """Waits until the condition holds; the limit of the feature is the limit of the wait."""
        while not condition():
            await anyio.sleep(0.01)

    def noted(self, kind):
        return sum(isinstance(note, kind) for note in self.notes)

    async def on_message(self, message):
        if isinstance(message, types.ServerNotification):
            self.notes.append(message.root)

    async def on_log(self, params):
        self.logs.append((params.level, params.logger, params.data))

    async def on_sample(self, context, params):
        equal((params.maxTokens, params.systemPrompt), (7, "Be short."))
        text = f"{self.word} heard {params.messages[0].content.text}"
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", content=content, model="parrot", stopReason="endTurn")

    async def on_elicit(self, context, params):
        equal(params.requestedSchema["required"], ["name"])
        return types.ElicitResult(action="accept", content={"name": f"{params.message} {self.word}"})

    async def on_roots(self, context):
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///{self.word}", name=self.word)])

    async def take(self, message):
        """Keeps what is unknown to the SDK; answers the server's unknown request."""
        if message.get("method", "").startswith(("x/", "notifications/x")) or message.get("id") == "x-ask":
            self.unknown.append(message)
            if message.get("method") == "x/back":
                await self.write.send(wrap({"id": message["id"], "result": {"word": self.word}, "extra": [1]}))
            return True
        return False


def check(holds, why):
    if not holds:
        raise AssertionError(why)


def equal(got, wanted):
    check(got == wanted, f"{shortened(got)} is not {shortened(wanted)}")


def shortened(value):
    text = repr(value)
    return text if len(text) < 500 else f"{text[:500]}… ({len(text)})"


@feature
async def initialize(client):
    greeting = client.greeting
    equal(greeting.serverInfo.name, "feature-server")
    equal(greeting.instructions, "Call any tool.")


@feature
async def capabilities(client):
    offered = client.greeting.capabilities
    check(offered.resources.subscribe and offered.tools.listChanged, f"capabilities are {offered}")
    equal(offered.experimental, {"x": {"y": 1}})


@feature
async def remember(client):
    equal(await client.call("remember", text=client.word), "remembered")


@feature
async def ping(client):
    await client.session.send_ping()


@feature
async def ping_back(client):
    equal(await client.call("ping"), "pong")


@feature
async def tools(client):
    names = [tool.name for tool in (await client.session.list_tools()).tools]
    check("echo" in names and "die" in names, f"tools are {names}")


@feature
async def odd_text(client):
    equal(await client.call("echo", text=ODD_TEXT), ODD_TEXT)


@feature
async def tool_error(client):
    result = await client.session.call_tool("fail", {})
    equal((result.isError, result.content[0].text), (True, "failed on purpose"))


@feature
async def protocol_error(client):
    try:
        await client.session.read_resource(AnyUrl("test://nothing"))
    except McpError as error:
        check("test://nothing" in error.error.message, error.error)
    else:
        raise AssertionError("a resource that does not exist was read")


@feature
async def hundred_calls_at_once(client):
    answers = {}

    async def one(number):
        text = f"{client.word} {number}"
        answers[text] = await client.call("echo", text=text, delay=(number * 37 % 100) / 1000)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(one, number)
    equal(len(answers), 100)
    check(all(sent == got for sent, got in answers.items()), "an answer went to another call")


@feature
async def big_result(client):
    text = await client.call("big")
    check(text == "big" * (1024 * 1024), f"{len(text)} characters")


@feature
async def big_argument(client):
    equal(await client.call("length", text="é" * (3 * 512 * 1024)), str(3 * 512 * 1024))


@feature
async def progress(client):
    seen = []

    async def on_progress(done, total, message):
        seen.append((done, total, message))

    result = await client.session.call_tool("progress", {"steps": 50}, progress_callback=on_progress)
    equal(result.content[0].text, "50 steps")
    equal(seen, [(step, 50, f"step {step}") for step in range(1, 51)])


@feature
async def log_messages(client):
    await client.session.set_logging_level("debug")
    client.logs.clear()
    equal(await client.call("log"), "debug")
    equal(client.logs, [(level, "feature", {"about": level}) for level in LEVELS])


@feature
async def log_level(client):
    await client.session.set_logging_level("error")
    client.logs.clear()
    equal(await client.call("log"), "error")
    equal([level for level, _, _ in client.logs], LEVELS[4:])


@feature
async def log_level_set(client):
    await client.session.set_logging_level("warning")
    equal(await client.call("log"), "warning")


@feature
async def sampling(client):
    async def one(number):
        equal(await client.call("sample", text=f"{number}"), f"parrot: {client.word} heard {number}")

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(one, number)


@feature
async def elicitation(client):
    answer = await client.call("elicit", question="Who?")
    equal(json.loads(answer), ["accept", {"name": f"Who? {client.word}"}])


@feature
async def roots(client):
    equal(json.loads(await client.call("roots")), [[f"file:///{client.word}", client.word]])


@feature
async def roots_changed(client):
    before = int(await client.call("roots_changed"))
    await client.session.send_roots_list_changed()
    while int(await client.call("roots_changed")) == before:
        await anyio.sleep(0.01)


@feature
async def cancellation(client):
    before = int(await client.call("cancelled"))
    started = anyio.Event()

    async def on_progress(*_):
        started.set()

    async def slow():
        try:
            await client.session.call_tool("slow", {}, progress_callback=on_progress)
        except McpError:
            pass  # this server answers a cancelled request, others do not

    async with anyio.create_task_group() as tasks:
        request = client.session._request_id  # the id of the next request; the SDK has no other way to know it
        tasks.start_soon(slow)
        await started.wait()
        params = types.CancelledNotificationParams(requestId=request, reason="no longer wanted")
        await client.session.send_notification(
            types.ClientNotification(types.CancelledNotification(params=params))
        )
        while int(await client.call("cancelled")) == before:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


@feature
async def resources(client):
    first = await client.session.list_resources()
    equal([resource.name for resource in first.resources], ["counter"])
    page = types.PaginatedRequestParams(cursor=first.nextCursor)
    second = await client.session.list_resources(params=page)
    equal([resource.name for resource in second.resources], ["blob"])
    templates = await client.session.list_resource_templates()
    equal([template.uriTemplate for template in templates.resourceTemplates], ["test://item/{number}"])


@feature
async def reading(client):
    equal((await client.session.read_resource(COUNTER)).contents[0].mimeType, "text/plain")
    blob = await client.session.read_resource(AnyUrl("test://blob"))
    check(blob.contents[0].blob.startswith("AAECAwQF"), blob)


@feature
async def subscriptions(client):
    await client.session.subscribe_resource(COUNTER)
    before = client.noted(types.ResourceUpdatedNotification)
    count = await client.call("update")
    await client.until(lambda: client.noted(types.ResourceUpdatedNotification) == before + 1)
    equal((await client.session.read_resource(COUNTER)).contents[0].text, count)


@feature
async def unsubscribing(client):
    await client.session.unsubscribe_resource(COUNTER)
    before = client.noted(types.ResourceUpdatedNotification)
    await client.call("update")
    await client.call("echo", text="whatever the update sent came before this answer")
    equal(client.noted(types.ResourceUpdatedNotification), before)


@feature
async def list_changed(client):
    kinds = [
        types.ToolListChangedNotification,
        types.ResourceListChangedNotification,
        types.PromptListChangedNotification,
    ]
    before = [client.noted(kind) for kind in kinds]
    name = await client.call("change")
    await client.until(lambda: [client.noted(kind) for kind in kinds] == [count + 1 for count in before])
    check(name in [tool.name for tool in (await client.session.list_tools()).tools], f"no tool {name}")


@feature
async def prompts(client):
    listed = await client.session.list_prompts()
    equal([prompt.name for prompt in listed.prompts], ["greet"])
    got = await client.session.get_prompt("greet", {"name": client.word})
    equal(got.messages[0].content.text, f"Hello, {client.word}!")


@feature
async def completion(client):
    reference = types.PromptReference(type="ref/prompt", name="greet")
    result = await client.session.complete(reference, {"name": "name", "value": "Ad"}, {"known": "Eve"})
    equal((result.completion.values, result.completion.hasMore), (["Ada", "Eve"], False))


@feature
async def unknown_messages(client):
    question = {"id": "x-ask", "method": "x/ask", "params": {"deep": {"a": [1, {"b": 2.5}]}}, "extra": {"q": 1}}
    await client.write.send(wrap(question))
    await client.until(lambda: any(message.get("id") == "x-ask" for message in client.unknown))
    note, back, answer = client.unknown
    equal((note["params"], note["extra"]), ({"seen": True}, "n"))
    equal((back["params"], back["extra"]), ({"deep": [{"er": 1}]}, "r"))
    equal(answer["extra"], {"of": "answer"})
    equal(answer["result"]["question"], {"jsonrpc": "2.0", **question})
    equal(answer["result"]["back"]["result"], {"word": client.word})
    equal(answer["result"]["back"]["extra"], [1])


@feature
async def environment(client):
    found = json.loads(await client.call("env"))
    check("PATH" in found, f"no PATH in {sorted(found)}")
    for pair in client.options.expect:
        name, value = pair.split("=", 1)
        equal(found.get(name), value)


@feature
async def recall(client):
    equal(await client.call("recall"), client.word)


@feature
async def death(client):
    """The server ends in the middle of a call: the call is answered, and not by the SDK."""
    try:
        await client.call("die", code=7)
    except McpError as error:
        check(error.error.code != types.CONNECTION_CLOSED, error.error)
        print(f"death: {error.error.code} {error.error.message}")
    else:
        raise AssertionError("a dead server answered")


async def run_all(client):
    """Runs the features one after another; a failed one does not stop the others."""
    failed = 0
    for name, function in FEATURES.items():
        if name in client.options.without:
            print(f"skip {name}", flush=True)
            continue
        try:
            with anyio.fail_after(LIMIT_S):
                await function(client)
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {explained(error)}", flush=True)
        else:
            print(f"ok {name}", flush=True)
    return failed


def explained(error):
    """The innermost cause, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def connection(options):
    if options.kind == "sse":
        return sse_client(options.target[0])
    return stdio_client(StdioServerParameters(command=options.target[0], args=options.target[1:]))


async def main(options):
    client = Client(options)
    async with connection(options) as (read, client.write), tap(read, client.take) as read:
        callbacks = {
            "sampling_callback": client.on_sample,
            "elicitation_callback": client.on_elicit,
            "list_roots_callback": client.on_roots,
            "logging_callback": client.on_log,
            "message_handler": client.on_message,
        }
        async with ClientSession(read, client.write, **callbacks) as client.session:
            with anyio.fail_after(LIMIT_S):
                client.greeting = await client.session.initialize()
                print(f"server {await client.call('pid')}", flush=True)
            if options.wait:
                print("ready", flush=True)
                await anyio.to_thread.run_sync(sys.stdin.readline)
            return await run_all(client)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[], choices=FEATURES, help="leave a feature out")
    parser.add_argument("--expect", action="append", default=[], metavar="NAME=VALUE", help="in the server's environment")
    parser.add_argument("--wait", action="store_true", help="print ready, then wait for a line")
    parser.add_argument("kind", choices=["sse", "stdio"])
    parser.add_argument("target", nargs=argparse.REMAINDER)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(1 if anyio.run(main, parse()) else 0)
    except Exception as error:
        print(f"FAIL connection: {explained(error)}", flush=True)
        sys.exit(1)
