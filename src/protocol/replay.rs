//! What a client that lost a stream may still get: the latest events of all streams of one session.
//!
//! ```text
//!   keep ──▶ newest … oldest ──too many bytes, too old──▶ gone: who resumes before it is told so
//! ```
//!
//! An event's id is its stream's number and its own, which counts up over all streams: no id is given twice, even
//! where a stream was forgotten. 2025-11-25, `basic/transports`, Resumability and Redelivery.
//!
//! Always: who resumes gets every event of that very stream that followed, or [`Lost`]; never some of them. At most
//! `limit_bytes` are kept; a stream that ended is forgotten with its last event; what is empty owns no memory.

use super::session::StreamId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What an event costs beside its data.
const EVENT_BYTES: usize = 128;

/// The latest events of one session.
#[derive(Debug, Clone)]
pub struct Replay {
    limit_bytes: usize,
    limit_age: Duration,
    /// The oldest first.
    events: VecDeque<Event>,
    bytes: usize,
    streams: BTreeMap<StreamId, Stream>,
    /// The last number that was given to an event.
    number: u64,
    /// The highest number that a stream had.
    newest_stream: Option<StreamId>,
}

#[derive(Debug, Clone)]
struct Event {
    stream: StreamId,
    number: u64,
    kept: Duration,
    data: Box<[u8]>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// The number of its last event.
    last: u64,
    /// The number of the last event that is not here any more; before the first event, any number below it.
    gone: u64,
    /// How many events are here.
    events: usize,
    ended: bool,
}

/// What followed an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The stream of the event.
    pub stream: StreamId,
    /// The ids and the data of the events that followed it, in order.
    pub events: Vec<(String, Vec<u8>)>,
    /// Nothing will follow them.
    pub ended: bool,
}

/// Why a stream cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is no id of this session.
    Unknown,
    /// Something followed, or may have followed, that is not here any more.
    Replaced,
}

impl Replay {
    /// Nothing yet. Events go when there are more than `limit_bytes` of them, and after `limit_age`.
    #[must_use]
    pub fn new(limit_bytes: usize, limit_age: Duration) -> Self {
        let (events, streams) = (VecDeque::new(), BTreeMap::new());
        Self { limit_bytes, limit_age, events, bytes: 0, streams, number: 0, newest_stream: None }
    }

    /// Keeps an event of `stream`; gives its id. `now` is the time since any fixed point. An event that alone is over
    /// the limit is not kept.
    pub fn keep(&mut self, stream: StreamId, data: &[u8], now: Duration) -> String {
        self.expire(now);
        let number = self.count(stream);
        let cost = cost(data);
        let fits = cost <= self.limit_bytes;
        if let Some(place) = self.streams.get_mut(&stream) {
            place.gone = if fits { place.gone } else { number };
            place.events += usize::from(fits);
        }
        if fits {
            self.bytes += cost;
            self.events.push_back(Event { stream, number, kept: now, data: data.into() });
            while self.bytes > self.limit_bytes {
                self.remove_oldest();
            }
        }
        id(stream, number)
    }

    /// The id of an event without data: a stream that is resumed there gets all that follows.
    pub fn prime(&mut self, stream: StreamId, now: Duration) -> String {
        self.expire(now);
        id(stream, self.count(stream))
    }

    /// Nothing will follow on this stream.
    pub fn end(&mut self, stream: StreamId) {
        if let Some(place) = self.streams.get_mut(&stream) {
            place.ended = true;
        }
        self.forget_if_over(stream);
    }

    /// What followed the event with this id.
    ///
    /// # Errors
    /// Something that followed is not here any more, or nobody can tell; or the id was never given.
    pub fn after(&mut self, id: &str, now: Duration) -> Result<Resumed, Lost> {
        self.expire(now);
        let (stream, number) = read(id).ok_or(Lost::Unknown)?;
        if Some(stream) > self.newest_stream || number == 0 || number > self.number {
            return Err(Lost::Unknown);
        }
        let place = *self.streams.get(&stream).ok_or(Lost::Replaced)?;
        if number > place.last {
            return Err(Lost::Unknown);
        }
        if number < place.gone {
            return Err(Lost::Replaced);
        }
        let missed = self.events.iter().filter(|event| event.stream == stream && event.number > number);
        let events = missed.map(|event| (self::id(stream, event.number), event.data.to_vec())).collect();
        Ok(Resumed { stream, events, ended: place.ended })
    }

    /// Lets go what is too old. Who has an idle session calls this now and then; the other calls do it by themselves.
    pub fn expire(&mut self, now: Duration) {
        while self.events.front().is_some_and(|event| now.saturating_sub(event.kept) > self.limit_age) {
            self.remove_oldest();
        }
    }

    /// What is kept, with what it costs to keep it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of one more event of `stream`.
    fn count(&mut self, stream: StreamId) -> u64 {
        let gone = self.number;
        self.number += 1;
        self.newest_stream = self.newest_stream.max(Some(stream));
        let place = self.streams.entry(stream).or_insert(Stream { last: 0, gone, events: 0, ended: false });
        place.last = self.number;
        self.number
    }

    fn remove_oldest(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        self.bytes -= cost(&event.data);
        if let Some(place) = self.streams.get_mut(&event.stream) {
            place.gone = place.gone.max(event.number);
            place.events -= 1;
        }
        self.forget_if_over(event.stream);
    }

    fn forget_if_over(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|place| place.ended && place.events == 0) {
            self.streams.remove(&stream);
        }
    }
}

fn cost(data: &[u8]) -> usize {
    EVENT_BYTES.saturating_add(data.len())
}

fn id(stream: StreamId, number: u64) -> String {
    format!("{}-{number}", stream.0)
}

/// The opposite of [`id`]; only its very own spelling counts.
fn read(text: &str) -> Option<(StreamId, u64)> {
    let (stream, number) = text.split_once('-')?;
    let (stream, number) = (StreamId(stream.parse().ok()?), number.parse().ok()?);
    (id(stream, number) == text).then_some((stream, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);
    const AGE: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn ids_that_were_never_given_are_unknown() {
        let mut replay = Replay::new(10_000, AGE);
        assert_eq!(replay.after("1-1", at(0)), Err(Lost::Unknown));
        assert_eq!(replay.keep(A, b"x", at(0)), "1-1");
        for id in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-0",
            "1-2",
            "2-1",
            "1-01",
            "+1-1",
            "1-+1",
            " 1-1",
            "1-1-1",
            "1-99999999999999999999",
        ] {
            assert_eq!(replay.after(id, at(0)), Err(Lost::Unknown), "{id:?}");
        }
    }

    #[test]
    fn the_last_id_resumes_with_nothing_and_ends_where_the_stream_ended() {
        let mut replay = Replay::new(10_000, AGE);
        let first = replay.prime(A, at(0));
        let resumed = |events: &[(&str, &str)], ended| {
            let events = events.iter().map(|(id, data)| ((*id).to_owned(), data.as_bytes().to_vec())).collect();
            Ok(Resumed { stream: A, events, ended })
        };
        assert_eq!(replay.after(&first, at(99)), resumed(&[], false));
        let second = replay.keep(A, b"x", at(99));
        replay.end(A);
        assert_eq!(replay.after(&second, at(99)), resumed(&[], true));
        assert_eq!(replay.after(&first, at(109)), resumed(&[("1-2", "x")], true));
        assert_eq!(replay.after(&first, at(110)), Err(Lost::Replaced));
    }

    #[test]
    fn what_is_over_costs_nothing() {
        let mut replay = Replay::new(100_000, AGE);
        for stream in 1..1000 {
            replay.keep(StreamId(stream), &[0; 1000], at(0));
            replay.end(StreamId(stream));
            assert!(replay.bytes() <= 100_000 && replay.streams.len() <= 100);
        }
        replay.expire(at(11));
        assert_eq!((replay.bytes(), replay.streams.len(), replay.events.capacity()), (0, 0, 0));
        assert_eq!(replay.after("7-7", at(11)), Err(Lost::Replaced));
        assert_eq!(replay.keep(StreamId(7), b"x", at(11)), "7-1000", "no id is given twice");
        assert_eq!(replay.after("7-7", at(11)), Err(Lost::Replaced));
    }

    /// Every order of events on two streams (some too large), primings, ends and pauses: at every moment each id that
    /// was ever given yields exactly what followed on its stream, or that it is lost; and that only if it is.
    #[test]
    fn whoever_resumes_misses_nothing_or_is_told() {
        const LIMIT: usize = 3 * (EVENT_BYTES + 1);
        const STEPS: usize = 8;
        let mut lost = 0;
        for number in 0..STEPS.pow(6) {
            let (mut rest, mut now) = (number, at(0));
            let mut replay = Replay::new(LIMIT, AGE);
            // Every event, with its time and whether it has data, and whether it is still there.
            let mut all: Vec<(StreamId, String, Vec<u8>, Duration, bool)> = Vec::new();
            let mut ended = Vec::new();
            for step in 0..6_u8 {
                let which = rest % STEPS;
                rest /= STEPS;
                let stream = [A, B][which % 2];
                match which {
                    0..6 if ended.contains(&stream) => {}
                    0 | 1 => all.push((stream, replay.keep(stream, &[step], now), vec![step], now, true)),
                    2 => all.push((A, replay.keep(A, &[step; LIMIT], now), vec![step; LIMIT], now, false)),
                    3 => all.push((B, replay.prime(B, now), Vec::new(), now, false)),
                    4 | 5 => {
                        replay.end(stream);
                        ended.push(stream);
                    }
                    _ => now += Duration::from_secs(6),
                }
                let mut room = 3;
                for event in all.iter_mut().rev().filter(|event| event.4) {
                    event.4 = room > 0 && now <= event.3 + AGE;
                    room -= i32::from(event.4);
                }
            }
            for (at, (stream, id, ..)) in all.iter().enumerate() {
                let missed: Vec<_> = all[at + 1..].iter().filter(|e| e.0 == *stream && !e.2.is_empty()).collect();
                let forgotten = ended.contains(stream) && !all.iter().any(|e| e.0 == *stream && e.4);
                match replay.after(id, now) {
                    Ok(resumed) => {
                        let wanted = missed.iter().map(|e| (e.1.clone(), e.2.clone())).collect();
                        let ended = ended.contains(stream);
                        assert_eq!(resumed, Resumed { stream: *stream, events: wanted, ended }, "{number} {id}");
                    }
                    Err(Lost::Replaced) => {
                        lost += 1;
                        assert!(forgotten || missed.iter().any(|e| !e.4), "{number} {id}");
                    }
                    Err(Lost::Unknown) => panic!("{number} {id} was given"),
                }
            }
            assert!(replay.bytes() <= LIMIT);
        }
        assert!(lost > 1000);
    }
}
