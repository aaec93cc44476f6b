//! Answers of a legacy server as a modern client expects them: what is missing is put in, every other byte stays.

use super::super::super::member;
use super::super::super::message::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Message};
use super::super::super::modern::MISSING_CAPABILITY;
use super::super::super::modern::meta::SERVER_INFO;

/// A resource was not found (2025-11-25 and earlier; `basic/index`, Error Codes).
const RESOURCE_NOT_FOUND: i64 = -32002;
/// A URL must be opened first (2025-11-25, `client/elicitation`).
pub const ELICITATION_REQUIRED: i64 = -32042;
/// Elicitations that one error may ask for.
const ELICITATIONS: usize = 100;
/// Requests of clients that both eras have.
const KNOWN: [&str; 8] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
];

/// An answer to a request of this method.
pub fn translated(answer: &Message, method: &str, server_info: Option<&str>) -> Message {
    match answer.error_code() {
        Some(RESOURCE_NOT_FOUND) => with_code(answer, INVALID_PARAMS),
        Some(ELICITATION_REQUIRED) => with_code(answer, INTERNAL_ERROR),
        // The Python SDK 1.x checks the params of all methods that it knows, and finds that none is right.
        Some(code) if code == i64::from(INVALID_PARAMS) && !KNOWN.contains(&method) && says_no_more(answer) => {
            with_code(answer, METHOD_NOT_FOUND)
        }
        Some(_) => answer.clone(),
        None => {
            let result = answer.result_text().map(|result| dressed(result, method, server_info));
            result.map_or_else(|| answer.clone(), |result| answer.with_result(&result))
        }
    }
}

/// Whether an error says what the Python SDK 1.x says of a request that it does not know.
fn says_no_more(answer: &Message) -> bool {
    member::string(answer.text(), &["error", "message"]).is_some_and(|text| text == "Invalid request parameters")
}

/// The result with what a modern one has; what is no object stays as it is.
fn dressed(result: &str, method: &str, server_info: Option<&str>) -> String {
    let Some(members) = member::members(result) else { return result.to_owned() };
    let has = |wanted: &str| members.iter().any(|(name, _)| name == wanted);
    let mut added = Vec::new();
    if !has("resultType") {
        added.push(r#""resultType":"complete""#);
    }
    if is_cacheable(method) {
        added.extend((!has("ttlMs")).then_some(r#""ttlMs":0"#));
        added.extend((!has("cacheScope")).then_some(r#""cacheScope":"private""#));
    }
    let meta = has("_meta");
    let identity = server_info.filter(|_| !meta).map(|info| [r#""_meta":{""#, SERVER_INFO, "\":", info, "}"].concat());
    added.extend(identity.as_deref());
    let inside = result.strip_prefix('{').unwrap_or_default();
    let comma = if members.is_empty() || added.is_empty() { "" } else { "," };
    let dressed = ["{", &added.join(","), comma, inside].concat();
    match server_info {
        Some(info) if meta => member::with(&dressed, &["_meta", SERVER_INFO], info),
        _ => dressed,
    }
}

/// Results that say how long they are good for (`server/utilities/caching`).
fn is_cacheable(method: &str) -> bool {
    let all = ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];
    all.contains(&method)
}

/// What the server asks for before it can answer (`-32042`), as requests of the modern era; `None` where it does not
/// say.
pub fn required_elicitations(answer: &Message) -> Option<Vec<String>> {
    let list = member::value(answer.text(), &["error", "data", "elicitations"])?;
    let list = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(list).ok()?;
    let ask = |params: &str| {
        let params = member::with(&member::without(params, &["elicitationId"]), &["mode"], r#""url""#);
        format!(r#"{{"method":"elicitation/create","params":{params}}}"#)
    };
    let is_well_formed = list.iter().all(|one| member::string(one.get(), &["url"]).is_some());
    let is_right = is_well_formed && !list.is_empty() && list.len() <= ELICITATIONS;
    is_right.then(|| list.into_iter().map(|one| ask(one.get())).collect())
}

/// The same error with another code.
pub fn with_code(answer: &Message, code: i32) -> Message {
    let text = member::with(answer.text(), &["error", "code"], &code.to_string());
    Message::parse(text.into()).unwrap_or_else(|_| answer.clone())
}

/// Whether a call came to nothing: with an error, or a result that says that it is one.
pub fn has_failed(answer: &Message) -> bool {
    let is_error = |result: &str| member::value(result, &["isError"]) == Some("true");
    answer.is_error() || answer.result_text().is_some_and(is_error)
}

/// The error of a call that failed after its client could not be asked what it needed (`basic/index`, "`_meta`").
pub fn missing_capability(answer: &Message, required: &str) -> Message {
    let data = format!(r#"{{"requiredCapabilities":{required}}}"#);
    let reason = "the server needs a capability that the client did not declare";
    Message::error_with(answer.id(), MISSING_CAPABILITY, reason, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, answer: &str, wanted: &str) {
        let message = |text: &str| Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,{text}}}"#).into()).unwrap();
        let found = translated(&message(answer), method, Some(r#"{"name":"s"}"#));
        assert_eq!(found.text(), message(wanted).text());
        assert_eq!(found, message(wanted));
    }

    #[test]
    fn what_is_missing_is_put_in() {
        let info = r#""io.modelcontextprotocol/serverInfo":{"name":"s"}"#;
        for (method, answer, wanted) in [
            ("m", r#""result":{}"#, format!(r#""result":{{"resultType":"complete","_meta":{{{info}}}}}"#)),
            (
                "tools/call",
                r#""result": { "a" : 1.0}, "x":1e999"#,
                format!(r#""result": {{"resultType":"complete","_meta":{{{info}}}, "a" : 1.0}}, "x":1e999"#),
            ),
            (
                "tools/list",
                r#""result":{"tools":[]}"#,
                format!(
                    r#""result":{{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{{info}}},"tools":[]}}"#
                ),
            ),
            (
                "resources/read",
                r#""result":{"resultType":"x","ttlMs":5,"cacheScope":"public","_meta":{"a":1}}"#,
                format!(r#""result":{{"resultType":"x","ttlMs":5,"cacheScope":"public","_meta":{{{info},"a":1}}}}"#),
            ),
            ("m", r#""result":7"#, r#""result":7"#.to_owned()),
        ] {
            check(method, answer, &wanted);
        }
    }

    #[test]
    fn codes_of_one_era_become_those_of_the_other() {
        let error = |code: i32| format!(r#""error":{{"message":"m","code":{code},"data":{{"uri":"u"}}}}"#);
        for (code, wanted) in [(-32002, -32602), (-32042, -32603), (-32601, -32601), (7, 7)] {
            check("m", &error(code), &error(wanted));
        }
    }

    #[test]
    fn elicitations_lose_what_the_modern_era_does_not_have() {
        let asked = |list: &str| {
            let error = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32042,"message":"","data":{list}}}}}"#);
            required_elicitations(&Message::parse(error.into()).unwrap())
        };
        let one = r#"{"elicitations":[{"mode":"url","elicitationId":"e","url":"u","message":"m"}]}"#;
        let wanted = r#"{"method":"elicitation/create","params":{"mode":"url","url":"u","message":"m"}}"#;
        assert_eq!(asked(one), Some(vec![wanted.to_owned()]));
        for list in ["7", "{}", r#"{"elicitations":[]}"#, r#"{"elicitations":[{"url":7}]}"#] {
            assert_eq!(asked(list), None, "{list}");
        }
    }
}
