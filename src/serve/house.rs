//! Who is served: every offer, every server, every session.
//!
//! Always: a server that is not shared has one session at the most; the lock is held for small changes only, and
//! nothing else is locked under it but the state of one offer.

use super::by_id::ById;
use super::gate::Gate;
use super::modern::Modern;
use super::offer::Offer;
use super::server::{Of, Owner, Server};
use super::session::{self, Session};
use super::shared::Shared;
use super::{Notice, Options, STACK_BYTES, Sharing};
use crate::config::{self, Target};
use crate::downstream::http::Connection;
use crate::error::Error;
use crate::log;
use crate::protocol::http::{Refusal, Rules};
use crate::protocol::hub::{Hub, Kind};
use crate::protocol::message::{Kind as MessageKind, Message};
use crate::protocol::metrics::Refusals;
use crate::protocol::share::Share;
use crate::system::{self, memory};
use crate::upstream::{Event, Link, Receiver, child, remote};
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};
use ureq_proto::http::StatusCode;

/// What a client reads that asks while we stop.
pub const STOPPING: &str = "mcp-proxy is stopping";

/// What all threads of this mode share.
pub struct House {
    pub options: Options,
    pub rules: Rules,
    pub gate: Gate,
    pub begun: Instant,
    /// Requests that were refused.
    pub refusals: Refusals,
    notices: mpsc::Sender<Notice>,
    state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
pub struct State {
    pub stopping: bool,
    pub offers: Vec<Arc<Offer>>,
    /// Every session by its id; `None` while its server is being found.
    pub sessions: ById<Option<Arc<Session>>>,
    /// Every server that has not ended, the spares too.
    pub servers: HashMap<u64, (Arc<Offer>, Arc<Server>)>,
    pub last_activity: Option<SystemTime>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

impl House {
    /// A house without offers and sessions. What it tells goes to `notices`.
    pub fn new(options: Options, rules: Rules, notices: mpsc::Sender<Notice>) -> Arc<Self> {
        let gate = Gate::new(options.tokens.clone(), options.token_file.clone());
        Arc::new(Self {
            options,
            rules,
            gate,
            begun: Instant::now(),
            refusals: Refusals::default(),
            notices,
            state: Mutex::default(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection until it ends.
    pub fn serve(self: &Arc<Self>, connection: Connection) {
        super::requests::serve(self, connection);
    }

    /// What is offered from now on. What is unchanged notices nothing; what is not in the list any more finishes its
    /// sessions and goes.
    ///
    /// # Errors
    /// The first server that cannot be offered; nothing has changed then.
    pub fn offer(self: &Arc<Self>, servers: &[config::Server]) -> Result<(), Error> {
        let old = self.state().offers.clone();
        let mut offers = Vec::new();
        for server in servers {
            if let Some(unchanged) = old.iter().find(|offer| offer.server == *server) {
                offers.push(unchanged.clone());
                continue;
            }
            let modern = Modern::new(self.options.server_protocol);
            let offer = Offer::new(server.clone(), self.share()?, modern, self.notices.clone())?;
            offers.push(Arc::new(offer));
        }
        let (gone, new) = {
            let mut state = self.state();
            let gone: Vec<_> =
                old.iter().filter(|old| !offers.iter().any(|offer| Arc::ptr_eq(offer, old))).cloned().collect();
            let new: Vec<_> =
                offers.iter().filter(|new| !old.iter().any(|offer| Arc::ptr_eq(offer, new))).cloned().collect();
            state.offers = offers;
            (gone, new)
        };
        for offer in gone {
            if !self.options.servers.is_empty() {
                log::info(format_args!("'{}' is not offered any more", offer.shown()));
            }
            Self::retire(&offer);
        }
        for offer in new {
            if let Err(error) = self.prepare(&offer) {
                if offer.server.name.is_none() && old.is_empty() && servers.len() == 1 {
                    return Err(error); // there is nothing else to serve
                }
                log::error(format_args!("'{}': {error}", offer.shown()));
            }
        }
        Ok(())
    }

    fn share(&self) -> Result<Option<Arc<Shared>>, Error> {
        if self.options.sharing == Sharing::Session {
            return Ok(None);
        }
        let secret = system::random_id().map_err(|error| Error::Failed(format!("no randomness: {error}")))?;
        Ok(Some(Shared::new(Box::new(Share::new(self.hub_limits(), secret)), self.notices.clone(), true)))
    }

    /// A link that clients share as this decides, begun when one needs it.
    pub fn link_by(&self, hub: Box<dyn Hub>) -> Arc<Shared> {
        Shared::new(hub, self.notices.clone(), false)
    }

    fn retire(offer: &Offer) {
        let spare = {
            let mut state = offer.state();
            state.removed = true;
            state.due = None;
            state.spare.take()
        };
        if let Some(spare) = spare {
            spare.sender.stop();
        }
        for shared in offer.shared.iter().cloned().chain(offer.modern.links()) {
            shared.retire();
        }
    }

    /// The offer of this name.
    pub fn find_offer(&self, name: Option<&str>) -> Option<Arc<Offer>> {
        self.state().offers.iter().find(|offer| offer.server.name.as_deref() == name).cloned()
    }

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

    /// The spare, or a server started now.
    pub fn take_server(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<Arc<Server>, Error> {
        let spare = offer.state().spare.take();
        spare.map_or_else(|| self.start_server(offer, Of::Nobody), Ok)
    }

    /// The server of a session that does not need it any more ends without it.
    pub fn release_server(&self, session: &Arc<Session>) {
        let servers: Vec<_> = self.state().servers.values().map(|(_, server)| server.clone()).collect();
        for server in servers.into_iter().filter(|server| server.owner.leave(session)) {
            server.sender.stop();
        }
    }

    /// As [`House::prepare`]; what goes wrong is logged and tried again.
    pub fn prepare_or_log(self: &Arc<Self>, offer: &Arc<Offer>) {
        if let Err(error) = self.prepare(offer) {
            log::error(format_args!("'{}': {error}", offer.shown()));
        }
    }

    /// As many sessions again may be over, and each offer has a spare and one that may tell late what it speaks.
    fn most_servers(&self, state: &State) -> usize {
        self.options.sessions.saturating_add(state.offers.len()).saturating_mul(2)
    }

    /// Starts the server that all sessions share, or the next session's, unless there is one or another thread is
    /// about to.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn prepare(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<(), Error> {
        let is_full = {
            let state = self.state();
            let is_one_too_many =
                state.sessions.len() >= self.options.sessions || state.servers.len() >= self.most_servers(&state);
            state.stopping || is_one_too_many && offer.shared.is_none()
        };
        {
            let mut state = offer.state();
            let there = state.spare.is_some() || offer.shared.as_ref().is_some_and(|shared| shared.has_server());
            let waits = state.due.is_some_and(|due| due > Instant::now());
            let needless = offer.shared.is_some() && offer.modern.refuses_legacy();
            if is_full || state.removed || state.preparing || there || waits || needless || !offer.is_prepared() {
                return Ok(());
            }
            state.preparing = true;
        }
        let owner = offer.shared.clone().map_or(Of::Nobody, Of::Shared);
        let started = self.start_server(offer, owner);
        let mut state = offer.state();
        state.preparing = false;
        if offer.is_missing() {
            let _ = self.notices.send(Notice::Changed); // if it has ended already, another may have been due meanwhile
        }
        let server = started?;
        if state.removed && offer.shared.is_none() {
            drop(state);
            server.sender.stop(); // nobody will ask for it
        } else if offer.shared.is_none() && !matches!(server.owner.get(), Of::Ended) {
            state.spare = Some(server);
        }
        Ok(())
    }

    fn start_server(self: &Arc<Self>, offer: &Arc<Offer>, of: Of) -> Result<Arc<Server>, Error> {
        let owner = Owner::new(of.clone());
        let link = self.link(offer, &owner).and_then(|link| self.keep_server(offer, owner, link));
        let now = Instant::now();
        match &link {
            Ok(_) => offer.state().started(now),
            Err(error) => {
                offer.state().failed(&error.to_string(), now);
                if let Of::Shared(shared) = of {
                    shared.lose(&error.to_string());
                }
                let _ = self.notices.send(Notice::Changed);
            }
        }
        link
    }

    fn link(&self, offer: &Arc<Offer>, owner: &Arc<Owner>) -> Result<Link, Error> {
        match (&offer.server.target, &offer.client) {
            (Target::Command(command), _) => command.start(child::Limits {
                line_bytes: self.options.limits.body_bytes,
                waiting_bytes: self.options.limits.stream_bytes,
                stop_timeout: self.options.stop_timeout,
                mark: offer.server.name.as_deref().map(Arc::from),
            }),
            (Target::Remote(_), Some(client)) => {
                let owner = owner.clone();
                let of = Arc::downgrade(offer);
                let deliver = move |message: Message| {
                    let is_answer = matches!(message.kind(), MessageKind::Response { .. });
                    owner.get().deliver(message);
                    if let Some(offer) = of.upgrade().filter(|_| is_answer) {
                        offer.modern.is_done();
                    }
                };
                let offer = Arc::downgrade(offer);
                let failed = move |why: &str| {
                    if let Some(offer) = offer.upgrade() {
                        offer.state().last_error = Some(why.to_owned());
                    }
                };
                let (deliver, failed) = (Arc::new(deliver), Arc::new(failed));
                let (open_requests, crossing) = (self.options.open_requests, remote::Crossing::Refused);
                Ok(remote::link(client.clone(), deliver, failed, open_requests, crossing))
            }
            (Target::Remote(_), None) => Err(Error::Failed("there is no way to it".into())),
        }
    }

    /// From here on the stop knows of the server, and waits for it.
    fn keep_server(self: &Arc<Self>, offer: &Arc<Offer>, owner: Arc<Owner>, link: Link) -> Result<Arc<Server>, Error> {
        let Link { sender, receiver } = link;
        let server = {
            let mut state = self.state();
            if state.stopping {
                return Err(Error::Failed(STOPPING.into())); // dropping the link ends the process
            }
            state.next += 1;
            let server = Arc::new(Server { number: state.next, sender, owner });
            state.servers.insert(server.number, (offer.clone(), server.clone()));
            server
        };
        let thread = {
            let (house, offer, server) = (self.clone(), offer.clone(), server.clone());
            let listen = move || house.listen(&offer, &server, receiver);
            memory::begin(thread::Builder::new().name("server".into()), STACK_BYTES, listen)
        };
        let thread = thread.map_err(|error| {
            self.discount_server(server.number);
            Error::Failed(format!("cannot start a thread for the server: {}", log::cause(&error)))
        })?;
        let mut state = self.state();
        let (ended, mut running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.threads).into_iter().partition(JoinHandle::is_finished);
        running.push(thread);
        state.threads = running;
        drop(state);
        for thread in ended {
            let _ = thread.join();
        }
        if let Of::Shared(shared) = server.owner.get() {
            server.begin(&shared);
        }
        Ok(server)
    }

    fn discount_server(&self, number: u64) {
        self.state().servers.remove(&number);
        let _ = self.notices.send(Notice::Changed);
    }

    /// Hands on what a server says, on the server's own thread, until it has ended. A defect of ours ends it too: whoever
    /// waits for its answers would wait for ever.
    fn listen(self: &Arc<Self>, offer: &Arc<Offer>, server: &Arc<Server>, receiver: Box<dyn Receiver>) {
        let hear = AssertUnwindSafe(|| Self::hear(offer, server, receiver));
        let how = panic::catch_unwind(hear).unwrap_or_else(|_| "the thread that listened to the server failed".into());
        self.end_server(offer, server, &how);
        self.discount_server(server.number);
    }

    /// Hands on what a server says; gives how it ended. Nothing of it is left then.
    fn hear(offer: &Offer, server: &Server, mut receiver: Box<dyn Receiver>) -> String {
        let mut owner = Of::Nobody;
        loop {
            match receiver.recv() {
                Event::Message(message) => {
                    let is_first = matches!(owner, Of::Nobody);
                    if is_first {
                        owner = server.owner.get();
                    }
                    let is_answer = matches!(message.kind(), MessageKind::Response { .. });
                    owner.deliver(message);
                    if is_answer && matches!(owner, Of::Shared(_)) {
                        offer.modern.is_done();
                    }
                    if is_first && owner.has_begun() {
                        offer.state().succeeded();
                    }
                }
                Event::Ended(how) => return how,
            }
        }
    }

    /// A server has ended: its sessions learn it.
    fn end_server(self: &Arc<Self>, offer: &Arc<Offer>, server: &Server, how: &str) {
        let owner = server.owner.end();
        let stopping = self.state().stopping;
        match owner {
            Of::Session(session) if session.is_crossing() && !stopping => {
                log::debug(format_args!("session {}: {how}, while its client goes over the bridge", session.shown()));
            }
            Of::Session(session) => {
                // A session that is known still has not ended by its client's doing, but by its server's.
                let known = self.state().sessions.remove(&session.id).is_some();
                if known && !stopping {
                    log::warning(format_args!("session {}: {how}", session.shown()));
                    offer.state().last_error = Some(how.to_owned());
                } else {
                    log::debug(format_args!("session {}: {how}", session.shown()));
                }
                session.end(&if stopping { format!("{STOPPING}: {how}") } else { how.to_owned() });
                self.prepare_or_log(offer);
            }
            Of::Nobody => {
                let mut state = offer.state();
                state.spare = state.spare.take().filter(|spare| spare.number != server.number);
                if !stopping && !state.removed {
                    log::warning(format_args!("'{}': {how} before a client came", offer.shown()));
                    state.failed(how, Instant::now());
                }
            }
            Of::Shared(shared) => {
                let refusal = shared.refusal();
                let how = refusal.as_deref().unwrap_or(how);
                let is_main = offer.shared.as_ref().is_some_and(|main| Arc::ptr_eq(main, &shared));
                let removed = {
                    let mut state = offer.state();
                    if !stopping && !state.removed && !shared.is_stopped() {
                        log::warning(format_args!("'{}': {how}", offer.shown()));
                        if is_main {
                            state.failed(how, Instant::now());
                        } else {
                            state.last_error = Some(how.to_owned()); // the next request begins another
                        }
                    }
                    state.removed
                };
                if stopping {
                    shared.finish(&format!("{STOPPING}: {how}"));
                }
                shared.lose(how);
                offer.modern.is_done(); // it is free for others now
                if removed {
                    self.end_sessions_of(offer, how);
                }
            }
            Of::Ended => {}
        }
    }

    /// The server that these sessions share is not started again.
    fn end_sessions_of(self: &Arc<Self>, offer: &Arc<Offer>, why: &str) {
        let sessions: Vec<_> = self.state().sessions.values().flatten().cloned().collect();
        for session in sessions.iter().filter(|session| Arc::ptr_eq(&session.offer, offer)) {
            self.close_session(session, why);
        }
    }

    /// Starts what is due again; says when to look next.
    pub fn look_after_offers(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let offers = self.state().offers.clone();
        let mut next: Option<Instant> = None;
        for offer in offers {
            if offer.is_due(now) {
                self.prepare_or_log(&offer);
            }
            if offer.shared.as_ref().is_some_and(|shared| shared.is_ready()) {
                offer.state().succeeded();
            }
            next = next.into_iter().chain(offer.state().settle(now)).min();
        }
        next
    }

    /// Refuses new requests and begins the polite stop of every server.
    pub fn stop_servers(&self) {
        let (servers, offers) = {
            let mut state = self.state();
            state.stopping = true;
            (state.servers.values().map(|(_, server)| server.clone()).collect::<Vec<_>>(), state.offers.clone())
        };
        for offer in offers {
            offer.state().spare = None;
            offer.modern.close();
        }
        for server in servers {
            server.sender.stop();
        }
    }

    /// Kills every server.
    pub fn kill_servers(&self) {
        self.stop_servers();
        let servers: Vec<_> = self.state().servers.values().map(|(_, server)| server.clone()).collect();
        for server in servers {
            server.sender.kill();
        }
    }

    /// Whether every server has ended.
    pub fn is_empty(&self) -> bool {
        self.state().servers.is_empty()
    }

    /// Ends the sessions that are left.
    pub fn end_sessions(&self) {
        let left: Vec<_> = self.state().sessions.drain().collect();
        for session in left.into_iter().filter_map(|(_, session)| session) {
            session.end(STOPPING);
        }
    }

    /// Joins the servers' threads. One that has not ended waits for a process that cannot be killed.
    pub fn join(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        for thread in threads.into_iter().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// A refusal that may not hold for long.
pub fn unavailable(reason: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}

#[cfg(test)]
mod tests;
