//! What was said last over one connection, which is most likely said again: the same head with every message, and nearly
//! the same answer. It is not written, or parsed, again.
//!
//! Always: only a head that has every byte of the last one is known; what is never said again is not kept.

use super::answer::Framing;
use std::borrow::Cow;
use std::sync::{Arc, Weak};
use ureq::Error;
use ureq::http::{Response, request};
use ureq_proto::parser::try_parse_response;

/// The most headers of an answer.
const HEADERS: usize = 100;
/// Longer heads are not kept.
const KEPT_BYTES: usize = 4 * 1024;
/// After so many answers in a row whose heads were new, none is kept any more.
const MISSES: u32 = 16;

/// What was said last over one connection.
#[derive(Default)]
pub struct Known {
    /// The head of the last request, and its bytes once it was said twice.
    request: Option<(Weak<request::Parts>, Option<Vec<u8>>)>,
    answer: Option<(Vec<u8>, Answer)>,
    misses: u32,
}

/// The head of an answer.
#[derive(Clone)]
pub struct Answer {
    /// What it says.
    pub response: Response<()>,
    /// How its body ends, and whether its connection can be used after that.
    pub framing: (Framing, bool),
}

impl Known {
    /// What a request of this head begins with, as `write` writes it.
    pub fn request(&mut self, head: &Arc<request::Parts>, write: impl FnOnce() -> Vec<u8>) -> Cow<'_, [u8]> {
        // Nobody else gets the memory of a head that is gone while this is kept.
        let is_last = self.request.as_ref().is_some_and(|(last, _)| Weak::as_ptr(last) == Arc::as_ptr(head));
        if !is_last {
            self.request = Some((Arc::downgrade(head), None));
            return write().into();
        }
        match &mut self.request {
            Some((_, Some(bytes))) => (&**bytes).into(),
            Some((_, bytes)) => {
                let written = write();
                if written.len() > KEPT_BYTES { written.into() } else { (&**bytes.insert(written)).into() }
            }
            None => write().into(),
        }
    }

    /// The head of an answer that `input` begins with, and how long it is; nothing until it is there whole.
    ///
    /// # Errors
    /// It is none.
    pub fn answer(&mut self, input: &[u8]) -> Result<Option<(usize, Answer)>, Error> {
        if let Some((bytes, answer)) = self.answer.as_ref().filter(|(bytes, _)| input.starts_with(bytes)) {
            self.misses = 0;
            return Ok(Some((bytes.len(), answer.clone())));
        }
        let found = try_parse_response::<HEADERS>(input).map_err(Error::Protocol)?;
        let Some((used, response)) = found else { return Ok(None) };
        let answer = Answer { framing: Framing::of(&response)?, response };
        if used <= KEPT_BYTES && self.misses < MISSES && !answer.response.status().is_informational() {
            self.misses += 1;
            self.answer = Some((input[..used].to_vec(), answer.clone()));
        }
        Ok(Some((used, answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::Request;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n";

    /// What is read of `input`, in words.
    fn read(known: &mut Known, input: &[u8]) -> String {
        match known.answer(input) {
            Ok(Some((used, answer))) => format!("{used} {:?} {:?}", answer.response, answer.framing),
            Ok(None) => "not whole".into(),
            Err(error) => format!("{error}"),
        }
    }

    /// Every byte changed to every other, every cut, whatever was read before.
    #[test]
    fn what_is_known_is_what_would_be_read() {
        let mut known = Known::default();
        for at in 0..HEAD.len() {
            read(&mut known, HEAD.as_bytes());
            let cut = &HEAD.as_bytes()[..at];
            assert_eq!(read(&mut known, cut), read(&mut Known::default(), cut), "{at}");
            for byte in 0..=255 {
                let mut bytes = format!("{HEAD}the body").into_bytes();
                bytes[at] = byte;
                assert_eq!(read(&mut known, &bytes), read(&mut Known::default(), &bytes), "{at} {byte}");
                assert_eq!(read(&mut known, &bytes), read(&mut Known::default(), &bytes), "{at} {byte}, once more");
            }
        }
    }

    #[test]
    fn a_request_is_written_once_for_each_head() {
        let head = |url: &str| Arc::new(Request::get(url).body(()).unwrap().into_parts().0);
        let (one, other, long) = (head("/one"), head("/other"), head(&format!("/{}", "x".repeat(KEPT_BYTES))));
        let (mut known, mut written) = (Known::default(), Vec::new());
        for (head, is_written) in [
            (&one, true),
            (&one, true), // said twice: kept
            (&one, false),
            (&one, false),
            (&other, true),
            (&one, true),
            (&long, true),
            (&long, true),
            (&long, true),
        ] {
            let path = head.uri.path().as_bytes();
            let write = || {
                written.push(());
                path.to_vec()
            };
            assert_eq!(&*known.request(head, write), path);
            assert_eq!(!written.is_empty(), is_written);
            written.clear();
        }
        // One that is gone is not taken for another, wherever that stands.
        for _ in 0..100 {
            let url = "/once";
            assert_eq!(&*known.request(&head(url), || b"new".to_vec()), b"new");
        }
    }

    #[test]
    fn heads_that_are_new_each_time_are_not_kept_for_ever() {
        let mut known = Known::default();
        for number in 0..2 * MISSES {
            let text = format!("HTTP/1.1 200 OK\r\nX-Request-Id: {number}\r\nContent-Length: 0\r\n\r\n");
            let (used, answer) = known.answer(text.as_bytes()).unwrap().unwrap();
            assert_eq!(used, text.len());
            assert_eq!(answer.response.headers()["x-request-id"], number.to_string());
            let kept = known.answer.as_ref().is_some_and(|(bytes, _)| *bytes == text.as_bytes());
            assert_eq!(kept, number < MISSES, "{number}");
        }
        // What comes before an answer is none.
        let early = "HTTP/1.1 103 Early Hints\r\nContent-Length: x\r\n\r\n";
        assert!(known.answer(early.as_bytes()).unwrap().is_some());
    }
}
