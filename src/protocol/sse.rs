//! The event stream of WHATWG HTML, section 9.2 "Server-sent events": an encoder, and a decoder that takes the
//! stream however it is cut. What the decoder holds is bounded: an event over the limit is counted and not kept,
//! and the events after it are read as ever.

use super::lines::{append, cut, growth};
use std::fmt;
use std::time::Duration;

/// A name, an id or a delay longer than this is ignored as an unknown field is: none could be sent back.
const SHORT_BYTES: usize = 8 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Appends one event: `event:`, `id:` if there is one, `data:` once a line of data, and the blank line.
/// A line break in a name or an id would begin another field, so it is left out; one in the data arrives as `\n`.
pub fn encode(out: &mut Vec<u8>, name: &str, id: Option<&str>, data: &[u8]) {
    out.reserve(data.len() + name.len() + id.map_or(0, str::len) + 32);
    encode_field(out, "event: ", name);
    if let Some(id) = id {
        encode_field(out, "id: ", id);
    }
    if data.contains(&b'\r') {
        encode_data(out, &with_newlines(data));
    } else {
        encode_data(out, data);
    }
    out.push(b'\n');
}

/// Appends a comment, which no reader shows to anybody: a sign of life.
pub fn encode_comment(out: &mut Vec<u8>, text: &str) {
    // The blank line is for readers that take a stream apart at blank lines. It completes no event.
    encode_field(out, ": ", text);
    out.push(b'\n');
}

/// Appends how long the reader shall wait before it connects again.
pub fn encode_retry(out: &mut Vec<u8>, delay: Duration) {
    encode_field(out, "retry: ", &delay.as_millis().to_string());
    out.push(b'\n');
}

/// Appends an event that has an id and no data, so that a client can come back before anything was said
/// (MCP 2025-11-25, `basic/transports`, Sending Messages to the Server).
pub fn encode_priming(out: &mut Vec<u8>, id: &str) {
    encode_field(out, "id: ", id);
    encode_field(out, "data: ", "");
    out.push(b'\n');
}

fn encode_field(out: &mut Vec<u8>, field: &str, value: &str) {
    out.extend_from_slice(field.as_bytes());
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    out.push(b'\n');
}

/// The space behind the colon is always written, so that one in the data stays.
fn encode_data(out: &mut Vec<u8>, mut data: &[u8]) {
    loop {
        let (line, more) = cut(&mut data, b'\n');
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        if !more {
            return;
        }
    }
}

/// A carriage return ends a line too, alone or before a newline.
fn with_newlines(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(data.len());
    let mut before = 0;
    for &byte in data {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\r' => lines.push(b'\n'),
            byte => lines.push(byte),
        }
        before = byte;
    }
    lines
}

/// One event.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind it is; `message` when the stream does not say.
    pub name: String,
    /// What it says: its lines of data, with `\n` between them. Whether they are UTF-8 is not looked at.
    pub data: Vec<u8>,
    /// The id of this very event, if it has one.
    pub id: Option<String>,
}

impl fmt::Debug for Event {
    /// Shows what it is, never what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {:?} ({} bytes)", self.name, self.data.len())
    }
}

/// An event whose data is over the limit; what it said is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// How long its data was.
    pub bytes: usize,
}

/// Reads an event stream.
///
/// ```text
/// a line begins → Name ─ colon → Colon → Value ─ line end: apply    → Name
///                  ├── line end behind a name: apply, no value      → Name
///                  └── line end, nothing read: dispatch             → Name
/// ```
pub struct Decoder {
    limit_bytes: usize,
    place: Place,
    /// The name of the field that is read, then its value unless it is data.
    short: Vec<u8>,
    /// Whether the last byte was a carriage return: a newline now ends no other line.
    after_carriage_return: bool,
    /// Whether this is the first line, which a byte order mark may precede.
    first_line: bool,
    unfinished: Unfinished,
    last_event_id: String,
    retry: Option<Duration>,
}

/// Where in a line the decoder stands.
#[derive(Clone, Copy)]
enum Place {
    Name,
    Colon(Field),
    Value(Field),
}

#[derive(Clone, Copy)]
enum Field {
    Event,
    Data,
    Id,
    Retry,
    /// A comment, or a field that nobody knows.
    Other,
}

/// The event that is read.
#[derive(Default)]
struct Unfinished {
    name: String,
    id: Option<String>,
    /// Empty once it is too long.
    data: Vec<u8>,
    /// How long the data is, kept or not.
    data_bytes: usize,
    has_data: bool,
}

impl Decoder {
    /// Events with at most `limit_bytes` of data.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            place: Place::Name,
            short: Vec::new(),
            after_carriage_return: false,
            first_line: true,
            unfinished: Unfinished::default(),
            last_event_id: String::new(),
            retry: None,
        }
    }

    /// Takes bytes as they were read and gives every event that they complete, in order; one over the limit is
    /// told when it ends. Events without data are left out, though their id counts: the standard wants it
    /// without a `data` field, and with an empty one (MCP 2025-11-25 begins a stream so) there is no message.
    pub fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(Result<Event, TooLong>)) {
        // Newlines outside, carriage returns inside: looking for the nearer of the two from every line's
        // beginning would read a chunk that has many of the one and none of the other again and again.
        while !bytes.is_empty() {
            let (mut run, newline) = cut(&mut bytes, b'\n');
            while !run.is_empty() {
                let (part, carriage_return) = cut(&mut run, b'\r');
                self.read(part);
                self.after_carriage_return = carriage_return;
                if carriage_return {
                    self.end_line().map(&mut event);
                }
            }
            if newline && !std::mem::take(&mut self.after_carriage_return) {
                self.end_line().map(&mut event);
            }
        }
    }

    /// How many bytes the memory for the unfinished event will have once so many more have come; 0 if it stays as it is.
    #[must_use]
    pub fn growth(&self, bytes: usize) -> usize {
        growth(&self.unfinished.data, bytes, self.limit_bytes)
    }

    /// Where to resume: the id of the last complete event that had one.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        // An empty id takes the one before it back.
        Some(&*self.last_event_id).filter(|id| !id.is_empty())
    }

    /// How long the server asks to wait before the next connection: the last valid `retry:`.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes a part of one line.
    fn read(&mut self, mut part: &[u8]) {
        if let Place::Name = self.place {
            let (name, colon) = cut(&mut part, b':');
            self.hold(name);
            if colon {
                self.place = Place::Colon(self.field());
            }
        }
        if let (Place::Colon(field), [first, ..]) = (self.place, part) {
            part = &part[usize::from(*first == b' ')..];
            self.place = Place::Value(field);
        }
        match self.place {
            Place::Value(Field::Data) => self.unfinished.hold(part, self.limit_bytes),
            Place::Value(Field::Event | Field::Id | Field::Retry) => self.hold(part),
            Place::Value(Field::Other) | Place::Name | Place::Colon(_) => {}
        }
    }

    /// Holds one byte more than is allowed at most: enough to know that it was too long.
    fn hold(&mut self, part: &[u8]) {
        let room = SHORT_BYTES + 1 - self.short.len();
        self.short.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Which field the name that was held belongs to; its value begins.
    fn field(&mut self) -> Field {
        let mut name = &self.short[..];
        if std::mem::take(&mut self.first_line) {
            name = name.strip_prefix(BYTE_ORDER_MARK).unwrap_or(name);
        }
        let field = match name {
            b"event" => Field::Event,
            b"data" => Field::Data,
            b"id" => Field::Id,
            b"retry" => Field::Retry,
            _ => Field::Other,
        };
        self.short.clear();
        if let Field::Data = field
            && std::mem::replace(&mut self.unfinished.has_data, true)
        {
            self.unfinished.hold(b"\n", self.limit_bytes);
        }
        field
    }

    fn end_line(&mut self) -> Option<Result<Event, TooLong>> {
        let field = match std::mem::replace(&mut self.place, Place::Name) {
            Place::Name if self.short.is_empty() => return self.dispatch(),
            Place::Name => self.field(),
            Place::Colon(field) | Place::Value(field) => field,
        };
        if self.short.len() <= SHORT_BYTES {
            self.apply(field);
        }
        self.short.clear();
        None
    }

    fn apply(&mut self, field: Field) {
        let text = String::from_utf8_lossy(&self.short);
        match field {
            Field::Event => self.unfinished.name = text.into_owned(),
            Field::Id if !text.contains('\0') => self.unfinished.id = Some(text.into_owned()),
            Field::Retry if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                // Digits that are no number are too many of them.
                self.retry = Some(Duration::from_millis(text.parse().unwrap_or(u64::MAX)));
            }
            Field::Data | Field::Id | Field::Retry | Field::Other => {}
        }
    }

    fn dispatch(&mut self) -> Option<Result<Event, TooLong>> {
        self.first_line = false;
        let Unfinished { mut name, id, data, data_bytes, .. } = std::mem::take(&mut self.unfinished);
        if let Some(id) = &id {
            // Also that of an event over the limit: resuming before it would bring it again and again.
            self.last_event_id.clone_from(id);
        }
        if data_bytes > self.limit_bytes {
            return Some(Err(TooLong { bytes: data_bytes }));
        }
        if name.is_empty() {
            name.push_str("message");
        }
        (!data.is_empty()).then_some(Ok(Event { name, data, id }))
    }
}

impl Unfinished {
    fn hold(&mut self, part: &[u8], limit_bytes: usize) {
        self.data_bytes = self.data_bytes.saturating_add(part.len());
        if self.data_bytes > limit_bytes {
            self.data = Vec::new();
        } else {
            append(&mut self.data, part, limit_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a stream gave: its events as `name id data`, too long ones as their length, then the state.
    #[derive(Debug, PartialEq, Eq)]
    struct Seen {
        events: Vec<String>,
        last_event_id: Option<String>,
        retry_ms: Option<u128>,
    }

    fn read(limit_bytes: usize, pieces: &[&[u8]]) -> Seen {
        let mut decoder = Decoder::new(limit_bytes);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece, |event| {
                events.push(match event {
                    Ok(Event { name, id, data }) => {
                        format!("{name} {} {}", id.as_deref().unwrap_or("-"), String::from_utf8_lossy(&data))
                    }
                    Err(TooLong { bytes }) => bytes.to_string(),
                });
            });
            assert!(decoder.unfinished.data.capacity() <= limit_bytes);
        }
        Seen {
            events,
            last_event_id: decoder.last_event_id().map(str::to_owned),
            retry_ms: decoder.retry().map(|delay| delay.as_millis()),
        }
    }

    /// What `input` gives is the same however it is cut, and with any of the three line ends.
    fn read_in_every_way(limit_bytes: usize, input: &[u8]) -> Seen {
        let whole = read(limit_bytes, &[input]);
        let same = |pieces: &[&[u8]]| {
            assert_eq!(read(limit_bytes, pieces), whole, "{:?}", String::from_utf8_lossy(&pieces.join(&b'|')));
        };
        same(&input.chunks(1).collect::<Vec<_>>());
        for first in 0..=input.len() {
            same(&[&input[..first], &input[first..]]);
            for second in (first..=input.len()).take_while(|_| input.len() < 64) {
                same(&[&input[..first], &input[first..second], &input[second..]]);
            }
        }
        whole
    }

    fn check_all(limit_bytes: usize, input: &str, events: &[&str], id: Option<&str>, retry_ms: Option<u128>) {
        let expected = Seen {
            events: events.iter().map(ToString::to_string).collect(),
            last_event_id: id.map(str::to_owned),
            retry_ms,
        };
        let mut inputs = vec![input.to_owned()];
        if !input.contains('\r') {
            inputs.extend([input.replace('\n', "\r"), input.replace('\n', "\r\n")]);
        }
        for input in inputs {
            assert_eq!(read_in_every_way(limit_bytes, input.as_bytes()), expected, "{input:?}");
        }
    }

    fn check(input: &str, events: &[&str]) {
        check_all(99, input, events, None, None);
    }

    #[test]
    fn events_have_a_name_and_data() {
        check("", &[]);
        check("data: a\n\n", &["message - a"]);
        check("event: endpoint\ndata: /m?id=1\n\n", &["endpoint - /m?id=1"]);
        check("data: a\nevent: late\n\n", &["late - a"]);
        check("event: one\nevent: two\ndata: a\n\n", &["two - a"]);
        check("event:\ndata: a\n\n", &["message - a"]);
        check("event: once\ndata: a\n\ndata: b\n\n", &["once - a", "message - b"]);
        check("data: é→😀\n\n", &["message - é→😀"]);
    }

    #[test]
    fn lines_of_data_are_joined() {
        check("data: a\ndata: b\n\n", &["message - a\nb"]);
        check("data: a\nevent: x\ndata: b\n\n", &["x - a\nb"]);
        check("data\ndata\n\n", &["message - \n"]);
        check("data: a\ndata\ndata:\ndata: \n\n", &["message - a\n\n\n"]);
    }

    #[test]
    fn one_space_behind_the_colon_is_no_value() {
        check("data:a\n\n", &["message - a"]);
        check("data:  a \n\n", &["message -  a "]);
        check("data:\ta\n\n", &["message - \ta"]);
        check("data:a:b: c\n\n", &["message - a:b: c"]);
        check("data: data: a\n\n", &["message - data: a"]);
    }

    #[test]
    fn other_fields_and_comments_say_nothing() {
        check(": hello\n\n", &[]);
        check(":\n: data: x\ndata: a\n:\n\n", &["message - a"]);
        check("datax: 1\ndat: 2\nDATA: 3\n data: 4\ndata : 5\nnothing\ndata: a\n\n", &["message - a"]);
    }

    #[test]
    fn line_ends_may_be_mixed() {
        check("data: a\r\rdata: b\n\ndata: c\r\n\r\n", &["message - a", "message - b", "message - c"]);
        check("data: a\r\n\rdata: b\n\r\n", &["message - a", "message - b"]);
        check("data: a\rdata: b\ndata: c\r\ndata: d\n\r", &["message - a\nb\nc\nd"]);
        check("\r\n\r\n\n\n\rdata: a\n\n\r\n", &["message - a"]);
    }

    #[test]
    fn a_byte_order_mark_may_stand_at_the_beginning() {
        check("\u{feff}data: a\n\n", &["message - a"]);
        check("\u{feff}: hello\ndata: a\n\n", &["message - a"]);
        check("\u{feff}\ndata: a\n\n", &["message - a"]);
        check("\u{feff}\u{feff}data: a\n\n", &[]);
        check("\n\u{feff}data: a\n\n", &[]);
        check(":\n\u{feff}data: a\n\n", &[]);
        check("data: \u{feff}a\n\n", &["message - \u{feff}a"]);
    }

    #[test]
    fn an_event_without_data_says_nothing() {
        check("event: x\n\n", &[]);
        check("data\n\n", &[]);
        check("data:\n\n", &[]);
        check("event: x\n\ndata: a\n\n", &["message - a"]);
    }

    #[test]
    fn an_event_that_is_cut_off_says_nothing() {
        check("data: a", &[]);
        check("data: a\n", &[]);
        check("data: a\n\ndata: b\nid: 2\n", &["message - a"]);
    }

    #[test]
    fn ids_last() {
        let check = |input, events: &[&str], id| check_all(99, input, events, id, None);
        check("id: 1\ndata: a\n\n", &["message 1 a"], Some("1"));
        check("id: 1\ndata: a\n\ndata: b\n\n", &["message 1 a", "message - b"], Some("1"));
        check("data: a\nid: 1\nid: 2\n\n", &["message 2 a"], Some("2"));
        check("id: 1\n\n", &[], Some("1"));
        check("id: 1\ndata:\n\n", &[], Some("1"));
        check("id: 1\ndata: a\n\nid: 2\n", &["message 1 a"], Some("1"));
        check("id: 1\ndata: a\n\nid\ndata: b\n\n", &["message 1 a", "message  b"], None);
        check("id: 1\nid: a\0b\ndata: a\n\n", &["message 1 a"], Some("1"));
        check("id:  é:1\n\n", &[], Some(" é:1"));
    }

    #[test]
    fn a_delay_has_only_digits() {
        let check = |input, retry_ms| check_all(99, input, &[], None, retry_ms);
        check("retry: 1500\n", Some(1500));
        check("retry:0\n", Some(0));
        check("retry: 1\nretry: 2\n\n", Some(2));
        check("retry: 1\nretry: x\nretry: -1\nretry: 1.5\nretry:  3\nretry: 4 \nretry:\nretry\n", Some(1));
        check("retry: +5\n", None);
        check("retry: 99999999999999999999\n", Some(u128::from(u64::MAX)));
        check("retry: 1500", None);
    }

    #[test]
    fn an_event_over_the_limit_costs_only_itself() {
        let check = |input, events: &[&str]| check_all(3, input, events, None, None);
        check("data: abc\n\ndata: abcd\n\ndata: ab\n\n", &["message - abc", "4", "message - ab"]);
        check("data: a\ndata: b\n\n", &["message - a\nb"]);
        check("data: a\ndata: bc\n\n", &["4"]);
        check("data\ndata\ndata\ndata\ndata\n\n", &["4"]);
        check("data: abcd\ndata: e\nevent: x\n\nevent: x\ndata: a\n\n", &["6", "x - a"]);
        check("data: abcd\n", &[]);
        check(": a long comment\nunknown: field\nevent: long_name\ndata: abc\n\n", &["long_name - abc"]);
        check_all(0, "data: a\n\ndata:\n\n", &["1"], None, None);
        check_all(3, "data: abcd\nid: 7\n\n", &["4"], Some("7"), None);
    }

    #[test]
    fn a_field_that_is_too_long_is_unknown() {
        let fits = "x".repeat(SHORT_BYTES);
        let mut stream = Vec::new();
        encode(&mut stream, &fits, Some(&fits), b"a");
        let (name, id) = (format!("{fits}x"), format!("{fits}y"));
        encode(&mut stream, &name, Some(&id), b"b");
        stream.extend(format!("retry: {}\n{}: 1\n\n", "1".repeat(SHORT_BYTES + 1), "z".repeat(99_999)).bytes());
        for size in [1, 1000, stream.len()] {
            let seen = read(9, &stream.chunks(size).collect::<Vec<_>>());
            assert_eq!(seen.events, [format!("{fits} {fits} a"), "message - b".to_owned()]);
            assert_eq!((seen.last_event_id.as_deref(), seen.retry_ms), (Some(&*fits), None));
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let seen = read_in_every_way(99, b"data: \xff\xfe\nid: \xff\nevent: \xc3\n\n\xff\xef\xbb\xbf: 1\n\0\n\n");
        assert_eq!(seen.events, ["\u{fffd} \u{fffd} \u{fffd}\u{fffd}"]);
    }

    #[test]
    fn what_is_written_is_what_the_standard_asks_for() {
        let mut out = Vec::new();
        encode(&mut out, "message", None, b"{}");
        encode(&mut out, "message", Some("7"), b"a\nb");
        encode(&mut out, "x", Some("8"), b"");
        encode_comment(&mut out, "");
        encode_comment(&mut out, "hello\nthere");
        encode_retry(&mut out, Duration::from_millis(1500));
        let expected = "event: message\ndata: {}\n\nevent: message\nid: 7\ndata: a\ndata: b\n\n\
                        event: x\nid: 8\ndata: \n\n: \n\n: hellothere\n\nretry: 1500\n\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let data = [
            "a",
            " a",
            "  a  ",
            "a\nb",
            "\na",
            "a\n",
            "\n",
            "\n\n\n",
            "data: a",
            "a\ndata: b\n\nevent: x",
            ":",
            ": a",
            "\u{feff}a",
            "é→😀",
            "{\"a\": \"\\n\"}",
            "\0",
            "id: 9\nretry: 9",
        ];
        for text in data {
            for line_end in ["\n", "\r", "\r\n"] {
                let mut stream = Vec::new();
                encode_comment(&mut stream, "before");
                encode(&mut stream, "some name", Some(" 1:2 "), text.replace('\n', line_end).as_bytes());
                encode_comment(&mut stream, "after");
                let seen = read_in_every_way(99, &stream);
                assert_eq!(seen.events, [format!("some name  1:2  {text}")], "{text:?}");
                assert_eq!((seen.last_event_id.as_deref(), seen.retry_ms), (Some(" 1:2 "), None));
            }
        }
    }

    #[test]
    fn names_and_ids_add_no_fields() {
        let mut stream = Vec::new();
        encode(&mut stream, "x\ndata: 1", Some("1\r\nevent: y\r"), b"a");
        assert_eq!(read_in_every_way(99, &stream).events, ["xdata: 1 1event: y a"]);
    }

    #[test]
    fn a_large_event_is_held_once_and_handed_out() {
        let mut decoder = Decoder::new(1 << 20);
        let mut stream = Vec::new();
        encode(&mut stream, "message", None, &vec![b'x'; 1 << 20]);
        let mut sizes = Vec::new();
        for chunk in stream.chunks(1 << 16) {
            decoder.feed(chunk, |event| sizes.extend(event.map(|event| (event.data.len(), event.data.capacity()))));
        }
        assert_eq!(sizes, [(1 << 20, 1 << 20)]);
        assert_eq!(decoder.unfinished.data.capacity(), 0, "nothing of it stays");
    }
}
