//! The one `subscriptions/listen` by which the client hears of changes (`basic/patterns/subscriptions`). It is drawn in
//! the module above.
//!
//! Always: only what the current one brings gets to the client; there are two at most, and two only until the newer one
//! is acknowledged; a subscription is accepted when an acknowledgement names it.

use super::super::super::hub::whole;
use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, INVALID_PARAMS, Id, METHOD_NOT_FOUND, Message};
use super::super::super::modern::meta;
use super::super::super::retry::Retry;
use super::subscribe::NOT_OFFERED;
use super::{Crossed, ToModern, cancelled};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No acknowledgement comes later.
pub const ACKNOWLEDGE: Duration = Duration::from_secs(30);
/// One that lasted so long is followed by the next soon.
const STEADY: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const MOST_DELAY: Duration = Duration::from_secs(30);

/// What a server may tell of: its capability, and how the filter names it.
const KINDS: [(&str, &str); 3] =
    [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")];

/// What the client wants to hear of, and what became of it at the server.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The lists whose changes the server tells of.
    kinds: Vec<&'static str>,
    /// Whether the server tells of changes of resources; `None` while that is not known.
    pub(super) has_updates: Option<bool>,
    /// The client said that it has begun.
    has_begun: bool,
    /// What it has subscribed to, and whether the server has accepted that.
    pub(super) resources: BTreeMap<String, bool>,
    /// Requests to subscribe that are not answered.
    pub(super) waiting: Vec<Subscribing>,
    current: Option<Listen>,
    next: Option<Listen>,
    retry: Retry,
    /// When to try again.
    retry_at: Option<Duration>,
    /// The server does not know the method.
    pub(super) is_refused: bool,
    /// No server is there.
    is_lost: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Subscribing {
    pub(super) id: Id,
    pub(super) uri: String,
}

/// One that the server has got.
#[derive(Debug, Clone)]
struct Listen {
    number: u64,
    filter: Filter,
    /// When it was sent, or acknowledged.
    since: Duration,
}

/// What it is for; what the server did not accept is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    kinds: Vec<&'static str>,
    uris: BTreeSet<String>,
}

impl Default for Listening {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            has_updates: None,
            has_begun: false,
            resources: BTreeMap::new(),
            waiting: Vec::new(),
            current: None,
            next: None,
            retry: Retry::new(FIRST_DELAY, MOST_DELAY),
            retry_at: None,
            is_refused: false,
            is_lost: false,
        }
    }
}

impl ToModern {
    /// Sees to it that the server is asked for what the client wants to hear of.
    pub(super) fn listen(&mut self, out: &mut Vec<Crossed>) {
        let wanted = self.listening.wanted();
        let listening = &mut self.listening;
        // What comes next is seen to when it is acknowledged.
        if listening.is_lost || listening.is_refused || listening.next.is_some() {
            return;
        }
        if listening.is_served(&wanted) {
            listening.accept(out);
            return;
        }
        listening.retry_at = None;
        if wanted.is_empty() {
            out.extend(listening.current.take().map(|old| end(old.number)));
            return;
        }
        let params = format!(r#"{{"notifications":{}}}"#, wanted.text());
        let params = self.client.dressed(Some(&params)).unwrap_or_default();
        let number = self.number();
        self.listening.next = Some(Listen { number, filter: wanted, since: self.now });
        out.push(Crossed::ToServer(Message::request(&Id::number(number), "subscriptions/listen", &params)));
    }

    /// The server has taken a `subscriptions/listen`, for so much of it.
    pub(super) fn acknowledge(&mut self, message: &Message, out: &mut Vec<Crossed>) {
        let number = meta::subscription_id(message).as_ref().and_then(whole);
        let listening = &mut self.listening;
        let Some(mut taken) = listening.next.take_if(|next| Some(next.number) == number) else { return };
        taken.since = self.now;
        let granted = granted(message);
        for uri in std::mem::take(&mut taken.filter.uris) {
            let is_granted = granted.contains(&uri);
            for Subscribing { id, .. } in listening.waiting.extract_if(.., |waiting| waiting.uri == uri) {
                out.push(Crossed::ToClient(if is_granted { Message::result(&id, "{}") } else { not_taken(&id) }));
            }
            match listening.resources.get_mut(&uri) {
                Some(is_accepted) if is_granted => *is_accepted = true,
                Some(false) => drop(listening.resources.remove(&uri)),
                // One that was accepted before is asked for again whenever there is another reason to.
                Some(true) => drop(taken.filter.uris.insert(uri.clone())),
                None => {}
            }
            if is_granted {
                taken.filter.uris.insert(uri);
            }
        }
        out.extend(listening.current.replace(taken).map(|old| end(old.number)));
        self.listen(out);
    }

    /// A `subscriptions/listen` is over, by this answer if there was one.
    pub(super) fn listen_ended(&mut self, number: u64, answer: Option<&Message>, why: &str, out: &mut Vec<Crossed>) {
        let listening = &mut self.listening;
        if let Some(ended) = listening.current.take_if(|current| current.number == number) {
            if self.now.saturating_sub(ended.since) >= STEADY {
                listening.retry.reset();
            }
        } else if let Some(ended) = listening.next.take_if(|next| next.number == number) {
            let said = answer.and_then(|answer| member::string(answer.text(), &["error", "message"]));
            let code = answer.and_then(Message::error_code).and_then(|code| i32::try_from(code).ok());
            listening.refuse(&ended.filter.uris, code.unwrap_or(INTERNAL_ERROR), said.as_deref().unwrap_or(why), out);
        } else {
            return;
        }
        if answer.and_then(Message::error_code) == Some(METHOD_NOT_FOUND.into()) {
            listening.is_refused = true;
            let all = listening.resources.keys().cloned().collect();
            listening.refuse(&all, METHOD_NOT_FOUND, NOT_OFFERED, out);
        } else if listening.next.is_none() && !listening.is_served(&listening.wanted()) {
            listening.retry_at = Some(self.now + listening.retry.next());
        } else if listening.next.is_none() {
            listening.accept(out);
        }
    }

    /// Does what its time has come for.
    pub(super) fn keep_listening(&mut self, out: &mut Vec<Crossed>) {
        let now = self.now;
        if let Some(late) = self.listening.next.as_ref().filter(|next| next.since + ACKNOWLEDGE <= now) {
            let number = late.number;
            out.push(end(number));
            self.listen_ended(number, None, "the server did not acknowledge the subscription in time", out);
        }
        if self.listening.retry_at.is_some_and(|at| at <= now) {
            self.listening.retry_at = None;
            self.listen(out);
        }
    }
}

impl Listening {
    /// The server has these capabilities (JSON text).
    pub fn learn(&mut self, capabilities: &str) {
        let tells = |(name, _): &(&str, &str)| meta::declares(capabilities, &[name, "listChanged"]);
        self.kinds = KINDS.into_iter().filter(tells).map(|(_, kind)| kind).collect();
        self.has_updates = Some(meta::declares(capabilities, &["resources", "subscribe"]));
    }

    /// The client begins: changes of lists are for it too.
    pub fn begin(&mut self) {
        self.has_begun = true;
    }

    /// It may be another server that is asked now.
    pub fn forgive(&mut self) {
        self.is_refused = false;
    }

    /// The server is lost. What the client wants to hear of stays.
    pub fn lose(&mut self, why: &str, out: &mut Vec<Crossed>) {
        (self.current, self.next, self.retry_at, self.is_lost) = (None, None, None, true);
        let all = self.resources.keys().cloned().collect();
        self.refuse(&all, INTERNAL_ERROR, why, out);
        self.retry.reset();
    }

    /// A fresh server is there.
    pub fn restore(&mut self) {
        self.is_lost = false;
    }

    /// Requests that wait for an acknowledgement.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The numbers of what the server has got.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.current.iter().chain(&self.next).map(|listen| listen.number)
    }

    /// Whether this is one of them.
    pub fn is(&self, number: u64) -> bool {
        self.numbers().any(|known| known == number)
    }

    /// Whether what is tagged so is for the client.
    pub fn is_current(&self, tag: &Id) -> bool {
        let number = whole(tag);
        self.current.as_ref().is_some_and(|current| Some(current.number) == number)
    }

    /// When there may be something to do.
    pub fn next_time(&self) -> Option<Duration> {
        let late = self.next.as_ref().map(|next| next.since + ACKNOWLEDGE);
        self.retry_at.into_iter().chain(late).min()
    }

    /// Whether the server has one that it has not acknowledged.
    #[cfg(test)]
    pub fn is_asking(&self) -> bool {
        self.next.is_some()
    }

    fn wanted(&self) -> Filter {
        let kinds = if self.has_begun { self.kinds.clone() } else { Vec::new() };
        Filter { kinds, uris: self.resources.keys().cloned().collect() }
    }

    fn is_served(&self, wanted: &Filter) -> bool {
        self.current.as_ref().map_or(wanted.is_empty(), |current| current.filter == *wanted)
    }

    /// The current one is for everything that is waited for: what was ended and is wanted again.
    fn accept(&mut self, out: &mut Vec<Crossed>) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.resources.insert(waiting.uri, true);
            out.push(Crossed::ToClient(Message::result(&waiting.id, "{}")));
        }
    }

    /// Who waits for a subscription to one of these gets an error, and what was not accepted is forgotten.
    fn refuse(&mut self, uris: &BTreeSet<String>, code: i32, why: &str, out: &mut Vec<Crossed>) {
        for waiting in self.waiting.extract_if(.., |waiting| uris.contains(&waiting.uri)) {
            out.push(Crossed::ToClient(Message::error(Some(&waiting.id), code, why)));
        }
        self.resources.retain(|uri, is_accepted| *is_accepted || !uris.contains(uri));
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.uris.is_empty()
    }

    /// JSON text.
    fn text(&self) -> String {
        let kinds = self.kinds.iter().map(|kind| format!(r#""{kind}":true"#));
        let uris: Vec<_> = self.uris.iter().map(|uri| serde_json::Value::from(&**uri).to_string()).collect();
        let uris = (!uris.is_empty()).then(|| format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        format!("{{{}}}", kinds.chain(uris).collect::<Vec<_>>().join(","))
    }
}

/// The resources that an acknowledgement names.
fn granted(message: &Message) -> BTreeSet<String> {
    let list = member::value(message.params().unwrap_or_default(), &["notifications", "resourceSubscriptions"]);
    list.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

fn not_taken(id: &Id) -> Message {
    Message::error(Some(id), INVALID_PARAMS, "the server takes no subscription to this resource")
}

fn end(number: u64) -> Crossed {
    Crossed::ToServer(cancelled(&Id::number(number), "it is not needed any more"))
}
