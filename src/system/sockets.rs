//! What `std` cannot do with sockets: to send and receive without waiting, and to notice that a peer is gone.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

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
