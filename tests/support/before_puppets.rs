//! A modern client over HTTP, in front of puppets.

use super::http::Http;
use super::puppet::{Puppet, Stage};
use serde_json::{Value, json};

/// What it speaks.
pub const REVISION: &str = "2026-07-28";
/// The capabilities of one that can be asked anything.
pub const ASKED: &str = r#"{"sampling":{},"elicitation":{},"roots":{}}"#;
/// A question of a server.
pub const QUESTION: &str =
    r#"{"jsonrpc":"2.0","id":"who","method":"elicitation/create","params":{"message":"Who?","requestedSchema":{}}}"#;

/// A request as a modern client writes it.
#[must_use]
pub fn request(id: u32, method: &str, params: &Value, capabilities: &str) -> String {
    let mut params = params.clone();
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(REVISION);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = serde_json::from_str(capabilities).unwrap();
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Sends a request with the headers that it needs.
pub fn send(http: &mut Http, message: &str) {
    let read: Value = serde_json::from_str(message).unwrap();
    let params = &read["params"];
    let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default();
    let mut headers = vec![("MCP-Protocol-Version", REVISION), ("Mcp-Method", read["method"].as_str().unwrap())];
    if !name.is_empty() {
        headers.push(("Mcp-Name", name));
    }
    http.send("POST", &headers, message);
}

/// A call that is sent over a connection of its own.
#[must_use]
pub fn call(stage: &Stage, id: u32, name: &str, capabilities: &str) -> Http {
    let mut http = Http::connect(&stage.address());
    send(&mut http, &request(id, "tools/call", &json!({"name": name, "_meta": {"progressToken": "t"}}), capabilities));
    http
}

/// A member of a message.
#[must_use]
pub fn member(line: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(line).unwrap()[name].clone()
}

/// The id under which the server got what holds this text.
#[must_use]
pub fn id_of(puppet: &Puppet, text: &str) -> Value {
    member(&puppet.gets(text), "id")
}

/// The answer of a server.
#[must_use]
pub fn result(id: &Value, of: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"of":"{of}"}}}}"#)
}

/// The answer that came.
pub fn get(http: &mut Http) -> Value {
    serde_json::from_str(&http.answer().body).unwrap()
}
