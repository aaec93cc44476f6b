//! Raw clients of the transports over HTTP, which send several calls at once and look at everything that comes back.

use super::calls::{Act, Call, Client, INITIALIZE, INITIALIZED, Inbox, META, MODERN, REVISION};
use super::cutter::Cutter;
use super::ledger::{Fate, Ledger};
use super::wire::{Patience, Reply, Wire, events};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How many calls one that is alone makes in a row before those that it is asked for: some more than it takes until the
/// thread of its connection reads the answers from the server.
const IN_A_ROW: usize = 40;
/// How long the answer to a message may take of which we do not know whether it arrived.
const DOUBT: Duration = Duration::from_millis(500);

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
    /// It makes one call after the other.
    one_by_one: bool,
}

impl Streamable {
    /// A client without a session yet.
    pub fn new(door: Door, modern: bool, ledger: &Arc<Ledger>) -> Self {
        let who = format!("{} client of /mcp", if modern { "a modern" } else { "a legacy" });
        Self { door, inbox: Inbox::new(&who, ledger), modern, session: None, wires: Vec::new(), one_by_one: false }
    }

    /// A legacy one that makes one call after the other over one connection, and many of them.
    pub fn one_by_one(door: Door, ledger: &Arc<Ledger>) -> Self {
        Self { one_by_one: true, ..Self::new(door, false, ledger) }
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
        self.wires[place].take_if(|wire| wire.is_closed());
        if self.wires[place].is_none() {
            self.wires[place] = Wire::connect(&self.door.address, &self.inbox.ledger).ok();
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
                let fate = self.door.fate(port);
                let is_closed = fate == Fate::Lost && is_end(&error) && self.inbox.ledger.is_scarce();
                Err((if is_closed { Fate::Closed } else { fate }, error.to_string()))
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
        if self.inbox.newest.is_multiple_of(8) {
            self.wires.clear(); // now and then it comes over new connections
        }
        if !self.one_by_one {
            return self.call_at_once(acts);
        }
        for act in [(Act::Echo, 20); IN_A_ROW].iter().chain(acts) {
            self.call_at_once(&[*act]);
        }
    }
}

impl Streamable {
    fn call_at_once(&mut self, acts: &[(Act, usize)]) {
        if !self.modern && self.session.is_none() && !self.begin() {
            thread::sleep(Duration::from_millis(20));
            return;
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

/// Whether a connection ended before anything of an answer came.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
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
        let mut wire = Wire::connect(&self.door.address, &self.inbox.ledger)?;
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
        let endpoint = Patience::new(&self.inbox.ledger).next(&messages, None).map_err(io::Error::other)?;
        Ok(Stream { endpoint, port, socket, messages })
    }

    /// Posts a message and gives the status; none if nobody knows what became of it.
    fn post(&mut self, message: &str) -> Option<u16> {
        let endpoint = self.stream.as_ref()?.endpoint.clone();
        self.post.take_if(|wire| wire.is_closed());
        if self.post.is_none() {
            self.post = Wire::connect(&self.door.address, &self.inbox.ledger).ok();
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
        let patience = Patience::new(&self.inbox.ledger);
        let answer = self.stream.as_ref().and_then(|stream| patience.next(&stream.messages, None).ok());
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
        let patience = Patience::new(&self.inbox.ledger);
        // Nobody knows what became of a message whose POST was not answered.
        let doubt = match doubtful {
            true if self.door.cutter.is_some() => Some(Fate::Cut),
            true if self.inbox.ledger.is_scarce() => Some(Fate::Closed),
            _ => None,
        };
        let end = doubt.map(|_| Instant::now() + DOUBT);
        while !self.inbox.open.is_empty() {
            match patience.next(&stream.messages, end) {
                Ok(message) => self.inbox.hear(&message),
                Err(RecvTimeoutError::Disconnected) => {
                    self.inbox.give_up_all(doubt.unwrap_or_else(|| self.door.fate(port)), "the stream ended");
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.inbox.give_up_all(doubt.unwrap_or(Fate::Lost), "no answer in time");
                }
            }
        }
        let ended = matches!(stream.messages.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        if doubtful || ended {
            self.stream = None;
        }
    }
}
