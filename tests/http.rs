//! The listener against everything that is no proper request: malformed, ambiguous, smuggling, oversized, truncated
//! and slow ones, each with its exact answer. Raw bytes go to the real binary in serve mode. Beside every row a
//! well-behaved client keeps talking in a session of its own: nobody else notices.
//!
//! In requests, `@` stands for the address and `ENDPOINT` for a session's endpoint; every character is one byte.
//! An answer is written `STATUS [close] [other headers] [body]`: `-32600 reason` is a JSON-RPC error with id null,
//! `{status}` the object that `/status` shows. After an answer without `close` the connection must go on, after
//! one with it, it must end, and nothing else may come on it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "http/house.rs"]
mod house;
mod support;

use house::{House, post};
use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};
use support::client::{Client, request};
use support::{SOON, wait_until};

/// What a body may have where the limit is tested.
const BODY_LIMIT: usize = 5000;

/// A message that is taken and that no server answers; it has 30 bytes.
const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"x"}"#;

const STATUS: &str = "GET /status HTTP/1.1\r\nHost: @\r\n\r\n";

#[test]
fn who_can_be_understood_differently_is_refused() {
    let mut house = House::start(&["--max-message-bytes", "5000"]);
    let head = "400 close -32600 the request's head is malformed";
    let two = "400 close -32600 the request has two Content-Lengths";
    let both = "400 close -32600 the request has both a Content-Length and a Transfer-Encoding";
    let no_number = "400 close -32600 the request's Content-Length is no number";
    let coding = "501 close -32603 the only Transfer-Encoding is chunked";
    let too_long = "413 close -32600 the message is too long; --max-message-bytes allows longer ones";
    let control = "400 close -32600 the request's head holds a control character";
    for (headers, wanted) in [
        ("Content-Length: 30\r\n", "202"),
        ("Content-Length:30\r\n", "202"),
        ("content-length: \t 30 \t\r\n", "202"),
        ("Content-Length: 030\r\n", "202"),
        ("Content-Length: 30\r\nContent-Length: 30\r\n", two),
        ("Content-Length: 30\r\nContent-Length: 31\r\n", head),
        ("Content-Length: 30\r\nCONTENT-LENGTH: 0\r\n", head),
        ("Content-Length: 30, 30\r\n", no_number),
        ("Content-Length: +30\r\n", head),
        ("Content-Length: -30\r\n", head),
        ("Content-Length: 3 0\r\n", head),
        ("Content-Length: 0x1e\r\n", head),
        ("Content-Length: 30.0\r\n", head),
        ("Content-Length: 3e1\r\n", head),
        ("Content-Length: \"30\"\r\n", head),
        ("Content-Length: \u{b3}\u{b0}\r\n", head),
        ("Content-Length:\r\n", head),
        ("Content-Length: \r\n", head),
        ("Content-Length: 18446744073709551616\r\n", head),
        ("Content-Length: 99999999999999999999999999999999\r\n", head),
        ("Content-Length: 18446744073709551615\r\n", too_long),
        ("Content-Length: 5001\r\n", too_long),
        ("Content-Length: 30\r\nTransfer-Encoding: chunked\r\n", both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 30\r\n", both),
        ("Transfer-Encoding: identity\r\nContent-Length: 30\r\n", both),
        ("Transfer-Encoding:\r\nContent-Length: 30\r\n", both),
        ("Transfer-Encoding: gzip, chunked\r\n", coding),
        ("Transfer-Encoding: chunked, identity\r\n", coding),
        ("Transfer-Encoding: chunked, chunked\r\n", coding),
        ("Transfer-Encoding: xchunked\r\n", coding),
        ("Transfer-Encoding: chunked;q=1\r\n", coding),
        ("Transfer-Encoding: \"chunked\"\r\n", coding),
        ("Transfer-Encoding: 'chunked'\r\n", coding),
        ("Transfer-Encoding: \u{a0}chunked\r\n", coding),
        ("Transfer-Encoding:\r\n", coding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "400 close -32600 the request has two Transfer-Encodings",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n",
            "400 close -32600 the request has two Transfer-Encodings",
        ),
        ("Content-Length : 30\r\n", head),
        ("Content-Length\t: 30\r\n", head),
        ("Transfer-Encoding : chunked\r\n", head),
        ("Content Length: 30\r\n", head),
        ("Content-Length\r\n", head),
        (": 30\r\n", head),
        ("(A): b\r\n", head),
        ("A\u{e9}: b\r\n", head),
        ("Transfer-Encoding:\u{b}chunked\r\n", control),
        ("Transfer-Encoding: chunked\u{0}\r\n", control),
        ("X\u{0}Y: 1\r\n", control),
        ("A: b\u{7f}\r\n", control),
        ("A: b\u{1b}[1m\r\n", control),
        ("A: b\rTransfer-Encoding: chunked\r\n", control),
        ("A: b\r\r\nTransfer-Encoding: chunked\r\n", control),
    ] {
        // Whoever reads on where we stop would find a request here.
        house.check(&format!("{}{}{STATUS}", post(headers), NOTIFICATION), &with_rest(wanted));
    }
    let lf = "400 close -32600 a line of the request's head does not end with CRLF";
    let folded = "400 close -32600 a header is continued on the next line";
    for (head, wanted) in [
        ("POST ENDPOINT HTTP/1.1\nHost: @\nContent-Length: 30\n\n", lf),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\nContent-Length: 30\r\n\r\n", lf),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nContent-Length: 30\n\r\n", lf),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nContent-Length: 30\r\n\n", lf),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nA: b\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n", lf),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", folded),
        ("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nA: b\r\n\tc\r\nContent-Length: 30\r\n\r\n", folded),
        ("POST ENDPOINT HTTP/1.1\r\n Host: @\r\nContent-Length: 30\r\n\r\n", folded),
        (
            "POST ENDPOINT HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400 close -32600 HTTP/1.0 has no Transfer-Encoding",
        ),
        (
            "GET /status HTTP/1.1\r\nHost: @\r\nContent-Length: 30\r\n\r\n",
            "400 close -32600 a request of this method has no body",
        ),
    ] {
        house.check(&format!("{head}{NOTIFICATION}{STATUS}"), &[wanted]);
    }
}

#[test]
fn chunks() {
    let mut house = House::start(&["--max-message-bytes", "5000"]);
    let bad = "400 close -32600 the request's body has a malformed chunk";
    let too_long = "413 close -32600 the message is too long; --max-message-bytes allows longer ones";
    let rest = &NOTIFICATION[10..];
    let whole = format!("1e\r\n{NOTIFICATION}\r\n");
    let large = "x".repeat(BODY_LIMIT + 1);
    for (body, wanted) in [
        (format!("{whole}0\r\n\r\n"), "202"),
        (format!("1E\r\n{NOTIFICATION}\r\n0\r\n\r\n"), "202"),
        (format!("0000001e\r\n{NOTIFICATION}\r\n000\r\n\r\n"), "202"),
        (format!("A\r\n{}\r\n14\r\n{rest}\r\n0\r\n\r\n", &NOTIFICATION[..10]), "202"),
        (format!("1e;a=b\r\n{NOTIFICATION}\r\n0;c\r\n\r\n"), "202"),
        (format!("1e ;a=\"b\"\r\n{NOTIFICATION}\r\n0\r\n\r\n"), "202"),
        (format!("{whole}0\r\nA: b\r\nContent-Length: 5\r\n\r\n"), "202"),
        ("0\r\n\r\n".into(), "400 -32700 the body is no message: it is not JSON (at byte 0)"),
        (format!("1e;{}\r\n{NOTIFICATION}\r\n0\r\n\r\n", "x".repeat(200)), bad),
        (format!("\r\n{whole}0\r\n\r\n"), bad),
        (format!("x\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("+1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("-1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!(" 1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("0x1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e 0\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1_e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1\u{e9}\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!(";1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e\n{NOTIFICATION}\n0\r\n\r\n"), bad),
        (format!("1e\n\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e;a\nb\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e\u{b}\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e\r\n{NOTIFICATION}\n0\r\n\r\n"), bad),
        (format!("1e\r\n{NOTIFICATION}0\r\n\r\n"), bad),
        (format!("1d\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("1e\r\n{NOTIFICATION}\r\n-0\r\n\r\n"), bad),
        (format!("{whole}0\r\nA: b\n\nGET /x HTTP/1.1\r\n\r\n"), bad),
        (format!("{whole}0\r\n{}\r\n", "A: b\r\n".repeat(3000)), bad),
        (format!("10000000000000001e\r\n{NOTIFICATION}\r\n0\r\n\r\n"), bad),
        (format!("ffffffffffffffff\r\n{large}"), too_long),
        (format!("1389\r\n{large}\r\n0\r\n\r\n"), too_long),
        (format!("{}0\r\n\r\n", format!("64\r\n{}\r\n", &large[..100]).repeat(51)), too_long),
    ] {
        house.check(&format!("{}{body}{STATUS}", post("Transfer-Encoding: Chunked\r\n")), &with_rest(wanted));
    }
    // What was cut into chunks is put together again.
    let echo = request(77, "tools/call", r#"{"name":"echo","arguments":{"text":"put together"}}"#);
    let chunks = echo.chars().fold(String::new(), |chunks, c| chunks + "1\r\n" + &c.to_string() + "\r\n");
    house.check(&format!("{}{chunks}0\r\n\r\n", post("Transfer-Encoding: chunked\r\n")), &["202"]);
    house.other.hears("put together");
}

#[test]
fn request_lines_and_versions() {
    let mut house = House::start(&[]);
    let line = "400 close -32600 the request line is malformed";
    let target = "400 close -32600 the request's target is malformed";
    let foreign = "400 close -32600 this is no HTTP request";
    let differ = "400 close -32600 the request's target and its Host differ";
    let control = "400 close -32600 the request's head holds a control character";
    let version = "505 close -32603 only HTTP/1.1 and HTTP/1.0 are spoken";
    let head = "400 close -32600 the request's head is malformed";
    let nothing = "404 close -32600 there is nothing at this path; Streamable HTTP is at /mcp, HTTP+SSE at /sse";
    for (first, wanted) in [
        ("GET /status HTTP/1.1", "200 {status}"),
        ("\r\n\r\nGET /status HTTP/1.1", "200 {status}"),
        ("GET http://@/status HTTP/1.1", "200 {status}"),
        ("GET /status?x=1 HTTP/1.1", "200 {status}"),
        ("GET /status/ HTTP/1.1", "200 {status}"),
        ("GET http://localhost/status HTTP/1.1", differ),
        ("GET http://user@@/status HTTP/1.1", head),
        ("GET https://@/status HTTP/1.1", "200 {status}"),
        ("GET * HTTP/1.1", target),
        ("OPTIONS * HTTP/1.1", target),
        ("CONNECT @ HTTP/1.1", target),
        ("GET status HTTP/1.1", target),
        ("GET ftp://@/status HTTP/1.1", target),
        ("GET http: HTTP/1.1", differ),
        ("GET /status\u{1}x HTTP/1.1", control),
        ("GET /a\"b HTTP/1.1", nothing),
        ("GET / HTTP/1.1", nothing),
        ("GET //status HTTP/1.1", nothing),
        ("GET /./status HTTP/1.1", nothing),
        ("GET /x/../status HTTP/1.1", nothing),
        ("GET /%73tatus HTTP/1.1", nothing),
        ("GET /status%00 HTTP/1.1", nothing),
        ("GET /STATUS HTTP/1.1", nothing),
        ("GET /status;x HTTP/1.1", nothing),
        ("GET /status/x HTTP/1.1", nothing),
        (
            "GET /messages/?session_id=x HTTP/1.1",
            "405 close allow: POST, OPTIONS -32600 the method is not allowed here",
        ),
        ("POST /sse HTTP/1.1", "405 close allow: GET, OPTIONS -32600 the method is not allowed here"),
        ("DELETE /status HTTP/1.1", "405 close allow: GET, HEAD, OPTIONS -32600 the method is not allowed here"),
        ("OPTIONS /sse HTTP/1.1", "405 close allow: GET, OPTIONS -32600 the method is not allowed here"),
        ("BREW /sse HTTP/1.1", "405 close allow: GET, OPTIONS -32600 the method is not allowed here"),
        ("GET /status HTTP/1.2", version),
        ("GET /status HTTP/2.0", version),
        ("GET /status HTTP/0.9", version),
        ("GET /status HTTP/1.10", line),
        ("GET /status HTTP/11", line),
        ("GET /status http/1.1", line),
        ("GET /status HTTP/1.1 ", line),
        ("GET /status  HTTP/1.1", line),
        ("GET  /status HTTP/1.1", line),
        ("GET\t/status HTTP/1.1", line),
        ("GET /sta tus HTTP/1.1", line),
        ("GET /status", line),
        ("GET", line),
        ("get /status HTTP/1.1", "405 close allow: GET, HEAD, OPTIONS -32600 the method is not allowed here"),
        ("{\"jsonrpc\":\"2.0\"}", line),
        ("\u{0}\u{0}\u{0}", control),
    ] {
        house.check(&format!("{first}\r\nHost: @\r\n\r\n"), &[wanted]);
    }
    house.check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[version]);
    house.check("GET /\r\n\r\n", &[line]);
    house.check("HEAD /status HTTP/1.1\r\nHost: @\r\n\r\n", &["200"]);
    house.check("HEAD /nothing HTTP/1.1\r\nHost: @\r\n\r\n", &["404 close"]);
    // What cannot become a request is not waited for.
    for begun in [
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "{\"jsonrpc\":\"2.0\"}\n",
        "GET\t/",
        "\u{0}",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        house.check(begun, &[foreign]);
    }
}

#[test]
fn hosts_and_origins() {
    let mut house = House::start(&["--allow-origin", "http://page.example"]);
    let host = "403 close -32600 the Host is not one of this machine's own names; --allow-host allows one";
    let origin = "403 close -32600 the Origin is not allowed; --allow-origin allows one";
    let page = "access-control-allow-origin: http://page.example, \
                access-control-expose-headers: Mcp-Session-Id, vary: origin";
    let allowed = format!("200 {page} {{status}}");
    for (headers, wanted) in [
        ("", "400 close -32600 the request has no Host"),
        ("Host: @\r\nHost: @\r\n", "400 close -32600 the request has two Hosts"),
        ("Host: @\r\nhost: evil.example\r\n", "400 close -32600 the request has two Hosts"),
        ("Host:\r\n", host),
        ("Host: localhost\r\n", "200 {status}"),
        ("Host: LocalHost:80\r\n", "200 {status}"),
        ("Host: [::1]:80\r\n", "200 {status}"),
        ("Host: evil.example\r\n", host),
        ("Host: evil.example:80\r\n", host),
        ("Host: localhost.evil.example\r\n", host),
        ("Host: 127.0.0.1.evil.example\r\n", host),
        ("Host: localhost@evil.example\r\n", host),
        ("Host: [::1].evil.example\r\n", host),
        ("Host: 0.0.0.0\r\n", host),
        ("Host: 192.168.0.1\r\n", host),
        ("Host: @\r\nOrigin: http://localhost:5173\r\n", "200 {status}"),
        ("Host: @\r\nOrigin: http://@\r\n", "200 {status}"),
        ("Host: @\r\nOrigin: http://page.example\r\n", &allowed),
        ("Host: @\r\nOrigin: http://evil.example\r\n", origin),
        ("Host: @\r\nOrigin: https://page.example\r\n", origin),
        ("Host: @\r\nOrigin: http://page.example:81\r\n", origin),
        ("Host: @\r\nOrigin: http://page.example.evil\r\n", origin),
        ("Host: @\r\nOrigin: http://localhost.evil.example\r\n", origin),
        ("Host: @\r\nOrigin: null\r\n", origin),
        ("Host: @\r\nOrigin:\r\n", origin),
        (
            "Host: @\r\nOrigin: http://page.example\r\nOrigin: http://evil.example\r\n",
            &format!("403 close {page} {}", &origin[10..]),
        ),
        ("Host: evil.example\r\nOrigin: http://page.example\r\n", &format!("403 close {page} {}", &host[10..])),
    ] {
        house.check(&format!("GET /status HTTP/1.1\r\n{headers}\r\n"), &[wanted]);
    }
    // An image of another page, whose browser sends no Origin: it would begin a session, and a server with it.
    let unnamed = "403 close -32600 a page of another origin asks, and its Origin is not named (Sec-Fetch-Site)";
    for path in ["/sse", "/mcp"] {
        house.check(&format!("GET {path} HTTP/1.1\r\nHost: @\r\nSec-Fetch-Site: cross-site\r\n\r\n"), &[unnamed]);
    }
    house.check("GET /status HTTP/1.1\r\nHost: @\r\nSec-Fetch-Site: cross-site\r\n\r\n", &["200 {status}"]);
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    let granted = "204 access-control-allow-headers: content-type, \
                   access-control-allow-methods: GET, POST, DELETE, OPTIONS, \
                   access-control-allow-origin: http://page.example, \
                   access-control-expose-headers: Mcp-Session-Id, access-control-max-age: 86400, vary: origin";
    for (path, origin, wanted) in [
        ("/sse", "http://page.example", granted),
        ("/messages/?session_id=x", "http://page.example", granted),
        ("/sse", "http://evil.example", origin),
    ] {
        let headers = format!("Host: @\r\nOrigin: {origin}\r\n{asks}");
        house.check(&format!("OPTIONS {path} HTTP/1.1\r\n{headers}\r\n"), &[wanted]);
    }
}

#[test]
fn posts() {
    let mut house = House::start(&["--max-message-bytes", "5000"]);
    let gone = "404 -32600 there is no such session, or it has ended";
    let no_session = "400 close -32600 the query has no session_id";
    let kind = "415 close -32600 the body must be application/json";
    let post = |target: &str, headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: @\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    for (target, wanted) in [
        ("ENDPOINT", "202"),
        ("http://@ENDPOINT", "202"),
        ("ENDPOINT&x=1", "202"),
        ("/messages/", no_session),
        ("/messages/?", no_session),
        ("/messages/?session_id=", no_session),
        ("/messages/?session_id", no_session),
        ("/messages/?SESSION_ID=x", no_session),
        ("/messages/?session_id=00000000000000000000000000000000", gone),
        ("/messages/?session_id=x&session_id=y", gone),
        ("/messages/?session_id=%00", gone),
        ("ENDPOINT%20", gone),
        (
            "/messages/x?session_id=x",
            "404 close -32600 there is nothing at this path; Streamable HTTP is at /mcp, HTTP+SSE at /sse",
        ),
    ] {
        house.check(&post(target, "", NOTIFICATION), &[wanted]);
    }
    for (header, wanted) in [
        ("", "202"),
        ("Content-Type: application/json\r\n", "202"),
        ("Content-Type: APPLICATION/JSON; charset=utf-8; x=\"y\"\r\n", "202"),
        ("Content-Type: text/plain\r\n", kind),
        ("Content-Type: application/x-www-form-urlencoded\r\n", kind),
        ("Content-Type: application/jsonp\r\n", kind),
        ("Content-Type: application\r\n", kind),
        ("Content-Type:\r\n", kind),
    ] {
        house.check(&post("ENDPOINT", header, NOTIFICATION), &[wanted]);
    }
    let is = |what: &str| format!("400 {what}");
    for (body, wanted) in [
        ("", is("-32700 the body is no message: it is not JSON (at byte 0)")),
        ("no JSON", is("-32700 the body is no message: it is not JSON (at byte 2)")),
        ("{\"jsonrpc\":\"2.0\"", is("-32700 the body is no message: it is not JSON (at byte 16)")),
        ("{\"jsonrpc\":\"2.0\",\"method\":\"\u{ff}\"}", is("-32700 the body is no message: it is not UTF-8")),
        ("1", is("-32600 the body is no message: it is no JSON-RPC message")),
        ("{}", is("-32600 the body is no message: it has no \"jsonrpc\": \"2.0\"")),
        (
            "{\"jsonrpc\":\"2.0\"}",
            is("-32600 the body is no message: it is no request, no notification and no response"),
        ),
        ("[]", is("-32600 the body is no message: an empty batch")),
        ("[{\"jsonrpc\":\"2.0\",\"method\":\"x\"},{\"jsonrpc\":\"2.0\",\"method\":\"y\"}]", "202".into()),
    ] {
        let length = body.chars().count();
        let request = format!("POST ENDPOINT HTTP/1.1\r\nHost: @\r\nContent-Length: {length}\r\n\r\n{body}");
        house.check(&request, &[&wanted]);
    }
    // A message that is too large costs only itself: the session lives on.
    let too_long = "413 close -32600 the message is too long; --max-message-bytes allows longer ones";
    let large = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(BODY_LIMIT));
    house.check(&post("ENDPOINT", "", &large), &[too_long]);
    let echo = request(78, "tools/call", r#"{"name":"echo","arguments":{"text":"lives on"}}"#);
    house.check(&post("ENDPOINT", "", &echo), &["202"]);
    house.other.hears("lives on");
}

#[test]
fn sizes_of_the_head() {
    let mut house = House::start(&["--max-header-bytes", "8192"]);
    let too_long = "431 close -32600 the request's head is too long";
    let too_many = "431 close -32600 the request has too many headers";
    let get = |headers: &str| format!("GET /status HTTP/1.1\r\nHost: @\r\n{headers}\r\n");
    let spare = get("A: \r\n").len() - 1 + house.address.len();
    let fill = |bytes: usize| format!("A: {}\r\n", "x".repeat(bytes - spare));
    house.check(&get(&fill(8192)), &["200 {status}"]);
    house.check(&get(&fill(8193)), &[too_long]);
    house.check(&get(&"A: b\r\n".repeat(127)), &["200 {status}"]);
    house.check(&get(&"A: b\r\n".repeat(128)), &[too_many]);
    house.check(&get(&"A: b\r\n".repeat(5000)), &[too_long]);
    // Without an end of any kind.
    house.check(&format!("GET /{}", "x".repeat(9000)), &[too_long]);
    house.check(&format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(100_000)), &[too_long]);
    house.check(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(20_000)), &[too_long]);
    house.check(&"\r\n".repeat(5000), &[too_long]);
}

#[test]
fn one_connection_many_requests() {
    let mut house = House::start(&[]);
    let (ok, closed) = ("200 {status}", "200 close {status}");
    let get = |version: &str, headers: &str| format!("GET /status HTTP/{version}\r\nHost: @\r\n{headers}\r\n");
    for (headers, version, wanted) in [
        ("", "1.1", ok),
        ("Connection: keep-alive\r\n", "1.1", ok),
        ("Connection: close\r\n", "1.1", closed),
        ("Connection: Foo, CLOSE\r\n", "1.1", closed),
        ("Connection: foo\r\nConnection: close\r\n", "1.1", closed),
        ("Connection: closed\r\n", "1.1", ok),
        ("", "1.0", closed),
        ("Connection: close\r\n", "1.0", closed),
        ("Connection: keep-alive\r\n", "1.0", closed),
    ] {
        house.check(&get(version, headers), &[wanted]);
    }
    house.check("GET /status HTTP/1.0\r\n\r\n", &[closed]);
    let post = format!("{}{NOTIFICATION}", post("Content-Length: 30\r\n"));
    house.check(&get("1.1", "").repeat(50), &[ok; 50]);
    house.check(&format!("{STATUS}{post}HEAD /status HTTP/1.1\r\nHost: @\r\n\r\n"), &[ok, "202", "200"]);
    house.check(&format!("{STATUS}{}{STATUS}", get("1.1", "Connection: close\r\n")), &[ok, closed]);
    house.check(
        &format!("{post}GET / HTTP/3.0\r\n\r\n{STATUS}"),
        &["202", "505 close -32603 only HTTP/1.1 and HTTP/1.0 are spoken"],
    );
    // Empty lines between requests are left out; so some old clients end a body.
    house.check(&format!("{post}\r\n{STATUS}"), &["202", ok]);
}

#[test]
fn expectations() {
    let mut house = House::start(&["--max-message-bytes", "5000"]);
    let head = post("Expect: 100-Continue\r\nContent-Length: 30\r\n");
    let mut raw = house.connect();
    raw.send(&head);
    assert_eq!(raw.answer(false), "100");
    raw.send(NOTIFICATION);
    assert_eq!(raw.answer(false), "202");
    raw.send(&post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"));
    assert_eq!(raw.answer(false), "100");
    raw.send(&format!("1e\r\n{NOTIFICATION}\r\n0\r\n\r\n"));
    assert_eq!(raw.answer(false), "202");
    for (headers, wanted) in [
        ("Expect: 200-ok\r\nContent-Length: 30\r\n", "417 close -32600 the expectation cannot be met"),
        ("Expect:\r\nContent-Length: 30\r\n", "417 close -32600 the expectation cannot be met"),
        (
            "Expect: 100-continue\r\nContent-Length: 5001\r\n",
            "413 close -32600 the message is too long; --max-message-bytes allows longer ones",
        ),
        (
            "Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: 30\r\n",
            "415 close -32600 the body must be application/json",
        ),
    ] {
        house.check(&post(headers), &[wanted]);
    }
    // Who does not wait needs no leave.
    house.check(&format!("{head}{NOTIFICATION}"), &["202"]);
    house.check("GET /status HTTP/1.1\r\nHost: @\r\nExpect: 100-continue\r\n\r\n", &["200 {status}"]);
}

#[test]
fn who_leaves_in_the_middle_gets_no_answer() {
    let mut house = House::start(&[]);
    let whole = format!("{}{NOTIFICATION}", post("Content-Length: 30\r\n"));
    let chunked = format!("{}1e\r\n{NOTIFICATION}\r\n0\r\n\r\n", post("Transfer-Encoding: chunked\r\n"));
    for request in [whole, chunked] {
        let request = house.bytes(&request);
        for cut in 0..request.len() {
            let mut raw = house.connect();
            raw.send_bytes(&request[..cut]);
            if cut % 2 == 0 {
                let _ = raw.socket.shutdown(Shutdown::Write);
                assert_eq!(raw.rest(), "", "cut at {cut}");
            } // else: gone altogether
        }
        house.beat();
    }
    // Gone without reading the answer, which resets the connection.
    for _ in 0..50 {
        house.connect().send(&STATUS.repeat(20));
    }
    house.beat();
}

#[test]
fn requests_in_pieces_are_whole_requests() {
    let mut house = House::start(&[]);
    let whole = format!("{}{NOTIFICATION}", post("Content-Length: 30\r\n"));
    let chunks = format!("7\r\n{}\r\n17;x\r\n{}\r\n", &NOTIFICATION[..7], &NOTIFICATION[7..]);
    let chunked = format!("{}{chunks}0\r\nA: b\r\n\r\n", post("Transfer-Encoding: chunked\r\n"));
    let mut raw = house.connect();
    let mut other = house.connect();
    for request in [whole, chunked] {
        let request = house.bytes(&request);
        for cut in 1..request.len() {
            raw.send_bytes(&request[..cut]);
            other.send(STATUS); // most likely the first piece is read alone meanwhile
            assert_eq!(other.answer(false), "200 {status}");
            raw.send_bytes(&request[cut..]);
            assert_eq!(raw.answer(false), "202", "cut at {cut}");
        }
    }
    house.beat();
}

#[test]
fn slow_requests_are_ended() {
    let limits = ["--head-timeout", "1", "--body-timeout", "1", "--idle-timeout", "1"];
    let mut house = House::start(&limits);
    let head = "408 close -32600 the request's head took too long";
    let body = "408 close -32600 the request's body paused for too long";
    let chunked = post("Transfer-Encoding: chunked\r\n");
    let all = [
        ("", ""), // there is no request to answer
        ("G", head),
        ("\r\n", head),
        ("GET /status HTTP/1.1\r\nHost: @\r\n", head),
        ("GET /status HTTP/1.1\r\nHost: @\r\n\r", head),
        (&post("Content-Length: 30\r\n"), body),
        (&format!("{}{}", post("Content-Length: 30\r\n"), &NOTIFICATION[1..]), body),
        (&chunked, body),
        (&format!("{chunked}1e"), body),
        (&format!("{chunked}1e\r\n{{"), body),
        (&format!("{chunked}1e\r\n{NOTIFICATION}\r\n0\r\n"), body),
    ];
    // All of them at the same time: each is only waited for.
    thread::scope(|scope| {
        for (begun, wanted) in all {
            let mut raw = house.connect();
            let start = Instant::now();
            raw.send(begun);
            scope.spawn(move || {
                assert_eq!(raw.last(wanted), wanted, "{begun:?}");
                let took = start.elapsed();
                assert!(took >= Duration::from_millis(900), "{begun:?}: took {took:?}");
            });
        }
        house.beat();
    });
    house.beat();
    // A head that comes byte by byte has no more time for that.
    let mut raw = house.connect();
    let drip = raw.socket.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        let bytes = std::iter::once(b"GET /".as_slice()).chain(std::iter::repeat(b"x".as_slice()));
        bytes
            .take_while(|byte| { &drip }.write_all(byte).is_ok())
            .for_each(|_| thread::sleep(Duration::from_millis(50)));
    });
    assert_eq!(raw.last(head), head);
    dripping.join().unwrap();
    // A body that comes slowly, but without such a pause, has all the time it needs.
    let slowly = |house: &House| {
        let mut raw = house.connect();
        raw.send(&post("Content-Length: 30\r\n"));
        let mut longest = Duration::ZERO;
        for piece in NOTIFICATION.as_bytes().chunks(3) {
            let start = Instant::now();
            thread::sleep(Duration::from_millis(150));
            raw.send_bytes(piece);
            longest = longest.max(start.elapsed());
        }
        (raw, longest)
    };
    // Where the machine was busy with others for long, there was such a pause.
    let steady = std::iter::repeat_with(|| slowly(&house)).take(10).find(|(_, longest)| longest.as_millis() < 500);
    let (mut raw, _) = steady.expect("a machine that is not away for half a second each time");
    assert_eq!(raw.answer(false), "202");
    // A connection that waits for its next request is closed without a word.
    assert_eq!(raw.rest(), "");
    house.beat();
}

#[test]
fn over_the_limits_of_connections_and_sessions() {
    let busy = "503 close retry-after: 5 -32603 too many connections; --max-connections allows more";
    let house = House::start(&["--max-connections", "12"]);
    let mut held = Vec::new();
    let get_in = || {
        let mut raw = house.connect();
        raw.send("GET /sse HTTP/1.1\r\nHost: @\r\n\r\n");
        raw.hears("\r\n\r\n").starts_with("HTTP/1.1 200 ").then_some(raw)
    };
    // Two streams and ten more; those that were closed a moment ago may count still.
    wait_until("ten connections", SOON, || {
        held.extend(get_in());
        held.len() == 10
    });
    for _ in 0..10 {
        let mut raw = house.connect();
        raw.send(STATUS);
        assert_eq!(raw.last(busy), busy);
    }
    // The place of a connection that waits is for whoever comes.
    drop(held.pop());
    let mut idle = Vec::new();
    wait_until("five connections at one place", SOON, || {
        let mut raw = house.connect();
        raw.send(STATUS);
        if raw.answer(false) == "200 {status}" {
            idle.push(raw);
        }
        idle.len() == 5
    });
    assert_eq!(idle[0].rest(), "", "it was closed for another one");
    // One that is in the middle of a request is told so, whether that came alone or together with the one before.
    let told = "503 close retry-after: 5 -32603 others need the place of this connection";
    let whole = format!("{}{NOTIFICATION}", post("Content-Length: 30\r\n"));
    let body = format!("{}{{", post("Content-Length: 4000\r\n"));
    let chunks = format!("{}1e\r\n{{", post("Transfer-Encoding: chunked\r\n"));
    let line = "GET /status HTTP/1.1\r\n";
    let together = [line, &body, &chunks].map(|half| (format!("{whole}{half}"), ""));
    for (first, then) in [(whole.clone(), line), (whole.clone(), &body)].into_iter().chain(together) {
        let mut half = None;
        wait_until("a place for the half of a request", SOON, || {
            let mut raw = house.connect();
            raw.send(&first);
            let is_in = raw.answer(false) == "202";
            half = is_in.then_some(raw);
            is_in
        });
        let mut half = half.expect("a connection");
        half.send(then);
        wait_until("the place of a request that is not whole", SOON, || {
            let mut raw = house.connect();
            raw.send(STATUS);
            raw.answer(false) == "200 {status}"
        });
        assert_eq!(half.last(told), told, "after {first:?} and {then:?}");
    }
    for raw in &mut held {
        raw.hears("event: endpoint"); // the others go on
    }
    drop(held);
    wait_until("room for others", SOON, || house.good.post(&request(1000, "ping", "{}")) == 202);
    let _ = house.good.message("\"id\":1000,");

    let mut house = House::start(&["--max-sessions", "2"]);
    let busy = "503 close retry-after: 5 -32603 too many sessions; --max-sessions allows more";
    house.check("GET /sse HTTP/1.1\r\nHost: @\r\n\r\n", &[busy]);
    house.check(
        "GET /sse HTTP/1.1\r\nHost: @\r\nAccept: text/plain\r\n\r\n",
        &["406 close -32600 the client must accept text/event-stream"],
    );
    house.other.socket.shutdown(Shutdown::Both).unwrap();
    wait_until("room for another session", SOON, || Client::try_open(&house.address).is_ok());
    house.beat();
}

#[test]
fn garbage_of_every_kind_is_survived() {
    let mut house = House::start(&["--max-message-bytes", "5000"]);
    let seeds = [
        house.bytes(&format!("{}{NOTIFICATION}{STATUS}", post("Content-Length: 30\r\n"))),
        house.bytes(&format!("{}1e\r\n{NOTIFICATION}\r\n0\r\n\r\n{STATUS}", post("Transfer-Encoding: chunked\r\n"))),
    ];
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % 1_000_003).unwrap() % limit
    };
    let odd = [b"\r\n".as_slice(), b"\n", b"\r", b" ", b"\0", b":", b"0", b"f", b";", b"\x80", b"chunked", b"\r\n\r\n"];
    for round in 0..600 {
        let mut bytes = seeds[round % 2].clone();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(3) {
                0 => drop(bytes.splice(at..=at, odd[below(odd.len())].iter().copied())),
                1 => drop(bytes.splice(at..at, odd[below(odd.len())].iter().copied())),
                _ => drop(bytes.drain(at..bytes.len().min(at + 1 + below(9)))),
            }
        }
        let mut raw = house.connect();
        raw.send_bytes(&bytes);
        let _ = raw.socket.shutdown(Shutdown::Write);
        let rest = raw.rest();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 "), "{:?}: {rest}", String::from_utf8_lossy(&bytes));
        if round % 50 == 0 {
            house.beat();
        }
    }
    house.beat();
}

/// What follows when a request for the status stands behind one that is answered with `first`.
fn with_rest(first: &str) -> Vec<&str> {
    if first.contains(" close ") { vec![first] } else { vec![first, "200 {status}"] }
}
