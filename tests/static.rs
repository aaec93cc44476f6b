//! The static binary that `make static` gives needs nothing: no loader, no library, no file. Both modes run in an
//! empty folder as their root, as PID 1 too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the size of the binary")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use support::client::{INITIALIZED, initialize, request};
use support::namespace::{behind, chroot};
use support::{Folder, Process, SOON, alive, descendants, kill, wait_until};

/// Builds it, once.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/static/build");
        let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "{script} failed: {}", built.status);
        PathBuf::from(String::from_utf8(built.stdout).unwrap().lines().last().unwrap())
    })
}

/// A folder that holds nothing but the binary.
fn empty_root() -> Folder {
    let folder = Folder::new();
    fs::copy(binary(), folder.path().join("mcp-proxy")).unwrap();
    folder
}

/// The binary in `root`, which is its root folder, with nothing in its environment.
fn inside(root: &Folder, kinds: &[&str], args: &[&str]) -> Process {
    let mut command = Command::new("/mcp-proxy");
    command.args(args);
    let words = chroot(root.path().to_str().unwrap(), kinds);
    Process::start(&mut behind(&words, &command))
}

#[test]
fn nothing_is_loaded_with_it() {
    let bytes = fs::read(binary()).unwrap();
    let found = needs(&bytes);
    assert!(found.is_empty(), "the binary is not static: {found:?}");
    println!("{} bytes", bytes.len());
    assert!(bytes.len() < 5_000_000, "{} bytes", bytes.len());
}

#[test]
fn what_is_loaded_with_an_ordinary_binary_is_found() {
    let found = needs(&fs::read("/bin/sh").unwrap());
    assert!(found.contains(&"a loader") && found.contains(&"a library"), "{found:?}");
}

#[test]
fn both_modes_run_in_an_empty_folder() {
    let (here, there) = (empty_root(), empty_root());
    let serve = inside(&here, &[], &["--port", "0", "--", "/mcp-proxy", "--demo"]);
    let port = serve.address().rsplit_once(':').unwrap().1.to_owned();
    let mut connect = inside(&there, &[], &[&format!("http://localhost:{port}/sse")]);
    talk(&mut connect);
    connect.close_stdin();
    assert_eq!(connect.wait(SOON).code(), Some(0), "{}", connect.report());
    stop(serve);
}

#[test]
fn it_is_pid_1_of_an_empty_container() {
    let (here, there) = (empty_root(), empty_root());
    let container = &["--pid", "--fork", "--mount"];
    let serve = inside(&here, container, &["--port", "0", "--", "/mcp-proxy", "--demo"]);
    let address = serve.address();
    let mut connect = inside(&there, container, &[&format!("http://{address}/sse")]);
    talk(&mut connect);
    connect.close_stdin();
    assert_eq!(connect.wait(SOON).code(), Some(0), "{}", connect.report());
    stop(serve);
}

/// A short conversation through both modes with the demo server.
fn talk(connect: &mut Process) {
    let call = request(3, "tools/call", r#"{"name":"echo","arguments":{"text":"over the wall"}}"#);
    let list = request(2, "tools/list", "{}");
    connect.write(format!("{}\n{INITIALIZED}\n{list}\n{call}\n", initialize(1)).as_bytes());
    let answers = connect.lines(3);
    for (id, holds) in [(1, "\"serverInfo\""), (2, "\"tools\""), (3, "over the wall")] {
        let mut texts = answers.iter().map(|answer| String::from_utf8_lossy(answer));
        let answer =
            texts.find(|text| text.contains(&format!("\"id\":{id},")) || text.contains(&format!("\"id\":{id}}}")));
        assert!(answer.is_some_and(|text| text.contains(holds)), "{holds}: {}", connect.report());
    }
}

/// Stops the proxy itself, which may be a child of what we started.
fn stop(mut serve: Process) {
    let below = descendants(serve.id());
    let is_proxy = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("mcp-proxy"));
    let proxy = [serve.id()].into_iter().chain(below.clone()).find(is_proxy).expect("the proxy runs");
    kill("TERM", &proxy.to_string());
    assert_eq!(serve.wait(Duration::from_secs(8)).code(), Some(0), "{}", serve.report());
    wait_until("nothing is left", Duration::from_secs(1), || !below.iter().any(|pid| alive(*pid)));
}

/// What an ELF binary of 64 bits, little endian, wants loaded with it.
fn needs(elf: &[u8]) -> Vec<&'static str> {
    const INTERP: usize = 3;
    const DYNAMIC: usize = 2;
    const NEEDED: usize = 1;
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "not such a binary");
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let mut found = Vec::new();
    for header in (0..count).map(|index| table + index * size) {
        let (start, length) = (number(header + 8, 8), number(header + 32, 8));
        match number(header, 4) {
            INTERP => found.push("a loader"),
            DYNAMIC if (start..start + length).step_by(16).any(|entry| number(entry, 8) == NEEDED) => {
                found.push("a library");
            }
            _ => {}
        }
    }
    found
}
