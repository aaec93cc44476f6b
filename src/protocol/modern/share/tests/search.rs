//! Clients that all use the same ids and tokens, and a server that does what a server may do: every order of a few
//! steps, and a long walk at random.
//!
//! Each message says whose business it is (`of`) and which request's (`n`), so that one in the wrong hands is seen at
//! once.

use super::super::*;
use super::{LIMITS, message};
use crate::protocol::member;
use crate::protocol::message::Kind as Is;
use std::collections::HashSet;

const TOKEN: &str = r#""t""#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Request(usize),
    /// A request that asks for log messages.
    Logged(usize),
    Listen(usize),
    /// The client cancels its first request.
    Cancel(usize),
    /// It leaves, and another client takes its place.
    Leave(usize),
    /// The server answers the request at this place among those it has got.
    Reply(usize),
    Progress(usize),
    /// It says something on the subscription at this place.
    Update(usize),
    /// It ends that subscription; a result may still follow.
    End(usize),
    /// It says something about the request at this place, without a word on which it is.
    Log(usize),
    Whisper(usize),
    /// It says something on the stream of that request's answer.
    Stream(usize),
    /// It asks something, which it must not.
    Ask,
    Lose,
    Finish,
    /// A server begins, or answers the `server/discover`.
    Begin,
}

#[derive(Debug, Clone)]
struct Client {
    key: u64,
    id: &'static str,
    open: Vec<Asked>,
    /// The subscription that the server has just ended.
    ended: Option<u64>,
}

/// A request that its client waits for.
#[derive(Debug, Clone)]
struct Asked {
    n: u64,
    is_listen: bool,
    /// The server has got it.
    is_sent: bool,
}

/// A request that the server has got.
#[derive(Debug, Clone)]
struct Got {
    id: String,
    of: u64,
    n: u64,
    token: Option<String>,
    is_listen: bool,
    wants_log: bool,
    /// The server has ended it itself.
    is_ended: bool,
    /// How many answers the server had given when it was cancelled.
    cancelled: Option<u64>,
}

#[derive(Debug, Clone)]
struct World {
    share: Share,
    clients: Vec<Client>,
    /// What the server has got; `None` where there is no server.
    server: Option<Vec<Got>>,
    ids: HashSet<String>,
    /// The last marker of a message.
    n: u64,
    keys: u64,
    delivered: usize,
    /// This side ends the link.
    is_finishing: bool,
}

impl World {
    fn new(clients: usize) -> Self {
        let mut world = Self {
            share: Share::new(LIMITS),
            clients: Vec::new(),
            server: None,
            ids: HashSet::new(),
            n: 0,
            keys: 0,
            delivered: 0,
            is_finishing: false,
        };
        for _ in 0..clients {
            let client = world.join();
            world.clients.push(client);
        }
        world
    }

    fn join(&mut self) -> Client {
        self.keys += 1;
        self.share.join(Key(self.keys), Kind::Modern);
        let id = if self.keys.is_multiple_of(3) { "1.0" } else { "1" };
        Client { key: self.keys, id, open: Vec::new(), ended: None }
    }

    /// Does a step; `None` where it cannot be done.
    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Request(at) => self.request(at, "m", ""),
            Step::Logged(at) => self.request(at, "m", r#","io.modelcontextprotocol/logLevel":"info""#),
            Step::Listen(at) => self.request(at, "subscriptions/listen", ""),
            Step::Cancel(at) => {
                let client = self.clients.get_mut(at).filter(|client| !client.open.is_empty())?;
                client.open.remove(0);
                let id = client.id;
                self.say(at, &format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
            }
            Step::Leave(at) => self.leave(at),
            Step::Reply(at) => self.reply(at)?,
            Step::Progress(at) => {
                let Got { of, n, token, .. } = self.got(at)?;
                let token = token?;
                self.serve(&format!(
                    r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"of":{of},"n":{n}}}}}"#
                ));
            }
            Step::Update(at) => {
                let got = self.got(at).filter(|got| got.is_listen && !got.is_ended)?;
                let before = self.delivered;
                self.serve(&said("notifications/x", &got, &tag(&got)));
                assert_eq!(self.delivered - before, usize::from(got.cancelled.is_none()), "{got:?}");
            }
            Step::End(at) => self.end(at)?,
            Step::Log(at) => {
                let got = self.got(at).filter(|got| got.wants_log)?;
                self.serve(&said("notifications/message", &got, ""));
            }
            Step::Whisper(at) => {
                let got = self.got(at).filter(|got| got.of != 0 && !got.is_ended)?;
                self.serve(&said("notifications/x", &got, ""));
            }
            Step::Stream(at) => {
                let got = self.got(at).filter(|got| got.of != 0 && !got.is_ended)?;
                let text = said("notifications/message", &got, "");
                let (id, before) = (Id::from_json(&got.id)?, self.delivered);
                self.take_from_server(message(&text).with_related(&id));
                assert_eq!(self.delivered - before, usize::from(got.cancelled.is_none()), "{got:?}");
            }
            Step::Ask => {
                self.server.as_ref()?;
                self.serve(r#"{"id":1,"method":"roots/list"}"#);
            }
            Step::Lose => self.lose()?,
            Step::Finish => {
                self.is_finishing = true;
                self.lose()?;
                self.is_finishing = false;
            }
            Step::Begin => self.begin()?,
        }
        self.check();
        Some(())
    }

    fn got(&self, at: usize) -> Option<Got> {
        self.server.as_ref()?.get(at).cloned()
    }

    fn say(&mut self, at: usize, text: &str) {
        let mut out = Vec::new();
        self.share.from_client(Key(self.clients[at].key), message(text), &mut out);
        self.take(out);
    }

    fn serve(&mut self, text: &str) {
        self.take_from_server(message(text));
    }

    fn take_from_server(&mut self, message: Message) {
        let mut out = Vec::new();
        self.share.from_server(message, &mut out);
        self.take(out);
    }

    fn request(&mut self, at: usize, method: &str, meta: &str) {
        self.n += 1;
        let (n, client) = (self.n, &mut self.clients[at]);
        let (key, id) = (client.key, client.id);
        client.open.push(Asked { n, is_listen: method == "subscriptions/listen", is_sent: false });
        self.say(
            at,
            &format!(
                r#"{{"id":{id},"method":"{method}","params":{{"of":{key},"n":{n},"_meta":{{"progressToken":{TOKEN}{meta}}}}}}}"#
            ),
        );
    }

    fn leave(&mut self, at: usize) {
        let mut out = Vec::new();
        let key = self.clients[at].key;
        self.clients[at] = self.join();
        self.share.leave(Key(key), &mut out);
        self.take(out);
        let open = self.server.iter().flatten().find(|got| got.of == key && got.cancelled.is_none() && !got.is_ended);
        assert!(open.is_none(), "the server works for one who has left: {open:?}");
    }

    fn reply(&mut self, at: usize) -> Option<()> {
        let got = self.got(at).filter(|got| got.of != 0)?;
        self.server.as_mut()?.remove(at);
        let (tag, before) = (tag(&got), self.delivered);
        let Got { id, of, n, .. } = got;
        self.serve(&format!(r#"{{"result":{{"of":{of},"n":{n}{tag}}},"id":{id}}}"#));
        let is_wanted = got.cancelled.is_none() && !got.is_ended;
        assert_eq!(self.delivered - before, usize::from(is_wanted), "{n}");
        Some(())
    }

    fn end(&mut self, at: usize) -> Option<()> {
        let got = self.got(at).filter(|got| got.is_listen && !got.is_ended)?;
        self.server.as_mut()?[at].is_ended = true;
        let before = self.delivered;
        let Got { id, of, n, cancelled, .. } = &got;
        self.serve(&format!(
            r#"{{"method":"notifications/cancelled","params":{{"requestId":{id},"of":{of},"n":{n}{}}}}}"#,
            tag(&got)
        ));
        assert_eq!(self.delivered - before, if cancelled.is_none() { 2 } else { 0 });
        assert!(self.clients.iter().all(|client| client.ended.is_none()), "it is told and gets its result");
        Some(())
    }

    fn lose(&mut self) -> Option<()> {
        self.server.take()?;
        let mut out = Vec::new();
        if self.is_finishing {
            self.share.finish("lost", &mut out);
        } else {
            self.share.lose("lost", &mut out);
        }
        self.take(out);
        let open: Vec<_> = self.clients.iter().flat_map(|client| &client.open).collect();
        assert!(open.is_empty(), "each open request is answered: {open:?}");
        Some(())
    }

    fn begin(&mut self) -> Option<()> {
        let Some(got) = &mut self.server else {
            self.server = Some(Vec::new());
            let mut out = Vec::new();
            self.share.begin(&mut out);
            self.take(out);
            return Some(());
        };
        let at = got.iter().position(|got| got.of == 0)?;
        let id = got.remove(at).id;
        self.serve(&format!(r#"{{"id":{id},"result":{{"supportedVersions":[]}}}}"#));
        assert!(self.share.is_ready());
        Some(())
    }

    fn take(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::ToServer(message) => self.at_server(&message),
                Action::ToClient(Key(key), message) => {
                    self.delivered += 1;
                    let at = self.clients.iter().position(|client| client.key == key);
                    let client = &mut self.clients[at.expect("nothing goes to one that has left")];
                    client.take(&message, self.is_finishing);
                }
            }
        }
    }

    fn at_server(&mut self, message: &Message) {
        let got = self.server.as_mut().unwrap_or_else(|| panic!("nothing goes to a lost server: {}", message.text()));
        let number = |name: &str| {
            let value = message.params().and_then(|params| member::value(params, &[name]));
            value.map_or(0, |value| value.parse::<u64>().unwrap())
        };
        match message.kind() {
            Is::Request { id, method } => {
                assert!(self.ids.insert(id.as_json().to_owned()), "an id is used once");
                let token = message.progress_token().map(|token| token.as_json().to_owned());
                assert!(token.as_ref().is_none_or(|token| token == id.as_json()));
                assert_eq!(&**method == "server/discover", got.is_empty() && !self.share.is_ready());
                let (of, n) = (number("of"), number("n"));
                let mut asked = self.clients.iter_mut().flat_map(|client| &mut client.open);
                asked.find(|asked| asked.n == n).map_or_else(|| assert_eq!(of, 0), |asked| asked.is_sent = true);
                got.push(Got {
                    id: id.as_json().to_owned(),
                    of,
                    n,
                    token,
                    is_listen: &**method == "subscriptions/listen",
                    wants_log: message.text().contains("logLevel") && &**method != "subscriptions/listen",
                    is_ended: false,
                    cancelled: None,
                });
            }
            Is::Notification { method } => {
                assert_eq!(&**method, "notifications/cancelled");
                let id = message.cancels().unwrap();
                let got = got.iter_mut().find(|got| got.id == id.as_json()).expect("it is open");
                let mut open = self.clients.iter().flat_map(|client| &client.open);
                assert!(open.all(|asked| asked.n != got.n), "its client wants it");
                assert!(got.cancelled.replace(self.share.answers).is_none() && !got.is_ended);
            }
            Is::Response { .. } => assert_eq!(message.error_code(), Some(-32601)),
        }
    }

    /// What holds between any two steps.
    fn check(&mut self) {
        let share = &self.share;
        let open: usize = share.members.values().map(|member| member.open.len()).sum();
        assert_eq!(share.owners.len(), open);
        assert!(share.ghosts.len() <= LIMITS.open * LINK_FACTOR);
        share.waiting.check();
        for client in &self.clients {
            assert!(share.members.contains_key(&Key(client.key)), "{client:?}");
            assert_eq!(share.unanswered(Key(client.key)), client.open.len(), "{client:?}");
            assert!(client.open.len() <= LIMITS.open);
        }
        // A server that obeys says nothing of a request that it was told of so long ago.
        let answers = share.answers;
        if let Some(got) = &mut self.server {
            got.retain(|got| got.cancelled.is_none_or(|at| answers - at < GHOST_ANSWERS));
        }
    }
}

/// The tag of a subscription, as another member.
fn tag(got: &Got) -> String {
    if got.is_listen { format!(r#","_meta":{{"{}":{}}}"#, meta::SUBSCRIPTION_ID, got.id) } else { String::new() }
}

fn said(method: &str, got: &Got, more: &str) -> String {
    format!(r#"{{"method":"{method}","params":{{"of":{},"n":{}{more}}}}}"#, got.of, got.n)
}

impl Client {
    fn take(&mut self, message: &Message, is_finishing: bool) {
        let text = message.text();
        let part = if message.method().is_some() { "params" } else { "result" };
        if let Some(of) = member::value(text, &[part, "of"]) {
            assert_eq!(of, self.key.to_string(), "it is another's: {text}");
        }
        if let Some(tag) = member::value(text, &[part, "_meta", meta::SUBSCRIPTION_ID]) {
            assert_eq!(tag, self.id, "{text}");
        }
        let n = member::value(text, &[part, "n"]).map(|n| n.parse::<u64>().unwrap());
        match message.kind() {
            Is::Response { id } => {
                assert_eq!(id.as_ref().map(Id::as_json), Some(self.id), "{text}");
                let at = match (n, self.ended.take()) {
                    (Some(n), None) | (None, Some(n)) => self.open.iter().position(|asked| asked.n == n),
                    (None, None) if text.contains("resultType") => {
                        assert!(is_finishing, "{text}");
                        self.open.iter().position(|asked| asked.is_listen && asked.is_sent)
                    }
                    (None, None) if text.contains("lost") => {
                        self.open.iter().position(|asked| !(is_finishing && asked.is_listen && asked.is_sent))
                    }
                    (None, None) => {
                        assert!(text.contains("too m"), "{text}");
                        self.open.len().checked_sub(1)
                    }
                    (Some(_), Some(_)) => panic!("it is told and gets its result: {text}"),
                };
                self.open.remove(at.expect("it was answered already, or is not wanted"));
            }
            Is::Notification { method } => {
                let asked = self.open.iter().find(|asked| Some(asked.n) == n);
                if matches!(&**method, "notifications/progress" | "notifications/cancelled") {
                    assert!(asked.is_some(), "it is not wanted: {text}");
                }
                match &**method {
                    "notifications/progress" => {
                        assert_eq!(member::value(text, &["params", "progressToken"]), Some(TOKEN));
                    }
                    "notifications/cancelled" => {
                        assert_eq!(message.cancels().unwrap().as_json(), self.id);
                        self.ended = n;
                    }
                    _ => {}
                }
            }
            Is::Request { .. } => panic!("a modern client is asked nothing: {text}"),
        }
    }
}

/// Every order of `depth` of these steps; at the end of each the server is lost, or the link ends.
fn search(world: &World, steps: &[Step], depth: usize, count: &mut usize) {
    *count += 1;
    if depth == 0 {
        world.clone().step(Step::Lose);
        world.clone().step(Step::Finish);
        return;
    }
    for step in steps {
        let mut next = world.clone();
        if next.step(*step).is_some() {
            search(&next, steps, depth - 1, count);
        }
    }
}

fn up(clients: usize) -> World {
    let mut world = World::new(clients);
    world.step(Step::Begin).unwrap();
    world.step(Step::Begin).unwrap();
    world
}

#[test]
fn in_every_order_each_gets_its_own() {
    use Step::{Cancel, Leave, Log, Logged, Progress, Reply, Request, Stream, Whisper};
    let mut count = 0;
    let steps = [
        Request(0),
        Logged(0),
        Logged(1),
        Cancel(0),
        Leave(1),
        Reply(0),
        Reply(1),
        Progress(1),
        Log(0),
        Log(1),
        Whisper(0),
        Stream(1),
    ];
    search(&up(2), &steps, 5, &mut count);
    assert!(count > 20_000, "{count}");
}

#[test]
fn in_every_order_subscriptions_are_kept_apart() {
    use Step::{Cancel, End, Leave, Listen, Reply, Request, Update, Whisper};
    let mut count = 0;
    let steps = [
        Listen(0),
        Listen(1),
        Request(1),
        Cancel(0),
        Leave(1),
        Reply(0),
        Reply(1),
        Update(0),
        Update(1),
        End(0),
        End(1),
        Whisper(0),
    ];
    search(&up(2), &steps, 5, &mut count);
    assert!(count > 15_000, "{count}");
}

#[test]
fn in_every_order_three_with_the_same_ids_wait_and_lose() {
    use Step::{Ask, Begin, Cancel, Finish, Leave, Listen, Lose, Reply, Request};
    let mut count = 0;
    let steps = [Request(0), Request(1), Listen(2), Reply(0), Reply(2), Cancel(1), Leave(0), Ask, Lose, Finish, Begin];
    for world in [up(3), World::new(3)] {
        search(&world, &steps, 5, &mut count);
    }
    assert!(count > 20_000, "{count}");
}

#[test]
fn a_long_walk_leaves_nothing_behind() {
    let mut world = World::new(4);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut done, mut losses) = (0, 0);
    while done < 100_000 {
        let (client, place) = (random(4), random(6));
        let step = match random(1000) {
            0..180 => Step::Request(client),
            180..280 => Step::Logged(client),
            280..330 => Step::Listen(client),
            330..640 => Step::Reply(place),
            640..720 => Step::Progress(place),
            720..780 => Step::Update(place),
            780..800 => Step::End(place),
            800..850 => Step::Log(place),
            850..880 => Step::Whisper(place),
            880..910 => Step::Stream(place),
            910..940 => Step::Cancel(client),
            940..955 => Step::Leave(client),
            955..960 => Step::Ask,
            960..962 => Step::Lose,
            962..963 => Step::Finish,
            _ => Step::Begin,
        };
        done += usize::from(world.step(step).is_some());
        losses += usize::from(matches!(step, Step::Lose | Step::Finish));
    }
    assert!(world.delivered > 20_000 && losses > 20, "{} {losses}", world.delivered);
    world.step(Step::Lose);
    for client in &world.clients {
        world.share.leave(Key(client.key), &mut Vec::new());
    }
    let share = &world.share;
    assert!(
        share.members.is_empty()
            && share.owners.is_empty()
            && share.waiting.messages().next().is_none()
            && share.ghosts.is_empty()
    );
}
