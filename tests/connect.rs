//! Connect mode: what cannot work is explained to the client and on stderr, and what works passes unchanged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::remote::{ACCEPTED, Connection, Remote, Request, STREAM, answer, behave};
use support::{Process, SOON, free_address, proxy, undisturbed, wait_until};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"first","method":"initialize","params":{ "x" : 1.0 }}"#;

fn connect(url: &str, options: &[&str]) -> Process {
    Process::start(proxy().args(options).arg(url))
}

fn send(process: &mut Process, line: &str) {
    process.write(format!("{line}\n").as_bytes());
}

/// The line of stdout with that number, from 1.
fn line(process: &Process, number: usize) -> Value {
    serde_json::from_slice(&process.lines(number)[number - 1]).unwrap()
}

fn error(process: &Process, number: usize) -> String {
    let answer = line(process, number);
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned()
}

fn respond(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// One failure: what the client is told, where URL stands for the address that we gave, and stderr too, once.
fn fails(url: &str, options: &[&str], expected: &str) {
    let mut process = connect(&format!("{url}?key=geheim"), &[&["--api-access-token", "geheim"], options].concat());
    send(&mut process, INITIALIZE);
    let answer = line(&process, 1);
    assert_eq!(answer["id"], "first");
    assert_eq!(answer["error"]["code"], -32603);
    let expected = expected.replace("URL", url);
    assert_eq!(answer["error"]["message"], expected, "{url}");
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0));
    let said = process.stderr();
    assert_eq!(said.matches(&format!("error: {expected}\n")).count(), 1, "{said}");
    assert!(!said.contains("geheim") && !said.contains("panicked"), "{said}");
}

#[test]
fn an_answer_that_is_no_event_stream_is_explained() {
    const TOKEN: &str =
        "give a token with --api-access-token or -H Authorization, or log in with --client-id or --username";
    const PATH: &str = "is the path right? HTTP+SSE servers usually listen under /sse";
    const OTHER: &str = "does this server speak Streamable HTTP? then --transport streamablehttp, or auto, reaches it";
    const THEIRS: &str = "the server, or a proxy in front of it, has a problem of its own";
    let html = |status: &str| respond(status, "Content-Type: text/html\r\n", "<p>");
    for (response, expected) in [
        (html("401 Unauthorized"), format!("'URL' answered 401 Unauthorized; {TOKEN}")),
        (html("403 No"), format!("'URL' answered 403 Forbidden; {TOKEN}")),
        (html("404 Not Found"), format!("'URL' answered 404 Not Found; {PATH}")),
        (html("400 Bad"), format!("'URL' answered 400 Bad Request; {OTHER}")),
        (html("405 No"), format!("'URL' answered 405 Method Not Allowed; {OTHER}")),
        (html("406 No"), format!("'URL' answered 406 Not Acceptable; {OTHER}")),
        (html("500 Oops"), format!("'URL' answered 500 Internal Server Error; {THEIRS}")),
        (html("503 Oops"), format!("'URL' answered 503 Service Unavailable; {THEIRS}")),
        (html("599 Oops"), format!("'URL' answered 599; {THEIRS}")),
        (html("200 OK"), format!("'URL' answered with 'text/html', not with an event stream; {PATH}")),
        (respond("200 OK", "", ""), format!("'URL' answered with 'nothing', not with an event stream; {PATH}")),
        ("HTTP/1.1 204 No\r\n\r\n".into(), "'URL' answered 204 No Content; an event stream was expected".into()),
        (html("304 Not Modified"), "'URL' answered 304 Not Modified; an event stream was expected".into()),
        ("SSH-2.0-OpenSSH\r\n".into(), "cannot reach 'URL': it does not speak HTTP".into()),
        (String::new(), "cannot reach 'URL': it closed the connection without an answer".into()),
    ] {
        let remote = Remote::start(move |_, connection| {
            connection.write(&response);
            connection.close();
        });
        fails(&remote.url("/sse"), &["--transport", "sse"], &expected);
    }
}

#[test]
fn an_event_stream_without_a_usable_endpoint_is_explained() {
    for (events, expected) in [
        ("", "'URL' closed the stream"),
        (": hello\n\nevent: endpoint\ndata: /m\n", "'URL' closed the stream"),
        (
            "event: endpoint\ndata: http://evil.example/m?x=geheim\n\n",
            "'URL' names an endpoint of another origin ('http://evil.example/m'), which is refused",
        ),
        (
            "event: endpoint\ndata: //evil.example/m\n\n",
            "'URL' names an endpoint of another origin ('http://evil.example/m'), which is refused",
        ),
        (
            "event: endpoint\ndata: mailto:x\n\n",
            "'URL' names an endpoint of another origin ('mailto:x'), which is refused",
        ),
        ("event: endpoint\ndata: /a b\n\n", "'URL' names an endpoint that is no address"),
        ("event: endpoint\ndata: http://[x\n\n", "'URL' names an endpoint that is no address"),
    ] {
        let remote = Remote::start(move |_, connection| {
            connection.stream(events);
            connection.close();
        });
        fails(&remote.url("/sse"), &[], expected);
    }
    let silent = Remote::start(|_, connection| connection.stream(": wait for it\n\n"));
    let expected = "'URL' opened an event stream but named no endpoint within 2 s; is it an MCP server?";
    fails(&silent.url("/sse"), &["--timeout", "2"], expected);
}

#[test]
fn a_server_that_cannot_be_reached_is_explained() {
    let closed = free_address();
    let expected = "cannot reach 'URL': connection refused; is the server running?";
    fails(&format!("http://{closed}/sse"), &[], expected);
    fails(&format!("http://localhost:{}/sse", closed.port()), &[], expected);
    let mute = Remote::start(|_, _| ());
    fails(&mute.url("/sse"), &["--timeout", "0.3"], "cannot reach 'URL': no answer within 0.3 s");

    let mut process = connect("http://nobody.invalid/sse", &[]);
    send(&mut process, INITIALIZE);
    let text = error(&process, 1);
    assert!(text.starts_with("cannot reach 'http://nobody.invalid/sse': "), "{text}");
    assert!(text.ends_with("; is the name of the host right?"), "{text}");
}

#[test]
fn after_a_failure_an_initialize_tries_again_and_nothing_else_does() {
    static GETS: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("GET ") && GETS.fetch_add(1, Ordering::Relaxed) == 0 {
            return connection.write(respond("503 Busy", "", ""));
        }
        behave(request, connection);
    });
    let mut process = connect(&remote.url("/sse"), &[]);
    process.wait_for_stderr("503");
    send(&mut process, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(error(&process, 1).contains("503"));
    assert_eq!(GETS.load(Ordering::Relaxed), 1);
    send(&mut process, INITIALIZE);
    assert_eq!(line(&process, 2)["result"]["did"], "initialize");
    assert_eq!(remote.posts(), [INITIALIZE]);
}

#[test]
fn the_endpoint_may_have_any_form() {
    for (path, endpoint, expected) in [
        ("/sse", "/messages?s=1", "/messages?s=1"),
        ("/sse", "messages?s=1", "/messages?s=1"),
        ("/a/sse", "messages?s=1", "/a/messages?s=1"),
        ("/a/sse/", "messages", "/a/sse/messages"),
        ("/a/sse", "../m", "/m"),
        ("/a/sse?key=1", "?s=1", "/a/sse?s=1"),
        ("/sse", "http://HOST/m?s=1#x", "/m?s=1"),
        ("/sse", "HTTP://HOST/m", "/m"),
        ("/sse", "//HOST/m", "/m"),
        ("/sse", "http://HOST", "/"),
    ] {
        let remote = Remote::start(move |request, connection| {
            if !request.line.starts_with("GET ") {
                return behave(request, connection);
            }
            let endpoint = endpoint.replace("HOST", request.header("host"));
            connection.stream(&format!(": hi\n\nevent: endpoint\ndata: {endpoint}\n\n"));
        });
        let mut process = connect(&remote.url(path), &[]);
        send(&mut process, INITIALIZE);
        assert_eq!(line(&process, 1)["id"], "first");
        assert_eq!(remote.requests()[0].line, format!("GET {path}"));
        assert_eq!(remote.requests()[1].line, format!("POST {expected}"), "{endpoint}");
    }
}

#[test]
fn requests_have_the_headers_that_they_need() {
    let remote = Remote::mcp();
    let options = ["--api-access-token", "geheim", "-H", "X-Tenant", "one", "-H", "User-Agent: me"];
    let mut process = connect(&remote.url("/sse"), &options);
    send(&mut process, INITIALIZE);
    assert_eq!(line(&process, 1)["id"], "first");
    let requests = remote.requests();
    for request in &requests {
        assert_eq!(request.header("x-tenant"), "one");
        assert_eq!(request.header("authorization"), "Bearer geheim");
        assert_eq!(request.header("user-agent"), "me");
        assert_eq!(request.header("accept-encoding"), "");
        assert_eq!(request.header("host"), remote.address().to_string());
    }
    assert_eq!(requests[0].header("accept"), "text/event-stream");
    assert_eq!(requests[1].header("content-type"), "application/json");
    assert_eq!(requests[1].header("content-length"), INITIALIZE.len().to_string());
    assert_eq!(requests[1].text(), INITIALIZE, "not a byte is changed");
    assert!(!process.stderr().contains("geheim"));
}

#[test]
fn events_may_be_written_in_any_way() {
    let remote = Remote::mcp();
    let process = connect(&remote.url("/sse"), &["--debug"]);
    process.wait_for_stderr("connected");
    let note = |n: u32| format!(r#"{{"jsonrpc":"2.0","method":"n{n}"}}"#);
    for event in [
        format!("data: {}\n\n", note(1)),
        format!("data: {}\r\rid: 7\rdata:{}\r\r", note(2), note(3)),
        format!("event: message\r\ndata: {}\r\n\r\n", note(4)),
        ": ping\n\n:\nretry: 100\n\nevent: ping\ndata: now\n\n".into(),
        "data: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\ndata\ndata:\"n5\"}\n\n".into(),
        format!("data: [{},\ndata: {}]\n\n", note(6), note(7)),
        "data: no JSON\n\ndata: {\"a\":1}\n\ndata: []\n\n".into(),
        format!("unknown: x\ndata: {}\nunknown\n\n", note(8)),
    ] {
        remote.event(event);
    }
    let long = format!("data: {}\n\n", note(9));
    for byte in long.as_bytes().chunks(1) {
        remote.event(byte);
    }
    let lines = process.lines(9);
    let expected = [note(1), note(2), note(3), note(4), r#"{"jsonrpc":"2.0", "method":  "n5"}"#.into()];
    for (line, expected) in lines.iter().zip(expected.into_iter().chain((6..10).map(note))) {
        assert_eq!(String::from_utf8_lossy(line), format!("{expected}\n"));
    }
    wait_until("three complaints", SOON, || process.stderr().matches("sent no message").count() == 3);
}

#[test]
fn a_chunked_stream_and_a_kept_connection_work() {
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("GET ") {
            let head = STREAM.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
            connection.write(format!("{head}10\r\nevent: endpoint\n\r\n9\r\ndata: /m\n\r\n1\r\n\n\r\n"));
            connection.write("29\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"hello\"}\n\r\n1\r\n\n\r\n");
        } else {
            connection.write(ACCEPTED);
        }
    });
    // A POST that is slow is passed by others, over another connection.
    undisturbed("not in order over one connection", || {
        let (posts, connections) = (remote.posts().len(), remote.connections());
        let mut process = connect(&remote.url("/sse"), &[]);
        assert_eq!(line(&process, 1)["method"], "hello");
        for n in 0..20 {
            send(&mut process, &format!(r#"{{"jsonrpc":"2.0","method":"n{n}"}}"#));
        }
        let came = remote.wait_for_posts(posts + 20).split_off(posts);
        let is_in_order = came.iter().enumerate().all(|(n, post)| post.contains(&format!("\"n{n}\"")));
        // One for the stream, one for the posts.
        let is_kept = remote.connections() == connections + 2;
        if is_in_order && is_kept { Ok(()) } else { Err(format!("{came:?}, {} connections", remote.connections())) }
    });
}

#[test]
fn large_messages_pass_both_ways() {
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("GET ") {
            return behave(request, connection);
        }
        connection.write(ACCEPTED);
        let id = request.body.len();
        connection.event(format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"got{id}\",\"params\":["));
        connection.event(&request.body);
        connection.event("]}\n\n");
    });
    let mut process = connect(&remote.url("/sse"), &[]);
    let (large, huge) = ("ü".repeat(1_500_000), "x".repeat(11 << 20));
    for text in [&large, &huge] {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{text}"]}}"#);
        send(&mut process, &message);
        let number = if text == &large { 1 } else { 2 };
        let got = process.lines(number).pop().unwrap();
        let expected = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"got{}\",\"params\":[{message}]}}\n", message.len());
        assert!(got == expected.as_bytes(), "{} bytes", got.len());
    }
    assert_eq!(process.stderr().matches("many take 10 MiB at most").count(), 1);
}

#[test]
fn what_the_client_says_wrong_is_answered_and_forgotten() {
    let remote = Remote::mcp();
    let mut process = connect(&remote.url("/sse"), &["--max-message-bytes", "200"]);
    for (number, (wrong, code)) in
        [("{", -32700), ("hello", -32700), ("{}", -32600), ("[]", -32600), (&"x".repeat(300), -32600)]
            .iter()
            .enumerate()
    {
        send(&mut process, wrong);
        let answer = line(&process, number + 1);
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &Value::from(*code)), "{wrong}");
    }
    send(&mut process, &format!("[{INITIALIZE}]"));
    assert_eq!(line(&process, 6)["id"], "first");
    send(&mut process, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    send(&mut process, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert_eq!(line(&process, 7)["id"], 2);
    assert_eq!(remote.posts().len(), 2, "the answer to no question was dropped");
}

#[test]
fn a_post_that_fails_is_answered_and_not_repeated() {
    fn refuse(request: &Request, connection: &mut Connection<'_>) {
        let status = request.text().split("status ").nth(1).map(|rest| rest[..3].to_owned());
        match status.as_deref() {
            None => behave(request, connection),
            Some("000") => connection.close(),
            Some("999") => {}
            Some("200" | "204") => {
                connection.write(respond("200 OK", "", "{\"ok\":true}"));
                connection.event(answer(&request.body).unwrap());
            }
            Some(status) => connection.write(respond(&format!("{status} No"), "", "why not")),
        }
    }
    let remote = Remote::start(refuse);
    let mut process = connect(&remote.url("/sse"), &["--timeout", "3"]);
    send(&mut process, INITIALIZE);
    assert_eq!(line(&process, 1)["id"], "first");
    let posts = remote.url("/messages/");
    let reach = format!("cannot reach '{posts}'");
    for (number, (status, expected)) in [
        ("500", format!("'{posts}' answered 500 Internal Server Error")),
        ("400", format!("'{posts}' answered 400 Bad Request")),
        ("413", format!("'{posts}' answered 413 Payload Too Large")),
        ("302", format!("'{posts}' answered 302 Found")),
        ("000", format!("{reach}: it closed the connection without an answer")),
        ("999", format!("{reach}: no answer within 3 s")),
    ]
    .into_iter()
    .enumerate()
    {
        send(&mut process, &format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"status {status}"}}"#));
        assert_eq!(error(&process, number + 2), expected);
        assert_eq!(line(&process, number + 2)["id"], number);
    }
    send(&mut process, r#"{"jsonrpc":"2.0","id":"ok","method":"status 200"}"#);
    assert_eq!(line(&process, 8)["result"]["did"], "status 200");
    assert_eq!(remote.posts().len(), 8);
    assert_eq!(remote.streams(), 1, "the stream lived on");
}

#[test]
fn a_server_that_answers_its_posts_late_gets_the_next_messages() {
    let remote = Remote::start(|request, connection| match &*request.text() {
        call if call.contains("\"call\"") => {
            connection.event("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\"}\n\n");
            let answered = || connection.requests().iter().any(|r| r.text().contains("\"result\""));
            wait_until("the client's answer", SOON, answered);
            connection.event(answer(&request.body).unwrap());
            connection.write(ACCEPTED);
        }
        _ => behave(request, connection),
    });
    let mut process = connect(&remote.url("/sse"), &[]);
    send(&mut process, r#"{"jsonrpc":"2.0","id":"c","method":"call"}"#);
    assert_eq!(line(&process, 1)["method"], "sampling/createMessage");
    send(&mut process, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(line(&process, 2)["result"]["did"], "call");
}

#[test]
fn too_many_open_requests_are_refused() {
    let remote = Remote::mcp();
    let mut process = connect(&remote.url("/sse"), &["--max-open-requests", "2"]);
    for id in 1..4 {
        send(&mut process, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"hang"}}"#));
    }
    assert_eq!(line(&process, 1)["id"], 3);
    assert_eq!(error(&process, 1), "too many requests are unanswered (2)");
}

#[test]
fn a_file_of_authorities_or_an_address_that_cannot_work_ends_us_at_once() {
    for (arguments, status, expected) in [
        (&["--verify-ssl=/nowhere.pem", "https://localhost/"][..], 2, "/nowhere.pem"),
        (&["-H", "Content-Length", "1", "http://localhost/"], 2, "content-length"),
    ] {
        let mut process = Process::start(proxy().args(arguments));
        assert_eq!(process.finish(SOON).code(), Some(status), "{arguments:?}");
        assert!(process.stderr().contains(expected), "{arguments:?}: {}", process.stderr());
        assert_eq!(process.stderr().lines().count(), 1);
    }
}
