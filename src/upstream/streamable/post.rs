//! One POST: what the server's answer means, and what it brings.

use super::session::{Phase, Session};
use super::stream::{Broken, Events};
use super::{Failure, LINGER, SESSION, Streamable, this_thread};
use crate::log;
use crate::protocol::era::{self, Era};
use crate::protocol::message::{Id, Kind, Message};
use crate::protocol::modern;
use crate::protocol::remote::{self, Refusal, Resume, Resumed};
use crate::system::memory;
use crate::upstream::answer::Body;
use crate::upstream::exchange::{self, Answer, Redirects, Ways};
use crate::upstream::http::{self, Route};
use crate::upstream::waits;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, request};

/// Bytes of an answer without a message that are read: an error's text, or what a connection is used again after.
const SHORT_BYTES: u64 = 64 * 1024;

impl Streamable {
    /// Sends a message in a session and delivers what it brings.
    pub(super) fn post(&self, session: &Session, message: &Message) -> Result<(), Failure> {
        waits::limit_own((!is_call(message)).then(|| self.client.remote().timeout));
        if let Kind::Request { id, .. } = message.kind() {
            self.waits.let_abort();
            self.state().waits(id, this_thread());
        }
        let done = self.exchange(session.head(), Some(message.bytes()));
        let done = done.map_err(Failure::Other).and_then(|answer| self.take(session, message, answer));
        waits::limit_own(None);
        if self.release() { Ok(()) } else { done }
    }

    /// The answer to one request, redirects followed.
    pub(super) fn exchange(&self, parts: &Arc<request::Parts>, body: Option<&[u8]>) -> Result<Answer, String> {
        let answer = exchange::exchange(&self.client, parts, body, Redirects::Within, self);
        answer.map_err(|why| self.reason(why))
    }

    /// This thread waits for no answer any more. Says whether the request was cancelled.
    pub(super) fn release(&self) -> bool {
        self.waits.keep();
        self.state().has(this_thread())
    }

    fn take(&self, session: &Session, message: &Message, answer: Answer) -> Result<(), Failure> {
        let status = answer.response.status();
        let id = message.id().filter(|_| matches!(message.kind(), Kind::Request { .. }));
        if !status.is_success() {
            return self.take_refusal(session, message, id, answer);
        }
        let Some(id) = id else {
            self.learn(session, message, &answer);
            drain(answer.response);
            return Ok(());
        };
        let call = Call { session, message, id };
        match content_type(answer.response.headers()) {
            found if remote::is_type(found, "application/json") => {
                self.learn(session, message, &answer);
                self.take_json(&call, answer)
            }
            found if remote::is_type(found, "text/event-stream") => {
                self.learn(session, message, &answer);
                self.take_stream(&call, answer)
            }
            found => {
                let found = if found.is_empty() { "nothing".into() } else { log::shortened(found.as_bytes()) };
                let (shown, status) = (log::address(&answer.url.to_string()), status.as_u16());
                let why = format!(
                    "'{shown}' answered {status} with '{found}', neither with JSON nor with an event stream; is the path right?"
                );
                // Nobody who took an `initialize` would say so; whoever answers all POSTs alike may.
                Err(if is_call(message) {
                    Failure::Other(why)
                } else {
                    Failure::Refused(why, format!("{status} with '{found}'"))
                })
            }
        }
    }

    /// The server took the message: what the head of its answer teaches.
    fn learn(&self, session: &Session, message: &Message, answer: &Answer) {
        let begins = message.method() == Some("initialize");
        let id = if begins { self.session_id(answer) } else { None };
        {
            let mut state = self.state();
            if begins {
                state.session = Arc::new(session.clone().with_id(id).at(answer.url.clone()));
            } else if answer.is_moved && state.session.number == session.number {
                state.session = Arc::new((*state.session).clone().at(answer.url.clone()));
            }
        }
        self.connected();
    }

    /// The server was heard of.
    pub(super) fn connected(&self) {
        if !std::mem::replace(&mut self.state().connected, true) {
            log::info(format_args!("connected to '{}'", self.shown()));
        }
    }

    fn session_id(&self, answer: &Answer) -> Option<HeaderValue> {
        let mut id = answer.response.headers().get(SESSION)?.clone();
        if !remote::is_session_id(id.as_bytes()) {
            log::warning(format_args!("'{}' gave a session an id that is none; it is left out", self.shown()));
            return None;
        }
        id.set_sensitive(true);
        Some(id)
    }

    fn take_refusal(
        &self,
        session: &Session,
        message: &Message,
        id: Option<&Id>,
        answer: Answer,
    ) -> Result<(), Failure> {
        let (status, shown) = (answer.response.status(), log::address(&answer.url.to_string()));
        let location = answer.response.headers().get(header::LOCATION).cloned();
        let mut body = Vec::new();
        let _ = answer.response.into_body().take(SHORT_BYTES).read_to_end(&mut body);
        if let Some(id) = id
            && let Some(refusal) = era::refusal_of_legacy(&body, id)
        {
            let call = Call { session, message, id };
            if call.is_initialize() {
                return self.arrive(&call, refusal);
            }
            if status == StatusCode::BAD_REQUEST && self.doubts(session) {
                return Err(Failure::SessionGone);
            }
        }
        match remote::refusal(status.as_u16(), &body, id, session.id.is_some()) {
            Refusal::Answer(found) => self.arrive(&Call { session, message, id: id.unwrap_or(&Id::number(0)) }, found),
            Refusal::SessionGone => Err(Failure::SessionGone),
            Refusal::Other(text) => {
                let said = text.map_or_else(String::new, |text| format!(": {}", log::shortened(text.as_bytes())));
                let named = http::named(status);
                let advice = if said.is_empty() { advice(status, location.as_ref()) } else { String::new() };
                let why = format!("'{shown}' answered {named}{said}{advice}");
                Err(if remote::may_speak_another(status.as_u16()) {
                    Failure::Refused(why, format!("{named}{said}"))
                } else {
                    Failure::Other(why)
                })
            }
        }
    }

    /// In the midst of a session the server answers as only a modern one does: another one may stand there now. To begin
    /// the session again tells; says whether that is to be done, which it is once a session.
    fn doubts(&self, session: &Session) -> bool {
        let mut state = self.state();
        if state.handshake.is_none() || state.doubted == session.number {
            return false;
        }
        state.doubted = state.number + 1;
        true
    }

    fn take_json(&self, call: &Call<'_>, answer: Answer) -> Result<(), Failure> {
        let url = answer.url.clone();
        let (mut answered, mut said) = (false, None);
        for message in self.read_json(answer)? {
            answered |= call.is_answered_by(&message);
            match message.kind() {
                Kind::Response { id: None } if call.is_initialize() && modern::refuses_legacy(&message) => {
                    answered = true;
                    self.arrive(call, era::under(message, call.id))?;
                }
                Kind::Response { id: None } => said = remote::error_text(&message),
                _ => self.arrive(call, message)?,
            }
        }
        let shown = || log::address(&url.to_string());
        match said {
            _ if answered => Ok(()),
            Some(text) => Err(format!("'{}' answered: {}", shown(), log::shortened(text.as_bytes())).into()),
            None => Err(format!("'{}' answered with JSON that holds no answer to the request", shown()).into()),
        }
    }

    /// The messages of an answer that is JSON.
    pub(super) fn read_json(&self, answer: Answer) -> Result<Vec<Message>, Failure> {
        let shown = || log::address(&answer.url.to_string());
        let limit = self.client.remote().message_limit_bytes;
        let expected = expected(answer.response.headers()).min(limit);
        let mut body = Vec::with_capacity(if memory::has_room_to_grow(expected) { expected } else { 0 });
        if let Err(error) = answer.response.into_body().append_to(&mut body, limit.saturating_add(1)) {
            let why = answer.route.broken(&ureq::Error::from(error));
            return Err(self.reason(format!("the answer of '{}' broke: {why}", shown())).into());
        }
        if body.len() > limit {
            return Err(format!("'{}' sent a message over the limit of {limit} bytes", shown()).into());
        }
        let messages = Message::parse_all(body);
        Ok(messages.map_err(|invalid| format!("'{}' answered with no message: {invalid}", shown()))?)
    }

    /// Delivers what a stream brings until the server ends it; one that breaks before the answer is asked for again.
    fn take_stream(&self, call: &Call<'_>, answer: Answer) -> Result<(), Failure> {
        let mut events = Events::new(answer, self.client.remote().message_limit_bytes);
        let (mut answered, mut resume) = (false, Resume::default());
        loop {
            match events.next() {
                Ok(message) => {
                    if call.is_answered_by(&message) {
                        answered = true;
                        self.state().has(this_thread());
                        waits::limit_own(Some(LINGER));
                    }
                    self.arrive(call, message)?;
                }
                Err(_) if answered => return Ok(()),
                Err(Broken::TooLong(why)) => return Err(why.into()),
                Err(Broken::Ended(why)) => {
                    let came = if events.has_come() { Resumed::Some } else { Resumed::Nothing };
                    if !resume.learn(came) {
                        return Err(self.reason(why).into());
                    }
                    self.resume(call, &mut events, &mut resume, &why)?;
                }
            }
        }
    }

    /// Asks for what a broken stream did not bring, and reads on there.
    fn resume(&self, call: &Call<'_>, events: &mut Events, resume: &mut Resume, why: &str) -> Result<(), Failure> {
        let Some(last) = events.last_event().and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) else {
            return Err(self.reason(why.to_owned()).into());
        };
        self.waits.tell(); // whoever depends on this thread must not wait for the delay
        let mut tried = String::new();
        while let Some(delay) = resume.next(events.retry()) {
            if !self.pause(delay, |state| state.is_wanted(this_thread())) {
                break;
            }
            // The answer to `initialize` may have named the session meanwhile.
            let session = self.state().session.clone();
            if session.number != call.session.number {
                break;
            }
            match self.get(&session, Some(last.clone())) {
                Ok(answer) => {
                    waits::limit_own((!is_call(call.message)).then(|| self.client.remote().timeout));
                    events.go_on(answer);
                    return Ok(());
                }
                Err((status, failed)) => {
                    tried = format!(", and asking for the rest failed: {failed}");
                    if !resume.learn(status.map_or(Resumed::Nothing, Resumed::Status)) {
                        break;
                    }
                }
            }
        }
        Err(self.reason(format!("{why}{tried}")).into())
    }

    /// Decides what becomes of a message of the server. It fails if that is the refusal of an `initialize` that is not
    /// for the client.
    fn arrive(&self, call: &Call<'_>, message: Message) -> Result<(), Failure> {
        if call.is_initialize() && call.is_answered_by(&message) && self.begun(call, &message)? {
            return Ok(());
        }
        let is_response = matches!(message.kind(), Kind::Response { .. });
        (self.deliver)(if is_response { message } else { message.with_related(call.id) });
        Ok(())
    }

    /// The answer to `initialize` has come; says whether it was ours, so that it is not the client's.
    fn begun(&self, call: &Call<'_>, answer: &Message) -> Result<bool, Failure> {
        let mut state = self.state();
        let renews = state.phase == Phase::Beginning { renews: true };
        let is_modern = modern::refuses_legacy(answer);
        if remote::is_error(answer) {
            // There is no session, whatever the head said.
            state.session = Session::none(&self.client);
        } else {
            let version = remote::negotiated(answer).and_then(|version| HeaderValue::from_str(&version).ok());
            let session = (*state.session).clone().with_version(version);
            state.session = Arc::new(session);
            if !renews {
                (state.handshake, state.initialized) = (Some(call.message.clone()), None);
            }
        }
        if !renews {
            state.phase = Phase::Open;
            self.changed.notify_all();
        }
        drop(state);
        if is_modern {
            self.client.eras().refused(Era::Legacy);
            if self.crosses {
                let why = format!("'{}' speaks modern revisions of the protocol only", self.shown());
                return Err(Failure::OnlyModern(why));
            }
        } else if self.crosses && !renews && modern::may_refuse_legacy(call.message, answer) {
            return Err(Failure::MaybeModern(Box::new(answer.clone())));
        } else if !remote::is_error(answer) {
            self.client.eras().took(Era::Legacy);
        }
        Ok(renews)
    }
}

impl Ways for Streamable {
    fn to(&self, _: &Uri) -> Result<Route, String> {
        Ok(self.route.clone()) // redirects are followed within the origin
    }

    fn to_tokens(&self, url: &Uri) -> Result<Route, String> {
        let make = || self.client.route(url, &self.token_waits, Some(self.client.remote().timeout));
        self.tokens.get_or_make(make)
    }

    fn ended(&self) -> Option<String> {
        self.state().stopped.clone()
    }
}

/// A request that waits for its answer.
struct Call<'a> {
    session: &'a Session,
    message: &'a Message,
    id: &'a Id,
}

impl Call<'_> {
    fn is_answered_by(&self, message: &Message) -> bool {
        matches!(message.kind(), Kind::Response { id: Some(id) } if id.may_be(self.id))
    }

    fn is_initialize(&self) -> bool {
        self.message.method() == Some("initialize")
    }
}

/// A call may take as long as it takes, all else as long as the user allows.
fn is_call(message: &Message) -> bool {
    matches!(message.kind(), Kind::Request { .. }) && message.method() != Some("initialize")
}

/// Does something whose waits end after `limit`, if one is given.
pub(super) fn limited<T>(limit: Option<Duration>, work: impl FnOnce() -> T) -> T {
    waits::limit_own(limit);
    let done = work();
    waits::limit_own(None);
    done
}

/// A connection is used again once its answer was read to the end.
pub(super) fn drain(response: Response<Body>) {
    if remote::is_type(content_type(response.headers()), "text/event-stream") {
        return; // nobody asked for it, and it may never end
    }
    let _ = std::io::copy(&mut response.into_body().take(SHORT_BYTES), &mut std::io::sink());
}

pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// How long the body says that it is, as far as memory is made ready for it.
fn expected(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.unwrap_or(0_usize).min(1 << 20)
}

/// What to do about a status.
fn advice(status: StatusCode, location: Option<&HeaderValue>) -> String {
    match status.as_u16() {
        301..=303 => {
            let to = location.and_then(|to| to.to_str().ok()).map(log::address);
            to.map_or_else(String::new, |to| format!("; a POST does not follow it, give the address '{to}' itself"))
        }
        404 | 410 => "; is the path right? Streamable HTTP servers usually listen under /mcp".into(),
        405 => "; is the path right? this one takes no POST".into(),
        status => http::advice(status).map_or_else(String::new, |advice| format!("; {advice}")),
    }
}
