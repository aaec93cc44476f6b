//! The way to a local server: its stdin, and what waits for it.
//!
//! Always: whoever sends writes directly and never waits; lines reach the server whole and in the order of the calls.

use super::Limits;
use super::loan::{Heard, Loan};
use crate::protocol::backlog::Backlog;
use crate::protocol::message::{Kind, Message};
use crate::system::{Waker, memory};
use crate::upstream::{Hearer, Sender, Undelivered};
use std::io::{self, IoSlice, Write};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// What both ends of the link share.
pub struct Shared {
    pub pid: u32,
    pub limits: Limits,
    pub waker: Waker,
    /// A [`Stop`]. It and `backlog` stand beside the lock, so that the receiver takes it only when it must: a thread
    /// that loses the processor inside a write would make it wait.
    pub stop: AtomicU8,
    /// Whether the input has something waiting.
    pub backlog: AtomicBool,
    /// How many requests it has been sent.
    sent: AtomicU32,
    /// Its stdout, for others to read.
    pub loan: Loan,
    input: Mutex<Input>,
}

/// The way to the server.
pub struct Input {
    pub stdin: Option<ChildStdin>,
    /// What stdin did not take yet.
    pub waiting: Backlog,
}

/// What was asked of the receiver, in rising order.
pub mod stop {
    pub const NO: u8 = 0;
    pub const POLITELY: u8 = 1;
    pub const NOW: u8 = 2;
}

impl Shared {
    /// The way to the process `pid`, through its `stdin`.
    pub fn new(pid: u32, stdin: Option<ChildStdin>, limits: Limits, waker: Waker) -> Self {
        let input = Mutex::new(Input { stdin, waiting: Backlog::default() });
        Self {
            pid,
            limits,
            waker,
            stop: AtomicU8::new(stop::NO),
            backlog: AtomicBool::new(false),
            sent: AtomicU32::new(0),
            loan: Loan::default(),
            input,
        }
    }

    /// The lock is held for writes that do not wait, never longer.
    pub fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ask(&self, stop: u8) {
        self.stop.fetch_max(stop, Ordering::AcqRel);
        self.waker.wake();
    }
}

impl Sender for Shared {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        let mut input = self.input();
        let gone = |why: &str| Err(Undelivered::Gone(why.into()));
        if self.stop.load(Ordering::Acquire) > stop::NO {
            return gone("the server is being stopped");
        }
        let length = message.bytes().len();
        let is_full = || {
            input.waiting.len() + length > self.limits.waiting_bytes
                || !memory::has_room_to_grow(input.waiting.growth(length))
        };
        if !input.waiting.is_empty() && is_full() {
            return Err(Undelivered::Full);
        }
        if matches!(message.kind(), Kind::Request { .. }) {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        match input.write_line(message.bytes()) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.backlog.store(true, Ordering::Release);
                drop(input);
                self.waker.wake();
                Ok(())
            }
            Err(_) => {
                input.stdin = None;
                self.ask(stop::POLITELY); // it will never be asked anything again
                gone("the server has closed its stdin")
            }
        }
    }

    fn hear(&self, hearer: &Hearer<'_>) {
        let _deserted = Deserted(self);
        if self.loan.hear(hearer, self.sent.load(Ordering::Relaxed)) == Heard::Aside {
            self.waker.wake();
        }
    }

    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn stop(&self) {
        self.ask(stop::POLITELY);
    }

    fn kill(&self) {
        self.ask(stop::NOW);
    }
}

/// A defect of ours met while another thread hears the server. What it was about to hand on is lost, and whoever waits
/// for it would wait for ever: the server ends.
struct Deserted<'a>(&'a Shared);

impl Drop for Deserted<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.ask(stop::POLITELY);
        }
    }
}

impl Input {
    /// Writes a line, or as much of it as stdin takes; says whether the receiver has something new to write.
    fn write_line(&mut self, line: &[u8]) -> io::Result<bool> {
        let waited = !self.waiting.is_empty();
        let Some(mut stdin) = self.stdin.as_ref() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut parts = [IoSlice::new(line), IoSlice::new(b"\n")];
        self.waiting.send(&mut parts, |parts| match parts {
            [whole] => stdin.write(whole),
            parts => stdin.write_vectored(parts),
        })?;
        Ok(!waited && !self.waiting.is_empty())
    }

    /// Writes what waits, as far as stdin takes it.
    pub fn write_waiting(&mut self) {
        let Some(mut stdin) = self.stdin.as_ref() else { return };
        if self.waiting.write(|bytes| stdin.write(bytes)).is_err() {
            (self.stdin, self.waiting) = (None, Backlog::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stdout::Stdout;
    use super::*;
    use crate::protocol::session::Awaits;
    use std::os::fd::OwnedFd;
    use std::panic::{self, AssertUnwindSafe};
    use std::process::ChildStdout;
    use std::time::Duration;

    #[test]
    fn a_server_whose_message_is_lost_by_a_defect_of_ours_is_ended() {
        let (reader, mut writer) = io::pipe().unwrap();
        let limits = Limits { line_bytes: 100, waiting_bytes: 1, stop_timeout: Duration::ZERO, mark: None };
        let server = Shared::new(0, None, limits, Waker::new().unwrap());
        server.loan.lend(Stdout::new(Some(ChildStdout::from(OwnedFd::from(reader))), 100));
        writer.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n").unwrap();
        let deliver = |_| panic::resume_unwind(Box::new("a defect")); // without a word on stderr
        let hearer = Hearer { connection: 1, deliver: &deliver, awaits: &|| Awaits::Still };
        let hear = AssertUnwindSafe(|| {
            while server.stop.load(Ordering::Acquire) == stop::NO {
                server.hear(&hearer);
            }
        });
        assert!(panic::catch_unwind(hear).is_err());
        assert_eq!(server.stop.load(Ordering::Acquire), stop::POLITELY);
    }
}
