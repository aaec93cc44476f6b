//! Members of which every reader of a message finds the same one.
//!
//! Of a name that stands twice some readers take the first and some the last; some take a name in other case for the
//! same (Go's `encoding/json`, which folds two letters outside ASCII too). A client that wrote both could show us one
//! id and the server another: one that belongs to another client.

use super::member::gathered;

/// A name stands more than once, or only in another case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

/// The values of these members of an object, as JSON text; of no object there are none.
///
/// # Errors
/// One of the names stands in it twice, or in another case.
pub fn sole<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], Ambiguous> {
    if !text.starts_with('{') {
        return Ok([None; N]);
    }
    let start = || Found { names, values: [None; N], is_ambiguous: false };
    match gathered(text, start, |found, name, value| found.see(&name, value)) {
        Some(Found { values, is_ambiguous: false, .. }) => Ok(values),
        _ => Err(Ambiguous),
    }
}

struct Found<'a, 'n, const N: usize> {
    names: [&'n str; N],
    values: [Option<&'a str>; N],
    is_ambiguous: bool,
}

impl<'a, const N: usize> Found<'a, '_, N> {
    fn see(&mut self, name: &str, value: &'a str) {
        match self.names.iter().position(|wanted| *wanted == name) {
            Some(at) => self.is_ambiguous |= self.values[at].replace(value).is_some(),
            None => self.is_ambiguous |= self.names.iter().any(|wanted| folds_to(name, wanted)),
        }
    }
}

/// Whether some reader takes this name for that one.
pub(super) fn folds_to(name: &str, wanted: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(wanted);
    }
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k', // the sign for kelvin
        c => c.to_ascii_lowercase(),
    };
    name.len() >= wanted.len() && name.chars().map(fold).eq(wanted.chars().map(|c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_finds_the_same() {
        for (text, wanted) in [
            (r#"{"a":1, "token" : "x","b":{"token":2}}"#, Ok([Some(r#""x""#), Some("1")])),
            (r#"{"\u0074oken":2,"A1":3}"#, Ok([Some("2"), None])),
            ("{}", Ok([None, None])),
            ("[1]", Ok([None, None])),
            (r#"{"token":1,"token":1}"#, Err(Ambiguous)),
            (r#"{"token":1,"TOKEN":2}"#, Err(Ambiguous)),
            (r#"{"Token":2}"#, Err(Ambiguous)),
            ("{\"to\u{212a}en\":2}", Err(Ambiguous)),
            (r#"{"a":2,"\u0041":3}"#, Err(Ambiguous)),
        ] {
            assert_eq!(sole(text, ["token", "a"]), wanted, "{text}");
        }
    }
}
