//! One legacy client of a modern server: its requests cross with what the server must know of it in `_meta`, results
//! come back without what only modern clients know.
//!
//! ```text
//!   a request:  ──▶ at the server ──its result, an error──▶ the client
//!                    ▲    │    │
//!     again, under   │    │    └─ lose, undelivered ──▶ an error to the client
//!     another id     │    │ input_required, at most ROUNDS times
//!                    │    ▼
//!                   at the client, as questions of ours ──one is answered with an error, lose──▶ an error to the client
//!
//!   `initialize` is a request too: at the server it is `server/discover`. When the client cancels a request, the
//!   server hears of it where it has it, the client where it was asked, and it is forgotten.
//!
//!   the listening:  none ──something to hear of──▶ next ──acknowledged──▶ current
//!                    ▲                              │                       │ something else to hear of: a next one,
//!                    │  after a delay, or for good  │                       │ and this one ends when that is current
//!                    └──────────────────────────────┴───────────────────────┘ it ended, or nothing to hear of is left
//! ```
//!
//! What the server needs no more is answered here: `ping`, `logging/setLevel`, subscriptions to resources.
//!
//! Towards the server, requests have numbers of ours, each used once; progress tokens stay what the client made them.
//! Towards the client, questions have names of ours. The client stays when the server is lost: what it said in
//! `initialize`, its level and its subscriptions count for the next server.
//!
//! Always: every request that was taken is answered once, unless the client cancelled it; the server has one live round
//! of a request at most; what needs no change keeps its bytes; what is kept is bounded.

mod client;
mod from_client;
mod from_server;
mod greeting;
mod input;
mod listen;
mod subscribe;

use super::super::hub::Limits;
use super::super::message::{INTERNAL_ERROR, Id, Message};
use client::Client;
use input::{Question, Round};
use listen::Listening;
use std::collections::BTreeMap;
use std::time::Duration;

/// Times that a request is sent again because the server wants input for it.
pub const ROUNDS: u32 = 10;

/// What to do with a message that has crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crossed {
    /// Send it to the server.
    ToServer(Message),
    /// Hand it to the client.
    ToClient(Message),
}

/// One legacy client, and what is under way between it and a modern server.
#[derive(Debug, Clone)]
pub struct ToModern {
    limits: Limits,
    client: Client,
    /// The last number that was used towards the server, and the last one towards the client.
    last: u64,
    last_asked: u64,
    /// By the number of the latest round.
    calls: BTreeMap<u64, Call>,
    questions: BTreeMap<u64, Question>,
    listening: Listening,
    now: Duration,
}

/// A request of the client that is not answered.
#[derive(Debug, Clone)]
struct Call {
    id: Id,
    method: Box<str>,
    /// As the client sent it, where the server may want input for it and there is room.
    request: Option<Message>,
    /// Times that it was sent again.
    rounds: u32,
    /// What the client is asked; `None` while it is at the server.
    asking: Option<Round>,
}

impl ToModern {
    /// A client of which nothing is known yet, and a server that is there.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            client: Client::default(),
            last: 0,
            last_asked: 0,
            calls: BTreeMap::new(),
            questions: BTreeMap::new(),
            listening: Listening::default(),
            now: Duration::ZERO,
        }
    }

    /// A message could not be sent to the server: if the client waits for the answer, it gets an error in these words.
    pub fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Crossed>) {
        let (Some(id), Some(_)) = (message.id(), message.method()) else { return };
        let Some(number) = super::super::hub::whole(id) else { return };
        if self.listening.is(number) {
            self.listen_ended(number, None, why, out);
        } else if let Some(call) = self.calls.remove(&number) {
            out.push(call.fails(why));
        }
    }

    /// The server is lost: what is open is answered with an error in these words. The client stays what it is.
    pub fn lose(&mut self, why: &str, out: &mut Vec<Crossed>) {
        for (number, call) in std::mem::take(&mut self.calls) {
            self.withdraw(number, &call.id, why, out);
            out.push(call.fails(why));
        }
        self.listening.lose(why, out);
    }

    /// A fresh server is there: what the client wants to hear of is listened for again.
    pub fn restore(&mut self, out: &mut Vec<Crossed>) {
        self.listening.restore();
        self.listen(out);
    }

    /// The client is gone: what it left open is cancelled at the server. Nothing more goes to it.
    pub fn leave(&mut self, out: &mut Vec<Crossed>) {
        let calls = std::mem::take(&mut self.calls);
        let at_server = calls.iter().filter(|(_, call)| call.asking.is_none()).map(|(number, _)| *number);
        for number in at_server.chain(self.listening.numbers()) {
            out.push(Crossed::ToServer(cancelled(&Id::number(number), "its client is gone")));
        }
        self.questions.clear();
        self.listening = Listening::default();
    }

    /// Tells the time, which runs from any beginning; to be called before anything else is, and when what it said has
    /// come. Says when there may be something to do next.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Crossed>) -> Option<Duration> {
        self.now = now;
        self.keep_listening(out);
        self.next_time()
    }

    /// When there may be something to do next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.listening.next_time()
    }

    /// How many requests of the client are not answered.
    #[must_use]
    pub fn open(&self) -> usize {
        self.calls.len() + self.listening.waiting()
    }

    /// A number that was not used towards the server.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether this many bytes more may be kept for requests that the server may want input for.
    fn has_room_for(&self, bytes: usize) -> bool {
        let kept: usize = self.calls.values().map(Call::kept_bytes).sum();
        kept == 0 || kept.saturating_add(bytes) <= self.limits.waiting_bytes
    }
}

impl Call {
    /// Its answer, where it cannot go on.
    fn fails(&self, why: &str) -> Crossed {
        Crossed::ToClient(Message::error(Some(&self.id), INTERNAL_ERROR, why))
    }

    fn kept_bytes(&self) -> usize {
        let request = self.request.as_ref().map_or(0, |request| request.bytes().len());
        request + self.asking.as_ref().map_or(0, Round::kept_bytes)
    }
}

/// Whoever has this request need not go on with it.
fn cancelled(id: &Id, why: &str) -> Message {
    let (id, why) = (id.as_json(), serde_json::Value::from(why));
    Message::notification("notifications/cancelled", &format!(r#"{{"requestId":{id},"reason":{why}}}"#))
}

#[cfg(test)]
mod tests;
