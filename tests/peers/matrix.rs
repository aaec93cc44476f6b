//! Which client reaches which server on which way, and what cannot be carried there: the tables of the tests in
//! `peers.rs`. What is left out is written down here with its reason; everything else must work.

#![allow(dead_code, reason = "each test file uses a part of it")]

use super::installed::{LIMIT, hosted, node, script, sdk1, sdk2, serve, server, url};
use super::support::{self, Process};
use std::ffi::OsString;

/// What every client tries, in this order: see `features.py`.
pub const FEATURES: [&str; 39] = [
    "initialize",
    "capabilities",
    "remember",
    "ping",
    "ping-back",
    "tools",
    "odd-text",
    "tool-error",
    "protocol-error",
    "unknown-resource",
    "unknown-tool",
    "unknown-method",
    "hundred-calls-at-once",
    "big-result",
    "big-argument",
    "progress",
    "log-messages",
    "log-level",
    "log-level-set",
    "sampling",
    "elicitation",
    "roots",
    "several-at-once",
    "several-rounds",
    "asking-prompt",
    "parameter-in-a-header",
    "roots-changed",
    "cancellation",
    "resources",
    "reading",
    "subscriptions",
    "unsubscribing",
    "list-changed",
    "prompts",
    "completion",
    "unknown-messages",
    "environment",
    "recall",
    "death",
];

/// What a server without sessions cannot do: it forgets, and has no stream to ask or tell us anything.
const LIMITS_WITHOUT_SESSIONS: [&str; 15] = [
    "ping-back",
    "log-level",
    "log-level-set",
    "sampling",
    "elicitation",
    "roots",
    "several-at-once",
    "several-rounds",
    "asking-prompt",
    "roots-changed",
    "cancellation",
    "subscriptions",
    "list-changed",
    "unknown-messages",
    "recall",
];

/// What the Python SDK's server does not send in its JSON mode: whatever belongs to a request but its answer.
const LIMITS_OF_JSON: [&str; 3] = ["progress", "log-messages", "log-level"];

/// A client of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Python1,
    Python2,
    TypeScript,
}

/// What the client reaches in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// A server on stdio behind our serve mode with these options.
    Served(&'static [&'static str]),
    /// The SDK's own HTTP server of this kind.
    Hosted(&'static str),
}

/// What stands between the client and that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Between {
    Nothing,
    Connect,
    Relay,
}

/// A way from a client to a server.
#[derive(Clone, Copy)]
pub struct Route {
    pub name: &'static str,
    pub far: Far,
    pub path: &'static str,
    pub between: Between,
}

/// Every client.
pub const CLIENTS: [Client; 3] = [Client::Python1, Client::Python2, Client::TypeScript];

/// Every way. The first one has nothing of ours in it: it shows what client and server can do.
pub const ROUTES: [Route; 12] = [
    route("SDK /mcp", Between::Nothing, Far::Hosted("--http"), "/mcp"),
    route("/sse", Between::Nothing, Far::Served(&[]), "/sse"),
    route("/mcp", Between::Nothing, Far::Served(&[]), "/mcp"),
    route("/mcp --shared", Between::Nothing, Far::Served(&["--shared"]), "/mcp"),
    route("connect, /sse", Between::Connect, Far::Served(&[]), "/sse"),
    route("connect, /mcp", Between::Connect, Far::Served(&[]), "/mcp"),
    route("connect, /mcp --shared", Between::Connect, Far::Served(&["--shared"]), "/mcp"),
    route("connect, SDK /sse", Between::Connect, Far::Hosted("--sse"), "/sse"),
    route("connect, SDK /mcp", Between::Connect, Far::Hosted("--http"), "/mcp"),
    route("connect, SDK JSON", Between::Connect, Far::Hosted("--json"), "/mcp"),
    route("connect, SDK stateless", Between::Connect, Far::Hosted("--stateless"), "/mcp"),
    route("/mcp of SDK /mcp", Between::Relay, Far::Hosted("--http"), "/mcp"),
];

impl Route {
    /// Whether nothing of ours is on it.
    pub fn is_without_us(&self) -> bool {
        self.between == Between::Nothing && matches!(self.far, Far::Hosted(_))
    }
}

const fn route(name: &'static str, between: Between, far: Far, path: &'static str) -> Route {
    Route { name, far, path, between }
}

/// What cannot work for this client on this way.
pub fn impossible(client: Client, route: &Route) -> Vec<&'static str> {
    let mut features = match route.far {
        Far::Hosted("--json") => LIMITS_OF_JSON.to_vec(),
        Far::Hosted("--stateless") => LIMITS_WITHOUT_SESSIONS.to_vec(),
        _ => Vec::new(),
    };
    // Version 2 of the Python SDK takes no event of more than 1 MiB; an answer in plain JSON may be larger.
    let events = route.between == Between::Nothing && (route.path == "/sse" || route.far == Far::Hosted("--http"));
    if client == Client::Python2 && events {
        features.push("big-result");
    }
    // Where the server is reached without us, nobody is left to answer when it is gone.
    if route.between == Between::Nothing && matches!(route.far, Far::Hosted(_)) {
        features.push("death");
    }
    features
}

/// Runs one client over one way with every feature that can work there; `Err` says what failed.
pub fn cell(client: Client, route: &Route) -> Result<usize, String> {
    let impossible = impossible(client, route);
    let far = match route.far {
        Far::Served(options) => serve(&[options, &["-e", "FEATURE", "yes"]].concat(), &server("feature_server.py")),
        Far::Hosted(kind) => hosted("feature_server.py", kind),
    };
    let far_url = url(&far, route.path);
    let relay = (route.between == Between::Relay).then(|| relay(&far_url));
    let target = match (&relay, route.between) {
        (Some(relay), _) => vec!["http".into(), url(relay, "/mcp").into()],
        (None, Between::Connect) => vec!["stdio".into(), support::program().into(), far_url.into()],
        (None, _) => vec![OsString::from(if route.path == "/sse" { "sse" } else { "http" }), far_url.into()],
    };
    let client = start(client, &options(route, &impossible), &target);
    outcome(client, &impossible).map_err(|why| {
        let servers = [Some(&far), relay.as_ref()].into_iter().flatten();
        let logs: String = servers.map(|server| shortened(&server.stderr())).collect();
        format!("{why}{logs}")
    })
}

/// Serves a remote server here.
fn relay(url: &str) -> Process {
    Process::start(support::proxy().args(["--port", "0", url]))
}

/// What the client is told about its way.
fn options(route: &Route, impossible: &[&'static str]) -> Vec<&'static str> {
    let mut options: Vec<&str> = impossible.iter().flat_map(|feature| ["--without", feature]).collect();
    match route.far {
        Far::Served(_) => options.extend(["--expect", "FEATURE=yes"]),
        Far::Hosted(_) if !impossible.contains(&"ping-back") => options.push("--patient"),
        Far::Hosted(_) => {}
    }
    options
}

/// Starts the client that uses every feature.
pub fn start(client: Client, options: &[&str], target: &[OsString]) -> Process {
    let command = match client {
        Client::Python1 => sdk1("features.py"),
        Client::Python2 => sdk2("features.py"),
        Client::TypeScript => vec![node("node").into(), script("features.mjs").into()],
    };
    Process::start(support::command(&command[0]).args(&command[1..]).args(options).args(target))
}

/// Expects that every feature worked but the impossible ones, which were left out, and that the server's end in
/// the middle of a call was told with our error. How many worked.
pub fn outcome(mut client: Process, impossible: &[&str]) -> Result<usize, String> {
    let status = client.finish(LIMIT);
    let output = String::from_utf8_lossy(&client.stdout()).into_owned();
    let told = |line: &str| output.lines().any(|other| other == line);
    let mut failed: Vec<String> = output.lines().filter(|line| line.starts_with("FAIL ")).map(str::to_owned).collect();
    for feature in FEATURES {
        let wanted = if impossible.contains(&feature) { "skip" } else { "ok" };
        let explained = output.contains(&format!("FAIL {feature}:"));
        if !told(&format!("{wanted} {feature}")) && !explained && !output.contains("FAIL connection:") {
            failed.push(format!("no `{wanted} {feature}`"));
        }
    }
    let deaths = output.lines().filter(|line| line.starts_with("death: -32603 ")).count();
    if deaths != 1 && told("ok death") {
        failed.push("the server's end was not told with our error".to_owned());
    }
    if failed.is_empty() && status.success() {
        return Ok(FEATURES.len() - impossible.len());
    }
    Err(format!("    {}\n    {status}\n{}", failed.join("\n    "), shortened(&client.stderr())))
}

/// The end of what a program said.
pub fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(12)..];
    shown.iter().fold(String::new(), |all, line| all + &format!("    | {line:.300}\n"))
}
