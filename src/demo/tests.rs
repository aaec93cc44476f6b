//! What the demo server answers, line by line, with a clock of the test's own.

use super::*;
use crate::protocol::message::ends::Ends;

const FIRST: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;

/// A server with a clock of its own.
struct Talk {
    demo: Demo,
    now: Now,
}

impl Talk {
    fn new() -> Self {
        Self { demo: Demo::default(), now: Now { instant: Instant::now(), since_epoch: Duration::ZERO } }
    }

    fn begun(revision: &str) -> Self {
        let mut talk = Self::new();
        talk.say(&FIRST.replace("2025-06-18", revision));
        talk
    }

    /// What is answered to `line` at once.
    fn say(&mut self, line: &str) -> String {
        let mut out = String::new();
        self.demo.answer(Line::Complete(line.into()), self.now, &mut out);
        out
    }

    /// What is said when so many milliseconds have passed.
    fn wait(&mut self, ms: u64) -> String {
        let mut out = String::new();
        self.now.instant += Duration::from_millis(ms);
        self.demo.count_on(Some(self.now.instant), &mut out);
        out
    }
}

fn call(id: &str, name: &str, rest: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}"{rest}}}}}"#)
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn error(id: &str, code: i32, reason: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":\"{reason}\"}}}}\n")
}

fn text(id: &str, text: &str, is_error: bool) -> String {
    let result = format!(r#"{{"content":[{{"text":"{text}","type":"text"}}],"isError":{is_error}}}"#);
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n")
}

#[test]
fn the_version_is_the_clients_or_the_newest() {
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let answer = Talk::new().say(&FIRST.replace("2025-06-18", asked));
        assert!(answer.contains(&format!(r#""protocolVersion":"{agreed}""#)), "{asked}: {answer}");
    }
    let answer = Talk::new().say(&request("initialize", "{}"));
    assert_eq!(answer, error("1", INVALID_PARAMS, "'protocolVersion' must be there and a string"));
}

#[test]
fn before_initialize_only_ping() {
    let mut talk = Talk::new();
    assert_eq!(talk.say(&request("ping", "{}")), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
    let first = "'initialize' comes first";
    assert_eq!(talk.say(&request("tools/list", "{}")), error("1", INVALID_REQUEST, first));
    assert_eq!(talk.say(&call("2", "time", "")), error("2", INVALID_REQUEST, first));
    let unknown = "there is no method 'server/discover'";
    assert_eq!(talk.say(&request("server/discover", "{}")), error("1", METHOD_NOT_FOUND, unknown));
}

#[test]
fn lines_in_and_lines_out() {
    let echo = |id: &str, text: &str| call(id, "echo", &format!(r#","arguments":{{"text":"{text}"}}"#));
    let list = |cursor: &str| request("tools/list", &format!(r#"{{"cursor":{cursor}}}"#));
    let no_text = "argument 'text' must be there and a string";
    for (line, wanted) in [
        (echo("1", "hi"), text("1", "hi", false)),
        (echo("1.0", "\\u0068i"), text("1.0", "hi", false)),
        (echo(r#""\u0061""#, "é"), text(r#""\u0061""#, "é", false)),
        (echo("1152921504606846976", "a\\nb"), text("1152921504606846976", "a\\nb", false)),
        (call("1", "time", ""), text("1", "1970-01-01T00:00:00Z", false)),
        (call("1", "time", r#","arguments":null"#), text("1", "1970-01-01T00:00:00Z", false)),
        (call("1", "x", ""), error("1", INVALID_PARAMS, "there is no tool 'x'")),
        (call("1", "echo", ""), error("1", INVALID_PARAMS, no_text)),
        (call("1", "echo", r#","arguments":[]"#), error("1", INVALID_PARAMS, "'arguments' must be an object")),
        (request("tools/call", "{}"), error("1", INVALID_PARAMS, "'name' must be there and a string")),
        (request("tools/call", "[]"), error("1", INVALID_PARAMS, "'params' must be an object")),
        (list("\"x\""), error("1", INVALID_PARAMS, "there is no such cursor")),
        (request("x", "{}"), error("1", METHOD_NOT_FOUND, "there is no method 'x'")),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into(), String::new()),
        (r#"{"jsonrpc":"2.0","method":"x"}"#.into(), String::new()),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), String::new()),
        ("{}".into(), error("null", INVALID_REQUEST, "it has no \\\"jsonrpc\\\": \\\"2.0\\\"")),
        ("{".into(), error("null", -32700, "it is not JSON (at byte 1)")),
        ("[]".into(), error("null", INVALID_REQUEST, "an empty batch")),
        (format!("[{},{}]", echo("1", "a"), echo("2", "b")), text("1", "a", false) + &text("2", "b", false)),
    ] {
        assert_eq!(Talk::begun("2025-06-18").say(&line), wanted, "{line}");
    }
    let list = Talk::begun("2025-06-18").say(&list("null"));
    assert_eq!(list.matches("\"inputSchema\"").count(), 4, "{list}");
}

#[test]
fn the_newest_revision_lets_the_tool_explain_wrong_arguments() {
    let reason = "argument 'text' must be there and a string";
    assert_eq!(Talk::begun("2025-11-25").say(&call("1", "echo", "")), text("1", reason, true));
    let unknown = error("1", INVALID_PARAMS, "there is no tool 'x'");
    assert_eq!(Talk::begun("2025-11-25").say(&call("1", "x", "")), unknown);
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let mut talk = Talk::new();
    let mut out = String::new();
    talk.demo.answer(Line::TooLong { bytes: 70_000_000, ends: Ends::default() }, talk.now, &mut out);
    assert_eq!(out, error("null", INVALID_REQUEST, "a line of 70000000 bytes is too long"));
}

const COUNT: &str = r#","arguments":{"to":3,"delay_ms":10}"#;

fn progress(token: &str, done: u32) -> String {
    let params = format!(r#"{{"progressToken":{token},"progress":{done},"total":3}}"#);
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{params}}}\n")
}

#[test]
fn a_count_goes_on_with_time() {
    let mut talk = Talk::begun("2025-06-18");
    let asked = format!(r#"{COUNT},"_meta":{{"progressToken":"\u0074"}}"#);
    assert_eq!(talk.say(&call("7", "count", &asked)), "");
    let token = r#""\u0074""#;
    assert_eq!(talk.wait(0), progress(token, 1));
    assert_eq!(talk.wait(9), "");
    assert!(talk.say(&request("ping", "{}")).contains("result"), "others are answered meanwhile");
    assert_eq!(talk.wait(1), progress(token, 2));
    assert_eq!(talk.wait(10), progress(token, 3) + &text("7", "counted to 3", false));
    assert_eq!(talk.demo.next(), None);
}

#[test]
fn progress_is_told_to_those_who_ask() {
    for (token, told) in [("1", true), ("1.0", true), ("null", false), ("{}", false), ("true", false)] {
        let mut talk = Talk::begun("2025-06-18");
        talk.say(&call("7", "count", &format!(r#"{COUNT},"_meta":{{"progressToken":{token}}}"#)));
        assert_eq!(talk.wait(0), if told { progress(token, 1) } else { String::new() }, "{token}");
    }
}

#[test]
fn a_cancelled_count_is_silent() {
    let cancel = |id: &str| {
        let params = format!(r#"{{"requestId":{id}}}"#);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#)
    };
    let mut talk = Talk::begun("2025-06-18");
    talk.say(&call("7", "count", COUNT));
    talk.say(&call("8", "count", COUNT));
    assert_eq!(talk.say(&cancel("7")) + &talk.say(&cancel("9")) + &talk.say(&cancel("\"8\"")), "");
    assert_eq!(talk.wait(100) + &talk.wait(100) + &talk.wait(100), text("8", "counted to 3", false));
    assert_eq!(talk.demo.next(), None);
}

#[test]
fn the_end_of_input_ends_the_pauses() {
    let mut talk = Talk::begun("2025-06-18");
    talk.say(&call("7", "count", COUNT));
    let mut out = String::new();
    for _ in 0..3 {
        assert_eq!(out, "");
        talk.demo.count_on(None, &mut out);
    }
    assert_eq!(out, text("7", "counted to 3", false));
}

#[test]
fn only_so_many_counts_run_at_once() {
    let mut talk = Talk::begun("2025-06-18");
    for id in 0..MOST_COUNTS {
        assert_eq!(talk.say(&call(&id.to_string(), "count", COUNT)), "");
    }
    let busy = "64 counts are running already; try again later";
    assert_eq!(talk.say(&call("99", "count", COUNT)), text("99", busy, true));
}
