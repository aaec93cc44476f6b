//! What each request asks for, by tables.

use super::*;

const SESSION: (&str, &str) = (SESSION_ID, "ab");
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");

pub(super) fn request(line: &str, headers: &[(&str, &str)]) -> Request<()> {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

pub(super) fn status(line: &str, headers: &[(&str, &str)], rules: &Rules) -> u16 {
    route(&request(line, headers), rules).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
}

fn asked(line: &str, headers: &[(&str, &str)], rules: &Rules) -> Result<(Option<String>, Action), u16> {
    let asked = route(&request(line, headers), rules).map_err(|refusal| refusal.status.as_u16())?;
    Ok((asked.server, asked.action))
}

fn message(session: Option<&str>) -> Action {
    Action::Message {
        session: session.map(str::to_owned),
        revision: None,
        takes_json: true,
        takes_events: false,
        mirrored: None,
    }
}

fn listen(revision: Option<&str>, last: Option<&str>) -> Action {
    let revision = revision.map(|revision| revision.parse().unwrap());
    Action::Listen { session: "ab".into(), revision, last_event_id: last.map(str::to_owned) }
}

#[test]
fn routes() {
    let post = |session: &str| Ok(Action::Post { session: session.into() });
    let end = || Ok(Action::EndSession { session: "ab".into(), revision: None });
    for (line, wanted) in [
        ("GET /sse", Ok(Action::OpenSession)),
        ("GET /sse/?x=1", Ok(Action::OpenSession)),
        ("POST /messages/?session_id=ab", post("ab")),
        ("POST /messages?x=1&session_id=ab", post("ab")),
        ("POST /mcp", Ok(message(Some("ab")))),
        ("POST /mcp/?x=1", Ok(message(Some("ab")))),
        ("GET /mcp", Ok(listen(None, None))),
        ("GET /mcp/", Ok(listen(None, None))),
        ("DELETE /mcp", end()),
        ("DELETE /mcp/", end()),
        ("GET /status", Ok(Action::Status)),
        ("HEAD /status/", Ok(Action::Status)),
        ("GET /healthz", Ok(Action::Health)),
        ("HEAD /healthz", Ok(Action::Health)),
        ("GET /metrics", Ok(Action::Metrics)),
        ("HEAD /metrics", Ok(Action::Metrics)),
        ("POST /sse", Err(405)),
        ("HEAD /sse", Err(405)),
        ("GET /messages/", Err(405)),
        ("PUT /mcp", Err(405)),
        ("HEAD /mcp", Err(405)),
        ("get /mcp", Err(405)),
        ("DELETE /status", Err(405)),
        ("POST /healthz", Err(405)),
        ("POST /metrics", Err(405)),
        ("OPTIONS /sse", Err(405)),
        ("OPTIONS /mcp", Err(405)),
        ("POST /messages/", Err(400)),
        ("POST /messages/?session_id=", Err(400)),
        ("GET /", Err(404)),
        ("GET //sse", Err(404)),
        ("GET /sse//", Err(404)),
        ("GET /%73se", Err(404)),
        ("GET /x/../sse", Err(404)),
        ("POST /MCP", Err(404)),
        ("POST /mcp/x", Err(404)),
        ("GET /servers", Err(404)),
        ("GET /servers/", Err(404)),
        ("OPTIONS *", Err(404)),
    ] {
        let got = asked(line, &[SESSION], &Rules::default());
        assert_eq!(got, wanted.map(|action| (None, action)), "{line}");
    }
}

#[test]
fn each_server_has_its_own_paths() {
    let post = || Ok(Action::Post { session: "ab".into() });
    for (line, server, wanted) in [
        ("GET /servers/a/sse", "a", Ok(Action::OpenSession)),
        ("GET /servers/a.b-c_~!$&'()*+,;=:@/sse/", "a.b-c_~!$&'()*+,;=:@", Ok(Action::OpenSession)),
        ("POST /servers/a/messages/?session_id=ab", "a", post()),
        ("POST /servers/a/messages?session_id=ab", "a", post()),
        ("POST /servers/A/mcp", "A", Ok(message(Some("ab")))),
        ("GET /servers/a/mcp/", "a", Ok(listen(None, None))),
        ("POST /servers/%61/mcp", "%61", Ok(message(Some("ab")))),
        ("POST /servers/servers/mcp", "servers", Ok(message(Some("ab")))),
        ("POST /servers/a/sse", "a", Err(405)),
        ("GET /servers/a", "", Err(404)),
        ("GET /servers/a/", "", Err(404)),
        ("GET /servers//sse", "", Err(404)),
        ("GET /servers/a//sse", "", Err(404)),
        ("GET /servers/a/b/sse", "", Err(404)),
        ("GET /servers/sse", "", Err(404)),
        ("GET /servers/a/status", "", Err(404)),
        ("GET /servers/a/healthz", "", Err(404)),
        ("GET /Servers/a/sse", "", Err(404)),
        ("GET /x/servers/a/sse", "", Err(404)),
    ] {
        let got = asked(line, &[SESSION], &Rules::default());
        assert_eq!(got, wanted.map(|action| (Some(server.to_owned()), action)), "{line}");
    }
}

#[test]
fn the_base_path_may_be_there_or_not() {
    for (base, path, server) in [
        ("/base", "/base/sse", Ok(None)),
        ("/base", "/sse", Ok(None)),
        ("/base", "/base/servers/a/sse", Ok(Some("a"))),
        ("/base", "/servers/a/sse/", Ok(Some("a"))),
        ("/a/b", "/a/b/sse", Ok(None)),
        ("/servers/a", "/servers/a/sse", Ok(None)),
        ("/servers/a", "/servers/b/sse", Ok(Some("b"))),
        ("/sse", "/sse", Ok(None)),
        ("/sse", "/sse/", Ok(None)),
        ("/sse", "/sse/sse", Ok(None)),
        ("/base", "/basesse", Err(404)),
        ("/base", "/based/sse", Err(404)),
        ("/base", "/base", Err(404)),
        ("/base", "/base/base/sse", Err(404)),
        ("/a/b", "/a/sse", Err(404)),
    ] {
        let rules = Rules { base_path: base.into(), ..Rules::default() };
        let got = asked(&format!("GET {path}"), &[], &rules);
        let wanted = server.map(|server| (server.map(str::to_owned), Action::OpenSession));
        assert_eq!(got, wanted, "{base} {path}");
    }
}

#[test]
fn where_messages_of_http_sse_go() {
    for (prefix, server, wanted) in [
        ("", None, "/messages/?session_id=ab"),
        ("/x", None, "/x/messages/?session_id=ab"),
        ("", Some("a"), "/servers/a/messages/?session_id=ab"),
        ("/x/y", Some("a"), "/x/y/servers/a/messages/?session_id=ab"),
    ] {
        assert_eq!(endpoint(prefix, server, "ab"), wanted);
    }
    let back = asked(
        &format!("POST {}", endpoint("/x", Some("a"), "ab")),
        &[],
        &Rules { base_path: "/x".into(), ..Rules::default() },
    );
    assert_eq!(back, Ok((Some("a".into()), Action::Post { session: "ab".into() })));
}

#[test]
fn what_is_sent_and_what_is_taken() {
    let (json, events, both) = ("application/json", "text/event-stream", BOTH.1);
    for (line, name, value, wanted) in [
        ("GET /sse", "accept", events, 200),
        ("GET /sse", "accept", "text/html, TEXT/Event-Stream;q=0.5", 200),
        ("GET /sse", "accept", "*/*", 200),
        ("GET /sse", "accept", json, 406),
        ("GET /mcp", "accept", events, 200),
        ("GET /mcp", "accept", "*/*", 200),
        ("GET /mcp", "accept", json, 406),
        ("POST /mcp", "accept", both, 200),
        ("POST /mcp", "accept", events, 200),
        ("POST /mcp", "accept", "application/*", 200),
        ("POST /mcp", "accept", "text/html", 406),
        ("POST /messages/?session_id=a", "accept", "text/html", 200),
        ("POST /messages/?session_id=a", "content-type", json, 200),
        ("POST /messages/?session_id=a", "content-type", "Application/JSON; charset=utf-8", 200),
        ("POST /messages/?session_id=a", "content-type", "text/plain", 415),
        ("POST /messages/?session_id=a", "content-type", "application/jsonp", 415),
        ("POST /mcp", "content-type", json, 200),
        ("POST /mcp", "content-type", "application/json;charset=UTF-8", 200),
        ("POST /mcp", "content-type", "text/plain", 415),
        ("POST /mcp", "content-type", "", 415),
        ("GET /mcp", "content-type", "text/plain", 200),
        ("DELETE /mcp", "content-type", "text/plain", 200),
        ("DELETE /mcp", "accept", "text/html", 200),
    ] {
        assert_eq!(status(line, &[SESSION, (name, value)], &Rules::default()), wanted, "{line} {value}");
    }
}

#[test]
fn the_form_of_an_answer() {
    for (accept, wanted) in [
        (None, (true, false)),
        (Some("*/*"), (true, false)),
        (Some("application/json"), (true, false)),
        (Some("text/event-stream"), (false, true)),
        (Some(BOTH.1), (true, true)),
    ] {
        let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
        let (_, action) = asked("POST /mcp", &headers, &Rules::default()).unwrap();
        let Action::Message { takes_json, takes_events, .. } = action else { panic!("{action:?}") };
        assert_eq!((takes_json, takes_events), wanted, "{accept:?}");
    }
}

#[test]
fn headers_of_a_session() {
    let long = "x".repeat(2000);
    for (headers, post, get, delete) in [
        (&[SESSION][..], 200, 200, 200),
        (&[], 200, 400, 400),
        (&[("accept", "text/html")], 406, 400, 400),
        (&[(SESSION_ID, "")], 200, 400, 400),
        (&[(SESSION_ID, "!~")], 200, 200, 200),
        (&[(SESSION_ID, &long)], 200, 200, 200),
        (&[(SESSION_ID, "a b")], 400, 400, 400),
        (&[(SESSION_ID, "a\tb")], 400, 400, 400),
        (&[(SESSION_ID, "ä")], 400, 400, 400),
        (&[SESSION, SESSION], 400, 400, 400),
        (&[SESSION, (PROTOCOL_VERSION, "2024-11-05")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "2025-03-26")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "2025-06-18")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "2025-11-25")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "2026-07-28")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "2099-01-01")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "")], 200, 200, 200),
        (&[SESSION, (PROTOCOL_VERSION, "1999-01-01")], 200, 400, 400),
        (&[SESSION, (PROTOCOL_VERSION, "2025-11-24")], 200, 400, 400),
        (&[SESSION, (PROTOCOL_VERSION, "1.0")], 200, 400, 400),
        (&[SESSION, (PROTOCOL_VERSION, "ü")], 200, 400, 400),
        (&[SESSION, (PROTOCOL_VERSION, "2025-06-18"), (PROTOCOL_VERSION, "2025-06-18")], 200, 400, 400),
        (&[(PROTOCOL_VERSION, "2025-11-25")], 200, 400, 400),
        (&[(PROTOCOL_VERSION, "2026-07-28")], 200, 405, 405),
        (&[(PROTOCOL_VERSION, "2026-07-28"), (SESSION_ID, "a b")], 200, 400, 400),
        (&[SESSION, (LAST_EVENT_ID, "ü")], 200, 400, 200),
        (&[SESSION, (LAST_EVENT_ID, "1"), (LAST_EVENT_ID, "2")], 200, 400, 200),
    ] {
        for (method, wanted) in [("POST", post), ("GET", get), ("DELETE", delete)] {
            assert_eq!(status(&format!("{method} /mcp"), headers, &Rules::default()), wanted, "{method} {headers:?}");
        }
    }
}

#[test]
fn what_a_head_says_of_a_modern_body() {
    let said = |headers: &[(&str, &str)]| match asked("POST /mcp", headers, &Rules::default()) {
        Ok((_, Action::Message { mirrored, .. })) => mirrored,
        other => panic!("{other:?}"),
    };
    for headers in [&[][..], &[SESSION], &[(PROTOCOL_VERSION, "2025-11-25")], &[(PROTOCOL_VERSION, "")]] {
        assert_eq!(said(headers), None, "{headers:?}");
    }
    let full = said(&[
        SESSION,
        (PROTOCOL_VERSION, "2026-07-28"),
        (METHOD, "tools/call"),
        (NAME, " =?base64?w6k=?= "),
        ("Mcp-Param-Region", "us"),
    ]);
    let wanted = Mirrored {
        version: Some("2026-07-28".into()),
        method: Some("tools/call".into()),
        name: Some("=?base64?w6k=?=".into()),
        params: vec![("mcp-param-region".into(), "us".into())],
        refusal: None,
        malformed: None,
    };
    assert_eq!(full.as_deref(), Some(&wanted));
    assert_eq!(said(&[(METHOD, "x")]).unwrap().version, None);
    let unknown = said(&[(PROTOCOL_VERSION, "1900-01-01")]).unwrap();
    assert_eq!((unknown.version.as_deref(), unknown.malformed), (Some("1900-01-01"), None));
    assert!(unknown.refusal.unwrap().reason.contains("supported are 2024-11-05"));
    for headers in [&[(METHOD, "x"), (METHOD, "x")][..], &[(NAME, "ä")], &[(PROTOCOL_VERSION, "ü")]] {
        assert!(said(headers).unwrap().malformed.is_some(), "{headers:?}");
    }
}

#[test]
fn what_a_client_wants_to_hear() {
    for (headers, revision, last) in [
        (&[][..], None, None),
        (&[(PROTOCOL_VERSION, "2025-11-25"), (LAST_EVENT_ID, "7-1")], Some("2025-11-25"), Some("7-1")),
        (&[(LAST_EVENT_ID, "")], None, None),
        (&[(LAST_EVENT_ID, "a b")], None, Some("a b")),
    ] {
        let headers = [&[SESSION, ("accept", "text/event-stream")], headers].concat();
        let got = asked("GET /mcp", &headers, &Rules::default());
        assert_eq!(got, Ok((None, listen(revision, last))), "{headers:?}");
    }
}

#[test]
fn without_sessions_there_is_only_post() {
    let rules = Rules { stateless: true, ..Rules::default() };
    for line in ["GET /mcp", "DELETE /mcp/", "GET /servers/a/mcp", "HEAD /mcp"] {
        for headers in [&[][..], &[SESSION]] {
            let refusal = route(&request(line, headers), &rules).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.allow), (405, Some("POST, OPTIONS")), "{line}");
        }
    }
    assert_eq!(asked("POST /mcp", &[], &rules), Ok((None, message(None))));
    assert_eq!(asked("GET /sse", &[], &rules), Ok((None, Action::OpenSession)));
}

#[test]
fn a_refusal_says_what_would_be_right() {
    for (line, headers, status, code, text) in [
        ("GET /x", &[][..], 404, -32600, "/mcp"),
        ("GET /messages", &[], 405, -32600, "not allowed here"),
        ("POST /mcp", &[("accept", "x/y")], 406, -32600, "application/json or text/event-stream"),
        ("POST /mcp", &[("content-type", "x/y")], 415, -32600, "must be application/json"),
        ("POST /mcp", &[SESSION, SESSION], 400, -32600, "Mcp-Session-Id is there twice"),
        ("GET /mcp", &[], 400, -32600, "has no Mcp-Session-Id"),
        ("GET /mcp", &[SESSION, (PROTOCOL_VERSION, "1.0")], 400, -32600, "supported are 2024-11-05, 2025-03-26"),
        ("GET /mcp", &[(PROTOCOL_VERSION, "2026-07-28")], 405, -32600, "there is only POST"),
    ] {
        let refusal = route(&request(line, headers), &Rules::default()).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.code), (status, code), "{line}");
        assert!(refusal.reason.contains(text), "{line}: {}", refusal.reason);
        assert!(refusal.message().text().starts_with(r#"{"jsonrpc":"2.0","id":null,"error":"#));
    }
}

#[test]
fn browsers_may_ask_everywhere() {
    let asks = [("access-control-request-method", "POST")];
    for (line, wanted) in [
        ("OPTIONS /sse", 200),
        ("OPTIONS /messages/", 200),
        ("OPTIONS /mcp", 200),
        ("OPTIONS /servers/a/mcp", 200),
        ("OPTIONS /metrics", 200),
        ("OPTIONS /x", 404),
    ] {
        assert_eq!(status(line, &asks, &Rules::default()), wanted, "{line}");
    }
}
