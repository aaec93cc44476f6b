//! Serve: clients over HTTP, a local server behind. Owns every thread of this mode.

use crate::downstream::listener::Limits;
use crate::upstream::child::Command;
use std::time::Duration;

/// What the command line says about this mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address to listen on; `localhost` means both loopback families.
    pub host: String,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// The server of each session.
    pub command: Command,
    /// Origins of browsers' pages that may talk to us; `*` allows all.
    pub allow_origins: Vec<String>,
    /// Names of headers that browsers' pages may read.
    pub expose_headers: Vec<String>,
    /// Sessions at the same time; one more is answered 503.
    pub sessions: usize,
    /// Requests of one session that may be unanswered at the same time.
    pub open_requests: usize,
    /// How long a server may take to end before it is killed.
    pub stop_timeout: Duration,
    /// What one connection may cost.
    pub limits: Limits,
}
