//! The servers that are offered: what the command line and the file of named servers say, as specifications.
//!
//! Always: a mistake in the file is found before anything is started, and is told with the file, the server and the
//! key, and with the option where the file cannot be read at all; a value of the file, which may be a secret, is never
//! shown.

pub mod account;
mod entry;
pub mod header;
mod json;
pub mod tokens;
mod variables;

use crate::error::Error;
use crate::log;
use crate::protocol::era::Protocol;
use crate::upstream::auth::Auth;
use crate::upstream::child::Command;
use crate::upstream::http::{Remote, Transport, Verify};
use entry::Entry;
use json::Json;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One server that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Under `/servers/NAME/`; `None` is the one at the top.
    pub name: Option<String>,
    /// What it is.
    pub target: Target,
}

/// What a server is.
#[expect(clippy::large_enum_variant, reason = "there are few of them, and they are hardly ever moved")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A local process.
    Command(Command),
    /// Something far away.
    Remote(Remote),
}

/// What a named server gets from the command line where nothing else is said of it. Headers, tokens and passwords are
/// not among it: they belong to one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Whether a local server gets our whole environment.
    pub pass_environment: bool,
    /// How a remote server is spoken to.
    pub transport: Transport,
    /// Which revisions it speaks.
    pub protocol: Protocol,
    /// Which certificates of a remote server are believed.
    pub verify: Verify,
    /// The longest message (bytes) that is taken from a remote server.
    pub message_limit_bytes: usize,
    /// How long one POST to a remote server, or the answer to a GET, may take.
    pub timeout: Duration,
}

/// The file of named servers. It can be read again at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What holds for its servers where it says nothing.
    pub defaults: Defaults,
    /// The servers of the command line, which stand before those of the file.
    pub others: Vec<Server>,
}

/// What one reading of the file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// All servers: those of the command line, and those of the file that are not disabled.
    pub servers: Vec<Server>,
    /// What its author may want to know, a line each.
    pub remarks: Vec<String>,
}

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What is wrong with the URL of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlFault {
    /// It is no URL at all.
    NoUrl,
    /// Its host or its port is missing or wrong.
    NoHost,
    /// It holds a user and a password, which would be shown with it.
    Login,
}

/// A longer file is a mistake.
const FILE_LIMIT_BYTES: u64 = 1 << 20;
/// So many keys without a meaning are named.
const NAMED_KEYS: usize = 16;

impl File {
    /// Reads all servers, those of the command line included, and logs what there is to remark.
    ///
    /// # Errors
    /// [`Error::Usage`]: the file cannot be read, or something in it is wrong. Then nothing of it counts.
    pub fn read(&self) -> Result<Vec<Server>, Error> {
        let reading = self.load(&|name| std::env::var_os(name))?;
        for remark in reading.remarks {
            log::warning(format_args!("{remark}"));
        }
        Ok(reading.servers)
    }

    /// Reads all servers, with the variables of this environment. Logs nothing.
    ///
    /// # Errors
    /// As [`File::read`].
    pub fn load(&self, environment: Environment) -> Result<Reading, Error> {
        let shown = log::shortened(self.path.as_os_str().as_bytes());
        let wrong = |fault: String| Error::Usage(format!("'{shown}': {fault}"));
        let unread = |fault: String| Error::Usage(format!("option '--named-server-config': '{shown}' {fault}"));
        let text = text_of(&self.path).map_err(unread)?;
        let Reading { servers, remarks } = parse(&text, &self.defaults, environment).map_err(wrong)?;
        let known: HashSet<_> = self.others.iter().filter_map(|server| server.name.as_deref()).collect();
        if let Some(name) = servers.iter().filter_map(|server| server.name.as_deref()).find(|name| known.contains(name))
        {
            return Err(wrong(format!("server '{name}': the command line has a server of that name")));
        }
        let servers = self.others.iter().cloned().chain(servers).collect();
        Ok(Reading { servers, remarks: remarks.into_iter().map(|remark| format!("'{shown}': {remark}")).collect() })
    }
}

impl Defaults {
    /// The remote server at `url`.
    ///
    /// # Errors
    /// No request can be sent there.
    pub fn remote(&self, url: &str) -> Result<Remote, UrlFault> {
        let remote = Remote {
            url: url.parse().map_err(|_| UrlFault::NoUrl)?,
            headers: Vec::new(),
            transport: self.transport,
            protocol: self.protocol,
            auth: Auth::Nothing,
            certificate: None,
            verify: self.verify.clone(),
            message_limit_bytes: self.message_limit_bytes,
            timeout: self.timeout,
        };
        let Some(authority) = remote.url.authority() else { return Err(UrlFault::NoHost) };
        if authority.as_str().contains('@') {
            return Err(UrlFault::Login);
        }
        let behind_host = authority.as_str().rsplit(']').next().unwrap_or_default();
        let no_port = behind_host.split_once(':').is_none_or(|(_, port)| port.is_empty());
        let has_port = no_port || authority.port_u16().is_some_and(|port| port > 0);
        if authority.host().is_empty() || !has_port { Err(UrlFault::NoHost) } else { Ok(remote) }
    }

    /// The local server that these words start. It runs in our folder.
    #[must_use]
    pub fn command(&self, program: OsString, args: Vec<OsString>) -> Command {
        Command { program, args, env: Vec::new(), cwd: None, pass_environment: self.pass_environment }
    }
}

impl UrlFault {
    /// The fault of what `culprit` names, with the `place` where a login belongs.
    #[must_use]
    pub fn explain(self, culprit: &str, place: &str) -> String {
        match self {
            Self::NoUrl => format!("'{culprit}' is not a URL"),
            Self::NoHost => format!("'{culprit}' has no host, or no port from 1 to 65535"),
            Self::Login => format!("'{culprit}': user and password belong into {place}, not into the URL"),
        }
    }
}

/// Whether a word is the URL of a remote server; everything else is a command.
#[must_use]
pub fn is_url(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    ["http://", "https://"]
        .iter()
        .any(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes())))
}

/// Checks the name of a server. It is one segment of a path, and is written there as it is: what a client or a browser
/// would write in another way is not in it.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    if name.is_empty() {
        Err("the name of a server is empty".to_owned())
    } else if name == "." || name == ".." || !name.bytes().all(is_plain) {
        let shown = log::shortened(name.as_bytes());
        Err(format!("server '{shown}': a name is a part of an address: letters, digits and -._~!$&'()*+,;=:@"))
    } else {
        Ok(())
    }
}

/// What the file's text says. Faults and remarks do not name the file.
fn parse(text: &str, defaults: &Defaults, environment: Environment) -> Result<Reading, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Json::Object(members) = serde_json::from_str(text).map_err(|error| error.to_string())? else {
        return Err("it must be an object with the key 'mcpServers'".to_owned());
    };
    let mut servers = Vec::new();
    let mut is_there = false;
    let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in members {
        match value {
            Json::Object(entries) if key == "mcpServers" => {
                is_there = true;
                for (name, entry) in entries {
                    let found = server(&name, entry, defaults, environment)?;
                    for key in found.ignored {
                        unknown.entry(key).or_default().push(name.clone());
                    }
                    servers.extend(found.target.map(|target| Server { name: Some(name), target }));
                }
            }
            _ if key == "mcpServers" => return Err("'mcpServers' must be an object".to_owned()),
            _ => drop(unknown.entry(key).or_default()),
        }
    }
    if is_there {
        Ok(Reading { servers, remarks: remarks(&unknown) })
    } else {
        Err("it has no 'mcpServers'".to_owned())
    }
}

/// What one entry gives: nothing where it is disabled.
struct Found {
    target: Option<Target>,
    ignored: Vec<String>,
}

fn server(name: &str, entry: Json, defaults: &Defaults, environment: Environment) -> Result<Found, String> {
    let shown = log::shortened(name.as_bytes());
    let Json::Object(members) = entry else { return Err(format!("server '{shown}' must be an object")) };
    let mut entry = Entry::new(members, environment);
    let wrong = |fault: String| format!("server '{shown}': {fault}");
    if entry.is_disabled().map_err(wrong)? {
        return Ok(Found { target: None, ignored: Vec::new() });
    }
    check_name(name)?;
    let target = entry.target(defaults).map_err(wrong)?;
    Ok(Found { target: Some(target), ignored: entry.rest() })
}

/// A line for the keys that mean nothing to us, each with the servers that have it.
fn remarks(unknown: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let quoted = |name: &str| format!("'{}'", log::shortened(name.as_bytes()));
    let named = unknown.iter().take(NAMED_KEYS).map(|(key, servers)| match servers.as_slice() {
        [] => quoted(key),
        [one] => format!("{} of {}", quoted(key), quoted(one)),
        [first, others @ ..] => format!("{} of {} and {} more", quoted(key), quoted(first), others.len()),
    });
    let mut named: Vec<_> = named.collect();
    if unknown.len() > NAMED_KEYS {
        named.push(format!("{} more", unknown.len() - NAMED_KEYS));
    }
    if named.is_empty() { Vec::new() } else { vec![format!("ignored: {}", named.join(", "))] }
}

fn text_of(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {}", log::cause(&error));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(format!("is longer than {FILE_LIMIT_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
