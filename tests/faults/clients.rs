//! Raw clients of every transport, which send several calls at once and look at everything that comes back.
//!
//! Always: each call is handed to the ledger with its fate; an answer must have the id and the payload of a call that
//! is open, here and nowhere else. All clients use the same ids, so that a mix-up shows.

use super::cutter::Cutter;
use super::ledger::{Fate, Ledger};
use super::wire::{PATIENCE, Reply, Wire, events};
use crate::support::proxy;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the answer to a message may take of which we do not know whether it arrived.
const DOUBT: Duration = Duration::from_millis(500);

/// How long connect may take to end, with what a busy machine may add.
const ENDS: Duration = Duration::from_secs(3);

/// What a call asks its server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Answer.
    Echo,
    /// Tell progress and answer.
    Tell,
    /// Take a while.
    Slow,
    /// Close its stdout and live on.
    Mute,
    /// Answer and then read nothing for a while.
    Deaf,
    /// End.
    Exit,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// A number like no other call's.
    pub uid: u64,
    /// Its id, which every client uses again.
    pub id: u32,
    /// What it asks for.
    pub act: Act,
    /// About how many bytes its payload has.
    pub size: usize,
}

impl Call {
    fn payload(&self) -> String {
        let one = format!("{}-", self.uid);
        one.repeat(self.size / one.len() + 1)
    }

    /// The message; `meta` is what `_meta` holds besides the token.
    pub fn message(&self, meta: &str) -> String {
        let Self { uid, id, .. } = self;
        let act = format!("{:?}", self.act).to_lowercase();
        let (payload, token) = (self.payload(), self.uid);
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{{meta}"progressToken":{token}}},"name":"call","arguments":{{"uid":{uid},"do":"{act}","payload":"{payload}"}}}}}}"#
        )
    }
}

/// The calls of one client that wait for their answers.
pub struct Inbox {
    who: String,
    ledger: Arc<Ledger>,
    open: HashMap<u32, Call>,
    /// Those that were answered by an error, and whose server may still tell how far it is.
    failed: HashSet<u64>,
    newest: u32,
    results: u64,
}

impl Inbox {
    /// Nothing is open.
    pub fn new(who: &str, ledger: &Arc<Ledger>) -> Self {
        Self {
            who: who.to_owned(),
            ledger: ledger.clone(),
            open: HashMap::new(),
            failed: HashSet::new(),
            newest: 0,
            results: 0,
        }
    }

    /// Numbers the calls and waits for their answers.
    pub fn expect(&mut self, acts: &[(Act, usize)]) -> Vec<Call> {
        let number = |(place, (act, size)): (usize, &(Act, usize))| {
            let id = self.newest + 1 + u32::try_from(place).unwrap();
            Call { uid: self.ledger.number(), id, act: *act, size: *size }
        };
        let calls: Vec<Call> = acts.iter().enumerate().map(number).collect();
        self.newest += u32::try_from(calls.len()).unwrap();
        self.open.extend(calls.iter().map(|call| (call.id, call.clone())));
        calls
    }

    /// Looks at one message.
    pub fn hear(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return self.ledger.foreign(&self.who, text);
        };
        if message["method"] == "notifications/progress" {
            let token = &message["params"]["progressToken"];
            let is_ours = |uid: u64| self.failed.contains(&uid) || self.open.values().any(|call| call.uid == uid);
            if !token.as_u64().is_some_and(is_ours) || message["params"]["message"].as_str() != Some(&token.to_string())
            {
                self.ledger.foreign(&self.who, text);
            }
            return;
        }
        let id = message["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let Some(call) = id.and_then(|id| self.open.remove(&id)) else {
            let known = id.is_some_and(|id| id <= self.newest);
            return if known { self.ledger.double(&self.who, text) } else { self.ledger.foreign(&self.who, text) };
        };
        match message.get("error") {
            Some(_) => {
                self.failed.insert(call.uid);
                self.ledger.fate(call.uid, Fate::Error);
            }
            None if message["result"]["content"][0]["text"] == call.payload() => {
                self.results += 1;
                self.ledger.fate(call.uid, Fate::Result);
            }
            None => {
                self.ledger.foreign(&self.who, text);
                self.ledger.fate(call.uid, Fate::Lost);
            }
        }
    }

    /// Gives one call up.
    pub fn give_up(&mut self, id: u32, fate: Fate, why: &str) {
        if let Some(call) = self.open.remove(&id) {
            if fate == Fate::Lost {
                self.ledger.wrong(format!("{}: call {} ({:?}) was lost: {why}", self.who, call.uid, call.act));
            }
            self.ledger.fate(call.uid, fate);
        }
    }

    /// Gives up all that is open.
    pub fn give_up_all(&mut self, fate: Fate, why: &str) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            self.give_up(id, fate, why);
        }
    }
}

/// A client that can call.
pub trait Client: Send {
    /// Sends these calls, as many at once as it can, and waits until each has its fate.
    fn call(&mut self, acts: &[(Act, usize)]);

    /// Leaves, and sees to it that what served it alone ends as it should.
    fn end(self: Box<Self>) {}
}

/// Where a client of HTTP goes.
#[derive(Clone)]
pub struct Door {
    /// `HOST:PORT`
    pub address: String,
    /// Who may cut connections on the way.
    pub cutter: Option<Cutter>,
}

impl Door {
    /// What a broken connection means.
    fn fate(&self, port: u16) -> Fate {
        if self.cutter.as_ref().is_some_and(|cutter| cutter.has_cut(port)) { Fate::Cut } else { Fate::Lost }
    }
}

/// A client of Streamable HTTP, of either era.
pub struct Streamable {
    door: Door,
    inbox: Inbox,
    modern: bool,
    session: Option<String>,
    wires: Vec<Option<Wire>>,
}

/// The newest legacy revision.
pub const REVISION: &str = "2025-11-25";
/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// What a modern request says of itself.
pub const META: &str =
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"#;
/// How a session begins, but for the revision.
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"REVISION","capabilities":{},"clientInfo":{"name":"faults","version":"1"}}}"#;
/// What follows the answer.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

impl Streamable {
    /// A client without a session yet.
    pub fn new(door: Door, modern: bool, ledger: &Arc<Ledger>) -> Self {
        let who = format!("{} client of /mcp", if modern { "a modern" } else { "a legacy" });
        Self { door, inbox: Inbox::new(&who, ledger), modern, session: None, wires: Vec::new() }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("Accept", "application/json, text/event-stream".to_owned()),
            ("Content-Type", "application/json".to_owned()),
        ];
        if self.modern {
            let more = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "tools/call"), ("Mcp-Name", "call")];
            headers.extend(more.map(|(name, value)| (name, value.to_owned())));
        } else if let Some(session) = &self.session {
            headers.push(("Mcp-Session-Id", session.clone()));
            headers.push(("MCP-Protocol-Version", REVISION.to_owned()));
        }
        headers
    }

    fn post(&mut self, place: usize, message: &str) -> Result<(), Fate> {
        let headers = self.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.wires[place].is_none() {
            self.wires[place] = Wire::connect(&self.door.address).ok();
        }
        let Some(wire) = &mut self.wires[place] else { return Err(Fate::Lost) };
        let port = wire.port;
        wire.send("POST", "/mcp", &headers, message).map_err(|_| self.door.fate(port))
    }

    fn reply(&mut self, place: usize) -> Result<Reply, (Fate, String)> {
        let wire = self.wires[place].as_mut().expect("it has just sent");
        let port = wire.port;
        match wire.reply() {
            Ok((reply, again)) => {
                if !again {
                    self.wires[place] = None;
                }
                Ok(reply)
            }
            Err(error) => {
                self.wires[place] = None;
                Err((self.door.fate(port), error.to_string()))
            }
        }
    }

    /// Begins a session; says whether there is one now.
    fn begin(&mut self) -> bool {
        if self.wires.is_empty() {
            self.wires.push(None);
        }
        if self.post(0, &INITIALIZE.replace("REVISION", REVISION)).is_err() {
            self.wires[0] = None;
            return false;
        }
        let Ok(reply) = self.reply(0) else { return false };
        if reply.status != 200 || !reply.messages.last().is_some_and(|answer| answer.contains("\"result\"")) {
            return false;
        }
        // Without sessions there is none, and all is well.
        self.session = Some(reply.session.unwrap_or_default());
        let begun = self.post(0, INITIALIZED).is_ok() && self.reply(0).is_ok_and(|reply| reply.status == 202);
        if !begun {
            self.session = None;
        }
        begun
    }

    fn take(&mut self, call: &Call, place: usize) {
        let port = self.wires[place].as_ref().map_or(0, |wire| wire.port);
        match self.reply(place) {
            Ok(reply) => {
                // A refusal is about no message that is known.
                let is_refusal = |text: &&String| reply.status != 200 && text.contains("\"id\":null");
                reply.messages.iter().filter(|text| !is_refusal(text)).for_each(|text| self.inbox.hear(text));
                if reply.status == 404 && !self.modern {
                    self.session = None;
                }
                if let Some(error) = reply.broken {
                    self.inbox.give_up(call.id, self.door.fate(port), &error.to_string());
                } else if reply.status != 200 {
                    self.inbox.give_up(call.id, Fate::Refused(reply.status), "");
                } else {
                    self.inbox.give_up(call.id, Fate::Lost, "the answer came without it");
                }
            }
            Err((fate, why)) => self.inbox.give_up(call.id, fate, &why),
        }
    }
}

impl Client for Streamable {
    fn call(&mut self, acts: &[(Act, usize)]) {
        if !self.modern && self.session.is_none() && !self.begin() {
            thread::sleep(Duration::from_millis(20));
            return;
        }
        if self.inbox.newest.is_multiple_of(8) {
            self.wires.clear(); // now and then it comes over new connections
        }
        if self.wires.len() < acts.len() {
            self.wires.resize_with(acts.len(), || None);
        }
        let calls = self.inbox.expect(acts);
        let mut sent = Vec::new();
        for (place, call) in calls.iter().enumerate() {
            let message = call.message(if self.modern { META } else { "" });
            match self.post(place, &message) {
                Ok(()) => sent.push((place, call)),
                // What was read of it may still be answered: a refusal in the middle of a body.
                Err(fate) if self.wires[place].is_some() && fate == Fate::Lost => sent.push((place, call)),
                Err(fate) => {
                    self.wires[place] = None;
                    self.inbox.give_up(call.id, fate, "it could not be sent");
                }
            }
        }
        for (place, call) in sent {
            self.take(call, place);
        }
    }
}

/// A client of HTTP+SSE.
pub struct Sse {
    door: Door,
    inbox: Inbox,
    stream: Option<Stream>,
    post: Option<Wire>,
}

/// Its open stream.
struct Stream {
    endpoint: String,
    port: u16,
    socket: std::net::TcpStream,
    messages: Receiver<String>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Sse {
    /// A client without a session yet.
    pub fn new(door: Door, ledger: &Arc<Ledger>) -> Self {
        Self { door, inbox: Inbox::new("a client of /sse", ledger), stream: None, post: None }
    }

    fn open(&self) -> io::Result<Stream> {
        let mut wire = Wire::connect(&self.door.address)?;
        wire.send("GET", "/sse", &[("Accept", "text/event-stream")], "")?;
        let head = wire.head()?;
        if head.status != 200 {
            return Err(io::Error::other(format!("status {}", head.status)));
        }
        let (port, socket) = (wire.port, wire.socket()?);
        wire.wait_for_ever()?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut body = Vec::new();
            while let Ok(true) = wire.chunk(&mut body) {
                let end = body.windows(2).rposition(|two| two == b"\n\n").map(|at| at + 2);
                let end = end.or_else(|| body.windows(4).rposition(|four| four == b"\r\n\r\n").map(|at| at + 4));
                let Some(end) = end else { continue };
                let whole: Vec<u8> = body.drain(..end).collect();
                for (_, data) in events(&String::from_utf8_lossy(&whole)) {
                    if sender.send(data).is_err() {
                        return;
                    }
                }
            }
        });
        let endpoint = messages.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        Ok(Stream { endpoint, port, socket, messages })
    }

    /// Posts a message and gives the status; none if nobody knows what became of it.
    fn post(&mut self, message: &str) -> Option<u16> {
        let endpoint = self.stream.as_ref()?.endpoint.clone();
        if self.post.is_none() {
            self.post = Wire::connect(&self.door.address).ok();
        }
        let wire = self.post.as_mut()?;
        let _ = wire.send("POST", &endpoint, &[("Content-Type", "application/json")], message);
        let reply = wire.reply();
        if !matches!(reply, Ok((_, true))) {
            self.post = None;
        }
        reply.ok().map(|(reply, _)| reply.status)
    }

    fn begin(&mut self) -> bool {
        self.stream = self.open().ok();
        if self.post(&INITIALIZE.replace("REVISION", "2024-11-05")) != Some(202) {
            self.stream = None;
            return false;
        }
        let answer = self.stream.as_ref().and_then(|stream| stream.messages.recv_timeout(PATIENCE).ok());
        let begun = answer.is_some_and(|answer| answer.contains("\"result\"")) && self.post(INITIALIZED) == Some(202);
        if !begun {
            self.stream = None;
        }
        begun
    }
}

impl Client for Sse {
    fn call(&mut self, acts: &[(Act, usize)]) {
        if self.stream.is_none() && !self.begin() {
            thread::sleep(Duration::from_millis(20));
            return;
        }
        let calls = self.inbox.expect(acts);
        let mut doubtful = false;
        for call in &calls {
            match self.post(&call.message("")) {
                Some(202) => {}
                Some(status) => self.inbox.give_up(call.id, Fate::Refused(status), ""),
                None => doubtful = true,
            }
        }
        let stream = self.stream.as_ref().expect("it was there");
        let port = stream.port;
        let mut end = Instant::now() + PATIENCE;
        while !self.inbox.open.is_empty() {
            if doubtful && self.door.cutter.is_some() {
                end = end.min(Instant::now() + DOUBT);
            }
            match stream.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) => self.inbox.hear(&message),
                Err(RecvTimeoutError::Disconnected) => {
                    let known = doubtful && self.door.cutter.is_some();
                    self.inbox.give_up_all(if known { Fate::Cut } else { self.door.fate(port) }, "the stream ended");
                }
                Err(RecvTimeoutError::Timeout) => {
                    let known = doubtful && self.door.cutter.is_some();
                    self.inbox.give_up_all(if known { Fate::Cut } else { Fate::Lost }, "no answer in time");
                }
            }
        }
        let ended = matches!(stream.messages.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        if doubtful || ended {
            self.stream = None;
        }
    }
}

/// Our connect mode, in front of a remote server.
pub struct Connect {
    child: Child,
    inbox: Inbox,
    lines: Receiver<String>,
    begun: bool,
    dead: bool,
}

impl Connect {
    /// Starts it; nothing is sent yet.
    pub fn start(url: &str, options: &[&str], ledger: &Arc<Ledger>) -> Self {
        Self::of(proxy().args(options).arg(url), ledger)
    }

    /// Starts this command.
    pub fn of(command: &mut Command, ledger: &Arc<Ledger>) -> Self {
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, inbox: Inbox::new("a client of connect", ledger), lines, begun: false, dead: false }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many of its calls were answered by a result.
    pub fn results(&self) -> u64 {
        self.inbox.results
    }

    fn write(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is open");
        if stdin.write_all(format!("{line}\n").as_bytes()).is_err() && !self.dead {
            self.dead = true;
            let status = self.child.try_wait();
            self.inbox.ledger.wrong(format!("connect reads no more: {status:?}"));
        }
    }

    fn begin(&mut self) -> bool {
        self.write(&INITIALIZE.replace("REVISION", REVISION));
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains("\"result\"") => self.begun = true,
            Ok(_) => thread::sleep(Duration::from_millis(50)),
            Err(error) => self.inbox.ledger.wrong(format!("connect did not answer initialize: {error}")),
        }
        if self.begun {
            self.write(INITIALIZED);
        }
        self.begun
    }
}

impl Client for Connect {
    fn call(&mut self, acts: &[(Act, usize)]) {
        if self.dead || (!self.begun && !self.begin()) {
            return;
        }
        let calls = self.inbox.expect(acts);
        for call in &calls {
            self.write(&call.message(""));
        }
        let end = Instant::now() + PATIENCE;
        while !self.inbox.open.is_empty() {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.inbox.hear(&line),
                Err(why) => self.inbox.give_up_all(Fate::Lost, &format!("on stdout: {why}")),
            }
        }
    }

    fn end(mut self: Box<Self>) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        let mut status = None;
        while status.is_none() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
            status = self.child.try_wait().unwrap();
        }
        let (ledger, took) = (&self.inbox.ledger, start.elapsed());
        ledger.stopped(took);
        if status.and_then(|status| status.code()) != Some(0) || took > ENDS {
            ledger.wrong(format!("connect ended with {status:?} {took:?} after its input"));
        }
        self.lines.try_iter().for_each(|line| self.inbox.hear(&line));
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
