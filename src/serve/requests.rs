//! What one connection's requests do: each is answered here, on the connection's own thread.
//!
//! `/sse` and `/messages/` are HTTP+SSE (MCP 2024-11-05), `/mcp` is Streamable HTTP (2025-03-26 and later).

use super::house::{House, STOPPING, unavailable};
use super::modern::{Caller, Way};
use super::offer::Offer;
use super::posted::Posted;
use super::session::{self, ONLY, Session};
use super::status;
use crate::downstream::http::{Broken, Connection, Response};
use crate::downstream::stream::{Form, Over, Stream};
use crate::log;
use crate::protocol::access::Denied;
use crate::protocol::era::{self, Protocol};
use crate::protocol::head::{Body, Head};
use crate::protocol::http::{self, Action, Asked, Mirrored, Refusal, Revision, endpoint, resource, route};
use crate::protocol::hub::Kind;
use crate::protocol::message::{INVALID_REQUEST, Kind as MessageKind, METHOD_NOT_FOUND, Message};
use crate::protocol::modern::{headers, meta};
use crate::protocol::network::Peer;
use crate::protocol::session::StreamId;
use crate::protocol::sse;
use std::sync::Arc;
use std::time::SystemTime;
use ureq_proto::http::{HeaderName, HeaderValue, Request, StatusCode, Version, header};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// What became of a request.
enum Outcome {
    /// It was read to its end; this is the answer.
    Answer(Response),
    /// It is refused, and its body may not have been read.
    Refuse(Refusal),
    /// It was answered by a stream; says whether the connection goes on.
    Streamed(bool),
    /// The client is gone.
    Gone,
}

/// One request, without its body.
struct Asking<'a> {
    house: &'a Arc<House>,
    request: &'a Request<()>,
    close: bool,
    /// The headers that let a page read the answer.
    cors: &'a [(HeaderName, HeaderValue)],
}

/// A head, and what it asks for: the next one is likely to be the same.
struct Former {
    request: Arc<Request<()>>,
    asked: Asked,
    cors: Vec<(HeaderName, HeaderValue)>,
}

/// Serves one connection until it ends.
pub fn serve(house: &Arc<House>, mut connection: Connection) {
    let mut former: Option<Former> = None;
    while let Some(Head { request, body, close }) = connection.next_head() {
        // The same head asks for the same.
        let (known, cors) = match former.take() {
            Some(same) if Arc::ptr_eq(&same.request, &request) => (Some(same.asked), same.cors),
            _ => (None, house.rules.cors(&request)),
        };
        let asking = Asking { house, request: &request, close, cors: &cors };
        let asked = asking.note().and_then(|()| known.map_or_else(|| asking.route(), Ok));
        let asked = asking.admit(asked);
        let (outcome, asked) = match asked {
            Ok(asked) => {
                let outcome = asking.act(&asked, &mut connection, body);
                (outcome, Some(asked))
            }
            Err(refusal) => (Outcome::Refuse(refusal), None),
        };
        match outcome {
            Outcome::Answer(response) => {
                if response.status.as_u16() >= 400 {
                    house.refusals.refused(response.status.as_u16());
                }
                if !connection.respond(&asking.with_cors(response), request.method(), close) {
                    return;
                }
            }
            Outcome::Refuse(refusal) => {
                house.refusals.refused(refusal.status.as_u16());
                let response = asking.with_challenge(Response::from(&refusal), connection.peer());
                return connection.refuse_with(&asking.with_cors(response), request.method());
            }
            Outcome::Streamed(true) => {}
            Outcome::Streamed(false) | Outcome::Gone => return,
        }
        former = asked.map(|asked| Former { request, asked, cors });
    }
}

/// What a client gets that names a modern revision and a session that is not there: it cannot have meant one.
fn without_session(revision: Option<Revision>) -> impl FnOnce(Refusal) -> Refusal {
    move |refusal| match refusal.status {
        StatusCode::NOT_FOUND if revision.is_some_and(Revision::is_modern) => http::only_post(),
        _ => refusal,
    }
}

impl From<Refusal> for Outcome {
    /// A refusal of a request that was read to its end.
    fn from(refusal: Refusal) -> Self {
        Self::Answer(Response::from(&refusal))
    }
}

impl Asking<'_> {
    /// Notes that somebody asks.
    fn note(&self) -> Result<(), Refusal> {
        let stopping = {
            let mut state = self.house.state();
            state.last_activity = Some(SystemTime::now());
            state.stopping
        };
        if stopping { Err(unavailable(STOPPING)) } else { Ok(()) }
    }

    fn route(&self) -> Result<Asked, Refusal> {
        route(self.request, &self.house.rules)
    }

    /// Who asks for more than anybody may know must bring a token; then he is told what there is, too.
    fn admit(&self, asked: Result<Asked, Refusal>) -> Result<Asked, Refusal> {
        if resource::is_for_anybody(self.request, &asked) {
            return asked;
        }
        let refused = |why: Denied| Refusal::new(StatusCode::UNAUTHORIZED, why.reason());
        self.house.gate.check(self.request).map_err(refused)?;
        asked.map_err(|refusal| self.house.explain_not_found(refusal))
    }

    /// A 401 says how to come in.
    fn with_challenge(&self, mut response: Response, peer: Peer) -> Response {
        if let (StatusCode::UNAUTHORIZED, Err(why)) = (response.status, self.house.gate.check(self.request)) {
            log::debug(format_args!("a request from {peer} is refused: {}", why.reason()));
            let value = resource::challenge(self.request, &self.house.rules, peer, why);
            response.headers.push((header::WWW_AUTHENTICATE, value));
        }
        response
    }

    fn with_cors(&self, mut response: Response) -> Response {
        response.headers.extend_from_slice(self.cors);
        response
    }

    fn act(&self, asked: &Asked, connection: &mut Connection, body: Body) -> Outcome {
        let server = asked.server.as_deref();
        let done = match &asked.action {
            Action::OpenSession | Action::Listen { .. } if !connection.begin() => return Outcome::Gone,
            Action::OpenSession => self.open_sse(connection, server),
            Action::Listen { session, revision, last_event_id } => {
                let primes = revision.is_some_and(Revision::knows_priming);
                let done = self.listen(connection, server, session, primes, last_event_id.as_deref());
                done.map_err(without_session(*revision))
            }
            action => match connection.read_body(body) {
                Ok(body) => Ok(self.act_with(server, action, connection, body)),
                Err(Broken::Gone) => Ok(Outcome::Gone),
                Err(Broken::Refused(refusal)) => Err(refusal),
            },
        };
        done.unwrap_or_else(Outcome::Refuse)
    }

    fn act_with(&self, server: Option<&str>, action: &Action, connection: &mut Connection, body: Vec<u8>) -> Outcome {
        let done = match action {
            Action::Post { session } => self.post_sse(server, session, body),
            Action::Message { session, revision, takes_json, takes_events, mirrored } => {
                let primes = revision.is_some_and(Revision::knows_priming);
                let form = self.form(*takes_json, *takes_events);
                self.post(connection, server, session.as_deref(), form, primes, mirrored.as_deref(), body)
            }
            Action::EndSession { session, revision } => {
                self.end_session(server, session).map_err(without_session(*revision))
            }
            Action::Preflight => {
                let headers = self.house.rules.preflight(self.request);
                Ok(Outcome::Answer(Response { headers, ..Response::empty(StatusCode::NO_CONTENT) }))
            }
            Action::Health => Ok(Outcome::Answer(status::health(self.house))),
            Action::Resource => self.resource(connection.peer()),
            Action::Metrics => Ok(Outcome::Answer(status::metrics(self.house))),
            Action::Status | Action::OpenSession | Action::Listen { .. } => {
                Ok(Outcome::Answer(status::status(self.house)))
            }
        };
        done.unwrap_or_else(Outcome::from)
    }

    fn resource(&self, peer: Peer) -> Result<Outcome, Refusal> {
        let nowhere = || Refusal::new(StatusCode::BAD_REQUEST, "the request does not tell by which host we are known");
        let document = resource::document(self.request, &self.house.rules, peer).ok_or_else(nowhere)?;
        Ok(Outcome::Answer(status::fresh(Response::json(StatusCode::OK, document))))
    }

    fn form(&self, json: bool, events: bool) -> Form {
        Form { json, events, close: self.close, old: self.request.version() == Version::HTTP_10, reply: true }
    }

    fn stream(&self, connection: &mut Connection, form: Form, id: Option<&str>) -> Result<Arc<Stream>, Refusal> {
        let mut headers = self.cors.to_vec();
        if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.push((SESSION_ID, id));
        }
        let stream = Stream::new(connection, &self.house.options.limits, form, &headers);
        stream.map_err(|_| unavailable("no descriptor is left for a stream"))
    }

    fn offer(&self, name: Option<&str>) -> Result<Arc<Offer>, Refusal> {
        let unknown = || self.house.explain_not_found(Refusal::new(StatusCode::NOT_FOUND, "there is no such server"));
        self.house.find_offer(name).ok_or_else(unknown)
    }

    fn session(&self, server: Option<&str>, id: &str) -> Result<Arc<Session>, Refusal> {
        let unknown = || Refusal::new(StatusCode::NOT_FOUND, "there is no such session, or it has ended");
        // A server that is not offered any more may have sessions still.
        self.house.find_session(server, id).ok_or_else(|| self.offer(server).err().unwrap_or_else(unknown))
    }

    /// HTTP+SSE: a new session, whose end is that of this stream.
    fn open_sse(&self, connection: &mut Connection, server: Option<&str>) -> Result<Outcome, Refusal> {
        if self.house.options.client_protocol == Protocol::Modern {
            let reason = "only 2026-07-28 and later is spoken here, at /mcp";
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        }
        let (house, offer) = (self.house, self.offer(server)?);
        let form = Form { reply: false, close: true, ..self.form(false, true) };
        let stream = self.stream(connection, form, None)?;
        let session = house.open_session(&offer, false)?;
        let prefix = http::prefix(self.request, &house.rules, connection.peer());
        let mut events = Vec::new();
        sse::encode(&mut events, "endpoint", None, endpoint(&prefix, server, &session.id).as_bytes());
        if session.open_general(Some(ONLY), stream.clone(), false, &events).is_none() {
            stream.end();
        }
        house.prepare_or_log(&offer);
        let over = stream.run(connection, || ());
        let why = if over == Over::Gone { "the client has gone" } else { "the session has ended" };
        house.close_session(&session, why);
        Ok(Outcome::Streamed(false))
    }

    /// HTTP+SSE: a message of a client for its session; its answer comes on the session's stream.
    fn post_sse(&self, server: Option<&str>, session: &str, body: Vec<u8>) -> Result<Outcome, Refusal> {
        let session = self.session(server, session)?;
        let messages = Message::parse_all(body)?;
        self.begin_bridge(&session);
        session.take(&messages, ONLY)?;
        Ok(Outcome::Answer(Response::empty(StatusCode::ACCEPTED)))
    }

    /// Streamable HTTP: one message or a batch.
    #[expect(clippy::too_many_arguments, reason = "what a head says, and a body")]
    fn post(
        &self,
        connection: &mut Connection,
        server: Option<&str>,
        session: Option<&str>,
        form: Form,
        primes: bool,
        mirrored: Option<&Mirrored>,
        body: Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let posted = Posted::read(body)?;
        let messages = posted.messages();
        if let [message, ..] = messages
            && let Some(error) = era::refused_client(self.house.options.client_protocol, message)
        {
            return Ok(Outcome::Answer(Response::json(StatusCode::BAD_REQUEST, error.into_bytes())));
        }
        if self.is_modern(session, mirrored, messages) {
            return match posted {
                Posted::One(message) => self.post_modern(connection, server, form, mirrored, message),
                Posted::Batch(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "there are no batches in this revision")),
            };
        }
        if let Some(refusal) = mirrored.and_then(|mirrored| mirrored.refusal.clone()) {
            return Err(refusal);
        }
        if self.house.rules.stateless {
            return self.post_stateless(connection, &self.offer(server)?, form, posted);
        }
        if let Some(id) = session {
            let session = self.session(server, id)?;
            return self.exchange(connection, &session, form, primes, posted, None);
        }
        let offer = self.offer(server)?;
        if !matches!(messages, [message] if message.id().is_some() && message.method() == Some("initialize")) {
            let reason = "a session begins with 'initialize'; later requests need its Mcp-Session-Id";
            return Err(Refusal { code: INVALID_REQUEST, ..Refusal::new(StatusCode::BAD_REQUEST, reason) });
        }
        let session = self.house.open_session(&offer, true)?;
        let outcome = self.exchange(connection, &session, form, false, posted, Some(&session.id));
        if outcome.is_err() {
            self.house.close_session(&session, "its client could not be answered");
        }
        outcome
    }

    /// Hands the client's messages on and keeps the connection until what they ask for is answered. `opens`: the id
    /// of the session that they open.
    fn exchange(
        &self,
        connection: &mut Connection,
        session: &Arc<Session>,
        form: Form,
        primes: bool,
        posted: Posted,
        opens: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        self.begin_bridge(session);
        let (is_batch, messages) = (posted.is_batch(), posted.messages());
        if !messages.iter().any(|message| matches!(message.kind(), MessageKind::Request { .. })) {
            session.take(messages, StreamId(u64::MAX))?;
            return Ok(Outcome::Answer(Response::empty(StatusCode::ACCEPTED)));
        }
        let stream = self.stream(connection, form, opens)?;
        let id = session.open_reply(stream.clone(), primes, is_batch).ok_or_else(session::has_ended)?;
        if let Err(refusal) = session.take(messages, id) {
            log::debug(format_args!("session {}: {}", session.shown(), refusal.reason));
        }
        // Their answers may take long, and long messages much memory.
        drop(posted);
        connection.let_go();
        if opens.is_some() {
            self.house.prepare_or_log(&session.offer);
        }
        session.hear(connection.number(), &stream);
        let over = stream.run(connection, || session.quiet(id));
        session.close(id, &stream);
        if opens.is_some() && (over == Over::Gone || !session.is_begun()) {
            // Its client does not know it, or has no use for it.
            self.house.close_session(session, "the session was not begun");
        }
        Ok(Outcome::Streamed(over == Over::Ended && !form.close))
    }

    /// Where there are no sessions each POST stands alone.
    fn post_stateless(
        &self,
        connection: &mut Connection,
        offer: &Arc<Offer>,
        form: Form,
        posted: Posted,
    ) -> Result<Outcome, Refusal> {
        if offer.modern.refuses_legacy() {
            self.house.reconsider(offer);
        }
        let is_bridged = offer.modern.refuses_legacy();
        let shared = if is_bridged { self.house.straight(offer).ok() } else { offer.shared.clone() };
        let Some(shared) = shared else { return Err(unavailable("the server is not shared")) };
        let limits = session::Limits { is_bridged, ..self.house.session_limits(false) };
        let make = |sender| Session::new(String::new(), offer.clone(), sender, limits);
        let session = shared.join(Kind::Stateless, make);
        let (answers, others) = posted.apart();
        for answer in answers {
            // The question came to another connection: its id tells that it is the client's to answer.
            let _ = session.sender().send(&answer);
        }
        let outcome = self.exchange(connection, &session, form, false, others, None);
        session.end("the connection has ended");
        session.sender().stop();
        outcome
    }

    /// Whether the client speaks a modern revision: its head says so, or its request does. A client that names a session
    /// it has is a legacy one, whatever revision its server promised it.
    fn is_modern(&self, session: Option<&str>, mirrored: Option<&Mirrored>, messages: &[Message]) -> bool {
        let [message, ..] = messages else { return false };
        let by_body = || meta::version(message).is_some();
        let by_head = mirrored.and_then(|head| head.version.as_deref()).is_some_and(Revision::names_modern);
        match session {
            None => by_head || by_body(),
            Some(id) => by_head && (by_body() || !self.knows(id)),
        }
    }

    /// Streamable HTTP without sessions (2026-07-28): one request.
    fn post_modern(
        &self,
        connection: &mut Connection,
        server: Option<&str>,
        form: Form,
        mirrored: Option<&Mirrored>,
        message: Message,
    ) -> Result<Outcome, Refusal> {
        let offer = self.offer(server)?;
        match message.kind() {
            MessageKind::Request { .. } => {}
            // None means anything here: a request is cancelled by the end of its connection.
            MessageKind::Notification { .. } => return Ok(Outcome::Answer(Response::empty(StatusCode::ACCEPTED))),
            MessageKind::Response { .. } => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "a client sends no responses in this revision"));
            }
        }
        if let Err(error) = offer.modern.check(mirrored, &message) {
            let is_known = error.error_code() != Some(METHOD_NOT_FOUND.into());
            let status = if is_known { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
            return Ok(Outcome::Answer(Response::json(status, error.into_bytes())));
        }
        let is_gone = || connection.is_gone();
        let caller = Caller::new(&is_gone);
        let way = self.house.modern_way(&offer, &message, &caller);
        if caller.has_left() {
            // The server must not do now what nobody wants any more.
            log::debug(format_args!("'{}': a client has gone before its request was sent", offer.shown()));
            return Ok(Outcome::Gone);
        }
        let visit = match way? {
            Way::Answer(answer) => {
                let status = StatusCode::from_u16(headers::status(&answer)).unwrap_or(StatusCode::OK);
                return Ok(Outcome::Answer(Response::json(status, answer.into_bytes())));
            }
            Way::Link(visit) => visit,
        };
        let lists_tools = message.method() == Some("tools/list");
        let limits = session::Limits { is_modern: true, lists_tools, ..self.house.session_limits(false) };
        let make = |sender| Session::new(String::new(), offer.clone(), sender, limits);
        let session = visit.place.shared.join(Kind::Modern, make);
        session.keep(visit);
        let outcome = self.exchange(connection, &session, form, false, Posted::One(message), None);
        session.leave_place();
        session.end("the connection has ended");
        session.sender().stop();
        offer.modern.is_done();
        outcome
    }

    /// The server behind the bridge may have ended: another one is begun for what its client says now. It may be none
    /// that a bridge is for, too: then the session has ended.
    fn begin_bridge(&self, session: &Arc<Session>) {
        if !session.is_bridged() {
            return;
        }
        self.house.reconsider(&session.offer);
        if !session.is_ended()
            && let Err(error) = self.house.straight(&session.offer)
        {
            log::debug(format_args!("session {}: {error}", session.shown()));
        }
    }

    /// Whether there is a session of this id.
    fn knows(&self, id: &str) -> bool {
        self.house.state().sessions.contains_key(id)
    }

    /// Streamable HTTP: the stream for what belongs to no request, or one that was lost.
    fn listen(
        &self,
        connection: &mut Connection,
        server: Option<&str>,
        session: &str,
        primes: bool,
        last: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let session = self.session(server, session)?;
        let form = Form { reply: false, close: true, ..self.form(false, true) };
        let stream = self.stream(connection, form, None)?;
        let id = match last {
            Some(last) => session.resume(last, &stream)?,
            None => session.open_general(None, stream.clone(), primes, b"").ok_or_else(session::has_ended)?,
        };
        stream.run(connection, || session.quiet(id));
        session.close(id, &stream);
        Ok(Outcome::Streamed(false))
    }

    fn end_session(&self, server: Option<&str>, session: &str) -> Result<Outcome, Refusal> {
        let session = self.session(server, session)?;
        self.house.close_session(&session, "the client has ended the session");
        Ok(Outcome::Answer(Response::empty(StatusCode::NO_CONTENT)))
    }
}
