//! Who may ask, by a token: which tokens are taken, and whether a request brings one of them (RFC 6750, "Bearer Token
//! Usage", section 2.1).
//!
//! Always: no token is kept, only its SHA-256; all of them are compared in full, so that the time tells nothing but the
//! length of what the client sent; no fault shows a token.

use super::digest::sha256;
use std::fmt;
use std::hint::black_box;
use ureq_proto::http::{HeaderMap, header};

/// The tokens that are taken, as hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<String>);

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It brings no token.
    NoToken,
    /// What it brings is none of ours.
    WrongToken,
}

impl Denied {
    /// What the client reads of it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "a token is needed, as in 'Authorization: Bearer TOKEN'",
            Self::WrongToken => "the token is not one of those that are taken here",
        }
    }
}

/// A shorter token could be guessed.
const SHORTEST_BYTES: usize = 16;
/// A longer one would hardly pass as a header.
const LONGEST_BYTES: usize = 4096;
/// More are a mistake: every request is compared with all.
const MOST: usize = 1000;

impl Tokens {
    /// The tokens of a file: one a line. Lines that are empty or begin with `#` are none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_lines(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let tokens = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Self::of(tokens.map(|(at, line)| (format!("line {}", at + 1), line)))
    }

    /// The tokens of a variable, which stand between white space or commas.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_words(text: &str) -> Result<Self, String> {
        let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err("there is no token; unset it if everybody may ask".to_owned());
        }
        Self::of(words.enumerate().map(|(at, word)| (format!("token {}", at + 1), word)))
    }

    /// Tokens, each with what names it in a fault.
    fn of<'a>(tokens: impl Iterator<Item = (String, &'a str)>) -> Result<Self, String> {
        let mut hashes = Vec::new();
        for (place, token) in tokens {
            if token.len() < SHORTEST_BYTES {
                return Err(format!("{place}: a token has {SHORTEST_BYTES} characters or more"));
            }
            if token.len() > LONGEST_BYTES {
                return Err(format!("{place}: a token has {LONGEST_BYTES} characters or fewer"));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("{place}: a token is visible ASCII without blanks"));
            }
            hashes.push(sha256(token.as_bytes()));
        }
        match hashes.len() {
            0 => Err("there is no token".to_owned()),
            1..=MOST => Ok(Self(hashes)),
            _ => Err(format!("there are more than {MOST} tokens")),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Lets a request in, or says why not.
    ///
    /// # Errors
    /// It brings no token, or a wrong one.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next().map(|value| bearer(value.as_bytes())), values.next()) {
            // Another scheme is no attempt with a token, RFC 6750 section 3.1.
            (None | Some(None), None) => Err(Denied::NoToken),
            (Some(Some(token)), None) if self.has(token) => Ok(()),
            _ => Err(Denied::WrongToken),
        }
    }

    fn has(&self, token: &[u8]) -> bool {
        if token.len() > LONGEST_BYTES {
            return false; // to hash it would be work for nothing
        }
        let given = sha256(token);
        let is = |known: &String| {
            let differs = known.bytes().zip(given.bytes()).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
            u8::from(black_box(differs) == 0)
        };
        black_box(self.0.iter().fold(0, |found, known| black_box(found | is(known)))) != 0
    }
}

/// The token behind the scheme.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("bearer".len())?;
    let token = rest.trim_ascii();
    let is_apart = rest.first().is_none_or(|byte| *byte == b' ');
    (scheme.eq_ignore_ascii_case(b"bearer") && is_apart).then_some(token)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq_proto::http::HeaderValue;

    const ONE: &str = "one-token-of-ours";
    const TWO: &str = "another/token+of=ours~";

    fn check(tokens: &Tokens, values: &[&str]) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        tokens.check(&headers)
    }

    #[test]
    fn a_request_brings_one_of_the_tokens() {
        let tokens = Tokens::of_words(&format!("{ONE}, {TWO}")).unwrap();
        for (values, wanted) in [
            (&[][..], Err(Denied::NoToken)),
            (&[""], Err(Denied::NoToken)),
            (&["Basic bWU6Z2VoZWlt"], Err(Denied::NoToken)),
            (&["Bearerone-token-of-ours"], Err(Denied::NoToken)),
            (&[ONE], Err(Denied::NoToken)),
            (&["Bearer one-token-of-ours"], Ok(())),
            (&["bearer  another/token+of=ours~"], Ok(())),
            (&["BEARER one-token-of-ours "], Ok(())),
            (&["Bearer"], Err(Denied::WrongToken)),
            (&["Bearer "], Err(Denied::WrongToken)),
            (&["Bearer one-token-of-our"], Err(Denied::WrongToken)),
            (&["Bearer one-token-of-ours2"], Err(Denied::WrongToken)),
            (&["Bearer ONE-token-of-ours"], Err(Denied::WrongToken)),
            (&["Bearer one-token-of-ours, another/token+of=ours~"], Err(Denied::WrongToken)),
            (&["Bearer \u{fe}\u{ff}"], Err(Denied::WrongToken)),
            (&[&format!("Bearer {}", "x".repeat(LONGEST_BYTES + 1))], Err(Denied::WrongToken)),
            (&["Bearer one-token-of-ours", "Bearer one-token-of-ours"], Err(Denied::WrongToken)),
            (&["Bearer one-token-of-ours", "Basic x"], Err(Denied::WrongToken)),
        ] {
            assert_eq!(check(&tokens, values), wanted, "{values:?}");
        }
    }

    #[test]
    fn tokens_stand_in_lines_or_words() {
        let text = format!("# tokens\n\n  {ONE}\r\n#{TWO}\n\t# more\n{TWO}");
        let lines = Tokens::of_lines(&text).unwrap();
        assert_eq!(lines, Tokens::of_words(&format!(" {ONE}\n,{TWO},")).unwrap());
        assert_eq!(format!("{lines:?}"), "Tokens(2)");
        let long = "x".repeat(LONGEST_BYTES + 1);
        for (text, wanted) in [
            ("", "there is no token"),
            ("# nothing", "there is no token"),
            ("\n123456789012345", "line 2: a token has 16 characters or more"),
            (&long, "line 1: a token has 4096 characters or fewer"),
            ("two words of a token", "line 1: a token is visible ASCII without blanks"),
            ("sixteen-or-more-ä", "line 1: a token is visible ASCII without blanks"),
            (&"1234567890123456\n".repeat(MOST + 1), "there are more than 1000 tokens"),
        ] {
            assert_eq!(Tokens::of_lines(text), Err(wanted.to_owned()));
        }
        assert!(Tokens::of_lines(&long[1..]).is_ok() && Tokens::of_lines("1234567890123456").is_ok());
        assert_eq!(Tokens::of_words(" , "), Err("there is no token; unset it if everybody may ask".to_owned()));
        assert_eq!(
            Tokens::of_words("1234567890123456,short"),
            Err("token 2: a token has 16 characters or more".into())
        );
    }
}
