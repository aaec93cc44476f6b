//! The command line: words → what to do. The grammar is that of the Python program (argparse), with its gaps filled:
//! prefixes of long names, `--option=value`, pairs of one or two words, and words that are the command's.
//! No message shows a value that may be secret.

mod access;
mod decide;
mod draft;
mod help;
mod login;
mod table;
mod values;
mod words;

pub use help::{help, options_markdown};

use crate::config::{Environment, is_url};
use crate::error::Error;
use crate::{connect, log, serve};
use decide::decide;
use draft::{Draft, Show};
use lexopt::Parser;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use table::{Group, Row, Setter, TABLE};

/// What the program is to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, made once")]
pub enum Invocation {
    /// Show [`help`].
    Help,
    /// Show the version.
    Version,
    /// Be the demo server.
    Demo,
    /// Offer servers over HTTP.
    Serve(serve::Options),
    /// Offer a remote server on stdin and stdout.
    Connect(connect::Options),
}

/// What the command line says.
#[derive(Debug)]
pub struct Parsed {
    /// What to do.
    pub invocation: Invocation,
    /// Lines below it are not shown.
    pub log_level: log::Level,
    /// How lines are written.
    pub log_format: log::Format,
    /// What the user may want to know: warnings, to be logged once the level is set.
    pub remarks: Vec<String>,
    /// The secrets that were given as they were written, so that they can be hidden in the list of processes.
    pub secrets: Vec<String>,
}

/// Reads the words behind the program's name.
///
/// # Errors
/// [`Error::Usage`]: a word, a variable or a file that a word names is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>, environment: Environment) -> Result<Parsed, Error> {
    let mut draft = Draft::new();
    let positional = read_words(words, &mut draft)?;
    let invocation = match draft.show {
        Some(Show::Help) => Invocation::Help,
        Some(Show::Version) => Invocation::Version,
        None => decide(&mut draft, positional, environment)?,
    };
    let log_level = if draft.debug { log::Level::Debug } else { draft.level };
    Ok(Parsed { invocation, log_level, log_format: draft.log_format, remarks: draft.remarks, secrets: draft.secrets })
}

/// Takes the options out of the words; what is left is the URL, or the command with its arguments.
fn read_words(words: impl IntoIterator<Item = OsString>, draft: &mut Draft) -> Result<Vec<OsString>, Error> {
    let mut parser = Parser::from_args(words);
    let mut positional: Vec<OsString> = Vec::new();
    while draft.show.is_none()
        && let Some(word) = peek(&mut parser)
    {
        let in_command = positional.first().is_some_and(|first| !is_url(first));
        match classify(&word, in_command)? {
            Word::Separator => {
                positional.extend(remaining(&mut parser).skip(1));
                break;
            }
            Word::Plain => positional.extend(remaining(&mut parser).next()),
            Word::Option(row, name) => {
                // Only steps over the name; which option it is we know better.
                let _ = parser.next();
                read_option(row, name, &mut parser, draft)
                    .map_err(|fault| Error::Usage(format!("option '{}': {fault}", row.name())))?;
                draft.given.push(row.name());
                if in_command && matches!(row.group, Group::Remote | Group::Login) {
                    let name = row.name();
                    draft.remark(&format!(
                        "option '{name}' is ours, for a URL; '--' before the command leaves it to the command"
                    ));
                }
            }
        }
    }
    Ok(positional)
}

/// What one word is, before the words that follow it are looked at.
enum Word {
    /// `--`
    Separator,
    /// The URL, the command, or an argument of the command.
    Plain,
    /// An option of ours, and its name in full.
    Option(&'static Row, &'static str),
}

fn classify(word: &OsStr, in_command: bool) -> Result<Word, Error> {
    let word = word.to_string_lossy();
    if word == "--" {
        return Ok(Word::Separator);
    }
    if !word.starts_with('-') || word == "-" {
        return Ok(Word::Plain);
    }
    if let Some((row, name)) = exact(&word) {
        return Ok(Word::Option(row, name));
    }
    match (shortened(&word, in_command).as_slice(), in_command) {
        (&[(row, name)], _) => Ok(Word::Option(row, name)),
        (_, true) => Ok(Word::Plain),
        ([], false) => Err(unknown(&word)),
        (several, false) => {
            let names: Vec<_> = several.iter().map(|(_, name)| format!("'{name}'")).collect();
            let shown = log::shortened(name_part(&word).as_bytes());
            Err(Error::Usage(format!("option '{shown}' could be {}", names.join(" or "))))
        }
    }
}

/// The option that this word names in full.
fn exact(word: &str) -> Option<(&'static Row, &'static str)> {
    let name = if word.starts_with("--") { name_part(word) } else { word };
    all_names().find(|(_, known)| *known == name)
}

/// The options that this word may name in short: a prefix of a long name, as argparse has it, or `-eKEY=VALUE`.
/// In a command, only what the Python program took there is taken; everything else is the command's.
fn shortened(word: &str, in_command: bool) -> Vec<(&'static Row, &'static str)> {
    if !word.starts_with("--") {
        let joined = |row: &Row, name: &str| match row.set {
            Setter::Pair(separator, _) => {
                word.strip_prefix(name).is_some_and(|rest| rest.as_bytes().contains(&separator))
            }
            _ => false,
        };
        return all_names().filter(|(row, name)| !in_command && !name.starts_with("--") && joined(row, name)).collect();
    }
    let prefix = name_part(word);
    let begins = |inherited: bool| {
        all_names()
            .filter(move |(row, name)| row.inherited == inherited && prefix.len() > 2 && name.starts_with(prefix))
    };
    let inherited: Vec<_> = begins(true).collect();
    if inherited.is_empty() && !in_command { begins(false).collect() } else { inherited }
}

fn all_names() -> impl Iterator<Item = (&'static Row, &'static str)> {
    TABLE.iter().flat_map(|row| row.names.iter().map(move |name| (row, *name)))
}

/// `--name` of `--name=value`.
fn name_part(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

/// Names the option, but not what may be a value behind it.
fn unknown(word: &str) -> Error {
    let name = name_part(word).split_whitespace().next().unwrap_or_default();
    let short: String = name.chars().take(2).collect();
    let text = if name.starts_with("--") {
        match exact(name) {
            Some(_) => format!("option '{name}' and its value stand in one word, make them two"),
            None => format!("unknown option '{}'", log::shortened(name.as_bytes())),
        }
    } else if exact(&format!("-{name}")).is_some() {
        format!("unknown option '{name}', did you mean '-{name}'?")
    } else if exact(&short).is_some() {
        format!("option '{short}' and its value stand in one word, make them two")
    } else {
        format!("unknown option '{}'", log::shortened(short.as_bytes()))
    };
    Error::Usage(text)
}

/// Reads what belongs to an option and keeps it.
fn read_option(row: &Row, name: &str, parser: &mut Parser, draft: &mut Draft) -> Result<(), String> {
    let joined = parser.optional_value();
    let missing = || format!("{} expected", row.value);
    match row.set {
        Setter::Switch(_) if joined.is_some() => Err("it takes no value".to_owned()),
        Setter::Switch(set) => {
            set(draft, !name.starts_with("--no-"));
            Ok(())
        }
        Setter::Word(set) | Setter::FileOr(set, _) => {
            set(draft, &joined.or_else(|| next_value(parser)).ok_or_else(missing)?)
        }
        Setter::Pair(separator, set) => {
            let first = joined.or_else(|| next_value(parser)).ok_or_else(missing)?;
            match split(&first, separator) {
                // `-H Key: value`: taken as an empty value, the value would become the command, and be shown.
                Some((_, value)) if separator == b':' && value.is_empty() => Err(missing()),
                Some((key, value)) => set(draft, key, value),
                None => set(draft, &first, &next_value(parser).ok_or_else(missing)?),
            }
        }
        Setter::Two(set) => {
            let first = joined.or_else(|| next_value(parser)).ok_or_else(missing)?;
            set(draft, &first, &next_value(parser).ok_or_else(missing)?)
        }
        Setter::Optional(wants, set) => {
            let value = joined.or_else(|| remaining(parser).next_if(wants));
            set(draft, &value.unwrap_or_else(|| row.default.into()))
        }
        Setter::Several(wants, set) => {
            set(draft, &joined.clone().or_else(|| next_value(parser)).ok_or_else(missing)?)?;
            while joined.is_none()
                && let Some(word) = remaining(parser).next_if(wants)
            {
                set(draft, &word)?;
            }
            Ok(())
        }
    }
}

/// The next word, unless it is an option of ours: then the value was forgotten.
fn next_value(parser: &mut Parser) -> Option<OsString> {
    remaining(parser).next_if(|word| word != "--" && exact(&word.to_string_lossy()).is_none())
}

fn peek(parser: &mut Parser) -> Option<OsString> {
    remaining(parser).peek().map(OsStr::to_owned)
}

/// The words that are not read yet.
fn remaining(parser: &mut Parser) -> lexopt::RawArgs<'_> {
    parser.raw_args().expect("the value behind `=` was taken before")
}

fn split(word: &OsStr, separator: u8) -> Option<(&OsStr, &OsStr)> {
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|&b| b == separator)?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
}

fn usage<T>(text: &str) -> Result<T, Error> {
    Err(Error::Usage(text.to_owned()))
}

fn shown(path: &Path) -> String {
    log::shortened(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
