//! Asks an authorization server for a token: OAuth 2.0 client credentials (RFC 6749, section 4.4), for the server that
//! it is meant for (RFC 8707).
//!
//! Always: the client's secret goes to the address that the user named and no further, since redirects are not
//! followed; nothing that may be secret is in an error.

use super::auth::Credentials;
use super::http::{self, Route};
use crate::log::{self, Secret};
use crate::protocol::base64;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{Request, Uri, header};

/// A token is renewed so long before its end, but not before four fifths of its time.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token may take, if requests may not take less.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 256 * 1024;

/// A token.
#[derive(Clone)]
pub struct Token {
    /// What is sent.
    pub value: Secret,
    /// From when on another one is asked for, if its end is known.
    pub renew_at: Option<Instant>,
}

/// How a token is asked for.
#[derive(Clone, Copy)]
struct Manner {
    /// The secret is in the body (`client_secret_post`), not in a header (`client_secret_basic`).
    is_posted: bool,
    /// The server that the token is for is named. Some authorization servers refuse that.
    names_resource: bool,
}

/// What an authorization server refuses with.
struct Refusal {
    status: u16,
    error: String,
    why: String,
}

/// Asks for a token for the server at `resource`: as the standards say, and as older servers want it where they refuse.
///
/// # Errors
/// There is none, in words for a person.
pub fn ask(credentials: &Credentials, resource: &Uri, route: &Route, timeout: Duration) -> Result<Token, String> {
    let until = Instant::now() + timeout.min(LONGEST);
    let mut manner = Manner { is_posted: false, names_resource: true };
    loop {
        let refusal = match once(credentials, resource, route, manner, until)? {
            Ok(token) => return Ok(token),
            Err(refusal) => refusal,
        };
        let is_unknown = refusal.status == 401 || refusal.error == "invalid_client";
        if is_unknown && !manner.is_posted {
            manner.is_posted = true;
        } else if refusal.status == 400 && !is_unknown && manner.names_resource {
            manner.names_resource = false;
        } else {
            return Err(refusal.why);
        }
    }
}

/// Tells the user that the secret is sent in the clear, if it is.
pub fn warn_of_clear_text(url: &Uri) {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if url.scheme_str() == Some("http") && !is_near {
        let shown = log::address(&url.to_string());
        log::warning(format_args!("the client's secret goes to '{shown}' without encryption"));
    }
}

fn once(
    credentials: &Credentials,
    resource: &Uri,
    route: &Route,
    manner: Manner,
    until: Instant,
) -> Result<Result<Token, Refusal>, String> {
    let url = credentials.token_url.to_string();
    let (shown, left) = (log::address(&url), until.saturating_duration_since(Instant::now()));
    let mut request = Request::post(&credentials.token_url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json");
    if !manner.is_posted {
        request = request.header(header::AUTHORIZATION, basic(credentials));
    }
    let request = request.body(form(credentials, resource, manner)).map_err(|_| format!("'{shown}' is no address"))?;
    let asked_at = Instant::now();
    let (head, form) = request.into_parts();
    let response = route
        .agent
        .run(&Arc::new(head), Some(form.as_bytes()), Some(left))
        .map_err(|error| route.explain(&url, &error, whole(left)))?;
    let status = response.status();
    let mut body = Vec::new();
    let read = response.into_body().take(ANSWER_BYTES + 1).read_to_end(&mut body);
    let read =
        read.map_err(|error| format!("the answer of '{shown}' broke: {}", route.broken(&ureq::Error::from(error))))?;
    if read as u64 > ANSWER_BYTES {
        return Err(format!("'{shown}' gave no token: its answer is longer than {ANSWER_BYTES} bytes"));
    }
    if status.is_success() {
        let token = token(&body, asked_at).map_err(|why| format!("'{shown}' gave no token: {why}"));
        return token.map(Ok);
    }
    let (error, detail) = refusal(&body, credentials.client_secret.reveal());
    let why = format!("'{shown}' gave no token: it answered {}{detail}", http::named(status));
    Ok(Err(Refusal { status: status.as_u16(), error, why }))
}

/// Whole seconds, as a person is told them.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// RFC 6749, section 2.3.1: both parts are encoded as in a form first.
fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", encoded(&credentials.client_id), encoded(credentials.client_secret.reveal()));
    format!("Basic {}", base64::encode(pair.as_bytes()))
}

fn form(credentials: &Credentials, resource: &Uri, manner: Manner) -> String {
    let mut form = "grant_type=client_credentials".to_owned();
    if manner.names_resource {
        // Its query may hold a secret of the server's.
        let _ = write!(form, "&resource={}", encoded(&log::address(&resource.to_string())));
    }
    if manner.is_posted {
        let (id, secret) = (encoded(&credentials.client_id), encoded(credentials.client_secret.reveal()));
        let _ = write!(form, "&client_id={id}&client_secret={secret}");
    }
    form
}

/// A value in a form.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b' ' => encoded.push('+'),
            b'-' | b'.' | b'_' | b'*' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => encoded.push(byte.into()),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

/// RFC 6749, section 5.1.
fn token(body: &[u8], asked_at: Instant) -> Result<Token, &'static str> {
    let json: Value = serde_json::from_slice(body).map_err(|_| "its answer is no JSON")?;
    let value = json["access_token"].as_str().filter(|token| !token.is_empty()).ok_or("there is no access_token")?;
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the access_token holds what a header cannot");
    }
    if json["token_type"].as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("its token_type is not Bearer");
    }
    let lasts_s = &json["expires_in"];
    let lasts_s = lasts_s.as_f64().or_else(|| lasts_s.as_str()?.parse().ok());
    let lasts = lasts_s.and_then(|lasts_s| Duration::try_from_secs_f64(lasts_s.max(0.0)).ok());
    let renew_at = lasts.and_then(|lasts| asked_at.checked_add(lasts.saturating_sub(EARLY.min(lasts / 5))));
    Ok(Token { value: Secret::new(value.to_owned()), renew_at })
}

/// RFC 6749, section 5.2: the error, and what is shown of it. A server that quotes the secret is not quoted.
fn refusal(body: &[u8], secret: &str) -> (String, String) {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json[name].as_str().unwrap_or_default();
    let shown = |text: &str| match text {
        "" => String::new(),
        text if text.contains(secret) => String::new(),
        text => log::shortened(text.as_bytes()),
    };
    let (error, description) = (shown(text("error")), shown(text("error_description")));
    let detail = match (&*error, &*description) {
        ("", "") => String::new(),
        (one, "") | ("", one) => format!(" ({one})"),
        (error, description) => format!(" ({error}: {description})"),
    };
    (text("error").to_owned(), detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            client_id: "a client".into(),
            client_secret: Secret::new("s:e&c".into()),
            token_url: Uri::from_static("https://auth/token"),
        }
    }

    #[test]
    fn the_client_is_named_as_rfc_6749_says() {
        assert_eq!(basic(&credentials()), format!("Basic {}", base64::encode(b"a+client:s%3Ae%26c")));
        let resource = Uri::from_static("https://host/mcp?key=1");
        for (is_posted, names_resource, rest) in [
            (false, false, ""),
            (false, true, "&resource=https%3A%2F%2Fhost%2Fmcp"),
            (true, false, "&client_id=a+client&client_secret=s%3Ae%26c"),
        ] {
            let form = form(&credentials(), &resource, Manner { is_posted, names_resource });
            assert_eq!(form, format!("grant_type=client_credentials{rest}"));
        }
    }

    #[test]
    fn a_token_is_renewed_before_its_end() {
        let now = Instant::now();
        for (lasts, renewed_s) in [
            (r#","expires_in":3600"#, Some(3570)),
            (r#","expires_in":"3600""#, Some(3570)),
            (r#","expires_in":100"#, Some(80)),
            (r#","expires_in":0"#, Some(0)),
            (r#","expires_in":-7"#, Some(0)),
            (r#","expires_in":1e300"#, None),
            (r#","expires_in":null"#, None),
            ("", None),
        ] {
            let body = format!(r#"{{"access_token":"t","token_type":"bearer"{lasts}}}"#);
            let found = token(body.as_bytes(), now).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(found.renew_at, renewed_s.map(|s| now + Duration::from_secs(s)), "{lasts}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in ["", "x", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\r\nb"}"#, r#"{"access_token":7}"#] {
            assert!(token(body.as_bytes(), Instant::now()).is_err(), "{body}");
        }
        let mac = br#"{"access_token":"t","token_type":"mac"}"#;
        assert_eq!(token(mac, Instant::now()).err(), Some("its token_type is not Bearer"));
    }

    #[test]
    fn a_refusal_is_shown_without_the_secret() {
        for (body, expected) in [
            (r#"{"error":"invalid_client","error_description":"who?"}"#, " (invalid_client: who?)"),
            (r#"{"error":"invalid_scope"}"#, " (invalid_scope)"),
            (r#"{"error":"invalid_client","error_description":"not geheim"}"#, " (invalid_client)"),
            ("<html>", ""),
        ] {
            assert_eq!(refusal(body.as_bytes(), "geheim").1, expected);
        }
    }
}
