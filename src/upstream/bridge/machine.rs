//! The two machines of `protocol::bridge` as one: a client on one side, a link on the other.

use crate::protocol::bridge::to_legacy::{GATHER, Settings, ToLegacy, legacy_capabilities};
use crate::protocol::bridge::to_modern::{Crossed, ToModern};
use crate::protocol::era::Era;
use crate::protocol::hub::{Action, Hub, Key, Kind, Limits};
use crate::protocol::message::Message;
use crate::protocol::modern::meta;
use crate::system;
use std::time::Duration;

/// The only member of a hub that has one.
const MEMBER: Key = Key(0);
/// Bytes of what waits for the server to begin.
const WAITING_BYTES: usize = 16 << 20;

/// What may wait for the input of a modern client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// Calls that may wait at the same time.
    pub most: usize,
    /// Bytes that are kept of them.
    pub bytes: usize,
    /// How long each may wait.
    pub age: Duration,
}

/// What translates.
pub enum Machine {
    /// For a legacy client.
    ToModern(Box<ToModern>),
    /// For a modern one, and what it was made with.
    ToLegacy { hub: Box<ToLegacy>, limits: Limits, settings: Settings },
}

impl Machine {
    /// For the legacy client behind this bridge.
    pub fn for_legacy(open_requests: usize) -> Self {
        Self::ToModern(Box::new(ToModern::new(Limits { open: open_requests, waiting_bytes: WAITING_BYTES })))
    }

    /// For the modern client that begins with this request.
    pub fn for_modern(first: &Message, open_requests: usize, inputs: Inputs) -> Result<Self, String> {
        let settings = Settings {
            client_info: meta::client_info(first).map_or_else(own_info, str::to_owned),
            capabilities: legacy_capabilities(meta::capabilities(first).unwrap_or("{}")),
            one_client: true,
            is_remote: true,
            most_parked: inputs.most,
            parked_bytes: inputs.bytes,
            parked_age: inputs.age,
            gather: GATHER,
        };
        Self::to_legacy(Limits { open: open_requests, waiting_bytes: WAITING_BYTES }, settings)
    }

    pub(super) fn to_legacy(limits: Limits, settings: Settings) -> Result<Self, String> {
        let secret = system::random_id().map_err(|error| format!("no randomness: {error}"))?;
        let mut hub = Box::new(ToLegacy::new(limits, settings.clone(), secret));
        hub.join(MEMBER, Kind::Modern);
        Ok(Self::ToLegacy { hub, limits, settings })
    }

    /// The client whose messages it takes.
    pub fn era(&self) -> Era {
        match self {
            Self::ToModern(_) => Era::Legacy,
            Self::ToLegacy { .. } => Era::Modern,
        }
    }

    /// A link to the server is there, the first one or another.
    pub fn begin(&mut self, is_first: bool, out: &mut Vec<Crossed>) {
        match self {
            Self::ToModern(_) if is_first => {}
            Self::ToModern(machine) => machine.restore(out),
            Self::ToLegacy { hub, .. } => acting(out, |actions| hub.begin(actions)),
        }
    }

    /// Whether the server has shown that it speaks what this side speaks.
    pub fn has_begun(&self) -> bool {
        match self {
            Self::ToModern(_) => true,
            Self::ToLegacy { hub, .. } => hub.is_ready(),
        }
    }

    /// Whether the server has refused to begin.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::ToLegacy { hub, .. } if hub.refusal().is_some())
    }

    /// Takes a message of the client.
    pub fn hear_client(&mut self, message: &Message, out: &mut Vec<Crossed>) {
        match self {
            Self::ToModern(machine) => machine.from_client(message.clone(), out),
            Self::ToLegacy { hub, .. } => acting(out, |actions| hub.from_client(MEMBER, message.clone(), actions)),
        }
    }

    /// Takes a message of the server.
    pub fn hear_server(&mut self, message: Message, out: &mut Vec<Crossed>) {
        match self {
            Self::ToModern(machine) => machine.from_server(message, out),
            Self::ToLegacy { hub, .. } => acting(out, |actions| hub.from_server(message, actions)),
        }
    }

    /// A message did not reach the server.
    pub fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Crossed>) {
        match self {
            Self::ToModern(machine) => machine.undelivered(message, why, out),
            Self::ToLegacy { hub, .. } => acting(out, |actions| hub.undelivered(message, why, actions)),
        }
    }

    /// The link is lost.
    pub fn lose(&mut self, why: &str, out: &mut Vec<Crossed>) {
        match self {
            Self::ToModern(machine) => machine.lose(why, out),
            Self::ToLegacy { hub, .. } => acting(out, |actions| hub.lose(why, actions)),
        }
    }

    /// Tells the time; says when to tell it again.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Crossed>) -> Option<Duration> {
        match self {
            Self::ToModern(machine) => machine.tick(now, out),
            Self::ToLegacy { hub, .. } => {
                let mut actions = Vec::new();
                let due = hub.tick(now, &mut actions);
                out.extend(actions.into_iter().map(crossed));
                due
            }
        }
    }
}

fn acting(out: &mut Vec<Crossed>, act: impl FnOnce(&mut Vec<Action>)) {
    let mut actions = Vec::new();
    act(&mut actions);
    out.extend(actions.into_iter().map(crossed));
}

fn crossed(action: Action) -> Crossed {
    match action {
        Action::ToServer(message) => Crossed::ToServer(message),
        Action::ToClient(_, message) => Crossed::ToClient(message),
    }
}

/// What the server is told of a client that says nothing of itself.
fn own_info() -> String {
    format!(r#"{{"name":"mcp-proxy","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}
