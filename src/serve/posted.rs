//! What a POST of Streamable HTTP brought: one message, or a batch of them.
//!
//! Always: it is there once, and is let go when it has been handed over, however long its answers take.

use crate::protocol::http::Refusal;
use crate::protocol::message::{Kind, Message};

/// What came.
pub enum Posted {
    /// A message.
    One(Message),
    /// Those of a batch, or what is left of one.
    Batch(Vec<Message>),
}

impl Posted {
    /// Reads a body.
    ///
    /// # Errors
    /// It is no message, or no batch of them.
    pub fn read(body: Vec<u8>) -> Result<Self, Refusal> {
        Ok(if Message::is_batch(&body) {
            Self::Batch(Message::parse_all(body)?)
        } else {
            Self::One(Message::parse(body)?)
        })
    }

    /// Whether it is a batch, of however many.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        matches!(self, Self::Batch(_))
    }

    /// All of it.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }

    /// The responses, and the others.
    #[must_use]
    pub fn apart(self) -> (Vec<Message>, Self) {
        let is_answer = |message: &Message| matches!(message.kind(), Kind::Response { .. });
        match self {
            Self::One(message) if is_answer(&message) => (vec![message], Self::Batch(Vec::new())),
            Self::One(_) => (Vec::new(), self),
            Self::Batch(messages) => {
                let (answers, others) = messages.into_iter().partition(is_answer);
                (answers, Self::Batch(others))
            }
        }
    }
}
