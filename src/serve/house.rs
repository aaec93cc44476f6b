//! Who is served: every offer, every server, every session.
//!
//! Always: the lock is held for small changes only, and nothing else is locked under it but the state of one offer.

mod servers;
mod sessions;

use super::by_id::ById;
use super::gate::Gate;
use super::modern::Modern;
use super::offer::Offer;
use super::server::Server;
use super::session::Session;
use super::shared::Shared;
use super::{Notice, Options, Sharing};
use crate::config;
use crate::downstream::http::Connection;
use crate::error::Error;
use crate::log;
use crate::protocol::http::{Refusal, Rules};
use crate::protocol::hub::Hub;
use crate::protocol::metrics::Refusals;
use crate::protocol::share::Share;
use crate::system;
use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
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
}

/// A refusal that may not hold for long.
pub fn unavailable(reason: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}

#[cfg(test)]
mod tests;
