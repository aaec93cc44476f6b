//! The HTTP client: one place that makes ureq's agents, with TLS, proxies, redirects and credentials.
//!
//! Always: the user's headers go to the origin that the user named and to no other; nothing that may be a secret
//! is in an error; a proxy is the one that the environment names for this very address.

use super::agent::{Agent, USER_AGENT};
use super::auth::{Auth, Credentials, Proof};
use super::certificate::Certificate;
use super::dial::{Dialer, SharedTls};
use super::exchange::Ways;
use super::oauth;
use super::waits::Waits;
use crate::error::Error;
use crate::log::{self, Secret};
use crate::protocol::era::{Era, Eras, Protocol, Way};
use crate::protocol::modern::params::Schemas;
use crate::protocol::proxy;
use crate::protocol::uri::{self, Origin};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Proxy, Timeout};

/// Tools that the user is warned of.
const WARNINGS: usize = 1000;

/// How a remote server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// As it turns out: Streamable HTTP, else HTTP+SSE; the other way round where the path ends in `/sse`.
    #[default]
    Auto,
    /// HTTP+SSE (2024-11-05).
    Sse,
    /// Streamable HTTP (2025-03-26 and later).
    StreamableHttp,
}

/// How a remote server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its address, `http` or `https`.
    pub url: Uri,
    /// What is sent with every request to its origin.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How it is spoken to.
    pub transport: Transport,
    /// Which era of the protocol it speaks.
    pub protocol: Protocol,
    /// What proves to it who we are.
    pub auth: Auth,
    /// The certificate that proves who we are, to its origin alone.
    pub certificate: Option<Certificate>,
    /// Which certificates are believed.
    pub verify: Verify,
    /// The longest message (bytes) that is taken from it.
    pub message_limit_bytes: usize,
    /// How long one POST, or the answer to a GET, may take.
    pub timeout: Duration,
}

/// Which certificates of a remote server are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verify {
    /// Those signed by the authorities that Mozilla trusts.
    #[default]
    Public,
    /// Those signed by one of the authorities in this PEM file.
    File(PathBuf),
    /// All of them: no protection against somebody in the middle.
    Nothing,
}

/// What makes agents for one remote server.
pub struct Client {
    remote: Remote,
    origin: Origin,
    headers: HeaderMap,
    /// How connections to the origin that the user named are encrypted, and those to others.
    own: Tls,
    others: Tls,
    proof: Proof,
    /// What the server turned out to speak.
    found: Mutex<Transport>,
    /// Which eras it turned out to speak.
    eras: Mutex<Eras>,
    /// Which parameters of its tools go into headers.
    schemas: Mutex<Schemas>,
    /// What the user was told of its tools.
    told: Mutex<BTreeSet<String>>,
}

/// How connections are encrypted, and what they have in common.
#[derive(Clone)]
struct Tls {
    config: TlsConfig,
    shared: SharedTls,
}

/// An agent and what its errors say about the way that it takes.
#[derive(Clone)]
pub struct Route {
    /// Sends the requests.
    pub agent: Agent,
    proxy: Option<String>,
}

impl Client {
    /// Checks all that can be checked before a connection is made.
    ///
    /// # Errors
    /// The address, a header or the file of authorities is not usable.
    pub fn new(remote: Remote) -> Result<Self, Error> {
        let url = remote.url.to_string();
        let wrong = || Error::Usage(format!("'{}' is not an http or https address", log::address(&url)));
        let origin = Origin::of(&url).ok_or_else(wrong)?;
        let headers = own_headers(&remote.headers)?;
        let others = Tls { config: tls_config(&remote.verify, None)?, shared: SharedTls::default() };
        let own = match &remote.certificate {
            None => others.clone(),
            proof => Tls { config: tls_config(&remote.verify, proof.as_ref())?, shared: SharedTls::default() },
        };
        if remote.verify == Verify::Nothing {
            log::warning(format_args!("certificates are not checked: anybody in between can read and change all"));
        }
        // A header that the user gives is the proof.
        let auth = if headers.contains_key(header::AUTHORIZATION) { Auth::Nothing } else { remote.auth.clone() };
        if let Auth::ClientCredentials(credentials) = &auth {
            oauth::warn_of_clear_text(&credentials.token_url);
        }
        let proof = Proof::new(auth);
        let (found, eras) = (Mutex::new(remote.transport), Mutex::new(Eras::new(remote.protocol)));
        let (schemas, told) = (Mutex::default(), Mutex::default());
        Ok(Self { remote, origin, headers, own, others, proof, found, eras, schemas, told })
    }

    /// What the server is known to speak: what the user said, or what it turned out to.
    #[must_use]
    pub fn speaks(&self) -> Transport {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server turned out to speak this; the next connection begins with it.
    pub fn found(&self, transport: Transport) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = transport;
    }

    /// How the clients of an era get to the server, as far as it is known.
    #[must_use]
    pub fn way(&self, era: Era) -> Way {
        self.eras().way(era)
    }

    /// What is known of the eras that the server speaks.
    pub fn eras(&self) -> MutexGuard<'_, Eras> {
        self.eras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the tools of the server.
    pub fn schemas(&self) -> MutexGuard<'_, Schemas> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns of one of its tools, once; of very many, not of all.
    pub fn warn_of_tool(&self, tool: &str, reason: &str) {
        let tool = log::shortened(tool.as_bytes());
        let warning =
            format!("the tool '{tool}' of '{}' is left out: {reason}", log::address(&self.remote.url.to_string()));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < WARNINGS && told.insert(warning.clone()) {
            log::warning(format_args!("{warning}"));
        }
    }

    /// What the user said.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The headers of a request to `url`: `ours`, and the user's, which win, if it has the origin that the user
    /// named.
    #[must_use]
    pub fn headers_for(&self, url: &str, ours: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in ours {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if Origin::of(url).as_ref() == Some(&self.origin) {
            for name in self.headers.keys() {
                headers.remove(name);
            }
            for (name, value) in &self.headers {
                headers.append(name, value.clone());
            }
        }
        headers
    }

    /// Adds to a request what proves who we are; only where [`Client::proves`] says so. To ask for a token may take
    /// its time.
    ///
    /// # Errors
    /// There is no token, in words for a person.
    pub fn authorize(&self, request: &mut request::Parts, ways: &dyn Ways) -> Result<(), String> {
        let ask = |credentials: &Credentials| {
            let route = ways.to_tokens(&credentials.token_url)?;
            oauth::ask(credentials, &self.remote.url, &route, self.remote.timeout)
        };
        if let Some(value) = self.proof.authorization(request, &ask, &|| ways.ended())? {
            request.headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }

    /// The server answered 401 to what [`Client::authorize`] made: whether the request is worth sending once more.
    ///
    /// # Errors
    /// It is not, or it `is_again` already; in words for a person.
    pub fn challenged(&self, sent: &request::Parts, answered: &HeaderMap, is_again: bool) -> Result<bool, String> {
        if !self.proves(&sent.uri) {
            return Ok(false);
        }
        let shown = log::address(&sent.uri.to_string());
        let is_worth_it = self.proof.challenged(&sent.headers, answered);
        if is_worth_it.map_err(|why| format!("'{shown}' answered 401 Unauthorized; {why}"))? && !is_again {
            return Ok(true);
        }
        Err(format!("'{shown}' answered 401 Unauthorized; {}", self.proof.refused()))
    }

    /// Whether requests to this address carry more than fixed headers.
    #[must_use]
    pub fn proves(&self, url: &Uri) -> bool {
        self.proof.is_wanted() && is_same_origin(url, &self.remote.url)
    }

    /// Tells the user that a redirect goes where the user's headers do not.
    pub fn warn_of_withheld(&self, from: &str, to: &str) {
        let is_own = |url| Origin::of(url).as_ref() == Some(&self.origin);
        let has_secrets = !self.headers.is_empty() || self.proof.is_wanted();
        if has_secrets && is_own(from) && !is_own(to) {
            let (from, to) = (log::address(from), log::address(to));
            log::warning(format_args!(
                "'{from}' redirects to another origin ('{to}'), which does not get your token and headers; \
                 give its own address if it should"
            ));
        }
    }

    /// An agent for requests to the origin of `url`. Each may take `timeout`, body included, if one is given.
    ///
    /// # Errors
    /// The environment names a proxy that cannot be used.
    pub fn route(&self, url: &Uri, waits: &Arc<Waits>, timeout: Option<Duration>) -> Result<Route, String> {
        let chosen = chosen_proxy(url);
        let shown = chosen.as_deref().map(log::address);
        let proxy = chosen.as_deref().map(usable_proxy).transpose()?;
        let is_own = is_same_origin(url, &self.remote.url);
        let tls = if is_own { &self.own } else { &self.others };
        let is_encrypted = |proxy: &Proxy| proxy.uri().scheme_str() == Some("https");
        if is_own && self.remote.certificate.is_some() && proxy.as_ref().is_some_and(is_encrypted) {
            return Err("a client certificate would go to the https proxy of the environment, not to the server".into());
        }
        // A proxy is asked for a tunnel where secrets pass through it, or its own are wanted; else it gets whole
        // addresses, since many allow tunnels to port 443 only.
        let plain = |p: &Proxy| p.uri().scheme_str() == Some("http") && p.username().is_none();
        let forwards = url.scheme_str() == Some("http") && proxy.as_ref().is_some_and(plain);
        let (forward, tunnel) = if forwards { (proxy, None) } else { (None, proxy) };
        let config =
            ureq::Agent::config_builder().proxy(tunnel).tls_config(tls.config.clone()).user_agent(USER_AGENT).build();
        let dialer = Dialer::new(waits.clone(), forward.map(|proxy| proxy.uri().clone()));
        let connector = ().chain(ConnectProxyConnector::default()).chain(dialer).chain(tls.shared.clone());
        Ok(Route { agent: Agent::new(config, connector, self.remote.timeout, timeout), proxy: shown })
    }
}

impl Route {
    /// Why a request for `url` has no answer, for a person.
    #[must_use]
    pub fn explain(&self, url: &str, error: &ureq::Error, timeout: Duration) -> String {
        let through = self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through the proxy '{proxy}'"));
        let cause = match error {
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                let program = if self.proxy.is_some() { "proxy" } else { "server" };
                format!("connection refused; is the {program} running?")
            }
            error => cause(error, timeout),
        };
        format!("cannot reach '{}'{through}: {cause}", log::address(url))
    }

    /// Why an answer broke off, for a person.
    #[must_use]
    pub fn broken(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => "it ended in the middle".into(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "nothing came in time".into(),
            _ => "it was no valid HTTP".into(),
        }
    }
}

/// Whether both are of one origin.
#[must_use]
pub fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let is_same_text = a.scheme() == b.scheme() && a.authority() == b.authority();
    is_same_text || Origin::of(&a.to_string()) == Origin::of(&b.to_string())
}

/// Where a redirect leads, if it may be followed.
///
/// # Errors
/// It leads nowhere, to no HTTP server, or from `https` to `http`.
pub fn redirected(from: &str, location: Option<&HeaderValue>) -> Result<String, String> {
    let shown = log::address(from);
    let location = location.and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| uri::resolve(from, location));
    let Some(to) = to else { return Err(format!("'{shown}' redirects without saying where to")) };
    match (Origin::of(from), Origin::of(&to)) {
        (_, None) => Err(format!("'{shown}' redirects to '{}', which is no http or https address", log::address(&to))),
        (Some(a), Some(b)) if a.scheme == "https" && b.scheme == "http" => {
            Err(format!("'{shown}' redirects to '{}', which is not encrypted and not followed", log::address(&to)))
        }
        _ => Ok(to),
    }
}

/// What to do about a status that means the same whatever was asked.
#[must_use]
pub fn advice(status: u16) -> Option<&'static str> {
    match status {
        401 | 403 => {
            Some("give a token with --api-access-token or -H Authorization, or log in with --client-id or --username")
        }
        407 => Some("the proxy wants a user name and a password, as in http://NAME:PASSWORD@HOST:PORT"),
        429 => Some("too many requests; try again later"),
        500.. => Some("the server, or a proxy in front of it, has a problem of its own"),
        _ => None,
    }
}

/// A status with its name.
#[must_use]
pub fn named(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    format!("{} {reason}", status.as_u16()).trim_end().to_owned()
}

/// The user's headers; what frames a request is not theirs to say.
fn own_headers(given: &[(HeaderName, Secret)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        if matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION | header::EXPECT) {
            return Err(Error::Usage(format!("the header '{name}' is ours to send")));
        }
        let mut value = HeaderValue::from_str(value.reveal())
            .map_err(|_| Error::Usage(format!("the value of the header '{name}' holds what a header cannot")))?;
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    Ok(headers)
}

fn tls_config(verify: &Verify, proof: Option<&Certificate>) -> Result<TlsConfig, Error> {
    let unusable = |fault: String| Error::Usage(format!("the client certificate: {fault}"));
    let builder = TlsConfig::builder().client_cert(proof.map(Certificate::usable).transpose().map_err(unusable)?);
    Ok(match verify {
        Verify::Public => builder.build(),
        Verify::Nothing => builder.disable_verification(true).build(),
        Verify::File(path) => builder.root_certs(authorities(path)?).build(),
    })
}

fn authorities(path: &Path) -> Result<RootCerts, Error> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| Error::Usage(format!("cannot read '{shown}': {error}")))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(Error::Usage(format!("'{shown}' is no PEM file"))),
        }
    }
    if found.is_empty() {
        return Err(Error::Usage(format!("'{shown}' holds no certificate")));
    }
    Ok(found.into())
}

fn chosen_proxy(url: &Uri) -> Option<String> {
    let origin = Origin::of(&url.to_string())?;
    proxy::choose(&origin.scheme, &origin.host, origin.port, |name| std::env::var(name).ok())
}

fn usable_proxy(proxy: &str) -> Result<Proxy, String> {
    let shown = log::address(proxy);
    let known = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if !proxy.split_once("://").is_some_and(|(scheme, _)| known(scheme)) {
        return Err(format!("the proxy '{shown}' of the environment is neither http nor https"));
    }
    Proxy::new(proxy).map_err(|_| format!("the proxy '{shown}' of the environment is no address"))
}

/// The cause of a failed request, with what to do about it.
fn cause(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Io(error) => io_cause(error),
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            format!("no connection within {} s", timeout.as_secs_f32())
        }
        ureq::Error::Timeout(_) => format!("no answer within {} s", timeout.as_secs_f32()),
        ureq::Error::HostNotFound => "the name of the host is not known".into(),
        ureq::Error::Rustls(error) => tls_cause(&error.to_string()),
        ureq::Error::Tls(_) | ureq::Error::TlsRequired => tls_cause(&error.to_string()),
        ureq::Error::ConnectProxyFailed(reason) => format!("the proxy refuses: {reason}"),
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => "it does not speak HTTP".into(),
        ureq::Error::LargeResponseHeader(..) => "the head of its answer is too large".into(),
        // The words of the others may quote the address.
        _ => "the request failed".into(),
    }
}

fn io_cause(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{error}; is the name of the host right?"),
        ErrorKind::TimedOut => "no connection in time".into(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it closed the connection without an answer".into()
        }
        // rustls hands its errors over in this form.
        ErrorKind::InvalidData => tls_cause(&error.to_string()),
        _ => error.to_string(),
    }
}

fn tls_cause(reason: &str) -> String {
    if reason.contains("UnknownIssuer") || reason.contains("CaUsedAsEndEntity") {
        return format!("its certificate is not trusted ({reason}); --verify-ssl FILE trusts your own authority");
    }
    if reason.contains("certificate") {
        return format!("its certificate is not valid ({reason})");
    }
    format!("no encrypted connection ({reason}); is it https at all?")
}
