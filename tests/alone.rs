//! A server's thread waits for its stdout alone once nothing else has happened for a while. Whatever else happens then is
//! noticed as it ever was: the log, every end, a stop, and what its stdin takes again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use support::client::request;
use support::http::Http;
use support::served::Served;
use support::{SOON, wait_until};

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
            *'"hang"'*) continue ;;
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

/// A session whose server's thread waits for its stdout alone.
fn calm() -> (Served, Http) {
    let served = Served::script(&[], SCRIPT);
    let mut http = Http::connect(&served.address());
    http.begin("2025-11-25");
    for id in 0..40 {
        answered(&mut http, 100 + id, "echo");
    }
    wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
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

fn is_gone(served: &Served, pid: u32) {
    wait_until("the end of the server", AT_ONCE, || served.marked().iter().all(|(found, _)| *found != pid));
}

#[test]
fn what_a_server_logs_is_shown_at_once() {
    let (served, mut http) = calm();
    answered(&mut http, 7, "late");
    wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
    fs::write(served.folder().join("go"), "").unwrap();
    served.process.wait_for_stderr("late 7");
    for id in 0..40 {
        answered(&mut http, 1000 + id, "echo");
    }
    wait_until("a thread that waits for stdout alone again", SOON, || is_alone(&served));
}

#[test]
fn a_server_that_logs_with_every_call_loses_nothing() {
    let (served, mut http) = calm();
    for id in 0..200 {
        answered(&mut http, 1000 + id, if id % 20 < 2 { "logs" } else { "echo" });
    }
    for id in (0..200).filter(|id| id % 20 < 2) {
        served.process.wait_for_stderr(&format!("logged {}\n", 1000 + id));
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
        let (served, mut http) = calm();
        let pid = server(&served);
        fails(&mut http, name, because);
        is_gone(&served, pid);
    }
}

#[test]
fn a_server_that_is_killed_while_it_is_silent_is_noticed_at_once() {
    let (served, mut http) = calm();
    http.send("POST", &[], &call(7, "hang"));
    wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
    Served::signal(server(&served), "KILL");
    let answer = http.answer();
    assert!(answer.body.contains("signal 9"), "{answer:?}");
}

#[test]
fn a_session_that_ends_takes_its_server_with_it() {
    for is_stopped in [false, true] {
        let (served, http) = calm();
        let pid = server(&served);
        if is_stopped {
            Served::signal(pid, "STOP");
        }
        let mut other = http.another();
        other.send("DELETE", &[], "");
        assert_eq!(other.answer().head.status, 204);
        is_gone(&served, pid);
    }
}

#[test]
fn a_signal_ends_us() {
    for is_stopped in [false, true] {
        let (mut served, _http) = calm();
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
    let (served, mut http) = calm();
    answered(&mut http, 7, "pauses");
    wait_until("a thread that waits for stdout alone", SOON, || is_alone(&served));
    let long = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":["{}"]}}"#, "x".repeat(200_000));
    assert_eq!(http.post(&long).head.status, 202);
    let mut other = http.another();
    let waits = thread::spawn(move || answered(&mut other, 8, "echo"));
    fs::write(served.folder().join("go"), "").unwrap();
    waits.join().unwrap();
    answered(&mut http, 9, "echo");
}
