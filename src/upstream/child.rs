//! A server that is a local process: started in a process group of its own, reached through its three pipes.
//!
//! ```text
//!              stop()                      40 % of the limit          the whole limit            2 s
//!   Running ───────────▶ Closing (no stdin) ───────▶ Terminating (TERM) ──────▶ Killing (KILL) ──────▶ Ended
//!      └──────────────────────┴─────────────── the process ended ────┴───────────────┴────────────────▶ Ended
//! ```
//!
//! One thread a child, the one that calls [`Receiver::recv`], reads its stdout and stderr, writes what its stdin
//! did not take at once, notices its end and drives its stop. Whoever sends writes to the pipe directly, without
//! ever waiting; only what does not fit is left to that thread. After [`Event::Ended`] the whole process group is
//! gone and the process has been waited for.

use super::{Event, Link, Receiver, Sender, Undelivered};
use crate::error::Error;
use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::protocol::message::Message;
use crate::system::{self, Waker, Watch};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a local server is started. The words never meet a shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The program, looked up in `PATH` when it holds no slash.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What is added to its environment; the last of a name wins.
    pub env: Vec<(OsString, OsString)>,
    /// Its folder; ours where none is given.
    pub cwd: Option<PathBuf>,
    /// Whether it gets our whole environment; else only HOME, LOGNAME, PATH, SHELL, TERM and USER.
    pub pass_environment: bool,
}

/// What a child may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line (bytes) of its stdout.
    pub line_bytes: usize,
    /// Bytes that may wait for it to read its stdin.
    pub waiting_bytes: usize,
    /// How long it may take to end before its process group is killed.
    pub stop_timeout: Duration,
}

/// What a server gets of our environment when it does not get all of it.
const INHERITED: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];
/// How long a killed process may take to be gone; only one that hangs in the kernel takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often we ask whether it ended where the kernel cannot tell us.
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

impl Command {
    /// Starts the server.
    ///
    /// # Errors
    /// The program is not there ([`Error::NotFound`]) or cannot run ([`Error::CannotRun`]).
    pub fn start(&self, limits: Limits) -> Result<Link, Error> {
        self.spawn(limits).map_err(|error| {
            let text = format!("cannot start '{}': {}", self.program.display(), log::cause(&error));
            if error.kind() == io::ErrorKind::NotFound { Error::NotFound(text) } else { Error::CannotRun(text) }
        })
    }

    fn spawn(&self, limits: Limits) -> io::Result<Link> {
        let (waker, watch) = (Waker::new()?, Watch::new()?);
        let mut child = system::start_child(|| {
            let child = self.prepare().spawn()?;
            let pid = child.id();
            Ok((child, pid))
        })?;
        let stdin = child.stdin.take();
        let shared = Arc::new(Shared {
            pid: child.id(),
            limits,
            waker,
            stop: AtomicU8::new(stop::NO),
            backlog: AtomicBool::new(false),
            input: Mutex::new(Input { stdin, waiting: Vec::new(), written: 0 }),
        });
        let output = Output {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            end: system::process_end(child.id()),
            child,
            shared: shared.clone(),
            watch,
            stdin_watched: false,
            lines: Lines::new(limits.line_bytes),
            stderr_lines: Lines::new(STDERR_LINE_BYTES),
            buffer: vec![0; *READ_BYTES.start()],
            ready: VecDeque::new(),
            left_out: 0,
            phase: Phase::Running,
        };
        output.prepare()?; // what fails from here on takes the process with it
        Ok(Link { sender: shared, receiver: Box::new(output) })
    }

    fn prepare(&self) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !self.pass_environment {
            let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
            command.env_clear().envs(inherited);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command
    }
}

/// The numbers of what is watched.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const END: u32 = 3;
const WOKEN: u32 = 4;

/// What both ends of the link share.
struct Shared {
    pid: u32,
    limits: Limits,
    waker: Waker,
    /// A [`Stop`]. It and `backlog` stand beside the lock, so that the receiver takes it only when it must: a thread
    /// that loses the processor inside a write would make it wait.
    stop: AtomicU8,
    /// Whether the input has something waiting.
    backlog: AtomicBool,
    input: Mutex<Input>,
}

/// The way to the server.
struct Input {
    stdin: Option<ChildStdin>,
    /// What stdin did not take yet, from `written` on.
    waiting: Vec<u8>,
    written: usize,
}

/// What was asked of the receiver, in rising order.
mod stop {
    pub const NO: u8 = 0;
    pub const POLITELY: u8 = 1;
    pub const NOW: u8 = 2;
}

impl Shared {
    /// The lock is held for writes that do not wait, never longer.
    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, stop: u8) {
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
    fn waiting(&self) -> usize {
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
    fn write_waiting(&mut self) {
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

/// The way from the server, and the process itself.
struct Output {
    child: process::Child,
    shared: Arc<Shared>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    watch: Watch,
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
    /// Nothing waits in a read or a write, and everything is watched.
    fn prepare(&self) -> io::Result<()> {
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
        let wait = self.advance(Instant::now());
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
    }

    /// Writes what waits; while there is more of it, stdin is watched.
    fn write_stdin(&mut self) {
        let mut input = self.shared.input();
        input.write_waiting();
        let more = input.stdin.is_some() && input.waiting() > 0;
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
    fn advance(&mut self, now: Instant) -> Option<Duration> {
        let stop = self.shared.stop.load(Ordering::Acquire);
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
        let Some(mut stdout) = self.stdout.take() else { return 0 };
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = retried(|| stdout.read(&mut buffer));
        if let Ok(1..) = result {
            self.stdout = Some(stdout);
        } else if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.stdout = Some(stdout);
        } else {
            // Without stdout there are no answers: whether it is about to end or not, it is of no use any more.
            self.shared.ask(stop::POLITELY);
        }
        let read = result.unwrap_or(0);
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(0));
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
            Line::Complete(line) => {
                let start = line[..line.len().min(SHOWN_BYTES)].to_vec();
                match Message::parse_all(line) {
                    Ok(messages) => self.ready.extend(messages),
                    Err(_) => self.leave_out(format_args!("that is no message: {}", log::shortened(&start))),
                }
            }
            Line::TooLong { bytes } => {
                let most = self.shared.limits.line_bytes;
                self.leave_out(format_args!("of {bytes} bytes, more than {most}"));
            }
        }
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
                self.stderr_lines.feed(&self.buffer[..read], log_stderr);
                read
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(0) | Err(_) => {
                if let Some(line) = self.stderr_lines.finish() {
                    log_stderr(line);
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

fn log_stderr(line: Line) {
    match line {
        Line::Complete(line) => log::foreign(&line),
        Line::TooLong { bytes } => log::debug(format_args!("the server logged a line of {bytes} bytes: left out")),
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

#[cfg(test)]
mod tests {
    use super::*;

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
