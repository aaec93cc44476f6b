//! Every feature of the protocol over every transport and both modes, between programs that we did not write:
//! clients and servers of the Python and the TypeScript SDK, servers that people use, the Python program of our name
//! at either end of us, the Inspector. `tests/peers/install.py` installs them once; `tests/peers/features.py` says
//! what the features are, `tests/peers/matrix.rs` where they are tried.

mod support;

#[path = "peers/cells.rs"]
mod cells;
#[path = "peers/installed.rs"]
mod installed;
#[path = "peers/matrix.rs"]
mod matrix;

use cells::Filled;
use installed::{node, node_path, python, python_sdk2, run, sdk1, serve, server, succeed, url};
use matrix::{CLIENTS, Client, FEATURES, ROUTES, Route};
use std::ffi::OsString;
use std::path::PathBuf;
use support::{Folder, Process};

/// What the Python `mcp-proxy` 0.13.0 does not carry, wherever it stands: seen with nothing but two of it.
const LIMITS_OF_THE_PYTHON_PROXY: [&str; 17] = [
    "capabilities",
    "unknown-tool",
    "unknown-method",
    "log-messages",
    "log-level",
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
    "death",
];

/// What two clients cannot try at the same moment on one server: each would see what the other does to its state,
/// and a question that belongs to no request may be put to either.
const LIMITS_OF_SHARING: [&str; 14] = [
    "log-messages",
    "log-level",
    "log-level-set",
    "sampling",
    "elicitation",
    "roots",
    "several-at-once",
    "several-rounds",
    "asking-prompt",
    "subscriptions",
    "list-changed",
    "unknown-messages",
    "recall",
    "death",
];

#[test]
fn every_client_uses_every_feature_on_every_way() {
    let rows: Vec<_> = ROUTES.iter().flat_map(|route| CLIENTS.map(|client| vec![(route, client)])).collect();
    let filled = cells::fill_all(
        &rows,
        |_| (),
        |(route, client), ()| {
            let outcome = matrix::cell(client, route);
            // A server of the SDK that is busy loses a client now and then: what they do without us is tried again.
            if route.is_without_us() { outcome.or_else(|_| matrix::cell(client, route)) } else { outcome }
        },
    );
    let failed: String = filled.iter().filter_map(explained).collect();
    println!("{}", table(&filled));
    assert!(failed.is_empty(), "\n{}\n{failed}", table(&filled));
}

#[test]
fn two_clients_at_the_same_moment_have_their_own_servers() {
    let server = serve(&[], &server("feature_server.py"));
    let start = || matrix::start(Client::Python1, &["--wait"], &["sse".into(), url(&server, "/sse").into()]);
    let mut clients = [start(), start()];
    let pids = clients.each_ref().map(|client| client.lines(2)[0].clone());
    assert_ne!(pids[0], pids[1], "both have one server");
    for client in &mut clients {
        client.write(b"go\n");
    }
    for client in clients {
        matrix::outcome(client, &[]).unwrap();
    }
}

#[test]
fn two_clients_share_one_server_at_the_same_moment() {
    let server = serve(&["--shared"], &server("feature_server.py"));
    let without: Vec<&str> = LIMITS_OF_SHARING.iter().flat_map(|feature| ["--without", feature]).collect();
    let options = [&without[..], &["--wait"]].concat();
    let start = |client| matrix::start(client, &options, &["http".into(), url(&server, "/mcp").into()]);
    let mut clients = [Client::Python1, Client::TypeScript].map(start);
    let pids = clients.each_ref().map(|client| client.lines(2)[0].clone());
    assert_eq!(pids[0], pids[1], "each has its own server");
    for client in &mut clients {
        client.write(b"go\n");
    }
    for client in clients {
        matrix::outcome(client, &LIMITS_OF_SHARING).unwrap();
    }
}

#[test]
fn our_client_reaches_the_python_proxy() {
    let mut proxy = support::command(python("mcp-proxy"));
    let far = Process::start(proxy.args(["--port", "0", "--"]).args(server("feature_server.py")));
    through_the_python_proxy(&["stdio".into(), support::program().into(), url(&far, "/sse").into()]);
}

#[test]
fn the_python_proxy_reaches_our_server() {
    let far = serve(&[], &server("feature_server.py"));
    through_the_python_proxy(&["stdio".into(), python("mcp-proxy").into(), url(&far, "/sse").into()]);
}

#[test]
fn servers_that_people_use_stand_behind_one_configuration_file() {
    let folder = Folder::new();
    let servers = [
        ("everything", node("mcp-server-everything"), "stdio"),
        ("fetch", python_sdk2("mcp-server-fetch"), "--allow-private-ips"),
        ("time", python("mcp-server-time"), "--local-timezone=Europe/Zurich"),
    ];
    let entry = |(name, command, argument): (&str, PathBuf, &str)| {
        format!(r#""{name}": {{"command": "{}", "args": ["{argument}"]}}"#, command.display())
    };
    let file = folder.file("mcp.json", format!(r#"{{"mcpServers": {{{}}}}}"#, servers.map(entry).join(", ")));
    let mut proxy = support::proxy();
    proxy.env("PATH", node_path()).args(["--port", "0", "--pass-environment", "--named-server-config"]).arg(file);
    let proxy = Process::start(&mut proxy);
    let status = format!(r#"{{"url": "{}", "raw": true}}"#, url(&proxy, "/status"));
    for (name, tool, arguments, listed, answered) in [
        ("everything", "echo", r#"{"message": "grüezi"}"#, "get-sum\n", "Echo: grüezi"),
        ("fetch", "fetch", status.as_str(), "fetch\n", "server_instances"),
        ("time", "get_current_time", r#"{"timezone": "Asia/Tokyo"}"#, "convert_time\n", "+09:00"),
    ] {
        for (kind, path) in [("http", "mcp"), ("sse", "sse")] {
            let url = url(&proxy, &format!("/servers/{name}/{path}"));
            let output = succeed(run(&sdk1("call.py"), &[kind, &url, tool, arguments]));
            assert!(output.contains(listed) && output.contains(answered), "{name} over {kind}: {output}");
        }
    }
}

#[test]
fn the_inspector_lists_and_calls_tools() {
    let server = serve(&[], &server("feature_server.py"));
    let home = Folder::new();
    let ways = [("/sse", "sse"), ("/mcp", "http")];
    for (path, transport) in ways {
        for (arguments, wanted) in [
            (&["--method", "tools/list"][..], r#""name": "echo""#),
            (&["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "text=grüezi"], r#""text": "grüezi""#),
        ] {
            let mut inspector = support::command(node("inspector"));
            inspector.args(["--cli", &url(&server, path), "--transport", transport]).args(arguments);
            inspector.env("PATH", node_path()).env("HOME", home.path());
            let output = succeed(Process::start(&mut inspector));
            assert!(output.contains(wanted), "{wanted} is missing in {output}");
        }
    }
}

/// One cell of the matrix that was filled.
type Cell = ((&'static Route, Client), Filled);

/// The matrix: a line a way, a column a client.
fn table(cells: &[Cell]) -> String {
    let heading = CLIENTS.map(|client| format!("{:>12}", format!("{client:?}"))).concat();
    let lines = cells.chunks(CLIENTS.len()).map(|line| {
        let numbers = line.iter().map(|(_, cell)| match cell {
            Ok(worked) => format!("{:>12}", format!("{worked}/{}", FEATURES.len())),
            Err(_) => format!("{:>12}", "FAIL"),
        });
        format!("{:<24}{}\n", line[0].0.0.name, numbers.collect::<String>())
    });
    format!("{:<24}{heading}\n{}", "", lines.collect::<String>())
}

/// What went wrong in a cell, if anything did.
fn explained(((route, client), cell): &Cell) -> Option<String> {
    cell.as_ref().err().map(|why| format!("{} from {client:?}:\n{why}\n", route.name))
}

/// Expects that everything works which the Python program carries.
fn through_the_python_proxy(target: &[OsString]) {
    let without: Vec<&str> = LIMITS_OF_THE_PYTHON_PROXY.iter().flat_map(|feature| ["--without", feature]).collect();
    let client = matrix::start(Client::Python1, &without, target);
    matrix::outcome(client, &LIMITS_OF_THE_PYTHON_PROXY).expect("what the Python program carries");
}
