//! The signals that are sent to us, in order.
//!
//! Always: they are caught, never blocked, and a handler does no more than write one byte to a pipe.

use super::{Poll, check, poll, set_nonblocking};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// What a signal asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM, INT or HUP (its number): stop; the second one skips the waits.
    Stop(i32),
    /// HUP, which was ignored when we were started, as `nohup` does: it ends nothing.
    Hangup,
    /// A process ended whose parent we are.
    Child,
}

/// The signals that were sent to us, in order.
#[derive(Debug)]
pub struct Signals {
    pipe: PipeReader,
    survives_hangup: bool,
}

static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(number: libc::c_int) {
    let byte = u8::try_from(number).unwrap_or(0);
    // SAFETY: write(2) is async-signal-safe, the byte lives on this stack, and errno is put back.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(SIGNAL_PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

extern "C" fn on_nothing(_: libc::c_int) {}

/// Catches TERM, INT, HUP and CHLD from now on. They are caught, not blocked: a blocked signal would stay
/// blocked in the servers that we start, and PID 1 would not see one that has its default action. QUIT that was
/// ignored is caught too, and nothing is done: an ignored signal would stay ignored in the servers.
///
/// # Errors
/// The operating system has no pipe left, or refuses.
pub fn signals() -> io::Result<Signals> {
    let (reader, writer) = io::pipe()?;
    set_nonblocking(writer.as_fd())?;
    SIGNAL_PIPE.store(OwnedFd::from(writer).into_raw_fd(), Ordering::Relaxed);
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
        catch(number, on_signal)?;
    }
    let survives_hangup = catch(libc::SIGHUP, on_signal)?;
    if !catch(libc::SIGQUIT, on_nothing)? {
        // SAFETY: a plain call with integers.
        unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
    }
    Ok(Signals { pipe: reader, survives_hangup })
}

/// Has a signal caught by `handler`, which does only what a handler may do; says whether it was ignored before.
fn catch(number: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<bool> {
    // SAFETY: both actions are fully initialised, and no handler of ours does what a handler may not do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | if number == libc::SIGCHLD { libc::SA_NOCLDSTOP } else { 0 };
        libc::sigemptyset(&raw mut action.sa_mask);
        check(libc::sigaction(number, &raw const action, &raw mut before))?;
        Ok(before.sa_sigaction == libc::SIG_IGN)
    }
}

impl Signals {
    /// Waits for the next signal, at most for `timeout`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Option<Signal> {
        let ready = poll(&mut [Poll::readable(self.pipe.as_fd())], timeout).ok()?;
        if ready == 0 {
            return None;
        }
        let mut byte = [0];
        self.pipe.read_exact(&mut byte).ok()?;
        let number = i32::from(byte[0]);
        Some(match number {
            libc::SIGCHLD => Signal::Child,
            libc::SIGHUP if self.survives_hangup => Signal::Hangup,
            _ => Signal::Stop(number),
        })
    }
}

/// The name of a signal, for a log line.
#[must_use]
pub fn signal_name(number: i32) -> &'static str {
    match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        _ => "another signal",
    }
}
