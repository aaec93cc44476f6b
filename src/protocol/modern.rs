//! The modern era, MCP 2026-07-28 and later: every request stands alone, with its revision and its client's
//! capabilities in `_meta` (`basic/index`, "`_meta`"); no `initialize`, no sessions, and no requests of the server.

pub mod headers;
pub mod meta;
pub mod params;
pub mod share;

use super::member;
use super::message::Message;

/// The first modern revision, and the latest that we know.
pub const REVISION: &str = "2026-07-28";
/// The headers of a request do not say what its body says (`basic/transports/streamable-http`, "Server Validation").
pub const HEADER_MISMATCH: i32 = -32020;
/// The client did not declare what its request needs (`basic/index`, "`_meta`").
pub const MISSING_CAPABILITY: i32 = -32021;
/// The server does not speak the revision of the request (`basic/versioning`).
pub const UNSUPPORTED_VERSION: i32 = -32022;

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
