//! What we have from whoever started us: descriptors, sockets among them, how many there may be, and the mask of
//! permissions.

use super::check;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

/// A socket that was opened for us (`sd_listen_fds(3)`).
#[derive(Debug)]
pub enum Inherited {
    /// Over a network, or loopback.
    Tcp(TcpListener),
    /// Through a file.
    Unix(UnixListener),
}

/// The first descriptor behind stdin, stdout and stderr.
const FIRST: RawFd = 3;
/// More sockets are not handed over.
const MOST: usize = 64;
/// Where the limit is a billion, programs that close "all" descriptors at their start would take minutes.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;

/// No program that we start gets a descriptor that was open when we were started, except the three that it shall have.
pub fn keep_descriptors() {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: a plain call with integers; it closes nothing, and what it marks is closed in new programs only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, flags) };
    if done != 0 {
        // The kernel is older than 5.11.
        let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
        for fd in open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd >= FIRST)
        {
            let _ = close_in_new_programs(fd);
        }
    }
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

fn close_in_new_programs(fd: RawFd) -> io::Result<()> {
    // SAFETY: a plain call with integers; one that is not open is an error.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Takes over so many sockets that stand from descriptor 3 on. Once: they are ours afterwards.
///
/// # Errors
/// One of them is not there, or is nothing that one can listen on; in words for a person.
pub fn inherited_sockets(count: usize) -> Result<Vec<Inherited>, String> {
    if count > MOST {
        return Err(format!("variable 'LISTEN_FDS': more than {MOST} sockets"));
    }
    let fds = (FIRST..).take(count);
    fds.map(|fd| inherited(fd).map_err(|why| format!("variable 'LISTEN_FDS': descriptor {fd} {why}"))).collect()
}

fn inherited(fd: RawFd) -> Result<Inherited, &'static str> {
    close_in_new_programs(fd).map_err(|_| "is not open")?;
    // SAFETY: it is open, and nobody closes it while it is looked at.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let is = |name, wanted| option(borrowed, name).is_ok_and(|found| found == wanted);
    if !is(libc::SO_TYPE, libc::SOCK_STREAM) || !is(libc::SO_ACCEPTCONN, 1) {
        return Err("is no socket that listens");
    }
    let is_unix = is(libc::SO_DOMAIN, libc::AF_UNIX);
    if !is_unix && !is(libc::SO_DOMAIN, libc::AF_INET) && !is(libc::SO_DOMAIN, libc::AF_INET6) {
        return Err("is neither a TCP nor a Unix socket");
    }
    // SAFETY: it is open, it was opened for us (LISTEN_PID), and nobody else takes it over.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(if is_unix { Inherited::Unix(owned.into()) } else { Inherited::Tcp(owned.into()) })
}

fn option(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let place = (&raw mut value).cast();
    // SAFETY: each of these options is one integer, which lives on this stack.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, place, &raw mut size) })?;
    Ok(value)
}

/// Runs `make` so that a file that it makes has no permissions at all. The mask is the whole process's: for the start,
/// while no other thread makes files.
pub fn without_permissions<T>(make: impl FnOnce() -> T) -> T {
    // SAFETY: a plain call with an integer.
    let before = unsafe { libc::umask(0o777) };
    let result = make();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    result
}
