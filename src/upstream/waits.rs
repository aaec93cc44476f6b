//! What all waits of one link have in common: one deadline, an end from another thread, and a word to whoever
//! wants to know when one takes long.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::NextTimeout;

/// A wait longer than this is told to whoever wants to know.
pub const LONG: Duration = Duration::from_millis(200);

/// How often a thread that waits for another one looks up.
pub const TICK: Duration = Duration::from_millis(50);

/// How long an answer is read alone before what may be watched later is watched, too. The kernel makes one or two ticks of
/// its clock of it: 4 to 8 ms, where there are 250 a second.
pub const SHORT: Duration = Duration::from_millis(2);

/// What is watched beside the wait for an answer.
pub struct Watched<'fd> {
    /// Where something may come.
    pub fd: BorrowedFd<'fd>,
    /// Most likely nothing does: it is soon enough to watch it when the answer does not begin [shortly](SHORT).
    pub later: bool,
}

/// Who else depends on a thread that waits, and what it could do meanwhile. All is called on that thread.
pub trait Bystander: Send + Sync {
    /// The wait takes long.
    fn long(&self);

    /// The request has been written whole, and its answer is waited for, or for more of it. What to watch beside that, if
    /// anything.
    fn sent(&self) -> Option<Watched<'_>> {
        None
    }

    /// What is watched has something to read.
    fn ready(&self) {}

    /// The thread waits for another one, and has for a while; called now and then.
    fn idles(&self) {}
}

/// What all waits of one link have in common.
pub struct Waits {
    state: Mutex<State>,
    bystander: Option<Arc<dyn Bystander>>,
    /// Whether the bystander is told as soon as a request is written.
    tells_sent: bool,
}

#[derive(Default)]
struct State {
    deadline: Option<Instant>,
    stopped: bool,
    dials: u64,
    dialing: Vec<(u64, mpsc::Sender<Dialed>)>,
    /// The threads whose wait can be aborted.
    abortable: Vec<(ThreadId, Abortable)>,
}

#[derive(Default)]
struct Abortable {
    stream: Option<Weak<TcpStream>>,
    aborted: bool,
}

impl State {
    fn abortable(&mut self, thread: ThreadId) -> Option<&mut Abortable> {
        self.abortable.iter_mut().find(|(known, _)| *known == thread).map(|(_, waiting)| waiting)
    }
}

thread_local! {
    /// When the waits of this very thread end.
    static OWN_DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The waits of this thread end after `limit` too, if one is given, until the next call.
pub fn limit_own(limit: Option<Duration>) {
    OWN_DEADLINE.set(limit.and_then(|limit| Instant::now().checked_add(limit)));
}

/// What comes of a wait for a connection.
pub type Dialed = io::Result<TcpStream>;

impl Waits {
    /// Waits that end at `deadline`, if there is one; the bystander is told when one takes long.
    #[must_use]
    pub fn new(deadline: Option<Instant>, bystander: Option<Arc<dyn Bystander>>) -> Self {
        Self { state: Mutex::new(State { deadline, ..State::default() }), bystander, tells_sent: false }
    }

    /// The same, and the bystander is told as soon as a request is written.
    #[must_use]
    pub fn telling_sent(bystander: Arc<dyn Bystander>) -> Self {
        Self { tells_sent: true, ..Self::new(None, Some(bystander)) }
    }

    /// From now on waits end at `deadline`, or take for ever.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.state().deadline = deadline;
    }

    /// Ends the waits for a connection that are under way, and refuses later ones. Those for bytes are ended by
    /// the agent's shutdown.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for (_, dialing) in state.dialing.drain(..) {
            let _ = dialing.send(Err(stopped()));
        }
    }

    /// A wait for a connection begins, which `dialing` can end.
    ///
    /// # Errors
    /// The link has ended.
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

    /// From now on [`Waits::abort`] ends what this thread waits for, until [`Waits::keep`].
    pub fn let_abort(&self) {
        let mut state = self.state();
        match state.abortable(thread::current().id()) {
            Some(waiting) => *waiting = Abortable::default(),
            None => state.abortable.push((thread::current().id(), Abortable::default())),
        }
    }

    /// What this thread waits for can no longer be aborted.
    pub fn keep(&self) {
        let this = thread::current().id();
        self.state().abortable.retain(|(thread, _)| *thread != this);
    }

    /// Ends the wait of another thread for bytes, if it has or will have one.
    pub fn abort(&self, thread: ThreadId) {
        let mut state = self.state();
        let Some(waiting) = state.abortable(thread) else { return };
        waiting.aborted = true;
        if let Some(stream) = waiting.stream.take().and_then(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// This thread is about to wait for bytes of `stream`.
    ///
    /// # Errors
    /// Its wait was aborted.
    pub fn reads(&self, stream: &Arc<TcpStream>) -> io::Result<()> {
        match self.state().abortable(thread::current().id()) {
            Some(Abortable { aborted: true, .. }) => Err(stopped()),
            Some(waiting) => {
                waiting.stream = Some(Arc::downgrade(stream));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The stream that this thread read is about to become another's.
    pub fn has_read(&self) {
        if let Some(waiting) = self.state().abortable(thread::current().id()) {
            waiting.stream = None;
        }
    }

    /// Whether somebody wants to know of long waits.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.bystander.is_some()
    }

    /// Who wants to know that a request is written.
    #[must_use]
    pub fn bystander(&self) -> Option<&dyn Bystander> {
        self.bystander.as_deref().filter(|_| self.tells_sent)
    }

    /// A wait takes long.
    pub fn tell(&self) {
        if let Some(bystander) = &self.bystander {
            bystander.long();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a wait may take that ureq wants to end after `timeout`.
    pub fn allowed(&self, timeout: NextTimeout) -> Option<Duration> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let common = self.state().deadline.map(left);
        let own = OWN_DEADLINE.get().map(left);
        let asked = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        common.into_iter().chain(own).chain(asked).min()
    }

    /// Calls `wait` with how long it may take until it is done; first shortly, then for the rest.
    ///
    /// # Errors
    /// Those of `wait`.
    pub fn patiently<T>(
        &self,
        allowed: Option<Duration>,
        mut wait: impl FnMut(Option<Duration>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        match &self.bystander {
            Some(bystander) if allowed.is_none_or(|all| all > LONG) => {
                if let Some(done) = wait(Some(LONG))? {
                    return Ok(Some(done));
                }
                bystander.long();
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
#[must_use]
pub fn stopped() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "stopped")
}
