//! Rules one by one, then every order of steps.

use super::super::session::{self, Session, StreamId};
use super::*;

fn message(text: &str) -> Message {
    Message::parse(text.as_bytes().to_vec()).unwrap()
}

fn request(id: u32) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#))
}

fn initialize(id: u32) -> Message {
    message(&format!(r#"{{ "jsonrpc":"2.0","id":{id},"method":"initialize"}}"#))
}

fn initialized() -> Message {
    message(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
}

fn answer(id: u32) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"error":"no"}}}}"#))
}

fn refusal(id: u32) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"m"}}}}"#))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fresh(now: Instant) -> Reconnect {
    Reconnect::new(Retry::new(ms(500), Duration::from_secs(30)), now)
}

/// A connection that is up, with a session that was begun by request 0.
fn begun(now: Instant) -> Reconnect {
    let mut connection = fresh(now);
    assert_eq!(connection.client(initialize(0), now), ToServer::Wait);
    assert_eq!(connection.next_attempt(now), Next::Connect(1));
    assert_eq!(connection.connected(1, now), None);
    assert_eq!(connection.next(1), Some(initialize(0)));
    assert_eq!(connection.next(1), None);
    assert_eq!(connection.server(1, &answer(0)), FromServer::Relay);
    assert_eq!(connection.client(initialized(), now), ToServer::Send(initialized()));
    connection
}

#[test]
fn a_modern_request_wants_a_connection_and_nothing_is_begun_again_for_it() {
    let modern = || {
        let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        Message::request(&Id::number(1), "tools/call", params)
    };
    let now = Instant::now();
    let mut connection = fresh(now);
    assert_eq!(connection.client(modern(), now), ToServer::Wait);
    assert_eq!(connection.next_attempt(now), Next::Connect(1));
    assert!(connection.lost(1, "no", now));
    assert_eq!(connection.client(request(2), now), ToServer::Refuse(request(2), "no".into()));
    assert_eq!(connection.client(modern(), now), ToServer::Wait);
    assert_eq!(connection.next_attempt(now), Next::At(now + PAUSE), "not faster than the others");
    assert_eq!(connection.next_attempt(now + PAUSE), Next::Connect(2));
    assert_eq!(connection.connected(2, now + PAUSE), None);
    assert_eq!(connection.next(2), Some(modern()));
    assert_eq!(connection.next(2), None);
    assert_eq!(connection.client(modern(), now), ToServer::Send(modern()));
}

#[test]
fn the_first_attempt_is_due_at_once_and_once() {
    let now = Instant::now();
    let mut connection = fresh(now);
    assert_eq!(connection.next_attempt(now), Next::Connect(1));
    assert_eq!(connection.next_attempt(now), Next::Idle);
    assert_eq!(connection.connected(1, now), None);
    assert_eq!(connection.next(1), None);
    assert_eq!(connection.client(request(1), now), ToServer::Send(request(1)));
}

#[test]
fn a_failed_first_attempt_waits_for_an_initialize() {
    let now = Instant::now();
    let mut connection = fresh(now);
    assert_eq!(connection.client(initialize(0), now), ToServer::Wait);
    connection.next_attempt(now);
    assert!(connection.lost(1, "refused", now));
    assert_eq!(connection.next_attempt(now + ms(99_999)), Next::Idle);
    assert_eq!(connection.client(request(1), now), ToServer::Refuse(request(1), "refused".into()));
    assert_eq!(connection.client(initialized(), now), ToServer::Drop);
    assert_eq!(connection.client(initialize(2), now), ToServer::Wait);
    assert_eq!(connection.next_attempt(now), Next::Connect(2));
    assert_eq!(connection.connected(2, now), None);
    assert_eq!(connection.next(2), Some(initialize(2)));
    assert_eq!(connection.next(2), None);
}

#[test]
fn a_lost_session_is_begun_again_with_the_very_bytes() {
    let now = Instant::now();
    let mut connection = begun(now);
    assert!(connection.lost(1, "closed", now));
    assert!(!connection.lost(1, "closed", now), "it is lost once");
    assert_eq!(connection.next_attempt(now), Next::At(now + ms(500)));
    assert_eq!(connection.next_attempt(now + ms(500)), Next::Connect(2));
    assert_eq!(connection.client(request(7), now), ToServer::Wait);
    assert_eq!(connection.connected(2, now), Some(initialize(0)));
    assert_eq!(connection.next(2), None, "nothing passes before the session is there");
    assert_eq!(connection.server(2, &request(0)), FromServer::Relay, "a request of the server is no answer");
    assert_eq!(connection.server(2, &answer(0)), FromServer::Restored);
    assert_eq!(connection.next(1), None, "a link that is lost gets nothing");
    assert_eq!(connection.next(2), Some(initialized()));
    assert_eq!(connection.next(2), Some(request(7)));
    assert_eq!(connection.client(request(8), now), ToServer::Wait, "in order behind what waited");
    assert_eq!(connection.next(2), Some(request(8)));
    assert_eq!(connection.next(2), None);
    assert_eq!(connection.client(request(9), now), ToServer::Send(request(9)));
}

#[test]
fn what_was_not_said_is_not_said_again() {
    let now = Instant::now();
    let mut connection = fresh(now);
    connection.client(initialize(0), now);
    connection.next_attempt(now);
    connection.connected(1, now);
    while connection.next(1).is_some() {}
    connection.server(1, &answer(0));
    connection.lost(1, "closed", now);
    connection.next_attempt(now + ms(500));
    assert_eq!(connection.connected(2, now), Some(initialize(0)));
    assert_eq!(connection.client(initialized(), now), ToServer::Wait);
    assert_eq!(connection.server(2, &answer(0)), FromServer::Restored);
    assert_eq!(connection.next(2), Some(initialized()), "once");
    assert_eq!(connection.next(2), None);
}

#[test]
fn a_session_that_was_refused_is_not_begun_again() {
    let now = Instant::now();
    let mut connection = fresh(now);
    connection.client(initialize(0), now);
    connection.next_attempt(now);
    connection.connected(1, now);
    while connection.next(1).is_some() {}
    assert_eq!(connection.server(1, &refusal(0)), FromServer::Relay);
    connection.lost(1, "closed", now);
    assert_eq!(connection.next_attempt(now + ms(99_999)), Next::Idle);
}

#[test]
fn the_delays_double_until_a_session_is_there() {
    let mut now = Instant::now();
    let mut connection = begun(now);
    for (attempt, delay) in [(1, 500), (2, 1000), (3, 2000), (4, 4000)] {
        connection.lost(attempt, "closed", now);
        assert_eq!(connection.next_attempt(now), Next::At(now + ms(delay)));
        now += ms(delay);
        assert_eq!(connection.next_attempt(now), Next::Connect(attempt + 1));
        connection.connected(attempt + 1, now);
        assert_eq!(connection.server(attempt + 1, &refusal(0)), FromServer::Refused);
    }
    connection.lost(5, "refused", now);
    now += ms(8000);
    assert_eq!(connection.next_attempt(now), Next::Connect(6));
    connection.connected(6, now);
    connection.server(6, &answer(0));
    while connection.next(6).is_some() {}
    connection.lost(6, "closed", now);
    assert_eq!(connection.next_attempt(now), Next::At(now + ms(500)));
}

#[test]
fn a_request_makes_the_next_attempt_earlier_but_not_too_early() {
    let now = Instant::now();
    let mut connection = begun(now);
    let later = now + ms(60_000);
    connection.lost(1, "closed", later);
    assert_eq!(connection.client(initialized(), later), ToServer::Wait);
    assert_eq!(connection.next_attempt(later), Next::At(later + ms(500)), "a notification can wait");
    assert_eq!(connection.client(request(1), later), ToServer::Wait);
    assert_eq!(connection.next_attempt(later), Next::Connect(2), "the last attempt was long ago");
    connection.lost(2, "refused", later);
    assert_eq!(connection.next_attempt(later), Next::At(later + ms(1000)));
    connection.client(request(2), later + ms(100));
    assert_eq!(connection.next_attempt(later + ms(100)), Next::At(later + ms(500)));
    assert_eq!(connection.next_attempt(later + ms(500)), Next::Connect(3));
}

#[test]
fn the_server_chooses_the_first_delay() {
    let now = Instant::now();
    let mut connection = begun(now);
    connection.set_first_delay(ms(3000));
    connection.lost(1, "closed", now);
    assert_eq!(connection.next_attempt(now), Next::At(now + ms(3000)));
}

#[test]
fn a_client_that_begins_anew_is_not_given_the_old_session() {
    let now = Instant::now();
    let mut connection = begun(now);
    connection.lost(1, "closed", now);
    assert_eq!(connection.client(initialize(5), now), ToServer::Wait);
    assert_eq!(connection.next_attempt(now), Next::Connect(2));
    assert_eq!(connection.connected(2, now), None);
    assert_eq!(connection.next(2), Some(initialize(5)));
    connection.next(2);
    connection.server(2, &answer(5));
    connection.lost(2, "closed", now);
    connection.next_attempt(now + ms(500));
    assert_eq!(connection.connected(3, now), Some(initialize(5)));
}

#[test]
fn what_waits_is_bounded() {
    let now = Instant::now();
    let mut connection = begun(now);
    connection.lost(1, "closed", now);
    let count = u32::try_from(WAITING_MESSAGES).unwrap();
    for id in 0..count {
        assert_eq!(connection.client(request(id), now), ToServer::Wait);
    }
    assert!(matches!(connection.client(request(count), now), ToServer::Refuse(..)));
    assert_eq!(connection.client(message(r#"{"jsonrpc":"2.0","method":"n"}"#), now), ToServer::Drop);

    let large = |id: u32| {
        let text = "x".repeat(WAITING_BYTES / 2);
        message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":["{text}"]}}"#))
    };
    let mut connection = begun(now);
    connection.lost(1, "closed", now);
    assert_eq!(connection.client(large(1), now), ToServer::Wait);
    assert!(matches!(connection.client(large(2), now), ToServer::Refuse(..)));
    assert_eq!(connection.client(request(3), now), ToServer::Wait);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Begin,
    Initialized,
    Ask,
    Time,
    Link,
    Next,
    Answer,
    Refuse,
    Lose,
}

const STEPS: [Step; 9] = [
    Step::Begin,
    Step::Initialized,
    Step::Ask,
    Step::Time,
    Step::Link,
    Step::Next,
    Step::Answer,
    Step::Refuse,
    Step::Lose,
];

/// The client's one stream.
const STDOUT: StreamId = StreamId(0);

/// A client and a server around one connection, as the edge drives them.
struct World {
    now: Instant,
    connection: Reconnect,
    session: Session,
    attempt: Attempt,
    next_id: u32,
    /// What the server got over the present link and has not answered.
    unanswered: VecDeque<Message>,
    /// Requests that passed, and how often each was sent and answered.
    asked: Vec<(u32, usize, usize)>,
    last_sent: Option<u32>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut session = Session::new(100, 0);
        session.open_general(STDOUT);
        Self {
            now,
            connection: fresh(now),
            session,
            attempt: 0,
            next_id: 0,
            unanswered: VecDeque::new(),
            asked: Vec::new(),
            last_sent: None,
        }
    }

    fn say(&mut self, message: Message, id: Option<u32>) {
        assert_eq!(self.session.from_client(&message, STDOUT), session::FromClient::Forward { finished: None });
        self.asked.extend(id.map(|id| (id, 0, 0)));
        match self.connection.client(message, self.now) {
            ToServer::Send(message) => self.send(message, id),
            ToServer::Refuse(message, why) => {
                let answer = self.session.undelivered(&message, &why);
                self.tell(answer.as_slice());
            }
            ToServer::Wait | ToServer::Drop => {}
        }
    }

    /// Over the present link, for the first time: `id` is that of a request of the client.
    fn send(&mut self, message: Message, id: Option<u32>) {
        if let Some(row) = self.asked.iter_mut().find(|row| Some(row.0) == id) {
            row.1 += 1;
        }
        if id.is_some() {
            assert!(id > self.last_sent, "{id:?} is sent after {:?}", self.last_sent);
            self.last_sent = id;
            self.unanswered.push_back(message);
        }
    }

    fn tell(&mut self, answers: &[Message]) {
        for answer in answers {
            let Kind::Response { id: Some(id) } = answer.kind() else { panic!("no answer") };
            let row = self.asked.iter_mut().find(|row| row.0.to_string() == id.as_json());
            row.expect("only what was asked is answered").2 += 1;
        }
    }

    fn answer_all(&mut self, why: &str) {
        let answers: Vec<_> = self.session.lose(why).into_iter().map(|(_, answer)| answer).collect();
        self.tell(&answers);
    }

    fn lose(&mut self) {
        if self.connection.lost(self.attempt, "lost", self.now) {
            self.answer_all("lost");
        }
        self.unanswered.clear();
    }

    fn answer(&mut self, with: fn(u32) -> Message) {
        let Some(message) = self.unanswered.pop_front() else { return };
        let answer = with(number(&message).unwrap());
        match self.connection.server(self.attempt, &answer) {
            FromServer::Restored => {}
            FromServer::Refused => self.lose(),
            FromServer::Relay => {
                let delivered = session::FromServer::Deliver { stream: STDOUT, last: false };
                assert_eq!(self.session.from_server(&answer), delivered);
                self.tell(&[answer]);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin | Step::Ask => {
                let id = self.next_id;
                self.next_id += 1;
                self.say(if step == Step::Ask { request(id) } else { initialize(id) }, Some(id));
            }
            Step::Initialized => self.say(initialized(), None),
            Step::Time => {
                self.now += Duration::from_mins(1);
                if let Next::Connect(attempt) = self.connection.next_attempt(self.now) {
                    assert!(self.unanswered.is_empty(), "the last link is lost");
                    self.attempt = attempt;
                }
            }
            Step::Link => {
                if let Some(initialize) = self.connection.connected(self.attempt, self.now) {
                    self.unanswered.push_back(initialize);
                }
            }
            Step::Next => {
                if let Some(message) = self.connection.next(self.attempt) {
                    let id = number(&message);
                    self.send(message, id);
                }
            }
            Step::Answer => self.answer(answer),
            Step::Refuse => self.answer(refusal),
            Step::Lose => self.lose(),
        }
    }

    fn end(mut self) {
        self.answer_all("end");
        for (id, sent, answered) in &self.asked {
            assert!(*sent <= 1 && *answered == 1, "request {id}: sent {sent} times, answered {answered} times");
        }
    }
}

fn number(message: &Message) -> Option<u32> {
    match message.kind() {
        Kind::Request { id, .. } => id.as_json().parse().ok(),
        _ => None,
    }
}

/// Every order of steps, from the start and from a session that is up, is down, or is being begun again.
#[test]
fn whatever_happens_nothing_is_sent_twice_and_every_request_is_answered_once() {
    const UP: [Step; 7] =
        [Step::Begin, Step::Time, Step::Link, Step::Next, Step::Next, Step::Answer, Step::Initialized];
    let up = UP.to_vec();
    let down = [&UP[..], &[Step::Ask, Step::Lose]].concat();
    let again = [&down[..], &[Step::Ask, Step::Time, Step::Link]].concat();
    let mut tried = 0;
    for prefix in [Vec::new(), up, down, again] {
        for number in 0..STEPS.len().pow(5) {
            let mut world = World::new();
            for step in &prefix {
                world.step(*step);
            }
            let mut rest = number;
            for _ in 0..5 {
                world.step(STEPS[rest % STEPS.len()]);
                rest /= STEPS.len();
            }
            world.end();
            tried += 1;
        }
    }
    assert_eq!(tried, 4 * 9_usize.pow(5));
}
