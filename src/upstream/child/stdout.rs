//! What a local server says: its stdout, cut into messages.
//!
//! Always: who has it is the only one who reads; what was read before is handed on before the next read.

use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::protocol::message::ends::Ends;
use crate::protocol::message::{INTERNAL_ERROR, Message};
use crate::system::memory;
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::process::ChildStdout;
use std::sync::Arc;

/// After so many lines that were left out, only every doubling of their number is told.
const LOGGED_LINES: u64 = 16;
/// What is kept of a line in case that it must be shown.
const SHOWN_BYTES: usize = 1000;
/// Reads begin small, so that an idle session costs little, and grow while they are filled.
const READ_BYTES: std::ops::RangeInclusive<usize> = 2 << 10..=64 << 10;

/// A server's stdout.
pub struct Stdout {
    /// Until it has ended.
    pipe: Option<Arc<PipeReader>>,
    /// The longest line (bytes).
    line_bytes: usize,
    lines: Lines,
    buffer: Vec<u8>,
    ready: VecDeque<Message>,
    left_out: u64,
}

impl Stdout {
    /// What comes through `stdout`, in lines of at most `line_bytes`.
    pub fn new(stdout: Option<ChildStdout>, line_bytes: usize) -> Self {
        Self {
            pipe: stdout.map(|stdout| Arc::new(PipeReader::from(OwnedFd::from(stdout)))),
            line_bytes,
            lines: Lines::new(line_bytes),
            buffer: vec![0; *READ_BYTES.start()],
            ready: VecDeque::new(),
            left_out: 0,
        }
    }

    /// What it is read from, until it has ended.
    pub const fn pipe(&self) -> Option<&Arc<PipeReader>> {
        self.pipe.as_ref()
    }

    /// It has ended.
    pub fn close(&mut self) {
        self.pipe = None;
    }

    /// The next message of what was read.
    pub fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// Reads once; gives how many bytes there were, 0 at the end.
    ///
    /// # Errors
    /// Those of read(2): `WouldBlock` and `Interrupted` mean that nothing was read, all others the end.
    pub fn read(&mut self) -> io::Result<usize> {
        let Some(mut pipe) = self.pipe.as_deref() else { return Ok(0) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = pipe.read(&mut buffer);
        let read = *result.as_ref().unwrap_or(&0);
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(0));
        if !memory::has_room_to_grow(lines.growth(read)) {
            lines.give_up();
        }
        lines.feed(&buffer[..read], |line| self.take_line(line));
        self.lines = lines;
        self.buffer = if read == buffer.len() {
            vec![0; (read * 4).min(*READ_BYTES.end())]
        } else if buffer.len() > *READ_BYTES.start() {
            vec![0; *READ_BYTES.start()]
        } else {
            buffer
        };
        result
    }

    /// Nothing comes any more: what was read of a last line without an end is one.
    pub fn finish(&mut self) {
        if let Some(line) = self.lines.finish() {
            self.take_line(line);
        }
    }

    fn take_line(&mut self, line: Line) {
        match line {
            Line::Complete(line) if Message::is_batch(&line) => {
                let start = line[..line.len().min(SHOWN_BYTES)].to_vec();
                match Message::parse_all(line) {
                    Ok(messages) => self.ready.extend(messages),
                    Err(_) => self.leave_out(format_args!("that is no message: {}", log::shortened(&start))),
                }
            }
            Line::Complete(line) => match Message::parse_or_give_back(line) {
                Ok(message) => self.ready.push_back(message),
                Err((_, line)) => {
                    let start = &line[..line.len().min(SHOWN_BYTES)];
                    self.leave_out(format_args!("that is no message: {}", log::shortened(start)));
                }
            },
            Line::TooLong { bytes, ends } => {
                let most = self.line_bytes;
                self.leave_out(format_args!("of {bytes} bytes, more than {most}"));
                self.answer_instead(&ends, &format!(
                    "the server's answer has {bytes} bytes, more than {most}; --max-message-bytes allows longer ones"
                ));
            }
            Line::NoRoom { bytes, ends } => {
                self.leave_out(format_args!("of {bytes} bytes, for which there is no memory"));
                self.answer_instead(
                    &ends,
                    &format!("the server's answer has {bytes} bytes, for which there is no memory"),
                );
            }
        }
    }

    /// Whoever waits for an answer that is left out would wait for ever.
    fn answer_instead(&mut self, ends: &Ends, reason: &str) {
        self.ready.extend(ends.answered().map(|id| Message::error(Some(&id), INTERNAL_ERROR, reason)));
    }

    /// A line is not passed on; a server that writes many of them does not flood our log with them.
    fn leave_out(&mut self, what: std::fmt::Arguments<'_>) {
        self.left_out += 1;
        if self.left_out <= LOGGED_LINES || self.left_out.is_power_of_two() {
            log::warning(format_args!("a line of the server {what}: left out ({} so far)", self.left_out));
        }
    }
}
