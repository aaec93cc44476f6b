//! A connection's place among those that `--max-connections` allows, and who must leave when all are taken.
//!
//! ```text
//!             the whole of a request is there
//!   Waiting ─────────────────────────────────▶ Busy
//!      │    ◀─────────────────────────────────
//!      │       it is answered, and the next one is not there, or not all of it
//!      ▼ a new connection needs the place
//!    Left
//! ```
//!
//! Always: who leaves has no request under way, so that nothing that was accepted goes unanswered. Connections that have
//! brought no request so far, or owe the rest of one (silence, slow heads, slow bodies), leave first, the one that has
//! waited longest before the others; when they have no more than a quarter of the places, the one that has waited longest
//! of all leaves, so that idle connections of earlier clients cannot lock out new ones. Who leaves in the middle of a
//! request is told so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections that owe a request may keep one in so many places while others are idle.
const SHARE: usize = 4;
/// Who has not waited for so long keeps its place: its request may be on its way.
const YOUNG: Duration = Duration::from_millis(100);

/// One place.
#[derive(Debug)]
pub struct Place(Mutex<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for a request, or for the rest of one.
    Waiting(Wait),
    /// A request is under way.
    Busy,
    /// It was told to leave.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    since: Instant,
    /// It is the connection's first.
    first: bool,
    /// Some of it has come.
    heard: bool,
}

impl Wait {
    /// Its client is not between two requests: it has not made any yet, or not the whole of one.
    fn owes(self) -> bool {
        self.first || self.heard
    }
}

impl Place {
    /// The place of a new connection.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State::Waiting(Wait { since: now, first: true, heard: false })))
    }

    /// The connection waits for its next request.
    pub fn wait(&self, now: Instant) {
        let mut state = self.state();
        if *state == State::Busy {
            *state = State::Waiting(Wait { since: now, first: false, heard: false });
        }
    }

    /// A request is under way; says whether the place is there still.
    #[must_use]
    pub fn begin(&self) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Waiting(_)) {
            *state = State::Busy;
        }
        *state == State::Busy
    }

    /// The next request, or some of it, has come; says whether the place is there still.
    #[must_use]
    pub fn hear(&self, now: Instant) -> bool {
        let mut state = self.state();
        if let State::Waiting(wait) = &mut *state {
            (wait.since, wait.heard) = (now, true);
        }
        *state != State::Left
    }

    /// Some of a request has come with what came before, and the connection waits for the rest of it; says whether the
    /// place is there still.
    #[must_use]
    pub fn wait_for_rest(&self, now: Instant) -> bool {
        let mut state = self.state();
        match &mut *state {
            State::Busy => *state = State::Waiting(Wait { since: now, first: false, heard: true }),
            State::Waiting(wait) => wait.heard = true, // it has been no quicker for that
            State::Left => {}
        }
        *state != State::Left
    }

    /// Tells the connection to leave, if nothing is under way; says whether it must.
    #[must_use]
    pub fn leave(&self) -> bool {
        let mut state = self.state();
        let may_leave = matches!(*state, State::Waiting(_));
        if may_leave {
            *state = State::Left;
        }
        may_leave
    }

    /// Whether some of the next request has come, whose client waits for an answer.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.waits().is_some_and(|wait| wait.heard)
    }

    /// Whether it was told to leave.
    #[must_use]
    pub fn has_left(&self) -> bool {
        *self.state() == State::Left
    }

    fn waits(&self) -> Option<Wait> {
        match *self.state() {
            State::Waiting(wait) => Some(wait),
            State::Busy | State::Left => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of these, of whom there may be `most`, must leave for a new connection; nobody where all are busy, or have only
/// just begun to wait.
#[must_use]
pub fn leaving<'a, K>(places: impl Iterator<Item = (K, &'a Place)>, most: usize, now: Instant) -> Option<K> {
    let (mut owing, mut count, mut idle) = (None, 0, None);
    for (key, wait) in places.filter_map(|(key, place)| Some((key, place.waits()?))) {
        let longest = if wait.owes() { &mut owing } else { &mut idle };
        count += usize::from(wait.owes());
        if now.saturating_duration_since(wait.since) < YOUNG {
            continue;
        }
        if longest.as_ref().is_none_or(|(_, since)| wait.since < *since) {
            *longest = Some((key, wait.since));
        }
    }
    match (owing, idle) {
        (Some(owing), Some(idle)) if count <= most / SHARE && idle.1 < owing.1 => Some(idle.0),
        (Some(owing), _) => Some(owing.0),
        (None, _) if count > most / SHARE => None, // they are young: they leave soon, or bring a request
        (None, idle) => idle.map(|(key, _)| key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f` waits for its first request, `i` is idle behind one, `h` owes the rest of its second, `b` is busy, `l` has left; in the order of their time.
    fn places(text: &str) -> Vec<Place> {
        let start = Instant::now();
        let place = |(at, kind): (u64, char)| {
            let since = start + Duration::from_secs(at);
            let place = Place::new(since);
            if matches!(kind, 'i' | 'h' | 'b') {
                assert!(place.begin());
            }
            match kind {
                'i' => place.wait(since),
                'h' => assert!(place.wait_for_rest(since)),
                'l' => assert!(place.leave()),
                _ => {}
            }
            place
        };
        (0..).zip(text.chars()).map(place).collect()
    }

    #[test]
    fn who_must_leave() {
        for (text, most, wanted) in [
            ("", 8, None),
            ("bbbb", 4, None),
            ("bllb", 4, None),
            ("f", 1, Some(0)),
            ("bfbf", 4, Some(1)),
            ("lfff", 4, Some(1)),
            ("biib", 4, Some(1)),
            ("iiif", 4, Some(0)), // a quarter has had no request: it may stay
            ("iiff", 4, Some(2)),
            ("fiii", 4, Some(0)), // the oldest of all
            ("iffffff", 8, Some(1)),
            ("iiiiiiff", 8, Some(0)),
            ("iiiiifff", 8, Some(5)),
            ("iiih", 4, Some(0)),
            ("iihh", 4, Some(2)), // it is treated as if it were new
            ("iihf", 4, Some(2)),
        ] {
            let places = places(text);
            let now = Instant::now() + Duration::from_mins(1);
            assert_eq!(leaving(places.iter().enumerate(), most, now), wanted, "{text} of {most}");
        }
    }

    #[test]
    fn who_has_only_just_come_or_been_heard_stays() {
        let places = places("ffii"); // a second between one and the next
        let leaves = |from: usize, after_ms: u64| {
            let now = Instant::now() + Duration::from_millis(3000 + after_ms);
            leaving(places.iter().enumerate().skip(from), 4, now)
        };
        assert_eq!(leaves(3, 50), None);
        assert_eq!(leaves(3, 200), Some(3));
        assert_eq!(leaves(0, 50), Some(0));
        assert!(places[0].hear(Instant::now() + Duration::from_secs(3)));
        assert_eq!(leaves(0, 50), Some(1));
        assert!(places[1].leave() && !places[1].hear(Instant::now()));
    }

    #[test]
    fn nobody_leaves_for_whom_there_are_too_many_that_have_only_just_come() {
        let places = places("iiff");
        let now = Instant::now() + Duration::from_millis(2050);
        assert_eq!(leaving(places[..3].iter().enumerate(), 8, now), Some(0));
        assert_eq!(leaving(places[..3].iter().enumerate(), 3, now), None);
    }

    #[test]
    fn who_waits_for_the_rest_of_a_request_may_have_to_leave_and_is_told_so() {
        let now = Instant::now();
        let later = now + Duration::from_mins(1);
        let place = Place::new(now);
        assert!(place.wait_for_rest(later) && place.has_heard());
        assert_eq!(leaving([(0, &place)].into_iter(), 1, later), Some(0), "it has waited since it came");
        assert!(place.begin() && !place.has_heard());
        assert!(place.wait_for_rest(later) && place.has_heard());
        assert_eq!(leaving([(0, &place)].into_iter(), 1, later), None, "it has only just begun to wait");
        assert!(place.leave() && !place.wait_for_rest(later) && !place.begin());
    }

    #[test]
    fn who_is_busy_does_not_leave_and_who_has_left_gets_no_request() {
        let now = Instant::now();
        let place = Place::new(now);
        assert!(place.begin() && !place.leave() && place.begin());
        place.wait(now);
        assert!(place.leave() && !place.leave() && !place.begin());
        place.wait(now);
        assert!(!place.begin() && place.has_left());
    }
}
