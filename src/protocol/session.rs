//! What is still unanswered between one client and one server, in both directions, and which of the client's
//! streams a message of the server goes to.
//!
//! ```text
//!   client ──request──▶ open ──answer──▶ its stream      server ──request──▶ asked ──answer──▶ server
//!                        │ cancelled by the client ▶ an answer may still come, none is owed
//!                        │ its stream is closed    ▶ nobody can get the answer: it is dropped
//!                        │ the link is lost        ▶ every open request is answered with an error
//! ```
//!
//! An answer goes to the stream of its request, progress to that of the request with its token, a cancelled
//! question of the server to where it was asked. Everything else: if exactly one request is open, its stream; else
//! the general one; else that of the newest open request; else it waits until there is a general one.
//!
//! Always: a request that was let pass is answered once, by the server or by [`Session::lose`] or [`Session::finish`];
//! a message goes to one stream that is there, or to nobody; nothing here grows beyond `limit` entries.

mod hold;
#[cfg(test)]
mod tests;

use super::message::{INTERNAL_ERROR, Id, Kind, Message};
use super::modern::graceful;
use hold::Hold;

/// One open HTTP response that carries, or may come to carry, events; it outlives its connection if it can be
/// resumed. An HTTP+SSE client has one for everything, and so has one on stdio. No number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What somebody who has asked waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// The answer, and nothing else.
    Still,
    /// The answer, while there is something else to do.
    Aside,
    /// Nothing: all is said, or nobody is there any more to hear it.
    NoMore,
}

/// The bookkeeping of one session.
#[derive(Debug, Clone)]
pub struct Session {
    limit: usize,
    general: Option<StreamId>,
    open: Vec<Request>,
    cancelled: Vec<Request>,
    asked: Vec<Request>,
    hold: Hold,
}

/// A request of either side, and the stream that it belongs to.
#[derive(Debug, Clone)]
struct Request {
    id: Id,
    stream: StreamId,
    /// Under which its progress is told.
    token: Option<Id>,
    /// Nobody can get the answer any more.
    closed: bool,
    /// It stays open for as long as its client wants (`basic/patterns/subscriptions`, 2026-07-28).
    lasts: bool,
}

/// What to do with a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Hand it to the server.
    Forward {
        /// It cancelled the last request of this stream: no answer is owed there any more, so that it ends.
        finished: Option<StreamId>,
    },
    /// Hand it to nobody, for this reason.
    Drop(&'static str),
    /// Do not hand it to the server; answer this to the client.
    Answer(Box<Message>),
}

/// What to do with a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum FromServer {
    /// Hand it to the client.
    Deliver {
        /// Where it goes.
        stream: StreamId,
        /// It is the last answer that is owed there: the stream ends with it. Never so for the general stream.
        last: bool,
    },
    /// It waits for [`Session::open_general`].
    Hold,
    /// Hand it to nobody, for this reason.
    Drop(&'static str),
    /// Hand it to nobody; answer this to the server.
    Refuse(Message),
}

impl Session {
    /// A session in which at most `limit` requests of the client, and as many of the server, are open at once. At
    /// most as many messages, and `waiting_bytes` of them, wait for a stream.
    #[must_use]
    pub fn new(limit: usize, waiting_bytes: usize) -> Self {
        let hold = Hold::new(limit, waiting_bytes);
        Self { limit, general: None, open: Vec::new(), cancelled: Vec::new(), asked: Vec::new(), hold }
    }

    /// The stream for messages that belong to no request from now on; gives the one that it replaces. That one is
    /// not closed: requests of it keep it.
    pub fn open_general(&mut self, stream: StreamId) -> Option<StreamId> {
        self.general.replace(stream).filter(|old| *old != stream)
    }

    /// What waited for a general stream, in order: to be sent there before anything else.
    pub fn held(&mut self) -> Vec<Message> {
        let Some(stream) = self.general else { return Vec::new() };
        let held = self.hold.take_all();
        for message in &held {
            if let Kind::Request { id, .. } = message.kind() {
                keep(&mut self.asked, Request::new(id, stream), self.limit);
            }
        }
        held
    }

    /// The stream is gone and cannot be resumed: nothing goes there any more. Its requests stay open until the
    /// server answers them; the answers go to nobody.
    pub fn close(&mut self, stream: StreamId) {
        self.general = self.general.filter(|general| *general != stream);
        for request in self.open.iter_mut().filter(|request| request.stream == stream) {
            request.closed = true;
        }
    }

    /// A message of the client that came with `stream`, before it is handed on. The messages of a batch are all
    /// taken before the first is handed on: else the answer to that one is the last of their stream.
    pub fn from_client(&mut self, message: &Message, stream: StreamId) -> FromClient {
        match message.kind() {
            Kind::Request { id, .. } if self.open.len() >= self.limit => {
                let reason = format!("too many requests are unanswered ({})", self.limit);
                FromClient::Answer(Message::error(Some(id), INTERNAL_ERROR, &reason).into())
            }
            Kind::Request { id, .. } => {
                // Where one stream is there for everything, progress needs no token to find it.
                let token = if self.general == Some(stream) { None } else { message.progress_token() };
                let lasts = message.method() == Some("subscriptions/listen");
                self.open.push(Request { token, lasts, ..Request::new(id, stream) });
                FromClient::Forward { finished: None }
            }
            Kind::Notification { .. } => {
                FromClient::Forward { finished: message.cancels().and_then(|id| self.cancel(&id)) }
            }
            Kind::Response { id: Some(id) } if take(&mut self.asked, id).is_none() => {
                FromClient::Drop("it answers no open request of the server")
            }
            Kind::Response { .. } => FromClient::Forward { finished: None },
        }
    }

    /// The client cancels a request; gives its stream if nothing is owed there now.
    fn cancel(&mut self, id: &Id) -> Option<StreamId> {
        let request = take(&mut self.open, id)?;
        let (stream, closed) = (request.stream, request.closed);
        keep(&mut self.cancelled, request, self.limit);
        Some(stream).filter(|stream| !closed && self.owes_nothing(*stream))
    }

    /// A message of the server, before it is handed on.
    pub fn from_server(&mut self, message: &Message) -> FromServer {
        match message.kind() {
            Kind::Request { id, .. } => self.question(id, message),
            Kind::Notification { .. } => self.notification(message),
            Kind::Response { id: Some(id) } => self.answer(id),
            Kind::Response { id: None } => self.deliver_or_hold(message),
        }
    }

    fn question(&mut self, id: &Id, message: &Message) -> FromServer {
        let Some(stream) = self.choose() else {
            if self.hold.add(message) {
                return FromServer::Hold;
            }
            let reason = "the client has no stream open, and too much waits for one already";
            return FromServer::Refuse(Message::error(Some(id), INTERNAL_ERROR, reason));
        };
        keep(&mut self.asked, Request::new(id, stream), self.limit);
        FromServer::Deliver { stream, last: false }
    }

    fn notification(&mut self, message: &Message) -> FromServer {
        if let Some(id) = message.cancels() {
            if self.hold.remove_question(&id) {
                return FromServer::Drop("it cancels a request that the client has not got");
            }
            let asked = take(&mut self.asked, &id).map(|asked| asked.stream);
            if let Some(stream) = asked.filter(|stream| self.is_there(*stream)) {
                return FromServer::Deliver { stream, last: false };
            }
        } else if let Some(request) = self.in_progress(message) {
            if request.closed {
                return FromServer::Drop("the stream of its request is closed");
            }
            return FromServer::Deliver { stream: request.stream, last: false };
        }
        self.deliver_or_hold(message)
    }

    /// The open request whose progress a notification tells. There may be none and the progress still be wanted:
    /// that of a task goes on after the answer (2025-11-25, `basic/utilities/tasks`).
    fn in_progress(&self, message: &Message) -> Option<&Request> {
        let is_progress = message.method() == Some("notifications/progress");
        if !is_progress || self.open.iter().all(|request| request.token.is_none()) {
            return None;
        }
        let token = message.progress_token()?;
        let with = |same: fn(&Id, &Id) -> bool| {
            self.open.iter().find(|request| request.token.as_ref().is_some_and(|known| same(known, &token)))
        };
        with(Id::eq).or_else(|| with(Id::may_be))
    }

    fn answer(&mut self, id: &Id) -> FromServer {
        if let Some(request) = take(&mut self.open, id) {
            if request.closed {
                return FromServer::Drop("the stream of its request is closed");
            }
            return FromServer::Deliver { stream: request.stream, last: self.owes_nothing(request.stream) };
        }
        match take(&mut self.cancelled, id) {
            Some(request) if self.is_there(request.stream) => {
                FromServer::Deliver { stream: request.stream, last: false }
            }
            Some(_) => FromServer::Drop("its request was cancelled, and the stream has ended"),
            None => FromServer::Drop("it answers no open request of the client"),
        }
    }

    fn deliver_or_hold(&mut self, message: &Message) -> FromServer {
        match self.choose() {
            Some(stream) => FromServer::Deliver { stream, last: false },
            None if self.hold.add(message) => FromServer::Hold,
            None => FromServer::Drop("the client has no stream open, and too much waits for one already"),
        }
    }

    /// The stream for a message that does not say where it belongs.
    fn choose(&self) -> Option<StreamId> {
        let mut there = self.open.iter().rev().filter(|request| !request.closed).map(|request| request.stream);
        match (there.next(), there.next()) {
            (Some(only), None) => Some(only),
            (newest, _) => self.general.or(newest),
        }
    }

    /// Whether a stream can still carry what is not an answer.
    fn is_there(&self, stream: StreamId) -> bool {
        let keeps = |request: &Request| request.stream == stream && !request.closed;
        self.general == Some(stream) || self.open.iter().any(keeps)
    }

    fn owes_nothing(&self, stream: StreamId) -> bool {
        self.general != Some(stream) && self.open_on(stream) == 0
    }

    /// A message that [`Session::from_client`] let pass did not reach the server: the answer to its request,
    /// if it is one that is still open. Of two with the same id it is the later one.
    pub fn undelivered(&mut self, message: &Message, why: &str) -> Option<Message> {
        let Kind::Request { id, .. } = message.kind() else { return None };
        let at = self.open.iter().rposition(|open| open.id == *id)?;
        let id = self.open.remove(at).id;
        Some(Message::error(Some(&id), INTERNAL_ERROR, why))
    }

    /// The link to the server is lost: the answers to everything that is open on a stream that is there, in the
    /// order of the requests. What the server asked is forgotten, so that an answer to it does not reach the
    /// server's successor.
    pub fn lose(&mut self, why: &str) -> Vec<(StreamId, Message)> {
        self.answer_all(|request| Message::error(Some(&request.id), INTERNAL_ERROR, why))
    }

    /// This side ends, for this reason: the same, but a `subscriptions/listen` ends well.
    pub fn finish(&mut self, why: &str) -> Vec<(StreamId, Message)> {
        let error = |request: &Request| Message::error(Some(&request.id), INTERNAL_ERROR, why);
        self.answer_all(|request| if request.lasts { graceful(&request.id) } else { error(request) })
    }

    fn answer_all(&mut self, answer: impl Fn(&Request) -> Message) -> Vec<(StreamId, Message)> {
        self.cancelled.clear();
        self.asked.clear();
        self.hold.remove_questions();
        let there = self.open.drain(..).filter(|request| !request.closed);
        there.map(|request| (request.stream, answer(&request))).collect()
    }

    /// How many requests of the client are unanswered.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many of them are answered by themselves, sooner or later.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.open.iter().filter(|request| !request.lasts).count()
    }

    /// How many of them belong to `stream`.
    #[must_use]
    pub fn open_on(&self, stream: StreamId) -> usize {
        self.open.iter().filter(|request| request.stream == stream).count()
    }
}

impl Request {
    fn new(id: &Id, stream: StreamId) -> Self {
        Self { id: id.clone(), stream, token: None, closed: false, lasts: false }
    }
}

/// Takes the one with `id` out of `requests`: the same spelling first, then the same value in another spelling.
fn take(requests: &mut Vec<Request>, id: &Id) -> Option<Request> {
    let same = requests.iter().position(|known| known.id == *id);
    let at = same.or_else(|| requests.iter().position(|known| known.id.may_be(id)))?;
    Some(requests.remove(at))
}

/// Adds `request` and forgets the oldest when there would be more than `limit`.
fn keep(requests: &mut Vec<Request>, request: Request, limit: usize) {
    if requests.len() >= limit && !requests.is_empty() {
        requests.remove(0);
    }
    requests.push(request);
}
