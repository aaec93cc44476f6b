//! Towards the server. Whatever a server runs over, it is reached by a [`Link`]: a pair of channels,
//! one to it and one from it. Nothing behind a link knows which kind it is.

pub mod agent;
mod answer;
pub mod auth;
mod bridge;
pub mod certificate;
pub mod child;
mod crew;
mod dial;
mod exchange;
pub mod http;
mod known;
mod oauth;
mod pool;
pub mod remote;
mod socket;
pub mod sse;
mod streamable;
pub mod waits;

use crate::protocol::message::Message;
use crate::protocol::session::Awaits;
use std::sync::Arc;
use std::time::Duration;

/// What takes the messages of a server where they do not come through a [`Receiver`]: the thread that read one calls
/// it, so that no message waits for another thread.
pub type Deliver = Arc<dyn Fn(Message) + Send + Sync>;

/// What is told why a message did not reach a server, or why its answer was lost.
pub type Failed = Arc<dyn Fn(&str) + Send + Sync>;

/// One live connection to one server.
pub struct Link {
    /// The way to the server; shared by all who write to it.
    pub sender: Arc<dyn Sender>,
    /// The way from the server; one thread reads it until [`Event::Ended`], and others by [`Sender::hear`].
    pub receiver: Box<dyn Receiver>,
}

/// The way to a server.
pub trait Sender: Send + Sync {
    /// Hands one message to the server, in the order of the calls.
    ///
    /// # Errors
    /// The message was not delivered, or nobody can tell whether it was; it must not be sent again.
    fn send(&self, message: &Message) -> Result<(), Undelivered>;

    /// Begins the polite stop and returns at once. The receiver drives it and says [`Event::Ended`] at its end.
    fn stop(&self);

    /// Hands on what the server says, on this thread, for as long as that is awaited, if the link's own thread lets it. Where
    /// it does not, it learns that this connection would, and may let it at a later request.
    fn hear(&self, hearer: &Hearer<'_>) {
        let _ = hearer;
    }

    /// The process, where there is one.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Skips the waits of the polite stop; what is left of the server is killed now.
    fn kill(&self);
}

/// Somebody who has asked and can hear the answer on his own thread.
pub struct Hearer<'a> {
    /// The connection that the request came through.
    pub connection: u64,
    /// Takes what the server says. A link that many share does so itself.
    pub deliver: &'a dyn Fn(Message),
    /// Asked before each wait for more.
    pub awaits: &'a dyn Fn() -> Awaits,
}

/// The way from a server.
pub trait Receiver: Send {
    /// Waits for what comes next. After [`Event::Ended`] nothing comes any more and nothing of the server is left.
    fn recv(&mut self) -> Event;

    /// Whether more has arrived already: what was received can be handed on together with it.
    fn pending(&self) -> bool {
        false
    }

    /// How long the server wants to be left alone before the next connection, if it said so.
    fn retry(&self) -> Option<Duration> {
        None
    }
}

/// What comes from a server.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message(Message),
    /// The end of the link, in words that fit behind "because": `the server exited with status 1`.
    Ended(String),
}

/// Why a message did not reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// The link has ended or is ending, in words as [`Event::Ended`] has them.
    Gone(String),
    /// The server has not taken what it was sent before, and no more may wait for it: what waits is at its limit, or
    /// there is no memory for more.
    Full,
}

impl Undelivered {
    /// Why, in words for whoever sent the message.
    #[must_use]
    pub fn why(self) -> String {
        match self {
            Self::Gone(why) => why,
            Self::Full => "the server has not taken what it was sent before, and there is no room for more".into(),
        }
    }
}
