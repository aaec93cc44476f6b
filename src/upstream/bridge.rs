//! A bridge to a remote server of the other era: the pure machine of `protocol::bridge`, and a link to the server.
//!
//! ```text
//!   client ──send──▶ machine ──▶ link (its crew sends)
//!   client ◀──deliver── outbox ◀── machine ◀── what the link delivers, its end, the time
//! ```
//!
//! Always: under one lock a message is decided upon and handed to the link, which does not wait; what is for the client
//! leaves in the order in which it was decided upon, by one thread at a time, and without the lock; whoever brings more
//! of the server than the client takes waits, which holds up the server; a link that has ended, or whose server has
//! refused to begin, is let go before the client hears of it, and made anew for the next message of the client.

mod machine;
mod outbox;
mod outgrown;

use super::http::Client;
use super::waits::TICK;
use super::{Deliver, Event, Failed, Link, Receiver, Sender, Undelivered, remote};
use crate::log;
use crate::protocol::bridge::to_modern::Crossed;
use crate::protocol::era::{Era, Way};
use crate::protocol::message::Message;
use crate::system::memory;
pub use machine::{Inputs, Machine};
use outbox::Outbox;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A machine, its link and its client.
pub struct Bridge {
    client: Arc<Client>,
    era: Era,
    deliver: Deliver,
    failed: Failed,
    open_requests: usize,
    /// What is told when the server proves to speak what the client speaks: whoever begins anew needs no bridge.
    needless: Box<dyn Fn(&str) + Send + Sync>,
    began: Instant,
    state: Mutex<State>,
    /// Something may be due earlier, or the bridge ends.
    changed: Condvar,
    /// The client has taken enough, or the bridge ends.
    room: Condvar,
}

struct State {
    machine: Machine,
    /// The way to the server, while there is a link.
    sender: Option<Arc<dyn Sender>>,
    /// The number of that link.
    link: u64,
    /// What is for the client, and whether a thread is busy with it.
    outbox: Outbox,
    is_delivering: bool,
    /// When the machine wants to know the time.
    due: Option<Duration>,
    has_clock: bool,
    threads: Vec<JoinHandle<()>>,
    stopped: Option<String>,
}

impl Bridge {
    /// A bridge for a client of this era, without a link yet.
    pub fn new(
        client: Arc<Client>,
        machine: Machine,
        deliver: Deliver,
        failed: Failed,
        open_requests: usize,
        needless: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Arc<Self> {
        let era = machine.era();
        let state = State {
            machine,
            sender: None,
            link: 0,
            outbox: Outbox::default(),
            is_delivering: false,
            due: None,
            has_clock: false,
            threads: Vec::new(),
            stopped: None,
        };
        let (began, state) = (Instant::now(), Mutex::new(state));
        let (changed, room) = (Condvar::new(), Condvar::new());
        Arc::new(Self { client, era, deliver, failed, open_requests, needless, began, state, changed, room })
    }

    /// Takes a message of the client. To send never waits for the server; to deliver may wait for the client.
    ///
    /// # Errors
    /// The bridge has ended.
    pub fn send(self: &Arc<Self>, message: &Message) -> Result<(), Undelivered> {
        self.begin_anew_for(message);
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(Undelivered::Gone(why.clone()));
        }
        let mut out = Vec::new();
        if state.sender.is_none() {
            self.connect(&mut state).map_err(Undelivered::Gone)?;
            let is_first = state.link == 1;
            state.machine.begin(is_first, &mut out);
        }
        self.tick(&mut state, &mut out);
        state.machine.hear_client(message, &mut out);
        self.act(&mut state, out);
        let refused = self.let_go(&mut state);
        drop(state);
        if let Some(sender) = refused {
            sender.stop();
        }
        self.drain();
        Ok(())
    }

    /// Ends the bridge, for this reason. Returns at once.
    pub fn stop(&self, why: &str) {
        let sender = {
            let mut state = self.state();
            state.stopped.get_or_insert_with(|| why.to_owned());
            state.sender.clone()
        };
        self.changed.notify_all();
        self.room.notify_all();
        if let Some(sender) = sender {
            sender.stop();
        }
    }

    /// Waits for its threads, after [`Bridge::stop`].
    pub fn join(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Makes a link, and a thread that reads it.
    fn connect(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        state.link += 1;
        let (this, number) = (Arc::downgrade(self), state.link);
        let deliver = move |message| {
            if let Some(this) = this.upgrade() {
                this.arrive(message, number);
            }
        };
        let (client, failed) = (self.client.clone(), self.failed.clone());
        let link = remote::link_of(client, Arc::new(deliver), failed, self.open_requests, self.era.other());
        let Link { sender, receiver } = link;
        let this = Arc::downgrade(self);
        start(state, "bridge", move || read(&this, receiver, number))?;
        state.sender = Some(sender);
        Ok(())
    }

    /// Takes a message of the server, unless there is another link now.
    fn arrive(self: &Arc<Self>, message: Message, link: u64) {
        let is_error = message.is_error();
        let mut state = self.state();
        if state.link != link {
            return;
        }
        let mut out = Vec::new();
        self.tick(&mut state, &mut out);
        state.machine.hear_server(message, &mut out);
        self.act(&mut state, out);
        let refused = self.let_go(&mut state);
        drop(state);
        if let Some(sender) = refused {
            sender.stop();
        }
        self.drain();
        // Another server may stand there now, which a client that begins anew reaches straight.
        if is_error && self.era == Era::Legacy && self.client.way(Era::Legacy) != Way::Crossed {
            (self.needless)("the server does not speak modern revisions of the protocol");
        }
        self.wait_for_room();
    }

    /// Takes away the link of a server that has refused to begin: it will not begin any more, another one may. The client
    /// has not heard of the refusal yet, so that nothing that it asks afterwards is answered with it. Whoever calls stops
    /// the link, without the lock.
    fn let_go(&self, state: &mut State) -> Option<Arc<dyn Sender>> {
        let sender = state.sender.take_if(|_| state.machine.is_refused())?;
        self.client.eras().forget(self.era);
        Some(sender)
    }

    /// The link has ended: what is open gets an error, and the next message of the client makes another link.
    fn lose(self: &Arc<Self>, link: u64, why: &str) {
        let mut state = self.state();
        if state.link != link || state.stopped.is_some() {
            return; // whoever ends the bridge answers what is open, and knows better why
        }
        state.sender = None;
        let (had_begun, is_refused) = (state.machine.has_begun(), state.machine.is_refused());
        let mut out = Vec::new();
        self.tick(&mut state, &mut out);
        state.machine.lose(why, &mut out);
        self.act(&mut state, out);
        if !had_begun && !is_refused {
            self.client.eras().forget(self.era); // before the client hears of it
        }
        drop(state);
        match (had_begun, is_refused) {
            (true, _) => log::warning(format_args!("the connection is lost: {why}")),
            (false, true) => log::debug(format_args!("the server refused to begin: {why}")),
            (false, false) => log::error(format_args!("{why}")),
        }
        self.drain();
    }

    /// Does what was decided, and what comes of it.
    fn act(self: &Arc<Self>, state: &mut State, out: Vec<Crossed>) {
        let mut todo = VecDeque::from(out);
        let mut more = Vec::new();
        loop {
            while let Some(crossed) = todo.pop_front() {
                match crossed {
                    Crossed::ToClient(message) => state.outbox.push(message),
                    Crossed::ToServer(message) => state.hand_on(&message, &mut more),
                }
                todo.extend(more.drain(..));
            }
            self.tick(state, &mut more);
            if more.is_empty() {
                break;
            }
            todo.extend(more.drain(..));
        }
        self.keep_time(state);
    }

    fn tick(&self, state: &mut State, out: &mut Vec<Crossed>) {
        state.due = state.machine.tick(self.began.elapsed(), out);
    }

    /// A thread tells the time to a machine that wants to know it.
    fn keep_time(self: &Arc<Self>, state: &mut State) {
        if state.due.is_none() {
            return;
        }
        if state.has_clock {
            return self.changed.notify_all();
        }
        let this = Arc::downgrade(self);
        match start(state, "clock", move || this.upgrade().iter().for_each(Self::tell_time)) {
            Ok(()) => state.has_clock = true,
            Err(why) => log::warning(format_args!("{why}")),
        }
    }

    fn tell_time(self: &Arc<Self>) {
        let mut state = self.state();
        while state.stopped.is_none() {
            let left = state.due.map(|due| due.saturating_sub(self.began.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                self.act(&mut state, Vec::new());
                drop(state);
                self.drain();
                state = self.state();
                // What is due at once again is not due in vain.
                (state, _) = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = left.unwrap_or(Duration::MAX);
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hand_on(&mut self, message: &Message, more: &mut Vec<Crossed>) {
        let sent = match &self.sender {
            Some(sender) => sender.send(message),
            None => Err(Undelivered::Gone("there is no connection to the server".into())),
        };
        if let Err(undelivered) = sent {
            self.machine.undelivered(message, &undelivered.why(), more);
        }
    }
}

fn start(state: &mut State, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    state.threads.retain(|thread| !thread.is_finished());
    let thread = memory::begin(thread::Builder::new().name(name.into()), memory::STACK_BYTES, work);
    state.threads.push(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
    Ok(())
}

/// Reads a link to its end.
fn read(bridge: &Weak<Bridge>, mut receiver: Box<dyn Receiver>, link: u64) {
    loop {
        let event = receiver.recv();
        let Some(bridge) = bridge.upgrade() else { return };
        match event {
            Event::Message(message) => bridge.arrive(message, link),
            Event::Ended(why) => return bridge.lose(link, &why),
        }
    }
}
