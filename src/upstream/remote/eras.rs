//! The eras of the protocol over one link: whose a message is, and the bridge where the server is of the other one.
//!
//! ```text
//!   legacy ──initialize──▶ taken: a session ── refused as only a modern server does ──▶ bridge ──▶ modern POSTs
//!             └─ refused by all: server/discover ── a modern answer ─────────────────────┘
//!   modern ──POST──▶ answered ── refused as only a legacy server does ──▶ bridge ──▶ a session of its own
//!                                                                    └──▶ an error, where no bridge is allowed
//! ```
//!
//! Always: what a client speaks is tried first unless the server is known to refuse it; a bridge is made once a link, and
//! its own link has none; what is of one era changes nothing of the other's.

use super::{Attempt, Crossing, Posts, Scope};
use crate::log;
use crate::protocol::era::{Era, Protocol, Way};
use crate::protocol::member;
use crate::protocol::message::{Kind, METHOD_NOT_FOUND, Message};
use crate::upstream::Undelivered;
use crate::upstream::bridge::{Bridge, Machine};
use crate::upstream::streamable::Failure;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Attempt {
    /// The era of the client that sends a message.
    pub(super) fn era(&self, message: &Message) -> Era {
        if let Scope::Only(era) = self.bridging.scope {
            return era;
        }
        let told = Era::of(message);
        match told {
            Some(Era::Legacy) => self.has_begun.store(true, Ordering::Relaxed),
            Some(Era::Modern) => self.is_modern.store(true, Ordering::Relaxed),
            None => {}
        }
        let is_modern = || !self.has_begun.load(Ordering::Relaxed) && self.is_modern.load(Ordering::Relaxed);
        told.unwrap_or_else(|| if is_modern() { Era::Modern } else { Era::Legacy })
    }

    /// Whether a message of a legacy client cancels a modern request, which is done.
    pub(super) fn abandons(&self, message: &Message) -> bool {
        let is_possible = self.is_modern.load(Ordering::Relaxed);
        let Some(id) = message.cancels().filter(|_| is_possible) else { return false };
        let streamable = self.state().streamable.clone();
        streamable.is_some_and(|streamable| streamable.abandon(&id))
    }

    /// Whether a legacy client may be bridged.
    pub(super) fn may_cross(&self) -> bool {
        matches!(self.bridging.scope, Scope::Both(_)) && self.client.remote().protocol != Protocol::Legacy
    }

    /// Whether a message of a legacy client goes to the bridge at once.
    pub(super) fn is_bridged(&self, message: &Message) -> bool {
        if self.is_bridged.load(Ordering::Acquire) {
            return true;
        }
        // A session that lives, lives on, whatever another link has found out.
        let begins = || self.client.remote().protocol == Protocol::Modern || message.method() == Some("initialize");
        self.may_cross() && begins() && self.client.way(Era::Legacy) == Way::Crossed
    }

    /// Sends a message of a legacy client to a server that speaks Streamable HTTP.
    pub(super) fn post(self: &Arc<Self>, posts: &Posts, message: &Message) -> Result<(), Undelivered> {
        match posts.0.converse(message) {
            Err(Failure::OnlyModern(_)) => self.bridge(Era::Legacy, message),
            Err(Failure::MaybeModern(answer)) => self.bridge_or_deliver(message, *answer),
            Err(Failure::Refused(..)) if self.is_modern_only(message) => self.bridge(Era::Legacy, message),
            done => done.map_err(|failure| Undelivered::Gone(failure.why())),
        }
    }

    /// The server has answered an `initialize` as a modern one may: if it is one, its client is bridged, else it gets that
    /// answer.
    pub(super) fn bridge_or_deliver(
        self: &Arc<Self>,
        initialize: &Message,
        answer: Message,
    ) -> Result<(), Undelivered> {
        if self.is_modern_only(initialize) {
            return self.bridge(Era::Legacy, initialize);
        }
        (self.deliver)(answer);
        Ok(())
    }

    /// Whether a server that refuses this `initialize`, and says no more, answers a modern request.
    pub(super) fn is_modern_only(&self, message: &Message) -> bool {
        if message.method() != Some("initialize") || !self.may_cross() {
            return false;
        }
        let streamable = self.state().streamable.clone();
        let client = message.params().and_then(|params| member::value(params, &["clientInfo"]));
        let is_modern = streamable.is_some_and(|streamable| streamable.discovers(client));
        if is_modern {
            self.client.eras().refused(Era::Legacy);
        }
        is_modern
    }

    /// Sends a message of a modern client.
    pub(super) fn send_modern(self: &Arc<Self>, message: &Message) -> Result<(), Undelivered> {
        let (streamable, bridge, stopped) = {
            let state = self.state();
            (state.streamable.clone(), state.bridges[1].clone(), state.stopped.clone())
        };
        if let Some(why) = stopped {
            return Err(Undelivered::Gone(why));
        }
        if let Some(id) = message.cancels() {
            if streamable.is_some_and(|streamable| streamable.abandon(&id)) {
                return Ok(());
            }
            match bridge {
                Some(bridge) => return bridge.send(message),
                None => log::debug(format_args!("the request that a client cancels is not open any more")),
            }
            return Ok(());
        }
        let Kind::Request { id, .. } = message.kind() else {
            return match (bridge, streamable) {
                (Some(bridge), _) => bridge.send(message),
                (None, Some(streamable)) => {
                    streamable.pass(message).map_err(|failure| Undelivered::Gone(failure.why()))
                }
                (None, None) => Ok(()),
            };
        };
        let straight = streamable.filter(|_| self.client.way(Era::Modern) != Way::Crossed);
        let (refusal, why) = match straight.map(|streamable| streamable.pass(message)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(Failure::OnlyLegacy(refusal, why))) => {
                self.client.eras().refused(Era::Modern);
                (refusal, why)
            }
            Some(Err(failure)) => return Err(Undelivered::Gone(failure.why())),
            None => (None, format!("'{}' speaks legacy revisions of the protocol only", self.shown())),
        };
        if let Scope::Both(Crossing::Allowed(_)) = self.bridging.scope {
            return self.bridge(Era::Modern, message);
        }
        log::debug(format_args!("a modern request is refused: {why}"));
        (self.deliver)(refusal.map_or_else(|| Message::error(Some(id), METHOD_NOT_FOUND, &why), |refusal| *refusal));
        Ok(())
    }

    /// Sends a message over the bridge for clients of this era.
    pub(super) fn bridge(self: &Arc<Self>, era: Era, message: &Message) -> Result<(), Undelivered> {
        let bridge = self.bridge_for(era, message).map_err(Undelivered::Gone)?;
        bridge.send(message)
    }

    fn bridge_for(self: &Arc<Self>, era: Era, first: &Message) -> Result<Arc<Bridge>, String> {
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(why.clone());
        }
        let place = usize::from(era == Era::Modern);
        if let Some(bridge) = &state.bridges[place] {
            return Ok(bridge.clone());
        }
        let open_requests = self.bridging.open_requests;
        let (machine, spoken) = match (era, self.bridging.scope) {
            (Era::Legacy, _) => (Machine::for_legacy(open_requests), "modern"),
            (Era::Modern, Scope::Both(Crossing::Allowed(inputs))) => {
                (Machine::for_modern(first, open_requests, inputs)?, "legacy")
            }
            (Era::Modern, _) => return Err("there is no bridge here".into()),
        };
        let this = Arc::downgrade(self);
        let needless = move |why: &str| this.upgrade().iter().for_each(|this| this.stop(why));
        let (client, deliver, failed) = (self.client.clone(), self.deliver.clone(), self.bridging.failed.clone());
        let bridge = Bridge::new(client, machine, deliver, failed, open_requests, Box::new(needless));
        state.bridges[place] = Some(bridge.clone());
        drop(state);
        if era == Era::Legacy {
            self.is_bridged.store(true, Ordering::Release);
        }
        log::info(format_args!("'{}' speaks {spoken} revisions of the protocol only: bridged", self.shown()));
        Ok(bridge)
    }

    /// The link has ended: ends the bridges too, and waits for their threads.
    pub(super) fn end_bridges(&self, why: &str) {
        let bridges = self.state().bridges.clone();
        bridges.iter().flatten().for_each(|bridge| bridge.stop(why));
        bridges.iter().flatten().for_each(|bridge| bridge.join());
    }
}
