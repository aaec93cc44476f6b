//! What the server says: whose it is, and how it gets there.
//!
//! Always: what cannot be told whose it is goes to nobody.

use super::super::super::hub::{Action, Key};
use super::super::super::level::Level;
use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, Id, Kind as MessageKind, Message};
use super::super::super::modern::MISSING_CAPABILITY;
use super::capabilities::opens_urls;
use super::results::{ELICITATION_REQUIRED, has_failed, missing_capability, required_elicitations, translated};
use super::{Call, Holder, Phase, Server, ToLegacy, whole};

impl ToLegacy {
    /// Takes a message of the server.
    pub(super) fn hear_server(&mut self, message: &Message, out: &mut Vec<Action>) {
        match message.kind() {
            MessageKind::Request { .. } => self.question(message, out),
            MessageKind::Notification { .. } => self.tell(message, out),
            MessageKind::Response { id: Some(id) } => {
                let Some(number) = whole(id) else { return };
                if self.phase.begins_with(number) {
                    self.begun(message, out);
                } else {
                    self.answer(number, message, out);
                }
            }
            MessageKind::Response { id: None } => {} // nobody can tell whose it is
        }
    }

    /// The server's name and version as JSON text.
    pub(super) fn server_info(&self) -> Option<&str> {
        self.phase.ready()?.info.as_deref()
    }

    /// The answer to our own `initialize`.
    fn begun(&mut self, answer: &Message, out: &mut Vec<Action>) {
        if let Some(result) = answer.result_text() {
            let text = |name: &str, opens: char| {
                member::value(result, &[name]).filter(|value| value.starts_with(opens)).map(Into::into)
            };
            let capabilities = text("capabilities", '{').unwrap_or_else(|| "{}".into());
            let (info, instructions) = (text("serverInfo", '{'), text("instructions", '"'));
            self.phase = Phase::Ready(Server { info, capabilities, instructions });
            let begun = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            out.extend(Message::parse(begun.into()).ok().map(Action::ToServer));
        } else {
            self.phase = Phase::Refused(answer.clone());
        }
        self.resume(out);
    }

    /// The answer to a client's request, or to one of ours.
    fn answer(&mut self, number: u64, message: &Message, out: &mut Vec<Action>) {
        self.ghosts.remove(&number);
        if message.is_error() && self.server_level.is_some_and(|(_, by)| by == number) {
            self.server_level = None; // it may be any
        }
        if self.subscribed(number, !message.is_error(), out) {
            return;
        }
        let Some(call) = self.calls.get(&number).filter(|call| call.is_working()) else { return };
        self.answers += 1;
        if call.is_parked() {
            self.keep_answer(number, message);
        } else {
            self.conclude(number, message, out);
        }
    }

    /// A call is answered, and its client waits.
    pub(super) fn conclude(&mut self, number: u64, answer: &Message, out: &mut Vec<Action>) {
        let Some(mut call) = self.close(number) else { return };
        for question in std::mem::take(&mut call.questions).into_values() {
            // It was about to be asked.
            let why = "the call that this was about is over";
            out.push(Action::ToServer(Message::error(Some(&question.id), INTERNAL_ERROR, why)));
        }
        if answer.error_code() == Some(ELICITATION_REQUIRED) {
            self.require_urls(call, answer, out);
            return;
        }
        let Holder::Client { key, id } = &call.holder else { return };
        let told = match &call.lacked {
            Some(required) if has_failed(answer) => missing_capability(answer, required),
            _ => translated(answer, &call.method, self.server_info()),
        };
        out.push(Action::ToClient(*key, told.with_id(id)));
    }

    /// The server takes a call only after URLs were opened: its client is asked to, and will call again.
    fn require_urls(&mut self, call: Call, answer: &Message, out: &mut Vec<Action>) {
        let Holder::Client { key, id } = call.holder.clone() else { return };
        let error = if !opens_urls(&call.capabilities) {
            let words = member::string(answer.text(), &["error", "message"]).unwrap_or_default();
            let data = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
            Message::error_with(Some(&id), MISSING_CAPABILITY, &words, data)
        } else if let Some(asks) = required_elicitations(answer).filter(|_| call.can_be_parked()) {
            let Err(why) = self.park_for_urls(call, &asks, out) else { return };
            Message::error(Some(&id), INTERNAL_ERROR, why)
        } else {
            translated(answer, &call.method, None).with_id(&id)
        };
        out.push(Action::ToClient(key, error));
    }

    /// A notification of the server.
    fn tell(&mut self, message: &Message, out: &mut Vec<Action>) {
        match message.method().unwrap_or_default() {
            "notifications/cancelled" => self.withdraw(message),
            "notifications/progress" => out.extend(self.progress(message)),
            "notifications/message" => out.extend(self.log(message)),
            // Nobody modern knows them.
            "notifications/tasks/status" | "notifications/elicitation/complete" => {}
            "notifications/resources/updated"
            | "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => self.listens.tell(message, out),
            _ => out.extend(self.addressee(message).map(|key| Action::ToClient(key, message.clone()))),
        }
    }

    /// The client that a notification is for which only the transport relates to a request.
    fn addressee(&self, message: &Message) -> Option<Key> {
        match message.related().and_then(whole).and_then(|number| self.calls.get(&number)) {
            Some(call) => call.waiting_client().map(|(key, _)| key),
            None if self.settings.one_client => self.clients.keys().next().copied(),
            None => None,
        }
    }

    /// Progress of a call, for whoever waits for it.
    fn progress(&self, message: &Message) -> Option<Action> {
        let call = self.calls.get(&whole(&message.progress_token()?)?)?;
        let (key, _) = call.waiting_client().filter(|_| call.is_working())?;
        Some(Action::ToClient(key, message.with_param(&["progressToken"], call.token.as_ref()?.as_json())))
    }

    /// A log message, for the only call that it can be of and that wants it.
    fn log(&mut self, message: &Message) -> Option<Action> {
        self.exorcise();
        let level = message.params().and_then(|params| member::value(params, &["level"])).and_then(Level::from_json)?;
        let wants = |call: &Call| call.level.is_some_and(|wanted| level >= wanted);
        let may_log = |call: &&Call| call.is_working() && call.level.is_some();
        let call = if let Some(number) = message.related().and_then(whole) {
            self.calls.get(&number)?
        } else if self.settings.one_client {
            self.calls.values().find(|call| wants(call) && call.waiting_client().is_some())?
        } else {
            let mut all = self.calls.values().filter(may_log);
            let first = all.next()?;
            let is_only = all.next().is_none() && !self.ghosts.values().any(|ghost| ghost.may_log);
            is_only.then_some(first)?
        };
        let (key, _) = call.waiting_client().filter(|_| wants(call))?;
        Some(Action::ToClient(key, message.clone()))
    }
}

impl Call {
    /// The client that waits for it, and under which id.
    fn waiting_client(&self) -> Option<(Key, &Id)> {
        if let Holder::Client { key, id } = &self.holder { Some((*key, id)) } else { None }
    }
}
