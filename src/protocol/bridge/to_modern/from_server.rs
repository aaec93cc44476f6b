//! What the server says: how it gets to the client, and what of it does not.
//!
//! Always: nothing gets to the client about a request that is answered or cancelled.

use super::super::super::edit::{Edit, Members, edited};
use super::super::super::hub::whole;
use super::super::super::member;
use super::super::super::message::{INVALID_PARAMS, Id, Kind, METHOD_NOT_FOUND, Message};
use super::super::super::modern::meta;
use super::greeting::{capabilities, greeting, names_ours, plain, without_reserved};
use super::{Call, Crossed, ToModern};
use std::borrow::Cow;

/// The code with which legacy servers say that there is no such resource (2025-11-25, `server/resources`).
const NO_RESOURCE: &str = "-32002";

/// What a result is (`basic/index`, `ResultType`).
enum ResultKind {
    Complete,
    InputRequired,
    Unknown(String),
}

impl ToModern {
    /// Takes a message of the server.
    pub fn from_server(&mut self, message: Message, out: &mut Vec<Crossed>) {
        match message.kind() {
            Kind::Request { id, .. } => {
                let reason = "a server of this revision asks in its results only";
                out.push(Crossed::ToServer(Message::error(Some(id), METHOD_NOT_FOUND, reason)));
            }
            Kind::Notification { .. } => self.tell(message, out),
            Kind::Response { id } => {
                if let Some(number) = id.as_ref().and_then(whole) {
                    self.answer(number, &message, out);
                }
            }
        }
    }

    fn answer(&mut self, number: u64, message: &Message, out: &mut Vec<Crossed>) {
        if self.listening.is(number) {
            self.listen_ended(number, Some(message), "the server ended the subscription", out);
            return;
        }
        if self.calls.get(&number).is_none_or(|call| call.asking.is_some()) {
            return;
        }
        let Some(call) = self.calls.remove(&number) else { return };
        if &*call.method == "initialize" {
            self.greet(&call, message, out);
            return;
        }
        let Some(result) = message.result_text() else {
            out.push(Crossed::ToClient(restored(&call, &failed(&call, message), message)));
            return;
        };
        let members = member::members(result).unwrap_or_default();
        match result_kind(&members) {
            ResultKind::Complete => {
                let answer = match plain(result, &members, &call.method) {
                    Cow::Borrowed(_) => restored(&call, message, message),
                    Cow::Owned(plain) => restored(&call, &message.with_result(&plain), message),
                };
                out.push(Crossed::ToClient(answer));
            }
            ResultKind::InputRequired => self.ask(number, call, &members, out),
            ResultKind::Unknown(kind) => {
                let why = format!("the server answered with a result of a kind that is not known here: '{kind}'");
                out.push(call.fails(&why));
            }
        }
    }

    /// The answer to `server/discover`, for the client's `initialize`.
    fn greet(&mut self, call: &Call, message: &Message, out: &mut Vec<Crossed>) {
        match greeting(message, self.client.revision()) {
            // It refused the revision that it names itself: asked again, it may have thought better of it.
            Err(_) if call.rounds == 0 && names_ours(message) => {
                let params = self.client.dressed(None).unwrap_or_default();
                let number = self.open_call(&call.id, "initialize", None);
                self.calls.get_mut(&number).into_iter().for_each(|call| call.rounds = 1);
                out.push(Crossed::ToServer(Message::request(&Id::number(number), "server/discover", &params)));
            }
            Ok(result) => {
                out.push(Crossed::ToClient(Message::result(&call.id, &result)));
                self.listening.learn(&capabilities(message).unwrap_or_default());
                self.listen(out); // it may have begun before
            }
            Err(why) => out.push(call.fails(&why)),
        }
    }

    fn tell(&mut self, message: Message, out: &mut Vec<Crossed>) {
        match message.method().unwrap_or_default() {
            "notifications/subscriptions/acknowledged" => self.acknowledge(&message, out),
            "notifications/cancelled" => {
                // A server cancels nothing but the listening (`basic/patterns/cancellation`).
                if let Some(number) = message.cancels().as_ref().and_then(whole) {
                    self.listen_ended(number, None, "the server ended the subscription", out);
                }
            }
            method => {
                let is_of_request = matches!(method, "notifications/progress" | "notifications/message");
                let told = match meta::subscription_id(&message) {
                    Some(tag) => self.listening.is_current(&tag).then(|| untagged(&message)),
                    None => self.related(message, is_of_request),
                };
                out.extend(told.map(Crossed::ToClient));
            }
        }
    }

    /// A notification that came with the answer to one of our requests, as one that comes with the answer to the
    /// client's. Where that is over, what is about it alone is dropped.
    fn related(&self, message: Message, is_of_request: bool) -> Option<Message> {
        let Some(number) = message.related() else { return Some(message) };
        match whole(number).and_then(|number| self.calls.get(&number)) {
            Some(call) => Some(message.with_related(&call.id)),
            None if is_of_request => None,
            None => Some(unrelated(message)),
        }
    }
}

fn result_kind(members: &Members) -> ResultKind {
    let Some((_, kind)) = members.iter().rev().find(|(name, _)| name == "resultType") else {
        return ResultKind::Complete; // as an earlier revision has it
    };
    match serde_json::from_str::<String>(kind).unwrap_or_else(|_| (*kind).to_owned()) {
        kind if kind == "complete" => ResultKind::Complete,
        kind if kind == "input_required" => ResultKind::InputRequired,
        kind => ResultKind::Unknown(kind.chars().take(100).collect()),
    }
}

/// The error of a request, in the client's words. "No such resource" is −32602 for a modern server, where for a legacy
/// client that code blames the request, and −32002 tells what is wrong ("SHOULD", 2025-11-25, `server/resources`). A
/// request that names a resource has no other params that could be wrong, unless it is a later round; then the error
/// has to name the resource.
fn failed(call: &Call, message: &Message) -> Message {
    let params = call.request.as_ref().and_then(Message::params).unwrap_or_default();
    let names_one = &*call.method == "resources/read" && member::string(params, &["uri"]).is_some();
    let is_told = call.rounds == 0 || member::value(message.text(), &["error", "data", "uri"]).is_some();
    match member::range(message.text(), &["error", "code"]) {
        Some(code) if names_one && is_told && message.error_code() == Some(INVALID_PARAMS.into()) => {
            let text = [&message.text()[..code.start], NO_RESOURCE, &message.text()[code.end..]].concat();
            Message::parse(text.into()).unwrap_or_else(|_| message.clone())
        }
        _ => message.clone(),
    }
}

/// An answer under the client's id.
fn restored(call: &Call, answer: &Message, came: &Message) -> Message {
    let answer = answer.with_id(&call.id);
    if came.related().is_some() { answer.with_related(&call.id) } else { answer }
}

/// What the listening brought, as something that belongs to no request.
fn untagged(message: &Message) -> Message {
    let params = message.params().unwrap_or_default();
    let members = member::members(params).unwrap_or_default();
    let params = edited(params, &members, |name, value| match name {
        "_meta" => without_reserved(value, meta::SUBSCRIPTION_ID),
        _ => Edit::Keep,
    });
    unrelated(message.with_params(&params))
}

fn unrelated(message: Message) -> Message {
    if message.related().is_none() {
        return message;
    }
    Message::parse(message.bytes().to_vec()).unwrap_or(message)
}
