//! A remote server that speaks Streamable HTTP as a test tells it to, and a client of ours in front of it.

use super::remote::{Connection, Remote, Request};
use super::{Process, SOON, proxy};
use serde_json::Value;

/// How a client begins, written as no library would write it.
pub const INITIALIZE: &str = r#"{ "id" : "\u0069d",  "method":"initialize","jsonrpc":"2.0", "params":{"n":1.0e0} }"#;
/// What follows the answer.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0",  "method":"notifications/initialized"}"#;
/// What a message is answered with that is no request.
pub const TAKEN: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
/// What a stream of events begins with that ends with its connection.
pub const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";

/// An answer with headers and a body.
#[must_use]
pub fn respond(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A JSON answer.
#[must_use]
pub fn json(body: &str) -> String {
    respond("200 OK", "Content-Type: application/json\r\n", body)
}

/// The message of a request.
#[must_use]
pub fn message(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

/// The result that names the method.
#[must_use]
pub fn result(request: &Request) -> String {
    let message = message(request);
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"did":{}}}}}"#, message["id"], message["method"])
}

/// A server that behaves: sessions `s1`, `s2`, …, JSON answers, no GET stream.
pub fn behave(request: &Request, connection: &mut Connection<'_>) {
    let message = message(request);
    let is_first = |r: &&Request| r.text().contains("\"initialize\"");
    match message["method"].as_str() {
        _ if request.line.starts_with("GET ") => connection.write(respond("405 No", "", "")),
        _ if request.line.starts_with("DELETE ") => connection.write(respond("200 OK", "", "")),
        Some("initialize") => {
            let number = connection.requests().iter().filter(is_first).count();
            let headers = format!("Content-Type: application/json\r\nMcp-Session-Id: s{number}\r\n");
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-06-18"}}}}"#, message["id"]);
            connection.write(respond("200 OK", &headers, &body));
        }
        Some("hang") => {}
        Some(_) if message.get("id").is_some() => connection.write(json(&result(request))),
        _ => connection.write(TAKEN),
    }
}

/// A client of ours with what it was given.
pub struct Client(pub Process);

impl Client {
    /// A client of this server.
    #[must_use]
    pub fn of(remote: &Remote, options: &[&str]) -> Self {
        Self(Process::start(proxy().args(["--debug"]).args(options).arg(remote.url("/mcp"))))
    }

    /// A client with a session.
    #[must_use]
    pub fn begin(remote: &Remote, options: &[&str]) -> Self {
        let mut client = Self::of(remote, options);
        client.send(INITIALIZE);
        assert_eq!(client.line(1)["id"], "id", "{}", client.0.report());
        client.send(INITIALIZED);
        let _ = remote.wait_for_posts(2);
        client
    }

    /// Sends one line.
    pub fn send(&mut self, line: &str) {
        self.0.write(format!("{line}\n").as_bytes());
    }

    /// Sends a request.
    pub fn ask(&mut self, id: u32, method: &str) {
        self.send(&ask(id, method));
    }

    /// The line of stdout with that number, from 1.
    #[must_use]
    pub fn line(&self, number: usize) -> Value {
        serde_json::from_slice(&self.0.lines(number)[number - 1]).unwrap()
    }

    /// The error in that line.
    #[must_use]
    pub fn error(&self, number: usize) -> String {
        let answer = self.line(number);
        answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned()
    }

    /// Ends its input and gives the number of lines that it wrote in all.
    pub fn end(&mut self) -> usize {
        self.0.close_stdin();
        assert_eq!(self.0.finish(SOON).code(), Some(0));
        assert!(!self.0.stderr().contains("panicked"), "{}", self.0.report());
        self.0.stdout().split(|byte| *byte == b'\n').count() - 1
    }
}

/// A request.
#[must_use]
pub fn ask(id: u32, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}
