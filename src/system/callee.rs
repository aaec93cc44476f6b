//! A thread that waits in a read of a pipe, and can be called away from there.
//!
//! Always: the pipe does not wait any more before the signal is sent that ends a read. So a read that was under way is
//! ended by the signal, and one that begins later does not wait. A call that comes late ends a read too early, and no more.

use super::check;
use super::readiness::set_waiting;
use std::cell::Cell;
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Nobody else uses it here, and those who get it by mistake ignore it: the servers that we start, too.
const SIGNAL: libc::c_int = libc::SIGURG;

thread_local! {
    /// This thread's number, once it can be called.
    static NUMBER: Cell<isize> = const { Cell::new(NOBODY) };
}
const NOBODY: isize = 0;

/// A thread that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callee(isize);

impl Callee {
    /// This thread. What it does when it is called in the middle of something else is done again.
    ///
    /// # Errors
    /// Those of `sigaction(2)` and `pthread_sigmask(3)`.
    pub fn this() -> io::Result<Self> {
        if NUMBER.get() == NOBODY {
            catch()?;
            unblock()?;
            // SAFETY: a plain call.
            let number = unsafe { libc::syscall(libc::SYS_gettid) };
            NUMBER.set(isize::try_from(number).map_err(io::Error::other)?);
        }
        Ok(Self(NUMBER.get()))
    }

    /// Ends its read of `pipe` with `Interrupted`; later ones give `WouldBlock` where there is nothing to be read.
    pub fn call(self, pipe: &PipeReader) {
        do_not_wait(pipe);
        self.signal();
    }

    fn signal(self) {
        // SAFETY: a plain call with integers; a thread that is not ours, or none any more, is not found.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
    }
}

/// Which thread reads a pipe at this moment, where they may change.
#[derive(Debug, Default)]
pub struct Reading(AtomicIsize);

/// While it lives, this thread is the one that reads.
#[derive(Debug)]
pub struct Entered<'a>(&'a Reading);

impl Reading {
    /// From now on it is this thread.
    ///
    /// # Errors
    /// As [`Callee::this`].
    pub fn enter(&self) -> io::Result<Entered<'_>> {
        let Callee(number) = Callee::this()?;
        self.0.store(number, Ordering::SeqCst);
        Ok(Entered(self))
    }

    /// Whoever reads `pipe` is called; reads of it do not wait any more, whoever begins one.
    pub fn call(&self, pipe: &PipeReader) {
        do_not_wait(pipe); // before we look who it is
        match self.0.load(Ordering::SeqCst) {
            NOBODY => {}
            number => Callee(number).signal(),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.store(NOBODY, Ordering::SeqCst);
    }
}

/// Reads of it give `WouldBlock` where they would have to wait. This cannot fail while the descriptor is good.
fn do_not_wait(pipe: &PipeReader) {
    let _ = set_waiting(pipe.as_fd(), false);
}

extern "C" fn on_call(_: libc::c_int) {}

/// The signal ends a system call from now on, and does nothing else.
fn catch() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = on_call;
    // SAFETY: the action is fully initialised, and its handler does nothing. Without SA_RESTART, on purpose.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
    };
    check(done).map(drop)
}

/// Whoever started us may have blocked it: it reaches this thread from now on.
fn unblock() -> io::Result<()> {
    // SAFETY: the set is fully initialised, and lives on this stack.
    let error = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
