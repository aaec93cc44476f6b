//! A remote server that goes away: what is open is answered, the session is begun again behind the client's back,
//! and nothing is sent twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::remote::{ACCEPTED, Connection, Remote, Request, answer, behave};
use support::{Process, SOON, free_address, proxy, undisturbed, wait_until};

/// Written as no library would write it.
const INITIALIZE: &str = r#"{ "id" : "\u0069d",  "method":"initialize","jsonrpc":"2.0", "params":{"n":1.0e0} }"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0",  "method":"notifications/initialized"}"#;

fn send(process: &mut Process, line: &str) {
    process.write(format!("{line}\n").as_bytes());
}

fn ask(process: &mut Process, id: u32, method: &str) {
    send(process, &request(id, method));
}

fn request(id: u32, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}

fn line(process: &Process, number: usize) -> Value {
    serde_json::from_slice(&process.lines(number)[number - 1]).unwrap()
}

/// A client with a session.
fn begin(remote: &Remote) -> Process {
    let mut process = Process::start(proxy().args(["--debug", &remote.url("/sse")]));
    send(&mut process, INITIALIZE);
    assert_eq!(line(&process, 1)["id"], "id");
    send(&mut process, INITIALIZED);
    let _ = remote.wait_for_posts(2);
    process
}

/// What the client got and no more.
fn lines(process: &mut Process) -> usize {
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0));
    process.stdout().split(|byte| *byte == b'\n').count() - 1
}

#[test]
fn a_broken_stream_costs_what_was_open_and_nothing_else() {
    let remote = Remote::mcp();
    let mut process = begin(&remote);
    ask(&mut process, 1, "hang");
    ask(&mut process, 2, "hang");
    let _ = remote.wait_for_posts(4);
    remote.event("data: {\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"roots/list\"}\n\n");
    assert_eq!(line(&process, 2)["id"], 77);
    remote.break_streams();
    for (number, id) in [(3, 1), (4, 2)] {
        let lost = line(&process, number);
        assert_eq!(lost["id"], id);
        assert_eq!(lost["error"]["code"], -32603);
        assert_eq!(lost["error"]["message"], format!("not answered: '{}' closed the stream", remote.url("/sse")));
    }
    remote.wait_for_streams(2);
    let posts = remote.wait_for_posts(6);
    assert_eq!(posts[4..6], [INITIALIZE, INITIALIZED], "byte for byte");
    send(&mut process, r#"{"jsonrpc":"2.0","id":77,"result":{"roots":[]}}"#);
    ask(&mut process, 3, "ping");
    assert_eq!(line(&process, 5)["id"], 3);
    assert_eq!(remote.posts().len(), 7, "nothing twice, and no answer to a question of the lost session");
    assert_eq!(lines(&mut process), 5, "the second answer to initialize is not the client's");
    assert!(process.stderr().contains("warning: the connection is lost: "), "{}", process.stderr());
}

#[test]
fn what_is_sent_meanwhile_waits_in_order() {
    static HOLD: AtomicUsize = AtomicUsize::new(0);
    // A POST that is slow is passed by others.
    undisturbed("not in order", || {
        HOLD.store(0, Ordering::Relaxed);
        let remote = Remote::start(|request, connection| {
            if request.line.starts_with("GET ") && connection.streams() == 1 {
                wait_until("the test", SOON, || HOLD.load(Ordering::Relaxed) == 1);
            }
            behave(request, connection);
        });
        let mut process = begin(&remote);
        remote.break_streams();
        process.wait_for_stderr("the connection is lost");
        for id in 0..50 {
            ask(&mut process, id, "late");
        }
        HOLD.store(1, Ordering::Relaxed);
        let answered: Vec<_> = (0..50).map(|id| line(&process, id + 2)["id"].as_u64().unwrap()).collect();
        let expected: Vec<_> =
            [INITIALIZE.into(), INITIALIZED.into()].into_iter().chain((0..50).map(|id| request(id, "late"))).collect();
        let posts = remote.posts().split_off(2);
        let is_in_order = posts == expected && answered == (0..50).collect::<Vec<_>>();
        if is_in_order { Ok(()) } else { Err(format!("{posts:?} {answered:?}")) }
    });
}

#[test]
fn a_waiting_request_does_not_wait_for_the_delay_and_retry_is_honoured() {
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("GET ") {
            return connection.stream("retry: 60000\nevent: endpoint\ndata: /m\n\n");
        }
        connection.write(ACCEPTED);
        connection.event(answer(&request.body).unwrap_or_default());
    });
    let mut process = begin(&remote);
    remote.break_streams();
    process.wait_for_stderr("the connection is lost");
    // Longer than our own first delay, shorter than the server's.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(remote.streams(), 1, "a minute is not over");
    let start = Instant::now();
    ask(&mut process, 1, "ping");
    assert_eq!(line(&process, 2)["result"]["did"], "ping");
    assert!(start.elapsed() < Duration::from_secs(45));
}

#[test]
fn a_server_that_is_away_for_a_while_is_found_again() {
    let remote = Remote::start_at(&free_address().to_string(), behave);
    let mut process = begin(&remote);
    remote.stop();
    process.wait_for_stderr("the connection is lost");
    process.wait_for_stderr("connection refused");
    ask(&mut process, 1, "ping");
    let refused = line(&process, 2);
    let expected = format!("cannot reach '{}': connection refused; is the server running?", remote.url("/sse"));
    assert_eq!((&refused["id"], &refused["error"]["message"]), (&Value::from(1), &Value::from(expected.clone())));
    let again = Remote::start_at(&remote.address().to_string(), behave);
    ask(&mut process, 2, "ping");
    wait_until("an answer", SOON, || {
        let number = process.stdout().split(|byte| *byte == b'\n').count() - 1;
        let last = line(&process, number);
        if last["result"]["did"] == "ping" {
            return true;
        }
        if number > 2 && last["error"].is_object() && again.streams() == 0 {
            ask(&mut process, 2 + u32::try_from(number).unwrap(), "ping"); // that attempt came too early
        }
        false
    });
    assert_eq!(again.posts()[..2], [INITIALIZE, INITIALIZED]);
    assert_eq!(
        process.stderr().matches(&format!("error: {expected}")).count(),
        1,
        "a failure is told once\n{}",
        process.stderr()
    );
}

#[test]
fn a_session_that_the_server_forgot_is_begun_again() {
    static POSTS: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("POST ") && POSTS.fetch_add(1, Ordering::Relaxed) == 2 {
            return connection.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        behave(request, connection);
    });
    let mut process = begin(&remote);
    ask(&mut process, 1, "ping");
    let lost = line(&process, 2);
    let message = lost["error"]["message"].as_str().unwrap();
    // Whichever of the two is found first: that the POST failed, or that the session is lost.
    let answered = format!("'{}' answered 404 Not Found", remote.url("/messages/"));
    assert!(message == answered || message == "not answered: the server no longer knows the session", "{message}");
    remote.wait_for_streams(2);
    ask(&mut process, 2, "ping");
    assert_eq!(line(&process, 3)["id"], 2);
    let expected = [INITIALIZE, INITIALIZED, &request(1, "ping"), INITIALIZE, INITIALIZED, &request(2, "ping")];
    assert_eq!(remote.posts(), expected);
}

#[test]
fn a_server_that_refuses_the_session_is_asked_less_and_less_often() {
    fn refuse_the_second(request: &Request, connection: &mut Connection<'_>) {
        if request.line.starts_with("POST ") && connection.streams() > 1 {
            connection.write(ACCEPTED);
            return connection
                .event("data: {\"jsonrpc\":\"2.0\",\"id\":\"id\",\"error\":{\"code\":1,\"message\":\"no\"}}\n\n");
        }
        behave(request, connection);
    }
    let remote = Remote::start(refuse_the_second);
    let mut process = begin(&remote);
    remote.break_streams();
    remote.wait_for_streams(3);
    ask(&mut process, 1, "ping");
    let refused = line(&process, 2);
    let expected = format!("not answered: '{}' refuses to begin the session again", remote.url("/sse"));
    assert_eq!((&refused["id"], &refused["error"]["message"]), (&Value::from(1), &Value::from(expected)));
    assert!(remote.posts()[2..].iter().all(|post| post == INITIALIZE), "{:?}", remote.posts());
    assert_eq!(lines(&mut process), 2);
}

#[test]
fn a_message_over_the_limit_costs_the_stream_so_that_its_request_is_answered() {
    let remote = Remote::start(|request, connection| {
        if !request.text().contains("big") {
            return behave(request, connection);
        }
        connection.write(ACCEPTED);
        let data = "x".repeat(5000);
        connection.event(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[\"{data}\"]}}\n\n"));
    });
    let mut process = Process::start(proxy().args(["--max-message-bytes", "4096", &remote.url("/sse")]));
    send(&mut process, INITIALIZE);
    assert_eq!(line(&process, 1)["id"], "id");
    ask(&mut process, 1, "big");
    let expected =
        format!("not answered: '{}' sent a message of 5038 bytes, over the limit of 4096", remote.url("/sse"));
    assert_eq!(line(&process, 2)["error"]["message"], expected);
    ask(&mut process, 2, "ping");
    assert_eq!(line(&process, 3)["id"], 2);
}

#[test]
fn a_connection_that_is_cut_anywhere_loses_no_answer() {
    let remote = Remote::mcp();
    let mut process = begin(&remote);
    for id in 0..30 {
        if id % 3 == 0 {
            remote.break_connections();
        }
        ask(&mut process, id, "ping");
    }
    wait_until("30 answers", SOON, || process.stdout().split(|byte| *byte == b'\n').count() > 31);
    let mut ids: Vec<_> = (2..32).map(|number| line(&process, number)["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..30).collect::<Vec<_>>(), "each is answered once");
    let posts = remote.posts();
    for id in 0..30 {
        assert!(posts.iter().filter(|post| **post == request(id, "ping")).count() <= 1, "{id} is sent once at most");
    }
    assert_eq!(lines(&mut process), 31);
}
