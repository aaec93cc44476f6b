//! What stands between the clients of one link and its server: messages in, [`Action`]s out.
//!
//! There are three: [`super::share::Share`] for legacy clients of a legacy server, [`super::modern::share::Share`] for
//! modern clients of a modern server, and the bridge, [`super::bridge`], where client and server are of different eras.
//!
//! Always, of each: every request that was taken is answered once, unless its client cancelled it or left; nobody gets a
//! message about another's request; after [`Hub::leave`] nothing goes to that key; what is kept is bounded.

mod phase;
mod waiting;

use super::message::{Id, Kind as MessageKind, Message};
use super::sole::{Ambiguous, sole};
pub(super) use phase::Phase;
use std::time::Duration;
pub(super) use waiting::Waiting;

/// One client on the link: a session, or a request without one. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// What a client on the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A legacy session, which gets what is for every session.
    Session,
    /// One legacy POST without a session.
    Stateless,
    /// A modern client: one POST, or a client on stdio with many requests.
    Modern,
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send it over the link.
    ToServer(Message),
    /// Hand it to this client.
    ToClient(Key, Message),
}

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one client that may be unanswered, and messages of one client that may wait for the server.
    pub open: usize,
    /// Bytes of all messages that wait for the server; one message may be larger.
    pub waiting_bytes: usize,
}

/// The clients of one link, and what is under way between them and the server.
#[expect(clippy::wrong_self_convention, reason = "a message comes from the client, nothing is converted")]
pub trait Hub: Send {
    /// A fresh server is there. What clients say waits until it is known that the server has begun.
    fn begin(&mut self, out: &mut Vec<Action>);

    /// Whether the server has begun, so that nothing waits.
    fn is_ready(&self) -> bool;

    /// The error with which the server refused to begin.
    fn refusal(&self) -> Option<&Message>;

    /// What the server answered when it began, if it says anything to clients.
    fn greeting(&self) -> Option<&Message> {
        None
    }

    /// A client joins.
    fn join(&mut self, key: Key, kind: Kind);

    /// A client is gone: its requests are cancelled.
    fn leave(&mut self, key: Key, out: &mut Vec<Action>);

    /// Takes a message of a client that has joined.
    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>);

    /// Takes a message of the server.
    fn from_server(&mut self, message: Message, out: &mut Vec<Action>);

    /// A message could not be sent to the server: whoever waits for its answer gets an error in these words.
    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>);

    /// The server is lost. What is open or waits is answered with an error in these words; the clients stay.
    fn lose(&mut self, why: &str, out: &mut Vec<Action>);

    /// This side ends the link, for this reason. What can end well does: a `subscriptions/listen` gets its result.
    fn finish(&mut self, why: &str, out: &mut Vec<Action>) {
        self.lose(why, out);
    }

    /// Whether this request of a client that has not joined yet can be taken without making it unclear whose a message
    /// of the server is.
    fn is_free_for(&self, message: &Message) -> bool {
        let _ = message;
        true
    }

    /// Whether the server may still ask or log something because of a request that nobody waits for any more, so that
    /// nobody could tell whose it is if another request like it were here.
    fn is_haunted(&self) -> bool {
        false
    }

    /// Since when the server answers nothing: neither a request that nobody waits for any more, nor one that came later.
    fn stuck_since(&self) -> Option<Duration> {
        None
    }

    /// Whether this request goes on with one that is kept here.
    fn resumes(&self, message: &Message) -> bool {
        let _ = message;
        false
    }

    /// Tells the time, which runs from any beginning; to be called before anything else is. Gives up what is too old,
    /// and says when there may be something to give up next.
    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) -> Option<Duration> {
        let _ = (now, out);
        None
    }

    /// How much is kept for clients that are expected to come back although nothing of them is there now, such as calls
    /// that wait for their client's input. The link must live on while it is not 0.
    fn parked(&self) -> usize {
        0
    }

    /// Bytes of everything that is kept for them.
    fn parked_bytes(&self) -> usize {
        0
    }

    /// From now on so many calls may wait for their client's input here, and so many bytes may be kept for them. What is
    /// there already stays.
    fn limit_parked(&mut self, most: usize, bytes: usize) {
        let _ = (most, bytes);
    }
}

/// What a client is told in whose message readers find different things.
pub(super) const AMBIGUOUS: &str = "a member of the message stands twice in it, or in another case";

/// Later answers after which a request that was cancelled and not answered is believed to be over.
pub const GHOST_ANSWERS: u64 = 32;
/// Questions of the server, and cancelled requests, that are remembered for each request that a client may have open.
pub(super) const LINK_FACTOR: usize = 10;

/// Answers a request with an error; anything else is left out.
pub(super) fn refuse(key: Key, message: &Message, code: i32, reason: &str, out: &mut Vec<Action>) {
    if let MessageKind::Request { id, .. } = message.kind() {
        out.push(Action::ToClient(key, Message::error(Some(id), code, reason)));
    }
}

/// The token under which a request wants to hear of its progress, if every reader finds the same.
pub(super) fn token(params: Option<&str>) -> Result<Option<Id>, Ambiguous> {
    let [meta] = sole(params.unwrap_or_default(), ["_meta"])?;
    let [token] = sole(meta.unwrap_or_default(), ["progressToken"])?;
    Ok(token.and_then(Id::from_json))
}

/// The whole number that an id is, in any spelling that a peer may have made of it.
pub(super) fn whole(id: &Id) -> Option<u64> {
    let text = id.as_json();
    let exact = |n: &f64| n.fract() == 0.0 && (0.0..9e15).contains(n);
    text.parse().ok().or_else(|| format!("{:.0}", text.parse::<f64>().ok().filter(exact)?).parse().ok())
}
