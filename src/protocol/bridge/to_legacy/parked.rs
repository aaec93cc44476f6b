//! Calls that wait for their client's input: asked with `input_required`, and taken up again by a repeat.
//!
//! Always: a handle is good once, for the request it was made for, and for a time; what is kept is bounded. What would
//! be too much is refused, so that nobody's question is thrown away once its user has seen it.

use super::super::super::hub::{Action, refuse};
use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, INVALID_PARAMS, Id, Message};
use super::super::super::modern::meta;
use super::from_client::{Request, identity};
use super::rounds::{is_same, name_of, repeated, responses};
use super::{Call, Holder, Question, Stage, ToLegacy, can_be_parked, cancelled};
use std::borrow::Cow;
use std::time::Duration;

const FULL: &str = "too many calls wait for their clients' input already; --max-inputs and --input-bytes allow more";
const UNKNOWN: &str = "the requestState is not known: it was used already, has expired, or never was ours";
const ANOTHERS: &str = "the requestState belongs to another request; that one is given up";

impl ToLegacy {
    /// Bytes that are kept for parked calls, and of questions that are held.
    pub(super) fn kept_bytes(&self) -> usize {
        let parked = self.calls.values().map(Call::kept_bytes);
        parked.chain(self.held.values().map(|question| question.ask.len())).sum()
    }

    /// The number of the handle that a request carries, if it is one of ours.
    pub(super) fn ticket_of(&self, message: &Message) -> Option<u64> {
        message.method().filter(|method| can_be_parked(method))?;
        let state = message.params().filter(|params| params.contains("requestState") || params.contains('\\'))?;
        self.tickets.number(&member::string(state, &["requestState"])?)
    }

    /// Answers a call's client with what is to be asked, under a new handle.
    ///
    /// # Errors
    /// There is no room, for this reason; the call is as it was.
    pub(super) fn park(&mut self, number: u64, out: &mut Vec<Action>) -> Result<(), &'static str> {
        let kept = self.kept_bytes();
        let Some(call) = self.calls.get_mut(&number) else { return Ok(()) };
        let params = repeated(&call.params);
        let is_full = self.parked.len() >= self.settings.most_parked
            || kept.saturating_add(params.len()) > self.settings.parked_bytes;
        if is_full {
            return Err(FULL);
        }
        let asks: Vec<_> = call.questions.iter_mut().map(|(number, question)| question.give(*number)).collect();
        call.params = params.into();
        self.answer_with(number, &asks, out);
        Ok(())
    }

    /// The same; where there is no room, the questions are refused, and the call is not parked.
    fn park_or_refuse(&mut self, number: u64, out: &mut Vec<Action>) -> bool {
        let Err(why) = self.park(number, out) else { return true };
        let questions = self.calls.get_mut(&number).map(|call| std::mem::take(&mut call.questions));
        for question in questions.unwrap_or_default().into_values() {
            out.push(Action::ToServer(Message::error(Some(&question.id), INTERNAL_ERROR, why)));
        }
        false
    }

    /// Asks what the server asked of calls that their clients wait for, if it has asked nothing more for a moment: what
    /// is asked at once is asked in one round. When there may be more of it.
    pub(super) fn ask_gathered(&mut self, out: &mut Vec<Action>) -> Option<Duration> {
        let due = |call: &Call| {
            let newest = call.questions.values().map(|question| question.since).max().filter(|_| !call.is_parked())?;
            Some(newest.saturating_add(self.settings.gather))
        };
        let now = self.now;
        let asking = self.calls.iter().filter_map(|(number, call)| Some((*number, due(call)?)));
        let (ready, later): (Vec<_>, Vec<_>) = asking.partition(|(_, due)| *due <= now);
        for (number, _) in ready {
            self.park_or_refuse(number, out);
        }
        later.into_iter().map(|(_, due)| due).min()
    }

    /// Answers a call's client with questions; the call is parked.
    fn answer_with(&mut self, number: u64, asks: &[String], out: &mut Vec<Action>) {
        let ticket = self.number();
        let Some(call) = self.calls.get_mut(&number) else { return };
        let parked = Holder::Parked { ticket, since: self.now };
        let Holder::Client { key, id } = std::mem::replace(&mut call.holder, parked) else { return };
        self.parked.insert(ticket, number);
        if let Some(client) = self.clients.get_mut(&key) {
            client.open.remove(&number);
        }
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":"{}"{}}}"#,
            asks.join(","),
            self.tickets.make(ticket),
            identity(self.server_info())
        );
        out.push(Action::ToClient(key, Message::result(&id, &result)));
    }

    /// The server wants URLs opened before it takes the call: it is over there, and will be sent anew.
    ///
    /// # Errors
    /// There is no room, for this reason.
    pub(super) fn park_for_urls(
        &mut self,
        mut call: Call,
        asks: &[String],
        out: &mut Vec<Action>,
    ) -> Result<(), &'static str> {
        let params = repeated(&call.params);
        let is_full = self.parked.len() >= self.settings.most_parked
            || self.kept_bytes().saturating_add(params.len()) > self.settings.parked_bytes;
        if is_full {
            return Err(FULL);
        }
        call.params = params.into();
        call.stage = Stage::Unsent;
        let number = self.number();
        self.calls.insert(number, call);
        let asks: Vec<_> = asks.iter().enumerate().map(|(at, ask)| format!(r#""q{number}-{at}":{ask}"#)).collect();
        self.answer_with(number, &asks, out);
        Ok(())
    }

    /// A request that goes on with one that is parked, by its handle.
    pub(super) fn repeat(&mut self, request: Request<'_>, out: &mut Vec<Action>) {
        let Request { key, message, .. } = request;
        let ticket = self.ticket_of(message);
        let found = ticket.and_then(|ticket| self.parked.get(&ticket)).copied();
        let Some((number, call)) = found.and_then(|number| Some((number, self.calls.get(&number)?))) else {
            refuse(key, message, INVALID_PARAMS, UNKNOWN, out);
            return;
        };
        if *call.method != *request.method || !is_same(&call.params, &repeated(message.params().unwrap_or_default())) {
            let why = "its client went on with another request";
            self.give_up(number, cancelled(number, why), why, out);
            refuse(key, message, INVALID_PARAMS, ANOTHERS, out);
            return;
        }
        match responses(request.responses) {
            Ok(responses) => self.take_up(number, request, &responses, out),
            Err(why) => refuse(key, message, INVALID_PARAMS, why, out),
        }
    }

    /// Its client waits for a call again, and has brought answers.
    fn take_up(
        &mut self,
        number: u64,
        request: Request<'_>,
        responses: &[(Cow<'_, str>, &str)],
        out: &mut Vec<Action>,
    ) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Holder::Parked { ticket, .. } = call.holder else { return };
        self.parked.remove(&ticket);
        call.holder = Holder::Client { key: request.key, id: request.id.clone() };
        call.token = request.token.and_then(Id::from_json);
        call.level = request.level;
        call.capabilities = meta::capabilities(request.message).unwrap_or("{}").into();
        if let Some(client) = self.clients.get_mut(&request.key) {
            client.open.insert(number);
        }
        if request.level.is_some() {
            self.tell_level(out);
        }
        self.bring(number, responses, out);
        self.go_on(number, request.message, out);
    }

    /// Answers the server's questions with what the client has brought, or may not be asked now.
    fn bring(&mut self, number: u64, responses: &[(Cow<'_, str>, &str)], out: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let is_over = matches!(call.stage, Stage::Answered(_));
        let capabilities = call.capabilities.clone();
        call.questions.retain(|number, question| {
            let name = name_of(*number, &question.id);
            let found = responses.iter().rev().find(|(key, _)| question.is_given && *key == name);
            let answer = if let Some((_, response)) = found {
                Message::result(&question.id, response)
            } else if is_over {
                Message::error(Some(&question.id), INTERNAL_ERROR, "the call that this was about is over")
            } else if let Some((code, why)) = question.lacking(&capabilities) {
                Message::error(Some(&question.id), code, &why)
            } else {
                return true;
            };
            out.push(Action::ToServer(answer));
            false
        });
    }

    /// A call that its client waits for again: there is more to ask, or it is sent, or answered, or goes on.
    fn go_on(&mut self, number: u64, repeat: &Message, out: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if !call.questions.is_empty() {
            if !self.park_or_refuse(number, out) {
                self.go_on(number, repeat, out);
            }
            return;
        }
        match &call.stage {
            Stage::Working => {}
            Stage::Unsent => self.send(number, repeat, out),
            Stage::Answered(answer) => {
                let answer = answer.clone();
                self.conclude(number, &answer, out);
            }
        }
    }

    /// The server has answered a call that is parked: kept until the repeat.
    pub(super) fn keep_answer(&mut self, number: u64, answer: &Message) {
        let bytes = self.kept_bytes().saturating_add(answer.bytes().len());
        let Some(call) = self.calls.get_mut(&number) else { return };
        let is_kept = bytes <= self.settings.parked_bytes;
        let why = "the answer came while the client was asked, and was too large to be kept";
        let answer = if is_kept { answer.clone() } else { Message::error(answer.id(), INTERNAL_ERROR, why) };
        call.stage = Stage::Answered(answer);
    }

    /// Gives up what has waited too long; when there may be more of it.
    pub(super) fn expire(&mut self, out: &mut Vec<Action>) -> Option<Duration> {
        let (now, age) = (self.now, self.settings.parked_age);
        let is_old = |since: Duration| since.saturating_add(age) <= now;
        let old = self.parked.values().filter(|number| self.parked_since(**number).is_some_and(is_old));
        let why = "its client did not answer in time";
        for number in old.copied().collect::<Vec<_>>() {
            self.give_up(number, cancelled(number, why), why, out);
        }
        for (_, question) in self.held.extract_if(.., |_, question| is_old(question.since)) {
            let why = "there was no client to ask in time";
            out.push(Action::ToServer(Message::error(Some(&question.id), INTERNAL_ERROR, why)));
        }
        let gathered = self.ask_gathered(out);
        let parked = self.parked.values().filter_map(|number| self.parked_since(*number)); // those of just now, too
        let oldest = parked.chain(self.held.values().map(|question| question.since)).min();
        oldest.map(|since| since.saturating_add(age)).into_iter().chain(gathered).min()
    }

    fn parked_since(&self, number: u64) -> Option<Duration> {
        match self.calls.get(&number)?.holder {
            Holder::Parked { since, .. } => Some(since),
            Holder::Client { .. } => None,
        }
    }
}

impl Call {
    /// What is kept of it for its client's input; of one that its client waits for, only what is to be asked.
    fn kept_bytes(&self) -> usize {
        let asks: usize = self.questions.values().map(|question| question.ask.len()).sum();
        let answer = if let Stage::Answered(answer) = &self.stage { answer.bytes().len() } else { 0 };
        if self.is_parked() { self.params.len() + asks + answer } else { asks }
    }
}

impl Question {
    /// The question with this number as a member of `inputRequests`.
    fn give(&mut self, number: u64) -> String {
        self.is_given = true;
        format!("{}:{}", serde_json::Value::from(name_of(number, &self.id)), self.ask)
    }
}
