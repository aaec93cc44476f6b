//! One client and its server: what passes between them, and what is answered when it cannot pass.

use crate::downstream::sse::Stream;
use crate::log;
use crate::protocol::http::Refusal;
use crate::protocol::message::{Kind, Message};
use crate::protocol::session::{self, FromClient, FromServer, StreamId};
use crate::upstream::{Sender, Undelivered};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq_proto::http::StatusCode;

/// The client's one stream.
const STREAM: StreamId = StreamId(0);

/// One client and its server.
pub struct Session {
    pub id: String,
    pub stream: Stream,
    pub sender: Arc<dyn Sender>,
    book: Mutex<session::Session>,
}

/// A server process and whose it is.
pub struct Server {
    pub sender: Arc<dyn Sender>,
    pub number: u64,
    of: Mutex<Of>,
}

/// Whose a server is.
pub enum Of {
    /// The spare: nobody's yet.
    Nobody,
    Session(Arc<Session>),
    /// It has ended.
    Ended,
}

impl Session {
    /// A session in which at most `open_requests` requests are unanswered at once.
    pub fn new(id: &str, stream: Stream, sender: Arc<dyn Sender>, open_requests: usize) -> Self {
        let mut book = session::Session::new(open_requests, 0); // nothing waits: the stream is always there
        book.open_general(STREAM);
        Self { id: id.into(), stream, sender, book: Mutex::new(book) }
    }

    fn book(&self) -> MutexGuard<'_, session::Session> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id is a secret of its client; its beginning tells sessions apart.
    pub fn shown(&self) -> &str {
        &self.id[..6]
    }

    /// Takes a message of the client.
    pub fn take(&self, message: &Message) -> Result<(), Refusal> {
        let decision = self.book().from_client(message, STREAM);
        match decision {
            FromClient::Forward { .. } => {}
            FromClient::Drop(why) => {
                log::debug(format_args!("session {}: {message:?} left out: {why}", self.shown()));
                return Ok(());
            }
            FromClient::Answer(answer) => return self.answer(&answer),
        }
        let why = match self.sender.send(message) {
            Ok(()) => return Ok(()),
            Err(Undelivered::Gone(why)) => why,
            Err(Undelivered::Full) => "the server does not read what it is sent".into(),
        };
        let answer = self.book().undelivered(message, &why);
        match (answer, message.kind()) {
            (Some(answer), _) => self.answer(&answer),
            (None, Kind::Request { .. }) => Ok(()), // the end of the server has answered it already
            (None, _) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why)),
        }
    }

    /// Answers a request on the stream, or in place of it when the stream is over.
    fn answer(&self, answer: &Message) -> Result<(), Refusal> {
        if self.stream.send(answer) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::NOT_FOUND, "the session has ended"))
    }

    /// Takes a message of the server.
    pub fn deliver(&self, message: &Message) {
        let decision = self.book().from_server(message);
        match decision {
            FromServer::Deliver { .. } => {
                self.stream.send(message);
            }
            FromServer::Hold | FromServer::Refuse(_) => {} // not while there is a general stream
            FromServer::Drop(why) => {
                log::debug(format_args!("session {}: {message:?} left out: {why}", self.shown()));
            }
        }
    }

    /// The session is over: what is open is answered, and the stream ends.
    pub fn end(&self, why: &str) {
        let answers = self.book().lose(why);
        for (_, answer) in &answers {
            self.stream.send(answer);
        }
        self.stream.end();
    }
}

impl Server {
    /// A server that is nobody's yet.
    pub fn new(sender: Arc<dyn Sender>, number: u64) -> Self {
        Self { sender, number, of: Mutex::new(Of::Nobody) }
    }

    /// The server has ended; says whose it was.
    pub fn end(&self) -> Of {
        std::mem::replace(&mut *self.of(), Of::Ended)
    }

    fn of(&self) -> MutexGuard<'_, Of> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it the server of `session`; says whether it was still there to be had.
    pub fn give_to(&self, session: &Arc<Session>) -> bool {
        let mut of = self.of();
        let free = matches!(*of, Of::Nobody);
        if free {
            *of = Of::Session(session.clone());
        }
        free
    }

    pub fn session(&self) -> Option<Arc<Session>> {
        match &*self.of() {
            Of::Session(session) => Some(session.clone()),
            Of::Nobody | Of::Ended => None,
        }
    }
}
