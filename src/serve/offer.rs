//! One server as it is offered: under which name, how it is started, and how it is doing.
//!
//! ```text
//!             started                    lived for a while, or answered
//!   Waiting ───────────▶ Starting ─────────────────────────────────────▶ Running
//!      ▲                    │ ended                                        │ ended
//!      └──── after a delay ─┴──────────────────────────────────────────────┘
//! ```
//!
//! Where each session has a server of its own, the server that is started ahead, the spare, shows how it is doing.

use super::Notice;
use super::modern::Modern;
use super::server::Server;
use super::session::Session;
use super::shared::Shared;
use crate::config::{self, Target};
use crate::error::Error;
use crate::protocol::era::{Era, Way};
use crate::protocol::message::{Kind, Message};
use crate::protocol::metrics::Metrics;
use crate::protocol::retry::Retry;
use crate::upstream::http::Client;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// One server as it is offered.
pub struct Offer {
    /// What it is.
    pub server: config::Server,
    /// What reaches it, where it is remote.
    pub client: Option<Arc<Client>>,
    /// What its sessions share, where they share a server.
    pub shared: Option<Arc<Shared>>,
    /// What modern clients go over.
    pub modern: Modern,
    /// What is counted.
    pub metrics: Metrics,
    notices: mpsc::Sender<Notice>,
    state: Mutex<State>,
}

/// How it is doing.
pub struct State {
    /// It is not offered any more.
    pub removed: bool,
    /// The server for the next session.
    pub spare: Option<Arc<Server>>,
    /// Whether a server is being started.
    pub preparing: bool,
    /// How often a server was started in place of one that had ended by itself.
    pub restarts: u64,
    /// Why the last server ended, or did not start; what follows it has not shown yet that it is better.
    pub failure: Option<String>,
    /// The last of all failures, for those who look later.
    pub last_error: Option<String>,
    /// When the next server is due.
    pub due: Option<Instant>,
    started: Option<Instant>,
    retry: Retry,
}

/// A server that has lived for so long has been started well.
const SETTLED: Duration = Duration::from_secs(2);
/// The delay before a server is started again, and the longest ones: for a process, and for a connection, which costs
/// little while its clients wait.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));

impl Offer {
    /// An offer of which nothing runs yet.
    ///
    /// # Errors
    /// What is remote cannot be reached as it was said.
    pub fn new(
        server: config::Server,
        shared: Option<Arc<Shared>>,
        modern: Modern,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Self, Error> {
        let client = match &server.target {
            Target::Remote(remote) => Some(Arc::new(Client::new(remote.clone())?)),
            Target::Command(_) => None,
        };
        let state = State {
            removed: false,
            spare: None,
            preparing: false,
            restarts: 0,
            failure: None,
            last_error: None,
            due: None,
            started: None,
            retry: Retry::new(RETRY, if client.is_some() { LONGEST_RETRY.1 } else { LONGEST_RETRY.0 }),
        };
        Ok(Self { server, client, shared, modern, metrics: Metrics::default(), notices, state: Mutex::new(state) })
    }

    /// What the server speaks, as far as is known: `legacy`, `modern`, `both` or `unknown`.
    pub fn eras(&self) -> &'static str {
        let Some(client) = &self.client else { return self.modern.eras() };
        match (client.way(Era::Legacy), client.way(Era::Modern)) {
            (Way::Straight, Way::Straight) => "both",
            (Way::Straight, _) | (_, Way::Crossed) => "legacy",
            (_, Way::Straight) | (Way::Crossed, _) => "modern",
            (Way::Unknown, Way::Unknown) => "unknown",
        }
    }

    /// What the client of a remote server has found out meanwhile is heard. Gives the links that are given up.
    pub fn reconsider(&self) -> Vec<Arc<Shared>> {
        let Some(client) = &self.client else { return Vec::new() };
        let links = match client.way(Era::Modern) {
            Way::Crossed => self.modern.reconsider(false).inspect(|_| client.eras().forget(Era::Modern)),
            Way::Straight => self.modern.reconsider(true),
            Way::Unknown => None,
        };
        links.unwrap_or_default()
    }

    /// Whether legacy clients come over the bridge, as far as is known.
    pub fn bridges_legacy(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.way(Era::Legacy) == Way::Crossed)
    }

    /// A server has answered a legacy client's `initialize`; says whether it refuses to speak to legacy clients at all.
    pub fn refuses_legacy(&self, initialize: &Message, answer: &Message) -> bool {
        matches!(answer.kind(), Kind::Response { .. }) && self.modern.learn_legacy(initialize, answer)
    }

    /// A legacy client is to go over the bridge. The main thread sees to it.
    pub fn cross(&self, session: Arc<Session>) {
        let _ = self.notices.send(Notice::Cross(session));
    }

    /// How it is doing.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, or a word for the one that has none.
    pub fn shown(&self) -> &str {
        self.server.name.as_deref().unwrap_or("default")
    }

    /// Whether the server that its sessions share is neither there nor ended by us.
    pub fn is_missing(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.has_server() && !shared.is_stopped())
    }

    /// Whether a server is to be started now; it is not due any more then.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut state = self.state();
        // A thread that loses its server may be kept for long just before: what was due met the one before, and was for
        // nothing. The clients wait.
        let is_due = state.due.map_or_else(|| !state.preparing && self.is_missing(), |due| due <= now);
        if is_due {
            state.due = None;
        }
        is_due
    }

    /// Whether a server is started before anybody asks for one.
    pub fn is_prepared(&self) -> bool {
        self.shared.is_some() || matches!(self.server.target, Target::Command(_))
    }
}

impl State {
    /// A server was started.
    pub fn started(&mut self, now: Instant) {
        if self.failure.is_some() {
            self.restarts += 1;
        }
        self.started = Some(now);
        self.due = None;
    }

    /// A server ended by itself, or did not start: the next one is due later.
    pub fn failed(&mut self, why: &str, now: Instant) {
        self.failure = Some(why.to_owned());
        self.last_error = self.failure.clone();
        self.started = None;
        self.due = (!self.removed).then(|| now + self.retry.next());
    }

    /// A server has answered.
    pub fn succeeded(&mut self) {
        self.failure = None;
        self.retry.reset();
    }

    /// When this offer wants to be looked at again; what is due is `due` already.
    pub fn settle(&mut self, now: Instant) -> Option<Instant> {
        let settled = self.started.map(|started| started + SETTLED).filter(|_| self.failure.is_some());
        if settled.is_some_and(|at| at <= now) {
            self.succeeded();
            return self.due;
        }
        self.due.into_iter().chain(settled).min()
    }
}
