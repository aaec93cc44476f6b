//! What the server says of itself in `server/discover`, as a legacy client hears it in the answer to `initialize`; and
//! any other result as a legacy client knows it.

use super::super::super::edit::{Edit, Members, edited, led_by};
use super::super::super::member;
use super::super::super::message::Message;
use super::super::super::modern::{REVISION, UNSUPPORTED_VERSION, meta};
use std::borrow::Cow;

/// Requests whose results say how long they may be kept (`server/utilities/caching`).
const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];
/// Capabilities of a server that a legacy client is not told: nobody translates what they are about.
const NOT_TOLD: [&str; 2] = ["extensions", "tasks"];
/// What of the answer to `server/discover` a legacy client does not know, or gets from us.
const NOT_GREETING: [&str; 7] =
    ["resultType", "ttlMs", "cacheScope", "supportedVersions", "capabilities", "protocolVersion", "serverInfo"];
/// As many foreign revisions are shown.
const SHOWN: usize = 8;

/// The result of `initialize` that promises this revision, made of the answer to `server/discover`.
///
/// # Errors
/// There is none, for this reason.
pub fn greeting(answer: &Message, revision: &str) -> Result<String, String> {
    let Some(found) = answer.result_text() else { return Err(refusal(answer)) };
    let versions = versions(member::value(found, &["supportedVersions"])).ok_or("the server names no revisions")?;
    if !versions.iter().any(|version| version == REVISION) {
        return Err(speaks_others(&versions));
    }
    let info = member::value(found, &["_meta", meta::SERVER_INFO]).filter(|info| info.starts_with('{'));
    let info = info.unwrap_or(r#"{"name":"unknown","version":"0"}"#);
    let ours = format!(
        r#""protocolVersion":"{revision}","capabilities":{},"serverInfo":{info}"#,
        capabilities(answer).unwrap_or_else(|| "{}".into())
    );
    let members = member::members(found).unwrap_or_default();
    let rest = edited(found, &members, |name, value| match name {
        "_meta" => without_reserved(value, meta::SERVER_INFO),
        name if NOT_GREETING.contains(&name) => Edit::Cut,
        _ => Edit::Keep,
    });
    Ok(led_by(&rest, &ours))
}

/// Whether an error refuses our revision and names it as one that the server speaks.
pub fn names_ours(answer: &Message) -> bool {
    let named = || versions(member::value(answer.text(), &["error", "data", "supported"]));
    let is_ours = |version: &String| version == REVISION;
    answer.error_code() == Some(UNSUPPORTED_VERSION.into()) && named().is_some_and(|all| all.iter().any(is_ours))
}

/// The capabilities of the server that a legacy client is told.
pub fn capabilities(answer: &Message) -> Option<String> {
    let all = member::value(answer.result_text()?, &["capabilities"])?;
    let members = member::members(all)?;
    Some(edited(all, &members, |name, _| if NOT_TOLD.contains(&name) { Edit::Cut } else { Edit::Keep }).into_owned())
}

/// A finished result of this method without what only modern clients know.
pub fn plain<'a>(result: &'a str, members: &Members<'a>, method: &str) -> Cow<'a, str> {
    let has_hints = CACHEABLE.contains(&method);
    edited(result, members, |name, value| match name {
        "resultType" => Edit::Cut,
        "ttlMs" | "cacheScope" if has_hints => Edit::Cut,
        "_meta" => without_reserved(value, meta::SERVER_INFO),
        _ => Edit::Keep,
    })
}

/// A `_meta` without this member; where it holds nothing else, it goes.
pub fn without_reserved(value: &str, reserved: &str) -> Edit {
    let members = member::members(value).unwrap_or_default();
    let is_it = |name: &str| name == reserved;
    if !members.iter().any(|(name, _)| is_it(name)) {
        return Edit::Keep;
    }
    if members.iter().all(|(name, _)| is_it(name)) {
        return Edit::Cut;
    }
    Edit::Put(edited(value, &members, |name, _| if is_it(name) { Edit::Cut } else { Edit::Keep }).into_owned())
}

/// An error in words that tell what it was about: those of the server alone would not be understood.
fn refusal(answer: &Message) -> String {
    let named =
        versions(member::value(answer.text(), &["error", "data", "supported"])).filter(|named| !named.is_empty());
    if let Some(versions) = named.filter(|_| answer.error_code() == Some(UNSUPPORTED_VERSION.into())) {
        return speaks_others(&versions);
    }
    let said = member::string(answer.text(), &["error", "message"]).unwrap_or_default();
    let code = answer.error_code().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("the server did not say what it is: {said}{code}")
}

fn speaks_others(versions: &[String]) -> String {
    let shown: Vec<_> = versions.iter().take(SHOWN).map(String::as_str).collect();
    let shown = if shown.is_empty() { "none".into() } else { shown.join(", ") };
    format!(
        "the server does not speak MCP {REVISION}, to which this client's revision is translated; it speaks: {shown}"
    )
}

fn versions(list: Option<&str>) -> Option<Vec<String>> {
    serde_json::from_str(list?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content: &str) -> Message {
        Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,{content}}}"#).into()).unwrap()
    }

    #[test]
    fn the_server_is_introduced() {
        let unknown = r#""serverInfo":{"name":"unknown","version":"0"}"#;
        for (found, wanted) in [
            (
                r#"{"resultType":"complete","supportedVersions":["2027-01-01","2026-07-28"], "instructions": "\u0061","ttlMs":1,"cacheScope":"public","capabilities":{"tools":{ },"extensions":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"own":1.0}"#,
                r#"{"protocolVersion":"R","capabilities":{"tools":{ }},"serverInfo":{"name":"s"}, "instructions": "\u0061","own":1.0}"#.to_owned(),
            ),
            (
                r#"{"supportedVersions":["2026-07-28"],"_meta":{"a":1}}"#,
                format!(r#"{{"protocolVersion":"R","capabilities":{{}},{unknown},"_meta":{{"a":1}}}}"#),
            ),
            (
                r#"{"supportedVersions":["2026-07-28"],"serverInfo":{"name":"x"},"protocolVersion":"x"}"#,
                format!(r#"{{"protocolVersion":"R","capabilities":{{}},{unknown}}}"#),
            ),
        ] {
            assert_eq!(greeting(&answer(&format!(r#""result":{found}"#)), "R"), Ok(wanted), "{found}");
        }
    }

    #[test]
    fn why_there_is_no_introduction() {
        let others =
            "the server does not speak MCP 2026-07-28, to which this client's revision is translated; it speaks: ";
        for (content, wanted) in [
            (r#""result":{"supportedVersions":["2027-01-01","x"]}"#, format!("{others}2027-01-01, x")),
            (r#""result":{"supportedVersions":[]}"#, format!("{others}none")),
            (r#""result":{}"#, "the server names no revisions".into()),
            (r#""result":7"#, "the server names no revisions".into()),
            (
                r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#,
                format!("{others}2027-01-01"),
            ),
            (r#""error":{"code":-32022,"message":"m"}"#, "the server did not say what it is: m (-32022)".into()),
            (r#""error":{"code":7,"message":"no\n"}"#, "the server did not say what it is: no\n (7)".into()),
        ] {
            assert_eq!(greeting(&answer(content), "R"), Err(wanted), "{content}");
        }
    }

    #[test]
    fn results_lose_what_a_legacy_client_does_not_know() {
        let info = r#""io.modelcontextprotocol/serverInfo":{"name":"s"}"#;
        for (method, result, wanted) in [
            ("m", r#"{"resultType":"complete"}"#.to_owned(), "{}"),
            ("m", r#"{"a" : 1.0 }"#.into(), r#"{"a" : 1.0 }"#),
            ("m", r#"{"ttlMs":1,"cacheScope":"x"}"#.into(), r#"{"ttlMs":1,"cacheScope":"x"}"#),
            ("tools/list", r#"{"ttlMs":1, "tools":[],"cacheScope":"x"}"#.into(), r#"{ "tools":[]}"#),
            ("m", format!(r#"{{"a":1,"_meta":{{{info}}}}}"#), r#"{"a":1}"#),
            ("m", format!(r#"{{"_meta":{{"b":2, {info}}} }}"#), r#"{"_meta":{"b":2} }"#),
            ("m", r#"{"_meta":{}}"#.into(), r#"{"_meta":{}}"#),
            ("m", r#"{"_meta":{"io.modelcontextprotocol\/serverInfo":{}}}"#.into(), "{}"),
        ] {
            let members = member::members(&result).unwrap();
            assert_eq!(plain(&result, &members, method), wanted, "{result}");
        }
    }
}
