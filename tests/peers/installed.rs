//! The programs that the tests talk to: `install.py` installs them once, this finds them and starts them.

#![allow(dead_code, reason = "each test file uses a part of it")]

use super::support::{self, Process};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

/// How long a client may take for everything that it does.
pub const LIMIT: Duration = Duration::from_mins(5);

/// Where the peers are, once they are installed.
static PEERS: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new("python3").arg(script("install.py")).output().expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).expect("a path");
    PathBuf::from(OsStr::new(path.trim_end()))
});

/// The folder of everything that is installed.
pub fn peers() -> &'static Path {
    &PEERS
}

/// A program of the environment with version 1 of the Python SDK.
pub fn python(name: &str) -> PathBuf {
    PEERS.join("python/bin").join(name)
}

/// A program of the environment with version 2 of the Python SDK.
pub fn python_sdk2(name: &str) -> PathBuf {
    PEERS.join("python-sdk2/bin").join(name)
}

/// A program that npm installed, Node.js among them.
pub fn node(name: &str) -> PathBuf {
    PEERS.join("node/node_modules/.bin").join(name)
}

/// A `PATH` on which what npm installed comes first.
pub fn node_path() -> OsString {
    let mut folders = vec![PEERS.join("node/node_modules/.bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).expect("a PATH of folders from a PATH")
}

/// A file of `tests/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// A process that has imported an SDK, and forks for each script; it ends when its stdin does, with the test.
struct Forks {
    _process: Child,
    ask: [OsString; 5],
}

static FORKS_SDK1: LazyLock<Forks> = LazyLock::new(|| Forks::start(&python("python"), &["features", "feature_server"]));
static FORKS_SDK2: LazyLock<Forks> =
    LazyLock::new(|| Forks::start(&python_sdk2("python"), &["features", "dual_server"]));

impl Forks {
    fn start(python: &Path, modules: &[&str]) -> Self {
        let mut command = support::command(python);
        command.env("PYTHONWARNINGS", "ignore").arg(script("forked.py")).arg("serve").args(modules);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("Python starts");
        let mut socket = String::new();
        BufReader::new(process.stdout.take().expect("is piped")).read_line(&mut socket).expect("a line");
        let python_path = python.display();
        assert!(!socket.trim().is_empty(), "{python_path} cannot import {modules:?}; what it said is above");
        let ask = [python.into(), "-I".into(), "-S".into(), script("forked.py").into(), socket.trim_end().into()];
        Self { _process: process, ask }
    }

    fn command(&self, name: &str) -> Vec<OsString> {
        self.ask.iter().cloned().chain([script(name).into()]).collect()
    }
}

/// The command of a script on version 1 of the Python SDK.
pub fn sdk1(name: &str) -> Vec<OsString> {
    FORKS_SDK1.command(name)
}

/// The command of a script on version 2 of the Python SDK.
pub fn sdk2(name: &str) -> Vec<OsString> {
    FORKS_SDK2.command(name)
}

/// The command of one of our servers on the Python SDK, on stdio.
pub fn server(name: &str) -> Vec<OsString> {
    sdk1(name)
}

/// Runs one of our servers on the SDK's own HTTP server of this kind; `hosting.py` says what kinds there are.
pub fn hosted(name: &str, kind: &str) -> Process {
    run(&server(name), &[kind])
}

/// Starts a command with further words.
pub fn run(command: &[OsString], words: &[&str]) -> Process {
    Process::start(support::command(&command[0]).args(&command[1..]).args(words))
}

/// Runs our serve mode with `options` and `command` behind it, at any free port.
pub fn serve(options: &[&str], command: &[OsString]) -> Process {
    let mut proxy = support::proxy();
    Process::start(proxy.args(["--port", "0"]).args(options).arg("--").args(command))
}

/// The URL of what listens, once it does: programs like these take long to start on a busy machine.
pub fn url(server: &Process, path: &str) -> String {
    support::wait_until("a listening server", LIMIT, || support::listening(&server.stderr()).is_some());
    format!("http://{}{path}", server.address())
}

/// Expects that a program ends with success and returns what it wrote to stdout.
pub fn succeed(mut program: Process) -> String {
    let status = program.finish(LIMIT);
    assert!(status.success(), "{status}");
    String::from_utf8(program.stdout()).expect("text")
}
