//! What the server said while its client had no stream open.
//!
//! Always: at most `limit` messages and `limit_bytes` bytes wait, and leave in the order in which they came. When
//! there is no room, the oldest notifications go: a request is never dropped once it waits, because the server
//! waits for the answer.

use super::super::message::{Id, Kind, Message};
use std::collections::VecDeque;

/// Messages that wait for a stream.
#[derive(Debug, Clone)]
pub struct Hold {
    limit: usize,
    limit_bytes: usize,
    pub(super) messages: VecDeque<Message>,
    bytes: usize,
}

impl Hold {
    /// Nothing yet.
    pub fn new(limit: usize, limit_bytes: usize) -> Self {
        Self { limit, limit_bytes, messages: VecDeque::new(), bytes: 0 }
    }

    /// The message waits; says whether there is room for it.
    pub fn add(&mut self, message: &Message) -> bool {
        let bytes = message.bytes().len();
        if !self.make_room(bytes) {
            return false;
        }
        self.bytes += bytes;
        self.messages.push_back(message.clone());
        true
    }

    /// Lets old notifications go until one more message has room, unless that would not be enough.
    fn make_room(&mut self, bytes: usize) -> bool {
        let fits = |count: usize, held: usize| count < self.limit && held.saturating_add(bytes) <= self.limit_bytes;
        let (mut count, mut held) = (self.messages.len(), self.bytes);
        let mut leaving = 0;
        for message in self.messages.iter().filter(|message| !is_question(message)) {
            if fits(count, held) {
                break;
            }
            count -= 1;
            held -= message.bytes().len();
            leaving += 1;
        }
        if !fits(count, held) {
            return false;
        }
        if leaving > 0 {
            self.messages.retain(|message| {
                let leaves = leaving > 0 && !is_question(message);
                leaving -= usize::from(leaves);
                !leaves
            });
        }
        self.bytes = held;
        true
    }

    /// Everything, in order.
    pub fn take_all(&mut self) -> Vec<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages).into()
    }

    /// The server wants no answer any more to the request with this id; says whether it waits here.
    pub fn remove_question(&mut self, id: &Id) -> bool {
        let is_it = |message: &Message, same: fn(&Id, &Id) -> bool| {
            is_question(message) && message.id().is_some_and(|known| same(known, id))
        };
        let same = self.messages.iter().position(|message| is_it(message, Id::eq));
        let at = same.or_else(|| self.messages.iter().position(|message| is_it(message, Id::may_be)));
        let Some(message) = at.and_then(|at| self.messages.remove(at)) else { return false };
        self.bytes -= message.bytes().len();
        true
    }

    /// Nobody waits for answers any more.
    pub fn remove_questions(&mut self) {
        self.messages.retain(|message| !is_question(message));
        self.bytes = self.messages.iter().map(|message| message.bytes().len()).sum();
    }
}

fn is_question(message: &Message) -> bool {
    matches!(message.kind(), Kind::Request { .. })
}
