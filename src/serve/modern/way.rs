//! Which way a modern request takes, and how a legacy client gets over the bridge.
//!
//! Always: no server is begun, and nobody is waited for, with the state of the modern side locked; of links only those over
//! the bridge are looked into meanwhile, because the straight one may be on its way to that state.

use super::era::Era;
use super::{ALL_BUSY, Caller, Crossing, PATIENCE, TOO_MANY, Visit, Way};
use crate::config::Target;
use crate::error::Error;
use crate::log;
use crate::protocol::bridge::both::ModernServer;
use crate::protocol::bridge::to_legacy::{self, ToLegacy, legacy_capabilities, may_be_addressed};
use crate::protocol::http::Refusal;
use crate::protocol::hub;
use crate::protocol::message::Message;
use crate::protocol::modern::{meta, share};
use crate::serve::house::{House, STOPPING, unavailable};
use crate::serve::offer::Offer;
use crate::serve::server::Of;
use crate::serve::session::Session;
use crate::serve::shared::{Begun, Shared};
use crate::system;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long a further link over the bridge is kept without a client, and one whose server owes the answer to a call that
/// was cancelled.
pub(super) const SPARE_LINK: Duration = Duration::from_secs(30);
/// How often a call that waits for a link is looked after: its client may have gone.
const LOOK: Duration = Duration::from_secs(1);
/// Whatever a server may ask of a client, as a legacy server is told it.
const EVERYTHING: &str = r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"context":{},"tools":{}}}"#;

impl House {
    /// The way that a modern request takes. The thread that asks may have to wait until it is known what the server
    /// speaks, or until a link is free, unless its client has gone.
    ///
    /// # Errors
    /// There is no server for it.
    pub fn modern_way(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
        caller: &Caller,
    ) -> Result<Way, Refusal> {
        if let Some(visit) = resumed(offer, request) {
            return Ok(Way::Link(visit));
        }
        offer.modern.forget_refused();
        if offer.shared.is_none() {
            offer.modern.forget_stuck(Instant::now(), SPARE_LINK);
        }
        self.reconsider(offer);
        offer.modern.hear_late();
        let found = match self.era(offer, request, caller)? {
            (Era::Modern, Some(greeting)) => return Ok(Way::Answer(greeting)),
            (Era::Modern, None) => Ok(None),
            (era, _) => {
                if era == Era::Assumed {
                    self.ask_again(offer, Instant::now());
                }
                self.crossing(offer, request, caller)
            }
        };
        let way = found.and_then(|visit| match visit {
            Some(visit) => self.confirm(offer, visit, caller),
            None => self.straight_visit(offer),
        });
        way.map(Way::Link).map_err(|error| unavailable(&error.to_string()))
    }

    /// A place on the link for all modern clients.
    pub(super) fn straight_visit(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<Visit, Error> {
        let place = self.straight(offer)?.keep_place();
        Ok(Visit { offer: offer.clone(), place, asked: false })
    }

    /// What decides on a link to a modern server; `probe`: a client's words for the question what the server is.
    pub(super) fn modern_hub(&self, probe: Option<&str>) -> ModernServer<share::Share> {
        let limits = self.hub_limits();
        let modern = probe.map_or_else(|| share::Share::new(limits), |params| share::Share::asking(limits, params));
        ModernServer::new(modern, limits)
    }

    /// What the clients of a link may keep waiting.
    pub fn hub_limits(&self) -> hub::Limits {
        hub::Limits { open: self.options.open_requests, waiting_bytes: self.options.limits.stream_bytes }
    }

    /// The link for all modern clients of a modern server. It is begun if there is none, and if its server has ended.
    ///
    /// # Errors
    /// The server cannot be started.
    pub fn straight(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<Arc<Shared>, Error> {
        offer.modern.hear_late(); // one that has not answered yet may never: nobody is to wait for it
        let fresh = || self.link_by(Box::new(self.modern_hub(None)));
        let shared = offer.modern.state().straight.get_or_insert_with(fresh).clone();
        self.begin_link(offer, &shared)?;
        if let Begun::Refused(_) = shared.wait(Duration::ZERO) {
            self.give_up_straight(offer, &shared);
        }
        Ok(shared)
    }

    /// The server behind the link for all modern clients is not what it was. What is asked next needs another link: this
    /// one ends whatever is begun on it.
    fn give_up_straight(self: &Arc<Self>, offer: &Offer, refused: &Arc<Shared>) {
        offer.modern.forget_straight(refused);
        self.end_sessions_on(refused);
        refused.give_up();
    }

    /// What the client of a remote server has found out meanwhile is heard, before anybody relies on what was believed.
    pub fn reconsider(self: &Arc<Self>, offer: &Offer) {
        for shared in offer.reconsider() {
            self.end_sessions_on(&shared);
        }
    }

    /// A link is given up: legacy sessions on it learn it (404), so that their clients begin others, on another link.
    fn end_sessions_on(self: &Arc<Self>, shared: &Shared) {
        let sessions = shared.sessions();
        let why = shared.refusal().unwrap_or_else(|| "the server has ended".into());
        for session in sessions.iter().filter(|session| !session.is_modern && !session.id.is_empty()) {
            self.close_session(session, &why);
        }
    }

    /// The link over the bridge for a request of a client that can do what it says: the first that is free for it, or
    /// another one. Where as many as may be are busy, it waits for one of them: with its client, and not for ever. None
    /// is needed if the server turns out to be a modern one meanwhile.
    fn crossing(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
        caller: &Caller,
    ) -> Result<Option<Visit>, Error> {
        // One process for all is told that its client can do everything; the bridge knows who cannot.
        let capabilities = match &offer.shared {
            Some(_) => EVERYTHING.to_owned(),
            None => legacy_capabilities(meta::capabilities(request).unwrap_or("{}")),
        };
        let asked = may_be_addressed(request);
        let until = Instant::now() + PATIENCE;
        let _waits = offer.modern.waits();
        let mut state = offer.modern.state();
        let place = loop {
            if let Some(place) = state.free_for(request, &capabilities, asked) {
                break place;
            }
            if state.is_closing {
                return Err(Error::Failed(STOPPING.into()));
            }
            if state.era == Era::Modern {
                return Ok(None);
            }
            let left = until.saturating_duration_since(Instant::now());
            if offer.shared.is_some()
                && let Some(only) = state.crossings.first_mut()
            {
                break only.take(asked); // the bridge refuses what it cannot tell whose it is
            }
            let busy = state.crossings.iter().filter(|one| one.capabilities == capabilities && one.is_busy(request));
            let may_begin = state.crossings.len() < self.options.sessions;
            if busy.count() < self.options.links && may_begin {
                let shared = self.link_by(Box::new(self.bridge(offer, request, capabilities.clone())?));
                let mut crossing = Crossing { capabilities, shared, asked: 0 };
                let place = crossing.take(asked);
                state.crossings.push(crossing);
                break place;
            }
            if left.is_zero() {
                return Err(Error::Failed(if may_begin { ALL_BUSY } else { TOO_MANY }.into()));
            }
            if caller.is_gone() {
                return Err(Error::Failed("the client has gone".into()));
            }
            if !caller.waits() {
                log::debug(format_args!("'{}': a call waits for one of the links, which are all busy", offer.shown()));
            }
            let waited = offer.modern.known.wait_timeout(state, left.min(LOOK));
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        };
        if asked {
            state.share_inputs(&place.shared, self.options.inputs, self.options.input_bytes);
        }
        drop(state);
        let visit = Visit { offer: offer.clone(), place, asked };
        if self.begin_link(offer, &visit.place.shared)? {
            caller.waits();
        }
        Ok(Some(visit))
    }

    fn bridge(&self, offer: &Offer, request: &Message, capabilities: String) -> Result<ToLegacy, Error> {
        let secret = system::random_id().map_err(|error| Error::Failed(format!("no randomness: {error}")))?;
        let ours = || format!(r#"{{"name":"mcp-proxy","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
        let settings = to_legacy::Settings {
            client_info: meta::client_info(request).map_or_else(ours, str::to_owned),
            capabilities,
            one_client: false,
            is_remote: !matches!(offer.server.target, Target::Command(_)),
            most_parked: self.options.inputs,
            parked_bytes: self.options.input_bytes,
            parked_age: self.options.input_timeout,
            gather: to_legacy::GATHER,
        };
        Ok(ToLegacy::new(self.hub_limits(), settings, secret))
    }

    /// Begins a link with a server, unless it has one; says whether it did.
    pub(super) fn begin_link(self: &Arc<Self>, offer: &Arc<Offer>, shared: &Arc<Shared>) -> Result<bool, Error> {
        let Some(_turn) = shared.turn_to_begin() else { return Ok(false) };
        loop {
            let server = self.take_server(offer)?;
            if server.owner.give_to(&Of::Shared(shared.clone())) {
                server.begin(shared);
                break;
            } // else: the spare has ended meanwhile
        }
        self.prepare_or_log(offer);
        Ok(true)
    }

    /// A legacy client's server has refused to speak to it, because it speaks modern revisions only: the client goes
    /// over the bridge.
    pub fn cross(self: &Arc<Self>, session: &Arc<Session>) {
        let offer = &session.offer;
        log::debug(format_args!("session {} goes over the bridge: the server is a modern one", session.shown()));
        self.release_server(session);
        if session.is_ended() {
            return;
        }
        if let Some(shared) = &offer.shared {
            shared.stop();
        }
        match self.straight(offer) {
            Ok(shared) => {
                session.cross(shared.take_in(hub::Kind::Session, session));
                if session.is_ended() {
                    session.sender().stop();
                }
            }
            Err(error) => self.close_session(session, &error.to_string()),
        }
    }

    /// Sees to what is too old; says when to look again.
    pub fn look_after_links(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let offers = {
            let state = self.state();
            let mut offers = state.offers.clone();
            for (offer, _) in state.servers.values() {
                // One that is not offered any more may still have clients.
                if !offers.iter().any(|known| Arc::ptr_eq(known, offer)) {
                    offers.push(offer.clone());
                }
            }
            offers
        };
        for offer in offers.iter().filter(|offer| offer.state().removed) {
            for shared in offer.modern.links() {
                shared.retire();
            }
        }
        let next = offers.iter().flat_map(|offer| offer.modern.links()).filter_map(|shared| shared.tick());
        let next = next.min();
        for offer in offers {
            offer.modern.hear_late();
            self.end_idle_links(&offer, now);
            if let Some(shared) = offer.modern.refused() {
                self.give_up_straight(&offer, &shared);
            }
            offer.modern.is_done(); // what was too old may have kept a link from others
        }
        next
    }

    /// Ends links over the bridge that nobody has used for long. The first of a kind is kept for longer, unless calls may
    /// not be sent over it because of one that was cancelled, or no further ones because the server is a modern one. A
    /// server that may answer late ends when it has not for long and none of them is left, or when nobody waits for it.
    fn end_idle_links(&self, offer: &Offer, now: Instant) {
        let mut kinds = Vec::new();
        let mut ended = Vec::new();
        let mut state = offer.modern.state();
        let is_modern = state.era == Era::Modern;
        state.crossings.retain(|crossing| {
            let is_spare = is_modern || offer.shared.is_none() && crossing.shared.is_haunted();
            let is_first = !is_spare && !kinds.contains(&crossing.capabilities);
            if is_first {
                kinds.push(crossing.capabilities.clone());
            }
            let limit = if is_first { self.options.session_idle } else { SPARE_LINK.min(self.options.session_idle) };
            let is_idle = crossing.shared.idle_since().is_some_and(|left| left + limit <= now);
            if is_idle {
                ended.push(crossing.shared.clone());
            }
            !is_idle
        });
        let is_old = state.asked.is_none_or(|asked| asked + self.options.session_idle <= now);
        let is_awaited = matches!(state.era, Era::Assumed | Era::Probing);
        if !is_awaited || state.crossings.is_empty() && is_old {
            ended.extend(state.late.take());
        }
        drop(state);
        for shared in ended {
            shared.retire();
        }
    }
}

/// The link on which a call waits for its client's input, if this request brings it.
fn resumed(offer: &Arc<Offer>, request: &Message) -> Option<Visit> {
    if !request.params().is_some_and(|params| params.contains("requestState") || params.contains('\\')) {
        return None;
    }
    let mut state = offer.modern.state();
    let crossing = state.crossings.iter_mut().find(|crossing| crossing.shared.resumes(request))?;
    let place = crossing.take(true);
    Some(Visit { offer: offer.clone(), place, asked: true })
}

#[cfg(test)]
mod tests;
