//! The servers that are offered: what the command line and the file of named servers say, as specifications.
//!
//! Always: a mistake in the file is found before anything is started, and is told with the file, the server and the key.

use crate::upstream::child::Command;
use crate::upstream::http::Remote;

/// One server that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Under `/servers/NAME/`; `None` is the one at the top.
    pub name: Option<String>,
    /// What it is.
    pub target: Target,
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A local process.
    Command(Command),
    /// Something far away.
    Remote(Remote),
}
