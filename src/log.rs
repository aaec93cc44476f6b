//! One line an event, to stderr. Everything that may hold a secret passes through this file:
//! values are kept in [`Secret`], addresses are shown by [`address`], foreign text by [`shortened`].
//!
//! Always: a stderr that nobody reads costs lines, never more than a moment of anybody's time.

use crate::system::{self, Poll};
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);

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

/// Writes one line if `level` is shown. A stderr that cannot be written to is ignored:
/// there is nobody left to tell.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    if (level as u8) < LEAST.load(Ordering::Relaxed) {
        return;
    }
    let name = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    };
    write(format!("mcp-proxy: {name}: {text}\n").as_bytes());
}

/// Why the program ends: its last line, whatever the level.
pub fn last(text: fmt::Arguments<'_>) {
    write(format!("mcp-proxy: {text}\n").as_bytes());
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

/// A line of a server's own log, passed on as it is.
pub fn foreign(line: &[u8]) {
    let mut text = Vec::with_capacity(line.len() + 1);
    text.extend_from_slice(line);
    text.push(b'\n');
    write(&text);
}

/// Writes a line, or counts it as lost.
fn write(line: &[u8]) {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stderr = std::io::stderr().lock();
    if lost.lines > 0 && is_ready(&stderr, Duration::ZERO) {
        let end = if lost.is_cut { "\n" } else { "" };
        let told = format!("{end}mcp-proxy: warning: {} lines are left out, since nobody read them\n", lost.lines);
        let _ = stderr.write_all(told.as_bytes());
        *lost = Lost { lines: 0, is_cut: false };
    }
    for (at, part) in line.chunks(READY_BYTES).enumerate() {
        if !is_ready(&stderr, if lost.lines == 0 { PATIENCE } else { Duration::ZERO }) {
            lost.lines += 1;
            lost.is_cut |= at > 0;
            return;
        }
        let _ = stderr.write_all(part);
    }
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
