//! The routing rule as tables, and every interleaving of a small session.

use super::*;
use std::collections::HashSet;

const GENERAL: StreamId = StreamId(10);
const A: StreamId = StreamId(1);
const B: StreamId = StreamId(2);

fn message(text: &str) -> Message {
    Message::parse(text.as_bytes().to_vec()).unwrap()
}

fn request(id: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#))
}

fn with_token(id: &str, token: &str) -> Message {
    let params = format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#);
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{params}}}"#))
}

fn answer(id: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
}

fn cancel(id: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
}

fn progress(token: &str) -> Message {
    let params = format!(r#"{{"progressToken":{token},"progress":1}}"#);
    message(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#))
}

fn notification(method: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#))
}

fn forward() -> FromClient {
    FromClient::Forward { finished: None }
}

fn to(stream: StreamId) -> FromServer {
    FromServer::Deliver { stream, last: false }
}

fn last(stream: StreamId) -> FromServer {
    FromServer::Deliver { stream, last: true }
}

/// A session of a client that has one stream for everything.
fn one_stream(limit: usize) -> Session {
    let mut session = Session::new(limit, 0);
    session.open_general(GENERAL);
    session
}

#[test]
fn an_answer_finds_its_request_in_any_spelling_and_only_once() {
    for (asked, answered) in [("1", "1"), (r#""1""#, r#""1""#), ("1.0", "1"), (r#""\u0061""#, r#""a""#), ("1e2", "100")]
    {
        let mut session = one_stream(8);
        assert_eq!(session.from_client(&request(asked), A), forward());
        assert_eq!(session.from_server(&answer(answered)), last(A), "{asked} {answered}");
        assert!(matches!(session.from_server(&answer(answered)), FromServer::Drop(_)), "{asked} {answered}");
    }
}

#[test]
fn ids_of_different_types_are_different() {
    let mut session = one_stream(8);
    session.from_client(&request("1"), A);
    assert!(matches!(session.from_server(&answer(r#""1""#)), FromServer::Drop(_)));
    assert_eq!((session.open(), session.open_on(A), session.open_on(B)), (1, 1, 0));
}

#[test]
fn the_exact_spelling_wins() {
    let mut session = one_stream(8);
    session.from_client(&request("1.0"), A);
    session.from_client(&request("1"), B);
    assert_eq!(session.from_server(&answer("1")), last(B));
    let left = session.lose("x");
    assert_eq!(left.len(), 1);
    assert!(left[0].0 == A && left[0].1.text().contains(r#""id":1.0,"#));
}

#[test]
fn an_answer_to_a_question_of_a_lost_session_goes_to_nobody() {
    let mut session = one_stream(8);
    assert_eq!(session.from_server(&request("7")), to(GENERAL));
    session.lose("x");
    assert!(matches!(session.from_client(&answer("7"), A), FromClient::Drop(_)));
}

#[test]
fn a_cancelled_request_is_owed_no_answer_and_may_get_one() {
    let mut session = one_stream(8);
    session.from_client(&request("1"), GENERAL);
    assert_eq!(session.from_client(&cancel("1"), GENERAL), forward());
    assert_eq!(session.from_server(&answer("1")), to(GENERAL));
    session.from_client(&request("2"), A);
    session.from_client(&request("3"), A);
    assert_eq!(session.from_client(&cancel("2"), B), forward(), "3 is still owed");
    assert_eq!(session.from_server(&answer("2")), to(A));
    assert_eq!(session.from_client(&cancel("3"), B), FromClient::Forward { finished: Some(A) });
    assert!(matches!(session.from_server(&answer("3")), FromServer::Drop(_)), "its stream has ended");
    assert_eq!(session.lose("x"), []);
}

#[test]
fn a_listen_is_open_and_owed_no_answer_soon() {
    let mut session = one_stream(8);
    let listen = Message::request(&Id::number(1), "subscriptions/listen", "{}");
    for message in [&listen, &request("2")] {
        assert_eq!(session.from_client(message, GENERAL), forward());
    }
    assert_eq!((session.open(), session.owed()), (2, 1));
    let _ = session.from_server(&answer("2"));
    assert_eq!((session.open(), session.owed()), (1, 0));
    assert_eq!(session.lose("over").len(), 1);
}

#[test]
fn one_request_too_many_is_refused_and_the_others_live() {
    let mut session = one_stream(2);
    session.from_client(&request("1"), A);
    session.from_client(&request("2"), A);
    let FromClient::Answer(refusal) = session.from_client(&request("3"), B) else { panic!("not refused") };
    assert_eq!(refusal.id(), request("3").id());
    session.from_server(&answer("1"));
    assert_eq!(session.from_client(&request("3"), B), forward());
    for n in 0..100 {
        session.from_server(&request(&n.to_string()));
    }
    assert_eq!(session.asked.len(), 2);
}

#[test]
fn what_belongs_to_no_request_follows_the_rule() {
    for (general, open, closed, wanted) in [
        (false, &[][..], None, None),
        (true, &[][..], None, Some(GENERAL)),
        (true, &[A][..], None, Some(A)),
        (true, &[A, B][..], None, Some(GENERAL)),
        (false, &[A, B][..], None, Some(B)),
        (false, &[B, A][..], None, Some(A)),
        (false, &[A, B][..], Some(B), Some(A)),
        (true, &[A, B][..], Some(B), Some(A)),
        (true, &[A, B][..], Some(GENERAL), Some(B)),
        (false, &[A][..], Some(A), None),
        (true, &[A][..], Some(A), Some(GENERAL)),
    ] {
        let mut session = Session::new(8, 1000);
        if general {
            session.open_general(GENERAL);
        }
        for (n, stream) in open.iter().enumerate() {
            session.from_client(&request(&n.to_string()), *stream);
        }
        if let Some(stream) = closed {
            session.close(stream);
        }
        let wanted = wanted.map_or(FromServer::Hold, to);
        for message in [notification("n"), request("7"), progress("9")] {
            assert_eq!(session.from_server(&message), wanted, "{general} {open:?} {closed:?} {message:?}");
        }
    }
}

#[test]
fn progress_goes_to_the_request_with_its_token() {
    let mut session = Session::new(8, 1000);
    session.open_general(GENERAL);
    session.from_client(&with_token("1", "1.0"), A);
    session.from_client(&with_token("2", r#""t""#), B);
    assert_eq!(session.from_server(&progress("1")), to(A));
    assert_eq!(session.from_server(&progress(r#""\u0074""#)), to(B));
    assert_eq!(session.from_server(&progress("2")), to(GENERAL));
    session.close(A);
    assert!(matches!(session.from_server(&progress("1")), FromServer::Drop(_)));
    assert!(matches!(session.from_server(&answer("1")), FromServer::Drop(_)));
}

#[test]
fn a_cancelled_question_is_told_where_it_was_asked() {
    let mut session = Session::new(8, 1000);
    session.from_client(&request("1"), A);
    assert_eq!(session.from_server(&request("7")), to(A));
    session.from_client(&request("2"), B);
    assert_eq!(session.from_server(&cancel("7")), to(A));
    session.close(A);
    session.close(B);
    assert_eq!(session.from_server(&request("8")), FromServer::Hold);
    assert!(matches!(session.from_server(&cancel("8")), FromServer::Drop(_)), "the client never got it");
    session.open_general(GENERAL);
    assert_eq!(session.held(), []);
}

#[test]
fn what_waits_is_bounded_and_a_question_never_vanishes() {
    let mut session = Session::new(3, 1000);
    for message in [notification("a"), request("1"), notification("b"), notification("c"), request("2")] {
        assert_eq!(session.from_server(&message), FromServer::Hold);
    }
    assert_eq!(session.from_server(&request("3")), FromServer::Hold);
    let FromServer::Refuse(refusal) = session.from_server(&request("4")) else { panic!("not refused") };
    assert_eq!(refusal.id(), request("4").id());
    assert!(matches!(session.from_server(&notification("d")), FromServer::Drop(_)));
    assert!(session.held().is_empty(), "there is no stream yet");
    assert_eq!(session.open_general(GENERAL), None);
    assert_eq!(session.held(), [request("1"), request("2"), request("3")]);
    assert_eq!(session.held(), []);
    assert_eq!(session.from_client(&answer("2"), A), forward());
    let mut session = Session::new(99, notification("a").bytes().len() * 2);
    let long = notification(&"l".repeat(200));
    assert_eq!(session.from_server(&notification("a")), FromServer::Hold);
    assert!(matches!(session.from_server(&long), FromServer::Drop(_)));
    session.from_server(&notification("b"));
    session.from_server(&notification("c"));
    session.open_general(GENERAL);
    assert_eq!(session.held(), [notification("b"), notification("c")]);
}

#[test]
fn a_lost_link_takes_its_questions_and_answers_each_request_on_its_stream() {
    let mut session = Session::new(8, 1000);
    session.from_server(&request("7"));
    session.from_server(&notification("n"));
    session.from_client(&request("1"), A);
    session.from_client(&request("2"), B);
    session.close(A);
    let answers = session.lose("x");
    assert!(answers.len() == 1 && answers[0].0 == B && answers[0].1.id() == request("2").id());
    assert_eq!((session.open_general(GENERAL), session.open_general(B)), (None, Some(GENERAL)));
    assert_eq!(session.held(), [notification("n")]);
}

/// The requests of the search: two on one stream, as a batch has them, and one on another.
const REQUESTS: [(&str, StreamId, Option<&str>); 3] = [("1", A, Some("1")), ("2", A, None), ("3", B, Some("3"))];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Life {
    New,
    Open,
    Cancelled,
    Done,
}

/// The messages of the search, read once.
struct Texts {
    requests: Vec<Message>,
    answers: Vec<Message>,
    cancels: Vec<Message>,
    progress: Vec<Message>,
    question: Message,
    reply: Message,
    withdrawal: Message,
    notification: Message,
}

#[derive(Clone)]
struct World {
    session: Session,
    lives: [Life; 3],
    /// Open requests, the oldest first.
    order: Vec<usize>,
    gone: Vec<StreamId>,
    general: Option<StreamId>,
    /// What waits: `q` the question, `n` and the requests' numbers notifications.
    held: Vec<char>,
    asked: Option<StreamId>,
    question: Life,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Ask(usize),
    Answer(usize),
    Cancel(usize),
    Undelivered(usize),
    Progress(usize),
    Notify,
    Question,
    Reply,
    Withdraw,
    Open(u64),
    Close(u64),
    Lose,
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::Notify, Step::Question, Step::Reply, Step::Withdraw, Step::Lose];
    for n in 0..REQUESTS.len() {
        steps.extend([Step::Ask(n), Step::Answer(n), Step::Cancel(n), Step::Undelivered(n), Step::Progress(n)]);
    }
    steps.extend([10, 11].map(Step::Open));
    steps.extend([1, 2, 10, 11].map(Step::Close));
    steps
}

impl World {
    fn owed(&self, stream: StreamId) -> bool {
        self.order.iter().any(|n| REQUESTS[*n].1 == stream)
    }

    fn is_closed(&self, stream: StreamId) -> bool {
        self.gone.contains(&stream)
    }

    fn done(&mut self, n: usize) {
        self.lives[n] = Life::Done;
        self.order.retain(|open| *open != n);
    }

    /// What the rule says, from what the test knows.
    fn rule(&self) -> Option<StreamId> {
        let streams = self.order.iter().map(|n| REQUESTS[*n].1);
        let there: Vec<_> = streams.filter(|stream| !self.is_closed(*stream)).collect();
        match there[..] {
            [only] => Some(only),
            _ => self.general.or(there.last().copied()),
        }
    }

    /// A message that follows the rule, or waits; at most two do.
    fn expect(&mut self, got: &FromServer, what: char) {
        if let Some(stream) = self.rule() {
            assert_eq!(*got, to(stream));
        } else if self.held.len() < 2 {
            assert_eq!(*got, FromServer::Hold);
            self.held.push(what);
        } else if let Some(oldest) = self.held.iter().position(|held| *held != 'q') {
            assert_eq!(*got, FromServer::Hold);
            self.held.remove(oldest);
            self.held.push(what);
        } else {
            panic!("there is one question only");
        }
    }

    /// Takes a step; says whether it could happen.
    fn step(&mut self, step: Step, texts: &Texts) -> bool {
        match step {
            Step::Ask(n) => return self.ask(n, texts),
            Step::Answer(n) => self.answer(n, texts),
            Step::Cancel(n) => self.cancel(n, texts),
            Step::Undelivered(n) => {
                let was_open = self.lives[n] == Life::Open;
                assert_eq!(self.session.undelivered(&texts.requests[n], "x").is_some(), was_open);
                if was_open {
                    self.done(n);
                }
            }
            Step::Progress(n) => self.progress(n, texts),
            Step::Notify => {
                let got = self.session.from_server(&texts.notification);
                self.expect(&got, 'n');
            }
            Step::Question if self.question == Life::New => {
                let got = self.session.from_server(&texts.question);
                self.asked = self.rule();
                self.question = Life::Open;
                self.expect(&got, 'q');
            }
            Step::Reply => {
                let forwarded = self.session.from_client(&texts.reply, StreamId(99)) == forward();
                assert_eq!(forwarded, self.asked.take().is_some());
            }
            Step::Withdraw => self.withdraw(texts),
            Step::Open(number) => return self.open(StreamId(number), texts),
            Step::Close(number) if !self.is_closed(StreamId(number)) => {
                self.session.close(StreamId(number));
                self.gone.push(StreamId(number));
                self.gone.sort_unstable();
                self.general = self.general.filter(|general| general.0 != number);
            }
            Step::Lose => self.lose(texts),
            Step::Question | Step::Close(_) => return false,
        }
        assert_eq!(self.session.open(), self.order.len());
        true
    }

    fn ask(&mut self, n: usize, texts: &Texts) -> bool {
        let stream = REQUESTS[n].1;
        // A stream that has ended, or is closed, is not used again.
        let over = !self.owed(stream) && REQUESTS.iter().zip(self.lives).any(|(r, l)| r.1 == stream && l != Life::New);
        if self.lives[n] != Life::New || over || self.is_closed(stream) {
            return false;
        }
        assert_eq!(self.session.from_client(&texts.requests[n], stream), forward());
        self.lives[n] = Life::Open;
        self.order.push(n);
        true
    }

    fn answer(&mut self, n: usize, texts: &Texts) {
        let (stream, life) = (REQUESTS[n].1, self.lives[n]);
        let got = self.session.from_server(&texts.answers[n]);
        if life == Life::Open || life == Life::Cancelled {
            self.done(n);
        }
        let owed = self.owed(stream);
        match life {
            Life::Open if !self.is_closed(stream) => assert_eq!(got, FromServer::Deliver { stream, last: !owed }),
            Life::Cancelled if owed && !self.is_closed(stream) => assert_eq!(got, to(stream)),
            _ => assert!(matches!(got, FromServer::Drop(_)), "{got:?}"),
        }
    }

    fn cancel(&mut self, n: usize, texts: &Texts) {
        let stream = REQUESTS[n].1;
        let was_open = self.lives[n] == Life::Open;
        if was_open {
            self.done(n);
            self.lives[n] = Life::Cancelled;
        }
        let finished = Some(stream).filter(|stream| was_open && !self.owed(*stream) && !self.is_closed(*stream));
        assert_eq!(self.session.from_client(&texts.cancels[n], StreamId(99)), FromClient::Forward { finished });
    }

    fn progress(&mut self, n: usize, texts: &Texts) {
        let got = self.session.from_server(&texts.progress[n]);
        if self.lives[n] != Life::Open || REQUESTS[n].2.is_none() {
            self.expect(&got, char::from(b'0' + u8::try_from(n).unwrap()));
        } else if self.is_closed(REQUESTS[n].1) {
            assert!(matches!(got, FromServer::Drop(_)));
        } else {
            assert_eq!(got, to(REQUESTS[n].1));
        }
    }

    fn withdraw(&mut self, texts: &Texts) {
        let got = self.session.from_server(&texts.withdrawal);
        if let Some(at) = self.held.iter().position(|held| *held == 'q') {
            self.held.remove(at);
            assert!(matches!(got, FromServer::Drop(_)));
            return;
        }
        let there = |stream: &StreamId| self.general == Some(*stream) || self.owed(*stream) && !self.is_closed(*stream);
        match self.asked.filter(there) {
            Some(stream) => assert_eq!(got, to(stream)),
            None => self.expect(&got, 'w'),
        }
        self.asked = None;
    }

    fn open(&mut self, stream: StreamId, texts: &Texts) -> bool {
        if self.is_closed(stream) {
            return false;
        }
        let old = self.general.replace(stream).filter(|old| *old != stream);
        assert_eq!(self.session.open_general(stream), old);
        let text = |what: &char| match what {
            'q' => &texts.question,
            'n' => &texts.notification,
            'w' => &texts.withdrawal,
            n => &texts.progress[usize::try_from(n.to_digit(10).unwrap()).unwrap()],
        };
        assert!(self.session.held().iter().eq(self.held.iter().map(text)), "{:?}", self.held);
        if self.held.contains(&'q') {
            self.asked = Some(stream);
        }
        self.held.clear();
        true
    }

    fn lose(&mut self, texts: &Texts) {
        let answers = self.session.lose("x");
        let there = self.order.iter().filter(|n| !self.gone.contains(&REQUESTS[**n].1));
        let wanted = there.map(|n| (REQUESTS[*n].1, texts.requests[*n].id()));
        assert!(answers.iter().map(|(stream, answer)| (*stream, answer.id())).eq(wanted));
        for n in std::mem::take(&mut self.order) {
            self.lives[n] = Life::Done;
        }
        for life in self.lives.iter_mut().filter(|life| **life == Life::Cancelled) {
            *life = Life::Done;
        }
        self.held.retain(|held| *held != 'q');
        self.asked = None;
    }

    /// What tells this state from others.
    fn key(&self) -> impl Eq + std::hash::Hash + use<> {
        let book = [&self.session.open, &self.session.cancelled, &self.session.asked].map(|requests| {
            requests.iter().map(|r| (r.id.as_json().as_bytes()[0], r.stream, r.closed)).collect::<Vec<_>>()
        });
        let held = self.session.hold.messages.len();
        let known = (self.lives, self.order.clone(), self.gone.clone(), self.general, self.asked, self.question);
        (book, held, self.held.clone(), known)
    }
}

/// How many steps the search goes. Without a limit it ends too, after a minute.
const DEPTH: usize = 6;

/// Every state that any order of steps leads to is tried once, with every step from there.
#[test]
fn whatever_happens_every_message_goes_where_it_belongs_and_every_request_is_answered_once() {
    let ask = |(id, _, token): &(&str, StreamId, Option<&str>)| {
        token.map_or_else(|| request(id), |token| with_token(id, token))
    };
    let texts = Texts {
        requests: REQUESTS.iter().map(ask).collect(),
        answers: REQUESTS.iter().map(|(id, ..)| answer(id)).collect(),
        cancels: REQUESTS.iter().map(|(id, ..)| cancel(id)).collect(),
        progress: REQUESTS.iter().map(|(id, ..)| progress(id)).collect(),
        question: request("7"),
        reply: answer("7"),
        withdrawal: cancel("7"),
        notification: notification("n"),
    };
    let start = World {
        session: Session::new(100, 10_000),
        lives: [Life::New; 3],
        order: Vec::new(),
        gone: Vec::new(),
        general: None,
        held: Vec::new(),
        asked: None,
        question: Life::New,
    };
    let start = World { session: Session { hold: Hold::new(2, 10_000), ..start.session }, ..start };
    let steps = steps();
    let (mut seen, mut level, mut tried) = (HashSet::from([start.key()]), vec![start], 0);
    for _ in 0..DEPTH {
        let mut next_level = Vec::new();
        for (world, step) in level.iter().flat_map(|world| steps.iter().map(move |step| (world, *step))) {
            let mut next = world.clone();
            if next.step(step, &texts) {
                tried += 1;
                if seen.insert(next.key()) {
                    next_level.push(next);
                }
            }
        }
        level = next_level;
    }
    assert!(tried > 100_000, "{tried} steps, {} states", seen.len());
}
