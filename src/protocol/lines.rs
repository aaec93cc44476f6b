//! Newline framing: bytes as they were read become lines. What is held is bounded by the limit and the bytes
//! just given: a line over the limit is counted and not kept, and the lines after it are read as ever.

use super::message::ends::Ends;
use memchr::memchr;

/// One line, without its end.
#[derive(Clone, PartialEq, Eq)]
pub enum Line {
    /// A line within the limit.
    Complete(Vec<u8>),
    /// A line over the limit; what it said is gone.
    TooLong {
        /// How long it was.
        bytes: usize,
        /// How it began and ended.
        ends: Ends,
    },
    /// A line within the limit, for which there was no memory.
    NoRoom {
        /// How long it was.
        bytes: usize,
        /// How it began and ended.
        ends: Ends,
    },
}

/// Cuts what is read into lines.
pub struct Lines {
    limit_bytes: usize,
    /// The unfinished line, unless it is too long already; a carriage return is held beyond the limit.
    held: Vec<u8>,
    /// What is kept of an unfinished line that is too long, or for which there is no memory.
    ends: Ends,
    /// There is no memory for the unfinished line.
    is_given_up: bool,
    /// How long the unfinished line is, kept or not.
    length: usize,
    /// Whether its last byte is a carriage return, which may belong to its end.
    carriage_return: bool,
}

impl Lines {
    /// Lines of at most `limit_bytes`, their end not counted.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held: Vec::new(),
            ends: Ends::default(),
            is_given_up: false,
            length: 0,
            carriage_return: false,
        }
    }

    /// How many bytes the memory for the unfinished line will have once so many more have come; 0 if it stays as it is.
    #[must_use]
    pub fn growth(&self, bytes: usize) -> usize {
        if self.is_given_up || self.length > self.most() { 0 } else { growth(&self.held, bytes, self.most()) }
    }

    /// There is no memory for more of the unfinished line: it is counted and not kept.
    pub fn give_up(&mut self) {
        self.is_given_up = true;
        self.ends.add(&std::mem::take(&mut self.held));
    }

    fn most(&self) -> usize {
        self.limit_bytes.saturating_add(1)
    }

    /// Takes bytes as they were read and gives every line that they complete, in order, without line end
    /// (`\n` or `\r\n`). Blank lines are left out.
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(Line)) {
        while !bytes.is_empty() {
            let (part, ended) = cut(&mut bytes, b'\n');
            if ended && self.length == 0 && !self.is_given_up && part.len() <= self.limit_bytes {
                whole(part).map(&mut line); // as most lines come
                continue;
            }
            self.hold(part);
            if ended {
                self.finish().map(&mut line);
            }
        }
    }

    /// End of input: the last line, if it has no newline.
    pub fn finish(&mut self) -> Option<Line> {
        let ended_by_two = usize::from(std::mem::take(&mut self.carriage_return));
        let bytes = std::mem::take(&mut self.length) - ended_by_two;
        // The buffer goes with the line, so that none stays as large as the largest line was.
        let mut line = std::mem::take(&mut self.held);
        let is_given_up = std::mem::take(&mut self.is_given_up);
        if bytes > self.limit_bytes || is_given_up {
            let mut ends = std::mem::take(&mut self.ends);
            ends.add(&line);
            let is_too_long = bytes > self.limit_bytes;
            return Some(if is_too_long { Line::TooLong { bytes, ends } } else { Line::NoRoom { bytes, ends } });
        }
        line.truncate(bytes);
        (!line.trim_ascii().is_empty()).then_some(Line::Complete(line))
    }

    fn hold(&mut self, part: &[u8]) {
        let Some(last) = part.last() else { return };
        self.carriage_return = *last == b'\r';
        self.length = self.length.saturating_add(part.len());
        let most = self.most();
        if self.length > most || self.is_given_up {
            self.ends.add(&std::mem::take(&mut self.held));
            self.ends.add(part);
        } else {
            append(&mut self.held, part, most);
        }
    }
}

/// A line that came in one piece.
fn whole(part: &[u8]) -> Option<Line> {
    let line = part.strip_suffix(b"\r").unwrap_or(part);
    (!line.trim_ascii().is_empty()).then(|| Line::Complete(line.to_vec()))
}

/// Takes what stands before the first `end` from `bytes`, and that end with it; says whether there was one.
pub(super) fn cut<'a>(bytes: &mut &'a [u8], end: u8) -> (&'a [u8], bool) {
    let all = *bytes;
    let Some(at) = memchr(end, all) else {
        *bytes = &[];
        return (all, false);
    };
    *bytes = &all[at + 1..];
    (&all[..at], true)
}

/// Appends to a buffer that never holds more than `most`: it doubles as a `Vec` does, but not beyond that.
pub(super) fn append(held: &mut Vec<u8>, part: &[u8], most: usize) {
    let growth = growth(held, part.len(), most);
    if growth > 0 {
        held.reserve_exact(growth - held.len());
    }
    held.extend_from_slice(part);
}

/// How large such a buffer becomes when so many bytes more are to be held; 0 if it stays as it is.
pub(super) fn growth(held: &Vec<u8>, bytes: usize, most: usize) -> usize {
    let needed = held.len().saturating_add(bytes);
    let doubled = held.capacity().saturating_mul(2).min(most);
    if needed > held.capacity() { needed.max(doubled) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of `pieces`, readable: the text of a line, or how long it was.
    fn read(limit_bytes: usize, pieces: &[&[u8]]) -> Vec<Result<String, usize>> {
        let mut lines = Lines::new(limit_bytes);
        let mut found = Vec::new();
        let mut show = |line| {
            found.push(match line {
                Line::Complete(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Line::TooLong { bytes, .. } | Line::NoRoom { bytes, .. } => Err(bytes),
            });
        };
        for piece in pieces {
            lines.feed(piece, &mut show);
            assert!(lines.held.capacity() <= limit_bytes + 1, "{} bytes held", lines.held.capacity());
        }
        lines.finish().map(&mut show);
        assert!(lines.finish().is_none(), "an input ends once");
        found
    }

    /// One rule: what `input` gives, however it is cut.
    fn check(limit_bytes: usize, input: &str, expected: &[Result<&str, usize>]) {
        let expected: Vec<_> = expected.iter().map(|line| line.map(str::to_owned)).collect();
        let input = input.as_bytes();
        let same = |pieces: &[&[u8]]| {
            assert_eq!(read(limit_bytes, pieces), expected, "{:?}", String::from_utf8_lossy(&pieces.join(&b'|')));
        };
        same(&[input]);
        same(&input.chunks(1).collect::<Vec<_>>());
        for first in 0..=input.len() {
            same(&[&input[..first], &input[first..]]);
            for second in first..=input.len() {
                same(&[&input[..first], &input[first..second], &input[second..]]);
            }
        }
    }

    #[test]
    fn lines_end_with_a_newline_or_the_input() {
        check(9, "", &[]);
        check(9, "a", &[Ok("a")]);
        check(9, "a\n", &[Ok("a")]);
        check(9, "a\nb", &[Ok("a"), Ok("b")]);
        check(9, "a\r\nb\r\n", &[Ok("a"), Ok("b")]);
        check(9, "a\nb\r\nc\n", &[Ok("a"), Ok("b"), Ok("c")]);
        check(9, "a\r", &[Ok("a")]);
        check(9, "é\n→\n", &[Ok("é"), Ok("→")]);
    }

    #[test]
    fn only_the_last_carriage_return_belongs_to_the_end() {
        check(9, "a\rb\n", &[Ok("a\rb")]);
        check(9, "a\r\r\nb", &[Ok("a\r"), Ok("b")]);
        check(9, "\ra\n", &[Ok("\ra")]);
    }

    #[test]
    fn blank_lines_are_left_out() {
        check(9, "\n", &[]);
        check(9, "\r\n\n\r\n", &[]);
        check(9, "\na\n\n\nb\n\r\n", &[Ok("a"), Ok("b")]);
        check(9, " \t\n a \n  ", &[Ok(" a ")]);
        check(9, "\r", &[]);
    }

    #[test]
    fn a_line_over_the_limit_costs_only_itself() {
        check(3, "abc\nabcd\nab\n", &[Ok("abc"), Err(4), Ok("ab")]);
        check(3, "abc\r\nabcd\r\nab\r\n", &[Ok("abc"), Err(4), Ok("ab")]);
        check(3, "abcdefghij\n", &[Err(10)]);
        check(3, "abcdefghij", &[Err(10)]);
        check(3, "abcd\rfgh\r", &[Err(8)]);
        check(3, "abcdef\nabcdefg\n", &[Err(6), Err(7)]);
        check(3, "      \n", &[Err(6)]);
        check(0, "a\n\nbc\n", &[Err(1), Err(2)]);
        check(0, "\r\n\r", &[]);
    }

    #[test]
    fn no_limit_is_a_limit_too() {
        let mut lines = Lines::new(usize::MAX);
        lines.feed(b"ab", |_| panic!("no line yet"));
        assert!(matches!(lines.finish(), Some(Line::Complete(line)) if line == b"ab"));
    }

    #[test]
    fn a_large_line_is_held_once_and_handed_out() {
        let mut lines = Lines::new(1 << 20);
        let mut longest = 0;
        for _ in 0..16 {
            lines.feed(&vec![b'x'; 1 << 16], |_| panic!("no line yet"));
        }
        lines.feed(b"\ny\n", |line| {
            if let Line::Complete(bytes) = line {
                longest = longest.max(bytes.capacity());
            }
        });
        assert!((1 << 20..=(1 << 20) + 1).contains(&longest), "{longest}");
        assert_eq!(lines.held.capacity(), 0, "nothing of it stays");
    }

    #[test]
    fn a_line_that_is_given_up_costs_only_itself() {
        let mut lines = Lines::new(100);
        let mut found = Vec::new();
        let mut show = |line| {
            found.push(match line {
                Line::NoRoom { bytes, ends } => format!("{bytes} {:?}", ends.answered()),
                Line::TooLong { bytes, .. } => format!("{bytes} too long"),
                Line::Complete(line) => String::from_utf8(line).unwrap(),
            });
        };
        lines.feed(b"one\n{\"id\":7,\"res", &mut show);
        assert_eq!((lines.growth(0), lines.growth(1), lines.growth(50)), (0, 24, 62));
        lines.give_up();
        assert_eq!((lines.growth(1000), lines.held.capacity()), (0, 0));
        lines.feed(b"ult\":0}\r", &mut show);
        lines.feed(b"\ntwo\n", &mut show);
        lines.feed(b"three", &mut show);
        lines.give_up();
        lines.feed(&[b'x'; 100], &mut show);
        assert_eq!(lines.growth(1), 0);
        lines.finish().map(&mut show);
        lines.feed(b"four\n", &mut show);
        let seven = crate::protocol::message::Id::from_json("7");
        assert_eq!(found, ["one", &format!("19 {seven:?}"), "two", "105 too long", "four"]);
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut lines = Lines::new(1 << 10);
        for _ in 0..100 {
            lines.feed(&[b'x'; 1 << 10], |_| panic!("no line yet"));
            assert!(lines.held.capacity() <= (1 << 10) + 1);
        }
        assert!(matches!(lines.finish(), Some(Line::TooLong { bytes: 102_400, .. })));
    }
}
