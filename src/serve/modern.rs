//! The modern side of an offer (MCP 2026-07-28): which links modern clients go over, and what is known of the eras that
//! the server speaks.
//!
//! ```text
//!                 its answer to `server/discover` is a modern one
//!   Unknown ──▶ Probing ──────────────────────────────────────────▶ Modern: one link for all modern clients
//!                  │ any other answer, the end of two                           │ begins again, and refuses: Unknown
//!                  │ processes, or nothing in time
//!                  └──▶ Legacy, or Assumed if it was nothing: links over the bridge, by what clients can do
//!                          ├── one refuses `initialize` as a modern server does: Modern
//!                          ├── one ends before it has begun: Unknown
//!                          └── Assumed, and the answer comes late: Modern or Legacy
//! ```
//!
//! Always: a process serves one era for its whole life; a legacy client's process is never probed. Of two calls that the
//! server may ask something about, each has a link of its own while both are open, so that a question is never put to
//! another's client.

mod era;
mod way;

use super::offer::Offer;
use super::shared::{Begun, Place, Shared};
use crate::log;
use crate::protocol::era::Protocol;
use crate::protocol::http::Mirrored;
use crate::protocol::message::Message;
use crate::protocol::modern;
use crate::protocol::modern::headers::{self, Given};
use crate::protocol::modern::params::Schemas;
use era::Era;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a call waits for a link that is free for it, before it is refused.
const PATIENCE: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_mins(1) };
const ALL_BUSY: &str = "every link to the server is busy with a call of another client; --max-links allows more";
const TOO_MANY: &str = "too many links to the server; --max-sessions allows more";

/// The modern side of an offer.
pub struct Modern {
    pinned: Protocol,
    /// Which parameters of which tools are repeated in headers.
    schemas: Mutex<Schemas>,
    state: Mutex<State>,
    /// It is known what the server speaks, or a link may be free.
    known: Condvar,
    /// How many look for a link that is free.
    waiting: AtomicUsize,
}

/// Somebody looks for a link that is free.
struct Waits<'a>(&'a Modern);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

struct State {
    /// What it speaks to modern clients.
    era: Era,
    /// The link to a server that was asked, and said nothing in time: it may answer yet.
    late: Option<Arc<Shared>>,
    /// When that was.
    asked: Option<Instant>,
    /// Whether it speaks to legacy clients; nothing is known before the first.
    serves_legacy: Option<bool>,
    /// The link for all modern clients of a modern server, and for legacy ones that come over the bridge.
    straight: Option<Arc<Shared>>,
    /// The links over the bridge to a legacy server.
    crossings: Vec<Crossing>,
    /// We are stopping: nobody waits any more.
    is_closing: bool,
}

/// One link over the bridge to a legacy server.
struct Crossing {
    /// What the server was told that its client can do.
    capabilities: String,
    shared: Arc<Shared>,
    /// How many are about to send it what the server may ask something about.
    asked: usize,
}

/// The client of a modern request, while its way is looked for.
pub struct Caller<'a> {
    is_gone: &'a dyn Fn() -> bool,
    has_waited: Cell<bool>,
}

impl<'a> Caller<'a> {
    /// A client that has not waited yet, and what tells whether it has gone.
    pub const fn new(is_gone: &'a dyn Fn() -> bool) -> Self {
        Self { is_gone, has_waited: Cell::new(false) }
    }

    /// It has to wait; says whether it had to before.
    fn waits(&self) -> bool {
        self.has_waited.replace(true)
    }

    fn is_gone(&self) -> bool {
        (self.is_gone)()
    }

    /// Whether it has gone while it waited. Of one that did not wait nobody asks.
    pub fn has_left(&self) -> bool {
        self.has_waited.get() && self.is_gone()
    }
}

/// What is to be done with a modern request.
pub enum Way {
    /// It is answered with this.
    Answer(Message),
    /// It goes over this link.
    Link(Visit),
}

/// A place on a link for one request. It is kept until the link has the request, and knows itself what it may take.
pub struct Visit {
    offer: Arc<Offer>,
    /// The place.
    pub place: Place,
    /// It may be asked something.
    asked: bool,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.asked {
            let mut state = self.offer.modern.state();
            if let Some(one) = state.crossings.iter_mut().find(|one| Arc::ptr_eq(&one.shared, &self.place.shared)) {
                one.asked -= 1;
            }
            drop(state);
            self.offer.modern.is_done();
        }
    }
}

impl Modern {
    /// Nothing is known, unless the user says it.
    pub fn new(pinned: Protocol) -> Self {
        let (era, serves_legacy) = match pinned {
            Protocol::Auto => (Era::Unknown, None),
            Protocol::Legacy => (Era::Legacy, Some(true)),
            Protocol::Modern => (Era::Modern, Some(false)),
        };
        let state = State {
            era,
            late: None,
            asked: None,
            serves_legacy,
            straight: None,
            crossings: Vec::new(),
            is_closing: false,
        };
        Self {
            pinned,
            schemas: Mutex::default(),
            state: Mutex::new(state),
            known: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether legacy clients come over the bridge, as far as is known.
    pub fn refuses_legacy(&self) -> bool {
        self.state().serves_legacy == Some(false)
    }

    /// A server has answered a legacy client's `initialize`; says whether it refuses, or may refuse, to speak to legacy
    /// clients at all.
    pub fn learn_legacy(&self, initialize: &Message, answer: &Message) -> bool {
        let refuses = self.pinned != Protocol::Legacy && modern::refuses_legacy(answer);
        let may_refuse = self.pinned != Protocol::Legacy && modern::may_refuse_legacy(initialize, answer);
        match (refuses, may_refuse, answer.is_error()) {
            (true, _, _) => self.learn_crossed(),
            (false, false, false) => drop(self.state().serves_legacy.get_or_insert(true)),
            _ => {}
        }
        refuses || may_refuse
    }

    /// The server speaks modern revisions only.
    pub fn learn_crossed(&self) {
        let mut state = self.state();
        state.serves_legacy = Some(false);
        if matches!(state.era, Era::Unknown | Era::Assumed) {
            state.era = Era::Modern;
        }
    }

    /// A server that was taken for a legacy one has ended before it has begun: that it was lost when it was asked may have
    /// been an outage too.
    fn doubt_legacy(&self) {
        let mut state = self.state();
        if self.pinned == Protocol::Auto && matches!(state.era, Era::Legacy | Era::Assumed) {
            state.era = Era::Unknown;
        }
    }

    /// Whether the head of a request says what its body says.
    ///
    /// # Errors
    /// It does not; this is the answer.
    pub fn check(&self, mirrored: Option<&Mirrored>, request: &Message) -> Result<(), Box<Message>> {
        let none = Mirrored::default();
        let head = mirrored.unwrap_or(&none);
        if let Some(why) = &head.malformed {
            return Err(headers::mismatch(request, why));
        }
        let Mirrored { version, method, name, .. } = head;
        let given = Given { version: version.as_deref(), method: method.as_deref(), name: name.as_deref() };
        headers::check(request, &given, &[modern::REVISION])?;
        modern::check_method(request)?;
        let param = |name: &str| head.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).check(request, &param)
    }

    /// The server has listed tools: which of their parameters are repeated in headers.
    pub fn learn_tools(&self, answer: &Message) {
        if let Some(result) = answer.result_text() {
            self.schemas.lock().unwrap_or_else(PoisonError::into_inner).learn(result);
        }
    }

    /// The link whose server was taken for a modern one and is none.
    fn refused(&self) -> Option<Arc<Shared>> {
        let straight = self.state().straight.clone();
        straight.filter(|shared| matches!(shared.wait(Duration::ZERO), Begun::Refused(_)))
    }

    /// The server behind this link is not what it was taken for. Whoever learns that first, what it speaks is found out
    /// anew, unless somebody does already.
    fn forget_straight(&self, refused: &Arc<Shared>) {
        let mut state = self.state();
        let was_it = state.straight.take_if(|known| Arc::ptr_eq(known, refused)).is_some();
        if was_it && self.pinned == Protocol::Auto && state.era != Era::Probing {
            (state.era, state.serves_legacy) = (Era::Unknown, None);
        }
    }

    /// Links whose servers refused to begin end, so that others are tried. One that refused as only a modern server does
    /// was taken for something that it is not.
    fn forget_refused(&self) {
        let mut state = self.state();
        let mut is_modern = false;
        state.crossings.retain(|crossing| {
            let Begun::Refused(answer) = crossing.shared.wait(Duration::ZERO) else { return true };
            is_modern |= modern::refuses_legacy(&answer);
            crossing.shared.give_up();
            false
        });
        if is_modern && self.pinned == Protocol::Auto && state.era != Era::Probing {
            (state.era, state.serves_legacy) = (Era::Unknown, Some(false));
        }
    }

    /// Links whose servers have answered nothing for so long that they may never, although one of the requests was
    /// cancelled: they end with their last client, and others are begun.
    fn forget_stuck(&self, now: Instant, limit: Duration) {
        self.state().crossings.retain(|crossing| {
            let is_stuck = crossing.shared.stuck_since().is_some_and(|since| since + limit <= now);
            if is_stuck {
                log::debug(format_args!("a server answers nothing after a cancelled request: another takes its place"));
                crossing.shared.retire();
            }
            !is_stuck
        });
    }

    /// We are stopping: those who wait for a link, or to know the era, are refused.
    pub fn close(&self) {
        self.state().is_closing = true;
        self.known.notify_all();
    }

    /// A request is over: a link may be free.
    pub fn is_done(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.state()); // who looks for one has looked, and waits
            self.known.notify_all();
        }
    }

    /// From now on somebody looks for a link, or waits for one.
    fn waits(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waits(self)
    }

    /// What is remote speaks modern revisions, or none, by what its client has found out meanwhile: what was believed is
    /// found out anew. Gives the links that are given up, if that was something else.
    pub fn reconsider(&self, is_modern: bool) -> Option<Vec<Arc<Shared>>> {
        let mut state = self.state();
        let believed = if is_modern { Era::Legacy } else { Era::Modern };
        if self.pinned != Protocol::Auto || state.era != believed {
            return None;
        }
        (state.era, state.serves_legacy) = (Era::Unknown, None);
        let links = state.straight.take().into_iter().chain(state.crossings.drain(..).map(|one| one.shared));
        let links: Vec<_> = links.collect();
        drop(state);
        for shared in &links {
            shared.retire();
        }
        Some(links)
    }

    /// What it speaks, as far as is known: to legacy and to modern clients.
    pub fn eras(&self) -> &'static str {
        self.hear_late();
        let state = self.state();
        match (state.serves_legacy, state.era) {
            (Some(true), Era::Modern) => "both",
            (Some(true), _) | (None, Era::Legacy | Era::Assumed) => "legacy",
            (_, Era::Modern) | (Some(false), _) => "modern",
            (None, Era::Unknown | Era::Probing) => "unknown",
        }
    }

    /// The links and the era of the server behind each, for people.
    pub fn shown(&self) -> Vec<(&'static str, Arc<Shared>)> {
        let state = self.state();
        let straight = state.straight.iter().map(|shared| ("modern", shared.clone()));
        let late = state.late.iter().map(|shared| ("unknown", shared.clone()));
        straight.chain(state.crossings.iter().map(|crossing| ("legacy", crossing.shared.clone()))).chain(late).collect()
    }

    /// Every link.
    pub fn links(&self) -> Vec<Arc<Shared>> {
        let state = self.state();
        let crossings = state.crossings.iter().map(|crossing| &crossing.shared);
        state.straight.iter().chain(crossings).chain(&state.late).cloned().collect()
    }
}

impl State {
    /// The first link that can take this request of a client with these capabilities.
    fn free_for(&mut self, request: &Message, capabilities: &str, asked: bool) -> Option<Place> {
        let mut usable = self.crossings.iter_mut().filter(|one| one.capabilities == capabilities);
        if asked {
            return usable.find(|one| one.asked == 0 && one.shared.is_free_for(request)).map(|one| one.take(asked));
        }
        // A server that has not answered a cancelled request may be busy with it.
        usable.min_by_key(|one| one.shared.is_haunted()).map(|one| one.take(asked))
    }

    /// What may wait for clients' input on this link: what the calls on all others leave of the limits, which are for
    /// one server, however many processes of it there are.
    fn share_inputs(&self, of: &Arc<Shared>, most: usize, bytes: usize) {
        let others = self.crossings.iter().filter(|one| !Arc::ptr_eq(&one.shared, of)).map(|one| one.shared.parked());
        let (calls, kept) = others.fold((0, 0), |(calls, kept), (more, bytes)| (calls + more, kept + bytes));
        of.limit_parked(most.saturating_sub(calls), bytes.saturating_sub(kept));
    }
}

impl Crossing {
    fn take(&mut self, asked: bool) -> Place {
        self.asked += usize::from(asked);
        self.shared.keep_place()
    }

    /// Whether its server works on a call that it may ask something about. One that waits for its client's input does
    /// nothing meanwhile; one whose call nobody wants any more is not to keep others from theirs.
    fn is_busy(&self, request: &Message) -> bool {
        let is_kept = || self.shared.counts().1 > 0 || self.shared.is_haunted();
        self.asked > 0 || !self.shared.is_free_for(request) && !is_kept()
    }
}
