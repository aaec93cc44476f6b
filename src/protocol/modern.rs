//! The modern era, MCP 2026-07-28 and later: every request stands alone, with its revision and its client's
//! capabilities in `_meta` (`basic/index`, "`_meta`"); no `initialize`, no sessions, and no requests of the server.

pub mod headers;
pub mod meta;
pub mod params;
pub mod share;

use super::member;
use super::message::{Id, METHOD_NOT_FOUND, Message};

/// The first modern revision, and the latest that we know.
pub const REVISION: &str = "2026-07-28";
/// The headers of a request do not say what its body says (`basic/transports/streamable-http`, "Server Validation").
pub const HEADER_MISMATCH: i32 = -32020;
/// The client did not declare what its request needs (`basic/index`, "`_meta`").
pub const MISSING_CAPABILITY: i32 = -32021;
/// The server does not speak the revision of the request (`basic/versioning`).
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// Methods that only legacy revisions have (changelog of 2026-07-28).
pub const LEGACY_ONLY: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The result that ends a `subscriptions/listen` well (`basic/patterns/subscriptions`, "Graceful Closure").
#[must_use]
pub fn graceful(listen: &Id) -> Message {
    let (name, id) = (meta::SUBSCRIPTION_ID, listen.as_json());
    Message::result(listen, &format!(r#"{{"resultType":"complete","_meta":{{"{name}":{id}}}}}"#))
}

/// Whether this request of our modern revision has a method that there is no more. What a later one has is not known.
///
/// # Errors
/// It has; this is the answer.
pub fn check_method(request: &Message) -> Result<(), Box<Message>> {
    let Some(method) = request.method().filter(|method| LEGACY_ONLY.contains(method)) else { return Ok(()) };
    if meta::version(request).is_some_and(|version| version != REVISION) {
        return Ok(());
    }
    let reason = format!("the method '{method}' does not exist in {REVISION}");
    Err(Box::new(Message::error(request.id(), METHOD_NOT_FOUND, &reason)))
}

/// Whether a response is an error that only a modern server gives (`basic/versioning`, "Backward Compatibility").
#[must_use]
pub fn is_modern_error(response: &Message) -> bool {
    let is_ours = |code: i64| {
        [HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION].iter().any(|known| i64::from(*known) == code)
    };
    response.error_code().is_some_and(is_ours)
}

/// Whether the answer to a `server/discover` shows a modern server: a result that names revisions, or a modern error.
#[must_use]
pub fn is_modern_answer(response: &Message) -> bool {
    let names = |result: &str| member::value(result, &["supportedVersions"]).is_some_and(|list| list.starts_with('['));
    response.result_text().is_some_and(names) || is_modern_error(response)
}

/// Whether the answer to `initialize` may be that of a server that speaks modern revisions only, so that it is worth a
/// `server/discover`: it does not know the method ("Compatibility Matrix": the code is anybody's), or promises a modern
/// revision that it was not asked for.
#[must_use]
pub fn may_refuse_legacy(initialize: &Message, response: &Message) -> bool {
    let is_modern = |text: Option<&str>| {
        let version = text.and_then(|text| member::string(text, &["protocolVersion"]));
        version.is_some_and(|version| *version >= *REVISION)
    };
    response.error_code() == Some(METHOD_NOT_FOUND.into())
        || is_modern(response.result_text()) && !is_modern(initialize.params())
}

/// Whether the answer to `initialize` is the refusal of a server that speaks modern revisions only: a modern error, or
/// an error that names one of them and none that begins with `initialize`.
#[must_use]
pub fn refuses_legacy(response: &Message) -> bool {
    let Some(error) = response.error_code().and_then(|_| member::value(response.text(), &["error"])) else {
        return false;
    };
    let names_legacy = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"].iter().any(|known| {
        // Which revision was asked for is often told too.
        member::value(error, &["data", "supported"]).is_some_and(|list| list.contains(known))
    });
    !names_legacy && (is_modern_error(response) || error.contains(REVISION))
}
