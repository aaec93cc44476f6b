//! Keeps a stream going on its connection's own thread.
//!
//! ```text
//!              nothing waits, and the connection goes on          the client's next request, its end, or quiet
//!   (a look) ───────────────────────────────────────▶ Receiving ────────────────────────────────────▶ (a look)
//!      │ else                                             │ the socket does not take all of what is said
//!      ▼                                                  ▼
//!   poll: room, wakes, the client                     a thread aside sees to that, until the own one is back
//! ```
//!
//! Most answers are small and the socket takes them at once. So the thread waits for the client's next request in the
//! read that gets it, where nothing but the client ends its wait. If the socket does not take all of an answer just
//! then, somebody else must wait for room: a thread that is begun for it. From then on this connection's thread
//! polls, so that a connection begins at most one.
//!
//! Always: nobody waits in two threads for the same; the thread aside has ended before the own one goes on.

use super::{Over, Phase, State, Stream};
use crate::downstream::http::{Connection, Received};
use crate::downstream::outgoing::Turn;
use crate::log;
use crate::protocol::sse;
use crate::system::{self, Poll, memory};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// For how long nobody may have read any of the last events.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon a connection's thread sees that its request was answered, which nobody tells it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A thread that only writes what waits needs little.
const STACK_BYTES: usize = 64 << 10;

/// What there is to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Something, behind an answer.
    Input,
    /// The end.
    Nobody,
}

/// How a stream is at one moment.
struct Look {
    phase: Phase,
    /// Bytes that the socket has not taken.
    waiting: usize,
    watched: bool,
    receiving: bool,
}

/// By when some of the end must have been read.
#[derive(Default)]
struct EndBy(Option<(Instant, usize)>);

impl EndBy {
    /// Whether nothing was read for too long. A long answer may take its time, as long as it moves.
    fn is_over(&mut self, now: Instant, waiting: usize, timeout: Duration) -> bool {
        match self.0 {
            Some((by, left)) if by <= now && waiting >= left => return true,
            Some((by, _)) if by > now => {}
            _ => self.0 = Some((now + timeout, waiting)),
        }
        false
    }
}

impl Stream {
    /// Keeps the stream going on the thread of `connection`, until it is over. `quiet` is called when nothing was said
    /// for so long that somebody in between may lose patience.
    pub fn run(&self, connection: &mut Connection, quiet: impl Fn()) -> Over {
        let over = self.keep(connection, quiet);
        if over == Over::Gone {
            self.state().phase = Phase::Broken;
            let _ = self.socket.shutdown(Shutdown::Both);
        } else if self.form.close {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        over
    }

    fn keep(&self, connection: &mut Connection, quiet: impl Fn()) -> Over {
        let mut now = Instant::now();
        let mut comment_at = now + self.keep_alive;
        let (mut end_by, mut has_input) = (EndBy::default(), false);
        let may_receive = self.form.reply && !self.form.close;
        loop {
            let look = match self.look(has_input, may_receive && !connection.polls) {
                Ok(look) => look,
                Err(over) => return over,
            };
            match look.phase {
                Phase::Broken => return Over::Gone,
                Phase::Ended if look.waiting == 0 => return Over::Ended,
                Phase::Ending | Phase::Ended if end_by.is_over(now, look.waiting, self.end_timeout()) => {
                    return Over::Gone;
                }
                Phase::Silent | Phase::Open if comment_at <= now => {
                    comment_at = now + self.keep_alive;
                    self.stop_receiving(connection);
                    if !self.say_something(&look, &quiet) {
                        return Over::Gone;
                    }
                    continue;
                }
                _ => {}
            }
            let seen = if look.receiving {
                // Who answers wakes nobody: soon after, the connection counts as one that only waits.
                self.receive(connection, (comment_at - now).min(LOOK_AGAIN))
            } else {
                let until = end_by.0.map_or(comment_at, |(by, _)| by);
                self.wait(&look, until.saturating_duration_since(now))
            };
            if seen == Some(Seen::Nobody) {
                return Over::Gone;
            }
            has_input |= seen == Some(Seen::Input);
            if !(look.receiving && has_input) {
                now = Instant::now(); // what was received came in time
            }
        }
    }

    /// Writes what waits, and says how things are. If they are such that the client's next request can be waited
    /// for in a read, they are so from this moment on: whoever has something to say knows it.
    fn look(&self, has_input: bool, may_receive: bool) -> Result<Look, Over> {
        let turn = self.outgoing.try_turn();
        if turn.is_none() && has_input && !self.form.close && self.state().phase == Phase::Ended {
            // The answer is being written, and the client has gone on already.
            return Err(Over::Ended);
        }
        let mut turn = turn.unwrap_or_else(|| self.outgoing.turn());
        let waiting = self.write_waiting(&mut turn).map_err(|_| Over::Gone)?;
        let mut state = self.state();
        let State { phase, watched, .. } = *state;
        state.receiving = may_receive && watched && waiting == 0 && matches!(phase, Phase::Silent | Phase::Open);
        Ok(Look { phase, waiting, watched, receiving: state.receiving })
    }

    fn look_aside(&self) -> io::Result<Look> {
        let waiting = self.write_waiting(&mut self.outgoing.turn())?;
        let State { phase, watched, receiving, .. } = *self.state();
        Ok(Look { phase, waiting, watched, receiving })
    }

    /// Writes what waits, and then the end if it is due; says how much still waits.
    fn write_waiting(&self, turn: &mut Turn<'_>) -> io::Result<usize> {
        turn.flush()?;
        if turn.waiting() == 0 && self.change(Phase::Ending, Phase::Ended) && !self.form.old {
            turn.write(&[b"0\r\n\r\n"])?;
        }
        Ok(turn.waiting())
    }

    /// Nothing was said for long; says whether the client is still there.
    fn say_something(&self, look: &Look, quiet: impl Fn()) -> bool {
        if system::is_silent(self.socket.as_fd(), self.keep_alive) {
            return false;
        }
        if look.phase == Phase::Silent {
            self.probe();
            quiet();
        } else if look.waiting == 0 {
            let mut comment = Vec::new();
            sse::encode_comment(&mut comment, "");
            self.send(&comment);
        }
        true
    }

    /// Where no comment can be sent, the kernel asks whether the client is there, within the other half of the time.
    fn probe(&self) {
        if !self.form.events {
            let idle = (self.keep_alive / 2).max(Duration::from_secs(1));
            let _ = system::set_keepalive(self.socket.as_fd(), idle);
        }
    }

    /// An answer is worth waiting for a reader that pauses; what a server says unasked is not.
    fn end_timeout(&self) -> Duration {
        if self.form.reply { END_TIMEOUT.max(self.keep_alive) } else { END_TIMEOUT }
    }

    /// Waits in a read for the client's next request or its end.
    fn receive(&self, connection: &mut Connection, limit: Duration) -> Option<Seen> {
        let received = connection.receive(limit);
        self.stop_receiving(connection);
        match received {
            Received::Nothing => None,
            Received::Input => self.note_input(true),
            // At the end it need not be there to send, only to read.
            Received::End if matches!(self.state().phase, Phase::Ending | Phase::Ended) => Some(Seen::Input),
            Received::End => Some(Seen::Nobody),
        }
    }

    /// There is input while the client was `watched` for it, or although it was not.
    fn note_input(&self, watched: bool) -> Option<Seen> {
        let mut state = self.state();
        if state.phase == Phase::Ended {
            return Some(Seen::Input); // most likely the next request
        }
        state.watched = false; // it can wait
        if watched { None } else { Some(Seen::Nobody) }
    }

    /// From here on this connection's own thread does everything again.
    fn stop_receiving(&self, connection: &mut Connection) {
        let aside = {
            let mut state = self.state();
            state.receiving = false;
            state.aside.take()
        };
        if let Some(aside) = aside {
            connection.polls = true;
            self.waker.wake();
            let _ = aside.join();
        }
    }

    /// The connection's thread must look at the stream.
    pub(super) fn rouse(&self) {
        let mut state = self.state();
        if !state.receiving {
            self.waker.wake();
        } else if state.phase == Phase::Broken {
            let _ = self.socket.shutdown(Shutdown::Both);
        } else if state.aside.is_some() {
            self.waker.wake();
        } else if let Some(stream) = self.this.upgrade() {
            let thread = thread::Builder::new().name("answer".into());
            match memory::begin_anyway(thread, STACK_BYTES, move || stream.keep_aside()) {
                Ok(aside) => state.aside = Some(aside),
                Err(error) => {
                    log::warning(format_args!("an answer is cut off: no thread is left: {}", log::cause(&error)));
                    state.phase = Phase::Broken;
                    let _ = self.socket.shutdown(Shutdown::Both);
                }
            }
        }
    }

    /// Writes what waits, while the connection's own thread is in a read.
    fn keep_aside(self: Arc<Self>) {
        let mut end_by = EndBy::default();
        let gone = loop {
            let Ok(look) = self.look_aside() else { break true };
            let now = Instant::now();
            let is_ending = matches!(look.phase, Phase::Ending | Phase::Ended);
            if !look.receiving || look.phase == Phase::Broken || (look.phase == Phase::Ended && look.waiting == 0) {
                break false;
            }
            if is_ending && end_by.is_over(now, look.waiting, self.end_timeout()) {
                break true;
            }
            let limit = end_by.0.map(|(by, _)| by.saturating_duration_since(now));
            let socket = self.socket.as_fd();
            let room = if look.waiting > 0 { Poll::writable(socket) } else { Poll::nothing() };
            let mut polls = [room, Poll::readable(self.waker.as_fd())];
            if system::poll(&mut polls, limit).is_ok() && polls[1].is_readable() {
                self.waker.clear();
            }
        };
        if gone {
            self.state().phase = Phase::Broken;
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits for room, for the client's end or its next request, or for a wake. At the end the client need not be
    /// there to send, only to read.
    fn wait(&self, look: &Look, limit: Duration) -> Option<Seen> {
        let socket = self.socket.as_fd();
        let is_ending = matches!(look.phase, Phase::Ending | Phase::Ended);
        let poll = match (look.watched && !is_ending, look.waiting > 0 || is_ending) {
            (true, false) => Poll::readable(socket),
            (true, true) => Poll::both(socket),
            (false, true) => Poll::writable(socket),
            (false, false) => Poll::hangup(socket),
        };
        let mut polls = [poll, Poll::readable(self.waker.as_fd())];
        system::poll(&mut polls, Some(limit)).ok()?;
        if polls[1].is_readable() {
            self.waker.clear();
            return None; // the phase may be another one now
        }
        if polls[0].is_readable() { self.explain(look.watched) } else { None }
    }

    /// Finds out why there is something to read.
    fn explain(&self, watched: bool) -> Option<Seen> {
        let socket = self.socket.as_fd();
        let seen = if !self.form.reply {
            // Nothing that a client says on such a stream means anything, except that it is gone.
            system::receive_now(socket, &mut [0; 1024])
        } else if self.state().phase == Phase::Ended {
            return Some(Seen::Input);
        } else {
            system::peek_now(socket)
        };
        match seen {
            Ok(0) => Some(Seen::Nobody),
            Ok(_) if self.form.reply => self.note_input(watched),
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Some(Seen::Nobody)
            }
            _ => None,
        }
    }
}
