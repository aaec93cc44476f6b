//! From stdin to the server: the thread that reads a message also sends it, so that none waits for another thread.

use super::{Happening, Relay, STDOUT};
use crate::downstream::stdio::{Input, Received};
use crate::log;
use crate::protocol::message::{INTERNAL_ERROR, Kind, Message};
use crate::protocol::reconnect::ToServer;
use crate::protocol::session::FromClient;
use crate::upstream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// POSTs that may be under way at once. Some servers answer a POST only when the call is done: the client's next
/// messages must get past it, or its answer to a question of that very call would never arrive.
const POSTS: usize = 64;

impl Relay {
    /// Reads the client's messages and sends them until the input ends or another thread reads on.
    pub fn read_client(self: Arc<Self>, mut input: Input) {
        self.reading().threads += 1;
        loop {
            match input.recv() {
                Received::End => {
                    let _ = self.happenings.send(Happening::EndOfInput);
                    break;
                }
                Received::Invalid(invalid) => {
                    log::warning(format_args!("the client sent no message: {invalid}"));
                    self.tell(&[Message::error(None, invalid.code, &invalid.reason)]);
                }
                Received::Message(message) => {
                    let Some((sender, message)) = self.take(message) else { continue };
                    self.lend(input);
                    self.post(&*sender, &message);
                    match self.take_back() {
                        Some(back) => input = back,
                        None => break,
                    }
                }
            }
        }
        self.reading().threads -= 1;
    }

    /// Leaves the input here for as long as this thread's POST takes.
    fn lend(&self, input: Input) {
        let mut reading = self.reading();
        reading.input = Some(input);
        reading.owner = Some(thread::current().id());
        reading.is_overdue = false;
    }

    /// The input, if it is this thread's to read on.
    fn take_back(&self) -> Option<Input> {
        let mut reading = self.reading();
        let is_ours = reading.owner == Some(thread::current().id()) || reading.is_overdue;
        if is_ours { reading.input.take() } else { None }
    }

    /// This thread's POST takes long: another thread reads stdin on, if nobody does.
    pub(super) fn read_on(self: &Arc<Self>) {
        let mut reading = self.reading();
        if reading.owner != Some(thread::current().id()) {
            return;
        }
        if reading.threads >= POSTS {
            reading.is_overdue = true;
            return;
        }
        let Some(input) = reading.input.take() else { return };
        drop(reading);
        let relay = self.clone();
        let reader = thread::Builder::new().name("client".into()).spawn(move || relay.read_client(input));
        if let Err(error) = reader {
            // The input went with the closure: to the client this looks as if we had ended.
            log::error(format_args!("cannot start a thread: {error}"));
            let _ = self.happenings.send(Happening::EndOfInput);
        }
    }

    /// Decides what becomes of a message of the client; gives it back if it is to be sent now.
    fn take(&self, message: Message) -> Option<(Arc<dyn upstream::Sender>, Message)> {
        let mut state = self.state();
        if state.stopping {
            let Kind::Request { id, .. } = message.kind() else { return None };
            let refusal = Message::error(Some(id), INTERNAL_ERROR, "the proxy is stopping");
            drop(state);
            self.tell(&[refusal]);
            return None;
        }
        let (answer, dropped) = match state.session.from_client(&message, STDOUT) {
            FromClient::Answer(answer) => (Some(answer), None),
            FromClient::Drop(why) => (None, Some(why)),
            FromClient::Forward { .. } => match state.reconnect.client(message, Instant::now()) {
                ToServer::Send(message) => return state.sender.clone().map(|sender| (sender, message)),
                ToServer::Wait => {
                    let _ = self.wake.send(());
                    (None, None)
                }
                ToServer::Drop => (None, Some("there is no connection to the server")),
                ToServer::Refuse(message, why) => (state.session.undelivered(&message, &why), None),
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
