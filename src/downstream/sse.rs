//! An event stream: one open HTTP response that carries server-sent events (MCP 2024-11-05, `basic/transports`).
//!
//! Whoever has a message writes it to the socket directly, without ever waiting. What the socket does not take
//! waits, bounded, for the stream's own thread, which also sends comments, sees the client go, and ends the
//! stream. So a slow reader costs its own stream and nobody's time.

use super::http::{Connection, start};
use super::listener::Limits;
use crate::log;
use crate::protocol::backlog::Backlog;
use crate::protocol::message::Message;
use crate::protocol::sse;
use crate::system::{self, Poll, Waker};
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq_proto::http::{HeaderName, HeaderValue, StatusCode, header};

/// One event stream.
pub struct Stream {
    socket: Arc<TcpStream>,
    waker: Waker,
    keep_alive: Duration,
    limit: usize,
    framing: Framing,
    state: Mutex<State>,
}

/// How the client finds the end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// HTTP/1.1: a chunk an event; the empty chunk ends it, so that a broken stream is seen to be one.
    Chunks,
    /// HTTP/1.0: the end of the connection.
    Close,
}

struct State {
    /// What the socket did not take yet.
    waiting: Backlog,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What waits is still sent, and what is said now.
    Ending,
    /// The end itself is said; nothing can follow it.
    Ended,
    Broken,
}

/// Why a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// We ended it.
    Ended,
    /// The client closed it, is not there any more, or does not read.
    Gone,
}

/// How long the last events may take to be written.
const END_TIMEOUT: Duration = Duration::from_secs(1);

impl Stream {
    /// Prepares the stream; nothing is sent before [`Stream::run`], so that what is sent meanwhile follows `events`.
    ///
    /// # Errors
    /// No descriptor is left, or the connection is broken.
    pub fn new(
        connection: &mut Connection,
        limits: &Limits,
        http10: bool,
        cors: &[(HeaderName, HeaderValue)],
        events: &[u8],
    ) -> io::Result<Self> {
        let socket = connection.socket();
        let framing = if http10 { Framing::Close } else { Framing::Chunks };
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        headers.extend_from_slice(cors);
        if framing == Framing::Chunks {
            headers.push((header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
        }
        let mut waiting = Backlog::default();
        waiting.push(&start(StatusCode::OK, &headers, true));
        waiting.push(b"\r\n");
        for part in framing.frame(events, &mut String::new()) {
            waiting.push(part);
        }
        Ok(Self {
            socket,
            waker: Waker::new()?,
            // Half of the time until a comment is sent, half until it must have been acknowledged.
            keep_alive: limits.keep_alive / 2,
            limit: limits.stream_bytes,
            framing,
            state: Mutex::new(State { waiting, phase: Phase::Open }),
        })
    }

    /// Sends a message; says whether the stream was there to take it.
    pub fn send(&self, message: &Message) -> bool {
        let mut event = Vec::with_capacity(message.bytes().len() + 32);
        sse::encode(&mut event, "message", None, message.bytes());
        self.push(&event)
    }

    /// Writes what is prepared, as far as the socket takes it.
    pub fn flush(&self) {
        // A failure is found again by the stream's thread.
        let _ = self.state().write_waiting(&self.socket);
    }

    /// Ends the stream after what was sent.
    pub fn end(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Ending;
        }
        drop(state);
        self.waker.wake();
    }

    /// Keeps the stream going on the connection's thread, until it is over.
    pub fn run(&self) -> Over {
        let over = self.keep();
        self.state().phase = Phase::Broken;
        if over != Over::Ended {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        over
    }

    fn keep(&self) -> Over {
        let mut comment_at = Instant::now() + self.keep_alive;
        let mut end_by = None;
        loop {
            let (waiting, phase) = {
                let mut state = self.state();
                if state.write_waiting(&self.socket).is_err() {
                    return Over::Gone;
                }
                if state.phase == Phase::Ending && state.waiting.is_empty() {
                    state.phase = Phase::Ended;
                    state.write(&self.socket, self.framing.end());
                }
                if state.phase == Phase::Ended && state.waiting.is_empty() {
                    let _ = self.socket.shutdown(Shutdown::Write);
                    return Over::Ended;
                }
                (!state.waiting.is_empty(), state.phase)
            };
            let now = Instant::now();
            match phase {
                Phase::Broken => return Over::Gone,
                Phase::Ending | Phase::Ended if end_by.is_some_and(|by| by <= now) => return Over::Gone,
                Phase::Ending | Phase::Ended => end_by = end_by.or(Some(now + END_TIMEOUT)),
                Phase::Open if comment_at <= now => {
                    comment_at = now + self.keep_alive;
                    if system::is_silent(self.socket.as_fd(), self.keep_alive) {
                        return Over::Gone;
                    }
                    if !waiting {
                        let mut comment = Vec::new();
                        sse::encode_comment(&mut comment, "");
                        self.push(&comment);
                        continue;
                    }
                }
                Phase::Open => {}
            }
            if self.wait(waiting, phase, end_by.unwrap_or(comment_at) - now) == Some(Over::Gone) {
                return Over::Gone;
            }
        }
    }

    /// Waits for room, for the client's end, or for a wake. At the end the client need not be there to send, only
    /// to read.
    fn wait(&self, waiting: bool, phase: Phase, limit: Duration) -> Option<Over> {
        let socket = self.socket.as_fd();
        let poll = match phase {
            Phase::Open if !waiting => Poll::readable(socket),
            Phase::Open => Poll::both(socket),
            _ => Poll::writable(socket),
        };
        let mut polls = [poll, Poll::readable(self.waker.as_fd())];
        system::poll(&mut polls, Some(limit)).ok()?;
        if polls[1].is_readable() {
            self.waker.clear();
            return None; // the phase may be another one now
        }
        if !polls[0].is_readable() {
            return None;
        }
        // Nothing that a client says on its stream means anything, except that it is gone.
        match system::receive_now(socket, &mut [0; 1024]) {
            Ok(0) => Some(Over::Gone),
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Some(Over::Gone)
            }
            _ => None,
        }
    }

    /// The lock is held for writes that do not wait, never longer.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &[u8]) -> bool {
        let mut size = String::new();
        let parts = self.framing.frame(event, &mut size);
        let mut state = self.state();
        if matches!(state.phase, Phase::Ended | Phase::Broken) {
            return false;
        }
        let waited = state.waiting.len();
        if waited > 0 && waited + event.len() > self.limit {
            log::warning(format_args!("a client does not read its stream: {waited} bytes wait, the stream is closed"));
            state.phase = Phase::Broken;
        } else if waited > 0 {
            state.write(&self.socket, parts);
            return true; // the stream's thread waits for room already
        } else if !state.write(&self.socket, parts) {
            return true;
        }
        let taken = state.phase != Phase::Broken;
        drop(state);
        self.waker.wake();
        taken
    }
}

impl Framing {
    /// The pieces in which an event is sent; `size` is room for the first one.
    fn frame<'a>(self, event: &'a [u8], size: &'a mut String) -> [&'a [u8]; 3] {
        match self {
            Self::Chunks => {
                *size = format!("{:x}\r\n", event.len());
                [size.as_bytes(), event, b"\r\n"]
            }
            Self::Close => [b"", event, b""],
        }
    }

    /// What tells the client that the stream has ended.
    fn end(self) -> [&'static [u8]; 3] {
        match self {
            Self::Chunks => [b"0\r\n\r\n", b"", b""],
            Self::Close => [b""; 3],
        }
    }
}

impl State {
    /// Writes what the socket takes of `parts` at once; says whether the stream's thread has something to do.
    fn write(&mut self, socket: &TcpStream, parts: [&[u8]; 3]) -> bool {
        let sent = self.waiting.send(&mut parts.map(IoSlice::new), |parts| system::send_now(socket.as_fd(), parts));
        if sent.is_err() {
            self.phase = Phase::Broken;
        }
        sent.is_err() || !self.waiting.is_empty()
    }

    fn write_waiting(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.waiting.write(|bytes| system::send_now(socket.as_fd(), &[IoSlice::new(bytes)]))
    }
}
