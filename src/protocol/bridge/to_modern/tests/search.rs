//! A client and a server that do what they may do: every order of a few steps, and a long walk at random.
//!
//! Each message says which request it is about (`of`), so that one in the wrong place is seen at once.

use super::super::*;
use super::{LIMITS, message};
use crate::protocol::member;
use crate::protocol::message::Kind as Is;
use crate::protocol::modern::meta;
use std::collections::HashSet;

const SUBSCRIBE: &str = "resources/subscribe";
const UNSUBSCRIBE: &str = "resources/unsubscribe";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Request,
    /// The client cancels the request at this place among those that are open.
    Cancel(usize),
    /// It answers the question at this place among those that are open.
    Answer(usize),
    /// Likewise, with an error.
    Refuse(usize),
    Subscribe,
    Unsubscribe,
    /// The server answers the request at this place among those that it has got.
    Reply(usize),
    Fail(usize),
    /// It wants this many inputs for it.
    Ask(usize, usize),
    /// It answers once more what it has answered, or what was cancelled.
    Late,
    Undelivered(usize),
    /// It acknowledges a `subscriptions/listen`, with the resource or without.
    Acknowledge(bool),
    /// It ends the oldest one.
    End,
    Update,
    Lose,
    Restore,
    /// Enough time passes for everything that waits.
    Wait,
}

/// A round of a request that the server works on.
#[derive(Debug, Clone)]
struct Got {
    number: String,
    of: u64,
}

#[derive(Debug, Clone)]
struct Listen {
    number: String,
    wants: bool,
    /// Whether it brings updates, once it is acknowledged.
    brings: Option<bool>,
}

#[derive(Debug, Clone)]
struct World {
    bridge: ToModern,
    now: Duration,
    last: u64,
    /// Requests that are owed an answer, with their methods.
    open: Vec<(u64, &'static str)>,
    /// What the client is asked, and for which request.
    questions: Vec<(String, u64)>,
    asked: HashSet<String>,
    /// It was told that it has subscribed, and the server said later that it does not tell of this any more.
    is_subscribed: bool,
    is_revoked: bool,
    got: Vec<Got>,
    numbers: HashSet<String>,
    over: Vec<String>,
    listens: Vec<Listen>,
    /// The state that the server gave last, by request.
    states: BTreeMap<u64, String>,
    is_there: bool,
    updates: usize,
    done: usize,
}

impl World {
    fn new() -> Self {
        Self {
            bridge: super::begun(),
            now: Duration::ZERO,
            last: 100,
            open: Vec::new(),
            questions: Vec::new(),
            asked: HashSet::new(),
            is_subscribed: false,
            is_revoked: false,
            got: Vec::new(),
            numbers: HashSet::new(),
            over: Vec::new(),
            listens: Vec::new(),
            states: BTreeMap::new(),
            is_there: true,
            updates: 0,
            done: 0,
        }
    }

    /// Takes a step; `None` where it cannot be taken.
    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Request => self.ask_server("tools/call")?,
            Step::Subscribe => self.ask_server(SUBSCRIBE)?,
            Step::Unsubscribe => self.ask_server(UNSUBSCRIBE)?,
            Step::Cancel(at) => {
                let (n, _) = *self.open.get(at)?;
                self.open.remove(at);
                self.say(&format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{n}}}}}"#));
                assert!(self.questions.iter().all(|(_, of)| *of != n), "its questions are withdrawn");
                assert!(self.got.iter().all(|got| got.of != n), "its round is cancelled");
            }
            Step::Answer(at) | Step::Refuse(at) => {
                let (id, of) = self.questions.get(at)?.clone();
                self.questions.remove(at);
                let content = match step {
                    Step::Answer(_) => format!(r#""result":{{"of":{of},"to":{id}}}"#),
                    _ => r#""error":{"code":1,"message":"m"}"#.into(),
                };
                self.say(&format!(r#"{{"id":{id},{content}}}"#));
            }
            Step::Reply(at) | Step::Fail(at) | Step::Ask(at, _) | Step::Undelivered(at) => self.work(at, step)?,
            Step::Late => {
                let number = self.over.last()?.clone();
                let before = self.done;
                self.serve(&format!(r#"{{"id":{number},"result":{{"of":0}}}}"#));
                assert_eq!(self.done, before, "nothing comes of it");
            }
            Step::Acknowledge(brings) => self.acknowledge(brings)?,
            Step::End => {
                (!self.listens.is_empty()).then_some(())?;
                let number = self.listens.remove(0).number;
                self.over.push(number.clone());
                self.serve(&format!(r#"{{"id":{number},"result":{{}}}}"#));
            }
            Step::Update => self.update()?,
            Step::Lose => self.lose()?,
            Step::Restore => {
                (!self.is_there).then_some(())?;
                self.is_there = true;
                let mut out = Vec::new();
                self.bridge.restore(&mut out);
                self.take(out);
            }
            Step::Wait => {
                let mut out = Vec::new();
                self.now += Duration::from_secs(40);
                self.bridge.tick(self.now, &mut out);
                self.take(out);
            }
        }
        self.check();
        Some(())
    }

    fn ask_server(&mut self, method: &'static str) -> Option<()> {
        // While there is no server, those who own the bridge answer.
        (self.is_there || method != "tools/call").then_some(())?;
        self.last += 1;
        let n = self.last;
        let is_too_much = self.open.len() >= LIMITS.open;
        self.open.push((n, method));
        self.say(&format!(r#"{{"id":{n},"method":"{method}","params":{{"of":{n},"uri":"u"}}}}"#));
        assert!(!is_too_much || self.open.iter().all(|(open, _)| *open != n), "it is answered at once");
        Some(())
    }

    /// The server does something with a request that it has got.
    fn work(&mut self, at: usize, step: Step) -> Option<()> {
        let Got { number, of } = self.got.get(at)?.clone();
        self.got.remove(at);
        self.over.push(number.clone());
        match step {
            Step::Reply(_) => {
                self.serve(&format!(r#"{{"id":{number},"result":{{"resultType":"complete","of":{of}}}}}"#));
            }
            Step::Fail(_) => {
                self.serve(&format!(r#"{{"id":{number},"error":{{"code":5,"message":"m","data":{{"of":{of}}}}}}}"#));
            }
            Step::Ask(_, count) => {
                let one = |place| format!(r#""{place}":{{"method":"roots/list","params":{{"of":{of}}}}}"#);
                let wanted: Vec<_> = (0..count).map(one).collect();
                self.states.insert(of, format!("\"{number}\""));
                self.serve(&format!(
                    r#"{{"id":{number},"result":{{"resultType":"input_required","inputRequests":{{{}}},"requestState":"{number}"}}}}"#,
                    wanted.join(",")
                ));
            }
            _ => {
                let mut out = Vec::new();
                let sent = message(&format!(r#"{{"id":{number},"method":"tools/call"}}"#));
                self.bridge.undelivered(&sent, "stuck", &mut out);
                self.take(out);
                assert!(self.open.iter().all(|(n, _)| *n != of), "it is answered");
            }
        }
        Some(())
    }

    fn acknowledge(&mut self, brings: bool) -> Option<()> {
        let listen = self.listens.iter_mut().find(|listen| listen.brings.is_none())?;
        listen.brings = Some(brings && listen.wants);
        if listen.wants {
            self.is_revoked = !brings;
        }
        let uris = if brings && listen.wants { "\"u\"" } else { "" };
        let number = listen.number.clone();
        self.serve(&format!(
            r#"{{"method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{}":{number}}},"notifications":{{"resourceSubscriptions":[{uris}]}}}}}}"#,
            meta::SUBSCRIPTION_ID
        ));
        Some(())
    }

    /// What the client hears of an update: once, if the server tells of it at all.
    fn update(&mut self) -> Option<()> {
        let telling: Vec<_> = self.listens.iter().filter(|listen| listen.brings == Some(true)).cloned().collect();
        let before = self.updates;
        for listen in &telling {
            self.serve(&format!(
                r#"{{"method":"notifications/resources/updated","params":{{"_meta":{{"{}":{}}},"uri":"u"}}}}"#,
                meta::SUBSCRIPTION_ID,
                listen.number
            ));
        }
        assert_eq!(self.updates - before, telling.len().min(1), "it comes once");
        (!telling.is_empty()).then_some(())
    }

    fn lose(&mut self) -> Option<()> {
        self.is_there.then_some(())?;
        self.is_there = false;
        self.over.extend(self.got.drain(..).map(|got| got.number));
        self.over.extend(self.listens.drain(..).map(|listen| listen.number));
        let mut out = Vec::new();
        self.bridge.lose("lost", &mut out);
        self.take(out);
        assert_eq!((&self.open, &self.questions), (&vec![], &vec![]), "everything is answered and withdrawn");
        Some(())
    }

    fn say(&mut self, text: &str) {
        let mut out = Vec::new();
        self.bridge.from_client(message(text), &mut out);
        self.take(out);
    }

    fn serve(&mut self, text: &str) {
        let mut out = Vec::new();
        self.bridge.from_server(message(text), &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Crossed>) {
        for crossed in out {
            match crossed {
                Crossed::ToServer(message) => self.at_server(&message),
                Crossed::ToClient(message) => self.at_client(&message),
            }
            self.done += 1;
        }
    }

    fn at_server(&mut self, message: &Message) {
        assert!(self.is_there, "nothing goes to a server that is lost: {}", message.text());
        let value = |path: &[&str]| message.params().and_then(|params| member::value(params, path));
        match message.kind() {
            Is::Request { id, method } => {
                let number = id.as_json().to_owned();
                assert!(self.numbers.insert(number.clone()), "a number is used once");
                if &**method == "subscriptions/listen" {
                    let wants = value(&["notifications", "resourceSubscriptions"]).is_some();
                    self.listens.push(Listen { number, wants, brings: None });
                    assert!(self.listens.len() <= 2);
                    return;
                }
                let of: u64 = value(&["of"]).unwrap().parse().unwrap();
                assert!(self.open.iter().any(|(n, _)| *n == of), "the client waits for it");
                assert!(self.got.iter().all(|got| got.of != of), "it has no other round");
                assert_eq!(value(&["requestState"]), self.states.get(&of).map(String::as_str), "the latest state");
                let answers = value(&["inputResponses"]).and_then(member::members).unwrap_or_default();
                for (_, answer) in answers {
                    assert_eq!(member::value(answer, &["of"]), Some(&*of.to_string()), "another's answer");
                }
                self.got.push(Got { number, of });
            }
            Is::Notification { .. } => {
                let id = message.cancels().unwrap().as_json().to_owned();
                if let Some(at) = self.listens.iter().position(|listen| listen.number == id) {
                    self.listens.remove(at);
                } else {
                    let at = self.got.iter().position(|got| got.number == id).expect("it works on this");
                    let of = self.got.remove(at).of;
                    assert!(self.open.iter().all(|(n, _)| *n != of), "the client does not wait for it");
                }
                self.over.push(id);
            }
            Is::Response { .. } => panic!("nothing was asked: {}", message.text()),
        }
    }

    fn at_client(&mut self, message: &Message) {
        let text = message.text();
        match message.kind() {
            Is::Response { id } => {
                let id = id.as_ref().unwrap().as_json();
                let at = self.open.iter().position(|(n, _)| n.to_string() == id).expect("it waits for this");
                let (n, method) = self.open.remove(at);
                let of =
                    member::value(text, &["result", "of"]).or_else(|| member::value(text, &["error", "data", "of"]));
                assert!(of.is_none_or(|of| of == n.to_string()), "another's answer: {text}");
                assert!(!text.contains("resultType"));
                assert!(self.questions.iter().all(|(_, of)| *of != n), "its questions are withdrawn first");
                self.is_subscribed |= method == SUBSCRIBE && !message.is_error();
                self.is_subscribed &= method != UNSUBSCRIBE;
            }
            Is::Request { id, .. } => {
                let of: u64 = member::value(text, &["params", "of"]).unwrap().parse().unwrap();
                assert!(self.asked.insert(id.as_json().to_owned()), "each question has its own name");
                assert!(self.open.iter().any(|(n, _)| *n == of), "it waits for what this is about");
                assert_eq!(message.related().map(Id::as_json), Some(&*of.to_string()));
                self.questions.push((id.as_json().to_owned(), of));
            }
            Is::Notification { method } if &**method == "notifications/cancelled" => {
                let id = message.cancels().unwrap();
                let at = self.questions.iter().position(|(asked, _)| asked == id.as_json());
                self.questions.remove(at.expect("it was asked this"));
            }
            Is::Notification { .. } => {
                assert!(!text.contains("_meta"), "{text}");
                self.updates += 1;
            }
        }
    }

    /// What holds between any two steps.
    fn check(&self) {
        let bridge = &self.bridge;
        assert_eq!(bridge.open(), self.open.len());
        assert_eq!(bridge.questions.len(), self.questions.len());
        assert!(self.open.len() <= LIMITS.open && self.questions.len() <= LIMITS.open);
        for (n, _) in self.open.iter().filter(|(_, method)| *method == "tools/call") {
            let is_asked = self.questions.iter().any(|(_, of)| of == n);
            let is_at_server = self.got.iter().any(|got| got.of == *n);
            assert!(is_asked != is_at_server, "{n} is in one place");
        }
        assert!(self.listens.iter().filter(|listen| listen.brings.is_some()).count() <= 1);
        let is_coming = bridge.listening.next_time().is_some();
        let waits = self.open.iter().any(|(_, method)| *method == SUBSCRIBE);
        assert!(!waits || !self.is_there || is_coming, "nobody waits for what nobody does");
        let hears = self.listens.iter().any(|listen| listen.brings == Some(true));
        let misses = self.is_subscribed && !self.is_revoked && !hears;
        assert!(!misses || !self.is_there || is_coming, "it hears of what it subscribed to, or will");
        assert_eq!(self.listens.iter().any(|listen| listen.brings.is_none()), bridge.listening.is_asking());
    }
}

/// Every order of `depth` of these steps; at the end of each the server is lost.
fn search(world: &World, steps: &[Step], depth: usize, count: &mut usize) {
    *count += 1;
    if depth == 0 {
        let mut world = world.clone();
        if world.is_there {
            world.lose().unwrap();
        }
        return;
    }
    for step in steps {
        let mut next = world.clone();
        if next.step(*step).is_some() {
            search(&next, steps, depth - 1, count);
        }
    }
}

#[test]
fn in_every_order_each_request_is_answered_once() {
    use Step::{Answer, Ask, Cancel, Fail, Late, Lose, Refuse, Reply, Request, Restore, Undelivered};
    let mut count = 0;
    let steps = [
        Request,
        Cancel(0),
        Cancel(1),
        Answer(0),
        Answer(1),
        Refuse(0),
        Reply(0),
        Fail(1),
        Ask(0, 2),
        Ask(1, 1),
        Ask(0, 0),
        Undelivered(0),
        Late,
        Lose,
        Restore,
    ];
    let mut world = World::new();
    search(&world, &steps, 6, &mut count);
    for step in [Request, Request, Ask(0, 2)] {
        world.step(step).unwrap();
    }
    search(&world, &steps, 5, &mut count);
    assert!(count > 50_000, "{count}");
}

#[test]
fn in_every_order_what_is_subscribed_to_is_heard_of_once() {
    use Step::{Acknowledge, Cancel, End, Lose, Restore, Subscribe, Unsubscribe, Update, Wait};
    let mut count = 0;
    let steps =
        [Subscribe, Unsubscribe, Acknowledge(true), Acknowledge(false), Update, End, Cancel(0), Lose, Restore, Wait];
    let mut begun = World::new();
    begun.say(r#"{"method":"notifications/initialized"}"#);
    let mut subscribed = begun.clone();
    for step in [Acknowledge(false), Subscribe, Acknowledge(true)] {
        subscribed.step(step).unwrap();
    }
    for world in [World::new(), begun, subscribed] {
        search(&world, &steps, 5, &mut count);
    }
    assert!(count > 10_000, "{count}");
}

#[test]
fn a_long_walk_leaves_nothing_behind() {
    let mut world = World::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let mut done = 0;
    while done < 40_000 {
        let place = random(4);
        let step = match random(100) {
            0..25 => Step::Request,
            25..35 => Step::Reply(place),
            35..38 => Step::Fail(place),
            38..50 => Step::Ask(place, random(4)),
            50..70 => Step::Answer(place),
            70..72 => Step::Refuse(place),
            72..75 => Step::Cancel(place),
            75..77 => Step::Late,
            77..78 => Step::Undelivered(place),
            78..83 => Step::Subscribe,
            83..87 => Step::Unsubscribe,
            87..92 => Step::Acknowledge(random(4) > 0),
            92..93 => Step::End,
            93..97 => Step::Update,
            97..98 => Step::Wait,
            98 if random(20) == 0 => Step::Lose,
            _ => Step::Restore,
        };
        done += usize::from(world.step(step).is_some());
    }
    assert!(world.asked.len() > 2_000 && world.updates > 200, "{} {}", world.asked.len(), world.updates);
    let mut out = Vec::new();
    world.bridge.leave(&mut out);
    world.open.clear();
    world.questions.clear();
    world.take(out);
    assert!(world.got.is_empty() && world.listens.is_empty(), "everything is cancelled");
    assert_eq!(world.bridge.open(), 0);
    world.check();
}
