//! Connect mode between a modern client and a modern server (MCP 2026-07-28): each message is one POST that stands alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::modern::{CANCELLED, answer, behave, error, method, modern};
use support::remote::{Connection, Remote, Request};
use support::streamable::{Client, EVENTS, behave as behave_legacy, json, message, respond};
use support::{Process, SOON, free_address, in_time, proxy, wait_until};

fn connect(remote: &Remote, path: &str) -> Client {
    Client(Process::start(proxy().arg("--debug").arg(remote.url(path))))
}

#[test]
fn a_modern_client_gets_straight_through() {
    let remote = Remote::start(behave);
    let mut client = connect(&remote, "/mcp");
    let asked = [
        modern(1, "server/discover", ""),
        modern(2, "tools/call", r#","name":"wetter","arguments":{"x":1.0}"#),
        modern(3, "resources/read", r#","uri":"file:///größe""#),
        modern(4, "prompts/get", r#","name":" padded ""#),
        modern(5, "unknown", ""),
    ];
    for (number, text) in (1..).zip(&asked) {
        client.send(text);
        assert_eq!(client.line(number)["id"], number, "{}", client.0.report());
    }
    assert_eq!(client.line(5)["error"]["code"], -32601, "a status is no reason to change an answer");
    assert_eq!(client.end(), 5);
    assert_eq!(remote.posts(), asked, "byte for byte, and nothing else");
    assert_eq!(remote.requests().len(), 5, "no GET, no DELETE");
    for (request, (method, name)) in remote.requests().iter().zip([
        ("server/discover", ""),
        ("tools/call", "wetter"),
        ("resources/read", "=?base64?ZmlsZTovLy9ncsO2w59l?="),
        ("prompts/get", "=?base64?IHBhZGRlZCA=?="),
        ("unknown", ""),
    ]) {
        assert_eq!(request.header("mcp-protocol-version"), "2026-07-28");
        assert_eq!((request.header("mcp-method"), request.header("mcp-name")), (method, name));
        assert_eq!(request.header("accept"), "application/json, text/event-stream");
        assert_eq!((request.header("content-type"), request.header("mcp-session-id")), ("application/json", ""));
    }
}

#[test]
fn what_a_stream_brings_comes_before_the_answer_and_a_stream_that_breaks_is_an_error_at_once() {
    const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}"#;
    let remote = Remote::start(|request, connection| match &*method(request) {
        "tools/call" => {
            let answer = answer(request, r#""content":[]"#);
            connection.write(format!("{EVENTS}id: 1\ndata: {NOTE}\n\n: hi\n\ndata: {answer}\n\n"));
            connection.close();
        }
        "prompts/get" => {
            connection.write(format!("{EVENTS}id: 1\nretry: 1\ndata: {NOTE}\n\n"));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "tools/call", r#","name":"a""#));
    assert_eq!((&client.line(1)["method"], &client.line(2)["id"]), (&"notifications/progress".into(), &1.into()));
    client.send(&modern(2, "prompts/get", r#","name":"a""#));
    assert!(client.error(4).ends_with("closed the stream before the answer"), "{}", client.error(4));
    assert_eq!(client.end(), 4);
    assert_eq!(remote.requests().len(), 2, "nothing is asked for again");
}

#[test]
fn an_error_with_a_status_is_the_answer() {
    const OWN: &str = r#"{ "jsonrpc":"2.0", "error":{"data":1.0e0,"message":"no","code":-32021},"id":1 }"#;
    let remote = Remote::start(|request, connection| match &*method(request) {
        "own" => connection.write(respond("400 Bad Request", "Content-Type: application/json\r\n", OWN)),
        "nobody's" => connection.write(error("404 Not Found", &Value::Null, -32601)),
        "internal" => connection.write(error("500 Oh", &message(request)["id"], -32603)),
        "busy" => connection.write(respond("503 Busy", "", "<p>")),
        "login" => connection.write(respond("401 Who", "", "")),
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "own", ""));
    let _ = client.line(1);
    assert_eq!(client.0.lines(1)[0], format!("{OWN}\n").as_bytes(), "byte for byte");
    client.send(&modern(2, "nobody's", ""));
    assert_eq!((&client.line(2)["id"], &client.line(2)["error"]["code"]), (&2.into(), &(-32601).into()));
    client.send(&modern(3, "internal", ""));
    assert_eq!(client.line(3)["error"]["message"], "no");
    client.send(&modern(4, "busy", ""));
    assert!(client.error(4).contains("503 Service Unavailable"), "{}", client.error(4));
    client.send(&modern(5, "login", ""));
    assert!(client.error(5).contains("401 Unauthorized"), "{}", client.error(5));
    assert_eq!((client.end(), remote.requests().len()), (5, 5));
}

#[test]
fn a_cancellation_closes_the_connection_and_is_not_sent() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| match &*method(request) {
        "stream" | "silent" => {
            if method(request) == "stream" {
                connection.write(format!("{EVENTS}data: {{\"jsonrpc\":\"2.0\",\"method\":\"n\"}}\n\n"));
            }
            connection.wait_for_close();
            CLOSED.fetch_add(1, Ordering::SeqCst);
            connection.write("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n");
        }
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "stream", ""));
    assert_eq!(client.line(1)["method"], "n");
    client.send(CANCELLED);
    wait_until("the end of the stream", SOON, || CLOSED.load(Ordering::SeqCst) == 1);
    client.send(&modern(1, "silent", ""));
    let _ = remote.wait_for_posts(2);
    client.send(CANCELLED);
    wait_until("the end of the request", SOON, || CLOSED.load(Ordering::SeqCst) == 2);
    client.send(CANCELLED); // of what is not open any more
    client.send(&modern(2, "ping", ""));
    assert_eq!(client.line(2)["id"], 2);
    assert_eq!((client.end(), remote.requests().len()), (2, 3), "{:?}", remote.posts());
}

#[test]
fn a_listen_stays_open_and_holds_nobody_at_the_end() {
    let remote = Remote::start(behave);
    in_time("the end", Duration::from_millis(900), || {
        let mut client = connect(&remote, "/mcp");
        client.send(&modern(1, "subscriptions/listen", r#","notifications":{"toolsListChanged":true}"#));
        assert_eq!(client.line(1)["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(client.line(2)["method"], "notifications/tools/list_changed");
        client.send(&modern(2, "ping", ""));
        assert_eq!(client.line(3)["id"], 2);
        let begun = Instant::now();
        assert_eq!(client.end(), 4);
        let took = begun.elapsed();
        let end = client.line(4);
        assert_eq!((&end["id"], &end["result"]["resultType"]), (&1.into(), &"complete".into()), "it ends well: {end}");
        assert_eq!(end["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1, "{end}");
        took
    });
}

#[test]
fn what_is_open_at_the_end_gets_its_second() {
    in_time("the end", Duration::from_millis(1500), || {
        let remote = Remote::start(behave);
        let mut client = connect(&remote, "/mcp");
        client.send(&modern(1, "hang", ""));
        let _ = remote.wait_for_posts(1);
        let begun = Instant::now();
        assert_eq!(client.end(), 1);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        took
    });
}

#[test]
fn other_notifications_are_sent_and_the_server_asks_nothing() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "asks" => {
            let question = r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#;
            connection.write(format!("{EVENTS}data: {question}\n\ndata: {}\n\n", answer(request, r#""x":1"#)));
        }
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "asks", ""));
    assert_eq!(client.line(1)["id"], 1);
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let _ = remote.wait_for_posts(2);
    assert_eq!(client.end(), 1);
    assert_eq!(remote.requests()[1].header("mcp-method"), "notifications/x");
}

#[test]
fn tools_that_cannot_be_called_are_left_out_and_headers_come_from_their_schemas() {
    const GOOD: &str = r#"{"name":"good","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}"#;
    const BAD: &str = r#"{"name":"bad","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"no good"}}}}"#;
    let remote = Remote::start(|request, connection| match &*method(request) {
        "tools/list" if request.text().contains("cursor") => {
            connection.write(json(&answer(request, r#""tools": [] , "ttlMs":1.0"#)));
        }
        "tools/list" => {
            let tools = format!(r#""tools":[{GOOD},{BAD}],"nextCursor":"1""#);
            connection.write(json(&answer(request, &tools)));
        }
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "tools/list", ""));
    let tools = client.line(1)["result"]["tools"].clone();
    assert_eq!((tools.as_array().unwrap().len(), &tools[0]["name"]), (1, &"good".into()));
    client.0.wait_for_stderr("the tool 'bad'");
    client.send(&modern(2, "tools/list", r#","cursor":"1""#));
    let _ = client.line(2);
    assert!(client.0.lines(2)[1].ends_with(b"\"tools\": [] , \"ttlMs\":1.0}}\n"), "the bytes that came");
    client.send(&modern(3, "tools/call", r#","name":"good","arguments":{"region":"süd"}"#));
    let _ = client.line(3);
    assert_eq!(client.end(), 3);
    assert_eq!(remote.requests()[2].header("mcp-param-region"), "=?base64?c8O8ZA==?=");
    assert_eq!(client.0.stderr().matches("the tool 'bad'").count(), 1, "{}", client.0.stderr());
}

#[test]
fn a_call_that_lacks_headers_is_sent_again_once_they_are_known() {
    const TOOL: &str = r#"{"name":"good","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}"#;
    let remote = Remote::start(|request, connection| match &*method(request) {
        "tools/list" if request.text().contains(r#""cursor":"1""#) => {
            connection.write(json(&answer(request, &format!(r#""tools":[{TOOL}]"#))));
        }
        "tools/list" => connection.write(json(&answer(request, r#""tools":[],"nextCursor":"1""#))),
        "tools/call" if request.header("mcp-param-region").is_empty() => {
            connection.write(error("400 Bad Request", &message(request)["id"], -32020));
        }
        _ => behave(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    let call = modern(1, "tools/call", r#","name":"good","arguments":{"region":"west"}"#);
    client.send(&call);
    assert_eq!(client.line(1)["result"]["did"], "tools/call");
    let posts = remote.posts();
    assert_eq!((posts.len(), &posts[0], &posts[3]), (4, &call, &call));
    let listed: Value = serde_json::from_str(&posts[2]).unwrap();
    assert_eq!(listed["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "tester");
    let other = modern(2, "tools/call", r#","name":"other","arguments":{"region":"west"}"#);
    client.send(&other);
    assert_eq!(client.line(2)["error"]["code"], -32020, "where nothing changes, it is not sent again");
    assert_eq!(client.end(), 2);
    assert_eq!(remote.posts().iter().filter(|post| **post == other).count(), 1);
}

#[test]
fn a_modern_request_needs_no_connection() {
    let address = free_address();
    let mut client = Client(Process::start(proxy().arg("--debug").arg(format!("http://{address}/mcp"))));
    client.send(&modern(1, "ping", ""));
    assert!(client.error(1).contains("connection refused"), "{}", client.error(1));
    let remote = Remote::start_at(&address.to_string(), behave);
    client.send(&modern(2, "ping", ""));
    assert_eq!(client.line(2)["result"]["did"], "ping");
    assert_eq!((client.end(), remote.requests().len()), (2, 1));
}

#[test]
fn a_session_keeps_to_itself() {
    let both = |request: &Request, connection: &mut Connection<'_>| {
        if request.header("mcp-protocol-version") == "2026-07-28" {
            behave(request, connection);
        } else {
            behave_legacy(request, connection);
        }
    };
    let remote = Remote::start(both);
    let mut client = Client::begin(&remote, &[]);
    client.send(&modern(1, "ping", ""));
    assert_eq!(client.line(2)["result"]["did"], "ping");
    client.ask(2, "old");
    assert_eq!(client.line(3)["result"]["did"], "old");
    client.send(&modern(3, "hang", ""));
    let _ = remote.wait_for_posts(5);
    client.send(&CANCELLED.replace('1', "3"));
    client.ask(4, "old");
    assert_eq!(client.line(4)["id"], 4);
    assert_eq!(client.end(), 4);
    let posts: Vec<_> = remote.requests().into_iter().filter(|r| r.line.starts_with("POST ")).collect();
    assert_eq!((posts[2].header("mcp-session-id"), posts[2].header("mcp-method")), ("", "ping"));
    for old in [&posts[3], &posts[5]] {
        assert_eq!((&*method(old), old.header("mcp-session-id"), old.header("mcp-method")), ("old", "s1", ""));
        assert_eq!(old.header("mcp-protocol-version"), "2025-06-18");
    }
    assert_eq!(posts.len(), 6, "the cancellation is a closed connection");
}
