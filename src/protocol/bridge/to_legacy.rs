//! Modern clients of a legacy server: one link that we initialise, and what is under way over it.
//!
//! ```text
//!   the server:  Lost ──begin──▶ Beginning ──its answer──▶ Ready
//!                 ▲                  │  └──its refusal──▶ Refused
//!                 └──────lose────────┴──────────lose─────────┘
//!
//!   a call:      waiting ──Ready──▶ working, its client waits ──the server's answer──▶ its client
//!                   │                 │  ▲           └ cancelled, or its client leaves ──▶ a ghost
//!     questions     │   the server    │  │ the repeat
//!     are held      │   asks          ▼  │ that answers all
//!                   └──▶ parked, unsent ─┤            ┌──▶ parked, with what is left to ask
//!                        parked, working ┴─the repeat─┤
//!                          │    └ the server answers ─┴──▶ parked, answered ──the repeat──▶ its client
//!                          └ too old, or another request has its handle ──▶ a ghost
//!
//!   a question:  with a call, parked ──its answer in a repeat──▶ the server
//!                  ▲        └ too old, or its call is given up ──▶ an error to the server
//!                  └──the next call that may be asked── held, where all keys are one client's ──too old──▶ an error
//!
//!   a listen:    subscribing ──the server's answers──▶ acknowledged ──finish──▶ its result
//! ```
//!
//! The server believes that it has one client. What only a modern client says of itself is taken out of its requests;
//! what it may expect of a result is put in. A question of the server becomes the `input_required` that its call is
//! answered with; the repeat of the call brings the answer and goes on waiting for the one call that the server has
//! got. Whose a question is: the call on whose stream it came; else the only call that can be parked and that the
//! server works on, parked ones and ghosts included; with [`Settings::one_client`] the newest, and if there is none, it is
//! held and asked before the next such call is sent. Else the server gets an error. Requests that cannot be parked, such
//! as lists, do not count: the modern era cannot ask their clients anything, and a server that asks while it works on
//! one, which none is known to do, asks the one whose call is open. A log message is for the request on
//! whose stream it came; else for the only one that wants any; it is dropped below the level of that one.
//!
//! Always: every request that was taken is answered once, unless its client cancelled it or left; nobody gets a message
//! about another's request; every question is answered or withdrawn once; a handle is good for one repeat of one
//! request; what is kept is bounded, and what would be too much is refused in favour of what is there.

mod capabilities;
mod filter;
mod from_client;
mod from_server;
mod listens;
mod parked;
mod questions;
mod results;
mod rounds;

use super::super::hub::{Action, GHOST_ANSWERS, Hub, Key, Kind, LINK_FACTOR, Limits, Phase, Waiting, whole};
use super::super::level::Level;
use super::super::message::{INTERNAL_ERROR, Id, Message};
use super::super::ticket::Tickets;
pub use capabilities::legacy_capabilities;
use capabilities::may_be_asked;
pub use from_client::may_be_addressed;
use listens::Listens;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a server must have asked nothing more before a client is asked, so that what is asked at once comes in one
/// round.
pub const GATHER: Duration = Duration::from_millis(50);

/// What a link is told, and what may be kept for clients that are expected to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our name and version for `initialize`: JSON text.
    pub client_info: String,
    /// What we declare in `initialize`, in its legacy form (see [`legacy_capabilities`]): JSON text.
    pub capabilities: String,
    /// All keys are one client's, so that nothing can come into the wrong hands.
    pub one_client: bool,
    /// The server is far away: the answer to a cancelled request may be cut off on the way and never come, and mostly the
    /// transport tells which request a question belongs to.
    pub is_remote: bool,
    /// Calls that may wait for their clients' input.
    pub most_parked: usize,
    /// Bytes of everything that is kept for them.
    pub parked_bytes: usize,
    /// How long a call waits for its client's input.
    pub parked_age: Duration,
    /// How long the server must have asked nothing more before a client is asked.
    pub gather: Duration,
}

/// The modern clients of one link to a legacy server, and what is under way between them.
#[derive(Debug, Clone)]
pub struct ToLegacy {
    limits: Limits,
    settings: Settings,
    tickets: Tickets,
    phase: Phase<Server>,
    /// The last number that was used on the link, or for a handle.
    last: u64,
    now: Duration,
    clients: BTreeMap<Key, Client>,
    /// By the number that the server knows them by, or will.
    calls: BTreeMap<u64, Call>,
    /// The parked ones, by the number of the handle.
    parked: BTreeMap<u64, u64>,
    held: BTreeMap<u64, Question>,
    ghosts: BTreeMap<u64, Ghost>,
    /// Answers that the server gave.
    answers: u64,
    waiting: Waiting,
    listens: Listens,
    /// What the server was told last, unless it refused, and by which request.
    server_level: Option<(Level, u64)>,
}

/// What the server said of itself: JSON texts.
#[derive(Debug, Clone)]
struct Server {
    info: Option<Box<str>>,
    capabilities: Box<str>,
    instructions: Option<Box<str>>,
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// Its calls and its listens that are owed an answer.
    open: BTreeSet<u64>,
    listens: BTreeSet<u64>,
}

/// A request for the server, over all its rounds.
#[derive(Debug, Clone)]
struct Call {
    method: Box<str>,
    /// As its client wrote them, if it may be parked; once it is, only what a repeat repeats.
    params: Box<str>,
    /// What its client declared.
    capabilities: Box<str>,
    token: Option<Id>,
    level: Option<Level>,
    holder: Holder,
    stage: Stage,
    /// What its client is or will be asked.
    questions: BTreeMap<u64, Question>,
    /// What its client would have had to declare to be asked what the server asked: JSON text.
    lacked: Option<Box<str>>,
    /// When the server got it.
    sent: Duration,
}

/// Who waits for a call.
#[derive(Debug, Clone)]
enum Holder {
    Client {
        key: Key,
        id: Id,
    },
    /// Nobody now: whoever has the handle with this number.
    Parked {
        ticket: u64,
        since: Duration,
    },
}

/// What the server has of a call.
#[derive(Debug, Clone)]
enum Stage {
    /// Nothing (any more).
    Unsent,
    Working,
    /// It has answered, while the call was parked.
    Answered(Message),
}

/// A request of the server.
#[derive(Debug, Clone)]
struct Question {
    id: Id,
    method: Box<str>,
    /// What its client is asked: JSON text.
    ask: Box<str>,
    /// Whether it was.
    is_given: bool,
    since: Duration,
}

/// A call that nobody wants any more, while the server may still work on it.
#[derive(Debug, Clone)]
struct Ghost {
    /// Given up when the server has given that many answers.
    until: u64,
    /// When the server got it, and when it was given up.
    sent: Duration,
    since: Duration,
    may_ask: bool,
    may_log: bool,
}

impl ToLegacy {
    /// A link without a server and without clients. `secret` makes the handles that must not be guessed.
    #[must_use]
    pub fn new(limits: Limits, settings: Settings, secret: impl AsRef<str>) -> Self {
        Self {
            limits,
            settings,
            tickets: Tickets::new(secret.as_ref()),
            phase: Phase::Lost,
            last: 0,
            now: Duration::ZERO,
            clients: BTreeMap::new(),
            calls: BTreeMap::new(),
            parked: BTreeMap::new(),
            held: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            answers: 0,
            waiting: Waiting::default(),
            listens: Listens::default(),
            server_level: None,
        }
    }

    /// What of a client the server or we owe an answer to, or cannot send yet.
    fn unanswered(&self, key: Key) -> usize {
        let open = self.clients.get(&key).map_or(0, |client| client.open.len() + client.listens.len());
        open + self.waiting.count(key)
    }

    /// A number that was not used on this link.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Sends a request of ours.
    fn ask_server(&mut self, method: &str, params: &str, out: &mut Vec<Action>) -> u64 {
        let number = self.number();
        out.push(Action::ToServer(Message::request(&Id::number(number), method, params)));
        number
    }

    /// A call is not open any more: what is left of it.
    fn close(&mut self, number: u64) -> Option<Call> {
        let call = self.calls.remove(&number)?;
        match &call.holder {
            Holder::Client { key, .. } => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.open.remove(&number);
                }
            }
            Holder::Parked { ticket, .. } => drop(self.parked.remove(ticket)),
        }
        Some(call)
    }

    /// Nobody wants a call any more; the server hears of it from `cancelled`, if it works on it.
    fn give_up(&mut self, number: u64, cancelled: Message, why: &str, out: &mut Vec<Action>) {
        let Some(call) = self.close(number) else { return };
        if matches!(call.stage, Stage::Working) {
            out.push(Action::ToServer(cancelled));
            let until = self.answers + GHOST_ANSWERS;
            let (may_ask, may_log) = (call.can_be_parked(), call.level.is_some());
            let ghost = Ghost { until, sent: call.sent, since: self.now, may_ask, may_log };
            self.ghosts.insert(number, ghost);
            if self.ghosts.len() > self.limits.open.saturating_mul(LINK_FACTOR) {
                self.ghosts.pop_first();
            }
        }
        for question in call.questions.into_values() {
            out.push(Action::ToServer(Message::error(Some(&question.id), INTERNAL_ERROR, why)));
        }
    }

    /// Forgets the ghosts that are believed to be over.
    fn exorcise(&mut self) {
        let answers = self.answers;
        self.ghosts.retain(|_, ghost| ghost.until > answers);
    }
}

impl Hub for ToLegacy {
    fn begin(&mut self, out: &mut Vec<Action>) {
        if !self.phase.is_lost() {
            self.lose("another process of the server takes its place", out);
        }
        let Settings { client_info, capabilities, .. } = &self.settings;
        let params =
            format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{client_info}}}"#);
        let number = self.ask_server("initialize", &params, out);
        self.phase = Phase::Beginning(number);
    }

    fn is_ready(&self) -> bool {
        self.phase.ready().is_some()
    }

    fn refusal(&self) -> Option<&Message> {
        self.phase.refusal()
    }

    fn join(&mut self, key: Key, _: Kind) {
        self.clients.entry(key).or_default();
    }

    fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(client) = self.clients.remove(&key) else { return };
        self.waiting.leave(key);
        for number in client.open {
            let why = "its client is gone";
            self.give_up(number, cancelled(number, why), why, out);
        }
        for number in client.listens {
            self.unlisten(number, out);
        }
    }

    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        self.hear_client(key, message, out);
    }

    fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        self.hear_server(&message, out);
    }

    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        if let (Some(id), Some(_)) = (message.id(), message.method()) {
            self.hear_server(&Message::error(Some(id), INTERNAL_ERROR, why), out);
        }
    }

    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.phase = Phase::Lost;
        let mut fail = |key: Key, id: &Id| {
            out.push(Action::ToClient(key, Message::error(Some(id), INTERNAL_ERROR, why)));
        };
        for call in std::mem::take(&mut self.calls).into_values() {
            if let Holder::Client { key, id } = &call.holder {
                fail(*key, id);
            }
        }
        for listen in std::mem::take(&mut self.listens).into_all() {
            fail(listen.key, &listen.id);
        }
        for (key, message) in self.waiting.take() {
            message.id().into_iter().for_each(|id| fail(key, id));
        }
        for client in self.clients.values_mut() {
            *client = Client::default();
        }
        self.parked.clear();
        self.held.clear();
        self.ghosts.clear();
        self.server_level = None;
    }

    fn finish(&mut self, why: &str, out: &mut Vec<Action>) {
        for listen in std::mem::take(&mut self.listens).into_all() {
            out.push(Action::ToClient(listen.key, listen.result(self.server_info())));
        }
        self.lose(why, out);
    }

    fn is_free_for(&self, message: &Message) -> bool {
        let is_nobodys = || !self.has_addressee() && !self.is_haunted();
        self.settings.one_client || !from_client::may_be_addressed(message) || is_nobodys()
    }

    fn is_haunted(&self) -> bool {
        let may_ask = may_be_asked(&self.settings.capabilities);
        let haunts = |ghost: &Ghost| ghost.until > self.answers && (ghost.may_log || ghost.may_ask && may_ask);
        !self.settings.is_remote && self.ghosts.values().any(haunts)
    }

    fn stuck_since(&self) -> Option<Duration> {
        if self.settings.is_remote {
            return None;
        }
        let unheard = self.answers + GHOST_ANSWERS; // nothing was answered since
        let mut ghosts = self.ghosts.iter().filter(|(_, ghost)| ghost.until == unheard);
        let (first, oldest) = ghosts.next()?;
        let works = |call: &Call| call.is_working() && !call.is_parked();
        let calls = self.calls.iter().filter(|(number, call)| *number > first && works(call));
        let later = calls.map(|(_, call)| call.sent).chain(ghosts.map(|(_, ghost)| ghost.sent)).min()?;
        Some(later.max(oldest.since))
    }

    fn resumes(&self, message: &Message) -> bool {
        self.ticket_of(message).is_some_and(|ticket| self.parked.contains_key(&ticket))
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) -> Option<Duration> {
        self.now = now;
        self.expire(out)
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }

    fn parked_bytes(&self) -> usize {
        self.kept_bytes()
    }

    fn limit_parked(&mut self, most: usize, bytes: usize) {
        (self.settings.most_parked, self.settings.parked_bytes) = (most, bytes);
    }
}

impl Call {
    /// Whether it can be answered with `input_required` (`basic/patterns/mrtr`, Supported Requests).
    fn can_be_parked(&self) -> bool {
        can_be_parked(&self.method)
    }

    /// Whether the server may still ask something because of it.
    fn is_working(&self) -> bool {
        matches!(self.stage, Stage::Working)
    }

    fn is_parked(&self) -> bool {
        matches!(self.holder, Holder::Parked { .. })
    }
}

/// The methods that may be answered with `input_required` (`basic/patterns/mrtr`, Supported Requests).
fn can_be_parked(method: &str) -> bool {
    ["tools/call", "prompts/get", "resources/read"].contains(&method)
}

/// Tells the server that nobody wants the answer to this request any more.
fn cancelled(number: u64, why: &str) -> Message {
    let reason = serde_json::Value::from(why);
    Message::notification("notifications/cancelled", &format!(r#"{{"requestId":{number},"reason":{reason}}}"#))
}

#[cfg(test)]
mod tests;
