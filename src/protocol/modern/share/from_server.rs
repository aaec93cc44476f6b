//! What the server says: whose it is, and how it gets there.
//!
//! Always: what cannot be told whose it is goes to nobody.

use super::{Action, Key, Open, Phase, Share};
use crate::protocol::hub::whole;
use crate::protocol::member;
use crate::protocol::message::{INTERNAL_ERROR, Kind, METHOD_NOT_FOUND, Message};
use crate::protocol::modern::{graceful, is_modern_answer, meta};

const TAG: [&str; 2] = ["_meta", meta::SUBSCRIPTION_ID];

impl Share {
    /// Takes a message of the server.
    pub(super) fn take_from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        match message.kind() {
            Kind::Request { id, .. } => {
                let reason = "a server of a modern revision asks nothing by itself";
                out.push(Action::ToServer(Message::error(Some(id), METHOD_NOT_FOUND, reason)));
            }
            Kind::Notification { method } => match &**method {
                "notifications/cancelled" => self.end_listen(&message, out),
                "notifications/progress" => out.extend(self.progress(&message)),
                _ => out.extend(self.tell(&message)),
            },
            Kind::Response { id: Some(id) } => {
                let Some(number) = whole(id) else { return };
                if self.phase.begins_with(number) {
                    self.begun(message, out);
                } else {
                    self.settle(number, &message, out);
                }
            }
            Kind::Response { id: None } => {} // nobody can tell whose it is
        }
    }

    /// The answer to the `server/discover` that began the server.
    fn begun(&mut self, answer: Message, out: &mut Vec<Action>) {
        self.phase = match answer.is_error() {
            _ if is_modern_answer(&answer) => Phase::Ready(answer),
            true => Phase::Refused(answer),
            false => {
                let reason = "the server names no revisions in its answer to 'server/discover'";
                Phase::Refused(Message::error(answer.id(), INTERNAL_ERROR, reason))
            }
        };
        self.resume(out);
    }

    /// The answer to a client's request.
    fn settle(&mut self, number: u64, message: &Message, out: &mut Vec<Action>) {
        self.ghosts.remove(&number);
        self.answers += 1;
        let answers = self.answers;
        self.ghosts.retain(|_, ghost| ghost.until > answers);
        let Some((key, open)) = self.close(number) else { return };
        let mut answer = message.with_id(&open.id);
        if open.is_listen
            && let Some(result) = answer.result_text().filter(|result| member::range(result, &TAG).is_some())
        {
            answer = answer.with_result(&member::with(result, &TAG, open.id.as_json()));
        }
        out.push(Action::ToClient(key, answer));
    }

    /// The server ends a subscription. A result may still come, or not: its client gets one now.
    fn end_listen(&mut self, message: &Message, out: &mut Vec<Action>) {
        let number = message.cancels().and_then(|id| whole(&id));
        let is_listen = |number: &u64| self.open(*number).is_some_and(|(_, open)| open.is_listen);
        if let Some((key, open)) = number.filter(is_listen).and_then(|number| self.close(number)) {
            let told = message.with_param(&["requestId"], open.id.as_json()).with_param(&TAG, open.id.as_json());
            out.push(Action::ToClient(key, told));
            out.push(Action::ToClient(key, graceful(&open.id)));
        }
    }

    /// Progress of a request.
    fn progress(&self, message: &Message) -> Option<Action> {
        let (key, open) = self.open(whole(&message.progress_token()?)?)?;
        let token = open.token.as_ref()?;
        Some(Action::ToClient(key, message.with_param(&["progressToken"], token.as_json())))
    }

    /// A notification that names its subscription, or nothing.
    fn tell(&self, message: &Message) -> Option<Action> {
        if let Some(tag) = meta::subscription_id(message) {
            let (key, open) = self.open(whole(&tag)?).filter(|(_, open)| open.is_listen)?;
            return Some(Action::ToClient(key, message.with_param(&TAG, open.id.as_json())));
        }
        let key = match message.related() {
            Some(request) => self.open(whole(request)?)?.0,
            None => self.only(message.method() == Some("notifications/message"))?,
        };
        Some(Action::ToClient(key, message.clone()))
    }

    /// The only client with requests open, or with such that ask for log messages.
    fn only(&self, is_log: bool) -> Option<Key> {
        let is_meant = |open: &Open| open.wants_log || !is_log;
        let busy = self.members.iter().filter(|(_, member)| member.open.values().any(is_meant)).map(|(key, _)| *key);
        let ghosts = self.ghosts.values().filter(|ghost| ghost.wants_log || !is_log).map(|ghost| ghost.key);
        let mut all = busy.chain(ghosts);
        let first = all.next().filter(|key| self.members.contains_key(key))?;
        all.all(|key| key == first).then_some(first)
    }

    /// The open request with this number.
    fn open(&self, number: u64) -> Option<(Key, &Open)> {
        let key = self.owners.get(&number)?;
        Some((*key, self.members.get(key)?.open.get(&number)?))
    }
}
