//! The exchange of HTTP/1.1 over ureq's transports: a request, the head of its answer, and the connections that are
//! kept for the next one. RFC 9112. ureq's own does the same with four times the work.
//!
//! Always: a request is written once, whatever becomes of it; a connection is used again only where the last answer
//! was read to its end and nothing has come since; after a shutdown there is none.
//!
//! Works with ureq 3.5's `unversioned` parts, which may change with any release: `Cargo.lock` holds it.

use super::answer::Body;
use super::dial::Unresolved;
use super::known::{Answer, Known};
use super::pool::Pool;
use crate::protocol::base64;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::uri::{Authority, Scheme};
use ureq::http::{Response, StatusCode, Uri, header, request};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport, time};
use ureq::{Error, Timeout};

/// How we name ourselves.
pub const USER_AGENT: &str = concat!("mcp-proxy/", env!("CARGO_PKG_VERSION"));

/// The longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;
/// Bodies up to this size are copied behind their head.
const JOINED_BYTES: usize = 8 * 1024;

type Connect = dyn Fn(&ConnectionDetails<'_>) -> Result<Box<dyn Transport>, Error> + Send + Sync;

/// Sends requests.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

struct Shared {
    config: Config,
    connect: Arc<Connect>,
    /// How long it may take to connect, and to send a request.
    step: Duration,
    /// How long one request may take, body included.
    whole: Option<Duration>,
    pool: Arc<Pool>,
}

impl Agent {
    /// An agent that connects as `connector` does. It may take `step` to connect and as long to send a request, and
    /// `whole` for all of it, body included.
    #[must_use]
    pub fn new(config: Config, connector: impl Connector, step: Duration, whole: Option<Duration>) -> Self {
        let connect = move |details: &ConnectionDetails<'_>| {
            let transport = connector.connect(details, None)?.ok_or(Error::ConnectionFailed)?;
            Ok(Box::new(transport) as Box<dyn Transport>)
        };
        Self(Arc::new(Shared { config, connect: Arc::new(connect), step, whole, pool: Arc::default() }))
    }

    /// Sends a request and waits for the head of its answer, for as long as `whole` where that is given.
    ///
    /// # Errors
    /// There is no answer, or it is no HTTP.
    pub fn run(
        &self,
        head: &Arc<request::Parts>,
        body: Option<&[u8]>,
        whole: Option<Duration>,
    ) -> Result<Response<Body>, Error> {
        let limit = Limit(whole.or(self.0.whole).and_then(|whole| Instant::now().checked_add(whole)));
        let mut connection = match self.0.pool.take(&head.uri)? {
            Some(connection) => connection,
            None => self.connect(&head.uri, limit)?,
        };
        let Connection { known, host, .. } = &mut connection;
        let (joined, rest) = request(&known.request(head, || head_of(head, host)), body);
        connection.send(&[&joined, rest], self.0.step, limit)?;
        let Answer { response, framing } = connection.receive(limit)?;
        Ok(response.map(|()| Body::new(connection, framing, limit)))
    }

    /// Closes all connections, those that are in use too. There are no others.
    pub fn shutdown(&self) {
        self.0.pool.close();
    }

    fn connect(&self, uri: &Uri, limit: Limit) -> Result<Connection, Error> {
        let pool = self.0.pool.clone();
        let details = ConnectionDetails {
            uri,
            addrs: Unresolved.empty(),
            config: &self.0.config,
            request_level: false,
            resolver: &Unresolved,
            now: time::Instant::now(),
            timeout: limit.next(Some(self.0.step), Timeout::Connect)?,
            current_time: Arc::new(time::Instant::now),
            run_connector: self.0.connect.clone(),
            register_shutdown: Arc::new(move |handle| pool.register(handle)),
        };
        let transport = (self.0.connect)(&details)?;
        if details.needs_tls() && !transport.is_tls() {
            return Err(Error::TlsRequired);
        }
        let (to, host) = (destination(uri)?, host(uri).into());
        Ok(Connection { transport, to, host, known: Box::default(), pool: self.0.pool.clone() })
    }
}

/// A request: its head, which begins with what [`head_of`] gave, with a small body behind it, and what is left of a large
/// one.
fn request<'a>(head: &[u8], body: Option<&'a [u8]>) -> (Vec<u8>, &'a [u8]) {
    let (small, large) = match body {
        Some(body) if body.len() > JOINED_BYTES => (&[][..], body),
        _ => (body.unwrap_or_default(), &[][..]),
    };
    let mut out = Vec::with_capacity(head.len() + small.len() + 64);
    out.extend_from_slice(head);
    if let Some(body) = body {
        let _ = write!(out, "content-length: {}\r\n", body.len()); // memory takes all
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(small);
    (out, large)
}

/// What a head says but for how long the body is.
fn head_of(head: &request::Parts, host: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let (uri, headers) = (&head.uri, &head.headers);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let slash = if target.starts_with('/') { "" } else { "/" };
    put(&[head.method.as_str().as_bytes(), b" ", slash.as_bytes(), target.as_bytes(), b" HTTP/1.1\r\n"]);
    if !headers.contains_key(header::HOST) {
        put(&[b"host: ", host.as_bytes(), b"\r\n"]);
    }
    for (name, value) in headers {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if !headers.contains_key(header::USER_AGENT) {
        put(&[b"user-agent: ", USER_AGENT.as_bytes(), b"\r\n"]);
    }
    let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
    if let Some((user, _)) = user.filter(|_| !headers.contains_key(header::AUTHORIZATION)) {
        let pair = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
        put(&[b"authorization: Basic ", base64::encode(pair.as_bytes()).as_bytes(), b"\r\n"]);
    }
    out
}

/// What the header of that name says.
fn host(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    match uri.port().filter(|port| port.as_u16() != default) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// When all of a request is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Limit(Option<Instant>);

impl Limit {
    /// How long the next step may take: `step`, if it has a limit of its own, but not longer than the whole.
    ///
    /// # Errors
    /// No time is left.
    pub fn next(self, step: Option<Duration>, reason: Timeout) -> Result<NextTimeout, Error> {
        let left = self.0.map(|until| until.saturating_duration_since(Instant::now()));
        let (after, reason) = match (step, left) {
            (_, Some(left)) if step.is_none_or(|step| left < step) => (left, Timeout::Global),
            (Some(step), _) => (step, reason),
            (None, _) => {
                return Ok(NextTimeout { after: time::Duration::NotHappening, reason, ..NextTimeout::default() });
            }
        };
        if after.is_zero() {
            return Err(Error::Timeout(reason));
        }
        Ok(NextTimeout { after: after.into(), reason, ..NextTimeout::default() })
    }
}

/// A connection that has one exchange at a time.
pub struct Connection {
    /// Its bytes.
    pub transport: Box<dyn Transport>,
    /// Where it leads.
    pub to: (Scheme, Authority),
    /// What its requests say to that.
    pub host: Box<str>,
    /// What was said last over it.
    pub known: Box<Known>,
    /// Where it goes when it is free.
    pub pool: Arc<Pool>,
}

impl Connection {
    fn send(&mut self, parts: &[&[u8]], step: Duration, limit: Limit) -> Result<(), Error> {
        let (begun, mut left) = (Instant::now(), step);
        for mut rest in parts.iter().copied() {
            while !rest.is_empty() {
                let timeout = limit.next(Some(left), Timeout::SendRequest)?;
                let output = self.transport.buffers().output();
                let amount = rest.len().min(output.len());
                if amount == 0 {
                    return Err(Error::Io(ErrorKind::WriteZero.into()));
                }
                output[..amount].copy_from_slice(&rest[..amount]);
                self.transport.transmit_output(amount, timeout)?;
                rest = &rest[amount..];
                left = step.saturating_sub(begun.elapsed());
            }
        }
        Ok(())
    }

    /// The head of the answer; what comes before it is no answer yet (RFC 9110 §15.2).
    fn receive(&mut self, limit: Limit) -> Result<Answer, Error> {
        loop {
            let buffers = self.transport.buffers();
            let (input, mut found) = (buffers.input(), None);
            let bytes = input.len();
            if !input.is_empty() {
                found = self.known.answer(input)?;
            }
            if found.as_ref().map_or(bytes, |(used, _)| *used) >= HEAD_BYTES {
                return Err(Error::LargeResponseHeader(bytes, HEAD_BYTES));
            }
            if let Some((used, answer)) = found {
                buffers.input_consume(used);
                let status = answer.response.status();
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    continue;
                }
                return Ok(answer);
            }
            if !self.transport.await_input(limit.next(None, Timeout::RecvResponse)?)? {
                return Err(Error::Io(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Its answer was read to the end: the next request may have it, unless it has ended or more has come.
    pub fn keep(mut self) {
        if self.transport.buffers().input().is_empty() && self.transport.is_open() {
            let pool = self.pool.clone();
            pool.keep(self);
        }
    }
}

/// Where a connection to `uri` leads.
fn destination(uri: &Uri) -> Result<(Scheme, Authority), Error> {
    let found = uri.scheme().filter(|scheme| **scheme == Scheme::HTTP || **scheme == Scheme::HTTPS);
    let unknown = || Error::BadUri("no http or https address".into());
    let (scheme, authority) = found.zip(uri.authority()).ok_or_else(unknown)?;
    Ok((scheme.clone(), authority.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::Request;

    /// What is sent for a request with these headers: what was joined, and how long the rest is.
    fn sent(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> (String, usize) {
        let builder = Request::builder().method(method).uri(url);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        let (head, ()) = builder.body(()).unwrap().into_parts();
        let (joined, rest) = request(&head_of(&head, &host(&head.uri)), body);
        (String::from_utf8(joined).unwrap().replace(USER_AGENT, "us"), rest.len())
    }

    #[test]
    fn a_request_says_what_its_address_and_its_body_are() {
        for (url, target, host, proof) in [
            ("http://a", "/", "a", ""),
            ("http://a:80/b?c=d", "/b?c=d", "a", ""),
            ("https://a:443/b", "/b", "a", ""),
            ("https://a:80", "/", "a:80", ""),
            ("http://[::1]:8080?c", "/?c", "[::1]:8080", ""),
            ("http://n:p@a/b", "/b", "a", "authorization: Basic bjpw\r\n"),
            ("http://n@a/b", "/b", "a", "authorization: Basic bjo=\r\n"),
        ] {
            let expected = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: us\r\n{proof}\r\n");
            assert_eq!(sent("GET", url, &[], None), (expected, 0), "{url}");
        }
        let end = |length: usize| format!("user-agent: us\r\ncontent-length: {length}\r\n\r\n");
        let begin = "POST / HTTP/1.1\r\nhost: a\r\n";
        assert_eq!(sent("POST", "http://a", &[], Some(b"{}")), (format!("{begin}{}{{}}", end(2)), 0));
        assert_eq!(sent("POST", "http://a", &[], Some(b"")), (format!("{begin}{}", end(0)), 0));
        let large = vec![b'x'; JOINED_BYTES + 1];
        assert_eq!(sent("POST", "http://a", &[], Some(&large)), (format!("{begin}{}", end(large.len())), large.len()));
    }

    #[test]
    fn what_the_user_says_is_not_said_by_us() {
        let own = [("host", "h"), ("user-agent", "ua"), ("authorization", "x"), ("b", "1"), ("b", "2")];
        let expected = "GET / HTTP/1.1\r\nhost: h\r\nuser-agent: ua\r\nauthorization: x\r\nb: 1\r\nb: 2\r\n\r\n";
        assert_eq!(sent("GET", "http://n:p@a:8", &own, None).0, expected);
    }
}
