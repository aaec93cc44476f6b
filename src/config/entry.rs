//! One entry of `mcpServers`: its members, taken one by one. What nobody took means nothing to us.

use super::json::Json;
use super::variables::expand;
use super::{Defaults, Environment, Target, header, is_url};
use crate::log;
use crate::upstream::certificate::Certificate;
use crate::upstream::child::Command;
use crate::upstream::http::{Remote, Transport};
use std::ffi::{OsStr, OsString};

/// The members that are not taken yet.
pub(super) struct Entry<'a> {
    members: Vec<(String, Json)>,
    environment: Environment<'a>,
}

/// A key, the address under it, and the transport that the key tells.
type Address = (&'static str, String, Option<Transport>);

/// How an entry says that its server is spoken to.
enum Spoken {
    Stdio,
    Over(Transport),
}

/// Where clients write a server's address. Most write `url`; the others tell more.
const URLS: [(&str, Option<Transport>); 3] =
    [("url", None), ("serverUrl", None), ("httpUrl", Some(Transport::StreamableHttp))];
/// Where clients write how it is spoken to.
const TRANSPORTS: [&str; 3] = ["transport", "type", "transportType"];
/// What frames a request is ours to say.
const OUR_HEADERS: [&str; 4] = ["content-length", "transfer-encoding", "connection", "expect"];

impl<'a> Entry<'a> {
    pub fn new(members: Vec<(String, Json)>, environment: Environment<'a>) -> Self {
        Self { members, environment }
    }

    /// Whether the server is left out. Then nothing else is looked at.
    pub fn is_disabled(&mut self) -> Result<bool, String> {
        let (disabled, enabled) = (self.flag("disabled")?, self.flag("enabled")?);
        Ok(disabled == Some(true) || enabled == Some(false))
    }

    /// What the server is.
    pub fn target(&mut self, defaults: &Defaults) -> Result<Target, String> {
        match (self.text("command")?, self.url()?, self.spoken()?) {
            (None, None, _) => Err("it needs 'command' or 'url'".to_owned()),
            (Some(_), Some((key, ..)), _) => Err(format!("'command' and '{key}' exclude each other")),
            (Some(program), None, None | Some((_, Spoken::Stdio))) => {
                self.command(program, defaults).map(Target::Command)
            }
            (Some(_), None, Some((key, _))) => Err(format!("'{key}' goes with 'url', not with 'command'")),
            (None, Some((key, url, told)), None) => self.remote(key, &url, told, defaults).map(Target::Remote),
            (None, Some((key, url, _)), Some((_, Spoken::Over(transport)))) => {
                self.remote(key, &url, Some(transport), defaults).map(Target::Remote)
            }
            (None, Some((url, ..)), Some((key, Spoken::Stdio))) => {
                Err(format!("'{key}' goes with 'command', not with '{url}'"))
            }
        }
    }

    /// The keys that nobody took.
    pub fn rest(self) -> Vec<String> {
        self.members.into_iter().map(|(key, _)| key).collect()
    }

    fn command(&mut self, program: String, defaults: &Defaults) -> Result<Command, String> {
        if program.is_empty() {
            return Err("'command' is empty".to_owned());
        }
        let args = self.texts("args")?.into_iter().map(OsString::from).collect();
        let mut command = defaults.command(program.into(), args);
        for (name, value) in self.pairs("env")? {
            if name.is_empty() || name.contains(['=', '\0']) {
                let shown = log::shortened(name.as_bytes());
                return Err(format!("'env': '{shown}' is not the name of a variable"));
            }
            command.env.push((name.into(), value.into()));
        }
        command.cwd = self.text("cwd")?.filter(|folder| !folder.is_empty()).map(Into::into);
        Ok(command)
    }

    fn remote(
        &mut self,
        key: &str,
        url: &str,
        transport: Option<Transport>,
        defaults: &Defaults,
    ) -> Result<Remote, String> {
        if !is_url(OsStr::new(url)) {
            return Err(format!("'{key}' must begin with http:// or https://"));
        }
        let mut remote = defaults.remote(url).map_err(|fault| fault.explain(key, "'headers'"))?;
        remote.transport = transport.unwrap_or(remote.transport);
        remote.certificate = self.certificate()?;
        for (name, value) in self.pairs("headers")? {
            let name = name.trim();
            let not_a_name = || format!("'headers': '{}' is not the name of a header", log::shortened(name.as_bytes()));
            if !header::is_name(name) {
                return Err(not_a_name());
            }
            if OUR_HEADERS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
                return Err(format!("'headers': '{name}' is ours to send"));
            }
            let fault = |fault| format!("'headers': the value of '{name}' {fault}");
            let value = header::value(value.trim_matches([' ', '\t'])).map_err(fault)?;
            remote.headers.retain(|(other, _)| !other.as_str().eq_ignore_ascii_case(name));
            remote.headers.push((name.parse().map_err(|_| not_a_name())?, value));
        }
        Ok(remote)
    }

    /// The certificate that proves who we are. Half of it, or a broken one, is a mistake.
    fn certificate(&mut self) -> Result<Option<Certificate>, String> {
        let (chain, key) = match (self.text("clientCert")?, self.text("clientKey")?) {
            (None, None) => return Ok(None),
            (Some(chain), Some(key)) => (chain, key),
            (Some(_), None) => return Err("'clientCert' needs 'clientKey' too".to_owned()),
            (None, Some(_)) => return Err("'clientKey' needs 'clientCert' too".to_owned()),
        };
        let certificate = Certificate { chain: chain.into(), key: key.into() };
        certificate.check().map_err(|fault| format!("'clientCert': {fault}"))?;
        Ok(Some(certificate))
    }

    /// The address, the key under which it stands, and the transport that this key tells.
    fn url(&mut self) -> Result<Option<Address>, String> {
        let mut found: Option<Address> = None;
        for (key, transport) in URLS {
            match (self.text(key)?, &found) {
                (None, _) => {}
                (Some(url), None) => found = Some((key, url, transport)),
                (Some(_), Some((first, ..))) => return Err(format!("'{first}' and '{key}' exclude each other")),
            }
        }
        Ok(found)
    }

    fn spoken(&mut self) -> Result<Option<(&'static str, Spoken)>, String> {
        let mut found = None;
        for key in TRANSPORTS {
            let Some(word) = self.text(key)? else { continue };
            let wrong = || format!("'{key}' is none of 'auto', 'stdio', 'sse', 'http' and 'streamable-http'");
            found = found.or(Some((key, spoken(&word).ok_or_else(wrong)?)));
        }
        Ok(found)
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(format!("'{key}' must be true or false")),
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Text(text)) => self.expanded(key, &text).map(Some),
            Some(_) => Err(format!("'{key}' must be a string")),
        }
    }

    fn texts(&mut self, key: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("'{key}' must be a list of strings");
        let items = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Json::List(items)) => items,
            Some(_) => return Err(wrong()),
        };
        let text = |item| match item {
            Json::Text(text) => self.expanded(key, &text),
            _ => Err(wrong()),
        };
        items.into_iter().map(text).collect()
    }

    fn pairs(&mut self, key: &str) -> Result<Vec<(String, String)>, String> {
        let members = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Json::Object(members)) => members,
            Some(_) => return Err(format!("'{key}' must be an object of strings")),
        };
        let pair = |(name, value): (String, Json)| match value {
            Json::Text(text) => Ok((name, self.expanded(key, &text)?)),
            _ => Err(format!("'{key}': the value of '{}' must be a string", log::shortened(name.as_bytes()))),
        };
        members.into_iter().map(pair).collect()
    }

    fn expanded(&self, key: &str, text: &str) -> Result<String, String> {
        let text = expand(text, self.environment).map_err(|fault| format!("'{key}': {fault}"))?;
        if text.contains('\0') { Err(format!("'{key}' holds a NUL")) } else { Ok(text) }
    }

    /// Takes a member away. `null` is what some clients write for nothing.
    fn take(&mut self, key: &str) -> Option<Json> {
        let at = self.members.iter().position(|(name, _)| name == key)?;
        Some(self.members.remove(at).1).filter(|value| *value != Json::Null)
    }
}

/// The transport that a word of some client means.
fn spoken(word: &str) -> Option<Spoken> {
    match word.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "stdio" => Some(Spoken::Stdio),
        "auto" => Some(Spoken::Over(Transport::Auto)),
        "sse" => Some(Spoken::Over(Transport::Sse)),
        "http" | "streamablehttp" => Some(Spoken::Over(Transport::StreamableHttp)),
        _ => None,
    }
}
