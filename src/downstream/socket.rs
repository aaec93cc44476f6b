//! One accepted connection, whatever it came through: TCP or a Unix socket. What only one of them has is nothing on the
//! other.

use crate::protocol::network::Peer;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An accepted connection.
#[derive(Debug)]
pub enum Socket {
    /// Over a network, or loopback.
    Tcp(TcpStream),
    /// Through a file of ours.
    Unix(UnixStream),
}

impl Socket {
    /// Makes reads and writes wait, each write as long as this; no write waits for more to come.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn prepare(&self, write_timeout: Duration) -> io::Result<()> {
        // Some systems hand the listener's flag on.
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(false)?;
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(write_timeout))
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(false)?;
                socket.set_write_timeout(Some(write_timeout))
            }
        }
    }

    /// How long a read waits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(limit),
            Self::Unix(socket) => socket.set_read_timeout(limit),
        }
    }

    /// Ends one direction of it, or both.
    ///
    /// # Errors
    /// It has ended already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Self::Tcp(socket) => socket.peer_addr().map_or(Peer::Gone, |address| Peer::Address(address.ip())),
            Self::Unix(_) => Peer::Unix,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => (&mut &*socket).read(buffer),
            Socket::Unix(socket) => (&mut &*socket).read(buffer),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => (&mut &*socket).write(bytes),
            Socket::Unix(socket) => (&mut &*socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
