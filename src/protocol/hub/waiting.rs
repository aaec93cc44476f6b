//! What clients say while it is not known whether the server has begun, in order.
//!
//! Always: all of it together is bounded (one message may be larger), and so are the messages of each client; nothing is
//! here of a client that has left.

use super::{Action, Key, Limits, refuse};
use crate::protocol::message::{INTERNAL_ERROR, Id, Message};
use std::collections::{HashMap, VecDeque};

#[derive(Debug, Clone, Default)]
pub(in crate::protocol) struct Waiting {
    messages: VecDeque<(Key, Message)>,
    bytes: usize,
    /// How many of them are whose.
    counts: HashMap<Key, usize>,
}

impl Waiting {
    /// Keeps a message of a client, or refuses it.
    pub fn keep(&mut self, limits: Limits, key: Key, message: Message, out: &mut Vec<Action>) {
        let bytes = self.bytes.saturating_add(message.bytes().len());
        let is_full = bytes > limits.waiting_bytes && !self.messages.is_empty();
        if is_full || self.count(key) >= limits.open {
            refuse(key, &message, INTERNAL_ERROR, "too much waits for the server already", out);
            return;
        }
        *self.counts.entry(key).or_default() += 1;
        self.bytes = bytes;
        self.messages.push_back((key, message));
    }

    /// How many messages of this client wait.
    pub fn count(&self, key: Key) -> usize {
        self.counts.get(&key).copied().unwrap_or_default()
    }

    /// All that wait, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().map(|(_, message)| message)
    }

    /// Gives all that wait, in order; nothing does then.
    pub fn take(&mut self) -> VecDeque<(Key, Message)> {
        std::mem::take(self).messages
    }

    /// A client does not want the answer to a request any more, whose id is the same as that; says whether it was here.
    pub fn cancel(&mut self, key: Key, same: &dyn Fn(&Id) -> bool) -> bool {
        let is_it = |(of, one): &(Key, Message)| *of == key && one.method().is_some() && one.id().is_some_and(same);
        let Some((_, gone)) = self.messages.iter().position(is_it).and_then(|at| self.messages.remove(at)) else {
            return false;
        };
        self.bytes -= gone.bytes().len();
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
        }
        true
    }

    /// A client is gone, and what it said.
    pub fn leave(&mut self, key: Key) {
        if self.counts.remove(&key).is_some() {
            self.messages.retain(|(of, _)| *of != key);
            self.bytes = self.messages().map(|message| message.bytes().len()).sum();
        }
    }

    /// What is counted is what is there.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.bytes, self.messages().map(|message| message.bytes().len()).sum::<usize>());
        let is_of = |key: &Key| self.messages.iter().filter(|(of, _)| of == key).count();
        assert!(self.counts.iter().all(|(key, count)| is_of(key) == *count), "{self:?}");
        assert_eq!(self.counts.values().sum::<usize>(), self.messages.len());
    }
}
