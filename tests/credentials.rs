//! Where our requests go, and who sees the user's headers: redirects, proxies, certificates. Secrets reach the
//! origin that the user named, and nobody else; none is ever shown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use support::remote::{ACCEPTED, Connection, Remote, Request, answer, behave};
use support::{Process, SOON, command, free_address, proxy};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
const OPTIONS: [&str; 5] = ["--debug", "--api-access-token", "geheim", "-H", "X-Key: geheim"];

fn connect(url: &str, options: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut process = Process::start(proxy().args(OPTIONS).args(options).arg(url).envs(environment.iter().copied()));
    process.write(format!("{INITIALIZE}\n").as_bytes());
    process
}

/// The answer to `initialize`: what the server did, or the error.
fn outcome(process: &Process) -> String {
    let answer: Value = serde_json::from_slice(&process.lines(1)[0]).unwrap();
    assert!(!process.stderr().contains("geheim"), "{}", process.stderr());
    let found = answer["result"]["did"].as_str().or(answer["error"]["message"].as_str());
    found.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Whether each request carried the user's headers.
fn trusted(requests: &[Request]) -> Vec<bool> {
    let whole = |r: &Request| (r.header("authorization") == "Bearer geheim", r.header("x-key") == "geheim");
    requests.iter().map(|request| whole(request) == (true, true)).collect()
}

fn untouched(requests: &[Request]) -> bool {
    requests.iter().all(|r| r.header("authorization").is_empty() && r.header("x-key").is_empty())
}

fn redirect(status: u16, to: &str) -> String {
    format!("HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 5\r\n\r\nmoved")
}

#[test]
fn a_redirect_within_the_origin_is_followed_with_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let remote = Remote::start(move |request, connection| match &*request.line {
            "GET /old" => connection.write(redirect(status, "new/sse?x=1")),
            _ => behave(request, connection),
        });
        let process = connect(&remote.url("/old"), &["--transport", "sse"], &[]);
        assert_eq!(outcome(&process), "initialize", "{status}");
        let lines: Vec<_> = remote.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["GET /old", "GET /new/sse?x=1", "POST /messages/?session_id=1"]);
        assert_eq!(trusted(&remote.requests()), [true, true, true]);
    }
}

#[test]
fn a_redirect_to_another_origin_is_followed_without_credentials() {
    let other = Remote::mcp();
    let to = other.url("/sse");
    let remote = Remote::start(move |_, connection| connection.write(redirect(302, &to)));
    let process = connect(&remote.url("/sse"), &[], &[]);
    assert_eq!(outcome(&process), "initialize");
    assert_eq!(trusted(&remote.requests()), [true]);
    assert_eq!(other.requests().len(), 2);
    assert!(untouched(&other.requests()), "{:?}", other.requests());
}

#[test]
fn a_redirect_that_leads_nowhere_is_explained() {
    let shown = "'http://HOST/sse'";
    for (response, expected) in [
        (redirect(302, "/sse"), format!("{shown} redirects more than 5 times")),
        (
            redirect(302, "ftp://host/x?geheim"),
            format!("{shown} redirects to 'ftp://host/x', which is no http or https address"),
        ),
        (
            "HTTP/1.1 302 Moved\r\nContent-Length: 0\r\n\r\n".into(),
            format!("{shown} redirects without saying where to"),
        ),
    ] {
        let remote = Remote::start(move |_, connection| connection.write(&response));
        let process = connect(&remote.url("/sse"), &[], &[]);
        assert_eq!(outcome(&process), expected.replace("HOST", &remote.address().to_string()));
        assert!(remote.requests().len() <= 6);
    }
}

#[test]
fn a_post_follows_redirects_within_the_origin_alone() {
    let other = Arc::new(Remote::mcp());
    let foreign = other.url("/m");
    let remote = Remote::start(move |request, connection| {
        let text = request.text();
        match &*request.line {
            "POST /new" => behave(request, connection),
            line if line.starts_with("GET ") => behave(request, connection),
            _ if text.contains("initialize") => connection.write(redirect(307, "/new")),
            _ if text.contains("\"308\"") => connection.write(redirect(308, "/new")),
            _ if text.contains("foreign") => connection.write(redirect(307, &foreign)),
            _ => connection.write(redirect(301, "/new")),
        }
    });
    let mut process = connect(&remote.url("/sse"), &[], &[]);
    assert_eq!(outcome(&process), "initialize");
    for method in ["308", "foreign", "301"] {
        process.write(format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{method}\",\"method\":\"{method}\"}}\n").as_bytes());
    }
    let lines: Vec<Value> = process.lines(4).iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let found = |id: &str| lines.iter().find(|line| line["id"] == id).unwrap();
    let posts = remote.url("/messages/");
    assert_eq!(found("308")["result"]["did"], "308");
    let expected = format!("'{posts}' redirects to another origin ('{}'), which is not followed", other.url("/m"));
    assert_eq!(found("foreign")["error"]["message"], expected);
    assert_eq!(found("301")["error"]["message"], format!("'{posts}' answered 301 Moved Permanently"));
    assert!(other.requests().is_empty());
    assert!(trusted(&remote.requests()).iter().all(|trusted| *trusted));
}

/// A proxy that is the server itself: it sees how it is asked, and answers.
fn speaks_for_all() -> Remote {
    fn either(request: &Request, connection: &mut Connection<'_>) {
        if request.line.starts_with("CONNECT ") {
            return connection.write("HTTP/1.1 200 Go ahead\r\n\r\n");
        }
        if request.line.starts_with("GET ") {
            return connection.stream("event: endpoint\ndata: /m\n\n");
        }
        connection.write(ACCEPTED);
        connection.event(answer(&request.body).unwrap());
    }
    Remote::start(either)
}

#[test]
fn the_environment_chooses_the_proxy() {
    let through = ["GET http://remote.test:81/sse", "POST http://remote.test:81/m"];
    for (name, value) in [
        ("http_proxy", "http://PROXY"),
        ("HTTP_PROXY", "PROXY"),
        ("all_proxy", "http://PROXY/"),
        ("ALL_PROXY", "PROXY"),
    ] {
        let remote = speaks_for_all();
        let value = value.replace("PROXY", &remote.address().to_string());
        let process = connect("http://remote.test:81/sse", &[], &[(name, &value)]);
        assert_eq!(outcome(&process), "initialize", "{name}={value}");
        let lines: Vec<_> = remote.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, through, "{name}={value}");
        assert_eq!(trusted(&remote.requests()), [true, true]);
        assert_eq!(remote.requests()[0].header("host"), "remote.test:81");
    }
}

#[test]
fn a_proxy_with_a_password_is_asked_for_a_tunnel() {
    let remote = speaks_for_all();
    let value = format!("http://me:geheim@{}", remote.address());
    let process = connect("http://remote.test/sse", &[], &[("http_proxy", &value)]);
    assert_eq!(outcome(&process), "initialize");
    let requests = remote.requests();
    let mut lines: Vec<_> = requests.iter().map(|request| &*request.line).collect();
    lines.dedup();
    assert_eq!(lines, ["CONNECT remote.test:80", "GET /sse", "CONNECT remote.test:80", "POST /m"]);
    assert_eq!(requests[0].header("proxy-authorization"), "Basic bWU6Z2VoZWlt");
    assert_eq!(trusted(&requests), [false, true, false, true]);
    assert!(requests[1].header("proxy-authorization").is_empty());
}

#[test]
fn what_is_near_goes_directly() {
    let remote = Remote::mcp();
    let proxy = Remote::start(|_, connection| connection.close());
    let environment = [("all_proxy", &*proxy.url("")), ("http_proxy", &*proxy.url(""))];
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}/sse", remote.address().port());
        assert_eq!(outcome(&connect(&url, &[], &environment)), "initialize");
    }
    for no_proxy in ["*", "remote.invalid", ".invalid", "x, invalid:80"] {
        let environment = [environment[0], ("no_proxy", no_proxy)];
        let told = outcome(&connect("http://remote.invalid/sse", &[], &environment));
        assert!(told.ends_with("is the name of the host right?"), "{told}");
    }
    assert!(proxy.requests().is_empty());
}

#[test]
fn a_proxy_that_does_not_help_is_named() {
    let closed = free_address().to_string();
    let refuses = Remote::start(|_, connection| connection.write("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"));
    let refusing = format!("http://me:geheim@{}", refuses.address());
    for (url, value, expected) in [
        (
            "http://remote.test/sse?geheim",
            &*closed,
            "cannot reach 'http://remote.test/sse' through the proxy 'http://PROXY': connection refused; is the proxy running?",
        ),
        (
            "https://remote.test/sse",
            &*refusing,
            "cannot reach 'https://remote.test/sse' through the proxy 'http://PROXY': the proxy refuses: proxy server responded 407/407",
        ),
        (
            "http://remote.test/sse",
            "socks5://me:geheim@host:1080",
            "the proxy 'socks5://host:1080' of the environment is neither http nor https",
        ),
    ] {
        let process = connect(url, &[], &[("all_proxy", value)]);
        let address = value.rsplit('@').next().unwrap().trim_start_matches("http://");
        assert_eq!(outcome(&process), expected.replace("PROXY", address));
    }
}

/// TLS in front of a plain server. It is Python's: one that we did not write.
struct Tls {
    process: Process,
}

impl Tls {
    fn start(behind: &Remote) -> Self {
        let folder = folder();
        let file = |name: &str| folder.join(name);
        let mut python = command("python3");
        python.args([file("terminate.py"), file("server.pem"), file("server.key")]);
        Self { process: Process::start(python.arg(behind.address().port().to_string())) }
    }

    fn port(&self) -> String {
        String::from_utf8(self.process.lines(1).remove(0)).unwrap().trim().to_owned()
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls")
}

#[test]
fn certificates_are_checked_as_the_user_says() {
    let remote = Remote::mcp();
    let tls = Tls::start(&remote);
    let authority = folder().join("ca.pem").display().to_string();
    let ours: [&str; 2] = ["--verify-ssl", &authority];
    let (https, by_address) =
        (format!("https://localhost:{}/sse", tls.port()), format!("https://127.0.0.1:{}/sse", tls.port()));
    for (url, options, expected) in [
        (&https, &ours[..], "initialize"),
        (&https, &["--no-verify-ssl"], "initialize"),
        (&by_address, &["--verify-ssl=no"], "initialize"),
        (
            &https,
            &[],
            "cannot reach 'URL': its certificate is not trusted (invalid peer certificate: UnknownIssuer); --verify-ssl FILE trusts your own authority",
        ),
    ] {
        let process = connect(url, options, &[]);
        assert_eq!(outcome(&process), expected.replace("URL", url), "{options:?}");
        let warned = process.stderr().contains("warning: certificates are not checked");
        assert_eq!(warned, expected == "initialize" && options != ours);
    }
    let told = outcome(&connect(&by_address, &ours, &[]));
    assert!(told.starts_with(&format!("cannot reach '{by_address}': its certificate is not valid (")), "{told}");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/sse", plain.local_addr().unwrap().port());
    // Whoever is told before the client has said anything comes again.
    thread::spawn(move || {
        for connection in plain.incoming() {
            let _ = connection.and_then(|mut connection| connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    let told = outcome(&connect(&url, &ours, &[]));
    assert!(told.starts_with(&format!("cannot reach '{url}': no encrypted connection (")), "{told}");
    assert!(told.ends_with("; is it https at all?"), "{told}");
    assert_eq!(trusted(&remote.requests()), [true; 6]);
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let plain = Remote::mcp();
    let to = plain.url("/sse");
    let remote = Remote::start(move |_, connection| connection.write(redirect(302, &to)));
    let tls = Tls::start(&remote);
    let url = format!("https://localhost:{}/sse", tls.port());
    let told = outcome(&connect(&url, &["--no-verify-ssl"], &[]));
    let expected = format!("'{url}' redirects to '{}', which is not encrypted and not followed", plain.url("/sse"));
    assert_eq!(told, expected);
    assert!(plain.requests().is_empty());
}

#[test]
fn large_messages_and_a_lost_session_pass_through_tls_and_a_tunnel() {
    let remote = Remote::mcp();
    let tls = Tls::start(&remote);
    let port = tls.port();
    // A proxy that opens tunnels: whatever is asked for, to the one server there is.
    let tunnel = Remote::start(move |request, connection| {
        assert!(request.line.starts_with("CONNECT remote.test:443"), "{}", request.line);
        connection.write("HTTP/1.1 200 Go ahead\r\n\r\n");
        connection.join(&format!("127.0.0.1:{port}"));
    });
    let authority = folder().join("ca.pem").display().to_string();
    let environment = [("https_proxy", &*tunnel.address().to_string())];
    let mut process = connect("https://remote.test/sse", &["--verify-ssl", &authority], &environment);
    assert_eq!(outcome(&process), "initialize");
    let large = "x".repeat(3 << 20);
    for (number, id) in (2..5).enumerate() {
        process.write(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{large}"}}{}"#, "\n").as_bytes());
        let answer = process.lines(number + 2).pop().unwrap();
        assert!(answer.len() > large.len(), "{}", String::from_utf8_lossy(&answer[..answer.len().min(300)]));
        if id == 3 {
            remote.break_streams();
            process.wait_for_stderr("the connection is lost");
        }
    }
    assert!(untouched(&tunnel.requests()), "{:?}", tunnel.requests());
    process.close_stdin();
    assert_eq!(process.finish(SOON).code(), Some(0));
}

#[test]
fn an_endpoint_of_another_origin_gets_nothing() {
    let other = Remote::mcp();
    let to = other.url("/messages/");
    let remote = Remote::start(move |_, connection| connection.stream(&format!("event: endpoint\ndata: {to}\n\n")));
    let told = outcome(&connect(&remote.url("/sse"), &["--transport", "sse"], &[]));
    assert!(told.contains("names an endpoint of another origin"), "{told}");
    assert!(other.requests().is_empty() && other.connections() == 0);
}
