//! One text → the words of a command, split as the Python program splits it (`shlex`, the quoting of a POSIX shell).
//! No shell runs: no variable, no wildcard, no pipe means anything.

/// Splits at blanks. `'…'` keeps all as it is, `"…"` all but `\"` and `\\`; a backslash elsewhere keeps the byte
/// behind it.
pub(super) fn split(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => words.extend(word.take()),
            b'\'' | b'"' => quoted(byte, &mut bytes, word.get_or_insert_default())?,
            b'\\' => word.get_or_insert_default().push(bytes.next().ok_or("ends in a backslash")?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes what stands before the closing quote.
fn quoted(quote: u8, bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), &'static str> {
    let unclosed = "has a quote that is not closed";
    loop {
        match bytes.next().ok_or(unclosed)? {
            byte if byte == quote => return Ok(()),
            b'\\' if quote == b'"' => match bytes.next().ok_or(unclosed)? {
                kept @ (b'"' | b'\\') => word.push(kept),
                other => word.extend([b'\\', other]),
            },
            byte => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, wanted) in [
            ("", &[][..]),
            (" \t\r\n ", &[]),
            ("uvx mcp-server-fetch", &["uvx", "mcp-server-fetch"]),
            ("  a \n b\t", &["a", "b"]),
            ("''", &[""]),
            ("a '' \"\" b", &["a", "", "", "b"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("a'b c'd\"e f\"g", &["ab cde fg"]),
            (r"a\ b \'c\' \\ \n", &["a b", "'c'", r"\", "n"]),
            (r"'a\'", &[r"a\"]),
            (r#""a\"b\\c\d\$ '""#, &[r#"a"b\c\d\$ '"#]),
            ("a\\\nb", &["a\nb"]),
            ("a # b; c | d > e & $F `g` *", &["a", "#", "b;", "c", "|", "d", ">", "e", "&", "$F", "`g`", "*"]),
            ("--user-agent='Me/1 (x)' é", &["--user-agent=Me/1 (x)", "é"]),
        ] {
            let words: Vec<_> =
                split(text.as_bytes()).unwrap().into_iter().map(|w| String::from_utf8(w).unwrap()).collect();
            assert_eq!(words, wanted, "{text}");
        }
        for (text, wanted) in [
            ("'a", "has a quote that is not closed"),
            ("a \"b", "has a quote that is not closed"),
            (r#""a\"#, "has a quote that is not closed"),
            (r#""a\""#, "has a quote that is not closed"),
            ("a\\", "ends in a backslash"),
        ] {
            assert_eq!(split(text.as_bytes()), Err(wanted), "{text}");
        }
        assert_eq!(split(b"a\xff b").unwrap(), [&b"a\xff"[..], b"b"]);
    }
}
