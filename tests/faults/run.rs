//! One run: clients and servers are brought together, things break for a while, and then the books are looked at.

use super::calls::{Act, Client};
use super::clients::{Door, Sse, Streamable};
use super::cutter::{self, Cutter};
use super::inject::{Kind, Target, as_nobody, count, status};
use super::ledger::{Ledger, table};
use super::seed::Seed;
use super::soak::watch;
use crate::support::http::Http;
use crate::support::served::Served;
use crate::support::{Folder, descendants, kill, wait_until};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How many processes sessions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each its own.
    Own,
    /// One for all.
    Shared,
    /// One for all, and no sessions.
    Stateless,
}

impl Sharing {
    /// Its option.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Shared => &["--shared"],
            Self::Stateless => &["--stateless"],
        }
    }
}

/// What a run is.
pub struct Plan {
    /// How many processes sessions have.
    pub sharing: Sharing,
    /// Where chance comes from unless `FAULTS_SEED` says.
    pub fixed: u64,
    /// Where chance comes from.
    pub seed: Seed,
    /// How long things break.
    pub lasts: Duration,
    /// What breaks.
    pub kinds: &'static [Kind],
    /// Where its log goes.
    pub log: Log,
    /// Each server is asked over one connection, one call after the other.
    pub one_by_one: bool,
}

/// Where a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// To the test.
    Read,
    /// To a disk that is full.
    Full,
    /// Into a pipe that nobody reads.
    Unread,
}

impl Log {
    /// The words before the proxy that make it so; `folder` may be used for it.
    fn words(self, folder: &Path) -> Vec<String> {
        let fifo = folder.join("unread").display().to_string();
        let script = match self {
            Self::Read => return Vec::new(),
            Self::Full => "exec \"$@\" 2>/dev/full",
            Self::Unread => "mkfifo \"$0\" && exec 4<>\"$0\" && exec \"$@\" 2>&4",
        };
        vec!["sh".into(), "-c".into(), script.into(), fifo]
    }
}

/// The words before the proxy whose wall clock a file moves, where something moves it.
fn clock_words(folder: &Path, clock: &Path) -> Vec<String> {
    let library = folder.join("clock.so").display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, source]).status();
    assert!(status.expect("a C compiler").success());
    std::fs::write(clock, 0i64.to_ne_bytes()).unwrap();
    vec!["env".into(), format!("LD_PRELOAD={library}"), format!("FAULTS_CLOCK={}", clock.display())]
}

/// The words before a proxy that make its allocator, glibc's, keep what is free in one place: what several places keep
/// of many threads creeps up for a long time, and hides what leaks; so does what it keeps of long messages.
pub fn one_arena() -> Vec<String> {
    vec!["env".into(), "MALLOC_ARENA_MAX=1".into(), "MALLOC_MMAP_THRESHOLD_=131072".into()]
}

/// What serve mode keeps of its clients is as much as it will be after a few seconds, not after minutes: what it keeps of
/// streams for clients that come back, and sessions that nobody uses.
pub const SOON_FLAT: [&str; 4] = ["--session-idle", "1", "--replay-bytes", "65536"];

/// A port that was free a moment ago: whose log nobody reads cannot say where it listens. It is none of those that the
/// system gives away by itself, where a connection to a port that nobody listens at may meet itself.
pub fn free_port(seed: &mut Seed) -> u16 {
    let mut some = || u16::try_from(20_000 + (seed.next() ^ u64::from(std::process::id())) % 10_000).unwrap();
    std::iter::repeat_with(&mut some).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Serve mode as the plan has it, where it listens, and the file that moves its clock.
fn start(plan: &Plan, folder: &Path) -> (Served, String, Option<PathBuf>) {
    let clock = plan.kinds.contains(&Kind::Clock).then(|| folder.join("clock"));
    let mut words = [plan.log.words(folder), one_arena()].concat();
    if plan.kinds.contains(&Kind::Threads) {
        words.extend(as_nobody());
    }
    words.extend(clock.iter().flat_map(|clock| clock_words(folder, clock)));
    let port = free_port(&mut plan.seed.branch(9)).to_string();
    let level = if plan.log == Log::Read { "INFO" } else { "DEBUG" };
    let options = [&SOON_FLAT, &["--port", &port, "--log-level", level], plan.sharing.options()].concat();
    let served = Served::start_behind(&words, &options, &server());
    let address = format!("127.0.0.1:{port}");
    wait_until("it listens", SETTLES, || TcpStream::connect(&address).is_ok());
    (served, address, clock)
}

/// How long everything may take to be gone.
pub const SETTLES: Duration = Duration::from_mins(1);
/// `--stop-timeout` of [`Served`], what a killed process may take, and a slow and busy machine: `stop.rs` looks more closely.
pub const STOPS: Duration = Duration::from_secs(15);
/// What memory may grow by in a short run: what is made once, and what the allocator keeps.
pub const SLACK_KB: u64 = 8 << 10;
/// Calls that are open at once, of one client.
pub const AT_ONCE: u64 = 5;

/// How long things may recover between two faults: where all share a server, each fault is everybody's.
pub fn pause(sharing: Sharing) -> Duration {
    Duration::from_millis(if sharing == Sharing::Own { 50 } else { 150 })
}

/// Says how to do this again.
pub fn started_with(plan: &Plan) {
    println!("{:?}, FAULTS_SEED={} for all runs", plan.sharing, Seed::from_environment(plan.fixed).value());
}

/// The words that start the servers.
pub fn server() -> Vec<&'static str> {
    static PYTHON: OnceLock<String> = OnceLock::new();
    // The program itself: what stands in PATH may be a script that looks for it each time.
    let python = PYTHON.get_or_init(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output();
        String::from_utf8(output.expect("python3").stdout).unwrap()
    });
    vec![python, "-I", "-S", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/server.py")]
}

/// Everybody who calls over HTTP: each transport, some of them where connections are cut.
fn clients(plan: &Plan, address: &str, cutter: &Cutter, ledger: &Arc<Ledger>) -> Vec<Box<dyn Client>> {
    let direct = Door { address: address.to_owned(), cutter: None };
    let cut = Door { address: cutter.address.clone(), cutter: Some(cutter.clone()) };
    let mut all: Vec<Box<dyn Client>> = Vec::new();
    if plan.one_by_one {
        // Where sessions share a server, another client would ask the same.
        let doors = [cut, direct].into_iter().take(if plan.sharing == Sharing::Own { 2 } else { 1 });
        return doors.map(|door| Box::new(Streamable::one_by_one(door, ledger)) as Box<dyn Client>).collect();
    }
    for door in [direct, cut] {
        all.push(Box::new(Streamable::new(door.clone(), false, ledger)));
        all.push(Box::new(Streamable::new(door.clone(), true, ledger)));
        all.push(Box::new(Sse::new(door, ledger)));
    }
    all
}

/// What a client asks for at once.
fn acts(target: &Target, seed: &mut Seed) -> Vec<(Act, usize)> {
    let mut one = |_| {
        let size = if seed.below(30) == 0 { 20_000 } else { seed.below(300) };
        let act = match seed.below(40) {
            0 => Act::Slow,
            1..10 => Act::Tell,
            _ => Act::Echo,
        };
        (act, usize::try_from(size).unwrap())
    };
    let mut acts: Vec<_> = (0..=AT_ONCE).map(&mut one).collect();
    acts.truncate(1 + usize::try_from(seed.below(AT_ONCE)).unwrap());
    match target.orders.lock().unwrap().pop() {
        Some(Act::Deaf) => acts = [vec![(Act::Deaf, 10)], vec![(Act::Echo, 60_000); 4]].concat(),
        Some(Act::Long) => acts = vec![(Act::Echo, 40_000 << seed.below(4)); acts.len()],
        Some(Act::Slow) => acts.iter_mut().for_each(|act| act.0 = Act::Slow),
        Some(act) => acts[0].0 = act,
        None => {}
    }
    acts
}

/// Lets clients call until all is over.
pub fn call(clients: &mut [Box<dyn Client>], target: &Target, seed: &Seed) {
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let mut seed = seed.branch(100 + number as u64);
            scope.spawn(move || {
                while !target.over.load(Ordering::SeqCst) {
                    client.call(&acts(target, &mut seed));
                    thread::sleep(Duration::from_millis(seed.below(6)));
                }
            });
        }
    });
}

/// What a proxy has at one moment, besides what it begins once and for all.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processes.
    pub processes: u64,
    /// Sessions.
    pub sessions: u64,
}

/// The names of its threads.
pub fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(name).map(|name| name.trim().to_owned()).collect::<Vec<_>>().join(", ")
}

/// What this one has.
pub fn cost(pid: u32, address: &str) -> Cost {
    let mut http = Http::connect(address);
    http.path = "/status".into();
    http.send("GET", &[("Connection", "close")], "");
    let status: serde_json::Value = serde_json::from_str(&http.answer().body).unwrap();
    let sessions = status["sessions"].as_u64().unwrap();
    let processes = descendants(pid).len() as u64;
    // They begin with the first server that is busy, and stay for good, one of them with a descriptor.
    let [minder, lender] = ["minder", "lender"].map(|name| u64::from(threads(pid).contains(name)));
    Cost { descriptors: count(pid, "fd") - minder, threads: count(pid, "task") - minder - lender, processes, sessions }
}

impl Cost {
    /// By how much this is more.
    pub fn over(&self, other: &Self) -> u64 {
        self.descriptors.saturating_sub(other.descriptors)
            + self.threads.saturating_sub(other.threads)
            + self.processes.saturating_sub(other.processes)
            + self.sessions
    }
}

/// Waits until it has no more than before; gives what it has at last.
pub fn settle(pid: u32, address: &str, before: &Cost, ledger: &Ledger) -> Cost {
    let (start, within) = (Instant::now(), SETTLES.min(ledger.patience()));
    loop {
        let now = cost(pid, address);
        if now.over(before) == 0 || start.elapsed() > within {
            return now;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Each client calls once, and everything must be answered by a result.
fn all_is_well(clients: &mut [Box<dyn Client>], ledger: &Arc<Ledger>, when: &str) {
    if ledger.has_failed() {
        return;
    }
    let before = ledger.counts();
    for client in clients.iter_mut() {
        client.call(&[(Act::Echo, 10), (Act::Tell, 10)]);
    }
    let after = ledger.counts();
    let sent = after.sent - before.sent;
    if after.results - before.results != sent || sent < 2 * clients.len() as u64 {
        ledger.wrong(format!("{when}: not every call has a result: {before:?} {after:?}"));
    }
}

/// How long a run may go on when nothing breaks any more.
const ENDS: Duration = Duration::from_secs(90);

/// Kills the processes when clients still wait long after all should be over, whatever they wait for: the run ends, and
/// says so. Until what it gives is dropped.
pub fn bounded(lasts: Duration, pids: &[u32], ledger: &Arc<Ledger>) -> mpsc::Sender<()> {
    let (end, ended) = mpsc::channel();
    let (pids, ledger) = (pids.to_vec(), ledger.clone());
    thread::spawn(move || {
        if ended.recv_timeout(lasts + ENDS) == Err(RecvTimeoutError::Timeout) {
            ledger.wrong("the clients do not end".into());
            for pid in pids {
                kill("KILL", &pid.to_string());
            }
        }
    });
    end
}

/// Runs serve mode before local servers.
pub fn serves(plan: &Plan) {
    started_with(plan);
    let folder = Folder::new();
    let (served, address, clock) = start(plan, folder.path());
    let pid = served.process.id();
    let ledger = Arc::new(Ledger::default());
    let cutter = Cutter::before(&address);
    wait_until("no session", SETTLES, || cost(pid, &address).processes == 1);
    all_is_well(&mut clients(plan, &address, &cutter, &ledger), &ledger, "before");
    wait_until("no session and no server", SETTLES, || {
        let now = cost(pid, &address);
        now.sessions == 0 && (now.processes == 1 || plan.sharing != Sharing::Own)
    });
    let first = settle(pid, &address, &cost(pid, &address), &ledger);
    let before_kb = status(pid, "RssAnon");

    let target = Target {
        pids: vec![pid],
        host: AtomicU32::new(pid),
        cutter: cutter.clone(),
        orders: Mutex::default(),
        clock,
        over: AtomicBool::new(false),
    };
    let end = bounded(plan.lasts, &target.pids, &ledger);
    thread::scope(|scope| {
        scope.spawn(|| call(&mut clients(plan, &address, &cutter, &ledger), &target, &plan.seed));
        scope.spawn(|| target.suffer(plan.kinds, &mut plan.seed.branch(7), &ledger, pause(plan.sharing), &|| {}));
        watch(&format!("serve, {:?}", plan.sharing), &target.pids, plan.lasts, &ledger);
        target.over.store(true, Ordering::SeqCst);
    });
    drop(end);
    all_is_well(&mut clients(plan, &address, &cutter, &ledger), &ledger, "after");
    let last = settle(pid, &address, &first, &ledger);
    if last.over(&first) > 0 {
        ledger.left(last.over(&first), format!("{last:?} is left instead of {first:?}: {}", threads(pid)));
    }
    let after_kb = status(pid, "RssAnon");
    ledger.memory(before_kb, after_kb);
    if after_kb > before_kb + SLACK_KB {
        ledger.wrong(format!("memory grew from {before_kb} kB to {after_kb} kB"));
    }
    if plan.one_by_one && !threads(pid).contains("lender") {
        ledger.wrong("no connection has read what its server said".into());
    }
    cutter::stop(&cutter);
    ends(served, &ledger);
    judge(&ledger);
}

/// Stops it, and looks at how.
pub fn ends(mut served: Served, ledger: &Ledger) {
    let start = Instant::now();
    served.process.signal("TERM");
    let status = served.process.finish(SETTLES).code();
    ledger.stopped(start.elapsed());
    if status != Some(0) || start.elapsed() > STOPS {
        ledger.wrong(format!("it stopped with status {status:?} after {:?}", start.elapsed()));
    }
    let left = served.marked();
    if !left.is_empty() {
        ledger.left(left.len() as u64, format!("processes are left: {left:?}"));
    }
    if served.process.stderr().contains("panicked") {
        ledger.wrong(format!("it panicked: {}", served.report()));
    }
    if !ledger.complaints().is_empty() {
        println!("the end of its log:\n{}", served.report());
    }
    ledger.audit(&effects(served.folder()));
}

/// What the servers did.
pub fn effects(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("effects")).unwrap_or_default()
}

/// Prints the figures; panics if something was that should never be.
pub fn judge(ledger: &Ledger) {
    let counts = ledger.counts();
    println!("{}", table(&counts, &ledger.faults()));
    let wrong = ledger.complaints();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(counts.lost + counts.foreign + counts.double + counts.twice + counts.leftovers, 0);
    assert!(counts.results > 20, "hardly anything was answered: {counts:?}");
}
