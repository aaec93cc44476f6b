//! What a client of HTTP does about an answer: the rules of Streamable HTTP, 2025-03-26 to 2025-11-25
//! (`basic/transports`), and how it is told from HTTP+SSE. Numbers and texts in, decisions out.

use super::member;
use super::message::{Id, Kind, Message};
use super::retry::Retry;
use std::time::Duration;

/// How long to wait before a broken stream is asked for again when the server does not say.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such wait, whatever the server says.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Times that a broken stream is asked for in vain.
const RESUMES: u32 = 5;

/// Whether a server that answers so may speak the other transport ("Backwards Compatibility"): it does not know what
/// it was asked for. Who wants to know who we are, or is busy, has understood it.
#[must_use]
pub fn may_speak_another(status: u16) -> bool {
    matches!(status, 400..500) && !matches!(status, 401 | 403 | 407 | 408 | 425 | 429 | 451)
}

/// Whether the path says HTTP+SSE.
#[must_use]
pub fn is_sse_path(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path).ends_with("/sse")
}

/// What an error of the server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is the server's answer to the request.
    Answer(Message),
    /// The session is gone: the request did not reach it, and may be sent again in another.
    SessionGone,
    /// Anything else, with the message of a JSON-RPC error without an id, if there is one.
    Other(Option<String>),
}

/// What it means that a request with this id was answered with an error status and this body.
#[must_use]
pub fn refusal(status: u16, body: &[u8], id: Option<&Id>, had_session: bool) -> Refusal {
    let error = Message::parse(body.to_vec()).ok().filter(is_error);
    let is_ours = |answer: &Message| id.is_some_and(|id| answer.id().is_some_and(|theirs| theirs.may_be(id)));
    if status == 404 && had_session && !error.as_ref().is_some_and(is_ours) {
        return Refusal::SessionGone;
    }
    match error {
        Some(answer) if is_ours(&answer) => Refusal::Answer(answer),
        Some(other) => {
            let text = error_text(&other);
            if status == 400 && had_session && text.as_deref().is_some_and(speaks_of_session) {
                return Refusal::SessionGone;
            }
            Refusal::Other(text)
        }
        None => Refusal::Other(None),
    }
}

/// Many servers, those made after the examples of the official SDKs among them, answer 400 where the specification
/// has 404: they find no session, or one that nobody has begun.
fn speaks_of_session(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("session") || text.contains("server not initialized")
}

/// Whether a response is an error.
#[must_use]
pub fn is_error(response: &Message) -> bool {
    matches!(response.kind(), Kind::Response { .. }) && member::range(response.text(), &["error"]).is_some()
}

/// What an error response says.
#[must_use]
pub fn error_text(response: &Message) -> Option<String> {
    member::string(response.text(), &["error", "message"])
}

/// The protocol version that the answer to `initialize` settles on.
#[must_use]
pub fn negotiated(answer: &Message) -> Option<String> {
    member::string(answer.text(), &["result", "protocolVersion"])
}

/// Whether a text can be the id of a session: visible ASCII only ("Session Management").
#[must_use]
pub fn is_session_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(u8::is_ascii_graphic)
}

/// Whether an answer's content type is this one; its parameters do not matter.
#[must_use]
pub fn is_type(found: &str, wanted: &str) -> bool {
    found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// The attempts to get the rest of a stream that broke ("Resumability and Redelivery").
#[derive(Debug)]
pub struct Resume {
    retry: Retry,
    left: u32,
}

/// What came of asking for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// An event stream that brought something before it broke again.
    Some,
    /// No answer, or an event stream without a byte.
    Nothing,
    /// An answer with this status.
    Status(u16),
}

impl Default for Resume {
    fn default() -> Self {
        Self { retry: Retry::new(RETRY, LONGEST_RETRY), left: RESUMES }
    }
}

impl Resume {
    /// How long to wait before the next attempt; `asked` is what the server said last. `None`: it is of no use.
    pub fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        if let Some(asked) = asked {
            self.retry.set_first(asked);
        }
        Some(self.retry.next())
    }

    /// Learns from an attempt. Says whether another one may help.
    pub fn learn(&mut self, came: Resumed) -> bool {
        match came {
            Resumed::Some => *self = Self { retry: self.reset(), left: RESUMES },
            Resumed::Nothing | Resumed::Status(408 | 425 | 429 | 500..) => {}
            Resumed::Status(_) => return false,
        }
        self.left > 0
    }

    fn reset(&mut self) -> Retry {
        self.retry.reset();
        self.retry.clone()
    }
}
