//! What a server speaks to modern clients: it is asked once, what it says is remembered, and it is found out anew when
//! that proves wrong. One that says nothing in time is taken for a legacy one, and heard when it answers after all.
//!
//! Always: only a process that serves nobody yet is asked; while one is asked others wait, and go on however that ends;
//! what is only assumed is never held against an answer.

use super::way::SPARE_LINK;
use super::{Caller, Modern, Visit};
use crate::error::Error;
use crate::log;
use crate::protocol::era::{self, Protocol};
use crate::protocol::http::Refusal;
use crate::protocol::message::Message;
use crate::protocol::modern::refuses_legacy;
use crate::serve::house::{House, STOPPING, unavailable};
use crate::serve::offer::Offer;
use crate::serve::shared::{Begun, Shared};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to answer the first `server/discover`. One that has not is taken for a legacy one.
pub const PROBE: Duration = Duration::from_secs(10);
/// A server that has ended without an answer is asked again, but not more often than this, and nobody waits for it.
const ASK_AGAIN: Duration = SPARE_LINK;

/// What a server speaks to modern clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Nobody has asked.
    Unknown,
    /// Somebody asks.
    Probing,
    /// It has said so.
    Modern,
    /// It has said so, ends when it is asked, or has said nothing and is to be one process for all.
    Legacy,
    /// It said nothing in time, and is taken for a legacy one until it does.
    Assumed,
}

/// Somebody finds out what the server speaks. However that ends, those who wait for it go on.
pub struct Probing<'a> {
    /// Where what is found is remembered.
    pub modern: &'a Modern,
    /// What was found.
    pub found: Era,
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.modern.state().era = self.found;
        self.modern.known.notify_all();
    }
}

impl House {
    /// What the server speaks to modern clients; found out now if nobody knows. The answer to this very request, if
    /// it was what the server was asked then.
    pub(super) fn era(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
        caller: &Caller,
    ) -> Result<(Era, Option<Message>), Refusal> {
        let modern = &offer.modern;
        let mut state = modern.state();
        while state.era == Era::Probing && !state.is_closing {
            caller.waits();
            state = modern.known.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closing {
            return Err(unavailable(STOPPING));
        }
        if state.era != Era::Unknown {
            return Ok((state.era, None));
        }
        state.era = Era::Probing;
        drop(state);
        caller.waits();
        let mut probing = Probing { modern, found: Era::Unknown };
        let found = self.probe(offer, request);
        probing.found = found.as_ref().map_or(Era::Unknown, |(era, _)| *era);
        drop(probing);
        let (era, greeting) = found.map_err(|error| unavailable(&error.to_string()))?;
        log::debug(format_args!("'{}' speaks to modern clients: {era:?}", offer.shown()));
        Ok((era, greeting))
    }

    /// Asks a server of its own what it speaks, with the client's own question if it is one.
    pub(super) fn probe(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
    ) -> Result<(Era, Option<Message>), Error> {
        let params = request.params().filter(|_| request.method() == Some("server/discover"));
        let (mut shared, mut begun) = self.ask_era(offer, params)?;
        if begun == Begun::Lost && offer.client.is_none() && !self.state().stopping {
            // Some legacy servers end when they are asked; but perhaps this one has crashed.
            (shared, begun) = self.ask_era(offer, params)?;
        }
        match begun {
            Begun::Ready => {
                let id = request.id().filter(|_| params.is_some());
                let greeting = id.and_then(|id| Some(shared.greeting()?.with_id(id)));
                let mut state = offer.modern.state();
                if state.straight.is_some() {
                    drop(state); // a legacy client has needed it meanwhile
                    shared.retire();
                } else {
                    state.straight = Some(shared);
                }
                Ok((Era::Modern, greeting))
            }
            Begun::Lost if self.state().stopping => Err(Error::Failed(STOPPING.into())),
            // Where one process is for all, another one is not kept beside it.
            Begun::Silent if offer.client.is_none() && offer.shared.is_none() => {
                offer.modern.assume(shared, Instant::now());
                Ok((Era::Assumed, None))
            }
            Begun::Refused(_) | Begun::Lost | Begun::Silent => {
                shared.give_up();
                match &offer.client {
                    Some(client) if client.way(era::Era::Modern) != era::Way::Crossed => {
                        Err(Error::Failed("the server cannot be asked what it speaks".into()))
                    }
                    _ => Ok((Era::Legacy, None)),
                }
            }
        }
    }

    /// What a fresh server answers to `server/discover`.
    fn ask_era(self: &Arc<Self>, offer: &Arc<Offer>, params: Option<&str>) -> Result<(Arc<Shared>, Begun), Error> {
        let shared = self.link_by(Box::new(self.modern_hub(params)));
        self.begin_link(offer, &shared)?;
        let begun = shared.wait(PROBE);
        Ok((shared, begun))
    }

    /// Of a server that is only assumed to be a legacy one, and whose process that was asked has ended, another process
    /// is asked. Nobody waits for it.
    pub(super) fn ask_again(self: &Arc<Self>, offer: &Arc<Offer>, now: Instant) {
        if !offer.modern.is_due(now) {
            return;
        }
        let shared = self.link_by(Box::new(self.modern_hub(None)));
        match self.begin_link(offer, &shared) {
            Ok(_) => offer.modern.assume(shared, now),
            Err(error) => {
                log::debug(format_args!("'{}' cannot be asked again what it speaks: {error}", offer.shown()));
            }
        }
    }

    /// Waits for the server behind a link over the bridge to begin, because it may be none that the bridge is for. The
    /// request was not sent yet, so that it can take another way.
    pub(super) fn confirm(self: &Arc<Self>, offer: &Arc<Offer>, visit: Visit, caller: &Caller) -> Result<Visit, Error> {
        let modern = &offer.modern;
        if modern.pinned != Protocol::Auto {
            return Ok(visit);
        }
        let mut begun = visit.place.shared.wait(Duration::ZERO);
        if begun == Begun::Silent {
            caller.waits();
            begun = visit.place.shared.wait(PROBE);
            modern.hear_late(); // it begins at the same time, perhaps
            if modern.state().era == Era::Modern {
                return self.straight_visit(offer);
            }
        }
        match begun {
            Begun::Refused(answer) if refuses_legacy(&answer) => {
                drop(visit);
                modern.forget_refused();
                modern.learn_crossed();
                self.straight_visit(offer)
            }
            Begun::Lost => {
                modern.doubt_legacy();
                Ok(visit)
            }
            _ => Ok(visit),
        }
    }
}

impl Modern {
    /// This server said nothing in time. It may answer yet.
    fn assume(&self, asked: Arc<Shared>, now: Instant) {
        let mut state = self.state();
        state.asked = Some(now);
        let former = state.late.replace(asked);
        drop(state);
        if let Some(link) = former {
            link.give_up();
        }
    }

    /// Whether the server is to be asked again; who is told so does it.
    fn is_due(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_late = state.asked.is_none_or(|last| last + ASK_AGAIN <= now);
        let is_due = is_late && state.era == Era::Assumed && state.late.is_none();
        if is_due {
            state.asked = Some(now);
        }
        is_due
    }

    /// A server that said nothing in time may have answered since. Who is on a link over the bridge stays there; who
    /// comes from now on goes the way that it says.
    pub fn hear_late(&self) {
        let Some(late) = self.state().late.clone() else { return };
        let begun = late.wait(Duration::ZERO);
        if begun == Begun::Silent {
            return;
        }
        let mut state = self.state();
        if state.late.take_if(|known| Arc::ptr_eq(known, &late)).is_none() {
            return; // another thread has heard it
        }
        let is_asked = state.era == Era::Probing; // by somebody who will know better
        match begun {
            Begun::Ready if !is_asked => state.era = Era::Modern,
            Begun::Refused(_) if state.era == Era::Assumed => state.era = Era::Legacy,
            _ => {}
        }
        let is_needed = state.era == Era::Modern && begun == Begun::Ready && state.straight.is_none();
        if is_needed {
            state.straight = Some(late.clone());
        }
        if begun != Begun::Lost {
            log::debug(format_args!("a server tells late what it speaks to modern clients: {:?}", state.era));
        }
        drop(state);
        self.known.notify_all();
        if !is_needed {
            late.give_up();
        }
    }

    /// Whether what it is said to speak is only assumed.
    pub fn is_assumed(&self) -> bool {
        self.state().era == Era::Assumed
    }
}

#[cfg(test)]
mod tests;
