//! The GET stream: what the server says by itself. A server need not offer it.

use super::Streamable;
use super::post::content_type;
use super::session::{Session, State};
use super::stream::{Broken, Events};
use crate::log;
use crate::protocol::remote::is_type;
use crate::protocol::retry::Retry;
use crate::system::memory;
use crate::upstream::exchange::Answer;
use crate::upstream::{http, waits};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;
use ureq::http::{HeaderValue, Method};

/// Some servers send the head of the stream only with its first event: what follows does not wait longer for it.
const STREAM_PATIENCE: Duration = Duration::from_millis(500);
/// The delay before the stream is asked for again, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Streamable {
    /// From now on a thread reads the GET stream of this session.
    pub(super) fn listen(self: &Arc<Self>, session: &Session) {
        let mut state = self.state();
        let is_new = std::mem::replace(&mut state.listens_to, session.number) != session.number;
        match &state.listener {
            Some(_) if !is_new => {}
            Some(listener) => self.waits.abort(listener.thread().id()),
            None if state.stopped.is_some() => {}
            None => {
                let conversation = self.clone();
                let builder = thread::Builder::new().name("listener".into());
                match memory::begin(builder, memory::STACK_BYTES, move || conversation.keep_listening()) {
                    Ok(listener) => state.listener = Some(listener),
                    Err(error) => log::warning(format_args!("cannot start a thread: {error}")),
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the GET stream of this session is there, or it is known that there is none. A server that asks
    /// something during the first call may have no other way to the client.
    pub(super) fn wait_for_stream(&self, session: &Session) {
        let is_missing = |state: &mut State| state.listened < session.number && state.stopped.is_none();
        let state = self.state();
        drop(self.changed.wait_timeout_while(state, STREAM_PATIENCE, is_missing));
    }

    fn keep_listening(&self) {
        let mut heard = None;
        loop {
            let session = {
                let mut state = self.state();
                loop {
                    if state.stopped.is_some() {
                        return;
                    }
                    if heard != Some(state.listens_to) && state.session.number == state.listens_to {
                        break;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.session.clone()
            };
            heard = Some(session.number);
            self.listen_to(&session);
        }
    }

    /// Delivers what comes for a session, until it is over or the server offers nothing.
    fn listen_to(&self, session: &Session) {
        let (mut events, mut retry): (Option<Events>, _) = (None, Retry::new(RETRY.0, RETRY.1));
        loop {
            self.waits.let_abort();
            let after = events.as_ref().and_then(Events::last_event);
            let after = after.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
            let answer = self.get(session, after);
            self.state().listened = session.number;
            self.changed.notify_all();
            match answer {
                Ok(answer) => {
                    let stream = match events.take() {
                        Some(mut stream) => {
                            stream.go_on(answer);
                            stream
                        }
                        None => Events::new(answer, self.client.remote().message_limit_bytes),
                    };
                    let stream = events.insert(stream);
                    self.deliver_all(stream);
                    if stream.has_come() {
                        retry.reset();
                    }
                    stream.retry().iter().for_each(|delay| retry.set_first(*delay));
                }
                Err((Some(400..=407 | 409..=428), why)) => {
                    return log::debug(format_args!("there is no stream for what the server says by itself: {why}"));
                }
                Err((_, why)) => log::debug(format_args!("no stream for what the server says by itself: {why}")),
            }
            self.waits.keep();
            let is_current = |state: &State| state.listens_to == session.number;
            if !self.pause(retry.next(), is_current) {
                return;
            }
        }
    }

    fn deliver_all(&self, events: &mut Events) {
        loop {
            match events.next() {
                Ok(message) => (self.deliver)(message),
                Err(Broken::Ended(why)) => return log::debug(format_args!("the GET stream: {why}")),
                Err(Broken::TooLong(why)) => log::warning(format_args!("{why}; it is left out")),
            }
        }
    }

    /// The event stream that a GET gives; else the status, if there is an answer, and why there is no stream.
    pub(super) fn get(&self, session: &Session, after: Option<HeaderValue>) -> Result<Answer, (Option<u16>, String)> {
        waits::limit_own(Some(self.client.remote().timeout));
        let answer = self.exchange(&session.head_of(Method::GET, after), None);
        waits::limit_own(None);
        let answer = answer.map_err(|why| (None, why))?;
        let status = answer.response.status();
        if status.as_u16() == 200 && is_type(content_type(answer.response.headers()), "text/event-stream") {
            return Ok(answer);
        }
        let found = if status.as_u16() == 200 { 415 } else { status.as_u16() };
        Err((Some(found), format!("'{}' answered {}", self.shown(), http::named(status))))
    }
}
