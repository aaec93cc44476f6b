// A client on the TypeScript SDK that uses every feature of feature_server.py over one connection.
//
//     features.mjs [OPTIONS] sse URL
//     features.mjs [OPTIONS] http URL
//     features.mjs [OPTIONS] stdio COMMAND [ARGUMENTS…]
//
// The options, the features and what is printed are those of features.py. The SDK is the one that is installed
// beside the Node.js that runs this.

import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { isDeepStrictEqual, parseArgs } from "node:util";

const require = createRequire(process.execPath);
const sdk = (name) => require(`@modelcontextprotocol/sdk/${name}.js`);
const { Client } = sdk("client/index");
const { SSEClientTransport } = sdk("client/sse");
const { StdioClientTransport } = sdk("client/stdio");
const { StreamableHTTPClientTransport } = sdk("client/streamableHttp");
const types = sdk("types");

const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const COUNTER = "test://counter";
const UPDATED = "notifications/resources/updated";
const LIMIT_MS = 20_000;
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
    this.client = new Client({ name: "features", version: "1.0.0" }, { capabilities });
    this.client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => this.onSample(params));
    this.client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => this.onElicit(params));
    this.client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: this.roots() }));
    this.client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => {
      this.logs.push([params.level, params.logger, params.data]);
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

  /** The text of a tool's answer. */
  async call(tool, args = {}, options = undefined) {
    const result = await this.client.callTool({ name: tool, arguments: args }, undefined, options);
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
        if (error.code !== types.ErrorCode.RequestTimeout) throw error;
      }
    }
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
    const result = await client.callTool({ name: "fail", arguments: {} });
    equal([result.isError, result.content[0].text], [true, "failed on purpose"]);
  },

  async "protocol-error"({ client }) {
    const error = await failure(client.readResource({ uri: "test://nothing" }));
    check(error.message.includes("test://nothing"), error.message);
  },

  async "hundred-calls-at-once"(session) {
    const one = async (number) => {
      const text = `${session.word} ${number}`;
      equal(await session.call("echo", { text, delay: ((number * 37) % 100) / 1000 }), text);
    };
    await Promise.all([...Array(100).keys()].map(one));
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
    await session.client.setLoggingLevel("debug");
    session.logs.length = 0;
    equal(await session.call("log"), "debug");
    equal(session.logs, LEVELS.map((level) => [level, "feature", { about: level }]));
  },

  async "log-level"(session) {
    await session.client.setLoggingLevel("error");
    session.logs.length = 0;
    equal(await session.call("log"), "error");
    equal(session.logs.map(([level]) => level), LEVELS.slice(4));
  },

  async "log-level-set"(session) {
    await session.client.setLoggingLevel("warning");
    equal(await session.call("log"), "warning");
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
    const first = await client.listResources();
    equal(names(first.resources), ["counter"]);
    equal(names((await client.listResources({ cursor: first.nextCursor })).resources), ["blob"]);
    const { resourceTemplates } = await client.listResourceTemplates();
    equal(resourceTemplates.map((template) => template.uriTemplate), ["test://item/{number}"]);
  },

  async reading({ client }) {
    equal((await client.readResource({ uri: COUNTER })).contents[0].mimeType, "text/plain");
    const { blob } = (await client.readResource({ uri: "test://blob" })).contents[0];
    check(blob.startsWith("AAECAwQF"), blob);
  },

  async subscriptions(session) {
    await session.client.subscribeResource({ uri: COUNTER });
    const before = session.noted(UPDATED);
    const count = await session.call("update");
    await until(() => session.noted(UPDATED) === before + 1);
    equal((await session.client.readResource({ uri: COUNTER })).contents[0].text, count);
  },

  async unsubscribing(session) {
    await session.client.unsubscribeResource({ uri: COUNTER });
    const before = session.noted(UPDATED);
    await session.call("update");
    await session.call("echo", { text: "whatever the update sent came before this answer" });
    equal(session.noted(UPDATED), before);
  },

  async "list-changed"(session) {
    const kinds = ["tools", "resources", "prompts"].map((kind) => `notifications/${kind}/list_changed`);
    const before = kinds.map((kind) => session.noted(kind));
    const name = await session.call("change");
    await until(() => kinds.every((kind, index) => session.noted(kind) === before[index] + 1));
    check(names((await session.client.listTools()).tools).includes(name), `no tool ${name}`);
  },

  async prompts({ client, word }) {
    equal(names((await client.listPrompts()).prompts), ["greet"]);
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
    check(error.code !== types.ErrorCode.ConnectionClosed, `${error}`);
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

function transport([kind, target, ...args]) {
  if (kind === "sse") return new SSEClientTransport(new URL(target));
  if (kind === "http") return new StreamableHTTPClientTransport(new URL(target));
  return new StdioClientTransport({ command: target, args, stderr: "inherit" });
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
    },
  });
  return { ...values, target: words.slice(kind) };
}

async function main() {
  const session = new Session(transport(options.target));
  await limited(session.connect());
  console.log(`server ${await limited(session.call("pid"))}`);
  if (options.patient) await limited(session.heard());
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
try {
  process.exitCode = (await main()) ? 1 : 0;
} catch (error) {
  console.log(`FAIL connection: ${String(error).replaceAll("\n", " ")}`);
  process.exitCode = 1;
}
process.stdin.destroy();
