//! The way to a local server: its stdin, and what waits for it.
//!
//! Always: whoever sends writes directly and never waits; lines reach the server whole and in the order of the calls.

use super::{Limits, retried};
use crate::protocol::message::Message;
use crate::system::Waker;
use crate::upstream::{Sender, Undelivered};
use std::io::{self, IoSlice, Write};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    input: Mutex<Input>,
}

/// The way to the server.
pub struct Input {
    pub stdin: Option<ChildStdin>,
    /// What stdin did not take yet, from `written` on.
    waiting: Vec<u8>,
    written: usize,
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
        let input = Mutex::new(Input { stdin, waiting: Vec::new(), written: 0 });
        Self { pid, limits, waker, stop: AtomicU8::new(stop::NO), backlog: AtomicBool::new(false), input }
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
        if input.waiting() > 0 && input.waiting() + message.bytes().len() > self.limits.waiting_bytes {
            return Err(Undelivered::Full);
        }
        match input.write_line(message.bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => {
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

    fn stop(&self) {
        self.ask(stop::POLITELY);
    }

    fn kill(&self) {
        self.ask(stop::NOW);
    }
}

impl Input {
    pub fn waiting(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Writes a line, or as much of it as stdin takes; says whether nothing is left waiting.
    fn write_line(&mut self, line: &[u8]) -> io::Result<bool> {
        if self.waiting() > 0 {
            self.waiting.extend_from_slice(line);
            self.waiting.push(b'\n');
            return Ok(true); // the receiver knows already
        }
        let Some(mut stdin) = self.stdin.as_ref() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut done = 0;
        while done <= line.len() {
            let rest = [IoSlice::new(&line[done..]), IoSlice::new(b"\n")];
            match retried(|| stdin.write_vectored(&rest)) {
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.extend_from_slice(&line[done..]);
                    self.waiting.push(b'\n');
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what waits, as far as stdin takes it.
    pub fn write_waiting(&mut self) {
        let Some(mut stdin) = self.stdin.as_ref() else { return };
        while self.written < self.waiting.len() {
            match retried(|| stdin.write(&self.waiting[self.written..])) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // What is written is let go once it is the larger part: else it would grow for ever while a
                    // server reads, but never catches up.
                    if self.written > self.waiting.len() / 2 {
                        self.waiting.drain(..self.written);
                        self.written = 0;
                    }
                    return;
                }
                Err(_) => {
                    self.stdin = None;
                    break;
                }
            }
        }
        (self.waiting, self.written) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system;
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};

    #[test]
    fn what_waits_is_let_go_when_it_is_written() {
        let (mut server, pipe) = io::pipe().unwrap();
        system::set_nonblocking(pipe.as_fd()).unwrap();
        let stdin = Some(ChildStdin::from(OwnedFd::from(pipe)));
        let mut input = Input { stdin, waiting: Vec::new(), written: 0 };
        let line = [b'x'; 4095];
        while input.waiting() < 1 << 20 {
            input.write_line(&line).unwrap();
        }
        // The server reads as fast as it is written to, so that there is always something waiting.
        for _ in 0..2000 {
            server.read_exact(&mut [0; 4096]).unwrap();
            input.write_waiting();
            input.write_line(&line).unwrap();
            assert!(input.waiting() > 0);
        }
        assert!(input.waiting.len() <= 4 << 20, "{} bytes are kept", input.waiting.len());
    }
}
