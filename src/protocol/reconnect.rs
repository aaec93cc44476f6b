//! When a remote server is connected to, and what its client's messages wait for meanwhile.
//!
//! ```text
//!          ┌───── it is time, or a client that begins a session wants it ─────┐
//!          ▼                                                                  │
//!     Connecting ──a link──▶ Replaying ──answered──▶ Sending ──all sent──▶ Up │
//!          │ failed             │ failed, lost          │ lost           lost │
//!          └────────────────────┴───────────────────────┴──────────────────┴▶ Down
//! ```
//!
//! After a lost link the session is begun again behind the client's back: the first `initialize` in the client's
//! own bytes, its answer is swallowed, then `notifications/initialized`, then what waited, in order. Before
//! anything was begun there is nothing to begin again: the first attempt goes straight to Sending, and when it
//! fails, the next `initialize` of the client makes the next one, or its next modern request, which stands alone.
//!
//! Always: what waits is bounded; nothing is handed out twice; when a link is lost or an attempt fails, nothing
//! waits any more, so that whoever answers all that is open answers each request once.

use super::era::Era;
use super::message::{Id, Kind, Message};
use super::retry::Retry;
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Messages that may wait for a connection.
pub const WAITING_MESSAGES: usize = 1024;
/// Bytes of messages that may wait for a connection; one message may be larger.
pub const WAITING_BYTES: usize = 16 << 20;
/// The shortest time from one attempt's outcome to the next attempt, however much a client wants it.
pub const PAUSE: Duration = Duration::from_millis(500);

/// The number of one attempt to connect, and of the link that came of it.
pub type Attempt = u64;

/// What to do with a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum ToServer {
    /// Send it over the link.
    Send(Message),
    /// It waits here. The next attempt may be due earlier than it was.
    Wait,
    /// Send it to nobody: there is no session that it could belong to.
    Drop,
    /// Send it to nobody and answer it with an error, for this reason.
    Refuse(Message, String),
}

/// What to do with a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum FromServer {
    /// Pass it on.
    Relay,
    /// It is the answer to our own `initialize`: the session is there again, send what [`Reconnect::next`] gives.
    Restored,
    /// It is the refusal of our own `initialize`: the link is of no use.
    Refused,
}

/// What to do about the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Connect now.
    Connect(Attempt),
    /// Ask again at that time, or earlier when a message waits.
    At(Instant),
    /// Ask again when a message waits or the link is lost.
    Idle,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Connecting,
    Replaying,
    Sending,
    Up,
    Down { due: Option<Instant>, why: String },
}

/// One `initialize` of the client.
#[derive(Debug, Clone)]
struct Handshake {
    id: Id,
    message: Message,
}

/// The connection of one client to one remote server.
#[derive(Debug)]
pub struct Reconnect {
    phase: Phase,
    attempt: Attempt,
    /// When the last attempt had its outcome.
    tried: Option<Instant>,
    retry: Retry,
    /// An `initialize` that is not answered yet.
    begun: Option<Handshake>,
    /// The `initialize` of the session that the client believes to have.
    handshake: Option<Handshake>,
    /// The `notifications/initialized` that followed it.
    initialized: Option<Message>,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
}

impl Reconnect {
    /// A connection that is due at `now`.
    #[must_use]
    pub fn new(retry: Retry, now: Instant) -> Self {
        Self {
            phase: Phase::Down { due: Some(now), why: String::new() },
            attempt: 0,
            tried: None,
            retry,
            begun: None,
            handshake: None,
            initialized: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// A message of the client that may pass.
    pub fn client(&mut self, message: Message, now: Instant) -> ToServer {
        match (message.kind(), message.method()) {
            (Kind::Request { id, .. }, Some("initialize")) => {
                self.begun = Some(Handshake { id: id.clone(), message: message.clone() });
                if matches!(self.phase, Phase::Down { .. } | Phase::Connecting) {
                    // A client that begins anew does not want the old session back.
                    self.handshake = None;
                    self.initialized = None;
                }
                if let Phase::Down { due, .. } = &mut self.phase {
                    *due = Some(now);
                }
            }
            (Kind::Request { .. }, _) if Era::of(&message) == Some(Era::Modern) => {
                if let Phase::Down { due: due @ None, .. } = &mut self.phase {
                    *due = Some(self.tried.map_or(now, |tried| (tried + PAUSE).max(now)));
                }
            }
            (Kind::Notification { .. }, Some("notifications/initialized")) => {
                self.initialized = Some(message.clone());
                if self.will_replay() {
                    return ToServer::Wait;
                }
            }
            _ => {}
        }
        self.send_or_wait(message, now)
    }

    fn send_or_wait(&mut self, message: Message, now: Instant) -> ToServer {
        let is_request = matches!(message.kind(), Kind::Request { .. });
        match &mut self.phase {
            Phase::Up => return ToServer::Send(message),
            Phase::Down { due: None, why } if is_request => {
                let why = why.clone();
                return ToServer::Refuse(message, why);
            }
            Phase::Down { due: None, .. } => return ToServer::Drop,
            Phase::Down { due: Some(due), .. } if is_request => {
                *due = self.tried.map_or(now, |tried| (tried + PAUSE).max(now)).min(*due);
            }
            _ => {}
        }
        let bytes = self.waiting_bytes.saturating_add(message.bytes().len());
        if self.waiting.len() >= WAITING_MESSAGES || bytes > WAITING_BYTES && !self.waiting.is_empty() {
            return if is_request {
                ToServer::Refuse(message, "too much waits for the connection to the server already".into())
            } else {
                ToServer::Drop
            };
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(message);
        ToServer::Wait
    }

    /// What to do about the connection now. Each attempt is given once.
    pub fn next_attempt(&mut self, now: Instant) -> Next {
        match self.phase {
            Phase::Down { due: Some(due), .. } if due <= now => {
                self.phase = Phase::Connecting;
                self.attempt += 1;
                Next::Connect(self.attempt)
            }
            Phase::Down { due: Some(due), .. } => Next::At(due),
            _ => Next::Idle,
        }
    }

    /// The attempt has made a link. What is to be sent first, if a session is to be begun again.
    pub fn connected(&mut self, attempt: Attempt, now: Instant) -> Option<Message> {
        if attempt != self.attempt || self.phase != Phase::Connecting {
            return None;
        }
        self.tried = Some(now);
        self.phase = if self.handshake.is_some() { Phase::Replaying } else { Phase::Sending };
        self.handshake.as_ref().map(|handshake| handshake.message.clone())
    }

    /// The next message that waited for this very link; `None` when there is none, and then the link is up.
    pub fn next(&mut self, attempt: Attempt) -> Option<Message> {
        if attempt != self.attempt || self.phase != Phase::Sending {
            return None;
        }
        let Some(message) = self.waiting.pop_front() else {
            self.phase = Phase::Up;
            self.retry.reset();
            return None;
        };
        self.waiting_bytes -= message.bytes().len();
        Some(message)
    }

    /// A message of the server that came over this very link.
    pub fn server(&mut self, attempt: Attempt, message: &Message) -> FromServer {
        let Kind::Response { id: Some(id) } = message.kind() else { return FromServer::Relay };
        let answers = |handshake: &Handshake| attempt == self.attempt && id.may_be(&handshake.id);
        if self.phase == Phase::Replaying && self.handshake.as_ref().is_some_and(answers) {
            if is_error(message) {
                return FromServer::Refused;
            }
            self.phase = Phase::Sending;
            if let Some(initialized) = self.initialized.clone() {
                self.waiting_bytes += initialized.bytes().len();
                self.waiting.push_front(initialized);
            }
            return FromServer::Restored;
        }
        if let Some(begun) = self.begun.take_if(|begun| answers(begun))
            && !is_error(message)
        {
            self.handshake = Some(begun);
        }
        FromServer::Relay
    }

    /// The attempt failed, or its link is lost. Says whether that is news; if so, nothing waits any more and all
    /// that is open is to be answered with an error.
    pub fn lost(&mut self, attempt: Attempt, why: &str, now: Instant) -> bool {
        if attempt != self.attempt || matches!(self.phase, Phase::Down { .. }) {
            return false;
        }
        if self.phase == Phase::Connecting {
            self.tried = Some(now);
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.begun = None;
        let due = if self.handshake.is_some() {
            Some(now + self.retry.next())
        } else {
            self.initialized = None;
            None
        };
        self.phase = Phase::Down { due, why: why.to_owned() };
        true
    }

    /// How long the server wants its client to wait before it connects again.
    pub fn set_first_delay(&mut self, delay: Duration) {
        self.retry.set_first(delay);
    }

    /// Whether the client has a session that the next link, or this one, begins again.
    #[must_use]
    pub fn will_replay(&self) -> bool {
        self.handshake.is_some() && matches!(self.phase, Phase::Down { .. } | Phase::Connecting | Phase::Replaying)
    }
}

/// Whether a response is an error. Only an answer to `initialize` is ever asked.
fn is_error(response: &Message) -> bool {
    serde_json::from_slice::<HashMap<String, &RawValue>>(response.bytes())
        .is_ok_and(|members| members.contains_key("error"))
}

#[cfg(test)]
mod tests;
