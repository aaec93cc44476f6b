//! A proxy in serve mode whose servers carry a mark in their environment, so that everything they start can be
//! found, wherever it went. Servers that are `sh` scripts find a folder for their notes in `$HERE`.

use super::namespace::behind;
use super::{Folder, Process, SOON, descendants, kill, proxy, wait_until};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long scripts' servers may take to end (`--stop-timeout`); short, so that tests are.
pub const STOP_TIMEOUT_S: &str = "1";

const MARK: &str = "MCP_PROXY_TEST_MARK";

/// The proxy, its servers and what these wrote.
pub struct Served {
    /// The proxy, or what it was started behind.
    pub process: Process,
    folder: Folder,
    mark: String,
}

impl Served {
    /// Offers `command` on a free port.
    #[must_use]
    pub fn start(options: &[&str], command: &[&str]) -> Self {
        Self::start_behind(&[], options, command)
    }

    /// Offers a server that is an `sh` script.
    #[must_use]
    pub fn script(options: &[&str], script: &str) -> Self {
        Self::start(options, &["sh", "-c", script])
    }

    /// As [`start`](Self::start), with the proxy started by `words`.
    #[must_use]
    pub fn start_behind(words: &[String], options: &[&str], command: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder::new();
        let mut proxy = proxy();
        proxy.args(["--port", "0", "--stop-timeout", STOP_TIMEOUT_S, "-e", MARK, &mark, "-e", "HERE"]);
        proxy.arg(folder.path()).args(options).arg("--").args(command);
        let process = Process::start(&mut if words.is_empty() { proxy } else { behind(words, &proxy) });
        Self { process, folder, mark }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.process.address()
    }

    /// The process id of the proxy itself, when it was started behind `unshare --fork`.
    #[must_use]
    pub fn inner(&self) -> u32 {
        wait_until("a child of unshare", SOON, || !descendants(self.process.id()).is_empty());
        descendants(self.process.id())[0]
    }

    /// Sends `signal` to the process `pid`.
    pub fn signal(pid: u32, signal: &str) {
        kill(signal, &pid.to_string());
    }

    /// The live processes that carry the mark, with their command lines.
    #[must_use]
    pub fn marked(&self) -> Vec<(u32, String)> {
        let mark = format!("{MARK}={}", self.mark);
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let marked = pids.filter(|pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        });
        let line = |pid: u32| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
        };
        marked.map(|pid| (pid, line(pid))).collect()
    }

    /// Panics if anything that the servers started is alive.
    pub fn assert_nothing_left(&self, name: &str) {
        let left = self.marked();
        assert!(left.is_empty(), "{name}: left {left:?}\n{}", self.report());
    }

    /// The end of the proxy's log, for the message of a failed test.
    #[must_use]
    pub fn report(&self) -> String {
        let log = self.process.stderr();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// The folder of the servers' notes.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// How many notes there are whose names begin with `prefix`.
    #[must_use]
    pub fn notes(&self, prefix: &str) -> usize {
        let names = fs::read_dir(self.folder.path()).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(prefix)).count()
    }

    /// Waits for so many notes whose names begin with `prefix`.
    pub fn wait_for_notes(&self, count: usize, prefix: &str) {
        let what = format!("{count} notes '{prefix}…'");
        wait_until(&what, SOON, || self.notes(prefix) >= count);
    }

    /// The note `name`, once it is there.
    #[must_use]
    pub fn note(&self, name: &str) -> String {
        wait_until(&format!("the note '{name}'"), SOON, || self.notes(name) > 0);
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// The number in the note `name`, once it is there.
    #[must_use]
    pub fn number(&self, name: &str) -> u32 {
        let read = || fs::read_to_string(self.folder.path().join(name)).ok()?.trim().parse().ok();
        wait_until(&format!("a number in the note '{name}'"), SOON, || read().is_some());
        read().unwrap()
    }
}

/// Live processes of the group that `leader` led.
#[must_use]
pub fn group(leader: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let in_group = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = text.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
        fields.first().is_some_and(|state| *state != "Z") && fields.get(2) == Some(&leader.to_string().as_str())
    };
    pids.filter(in_group).collect()
}
