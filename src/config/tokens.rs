//! The tokens that clients must bring: from a file, which can be read again at any time, or from a variable.

use super::text_of;
use crate::error::Error;
use crate::log;
use crate::protocol::access::Tokens;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The file in which they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile {
    /// Where it is.
    pub path: PathBuf,
}

impl TokenFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Usage`]: it cannot be read, or holds what is no token. No token is shown.
    pub fn read(&self) -> Result<Tokens, Error> {
        let shown = log::shortened(self.path.as_os_str().as_bytes());
        let wrong = |what: String| Error::Usage(format!("option '--auth-token-file': '{shown}'{what}"));
        let text = text_of(&self.path).map_err(|fault| wrong(format!(" {fault}")))?;
        Tokens::of_lines(&text).map_err(|fault| wrong(format!(": {fault}")))
    }
}
