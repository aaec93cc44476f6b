//! From what was said to what is done: which mode, what the environment adds, and whether it fits together.
//! Files that are named are looked at now, so that a mistake in them stops us at the start.

use super::draft::{Draft, Token};
use super::table::{Group, Setter, TABLE};
use super::values::{header_value, not_a_header_name};
use super::{Environment, Invocation};
use crate::config::{self, Target};
use crate::error::Error;
use crate::upstream::auth::Auth;
use crate::upstream::child::Command;
use crate::upstream::http::{Remote, Transport, Verify};
use crate::{connect, log, serve};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// From what was said to what is done.
pub(super) fn decide(
    draft: &mut Draft,
    mut positional: Vec<OsString>,
    environment: Environment,
) -> Result<Invocation, Error> {
    read_variables(draft, &[Group::General, Group::Limits], environment)?;
    if draft.demo {
        return demo(draft, &positional);
    }
    if let Some(url) = positional.first().filter(|first| is_url(first)).and_then(|url| url.to_str()) {
        // A key in the query is as secret as a header.
        draft.secrets.extend(url.split_once('?').map(|(_, query)| query.to_owned()));
    }
    if positional.is_empty()
        && let Some(url) = variable("SSE_URL", environment)
    {
        if !is_url(&url) {
            return usage("variable 'SSE_URL': it is no http:// or https:// URL");
        }
        positional.push(url);
    }
    match positional.first() {
        None => usage("nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        Some(word) if word.is_empty() => usage("the URL or command is empty, see 'mcp-proxy --help'"),
        Some(url) if is_url(url) => {
            read_variables(draft, &[Group::Connect], environment)?;
            connect_options(draft, &url.to_string_lossy()).map(Invocation::Connect)
        }
        Some(word) => {
            refuse_mistyped(word, draft.cwd.as_deref().unwrap_or(Path::new("")))?;
            read_variables(draft, &[Group::Listener, Group::Server], environment)?;
            serve_options(draft, positional).map(Invocation::Serve)
        }
    }
}

/// Whether the first word is a URL, and so chooses the mode.
pub(super) fn is_url(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    ["http://", "https://"]
        .iter()
        .any(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes())))
}

/// Refuses a command that is not there and was meant as a URL: its query and password shall not be shown either.
fn refuse_mistyped(word: &OsStr, folder: &Path) -> Result<(), Error> {
    let text = word.to_string_lossy();
    let (front, path) = text.split_once('/').unwrap_or((&text, ""));
    let is_meant = front.contains(':') || front.to_ascii_lowercase().starts_with("http") && path.starts_with('/');
    if !text.contains('/') || !is_meant || folder.join(word).exists() {
        return Ok(());
    }
    let shown = log::shortened(log::address(&text).as_bytes());
    Err(Error::NotFound(format!(
        "cannot start '{shown}': No such file or directory; a URL begins with http:// or https://"
    )))
}

/// Takes what the command line leaves open from the environment. An empty variable is none, as compose files have it.
fn read_variables(draft: &mut Draft, groups: &[Group], environment: Environment) -> Result<(), Error> {
    for row in TABLE.iter().filter(|row| groups.contains(&row.group)) {
        if draft.is_given(row.name()) {
            continue;
        }
        let Setter::Word(set) = row.set else { continue };
        let Some(value) = variable(row.variable, environment) else { continue };
        set(draft, &value).map_err(|fault| Error::Usage(format!("variable '{}': {fault}", row.variable)))?;
    }
    Ok(())
}

fn variable(name: &str, environment: Environment) -> Option<OsString> {
    // Kubernetes sets MCP_PROXY_PORT=tcp://10.0.0.1:80 where a service is called mcp-proxy.
    let is_meant =
        |value: &OsString| !value.is_empty() && (name == "SSE_URL" || !value.as_bytes().starts_with(b"tcp://"));
    if name.is_empty() { None } else { environment(name).filter(is_meant) }
}

fn demo(draft: &Draft, positional: &[OsString]) -> Result<Invocation, Error> {
    if !positional.is_empty() {
        return usage(
            "option '--demo': it goes with no URL and no command; '--' before a command makes it the command's",
        );
    }
    if draft.is_given("--port") || draft.is_given("--host") {
        return usage(
            "option '--demo': it speaks on stdin and stdout; serve it with 'mcp-proxy --port PORT -- mcp-proxy --demo'",
        );
    }
    Ok(Invocation::Demo)
}

fn serve_options(draft: &Draft, words: Vec<OsString>) -> Result<serve::Options, Error> {
    if let Some(folder) = &draft.cwd
        && !folder.is_dir()
    {
        return usage(&format!("option '--cwd': '{}' is not a folder", shown(folder)));
    }
    let mut words = words.into_iter();
    Ok(serve::Options {
        host: draft.host.clone(),
        port: draft.port,
        servers: vec![config::Server {
            name: None,
            target: Target::Command(Command {
                program: words.next().unwrap_or_default(),
                args: words.collect(),
                env: draft.env.clone(),
                cwd: draft.cwd.clone(),
                pass_environment: draft.pass_environment,
            }),
        }],
        allow_origins: draft.allow_origins.clone(),
        expose_headers: draft.expose_headers.clone(),
        sharing: serve::Sharing::Session,
        base_path: String::new(),
        trusted_proxies: Vec::new(),
        session_idle: Duration::from_mins(30),
        replay_bytes: 1 << 20,
        replay_age: Duration::from_mins(5),
        sessions: draft.sessions,
        open_requests: draft.open_requests,
        stop_timeout: draft.stop_timeout,
        limits: draft.limits.clone(),
    })
}

fn connect_options(draft: &Draft, url: &str) -> Result<connect::Options, Error> {
    let listening = ["--port", "--host", "--sse-port", "--sse-host"];
    if let Some(option) = draft.given.iter().find(|given| listening.contains(given)) {
        return usage(&format!("option '{option}': this version serves a command, but no URL yet"));
    }
    if draft.transport == Transport::StreamableHttp {
        return usage("option '--transport': this version does not speak 'streamablehttp' yet, only 'sse'");
    }
    check_certificates(&draft.verify)?;
    let address = log::shortened(log::address(url).as_bytes());
    let remote = Remote {
        url: url.parse().map_err(|_| Error::Usage(format!("'{address}' is not a URL")))?,
        headers: headers(draft)?
            .into_iter()
            .map(|(name, value)| match name.parse() {
                Ok(name) => Ok((name, value)),
                Err(_) => usage(&format!("option '--headers': {}", not_a_header_name(&name))),
            })
            .collect::<Result<_, _>>()?,
        transport: draft.transport,
        auth: Auth::Nothing,
        verify: draft.verify.clone(),
        message_limit_bytes: draft.limits.body_bytes,
        timeout: draft.timeout,
    };
    match remote.url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            usage(&format!("'{address}': user and password belong into '-H Authorization VALUE', not into the URL"))
        }
        Some(authority) if !authority.host().is_empty() && has_port(authority.as_str(), authority.port_u16()) => {
            Ok(connect::Options { remote, open_requests: draft.open_requests })
        }
        _ => usage(&format!("'{address}' has no host, or no port from 1 to 65535")),
    }
}

/// Whether the port is one, or there is none.
fn has_port(authority: &str, port: Option<u16>) -> bool {
    let behind_host = authority.rsplit(']').next().unwrap_or_default();
    port.is_some_and(|port| port > 0) || behind_host.split_once(':').is_none_or(|(_, port)| port.is_empty())
}

/// The headers of every request. A token becomes one, unless the user gives that header.
fn headers(draft: &Draft) -> Result<Vec<(String, log::Secret)>, Error> {
    let mut headers = draft.headers.clone();
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        return Ok(headers);
    }
    let token = match &draft.token {
        None => return Ok(headers),
        Some(Token::Literal(token)) => token.clone(),
        Some(Token::File(file)) => token_of(file)?,
    };
    headers.push(("Authorization".to_owned(), log::Secret::new(format!("Bearer {}", token.reveal()))));
    Ok(headers)
}

fn token_of(file: &Path) -> Result<log::Secret, Error> {
    let fault = |fault: &str| Error::Usage(format!("option '--api-access-token-file': '{}' {fault}", shown(file)));
    let bytes = std::fs::read(file).map_err(|error| fault(&format!("cannot be read: {}", cause(&error))))?;
    match String::from_utf8_lossy(&bytes).trim() {
        "" => Err(fault("is empty")),
        token => header_value(token).map_err(fault),
    }
}

/// Finds out now what would else be found out by the first request.
fn check_certificates(verify: &Verify) -> Result<(), Error> {
    let Verify::File(file) = verify else { return Ok(()) };
    let fault = |fault: &str| usage(&format!("option '--verify-ssl': '{}' {fault}", shown(file)));
    match std::fs::read(file) {
        Err(error) => fault(&format!("cannot be read: {}", cause(&error))),
        Ok(pem) if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") => {
            fault("holds no certificate in PEM form")
        }
        Ok(_) => Ok(()),
    }
}

fn usage<T>(text: &str) -> Result<T, Error> {
    Err(Error::Usage(text.to_owned()))
}

fn shown(path: &Path) -> String {
    log::shortened(path.as_os_str().as_bytes())
}

/// What the operating system says, without its number.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
