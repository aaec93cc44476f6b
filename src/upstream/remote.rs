//! A remote server, whatever it speaks: Streamable HTTP or HTTP+SSE, as the user says or as it turns out.
//!
//! ```text
//!            path ends in /sse                     refused
//!   auto ──▶ GET, an event stream? ──yes──▶ HTTP+SSE  ◀──────────────┐
//!     │             └──no──▶ Streamable HTTP                          │
//!     └─ else: the first message is a POST ──taken──▶ Streamable HTTP │
//!                                          └─────refused──▶ GET ──────┘
//! ```
//!
//! Always: a message that was refused was not taken, and is sent again at most once, over the other transport; what
//! was found is where the next connection begins; an error names both attempts.

use super::crew::{self, Crew};
use super::http::{Client, Transport};
use super::streamable::{End, Failure, Posts, Streamable};
use super::waits::{Bystander, TICK};
use super::{Deliver, Event, Failed, Link, Receiver, Sender, Undelivered, sse};
use crate::log;
use crate::protocol::message::{Kind, Message};
use crate::protocol::remote::is_sse_path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A link to a remote server for many clients' threads: to send never waits. What comes over an HTTP+SSE stream is
/// received, all else is delivered by the thread that read it. A request that could not be sent, or whose answer was
/// lost, is answered through `deliver` with an error, and `failed` is told why, unless this side ends the link. At most
/// `open_requests` requests and a few messages more are under way at once; what else is sent waits, bounded.
///
/// Nothing is connected before the first [`Receiver::recv`].
#[must_use]
pub fn link(client: Arc<Client>, deliver: Deliver, failed: Failed, open_requests: usize) -> Link {
    let crew = Crew::new(deliver.clone(), failed, open_requests);
    let attempt = Attempt::new(client, deliver, crew::bystander(&crew));
    crew::link(crew, attempt)
}

/// One attempt to reach a server, and the link that comes of it.
pub struct Attempt {
    client: Arc<Client>,
    deliver: Deliver,
    bystander: Arc<dyn Bystander>,
    state: Mutex<State>,
    /// It is known what the server speaks, or that this message could not tell.
    changed: Condvar,
    /// Whether it is known that it speaks Streamable HTTP: looked at before every message.
    is_streamable: AtomicBool,
}

struct State {
    choice: Choice,
    sse: Option<Arc<sse::Attempt>>,
    streamable: Option<Arc<Streamable>>,
    /// The way over HTTP+SSE while the first message goes there: no other may be faster.
    found: Option<Arc<dyn Sender>>,
    /// What a GET was answered with, where it was no event stream with an endpoint.
    no_sse: Option<String>,
    /// The stream that was found after the link was made.
    stream: Option<Box<dyn Receiver>>,
    stopped: Option<String>,
}

/// What the server speaks.
#[derive(Clone)]
enum Choice {
    Unknown,
    /// A message is under way that will tell.
    Trying,
    Streamable,
    Sse(Arc<dyn Sender>),
}

impl Attempt {
    /// An attempt. What comes by POST goes to `deliver`, what comes over an HTTP+SSE stream through the link.
    #[must_use]
    pub fn new(client: Arc<Client>, deliver: Deliver, bystander: Arc<dyn Bystander>) -> Arc<Self> {
        let state = State {
            choice: Choice::Unknown,
            sse: None,
            streamable: None,
            found: None,
            no_sse: None,
            stream: None,
            stopped: None,
        };
        let (state, changed, is_streamable) = (Mutex::new(state), Condvar::new(), AtomicBool::new(false));
        Arc::new(Self { client, deliver, bystander, state, changed, is_streamable })
    }

    /// Makes a link. Streamable HTTP needs no connection for one: there, each message finds out for itself.
    ///
    /// # Errors
    /// The server cannot be reached or speaks something else, in words for a person.
    pub fn connect(self: &Arc<Self>) -> Result<Link, String> {
        let remote = self.client.remote();
        let sse_first = match self.client.speaks() {
            Transport::Auto => is_sse_path(remote.url.path()),
            known => known == Transport::Sse,
        };
        if sse_first {
            match self.connect_sse() {
                Ok(link) => return Ok(link),
                Err(sse::Failure { refusal: Some(refusal), .. }) if remote.transport == Transport::Auto => {
                    self.state().no_sse = Some(refusal);
                }
                Err(failure) => return Err(failure.why),
            }
        }
        self.converse()
    }

    /// From now on an HTTP+SSE stream ends if nothing comes within the time of one request, or it may be silent for
    /// ever.
    pub fn expect_answer(&self, is_expected: bool) {
        let sse = self.state().sse.clone();
        if let Some(sse) = sse {
            sse.expect_answer(is_expected);
        }
    }

    /// Ends the attempt, or its link, for this reason. Returns at once.
    pub fn stop(&self, why: &str) {
        let (sse, streamable) = {
            let mut state = self.state();
            state.stopped.get_or_insert_with(|| why.to_owned());
            (state.sse.clone(), state.streamable.clone())
        };
        if let Some(sse) = sse {
            sse.stop(why);
        }
        if let Some(streamable) = streamable {
            streamable.end(why);
        }
        self.changed.notify_all();
    }

    fn connect_sse(self: &Arc<Self>) -> Result<Link, sse::Failure> {
        let attempt = sse::Attempt::new(self.client.clone(), self.bystander.clone());
        {
            let mut state = self.state();
            if let Some(why) = &state.stopped {
                return Err(why.clone().into());
            }
            state.sse = Some(attempt.clone());
        }
        let link = attempt.connect()?;
        self.client.found(Transport::Sse);
        log::info(format_args!("connected to '{}'", self.shown()));
        Ok(link)
    }

    /// The same on a thread that others depend on.
    fn connect_sse_beside(self: &Arc<Self>) -> Result<Link, sse::Failure> {
        self.bystander.long();
        self.connect_sse()
    }

    fn converse(self: &Arc<Self>) -> Result<Link, String> {
        let this = Arc::downgrade(self);
        let deliver = move |message| {
            let Some(this) = this.upgrade() else { return };
            this.speaks_streamable();
            (this.deliver)(message);
        };
        let streamable = Streamable::new(self.client.clone(), Arc::new(deliver), self.bystander.clone())?;
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(why.clone());
        }
        state.streamable = Some(streamable.clone());
        if self.client.remote().transport == Transport::StreamableHttp {
            state.choice = Choice::Streamable;
            self.is_streamable.store(true, Ordering::Release);
        }
        drop(state);
        let receiver = Either { attempt: self.clone(), end: End(streamable.clone()), stream: None };
        let sender = Finder { attempt: self.clone(), posts: Posts(streamable) };
        Ok(Link { sender: Arc::new(sender), receiver: Box::new(receiver) })
    }

    /// The server took a POST.
    fn speaks_streamable(&self) {
        if self.is_streamable.swap(true, Ordering::AcqRel) {
            return;
        }
        self.client.found(Transport::StreamableHttp);
        self.state().choice = Choice::Streamable;
        self.changed.notify_all();
    }

    /// What the server speaks; [`Choice::Trying`] where this message is the one to find out.
    fn choice(&self, message: &Message) -> Result<Choice, Undelivered> {
        let mut state = self.state();
        loop {
            if let Some(why) = &state.stopped {
                return Err(Undelivered::Gone(why.clone()));
            }
            match &state.choice {
                Choice::Unknown => {
                    state.choice = Choice::Trying;
                    return Ok(Choice::Trying);
                }
                // What the server asks before a message has told what it speaks, it asks over the way of that message.
                Choice::Trying if matches!(message.kind(), Kind::Response { .. }) => {
                    return Ok(state.found.clone().map_or(Choice::Streamable, Choice::Sse));
                }
                Choice::Trying => {
                    let (guard, waited) =
                        self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
                    state = guard;
                    if waited.timed_out() {
                        drop(state);
                        self.bystander.idles();
                        state = self.state();
                    }
                }
                known => return Ok(known.clone()),
            }
        }
    }

    /// Sends a message by POST, and over HTTP+SSE if that is refused.
    fn find_out(self: &Arc<Self>, posts: &Posts, message: &Message) -> Result<(), Undelivered> {
        let done = match posts.0.converse(message) {
            Ok(()) => {
                self.speaks_streamable();
                Ok(())
            }
            Err(Failure::Refused(_, refusal)) if !self.is_streamable.load(Ordering::Acquire) => {
                self.try_sse(&refusal, message)
            }
            Err(failure) => Err(Undelivered::Gone(failure.why())),
        };
        let mut state = self.state();
        if matches!(state.choice, Choice::Trying) {
            state.choice = Choice::Unknown;
        }
        drop(state);
        self.changed.notify_all();
        done
    }

    fn try_sse(self: &Arc<Self>, refusal: &str, message: &Message) -> Result<(), Undelivered> {
        let known = self.state().no_sse.clone();
        let no_sse = match known {
            Some(no_sse) => no_sse,
            None => match self.connect_sse_beside() {
                Ok(link) => {
                    let streamable = {
                        let mut state = self.state();
                        state.found = Some(link.sender.clone());
                        state.stream = Some(link.receiver);
                        state.streamable.take()
                    };
                    if let Some(streamable) = streamable {
                        streamable.end("the server speaks HTTP+SSE");
                    }
                    let sent = link.sender.send(message);
                    self.state().choice = Choice::Sse(link.sender);
                    return sent;
                }
                Err(failure) => failure.refusal.unwrap_or(failure.why),
            },
        };
        Err(Undelivered::Gone(format!(
            "'{}' speaks neither Streamable HTTP (POST: {refusal}) nor HTTP+SSE (GET: {no_sse}); is the path right?",
            self.shown()
        )))
    }

    fn shown(&self) -> String {
        log::address(&self.client.remote().url.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a server that speaks one of the two.
struct Finder {
    attempt: Arc<Attempt>,
    posts: Posts,
}

impl Sender for Finder {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        if self.attempt.is_streamable.load(Ordering::Acquire) {
            return self.posts.send(message);
        }
        match self.attempt.choice(message)? {
            Choice::Streamable => self.posts.send(message),
            Choice::Sse(sender) => sender.send(message),
            Choice::Unknown | Choice::Trying => self.attempt.find_out(&self.posts, message),
        }
    }

    fn stop(&self) {
        self.attempt.stop("the connection was closed by us");
    }

    fn kill(&self) {
        self.stop();
    }
}

/// The way from it.
struct Either {
    attempt: Arc<Attempt>,
    end: End,
    stream: Option<Box<dyn Receiver>>,
}

impl Receiver for Either {
    fn recv(&mut self) -> Event {
        loop {
            if let Some(stream) = &mut self.stream {
                return stream.recv();
            }
            let event = self.end.recv();
            self.stream = self.attempt.state().stream.take();
            if self.stream.is_none() {
                return event;
            }
        }
    }

    fn pending(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.pending())
    }

    fn retry(&self) -> Option<Duration> {
        self.stream.as_ref().and_then(|stream| stream.retry())
    }
}
