//! A body in chunks (RFC 9112, section 7.1), read strictly: where another reader could find another end, of a line or of
//! the body, it is refused, for that reader would take the rest for a request.
//!
//! ```text
//!   Size ──"1e"──▶ Data ──all of it──▶ End ──CRLF──▶ Size
//!    └──"0"──▶ Trailer ──a field──▶ Trailer ──an empty line──▶ Over
//! ```
//!
//! Always: the body keeps within its limit, and is refused as soon as a chunk promises more; a line, and all trailers
//! together, keep within theirs, however they arrive.

/// What a chunked body is read with.
pub struct Chunks {
    limit_bytes: usize,
    place: Place,
    body: Vec<u8>,
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Size,
    /// So many bytes of the chunk are to come.
    Data(usize),
    End,
    Trailer,
    Over,
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no chunked body, or an ambiguous one.
    Malformed,
    /// It is over the limit.
    TooLong,
}

/// The line of a size, with its extensions, is never longer.
const LINE_BYTES: usize = 64;
/// The size itself has no more digits.
const DIGITS: usize = 16;
/// All trailers together are never longer.
const TRAILER_BYTES: usize = 8 * 1024;

impl Chunks {
    /// A body of at most `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, place: Place::Size, body: Vec::new(), trailer_bytes: 0 }
    }

    /// Takes bytes as they were read, and says how many of them belong to the body: the others are to be brought again
    /// with what follows them, or, if [`Chunks::is_over`], belong to the next request.
    ///
    /// # Errors
    /// The body is refused.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let taken = self.step(&bytes[used..])?;
            used += taken;
            if taken == 0 || self.is_over() {
                return Ok(used);
            }
        }
    }

    /// Whether the whole body has been read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// How much of the body has been read.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// What was read, without what it was cut into.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Takes one line or one piece of a chunk, if it is there.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.place {
            Place::Data(left) => {
                let piece = &bytes[..bytes.len().min(left)];
                self.body.extend_from_slice(piece);
                self.place = if piece.len() == left { Place::End } else { Place::Data(left - piece.len()) };
                return Ok(piece.len());
            }
            Place::Over => return Ok(0),
            Place::Size if bytes.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => return Err(Fault::Malformed),
            Place::Size | Place::End | Place::Trailer => {}
        }
        let most = match self.place {
            Place::Size => LINE_BYTES,
            Place::Trailer => TRAILER_BYTES - self.trailer_bytes,
            _ => 0,
        };
        let Some(line) = line(bytes, most)? else { return Ok(0) };
        self.place = match self.place {
            Place::Size => self.begin(size(line)?)?,
            Place::Trailer if line.is_empty() => Place::Over,
            Place::Trailer if !is_field(line) => return Err(Fault::Malformed),
            Place::Trailer => {
                self.trailer_bytes += line.len();
                Place::Trailer
            }
            _ => Place::Size,
        };
        Ok(line.len() + 2)
    }

    /// A chunk of this size begins.
    fn begin(&self, size: u64) -> Result<Place, Fault> {
        let room = self.limit_bytes - self.body.len();
        match usize::try_from(size) {
            Ok(0) => Ok(Place::Trailer),
            Ok(size) if size <= room => Ok(Place::Data(size)),
            _ => Err(Fault::TooLong),
        }
    }
}

/// The line that `bytes` begin with, if its end is there. It ends with CRLF and with nothing else, and has no control
/// characters.
fn line(bytes: &[u8], most: usize) -> Result<Option<&[u8]>, Fault> {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let length = bytes.iter().take(most + 1).position(is_control).unwrap_or(bytes.len());
    match &bytes[length.min(bytes.len())..] {
        _ if length > most => Err(Fault::Malformed),
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(&bytes[..length])),
        _ => Err(Fault::Malformed),
    }
}

/// The number at the beginning of a size line. Blanks behind it, and extensions behind those, mean nothing.
fn size(line: &[u8]) -> Result<u64, Fault> {
    let (digits, rest) = line.split_at(line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count());
    if digits.len() > DIGITS || !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
        return Err(Fault::Malformed);
    }
    let digits = std::str::from_utf8(digits).unwrap_or_default(); // hexadecimal digits are text
    u64::from_str_radix(digits, 16).map_err(|_| Fault::Malformed)
}

/// Whether a trailer has the form of a header: a name, directly followed by a colon. What it says means nothing to us.
fn is_field(line: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line.iter().take_while(|byte| is_token(byte)).count();
    name > 0 && line.get(name) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of pieces: the body and how many bytes are left for the next request, or `None` while it goes on.
    fn read(limit_bytes: usize, pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Fault> {
        let mut chunks = Chunks::new(limit_bytes);
        let mut buffer = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let used = chunks.feed(&buffer)?;
            buffer.drain(..used);
        }
        Ok(chunks.is_over().then(|| (chunks.into_body(), buffer.len())))
    }

    #[test]
    fn what_a_body_is_however_it_is_cut() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(LINE_BYTES - 1));
        let trailers = format!("0\r\n{}\r\n", format!("A: {}\r\n", "x".repeat(1000)).repeat(9));
        for (text, wanted) in [
            ("0\r\n\r\n", Ok(Some(""))),
            ("1e\r\n", Err(Fault::TooLong)),
            ("00a\r\n0123456789\r\n00\r\n\r\n", Ok(Some("0123456789"))),
            ("5\r\n01234\r\n5;a=\"b\"\r\n56789\r\n0 ;x\r\nA: b\r\nC:\r\n\r\n", Ok(Some("0123456789"))),
            ("5\r\n01234\r\n6\r\n", Err(Fault::TooLong)),
            ("ffffffffffffffff\r\n", Err(Fault::TooLong)),
            ("00000000000000001\r\n", Err(Fault::Malformed)),
            ("1\r\na0\r\n\r\n", Err(Fault::Malformed)),
            ("1\r\na\n0\r\n\r\n", Err(Fault::Malformed)),
            ("1\na\r\n0\r\n\r\n", Err(Fault::Malformed)),
            ("1 1\r\na\r\n0\r\n\r\n", Err(Fault::Malformed)),
            ("\r\n", Err(Fault::Malformed)),
            (" 1\r\n", Err(Fault::Malformed)),
            ("0\r\nA: b\rC: d\r\n\r\n", Err(Fault::Malformed)),
            ("0\r\nA: b\r\n c\r\n\r\n", Err(Fault::Malformed)),
            ("0\r\nA b\r\n\r\n", Err(Fault::Malformed)),
            ("0\r\nA : b\r\n\r\n", Err(Fault::Malformed)),
            (long.as_str(), Err(Fault::Malformed)),
            (trailers.as_str(), Err(Fault::Malformed)),
        ] {
            let wanted = wanted.map(|body| body.map(|body| (body.as_bytes().to_vec(), 0)));
            assert_eq!(read(10, &[text.as_bytes()]), wanted, "{text:?}");
            assert_eq!(read(10, &text.as_bytes().chunks(1).collect::<Vec<_>>()), wanted, "{text:?} byte by byte");
            for cut in 0..text.len().min(100) {
                let (one, two) = text.as_bytes().split_at(cut);
                assert_eq!(read(10, &[one, two]), wanted, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_trailer_hides_no_request() {
        // A reader that ends lines with LF alone finds the end of the body here, and then a request.
        assert_eq!(read(9, &[b"0\r\nA: b\n\nGET / HTTP/1.1\r\n\r\n"]), Err(Fault::Malformed));
    }

    #[test]
    fn the_next_request_is_left_alone() {
        assert_eq!(read(9, &[b"1\r\na\r\n0\r\n\r\nGET"]), Ok(Some((b"a".to_vec(), 3))));
        assert_eq!(read(9, &[b"1\r\na\r\n0\r\n"]), Ok(None));
    }
}
