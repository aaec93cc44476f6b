//! What all waits of one link have in common: one deadline, an end from another thread, and a word to whoever
//! wants to know when one takes long.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::NextTimeout;

/// A wait longer than this is told to whoever wants to know.
pub const LONG: Duration = Duration::from_millis(200);

/// What all waits of one link have in common.
pub struct Waits {
    state: Mutex<State>,
    on_long: Option<OnLong>,
}

/// What is called when a wait takes long.
pub type OnLong = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    deadline: Option<Instant>,
    stopped: bool,
    dials: u64,
    dialing: Vec<(u64, mpsc::Sender<Dialed>)>,
}

/// What comes of a wait for a connection.
pub type Dialed = io::Result<TcpStream>;

impl Waits {
    /// Waits that end at `deadline`, if there is one; `on_long` is called when one takes long.
    #[must_use]
    pub fn new(deadline: Option<Instant>, on_long: Option<OnLong>) -> Self {
        Self { state: Mutex::new(State { deadline, ..State::default() }), on_long }
    }

    /// From now on waits end at `deadline`, or take for ever.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.state().deadline = deadline;
    }

    /// Ends the waits for a connection that are under way, and refuses later ones. Those for bytes are ended by
    /// [`ureq::Agent::shutdown`].
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for (_, dialing) in state.dialing.drain(..) {
            let _ = dialing.send(Err(stopped()));
        }
    }

    /// A wait for a connection begins, which `dialing` can end.
    pub fn begin(&self, dialing: mpsc::Sender<Dialed>) -> io::Result<u64> {
        let mut state = self.state();
        if state.stopped {
            return Err(stopped());
        }
        state.dials += 1;
        let number = state.dials;
        state.dialing.push((number, dialing));
        Ok(number)
    }

    /// That wait is over.
    pub fn end(&self, number: u64) {
        self.state().dialing.retain(|(known, _)| *known != number);
    }

    /// Whether somebody wants to know of long waits.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.on_long.is_some()
    }

    /// A wait takes long.
    pub fn tell(&self) {
        if let Some(on_long) = &self.on_long {
            on_long();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a wait may take that ureq wants to end after `timeout`.
    pub fn allowed(&self, timeout: NextTimeout) -> Option<Duration> {
        let own = self.state().deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let asked = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        own.into_iter().chain(asked).min()
    }

    /// Calls `wait` with how long it may take until it is done; first shortly, then for the rest.
    pub fn patiently<T>(
        &self,
        allowed: Option<Duration>,
        mut wait: impl FnMut(Option<Duration>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        match &self.on_long {
            Some(on_long) if allowed.is_none_or(|all| all > LONG) => {
                if let Some(done) = wait(Some(LONG))? {
                    return Ok(Some(done));
                }
                on_long();
                wait(allowed.map(|all| all.saturating_sub(LONG)))
            }
            _ => wait(allowed),
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

/// The error of a wait that was ended.
pub fn stopped() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "stopped")
}
