//! The way from a local server: its stdout and stderr, its end, and its stop.
//!
//! ```text
//!                     stdout alone has woken us, often enough
//!   waiting for all ──────────────────────────────────────────▶ reading stdout
//!          ▲          anything else is ready, or stdout ends          │
//!          └──────────────────────────────────────────────────────────┘
//! ```
//!
//! Always: one thread does all of it. It reads stdout without watching the rest itself only while the server runs, nothing
//! waits for its stdin and nobody has asked for anything; and it is called as soon as that changes.

use super::calm::Calm;
use super::input::{Shared, stop};
use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::protocol::message::ends::Ends;
use crate::protocol::message::{INTERNAL_ERROR, Message};
use crate::system::minder::{self, Minded};
use crate::system::{self, Watch, memory};
use crate::upstream::{Event, Receiver};
use std::collections::VecDeque;
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
/// What may stand in a pipe when its writer has ended.
const MOST_IN_A_PIPE: usize = 1 << 20;
/// After so many lines that were left out, only every doubling of their number is told.
const LOGGED_LINES: u64 = 16;
/// What is kept of a line in case that it must be shown.
const SHOWN_BYTES: usize = 1000;
/// Reads begin small, so that an idle session costs little, and grow while they are filled.
const READ_BYTES: std::ops::RangeInclusive<usize> = 2 << 10..=64 << 10;
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
    stdout: Option<Arc<PipeReader>>,
    stderr: Option<ChildStderr>,
    watch: Arc<Watch>,
    calm: Calm,
    /// While it is there, we wait for stdout in a read.
    minded: Option<Minded>,
    stdin_watched: bool,
    /// Readable when the process has ended; `None` where the kernel has no such thing.
    end: Option<OwnedFd>,
    lines: Lines,
    stderr_lines: Lines,
    buffer: Vec<u8>,
    ready: VecDeque<Message>,
    left_out: u64,
    phase: Phase,
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
            if let Some(message) = self.ready.pop_front() {
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
            stdout: child.stdout.take().map(|stdout| Arc::new(PipeReader::from(OwnedFd::from(stdout)))),
            stderr: child.stderr.take(),
            end: system::process_end(child.id()),
            child,
            watch: Arc::new(watch),
            calm: Calm::new(),
            minded: None,
            stdin_watched: false,
            lines: Lines::new(shared.limits.line_bytes),
            stderr_lines: Lines::new(STDERR_LINE_BYTES),
            shared,
            buffer: vec![0; *READ_BYTES.start()],
            ready: VecDeque::new(),
            left_out: 0,
            phase: Phase::Running,
        }
    }

    /// Nothing waits in a read or a write, and everything is watched.
    ///
    /// # Errors
    /// The operating system has no memory left for it.
    pub fn prepare(&self) -> io::Result<()> {
        let pipes = [(self.stdout.as_ref().map(AsFd::as_fd), STDOUT), (self.stderr.as_ref().map(AsFd::as_fd), STDERR)];
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
        let Some(stdout) = &self.stdout else { return };
        match minder::mind(&self.watch, stdout, STDOUT) {
            Ok(minded) => self.minded = Some(minded),
            Err(_) => self.calm.end(), // it may be better later
        }
    }

    /// Waits for stdout, until anything else happens.
    fn read_alone(&mut self) {
        let read = self.read_stdout();
        if read > 0 {
            self.calm.note_read();
        }
        if read == 0 || self.minded.as_ref().is_none_or(Minded::is_called) {
            self.minded = None;
            self.calm.end();
        }
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
        if let Some(line) = self.lines.finish() {
            self.take_line(line);
        }
        let status = self.child.wait();
        system::forget_child(self.shared.pid);
        self.shared.input().stdin = None;
        self.shared.ask(stop::POLITELY); // nothing can be sent any more
        self.phase = Phase::Ended(status.map_or_else(|error| format!("the server is lost: {error}"), describe));
    }

    /// Reads once; says how many bytes there were.
    fn read_stdout(&mut self) -> usize {
        let Some(mut stdout) = self.stdout.as_deref() else { return 0 };
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_alone = self.minded.is_some(); // then an interruption calls us away
        let read = match if is_alone { stdout.read(&mut buffer) } else { retried(|| stdout.read(&mut buffer)) } {
            Ok(read @ 1..) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Ok(_) | Err(_) => {
                self.minded = None;
                // Without stdout there are no answers: whether it is about to end or not, it is of no use any more.
                self.stdout = None;
                self.shared.ask(stop::POLITELY);
                0
            }
        };
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(0));
        if !memory::has_room_to_grow(lines.growth(read)) {
            lines.give_up();
        }
        lines.feed(&buffer[..read], |line| self.take_line(line));
        self.lines = lines;
        self.buffer = if read == buffer.len() {
            vec![0; (read * 4).min(*READ_BYTES.end())]
        } else if buffer.len() > *READ_BYTES.start() {
            vec![0; *READ_BYTES.start()]
        } else {
            buffer
        };
        read
    }

    fn take_line(&mut self, line: Line) {
        match line {
            Line::Complete(line) if Message::is_batch(&line) => {
                let start = line[..line.len().min(SHOWN_BYTES)].to_vec();
                match Message::parse_all(line) {
                    Ok(messages) => self.ready.extend(messages),
                    Err(_) => self.leave_out(format_args!("that is no message: {}", log::shortened(&start))),
                }
            }
            Line::Complete(line) => match Message::parse_or_give_back(line) {
                Ok(message) => self.ready.push_back(message),
                Err((_, line)) => {
                    let start = &line[..line.len().min(SHOWN_BYTES)];
                    self.leave_out(format_args!("that is no message: {}", log::shortened(start)));
                }
            },
            Line::TooLong { bytes, ends } => {
                let most = self.shared.limits.line_bytes;
                self.leave_out(format_args!("of {bytes} bytes, more than {most}"));
                self.answer_instead(&ends, &format!(
                    "the server's answer has {bytes} bytes, more than {most}; --max-message-bytes allows longer ones"
                ));
            }
            Line::NoRoom { bytes, ends } => {
                self.leave_out(format_args!("of {bytes} bytes, for which there is no memory"));
                self.answer_instead(
                    &ends,
                    &format!("the server's answer has {bytes} bytes, for which there is no memory"),
                );
            }
        }
    }

    /// Whoever waits for an answer that is left out would wait for ever.
    fn answer_instead(&mut self, ends: &Ends, reason: &str) {
        self.ready.extend(ends.answered().map(|id| Message::error(Some(&id), INTERNAL_ERROR, reason)));
    }

    /// A line is not passed on; a server that writes many of them does not flood our log with them.
    fn leave_out(&mut self, what: std::fmt::Arguments<'_>) {
        self.left_out += 1;
        if self.left_out <= LOGGED_LINES || self.left_out.is_power_of_two() {
            log::warning(format_args!("a line of the server {what}: left out ({} so far)", self.left_out));
        }
    }

    /// Passes the server's own log on to ours, as much as one read gives; says how many bytes there were.
    fn read_stderr(&mut self) -> usize {
        let Some(stderr) = &mut self.stderr else { return 0 };
        match retried(|| stderr.read(&mut self.buffer)) {
            Ok(read @ 1..) => {
                let mark = self.shared.limits.mark.as_deref();
                self.stderr_lines.feed(&self.buffer[..read], |line| log_stderr(mark, line));
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
