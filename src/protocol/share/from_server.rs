//! What the server says: whose it is, and how it gets there.
//!
//! Always: what cannot be told whose it is goes to nobody, and the server hears so if it waits for an answer.

use super::super::level::Level;
use super::super::member;
use super::super::message::{INTERNAL_ERROR, Id, Kind as MessageKind, METHOD_NOT_FOUND, Message};
use super::from_client::ASKED;
use super::{
    Action, Held, Key, Kind, LINK_FACTOR, Member, Open, Phase, Purpose, Question, Share, Task, keep, to_server,
    undo_level, whole,
};
use serde_json::value::RawValue;

/// Where a question names the task that it is about (2025-11-25, `basic/utilities/tasks`).
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The error that asks the client for an elicitation before it tries again, and tells which.
const ELICITATION_REQUIRED: &str = "-32042";
/// No error that tells of elicitations is longer.
const ELICITATION_ERROR_BYTES: usize = 64 << 10;
/// No id of an elicitation or a task that is remembered is longer.
const NAME_BYTES: usize = 1 << 10;

impl Share {
    /// Takes a message of the server.
    pub fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        match message.kind() {
            MessageKind::Request { .. } => self.question(&message, out),
            MessageKind::Notification { .. } => self.tell(&message, out),
            MessageKind::Response { id: Some(id) } => {
                let Some(number) = whole(id) else { return };
                if self.phase.begins_with(number) {
                    self.begun(message, out);
                } else {
                    self.answer(number, &message, out);
                }
            }
            MessageKind::Response { id: None } => {} // nobody can tell whose it is
        }
    }

    /// The answer to our own `initialize`.
    fn begun(&mut self, answer: Message, out: &mut Vec<Action>) {
        if is_error(&answer) {
            self.phase = Phase::Refused(answer);
        } else {
            self.phase = Phase::Ready(answer);
            out.extend(to_server(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#));
            self.tell_level(out);
            for uri in self.subscriptions.all() {
                self.tell_subscription("resources/subscribe", &uri, out);
            }
        }
        self.resume(out);
    }

    /// The answer to a client's request, or to one of ours, for which nobody waits.
    fn answer(&mut self, number: u64, message: &Message, out: &mut Vec<Action>) {
        self.ghosts.remove(&number);
        let Some(key) = self.owners.remove(&number) else { return };
        let Some(open) = self.members.get_mut(&key).and_then(|member| member.close(number)) else { return };
        self.answers += 1;
        out.push(Action::ToClient(key, message.with_id(&open.id)));
        self.settle(key, number, open, message);
    }

    /// What the answer changes here.
    fn settle(&mut self, key: Key, number: u64, open: Open, answer: &Message) {
        let limit = self.limits.open;
        match open.purpose {
            Purpose::Task => {
                let id = member::string(answer.text(), &["result", "task", "taskId"]);
                if let (Some(id), Some(member)) = (name(id), self.members.get_mut(&key)) {
                    keep(&mut member.tasks, Task { id, number, token: open.token }, limit);
                }
            }
            Purpose::SetLevel { before } if is_error(answer) => {
                if let Some(held) = self.held_level(key) {
                    undo_level(held, number, before);
                }
                self.server_level = None; // it may be any
            }
            Purpose::Subscribe { uri } if is_error(answer) => self.subscriptions.refused(&uri, key, number),
            Purpose::Subscribe { uri } => self.subscriptions.accepted(&uri, key, number),
            Purpose::Call | Purpose::SetLevel { .. } => {}
        }
        for id in required_elicitations(answer) {
            if let Some(member) = self.members.get_mut(&key) {
                keep(&mut member.elicitations, id, limit);
            }
        }
    }

    /// A request of the server.
    fn question(&mut self, message: &Message, out: &mut Vec<Action>) {
        let (Some(id), Some(method)) = (message.id(), message.method()) else { return };
        let error = |code, reason: &str| Action::ToServer(Message::error(Some(id), code, reason));
        let key = match self.addressee(message) {
            Some(key) => key,
            None if method == "ping" => {
                out.push(Action::ToServer(Message::result(id, "{}")));
                return;
            }
            None if self.members.is_empty() => {
                out.push(error(INTERNAL_ERROR, "there is no client to ask"));
                return;
            }
            None => {
                let reason = "several clients share this server, and nobody can tell which of them is asked";
                out.push(error(INTERNAL_ERROR, reason));
                return;
            }
        };
        if let Some(needed) = self.members.get(&key).and_then(|member| member.lacks(method)) {
            out.push(error(METHOD_NOT_FOUND, &format!("the client did not declare the capability '{needed}'")));
        } else if self.questions.len() >= self.limits.open.saturating_mul(LINK_FACTOR) {
            out.push(error(INTERNAL_ERROR, "too many requests of the server are unanswered"));
        } else {
            self.ask(key, message, out);
        }
    }

    fn ask(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let number = self.number();
        let (Some(id), Some(member)) = (message.id(), self.members.get_mut(&key)) else { return };
        let is_stateless = member.kind == Kind::Stateless;
        let ticket = || Id::from_json(&format!("\"{}\"", self.tickets.make(number)));
        let asked = if is_stateless { ticket() } else { None }.unwrap_or_else(|| Id::number(number));
        if message.method() == Some("elicitation/create") {
            let id = message.params().and_then(|params| member::string(params, &["elicitationId"]));
            if let Some(id) = name(id) {
                keep(&mut member.elicitations, id, self.limits.open);
            }
        }
        let token = message.progress_token();
        let mut told = message.with_id(&asked);
        if token.is_some() {
            told = told.with_param(&["_meta", "progressToken"], asked.as_json());
        }
        self.questions.insert(number, Question { key, id: id.clone(), token, asked, is_stateless });
        out.push(Action::ToClient(key, told));
    }

    /// The client that a message of the server is for which names no request.
    fn addressee(&mut self, message: &Message) -> Option<Key> {
        if !self.is_ready() {
            return None;
        }
        let params = message.params().filter(|params| params.contains(RELATED_TASK));
        if let Some(id) = params.and_then(|params| member::string(params, &["_meta", RELATED_TASK, "taskId"]))
            && let Some(key) = self.owner_of_task(&id)
        {
            return Some(key);
        }
        let answers = self.answers;
        self.ghosts.retain(|_, ghost| ghost.until > answers);
        let busy = self.members.iter().filter(|(_, member)| member.is_busy()).map(|(key, _)| *key);
        let mut busy = busy.chain(self.ghosts.values().map(|ghost| ghost.key));
        if let Some(first) = busy.next() {
            let is_there = self.members.contains_key(&first);
            return (is_there && busy.all(|key| key == first)).then_some(first);
        }
        let mut sessions = self.sessions();
        let (key, member) = sessions.next()?;
        (member.has_begun && sessions.next().is_none()).then_some(key)
    }

    fn owner_of_task(&self, id: &str) -> Option<Key> {
        let owns = |member: &Member| member.tasks.iter().any(|task| task.id == id);
        self.members.iter().find(|(_, member)| owns(member)).map(|(key, _)| *key)
    }

    fn sessions(&self) -> impl Iterator<Item = (Key, &Member)> {
        self.members.iter().filter(|(_, member)| member.kind == Kind::Session).map(|(key, member)| (*key, member))
    }

    /// A notification of the server.
    fn tell(&mut self, message: &Message, out: &mut Vec<Action>) {
        let params = message.params().unwrap_or_default();
        match message.method().unwrap_or_default() {
            "notifications/cancelled" => self.withdraw(message, out),
            "notifications/progress" => out.extend(self.progress(message)),
            "notifications/message" => self.log(message, out),
            "notifications/resources/updated" => {
                let uri = member::string(params, &["uri"]).unwrap_or_default();
                for key in self.subscriptions.wanting(&uri) {
                    self.tell_one(Some(key), message, out);
                }
            }
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => self.tell_all(message, out),
            "notifications/tasks/status" => {
                let owner = member::string(params, &["taskId"]).and_then(|id| self.owner_of_task(&id));
                self.tell_one(owner, message, out);
            }
            "notifications/elicitation/complete" => {
                let owner = member::string(params, &["elicitationId"]).and_then(|id| {
                    self.members.iter().find(|(_, member)| member.elicitations.contains(&id)).map(|(key, _)| *key)
                });
                self.tell_one(owner, message, out);
            }
            _ if says_nothing(params) => self.tell_all(message, out),
            _ => {
                let addressee = self.addressee(message);
                self.tell_one(addressee, message, out);
            }
        }
    }

    fn tell_one(&self, key: Option<Key>, message: &Message, out: &mut Vec<Action>) {
        let key = key.filter(|key| self.members.contains_key(key));
        out.extend(key.map(|key| Action::ToClient(key, message.clone())));
    }

    /// To every session that has begun.
    fn tell_all(&self, message: &Message, out: &mut Vec<Action>) {
        let begun = self.sessions().filter(|(_, member)| member.has_begun);
        out.extend(begun.map(|(key, _)| Action::ToClient(key, message.clone())));
    }

    /// To every session that wants log messages of this level.
    fn log(&mut self, message: &Message, out: &mut Vec<Action>) {
        let level = message.params().and_then(|params| member::value(params, &["level"])).and_then(Level::from_json);
        let wants = |held: Option<Held>| level.zip(held).is_none_or(|(level, held)| level >= held.level);
        let begun = self.sessions().filter(|(_, member)| member.has_begun && wants(member.level));
        out.extend(begun.map(|(key, _)| Action::ToClient(key, message.clone())));
        let alone = self
            .addressee(message)
            .filter(|key| self.members.get(key).is_some_and(|member| member.kind == Kind::Stateless));
        if wants(self.stateless_level) {
            self.tell_one(alone, message, out);
        }
    }

    /// Progress of a request, or of the task that it became.
    fn progress(&self, message: &Message) -> Option<Action> {
        let number = whole(&message.progress_token()?)?;
        let (key, token) = match self.owners.get(&number) {
            Some(key) => (*key, self.members.get(key)?.open.get(&number)?.token.as_ref()?),
            None => self.members.iter().find_map(|(key, member)| {
                let task = member.tasks.iter().find(|task| task.number == number)?;
                Some((*key, task.token.as_ref()?))
            })?,
        };
        Some(Action::ToClient(key, message.with_param(&["progressToken"], token.as_json())))
    }

    /// The server does not want the answer to a question any more.
    fn withdraw(&mut self, message: &Message, out: &mut Vec<Action>) {
        let Some(id) = message.cancels() else { return };
        let find = |same: &dyn Fn(&Id) -> bool| {
            self.questions.iter().find(|(_, question)| same(&question.id)).map(|(number, _)| *number)
        };
        let number = find(&|known| *known == id).or_else(|| find(&|known| known.may_be(&id)));
        if let Some(question) = number.and_then(|number| self.questions.remove(&number)) {
            let told = message.with_param(&["requestId"], question.asked.as_json());
            self.tell_one(Some(question.key), &told, out);
        }
    }
}

impl Member {
    /// The capability that this question needs and this client did not declare. What one without a session can do is
    /// not known.
    fn lacks(&self, method: &str) -> Option<&'static str> {
        let kind = method.split('/').next().unwrap_or_default();
        let needed = ASKED.into_iter().find(|name| *name == kind)?;
        (self.kind == Kind::Session && !self.declared.contains(&needed)).then_some(needed)
    }
}

/// Whether a response is an error.
fn is_error(response: &Message) -> bool {
    member::value(response.text(), &["error"]).is_some()
}

/// A name that is short enough to be remembered.
fn name(name: Option<String>) -> Option<String> {
    name.filter(|name| name.len() <= NAME_BYTES)
}

/// The elicitations that must be over before the client tries again.
fn required_elicitations(answer: &Message) -> Vec<String> {
    if answer.bytes().len() > ELICITATION_ERROR_BYTES || !answer.text().contains(ELICITATION_REQUIRED) {
        return Vec::new();
    }
    let list = member::value(answer.text(), &["error", "data", "elicitations"]);
    let list = list.and_then(|list| serde_json::from_str::<Vec<&RawValue>>(list).ok()).unwrap_or_default();
    list.into_iter().filter_map(|one| name(member::string(one.get(), &["elicitationId"]))).collect()
}

/// Whether there are no params, or empty ones.
fn says_nothing(params: &str) -> bool {
    let Ok(members) = serde_json::from_str::<std::collections::BTreeMap<String, &RawValue>>(params) else {
        return params.is_empty();
    };
    members.is_empty()
}
