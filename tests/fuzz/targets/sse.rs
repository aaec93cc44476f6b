//! Event streams: the decoder against the standard's rules applied to the whole text, however the text is cut; and what
//! is encoded is decoded as what it was. The first byte says how much data an event may have.

use mcp_proxy::protocol::sse::{Decoder, Event, TooLong, encode, encode_comment, encode_priming, encode_retry};
use std::time::Duration;

/// The longest name, id or delay that counts.
const SHORT_BYTES: usize = 8 * 1024;

/// Name, id and data, or how long the data was that is too long.
type Found = Result<(String, Option<String>, Vec<u8>), usize>;

/// All that a stream gave.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<Found>,
    last_event_id: Option<String>,
    retry: Option<Duration>,
}

pub fn check(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let limit = usize::from(first % 64);
    let wanted = wanted(text, limit);
    assert_eq!(seen(&[text], limit), wanted, "in one piece");
    assert_eq!(seen(&super::pieces(text), limit), wanted, "in some pieces");
    assert_eq!(seen(&text.chunks(1).collect::<Vec<_>>(), limit), wanted, "byte by byte");
    for event in seen(&[text], usize::MAX).events.into_iter().flatten() {
        there_and_back(&event.0, event.1.as_deref(), &event.2);
    }
    there_and_back("message", None, text);
}

fn seen(pieces: &[&[u8]], limit: usize) -> Seen {
    let mut decoder = Decoder::new(limit);
    let mut seen = Seen::default();
    for piece in pieces {
        decoder.feed(piece, |event| {
            seen.events.push(match event {
                Ok(Event { name, data, id }) => Ok((name, id, data)),
                Err(TooLong { bytes }) => Err(bytes),
            });
        });
    }
    (seen.last_event_id, seen.retry) = (decoder.last_event_id().map(str::to_owned), decoder.retry());
    seen
}

/// WHATWG HTML, 9.2.6 "Interpreting an event stream", with our limits.
fn wanted(text: &[u8], limit: usize) -> Seen {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut wanted = Seen::default();
    let (mut name, mut id, mut data) = (String::new(), None, None::<Vec<u8>>);
    for line in complete_lines(text) {
        if line.is_empty() {
            let (data, name, id) = (data.take().unwrap_or_default(), std::mem::take(&mut name), id.take());
            if let Some(id) = &id {
                wanted.last_event_id = Some(String::clone(id)).filter(|id| !id.is_empty());
            }
            if data.len() > limit {
                wanted.events.push(Err(data.len()));
            } else if !data.is_empty() {
                let name = if name.is_empty() { "message".to_owned() } else { name };
                wanted.events.push(Ok((name, id, data)));
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((&line[..], &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let short = String::from_utf8_lossy(value).into_owned();
        match field {
            b"data" => match &mut data {
                Some(data) => data.extend([b"\n", value].concat()),
                None => data = Some(value.to_vec()),
            },
            _ if value.len() > SHORT_BYTES => {}
            b"event" => name = short,
            b"id" if !short.contains('\0') => id = Some(short),
            b"retry" if !short.is_empty() && short.bytes().all(|byte| byte.is_ascii_digit()) => {
                wanted.retry = Some(Duration::from_millis(short.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    wanted
}

/// The lines that have an end: CRLF, LF or CR.
fn complete_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut before = 0;
    for byte in text {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().expect("there is one").push(*byte),
        }
        before = *byte;
    }
    lines.pop();
    lines
}

fn there_and_back(name: &str, id: Option<&str>, data: &[u8]) {
    let mut out = Vec::new();
    encode_retry(&mut out, Duration::from_millis(7));
    encode_comment(&mut out, name);
    encode_priming(&mut out, id.unwrap_or("0"));
    encode(&mut out, name, id, data);
    let mut lines = complete_lines(&[data, b"."].concat());
    lines.push(data[data.iter().rposition(|byte| matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1)..].to_vec());
    let data = lines.join(&b'\n');
    let got = seen(&[&out], usize::MAX);
    if data.is_empty() {
        assert_eq!(got.events, []);
        return;
    }
    assert_eq!(got.events, [Ok((name.to_owned(), id.map(str::to_owned), data))]);
    assert_eq!(got.retry, Some(Duration::from_millis(7)));
    assert_eq!(got.last_event_id.as_deref(), Some(id.unwrap_or("0")).filter(|id| !id.is_empty()));
}
