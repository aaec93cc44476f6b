//! Listening elsewhere than on a port of ours: Unix sockets with their mode and owner, sockets that were opened for us,
//! several places at once. Everything works there as it does over TCP, and nothing of it is left or handed on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use support::client::{INITIALIZED, request};
use support::http::Http;
use support::{Folder, Process, SOON, command, descendants, program, proxy, wait_until};

const NEWEST: &str = "2025-11-25";

/// Offers the demo server at this socket.
fn start(socket: &Path, options: &[&str]) -> Process {
    let mut command = proxy();
    command.arg("--listen").arg(format!("unix:{}", socket.display())).args(["--stop-timeout", "1"]).args(options);
    Process::start(command.arg("--").arg(program()).arg("--demo"))
}

fn started(socket: &Path, options: &[&str]) -> Process {
    let process = start(socket, options);
    process.wait_for_stderr("listening on unix:");
    process
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn send(stream: &mut UnixStream, line: &str, headers: &[(&str, &str)], body: &str) {
    let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).unwrap();
}

/// One request on a connection of its own, and all of the answer.
fn ask(socket: &Path, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = connect(socket);
    send(&mut stream, line, &[headers, &[("Connection", "close")]].concat(), body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads until `text` is there.
fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(text) {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "ended without {text:?}: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(read).unwrap()
}

/// Reads an answer with a length.
fn answer_of(stream: &mut UnixStream) -> String {
    let begun = read_until(stream, "\r\n\r\n");
    let (head, body) = begun.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut rest = vec![0; length.parse::<usize>().unwrap() - body.len()];
    stream.read_exact(&mut rest).unwrap();
    begun + &String::from_utf8(rest).unwrap()
}

fn initialize() -> String {
    let params =
        format!(r#"{{"protocolVersion":"{NEWEST}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}"#);
    request(1, "initialize", &params)
}

/// Begins a session and gives its id.
fn begin(socket: &Path) -> String {
    let answer = ask(socket, "POST /mcp", &[("Accept", "application/json, text/event-stream")], &initialize());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("serverInfo"), "{answer}");
    let line = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
    line.to_owned()
}

#[test]
fn sessions_and_streams_work_over_a_unix_socket() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let mut process = started(&socket, &["--keep-alive", "1"]);
    let shown = format!("listening on unix:{} (/sse and /mcp)\n", socket.display());
    assert!(process.stderr().contains(&shown), "{}", process.stderr());
    let session = begin(&socket);
    let known = [("Mcp-Session-Id", &*session), ("Accept", "application/json, text/event-stream")];
    assert!(ask(&socket, "POST /mcp", &known, INITIALIZED).starts_with("HTTP/1.1 202 "));
    // Two calls on one connection, one of them with a large message.
    let mut kept = connect(&socket);
    let large = "x".repeat(1 << 20);
    for text in ["small", &large] {
        let params = format!(r#"{{"name":"echo","arguments":{{"text":"{text}"}}}}"#);
        // A slow machine would make an event stream of it.
        let plain = [known[0], ("Accept", "application/json")];
        send(&mut kept, "POST /mcp", &plain, &request(2, "tools/call", &params));
        let answer = answer_of(&mut kept);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(text), "{}", &answer[..answer.len().min(300)]);
    }
    // A stream is kept alive by comments, and seen to go.
    let mut stream = connect(&socket);
    send(&mut stream, "GET /mcp", &[known[0], ("Accept", "text/event-stream")], "");
    read_until(&mut stream, "\r\n:");
    let streams = || ask(&socket, "GET /status", &[], "").contains("\"active_sse_connections\":1");
    assert!(streams());
    drop(stream);
    wait_until("the end of the stream", SOON, || !streams());
    assert!(ask(&socket, "DELETE /mcp", &known, "").starts_with("HTTP/1.1 204 "));
    // HTTP+SSE.
    let mut events = connect(&socket);
    send(&mut events, "GET /sse", &[], "");
    let endpoint = read_until(&mut events, "session_id=").split_once("data: ").unwrap().1.to_owned();
    let mut rest = endpoint.clone();
    if !rest.contains('\n') {
        rest.push_str(&read_until(&mut events, "\n"));
    }
    let endpoint = rest.lines().next().unwrap().trim().to_owned();
    assert!(ask(&socket, &format!("POST {endpoint}"), &[], &initialize()).starts_with("HTTP/1.1 202 "));
    read_until(&mut events, "serverInfo");
    drop(events);
    process.signal("TERM");
    assert!(process.finish(SOON).success(), "{}", process.stderr());
    assert!(!socket.exists());
}

#[test]
fn a_slow_client_is_cut_off() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let _process = started(&socket, &["--head-timeout", "1", "--body-timeout", "1", "--idle-timeout", "1"]);
    for (begun, wanted) in [
        ("GET /sta", "HTTP/1.1 408 "),
        ("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", "HTTP/1.1 408 "),
        ("", ""),
    ] {
        let mut stream = connect(&socket);
        stream.write_all(begun.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(wanted), "{begun:?}: {answer}");
    }
}

#[test]
fn the_file_has_the_mode_and_the_owner_that_are_said() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let us = fs::metadata(folder.path()).unwrap();
    let group = us.gid().to_string();
    let names = format!("{}:{}", us.uid(), us.gid());
    for (options, mode) in [
        (&[][..], 0o600),
        (&["--socket-mode", "0660"], 0o660),
        (&["--socket-mode", "666", "--socket-owner", &names], 0o666),
        (&["--socket-owner", &format!(":{group}")], 0o600),
    ] {
        let process = started(&socket, options);
        let found = fs::symlink_metadata(&socket).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!((found.permissions().mode() & 0o7777, found.uid(), found.gid()), (mode, us.uid(), us.gid()));
        assert!(ask(&socket, "GET /healthz", &[], "").starts_with("HTTP/1.1 200 "));
        drop(process); // killed: the file stays, and the next one of us replaces it
        assert!(socket.exists());
    }
    if us.uid() == 0 {
        let _process = started(&socket, &["--socket-owner", "nobody:12345", "--socket-mode", "0640"]);
        let found = fs::symlink_metadata(&socket).unwrap();
        assert_eq!((found.uid(), found.gid(), found.permissions().mode() & 0o777), (65534, 12345, 0o640));
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let shown = socket.display();
    let fails = |why: &str| {
        let mut process = start(&socket, &[]);
        assert_eq!(process.finish(SOON).code(), Some(1));
        assert_eq!(process.stderr(), format!("mcp-proxy: cannot listen on 'unix:{shown}': {why}\n"));
    };
    let first = started(&socket, &[]);
    fails("somebody listens there already");
    assert!(ask(&socket, "GET /healthz", &[], "").starts_with("HTTP/1.1 200 "));
    // Another one took our place: its file is not removed with us.
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    first.signal("TERM");
    wait_until("its end", SOON, || !support::alive(first.id()));
    assert!(socket.exists());
    drop(other);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "precious").unwrap();
    fails("a file is there that is no socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    fails("a file is there that is no socket");
    let nowhere = folder.path().join("nowhere/mcp.sock");
    let mut process = start(&nowhere, &[]);
    assert_eq!(process.finish(SOON).code(), Some(1));
    assert!(process.stderr().ends_with("No such file or directory\n"), "{}", process.stderr());
}

#[test]
fn a_start_that_fails_later_leaves_no_file() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let mut command = proxy();
    let mut process =
        Process::start(command.arg("--listen").arg(format!("unix:{}", socket.display())).arg("no-such-program"));
    assert_eq!(process.finish(SOON).code(), Some(127));
    assert!(!socket.exists());
}

#[test]
fn several_places_at_once() {
    let folder = Folder::new();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let second = format!("unix:{}", two.display());
    let process = started(&one, &["--listen", &second, "--port", "0", "--listen", "localhost:0"]);
    wait_until("four places", SOON, || process.stderr().matches("listening on").count() >= 4);
    for socket in [&one, &two] {
        assert!(ask(socket, "GET /healthz", &[], "").starts_with("HTTP/1.1 200 "));
    }
    let addresses: Vec<_> =
        process.stderr().lines().filter_map(|line| support::listening(&format!("{line}\n"))).collect();
    assert!(addresses.len() >= 2 && addresses.iter().any(|address| address.starts_with("127.0.0.1:")));
    for address in addresses {
        let mut http = Http::connect(&address);
        http.path = "/healthz".into();
        http.send("GET", &[], "");
        assert_eq!(http.answer().head.status, 200, "{address}");
    }
}

#[test]
fn a_peer_without_an_address_is_trusted_if_it_is_said() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    for (options, wanted) in [
        (&["--base-path", "/b"][..], "data: /b/messages/"),
        (&["--base-path", "/b", "--trusted-proxy", "0.0.0.0/0", "--trusted-proxy", "::/0"], "data: /b/messages/"),
        (&["--base-path", "/b", "--trusted-proxy", "unix"], "data: /a/messages/"),
    ] {
        let _process = started(&socket, options);
        let mut events = connect(&socket);
        send(&mut events, "GET /sse", &[("X-Forwarded-Prefix", "/a")], "");
        let read = read_until(&mut events, "session_id=");
        assert!(read.contains(wanted), "{read}");
    }
}

#[test]
fn tokens_and_hosts_are_asked_for_there_too() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let tokens = folder.file("tokens", "a-token-of-sixteen\n");
    let _process = started(&socket, &["--auth-token-file", tokens.to_str().unwrap(), "--allow-host", "localhost"]);
    assert!(ask(&socket, "GET /status", &[], "").starts_with("HTTP/1.1 401 "));
    let token = ("Authorization", "Bearer a-token-of-sixteen");
    assert!(ask(&socket, "GET /status", &[token], "").starts_with("HTTP/1.1 200 "));
    let mut stream = connect(&socket);
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_until(&mut stream, "\r\n").starts_with("HTTP/1.1 403 "));
}

/// Opens sockets, puts them from descriptor 3 on and becomes the proxy, as systemd does. One more descriptor is left
/// open that is nobody's.
const ACTIVATE: &str = r#"
import os, socket, sys
path, wanted, *words = sys.argv[1:]
sockets = []
for kind in wanted.split(","):
    if kind == "tcp":
        sockets.append(socket.create_server(("127.0.0.1", 0)))
    elif kind == "unix":
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(path)
        sockets[-1].listen()
    elif kind == "deaf":
        sockets.append(socket.socket(socket.AF_INET))
high = [os.dup(s.fileno()) for s in sockets]
high = [__import__("fcntl").fcntl(fd, 0, 50) for fd in high]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.dup2(os.open("/etc/passwd", os.O_RDONLY), 40)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(wanted.count(",") + 1), LISTEN_FDNAMES="x")
os.execv(words[0], words)
"#;

fn activated(socket: &Path, wanted: &str, words: &[&str]) -> Process {
    let mut python = command("python3");
    Process::start(python.args(["-c", ACTIVATE]).arg(socket).arg(wanted).arg(program()).args(words))
}

/// A server that says which descriptors and variables it has, and answers nothing.
const LISTS: &str =
    "ls -l /proc/self/fd | sed 's/^/fd: /' >&2; env | sed 's/^/env: /' >&2; echo all said >&2; cat >/dev/null";

#[test]
fn sockets_that_were_opened_for_us_are_used_and_not_handed_on() {
    let folder = Folder::new();
    for (number, options) in [&["--pass-environment"][..], &["--pass-environment", "--shared"]].into_iter().enumerate()
    {
        let socket = folder.path().join(format!("mcp-{number}.sock"));
        let process = activated(&socket, "tcp,unix", &[options, &["--", "sh", "-c", LISTS]].concat());
        process.wait_for_stderr("all said");
        let address = process.address();
        wait_until("both places", SOON, || process.stderr().matches("listening on").count() == 2);
        let mut http = Http::connect(&address);
        http.path = "/healthz".into();
        http.send("GET", &[], "");
        assert_eq!(http.answer().head.status, 200);
        assert!(ask(&socket, "GET /healthz", &[], "").starts_with("HTTP/1.1 200 "));
        assert_descriptors(&process.stderr());
        assert!(!process.stderr().contains("env: LISTEN_"), "{}", process.stderr());
        // It was made by somebody else.
        process.signal("TERM");
        wait_until("its end", SOON, || !support::alive(process.id()));
        assert!(socket.exists());
    }
}

/// Each server had its three pipes, and what `ls` opened, and nothing else.
fn assert_descriptors(stderr: &str) {
    let lines: Vec<&str> = stderr.lines().filter_map(|line| line.split_once("fd: ").map(|(_, rest)| rest)).collect();
    let seen: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(left, to)| (left.rsplit(' ').next().unwrap(), to))
        .collect();
    assert!(seen.len() >= 4, "{stderr}");
    for (fd, to) in seen {
        let is_own = matches!(fd, "0" | "1" | "2") && to.starts_with("pipe:") || to.starts_with("/proc/");
        assert!(is_own, "descriptor {fd} is {to}\n{stderr}");
    }
}

#[test]
fn no_descriptor_of_ours_is_handed_on() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let config = folder.path().join("servers.json");
    let tokens = folder.file("tokens", "a-token-of-sixteen\n");
    let entry = |name: &str| format!(r#""{name}": {{"command": "sh", "args": ["-c", {}]}}"#, serde_json::json!(LISTS));
    for options in [&[][..], &["--shared"], &["--stateless"]] {
        fs::write(&config, format!(r#"{{"mcpServers": {{{}}}}}"#, entry("one"))).unwrap();
        let words = ["--port", "0", "--named-server-config", config.to_str().unwrap()];
        let listen = format!("unix:{}", socket.display());
        let more = ["--listen", &listen, "--auth-token-file", tokens.to_str().unwrap()];
        let process = activated(&folder.path().join("other"), "tcp", &[&words, &more[..], options].concat());
        process.wait_for_stderr("one: all said");
        // Connections and streams are open while the next servers start.
        let token = ("Authorization", "Bearer a-token-of-sixteen");
        let mut held: Vec<_> = (0..3).map(|_| connect(&socket)).collect();
        for stream in &mut held {
            send(stream, "GET /servers/one/sse", &[token], "");
            read_until(stream, "session_id=");
        }
        fs::write(&config, format!(r#"{{"mcpServers": {{{}, {}}}}}"#, entry("one"), entry("two"))).unwrap();
        process.signal("HUP");
        process.wait_for_stderr("two: all said");
        assert_descriptors(&process.stderr());
        assert!(!process.stderr().contains("env: LISTEN_"));
    }
}

#[test]
fn what_was_opened_for_us_must_be_a_socket_that_listens() {
    let socket = PathBuf::from("/nowhere");
    let mut process = activated(&socket, "deaf", &["cat"]);
    assert_eq!(process.finish(SOON).code(), Some(1));
    assert_eq!(process.stderr(), "mcp-proxy: variable 'LISTEN_FDS': descriptor 3 is no socket that listens\n");
    let mut command = proxy();
    let mut process = Process::start(
        command.args(["--port", "0", "--"]).arg(program()).arg("--demo").env("LISTEN_FDS", "1").env("LISTEN_PID", "1"),
    );
    let _ = process.address(); // it was opened for another one
    process.signal("TERM");
    assert!(process.finish(SOON).success());
}

#[test]
fn a_url_is_served_at_a_unix_socket() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let remote = support::remote::Remote::start(support::streamable::behave);
    let mut command = proxy();
    let listen = format!("unix:{}", socket.display());
    let mut process = Process::start(command.args(["--listen", &listen]).arg(remote.url("/mcp")));
    process.wait_for_stderr("listening on unix:");
    let answer = ask(&socket, "POST /mcp", &[], &initialize());
    assert!(answer.contains("2025-06-18"), "{answer}");
    process.signal("INT");
    assert!(process.finish(SOON).success());
    assert!(!socket.exists() && descendants(process.id()).is_empty());
}

/// Listens at a path and fills the queue of those who wait to be accepted.
const BUSY: &str = r#"
import socket, sys, time
owner = socket.socket(socket.AF_UNIX)
owner.bind(sys.argv[1])
owner.listen(1)
waiting = []
try:
    while True:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect(sys.argv[1])
except BlockingIOError:
    print("full", flush=True)
time.sleep(1000)
"#;

#[test]
fn a_busy_socket_is_somebodys_and_costs_no_time() {
    let folder = Folder::new();
    let socket = folder.path().join("mcp.sock");
    let busy = Process::start(command("python3").args(["-c", BUSY]).arg(&socket));
    assert_eq!(busy.lines(1), [b"full\n"]);
    let mut process = start(&socket, &[]);
    assert_eq!(process.finish(SOON).code(), Some(1));
    assert!(process.stderr().ends_with("somebody listens there already\n"), "{}", process.stderr());
}
