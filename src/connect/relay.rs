//! What passes between the client and the remote server, and what is done when it cannot pass.
//!
//! Always: no lock is held while something may wait; a request that was let pass is answered once, whichever of
//! the threads finds out that it cannot be.

mod from_client;
mod link;
mod quiet;

use super::Happening;
use crate::downstream::stdio::{Input, Output};
use crate::log;
use crate::protocol::era::Protocol;
use crate::protocol::message::Message;
use crate::protocol::reconnect::Reconnect;
use crate::protocol::retry::Retry;
use crate::protocol::session::{Session, StreamId};
use crate::upstream::http::Client;
use crate::upstream::remote::Inputs;
use crate::upstream::{self, remote};
use quiet::Quiet;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

/// The client's one stream.
const STDOUT: StreamId = StreamId(0);
/// The delay before the first attempt to connect again, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What the client may do.
#[derive(Debug, Clone, Copy)]
pub struct May {
    /// Requests that may be unanswered at the same time.
    pub open_requests: usize,
    /// Which revisions it may speak.
    pub protocol: Protocol,
    /// What may wait for its input.
    pub inputs: Inputs,
}

/// The client, the server, and the state between them.
pub struct Relay {
    client: Arc<Client>,
    output: Output,
    state: Mutex<State>,
    reading: Mutex<Reading>,
    /// A thread that follows is to read stdin on.
    follow: Condvar,
    /// Everything is written.
    written: Condvar,
    most_threads: usize,
    may: May,
    happenings: Sender<Happening>,
    wake: Sender<()>,
    /// Our stdin, to be watched.
    stdin: Arc<OwnedFd>,
}

/// What the threads share.
struct State {
    session: Session,
    reconnect: Reconnect,
    sender: Option<Arc<dyn upstream::Sender>>,
    attempt: Option<Arc<remote::Attempt>>,
    /// What sends over the present link beside the client's own thread.
    workers: Vec<JoinHandle<()>>,
    /// Which of the workers has the POST that the messages behind it wait for, unless it takes long.
    turn: Option<ThreadId>,
    /// Whether that POST is a request.
    turn_is_request: bool,
    /// The failure that was logged last, so that it is logged once.
    failure: Option<String>,
    /// Messages that are the client's, and not written yet.
    unwritten: usize,
    /// How many threads wait until they are.
    awaiting_writers: usize,
    input_ended: bool,
    stopping: bool,
}

/// Who reads stdin.
#[derive(Default)]
struct Reading {
    /// Here while the thread that reads it is busy with a POST.
    input: Option<Input>,
    /// That thread. The others do not take the input: their next message would overtake that POST.
    owner: Option<ThreadId>,
    /// Whether it is a request.
    is_request: bool,
    /// That POST takes long, and there was no thread left to read on.
    is_overdue: bool,
    quiet: Quiet,
    threads: usize,
    /// Threads that could read on.
    followers: usize,
    /// What one of them is to read.
    handed: Option<Input>,
}

impl Relay {
    /// A relay that is not connected yet, and what wakes [`Relay::keep_connected`].
    pub fn new(
        client: Client,
        may: May,
        stdin: OwnedFd,
        output: Output,
        happenings: Sender<Happening>,
    ) -> (Arc<Self>, Receiver<()>) {
        let (wake, wakes) = mpsc::channel();
        let mut session = Session::new(may.open_requests, 0); // nothing waits: stdout is always there
        session.open_general(STDOUT);
        let state = State {
            session,
            reconnect: Reconnect::new(Retry::new(RETRY.0, RETRY.1), Instant::now()),
            sender: None,
            attempt: None,
            workers: Vec::new(),
            turn: None,
            turn_is_request: false,
            failure: None,
            unwritten: 0,
            awaiting_writers: 0,
            input_ended: false,
            stopping: false,
        };
        let (client, state, reading) = (Arc::new(client), Mutex::new(state), Mutex::default());
        let stdin = Arc::new(stdin);
        let (follow, most_threads) = (Condvar::new(), may.open_requests.saturating_add(from_client::SPARE));
        let relay = Self {
            client,
            output,
            state,
            reading,
            follow,
            written: Condvar::new(),
            most_threads,
            may,
            happenings,
            wake,
            stdin,
        };
        (Arc::new(relay), wakes)
    }

    /// Sends a message and answers it if that fails.
    fn post(&self, sender: &dyn upstream::Sender, message: &Message) {
        let Err(undelivered) = sender.send(message) else { return };
        let why = undelivered.why();
        let (answer, stopping) = {
            let mut state = self.state();
            (state.undelivered(message, &why), state.stopping)
        };
        if !stopping {
            log::warning(format_args!("a message of the client was not delivered: {why}"));
        }
        self.tell(answer.as_slice());
    }

    /// The client sends nothing any more; says whether all that may be answered by itself is, and written.
    pub fn input_ended(&self) -> bool {
        let mut state = self.state();
        state.input_ended = true;
        state.is_done()
    }

    /// Waits until all that is the client's is written, but not longer than until then.
    pub fn wait_for_writers(&self, until: Instant) {
        let mut state = self.state();
        state.awaiting_writers += 1; // for good: we end
        while state.unwritten > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the link and answers all that is open.
    pub fn stop(&self, why: &str) {
        let (answers, attempt) = {
            let mut state = self.state();
            state.stopping = true;
            let answers = state.session.finish(why);
            (state.answers(answers), state.attempt.take())
        };
        if let Some(attempt) = attempt {
            attempt.stop(why);
        }
        let _ = self.wake.send(());
        self.tell(&answers);
    }

    /// Writes to the client what nobody has counted yet.
    fn say(&self, message: Message) {
        self.state().unwritten += 1;
        self.tell(&[message]);
    }

    /// Writes to the client what is its, and counted.
    fn tell(&self, messages: &[Message]) {
        if messages.is_empty() {
            return;
        }
        if let Err(error) = self.output.send(messages) {
            log::debug(format_args!("cannot write to stdout: {error}"));
            let _ = self.happenings.send(Happening::ClientGone);
        }
        let mut state = self.state();
        state.unwritten -= messages.len();
        if state.unwritten == 0 && state.awaiting_writers > 0 {
            self.written.notify_all();
        }
        if state.input_ended && state.is_done() {
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

impl State {
    /// Whether the client has all that it may still expect.
    fn is_done(&self) -> bool {
        self.session.owed() == 0 && self.unwritten == 0
    }

    /// The answers to all that is open, which are counted from now on.
    fn lose(&mut self, why: &str) -> Vec<Message> {
        let answers = self.session.lose(why);
        self.answers(answers)
    }

    /// The same for one message that did not reach the server.
    fn undelivered(&mut self, message: &Message, why: &str) -> Option<Message> {
        self.session.undelivered(message, why).inspect(|_| self.unwritten += 1)
    }

    fn answers(&mut self, answers: Vec<(StreamId, Message)>) -> Vec<Message> {
        self.unwritten += answers.len();
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}
