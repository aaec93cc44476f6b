//! One client: its open requests, its streams, and the way to its server.
//!
//! Always: what is decided about a message and what is written of it happen in one turn, so that events reach a
//! stream in the order of their ids; nothing that can wait is done in it. Nobody sends to the server in it. The book
//! itself is locked for less than that: a client that reads an answer may go on before its writer has.

use super::modern::Visit;
use super::offer::Offer;
use crate::downstream::stream::Stream;
use crate::log;
use crate::protocol::http::Refusal;
use crate::protocol::message::{INTERNAL_ERROR, Id, Kind, Message};
use crate::protocol::metrics::Answer;
use crate::protocol::modern::headers;
use crate::protocol::replay::{Lost, Replay};
use crate::protocol::session::{self, FromClient, FromServer, StreamId};
use crate::protocol::sse;
use crate::upstream::{Hearer, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use ureq_proto::http::StatusCode;

/// One client and its server.
pub struct Session {
    /// What the client names it by; empty where there are no sessions.
    pub id: String,
    /// Whose client it is.
    pub offer: Arc<Offer>,
    /// The way to its first server.
    first: Arc<dyn Sender>,
    /// The way over the bridge, where the first server refused to speak what the client does.
    bridge: OnceLock<Arc<dyn Sender>>,
    /// Its requests are modern ones.
    pub is_modern: bool,
    /// Its place on the link, until its request is there.
    visit: Mutex<Option<Visit>>,
    begins_bridged: bool,
    lists_tools: bool,
    begun: Instant,
    /// Whose turn it is to write to the client; taken before the book.
    turn: Mutex<()>,
    book: Mutex<Book>,
}

/// What a session may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that may be unanswered at once.
    pub open_requests: usize,
    /// Bytes of messages that may wait for a stream.
    pub waiting_bytes: usize,
    /// Bytes of events that are kept for a client that lost a stream; 0 where streams are not resumed.
    pub replay_bytes: usize,
    /// How long they are kept.
    pub replay_age: Duration,
    /// Its requests are modern ones: the statuses of their answers tell more.
    pub is_modern: bool,
    /// Its server is of another era.
    pub is_bridged: bool,
    /// It lists tools, and what of them is repeated in headers is to be learnt.
    pub lists_tools: bool,
}

struct Book {
    requests: session::Session,
    /// Where streams are resumed, and their events have ids.
    replay: Option<Replay>,
    channels: Channels,
    streams: u64,
    /// The general stream that was lost last and can be resumed, until there is another one.
    lost: Option<StreamId>,
    /// Since when no client is connected.
    left: Instant,
    opening: Opening,
    /// The client's `initialize`, until it is answered.
    initialize: Option<Message>,
    /// What its first server answered to it, until it is known whether the bridge has something better.
    refusal: Option<Message>,
    /// When each open request came.
    times: Vec<(Id, Instant)>,
    ended: bool,
}

/// How the first request, `initialize`, went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Unanswered,
    Begun,
    Refused,
}

/// What one stream is to the session, whether its connection lives or not.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the stream")]
struct Channel {
    stream: Option<Arc<Stream>>,
    /// The client was given an id of an event, so that it can come back.
    resumable: bool,
    /// It is an event stream already.
    begun: bool,
    /// What came with it is still being decided upon: whoever does that ends it.
    opening: bool,
    /// A new event stream begins with an event that has only an id (2025-11-25).
    primes: bool,
    /// The answers to a batch, for a client that takes only JSON.
    batch: Option<Vec<u8>>,
}

/// The few streams of a session.
#[derive(Default)]
struct Channels(Vec<(StreamId, Channel)>);

impl Channels {
    fn place(&self, id: StreamId) -> Option<usize> {
        self.0.iter().position(|(known, _)| *known == id)
    }

    fn get(&self, id: StreamId) -> Option<&Channel> {
        self.place(id).map(|at| &self.0[at].1)
    }

    fn get_mut(&mut self, id: StreamId) -> Option<&mut Channel> {
        self.place(id).map(|at| &mut self.0[at].1)
    }

    fn insert(&mut self, id: StreamId, channel: Channel) -> Option<Channel> {
        if let Some(known) = self.get_mut(id) {
            return Some(std::mem::replace(known, channel));
        }
        self.0.push((id, channel));
        None
    }

    fn remove(&mut self, id: StreamId) -> Option<Channel> {
        self.place(id).map(|at| self.0.swap_remove(at).1)
    }

    fn values(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter().map(|(_, channel)| channel)
    }
}

impl Book {
    /// When the request came that is answered now.
    fn take_time(&mut self, answered: &Id) -> Option<Instant> {
        let at = self.times.iter().position(|(known, _)| known.may_be(answered))?;
        Some(self.times.swap_remove(at).1)
    }

    /// The first answer of the server tells whether there is a session.
    fn note_opening(&mut self, message: &Message) {
        if self.opening == Opening::Unanswered && matches!(message.kind(), Kind::Response { .. }) {
            self.opening = if message.is_error() { Opening::Refused } else { Opening::Begun };
            self.initialize = None;
        }
    }
}

/// A message as an event.
fn event(id: Option<&str>, message: &Message) -> Vec<u8> {
    let mut event = Vec::with_capacity(message.bytes().len() + 64);
    sse::encode(&mut event, "message", id, message.bytes());
    event
}

/// What was missed is never skipped silently.
fn refuse_resume(lost: Lost) -> Refusal {
    match lost {
        Lost::Unknown => Refusal::new(StatusCode::BAD_REQUEST, "the Last-Event-ID is none of this session's"),
        Lost::Replaced => {
            let reason =
                "events behind this Last-Event-ID are not kept any more; --replay-bytes and --replay-age keep more";
            Refusal::new(StatusCode::GONE, reason)
        }
    }
}

/// What a client is told that says more to a session than there is of it.
pub fn has_ended() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "the session has ended")
}

/// Requests whose times are kept; of one more the oldest is forgotten.
const TIMES: usize = 4096;
/// The stream of a client that has only one (HTTP+SSE).
pub const ONLY: StreamId = StreamId(0);
/// What a client waits before it resumes a stream that broke; it is sent with the first id.
const RESUME_AFTER: Duration = Duration::from_secs(1);

impl Session {
    /// A session whose messages go to `sender`.
    pub fn new(id: String, offer: Arc<Offer>, sender: Arc<dyn Sender>, limits: Limits) -> Self {
        let replay = (limits.replay_bytes > 0).then(|| Replay::new(limits.replay_bytes, limits.replay_age));
        let book = Book {
            requests: session::Session::new(limits.open_requests, limits.waiting_bytes),
            replay,
            channels: Channels::default(),
            streams: ONLY.0,
            lost: None,
            left: Instant::now(),
            opening: Opening::Unanswered,
            initialize: None,
            refusal: None,
            times: Vec::new(),
            ended: false,
        };
        let (begun, turn, book) = (Instant::now(), Mutex::new(()), Mutex::new(book));
        Self {
            id,
            offer,
            first: sender,
            bridge: OnceLock::new(),
            is_modern: limits.is_modern,
            visit: Mutex::default(),
            begins_bridged: limits.is_bridged,
            lists_tools: limits.lists_tools,
            begun,
            turn,
            book,
        }
    }

    /// Keeps a place on the link until the request is there.
    pub fn keep(&self, visit: Visit) {
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner) = Some(visit);
    }

    /// The request is there, or will never be.
    pub fn leave_place(&self) {
        let visit = self.visit.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(visit);
    }

    /// The way to its server.
    pub fn sender(&self) -> &Arc<dyn Sender> {
        self.bridge.get().unwrap_or(&self.first)
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.book().ended
    }

    /// Whether its first server has refused to begin, and the bridge has not answered yet.
    pub fn is_crossing(&self) -> bool {
        self.book().refusal.is_some()
    }

    /// Whether its server is of another era.
    pub fn is_bridged(&self) -> bool {
        self.begins_bridged || self.bridge.get().is_some()
    }

    /// From now on what it says goes over the bridge, its `initialize` first, which the first server has refused.
    pub fn cross(&self, bridge: Arc<dyn Sender>) {
        let initialize = self.book().initialize.take();
        if self.bridge.set(bridge).is_ok()
            && let Some(initialize) = initialize
        {
            self.first.stop();
            let _ = self.forward(&initialize, ONLY);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id is a secret of its client; its beginning tells sessions apart.
    pub fn shown(&self) -> &str {
        self.id.get(..6).unwrap_or("-")
    }

    /// How many streams are connected, and since when none is.
    pub fn connected(&self) -> (usize, Option<Instant>) {
        let mut book = self.book();
        if let Some(replay) = &mut book.replay {
            replay.expire(self.begun.elapsed());
        }
        let connected = book.channels.values().filter(|channel| channel.stream.is_some()).count();
        (connected, (connected == 0).then_some(book.left))
    }

    /// Whether the server agreed to begin.
    pub fn is_begun(&self) -> bool {
        self.book().opening == Opening::Begun
    }

    /// A request of the client waits for its answer on `stream`. `None`: the session has ended.
    pub fn open_reply(&self, stream: Arc<Stream>, primes: bool, is_batch: bool) -> Option<StreamId> {
        let mut book = self.book();
        if book.ended {
            return None;
        }
        book.streams += 1;
        let id = StreamId(book.streams);
        let batch = (is_batch && !stream.takes_events()).then(Vec::new);
        let channel = Channel { stream: Some(stream), resumable: false, begun: false, opening: true, primes, batch };
        book.channels.insert(id, channel);
        Some(id)
    }

    /// The client's stream for what belongs to no request; `first` is sent before anything else.
    /// `None`: the session has ended.
    pub fn open_general(
        &self,
        id: Option<StreamId>,
        stream: Arc<Stream>,
        primes: bool,
        first: &[u8],
    ) -> Option<StreamId> {
        let _turn = self.turn();
        let mut book = self.book();
        if book.ended {
            return None;
        }
        let id = id.unwrap_or_else(|| {
            book.streams += 1;
            StreamId(book.streams)
        });
        let channel =
            Channel { stream: Some(stream), resumable: false, begun: false, opening: false, primes, batch: None };
        if let Some(Channel { stream: Some(former), .. }) = book.channels.insert(id, channel) {
            former.replace();
        }
        self.become_general(&mut book, id, first);
        Some(id)
    }

    fn become_general(&self, book: &mut Book, id: StreamId, first: &[u8]) {
        if let Some(former) = book.requests.open_general(id).filter(|former| *former != id) {
            book.requests.close(former);
            if let Some(replay) = &mut book.replay {
                replay.end(former);
            }
            if let Some(Channel { stream: Some(stream), .. }) = book.channels.remove(former) {
                stream.end();
            }
        }
        if let (Some(lost), Some(replay)) = (book.lost.take().filter(|lost| *lost != id), &mut book.replay) {
            replay.end(lost);
        }
        self.begin(book, id, first);
        for message in book.requests.held() {
            self.write(book, id, &message, false);
        }
    }

    /// The client comes back to a stream that it lost: what it missed, then what follows.
    ///
    /// # Errors
    /// What it missed is not there any more, or nothing is left to come.
    pub fn resume(&self, last: &str, stream: &Arc<Stream>) -> Result<StreamId, Refusal> {
        let _turn = self.turn();
        let mut book = self.book();
        let now = self.begun.elapsed();
        let resumed = book.replay.as_mut().map_or(Err(Lost::Unknown), |replay| replay.after(last, now));
        let resumed = resumed.map_err(refuse_resume)?;
        if resumed.ended && resumed.events.is_empty() {
            // A stream that ends at once would be resumed for ever.
            return Err(Refusal::new(StatusCode::GONE, "nothing follows this Last-Event-ID: its stream has ended"));
        }
        let mut events = Vec::new();
        sse::encode_comment(&mut events, "");
        for (id, data) in &resumed.events {
            sse::encode(&mut events, "message", Some(id), data);
        }
        stream.send(&events);
        let id = resumed.stream;
        if resumed.ended || book.ended {
            stream.end();
            return Ok(id);
        }
        let is_general = book.requests.open_on(id) == 0;
        let channel = Channel {
            stream: Some(stream.clone()),
            resumable: true,
            begun: true,
            opening: false,
            primes: false,
            batch: None,
        };
        if let Some(Channel { stream: Some(former), .. }) = book.channels.insert(id, channel) {
            former.replace();
        }
        if is_general {
            self.become_general(&mut book, id, b"");
        }
        Ok(id)
    }

    /// The connection of a stream is over. What can be resumed lives on.
    pub fn close(&self, id: StreamId, stream: &Arc<Stream>) {
        let mut book = self.book();
        let is_general = book.requests.open_on(id) == 0;
        let Some(channel) = book.channels.get_mut(id) else { return }; // the last answer ended it
        if !channel.stream.as_ref().is_some_and(|known| Arc::ptr_eq(known, stream)) {
            return; // another one has taken its place
        }
        channel.stream = None;
        let resumable = channel.resumable;
        book.left = Instant::now();
        if is_general || !resumable {
            book.channels.remove(id);
            book.requests.close(id);
        }
        // Of the general streams that a client lost, it can come back to the last one.
        let over = if !resumable {
            Some(id)
        } else if is_general {
            book.lost.replace(id).filter(|former| *former != id)
        } else {
            None
        };
        if let (Some(over), Some(replay)) = (over, &mut book.replay) {
            replay.end(over);
        }
    }

    /// The thread of this connection hears the server itself until its request is answered on `stream`, if nobody else
    /// has asked the server anything for a while.
    pub fn hear(self: &Arc<Self>, connection: u64, stream: &Stream) {
        let deliver = |message: Message| self.deliver_and_answer(&message);
        let awaits = || {
            self.offer.modern.is_done(); // what was handed on may have freed the link for others
            stream.awaits()
        };
        self.sender().hear(&Hearer { connection, deliver: &deliver, awaits: &awaits });
    }

    /// Nothing was said on this stream for long: it becomes an event stream, so that nobody cuts it.
    pub fn quiet(&self, id: StreamId) {
        let _turn = self.turn();
        let mut book = self.book();
        if book.channels.get(id).is_some_and(|channel| !channel.begun) {
            self.begin(&mut book, id, b"");
        }
    }

    /// Begins the event stream, unless it has begun.
    fn begin(&self, book: &mut Book, id: StreamId, first: &[u8]) {
        let Book { channels, replay, .. } = book;
        let Some(channel) = channels.get_mut(id) else { return };
        let Some(stream) = channel.stream.as_ref().filter(|stream| stream.takes_events()) else { return };
        let mut events = first.to_vec();
        if !channel.begun {
            channel.begun = true;
            match replay {
                Some(replay) if channel.primes => {
                    sse::encode_retry(&mut events, RESUME_AFTER);
                    sse::encode_priming(&mut events, &replay.prime(id, self.begun.elapsed()));
                    channel.resumable = true;
                }
                _ => sse::encode_comment(&mut events, ""),
            }
        }
        stream.send(&events);
    }

    /// Takes messages of the client; answers to them are due on `stream`.
    ///
    /// # Errors
    /// The session has ended, and nothing can be said on this stream any more; or the server did not get what is no
    /// request.
    pub fn take(&self, messages: &[Message], stream: StreamId) -> Result<(), Refusal> {
        // All are known to be open before the first can be answered: the answer to the last ends the stream.
        let (mut one, mut many) = ([const { None }], Vec::new());
        let decisions = if let [_] = messages {
            &mut one[..] // as nearly always: no memory has to be found for it
        } else {
            many.resize_with(messages.len(), || None);
            &mut many
        };
        self.decide(messages, decisions, stream)?;
        let mut refused = Ok(());
        for (message, decision) in messages.iter().zip(decisions.iter().flatten()) {
            match decision {
                FromClient::Forward { .. } => refused = refused.and(self.forward(message, stream)),
                FromClient::Drop(why) => {
                    log::debug(format_args!("session {}: {message:?} left out: {why}", self.shown()));
                }
                FromClient::Answer(_) => {} // is written already
            }
        }
        if self.is_modern {
            self.leave_place();
        }
        refused
    }

    /// Decides about each of the messages, and answers those that do not go to the server.
    fn decide(
        &self,
        messages: &[Message],
        decisions: &mut [Option<FromClient>],
        stream: StreamId,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut book = self.book();
        if book.ended && !book.channels.get(stream).is_some_and(|channel| channel.opening) {
            // It ended after it was found. Its stream has ended with it, and an answer there would reach nobody.
            return Err(has_ended());
        }
        book.left = now;
        for (message, decision) in messages.iter().zip(&mut *decisions) {
            if !self.is_modern && book.opening == Opening::Unanswered && message.method() == Some("initialize") {
                book.initialize = Some(message.clone());
            }
            self.count_taken(&mut book, message, now);
            *decision = Some(match message.kind() {
                Kind::Request { id, .. } if book.ended => {
                    FromClient::Answer(Message::error(Some(id), INTERNAL_ERROR, "the session has ended").into())
                }
                _ => book.requests.from_client(message, stream),
            });
        }
        let decisions = &*decisions;
        let is_answered = decisions.iter().any(|decision| matches!(decision, Some(FromClient::Answer(_))));
        for decision in decisions.iter().flatten() {
            if let FromClient::Forward { finished: Some(finished) } = decision
                && book.requests.open_on(*finished) == 0
                && !(is_answered && *finished == stream)
            {
                Self::finish(&mut book, *finished);
            }
        }
        if let Some(channel) = book.channels.get_mut(stream) {
            channel.opening = is_answered;
        }
        drop(book);
        let mut answers = decisions
            .iter()
            .filter_map(|decision| match decision {
                Some(FromClient::Answer(answer)) => Some(answer),
                _ => None,
            })
            .peekable();
        let mut is_said = true;
        while let Some(answer) = answers.next() {
            let _turn = self.turn();
            is_said &= self.answer(&mut self.book(), stream, answer, answers.peek().is_none());
        }
        // Or it has ended just now. Of several messages some may have been answered before: they stand as they are.
        if is_said || messages.len() > 1 { Ok(()) } else { Err(has_ended()) }
    }

    fn forward(&self, message: &Message, stream: StreamId) -> Result<(), Refusal> {
        let why = match self.sender().send(message) {
            Ok(()) => return Ok(()),
            Err(undelivered) => undelivered.why(),
        };
        let _turn = self.turn();
        let mut book = self.book();
        match (book.requests.undelivered(message, &why), message.kind()) {
            (Some(answer), _) => {
                self.answer(&mut book, stream, &answer, true);
                Ok(())
            }
            (None, Kind::Request { .. }) => Ok(()), // the end of the server has answered it already
            (None, _) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why)),
        }
    }

    /// Answers a request in place of the server; the stream may end with it, if nothing else is owed there.
    /// Says whether the client has it or can still get it.
    fn answer(&self, book: &mut Book, stream: StreamId, answer: &Message, may_end: bool) -> bool {
        self.count_sent(book, answer, true);
        let last = may_end && stream != ONLY && book.requests.open_on(stream) == 0;
        self.write(book, stream, answer, last)
    }

    fn count_taken(&self, book: &mut Book, message: &Message, now: Instant) {
        self.offer.metrics.received(message.bytes().len());
        if let Kind::Request { id, method } = message.kind() {
            self.offer.metrics.asked(method);
            if book.times.len() >= TIMES {
                book.times.remove(0);
            }
            book.times.push((id.clone(), now));
        }
    }

    fn count_sent(&self, book: &mut Book, message: &Message, is_ours: bool) {
        self.offer.metrics.sent(message.bytes().len());
        let Kind::Response { id: Some(id) } = message.kind() else { return };
        let now = Instant::now();
        book.left = now; // its stream may end with it
        let Some(began) = book.take_time(id) else { return };
        let answer = match (is_ours, message.is_error()) {
            (true, _) => Answer::OwnError,
            (false, true) => Answer::Error,
            (false, false) => Answer::Result,
        };
        self.offer.metrics.answered(answer, now.saturating_duration_since(began));
    }

    /// Nothing is owed on this stream any more.
    fn finish(book: &mut Book, id: StreamId) {
        if let Some(replay) = &mut book.replay {
            replay.end(id);
        }
        if let Some(Channel { stream: Some(stream), .. }) = book.channels.remove(id) {
            stream.end();
        }
    }

    /// Takes a message of the server. If the server asked in vain, it is answered.
    pub fn deliver_and_answer(self: &Arc<Self>, message: &Message) {
        if let Some(answer) = self.deliver(message)
            && self.sender().send(&answer).is_err()
        {
            log::debug(format_args!("session {}: the server cannot be answered", self.shown()));
        }
    }

    /// Takes a message of the server; gives what the server is to be answered, if it asked in vain.
    #[must_use]
    pub fn deliver(self: &Arc<Self>, message: &Message) -> Option<Message> {
        let _turn = self.turn();
        let mut book = self.book();
        if let Some(initialize) = &book.initialize
            && !self.is_bridged()
            && self.offer.refuses_legacy(initialize, message)
        {
            book.refusal = Some(message.clone());
            drop(book);
            self.offer.cross(self.clone());
            return None;
        }
        let refusal = book.refusal.take_if(|_| matches!(message.kind(), Kind::Response { .. }));
        if refusal.is_some() && !message.is_error() {
            self.offer.modern.learn_crossed();
        }
        let message = refusal.as_ref().filter(|_| message.is_error()).unwrap_or(message);
        if self.lists_tools && message.result_text().is_some() {
            self.offer.modern.learn_tools(message);
        }
        let stream = match book.requests.from_server(message) {
            FromServer::Deliver { stream, last } => {
                book.note_opening(message);
                self.count_sent(&mut book, message, false);
                if self.write_alone(book, stream, message, last && stream != ONLY).unwrap_or(false) {
                    return None;
                }
                stream
            }
            FromServer::Hold => return None,
            FromServer::Refuse(answer) => return Some(answer),
            FromServer::Drop(why) => {
                if let Kind::Response { id: Some(id) } = message.kind() {
                    book.take_time(id); // nobody waited for it any more
                }
                log::debug(format_args!("session {}: {message:?} left out: {why}", self.shown()));
                return None;
            }
        };
        let id = message.id().filter(|_| matches!(message.kind(), Kind::Request { .. }))?;
        let refusal = Message::error(Some(id), INTERNAL_ERROR, "the client cannot be asked on this connection");
        self.book().requests.from_client(&refusal, stream); // it counts as the client's
        Some(refusal)
    }

    /// Writes a message to a stream as [`Session::write`] does, where it can with the book closed.
    fn write_alone(&self, mut book: MutexGuard<'_, Book>, id: StreamId, message: &Message, last: bool) -> Option<bool> {
        let resumes = book.replay.is_some();
        let channel = book.channels.get(id)?;
        let stream = channel.stream.clone();
        match stream {
            Some(stream) if last && channel.batch.is_none() && !channel.begun && stream.takes_json() => {
                book.channels.remove(id);
                drop(book);
                self.answer_on(&stream, message);
                Some(true)
            }
            Some(stream) if channel.begun && !resumes && !last => {
                drop(book);
                Some(stream.send(&event(None, message)))
            }
            _ => Some(self.write(&mut book, id, message, last)),
        }
    }

    /// Writes a message to a stream, in the form that fits; says whether the client has it or can still get it.
    fn write(&self, book: &mut Book, id: StreamId, message: &Message, last: bool) -> bool {
        let Some(channel) = book.channels.get_mut(id) else { return false };
        if last
            && channel.batch.is_none()
            && channel.stream.as_ref().is_some_and(|stream| self.answer_on(stream, message))
        {
            book.channels.remove(id);
            return true;
        }
        if channel.batch.is_some() {
            return Self::collect(book, id, message, last);
        }
        if !channel.begun {
            self.begin(book, id, b"");
        }
        let Book { channels, replay, .. } = book;
        let Some(channel) = channels.get_mut(id) else { return false };
        let there = channel.stream.as_ref().filter(|stream| stream.takes_events());
        let mut sent = false;
        if there.is_some() || channel.resumable {
            let number = replay.as_mut().map(|replay| replay.keep(id, message.bytes(), self.begun.elapsed()));
            if let Some(stream) = there {
                sent = stream.send(&event(number.as_deref(), message));
            }
            channel.resumable |= sent && number.is_some();
            sent |= channel.resumable;
        }
        if last {
            Self::finish(book, id);
        }
        sent
    }

    /// Answers with JSON. Without a session (2026-07-28) the status tells of some errors.
    fn answer_on(&self, stream: &Stream, message: &Message) -> bool {
        if self.is_modern && message.is_error() {
            let status = StatusCode::from_u16(headers::status(message)).unwrap_or(StatusCode::OK);
            return stream.answer_as(status, message.bytes());
        }
        stream.answer(message.bytes())
    }

    /// Keeps an answer until all of its batch are there. Nothing else can be told to a client that takes only JSON.
    fn collect(book: &mut Book, id: StreamId, message: &Message, last: bool) -> bool {
        let Some(channel) = book.channels.get_mut(id) else { return false };
        let Some(batch) = &mut channel.batch else { return false };
        let is_answer = matches!(message.kind(), Kind::Response { .. });
        if is_answer {
            batch.push(if batch.is_empty() { b'[' } else { b',' });
            batch.extend_from_slice(message.bytes());
        }
        if last {
            batch.push(b']');
            if let Some(stream) = &channel.stream {
                stream.answer(batch);
            }
            book.channels.remove(id);
        }
        is_answer
    }

    /// The session is over: what is open is answered, and the streams end. Says whether it was not over before.
    pub fn end(&self, why: &str) -> bool {
        let _turn = self.turn();
        let mut book = self.book();
        if std::mem::replace(&mut book.ended, true) {
            return false;
        }
        let answers = book.requests.lose(why);
        for (at, (id, answer)) in answers.iter().enumerate() {
            // What came with it may still be answered by us, and ends the stream then.
            let is_opening = book.channels.get(*id).is_some_and(|channel| channel.opening);
            let last = *id != ONLY && !is_opening && answers[at + 1..].iter().all(|(later, _)| later != id);
            self.count_sent(&mut book, answer, true);
            self.write(&mut book, *id, answer, last);
        }
        for channel in book.channels.values().filter(|channel| !channel.opening) {
            if let Some(stream) = &channel.stream {
                stream.end();
            }
        }
        book.channels.0.retain(|(id, channel)| *id == ONLY || channel.opening);
        true
    }
}

#[cfg(test)]
mod tests;
