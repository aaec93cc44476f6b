"""A client on the Python SDK, version 1 or 2, that uses every feature of feature_server.py over one connection.

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

import anyio

from sdk import MAJOR, Failure, connected, make, types, uri, wire
from tap import plain, wrap

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
COUNTER = uri("test://counter")
UPDATED = "notifications/resources/updated"
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
    equal(greeting["serverInfo"]["name"], "feature-server")
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
    page = types.PaginatedRequestParams(cursor=first["nextCursor"])
    equal(names(wire(await client.session.list_resources(params=page))["resources"]), ["blob"])
    templates = wire(await client.session.list_resource_templates())["resourceTemplates"]
    equal([template["uriTemplate"] for template in templates], ["test://item/{number}"])


@feature
async def reading(client):
    equal((await client.read("test://counter"))["mimeType"], "text/plain")
    blob = await client.read("test://blob")
    check(blob["blob"].startswith("AAECAwQF"), blob)


@feature
async def subscriptions(client):
    await client.session.subscribe_resource(COUNTER)
    before = client.noted(UPDATED)
    count = await client.call("update")
    await client.until(lambda: client.noted(UPDATED) == before + 1)
    equal((await client.read("test://counter"))["text"], count)


@feature
async def unsubscribing(client):
    await client.session.unsubscribe_resource(COUNTER)
    before = client.noted(UPDATED)
    await client.call("update")
    await client.call("echo", text="whatever the update sent came before this answer")
    equal(client.noted(UPDATED), before)


@feature
async def list_changed(client):
    kinds = [f"notifications/{kind}/list_changed" for kind in ["tools", "resources", "prompts"]]
    before = [client.noted(kind) for kind in kinds]
    name = await client.call("change")
    await client.until(lambda: [client.noted(kind) for kind in kinds] == [count + 1 for count in before])
    check(name in names(wire(await client.session.list_tools())["tools"]), f"no tool {name}")


@feature
async def prompts(client):
    listed = await client.session.list_prompts()
    equal(names(wire(listed)["prompts"]), ["greet"])
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
    async with connected(options.kind, options.target, client.take, callbacks) as connection:
        client.session, client.write, client.greeting = connection
        with anyio.fail_after(LIMIT_S):
            print(f"server {await client.call('pid')}", flush=True)
            if options.patient:
                await client.heard()
        if options.wait:
            print("ready", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
        return await run_all(client)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[], choices=FEATURES, help="leave a feature out")
    parser.add_argument("--expect", action="append", default=[], metavar="NAME=VALUE", help="in the server's environment")
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
