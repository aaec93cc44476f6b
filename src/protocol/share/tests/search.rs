//! Clients that all use the same ids and tokens, and a server that does what a server may do: every order of a few
//! steps, and a long walk at random.
//!
//! Each message says whose business it is (`of`), so that one in the wrong hands is seen at once.

use super::super::*;
use super::{LIMITS, SECRET, message};
use crate::protocol::member;
use crate::protocol::message::Kind as Is;
use std::collections::HashSet;

const TOKEN: &str = r#""t""#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Request(usize),
    /// The client cancels a request, the first that is open.
    Cancel(usize),
    /// It answers the oldest question it was asked.
    Answer(usize),
    /// It answers with an id that it never got.
    Forge(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    SetLevel(usize, usize),
    /// It leaves, and another client takes its place.
    Leave(usize),
    /// The server answers the request at this place among those it has got.
    Reply(usize),
    Progress(usize),
    /// The server asks whoever made the request at this place.
    Ask(usize),
    /// It does not want the answer to its oldest question any more.
    Withdraw,
    Update,
    Log(usize),
    Lose,
    /// A server begins, or answers our `initialize`.
    Begin,
}

#[derive(Debug, Clone)]
struct Client {
    key: u64,
    kind: Kind,
    id: &'static str,
    /// Requests that are owed an answer, and those that were cancelled.
    open: Vec<u64>,
    cancelled: Vec<u64>,
    questions: Vec<String>,
    /// Requests that we may answer ourselves, and that have not come to the server.
    ours: Vec<u64>,
    /// It has asked for updates, by which requests, and whether it knows that it gets them.
    wants_updates: bool,
    subscribing: Vec<u64>,
    gets_updates: bool,
    /// The level that was set last, if it knows which, by which request; and the levels it has asked for.
    level: Option<(u64, Option<usize>)>,
    levels: Vec<(u64, usize)>,
}

/// A request that the server has got.
#[derive(Debug, Clone)]
struct Got {
    id: String,
    of: u64,
    n: u64,
    token: Option<String>,
    /// How many answers the server had given when it was cancelled.
    cancelled: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Server {
    is_there: bool,
    has_begun: bool,
    ids: HashSet<String>,
    got: Vec<Got>,
    asked: Vec<(String, u64)>,
    is_subscribed: bool,
    level: usize,
}

#[derive(Debug, Clone)]
struct World {
    share: Share,
    clients: Vec<Client>,
    server: Server,
    /// The last marker of a message.
    n: u64,
    /// The last question of the server, over all processes.
    q: u64,
    keys: u64,
    delivered: usize,
}

impl World {
    fn new(kinds: &[Kind]) -> Self {
        let mut world = Self {
            share: Share::new(LIMITS, SECRET),
            clients: Vec::new(),
            server: Server::default(),
            n: 0,
            q: 0,
            keys: 0,
            delivered: 0,
        };
        for kind in kinds {
            let client = world.join(*kind);
            world.clients.push(client);
        }
        world
    }

    /// A client that has begun as far as it could.
    fn join(&mut self, kind: Kind) -> Client {
        self.keys += 1;
        self.share.join(Key(self.keys), kind);
        Client {
            key: self.keys,
            kind,
            id: if self.keys.is_multiple_of(3) { "1.0" } else { "1" },
            open: Vec::new(),
            cancelled: Vec::new(),
            questions: Vec::new(),
            ours: Vec::new(),
            wants_updates: false,
            subscribing: Vec::new(),
            gets_updates: false,
            level: None,
            levels: Vec::new(),
        }
    }

    /// Does a step; `None` where it cannot be done.
    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Request(at) => self.request(at, "m", ""),
            Step::Cancel(at) => self.cancel(at)?,
            Step::Answer(at) => {
                let client = self.clients.get_mut(at).filter(|client| !client.questions.is_empty())?;
                let (key, id) = (client.key, client.questions.remove(0));
                self.say(at, &format!(r#"{{"id":{id},"result":{{"of":{key}}}}}"#));
            }
            Step::Forge(at) => {
                for number in 1..=self.share.last {
                    if !self.clients[at].questions.contains(&number.to_string()) {
                        self.say(at, &format!(r#"{{"id":{number},"result":{{"of":"forged"}}}}"#));
                    }
                }
            }
            Step::Subscribe(at) => {
                self.clients[at].wants_updates = true;
                self.clients[at].subscribing.push(self.n + 1);
                self.request(at, "resources/subscribe", r#""uri":"u","#);
            }
            Step::Unsubscribe(at) => {
                let client = &mut self.clients[at];
                (self.server.has_begun && client.open.len() < LIMITS.open).then_some(())?;
                (client.wants_updates, client.gets_updates) = (false, false);
                client.subscribing.clear();
                client.ours.push(self.n + 1);
                self.request(at, "resources/unsubscribe", r#""uri":"u","#);
            }
            Step::SetLevel(at, level) => {
                let name = ["debug", "info", "notice", "warning"].get(level)?;
                self.clients[at].levels.push((self.n + 1, level));
                self.clients[at].ours.push(self.n + 1);
                self.request(at, "logging/setLevel", &format!(r#""level":"{name}","#));
            }
            Step::Leave(at) => {
                let mut out = Vec::new();
                let (key, kind) = (self.clients[at].key, self.clients[at].kind);
                self.clients[at] = self.join(kind);
                self.share.leave(Key(key), &mut out);
                self.take(out);
            }
            Step::Reply(at) => self.reply(at)?,
            Step::Progress(at) => {
                let got = self.server.got.get(at)?.clone();
                let token = got.token?;
                self.serve(&format!(
                    r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"of":{}}}}}"#,
                    got.of
                ));
            }
            Step::Ask(at) => {
                let of = self.server.got.get(at)?.of;
                (of != 0).then_some(())?; // a request of ours is nobody's
                self.q += 1;
                // The same ids in every process, and some that are alike.
                let id =
                    if self.q.is_multiple_of(2) { format!("\"{}\"", self.q % 9) } else { (self.q % 9).to_string() };
                if self.server.asked.iter().any(|(known, _)| *known == id) {
                    return None;
                }
                self.server.asked.push((id.clone(), of));
                self.serve(&format!(r#"{{"id":{id},"method":"q","params":{{"of":{of}}}}}"#));
            }
            Step::Withdraw => {
                let (id, of) = (!self.server.asked.is_empty()).then(|| self.server.asked.remove(0))?;
                self.serve(&format!(
                    r#"{{"method":"notifications/cancelled","params":{{"requestId":{id},"of":{of}}}}}"#
                ));
            }
            Step::Update => self.update()?,
            Step::Log(level) => self.log(level)?,
            Step::Lose => self.lose()?,
            Step::Begin => self.begin()?,
        }
        self.check();
        Some(())
    }

    fn say(&mut self, at: usize, text: &str) {
        let mut out = Vec::new();
        self.share.from_client(Key(self.clients[at].key), message(text), &mut out);
        self.take(out);
    }

    fn serve(&mut self, text: &str) {
        let mut out = Vec::new();
        self.share.from_server(message(text), &mut out);
        self.take(out);
    }

    fn request(&mut self, at: usize, method: &str, params: &str) {
        self.n += 1;
        let (n, client) = (self.n, &mut self.clients[at]);
        let (key, id) = (client.key, client.id);
        client.open.push(n);
        self.say(
            at,
            &format!(
                r#"{{"id":{id},"method":"{method}","params":{{{params}"of":{key},"n":{n},"_meta":{{"progressToken":{TOKEN}}}}}}}"#
            ),
        );
    }

    fn cancel(&mut self, at: usize) -> Option<()> {
        let client = &mut self.clients[at];
        // Which of several with the same id is meant nobody can tell; the first is taken.
        let n = (!client.open.is_empty()).then(|| client.open.remove(0))?;
        client.cancelled.push(n);
        client.ours.retain(|of| *of != n);
        if client.levels.iter().any(|(of, _)| *of == n) {
            client.levels.retain(|(of, _)| *of != n);
            client.level = Some((n, None));
        }
        let id = client.id;
        self.say(at, &format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
        Some(())
    }

    fn reply(&mut self, at: usize) -> Option<()> {
        if at >= self.server.got.len() {
            return None;
        }
        let Got { id, of, n, .. } = self.server.got.remove(at);
        self.serve(&format!(r#"{{"result":{{"of":{of},"n":{n}}},"id":{id}}}"#));
        Some(())
    }

    fn update(&mut self) -> Option<()> {
        self.server.is_subscribed.then_some(())?;
        let wanting = self.clients.iter().filter(|client| client.gets_updates && client.kind == Kind::Session).count();
        let before = self.delivered;
        self.serve(r#"{"method":"notifications/resources/updated","params":{"uri":"u"}}"#);
        assert!(self.delivered - before >= wanting, "everybody who subscribed hears of it");
        Some(())
    }

    fn log(&mut self, level: usize) -> Option<()> {
        let name = ["debug", "info", "notice", "warning"].get(level)?;
        self.serve(&format!(r#"{{"method":"notifications/message","params":{{"level":"{name}","at":{level}}}}}"#));
        Some(())
    }

    fn lose(&mut self) -> Option<()> {
        self.server.is_there.then_some(())?;
        self.server = Server::default();
        let mut out = Vec::new();
        self.share.lose("lost", &mut out);
        self.take(out);
        for client in &mut self.clients {
            assert!(client.open.is_empty(), "each open request is answered");
            assert!(client.questions.is_empty(), "each question is withdrawn");
            client.cancelled.clear();
            client.levels.clear();
            client.subscribing.clear();
            client.ours.clear();
            client.wants_updates = client.gets_updates;
        }
        Some(())
    }

    fn begin(&mut self) -> Option<()> {
        if !self.server.is_there {
            self.server.is_there = true;
            let mut out = Vec::new();
            self.share.begin(&mut out);
            self.take(out);
            return Some(());
        }
        (!self.server.has_begun).then_some(())?;
        let id = self.server.got.remove(0).id;
        self.serve(&format!(r#"{{"id":{id},"result":{{"protocolVersion":"2025-11-25"}}}}"#));
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
                match &**method {
                    "resources/subscribe" => server.is_subscribed = true,
                    "resources/unsubscribe" => server.is_subscribed = false,
                    "logging/setLevel" => {
                        let levels = [r#""debug""#, r#""info""#, r#""notice""#, r#""warning""#];
                        server.level = levels.iter().position(|known| Some(*known) == value("level")).unwrap();
                    }
                    _ => {}
                }
                let token = message.progress_token().map(|token| token.as_json().to_owned());
                assert!(token.as_ref().is_none_or(|token| token != TOKEN));
                let id = id.as_json().to_owned();
                let (of, n) = (number("of"), number("n"));
                for client in self.clients.iter_mut().filter(|client| client.key == of) {
                    client.ours.retain(|ours| *ours != n);
                }
                server.got.push(Got { id, of, n, token, cancelled: None });
            }
            Is::Notification { method } if &**method == "notifications/initialized" => server.has_begun = true,
            Is::Notification { method } => {
                assert_eq!(&**method, "notifications/cancelled");
                let id = message.cancels().unwrap();
                let answers = self.share.answers;
                let got = server.got.iter_mut().find(|got| got.id == id.as_json()).expect("it is open");
                let owner = self.clients.iter().find(|client| client.key == got.of);
                assert!(owner.is_none_or(|owner| owner.cancelled.contains(&got.n)), "its client wants it");
                got.cancelled = Some(answers);
            }
            Is::Response { id } => {
                let id = id.as_ref().unwrap().as_json();
                let at = server.asked.iter().position(|(asked, _)| asked == id).expect("it was asked");
                let (_, of) = server.asked.remove(at);
                let said = member::value(message.text(), &["result", "of"]);
                assert!(said.is_none_or(|said| said == of.to_string()), "another's answer: {}", message.text());
            }
        }
    }

    fn at_client(&mut self, at: usize, message: &Message) {
        let client = &mut self.clients[at];
        let text = message.text();
        let of = |path: &[&str]| {
            if let Some(of) = member::value(text, path) {
                assert_eq!(of, client.key.to_string(), "it is another's: {text}");
            }
        };
        of(&["params", "of"]);
        of(&["result", "of"]);
        match message.kind() {
            Is::Response { id } => {
                assert_eq!(id.as_ref().unwrap().as_json(), client.id);
                match member::value(text, &["result", "n"]).map(|n| n.parse::<u64>().unwrap()) {
                    Some(n) => {
                        let open = client.open.iter().position(|open| *open == n);
                        let cancelled = client.cancelled.iter().position(|open| *open == n);
                        assert!(open.is_some() || cancelled.is_some(), "it was answered already");
                        client.open.retain(|open| *open != n);
                        client.cancelled.retain(|open| *open != n);
                        client.note_answer(n);
                    }
                    // Ours: because of a loss, or it changed nothing, or it was one too many.
                    None if text.contains("lost") => drop(client.open.remove(0)),
                    None if text.contains("result") => {
                        let n = client.ours.remove(0);
                        client.open.retain(|open| *open != n);
                        client.note_answer(n);
                    }
                    None => {
                        assert!(text.contains("too m"), "{text}");
                        let n = client.open.pop().unwrap();
                        client.levels.retain(|(of, _)| *of != n);
                        client.ours.retain(|of| *of != n);
                    }
                }
            }
            Is::Request { id, .. } => client.questions.push(id.as_json().to_owned()),
            Is::Notification { method } => match &**method {
                "notifications/progress" => {
                    assert_eq!(member::value(text, &["params", "progressToken"]), Some(TOKEN));
                }
                "notifications/cancelled" => {
                    let id = message.cancels().unwrap();
                    let asked = client.questions.iter().position(|asked| asked == id.as_json());
                    client.questions.remove(asked.expect("it was asked this"));
                }
                "notifications/resources/updated" => assert!(client.wants_updates, "it ended this"),
                "notifications/message" => {
                    let level: usize = member::value(text, &["params", "at"]).unwrap().parse().unwrap();
                    let set = client.level.and_then(|(_, set)| set).filter(|_| client.levels.is_empty());
                    assert!(set.is_none_or(|set| level >= set), "it is too verbose: {text}");
                }
                _ => panic!("{text}"),
            },
        }
    }

    /// What holds between any two steps.
    fn check(&mut self) {
        let share = &self.share;
        let open: usize = share.members.values().map(|member| member.open.len()).sum();
        assert_eq!(share.owners.len(), open);
        assert!(share.questions.len() <= LIMITS.open * LINK_FACTOR && share.ghosts.len() <= LIMITS.open * LINK_FACTOR);
        share.waiting.check();
        for (key, member) in &share.members {
            assert_eq!(member.cancelled, member.open.values().filter(|open| open.is_cancelled).count());
            assert!(share.unanswered(*key) <= LIMITS.open && member.cancelled <= LIMITS.open);
        }
        for client in &self.clients {
            assert!(share.members.contains_key(&Key(client.key)), "{client:?}");
            assert_eq!(share.unanswered(Key(client.key)), client.open.len(), "{client:?}");
        }
        // A server that obeys does not ask for a request that it was told of so long ago.
        let answers = self.share.answers;
        self.server.got.retain(|got| got.cancelled.is_none_or(|at| answers - at < GHOST_ANSWERS));
        if self.server.has_begun {
            let sessions = || self.clients.iter().filter(|client| client.kind == Kind::Session);
            assert!(self.server.is_subscribed || !sessions().any(|client| client.gets_updates), "an update is missed");
            for client in sessions().filter(|client| client.levels.is_empty()) {
                let set = client.level.and_then(|(_, set)| set);
                assert!(set.is_none_or(|set| self.server.level <= set), "a log message is missed");
            }
        }
    }
}

impl Client {
    fn note_answer(&mut self, n: u64) {
        self.gets_updates |= self.wants_updates && self.subscribing.contains(&n);
        if let Some(at) = self.levels.iter().position(|(of, _)| *of == n) {
            let (of, level) = self.levels.remove(at);
            if self.level.is_none_or(|(last, _)| last < of) {
                self.level = Some((of, Some(level)));
            }
        }
    }
}

/// Every order of `depth` of these steps; at the end of each the server is lost.
fn search(world: &World, steps: &[Step], depth: usize, count: &mut usize) {
    *count += 1;
    if depth == 0 {
        world.clone().lose();
        return;
    }
    for step in steps {
        let mut next = world.clone();
        if next.step(*step).is_some() {
            search(&next, steps, depth - 1, count);
        }
    }
}

fn up(kinds: &[Kind]) -> World {
    let mut world = World::new(kinds);
    world.step(Step::Begin).unwrap();
    world.step(Step::Begin).unwrap();
    world
}

#[test]
fn in_every_order_each_gets_its_own() {
    use Step::{Answer, Ask, Cancel, Forge, Leave, Progress, Reply, Request};
    let mut count = 0;
    for kinds in [[Kind::Session; 2], [Kind::Stateless; 2], [Kind::Session, Kind::Stateless]] {
        let steps = [
            Request(0),
            Request(1),
            Cancel(0),
            Leave(1),
            Reply(0),
            Reply(1),
            Progress(1),
            Ask(0),
            Ask(1),
            Answer(0),
            Answer(1),
            Forge(0),
        ];
        search(&up(&kinds), &steps, 5, &mut count);
    }
    assert!(count > 20_000, "{count}");
}

#[test]
fn in_every_order_three_with_the_same_ids_are_kept_apart() {
    use Step::{Answer, Ask, Begin, Leave, Lose, Reply, Request};
    let mut count = 0;
    let steps = [Request(0), Request(1), Request(2), Reply(0), Reply(2), Ask(1), Answer(1), Leave(0), Lose, Begin];
    for world in [up(&[Kind::Session; 3]), World::new(&[Kind::Session; 3])] {
        search(&world, &steps, 5, &mut count);
    }
    assert!(count > 10_000, "{count}");
}

#[test]
fn in_every_order_subscriptions_are_kept() {
    use Step::{Begin, Leave, Lose, Reply, Subscribe, Unsubscribe, Update};
    let mut count = 0;
    let steps = [Subscribe(0), Subscribe(1), Unsubscribe(0), Unsubscribe(1), Reply(0), Update, Leave(0), Lose, Begin];
    search(&up(&[Kind::Session; 2]), &steps, 5, &mut count);
    assert!(count > 5_000, "{count}");
}

#[test]
fn in_every_order_levels_are_kept() {
    use Step::{Begin, Leave, Log, Lose, Reply, SetLevel};
    let mut count = 0;
    let steps = [SetLevel(0, 1), SetLevel(1, 2), SetLevel(0, 3), Reply(0), Log(1), Log(2), Leave(0), Lose, Begin];
    search(&up(&[Kind::Session; 2]), &steps, 5, &mut count);
    assert!(count > 5_000, "{count}");
}

#[test]
fn a_long_walk_leaves_nothing_behind() {
    let kinds = [Kind::Session, Kind::Session, Kind::Session, Kind::Stateless, Kind::Stateless];
    let mut world = World::new(&kinds);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut done, mut losses) = (0, 0);
    while done < 100_000 {
        let (client, session, place) = (random(5), random(3), random(6));
        let step = match random(1000) {
            0..300 => Step::Request(client),
            300..560 => Step::Reply(place),
            560..640 => Step::Progress(place),
            640..720 => Step::Ask(place),
            720..800 => Step::Answer(client),
            800..840 => Step::Cancel(client),
            840..850 if world.share.last < 300 => Step::Forge(session),
            850..870 => Step::Withdraw,
            870..890 => Step::Subscribe(session),
            890..905 => Step::Unsubscribe(session),
            905..925 => Step::SetLevel(session, random(4)),
            925..945 => Step::Update,
            945..965 => Step::Log(random(4)),
            965..980 => Step::Leave(client),
            980..982 => Step::Lose,
            _ => Step::Begin,
        };
        done += usize::from(world.step(step).is_some());
        losses += usize::from(step == Step::Lose);
    }
    assert!(world.delivered > 20_000 && losses > 20, "{} {losses}", world.delivered);
    world.step(Step::Lose);
    let mut out = Vec::new();
    for client in &world.clients {
        world.share.leave(Key(client.key), &mut out);
    }
    let share = &world.share;
    assert!(share.members.is_empty() && share.owners.is_empty() && share.questions.is_empty());
    assert!(
        share.waiting.messages().next().is_none() && share.subscriptions.all().is_empty() && share.ghosts.is_empty()
    );
}
