//! The operating system in one small file: signals, process groups, orphans, readiness, randomness.
//!
//! Only this file and those below it have `unsafe` blocks; each says why it is sound. Nothing here keeps state, except
//! the pipe that the signal handler writes to, the list of our own children, the [`minder`], and what [`memory`] keeps.
#![allow(unsafe_code)]

mod descriptors;
pub mod memory;
pub mod minder;
pub mod sandbox;
pub mod stacks;

pub use descriptors::{Inherited, inherited_sockets, keep_descriptors, without_permissions};

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
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
fn set_waiting(fd: BorrowedFd<'_>, waits: bool) -> io::Result<()> {
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
pub struct Watch(OwnedFd);

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

/// A descriptor that becomes readable when the process ends; `None` where the kernel has none (before 5.3).
#[must_use]
pub fn process_end(pid: u32) -> Option<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: a plain call with two integers; the descriptor that it gives is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        Some(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends a signal to every process of the group that `leader` leads. A group that is gone is no error.
pub fn signal_group(leader: u32, number: i32) {
    if let Ok(group @ 2..) = libc::pid_t::try_from(leader) {
        // SAFETY: a plain call with two integers; 0 and 1, which would mean others, are excluded.
        unsafe { libc::kill(-group, number) };
    }
}

/// 128 bits from the operating system's random source, as 32 hexadecimal digits.
///
/// # Errors
/// The source is not there.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is as long as is said; up to 256 bytes come in one piece.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got) != Ok(bytes.len()) {
        return Err(io::Error::last_os_error());
    }
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Writes to a socket what it takes at once, and never waits.
///
/// # Errors
/// Those of sendmsg(2); `WouldBlock` when it takes nothing.
pub fn send_now(socket: BorrowedFd<'_>, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if let [whole] = parts {
        // SAFETY: the buffer is as long as is said.
        let sent = unsafe { libc::send(socket.as_raw_fd(), whole.as_ptr().cast(), whole.len(), flags) };
        return usize::try_from(sent).map_err(|_| io::Error::last_os_error());
    }
    // SAFETY: all zeroes is a valid msghdr; `IoSlice` has the layout of iovec, and the parts outlive the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len() as _;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Reads from a socket what is there, and never waits.
///
/// # Errors
/// Those of recv(2); `WouldBlock` when there is nothing.
pub fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as is said.
    let read = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Looks whether there is something to read on a socket, and never waits: the number of bytes, 1 at most; 0 is the end.
///
/// # Errors
/// Those of recv(2); `WouldBlock` when there is nothing.
pub fn peek_now(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let (mut byte, flags) = (0_u8, libc::MSG_DONTWAIT | libc::MSG_PEEK);
    // SAFETY: the buffer is as long as is said.
    let read = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Whether a connection's peer has acknowledged nothing for so long although we asked it again. Without this, a
/// client whose plug was pulled would be noticed after a quarter of an hour. One that only does not read goes on
/// acknowledging; `TCP_USER_TIMEOUT` would take it for one that has gone.
#[must_use]
pub fn is_silent(socket: BorrowedFd<'_>, limit: Duration) -> bool {
    // SAFETY: all zeroes is a valid value of the structure, which is ours and as long as is said.
    let (done, info) = unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
        let place = (&raw mut info).cast();
        (libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut size), info)
    };
    // A first probe may be under way at this moment.
    let asked_again = info.tcpi_retransmits > 0 || info.tcpi_probes > 1;
    done == 0 && asked_again && Duration::from_millis(info.tcpi_last_ack_recv.into()) >= limit
}

/// Overwrites `secrets` in our own command line, so that no list of processes shows them from here on.
/// Where `/proc` does not tell where the words are, they stay as they are.
pub fn hide_arguments(secrets: &[String]) {
    let Some((start, length)) = arguments() else { return };
    for secret in secrets.iter().map(String::as_bytes).filter(|secret| secret.len() >= 4) {
        // SAFETY: the kernel says that our arguments are there; the area is ours, writable, never freed, and only
        // std reads it, byte by byte into copies, from the thread that calls this before there are others.
        let words = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) };
        let mut from = 0;
        while let Some(at) = words[from..].windows(secret.len()).position(|found| found == secret) {
            words[from + at..][..secret.len()].fill(b'*');
            from += at + secret.len();
        }
    }
}

/// Overwrites the value of a variable in our own environment, so that nobody sees it there from here on, no server of
/// ours either. Where `/proc` does not tell where it is, it stays as it is.
pub fn hide_variable(name: &str) {
    let Some((start, length)) = area(50, "/proc/self/environ") else { return };
    // SAFETY: the kernel says that our environment is there; the area is ours, writable, never freed, and only std
    // reads it, byte by byte into copies, from the thread that calls this before there are others.
    let variables = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) };
    for variable in variables.split_mut(|byte| *byte == 0) {
        if let Some(at) =
            variable.iter().position(|byte| *byte == b'=').filter(|at| variable[..*at] == *name.as_bytes())
        {
            variable[at + 1..].fill(b'*');
        }
    }
}

/// Where the words of our command line are: address and length.
fn arguments() -> Option<(usize, usize)> {
    area(48, "/proc/self/cmdline")
}

/// Where something is that `file` shows, between the addresses in two fields of proc(5), counted from 1.
fn area(field: usize, file: &str) -> Option<(usize, usize)> {
    let ours = std::fs::read_to_string("/proc/self/stat").ok()?;
    // What follows the name in parentheses begins with the third.
    let mut fields = ours.rsplit_once(") ")?.1.split_whitespace().skip(field - 3);
    let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // What else stands there must agree, or this is not the place.
    let length = end.checked_sub(start).filter(|length| start != 0 && *length > 0)?;
    (std::fs::read(file).ok()?.len() == length).then_some((start, length))
}

/// After `idle` without a byte the kernel asks the peer whether it is still there, three times at most ten seconds apart,
/// and then the connection is broken.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_keepalive(socket: BorrowedFd<'_>, idle: Duration) -> io::Result<()> {
    let idle_s = libc::c_int::try_from(idle.as_secs()).unwrap_or(libc::c_int::MAX);
    for (level, option, value) in [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle_s),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (idle_s / 3).clamp(1, 10)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
    ] {
        let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
        // SAFETY: each option takes one integer, which lives on this stack.
        let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
        check(done)?;
    }
    Ok(())
}

/// Takes as many descriptors as we may have: a session needs nine, and the usual limit is 1024.
pub fn raise_descriptor_limit() {
    // SAFETY: the structure is ours and has two integers; all calls are plain.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max.min(MOST_DESCRIPTORS);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Where the limit is a billion, programs that close "all" descriptors at their start would take minutes.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;

/// Our own children, so that nobody takes their exit status from the code that waits for it.
#[derive(Default)]
struct Ours {
    pids: Vec<u32>,
    starting: usize,
}

static OURS: Mutex<Ours> = Mutex::new(Ours { pids: Vec::new(), starting: 0 });

fn ours() -> std::sync::MutexGuard<'static, Ours> {
    OURS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `start` and remembers the child that it gives until [`forget_child`].
///
/// # Errors
/// Those of `start`.
pub fn start_child<T>(start: impl FnOnce() -> io::Result<(T, u32)>) -> io::Result<T> {
    ours().starting += 1;
    let started = start();
    let mut ours = ours();
    ours.starting -= 1;
    let (child, pid) = started?;
    ours.pids.push(pid);
    Ok(child)
}

/// The child has been waited for.
pub fn forget_child(pid: u32) {
    ours().pids.retain(|known| *known != pid);
    reap_orphans();
}

/// Processes whose parent ended are given to us from now on, so that none of a server's is left behind when we
/// end. PID 1 has this office already.
pub fn adopt_orphans() {
    // SAFETY: a plain call with integers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Waits for every ended process that is our child only because its parent is gone. The exit status of a child
/// that we started is left alone: it is looked at without being taken, and stays until its owner waits.
pub fn reap_orphans() {
    loop {
        let known = ours();
        if known.starting > 0 {
            return; // its pid is not known yet; the signal of its end, or its owner, brings us back
        }
        // SAFETY: the structure is ours; all zeroes is a valid value of it; WNOHANG means that this never waits.
        let ended = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) != 0 { 0 } else { info.si_pid() }
        };
        let Ok(pid @ 1..) = u32::try_from(ended) else { return };
        if known.pids.contains(&pid) {
            return; // its owner waits for it and comes back here
        }
        // SAFETY: the process is an ended child of ours that nobody else waits for.
        unsafe { libc::waitpid(ended, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Kills every process whose parent we are: what escaped from its group and was given to us. For the very end.
pub fn kill_orphans() {
    for _ in 0..200 {
        let children = children();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // SAFETY: a plain call with two integers; the process is a child of ours, so its pid is not reused.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
        reap_orphans();
    }
}

/// The processes whose parent we are, as `/proc` tells it; none where there is no `/proc`.
fn children() -> Vec<libc::pid_t> {
    let parent = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |pid: &libc::pid_t| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow the last one.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

/// Milliseconds, rounded up: a wait that ends a moment too early would be repeated in a hurry.
fn wait_ms(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn ids_are_random() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| random_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

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
