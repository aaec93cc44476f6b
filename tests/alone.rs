//! A server's thread waits for its stdout alone once nothing else has happened for a while, and leaves even that to the
//! thread of a connection that alone asks. Whatever else happens then is noticed as it ever was: the log, every end, a
//! stop, what its stdin takes again, and what others ask.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use support::client::request;
use support::http::Http;
use support::served::Served;
use support::{SOON, undisturbed, wait_until};

/// What is noticed at once, on a slow and busy machine: who waits for stdout alone and is not called waits for ever.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A server that does what the names of calls say.
const SCRIPT: &str = r#"
    while IFS= read -r line; do
        case $line in *'"notifications/'*) continue ;; esac
        id=${line#*'"id":'}
        id=${id%%[,\}]*}
        case $line in
            *'"initialize"'*)
                echo $$ >$HERE/server
                printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}\n' "$id"
                continue ;;
            *'"hang"'*) : >$HERE/hangs; continue ;;
            *'"babbles"'*) while :; do echo babble; done ;;
            *'"result":"said"'*) id=$asked ;;
            *'"asks"'*) asked=$id; echo '{"jsonrpc":"2.0","id":"question","method":"ping"}'; continue ;;
            *'"tells"'*)
                (until [ -e $HERE/go ]; do sleep 0.05; done; echo '{"jsonrpc":"2.0","method":"notifications/told"}') & ;;
            *'"slow"'*)
                (until [ -e $HERE/go ]; do sleep 0.05; done; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id") &
                continue ;;
            *'"exit"'*) exit 3 ;;
            *'"leaves"'*) sleep 1000 & kill -9 $$ ;;
            *'"runaway"'*) setsid sleep 1000 & kill -9 $$ ;;
            *'"deaf"'*) exec >&- ;;
            *'"late"'*) (until [ -e $HERE/go ]; do sleep 0.05; done; echo "late $id" >&2) & ;;
            *'"logs"'*) echo "logged $id" >&2 ;;
            *'"pauses"'*)
                printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id"
                until [ -e $HERE/go ]; do sleep 0.05; done
                continue ;;
        esac
        printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id"
    done
"#;

fn call(id: u32, name: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{name}"}}"#))
}

fn answered(http: &mut Http, id: u32, name: &str) {
    let answer = http.post(&call(id, name));
    assert!(answer.body.contains(&format!(r#""id":{id},"result""#)), "{name}: {answer:?}");
}

/// Whether a server's thread waits in a read.
fn is_alone(served: &Served) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", served.process.id())).unwrap().flatten();
    let reads = |task: fs::DirEntry| {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        read("comm").trim() == "server" && read("syscall").starts_with(&format!("{} ", libc::SYS_read))
    };
    tasks.into_iter().any(reads)
}

/// Who waits for what the server says when anything else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The server's thread, in a read.
    Server,
    /// That of the connection that alone asks, or the server's for as long as it does not.
    Connection,
}

const BOTH: [Waits; 2] = [Waits::Server, Waits::Connection];

impl Waits {
    /// Brings it about by calls, of which it takes some dozens in a row.
    fn begin(self, served: &Served, http: &mut Http) {
        let mut other = http.another();
        for id in 100..150 {
            answered(if self == Self::Server && id % 2 == 0 { &mut other } else { http }, id, "echo");
        }
        if self == Self::Server {
            wait_until("a thread that waits for stdout alone", SOON, || is_alone(served));
        }
    }
}

fn begun(options: &[&str], waits: Waits) -> (Served, Http) {
    let served = Served::script(options, SCRIPT);
    let mut http = Http::connect(&served.address());
    http.begin("2025-11-25");
    waits.begin(&served, &mut http);
    (served, http)
}

fn server(served: &Served) -> u32 {
    served.number("server")
}

/// A call that nobody answers but us.
fn fails(http: &mut Http, name: &str, because: &str) {
    let start = Instant::now();
    let answer = http.post(&call(7, name));
    assert!(answer.body.contains(r#""error""#) && answer.body.contains(because), "{name}: {answer:?}");
    assert!(start.elapsed() < AT_ONCE, "{name}: took {:?}", start.elapsed());
}

/// The server has a call that it does not answer.
fn hangs(served: &Served, http: &mut Http) {
    http.send("POST", &[], &call(7, "hang"));
    served.wait_for_notes(1, "hangs");
}

fn is_gone(served: &Served, pid: u32) {
    wait_until("the end of the server", AT_ONCE, || served.marked().iter().all(|(found, _)| *found != pid));
}

#[test]
fn what_a_server_logs_is_shown_at_once() {
    for waits in BOTH {
        let (served, mut http) = begun(&[], waits);
        answered(&mut http, 7, "late");
        waits.begin(&served, &mut http);
        fs::write(served.folder().join("go"), "").unwrap();
        served.process.wait_for_stderr("late 7");
        waits.begin(&served, &mut http);
    }
}

#[test]
fn a_server_that_logs_with_every_call_loses_nothing() {
    for waits in BOTH {
        let (served, mut http) = begun(&[], waits);
        for id in 0..200 {
            answered(&mut http, 1000 + id, if id % 20 < 2 { "logs" } else { "echo" });
        }
        for id in (0..200).filter(|id| id % 20 < 2) {
            served.process.wait_for_stderr(&format!("logged {}\n", 1000 + id));
        }
    }
}

#[test]
fn every_end_is_noticed_at_once() {
    for (name, because) in [
        ("exit", "status 3"),
        ("leaves", "signal 9"),
        ("runaway", "signal 9"),
        ("deaf", "the server"), // without stdout it is of no use, and is told to end
    ] {
        for waits in BOTH {
            let (served, mut http) = begun(&[], waits);
            let pid = server(&served);
            fails(&mut http, name, because);
            is_gone(&served, pid);
        }
    }
}

#[test]
fn a_server_that_is_killed_while_it_is_silent_is_noticed_at_once() {
    for waits in BOTH {
        let (served, mut http) = begun(&[], waits);
        hangs(&served, &mut http);
        if waits == Waits::Server {
            wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
        }
        Served::signal(server(&served), "KILL");
        let answer = http.answer();
        assert!(answer.body.contains("signal 9"), "{answer:?}");
    }
}

#[test]
fn a_session_that_ends_takes_its_server_with_it() {
    for (is_stopped, waits) in [false, true].into_iter().flat_map(|is_stopped| BOTH.map(|waits| (is_stopped, waits))) {
        let (served, mut http) = begun(&[], waits);
        let pid = server(&served);
        hangs(&served, &mut http);
        if is_stopped {
            Served::signal(pid, "STOP");
        }
        let mut other = http.another();
        other.send("DELETE", &[], "");
        assert_eq!(other.answer().head.status, 204);
        assert!(http.answer().body.contains("the client has ended the session"));
        is_gone(&served, pid);
    }
}

#[test]
fn a_signal_ends_us() {
    for (is_stopped, waits) in [false, true].into_iter().flat_map(|is_stopped| BOTH.map(|waits| (is_stopped, waits))) {
        let (mut served, mut http) = begun(&[], waits);
        hangs(&served, &mut http);
        if is_stopped {
            Served::signal(server(&served), "STOP");
        }
        served.process.signal("TERM");
        assert_eq!(served.process.wait(AT_ONCE).code(), Some(0));
        served.assert_nothing_left("TERM");
    }
}

#[test]
fn what_its_stdin_does_not_take_at_once_comes_later() {
    for waits in BOTH {
        let (served, mut http) = begun(&[], waits);
        answered(&mut http, 7, "pauses");
        if waits == Waits::Server {
            wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
        }
        let long = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":["{}"]}}"#, "x".repeat(200_000));
        assert_eq!(http.post(&long).head.status, 202);
        let mut other = http.another();
        let others = thread::spawn(move || answered(&mut other, 8, "echo"));
        fs::write(served.folder().join("go"), "").unwrap();
        others.join().unwrap();
        answered(&mut http, 9, "echo");
    }
}

/// How often the threads of servers have waited for anything.
fn waits_of_servers(served: &Served) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", served.process.id())).unwrap().flatten();
    let status = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
        (name.trim() == "server").then_some(count.unwrap_or(0))
    };
    tasks.into_iter().filter_map(status).sum()
}

#[test]
fn a_connection_that_alone_asks_wakes_no_other_thread() {
    for options in [&[][..], &["--shared"], &["--stateless"]] {
        undisturbed(&format!("{options:?}"), || {
            let (served, mut http) = begun(options, Waits::Connection);
            let before = waits_of_servers(&served);
            for id in 0..1000 {
                answered(&mut http, 1000 + id, "echo");
            }
            let waits = waits_of_servers(&served) - before;
            if waits < 300 { Ok(()) } else { Err(format!("{waits} waits for 1000 calls")) }
        });
    }
}

#[test]
fn what_others_ask_meanwhile_is_answered() {
    for options in [&[][..], &["--shared"], &["--stateless"]] {
        for waits in BOTH {
            let (served, mut http) = begun(options, waits);
            let mut other = http.another();
            http.send("POST", &[], &call(7, "slow"));
            for id in 0..50 {
                answered(&mut other, 1000 + id, "echo");
            }
            fs::write(served.folder().join("go"), "").unwrap();
            let answer = http.answer();
            assert!(answer.body.contains(r#""id":7,"result""#), "{options:?} {waits:?}: {answer:?}");
        }
    }
}

#[test]
fn what_a_server_says_unasked_is_heard() {
    for options in [&[][..], &["--shared"]] {
        for waits in BOTH {
            let (served, mut http) = begun(options, waits);
            let listener = http.listen(None);
            listener.wait_for(":");
            answered(&mut http, 7, "tells");
            waits.begin(&served, &mut http);
            fs::write(served.folder().join("go"), "").unwrap();
            let _ = listener.message("notifications/told");
        }
    }
}

#[test]
fn what_a_server_asks_in_a_call_is_answered_through_another_connection() {
    for options in [&[][..], &["--shared"]] {
        for waits in BOTH {
            let (_served, mut http) = begun(options, waits);
            let mut other = http.another();
            http.send("POST", &[], &call(7, "asks"));
            let events = http.events();
            let question = events.message(r#""method":"ping""#);
            let id = question.split(r#""id":"#).nth(1).unwrap().split([',', '}']).next().unwrap();
            let said = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"said"}}"#);
            assert_eq!(other.post(&said).head.status, 202);
            let _ = events.message(r#""id":7,"result""#);
            events.wait_for_end(SOON);
        }
    }
}

#[test]
fn a_long_silence_is_seen_to() {
    let (_served, mut http) = begun(&["--keep-alive", "1"], Waits::Connection);
    http.send("POST", &[], &call(7, "hang"));
    becomes_events(&mut http);
}

/// What is no answer does not keep a connection's thread from what else it has to do.
#[test]
fn a_server_that_never_pauses_and_does_not_answer_is_seen_to() {
    let (_served, mut http) = begun(&["--keep-alive", "1"], Waits::Connection);
    http.send("POST", &[], &call(7, "babbles"));
    becomes_events(&mut http);
}

fn becomes_events(http: &mut Http) {
    let start = Instant::now();
    assert_eq!(http.head().get("content-type"), Some("text/event-stream"));
    assert!(start.elapsed() < AT_ONCE);
}
