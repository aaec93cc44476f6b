//! Connect mode under test, and the client that has started it.

use super::calls::{Act, Client, INITIALIZE, INITIALIZED, Inbox, REVISION};
use super::ledger::{Fate, Ledger};
use super::wire::Patience;
use crate::support::proxy;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long connect may take to end, with what a slow and busy machine may add: `end_of_input.rs` looks more closely.
const ENDS: Duration = Duration::from_secs(15);

/// Our connect mode, in front of a remote server.
pub struct Connect {
    child: Child,
    inbox: Inbox,
    lines: Receiver<String>,
    begun: bool,
    dead: bool,
}

impl Connect {
    /// Starts it; nothing is sent yet.
    pub fn start(url: &str, options: &[&str], ledger: &Arc<Ledger>) -> Self {
        Self::of(proxy().args(options).arg(url), ledger)
    }

    /// Starts this command.
    pub fn of(command: &mut Command, ledger: &Arc<Ledger>) -> Self {
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, inbox: Inbox::new("a client of connect", ledger), lines, begun: false, dead: false }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many of its calls were answered by a result.
    pub fn results(&self) -> u64 {
        self.inbox.results
    }

    fn write(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is open");
        if stdin.write_all(format!("{line}\n").as_bytes()).is_err() && !self.dead {
            self.dead = true;
            let status = self.child.try_wait();
            self.inbox.ledger.wrong(format!("connect reads no more: {status:?}"));
        }
    }

    fn begin(&mut self) -> bool {
        self.write(&INITIALIZE.replace("REVISION", REVISION));
        match Patience::new(&self.inbox.ledger).next(&self.lines, None) {
            Ok(line) if line.contains("\"result\"") => self.begun = true,
            Ok(_) => thread::sleep(Duration::from_millis(50)),
            Err(error) => self.inbox.ledger.wrong(format!("connect did not answer initialize: {error}")),
        }
        if self.begun {
            self.write(INITIALIZED);
        }
        self.begun
    }
}

impl Client for Connect {
    fn call(&mut self, acts: &[(Act, usize)]) {
        if self.dead || (!self.begun && !self.begin()) {
            return;
        }
        let calls = self.inbox.expect(acts);
        for call in &calls {
            self.write(&call.message(""));
        }
        let patience = Patience::new(&self.inbox.ledger);
        while !self.inbox.open.is_empty() {
            match patience.next(&self.lines, None) {
                Ok(line) => self.inbox.hear(&line),
                Err(why) => self.inbox.give_up_all(Fate::Lost, &format!("on stdout: {why}")),
            }
        }
    }

    fn end(mut self: Box<Self>) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        let mut status = None;
        while status.is_none() && start.elapsed() < self.inbox.ledger.patience() {
            thread::sleep(Duration::from_millis(5));
            status = self.child.try_wait().unwrap();
        }
        let (ledger, took) = (&self.inbox.ledger, start.elapsed());
        ledger.stopped(took);
        if status.and_then(|status| status.code()) != Some(0) || took > ENDS {
            ledger.wrong(format!("connect ended with {status:?} {took:?} after its input"));
        }
        self.lines.try_iter().for_each(|line| self.inbox.hear(&line));
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
