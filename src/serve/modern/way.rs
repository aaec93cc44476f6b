//! Which way a modern request takes, and how a legacy client gets over the bridge.
//!
//! Always: no server is begun, and nobody is waited for, with the state of the modern side locked; of links only those over
//! the bridge are looked into meanwhile, because the straight one may be on its way to that state.

use super::{ALL_BUSY, Crossing, Era, PATIENCE, Probing, TOO_MANY, Visit, Way};
use crate::config::Target;
use crate::error::Error;
use crate::log;
use crate::protocol::bridge::both::ModernServer;
use crate::protocol::bridge::to_legacy::{self, ToLegacy, legacy_capabilities, may_be_addressed};
use crate::protocol::era::{self, Protocol};
use crate::protocol::http::Refusal;
use crate::protocol::hub;
use crate::protocol::message::Message;
use crate::protocol::modern::{meta, refuses_legacy, share};
use crate::serve::house::House;
use crate::serve::house::{STOPPING, unavailable};
use crate::serve::offer::Offer;
use crate::serve::server::Of;
use crate::serve::session::Session;
use crate::serve::shared::{Begun, Shared};
use crate::system;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to answer the first `server/discover`. One that has not is taken for a legacy one.
const PROBE: Duration = Duration::from_secs(10);
/// How long a further link over the bridge is kept without a client, and one whose server owes the answer to a call that
/// was cancelled.
const SPARE_LINK: Duration = Duration::from_secs(30);
/// How often a call that waits for a link is looked after: its client may have gone.
const LOOK: Duration = Duration::from_secs(1);
/// Whatever a server may ask of a client, as a legacy server is told it.
const EVERYTHING: &str = r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"context":{},"tools":{}}}"#;

impl House {
    /// The way that a modern request takes. The thread that asks may have to wait until it is known what the server
    /// speaks, or until a link is free, unless `is_gone` says that its client has gone.
    ///
    /// # Errors
    /// There is no server for it.
    pub fn modern_way(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Way, Refusal> {
        if let Some(visit) = resumed(offer, request) {
            return Ok(Way::Link(visit));
        }
        offer.modern.forget_refused();
        if offer.shared.is_none() {
            offer.modern.forget_stuck(Instant::now(), SPARE_LINK);
        }
        for shared in offer.reconsider() {
            self.end_sessions_on(&shared);
        }
        match self.era(offer, request)? {
            (Era::Modern, Some(greeting)) => return Ok(Way::Answer(greeting)),
            (Era::Modern, None) => self.straight_visit(offer),
            _ => self.crossing(offer, request, is_gone).and_then(|visit| self.confirm(offer, visit)),
        }
        .map(Way::Link)
        .map_err(|error| unavailable(&error.to_string()))
    }

    fn straight_visit(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<Visit, Error> {
        let place = self.straight(offer)?.keep_place();
        Ok(Visit { offer: offer.clone(), place, asked: false })
    }

    /// Waits for the server behind a link over the bridge to begin, because it may be none that the bridge is for. The
    /// request was not sent yet, so that it can take another way.
    fn confirm(self: &Arc<Self>, offer: &Arc<Offer>, visit: Visit) -> Result<Visit, Error> {
        let modern = &offer.modern;
        if modern.pinned != Protocol::Auto {
            return Ok(visit);
        }
        match visit.place.shared.wait(PROBE) {
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

    /// What the server speaks to modern clients; found out now if nobody knows. The answer to this very request, if
    /// it was what the server was asked then.
    fn era(self: &Arc<Self>, offer: &Arc<Offer>, request: &Message) -> Result<(Era, Option<Message>), Refusal> {
        let modern = &offer.modern;
        let mut state = modern.state();
        while state.era == Era::Probing && !state.is_closing {
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
        let mut probing = Probing { modern, found: Era::Unknown };
        let found = self.probe(offer, request);
        probing.found = found.as_ref().map_or(Era::Unknown, |(era, _)| *era);
        drop(probing);
        let (era, greeting) = found.map_err(|error| unavailable(&error.to_string()))?;
        log::debug(format_args!("'{}' speaks to modern clients: {era:?}", offer.shown()));
        Ok((era, greeting))
    }

    /// Asks a server of its own what it speaks, with the client's own question if it is one.
    fn probe(self: &Arc<Self>, offer: &Arc<Offer>, request: &Message) -> Result<(Era, Option<Message>), Error> {
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
            Begun::Refused(_) | Begun::Lost | Begun::Silent => {
                shared.retire();
                shared.stop();
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

    fn modern_hub(&self, probe: Option<&str>) -> ModernServer<share::Share> {
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
        let shared = {
            let mut state = offer.modern.state();
            let fresh = || self.link_by(Box::new(self.modern_hub(None)));
            state.straight.get_or_insert_with(fresh).clone()
        };
        self.begin_link(offer, &shared)?;
        if let Begun::Refused(_) = shared.wait(Duration::ZERO) {
            // It is not what it was. What is asked next needs another link: this one ends whatever is begun on it.
            let mut state = offer.modern.state();
            let was_it = state.straight.take_if(|known| Arc::ptr_eq(known, &shared)).is_some();
            if offer.modern.pinned == Protocol::Auto && was_it && state.era != Era::Probing {
                (state.era, state.serves_legacy) = (Era::Unknown, None);
            }
            drop(state);
            self.end_sessions_on(&shared);
            shared.retire();
            shared.stop();
        }
        Ok(shared)
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
    /// another one. Where as many as may be are busy, it waits for one of them: with its client, and not for ever.
    fn crossing(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        request: &Message,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Visit, Error> {
        // One process for all is told that its client can do everything; the bridge knows who cannot.
        let capabilities = match &offer.shared {
            Some(_) => EVERYTHING.to_owned(),
            None => legacy_capabilities(meta::capabilities(request).unwrap_or("{}")),
        };
        let asked = may_be_addressed(request);
        let until = Instant::now() + PATIENCE;
        let mut has_waited = false;
        let _waits = offer.modern.waits();
        let mut state = offer.modern.state();
        let place = loop {
            if let Some(place) = state.free_for(request, &capabilities, asked) {
                break place;
            }
            if state.is_closing {
                return Err(Error::Failed(STOPPING.into()));
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
            if is_gone() {
                return Err(Error::Failed("the client has gone".into()));
            }
            if !std::mem::replace(&mut has_waited, true) {
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
        self.begin_link(offer, &visit.place.shared)?;
        Ok(visit)
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

    /// Begins a link with a server, unless it has one.
    fn begin_link(self: &Arc<Self>, offer: &Arc<Offer>, shared: &Arc<Shared>) -> Result<(), Error> {
        let Some(_turn) = shared.turn_to_begin() else { return Ok(()) };
        loop {
            let server = self.take_server(offer)?;
            if server.owner.give_to(&Of::Shared(shared.clone())) {
                server.begin(shared);
                break;
            } // else: the spare has ended meanwhile
        }
        self.prepare_or_log(offer);
        Ok(())
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
            self.end_idle_links(&offer, now);
            if let Some(shared) = offer.modern.take_refused() {
                self.end_sessions_on(&shared);
                shared.retire();
                shared.stop();
            }
            offer.modern.is_done(); // what was too old may have kept a link from others
        }
        next
    }

    /// Ends links over the bridge that nobody has used for long. The first of a kind is kept for longer, unless calls may
    /// not be sent over it because of one that was cancelled.
    fn end_idle_links(&self, offer: &Offer, now: Instant) {
        let mut kinds = Vec::new();
        let mut ended = Vec::new();
        offer.modern.state().crossings.retain(|crossing| {
            let is_spare = offer.shared.is_none() && crossing.shared.is_haunted();
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
