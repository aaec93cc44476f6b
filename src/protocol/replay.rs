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
        let place = self.streams.get_mut(&stream);
        if cost > self.limit_bytes {
            place.into_iter().for_each(|place| place.gone = number);
        } else {
            place.into_iter().for_each(|place| place.events += 1);
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
