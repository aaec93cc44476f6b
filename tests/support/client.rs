//! A client of the HTTP+SSE transport that knows no more than it must: raw sockets, the bytes of each message.
//! It leaves politely when dropped: its stream's socket is closed.

use super::{SOON, wait_until};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One session.
pub struct Client {
    address: String,
    endpoint: String,
    stream: TcpStream,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    body: Vec<u8>,
    ended: bool,
}

impl Client {
    /// Opens a session at `HOST:PORT` and waits for its endpoint.
    #[must_use]
    pub fn open(address: &str) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("no session at {address}: {error}"))
    }

    /// Opens a session; the reason why there is none may be a status line or what the operating system says.
    pub fn try_open(address: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        let head = format!("GET /sse HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head_of(&mut reader)?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head.lines().next().unwrap_or("no answer").to_owned());
        }
        let received = Arc::new(Mutex::new(Received::default()));
        let sink = Arc::clone(&received);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        thread::spawn(move || {
            let _ = if chunked { gather_chunks(reader, &sink) } else { gather(reader, &sink) };
            sink.lock().unwrap().ended = true;
        });
        let mut client = Self { address: address.to_owned(), endpoint: String::new(), stream, received };
        wait_until("an endpoint", SOON, || client.endpoint().is_some());
        client.endpoint = client.endpoint().unwrap_or_default();
        Ok(client)
    }

    /// Posts one message and returns the status of the answer; 0 if there is none.
    pub fn post(&self, message: &str) -> u16 {
        self.try_post(message).unwrap_or(0)
    }

    fn try_post(&self, message: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let mut request = format!("POST {} HTTP/1.1\r\nHost: {}\r\n", self.endpoint, self.address);
        let length = message.len();
        let _ = write!(request, "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{message}");
        stream.write_all(request.as_bytes()).ok()?;
        let head = head_of(&mut BufReader::new(stream)).ok()?;
        head.split(' ').nth(1)?.parse().ok()
    }

    /// The messages that came so far.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let events = self.events();
        events.into_iter().filter(|(name, _)| name != "endpoint").map(|(_, data)| data).collect()
    }

    /// Waits for a message that holds `text`.
    #[must_use]
    pub fn message(&self, text: &str) -> String {
        let found = || self.messages().into_iter().find(|message| message.contains(text));
        wait_until(&format!("a message with {text:?}"), SOON, || found().is_some() || self.ended());
        found().unwrap_or_else(|| panic!("the stream ended without {text:?}: {:?}", self.messages()))
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.received.lock().unwrap().ended
    }

    /// Waits for the end of the stream.
    pub fn wait_for_end(&self, within: Duration) {
        wait_until("the end of the stream", within, || self.ended());
    }

    fn endpoint(&self) -> Option<String> {
        self.events().into_iter().find(|(name, _)| name == "endpoint").map(|(_, data)| data)
    }

    /// Names and data of all whole events.
    fn events(&self) -> Vec<(String, String)> {
        let body = String::from_utf8_lossy(&self.received.lock().unwrap().body).replace("\r\n", "\n");
        let whole = &body[..body.rfind("\n\n").map_or(0, |at| at + 2)];
        let field = |event: &str, name: &str| {
            let values = event.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.map(str::to_owned).reduce(|all, next| all + "\n" + &next)
        };
        let pairs = whole.split("\n\n").filter_map(|event| {
            let data = field(event, "data")?;
            Some((field(event, "event").unwrap_or_else(|| "message".to_owned()), data))
        });
        pairs.collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A message that asks for `method` under `id`.
#[must_use]
pub fn request(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// The first message of every session.
#[must_use]
pub fn initialize(id: u32) -> String {
    let params = r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"test","version":"1"}}"#;
    request(id, "initialize", params)
}

/// What follows the answer to it.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn head_of(reader: &mut impl BufRead) -> Result<String, String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match reader.read_line(&mut head) {
            Ok(0) => return Err("the connection ended".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(head)
}

fn gather(mut reader: impl Read, sink: &Mutex<Received>) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        sink.lock().unwrap().body.extend_from_slice(&buffer[..count]);
    }
}

fn gather_chunks(mut reader: impl BufRead, sink: &Mutex<Received>) -> std::io::Result<()> {
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
        if size == 0 {
            return Ok(());
        }
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        sink.lock().unwrap().body.extend_from_slice(&chunk[..size]);
    }
}
