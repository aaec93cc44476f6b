//! What the client says: how it leaves for the server, or what we answer to it ourselves.
//!
//! Always: nothing crosses that a modern server does not know from its own era.

use super::super::super::level::Level;
use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, INVALID_PARAMS, Id, Kind, METHOD_NOT_FOUND, Message};
use super::super::super::sole::sole;
use super::input::MAY_ASK;
use super::{Call, Crossed, ToModern};

/// What a legacy client does not know; passed on, it would get answers that it cannot read.
const MODERN: [&str; 2] = ["server/discover", "subscriptions/listen"];

impl ToModern {
    /// Takes a message of the client.
    pub fn from_client(&mut self, message: Message, out: &mut Vec<Crossed>) {
        match message.kind() {
            Kind::Request { id, .. } => {
                let id = id.clone();
                self.request(&id, message, out);
            }
            Kind::Notification { .. } => self.told(message, out),
            Kind::Response { .. } => self.reply(&message, out),
        }
    }

    fn request(&mut self, id: &Id, message: Message, out: &mut Vec<Crossed>) {
        let answer = match message.method().unwrap_or_default() {
            "ping" => Message::result(id, "{}"),
            "logging/setLevel" => self.set_level(id, message.params()),
            "resources/unsubscribe" => self.unsubscribe(id, &message, out),
            method if method.starts_with("tasks/") || MODERN.contains(&method) => {
                Message::error(Some(id), METHOD_NOT_FOUND, &format!("'{method}' is not offered here"))
            }
            _ if self.open() >= self.limits.open => {
                let reason = format!("too many requests are unanswered ({})", self.limits.open);
                Message::error(Some(id), INTERNAL_ERROR, &reason)
            }
            "resources/subscribe" => {
                self.subscribe(id, &message, out);
                return;
            }
            "initialize" => {
                self.discover(id, &message, out);
                return;
            }
            _ => {
                self.pass(id, message, out);
                return;
            }
        };
        out.push(Crossed::ToClient(answer));
    }

    fn set_level(&mut self, id: &Id, params: Option<&str>) -> Message {
        let level = params.and_then(|params| member::value(params, &["level"])).and_then(Level::from_json);
        let Some(level) = level else { return Message::error(Some(id), INVALID_PARAMS, "there is no such log level") };
        self.client.set_level(level);
        Message::result(id, "{}")
    }

    /// What `initialize` asks, a modern server tells in `server/discover`.
    fn discover(&mut self, id: &Id, message: &Message, out: &mut Vec<Crossed>) {
        self.client.introduce(message.params().unwrap_or_default());
        self.listening.forgive();
        let params = self.client.dressed(None).unwrap_or_default();
        let number = self.open_call(id, "initialize", None);
        out.push(Crossed::ToServer(Message::request(&Id::number(number), "server/discover", &params)));
    }

    fn pass(&mut self, id: &Id, message: Message, out: &mut Vec<Crossed>) {
        let Some(params) = self.client.dressed(message.params()) else {
            out.push(Crossed::ToClient(Message::error(Some(id), INVALID_PARAMS, "params must be an object")));
            return;
        };
        let method = message.method().unwrap_or_default().to_owned();
        let sent = message.with_params(&params);
        let keeps = MAY_ASK.contains(&&*method) && self.has_room_for(message.bytes().len());
        let number = self.open_call(id, &method, keeps.then_some(message));
        out.push(Crossed::ToServer(sent.with_id(&Id::number(number))));
    }

    pub(super) fn open_call(&mut self, id: &Id, method: &str, request: Option<Message>) -> u64 {
        let number = self.number();
        self.calls.insert(number, Call { id: id.clone(), method: method.into(), request, rounds: 0, asking: None });
        number
    }

    fn told(&mut self, message: Message, out: &mut Vec<Crossed>) {
        match message.method().unwrap_or_default() {
            "notifications/initialized" => {
                self.listening.begin();
                self.listen(out);
            }
            "notifications/cancelled" => self.cancel(&message, out),
            // A modern server asks for roots each time it needs them, and hears of its questions' progress never.
            "notifications/roots/list_changed" | "notifications/progress" => {}
            _ => out.push(Crossed::ToServer(message)),
        }
    }

    /// The client does not want the answer to a request any more.
    fn cancel(&mut self, message: &Message, out: &mut Vec<Crossed>) {
        let Ok([Some(id)]) = sole(message.params().unwrap_or_default(), ["requestId"]) else { return };
        let Some(id) = Id::from_json(id) else { return };
        let _ = self.cancel_one(message, &|known| *known == id, out)
            || self.cancel_one(message, &|known| known.may_be(&id), out);
    }

    fn cancel_one(&mut self, message: &Message, same: &dyn Fn(&Id) -> bool, out: &mut Vec<Crossed>) -> bool {
        let number = self.calls.iter().find(|(_, call)| same(&call.id)).map(|(number, _)| *number);
        let Some((number, call)) = number.and_then(|number| self.calls.remove_entry(&number)) else {
            return self.forget_subscribing(same, out);
        };
        if call.asking.is_some() {
            self.withdraw(number, &call.id, "its request was cancelled", out);
        } else {
            out.push(Crossed::ToServer(message.with_param(&["requestId"], &number.to_string())));
        }
        true
    }
}
