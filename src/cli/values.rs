//! The values of options: each is checked before it is kept. A fault never shows a value that may be secret.

mod listener;

pub(super) use listener::{
    add_auth_server, add_host, add_origin, base_path, host, is_origin, listen, network, owner, port, public_url,
    set_restrict, socket_mode, wants_restrict,
};

use super::draft::{Draft, Source};
use super::words;
use crate::config::{self, header};
use crate::log::{self, Format, Level, Secret};
use crate::protocol::era::Protocol;
use crate::upstream::http::{Transport, Verify};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mistake in the name of a header. What follows a blank may be the value, so it is not shown.
pub(super) fn not_a_header_name(name: &str) -> String {
    let shown = log::shortened(name.split_whitespace().next().unwrap_or_default().as_bytes());
    format!("'{shown}' is not the name of a header")
}

pub(super) fn set_header(draft: &mut Draft, name: &OsStr, value: &OsStr) -> Result<(), String> {
    let name = text(name)?.trim();
    if !header::is_name(name) {
        return Err(not_a_header_name(name));
    }
    let value = value.to_str().unwrap_or("\u{fffd}").trim_matches([' ', '\t']);
    let secret = header::value(value).map_err(|fault| format!("the value of '{name}' {fault}"))?;
    draft.keep_secret(value);
    draft.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    draft.headers.push((name.to_owned(), secret));
    Ok(())
}

pub(super) fn set_token(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let token = word.to_str().unwrap_or("\u{fffd}").trim_matches([' ', '\t']);
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    let secret = header::value(token).map_err(|fault| format!("the token {fault}"))?;
    draft.keep_secret(token);
    draft.token = Some(Source::Literal(secret));
    Ok(())
}

/// A password or the secret of a client. It may hold any character; an empty one is none, as compose files have it.
pub(super) fn secret(draft: &mut Draft, word: &OsStr) -> Result<Option<Source>, String> {
    let secret = text(word)?;
    draft.keep_secret(secret);
    Ok((!secret.is_empty()).then(|| Source::Literal(Secret::new(secret.to_owned()))))
}

/// The headers of a text, `KEY: VALUE` a line, behind those that are there already and win.
pub(super) fn add_headers(draft: &mut Draft, text: &str) -> Result<(), String> {
    let mut found: Vec<(String, Secret)> = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |fault: &str| format!("line {} {fault}", at + 1);
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("is not 'KEY: VALUE'"))?;
        if !header::is_name(name.trim()) {
            return Err(wrong("does not begin with the name of a header"));
        }
        let value = header::value(value.trim()).map_err(wrong)?;
        found.retain(|(other, _)| !other.eq_ignore_ascii_case(name.trim()));
        found.push((name.trim().to_owned(), value));
    }
    found.retain(|(name, _)| !draft.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));
    draft.headers.extend(found);
    Ok(())
}

/// The text of a variable that nobody may see.
pub(super) fn unseen(word: &OsStr) -> Result<Secret, String> {
    text(word).map(|text| Secret::new(text.to_owned()))
}

/// The path of a file.
pub(super) fn file(word: &OsStr) -> Result<PathBuf, String> {
    if word.is_empty() { Err("the path is empty".to_owned()) } else { Ok(word.into()) }
}

/// A name that goes with a secret.
pub(super) fn login_name(word: &OsStr) -> Result<Option<String>, String> {
    let name = text(word)?;
    if name.chars().any(char::is_control) {
        return Err("the name holds a control character".to_owned());
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// The name of `--username`. In basic authentication a colon ends it.
pub(super) fn set_username(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    draft.username = login_name(word)?;
    match &draft.username {
        Some(name) if name.contains(':') => Err("the name holds a colon".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn set_token_url(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let url = text(word)?;
    draft.secrets.extend(url.split_once('?').map(|(_, query)| query.to_owned()));
    if !url.is_empty() && !config::is_url(word) {
        return Err(format!("{} does not begin with http:// or https://", quoted(&log::address(url))));
    }
    draft.token_url = (!url.is_empty()).then(|| url.to_owned());
    Ok(())
}

pub(super) fn set_transport(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    draft.transport = match text(word)? {
        "auto" => Transport::Auto,
        "sse" => Transport::Sse,
        "streamablehttp" => Transport::StreamableHttp,
        other => return Err(format!("{} is none of 'auto', 'sse' and 'streamablehttp'", quoted(other))),
    };
    Ok(())
}

/// The eras that a side may be pinned to.
pub(super) fn era(word: &OsStr) -> Result<Protocol, String> {
    match text(word)? {
        "auto" => Ok(Protocol::Auto),
        "legacy" => Ok(Protocol::Legacy),
        "modern" => Ok(Protocol::Modern),
        other => Err(format!("{} is none of 'auto', 'legacy' and 'modern'", quoted(other))),
    }
}

/// Whether the word behind `--verify-ssl` belongs to it. It must not eat a URL or a command; a name that only
/// a certificate has is taken even if there is no such file, so that the mistake is named.
pub(super) fn wants_verify(word: &OsStr) -> bool {
    let path = Path::new(word);
    let is_certificate =
        path.extension().is_some_and(|kind| ["pem", "crt", "cer"].iter().any(|known| kind.eq_ignore_ascii_case(known)));
    yes_or_no(word).is_some() || path.is_file() || is_certificate && !word.as_bytes().contains(&b':')
}

pub(super) fn set_verify(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    draft.verify = match yes_or_no(word) {
        Some(true) => Verify::Public,
        Some(false) => Verify::Nothing,
        None if word.is_empty() => return Err("the value is empty".to_owned()),
        None => Verify::File(word.into()),
    };
    Ok(())
}

fn yes_or_no(word: &OsStr) -> Option<bool> {
    match word.to_str()?.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn set_env(draft: &mut Draft, name: &OsStr, value: &OsStr) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name of the variable is empty".to_owned());
    }
    if name.as_bytes().contains(&0) || value.as_bytes().contains(&0) {
        return Err("no variable can hold a NUL".to_owned());
    }
    draft.keep_secret(value.to_str().unwrap_or_default());
    draft.env.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// A server of `--named-server`. Its command is split here; a URL stands alone.
pub(super) fn add_named(draft: &mut Draft, name: &OsStr, command: &OsStr) -> Result<(), String> {
    let name = text(name)?;
    config::check_name(name)?;
    if draft.named.iter().any(|(other, _)| other == name) {
        return Err(format!("server '{name}' is there twice"));
    }
    let wrong = |fault: &str| format!("server '{name}': the command {fault}");
    let words = words::split(command.as_bytes()).map_err(wrong)?;
    let words: Vec<_> = words.into_iter().map(OsString::from_vec).collect();
    match words.first() {
        None => return Err(wrong("is empty")),
        Some(first) if first.is_empty() => return Err(wrong("is empty")),
        Some(first) if config::is_url(first) => {
            let url = first.to_string_lossy();
            draft.secrets.extend(url.split_once('?').map(|(_, query)| query.to_owned()));
            if words.len() > 1 {
                return Err(format!("server '{name}': words behind the URL"));
            }
        }
        Some(_) => {}
    }
    draft.named.push((name.to_owned(), words));
    Ok(())
}

pub(super) fn log_format(word: &OsStr) -> Result<Format, String> {
    let name = text(word)?;
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("{} is neither 'text' nor 'json'", quoted(name))),
    }
}

pub(super) fn expose_header(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let name = text(word)?;
    if !header::is_name(name) {
        return Err(not_a_header_name(name));
    }
    if !draft.given.contains(&"--expose-header") {
        draft.expose_headers.clear();
    }
    draft.expose_headers.push(name.to_owned());
    Ok(())
}

pub(super) fn level(word: &OsStr) -> Result<Level, String> {
    let name = text(word)?;
    match name.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(Level::Debug),
        "INFO" => Ok(Level::Info),
        "WARNING" => Ok(Level::Warning),
        "ERROR" => Ok(Level::Error),
        "CRITICAL" => Ok(Level::Critical),
        _ => Err(format!("{} is none of DEBUG, INFO, WARNING, ERROR and CRITICAL", quoted(name))),
    }
}

/// A number of things or bytes. The upper end keeps every sum of two of them in range.
pub(super) fn count(word: &OsStr) -> Result<usize, String> {
    let number = text(word)?;
    match number.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count as usize),
        _ => Err(format!("{} is not a whole number from 1 to {}", quoted(number), u32::MAX)),
    }
}

/// A time. Its ends keep it above the clock's grain and below what the operating system's timers can hold.
pub(super) fn seconds(word: &OsStr) -> Result<Duration, String> {
    let number = text(word)?;
    match number.parse::<f64>() {
        Ok(seconds) if (0.001..=1_000_000.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{} is not a number of seconds from 0.001 to 1000000", quoted(number))),
    }
}

fn text(word: &OsStr) -> Result<&str, String> {
    word.to_str().ok_or_else(|| "the value is not UTF-8".to_owned())
}

fn quoted(word: &str) -> String {
    format!("'{}'", log::shortened(word.as_bytes()))
}
