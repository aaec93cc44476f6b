//! Every feature of the protocol through both modes, between programs that we did not write: clients and servers
//! of the Python SDK, `mcp-server-time`, the Python program of our name at either end of us, the Inspector.
//! `tests/peers/install.py` installs them once; `tests/peers/features.py` says what the features are.

mod support;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use support::{Folder, Process};

/// How long a client may take for everything that it does.
const LIMIT: Duration = Duration::from_secs(90);

/// What the Python `mcp-proxy` 0.13.0 does not carry, wherever it stands: seen with nothing but two of it.
const LIMITS_OF_THE_PYTHON_PROXY: [&str; 12] = [
    "capabilities",
    "log-messages",
    "log-level",
    "sampling",
    "elicitation",
    "roots",
    "roots-changed",
    "cancellation",
    "subscriptions",
    "list-changed",
    "unknown-messages",
    "death",
];

#[test]
fn an_sse_client_reaches_a_stdio_server() {
    let server = serve(&feature_server());
    let client = features(&["--expect", "FEATURE=yes", "sse", &url(&server)], &[]);
    all_ok(client);
}

#[test]
fn two_sse_clients_at_the_same_moment_have_their_own_servers() {
    let server = serve(&feature_server());
    let start = || features(&["--wait", "sse", &url(&server)], &[]);
    let mut clients = [start(), start()];
    let pids = clients.each_ref().map(|client| client.lines(2)[0].clone());
    assert_ne!(pids[0], pids[1], "both have one server");
    for client in &mut clients {
        client.write(b"go\n");
    }
    for client in clients {
        all_ok(client);
    }
}

#[test]
fn a_stdio_client_reaches_the_sse_server_of_the_python_sdk() {
    let server = Process::start(support::command(python("python")).arg(script("feature_server.py")).arg("--sse"));
    let client = features(&["stdio"], &connect(&server));
    all_ok(client);
}

#[test]
fn a_stdio_client_reaches_a_stdio_server_through_both_modes() {
    let server = serve(&feature_server());
    let client = features(&["--expect", "FEATURE=yes", "stdio"], &connect(&server));
    all_ok(client);
}

#[test]
fn our_client_reaches_the_python_proxy() {
    let server = listen(&mut support::command(python("mcp-proxy")), &feature_server());
    let client = features(&[&limits()[..], &["--expect", "FEATURE=yes", "stdio"]].concat(), &connect(&server));
    all_ok(client);
}

#[test]
fn the_python_proxy_reaches_our_server() {
    let server = serve(&feature_server());
    let client = [python("mcp-proxy").into(), url(&server).into()];
    let client = features(&[&limits()[..], &["--expect", "FEATURE=yes", "stdio"]].concat(), &client);
    all_ok(client);
}

#[test]
fn the_time_server_tells_the_time() {
    let server = serve(&[python("mcp-server-time").into()]);
    let mut call = support::command(python("python"));
    call.arg(script("call.py")).args([&url(&server), "get_current_time", r#"{"timezone": "Asia/Tokyo"}"#]);
    let output = succeed(Process::start(&mut call));
    assert!(output.starts_with("get_current_time\nconvert_time\n"), "{output}");
    assert!(output.contains("+09:00"), "{output}");
}

#[test]
fn the_inspector_lists_and_calls_tools() {
    let server = serve(&feature_server());
    let home = Folder::new();
    for (arguments, wanted) in [
        (&["--method", "tools/list"][..], r#""name": "echo""#),
        (&["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "text=grüezi"], r#""text": "grüezi""#),
    ] {
        let mut inspector = support::command("inspector");
        inspector.args(["--cli", &url(&server), "--transport", "sse"]).args(arguments);
        inspector.env("PATH", node_path()).env("HOME", home.path());
        let output = succeed(Process::start(&mut inspector));
        assert!(output.contains(wanted), "{wanted} is missing in {output}");
    }
}

/// Runs our serve mode with `command` behind it.
fn serve(command: &[OsString]) -> Process {
    listen(&mut support::proxy(), command)
}

/// Runs ours or the Python program at any free port; both have the same command line.
fn listen(proxy: &mut Command, server: &[OsString]) -> Process {
    Process::start(proxy.args(["--port", "0", "-e", "FEATURE", "yes", "--"]).args(server))
}

/// The command of our connect mode to `server`.
fn connect(server: &Process) -> [OsString; 2] {
    [support::program().into(), url(server).into()]
}

fn url(server: &Process) -> String {
    format!("http://{}/sse", server.address())
}

fn feature_server() -> [OsString; 2] {
    [python("python").into(), script("feature_server.py").into()]
}

/// Runs the client that uses every feature.
fn features(options: &[&str], command: &[OsString]) -> Process {
    let mut client = support::command(python("python"));
    Process::start(client.arg(script("features.py")).args(options).args(command))
}

fn limits() -> Vec<&'static str> {
    LIMITS_OF_THE_PYTHON_PROXY.iter().flat_map(|feature| ["--without", feature]).collect()
}

/// Expects that no feature failed, and that the server's end in the middle of a call was told with our error.
fn all_ok(client: Process) {
    let output = succeed(client);
    let deaths = output.lines().filter(|line| line.starts_with("death: -32603 ")).count();
    assert!(deaths == 1 || output.contains("skip death"), "not our error\n{output}");
}

/// Expects that a program ends with success and returns what it wrote to stdout.
fn succeed(mut program: Process) -> String {
    let status = program.finish(LIMIT);
    assert!(status.success(), "{status}");
    String::from_utf8(program.stdout()).expect("text")
}

/// A program of the Python environment.
fn python(name: &str) -> PathBuf {
    PEERS.join("python/bin").join(name)
}

/// A file of `tests/peers`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// A `PATH` on which the installed Node.js and the Inspector come first.
fn node_path() -> OsString {
    let mut folders = vec![PEERS.join("node/node_modules/.bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).expect("a PATH of folders from a PATH")
}

/// Where the peers are, once they are installed.
static PEERS: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new("python3").arg(script("install.py")).output().expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).expect("a path");
    PathBuf::from(OsStr::new(path.trim_end()))
});
