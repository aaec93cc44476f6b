//! Challenges of a server that wants a digest: one a line. What is answered can be sent in a header, and nobody gets out
//! of its quotes.

use mcp_proxy::protocol::digest::{Asked, Challenge};
use ureq_proto::http::HeaderValue;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Only what a header can hold comes here.
    let lines: Vec<&str> = text.lines().filter(|line| HeaderValue::from_str(line).is_ok()).collect();
    let Ok(Some(challenge)) = Challenge::choose(lines.iter().copied()) else { return };
    let asked = Asked { method: "POST", target: "/a?b=\"c\"", count: 7, cnonce: "0123456789abcdef" };
    for (user, password) in [("user", "secret-word"), ("us\"er\\", "secret-word"), ("üser", "secret-word")] {
        let answer = challenge.answer(user, password, asked);
        assert!(HeaderValue::from_str(&answer).is_ok(), "it can be sent: {answer:?}");
        assert!(!answer.contains("secret-word"), "the password is not sent");
        let names = names(&answer);
        let count = |name: &str| names.iter().filter(|known| *known == name).count();
        for name in ["realm", "nonce", "uri", "response"] {
            assert_eq!(count(name), 1, "{name} in {answer}");
        }
        assert_eq!(count("username") + count("username*"), 1);
        assert_eq!((count("qop"), count("cnonce")), (count("nc"), count("nc")));
    }
}

/// The names of the parameters, outside of quotes.
fn names(answer: &str) -> Vec<String> {
    let mut outside = String::new();
    let mut characters = answer.strip_prefix("Digest ").expect("its scheme").chars();
    while let Some(c) = characters.next() {
        outside.push(c);
        if c == '"' {
            loop {
                match characters.next().expect("a quote ends") {
                    '\\' => drop(characters.next()),
                    '"' => break,
                    _ => {}
                }
            }
        }
    }
    outside.split(", ").map(|part| part.split('=').next().unwrap_or_default().to_owned()).collect()
}
