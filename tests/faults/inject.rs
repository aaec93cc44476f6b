//! What breaks things: one fault after the other, by a seed, while clients call.
//!
//! Always: what was stopped goes on, and what was made scarce is given back, before the next fault.

use super::clients::Act;
use super::cutter::Cutter;
use super::ledger::Ledger;
use super::seed::Seed;
use crate::support::{descendants, kill};
use std::fs::{self, OpenOptions};
use std::io::Write;
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
    /// There is no more memory for threads.
    Threads,
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
            Self::Threads => "no more memory for threads",
            Self::Clock => "wall clock jumped",
        }
    }
}

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
            let kind = match first.is_empty() {
                true => *seed.pick(kinds).expect("there are kinds"),
                false => first.swap_remove(usize::try_from(seed.below(first.len() as u64)).unwrap()),
            };
            if self.happen(kind, seed, restart) {
                ledger.fault(kind.name());
            }
            thread::sleep(pause);
        }
    }

    fn happen(&self, kind: Kind, seed: &mut Seed, restart: &dyn Fn()) -> bool {
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
            Kind::Descriptors => self.scarce("nofile", "fd", 1 + seed.below(3), a_while),
            Kind::Threads => self.scarce("as", "", 0, a_while),
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

    /// Lets the processes have no more of something than they have, and a little, for a while.
    fn scarce(&self, limit: &str, counted: &str, more: u64, a_while: Duration) -> bool {
        for pid in &self.pids {
            let has = if counted.is_empty() { address_space(*pid) } else { count(*pid, counted) };
            prlimit(*pid, limit, &format!("{}:", has + more));
        }
        thread::sleep(a_while);
        self.relieve();
        true
    }

    /// Gives back what was made scarce.
    fn relieve(&self) {
        for pid in &self.pids {
            prlimit(*pid, "nofile", "1024:");
            prlimit(*pid, "as", "unlimited:");
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

/// A figure of `/proc/PID/status`, in kB.
pub fn status_kb(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn address_space(pid: u32) -> u64 {
    // Less than one more stack, and enough for what messages need.
    (status_kb(pid, "VmSize") << 10) + (200 << 10)
}
