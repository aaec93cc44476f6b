//! The HTTP client: one place that makes ureq's agents, with TLS, proxies, redirects and credentials.

use crate::log::Secret;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{HeaderName, Uri};

/// How a remote server is reached.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its address, `http` or `https`.
    pub url: Uri,
    /// What is sent with every request to its origin.
    pub headers: Vec<(HeaderName, Secret)>,
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
