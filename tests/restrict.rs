//! `--restrict`: what is given up is gone, what is needed still works, and the log says which is which.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stderr, reason = "why a test shows nothing")]

mod support;

use mcp_proxy::system::sandbox::{confine, landlock_version, no_new_privileges};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use support::client::request;
use support::http::Http;
use support::remote::Remote;
use support::{Folder, Process, SOON, program, proxy, wait_until};

/// Whether new privileges are given up, for each thread of a process.
fn given_up(pid: u32) -> Vec<bool> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    status.map(|status| status.contains("NoNewPrivs:\t1")).collect()
}

/// The kernel's Landlock, unless this test can show nothing.
fn landlock() -> Option<u32> {
    let version = landlock_version();
    if version.is_none() {
        eprintln!("skipped: this kernel has no Landlock");
    }
    version
}

#[test]
fn what_is_given_up_is_gone() {
    let Some(version) = landlock() else { return };
    let folder = Folder::new();
    let (open, shut) = (folder.path().join("open"), folder.path().join("shut"));
    for part in [&open, &shut] {
        fs::create_dir(part).unwrap();
        fs::write(part.join("file"), "text").unwrap();
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    // Only this thread is bound.
    let bound = thread::spawn(move || {
        no_new_privileges().unwrap();
        confine(version, &[open.as_path(), Path::new("/nowhere")], &[&open]).unwrap();
        let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
        assert_eq!(fs::read_to_string(open.join("file")).unwrap(), "text");
        assert!(fs::read_to_string(shut.join("file")).is_err_and(denied));
        assert!(fs::read_to_string("/etc/passwd").is_err_and(denied));
        for part in [&open, &shut] {
            assert!(fs::write(part.join("file"), "x").is_err_and(denied));
            assert!(fs::write(part.join("new"), "x").is_err_and(denied));
            assert!(fs::create_dir(part.join("new")).is_err_and(denied));
            assert!(fs::rename(part.join("file"), part.join("other")).is_err_and(denied));
        }
        assert!(fs::remove_file(shut.join("file")).is_err_and(denied));
        fs::remove_file(open.join("file")).unwrap();
        assert!(Command::new("/bin/true").status().is_err_and(denied));
        if version >= 4 {
            assert!(TcpListener::bind("127.0.0.1:0").is_err_and(denied));
        }
        TcpStream::connect(server.local_addr().unwrap()).unwrap();
    });
    bound.join().unwrap();
}

#[test]
fn connecting_goes_on_as_before() {
    for (wish, remote, path) in [
        ("--restrict", Remote::mcp(), "/sse"),
        ("--restrict=possible", Remote::start(support::streamable::behave), "/mcp"),
        ("--restrict=all", Remote::mcp(), "/sse"),
    ] {
        if wish == "--restrict=all" && landlock().is_none_or(|version| version < 4) {
            continue;
        }
        let url = format!("http://localhost:{}{path}", remote.address().port());
        let mut process = Process::start(proxy().arg(wish).arg(url));
        process.write(format!("{}\n", request(1, "initialize", "{}")).as_bytes());
        assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains("result"));
        assert!(given_up(process.id()).iter().all(|given_up| *given_up));
        process.wait_for_stderr("restricted: no new privileges");
        assert_eq!(process.stderr().matches("restricted: no new privileges").count(), 1, "{}", process.stderr());
        if landlock_version().is_some() {
            process.wait_for_stderr("no program started, no file written");
        }
        process.close_stdin();
        assert_eq!(process.finish(SOON).code(), Some(0));
    }
}

#[test]
fn remote_servers_are_served_as_before() {
    let folder = Folder::new();
    let (tokens, sockets) = (folder.path().join("tokens"), folder.path().join("sockets"));
    fs::create_dir(&tokens).unwrap();
    fs::create_dir(&sockets).unwrap();
    fs::write(tokens.join("file"), "token-of-16-bytes\n").unwrap();
    let socket = sockets.join("mcp.sock");
    let remote = Remote::start(support::streamable::behave);
    let mut command = proxy();
    command.args(["--restrict", "--port", "0", "--listen", &format!("unix:{}", socket.display())]);
    let authority = folder.path().join("ca.pem");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls/ca.pem");
    fs::copy(ours, &authority).unwrap();
    command.arg("--verify-ssl").arg(authority);
    command.arg("--auth-token-file").arg(tokens.join("file")).arg(remote.url("/mcp"));
    let mut process = Process::start(&mut command);
    let address = process.address();
    let status = |token: &str| {
        let mut http = Http::connect(&address);
        http.path = "/status".into();
        http.send("GET", &[("Authorization", &format!("Bearer {token}"))], "");
        http.answer().head.status
    };
    assert_eq!(status("token-of-16-bytes"), 200);
    assert!(given_up(process.id()).iter().all(|given_up| *given_up));
    let mut http = Http::connect(&address);
    http.send("POST", &[("Authorization", "Bearer token-of-16-bytes")], &request(1, "initialize", "{}"));
    assert!(http.answer().body.contains("2025-06-18"));
    // The tokens are read again, and the socket is removed.
    fs::write(tokens.join("file"), "another-token-of-it\n").unwrap();
    process.signal("HUP");
    process.wait_for_stderr("was read again: 1 tokens");
    assert_eq!([status("token-of-16-bytes"), status("another-token-of-it")], [401, 200]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    process.signal("TERM");
    assert!(process.finish(SOON).success());
    assert!(!socket.exists(), "{}", process.stderr());
}

#[test]
fn local_servers_keep_their_files_and_lose_new_privileges() {
    let folder = Folder::new();
    let note = folder.path().join("note");
    let script = format!("grep NoNewPrivs /proc/self/status >{}; cat >/dev/null", note.display());
    let mut command = proxy();
    let process = Process::start(command.args(["--restrict", "--port", "0", "--", "sh", "-c", &script]));
    let read = || fs::read_to_string(&note).unwrap_or_default();
    wait_until("the server's note", SOON, || read().ends_with('\n'));
    assert_eq!(read(), "NoNewPrivs:\t1\n");
    process.wait_for_stderr(
        "restricted: no new privileges, for local servers too; files and programs are as open as before",
    );
    assert!(given_up(process.id()).iter().all(|given_up| *given_up));
}

#[test]
fn nothing_is_given_up_unasked() {
    let mut command = proxy();
    let process = Process::start(command.args(["--port", "0", "--"]).arg(program()).arg("--demo"));
    let _ = process.address();
    assert!(given_up(process.id()).iter().all(|given_up| !given_up));
    assert!(!process.stderr().contains("restricted"));
}

#[test]
fn who_insists_on_what_cannot_be_is_told() {
    let mut command = proxy();
    let mut process =
        Process::start(command.args(["--restrict=all", "--port", "0", "--"]).arg(program()).arg("--demo"));
    assert_eq!(process.finish(SOON).code(), Some(2));
    let told =
        "option '--restrict': 'all' goes with remote servers alone, because local ones would lose their files too";
    assert_eq!(process.stderr(), format!("mcp-proxy: {told}\n"));
}
