//! Bytes as text: base64 with the usual alphabet and padding (RFC 4648, section 4), as HTTP basic authentication has it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text that stands for `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The bytes that `text` stands for; `None` where [`encode`] would not have written it: other letters, no padding, bits
/// that are left over and not 0.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let letters = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in letters.as_bytes().chunks(4) {
        let mut bits = 0;
        for at in 0..4 {
            let letter = four.get(at).unwrap_or(&b'A');
            bits = bits << 6 | ALPHABET.iter().position(|known| known == letter)?;
        }
        let three = [bits >> 16 & 255, bits >> 8 & 255, bits & 255].map(|byte| u8::try_from(byte).unwrap_or_default());
        bytes.extend(&three[..four.len().saturating_sub(1)]);
    }
    // One spelling for each value, so that two readers cannot disagree.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_those_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xef\xff", "++//"),
            ("test:123\u{a3}".as_bytes(), "dGVzdDoxMjPCow=="),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn what_is_no_base64_is_not_read() {
        for text in [
            "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z", "=", "==", "====", "Zm9v=", "Zm-v", "Zm9v\n", "Z=g=", "Zm 9v",
            "é",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let letters = ["A", "B", "/", "=", "-", "w"];
        for n in 0..letters.len().pow(6) {
            let text: String = (0..6).map(|at| letters[n / letters.len().pow(at) % letters.len()]).collect();
            for text in [&text[..4], &text[..5], &text] {
                assert!(decode(text).is_none_or(|bytes| encode(&bytes) == text), "{text}");
            }
        }
    }
}
