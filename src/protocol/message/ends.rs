//! The first and the last bytes of a message that is too long to be kept, and which request it was or answered.
//!
//! Always: only what is sure is told. A member is found from the first byte on, or in front of the last brace, where no
//! string and no inner object can stand.

use super::Id;
use serde_json::value::RawValue;

/// So many bytes of each end are kept: servers write `jsonrpc` and `id` before the result or behind it.
const KEPT_BYTES: usize = 512;

/// Both ends of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ends {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Ends {
    /// Takes the next bytes of it.
    pub fn add(&mut self, part: &[u8]) {
        let missing = KEPT_BYTES - self.first.len();
        self.first.extend_from_slice(&part[..part.len().min(missing)]);
        self.last.extend_from_slice(&part[part.len().saturating_sub(KEPT_BYTES)..]);
        self.last.drain(..self.last.len().saturating_sub(KEPT_BYTES));
    }

    /// The request that the message answers, if it is seen to be an answer, and to which.
    #[must_use]
    pub fn answered(&self) -> Option<Id> {
        let mut id = None;
        let mut rest = self.first.trim_ascii_start().strip_prefix(b"{")?;
        loop {
            let (name, value) = member(rest)?;
            match name {
                b"result" | b"error" => return id.or_else(|| self.last_id()),
                b"jsonrpc" | b"id" => {
                    let text = first_value(value)?;
                    if name == b"id" {
                        id = Some(Id::from_json(text)?);
                    }
                    rest = value[text.len()..].trim_ascii_start().strip_prefix(b",")?;
                }
                _ => return None,
            }
        }
    }

    /// The id of the request that it is, if it is seen to be one: its method is there, and one id only.
    #[must_use]
    pub fn asked(&self) -> Option<Id> {
        let (mut seen, _) = Seen::read(self.first.trim_ascii_start().strip_prefix(b"{")?);
        // Some clients write both before `params`, some the one before and the other behind it, or both behind it.
        let starts = [&b"\"id\""[..], b"\"method\""].map(|name| last_of(&self.last, name));
        for start in starts.into_iter().flatten() {
            if let (last, true) = Seen::read(&self.last[start..]) {
                seen.join(last);
            }
        }
        if seen.is_odd || !seen.method { None } else { seen.id }
    }

    /// The id among the last members.
    fn last_id(&self) -> Option<Id> {
        match Seen::read(&self.last[last_of(&self.last, b"\"id\"")?..]) {
            (Seen { id, method: false, is_odd: false }, true) => id,
            _ => None,
        }
    }
}

/// What some members in a row say.
#[derive(Default)]
struct Seen {
    id: Option<Id>,
    method: bool,
    /// They are not what a request or an answer has, or say two things.
    is_odd: bool,
}

impl Seen {
    /// Reads members up to the first that is none of these or has no end here; says whether they were the last ones
    /// of the message.
    fn read(mut rest: &[u8]) -> (Self, bool) {
        let mut seen = Self::default();
        while let Some((name @ (b"id" | b"jsonrpc" | b"method"), value)) = member(rest) {
            let Some(text) = first_value(value) else { break };
            match name {
                b"id" => seen.join(Self {
                    id: Id::from_json(text),
                    is_odd: Id::from_json(text).is_none(),
                    ..Self::default()
                }),
                b"method" => seen.join(Self { method: true, is_odd: !text.starts_with('"'), ..Self::default() }),
                _ => {}
            }
            let more = value[text.len()..].trim_ascii();
            if more == b"}" {
                return (seen, true);
            }
            let Some(next) = more.strip_prefix(b",") else { break };
            rest = next;
        }
        (seen, false)
    }

    /// Both hold.
    fn join(&mut self, other: Self) {
        let is_other = matches!((&self.id, &other.id), (Some(one), Some(two)) if one != two);
        self.is_odd |= other.is_odd || is_other;
        self.id = self.id.take().or(other.id);
        self.method |= other.method;
    }
}

/// The name of the member that begins here, without escapes, and what stands behind its colon.
fn member(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.trim_ascii_start().strip_prefix(b"\"")?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let value = rest[end..].strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
    Some((&rest[..end], value.trim_ascii_start()))
}

/// The text of the value that begins here.
fn first_value(bytes: &[u8]) -> Option<&str> {
    serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>().next()?.ok().map(RawValue::get)
}

/// Where this name of a member stands last. What stands in front of it shows that it is no part of another name.
fn last_of(bytes: &[u8], name: &[u8]) -> Option<usize> {
    let at = bytes.windows(name.len()).rposition(|window| window == name)?;
    matches!(bytes[..at].trim_ascii_end().last(), Some(b',' | b'{')).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a message, however it is cut: of an answer, or of a request.
    fn check(text: &str, expected: Option<&str>, tell: fn(&Ends) -> Option<Id>) {
        for piece in [1, 7, 500, 513, usize::MAX] {
            let mut ends = Ends::default();
            text.as_bytes().chunks(piece).for_each(|piece| ends.add(piece));
            assert!(ends.first.len() <= KEPT_BYTES && ends.last.len() <= KEPT_BYTES);
            assert_eq!(tell(&ends).as_ref().map(Id::as_json), expected, "{piece}: {text:.80}");
        }
    }

    #[test]
    fn an_answer_tells_its_request_at_either_end() {
        let long = "x".repeat(2000);
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":"@"}"#, Some("7")),
            (r#" { "id" : "a\"b" , "jsonrpc":"2.0","error":{"code":1,"message":"@"}}"#, Some(r#""a\"b""#)),
            ("{\"result\":{\"a\":\"@\"},\"jsonrpc\":\"2.0\",\"id\":7}\r", Some("7")),
            (r#"{"jsonrpc":"2.0","result":["@"], "id":"x" }"#, Some("\"x\"")),
            (r#"{"jsonrpc":"2.0","result":"@","id":1,"jsonrpc":"2.0"}"#, Some("1")),
            // No answers.
            (r#"{"jsonrpc":"2.0","id":7,"method":"m","params":"@"}"#, None),
            (r#"{"method":"m","params":"@","jsonrpc":"2.0","id":7}"#, None),
            (r#"[{"jsonrpc":"2.0","id":7,"result":"@"}]"#, None),
            // The id is another's, a text's, or not to be seen.
            (r#"{"jsonrpc":"2.0","result":{"a":"@","id":7}}"#, None),
            (r#"{"jsonrpc":"2.0","result":"@ \"id\":7}"#, None),
            (r#"{"jsonrpc":"2.0","result":"a","id":7,"other":"@"}"#, None),
            (r#"{"jsonrpc":"2.0","result":"@","id":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":null,"result":"@"}"#, None),
            ("@", None),
        ] {
            check(&text.replace('@', &long), expected, Ends::answered);
        }
    }

    #[test]
    fn a_request_tells_its_id_at_either_end() {
        let long = "x".repeat(2000);
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"m","params":"@"}"#, Some("7")),
            (r#"{"method":"m","params":{"a":["@"]},"jsonrpc":"2.0","id":7}"#, Some("7")),
            (r#"{"method":"m","params":{"id":1,"a":["@"]},"id":"a\"b" , "jsonrpc":"2.0" }"#, Some(r#""a\"b""#)),
            (r#" { "id" : 7 , "params":"@" , "method" : "m" }"#, Some("7")),
            (r#"{"params":"@","id":7,"method":"m","jsonrpc":"2.0"}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","params":"@","method":"m","id":7}"#, Some("7")),
            (r#"{"id":7,"method":"m","params":"@","id":7}"#, Some("7")),
            (r#"{"id":7,"method":"m","_meta":"@"}"#, Some("7")),
            // Notifications, answers and batches.
            (r#"{"jsonrpc":"2.0","method":"m","params":"@"}"#, None),
            (r#"{"jsonrpc":"2.0","id":7,"result":"@"}"#, None),
            (r#"{"result":"@","jsonrpc":"2.0","id":7}"#, None),
            (r#"[{"jsonrpc":"2.0","id":7,"method":"m","params":"@"}]"#, None),
            // The id is another's, a text's, one of two, none, or not to be seen.
            (r#"{"method":"m","params":{"a":"@","id":7}}"#, None),
            (r#"{"method":"m","params":"@ \"id\":7}"#, None),
            (r#"{"method":"m","params":"@","x\"id":7}"#, None),
            (r#"{"id":7,"method":"m","params":"@","id":8}"#, None),
            (r#"{"id":null,"method":"m","params":"@"}"#, None),
            (r#"{"id":7,"method":{},"params":"@"}"#, None),
            (r#"{"id":7,"params":{"a":"@","method":"m"}}"#, None),
            (r#"{"id":7,"method":"@"}"#, None),
            (r#"{"id":"@","method":"m"}"#, None),
            ("@", None),
        ] {
            check(&text.replace('@', &long), expected, Ends::asked);
        }
    }
}
