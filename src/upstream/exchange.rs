//! One request and its answer: redirects are followed, failures are explained.
//!
//! Always: a message is sent once, whatever becomes of it; what may be secret goes to the origin that the user named
//! and to no other.

use super::answer::Body;
use super::auth::Auth;
use super::http::{self, Client, Route};
use crate::log;
use crate::protocol::uri::Origin;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header, request};

/// Redirects that are followed one after the other.
const REDIRECTS: usize = 5;
/// Bytes of a refusal that are read.
const DRAINED_BYTES: u64 = 64 * 1024;

/// Which redirects are followed.
#[derive(Debug, Clone, Copy)]
pub enum Redirects {
    /// Those that keep the method, within the origin. The request is repeated with the headers that it has.
    Within,
    /// All of them. Another origin gets these headers and none of the user's.
    Anywhere(&'static [(HeaderName, &'static str)]),
}

/// The ways that one link sends by.
pub trait Ways {
    /// To where messages go.
    ///
    /// # Errors
    /// There is none, in words for a person.
    fn to(&self, url: &Uri) -> Result<Route, String>;

    /// To where tokens are asked for: maybe elsewhere, maybe through another proxy; no message is sent by it.
    ///
    /// # Errors
    /// There is none, in words for a person.
    fn to_tokens(&self, url: &Uri) -> Result<Route, String>;

    /// Why the link has ended, if it has.
    fn ended(&self) -> Option<String>;
}

/// The way to where one link asks for tokens, made when one is asked for first.
#[derive(Default)]
pub struct ToTokens(Mutex<Option<Route>>);

impl ToTokens {
    /// The way that is known, or the one that `make` makes.
    ///
    /// # Errors
    /// Those of `make`; the next call tries again.
    pub fn get_or_make(&self, make: impl FnOnce() -> Result<Route, String>) -> Result<Route, String> {
        let mut known = self.known();
        match &*known {
            Some(route) => Ok(route.clone()),
            None => Ok(known.insert(make()?).clone()),
        }
    }

    /// The link has ended: what is under way there ends too.
    pub fn shut_down(&self) {
        let known = self.known().take();
        if let Some(route) = known {
            route.agent.shutdown();
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Route>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer.
pub struct Answer {
    /// Who gave it.
    pub url: Uri,
    /// Whether a redirect led there.
    pub is_moved: bool,
    /// How it came.
    pub route: Route,
    /// What it says.
    pub response: Response<Body>,
}

/// Sends a request.
///
/// # Errors
/// There is no answer, or it redirects to where we do not go; in words for a person.
pub fn exchange(
    client: &Client,
    parts: &Arc<request::Parts>,
    body: Option<&[u8]>,
    redirects: Redirects,
    ways: &dyn Ways,
) -> Result<Answer, String> {
    let mut moved: Option<Arc<request::Parts>> = None;
    let mut is_proved_again = false;
    // One more, for the answer to a challenge.
    for _ in 0..=REDIRECTS + usize::from(client.remote().auth != Auth::Nothing) {
        let bare = moved.as_ref().unwrap_or(parts);
        let mut now = bare.clone();
        if client.proves(&bare.uri) {
            client.authorize(Arc::make_mut(&mut now), ways)?;
        }
        let (url, way) = (now.uri.clone(), ways.to(&now.uri)?);
        let answer = way.agent.run(&now, body, None);
        let timeout = client.remote().timeout;
        let response = answer.map_err(|error| way.explain(&url.to_string(), &error, timeout))?;
        if response.status() == StatusCode::UNAUTHORIZED
            && client.challenged(&now, response.headers(), is_proved_again)?
        {
            is_proved_again = true;
            drain(response);
            continue;
        }
        if !is_followed(response.status().as_u16(), redirects) {
            return Ok(Answer { url, is_moved: moved.is_some(), route: way, response });
        }
        moved = Some(Arc::new(follow(client, bare, response.headers().get(header::LOCATION), redirects)?));
    }
    Err(format!("'{}' redirects more than {REDIRECTS} times", log::address(&parts.uri.to_string())))
}

/// Reads an answer that nobody wants, so that its connection can be used again.
fn drain(response: Response<Body>) {
    let _ = std::io::copy(&mut response.into_body().take(DRAINED_BYTES), &mut std::io::sink());
}

fn is_followed(status: u16, redirects: Redirects) -> bool {
    match redirects {
        Redirects::Within => matches!(status, 307 | 308),
        Redirects::Anywhere(_) => matches!(status, 301 | 302 | 303 | 307 | 308),
    }
}

/// The request that the redirect of another one leads to, with the headers that it may have there.
fn follow(
    client: &Client,
    parts: &request::Parts,
    location: Option<&HeaderValue>,
    redirects: Redirects,
) -> Result<request::Parts, String> {
    let from = parts.uri.to_string();
    let to = http::redirected(&from, location)?;
    let shown = log::address(&from);
    let mut parts = parts.clone();
    match redirects {
        Redirects::Anywhere(ours) => {
            client.warn_of_withheld(&from, &to);
            parts.headers = client.headers_for(&to, ours);
        }
        Redirects::Within if Origin::of(&to) != Origin::of(&from) => {
            let to = log::address(&to);
            return Err(format!("'{shown}' redirects to another origin ('{to}'), which is not followed"));
        }
        Redirects::Within => {}
    }
    parts.uri = to.parse().map_err(|_| format!("'{shown}' redirects to no address"))?;
    Ok(parts)
}
