//! Every session: how it begins, how it is found, and how it ends.
//!
//! Always: a session's place is taken before anything is started for it, and given back if it does not begin.

use super::{House, STOPPING, unavailable};
use crate::log;
use crate::protocol::http::Refusal;
use crate::protocol::hub::Kind;
use crate::serve::offer::Offer;
use crate::serve::server::Of;
use crate::serve::session::{self, Session};
use crate::system;
use std::sync::Arc;
use std::time::Instant;

impl House {
    /// The session of this id, if it is one of the server of this name.
    pub fn find_session(&self, server: Option<&str>, id: &str) -> Option<Arc<Session>> {
        let found = self.state().sessions.get(id).cloned().flatten();
        found.filter(|session| session.offer.server.name.as_deref() == server)
    }

    /// A new session, with the server that it will talk to. Whoever gets it tells its client the id.
    ///
    /// # Errors
    /// There are too many, or there is no server for it.
    pub fn open_session(self: &Arc<Self>, offer: &Arc<Offer>, resumable: bool) -> Result<Arc<Session>, Refusal> {
        let id = system::random_id().map_err(|_| unavailable("there is no randomness for a session id"))?;
        {
            let mut state = self.state();
            if state.stopping {
                return Err(unavailable(STOPPING));
            }
            if state.sessions.len() >= self.options.sessions {
                return Err(unavailable("too many sessions; --max-sessions allows more"));
            }
            if state.servers.len() >= self.most_servers(&state) {
                return Err(unavailable("too many servers of earlier sessions have not ended yet"));
            }
            state.sessions.insert(id.clone(), None); // the place is taken before anything is started for it
        }
        let opened = self.begin_session(&id, offer, resumable);
        if let Err(refusal) = &opened {
            self.state().sessions.remove(&id);
            log::warning(format_args!("'{}': no session: {}", offer.shown(), refusal.reason));
        }
        opened
    }

    fn begin_session(self: &Arc<Self>, id: &str, offer: &Arc<Offer>, resumable: bool) -> Result<Arc<Session>, Refusal> {
        let mut limits = self.session_limits(resumable);
        let register = |session: &Arc<Session>| {
            self.state().sessions.insert(id.into(), Some(session.clone()));
        };
        if offer.modern.refuses_legacy() {
            self.reconsider(offer);
        }
        limits.is_bridged = offer.modern.refuses_legacy();
        let shared = if limits.is_bridged {
            Some(self.straight(offer).map_err(|error| unavailable(&error.to_string()))?)
        } else {
            offer.shared.clone()
        };
        if let Some(shared) = shared {
            let make = |sender| Session::new(id.into(), offer.clone(), sender, limits);
            let session = shared.join(Kind::Session, make);
            register(&session);
            return Ok(session);
        }
        loop {
            let server = self.take_server(offer).map_err(|error| unavailable(&error.to_string()))?;
            let session = Arc::new(Session::new(id.into(), offer.clone(), server.sender.clone(), limits));
            // The client learns the id only later, so nobody finds the session before it has its server.
            register(&session);
            if server.owner.give_to(&Of::Session(session.clone())) {
                return Ok(session);
            } // else: the spare has ended meanwhile
        }
    }

    /// What one session may cost.
    pub fn session_limits(&self, resumable: bool) -> session::Limits {
        session::Limits {
            open_requests: self.options.open_requests,
            waiting_bytes: self.options.limits.stream_bytes,
            replay_bytes: if resumable { self.options.replay_bytes } else { 0 },
            replay_age: self.options.replay_age,
            is_modern: false,
            is_bridged: false,
            lists_tools: false,
        }
    }

    /// The session is over on the client's side; its server is told.
    pub fn close_session(self: &Arc<Self>, session: &Session, why: &str) {
        self.state().sessions.remove(&session.id);
        if session.end(why) {
            log::debug(format_args!("session {}: {why}", session.shown()));
        }
        session.sender().stop();
        self.prepare_or_log(&session.offer);
    }

    /// Ends the sessions that nobody has used for long; says when to look again.
    pub fn end_idle_sessions(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let sessions: Vec<_> = self.state().sessions.values().flatten().cloned().collect();
        let mut next = None;
        for session in sessions {
            let Some(left) = session.connected().1 else { continue };
            let due = left + self.options.session_idle;
            if due <= now {
                self.close_session(&session, "nobody has used the session for long");
            } else {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
            }
        }
        next
    }

    /// The server that these sessions share is not started again.
    pub(super) fn end_sessions_of(self: &Arc<Self>, offer: &Arc<Offer>, why: &str) {
        let sessions: Vec<_> = self.state().sessions.values().flatten().cloned().collect();
        for session in sessions.iter().filter(|session| Arc::ptr_eq(&session.offer, offer)) {
            self.close_session(session, why);
        }
    }

    /// Ends the sessions that are left.
    pub fn end_sessions(&self) {
        let left: Vec<_> = self.state().sessions.drain().collect();
        for session in left.into_iter().filter_map(|(_, session)| session) {
            session.end(STOPPING);
        }
    }
}
