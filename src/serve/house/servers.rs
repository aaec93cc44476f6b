//! Every server: how it is started, who hears it, and what its end means to its sessions.
//!
//! Always: a server that is not shared has one session at the most. The stop knows of each from its first moment on,
//! and waits for it.

use super::{House, STOPPING, State};
use crate::config::Target;
use crate::error::Error;
use crate::log;
use crate::protocol::message::{Kind as MessageKind, Message};
use crate::serve::offer::Offer;
use crate::serve::server::{Of, Owner, Server};
use crate::serve::session::Session;
use crate::serve::{Notice, STACK_BYTES};
use crate::system::memory;
use crate::upstream::{Event, Link, Receiver, child, remote};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

impl House {
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
    pub(super) fn most_servers(&self, state: &State) -> usize {
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
            Ok(server) => {
                let mut state = offer.state();
                // One that has ended already has said, or is about to say, when the next is due.
                if !matches!(server.owner.get(), Of::Ended) {
                    state.started(now);
                }
            }
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
    pub(super) fn keep_server(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        owner: Arc<Owner>,
        link: Link,
    ) -> Result<Arc<Server>, Error> {
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
                shared.lose_server(&server.sender, how);
                offer.modern.is_done(); // it is free for others now
                if removed {
                    self.end_sessions_of(offer, how);
                }
            }
            Of::Ended => {}
        }
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

    /// Joins the servers' threads. One that has not ended waits for a process that cannot be killed.
    pub fn join(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        for thread in threads.into_iter().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}
