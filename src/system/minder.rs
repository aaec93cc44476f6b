//! Lets a thread wait for one pipe in a plain read, although it watches other things too.
//!
//! ```text
//!                mind()                     the pipe has something
//!   (a Watch) ───────────▶ read(pipe) ◀────────────────────────────▶ read(pipe)
//!       ▲                      │ anything else of the watch is ready: the minder calls
//!       └──── drop(Minded) ────┘
//! ```
//!
//! A read costs one system call where a wait and a read cost two. What a read cannot notice, the minder does: one thread
//! for the whole process, begun with the first thread that needs it. It waits for all these watches at once, for as long
//! as the process lives; nobody joins it.
//!
//! Always: only a thread that is minded still is called; a call that comes late ends a read too early, and no more.

use super::callee::Callee;
use super::readiness::Watch;
use super::{check, memory};
use std::collections::HashMap;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// It does little.
const STACK_BYTES: usize = 64 << 10;

/// Who waits for everything else.
#[derive(Debug)]
struct Minder {
    watches: OwnedFd,
    readers: Mutex<Readers>,
}

/// The threads that wait in a read.
#[derive(Debug, Default)]
struct Readers {
    next: u64,
    by_number: HashMap<u64, Reader>,
}

#[derive(Debug)]
struct Reader {
    thread: Callee,
    pipe: Arc<PipeReader>,
    is_called: Arc<AtomicBool>,
}

/// While it lives, reads of the pipe wait, on the thread that asked for it; they fail with `Interrupted` or `WouldBlock`
/// once anything else is ready.
#[derive(Debug)]
pub struct Minded {
    /// The name of its reader.
    number: u64,
    minder: Arc<Minder>,
    watch: Arc<Watch>,
    pipe: Arc<PipeReader>,
    /// What the pipe is called in the watch.
    pipe_number: u32,
    is_called: Arc<AtomicBool>,
}

static MINDER: Mutex<Option<Arc<Minder>>> = Mutex::new(None);

/// From now on this thread waits in reads of `pipe`, which is in `watch` under `number`. It is called when anything else
/// in `watch` is ready, now or later.
///
/// # Errors
/// There is no memory, descriptor or thread for it; then nothing has changed.
pub fn mind(watch: &Arc<Watch>, pipe: &Arc<PipeReader>, number: u32) -> io::Result<Minded> {
    let minder = Minder::get()?;
    let thread = Callee::this()?;
    let is_called = Arc::new(AtomicBool::new(false));
    let reader = Reader { thread, pipe: pipe.clone(), is_called: is_called.clone() };
    let place = Minded {
        number: minder.enter(reader),
        minder,
        watch: watch.clone(),
        pipe: pipe.clone(),
        pipe_number: number,
        is_called,
    };
    // Whatever fails from here on: the drop of this undoes all.
    watch.leave_alone(pipe.as_fd(), number)?;
    place.minder.control(libc::EPOLL_CTL_ADD, watch, place.number)?;
    Ok(place)
}

impl Minded {
    /// Whether anything else is ready: to be asked after a read that gave something.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.is_called.load(Ordering::Acquire)
    }
}

impl Drop for Minded {
    /// The pipe is one of those watched again, and reads of it do not wait.
    fn drop(&mut self) {
        self.minder.leave(self.number);
        let _ = self.minder.control(libc::EPOLL_CTL_DEL, &self.watch, 0); // it may never have been there
        self.watch.look_again(self.pipe.as_fd(), self.pipe_number);
    }
}

impl Minder {
    /// The only one, begun if it is not there yet.
    fn get() -> io::Result<Arc<Self>> {
        let mut there = MINDER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(minder) = &*there {
            return Ok(minder.clone());
        }
        // SAFETY: a plain call; the descriptor that it gives is ours alone.
        let watches = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let minder = Arc::new(Self { watches, readers: Mutex::default() });
        let run = {
            let minder = minder.clone();
            move || minder.run()
        };
        memory::begin(thread::Builder::new().name("minder".into()), STACK_BYTES, run)?;
        *there = Some(minder.clone());
        Ok(minder)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, reader: Reader) -> u64 {
        let mut readers = self.readers();
        readers.next += 1;
        let number = readers.next;
        readers.by_number.insert(number, reader);
        number
    }

    /// Nobody calls it from here on.
    fn leave(&self, number: u64) {
        self.readers().by_number.remove(&number);
    }

    fn control(&self, what: libc::c_int, watch: &Watch, number: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLONESHOT).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: number };
        // SAFETY: both descriptors are open, and the structure lives on this stack.
        check(unsafe { libc::epoll_ctl(self.watches.as_raw_fd(), what, watch.0.as_raw_fd(), &raw mut event) }).map(drop)
    }

    fn run(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        loop {
            // SAFETY: the array is as long as is said.
            let ready = unsafe { libc::epoll_wait(self.watches.as_raw_fd(), events.as_mut_ptr(), 16, -1) };
            for event in &events[..usize::try_from(ready).unwrap_or(0)] {
                self.call(event.u64);
            }
        }
    }

    /// Ends the read of a thread, if it is still minded.
    fn call(&self, number: u64) {
        let readers = self.readers();
        let Some(Reader { thread, pipe, is_called }) = readers.by_number.get(&number) else { return };
        is_called.store(true, Ordering::Release);
        thread.call(pipe);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Waker, set_nonblocking};
    use super::*;
    use std::io::{Read, Write};
    use std::sync::mpsc;
    use std::time::Duration;

    const PIPE: u32 = 1;
    const WAKER: u32 = 2;
    const SOON: Duration = Duration::from_mins(1);

    struct Watched {
        watch: Arc<Watch>,
        pipe: Arc<PipeReader>,
        waker: Arc<Waker>,
    }

    fn watched() -> (Watched, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        set_nonblocking(reader.as_fd()).unwrap();
        let watched = Watched {
            watch: Arc::new(Watch::new().unwrap()),
            pipe: Arc::new(reader),
            waker: Arc::new(Waker::new().unwrap()),
        };
        watched.watch.readable(watched.pipe.as_fd(), PIPE).unwrap();
        watched.watch.readable(watched.waker.as_fd(), WAKER).unwrap();
        (watched, writer)
    }

    fn is_a_call(result: &io::Result<usize>) -> bool {
        let kind = result.as_ref().map_err(io::Error::kind).err();
        matches!(kind, Some(io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock))
    }

    #[test]
    fn what_is_ready_already_calls_at_once() {
        let (watched, mut writer) = watched();
        watched.waker.wake();
        let (watch, pipe) = (watched.watch.clone(), watched.pipe.clone());
        let (told, called) = mpsc::channel();
        thread::spawn(move || {
            let place = mind(&watch, &pipe, PIPE).unwrap();
            let is_called = is_a_call(&(&*pipe).read(&mut [0; 8])) && place.is_called();
            drop(place);
            told.send(is_called).unwrap();
        });
        assert!(called.recv_timeout(SOON).unwrap());
        // All is as it was: nothing waits, both are watched.
        assert!(is_a_call(&(&*watched.pipe).read(&mut [0; 8])));
        watched.waker.clear();
        writer.write_all(b"x").unwrap();
        let ready = watched.watch.wait(None).unwrap();
        assert!(ready.has(PIPE) && !ready.has(WAKER));
    }

    #[test]
    fn what_the_pipe_gives_is_read_and_calls_nobody() {
        let (watched, mut writer) = watched();
        let place = mind(&watched.watch, &watched.pipe, PIPE).unwrap();
        for _ in 0..100 {
            writer.write_all(b"x").unwrap();
            assert_eq!((&*watched.pipe).read(&mut [0; 8]).unwrap(), 1);
        }
        assert!(!place.is_called());
        drop(writer);
        assert_eq!((&*watched.pipe).read(&mut [0; 8]).unwrap(), 0);
    }

    /// A reader that was not called would wait for ever. Each wake comes at another moment of its way into the read.
    #[test]
    fn no_call_is_missed_whenever_it_comes() {
        let (watched, mut writer) = watched();
        let (waker, pipe) = (watched.waker.clone(), watched.pipe.clone());
        let (told, rounds) = mpsc::channel();
        let reads = thread::spawn(move || {
            let mut bytes = 0;
            for _ in 0..2000 {
                let place = mind(&watched.watch, &watched.pipe, PIPE).unwrap();
                told.send(()).unwrap();
                let called = loop {
                    match (&*pipe).read(&mut [0; 8]) {
                        Ok(read) => bytes += read,
                        result => break is_a_call(&result),
                    }
                };
                assert!(called);
                drop(place);
                // A late call may have been for the round before.
                while !watched.watch.wait(Some(SOON)).unwrap().has(WAKER) {
                    bytes += (&*pipe).read(&mut [0; 8]).unwrap();
                }
                watched.waker.clear();
            }
            bytes
        });
        let mut spins = 0_u32;
        for _ in 0..2000 {
            rounds.recv_timeout(SOON).expect("the reader was called in the round before");
            spins = (spins + 37) % 4000;
            writer.write_all(b"x").unwrap();
            (0..spins).for_each(|_| std::hint::spin_loop());
            waker.wake();
        }
        let read = reads.join().unwrap();
        assert!((1990..=2000).contains(&read), "{read}");
    }
}
