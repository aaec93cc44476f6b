//! Addresses: the first line is a base, the second a reference to be read there. What it leads to has the origin that
//! `http`'s own parser sees, since that one decides where a request, and its credentials, go.

use mcp_proxy::protocol::uri::{Origin, resolve};
use mcp_proxy::protocol::{base64, network::Network, proxy};
use ureq_proto::http::Uri;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (base, reference) = text.split_once('\n').unwrap_or((text, ""));
    let resolved = resolve(base, reference);
    for url in [Some(base), Some(reference), resolved.as_deref()].into_iter().flatten() {
        same_origin(url);
    }
    if let (Some(there), Some(origin), Ok(_)) = (&resolved, Origin::of(base), base.parse::<Uri>()) {
        // Without a scheme or an authority of its own, a reference stays where it is read.
        let trimmed = reference.trim();
        let leads_away = trimmed.starts_with("//") || trimmed.split(['/', '?', '#']).next().unwrap_or("").contains(':');
        assert!(leads_away || Origin::of(there) == Some(origin), "'{there}' is elsewhere");
        assert!(!there.contains('#'), "a fragment is sent to nobody");
        let again = resolve(base, there);
        assert!(
            leads_away || there.trim() != there || again.as_ref() == Some(there),
            "an absolute address is what it is: {again:?}"
        );
    }
    let _ = reference.parse::<Network>();
    let env = |name: &str| name.to_ascii_lowercase().starts_with("no_").then(|| reference.to_owned());
    assert_eq!(proxy::choose("https", base, 443, env), None, "no proxy was named");
    let encoded = base64::encode(data);
    assert_eq!(base64::decode(&encoded).as_deref(), Some(data), "there and back");
    if let Some(bytes) = base64::decode(text) {
        assert_eq!(base64::encode(&bytes).trim_end_matches('='), text.trim_end_matches('='), "one text for one value");
    }
}

fn same_origin(url: &str) {
    let (Some(origin), Ok(uri)) = (Origin::of(url), url.parse::<Uri>()) else { return };
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else { return };
    assert_eq!(origin.host, host.to_ascii_lowercase(), "{url}");
    assert_eq!(uri.scheme_str().map(str::to_ascii_lowercase), Some(origin.scheme.clone()), "{url}");
    let default = if origin.scheme == "https" { 443 } else { 80 };
    let has_port = uri.authority().is_some_and(|authority| authority.as_str().ends_with(|c: char| c.is_ascii_digit()));
    if has_port || uri.port_u16().is_some() {
        assert_eq!(origin.port, uri.port_u16().unwrap_or(default), "{url}");
    }
}
