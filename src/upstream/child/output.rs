//! The way from a local server: its stdout and stderr, its end, and its stop.
//!
//! ```text
//!                     stdout alone has woken us, often enough                   somebody wants it
//!   waiting for all ──────────────────────────────────────────▶ reading stdout ───────────────────▶ standing by
//!          ▲          anything else is ready, or stdout ends          │                                 │
//!          └──────────────────────────────────────────────────────────┴─────────────────────────────────┘
//! ```
//!
//! Always: one thread does all of it, but that it lends stdout to others. It reads stdout without watching the rest itself,
//! or lends it, only while the server runs, nothing waits for its stdin and nobody has asked for anything; and it is called,
//! or takes it back, as soon as that changes.

use super::calm::{Calm, Patience};
use super::input::{Shared, stop};
use super::lender::{self, LookedAfter};
use super::stdout::Stdout;
use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::system::minder::{self, Minded};
use crate::system::{self, Watch};
use crate::upstream::{Event, Receiver};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone; only one that hangs in the kernel takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often we ask whether it ended, or reads, where the kernel cannot tell us.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// A line of stderr that is longer is left out.
const STDERR_LINE_BYTES: usize = 64 << 10;
/// How much of stderr is read at once.
const STDERR_READ_BYTES: usize = 4 << 10;
/// What may stand in a pipe when its writer has ended.
const MOST_IN_A_PIPE: usize = 1 << 20;
/// A loan that was ended after fewer answers was not worth it.
const WORTH_ANSWERS: u32 = 16;
/// The numbers of what is watched.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const END: u32 = 3;
const WOKEN: u32 = 4;

/// The way from the server, and the process itself.
pub struct Output {
    child: Child,
    shared: Arc<Shared>,
    /// Unless it is lent.
    stdout: Option<Stdout>,
    lent: Option<LentOut>,
    lending: Patience,
    stderr: Option<ChildStderr>,
    watch: Arc<Watch>,
    calm: Calm,
    /// While it is there, we wait for stdout in a read.
    minded: Option<Minded>,
    stdin_watched: bool,
    /// Readable when the process has ended; `None` where the kernel has no such thing.
    end: Option<OwnedFd>,
    stderr_lines: Lines,
    phase: Phase,
}

/// Stdout, while others read it.
struct LentOut {
    pipe: Arc<PipeReader>,
    /// How often they had begun to hear the server before.
    hears: u32,
    _looked_after: LookedAfter,
}

/// See the picture at the top.
enum Phase {
    Running,
    Closing { until: Instant },
    Terminating { until: Instant },
    Killing { until: Instant },
    Ended(String),
}

impl Receiver for Output {
    fn recv(&mut self) -> Event {
        loop {
            if let Some(message) = self.stdout.as_mut().and_then(Stdout::next) {
                return Event::Message(message);
            }
            if let Phase::Ended(how) = &self.phase {
                return Event::Ended(how.clone());
            }
            self.step();
        }
    }
}

impl Output {
    /// The way from `child`, which belongs to it from here on.
    pub fn new(mut child: Child, shared: Arc<Shared>, watch: Watch) -> Self {
        Self {
            stdout: Some(Stdout::new(child.stdout.take(), shared.limits.line_bytes)),
            lent: None,
            lending: Patience::new(WORTH_ANSWERS),
            stderr: child.stderr.take(),
            end: system::process_end(child.id()),
            child,
            watch: Arc::new(watch),
            calm: Calm::new(),
            minded: None,
            stdin_watched: false,
            stderr_lines: Lines::new(STDERR_LINE_BYTES),
            shared,
            phase: Phase::Running,
        }
    }

    /// Nothing waits in a read or a write, and everything is watched.
    ///
    /// # Errors
    /// The operating system has no memory left for it.
    pub fn prepare(&self) -> io::Result<()> {
        let stdout = self.stdout.as_ref().and_then(Stdout::pipe).map(AsFd::as_fd);
        let pipes = [(stdout, STDOUT), (self.stderr.as_ref().map(AsFd::as_fd), STDERR)];
        for (pipe, number) in pipes {
            if let Some(pipe) = pipe {
                system::set_nonblocking(pipe)?; // our end only: each end of a pipe has its own flags
                self.watch.readable(pipe, number)?;
            }
        }
        if let Some(stdin) = &self.shared.input().stdin {
            system::set_nonblocking(stdin.as_fd())?;
        }
        if let Some(end) = &self.end {
            self.watch.readable(end.as_fd(), END)?;
        }
        self.watch.readable(self.shared.waker.as_fd(), WOKEN)
    }

    /// Waits until anything happens and sees to it.
    fn step(&mut self) {
        if self.lent.is_some() {
            return self.stand_by();
        }
        if self.minded.is_some() {
            return self.read_alone();
        }
        let mut wait = self.advance();
        if self.shared.backlog.load(Ordering::Acquire) && !self.stdin_watched {
            // The kernel had no memory to watch it: then we look.
            wait = Some(wait.unwrap_or(ASK_INTERVAL).min(ASK_INTERVAL));
        }
        let Ok(ready) = self.watch.wait(wait) else { return }; // never, or no memory for a moment
        if ready.has(WOKEN) {
            self.shared.waker.clear();
        }
        if ready.has(STDIN) || self.shared.backlog.load(Ordering::Acquire) {
            self.write_stdin();
        }
        if ready.has(STDERR) {
            self.read_stderr();
        }
        if ready.has(STDOUT) {
            self.read_stdout();
        }
        if ready.has(END) || (self.end.is_none() && matches!(self.child.try_wait(), Ok(Some(_)))) {
            self.finish();
        }
        // Whoever asks for anything wakes us: had anybody done so, stdout would not be all.
        let is_calm = self.calm.note_wake(ready.is_only(STDOUT));
        if is_calm && wait.is_none() && !self.shared.backlog.load(Ordering::Acquire) {
            self.watch_stdout_alone();
        }
    }

    /// From here on somebody else watches the rest for us. Where that cannot be, all stays as it is.
    fn watch_stdout_alone(&mut self) {
        let Some(stdout) = self.stdout.as_ref().and_then(Stdout::pipe) else { return };
        match minder::mind(&self.watch, stdout, STDOUT) {
            Ok(minded) => self.minded = Some(minded),
            Err(_) => self.calm.end(), // it may be better later
        }
    }

    /// Waits for stdout, until anything else happens.
    fn read_alone(&mut self) {
        if self.lending.is_enough(self.shared.loan.wanted()) && self.lend() {
            return;
        }
        let read = self.read_stdout();
        self.calm.note_reads(u32::from(read > 0));
        if read == 0 || self.minded.as_ref().is_none_or(Minded::is_called) {
            self.minded = None;
            self.calm.end();
        }
    }

    /// Others read stdout from here on; says whether it is so.
    fn lend(&mut self) -> bool {
        self.minded = None; // it would call this thread, and not those
        let Some(pipe) = self.stdout.as_ref().and_then(Stdout::pipe).cloned() else { return false };
        let Ok(looked_after) = lender::look_after(self.shared.clone()) else { return false };
        if self.watch.leave_alone(pipe.as_fd(), STDOUT).is_err() {
            return false;
        }
        self.lent = Some(LentOut { pipe, hears: self.shared.loan.hears(), _looked_after: looked_after });
        if let Some(stdout) = self.stdout.take() {
            self.shared.loan.lend(stdout);
        }
        true
    }

    /// Waits until anything happens but that others read stdout: then they do not any more.
    fn stand_by(&mut self) {
        let ready = self.watch.wait(None);
        self.take_back();
        if ready.is_ok_and(|ready| ready.is_only(WOKEN)) && self.was_only_called() {
            self.watch_stdout_alone();
        } else {
            self.calm.end();
        }
    }

    fn take_back(&mut self) {
        let Some(LentOut { pipe, hears, .. }) = self.lent.take() else { return };
        self.stdout = self.shared.loan.recall(&pipe);
        self.watch.look_again(pipe.as_fd(), STDOUT);
        let answers = self.shared.loan.hears().wrapping_sub(hears);
        self.lending.end(answers);
        self.calm.note_reads(answers);
    }

    /// Whoever woke us wanted no more than that stdout is read. Who wants anything else says so first.
    fn was_only_called(&self) -> bool {
        let is_asked =
            || self.shared.stop.load(Ordering::Acquire) != stop::NO || self.shared.backlog.load(Ordering::Acquire);
        if is_asked() {
            return false;
        }
        self.shared.waker.clear();
        if is_asked() {
            self.shared.waker.wake(); // that was his
            return false;
        }
        true
    }

    /// Writes what waits; while there is more of it, stdin is watched.
    fn write_stdin(&mut self) {
        let mut input = self.shared.input();
        input.write_waiting();
        let more = input.stdin.is_some() && !input.waiting.is_empty();
        self.shared.backlog.store(more, Ordering::Release);
        if input.stdin.is_none() {
            // What waited is lost. Only the end of the server answers the requests in it.
            self.shared.ask(stop::POLITELY);
        }
        match (&input.stdin, more, self.stdin_watched) {
            (Some(stdin), true, false) => self.stdin_watched = self.watch.writable(stdin.as_fd(), STDIN).is_ok(),
            (Some(stdin), false, true) => {
                self.watch.remove(stdin.as_fd());
                self.stdin_watched = false;
            }
            _ => {}
        }
    }

    /// Does what the phase and the requests of others demand at this moment; says how long to wait at most.
    fn advance(&mut self) -> Option<Duration> {
        let stop = self.shared.stop.load(Ordering::Acquire);
        if stop == stop::NO && self.end.is_some() && matches!(self.phase, Phase::Running) {
            return None; // as nearly always
        }
        let now = Instant::now();
        let limit = self.shared.limits.stop_timeout;
        let pid = self.shared.pid;
        if stop >= stop::POLITELY && matches!(self.phase, Phase::Running) {
            self.shared.input().stdin = None;
            self.phase = Phase::Closing { until: now + limit * 2 / 5 };
        }
        if matches!(self.phase, Phase::Closing { until } if until <= now) {
            system::signal_group(pid, libc::SIGTERM);
            self.phase = Phase::Terminating { until: now + limit * 3 / 5 };
        }
        let late = matches!(self.phase, Phase::Terminating { until } if until <= now);
        let hurry = stop == stop::NOW && !matches!(self.phase, Phase::Killing { .. } | Phase::Ended(_));
        if late || hurry {
            self.shared.input().stdin = None;
            system::signal_group(pid, libc::SIGKILL);
            self.phase = Phase::Killing { until: now + KILL_TIMEOUT };
        }
        let wait = match &self.phase {
            Phase::Killing { until } if *until <= now => {
                system::forget_child(pid); // whenever it does end, nobody but the signals' thread is there to wait
                self.phase = Phase::Ended("the server cannot be killed".into());
                Some(Duration::ZERO)
            }
            Phase::Closing { until } | Phase::Terminating { until } | Phase::Killing { until } => Some(*until - now),
            Phase::Running | Phase::Ended(_) => None,
        };
        if self.end.is_some() { wait } else { Some(wait.unwrap_or(ASK_INTERVAL).min(ASK_INTERVAL)) }
    }

    /// The process has ended: sees to its group, takes what it still said and waits for it.
    fn finish(&mut self) {
        // Before the pipes are emptied: those that are left would go on filling them. And before the wait: until
        // then its pid, which is the group's name, cannot be given to another process.
        system::signal_group(self.shared.pid, libc::SIGKILL);
        drain(|| self.read_stdout());
        drain(|| self.read_stderr());
        if let Some(stdout) = &mut self.stdout {
            stdout.finish();
        }
        let status = self.child.wait();
        system::forget_child(self.shared.pid);
        self.shared.input().stdin = None;
        self.shared.ask(stop::POLITELY); // nothing can be sent any more
        self.phase = Phase::Ended(status.map_or_else(|error| format!("the server is lost: {error}"), describe));
    }

    /// Reads once; says how many bytes there were.
    fn read_stdout(&mut self) -> usize {
        let Some(stdout) = self.stdout.as_mut().filter(|stdout| stdout.pipe().is_some()) else { return 0 };
        let is_alone = self.minded.is_some(); // then an interruption calls us away
        match if is_alone { stdout.read() } else { retried(|| stdout.read()) } {
            Ok(read @ 1..) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Ok(_) | Err(_) => {
                self.minded = None;
                // Without stdout there are no answers: whether it is about to end or not, it is of no use any more.
                stdout.close();
                self.shared.ask(stop::POLITELY);
                0
            }
        }
    }

    /// Passes the server's own log on to ours, as much as one read gives; says how many bytes there were.
    fn read_stderr(&mut self) -> usize {
        let Some(stderr) = &mut self.stderr else { return 0 };
        let mut buffer = [0; STDERR_READ_BYTES];
        match retried(|| stderr.read(&mut buffer)) {
            Ok(read @ 1..) => {
                let mark = self.shared.limits.mark.as_deref();
                self.stderr_lines.feed(&buffer[..read], |line| log_stderr(mark, line));
                read
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(0) | Err(_) => {
                if let Some(line) = self.stderr_lines.finish() {
                    log_stderr(self.shared.limits.mark.as_deref(), line);
                }
                self.stderr = None;
                0
            }
        }
    }
}

impl Drop for Output {
    /// A link that nobody reads to its end takes its process with it.
    fn drop(&mut self) {
        self.take_back();
        if !matches!(self.phase, Phase::Ended(_)) {
            system::signal_group(self.shared.pid, libc::SIGKILL);
            let _ = self.child.wait();
            system::forget_child(self.shared.pid);
        }
    }
}

fn log_stderr(mark: Option<&str>, line: Line) {
    match line {
        Line::Complete(line) => log::foreign(mark, &line),
        Line::TooLong { bytes, .. } | Line::NoRoom { bytes, .. } => {
            log::debug(format_args!("the server logged a line of {bytes} bytes: left out"));
        }
    }
}

/// Reads until there is nothing more at this moment; what escaped from the group may write for ever.
fn drain(mut read: impl FnMut() -> usize) {
    let mut total = 0;
    while total < MOST_IN_A_PIPE {
        match read() {
            0 => return,
            bytes => total += bytes,
        }
    }
}

/// A call that a signal interrupted is made again.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// How a process ended, in words that fit behind "because".
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the server exited with status {code}"),
        (None, Some(number)) => {
            format!("the server was ended by signal {number} ({})", system::signal_name(number))
        }
        (None, None) => "the server ended".into(),
    }
}
