//! What proves to a remote server who we are: headers, a token, a name and its password, or a client's credentials.
//! Half of it is a mistake. Of two kinds one wins, as in the Python program, because only one can be sent.

use super::draft::{Draft, Source};
use super::values::add_headers;
use super::{shown, usage};
use crate::config::{Defaults, header};
use crate::error::Error;
use crate::log::{self, Secret};
use crate::upstream::auth::{Auth, Credentials, Login};
use crate::upstream::certificate::Certificate;
use std::path::Path;

/// How we log in. A variable alone asks for nothing: it may be there for another one of us.
pub(super) fn auth(draft: &mut Draft, defaults: &Defaults) -> Result<Auth, Error> {
    let secret_given = draft.client_secret.is_some() && draft.is_given("--client-secret");
    let password_given = draft.password.is_some() && draft.is_given("--password");
    let as_client = draft.client_id.is_some() || draft.token_url.is_some() || secret_given;
    let as_user = draft.username.is_some() || draft.digest || password_given;
    let first = match (as_client, as_user) {
        (false, false) => return Ok(Auth::Nothing),
        (false, true) => "--username",
        (true, _) => "--client-id",
    };
    if draft.is_given("--api-access-token") {
        return usage(&format!("option '--api-access-token': it does not go with '{first}'"));
    }
    if as_client && as_user {
        draft.remark("option '--username': it is left out, because '--client-id' wins");
    }
    if as_client { credentials(draft, defaults).map(Auth::ClientCredentials) } else { login(draft) }
}

/// The certificate that proves who we are, checked now: half of it, or a broken one, is a mistake.
pub(super) fn certificate(draft: &Draft) -> Result<Option<Certificate>, Error> {
    let (certificate, key) = match (&draft.client_cert, &draft.client_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (certificate, key) => {
            return half(&[("--client-cert", certificate.is_some()), ("--client-key", key.is_some())]);
        }
    };
    let found = Certificate { chain: certificate.clone(), key: key.clone() };
    found.check().map_err(|fault| Error::Usage(format!("option '--client-cert': {fault}")))?;
    Ok(Some(found))
}

/// Reads the headers that stand in a file or in a variable.
pub(super) fn read_headers(draft: &mut Draft) -> Result<(), Error> {
    let (text, place) = match draft.headers_source.take() {
        None => return Ok(()),
        Some(Source::Literal(text)) => (text.reveal().to_owned(), "variable 'MCP_PROXY_HEADERS'".to_owned()),
        Some(Source::File(file)) => {
            (text_of(&file, "--headers-file")?, format!("option '--headers-file': '{}'", shown(&file)))
        }
    };
    add_headers(draft, &text).map_err(|fault| Error::Usage(format!("{place}: {fault}")))
}

/// The headers of every request, and whether one was left out for the sake of `auth`. A token becomes a header, unless
/// the user gives that header.
pub(super) fn headers(draft: &Draft, auth: &Auth) -> Result<(Vec<(String, Secret)>, bool), Error> {
    let is_authorization = |(name, _): &(String, Secret)| name.eq_ignore_ascii_case("authorization");
    let mut headers = draft.headers.clone();
    if *auth != Auth::Nothing {
        headers.retain(|header| !is_authorization(header));
        let is_shorter = headers.len() < draft.headers.len();
        return Ok((headers, is_shorter));
    }
    if let Some(source) = draft.token.as_ref().filter(|_| !headers.iter().any(is_authorization)) {
        let token = token(source)?;
        headers.push(("Authorization".to_owned(), Secret::new(format!("Bearer {}", token.reveal()))));
    }
    Ok((headers, false))
}

fn credentials(draft: &Draft, defaults: &Defaults) -> Result<Credentials, Error> {
    let (Some(client_id), Some(secret), Some(url)) = (&draft.client_id, &draft.client_secret, &draft.token_url) else {
        return half(&[
            ("--client-id", draft.client_id.is_some()),
            ("--client-secret", draft.client_secret.is_some()),
            ("--token-url", draft.token_url.is_some()),
        ]);
    };
    let address = log::shortened(log::address(url).as_bytes());
    let place = "'--client-id' and '--client-secret'";
    let wrong = |fault: crate::config::UrlFault| {
        Error::Usage(format!("option '--token-url': {}", fault.explain(&address, place)))
    };
    Ok(Credentials {
        client_id: client_id.clone(),
        client_secret: secret_of(secret, "--client-secret-file")?,
        token_url: defaults.remote(url).map_err(wrong)?.url,
    })
}

fn login(draft: &Draft) -> Result<Auth, Error> {
    let (Some(username), Some(password)) = (&draft.username, &draft.password) else {
        let mut parts = vec![("--username", draft.username.is_some()), ("--password", draft.password.is_some())];
        if draft.digest {
            parts.insert(0, ("--digest", true));
        }
        return half(&parts);
    };
    let login = Login { username: username.clone(), password: secret_of(password, "--password-file")? };
    Ok(if draft.digest { Auth::Digest(login) } else { Auth::Basic(login) })
}

/// Names what is missing of things that go together.
fn half<T>(parts: &[(&str, bool)]) -> Result<T, Error> {
    let given = parts.iter().find(|(_, is_there)| *is_there).map_or("", |(name, _)| name);
    let missing: Vec<_> = parts.iter().filter(|(_, there)| !there).map(|(name, _)| format!("'{name}'")).collect();
    usage(&format!("option '{given}': it needs {} too", missing.join(" and ")))
}

fn token(source: &Source) -> Result<Secret, Error> {
    let file = match source {
        Source::Literal(token) => return Ok(token.clone()),
        Source::File(file) => file,
    };
    let option = "--api-access-token-file";
    match text_of(file, option)?.trim() {
        "" => Err(fault(file, option, "is empty")),
        token => header::value(token).map_err(|what| fault(file, option, what)),
    }
}

/// A password may begin or end with blanks; only the line's end is the file's.
fn secret_of(source: &Source, option: &str) -> Result<Secret, Error> {
    let file = match source {
        Source::Literal(secret) => return Ok(secret.clone()),
        Source::File(file) => file,
    };
    let text = text_of(file, option)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err(fault(file, option, "is empty")),
        secret if secret.contains(char::is_control) => Err(fault(file, option, "holds more than one line of text")),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}

fn text_of(file: &Path, option: &str) -> Result<String, Error> {
    let bytes =
        std::fs::read(file).map_err(|error| fault(file, option, &format!("cannot be read: {}", log::cause(&error))))?;
    String::from_utf8(bytes).map_err(|_| fault(file, option, "is not UTF-8"))
}

fn fault(file: &Path, option: &str, what: &str) -> Error {
    Error::Usage(format!("option '{option}': '{}' {what}", shown(file)))
}
