//! Clients that use the same ids, and a server that does what a server may do: every order of a few steps, and a long
//! walk at random.
//!
//! Each message says whose business it is (`of`) and which call it is about (`n`), so that one in the wrong hands is
//! seen at once. At the end of each order everybody does what is left to do, and nothing may be left then.

use super::super::*;
use super::{ALL, LIMITS, SECRET, SERVER, message, meta_of, settings};
use crate::protocol::member;
use crate::protocol::message::Kind as Is;
use std::collections::{BTreeMap, BTreeSet, HashSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Call(usize),
    /// The client goes on with the oldest of its parked calls and brings all answers.
    Repeat(usize),
    /// It does so without answers.
    Empty(usize),
    /// It does so with other params.
    Wrong(usize),
    /// It presents the handle that it used last.
    Replay(usize),
    /// It presents the handle of the other one's parked call, for a call of its own.
    Steal(usize),
    /// It cancels the oldest request that it waits for.
    Cancel(usize),
    /// It leaves, and comes back with another key: its parked calls are still its own.
    Leave(usize),
    /// The server answers the request at this place among those it has got.
    Reply(usize),
    Progress(usize),
    /// The server asks because of the request at this place, and its transport does not tell.
    Ask(usize),
    /// Its transport tells.
    AskOnStream(usize),
    /// It asks while it works on nothing.
    AskAnybody,
    /// It does not want the answer to its oldest question any more.
    Withdraw,
    /// Time passes until what is parked is too old.
    Expire,
    Lose,
    /// A server begins, or answers our `initialize`.
    Begin,
}

/// What a client knows of a call that it was asked something for.
#[derive(Debug, Clone)]
struct Parked {
    n: u64,
    state: String,
    names: Vec<String>,
}

#[derive(Debug, Clone)]
struct Client {
    key: u64,
    /// Who it is, whatever its key.
    who: u64,
    /// Its requests that are owed an answer: their ids and what they are about.
    open: BTreeMap<u64, u64>,
    parked: Vec<Parked>,
    used: Option<Parked>,
    last_id: u64,
    /// The ids of requests that must be refused.
    refused: BTreeSet<u64>,
}

/// A request that the server has got.
#[derive(Debug, Clone)]
struct Got {
    id: String,
    of: u64,
    n: u64,
    token: String,
    /// How many answers the server had given when it was cancelled.
    cancelled: Option<u64>,
}

#[derive(Debug, Clone)]
struct Asked {
    id: String,
    /// Nobody's if 0.
    of: u64,
}

#[derive(Debug, Clone, Default)]
struct Server {
    is_there: bool,
    has_begun: bool,
    ids: HashSet<String>,
    /// Calls that it has got.
    calls: HashSet<u64>,
    got: Vec<Got>,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone)]
struct World {
    hub: ToLegacy,
    clients: Vec<Client>,
    server: Server,
    n: u64,
    q: u64,
    keys: u64,
    now: Duration,
    delivered: usize,
    rounds: usize,
    answered: usize,
}

impl World {
    fn new(clients: u64, one_client: bool) -> Self {
        let mut hub = ToLegacy::new(LIMITS, settings(one_client), SECRET);
        let client = |key| {
            hub.join(Key(key), Kind::Modern);
            let (open, parked) = (BTreeMap::new(), Vec::new());
            Client { key, who: key, open, parked, used: None, last_id: 0, refused: BTreeSet::new() }
        };
        let all = (1..=clients).map(client).collect();
        let (server, now) = (Server::default(), Duration::ZERO);
        Self { hub, clients: all, server, n: 0, q: 0, keys: clients, now, delivered: 0, rounds: 0, answered: 0 }
    }

    fn up(clients: u64, one_client: bool) -> Self {
        let mut world = Self::new(clients, one_client);
        world.step(Step::Begin).unwrap();
        world.step(Step::Begin).unwrap();
        world
    }

    /// Does a step; `None` where it cannot be done.
    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Call(at) => {
                self.n += 1;
                self.request(at, self.n, "", false)?;
            }
            Step::Repeat(at) => self.repeat(at, true)?,
            Step::Empty(at) => self.repeat(at, false)?,
            Step::Wrong(at) => {
                self.room(at)?;
                let parked = self.take_parked(at)?;
                self.request(at, 1000 + parked.n, &format!(r#""requestState":"{}","#, parked.state), true)?;
            }
            Step::Replay(at) => {
                let used = self.clients[at].used.clone()?;
                self.request(at, used.n, &format!(r#""requestState":"{}","#, used.state), true)?;
            }
            Step::Steal(at) => {
                self.room(at)?;
                let other = (at + 1) % self.clients.len();
                let parked = self.take_parked(other)?;
                self.request(at, parked.n, &format!(r#""requestState":"{}","#, parked.state), true)?;
            }
            Step::Cancel(at) => {
                let id = self.clients[at].open.pop_first()?.0;
                self.say(at, &format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
            }
            Step::Leave(at) => self.leave(at),
            Step::Reply(at) => self.reply(at)?,
            Step::Progress(at) => {
                let Got { token, of, n, .. } = self.server.got.get(at).filter(|got| got.n > 0)?.clone();
                self.serve(&format!(
                    r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"of":{of},"n":{n}}}}}"#
                ));
            }
            Step::Ask(at) => self.ask(Some(at), false)?,
            Step::AskOnStream(at) => self.ask(Some(at), true)?,
            Step::AskAnybody => self.ask(None, false)?,
            Step::Withdraw => {
                let asked = (!self.server.asked.is_empty()).then(|| self.server.asked.remove(0))?;
                let id = asked.id;
                self.serve(&format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
            }
            Step::Expire => self.expire(),
            Step::Lose => self.lose()?,
            Step::Begin => self.begin()?,
        }
        self.check();
        Some(())
    }

    fn room(&self, at: usize) -> Option<()> {
        (self.clients[at].open.len() < LIMITS.open).then_some(())
    }

    /// A call of a client, which must be refused or not.
    fn request(&mut self, at: usize, n: u64, more: &str, is_refused: bool) -> Option<()> {
        self.room(at)?;
        let client = &mut self.clients[at];
        client.last_id += 1;
        let (id, who) = (client.last_id, client.who);
        client.open.insert(id, n);
        client.refused.extend(is_refused.then_some(id));
        let meta = meta_of(ALL, &format!(r#","progressToken":"{id}""#));
        let params = format!(r#"{{{more}"of":{who},"n":{n},{meta}}}"#);
        self.say(at, &format!(r#"{{"id":{id},"method":"tools/call","params":{params}}}"#));
        Some(())
    }

    fn take_parked(&mut self, at: usize) -> Option<Parked> {
        let client = self.clients.get_mut(at)?;
        (!client.parked.is_empty()).then(|| client.parked.remove(0))
    }

    fn repeat(&mut self, at: usize, brings: bool) -> Option<()> {
        self.room(at)?;
        let parked = self.take_parked(at)?;
        self.clients[at].used = Some(parked.clone());
        let who = self.clients[at].who;
        let answer = |name: &String| format!(r#""{name}":{{"of":{who}}}"#);
        let answers: Vec<_> = parked.names.iter().filter(|_| brings).map(answer).collect();
        let more = format!(r#""requestState":"{}","inputResponses":{{{}}},"#, parked.state, answers.join(","));
        self.request(at, parked.n, &more, false)
    }

    fn say(&mut self, at: usize, text: &str) {
        let mut out = Vec::new();
        self.hub.from_client(Key(self.clients[at].key), message(text), &mut out);
        self.take(out);
    }

    fn serve(&mut self, text: &str) {
        let mut out = Vec::new();
        self.hub.from_server(message(text), &mut out);
        self.take(out);
    }

    fn leave(&mut self, at: usize) {
        let mut out = Vec::new();
        self.keys += 1;
        let key = std::mem::replace(&mut self.clients[at].key, self.keys);
        self.clients[at].open.clear();
        self.hub.leave(Key(key), &mut out);
        self.hub.join(Key(self.keys), Kind::Modern);
        self.take(out);
    }

    fn reply(&mut self, at: usize) -> Option<()> {
        (self.server.has_begun && at < self.server.got.len()).then_some(())?;
        let Got { id, of, n, .. } = self.server.got.remove(at);
        self.serve(&format!(r#"{{"result":{{"of":{of},"n":{n}}},"id":{id}}}"#));
        Some(())
    }

    fn ask(&mut self, at: Option<usize>, tells: bool) -> Option<()> {
        let got = at.map(|at| self.server.got.get(at).cloned());
        let (of, n, related) = match got {
            Some(got) => got.map(|got| (got.of, got.n, got.id))?,
            None if self.server.has_begun && self.server.got.is_empty() => (0, 0, String::new()),
            None => return None,
        };
        self.q += 1;
        // The same ids in every process, and some that are alike.
        let id = if self.q.is_multiple_of(2) { format!("\"{}\"", self.q % 9) } else { (self.q % 9).to_string() };
        if self.server.asked.iter().any(|asked| asked.id == id) {
            return None;
        }
        self.server.asked.push(Asked { id: id.clone(), of });
        let mut asked =
            message(&format!(r#"{{"id":{id},"method":"elicitation/create","params":{{"of":{of},"n":{n}}}}}"#));
        if tells {
            asked = asked.with_related(&Id::from_json(&related)?);
        }
        let mut out = Vec::new();
        self.hub.from_server(asked, &mut out);
        self.take(out);
        Some(())
    }

    fn expire(&mut self) {
        self.now += settings(false).parked_age;
        let mut out = Vec::new();
        assert_eq!(self.hub.tick(self.now, &mut out), None);
        self.take(out);
        for client in &mut self.clients {
            client.parked.clear();
        }
        assert!(self.hub.parked.is_empty() && self.hub.held.is_empty());
    }

    fn lose(&mut self) -> Option<()> {
        self.server.is_there.then_some(())?;
        self.server = Server::default();
        let mut out = Vec::new();
        self.hub.lose("lost", &mut out);
        self.take(out);
        for client in &mut self.clients {
            assert!(client.open.is_empty(), "each open request is answered");
            client.parked.clear();
        }
        Some(())
    }

    fn begin(&mut self) -> Option<()> {
        if !self.server.is_there {
            self.server.is_there = true;
            let mut out = Vec::new();
            self.hub.begin(&mut out);
            self.take(out);
            return Some(());
        }
        (!self.server.has_begun).then_some(())?;
        let id = self.server.got.remove(0).id;
        self.serve(&format!(r#"{{"id":{id},"result":{{"capabilities":{SERVER}}}}}"#));
        assert!(self.server.has_begun);
        Some(())
    }

    fn take(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::ToServer(message) => self.at_server(&message),
                Action::ToClient(Key(key), message) => {
                    self.delivered += 1;
                    let at = self.clients.iter().position(|client| client.key == key);
                    self.at_client(at.expect("nothing goes to one that has left"), &message);
                }
            }
        }
    }

    fn at_server(&mut self, message: &Message) {
        let server = &mut self.server;
        assert!(server.is_there, "nothing goes to a server that is lost: {}", message.text());
        let value = |name: &str| message.params().and_then(|params| member::value(params, &[name]));
        let number = |name: &str| value(name).map_or(0, |value| value.parse::<u64>().unwrap());
        match message.kind() {
            Is::Request { id, method } => {
                assert!(server.ids.insert(id.as_json().to_owned()), "an id is used once");
                assert_eq!(server.has_begun, &**method != "initialize");
                let (of, n) = (number("of"), number("n"));
                assert!(n < 1000 && server.calls.insert(n), "a call is sent once: {}", message.text());
                assert!(!message.text().contains("modelcontextprotocol") && value("requestState").is_none());
                let token = message.progress_token().map_or(String::new(), |token| token.as_json().to_owned());
                server.got.push(Got { id: id.as_json().to_owned(), of, n, token, cancelled: None });
            }
            Is::Notification { method } if &**method == "notifications/initialized" => server.has_begun = true,
            Is::Notification { method } => {
                assert_eq!(&**method, "notifications/cancelled");
                let id = message.cancels().unwrap();
                let got = server.got.iter_mut().find(|got| got.id == id.as_json()).expect("it is open");
                let owner = self.clients.iter().find(|client| client.who == got.of).unwrap();
                assert!(!owner.open.values().any(|n| *n == got.n), "its client wants it");
                assert!(got.cancelled.replace(self.hub.answers).is_none(), "it is cancelled once");
            }
            Is::Response { id } => {
                let id = id.as_ref().unwrap().as_json();
                let at = server.asked.iter().position(|asked| asked.id == id).expect("it was asked, and once");
                let asked = server.asked.remove(at);
                let said = member::value(message.text(), &["result", "of"]);
                let is_right = said.is_none_or(|said| asked.of == 0 || said == asked.of.to_string());
                assert!(is_right, "another's answer: {}", message.text());
                self.answered += usize::from(said.is_some());
            }
        }
    }

    fn at_client(&mut self, at: usize, message: &Message) {
        let is_one_client = self.hub.settings.one_client;
        let client = &mut self.clients[at];
        let text = message.text();
        let number = |path: &[&str]| member::value(text, path).and_then(|value| value.parse::<u64>().ok());
        let Is::Response { id } = message.kind() else {
            assert_eq!(message.method(), Some("notifications/progress"));
            let id: u64 = member::string(text, &["params", "progressToken"]).unwrap().parse().unwrap();
            assert_eq!(client.open.get(&id).copied(), number(&["params", "n"]), "it does not wait for this");
            assert_eq!(number(&["params", "of"]), Some(client.who));
            return;
        };
        let id = id.as_ref().unwrap().as_json().parse().unwrap();
        let n = client.open.remove(&id).expect("it is owed an answer");
        let is_refused = client.refused.remove(&id);
        if let Some(of) = number(&["result", "of"]) {
            assert_eq!((Some(of), number(&["result", "n"])), (Some(client.who), Some(n)), "{text}");
            assert!(!is_refused, "it must be refused");
        } else if let Some(state) = member::string(text, &["result", "requestState"]) {
            let asks = member::members(member::value(text, &["result", "inputRequests"]).unwrap()).unwrap();
            for (_, ask) in &asks {
                let about = |name: &str| member::value(ask, &["params", name]).unwrap().parse::<u64>().unwrap();
                let is_right = about("of") == client.who && (is_one_client || about("n") == n);
                assert!(about("of") == 0 || is_right, "another's question: {text}");
            }
            assert!(!asks.is_empty() && !is_refused);
            let names = asks.into_iter().map(|(name, _)| name.into_owned()).collect();
            client.parked.push(Parked { n, state, names });
            self.rounds += 1;
        } else if !text.contains("lost") && !text.contains("too much waits") {
            assert_eq!((message.error_code(), is_refused), (Some(-32602), true), "{text}");
        }
    }

    /// What holds between any two steps.
    fn check(&mut self) {
        let hub = &self.hub;
        let settings = settings(false);
        assert!(hub.parked.len() <= settings.most_parked && hub.kept_bytes() <= settings.parked_bytes);
        assert!(hub.ghosts.len() <= LIMITS.open * LINK_FACTOR);
        hub.waiting.check();
        for client in &self.clients {
            assert!(hub.clients.contains_key(&Key(client.key)), "{client:?}");
            assert_eq!(hub.unanswered(Key(client.key)), client.open.len(), "{client:?}");
        }
        let known = self.clients.iter().map(|client| client.parked.len()).sum::<usize>();
        assert_eq!(hub.parked(), known, "each handle is known to one client");
        let (parked, open): (Vec<_>, Vec<_>) = hub.calls.values().partition(|call| call.is_parked());
        assert_eq!(parked.len(), hub.parked());
        assert!(open.iter().all(|call| call.questions.is_empty()));
        let questions = parked.iter().map(|call| call.questions.len()).sum::<usize>() + hub.held.len();
        assert_eq!(questions, self.server.asked.len(), "each question is kept until it is answered");
        assert!(questions <= LIMITS.open * LINK_FACTOR);
        // A server that obeys does not ask for a request that it was told of so long ago.
        let answers = hub.answers;
        self.server.got.retain(|got| got.cancelled.is_none_or(|at| answers - at < GHOST_ANSWERS));
    }

    /// Everybody does what is left to do: nothing is left.
    fn settle(mut self) {
        while !self.server.has_begun {
            self.step(Step::Begin).unwrap();
        }
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for at in 0..self.clients.len() {
                goes_on |= self.step(Step::Repeat(at)).is_some();
            }
            self.server.got.retain(|got| got.cancelled.is_none());
            goes_on |= self.step(Step::Reply(0)).is_some();
        }
        for client in &self.clients {
            assert!(client.open.is_empty() && client.parked.is_empty(), "{client:?}");
        }
        assert!(self.hub.calls.is_empty() && self.hub.parked.is_empty());
        self.step(Step::Expire).unwrap();
        assert!(self.server.asked.is_empty(), "each question is answered");
        self.step(Step::Lose).unwrap();
        let mut out = Vec::new();
        for client in &self.clients {
            self.hub.leave(Key(client.key), &mut out);
        }
        assert!(out.is_empty() && self.hub.clients.is_empty() && self.hub.waiting.messages().next().is_none());
    }
}

/// Every order of up to `depth` of these steps.
fn search(world: &World, steps: &[Step], depth: usize, count: &mut usize) {
    *count += 1;
    if depth == 0 {
        world.clone().settle();
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
fn in_every_order_each_question_finds_its_call() {
    use Step::{Ask, AskOnStream, Call, Cancel, Empty, Leave, Repeat, Reply, Withdraw};
    let mut count = 0;
    let steps =
        [Call(0), Call(1), Repeat(0), Empty(0), Cancel(0), Leave(0), Reply(0), Ask(0), AskOnStream(1), Withdraw];
    let mut busy = World::up(2, false);
    for step in [Call(0), Call(1)] {
        busy.step(step).unwrap();
    }
    search(&World::up(2, false), &steps, 5, &mut count);
    search(&busy, &steps, 4, &mut count);
    assert!(count > 4_000, "{count}");
}

#[test]
fn in_every_order_a_handle_is_good_once() {
    use Step::{AskOnStream, Call, Expire, Leave, Repeat, Replay, Reply, Steal, Wrong};
    let mut count = 0;
    let mut world = World::up(2, false);
    for step in [Call(0), Call(1), AskOnStream(0)] {
        world.step(step).unwrap();
    }
    let steps = [
        Repeat(0),
        Replay(0),
        Wrong(0),
        Steal(1),
        Repeat(1),
        AskOnStream(0),
        AskOnStream(1),
        Reply(0),
        Leave(1),
        Expire,
    ];
    search(&world, &steps, 5, &mut count);
    assert!(count > 5_000, "{count}");
}

#[test]
fn in_every_order_what_nobody_was_asked_is_asked_first() {
    use Step::{AskAnybody, Begin, Call, Expire, Leave, Lose, Progress, Repeat, Reply, Withdraw};
    let mut count = 0;
    let steps =
        [Call(0), Call(1), AskAnybody, Withdraw, Repeat(0), Progress(0), Reply(0), Leave(0), Expire, Lose, Begin];
    for world in [World::up(2, false), World::new(2, false)] {
        search(&world, &steps, 5, &mut count);
    }
    assert!(count > 10_000, "{count}");
}

#[test]
fn in_every_order_one_client_with_many_calls_gets_on() {
    use Step::{Ask, AskAnybody, Call, Cancel, Empty, Expire, Repeat, Reply, Withdraw};
    let mut count = 0;
    let steps = [Call(0), Repeat(0), Empty(0), Cancel(0), Reply(0), Ask(0), Ask(1), AskAnybody, Withdraw, Expire];
    search(&World::up(1, true), &steps, 5, &mut count);
    assert!(count > 1_000, "{count}");
}

#[test]
fn a_long_walk_leaves_nothing_behind() {
    let mut world = World::up(5, false);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut done, mut losses) = (0, 0);
    while done < 30_000 {
        let (client, place) = (random(5), random(6));
        let step = match random(1000) {
            0..200 => Step::Call(client),
            200..400 => Step::Reply(place),
            400..600 => Step::Repeat(client),
            600..640 => Step::Empty(client),
            640..650 => Step::Wrong(client),
            650..660 => Step::Replay(client),
            660..665 => Step::Steal(client),
            665..700 => Step::Cancel(client),
            700..740 => Step::Progress(place),
            740..800 => Step::Ask(place),
            800..900 => Step::AskOnStream(place),
            900..920 => Step::AskAnybody,
            920..950 => Step::Withdraw,
            950..970 => Step::Leave(client),
            970..972 => Step::Expire,
            972..974 => Step::Lose,
            _ => Step::Begin,
        };
        if world.n > 990 {
            world.n = 0; // a new server has got none of them yet
            world.step(Step::Lose);
        }
        done += usize::from(world.step(step).is_some());
        losses += usize::from(step == Step::Lose);
    }
    assert!(world.delivered > 5_000 && losses > 10, "{} {losses}", world.delivered);
    assert!(world.rounds > 500 && world.answered > 500, "{} {}", world.rounds, world.answered);
    world.settle();
}
