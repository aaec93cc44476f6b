//! The headers of modern requests: the first line is a list of tools, the second a call, the others values of headers.
//! What a client sends for a call, a server that knows the same tools takes; every value arrives as what it was.

use mcp_proxy::protocol::member;
use mcp_proxy::protocol::message::Message;
use mcp_proxy::protocol::modern::headers::{self, Given};
use mcp_proxy::protocol::modern::params::{Learned, Schemas};
use mcp_proxy::protocol::modern::{REVISION, meta};
use serde_json::value::RawValue;
use ureq_proto::http::{HeaderName, HeaderValue};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let (tools, call) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for value in text.lines() {
        let encoded = headers::encode(value);
        assert!(HeaderValue::from_str(&encoded).is_ok_and(|header| header.to_str().is_ok()), "{encoded:?}");
        assert_eq!(headers::decode(&encoded).as_deref(), Ok(value), "there and back");
        let _ = headers::decode(value);
    }
    let mut schemas = Schemas::default();
    if serde_json::from_str::<&RawValue>(tools).is_ok() {
        let learned = schemas.learn(tools);
        shown(tools, &learned);
    }
    let Ok(call) = Message::parse(call.into()) else { return };
    let said = schemas.headers(&call);
    for (name, value) in &said {
        assert!(HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok(), "{name}");
    }
    let given = |name: &str| said.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let checked = schemas.check(&call, &given);
    let is_twice = checked.as_ref().is_err_and(|error| error.text().contains("stands twice"));
    assert!(checked.is_ok() || is_twice, "what a client sends is taken: {checked:?}");
    let others = |name: &str| given(name).map(|value| format!("{value}x"));
    assert!(said.is_empty() || schemas.check(&call, &others).is_err(), "what is not the same is refused");
    mirrored(&call);
}

/// A client is shown all tools but those that are rejected, as they are.
fn shown(tools: &str, learned: &Learned) {
    let Some(filtered) = &learned.filtered else { return };
    let list = |text: &str| {
        let list = member::value(text, &["tools"]).map(serde_json::from_str::<Vec<Box<RawValue>>>);
        list.and_then(Result::ok).unwrap_or_default()
    };
    let (all, kept) = (list(tools), list(filtered));
    assert_eq!(all.len() - kept.len(), learned.rejected.len());
    assert!(kept.iter().all(|tool| all.iter().any(|other| other.get() == tool.get())), "they keep their bytes");
}

/// The headers of the call itself: what we send we take.
fn mirrored(call: &Message) {
    let said = headers::of(call);
    let value = |wanted: &str| said.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
    assert!(said.iter().all(|(_, value)| HeaderValue::from_str(value).is_ok()));
    let given = Given { version: value(headers::VERSION), method: value(headers::METHOD), name: value(headers::NAME) };
    if let Err(error) = headers::check(call, &given, &[REVISION]) {
        assert!(error.is_error() && error.id() == call.id());
        let status = headers::status(&error);
        assert!(status == 400 || status == 404 || status == 200);
    }
    if let Some(params) = call.params().filter(|params| params.starts_with('{')) {
        let stripped = meta::stripped(params);
        assert!(serde_json::from_str::<&RawValue>(&stripped).is_ok(), "{stripped}");
    }
    let _ = (meta::version(call), meta::capabilities(call), meta::client_info(call), meta::log_level(call));
}
