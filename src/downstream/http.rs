//! One HTTP connection: reads heads and bodies within their limits and deadlines, writes each answer in one piece.
//!
//! A thread waits in `read` and `write`, with the socket's own timeouts. What is refused before its body was read
//! ends the connection, gently, so that the client reads the answer and not a reset.

use super::budget::Taken;
use super::listener::{Guard, Limits};
use super::outgoing::Outgoing;
use super::socket::Socket;
use crate::protocol::chunks::{Chunks, Fault};
use crate::protocol::head::{self, Body, Framing, Head, Known};
use crate::protocol::http::Refusal;
use crate::protocol::network::Peer;
use crate::system::{self, Waker, memory};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq_proto::http::{HeaderName, HeaderValue, Method, StatusCode, header};

/// One connection of a client.
pub struct Connection {
    socket: Arc<Socket>,
    limits: Arc<Limits>,
    buffer: Buffer,
    fresh: bool,
    /// The timeout that reads have now.
    read_timeout: Duration,
    waker: Option<Arc<Waker>>,
    outgoing: Arc<Outgoing>,
    /// Its socket did not take all of an answer once: its thread waits for more than input from then on.
    pub polls: bool,
    /// The last request's head, which the next one's is likely to be like.
    known: Option<Known>,
    /// What the body has taken that was read last and is not handed over yet.
    taken: Taken,
    guard: Guard,
}

/// What was read and not yet used: the rest of a head, a body, the next request. Its memory is made once and
/// reused, and not cleared in between.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// What is before it has been used.
    used: usize,
    /// What is behind it has not been read.
    filled: usize,
}

impl Buffer {
    fn left(&self) -> &[u8] {
        &self.bytes[self.used..self.filled]
    }

    /// Room for at least so many bytes more.
    fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.filled < least {
            self.bytes.copy_within(self.used..self.filled, 0);
            (self.used, self.filled) = (0, self.filled - self.used);
            self.bytes.resize(self.bytes.len().max(self.filled + least), 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// The first bytes have been used; what one large request needed is not kept.
    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.filled {
            (self.used, self.filled) = (0, 0);
            if self.bytes.len() > PIECE_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let taken = self.left()[..bytes].to_vec();
        self.consume(bytes);
        taken
    }
}

/// An answer with a length.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those of the framing.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a wait for the next request gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Some of it; it is kept for [`Connection::next_head`].
    Input,
    /// The client will send nothing more, or is gone.
    End,
    /// Nothing within the limit, or a signal came.
    Nothing,
}

/// What ended a request before it was whole.
#[derive(Debug)]
pub enum Broken {
    /// The client went away; there is nobody to answer.
    Gone,
    /// The client is answered with this.
    Refused(Refusal),
}

/// Refusals under load ask the client to come back after this time.
const RETRY_AFTER_S: &str = "5";
/// Why a body is refused that others leave no room for.
const CROWDED: &str = "too many long messages are being sent at the same time; --max-message-bytes allows more";
/// Why new work is refused while memory is short.
const NO_MEMORY: &str = "memory is short at this moment";
/// A body is read in pieces of this size; what a length promises is not reserved before it comes.
const PIECE_BYTES: usize = 16 << 10;
/// The first bytes of a connection are read into this much.
const HEAD_PIECE_BYTES: usize = 2 << 10;
/// How much a refused client may still send, and for how long, before it is cut off.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

impl Response {
    /// An answer without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body }
    }

    /// As it is written.
    #[must_use]
    pub fn written(&self, method: &Method, close: bool) -> Vec<u8> {
        let mut out = start(self.status, &self.headers, close);
        if self.body.is_empty() && self.status != StatusCode::NO_CONTENT {
            out.extend_from_slice(b"content-length: 0\r\n");
        } else if self.status != StatusCode::NO_CONTENT {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(Decimal::new(self.body.len()).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if method != Method::HEAD {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

impl From<&Refusal> for Response {
    fn from(refusal: &Refusal) -> Self {
        let mut response = Self::json(refusal.status, refusal.message().into_bytes());
        if let Some(allow) = refusal.allow {
            response.headers.push((header::ALLOW, HeaderValue::from_static(allow)));
        }
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers.push((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S)));
        }
        response
    }
}

impl Connection {
    /// Takes a connection over.
    ///
    /// # Errors
    /// The connection is broken already.
    pub fn new(socket: Arc<Socket>, outgoing: Arc<Outgoing>, limits: Arc<Limits>, guard: Guard) -> io::Result<Self> {
        socket.prepare(limits.body_timeout)?;
        Ok(Self {
            socket,
            limits,
            buffer: Buffer::default(),
            fresh: true,
            read_timeout: Duration::ZERO,
            waker: None,
            outgoing,
            polls: false,
            known: None,
            taken: Taken::default(),
            guard,
        })
    }

    /// Waits for the next request and reads its head. A head that is refused is answered here; `None` means that
    /// the connection has ended.
    pub fn next_head(&mut self) -> Option<Head> {
        match self.read_head() {
            Ok(head) => Some(head),
            Err(Broken::Gone) => None,
            Err(Broken::Refused(refusal)) => {
                self.refuse(&refusal);
                None
            }
        }
    }

    fn read_head(&mut self) -> Result<Head, Broken> {
        // As nearly always: it has come whole while the last answer was written, and is like the last one.
        if let Some(head) = self.known_head() {
            return Ok(head);
        }
        if self.buffer.left().is_empty() {
            self.guard.place().wait(Instant::now());
            let limit = if self.fresh { self.limits.head_timeout } else { self.limits.idle_timeout };
            if !self.read(HEAD_PIECE_BYTES, limit)? || !self.guard.place().hear(Instant::now()) {
                return Err(Broken::Gone);
            }
            self.fresh = false;
            if let Some(head) = self.known_head() {
                return Ok(head);
            }
        } else {
            self.wait_for_rest()?;
        }
        let deadline = Instant::now() + self.limits.head_timeout;
        let end = loop {
            if let Some(end) = head::end(self.buffer.left()) {
                break end;
            }
            if head::is_foreign(self.buffer.left()) {
                return Err(refused(StatusCode::BAD_REQUEST, "this is no HTTP request"));
            }
            if self.buffer.left().len() > self.limits.header_bytes {
                break self.buffer.left().len();
            }
            if !self.read(HEAD_PIECE_BYTES, deadline.saturating_duration_since(Instant::now()))? {
                return Err(refused(StatusCode::REQUEST_TIMEOUT, "the request's head took too long"));
            }
        };
        if end > self.limits.header_bytes {
            return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too long"));
        }
        let bytes = &self.buffer.left()[..end];
        let head = head::read(bytes).map_err(Broken::Refused)?;
        self.known = Known::new(bytes, &head);
        self.buffer.consume(end);
        Ok(head)
    }

    /// A head that is the last one's again.
    fn known_head(&mut self) -> Option<Head> {
        let (length, head) = self.known.as_ref()?.again(self.buffer.left())?;
        self.buffer.consume(length);
        Some(head)
    }

    /// Something of a request is there and not all of it: until it is, others may need the place.
    fn wait_for_rest(&self) -> Result<(), Broken> {
        if self.guard.place().wait_for_rest(Instant::now()) { Ok(()) } else { Err(Broken::Gone) }
    }

    /// The whole of a request is there; says whether it is taken. One that was told to leave for another connection
    /// meanwhile brings none any more.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.guard.place().begin()
    }

    /// Reads a request's body, with which the request begins.
    ///
    /// # Errors
    /// It is too long, malformed, pauses for too long, or the client goes away.
    pub fn read_body(&mut self, body: Body) -> Result<Vec<u8>, Broken> {
        let body = self.read_framed(body)?;
        if self.begin() { Ok(body) } else { Err(Broken::Gone) }
    }

    /// The body has been handed over, or is not needed any more: others may have its memory.
    pub fn let_go(&mut self) {
        self.taken = Taken::default();
    }

    /// The body needs so much memory.
    fn cover(&mut self, bytes: usize) -> Result<(), Broken> {
        let budget = self.guard.budget();
        if !self.taken.cover(budget, bytes) {
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, CROWDED));
        }
        // What the others have taken may not be there yet.
        let others = budget.taken().saturating_sub(bytes);
        if memory::has_room_to_grow_beside(bytes, others) { Ok(()) } else { Err(no_memory()) }
    }

    fn read_framed(&mut self, body: Body) -> Result<Vec<u8>, Broken> {
        if body.framing != Framing::None && !memory::has_room(0) {
            return Err(no_memory());
        }
        match body.framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.limits.body_bytes {
                    return Err(too_long());
                }
                self.say_continue(body.expects_continue)?;
                self.read_length(length)
            }
            Framing::Chunked => {
                self.say_continue(body.expects_continue)?;
                self.read_chunks()
            }
        }
    }

    fn read_length(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        let mut body = self.buffer.take(length.min(self.buffer.left().len()));
        if body.len() == length {
            return Ok(body);
        }
        self.wait_for_rest()?;
        self.set_read_timeout(self.limits.body_timeout)?;
        while body.len() < length {
            let have = body.len();
            let next = length.min((have * 2).max(have + PIECE_BYTES));
            self.cover(next)?;
            body.reserve_exact(next - have);
            body.resize(next, 0);
            let mut filled = have;
            while filled < body.len() {
                match (&*self.socket).read(&mut body[filled..]) {
                    Ok(0) => return Err(Broken::Gone),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(paused()),
                    Err(_) => return Err(Broken::Gone),
                }
            }
            // So much more has come: it is no slow body that should leave for others. Drops of it do not count.
            if !self.guard.place().hear(Instant::now()) {
                return Err(Broken::Gone);
            }
        }
        Ok(body)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let (mut chunks, mut covered) = (Chunks::new(self.limits.body_bytes), 0);
        self.wait_for_rest()?;
        loop {
            let used = chunks.feed(self.buffer.left()).map_err(|fault| match fault {
                Fault::Malformed => refused(StatusCode::BAD_REQUEST, "the request's body has a malformed chunk"),
                Fault::TooLong => too_long(),
            })?;
            self.buffer.consume(used);
            if chunks.is_over() {
                return Ok(chunks.into_body());
            }
            if chunks.len() > covered {
                covered = (chunks.len() + chunks.len() / 4).min(self.limits.body_bytes);
                self.cover(covered)?;
            }
            if !self.read(PIECE_BYTES, self.limits.body_timeout)? {
                return Err(paused());
            }
        }
    }

    fn say_continue(&self, expected: bool) -> Result<(), Broken> {
        if expected && self.buffer.left().is_empty() {
            self.outgoing.turn().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Broken::Gone)?;
        }
        Ok(())
    }

    /// Answers the request; says whether the connection can go on.
    pub fn respond(&mut self, response: &Response, method: &Method, close: bool) -> bool {
        self.let_go();
        self.outgoing.turn().write_all(&response.written(method, close)).is_ok() && !close
    }

    /// Answers a request that cannot be read, and ends the connection. Who has the place keeps it until then.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.respond(&Response::from(refusal), &Method::GET, true);
        self.linger();
    }

    /// Answers a request whose body may be on its way still, and ends the connection. Others may have its place from the
    /// answer on.
    pub fn refuse_with(&mut self, response: &Response, method: &Method) {
        self.respond(response, method, true);
        self.guard.place().wait(Instant::now());
        self.linger();
    }

    /// The client has been told that the connection ends.
    fn linger(&mut self) {
        // Closing now would reset the connection while the client still writes, and it would not read the answer.
        let _ = self.socket.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        let mut read = 0;
        while read < LINGER_BYTES {
            self.buffer.consume(self.buffer.left().len());
            if !matches!(self.read(PIECE_BYTES, deadline.saturating_duration_since(Instant::now())), Ok(true)) {
                return;
            }
            read += self.buffer.left().len();
        }
    }

    /// The socket, for a stream on it.
    #[must_use]
    pub fn socket(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    /// What goes out, for a stream on it.
    #[must_use]
    pub fn outgoing(&self) -> Arc<Outgoing> {
        self.outgoing.clone()
    }

    /// What wakes this connection's thread while it keeps a stream; made once.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn waker(&mut self) -> io::Result<Arc<Waker>> {
        if let Some(waker) = &self.waker {
            return Ok(waker.clone());
        }
        let waker = Arc::new(Waker::new()?);
        self.waker = Some(waker.clone());
        Ok(waker)
    }

    /// Whether something of the next request was read already.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.buffer.left().is_empty()
    }

    /// Whether the client has closed the connection, as far as can be told without waiting for it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match system::peek_now(self.socket.as_fd()) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Which connection it is.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.guard.number()
    }

    /// Who the client is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.socket.peer()
    }

    /// Reads once into the buffer; says whether anything came within the limit.
    fn read(&mut self, least: usize, limit: Duration) -> Result<bool, Broken> {
        // Most waits are short: a timeout that ends before the limit is not changed before it has passed.
        let until = (self.read_timeout < limit && !self.read_timeout.is_zero()).then(|| Instant::now() + limit);
        if until.is_none() {
            self.set_read_timeout(limit)?;
        }
        self.flush()?;
        loop {
            match (&*self.socket).read(self.buffer.room(least)) {
                Ok(read @ 1..) => {
                    self.buffer.filled += read;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
                    if left.is_zero() {
                        return Ok(false);
                    }
                    self.set_read_timeout(left)?;
                }
                Ok(_) | Err(_) => return Err(Broken::Gone),
            }
        }
    }

    /// Waits for the next request while the last one is being answered.
    pub fn receive(&mut self, limit: Duration) -> Received {
        if self.set_read_timeout(limit).is_err() {
            return Received::End;
        }
        match (&*self.socket).read(self.buffer.room(HEAD_PIECE_BYTES)) {
            Ok(read @ 1..) => {
                self.buffer.filled += read;
                Received::Input
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Received::Nothing
            }
            Ok(_) | Err(_) => Received::End,
        }
    }

    /// The client may wait for the rest of an earlier answer before it says more.
    fn flush(&self) -> Result<(), Broken> {
        match self.outgoing.try_turn() {
            Some(mut turn) if turn.waiting() > 0 => turn.write_all(b"").map_err(|_| Broken::Gone),
            _ => Ok(()),
        }
    }

    fn set_read_timeout(&mut self, limit: Duration) -> Result<(), Broken> {
        let limit = limit.max(Duration::from_millis(1)); // none at all would mean no limit
        if limit != self.read_timeout {
            self.socket.set_read_timeout(Some(limit)).map_err(|_| Broken::Gone)?;
            self.read_timeout = limit;
        }
        Ok(())
    }
}

/// A number in decimal digits, without the memory that formatting it would take.
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The digits of `number`.
    #[must_use]
    pub fn new(mut number: usize) -> Self {
        let mut decimal = Self { digits: [b'0'; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b"0123456789"[number % 10];
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    /// As they are written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// Headers as they are written, a line each.
#[must_use]
pub fn head_lines(headers: &[(HeaderName, HeaderValue)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The status line and the headers, without the empty line at their end.
#[must_use]
fn start(status: StatusCode, headers: &[(HeaderName, HeaderValue)], close: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(&head_lines(headers));
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out
}

fn refused(status: StatusCode, reason: &str) -> Broken {
    Broken::Refused(Refusal::new(status, reason))
}

fn too_long() -> Broken {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "the message is too long; --max-message-bytes allows longer ones")
}

fn no_memory() -> Broken {
    refused(StatusCode::SERVICE_UNAVAILABLE, NO_MEMORY)
}

fn paused() -> Broken {
    refused(StatusCode::REQUEST_TIMEOUT, "the request's body paused for too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal_digits() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, usize::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
