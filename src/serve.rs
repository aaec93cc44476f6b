//! Serve: clients over HTTP, servers behind: local processes or something remote. Owns every thread of this mode.
//!
//! ```text
//!   accept ──▶ connection (one a connection): heads, bodies, answers; keeps the stream that it opened
//!   server (one a server): what the server says ──▶ its session, or the one it is for ──▶ a stream of the session
//!   signals ──▶ main: waits, sees to idle sessions and to servers that are due, reads the configuration again, stops
//! ```
//!
//! Each session has a server process of its own, and one more, the spare, is started ahead for the next session; or all
//! sessions share one. `accept`, `connection` and `server` threads are joined at the end, `answer` threads (which write
//! what a socket did not take) by their connection's. Not joined are `signals`, which is stuck in a read of the signal pipe
//! that nobody closes, and the two that look after `server` threads: the [`minder`](crate::system::minder) of those that
//! read, and the `lender` of those that let connections read.

mod by_id;
mod doors;
mod gate;
mod house;
mod modern;
mod offer;
mod posted;
mod requests;
mod server;
mod session;
mod shared;
mod status;

use crate::config::tokens::TokenFile;
use crate::config::{self, Server};
use crate::downstream::door::{self, Address, Door, Rights};
use crate::downstream::listener::{Limits, Listener};
use crate::error::Error;
use crate::log;
use crate::protocol::access::Tokens;
use crate::protocol::era::Protocol;
use crate::protocol::network::Network;
use crate::restrict::{self, Wish};
use crate::system::{self, Signal, Signals, memory};
use house::House;
use session::Session;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Whose a server process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Each session has one of its own.
    #[default]
    Session,
    /// All sessions of a server share one.
    Shared,
    /// All requests share one; on `/mcp` there are no sessions.
    Stateless,
}

/// What the command line says about this mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// Who may open our Unix sockets.
    pub rights: Rights,
    /// How many sockets whoever started us has opened for us.
    pub inherited: usize,
    /// The tokens that clients must bring, if they must.
    pub tokens: Option<Tokens>,
    /// The file in which they stand, to read again.
    pub token_file: Option<TokenFile>,
    /// Where clients get tokens.
    pub auth_servers: Vec<String>,
    /// Scheme and host under which clients reach us, where what they send does not tell.
    pub public_url: Option<String>,
    /// Further names that `Host` may have.
    pub allow_hosts: Vec<String>,
    /// What is given up after the start.
    pub restrict: Wish,
    /// What is offered at the start: the server at the top if there is one, those of the command line, those of the
    /// file.
    pub servers: Vec<Server>,
    /// The file of named servers, to read again; it gives all servers, not only its own.
    pub config: Option<config::File>,
    /// Origins of browsers' pages that may talk to us; `*` allows all.
    pub allow_origins: Vec<String>,
    /// Names of headers that browsers' pages may read.
    pub expose_headers: Vec<String>,
    /// Whose a server process is.
    pub sharing: Sharing,
    /// The path before ours where a reverse proxy hands on only a part of its own; empty, or it begins with a slash
    /// and ends without one.
    pub base_path: String,
    /// Peers whose `X-Forwarded-Prefix` is believed.
    pub trusted_proxies: Vec<Network>,
    /// A session on `/mcp` without a request and without a stream ends after this time.
    pub session_idle: Duration,
    /// Bytes of one session's events that are kept for clients that resume a stream.
    pub replay_bytes: usize,
    /// How long they are kept.
    pub replay_age: Duration,
    /// Sessions at the same time; one more is answered 503.
    pub sessions: usize,
    /// Requests of one session that may be unanswered at the same time.
    pub open_requests: usize,
    /// How long a server may take to end before it is killed.
    pub stop_timeout: Duration,
    /// Which era clients may speak.
    pub client_protocol: Protocol,
    /// Which era the servers speak.
    pub server_protocol: Protocol,
    /// Links to one legacy server that may be busy at the same time with calls of modern clients that can do the same.
    pub links: usize,
    /// Calls of one link that may wait for their client's input at the same time.
    pub inputs: usize,
    /// Bytes that are kept of them.
    pub input_bytes: usize,
    /// How long such a call waits.
    pub input_timeout: Duration,
    /// What one connection may cost.
    pub limits: Limits,
}

/// How long a killed server may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle sessions and servers that are due are looked for at least as often as this, and at most.
const LOOK: Duration = Duration::from_mins(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(5);
/// A server's thread parses messages and writes them; it needs little.
const STACK_BYTES: usize = 256 << 10;

/// What the main thread waits for.
enum Notice {
    Stop(i32),
    /// HUP, which does not stop us: a file may have changed.
    Hangup,
    /// A server has ended, or did not start.
    Changed,
    /// This session's server speaks modern revisions only.
    Cross(Arc<Session>),
}

/// Serves until a signal stops it; gives the exit status.
///
/// # Errors
/// The address cannot be listened on, or the only command cannot be started.
pub fn run(options: Options) -> Result<u8, Error> {
    system::keep_descriptors();
    let doors = door::open(&options.listen, options.rights, options.inherited)?;
    let signals = system::signals().map_err(cannot_watch)?;
    restrict::give_up(options.restrict, &doors::needs(&options, &doors))?;
    let (notices, inbox) = mpsc::channel();
    watch_signals(signals, notices.clone())?;
    system::adopt_orphans();
    system::raise_descriptor_limit();
    let shown: Vec<_> = doors.iter().map(Door::shown).collect();
    let (limits, stop_timeout) = (options.limits.clone(), options.stop_timeout);
    let rules = doors::rules(&options, &doors);
    doors::warn_of_strangers(&options, &doors);
    let house = House::new(options, rules, notices);
    let end_at_once = |house: &House| {
        house.kill_servers();
        system::kill_orphans(); // nobody waits for the spare now
    };
    house.offer(&house.options.servers).inspect_err(|_| end_at_once(&house))?;
    let listener = {
        let house = house.clone();
        Listener::start(doors, limits, move |connection| house.serve(connection))
    };
    let listener = listener.inspect_err(|_| end_at_once(&house))?;
    for door in shown {
        doors::announce(&house, &door);
    }
    keep_house(&house, &inbox);
    Ok(stop(&house, listener, &inbox, stop_timeout + KILL_TIMEOUT))
}

/// Sees to what is due, until we are stopped.
fn keep_house(house: &Arc<House>, inbox: &mpsc::Receiver<Notice>) {
    // No session is idle for much longer than it may be.
    let look = LOOK.min(house.options.session_idle / 4).max(SHORTEST_LOOK);
    loop {
        let now = Instant::now();
        let idle = house.end_idle_sessions(now);
        let due = house.look_after_offers(now);
        let old = house.look_after_links(now);
        let next = idle
            .into_iter()
            .chain(due)
            .chain(old)
            .min()
            .map_or(look, |next| next.saturating_duration_since(now).min(look));
        match inbox.recv_timeout(next.max(SHORTEST_LOOK)) {
            Ok(Notice::Hangup) => reload(house),
            Ok(Notice::Stop(libc::SIGHUP)) if house.options.config.is_some() || house.gate.can_reload() => {
                reload(house);
            }
            Ok(Notice::Stop(_)) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Notice::Cross(session)) => house.cross(&session),
            Ok(Notice::Changed) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reads the files of tokens and of named servers again, where there are some. What is wrong with one changes nothing.
fn reload(house: &Arc<House>) {
    house.gate.reload();
    let Some(file) = &house.options.config else { return };
    match file.read().and_then(|servers| house.offer(&servers)) {
        Ok(()) => log::info(format_args!("'{}' was read again", file.path.display())),
        Err(error) => log::error(format_args!("nothing has changed: {error}")),
    }
}

/// The signals' own thread: orphans are waited for here, the rest is the main thread's.
fn watch_signals(mut signals: Signals, notices: mpsc::Sender<Notice>) -> Result<(), Error> {
    let watch = move || {
        loop {
            match signals.wait(None) {
                Some(Signal::Child) => system::reap_orphans(),
                Some(Signal::Stop(number)) if notices.send(Notice::Stop(number)).is_err() => return,
                Some(Signal::Hangup) if notices.send(Notice::Hangup).is_err() => return,
                _ => {}
            }
        }
    };
    memory::begin(thread::Builder::new().name("signals".into()), STACK_BYTES, watch).map(drop).map_err(cannot_watch)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn cannot_watch(error: std::io::Error) -> Error {
    Error::Failed(format!("cannot catch signals: {}", log::cause(&error)))
}

/// Stops everything, top to bottom, in bounded time; a second signal skips the waits. Gives the exit status.
fn stop(house: &House, listener: Listener, inbox: &mpsc::Receiver<Notice>, limit: Duration) -> u8 {
    log::info(format_args!("stopping"));
    let mut status = 0;
    let deadline = Instant::now() + limit;
    house.stop_servers();
    let listener = listener.close();
    while !house.is_empty() {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Notice::Stop(number)) => {
                status = u8::try_from(128 + number).unwrap_or(1);
                house.kill_servers();
            }
            Ok(Notice::Changed | Notice::Cross(_) | Notice::Hangup) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    house.end_sessions();
    listener.end();
    house.join();
    system::kill_orphans();
    status
}

#[cfg(test)]
mod tests;
