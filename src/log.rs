//! One line an event, to stderr, as text or as JSON. Everything that may hold a secret passes through this file:
//! values are kept in [`Secret`], addresses are shown by [`address`], foreign text by [`shortened`].
//!
//! Always: a stderr that nobody reads costs lines, never more than a moment of anybody's time. What is written as
//! JSON is JSON, whatever came, and however much of it was read.

mod json;

use crate::system::{self, Poll};
use crate::time;
use json::{Event, Source};
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How important a line is; the names are those of `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What only a developer wants to see.
    Debug,
    /// What an operator wants to see once.
    Info,
    /// Something went wrong and we go on.
    Warning,
    /// A request, a session or a server was lost.
    Error,
    /// The program ends.
    Critical,
}

/// How a line is written; the names are those of `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);
static JSON: AtomicBool = AtomicBool::new(false);

/// What stderr, shared by all threads, did not take.
static LOST: Mutex<Lost> = Mutex::new(Lost { lines: 0, is_cut: false });

/// How long we wait once for a reader that is slow. After that it gets what it has room for.
const PATIENCE: Duration = Duration::from_millis(100);
/// A pipe that is ready takes so many bytes without a wait (`PIPE_BUF` of pipe(7)).
const READY_BYTES: usize = 4096;

struct Lost {
    /// Lines since stderr took one.
    lines: usize,
    /// The last one was begun.
    is_cut: bool,
}

/// Lines below `level` are left out from now on.
pub fn set_level(level: Level) {
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// Lines are written like this from now on.
pub fn set_format(format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// Writes one line if `level` is shown. A stderr that cannot be written to is ignored:
/// there is nobody left to tell.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    if (level as u8) < LEAST.load(Ordering::Relaxed) {
        return;
    }
    if is_json() {
        write_json(&Event { level: level.name(), source: Source::Own }, &text.to_string());
    } else {
        write_text(format!("mcp-proxy: {}: {text}\n", level.name()).as_bytes());
    }
}

/// Why the program ends: its last line, whatever the level.
pub fn last(text: fmt::Arguments<'_>) {
    if is_json() {
        write_json(&Event { level: Level::Critical.name(), source: Source::Own }, &text.to_string());
    } else {
        write_text(format!("mcp-proxy: {text}\n").as_bytes());
    }
}

/// A line for developers.
pub fn debug(text: fmt::Arguments<'_>) {
    line(Level::Debug, text);
}

/// A line for operators.
pub fn info(text: fmt::Arguments<'_>) {
    line(Level::Info, text);
}

/// Something went wrong and we go on.
pub fn warning(text: fmt::Arguments<'_>) {
    line(Level::Warning, text);
}

/// Something was lost.
pub fn error(text: fmt::Arguments<'_>) {
    line(Level::Error, text);
}

/// A line of a server's own log, passed on as it is. Its name stands before it where there are several.
pub fn foreign(server: Option<&str>, line: &[u8]) {
    if is_json() {
        let event = Event { level: Level::Info.name(), source: Source::Server(server) };
        return write_json(&event, &String::from_utf8_lossy(line));
    }
    let name = server.map_or_else(String::new, |name| format!("{name}: "));
    write_text(&[name.as_bytes(), line, b"\n"].concat());
}

fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Each object is written whole or not at all.
fn write_json(event: &Event, text: &str) {
    let objects = event.objects(&now(), text, READY_BYTES);
    write(objects.iter().map(String::as_bytes), false);
}

fn write_text(line: &[u8]) {
    write(line.chunks(READY_BYTES), true);
}

fn now() -> String {
    time::rfc3339_ms(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Writes the parts of a line, or counts it as lost. `is_one`: without the last part the line has no end.
fn write<'a>(parts: impl Iterator<Item = &'a [u8]>, is_one: bool) {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stderr = std::io::stderr().lock();
    if lost.lines > 0 && is_ready(&stderr, Duration::ZERO) {
        let _ = stderr.write_all(told(&lost).as_bytes());
        *lost = Lost { lines: 0, is_cut: false };
    }
    for (at, part) in parts.enumerate() {
        if !is_ready(&stderr, if lost.lines == 0 { PATIENCE } else { Duration::ZERO }) {
            lost.lines += 1;
            lost.is_cut |= is_one && at > 0;
            return;
        }
        let _ = stderr.write_all(part);
    }
}

/// What a reader that comes back is told.
fn told(lost: &Lost) -> String {
    let text = format!("{} lines are left out, since nobody read them", lost.lines);
    let end = if lost.is_cut { "\n" } else { "" };
    if is_json() {
        let objects = Event { level: Level::Warning.name(), source: Source::Own }.objects(&now(), &text, READY_BYTES);
        return format!("{end}{}", objects.concat());
    }
    format!("{end}mcp-proxy: warning: {text}\n")
}

/// Whether stderr takes [`READY_BYTES`] without a wait, or fails without one.
fn is_ready(stderr: &impl AsFd, timeout: Duration) -> bool {
    system::poll(&mut [Poll::writable(stderr.as_fd())], Some(timeout)).is_ok_and(|ready| ready > 0)
}

/// What the operating system says of an error, without its number.
#[must_use]
pub fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// A value that is never shown: a token, a password, the value of a header.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value` from being shown.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A URL as it may be shown: without user, password, query and fragment.
#[must_use]
pub fn address(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    match shown.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => shown.to_owned(),
    }
}

/// Foreign text as it may be shown: at most 200 characters, on one line, without control characters.
#[must_use]
pub fn shortened(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(800)];
    let mut text: String =
        String::from_utf8_lossy(start).chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() < bytes.len() && bytes.len() > start.len() || text.chars().count() == 200 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("http://host:80/sse", "http://host:80/sse"),
            ("https://user:pw@host/sse?key=1#x", "https://host/sse"),
            ("https://host?key=1", "https://host"),
            ("http://a@b@host/p@th", "http://host/p@th"),
            ("/messages?session_id=1", "/messages"),
        ] {
            assert_eq!(address(url), shown);
        }
    }

    #[test]
    fn foreign_text_is_short_and_on_one_line() {
        assert_eq!(shortened(b"a\nb\x1b[1m"), "a b [1m");
        assert_eq!(shortened(b"Bearer \xff"), "Bearer \u{fffd}");
        assert_eq!(shortened(&[b'x'; 5000]).chars().count(), 201);
        assert_eq!(shortened(&[b'x'; 199]).chars().count(), 199);
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    }
}
