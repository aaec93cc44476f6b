//! What a client is told that has no token: the challenge of a 401 (RFC 6750, section 3), and the document that says
//! where tokens come from (RFC 9728, "OAuth 2.0 Protected Resource Metadata"; MCP 2025-06-18 and later,
//! `basic/authorization`).
//!
//! ```text
//!   https://host/tools/mcp                                          the resource
//!   https://host/tools/.well-known/oauth-protected-resource/mcp     where the challenge says that its document is
//!   https://host/.well-known/oauth-protected-resource/tools/mcp     where RFC 9728 would look for it; answered too
//! ```
//!
//! The first of the two is below the path that a reverse proxy hands on to us, so that it is always reached.

use super::{Action, Asked, Place, Refusal, Rules, locate, prefix};
use crate::protocol::access::Denied;
use crate::protocol::network::Peer;
use serde_json::json;
use std::fmt::Write as _;
use ureq_proto::http::{HeaderValue, Request, StatusCode, header};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Whatever stands there is told to anybody.
const FOR_ANYBODY: &str = "/.well-known/";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";
/// A longer host is not believed.
const HOST_BYTES: usize = 255;

/// Whether this is told to those too who bring no token: that they are refused as a page, whether we are well, what a
/// browser wants to know first, where tokens come from.
#[must_use]
pub fn is_for_anybody(request: &Request<()>, asked: &Result<Asked, Refusal>) -> bool {
    match asked {
        Ok(asked) => matches!(asked.action, Action::Health | Action::Preflight | Action::Resource),
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => request.uri().path().starts_with(FOR_ANYBODY),
        Err(refusal) => refusal.status == StatusCode::FORBIDDEN,
    }
}

/// The path of the resource whose document stands at `path`, without what stands before ours; empty for all of us.
pub(super) fn located<'a>(path: &'a str, rules: &Rules) -> Option<&'a str> {
    if rules.auth_servers.is_empty() {
        return None;
    }
    let base = rules.base_path.as_str();
    let behind = path.strip_prefix(base).unwrap_or(path).strip_prefix(WELL_KNOWN)?;
    let inside = behind.strip_prefix(base).unwrap_or(behind);
    match locate(inside) {
        Some((_, Place::Mcp | Place::Sse)) => Some(inside),
        _ => matches!(inside, "" | "/").then_some(""),
    }
}

/// The document about the resource that is asked for.
#[must_use]
pub fn document(request: &Request<()>, rules: &Rules, peer: Peer) -> Option<Vec<u8>> {
    let path = located(request.uri().path(), rules)?;
    let resource = format!("{}{path}", base(request, rules, peer)?);
    let document = json!({
        "resource": resource,
        "authorization_servers": rules.auth_servers,
        "bearer_methods_supported": ["header"],
    });
    Some(document.to_string().into_bytes())
}

/// The value of `WWW-Authenticate`.
#[must_use]
pub fn challenge(request: &Request<()>, rules: &Rules, peer: Peer, why: Denied) -> HeaderValue {
    let mut text = "Bearer realm=\"mcp-proxy\"".to_owned();
    if why == Denied::WrongToken {
        text.push_str(", error=\"invalid_token\"");
    }
    if let Some(base) = base(request, rules, peer).filter(|_| !rules.auth_servers.is_empty()) {
        let _ = write!(text, ", resource_metadata=\"{base}{WELL_KNOWN}{}\"", wanted(request, rules)); // memory takes all
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// The path of the resource that a request is about.
fn wanted(request: &Request<()>, rules: &Rules) -> String {
    let path = request.uri().path();
    let inside = path.strip_prefix(rules.base_path.as_str()).unwrap_or(path);
    let (server, tail) = match locate(inside) {
        Some((server, Place::Mcp)) => (server, "/mcp"),
        Some((server, Place::Sse | Place::Messages)) => (server, "/sse"),
        _ => return String::new(),
    };
    match server {
        Some(name) if name.bytes().all(|byte| byte != b'"' && byte != b'\\') => format!("/servers/{name}{tail}"),
        Some(_) => String::new(),
        None => tail.to_owned(),
    }
}

/// Everything before our paths, as the client wrote it; `None` where nobody tells.
fn base(request: &Request<()>, rules: &Rules, peer: Peer) -> Option<String> {
    let prefix = prefix(request, rules, peer);
    if let Some(url) = &rules.public_url {
        return Some(format!("{url}{prefix}"));
    }
    let told = |name| rules.told(request, name, peer).and_then(|value| value.to_str().ok());
    let scheme = told(FORWARDED_PROTO).filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
    let host = told(FORWARDED_HOST).or_else(|| request.headers().get(header::HOST)?.to_str().ok())?;
    is_host(host).then(|| format!("{scheme}://{host}{prefix}"))
}

/// A host that leads nowhere else, and not out of its place in a text.
fn is_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    !host.is_empty() && host.len() <= HOST_BYTES && host.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::route;
    use super::super::tests::request;
    use super::*;
    use serde_json::Value;

    fn rules() -> Rules {
        Rules { auth_servers: vec!["https://login.example".into()], ..Rules::default() }
    }

    fn resource(path: &str, rules: &Rules, headers: &[(&str, &str)], peer: Peer) -> String {
        let asks = request(&format!("GET {path}"), headers);
        match route(&asks, rules) {
            Err(refusal) => refusal.status.as_str().to_owned(),
            Ok(asked) => {
                assert_eq!((asked.action, asked.server), (Action::Resource, None), "{path}");
                let document =
                    document(&asks, rules, peer).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
                document["resource"].as_str().unwrap_or("none").to_owned()
            }
        }
    }

    #[test]
    fn a_document_for_each_endpoint() {
        let below = Rules { base_path: "/tools".into(), ..rules() };
        let public = Rules { public_url: Some("https://public.example".into()), ..below.clone() };
        let host = [("host", "host:8080")];
        for (rules, tail, wanted) in [
            (&rules(), "", "http://host:8080"),
            (&rules(), "/", "http://host:8080"),
            (&rules(), "/mcp", "http://host:8080/mcp"),
            (&rules(), "/mcp/", "http://host:8080/mcp/"),
            (&rules(), "/sse", "http://host:8080/sse"),
            (&rules(), "/servers/a/mcp", "http://host:8080/servers/a/mcp"),
            (&rules(), "/servers/a/sse", "http://host:8080/servers/a/sse"),
            (&rules(), "/status", "404"),
            (&rules(), "/messages", "404"),
            (&rules(), "/tools/mcp", "404"),
            (&rules(), "x", "404"),
            (&below, "/tools/mcp", "http://host:8080/tools/mcp"),
            (&below, "/mcp", "http://host:8080/tools/mcp"),
            (&public, "/mcp", "https://public.example/tools/mcp"),
            (&Rules::default(), "/mcp", "404"),
        ] {
            assert_eq!(resource(&format!("{WELL_KNOWN}{tail}"), rules, &host, Peer::Gone), wanted, "{tail}");
        }
        assert_eq!(
            resource(&format!("/tools{WELL_KNOWN}/mcp"), &below, &host, Peer::Gone),
            "http://host:8080/tools/mcp"
        );
        assert_eq!(route(&request(&format!("POST {WELL_KNOWN}"), &host), &rules()).unwrap_err().status, 405);
    }

    #[test]
    fn the_address_is_the_public_one() {
        let trusting = Rules { trusted_proxies: vec!["10.0.0.1".parse().unwrap()], ..rules() };
        let proxy = Peer::Address("10.0.0.1".parse().unwrap());
        let forwarded = [
            ("host", "inner"),
            ("x-forwarded-host", "outer.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/a"),
        ];
        let path = &format!("{WELL_KNOWN}/mcp");
        assert_eq!(resource(path, &trusting, &forwarded, proxy), "https://outer.example/a/mcp");
        assert_eq!(resource(path, &trusting, &forwarded, Peer::Unix), "http://inner/mcp");
        assert_eq!(resource(path, &rules(), &forwarded, proxy), "http://inner/mcp");
        assert_eq!(resource(path, &rules(), &[], proxy), "none");
        for odd in ["a\"b", "a/b", "a@b", "a b", "", "a, b", &"x".repeat(256)] {
            assert_eq!(resource(path, &rules(), &[("host", odd)], proxy), "none", "{odd}");
        }
        let odd = [("host", "inner"), ("x-forwarded-proto", "ftp")];
        assert_eq!(resource(path, &trusting, &odd, proxy), "http://inner/mcp");
    }

    #[test]
    fn a_challenge_says_what_is_missing() {
        let text = |line: &str, rules: &Rules, why| {
            challenge(&request(line, &[("host", "h")]), rules, Peer::Gone, why).to_str().unwrap().to_owned()
        };
        let bare = Rules::default();
        assert_eq!(text("POST /mcp", &bare, Denied::NoToken), "Bearer realm=\"mcp-proxy\"");
        let wrong = "Bearer realm=\"mcp-proxy\", error=\"invalid_token\"";
        assert_eq!(text("POST /mcp", &bare, Denied::WrongToken), wrong);
        let below = Rules { base_path: "/b".into(), ..rules() };
        for (rules, line, wanted) in [
            (&rules(), "POST /mcp", "http://h/.well-known/oauth-protected-resource/mcp"),
            (&rules(), "DELETE /servers/a/mcp/", "http://h/.well-known/oauth-protected-resource/servers/a/mcp"),
            (&rules(), "POST /messages/?session_id=1", "http://h/.well-known/oauth-protected-resource/sse"),
            (&rules(), "GET /status", "http://h/.well-known/oauth-protected-resource"),
            (&below, "GET /b/sse", "http://h/b/.well-known/oauth-protected-resource/sse"),
        ] {
            let wanted = format!("{wrong}, resource_metadata=\"{wanted}\"");
            assert_eq!(text(line, rules, Denied::WrongToken), wanted, "{line}");
        }
    }

    #[test]
    fn little_is_for_anybody() {
        let rules = Rules { loopback: true, allow_origins: vec!["http://a".into()], ..rules() };
        let preflight = [("origin", "http://a"), ("access-control-request-method", "POST")];
        for (line, headers, wanted) in [
            ("GET /healthz", &[][..], true),
            ("OPTIONS /mcp", &preflight, true),
            ("OPTIONS /mcp", &[], false),
            ("GET /.well-known/oauth-protected-resource/mcp", &[], true),
            ("GET /.well-known/openid-configuration", &[], true),
            ("POST /mcp", &[("origin", "http://evil")], true),
            ("POST /mcp", &[("host", "evil")], true),
            ("POST /mcp", &[], false),
            ("GET /mcp", &[], false),
            ("DELETE /mcp", &[], false),
            ("PUT /mcp", &[], false),
            ("GET /sse", &[], false),
            ("POST /messages/?session_id=1", &[], false),
            ("GET /status", &[], false),
            ("GET /metrics", &[], false),
            ("POST /healthz", &[], false),
            ("GET /", &[], false),
            ("GET /servers/a/mcp", &[], false),
        ] {
            let asks = request(line, headers);
            assert_eq!(is_for_anybody(&asks, &route(&asks, &rules)), wanted, "{line} {headers:?}");
        }
    }
}
