//! What proves to a remote server who we are, beyond fixed headers: HTTP basic (RFC 7617) and digest (RFC 7616)
//! authentication, OAuth 2.0 client credentials (RFC 6749 section 4.4).

use crate::log::Secret;
use ureq::http::Uri;

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
