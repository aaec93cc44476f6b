//! The books: what was sent, what became of it, what it did, and what was broken meanwhile.
//!
//! Always: a call has one fate. What should never be is kept word for word and makes the run fail.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server's result, with its own payload.
    Result,
    /// A JSON-RPC error.
    Error,
    /// An HTTP status: it was never accepted.
    Refused(u16),
    /// We cut its connection, and its client knows.
    Cut,
    /// Its connection was closed for others, when connections had run out and it had only waited so far: its client may
    /// send it again, for it was never done.
    Closed,
    /// Its connection ended and nobody had cut it, or nothing came in time.
    Lost,
}

/// How many complaints are kept word for word.
const FEW: usize = 40;

/// How long an answer may take before it counts as lost, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same once the run has failed: it only has to end.
const HOPELESS: Duration = Duration::from_secs(1);

/// The books of one run.
#[derive(Default)]
pub struct Ledger {
    next: AtomicU64,
    has_failed: AtomicBool,
    /// What else than [`PATIENCE`] it has, whatever happens: of a program that may fail.
    tolerates: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until when connections that wait may have to leave.
    scarce_until: Option<Instant>,
    fates: HashMap<u64, Fate>,
    faults: BTreeMap<&'static str, u64>,
    counts: Counts,
    wrong: Vec<String>,
}

/// The figures of one run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Calls and beginnings of sessions that were sent.
    pub sent: u64,
    /// Answered by the server.
    pub results: u64,
    /// Answered by a JSON-RPC error.
    pub errors: u64,
    /// Refused with an HTTP status.
    pub refused: u64,
    /// Cut by us.
    pub cut: u64,
    /// Closed for others, and never done.
    pub closed: u64,
    /// Lost without a reason.
    pub lost: u64,
    /// Messages that were not for their receiver.
    pub foreign: u64,
    /// Second answers.
    pub double: u64,
    /// Side effects that happened more than once.
    pub twice: u64,
    /// Side effects in all.
    pub effects: u64,
    /// Processes, threads and descriptors that were left.
    pub leftovers: u64,
    /// Anonymous memory of the proxy before and after, in kB.
    pub memory_kb: (u64, u64),
    /// How long the longest stop took.
    pub longest_stop: Duration,
}

impl Ledger {
    /// The books of a program that may fail: a run goes on whatever happens, and each answer has so much time.
    pub fn tolerant(patience: Duration) -> Self {
        Self { tolerates: Some(patience), ..Self::default() }
    }

    /// How long an answer may take before it counts as lost.
    pub fn patience(&self) -> Duration {
        self.tolerates.unwrap_or(if self.has_failed() { HOPELESS } else { PATIENCE })
    }

    /// Whether something was that should never be: the run need not go on.
    pub fn has_failed(&self) -> bool {
        self.tolerates.is_none() && self.has_failed.load(Ordering::SeqCst)
    }

    /// Connections that wait may have to leave for others, from now until so long from now.
    pub fn is_scarce_for(&self, long: Duration) {
        self.state.lock().unwrap().scarce_until = Some(Instant::now() + long);
    }

    /// Whether it is so, or was just now.
    pub fn is_scarce(&self) -> bool {
        self.state.lock().unwrap().scarce_until.is_some_and(|until| Instant::now() < until)
    }

    /// The number of a new call, which is like no other's.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what became of a call.
    pub fn fate(&self, uid: u64, fate: Fate) {
        let mut state = self.state.lock().unwrap();
        let before = state.fates.insert(uid, fate);
        assert_eq!(before, None, "a call has one fate");
        let counts = &mut state.counts;
        counts.sent += 1;
        *match fate {
            Fate::Result => &mut counts.results,
            Fate::Error => &mut counts.errors,
            Fate::Refused(_) => &mut counts.refused,
            Fate::Cut => &mut counts.cut,
            Fate::Closed => &mut counts.closed,
            Fate::Lost => &mut counts.lost,
        } += 1;
    }

    /// Notes a message that was not for the one who got it.
    pub fn foreign(&self, who: &str, message: &str) {
        self.state.lock().unwrap().counts.foreign += 1;
        self.wrong(format!("{who} got a foreign message: {}", shorten(message)));
    }

    /// Notes a second answer.
    pub fn double(&self, who: &str, message: &str) {
        self.state.lock().unwrap().counts.double += 1;
        self.wrong(format!("{who} got a second answer: {}", shorten(message)));
    }

    /// Notes what is left when all is over.
    pub fn left(&self, count: u64, what: String) {
        self.state.lock().unwrap().counts.leftovers += count;
        self.wrong(what);
    }

    /// Notes what should never be.
    pub fn wrong(&self, what: String) {
        self.has_failed.store(true, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        if state.wrong.len() < FEW {
            state.wrong.push(what);
        }
    }

    /// Notes that something was broken.
    pub fn fault(&self, kind: &'static str) {
        *self.state.lock().unwrap().faults.entry(kind).or_default() += 1;
    }

    /// Notes how long a stop took.
    pub fn stopped(&self, took: Duration) {
        let counts = &mut self.state.lock().unwrap().counts;
        counts.longest_stop = counts.longest_stop.max(took);
    }

    /// Notes the memory before and after.
    pub fn memory(&self, before_kb: u64, after_kb: u64) {
        self.state.lock().unwrap().counts.memory_kb = (before_kb, after_kb);
    }

    /// The figures so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().unwrap().counts
    }

    /// How often what was broken.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().unwrap().faults.clone()
    }

    /// What should never be and was.
    pub fn complaints(&self) -> Vec<String> {
        self.state.lock().unwrap().wrong.clone()
    }

    /// Compares what the servers did, a number a line, with what became of the calls.
    pub fn audit(&self, text: &str) {
        let mut done: HashMap<u64, u64> = HashMap::new();
        for line in text.lines() {
            *done.entry(line.parse().expect("the server writes numbers")).or_default() += 1;
        }
        let fates = self.state.lock().unwrap().fates.clone();
        for (uid, times) in &done {
            let fate = fates.get(uid);
            if *times > 1 {
                self.state.lock().unwrap().counts.twice += 1;
                self.wrong(format!("call {uid} was done {times} times: {fate:?}"));
            }
            if matches!(fate, None | Some(Fate::Refused(_) | Fate::Closed)) {
                self.wrong(format!("call {uid} was done although it was not accepted: {fate:?}"));
            }
        }
        for (uid, _) in fates.iter().filter(|(uid, fate)| **fate == Fate::Result && !done.contains_key(uid)) {
            self.wrong(format!("call {uid} has a result and was never done"));
        }
        self.state.lock().unwrap().counts.effects += done.len() as u64;
    }
}

/// The table at the end.
pub fn table(counts: &Counts, faults: &BTreeMap<&'static str, u64>) -> String {
    let mut text = String::from("| what | count |\n| --- | ---: |\n");
    for (kind, count) in faults {
        let _ = writeln!(text, "| fault: {kind} | {count} |");
    }
    for (name, count) in [
        ("requests sent", counts.sent),
        ("answered by a result", counts.results),
        ("answered by an error", counts.errors),
        ("refused with a status", counts.refused),
        ("cut by us", counts.cut),
        ("closed for others, and not done", counts.closed),
        ("lost without a reason", counts.lost),
        ("foreign messages", counts.foreign),
        ("double answers", counts.double),
        ("side effects", counts.effects),
        ("side effects that happened twice", counts.twice),
        ("leftovers", counts.leftovers),
    ] {
        let _ = writeln!(text, "| {name} | {count} |");
    }
    let (before, after) = counts.memory_kb;
    let _ = writeln!(text, "| longest stop | {} ms |", counts.longest_stop.as_millis());
    let _ = writeln!(text, "| memory before, after (largest) | {before} kB, {after} kB |");
    text
}

/// The beginning of a message.
pub fn shorten(message: &str) -> String {
    message.chars().take(300).collect()
}
