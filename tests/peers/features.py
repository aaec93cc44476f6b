"""A client on the Python SDK, version 1 or 2, that uses every feature of feature_server.py over one connection, in
the way of its era: what a modern client does differently is done as version 2 of the SDK does it.

    features.py [OPTIONS] sse URL
    features.py [OPTIONS] http URL
    features.py [OPTIONS] stdio COMMAND [ARGUMENTS…]

Prints `ok NAME` or `FAIL NAME: why` a feature; the status is 0 only if none failed. features.mjs does the same
on the TypeScript SDK.
"""

import argparse
import json
import sys
import uuid
from contextlib import asynccontextmanager

import anyio

from sdk import MAJOR, MODERN, Failure, connected, make, page, types, unknown, uri, wire
from tap import plain, wrap

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
COUNTER = "test://counter"
UPDATED = "notifications/resources/updated"
LIMIT_S = 60
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
        self.modern = False
        self.word = uuid.uuid4().hex
        self.logs = []
        self.notes = []
        self.unknown = []
        self.session = None
        self.write = None
        self.greeting = None

    async def call(self, tool, **arguments):
        """The text of a tool's answer."""
        result = wire(await self.session.call_tool(tool, arguments))
        text = result["content"][0]["text"]
        check(not result.get("isError"), text)
        equal(result["structuredContent"], {"length": len(text)})
        return text

    async def read(self, name):
        """The one content of a resource."""
        return wire(await self.session.read_resource(uri(name)))["contents"][0]

    async def until(self, condition):
        """Waits until the condition holds; the limit of the feature is the limit of the wait."""
        while not condition():
            await anyio.sleep(0.01)

    async def heard(self):
        """Waits until the server's own requests reach us: the SDK's server drops what it sends before it has our
        GET stream."""
        answer = None
        while answer is None:
            with anyio.move_on_after(0.5):
                answer = await self.call("ping")

    def noted(self, method):
        return self.notes.count(method)

    async def on_message(self, message):
        method = getattr(getattr(message, "root", message), "method", None)
        if method:
            self.notes.append(method)

    async def on_log(self, params):
        self.logs.append((params.level, params.logger, params.data))

    async def on_sample(self, context, params):
        params = wire(params)
        equal((params["maxTokens"], params["systemPrompt"]), (7, "Be short."))
        content = params["messages"][0]["content"]
        said = {"type": "text", "text": f"{self.word} heard {content['text']}"}
        return make(types.CreateMessageResult, role="assistant", content=said, model="parrot", stopReason="endTurn")

    async def on_elicit(self, context, params):
        params = wire(params)
        equal(params["requestedSchema"]["required"], ["name"])
        name = f"{params['message']} {self.word}"
        return make(types.ElicitResult, action="accept", content={"name": name})

    async def on_roots(self, context):
        return make(types.ListRootsResult, roots=[{"uri": f"file:///{self.word}", "name": self.word}])

    async def take(self, message):
        """Keeps what is unknown to the SDK; answers the server's unknown request."""
        if message.get("method", "").startswith(("x/", "notifications/x")) or message.get("id") == "x-ask":
            self.unknown.append(message)
            if message.get("method") == "x/back":
                await self.write.send(wrap({"id": message["id"], "result": {"word": self.word}, "extra": [1]}))
            return True
        return False


    async def logged(self, level):
        """Calls the tool that logs at every level, asking for those from `level` on. What the tool says, what came."""
        self.logs.clear()
        if not self.modern:
            await self.session.set_logging_level(level)
            return await self.call("log"), self.logs
        result = await self.session.call_tool("log", {}, meta={types.LOG_LEVEL_META_KEY: level})
        return result.content[0].text, self.logs

    @asynccontextmanager
    async def listening(self, *lists, resource=None):
        """Yields what waits until everything that was subscribed to has changed once."""
        methods = [f"notifications/{kind}/list_changed" for kind in lists] + ([UPDATED] if resource else [])
        if self.modern:
            asked = {f"{kind}_list_changed": True for kind in lists}
            async with self.session.listen(**asked, resource_subscriptions=[resource] if resource else []) as events:
                yield lambda: self.events(events, len(methods))
            return
        before = [self.noted(method) for method in methods]
        if resource:
            await self.session.subscribe_resource(uri(resource))
        yield lambda: self.until(lambda: [self.noted(method) for method in methods] == [n + 1 for n in before])
        if resource:
            await self.session.unsubscribe_resource(uri(resource))

    async def events(self, events, count):
        """Waits for so many different events."""
        seen = set()
        while len(seen) < count:
            seen.add(await anext(events))


def without_id(message):
    return {name: value for name, value in message.items() if name != "id"}


def names(items):
    return [item["name"] for item in items]


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
    identity = greeting["_meta"]["io.modelcontextprotocol/serverInfo"] if client.modern else greeting["serverInfo"]
    equal(identity["name"], "feature-server")
    equal(greeting["instructions"], "Call any tool.")


@feature
async def capabilities(client):
    offered = client.greeting["capabilities"]
    check(offered["resources"]["subscribe"] and offered["tools"]["listChanged"], f"capabilities are {offered}")
    equal(offered["experimental"], {"x": {"y": 1}})


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
    offered = names(wire(await client.session.list_tools())["tools"])
    check("echo" in offered and "die" in offered, f"tools are {offered}")


@feature
async def odd_text(client):
    equal(await client.call("echo", text=ODD_TEXT), ODD_TEXT)


@feature
async def tool_error(client):
    result = wire(await client.session.call_tool("fail", {}))
    equal((result["isError"], result["content"][0]["text"]), (True, "failed on purpose"))


@feature
async def protocol_error(client):
    try:
        await client.read("test://nothing")
    except Failure as error:
        check("test://nothing" in error.error.message, error.error)
    else:
        raise AssertionError("a resource that does not exist was read")


@feature
async def unknown_resource(client):
    """The code for wrong parameters, or the legacy era's own one, which nobody puts in the other's place."""
    await refused(client.read("test://nothing"), [types.INVALID_PARAMS] if client.modern else [-32002, -32602])


@feature
async def unknown_tool(client):
    await refused(client.session.call_tool("nothing", {}), [types.INVALID_PARAMS])


@feature
async def unknown_method(client):
    await refused(unknown(client.session), [types.METHOD_NOT_FOUND])


async def refused(request, codes):
    """Expects an error with one of these codes."""
    try:
        await request
    except Failure as error:
        check(error.error.code in codes, error.error)
    else:
        raise AssertionError("this should have failed")


@feature
async def hundred_calls_at_once(client):
    answers = {}

    async def one(number):
        text = f"{client.word} {number}"
        answers[text] = await client.call("echo", text=text, delay=(number * 37 % 100) / 1000)

    async with anyio.create_task_group() as tasks:
        for number in range(client.options.calls):
            tasks.start_soon(one, number)
    equal(len(answers), client.options.calls)
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
    level, logs = await client.logged("debug")
    equal(level, "debug")
    equal(logs, [(level, "feature", {"about": level}) for level in LEVELS])


@feature
async def log_level(client):
    level, logs = await client.logged("error")
    equal(level, "error")
    equal([level for level, _, _ in logs], LEVELS[4:])
    if client.modern:  # which asks for each call
        client.logs.clear()
        await client.call("log")
        equal(client.logs, [])


@feature
async def log_level_set(client):
    level, _ = await client.logged("warning")
    equal(level, "warning")


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
async def several_at_once(client):
    """Three questions at the same moment, each of another kind."""
    said, filled, listed = json.loads(await client.call("ask_all", question="Who?"))
    equal(said, f"parrot: {client.word} heard Who?")
    equal(filled, ["accept", {"name": f"Who? {client.word}"}])
    equal(listed, [[f"file:///{client.word}", client.word]])


@feature
async def several_rounds(client):
    answer = await client.call("ask_in_rounds", question="Who?")
    equal(answer, f"parrot: {client.word} heard Who? {client.word} {client.word}")


@feature
async def asking_prompt(client):
    got = wire(await client.session.get_prompt("ask"))
    equal(got["messages"][0]["content"]["text"], f"Hello, Who? {client.word}!")


@feature
async def parameter_in_a_header(client):
    """The argument has to be in a header too where a modern transport has headers; the client has listed the tools."""
    await client.session.list_tools()
    equal(await client.call("region", region="Zürich "), "Zürich ")


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
        except Failure:
            pass  # this server answers a cancelled request, others do not

    async with anyio.create_task_group() as tasks:
        request = getattr(client.session, "_request_id", None)  # of the next request; there is no other way to know
        tasks.start_soon(slow)
        await started.wait()
        if MAJOR == 1:
            await client.write.send(wrap({"method": "notifications/cancelled", "params": {"requestId": request}}))
            while int(await client.call("cancelled")) == before:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()  # this is how version 2 tells the server
    while int(await client.call("cancelled")) == before:
        await anyio.sleep(0.01)


@feature
async def resources(client):
    first = wire(await client.session.list_resources())
    equal(names(first["resources"]), ["counter"])
    second = await page(client.session, first["nextCursor"])
    equal(names(wire(second)["resources"]), ["blob"])
    templates = wire(await client.session.list_resource_templates())["resourceTemplates"]
    equal([template["uriTemplate"] for template in templates], ["test://item/{number}"])


@feature
async def reading(client):
    equal((await client.read("test://counter"))["mimeType"], "text/plain")
    blob = await client.read("test://blob")
    check(blob["blob"].startswith("AAECAwQF"), blob)


@feature
async def subscriptions(client):
    async with client.listening(resource=COUNTER) as changed:
        count = await client.call("update")
        await changed()
        equal((await client.read(COUNTER))["text"], count)


@feature
async def unsubscribing(client):
    """A modern client just closes its stream, and the server hears of that when it does."""
    heard = True
    while heard:
        before = client.noted(UPDATED)
        await client.call("update")
        await client.call("echo", text="whatever the update sent came before this answer")
        heard = client.noted(UPDATED) != before
        check(client.modern or not heard, "an update came after unsubscribing")


@feature
async def list_changed(client):
    async with client.listening("tools", "resources", "prompts") as changed:
        name = await client.call("change")
        await changed()
        check(name in names(wire(await client.session.list_tools())["tools"]), f"no tool {name}")


@feature
async def prompts(client):
    listed = await client.session.list_prompts()
    equal(names(wire(listed)["prompts"]), ["greet", "ask"])
    got = wire(await client.session.get_prompt("greet", {"name": client.word}))
    equal(got["messages"][0]["content"]["text"], f"Hello, {client.word}!")


@feature
async def completion(client):
    reference = types.PromptReference(type="ref/prompt", name="greet")
    result = wire(await client.session.complete(reference, {"name": "name", "value": "Ad"}, {"known": "Eve"}))
    equal((result["completion"]["values"], result["completion"]["hasMore"]), (["Ada", "Eve"], False))


@feature
async def unknown_messages(client):
    question = wrap({"id": "x-ask", "method": "x/ask", "params": {"deep": {"a": [1, {"b": 2.5}]}}, "extra": {"q": 1}})
    await client.write.send(question)
    await client.until(lambda: any(message.get("id") == "x-ask" for message in client.unknown))
    note, back, answer = sorted(client.unknown, key=lambda message: ("result" in message, "id" in message))
    equal((note["params"], back["params"]), ({"seen": True}, {"deep": [{"er": 1}]}))
    equal(without_id(answer["result"]["question"]), without_id(plain(question)))  # a shared server sees another id
    equal(answer["result"]["back"]["result"], {"word": client.word})
    if MAJOR == 1:
        extras = [message.get("extra") for message in [note, back, answer["result"]["back"], answer]]
        equal(extras, ["n", "r", [1], {"of": "answer"}])


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
    except Failure as error:
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


async def main(options):
    client = Client(options)
    callbacks = {
        "sampling_callback": client.on_sample,
        "elicitation_callback": client.on_elicit,
        "list_roots_callback": client.on_roots,
        "logging_callback": client.on_log,
        "message_handler": client.on_message,
    }
    async with connected(options.kind, options.target, client.take, callbacks, options.mode) as connection:
        client.session, client.write, client.greeting = connection
        client.modern = "supportedVersions" in client.greeting
        with anyio.fail_after(LIMIT_S):
            print(f"server {await client.call('pid')}", flush=True)
            print("era", "modern" if client.modern else "legacy", flush=True)
            if options.patient and not client.modern:
                await client.heard()
        if options.wait:
            print("ready", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
        return await run_all(client)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[], choices=FEATURES, help="leave a feature out")
    parser.add_argument("--expect", action="append", default=[], metavar="NAME=VALUE", help="in the server's environment")
    parser.add_argument("--mode", default="legacy", choices=["legacy", "auto", MODERN], help="how to begin")
    parser.add_argument("--calls", type=int, default=100, help="how many calls are made at the same moment")
    parser.add_argument("--wait", action="store_true", help="print ready, then wait for a line")
    parser.add_argument("--patient", action="store_true", help="wait for the server's first own request")
    parser.add_argument("kind", choices=["sse", "http", "stdio"])
    parser.add_argument("target", nargs=argparse.REMAINDER)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(1 if anyio.run(main, parse()) else 0)
    except Exception as error:
        print(f"FAIL connection: {explained(error)}", flush=True)
        sys.exit(1)
