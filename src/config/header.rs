//! Names and values of HTTP headers, as they may come from a user.

use crate::log::Secret;

/// RFC 9110's `token`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The value of a header or a token, if a header can carry it.
///
/// # Errors
/// It cannot.
pub fn value(value: &str) -> Result<Secret, &'static str> {
    if value.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) {
        Ok(Secret::new(value.to_owned()))
    } else {
        Err("holds a character that a header cannot carry, such as a line break")
    }
}
