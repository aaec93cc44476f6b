//! What a client says: how it leaves for the server, or what we answer to it ourselves.
//!
//! Always: nothing that a client writes names a request, a token or a question of another client at the server.

use super::super::hub::{AMBIGUOUS, refuse, token, whole};
use super::super::level::Level;
use super::super::member;
use super::super::message::{INTERNAL_ERROR, INVALID_REQUEST, Id, Kind as MessageKind, Message};
use super::super::sole::{Ambiguous, sole};
use super::subscriptions::Left;
use super::{Action, Held, Key, Kind, Member, Open, Phase, Purpose, Share};

/// The revisions that a client may be promised, because a server of a later one can speak them.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// Capabilities of clients that allow the server to ask something.
pub const ASKED: [&str; 4] = ["roots", "sampling", "elicitation", "tasks"];

impl Share {
    /// Takes a message of a client that has joined.
    pub fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if !self.members.contains_key(&key) {
            return;
        }
        if message.is_ambiguous() {
            refuse(key, &message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        }
        match message.kind() {
            MessageKind::Request { .. } => self.request(key, message, out),
            MessageKind::Notification { .. } => self.notification(key, message, out),
            MessageKind::Response { .. } => self.response(key, &message, out),
        }
    }

    fn request(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if !self.members.contains_key(&key) {
            return;
        }
        if self.unanswered(key) >= self.limits.open {
            let reason = format!("too many requests are unanswered ({})", self.limits.open);
            refuse(key, &message, INTERNAL_ERROR, &reason, out);
            return;
        }
        let is_initialize = message.method() == Some("initialize");
        match &self.phase {
            Phase::Lost | Phase::Beginning(_) => self.wait(key, message, out),
            Phase::Ready(_) if !is_initialize => self.pass(key, &message, out),
            Phase::Ready(answer) => {
                let greeting = greet(answer, &message);
                self.note_begun(key, &message);
                out.push(Action::ToClient(key, greeting));
            }
            Phase::Refused(error) => {
                let Some(id) = message.id() else { return };
                let answer = if is_initialize {
                    error.with_id(id)
                } else {
                    Message::error(Some(id), INTERNAL_ERROR, "the server refused to begin")
                };
                out.push(Action::ToClient(key, answer));
            }
        }
    }

    /// A client has got the answer to its `initialize`.
    fn note_begun(&mut self, key: Key, initialize: &Message) {
        let Some(member) = self.members.get_mut(&key) else { return };
        member.has_begun = true;
        let declared = |name: &&str| {
            let value = initialize.params().and_then(|params| member::value(params, &["capabilities", name]));
            value.is_some_and(|value| value != "null")
        };
        member.declared = ASKED.into_iter().filter(declared).collect();
    }

    fn notification(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        match message.method() {
            Some("notifications/initialized") => {}
            Some("notifications/cancelled") => self.cancel(key, &message, out),
            Some("notifications/progress") => self.progress_of_answer(key, &message, out),
            _ => match self.phase {
                Phase::Lost | Phase::Beginning(_) => self.wait(key, message, out),
                Phase::Ready(_) => out.push(Action::ToServer(message)),
                Phase::Refused(_) => {}
            },
        }
    }

    /// It waits for the server, or is refused.
    fn wait(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if self.members.contains_key(&key) {
            self.waiting.keep(self.limits, key, message, out);
        }
    }

    /// The server has begun, or refused to: what waited goes on, in order.
    pub(super) fn resume(&mut self, out: &mut Vec<Action>) {
        for (key, message) in self.waiting.take() {
            self.from_client(key, message, out);
        }
    }

    /// A request for a server that has begun.
    fn pass(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok(token) = token(message.params()) else {
            refuse(key, message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        };
        match message.method() {
            Some("logging/setLevel") => self.set_level(key, message, token, out),
            Some("resources/subscribe") => self.subscribe(key, message, token, out),
            Some("resources/unsubscribe") => self.unsubscribe(key, message, token, out),
            _ => {
                let may_be_task = message.params().is_some_and(|params| params.contains("task"));
                let is_task = may_be_task && message.params().and_then(|p| member::value(p, &["task"])).is_some();
                let purpose = if is_task { Purpose::Task } else { Purpose::Call };
                self.open(key, message, token, purpose, out);
            }
        }
    }

    /// Sends a request on under a number of ours.
    fn open(&mut self, key: Key, message: &Message, token: Option<Id>, purpose: Purpose, out: &mut Vec<Action>) -> u64 {
        let number = self.number();
        let (Some(id), Some(member)) = (message.id(), self.members.get_mut(&key)) else { return number };
        let mut sent = message.with_id(&Id::number(number));
        if token.is_some() {
            sent = sent.with_param(&["_meta", "progressToken"], &number.to_string());
        }
        member.has_begun = true; // there are clients that take a session up again without a word
        member.open.insert(number, Open { id: id.clone(), token, is_cancelled: false, purpose });
        self.owners.insert(number, key);
        out.push(Action::ToServer(sent));
        number
    }

    fn set_level(&mut self, key: Key, message: &Message, token: Option<Id>, out: &mut Vec<Action>) {
        let Ok([level]) = sole(message.params().unwrap_or_default(), ["level"]) else {
            refuse(key, message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        };
        let Some(level) = level.and_then(Level::from_json) else {
            self.open(key, message, token, Purpose::Call, out); // the server says what is wrong
            return;
        };
        let number = self.last + 1; // that of this request
        let Some(held) = self.held_level(key) else { return };
        let before = held.replace(Held { level, number });
        let wanted = self.wanted_level();
        if wanted == self.server_level {
            self.last = number;
            answer_empty(key, message, out);
            return;
        }
        self.server_level = wanted;
        let sent = message.with_param(&["level"], wanted.unwrap_or(level).as_json());
        self.open(key, &sent, token, Purpose::SetLevel { before }, out);
    }

    /// Where the level that this client set is kept.
    pub(super) fn held_level(&mut self, key: Key) -> Option<&mut Option<Held>> {
        let member = self.members.get_mut(&key)?;
        Some(if member.kind == Kind::Session { &mut member.level } else { &mut self.stateless_level })
    }

    fn subscribe(&mut self, key: Key, message: &Message, token: Option<Id>, out: &mut Vec<Action>) {
        let Ok(uri) = uri(message) else {
            refuse(key, message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        };
        let Some(uri) = uri else {
            self.open(key, message, token, Purpose::Call, out);
            return;
        };
        if let Err(why) = self.subscriptions.add(&uri, key, self.last + 1) {
            refuse(key, message, INTERNAL_ERROR, why, out);
            return;
        }
        self.open(key, message, token, Purpose::Subscribe { uri }, out);
    }

    fn unsubscribe(&mut self, key: Key, message: &Message, token: Option<Id>, out: &mut Vec<Action>) {
        let Ok(uri) = uri(message) else {
            refuse(key, message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        };
        match uri.map(|uri| self.subscriptions.remove(&uri, key)) {
            Some(Left::Others) => answer_empty(key, message, out),
            Some(Left::Nobody) | None => drop(self.open(key, message, token, Purpose::Call, out)),
        }
    }

    /// A client does not want the answer to a request any more.
    fn cancel(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok([Some(id)]) = sole(message.params().unwrap_or_default(), ["requestId"]) else { return };
        let (Some(id), Some(member)) = (Id::from_json(id), self.members.get_mut(&key)) else { return };
        if let Some(number) = member.cancel(&id, self.limits.open, &mut self.owners) {
            self.haunt(number, key);
            out.push(Action::ToServer(message.with_param(&["requestId"], &number.to_string())));
            return;
        }
        let _ = self.waiting.cancel(key, &|known| *known == id) || self.waiting.cancel(key, &|known| known.may_be(&id));
    }

    /// A client tells how far it is with a question that it was asked.
    fn progress_of_answer(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok([Some(token)]) = sole(message.params().unwrap_or_default(), ["progressToken"]) else { return };
        let question = Id::from_json(token).and_then(|token| self.asked(key, &token));
        if let Some(token) = question.and_then(|number| self.questions.get(&number)?.token.as_ref()) {
            out.push(Action::ToServer(message.with_param(&["progressToken"], token.as_json())));
        }
    }

    fn response(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let number = message.id().and_then(|id| self.asked(key, id));
        if let Some(question) = number.and_then(|number| self.questions.remove(&number)) {
            out.push(Action::ToServer(message.with_id(&question.id)));
        }
    }

    /// The open question that this client may answer under this id.
    fn asked(&self, key: Key, id: &Id) -> Option<u64> {
        let is_ticket = id.as_json().starts_with('"');
        let number = if is_ticket {
            self.tickets.number(&serde_json::from_str::<String>(id.as_json()).ok()?)?
        } else {
            whole(id)?
        };
        let question = self.questions.get(&number)?;
        let may = if question.is_stateless {
            is_ticket && self.members.get(&key)?.kind == Kind::Stateless
        } else {
            !is_ticket && question.key == key
        };
        may.then_some(number)
    }
}

impl Member {
    /// Marks a request as cancelled: the same spelling first, then the same value. An answer may still come.
    fn cancel(&mut self, id: &Id, limit: usize, owners: &mut std::collections::HashMap<u64, Key>) -> Option<u64> {
        let find = |same: &dyn Fn(&Id) -> bool| {
            let mut open = self.open.iter().filter(|(_, open)| !open.is_cancelled);
            open.find(|(_, open)| same(&open.id)).map(|(number, _)| *number)
        };
        let number = find(&|known| known == id).or_else(|| find(&|known| known.may_be(id)))?;
        if self.cancelled >= limit
            && let Some(oldest) = self.open.iter().find(|(_, open)| open.is_cancelled).map(|(number, _)| *number)
        {
            self.close(oldest);
            owners.remove(&oldest);
        }
        self.open.get_mut(&number)?.is_cancelled = true;
        self.cancelled += 1;
        Some(number)
    }
}

/// The server's answer to our `initialize` as the answer to this client's: under its id, and with its revision if a
/// server of this one can speak it.
fn greet(answer: &Message, initialize: &Message) -> Message {
    let Some(id) = initialize.id() else { return answer.clone() };
    let greeting = answer.with_id(id);
    let wanted = initialize.params().and_then(|params| member::string(params, &["protocolVersion"]));
    let Some(at) = member::range(greeting.text(), &["result", "protocolVersion"]) else { return greeting };
    let spoken = member::string(greeting.text(), &["result", "protocolVersion"]).unwrap_or_default();
    match wanted {
        Some(wanted) if wanted < spoken && REVISIONS.contains(&&*wanted) => {
            let text = greeting.text();
            let text = format!("{}\"{wanted}\"{}", &text[..at.start], &text[at.end..]);
            super::own(&text).unwrap_or(greeting)
        }
        _ => greeting,
    }
}

/// The resource that a request names, unescaped, if every reader finds the same.
fn uri(message: &Message) -> Result<Option<String>, Ambiguous> {
    let [uri] = sole(message.params().unwrap_or_default(), ["uri"])?;
    Ok(uri.and_then(|uri| serde_json::from_str(uri).ok()))
}

/// The server would change nothing.
fn answer_empty(key: Key, message: &Message, out: &mut Vec<Action>) {
    out.extend(message.id().map(|id| Action::ToClient(key, Message::result(id, "{}"))));
}
