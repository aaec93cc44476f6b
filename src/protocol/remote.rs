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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::from_json(text).unwrap()
    }

    fn error(id: &str, text: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"{text}"}}}}"#)
    }

    #[test]
    fn a_status_tells_whether_to_try_the_other_transport() {
        for status in [400, 404, 405, 406, 410, 415, 422] {
            assert!(may_speak_another(status), "{status}");
        }
        for status in [200, 202, 301, 307, 401, 403, 407, 408, 429, 500, 503] {
            assert!(!may_speak_another(status), "{status}");
        }
    }

    #[test]
    fn a_path_tells_where_to_begin() {
        for (path, expected) in
            [("/sse", true), ("/a/sse/", true), ("/mcp", false), ("/sse/x", false), ("/", false), ("/asse", false)]
        {
            assert_eq!(is_sse_path(path), expected, "{path}");
        }
    }

    #[test]
    fn an_error_status_means_one_of_three_things() {
        const GONE: &str = "Bad Request: No valid Session ID provided";
        let text = |text: &str| Refusal::Other(Some(text.into()));
        for (status, body, had_session, expected) in [
            (404, String::new(), true, Refusal::SessionGone),
            (404, "<p>".into(), true, Refusal::SessionGone),
            (404, error("null", "no"), true, Refusal::SessionGone),
            (404, String::new(), false, Refusal::Other(None)),
            (404, error("null", "no"), false, text("no")),
            (400, error("null", GONE), true, Refusal::SessionGone),
            (400, error("2", GONE), true, Refusal::SessionGone),
            (400, error("null", "Bad Request: Server not initialized"), true, Refusal::SessionGone),
            (400, error("null", GONE), false, text(GONE)),
            (400, error("null", "no"), true, text("no")),
            (403, error("null", GONE), true, text(GONE)),
            (500, "{}".into(), true, Refusal::Other(None)),
            (500, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), true, Refusal::Other(None)),
        ] {
            assert_eq!(refusal(status, body.as_bytes(), Some(&id("1")), had_session), expected, "{status} {body}");
        }
        for status in [400, 404, 500] {
            let body = error("1.0", GONE);
            let answer = Message::parse(body.clone().into_bytes()).unwrap();
            assert_eq!(refusal(status, body.as_bytes(), Some(&id("1")), true), Refusal::Answer(answer));
            assert!(!matches!(refusal(status, body.as_bytes(), None, true), Refusal::Answer(_)));
        }
    }

    #[test]
    fn a_session_id_is_visible_ascii() {
        for (text, expected) in [("s", true), ("!~", true), ("", false), ("a b", false), ("\x7f", false), ("ü", false)]
        {
            assert_eq!(is_session_id(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn parameters_of_a_content_type_do_not_matter() {
        for (found, expected) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/html", false),
            ("", false),
        ] {
            assert_eq!(is_type(found, "application/json"), expected, "{found}");
        }
    }

    #[test]
    fn a_broken_stream_is_asked_for_a_few_times_in_vain_and_as_often_as_it_brings_something() {
        let s = Duration::from_secs;
        let mut resume = Resume::default();
        for delay in [1, 2, 4, 8, 16] {
            assert_eq!(resume.next(None), Some(s(delay)));
            assert_eq!(resume.learn(Resumed::Status(503)), delay < 16);
        }
        assert_eq!(resume.next(None), None);
        let mut resume = Resume::default();
        for _ in 0..100 {
            assert_eq!(resume.next(Some(Duration::from_millis(300))), Some(Duration::from_millis(300)));
            assert!(resume.learn(Resumed::Some));
        }
        for status in [400, 401, 403, 404, 405, 410] {
            assert!(!Resume::default().learn(Resumed::Status(status)), "{status}");
        }
        for came in [Resumed::Nothing, Resumed::Status(429), Resumed::Status(500), Resumed::Status(502)] {
            assert!(Resume::default().learn(came), "{came:?}");
        }
        assert_eq!(Resume::default().next(Some(Duration::MAX)), Some(LONGEST_RETRY));
    }
}
