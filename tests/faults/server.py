"""A stdio server for the fault harness: every call is noted before it is answered, and does what its arguments say.

Always: one line in $HERE/effects for each call that reached it, written in one piece; an answer carries the payload of
its own call and nothing else.
"""

import heapq
import json
import os
import select
import time

EFFECTS = os.open(os.path.join(os.environ["HERE"], "effects"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
MODERN = "io.modelcontextprotocol/protocolVersion"
SPEAKS_MODERN = os.environ.get("SPEAKS") == "both"
CAPABILITIES = {"tools": {}}
# How long it looks away from its input, and how long a slow answer takes.
DEAF_S = 0.4
SLOW_S = 0.15

later = []


def say(message):
    data = memoryview((json.dumps(message, separators=(",", ":")) + "\n").encode())
    while data:
        data = data[os.write(1, data) :]


def answer(message, result):
    if MODERN in message.get("params", {}).get("_meta", {}):
        result = {"resultType": "complete", **result}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def call(message):
    params = message["params"]
    asked = params["arguments"]
    os.write(EFFECTS, b"%d\n" % asked["uid"])
    reply = answer(message, {"content": [{"type": "text", "text": asked["payload"]}]})
    act = asked["do"]
    if act == "exit":
        os._exit(3)
    if act == "mute":
        os.close(1)
        return
    if act == "tell":
        progress = {"progressToken": params["_meta"]["progressToken"], "progress": 1, "message": str(asked["uid"])}
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
    if act == "slow":
        heapq.heappush(later, (time.monotonic() + SLOW_S, asked["uid"], reply))
        return
    say(reply)
    if act == "deaf":
        time.sleep(DEAF_S)


def take(message):
    method = message.get("method")
    if method == "initialize":
        info = {"name": "faults", "version": "1"}
        version = message["params"]["protocolVersion"]
        say(answer(message, {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": info}))
    elif method == "server/discover" and SPEAKS_MODERN:
        found = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, "ttlMs": 0, "cacheScope": "public"}
        say(answer(message, found))
    elif method == "tools/call":
        call(message)
    elif "id" in message and method == "ping":
        say(answer(message, {}))
    elif "id" in message and method == "tools/list":
        say(answer(message, {"tools": [{"name": "call", "inputSchema": {"type": "object"}}]}))
    elif "id" in message and method:
        say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "unknown"}})


def main():
    rest = b""
    while True:
        wait = max(0, later[0][0] - time.monotonic()) if later else None
        if select.select([0], [], [], wait)[0]:
            got = os.read(0, 1 << 16)
            if not got:
                return
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                take(json.loads(line))
        while later and later[0][0] <= time.monotonic():
            say(heapq.heappop(later)[2])


try:
    main()
except (OSError, KeyboardInterrupt):
    pass  # nobody listens any more
