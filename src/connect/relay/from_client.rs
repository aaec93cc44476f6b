//! From stdin to the server: the thread that reads a message also sends it, so that none waits for another thread.

use super::{Happening, Relay, STDOUT};
use crate::downstream::stdio::{Input, Received};
use crate::log;
use crate::protocol::era;
use crate::protocol::message::{INTERNAL_ERROR, Kind, Message};
use crate::protocol::reconnect::ToServer;
use crate::protocol::session::FromClient;
use crate::system::{self, Poll, memory};
use crate::upstream;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Threads beyond those whose requests are open. Some servers answer a POST only when the call is done: the client's
/// next messages must get past it, or its answer to a question of that very call would never arrive.
pub(super) const SPARE: usize = 64;
/// Threads that are kept for the next time that a POST takes long.
const FOLLOWERS: usize = 16;

/// Whether stdin is watched while an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// Another thread reads it, or is about to.
    No,
    /// From the beginning.
    Now,
    /// When the answer does not begin soon.
    Later,
}

/// Why a thread reads stdin no longer.
enum Left {
    /// Another one reads on.
    ToAnother,
    /// Nothing comes any more.
    Ended,
}

impl Relay {
    /// Reads the client's messages and sends them until the input ends, or for as long as threads are needed.
    pub fn read_client(self: Arc<Self>, input: Input) {
        self.reading().threads += 1;
        let mut next = Some(input);
        while let Some(input) = next {
            next = match self.read(input) {
                Left::ToAnother => self.follow(),
                Left::Ended => None,
            };
        }
        self.reading().threads -= 1;
    }

    fn read(&self, mut input: Input) -> Left {
        loop {
            match input.recv() {
                Received::End => {
                    let _ = self.happenings.send(Happening::EndOfInput);
                    return Left::Ended;
                }
                Received::Invalid(invalid, asked) => {
                    log::warning(format_args!("the client sent no message: {invalid}"));
                    self.say(Message::error(asked.as_ref(), invalid.code, &invalid.reason));
                }
                Received::Message(message) => {
                    let Some((sender, message)) = self.take(message) else { continue };
                    self.lend(input, matches!(message.kind(), Kind::Request { .. }));
                    self.post(&*sender, &message);
                    match self.take_back() {
                        Some(back) => input = back,
                        None => return Left::ToAnother,
                    }
                }
            }
        }
    }

    /// Waits until this thread is to read on, if it may be needed.
    fn follow(&self) -> Option<Input> {
        let mut reading = self.reading();
        if reading.followers >= FOLLOWERS {
            return None;
        }
        reading.followers += 1;
        while reading.handed.is_none() {
            reading = self.follow.wait(reading).unwrap_or_else(PoisonError::into_inner);
        }
        reading.handed.take()
    }

    /// Leaves the input here for as long as this thread's POST takes.
    fn lend(&self, input: Input, is_request: bool) {
        let mut reading = self.reading();
        reading.input = Some(input);
        reading.owner = Some(thread::current().id());
        (reading.is_request, reading.is_overdue) = (is_request, false);
    }

    /// The input, if it is this thread's to read on.
    fn take_back(&self) -> Option<Input> {
        let mut reading = self.reading();
        let is_ours = reading.owner == Some(thread::current().id()) || reading.is_overdue;
        if !is_ours {
            return None;
        }
        let input = reading.input.take()?;
        if reading.is_request {
            reading.quiet.note_answered();
        }
        Some(input)
    }

    /// This thread's request is written and waits for its answer: says whether to watch stdin meanwhile.
    pub(super) fn watches(self: &Arc<Self>) -> Watch {
        let mut reading = self.reading();
        if reading.owner != Some(thread::current().id()) || !reading.is_request {
            return Watch::No;
        }
        match reading.input.as_ref().map(Input::pending) {
            Some(false) if reading.quiet.is_likely() => Watch::Later,
            Some(false) => Watch::Now,
            None => Watch::No,
            Some(true) => {
                reading.quiet.note_more();
                drop(reading);
                self.read_on();
                Watch::No
            }
        }
    }

    /// This thread waits for another one, and nobody reads stdin meanwhile: tells of a client that has closed it.
    pub(super) fn look_for_end(&self) {
        if self.reading().owner != Some(thread::current().id()) {
            return;
        }
        let mut stdin = [Poll::readable(self.stdin.as_fd())];
        if system::poll(&mut stdin, Some(Duration::ZERO)).is_ok() && stdin[0].is_hung_up() {
            let _ = self.happenings.send(Happening::HungUp);
        }
    }

    /// The next message must not wait for this thread's POST: another thread reads stdin on, if nobody does.
    pub(super) fn read_on(self: &Arc<Self>) {
        let mut reading = self.reading();
        if reading.owner != Some(thread::current().id()) || reading.input.is_none() {
            return;
        }
        if reading.followers > 0 {
            reading.followers -= 1;
            reading.handed = reading.input.take();
            drop(reading);
            return self.follow.notify_one();
        }
        if reading.threads >= self.most_threads {
            reading.is_overdue = true;
            return;
        }
        let Some(input) = reading.input.take() else { return };
        drop(reading);
        let place = Arc::new(Mutex::new(Some(input)));
        let (taken, relay) = (place.clone(), self.clone());
        let read = move || {
            if let Some(input) = held(&taken).take() {
                relay.read_client(input);
            }
        };
        let builder = thread::Builder::new().name("client".into());
        if let Err(error) = memory::begin_anyway(builder, memory::STACK_BYTES, read) {
            log::warning(format_args!("cannot start a thread: {error}: what the client says waits for a call's end"));
            let mut reading = self.reading();
            (reading.input, reading.is_overdue) = (held(&place).take(), true);
        }
    }

    /// Decides what becomes of a message of the client; gives it back if it is to be sent now.
    fn take(&self, message: Message) -> Option<(Arc<dyn upstream::Sender>, Message)> {
        if let Some(refusal) = era::refused_client(self.may.protocol, &message) {
            self.say(refusal);
            return None;
        }
        let mut state = self.state();
        if state.stopping {
            let Kind::Request { id, .. } = message.kind() else { return None };
            let refusal = Message::error(Some(id), INTERNAL_ERROR, "the proxy is stopping");
            drop(state);
            self.say(refusal);
            return None;
        }
        let (answer, dropped) = match state.session.from_client(&message, STDOUT) {
            FromClient::Answer(answer) => {
                state.unwritten += 1;
                (Some(*answer), None)
            }
            FromClient::Drop(why) => (None, Some(why)),
            FromClient::Forward { .. } => match state.reconnect.client(message, Instant::now()) {
                ToServer::Send(message) => return state.sender.clone().map(|sender| (sender, message)),
                ToServer::Wait => {
                    let _ = self.wake.send(());
                    (None, None)
                }
                ToServer::Drop => (None, Some("there is no connection to the server")),
                ToServer::Refuse(message, why) => (state.undelivered(&message, &why), None),
            },
        };
        drop(state);
        if let Some(why) = dropped {
            log::debug(format_args!("a message of the client is dropped: {why}"));
        }
        self.tell(answer.as_slice());
        None
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
