//! Threads that need no more memory to begin than their stack.
//!
//! The standard library gives each thread a second stack, for the signal of a stack that overflows, and aborts the program
//! where there is no memory for it: nobody can ask whether there will be, for other threads take some at the same time.
//! It does so only if that signal has its default action when the program begins. So it is ignored until then: what
//! `FIRST` does comes before the standard library looks, and [`overflow_ends_us`] after it.
//!
//! Always: a stack that overflows ends the program, by its guard page and SIGSEGV; only the line that says so is lost.
//! (Seen in the standard library 1.95, `sys/pal/unix/stack_overflow.rs`; `tests/memory.rs` notices when it changes.)

use std::sync::atomic::{AtomicBool, Ordering};

/// What an overflow sends.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Which of them had their default action when we were started.
static WERE_DEFAULT: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Called by the C library before the standard library begins.
// SAFETY: the section holds pointers to functions of this type; this one needs nothing that is not there yet.
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = ignore;

extern "C" fn ignore() {
    for (number, was_default) in SIGNALS.into_iter().zip(&WERE_DEFAULT) {
        // SAFETY: a plain call with integers. A fault ends the program even so: the kernel lets nobody ignore one.
        let before = unsafe { libc::signal(number, libc::SIG_IGN) };
        was_default.store(before == libc::SIG_DFL, Ordering::Relaxed);
    }
}

/// The signals have again the action that they had; to be called first in `main`.
pub fn overflow_ends_us() {
    for (number, was_default) in SIGNALS.into_iter().zip(&WERE_DEFAULT) {
        if was_default.load(Ordering::Relaxed) {
            // SAFETY: a plain call with integers.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}
