//! Which HTTP proxy the environment names for an address, as curl understands it: `http_proxy`, `https_proxy`,
//! `all_proxy` and `no_proxy`, in small or capital letters; small ones win. Loopback never goes through a proxy.

use std::net::IpAddr;

/// The proxy for `scheme://host:port`, with a scheme; `None` to go there directly. `env` looks a variable up.
#[must_use]
pub fn choose(scheme: &str, host: &str, port: u16, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let host = bare(host).to_ascii_lowercase();
    if is_loopback(&host) || either(&env, "no_proxy").is_some_and(|list| excepts(&list, &host, port)) {
        return None;
    }
    let of_scheme = if scheme.eq_ignore_ascii_case("https") {
        either(&env, "https_proxy")
    } else {
        // A web server hands its client's header `Proxy:` to a CGI program as HTTP_PROXY.
        let capital = || if env("REQUEST_METHOD").is_some() { None } else { set(env("HTTP_PROXY")) };
        set(env("http_proxy")).or_else(capital)
    };
    let proxy = of_scheme.or_else(|| either(&env, "all_proxy"))?;
    Some(if proxy.contains("://") { proxy } else { format!("http://{proxy}") })
}

/// Whether the host is this machine by its very name.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

fn either(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    set(env(name)).or_else(|| set(env(&name.to_ascii_uppercase())))
}

fn set(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Without the brackets of an IPv6 address and without the dot that ends an absolute name.
fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether the list of exceptions holds the host.
fn excepts(list: &str, host: &str, port: u16) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let (name, of_port) = with_port(entry);
        entry == "*" || (of_port.is_none_or(|p| p == port) && matches(&name.to_ascii_lowercase(), host))
    })
}

/// `name`, `name:port`, `[v6]:port`; a bare IPv6 address has no port.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            port.parse().map_or((entry, None), |port| (name, Some(port)))
        }
        _ => (entry, None),
    }
}

fn matches(name: &str, host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return in_range(name, ip.to_canonical());
    }
    let name = bare(name.strip_prefix("*.").unwrap_or(name).trim_start_matches('.'));
    !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|front| front.ends_with('.')))
}

/// Whether `range`, an address or a CIDR block, holds `ip`.
fn in_range(range: &str, ip: IpAddr) -> bool {
    let (address, length) = match range.split_once('/') {
        Some((address, length)) => (address, length.parse::<u32>().ok()),
        None => (range, Some(128)),
    };
    let (Some(length), Ok(address)) = (length, bare(address).parse::<IpAddr>()) else { return false };
    match (address.to_canonical(), ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            // A block in IPv6's spelling of IPv4 has 96 bits in front.
            let length = if address.is_ipv6() && range.contains('/') { length.saturating_sub(96) } else { length };
            shares(u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96, length.min(32))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => shares(a.to_bits(), b.to_bits(), length.min(128)),
        _ => false,
    }
}

/// Whether the first `length` bits are the same.
fn shares(a: u128, b: u128, length: u32) -> bool {
    length == 0 || (a ^ b) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(env: &[(&str, &str)], scheme: &str, host: &str, port: u16) -> Option<String> {
        choose(scheme, host, port, |name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let check = |env: &[(&str, &str)], scheme: &str, expected: Option<&str>| {
            assert_eq!(chosen(env, scheme, "host", 80).as_deref(), expected, "{env:?} {scheme}");
        };
        check(&[], "http", None);
        check(&[("http_proxy", "http://p:1")], "http", Some("http://p:1"));
        check(&[("http_proxy", "http://p:1")], "https", None);
        check(&[("https_proxy", "http://p:1")], "https", Some("http://p:1"));
        check(&[("HTTPS_PROXY", "http://p:1")], "https", Some("http://p:1"));
        check(&[("HTTPS_PROXY", "http://p:1")], "http", None);
        check(&[("HTTP_PROXY", "http://p:1")], "http", Some("http://p:1"));
        check(&[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")], "http", None);
        check(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:1")], "http", Some("http://a:1"));
        check(&[("all_proxy", "p:1")], "http", Some("http://p:1"));
        check(&[("ALL_PROXY", "p:1")], "https", Some("http://p:1"));
        check(&[("ALL_PROXY", "p:1"), ("https_proxy", "q:1")], "https", Some("http://q:1"));
        check(&[("http_proxy", ""), ("ALL_PROXY", "p:1")], "http", Some("http://p:1"));
        check(&[("http_proxy", "  ")], "http", None);
    }

    #[test]
    fn loopback_goes_directly() {
        for host in
            ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "[::1]", "::1", "::ffff:127.0.0.1"]
        {
            assert_eq!(chosen(&[("all_proxy", "p:1")], "http", host, 80), None, "{host}");
        }
        assert!(chosen(&[("all_proxy", "p:1")], "http", "localhost.example.com", 80).is_some());
    }

    #[test]
    fn exceptions_are_names_addresses_and_ranges() {
        for (list, host, direct) in [
            ("*", "host", true),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.com.", true),
            ("example.com", "a.example.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "a.example.com", true),
            (".example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("Example.COM", "example.com", true),
            ("a.com, b.com", "b.com", true),
            ("a.com b.com", "b.com", true),
            (",,", "a.com", false),
            (".", "a.com", false),
            ("example.com:8080", "example.com", true),
            ("example.com:8081", "example.com", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("10.0.0.1:8080", "10.0.0.1", true),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.168.1.64/26", "192.168.1.127", true),
            ("192.168.1.64/26", "192.168.1.128", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "example.com", false),
            ("10.0.0.0/x", "10.0.0.1", false),
            ("0.0.1", "10.0.0.1", false),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("[2001:db8::1]:8080", "[2001:db8::1]", true),
            ("[2001:db8::1]:8081", "[2001:db8::1]", false),
            ("::ffff:10.0.0.0/104", "10.1.1.1", true),
        ] {
            let found = chosen(&[("http_proxy", "p:1"), ("no_proxy", list)], "http", host, 8080);
            assert_eq!(found.is_none(), direct, "{list} {host}");
        }
        assert_eq!(chosen(&[("http_proxy", "p:1"), ("NO_PROXY", "*")], "http", "host", 80), None);
    }
}
