//! The demo server as its users meet it: `mcp-proxy --demo`, lines in, lines out. Its rules one by one are tested
//! beside its code; here it is the process that counts, its pipes and its end.

mod support;

use mcp_proxy::time::rfc3339;
use std::io::Write;
use std::process::Stdio;
use std::time::SystemTime;
use support::client::{INITIALIZED, initialize, request};
use support::{Process, SOON, proxy, wait_until};

fn demo() -> Process {
    Process::start(proxy().arg("--demo"))
}

fn call(id: u32, name: &str, arguments: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{name}","arguments":{arguments}}}"#))
}

/// A call of `count` that wants to hear of progress under its own id.
fn count(id: u32, to: u32, delay_ms: u32) -> String {
    let arguments = format!(r#"{{"to":{to},"delay_ms":{delay_ms}}}"#);
    request(
        id,
        "tools/call",
        &format!(r#"{{"name":"count","arguments":{arguments},"_meta":{{"progressToken":{id}}}}}"#),
    )
}

fn text(id: u32, text: &str) -> String {
    let content = format!(r#"[{{"text":"{text}","type":"text"}}]"#);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":{content},"isError":false}}}}"#)
}

fn progress(id: u32, done: u32, to: u32) -> String {
    let params = format!(r#"{{"progressToken":{id},"progress":{done},"total":{to}}}"#);
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
}

fn error(id: &str, code: i32, reason: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{reason}"}}}}"#)
}

#[test]
fn lines_in_and_lines_out() {
    let agreed = concat!(
        r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}},"#,
        r#""instructions":"A demo server: its tools show that a connection works.","protocolVersion":"2024-11-05","#,
        r#""serverInfo":{"name":"mcp-proxy-demo","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""}}}"#
    );
    let long = "x".repeat(300_000);
    let conversation: &[(&str, &[&str])] = &[
        ("no JSON", &[&error("null", -32700, "it is not JSON (at byte 2)")]),
        (&request(9, "tools/list", "{}"), &[&error("9", -32600, "'initialize' comes first")]),
        (&initialize(1), &[agreed]),
        (INITIALIZED, &[]),
        ("  \r", &[]),
        (&request(2, "ping", "{}"), &[r#"{"jsonrpc":"2.0","id":2,"result":{}}"#]),
        (&call(3, "echo", r#"{"text":"grüezi"}"#), &[&text(3, "grüezi")]),
        (&call(4, "echo", &format!(r#"{{"text":"{long}"}}"#)), &[&text(4, &long)]),
        (&call(5, "add", r#"{"a":2,"b":3}"#), &[&text(5, "5")]),
        (&count(6, 2, 1), &[&progress(6, 1, 2), &progress(6, 2, 2), &text(6, "counted to 2")]),
        (&call(7, "nothing", "{}"), &[&error("7", -32602, "there is no tool 'nothing'")]),
        (&request(8, "resources/list", "{}"), &[&error("8", -32601, "there is no method 'resources/list'")]),
    ];
    let mut process = demo();
    let mut heard = 0;
    for (line, wanted) in conversation {
        process.write(format!("{line}\n").as_bytes());
        let lines = process.lines(heard + wanted.len()).split_off(heard);
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        assert_eq!(lines, wanted.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>(), "{line}");
        heard += wanted.len();
    }
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0));
    assert_eq!(process.stdout().split(|byte| *byte == b'\n').count(), heard + 1, "it said more than it should");
    assert_eq!(process.stderr(), "");
}

#[test]
fn the_clock_is_right() {
    let now = || rfc3339(SystemTime::UNIX_EPOCH.elapsed().expect("after 1970"));
    let mut process = demo();
    let before = now();
    process.write(format!("{}\n{}\n", initialize(1), call(2, "time", "{}")).as_bytes());
    let answer = String::from_utf8_lossy(&process.lines(2)[1]).into_owned();
    let told = answer.split(r#""text":""#).nth(1).and_then(|rest| rest.split('"').next()).expect("a time");
    assert!(*before <= *told && *told <= *now(), "{before} {told}");
}

#[test]
fn a_count_is_cancelled_while_others_are_answered() {
    let mut process = demo();
    process.write(format!("{}\n{}\n", initialize(1), count(2, 1000, 10)).as_bytes());
    let _ = process.lines(3); // it counts
    process.write(format!("{}\n", call(3, "echo", r#"{"text":"meanwhile"}"#)).as_bytes());
    let has = |process: &Process, line: &str| String::from_utf8_lossy(&process.stdout()).contains(line);
    wait_until("an answer while it counts", SOON, || has(&process, &text(3, "meanwhile")));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
    process.write(format!("{cancel}\n{}\n", request(4, "ping", "{}")).as_bytes());
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0));
    let said = process.stdout();
    assert!(said.ends_with(b"{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{}}\n"), "{}", process.report());
    assert!(!has(&process, r#""id":2"#), "a cancelled request was answered: {}", process.report());
}

#[test]
fn the_end_of_input_lets_nothing_go_unanswered() {
    let mut process = demo();
    process.write(format!("{}\n{}\n{}", initialize(1), count(2, 1000, 1000), request(3, "ping", "{}")).as_bytes());
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0), "{}", process.report());
    let said = String::from_utf8_lossy(&process.stdout()).into_owned();
    assert_eq!(said.lines().count(), 1 + 1000 + 1 + 1);
    assert!(said.contains(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#), "the last line needs no end");
    assert_eq!(said.lines().last(), Some(&*text(2, "counted to 1000")));
}

#[test]
fn a_closed_stdout_ends_it_quietly() {
    let mut command = proxy();
    command.arg("--demo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut status = None;
    wait_until("its end, though its stdin is open", SOON, || {
        // More than once: a process that another test starts at this moment may hold the reading end until it is there.
        let _ = writeln!(stdin, "{}", initialize(1));
        status = child.try_wait().expect("it is our child");
        status.is_some()
    });
    drop(stdin);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(std::io::read_to_string(child.stderr.take().expect("a pipe")).expect("text"), "");
}
