//! Serve: clients over HTTP, a local server behind. Owns every thread of this mode.
//!
//! ```text
//!   accept ──▶ connection (one a connection): heads, bodies, answers; the one with GET /sse keeps the stream
//!   server (one a process): what the server says ──▶ its session ──▶ the session's stream
//!   signals ──▶ main: waits, stops
//! ```
//!
//! Each session has a server process of its own. One more process, the spare, is started ahead for the next
//! session. `accept`, `connection` and `server` threads are joined at the end; `signals` is stuck in a read of
//! the signal pipe, which nobody closes.

use crate::downstream::http::{Broken, Connection, Response};
use crate::downstream::listener::{self, Limits, Listener};
use crate::downstream::sse::{Over, Stream};
use crate::error::Error;
use crate::log;
use crate::protocol::head::Head;
use crate::protocol::http::{Action, Refusal, Rules, endpoint, route};
use crate::protocol::message::{Kind, Message};
use crate::protocol::session::{self, FromClient, FromServer};
use crate::protocol::{sse, time};
use crate::system::{self, Signal};
use crate::upstream::child::{self, Command};
use crate::upstream::{Event, Link, Receiver, Sender, Undelivered};
use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use ureq_proto::http::{Request, StatusCode, Version};

/// What the command line says about this mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address to listen on; `localhost` means both loopback families.
    pub host: String,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// The server of each session.
    pub command: Command,
    /// Origins of browsers' pages that may talk to us; `*` allows all.
    pub allow_origins: Vec<String>,
    /// Names of headers that browsers' pages may read.
    pub expose_headers: Vec<String>,
    /// Sessions at the same time; one more is answered 503.
    pub sessions: usize,
    /// Requests of one session that may be unanswered at the same time.
    pub open_requests: usize,
    /// How long a server may take to end before it is killed.
    pub stop_timeout: Duration,
    /// What one connection may cost.
    pub limits: Limits,
}

/// How long a killed server may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// A server's thread parses messages and writes them; it needs little.
const STACK_BYTES: usize = 256 << 10;

/// What the main thread waits for.
enum Notice {
    Stop(i32),
    ServerGone,
}

/// Serves until a signal stops it; gives the exit status.
///
/// # Errors
/// The address cannot be listened on, or the command cannot be started.
pub fn run(options: Options) -> Result<u8, Error> {
    let (notices, inbox) = mpsc::channel();
    watch_signals(notices.clone())?;
    system::adopt_orphans();
    system::raise_descriptor_limit();
    let sockets = listener::bind(&options.host, options.port)?;
    let addresses: Vec<_> = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let limits = options.limits.clone();
    let rules = Rules {
        loopback: addresses.iter().all(|address| address.ip().is_loopback()),
        allow_origins: options.allow_origins.clone(),
        expose_headers: options.expose_headers.clone(),
    };
    let house = Arc::new(House { options, rules, notices, state: Mutex::default() });
    house.prepare_spare()?;
    let listener = {
        let house = house.clone();
        Listener::start(sockets, limits, move |connection| house.serve(connection))
    };
    let listener = listener.inspect_err(|_| {
        house.kill_servers();
        system::kill_orphans(); // at once: nobody waits for the spare now
    })?;
    for address in addresses {
        log::info(format_args!("listening on http://{address}/sse"));
    }
    while !matches!(inbox.recv(), Ok(Notice::Stop(_)) | Err(_)) {}
    Ok(stop(&house, listener, &inbox))
}

/// The signals' own thread: orphans are waited for here, the rest is the main thread's.
fn watch_signals(notices: mpsc::Sender<Notice>) -> Result<(), Error> {
    let explain = |error: std::io::Error| Error::Failed(format!("cannot catch signals: {}", log::cause(&error)));
    let mut signals = system::signals().map_err(explain)?;
    let watch = move || {
        loop {
            match signals.wait(None) {
                Some(Signal::Child) => system::reap_orphans(),
                Some(Signal::Stop(number)) if notices.send(Notice::Stop(number)).is_err() => return,
                _ => {}
            }
        }
    };
    thread::Builder::new().name("signals".into()).stack_size(STACK_BYTES).spawn(watch).map(drop).map_err(explain)
}

/// Stops everything, top to bottom, in bounded time; a second signal skips the waits. Gives the exit status.
fn stop(house: &House, listener: Listener, inbox: &mpsc::Receiver<Notice>) -> u8 {
    log::info(format_args!("stopping"));
    let mut status = 0;
    let deadline = Instant::now() + house.options.stop_timeout + KILL_TIMEOUT;
    house.stop_servers();
    let listener = listener.close();
    while !house.state().senders.is_empty() {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Notice::Stop(number)) => {
                status = u8::try_from(128 + number).unwrap_or(1);
                house.kill_servers();
            }
            Ok(Notice::ServerGone) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    let left: Vec<_> = house.state().sessions.drain().collect();
    for session in left.into_iter().filter_map(|(_, session)| session) {
        session.end(STOPPING);
    }
    listener.end();
    let threads = std::mem::take(&mut house.state().threads);
    for thread in threads.into_iter().filter(JoinHandle::is_finished) {
        let _ = thread.join(); // one that is not finished waits for a process that cannot be killed
    }
    system::kill_orphans();
    status
}

const STOPPING: &str = "mcp-proxy is stopping";

/// What all threads of this mode share.
struct House {
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

/// One client and its server.
struct Session {
    id: String,
    book: Mutex<session::Session>,
    stream: Stream,
    sender: Arc<dyn Sender>,
}

/// A server process and whose it is.
struct Server {
    sender: Arc<dyn Sender>,
    number: u64,
    of: Mutex<Of>,
}

enum Of {
    /// The spare: nobody's yet.
    Nobody,
    Session(Arc<Session>),
    /// It has ended.
    Ended,
}

impl House {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection until it ends.
    fn serve(self: &Arc<Self>, mut connection: Connection) {
        while let Some(head) = connection.next_head() {
            self.state().last_activity = Some(SystemTime::now());
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
            let more = match response {
                Ok(mut response) => {
                    response.headers.extend(self.rules.cors(&request));
                    connection.respond(&response, request.method(), close)
                }
                Err(refusal) => {
                    let mut response = Response::from(&refusal);
                    response.headers.extend(self.rules.cors(&request));
                    connection.refuse_with(&response, request.method());
                    false
                }
            };
            if !more {
                return;
            }
        }
    }

    fn check(&self, request: &Request<()>) -> Result<Action, Refusal> {
        if self.state().stopping {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING));
        }
        route(request, &self.rules)
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
            Action::Status | Action::OpenSession => Response::json(StatusCode::OK, self.status().into()),
        }
    }
}

impl House {
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
        sse::encode(&mut events, "endpoint", None, endpoint(id).as_bytes());
        let old = request.version() == Version::HTTP_10;
        loop {
            let stream = Stream::new(connection, &self.options.limits, old, &self.rules.cors(request), &events);
            let stream = stream.map_err(|_| unavailable("no descriptor is left for a stream"))?;
            let server = self.take_server().map_err(|error| {
                log::error(format_args!("{error}"));
                unavailable(&error.to_string())
            })?;
            let book = Mutex::new(session::Session::new(self.options.open_requests));
            let session = Arc::new(Session { id: id.into(), book, stream, sender: server.sender.clone() });
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
    fn prepare_spare(self: &Arc<Self>) -> Result<(), Error> {
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
        let Link { sender, receiver } = self.options.command.start(limits)?;
        let number = self.count_server(&sender)?; // dropping the link ends the process
        let server = Arc::new(Server { sender, number, of: Mutex::new(Of::Nobody) });
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
        let owner = std::mem::replace(&mut *server.of(), Of::Ended);
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

    fn stop_servers(&self) {
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

    fn kill_servers(&self) {
        self.stop_servers();
        let senders: Vec<_> = self.state().senders.values().cloned().collect();
        for sender in senders {
            sender.kill();
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

impl Session {
    fn book(&self) -> MutexGuard<'_, session::Session> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id is a secret of its client; its beginning tells sessions apart.
    fn shown(&self) -> &str {
        &self.id[..6]
    }

    /// Takes a message of the client.
    fn take(&self, message: &Message) -> Result<(), Refusal> {
        let decision = self.book().from_client(message);
        match decision {
            FromClient::Forward => {}
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
    fn deliver(&self, message: &Message) {
        let decision = self.book().from_server(message);
        match decision {
            FromServer::Deliver => {
                self.stream.send(message);
            }
            FromServer::Drop(why) => {
                log::debug(format_args!("session {}: {message:?} left out: {why}", self.shown()));
            }
        }
    }

    /// The session is over: what is open is answered, and the stream ends.
    fn end(&self, why: &str) {
        let answers = self.book().lose(why);
        for answer in &answers {
            self.stream.send(answer);
        }
        self.stream.end();
    }
}

impl Server {
    fn of(&self) -> MutexGuard<'_, Of> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it the server of `session`; says whether it was still there to be had.
    fn give_to(&self, session: &Arc<Session>) -> bool {
        let mut of = self.of();
        let free = matches!(*of, Of::Nobody);
        if free {
            *of = Of::Session(session.clone());
        }
        free
    }

    fn session(&self) -> Option<Arc<Session>> {
        match &*self.of() {
            Of::Session(session) => Some(session.clone()),
            Of::Nobody | Of::Ended => None,
        }
    }
}
