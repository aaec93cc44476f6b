//! Members of which every reader of a message finds the same one.
//!
//! Of a name that stands twice some readers take the first and some the last; some take a name in other case for the
//! same (Go's `encoding/json`, which folds two letters outside ASCII too). A client that wrote both could show us one
//! id and the server another: one that belongs to another client.

use super::member::Text;
use serde_core::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A name stands more than once, or only in another case.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The values of these members of an object, as JSON text; of no object there are none.
///
/// # Errors
/// One of the names stands in it twice, or in another case.
pub fn sole<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], Ambiguous> {
    struct Wanted<'n, const N: usize>([&'n str; N]);
    impl<'de, const N: usize> Visitor<'de> for Wanted<'_, N> {
        type Value = [Option<&'de str>; N];
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object in which these names stand once")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(Text(name)) = map.next_key()? {
                let value = map.next_value::<&RawValue>()?.get();
                let Some(at) = self.0.iter().position(|wanted| folds_to(&name, wanted)) else { continue };
                if name != self.0[at] || found[at].replace(value).is_some() {
                    return Err(A::Error::custom("ambiguous"));
                }
            }
            Ok(found)
        }
    }
    if !text.starts_with('{') {
        return Ok([None; N]);
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Wanted(names)).map_err(|_| Ambiguous)
}

fn folds_to(name: &str, wanted: &str) -> bool {
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
