//! The TCP connection under ureq: its waits obey those of the link, and head and body of a small request leave in
//! one write.
//!
//! Works with ureq 3.5's `unversioned` parts, which may change with any release: `Cargo.lock` holds it.

use super::waits::{Bystander, LONG, SHORT, Waits, Watched};
use crate::system::{self, Poll};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};
use ureq::{Error, Timeout};

/// Bytes that are read, and written, at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What is held back for the next write leaves room for the largest head that we send.
const HELD_BYTES: usize = 16 * 1024;

/// One connection.
pub struct Socket {
    stream: Arc<TcpStream>,
    waits: Arc<Waits>,
    buffers: Held,
    /// What a proxy wants before the path of every request: scheme and host.
    front: Option<String>,
    just_read: bool,
    /// How long its reads wait, where there is something to tell after that.
    reads_wait: Duration,
}

/// What a wait beside something else gave.
enum Seen {
    /// So many bytes.
    Read(usize),
    /// There is something to read.
    Ready,
    /// Nothing so far.
    Nothing,
}

impl Socket {
    /// A connection over `stream`; `front` goes before the path of every request.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, waits: Arc<Waits>, front: Option<String>) -> Self {
        Self { stream, waits, buffers: Held::new(), front, just_read: false, reads_wait: LONG }
    }

    /// Reads what is there, or what comes within the time. The first wait is the read's own (`SO_RCVTIMEO`, where there is
    /// something to tell after it, and it is as long), which saves a system call a message. With this wait an answer
    /// `begins`, as far as is known.
    fn read(&mut self, timeout: NextTimeout, begins: bool) -> Result<usize, Error> {
        let mut is_ready = false;
        if timeout.reason != Timeout::Connect {
            self.waits.reads(&self.stream)?;
            let waits = self.waits.clone();
            if let Some(bystander) = waits.bystander() {
                match self.watch(bystander, timeout, begins)? {
                    Seen::Read(read) => return Ok(read),
                    Seen::Ready => is_ready = true,
                    Seen::Nothing => {}
                }
            }
        }
        let allowed = self.waits.allowed(timeout);
        let waits_long = if self.waits.tells() { allowed.is_none_or(|all| all > LONG) } else { allowed.is_none() };
        let mut at_once = is_ready || (waits_long && self.reads_wait == LONG);
        let Self { stream, buffers, waits, .. } = self;
        let mut read = |limit| {
            if !std::mem::take(&mut at_once) && system::poll(&mut [Poll::readable(stream.as_fd())], limit)? == 0 {
                return Ok(None);
            }
            read_once(stream, buffers)
        };
        waits.patiently(allowed, &mut read)?.ok_or(Error::Timeout(timeout.reason))
    }

    /// Waits for what comes of an answer, or for what is to be watched beside it; whoever depends on this thread is told
    /// when that comes. Only before an answer begins it may be watched later: what comes then may come in many pieces.
    fn watch(&mut self, bystander: &dyn Bystander, timeout: NextTimeout, begins: bool) -> Result<Seen, Error> {
        let Some(Watched { fd, later }) = bystander.sent() else {
            self.let_reads_wait(LONG)?;
            return Ok(Seen::Nothing);
        };
        if begins && later && self.waits.allowed(timeout).is_none_or(|all| all > LONG) {
            // A read is one system call, a wait for both and a read are two.
            self.let_reads_wait(SHORT)?;
            if let Some(read) = read_once(&self.stream, &mut self.buffers)? {
                return Ok(Seen::Read(read));
            }
        }
        let mut both = [Poll::readable(self.stream.as_fd()), Poll::readable(fd)];
        system::poll(&mut both, self.waits.allowed(timeout))?;
        if both[1].is_readable() && !(begins && both[0].is_readable()) {
            bystander.ready();
        }
        Ok(if both[0].is_readable() { Seen::Ready } else { Seen::Nothing })
    }

    /// Reads wait for so long from now on.
    fn let_reads_wait(&mut self, wait: Duration) -> io::Result<()> {
        if self.reads_wait != wait {
            self.stream.set_read_timeout(Some(wait))?;
            self.reads_wait = wait;
        }
        Ok(())
    }

    fn write(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let allowed = self.waits.allowed(timeout);
        let (unsent, begun) = (std::mem::take(&mut self.buffers.unsent), Instant::now());
        let (mut bytes, mut told) = (&self.buffers.lazy.output()[..unsent], false);
        while !bytes.is_empty() {
            match (&*self.stream).write(bytes) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if allowed.is_some_and(|allowed| begun.elapsed() >= allowed) {
                        return Err(Error::Timeout(timeout.reason));
                    }
                    if !std::mem::replace(&mut told, true) {
                        self.waits.tell();
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Reads what comes within the time that reads wait.
fn read_once(mut stream: &TcpStream, buffers: &mut Held) -> io::Result<Option<usize>> {
    loop {
        match stream.read(buffers.lazy.input_append_buf()) {
            Ok(read) => return Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Keeps what is small: either more follows, or the wait for an answer sends it.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let amount = match &self.front {
            Some(front) if self.buffers.begins_request => self.buffers.insert(front, amount),
            _ => amount,
        };
        self.buffers.begins_request = false;
        self.buffers.unsent += amount;
        if self.buffers.unsent > HELD_BYTES { self.write(timeout) } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let begins = self.buffers.unsent > 0; // a request leaves with this wait
        self.write(timeout)?;
        let read = self.read(timeout, begins)?;
        self.buffers.lazy.input_appended(read);
        (self.buffers.begins_request, self.just_read) = (true, true);
        Ok(read > 0)
    }

    /// Nothing may come between two requests: bytes are nobody's answer, the end is the end. ureq asks after every
    /// answer and before every request; the second time is enough.
    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.just_read) {
            self.waits.has_read();
            return true;
        }
        matches!(system::poll(&mut [Poll::readable(self.stream.as_fd())], Some(Duration::ZERO)), Ok(0))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

/// ureq's buffers, with an output that can begin with what is still to be sent.
struct Held {
    lazy: LazyBuffers,
    unsent: usize,
    begins_request: bool,
}

impl Held {
    fn new() -> Self {
        Self { lazy: LazyBuffers::new(CHUNK_BYTES, CHUNK_BYTES), unsent: 0, begins_request: true }
    }

    /// Puts `front` before the target of the request whose head, `amount` bytes long, is to be sent; says how
    /// long it is then.
    fn insert(&mut self, front: &str, amount: usize) -> usize {
        let output = &mut self.lazy.output()[self.unsent..];
        let Some(target) = output[..amount].iter().position(|byte| *byte == b' ').map(|space| space + 1) else {
            return amount;
        };
        if amount + front.len() > output.len() {
            return amount; // the proxy refuses what it cannot understand
        }
        output.copy_within(target..amount, target + front.len());
        output[target..target + front.len()].copy_from_slice(front.as_bytes());
        amount + front.len()
    }
}

impl Buffers for Held {
    fn output(&mut self) -> &mut [u8] {
        &mut self.lazy.output()[self.unsent..]
    }

    fn input(&self) -> &[u8] {
        self.lazy.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.lazy.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.lazy.input_appended(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.lazy.input_consume(amount);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        let (tmp, output) = self.lazy.tmp_and_output();
        (tmp, &mut output[self.unsent..])
    }

    fn can_use_input(&self) -> bool {
        self.lazy.can_use_input()
    }
}
