//! Lets clients in that bring one of the tokens, or everybody where there are none. The tokens can be read again while
//! connections are open: each request is checked by those that hold when it comes.

use crate::config::tokens::TokenFile;
use crate::log;
use crate::protocol::access::{Denied, Tokens};
use std::sync::{PoisonError, RwLock};
use ureq_proto::http::Request;

/// What lets clients in.
pub struct Gate {
    /// Where the tokens are read again.
    file: Option<TokenFile>,
    /// `None`: everybody is let in.
    tokens: Option<RwLock<Tokens>>,
}

impl Gate {
    /// A gate that opens for these tokens.
    pub fn new(tokens: Option<Tokens>, file: Option<TokenFile>) -> Self {
        Self { file, tokens: tokens.map(RwLock::new) }
    }

    /// Lets a request in, or says why not.
    pub fn check(&self, request: &Request<()>) -> Result<(), Denied> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        tokens.read().unwrap_or_else(PoisonError::into_inner).check(request.headers())
    }

    /// Whether there is something to read again.
    pub fn can_reload(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the tokens again. What is wrong with them changes nothing.
    pub fn reload(&self) {
        let (Some(file), Some(tokens)) = (&self.file, &self.tokens) else { return };
        match file.read() {
            Ok(new) => {
                log::info(format_args!("'{}' was read again: {} tokens", file.path.display(), new.count()));
                *tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
            Err(error) => log::error(format_args!("the tokens have not changed: {error}")),
        }
    }
}
