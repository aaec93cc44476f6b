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
//! take waits, bounded, for the connection's own thread (or one that is begun for it, see `keep`), which also sends
//! comments, sees the client go, and ends the stream. So a slow reader costs its own stream and nobody's time. An answer that the socket takes at once
//! wakes nobody: the connection's thread learns of it with the client's next request.

mod keep;

use super::http::{Connection, Decimal, head_lines};
use super::listener::Limits;
use super::outgoing::{Outgoing, Turn};
use super::socket::Socket;
use crate::log;
use crate::protocol::session::Awaits;
use crate::system::Waker;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use ureq_proto::http::{HeaderName, HeaderValue, StatusCode};

/// The answer to one request, event stream or not.
pub struct Stream {
    this: Weak<Self>,
    socket: Arc<Socket>,
    outgoing: Arc<Outgoing>,
    waker: Arc<Waker>,
    keep_alive: Duration,
    limit: usize,
    form: Form,
    /// Lines of the head, beyond those that every answer has.
    head: Vec<u8>,
    /// Locked for a look or a change only, and while it is this stream's turn to write where the phase changes.
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
    phase: Phase,
    /// Whether the connection's thread sees the client's next request come. Else it must be woken at the end.
    watched: bool,
    /// It sees nothing else: it waits for that in a read.
    receiving: bool,
    /// The thread that writes what waits meanwhile.
    aside: Option<JoinHandle<()>>,
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
    ) -> io::Result<Arc<Self>> {
        let (socket, waker) = (connection.socket(), connection.waker()?);
        let watched = !connection.has_input();
        Ok(Arc::new_cyclic(|this| Self {
            this: this.clone(),
            socket,
            outgoing: connection.outgoing(),
            waker,
            // Half of the time until a comment is sent, half until it must have been acknowledged.
            keep_alive: limits.keep_alive / 2,
            limit: limits.stream_bytes,
            form,
            head: head_lines(headers),
            state: Mutex::new(State { phase: Phase::Silent, watched, receiving: false, aside: None }),
        }))
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
        self.say_json(JSON, body)
    }

    /// The same with a status that is not 200.
    pub fn answer_as(&self, status: StatusCode, body: &[u8]) -> bool {
        let reason = status.canonical_reason().unwrap_or_default();
        let head = format!("HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n", status.as_u16());
        self.say_json(head.as_bytes(), body)
    }

    fn say_json(&self, head: &[u8], body: &[u8]) -> bool {
        let turn = self.outgoing.turn();
        if !self.form.json || !self.change(Phase::Silent, Phase::Ended) {
            return false;
        }
        let (name, length) = (b"content-length: ", Decimal::new(body.len()));
        self.say_last(turn, [head, &self.head, self.close(), name, length.as_bytes(), b"\r\n\r\n", body])
    }

    /// Sends events as they were encoded; says whether the client was there to take them.
    pub fn send(&self, events: &[u8]) -> bool {
        let mut turn = self.outgoing.turn();
        let mut parts: [&[u8]; 7] = [b""; 7];
        {
            let mut state = self.state();
            match state.phase {
                Phase::Ended | Phase::Broken => return false,
                _ if !self.form.events => return false,
                Phase::Open | Phase::Ending => {}
                Phase::Silent => {
                    state.phase = Phase::Open;
                    (parts[0], parts[1], parts[2]) = (EVENTS, &self.head, self.close());
                    parts[3] = if self.form.old { b"\r\n" } else { b"transfer-encoding: chunked\r\n\r\n" };
                }
            }
        }
        let size = format!("{:x}\r\n", events.len());
        if self.form.old {
            parts[5] = events;
        } else if !events.is_empty() {
            (parts[4], parts[5], parts[6]) = (size.as_bytes(), events, b"\r\n");
        }
        let waited = turn.waiting();
        if waited > 0 && (waited + events.len() > self.limit || !turn.has_room(events.len())) {
            log::warning(format_args!("a client does not read its stream: {waited} bytes wait, the stream is closed"));
            self.break_off();
            return false;
        }
        if turn.write(&parts).is_err() {
            self.break_off();
            return false;
        }
        if waited == 0 && turn.waiting() > 0 {
            self.rouse(); // else the connection's thread waits for room already
        }
        true
    }

    /// Ends the stream after what was sent. Where nothing was, there is no answer to be given any more.
    pub fn end(&self) {
        let turn = self.outgoing.turn();
        if self.form.events && self.state().phase == Phase::Silent {
            drop(turn);
            self.send(b"");
            return self.end();
        }
        if self.change(Phase::Silent, Phase::Ended) {
            self.say_last(turn, [ACCEPTED, &self.head, self.close(), b"content-length: 0\r\n\r\n"]);
        } else if turn.waiting() == 0 && !self.form.close && self.change(Phase::Open, Phase::Ended) {
            self.say_last(turn, [b"0\r\n\r\n"]);
        } else if self.change(Phase::Open, Phase::Ending) {
            self.rouse();
        }
    }

    fn close(&self) -> &'static [u8] {
        if self.form.close { CLOSE } else { b"" }
    }

    /// Changes the phase if it is `from`; says whether it was.
    fn change(&self, from: Phase, to: Phase) -> bool {
        let mut state = self.state();
        let is_so = state.phase == from;
        if is_so {
            state.phase = to;
        }
        is_so
    }

    /// The client is gone, or does not read.
    fn break_off(&self) {
        self.state().phase = Phase::Broken;
        self.rouse();
    }

    /// Writes the last that is said, the phase being that of the end; says whether the client is there. When the
    /// client reads it, the connection's thread must be free to take the next request: it is not locked out meanwhile.
    fn say_last<const N: usize>(&self, mut turn: Turn<'_>, parts: [&[u8]; N]) -> bool {
        if turn.write(&parts).is_err() {
            self.break_off();
            return false;
        }
        let waits = turn.waiting() > 0;
        drop(turn);
        if waits || self.form.close || !self.state().watched {
            self.rouse();
        }
        true
    }

    /// Another stream takes its place: what waits is lost.
    pub fn replace(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Ended | Phase::Broken) {
            state.phase = Phase::Broken;
            drop(state);
            self.rouse();
        }
    }

    /// What its connection's thread waits for now.
    #[must_use]
    pub fn awaits(&self) -> Awaits {
        match self.state().phase {
            Phase::Ended | Phase::Broken => return Awaits::NoMore,
            Phase::Ending => return Awaits::Aside,
            Phase::Silent | Phase::Open => {}
        }
        // Something of an earlier answer may wait, too.
        let is_idle = self.outgoing.try_turn().is_some_and(|turn| turn.waiting() == 0);
        if is_idle { Awaits::Still } else { Awaits::Aside }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
