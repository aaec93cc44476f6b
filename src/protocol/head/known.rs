//! Knows the head of a request again: most clients send the same one with every message of a session, but for the
//! length of its body. What was read once is not read again.
//!
//! Always: only a head that has every byte of the former one, but for the digits of its `Content-Length`, is known.

use super::{Body, Framing, Head, digits};
use std::ops::Range;
use std::sync::Arc;
use ureq_proto::http::Request;

/// The head of the last request of a connection.
#[derive(Debug)]
pub struct Known {
    bytes: Box<[u8]>,
    /// Where the digits of the length stand.
    length: Range<usize>,
    request: Arc<Request<()>>,
    close: bool,
}

/// More digits than any length that is taken has.
const MOST_DIGITS: usize = 15;

impl Known {
    /// Remembers `head`, which was read from `bytes`, if there is a body with a length and nothing else to note.
    #[must_use]
    pub fn new(bytes: &[u8], head: &Head) -> Option<Self> {
        if !matches!(head.body.framing, Framing::Length(_)) || head.body.expects_continue {
            return None;
        }
        Some(Self { bytes: bytes.into(), length: length(bytes)?, request: head.request.clone(), close: head.close })
    }

    /// The head that `bytes` begin with and how long it is, if it is known.
    #[must_use]
    pub fn again(&self, bytes: &[u8]) -> Option<(usize, Head)> {
        let (before, after) = (&self.bytes[..self.length.start], &self.bytes[self.length.end..]);
        let rest = bytes.strip_prefix(before)?;
        let count = rest.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let number = digits(&rest[..count]).filter(|number| count <= MOST_DIGITS && *number > 0)?;
        rest[count..].starts_with(after).then(|| {
            let body = Body { framing: Framing::Length(number), expects_continue: false };
            let head = Head { request: self.request.clone(), body, close: self.close };
            (before.len() + count + after.len(), head)
        })
    }
}

/// Where the digits of the only `Content-Length` stand.
fn length(bytes: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"content-length:";
    let mut start = 0;
    let mut found = None;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            let value = &line[NAME.len()..];
            let blanks = value.len() - value.trim_ascii_start().len();
            let begin = start + NAME.len() + blanks;
            let place = begin..begin + value.trim_ascii().len();
            if found.replace(place).is_some() {
                return None;
            }
        }
        start += line.len();
    }
    found.filter(|place| digits(&bytes[place.clone()]).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::{end, read};
    use super::*;

    const HEAD: &str = "POST /mcp HTTP/1.1\r\nHost: localhost:8080\r\nAccept: application/json\r\n\
        Content-Length:  120 \r\nMcp-Session-Id: abc\r\n\r\n";

    fn known(text: &str) -> Option<Known> {
        Known::new(text.as_bytes(), &read(text.as_bytes()).ok()?)
    }

    #[test]
    fn the_same_head_with_another_length_is_known() {
        let known = known(HEAD).unwrap();
        for length in ["120", "1", "999999999999999", "0120"] {
            let text = HEAD.replace("120", length);
            let (bytes, head) = known.again(format!("{text}the body").as_bytes()).unwrap();
            assert_eq!(bytes, text.len());
            assert_eq!(head.body.framing, Framing::Length(length.parse().unwrap()));
        }
        for length in ["0", "", "-1", "+1", "1 2", "0x10", "9999999999999999", "120\r\nContent-Length: 120"] {
            assert!(known.again(HEAD.replace("120", length).as_bytes()).is_none(), "{length:?}");
        }
    }

    #[test]
    fn a_head_with_something_else_to_note_is_not_remembered() {
        for text in [
            "GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        ] {
            assert!(known(text).is_none(), "{text:?}");
        }
    }

    /// Every byte changed to every other, every cut: what is known is what a reader reads.
    #[test]
    fn what_is_known_is_what_would_be_read() {
        let known = known(HEAD).unwrap();
        for at in 0..HEAD.len() {
            assert!(known.again(&HEAD.as_bytes()[..at]).is_none());
            for byte in 0..=255 {
                let mut bytes = HEAD.as_bytes().to_vec();
                bytes[at] = byte;
                let Some((length, head)) = known.again(&bytes) else { continue };
                let read = read(&bytes).unwrap_or_else(|refusal| panic!("{}: {bytes:?}", refusal.reason));
                assert_eq!(Some(length), end(&bytes));
                assert_eq!((head.body.framing, head.close), (read.body.framing, read.close));
                assert_eq!(head.request.uri(), read.request.uri());
                assert_eq!(head.request.headers().len(), read.request.headers().len());
            }
        }
    }
}
