//! How we prove to a remote server who we are: basic and digest authentication, tokens of an authorization server.
//! Every proof goes to its own server, and what is secret is in no error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use mcp_proxy::log::Secret;
use mcp_proxy::protocol::era::Protocol;
use mcp_proxy::upstream::auth::{Auth, Credentials, Login};
use mcp_proxy::upstream::http::{Client, Remote as Address, Transport, Verify};
use mcp_proxy::upstream::sse::Attempt;
use mcp_proxy::upstream::waits::Bystander;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::remote::{Remote, behave};

struct Nobody;
impl Bystander for Nobody {
    fn long(&self) {}
}

/// Connects over HTTP+SSE: nothing, or why not.
fn connect(remote: &Remote, auth: Auth, headers: &[(&'static str, &str)]) -> Result<(), String> {
    let address = Address {
        url: remote.url("/sse").parse().unwrap(),
        headers: headers.iter().map(|(n, v)| (n.parse().unwrap(), Secret::new((*v).to_owned()))).collect(),
        transport: Transport::Sse,
        protocol: Protocol::Auto,
        auth,
        certificate: None,
        verify: Verify::Public,
        message_limit_bytes: 1 << 20,
        timeout: Duration::from_secs(10),
    };
    let attempt = Attempt::new(Arc::new(Client::new(address).unwrap()), Arc::new(Nobody));
    let done = attempt.connect().map(drop).map_err(|failure| failure.why);
    attempt.stop("the test is over");
    if let Err(why) = &done {
        assert!(!why.contains("geheim"), "{why}");
    }
    done
}

fn login() -> Login {
    Login { username: "Jürgen".into(), password: Secret::new("geheim".into()) }
}

fn unauthorized(challenge: &str) -> String {
    format!("HTTP/1.1 401 Unauthorized\r\n{challenge}Content-Length: 0\r\n\r\n")
}

/// A server that takes only these values of `Authorization`, one a request.
fn wants(values: &'static [&'static str], challenge: &'static str) -> Remote {
    Remote::start(move |request, connection| {
        if values.contains(&request.header("authorization")) {
            behave(request, connection);
        } else {
            connection.write(unauthorized(challenge));
        }
    })
}

#[test]
fn a_name_and_a_password_are_sent_as_utf_8() {
    let remote = wants(&["Basic SsO8cmdlbjpnZWhlaW0="], "");
    assert_eq!(connect(&remote, Auth::Basic(login()), &[]), Ok(()));
    assert_eq!(remote.requests().len(), 1);
}

#[test]
fn a_login_that_is_refused_is_not_repeated() {
    let remote = wants(&[], "");
    let why = connect(&remote, Auth::Basic(login()), &[]).unwrap_err();
    assert!(why.ends_with("answered 401 Unauthorized; it does not take the name and the password"), "{why}");
    assert_eq!(remote.requests().len(), 1);
}

#[test]
fn a_header_of_the_user_wins() {
    let remote = wants(&["Bearer own"], "");
    assert_eq!(connect(&remote, Auth::Basic(login()), &[("authorization", "Bearer own")]), Ok(()));
}

#[test]
fn a_digest_answers_the_challenge_once() {
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\n";
    let remote = Remote::start(move |request, connection| match request.header("authorization") {
        "" => connection.write(unauthorized(challenge)),
        _ => behave(request, connection),
    });
    assert_eq!(connect(&remote, Auth::Digest(login()), &[]), Ok(()));
    let requests = remote.requests();
    let sent = requests[1].header("authorization");
    assert!(
        sent.contains("username*=UTF-8''J%C3%BCrgen, ")
            && sent.contains("uri=\"/sse\"")
            && sent.contains("nc=00000001")
            && !sent.contains("geheim"),
        "{sent}"
    );

    for (challenge, count, expected) in [
        (challenge, 2, "it does not take the name and the password by digest authentication"),
        ("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=X\r\n", 1, "other than MD5 and SHA-256"),
        ("WWW-Authenticate: Basic realm=\"r\"\r\n", 1, "by digest authentication"),
    ] {
        let remote = wants(&[], challenge);
        let why = connect(&remote, Auth::Digest(login()), &[]).unwrap_err();
        assert!(why.ends_with(expected), "{why}");
        assert_eq!(remote.requests().len(), count, "{challenge}");
    }
}

fn json(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn client_of(tokens: &Remote) -> Auth {
    let (client_id, client_secret) = ("me".into(), Secret::new("geheim".into()));
    Auth::ClientCredentials(Credentials { client_id, client_secret, token_url: tokens.url("/token").parse().unwrap() })
}

/// An authorization server whose tokens are `t1`, `t2` and so on.
fn tokens() -> Remote {
    let given = AtomicUsize::new(0);
    Remote::start(move |_, connection| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        let body = format!("{{\"access_token\":\"t{number}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}");
        connection.write(json(200, &body));
    })
}

#[test]
fn a_token_is_asked_for_and_once_more_after_a_401() {
    for (taken, expected, requests) in [
        (&["Bearer t1"][..], Ok(()), 1),
        (&["Bearer t2"][..], Ok(()), 2),
        (&[][..], Err("it does not take a new token"), 2),
    ] {
        let (tokens, remote) = (tokens(), wants(taken, ""));
        let done = connect(&remote, client_of(&tokens), &[]);
        match expected {
            Ok(()) => assert_eq!(done, Ok(())),
            Err(end) => assert!(done.unwrap_err().ends_with(end)),
        }
        assert_eq!((remote.requests().len(), tokens.requests().len()), (requests, requests));
        let asked = &tokens.requests()[0];
        assert_eq!(asked.line, "POST /token");
        assert_eq!(asked.header("authorization"), "Basic bWU6Z2VoZWlt");
        assert!(asked.text().starts_with("grant_type=client_credentials&resource=http%3A%2F%2F127.0.0.1"));
    }
}

#[test]
fn an_authorization_server_may_want_it_otherwise() {
    let tokens = Remote::start(|request, connection| match &*request.text() {
        text if !request.header("authorization").is_empty() || !text.contains("client_secret=geheim") => {
            connection.write(json(401, r#"{"error":"invalid_client"}"#));
        }
        text if text.contains("resource=") => connection.write(json(400, r#"{"error":"invalid_target"}"#)),
        _ => connection.write(json(200, r#"{"access_token":"t","token_type":"bearer"}"#)),
    });
    assert_eq!(connect(&wants(&["Bearer t"], ""), client_of(&tokens), &[]), Ok(()));
    assert_eq!(tokens.requests().len(), 3);
}

#[test]
fn why_there_is_no_token_is_said() {
    for (response, expected) in [
        (json(400, r#"{"error":"invalid_scope","error_description":"no geheim"}"#), "400 Bad Request (invalid_scope)"),
        (json(200, "{}"), "there is no access_token"),
        ("HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".into(), "it answered 302 Found"),
    ] {
        let (tokens, remote) = (Remote::start(move |_, connection| connection.write(&response)), Remote::mcp());
        let why = connect(&remote, client_of(&tokens), &[]).unwrap_err();
        assert!(why.ends_with(expected), "{why}");
        assert!(remote.requests().is_empty());
    }
}
