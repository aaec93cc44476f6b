//! What a remote server answers a request with: the head, and the body by a length, in chunks or up to the end of the
//! connection. It is the same however it arrives, it is what the simplest reader finds, and what comes behind it is
//! nobody's answer.

use mcp_proxy::upstream::agent::Agent;
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use ureq::http::{Request, Response, StatusCode, Version, header, request};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq_proto::parser::try_parse_response;

/// Status and body, or nothing where it is no answer.
type Found = Option<(StatusCode, Vec<u8>)>;

pub fn check(data: &[u8]) {
    let (found, connections) = ask(&[data]);
    for pieces in [super::pieces(data), data.chunks(1).collect()] {
        assert_eq!(ask(&pieces).0, found, "another answer, because it came in {} pieces", pieces.len());
    }
    let Some((status, body)) = found else { return };
    let Some((head, rest)) = head(data) else { panic!("an answer without a head") };
    assert_eq!(head.status(), status);
    let (wanted, behind) = simply(&head, rest).expect("another reader finds no body");
    assert!(body == wanted, "another reader finds another body: {:?}", String::from_utf8_lossy(&wanted));
    assert!(behind == 0 || connections == 2, "what came behind the answer may be taken for the next one");
}

/// Asks a server that sends these pieces over each connection, and then asks it once more: what it answered the first
/// time, and how many connections that took.
fn ask(pieces: &[&[u8]]) -> (Found, usize) {
    let made = Arc::new(AtomicUsize::new(0));
    let server = Server { made: made.clone(), pieces: pieces.iter().map(|piece| piece.to_vec()).collect() };
    let long = Duration::from_secs(1000);
    let agent = Agent::new(ureq::config::Config::default(), server, long, None);
    let head = Arc::new(Request::get("http://a/").body(()).expect("a request").into_parts().0);
    let found = one(&agent, &head);
    let _ = one(&agent, &head);
    (found, made.load(SeqCst))
}

fn one(agent: &Agent, head: &Arc<request::Parts>) -> Found {
    let answer = agent.run(head, None, None).ok()?;
    let (status, mut reader, mut body) = (answer.status(), answer.into_body(), Vec::new());
    reader.append_to(&mut body, 7).ok()?;
    reader.read_to_end(&mut body).ok()?;
    Some((status, body))
}

/// The first head that is one of an answer, and what follows it.
fn head(mut data: &[u8]) -> Option<(Response<()>, &[u8])> {
    loop {
        let (used, head) = try_parse_response::<100>(data).ok()??;
        data = &data[used..];
        if !head.status().is_informational() || head.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Some((head, data));
        }
    }
}

/// The body, and how many bytes stand behind it.
fn simply(head: &Response<()>, rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let values = |name| {
        let all = head.headers().get_all(name).iter();
        all.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()).collect::<Vec<_>>().join(",")
    };
    let (coding, length) = (values(header::TRANSFER_ENCODING), values(header::CONTENT_LENGTH));
    if head.status().is_informational() || matches!(head.status().as_u16(), 204 | 304) {
        return Some((Vec::new(), rest.len()));
    }
    if head.version() != Version::HTTP_10 && coding.split(',').any(|word| word.trim() == "chunked") {
        // Some servers leave out what follows the last chunk.
        return super::chunks::lenient(rest)
            .or_else(|| super::chunks::lenient(&[rest, b"\r\n"].concat()).map(|(body, _)| (body, 0)));
    }
    if head.headers().contains_key(header::CONTENT_LENGTH) {
        let length: usize = length.split(',').next()?.trim().parse().ok()?;
        return rest.get(..length).map(|body| (body.to_vec(), rest.len() - length));
    }
    Some((rest.to_vec(), 0))
}

/// Sends the same over each connection, whatever it is asked.
#[derive(Debug)]
struct Server {
    made: Arc<AtomicUsize>,
    pieces: VecDeque<Vec<u8>>,
}

impl Connector for Server {
    type Out = Line;

    fn connect(&self, _: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        self.made.fetch_add(1, SeqCst);
        Ok(Some(Line { pieces: self.pieces.clone(), buffers: LazyBuffers::new(1 << 16, 1 << 16), is_over: false }))
    }
}

/// A connection to it.
struct Line {
    pieces: VecDeque<Vec<u8>>,
    buffers: LazyBuffers,
    is_over: bool,
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let Some(piece) = self.pieces.pop_front() else {
            self.is_over = true;
            return Ok(false);
        };
        let room = self.buffers.input_append_buf();
        let taken = piece.len().min(room.len());
        room[..taken].copy_from_slice(&piece[..taken]);
        self.buffers.input_appended(taken);
        if taken < piece.len() {
            self.pieces.push_front(piece[taken..].to_vec());
        }
        Ok(taken > 0)
    }

    fn is_open(&mut self) -> bool {
        self.pieces.is_empty() && !self.is_over
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}
