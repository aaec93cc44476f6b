//! The command line: a word a line; words `NAME=value` before a line `--` are the environment. A fault is one line that
//! shows no secret.

use mcp_proxy::cli::{Invocation, parse};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Given where a secret belongs, and shown by nobody.
const SECRET: &str = "hunter2hunter2";

pub fn check(data: &[u8]) {
    // A word may be the path of a file: none of those that are read without an end.
    let text = String::from_utf8_lossy(data);
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let mut words: Vec<Vec<u8>> = data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let variables = match words.iter().position(|word| word == b"--") {
        Some(at) => words.drain(..=at).take(at).collect(),
        None => Vec::new(),
    };
    words.retain(|word| !word.contains(&0));
    let environment = |name: &str| {
        let value = variables.iter().find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        value.map(|value| OsString::from_vec(value.to_vec()))
    };
    let is_secret = shows_no_secret(&words);
    match parse(words.into_iter().map(OsString::from_vec), &environment) {
        Err(error) => {
            assert!(matches!(error.status(), 2 | 126 | 127), "{error}");
            one_line(&error.to_string(), is_secret);
        }
        Ok(parsed) => {
            parsed.remarks.iter().for_each(|remark| one_line(remark, is_secret));
            // What is shown of all options, as in a log.
            let shown = format!("{:?}", parsed.invocation);
            match parsed.invocation {
                Invocation::Serve(options) => assert!(!options.servers.is_empty() || text.contains("config")),
                Invocation::Connect(_) | Invocation::Help | Invocation::Version | Invocation::Demo => {}
            }
            assert!(!is_secret || !shown.contains(SECRET), "a secret is shown: {shown}");
        }
    }
}

/// Whether the secret stands only where one belongs: behind the name of a header, or the option of a token.
fn shows_no_secret(words: &[Vec<u8>]) -> bool {
    let is_there = |word: &[u8]| String::from_utf8_lossy(word).contains(SECRET);
    let count = words.iter().filter(|word| is_there(word)).count();
    let placed = words.windows(3).filter(|words| {
        matches!(&words[0][..], b"-H" | b"--headers") && words[1] == b"Authorization" && words[2] == SECRET.as_bytes()
    });
    count > 0 && count == placed.count() && words.iter().all(|word| word != b"--")
}

fn one_line(text: &str, is_secret: bool) {
    assert!(!is_secret || !text.contains(SECRET), "a secret is shown: {text}");
    assert!(!text.contains(|c: char| c.is_control()), "it is one line: {text:?}");
}
