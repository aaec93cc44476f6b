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
//! The same for the two eras of the protocol, each message for itself: what the client speaks is sent, and only if it is
//! refused as a server of the other era does, a bridge is put in between, inside the link (see `eras`).
//!
//! Always: a message that was refused was not taken, and is sent again at most once, over the other transport or the
//! bridge; what was found is where the next connection begins; an error names both attempts.

mod eras;
mod finder;

use super::bridge::Bridge;
pub use super::bridge::Inputs;
use super::crew::{self, Crew};
use super::http::{Client, Transport};
use super::streamable::{End, Failure, Posts, Streamable};
use super::waits::{Bystander, TICK};
use super::{Deliver, Failed, Link, Receiver, Sender, Undelivered, sse};
use crate::log;
use crate::protocol::era::{Era, Protocol};
use crate::protocol::message::{Kind, Message};
use crate::protocol::remote::is_sse_path;
use finder::{Either, Finder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What becomes of a modern client whose server turns out to be legacy. A legacy client of a modern server is always
/// bridged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// It is bridged: all that is sent over the link is one client's. This may wait for its input.
    Allowed(Inputs),
    /// What it sends is answered with an error, so that whoever uses the link can do something about it.
    Refused,
}

/// A link to a remote server for many clients' threads: to send never waits. What comes over an HTTP+SSE stream is
/// received, all else is delivered by the thread that read it. A request that could not be sent, or whose answer was
/// lost, is answered through `deliver` with an error, and `failed` is told why, unless this side ends the link. At most
/// `open_requests` requests and a few messages more are under way at once; what else is sent waits, bounded.
///
/// Nothing is connected before the first [`Receiver::recv`].
#[must_use]
pub fn link(client: Arc<Client>, deliver: Deliver, failed: Failed, open_requests: usize, crossing: Crossing) -> Link {
    link_for(client, deliver, failed, open_requests, Scope::Both(crossing))
}

/// The same for messages of one era only, and without a bridge.
pub(super) fn link_of(client: Arc<Client>, deliver: Deliver, failed: Failed, open_requests: usize, era: Era) -> Link {
    link_for(client, deliver, failed, open_requests, Scope::Only(era))
}

fn link_for(client: Arc<Client>, deliver: Deliver, failed: Failed, open_requests: usize, scope: Scope) -> Link {
    let crew = Crew::new(deliver.clone(), failed.clone(), open_requests);
    let bystander = crew::bystander(&crew);
    let attempt = Attempt::within(client, deliver, bystander, Bridging { scope, failed, open_requests });
    crew::link(crew, attempt)
}

/// One attempt to reach a server, and the link that comes of it.
pub struct Attempt {
    client: Arc<Client>,
    deliver: Deliver,
    bystander: Arc<dyn Bystander>,
    bridging: Bridging,
    state: Mutex<State>,
    /// It is known what the server speaks, or that this message could not tell.
    changed: Condvar,
    /// Whether it is known that it speaks Streamable HTTP: looked at before every message.
    is_streamable: AtomicBool,
    /// Whether a client has begun a session, or wanted to: messages that tell no era belong to it.
    has_begun: AtomicBool,
    /// Else whether there was a modern request, so that they belong to a modern client.
    is_modern: AtomicBool,
    /// Whether there is a bridge for a legacy client.
    is_bridged: AtomicBool,
}

/// What a bridge is made with.
struct Bridging {
    scope: Scope,
    failed: Failed,
    open_requests: usize,
}

/// What is sent over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Both(Crossing),
    Only(Era),
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
    /// Where the server is of another era than a client: the one for a legacy client, and the one for a modern one.
    bridges: [Option<Arc<Bridge>>; 2],
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
    /// An attempt. What comes by POST goes to `deliver`, what comes over an HTTP+SSE stream through the link. Where a
    /// bridge is put in between, `failed` is told why a message of its did not reach the server, and at most
    /// `open_requests` are under way at once.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        deliver: Deliver,
        bystander: Arc<dyn Bystander>,
        failed: Failed,
        open_requests: usize,
        crossing: Crossing,
    ) -> Arc<Self> {
        let scope = Scope::Both(crossing);
        Self::within(client, deliver, bystander, Bridging { scope, failed, open_requests })
    }

    fn within(client: Arc<Client>, deliver: Deliver, bystander: Arc<dyn Bystander>, bridging: Bridging) -> Arc<Self> {
        let state = State {
            choice: Choice::Unknown,
            sse: None,
            streamable: None,
            found: None,
            no_sse: None,
            stream: None,
            bridges: [None, None],
            stopped: None,
        };
        Arc::new(Self {
            client,
            deliver,
            bystander,
            state: Mutex::new(state),
            changed: Condvar::new(),
            is_streamable: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            is_modern: AtomicBool::new(bridging.scope == Scope::Only(Era::Modern)),
            is_bridged: AtomicBool::new(false),
            bridging,
        })
    }

    /// Makes a link. Streamable HTTP needs no connection for one: there, each message finds out for itself.
    ///
    /// # Errors
    /// The server cannot be reached or speaks something else, in words for a person.
    pub fn connect(self: &Arc<Self>) -> Result<Link, String> {
        let remote = self.client.remote();
        let sse_first = match self.client.speaks() {
            // A modern server has no HTTP+SSE.
            _ if self.bridging.scope == Scope::Only(Era::Modern) || remote.protocol == Protocol::Modern => false,
            Transport::Auto => is_sse_path(remote.url.path()),
            known => known == Transport::Sse,
        };
        if sse_first {
            match self.connect_sse() {
                Ok(link) => return Ok(self.over_sse(link)),
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
        let (sse, streamable, bridges) = {
            let mut state = self.state();
            state.stopped.get_or_insert_with(|| why.to_owned());
            (state.sse.clone(), state.streamable.clone(), state.bridges.clone())
        };
        bridges.iter().flatten().for_each(|bridge| bridge.stop(why));
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

    /// A link whose legacy messages go over HTTP+SSE.
    fn over_sse(self: &Arc<Self>, link: Link) -> Link {
        self.state().choice = Choice::Sse(link.sender);
        let receiver = Either { attempt: self.clone(), end: None, stream: Some(link.receiver) };
        Link { sender: Arc::new(Finder { attempt: self.clone(), posts: None }), receiver: Box::new(receiver) }
    }

    fn converse(self: &Arc<Self>) -> Result<Link, String> {
        let this = Arc::downgrade(self);
        let deliver = move |message| {
            let Some(this) = this.upgrade() else { return };
            this.speaks_streamable();
            (this.deliver)(message);
        };
        let streamable =
            Streamable::new(self.client.clone(), Arc::new(deliver), self.bystander.clone(), self.may_cross())?;
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
        let receiver = Either { attempt: self.clone(), end: Some(End(streamable.clone())), stream: None };
        let sender = Finder { attempt: self.clone(), posts: Some(Posts(streamable)) };
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
            Err(Failure::OnlyModern(_)) => self.bridge(Era::Legacy, message),
            Err(Failure::MaybeModern(answer)) => {
                self.speaks_streamable();
                self.bridge_or_deliver(message, *answer)
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
        if self.is_modern_only(message) {
            return self.bridge(Era::Legacy, message);
        }
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
