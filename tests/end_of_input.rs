//! Every way to stop the connect mode: the client that started us closes our stdin, or sends a signal. It allows
//! about two seconds; we are gone after at most one and a half, whatever the remote server does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "how long each way took")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use support::client::{INITIALIZED, initialize, request};
use support::namespace::in_own_network;
use support::remote::{ACCEPTED, Remote};
use support::served::{Served, group};
use support::{Process, SOON, free_address, in_time, program, proxy, wait_until};

/// From the end of input to our end.
const BOUND: Duration = Duration::from_millis(1500);
/// What a busy machine may add to a bound, once in a while.
const SLACK: Duration = Duration::from_millis(700);

/// The ways to stop.
const WAYS: [&str; 4] = ["end of input", "TERM", "INT", "HUP"];

/// A remote server that is none: it accepts connections and answers each by its first line. What it holds open
/// stays open until the test ends.
fn remote(answer: fn(&str, &mut TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || hold(stream, answer));
        }
    });
    format!("http://{address}/sse")
}

fn hold(mut stream: TcpStream, answer: fn(&str, &mut TcpStream)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer(&String::from_utf8_lossy(&buffer[..count]), &mut stream);
    }
}

fn nothing(_: &str, _: &mut TcpStream) {}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

fn a_stream_without_endpoint(request: &str, stream: &mut TcpStream) {
    if request.starts_with("GET ") {
        let _ = stream.write_all(STREAM.as_bytes());
    }
}

fn an_endpoint_without_answers(request: &str, stream: &mut TcpStream) {
    if request.starts_with("GET ") {
        let _ = write!(stream, "{STREAM}event: endpoint\ndata: /messages/?session_id=1\n\n");
    }
}

fn a_session_and_then_nothing(request: &str, stream: &mut TcpStream) {
    if request.contains("\"initialize\"") {
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s\r\n";
        let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
    } else if request.starts_with("POST ") {
        let _ = stream.write_all(STREAM.as_bytes());
    }
}

fn a_post_without_answer(request: &str, stream: &mut TcpStream) {
    if request.starts_with("POST ") {
        let _ = write!(stream, "{STREAM}id: 1\nretry: 600000\ndata:\n\n");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

fn accepted_and_forgotten(request: &str, stream: &mut TcpStream) {
    an_endpoint_without_answers(request, stream);
    if request.starts_with("POST ") {
        let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    }
}

/// Stops what `start` has started in the given way; checks status and time, and that each request got an answer before
/// the end.
fn stops(name: &str, start: impl Fn() -> Process, way: &str, requests: usize) {
    let stop = || {
        let mut process = start();
        wait_until("signals are caught", SOON, || catches_signals(process.id()));
        let start = Instant::now();
        match way {
            "end of input" => process.close_stdin(),
            signal => process.signal(signal),
        }
        let status = process.wait(SOON);
        let took = start.elapsed();
        println!("{:>5} ms  {way}, {name}", took.as_millis());
        assert_eq!(status.code(), Some(0), "{way}, {name}: {status}\n{}", process.report());
        let answers = process.lines(requests);
        for (id, answer) in (1..).zip(&answers) {
            let text = String::from_utf8_lossy(answer);
            assert!(text.contains(&format!("\"id\":{id}")), "{way}, {name}: {text}");
        }
        took
    };
    in_time(&format!("{way}, {name}"), BOUND + SLACK, stop);
}

/// Whether the process has come so far that HUP, INT and TERM do not end it by themselves.
fn catches_signals(pid: u32) -> bool {
    const STOP: u64 = 1 << 0 | 1 << 1 | 1 << 14;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & STOP == STOP)
}

/// Runs all rows in all ways.
fn each_way<T: Sync>(rows: &[T], check: impl Fn(&T, &str) + Sync) {
    let check = &check;
    for row in rows {
        thread::scope(|scope| WAYS.iter().for_each(|way| drop(scope.spawn(move || check(row, way)))));
    }
}

fn connect(url: &str) -> Process {
    Process::start(proxy().arg(url))
}

/// One that was sent these lines.
fn told(url: &str, lines: &[String]) -> Process {
    let mut process = connect(url);
    process.write(format!("{}\n", lines.join("\n")).as_bytes());
    process
}

#[test]
fn a_black_hole_does_not_hold_us_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel accepts, nobody else does
    let closed = free_address();
    let rows = [
        ("a remote that accepts in the kernel only", format!("http://{}/sse", silent.local_addr().unwrap())),
        ("a remote that is not there", format!("http://{closed}/sse")),
        ("a remote that reads and is silent", remote(nothing)),
        ("a stream without endpoint", remote(a_stream_without_endpoint)),
        ("a POST that is never answered", remote(an_endpoint_without_answers)),
        ("a request that is never answered", remote(accepted_and_forgotten)),
        ("a TLS handshake that is never answered", remote(nothing).replace("http:", "https:")),
    ];
    let mcp = |answer| remote(answer).replace("/sse", "/mcp");
    let rows = rows.into_iter().chain([
        ("Streamable HTTP that is silent", mcp(nothing)),
        ("a session and then nothing, not even for a DELETE", mcp(a_session_and_then_nothing)),
        ("a stream that is asked for again much later", mcp(a_post_without_answer)),
    ]);
    each_way(&rows.collect::<Vec<_>>(), |(name, url), way| {
        stops(&format!("{name}, nothing sent"), || connect(url), way, 0);
        let asks = || told(url, &[initialize(1), request(2, "tools/list", "{}")]);
        stops(name, asks, way, if way == "end of input" { 2 } else { 0 });
    });
}

#[test]
fn a_connection_that_is_never_made_does_not_hold_us_up() {
    if !in_own_network("a_connection_that_is_never_made_does_not_hold_us_up") {
        return;
    }
    std::fs::write("/proc/sys/net/core/somaxconn", "1").unwrap();
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let soon = Duration::from_millis(300);
    let waiting: Vec<TcpStream> = (0..10).map_while(|_| TcpStream::connect_timeout(&address, soon).ok()).collect();
    assert!(waiting.len() < 10, "the listener takes more than it should");
    each_way(&[format!("http://{address}/sse")], |url, way| {
        let asks = || told(url, &[initialize(1)]);
        stops("a connection that is never made", asks, way, usize::from(way == "end of input"));
    });
}

#[test]
fn a_call_under_way_does_not_hold_us_up() {
    let script = "read -r line; id=${line#*'\"id\":'}; echo $$ >$HERE/pid-${id%%,*}; cat >/dev/null";
    each_way(&[()], |(), way| {
        let served = Served::script(&[], script);
        let calls = || {
            let _ = std::fs::remove_file(served.folder().join("pid-1"));
            let process = told(&format!("http://{}/sse", served.address()), &[initialize(1)]);
            let _ = served.number("pid-1");
            process
        };
        stops("a call under way", calls, way, 1);
        let leader = served.number("pid-1");
        wait_until("the server is gone", SOON, || group(leader).is_empty());
    });
}

#[test]
fn a_remote_that_went_away_does_not_hold_us_up() {
    each_way(&[()], |(), way| {
        let demo = program().display().to_string();
        let left_alone = || {
            let served = Served::start(&[], &[&demo, "--demo"]);
            let mut process = told(&format!("http://{}/sse", served.address()), &[initialize(1)]);
            assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains("\"result\""));
            drop(served);
            process.write(format!("{}\n", request(2, "tools/list", "{}")).as_bytes());
            process
        };
        stops("a remote that went away", left_alone, way, if way == "end of input" { 2 } else { 1 });
    });
}

#[test]
fn a_client_that_does_not_read_does_not_hold_us_up() {
    let script = "read -r line; : >$HERE/ready; printf '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":\"'; \
                  head -c 3000000 /dev/zero | tr '\\0' x; echo '\"}}'; cat >/dev/null";
    let stop = |way: &str| {
        let served = Served::script(&[], script);
        let mut command = proxy();
        command.arg(format!("http://{}/sse", served.address())).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", initialize(1)).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 1000]).unwrap(); // it has come, and nobody reads on
        let start = Instant::now();
        match way {
            "end of input" => drop(stdin),
            signal => support::kill(signal, &child.id().to_string()),
        }
        let mut status = None;
        wait_until("the end", SOON, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let took = start.elapsed();
        println!("{:>5} ms  {way}, a client that does not read", took.as_millis());
        assert_eq!(status.unwrap().code(), Some(0), "{way}");
        took
    };
    for way in WAYS {
        in_time(way, BOUND + SLACK, || stop(way));
    }
}

#[test]
fn what_was_asked_before_the_end_of_input_is_answered() {
    let demo = program().display().to_string();
    let served = Served::start(&[], &[&demo, "--demo"]);
    let mut process = connect(&format!("http://{}/sse", served.address()));
    let call = request(3, "tools/call", r#"{"name":"echo","arguments":{"text":"last words"}}"#);
    let list = request(2, "tools/list", "{}");
    process.write(format!("{}\n{INITIALIZED}\n{list}\n{call}\n", initialize(1)).as_bytes());
    process.close_stdin();
    assert_eq!(process.wait(SOON).code(), Some(0), "{}", process.report());
    for answer in process.lines(3) {
        assert!(String::from_utf8_lossy(&answer).contains("\"result\""), "{}", process.report());
    }
}

#[test]
fn what_has_arrived_is_written_to_a_client_that_reads_late() {
    // The answer is here when the input ends, but longer than a pipe: it cannot be written before somebody reads.
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("GET ") {
            return connection.stream("event: endpoint\ndata: /messages/\n\n");
        }
        connection.write(ACCEPTED);
        let long = "x".repeat(1_000_000);
        connection.event(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"x\":\"{long}\"}}}}\n\n"));
    });
    let mut command = proxy();
    command.arg(remote.url("/sse")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", initialize(1)).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 1000];
    stdout.read_exact(&mut text).unwrap();
    drop(stdin);
    thread::sleep(Duration::from_millis(400)); // longer than the end of the proxy itself may take
    stdout.read_to_end(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.ends_with(b"\"}}\n"), "only {} bytes came", text.len());
}

#[test]
fn a_stdout_that_nobody_has_ends_us() {
    let demo = program().display().to_string();
    let served = Served::start(&[], &[&demo, "--demo"]);
    let mut command = proxy();
    command.arg(format!("http://{}/sse", served.address())).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", initialize(1)).unwrap();
    let mut status = None;
    wait_until("the end", SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().code().is_some(), "ended by a signal");
}
