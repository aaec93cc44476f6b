//! Takes members out of a JSON object and changes others: every other byte stays, white space included.

use std::borrow::Cow;

/// The members of an object, as `member::members` finds them.
pub type Members<'a> = [(Cow<'a, str>, &'a str)];

/// What becomes of a member.
pub enum Edit {
    /// It stays.
    Keep,
    /// It goes, with its comma.
    Cut,
    /// Its value becomes this one.
    Put(String),
}

/// The object whose members these are, edited.
pub fn edited<'a>(object: &'a str, members: &Members<'a>, edit: impl Fn(&str, &str) -> Edit) -> Cow<'a, str> {
    let mut kept = Vec::new();
    let mut is_same = true;
    let mut start = 1; // behind the brace
    for (name, value) in members {
        let begin = value.as_ptr() as usize - object.as_ptr() as usize;
        let end = begin + value.len();
        // Only white space stands between a value and what ends its member.
        let behind = end + object[end..].find([',', '}']).unwrap_or_default();
        match edit(name, value) {
            Edit::Keep => kept.push(Cow::Borrowed(&object[start..behind])),
            Edit::Cut => is_same = false,
            Edit::Put(new) => {
                is_same = false;
                kept.push(Cow::Owned([&object[start..begin], &new, &object[end..behind]].concat()));
            }
        }
        start = behind + 1;
    }
    if is_same { Cow::Borrowed(object) } else { Cow::Owned(format!("{{{}{}", kept.join(","), &object[start - 1..])) }
}

/// The object with these members (JSON text) before its own.
pub fn led_by(object: &str, members: &str) -> String {
    let rest = object.strip_prefix('{').unwrap_or("}");
    let comma = if members.is_empty() || rest.trim_start().starts_with('}') { "" } else { "," };
    format!("{{{members}{comma}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::member;

    fn check(text: &str, edit: impl Fn(&str, &str) -> Edit, wanted: &str) {
        let members = member::members(text).unwrap();
        assert_eq!(edited(text, &members, edit), wanted, "{text}");
    }

    #[test]
    fn what_stays_keeps_its_bytes() {
        for (text, wanted) in [
            ("{}", "{}"),
            ("{ }", "{ }"),
            (r#"{"x":1}"#, "{}"),
            (r#"{ "x" : 1 , "a":1e999}"#, r#"{ "a":1e999}"#),
            (r#"{"a" : [1, {"x":2}] , "x":1, "b" :2.0 }"#, r#"{"a" : [1, {"x":2}] , "b" :2.0 }"#),
            (r#"{"a":"x,}" , "\u0078":[] }"#, r#"{"a":"x,}" }"#),
            (r#"{"x":1,"a":1,"x":2}"#, r#"{"a":1}"#),
            (r#"{"a":  1}"#, r#"{"a":  1}"#),
        ] {
            check(text, |name, _| if name == "x" { Edit::Cut } else { Edit::Keep }, wanted);
        }
        let put = |name: &str, _: &str| if name == "x" { Edit::Put("7".into()) } else { Edit::Keep };
        check(r#"{"a":1, "x" : {"y":2} }"#, put, r#"{"a":1, "x" : 7 }"#);
    }

    #[test]
    fn members_come_first() {
        for (text, wanted) in [("{}", r#"{"n":0}"#), ("{ }", r#"{"n":0 }"#), (r#"{ "a" : 1}"#, r#"{"n":0, "a" : 1}"#)] {
            assert_eq!(led_by(text, r#""n":0"#), wanted);
        }
        assert_eq!(led_by(r#"{"a":1}"#, ""), r#"{"a":1}"#);
    }
}
