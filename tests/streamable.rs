//! Streamable HTTP, served: every rule of MCP 2025-03-26 … 2025-11-25 `basic/transports` that a client can see, with
//! servers that say exactly what the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::client::request;
use support::http::Http;
use support::puppet::{Puppet, Stage};
use support::served::Served;
use support::{SOON, program, undisturbed, wait_until};

const NEWEST: &str = "2025-11-25";

fn call(id: u32) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"call-{id}","_meta":{{"progressToken":"t{id}"}}}}"#))
}

fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"of":{id}}}}}"#)
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{token}","progress":1}}}}"#
    )
}

fn log(text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{text}"}}}}"#)
}

fn question(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#)
}

/// A client that has begun a session, and its server.
fn begin(stage: &Stage, revision: &'static str) -> (Http, Puppet) {
    let mut http = Http::connect(&stage.address());
    http.begin(revision);
    // The id of the session tells servers apart: a ping carries it.
    let mark = format!("\"mark-{}\"", http.session.clone().unwrap_or_default());
    http.send("POST", &[], &format!(r#"{{"jsonrpc":"2.0","id":{mark},"method":"ping"}}"#));
    let mut puppet = stage.puppet(&mark);
    puppet.say(&result(&mark));
    assert!(http.answer().messages().contains(&result(&mark)));
    (http, puppet)
}

#[test]
fn an_answer_with_nothing_before_it_is_json() {
    let stage = Stage::open(&[]);
    let mut http = Http::connect(&stage.address());
    let first = http.begin(NEWEST);
    assert!(first.is_json() && first.body.contains("puppet"), "{first:?}");
    let session = http.session.clone().unwrap();
    assert!(session.len() >= 32 && session.bytes().all(|byte| byte.is_ascii_graphic()), "{session}");
    http.send("POST", &[], &call(1));
    let mut puppet = stage.puppet("call-1");
    puppet.say(&result("1"));
    let answer = http.answer();
    assert!(answer.is_json());
    assert_eq!(answer.body, result("1"));
}

#[test]
fn what_precedes_an_answer_makes_it_an_event_stream() {
    let stage = Stage::open(&[]);
    for (revision, primes) in [("2025-03-26", false), ("2025-06-18", false), (NEWEST, true)] {
        let (mut http, mut puppet) = begin(&stage, revision);
        http.send("POST", &[], &call(1));
        let _ = puppet.gets("call-1");
        puppet.say(&progress("t1"));
        puppet.say(&log("hello"));
        puppet.say(&question("77"));
        puppet.say(&result("1"));
        let answer = http.answer();
        assert_eq!(answer.head.get("content-type"), Some("text/event-stream"));
        assert_eq!(answer.messages(), [progress("t1"), log("hello"), question("77"), result("1")], "{revision}");
        assert_eq!(answer.body.contains("data: \n"), primes, "{revision}: {}", answer.body);
        assert_eq!(answer.body.contains("retry:"), primes, "{revision}: {}", answer.body);
        // The client's answer to the question, on the same connection.
        assert_eq!(http.post(r#"{"jsonrpc":"2.0","id":77,"result":{"roots":[]}}"#).head.status, 202);
        let _ = puppet.gets(r#""roots":[]"#);
    }
}

#[test]
fn a_silent_call_becomes_an_event_stream() {
    let stage = Stage::open(&["--keep-alive", "1"]);
    let (mut http, mut puppet) = begin(&stage, NEWEST);
    http.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    let head = http.head(); // comes without anything said by the server
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    let mut events = http.another();
    let events = {
        events.send("GET", &[], "");
        events.events()
    };
    puppet.say(&result("1"));
    drop(events);
    let (mut plain, mut puppet) = begin(&stage, "2025-06-18");
    plain.accept = "application/json";
    plain.send("POST", &[], &call(2));
    let _ = puppet.gets("call-2");
    puppet.say(&progress("t2"));
    puppet.say(&question("5"));
    assert!(puppet.gets("cannot be asked").contains(r#""id":5"#));
    puppet.say(&result("2"));
    let answer = plain.answer();
    assert!(answer.is_json());
    assert_eq!(answer.body, result("2"));
}

#[test]
fn each_message_goes_to_one_stream() {
    let stage = Stage::open(&[]);
    let (http, mut puppet) = begin(&stage, NEWEST);
    puppet.say(&log("nobody listens yet"));
    let general = http.listen(None);
    let _ = general.message("nobody listens yet");
    let (mut one, mut two) = (http.another(), http.another());
    one.send("POST", &[], &call(1));
    two.send("POST", &[], &call(2));
    let (_, _) = (puppet.gets("call-1"), puppet.gets("call-2"));
    for line in [
        progress("t2"),
        log("two are open"),
        progress("t1"),
        result("2"),
        log("one is open"),
        result("1"),
        log("none is open"),
    ] {
        puppet.say(&line);
    }
    assert_eq!(one.answer().messages(), [progress("t1"), log("one is open"), result("1")]);
    assert_eq!(two.answer().messages(), [progress("t2"), result("2")]);
    let _ = general.message("none is open");
    assert_eq!(general.messages(), [log("nobody listens yet"), log("two are open"), log("none is open")]);
    let second = http.listen(None);
    general.wait_for_end(SOON);
    puppet.say(&log("later"));
    let _ = second.message("later");
}

#[test]
fn a_stream_that_was_lost_is_resumed() {
    let stage = Stage::open(&[]);
    let (http, mut puppet) = begin(&stage, NEWEST);
    let mut broken = http.another();
    broken.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    puppet.say(&progress("t1"));
    let events = broken.events();
    let _ = events.message("progress");
    let last = events.all().last().unwrap().id.clone().unwrap();
    let primed = events.all()[0].id.clone().unwrap();
    assert_eq!(events.all()[0].data, "");
    events.cut();
    // Another call's events are never mixed in.
    let mut other = http.another();
    other.send("POST", &[], &call(2));
    let _ = puppet.gets("call-2");
    puppet.say(&progress("t2"));
    puppet.say(&log("for the newest or the general stream"));
    puppet.say(&progress("t1"));
    puppet.say(&result("2"));
    assert!(other.answer().messages().contains(&result("2")));
    let resumed = http.listen(Some(&last));
    let _ = resumed.message("progress");
    puppet.say(&result("1"));
    resumed.wait_for_end(SOON);
    assert!(resumed.messages().contains(&result("1")) && !resumed.text().contains("t2"), "{}", resumed.text());
    let again = http.listen(Some(&primed));
    again.wait_for_end(SOON);
    assert_eq!(again.messages()[0], progress("t1"));
    assert_eq!(again.messages().last(), Some(&result("1")));
    let mut wrong = http.another();
    wrong.send("GET", &[("Last-Event-ID", "no-such-id")], "");
    assert_eq!(wrong.answer().head.status, 400);
}

#[test]
fn what_is_not_kept_any_more_is_said_to_be_lost() {
    let stage = Stage::open(&["--replay-bytes", "2000"]);
    let (http, mut puppet) = begin(&stage, NEWEST);
    let general = http.listen(None);
    puppet.say(&log("first"));
    let _ = general.message("first");
    let last = general.all().last().unwrap().id.clone().unwrap();
    for _ in 0..10 {
        puppet.say(&log(&"x".repeat(500)));
    }
    puppet.say(&log("end"));
    let _ = general.message("end");
    let mut late = http.another();
    late.send("GET", &[("Last-Event-ID", &last)], "");
    let refused = late.answer();
    assert!(refused.head.status == 410 && refused.body.contains("not kept"), "{refused:?}");
}

#[test]
fn the_rules_of_sessions() {
    let stage = Stage::open(&[]);
    let (mut http, _puppet) = begin(&stage, "2025-06-18");
    let session = http.session.take();
    assert_eq!(http.post(&call(1)).head.status, 400);
    http.session = Some("0123456789abcdef0123456789abcdef".to_owned());
    assert_eq!(http.post(&call(1)).head.status, 404);
    http.session = session;
    http.revision = Some("1999-01-01");
    assert_eq!(http.post(&call(1)).head.status, 400);
    http.revision = None;
    assert_eq!(http.post("{").head.status, 400);
    assert_eq!(http.post(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).head.status, 202);
    http.send("DELETE", &[], "");
    let ended = http.answer();
    assert_eq!(ended.head.status, 204, "{ended:?}");
    assert_eq!(http.post(&call(1)).head.status, 404);
    wait_until("its server ends", SOON, || {
        stage.served.marked().iter().filter(|(_, line)| line.starts_with("sh ")).count() <= 2
    });
}

#[test]
fn a_session_that_nobody_uses_ends() {
    let stage = Stage::open(&["--debug", "--session-idle", "2"]);
    let (mut http, _puppet) = begin(&stage, NEWEST);
    let general = http.listen(None);
    thread::sleep(Duration::from_millis(2500)); // it must not end while somebody listens
    assert_eq!(http.post(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).head.status, 202);
    drop(general);
    stage.served.process.wait_for_stderr("nobody has used the session for long");
    assert_eq!(http.post(&call(1)).head.status, 404);
}

#[test]
fn a_dead_server_answers_everything() {
    let stage = Stage::open(&[]);
    let (http, puppet) = begin(&stage, NEWEST);
    let general = http.listen(None);
    let (mut one, mut two) = (http.another(), http.another());
    one.send("POST", &[], &call(1));
    two.send("POST", &[], &call(2));
    let (_, _) = (puppet.gets("call-1"), puppet.gets("call-2"));
    puppet.die();
    for (mut http, id) in [(one, 1), (two, 2)] {
        let answer = http.answer();
        assert!(answer.is_json() && answer.body.contains(&format!(r#""id":{id},"error""#)), "{answer:?}");
        assert!(answer.body.contains("signal 9"), "{answer:?}");
    }
    general.wait_for_end(SOON);
    assert_eq!(http.another().post(&call(3)).head.status, 404);
}

#[test]
fn a_batch_is_answered_as_one() {
    let stage = Stage::open(&[]);
    let (mut http, mut puppet) = begin(&stage, "2025-03-26");
    let batch = format!("[{},{},{}]", call(1), r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, call(2));
    for accept in ["application/json, text/event-stream", "application/json"] {
        http.accept = accept;
        http.send("POST", &[], &batch);
        wait_until("both calls", SOON, || {
            puppet.got().iter().filter(|line| line.contains("call-2")).count() > usize::from(accept.len() < 20)
        });
        puppet.say(&result("2"));
        puppet.say(&result("1"));
        let answer = http.answer();
        let wanted = if answer.is_json() {
            vec![format!("[{},{}]", result("2"), result("1"))]
        } else {
            vec![result("2"), result("1")]
        };
        assert_eq!(answer.messages(), wanted);
        assert_eq!(answer.is_json(), accept.len() < 20);
    }
}

#[test]
fn a_cancelled_call_ends_without_an_answer() {
    let stage = Stage::open(&[]);
    let (http, puppet) = begin(&stage, NEWEST);
    let mut waiting = http.another();
    waiting.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(http.another().post(cancelled).head.status, 202);
    let answer = waiting.answer();
    assert!(answer.messages().iter().all(String::is_empty), "{answer:?}");
    let _ = puppet.gets("notifications/cancelled");
}

#[test]
fn requests_may_follow_each_other_before_they_are_answered() {
    let stage = Stage::open(&[]);
    let (mut http, mut puppet) = begin(&stage, NEWEST);
    for id in 1..=3 {
        http.send("POST", &[], &call(id));
    }
    for id in 1..=3 {
        let _ = puppet.gets(&format!("call-{id}"));
        puppet.say(&result(&id.to_string()));
        assert_eq!(http.answer().body, result(&id.to_string()));
    }
}

#[test]
fn a_client_that_does_not_read_costs_nobody_else_anything() {
    let stage = Stage::open(&["--max-stream-bytes", "200000"]);
    let (http, mut puppet) = begin(&stage, NEWEST);
    let mut stuck = http.another();
    stuck.send("GET", &[], ""); // and never read
    assert_eq!(stuck.head().status, 200);
    let general = http.listen(None); // takes its place
    assert_eq!(general.head.status, 200);
    let mut stuck = http.another();
    stuck.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    let line =
        progress("t1").replace("\"progress\":1", &format!("\"progress\":1,\"message\":\"{}\"", "x".repeat(60_000)));
    for _ in 0..100 {
        puppet.say(&line);
    }
    let mut quick = http.another();
    quick.send("POST", &[], &call(2));
    let _ = puppet.gets("call-2");
    puppet.say(&result("2"));
    assert_eq!(quick.answer().messages().last(), Some(&result("2")));
    stage.served.process.wait_for_stderr("does not read its stream");
}

#[test]
fn a_long_message_is_kept_for_no_longer_than_it_takes_to_hand_it_over() {
    const CALLS: u32 = 4;
    // What is freed is to be seen as free.
    let words = [String::from("env"), "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072".into()];
    let served = Served::start_behind(&words, &[], &[program().to_str().unwrap(), "--demo"]);
    let mut http = Http::connect(&served.address());
    http.begin(NEWEST);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", served.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap()
    };
    let before = memory();
    let open: Vec<_> = (1..=CALLS)
        .map(|id| {
            let mut http = http.another();
            let (long, pause) = ("x".repeat(2 << 20), r#""to":100,"delay_ms":1000"#);
            let call =
                format!(r#"{{"name":"count","arguments":{{{pause}}},"_meta":{{"progressToken":{id}}},"x":"{long}"}}"#);
            http.send("POST", &[], &request(id, "tools/call", &call));
            assert_eq!(http.head().status, 200, "the server has begun with it");
            http
        })
        .collect();
    // All of them are open, and would take 8 MiB.
    wait_until("their memory is free again", SOON, || memory() < before + (4 << 10));
    drop(open);
}

/// The names of our threads.
fn threads(stage: &Stage) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", stage.served.process.id())).unwrap();
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    // That one comes with the first server that talks much, and stays.
    names.map(|name| name.trim().to_owned()).filter(|name| name != "minder").collect()
}

/// An answer that no socket takes at once.
fn large(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{}"}}"#, "x".repeat(16 << 20))
}

fn writes_aside(stage: &Stage) -> bool {
    threads(stage).contains(&"answer".to_owned())
}

/// Lets a puppet say a line; whether a thread was seen then that writes what the socket has not taken. There is none where
/// the connection's own thread looked at that moment, as it does each second, and a second later there is none any more.
fn is_written_aside(stage: &Stage, puppet: &mut Puppet, line: &str) -> bool {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                if writes_aside(stage) {
                    return true;
                }
                thread::sleep(Duration::from_millis(2));
            }
            false
        });
        puppet.say(line);
        let end = Instant::now() + Duration::from_secs(2);
        while !watch.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap()
    })
}

#[test]
fn a_large_answer_waits_for_its_reader_and_for_nothing_else() {
    let stage = Stage::open(&[]);
    let comes = |goes_on: bool| {
        let (mut http, mut puppet) = begin(&stage, NEWEST);
        http.accept = "application/json"; // a slow server is answered by events, which have another way to their reader
        http.send("POST", &[], &call(1));
        let _ = puppet.gets("call-1");
        // The connection's thread waits for the next request already: another one sees to the rest of the answer.
        let is_aside = is_written_aside(&stage, &mut puppet, &large(1));
        if goes_on {
            http.send("POST", &[], &call(2));
            wait_until("the connection's thread has taken over", SOON, || !writes_aside(&stage));
        }
        assert!(http.answer().body == large(1));
        if !goes_on {
            http.send("POST", &[], &call(2));
        }
        let _ = puppet.gets("call-2");
        puppet.say(&large(2));
        assert!(http.answer().body == large(2));
        http.send("POST", &[], &call(3));
        let _ = puppet.gets("call-3");
        puppet.say(&result("3"));
        assert_eq!(http.answer().body, result("3"));
        wait_until("nobody writes any more", SOON, || !writes_aside(&stage));
        if is_aside { Ok(()) } else { Err("it was not seen".to_owned()) }
    };
    for goes_on in [false, true] {
        undisturbed("a thread aside", || comes(goes_on));
    }
}

#[test]
fn a_client_that_never_reads_its_answer_is_left() {
    let stage = Stage::open(&["--keep-alive", "2"]);
    let (mut http, mut puppet) = begin(&stage, NEWEST);
    // Those of connections, and those that write aside.
    let waiting = || threads(&stage).iter().filter(|name| matches!(&***name, "connection" | "answer")).count();
    let mut stuck = http.another();
    stuck.accept = "application/json";
    stuck.send("POST", &[], &call(1));
    let _ = puppet.gets("call-1");
    assert!(waiting() > 1, "ours and that of the client that is stuck");
    puppet.say(&large(1));
    wait_until("nobody waits any more", SOON, || waiting() == 1);
    http.send("POST", &[], &call(2));
    let _ = puppet.gets("call-2");
    puppet.say(&result("2"));
    let answer = http.answer();
    assert_eq!(answer.messages().last(), Some(&result("2")), "{answer:?}");
}
