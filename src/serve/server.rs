//! One live server, a process or a connection to something remote, and whose it is.

use super::session::Session;
use super::shared::Shared;
use crate::log;
use crate::protocol::message::Message;
use crate::upstream::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One live server.
pub struct Server {
    /// Ours alone, for as long as the program runs.
    pub number: u64,
    /// The way to it.
    pub sender: Arc<dyn Sender>,
    /// Whose it is.
    pub owner: Arc<Owner>,
}

impl Server {
    /// Begins a link with it. One that has ended already has told the link so before, perhaps.
    pub fn begin(&self, shared: &Shared) {
        shared.begin(self.sender.clone());
        if matches!(self.owner.get(), Of::Ended) {
            shared.lose_server(&self.sender, "the server has ended");
        }
    }
}

/// Whose a server is.
pub struct Owner(Mutex<Of>);

/// Whose a server is.
#[derive(Clone)]
pub enum Of {
    /// The spare: nobody's yet.
    Nobody,
    /// One session's.
    Session(Arc<Session>),
    /// That of all sessions of its kind.
    Shared(Arc<Shared>),
    /// It has ended.
    Ended,
}

impl Owner {
    /// At the beginning a server is nobody's, or everybody's.
    pub fn new(of: Of) -> Arc<Self> {
        Arc::new(Self(Mutex::new(of)))
    }

    fn of(&self) -> MutexGuard<'_, Of> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose it is now.
    pub fn get(&self) -> Of {
        self.of().clone()
    }

    /// Makes it somebody's; says whether it was still there to be had.
    pub fn give_to(&self, owner: &Of) -> bool {
        let mut of = self.of();
        let free = matches!(*of, Of::Nobody);
        if free {
            *of = owner.clone();
        }
        free
    }

    /// It is not this session's any more, and nobody's; says whether it was.
    pub fn leave(&self, session: &Arc<Session>) -> bool {
        let mut of = self.of();
        let was = matches!(&*of, Of::Session(own) if Arc::ptr_eq(own, session));
        if was {
            *of = Of::Ended;
        }
        was
    }

    /// The server has ended; says whose it was.
    pub fn end(&self) -> Of {
        std::mem::replace(&mut *self.of(), Of::Ended)
    }
}

impl Of {
    /// Whether the server that speaks has begun; one session's has with its first word.
    pub fn has_begun(&self) -> bool {
        if let Self::Shared(shared) = self { shared.is_ready() } else { true }
    }

    /// Hands a message of the server on.
    pub fn deliver(&self, message: Message) {
        match self {
            Self::Session(session) => session.deliver_and_answer(&message),
            Self::Shared(shared) => shared.deliver(message),
            Self::Nobody => log::debug(format_args!("the server spoke before it was asked: {message:?}")),
            Self::Ended => {}
        }
    }
}
