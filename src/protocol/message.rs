//! One JSON-RPC message: the bytes as they were received, and what routing needs to know of them.
//!
//! Nothing is parsed into a tree: only the top level is looked at, the rest is checked to be JSON and skipped.
//! A message leaves with the bytes it came with; only line breaks between its tokens become spaces, so that it
//! is one line wherever one is needed. JSON-RPC 2.0, sections 4 and 5; MCP `basic/index`.

pub mod ends;
mod plain;

use super::member::{self, Text};
use super::noted::{Noted, Param};
use super::sole::{Ambiguous, folds_to};
use memchr::memchr2;
use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// JSON-RPC: the text is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the JSON is no message.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: what went wrong is inside the one who answers. Every error of ours that stands for a server uses it.
pub const INTERNAL_ERROR: i32 = -32603;
/// JSON-RPC: nobody here knows the method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: the params are not what the method takes.
pub const INVALID_PARAMS: i32 = -32602;

/// A request's id with its JSON spelling: `1`, `"1"` and `1.0` are different.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Spelling);

/// The same text is always spelt in the same way here.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Spelling {
    /// Nearly all: no memory has to be found for them.
    Short {
        length: u8,
        bytes: [u8; SHORT],
    },
    Long(Arc<str>),
}

/// As many bytes as there is room for beside a length.
const SHORT: usize = 22;

impl From<&str> for Spelling {
    fn from(text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Id").field(&self.as_json()).finish()
    }
}

impl Id {
    /// The id that JSON text spells; `None` where it is neither a string nor a number.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let is_one = matches!(text.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'));
        (is_one && serde_json::from_str::<&RawValue>(text).is_ok()).then(|| Self(Spelling::from(text)))
    }

    /// A whole number as an id.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(Spelling::from(number.to_string().as_str()))
    }

    /// The JSON text of the id.
    #[must_use]
    pub fn as_json(&self) -> &str {
        match &self.0 {
            // They were a text.
            Spelling::Short { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Spelling::Long(text) => text,
        }
    }

    /// Whether a peer that parsed one and wrote it again may have written the other: the same string with
    /// other escapes, the same number with another spelling. Two integers are the same only when their digits are
    /// (but a minus before zero is easily lost).
    #[must_use]
    pub fn may_be(&self, other: &Id) -> bool {
        if self == other {
            return true;
        }
        match (self.as_json().starts_with('"'), other.as_json().starts_with('"')) {
            (true, true) => {
                let text = |id: &Id| serde_json::from_str::<String>(id.as_json()).ok();
                text(self).is_some_and(|t| Some(t) == text(other))
            }
            (false, false) => {
                let is_whole = |text: &str| text != "-0" && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                let integer = |id: &Id| is_whole(id.as_json());
                // What is too large for a number became infinite, which nobody can write.
                let number = |id: &Id| id.as_json().parse::<f64>().ok().filter(|n| n.is_finite());
                !(integer(self) && integer(other)) && number(self).is_some_and(|n| Some(n) == number(other))
            }
            _ => false,
        }
    }
}

/// The name of a method.
pub type Method = Cow<'static, str>;

/// Those that nearly all requests have, for which no memory has to be found.
fn method_named(name: &str) -> Method {
    macro_rules! known {
        ($($known:literal)*) => {
            match name {
                $($known => Cow::Borrowed($known),)*
                _ => Cow::Owned(name.to_owned()),
            }
        };
    }
    known!(
        "tools/call" "tools/list" "prompts/get" "prompts/list" "resources/read" "resources/list" "ping" "initialize"
        "completion/complete" "logging/setLevel" "sampling/createMessage" "elicitation/create" "roots/list"
        "notifications/progress" "notifications/message" "notifications/cancelled" "notifications/initialized"
        "server/discover" "subscriptions/listen"
    )
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer under this id.
    Request {
        /// The id that the answer will carry.
        id: Id,
        /// The method, unescaped.
        method: Method,
    },
    /// Wants no answer.
    Notification {
        /// The method, unescaped.
        method: Method,
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
    text: String,
    kind: Kind,
    /// It is a response that has an error.
    is_error: bool,
    /// Where its id stands.
    id: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    related: Option<Id>,
    /// Some readers find other members in it than we do.
    is_ambiguous: bool,
    noted: Noted,
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
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Invalid> {
        Self::parse_or_give_back(bytes).map_err(|(invalid, _)| invalid)
    }

    /// Reads one message; what is none comes back, without the white space around it.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn parse_or_give_back(mut bytes: Vec<u8>) -> Result<Self, (Invalid, Vec<u8>)> {
        trim(&mut bytes);
        // The whole text is checked first: skipped strings would let invalid UTF-8 pass.
        let text = String::from_utf8(bytes).map_err(|error| (not_utf8(), error.into_bytes()))?;
        match look(&text) {
            Ok(Seen { kind, is_error, id, params, result, is_ambiguous }) => {
                let (text, noted) = (flat(text), Noted::default());
                Ok(Self { text, kind, is_error, id, params, result, related: None, is_ambiguous, noted })
            }
            Err(invalid) => Err((invalid, text.into_bytes())),
        }
    }

    /// Whether the bytes would be a batch, if they are anything.
    #[must_use]
    pub fn is_batch(bytes: &[u8]) -> bool {
        bytes.trim_ascii_start().first() == Some(&b'[')
    }

    /// Reads one message or a batch of them (2025-03-26, `basic/index`, Batching) and takes the batch apart.
    ///
    /// # Errors
    /// As [`Message::parse`]; an empty batch is invalid, and so is one of more than 4096 messages; one bad element makes
    /// the batch invalid.
    pub fn parse_all(mut bytes: Vec<u8>) -> Result<Vec<Self>, Invalid> {
        trim(&mut bytes);
        if !Self::is_batch(&bytes) {
            return Self::parse(bytes).map(|message| vec![message]);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| not_utf8())?;
        let Batch(messages) = serde_json::from_str(text).map_err(|_| explain(text))?;
        messages.and_then(|found| if found.is_empty() { Err(invalid("an empty batch")) } else { Ok(found) })
    }

    /// An error response of our own: to `id`, or to nobody in particular.
    #[must_use]
    pub fn error(id: Option<&Id>, code: i32, reason: &str) -> Self {
        let reason = serde_json::Value::from(reason);
        Self::response(id, &format!(r#""error":{{"code":{code},"message":{reason}}}"#))
    }

    /// A result of our own to the request `id`; `result` is JSON text.
    #[must_use]
    pub fn result(id: &Id, result: &str) -> Self {
        Self::response(Some(id), &format!(r#""result":{result}"#))
    }

    /// An error response of our own with `data`, which is JSON text.
    #[must_use]
    pub fn error_with(id: Option<&Id>, code: i32, reason: &str, data: &str) -> Self {
        let reason = serde_json::Value::from(reason);
        Self::response(id, &format!(r#""error":{{"code":{code},"message":{reason},"data":{data}}}"#))
    }

    /// A request of our own; `params` is JSON text.
    #[must_use]
    pub fn request(id: &Id, method: &str, params: &str) -> Self {
        let before = r#"{"jsonrpc":"2.0","id":"#;
        let (shown, name) = (id.as_json(), serde_json::Value::from(method));
        let head = format!(r#"{before}{shown},"method":{name},"params":"#);
        let at = head.len()..head.len() + params.len();
        Self {
            text: format!("{head}{params}}}"),
            kind: Kind::Request { id: id.clone(), method: method_named(method) },
            is_error: false,
            id: Some(before.len()..before.len() + shown.len()),
            params: Some(at),
            result: None,
            related: None,
            is_ambiguous: false,
            noted: Noted::default(),
        }
    }

    /// A notification of our own; `params` is JSON text.
    #[must_use]
    pub fn notification(method: &str, params: &str) -> Self {
        let head = format!(r#"{{"jsonrpc":"2.0","method":{},"params":"#, serde_json::Value::from(method));
        let at = head.len()..head.len() + params.len();
        Self {
            text: format!("{head}{params}}}"),
            kind: Kind::Notification { method: method_named(method) },
            is_error: false,
            id: None,
            params: Some(at),
            result: None,
            related: None,
            is_ambiguous: false,
            noted: Noted::default(),
        }
    }

    fn response(id: Option<&Id>, content: &str) -> Self {
        let shown = id.map_or("null", Id::as_json);
        let before = r#"{"jsonrpc":"2.0","id":"#;
        let behind = before.len() + shown.len() + 1 + content.len();
        let result = content.strip_prefix(r#""result":"#).map(|result| behind - result.len()..behind);
        Self {
            text: format!("{before}{shown},{content}}}"),
            kind: Kind::Response { id: id.cloned() },
            is_error: result.is_none(),
            id: id.map(|_| before.len()..before.len() + shown.len()),
            params: None,
            result,
            related: None,
            is_ambiguous: false,
            noted: Noted::default(),
        }
    }

    /// The message on one line, without its end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The message on one line, without its end.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
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
        self.text.get(self.params.clone()?)
    }

    /// The id of a request or a response.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request { id, .. } | Kind::Response { id: Some(id) } => Some(id),
            Kind::Notification { .. } | Kind::Response { id: None } => None,
        }
    }

    /// Whether it is a response that has an error in place of a result.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// The request of this side on whose answer's stream a message of the server came, where the transport tells
    /// (Streamable HTTP).
    #[must_use]
    pub fn related(&self) -> Option<&Id> {
        self.related.as_ref()
    }

    /// The same message, which came on the stream of the answer to this request.
    #[must_use]
    pub fn with_related(mut self, request: &Id) -> Self {
        self.related = Some(request.clone());
        self
    }

    /// The JSON text of `result`, if it is a response that has one.
    #[must_use]
    pub fn result_text(&self) -> Option<&str> {
        if self.is_error { None } else { self.text().get(self.result.clone()?) }
    }

    /// The same message with other `params` (JSON text), which it gets if it had none; every other byte stays. A
    /// response stays as it is.
    #[must_use]
    pub fn with_params(&self, params: &str) -> Self {
        if matches!(self.kind, Kind::Response { .. }) {
            return self.clone();
        }
        let Some(range) = self.params.clone() else {
            let parsed = Self::parse(member::with(self.text(), &["params"], params).into());
            return parsed.map_or_else(|_| self.clone(), |parsed| Self { related: self.related.clone(), ..parsed });
        };
        self.spliced(&range, params, self.kind.clone())
    }

    /// The same response with another `result` (JSON text); every other byte stays. Anything else stays as it is.
    #[must_use]
    pub fn with_result(&self, result: &str) -> Self {
        let range = if self.is_error { None } else { self.result.clone() };
        range.map_or_else(|| self.clone(), |range| self.spliced(&range, result, self.kind.clone()))
    }

    /// The code of the error that a response has.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        if self.is_error { member::value(self.text(), &["error", "code"])?.parse().ok() } else { None }
    }

    /// The JSON text of the whole message.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id that a `notifications/cancelled` speaks of (`basic/utilities/cancellation`).
    #[must_use]
    pub fn cancels(&self) -> Option<Id> {
        match &self.kind {
            Kind::Notification { method } if &**method == "notifications/cancelled" => {
                Id::from_json(member::value(self.params()?, &["requestId"])?)
            }
            _ => None,
        }
    }

    /// The token of a `notifications/progress`, or that under which a request wants to hear of its progress
    /// (`basic/utilities/progress`).
    #[must_use]
    pub fn progress_token(&self) -> Option<Id> {
        let params = self.params()?;
        let path: &[&str] = match &self.kind {
            Kind::Notification { method } if &**method == "notifications/progress" => &["progressToken"],
            // Most requests have none: a look at the text is much quicker than one at its structure.
            Kind::Request { .. } if !may_have_meta(params) => return None,
            Kind::Request { .. } if params.contains("progressToken") => &["_meta", "progressToken"],
            Kind::Request { .. } if params.contains('\\') => &["_meta", "progressToken"],
            _ => return None,
        };
        Id::from_json(member::value(params, path)?)
    }

    /// The same request or response under another id; every other byte stays.
    #[must_use]
    pub fn with_id(&self, id: &Id) -> Self {
        let Some(range) = self.id.clone() else { return self.clone() };
        let kind = match &self.kind {
            Kind::Request { method, .. } => Kind::Request { id: id.clone(), method: method.clone() },
            Kind::Response { .. } => Kind::Response { id: Some(id.clone()) },
            Kind::Notification { .. } => return self.clone(),
        };
        self.spliced(&range, id.as_json(), kind)
    }

    /// The same message with another value (JSON text) at this place of its `params`; unchanged where there is none.
    #[must_use]
    pub fn with_param(&self, path: &[&str], value: &str) -> Self {
        let Some(params) = self.params.clone() else { return self.clone() };
        let Some(found) = self.params().and_then(|params| member::range(params, path)) else { return self.clone() };
        self.spliced(&(params.start + found.start..params.start + found.end), value, self.kind.clone())
    }

    /// The same message with another text in this place; every other byte stays.
    fn spliced(&self, range: &Range<usize>, new: &str, kind: Kind) -> Self {
        let shifted = |at: usize| at + new.len() - range.len();
        let moved = |place: &Range<usize>| match place {
            place if place.start >= range.end => shifted(place.start)..shifted(place.end),
            place if place.end >= range.end => place.start..shifted(place.end),
            place => place.clone(),
        };
        let is_apart = |params: &Range<usize>| params.end <= range.start || params.start >= range.end;
        Self {
            text: [&self.text[..range.start], new, &self.text[range.end..]].concat(),
            kind,
            is_error: self.is_error,
            id: self.id.as_ref().map(moved),
            params: self.params.as_ref().map(moved),
            result: self.result.as_ref().map(moved),
            related: self.related.clone(),
            is_ambiguous: self.is_ambiguous,
            noted: if self.params.as_ref().is_none_or(is_apart) { self.noted.clone() } else { Noted::default() },
        }
    }

    /// Whether some readers find other members in it than we do: a name stands in it in another case.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    /// What of its params is asked for again and again.
    pub(super) fn noted(&self) -> &Noted {
        &self.noted
    }

    /// These members of its params, if every reader finds the same: JSON texts.
    ///
    /// # Errors
    /// One of them stands there twice, or its name does in another case.
    pub(super) fn sole<const N: usize>(&self, names: [Param; N]) -> Result<[Option<&str>; N], Ambiguous> {
        self.noted.sole(self.params().unwrap_or_default(), names)
    }
}

impl fmt::Debug for Message {
    /// Shows what it is, never what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.kind, self.text.len())
    }
}

/// Takes the white space around a message away.
fn trim(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.trim_ascii_end().len());
    if bytes.first().is_some_and(u8::is_ascii_whitespace) {
        let leading = bytes.len() - bytes.trim_ascii_start().len();
        bytes.drain(..leading);
    }
}

/// Makes a message one line. Only for what was found to be JSON: there, a line break stands between two tokens,
/// because a string has none. Places in the text stay what they were.
fn flat(text: String) -> String {
    if memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return text;
    }
    let mut bytes = text.into_bytes();
    for byte in bytes.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    String::from_utf8(bytes).expect("one character of ASCII for another")
}

/// Whether `_meta` may be among these params; spelt with escapes if need be.
#[must_use]
pub fn may_have_meta(params: &str) -> bool {
    memchr2(b'_', b'\\', params.as_bytes()).is_some()
}

fn not_utf8() -> Invalid {
    Invalid { code: PARSE_ERROR, reason: "it is not UTF-8".into() }
}

fn invalid(reason: &str) -> Invalid {
    Invalid { code: INVALID_REQUEST, reason: reason.into() }
}

/// Why `text` could not be read: it is no JSON, else it is JSON of another shape. A first error does not tell
/// which (it may stand before the place where the JSON ends to be JSON), so the whole text is looked at once more.
/// serde's words may quote the message; only the place is taken from them.
fn explain(text: &str) -> Invalid {
    let Err(error) = serde_json::from_str::<IgnoredAny>(text) else {
        return invalid("it is no JSON-RPC message");
    };
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    Invalid { code: PARSE_ERROR, reason: format!("it is not JSON (at byte {})", before + error.column()) }
}

/// An id is a string or a number; MCP forbids `null` (`basic/index`, Requests).
fn request_id(text: &str) -> Option<Id> {
    matches!(text.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| Id(Spelling::from(text)))
}

/// Where a part of `text` stands in it.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// The members that a message may have.
const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// The top level of a message; `None` where a member is missing.
#[derive(Default)]
struct Members<'a> {
    jsonrpc: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<Text<'a>>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
    twice: bool,
    /// Another name is taken for one of [`NAMES`] by some readers.
    is_ambiguous: bool,
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
                while let Some(Text(key)) = map.next_key()? {
                    found.twice |= match &*key {
                        "jsonrpc" => found.jsonrpc.replace(map.next_value::<&RawValue>()?.get()).is_some(),
                        "id" => found.id.replace(map.next_value::<&RawValue>()?.get()).is_some(),
                        "method" => found.method.replace(map.next_value()?).is_some(),
                        "params" => found.params.replace(map.next_value::<&RawValue>()?.get()).is_some(),
                        "result" => found.result.replace(map.next_value::<&RawValue>()?.get()).is_some(),
                        "error" => found.error.replace(map.next_value::<&RawValue>()?.get()).is_some(),
                        name => {
                            found.is_ambiguous |= NAMES.iter().any(|known| folds_to(name, known));
                            map.next_value::<IgnoredAny>().map(|_| false)?
                        }
                    };
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(TopLevel)
    }
}

/// The messages of a batch, or what is wrong with the first that is none. They are read one by one: a list of
/// bad elements needs no memory.
struct Batch(Result<Vec<Message>, Invalid>);

/// A batch has no more messages: each costs more memory than its text.
const BATCH_MESSAGES: usize = 4096;

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Batch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Batch, A::Error> {
                let mut messages = Ok(Vec::new());
                while let Some(element) = elements.next_element::<&RawValue>()? {
                    if let Ok(found) = &mut messages {
                        if found.len() == BATCH_MESSAGES {
                            messages = Err(invalid(&format!("a batch of more than {BATCH_MESSAGES} messages")));
                            continue;
                        }
                        match Message::parse(element.get().into()) {
                            Ok(message) => found.push(message),
                            Err(invalid) => messages = Err(invalid),
                        }
                    }
                }
                Ok(Batch(messages))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// What a look at a message shows; places are those in its text.
struct Seen {
    kind: Kind,
    is_error: bool,
    id: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    is_ambiguous: bool,
}

/// The top level as `serde_json` reads it.
fn slow_members(text: &str) -> serde_json::Result<Members<'_>> {
    serde_json::from_str(text)
}

/// What the message in `text` is, and where its id and its `params` stand.
fn look(text: &str) -> Result<Seen, Invalid> {
    let found = match plain::members(text) {
        Some(found) => found,
        None => slow_members(text).map_err(|_| match explain(text) {
            Invalid { code: INVALID_REQUEST, .. } if text.starts_with('[') => {
                invalid("a batch where one message is expected")
            }
            other => other,
        })?,
    };
    if found.twice {
        // Two readers would disagree on which one counts.
        return Err(invalid("a member stands in it twice"));
    }
    if found.jsonrpc.is_none_or(|version| version != r#""2.0""#) {
        return Err(invalid("it has no \"jsonrpc\": \"2.0\""));
    }
    let params = found.params.map(|raw| place(text, raw));
    let id = found.id.filter(|id| *id != "null").map(|raw| place(text, raw));
    let is_error = match (&found.result, &found.error) {
        (None, Some(_)) => true,
        (Some(_), Some(error)) => *error != "null",
        (_, None) => false,
    };
    let result = found.result.map(|raw| place(text, raw));
    let is_ambiguous = found.is_ambiguous;
    Ok(Seen { kind: kind(found)?, is_error, id, params, result, is_ambiguous })
}

/// A response may have both `result` and `error`: some servers write `null` for the one that it is not.
fn kind(found: Members<'_>) -> Result<Kind, Invalid> {
    let id = found.id.filter(|id| found.method.is_some() || *id != "null");
    let id =
        id.map(|id| request_id(id).ok_or_else(|| invalid("its id is neither a string nor a number"))).transpose()?;
    match (found.method, found.result.is_some(), found.error.is_some()) {
        (Some(Text(method)), false, false) => Ok(match id {
            Some(id) => Kind::Request { id, method: method_named(&method) },
            None => Kind::Notification { method: method_named(&method) },
        }),
        (Some(_), _, _) => Err(invalid("it has a method and a result")),
        (None, false, false) => Err(invalid("it is no request, no notification and no response")),
        (None, true, false) if id.is_none() => Err(invalid("it has a result but no id")),
        (None, _, _) => Ok(Kind::Response { id }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: &str =
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":[1]}}}"#;
    const PRETTY: &str =
        "\r\n{\r\n  \"id\" : \"a\",\r\n\t\"params\": [\n1,\r2 ],\n\"method\":\"x\",\"jsonrpc\":\"2.0\"\r\n}\n";

    fn message(text: &str) -> Message {
        Message::parse(text.into()).unwrap_or_else(|invalid| panic!("{invalid}: {text}"))
    }

    fn id(json: &str) -> Id {
        Id(Spelling::from(json))
    }

    fn request(id_json: &str) -> Kind {
        Kind::Request { id: id(id_json), method: "x".into() }
    }

    fn notification() -> Kind {
        Kind::Notification { method: "x".into() }
    }

    fn response(id_json: Option<&str>) -> Kind {
        Kind::Response { id: id_json.map(id) }
    }

    /// One message: what it is, and that its bytes are what came in.
    fn check(text: &str, kind: &Kind) {
        let found = message(text);
        assert_eq!(found.kind(), kind, "{text}");
        assert_eq!(found.bytes(), text.as_bytes());
        assert_eq!(found.clone().into_bytes(), text.as_bytes());
        assert_eq!(Message::parse_all(text.into()), Ok(vec![found]));
    }

    #[test]
    fn a_message_is_what_its_members_say() {
        check(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, &request("1"));
        check(r#"{"method":"x","id":1,"jsonrpc":"2.0"}"#, &request("1"));
        check(r#"{"jsonrpc":"2.0","method":"x"}"#, &notification());
        check(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, &response(Some("1")));
        check(r#"{"jsonrpc":"2.0","id":1,"result":null}"#, &response(Some("1")));
        check(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#, &response(Some("1")));
        check(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no"}}"#, &response(None));
        check(r#"{"jsonrpc":"2.0","error":{"code":1,"message":"no"}}"#, &response(None));
    }

    #[test]
    fn a_response_may_have_null_for_what_it_is_not() {
        check(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, &response(Some("1")));
        check(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"no"}}"#, &response(Some("1")));
        check(r#"{"jsonrpc":"2.0","id":null,"result":null,"error":{"code":1,"message":"no"}}"#, &response(None));
    }

    #[test]
    fn an_id_keeps_its_spelling() {
        let spellings = ["1", r#""1""#, "1.0", "1e3", "1E+3", "-1", "-0", "0", "1152921504606846976", "1e999"];
        for spelling in spellings.into_iter().chain([r#""\u0061""#, r#""""#, r#""é\"\\ ""#, r#""\ud800""#]) {
            check(&format!(r#"{{"jsonrpc":"2.0","id": {spelling} ,"method":"x"}}"#), &request(spelling));
            check(&format!(r#"{{"jsonrpc":"2.0","id": {spelling} ,"result":1}}"#), &response(Some(spelling)));
            assert_eq!(id(spelling).as_json(), spelling);
        }
    }

    #[test]
    fn what_nobody_knows_is_kept() {
        check(r#"{"x":{"id":2},"jsonrpc":"2.0","id":1,"method":"x","_meta":[null,1e999],"x":0}"#, &request("1"));
        check(r#"{"jsonrpc":"2.0","method":"x","é\ud83d\ude00":"\u0000 \ud800"}"#, &notification());
        check(r#"{"jsonrpc":"2.0","method":"x","ID":1,"Result":1}"#, &notification());
        check(r#"{"jsonrpc" : "2.0" ,  "method":"x" }"#, &notification());
    }

    #[test]
    fn keys_and_methods_may_have_escapes() {
        check(r#"{"\u006asonrpc":"2.0","\u0069d":1,"method":"\u0078"}"#, &request("1"));
        let found = message(r#"{"jsonrpc":"2.0","\u006dethod":"a\"\n\u00e9","p\u0061rams":[]}"#);
        assert_eq!((found.method(), found.params()), (Some("a\"\né"), Some("[]")));
    }

    #[test]
    fn params_are_the_text_that_came() {
        let check = |text, params| assert_eq!(message(text).params(), params);
        check(PARAMS, Some(r#"{"name":"echo","arguments":{"a":[1]}}"#));
        check(r#"  {"jsonrpc":"2.0","params" :  [1, 2]  ,"method":"x"}"#, Some("[1, 2]"));
        check(r#"{"é":"é","jsonrpc":"2.0","params":{"é":1},"method":"x"}"#, Some(r#"{"é":1}"#));
        check("{\"jsonrpc\":\"2.0\",\"params\":\n{\n},\"method\":\"x\"}", Some("{ }"));
        check(r#"{"jsonrpc":"2.0","method":"x","params":null}"#, Some("null"));
        check(r#"{"jsonrpc":"2.0","method":"x"}"#, None);
        check(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None);
        assert_eq!(message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).method(), None);
    }

    #[test]
    fn a_message_on_many_lines_becomes_one_and_keeps_all_other_bytes() {
        let found = message(PRETTY);
        assert_eq!(found.bytes(), PRETTY.trim().replace(['\r', '\n'], " ").as_bytes());
        assert_eq!(found.kind(), &Kind::Request { id: id(r#""a""#), method: "x".into() });
        assert_eq!(found.params(), Some("[ 1, 2 ]"));
        assert_eq!(Message::parse_all(PRETTY.into()), Ok(vec![found]));
    }

    fn check_invalid(bytes: &[u8], code: i32, reason: &str) {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(99)]);
        let expected = Invalid { code, reason: reason.into() };
        assert_eq!(Message::parse(bytes.into()), Err(expected.clone()), "{shown}");
        if !shown.trim().starts_with('[') {
            assert_eq!(Message::parse_all(bytes.into()), Err(expected), "{shown}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_parse_error() {
        let check = |bytes: &[u8], reason| check_invalid(bytes, PARSE_ERROR, reason);
        check(b"", "it is not JSON (at byte 0)");
        check(b" \r\n", "it is not JSON (at byte 0)");
        check(b"hello", "it is not JSON (at byte 1)");
        check(b"{'a':1}", "it is not JSON (at byte 2)");
        check(b"[1", "it is not JSON (at byte 2)");
        check(b"1 2", "it is not JSON (at byte 3)");
        check(b"{}{}", "it is not JSON (at byte 3)");
        check(b"{\"method\":5,}", "it is not JSON (at byte 13)");
        check(b"{\n\"a\":1,\r\n\"b\":x}", "it is not JSON (at byte 15)");
        check("{\"é\":x}".as_bytes(), "it is not JSON (at byte 7)");
        check("\u{feff}{}".as_bytes(), "it is not JSON (at byte 1)");
        check(br#"{"jsonrpc":"2.0","method":"x"} trailing"#, "it is not JSON (at byte 32)");
        check(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"a\":\"\xff\"}", "it is not UTF-8");
        check(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"a\":\"\xed\xa0\x80\"}", "it is not UTF-8");
    }

    #[test]
    fn a_line_break_inside_a_string_is_no_json() {
        for line_break in ["\n", "\r", "\r\n"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"a":"b{line_break}c"}}}}"#);
            assert_eq!(Message::parse(text.clone().into()).map_err(|invalid| invalid.code), Err(PARSE_ERROR));
            let batch = format!("[{text}]");
            assert_eq!(Message::parse_all(batch.into()).map_err(|invalid| invalid.code), Err(PARSE_ERROR));
        }
    }

    #[test]
    fn json_that_is_no_message_is_an_invalid_request() {
        let check = |text: &str, reason| check_invalid(text.as_bytes(), INVALID_REQUEST, reason);
        for text in ["null", "1", "1e999", r#""x""#, "true", r#"{"jsonrpc":"2.0","method":5}"#] {
            check(text, "it is no JSON-RPC message");
        }
        check(r#"{"jsonrpc":"2.0","id":1,"method":null}"#, "it is no JSON-RPC message");
        check(r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, "it is no JSON-RPC message");
        for version in ["", r#""jsonrpc":"1.0","#, r#""jsonrpc":2.0,"#, r#""jsonrpc":null,"#] {
            check(&format!(r#"{{{version}"method":"x"}}"#), "it has no \"jsonrpc\": \"2.0\"");
        }
        for id in ["null", "true", "false", "{}", "[1]"] {
            let reason = "its id is neither a string nor a number";
            check(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#), reason);
            let reason = if id == "null" { "it has a result but no id" } else { reason };
            check(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#), reason);
        }
        check(r#"{"jsonrpc":"2.0","result":1}"#, "it has a result but no id");
        check(r#"{"jsonrpc":"2.0"}"#, "it is no request, no notification and no response");
        check(r#"{"jsonrpc":"2.0","id":1,"params":{}}"#, "it is no request, no notification and no response");
        check(r#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#, "it has a method and a result");
        check(r#"{"jsonrpc":"2.0","method":"x","error":{}}"#, "it has a method and a result");
        check("[1]", "a batch where one message is expected");
        check(" []", "a batch where one message is expected");
    }

    #[test]
    fn no_member_may_stand_in_it_twice() {
        let members = [r#""jsonrpc":"2.0""#, r#""id":1"#, r#""method":"x""#, r#""params":{}"#];
        for twice in members.into_iter().chain([r#""\u0069d":1"#]) {
            let text = format!("{{{},{twice}}}", members.join(","));
            check_invalid(text.as_bytes(), INVALID_REQUEST, "a member stands in it twice");
        }
        for twice in [r#""result":1"#, r#""error":{}"#] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{twice},{twice}}}"#);
            check_invalid(text.as_bytes(), INVALID_REQUEST, "a member stands in it twice");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_no_json() {
        let batch = format!("[{PARAMS},{}]", PRETTY.trim());
        for text in [PARAMS, PRETTY.trim(), &batch, r#"{"jsonrpc":"2.0","id":"é","error":{"message":"\u00e9"}}"#] {
            for length in 0..text.len() {
                let bytes = &text.as_bytes()[..length];
                let code = Message::parse(bytes.into()).map_err(|invalid| invalid.code);
                assert_eq!(code, Err(PARSE_ERROR), "{length} bytes of {text}");
                let code = Message::parse_all(bytes.into()).map_err(|invalid| invalid.code);
                assert_eq!(code, Err(PARSE_ERROR), "{length} bytes of {text}");
            }
        }
    }

    #[test]
    fn no_depth_is_too_deep() {
        let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
        let objects = r#"{"a":"#.repeat(10_000);
        for text in [&open, &format!("{open}{close}"), &objects] {
            assert!(Message::parse(text.clone().into()).is_err());
            assert!(Message::parse_all(text.clone().into()).is_err());
        }
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"a":{open}{close}}}}}"#);
        assert_eq!(message(&text).bytes(), text.as_bytes());
        assert_eq!(message(&text).cancels(), None);
        let cut = text.replace(&close, "");
        assert_eq!(Message::parse(cut.into()).map_err(|invalid| invalid.code), Err(PARSE_ERROR));
    }

    #[test]
    fn a_batch_is_taken_apart() {
        let one = r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#;
        let batch = format!("\r\n[ {one} ,\n{PRETTY},{one}\r\n]\n");
        assert_eq!(Message::parse_all(batch.into()), Ok(vec![message(one), message(PRETTY), message(one)]));
    }

    #[test]
    fn a_batch_has_a_limit() {
        let batch = |count| format!("[{}]", vec![r#"{"jsonrpc":"2.0","method":"m"}"#; count].join(","));
        assert_eq!(Message::parse_all(batch(BATCH_MESSAGES).into()).map(|found| found.len()), Ok(BATCH_MESSAGES));
        for count in [BATCH_MESSAGES + 1, 3 * BATCH_MESSAGES] {
            let found = Message::parse_all(batch(count).into()).map_err(|invalid| invalid.reason);
            assert_eq!(found, Err("a batch of more than 4096 messages".into()));
        }
    }

    #[test]
    fn one_bad_element_spoils_a_batch() {
        let one = r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#;
        let no_message = "it is no JSON-RPC message";
        for (batch, code, reason) in [
            ("[]".to_owned(), INVALID_REQUEST, "an empty batch"),
            (" [ \n] ".to_owned(), INVALID_REQUEST, "an empty batch"),
            ("[1]".to_owned(), INVALID_REQUEST, no_message),
            (format!("[{one},1,{{}}]"), INVALID_REQUEST, no_message),
            (format!("[{one},[{one}]]"), INVALID_REQUEST, "a batch where one message is expected"),
            (format!("[{one},{{}}]"), INVALID_REQUEST, "it has no \"jsonrpc\": \"2.0\""),
            ("[1,x]".to_owned(), PARSE_ERROR, "it is not JSON (at byte 4)"),
            (format!("[{one}]]"), PARSE_ERROR, "it is not JSON (at byte 40)"),
            (format!("[{one},]"), PARSE_ERROR, "it is not JSON (at byte 40)"),
        ] {
            let expected = Invalid { code, reason: reason.into() };
            assert_eq!(Message::parse_all(batch.clone().into()), Err(expected), "{batch}");
        }
    }

    #[test]
    fn an_error_of_ours_is_a_message() {
        for reason in ["no", "", "\"quoted\" \\ and\r\n\ton two lines", "é😀\0\u{7f}\u{2028}"] {
            for to in [None, Some(id("7")), Some(id("1.0")), Some(id(r#""\u0061\"""#))] {
                let error = Message::error(to.as_ref(), INTERNAL_ERROR, reason);
                assert_eq!(Message::parse(error.bytes().into()), Ok(error.clone()), "{reason}");
                assert_eq!(error.kind(), &Kind::Response { id: to.clone() });
                let tree: serde_json::Value = serde_json::from_slice(error.bytes()).unwrap();
                assert_eq!(tree["error"]["message"], reason);
                assert_eq!(tree["error"]["code"], INTERNAL_ERROR);
                let to: serde_json::Value = serde_json::from_str(to.as_ref().map_or("null", Id::as_json)).unwrap();
                assert_eq!(tree["id"], to);
            }
        }
    }

    #[test]
    fn a_cancellation_names_a_request() {
        let check = |method: &str, params: &str, expected: Option<&str>| {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#);
            assert_eq!(message(&text).cancels(), expected.map(id), "{text}");
        };
        let cancelled = "notifications/cancelled";
        check(cancelled, r#","params":{"requestId":7}"#, Some("7"));
        check(
            cancelled,
            r#","params":{"reason":"\n","requestId": "\u0061" ,"x":{"requestId":1}}"#,
            Some(r#""\u0061""#),
        );
        check(cancelled, r#","params":{"request\u0049d":1.0}"#, Some("1.0"));
        check(r"notifications\/cancelled", r#","params":{"requestId":7}"#, Some("7"));
        check(cancelled, "", None);
        for params in ["null", "[]", "[7]", "{}", "7", r#"{"requestId":null}"#, r#"{"requestId":[7]}"#, r#"{"id":7}"#] {
            check(cancelled, &format!(r#","params":{params}"#), None);
        }
        check("notifications/progress", r#","params":{"requestId":7}"#, None);
        check(cancelled, r#","id":1,"params":{"requestId":7}"#, None);
    }

    #[test]
    fn an_id_may_come_back_in_another_spelling() {
        for (one, other, expected) in [
            ("1", "1", true),
            ("1", "1.0", true),
            ("1e3", "1000", true),
            ("1e3", "1000.0", true),
            ("1E0", "1e-0", true),
            ("-0", "0", true),
            ("0", "-0.0", true),
            ("1152921504606846976", "1152921504606846977", false),
            ("1152921504606846976", "1.152921504606847e18", true),
            ("1", "2", false),
            ("1", "-1", false),
            ("1.5", "1", false),
            ("1e999", "1e999", true),
            ("1e999", "1e998", false),
            ("1", r#""1""#, false),
            (r#""1""#, r#""1.0""#, false),
            (r#""a""#, r#""\u0061""#, true),
            (r#""é/""#, r#""\u00E9\/""#, true),
            (r#""😀""#, r#""\ud83d\ude00""#, true),
            (r#""a""#, r#""A""#, false),
            (r#""""#, r#"" ""#, false),
            (r#""\ud800""#, r#""\ud801""#, false),
            (r#""\ud800""#, r#""\ud800""#, true),
        ] {
            assert_eq!(id(one).may_be(&id(other)), expected, "{one} {other}");
            assert_eq!(id(other).may_be(&id(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_message_is_never_shown() {
        let shown = r#"Request { id: Id("7"), method: "tools/call" } (93 bytes)"#;
        assert_eq!(format!("{:?}", message(PARAMS)), shown);
    }

    #[test]
    fn another_id_changes_nothing_else() {
        for (text, new, wanted) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"id":7}}"#,
                "\"abc\"",
                r#"{"jsonrpc":"2.0","id":"abc","method":"x","params":{"id":7}}"#,
            ),
            (
                r#"{"params":{"a" : 1} , "method":"x","id" : "long one" ,"jsonrpc":"2.0"}"#,
                "1",
                r#"{"params":{"a" : 1} , "method":"x","id" : 1 ,"jsonrpc":"2.0"}"#,
            ),
            (r#"{"id":7,"jsonrpc":"2.0","result":{}}"#, "12345", r#"{"id":12345,"jsonrpc":"2.0","result":{}}"#),
            (r#"{"jsonrpc":"2.0","method":"x","params":{}}"#, "1", r#"{"jsonrpc":"2.0","method":"x","params":{}}"#),
        ] {
            let before = message(text);
            let after = before.with_id(&id(new));
            assert_eq!(after.text(), wanted);
            assert_eq!(after, message(wanted), "{text}");
            assert_eq!(after.params(), before.params());
        }
    }

    #[test]
    fn another_param_changes_nothing_else() {
        let before =
            message(r#"{"params":{"_meta":{ "progressToken" : 5 },"z":"\u0041"},"method":"m","id":3,"jsonrpc":"2.0"}"#);
        assert_eq!(before.progress_token(), Some(id("5")));
        let after = before.with_param(&["_meta", "progressToken"], "\"other\"");
        let wanted =
            r#"{"params":{"_meta":{ "progressToken" : "other" },"z":"\u0041"},"method":"m","id":3,"jsonrpc":"2.0"}"#;
        assert_eq!(after, message(wanted));
        assert_eq!(after.with_id(&id("4")).text(), wanted.replace(":3", ":4"));
        assert_eq!(after.with_param(&["no"], "1"), after);
    }

    #[test]
    fn progress_is_known_by_its_token() {
        for (method, params, wanted) in [
            ("notifications/progress", r#"{"progressToken":"a","progress":1}"#, Some("\"a\"")),
            ("notifications/progress", r#"{"progress":1}"#, None),
            ("notifications/message", r#"{"progressToken":"a"}"#, None),
        ] {
            let found = message(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#));
            assert_eq!(found.progress_token(), wanted.map(id), "{method} {params}");
        }
        let request = |params: &str| message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#));
        assert_eq!(request(r#"{"_meta":{"progress\u0054oken":1}}"#).progress_token(), Some(id("1")));
        assert_eq!(request(r#"{"progressToken":1}"#).progress_token(), None);
        assert!(message(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#).is_error());
        assert!(!message(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#).is_error());
        assert!(Message::error(None, 1, "").is_error() && !Message::result(&id("1"), "{}").is_error());
        assert_eq!(Message::result(&id("\"x\""), "{}"), message(r#"{"jsonrpc":"2.0","id":"x","result":{}}"#));
    }
}
