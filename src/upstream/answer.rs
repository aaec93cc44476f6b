//! The body of an answer: how its end is found, and its bytes as they come.
//!
//! Always: what is not part of the body is not given; a body that ends too early is an error; its connection is kept
//! only once all of it was read.

use super::agent::{Connection, Limit};
use crate::system::memory;
use std::io::{self, ErrorKind, Read};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use ureq::{Error, Timeout};

/// Bytes of a chunk's size line, and of all that follows the last chunk.
const LINE_BYTES: usize = 16 * 1024;

/// How the end of a body is found. RFC 9112 §6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked(Chunk),
    /// The end of the connection is that of the body.
    Close,
}

/// Where in a chunked body we are. RFC 9112 §7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In the digits of a size: how many there were, and what they say.
    Size(u8, u64),
    /// In the rest of that line: what the size is, how long the rest is, whether a carriage return was last.
    Extension(u64, usize, bool),
    /// So many bytes of data are left.
    Data(u64),
    /// In the line end after them: whether the carriage return has come.
    DataEnd(bool),
    /// After the last chunk: bytes of all lines, of this line, and whether a carriage return was last.
    Trailer(usize, usize, bool),
    /// Behind all of it.
    End,
}

impl Framing {
    /// The framing of a body, and whether its connection can be used after it.
    ///
    /// # Errors
    /// Its length is none.
    pub fn of<T>(response: &Response<T>) -> Result<(Self, bool), Error> {
        let (headers, status) = (response.headers(), response.status());
        let is_old = response.version() == Version::HTTP_10;
        let is_chunked = !is_old && says(headers, &header::TRANSFER_ENCODING, "chunked");
        let stays = !says(headers, &header::CONNECTION, "close")
            && (!is_old || says(headers, &header::CONNECTION, "keep-alive"))
            && status != StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() {
            return Ok((Self::Length(0), stays));
        }
        let length = content_length(headers)?;
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok((Self::Length(0), stays));
        }
        Ok(match length {
            _ if is_chunked => (Self::Chunked(Chunk::Size(0, 0)), stays && length.is_none()),
            Some(length) => (Self::Length(length), stays),
            None => (Self::Close, false),
        })
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// Whether the connection may end here. Some servers leave out what follows the last chunk.
    fn may_end(&self) -> bool {
        self.is_over() || matches!(self, Self::Close | Self::Chunked(Chunk::Trailer(0, ..)))
    }

    /// How many bytes of `input` are to be passed over, and how many bytes of the body follow them. What is passed
    /// over is over.
    fn next(&mut self, input: &[u8]) -> Result<(usize, usize), Error> {
        let within = |left: u64, have: usize| usize::try_from(left).map_or(have, |left| left.min(have));
        match self {
            Self::Length(left) => Ok((0, within(*left, input.len()))),
            Self::Close => Ok((0, input.len())),
            Self::Chunked(chunk) => {
                for (at, byte) in input.iter().enumerate() {
                    match *chunk {
                        Chunk::Data(left) => return Ok((at, within(left, input.len() - at))),
                        Chunk::End => return Ok((at, 0)),
                        _ => *chunk = chunk.after(*byte).ok_or_else(malformed)?,
                    }
                }
                Ok((input.len(), 0))
            }
        }
    }

    /// So many bytes of the body were taken.
    fn took(&mut self, bytes: usize) {
        let (Self::Length(left) | Self::Chunked(Chunk::Data(left))) = self else { return };
        *left = left.saturating_sub(bytes as u64);
        if matches!(self, Self::Chunked(Chunk::Data(0))) {
            *self = Self::Chunked(Chunk::DataEnd(false));
        }
    }
}

impl Chunk {
    /// Where we are after one more byte that is no data.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Size(digits, size), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                (digits < 16).then_some(Self::Size(digits + 1, size << 4 | u64::from(digit)))
            }
            (Self::Size(1.., size), b'\r') => Some(Self::Extension(size, 0, true)),
            (Self::Size(1.., size), b';' | b' ' | b'\t') => Some(Self::Extension(size, 1, false)),
            (Self::Extension(0, _, true), b'\n') => Some(Self::Trailer(0, 0, false)),
            (Self::Extension(size, _, true), b'\n') => Some(Self::Data(size)),
            (Self::Extension(_, _, true), _) | (Self::Extension(.., false), b'\n') => None,
            (Self::Extension(size, length, false), _) => {
                (length < LINE_BYTES).then_some(Self::Extension(size, length + 1, byte == b'\r'))
            }
            (Self::DataEnd(false), b'\r') => Some(Self::DataEnd(true)),
            (Self::DataEnd(true), b'\n') => Some(Self::Size(0, 0)),
            (Self::Trailer(_, 1, true), b'\n') => Some(Self::End),
            (Self::Trailer(all, _, true), b'\n') => Some(Self::Trailer(all + 1, 0, false)),
            (Self::Trailer(..), b'\n') => None,
            (Self::Trailer(all, line, _), _) => {
                (all < LINE_BYTES).then_some(Self::Trailer(all + 1, line + 1, byte == b'\r'))
            }
            _ => None,
        }
    }
}

/// Whether a list of words has this one.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    headers.get_all(name).iter().any(words)
}

/// The length, which may be said more than once.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for one in value.as_bytes().split(|byte| *byte == b',') {
            let digits = one.trim_ascii();
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let found = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            let found: u64 = found.ok_or_else(malformed)?;
            if length.replace(found).is_some_and(|other| other != found) {
                return Err(malformed());
            }
        }
    }
    Ok(length)
}

fn malformed() -> Error {
    Error::Protocol(ureq_proto::Error::HttpParseFail("malformed body".into()))
}

/// A body that has not been read yet.
pub struct Body {
    connection: Option<Connection>,
    framing: Framing,
    /// Whether the connection can be used after it.
    stays: bool,
    limit: Limit,
}

impl Body {
    /// The body that comes next over a connection.
    pub fn new(connection: Connection, (framing, stays): (Framing, bool), limit: Limit) -> Self {
        let mut body = Self { connection: Some(connection), framing, stays, limit };
        if body.framing.is_over() {
            body.release();
        }
        body
    }

    /// Appends the body to `all`, until that is `most` bytes long.
    ///
    /// # Errors
    /// The body broke.
    pub fn append_to(&mut self, all: &mut Vec<u8>, most: usize) -> io::Result<()> {
        while all.len() < most {
            let (left, mut has_room) = (most - all.len(), true);
            let take = |bytes: &[u8]| {
                let needed = all.len() + bytes.len();
                has_room = needed <= all.capacity() || memory::has_room_to_grow(needed.max(2 * all.capacity()));
                if has_room {
                    all.extend_from_slice(bytes);
                }
            };
            let taken = self.next(left, take).map_err(Error::into_io)?;
            if !has_room {
                return Err(ErrorKind::OutOfMemory.into());
            }
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Hands the bytes that come next to `take`, `most` at most; says how many. There are none at the end.
    fn next(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> Result<usize, Error> {
        while let Some(connection) = &mut self.connection {
            let buffers = connection.transport.buffers();
            let (passed, found) = self.framing.next(buffers.input())?;
            let taken = found.min(most);
            if taken > 0 {
                take(&buffers.input()[passed..passed + taken]);
            }
            buffers.input_consume(passed + taken);
            self.framing.took(taken);
            if self.framing.is_over() {
                self.release();
            }
            if taken > 0 || most == 0 {
                return Ok(taken);
            }
            self.wait()?;
        }
        Ok(0)
    }

    /// Waits for more bytes, if there are to be more.
    fn wait(&mut self) -> Result<(), Error> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let limit = self.limit.next(None, Timeout::RecvBody)?;
        let is_end = match connection.transport.await_input(limit) {
            Ok(has_come) => !has_come,
            Err(Error::Io(error)) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => true,
                _ => return Err(Error::Io(error)),
            },
            Err(error) => return Err(error),
        };
        if is_end {
            self.connection = None;
            if !self.framing.may_end() {
                return Err(Error::Io(ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    /// The connection is free for the next request.
    fn release(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| self.stays) {
            connection.keep();
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.next(buffer.len(), |bytes| buffer[..bytes.len()].copy_from_slice(bytes));
        taken.map_err(Error::into_io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(head: &str) -> Response<()> {
        let head = format!("{head}\r\n\r\n");
        ureq_proto::parser::try_parse_response::<8>(head.as_bytes()).unwrap().unwrap().1
    }

    /// What a body is, however it is cut, and how many bytes are left behind it; nothing where it is malformed.
    fn read(framing: Framing, input: &str, size: usize) -> Option<(String, usize, bool)> {
        let (mut framing, mut body, mut left) = (framing, Vec::new(), input.as_bytes());
        while !left.is_empty() && !framing.is_over() {
            let piece = &left[..left.len().min(size)];
            let (passed, found) = framing.next(piece).ok()?;
            body.extend_from_slice(&piece[passed..passed + found]);
            framing.took(found);
            left = &left[passed + found..];
        }
        Some((String::from_utf8(body).unwrap(), left.len(), framing.may_end()))
    }

    #[test]
    fn the_head_says_how_the_body_ends() {
        let chunked = Framing::Chunked(Chunk::Size(0, 0));
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", Some((Framing::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\ncontent-length: 5", Some((Framing::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5", None),
            ("HTTP/1.1 200 OK\r\nContent-Length:", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close", Some((Framing::Length(5), false))),
            ("HTTP/1.1 200 OK", Some((Framing::Close, false))),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5", Some((Framing::Length(0), true))),
            ("HTTP/1.1 304 Not Modified", Some((Framing::Length(0), true))),
            ("HTTP/1.1 101 Switching Protocols", Some((Framing::Length(0), false))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked", Some((chunked, true))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", Some((chunked, false))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5", Some((Framing::Length(5), false))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", Some((Framing::Length(5), true))),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", Some((Framing::Close, false))),
        ] {
            assert_eq!(Framing::of(&response(head)).ok(), expected, "{head}");
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let chunked = Framing::Chunked(Chunk::Size(0, 0));
        for (framing, input, body, left) in [
            (Framing::Length(3), "abcdef", "abc", 3),
            (Framing::Close, "abc", "abc", 0),
            (chunked, "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\nrest", "abc0123456789", 4),
            (chunked, "3 \r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", "abc", 0),
            (chunked, "0\r\n\r\n", "", 0),
        ] {
            for size in [1, 2, 3, 7, 100] {
                assert_eq!(read(framing, input, size), Some((body.into(), left, true)), "{input:?} {size}");
            }
        }
    }

    #[test]
    fn chunks_that_two_readers_could_understand_differently_are_refused() {
        let too_long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(LINE_BYTES));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(LINE_BYTES));
        let malformed =
            ["\r\n", "x\r\n", "-1\r\n", "1\na", "1;\na", "1\r\nab", "1\r\na\n", "1\rx", "11112222333344445\r\n"];
        for input in malformed.into_iter().chain([&*too_long, &*trailers]) {
            for size in [1, 100_000] {
                assert_eq!(read(Framing::Chunked(Chunk::Size(0, 0)), input, size), None, "{input:?}");
            }
        }
    }

    #[test]
    fn a_body_that_ends_too_early_is_noticed() {
        let chunked = Framing::Chunked(Chunk::Size(0, 0));
        for (framing, input, may_end) in [
            (Framing::Length(3), "ab", false),
            (Framing::Close, "ab", true),
            (chunked, "", false),
            (chunked, "3\r\nab", false),
            (chunked, "3\r\nabc\r\n", false),
            (chunked, "3\r\nabc\r\n0\r\n", true),
            (chunked, "3\r\nabc\r\n0\r\nA", false),
        ] {
            assert_eq!(read(framing, input, 100).map(|(_, _, may_end)| may_end), Some(may_end), "{input:?}");
        }
    }
}
