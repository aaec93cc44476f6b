//! HTTP/1.1 over one connection that may break at any byte: every failure is a value, and what came before it counts.

use super::ledger::Ledger;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often who waits looks up: the run may have failed meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A wait that ends: when its answer counts as lost, and soon once the run has failed.
pub struct Patience {
    ledger: Arc<Ledger>,
    since: Instant,
}

impl Patience {
    /// It begins now.
    pub fn new(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: ledger.clone(), since: Instant::now() }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.since.elapsed() > self.ledger.patience()
    }

    /// Waits for the next of these, but not beyond `end`.
    pub fn next(&self, messages: &Receiver<String>, end: Option<Instant>) -> Result<String, RecvTimeoutError> {
        loop {
            match messages.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if !self.is_over() && end.is_none_or(|end| Instant::now() < end) => {}
                other => return other,
            }
        }
    }
}

/// What is read, while there is patience.
struct Patient {
    stream: TcpStream,
    /// None: for ever.
    patience: Option<Patience>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What keeps a connection alive is no answer: the time is up however much has come.
            if self.patience.as_ref().is_some_and(Patience::is_over) {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

/// One connection.
pub struct Wire {
    reader: BufReader<Patient>,
    /// The port on our side: by it the one who cuts connections knows which it was.
    pub port: u16,
    address: String,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    lines: Vec<String>,
}

impl Head {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.lines.iter().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some()
    }

    fn is_json(&self) -> bool {
        self.get("content-type").is_some_and(|kind| kind.starts_with("application/json"))
    }
}

/// What came of an answer, and why not more.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// The messages in what came.
    pub messages: Vec<String>,
    /// Why it ended early.
    pub broken: Option<io::Error>,
}

impl Wire {
    /// Connects to `HOST:PORT`.
    pub fn connect(address: &str, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(ledger.patience()))?;
        stream.set_nodelay(true)?;
        let port = stream.local_addr()?.port();
        let patience = Some(Patience::new(ledger));
        Ok(Self { reader: BufReader::new(Patient { stream, patience }), port, address: address.to_owned() })
    }

    /// The bytes of a request.
    pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        text
    }

    /// Sends a request.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        let text = Self::request(&self.address, method, path, headers, body);
        self.reader.get_mut().stream.write_all(text.as_bytes())
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> io::Result<Head> {
        if let Some(patience) = &mut self.reader.get_mut().patience {
            patience.since = Instant::now();
        }
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        Ok(Head { status: status.ok_or_else(|| io::Error::other(format!("no status: {lines:?}")))?, lines })
    }

    /// Reads a whole answer; says whether the connection can be used again.
    pub fn reply(&mut self) -> io::Result<(Reply, bool)> {
        let head = self.head()?;
        let mut body = Vec::new();
        let broken = self.body(&head, &mut body).err();
        let text = String::from_utf8_lossy(&body).into_owned();
        let messages = match (head.is_chunked(), head.is_json()) {
            (false, true) if broken.is_none() => vec![text],
            (false, _) => Vec::new(),
            (true, _) => events(&text).into_iter().map(|(_, data)| data).filter(|data| !data.is_empty()).collect(),
        };
        let again = broken.is_none() && head.get("connection").is_none_or(|value| value != "close");
        let session = head.get("mcp-session-id").map(str::to_owned);
        Ok((Reply { status: head.status, session, messages, broken }, again))
    }

    fn body(&mut self, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
        if head.is_chunked() {
            while self.chunk(body)? {}
            return Ok(());
        }
        let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        body.resize(length, 0);
        self.reader.read_exact(body)
    }

    /// Reads one chunk; says whether it was not the last.
    pub fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let size = usize::from_str_radix(self.line()?.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        self.reader.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        Ok(size > 0)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Whether the other side has closed it since the last answer: every client looks before it uses one again.
    pub fn is_closed(&self) -> bool {
        let stream = &self.reader.get_ref().stream;
        let look = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        let is_open = look.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_err() || !is_open
    }

    /// A handle to end it from another thread.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.reader.get_ref().stream.try_clone()
    }

    /// Reads for as long as it takes.
    pub fn wait_for_ever(&mut self) -> io::Result<()> {
        let patient = self.reader.get_mut();
        patient.patience = None;
        patient.stream.set_read_timeout(None)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.reader.get_ref().stream.shutdown(Shutdown::Both);
    }
}

/// Names and data of the whole events in a text.
pub fn events(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\r\n", "\n");
    let whole = &text[..text.rfind("\n\n").map_or(0, |at| at + 2)];
    let field = |event: &str, name: &str| {
        let values = event.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim_start);
        values.map(str::to_owned).reduce(|all, next| all + "\n" + &next)
    };
    let pair = |event: &str| Some((field(event, "event:").unwrap_or_default(), field(event, "data:")?));
    whole.split("\n\n").filter_map(pair).collect()
}
