//! Looks after what is lent: one thread for the whole process, begun with the first [`Loan`](super::loan::Loan), wakes the
//! thread of a server whose stdout nobody has read for a moment, or that somebody has heard for long without an answer.
//!
//! Always: it looks only while something is lent, and costs nothing else; nobody joins it.

use super::input::Shared;
use super::loan::Loan;
use crate::system::memory;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often it looks. What a server says unasked while its stdout is lent waits for twice as long at the most.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Who has not heard an answer for so many looks has other things to see to, however much the server says.
pub(super) const LOOKS: u32 = 8;
/// It does little.
const STACK_BYTES: usize = 64 << 10;

/// Everything that is lent.
struct Loans {
    is_begun: bool,
    all: Vec<Lent>,
}

/// What one server has lent.
struct Lent {
    server: Arc<Shared>,
    seen: Seen,
}

/// How a loan was when we looked last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    steps: Option<u32>,
    hears: u32,
    /// How often we have seen the same hears.
    looks: u32,
}

/// While it lives, the server's thread is woken once it should take its stdout back, and again until it has.
pub struct LookedAfter(Arc<Shared>);

static LOANS: Mutex<Loans> = Mutex::new(Loans { is_begun: false, all: Vec::new() });
/// There is a loan.
static LENT: Condvar = Condvar::new();

/// From now on we look after what is lent of this server's.
///
/// # Errors
/// There is no thread for it.
pub fn look_after(server: Arc<Shared>) -> io::Result<LookedAfter> {
    let mut loans = loans();
    if !loans.is_begun {
        memory::begin(thread::Builder::new().name("lender".into()), STACK_BYTES, look)?;
        loans.is_begun = true;
    }
    loans.all.push(Lent { server: server.clone(), seen: Seen::default() });
    LENT.notify_one();
    Ok(LookedAfter(server))
}

impl Drop for LookedAfter {
    fn drop(&mut self) {
        loans().all.retain(|lent| !Arc::ptr_eq(&lent.server, &self.0));
    }
}

impl Seen {
    /// Looks again; says whether it should be taken back.
    pub(super) fn look(&mut self, loan: &Loan) -> bool {
        let (steps, hears) = (Some(loan.steps()), loan.hears());
        let is_idle = self.steps == steps;
        let looks = if self.hears == hears { self.looks + 1 } else { 0 };
        *self = Self { steps, hears, looks };
        is_idle || looks >= LOOKS
    }
}

fn loans() -> MutexGuard<'static, Loans> {
    LOANS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look() {
    let mut loans = loans();
    loop {
        loans = LENT.wait_while(loans, |loans| loans.all.is_empty()).unwrap_or_else(PoisonError::into_inner);
        drop(loans);
        thread::sleep(LOOK_EVERY);
        loans = self::loans();
        for lent in &mut loans.all {
            if lent.seen.look(&lent.server.loan) {
                lent.server.waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use crate::system::{self, Poll, Waker};
    use std::os::fd::AsFd;

    #[test]
    fn what_nobody_reads_wakes_the_server_and_what_is_not_lent_does_not() {
        let limits = Limits { line_bytes: 1, waiting_bytes: 1, stop_timeout: LOOK_EVERY, mark: None };
        let server = Arc::new(Shared::new(0, None, limits, Waker::new().unwrap()));
        let is_woken = |limit| {
            system::poll(&mut [Poll::readable(server.waker.as_fd())], Some(limit)).is_ok_and(|ready| ready == 1)
        };
        for _ in 0..3 {
            let looked_after = look_after(server.clone()).unwrap();
            assert!(is_woken(Duration::from_mins(1)));
            drop(looked_after);
            server.waker.clear();
            assert!(!is_woken(Duration::ZERO));
        }
    }
}
