//! A server's stdout, lent to whoever waits for an answer: the thread that sent a request reads its answer itself, and no
//! other thread must wake between the server and the client.
//!
//! ```text
//!              one connection alone asks         lend()                  hear() ─────▶ the answer
//!   (nobody) ────────────────────────────▶ wanted ─────▶ lent, idle ───────────▶ read ─────┐
//!      ▲                                                   │ ▲ └──────────────────────────┘
//!      └───────────────────────────────────────────────────┴──────── recall() ────────────┘
//! ```
//!
//! The server's own thread lends it when it is wanted, and recalls it when there is anything else to do: another connection
//! asks, nobody has read for a moment, or an answer takes longer than that.
//!
//! Always: one thread reads at a time, and hands on what it has read before another one does: all messages stay in their
//! order.

use super::alone::Alone;
use super::stdout::Stdout;
use crate::protocol::session::Awaits;
use crate::system::callee::Reading;
use crate::upstream::Hearer;
use std::io::{self, PipeReader};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A server's stdout, as far as others may read it.
#[derive(Default)]
pub struct Loan {
    /// How often in a row one connection alone has asked.
    wanted: AtomicU32,
    is_recalled: AtomicBool,
    /// How often others have begun to hear the server.
    hears: AtomicU32,
    /// How often they have read, or handed something on.
    steps: AtomicU32,
    reading: Reading,
    /// Who reads keeps the lock in the read, too: whoever waits for it has called the reader before.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// While it is lent.
    stdout: Option<Stdout>,
    alone: Alone,
}

/// How hearing the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing is lent.
    Nothing,
    /// All that was awaited.
    Enough,
    /// Something that the server's own thread must see to.
    Aside,
}

impl Loan {
    /// How often in a row one connection alone has asked since it was lent last.
    pub fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// How often others have begun to hear the server so far.
    pub fn hears(&self) -> u32 {
        self.hears.load(Ordering::Relaxed)
    }

    /// How often they have read, or handed something on. It does not grow while somebody waits in a read.
    pub fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed)
    }

    /// From now on others may read. Reads of it wait.
    pub fn lend(&self, stdout: Stdout) {
        self.is_recalled.store(false, Ordering::SeqCst);
        self.held().stdout = Some(stdout);
    }

    /// Takes it back from whoever reads. Reads of `pipe`, which is what is read, do not wait any more.
    pub fn recall(&self, pipe: &PipeReader) -> Option<Stdout> {
        self.is_recalled.store(true, Ordering::SeqCst);
        self.reading.call(pipe);
        let mut held = self.held();
        held.alone.forget();
        self.wanted.store(0, Ordering::Relaxed);
        self.held.clear_poison();
        held.stdout.take()
    }

    /// Hands on what the server says for as long as that is awaited and nobody wants it back. So many requests it has been
    /// `sent` in all.
    pub fn hear(&self, hearer: &Hearer<'_>, sent: u32) -> Heard {
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(_)) => return Heard::Nothing,
            Err(TryLockError::WouldBlock) => return Heard::Aside, // another one hears, and goes when he has his answer
        };
        let calls = held.alone.ask(hearer.connection, sent);
        let Some(stdout) = &mut held.stdout else {
            self.wanted.store(calls, Ordering::Relaxed);
            return Heard::Nothing;
        };
        if calls == 1 {
            return Heard::Aside; // others ask, too
        }
        self.hears.fetch_add(1, Ordering::Relaxed);
        let Ok(_entered) = self.reading.enter() else { return Heard::Aside };
        loop {
            match (hearer.awaits)() {
                Awaits::Still => {}
                Awaits::Aside => return Heard::Aside,
                Awaits::NoMore => return Heard::Enough,
            }
            if self.is_recalled.load(Ordering::SeqCst) {
                return Heard::Nothing;
            }
            match stdout.read() {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) if self.is_recalled.load(Ordering::SeqCst) => return Heard::Nothing,
                Ok(_) | Err(_) => return Heard::Aside, // its end
            }
            self.steps.fetch_add(1, Ordering::Relaxed);
            while let Some(message) = stdout.next() {
                (hearer.deliver)(message);
                self.steps.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::Message;
    use crate::system::Watch;
    use crate::upstream::child::lender::{LOOKS, Seen};
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};
    use std::panic::{self, AssertUnwindSafe};
    use std::process::ChildStdout;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    const LINES: u32 = 20_000;

    fn stdout() -> (Stdout, Arc<PipeReader>, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let stdout = Stdout::new(Some(ChildStdout::from(OwnedFd::from(reader))), 1000);
        let pipe = stdout.pipe().unwrap().clone();
        (stdout, pipe, writer)
    }

    fn line(number: u32) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"number":{number}}}}}"#)
    }

    fn hear(loan: &Loan, connection: u64, deliver: &dyn Fn(Message), awaits: &dyn Fn() -> Awaits) -> Heard {
        loan.hear(&Hearer { connection, deliver, awaits }, 0)
    }

    fn nowhere(_: Message) {}

    fn still() -> Awaits {
        Awaits::Still
    }

    /// What one connection alone has asked for before.
    fn wanted() -> Loan {
        let loan = Loan::default();
        assert_eq!(hear(&loan, 1, &nowhere, &still), Heard::Nothing);
        assert_eq!(loan.wanted(), 1);
        loan
    }

    /// A pipe that somebody watches, as its owner does.
    fn watched(pipe: &PipeReader) -> Watch {
        let watch = Watch::new().unwrap();
        watch.readable(pipe.as_fd(), 0).unwrap();
        watch
    }

    /// Each recall comes at another moment of the other's way into its read, and out of it.
    #[test]
    fn all_is_handed_on_once_and_in_order_whoever_reads() {
        let (mut stdout, pipe, mut writer) = stdout();
        let watch = watched(&pipe);
        let (loan, heard) = (wanted(), Mutex::new(Vec::new()));
        let deliver = |message: Message| heard.lock().unwrap().push(message);
        let is_over = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                let awaits = || if is_over.load(Ordering::SeqCst) { Awaits::NoMore } else { Awaits::Still };
                while awaits() == Awaits::Still {
                    hear(&loan, 1, &deliver, &awaits);
                }
            });
            threads.spawn(move || {
                for number in 0..LINES {
                    writer.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
                    (0..number % 97 * 20).for_each(|_| std::hint::spin_loop());
                }
            });
            let mut spins = 0_u32;
            loop {
                spins = (spins + 37) % 4000;
                watch.leave_alone(pipe.as_fd(), 0).unwrap();
                loan.lend(stdout);
                (0..spins).for_each(|_| std::hint::spin_loop());
                stdout = loan.recall(&pipe).unwrap();
                let is_end = stdout.read().is_ok_and(|read| read == 0);
                while let Some(message) = stdout.next() {
                    deliver(message);
                }
                if is_end {
                    break;
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
        let heard: Vec<_> = heard.into_inner().unwrap().into_iter().map(Message::into_bytes).collect();
        assert!(heard.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).eq((0..LINES).map(line)));
        assert!(loan.steps() > 0);
    }

    /// Nothing ever comes, and each recall comes at another moment of the other's way into its read.
    #[test]
    fn who_waits_for_what_never_comes_is_called_away() {
        let (mut stdout, pipe, _writer) = stdout();
        let watch = watched(&pipe);
        let (loan, is_over) = (Arc::new(wanted()), Arc::new(AtomicBool::new(false)));
        let (hears, hears_until) = (loan.clone(), is_over.clone());
        thread::spawn(move || {
            while !hears_until.load(Ordering::SeqCst) {
                hear(&hears, 1, &nowhere, &still);
            }
        });
        let (told, ended) = mpsc::channel();
        thread::spawn(move || {
            for round in 0..5000 {
                watch.leave_alone(pipe.as_fd(), 0).unwrap();
                loan.lend(stdout);
                (0..round % 61 * 50).for_each(|_| std::hint::spin_loop());
                stdout = loan.recall(&pipe).unwrap();
                assert_eq!(stdout.read().map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
            }
            is_over.store(true, Ordering::SeqCst);
            told.send(loan.hears()).unwrap();
        });
        let hears = ended.recv_timeout(Duration::from_mins(1)).expect("a recall waits for ever");
        assert!(hears > 0);
    }

    #[test]
    fn what_is_not_read_when_it_is_recalled_is_left_for_the_owner() {
        let (stdout, pipe, mut writer) = stdout();
        let loan = wanted();
        loan.lend(stdout);
        for number in 0..100 {
            writeln!(writer, "{}", line(number)).unwrap(); // more than one read takes
        }
        let (heard, recalled) = (Mutex::new(0), Mutex::new(None));
        thread::scope(|threads| {
            let deliver = |_| {
                let mut heard = heard.lock().unwrap();
                if *heard == 0 {
                    threads.spawn(|| *recalled.lock().unwrap() = loan.recall(&pipe));
                    while !loan.is_recalled.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                }
                *heard += 1;
            };
            assert_eq!(hear(&loan, 1, &deliver, &still), Heard::Nothing);
        });
        let (heard, mut stdout) = (*heard.lock().unwrap(), recalled.into_inner().unwrap().unwrap());
        assert!((1..100).contains(&heard), "{heard}");
        stdout.read().unwrap();
        assert_eq!(stdout.next().map(Message::into_bytes), Some(line(heard).into_bytes()));
    }

    /// As a server that never pauses and does not answer.
    #[test]
    fn who_hears_for_long_without_an_answer_is_seen() {
        let (stdout, pipe, writer) = stdout();
        let loan = wanted();
        loan.lend(stdout);
        let seen = Mutex::new(Seen::default());
        let says = || writeln!(&writer, "{}", line(1)).unwrap();
        let looks = Mutex::new(0);
        says();
        let deliver = |_| {
            says();
            *looks.lock().unwrap() += 1;
            if seen.lock().unwrap().look(&loan) {
                // What its owner does now, but for the wait until we are gone.
                loan.is_recalled.store(true, Ordering::SeqCst);
            }
        };
        assert_eq!(hear(&loan, 1, &deliver, &still), Heard::Nothing);
        assert_eq!(*looks.lock().unwrap(), LOOKS + 1);
        assert!(loan.recall(&pipe).is_some());
    }

    #[test]
    fn who_gets_answers_goes_on_until_he_is_silent() {
        let (loan, mut seen) = (Loan::default(), Seen::default());
        for _ in 0..10 * LOOKS {
            loan.hears.fetch_add(1, Ordering::Relaxed);
            loan.steps.fetch_add(1, Ordering::Relaxed);
            assert!(!seen.look(&loan));
        }
        assert!(seen.look(&loan), "nobody reads");
    }

    #[test]
    fn who_asks_too_hears_nothing_and_the_owner_sees_to_it() {
        let (stdout, pipe, mut writer) = stdout();
        let loan = wanted();
        loan.lend(stdout);
        assert_eq!(hear(&loan, 2, &nowhere, &still), Heard::Aside);
        assert_eq!(hear(&loan, 1, &nowhere, &still), Heard::Aside, "it is not alone any more");
        let stdout = loan.recall(&pipe).unwrap();
        assert_eq!(loan.wanted(), 0);
        let loan = wanted();
        loan.lend(stdout);
        writeln!(writer, "{}", line(1)).unwrap();
        let others = Mutex::new(None);
        let deliver = |_| *others.lock().unwrap() = Some(hear(&loan, 2, &nowhere, &still));
        let awaits = || if others.lock().unwrap().is_none() { Awaits::Still } else { Awaits::NoMore };
        assert_eq!(hear(&loan, 1, &deliver, &awaits), Heard::Enough);
        assert_eq!(*others.lock().unwrap(), Some(Heard::Aside));
    }

    #[test]
    fn the_end_and_what_else_there_is_to_do_are_for_the_owner() {
        let (stdout, pipe, writer) = stdout();
        let loan = wanted();
        loan.lend(stdout);
        assert_eq!(hear(&loan, 1, &nowhere, &|| Awaits::Aside), Heard::Aside);
        drop(writer);
        assert_eq!(hear(&loan, 1, &nowhere, &still), Heard::Aside);
        assert_eq!(loan.recall(&pipe).unwrap().read().unwrap(), 0);
    }

    #[test]
    fn whoever_fails_keeps_nothing() {
        let (stdout, pipe, mut writer) = stdout();
        let loan = wanted();
        loan.lend(stdout);
        write!(writer, "{}\n{}\n", line(1), line(2)).unwrap();
        let fails = || hear(&loan, 1, &|_| panic::resume_unwind(Box::new("a defect")), &still);
        assert!(panic::catch_unwind(AssertUnwindSafe(fails)).is_err());
        assert_eq!(hear(&loan, 1, &nowhere, &still), Heard::Nothing);
        let mut stdout = loan.recall(&pipe).unwrap();
        assert_eq!(stdout.next().map(Message::into_bytes), Some(line(2).into_bytes()));
        assert_eq!(hear(&loan, 1, &nowhere, &still), Heard::Nothing);
        loan.lend(stdout);
        assert_eq!(hear(&loan, 1, &nowhere, &|| Awaits::NoMore), Heard::Enough);
    }
}
