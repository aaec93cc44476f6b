//! Which of the two eras a remote server speaks: what the user says, what was found out, and what an answer shows (MCP
//! 2026-07-28, `basic/versioning`, "Backward Compatibility", and `basic/transports/streamable-http`, the same).
//!
//! ```text
//!   a client's era:   Unknown ──taken──▶ Straight ◀──taken──┐
//!                        │                  │ refused       │
//!                        └────refused───────┴─────────▶ Crossed ──the other era is refused too──▶ Unknown
//! ```
//!
//! Always: what a client speaks is tried first, unless it is known to be of no use; at least one of the two eras is not
//! `Crossed`, or nothing would be sent at all; what the user says is not found out anew.

use super::member;
use super::message::{INVALID_PARAMS, Id, Kind, METHOD_NOT_FOUND, Message};
use super::modern::{self, REVISION, UNSUPPORTED_VERSION, meta};
use super::remote::{error_text, is_error, may_speak_another};

/// What the user says that the other side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What it turns out to.
    #[default]
    Auto,
    /// Revisions up to 2025-11-25 only.
    Legacy,
    /// Revisions from 2026-07-28 on only.
    Modern,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: sessions, which `initialize` begins.
    Legacy,
    /// From 2026-07-28 on: every request stands alone.
    Modern,
}

impl Era {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Modern,
            Self::Modern => Self::Legacy,
        }
    }

    /// What a message tells of the era that its client speaks.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        match message.kind() {
            Kind::Request { method, .. } if &**method == "initialize" => Some(Self::Legacy),
            Kind::Request { .. } => meta::version(message).map(|_| Self::Modern),
            Kind::Notification { .. } | Kind::Response { .. } => None,
        }
    }
}

/// The answer to a request of the era that clients may not speak, as the user says. It lets one that can speak the other
/// era do so, and tells the user of one that cannot why ("Backward Compatibility").
#[must_use]
pub fn refused_client(allowed: Protocol, message: &Message) -> Option<Message> {
    if allowed == Protocol::Auto {
        return None; // nearly always: the message need not be looked at
    }
    match (allowed, Era::of(message)?) {
        (Protocol::Legacy, Era::Modern) => {
            let reason = "requests of this revision are not taken here; begin with 'initialize'";
            Some(Message::error(message.id(), METHOD_NOT_FOUND, reason))
        }
        (Protocol::Modern, Era::Legacy) => {
            let params = message.params().unwrap_or_default();
            let requested = member::value(params, &["protocolVersion"]).unwrap_or("null");
            let data = format!(r#"{{"supported":["{REVISION}"],"requested":{requested}}}"#);
            let reason = format!("only {REVISION} and later is spoken here");
            Some(Message::error_with(message.id(), UNSUPPORTED_VERSION, &reason, &data))
        }
        _ => None,
    }
}

/// How the clients of one era get to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Nobody has tried.
    #[default]
    Unknown,
    /// The server speaks what they speak.
    Straight,
    /// It does not; it speaks the other era.
    Crossed,
}

/// What is known of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eras {
    protocol: Protocol,
    legacy: Way,
    modern: Way,
}

impl Eras {
    /// What the user says, and no more yet.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        let (legacy, modern) = match protocol {
            Protocol::Auto => (Way::Unknown, Way::Unknown),
            Protocol::Legacy => (Way::Straight, Way::Crossed),
            Protocol::Modern => (Way::Crossed, Way::Straight),
        };
        Self { protocol, legacy, modern }
    }

    /// How the clients of an era get to the server.
    #[must_use]
    pub fn way(&self, era: Era) -> Way {
        match era {
            Era::Legacy => self.legacy,
            Era::Modern => self.modern,
        }
    }

    /// The server has taken what only a server of this era takes.
    pub fn took(&mut self, era: Era) {
        self.set(era, Way::Straight);
    }

    /// The server has refused what every server of this era takes.
    pub fn refused(&mut self, era: Era) {
        self.set(era, Way::Crossed);
        if self.way(era.other()) == Way::Crossed {
            self.set(era.other(), Way::Unknown);
        }
    }

    /// What was believed of this era has led nowhere.
    pub fn forget(&mut self, era: Era) {
        self.set(era, Way::Unknown);
    }

    fn set(&mut self, era: Era, way: Way) {
        match era {
            _ if self.protocol != Protocol::Auto => {}
            Era::Legacy => self.legacy = way,
            Era::Modern => self.modern = way,
        }
    }
}

/// What an error status in answer to a modern request means.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is the server's answer to the request.
    Answer(Message),
    /// The server is legacy and has not taken the request; what it says as an answer to it, if it says something.
    Legacy(Option<Message>),
    /// Anything else, with the message of a JSON-RPC error, if there is one.
    Other(Option<String>),
}

/// What it means that this modern request was answered with an error status and this body. `is_modern`: the server is
/// known to be.
#[must_use]
pub fn refused(status: u16, body: &[u8], request: &Message, is_modern: bool) -> Refused {
    let may_be_legacy = may_speak_another(status);
    let Some(error) = Message::parse(body.to_vec()).ok().filter(is_error) else {
        return if may_be_legacy { Refused::Legacy(None) } else { Refused::Other(None) };
    };
    let Some(id) = request.id() else { return Refused::Other(error_text(&error)) };
    let is_ours = error.id().is_some_and(|theirs| theirs.may_be(id));
    let discovers = request.method() == Some("server/discover");
    let code = error.error_code();
    // Every modern server knows `server/discover`; about any other method it may say so.
    let is_unknown = code == Some(METHOD_NOT_FOUND.into()) && matches!(status, 400 | 404) && !discovers;
    let is_incomplete = code == Some(INVALID_PARAMS.into()) && is_ours && meta::capabilities(request).is_none();
    let is_taken = is_ours && (!may_be_legacy || is_modern && !discovers);
    if modern::is_modern_error(&error) || is_unknown || is_incomplete || is_taken {
        Refused::Answer(under(error, id))
    } else if may_be_legacy {
        Refused::Legacy(Some(under(error, id)))
    } else {
        Refused::Other(error_text(&error))
    }
}

/// Whether the answer to this request is one that no modern server gives.
#[must_use]
pub fn is_legacy_answer(request: &Message, answer: &Message) -> bool {
    request.method() == Some("server/discover") && !modern::is_modern_answer(answer)
}

/// Whether only a modern server answers a modern request so.
#[must_use]
pub fn shows_modern(answer: &Message) -> bool {
    let has_type = |result: &str| member::range(result, &["resultType"]).is_some();
    answer.result_text().is_some_and(has_type) || modern::is_modern_error(answer)
}

/// The refusal of an `initialize` that only a modern server gives, as the answer to it.
#[must_use]
pub fn refusal_of_legacy(body: &[u8], id: &Id) -> Option<Message> {
    let error = Message::parse(body.to_vec()).ok().filter(modern::refuses_legacy)?;
    Some(under(error, id))
}

/// An error as the answer to this request: many servers do not say which one they refuse.
#[must_use]
pub fn under(error: Message, id: &Id) -> Message {
    if error.id().is_some_and(|theirs| theirs.may_be(id)) {
        return error;
    }
    let text = member::with(error.text(), &["id"], id.as_json());
    Message::parse(text.into()).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> Message {
        let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}"#;
        Message::request(&Id::number(7), method, params)
    }

    fn error(id: &str, code: i32) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
    }

    fn message(text: &str) -> Message {
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn a_message_tells_its_era_or_nothing() {
        for (text, wanted) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, Some(Era::Legacy)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"protocolVersion":"2026-07-28"}}"#, None),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01"}}}"#,
                Some(Era::Modern),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol\/protocol\u0056ersion":"2026-07-28"}}}"#,
                Some(Era::Modern),
            ),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None),
        ] {
            assert_eq!(Era::of(&message(text)), wanted, "{text}");
        }
    }

    #[test]
    fn what_was_found_is_remembered_and_found_anew_when_it_proves_wrong() {
        let mut eras = Eras::new(Protocol::Auto);
        let ways = |eras: &Eras| (eras.way(Era::Legacy), eras.way(Era::Modern));
        assert_eq!(ways(&eras), (Way::Unknown, Way::Unknown));
        eras.refused(Era::Legacy);
        eras.took(Era::Modern);
        assert_eq!(ways(&eras), (Way::Crossed, Way::Straight));
        eras.refused(Era::Modern); // another server stands there now
        assert_eq!(ways(&eras), (Way::Unknown, Way::Crossed));
        eras.took(Era::Legacy);
        assert_eq!(ways(&eras), (Way::Straight, Way::Crossed));
        eras.refused(Era::Legacy);
        assert_eq!(ways(&eras), (Way::Crossed, Way::Unknown));
        eras.forget(Era::Legacy);
        assert_eq!(ways(&eras), (Way::Unknown, Way::Unknown));
    }

    #[test]
    fn what_the_user_says_stays() {
        for (protocol, wanted) in
            [(Protocol::Legacy, (Way::Straight, Way::Crossed)), (Protocol::Modern, (Way::Crossed, Way::Straight))]
        {
            let mut eras = Eras::new(protocol);
            for era in [Era::Legacy, Era::Modern] {
                eras.refused(era);
                eras.took(era.other());
                eras.forget(era);
                assert_eq!((eras.way(Era::Legacy), eras.way(Era::Modern)), wanted);
            }
        }
    }

    #[test]
    fn an_error_status_is_an_answer_or_shows_a_legacy_server() {
        let answer = |code| Refused::Answer(message(&error("7", code)));
        let legacy = |code| Refused::Legacy(Some(message(&error("7", code))));
        for (status, body, method, is_modern, wanted) in [
            (400, error("7", -32020), "tools/call", false, answer(-32020)),
            (400, error("null", -32022), "server/discover", false, answer(-32022)),
            (400, error("7", -32021), "tools/call", false, answer(-32021)),
            (404, error("7", -32601), "x", false, answer(-32601)),
            (404, error("null", -32601), "x", false, answer(-32601)),
            (404, error("7", -32601), "server/discover", false, legacy(-32601)),
            (404, error("7", -32601), "server/discover", true, legacy(-32601)),
            (400, error("\"server-error\"", -32600), "tools/list", false, legacy(-32600)),
            (400, error("null", -32000), "tools/list", true, legacy(-32000)),
            (400, error("7", -32602), "tools/list", false, legacy(-32602)),
            (400, error("7", -32602), "tools/list", true, answer(-32602)),
            (500, error("7", -32603), "server/discover", false, answer(-32603)),
            (500, error("null", -32603), "x", true, Refused::Other(Some("no".into()))),
            (401, error("null", -32000), "x", false, Refused::Other(Some("no".into()))),
            (405, String::new(), "x", false, Refused::Legacy(None)),
            (404, "<p>".into(), "x", true, Refused::Legacy(None)),
            (503, "<p>".into(), "x", false, Refused::Other(None)),
        ] {
            assert_eq!(
                refused(status, body.as_bytes(), &request(method), is_modern),
                wanted,
                "{status} {body} {method}"
            );
        }
        let bare = message(
            r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        assert_eq!(refused(400, error("7", -32602).as_bytes(), &bare, false), answer(-32602));
    }

    #[test]
    fn the_answer_to_discover_shows_the_era() {
        let discover = request("server/discover");
        for (text, wanted) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"supportedVersions":["2026-07-28"]}}"#, false),
            (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, true),
            (&error("7", -32022), false),
            (&error("7", -32601), true),
        ] {
            assert_eq!(is_legacy_answer(&discover, &message(text)), wanted, "{text}");
            assert!(!is_legacy_answer(&request("tools/list"), &message(text)));
        }
        assert!(shows_modern(&message(r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#)));
        assert!(!shows_modern(&message(r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}"#)));
    }

    #[test]
    fn a_refusal_becomes_the_answer_to_the_request() {
        let id = Id::number(7);
        let wanted = message(&error("7", -32022));
        for text in [error("7", -32022), error("null", -32022), error("\"x\"", -32022)] {
            assert_eq!(refusal_of_legacy(text.as_bytes(), &id), Some(wanted.clone()), "{text}");
        }
        let without = r#"{"jsonrpc":"2.0","error":{"code":-32022,"message":"no"}}"#;
        assert_eq!(refusal_of_legacy(without.as_bytes(), &id).and_then(|found| found.id().cloned()), Some(id.clone()));
        assert_eq!(refusal_of_legacy(error("7", -32601).as_bytes(), &id), None);
    }
}
