//! Memory that runs out under a limit that stays (`ulimit -v`, `ulimit -d`): new work is refused, what is under way goes
//! on, and the same process serves when others have given back what they had. `tests/faults.rs` takes memory away while
//! clients call.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use support::http::Http;
use support::served::Served;
use support::{SOON, program, wait_until};

/// Address space that is enough to begin, and for little more.
const SPACE_BYTES: usize = 64 << 20;
/// The same of memory that can be written.
const DATA_BYTES: usize = 48 << 20;
/// So many connections have more stacks than that.
const CONNECTIONS: usize = 300;
/// So many long messages at the same time need more than that.
const MESSAGES: usize = 8;
const MESSAGE_BYTES: usize = 3 << 20;

/// The proxy before the demo server, with this limit. Its allocator, glibc's, asks for no address space in advance.
fn limited(limit: &str) -> (Served, String) {
    let words = ["env", "MALLOC_ARENA_MAX=1", "prlimit", limit, "--"].map(str::to_owned);
    let program = program().display().to_string();
    let served = Served::start_behind(&words, &["--stateless"], &[&program, "--demo"]);
    let address = served.address();
    assert_eq!(status(&address, 10), Ok(200), "before");
    (served, address)
}

/// Calls `echo` with a text of so many bytes; the status, or how the connection broke. An answer that found no memory is
/// as good as a refusal.
fn status(address: &str, size: usize) -> Result<u16, ErrorKind> {
    let text = "x".repeat(size);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
    );
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
        Content-Type: application/json\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        let _ = stream.write_all(request.as_bytes()); // a refusal comes before all of it is written
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    };
    let answer = ask().map_err(|error: std::io::Error| error.kind())?;
    let digits = answer.get(9..12).ok_or(ErrorKind::UnexpectedEof)?;
    // Who finds no memory once it has been taken gets an error for its request.
    if answer.windows(8).any(|text| text == b"\"error\":") {
        return Ok(503);
    }
    let status = std::str::from_utf8(digits).unwrap().parse().unwrap();
    assert!(status != 200 || answer.len() > size, "an answer of {} bytes", answer.len());
    Ok(status)
}

/// It is the same process, and serves what is short and what is long.
fn recovers(served: &Served, address: &str, name: &str) {
    for size in [10, 1 << 20] {
        wait_until(&format!("{name}: {size} bytes are served\n{}", served.report()), SOON, || {
            status(address, size) == Ok(200)
        });
    }
    assert!(!served.report().contains("failed"), "{name}: {}", served.report());
}

#[test]
fn connections_take_all_memory() {
    for limit in [format!("--as={SPACE_BYTES}"), format!("--data={DATA_BYTES}")] {
        let (served, address) = limited(&limit);
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(TcpStream::connect(&address).unwrap()); // who finds no place in the queue waits here
        }
        wait_until("memory is short", SOON, || served.process.stderr().contains("Cannot allocate memory"));
        recovers(&served, &address, &limit); // those who only wait leave
        drop(open);
        recovers(&served, &address, &limit);
    }
}

#[test]
fn long_messages_take_all_memory() {
    for limit in [format!("--as={SPACE_BYTES}"), format!("--data={DATA_BYTES}")] {
        let (served, address) = limited(&limit);
        let mut refused = 0;
        for _ in 0..2 {
            let found: Vec<_> = thread::scope(|scope| {
                let asks: Vec<_> = (0..MESSAGES).map(|_| scope.spawn(|| status(&address, MESSAGE_BYTES))).collect();
                asks.into_iter().map(|ask| ask.join().unwrap()).collect()
            });
            for status in found {
                assert!(matches!(status, Ok(200 | 503)), "{limit}: {status:?}\n{}", served.report());
                refused += usize::from(status == Ok(503));
            }
        }
        assert!(refused > 0, "{limit}: there was memory for all of it");
        recovers(&served, &address, &limit);
    }
}

/// What the standard library would do for a stack that overflows takes memory that may not be there; see
/// `src/system/stacks.rs`.
#[test]
fn a_thread_needs_no_second_stack() {
    let (served, address) = limited("--as=unlimited");
    let mut http = Http::connect(&address);
    http.path = "/healthz".into();
    http.send("GET", &[], "");
    assert_eq!(http.answer().head.status, 200);
    let text = std::fs::read_to_string(format!("/proc/{}/status", served.process.id())).unwrap();
    for name in ["SigCgt:", "SigIgn:"] {
        let mask = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        for number in [libc::SIGSEGV, libc::SIGBUS] {
            assert_eq!(mask >> (number - 1) & 1, 0, "signal {number} has its default action: {name} {mask:x}");
        }
    }
}
