//! From what was said to what is done: which mode, what the environment adds, and whether it fits together.
//! Files that are named are looked at now, so that a mistake in them stops us at the start.

use super::access;
use super::draft::Draft;
use super::login;
use super::table::{Group, Setter, TABLE};
use super::values::not_a_header_name;
use super::{Invocation, shown, usage};
use crate::config::{Defaults, Environment, File, Server, Target, is_url};
use crate::error::Error;
use crate::upstream::child::Command;
use crate::upstream::http::{Remote, Verify};
use crate::upstream::remote::Inputs;
use crate::{connect, log, serve};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let has_named = !draft.named.is_empty() || draft.config.is_some();
    let inherited = access::inherited(environment)?;
    let listens = access::LISTENING.iter().any(|name| draft.is_given(name)) || inherited > 0;
    let target = match positional.first() {
        None if has_named => None,
        None => return usage("nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        Some(word) if word.is_empty() && has_named => None,
        Some(word) if word.is_empty() => return usage("the URL or command is empty, see 'mcp-proxy --help'"),
        Some(url) if is_url(url) => {
            read_variables(draft, &[Group::Remote, Group::Login], environment)?;
            let remote = remote(draft, &url.to_string_lossy())?;
            if !listens {
                if has_named {
                    draft
                        .remark("the named servers are left out: without --port, a URL is offered on stdin and stdout");
                }
                return Ok(Invocation::Connect(connect::Options {
                    remote,
                    open_requests: draft.open_requests,
                    client_protocol: draft.client_protocol,
                    inputs: Inputs { most: draft.inputs, bytes: draft.input_bytes, age: draft.input_timeout },
                    restrict: draft.restrict,
                }));
            }
            Some(Target::Remote(remote))
        }
        Some(_) => Some(Target::Command(command(draft, positional)?)),
    };
    let groups = [Group::Local, Group::Several, Group::Listener, Group::Access, Group::Sessions];
    read_variables(draft, &groups, environment)?;
    serve_options(draft, target, inherited, environment).map(Invocation::Serve)
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

/// Takes what the command line leaves open from the environment. An empty variable is none, as compose files have it, but
/// that of the tokens.
fn read_variables(draft: &mut Draft, groups: &[Group], environment: Environment) -> Result<(), Error> {
    for row in TABLE.iter().filter(|row| groups.contains(&row.group)) {
        if draft.is_given(row.name()) {
            continue;
        }
        let (Setter::Word(set) | Setter::FileOr(_, set)) = row.set else { continue };
        let Some(value) = variable(row.variable, environment) else { continue };
        set(draft, &value).map_err(|fault| Error::Usage(format!("variable '{}': {fault}", row.variable)))?;
    }
    Ok(())
}

fn variable(name: &str, environment: Environment) -> Option<OsString> {
    // Kubernetes sets MCP_PROXY_PORT=tcp://10.0.0.1:80 where a service is called mcp-proxy.
    let is_of_kubernetes = |value: &OsString| name != "SSE_URL" && value.as_bytes().starts_with(b"tcp://");
    // Whoever names the variable of tokens wants some: without any, everybody would be let in.
    let is_meant = |value: &OsString| (!value.is_empty() || name == "MCP_PROXY_AUTH_TOKEN") && !is_of_kubernetes(value);
    if name.is_empty() { None } else { environment(name).filter(is_meant) }
}

fn demo(draft: &Draft, positional: &[OsString]) -> Result<Invocation, Error> {
    if !positional.is_empty() {
        return usage(
            "option '--demo': it goes with no URL and no command; '--' before a command makes it the command's",
        );
    }
    let serving = ["--port", "--host", "--listen", "--named-server", "--named-server-config"];
    if serving.iter().any(|name| draft.is_given(name)) {
        return usage(
            "option '--demo': it speaks on stdin and stdout; serve it with 'mcp-proxy --port PORT -- mcp-proxy --demo'",
        );
    }
    Ok(Invocation::Demo)
}

/// The local server at the top.
fn command(draft: &Draft, words: Vec<OsString>) -> Result<Command, Error> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    refuse_mistyped(&program, draft.cwd.as_deref().unwrap_or(Path::new("")))?;
    if let Some(folder) = draft.cwd.as_ref().filter(|folder| !folder.is_dir()) {
        return usage(&format!("option '--cwd': '{}' is not a folder", shown(folder)));
    }
    let command = defaults(draft).command(program, words.collect());
    Ok(Command { env: draft.env.clone(), cwd: draft.cwd.clone(), ..command })
}

/// The remote server at the top, or the one that we connect to.
fn remote(draft: &mut Draft, url: &str) -> Result<Remote, Error> {
    check_certificates(&draft.verify)?;
    let address = log::shortened(log::address(url).as_bytes());
    let defaults = defaults(draft);
    let wrong = |fault: crate::config::UrlFault| Error::Usage(fault.explain(&address, "'--username' and '--password'"));
    let mut remote = defaults.remote(url).map_err(wrong)?;
    remote.auth = login::auth(draft, &defaults)?;
    remote.certificate = login::certificate(draft)?;
    login::read_headers(draft)?;
    let (headers, is_shorter) = login::headers(draft, &remote.auth)?;
    if is_shorter {
        draft.remark("option '--headers': Authorization is left out, because it is made from the other options");
    }
    for (name, value) in headers {
        match name.parse() {
            Ok(name) => remote.headers.push((name, value)),
            Err(_) => return usage(&format!("option '--headers': {}", not_a_header_name(&name))),
        }
    }
    Ok(remote)
}

fn serve_options(
    draft: &mut Draft,
    target: Option<Target>,
    inherited: usize,
    environment: Environment,
) -> Result<serve::Options, Error> {
    let (servers, config) = servers(draft, target, environment)?;
    if servers.iter().any(|server| matches!(server.target, Target::Remote(_))) {
        check_certificates(&draft.verify)?;
    }
    remark_on_named(draft, &servers);
    let (tokens, token_file) = access::tokens(draft)?;
    Ok(serve::Options {
        listen: access::listen(draft, inherited),
        rights: access::rights(draft)?,
        inherited,
        tokens,
        token_file,
        auth_servers: draft.auth_servers.clone(),
        public_url: draft.public_url.clone(),
        allow_hosts: draft.allow_hosts.clone(),
        restrict: draft.restrict,
        servers,
        config,
        allow_origins: draft.allow_origins.clone(),
        expose_headers: draft.expose_headers.clone(),
        sharing: match (draft.stateless, draft.shared) {
            (true, _) => serve::Sharing::Stateless,
            (false, true) => serve::Sharing::Shared,
            (false, false) => serve::Sharing::Session,
        },
        base_path: draft.base_path.clone(),
        trusted_proxies: draft.trusted_proxies.clone(),
        session_idle: draft.session_idle,
        replay_bytes: draft.replay_bytes,
        replay_age: draft.replay_age,
        sessions: draft.sessions,
        open_requests: draft.open_requests,
        stop_timeout: draft.stop_timeout,
        client_protocol: draft.client_protocol,
        server_protocol: draft.protocol,
        links: draft.links,
        inputs: draft.inputs,
        input_bytes: draft.input_bytes,
        input_timeout: draft.input_timeout,
        limits: draft.limits.clone(),
    })
}

/// The server at the top, those of the command line, those of the file.
fn servers(
    draft: &mut Draft,
    target: Option<Target>,
    environment: Environment,
) -> Result<(Vec<Server>, Option<File>), Error> {
    let defaults = defaults(draft);
    let mut servers: Vec<_> = target.map(|target| Server { name: None, target }).into_iter().collect();
    for (name, words) in &draft.named {
        let target = named(words, &defaults)
            .map_err(|fault| Error::Usage(format!("option '--named-server': server '{name}': {fault}")))?;
        servers.push(Server { name: Some(name.clone()), target });
    }
    let Some(path) = draft.config.clone() else { return Ok((servers, None)) };
    let file = File { path, defaults, others: servers };
    let reading = file.load(environment)?;
    draft.remarks.extend(reading.remarks);
    if reading.servers.is_empty() {
        return usage(&format!("'{}': no server is left to serve", shown(&file.path)));
    }
    Ok((reading.servers, Some(file)))
}

fn named(words: &[OsString], defaults: &Defaults) -> Result<Target, String> {
    let (first, others) = words.split_first().ok_or("the command is empty")?;
    if !is_url(first) {
        return Ok(Target::Command(defaults.command(first.clone(), others.to_vec())));
    }
    let url = first.to_string_lossy();
    let address = log::shortened(log::address(&url).as_bytes());
    let place = "'headers' of --named-server-config";
    defaults.remote(&url).map(Target::Remote).map_err(|fault| fault.explain(&address, place))
}

/// What named servers get from the command line.
fn defaults(draft: &Draft) -> Defaults {
    Defaults {
        pass_environment: draft.pass_environment,
        transport: draft.transport,
        protocol: draft.protocol,
        verify: draft.verify.clone(),
        message_limit_bytes: draft.limits.body_bytes,
        timeout: draft.timeout,
    }
}

/// Tells of options that are there for the server at the top, where there are only named ones that could want them.
fn remark_on_named(draft: &mut Draft, servers: &[Server]) {
    let is_command = |server: &Server| matches!(server.target, Target::Command(_));
    let at_top = servers.iter().find(|server| server.name.is_none()).map(is_command);
    let has_named = |command| servers.iter().any(|server| server.name.is_some() && is_command(server) == command);
    for (names, command) in [
        (&["--env", "--cwd"][..], true),
        (&["--headers", "--api-access-token", "--client-id", "--username", "--client-cert"], false),
    ] {
        for name in names.iter().filter(|name| draft.is_given(name)).copied().collect::<Vec<_>>() {
            if has_named(command) && at_top != Some(command) {
                draft.remark(&format!("option '{name}': named servers do not get it"));
            }
        }
    }
}

/// Finds out now what would else be found out by the first request.
fn check_certificates(verify: &Verify) -> Result<(), Error> {
    let Verify::File(file) = verify else { return Ok(()) };
    let fault = |fault: &str| usage(&format!("option '--verify-ssl': '{}' {fault}", shown(file)));
    match std::fs::read(file) {
        Err(error) => fault(&format!("cannot be read: {}", log::cause(&error))),
        Ok(pem) if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") => {
            fault("holds no certificate in PEM form")
        }
        Ok(_) => Ok(()),
    }
}
