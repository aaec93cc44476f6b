//! The demo server: a small MCP server on stdin and stdout, to try a client or the proxy with. It speaks the
//! revisions that begin with `initialize`.
//!
//! One thread waits for input or for the next number of a count, whichever is first, so that a count can be
//! cancelled and other requests are answered meanwhile. Always: one line a message, flushed; every request gets
//! one answer, unless it was cancelled. After the end of input, counts go on without pauses.

#[cfg(test)]
mod tests;
mod tools;

use crate::error::Error;
use crate::log;
use crate::protocol::lines::{Line, Lines};
use crate::protocol::message::{INVALID_PARAMS, INVALID_REQUEST, Id, Kind, METHOD_NOT_FOUND, Message};
use crate::system::{self, Poll};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, ErrorKind, StdinLock, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};
use tools::{Outcome, Refused};

/// The revisions that it speaks, the newest last. MCP `basic/lifecycle`, Version Negotiation.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The first revision in which wrong arguments are the tool's answer, which a model reads, and no JSON-RPC error.
/// MCP `server/tools`, Error Handling.
const TOOLS_EXPLAIN_SINCE: &str = "2025-11-25";
/// A longer line is refused and not kept.
const LINE_BYTES: usize = 64 << 20;
/// Counts that run at the same time.
const MOST_COUNTS: usize = 64;

/// Serves on stdin and stdout until the input ends or nobody reads the answers; gives the exit status.
///
/// # Errors
/// stdin cannot be read or stdout cannot be written to.
pub fn run() -> Result<u8, Error> {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Error::Failed(format!("cannot serve on stdin and stdout: {}", log::cause(&error)))),
    }
}

fn serve(stdin: &mut StdinLock<'_>, stdout: &mut impl Write) -> io::Result<()> {
    let (mut demo, mut lines) = (Demo::default(), Lines::new(LINE_BYTES));
    let mut open = true;
    let mut out = String::new();
    while open || demo.next().is_some() {
        let ready = open && is_ready(stdin, demo.next())?;
        let now = Now::read();
        if ready {
            open = read(stdin, &mut lines, |line| demo.answer(line, now, &mut out))?;
        }
        demo.count_on(if open { Some(now.instant) } else { None }, &mut out);
        stdout.write_all(out.as_bytes())?;
        stdout.flush()?;
        out = String::new(); // none stays as large as the largest answer was
    }
    Ok(())
}

/// Waits for input, at most until `deadline`; says whether there is some, or its end.
fn is_ready(stdin: &StdinLock<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    let mut polls = [Poll::readable(stdin.as_fd())];
    system::poll(&mut polls, deadline.map(|at| at.saturating_duration_since(Instant::now())))?;
    Ok(polls[0].is_readable())
}

/// Reads once, and takes everything that was read, so that nothing is left where no wait would see it.
/// Says whether the input goes on.
fn read(stdin: &mut StdinLock<'_>, lines: &mut Lines, mut line: impl FnMut(Line)) -> io::Result<bool> {
    let bytes = match stdin.fill_buf() {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return Ok(true),
        Err(error) => return Err(error),
    };
    let count = bytes.len();
    if count == 0 {
        lines.finish().map(line);
        return Ok(false);
    }
    lines.feed(bytes, &mut line);
    stdin.consume(count);
    Ok(true)
}

/// A point in time, by both clocks.
#[derive(Clone, Copy)]
struct Now {
    /// For pauses.
    instant: Instant,
    /// For people.
    since_epoch: Duration,
}

impl Now {
    fn read() -> Self {
        // A clock before 1970 shows 1970.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), since_epoch }
    }
}

/// The server without its input and output: lines in, lines out.
#[derive(Default)]
struct Demo {
    /// What `initialize` agreed on.
    revision: Option<&'static str>,
    counts: Vec<Count>,
}

/// A call of `count` that is not finished.
struct Count {
    id: Id,
    /// The JSON text of the progress token, if the client wants to hear of progress.
    token: Option<Box<str>>,
    done: u32,
    to: u32,
    pause: Duration,
    next: Instant,
}

impl Demo {
    /// Takes a line of the client and appends what is to be said at once.
    fn answer(&mut self, line: Line, now: Now, out: &mut String) {
        let messages = match line {
            Line::Complete(bytes) => Message::parse_all(bytes).map_err(|invalid| (invalid.code, invalid.reason)),
            Line::TooLong { bytes, .. } | Line::NoRoom { bytes, .. } => {
                Err((INVALID_REQUEST, format!("a line of {bytes} bytes is too long")))
            }
        };
        match messages {
            Ok(messages) => messages.iter().for_each(|message| self.take(message, now, out)),
            Err((code, reason)) => say_error(out, None, code, &reason),
        }
    }

    fn take(&mut self, message: &Message, now: Now, out: &mut String) {
        if let Some(cancelled) = message.cancels() {
            self.counts.retain(|count| !count.id.may_be(&cancelled));
        }
        let Kind::Request { id, method } = message.kind() else { return };
        match self.request(id, method, message, now) {
            Ok(Some(result)) => say_result(out, id, &result),
            Ok(None) => {} // it is answered when it has counted
            Err(Refusal { code, reason }) => say_error(out, Some(id), code, &reason),
        }
    }

    fn request(&mut self, id: &Id, method: &str, message: &Message, now: Now) -> Result<Option<Value>, Refusal> {
        match method {
            "initialize" => self.initialize(&Params::of(message)?).map(Some),
            "ping" => Ok(Some(json!({}))),
            "tools/list" | "tools/call" if self.revision.is_none() => {
                Err(Refusal { code: INVALID_REQUEST, reason: "'initialize' comes first".into() })
            }
            "tools/list" => list(&Params::of(message)?).map(Some),
            "tools/call" => self.call(id, &Params::of(message)?, now),
            other => {
                let reason = format!("there is no method '{}'", log::shortened(other.as_bytes()));
                Err(Refusal { code: METHOD_NOT_FOUND, reason })
            }
        }
    }

    fn initialize(&mut self, params: &Params<'_>) -> Result<Value, Refusal> {
        let asked = params.text("protocolVersion")?;
        let [.., newest] = REVISIONS;
        let revision = REVISIONS.into_iter().find(|known| *known == asked).unwrap_or(newest);
        self.revision = Some(revision);
        Ok(json!({
            "protocolVersion": revision,
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "mcp-proxy-demo", "version": env!("CARGO_PKG_VERSION") },
            "instructions": "A demo server: its tools show that a connection works.",
        }))
    }

    /// The answer to a call, unless it takes time.
    fn call(&mut self, id: &Id, params: &Params<'_>, now: Now) -> Result<Option<Value>, Refusal> {
        let name = params.text("name")?;
        let arguments = params.object("arguments")?;
        match tools::call(&name, arguments, now.since_epoch) {
            Ok(Outcome::Text(text)) => Ok(Some(tool_result(&text, false))),
            Ok(Outcome::Failed(reason)) => Ok(Some(tool_result(&reason, true))),
            Ok(Outcome::Count { .. }) if self.counts.len() >= MOST_COUNTS => {
                Ok(Some(tool_result(&format!("{MOST_COUNTS} counts are running already; try again later"), true)))
            }
            Ok(Outcome::Count { to, pause }) => {
                let token = params.progress_token();
                self.counts.push(Count { id: id.clone(), token, done: 0, to, pause, next: now.instant });
                Ok(None)
            }
            Err(Refused::UnknownTool) => {
                Err(invalid_params(&format!("there is no tool '{}'", log::shortened(name.as_bytes()))))
            }
            Err(Refused::Arguments(reason)) if self.revision >= Some(TOOLS_EXPLAIN_SINCE) => {
                Ok(Some(tool_result(&reason, true)))
            }
            Err(Refused::Arguments(reason)) => Err(invalid_params(&reason)),
        }
    }

    /// When the next number of a count is due.
    fn next(&self) -> Option<Instant> {
        self.counts.iter().map(|count| count.next).min()
    }

    /// Says one number of each count that is due by `now`, or of all counts.
    fn count_on(&mut self, now: Option<Instant>, out: &mut String) {
        self.counts.retain_mut(|count| {
            if now.is_some_and(|now| now < count.next) {
                return true;
            }
            count.next += count.pause;
            count.say_next(out);
            count.done < count.to
        });
    }
}

impl Count {
    /// The next number; after the last one, the answer.
    fn say_next(&mut self, out: &mut String) {
        self.done += 1;
        let (done, to) = (self.done, self.to);
        if let Some(token) = &self.token {
            let params = format!(r#"{{"progressToken":{token},"progress":{done},"total":{to}}}"#);
            say(out, format_args!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#));
        }
        if done == to {
            say_result(out, &self.id, &tool_result(&format!("counted to {to}"), false));
        }
    }
}

/// All tools on one page: no client has a cursor of ours. MCP `server/utilities/pagination`, Error Handling.
fn list(params: &Params<'_>) -> Result<Value, Refusal> {
    if params.0.get("cursor").is_some_and(|cursor| cursor.get() != "null") {
        return Err(invalid_params("there is no such cursor"));
    }
    Ok(json!({ "tools": tools::list() }))
}

/// Why a request is not granted.
struct Refusal {
    code: i32,
    reason: String,
}

fn invalid_params(reason: &str) -> Refusal {
    Refusal { code: INVALID_PARAMS, reason: reason.into() }
}

/// The parameters of a request; each keeps its JSON spelling.
struct Params<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Params<'a> {
    fn of(message: &'a Message) -> Result<Self, Refusal> {
        let params = serde_json::from_str(message.params().unwrap_or("{}"));
        params.map(Self).map_err(|_| invalid_params("'params' must be an object"))
    }

    fn text(&self, name: &str) -> Result<String, Refusal> {
        let text = self.0.get(name).and_then(|value| serde_json::from_str(value.get()).ok());
        text.ok_or_else(|| invalid_params(&format!("'{name}' must be there and a string")))
    }

    /// An object that may be missing; some clients say `null`.
    fn object(&self, name: &str) -> Result<BTreeMap<String, Value>, Refusal> {
        let value = self.0.get(name).map_or("null", |value| value.get());
        let object: Option<_> =
            serde_json::from_str(value).map_err(|_| invalid_params(&format!("'{name}' must be an object")))?;
        Ok(object.unwrap_or_default())
    }

    /// The JSON text of the token, a string or a number. MCP `basic/utilities/progress`.
    fn progress_token(&self) -> Option<Box<str>> {
        let meta: BTreeMap<String, &RawValue> = serde_json::from_str(self.0.get("_meta")?.get()).ok()?;
        let token = meta.get("progressToken")?.get();
        matches!(token.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| token.into())
    }
}

fn tool_result(text: &str, is_error: bool) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })
}

fn say_result(out: &mut String, id: &Id, result: &Value) {
    say(out, format_args!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.as_json()));
}

fn say_error(out: &mut String, id: Option<&Id>, code: i32, reason: &str) {
    let message = Message::error(id, code, reason);
    say(out, format_args!("{}", String::from_utf8_lossy(message.bytes())));
}

fn say(out: &mut String, message: std::fmt::Arguments<'_>) {
    writeln!(out, "{message}").expect("writing to a string cannot fail");
}
