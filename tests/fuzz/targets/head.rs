//! Heads of HTTP requests: each is refused, or read as by the simplest reader there is; then what is decided on it.

use mcp_proxy::protocol::access::Tokens;
use mcp_proxy::protocol::head::{self, Framing, Head, Known};
use mcp_proxy::protocol::http::{self, Refusal, Rules, resource};
use mcp_proxy::protocol::message::Message;
use mcp_proxy::protocol::network::Peer;
use ureq_proto::http::HeaderValue;

const TOKEN: &str = "0123456789abcdef";

pub fn check(data: &[u8]) {
    let end = head::end(data);
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        let before = &data[..cut];
        assert!(head::end(before).is_none_or(|found| Some(found) == end), "the end stays where it is");
        assert!(!head::is_foreign(before) || head::is_foreign(data), "what is foreign stays foreign");
    }
    let Some(end) = end else { return };
    assert!(head::end(&data[..end - 1]).is_none() && head::end(&data[..end]) == Some(end));
    match head::read(&data[..end]) {
        Ok(found) => {
            // A method in small letters can be refused before the rest has come, or when it has.
            let method = found.request.method().as_str();
            let is_usual = method.len() <= 20 && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            assert!(!is_usual || !head::is_foreign(data), "it is a request");
            as_a_simple_reader(&data[..end], &found);
            known(data, end, &found);
            decide(&found);
        }
        Err(refusal) => shown(&refusal),
    }
}

/// Lines with CRLF, one colon each: everybody reads the same.
fn as_a_simple_reader(bytes: &[u8], found: &Head) {
    let text = bytes.trim_ascii_start();
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let words: Vec<_> = lines.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
    assert_eq!(words.len(), 3);
    assert_eq!(found.request.method().as_str().as_bytes(), words[0]);
    let mut headers: Vec<(Vec<u8>, &[u8])> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let at = line.iter().position(|byte| *byte == b':').expect("each header has a colon");
        headers.push((line[..at].to_ascii_lowercase(), line[at + 1..].trim_ascii()));
    }
    assert_eq!(found.request.headers().len(), headers.len());
    for (name, value) in &headers {
        let name = std::str::from_utf8(name).expect("a name is ASCII");
        let mut all = found.request.headers().get_all(name).iter();
        assert!(all.any(|read| read.as_bytes() == *value), "{name} says something else");
    }
    let all = |name: &str| headers.iter().filter(|(known, _)| known == name.as_bytes()).collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "one way to find the end of the body");
    let length = lengths.first().map(|(_, value)| String::from_utf8_lossy(value).parse::<u64>().expect("a number"));
    let wanted = match (length, codings.is_empty()) {
        (_, false) => Framing::Chunked,
        (None | Some(0), true) => Framing::None,
        (Some(length), true) => Framing::Length(length),
    };
    assert_eq!(found.body.framing, wanted);
    assert!(all("host").len() == 1 || words[2] == b"HTTP/1.0" && all("host").is_empty());
}

/// A head that is known again is read as it would be anew, whatever follows it.
fn known(data: &[u8], end: usize, found: &Head) {
    let Some(known) = Known::new(&data[..end], found) else { return };
    let Some((length, again)) = known.again(data) else {
        // One with more digits is read anew each time.
        let digits = |line: &[u8]| line.iter().filter(|byte| byte.is_ascii_digit()).count();
        assert!(data.split(|byte| *byte == b'\n').any(|line| digits(line) > 15), "it is the same");
        return;
    };
    assert_eq!((length, again.body.framing, again.close), (end, found.body.framing, found.close));
    for other in ["0", "1", "00012", "999999999999999", "1234567890123456", "+1", ""] {
        let text = data[..end].to_vec();
        let text = String::from_utf8_lossy(&text).into_owned();
        let Framing::Length(own) = found.body.framing else { return };
        let text = text.replacen(&format!(": {own}\r\n"), &format!(": {other}\r\n"), 1);
        let Some((length, again)) = known.again(text.as_bytes()) else { continue };
        assert_eq!(Some(length), head::end(text.as_bytes()));
        let Ok(anew) = head::read(&text.as_bytes()[..length]) else { panic!("'{other}' is refused when it is new") };
        assert_eq!((again.body.framing, again.close), (anew.body.framing, anew.close));
        assert_eq!(again.request.uri(), anew.request.uri());
    }
}

/// Everything that is decided on a head, for listeners of several kinds.
fn decide(found: &Head) {
    let request = &found.request;
    let network = "127.0.0.0/8".parse().expect("a network");
    let public = Rules {
        allow_hosts: vec!["mcp.example".into()],
        allow_origins: vec!["https://app.example".into()],
        expose_headers: vec!["x-own".into()],
        base_path: "/base".into(),
        trusted_proxies: vec![network],
        auth_servers: vec!["https://auth.example".into()],
        public_url: None,
        ..Rules::default()
    };
    let behind = Rules { stateless: true, public_url: Some("https://mcp.example".into()), ..public.clone() };
    let local = Rules { loopback: true, allow_origins: vec!["*".into()], ..Rules::default() };
    let peer = Peer::Address([127, 0, 0, 1].into());
    for rules in [public, behind, local] {
        let asked = http::route(request, &rules);
        if let Err(refusal) = &asked {
            shown(refusal);
        }
        let _ = resource::is_for_anybody(request, &asked);
        if let Some(document) = resource::document(request, &rules, peer) {
            let json: serde_json::Value = serde_json::from_slice(&document).expect("a document is JSON");
            let named = json["resource"].as_str().expect("it names the resource");
            assert!(named.starts_with("http") && !named.contains(|c: char| c.is_control()), "{named:?}");
        }
        for why in [mcp_proxy::protocol::access::Denied::NoToken, mcp_proxy::protocol::access::Denied::WrongToken] {
            challenge(&resource::challenge(request, &rules, peer, why));
        }
        let prefix = http::prefix(request, &rules, peer);
        assert!(prefix.is_empty() || prefix.starts_with('/') && !prefix.contains("//") && !prefix.ends_with('/'));
        let endpoint = http::endpoint(&prefix, None, "id");
        assert!(endpoint.bytes().all(|byte| byte.is_ascii_graphic()), "{endpoint:?}");
        let _ = (rules.cors(request), rules.preflight(request));
    }
    let tokens = Tokens::of_words(TOKEN).expect("a token");
    let values: Vec<_> = request.headers().get_all("authorization").iter().map(HeaderValue::as_bytes).collect();
    let is_right = |value: &[u8]| {
        let (scheme, token) = value.split_at(value.len().min(7));
        scheme.eq_ignore_ascii_case(b"bearer ") && token.trim_ascii() == TOKEN.as_bytes()
    };
    if tokens.check(request.headers()).is_ok() {
        assert!(values.len() == 1 && is_right(values[0]), "let in without the token");
    }
}

/// Its quotes come in pairs: nobody got out of a quoted string.
fn challenge(value: &HeaderValue) {
    let text = value.to_str().expect("visible ASCII");
    assert!(text.starts_with("Bearer ") && text.matches('"').count().is_multiple_of(2), "{text}");
}

/// What the client reads of a refusal.
fn shown(refusal: &Refusal) {
    assert!(refusal.status.is_client_error() || refusal.status.is_server_error());
    assert!(Message::parse(refusal.message().into_bytes()).is_ok_and(|message| message.is_error()));
}
