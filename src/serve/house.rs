//! Who is served: every session, every server, and what a request of a client does to them.
//!
//! Always: a session has one server and a server one session at the most; the lock is held for small changes only.

use super::session::{Of, Server, Session};
use super::{Notice, Options, STACK_BYTES};
use crate::config::Target;
use crate::downstream::http::{Broken, Connection, Response};
use crate::downstream::sse::{Over, Stream};
use crate::error::Error;
use crate::log;
use crate::protocol::head::Head;
use crate::protocol::http::{Action, Refusal, Rules, endpoint, route};
use crate::protocol::message::Message;
use crate::protocol::sse;
use crate::system;
use crate::time;
use crate::upstream::child;
use crate::upstream::{Event, Link, Receiver, Sender};
use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;
use ureq_proto::http::{Request, StatusCode, Version};

/// What a client reads that asks while we stop.
pub const STOPPING: &str = "mcp-proxy is stopping";

/// What all threads of this mode share.
pub struct House {
    options: Options,
    rules: Rules,
    notices: mpsc::Sender<Notice>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stopping: bool,
    spare: Option<Arc<Server>>,
    /// Whether a spare is being started.
    preparing: bool,
    /// Every session by its id; `None` while its server is being found.
    sessions: HashMap<String, Option<Arc<Session>>>,
    /// The way to every server that has not ended, the spare's too.
    senders: HashMap<u64, Arc<dyn Sender>>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
    last_activity: Option<SystemTime>,
}

impl House {
    /// A house without servers and sessions. What it tells goes to `notices`.
    pub fn new(options: Options, rules: Rules, notices: mpsc::Sender<Notice>) -> Arc<Self> {
        Arc::new(Self { options, rules, notices, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection until it ends.
    pub fn serve(self: &Arc<Self>, mut connection: Connection) {
        while let Some(head) = connection.next_head() {
            let Head { request, body, close } = head;
            let response = match self.check(&request) {
                Ok(Action::OpenSession) => match self.open_session(&mut connection, &request) {
                    Ok(session) => return self.keep_session(&session),
                    Err(refusal) => Err(refusal),
                },
                Ok(action) => match connection.read_body(body) {
                    Ok(body) => Ok(self.act(&action, body, &request)),
                    Err(Broken::Gone) => return,
                    Err(Broken::Refused(refusal)) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            };
            let (mut response, is_read) = match response {
                Ok(response) => (response, true),
                Err(refusal) => (Response::from(&refusal), false),
            };
            response.headers.extend(self.rules.cors(&request));
            if !is_read {
                return connection.refuse_with(&response, request.method());
            }
            if !connection.respond(&response, request.method(), close) {
                return;
            }
        }
    }

    fn check(&self, request: &Request<()>) -> Result<Action, Refusal> {
        let stopping = {
            let mut state = self.state();
            state.last_activity = Some(SystemTime::now());
            state.stopping
        };
        if stopping {
            return Err(unavailable(STOPPING));
        }
        route(request, &self.rules).map(|asked| asked.action)
    }

    fn act(&self, action: &Action, body: Vec<u8>, request: &Request<()>) -> Response {
        match action {
            Action::Post { session } => match self.post(session, body) {
                Ok(()) => Response::empty(StatusCode::ACCEPTED),
                Err(refusal) => Response::from(&refusal),
            },
            Action::Preflight => {
                Response { headers: self.rules.preflight(request), ..Response::empty(StatusCode::NO_CONTENT) }
            }
            _ => Response::json(StatusCode::OK, self.status().into()),
        }
    }

    /// A message of a client for its session; its answer comes on the session's stream.
    fn post(&self, session: &str, body: Vec<u8>) -> Result<(), Refusal> {
        let session = self.state().sessions.get(session).cloned().flatten();
        let unknown = || Refusal::new(StatusCode::NOT_FOUND, "there is no such session, or it has ended");
        let session = session.ok_or_else(unknown)?;
        for message in Message::parse_all(body)? {
            session.take(&message)?;
        }
        Ok(())
    }

    /// Opens a session: a server of its own, and the stream that its client has asked for.
    fn open_session(
        self: &Arc<Self>,
        connection: &mut Connection,
        request: &Request<()>,
    ) -> Result<Arc<Session>, Refusal> {
        let id = system::random_id().map_err(|_| unavailable("there is no randomness for a session id"))?;
        {
            let mut state = self.state();
            if state.sessions.len() >= self.options.sessions {
                return Err(unavailable("too many sessions; --max-sessions allows more"));
            }
            // As many sessions again may be over, and one server is spare.
            if state.senders.len() > self.options.sessions.saturating_mul(2) {
                return Err(unavailable("too many servers of earlier sessions have not ended yet"));
            }
            state.sessions.insert(id.clone(), None); // the place is taken before anything is started for it
        }
        let opened = self.begin_session(&id, connection, request);
        if opened.is_err() {
            self.state().sessions.remove(&id);
        }
        opened
    }

    fn begin_session(
        self: &Arc<Self>,
        id: &str,
        connection: &mut Connection,
        request: &Request<()>,
    ) -> Result<Arc<Session>, Refusal> {
        let mut events = Vec::new();
        sse::encode(&mut events, "endpoint", None, endpoint(&self.rules.base_path, None, id).as_bytes());
        let old = request.version() == Version::HTTP_10;
        loop {
            let stream = Stream::new(connection, &self.options.limits, old, &self.rules.cors(request), &events);
            let stream = stream.map_err(|_| unavailable("no descriptor is left for a stream"))?;
            let server = self.take_server().map_err(|error| {
                log::error(format_args!("{error}"));
                unavailable(&error.to_string())
            })?;
            let session = Arc::new(Session::new(id, stream, server.sender.clone(), self.options.open_requests));
            // The client learns the id only later, so nobody finds the session before it has its server.
            self.state().sessions.insert(id.into(), Some(session.clone()));
            if server.give_to(&session) {
                return Ok(session);
            } // else: the spare has ended meanwhile
        }
    }

    /// Keeps a session on its connection's thread until its stream is over.
    fn keep_session(self: &Arc<Self>, session: &Arc<Session>) {
        log::debug(format_args!("session {}: opened", session.shown()));
        session.stream.flush();
        if let Err(error) = self.prepare_spare() {
            log::error(format_args!("{error}"));
        }
        let over = session.stream.run();
        self.state().sessions.remove(&session.id);
        if over == Over::Gone {
            log::debug(format_args!("session {}: the client has gone", session.shown()));
        }
        session.sender.stop();
        if let Err(error) = self.prepare_spare() {
            log::error(format_args!("{error}"));
        }
    }

    /// The spare, or a server started now.
    fn take_server(self: &Arc<Self>) -> Result<Arc<Server>, Error> {
        let spare = self.state().spare.take();
        spare.map_or_else(|| self.start_server(), Ok)
    }

    /// Starts a server ahead for the next session, unless there is one or another thread is about to.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn prepare_spare(self: &Arc<Self>) -> Result<(), Error> {
        {
            let mut state = self.state();
            let full = state.sessions.len() >= self.options.sessions;
            if state.stopping || state.preparing || state.spare.is_some() || full {
                return Ok(());
            }
            state.preparing = true;
        }
        let started = self.start_server();
        let mut state = self.state();
        state.preparing = false;
        state.spare = Some(started?);
        Ok(())
    }

    fn start_server(self: &Arc<Self>) -> Result<Arc<Server>, Error> {
        let limits = child::Limits {
            line_bytes: self.options.limits.body_bytes,
            waiting_bytes: self.options.limits.stream_bytes,
            stop_timeout: self.options.stop_timeout,
        };
        let Some(Target::Command(command)) = self.options.servers.first().map(|server| &server.target) else {
            return Err(Error::Failed("this version serves one command".into()));
        };
        let Link { sender, receiver } = command.start(limits)?;
        let number = self.count_server(&sender)?; // dropping the link ends the process
        let server = Arc::new(Server::new(sender, number));
        let thread = {
            let (house, server) = (self.clone(), server.clone());
            let listen = move || house.listen(&server, receiver);
            thread::Builder::new().name("server".into()).stack_size(STACK_BYTES).spawn(listen)
        };
        let thread = thread.map_err(|error| {
            self.discount_server(number);
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
        Ok(server)
    }

    /// From here on the stop knows of the server, and waits for it.
    fn count_server(&self, sender: &Arc<dyn Sender>) -> Result<u64, Error> {
        let mut state = self.state();
        if state.stopping {
            return Err(Error::Failed(STOPPING.into()));
        }
        state.next += 1;
        let number = state.next;
        state.senders.insert(number, sender.clone());
        Ok(number)
    }

    fn discount_server(&self, number: u64) {
        self.state().senders.remove(&number);
        let _ = self.notices.send(Notice::ServerGone);
    }

    /// Hands on what a server says, on the server's own thread, until it has ended.
    fn listen(&self, server: &Server, mut receiver: Box<dyn Receiver>) {
        let mut session = None;
        let how = loop {
            match receiver.recv() {
                Event::Message(message) => {
                    session = session.or_else(|| server.session());
                    match &session {
                        Some(session) => session.deliver(&message),
                        None => log::debug(format_args!("the server spoke before it was asked: {message:?}")),
                    }
                }
                Event::Ended(how) => break how,
            }
        };
        let owner = server.end();
        let mut state = self.state();
        if state.spare.as_ref().is_some_and(|spare| spare.number == server.number) {
            state.spare = None;
        }
        let stopping = state.stopping;
        // A session that is known still has not ended by its client's doing, but by its server's.
        let known = match &owner {
            Of::Session(session) => state.sessions.remove(&session.id).is_some(),
            Of::Nobody => true,
            Of::Ended => false,
        };
        drop(state);
        match owner {
            Of::Session(session) => {
                if known && !stopping {
                    log::warning(format_args!("session {}: {how}", session.shown()));
                } else {
                    log::debug(format_args!("session {}: {how}", session.shown()));
                }
                session.end(&if stopping { format!("{STOPPING}: {how}") } else { how });
            }
            Of::Nobody if !stopping => log::warning(format_args!("{how} before a client came")),
            Of::Nobody | Of::Ended => {}
        }
        self.discount_server(server.number);
    }

    /// Refuses new requests and begins the polite stop of every server.
    pub fn stop_servers(&self) {
        let senders: Vec<_> = {
            let mut state = self.state();
            state.stopping = true;
            state.spare = None;
            state.senders.values().cloned().collect()
        };
        for sender in senders {
            sender.stop();
        }
    }

    /// Kills every server.
    pub fn kill_servers(&self) {
        self.stop_servers();
        let senders: Vec<_> = self.state().senders.values().cloned().collect();
        for sender in senders {
            sender.kill();
        }
    }

    /// Whether every server has ended.
    pub fn is_empty(&self) -> bool {
        self.state().senders.is_empty()
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

    fn status(&self) -> String {
        let state = self.state();
        let activity = state.last_activity.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let activity = activity.map_or("null".into(), |since| format!("{:?}", time::rfc3339(since)));
        let server = if state.senders.is_empty() { "ended" } else { "running" };
        format!(
            r#"{{"api_last_activity":{activity},"active_sse_connections":{},"server_instances":{{"default":"{server}"}},"servers":{},"sessions":{},"version":"{}"}}"#,
            state.sessions.len(),
            state.senders.len(),
            state.sessions.len(),
            env!("CARGO_PKG_VERSION"),
        )
    }
}

fn unavailable(reason: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}
