//! What an HTTP request asks of us: its head in, what is [`Asked`] or a [`Refusal`] out. The rules of HTTP+SSE are
//! those of MCP 2024-11-05, `basic/transports`, "HTTP with SSE"; those of Streamable HTTP are in 2025-03-26 to
//! 2025-11-25, `basic/transports`, "Streamable HTTP".
//!
//! Always: a path is compared as it is; nothing is decoded, normalised or redirected.

mod accept;
pub mod resource;
mod revision;
mod rules;

use super::message::{INTERNAL_ERROR, INVALID_REQUEST, Invalid, Message};
use accept::Accept;
pub use revision::Revision;
pub use rules::{Rules, prefix};
use ureq_proto::http::{HeaderMap, Method, Request, StatusCode, header};

/// What a request asks for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name in `/servers/NAME/…`; `None` at the top. It may be nobody's.
    pub server: Option<String>,
    /// What is asked.
    pub action: Action,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// HTTP+SSE: a new session and its event stream.
    OpenSession,
    /// HTTP+SSE: a message for the session with this id.
    Post {
        /// As the `endpoint` event named it.
        session: String,
    },
    /// Streamable HTTP: a message, or a batch of them.
    Message {
        /// The session it belongs to, if it says so.
        session: Option<String>,
        /// What `MCP-Protocol-Version` says.
        revision: Option<Revision>,
        /// The answer may be JSON.
        takes_json: bool,
        /// The answer may be an event stream. At least one of the two holds.
        takes_events: bool,
        /// What the head says of the body, where it says what only modern clients do.
        mirrored: Option<Box<Mirrored>>,
    },
    /// Streamable HTTP: a stream for what belongs to no request, or the rest of one that was lost.
    Listen {
        /// The session it belongs to.
        session: String,
        /// What `MCP-Protocol-Version` says.
        revision: Option<Revision>,
        /// The last event that the client has of the lost stream.
        last_event_id: Option<String>,
    },
    /// Streamable HTTP: the end of a session.
    EndSession {
        /// The session that ends.
        session: String,
        /// What `MCP-Protocol-Version` says.
        revision: Option<Revision>,
    },
    /// A browser asks whether its page may ask.
    Preflight,
    /// How we are, for people.
    Status,
    /// Whether we are well.
    Health,
    /// How we are, in numbers.
    Metrics,
    /// What a client must know to get a token.
    Resource,
}

/// What the head of a modern POST says of its body (MCP 2026-07-28, `basic/transports/streamable-http`, "Request
/// Metadata"), as it says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirrored {
    /// `MCP-Protocol-Version`.
    pub version: Option<String>,
    /// `Mcp-Method`.
    pub method: Option<String>,
    /// `Mcp-Name`.
    pub name: Option<String>,
    /// `Mcp-Param-…`, with the whole name in lower case.
    pub params: Vec<(String, String)>,
    /// What a legacy client is told of its `MCP-Protocol-Version`, where that is no revision.
    pub refusal: Option<Refusal>,
    /// One of these is there twice, or is not visible ASCII.
    pub malformed: Option<String>,
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

const SERVERS: &str = "/servers/";
const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const LAST_EVENT_ID: &str = "last-event-id";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PARAM: &str = "mcp-param-";

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Sse,
    Messages,
    Mcp,
    Status,
    Health,
    Metrics,
    Resource,
}

/// The URI of the `endpoint` event, with everything before it under which the client reached us.
#[must_use]
pub fn endpoint(prefix: &str, server: Option<&str>, session: &str) -> String {
    match server {
        Some(name) => format!("{prefix}{SERVERS}{name}/messages/?session_id={session}"),
        None => format!("{prefix}/messages/?session_id={session}"),
    }
}

/// Decides on a request by its head.
///
/// # Errors
/// The request is not granted.
pub fn route(request: &Request<()>, rules: &Rules) -> Result<Asked, Refusal> {
    let headers = request.headers();
    rules.check_host(request)?;
    rules.check_origin(headers)?;
    let path = request.uri().path();
    let inside = path.strip_prefix(rules.base_path.as_str()).and_then(locate);
    let resource = || resource::located(path, rules).map(|_| (None, Place::Resource));
    let Some((server, place)) = inside.or_else(|| locate(path)).or_else(resource) else {
        let reason = "there is nothing at this path; Streamable HTTP is at /mcp, HTTP+SSE at /sse";
        return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
    };
    if matches!(place, Place::Mcp | Place::Sse | Place::Messages) {
        rules.check_site(headers)?;
    }
    let allow = allowed(place, rules.stateless);
    let is_preflight =
        *request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let action = if is_preflight {
        Action::Preflight
    } else if *request.method() != Method::OPTIONS && allow.split(", ").any(|name| name == request.method().as_str()) {
        act(place, request)?
    } else {
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed here");
        return Err(Refusal { allow: Some(allow), ..refusal });
    };
    Ok(Asked { server: server.map(str::to_owned), action })
}

/// What stands at a path, and the name of the server in it. A slash at the end makes no difference.
fn locate(path: &str) -> Option<(Option<&str>, Place)> {
    let (server, tail) = match path.strip_prefix(SERVERS).and_then(|rest| rest.split_once('/')) {
        Some((name, tail)) => (Some(name), tail),
        None => (None, path.strip_prefix('/')?),
    };
    let place = match tail.strip_suffix('/').unwrap_or(tail) {
        "sse" => Place::Sse,
        "messages" => Place::Messages,
        "mcp" => Place::Mcp,
        "status" if server.is_none() => Place::Status,
        "healthz" if server.is_none() => Place::Health,
        "metrics" if server.is_none() => Place::Metrics,
        _ => return None,
    };
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    server.is_none_or(is_name).then_some((server, place))
}

/// The methods of a place. OPTIONS is there for the browsers' questions only.
fn allowed(place: Place, stateless: bool) -> &'static str {
    match place {
        Place::Sse => "GET, OPTIONS",
        Place::Messages => "POST, OPTIONS",
        Place::Mcp if stateless => "POST, OPTIONS",
        Place::Mcp => "GET, POST, DELETE, OPTIONS",
        Place::Status | Place::Health | Place::Metrics | Place::Resource => "GET, HEAD, OPTIONS",
    }
}

fn act(place: Place, request: &Request<()>) -> Result<Action, Refusal> {
    let headers = request.headers();
    match (place, request.method()) {
        (Place::Sse, _) => takes_stream(headers).map(|()| Action::OpenSession),
        (Place::Messages, _) => post(request),
        (Place::Mcp, &Method::POST) => message(headers),
        (Place::Mcp, &Method::GET) => listen(headers),
        (Place::Mcp, _) => {
            not_modern(headers)?;
            let session = needed_session(headers)?;
            Ok(Action::EndSession { session, revision: revision(headers)? })
        }
        (Place::Status, _) => Ok(Action::Status),
        (Place::Health, _) => Ok(Action::Health),
        (Place::Metrics, _) => Ok(Action::Metrics),
        (Place::Resource, _) => Ok(Action::Resource),
    }
}

fn post(request: &Request<()>) -> Result<Action, Refusal> {
    is_json(request.headers())?;
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("session_id=")) {
        Some(session) if !session.is_empty() => Ok(Action::Post { session: session.into() }),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "the query has no session_id")),
    }
}

fn message(headers: &HeaderMap) -> Result<Action, Refusal> {
    is_json(headers)?;
    let Accept { json: takes_json, events: takes_events, .. } = Accept::of(headers);
    if !takes_json && !takes_events {
        let reason = "the client must accept application/json or text/event-stream";
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, reason));
    }
    let (mirrored, revision) = mirrored(headers);
    // A modern server ignores the id of a session.
    let is_modern = revision.is_some_and(Revision::is_modern);
    let session = session(headers).or_else(|refusal| if is_modern { Ok(None) } else { Err(refusal) })?;
    Ok(Action::Message { session, revision, takes_json, takes_events, mirrored })
}

/// What the head says of the body, if it says what only modern clients do, and the revision that it names.
fn mirrored(headers: &HeaderMap) -> (Option<Box<Mirrored>>, Option<Revision>) {
    let mut found = Mirrored::default();
    let mut malformed = None;
    let mut take = |name: &str, shown: &str| {
        only(headers, name, shown).unwrap_or_else(|refusal| {
            malformed.get_or_insert(refusal);
            None
        })
    };
    found.version = take(PROTOCOL_VERSION, "the MCP-Protocol-Version");
    found.method = take(METHOD, "the Mcp-Method");
    found.name = take(NAME, "the Mcp-Name");
    for name in headers.keys().filter(|name| name.as_str().starts_with(PARAM)) {
        let value = take(name.as_str(), "an Mcp-Param header");
        found.params.extend(value.map(|value| (name.as_str().to_owned(), value)));
    }
    let revision = match found.version.as_deref().map(Revision::of_header) {
        Some(Ok(revision)) => Some(revision),
        Some(Err(refusal)) => {
            found.refusal = Some(refusal);
            None
        }
        None => None,
    };
    found.malformed = malformed.as_ref().map(|refusal| refusal.reason.clone());
    found.refusal = malformed.or(found.refusal);
    let is_legacy = found.refusal.is_none()
        && found.method.is_none()
        && found.name.is_none()
        && found.params.is_empty()
        && !revision.is_some_and(Revision::is_modern);
    (if is_legacy { None } else { Some(Box::new(found)) }, revision)
}

/// What only a session could have asked for (`basic/transports/streamable-http`, "Earlier Streamable HTTP Revisions").
/// A client that names a session too may have one: some servers promise whatever revision they are asked for.
fn not_modern(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_modern = |value: &str| Revision::of_header(value).is_ok_and(Revision::is_modern);
    let version = headers.get(PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
    if headers.contains_key(SESSION_ID) || !version.is_some_and(is_modern) { Ok(()) } else { Err(only_post()) }
}

/// The refusal of a GET or a DELETE where there are no sessions.
#[must_use]
pub fn only_post() -> Refusal {
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "without sessions there is only POST");
    Refusal { allow: Some(allowed(Place::Mcp, true)), ..refusal }
}

fn listen(headers: &HeaderMap) -> Result<Action, Refusal> {
    // Clients try this one: whatever they accept, they are told at once that a session is missing.
    not_modern(headers)?;
    let session = needed_session(headers)?;
    takes_stream(headers)?;
    let last_event_id = only(headers, LAST_EVENT_ID, "the Last-Event-ID")?;
    Ok(Action::Listen { session, revision: revision(headers)?, last_event_id })
}

/// A client that says what it takes must take an event stream.
fn takes_stream(headers: &HeaderMap) -> Result<(), Refusal> {
    if Accept::of(headers).stream {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "the client must accept text/event-stream"))
}

/// Old clients leave the type of the body out; one that is given must be JSON.
fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    if kind.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"))
}

fn needed_session(headers: &HeaderMap) -> Result<String, Refusal> {
    session(headers)?.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the request has no Mcp-Session-Id"))
}

fn session(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let session = only(headers, SESSION_ID, "the Mcp-Session-Id")?;
    if session.as_deref().is_some_and(|id| !id.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the Mcp-Session-Id is not visible ASCII"));
    }
    Ok(session)
}

fn revision(headers: &HeaderMap) -> Result<Option<Revision>, Refusal> {
    let value = only(headers, PROTOCOL_VERSION, "the MCP-Protocol-Version")?;
    value.map(|value| Revision::of_header(&value)).transpose()
}

/// The value of a header that may be there once; one without a value is not there. `shown` is its name for the client.
fn only(headers: &HeaderMap, name: &str, shown: &str) -> Result<Option<String>, Refusal> {
    let wrong = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, &format!("{shown} {what}"));
    let mut values = headers.get_all(name).iter();
    let (Some(value), again) = (values.next(), values.next()) else { return Ok(None) };
    if again.is_some() {
        return Err(wrong("is there twice"));
    }
    let value = value.to_str().map_err(|_| wrong("is not visible ASCII"))?.trim();
    Ok(Some(value).filter(|value| !value.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests;
