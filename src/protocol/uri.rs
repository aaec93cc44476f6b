//! Where a reference leads, and whether two addresses have the same origin: RFC 3986, section 5, and RFC 6454,
//! as far as `http` and `https` need them. Text in, text out; nothing is decoded.

/// Scheme, host and port: two addresses with the same three may see each other's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// In lower case.
    pub scheme: String,
    /// In lower case; an IPv6 address is in brackets.
    pub host: String,
    /// The default of the scheme where none is written.
    pub port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` address; `None` for everything else.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default = match &*scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
        let after_brackets = host_and_port.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match host_and_port[after_brackets..].find(':') {
            None => (host_and_port, default),
            Some(at) => match &host_and_port[after_brackets + at + 1..] {
                "" => (&host_and_port[..after_brackets + at], default),
                port => (&host_and_port[..after_brackets + at], port.parse().ok()?),
            },
        };
        // Brackets hold an IPv6 address and nothing else: another reader takes what is inside for the host, whatever
        // stands around them.
        let is_whole = match host.strip_prefix('[') {
            Some(rest) => rest.find(['[', ']']) == Some(rest.len().saturating_sub(1)) && rest.ends_with(']'),
            None => !host.contains(['[', ']']),
        };
        (!host.is_empty() && is_whole).then(|| Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

/// The address that `reference` means to somebody who reads it at `base`, without a fragment.
#[must_use]
pub fn resolve(base: &str, reference: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let base_path = rest.split('?').next().unwrap_or_default();
    let reference = reference.trim().split('#').next().unwrap_or_default();
    if has_scheme(reference) {
        return Some(reference.to_owned());
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if reference.is_empty() {
        return Some(format!("{scheme}://{authority}{rest}"));
    }
    let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    let path = if path.is_empty() {
        base_path.to_owned()
    } else if path.starts_with('/') {
        without_dots(path)
    } else {
        let folder = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
        without_dots(&format!("{folder}{path}"))
    };
    Some(format!("{scheme}://{authority}{path}{query}"))
}

fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// RFC 3986, section 5.2.4, for a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_where_rfc_3986_says() {
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("http://other:1/x", "http://other:1/x"),
            ("mailto:x", "mailto:x"),
            (" /trimmed ", "http://a/trimmed"),
        ] {
            assert_eq!(resolve("http://a/b/c/d;p?q", reference).as_deref(), Some(expected), "{reference:?}");
        }
    }

    #[test]
    fn a_base_without_a_path_is_a_folder() {
        for (base, reference, expected) in [
            ("http://a", "g", "http://a/g"),
            ("http://a?q=/x", "g", "http://a/g"),
            ("http://a:8080", "?y", "http://a:8080?y"),
            ("https://a/sse", "messages/?session_id=1", "https://a/messages/?session_id=1"),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), Some(expected), "{base} {reference}");
        }
        assert_eq!(resolve("/sse", "g"), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, same) in [
            ("http://Host/sse", "HTTP://hOST:80/other?x"),
            ("https://host:443", "https://host/"),
            ("http://host:8080/", "http://user:pw@host:8080/x"),
            ("http://[::1]:80/", "http://[::1]/"),
            ("http://host:/", "http://host"),
        ] {
            assert_eq!(Origin::of(url), Origin::of(same), "{url} {same}");
            assert!(Origin::of(url).is_some());
        }
        for (url, other) in [
            ("http://host/", "https://host/"),
            ("http://host/", "http://host:8080/"),
            ("http://host/", "http://host.evil/"),
            ("http://host/", "http://host@evil/"),
            ("http://host/", "http://evil?@host/"),
        ] {
            assert_ne!(Origin::of(url), Origin::of(other), "{url} {other}");
        }
        for none in ["ftp://host/", "host", "/path", "http://", "http://:80/", "http://host:99999/", "http://host:x/"] {
            assert_eq!(Origin::of(none), None, "{none}");
        }
    }

    #[test]
    fn nothing_stands_around_the_brackets_of_a_host() {
        for url in ["http://[::1]x/", "http://x[::1]/", "http://a]b/", "http://[a[b]/", "http://[::1/", "http://[/"] {
            assert_eq!(Origin::of(url), None, "{url}");
        }
    }
}
