//! What is known of the server of a link.
//!
//! ```text
//!          a fresh one is there             it answers as it should
//!   Lost ───────────────────────▶ Beginning ───────────────────────▶ Ready
//!    ▲                               │ it answers otherwise
//!    │ it is lost (from everywhere)  └─────────────────────────────▶ Refused
//! ```
//!
//! Always: what clients say waits until the server is `Ready` or `Refused`.

use crate::protocol::message::Message;

/// What is known of the server; `T` is what is kept of its answer when it begins.
#[derive(Debug, Clone)]
pub(in crate::protocol) enum Phase<T = Message> {
    /// There is none.
    Lost,
    /// The request with this number begins it.
    Beginning(u64),
    /// It has begun.
    Ready(T),
    /// It has not, with this error: its own, or one that was made because it could not be asked.
    Refused(Message),
}

impl<T> Phase<T> {
    /// Whether there is no server.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }

    /// Whether an answer to this number says whether the server begins.
    pub fn begins_with(&self, number: u64) -> bool {
        matches!(self, Self::Beginning(ours) if *ours == number)
    }

    /// What is kept of its answer, if it has begun.
    pub const fn ready(&self) -> Option<&T> {
        if let Self::Ready(server) = self { Some(server) } else { None }
    }

    /// The error with which it did not.
    pub const fn refusal(&self) -> Option<&Message> {
        if let Self::Refused(error) = self { Some(error) } else { None }
    }
}
