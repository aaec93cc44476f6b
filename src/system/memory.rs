//! Memory that runs out: what is under way goes on, and new work is refused until there is more.
//!
//! ```text
//!             an allocation fails: what is kept is given up for it
//!   Kept ──────────────────────────────────────────────────────────▶ Given up
//!     ▲          new work asks, and as much can be had again             │
//!     └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Memory ends where a limit on address space or data says so (`ulimit -v`, `-d`), or where the kernel promises no more
//! than it has (`vm.overcommit_memory=2`). The standard library aborts the program when an allocation fails then (and when
//! a thread that has begun finds no memory for its signal stack: [`stacks`](super::stacks) sees to that).
//!
//! Three things keep it from that. [`has_room`] is asked before anything new that takes much: a thread, a process, a long
//! message. Some address space is kept for allocations that nobody asks about: [`Allocator`] gives it up when one fails.
//! And an allocation that fails even so waits a little, for what is under way frees what it has when it is done.
//!
//! Always: while the reserve is kept, asking for something small costs no system call. What is kept and what is asked for
//! is never touched: it takes no memory. The kernel's killer of processes, which counts what is touched, asks nobody.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What is kept for allocations that nobody asks about.
const RESERVE_BYTES: usize = 8 << 20;
/// What must be free besides what is asked for: enough to end what fails.
const ROOM_BYTES: usize = 1 << 20;
/// The same for each thread that is under way: a message that is too short to ask for, and the copies of it.
const THREAD_BYTES: usize = 256 << 10;
/// Who asks for no more is not told to wait, nor looked at, while the reserve is kept.
pub const SMALL_BYTES: usize = 64 << 10;
/// A message stands in memory so many times while it is passed on: as it came, as it goes to the other side, and as it
/// waits or is kept there.
const COPIES: usize = 4;
/// A thread of which nothing else is known; the standard library's own choice.
pub const STACK_BYTES: usize = 2 << 20;
/// How long an allocation that fails is tried again, and how often.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Where the reserve is; null while it is given up.
static RESERVE: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
/// How many threads are under way that [`begin`] began.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Whether new work may begin that takes so many bytes; 0 for what is small.
#[must_use]
pub fn has_room(bytes: usize) -> bool {
    let is_kept = !RESERVE.load(Ordering::Relaxed).is_null();
    if is_kept && bytes <= SMALL_BYTES {
        return true;
    }
    let others = THREADS.load(Ordering::Relaxed).saturating_mul(THREAD_BYTES);
    let needed = bytes.saturating_add(ROOM_BYTES).saturating_add(others);
    if !is_kept && can_map(needed.saturating_add(RESERVE_BYTES)) {
        keep();
        return true;
    }
    can_map(needed)
}

/// Whether a message that is on its way may become so long. One that stays small may always.
#[must_use]
pub fn has_room_to_grow(bytes: usize) -> bool {
    has_room_to_grow_beside(bytes, 0)
}

/// The same while so many bytes more are promised to others.
#[must_use]
pub fn has_room_to_grow_beside(bytes: usize, others: usize) -> bool {
    bytes <= SMALL_BYTES || has_room(bytes.saturating_mul(COPIES).saturating_add(others))
}

/// Begins a thread for new work, with a stack of this size, if there is memory for both.
///
/// # Errors
/// There is none, or no thread is left.
pub fn begin<T: Send + 'static>(
    builder: Builder,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // More than what is small: that would not be looked for.
    if has_room(stack_bytes + SMALL_BYTES) { spawn(builder, stack_bytes, work) } else { Err(none_left()) }
}

/// Begins a thread without which what is under way cannot go on: with what was kept, if need be.
///
/// # Errors
/// There is no memory whatever, or no thread is left.
pub fn begin_anyway<T: Send + 'static>(
    builder: Builder,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    if !can_map(stack_bytes + SMALL_BYTES) {
        give_up();
    }
    spawn(builder, stack_bytes, work)
}

fn none_left() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEM)
}

fn spawn<T: Send + 'static>(
    builder: Builder,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    /// A thread that is under way.
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    THREADS.fetch_add(1, Ordering::Relaxed);
    let counted = Counted; // if there is no thread, it goes with the work
    builder.stack_size(stack_bytes).spawn(move || {
        let _counted = counted;
        work()
    })
}

/// The system's allocator, which is asked again when it has nothing.
pub struct Allocator;

// SAFETY: every call goes to the system's allocator as it came, and its promises are ours. A call is made again only
// after it gave nothing, which leaves all as it was; none of it unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what is needed.
        insist(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what is needed.
        insist(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller promises what is needed.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises what is needed; where there is nothing larger, `at` is still good.
        insist(|| unsafe { System.realloc(at, layout, size) })
    }
}

#[inline]
fn insist(ask: impl Fn() -> *mut u8) -> *mut u8 {
    let got = ask();
    if got.is_null() { ask_again(&ask) } else { got }
}

/// Gives up the reserve, and then waits for others to free what they have. Nothing at the end: the program aborts.
#[cold]
#[inline(never)]
fn ask_again(ask: &dyn Fn() -> *mut u8) -> *mut u8 {
    let begun = Instant::now();
    give_up();
    loop {
        let got = ask();
        if !got.is_null() || begun.elapsed() >= PATIENCE {
            return got;
        }
        thread::sleep(PAUSE);
        give_up(); // somebody may have kept it again
    }
}

/// Keeps the reserve, if there is as much.
fn keep() {
    let Some(reserve) = map(RESERVE_BYTES) else { return };
    let kept = RESERVE.compare_exchange(ptr::null_mut(), reserve, Ordering::AcqRel, Ordering::Relaxed);
    if kept.is_err() {
        unmap(reserve, RESERVE_BYTES); // another thread was quicker
    }
}

/// Gives up the reserve; says whether there was one.
fn give_up() -> bool {
    let reserve = RESERVE.swap(ptr::null_mut(), Ordering::AcqRel);
    if !reserve.is_null() {
        unmap(reserve, RESERVE_BYTES);
    }
    !reserve.is_null()
}

fn can_map(bytes: usize) -> bool {
    map(bytes).is_some_and(|region| {
        unmap(region, bytes);
        true
    })
}

/// Address space that counts as if it were used: private and writable.
fn map(bytes: usize) -> Option<*mut libc::c_void> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the place, so that nothing of ours is there; nobody touches it.
    let region = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    (region != libc::MAP_FAILED).then_some(region)
}

fn unmap(region: *mut libc::c_void, bytes: usize) {
    // SAFETY: it is what `map` gave, whole, and nobody else has it.
    unsafe { libc::munmap(region, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Who looks at the reserve has it alone.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn there_is_room_for_what_is_small_and_not_for_all_of_the_address_space() {
        for bytes in [0, SMALL_BYTES, STACK_BYTES] {
            assert!(has_room(bytes) && has_room_to_grow(bytes));
        }
        assert!(!has_room(usize::MAX) && !has_room(1 << 47) && !has_room_to_grow(1 << 46));
    }

    #[test]
    fn the_reserve_is_given_up_for_what_finds_no_memory_and_kept_again() {
        let _alone = alone();
        assert!(has_room(0));
        let (asked, there) = (std::cell::Cell::new(0), ptr::dangling_mut());
        let got = insist(|| {
            asked.set(asked.get() + 1);
            let is_kept = !RESERVE.load(Ordering::Relaxed).is_null();
            // Another test may have asked for room meanwhile.
            if is_kept && asked.get() < 3 { ptr::null_mut() } else { there }
        });
        assert!(got == there && asked.get() > 1);
        assert!(has_room(0) && !RESERVE.load(Ordering::Relaxed).is_null());
    }

    #[test]
    fn what_finds_no_memory_for_long_fails() {
        let _alone = alone();
        let start = Instant::now();
        assert!(insist(ptr::null_mut).is_null());
        assert!(start.elapsed() >= PATIENCE / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn threads_are_counted_while_they_are_under_way() {
        let builder = || Builder::new().name("counted".into());
        let thread = begin(builder(), 64 << 10, || THREADS.load(Ordering::Relaxed)).unwrap();
        assert!(thread.join().unwrap() > 0);
        let refused = begin(builder(), 1 << 47, || ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    }
}
