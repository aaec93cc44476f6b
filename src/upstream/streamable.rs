//! Streamable HTTP, the client's side (MCP 2025-03-26 to 2025-11-25, `basic/transports`): each message is a POST,
//! and what it brings, a JSON body or an event stream, is delivered by the thread that sent it.
//!
//! ```text
//!   no session ──initialize──▶ Beginning ──its answer──▶ Open ──404──▶ Beginning (the client's own bytes again)
//!                (others wait)                             └──stop──▶ DELETE, the end
//! ```
//!
//! Always: a message is sent once, unless the server refused it because it did not know the session; a stream that
//! broke is asked for again, never its request; the id of a session goes to the origin that gave it and is never
//! shown.

mod alone;
mod listen;
mod post;
mod session;
mod stream;

use super::exchange::ToTokens;
use super::http::{Client, Route};
use super::waits::{self, Bystander, TICK, Waits};
use super::{Deliver, Event, Receiver, Sender, Undelivered};
use crate::log;
use crate::protocol::message::{Kind, Message};
use crate::protocol::remote::error_text;
use session::{Phase, Session, State};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{Method, header};

/// How long the server may take to end a session at our own end.
const FAREWELL: Duration = Duration::from_millis(150);
/// How long a stream may go on after its answer. The server should end it (`basic/transports`), and then its
/// connection can be used again.
const LINGER: Duration = Duration::from_secs(2);

/// The conversation with one server.
pub struct Streamable {
    client: Arc<Client>,
    route: Route,
    waits: Arc<Waits>,
    /// Those for a token, which send no message, and the way to it once one was asked for.
    token_waits: Arc<Waits>,
    tokens: ToTokens,
    deliver: Deliver,
    /// The refusal of a modern server is not for the client: there is another way.
    crosses: bool,
    state: Mutex<State>,
    /// A session has begun, or a wait is to end.
    changed: Condvar,
}

/// Why a message has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refused it and may speak another transport: why, in full and in short.
    Refused(String, String),
    /// The server no longer knows the session, and did not take the message.
    SessionGone,
    /// It refused an `initialize` as only a modern server does; why.
    OnlyModern(String),
    /// It answered an `initialize` as a modern server may; this is the answer, which has not been delivered.
    MaybeModern(Box<Message>),
    /// It refused a modern message as only a legacy server does: its answer, if that is one, and why.
    OnlyLegacy(Option<Box<Message>>, String),
    /// Anything else, in words for a person.
    Other(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Failure {
    /// The failure in words for a person.
    pub fn why(self) -> String {
        match self {
            Self::Refused(why, _) | Self::OnlyModern(why) | Self::OnlyLegacy(_, why) | Self::Other(why) => why,
            Self::MaybeModern(answer) => error_text(&answer).unwrap_or_default(),
            Self::SessionGone => "the server no longer knows the session".into(),
        }
    }
}

impl Streamable {
    /// A conversation that has not begun. What comes goes to `deliver`. Where it `crosses`, the refusal of a modern
    /// server fails, and is not delivered.
    ///
    /// # Errors
    /// The environment names a proxy that cannot be used.
    pub fn new(
        client: Arc<Client>,
        deliver: Deliver,
        bystander: Arc<dyn Bystander>,
        crosses: bool,
    ) -> Result<Arc<Self>, String> {
        let token_waits = Arc::new(Waits::new(None, Some(bystander.clone())));
        let waits = Arc::new(Waits::telling_sent(bystander));
        let route = client.route(&client.remote().url, &waits, None)?;
        let state = Mutex::new(State::new(Session::none(&client)));
        let (tokens, changed) = (ToTokens::default(), Condvar::new());
        Ok(Arc::new(Self { client, route, waits, token_waits, tokens, deliver, crosses, state, changed }))
    }

    /// Sends a message and returns when all that it brings is delivered.
    ///
    /// # Errors
    /// It was not delivered, or its answer did not come.
    pub fn converse(self: &Arc<Self>, message: &Message) -> Result<(), Failure> {
        if matches!(message.kind(), Kind::Request { .. }) && message.method() == Some("initialize") {
            return self.begin(message);
        }
        // An answer of the client may be what the server waits for before it answers `initialize`.
        let is_response = matches!(message.kind(), Kind::Response { .. });
        let session = if is_response { self.state().session.clone() } else { self.settled()? };
        match self.post(&session, message) {
            Err(Failure::SessionGone) if is_response => {
                log::debug(format_args!("an answer of the client belongs to a session that is gone"));
                return Ok(());
            }
            Err(Failure::SessionGone) => {
                let session = self.renew(&session)?;
                if message.cancels().is_some() {
                    return Ok(()); // nothing that the new session knows
                }
                self.post(&session, message)?;
            }
            done => done?,
        }
        match message.method() {
            Some("notifications/initialized") => self.initialized(message),
            Some("notifications/cancelled") => self.cancelled(message),
            _ => {}
        }
        Ok(())
    }

    /// Ends the conversation, for this reason; the receiver does the rest.
    pub fn end(&self, why: &str) {
        self.state().stopped.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }

    /// The client begins a session.
    fn begin(self: &Arc<Self>, initialize: &Message) -> Result<(), Failure> {
        let (before, number) = {
            let mut state = self.wait_for_open()?;
            state.phase = Phase::Beginning { renews: false };
            state.number += 1;
            (state.session.clone(), state.number)
        };
        let done = self.post(&Session::fresh(&self.client, number), initialize);
        self.open();
        if done.is_ok() && before.id.is_some() && self.state().session.number == number {
            self.say_farewell(&before, self.client.remote().timeout);
        }
        done
    }

    /// The session is gone: begins another with what the client said, unless another thread did. Gives that one.
    fn renew(self: &Arc<Self>, gone: &Session) -> Result<Arc<Session>, Failure> {
        let (initialize, initialized, number, before) = {
            let renewals = self.state().renewals;
            let mut state = self.wait_for_open()?;
            if state.session.number != gone.number {
                return Ok(state.session.clone());
            }
            if state.renewals != renewals {
                return Err(state.failure.clone().into());
            }
            let Some(initialize) = state.handshake.clone() else { return Err(Failure::SessionGone) };
            state.phase = Phase::Beginning { renews: true };
            state.number += 1;
            (initialize, state.initialized.clone(), state.number, state.session.clone())
        };
        let done = self.begin_again(number, &initialize, initialized.as_ref());
        if done.is_ok() {
            log::info(format_args!("'{}' no longer knew the session; a new one is begun", self.shown()));
        }
        let mut state = self.state();
        state.phase = Phase::Open;
        state.renewals += 1;
        self.changed.notify_all();
        match done {
            Ok(()) => Ok(state.session.clone()),
            Err(Failure::OnlyModern(why)) => {
                // Whoever begins anew gets there by another way.
                state.failure = format!("the session is lost and does not begin again: {why}");
                state.stopped = state.stopped.take().or_else(|| Some(state.failure.clone()));
                Err(state.failure.clone().into())
            }
            Err(failure) => {
                state.session = before; // the next message that it is refused for tries again
                state.failure = format!("the session is lost and does not begin again: {}", failure.why());
                Err(state.failure.clone().into())
            }
        }
    }

    fn begin_again(
        self: &Arc<Self>,
        number: u64,
        initialize: &Message,
        initialized: Option<&Message>,
    ) -> Result<(), Failure> {
        self.post(&Session::fresh(&self.client, number), initialize)?;
        let session = self.state().session.clone();
        if session.number != number {
            return Err(format!("'{}' refuses to begin the session", self.shown()).into());
        }
        if let Some(initialized) = initialized {
            self.post(&session, initialized)?;
            self.listen(&session);
        }
        Ok(())
    }

    /// The client's `notifications/initialized` was accepted.
    fn initialized(self: &Arc<Self>, message: &Message) {
        let session = {
            let mut state = self.state();
            state.initialized = Some(message.clone());
            state.session.clone()
        };
        self.listen(&session);
        self.wait_for_stream(&session);
    }

    /// The server knows that the client no longer wants an answer: nobody needs to wait for it.
    fn cancelled(&self, message: &Message) {
        let Some(id) = message.cancels() else { return };
        if let Some(thread) = self.state().cancel(&id) {
            self.waits.abort(thread);
            self.changed.notify_all();
        }
    }

    /// The session, once it has begun or cannot begin.
    fn settled(&self) -> Result<Arc<Session>, Failure> {
        Ok(self.wait_for_open()?.session.clone())
    }

    fn wait_for_open(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let until = Instant::now().checked_add(self.client.remote().timeout);
        let mut state = self.state();
        while state.phase != Phase::Open && state.stopped.is_none() {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(format!("'{}' did not begin the session in time", self.shown()).into());
            }
            let (guard, waited) =
                self.changed.wait_timeout(state, left.min(TICK)).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if let Some(bystander) = self.waits.bystander().filter(|_| waited.timed_out()) {
                drop(state);
                bystander.idles();
                state = self.state();
            }
        }
        match &state.stopped {
            Some(why) => Err(why.clone().into()),
            None => Ok(state),
        }
    }

    fn open(&self) {
        self.state().phase = Phase::Open;
        self.changed.notify_all();
    }

    /// Waits, but not beyond the end of the conversation or of what this thread asked for. Says whether it may go on.
    fn pause(&self, delay: Duration, is_wanted: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now().checked_add(delay);
        let mut state = self.state();
        loop {
            if state.stopped.is_some() || !is_wanted(&state) {
                return false;
            }
            let left = until.map_or(delay, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the server that a session has ended. It may refuse, or not answer.
    fn say_farewell(&self, session: &Session, limit: Duration) {
        if session.id.is_none() {
            return;
        }
        waits::limit_own(Some(limit));
        match self.exchange(&session.head_of(Method::DELETE, None), None) {
            Ok(answer) => log::debug(format_args!("the end of the session: {}", answer.response.status())),
            Err(why) => log::debug(format_args!("the end of the session was not told: {why}")),
        }
        waits::limit_own(None);
    }

    /// Why a request failed: the end of the conversation, if there is one, else `why`.
    fn reason(&self, why: String) -> String {
        self.state().stopped.clone().unwrap_or(why)
    }

    fn shown(&self) -> String {
        log::address(&self.client.remote().url.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the server.
pub struct Posts(pub Arc<Streamable>);

impl Sender for Posts {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        self.0.converse(message).map_err(|failure| Undelivered::Gone(failure.why()))
    }

    fn stop(&self) {
        self.0.end("the connection was closed by us");
    }

    fn kill(&self) {
        self.stop();
    }
}

/// The end of the conversation: all that comes from the server is delivered as it comes.
pub struct End(pub Arc<Streamable>);

impl Receiver for End {
    fn recv(&mut self) -> Event {
        let conversation = &self.0;
        let (why, session, listener) = {
            let mut state = conversation.state();
            while state.stopped.is_none() {
                state = conversation.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            (state.stopped.clone().unwrap_or_default(), state.session.clone(), state.listener.take())
        };
        conversation.say_farewell(&session, FAREWELL);
        conversation.waits.stop();
        conversation.token_waits.stop();
        conversation.route.agent.shutdown();
        conversation.tokens.shut_down();
        if let Some(listener) = listener {
            let _ = listener.join();
        }
        Event::Ended(why)
    }
}

/// A header of ours, which no library knows.
const SESSION: header::HeaderName = header::HeaderName::from_static("mcp-session-id");
const VERSION: header::HeaderName = header::HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: header::HeaderName = header::HeaderName::from_static("last-event-id");

/// The thread that calls.
fn this_thread() -> thread::ThreadId {
    thread::current().id()
}
