//! A client of the Streamable HTTP transport that knows no more than it must: one connection, the bytes of each
//! answer, events as they come.

use super::{SOON, wait_until};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One connection, on which requests follow each other.
pub struct Http {
    address: String,
    /// The path of the endpoint.
    pub path: String,
    /// The session that requests belong to.
    pub session: Option<String>,
    /// What `MCP-Protocol-Version` says.
    pub revision: Option<&'static str>,
    /// What `Accept` says.
    pub accept: &'static str,
    stream: Option<BufReader<TcpStream>>,
    peeked: Option<Head>,
}

/// The head of an answer, and how its body is framed.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    lines: Vec<String>,
}

impl Head {
    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// Whether it came as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.head.get("content-type") == Some("application/json")
    }

    /// The messages in it, whether it is JSON or an event stream.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        if self.is_json() { vec![self.body.clone()] } else { messages(&self.body) }
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its `id:`.
    pub id: Option<String>,
    /// Its `data:`.
    pub data: String,
}

impl Http {
    /// Connects to `HOST:PORT`.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            path: "/mcp".to_owned(),
            session: None,
            revision: None,
            accept: "application/json, text/event-stream",
            stream: None,
            peeked: None,
        }
    }

    /// Another connection of the same client.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            path: self.path.clone(),
            session: self.session.clone(),
            ..Self { revision: self.revision, accept: self.accept, ..Self::connect(&self.address) }
        }
    }

    /// Sends one request.
    pub fn send(&mut self, method: &str, headers: &[(&str, &str)], body: &str) {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            self.stream = Some(BufReader::new(stream));
        }
        let named = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {} HTTP/1.1\r\n", self.path);
        if !named("host") {
            let _ = write!(head, "Host: {}\r\n", self.address);
        }
        if !named("accept") && !self.accept.is_empty() {
            let accept = if method == "GET" { "text/event-stream" } else { self.accept };
            let _ = write!(head, "Accept: {accept}\r\n");
        }
        if let Some(session) = &self.session {
            let _ = write!(head, "Mcp-Session-Id: {session}\r\n");
        }
        if let Some(revision) = self.revision {
            let _ = write!(head, "MCP-Protocol-Version: {revision}\r\n");
        }
        if method == "POST" && !named("content-type") {
            head.push_str("Content-Type: application/json\r\n");
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.as_mut().unwrap().get_mut().write_all(head.as_bytes()).unwrap();
    }

    /// Looks at the head of the next answer.
    pub fn peek_head(&mut self) -> Head {
        let head = self.head();
        self.peeked = Some(head.clone());
        head
    }

    /// Reads the head of the next answer.
    pub fn head(&mut self) -> Head {
        if let Some(head) = self.peeked.take() {
            return head;
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stream.as_mut().unwrap().read_line(&mut line).unwrap();
            assert!(read > 0, "the connection ended in a head: {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Head { status, lines }
    }

    /// Reads the whole of the next answer.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut body = Vec::new();
        if head.get("transfer-encoding").is_some() {
            while self.chunk(&mut body) {}
        } else {
            let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            body.resize(length, 0);
            self.stream.as_mut().unwrap().read_exact(&mut body).unwrap();
        }
        if head.get("connection") == Some("close") {
            self.stream = None;
        }
        Answer { head, body: String::from_utf8(body).unwrap() }
    }

    /// Reads one chunk of an event stream; says whether it was not the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> bool {
        let stream = self.stream.as_mut().unwrap();
        let mut size = String::new();
        if stream.read_line(&mut size).unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..]).unwrap();
        body.truncate(start + size);
        size > 0
    }

    /// Posts a message and reads the whole answer.
    pub fn post(&mut self, message: &str) -> Answer {
        self.send("POST", &[], message);
        self.answer()
    }

    /// Begins a session with `initialize` and what follows it.
    pub fn begin(&mut self, revision: &'static str) -> Answer {
        let params = format!(
            r#"{{"protocolVersion":"{revision}","capabilities":{{"sampling":{{}},"elicitation":{{}},"roots":{{}}}},"clientInfo":{{"name":"test","version":"1"}}}}"#
        );
        let answer = self.post(&super::client::request(0, "initialize", &params));
        assert_eq!(answer.head.status, 200, "{answer:?}");
        self.session = answer.head.get("mcp-session-id").map(str::to_owned);
        self.revision = (revision >= "2025-06-18").then_some(revision);
        assert_eq!(self.post(super::client::INITIALIZED).head.status, 202);
        answer
    }

    /// Reads events as they come from now on, on a thread of its own, which ends with the stream.
    #[must_use]
    pub fn events(mut self) -> Events {
        let head = self.head();
        let received = Arc::new(Mutex::new((Vec::new(), false)));
        let sink = received.clone();
        let socket = self.stream.as_ref().unwrap().get_ref().try_clone().unwrap();
        socket.set_read_timeout(None).unwrap();
        thread::spawn(move || {
            let mut body = Vec::new();
            while self.chunk(&mut body) {
                sink.lock().unwrap().0.append(&mut body);
            }
            sink.lock().unwrap().1 = true;
        });
        Events { head, socket, received }
    }

    /// Opens the stream for what belongs to no request.
    #[must_use]
    pub fn listen(&self, last_event_id: Option<&str>) -> Events {
        let mut http = self.another();
        let headers: Vec<_> = last_event_id.iter().map(|id| ("Last-Event-ID", *id)).collect();
        http.send("GET", &headers, "");
        http.events()
    }

    /// Cuts the connection.
    pub fn cut(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.get_ref().shutdown(Shutdown::Both);
        }
    }
}

/// An event stream that is read as it comes.
pub struct Events {
    /// The head of the answer.
    pub head: Head,
    socket: TcpStream,
    received: Arc<Mutex<(Vec<u8>, bool)>>,
}

impl Events {
    /// What came so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap().0).into_owned()
    }

    /// The whole events that came so far, those without data too.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        events(&self.text())
    }

    /// The messages that came so far.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        messages(&self.text())
    }

    /// Waits for a message that holds `text`.
    #[must_use]
    pub fn message(&self, text: &str) -> String {
        let found = || self.messages().into_iter().find(|message| message.contains(text));
        wait_until(&format!("a message with {text:?}"), SOON, || found().is_some() || self.ended());
        found().unwrap_or_else(|| panic!("the stream ended without {text:?}: {}", self.text()))
    }

    /// Waits until the text holds `part`.
    pub fn wait_for(&self, part: &str) {
        wait_until(&format!("{part:?} in a stream"), SOON, || self.text().contains(part));
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.received.lock().unwrap().1
    }

    /// Waits for the end of the stream.
    pub fn wait_for_end(&self, within: Duration) {
        wait_until("the end of the stream", within, || self.ended());
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.cut();
    }
}

fn events(text: &str) -> Vec<Event> {
    let text = text.replace("\r\n", "\n");
    let whole = &text[..text.rfind("\n\n").map_or(0, |at| at + 2)];
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start().to_owned())
    };
    let event = |text: &str| Some(Event { id: field(text, "id:"), data: field(text, "data:")? });
    whole.split("\n\n").filter_map(event).collect()
}

fn messages(text: &str) -> Vec<String> {
    events(text).into_iter().map(|event| event.data).filter(|data| !data.is_empty()).collect()
}
