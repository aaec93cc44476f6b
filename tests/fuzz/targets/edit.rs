//! Finding and editing one member of a JSON text: the first line is the path, its names between tabs; the rest is the
//! text. What was put in is read again, and every other byte stays.

use mcp_proxy::protocol::member;
use mcp_proxy::protocol::sole::sole;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const PUT: &str = r#"{"put":[1.0,"\u00e9"]}"#;

pub fn check(data: &[u8]) {
    let Ok(all) = std::str::from_utf8(data) else { return };
    let Some((path, text)) = all.split_once('\n') else { return };
    let path: Vec<&str> = path.split('\t').take(4).collect();
    let text = text.trim();
    // Only what was found to be JSON comes here; of other text nothing is promised but an end without a panic.
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    let found = member::range(text, &path);
    let with = member::with(text, &path, PUT);
    let without = member::without(text, &path);
    let _ = (member::members(text), member::string(text, &path), sole(text, ["a", "id"]));
    if !is_json {
        return;
    }
    if let Ok(tree) = serde_json::from_str::<Value>(text) {
        let wanted = path.iter().try_fold(&tree, |tree, name| tree.as_object()?.get(*name));
        let read = member::value(text, &path).map(|value| serde_json::from_str::<Value>(value).expect("it is JSON"));
        assert_eq!(read.as_ref(), wanted, "another reader finds something else");
    }
    all_members(text);
    // A name that no reader can write (half of a surrogate pair) hides the whole object.
    if !text.starts_with('{') || member::members(text).is_none() {
        return;
    }
    assert!(serde_json::from_str::<&RawValue>(&with).is_ok(), "an edit leaves JSON: {with}");
    assert!(serde_json::from_str::<&RawValue>(&without).is_ok(), "an edit leaves JSON: {without}");
    assert_eq!(member::value(&with, &path), Some(PUT), "what was put in is read again: {with}");
    assert_eq!(member::value(&without, &path), None, "what was taken away is gone: {without}");
    if let Some(range) = found {
        assert_eq!(with, [&text[..range.start], PUT, &text[range.end..]].concat(), "every other byte stays");
        assert_eq!(member::with(&with, &path, &text[range]), text, "there and back");
    } else {
        assert_eq!(without, text, "what is not there cannot be taken away");
    }
    ambiguity(text);
}

/// The members are those that `serde_json` finds, in the order of the text.
fn all_members(text: &str) {
    let wanted = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok();
    let Some(found) = member::members(text) else {
        assert!(wanted.is_none(), "an object that is not found: {text}");
        return;
    };
    assert!(found.windows(2).all(|pair| pair[0].1.as_ptr() < pair[1].1.as_ptr()), "another order: {text}");
    let wanted = wanted.unwrap_or_else(|| panic!("no object, but found: {text}"));
    let last: BTreeMap<&str, &str> = found.iter().map(|(name, value)| (&**name, *value)).collect();
    let same = wanted.iter().map(|(name, value)| (&**name, value.get()));
    assert!(last.into_iter().eq(same), "another reader finds other members: {text}");
}

/// Either every reader finds the same, or the text is refused.
fn ambiguity(text: &str) {
    let names = ["a", "id"];
    let Some(members) = member::members(text) else { return };
    let alike = |name: &str| members.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    let Ok(found) = sole(text, names) else {
        let is_ambiguous = |name: &&str| alike(name).len() > 1 || alike(name).iter().any(|(known, _)| known != name);
        // The sign for kelvin and the long s fold to letters too.
        let may_be = text.contains(['\u{212a}', 'ſ', '\\']);
        assert!(may_be || names.iter().any(is_ambiguous), "refused without a reason: {text}");
        return;
    };
    for (name, found) in names.iter().zip(found) {
        let alike = alike(name);
        assert!(alike.len() <= 1 && alike.iter().all(|(known, _)| known == name), "two readers differ: {text}");
        assert_eq!(found, alike.first().map(|(_, value)| *value));
    }
}
