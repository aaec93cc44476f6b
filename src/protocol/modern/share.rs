//! Many modern clients on one link to one modern server: whose a message is.
//!
//! ```text
//!   the server:   Lost ──begin──▶ Beginning ──a modern answer──▶ Ready
//!                  ▲                  │  └──any other──▶ Refused
//!                  └──────lose────────┴────────lose─────────┘
//!
//!   a request:    waiting ──Ready──▶ open ──the server's answer──▶ its client
//!                    │                │ its client cancels it, or leaves ──▶ the server is told; a ghost for a while
//!                    └── lose ────────┴─▶ an error to its client
//!
//!   a listen, which is a request:  open ──the server cancels it──▶ its client is told, and gets the result that ends it
//!                                   └──finish──▶ that result
//! ```
//!
//! There is nothing to agree on with a modern server: the `server/discover` that begins it only shows that it is one.
//! Ids of requests, progress tokens and the ids of subscriptions, which are those of their requests, become numbers of
//! ours, used once on a link however often the server is begun, and get their own spelling back on the way home. Whom a
//! message of the server goes to:
//!
//! - an answer, progress: to the one who made the request;
//! - what names a subscription: to the one who listens;
//! - what came on the stream of an answer: to the one who made the request;
//! - a log message that came otherwise: to the only client with requests open that asked for log messages; while several
//!   have such requests open, to nobody. It belongs on the stream of its request (`server/utilities/logging`), but on
//!   stdio there is one stream for all, and no member of the message names the request (`NotificationParams`);
//! - another notification: to the only client with requests open; else to nobody;
//! - a request is refused: a modern server asks nothing.
//!
//! Requests that were cancelled count as open there, because a server may say something before it hears of it; they
//! are given up after [`GHOST_ANSWERS`] later answers.
//!
//! Always: nobody gets a message about another's request; every request that was taken is answered once, unless its
//! client cancelled it or left; after [`Share::leave`] nothing goes to that key; what is kept is bounded.

mod from_client;
mod from_server;

use super::{REVISION, graceful, meta};
use crate::protocol::hub::{Action, GHOST_ANSWERS, Hub, Key, Kind, LINK_FACTOR, Limits, Phase, Waiting, token};
use crate::protocol::message::{INTERNAL_ERROR, Id, Message};
use std::collections::{BTreeMap, HashMap};

/// The clients of one link, and what is under way between them and the server.
#[derive(Debug, Clone)]
pub struct Share {
    limits: Limits,
    phase: Phase,
    /// The params with which a server is asked what it is, where they are a client's.
    probe: Option<Box<str>>,
    /// The last number that was used on the link.
    last: u64,
    members: BTreeMap<Key, Member>,
    /// Whose request has this number.
    owners: HashMap<u64, Key>,
    ghosts: BTreeMap<u64, Ghost>,
    /// Answers that the server gave.
    answers: u64,
    waiting: Waiting,
}

#[derive(Debug, Clone, Default)]
struct Member {
    open: BTreeMap<u64, Open>,
}

/// A request that the server has got and its client waits for.
#[derive(Debug, Clone)]
struct Open {
    id: Id,
    token: Option<Id>,
    is_listen: bool,
    /// It asked for log messages.
    wants_log: bool,
}

/// A request whose client does not want it any more, while the server may still speak of it.
#[derive(Debug, Clone)]
struct Ghost {
    key: Key,
    wants_log: bool,
    /// Given up when the server has given that many answers.
    until: u64,
}

impl Share {
    /// A link without a server and without clients.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Lost,
            probe: None,
            last: 0,
            members: BTreeMap::new(),
            owners: HashMap::new(),
            ghosts: BTreeMap::new(),
            answers: 0,
            waiting: Waiting::default(),
        }
    }

    /// The same, whose servers are asked what they are in the words of a client: the params (JSON text) of its
    /// `server/discover`.
    #[must_use]
    pub fn asking(limits: Limits, params: &str) -> Self {
        Self { probe: Some(params.into()), ..Self::new(limits) }
    }

    /// A fresh server is there, which is asked what it is in the words of a client: the params (JSON text) of its
    /// `server/discover`. Its answer is then at [`Share::answer`]. Until it comes, what clients say waits. Words in which
    /// readers find different things are not repeated; the server is asked in ours.
    pub fn begin_with(&mut self, params: &str, out: &mut Vec<Action>) {
        if token(Some(params)).is_err() {
            self.begin(out);
            return;
        }
        if !self.phase.is_lost() {
            self.lose("another process of the server takes its place", out);
        }
        let number = self.number();
        self.phase = Phase::Beginning(number);
        let probe = Message::request(&Id::number(number), "server/discover", params);
        // The token of the client would be a number of ours, or another client's.
        out.push(Action::ToServer(probe.with_param(&["_meta", "progressToken"], &number.to_string())));
    }

    /// What the server answered to the `server/discover` that began it, or what was made because it could not be
    /// asked; an error unless the server is modern. Its id is none that a client knows.
    #[must_use]
    pub fn answer(&self) -> Option<&Message> {
        match &self.phase {
            Phase::Ready(answer) | Phase::Refused(answer) => Some(answer),
            Phase::Lost | Phase::Beginning(_) => None,
        }
    }

    /// What of a client the server or we owe an answer to, or cannot send yet.
    fn unanswered(&self, key: Key) -> usize {
        self.members.get(&key).map_or(0, |member| member.open.len()) + self.waiting.count(key)
    }

    /// A number that was not used on this link.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A request is not open any more.
    fn close(&mut self, number: u64) -> Option<(Key, Open)> {
        let key = self.owners.remove(&number)?;
        let open = self.members.get_mut(&key)?.open.remove(&number)?;
        Some((key, open))
    }

    /// A request is not wanted any more.
    fn haunt(&mut self, number: u64, key: Key, wants_log: bool) {
        self.ghosts.insert(number, Ghost { key, wants_log, until: self.answers + GHOST_ANSWERS });
        if self.ghosts.len() > self.limits.open.saturating_mul(LINK_FACTOR) {
            self.ghosts.pop_first();
        }
    }
}

impl Hub for Share {
    fn begin(&mut self, out: &mut Vec<Action>) {
        // Words that were refused once are not tried for ever.
        if let Some(params) = self.probe.take().filter(|params| token(Some(params)).is_ok()) {
            self.begin_with(&params, out);
            return;
        }
        let (version, capabilities, info) = (meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::CLIENT_INFO);
        let own = env!("CARGO_PKG_VERSION");
        let params = format!(
            r#"{{"_meta":{{"{version}":"{REVISION}","{info}":{{"name":"mcp-proxy","version":"{own}"}},"{capabilities}":{{}}}}}}"#
        );
        self.begin_with(&params, out);
    }

    fn is_ready(&self) -> bool {
        self.phase.ready().is_some()
    }

    fn refusal(&self) -> Option<&Message> {
        self.phase.refusal()
    }

    fn greeting(&self) -> Option<&Message> {
        self.answer()
    }

    fn join(&mut self, key: Key, _: Kind) {
        self.members.entry(key).or_default();
    }

    fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(member) = self.members.remove(&key) else { return };
        self.waiting.leave(key);
        for (number, open) in member.open {
            self.owners.remove(&number);
            self.haunt(number, key, open.wants_log);
            let params = format!(r#"{{"requestId":{number},"reason":"its client is gone"}}"#);
            out.push(Action::ToServer(Message::notification("notifications/cancelled", &params)));
        }
    }

    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        self.take_from_client(key, message, out);
    }

    fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        self.take_from_server(message, out);
    }

    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        let (Some(id), Some(_)) = (message.id(), message.method()) else { return };
        self.from_server(Message::error(Some(id), INTERNAL_ERROR, why), out);
    }

    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.phase = Phase::Lost;
        let error = |id: &Id| Message::error(Some(id), INTERNAL_ERROR, why);
        for (key, member) in &mut self.members {
            for open in std::mem::take(&mut member.open).into_values() {
                out.push(Action::ToClient(*key, error(&open.id)));
            }
        }
        for (key, message) in self.waiting.take() {
            // A notification has no id: nobody waits for it.
            out.extend(message.id().map(|id| Action::ToClient(key, error(id))));
        }
        self.owners.clear();
        self.ghosts.clear();
    }

    fn finish(&mut self, why: &str, out: &mut Vec<Action>) {
        for (key, member) in &mut self.members {
            for (number, open) in member.open.extract_if(.., |_, open| open.is_listen) {
                self.owners.remove(&number);
                out.push(Action::ToClient(*key, graceful(&open.id)));
            }
        }
        self.lose(why, out);
    }
}

#[cfg(test)]
mod tests;
