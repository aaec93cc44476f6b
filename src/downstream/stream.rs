//! The answer to one request whose content comes from a session: JSON as a whole, or server-sent events (MCP
//! 2024-11-05 "HTTP with SSE", 2025-03-26 and later "Streamable HTTP", `basic/transports`).
//!
//! ```text
//!            an answer with nothing before it
//!   Silent ──────────────────────────────────────────▶ Ended
//!      │ an event, or nothing for too long                ▲
//!      ▼                            end()                 │ all is written
//!     Open ────────────────────────────────▶ Ending ──────┘
//!      └── any of them: the client is gone, or does not read ──▶ Broken
//! ```
//!
//! Whoever has something to say writes it to the socket directly, without ever waiting. What the socket does not
//! take waits, bounded, for the connection's own thread, which also sends comments, sees the client go, and ends
//! the stream. So a slow reader costs its own stream and nobody's time. An answer that the socket takes at once
//! wakes nobody: the connection's thread learns of it with the client's next request.

use super::http::{Connection, head_lines};
use super::listener::Limits;
use crate::log;
use crate::protocol::backlog::Backlog;
use crate::protocol::sse;
use crate::system::{self, Poll, Waker};
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq_proto::http::{HeaderName, HeaderValue};

/// The answer to one request, event stream or not.
pub struct Stream {
    socket: Arc<TcpStream>,
    waker: Arc<Waker>,
    keep_alive: Duration,
    limit: usize,
    form: Form,
    /// Lines of the head, beyond those that every answer has.
    head: Vec<u8>,
    state: Mutex<State>,
}

/// What the client takes and how it finds the end.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the request")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The client takes JSON.
    pub json: bool,
    /// The client takes events.
    pub events: bool,
    /// The connection ends with the answer.
    pub close: bool,
    /// The client speaks HTTP/1.0: a stream has no chunks, and ends with the connection.
    pub old: bool,
    /// What the client says meanwhile is the next request; on a stream that was asked for by GET it means nothing.
    pub reply: bool,
}

struct State {
    /// What the socket did not take yet.
    waiting: Backlog,
    phase: Phase,
    /// Whether the connection's thread sees the client's next request come. Else it must be woken at the end.
    watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is said: what comes first decides what the answer is.
    Silent,
    /// It is an event stream.
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
const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\n";
const JSON: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\n";
const CLOSE: &[u8] = b"connection: close\r\n";

impl Stream {
    /// An answer of which nothing is sent yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(
        connection: &mut Connection,
        limits: &Limits,
        form: Form,
        headers: &[(HeaderName, HeaderValue)],
    ) -> io::Result<Self> {
        let (socket, waker) = (connection.socket(), connection.waker()?);
        let watched = !connection.has_input();
        Ok(Self {
            socket,
            waker,
            // Half of the time until a comment is sent, half until it must have been acknowledged.
            keep_alive: limits.keep_alive / 2,
            limit: limits.stream_bytes,
            form,
            head: head_lines(headers),
            state: Mutex::new(State { waiting: Backlog::default(), phase: Phase::Silent, watched }),
        })
    }

    /// Whether it can be answered with JSON: nothing was said before, and the client takes it.
    #[must_use]
    pub fn takes_json(&self) -> bool {
        self.form.json && self.state().phase == Phase::Silent
    }

    /// Whether the client takes events, and something may still be said.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.form.events && matches!(self.state().phase, Phase::Silent | Phase::Open | Phase::Ending)
    }

    /// Answers with JSON, if nothing was said before; says whether it was so and the client is there.
    pub fn answer(&self, body: &[u8]) -> bool {
        let mut state = self.state();
        if !self.form.json || state.phase != Phase::Silent {
            return false;
        }
        let length = format!("content-length: {}\r\n\r\n", body.len());
        let close = if self.form.close { CLOSE } else { b"" };
        self.last(&mut state, [JSON, &self.head, close, length.as_bytes(), body]);
        let is_there = state.phase != Phase::Broken;
        drop(state);
        is_there
    }

    /// Sends events as they were encoded; says whether the client was there to take them.
    pub fn send(&self, events: &[u8]) -> bool {
        let mut state = self.state();
        if matches!(state.phase, Phase::Ended | Phase::Broken) || !self.form.events {
            return false;
        }
        let mut parts: [&[u8]; 7] = [b""; 7];
        if state.phase == Phase::Silent {
            state.phase = Phase::Open;
            parts[0] = EVENTS;
            parts[1] = &self.head;
            parts[2] = if self.form.close { CLOSE } else { b"" };
            parts[3] = if self.form.old { b"\r\n" } else { b"transfer-encoding: chunked\r\n\r\n" };
        }
        let size = format!("{:x}\r\n", events.len());
        if self.form.old {
            parts[5] = events;
        } else if !events.is_empty() {
            (parts[4], parts[5], parts[6]) = (size.as_bytes(), events, b"\r\n");
        }
        let waited = state.waiting.len();
        let needs_thread = if waited > 0 && waited + events.len() > self.limit {
            log::warning(format_args!("a client does not read its stream: {waited} bytes wait, the stream is closed"));
            state.phase = Phase::Broken;
            true
        } else {
            // The connection's thread waits for room already, if something waited.
            state.write(&self.socket, &parts) && waited == 0 || state.phase == Phase::Broken
        };
        let taken = state.phase != Phase::Broken;
        drop(state);
        if needs_thread {
            self.waker.wake();
        }
        taken
    }

    /// Ends the stream after what was sent. Where nothing was, there is no answer to be given any more.
    pub fn end(&self) {
        let mut state = self.state();
        match state.phase {
            Phase::Silent if self.form.reply && !self.form.events => {
                let close = if self.form.close { CLOSE } else { b"" };
                self.last(&mut state, [ACCEPTED, &self.head, close, b"content-length: 0\r\n\r\n", b""]);
                return;
            }
            Phase::Silent => {
                drop(state);
                self.send(b"");
                return self.end();
            }
            Phase::Open if !state.waiting.is_empty() || self.form.old || self.form.close => {
                state.phase = Phase::Ending;
            }
            Phase::Open => return self.last(&mut state, [b"0\r\n\r\n", b"", b"", b"", b""]),
            Phase::Ending | Phase::Ended | Phase::Broken => return,
        }
        drop(state);
        self.waker.wake();
    }

    /// Another stream takes its place: what waits is lost.
    pub fn replace(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Ended | Phase::Broken) {
            state.phase = Phase::Broken;
            drop(state);
            self.waker.wake();
        }
    }

    /// Writes the last that is said.
    fn last(&self, state: &mut State, parts: [&[u8]; 5]) {
        state.phase = Phase::Ended;
        if state.write(&self.socket, &parts) || !state.watched || self.form.close {
            self.waker.wake();
        }
    }

    /// Keeps the stream going on the connection's thread, until it is over. `quiet` is called when nothing was said
    /// for so long that somebody in between may lose patience.
    pub fn run(&self, quiet: impl Fn()) -> Over {
        let over = self.keep(quiet);
        if over == Over::Gone {
            self.state().phase = Phase::Broken;
            let _ = self.socket.shutdown(Shutdown::Both);
        } else if self.form.close {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        over
    }

    fn keep(&self, quiet: impl Fn()) -> Over {
        let mut comment_at = Instant::now() + self.keep_alive;
        let mut end_by = None;
        loop {
            let (waiting, phase, watched) = {
                let mut state = self.state();
                if state.write_waiting(&self.socket).is_err() {
                    return Over::Gone;
                }
                if state.phase == Phase::Ending && state.waiting.is_empty() {
                    state.phase = Phase::Ended;
                    if !self.form.old {
                        state.write(&self.socket, &[b"0\r\n\r\n"]);
                    }
                }
                if state.phase == Phase::Ended && state.waiting.is_empty() {
                    return Over::Ended;
                }
                (state.waiting.len(), state.phase, state.watched)
            };
            let now = Instant::now();
            match phase {
                Phase::Broken => return Over::Gone,
                Phase::Ending | Phase::Ended => match end_by {
                    Some((by, left)) if by <= now && waiting >= left => return Over::Gone,
                    Some((by, _)) if by > now => {}
                    // A long answer may take its time, as long as it moves.
                    _ => end_by = Some((now + END_TIMEOUT, waiting)),
                },
                Phase::Silent | Phase::Open if comment_at <= now => {
                    comment_at = now + self.keep_alive;
                    if system::is_silent(self.socket.as_fd(), self.keep_alive) {
                        return Over::Gone;
                    }
                    if phase == Phase::Silent {
                        quiet();
                    } else if waiting == 0 {
                        let mut comment = Vec::new();
                        sse::encode_comment(&mut comment, "");
                        self.send(&comment);
                    }
                    continue;
                }
                Phase::Silent | Phase::Open => {}
            }
            let until = end_by.map_or(comment_at, |(by, _)| by);
            let limit = until.saturating_duration_since(now);
            if self.wait(waiting > 0, watched, phase, limit) == Some(Over::Gone) {
                return Over::Gone;
            }
        }
    }

    /// Waits for room, for the client's end or its next request, or for a wake. At the end the client need not be
    /// there to send, only to read.
    fn wait(&self, waiting: bool, watched: bool, phase: Phase, limit: Duration) -> Option<Over> {
        let socket = self.socket.as_fd();
        let is_ending = matches!(phase, Phase::Ending | Phase::Ended);
        let poll = match (watched && !is_ending, waiting || is_ending) {
            (true, false) => Poll::readable(socket),
            (true, true) => Poll::both(socket),
            (false, true) => Poll::writable(socket),
            (false, false) => Poll::hangup(socket),
        };
        let mut polls = [poll, Poll::readable(self.waker.as_fd())];
        system::poll(&mut polls, Some(limit)).ok()?;
        if polls[1].is_readable() {
            self.waker.clear();
            return None; // the phase may be another one now
        }
        if polls[0].is_readable() { self.look(watched) } else { None }
    }

    /// Finds out why there is something to read.
    fn look(&self, watched: bool) -> Option<Over> {
        let socket = self.socket.as_fd();
        let seen = if self.form.reply {
            let mut state = self.state();
            if state.phase == Phase::Ended && state.waiting.is_empty() {
                return None; // it is the next request
            }
            let seen = system::peek_now(socket);
            if matches!(seen, Ok(1..)) {
                state.watched = false; // it can wait
                return if watched { None } else { Some(Over::Gone) };
            }
            seen
        } else {
            // Nothing that a client says on such a stream means anything, except that it is gone.
            system::receive_now(socket, &mut [0; 1024])
        };
        match seen {
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
}

impl State {
    /// Writes what the socket takes of `parts` at once; says whether the connection's thread has something to do.
    fn write<const N: usize>(&mut self, socket: &TcpStream, parts: &[&[u8]; N]) -> bool {
        let mut parts = parts.map(IoSlice::new);
        let sent = self.waiting.send(&mut parts, |parts| system::send_now(socket.as_fd(), parts));
        if sent.is_err() {
            self.phase = Phase::Broken;
        }
        sent.is_err() || !self.waiting.is_empty()
    }

    fn write_waiting(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.waiting.write(|bytes| system::send_now(socket.as_fd(), &[IoSlice::new(bytes)]))
    }
}
