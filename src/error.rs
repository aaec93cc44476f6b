//! Why the program ends, and with which exit status. The message is lower case, without a full stop:
//! what was tried, the culprit in quotes, the cause. It is printed once, by `main`.

use std::fmt;

/// What ends the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A mistake on the command line or in the configuration: exit status 2.
    Usage(String),
    /// The command is not found: exit status 127, as shells do.
    NotFound(String),
    /// The command is found but cannot run: exit status 126, as shells do.
    CannotRun(String),
    /// Anything else: exit status 1.
    Failed(String),
}

impl Error {
    /// The exit status that goes with it.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NotFound(_) => 127,
            Self::CannotRun(_) => 126,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::NotFound(text) | Self::CannotRun(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
