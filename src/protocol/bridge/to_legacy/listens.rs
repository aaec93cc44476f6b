//! `subscriptions/listen` of modern clients, by the subscriptions and notifications of a legacy server.
//!
//! Always: a listen is acknowledged before anything else comes of it, and once; the server is subscribed to what at
//! least one listen wants; what a client may listen to is bounded.

use super::super::super::hub::{Action, Key, refuse};
use super::super::super::member;
use super::super::super::message::{INVALID_PARAMS, Id, Message};
use super::super::super::modern::meta::{SERVER_INFO, SUBSCRIPTION_ID};
use super::ToLegacy;
use super::filter::{Filter, LISTS};
use super::from_client::Request;
use std::collections::{BTreeMap, BTreeSet};

/// Resources that one client may subscribe to.
const SUBSCRIPTIONS: usize = 1024;
/// All listens of a link, and what the server is subscribed to for them.
#[derive(Debug, Clone, Default)]
pub struct Listens {
    all: BTreeMap<u64, Listen>,
    topics: BTreeMap<String, Topic>,
    /// Which URI a request of ours subscribes to that is not answered.
    asked: BTreeMap<u64, String>,
}

/// One open `subscriptions/listen`.
#[derive(Debug, Clone)]
pub struct Listen {
    pub key: Key,
    pub id: Id,
    filter: Filter,
    is_acknowledged: bool,
}

/// A resource that somebody wants to hear of.
#[derive(Debug, Clone)]
struct Topic {
    listens: BTreeSet<u64>,
    /// Our request that is not answered; `None` once it was accepted.
    asked: Option<u64>,
}

impl ToLegacy {
    /// A client wants to hear of changes.
    pub(super) fn listen(&mut self, request: Request<'_>, out: &mut Vec<Action>) {
        let Request { key, message, id, .. } = request;
        let Some(server) = self.phase.ready() else { return };
        let filter =
            Filter::read(message.params().unwrap_or_default()).map(|filter| filter.allowed(&server.capabilities));
        let held = self.clients.get(&key).into_iter().flat_map(|client| &client.listens);
        let count = held.filter_map(|number| self.listens.all.get(number)).map(|one| one.filter.uris.len());
        let count: usize = count.sum();
        let filter = match filter {
            Ok(filter) if filter.uris.len() + count <= SUBSCRIPTIONS => filter,
            Ok(_) => return refuse(key, message, INVALID_PARAMS, "too many resources are subscribed to", out),
            Err(why) => return refuse(key, message, INVALID_PARAMS, why, out),
        };
        let number = self.number();
        if let Some(client) = self.clients.get_mut(&key) {
            client.listens.insert(number);
        }
        for uri in self.listens.open(number, Listen { key, id: id.clone(), filter, is_acknowledged: false }) {
            let asked = self.ask_server("resources/subscribe", &uri_params(&uri), out);
            self.listens.ask(asked, uri);
        }
        self.listens.acknowledge(number, out);
    }

    /// The answer to a request of ours that subscribes; whether it is one.
    pub(super) fn subscribed(&mut self, number: u64, is_accepted: bool, out: &mut Vec<Action>) -> bool {
        self.listens.answered(number, is_accepted, out)
    }

    /// Nobody wants this listen any more.
    pub(super) fn unlisten(&mut self, number: u64, out: &mut Vec<Action>) {
        let (listen, ended) = self.listens.close(number);
        if let Some(client) = listen.and_then(|listen| self.clients.get_mut(&listen.key)) {
            client.listens.remove(&number);
        }
        for uri in ended {
            self.ask_server("resources/unsubscribe", &uri_params(&uri), out);
        }
    }
}

impl Listens {
    /// Takes a new one; what the server must be asked for.
    fn open(&mut self, number: u64, listen: Listen) -> Vec<String> {
        let mut fresh = Vec::new();
        for uri in &listen.filter.uris {
            if let Some(topic) = self.topics.get_mut(uri) {
                topic.listens.insert(number);
            } else {
                self.topics.insert(uri.clone(), Topic { listens: [number].into(), asked: None });
                fresh.push(uri.clone());
            }
        }
        self.all.insert(number, listen);
        fresh
    }

    /// The server is asked for a resource by this request.
    fn ask(&mut self, asked: u64, uri: String) {
        if let Some(topic) = self.topics.get_mut(&uri) {
            topic.asked = Some(asked);
            self.asked.insert(asked, uri);
        }
    }

    fn answered(&mut self, asked: u64, is_accepted: bool, out: &mut Vec<Action>) -> bool {
        let Some(uri) = self.asked.remove(&asked) else { return false };
        let Some(topic) = self.topics.get_mut(&uri) else { return true };
        topic.asked = None;
        let of = topic.listens.clone();
        if !is_accepted {
            self.topics.remove(&uri);
            for number in &of {
                if let Some(listen) = self.all.get_mut(number) {
                    listen.filter.uris.retain(|known| *known != uri);
                }
            }
        }
        for number in of {
            self.acknowledge(number, out);
        }
        true
    }

    /// Acknowledges a listen once all its subscriptions are answered.
    fn acknowledge(&mut self, number: u64, out: &mut Vec<Action>) {
        let Some(listen) = self.all.get_mut(&number) else { return };
        let is_asked = |uri: &String| self.topics.get(uri).is_some_and(|topic| topic.asked.is_some());
        if listen.is_acknowledged || listen.filter.uris.iter().any(is_asked) {
            return;
        }
        listen.is_acknowledged = true;
        let params = format!(
            r#"{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{}}}"#,
            listen.id.as_json(),
            listen.filter.shown()
        );
        let told = Message::notification("notifications/subscriptions/acknowledged", &params);
        out.push(Action::ToClient(listen.key, told));
    }

    /// Takes one out; what the server need not tell any more.
    fn close(&mut self, number: u64) -> (Option<Listen>, Vec<String>) {
        let listen = self.all.remove(&number);
        let mut ended = Vec::new();
        for uri in listen.iter().flat_map(|listen| &listen.filter.uris) {
            let Some(topic) = self.topics.get_mut(uri) else { continue };
            topic.listens.remove(&number);
            if topic.listens.is_empty() {
                topic.asked.map(|asked| self.asked.remove(&asked));
                self.topics.remove(uri);
                ended.push(uri.clone());
            }
        }
        (listen, ended)
    }

    /// Whether the listen with this number has such an id.
    pub fn is_of(&self, number: u64, same: &dyn Fn(&Id) -> bool) -> bool {
        self.all.get(&number).is_some_and(|listen| same(&listen.id))
    }

    /// All of them.
    pub fn into_all(self) -> impl Iterator<Item = Listen> {
        self.all.into_values()
    }

    /// Tells of a change whoever listens to it.
    pub fn tell(&self, message: &Message, out: &mut Vec<Action>) {
        let list = LISTS.iter().position(|(_, _, method)| Some(*method) == message.method());
        let wanting: BTreeSet<u64> = match list {
            Some(list) => {
                self.all.iter().filter(|(_, one)| one.filter.lists[list]).map(|(number, _)| *number).collect()
            }
            None => self.wanting(&member::string(message.params().unwrap_or_default(), &["uri"]).unwrap_or_default()),
        };
        let all = wanting.iter().filter_map(|number| self.all.get(number));
        out.extend(all.filter(|listen| listen.is_acknowledged).map(|listen| {
            let id = listen.id.as_json();
            let params = member::with(message.params().unwrap_or("{}"), &["_meta", SUBSCRIPTION_ID], id);
            Action::ToClient(listen.key, message.with_params(&params))
        }));
    }

    /// Who wants to hear that this resource was updated: who subscribed to it, or to one that it is a part of.
    fn wanting(&self, uri: &str) -> BTreeSet<u64> {
        let above = uri.match_indices('/').flat_map(|(at, _)| [&uri[..at], &uri[..=at]]);
        let found = above.chain([uri]).filter_map(|uri| self.topics.get(uri));
        found.flat_map(|topic| topic.listens.iter().copied()).collect()
    }
}

impl Listen {
    /// The result with which it ends well (`basic/patterns/subscriptions`, Graceful Closure).
    pub fn result(&self, server_info: Option<&str>) -> Message {
        let info = server_info.map_or_else(String::new, |info| format!(r#","{SERVER_INFO}":{info}"#));
        let id = self.id.as_json();
        let result = format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{id}{info}}}}}"#);
        Message::result(&self.id, &result)
    }
}

fn uri_params(uri: &str) -> String {
    format!(r#"{{"uri":{}}}"#, serde_json::Value::from(uri))
}
