//! What becomes of answers where something comes in between: a pause of the reader, a cancelled part of a batch.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::thread;
use std::time::Duration;
use support::client::request;
use support::http::Http;
use support::puppet::{Puppet, Stage};

fn call(id: u32) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"call-{id}"}}"#))
}

fn begin(stage: &Stage, revision: &'static str) -> (Http, Puppet) {
    let mut http = Http::connect(&stage.address());
    http.begin(revision);
    http.send("POST", &[], &call(90));
    let mut puppet = stage.puppet("call-90");
    puppet.say(r#"{"jsonrpc":"2.0","id":90,"result":{}}"#);
    let _ = http.answer();
    (http, puppet)
}

fn sockets(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_reader_that_pauses_gets_the_whole_answer() {
    let stage = Stage::open(&[]);
    let (mut http, mut puppet) = begin(&stage, "2025-03-26");
    http.accept = "application/json"; // a slow server would be answered by events
    let text = "x".repeat(24 << 20);
    http.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    puppet.say(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"}}}}"#));
    thread::sleep(Duration::from_millis(3500)); // the pause itself: nothing happens that could be waited for
    let answer = http.answer();
    assert!(answer.is_json() && answer.body.len() > text.len(), "{}", answer.body.len());
}

#[test]
fn a_reader_that_stopped_is_given_up() {
    let stage = Stage::open(&["--keep-alive", "2"]);
    let (http, mut puppet) = begin(&stage, "2025-03-26");
    let mut stuck = http.another();
    stuck.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    let text = "x".repeat(24 << 20);
    let sockets = || sockets(stage.served.process.id());
    let before = sockets();
    puppet.say(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"}}}}"#));
    support::wait_until("the end of the connection", support::SOON, || sockets() < before);
    drop(stuck);
    drop(http);
}

#[test]
fn a_batch_that_cancels_a_part_of_itself_gets_the_rest() {
    let stage = Stage::open(&[]);
    let (mut http, mut puppet) = begin(&stage, "2025-03-26");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    http.send("POST", &[], &format!("[{},{cancel},{}]", call(1), call(2)));
    let _ = puppet.gets("call-2");
    let answer = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
    puppet.say(answer);
    assert_eq!(http.answer().messages(), [answer]);
}

#[test]
fn of_the_streams_for_everything_else_only_the_last_one_is_resumed() {
    let stage = Stage::open(&[]);
    let (http, _puppet) = begin(&stage, "2025-11-25");
    let connected = || {
        let mut http = Http::connect(&stage.address());
        http.path = "/status".into();
        http.send("GET", &[], "");
        !http.answer().body.contains("\"active_sse_connections\":0")
    };
    let ids = [(); 3].map(|()| {
        let events = http.listen(None);
        events.wait_for("id:");
        let id = events.all().into_iter().find_map(|event| event.id).unwrap();
        events.cut();
        support::wait_until("the stream's end", support::SOON, || !connected());
        id
    });
    let statuses = ids.map(|id| http.listen(Some(&id)).head.status);
    assert_eq!(statuses, [410, 410, 200]);
}
