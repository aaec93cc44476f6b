//! What is still unanswered between one client and one server, in both directions.
//!
//! ```text
//!   client ──request──▶ open ──answer──▶ client          server ──request──▶ asked ──answer──▶ server
//!                        │ cancelled by the client ▶ an answer may still come, none is owed
//!                        │ the link is lost        ▶ every open request is answered with an error
//! ```
//!
//! Always: a request that was let pass is answered once, by the server or by [`Session::lose`]; an answer that
//! nobody waits for goes to nobody; nothing here grows beyond `limit` entries.

use super::message::{INTERNAL_ERROR, Id, Kind, Message};

/// The bookkeeping of one session.
#[derive(Debug)]
pub struct Session {
    limit: usize,
    open: Vec<Id>,
    cancelled: Vec<Id>,
    asked: Vec<Id>,
}

/// What to do with a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Hand it to the server.
    Forward,
    /// Hand it to nobody, for this reason.
    Drop(&'static str),
    /// Do not hand it to the server; answer this to the client.
    Answer(Message),
}

/// What to do with a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum FromServer {
    /// Hand it to the client.
    Deliver,
    /// Hand it to nobody, for this reason.
    Drop(&'static str),
}

impl Session {
    /// A session in which at most `limit` requests of the client, and as many of the server, are open at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, open: Vec::new(), cancelled: Vec::new(), asked: Vec::new() }
    }

    /// A message of the client, before it is handed on.
    pub fn from_client(&mut self, message: &Message) -> FromClient {
        match message.kind() {
            Kind::Request { id, .. } if self.open.len() >= self.limit => {
                let reason = format!("too many requests are unanswered ({})", self.limit);
                FromClient::Answer(Message::error(Some(id), INTERNAL_ERROR, &reason))
            }
            Kind::Request { id, .. } => {
                self.open.push(id.clone());
                FromClient::Forward
            }
            Kind::Notification { .. } => {
                if let Some(id) = message.cancels().and_then(|id| take(&mut self.open, &id)) {
                    keep(&mut self.cancelled, id, self.limit);
                }
                FromClient::Forward
            }
            Kind::Response { id: Some(id) } if take(&mut self.asked, id).is_none() => {
                FromClient::Drop("it answers no open request of the server")
            }
            Kind::Response { .. } => FromClient::Forward,
        }
    }

    /// A message of the server, before it is handed on.
    pub fn from_server(&mut self, message: &Message) -> FromServer {
        match message.kind() {
            Kind::Request { id, .. } => {
                keep(&mut self.asked, id.clone(), self.limit);
                FromServer::Deliver
            }
            Kind::Notification { .. } => {
                if let Some(id) = message.cancels() {
                    take(&mut self.asked, &id);
                }
                FromServer::Deliver
            }
            Kind::Response { id: Some(id) } => {
                if take(&mut self.open, id).or_else(|| take(&mut self.cancelled, id)).is_some() {
                    FromServer::Deliver
                } else {
                    FromServer::Drop("it answers no open request of the client")
                }
            }
            Kind::Response { id: None } => FromServer::Deliver,
        }
    }

    /// A message that [`Session::from_client`] let pass did not reach the server: the answer to its request,
    /// if it is one that is still open.
    pub fn undelivered(&mut self, message: &Message, why: &str) -> Option<Message> {
        let Kind::Request { id, .. } = message.kind() else { return None };
        let at = self.open.iter().position(|open| open == id)?;
        let id = self.open.remove(at);
        Some(Message::error(Some(&id), INTERNAL_ERROR, why))
    }

    /// The link to the server is lost: the answers to everything that is open, in the order of the requests.
    /// What the server asked is forgotten, so that an answer to it does not reach the server's successor.
    pub fn lose(&mut self, why: &str) -> Vec<Message> {
        self.cancelled.clear();
        self.asked.clear();
        self.open.drain(..).map(|id| Message::error(Some(&id), INTERNAL_ERROR, why)).collect()
    }

    /// How many requests of the client are unanswered.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// Takes `id` out of `ids`: the same spelling first, then the same value in another spelling.
fn take(ids: &mut Vec<Id>, id: &Id) -> Option<Id> {
    let same = ids.iter().position(|known| known == id);
    let at = same.or_else(|| ids.iter().position(|known| known.may_be(id)))?;
    Some(ids.remove(at))
}

/// Adds `id` and forgets the oldest when there would be more than `limit`.
fn keep(ids: &mut Vec<Id>, id: Id, limit: usize) {
    if ids.len() >= limit {
        ids.remove(0);
    }
    ids.push(id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn message(text: &str) -> Message {
        Message::parse(text.as_bytes().to_vec()).unwrap()
    }

    fn request(id: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#))
    }

    fn answer(id: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
    }

    fn cancel(id: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
    }

    #[test]
    fn an_answer_finds_its_request_in_any_spelling_and_only_once() {
        for (asked, answered) in
            [("1", "1"), (r#""1""#, r#""1""#), ("1.0", "1"), (r#""\u0061""#, r#""a""#), ("1e2", "100")]
        {
            let mut session = Session::new(8);
            assert_eq!(session.from_client(&request(asked)), FromClient::Forward);
            assert_eq!(session.from_server(&answer(answered)), FromServer::Deliver, "{asked} {answered}");
            assert!(matches!(session.from_server(&answer(answered)), FromServer::Drop(_)), "{asked} {answered}");
        }
    }

    #[test]
    fn ids_of_different_types_are_different() {
        let mut session = Session::new(8);
        session.from_client(&request("1"));
        assert!(matches!(session.from_server(&answer(r#""1""#)), FromServer::Drop(_)));
        assert_eq!(session.open(), 1);
    }

    #[test]
    fn the_exact_spelling_wins() {
        let mut session = Session::new(8);
        session.from_client(&request("1.0"));
        session.from_client(&request("1"));
        session.from_server(&answer("1"));
        let left = session.lose("x");
        assert_eq!(left.len(), 1);
        assert!(std::str::from_utf8(left[0].bytes()).unwrap().contains(r#""id":1.0,"#));
    }

    #[test]
    fn an_answer_to_a_question_of_a_lost_session_goes_to_nobody() {
        let mut session = Session::new(8);
        assert_eq!(session.from_server(&request("7")), FromServer::Deliver);
        session.lose("x");
        assert!(matches!(session.from_client(&answer("7")), FromClient::Drop(_)));
    }

    #[test]
    fn a_cancelled_request_is_owed_no_answer_and_may_get_one() {
        let mut session = Session::new(8);
        session.from_client(&request("1"));
        assert_eq!(session.from_client(&cancel("1")), FromClient::Forward);
        assert_eq!(session.from_server(&answer("1")), FromServer::Deliver);
        session.from_client(&request("2"));
        session.from_client(&cancel("2"));
        assert_eq!(session.lose("x"), []);
    }

    #[test]
    fn one_request_too_many_is_refused_and_the_others_live() {
        let mut session = Session::new(2);
        session.from_client(&request("1"));
        session.from_client(&request("2"));
        let FromClient::Answer(refusal) = session.from_client(&request("3")) else { panic!("not refused") };
        assert_eq!(refusal.kind(), &Kind::Response { id: Some(id_of(&request("3"))) });
        session.from_server(&answer("1"));
        assert_eq!(session.from_client(&request("3")), FromClient::Forward);
        for n in 0..100 {
            session.from_server(&request(&n.to_string()));
        }
        assert_eq!(session.asked.len(), 2);
    }

    fn id_of(message: &Message) -> Id {
        match message.kind() {
            Kind::Request { id, .. } | Kind::Response { id: Some(id) } => id.clone(),
            _ => panic!("no id"),
        }
    }

    /// Every order of requests (two ids, one of them used twice), answers, cancellations, failed deliveries and
    /// losses, up to six steps: at the end each request that passed has been answered once, or was cancelled.
    #[test]
    fn whatever_happens_every_request_is_answered_once() {
        #[derive(Clone, Copy, Debug)]
        enum Step {
            Ask(&'static str),
            Answer(&'static str),
            Cancel(&'static str),
            Undelivered(&'static str),
            Lose,
        }
        let steps = [
            Step::Ask("1"),
            Step::Ask("2"),
            Step::Answer("1"),
            Step::Answer("2"),
            Step::Cancel("1"),
            Step::Undelivered("2"),
            Step::Lose,
        ];
        let mut tried = 0;
        for depth in 0..=6_u32 {
            for number in 0..steps.len().pow(depth) {
                let mut rest = number;
                let mut session = Session::new(3);
                let (mut owed, mut got) = (HashMap::<Id, i32>::new(), HashMap::<Id, i32>::new());
                let mut excused = HashMap::<Id, i32>::new();
                for _ in 0..depth {
                    let step = steps[rest % steps.len()];
                    rest /= steps.len();
                    let mut answers = Vec::new();
                    match step {
                        Step::Ask(id) => match session.from_client(&request(id)) {
                            FromClient::Forward => *owed.entry(id_of(&request(id))).or_default() += 1,
                            FromClient::Answer(_) => {}
                            FromClient::Drop(_) => panic!("a request is never dropped"),
                        },
                        Step::Answer(id) => {
                            if session.from_server(&answer(id)) == FromServer::Deliver {
                                answers.push(answer(id));
                            }
                        }
                        Step::Cancel(id) => {
                            let before = session.open();
                            session.from_client(&cancel(id));
                            if session.open() < before {
                                *excused.entry(id_of(&request(id))).or_default() += 1;
                            }
                        }
                        Step::Undelivered(id) => answers.extend(session.undelivered(&request(id), "x")),
                        Step::Lose => answers.extend(session.lose("x")),
                    }
                    for answer in answers {
                        *got.entry(id_of(&answer)).or_default() += 1;
                    }
                }
                for answer in session.lose("end") {
                    *got.entry(id_of(&answer)).or_default() += 1;
                }
                for (id, owed) in owed {
                    let got = got.get(&id).copied().unwrap_or(0);
                    let excused = excused.get(&id).copied().unwrap_or(0);
                    assert!(got <= owed && got >= owed - excused, "{number} {id:?} {got} {owed} {excused}");
                }
                tried += 1;
            }
        }
        assert_eq!(tried, (0..=6).map(|depth| 7_usize.pow(depth)).sum::<usize>());
    }
}
