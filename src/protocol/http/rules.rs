//! Who may ask: the rules of `Origin` and `Host` (MCP 2024-11-05 and later, `basic/transports`, "Security Warning"),
//! what a browser is told of them (Fetch, "CORS protocol"), and the path under which a client reached us.

use super::Refusal;
use crate::protocol::network::{Network, Peer};
use std::net::IpAddr;
use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

/// Who may ask, and under which paths.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whether we listen on loopback addresses only. Then a `Host` that is no loopback name belongs to a page
    /// that had its own name resolved to us (DNS rebinding).
    pub loopback: bool,
    /// Further names that `Host` may have. Where there are some, it must be one of them, or a loopback name, wherever we
    /// listen.
    pub allow_hosts: Vec<String>,
    /// Origins of pages that may ask; `*` means all.
    pub allow_origins: Vec<String>,
    /// Headers that their scripts may read.
    pub expose_headers: Vec<String>,
    /// The path before ours where a reverse proxy hands on only a part of its own; empty, or it begins with a slash
    /// and ends without one. Requests come with it or without it.
    pub base_path: String,
    /// Peers whose `X-Forwarded-Prefix` is believed.
    pub trusted_proxies: Vec<Network>,
    /// There are no sessions on `/mcp`.
    pub stateless: bool,
    /// Where clients get tokens for us; none means that we tell nothing about it.
    pub auth_servers: Vec<String>,
    /// Scheme and host under which clients reach us, where what they send does not tell.
    pub public_url: Option<String>,
}

/// What a page may send that does not say what it wants to send.
const REQUEST_HEADERS: &str =
    "accept, authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id";
const FETCH_SITE: &str = "sec-fetch-site";
const FORWARDED_PREFIX: &str = "x-forwarded-prefix";
/// A longer prefix is not believed.
const PREFIX_BYTES: usize = 256;

/// The path before ours under which the client reached us: what a trusted reverse proxy says of it, else the base path.
#[must_use]
pub fn prefix(request: &Request<()>, rules: &Rules, peer: Peer) -> String {
    rules.told(request, FORWARDED_PREFIX, peer).and_then(plain_prefix).unwrap_or(&rules.base_path).to_owned()
}

/// A prefix without the slash at its end. One that would lead elsewhere, or out of its place in a text, is none.
fn plain_prefix(value: &HeaderValue) -> Option<&str> {
    let prefix = value.to_str().ok()?;
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte);
    let leads_on = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        !matches!(segment.as_str(), "" | "." | "..")
    };
    let is_good = prefix.len() <= PREFIX_BYTES
        && prefix.bytes().all(is_plain)
        && (prefix.is_empty() || prefix.strip_prefix('/').is_some_and(|inside| inside.split('/').all(leads_on)));
    is_good.then_some(prefix)
}

impl Rules {
    pub(super) fn check_host(&self, request: &Request<()>) -> Result<(), Refusal> {
        let is_checked = self.loopback || !self.allow_hosts.is_empty() && !is_probe(request);
        let Some(host) = request.headers().get(header::HOST).filter(|_| is_checked) else { return Ok(()) };
        let host = host.to_str().unwrap_or_default();
        if is_loopback(host) || self.allow_hosts.iter().any(|allowed| is_host(host, allowed)) {
            return Ok(());
        }
        let reason = "the Host is not one of this machine's own names; --allow-host allows one";
        Err(Refusal::new(StatusCode::FORBIDDEN, reason))
    }

    /// What a trusted reverse proxy says in this header, if it says it once.
    pub(super) fn told<'a>(&self, request: &'a Request<()>, name: &str, peer: Peer) -> Option<&'a HeaderValue> {
        let mut said = request.headers().get_all(name).iter();
        match (said.next(), said.next()) {
            (Some(only), None) if self.trusted_proxies.iter().any(|network| network.contains(peer)) => Some(only),
            _ => None,
        }
    }

    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if self.allows(origin) || (self.loopback && is_loopback_origin(origin)) => Ok(()),
            _ => Err(Refusal::new(StatusCode::FORBIDDEN, "the Origin is not allowed; --allow-origin allows one")),
        }
    }

    /// A page can have its browser get something without naming the page's origin, as an image or as a frame: it would
    /// not read the answer, but begin a session. The browser tells all the same that another's page wants it (W3C, "Fetch
    /// Metadata Request Headers").
    pub(super) fn check_site(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let is_anothers = |value: &HeaderValue| matches!(value.as_bytes(), b"cross-site" | b"same-site");
        let is_named = headers.contains_key(header::ORIGIN) || self.allow_origins.iter().any(|allowed| allowed == "*");
        if is_named || !headers.get_all(FETCH_SITE).iter().any(is_anothers) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a page of another origin asks, and its Origin is not named (Sec-Fetch-Site)",
        ))
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        self.allow_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin))
    }

    /// The headers that let an allowed page read the answer (Fetch, "CORS protocol").
    #[must_use]
    pub fn cors(&self, request: &Request<()>) -> Vec<(HeaderName, HeaderValue)> {
        let Some(origin) = request.headers().get(header::ORIGIN).filter(|origin| self.allows(origin)) else {
            return Vec::new();
        };
        let mut headers = vec![
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (header::VARY, HeaderValue::from_static("origin")),
        ];
        if let Ok(names) = HeaderValue::try_from(self.expose_headers.join(", ")) {
            headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, names));
        }
        headers
    }

    /// The headers that the answer to a preflight has besides those of [`Rules::cors`].
    #[must_use]
    pub fn preflight(&self, request: &Request<()>) -> Vec<(HeaderName, HeaderValue)> {
        if !request.headers().get(header::ORIGIN).is_some_and(|origin| self.allows(origin)) {
            return Vec::new();
        }
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let wanted = wanted.cloned().unwrap_or_else(|| HeaderValue::from_static(REQUEST_HEADERS));
        vec![
            (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS")),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, wanted),
            (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
        ]
    }
}

/// Whether it is what an orchestrator asks, by the address that it knows us by.
fn is_probe(request: &Request<()>) -> bool {
    request.uri().path() == "/healthz"
}

/// Whether `host`, with or without a port, names this machine itself.
fn is_loopback(host: &str) -> bool {
    let Some(name) = without_port(host) else { return false };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `host` is the `allowed` one: on any port, unless that names one.
fn is_host(host: &str, allowed: &str) -> bool {
    host.eq_ignore_ascii_case(allowed)
        || without_port(host).is_some_and(|name| name.eq_ignore_ascii_case(allowed.trim_matches(['[', ']'])))
}

/// The name in a `Host`, without the port, and without the brackets of an address.
fn without_port(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(rest) => {
            rest.split_once(']').filter(|(_, port)| port.is_empty() || port.starts_with(':')).map(|all| all.0)
        }
        None => Some(host.rsplit_once(':').map_or(host, |(name, _)| name)),
    }
}

fn is_loopback_origin(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{request, status};
    use super::super::{Action, route};
    use super::*;

    #[test]
    fn who_may_ask() {
        let near = Rules { loopback: true, ..Rules::default() };
        let far = Rules::default();
        let listed = Rules { allow_origins: vec!["https://page.example".into(), "null".into()], ..near.clone() };
        let all = Rules { allow_origins: vec!["*".into()], ..far.clone() };
        for (rules, name, value, wanted) in [
            (&near, "host", "localhost:8080", 200),
            (&near, "host", "LOCALHOST", 200),
            (&near, "host", "127.0.0.1:8080", 200),
            (&near, "host", "127.9.9.9", 200),
            (&near, "host", "[::1]:8080", 200),
            (&near, "host", "evil.example:8080", 403),
            (&near, "host", "[::1].evil.example", 403),
            (&near, "host", "[::1", 403),
            (&near, "host", "localhost.evil.example", 403),
            (&near, "host", "127.0.0.1.evil.example", 403),
            (&near, "host", "", 403),
            (&far, "host", "any.example", 200),
            (&near, "origin", "http://localhost:5173", 200),
            (&near, "origin", "http://[::1]:5173", 200),
            (&near, "origin", "http://evil.example", 403),
            (&near, "origin", "null", 403),
            (&near, "origin", "file://localhost", 403),
            (&far, "origin", "http://localhost:5173", 403),
            (&listed, "origin", "https://page.example", 200),
            (&listed, "origin", "HTTPS://Page.Example", 200),
            (&listed, "origin", "null", 200),
            (&listed, "origin", "https://page.example.evil", 403),
            (&all, "origin", "http://evil.example", 200),
        ] {
            assert_eq!(status("GET /sse", &[(name, value)], rules), wanted, "{name} {value}");
        }
        assert_eq!(status("GET /sse", &[("origin", "http://localhost"), ("origin", "http://a")], &near), 403);
    }

    #[test]
    fn a_page_that_is_not_named_may_not_ask() {
        let near = Rules { loopback: true, ..Rules::default() };
        let listed = Rules { allow_origins: vec!["https://page.example".into()], ..Rules::default() };
        let all = Rules { allow_origins: vec!["*".into()], ..Rules::default() };
        let cross = ("sec-fetch-site", "cross-site");
        for (rules, line, headers, wanted) in [
            (&near, "GET /sse", &[cross][..], 403),
            (&near, "GET /servers/a/sse", &[cross], 403),
            (&near, "GET /sse", &[("sec-fetch-site", "same-site")], 403),
            (&near, "GET /sse", &[("sec-fetch-site", "none"), cross], 403),
            (&near, "GET /sse", &[("sec-fetch-site", "same-origin")], 200),
            (&near, "GET /sse", &[("sec-fetch-site", "none")], 200),
            (&near, "GET /sse", &[cross, ("origin", "http://localhost:5173")], 200),
            (&near, "GET /status", &[cross], 200),
            (&near, "GET /healthz", &[cross], 200),
            (&listed, "GET /sse", &[cross], 403),
            (&listed, "GET /sse", &[cross, ("origin", "https://page.example")], 200),
            (&all, "GET /sse", &[cross], 200),
        ] {
            assert_eq!(status(line, headers, rules), wanted, "{line} {headers:?}");
        }
    }

    #[test]
    fn further_hosts_may_be_named() {
        let allow_hosts =
            vec!["proxy.example".into(), "other.example:81".into(), "[fd00::1]".into(), "10.0.0.1".into()];
        let near = Rules { loopback: true, allow_hosts, ..Rules::default() };
        let far = Rules { loopback: false, ..near.clone() };
        for (host, wanted) in [
            ("proxy.example", 200),
            ("Proxy.Example:8080", 200),
            ("other.example:81", 200),
            ("other.example:82", 403),
            ("other.example", 403),
            ("[fd00::1]", 200),
            ("[fd00::1]:80", 200),
            ("10.0.0.1:80", 200),
            ("10.0.0.2:80", 403),
            ("localhost:80", 200),
            ("evil.example", 403),
            ("proxy.example.evil.example", 403),
            ("evil.proxy.example", 403),
            ("", 403),
        ] {
            for rules in [&near, &far] {
                assert_eq!(status("GET /sse", &[("host", host)], rules), wanted, "{host}");
            }
        }
        assert_eq!(status("GET /healthz", &[("host", "10.9.9.9:80")], &far), 200);
        assert_eq!(status("GET /healthz", &[("host", "evil.example")], &near), 403);
        assert_eq!(status("GET /status", &[("host", "10.9.9.9:80")], &far), 403);
    }

    #[test]
    fn only_allowed_pages_may_read() {
        let rules = Rules {
            allow_origins: vec!["http://a".into()],
            expose_headers: vec!["X-Y".into()],
            loopback: true,
            ..Rules::default()
        };
        let asks = request("OPTIONS /sse", &[("origin", "http://a"), ("access-control-request-method", "GET")]);
        assert_eq!(route(&asks, &rules).map(|asked| asked.action), Ok(Action::Preflight));
        let headers = [rules.cors(&asks), rules.preflight(&asks)].concat();
        let names: Vec<String> = headers.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(
            names,
            [
                "access-control-allow-origin",
                "vary",
                "access-control-expose-headers",
                "access-control-allow-methods",
                "access-control-allow-headers",
                "access-control-max-age"
            ]
        );
        assert_eq!(rules.preflight(&request("OPTIONS /sse", &[("origin", "http://localhost")])), []);
        assert_eq!(rules.cors(&request("GET /sse", &[])), []);
    }

    #[test]
    fn a_page_may_end_a_session() {
        let rules = Rules { allow_origins: vec!["http://a".into()], ..Rules::default() };
        let value = |headers: &[(HeaderName, HeaderValue)], name: HeaderName| {
            headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        let plain = [("origin", "http://a"), ("access-control-request-method", "DELETE")];
        let asks = request("OPTIONS /mcp", &plain);
        let allowed = rules.preflight(&asks);
        let methods = value(&allowed, header::ACCESS_CONTROL_ALLOW_METHODS);
        assert_eq!(methods.as_deref(), Some("GET, POST, DELETE, OPTIONS"));
        assert_eq!(value(&allowed, header::ACCESS_CONTROL_ALLOW_HEADERS).as_deref(), Some(REQUEST_HEADERS));
        let wanted = "mcp-session-id, last-event-id, x-own";
        let asks = request("OPTIONS /mcp", &[&plain[..], &[("access-control-request-headers", wanted)]].concat());
        let allowed = rules.preflight(&asks);
        assert_eq!(value(&allowed, header::ACCESS_CONTROL_ALLOW_HEADERS).as_deref(), Some(wanted));
    }

    #[test]
    fn the_prefix_under_which_we_were_reached() {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let rules = Rules { base_path: "/base".into(), trusted_proxies, ..Rules::default() };
        let long = format!("/{}", "x".repeat(PREFIX_BYTES));
        for (peer, said, wanted) in [
            ("10.1.2.3", "/a", "/a"),
            ("::1", "/a/", "/a"),
            ("::ffff:10.1.2.3", "/a/b", "/a/b"),
            ("11.0.0.1", "/a", "/base"),
            ("10.1.2.3", "/", ""),
            ("10.1.2.3", "", ""),
            ("10.1.2.3", "/a%20b/~c:d@e", "/a%20b/~c:d@e"),
            ("10.1.2.3", &long, "/base"),
            ("10.1.2.3", &long[..PREFIX_BYTES], &long[..PREFIX_BYTES]),
            ("10.1.2.3", "a", "/base"),
            ("10.1.2.3", "//evil.example", "/base"),
            ("10.1.2.3", "/a//b", "/base"),
            ("10.1.2.3", "/a//", "/base"),
            ("10.1.2.3", "//", "/base"),
            ("10.1.2.3", "/..", "/base"),
            ("10.1.2.3", "/a/../b", "/base"),
            ("10.1.2.3", "/a/./b", "/base"),
            ("10.1.2.3", "/a/%2E%2e", "/base"),
            ("10.1.2.3", "http://evil.example/", "/base"),
            ("10.1.2.3", "/a?b", "/base"),
            ("10.1.2.3", "/a#b", "/base"),
            ("10.1.2.3", "/a\"b", "/base"),
            ("10.1.2.3", "/<b>", "/base"),
            ("10.1.2.3", "/a\\b", "/base"),
            ("10.1.2.3", "/a b", "/base"),
            ("10.1.2.3", "/a, /b", "/base"),
            ("10.1.2.3", "/a\tb", "/base"),
        ] {
            let request = request("GET /sse", &[(FORWARDED_PREFIX, said)]);
            assert_eq!(prefix(&request, &rules, Peer::Address(peer.parse().unwrap())), wanted, "{peer} {said}");
        }
        let peer = Peer::Address("10.0.0.1".parse().unwrap());
        assert_eq!(prefix(&request("GET /sse", &[]), &rules, peer), "/base");
        let twice = request("GET /sse", &[(FORWARDED_PREFIX, "/a"), (FORWARDED_PREFIX, "/a")]);
        assert_eq!(prefix(&twice, &rules, peer), "/base");
        let once = request("GET /sse", &[(FORWARDED_PREFIX, "/a")]);
        assert_eq!(
            (prefix(&once, &rules, Peer::Unix), prefix(&once, &rules, Peer::Gone)),
            ("/base".into(), "/base".into())
        );
        let rules = Rules { trusted_proxies: vec!["unix".parse().unwrap()], ..rules };
        assert_eq!((prefix(&once, &rules, Peer::Unix), prefix(&once, &rules, peer)), ("/a".into(), "/base".into()));
    }
}
