//! A quick walk over the members of a JSON object that is written as nearly all are.
//!
//! Always: what is found here is what `serde_json` finds; whatever is unusual, or no JSON, is not found at all. So
//! nothing depends on this file but time: it takes a fourth of the instructions, and fewer for small objects.

/// What stands deeper is left to `serde_json`.
pub const DEEPEST: usize = 32;

/// Shows the members of the object with which `text` begins, in their order: names, and values as JSON text. Says where
/// the object ends. `None`: there is no such object, or not a plain one; some of its members may have been shown then.
pub fn members<'a>(text: &'a str, mut see: impl FnMut(&'a str, &'a str)) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = blank(bytes, open(bytes, 0, b'{')?);
    if bytes.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        let start = open(bytes, at, b'"')?;
        let end = plain_string(bytes, start)?;
        let name = text.get(start..end)?;
        at = blank(bytes, open(bytes, blank(bytes, end + 1), b':')?);
        let end = value(bytes, at)?;
        see(name, text.get(at..end)?);
        at = blank(bytes, end);
        match bytes.get(at)? {
            b',' => at = blank(bytes, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The place behind `byte`, which stands at `at`.
fn open(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*bytes.get(at)? == byte).then_some(at + 1)
}

/// The first place from `at` on that is no white space.
#[inline]
fn blank(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at).is_some_and(|byte| *byte <= b' ') { behind_blank(bytes, at) } else { at }
}

fn behind_blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// Where a value begins, or what stands behind one.
enum Place {
    Value(usize),
    Behind(usize),
}

/// The objects and arrays that have begun and not ended: how many, and a bit for each, 1 for an object.
#[derive(Default)]
struct Nest {
    depth: usize,
    objects: u64,
}

/// The end of the value that begins at `at`.
#[inline]
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'"') { Some(string(bytes, at + 1)? + 1) } else { other_value(bytes, at) }
}

/// The same, of one that is most likely no string.
fn other_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut nest = Nest::default();
    loop {
        let mut place = match bytes.get(at)? {
            b'"' => Place::Behind(string(bytes, at + 1)? + 1),
            b'{' | b'[' => nest.begin(bytes, at)?,
            b't' => Place::Behind(word(bytes, at, b"true")?),
            b'f' => Place::Behind(word(bytes, at, b"false")?),
            b'n' => Place::Behind(word(bytes, at, b"null")?),
            b'-' | b'0'..=b'9' => Place::Behind(number(bytes, at)?),
            _ => return None,
        };
        at = loop {
            match place {
                Place::Value(start) => break start,
                Place::Behind(end) if nest.depth == 0 => return Some(end),
                Place::Behind(end) => place = nest.go_on(bytes, blank(bytes, end))?,
            }
        };
    }
}

impl Nest {
    /// An object or an array begins at `at`.
    fn begin(&mut self, bytes: &[u8], at: usize) -> Option<Place> {
        let (open, at) = (bytes[at], blank(bytes, at + 1));
        // In ASCII what closes is the second behind what opens, for both.
        if *bytes.get(at)? == open + 2 {
            return Some(Place::Behind(at + 1));
        }
        if self.depth == DEEPEST {
            return None;
        }
        (self.depth, self.objects) = (self.depth + 1, self.objects << 1 | u64::from(open == b'{'));
        self.next(bytes, at)
    }

    /// The next member or element begins at `at`.
    #[inline]
    fn next(&self, bytes: &[u8], at: usize) -> Option<Place> {
        if !self.is_object() {
            return Some(Place::Value(at));
        }
        let end = string(bytes, open(bytes, at, b'"')?)?;
        Some(Place::Value(blank(bytes, open(bytes, blank(bytes, end + 1), b':')?)))
    }

    /// A member or an element has ended before `at`.
    fn go_on(&mut self, bytes: &[u8], at: usize) -> Option<Place> {
        match *bytes.get(at)? {
            b',' => self.next(bytes, blank(bytes, at + 1)),
            close if close == if self.is_object() { b'}' } else { b']' } => {
                (self.depth, self.objects) = (self.depth - 1, self.objects >> 1);
                Some(Place::Behind(at + 1))
            }
            _ => None,
        }
    }

    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// The end of a number. RFC 8259 §6.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        let start = at;
        while matches!(bytes.get(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        (at > start).then_some(at)
    };
    let at = if bytes[at] == b'-' { at + 1 } else { at };
    let mut end = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = digits(end + 1 + usize::from(sign))?;
    }
    Some(end)
}

/// The place of the quote that ends a string, of which the first was read.
#[inline]
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let at = ordinary(bytes, at);
    if bytes.get(at) == Some(&b'"') { Some(at) } else { string_with_more(bytes, at) }
}

/// The same, of one that has more than ordinary bytes from here on, or whose end is among the last bytes.
#[cold]
fn string_with_more(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => match bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            0..0x20 => return None,
            _ => at += 1,
        }
        at = ordinary(bytes, at);
    }
}

/// The same, of a string without escapes.
fn plain_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = ordinary(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' | 0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Skips bytes that stand for themselves in a string, eight at a time: all of them, but for the last few of `bytes`.
#[inline]
fn ordinary(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // In each: the high bit of a byte is set if it is meant, and of a byte behind it perhaps.
    let below = |word: u64, most: u8| word.wrapping_sub(ONES * u64::from(most)) & !word & HIGH;
    while let Some(piece) = bytes.get(at..at + 8).and_then(|piece| piece.try_into().ok()) {
        let word = u64::from_le_bytes(piece);
        // With one bit turned, a quote is as low as what is below a space, and nothing else is.
        let quotes_and_controls = below(word ^ (ONES * 2), 0x21);
        let found = quotes_and_controls | below(word ^ (ONES * u64::from(b'\\')), 1);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::member::slow_members;

    const TEXTS: [&str; 9] = [
        r#"{"name":"echo","arguments":{"a":[1,-2.5e+3]},"_meta":{"a/b":"c","progressToken":1}}"#,
        r#"{"content":[{"type":"text","text":"a\nb\u00e9\"\\ü"}],"isError":false,"x":null} , {"#,
        "{\r\n  \"id\" : \"a\",\r\n\t\"params\": [\n1 ,\r2 ],\n\"method\":\"x\" , \"n\" :0e0\r\n}",
        r#"{"a":1,"a":{"a":1,"a":2},"":-0,"é":1e999}"#,
        r#"{"p\u0061rams":[],"id":{"\ud800":1}}"#,
        r#"{"a":{"\u0061":1,"\ud800":2,"x":"\ud800\/\b\f\r\t1234567\u12345678 and a long text of several words."}}"#,
        "{}",
        "{ \n}x",
        "[1]",
    ];

    /// What is found here is what `serde_json` finds; says whether anything was.
    fn check(text: &str) -> bool {
        let mut found = Vec::new();
        let Some(end) = members(text, |name, value| found.push((name, value))) else { return false };
        let same = slow_members(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(found.len(), same.len(), "{text}");
        for ((name, value), (known, same)) in found.iter().zip(&same) {
            assert_eq!((*name, value.as_ptr(), *value), (&**known, same.as_ptr(), *same), "{text}");
        }
        assert_eq!(slow_members(&text[..end]), Some(same), "{text}");
        assert!(slow_members(&text[..end - 1]).is_none(), "{text}");
        true
    }

    #[test]
    fn plain_objects_are_found() {
        let found: Vec<bool> = TEXTS.iter().map(|text| check(text)).collect();
        assert_eq!(found, [true, true, true, true, false, true, true, true, false]);
    }

    /// Every cut, every byte of each text as every other, left out, and twice.
    #[test]
    fn what_is_found_is_what_serde_finds() {
        let mut count = 0;
        let mut check = |bytes: &[u8]| count += usize::from(std::str::from_utf8(bytes).is_ok_and(check));
        for text in TEXTS.map(str::as_bytes) {
            for at in 0..text.len() {
                check(&text[..at]);
                check(&[&text[..at], &text[at + 1..]].concat());
                check(&[&text[..=at], &text[at..]].concat());
                for byte in 0..=255 {
                    check(&[&text[..at], &[byte], &text[at + 1..]].concat());
                }
            }
        }
        assert!(count > 15_000, "{count}");
    }

    #[test]
    fn what_is_deep_is_not_looked_at() {
        for (depth, found) in [(1, true), (DEEPEST, true), (DEEPEST + 2, false), (100_000, false)] {
            let text = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(members(&text, |_, _| ()).is_some(), found, "{depth}");
        }
    }

    /// Each byte that means something, at each place of a word.
    #[test]
    fn the_end_of_a_string_is_found_wherever_it_stands() {
        for length in 0..40 {
            for end in ["\"", "\\n\"", "\\u00e9\"", "é\"", "\u{1}\"", "\u{7f}\"", "\\x\"", ""] {
                let text = format!(r#"{{"a":"{}{end}}}"#, "!".repeat(length));
                assert_eq!(check(&text), slow_members(&text).is_some(), "{text}");
            }
        }
    }
}
