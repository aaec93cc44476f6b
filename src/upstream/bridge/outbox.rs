//! What is for the client and not delivered yet, and how it gets there.
//!
//! Always: it leaves in the order in which it came; its bytes are counted, so that whoever brings more can wait.

use super::{Bridge, State};
use crate::protocol::message::Message;
use std::collections::VecDeque;
use std::sync::PoisonError;

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

impl Bridge {
    /// Delivers what is for the client, unless another thread does.
    pub(super) fn drain(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_delivering, true) {
            return;
        }
        while let Some(message) = state.outbox.pop() {
            if !state.outbox.is_full() {
                self.room.notify_all();
            }
            drop(state);
            (self.deliver)(message);
            state = self.state();
        }
        state.is_delivering = false;
    }

    /// Waits for the thread that delivers, if the client takes less than the server sends. That thread never comes here
    /// before the outbox is empty.
    pub(super) fn wait_for_room(&self) {
        let is_full = |state: &mut State| state.outbox.is_full() && state.stopped.is_none();
        drop(self.room.wait_while(self.state(), is_full).unwrap_or_else(PoisonError::into_inner));
    }
}
