//! The listener: an accept loop, a thread per connection, and the limits of both.
//!
//! The accept loop goes on whatever a single connection does, and while descriptors or threads run out: who comes then
//! waits. Every connection's thread is joined, by the loop when it has ended or by [`Closed::end`].

use super::budget::Budget;
use super::door::Door;
use super::http::{Connection, Response};
use super::outgoing::Outgoing;
use super::place::{self, Place};
use super::socket::Socket;
use crate::error::Error;
use crate::log;
use crate::protocol::http::Refusal;
use crate::system::{self, Poll, Waker, memory};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use ureq_proto::http::{Method, StatusCode};

/// What one connection may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; for one more, one that waits is closed, and else it is answered 503.
    pub connections: usize,
    /// Bytes of a request's head; over it 431.
    pub header_bytes: usize,
    /// Bytes of a request's body; over it 413.
    pub body_bytes: usize,
    /// How long a request's head may take; over it 408.
    pub head_timeout: Duration,
    /// How long a request's body may pause; over it 408.
    pub body_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// Bytes that wait for a slow reader of one stream; over it the stream is closed.
    pub stream_bytes: usize,
    /// A client that went away is noticed within this time; comments on a stream are sent twice as often.
    pub keep_alive: Duration,
}

/// Connections over the limit that are told so at the same time; further ones are closed without a word.
const REFUSED_AT_ONCE: usize = 16;
/// Connections that were told to leave and have not ended yet; when there are more, new ones are closed without a word.
const LEAVING_AT_ONCE: usize = 256;
/// So many leave when descriptors or threads have run out: whoever comes next may need several.
const LEAVE_TOGETHER: usize = 8;
/// How often at most the log says that connections had to leave.
const SAID_EVERY: Duration = Duration::from_mins(1);
/// How long the loop rests when descriptors or threads have run out.
const REST: Duration = Duration::from_millis(50);
/// A connection's thread needs little; the address space for it is not free in a container.
const STACK_BYTES: usize = 256 << 10;
/// How long connections may take to write what they have, at the end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A running listener.
pub struct Listener {
    shared: Arc<Shared>,
    accepting: JoinHandle<Vec<JoinHandle<()>>>,
    ended: Receiver<()>,
}

struct Shared {
    limits: Arc<Limits>,
    budget: Arc<Budget>,
    waker: Waker,
    open: Mutex<Open>,
    /// What a client reads whose connection must leave in the middle of a request: made before memory can be short.
    farewell: Vec<u8>,
    serve: Box<dyn Fn(Connection) + Send + Sync>,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Entry>,
    /// How many of them were told to leave.
    leaving: usize,
    said: Option<Instant>,
}

#[derive(Clone)]
struct Entry {
    socket: Arc<Socket>,
    place: Arc<Place>,
    outgoing: Arc<Outgoing>,
}

/// A connection that has given its place up, and has not heard of it.
struct Leaving {
    entry: Entry,
    /// Its client has sent some of a request.
    is_asked: bool,
}

impl Leaving {
    /// The connection ends. A client that has asked something is to learn that nobody takes it; nothing waits for this.
    fn end(self, farewell: &[u8]) {
        let Entry { socket, outgoing, .. } = self.entry;
        if self.is_asked
            && let Some(mut turn) = outgoing.try_turn().filter(|turn| turn.waiting() == 0)
        {
            let _ = turn.write(&[farewell]);
        }
        let _ = socket.shutdown(Shutdown::Both); // its thread sees that, and ends
    }
}

impl Open {
    /// How many have a place.
    fn count(&self) -> usize {
        self.connections.len() - self.leaving
    }

    /// One that waits must leave, if there is one.
    fn one_leaves(&mut self, most: usize) -> Option<Leaving> {
        let mut heard = HashSet::new();
        loop {
            let others = self.connections.iter().filter(|(number, _)| !heard.contains(*number));
            let places = others.map(|(number, entry)| (*number, &*entry.place));
            let number = place::leaving(places, most, Instant::now())?;
            let entry = self.connections.get(&number)?;
            if system::peek_now(entry.socket.as_fd()).is_ok_and(|bytes| bytes > 0) {
                heard.insert(number); // a request of it is there, and its thread is about to see it
                continue;
            }
            let is_asked = entry.place.has_heard();
            if entry.place.leave() {
                let entry = entry.clone();
                self.leaving += 1;
                return Some(Leaving { entry, is_asked });
            }
            // A request of it came just now.
        }
    }

    /// Whether the log should say now that connections leave.
    fn should_say(&mut self) -> bool {
        let now = Instant::now();
        let should = self.said.is_none_or(|said| now - said >= SAID_EVERY);
        if should {
            self.said = Some(now);
        }
        should
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        held(&self.open)
    }

    /// Makes room for one more than `most`, if one of the others waits; says whether there was one.
    fn make_room(&self, most: usize) -> bool {
        let (leaving, should_say) = {
            let mut open = self.open();
            let Some(leaving) = open.one_leaves(most) else { return false };
            (leaving, open.should_say())
        };
        leaving.end(&self.farewell);
        if should_say {
            log::warning(format_args!(
                "no place is left for connections (--max-connections, descriptors, threads); those that wait are closed"
            ));
        }
        true
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a connection counted; the end of it is the end of the connection.
pub struct Guard {
    number: u64,
    place: Arc<Place>,
    shared: Arc<Shared>,
    _ended: Sender<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let entry = {
            let mut open = self.shared.open();
            open.leaving -= usize::from(self.place.has_left());
            open.connections.remove(&self.number)
        };
        if let Some(entry) = entry.filter(|_| thread::panicking()) {
            // Whoever has something to say on a stream of it keeps the socket, and the client would wait for that.
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Guard {
    /// Which connection it is.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The connection's place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the bodies of all connections may take.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.shared.budget
    }
}

impl Listener {
    /// Accepts connections from now on and calls `serve` with each, on a thread of its own.
    ///
    /// # Errors
    /// No thread or descriptor is left.
    pub fn start(
        doors: Vec<Door>,
        limits: Limits,
        serve: impl Fn(Connection) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let explain = |error: io::Error| Error::Failed(format!("cannot listen: {}", log::cause(&error)));
        for door in &doors {
            door.set_nonblocking().map_err(explain)?;
        }
        let waker = Waker::new().map_err(explain)?;
        let budget = Arc::new(Budget::new(limits.body_bytes));
        let (limits, serve) = (Arc::new(limits), Box::new(serve));
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "others need the place of this connection");
        let farewell = Response::from(&refusal).written(&Method::GET, true);
        let shared = Arc::new(Shared { limits, budget, waker, open: Mutex::default(), farewell, serve });
        let (ending, ended) = channel();
        let accepting = {
            let shared = shared.clone();
            let accept = move || accept(&doors, &shared, &ending);
            memory::begin(thread::Builder::new().name("accept".into()), memory::STACK_BYTES, accept).map_err(explain)?
        };
        Ok(Self { shared, accepting, ended })
    }

    /// Ends the accept loop; the addresses are free afterwards. The open connections go on.
    #[must_use]
    pub fn close(self) -> Closed {
        self.shared.waker.wake();
        let threads = self.accepting.join().unwrap_or_default();
        Closed { shared: self.shared, threads, ended: self.ended }
    }
}

/// A listener that accepts nothing any more.
pub struct Closed {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Closed {
    /// Ends every connection, gently and then not, and joins their threads. Event streams must have been ended.
    pub fn end(self) {
        for how in [Shutdown::Read, Shutdown::Both] {
            for entry in self.shared.open().connections.values() {
                let _ = entry.socket.shutdown(how);
            }
            // Nothing is ever sent: the channel ends with the last connection.
            if self.ended.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// The accept loop; gives the threads that were still running at its end.
fn accept(doors: &[Door], shared: &Arc<Shared>, ending: &Sender<()>) -> Vec<JoinHandle<()>> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut waiting: Option<Newcomer> = None;
    let mut tired = false;
    loop {
        let mut polls: Vec<Poll<'_>> = doors.iter().map(|door| Poll::readable(door.as_fd())).collect();
        polls.push(Poll::readable(shared.waker.as_fd()));
        let ready = system::poll(&mut polls, waiting.is_some().then_some(Duration::ZERO)).is_ok();
        if polls.pop().is_some_and(|waker| waker.is_readable()) {
            return threads;
        }
        threads = join_ended(threads);
        let was_tired = std::mem::replace(&mut tired, !ready);
        let first = waiting.take().map(|newcomer| Ok(Some(newcomer)));
        let others = doors.iter().zip(polls).filter(|(_, poll)| poll.is_readable());
        let others = others.map(|(door, _)| door.accept().and_then(|socket| admit(socket, shared, ending)));
        for newcomer in first.into_iter().chain(others) {
            let begun = match newcomer {
                Ok(Some(newcomer)) => begin(newcomer, shared, &mut waiting).map(Some),
                Err(error) if !is_the_peers_fault(&error) => Err(error),
                Ok(None) | Err(_) => Ok(None),
            };
            match begun {
                Ok(thread) => threads.extend(thread),
                Err(error) => {
                    if !was_tired {
                        log::warning(format_args!("cannot accept a connection: {}", log::cause(&error)));
                    }
                    tired = true;
                    if has_run_out(&error) {
                        let count = shared.open().count();
                        let _ = (0..LEAVE_TOGETHER).all(|_| shared.make_room(count));
                    }
                    break; // the others wait where they are, until it can go on
                }
            }
        }
        if tired {
            let _ = system::poll(&mut [Poll::readable(shared.waker.as_fd())], Some(REST));
        }
    }
}

/// The connection was gone before it was accepted. (A thread that cannot be begun is `WouldBlock` too.)
fn is_the_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}

/// Fewer connections would help: there are no more descriptors, no memory, or (`EAGAIN`) no more threads.
fn has_run_out(error: &io::Error) -> bool {
    let numbers = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN];
    error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}

fn join_ended(threads: Vec<JoinHandle<()>>) -> Vec<JoinHandle<()>> {
    let (ended, running): (Vec<_>, Vec<_>) = threads.into_iter().partition(JoinHandle::is_finished);
    for thread in ended {
        let _ = thread.join(); // a panic has been reported, and has cost that connection only
    }
    running
}

/// A connection without a thread.
struct Newcomer {
    connection: Connection,
    /// There are not too many already.
    is_welcome: bool,
}

/// Takes a socket over; `None` if there are so many connections that it is not even refused.
fn admit(socket: Socket, shared: &Arc<Shared>, ending: &Sender<()>) -> io::Result<Option<Newcomer>> {
    let (socket, place) = (Arc::new(socket), Arc::new(Place::new(Instant::now())));
    let outgoing = Arc::new(Outgoing::new(socket.clone()));
    let most = shared.limits.connections;
    let (count, leaving) = {
        let open = shared.open();
        (open.count(), open.leaving)
    };
    if leaving > LEAVING_AT_ONCE || (count >= most && !shared.make_room(most) && count >= most + REFUSED_AT_ONCE) {
        return Ok(None);
    }
    let (number, count) = {
        let mut open = shared.open();
        open.next += 1;
        let number = open.next;
        if open.count() >= most {
            let _ = place.begin(); // it is refused, and stays until that is read
        }
        let (socket, outgoing) = (socket.clone(), outgoing.clone());
        open.connections.insert(number, Entry { socket, place: place.clone(), outgoing });
        (number, open.count())
    };
    let guard = Guard { number, place, shared: shared.clone(), _ended: ending.clone() };
    let connection = Connection::new(socket, outgoing, shared.limits.clone(), guard)?;
    Ok(Some(Newcomer { connection, is_welcome: count <= most }))
}

/// Gives a connection its thread. Where there can be none, it waits: its client has done nothing wrong, and would
/// take a closed connection for a lost request.
fn begin(newcomer: Newcomer, shared: &Arc<Shared>, waiting: &mut Option<Newcomer>) -> io::Result<JoinHandle<()>> {
    let place = Arc::new(Mutex::new(Some(newcomer)));
    let (taken, shared) = (place.clone(), shared.clone());
    let serve = move || {
        let Some(Newcomer { mut connection, is_welcome }) = held(&taken).take() else { return };
        if is_welcome {
            (shared.serve)(connection);
        } else {
            let reason = "too many connections; --max-connections allows more";
            connection.refuse(&Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
        }
    };
    let thread = memory::begin(thread::Builder::new().name("connection".into()), STACK_BYTES, serve);
    if thread.is_err() {
        *waiting = held(&place).take();
    }
    thread
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const LONG: Duration = Duration::from_mins(1);

    /// A listener for connections that `serve` serves, and one of them.
    fn start(serve: impl Fn(Connection) + Send + Sync + 'static) -> (Listener, TcpStream) {
        let limits = Limits {
            connections: 10,
            header_bytes: 1 << 14,
            body_bytes: 1 << 20,
            head_timeout: LONG,
            body_timeout: LONG,
            idle_timeout: LONG,
            stream_bytes: 1 << 20,
            keep_alive: LONG,
        };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        (Listener::start(vec![Door::Tcp(door)], limits, serve).unwrap(), client)
    }

    #[test]
    fn a_connection_whose_thread_fails_is_closed_whoever_keeps_its_socket() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let serve = {
            let kept = kept.clone();
            move |connection: Connection| {
                kept.lock().unwrap().push(connection.socket());
                std::panic::resume_unwind(Box::new("a defect")) // without a word on stderr
            }
        };
        let (listener, mut client) = start(serve);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(kept.lock().unwrap().len(), 1);
        listener.close().end();
    }

    #[test]
    fn who_was_refused_keeps_no_place_and_who_comes_over_the_limit_does_until_it_has_read_that() {
        for is_newcomer in [false, true] {
            let (coming, come) = channel();
            let serve = move |mut connection: Connection| {
                coming.send(()).unwrap();
                assert!(connection.next_head().is_some() && connection.begin());
                let refusal = Refusal::new(StatusCode::NOT_FOUND, "no");
                if is_newcomer {
                    connection.refuse(&refusal);
                } else {
                    connection.refuse_with(&Response::from(&refusal), &Method::GET);
                }
            };
            let (listener, mut client) = start(serve);
            come.recv_timeout(LONG).unwrap();
            let place = listener.shared.open().connections.values().next().unwrap().place.clone();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap(); // and we stay, as if we had more to say
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            let leaves = place::leaving([((), &*place)].into_iter(), 10, Instant::now() + LONG);
            assert_eq!(leaves.is_none(), is_newcomer);
            drop(client);
            listener.close().end();
        }
    }
}
