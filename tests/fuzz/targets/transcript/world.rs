//! Everybody around a hub, and what each of them is owed.
//!
//! Each request of a client is marked with whose it is (`"of":"#KEY"`), and so is what the server says about it.

use super::LIMITS;
use mcp_proxy::protocol::hub::{Action, Hub, Key, Kind};
use mcp_proxy::protocol::member;
use mcp_proxy::protocol::message::{Id, Kind as Is, Message};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

/// So much may be left of a hub without clients and server, as text.
const EMPTY_BYTES: usize = 2000;
const MOST_CLIENTS: usize = 6;

/// How many answers somebody is owed under one id.
#[derive(Debug, Default, Clone, Copy)]
struct Owed {
    /// What is not cancelled.
    least: usize,
    most: usize,
}

#[derive(Debug)]
struct Client {
    key: Key,
    owed: HashMap<Id, Owed>,
}

/// A request that the server has got.
#[derive(Debug)]
struct Got {
    id: Id,
    token: Option<Id>,
    /// The mark of its client.
    of: Option<String>,
    is_open: bool,
}

#[derive(Debug, Default)]
struct Server {
    is_there: bool,
    got: Vec<Got>,
    /// Its questions that are not answered, with the mark of the one who is asked, where that is clear.
    asked: HashMap<Id, Vec<Option<String>>>,
}

pub struct World<H> {
    hub: H,
    kinds: Vec<Kind>,
    clients: BTreeMap<u64, Client>,
    keys: u64,
    server: Server,
    /// Every id that a server has got.
    ids: HashSet<Id>,
    now: Duration,
    empty_bytes: usize,
}

impl<H: Hub + Debug> World<H> {
    pub fn new(hub: H, kinds: &[Kind]) -> Self {
        let empty_bytes = format!("{hub:?}").len() + EMPTY_BYTES;
        let (clients, server, kinds) = (BTreeMap::new(), Server::default(), kinds.to_vec());
        Self { hub, kinds, clients, keys: 0, server, ids: HashSet::new(), now: Duration::ZERO, empty_bytes }
    }

    /// The hub is told the time and does something.
    fn act(&mut self, act: impl FnOnce(&mut H, &mut Vec<Action>)) {
        let mut out = Vec::new();
        self.hub.tick(self.now, &mut out);
        act(&mut self.hub, &mut out);
        for action in out {
            match action {
                Action::ToServer(message) => self.at_server(&message),
                Action::ToClient(key, message) => self.at_client(key, &message),
            }
        }
    }

    pub fn begin(&mut self) -> Option<()> {
        (!self.server.is_there).then_some(())?;
        self.server.is_there = true;
        self.act(H::begin);
        Some(())
    }

    pub fn lose(&mut self) -> Option<()> {
        self.server.is_there.then_some(())?;
        self.server = Server::default();
        self.act(|hub, out| hub.lose("lost", out));
        self.nobody_waits();
        Some(())
    }

    pub fn finish(&mut self) -> Option<()> {
        self.server.is_there.then_some(())?;
        self.act(|hub, out| hub.finish("over", out));
        self.server = Server::default();
        self.nobody_waits();
        Some(())
    }

    fn nobody_waits(&self) {
        for client in self.clients.values() {
            assert!(client.owed.values().all(|owed| owed.least == 0), "not answered: {client:?}");
        }
    }

    pub fn join(&mut self, who: u64, kind: usize) -> Option<()> {
        let kind = *self.kinds.get(kind).or(self.kinds.last())?;
        (self.clients.len() < MOST_CLIENTS && !self.clients.contains_key(&who)).then_some(())?;
        self.keys += 1;
        let key = Key(self.keys);
        self.clients.insert(who, Client { key, owed: HashMap::new() });
        self.act(|hub, _| hub.join(key, kind));
        Some(())
    }

    pub fn leave(&mut self, who: u64) -> Option<()> {
        let client = self.clients.remove(&who)?;
        self.act(|hub, out| hub.leave(client.key, out));
        Some(())
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.act(|_, _| {});
    }

    pub fn client_says(&mut self, who: u64, said: Message) -> Option<()> {
        let client = self.clients.get_mut(&who)?;
        let (key, mark) = (client.key, format!("\"#{}\"", client.key.0));
        let said = match said.kind() {
            Is::Request { id, .. } => {
                let owed = client.owed.entry(id.clone()).or_default();
                (owed.least, owed.most) = (owed.least + 1, owed.most + 1);
                marked(&said, &mark)
            }
            Is::Notification { .. } => {
                client.cancel(&said);
                said
            }
            Is::Response { .. } => marked(&said, &mark),
        };
        self.act(|hub, out| hub.from_client(key, said, out));
        Some(())
    }

    pub fn server_says(&mut self, said: &Message) -> Option<()> {
        self.server.is_there.then_some(())?;
        let of = self.server.whose(said);
        let said = of.as_deref().map_or(said.clone(), |of| marked(said, of));
        match said.kind() {
            Is::Request { id, .. } => {
                let of = if self.kinds == [Kind::Modern] { None } else { of };
                self.server.asked.entry(id.clone()).or_default().push(of);
            }
            Is::Response { id: Some(id) } => {
                let got = self.server.got.iter_mut().filter(|got| got.id.may_be(id));
                got.for_each(|got| got.is_open = false);
            }
            Is::Notification { .. } | Is::Response { id: None } => {}
        }
        self.act(|hub, out| hub.from_server(said, out));
        Some(())
    }

    pub fn undelivered(&mut self, said: &Message) -> Option<()> {
        let id = said.id()?;
        let got = self.server.got.iter_mut().find(|got| got.id == *id && got.is_open)?;
        got.is_open = false;
        self.act(|hub, out| hub.undelivered(said, "stuck", out));
        Some(())
    }

    fn at_server(&mut self, message: &Message) {
        assert!(self.server.is_there, "nothing goes to a server that is not there: {}", message.text());
        assert!(Message::parse(message.bytes().to_vec()).is_ok_and(|read| read.kind() == message.kind()));
        match message.kind() {
            Is::Request { id, .. } => {
                assert!(self.ids.insert(id.clone()), "an id is used once: {}", message.text());
                let of = message.params().and_then(|params| member::string(params, &["of"]));
                let of = of.map(|of| format!("\"{of}\""));
                let is_known = |of: &String| self.clients.values().any(|c| *of == format!("\"#{}\"", c.key.0));
                assert!(of.as_ref().is_none_or(is_known), "its client is gone: {}", message.text());
                let token = message.progress_token();
                self.server.got.push(Got { id: id.clone(), token, of, is_open: true });
            }
            Is::Response { id } => {
                let id = id.as_ref().expect("an answer says to what");
                let asked = self.server.asked.get_mut(id).filter(|asked| !asked.is_empty());
                let owners = asked.expect("the server asked this, and was not answered").drain(..).collect::<Vec<_>>();
                let said = member::string(message.text(), &["result", "of"]).map(|said| format!("\"{said}\""));
                if let ([Some(owner)], Some(said)) = (&owners[..], said) {
                    assert_eq!(*owner, said, "another's answer: {}", message.text());
                }
                self.server.asked.insert(id.clone(), owners.into_iter().skip(1).collect());
            }
            Is::Notification { .. } => {}
        }
    }

    fn at_client(&mut self, key: Key, message: &Message) {
        let text = message.text();
        let client = self.clients.values_mut().find(|client| client.key == key);
        let client = client.unwrap_or_else(|| panic!("it is for somebody who is gone: {text}"));
        assert!(Message::parse(message.bytes().to_vec()).is_ok_and(|read| read.kind() == message.kind()), "{text}");
        let own = format!("#{}", key.0);
        let asks = member::value(text, &["result", "inputRequests"]).and_then(member::members).unwrap_or_default();
        let in_asks = asks.iter().map(|(_, ask)| member::string(ask, &["params", "of"]));
        let marks = [member::string(text, &["params", "of"]), member::string(text, &["result", "of"])];
        for mark in marks.into_iter().chain(in_asks).flatten().filter(|mark| mark.starts_with('#')) {
            assert_eq!(mark, own, "it is another's: {text}");
        }
        if let Is::Response { id } = message.kind() {
            let id = id.as_ref().expect("an answer says to what");
            let owed = client.owed.get_mut(id).filter(|owed| owed.most > 0);
            let owed = owed.unwrap_or_else(|| panic!("it is owed no answer: {text}"));
            *owed = Owed { least: owed.least.saturating_sub(1), most: owed.most - 1 };
        }
    }

    /// What holds between any two steps.
    pub fn check(&self) {
        for client in self.clients.values() {
            let open: usize = client.owed.values().map(|owed| owed.least).sum();
            assert!(open <= LIMITS.open, "more is open than may be: {client:?}");
        }
        assert!(self.hub.parked() <= 3);
    }

    /// Everybody goes: everything is answered, and nothing is left.
    pub fn settle(mut self) {
        let _ = self.begin();
        let _ = self.lose();
        while let Some((who, _)) = self.clients.first_key_value() {
            let _ = self.leave(*who);
        }
        self.wait(Duration::from_hours(1));
        let left = format!("{:?}", self.hub);
        assert!(left.len() <= self.empty_bytes, "something is left: {left}");
        assert_eq!(self.hub.parked(), 0);
    }
}

impl Client {
    /// It does not want an answer any more: to which of its requests, only who reads as the hub does can tell.
    fn cancel(&mut self, said: &Message) {
        let Some(id) = said.cancels() else { return };
        for (known, owed) in &mut self.owed {
            if known.may_be(&id) {
                owed.least = owed.least.saturating_sub(1);
            }
        }
    }
}

impl Server {
    /// The mark of the one whose business this is, where that is clear.
    fn whose(&self, said: &Message) -> Option<String> {
        let open = || self.got.iter().filter(|got| got.is_open);
        match said.kind() {
            Is::Response { id } => open().find(|got| Some(&got.id) == id.as_ref())?.of.clone(),
            Is::Notification { method } if &**method == "notifications/progress" => {
                let token = said.progress_token()?;
                open().find(|got| got.token.as_ref() == Some(&token))?.of.clone()
            }
            Is::Request { .. } => {
                let related = said.related()?;
                open().find(|got| got.id == *related)?.of.clone()
            }
            Is::Notification { .. } => None,
        }
    }
}

/// The message with a mark in its params or its result.
fn marked(said: &Message, mark: &str) -> Message {
    let with_mark = |text: &str| member::with(text, &["of"], mark);
    if let Some(result) = said.result_text().filter(|result| result.starts_with('{')) {
        return said.with_result(&with_mark(result));
    }
    match said.params().filter(|params| params.starts_with('{')) {
        Some(params) => said.with_params(&with_mark(params)),
        None => said.clone(),
    }
}
