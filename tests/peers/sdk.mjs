// The TypeScript SDK as a client, the same for its versions 1 and 2, as they are installed beside the Node.js that
// runs this: connections, and what the two spell differently.

import { createRequire } from "node:module";

export const MODERN = "2026-07-28";
const require = createRequire(process.execPath);

/** Version 1, which is a legacy client. */
function one() {
  const sdk = (name) => require(`@modelcontextprotocol/sdk/${name}.js`);
  const { Client } = sdk("client/index");
  const { SSEClientTransport } = sdk("client/sse");
  const { StdioClientTransport } = sdk("client/stdio");
  const { StreamableHTTPClientTransport } = sdk("client/streamableHttp");
  const types = sdk("types");
  return {
    transports: { SSEClientTransport, StdioClientTransport, StreamableHTTPClientTransport },
    connectionClosed: types.ErrorCode.ConnectionClosed,
    requestTimeout: types.ErrorCode.RequestTimeout,
    client: (identity, options) => new Client(identity, options),
    answer(client, { sample, elicit, roots, log }) {
      client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => sample(params));
      client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => elicit(params));
      client.setRequestHandler(types.ListRootsRequestSchema, () => roots());
      client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => log(params));
    },
    call: (client, params, options) => client.callTool(params, undefined, options),
    resources: (client, cursor) => client.listResources({ cursor }),
    unknown: (client) => client.request({ method: "x/nothing", params: {} }, types.EmptyResultSchema),
  };
}

/** Version 2, a client of this mode: `legacy`, `auto`, or the modern revision. */
function two(mode) {
  const sdk = require("@modelcontextprotocol/client");
  const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");
  const { SSEClientTransport, StreamableHTTPClientTransport } = sdk;
  const versionNegotiation = { mode: mode === MODERN ? { pin: MODERN } : mode };
  return {
    transports: { SSEClientTransport, StdioClientTransport, StreamableHTTPClientTransport },
    connectionClosed: sdk.SdkErrorCode.ConnectionClosed,
    requestTimeout: sdk.SdkErrorCode.RequestTimeout,
    client: (identity, options) => new sdk.Client(identity, { ...options, versionNegotiation }),
    answer(client, { sample, elicit, roots, log }) {
      client.setRequestHandler("sampling/createMessage", ({ params }) => sample(params));
      client.setRequestHandler("elicitation/create", ({ params }) => elicit(params));
      client.setRequestHandler("roots/list", () => roots());
      client.setNotificationHandler("notifications/message", ({ params }) => log(params));
    },
    call: (client, params, options) => client.callTool(params, options),
    // Without a cursor it walks through all pages; an empty page of its own is how to get the first one.
    resources: (client, cursor) => client.request({ method: "resources/list", params: cursor ? { cursor } : {} }),
    unknown: (client) => client.request({ method: "x/nothing", params: {} }, anything),
  };
}

/** A schema that takes everything. */
const anything = { "~standard": { version: 1, vendor: "tests", validate: (value) => ({ value }) } };

/** The SDK of this mode: version 1 without one. */
export function load(mode) {
  return mode ? two(mode) : one();
}

/** A transport to a URL or a command. */
export function connection({ transports }, [kind, target, ...args]) {
  if (kind === "sse") return new transports.SSEClientTransport(new URL(target));
  if (kind === "http") return new transports.StreamableHTTPClientTransport(new URL(target));
  return new transports.StdioClientTransport({ command: target, args, stderr: "inherit" });
}

/** The code of a JSON-RPC error; version 2 does not look into an answer with the status 404. */
export function code(error) {
  return error.status === 404 || error.data?.status === 404 ? JSON.parse(error.data.text).error.code : error.code;
}
