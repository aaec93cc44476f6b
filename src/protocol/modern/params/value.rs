//! Values as headers say them (MCP 2026-07-28, `basic/transports/streamable-http`, "Value Encoding").
//!
//! Always: numbers keep every digit; none goes through a float.

use std::borrow::Cow;

/// More digits, or an exponent that makes more, and a number is none that is compared.
const DIGITS: usize = 400;

/// The text that stands for a value (JSON text) before it is encoded: a string as it is, a whole number in digits,
/// `true` or `false`; `None` for `null` and for what has no such text.
pub fn rendered(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok().map(Cow::Owned),
        b't' | b'f' => Some(Cow::Borrowed(value)),
        // A number that is not whole is wrong for its schema: the server will say so.
        b'-' | b'0'..=b'9' => Some(whole(value).map_or(Cow::Borrowed(value), Cow::Owned)),
        _ => None,
    }
}

/// Whether a decoded header says what the body says; of a whole number, whether it is the same number.
pub fn says_the_same(header: &str, body: &str, is_integer: bool) -> bool {
    header == body || (is_integer && whole(header).is_some_and(|header| Some(header) == whole(body)))
}

/// The digits of a whole number, however it is written: `42.0`, `4.2e1` and `42` are the same.
fn whole(text: &str) -> Option<String> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(before) || !is_number(after) || mantissa.len() > DIGITS {
        return None;
    }
    let exponent = exponent.strip_prefix('+').filter(|rest| is_number(rest)).unwrap_or(exponent).parse::<i64>().ok()?;
    let after = after.trim_end_matches('0');
    let zeros = exponent.checked_sub(i64::try_from(after.len()).ok()?)?;
    let all = format!("{before}{after}");
    let all = all.trim_start_matches('0');
    let digits = match usize::try_from(zeros) {
        _ if all.is_empty() => return Some("0".into()),
        Ok(zeros) if zeros <= DIGITS => format!("{all}{}", "0".repeat(zeros)),
        Ok(_) => return None,
        Err(_) => {
            let cut = all.len().checked_sub(usize::try_from(zeros.unsigned_abs()).ok()?)?;
            let (digits, rest) = all.split_at(cut);
            (!digits.is_empty() && rest.bytes().all(|digit| digit == b'0')).then(|| digits.to_owned())?
        }
    };
    Some(format!("{sign}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_has_one_text() {
        for (text, wanted) in [
            ("42", Some("42")),
            ("-7", Some("-7")),
            ("42.0", Some("42")),
            ("4.2e1", Some("42")),
            ("420E-1", Some("42")),
            ("1e2", Some("100")),
            ("1E+2", Some("100")),
            ("1.00e0", Some("1")),
            ("0", Some("0")),
            ("-0", Some("0")),
            ("-0.0", Some("0")),
            ("0e999999", Some("0")),
            ("00042", Some("42")),
            ("1152921504606846977", Some("1152921504606846977")),
            ("1152921504606846977.0", Some("1152921504606846977")),
            ("42.5", None),
            ("1e-1", None),
            ("10e-2", None),
            ("100e-2", Some("1")),
            ("1e999", None),
            ("1e99999999999999999999", None),
            ("1e-9223372036854775808", None),
            ("", None),
            ("-", None),
            ("+1", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("1e+", None),
            ("1e+-1", None),
            ("--1", None),
            ("0x10", None),
            (" 1", None),
        ] {
            assert_eq!(whole(text).as_deref(), wanted, "{text}");
        }
    }

    /// Against numbers that are known to be the same.
    #[test]
    fn spellings_of_small_numbers() {
        for number in -200_i64..=200 {
            for (text, factor) in
                [("", 1), (".0", 1), ("e0", 1), ("e1", 10), ("E+2", 100), ("0e-1", 1), ("00.00e-1", 10)]
            {
                let wanted = (number * factor).to_string();
                assert_eq!(whole(&format!("{number}{text}")), Some(wanted), "{number}{text}");
            }
            let tenth = whole(&format!("{number}e-1"));
            assert_eq!(tenth, (number % 10 == 0).then(|| (number / 10).to_string()));
        }
    }

    #[test]
    fn a_value_is_said_as_its_type_has_it() {
        for (value, wanted) in [
            (r#""us-west1""#, Some("us-west1")),
            (r#""\u00e9\n""#, Some("é\n")),
            (r#""""#, Some("")),
            (r#""\ud800""#, None),
            ("42", Some("42")),
            ("1e2", Some("100")),
            ("3.14", Some("3.14")),
            ("1e999", Some("1e999")),
            ("true", Some("true")),
            ("false", Some("false")),
            ("null", None),
            ("{}", None),
            ("[1]", None),
            ("", None),
        ] {
            assert_eq!(rendered(value).as_deref(), wanted, "{value}");
        }
    }
}
