//! From the server to stdout: connects, hands on what comes, and connects again.

use super::from_client::Watch;
use super::{Relay, State};
use crate::log;
use crate::protocol::message::{Kind, Message};
use crate::protocol::reconnect::{self, Attempt, Next};
use crate::protocol::session::FromServer;
use crate::system::memory;
use crate::upstream::remote::{self, Crossing};
use crate::upstream::waits::{Bystander, Watched};
use crate::upstream::{self, Event, Link};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

/// What became of a message of the server.
enum Arrived {
    ForClient(Message),
    ForNobody,
    SessionRefused,
}

impl Relay {
    /// Connects, hands on what comes, and connects again, until [`Relay::stop`].
    pub fn keep_connected(self: &Arc<Self>, wakes: &Receiver<()>) {
        loop {
            let next = {
                let mut state = self.state();
                if state.stopping {
                    return;
                }
                state.reconnect.next_attempt(Instant::now())
            };
            match next {
                Next::Connect(number) => self.connect(number),
                Next::At(time) => drop(wakes.recv_timeout(time.saturating_duration_since(Instant::now()))),
                Next::Idle => drop(wakes.recv()),
            }
        }
    }

    /// One attempt, and the life of the link that comes of it.
    fn connect(self: &Arc<Self>, number: Attempt) {
        let relay = Arc::downgrade(self);
        let deliver = move |message| {
            if let Some(relay) = relay.upgrade() {
                relay.hand_on(number, message);
            }
        };
        let beside = Beside { relay: Arc::downgrade(self), number, stdin: self.stdin.clone() };
        let failed = |why: &str| log::warning(format_args!("a message was not delivered: {why}"));
        let attempt = remote::Attempt::new(
            self.client.clone(),
            Arc::new(deliver),
            Arc::new(beside),
            Arc::new(failed),
            self.may.open_requests,
            Crossing::Allowed(self.may.inputs), // our one client
        );
        {
            let mut state = self.state();
            if state.stopping {
                return;
            }
            state.attempt = Some(attempt.clone());
        }
        match attempt.connect() {
            Err(why) => self.lose(number, &why, false),
            Ok(link) => {
                let why = self.relay(number, link, &attempt);
                attempt.stop(&why);
                self.lose(number, &why, true);
                let workers = std::mem::take(&mut self.state().workers);
                for worker in workers {
                    let _ = worker.join();
                }
            }
        }
    }

    /// Hands on what comes over the link until it ends; says why it did.
    fn relay(self: &Arc<Self>, number: Attempt, mut link: Link, attempt: &Arc<remote::Attempt>) -> String {
        let first = {
            let mut state = self.state();
            state.sender = Some(link.sender.clone());
            state.failure = None;
            state.turn = None;
            state.reconnect.connected(number, Instant::now())
        };
        match first {
            Some(initialize) => self.restore(number, initialize, &link.sender, attempt),
            None => self.send_waiting(&mut self.state(), number),
        }
        let mut batch = Vec::new();
        let why = loop {
            match link.receiver.recv() {
                Event::Ended(why) => break why,
                Event::Message(message) => match self.arrive(number, message) {
                    Arrived::ForClient(message) => batch.push(message),
                    Arrived::ForNobody => {}
                    Arrived::SessionRefused => break self.refuses(),
                },
            }
            if !link.receiver.pending() {
                self.deliver(&mut batch);
            }
        };
        self.deliver(&mut batch);
        if let Some(delay) = link.receiver.retry() {
            self.state().reconnect.set_first_delay(delay);
        }
        why
    }

    /// Sends the client's own `initialize` again. The link is of no use if that fails.
    fn restore(
        self: &Arc<Self>,
        number: Attempt,
        initialize: Message,
        sender: &Arc<dyn upstream::Sender>,
        attempt: &Arc<remote::Attempt>,
    ) {
        attempt.expect_answer(true);
        let (sender, attempt) = (sender.clone(), attempt.clone());
        self.work(&mut self.state(), move |relay| match sender.send(&initialize) {
            Ok(()) => relay.pass_turn(number),
            Err(undelivered) => attempt.stop(&undelivered.why()),
        });
    }

    /// Sends what waited for this link, in order. A thread does it: the stream must be read meanwhile.
    fn send_waiting(self: &Arc<Self>, state: &mut State, number: Attempt) {
        let Some(sender) = state.sender.clone() else { return };
        let mut next = state.reconnect.next(number);
        if next.is_none() {
            return;
        }
        self.work(state, move |relay| {
            while let Some(message) = next.take() {
                relay.state().turn_is_request = matches!(message.kind(), Kind::Request { .. });
                relay.post(&*sender, &message);
                let mut state = relay.state();
                if state.turn == Some(thread::current().id()) {
                    next = state.reconnect.next(number);
                    state.turn = state.turn.filter(|_| next.is_some());
                }
            }
        });
    }

    /// This thread's POST over this link takes long: the messages behind it must not wait for it.
    fn go_on(self: &Arc<Self>, number: Attempt) {
        self.read_on();
        self.pass_turn(number);
    }

    /// This thread's request is written: the messages behind it may go out. Says whether to watch stdin meanwhile.
    fn sent(self: &Arc<Self>, number: Attempt) -> Watch {
        let mut state = self.state();
        if state.turn == Some(thread::current().id()) {
            if state.turn_is_request {
                state.turn = None;
                self.send_waiting(&mut state, number);
            }
            return Watch::No;
        }
        drop(state);
        self.watches()
    }

    /// What waits need not wait for this thread any more, if it did.
    fn pass_turn(self: &Arc<Self>, number: Attempt) {
        let mut state = self.state();
        if state.turn.take_if(|turn| *turn == thread::current().id()).is_some() {
            self.send_waiting(&mut state, number);
        }
    }

    /// Starts a thread that ends with the link, and gives it the turn.
    fn work(self: &Arc<Self>, state: &mut State, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let relay = self.clone();
        state.workers.retain(|worker| !worker.is_finished());
        let builder = thread::Builder::new().name("waiting".into());
        match memory::begin_anyway(builder, memory::STACK_BYTES, move || work(&relay)) {
            Ok(worker) => {
                state.turn = Some(worker.thread().id());
                state.workers.push(worker);
            }
            Err(error) => {
                // What it was to send is lost, so that the link must be: then all that is open is answered.
                if let Some(attempt) = &state.attempt {
                    attempt.stop(&format!("cannot start a thread: {error}"));
                }
            }
        }
    }

    /// Hands on a message that did not come through the link's receiver.
    fn hand_on(self: &Arc<Self>, number: Attempt, message: Message) {
        match self.arrive(number, message) {
            Arrived::ForClient(message) => self.tell(&[message]),
            Arrived::ForNobody => {}
            Arrived::SessionRefused => {
                let attempt = self.state().attempt.clone();
                if let Some(attempt) = attempt {
                    attempt.stop(&self.refuses());
                }
            }
        }
    }

    fn refuses(&self) -> String {
        format!("'{}' refuses to begin the session again", self.shown())
    }

    /// Decides what becomes of a message of the server.
    fn arrive(self: &Arc<Self>, number: Attempt, message: Message) -> Arrived {
        let mut state = self.state();
        match state.reconnect.server(number, &message) {
            reconnect::FromServer::Restored => {
                state.attempt.iter().for_each(|attempt| attempt.expect_answer(false));
                if state.turn.is_none() {
                    self.send_waiting(&mut state, number); // else one POST after the other
                }
                return Arrived::ForNobody;
            }
            reconnect::FromServer::Refused => return Arrived::SessionRefused,
            reconnect::FromServer::Relay => {}
        }
        let decision = state.session.from_server(&message);
        state.unwritten += usize::from(matches!(decision, FromServer::Deliver { .. }));
        drop(state);
        match decision {
            FromServer::Deliver { .. } => Arrived::ForClient(message),
            FromServer::Hold | FromServer::Refuse(_) => Arrived::ForNobody, // not while there is a general stream
            FromServer::Drop(why) => {
                log::debug(format_args!("a message of the server is dropped: {why}"));
                Arrived::ForNobody
            }
        }
    }

    fn deliver(&self, batch: &mut Vec<Message>) {
        self.tell(batch);
        batch.clear();
    }

    /// The link is lost, or there was none: answers all that is open.
    fn lose(&self, number: Attempt, why: &str, connected: bool) {
        let (answers, told) = {
            let mut state = self.state();
            (state.sender, state.attempt) = (None, None);
            if !state.reconnect.lost(number, why, Instant::now()) || state.stopping {
                return;
            }
            let told = state.failure.as_deref() == Some(why);
            state.failure = Some(why.to_owned());
            (state.lose(&if connected { format!("not answered: {why}") } else { why.to_owned() }), told)
        };
        match (connected, told) {
            (true, _) => log::warning(format_args!("the connection is lost: {why}")),
            (false, false) => log::error(format_args!("{why}")),
            (false, true) => log::debug(format_args!("{why}")),
        }
        self.tell(&answers);
    }
}

/// What the client's messages are told of a thread that waits for an answer.
struct Beside {
    relay: Weak<Relay>,
    number: Attempt,
    stdin: Arc<OwnedFd>,
}

impl Bystander for Beside {
    fn long(&self) {
        self.relay.upgrade().iter().for_each(|relay| relay.go_on(self.number));
    }

    fn sent(&self) -> Option<Watched<'_>> {
        let later = match self.relay.upgrade()?.sent(self.number) {
            Watch::No => return None,
            Watch::Now => false,
            Watch::Later => true,
        };
        Some(Watched { fd: self.stdin.as_fd(), later })
    }

    fn idles(&self) {
        if let Some(relay) = self.relay.upgrade() {
            relay.look_for_end();
        }
    }

    fn ready(&self) {
        if let Some(relay) = self.relay.upgrade() {
            relay.reading().quiet.note_more();
            relay.read_on();
        }
    }
}
