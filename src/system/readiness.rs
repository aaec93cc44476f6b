//! Waiting until descriptors are ready, for a set that is new each time ([`poll`]) or stays the same ([`Watch`]), and
//! what ends such a wait ([`Waker`]).
//!
//! Always: a wait that a signal interrupts goes on.

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// One descriptor to wait for, and what was found.
#[repr(transparent)]
pub struct Poll<'fd> {
    raw: libc::pollfd,
    _fd: std::marker::PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> Poll<'fd> {
    fn new(fd: RawFd, events: libc::c_short) -> Self {
        Self { raw: libc::pollfd { fd, events, revents: 0 }, _fd: std::marker::PhantomData }
    }

    /// Waits until there is something to read, or the end.
    #[must_use]
    pub fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN)
    }

    /// Waits until something can be written, or nobody reads any more.
    #[must_use]
    pub fn writable(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLOUT)
    }

    /// Waits for both.
    #[must_use]
    pub fn both(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN | libc::POLLOUT)
    }

    /// Waits until the peer has closed the connection both ways, or it broke.
    #[must_use]
    pub fn hangup(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd.as_raw_fd(), 0)
    }

    /// Waits for nothing: the place of a descriptor that is not there.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(-1, 0)
    }

    /// Whether the other end is closed; there may be bytes of it left.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.raw.revents & libc::POLLHUP != 0
    }

    /// Whether reading would give something: bytes, the end or an error.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.raw.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }
}

/// Waits until one of `polls` is ready, at most for `timeout`; says how many are.
///
/// # Errors
/// The operating system has no memory left; an interrupted wait goes on.
pub fn poll(polls: &mut [Poll<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let count = libc::nfds_t::try_from(polls.len()).map_err(io::Error::other)?;
    loop {
        // SAFETY: `Poll` is a transparent wrapper of pollfd, and the slice is ours for the call.
        let ready = unsafe { libc::poll(polls.as_mut_ptr().cast(), count, wait_ms(timeout)) };
        match check(ready) {
            Ok(ready) => return Ok(usize::try_from(ready).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads and writes through `fd` do not wait from now on.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_waiting(fd, false)
}

/// Whether reads and writes through `fd` wait from now on.
pub(super) fn set_waiting(fd: BorrowedFd<'_>, waits: bool) -> io::Result<()> {
    // SAFETY: plain calls on a descriptor that is open for as long as it is borrowed.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        let flags = if waits { flags & !libc::O_NONBLOCK } else { flags | libc::O_NONBLOCK };
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags))?;
    }
    Ok(())
}

/// A fixed set of descriptors, each with a number below 32, to wait for again and again. What one wait costs does
/// not grow with the set, as it does with [`poll`].
#[derive(Debug)]
pub struct Watch(pub(super) OwnedFd);

/// The numbers that are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready(u32);

impl Ready {
    /// Whether the descriptor with this number is ready.
    #[must_use]
    pub fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    /// Whether no other one is ready.
    #[must_use]
    pub fn is_only(self, number: u32) -> bool {
        self.0 == 1 << number
    }
}

impl Watch {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain call; the descriptor that it gives is ours alone.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    /// Waits for `fd` to be readable, or to end, too. It leaves the set when it is closed.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn readable(&self, fd: BorrowedFd<'_>, number: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, number)
    }

    /// Waits for `fd` to be writable, or to have no reader any more, too.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn writable(&self, fd: BorrowedFd<'_>, number: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLOUT, number)
    }

    /// Waits for these events of `fd`, which is in the set, from now on.
    fn change(&self, fd: BorrowedFd<'_>, events: libc::c_int, number: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, number)
    }

    /// Leaves `fd`, which is in the set to be read, alone from now on: reads of it wait.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)` and `fcntl(2)`; nothing has changed then.
    pub fn leave_alone(&self, fd: BorrowedFd<'_>, number: u32) -> io::Result<()> {
        self.change(fd, 0, number)?;
        set_waiting(fd, true).inspect_err(|_| self.look_again(fd, number))
    }

    /// Undoes [`Watch::leave_alone`], which needs no memory.
    pub fn look_again(&self, fd: BorrowedFd<'_>, number: u32) {
        let _ = set_waiting(fd, false);
        let _ = self.change(fd, libc::EPOLLIN, number);
    }

    /// Waits for `fd` no more.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0); // it was not in the set: then it is not now
    }

    /// Waits until something is ready, at most for `timeout`.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`; an interrupted wait goes on.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        loop {
            // SAFETY: the array is as long as is said.
            let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, wait_ms(timeout)) };
            match check(ready) {
                Ok(ready) => {
                    let ready = &events[..usize::try_from(ready).unwrap_or(0)];
                    return Ok(Ready(ready.iter().fold(0, |all, event| all | 1 << (event.u64 & 31))));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn control(&self, what: libc::c_int, fd: BorrowedFd<'_>, events: libc::c_int, number: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: number.into() };
        // SAFETY: both descriptors are open, and the structure lives on this stack.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) }).map(drop)
    }
}

/// Wakes a thread that waits in [`poll`] or in a [`Watch`].
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker that nobody has used yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain call; the descriptor that it gives is ours alone.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes of this stack are read; a counter that is full has woken the waiter already.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Forgets all wakes until now.
    pub fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes of this stack are written.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Milliseconds, rounded up: a wait that ends a moment too early would be repeated in a hurry.
fn wait_ms(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_wake_ends_the_wait_once() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(poll(&mut [Poll::readable(waker.as_fd())], None).unwrap(), 1);
        waker.clear();
        assert_eq!(poll(&mut [Poll::readable(waker.as_fd())], Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_watch_tells_which_and_forgets_what_is_closed() {
        let watch = Watch::new().unwrap();
        let ((first, mut to_first), (second, _to_second)) = (io::pipe().unwrap(), io::pipe().unwrap());
        watch.readable(first.as_fd(), 0).unwrap();
        watch.readable(second.as_fd(), 31).unwrap();
        watch.writable(to_first.as_fd(), 7).unwrap();
        let ready = watch.wait(None).unwrap();
        assert!(ready.has(7) && !ready.has(0) && !ready.has(31));
        watch.remove(to_first.as_fd());
        to_first.write_all(b"x").unwrap();
        assert!(watch.wait(None).unwrap().has(0));
        drop(first);
        assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), Ready(0));
    }

    #[test]
    fn the_end_of_a_pipe_is_readable() {
        let (reader, mut writer) = io::pipe().unwrap();
        set_nonblocking(reader.as_fd()).unwrap();
        writer.write_all(b"x").unwrap();
        drop(writer);
        for expected in [1, 0] {
            let mut polls = [Poll::readable(reader.as_fd()), Poll::nothing()];
            poll(&mut polls, None).unwrap();
            assert!(polls[0].is_readable() && !polls[1].is_readable());
            assert_eq!((&reader).read(&mut [0; 8]).unwrap(), expected);
        }
    }
}
