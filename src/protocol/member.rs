//! Finds one member deep inside a JSON text, and puts another value in its place. Nothing else is looked at, and
//! every other byte stays what it was.

use super::walk;
use serde_core::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Where the value stands that `path` leads to, through objects only. Of a member that stands twice the last one
/// counts, as most readers have it.
#[must_use]
pub fn range(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let mut value = text;
    for name in path {
        value = member(value, name)?;
    }
    let start = value.as_ptr() as usize - text.as_ptr() as usize;
    Some(start..start + value.len())
}

/// The JSON text of the value that `path` leads to.
#[must_use]
pub fn value<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    range(text, path).map(|range| &text[range])
}

/// The string that `path` leads to, unescaped.
#[must_use]
pub fn string(text: &str, path: &[&str]) -> Option<String> {
    serde_json::from_str(value(text, path)?).ok()
}

/// The text with another value (JSON text) at this place. What is missing on the way is made; a text that is no object
/// becomes one. Every other byte stays.
#[must_use]
pub fn with(text: &str, path: &[&str], value: &str) -> String {
    let Some((name, rest)) = path.split_first() else { return value.to_owned() };
    if let Some(found) = range(text, &[name]) {
        let inner = with(&text[found.clone()], rest, value);
        return [&text[..found.start], &inner, &text[found.end..]].concat();
    }
    let inner = with("", rest, value);
    let member = format!("{}:{inner}", serde_json::Value::from(*name));
    match text.strip_prefix('{') {
        Some(members) if members.trim_start().starts_with('}') => format!("{{{member}{}", members.trim_start()),
        Some(members) => format!("{{{member},{members}"),
        None => format!("{{{member}}}"),
    }
}

/// The text without the member at this place, wherever it stands in its object and however often.
#[must_use]
pub fn without(text: &str, path: &[&str]) -> String {
    let Some((name, before)) = path.split_last() else { return text.to_owned() };
    let Some(object) = range(text, before) else { return text.to_owned() };
    let Some(members) = members(&text[object.clone()]) else { return text.to_owned() };
    if members.iter().all(|(key, _)| key != name) {
        return text.to_owned();
    }
    let kept = members.iter().filter(|(key, _)| key != name);
    let kept: Vec<_> = kept.map(|(key, value)| format!("{}:{value}", serde_json::Value::from(&**key))).collect();
    format!("{}{{{}}}{}", &text[..object.start], kept.join(","), &text[object.end..])
}

/// The members of an object in their order, names unescaped, values as JSON text; `None` where it is no object.
#[must_use]
pub fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    gathered(text, Vec::new, |found, name, value| found.push((name, value)))
}

/// What `see` makes of the members of an object, one after the other, beginning with `start`; `None` where it is no
/// object. No list of them is made: there may be millions.
pub(super) fn gathered<'a, T>(
    text: &'a str,
    start: impl Fn() -> T,
    mut see: impl FnMut(&mut T, Cow<'a, str>, &'a str),
) -> Option<T> {
    let mut found = start();
    if walk::members(text, |name, value| see(&mut found, Cow::Borrowed(name), value)).is_some() {
        return Some(found);
    }
    found = start(); // of what is not plain, some may have been seen
    slow_each(text, |name, value| see(&mut found, name, value)).then_some(found)
}

/// Shows each of them, as `serde_json` reads them. Says whether it is an object; of none, some may have been shown.
fn slow_each<'a>(text: &'a str, see: impl FnMut(Cow<'a, str>, &'a str)) -> bool {
    struct All<F>(F);
    impl<'de, F: FnMut(Cow<'de, str>, &'de str)> Visitor<'de> for All<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                (self.0)(key, map.next_value::<&RawValue>()?.get());
            }
            Ok(())
        }
    }
    text.starts_with('{') && serde_json::Deserializer::from_str(text).deserialize_map(All(see)).is_ok()
}

/// The members, as `serde_json` reads them.
#[cfg(test)]
pub(super) fn slow_members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut found = Vec::new();
    slow_each(text, |name, value| found.push((name, value))).then_some(found)
}

fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let see = |found: &mut Option<&'a str>, known: Cow<'a, str>, value| {
        if known == name {
            *found = Some(value);
        }
    };
    gathered(text, || None, see).flatten()
}

/// A string of the text, copied only where it has escapes; serde's own `Cow` is always a copy.
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;
        impl<'de> Visitor<'de> for Characters {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Characters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_the_path_leads_to() {
        let text = r#"{"a": {"b" : [1, 2], "\u0063":"x\n" }, "b":{"b":7}, "d":1,"d": 2}"#;
        for (path, wanted) in [
            (&["a", "b"][..], Some("[1, 2]")),
            (&["a", "c"], Some(r#""x\n""#)),
            (&["b", "b"], Some("7")),
            (&["d"], Some("2")),
            (&["e"], None),
            (&["a", "b", "c"], None),
            (&["d", "x"], None),
            (&[], Some(text)),
        ] {
            assert_eq!(value(text, path), wanted, "{path:?}");
        }
        assert_eq!(string(text, &["a", "c"]).as_deref(), Some("x\n"));
        assert_eq!(string(text, &["d"]), None);
    }

    #[test]
    fn puts_a_value_where_there_was_none() {
        for (text, path, wanted) in [
            ("", &["a"][..], r#"{"a":1}"#),
            ("{}", &["a"], r#"{"a":1}"#),
            ("{ }", &["a"], r#"{"a":1}"#),
            (r#"{"b":2}"#, &["a"], r#"{"a":1,"b":2}"#),
            (r#"{ "a" : 7, "b":2}"#, &["a"], r#"{ "a" : 1, "b":2}"#),
            (r#"{"b":2}"#, &["a", "c/d"], r#"{"a":{"c/d":1},"b":2}"#),
            (r#"{"a":{"x":"\u0061"}}"#, &["a", "c"], r#"{"a":{"c":1,"x":"\u0061"}}"#),
            (r#"{"a":null}"#, &["a", "c"], r#"{"a":{"c":1}}"#),
        ] {
            assert_eq!(with(text, path, "1"), wanted, "{text} {path:?}");
        }
    }

    #[test]
    fn takes_a_member_away() {
        for (text, path, wanted) in [
            (r#"{"a":1}"#, &["a"][..], "{}"),
            (r#"{"a":1, "b":1e999,"a":2}"#, &["a"], r#"{"b":1e999}"#),
            (r#"{"a": 1}"#, &["b"], r#"{"a": 1}"#),
            (r#"{"x":{"a":1,"b":[ 2]} ,"y":1.0}"#, &["x", "a"], r#"{"x":{"b":[ 2]} ,"y":1.0}"#),
            (r#"{"x":[1]}"#, &["x", "a"], r#"{"x":[1]}"#),
        ] {
            assert_eq!(without(text, path), wanted, "{text} {path:?}");
        }
    }
}
