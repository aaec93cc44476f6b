//! Every way to stop the serve mode, and every way in which its servers end. After each, nothing that a server
//! started is left, and it did not take longer than promised.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "how long each way took")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use support::client::{Client, INITIALIZED, initialize, request};
use support::namespace::{in_own_network, set_loopback, unshare};
use support::served::{Served, group};
use support::{Folder, Process, SOON, alive, descendants, in_time, program, proxy, wait_until};

/// `--stop-timeout` of these tests and the 2 s that a killed process may take.
const BOUND: Duration = Duration::from_secs(3);
/// What a busy machine may add to a bound, once in a while.
const SLACK: Duration = Duration::from_secs(1);
/// The bound of what waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(1);
/// No machine is so slow: what takes longer waits for something that never comes, or for `--stop-timeout 60`.
const LATE: Duration = Duration::from_secs(15);

/// Servers that are scripts, how long it may take to stop them, and how they are rude: each leaves a note `ready…`
/// when it is as rude as it will be.
const SERVERS: &[(&str, Duration, &str)] = &[
    ("ends at the end of input", AT_ONCE, ": >$HERE/ready-$$; cat >/dev/null"),
    ("takes its time to end", AT_ONCE, ": >$HERE/ready-$$; cat >/dev/null; sleep 0.2"),
    ("never reads its input", AT_ONCE, ": >$HERE/ready-$$; exec sleep 1000"),
    ("ignores the end of input", AT_ONCE, ": >$HERE/ready-$$; cat >/dev/null; while :; do sleep 1000; done"),
    ("has closed its output", AT_ONCE, "exec >&- 2>&-; : >$HERE/ready-$$; while :; do sleep 1000; done"),
    ("leaves a child behind", AT_ONCE, "sleep 1000 & : >$HERE/ready-$$; cat >/dev/null"),
    (
        "leaves a rude child",
        AT_ONCE,
        "(trap '' TERM; : >$HERE/ready-$$; while :; do sleep 1000; done) & cat >/dev/null",
    ),
    ("leaves a child that floods its log", AT_ONCE, "yes oh >&2 & : >$HERE/ready-$$; cat >/dev/null"),
    ("leaves a child that floods its output", AT_ONCE, "yes $(printf %01000d 0) & : >$HERE/ready-$$; cat >/dev/null"),
    ("leaves an orphan", AT_ONCE, "(sleep 1000 & : >$HERE/ready-$$); cat >/dev/null"),
    ("leaves a runaway", AT_ONCE, "setsid sh -c ': >$HERE/ready-$$; exec sleep 1000' & cat >/dev/null"),
    (
        "leaves a runaway that floods its log",
        AT_ONCE,
        "setsid sh -c ': >$HERE/ready-$$; exec yes $(printf %01000d 0) >&2' & cat >/dev/null",
    ),
    (
        "leaves a runaway that floods its output",
        AT_ONCE,
        "setsid sh -c ': >$HERE/ready-$$; exec yes $(printf %01000d 0)' & cat >/dev/null",
    ),
    ("floods its output", AT_ONCE, FLOODS),
    ("floods its log", AT_ONCE, ": >$HERE/ready-$$; exec yes oh >&2"),
    ("ignores signals", BOUND, RUDE),
    ("has stopped itself", BOUND, ": >$HERE/ready-$$; kill -STOP $$"),
    ("ignores all and so does its runaway", BOUND, RUDEST),
];

const RUDE: &str = "trap '' TERM INT HUP; : >$HERE/ready-$$; cat >/dev/null; while :; do sleep 1000; done";
const RUDEST: &str = "trap '' TERM INT HUP; setsid sh -c ': >$HERE/ready-$$; while :; do sleep 1000; done' & \
                      while :; do sleep 1000; done";
const FLOODS: &str = ": >$HERE/ready-$$; exec yes '{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}'";

/// Two sessions of `command`, an unanswered request in the first if it takes one; then `signals`, then the end. How long
/// that takes.
fn stops(name: &str, served: Served, pid: u32, signal: &str, ready: usize) -> Duration {
    let address = served.address();
    let clients = [Client::open(&address), Client::open(&address)];
    served.wait_for_notes(ready, "ready");
    // More than a pipe takes: some of it still waits for a server that does not read.
    let params = format!("[\"{}\"]", "x".repeat(200_000));
    let open = ready > 0 && clients[0].post(&request(7, "tools/list", &params)) == 202;
    assert!(!served.marked().is_empty(), "{name}: no server carries its mark");
    let start = Instant::now();
    Served::signal(pid, signal);
    let took = ended(name, served, 0, start);
    for client in &clients {
        client.wait_for_end(SOON);
    }
    if open {
        assert!(clients[0].message("\"id\":7").contains("\"error\""), "{name}: {:?}", clients[0].messages());
    }
    took
}

/// Waits for the end of the proxy; checks exit status, and that nothing is left the moment it is gone. How long it took.
fn ended(name: &str, mut served: Served, status: i32, start: Instant) -> Duration {
    let got = served.process.wait(SOON);
    let took = start.elapsed();
    served.assert_nothing_left(name);
    assert_eq!(got.code(), Some(status), "{name}: {got}\n{}", served.report());
    assert!(took <= LATE, "{name}: took {took:?}\n{}", served.report());
    println!("{:>5} ms  {name}", took.as_millis());
    took
}

/// Runs all rows, a few at a time.
fn each<T: Sync>(rows: &[T], check: impl Fn(&T) + Sync) {
    for rows in rows.chunks(5) {
        thread::scope(|scope| rows.iter().for_each(|row| drop(scope.spawn(|| check(row)))));
    }
}

fn demo() -> String {
    program().display().to_string()
}

#[test]
fn a_signal_ends_us_and_every_kind_of_server() {
    each(SERVERS, |(name, bound, script)| {
        let name = format!("TERM, a server that {name}");
        in_time(&name, *bound + SLACK, || {
            let served = Served::script(&[], script);
            let pid = served.process.id();
            stops(&name, served, pid, "TERM", 2)
        });
    });
}

#[test]
fn every_signal_that_asks_us_to_stop_does() {
    let rude = &["sh", "-c", "trap '' TERM INT HUP; : >$HERE/ready-$$; while :; do sleep 1000; done"][..];
    let demo = demo();
    let polite = &[demo.as_str(), "--demo"][..];
    let rows = ["TERM", "INT", "HUP"].map(|signal| [(signal, polite, "polite", 0), (signal, rude, "rude", 2)]);
    each(rows.as_flattened(), |(signal, command, name, ready)| {
        let name = format!("{signal}, a {name} server");
        in_time(&name, BOUND + SLACK, || {
            let served = Served::start(&[], command);
            let pid = served.process.id();
            stops(&name, served, pid, signal, *ready)
        });
    });
}

#[test]
fn many_rude_servers_take_no_longer_than_one() {
    let served = Served::script(&[], RUDEST);
    let address = served.address();
    let clients: Vec<Client> = (0..30).map(|_| Client::open(&address)).collect();
    served.wait_for_notes(clients.len(), "ready");
    let start = Instant::now();
    served.process.signal("TERM");
    ended("TERM, 30 rude servers", served, 0, start); // one after the other it would be 30 s
}

#[test]
fn without_an_option_a_server_has_five_seconds() {
    in_time("a rude server, 5 s", Duration::from_secs(7) + SLACK, || {
        let served = Served::script(&["--stop-timeout", "5"], RUDE);
        let client = Client::open(&served.address());
        served.wait_for_notes(1, "ready");
        let start = Instant::now();
        served.process.signal("TERM");
        let took = ended("TERM, a rude server, 5 s", served, 0, start);
        assert!(took > Duration::from_secs(4), "a server was killed too early");
        drop(client);
        took
    });
}

#[test]
fn a_second_signal_skips_the_waits() {
    let rows = [("TERM", "TERM", 143), ("INT", "INT", 130), ("HUP", "HUP", 129), ("TERM", "INT", 130)];
    each(&rows, |(first, second, status)| {
        let script = "trap '' TERM INT HUP; cat >/dev/null; : >$HERE/stopping-$$; while :; do sleep 1000; done";
        let served = Served::script(&["--stop-timeout", "60"], script);
        let _client = Client::open(&served.address());
        served.process.signal(first);
        served.wait_for_notes(1, "stopping");
        let start = Instant::now();
        served.process.signal(second);
        ended(&format!("{first}, then {second}"), served, *status, start);
    });
    let served = Served::script(&["--stop-timeout", "60"], &FLOODS.replace("exec yes", "trap '' TERM; yes"));
    let socket = unread(&served.address());
    served.wait_for_notes(1, "ready");
    served.process.signal("TERM");
    wait_until("it listens no more", SOON, || TcpStream::connect(served.address()).is_err());
    let start = Instant::now();
    served.process.signal("TERM");
    ended("TERM, then TERM, a client that does not read", served, 143, start);
    drop(socket);
}

#[test]
fn a_server_is_asked_before_it_is_told() {
    for (name, script, note) in [
        (
            "the end of input comes first",
            "trap ': >$HERE/term-$$; exit' TERM; : >$HERE/ready-$$; cat; : >$HERE/eof-$$",
            "eof",
        ),
        ("then TERM", "trap ': >$HERE/term-$$; exit' TERM; : >$HERE/ready-$$; while :; do sleep 0.02; done", "term"),
    ] {
        // Where the end of input is enough, TERM is so far away that no machine is slow enough to meet it.
        let served = Served::script(&["--stop-timeout", if note == "eof" { "60" } else { "5" }], script);
        let client = Client::open(&served.address());
        served.wait_for_notes(1, "ready");
        drop(client);
        served.wait_for_notes(1, note);
        let start = Instant::now();
        served.process.signal("TERM");
        served.wait_for_notes(served.notes("ready"), note);
        let other = if note == "eof" { "term" } else { "eof" };
        assert_eq!(served.notes(other), 0, "{name}");
        ended(name, served, 0, start);
    }
}

#[test]
fn a_signal_while_we_start_leaves_nothing() {
    let delays: Vec<u64> = (0..20).collect();
    each(&delays, |delay_ms| {
        let mut served = Served::script(&[], SERVERS[0].2);
        thread::sleep(Duration::from_millis(*delay_ms)); // any moment of the start will do
        served.process.signal("TERM");
        let _ = served.process.wait(LATE);
        wait_until("nothing is left", SOON, || served.marked().is_empty());
    });
}

#[test]
fn when_we_are_killed_our_servers_see_the_end_of_their_input() {
    let demo = demo();
    let mut served = Served::start(&[], &[&demo, "--demo"]);
    let address = served.address();
    let clients: Vec<Client> = (0..3).map(|_| Client::open(&address)).collect();
    wait_until("three servers", SOON, || served.marked().len() >= clients.len());
    served.process.signal("KILL");
    let _ = served.process.wait(SOON);
    wait_until("nothing is left", SOON, || served.marked().is_empty());
}

#[test]
fn a_client_that_does_not_read_does_not_hold_us_up() {
    let served = Served::script(&[], FLOODS);
    let _socket = unread(&served.address());
    served.wait_for_notes(1, "ready");
    let start = Instant::now();
    served.process.signal("TERM");
    ended("TERM, a client that does not read", served, 0, start);
}

/// Says more than a socket takes, and then waits for the end of its input.
const TALKS: &str = "printf '{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":[\"'; head -c 16000000 /dev/zero | tr '\\0' x; \
                     echo '\"]}'; : >$HERE/said-$$; cat >/dev/null";

#[test]
fn what_was_said_before_the_end_is_heard_and_streams_end_whole() {
    let served = Served::script(&["--keep-alive", "1"], &format!("read -r line && {{ {TALKS}; }}"));
    let address = served.address();
    let quick: Vec<TcpStream> = (0..20).map(|_| unread(&address)).collect();
    let slow = unread(&address);
    let mut lines = BufReader::with_capacity(1, &slow).lines().map(Result::unwrap);
    let endpoint = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
    let (mut post, message) = (TcpStream::connect(&address).unwrap(), initialize(1));
    let length = message.len();
    write!(post, "POST {endpoint} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{message}").unwrap();
    served.wait_for_notes(1, "said");
    // A client that is there, and only does not read, is not one that has gone.
    thread::sleep(Duration::from_millis(2500));
    // They read on at that moment: a second later they would count as gone.
    let reads = Barrier::new(quick.len() + 2);
    thread::scope(|scope| {
        for (name, mut stream) in [("slow", slow)].into_iter().chain(quick.into_iter().map(|stream| ("quick", stream)))
        {
            let reads = &reads;
            scope.spawn(move || {
                let mut heard = Vec::new();
                reads.wait();
                stream.read_to_end(&mut heard).unwrap();
                let end = String::from_utf8_lossy(&heard[heard.len().saturating_sub(300)..]).into_owned();
                assert!(end.ends_with("\r\n0\r\n\r\n"), "{name}: {end:?}");
                assert!(name == "quick" || end.contains("\"id\":1,"), "{name}: {end:?}");
            });
        }
        served.process.signal("TERM");
        reads.wait();
    });
    wait_until("its servers have ended", SOON, || served.marked().is_empty());
    ended("TERM, streams that end whole", served, 0, Instant::now());
}

/// A session whose client reads nothing.
fn unread(address: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET /sse HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    socket
}

/// Notes its process id under the id of the first request, then answers nothing and ignores signals.
const NUMBERED: &str = "trap '' TERM; sleep 1000 & read -r line; id=${line#*'\"id\":'}; \
                        echo $$ >$HERE/pid-${id%%,*}; while :; do sleep 1000; done";

#[test]
fn a_client_that_leaves_takes_its_server_with_it_and_no_other() {
    let served = Served::script(&[], NUMBERED);
    let address = served.address();
    let clients = [1, 2].map(|id| {
        let client = Client::open(&address);
        assert_eq!(client.post(&initialize(id)), 202);
        client
    });
    let servers = [served.number("pid-1"), served.number("pid-2")];
    let [leaving, staying] = clients;
    drop(leaving);
    let start = Instant::now();
    wait_until("the server's group is gone", LATE, || group(servers[0]).is_empty());
    println!("{:>5} ms  a client left", start.elapsed().as_millis());
    assert!(alive(servers[1]) && !staying.ended() && !group(servers[1]).is_empty());
    served.process.signal("TERM");
    ended("TERM, after a client left", served, 0, Instant::now());
}

#[test]
fn a_pulled_plug_is_noticed() {
    if !in_own_network("a_pulled_plug_is_noticed") {
        return;
    }
    for (name, answers) in [("that is silent", false), ("that floods", true)] {
        let flood = "while :; do echo '{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}' || exit; done";
        let script =
            if answers { NUMBERED.replace("while :; do sleep 1000; done", flood) } else { NUMBERED.to_owned() };
        let served = Served::script(&["--keep-alive", "2"], &script);
        let client = Client::open(&served.address());
        assert_eq!(client.post(&initialize(1)), 202);
        let leader = served.number("pid-1");
        set_loopback(false);
        let start = Instant::now();
        wait_until("the server's group is gone", SOON, || group(leader).is_empty());
        let took = start.elapsed();
        println!("{:>5} ms  a pulled plug, a server {name}", took.as_millis());
        assert!(took <= Duration::from_secs(2) + LATE, "{took:?}\n{}", served.report());
        set_loopback(true);
        served.process.signal("TERM");
        ended("TERM, after a pulled plug", served, 0, Instant::now());
    }
}

/// Descriptors and threads of a process.
fn cost(pid: u32) -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

/// A script whose server ends as its first request's id says.
fn ends_by_id(how: &str) -> String {
    format!("ulimit -c 0; read -r line; id=${{line#*'\"id\":'}}; id=${{id%%,*}}; {how}")
}

/// Opens a session whose server ends by itself, and checks what its client, another client and the log learn.
fn server_ends(served: &Served, id: u32, cause: &str) {
    let client = Client::open(&served.address());
    assert_eq!(client.post(&initialize(id)), 202, "{cause}\n{}", served.report());
    let answer = client.message(&format!("\"id\":{id},"));
    assert!(answer.contains("\"error\"") && answer.contains(cause), "{cause}: {answer}");
    client.wait_for_end(SOON);
    served.process.wait_for_stderr(&format!("the server {cause}"));
}

#[test]
fn every_exit_status_of_a_server_reaches_its_client_and_the_log() {
    let served = Served::script(&[], &ends_by_id("exit $id"));
    server_ends(&served, 0, "exited with status 0"); // what is begun once is begun now
    wait_until("the spare", SOON, || served.marked().len() == 1);
    let before = cost(served.process.id());
    let start = Instant::now();
    for status in 0..=255 {
        server_ends(&served, status, &format!("exited with status {status}"));
    }
    println!("{:>5} ms  256 servers ended", start.elapsed().as_millis());
    // A few are in use at any moment; what is kept of each server would be hundreds.
    let is_given_back = |now: (usize, usize)| now.0 <= before.0 + 8 && now.1 <= before.1 + 8;
    wait_until("descriptors and threads are given back", SOON, || is_given_back(cost(served.process.id())));
    wait_until("no zombies", SOON, || descendants(served.process.id()).into_iter().all(alive));
    served.process.signal("TERM");
    ended("TERM, after 256 servers ended", served, 0, Instant::now());
}

#[test]
fn every_signal_that_ends_a_server_reaches_its_client_and_the_log() {
    let served = Served::script(&[], &ends_by_id("kill -$id $$; sleep 1000"));
    for (number, name) in [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ] {
        server_ends(&served, number, &format!("was ended by signal {number} ({name})"));
    }
    served.process.signal("TERM");
    ended("TERM, after servers were killed", served, 0, Instant::now());
}

#[test]
fn a_server_that_closes_its_output_ends_its_session_and_no_other() {
    let served = Served::script(&[], "read -r line; case $line in *'\"id\":1,'*) exec >&-;; esac; cat >/dev/null");
    let clients = [Client::open(&served.address()), Client::open(&served.address())];
    assert_eq!(clients[1].post(&initialize(2)), 202);
    assert_eq!(clients[0].post(&initialize(1)), 202);
    assert!(clients[0].message("\"id\":1,").contains("\"error\""));
    clients[0].wait_for_end(LATE);
    assert!(!clients[1].ended());
    served.process.signal("TERM");
    ended("TERM, after a server closed its output", served, 0, Instant::now());
}

#[test]
fn a_server_that_closes_its_input_leaves_no_request_unanswered() {
    let script = "read -r line; : >$HERE/read-$$; until [ -e $HERE/go ]; do sleep 0.02; done; exec <&-; \
                  while :; do sleep 1000; done";
    let served = Served::script(&[], script);
    let client = Client::open(&served.address());
    assert_eq!(client.post(&initialize(1)), 202);
    served.wait_for_notes(1, "read");
    // More than a pipe takes: it waits when the input is closed.
    assert_eq!(client.post(&request(2, "tools/list", &format!("[\"{}\"]", "x".repeat(200_000)))), 202);
    fs::write(served.folder().join("go"), "").unwrap();
    for id in [1, 2] {
        assert!(client.message(&format!("\"id\":{id},")).contains("\"error\""));
    }
    client.wait_for_end(LATE);
    served.process.signal("TERM");
    ended("TERM, after a server closed its input", served, 0, Instant::now());
}

#[test]
fn a_server_starts_as_if_its_user_had_started_it() {
    // Descriptors, and signals without those that a C library keeps for itself (from 32 on).
    let look = "ls /proc/self/fd | wc -l; \
                while read -r name mask; do case $name in Sig[BI]*) echo $((0x$mask & 0x7fffffff));; esac; \
                done </proc/self/status";
    let served = Served::script(&[], &format!("read -r line; ({look}) >$HERE/look; mv $HERE/look $HERE/seen; cat"));
    let client = Client::open(&served.address());
    let _other = Client::open(&served.address());
    assert_eq!(client.post(&initialize(1)), 202);
    let direct = support::command("sh").args(["-c", look]).stdin(Stdio::piped()).output().unwrap();
    let direct = String::from_utf8(direct.stdout).unwrap();
    let (_, signals) = direct.split_once('\n').unwrap();
    // Its three pipes and the folder that is looked at: what we were started with besides is no business of a server.
    assert_eq!(served.note("seen"), format!("4\n{signals}"), "descriptors, blocked, ignored");
}

/// Answers once, with which of HUP, INT and QUIT it ignores.
const TELLS_WHAT_IT_IGNORES: &str = r#"read -r line; while read -r name mask; do case $name in SigI*)
    printf '{"jsonrpc":"2.0","id":1,"result":{"ignored":%d}}\n' $((0x$mask & 7));; esac; done </proc/self/status
    cat >/dev/null"#;

/// The proxy, started with HUP and QUIT ignored, once it catches HUP: before, a signal would meet `sh` or `nohup`.
fn with_nohup(args: &[&str]) -> Process {
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' QUIT; exec nohup \"$0\" \"$@\""]).arg(program());
    let process = Process::start(nohup.args(args));
    wait_until("a proxy that catches HUP", SOON, || catches_hangup(process.id()));
    process
}

/// Whether the process has a handler for HUP.
fn catches_hangup(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    u64::from_str_radix(caught, 16).unwrap() & 1 != 0
}

#[test]
fn nohup_is_heeded_and_no_business_of_a_server() {
    let folder = Folder::new();
    let file = folder.file("servers.json", r#"{"mcpServers": {"other": {"command": "cat"}}}"#).display().to_string();
    let command = &["--", "sh", "-c", TELLS_WHAT_IT_IGNORES][..];
    for options in [&[][..], &["--named-server-config", &file]] {
        let mut serve = with_nohup(&[&["--port", "0", "--stop-timeout", "60"], options, command].concat());
        let mut connect = with_nohup(&[&format!("http://{}/sse", serve.address())]);
        serve.signal("QUIT");
        serve.signal("HUP");
        if !options.is_empty() {
            serve.wait_for_stderr("was read again");
        }
        connect.signal("HUP");
        connect.write(format!("{}\n", initialize(1)).as_bytes());
        let answer = String::from_utf8(connect.lines(1).concat()).unwrap();
        assert!(answer.contains("\"ignored\":0"), "{answer}");
        connect.close_stdin();
        assert_eq!(connect.wait(SOON).code(), Some(0), "{}", connect.report());
        assert!(!serve.stderr().contains("stopping"), "{}", serve.report());
        serve.signal("TERM");
        assert_eq!(serve.wait(SOON).code(), Some(0), "{}", serve.report());
    }
}

/// Twenty orphans that end as soon as they are ours, one that never does; then the first request decides.
const ORPHANS: &str = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
    ( ( while read -r _ _ _ parent _ </proc/self/stat && [ $parent != $PPID ]; do sleep 0.01; done; \
        : >$HERE/adopted-$$-$n ) & ); done; (setsid sleep 1000 &); \
    read -r line; id=${line#*'\"id\":'}; exit ${id%%,*}";

#[test]
fn orphans_are_reaped_and_no_exit_status_is_stolen() {
    let pid_1 = unshare(&["--pid", "--fork", "--mount-proc"]);
    for (name, words) in [("as PID 1", pid_1), ("as any process", Vec::new())] {
        let served = Served::start_behind(&words, &[], &["sh", "-c", ORPHANS]);
        let pid = if words.is_empty() { served.process.id() } else { served.inner() };
        for status in [7, 0, 255] {
            server_ends(&served, status, &format!("exited with status {status}"));
        }
        served.wait_for_notes(60, "adopted");
        wait_until(&format!("no zombies, {name}"), SOON, || descendants(pid).into_iter().all(alive));
        let start = Instant::now();
        Served::signal(pid, "TERM");
        ended(&format!("TERM, {name}, with orphans"), served, 0, start);
    }
}

#[test]
fn every_signal_stops_us_as_pid_1() {
    let words = unshare(&["--pid", "--fork", "--mount-proc"]);
    let demo = demo();
    let polite = &[demo.as_str(), "--demo"][..];
    let rude = &["sh", "-c", RUDEST][..];
    let rows = ["TERM", "INT", "HUP"].map(|signal| [(signal, polite, "polite", 0), (signal, rude, "rude", 2)]);
    each(rows.as_flattened(), |(signal, command, name, ready)| {
        let name = format!("{signal}, as PID 1, a {name} server");
        in_time(&name, BOUND + SLACK, || {
            let served = Served::start_behind(&words, &[], command);
            let pid = served.inner();
            stops(&name, served, pid, signal, *ready)
        });
    });
    let served = Served::start_behind(&words, &["--stop-timeout", "60"], rude);
    let _client = Client::open(&served.address());
    let pid = served.inner();
    served.wait_for_notes(1, "ready");
    Served::signal(pid, "TERM");
    wait_until("it listens no more", SOON, || Client::try_open(&served.address()).is_err());
    let start = Instant::now();
    Served::signal(pid, "TERM");
    ended("TERM, as PID 1, then TERM", served, 143, start);
}

#[test]
fn what_cannot_start_is_said_at_once_in_one_line() {
    let folder = Folder::new();
    let plain = folder.file("plain", "#!/bin/sh\n").display().to_string();
    let broken = folder.file("broken", "#!/no/such/interpreter\n").display().to_string();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let here = folder.path().display().to_string();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    for (status, args, culprit) in [
        (127, &["--port", "0", "--", "/no/such/command"][..], "'/no/such/command'"),
        (127, &["--port", "0", "--", "no-such-command"], "'no-such-command'"),
        (127, &["--port", "0", "--", &broken], "broken'"),
        (126, &["--port", "0", "--", &plain], "plain'"),
        (126, &["--port", "0", "--", &here], "cannot start"),
        (1, &["--port", &port, "--", &demo(), "--demo"], &port),
        (2, &["--port", "0", "--no-such-option", "--", "cat"], "--no-such-option"),
        (2, &["--port", "x", "--", "cat"], "--port"),
        (2, &[], "mcp-proxy"),
    ] {
        in_time(&format!("{args:?}"), AT_ONCE + SLACK, || {
            let start = Instant::now();
            let mut process = Process::start(proxy().args(args));
            let got = process.wait(SOON);
            let took = start.elapsed();
            wait_until("a line", SOON, || process.stderr().ends_with('\n'));
            assert_eq!(got.code(), Some(status), "{args:?}\n{}", process.report());
            assert!(process.stderr().contains(culprit), "{args:?}\n{}", process.report());
            assert_eq!(process.stderr().lines().count(), 1, "{args:?}\n{}", process.report());
            took
        });
    }
}

#[test]
fn the_demo_server_answers_a_session_to_its_end() {
    let demo = demo();
    let served = Served::start(&["--stop-timeout", "60"], &[&demo, "--demo"]);
    let client = Client::open(&served.address());
    assert_eq!(client.post(&initialize(1)), 202);
    assert!(client.message("\"id\":1,").contains("\"result\""));
    assert_eq!(client.post(INITIALIZED), 202);
    assert_eq!(client.post(&request(2, "tools/list", "{}")), 202);
    assert!(client.message("\"id\":2,").contains("\"tools\""));
    let start = Instant::now();
    served.process.signal("TERM");
    ended("TERM, a demo session", served, 0, start);
    assert!(
        client.ended() || {
            client.wait_for_end(SOON);
            true
        }
    );
}
