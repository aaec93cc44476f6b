//! The link of an attempt: each message goes the way that is known for it, or finds one.

use super::{Attempt, Choice};
use crate::protocol::era::Era;
use crate::protocol::message::Message;
use crate::upstream::streamable::{End, Posts};
use crate::upstream::{Event, Receiver, Sender, Undelivered};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The way to a server that speaks one of the two.
pub struct Finder {
    pub attempt: Arc<Attempt>,
    /// Where POSTs go; nothing where its first stream was one of HTTP+SSE.
    pub posts: Option<Posts>,
}

impl Finder {
    fn send_legacy(&self, message: &Message) -> Result<(), Undelivered> {
        let attempt = &self.attempt;
        if attempt.is_bridged(message) {
            return attempt.bridge(Era::Legacy, message);
        }
        let Some(posts) = &self.posts else {
            let Choice::Sse(sender) = attempt.choice(message)? else { return Ok(()) };
            return sender.send(message);
        };
        if attempt.is_streamable.load(Ordering::Acquire) {
            return attempt.post(posts, message);
        }
        match attempt.choice(message)? {
            Choice::Streamable => attempt.post(posts, message),
            Choice::Sse(sender) => sender.send(message),
            Choice::Unknown | Choice::Trying => attempt.find_out(posts, message),
        }
    }
}

impl Sender for Finder {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        match self.attempt.era(message) {
            Era::Legacy if self.attempt.abandons(message) => Ok(()),
            Era::Legacy => self.send_legacy(message),
            Era::Modern => self.attempt.send_modern(message),
        }
    }

    fn stop(&self) {
        self.attempt.stop("the connection was closed by us");
    }

    fn kill(&self) {
        self.stop();
    }
}

/// The way from it.
pub struct Either {
    pub attempt: Arc<Attempt>,
    /// What tells the end of the POSTs.
    pub end: Option<End>,
    /// The stream of HTTP+SSE, once there is one.
    pub stream: Option<Box<dyn Receiver>>,
}

impl Receiver for Either {
    fn recv(&mut self) -> Event {
        let event = match (&mut self.stream, &mut self.end) {
            (Some(stream), _) => stream.recv(),
            (None, Some(end)) => {
                let event = end.recv();
                self.stream = self.attempt.state().stream.take();
                self.stream.as_mut().map_or(event, |stream| stream.recv())
            }
            (None, None) => Event::Ended("there is no connection".into()),
        };
        if let Event::Ended(why) = &event {
            self.attempt.end_bridges(why);
        }
        event
    }

    fn pending(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.pending())
    }

    fn retry(&self) -> Option<Duration> {
        self.stream.as_ref().and_then(|stream| stream.retry())
    }
}
