//! Clients of both eras on one link to a modern server: the hub of the modern ones, and before it a [`ToModern`] for
//! each legacy one.
//!
//! ```text
//!   modern client ───────────────────────────▶ ┐
//!   legacy client ──▶ its ToModern, as modern ─▶ ├─ the hub below ──▶ the server
//!   legacy client ──▶ its ToModern, as modern ─▶ ┘
//! ```
//!
//! Always: towards the hub below, every client is a modern one, under the key that it has here; what the hub says to a
//! legacy client goes through its bridge, and what comes of that goes to the hub before anything else does.

use super::super::hub::{Action, Hub, Key, Kind, Limits};
use super::super::message::Message;
use super::to_modern::{Crossed, ToModern};
use std::collections::BTreeMap;
use std::time::Duration;

/// A hub of modern clients that takes legacy ones too.
#[derive(Debug, Clone)]
pub struct ModernServer<S> {
    below: S,
    limits: Limits,
    legacy: BTreeMap<Key, ToModern>,
    now: Duration,
    /// No bridge has anything to do before.
    next: Option<Duration>,
}

impl<S: Hub> ModernServer<S> {
    /// The hub of the modern clients, with room for legacy ones.
    #[must_use]
    pub fn new(below: S, limits: Limits) -> Self {
        Self { below, limits, legacy: BTreeMap::new(), now: Duration::ZERO, next: None }
    }

    /// The hub below did something: what is for a legacy client goes through its bridge.
    fn pass_up(&mut self, actions: Vec<Action>, out: &mut Vec<Action>) {
        for action in actions {
            match action {
                Action::ToClient(key, message) if self.legacy.contains_key(&key) => {
                    self.cross(key, |bridge, crossed| bridge.from_server(message, crossed), out);
                }
                other => out.push(other),
            }
        }
    }

    /// The bridge of a client does something.
    fn cross(&mut self, key: Key, act: impl FnOnce(&mut ToModern, &mut Vec<Crossed>), out: &mut Vec<Action>) {
        let Some(bridge) = self.legacy.get_mut(&key) else { return };
        let mut crossed = Vec::new();
        bridge.tick(self.now, &mut crossed);
        act(bridge, &mut crossed);
        self.next = self.next.into_iter().chain(bridge.next_time()).min();
        for crossed in crossed {
            match crossed {
                Crossed::ToClient(message) => out.push(Action::ToClient(key, message)),
                Crossed::ToServer(message) => {
                    self.below(out, |below, actions| below.from_client(key, message, actions));
                }
            }
        }
    }

    /// The hub below does something.
    fn below(&mut self, out: &mut Vec<Action>, act: impl FnOnce(&mut S, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        act(&mut self.below, &mut actions);
        self.pass_up(actions, out);
    }

    /// The bridges of all legacy clients do something.
    fn cross_all(&mut self, act: impl Fn(&mut ToModern, &mut Vec<Crossed>), out: &mut Vec<Action>) {
        let keys: Vec<_> = self.legacy.keys().copied().collect();
        for key in keys {
            self.cross(key, &act, out);
        }
    }
}

impl<S: Hub> Hub for ModernServer<S> {
    fn begin(&mut self, out: &mut Vec<Action>) {
        self.below(out, Hub::begin);
        self.cross_all(ToModern::restore, out);
    }

    fn is_ready(&self) -> bool {
        self.below.is_ready()
    }

    fn refusal(&self) -> Option<&Message> {
        self.below.refusal()
    }

    fn greeting(&self) -> Option<&Message> {
        self.below.greeting()
    }

    fn join(&mut self, key: Key, kind: Kind) {
        if kind != Kind::Modern {
            self.legacy.entry(key).or_insert_with(|| ToModern::new(self.limits));
        }
        self.below.join(key, Kind::Modern);
    }

    fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        self.legacy.remove(&key); // the hub below knows what it has open, and cancels it
        self.below(out, |below, actions| below.leave(key, actions));
    }

    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        if self.legacy.contains_key(&key) {
            self.cross(key, |bridge, crossed| bridge.from_client(message, crossed), out);
        } else {
            self.below.from_client(key, message, out);
        }
    }

    fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        self.below(out, |below, actions| below.from_server(message, actions));
    }

    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        self.below(out, |below, actions| below.undelivered(message, why, actions));
    }

    /// The bridges first: they answer in these words whatever the hub below has of their clients.
    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.cross_all(|bridge, crossed| bridge.lose(why, crossed), out);
        self.below(out, |below, actions| below.lose(why, actions));
    }

    /// As [`ModernServer::lose`].
    fn finish(&mut self, why: &str, out: &mut Vec<Action>) {
        self.cross_all(|bridge, crossed| bridge.lose(why, crossed), out);
        self.below(out, |below, actions| below.finish(why, actions));
    }

    fn is_free_for(&self, message: &Message) -> bool {
        self.below.is_free_for(message)
    }

    fn is_haunted(&self) -> bool {
        self.below.is_haunted()
    }

    fn stuck_since(&self) -> Option<Duration> {
        self.below.stuck_since()
    }

    fn resumes(&self, message: &Message) -> bool {
        self.below.resumes(message)
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) -> Option<Duration> {
        self.now = now;
        let mut next = None;
        self.below(out, |below, actions| next = below.tick(now, actions));
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
            self.cross_all(|_, _| {}, out); // whoever does something is told the time first
        }
        next.into_iter().chain(self.next).min()
    }

    fn parked(&self) -> usize {
        self.below.parked()
    }
}

#[cfg(test)]
mod tests;
