//! What a client says: how it leaves for the server, or what we answer to it ourselves.
//!
//! Always: nothing that a client writes names a request or a token of another client at the server.

use super::{Action, Key, Member, Open, Phase, Share};
use crate::protocol::hub::{AMBIGUOUS, Hub, refuse};
use crate::protocol::member;
use crate::protocol::message::{INTERNAL_ERROR, INVALID_REQUEST, Id, Kind, Message};
use crate::protocol::modern::meta;
use crate::protocol::noted::Param;
use crate::protocol::sole::sole;

impl Share {
    /// Takes a message of a client that has joined.
    pub(super) fn take_from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if !self.members.contains_key(&key) {
            return;
        }
        if message.is_ambiguous() {
            refuse(key, &message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        }
        match message.kind() {
            Kind::Request { .. } => self.request(key, message, out),
            Kind::Notification { .. } => self.notification(key, message, out),
            Kind::Response { .. } => {} // nobody asked
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
        match &self.phase {
            Phase::Lost | Phase::Beginning(_) => self.wait(key, message, out),
            Phase::Ready(_) => self.pass(key, &message, out),
            Phase::Refused(error) if message.method() == Some("server/discover") => {
                out.extend(message.id().map(|id| Action::ToClient(key, error.with_id(id))));
            }
            Phase::Refused(error) => {
                let words = member::string(error.text(), &["error", "message"]).unwrap_or_default();
                refuse(key, &message, INTERNAL_ERROR, &format!("the server refused to begin: {words}"), out);
            }
        }
    }

    fn notification(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        match message.method() {
            Some("notifications/cancelled") => self.cancel(key, &message, out),
            // Of what the server has asked; it asks nothing, and the token would be a number of ours.
            Some("notifications/progress") => {}
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

    /// It is known what the server is: what waited goes on, in order.
    pub(super) fn resume(&mut self, out: &mut Vec<Action>) {
        for (key, message) in self.waiting.take() {
            self.from_client(key, message, out);
        }
    }

    /// A request for a modern server: it goes on under a number of ours.
    fn pass(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok([token]) = message.sole([Param::ProgressToken]) else {
            refuse(key, message, INVALID_REQUEST, AMBIGUOUS, out);
            return;
        };
        let token = token.and_then(Id::from_json);
        let number = self.number();
        let (Some(id), Some(member)) = (message.id(), self.members.get_mut(&key)) else { return };
        let mut sent = message.with_id(&Id::number(number));
        if token.is_some() {
            sent = sent.with_param(&["_meta", "progressToken"], &number.to_string());
        }
        let is_listen = message.method() == Some("subscriptions/listen");
        // Log messages come before the answer of a request, and never for one that listens (`server/utilities/logging`).
        let wants_log = !is_listen && meta::log_level(message).is_ok_and(|level| level.is_some());
        member.open.insert(number, Open { id: id.clone(), token, is_listen, wants_log });
        self.owners.insert(number, key);
        out.push(Action::ToServer(sent));
    }

    /// A client does not want the answer to a request any more.
    fn cancel(&mut self, key: Key, message: &Message, out: &mut Vec<Action>) {
        let Ok([Some(id)]) = sole(message.params().unwrap_or_default(), ["requestId"]) else { return };
        let (Some(id), Some(member)) = (Id::from_json(id), self.members.get_mut(&key)) else { return };
        if let Some(number) = member.find(&id) {
            if let Some((_, open)) = self.close(number) {
                self.haunt(number, key, open.wants_log);
            }
            out.push(Action::ToServer(message.with_param(&["requestId"], &number.to_string())));
            return;
        }
        let _ = self.waiting.cancel(key, &|known| *known == id) || self.waiting.cancel(key, &|known| known.may_be(&id));
    }
}

impl Member {
    /// Its open request that a message with this id speaks of: the same spelling first, then the same value.
    fn find(&self, id: &Id) -> Option<u64> {
        let find =
            |same: &dyn Fn(&Id) -> bool| self.open.iter().find(|(_, open)| same(&open.id)).map(|(number, _)| *number);
        find(&|known| known == id).or_else(|| find(&|known| known.may_be(id)))
    }
}
