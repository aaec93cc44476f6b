//! One link to a server that many clients share: what passes between them and it.
//!
//! A [`Hub`] decides: for legacy clients of a legacy server, for modern clients of a modern server, or for those of
//! different eras. Always: under one lock a message is decided upon and written, so that the server sees messages in the order in
//! which they were decided upon; nothing that can wait is done under it.

use super::Notice;
use super::session::Session;
use crate::log;
use crate::protocol::hub::{Action, Hub, Key, Kind};
use crate::protocol::message::Message;
use crate::protocol::remote;
use crate::upstream::{Hearer, Sender, Undelivered};
use std::collections::{HashMap, VecDeque};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

/// The clients of one server and the link that they share.
pub struct Shared {
    made: Instant,
    notices: mpsc::Sender<Notice>,
    /// Its server is started again by itself; else the next client begins another.
    restarts: bool,
    /// Held by whoever gives it a server.
    beginning: Mutex<()>,
    state: Mutex<State>,
    /// It may be known now whether the server begins.
    changed: Condvar,
}

/// What became of a server that was to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It has begun.
    Ready,
    /// It refused to, with this error.
    Refused(Message),
    /// It has ended, or could not be started.
    Lost,
    /// It has said nothing in time.
    Silent,
}

struct State {
    hub: Box<dyn Hub>,
    /// The way to the server, while there is one.
    sender: Option<Arc<dyn Sender>>,
    /// Why there is none any more.
    lost: Option<String>,
    sessions: HashMap<Key, Weak<Session>>,
    /// How many places are kept for clients that are about to join.
    kept: usize,
    keys: u64,
    /// The server ends with its last session.
    retired: bool,
    /// We have told the server to end.
    stopped: bool,
    /// Since when no client is here.
    left: Instant,
    /// When the main thread will look for what is too old.
    look: Option<Duration>,
}

/// A place for a client that is about to join: until it is given up, nobody is said to be here no more.
pub struct Place {
    /// The link.
    pub shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.kept -= 1;
        state.leave();
    }
}

/// One session's way to the process that it shares with others.
struct Member {
    shared: Arc<Shared>,
    key: Key,
}

impl Shared {
    /// No server and no client yet.
    pub fn new(hub: Box<dyn Hub>, notices: mpsc::Sender<Notice>, restarts: bool) -> Arc<Self> {
        let made = Instant::now();
        let state = State {
            hub,
            sender: None,
            lost: None,
            sessions: HashMap::new(),
            kept: 0,
            keys: 0,
            retired: false,
            stopped: false,
            left: made,
            look: None,
        };
        Arc::new(Self {
            made,
            notices,
            restarts,
            beginning: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state at this time, with what is too old given up.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let mut actions = Vec::new();
        state.hub.tick(self.made.elapsed(), &mut actions);
        state.act(actions);
        state
    }

    /// Gives up what is too old; says when to look again.
    pub fn tick(&self) -> Option<Instant> {
        let mut state = self.state();
        let mut actions = Vec::new();
        let next = state.hub.tick(self.made.elapsed(), &mut actions);
        state.act(actions);
        state.look = next;
        next.map(|next| self.made + next)
    }

    /// A message was taken: what is to be done later because of it may be due sooner than anything else.
    fn schedule(&self, state: &mut State) {
        let mut actions = Vec::new();
        let next = state.hub.tick(self.made.elapsed(), &mut actions);
        state.act(actions);
        if next.is_some_and(|next| state.look.is_none_or(|look| next < look)) {
            state.look = next;
            let _ = self.notices.send(Notice::Changed);
        }
    }

    /// Waits until it is known whether the server begins.
    pub fn wait(&self, limit: Duration) -> Begun {
        let is_open =
            |state: &mut State| state.sender.is_some() && !state.hub.is_ready() && state.hub.refusal().is_none();
        let waited = self.changed.wait_timeout_while(self.state(), limit, is_open);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.hub.refusal(), state.sender.is_some()) {
            (Some(refusal), _) => Begun::Refused(refusal.clone()),
            (None, _) if state.hub.is_ready() => Begun::Ready,
            (None, true) if waited.timed_out() => Begun::Silent,
            (None, _) => Begun::Lost,
        }
    }

    /// What the server answered when it began.
    pub fn greeting(&self) -> Option<Message> {
        self.state().hub.greeting().cloned()
    }

    /// Whether this request goes on with one that is kept here.
    pub fn resumes(&self, message: &Message) -> bool {
        self.now().hub.resumes(message)
    }

    /// Whether this request can be taken without making it unclear whose a message of the server is.
    pub fn is_free_for(&self, message: &Message) -> bool {
        self.now().hub.is_free_for(message)
    }

    /// Whether the server may still ask something because of a request that nobody waits for any more.
    pub fn is_haunted(&self) -> bool {
        self.now().hub.is_haunted()
    }

    /// Since when the server answers nothing, as far as can be told, and nobody's input is waited for.
    pub fn stuck_since(&self) -> Option<Instant> {
        let state = self.state();
        let since = state.hub.stuck_since().filter(|_| state.hub.parked() == 0);
        since.map(|since| self.made + since)
    }

    /// Since when nobody is here and nobody is expected back; `None` while somebody is.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.is_alone() && state.hub.parked() == 0).then_some(state.left)
    }

    /// The clients that are here.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.state().sessions.values().filter_map(Weak::upgrade).collect()
    }

    /// How many clients are here, and how many calls wait for their client's input.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.sessions.len(), state.hub.parked())
    }

    /// How many calls wait for their client's input, and the bytes of everything that is kept for them.
    pub fn parked(&self) -> (usize, usize) {
        let state = self.state();
        (state.hub.parked(), state.hub.parked_bytes())
    }

    /// So many may, from now on.
    pub fn limit_parked(&self, most: usize, bytes: usize) {
        self.state().hub.limit_parked(most, bytes);
    }

    /// We end the server. Says whether there was one.
    pub fn stop(&self) -> bool {
        let mut state = self.state();
        state.stopped = true;
        let sender = state.sender.clone();
        drop(state);
        sender.inspect(|sender| sender.stop()).is_some()
    }

    /// Whether the end of the server was of our own doing.
    pub fn is_stopped(&self) -> bool {
        let state = self.state();
        state.stopped || state.retired
    }

    /// What can end well ends well, for this reason.
    pub fn finish(&self, why: &str) {
        let mut state = self.state();
        let mut actions = Vec::new();
        state.hub.finish(why, &mut actions);
        state.act(actions);
    }

    /// Whether there is a server that has begun.
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.sender.is_some() && state.hub.is_ready()
    }

    /// Why the server did not begin, if it refused to or could not be asked.
    pub fn refusal(&self) -> Option<String> {
        self.state().hub.refusal().and_then(remote::error_text)
    }

    /// Whether there is a server at all.
    pub fn has_server(&self) -> bool {
        self.state().sender.is_some()
    }

    /// The right to give it a server; `None` if it has one. Others that want to wait.
    pub fn turn_to_begin(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.has_server()).then_some(turn)
    }

    /// A fresh server is there.
    pub fn begin(&self, sender: Arc<dyn Sender>) {
        let mut state = self.state();
        state.sender = Some(sender);
        state.stopped = false;
        let mut actions = Vec::new();
        state.hub.begin(&mut actions);
        state.act(actions);
        state.end_if_alone();
    }

    /// Keeps a place for a client that is about to join.
    #[must_use]
    pub fn keep_place(self: &Arc<Self>) -> Place {
        self.state().kept += 1;
        Place { shared: self.clone() }
    }

    /// A session joins; `make` makes it of its way to the server.
    pub fn join(self: &Arc<Self>, kind: Kind, make: impl FnOnce(Arc<dyn Sender>) -> Session) -> Arc<Session> {
        let mut state = self.state();
        let key = state.next_key();
        state.hub.join(key, kind);
        let session = Arc::new(make(Arc::new(Member { shared: self.clone(), key })));
        state.sessions.insert(key, Arc::downgrade(&session));
        session
    }

    /// A session that is there already joins; gives its way to the server.
    pub fn take_in(self: &Arc<Self>, kind: Kind, session: &Arc<Session>) -> Arc<dyn Sender> {
        let mut state = self.state();
        let key = state.next_key();
        state.hub.join(key, kind);
        state.sessions.insert(key, Arc::downgrade(session));
        Arc::new(Member { shared: self.clone(), key })
    }

    /// Takes a message of the server.
    pub fn deliver(&self, message: Message) {
        let mut state = self.now();
        let was_begun = state.hub.is_ready();
        let mut actions = Vec::new();
        state.hub.from_server(message, &mut actions);
        state.act(actions);
        self.schedule(&mut state);
        let is_known = !was_begun && (state.hub.is_ready() || state.hub.refusal().is_some());
        drop(state);
        if is_known {
            self.changed.notify_all();
            let _ = self.notices.send(Notice::Changed);
        }
    }

    /// No server could be started: what was under way gets an error, the sessions live on.
    pub fn lose(&self, why: &str) {
        self.state().lose(why);
        self.changed.notify_all();
    }

    /// The same because the server behind `sender` has ended. Whoever says so may have been kept for long: if another
    /// one has taken its place, nothing is lost.
    pub fn lose_server(&self, sender: &Arc<dyn Sender>, why: &str) {
        let mut state = self.state();
        if state.sender.as_ref().is_some_and(|now| !ptr::addr_eq(Arc::as_ptr(now), Arc::as_ptr(sender))) {
            return;
        }
        state.lose(why);
        drop(state);
        self.changed.notify_all();
    }

    /// No new session comes: the server ends with the last one.
    pub fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        state.end_if_alone();
    }

    /// The link is of no use to anybody: no new session comes, and its server ends now, whoever is still here.
    pub fn give_up(&self) {
        self.retire();
        self.stop();
    }
}

impl State {
    fn lose(&mut self, why: &str) {
        self.sender = None;
        self.lost = Some(why.to_owned());
        let mut actions = Vec::new();
        self.hub.lose(why, &mut actions);
        self.act(actions);
    }

    fn next_key(&mut self) -> Key {
        self.keys += 1;
        Key(self.keys)
    }

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
                    if let Err(undelivered) = sent {
                        self.hub.undelivered(&message, &undelivered.why(), &mut more);
                    }
                }
                Action::ToClient(key, message) => match self.sessions.get(&key).and_then(Weak::upgrade) {
                    Some(session) => {
                        if let Some(answer) = session.deliver(&message) {
                            self.hub.from_client(key, answer, &mut more);
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
            && self.hub.refusal().is_some()
        {
            sender.stop();
        }
    }

    /// Whether nobody is here, or about to come.
    fn is_alone(&self) -> bool {
        self.sessions.is_empty() && self.kept == 0
    }

    /// Somebody has gone.
    fn leave(&mut self) {
        if self.is_alone() {
            self.left = Instant::now();
        }
        self.end_if_alone();
    }

    fn end_if_alone(&self) {
        if self.retired
            && self.is_alone()
            && let Some(sender) = &self.sender
        {
            sender.stop();
        }
    }
}

impl Sender for Member {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        let mut state = self.shared.now();
        let mut actions = Vec::new();
        state.hub.from_client(self.key, message.clone(), &mut actions);
        state.act(actions);
        if state.sender.is_none() && !self.shared.restarts {
            // It ended just now, and nobody may come to begin another.
            let why = state.lost.clone().unwrap_or_else(|| "the server has ended".into());
            let mut actions = Vec::new();
            state.hub.lose(&why, &mut actions);
            state.act(actions);
        }
        self.shared.schedule(&mut state);
        Ok(())
    }

    fn hear(&self, hearer: &Hearer<'_>) {
        let sender = self.shared.state().sender.clone();
        if let Some(sender) = sender {
            sender.hear(&Hearer { deliver: &|message| self.shared.deliver(message), ..*hearer });
        }
    }

    fn stop(&self) {
        let mut state = self.shared.now();
        let mut actions = Vec::new();
        state.hub.leave(self.key, &mut actions);
        let was_here = state.sessions.remove(&self.key).is_some();
        state.act(actions);
        if was_here {
            state.leave();
        }
    }

    fn kill(&self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
