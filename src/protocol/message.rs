//! One JSON-RPC message: the bytes as they were received, and what routing needs to know of them.
//!
//! Nothing is parsed into a tree: only the top level is looked at, the rest is checked to be JSON and skipped.
//! A message leaves with the bytes it came with; only line breaks between its tokens become spaces, so that it
//! is one line wherever one is needed. JSON-RPC 2.0, sections 4 and 5; MCP `basic/index`.

use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// JSON-RPC: the text is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the JSON is no message.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: what went wrong is inside the one who answers. Every error of ours that stands for a server uses it.
pub const INTERNAL_ERROR: i32 = -32603;

/// A request's id with its JSON spelling: `1`, `"1"` and `1.0` are different.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// The JSON text of the id.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Whether a peer that parsed one and wrote it again may have written the other: the same string with
    /// other escapes, the same number with another spelling. Two integers are the same only when their digits are.
    #[must_use]
    pub fn may_be(&self, other: &Id) -> bool {
        if self == other {
            return true;
        }
        match (self.0.starts_with('"'), other.0.starts_with('"')) {
            (true, true) => {
                let text = |id: &Id| serde_json::from_str::<String>(&id.0).ok();
                text(self).is_some_and(|t| Some(t) == text(other))
            }
            (false, false) => {
                let integer = |id: &Id| id.0.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                let number = |id: &Id| id.0.parse::<f64>().ok();
                !(integer(self) && integer(other)) && number(self).is_some_and(|n| Some(n) == number(other))
            }
            _ => false,
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer under this id.
    Request {
        /// The id that the answer will carry.
        id: Id,
        /// The method, unescaped.
        method: Box<str>,
    },
    /// Wants no answer.
    Notification {
        /// The method, unescaped.
        method: Box<str>,
    },
    /// The answer to a request.
    Response {
        /// The id of the request; `None` where an error could not tell which request it answers.
        id: Option<Id>,
    },
}

/// One JSON-RPC message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    kind: Kind,
    params: Option<Range<usize>>,
}

/// Why bytes are no message, and what to answer to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub code: i32,
    /// What is wrong, without quoting the message.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// The bytes are no UTF-8, no JSON, or no JSON-RPC 2.0 message; a batch is none either.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, Invalid> {
        flatten(&mut bytes);
        let (kind, params) = {
            let text = utf8(&bytes)?;
            if text.starts_with('[') {
                return Err(invalid("a batch where one message is expected"));
            }
            look(text)?
        };
        Ok(Self { bytes, kind, params })
    }

    /// Reads one message or a batch of them (2025-03-26, `basic/index`, Batching) and takes the batch apart.
    ///
    /// # Errors
    /// As [`Message::parse`]; an empty batch is invalid, and one bad element makes the batch invalid.
    pub fn parse_all(mut bytes: Vec<u8>) -> Result<Vec<Self>, Invalid> {
        flatten(&mut bytes);
        if bytes.first() != Some(&b'[') {
            return Self::parse(bytes).map(|message| vec![message]);
        }
        let elements: Vec<&RawValue> = serde_json::from_str(utf8(&bytes)?).map_err(|e| explain(&e))?;
        if elements.is_empty() {
            return Err(invalid("an empty batch"));
        }
        elements.into_iter().map(|element| Self::parse(element.get().as_bytes().to_vec())).collect()
    }

    /// An error response of our own: to `id`, or to nobody in particular.
    ///
    /// # Panics
    /// Never: a string is always JSON.
    #[must_use]
    pub fn error(id: Option<&Id>, code: i32, reason: &str) -> Self {
        let reason = serde_json::to_string(reason).expect("a string is always JSON");
        let shown = id.map_or("null", Id::as_json);
        Self {
            bytes: format!(r#"{{"jsonrpc":"2.0","id":{shown},"error":{{"code":{code},"message":{reason}}}}}"#).into(),
            kind: Kind::Response { id: id.cloned() },
            params: None,
        }
    }

    /// The message on one line, without its end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message on one line, without its end.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The method of a request or a notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The JSON text of `params`, if there are any.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        self.params.clone().and_then(|range| std::str::from_utf8(&self.bytes[range]).ok())
    }

    /// The id that a `notifications/cancelled` speaks of (`basic/utilities/cancellation`).
    #[must_use]
    pub fn cancels(&self) -> Option<Id> {
        struct RequestId(Option<Id>);
        impl<'de> Deserialize<'de> for RequestId {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> Visitor<'de> for Fields {
                    type Value = RequestId;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RequestId, A::Error> {
                        let mut found = None;
                        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                            if key == "requestId" {
                                found = request_id(map.next_value::<&RawValue>()?);
                            } else {
                                map.next_value::<IgnoredAny>()?;
                            }
                        }
                        Ok(RequestId(found))
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
        match &self.kind {
            Kind::Notification { method } if &**method == "notifications/cancelled" => {
                serde_json::from_str::<RequestId>(self.params()?).ok()?.0
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Message {
    /// Shows what it is, never what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.kind, self.bytes.len())
    }
}

/// Takes the white space around a message away and makes it one line. A line break inside a JSON string is
/// invalid, so every one that is left stands between two tokens.
fn flatten(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.trim_ascii_end().len());
    let leading = bytes.len() - bytes.trim_ascii_start().len();
    bytes.drain(..leading);
    if bytes.contains(&b'\n') || bytes.contains(&b'\r') {
        for byte in bytes.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
}

/// The whole text is checked first: skipped strings would let invalid UTF-8 pass.
fn utf8(bytes: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(bytes).map_err(|_| Invalid { code: PARSE_ERROR, reason: "it is not UTF-8".into() })
}

fn invalid(reason: &str) -> Invalid {
    Invalid { code: INVALID_REQUEST, reason: reason.into() }
}

/// serde's words may quote the message; only the place is taken from them.
fn explain(error: &serde_json::Error) -> Invalid {
    if error.is_data() {
        return invalid("it is no JSON-RPC message");
    }
    Invalid { code: PARSE_ERROR, reason: format!("it is not JSON (at byte {})", error.column()) }
}

/// An id is a string or a number; MCP forbids `null` (`basic/index`, Requests).
fn request_id(value: &RawValue) -> Option<Id> {
    let text = value.get();
    matches!(text.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| Id(text.into()))
}

/// The top level of a message; `None` where a member is missing.
#[derive(Default)]
struct Members<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
    result: bool,
    error: bool,
    twice: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopLevel;
        impl<'de> Visitor<'de> for TopLevel {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut found = Members::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    match &*key {
                        "jsonrpc" => found.twice |= found.jsonrpc.replace(map.next_value()?).is_some(),
                        "id" => found.twice |= found.id.replace(map.next_value()?).is_some(),
                        "method" => found.twice |= found.method.replace(map.next_value()?).is_some(),
                        "params" => found.twice |= found.params.replace(map.next_value()?).is_some(),
                        "result" => {
                            map.next_value::<IgnoredAny>()?;
                            found.twice |= std::mem::replace(&mut found.result, true);
                        }
                        "error" => {
                            map.next_value::<IgnoredAny>()?;
                            found.twice |= std::mem::replace(&mut found.error, true);
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(TopLevel)
    }
}

/// What the message in `text` is, and where its `params` stand.
fn look(text: &str) -> Result<(Kind, Option<Range<usize>>), Invalid> {
    let found: Members<'_> = serde_json::from_str(text).map_err(|e| explain(&e))?;
    if found.twice {
        // Two readers would disagree on which one counts.
        return Err(invalid("a member stands in it twice"));
    }
    if found.jsonrpc.is_none_or(|version| version.get() != r#""2.0""#) {
        return Err(invalid("it has no \"jsonrpc\": \"2.0\""));
    }
    let params = found.params.map(|raw| {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        start..start + raw.get().len()
    });
    let kind = match (found.method, found.id, found.result || found.error) {
        (Some(_), _, true) => return Err(invalid("it has a method and a result")),
        (Some(method), None, false) => Kind::Notification { method: method.into() },
        (Some(method), Some(id), false) => Kind::Request {
            id: request_id(id).ok_or_else(|| invalid("its id is neither a string nor a number"))?,
            method: method.into(),
        },
        (None, id, true) => Kind::Response {
            id: match id {
                None => None,
                Some(id) if id.get() == "null" => None,
                Some(id) => Some(request_id(id).ok_or_else(|| invalid("its id is neither a string nor a number"))?),
            },
        },
        (None, _, false) => return Err(invalid("it is no request, no notification and no response")),
    };
    Ok((kind, params))
}
