//! What the server asks: whose it is, and what becomes of it.
//!
//! Always: a question whose call cannot be told is nobody's, and the server hears so. A modern client can be asked only in
//! answer to a call of its own (2026-07-28, `basic/patterns/mrtr`), so one that comes while no call is open could be put
//! only to whoever calls next, and the server would take those roots for everybody's: it is refused, unless all keys are
//! one client's.

use super::super::super::edit::{Edit, edited};
use super::super::super::hub::Action;
use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, Id, METHOD_NOT_FOUND, Message};
use super::super::super::modern::meta::unreserved;
use super::capabilities::{lacks, required};
use super::from_client::{Request, new_call};
use super::{LINK_FACTOR, Question, ToLegacy, can_be_parked, whole};
use std::collections::BTreeMap;

const NOBODY: &str = "clients can be asked only while a call of theirs is open, and several may use this server";
const UNCLEAR: &str = "several clients share this server, and nobody can tell which of them is asked";
const TOO_MANY: &str = "too many questions wait for clients already";

/// Whose a question is.
enum Whose {
    /// This call's.
    Call(u64),
    /// No call's: our only client's, with its next one.
    Any,
    /// Nobody's, for this reason.
    Nobody(&'static str),
}

impl ToLegacy {
    /// A request of the server.
    pub(super) fn question(&mut self, message: &Message, out: &mut Vec<Action>) {
        let (Some(id), Some(method)) = (message.id(), message.method()) else { return };
        let error = |(code, reason): (i32, &str)| Action::ToServer(Message::error(Some(id), code, reason));
        if method == "ping" {
            out.push(Action::ToServer(Message::result(id, "{}")));
            return;
        }
        if !["roots/list", "sampling/createMessage", "elicitation/create"].contains(&method) {
            out.push(error((METHOD_NOT_FOUND, "clients cannot be asked this")));
            return;
        }
        let whose = self.whose(message);
        let call = if let Whose::Call(number) = whose { self.calls.get(&number) } else { None };
        let capabilities = call.map_or(&*self.settings.capabilities, |call| &call.capabilities);
        if let Some((code, why)) = lacks(capabilities, method, message.params().unwrap_or_default()) {
            out.push(error((code, &why)));
            if let Whose::Call(number) = whose
                && let Some(call) = self.calls.get_mut(&number)
            {
                call.lacked = Some(required(method, message.params().unwrap_or_default()).into());
            }
        } else if let Whose::Nobody(why) = whose {
            out.push(error((INTERNAL_ERROR, why)));
        } else if !self.has_room(method.len() + message.params().map_or(0, str::len)) {
            out.push(error((INTERNAL_ERROR, TOO_MANY)));
        } else if let Whose::Call(number) = whose {
            self.ask(number, message, out);
        } else {
            let number = self.number();
            self.held.extend(self.read_question(message).map(|question| (number, question)));
        }
    }

    fn whose(&mut self, message: &Message) -> Whose {
        if self.phase.ready().is_none() {
            return Whose::Nobody("there is no client to ask yet");
        }
        if let Some(number) = message.related().and_then(whole) {
            return match self.calls.get(&number) {
                Some(call) if call.can_be_parked() && call.is_working() => Whose::Call(number),
                Some(_) => Whose::Nobody("a client cannot be asked anything because of this request"),
                None if self.ghosts.contains_key(&number) => Whose::Nobody("nobody waits for this request any more"),
                None => self.whose_by_what_is_open(),
            };
        }
        self.whose_by_what_is_open()
    }

    fn whose_by_what_is_open(&mut self) -> Whose {
        self.exorcise();
        let is_haunted = self.ghosts.values().any(|ghost| ghost.may_ask);
        let asking = self.calls.iter().filter(|(_, call)| call.can_be_parked() && call.is_working());
        let newest = asking.clone().max_by_key(|(number, call)| (!call.is_parked(), **number));
        match newest {
            Some((number, _)) if self.settings.one_client => Whose::Call(*number),
            Some((number, _)) if !is_haunted && asking.count() == 1 => Whose::Call(*number),
            None if !is_haunted && self.settings.one_client => Whose::Any,
            None if !is_haunted => Whose::Nobody(NOBODY),
            None => Whose::Nobody("nobody waits for the request that this may be about any more"),
            Some(_) => Whose::Nobody(UNCLEAR),
        }
    }

    /// Whether a question of so many bytes can be kept.
    fn has_room(&self, bytes: usize) -> bool {
        let calls: usize = self.calls.values().map(|call| call.questions.len()).sum();
        let is_one_too_many = calls + self.held.len() >= self.limits.open.saturating_mul(LINK_FACTOR);
        !is_one_too_many && self.kept_bytes().saturating_add(bytes) <= self.settings.parked_bytes
    }

    /// Asks a call's client: now if it waits for the call, else with the next round.
    fn ask(&mut self, number: u64, message: &Message, out: &mut Vec<Action>) {
        let asked = self.number();
        let (Some(question), Some(call)) = (self.read_question(message), self.calls.get_mut(&number)) else { return };
        call.questions.insert(asked, question);
        if !call.is_parked()
            && self.settings.gather.is_zero()
            && let Err(why) = self.park(number, out)
            && let Some(call) = self.calls.get_mut(&number)
            && let Some(question) = call.questions.remove(&asked)
        {
            out.push(Action::ToServer(Message::error(Some(&question.id), INTERNAL_ERROR, why)));
        }
    }

    fn read_question(&self, message: &Message) -> Option<Question> {
        let (id, method) = (message.id()?.clone(), message.method()?);
        let params = message.params().map(modern_params);
        let ask = match params {
            Some(params) => format!(r#"{{"method":"{method}","params":{params}}}"#),
            None => format!(r#"{{"method":"{method}"}}"#),
        };
        Some(Question { id, method: method.into(), ask: ask.into(), is_given: false, since: self.now })
    }

    /// Before a call is sent, its client is asked what the server asked when there was nobody; whether it is.
    pub(super) fn ask_first(&mut self, request: Request<'_>, out: &mut Vec<Action>) -> bool {
        if self.held.is_empty() || !can_be_parked(request.method) {
            return false;
        }
        let mut call = new_call(request);
        let capabilities = call.capabilities.clone();
        let may = |question: &Question| question.lacking(&capabilities).is_none();
        let mut asked: BTreeMap<_, _> = self.held.extract_if(.., |_, question| may(question)).collect();
        if asked.is_empty() {
            return false;
        }
        call.questions.append(&mut asked);
        let number = self.number();
        self.calls.insert(number, call);
        if self.park(number, out).is_ok() {
            return true;
        }
        // There is no room: the call goes ahead, and they are held on.
        self.held.extend(self.calls.remove(&number).into_iter().flat_map(|call| call.questions));
        false
    }

    /// The server does not want the answer to a question any more.
    pub(super) fn withdraw(&mut self, message: &Message) {
        let Some(id) = message.cancels() else { return };
        if !self.withdraw_if(&|known| *known == id) {
            self.withdraw_if(&|known| known.may_be(&id));
        }
    }

    fn withdraw_if(&mut self, same: &dyn Fn(&Id) -> bool) -> bool {
        let calls = self.calls.values_mut().map(|call| &mut call.questions);
        for questions in calls.chain([&mut self.held]) {
            let found = questions.iter().find(|(_, question)| same(&question.id)).map(|(number, _)| *number);
            if let Some(number) = found {
                questions.remove(&number);
                return true;
            }
        }
        false
    }
}

impl Question {
    /// Why a client with these capabilities may not be asked this.
    pub(super) fn lacking(&self, capabilities: &str) -> Option<(i32, String)> {
        lacks(capabilities, &self.method, member::value(&self.ask, &["params"]).unwrap_or_default())
    }
}

/// The params of a question without what the modern era does not have.
fn modern_params(params: &str) -> String {
    let members = member::members(params).unwrap_or_default();
    let kept = edited(params, &members, |name, value| match name {
        "elicitationId" | "task" => Edit::Cut,
        "_meta" => modern_meta(value),
        _ => Edit::Keep,
    });
    kept.into_owned()
}

/// A `_meta` of a question without what is reserved, and without a token: nothing is told of its progress.
fn modern_meta(meta: &str) -> Edit {
    let kept = member::without(meta, &["progressToken"]);
    match unreserved(&kept) {
        Edit::Keep if kept != meta => Edit::Put(kept),
        edit => edit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_loses_what_the_modern_era_does_not_have() {
        for (legacy, modern) in [
            (r#"{"a":1.0, "b":2}"#, r#"{"a":1.0, "b":2}"#),
            (r#"{"a":1.0,"_meta":{"progressToken":1}}"#, r#"{"a":1.0}"#),
            (r#"{"_meta":{"progressToken":1,"x/y":2},"task":{},"elicitationId":"e"}"#, r#"{"_meta":{"x/y":2}}"#),
            (r#"{"_meta":{"io.modelcontextprotocol/related-task":{}}}"#, "{}"),
        ] {
            assert_eq!(modern_params(legacy), modern);
        }
    }
}
