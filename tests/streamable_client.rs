//! Connect mode to servers that speak Streamable HTTP: sessions are kept and renewed, streams go on where they broke,
//! nothing is sent twice, and no call holds another.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::remote::{Remote, Request, behave as behave_sse};
use support::streamable::{
    Client, EVENTS, INITIALIZE, INITIALIZED, TAKEN, ask, behave, json, message, respond, result,
};
use support::{SOON, free_address, in_time, wait_until};

fn method(request: &Request) -> String {
    message(request)["method"].as_str().unwrap_or_default().to_owned()
}

fn gets(remote: &Remote) -> Vec<Request> {
    remote.requests().into_iter().filter(|r| r.line.starts_with("GET ")).collect()
}

#[test]
fn a_session_lives_from_its_initialize_to_our_end() {
    let remote = Remote::start(behave);
    let mut client = Client::begin(&remote, &["--api-access-token", "geheim"]);
    client.ask(1, "ping");
    assert_eq!(client.line(2)["result"]["did"], "ping");
    wait_until("the GET", SOON, || gets(&remote).len() == 1);
    assert_eq!(client.end(), 2);
    let _ = remote.wait_for_ends(1);
    let requests = remote.requests();
    let mut lines: Vec<_> = requests.iter().map(|r| r.line.as_str()).collect();
    let get = lines.iter().position(|line| *line == "GET /mcp").unwrap();
    lines.remove(get);
    assert_eq!(lines, ["POST /mcp", "POST /mcp", "POST /mcp", "DELETE /mcp"]);
    assert_eq!(remote.posts(), [INITIALIZE, INITIALIZED, &ask(1, "ping")], "byte for byte");
    for (number, request) in requests.iter().enumerate() {
        let expected = if number == 0 { ("", "") } else { ("s1", "2025-06-18") };
        assert_eq!((request.header("mcp-session-id"), request.header("mcp-protocol-version")), expected);
        assert_eq!(request.header("authorization"), "Bearer geheim");
        let (accept, content) = match &request.line[..3] {
            "POS" => ("application/json, text/event-stream", "application/json"),
            "GET" => ("text/event-stream", ""),
            _ => (request.header("accept"), ""),
        };
        assert_eq!((request.header("accept"), request.header("content-type")), (accept, content));
    }
    assert!(!client.0.stderr().contains("geheim") && !client.0.stderr().contains("s1"), "{}", client.0.stderr());
}

#[test]
fn an_answer_may_have_any_form() {
    let note = r#"{"jsonrpc":"2.0","method":"n"}"#;
    let remote = Remote::start(move |request, connection| {
        let answer = result(request);
        match &*method(request) {
            "json" => connection.write(json(&answer.replace(',', ",\r\n "))),
            "charset" => {
                connection.write(respond("200 OK", "content-type: Application/JSON; charset=UTF-8\r\n", &answer));
            }
            "array" => connection.write(json(&format!("[{note}, {answer}]"))),
            "events" => {
                connection.write(format!("{EVENTS}: hi\n\ndata: {note}\n\nid: 1\ndata: {answer}\n\n"));
                connection.close();
            }
            "length" => {
                let body = format!("data: {note}\n\ndata: {answer}\n\n");
                connection.write(respond("200 OK", "Content-Type: text/event-stream\r\n", &body));
            }
            "open" => connection.write(format!("{EVENTS}data: {note}\n\ndata: {answer}\n\n")),
            _ => behave(request, connection),
        }
    });
    let mut client = Client::begin(&remote, &[]);
    let mut number = 1;
    for (id, (method, lines)) in
        (0..).zip([("json", 1), ("charset", 1), ("array", 2), ("events", 2), ("length", 2), ("open", 2), ("json", 1)])
    {
        client.ask(id, method);
        number += lines;
        assert_eq!(client.line(number)["result"]["did"], method);
        if lines == 2 {
            assert_eq!(client.line(number - 1)["method"], "n");
        }
    }
    assert_eq!(client.end(), number);
}

#[test]
fn connections_are_used_again() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "events" => {
            let body = format!("data: {}\n\n", result(request));
            connection.write(respond("200 OK", "Content-Type: text/event-stream\r\n", &body));
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    for id in 0..20 {
        client.ask(id, if id % 2 == 0 { "json" } else { "events" });
        let _ = client.line(id as usize + 2);
    }
    // Now and then an answer is read before its connection is free again.
    assert!(remote.connections() <= 8, "{} connections", remote.connections());
}

#[test]
fn a_session_that_is_gone_is_begun_again_and_what_was_refused_is_sent_once_more() {
    let remote = Remote::start(|request, connection| {
        let lost = request.header("mcp-session-id") == "s1" && method(request) != "notifications/initialized";
        if lost && request.line.starts_with("POST ") && method(request) != "before" {
            return connection.write(respond("404 Not Found", "", "{}"));
        }
        behave(request, connection);
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(1, "before");
    assert_eq!(client.line(2)["result"]["did"], "before");
    client.ask(2, "after");
    assert_eq!(client.line(3)["result"]["did"], "after");
    let after = ask(2, "after");
    let expected = [INITIALIZE, INITIALIZED, &ask(1, "before"), &after, INITIALIZE, INITIALIZED, &after];
    assert_eq!(remote.posts(), expected);
    let sessions: Vec<_> = remote.requests().iter().map(|r| r.header("mcp-session-id").to_owned()).collect();
    assert_eq!(sessions.iter().filter(|id| id.is_empty()).count(), 2, "{sessions:?}");
    assert_eq!(client.end(), 3, "the second answer to initialize is not the client's");
    assert_eq!(remote.wait_for_ends(1)[0].header("mcp-session-id"), "s2");
}

#[test]
fn many_that_find_the_session_gone_begin_one() {
    let remote = Remote::start(|request, connection| {
        if request.header("mcp-session-id") == "s1" && method(request) == "many" {
            let all = || connection.requests().iter().filter(|r| r.text().contains("many")).count() >= 8;
            wait_until("all of them", SOON, all);
            return connection.write(respond("404 Not Found", "", ""));
        }
        behave(request, connection);
    });
    let mut client = Client::begin(&remote, &[]);
    (0..8).for_each(|id| client.ask(id, "many"));
    let mut ids: Vec<_> = (2..10).map(|number| client.line(number)["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    assert_eq!(remote.posts().iter().filter(|post| *post == INITIALIZE).count(), 2);
    assert_eq!(remote.posts().iter().filter(|post| *post == INITIALIZED).count(), 2);
    assert_eq!(remote.posts().len(), 4 + 16);
}

#[test]
fn some_servers_say_400_where_they_know_no_session() {
    static GONE: AtomicBool = AtomicBool::new(false);
    let remote = Remote::start(|request, connection| {
        if request.header("mcp-session-id") == "s1" && GONE.load(Ordering::SeqCst) {
            let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#;
            return connection.write(respond("400 Bad Request", "Content-Type: application/json\r\n", body));
        }
        behave(request, connection);
    });
    let mut client = Client::begin(&remote, &[]);
    GONE.store(true, Ordering::SeqCst);
    client.ask(1, "ping");
    assert_eq!(client.line(2)["result"]["did"], "ping");
}

#[test]
fn a_session_that_cannot_be_begun_again_is_explained_and_tried_again() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| match (&*method(request), request.header("mcp-session-id")) {
        ("initialize", _) => match BEGUN.fetch_add(1, Ordering::SeqCst) {
            1 => {
                let id = &message(request)["id"];
                connection
                    .write(json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"no"}}}}"#)));
            }
            2 => connection.write(respond("503 Busy", "", "")),
            _ => behave(request, connection),
        },
        ("ping", "s1") => connection.write(respond("404 Not Found", "", "")),
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(1, "ping");
    let why = client.error(2);
    assert_eq!(
        why,
        format!("the session is lost and does not begin again: '{}' refuses to begin the session", remote.url("/mcp"))
    );
    client.ask(2, "ping");
    let why = client.error(3);
    assert!(why.contains("does not begin again: ") && why.contains("503 Service Unavailable"), "{why}");
    client.ask(3, "ping");
    assert_eq!(client.line(4)["result"]["did"], "ping");
}

#[test]
fn a_stream_that_breaks_without_ids_costs_its_request_and_nothing_is_sent_twice() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "cut" => {
            connection.write(format!("{EVENTS}retry: 1\n\ndata: {}\n\n", r#"{"jsonrpc":"2.0","method":"n"}"#));
            connection.close();
        }
        "half" => {
            connection.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{");
            connection.close();
        }
        "nothing" => connection.close(),
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    let url = remote.url("/mcp");
    client.ask(1, "cut");
    assert_eq!(client.line(2)["method"], "n");
    assert_eq!(client.error(3), format!("'{url}' closed the stream before the answer"));
    client.ask(2, "half");
    assert_eq!(client.error(4), format!("the answer of '{url}' broke: it ended in the middle"));
    client.ask(3, "nothing");
    assert_eq!(client.error(5), format!("cannot reach '{url}': it closed the connection without an answer"));
    client.ask(4, "ping");
    assert_eq!(client.line(6)["id"], 4);
    assert_eq!(remote.posts().len(), 6);
    assert!(gets(&remote).iter().all(|get| get.header("last-event-id").is_empty()));
}

/// The stream of a call is cut three times; each GET brings a little more.
#[test]
fn a_stream_that_breaks_behind_an_id_goes_on_there() {
    let note = |n: u32| format!(r#"{{"jsonrpc":"2.0","method":"n{n}"}}"#);
    let remote = Remote::start(move |request, connection| match (&*method(request), request.header("last-event-id")) {
        ("call", _) => {
            connection.write(format!("{EVENTS}id: a\nretry: 1\ndata:\n\n"));
            connection.close();
        }
        ("", "a") => {
            connection.write(format!("{EVENTS}id: b\ndata: {}\n\n", note(1)));
            connection.close();
        }
        ("", "b") if connection.requests().iter().filter(|r| r.header("last-event-id") == "b").count() < 3 => {
            connection.write(respond("503 Busy", "", ""));
        }
        ("", "b") => {
            connection.write(format!(
                "{EVENTS}data: {}\n\ndata: {}\n\n",
                note(2),
                r#"{"jsonrpc":"2.0","id":7,"result":{}}"#
            ));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(7, "call");
    assert_eq!(client.line(2)["method"], "n1");
    assert_eq!(client.line(3)["method"], "n2");
    assert_eq!(client.line(4)["id"], 7);
    assert_eq!(remote.posts().len(), 3, "the call is sent once");
    let asked: Vec<_> = gets(&remote).iter().map(|get| get.header("last-event-id").to_owned()).collect();
    assert_eq!(asked.iter().filter(|id| !id.is_empty()).collect::<Vec<_>>(), ["a", "b", "b", "b"]);
    assert!(gets(&remote).iter().all(|get| get.header("mcp-session-id") == "s1"));
}

/// Servers that close every stream early (2025-11-25) do so with the very first.
#[test]
fn also_the_answer_to_initialize_may_come_behind_a_break() {
    let remote = Remote::start(|request, connection| match (&*method(request), request.header("last-event-id")) {
        ("initialize", _) => {
            let head = EVENTS.replace("\r\n\r\n", "\r\nMcp-Session-Id: s7\r\n\r\n");
            connection.write(format!("{head}id: 1\nretry: 1\ndata:\n\n"));
            connection.close();
        }
        ("", "1") if request.header("mcp-session-id") == "s7" => {
            let answer = r#"{"jsonrpc":"2.0","id":"id","result":{"protocolVersion":"2025-11-25"}}"#;
            connection.write(format!("{EVENTS}id: 2\ndata: {answer}\n\n"));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(1, "ping");
    assert_eq!(client.line(2)["id"], 1);
    let requests = remote.requests();
    let last = requests.iter().rfind(|r| r.line.starts_with("POST ")).unwrap();
    assert_eq!((last.header("mcp-session-id"), last.header("mcp-protocol-version")), ("s7", "2025-11-25"));
}

#[test]
fn a_rest_that_is_not_given_is_an_error_at_once_or_after_a_few_attempts() {
    for (answer, attempts, expected) in [
        (respond("405 No", "", ""), 1, "answered 405 Method Not Allowed"),
        (respond("404 No", "", ""), 1, "answered 404 Not Found"),
        (json("{}"), 1, "answered 200 OK"),
        (respond("500 No", "", ""), 5, "answered 500 Internal Server Error"),
    ] {
        let remote = Remote::start(move |request, connection| {
            if method(request) == "call" {
                connection.write(format!("{EVENTS}id: a\nretry: 1\ndata:\n\n"));
                connection.close();
            } else if request.header("last-event-id") == "a" {
                connection.write(&answer);
            } else {
                behave(request, connection);
            }
        });
        let mut client = Client::begin(&remote, &[]);
        client.ask(7, "call");
        let (why, url) = (client.error(2), remote.url("/mcp"));
        let expected =
            format!("'{url}' closed the stream before the answer, and asking for the rest failed: '{url}' {expected}");
        assert_eq!(why, expected);
        assert_eq!(gets(&remote).iter().filter(|get| get.header("last-event-id") == "a").count(), attempts);
    }
}

#[test]
fn retry_is_honoured() {
    static CUT: OnceLock<Instant> = OnceLock::new();
    static OTHER: AtomicBool = AtomicBool::new(false);
    let remote = Remote::start(|request, connection| {
        if method(request) == "call" {
            connection.write(format!("{EVENTS}id: a\nretry: 1500\ndata:\n\n"));
            CUT.get_or_init(Instant::now);
            return connection.close();
        }
        if request.header("last-event-id") == "a" {
            let asked = CUT.get().unwrap().elapsed();
            assert!(asked > Duration::from_millis(1300), "asked for again after {asked:?}");
            wait_until("another answer", SOON, || OTHER.load(Ordering::SeqCst));
            connection.write(format!("{EVENTS}data: {}\n\n", r#"{"jsonrpc":"2.0","id":7,"result":{}}"#));
            return connection.close();
        }
        behave(request, connection);
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(7, "call");
    wait_until("the cut", SOON, || CUT.get().is_some());
    client.ask(8, "ping");
    assert_eq!(client.line(2)["id"], 8, "what waits for the rest holds no other");
    OTHER.store(true, Ordering::SeqCst);
    assert_eq!(client.line(3)["id"], 7);
}

#[test]
fn the_get_stream_brings_what_the_server_says_by_itself() {
    let remote = Remote::start(|request, connection| match (&*request.line, request.header("last-event-id")) {
        ("GET /mcp", "") => {
            connection.stream("id: 1\nretry: 1\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"roots/list\"}\n\n");
        }
        ("GET /mcp", _) => connection.stream(""),
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    assert_eq!(client.line(2)["method"], "roots/list");
    client.send(r#"{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}"#);
    assert_eq!(remote.wait_for_posts(3)[2], r#"{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}"#);
    remote.break_streams();
    remote.wait_for_streams(2);
    assert_eq!(gets(&remote)[1].header("last-event-id"), "1");
    remote.event("data: {\"jsonrpc\":\"2.0\",\"method\":\"later\"}\n\n");
    assert_eq!(client.line(3)["method"], "later");
    assert_eq!(client.end(), 3);
}

#[test]
fn a_question_inside_a_call_is_answered_while_the_call_waits() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "call" => {
            connection.write(format!("{EVENTS}data: {{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\"}}\n\n"));
            let answered = || connection.requests().iter().any(|r| r.text().contains("\"result\""));
            wait_until("the client's answer", SOON, answered);
            connection.write(format!("data: {}\n\n", result(request)));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    client.ask(1, "call");
    assert_eq!(client.line(2)["id"], 5);
    client.send(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#);
    assert_eq!(client.line(3)["result"]["did"], "call");
}

#[test]
fn a_slow_call_holds_no_other() {
    static FAST: AtomicBool = AtomicBool::new(false);
    let remote = Remote::start(|request, connection| match &*method(request) {
        "slow" => {
            wait_until("the answers to the fast ones", SOON, || FAST.load(Ordering::SeqCst));
            connection.write(json(&result(request)));
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    for n in 0..20 {
        client.send(&format!("{}\n{}", ask(100 + n, "slow"), ask(n, "fast")));
    }
    (20..40).for_each(|n| client.ask(n, "fast"));
    let answers = |numbers: std::ops::Range<usize>| {
        let mut ids: Vec<_> = numbers.map(|number| client.line(number)["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(answers(2..42), (0..40).collect::<Vec<_>>(), "each is answered once, and held by none");
    FAST.store(true, Ordering::SeqCst);
    assert_eq!(answers(42..62), (100..120).collect::<Vec<_>>(), "each is answered once");
}

/// The next line that is no notification answers this request; so many lines have been read.
fn answered(client: &Client, lines: &mut usize, id: u32) {
    let mut next = || {
        *lines += 1;
        client.line(*lines)
    };
    let answer = std::iter::repeat_with(&mut next).find(|line| line["method"].is_null()).unwrap();
    assert_eq!(answer["id"], id);
}

/// Nobody looks at stdin at once during the calls of a client that has not said anything during many of them.
#[test]
fn what_a_client_says_during_a_call_passes_it_although_it_was_quiet_before() {
    static OTHERS: AtomicBool = AtomicBool::new(false);
    let are_done = || OTHERS.load(Ordering::SeqCst);
    let remote = Remote::start(move |request, connection| match &*method(request) {
        "slow" => {
            wait_until("the answers to the others", SOON, are_done);
            connection.write(json(&result(request)));
        }
        // Its answer comes in many pieces, with less than a moment between them.
        "babbles" => {
            connection.write(EVENTS);
            let until = Instant::now() + SOON;
            while !are_done() && Instant::now() < until {
                connection.write("data: {\"jsonrpc\":\"2.0\",\"method\":\"babble\"}\n\n");
                std::thread::sleep(Duration::from_micros(500));
            }
            connection.write(format!("data: {}\n\n", result(request)));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    let (mut lines, mut id) = (1, 0);
    for (round, slow) in (1..).zip(["slow", "babbles", "slow"]) {
        OTHERS.store(false, Ordering::SeqCst);
        for _ in 0..40 {
            id += 1;
            client.ask(id, "fast");
            answered(&client, &mut lines, id);
        }
        let posts = remote.posts().len();
        client.ask(1000 + round, slow);
        let _ = remote.wait_for_posts(posts + 1);
        for other in 0..3 {
            client.ask(2000 + other, "fast");
            let start = Instant::now();
            answered(&client, &mut lines, 2000 + other);
            assert!(start.elapsed() < Duration::from_secs(20), "{slow}: {:?}", start.elapsed());
        }
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/told"}"#);
        let _ = remote.wait_for_posts(posts + 5);
        OTHERS.store(true, Ordering::SeqCst);
        answered(&client, &mut lines, 1000 + round);
    }
    // Its end, too.
    client.ask(3000, "hang");
    assert_eq!(client.end(), lines + 1, "told that we have ended");
}

#[test]
fn nothing_passes_initialize_and_what_follows_it_waits_for_its_acceptance() {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| {
        if matches!(&*method(request), "initialize" | "notifications/initialized") {
            wait_until("the test", SOON, || HELD.load(Ordering::SeqCst) > 0);
            std::thread::sleep(Duration::from_millis(50)); // for what would overtake it
            assert_eq!(connection.requests().last().unwrap().text(), request.text());
        }
        behave(request, connection);
    });
    let mut client = Client::of(&remote, &[]);
    client.send(&format!("{INITIALIZE}\n{INITIALIZED}\n{}\n{}", ask(1, "a"), ask(2, "b")));
    HELD.store(1, Ordering::SeqCst);
    let _ = client.line(3);
    let posts = remote.posts();
    assert_eq!(posts[..2], [INITIALIZE, INITIALIZED]);
    assert!(remote.requests()[1..].iter().all(|r| r.header("mcp-session-id") == "s1"));
}

#[test]
fn an_error_of_the_server_is_its_answer_and_others_are_explained() {
    let error = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"why\nnot"}}}}"#);
    let url = "'URL' answered";
    for (response, expected) in [
        (respond("400 Bad", "Content-Type: application/json\r\n", &error("1")), "why\nnot".into()),
        (respond("500 Oops", "", &error("1.0")), "why\nnot".into()),
        (json(&error("1")), "why\nnot".into()),
        (json(&error("null")), format!("{url}: why not")),
        (respond("400 Bad", "", &error("null")), format!("{url} 400 Bad Request: why not")),
        (respond("422 No", "", &error("2")), format!("{url} 422 Unprocessable Entity: why not")),
        (
            respond("401 No", "", "<p>"),
            format!(
                "{url} 401 Unauthorized; give a token with --api-access-token or -H Authorization, or log in with --client-id or --username"
            ),
        ),
        (
            respond("403 No", "", ""),
            format!(
                "{url} 403 Forbidden; give a token with --api-access-token or -H Authorization, or log in with --client-id or --username"
            ),
        ),
        (respond("429 No", "", ""), format!("{url} 429 Too Many Requests; too many requests; try again later")),
        (
            respond("502 No", "", ""),
            format!("{url} 502 Bad Gateway; the server, or a proxy in front of it, has a problem of its own"),
        ),
        (respond("405 No", "", ""), format!("{url} 405 Method Not Allowed; is the path right? this one takes no POST")),
        (
            respond("303 Go", "Location: /else?key=1\r\n", ""),
            format!("{url} 303 See Other; a POST does not follow it, give the address '/else' itself"),
        ),
        (
            respond("200 OK", "Content-Type: text/html\r\n", "<p>"),
            format!("{url} 200 with 'text/html', neither with JSON nor with an event stream; is the path right?"),
        ),
        (
            respond("202 OK", "", ""),
            format!("{url} 202 with 'nothing', neither with JSON nor with an event stream; is the path right?"),
        ),
        (json("{"), "'URL' answered with no message: it is not JSON (at byte 1)".into()),
        (json("[]"), "'URL' answered with no message: an empty batch".into()),
        (json(&error("2")), "'URL' answered with JSON that holds no answer to the request".into()),
    ] {
        let remote = Remote::start(move |request, connection| match &*method(request) {
            "ask" => connection.write(&response),
            _ => behave(request, connection),
        });
        let mut client = Client::begin(&remote, &[]);
        client.ask(1, "ask");
        let answer = client.line(2);
        assert!(answer["id"] == 1 || answer["id"] == 1.0, "{answer}");
        assert_eq!(client.error(2), expected.replace("URL", &remote.url("/mcp")));
        client.ask(2, "ping");
        assert_eq!(client.line(3)["id"], 2);
        assert_eq!(client.end(), 3);
    }
}

#[test]
fn a_session_id_that_is_none_is_left_out() {
    for (id, expected) in [("a b", ""), ("\u{fc}", ""), ("~!x", "~!x")] {
        let remote = Remote::start(move |request, connection| match &*method(request) {
            "initialize" => {
                let headers = format!("Content-Type: application/json\r\nMcp-Session-Id: {id}\r\n");
                connection.write(respond("200 OK", &headers, &result(request)));
            }
            _ => behave(request, connection),
        });
        let mut client = Client::begin(&remote, &[]);
        client.ask(1, "ping");
        assert_eq!(client.line(2)["id"], 1);
        assert_eq!(remote.requests().last().unwrap().header("mcp-session-id"), expected);
        assert_eq!(client.0.stderr().contains("a session an id that is none"), expected.is_empty());
        assert_eq!(client.end(), 2);
        assert_eq!(remote.wait_for_ends(usize::from(!expected.is_empty())).is_empty(), expected.is_empty());
    }
}

#[test]
fn redirects_that_keep_the_method_are_followed_within_the_origin() {
    let other = Remote::start(behave);
    let elsewhere = other.url("/mcp?key=1");
    for status in [307, 308] {
        let remote = Remote::start(move |request, connection| match request.line.split_once(' ').unwrap().1 {
            "/mcp" => connection.write(respond(&format!("{status} Go"), "Location: /mcp/\r\n", "")),
            _ => behave(request, connection),
        });
        let mut client = Client::begin(&remote, &["--api-access-token", "geheim"]);
        client.ask(1, "ping");
        assert_eq!(client.line(2)["id"], 1);
        assert_eq!(client.end(), 2);
        let lines: Vec<_> =
            remote.requests().iter().filter(|r| r.line.ends_with("/mcp")).map(|r| r.line.clone()).collect();
        assert_eq!(lines, ["POST /mcp"], "the session remembers where it is");
        assert!(remote.requests().iter().all(|r| r.header("authorization") == "Bearer geheim"));
    }
    let remote = Remote::start(move |_, connection| {
        connection.write(respond("307 Go", &format!("Location: {elsewhere}\r\n"), ""));
    });
    let mut client = Client::of(&remote, &["--api-access-token", "geheim"]);
    client.send(INITIALIZE);
    let expected = format!(
        "'{}' redirects to another origin ('{}'), which is not followed",
        remote.url("/mcp"),
        other.url("/mcp")
    );
    assert_eq!(client.error(1), expected);
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_server_that_refuses_the_post_is_asked_for_http_and_sse() {
    for status in ["400 Bad", "404 No", "405 No", "406 No", "410 No", "415 No", "422 No"] {
        let remote = Remote::start(move |request, connection| match &*request.line {
            "POST /mcp" => connection.write(respond(status, "", "<p>")),
            _ => behave_sse(request, connection),
        });
        let mut client = Client::of(&remote, &[]);
        client.send(&format!("{INITIALIZE}\n{INITIALIZED}"));
        assert_eq!(client.line(1)["result"]["did"], "initialize");
        client.ask(1, "ping");
        assert_eq!(client.line(2)["id"], 1);
        assert_eq!(remote.posts(), [INITIALIZE, INITIALIZE, INITIALIZED, &ask(1, "ping")], "{status}");
        remote.break_streams();
        remote.wait_for_streams(2);
        let _ = remote.wait_for_posts(6);
        assert_eq!(remote.posts()[4..], [INITIALIZE, INITIALIZED], "what was found is remembered");
        assert_eq!(client.end(), 2);
    }
    for status in ["401 No", "403 No", "407 No", "429 No", "500 No", "503 No"] {
        let remote = Remote::start(move |_, connection| connection.write(respond(status, "", "")));
        let mut client = Client::of(&remote, &[]);
        client.send(INITIALIZE);
        assert!(client.error(1).contains(&status[..3]), "{}", client.error(1));
        assert_eq!(remote.requests().len(), 1, "{status} says nothing about the transport");
    }
}

#[test]
fn a_path_that_says_sse_is_tried_with_it_first() {
    for answer in
        [respond("405 No", "", ""), respond("404 No", "", ""), respond("200 OK", "Content-Type: text/html\r\n", "<p>")]
    {
        let remote = Remote::start(move |request, connection| match request.header("mcp-session-id") {
            "" if request.line.starts_with("GET ") => connection.write(&answer),
            _ => behave(request, connection),
        });
        let mut process = support::Process::start(support::proxy().arg(remote.url("/a/sse/")));
        process.write(format!("{INITIALIZE}\n").as_bytes());
        let first: Value = serde_json::from_slice(&process.lines(1)[0]).unwrap();
        assert_eq!(first["id"], "id");
        assert_eq!(remote.requests()[0].line, "GET /a/sse/");
        assert_eq!(remote.requests()[1].line, "POST /a/sse/");
    }
}

#[test]
fn an_error_names_both_attempts_and_a_transport_that_is_said_is_the_only_one() {
    let refuse = || {
        Remote::start(|request, connection| {
            let status = if request.line.starts_with("GET ") { "405 No" } else { "404 No" };
            connection.write(respond(status, "", ""));
        })
    };
    let remote = refuse();
    let mut client = Client::of(&remote, &[]);
    for number in 1..3 {
        client.send(INITIALIZE);
        let expected = format!(
            "'{}' speaks neither Streamable HTTP (POST: 404 Not Found) nor HTTP+SSE (GET: 405 Method Not Allowed); is the path right?",
            remote.url("/mcp")
        );
        assert_eq!(client.error(number), expected);
    }
    for (transport, method) in [("sse", "GET"), ("streamablehttp", "POST")] {
        let remote = refuse();
        let mut client = Client::of(&remote, &["--transport", transport]);
        client.send(INITIALIZE);
        assert!(client.error(1).starts_with(&format!("'{}' answered 40", remote.url("/mcp"))), "{}", client.error(1));
        assert!(remote.requests().iter().all(|r| r.line.starts_with(method)), "{transport}");
    }
}

#[test]
fn a_server_that_is_away_is_found_again() {
    let closed = free_address();
    let mut client = Client(support::Process::start(support::proxy().arg(format!("http://{closed}/mcp"))));
    client.send(INITIALIZE);
    let expected = format!("cannot reach 'http://{closed}/mcp': connection refused; is the server running?");
    assert_eq!(client.error(1), expected);
    let remote = Remote::start_at(&closed.to_string(), behave);
    client.send(INITIALIZE);
    assert_eq!(client.line(2)["id"], "id");
    remote.stop();
    client.ask(1, "ping");
    assert_eq!(client.error(3), expected);
    let _again = Remote::start_at(&closed.to_string(), behave);
    client.ask(2, "ping");
    assert_eq!(client.line(4)["id"], 2);
}

#[test]
fn a_cancelled_call_is_let_go() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "hang" if message(request)["id"] == 2 => connection.write(EVENTS),
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    for id in 1..3 {
        client.ask(id, "hang");
        let _ = remote.wait_for_posts(2 * id as usize + 1);
        client
            .send(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
        let _ = remote.wait_for_posts(2 * id as usize + 2);
    }
    wait_until("their connections are closed", SOON, || client.0.id() > 0 && established(client.0.id()) <= 2);
    client.ask(3, "ping");
    assert_eq!(client.line(2)["id"], 3);
    assert_eq!(client.end(), 2, "nobody is told of what nobody waits for");
}

/// The TCP connections of a process.
fn established(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn our_end_is_told_but_does_not_wait_for_an_answer() {
    let remote = Remote::start(|request, connection| {
        if !request.line.starts_with("DELETE ") {
            behave(request, connection);
        }
    });
    let ended = AtomicUsize::new(0);
    in_time("our end", Duration::from_millis(1500 + 700), || {
        let posts = remote.posts().len();
        let mut client = Client::begin(&remote, &[]);
        client.ask(1, "hang");
        let _ = remote.wait_for_posts(posts + 3);
        let start = Instant::now();
        assert_eq!(client.end(), 2);
        let took = start.elapsed();
        assert_eq!(client.error(2), "the proxy ended with its input");
        let _ = remote.wait_for_ends(ended.fetch_add(1, Ordering::SeqCst) + 1);
        took
    });
}

#[test]
fn what_was_asked_before_the_end_of_input_is_answered() {
    let remote = Remote::start(behave);
    let mut client = Client::of(&remote, &[]);
    client.send(&format!("{INITIALIZE}\n{INITIALIZED}\n{}\n{}", ask(1, "a"), ask(2, "b")));
    assert_eq!(client.end(), 3);
}

#[test]
fn large_answers_pass_and_those_over_the_limit_are_explained() {
    let remote = Remote::start(|request, connection| {
        let size = match &*method(request) {
            "huge" => 11 << 20,
            "over" | "events" => 20 << 20,
            _ => return behave(request, connection),
        };
        let id = &message(request)["id"];
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{}"}}"#, "x".repeat(size));
        match &*method(request) {
            "events" => {
                connection.write(format!("{EVENTS}id: 1\ndata: {body}\n\n"));
                connection.close();
            }
            _ => connection.write(json(&body)),
        }
    });
    let mut client = Client::begin(&remote, &["--max-message-bytes", "16000000"]);
    client.ask(1, "huge");
    assert_eq!(client.line(2)["result"].as_str().unwrap().len(), 11 << 20);
    client.ask(2, "over");
    assert_eq!(client.error(3), format!("'{}' sent a message over the limit of 16000000 bytes", remote.url("/mcp")));
    client.ask(3, "events");
    let expected = format!("'{}' sent a message of 20971556 bytes, over the limit of 16000000", remote.url("/mcp"));
    assert_eq!(client.error(4), expected);
    client.ask(4, "ping");
    assert_eq!(client.line(5)["id"], 4);
}

#[test]
fn a_notification_that_is_refused_costs_nothing() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "n" => connection.write(respond("400 Bad", "", "")),
        "m" => connection.write(format!("{EVENTS}: nothing\n\n")),
        _ => behave(request, connection),
    });
    let mut client = Client::begin(&remote, &[]);
    for method in ["n", "m", "o"] {
        client.send(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#));
    }
    client.ask(1, "ping");
    assert_eq!(client.line(2)["id"], 1);
    assert_eq!(remote.wait_for_posts(6).len(), 6, "{:?}", remote.posts());
    assert!(TAKEN.contains("202"));
}
