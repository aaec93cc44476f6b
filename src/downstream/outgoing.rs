//! What goes out on one connection, in the order in which it was said, whoever says it.
//!
//! Always: the lock is held for one write; except by the connection's own thread nobody waits for the client.

use super::socket::Socket;
use crate::protocol::backlog::Backlog;
use crate::system::{self, memory};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// What goes out on one connection.
pub struct Outgoing {
    socket: Arc<Socket>,
    waiting: Mutex<Backlog>,
}

/// The right to say something now.
pub struct Turn<'a> {
    socket: &'a Socket,
    waiting: MutexGuard<'a, Backlog>,
}

impl Outgoing {
    /// Nothing was said yet on `socket`.
    #[must_use]
    pub fn new(socket: Arc<Socket>) -> Self {
        Self { socket, waiting: Mutex::default() }
    }

    /// Waits until nobody else is writing.
    pub fn turn(&self) -> Turn<'_> {
        Turn { socket: &self.socket, waiting: self.waiting.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The turn, unless somebody is writing at this moment.
    pub fn try_turn(&self) -> Option<Turn<'_>> {
        let waiting = match self.waiting.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Turn { socket: &self.socket, waiting })
    }
}

impl Turn<'_> {
    /// How many bytes wait for the client to read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is memory for so many bytes more to wait.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        memory::has_room_to_grow(self.waiting.growth(bytes))
    }

    /// Writes what the socket takes at once; the rest waits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write<const N: usize>(&mut self, parts: &[&[u8]; N]) -> io::Result<()> {
        let socket = self.socket.as_fd();
        self.waiting.send(&mut parts.map(IoSlice::new), |parts| system::send_now(socket, parts))
    }

    /// Writes of what waits what the socket takes at once.
    ///
    /// # Errors
    /// As [`Turn::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        let socket = self.socket.as_fd();
        self.waiting.write(|bytes| system::send_now(socket, &[IoSlice::new(bytes)]))
    }

    /// Writes all of what waits and then `bytes`, for as long as the socket allows a write to take.
    ///
    /// # Errors
    /// The connection is broken, or the client does not read.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut socket = self.socket;
        self.waiting.write(|bytes| socket.write(bytes))?;
        if self.waiting() > 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.write_all(bytes)
    }
}
