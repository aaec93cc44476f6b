//! What is known of a session, and what the threads of its conversation share.

use super::{LAST_EVENT, SESSION, VERSION};
use crate::protocol::message::{Id, Message};
use crate::upstream::http::Client;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request};

const POST_HEADERS: &[(HeaderName, &str)] =
    &[(header::CONTENT_TYPE, "application/json"), (header::ACCEPT, "application/json, text/event-stream")];

/// One session, or the lack of one. It does not change: what is learned makes another value with the same number.
#[derive(Clone)]
pub struct Session {
    /// Which of the sessions of its conversation it is.
    pub number: u64,
    /// What the server calls it.
    pub id: Option<HeaderValue>,
    /// What both sides have settled on.
    pub version: Option<HeaderValue>,
    head: Arc<request::Parts>,
}

impl Session {
    /// No session yet.
    pub fn none(client: &Client) -> Arc<Self> {
        Arc::new(Self::fresh(client, 0))
    }

    /// The session with that number before anything is known of it.
    pub fn fresh(client: &Client, number: u64) -> Self {
        let url = &client.remote().url;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = Method::POST;
        head.headers = client.headers_for(&url.to_string(), POST_HEADERS);
        head.uri = url.clone();
        Self { number, id: None, version: None, head: Arc::new(head) }
    }

    /// What the server calls it is known.
    pub fn with_id(mut self, id: Option<HeaderValue>) -> Self {
        set(&mut Arc::make_mut(&mut self.head).headers, SESSION, id.as_ref());
        self.id = id;
        self
    }

    /// What both sides have settled on is known.
    pub fn with_version(mut self, version: Option<HeaderValue>) -> Self {
        set(&mut Arc::make_mut(&mut self.head).headers, VERSION, version.as_ref());
        self.version = version;
        self
    }

    /// The server has another address within its origin.
    pub fn at(mut self, url: Uri) -> Self {
        Arc::make_mut(&mut self.head).uri = url;
        self
    }

    /// What a POST of it begins with.
    pub fn head(&self) -> &Arc<request::Parts> {
        &self.head
    }

    /// What another request of it begins with; a GET may ask for what came after an event.
    pub fn head_of(&self, method: Method, after: Option<HeaderValue>) -> Arc<request::Parts> {
        let mut head = (*self.head).clone();
        head.headers.remove(header::CONTENT_TYPE);
        if method == Method::GET {
            head.headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(after) = after {
            head.headers.insert(LAST_EVENT, after);
        }
        head.method = method;
        Arc::new(head)
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value.clone())),
        None => drop(headers.remove(name)),
    }
}

/// Whether messages may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They may.
    Open,
    /// An `initialize` is not answered yet; the client's own, or ours that renews a session.
    Beginning { renews: bool },
}

/// What the threads of a conversation share.
pub struct State {
    /// The session.
    pub session: Arc<Session>,
    /// No session, for what stands alone; only its address may change.
    pub alone: Arc<Session>,
    /// Whether messages may be sent.
    pub phase: Phase,
    /// The number of the session that was begun last.
    pub number: u64,
    /// The client's `initialize` and `notifications/initialized`.
    pub handshake: Option<Message>,
    pub initialized: Option<Message>,
    /// The number of the session that was begun because the server seemed to be another one.
    pub doubted: u64,
    /// How many times a session was renewed or could not be, and why it could not last.
    pub renewals: u64,
    pub failure: String,
    /// Requests whose threads wait for an answer.
    open: Vec<Open>,
    /// The thread that reads the GET stream, and the number of the session that it shall read.
    pub listener: Option<JoinHandle<()>>,
    pub listens_to: u64,
    /// The number of the session whose GET stream is there, or is not offered.
    pub listened: u64,
    /// Whether the server was heard of.
    pub connected: bool,
    /// Why the conversation ends.
    pub stopped: Option<String>,
}

struct Open {
    id: Id,
    thread: ThreadId,
    cancelled: bool,
    /// It belongs to no session.
    is_alone: bool,
}

impl State {
    /// The state before anything was said.
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            alone: session.clone(),
            session,
            phase: Phase::Open,
            number: 0,
            handshake: None,
            initialized: None,
            doubted: 0,
            renewals: 0,
            failure: String::new(),
            open: Vec::new(),
            listener: None,
            listens_to: 0,
            listened: 0,
            connected: false,
            stopped: None,
        }
    }

    /// A thread waits for the answer to this request from now on.
    pub fn waits(&mut self, id: &Id, thread: ThreadId) {
        self.open.push(Open { id: id.clone(), thread, cancelled: false, is_alone: false });
    }

    /// The same for a request that belongs to no session.
    pub fn waits_alone(&mut self, id: &Id, thread: ThreadId) {
        self.open.push(Open { id: id.clone(), thread, cancelled: false, is_alone: true });
    }

    /// It no longer does. Says whether its request was cancelled.
    pub fn has(&mut self, thread: ThreadId) -> bool {
        let at = self.open.iter().position(|open| open.thread == thread);
        at.is_some_and(|at| self.open.swap_remove(at).cancelled)
    }

    /// The request was cancelled. Gives the thread that waits.
    pub fn cancel(&mut self, id: &Id) -> Option<ThreadId> {
        self.cancel_one(id, false)
    }

    /// The same for a request that belongs to no session.
    pub fn cancel_alone(&mut self, id: &Id) -> Option<ThreadId> {
        self.cancel_one(id, true)
    }

    fn cancel_one(&mut self, id: &Id, is_alone: bool) -> Option<ThreadId> {
        let is_it = |open: &&mut Open| open.is_alone == is_alone && open.id.may_be(id) && !open.cancelled;
        let open = self.open.iter_mut().find(is_it)?;
        open.cancelled = true;
        Some(open.thread)
    }

    /// Whether what this thread waits for is still wanted.
    pub fn is_wanted(&self, thread: ThreadId) -> bool {
        !self.open.iter().any(|open| open.thread == thread && open.cancelled)
    }
}
