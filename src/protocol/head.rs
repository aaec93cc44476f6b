//! The head of an HTTP request, read strictly: what two readers could understand differently is refused, since
//! a proxy before us would otherwise see other requests than we do. RFC 9112; the parser itself is ureq-proto's.
//!
//! After a refusal the connection cannot be used any more: nobody knows where the next request begins.

mod known;

pub use known::Known;

use super::http::Refusal;
use std::sync::Arc;
use ureq_proto::http::{HeaderMap, Method, Request, StatusCode, Version, header};
use ureq_proto::server::Reply;

/// A request without its body.
pub struct Head {
    /// Method, target and headers.
    pub request: Arc<Request<()>>,
    /// What is known of the body.
    pub body: Body,
    /// Whether the connection ends with the answer.
    pub close: bool,
}

/// A body that has not been read yet.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// How long it is.
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends it.
    pub expects_continue: bool,
}

/// How the end of a body is found. RFC 9112 §6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
}

/// How many bytes of `bytes` the first request's head takes; `None` when its end is not there yet.
/// Empty lines before the request line count as part of the head.
#[must_use]
pub fn end(bytes: &[u8]) -> Option<usize> {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let mut at = blank;
    while let Some(line) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += line + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Whether what has come so far cannot become a request any more: TLS, garbage, another protocol.
#[must_use]
pub fn is_foreign(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start();
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    method > 20 || line.get(method).is_some_and(|byte| *byte != b' ' || method == 0)
}

/// Reads a whole head, up to where [`end`] says that it ends.
///
/// # Errors
/// It is malformed, ambiguous, or of a version that we do not speak.
pub fn read(bytes: &[u8]) -> Result<Head, Refusal> {
    let bytes = &bytes[bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
    check_lines(bytes)?;
    check_request_line(bytes)?;
    let mut reply = Reply::new().map_err(|_| bad("the request cannot be read"))?;
    let (_, request) = reply.try_request(bytes).map_err(|error| match error {
        ureq_proto::Error::HttpParseTooManyHeaders => {
            Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many headers")
        }
        _ => bad("the request's head is malformed"),
    })?;
    let request = request.ok_or_else(|| bad("the request's head is malformed"))?;
    let old = request.version() == Version::HTTP_10;
    check_host(&request, old)?;
    let framing = framing(&request, old)?;
    let expects_continue = match request.headers().get(header::EXPECT) {
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => framing != Framing::None && !old,
        Some(_) => return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "the expectation cannot be met")),
        None => false,
    };
    // HTTP/1.0 would want to be told that its connection goes on, and waits for the end otherwise.
    let close = old || has_word(request.headers(), &header::CONNECTION, "close");
    Ok(Head { request: Arc::new(request), body: Body { framing, expects_continue }, close })
}

fn bad(reason: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// Lines end with CRLF and only with it; none is continued on the next; no control characters.
fn check_lines(bytes: &[u8]) -> Result<(), Refusal> {
    let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none() {
            return if line.is_empty() { Ok(()) } else { Err(bad("the request's head is incomplete")) };
        }
        let Some(text) = line.strip_suffix(b"\r") else {
            return Err(bad("a line of the request's head does not end with CRLF"));
        };
        // Every byte is looked at, without a way out: that way the compiler looks at many at once.
        if text.iter().fold(false, |bad, byte| bad | matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err(bad("the request's head holds a control character"));
        }
        if text.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(bad("a header is continued on the next line"));
        }
    }
    Ok(())
}

fn check_request_line(bytes: &[u8]) -> Result<(), Refusal> {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err(bad("the request line is malformed")) };
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Refusal::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 and HTTP/1.0 are spoken"));
        }
        _ => return Err(bad("the request line is malformed")),
    }
    if method.is_empty() || !(target.starts_with(b"/") || target.starts_with(b"http")) {
        return Err(bad("the request's target is malformed"));
    }
    Ok(())
}

/// One `Host`, and the same as in an absolute target. RFC 9112 §3.2.
fn check_host(request: &Request<()>, old: bool) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if old => Ok(()),
        (None, _) => Err(bad("the request has no Host")),
        (_, Some(_)) => Err(bad("the request has two Hosts")),
        (Some(host), None) => match request.uri().authority() {
            Some(authority) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
                Err(bad("the request's target and its Host differ"))
            }
            _ => Ok(()),
        },
    }
}

fn framing(request: &Request<()>, old: bool) -> Result<Framing, Refusal> {
    let only = |name: header::HeaderName, twice: &str| {
        let mut values = request.headers().get_all(name).iter();
        let first = values.next();
        if values.next().is_some() { Err(bad(twice)) } else { Ok(first) }
    };
    let coding = only(header::TRANSFER_ENCODING, "the request has two Transfer-Encodings")?;
    let length = only(header::CONTENT_LENGTH, "the request has two Content-Lengths")?;
    let framing = match (coding, length) {
        (Some(_), Some(_)) => return Err(bad("the request has both a Content-Length and a Transfer-Encoding")),
        (Some(_), None) if old => return Err(bad("HTTP/1.0 has no Transfer-Encoding")),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(_), None) => {
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "the only Transfer-Encoding is chunked"));
        }
        (None, Some(length)) => match digits(length.as_bytes()) {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => return Err(bad("the request's Content-Length is no number")),
        },
        (None, None) => Framing::None,
    };
    // Few readers expect a body here; one that does not would take it for the next request.
    if framing != Framing::None && !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        return Err(bad("a request of this method has no body"));
    }
    Ok(framing)
}

fn digits(text: &[u8]) -> Option<u64> {
    let next = |number: u64, digit: &u8| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, next) }
}

/// Whether a header that is a list of words holds this one, in any case.
fn has_word(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &str) -> u16 {
        assert_eq!(end(head.as_bytes()), Some(head.len()), "{head:?}");
        match read(head.as_bytes()) {
            Ok(_) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (rest, status) in [
            ("", 200),
            ("Content-Length: 5\r\n", 200),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 5 5\r\n", 400),
            ("Content-Length: 18446744073709551616\r\n", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: Chunked\r\n", 200),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Transfer-Encoding : chunked\r\n", 400),
            (" folded: yes\r\n", 400),
            ("A: b\r\n\tc\r\n", 400),
            ("A: b\nC: d\r\n", 400),
            ("A: b\rC: d\r\n", 400),
            ("A: b\0c\r\n", 400),
            ("A\0: b\r\n", 400),
            (": b\r\n", 400),
            ("Host: b\r\n", 400),
            ("Expect: 100-continue\r\n", 200),
            ("Expect: 200-ok\r\n", 417),
        ] {
            let head = format!("POST /messages HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
            assert_eq!(refused(&head), status, "{rest:?}");
        }
    }

    #[test]
    fn request_lines() {
        for (line, status) in [
            ("GET / HTTP/1.1", 200),
            ("GET / HTTP/1.0", 200),
            ("GET / HTTP/1.2", 505),
            ("PRI * HTTP/2.0", 505),
            ("GET / HTTP/1.10", 400),
            ("GET / http/1.1", 400),
            ("GET /", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            (" GET / HTTP/1.1", 400),
            ("GET * HTTP/1.1", 400),
            ("CONNECT a:1 HTTP/1.1", 400),
            ("GET http://a/ HTTP/1.1", 200),
            ("GET http://b/ HTTP/1.1", 400),
        ] {
            assert_eq!(refused(&format!("{line}\r\nHost: a\r\n\r\n")), status, "{line:?}");
        }
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/1.0\r\n\r\n"), 200);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"), 400);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(200))), 431);
    }

    #[test]
    fn the_end_is_found_at_every_cut() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(end(&head[..cut]), None, "{cut}");
        }
        assert_eq!(end(head), Some(head.len()));
        assert_eq!(end(b"GET / HTTP/1.1\nHost: a\n\nrest"), Some(24));
        assert!(read(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    }

    #[test]
    fn garbage_is_known_by_its_first_bytes() {
        for (bytes, foreign) in [
            (&b""[..], false),
            (b"\r\n", false),
            (b"GE", false),
            (b"GET /", false),
            (b"\x16\x03\x01", true),
            (b"{\"jsonrpc\"", true),
            (b"get / HTTP/1.1", true),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true),
        ] {
            assert_eq!(is_foreign(bytes), foreign, "{bytes:?}");
        }
    }
}
