//! What breaks things: one fault after the other, by a seed, while clients call.
//!
//! Always: what was stopped goes on, and what was made scarce is given back, before the next fault.

use super::calls::Act;
use super::cutter::Cutter;
use super::ledger::Ledger;
use super::seed::Seed;
use crate::support::{descendants, kill};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server process gets SIGKILL.
    Killed,
    /// A server process gets SIGSTOP, and SIGCONT later.
    Stopped,
    /// A server takes its time.
    Slow,
    /// A server closes its stdout and lives on.
    Mute,
    /// A server does not read its stdin until more waits than the pipe takes.
    Deaf,
    /// A server ends by itself in the middle of a call.
    Exits,
    /// A connection is cut, at once.
    Cut,
    /// A connection is cut after some more bytes from its client.
    CutUp,
    /// A connection is cut after some more bytes to its client.
    CutDown,
    /// A connection carries nothing any more, and is closed later.
    HalfOpen,
    /// The remote server is killed, and another begins at its port.
    Restarted,
    /// There are no more descriptors.
    Descriptors,
    /// There are no more threads, nor processes.
    Threads,
    /// There is hardly more address space, while long messages and new connections come.
    Space,
    /// The same for memory of one's own that can be written.
    Data,
    /// The clock on the wall jumps.
    Clock,
}

impl Kind {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "server killed",
            Self::Stopped => "server stopped and continued",
            Self::Slow => "server slow",
            Self::Mute => "server closed its stdout",
            Self::Deaf => "server did not read, pipe full",
            Self::Exits => "server exited in a call",
            Self::Cut => "connection cut",
            Self::CutUp => "connection cut within bytes of a client",
            Self::CutDown => "connection cut within bytes to a client",
            Self::HalfOpen => "peer half open",
            Self::Restarted => "remote killed and restarted",
            Self::Descriptors => "no more descriptors",
            Self::Threads => "no more threads or processes",
            Self::Space => "no more address space",
            Self::Data => "no more memory for data",
            Self::Clock => "wall clock jumped",
        }
    }
}

/// How much memory is free at most when there is hardly any.
const MOST_FREE: u64 = 4 << 20;
/// How long after it a client may learn that its connection had to leave: it reads one answer after the other.
const TOLD: Duration = Duration::from_secs(20);
/// How many connections are opened then.
const NEWCOMERS: usize = 30;
/// The limits of memory, as `prlimit` and as `/proc` call them.
const MEMORY: [(&str, &str); 2] = [("as", "address space"), ("data", "data size")];

/// What there is to be broken.
pub struct Target {
    /// The processes under test whose limits are changed.
    pub pids: Vec<u32>,
    /// The process that has the servers.
    pub host: AtomicU32,
    /// Who may cut connections.
    pub cutter: Cutter,
    /// What the next calls shall ask of their servers.
    pub orders: Mutex<Vec<Act>>,
    /// The file that moves the wall clock, in seconds.
    pub clock: Option<std::path::PathBuf>,
    /// All is over.
    pub over: AtomicBool,
}

impl Target {
    /// Breaks one thing after the other until all is over; `restart` begins the remote server again.
    pub fn suffer(&self, kinds: &[Kind], seed: &mut Seed, ledger: &Ledger, pause: Duration, restart: &dyn Fn()) {
        // Each kind once, then as they come.
        let mut first: Vec<Kind> = kinds.to_vec();
        while !self.over.load(Ordering::SeqCst) {
            let kind = if first.is_empty() {
                *seed.pick(kinds).expect("there are kinds")
            } else {
                first.swap_remove(usize::try_from(seed.below(first.len() as u64)).unwrap())
            };
            if self.happen(kind, seed, ledger, restart) {
                ledger.fault(kind.name());
            }
            thread::sleep(pause);
        }
    }

    fn happen(&self, kind: Kind, seed: &mut Seed, ledger: &Ledger, restart: &dyn Fn()) -> bool {
        let a_while = Duration::from_millis(50 + seed.below(250));
        match kind {
            Kind::Killed => self.server(seed).map(|pid| kill("KILL", &pid.to_string())).is_some(),
            Kind::Stopped => {
                let Some(pid) = self.server(seed).map(|pid| pid.to_string()) else { return false };
                kill("STOP", &pid);
                thread::sleep(a_while);
                kill("CONT", &pid);
                true
            }
            Kind::Slow => self.order(Act::Slow),
            Kind::Mute => self.order(Act::Mute),
            Kind::Deaf => self.order(Act::Deaf),
            Kind::Exits => self.order(Act::Exit),
            Kind::Cut => self.cutter.cut(seed.next()),
            Kind::CutUp => self.cut_within(super::cutter::Way::Up, seed),
            Kind::CutDown => self.cut_within(super::cutter::Way::Down, seed),
            Kind::HalfOpen => self.cutter.hold(seed.next(), a_while),
            Kind::Restarted => {
                restart();
                true
            }
            Kind::Descriptors => self.scarce("nofile", |pid| count(pid, "fd") + 2, a_while, ledger),
            Kind::Threads => self.scarce("nproc", tasks_of_user, a_while, ledger),
            Kind::Space => self.crowded("as", "VmSize", seed, a_while, ledger),
            Kind::Data => self.crowded("data", "VmData", seed, a_while, ledger),
            Kind::Clock => self.jump(seed),
        }
    }

    fn server(&self, seed: &mut Seed) -> Option<u32> {
        seed.pick(&descendants(self.host.load(Ordering::SeqCst))).copied()
    }

    fn order(&self, act: Act) -> bool {
        self.orders.lock().unwrap().push(act);
        true
    }

    fn cut_within(&self, way: super::cutter::Way, seed: &mut Seed) -> bool {
        self.cutter.arm(way, seed.below(600));
        thread::sleep(Duration::from_millis(100));
        !self.cutter.disarm()
    }

    /// Lets the processes have hardly more of something than they have, for a while.
    fn scarce(&self, limit: &str, most: impl Fn(u32) -> u64, a_while: Duration, ledger: &Ledger) -> bool {
        ledger.is_scarce_for(a_while + TOLD);
        for pid in &self.pids {
            prlimit(*pid, limit, &format!("{}:", most(*pid)));
        }
        thread::sleep(a_while);
        self.relieve();
        true
    }

    /// Lets the processes have hardly more memory than they have, for a while, and gives them much to do.
    fn crowded(&self, limit: &str, figure: &str, seed: &mut Seed, a_while: Duration, ledger: &Ledger) -> bool {
        let (some, longer) = (seed.below(MOST_FREE), a_while * u32::try_from(1 + seed.below(4)).unwrap());
        ledger.is_scarce_for(longer + TOLD);
        self.orders.lock().unwrap().extend([Act::Long; 4]);
        if seed.below(2) == 0 {
            thread::sleep(Duration::from_millis(seed.below(20))); // long messages may be on their way by now
        }
        for pid in &self.pids {
            prlimit(*pid, limit, &format!("{}:", status(*pid, figure) * 1024 + some));
        }
        let connections: Vec<_> = (0..NEWCOMERS).map(|_| TcpStream::connect(&self.cutter.address)).collect();
        self.orders.lock().unwrap().extend([Act::Long; 4]);
        thread::sleep(longer);
        drop(connections);
        // Where calls are slow there are some left: they would make up more and more of the calls, and memory with them.
        self.orders.lock().unwrap().retain(|act| *act != Act::Long);
        self.relieve();
        for pid in descendants(self.host.load(Ordering::SeqCst)) {
            for (limit, name) in MEMORY {
                prlimit(pid, limit, &format!("{}:", most(pid, name))); // servers that were begun meanwhile
            }
        }
        true
    }

    /// Gives back what was made scarce.
    fn relieve(&self) {
        for pid in &self.pids {
            prlimit(*pid, "nofile", "1024:");
            for (limit, name) in [("nproc", "processes"), MEMORY[0], MEMORY[1]] {
                prlimit(*pid, limit, &format!("{}:", most(*pid, name)));
            }
        }
    }

    fn jump(&self, seed: &mut Seed) -> bool {
        let Some(file) = &self.clock else { return false };
        // Back to 1998 or so, or forward by as much.
        let by = i64::try_from(seed.below(1_800_000_000)).unwrap() - 900_000_000;
        // Not cut to nothing first: the program has mapped it.
        OpenOptions::new().write(true).open(file).and_then(|mut file| file.write_all(&by.to_ne_bytes())).unwrap();
        true
    }
}

fn prlimit(pid: u32, limit: &str, value: &str) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--{limit}={value}")]).stderr(Stdio::null());
    let _ = command.status().expect("prlimit of util-linux");
}

/// Entries of a folder of a process.
pub fn count(pid: u32, what: &str) -> u64 {
    fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, |entries| entries.count() as u64)
}

/// A figure of `/proc/PID/status`, the first one where there are several.
pub fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a soft limit may be set to.
fn most(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(&format!("Max {name} ")));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("unlimited").to_owned()
}

/// How many threads the user of this process has, which is what the limit of processes counts.
fn tasks_of_user(pid: u32) -> u64 {
    let user = |pid: u32| status(pid, "Uid");
    let ours = user(pid);
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid| user(*pid) == ours).map(|pid| count(pid, "task")).sum()
}

/// The words before a program that is to run out of threads: root never does, so that it becomes somebody else, who may
/// read and write what root may, and has nothing else running.
pub fn as_nobody() -> Vec<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if status(std::process::id(), "Uid") != 0 {
        return Vec::new();
    }
    let user = 100_000 + std::process::id() % 10_000 * 100 + COUNT.fetch_add(1, Ordering::Relaxed);
    let may = "+dac_override";
    let words = ["setpriv", "--reuid", &user.to_string(), "--inh-caps", may, "--ambient-caps", may, "--"];
    words.map(str::to_owned).to_vec()
}
