//! What a client says: how it leaves for the server, or what we answer to it ourselves.
//!
//! Always: nothing that a client writes names a request or a token of another client at the server.

use super::super::super::edit::{Edit, edited};
use super::super::super::hub::{AMBIGUOUS, Action, Key, refuse};
use super::super::super::level::Level;
use super::super::super::member;
use super::super::super::message::{
    INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, Id, Kind as MessageKind, METHOD_NOT_FOUND, Message,
};
use super::super::super::modern::{LEGACY_ONLY, REVISION, UNSUPPORTED_VERSION, meta};
use super::super::super::noted::Param;
use super::super::super::sole::sole;
use super::capabilities::{may_be_asked, of_server};
use super::{Call, Holder, Phase, Server, Stage, ToLegacy, can_be_parked};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// A request of a client, and what is to be known of it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub key: Key,
    pub message: &'a Message,
    pub id: &'a Id,
    pub method: &'a str,
    pub level: Option<Level>,
    /// Members of the params: JSON texts.
    pub token: Option<&'a str>,
    pub state: Option<&'a str>,
    pub responses: Option<&'a str>,
}

impl ToLegacy {
    /// Takes a message of a client that has joined.
    pub(super) fn hear_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if !self.clients.contains_key(&key) {
            return;
        }
        if message.is_ambiguous() {
            refuse(key, &message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        }
        match message.kind() {
            MessageKind::Request { .. } => self.request(key, message, out),
            MessageKind::Notification { .. } => self.notification(key, message, out),
            MessageKind::Response { .. } => {} // a modern client is asked nothing
        }
    }

    fn request(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if self.unanswered(key) >= self.limits.open {
            let reason = format!("too many requests are unanswered ({})", self.limits.open);
            refuse(key, &message, INTERNAL_ERROR, &reason, out);
            return;
        }
        match &self.phase {
            Phase::Lost | Phase::Beginning(_) => self.wait(key, message, out),
            Phase::Ready(_) => match read(key, &message) {
                Ok(request) => self.pass(request, out),
                Err(refusal) => out.push(Action::ToClient(key, *refusal)),
            },
            Phase::Refused(error) => {
                let words = member::string(error.text(), &["error", "message"]).unwrap_or_default();
                refuse(key, &message, INTERNAL_ERROR, &format!("the server refused to begin: {words}"), out);
            }
        }
    }

    /// A request for a server that has begun.
    fn pass(&mut self, request: Request<'_>, out: &mut Vec<Action>) {
        match request.method {
            "server/discover" => {
                let Some(server) = self.phase.ready() else { return };
                let answer = Message::result(request.id, &server.discovery());
                out.push(Action::ToClient(request.key, answer));
            }
            "subscriptions/listen" => self.listen(request, out),
            method if LEGACY_ONLY.contains(&method) || method.starts_with("tasks/") => {
                let reason = format!("the method '{method}' does not exist in {REVISION}");
                refuse(request.key, request.message, METHOD_NOT_FOUND, &reason, out);
            }
            method if can_be_parked(method) && request.state.is_some() => self.repeat(request, out),
            _ => {
                if !self.ask_first(request, out) {
                    self.open(request, out);
                }
            }
        }
    }

    /// Sends a call that was not there before.
    fn open(&mut self, request: Request<'_>, out: &mut Vec<Action>) {
        let number = self.number();
        self.calls.insert(number, new_call(request));
        if let Some(client) = self.clients.get_mut(&request.key) {
            client.open.insert(number);
        }
        if request.level.is_some() {
            self.tell_level(out);
        }
        self.send(number, request.message, out);
    }

    /// Sends a call under its number, as a legacy client would have written it.
    pub(super) fn send(&mut self, number: u64, message: &Message, out: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.stage = Stage::Working;
        call.sent = self.now;
        let mut sent = message.with_id(&Id::number(number));
        if let Some(params) = message.params()
            && let Cow::Owned(params) = legacy_params(params, call.can_be_parked())
        {
            sent = sent.with_params(&params);
        }
        if call.token.is_some() {
            sent = sent.with_param(&["_meta", "progressToken"], &number.to_string());
        }
        out.push(Action::ToServer(sent));
    }

    /// Tells the server the most verbose level that an open request wants, if it does not know it.
    pub(super) fn tell_level(&mut self, out: &mut Vec<Action>) {
        let Some(server) = self.phase.ready() else { return };
        if !meta::declares(&server.capabilities, &["logging"]) {
            return;
        }
        let open = self.calls.values().filter(|call| !call.is_parked());
        let Some(wanted) = open.filter_map(|call| call.level).min() else { return };
        if self.server_level.is_none_or(|(level, _)| level != wanted) {
            let params = format!(r#"{{"level":{}}}"#, wanted.as_json());
            let number = self.ask_server("logging/setLevel", &params, out);
            self.server_level = Some((wanted, number));
        }
    }

    fn notification(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        match message.method() {
            // A link outlives the roots of any client; progress of questions cannot be told any more.
            Some("notifications/initialized" | "notifications/roots/list_changed" | "notifications/progress") => {}
            Some("notifications/cancelled") => self.cancel(key, &message, out),
            _ => match self.phase {
                Phase::Lost | Phase::Beginning(_) => self.wait(key, message, out),
                Phase::Ready(_) => out.push(Action::ToServer(stripped(&message))),
                Phase::Refused(_) => {}
            },
        }
    }

    /// It waits for the server, or is refused.
    fn wait(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if self.clients.contains_key(&key) {
            self.waiting.keep(self.limits, key, message, out);
        }
    }

    /// The server has begun, or refused to: what waited goes on, in order.
    pub(super) fn resume(&mut self, out: &mut Vec<Action>) {
        for (key, message) in self.waiting.take() {
            self.hear_client(key, message, out);
        }
    }

    /// A client does not want the answer to a request any more: the same spelling first, then the same value.
    fn cancel(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok([Some(id)]) = sole(message.params().unwrap_or_default(), ["requestId"]) else { return };
        let Some(id) = Id::from_json(id) else { return };
        let is_done = self.cancel_if(key, message, &|known| *known == id, out);
        if !is_done {
            self.cancel_if(key, message, &|known| known.may_be(&id), out);
        }
    }

    fn cancel_if(&mut self, key: Key, message: &Message, same: &dyn Fn(&Id) -> bool, out: &mut Vec<Action>) -> bool {
        let Some(client) = self.clients.get_mut(&key) else { return true };
        let is_meant = |number: &&u64| match self.calls.get(number).map(|call| &call.holder) {
            Some(Holder::Client { id, .. }) => same(id),
            _ => false,
        };
        if let Some(number) = client.open.iter().find(is_meant).copied() {
            let told = stripped(message).with_param(&["requestId"], &number.to_string());
            self.give_up(number, told, "its client cancelled it", out);
            return true;
        }
        if let Some(number) = client.listens.iter().find(|number| self.listens.is_of(**number, same)).copied() {
            self.unlisten(number, out);
            return true;
        }
        self.waiting.cancel(key, same)
    }

    /// Whether there is a call that a message of the server may be for, which names none.
    pub(super) fn has_addressee(&self) -> bool {
        let is_one = |call: &Call| call.can_be_parked() && (call.level.is_some() || may_be_asked(&call.capabilities));
        self.calls.values().any(is_one) || self.waiting.messages().any(may_be_addressed)
    }
}

impl Server {
    /// The result of `server/discover`.
    fn discovery(&self) -> String {
        let instructions = self.instructions.as_ref().map(|text| format!(r#","instructions":{text}"#));
        format!(
            r#"{{"resultType":"complete","supportedVersions":["{REVISION}"],"capabilities":{}{},"ttlMs":0,"cacheScope":"private"{}}}"#,
            of_server(&self.capabilities),
            instructions.unwrap_or_default(),
            identity(self.info.as_deref())
        )
    }
}

/// The `_meta` of a result of ours, after another member.
pub fn identity(server_info: Option<&str>) -> String {
    server_info.map_or_else(String::new, |info| format!(r#","_meta":{{"{}":{info}}}"#, meta::SERVER_INFO))
}

/// Whether a message of the server may be for this request although it does not name it.
pub fn may_be_addressed(message: &Message) -> bool {
    message.method().is_some_and(can_be_parked)
        && (meta::capabilities(message).is_some_and(may_be_asked) || meta::log_level(message) != Ok(None))
}

/// Reads a request, or says what is wrong with it.
fn read(key: Key, message: &Message) -> Result<Request<'_>, Box<Message>> {
    let (Some(id), Some(method)) = (message.id(), message.method()) else {
        return Err(Box::new(Message::error(None, INVALID_REQUEST, "it is no request")));
    };
    let names = [
        Param::RequestState,
        Param::InputResponses,
        Param::ProgressToken,
        Param::ProtocolVersion,
        Param::ClientCapabilities,
        Param::LogLevel,
    ];
    let Ok([state, responses, token, ..]) = message.sole(names) else {
        return Err(Box::new(Message::error(Some(id), INVALID_REQUEST, AMBIGUOUS)));
    };
    if let Some(version) = meta::version(message).filter(|version| version != REVISION) {
        let data = format!(r#"{{"supported":["{REVISION}"],"requested":{}}}"#, serde_json::Value::from(version));
        return Err(Box::new(Message::error_with(
            Some(id),
            UNSUPPORTED_VERSION,
            "Unsupported protocol version",
            &data,
        )));
    }
    let Ok(level) = meta::log_level(message) else {
        return Err(Box::new(Message::error(Some(id), INVALID_PARAMS, &format!("{} names no level", meta::LOG_LEVEL))));
    };
    Ok(Request { key, message, id, method, level, token, state, responses })
}

/// A call that its client waits for, and that the server has not got.
pub fn new_call(request: Request<'_>) -> Call {
    let capabilities = meta::capabilities(request.message).unwrap_or("{}");
    let is_kept = can_be_parked(request.method) && may_be_asked(capabilities);
    Call {
        method: request.method.into(),
        params: if is_kept { request.message.params().unwrap_or_default().into() } else { Box::default() },
        capabilities: capabilities.into(),
        token: request.token.and_then(Id::from_json),
        level: request.level,
        holder: Holder::Client { key: request.key, id: request.id.clone() },
        stage: Stage::Unsent,
        questions: BTreeMap::new(),
        lacked: None,
        sent: Duration::ZERO,
    }
}

/// A notification without what only a modern one says of itself.
fn stripped(message: &Message) -> Message {
    message.params().map_or_else(|| message.clone(), |params| message.with_params(&meta::stripped(params)))
}

/// The params of a request without what a legacy server does not know; of one that has rounds, without those either.
fn legacy_params(params: &str, has_rounds: bool) -> Cow<'_, str> {
    let members = member::members(params).unwrap_or_default();
    edited(params, &members, |name, value| match name {
        "_meta" => meta::unreserved(value),
        // No modern client could ask for the task that a legacy server would make of it.
        "inputResponses" | "requestState" | "task" if has_rounds => Edit::Cut,
        _ => Edit::Keep,
    })
}
