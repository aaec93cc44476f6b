//! Connect: our stdin and stdout, a remote server behind. Owns every thread of this mode.

use crate::upstream::http::Remote;

/// What the command line says about this mode.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub remote: Remote,
    /// Requests that may be unanswered at the same time.
    pub open_requests: usize,
}
/// tmp
/// # Errors
/// none
pub fn run(_: Options) -> Result<u8, crate::error::Error> {
    Ok(0)
}
