//! Our own stdin and stdout as the way from and to the client: one message a line.
//!
//! Always: one message is written whole before the next one begins; what arrived together leaves in one write.

use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::protocol::message::{INTERNAL_ERROR, INVALID_REQUEST, Id, Invalid, Message};
use crate::system::{self, Poll, memory};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages up to this size are gathered for one write; copying larger ones costs more than a write.
const GATHERED_BYTES: usize = 32 * 1024;
/// The official clients take no longer line.
const CLIENT_LINE_BYTES: usize = 10 << 20;

/// Reads the client's messages.
pub struct Input<R = File> {
    reader: R,
    lines: Lines,
    limit_bytes: usize,
    chunk: Vec<u8>,
    found: VecDeque<Received>,
    ended: bool,
}

/// What came from the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// A line that is no message, and the request that it would have been, if that is seen.
    Invalid(Invalid, Option<Id>),
    /// The end: nothing comes any more.
    End,
}

impl Input {
    /// Our stdin, with lines of at most `limit_bytes`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stdin(limit_bytes: usize) -> io::Result<Self> {
        // A descriptor of our own: the standard library's reads through a buffer of 8 KiB.
        Ok(Self::new(File::from(io::stdin().as_fd().try_clone_to_owned()?), limit_bytes))
    }

    /// Waits for the next message.
    pub fn recv(&mut self) -> Received {
        self.next(|file| drop(system::poll(&mut [Poll::readable(file.as_fd())], None)))
    }
}

impl<R: Read> Input<R> {
    /// Whether more has come already, so that nobody needs to wait for it.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.ended || !self.found.is_empty()
    }

    fn new(reader: R, limit_bytes: usize) -> Self {
        let lines = Lines::new(limit_bytes);
        Self { reader, lines, limit_bytes, chunk: vec![0; CHUNK_BYTES], found: VecDeque::new(), ended: false }
    }

    fn next(&mut self, wait: impl Fn(&R)) -> Received {
        loop {
            if let Some(found) = self.found.pop_front() {
                return found;
            }
            if self.ended {
                return Received::End;
            }
            let (found, limit) = (&mut self.found, self.limit_bytes);
            match self.reader.read(&mut self.chunk) {
                Ok(0) => self.end(),
                Ok(read) => {
                    if !memory::has_room_to_grow(self.lines.growth(read)) {
                        self.lines.give_up();
                    }
                    self.lines.feed(&self.chunk[..read], |line| take(found, line, limit));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever started us may share a descriptor with us that does not wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.reader),
                Err(error) => {
                    log::error(format_args!("cannot read stdin: {error}"));
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(line) = self.lines.finish() {
            take(&mut self.found, line, self.limit_bytes);
        }
    }
}

/// Takes the messages out of a line; a batch holds several.
fn take(found: &mut VecDeque<Received>, line: Line, limit_bytes: usize) {
    let parsed = match line {
        Line::Complete(bytes) => Message::parse_all(bytes).map_err(|invalid| (invalid, None)),
        Line::TooLong { bytes, ends } => {
            let reason = format!("a line of {bytes} bytes is over the limit of {limit_bytes}");
            Err((Invalid { code: INVALID_REQUEST, reason }, ends.asked()))
        }
        Line::NoRoom { bytes, ends } => {
            let reason = format!("there is no memory for a line of {bytes} bytes");
            Err((Invalid { code: INTERNAL_ERROR, reason }, ends.asked()))
        }
    };
    match parsed {
        Ok(messages) => found.extend(messages.into_iter().map(Received::Message)),
        Err((invalid, asked)) => found.push_back(Received::Invalid(invalid, asked)),
    }
}

/// Writes messages to the client; shared by all who do.
pub struct Output<W = File>(Mutex<Writer<W>>);

struct Writer<W> {
    file: W,
    gathered: Vec<u8>,
}

impl Output {
    /// Our stdout.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// Writes the messages, each on its line.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send(&self, messages: &[Message]) -> io::Result<()> {
        self.write(messages, |file| drop(system::poll(&mut [Poll::writable(file.as_fd())], None)))
    }
}

impl<W: Write> Output<W> {
    fn new(file: W) -> Self {
        Self(Mutex::new(Writer { file, gathered: Vec::new() }))
    }

    fn write(&self, messages: &[Message], wait: impl Fn(&W)) -> io::Result<()> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { file, gathered } = &mut *writer;
        gathered.clear();
        for message in messages {
            let bytes = message.bytes();
            if bytes.len() > CLIENT_LINE_BYTES {
                let size = bytes.len();
                log::warning(format_args!("a message of {size} bytes goes to the client; many take 10 MiB at most"));
            }
            if gathered.len() + bytes.len() < GATHERED_BYTES {
                gathered.extend_from_slice(bytes);
                gathered.push(b'\n');
            } else {
                let mut slices = [IoSlice::new(gathered), IoSlice::new(bytes), IoSlice::new(b"\n")];
                write_all(file, &mut slices, &wait)?;
                gathered.clear();
            }
        }
        write_all(file, &mut [IoSlice::new(gathered)], &wait)
    }
}

fn write_all<W: Write>(file: &mut W, mut slices: &mut [IoSlice<'_>], wait: &impl Fn(&W)) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0); // empty ones go
    while !slices.is_empty() {
        let written = if let [one] = &*slices { file.write(one) } else { file.write_vectored(slices) };
        match written {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(file),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(text.as_bytes().to_vec()).unwrap()
    }

    fn notification(size: usize) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(size)))
    }

    fn received(input: &[u8]) -> Vec<Received> {
        let mut input = Input::new(input, 64);
        let mut all = Vec::new();
        loop {
            match input.next(|_| ()) {
                Received::End => return all,
                other => all.push(other),
            }
        }
    }

    #[test]
    fn every_line_is_a_message_or_tells_why_not() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let one = || Received::Message(message(ping));
        let codes = |input: &str| {
            received(input.as_bytes())
                .into_iter()
                .map(|r| match r {
                    Received::Invalid(invalid, _) => invalid.code,
                    _ => 0,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(received(format!("{ping}\n{ping}\r\n\n{ping}").as_bytes()), [one(), one(), one()]);
        assert_eq!(codes(&format!("{{\n{ping}\n[]\n")), [-32700, 0, -32600]);
        assert_eq!(codes(&format!("{}\n{ping}\n", "x".repeat(65))), [-32600, 0]);
        assert_eq!(codes(""), [] as [i32; 0]);
    }

    /// Takes so many bytes at a time and fails now and then in ways that mean "again".
    struct Reluctant {
        taken: Vec<u8>,
        most: usize,
        calls: usize,
        fails_at: Option<usize>,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 3 {
                _ if Some(self.calls) == self.fails_at => Err(ErrorKind::BrokenPipe.into()),
                0 => Err(ErrorKind::Interrupted.into()),
                1 => Err(ErrorKind::WouldBlock.into()),
                _ => {
                    let written = bytes.len().min(self.most);
                    self.taken.extend_from_slice(&bytes[..written]);
                    Ok(written)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn messages_are_written_whole_however_little_is_taken_at_once() {
        for sizes in [&[1, 2, 3][..], &[40_000], &[10, 40_000, 10], &[31_000, 31_000], &[]] {
            let messages: Vec<_> = sizes.iter().map(|size| notification(*size)).collect();
            let expected: Vec<u8> = messages.iter().flat_map(|m| [m.bytes(), b"\n"].concat()).collect();
            for most in [1, 7, 1000, usize::MAX] {
                let output = Output::new(Reluctant { taken: Vec::new(), most, calls: 0, fails_at: None });
                output.write(&messages, |_| ()).unwrap();
                assert!(output.0.into_inner().unwrap().file.taken == expected, "{sizes:?} {most}");
            }
        }
    }

    #[test]
    fn a_client_that_is_gone_is_noticed_at_any_write() {
        for n in 1..20 {
            let output = Output::new(Reluctant { taken: Vec::new(), most: 7, calls: 0, fails_at: Some(n) });
            assert!(output.write(&[notification(200)], |_| ()).is_err(), "{n}");
        }
    }
}
