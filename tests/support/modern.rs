//! A remote server that speaks the modern revision only, and requests for it.

use super::remote::{Connection, Request};
use super::streamable::{EVENTS, TAKEN, json, message, respond};
use serde_json::Value;

/// What a modern request says of itself and its client.
pub const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"tester","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}"#;
/// The cancellation of request 1.
pub const CANCELLED: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;

/// A modern request; `params` begins with a comma, or is empty.
#[must_use]
pub fn modern(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{ "id":{id},"method":"{method}", "params":{{{META}{params}}},"jsonrpc":"2.0"}}"#)
}

/// The method that a request asks for.
#[must_use]
pub fn method(request: &Request) -> String {
    message(request)["method"].as_str().unwrap_or_default().to_owned()
}

/// An error with a status, in answer to the request with this id.
#[must_use]
pub fn error(status: &str, id: &Value, code: i32) -> String {
    let data = if code == -32022 { r#","data":{"supported":["2026-07-28"]}"# } else { "" };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"{data}}}}}"#);
    respond(status, "Content-Type: application/json\r\n", &body)
}

/// A result with these members.
#[must_use]
pub fn answer(request: &Request, members: &str) -> String {
    let id = &message(request)["id"];
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{members}}}}}"#)
}

/// What is in the answer to `server/discover`.
pub const DISCOVERED: &str = r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"},"ttlMs":0,"cacheScope":"private""#;

/// A server that speaks the modern revision only, and says so.
pub fn behave(request: &Request, connection: &mut Connection<'_>) {
    let said = message(request);
    let text = match said["method"].as_str() {
        _ if !request.line.starts_with("POST ") => respond("405 No", "", ""),
        _ if said.get("id").is_none() => TAKEN.to_owned(),
        _ if request.header("mcp-protocol-version") != "2026-07-28" => error("400 Bad Request", &said["id"], -32022),
        Some("server/discover") => json(&answer(request, DISCOVERED)),
        Some("hang") => return,
        Some("unknown") => error("404 Not Found", &said["id"], -32601),
        Some("subscriptions/listen") => {
            let id = &said["id"];
            let note = |method: &str| {
                format!(
                    r#"data: {{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}},"notifications":{{}}}}}}"#
                )
            };
            let (first, second) = (note("subscriptions/acknowledged"), note("tools/list_changed"));
            return connection.write(format!("{EVENTS}{first}\n\n{second}\n\n"));
        }
        Some(method) => json(&answer(request, &format!(r#""did":"{method}""#))),
        None => error("400 Bad Request", &Value::Null, -32600),
    };
    connection.write(text);
}
