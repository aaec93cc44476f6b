//! Ten thousand sessions come and go, by every kind of end, and nothing of them is left: no memory, descriptor,
//! thread or process. Peers whose plug was pulled are noticed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::client::{Client, initialize, request};
use support::http::Http;
use support::namespace::{in_own_network, set_loopback};
use support::served::Served;
use support::{SOON, descendants, wait_until};

const NEWEST: &str = "2025-11-25";

/// A server that does what the names of calls say.
const SCRIPT: &str = r#"
    while IFS= read -r line; do
        id=${line#*'"id":'}
        id=${id%%[,\}]*}
        case $line in
            *'"refuse"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no"}}\n' "$id" ;;
            *'"silent"'*|*'"hang"'*|*'"notifications/'*) ;;
            *'"exit"'*) exit 3 ;;
            *'"crash"'*) kill -9 $$ ;;
            *'"tells"'*)
                token=${line#*'"progressToken":'}
                printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}\n' \
                    "${token%%[,\}]*}" ;;
            *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
            *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
        esac
    done
"#;

/// How long the last of the sessions may take to be gone.
const SETTLES: Duration = Duration::from_secs(90);
/// What may come and go at any moment: whoever asks for the status, what has ended and is not gone yet. What is kept of each
/// session of one kind would be hundreds.
const SLACK: usize = 8;
/// What a heap may grow by although nothing is kept.
const SLACK_KB: usize = 3 << 10;

/// How a session ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Deleted,
    DeletedWhileCalling,
    EventsClosed,
    EventsClosedWhileCalling,
    CallCut,
    CallCutInEvents,
    ListeningCut,
    ListeningReplaced,
    Idle,
    ServerExits,
    ServerKilled,
    Refused,
    Abandoned,
    Unknown,
}

/// Those of sessions with a server of their own, and of those that share one.
const OWN: [End; 14] = [
    End::Deleted,
    End::DeletedWhileCalling,
    End::EventsClosed,
    End::EventsClosedWhileCalling,
    End::CallCut,
    End::CallCutInEvents,
    End::ListeningCut,
    End::ListeningReplaced,
    End::Idle,
    End::ServerExits,
    End::ServerKilled,
    End::Refused,
    End::Abandoned,
    End::Unknown,
];
const SHARED: [End; 9] = [
    End::Deleted,
    End::DeletedWhileCalling,
    End::EventsClosed,
    End::EventsClosedWhileCalling,
    End::CallCut,
    End::CallCutInEvents,
    End::ListeningCut,
    End::ListeningReplaced,
    End::Idle,
];

fn call(name: &str) -> String {
    request(1, "tools/call", &format!(r#"{{"_meta":{{"progressToken":"t"}},"name":"{name}"}}"#))
}

fn delete(http: &Http) {
    let mut other = http.another();
    other.send("DELETE", &[], "");
    assert_eq!(other.answer().head.status, 204);
}

fn listens(http: &Http) -> Http {
    let mut other = http.another();
    other.send("GET", &[], "");
    assert_eq!(other.head().status, 200);
    other
}

/// One session, from its beginning to an end of this kind.
fn live(address: &str, end: End) {
    let mut http = Http::connect(address);
    match end {
        End::EventsClosed | End::EventsClosedWhileCalling => {
            let client = Client::open(address);
            assert_eq!(client.post(&initialize(1)), 202);
            let name = if matches!(end, End::EventsClosed) { "echo" } else { "hang" };
            assert_eq!(client.post(&call(name)), 202);
            return;
        }
        End::Refused => {
            let answer = http.post(&request(0, "initialize", r#"{"refuse":1}"#));
            return assert!(answer.body.contains("error"), "{answer:?}");
        }
        End::Abandoned => {
            http.send("POST", &[], &request(0, "initialize", r#"{"silent":1}"#));
            return http.cut();
        }
        End::Unknown => {
            http.session = Some("x".repeat(40));
            return assert_eq!(http.post(&call("echo")).head.status, 404);
        }
        _ => http.begin(NEWEST),
    };
    end_by_client(&mut http, end);
}

fn end_by_client(http: &mut Http, end: End) {
    match end {
        End::Deleted => delete(http),
        End::DeletedWhileCalling => {
            let (general, mut calls) = (listens(http), http.another());
            calls.send("POST", &[], &call("tells"));
            assert_eq!(calls.head().status, 200); // it is there
            delete(http);
            drop(general);
        }
        End::CallCut => {
            http.send("POST", &[], &call("hang"));
            http.cut(); // and nobody comes back
        }
        End::CallCutInEvents => {
            http.send("POST", &[], &call("tells"));
            assert_eq!(http.head().status, 200);
            http.cut();
            delete(http);
        }
        End::ListeningCut => {
            listens(http).cut();
            delete(http);
        }
        End::ListeningReplaced => {
            let (first, second) = (listens(http), listens(http));
            delete(http);
            drop((first, second));
        }
        End::ServerExits => assert!(http.post(&call("exit")).body.contains("status 3")),
        End::ServerKilled => assert!(http.post(&call("crash")).body.contains("signal 9")),
        _ => {} // it is left alone
    }
}

/// A call where there are no sessions; each second one is cut.
fn ask(address: &str, number: usize) {
    let mut http = Http::connect(address);
    match number % 4 {
        0 => assert!(
            http.post(&request(
                0,
                "initialize",
                r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#
            ))
            .is_json()
        ),
        1 => {
            http.send("POST", &[], &call("tells"));
            assert_eq!(http.head().status, 200);
            http.cut();
        }
        2 => {
            http.send("POST", &[], &call("hang"));
            http.cut();
        }
        _ => assert!(http.post(&call("echo")).body.contains("result")),
    }
}

/// Calls `one` so many times, on several threads at once.
fn repeat(count: usize, one: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count) {
                    one(number);
                }
            });
        }
    });
}

/// What the proxy needs at one moment.
#[derive(Debug, Clone, Copy)]
struct Cost {
    descriptors: usize,
    threads: usize,
    processes: usize,
    sessions: u64,
    streams: u64,
}

impl Cost {
    /// Whether nothing is left of what came after that moment.
    fn is_back_at(&self, begin: &Self) -> bool {
        self.descriptors <= begin.descriptors + SLACK
            && self.threads <= begin.threads + SLACK
            && (self.processes, self.sessions, self.streams) == (begin.processes, 0, 0)
    }
}

fn cost(served: &Served) -> Cost {
    let pid = served.process.id();
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let mut http = Http::connect(&served.address());
    http.path = "/status".into();
    http.send("GET", &[("Connection", "close")], "");
    let status: serde_json::Value = serde_json::from_str(&http.answer().body).unwrap();
    let number = |name: &str| status[name].as_u64().unwrap();
    let (sessions, streams) = (number("sessions"), number("active_sse_connections"));
    let processes = descendants(pid).len();
    // The minder is a thread with a descriptor; it comes with the first server that talks much, and stays.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let minders = tasks.filter(|task| fs::read(task.path().join("comm")).is_ok_and(|name| name == b"minder\n")).count();
    assert!(minders <= 1, "{minders} minders");
    let (descriptors, threads) = (count("fd") - minders, count("task") - minders);
    Cost { descriptors, threads, processes, sessions, streams }
}

fn anonymous_kb(served: &Served) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", served.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Lets so many come and go, and compares what is left with what there was before.
fn leaves_nothing(name: &str, options: &[&str], count: usize, one: impl Fn(&str, usize) + Sync) {
    let all = [&["--session-idle", "2", "--max-sessions", "5000", "--max-open-requests", "5000"], options].concat();
    let served = Served::script(&all, SCRIPT);
    let address = served.address();
    wait_until("the server", SOON, || cost(&served).processes == 1);
    let begin = cost(&served);
    let settles = || {
        let start = Instant::now();
        while let now = cost(&served)
            && !now.is_back_at(&begin)
        {
            assert!(start.elapsed() < SETTLES, "{name}: {now:?} instead of {begin:?}\n{}", served.report());
            thread::sleep(Duration::from_millis(20));
        }
    };
    // What is made once is made now.
    repeat(count / 5, |number| one(&address, number));
    settles();
    let (before_kb, start) = (anonymous_kb(&served), Instant::now());
    repeat(count, |number| one(&address, number));
    let took = start.elapsed();
    settles();
    // What is in use at this very moment is none of it.
    let looks = std::iter::repeat_with(|| {
        thread::sleep(Duration::from_millis(50));
        anonymous_kb(&served)
    });
    let after_kb = looks.take(20).min().unwrap();
    println!("{name}: {count} in {took:?}; {before_kb} kB, then {after_kb} kB; {begin:?}");
    assert!(after_kb <= before_kb + SLACK_KB, "{name}: {before_kb} kB became {after_kb} kB");
}

#[test]
fn sessions_with_servers_of_their_own_leave_nothing() {
    leaves_nothing("own", &[], 4000, |address, number| live(address, OWN[number % OWN.len()]));
}

#[test]
fn sessions_that_share_a_server_leave_nothing() {
    leaves_nothing("shared", &["--shared"], 7000, |address, number| live(address, SHARED[number % SHARED.len()]));
}

#[test]
fn requests_without_sessions_leave_nothing() {
    leaves_nothing("stateless", &["--stateless"], 2000, ask);
}

#[test]
fn half_open_connections_are_noticed() {
    if !in_own_network("half_open_connections_are_noticed") {
        return;
    }
    let served = Served::script(&["--keep-alive", "2", "--session-idle", "1"], SCRIPT);
    let mut http = Http::connect(&served.address());
    http.begin(NEWEST);
    let general = listens(&http);
    let mut calls = http.another();
    calls.send("POST", &[], &call("hang"));
    let mut only_json = http.another();
    only_json.accept = "application/json";
    only_json.send("POST", &[], &call("hang"));
    wait_until("three streams", SOON, || cost(&served).streams == 3);
    set_loopback(false);
    let start = Instant::now();
    // Without a network nobody can ask for the status; the session's server shows that nobody was left.
    let pid = served.process.id();
    let session = descendants(pid);
    wait_until("the session's end", SOON, || !session.iter().all(|server| descendants(pid).contains(server)));
    let took = start.elapsed();
    println!("{took:?} until the last of them was noticed and its session was over");
    // Whoever waits for what a network tells waits for a quarter of an hour.
    assert!(took <= Duration::from_secs(2 + 1 + 15), "{took:?}\n{}", served.report());
    set_loopback(true);
    drop((general, calls, only_json));
}
