//! The rounds of one request (2026-07-28, `basic/patterns/mrtr`): what a repeat repeats, and what it brings.

use super::super::super::edit::{Edit, edited};
use super::super::super::member;
use super::super::super::message::Id;
use std::borrow::Cow;

/// What a client calls the question with this number: what the server calls it if that is a text, so that who knows the
/// server knows its questions; else a name of ours.
pub fn name_of(number: u64, id: &Id) -> String {
    let is_like_ours = |text: &str| text.strip_prefix('q').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let text = serde_json::from_str::<String>(id.as_json()).ok();
    text.filter(|text| !is_like_ours(text)).unwrap_or_else(|| format!("q{number}"))
}

/// The params that a repeat has in common with its request.
pub fn repeated(params: &str) -> Cow<'_, str> {
    let members = member::members(params).unwrap_or_default();
    let is_own = |name: &str| ["_meta", "inputResponses", "requestState"].contains(&name);
    edited(params, &members, |name, _| if is_own(name) { Edit::Cut } else { Edit::Keep })
}

/// Whether two JSON texts say the same; of what is too much for a tree, whether they are spelled the same.
pub fn is_same(one: &str, other: &str) -> bool {
    let tree = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || tree(one).is_some_and(|one| tree(other).is_some_and(|other| are_equal(&one, &other)))
}

/// Whether two values are the same; of a whole number it does not matter whether it has a fraction of nothing.
fn are_equal(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Array(one), Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| are_equal(a, b)),
        (Object(one), Object(other)) => {
            let is_there = |(name, a)| other.get(name).is_some_and(|b| are_equal(a, b));
            one.len() == other.len() && one.iter().all(is_there)
        }
        (Number(a), Number(b)) if a.is_f64() != b.is_f64() => a.as_f64() == b.as_f64(),
        _ => one == other,
    }
}

/// The answers that a repeat brings.
pub fn responses(text: Option<&str>) -> Result<Vec<(Cow<'_, str>, &str)>, &'static str> {
    let members = text.map_or(Some(Vec::new()), member::members).ok_or("inputResponses is no object")?;
    let is_object = |(_, value): &(Cow<'_, str>, &str)| value.starts_with('{');
    if members.iter().all(is_object) { Ok(members) } else { Err("a member of inputResponses is no object") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_may_be_written_anew() {
        for (one, other, wanted) in [
            (r#"{"a":1,"b":[{}]}"#, r#"{ "b" : [ {} ] , "\u0061":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, true),
            (r#"{"a":[1e2]}"#, r#"{"a":[100]}"#, true),
            (r#"{"a":1}"#, r#"{"a":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            (r#"{"a":1152921504606846976}"#, r#"{"a":1152921504606846977}"#, false),
            (r#"{"a":"1"}"#, r#"{"a":1}"#, false),
            (r#"{"a":1e999}"#, r#"{"a":1e999}"#, true),
            (r#"{"a":1e999}"#, r#"{"a": 1e999}"#, false),
            ("", "", true),
        ] {
            assert_eq!(is_same(one, other), wanted, "{one} {other}");
            assert_eq!(is_same(other, one), wanted, "{other} {one}");
        }
    }

    #[test]
    fn answers_are_objects() {
        assert_eq!(responses(None), Ok(Vec::new()));
        assert_eq!(responses(Some(r#"{"a": {"b":1.0}}"#)), Ok(vec![("a".into(), r#"{"b":1.0}"#)]));
        for text in ["7", "null", "[]", r#"{"a":1}"#, r#"{"a":{},"b":null}"#] {
            assert!(responses(Some(text)).is_err(), "{text}");
        }
    }
}
