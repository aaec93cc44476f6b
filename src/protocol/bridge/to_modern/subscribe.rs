//! The client's subscriptions to resources (2025-11-25, `server/resources`), which are a part of what is listened for.
//!
//! Always: a request to subscribe is answered when an acknowledgement tells; what is subscribed to is bounded.

use super::super::super::message::{INTERNAL_ERROR, INVALID_PARAMS, Id, METHOD_NOT_FOUND, Message};
use super::super::super::sole::sole;
use super::listen::Subscribing;
use super::{Crossed, ToModern};

/// Resources that a client may subscribe to.
pub const SUBSCRIPTIONS: usize = 1024;
/// The longest URI of one, in bytes.
pub const URI_BYTES: usize = 8 << 10;

pub(super) const NOT_OFFERED: &str = "the server does not offer subscriptions to resources";

impl ToModern {
    pub(super) fn subscribe(&mut self, id: &Id, message: &Message, out: &mut Vec<Crossed>) {
        let Some(uri) = uri(message) else { return out.push(no_uri(id)) };
        let listening = &mut self.listening;
        let error = |code, why| Crossed::ToClient(Message::error(Some(id), code, why));
        if listening.is_refused || listening.has_updates == Some(false) {
            return out.push(error(METHOD_NOT_FOUND, NOT_OFFERED));
        }
        match listening.resources.get(&uri) {
            Some(true) => return out.push(Crossed::ToClient(Message::result(id, "{}"))),
            None if uri.len() > URI_BYTES => {
                return out.push(error(INTERNAL_ERROR, "the URI is too long for a subscription"));
            }
            None if listening.resources.len() >= SUBSCRIPTIONS => {
                return out.push(error(INTERNAL_ERROR, "too many resources are subscribed to"));
            }
            _ => {}
        }
        listening.resources.entry(uri.clone()).or_insert(false);
        listening.waiting.push(Subscribing { id: id.clone(), uri });
        self.listen(out);
    }

    /// Ends a subscription, if there is one. Who still waits for it has had it until now.
    pub(super) fn unsubscribe(&mut self, id: &Id, message: &Message, out: &mut Vec<Crossed>) -> Message {
        let Some(uri) = uri(message) else {
            return Message::error(Some(id), INVALID_PARAMS, "it names no resource");
        };
        for waiting in self.listening.waiting.extract_if(.., |waiting| waiting.uri == uri) {
            out.push(Crossed::ToClient(Message::result(&waiting.id, "{}")));
        }
        if self.listening.resources.remove(&uri).is_some() {
            self.listen(out);
        }
        Message::result(id, "{}")
    }

    /// The client does not wait any more for the answer to a subscription; says whether it did.
    pub(super) fn forget_subscribing(&mut self, same: &dyn Fn(&Id) -> bool, out: &mut Vec<Crossed>) -> bool {
        let listening = &mut self.listening;
        let Some(at) = listening.waiting.iter().position(|waiting| same(&waiting.id)) else { return false };
        let uri = listening.waiting.remove(at).uri;
        if listening.waiting.iter().all(|waiting| waiting.uri != uri) {
            listening.resources.remove(&uri);
            self.listen(out);
        }
        true
    }
}

/// The resource that a request names, unescaped, if every reader finds the same.
fn uri(message: &Message) -> Option<String> {
    let Ok([Some(uri)]) = sole(message.params().unwrap_or_default(), ["uri"]) else { return None };
    serde_json::from_str(uri).ok()
}

fn no_uri(id: &Id) -> Crossed {
    Crossed::ToClient(Message::error(Some(id), INVALID_PARAMS, "it names no resource"))
}
