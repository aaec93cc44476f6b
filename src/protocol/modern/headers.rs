//! The headers of a modern POST that say what its body says (MCP 2026-07-28, `basic/transports/streamable-http`,
//! "Request Metadata"): how they are written, and what a server checks of them.
//!
//! Always: what [`encode`] gives can be sent in a header, and [`decode`] gives back what was encoded.

use super::super::base64;
use super::super::message::{INVALID_PARAMS, Kind, METHOD_NOT_FOUND, Message};
use super::super::noted::Param;
use super::{HEADER_MISMATCH, MISSING_CAPABILITY, REVISION, UNSUPPORTED_VERSION, meta};
use std::borrow::Cow;

/// The header that names the revision.
pub const VERSION: &str = "mcp-protocol-version";
/// The header that names the method.
pub const METHOD: &str = "mcp-method";
/// The header that names the tool, the prompt or the resource.
pub const NAME: &str = "mcp-name";

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";
/// No more of a value is quoted in an error.
const QUOTED: usize = 200;

/// What stands in a header cannot have been written by [`encode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What a header says when it is to say `value` ("Value Encoding").
#[must_use]
pub fn encode(value: &str) -> Cow<'_, str> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_padded = value.starts_with(' ') || value.ends_with(' ');
    let looks_encoded = value.starts_with(PREFIX) && value.ends_with(SUFFIX);
    if is_plain && !is_padded && !looks_encoded {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("{PREFIX}{}{SUFFIX}", base64::encode(value.as_bytes())))
}

/// What a header says. White space around it is none of it.
///
/// # Errors
/// It has a character that no header may have, or is not what it claims to be: base64 of UTF-8.
pub fn decode(value: &str) -> Result<Cow<'_, str>, Malformed> {
    let value = value.trim_matches([' ', '\t']);
    if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(Malformed);
    }
    let Some(encoded) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = base64::decode(encoded).ok_or(Malformed)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Malformed)
}

/// The headers of the POST that brings this request or notification. What they cannot say as it is, is encoded, also
/// where the specification knows no such form: it must not end the header.
#[must_use]
pub fn of(message: &Message) -> Vec<(&'static str, String)> {
    let said = |name, value: String| (name, encode(&value).into_owned());
    let method = message.method().map(|method| said(METHOD, method.to_owned()));
    let version = meta::version(message).map(|version| said(VERSION, version));
    let name = match message.kind() {
        Kind::Request { method, .. } => named_by(method).and_then(|(name, _, _)| string(message, name)),
        _ => None,
    };
    version.into_iter().chain(method).chain(name.map(|name| said(NAME, name))).collect()
}

/// What the headers of a POST say, each without white space around it; `None` for one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given<'a> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'a str>,
    /// `Mcp-Method`
    pub method: Option<&'a str>,
    /// `Mcp-Name`
    pub name: Option<&'a str>,
}

/// Checks what a server must of a modern request over HTTP; `supported` are the revisions to tell a client whose
/// revision is none of them. One that is later than all of them is for the server to judge. Notifications have nothing
/// to check ("Sending Messages").
///
/// In this order, as the official server has it: the body is complete; its headers say the same; then the revision, so
/// that a client that contradicts itself hears that.
///
/// # Errors
/// The JSON-RPC error that answers the request; its HTTP status is 400.
pub fn check(message: &Message, given: &Given<'_>, supported: &[&str]) -> Result<(), Box<Message>> {
    let Kind::Request { method, .. } = message.kind() else { return Ok(()) };
    let version = complete(message)?;
    same(message, "MCP-Protocol-Version", given.version.map(str::trim), &version)?;
    same(message, "Mcp-Method", given.method.map(str::trim), method)?;
    if let Some(named) = named_by(method) {
        check_name(message, given.name, named)?;
    }
    let latest = supported.iter().copied().max().unwrap_or(REVISION).max(REVISION);
    // A legacy one may be supported, but not by requests that carry it themselves.
    let is_known = *version >= *REVISION && supported.contains(&&*version);
    if is_known || (is_date(&version) && *version > *latest) {
        return Ok(());
    }
    let (supported, requested) = (serde_json::Value::from(supported), serde_json::Value::from(version));
    let data = format!(r#"{{"supported":{supported},"requested":{requested}}}"#);
    let error = Message::error_with(message.id(), UNSUPPORTED_VERSION, "Unsupported protocol version", &data);
    Err(Box::new(error))
}

/// The HTTP status of a modern answer that is given as JSON: that of its error, where the specification names one.
#[must_use]
pub fn status(answer: &Message) -> u16 {
    let is =
        |codes: &[i32]| answer.error_code().is_some_and(|code| codes.iter().any(|known| i64::from(*known) == code));
    match () {
        () if is(&[METHOD_NOT_FOUND]) => 404,
        () if is(&[HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION]) => 400,
        () => 200,
    }
}

/// The error of a request whose headers do not say what its body says.
#[must_use]
pub fn mismatch(request: &Message, what: &str) -> Box<Message> {
    Box::new(Message::error(request.id(), HEADER_MISMATCH, &format!("Header mismatch: {what}")))
}

/// The error of a request whose header says something else than its body.
pub(super) fn differs(request: &Message, header: &str, given: &str, body: &str) -> Box<Message> {
    let (given, body) = (quoted(given), quoted(body));
    mismatch(request, &format!("{header} header value '{given}' does not match body value '{body}'"))
}

/// The revision of a request that says of itself what it must (`basic/index`, "Per-request protocol fields").
fn complete(message: &Message) -> Result<String, Box<Message>> {
    let invalid = |why: &str| Box::new(Message::error(message.id(), INVALID_PARAMS, &format!("Invalid params: {why}")));
    let twice = |_| invalid("a member stands twice, or in another case");
    let [found] = message.sole([Param::Meta]).map_err(twice)?;
    if found.is_none_or(|found| !found.starts_with('{')) {
        return Err(invalid("_meta is missing"));
    }
    let [version, capabilities] = message.sole([Param::ProtocolVersion, Param::ClientCapabilities]).map_err(twice)?;
    let Some(version) = version else {
        return Err(invalid(&format!("_meta has no {}", meta::PROTOCOL_VERSION)));
    };
    let Ok(version) = serde_json::from_str(version) else {
        return Err(invalid(&format!("{} is no string", meta::PROTOCOL_VERSION)));
    };
    match capabilities {
        None => Err(invalid(&format!("_meta has no {}", meta::CLIENT_CAPABILITIES))),
        Some(object) if object.starts_with('{') => Ok(version),
        Some(_) => Err(invalid(&format!("{} is no object", meta::CLIENT_CAPABILITIES))),
    }
}

/// Which member of its params `Mcp-Name` repeats, and whether a request without the header is refused: the tasks
/// extension asks for it too, but few clients of it give it.
fn named_by(method: &str) -> Option<(Param, &'static str, bool)> {
    match method {
        "tools/call" | "prompts/get" => Some((Param::Name, "name", true)),
        "resources/read" => Some((Param::Uri, "uri", true)),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some((Param::TaskId, "taskId", false)),
        _ => None,
    }
}

fn same(message: &Message, header: &str, given: Option<&str>, body: &str) -> Result<(), Box<Message>> {
    match given {
        None => Err(mismatch(message, &format!("the {header} header is missing"))),
        Some(given) if given == body => Ok(()),
        Some(given) => Err(differs(message, header, given, body)),
    }
}

fn check_name(
    message: &Message,
    given: Option<&str>,
    (name, member, is_required): (Param, &str, bool),
) -> Result<(), Box<Message>> {
    let Ok([body]) = message.sole([name]) else {
        return Err(mismatch(message, &format!("'{member}' stands twice in the body, or in another case")));
    };
    let body = body.and_then(|body| serde_json::from_str::<String>(body).ok());
    match (given.map(decode), body) {
        // Without a name the server has something else to say.
        (None, None) => Ok(()),
        (None, Some(_)) if !is_required => Ok(()),
        (given, Some(body)) => {
            let given = given.transpose().map_err(|_| mismatch(message, "the Mcp-Name header is malformed"))?;
            same(message, "Mcp-Name", given.as_deref(), &body)
        }
        (Some(_), None) => {
            Err(mismatch(message, &format!("the Mcp-Name header is given, but no '{member}' in the body")))
        }
    }
}

fn string(message: &Message, name: Param) -> Option<String> {
    serde_json::from_str(message.noted().value(message.params()?, name)?).ok()
}

/// Whether it is a revision's name: a date.
fn is_date(version: &str) -> bool {
    let is_like = |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    version.len() == 10 && version.bytes().enumerate().all(is_like)
}

/// As much of a value as an error shows.
fn quoted(value: &str) -> &str {
    value.char_indices().nth(QUOTED).map_or(value, |(end, _)| &value[..end])
}

#[cfg(test)]
mod tests;
