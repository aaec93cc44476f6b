//! One message, or a batch: what is seen of it against `serde_json`, and what an edit leaves as it was.

use mcp_proxy::protocol::member;
use mcp_proxy::protocol::message::{Id, Kind, Message, PARSE_ERROR};
use mcp_proxy::protocol::modern::meta;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

pub fn check(data: &[u8]) {
    match Message::parse(data.to_vec()) {
        Ok(message) => accepted(data, &message),
        // Around a message more is taken for white space than JSON has: form feeds.
        Err(invalid) => refused(data.trim_ascii(), invalid.code),
    }
    batch(data);
}

/// The members of the top level as `serde_json` sees them, if each stands there once.
fn members(data: &[u8]) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_slice(data).ok()
}

fn accepted(data: &[u8], message: &Message) {
    let trimmed = data.trim_ascii();
    let flat: Vec<u8> = trimmed.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect();
    assert_eq!(message.bytes(), flat, "it keeps its bytes");
    let members = members(trimmed).expect("a message is an object");
    let raw = |name: &str| members.get(name).map(|value| flattened(value.get()));
    assert_eq!(raw("jsonrpc").as_deref(), Some("\"2.0\""));
    assert_eq!(message.params(), raw("params").as_deref());
    assert_eq!(message.id().map(Id::as_json), raw("id").as_deref().filter(|id| *id != "null"));
    let method = raw("method").map(|method| serde_json::from_str::<String>(&method).expect("a string"));
    assert_eq!(message.method(), method.as_deref());
    let has = |name: &str| members.contains_key(name);
    match message.kind() {
        Kind::Request { .. } => assert!(has("method") && has("id")),
        Kind::Notification { .. } => assert!(has("method") && (!has("id") || raw("id").as_deref() == Some("null"))),
        Kind::Response { .. } => {
            assert!(!has("method") && (has("result") || has("error")));
            assert_eq!(message.result_text(), raw("result").as_deref().filter(|_| !message.is_error()));
            assert!(!message.is_error() || has("error"));
        }
    }
    noted(message);
    edits(message);
}

/// What is noted of the params is what a look at them finds, also after something in them has changed.
fn noted(message: &Message) {
    fn looked<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
        member::value(message.params()?, &["_meta", name])
    }
    let same = |message: &Message| {
        // This one looks at the text first, as long as nothing is noted.
        let version = looked(message, meta::PROTOCOL_VERSION).and_then(|value| serde_json::from_str(value).ok());
        assert_eq!(meta::version(message), version);
        assert_eq!(meta::client_info(message), looked(message, meta::CLIENT_INFO));
        assert_eq!(meta::capabilities(message), looked(message, meta::CLIENT_CAPABILITIES));
        assert_eq!(meta::subscription_id(message), looked(message, meta::SUBSCRIPTION_ID).and_then(Id::from_json));
        assert_eq!(meta::version(message), version);
    };
    same(message);
    same(&message.with_id(&Id::from_json("1234567890").expect("an id")));
    same(&message.with_params("{}"));
    for path in [&["_meta"][..], &["_meta", meta::CLIENT_INFO], &["name"]] {
        same(&message.with_param(path, r#"{"io.modelcontextprotocol/protocolVersion":"x"}"#));
    }
    if let Kind::Request { .. } = message.kind() {
        assert_eq!(message.progress_token(), looked(message, "progressToken").and_then(Id::from_json));
    }
}

/// A value within which line breaks have become spaces.
fn flattened(value: &str) -> String {
    value.replace(['\r', '\n'], " ")
}

/// What was edited reads as what was put in, and as the message otherwise.
fn edits(message: &Message) {
    let read = |message: &Message| Message::parse(message.bytes().to_vec()).expect("an edit leaves a message");
    let id = Id::from_json("\"other\"").expect("an id");
    let renamed = message.with_id(&id);
    assert_eq!(read(&renamed), renamed);
    assert_eq!(renamed.params(), message.params());
    assert_eq!(renamed.id(), message.id().map(|_| &id));
    if let Some(own) = message.id() {
        assert_eq!(renamed.with_id(own), *message, "there and back");
    }
    let dressed = message.with_params("{\"a\":[1.0]}");
    assert_eq!(read(&dressed), dressed);
    if message.method().is_some() {
        assert_eq!(dressed.params(), Some("{\"a\":[1.0]}"));
        assert_eq!((dressed.kind(), dressed.id()), (message.kind(), message.id()));
    }
    if let Some(params) = message.params() {
        assert_eq!(dressed.with_params(params), *message, "there and back");
    }
    if let Some(result) = message.result_text() {
        let other = message.with_result("[7]");
        assert_eq!((read(&other), other.result_text()), (other.clone(), Some("[7]")));
        assert_eq!(other.with_result(result), *message, "there and back");
    }
    for path in [&["_meta", "progressToken"][..], &["requestId"], &["uri"]] {
        let changed = message.with_param(path, "\"x\"");
        assert_eq!(read(&changed), changed);
    }
    let _ = (message.cancels(), message.progress_token(), message.error_code());
}

/// What was refused is no JSON, or no message.
fn refused(data: &[u8], code: i32) {
    let is_json = std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    assert_eq!(code == PARSE_ERROR, !is_json, "the code tells what is wrong");
    let Some(members) = members(data) else { return };
    let is = |name: &str, wanted: &str| members.get(name).is_some_and(|value| value.get() == wanted);
    let plain = |name: &str| members.get(name).is_none_or(|value| value.get().starts_with(['"', '1']));
    let text = std::str::from_utf8(data).expect("it is JSON");
    // A plain request is never refused; a name in the text that stands there twice may be a member that does.
    let is_request = is("jsonrpc", "\"2.0\"") && members.contains_key("method") && plain("id");
    let is_sole = ["\"jsonrpc\"", "\"id\"", "\"method\"", "\"params\"", "\"result\"", "\"error\"", "\\"]
        .iter()
        .all(|name| text.matches(name).count() <= usize::from(*name != "\\"));
    let is_answer = members.contains_key("result") || members.contains_key("error");
    let has_method = members.get("method").is_some_and(|method| method.get().starts_with('"'));
    assert!(!(is_request && is_sole && has_method && !is_answer), "a good request was refused");
}

fn batch(data: &[u8]) {
    let found = Message::parse_all(data.to_vec());
    if !Message::is_batch(data) {
        assert_eq!(found, Message::parse(data.to_vec()).map(|message| vec![message]));
        return;
    }
    let Ok(found) = found else { return };
    let elements: Vec<&RawValue> = serde_json::from_slice(data).expect("a batch is an array");
    assert_eq!(found.len(), elements.len());
    for (message, element) in found.iter().zip(elements) {
        assert_eq!(message.text(), flattened(element.get()));
    }
}
