//! One server process for all sessions of a server: what passes between them and it.
//!
//! Always: under one lock a message is decided upon and written, so that the server sees messages in the order in
//! which they were decided upon; nothing that can wait is done under it.

use super::session::Session;
use crate::log;
use crate::protocol::message::Message;
use crate::protocol::remote;
use crate::protocol::share::{Action, Key, Kind, Limits, Share};
use crate::upstream::{Sender, Undelivered};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The sessions of one server and the process that they share.
pub struct Shared {
    state: Mutex<State>,
}

struct State {
    share: Share,
    /// The way to the server, while there is one.
    sender: Option<Arc<dyn Sender>>,
    sessions: HashMap<Key, Weak<Session>>,
    keys: u64,
    /// The server ends with its last session.
    retired: bool,
}

/// One session's way to the process that it shares with others.
struct Member {
    shared: Arc<Shared>,
    key: Key,
}

impl Shared {
    /// No server and no session yet. `secret` makes the ids that stateless clients must not guess.
    pub fn new(limits: Limits, secret: String) -> Arc<Self> {
        let state = State {
            share: Share::new(limits, secret),
            sender: None,
            sessions: HashMap::new(),
            keys: 0,
            retired: false,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a server that has begun.
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.sender.is_some() && state.share.is_ready()
    }

    /// Why the server did not begin, if it refused to or could not be asked.
    pub fn refusal(&self) -> Option<String> {
        self.state().share.refusal().and_then(remote::error_text)
    }

    /// Whether there is a server at all.
    pub fn has_server(&self) -> bool {
        self.state().sender.is_some()
    }

    /// A fresh server is there.
    pub fn begin(&self, sender: Arc<dyn Sender>) {
        let mut state = self.state();
        state.sender = Some(sender);
        let mut actions = Vec::new();
        state.share.begin(&mut actions);
        state.act(actions);
        state.end_if_alone();
    }

    /// A session joins; `make` makes it of its way to the server.
    pub fn join(self: &Arc<Self>, kind: Kind, make: impl FnOnce(Arc<dyn Sender>) -> Session) -> Arc<Session> {
        let mut state = self.state();
        state.keys += 1;
        let key = Key(state.keys);
        state.share.join(key, kind);
        let session = Arc::new(make(Arc::new(Member { shared: self.clone(), key })));
        state.sessions.insert(key, Arc::downgrade(&session));
        session
    }

    /// Takes a message of the server.
    pub fn deliver(&self, message: Message) {
        let mut state = self.state();
        let mut actions = Vec::new();
        state.share.from_server(message, &mut actions);
        state.act(actions);
    }

    /// The server is lost: what was under way gets an error, the sessions live on.
    pub fn lose(&self, why: &str) {
        let mut state = self.state();
        state.sender = None;
        let mut actions = Vec::new();
        state.share.lose(why, &mut actions);
        state.act(actions);
    }

    /// No new session comes: the server ends with the last one.
    pub fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        state.end_if_alone();
    }
}

impl State {
    /// Does what was decided, and what comes of it.
    fn act(&mut self, actions: Vec<Action>) {
        let mut todo = VecDeque::from(actions);
        let mut more = Vec::new();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::ToServer(message) => {
                    let sent = match &self.sender {
                        Some(sender) => sender.send(&message),
                        None => Err(Undelivered::Gone("there is no server at this moment".into())),
                    };
                    let why = match sent {
                        Ok(()) => continue,
                        Err(Undelivered::Gone(why)) => why,
                        Err(Undelivered::Full) => "the server does not read what it is sent".into(),
                    };
                    self.share.undelivered(&message, &why, &mut more);
                }
                Action::ToClient(key, message) => match self.sessions.get(&key).and_then(Weak::upgrade) {
                    Some(session) => {
                        if let Some(answer) = session.deliver(&message) {
                            self.share.from_client(key, answer, &mut more);
                        }
                    }
                    None => log::debug(format_args!("{message:?} is for a session that has ended")),
                },
            }
            todo.extend(more.drain(..));
        }
        self.end_if_refused();
    }

    /// A connection to a remote server that has not begun never will: another one may.
    fn end_if_refused(&self) {
        if let Some(sender) = self.sender.as_ref().filter(|sender| sender.pid().is_none())
            && self.share.refusal().is_some()
        {
            sender.stop();
        }
    }

    fn end_if_alone(&self) {
        if self.retired
            && self.sessions.is_empty()
            && let Some(sender) = &self.sender
        {
            sender.stop();
        }
    }
}

impl Sender for Member {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        let mut state = self.shared.state();
        let mut actions = Vec::new();
        state.share.from_client(self.key, message.clone(), &mut actions);
        state.act(actions);
        Ok(())
    }

    fn stop(&self) {
        let mut state = self.shared.state();
        let mut actions = Vec::new();
        state.share.leave(self.key, &mut actions);
        state.sessions.remove(&self.key);
        state.act(actions);
        state.end_if_alone();
    }

    fn kill(&self) {
        self.stop();
    }
}
