//! A remote server that does what a test tells it to: every request is recorded, and a closure answers it in
//! bytes. [`Remote::mcp`] is one that behaves; [`Remote::start`] is for those that do not.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{SOON, wait_until};

/// What a stream of events begins with.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
/// What a POST is answered with.
pub const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\nAccepted";

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and target.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The server.
pub struct Remote {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// The connection that a request came over.
pub struct Connection<'a> {
    socket: TcpStream,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// Sends bytes; a client that is gone is no failure.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref());
    }

    /// Begins an event stream, which [`Remote::event`] and others speak of from now on.
    pub fn stream(&mut self, first: &str) {
        self.shared.streams.lock().unwrap().push(self.socket.try_clone().unwrap());
        self.write(format!("{STREAM}{first}"));
    }

    /// Sends an event over the newest stream.
    pub fn event(&self, event: impl AsRef<[u8]>) {
        if let Some(stream) = self.shared.streams.lock().unwrap().last_mut() {
            let _ = stream.write_all(event.as_ref());
        }
    }

    /// Begins an event stream whose first event depends on its number, from 0.
    pub fn numbered_stream(&mut self, first: impl Fn(usize) -> String) {
        let number = {
            let mut streams = self.shared.streams.lock().unwrap();
            streams.push(self.socket.try_clone().unwrap());
            streams.len() - 1
        };
        self.write(format!("{STREAM}{}", first(number)));
    }

    /// Sends an event over the stream with that number.
    pub fn event_to(&self, number: usize, event: impl AsRef<[u8]>) {
        if let Some(stream) = self.shared.streams.lock().unwrap().get_mut(number) {
            let _ = stream.write_all(event.as_ref());
        }
    }

    /// All requests to the server so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many streams were opened so far.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.streams.lock().unwrap().len()
    }

    /// Passes bytes on to another server and back until both are done.
    pub fn join(&mut self, address: &str) {
        let other = TcpStream::connect(address).unwrap();
        let (mut from, mut to) = (self.socket.try_clone().unwrap(), other.try_clone().unwrap());
        let forth = thread::spawn(move || drop((std::io::copy(&mut from, &mut to), to.shutdown(Shutdown::Both))));
        let (mut from, mut to) = (other, self.socket.try_clone().unwrap());
        let _ = (std::io::copy(&mut from, &mut to), to.shutdown(Shutdown::Both));
        forth.join().unwrap();
    }

    /// Waits until the other side has closed the connection.
    pub fn wait_for_close(&mut self) {
        let _ = self.socket.set_read_timeout(Some(SOON));
        while matches!(self.socket.read(&mut [0; 1024]), Ok(1..)) {}
    }

    /// Closes the connection.
    pub fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Remote {
    /// A server that answers each request as `answer` does.
    pub fn start(answer: impl Fn(&Request, &mut Connection<'_>) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer)
    }

    /// The same at a certain address.
    pub fn start_at(address: &str, answer: impl Fn(&Request, &mut Connection<'_>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (serving, answer) = (shared.clone(), Arc::new(answer));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                socket.set_nodelay(true).unwrap();
                let (shared, answer) = (serving.clone(), answer.clone());
                shared.connections.lock().unwrap().push(socket.try_clone().unwrap());
                thread::spawn(move || serve(socket, &shared, &*answer));
            }
        });
        Self { address, shared }
    }

    /// A server that behaves: `/sse` is the stream, every request is answered with its own method as the result.
    pub fn mcp() -> Self {
        Self::start(behave)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An address on it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The bodies of all POSTs so far.
    #[must_use]
    pub fn posts(&self) -> Vec<String> {
        self.requests().iter().filter(|r| r.line.starts_with("POST ")).map(Request::text).collect()
    }

    /// Waits for so many POSTs and returns the bodies.
    #[must_use]
    pub fn wait_for_posts(&self, count: usize) -> Vec<String> {
        wait_until(&format!("{count} POSTs"), SOON, || self.posts().len() >= count);
        self.posts()
    }

    /// Waits until so many sessions were ended, which is told and not waited for; gives the requests that told it.
    pub fn wait_for_ends(&self, count: usize) -> Vec<Request> {
        let ends = || self.requests().into_iter().filter(|request| request.line.starts_with("DELETE "));
        wait_until(&format!("{count} ends of sessions"), SOON, || ends().count() >= count);
        ends().collect()
    }

    /// How many streams were opened so far.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.streams.lock().unwrap().len()
    }

    /// Waits until so many streams were opened.
    pub fn wait_for_streams(&self, count: usize) {
        wait_until(&format!("{count} streams"), SOON, || self.streams() >= count);
    }

    /// Sends bytes over the newest stream.
    pub fn event(&self, event: impl AsRef<[u8]>) {
        self.shared.streams.lock().unwrap().last_mut().unwrap().write_all(event.as_ref()).unwrap();
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Ends the server: nobody listens any more, and all connections break.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address)); // wakes the one who accepts
        wait_until("the end of the listener", SOON, || TcpStream::connect(self.address).is_err());
        self.break_connections();
    }

    /// Breaks all streams.
    pub fn break_streams(&self) {
        for stream in self.shared.streams.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Breaks all connections.
    pub fn break_connections(&self) {
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// What [`Remote::mcp`] does.
pub fn behave(request: &Request, connection: &mut Connection<'_>) {
    if request.line.starts_with("GET ") {
        connection.stream("event: endpoint\r\ndata: /messages/?session_id=1\r\n\r\n");
        return;
    }
    connection.write(ACCEPTED);
    connection.event(answer(&request.body).unwrap_or_default());
}

/// The event that answers a request; none for other messages and for the method `hang`.
#[must_use]
pub fn answer(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).unwrap();
    let (id, method) = (message.get("id")?, message.get("method")?);
    (method != "hang").then(|| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"did\":{method}}}}}\n\n"))
}

fn serve(socket: TcpStream, shared: &Shared, answer: &(dyn Fn(&Request, &mut Connection<'_>) + Send + Sync)) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut connection = Connection { socket, shared };
    while let Some(request) = read(&mut reader) {
        shared.requests.lock().unwrap().push(request.clone());
        answer(&request, &mut connection);
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: first.trim_end_matches(" HTTP/1.1").to_owned(), headers, body })
}
