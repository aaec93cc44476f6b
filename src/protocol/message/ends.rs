//! The first and the last bytes of a message that is too long to be kept, and what it was an answer to.
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

    /// The id among the last members.
    fn last_id(&self) -> Option<Id> {
        let mut rest = &self.last[last_of(&self.last, b"\"id\"")?..];
        let mut id = None;
        loop {
            let (name, value) = member(rest)?;
            let text = first_value(value)?;
            match name {
                b"id" => id = Some(Id::from_json(text)?),
                b"jsonrpc" => {}
                _ => return None,
            }
            match value[text.len()..].trim_ascii() {
                b"}" => return id,
                more => rest = more.strip_prefix(b",")?,
            }
        }
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

fn last_of(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).rposition(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a message, however it is cut.
    fn check(text: &str, expected: Option<&str>) {
        for piece in [1, 7, 500, 513, usize::MAX] {
            let mut ends = Ends::default();
            text.as_bytes().chunks(piece).for_each(|piece| ends.add(piece));
            assert!(ends.first.len() <= KEPT_BYTES && ends.last.len() <= KEPT_BYTES);
            assert_eq!(ends.answered().as_ref().map(Id::as_json), expected, "{piece}: {text:.80}");
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
            check(&text.replace('@', &long), expected);
        }
    }
}
