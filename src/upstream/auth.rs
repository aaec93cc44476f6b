//! What proves to a remote server who we are, beyond fixed headers: HTTP basic (RFC 7617) and digest (RFC 7616)
//! authentication, OAuth 2.0 client credentials (RFC 6749 section 4.4).
//!
//! Always: one thread asks for a token and all others wait for it, without a lock; where its link ends meanwhile,
//! another one asks; a token that a server refused is not used again; the uses of a nonce are counted, and no count is used twice.

use super::oauth::Token;
use super::waits::TICK;
use crate::log::Secret;
use crate::protocol::base64;
use crate::protocol::digest::{Asked, Challenge};
use crate::system;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use ureq::http::{HeaderMap, HeaderValue, Uri, header, request};

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Not at all, or by a fixed header.
    #[default]
    Nothing,
    /// HTTP basic authentication.
    Basic(Login),
    /// HTTP digest authentication.
    Digest(Login),
    /// OAuth 2.0 client credentials.
    ClientCredentials(Credentials),
}

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// What an authorization server gives tokens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// Where tokens are asked for.
    pub token_url: Uri,
}

/// What is known of the proof that one server wants.
pub struct Proof {
    auth: Auth,
    state: Mutex<State>,
    /// A token has come, or did not.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The last challenge, and how many requests answered it.
    challenge: Option<(Challenge, u32)>,
    token: Option<Token>,
    is_asking: bool,
    /// How often a token was asked for, and why none came the last time.
    asked: u64,
    failure: String,
}

impl Proof {
    /// A proof of which nothing is known yet.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self { auth, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether there is anything to prove.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.auth != Auth::Nothing
    }

    /// The `Authorization` of a request, if one is known; `ask` gets a token, and may take its time; `ended` says why
    /// the link of this thread has ended, if it has.
    ///
    /// # Errors
    /// There is no token, in words for a person.
    pub fn authorization(
        &self,
        request: &request::Parts,
        ask: &dyn Fn(&Credentials) -> Result<Token, String>,
        ended: &dyn Fn() -> Option<String>,
    ) -> Result<Option<HeaderValue>, String> {
        let text = match &self.auth {
            Auth::Nothing => None,
            Auth::Basic(login) => {
                let pair = format!("{}:{}", login.username, login.password.reveal());
                Some(format!("Basic {}", base64::encode(pair.as_bytes())))
            }
            Auth::Digest(login) => self.digest(login, request)?,
            Auth::ClientCredentials(credentials) => {
                Some(format!("Bearer {}", self.token(credentials, ask, ended)?.reveal()))
            }
        };
        let value = text.map(|text| HeaderValue::from_str(&text)).transpose();
        let mut value = value.map_err(|_| "the name, or the token, holds what a header cannot".to_owned())?;
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok(value)
    }

    /// A server answered 401 to a request with these headers: whether another one may fare better.
    ///
    /// # Errors
    /// It wants what we cannot give, in words that fit behind its address.
    pub fn challenged(&self, sent: &HeaderMap, answered: &HeaderMap) -> Result<bool, String> {
        match &self.auth {
            Auth::Nothing | Auth::Basic(_) => Ok(false),
            Auth::Digest(_) => {
                let values = answered.get_all(header::WWW_AUTHENTICATE);
                let challenge = Challenge::choose(values.iter().filter_map(|value| value.to_str().ok()))?;
                // An answer to a challenge that was not too old says that the login is wrong; but some servers do
                // not say `stale`, so that the last answer is tried again once.
                let is_known = challenge.is_some();
                if let Some(challenge) = challenge {
                    self.state().challenge = Some((challenge, 0));
                }
                Ok(is_known)
            }
            Auth::ClientCredentials(_) => {
                let sent = sent.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let sent = sent.and_then(|value| value.strip_prefix("Bearer "));
                let mut state = self.state();
                state.token.take_if(|token| Some(token.value.reveal()) == sent);
                Ok(true)
            }
        }
    }

    /// Why a server that goes on to answer 401 does so, in words that fit behind its answer.
    #[must_use]
    pub fn refused(&self) -> &'static str {
        match self.auth {
            Auth::Nothing => "it wants to know who we are",
            Auth::Basic(_) => "it does not take the name and the password",
            Auth::Digest(_) => "it does not take the name and the password by digest authentication",
            Auth::ClientCredentials(_) => "it does not take a new token",
        }
    }

    fn digest(&self, login: &Login, request: &request::Parts) -> Result<Option<String>, String> {
        let (challenge, count) = {
            let mut state = self.state();
            let Some((challenge, count)) = &mut state.challenge else { return Ok(None) };
            *count += 1;
            (challenge.clone(), *count)
        };
        let cnonce = system::random_id().map_err(|error| format!("there is no random number: {error}"))?;
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        let asked = Asked { method: request.method.as_str(), target, count, cnonce: &cnonce };
        Ok(Some(challenge.answer(&login.username, login.password.reveal(), asked)))
    }

    /// A token that has not ended. One thread asks for it, the others wait, as long as their own links last.
    fn token(
        &self,
        credentials: &Credentials,
        ask: &dyn Fn(&Credentials) -> Result<Token, String>,
        ended: &dyn Fn() -> Option<String>,
    ) -> Result<Secret, String> {
        let mut state = self.state();
        let asked = state.asked;
        while state.is_asking {
            let (guard, waited) = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if waited.timed_out() {
                drop(state);
                if let Some(why) = ended() {
                    return Err(why);
                }
                state = self.state();
            }
        }
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| token.renew_at.is_none_or(|end| now < end)) {
            return Ok(token.value.clone());
        }
        if state.asked != asked {
            return Err(state.failure.clone());
        }
        state.is_asking = true;
        drop(state);
        let asking = Asking(self);
        let answer = ask(credentials);
        // What ended with this link says nothing of the token: the next thread asks for itself.
        let says_nothing = answer.is_err() && ended().is_some();
        let mut state = self.state();
        match &answer {
            _ if says_nothing => {}
            Ok(token) => (state.token, state.asked) = (Some(token.clone()), state.asked + 1),
            Err(why) => (state.failure, state.asked) = (why.clone(), state.asked + 1),
        }
        drop(state);
        drop(asking);
        answer.map(|token| token.value)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread asks for a token; the others go on when it is dropped, whatever came of it.
struct Asking<'a>(&'a Proof);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.state().is_asking = false;
        self.0.changed.notify_all();
    }
}
