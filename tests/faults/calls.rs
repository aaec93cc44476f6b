//! Calls, and the books of one client about those that wait for their answers.
//!
//! Always: each call is handed to the ledger with its fate; an answer must have the id and the payload of a call that
//! is open, here and nowhere else. All clients use the same ids, so that a mix-up shows.

use super::ledger::{Fate, Ledger};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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

/// What a call asks its server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Answer.
    Echo,
    /// Tell progress and answer.
    Tell,
    /// Answer what is long.
    Long,
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
    /// The books of the run.
    pub ledger: Arc<Ledger>,
    /// The calls, by their ids.
    pub open: HashMap<u32, Call>,
    /// Those that were answered by an error or by nothing, and whose server may still tell how far it is.
    failed: HashSet<u64>,
    /// Those that count as lost, whose answers may come late.
    lost: HashSet<u32>,
    /// The id of the newest call.
    pub newest: u32,
    /// How many were answered by a result.
    pub results: u64,
}

impl Inbox {
    /// Nothing is open.
    pub fn new(who: &str, ledger: &Arc<Ledger>) -> Self {
        Self {
            who: who.to_owned(),
            ledger: ledger.clone(),
            open: HashMap::new(),
            failed: HashSet::new(),
            lost: HashSet::new(),
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
        if id.is_some_and(|id| self.lost.remove(&id)) {
            return; // late is no worse than lost
        }
        let Some(call) = id.and_then(|id| self.open.remove(&id)) else {
            let known = id.is_some_and(|id| id <= self.newest);
            return if known { self.ledger.double(&self.who, text) } else { self.ledger.foreign(&self.who, text) };
        };
        // The server's own results are never errors; a proxy may tell so that it lost the server.
        if message.get("error").is_some() || message["result"]["isError"] == true {
            self.failed.insert(call.uid);
            self.ledger.fate(call.uid, Fate::Error);
        } else if message["result"]["content"][0]["text"] == call.payload() {
            self.results += 1;
            self.ledger.fate(call.uid, Fate::Result);
        } else {
            self.ledger.foreign(&self.who, text);
            self.ledger.fate(call.uid, Fate::Lost);
        }
    }

    /// Gives one call up.
    pub fn give_up(&mut self, id: u32, fate: Fate, why: &str) {
        if let Some(call) = self.open.remove(&id) {
            if fate == Fate::Lost {
                self.lost.insert(id);
                self.failed.insert(call.uid);
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
