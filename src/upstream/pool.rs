//! The connections of an agent: those that are kept for the next request, and the way to end all of them.
//!
//! Always: a connection that is given has not ended and nothing has come over it; after the end there is none.

use super::agent::Connection;
use super::known::Known;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};
use ureq::unversioned::transport::{ShutdownHandle, Transport};

/// Idle connections are kept for less than the five seconds after which many servers close theirs (Node, uvicorn):
/// a request that meets the closing would fail, and a POST is never sent twice.
const IDLE: Duration = Duration::from_secs(4);
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS: usize = 16;

/// The connections of an agent.
#[derive(Default)]
pub struct Pool(Mutex<State>);

#[derive(Default)]
struct State {
    closed: bool,
    /// Those that nobody uses, and since when; the last one is the newest.
    kept: Vec<(Instant, Kept)>,
    /// All of them.
    handles: Vec<Weak<dyn ShutdownHandle>>,
}

/// A connection without its pool, which it would keep alive.
struct Kept {
    transport: Box<dyn Transport>,
    to: (Scheme, Authority),
    host: Box<str>,
    known: Box<Known>,
}

impl Pool {
    /// The connection for a request to `uri` that was used last, if one is left that has not ended.
    ///
    /// # Errors
    /// The agent is shut down.
    pub fn take(self: &Arc<Self>, uri: &Uri) -> Result<Option<Connection>, Error> {
        let is_there =
            |(_, kept): &(Instant, Kept)| uri.scheme() == Some(&kept.to.0) && uri.authority() == Some(&kept.to.1);
        loop {
            let found = {
                let mut state = self.state();
                if state.closed {
                    return Err(shut());
                }
                state.kept.iter().rposition(is_there).map(|at| state.kept.remove(at))
            };
            let Some((since, Kept { mut transport, to, host, known })) = found else { return Ok(None) };
            if since.elapsed() < IDLE && transport.is_open() {
                return Ok(Some(Connection { transport, to, host, known, pool: self.clone() }));
            }
        }
    }

    /// The connection is free for the next request.
    pub fn keep(&self, connection: Connection) {
        let now = Instant::now();
        let mut state = self.state();
        if state.closed {
            return;
        }
        let is_old = |(since, _): &(Instant, Kept)| now.saturating_duration_since(*since) >= IDLE;
        let too_many = (state.kept.len() + 1).saturating_sub(IDLE_CONNECTIONS);
        let gone = state.kept.iter().take_while(|kept| is_old(kept)).count().max(too_many);
        let gone: Vec<_> = state.kept.drain(..gone).collect();
        let Connection { transport, to, host, known, .. } = connection;
        state.kept.push((now, Kept { transport, to, host, known }));
        drop(state);
        drop(gone); // to close one may take its time
    }

    /// Lets [`Pool::close`] end a connection.
    ///
    /// # Errors
    /// The agent is shut down.
    pub fn register(&self, handle: Weak<dyn ShutdownHandle>) -> Result<(), Error> {
        let mut state = self.state();
        if state.closed {
            return Err(shut());
        }
        state.handles.retain(|handle| handle.strong_count() > 0);
        state.handles.push(handle);
        Ok(())
    }

    /// Closes all connections, those that are in use too, and gives none any more.
    pub fn close(&self) {
        let (kept, handles) = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.kept), std::mem::take(&mut state.handles))
        };
        drop(kept);
        handles.iter().filter_map(Weak::upgrade).for_each(|handle| handle.shutdown());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shut() -> Error {
    Error::Io(ErrorKind::NotConnected.into())
}
