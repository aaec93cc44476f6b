//! The reserved members of `_meta` that a modern message carries (MCP 2026-07-28, `basic/index`, "`_meta`").

use super::super::edit::{Edit, edited};
use super::super::level::Level;
use super::super::member;
use super::super::message::{Id, Message, may_have_meta};
use super::super::noted::Param;
use std::borrow::Cow;

/// The revision of a request.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The name and version of the client.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// What the client can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The least severe log messages that the client wants during this request.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Whose `subscriptions/listen` a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The name and version of the server, in a result.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// What begins the names of all of them.
const RESERVED: &str = "io.modelcontextprotocol/";

/// What stands in place of a level is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoLevel;

/// The revision that a request or notification says it is of; `None` where it says nothing, so that it is legacy.
#[must_use]
pub fn version(message: &Message) -> Option<String> {
    // Legacy messages are asked too, all of them: the name can hide from a look at the text only behind such escapes.
    let params = message.params()?;
    let may_say = || may_have_meta(params) && (params.contains("protocolVersion") || params.contains("\\u"));
    if !message.noted().is_read() && !may_say() {
        return None;
    }
    serde_json::from_str(value(message, Param::ProtocolVersion)?).ok()
}

/// The JSON text of the client's capabilities.
#[must_use]
pub fn capabilities(message: &Message) -> Option<&str> {
    value(message, Param::ClientCapabilities)
}

/// The JSON text of the client's name and version.
#[must_use]
pub fn client_info(message: &Message) -> Option<&str> {
    value(message, Param::ClientInfo)
}

/// From which level on the client wants log messages of this request; an error where it names none that is known.
///
/// # Errors
/// What stands there is no level.
pub fn log_level(message: &Message) -> Result<Option<Level>, NoLevel> {
    value(message, Param::LogLevel).map(level).transpose()
}

/// The level that a JSON text names.
///
/// # Errors
/// It names none.
pub fn level(text: &str) -> Result<Level, NoLevel> {
    Level::from_json(text).ok_or(NoLevel)
}

/// The `subscriptions/listen` that a notification belongs to (`basic/patterns/subscriptions`).
#[must_use]
pub fn subscription_id(message: &Message) -> Option<Id> {
    Id::from_json(value(message, Param::SubscriptionId)?)
}

/// Whether a client may be asked for this by the capabilities (JSON text) that it declared.
#[must_use]
pub fn declares(capabilities: &str, path: &[&str]) -> bool {
    member::value(capabilities, path).is_some_and(|value| value != "null" && value != "false")
}

/// The params (JSON text) without the reserved members of `_meta`, and without a `_meta` that holds nothing else.
#[must_use]
pub fn stripped(params: &str) -> Cow<'_, str> {
    let members = member::members(params).unwrap_or_default();
    edited(params, &members, |name, value| if name == "_meta" { unreserved(value) } else { Edit::Keep })
}

/// What becomes of a `_meta` that is to have none of the reserved members.
pub(in super::super) fn unreserved(meta: &str) -> Edit {
    let Some(members) = member::members(meta) else { return Edit::Keep };
    let is_reserved = |name: &str| name.starts_with(RESERVED);
    if members.iter().all(|(name, _)| is_reserved(name)) {
        return Edit::Cut;
    }
    match edited(meta, &members, |name, _| if is_reserved(name) { Edit::Cut } else { Edit::Keep }) {
        Cow::Borrowed(_) => Edit::Keep,
        Cow::Owned(kept) => Edit::Put(kept),
    }
}

fn value(message: &Message, name: Param) -> Option<&str> {
    let params = message.params()?;
    // A look at the text is much quicker than one at its structure, and most legacy messages have none of it.
    if !message.noted().is_read() && !params.contains("_meta") && !params.contains('\\') {
        return None;
    }
    message.noted().value(params, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(params: &str) -> Message {
        Message::request(&Id::number(1), "tools/list", params)
    }

    #[test]
    fn what_a_request_says_of_itself() {
        let full = message(
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"x"},"io.modelcontextprotocol/logLevel":"error"}}"#,
        );
        assert_eq!(version(&full).as_deref(), Some("2026-07-28"));
        assert_eq!(capabilities(&full), Some(r#"{"roots":{}}"#));
        assert_eq!(client_info(&full), Some(r#"{"name":"x"}"#));
        assert_eq!(log_level(&full), Ok(Level::from_json(r#""error""#)));
        for params in ["{}", "[]", r#"{"_meta":{}}"#, r#"{"_meta":null}"#, r#"{"_meta":{"progressToken":1}}"#] {
            let message = message(params);
            assert_eq!((version(&message), capabilities(&message), log_level(&message)), (None, None, Ok(None)));
        }
        assert_eq!(log_level(&message(r#"{"_meta":{"io.modelcontextprotocol/logLevel":"loud"}}"#)), Err(NoLevel));
    }

    #[test]
    fn what_is_reserved_is_taken_out() {
        for (params, wanted) in [
            (r#"{"a":1.0,"_meta":{"io.modelcontextprotocol/x":1}}"#, r#"{"a":1.0}"#),
            (r#"{"_meta":{"io.modelcontextprotocol/x":1,"progressToken":1e2}}"#, r#"{"_meta":{"progressToken":1e2}}"#),
            (r#"{"_meta":{}}"#, "{}"),
            (r#"{"b" : 2}"#, r#"{"b" : 2}"#),
            (r#"{"_meta":7}"#, r#"{"_meta":7}"#),
        ] {
            assert_eq!(stripped(params), wanted);
        }
    }

    #[test]
    fn a_capability_is_declared_by_anything_but_nothing() {
        let all = r#"{"roots":{},"sampling":{"tools":{}},"elicitation":null,"x":false}"#;
        for (path, wanted) in [
            (&["roots"][..], true),
            (&["sampling", "tools"], true),
            (&["sampling", "context"], false),
            (&["elicitation"], false),
            (&["x"], false),
            (&["y"], false),
        ] {
            assert_eq!(declares(all, path), wanted, "{path:?}");
        }
    }
}
