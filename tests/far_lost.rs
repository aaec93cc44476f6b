//! A remote server that is offered here and goes: what was under way is answered with what happened, what comes
//! later finds it again, and nothing of a link is left when it has ended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::client::{Client, INITIALIZED, initialize, request};
use support::http::Http;
use support::puppet::Stage;
use support::remote::{self, Connection, Remote, Request};
use support::streamable::{self, respond};
use support::{Process, SOON, free_address, in_time, proxy, wait_until};

const NEWEST: &str = "2025-11-25";
const SHARINGS: [&[&str]; 3] = [&[], &["--shared"], &["--stateless"]];

/// A server that behaves over both transports, and knows no session that it has not begun.
fn behave(request: &Request, connection: &mut Connection<'_>) {
    let begun = || connection.requests().iter().any(|r| r.text().contains("\"initialize\""));
    if !request.line.contains("/mcp") {
        remote::behave(request, connection);
    } else if !request.header("mcp-session-id").is_empty() && !begun() {
        connection.write(respond("404 Not Found", "", ""));
    } else {
        streamable::behave(request, connection);
    }
}

fn front(url: &str, options: &[&str]) -> Process {
    Process::start(proxy().args(["--debug", "--port", "0"]).args(options).arg(url))
}

fn get(address: &str, path: &str) -> (u16, Value) {
    let mut http = Http::connect(address);
    path.clone_into(&mut http.path);
    http.send("GET", &[], "");
    let answer = http.answer();
    (answer.head.status, serde_json::from_str(&answer.body).unwrap())
}

fn threads(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().count()
}

#[test]
fn a_server_that_goes_and_comes_back() {
    for path in ["/mcp", "/sse"] {
        for options in SHARINGS {
            let what = format!("{path} {options:?}");
            let far = Remote::start_at(&free_address().to_string(), behave);
            let front = front(&far.url(path), options);
            let mut http = Http::connect(&front.address());
            http.begin(NEWEST);
            let mut slow = http.another();
            slow.send("POST", &[], &request(5, "hang", "{}"));
            wait_until("the call is there", SOON, || far.posts().iter().any(|post| post.contains("\"hang\"")));
            far.stop();
            let answer = slow.answer();
            let error = &answer.messages()[0];
            assert!(error.contains(r#""id":5,"error""#), "{what}: {answer:?}");
            let expected = if path == "/mcp" { "closed the connection without an answer" } else { "the stream" };
            assert!(error.contains(expected) && error.contains(&far.url(path)), "{what}: {answer:?}");

            let again = Remote::start_at(&far.address().to_string(), behave);
            if options.is_empty() && path == "/sse" {
                // The session was that of the stream.
                assert_eq!(http.post(&request(6, "x", "{}")).head.status, 404, "{what}");
                http = Http::connect(&front.address());
                http.begin(NEWEST);
            }
            wait_until(&format!("{what}: it answers again"), SOON, || {
                http.post(&request(6, "x", "{}")).body.contains(r#""id":6,"result""#)
            });
            assert_eq!(get(&front.address(), "/healthz").0, 200, "{what}");
            let initializations = again.posts().iter().filter(|post| post.contains("\"initialize\"")).count();
            assert_eq!(initializations, 1, "{what}");
            assert!(!front.stderr().contains("panicked"), "{what}: {}", front.report());
        }
    }
}

#[test]
fn a_client_over_http_with_sse_learns_how_its_server_ended() {
    for path in ["/mcp", "/sse"] {
        let far = Remote::start(behave);
        let front = front(&far.url(path), &[]);
        let client = Client::open(&front.address());
        for message in [&initialize(1), INITIALIZED, &request(2, "hang", "{}"), &request(3, "hang", "{}")] {
            assert_eq!(client.post(message), 202);
        }
        let hanging = || far.posts().iter().filter(|post| post.contains("\"hang\"")).count();
        wait_until("both calls are there", SOON, || hanging() == 2);
        far.stop();
        for id in [2, 3] {
            let error = client.message(&format!(r#""id":{id},"error""#));
            assert!(error.contains(&far.url(path)), "{error}");
        }
        if path == "/sse" {
            client.wait_for_end(SOON);
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_told_and_looked_for_again() {
    for path in ["/mcp", "/sse"] {
        for options in SHARINGS {
            let what = format!("{path} {options:?}");
            let address = free_address();
            let front = front(&format!("http://{address}{path}"), options);
            let answer = Http::connect(&front.address()).post(&initialize(1));
            let expected = "connection refused; is the server running?";
            assert!(answer.body.contains("\"error\"") && answer.body.contains(expected), "{what}: {answer:?}");
            wait_until(&format!("{what}: the status tells"), SOON, || {
                let (_, status) = get(&front.address(), "/status");
                status["servers"]["default"]["last_error"].as_str().is_some_and(|why| why.contains(expected))
                    && status["sessions"] == 0
            });
            let _far = Remote::start_at(&address.to_string(), behave);
            wait_until(&format!("{what}: it is found"), SOON, || {
                let answer = Http::connect(&front.address()).post(&initialize(1));
                answer.body.contains(r#""id":1,"result""#)
            });
            wait_until(&format!("{what}: all is well"), SOON, || get(&front.address(), "/healthz").0 == 200);
        }
    }
}

#[test]
fn a_cancelled_call_is_cancelled_there() {
    for path in ["/mcp", "/sse"] {
        for options in &SHARINGS[..2] {
            let stage = Stage::open(&[]);
            let front = front(&format!("http://{}{path}", stage.address()), options);
            let mut http = Http::connect(&front.address());
            http.begin(NEWEST);
            let mut slow = http.another();
            slow.send("POST", &[], &request(7, "tools/call", r#"{"name":"slow"}"#));
            let puppet = stage.puppet("\"slow\"");
            let call: Value = serde_json::from_str(&puppet.gets("\"slow\"")).unwrap();
            let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
            assert_eq!(http.post(cancel).head.status, 202);
            let cancelled: Value = serde_json::from_str(&puppet.gets("notifications/cancelled")).unwrap();
            assert_eq!(cancelled["params"]["requestId"], call["id"], "{path} {options:?}");
        }
    }
}

#[test]
fn nothing_is_left_of_links_that_have_ended() {
    for path in ["/mcp", "/sse"] {
        let far = Remote::start(behave);
        let mut front = front(&far.url(path), &["--session-idle", "1"]);
        let address = front.address();
        let before = threads(&front);
        let mut all: Vec<_> = (0..10).map(|_| Http::connect(&address)).collect();
        for (number, http) in all.iter_mut().enumerate() {
            http.send("POST", &[], &initialize(1));
            // Over HTTP+SSE this server answers over the newest stream.
            let answer = http.answer();
            assert!(answer.body.contains("\"result\""), "{path} {number}: {answer:?}");
            http.session = answer.head.get("mcp-session-id").map(str::to_owned);
            http.send("POST", &[], &request(2, "hang", "{}"));
        }
        let hanging = || far.posts().iter().filter(|post| post.contains("\"hang\"")).count();
        wait_until("all calls are there", SOON, || hanging() == 10);
        for (number, http) in all.iter_mut().enumerate() {
            match number {
                0..5 => {
                    let mut other = http.another();
                    other.send("DELETE", &[], "");
                    assert_eq!(other.answer().head.status, 204);
                    assert!(http.answer().body.contains("\"error\""));
                }
                _ => http.cut(), // a session without a stream ends when nobody has used it for long
            }
        }
        drop(all);
        wait_until("the end of all sessions", SOON, || get(&address, "/status").1["sessions"] == 0);
        // Some were not there yet when they were counted; each link had two of its own.
        wait_until("the end of their threads", SOON, || threads(&front) <= before + 4);
        if path == "/mcp" {
            assert_eq!(far.wait_for_ends(10).len(), 10, "each far session is ended once");
        }
        front.signal("TERM");
        assert_eq!(front.finish(SOON).code(), Some(0));
    }
}

#[test]
fn calls_under_way_do_not_hold_the_end() {
    for path in ["/mcp", "/sse"] {
        for options in SHARINGS {
            in_time(&format!("{path} {options:?}"), Duration::from_secs(2), || {
                let far = Remote::start(behave);
                let mut front = front(&far.url(path), options);
                let mut http = Http::connect(&front.address());
                http.begin(NEWEST);
                let mut slow = http.another();
                slow.send("POST", &[], &request(5, "hang", "{}"));
                wait_until("the call is there", SOON, || far.posts().iter().any(|post| post.contains("\"hang\"")));
                let start = Instant::now();
                front.signal("TERM");
                let answer = slow.answer();
                assert!(answer.messages()[0].contains("mcp-proxy is stopping"), "{path} {options:?}: {answer:?}");
                assert_eq!(front.finish(SOON).code(), Some(0));
                start.elapsed()
            });
        }
    }
}
