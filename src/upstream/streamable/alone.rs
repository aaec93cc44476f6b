//! A modern message: one POST that stands alone (MCP 2026-07-28, `basic/transports/streamable-http`). No session, no
//! other stream, and nothing is asked for again.
//!
//! ```text
//!   request ──POST──▶ its notifications, its answer                 ──cancelled──▶ the connection is closed
//!                └─▶ -32020 ──▶ tools/list, all pages ──other headers?──▶ POST once more
//! ```
//!
//! Always: a request is sent once, unless the server refused it for its headers; what is cancelled brings nothing any
//! more; nothing of a session goes with it, and it changes nothing of one.

use super::post::{content_type, drain, limited};
use super::stream::{Broken, Events};
use super::{Failure, LINGER, Streamable, this_thread};
use crate::log;
use crate::protocol::era::{self, Era, Refused, Way};
use crate::protocol::member;
use crate::protocol::message::{Id, Kind, Message};
use crate::protocol::modern::{self, headers, meta};
use crate::protocol::remote::{self, error_text};
use crate::upstream::exchange::{Answer, Ways};
use crate::upstream::{http, waits};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::http::{HeaderName, HeaderValue};

/// Pages of tools that are asked for at most.
const PAGES: usize = 100;
/// Our own requests between those of clients.
static OWN: AtomicU64 = AtomicU64::new(0);

/// Takes what one POST brings.
type Sink<'a> = &'a mut dyn FnMut(Message);

impl Streamable {
    /// Sends a modern message and returns when all that it brings is delivered.
    ///
    /// # Errors
    /// It was not delivered, or its answer did not come.
    pub fn pass(&self, message: &Message) -> Result<(), Failure> {
        if let Some(why) = self.ended() {
            return Err(why.into());
        }
        let Kind::Request { id, .. } = message.kind() else { return self.notify(message) };
        self.waits.let_abort();
        self.state().waits_alone(id, this_thread());
        let done = self.call(message, id);
        if self.release() { Ok(()) } else { done }
    }

    /// Closes the connection of a modern request that is not answered yet; says whether there was one. That is how the
    /// server learns of it.
    pub fn abandon(&self, id: &Id) -> bool {
        let mut state = self.state(); // the thread goes on to nothing else meanwhile
        let Some(thread) = state.cancel_alone(id) else { return false };
        self.waits.abort(thread);
        true
    }

    /// Whether the server answers `server/discover` as only a modern one does; `client` is what an `initialize` says of
    /// the client.
    pub fn discovers(&self, client: Option<&str>) -> bool {
        let client = client.map_or_else(String::new, |info| format!(r#","{}":{info}"#, meta::CLIENT_INFO));
        let (version, capabilities) = (meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES);
        let meta = format!(r#"{{"{version}":"{}","{capabilities}":{{}}{client}}}"#, modern::REVISION);
        let discover = Message::request(&own_id(), "server/discover", &format!(r#"{{"_meta":{meta}}}"#));
        let mut is_modern = false;
        let mut take = |found: Message| is_modern |= modern::is_modern_answer(&found);
        if let Err(failure) = self.ask(&discover, &[], Some(self.client.remote().timeout), &mut take) {
            log::debug(format_args!("the server is not modern either: {}", failure.why()));
        }
        is_modern
    }

    /// A request, which is sent again where the server wanted other headers.
    fn call(&self, message: &Message, id: &Id) -> Result<(), Failure> {
        let is_tool = message.method() == Some("tools/call");
        let sent = if is_tool { self.client.schemas().headers(message) } else { Vec::new() };
        let limit = (message.method() == Some("server/discover")).then(|| self.client.remote().timeout);
        let mut refusal = None;
        self.ask(message, &sent, limit, &mut |found| {
            if is_tool && found.error_code() == Some(modern::HEADER_MISMATCH.into()) {
                refusal = Some(found);
            } else {
                self.hand_over(message, found);
            }
        })?;
        let Some(refusal) = refusal else { return Ok(()) };
        self.learn_tools(message);
        let now = self.client.schemas().headers(message);
        if now == sent || !self.state().is_wanted(this_thread()) {
            self.hand_over(message, refusal);
            return Ok(());
        }
        log::debug(format_args!("the server wants other headers for the tool; request {} is sent again", id.as_json()));
        self.ask(message, &now, None, &mut |found| self.hand_over(message, found))
    }

    /// Asks for the tools once more, as the client of this call.
    fn learn_tools(&self, call: &Message) {
        let meta = call.params().and_then(|params| member::value(params, &["_meta"])).unwrap_or("{}");
        let mut params = format!(r#"{{"_meta":{}}}"#, member::without(meta, &["progressToken"]));
        for _ in 0..PAGES {
            let list = Message::request(&own_id(), "tools/list", &params);
            let mut next = None;
            let asked = self.ask(&list, &[], Some(self.client.remote().timeout), &mut |found| {
                if let Some(result) = found.result_text() {
                    next = member::value(result, &["nextCursor"]).filter(|cursor| *cursor != "null").map(str::to_owned);
                    self.learn_from(result);
                }
            });
            if let Err(failure) = asked {
                return log::debug(format_args!("the tools are not known: {}", failure.why()));
            }
            let Some(cursor) = next.filter(|_| self.state().is_wanted(this_thread())) else { return };
            params = member::with(&params, &["cursor"], &cursor);
        }
    }

    /// Learns from a list of tools; gives the list without those that cannot be called, if there are some.
    fn learn_from(&self, result: &str) -> Option<String> {
        let learned = self.client.schemas().learn(result);
        for (tool, reason) in &learned.rejected {
            self.client.warn_of_tool(tool, reason);
        }
        learned.filtered
    }

    /// Hands a message to the client that wants it.
    fn hand_over(&self, request: &Message, found: Message) {
        let is_answer = matches!(found.kind(), Kind::Response { .. });
        {
            let mut state = self.state();
            if !state.is_wanted(this_thread()) {
                return;
            }
            if is_answer {
                state.has(this_thread()); // nothing is left to cancel
            }
        }
        let is_list = is_answer && request.method() == Some("tools/list");
        let filtered = if is_list { found.result_text().and_then(|result| self.learn_from(result)) } else { None };
        (self.deliver)(match filtered {
            Some(result) => found.with_result(&result),
            None => found,
        });
    }

    /// A message that has no answer.
    fn notify(&self, message: &Message) -> Result<(), Failure> {
        limited(Some(self.client.remote().timeout), || {
            let answer = self.post_alone(message, &[])?;
            let status = answer.response.status();
            if status.is_success() {
                self.is_there(&answer);
                drain(answer.response);
                return Ok(());
            }
            Err(format!("'{}' answered {}", self.shown(), http::named(status)).into())
        })
    }

    /// Sends a request; its notifications and its answer go to `sink`.
    fn ask(
        &self,
        request: &Message,
        params: &[(String, String)],
        limit: Option<Duration>,
        sink: Sink<'_>,
    ) -> Result<(), Failure> {
        limited(limit, || {
            let answer = self.post_alone(request, params)?;
            self.take_alone(request, answer, sink)
        })
    }

    fn post_alone(&self, message: &Message, params: &[(String, String)]) -> Result<Answer, Failure> {
        let mut head = (**self.state().alone.head()).clone();
        let own = headers::of(message);
        let own = own.iter().map(|(name, value)| (*name, &**value));
        for (name, value) in own.chain(params.iter().map(|(name, value)| (&**name, &**value))) {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                head.headers.insert(name, value);
            }
        }
        Ok(self.exchange(&Arc::new(head), Some(message.bytes()))?)
    }

    fn take_alone(&self, request: &Message, answer: Answer, sink: Sink<'_>) -> Result<(), Failure> {
        let status = answer.response.status();
        if !status.is_success() {
            return self.take_refusal_alone(request, answer, sink);
        }
        match content_type(answer.response.headers()) {
            found if remote::is_type(found, "application/json") => {
                self.is_there(&answer);
                self.take_json_alone(request, answer, sink)
            }
            found if remote::is_type(found, "text/event-stream") => {
                self.is_there(&answer);
                self.take_stream_alone(request, answer, sink)
            }
            found => {
                let found = if found.is_empty() { "nothing".into() } else { log::shortened(found.as_bytes()) };
                let (shown, status) = (self.shown(), status.as_u16());
                let why =
                    format!("'{shown}' answered {status} with '{found}', neither with JSON nor with an event stream");
                let discovers = request.method() == Some("server/discover");
                Err(if discovers { Failure::OnlyLegacy(None, why) } else { why.into() })
            }
        }
    }

    /// The server took the message: what the head of its answer teaches.
    fn is_there(&self, answer: &Answer) {
        if answer.is_moved {
            let mut state = self.state();
            state.alone = Arc::new((*state.alone).clone().at(answer.url.clone()));
        }
        self.connected();
    }

    fn take_json_alone(&self, request: &Message, answer: Answer, sink: Sink<'_>) -> Result<(), Failure> {
        let (mut answered, mut said) = (false, None);
        for message in self.read_json(answer)? {
            said =
                said.or_else(|| matches!(message.kind(), Kind::Response { id: None }).then(|| error_text(&message))?);
            answered |= self.sort(request, message, sink)?;
        }
        let shown = self.shown();
        match said {
            _ if answered => Ok(()),
            Some(text) => Err(format!("'{shown}' answered: {}", log::shortened(text.as_bytes())).into()),
            None => Err(format!("'{shown}' answered with JSON that holds no answer to the request").into()),
        }
    }

    /// What a stream brings until the server ends it. One that breaks before the answer is not asked for again.
    fn take_stream_alone(&self, request: &Message, answer: Answer, sink: Sink<'_>) -> Result<(), Failure> {
        let mut events = Events::new(answer, self.client.remote().message_limit_bytes);
        let mut answered = false;
        loop {
            match events.next() {
                Ok(message) => {
                    if self.sort(request, message, sink)? {
                        answered = true;
                        waits::limit_own(Some(LINGER));
                    }
                }
                Err(_) if answered => return Ok(()),
                Err(Broken::TooLong(why)) => return Err(why.into()),
                Err(Broken::Ended(why)) => return Err(self.reason(why).into()),
            }
        }
    }

    /// Hands on what belongs to a request; says whether it was the answer.
    fn sort(&self, request: &Message, found: Message, sink: Sink<'_>) -> Result<bool, Failure> {
        let Some(id) = request.id() else { return Ok(false) };
        match found.kind() {
            Kind::Notification { .. } => sink(found.with_related(id)),
            Kind::Response { id: Some(theirs) } if theirs.may_be(id) => {
                if era::is_legacy_answer(request, &found) && self.may_be_legacy() {
                    let why = format!("'{}' does not know 'server/discover'", self.shown());
                    return Err(Failure::OnlyLegacy(Some(Box::new(found)), why));
                }
                self.shows_modern(&found);
                sink(found);
                return Ok(true);
            }
            _ => log::debug(format_args!("{found:?} is for nobody: it came with the answer to another request")),
        }
        Ok(false)
    }

    fn take_refusal_alone(&self, request: &Message, answer: Answer, sink: Sink<'_>) -> Result<(), Failure> {
        let (status, shown) = (answer.response.status(), log::address(&answer.url.to_string()));
        let mut body = Vec::new();
        let most = u64::try_from(self.client.remote().message_limit_bytes).unwrap_or(u64::MAX);
        let _ = answer.response.into_body().take(most).read_to_end(&mut body);
        let why = |text: Option<String>| {
            let said = text.map_or_else(String::new, |text| format!(": {}", log::shortened(text.as_bytes())));
            let advice = http::advice(status.as_u16()).filter(|_| said.is_empty());
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            format!("'{shown}' answered {}{said}{advice}", http::named(status))
        };
        let is_modern = self.client.way(Era::Modern) == Way::Straight;
        match era::refused(status.as_u16(), &body, request, is_modern) {
            Refused::Answer(found) => {
                self.shows_modern(&found);
                sink(found);
                Ok(())
            }
            Refused::Legacy(Some(found)) if !self.may_be_legacy() => {
                sink(found);
                Ok(())
            }
            Refused::Legacy(found) => {
                let why = why(found.as_ref().and_then(error_text));
                Err(if self.may_be_legacy() { Failure::OnlyLegacy(found.map(Box::new), why) } else { why.into() })
            }
            Refused::Other(text) => Err(why(text).into()),
        }
    }

    fn may_be_legacy(&self) -> bool {
        self.client.remote().protocol != era::Protocol::Modern
    }

    fn shows_modern(&self, answer: &Message) {
        if self.client.way(Era::Modern) != Way::Straight
            && (era::shows_modern(answer) || modern::is_modern_answer(answer))
        {
            self.client.eras().took(Era::Modern);
        }
    }
}

/// An id that no client has for its requests.
fn own_id() -> Id {
    let number = OWN.fetch_add(1, Ordering::Relaxed);
    Id::from_json(&format!(r#""mcp-proxy-{number}""#)).unwrap_or_else(|| Id::number(number))
}
