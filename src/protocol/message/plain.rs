//! A quick look at the top level of a message that is written as nearly all are.
//!
//! Always: what is found here is what `serde_json` finds; whatever is unusual, or no JSON, is not found at all. So
//! nothing depends on this file but time: it takes a fourth of the instructions.

use super::{Members, NAMES};
use crate::protocol::member::Text;
use crate::protocol::sole::folds_to;
use crate::protocol::walk;
use std::borrow::Cow;

/// The members of the object that `text` is; `None` where it is none, or not a plain one.
pub fn members(text: &str) -> Option<Members<'_>> {
    let mut found = Members::default();
    let mut is_plain = true;
    let end = walk::members(text, |name, raw| {
        let again = match name {
            "jsonrpc" => found.jsonrpc.replace(raw).is_some(),
            "id" => found.id.replace(raw).is_some(),
            "method" => match plain_string(raw) {
                Some(method) => found.method.replace(method).is_some(),
                None => true,
            },
            "params" => found.params.replace(raw).is_some(),
            "result" => found.result.replace(raw).is_some(),
            "error" => found.error.replace(raw).is_some(),
            _ => {
                found.is_ambiguous |= NAMES.iter().any(|known| folds_to(name, known));
                false
            }
        };
        is_plain &= !again;
    })?;
    (is_plain && text[end..].trim_matches([' ', '\n', '\t', '\r']).is_empty()).then_some(found)
}

/// A string without escapes.
fn plain_string(raw: &str) -> Option<Text<'_>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('\\')).then_some(Text(Cow::Borrowed(inner)))
}

#[cfg(test)]
mod tests {
    use super::super::slow_members;
    use super::*;

    const TEXTS: [&str; 12] = [
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":[1,-2.5e+3]}}}"#,
        r#"{"jsonrpc":"2.0","id":"x-1","result":{"content":[{"type":"text","text":"a\nb\u00e9\"\\ü"}],"isError":false}}"#,
        "{\r\n  \"id\" : \"a\",\r\n\t\"params\": [\n1 ,\r2 ],\n\"method\":\"x\" , \"jsonrpc\" :\"2.0\"\r\n}",
        r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no","data":null},"result":null}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1.0,"progress":0e0}}"#,
        r#"{"jsonrpc":"2.0","method":"a\"\n\u00e9","p\u0061rams":[],"id":1e999}"#,
        r#"{"x":{"id":2,"id":3},"":[[],{},[{}]],"jsonrpc":"2.0","id":-0,"method":"","_meta":[null,true,false]}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
        r#"{"jsonrpc":"2.0","ID":1,"re\u017fult":{},"result":{},"paramſ":1,"id":2}"#,
        r#"{"jsonrpc":"2.0","Error":1,"result":{},"paramſ":1,"id":2}"#,
        r#"{"jsonrpc":2.0,"id":null,"method":7,"params":"x","error":[]}"#,
        r#"{"a":"\ud800\/\b\f\r\t1234567\u12345678 and a long text, long enough for several words of it."}"#,
    ];

    /// What is found here is what `serde_json` finds; says whether anything was.
    fn check(text: &str) -> bool {
        let Some(found) = members(text) else { return false };
        let same = slow_members(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(!same.twice, "{text}");
        assert_eq!((found.jsonrpc, found.id, found.params), (same.jsonrpc, same.id, same.params), "{text}");
        assert_eq!(found.method.map(|method| method.0), same.method.map(|method| method.0), "{text}");
        assert_eq!((found.result, found.error), (same.result, same.error), "{text}");
        assert_eq!(found.is_ambiguous, same.is_ambiguous, "{text}");
        true
    }

    #[test]
    fn plain_messages_are_found() {
        let found: Vec<bool> = TEXTS.iter().map(|text| check(text)).collect();
        assert_eq!(found, [true, true, true, true, true, false, true, false, false, true, false, true]);
    }

    /// Every cut, every byte of each text as every other, left out, and twice.
    #[test]
    fn what_is_found_is_what_serde_finds() {
        let mut count = 0;
        let mut check = |bytes: &[u8]| count += usize::from(std::str::from_utf8(bytes).is_ok_and(check));
        for text in TEXTS.map(str::as_bytes) {
            for at in 0..text.len() {
                check(&text[..at]);
                check(&[&text[..at], &text[at + 1..]].concat());
                check(&[&text[..=at], &text[at..]].concat());
                for byte in 0..=255 {
                    check(&[&text[..at], &[byte], &text[at + 1..]].concat());
                }
            }
        }
        assert!(count > 30_000, "{count}");
    }
}
