//! What the server wants to know before it goes on with a request (`basic/patterns/mrtr`): real requests to the client,
//! and when they are all answered, the request again.
//!
//! Always: the questions of a request are open only while it is not at the server; whoever answers one answers it once.

use super::super::super::edit::{Edit, Members, edited, led_by};
use super::super::super::member;
use super::super::super::message::{Id, Message};
use super::client::is_by_url;
use super::{Call, Crossed, ROUNDS, ToModern, cancelled};
use std::collections::HashSet;

/// Requests that a server may want input for.
pub const MAY_ASK: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// What it may want.
const WANTED: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];
/// What begins our names of questions.
const NAME: &str = "mcp-proxy-";

/// A question that the client has got.
#[derive(Debug, Clone)]
pub struct Question {
    /// The request that it is about, and its place among the questions of the round.
    call: u64,
    place: usize,
    method: &'static str,
}

/// What the server wants before it goes on.
#[derive(Debug, Clone)]
pub struct Round {
    /// `requestState`, JSON text.
    state: Option<String>,
    /// The server's names of what it wants, and the client's answers so far (JSON text); `None` where it named nothing.
    answers: Option<Vec<(String, Option<String>)>>,
}

/// One thing that the server wants.
struct Wanted<'a> {
    name: &'a str,
    method: &'static str,
    params: Option<&'a str>,
}

impl ToModern {
    /// The server wants input for a request.
    pub(super) fn ask(&mut self, number: u64, mut call: Call, result: &Members, out: &mut Vec<Crossed>) {
        let value = |name: &str| result.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value);
        let (requests, state) = (value("inputRequests").filter(|value| *value != "null"), value("requestState"));
        let requests = match requests.map(|text| member::members(text).ok_or("what the server asks for is no object")) {
            Some(Err(why)) => return out.push(call.fails(why)),
            Some(Ok(members)) => Some(members),
            None if state.is_none() => return out.push(call.fails("the server asks for input, but not for which")),
            None => None,
        };
        let wanted = match self.wanted(&call, requests.as_deref().unwrap_or_default()) {
            Ok(wanted) => wanted,
            Err(why) => return out.push(call.fails(&why)),
        };
        let names = || wanted.iter().map(|wanted| (wanted.name.to_owned(), None)).collect();
        let round = Round { state: state.map(str::to_owned), answers: requests.is_some().then(names) };
        if wanted.is_empty() {
            return self.repeat(call, &round, out);
        }
        for (place, wanted) in wanted.iter().enumerate() {
            self.last_asked += 1;
            self.questions.insert(self.last_asked, Question { call: number, place, method: wanted.method });
            out.push(Crossed::ToClient(wanted.question(self.last_asked).with_related(&call.id)));
        }
        call.asking = Some(round);
        self.calls.insert(number, call);
    }

    /// What the server wants, if it may and the client can give it.
    fn wanted<'a>(&self, call: &Call, requests: &'a Members) -> Result<Vec<Wanted<'a>>, String> {
        let method = &*call.method;
        if !MAY_ASK.contains(&method) {
            return Err(format!("the server asks for input in answer to '{method}', to which none is given"));
        }
        if call.request.is_none() {
            return Err("the server asks for input, and too much is kept already to ask again with it".into());
        }
        if call.rounds >= ROUNDS {
            return Err(format!("the server asked for input more than {ROUNDS} times"));
        }
        if self.questions.len() + requests.len() > self.limits.open {
            return Err(format!("the client is asked too much at once (more than {})", self.limits.open));
        }
        let mut names = HashSet::new();
        if !requests.iter().all(|(name, _)| names.insert(name)) {
            return Err("the server asks for two things under one name".into());
        }
        requests.iter().map(|(name, request)| self.one_wanted(name, request)).collect()
    }

    fn one_wanted<'a>(&self, name: &'a str, request: &'a str) -> Result<Wanted<'a>, String> {
        let method = member::string(request, &["method"]).unwrap_or_default();
        let Some(known) = WANTED.into_iter().find(|known| *known == method) else {
            let shown: String = method.chars().take(100).collect();
            return Err(format!("the server asks for something that a client does not give: '{shown}'"));
        };
        let params = member::value(request, &["params"]);
        match self.client.lacks(known, params.unwrap_or_default()) {
            Some(lacking) => {
                Err(format!("the server asks for '{known}', and the client did not declare the capability '{lacking}'"))
            }
            None => Ok(Wanted { name, method: known, params }),
        }
    }

    /// The client answers a question.
    pub(super) fn reply(&mut self, message: &Message, out: &mut Vec<Crossed>) {
        let question = message.id().and_then(asked).and_then(|number| self.questions.remove(&number));
        let Some(Question { call: number, place, method }) = question else { return };
        let Some(result) = message.result_text() else {
            let said = member::string(message.text(), &["error", "message"]).unwrap_or_default();
            let code = message.error_code().map(|code| format!(" ({code})")).unwrap_or_default();
            self.give_up(number, &format!("the client answered '{method}' with an error: {said}{code}"), out);
            return;
        };
        if !self.has_room_for(result.len()) {
            self.give_up(number, "too much is kept already to keep the client's answer too", out);
            return;
        }
        let Some(mut call) = self.calls.remove(&number) else { return };
        if let Some(answer) = call.asking.as_mut().and_then(|round| round.answers.as_mut()?.get_mut(place)) {
            answer.1 = Some(result.to_owned());
        }
        match call.asking.take_if(|round| round.is_answered()) {
            Some(round) => self.repeat(call, &round, out),
            None => drop(self.calls.insert(number, call)),
        }
    }

    /// Sends a request again, with what the server wanted.
    fn repeat(&mut self, mut call: Call, round: &Round, out: &mut Vec<Crossed>) {
        let Some(request) = &call.request else { return out.push(call.fails("the request was not kept")) };
        let params = self.client.dressed(request.params()).unwrap_or_default();
        let members = member::members(&params).unwrap_or_default();
        let params = edited(&params, &members, |name, _| match name {
            "inputResponses" | "requestState" => Edit::Cut,
            _ => Edit::Keep,
        });
        let sent = request.with_params(&led_by(&params, &round.members()));
        let number = self.number();
        out.push(Crossed::ToServer(sent.with_id(&Id::number(number))));
        call.rounds += 1;
        self.calls.insert(number, call);
    }

    /// A request that waits for the client cannot go on.
    fn give_up(&mut self, number: u64, why: &str, out: &mut Vec<Crossed>) {
        let Some(call) = self.calls.remove(&number) else { return };
        self.withdraw(number, &call.id, why, out);
        out.push(call.fails(why));
    }

    /// The client need not answer what it was asked for this request, which it knows under this id.
    pub(super) fn withdraw(&mut self, number: u64, id: &Id, why: &str, out: &mut Vec<Crossed>) {
        for (asked, _) in self.questions.extract_if(.., |_, question| question.call == number) {
            out.push(Crossed::ToClient(cancelled(&name(asked), why).with_related(id)));
        }
    }
}

impl Round {
    fn is_answered(&self) -> bool {
        self.answers.iter().flatten().all(|(_, answer)| answer.is_some())
    }

    /// The members of the params that tell the server.
    fn members(&self) -> String {
        let one = |(name, answer): &(String, Option<String>)| {
            format!("{}:{}", serde_json::Value::from(&**name), answer.as_deref().unwrap_or("null"))
        };
        let answers = self.answers.as_ref().map(|answers| {
            format!(r#""inputResponses":{{{}}}"#, answers.iter().map(one).collect::<Vec<_>>().join(","))
        });
        let state = self.state.as_ref().map(|state| format!(r#""requestState":{state}"#));
        answers.into_iter().chain(state).collect::<Vec<_>>().join(",")
    }

    pub(super) fn kept_bytes(&self) -> usize {
        let answers = self.answers.iter().flatten();
        let answers: usize = answers.map(|(name, answer)| name.len() + answer.as_ref().map_or(0, String::len)).sum();
        answers + self.state.as_ref().map_or(0, String::len)
    }
}

impl Wanted<'_> {
    /// It as a request to the client, with this number.
    fn question(&self, number: u64) -> Message {
        let id = name(number);
        let Some(params) = self.params else {
            let plain = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{}"}}"#, id.as_json(), self.method);
            return Message::parse(plain.into()).unwrap_or_else(|_| Message::request(&id, self.method, "{}"));
        };
        let is_url = self.method == "elicitation/create" && is_by_url(params);
        if is_url && member::value(params, &["elicitationId"]).is_none() {
            // 2025-11-25 wants one; the next revision has none.
            return Message::request(&id, self.method, &member::with(params, &["elicitationId"], id.as_json()));
        }
        Message::request(&id, self.method, params)
    }
}

/// The id under which the client is asked.
fn name(number: u64) -> Id {
    Id::from_json(&format!("\"{NAME}{number}\"")).unwrap_or_else(|| Id::number(number))
}

/// The number of the question with this id.
fn asked(id: &Id) -> Option<u64> {
    serde_json::from_str::<String>(id.as_json()).ok()?.strip_prefix(NAME)?.parse().ok()
}
