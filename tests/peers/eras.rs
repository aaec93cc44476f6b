//! Which client of which era reaches which server of which era on which way, and what cannot be carried there: the
//! tables of the tests in `both_eras.rs`. What is left out is written down here with its reason; everything else must
//! work.

use super::cells::Filled;
use super::installed::{node, run, script, sdk1, sdk2, serve, url};
use super::matrix::{outcome, shortened};
use super::support::{self, Process};
use std::ffi::OsString;
use std::fmt;

/// How many calls a client makes at the same moment; a hundred are tried elsewhere.
const CALLS: &str = "20";

/// The reasons why a feature cannot work somewhere.
const NO_PING: &str = "the modern era has no ping";
const NO_ROOTS_CHANGED: &str = "a modern client does not tell that its roots changed, a modern server does not hear it";
const NO_SERVER_PING: &str = "a modern server sends no requests";
const UNCLEAR: &str =
    "ten calls at once on one process: nobody can tell which of them it asks about, and it is refused";
const NO_UNKNOWN: &str = "only the legacy server knows these messages, and nobody can translate them";
const TOO_LARGE_AN_EVENT: &str = "version 2 of the Python SDK takes no event of more than 1 MiB";
const NOBODY_LEFT: &str = "nobody is left to answer";

/// The reasons why a cell does not exist.
const NO_MODERN_SSE: &str = "the modern era has no HTTP+SSE, so that no modern client asks for it";
const NO_SSE_OF_MODERN: &str = "the modern era has no HTTP+SSE, so that no modern server offers it";

/// A feature that cannot work somewhere, and why.
pub type Impossible = (&'static str, &'static str);

/// A client of the matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Python1,
    Python2(&'static str),
    TypeScript1,
    TypeScript2,
}

/// What the client reaches in the end: a server that speaks the legacy era, both, or the modern one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    Legacy,
    Dual,
    Modern,
}

/// How it gets there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Without us, the server on stdio: what the client can do at all.
    Direct,
    /// A server on stdio behind our serve mode, with these options and at this path.
    Serve(&'static [&'static str], &'static str),
    /// Our connect mode in front of the SDK's own HTTP server, at this path.
    Connect(&'static str),
    /// Our connect mode in front of our serve mode.
    ConnectServe,
    /// Our serve mode in front of the SDK's own HTTP server.
    Relay,
}

/// A cell of the matrix.
pub type Cell = (Way, Server, Client);

/// Every client.
pub const CLIENTS: [Client; 6] = [
    Client::Python1,
    Client::Python2("legacy"),
    Client::Python2("auto"),
    Client::Python2(MODERN),
    Client::TypeScript1,
    Client::TypeScript2,
];

/// Every server.
pub const SERVERS: [Server; 3] = [Server::Legacy, Server::Dual, Server::Modern];

/// The modern revision.
const MODERN: &str = "2026-07-28";

/// Our `/mcp` in front of a server on stdio.
pub const MCP: Way = Way::Serve(&[], "/mcp");
const SSE: Way = Way::Serve(&[], "/sse");
const SHARED: Way = Way::Serve(&["--shared"], "/mcp");

/// What is tried besides every client with every server that exists on each transport.
const SAMPLES: [Cell; 11] = [
    (SHARED, Server::Legacy, Client::Python2("auto")),
    (SHARED, Server::Dual, Client::Python2("legacy")),
    (SHARED, Server::Modern, Client::Python1),
    (SHARED, Server::Modern, Client::TypeScript2),
    (Way::ConnectServe, Server::Legacy, Client::Python2("auto")),
    (Way::ConnectServe, Server::Dual, Client::TypeScript2),
    (Way::ConnectServe, Server::Modern, Client::Python1),
    (Way::Relay, Server::Legacy, Client::Python2(MODERN)),
    (Way::Relay, Server::Dual, Client::TypeScript1),
    (Way::Relay, Server::Modern, Client::Python1),
    (Way::Relay, Server::Modern, Client::TypeScript2),
];

/// The ways on which every client is tried with every server: stdio behind HTTP, behind HTTP+SSE, and from stdio to
/// servers on either kind of HTTP.
const WAYS: [Way; 4] = [MCP, SSE, Way::Connect("/mcp"), Way::Connect("/sse")];

/// Every cell that is filled, in the order of the table.
pub fn cells() -> Vec<Cell> {
    let direct = CLIENTS.into_iter().map(|client| (Way::Direct, Server::Dual, client));
    direct.chain(whole().filter(|cell| missing(*cell).is_none())).chain(SAMPLES).collect()
}

/// The whole matrix, with the cells that do not exist.
fn whole() -> impl Iterator<Item = Cell> {
    let line = |way, server| CLIENTS.into_iter().map(move |client| (way, server, client));
    WAYS.into_iter().flat_map(move |way| SERVERS.into_iter().flat_map(move |server| line(way, server)))
}

/// Why a cell does not exist.
fn missing((way, server, client): Cell) -> Option<&'static str> {
    match way {
        SSE if client.is_modern() => Some(NO_MODERN_SSE),
        Way::Connect("/sse") if server == Server::Modern => Some(NO_SSE_OF_MODERN),
        _ => None,
    }
}

/// The cells that do not exist, in the words of their ways, and why: each reason once.
pub fn left_out() -> Vec<(String, &'static str)> {
    let mut missing: Vec<_> = whole().filter_map(|cell| Some((cell.0.to_string(), missing(cell)?))).collect();
    missing.dedup();
    missing
}

/// The cells in the rows in which they are filled, the longest first: those with the same server on stdio behind us use
/// one and the same process of ours. Not so before a modern server, which has one process for all: a legacy session that
/// its client left without a word still listens, and log messages go to nobody while several may want some.
pub fn rows(wanted: &[Cell]) -> Vec<Vec<Cell>> {
    let is_served = |cell: &Cell| matches!(cell.0, Way::Serve(&[], _) | Way::ConnectServe) && cell.1 != Server::Modern;
    let (served, alone): (Vec<Cell>, Vec<Cell>) = wanted.iter().partition(|cell| is_served(cell));
    let of = |server| served.iter().filter(|cell| cell.1 == server).copied().collect::<Vec<_>>();
    let rows = SERVERS.into_iter().map(of).filter(|row| !row.is_empty());
    rows.chain(alone.into_iter().map(|cell| vec![cell])).collect()
}

impl Client {
    /// Whether it speaks the modern era to us. Those that can choose do.
    pub fn is_modern(self) -> bool {
        matches!(self, Self::Python2("auto" | MODERN) | Self::TypeScript2)
    }

    /// The command that starts it.
    fn command(self) -> Vec<OsString> {
        let (mut command, mode) = match self {
            Self::Python1 => (sdk1("features.py"), None),
            Self::Python2(mode) => (sdk2("features.py"), Some(mode)),
            Self::TypeScript1 => (features_mjs(), None),
            Self::TypeScript2 => (features_mjs(), Some("auto")),
        };
        command.extend(mode.into_iter().flat_map(|mode| ["--mode".into(), mode.into()]));
        command
    }
}

fn features_mjs() -> Vec<OsString> {
    vec![node("node").into(), script("features.mjs").into()]
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python1 => formatter.pad("Py 1.30"),
            Self::Python2("auto") => formatter.pad("Py 2.3 auto"),
            Self::Python2(MODERN) => formatter.pad("Py 2.3 pinned"),
            Self::Python2(_) => formatter.pad("Py 2.3 legacy"),
            Self::TypeScript1 => formatter.pad("TS 1.32"),
            Self::TypeScript2 => formatter.pad("TS 2.4 auto"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => formatter.pad("directly"),
            Self::Serve(options, path) => formatter.pad([&[*path], *options].concat().join(" ").as_str()),
            Self::Connect(path) => formatter.pad(&format!("connect, SDK {path}")),
            Self::ConnectServe => formatter.pad("connect, /mcp"),
            Self::Relay => formatter.pad("/mcp of SDK /mcp"),
        }
    }
}

impl Server {
    /// The command that runs it on stdio, or with these words on HTTP.
    fn command(self, words: &[&str]) -> Vec<OsString> {
        let mut command: Vec<OsString> = match self {
            Self::Legacy => sdk1("feature_server.py"),
            Self::Dual | Self::Modern => sdk2("dual_server.py"),
        };
        command.extend((self == Self::Modern).then(|| "--modern".into()));
        command.extend(words.iter().map(Into::into));
        command
    }
}

/// What cannot work in this cell.
pub fn impossible((way, server, client): Cell) -> Vec<Impossible> {
    let direct_legacy = way == Way::Direct && server == Server::Legacy;
    let modern_client = client.is_modern() && !direct_legacy;
    let modern_server = server == Server::Modern || (server == Server::Dual && modern_client);
    let mut features = Vec::new();
    if modern_client {
        features.push(("ping", NO_PING));
    }
    if modern_server {
        features.push(("ping-back", NO_SERVER_PING));
    }
    if modern_client || modern_server {
        features.push(("roots-changed", NO_ROOTS_CHANGED));
    }
    if modern_client || server != Server::Legacy {
        features.push(("unknown-messages", NO_UNKNOWN));
    }
    if modern_client && server == Server::Legacy && way == SHARED {
        features.push(("sampling", UNCLEAR));
    }
    if way == SSE && client == Client::Python2("legacy") {
        features.push(("big-result", TOO_LARGE_AN_EVENT));
    }
    if way == Way::Direct {
        features.push(("death", NOBODY_LEFT));
    }
    features
}

/// The server process that the cells of a row need.
pub fn far(row: &[Cell]) -> Option<Process> {
    let (way, server, _) = *row.first()?;
    match way {
        Way::Direct => None,
        Way::Serve(options, _) => Some(served(server, options)),
        Way::ConnectServe => Some(served(server, &[])),
        Way::Connect("/sse") => Some(hosted(server, "--sse")),
        Way::Connect(_) | Way::Relay => Some(hosted(server, "--http")),
    }
}

/// Runs one client over one way with every feature that can work there; `Err` says what failed.
pub fn fill(cell: Cell, far: Option<&Process>) -> Filled {
    let (way, server, client) = cell;
    let relay = (way == Way::Relay).then(|| relay(&url(far.expect("a server"), "/mcp")));
    let target = target(way, server, far, relay.as_ref());
    let without: Vec<&str> = impossible(cell).into_iter().map(|(feature, _)| feature).collect();
    let mut options: Vec<&str> = without.iter().flat_map(|feature| ["--without", feature]).collect();
    match way {
        Way::Serve(..) | Way::ConnectServe => options.extend(["--expect", "FEATURE=yes"]),
        Way::Connect(_) | Way::Relay if !without.contains(&"ping-back") => options.push("--patient"),
        _ => {}
    }
    let running = start(client, &options, &target);
    let era = era(&running);
    let modern = client.is_modern() && (way != Way::Direct || server != Server::Legacy);
    outcome(running, &without).and_then(|worked| right(worked, era.as_deref(), modern)).map_err(|why| {
        let servers = [far, relay.as_ref()].into_iter().flatten();
        servers.fold(why, |text, server| text + &shortened(&server.stderr()))
    })
}

/// Starts the client that uses every feature.
pub fn start(client: Client, options: &[&str], target: &[OsString]) -> Process {
    let command = client.command();
    let mut client = support::command(&command[0]);
    Process::start(client.args(&command[1..]).args(["--calls", CALLS]).args(options).args(target))
}

/// The server on stdio behind our serve mode.
pub fn served(server: Server, options: &[&str]) -> Process {
    serve(&[options, &["-e", "FEATURE", "yes"]].concat(), &server.command(&[]))
}

/// The server on the SDK's own HTTP server of this kind.
fn hosted(server: Server, kind: &str) -> Process {
    run(&server.command(&[]), &[kind])
}

/// Serves a remote server here.
fn relay(url: &str) -> Process {
    Process::start(support::proxy().args(["--port", "0", url]))
}

/// What the client is told to reach.
fn target(way: Way, server: Server, far: Option<&Process>, relay: Option<&Process>) -> Vec<OsString> {
    let at = |process: Option<&Process>, path| OsString::from(url(process.expect("a server"), path));
    match way {
        Way::Direct => [vec!["stdio".into()], server.command(&[])].concat(),
        Way::Serve(_, "/sse") => vec!["sse".into(), at(far, "/sse")],
        Way::Serve(_, path) => vec!["http".into(), at(far, path)],
        Way::Connect(path) => vec!["stdio".into(), support::program().into(), at(far, path)],
        Way::ConnectServe => vec!["stdio".into(), support::program().into(), at(far, "/mcp")],
        Way::Relay => vec!["http".into(), at(relay, "/mcp")],
    }
}

/// The era that the client says it speaks, once it is connected; nothing if that never happened.
pub fn era(client: &Process) -> Option<String> {
    let said = || String::from_utf8_lossy(&client.stdout()).into_owned();
    support::wait_until("an era or an end", super::installed::LIMIT, || {
        said().contains("era ") || said().contains("FAIL connection")
    });
    said().lines().find_map(|line| line.strip_prefix("era ").map(str::to_owned))
}

/// Expects that the client spoke the era that it should.
fn right(worked: usize, era: Option<&str>, modern: bool) -> Filled {
    let wanted = if modern { "modern" } else { "legacy" };
    if era == Some(wanted) { Ok(worked) } else { Err(format!("    the client speaks {era:?}, not {wanted}\n")) }
}
