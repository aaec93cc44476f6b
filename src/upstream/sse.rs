//! HTTP+SSE, the client's side (MCP 2024-11-05, `basic/transports`): a stream brings the server's messages, each
//! of the client's is a POST to the address that the stream's first event names.
//!
//! Always: that address has the origin of the stream; a POST is sent once, whatever becomes of it; when the link
//! has ended, every wait of it ends.

use super::answer::Body;
use super::exchange::{Answer, Redirects, ToTokens, Ways, exchange};
use super::http::{self, Client, Route};
use super::waits::{Bystander, Waits};
use super::{Event, Link, Receiver, Sender, Undelivered};
use crate::log;
use crate::protocol::message::Message;
use crate::protocol::remote;
use crate::protocol::sse::{self, Decoder, TooLong};
use crate::protocol::uri::{self, Origin};
use crate::system::memory;
use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{HeaderName, Method, Request, Response, StatusCode, Uri, header, request};

/// Bytes of an answer to a POST that are read, so that its connection can be used again.
const DRAINED_BYTES: u64 = 64 * 1024;
/// Bytes of a stream that are taken at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// One attempt to reach a server, and the link that comes of it.
pub struct Attempt {
    client: Arc<Client>,
    stream_waits: Arc<Waits>,
    post_waits: Arc<Waits>,
    state: Mutex<State>,
}

/// Why there is no link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words for a person.
    pub why: String,
    /// What was answered, in short, if it shows that the server may speak something else.
    pub refusal: Option<String>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, refusal: None }
    }
}

#[derive(Default)]
struct State {
    /// What is shut down to end the link.
    routes: Vec<Route>,
    /// Why the link was ended from this side.
    stopped: Option<String>,
}

impl Attempt {
    /// An attempt that may take as long as one request. The bystander is told when a POST takes long.
    #[must_use]
    pub fn new(client: Arc<Client>, bystander: Arc<dyn Bystander>) -> Arc<Self> {
        let deadline = Instant::now().checked_add(client.remote().timeout);
        Arc::new(Self {
            client,
            stream_waits: Arc::new(Waits::new(deadline, None)),
            post_waits: Arc::new(Waits::new(None, Some(bystander))),
            state: Mutex::default(),
        })
    }

    /// Opens the stream and waits for the event that names the endpoint.
    ///
    /// # Errors
    /// The server cannot be reached or speaks something else.
    pub fn connect(self: &Arc<Self>) -> Result<Link, Failure> {
        let (url, route, response) = self.open()?;
        let mut stream = Stream {
            attempt: self.clone(),
            shown: log::address(&url),
            reader: response.into_body(),
            decoder: Decoder::new(self.client.remote().message_limit_bytes),
            chunk: vec![0; CHUNK_BYTES],
            decoded: VecDeque::new(),
            messages: VecDeque::new(),
            route,
            has_endpoint: false,
            ended: None,
        };
        let endpoint = stream.endpoint(&url)?;
        stream.has_endpoint = true;
        self.stream_waits.set_deadline(None);
        let post_url: Uri =
            endpoint.parse().map_err(|_| format!("'{}' names no usable endpoint", log::address(&url)))?;
        let route = self.client.route(&post_url, &self.post_waits, Some(self.client.remote().timeout))?;
        self.keep(route.clone())?;
        let head = self.head(Method::POST, &endpoint, POST_HEADERS)?;
        let posts = Posts { head, attempt: self.clone(), route, tokens: ToTokens::default() };
        Ok(Link { sender: Arc::new(posts), receiver: Box::new(stream) })
    }

    /// From now on the stream ends if nothing comes within the time of one request, or it may be silent for ever.
    pub fn expect_answer(&self, is_expected: bool) {
        let deadline = Instant::now().checked_add(self.client.remote().timeout);
        self.stream_waits.set_deadline(deadline.filter(|_| is_expected));
    }

    /// Ends the attempt, or its link, at once, for this reason.
    pub fn stop(&self, why: &str) {
        let routes = {
            let mut state = self.state();
            state.stopped.get_or_insert_with(|| why.to_owned());
            std::mem::take(&mut state.routes)
        };
        self.stream_waits.stop();
        self.post_waits.stop();
        for route in routes {
            route.agent.shutdown();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is to be shut down at the end.
    fn keep(&self, route: Route) -> Result<(), String> {
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(why.clone());
        }
        state.routes.push(route);
        Ok(())
    }

    /// Why the link has ended, if it was ended from this side; else `why`.
    fn reason(&self, why: impl FnOnce() -> String) -> String {
        self.state().stopped.clone().unwrap_or_else(why)
    }

    fn head(
        &self,
        method: Method,
        url: &str,
        ours: &[(HeaderName, &'static str)],
    ) -> Result<Arc<request::Parts>, String> {
        let request = Request::builder().method(method).uri(url).body(());
        let (mut parts, ()) = request.map_err(|_| format!("'{}' is no address", log::address(url)))?.into_parts();
        parts.headers = self.client.headers_for(url, ours);
        Ok(Arc::new(parts))
    }

    /// The answer to the GET that is an event stream, and the address that gave it.
    fn open(&self) -> Result<(String, Route, Response<Body>), Failure> {
        let parts = self.head(Method::GET, &self.client.remote().url.to_string(), GET_HEADERS)?;
        let answer = exchange(&self.client, &parts, None, Redirects::Anywhere(GET_HEADERS), &Opening(self));
        let Answer { url, route, response, .. } = answer.map_err(|why| self.reason(|| why))?;
        let url = url.to_string();
        refuse(&url, &response)?;
        Ok((url, route, response))
    }
}

const GET_HEADERS: &[(HeaderName, &str)] =
    &[(header::ACCEPT, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
const POST_HEADERS: &[(HeaderName, &str)] =
    &[(header::CONTENT_TYPE, "application/json"), (header::ACCEPT, "application/json, text/event-stream")];

/// Refuses an answer to the GET that is no event stream, and says what to do.
fn refuse(url: &str, response: &Response<Body>) -> Result<(), Failure> {
    let (shown, status) = (log::address(url), response.status());
    let found = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let found = found.and_then(|found| found.split(';').next()).map(str::trim);
    let advice = match status.as_u16() {
        200 if found.is_some_and(|found| found.eq_ignore_ascii_case("text/event-stream")) => return Ok(()),
        200 => {
            let found = found.map_or_else(|| "nothing".into(), |found| log::shortened(found.as_bytes()));
            return Err(Failure {
                why: format!(
                    "'{shown}' answered with '{found}', not with an event stream; is the path right? HTTP+SSE servers usually listen under /sse"
                ),
                refusal: Some(format!("'{found}' instead of an event stream")),
            });
        }
        404 | 410 => "is the path right? HTTP+SSE servers usually listen under /sse",
        400 | 405 | 406 => {
            "does this server speak Streamable HTTP? then --transport streamablehttp, or auto, reaches it"
        }
        status => http::advice(status).unwrap_or("an event stream was expected"),
    };
    let why = format!("'{shown}' answered {}; {advice}", http::named(status));
    Err(Failure { why, refusal: remote::may_speak_another(status.as_u16()).then(|| http::named(status)) })
}

/// The address for the POSTs that the stream at `url` names.
fn endpoint_at(url: &str, data: &[u8]) -> Result<String, String> {
    let shown = log::address(url);
    let endpoint = std::str::from_utf8(data).ok().and_then(|reference| uri::resolve(url, reference));
    let unusable = || format!("'{shown}' names an endpoint that is no address");
    let endpoint = endpoint.filter(|endpoint| endpoint.parse::<Uri>().is_ok()).ok_or_else(unusable)?;
    match (Origin::of(url), Origin::of(&endpoint)) {
        (Some(ours), Some(theirs)) if ours == theirs => Ok(endpoint),
        _ => Err(format!(
            "'{shown}' names an endpoint of another origin ('{}'), which is refused",
            log::address(&endpoint)
        )),
    }
}

/// The ways while the stream is opened: one agent a stream, since only a whole agent can be shut down.
struct Opening<'a>(&'a Attempt);

impl Ways for Opening<'_> {
    fn to(&self, url: &Uri) -> Result<Route, String> {
        let route = self.0.client.route(url, &self.0.stream_waits, None)?;
        self.0.keep(route.clone())?;
        Ok(route)
    }

    fn to_tokens(&self, url: &Uri) -> Result<Route, String> {
        self.to(url)
    }

    fn ended(&self) -> Option<String> {
        self.0.state().stopped.clone()
    }
}

/// The way to the server.
struct Posts {
    attempt: Arc<Attempt>,
    route: Route,
    tokens: ToTokens,
    head: Arc<request::Parts>,
}

impl Ways for Posts {
    fn to(&self, _: &Uri) -> Result<Route, String> {
        Ok(self.route.clone()) // redirects are followed within the origin
    }

    fn to_tokens(&self, url: &Uri) -> Result<Route, String> {
        let attempt = &self.attempt;
        self.tokens.get_or_make(|| {
            let route = attempt.client.route(url, &attempt.post_waits, Some(attempt.client.remote().timeout))?;
            attempt.keep(route.clone())?;
            Ok(route)
        })
    }

    fn ended(&self) -> Option<String> {
        self.attempt.state().stopped.clone()
    }
}

impl Posts {
    /// The answer to one POST.
    fn post(&self, bytes: &[u8]) -> Result<Response<Body>, String> {
        let answer = exchange(&self.attempt.client, &self.head, Some(bytes), Redirects::Within, self);
        answer.map(|answer| answer.response).map_err(|why| self.attempt.reason(|| why))
    }
}

impl Sender for Posts {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        let response = self.post(message.bytes()).map_err(Undelivered::Gone)?;
        let status = response.status();
        // A connection is used again once its answer was read to the end.
        let _ = std::io::copy(&mut response.into_body().take(DRAINED_BYTES), &mut std::io::sink());
        if status.is_success() {
            return Ok(());
        }
        let shown = log::address(&self.head.uri.to_string());
        if status == StatusCode::NOT_FOUND {
            self.attempt.stop("the server no longer knows the session");
        }
        Err(Undelivered::Gone(format!("'{shown}' answered {}", http::named(status))))
    }

    fn stop(&self) {
        self.attempt.stop("the connection was closed by us");
    }

    fn kill(&self) {
        self.stop();
    }
}

/// The way from the server.
struct Stream {
    attempt: Arc<Attempt>,
    route: Route,
    shown: String,
    reader: Body,
    decoder: Decoder,
    chunk: Vec<u8>,
    decoded: VecDeque<Result<sse::Event, TooLong>>,
    /// What is left of a batch (2025-03-26).
    messages: VecDeque<Message>,
    has_endpoint: bool,
    ended: Option<String>,
}

impl Stream {
    /// Waits for the event that names the endpoint; what comes before it is nobody's.
    fn endpoint(&mut self, url: &str) -> Result<String, String> {
        loop {
            match self.next() {
                Ok(event) if event.name == "endpoint" => return endpoint_at(url, &event.data),
                Ok(event) => log::debug(format_args!("an event '{}' before the endpoint", shortened(&event))),
                Err(why) => return Err(why),
            }
        }
    }

    /// The next event, or why there is none any more.
    fn next(&mut self) -> Result<sse::Event, String> {
        loop {
            match self.decoded.pop_front() {
                Some(Ok(event)) => return Ok(event),
                Some(Err(TooLong { bytes })) => {
                    // Nobody knows which request it answered, so that all of them are answered by the end.
                    let limit = self.attempt.client.remote().message_limit_bytes;
                    return Err(format!("'{}' sent a message of {bytes} bytes, over the limit of {limit}", self.shown));
                }
                None => self.read()?,
            }
        }
    }

    fn read(&mut self) -> Result<(), String> {
        match self.reader.read(&mut self.chunk) {
            Ok(0) => Err(self.attempt.reason(|| format!("'{}' closed the stream", self.shown))),
            Ok(read) => {
                if !memory::has_room_to_grow(self.decoder.growth(read)) {
                    return Err(format!("there is no memory for a message of '{}'", self.shown));
                }
                self.decoder.feed(&self.chunk[..read], |event| self.decoded.push_back(event));
                Ok(())
            }
            Err(error) => {
                let error = ureq::Error::from(error);
                let timeout = self.attempt.client.remote().timeout;
                Err(self.attempt.reason(|| match error {
                    ureq::Error::Timeout(_) if self.has_endpoint => {
                        format!("'{}' did not begin the session again within {} s", self.shown, timeout.as_secs_f32())
                    }
                    ureq::Error::Timeout(_) => format!(
                        "'{}' opened an event stream but named no endpoint within {} s; is it an MCP server?",
                        self.shown,
                        timeout.as_secs_f32()
                    ),
                    error => format!("the stream of '{}' broke: {}", self.shown, self.route.broken(&error)),
                }))
            }
        }
    }
}

fn shortened(event: &sse::Event) -> String {
    log::shortened(event.name.as_bytes())
}

impl Receiver for Stream {
    fn recv(&mut self) -> Event {
        if let Some(why) = &self.ended {
            return Event::Ended(why.clone());
        }
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Event::Message(message);
            }
            let event = match self.next() {
                Ok(event) => event,
                Err(why) => {
                    self.attempt.stop(&why);
                    self.ended = Some(why.clone());
                    return Event::Ended(why);
                }
            };
            if event.name != "message" {
                log::debug(format_args!("an event '{}' is not for us", shortened(&event)));
                continue;
            }
            match Message::parse_all(event.data) {
                Ok(messages) => self.messages.extend(messages),
                Err(invalid) => log::warning(format_args!("'{}' sent no message: {invalid}", self.shown)),
            }
        }
    }

    fn pending(&self) -> bool {
        !self.decoded.is_empty() || !self.messages.is_empty()
    }

    fn retry(&self) -> Option<Duration> {
        self.decoder.retry()
    }
}
