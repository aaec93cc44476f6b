//! What passes between the client and the remote server, and what is done when it cannot pass.
//!
//! Always: no lock is held while something may wait; a request that was let pass is answered once, whichever of
//! the threads finds out that it cannot be.

use super::Happening;
use crate::downstream::stdio::{Input, Output, Received};
use crate::log;
use crate::protocol::message::{INTERNAL_ERROR, Kind, Message};
use crate::protocol::reconnect::{self, Attempt, Next, Reconnect, ToServer};
use crate::protocol::retry::Retry;
use crate::protocol::session::{FromClient, FromServer, Session};
use crate::upstream::http::Client;
use crate::upstream::{self, Event, Link, Undelivered, sse};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The delay before the first attempt to connect again, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// POSTs that may be under way at once. Some servers answer a POST only when the call is done: the client's next
/// messages must get past it, or its answer to a question of that very call would never arrive.
const POSTS: usize = 64;

/// The client, the server, and the state between them.
pub struct Relay {
    client: Arc<Client>,
    output: Output,
    state: Mutex<State>,
    reading: Mutex<Reading>,
    happenings: Sender<Happening>,
    wake: Sender<()>,
}

struct State {
    session: Session,
    reconnect: Reconnect,
    sender: Option<Arc<dyn upstream::Sender>>,
    attempt: Option<Arc<sse::Attempt>>,
    /// What sends over the present link beside the client's own thread.
    workers: Vec<JoinHandle<()>>,
    /// Whether our own `initialize` is being sent.
    restoring: bool,
    /// Which of the workers sends what waited: the newest.
    turn: u64,
    /// The failure that was logged last, so that it is logged once.
    failure: Option<String>,
    input_ended: bool,
    stopping: bool,
}

/// Who reads stdin.
#[derive(Default)]
struct Reading {
    /// Here while the thread that reads it is busy with a POST.
    input: Option<Input>,
    threads: usize,
}

/// What became of a message of the server.
enum Arrived {
    ForClient(Message),
    ForNobody,
    SessionRefused,
}

impl Relay {
    /// A relay that is not connected yet, and what wakes [`Relay::keep_connected`].
    pub fn new(
        client: Client,
        open_requests: usize,
        output: Output,
        happenings: Sender<Happening>,
    ) -> (Arc<Self>, Receiver<()>) {
        let (wake, wakes) = mpsc::channel();
        let state = State {
            session: Session::new(open_requests),
            reconnect: Reconnect::new(Retry::new(RETRY.0, RETRY.1), Instant::now()),
            sender: None,
            attempt: None,
            workers: Vec::new(),
            restoring: false,
            turn: 0,
            failure: None,
            input_ended: false,
            stopping: false,
        };
        let (client, state, reading) = (Arc::new(client), Mutex::new(state), Mutex::default());
        (Arc::new(Self { client, output, state, reading, happenings, wake }), wakes)
    }

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
                    self.reading().input = Some(input);
                    self.post(&*sender, &message);
                    match self.reading().input.take() {
                        Some(back) => input = back,
                        None => break,
                    }
                }
            }
        }
        self.reading().threads -= 1;
    }

    /// A POST takes long: another thread reads stdin on, if nobody does.
    fn read_on(self: &Arc<Self>) {
        let mut reading = self.reading();
        if reading.threads >= POSTS {
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
        let (answer, dropped) = match state.session.from_client(&message) {
            FromClient::Answer(answer) => (Some(answer), None),
            FromClient::Drop(why) => (None, Some(why)),
            FromClient::Forward => match state.reconnect.client(message, Instant::now()) {
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

    /// Sends a message and answers it if that fails.
    fn post(&self, sender: &dyn upstream::Sender, message: &Message) {
        let Err(undelivered) = sender.send(message) else { return };
        let why = reason(undelivered);
        let answer = self.state().session.undelivered(message, &why);
        log::warning(format_args!("a message of the client was not delivered: {why}"));
        self.tell(answer.as_slice());
    }

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
        let on_long = move || relay.upgrade().iter().for_each(|relay| relay.go_on(number));
        let attempt = sse::Attempt::new(self.client.clone(), on_long);
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
    fn relay(self: &Arc<Self>, number: Attempt, mut link: Link, attempt: &Arc<sse::Attempt>) -> String {
        let first = {
            let mut state = self.state();
            state.sender = Some(link.sender.clone());
            state.failure = None;
            state.reconnect.connected(number, Instant::now())
        };
        log::info(format_args!("connected to '{}'", self.shown()));
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
                    Arrived::SessionRefused => break format!("'{}' refuses to begin the session again", self.shown()),
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
        attempt: &Arc<sse::Attempt>,
    ) {
        let (sender, attempt) = (sender.clone(), attempt.clone());
        let mut state = self.state();
        state.restoring = true;
        self.work(&mut state, move |relay| {
            let sent = sender.send(&initialize);
            let mut state = relay.state();
            state.restoring = false;
            match sent {
                Ok(()) => relay.send_waiting(&mut state, number),
                Err(undelivered) => {
                    drop(state);
                    attempt.stop(&reason(undelivered));
                }
            }
        });
    }

    /// Sends what waited for this link, in order. A thread does it: the stream must be read meanwhile.
    fn send_waiting(self: &Arc<Self>, state: &mut State, number: Attempt) {
        let Some(sender) = state.sender.clone() else { return };
        let mut next = state.reconnect.next(number);
        if next.is_none() {
            return;
        }
        state.turn += 1;
        let turn = state.turn;
        self.work(state, move |relay| {
            while let Some(message) = next.take() {
                relay.post(&*sender, &message);
                let mut state = relay.state();
                if state.turn == turn {
                    next = state.reconnect.next(number);
                }
            }
        });
    }

    /// A POST over this link takes long: the messages behind it must not wait for it.
    fn go_on(self: &Arc<Self>, number: Attempt) {
        self.read_on();
        self.send_waiting(&mut self.state(), number);
    }

    /// Starts a thread that ends with the link.
    fn work(self: &Arc<Self>, state: &mut State, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let relay = self.clone();
        match thread::Builder::new().name("waiting".into()).spawn(move || work(&relay)) {
            Ok(worker) => state.workers.push(worker),
            Err(error) => log::error(format_args!("cannot start a thread: {error}")),
        }
    }

    /// Decides what becomes of a message of the server.
    fn arrive(self: &Arc<Self>, number: Attempt, message: Message) -> Arrived {
        let mut state = self.state();
        match state.reconnect.server(number, &message) {
            reconnect::FromServer::Restored => {
                if !state.restoring {
                    self.send_waiting(&mut state, number); // else one POST after the other
                }
                return Arrived::ForNobody;
            }
            reconnect::FromServer::Refused => return Arrived::SessionRefused,
            reconnect::FromServer::Relay => {}
        }
        let decision = state.session.from_server(&message);
        drop(state);
        match decision {
            FromServer::Deliver => Arrived::ForClient(message),
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
            (state.session.lose(&if connected { format!("not answered: {why}") } else { why.to_owned() }), told)
        };
        match (connected, told) {
            (true, _) => log::warning(format_args!("the connection is lost: {why}")),
            (false, false) => log::error(format_args!("{why}")),
            (false, true) => log::debug(format_args!("{why}")),
        }
        self.tell(&answers);
    }

    /// The client sends nothing any more; says how many of its requests are open.
    pub fn input_ended(&self) -> usize {
        let mut state = self.state();
        state.input_ended = true;
        state.session.open()
    }

    /// Ends the link and answers all that is open.
    pub fn stop(&self, why: &str) {
        let (answers, attempt) = {
            let mut state = self.state();
            state.stopping = true;
            (state.session.lose(why), state.attempt.take())
        };
        if let Some(attempt) = attempt {
            attempt.stop(why);
        }
        let _ = self.wake.send(());
        self.tell(&answers);
    }

    /// Writes to the client.
    fn tell(&self, messages: &[Message]) {
        if messages.is_empty() {
            return;
        }
        if let Err(error) = self.output.send(messages) {
            log::debug(format_args!("cannot write to stdout: {error}"));
            let _ = self.happenings.send(Happening::ClientGone);
        }
        let state = self.state();
        if state.input_ended && state.session.open() == 0 {
            let _ = self.happenings.send(Happening::Answered);
        }
    }

    fn shown(&self) -> String {
        log::address(&self.client.remote().url.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(undelivered: Undelivered) -> String {
    match undelivered {
        Undelivered::Gone(why) => why,
        Undelivered::Full => "the server does not take what it is sent".into(),
    }
}
