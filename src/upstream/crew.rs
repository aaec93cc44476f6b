//! Threads that send where the sender must not wait: each has one POST under way.
//!
//! ```text
//!   send ──▶ queue ──▶ the thread that has the turn ── written (a request), taken (else), or it takes long ──▶ next
//! ```
//!
//! Always: messages are written in the order of the calls; a thread that has nothing to do ends after a while, all of
//! them at the end of the link; a request whose POST fails, or for which no thread can be had, is answered with an error.

use super::remote::Attempt;
use super::waits::{Bystander, Watched};
use super::{Deliver, Event, Failed, Link, Receiver, Sender, Undelivered};
use crate::log;
use crate::protocol::message::{INTERNAL_ERROR, Kind, Message};
use crate::system::memory;
use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

/// Bytes of messages that may wait; one message may be larger.
const WAITING_BYTES: usize = 16 << 20;
/// Messages that may wait.
const WAITING_MESSAGES: usize = 4096;
/// Threads beyond those whose requests are open: for notifications and answers, which take no time.
const SPARE: usize = 16;
/// A thread that has nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// Starts one of the threads.
type Start = fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// The threads of one link.
pub struct Crew {
    deliver: Deliver,
    failed: Failed,
    most: usize,
    start: Start,
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    bytes: usize,
    sender: Option<Arc<dyn Sender>>,
    /// Who has the turn, and whether it sends a request.
    turn: Option<(ThreadId, bool)>,
    idle: usize,
    running: usize,
    threads: Vec<JoinHandle<()>>,
    /// We end the link: what fails from now on says nothing of the server.
    closing: bool,
    ended: Option<String>,
}

impl State {
    /// What waits, which is sent by nobody any more.
    fn give_up(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }
}

impl Crew {
    /// No thread yet, and at most a few more than `open_requests`.
    pub fn new(deliver: Deliver, failed: Failed, open_requests: usize) -> Arc<Self> {
        let most = open_requests.saturating_add(SPARE);
        let start: Start = |work| memory::begin(thread::Builder::new().name("post".into()), memory::STACK_BYTES, work);
        Arc::new(Self { deliver, failed, most, start, state: Mutex::default(), work: Condvar::new() })
    }

    fn push(self: &Arc<Self>, message: &Message) -> Result<(), Undelivered> {
        let mut state = self.state();
        if let Some(why) = &state.ended {
            return Err(Undelivered::Gone(why.clone()));
        }
        let bytes = state.bytes.saturating_add(message.bytes().len());
        if state.queue.len() >= WAITING_MESSAGES || bytes > WAITING_BYTES && !state.queue.is_empty() {
            return Err(Undelivered::Full);
        }
        state.bytes = bytes;
        state.queue.push_back(message.clone());
        // Whoever sends may hold what an answer needs: it hears of its own message itself.
        self.wake(&mut state).map_err(|why| {
            state.give_up();
            Undelivered::Gone(why)
        })
    }

    /// Finds a thread for what waits, if it is its turn. An error says why nobody will ever send it.
    fn wake(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        if state.queue.is_empty() || state.turn.is_some() || state.sender.is_none() || state.ended.is_some() {
            return Ok(());
        }
        if state.idle > 0 {
            self.work.notify_one();
            return Ok(());
        }
        if state.running >= self.most {
            return Ok(()); // the first that is done goes on
        }
        state.threads.retain(|thread| !thread.is_finished());
        let crew = self.clone();
        match (self.start)(Box::new(move || crew.run())) {
            Ok(thread) => {
                state.running += 1;
                state.threads.push(thread);
            }
            Err(error) => {
                let why = format!("cannot start a thread: {error}");
                log::error(format_args!("{why}"));
                if state.running == 0 {
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// The link is there: what waited for it is sent, or answered.
    fn begin(self: &Arc<Self>, sender: Arc<dyn Sender>) {
        let mut state = self.state();
        state.sender = Some(sender);
        self.wake_or_answer(state);
    }

    /// Finds a thread for what waits, or answers it. Not for who sends: it may hold what an answer needs.
    fn wake_or_answer(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let Err(why) = self.wake(&mut state) else { return };
        let waited = state.give_up();
        drop(state);
        for message in waited {
            self.answer(&message, Undelivered::Gone(why.clone()));
        }
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.state();
        while let (Some((sender, message)), guard) = self.next(state) {
            drop(guard);
            // A defect of ours costs this message: who waits for its answer, and who waits for the turn, wait no longer.
            let sent = panic::catch_unwind(AssertUnwindSafe(|| sender.send(&message)));
            let failed = |_| Err(Undelivered::Gone("the thread that sent the message failed".into()));
            if let Err(undelivered) = sent.unwrap_or_else(failed) {
                self.answer(&message, undelivered);
            }
            state = self.state();
            state.turn.take_if(|(thread, _)| *thread == thread::current().id());
        }
    }

    /// What this thread is to send next; nothing once there is nothing to do for long.
    #[expect(clippy::type_complexity, reason = "the guard goes with what it guards")]
    fn next<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (Option<(Arc<dyn Sender>, Message)>, Option<MutexGuard<'a, State>>) {
        loop {
            if state.ended.is_some() {
                state.running -= 1;
                return (None, None);
            }
            if state.turn.is_none()
                && let Some(sender) = state.sender.clone()
                && let Some(message) = state.queue.pop_front()
            {
                state.bytes -= message.bytes().len();
                let is_request = matches!(message.kind(), Kind::Request { .. });
                state.turn = Some((thread::current().id(), is_request));
                return (Some((sender, message)), Some(state));
            }
            state.idle += 1;
            let (guard, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.running -= 1; // at once: what comes now needs another
                return (None, None);
            }
        }
    }

    fn answer(&self, message: &Message, undelivered: Undelivered) {
        let why = undelivered.why();
        if self.state().closing {
            return; // who ends the link answers what is open, and knows better why
        }
        (self.failed)(&why);
        match message.kind() {
            Kind::Request { id, .. } => (self.deliver)(Message::error(Some(id), INTERNAL_ERROR, &why)),
            _ => log::debug(format_args!("a message was not delivered: {why}")),
        }
    }

    /// The others need not wait for this thread any more, if they did.
    fn pass_turn(&self, only_for_requests: bool) {
        let mut state = self.state();
        let is_mine = |(thread, is_request): &mut (ThreadId, bool)| {
            *thread == thread::current().id() && (*is_request || !only_for_requests)
        };
        if state.turn.take_if(is_mine).is_some() {
            self.work.notify_one();
        }
    }

    /// The link has ended: nothing is sent any more, and no thread is left.
    fn end(&self, why: &str) {
        let threads = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| why.to_owned());
            (state.queue, state.sender) = (VecDeque::new(), None);
            std::mem::take(&mut state.threads)
        };
        self.work.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ureq's waits tell: the turn goes on.
struct Turn(Arc<Crew>);

impl Bystander for Turn {
    fn long(&self) {
        self.0.pass_turn(false);
        self.0.wake_or_answer(self.0.state());
    }

    fn sent(&self) -> Option<Watched<'_>> {
        self.0.pass_turn(true);
        self.0.wake_or_answer(self.0.state());
        None
    }
}

/// What is told when one of the crew waits.
pub fn bystander(crew: &Arc<Crew>) -> Arc<dyn Bystander> {
    Arc::new(Turn(crew.clone()))
}

/// The link that a crew sends over.
pub fn link(crew: Arc<Crew>, attempt: Arc<Attempt>) -> Link {
    let sender = Queue { crew: crew.clone(), attempt: attempt.clone() };
    Link { sender: Arc::new(sender), receiver: Box::new(Connecting { crew, attempt, receiver: None, ended: None }) }
}

struct Queue {
    crew: Arc<Crew>,
    attempt: Arc<Attempt>,
}

impl Sender for Queue {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        self.crew.push(message)
    }

    fn stop(&self) {
        self.crew.state().closing = true;
        self.attempt.stop("the connection was closed by us");
    }

    fn kill(&self) {
        self.stop();
    }
}

struct Connecting {
    crew: Arc<Crew>,
    attempt: Arc<Attempt>,
    receiver: Option<Box<dyn Receiver>>,
    ended: Option<String>,
}

impl Connecting {
    fn end(&mut self, why: String) -> Event {
        self.crew.end(&why);
        self.ended = Some(why.clone());
        Event::Ended(why)
    }
}

impl Receiver for Connecting {
    fn recv(&mut self) -> Event {
        if let Some(why) = &self.ended {
            return Event::Ended(why.clone());
        }
        if self.receiver.is_none() {
            match self.attempt.connect() {
                Err(why) => return self.end(why),
                Ok(link) => {
                    self.receiver = Some(link.receiver);
                    self.crew.begin(link.sender);
                }
            }
        }
        match self.receiver.as_mut().map(|receiver| receiver.recv()) {
            Some(Event::Message(message)) => Event::Message(message),
            Some(Event::Ended(why)) => {
                self.attempt.stop(&why);
                self.end(why)
            }
            None => self.end("there is no connection".into()),
        }
    }

    fn pending(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// A server that takes nothing.
    struct Nobody;

    impl Sender for Nobody {
        fn send(&self, message: &Message) -> Result<(), Undelivered> {
            panic!("sent without a thread: {message:?}")
        }

        fn stop(&self) {}

        fn kill(&self) {}
    }

    /// A server at which we fail.
    struct Defect;

    impl Sender for Defect {
        fn send(&self, _: &Message) -> Result<(), Undelivered> {
            panic::resume_unwind(Box::new("a defect")) // without a word on stderr
        }

        fn stop(&self) {}

        fn kill(&self) {}
    }

    /// A crew, and what it delivers.
    fn crew() -> (Arc<Crew>, Receiver<String>) {
        let (told, heard) = channel();
        let deliver = move |message: Message| told.send(message.text().to_owned()).unwrap();
        (Crew::new(Arc::new(deliver), Arc::new(|_| ()), 5), heard)
    }

    /// The same without any thread.
    fn without_threads() -> (Arc<Crew>, Receiver<String>) {
        let (mut crew, heard) = crew();
        Arc::get_mut(&mut crew).unwrap().start = |_| Err(io::ErrorKind::WouldBlock.into());
        (crew, heard)
    }

    fn request(id: u32) -> Message {
        Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).into_bytes()).unwrap()
    }

    fn is_error((text, id): (&String, u32)) -> bool {
        text.contains("error") && text.contains(&format!("\"id\":{id}"))
    }

    /// A link that is not there yet: so many messages may wait, and then so many once it is.
    #[test]
    fn what_waits_is_bounded() {
        let (crew, _) = without_threads();
        let full = |message| matches!(crew.push(&message), Err(Undelivered::Full));
        for id in 0..u32::try_from(WAITING_MESSAGES).unwrap() {
            assert!(!full(request(id)), "{id}");
        }
        for id in 0..10_000 {
            assert!(full(request(id)), "{id}");
        }
        assert_eq!(crew.state().queue.len(), WAITING_MESSAGES);

        let (crew, _) = without_threads();
        let full = |bytes: usize| {
            let empty = request(7).bytes().len() + 2;
            let text = request(7).text().replace("ping", &"x".repeat(bytes - empty + 6));
            matches!(crew.push(&Message::parse(text.into_bytes()).unwrap()), Err(Undelivered::Full))
        };
        assert!(!full(2 * WAITING_BYTES), "one that is alone may be larger");
        assert!(full(100) && full(2 * WAITING_BYTES));
        crew.state().give_up();
        assert!(!full(WAITING_BYTES / 2) && !full(WAITING_BYTES / 2), "at it");
        assert!(full(100), "over it");
        assert!(crew.state().bytes <= WAITING_BYTES);
    }

    #[test]
    fn what_no_thread_can_send_does_not_wait() {
        let (crew, heard) = without_threads();
        crew.state().sender = Some(Arc::new(Nobody));
        let refused = crew.push(&request(1));
        assert!(matches!(&refused, Err(Undelivered::Gone(why)) if why.contains("thread")), "{refused:?}");
        assert!(crew.state().queue.is_empty());
        assert!(heard.try_recv().is_err(), "its sender answers it");
    }

    #[test]
    fn what_waited_for_the_link_is_answered_when_no_thread_can_send_it() {
        let (crew, heard) = without_threads();
        (1..=2).for_each(|id| crew.push(&request(id)).unwrap());
        crew.begin(Arc::new(Nobody));
        assert!(crew.state().queue.is_empty());
        let told: Vec<_> = heard.try_iter().collect();
        assert!(told.len() == 2 && told.iter().zip(1..).all(is_error), "{told:?}");
    }

    #[test]
    fn a_defect_of_ours_is_an_error_to_each_and_keeps_nobody_from_the_turn() {
        let (crew, heard) = crew();
        crew.begin(Arc::new(Defect));
        for id in 1..20 {
            crew.push(&request(id)).unwrap();
            let told = heard.recv_timeout(Duration::from_mins(1)).unwrap();
            assert!(is_error((&told, id)) && told.contains("failed"), "{told}");
        }
        crew.end("all is said");
    }
}
