//! What is for the client and not delivered yet.
//!
//! Always: it leaves in the order in which it came; its bytes are counted, so that whoever brings more can wait.

use crate::protocol::message::Message;
use std::collections::VecDeque;

/// Bytes beyond which whoever brings more waits until the client has taken some.
const MOST_BYTES: usize = 1 << 20;

/// The messages, in order.
#[derive(Default)]
pub struct Outbox {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Outbox {
    /// Adds a message, whatever is there: what was decided upon is not thrown away.
    pub fn push(&mut self, message: Message) {
        self.bytes += message.bytes().len();
        self.messages.push_back(message);
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes().len();
        Some(message)
    }

    /// Whether whoever has added something is to wait.
    pub fn is_full(&self) -> bool {
        self.bytes > MOST_BYTES
    }
}
