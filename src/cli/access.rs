//! Where we listen, and who may ask there: from what was said and what is in the environment. Files that are named are
//! read now.

use super::draft::{Draft, Source};
use super::usage;
use crate::config::tokens::TokenFile;
use crate::config::{Environment, account};
use crate::downstream::door::{Address, Rights};
use crate::error::Error;
use crate::protocol::access::Tokens;

/// Options that say where to listen.
pub(super) const LISTENING: [&str; 3] = ["--port", "--host", "--listen"];

/// How many sockets were opened for us, and not for whoever started us (`sd_listen_fds(3)`).
pub(super) fn inherited(environment: Environment) -> Result<usize, Error> {
    let number = |name| environment(name).and_then(|value| value.into_string().ok());
    if number("LISTEN_PID").is_none_or(|pid| pid != std::process::id().to_string()) {
        return Ok(0);
    }
    let count = number("LISTEN_FDS").unwrap_or_default();
    count.parse().or_else(|_| usage("variable 'LISTEN_FDS': it is no number of sockets"))
}

/// Where to listen. What was opened for us is enough where nothing is said.
pub(super) fn listen(draft: &Draft, inherited: usize) -> Vec<Address> {
    let is_said = draft.is_given("--port") || draft.is_given("--host");
    let first =
        (is_said || draft.listen.is_empty() && inherited == 0).then(|| Address::Tcp(draft.host.clone(), draft.port));
    first.into_iter().chain(draft.listen.iter().cloned()).collect()
}

pub(super) fn rights(draft: &Draft) -> Result<Rights, Error> {
    let Some(owner) = &draft.socket_owner else {
        return Ok(Rights { mode: draft.socket_mode, user: None, group: None });
    };
    let text = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let ids = account::ids(owner, &text("/etc/passwd"), &text("/etc/group"));
    let (user, group) = ids.map_err(|fault| Error::Usage(format!("option '--socket-owner': {fault}")))?;
    Ok(Rights { mode: draft.socket_mode, user, group })
}

/// The tokens that clients must bring, and the file to read them again from.
pub(super) fn tokens(draft: &mut Draft) -> Result<(Option<Tokens>, Option<TokenFile>), Error> {
    let tokens = match &draft.auth_tokens {
        None => (None, None),
        Some(Source::Literal(text)) => {
            let wrong = |fault| Error::Usage(format!("variable 'MCP_PROXY_AUTH_TOKEN': {fault}"));
            (Some(Tokens::of_words(text.reveal()).map_err(wrong)?), None)
        }
        Some(Source::File(path)) => {
            let file = TokenFile { path: path.clone() };
            (Some(file.read()?), Some(file))
        }
    };
    if tokens.0.is_none() && !draft.auth_servers.is_empty() {
        draft.remark("option '--auth-server': nobody's token is checked here without '--auth-token-file'");
    }
    Ok(tokens)
}
