//! What an HTTP request asks of us: its head in, an [`Action`] or a [`Refusal`] out. The rules of HTTP+SSE are
//! those of MCP 2024-11-05, `basic/transports`, "HTTP with SSE"; those of `Origin` and `Host` are in its
//! "Security Warning".

use super::message::{INTERNAL_ERROR, INVALID_REQUEST, Invalid, Message};
use std::net::IpAddr;
use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// A new session and its event stream.
    OpenSession,
    /// A message for the session with this id.
    Post {
        /// As the `endpoint` event named it.
        session: String,
    },
    /// A browser asks whether its page may ask.
    Preflight,
    /// How we are.
    Status,
}

/// Why a request is not granted, and what the client reads of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The code of the JSON-RPC error in its body.
    pub code: i32,
    /// What is wrong, without quoting the request.
    pub reason: String,
    /// The methods that are allowed, with 405.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with the JSON-RPC code that fits the status.
    #[must_use]
    pub fn new(status: StatusCode, reason: &str) -> Self {
        let code = if status.is_server_error() { INTERNAL_ERROR } else { INVALID_REQUEST };
        Self { status, code, reason: reason.into(), allow: None }
    }

    /// The JSON-RPC error that is the body of the answer.
    #[must_use]
    pub fn message(&self) -> Message {
        Message::error(None, self.code, &self.reason)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let reason = format!("the body is no message: {invalid}");
        Self { status: StatusCode::BAD_REQUEST, code: invalid.code, reason, allow: None }
    }
}

/// Who may ask.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whether we listen on loopback addresses only. Then a `Host` that is no loopback name belongs to a page
    /// that had its own name resolved to us (DNS rebinding).
    pub loopback: bool,
    /// Origins of pages that may ask; `*` means all.
    pub allow_origins: Vec<String>,
    /// Headers that their scripts may read.
    pub expose_headers: Vec<String>,
}

/// The ways in. A path is compared as it is: nothing is decoded or normalised.
const STREAM_PATHS: [&str; 2] = ["/sse", "/sse/"];
const POST_PATHS: [&str; 2] = ["/messages/", "/messages"];
const STATUS_PATHS: [&str; 2] = ["/status", "/status/"];

/// The URI of the `endpoint` event.
#[must_use]
pub fn endpoint(session: &str) -> String {
    format!("/messages/?session_id={session}")
}

/// Decides on a request by its head.
///
/// # Errors
/// The request is not granted.
pub fn route(request: &Request<()>, rules: &Rules) -> Result<Action, Refusal> {
    let headers = request.headers();
    rules.check_host(headers)?;
    rules.check_origin(headers)?;
    let (path, method) = (request.uri().path(), request.method());
    let preflight = *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if STREAM_PATHS.contains(&path) {
        match *method {
            Method::GET => accepts_stream(headers).map(|()| Action::OpenSession),
            _ if preflight => Ok(Action::Preflight),
            _ => Err(not_allowed("GET, OPTIONS")),
        }
    } else if POST_PATHS.contains(&path) {
        match *method {
            Method::POST => post(request),
            _ if preflight => Ok(Action::Preflight),
            _ => Err(not_allowed("POST, OPTIONS")),
        }
    } else if STATUS_PATHS.contains(&path) {
        match *method {
            Method::GET | Method::HEAD => Ok(Action::Status),
            _ if preflight => Ok(Action::Preflight),
            _ => Err(not_allowed("GET, HEAD, OPTIONS")),
        }
    } else {
        Err(Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path; the event stream is at /sse"))
    }
}

fn not_allowed(allow: &'static str) -> Refusal {
    Refusal { allow: Some(allow), ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed here") }
}

/// A client that says what it takes must take an event stream.
fn accepts_stream(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let takes = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        ["*/*", "text/*", "text/event-stream"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    };
    if kinds.peek().is_none() || kinds.flat_map(|value| value.split(',')).any(takes) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "the client must accept text/event-stream"))
}

/// Old clients leave the type out; one that is given must be JSON.
fn post(request: &Request<()>) -> Result<Action, Refusal> {
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
        }
    }
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("session_id=")) {
        Some(session) if !session.is_empty() => Ok(Action::Post { session: session.into() }),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "the query has no session_id")),
    }
}

impl Rules {
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(host) = headers.get(header::HOST).filter(|_| self.loopback) else { return Ok(()) };
        if is_loopback(host.to_str().unwrap_or_default()) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "the Host is not one of this machine's own names"))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if self.allows(origin) || (self.loopback && is_loopback_origin(origin)) => Ok(()),
            _ => Err(Refusal::new(StatusCode::FORBIDDEN, "the Origin is not allowed; --allow-origin allows one")),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        self.allow_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin))
    }

    /// The headers that let an allowed page read the answer (Fetch, "CORS protocol").
    #[must_use]
    pub fn cors(&self, request: &Request<()>) -> Vec<(HeaderName, HeaderValue)> {
        let Some(origin) = request.headers().get(header::ORIGIN).filter(|origin| self.allows(origin)) else {
            return Vec::new();
        };
        let mut headers = vec![
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (header::VARY, HeaderValue::from_static("origin")),
        ];
        if let Ok(names) = HeaderValue::try_from(self.expose_headers.join(", ")) {
            headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, names));
        }
        headers
    }

    /// The headers that the answer to a preflight has besides those of [`Rules::cors`].
    #[must_use]
    pub fn preflight(&self, request: &Request<()>) -> Vec<(HeaderName, HeaderValue)> {
        if !request.headers().get(header::ORIGIN).is_some_and(|origin| self.allows(origin)) {
            return Vec::new();
        }
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let wanted = wanted.cloned().unwrap_or_else(|| HeaderValue::from_static("*"));
        vec![
            (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS")),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, wanted),
            (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
        ]
    }
}

/// Whether `host`, with or without a port, names this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_loopback_origin(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, headers: &[(&str, &str)]) -> Request<()> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(line: &str, headers: &[(&str, &str)], rules: &Rules) -> u16 {
        route(&request(line, headers), rules).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn routes() {
        let post = |session: &str| Ok(Action::Post { session: session.into() });
        for (line, wanted) in [
            ("GET /sse", Ok(Action::OpenSession)),
            ("GET /sse/?x=1", Ok(Action::OpenSession)),
            ("POST /messages/?session_id=ab", post("ab")),
            ("POST /messages?x=1&session_id=ab", post("ab")),
            ("GET /status", Ok(Action::Status)),
            ("HEAD /status", Ok(Action::Status)),
            ("POST /sse", Err(405)),
            ("GET /messages/", Err(405)),
            ("DELETE /status", Err(405)),
            ("OPTIONS /sse", Err(405)),
            ("POST /messages/", Err(400)),
            ("POST /messages/?session_id=", Err(400)),
            ("GET /", Err(404)),
            ("GET //sse", Err(404)),
            ("GET /%73se", Err(404)),
            ("GET /x/../sse", Err(404)),
        ] {
            let got = route(&request(line, &[]), &Rules::default()).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(got, wanted, "{line}");
        }
    }

    #[test]
    fn what_is_sent_and_what_is_taken() {
        for (line, name, value, wanted) in [
            ("GET /sse", "accept", "text/event-stream", 200),
            ("GET /sse", "accept", "text/html, TEXT/Event-Stream;q=0.5", 200),
            ("GET /sse", "accept", "*/*", 200),
            ("GET /sse", "accept", "application/json", 406),
            ("POST /messages/?session_id=a", "content-type", "application/json", 200),
            ("POST /messages/?session_id=a", "content-type", "Application/JSON; charset=utf-8", 200),
            ("POST /messages/?session_id=a", "content-type", "text/plain", 415),
            ("POST /messages/?session_id=a", "content-type", "application/jsonp", 415),
        ] {
            assert_eq!(status(line, &[(name, value)], &Rules::default()), wanted, "{line} {value}");
        }
    }

    #[test]
    fn who_may_ask() {
        let near = Rules { loopback: true, ..Rules::default() };
        let far = Rules::default();
        let listed = Rules { allow_origins: vec!["https://page.example".into(), "null".into()], ..near.clone() };
        let all = Rules { allow_origins: vec!["*".into()], ..far.clone() };
        for (rules, name, value, wanted) in [
            (&near, "host", "localhost:8080", 200),
            (&near, "host", "LOCALHOST", 200),
            (&near, "host", "127.0.0.1:8080", 200),
            (&near, "host", "127.9.9.9", 200),
            (&near, "host", "[::1]:8080", 200),
            (&near, "host", "evil.example:8080", 403),
            (&near, "host", "[::1].evil.example", 403),
            (&near, "host", "[::1", 403),
            (&near, "host", "localhost.evil.example", 403),
            (&near, "host", "127.0.0.1.evil.example", 403),
            (&near, "host", "", 403),
            (&far, "host", "any.example", 200),
            (&near, "origin", "http://localhost:5173", 200),
            (&near, "origin", "http://[::1]:5173", 200),
            (&near, "origin", "http://evil.example", 403),
            (&near, "origin", "null", 403),
            (&near, "origin", "file://localhost", 403),
            (&far, "origin", "http://localhost:5173", 403),
            (&listed, "origin", "https://page.example", 200),
            (&listed, "origin", "HTTPS://Page.Example", 200),
            (&listed, "origin", "null", 200),
            (&listed, "origin", "https://page.example.evil", 403),
            (&all, "origin", "http://evil.example", 200),
        ] {
            assert_eq!(status("GET /sse", &[(name, value)], rules), wanted, "{name} {value}");
        }
        assert_eq!(status("GET /sse", &[("origin", "http://localhost"), ("origin", "http://a")], &near), 403);
    }

    #[test]
    fn only_allowed_pages_may_read() {
        let rules =
            Rules { allow_origins: vec!["http://a".into()], expose_headers: vec!["X-Y".into()], loopback: true };
        let asks = request("OPTIONS /sse", &[("origin", "http://a"), ("access-control-request-method", "GET")]);
        assert_eq!(route(&asks, &rules), Ok(Action::Preflight));
        let headers = [rules.cors(&asks), rules.preflight(&asks)].concat();
        let names: Vec<String> = headers.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(
            names,
            [
                "access-control-allow-origin",
                "vary",
                "access-control-expose-headers",
                "access-control-allow-methods",
                "access-control-allow-headers",
                "access-control-max-age"
            ]
        );
        assert_eq!(rules.preflight(&request("OPTIONS /sse", &[("origin", "http://localhost")])), []);
        assert_eq!(rules.cors(&request("GET /sse", &[])), []);
    }
}
