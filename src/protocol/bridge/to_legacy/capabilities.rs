//! What clients declare, in both eras, and what a server may ask of them for it.

use super::super::super::member;
use super::super::super::message::{INVALID_PARAMS, METHOD_NOT_FOUND};
use super::super::super::modern::meta::declares;

/// What a modern client declared, as a legacy server is told it: only what both eras know, always in the same order and
/// spelling, so that clients that can do the same can share a link, and nobody can ask for ever new ones.
///
/// Nothing of ours tells that roots have changed, so that is not promised.
#[must_use]
pub fn legacy_capabilities(modern_capabilities: &str) -> String {
    if modern_capabilities == "{}" {
        return "{}".to_owned();
    }
    let has = |path: &[&str]| declares(modern_capabilities, path);
    let kinds = |name: &str, kinds: [&str; 2], default: &str| {
        let mut found: Vec<_> = kinds.into_iter().filter(|kind| has(&[name, kind])).collect();
        if found.is_empty() && !default.is_empty() {
            found.push(default);
        }
        let found: Vec<_> = found.into_iter().map(|kind| format!(r#""{kind}":{{}}"#)).collect();
        format!(r#""{name}":{{{}}}"#, found.join(","))
    };
    let mut all = Vec::new();
    if has(&["elicitation"]) {
        all.push(kinds("elicitation", ["form", "url"], "form"));
    }
    if has(&["roots"]) {
        all.push(r#""roots":{}"#.to_owned());
    }
    if has(&["sampling"]) {
        all.push(kinds("sampling", ["context", "tools"], ""));
    }
    format!("{{{}}}", all.join(","))
}

/// Whether a client with these capabilities may be asked anything.
pub fn may_be_asked(capabilities: &str) -> bool {
    ["roots", "sampling", "elicitation"].iter().any(|name| declares(capabilities, &[name]))
}

/// Whether a client with these capabilities opens a URL for its user.
pub fn opens_urls(capabilities: &str) -> bool {
    declares(capabilities, &["elicitation", "url"])
}

/// Why a client with these capabilities may not be asked this: a code and its reason.
pub fn lacks(capabilities: &str, method: &str, params: &str) -> Option<(i32, String)> {
    let name = method.split('/').next().unwrap_or_default();
    if !declares(capabilities, &[name]) {
        return Some((METHOD_NOT_FOUND, format!("the client did not declare the capability '{name}'")));
    }
    let needed = match name {
        "elicitation" if member::string(params, &["mode"]).as_deref() == Some("url") => "url",
        // To declare no mode is to declare this one.
        "elicitation" if opens_urls(capabilities) => "form",
        "sampling" if declares(params, &["tools"]) || declares(params, &["toolChoice"]) => "tools",
        _ => return None,
    };
    let reason = || format!("the client did not declare the capability '{name}.{needed}'");
    (!declares(capabilities, &[name, needed])).then(|| (INVALID_PARAMS, reason()))
}

/// What a client must declare to be asked this: capabilities as JSON text.
pub fn required(method: &str, params: &str) -> &'static str {
    match method.split('/').next().unwrap_or_default() {
        "elicitation" if member::string(params, &["mode"]).as_deref() == Some("url") => r#"{"elicitation":{"url":{}}}"#,
        "elicitation" => r#"{"elicitation":{}}"#,
        "sampling" if declares(params, &["tools"]) || declares(params, &["toolChoice"]) => {
            r#"{"sampling":{"tools":{}}}"#
        }
        "sampling" => r#"{"sampling":{}}"#,
        _ => r#"{"roots":{}}"#,
    }
}

/// What a legacy server can do, as a modern client is told it: not what only one era knows.
pub fn of_server(legacy: &str) -> String {
    ["tasks", "extensions"].iter().fold(legacy.to_owned(), |kept, name| member::without(&kept, &[name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_eras_know_makes_a_link() {
        for (modern, legacy) in [
            ("{}", "{}"),
            ("7", "{}"),
            (r#"{"roots":{"listChanged":true},"x":{"y":1}}"#, r#"{"roots":{}}"#),
            (r#"{"sampling":{},"roots":{}}"#, r#"{"roots":{},"sampling":{}}"#),
            (r#"{"sampling":{"tools":{"a":1},"z":{},"context":{}}}"#, r#"{"sampling":{"context":{},"tools":{}}}"#),
            (r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{"form":{}}}"#, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{"url":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, r#"{"elicitation":{"form":{},"url":{}}}"#),
            (r#"{"elicitation":null,"roots":false,"extensions":{"a/b":{}},"experimental":{}}"#, "{}"),
        ] {
            assert_eq!(legacy_capabilities(modern), legacy, "{modern}");
            assert_eq!(legacy_capabilities(legacy), legacy, "again: {modern}");
        }
    }

    #[test]
    fn a_client_is_asked_what_it_declared() {
        let all = r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#;
        let some = r#"{"sampling":{},"elicitation":{}}"#;
        for (capabilities, method, params, wanted) in [
            (all, "roots/list", "", None),
            (some, "roots/list", "", Some(METHOD_NOT_FOUND)),
            (all, "sampling/createMessage", r#"{"tools":[]}"#, None),
            (some, "sampling/createMessage", r#"{"tools":[]}"#, Some(INVALID_PARAMS)),
            (some, "sampling/createMessage", "{}", None),
            (all, "elicitation/create", r#"{"mode":"url"}"#, None),
            (all, "elicitation/create", "{}", None),
            (some, "elicitation/create", r#"{"mode":"form"}"#, None),
            (some, "elicitation/create", r#"{"mode":"url"}"#, Some(INVALID_PARAMS)),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", "{}", Some(INVALID_PARAMS)),
            ("{}", "elicitation/create", "{}", Some(METHOD_NOT_FOUND)),
        ] {
            assert_eq!(lacks(capabilities, method, params).map(|(code, _)| code), wanted, "{capabilities} {method}");
        }
    }

    #[test]
    fn a_server_is_promised_without_what_one_era_has() {
        let legacy = r#"{"tools":{"listChanged" : true},"tasks":{"list":{}},"x":1.0,"extensions":{}}"#;
        assert_eq!(of_server(legacy), r#"{"tools":{"listChanged" : true},"x":1.0}"#);
        assert_eq!(of_server(r#"{ "logging":{} }"#), r#"{ "logging":{} }"#);
    }
}
