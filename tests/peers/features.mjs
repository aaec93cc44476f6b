// A client on the TypeScript SDK that uses every feature of feature_server.py over one connection.
//
//     features.mjs [OPTIONS] sse URL
//     features.mjs [OPTIONS] http URL
//     features.mjs [OPTIONS] stdio COMMAND [ARGUMENTS…]
//
// The options, the features and what is printed are those of features.py. Without `--mode` it is version 1 of the SDK,
// with it version 2.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { isDeepStrictEqual, parseArgs } from "node:util";

import { MODERN, code, connection, load } from "./sdk.mjs";

const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const COUNTER = "test://counter";
const UPDATED = "notifications/resources/updated";
const INVALID_PARAMS = -32602;
const LIMIT_MS = 60_000;
const ODD_TEXT =
  'quote " backslash \\ tab \t lines \r\n\u2028\u2029\u0085 nul \0 bell \x07 é 漢 😀 \ufeff </script> data: {}';

/** One session and everything that the server sent without being asked. */
class Session {
  word = randomUUID();
  logs = [];
  notes = [];
  unknown = [];
  progress = [];

  constructor(transport) {
    this.transport = transport;
    const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
    this.client = sdk.client({ name: "features", version: "1.0.0" }, { capabilities });
    sdk.answer(this.client, {
      sample: (params) => this.onSample(params),
      elicit: (params) => this.onElicit(params),
      roots: () => ({ roots: this.roots() }),
      log: ({ level, logger, data }) => this.logs.push([level, logger, data]),
    });
    this.client.fallbackNotificationHandler = async ({ method }) => {
      this.notes.push(method);
    };
  }

  async connect() {
    await this.client.connect(this.transport, { timeout: LIMIT_MS });
    const deliver = this.transport.onmessage;
    this.transport.onmessage = (message, extra) => this.take(message) || deliver(message, extra);
  }

  get modern() {
    return this.client.getNegotiatedProtocolVersion?.() === MODERN;
  }

  /** The text of a tool's answer. */
  async call(tool, args = {}, options = undefined, meta = undefined) {
    const result = await sdk.call(this.client, { name: tool, arguments: args, _meta: meta }, options);
    const { text } = result.content[0];
    check(!result.isError, text);
    equal(result.structuredContent, { length: [...text].length });
    return text;
  }

  /** Waits until the server's own requests reach us. */
  async heard() {
    for (;;) {
      try {
        return await this.call("ping", {}, { timeout: 500 });
      } catch (error) {
        if (error.code !== sdk.requestTimeout) throw error;
      }
    }
  }

  /** Calls the tool that logs at every level, asking for those from `level` on. What the tool says. */
  async logged(level) {
    this.logs.length = 0;
    if (this.modern) return await this.call("log", {}, undefined, { "io.modelcontextprotocol/logLevel": level });
    await this.client.setLoggingLevel(level);
    return await this.call("log");
  }

  /** Does something and waits until everything that was subscribed to has changed once, then looks at that. */
  async listening({ lists = [], resource = undefined }, change, look) {
    const methods = lists.map((kind) => `notifications/${kind}/list_changed`).concat(resource ? [UPDATED] : []);
    const before = methods.map((method) => this.noted(method));
    const filter = Object.fromEntries(lists.map((kind) => [`${kind}ListChanged`, true]));
    if (resource) filter.resourceSubscriptions = [resource];
    const subscription = this.modern ? await this.client.listen(filter) : undefined;
    if (!this.modern && resource) await this.client.subscribeResource({ uri: resource });
    const changed = await change();
    await until(() => methods.every((method, index) => this.noted(method) === before[index] + 1));
    await look(changed);
    await subscription?.close();
    if (!this.modern && resource) await this.client.unsubscribeResource({ uri: resource });
  }

  /**
   * Keeps what is unknown to the SDK; answers the server's unknown request. Sees progress: the SDK itself forgets a
   * notification that comes in one piece with the answer.
   */
  take(message) {
    if (message.method === "notifications/progress") this.progress.push(message.params);
    const unknown = /^(x|notifications\/x)(\/|$)/.test(message.method ?? "") || message.id === "x-ask";
    if (!unknown) return false;
    this.unknown.push(message);
    if (message.method === "x/back") this.send({ id: message.id, result: { word: this.word } });
    return true;
  }

  send(message) {
    return this.transport.send({ jsonrpc: "2.0", ...message });
  }

  noted(method) {
    return this.notes.filter((note) => note === method).length;
  }

  roots() {
    return [{ uri: `file:///${this.word}`, name: this.word }];
  }

  onSample(params) {
    equal([params.maxTokens, params.systemPrompt], [7, "Be short."]);
    const text = `${this.word} heard ${params.messages[0].content.text}`;
    return { role: "assistant", content: { type: "text", text }, model: "parrot", stopReason: "endTurn" };
  }

  onElicit(params) {
    equal(params.requestedSchema.required, ["name"]);
    return { action: "accept", content: { name: `${params.message} ${this.word}` } };
  }
}

const FEATURES = {
  async initialize({ client }) {
    equal(client.getServerVersion().name, "feature-server");
    equal(client.getInstructions(), "Call any tool.");
  },

  async capabilities({ client }) {
    const offered = client.getServerCapabilities();
    check(offered.resources.subscribe && offered.tools.listChanged, JSON.stringify(offered));
    equal(offered.experimental, { x: { y: 1 } });
  },

  async remember(session) {
    equal(await session.call("remember", { text: session.word }), "remembered");
  },

  async ping({ client }) {
    await client.ping();
  },

  async "ping-back"(session) {
    equal(await session.call("ping"), "pong");
  },

  async tools({ client }) {
    const offered = names((await client.listTools()).tools);
    check(offered.includes("echo") && offered.includes("die"), `tools are ${offered}`);
  },

  async "odd-text"(session) {
    equal(await session.call("echo", { text: ODD_TEXT }), ODD_TEXT);
  },

  async "tool-error"({ client }) {
    const result = await sdk.call(client, { name: "fail", arguments: {} });
    equal([result.isError, result.content[0].text], [true, "failed on purpose"]);
  },

  async "protocol-error"({ client }) {
    const error = await failure(client.readResource({ uri: "test://nothing" }));
    check(error.message.includes("test://nothing"), error.message);
  },

  /** The code for wrong parameters, or the legacy era's own one, which nobody puts in the other's place. */
  async "unknown-resource"(session) {
    const error = await failure(session.client.readResource({ uri: "test://nothing" }));
    const codes = session.modern ? [INVALID_PARAMS] : [-32002, INVALID_PARAMS];
    check(codes.includes(code(error)), `${error}`);
  },

  async "unknown-tool"({ client }) {
    equal(code(await failure(sdk.call(client, { name: "nothing", arguments: {} }))), INVALID_PARAMS);
  },

  async "unknown-method"({ client }) {
    equal(code(await failure(sdk.unknown(client))), -32601);
  },

  async "hundred-calls-at-once"(session) {
    const one = async (number) => {
      const text = `${session.word} ${number}`;
      equal(await session.call("echo", { text, delay: ((number * 37) % 100) / 1000 }), text);
    };
    await Promise.all([...Array(Number(options.calls)).keys()].map(one));
  },

  async "big-result"(session) {
    const text = await session.call("big");
    check(text === "big".repeat(1024 * 1024), `${text.length} characters`);
  },

  async "big-argument"(session) {
    equal(await session.call("length", { text: "é".repeat(3 * 512 * 1024) }), String(3 * 512 * 1024));
  },

  async progress(session) {
    session.progress.length = 0;
    equal(await session.call("progress", { steps: 50 }, { onprogress() {} }), "50 steps");
    const seen = session.progress.map(({ progress, total, message }) => [progress, total, message]);
    equal(seen, [...Array(50).keys()].map((step) => [step + 1, 50, `step ${step + 1}`]));
  },

  async "log-messages"(session) {
    equal(await session.logged("debug"), "debug");
    equal(session.logs, LEVELS.map((level) => [level, "feature", { about: level }]));
  },

  async "log-level"(session) {
    equal(await session.logged("error"), "error");
    equal(session.logs.map(([level]) => level), LEVELS.slice(4));
    if (!session.modern) return;
    session.logs.length = 0; // a modern client asks for each call
    await session.call("log");
    equal(session.logs, []);
  },

  async "log-level-set"(session) {
    equal(await session.logged("warning"), "warning");
  },

  async sampling(session) {
    const one = async (number) =>
      equal(await session.call("sample", { text: `${number}` }), `parrot: ${session.word} heard ${number}`);
    await Promise.all([...Array(10).keys()].map(one));
  },

  async elicitation(session) {
    const answer = JSON.parse(await session.call("elicit", { question: "Who?" }));
    equal(answer, ["accept", { name: `Who? ${session.word}` }]);
  },

  async roots(session) {
    equal(JSON.parse(await session.call("roots")), session.roots().map(({ uri, name }) => [uri, name]));
  },

  /** Three questions at the same moment, each of another kind. */
  async "several-at-once"(session) {
    const [said, filled, listed] = JSON.parse(await session.call("ask_all", { question: "Who?" }));
    equal(said, `parrot: ${session.word} heard Who?`);
    equal(filled, ["accept", { name: `Who? ${session.word}` }]);
    equal(listed, session.roots().map(({ uri, name }) => [uri, name]));
  },

  async "several-rounds"(session) {
    const answer = await session.call("ask_in_rounds", { question: "Who?" });
    equal(answer, `parrot: ${session.word} heard Who? ${session.word} ${session.word}`);
  },

  async "asking-prompt"({ client, word }) {
    const got = await client.getPrompt({ name: "ask" });
    equal(got.messages[0].content.text, `Hello, Who? ${word}!`);
  },

  /** The argument has to be in a header too where a modern transport has headers; the client has listed the tools. */
  async "parameter-in-a-header"(session) {
    await session.client.listTools();
    equal(await session.call("region", { region: "Zürich " }), "Zürich ");
  },

  async "roots-changed"(session) {
    const before = await session.call("roots_changed");
    await session.client.sendRootsListChanged();
    await until(async () => (await session.call("roots_changed")) !== before);
  },

  async cancellation(session) {
    const before = await session.call("cancelled");
    const controller = new AbortController();
    const started = Promise.withResolvers();
    const slow = failure(session.call("slow", {}, { signal: controller.signal, onprogress: started.resolve }));
    await started.promise;
    controller.abort("no longer wanted");
    await slow;
    await until(async () => (await session.call("cancelled")) !== before);
  },

  async resources({ client }) {
    const first = await sdk.resources(client);
    equal(names(first.resources), ["counter"]);
    equal(names((await sdk.resources(client, first.nextCursor)).resources), ["blob"]);
    const { resourceTemplates } = await client.listResourceTemplates();
    equal(resourceTemplates.map((template) => template.uriTemplate), ["test://item/{number}"]);
  },

  async reading({ client }) {
    equal((await client.readResource({ uri: COUNTER })).contents[0].mimeType, "text/plain");
    const { blob } = (await client.readResource({ uri: "test://blob" })).contents[0];
    check(blob.startsWith("AAECAwQF"), blob);
  },

  async subscriptions(session) {
    const look = async (count) =>
      equal((await session.client.readResource({ uri: COUNTER })).contents[0].text, count);
    await session.listening({ resource: COUNTER }, () => session.call("update"), look);
  },

  /** A modern client just closes its stream, and the server hears of that when it does. */
  async unsubscribing(session) {
    for (let heard = true; heard; ) {
      const before = session.noted(UPDATED);
      await session.call("update");
      await session.call("echo", { text: "whatever the update sent came before this answer" });
      heard = session.noted(UPDATED) !== before;
      check(session.modern || !heard, "an update came after unsubscribing");
    }
  },

  async "list-changed"(session) {
    const look = async (name) =>
      check(names((await session.client.listTools()).tools).includes(name), `no tool ${name}`);
    await session.listening({ lists: ["tools", "resources", "prompts"] }, () => session.call("change"), look);
  },

  async prompts({ client, word }) {
    equal(names((await client.listPrompts()).prompts), ["greet", "ask"]);
    const got = await client.getPrompt({ name: "greet", arguments: { name: word } });
    equal(got.messages[0].content.text, `Hello, ${word}!`);
  },

  async completion({ client }) {
    const { completion } = await client.complete({
      ref: { type: "ref/prompt", name: "greet" },
      argument: { name: "name", value: "Ad" },
      context: { arguments: { known: "Eve" } },
    });
    equal([completion.values, completion.hasMore], [["Ada", "Eve"], false]);
  },

  async "unknown-messages"(session) {
    const question = { method: "x/ask", params: { deep: { a: [1, { b: 2.5 }] } } };
    await session.send({ id: "x-ask", ...question });
    await until(() => session.unknown.some((message) => message.id === "x-ask"));
    const [note, back, answer] = ["notifications/x", "x/back", undefined].map((method) =>
      session.unknown.find((message) => message.method === method),
    );
    equal([note.params, back.params], [{ seen: true }, { deep: [{ er: 1 }] }]);
    const { id: _, ...seen } = answer.result.question; // a shared server sees another id
    equal(seen, { jsonrpc: "2.0", ...question });
    equal(answer.result.back.result, { word: session.word });
  },

  async environment(session) {
    const found = JSON.parse(await session.call("env"));
    check("PATH" in found, `no PATH in ${Object.keys(found)}`);
    for (const pair of options.expect) {
      const [name, value] = pair.split("=");
      equal(found[name], value);
    }
  },

  async recall(session) {
    equal(await session.call("recall"), session.word);
  },

  /** The server ends in the middle of a call: the call is answered, and not by the SDK. */
  async death(session) {
    const error = await failure(session.call("die", { code: 7 }));
    check(error.code !== sdk.connectionClosed, `${error}`);
    console.log(`death: ${error.code} ${error.message.replace(/^MCP error \S+ /, "")}`);
  },
};

function check(holds, why) {
  if (!holds) throw new Error(why);
}

function equal(got, wanted) {
  check(isDeepStrictEqual(got, wanted), `${shortened(got)} is not ${shortened(wanted)}`);
}

function shortened(value) {
  const text = JSON.stringify(value) ?? "undefined";
  return text.length < 500 ? text : `${text.slice(0, 500)}… (${text.length})`;
}

function names(items) {
  return items.map((item) => item.name);
}

/** What a promise is rejected with; that it is not is a failure. */
async function failure(promise) {
  const settled = await promise.then(
    () => undefined,
    (error) => ({ error }),
  );
  check(settled, "this should have failed");
  return settled.error;
}

/** Waits until the condition holds; the limit of the feature is the limit of the wait. */
async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

function limited(promise) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`not within ${LIMIT_MS} ms`)), LIMIT_MS).unref();
  });
  return Promise.race([promise, late]);
}

/** Runs the features one after another; a failed one does not stop the others. */
async function runAll(session) {
  let failed = 0;
  for (const [name, feature] of Object.entries(FEATURES)) {
    if (options.without.includes(name)) {
      console.log(`skip ${name}`);
      continue;
    }
    try {
      await limited(feature(session));
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${String(error).replaceAll("\n", " ")}`);
    }
  }
  return failed;
}

/** Options stand before the kind; what follows it belongs to the command. */
function parse(words) {
  const kind = words.findIndex((word) => ["sse", "http", "stdio"].includes(word));
  const { values } = parseArgs({
    args: words.slice(0, kind),
    options: {
      without: { type: "string", multiple: true, default: [] },
      expect: { type: "string", multiple: true, default: [] },
      wait: { type: "boolean", default: false },
      patient: { type: "boolean", default: false },
      mode: { type: "string" },
      calls: { type: "string", default: "100" },
    },
  });
  return { ...values, target: words.slice(kind) };
}

async function main() {
  const session = new Session(connection(sdk, options.target));
  await limited(session.connect());
  console.log(`server ${await limited(session.call("pid"))}`);
  console.log(`era ${session.modern ? "modern" : "legacy"}`);
  if (options.patient && !session.modern) await limited(session.heard());
  if (options.wait) {
    console.log("ready");
    await once(process.stdin, "data");
  }
  const failed = await runAll(session);
  if (options.without.includes("death")) await session.transport.terminateSession?.(); // else it is gone already
  await session.client.close();
  return failed;
}

const options = parse(process.argv.slice(2));
const sdk = load(options.mode);
try {
  process.exitCode = (await main()) ? 1 : 0;
} catch (error) {
  console.log(`FAIL connection: ${String(error).replaceAll("\n", " ")}`);
  process.exitCode = 1;
}
process.stdin.destroy();
