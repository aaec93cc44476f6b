//! The messages of an event stream, also where it goes on in another answer.

use crate::log;
use crate::protocol::message::Message;
use crate::protocol::sse::{self, Decoder, TooLong};
use crate::system::memory;
use crate::upstream::answer::Body;
use crate::upstream::exchange::Answer;
use crate::upstream::http::Route;
use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

/// Bytes of a stream that are taken at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// Reads one event stream.
pub struct Events {
    shown: String,
    route: Route,
    reader: Body,
    decoder: Decoder,
    limit_bytes: usize,
    chunk: Vec<u8>,
    decoded: VecDeque<Result<sse::Event, TooLong>>,
    /// What is left of a batch (2025-03-26).
    messages: VecDeque<Message>,
    last_event: Option<String>,
    retry: Option<Duration>,
    has_come: bool,
}

/// Why nothing comes any more.
pub enum Broken {
    /// The stream has ended or broke.
    Ended(String),
    /// A message was too long, and is lost.
    TooLong(String),
}

impl Events {
    /// The stream that an answer is.
    pub fn new(answer: Answer, limit_bytes: usize) -> Self {
        Self {
            shown: log::address(&answer.url.to_string()),
            route: answer.route,
            reader: answer.response.into_body(),
            decoder: Decoder::new(limit_bytes),
            limit_bytes,
            chunk: vec![0; CHUNK_BYTES],
            decoded: VecDeque::new(),
            messages: VecDeque::new(),
            last_event: None,
            retry: None,
            has_come: false,
        }
    }

    /// Reads on in another answer.
    pub fn go_on(&mut self, answer: Answer) {
        (self.last_event, self.retry) = (self.last_event().map(str::to_owned), self.retry());
        self.route = answer.route;
        self.reader = answer.response.into_body();
        self.decoder = Decoder::new(self.limit_bytes);
        self.has_come = false;
    }

    /// Where to ask for the rest.
    pub fn last_event(&self) -> Option<&str> {
        self.decoder.last_event_id().or(self.last_event.as_deref())
    }

    /// How long the server wants us to wait before that.
    pub fn retry(&self) -> Option<Duration> {
        self.decoder.retry().or(self.retry)
    }

    /// Whether anything came in the present answer.
    pub fn has_come(&self) -> bool {
        self.has_come
    }

    /// Waits for the next message.
    pub fn next(&mut self) -> Result<Message, Broken> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            match self.decoded.pop_front() {
                Some(Ok(event)) => self.take(event),
                Some(Err(TooLong { bytes })) => {
                    let (shown, limit) = (&self.shown, self.limit_bytes);
                    let why = format!("'{shown}' sent a message of {bytes} bytes, over the limit of {limit}");
                    return Err(Broken::TooLong(why));
                }
                None => self.read()?,
            }
        }
    }

    fn take(&mut self, event: sse::Event) {
        if event.name != "message" {
            let name = log::shortened(event.name.as_bytes());
            return log::debug(format_args!("an event '{name}' is not for us"));
        }
        match Message::parse_all(event.data) {
            Ok(messages) => self.messages.extend(messages),
            Err(invalid) => log::warning(format_args!("'{}' sent no message: {invalid}", self.shown)),
        }
    }

    fn read(&mut self) -> Result<(), Broken> {
        match self.reader.read(&mut self.chunk) {
            Ok(0) => Err(Broken::Ended(format!("'{}' closed the stream before the answer", self.shown))),
            Ok(read) => {
                self.has_come = true;
                if !memory::has_room_to_grow(self.decoder.growth(read)) {
                    return Err(Broken::TooLong(format!("there is no memory for a message of '{}'", self.shown)));
                }
                let decoded = &mut self.decoded;
                self.decoder.feed(&self.chunk[..read], |event| decoded.push_back(event));
                Ok(())
            }
            Err(error) => {
                let why = self.route.broken(&ureq::Error::from(error));
                Err(Broken::Ended(format!("the stream of '{}' broke before the answer: {why}", self.shown)))
            }
        }
    }
}
