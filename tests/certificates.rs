//! A certificate proves to a remote server who we are, and to no other: not after a redirect, not for a token.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::{Path, PathBuf};
use support::client::request;
use support::remote::{Remote, behave};
use support::{Folder, Process, SOON, command, proxy, wait_until};

/// TLS in front of a plain server, which asks for certificates. It is Python's: one that we did not write.
struct Tls(Process);

impl Tls {
    fn start(behind: &Remote) -> Self {
        let mut python = command("python3");
        python.args([file("terminate.py"), file("server.pem"), file("server.key")]);
        Self(Process::start(python.arg(behind.address().port().to_string()).arg(file("client-ca.pem"))))
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", String::from_utf8(self.0.lines(1).remove(0)).unwrap().trim())
    }

    /// Who connected so far.
    fn clients(&self) -> Vec<String> {
        String::from_utf8(self.0.stdout()).unwrap().lines().skip(1).map(str::to_owned).collect()
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls").join(name)
}

fn connect(url: &str) -> Process {
    let mut command = proxy();
    command.arg("--verify-ssl").arg(file("ca.pem"));
    command.arg("--client-cert").arg(file("client.pem")).arg("--client-key").arg(file("client.key"));
    let mut process = Process::start(command.arg(url));
    process.write(format!("{}\n", request(1, "hello", "{}")).as_bytes());
    assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains(r#""did":"hello""#));
    process
}

#[test]
fn the_server_sees_who_we_are() {
    let remote = Remote::mcp();
    let tls = Tls::start(&remote);
    let _client = connect(&tls.url("/sse"));
    assert!(!tls.clients().is_empty() && tls.clients().iter().all(|client| client == "tester"), "{:?}", tls.clients());
}

#[test]
fn no_other_origin_sees_it() {
    let other = Remote::mcp();
    let other_tls = Tls::start(&other);
    let to = other_tls.url("/sse");
    let endpoint = Remote::start(move |request, connection| match &*request.line {
        "GET /moved" => connection.write(format!("HTTP/1.1 302 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")),
        _ => behave(request, connection),
    });
    let tls = Tls::start(&endpoint);
    let mut command = proxy();
    command.arg("--verify-ssl").arg(file("ca.pem")).args(["--transport", "sse"]);
    command.arg("--client-cert").arg(file("client.pem")).arg("--client-key").arg(file("client.key"));
    let mut process = Process::start(command.arg(tls.url("/moved")));
    process.write(format!("{}\n", request(1, "hello", "{}")).as_bytes());
    assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains(r#""did":"hello""#));
    assert_eq!(tls.clients(), ["tester"]);
    assert!(other_tls.clients().len() >= 2 && other_tls.clients().iter().all(|client| client == "nobody"));
}

#[test]
fn named_servers_have_their_own() {
    let (with, without) = (Remote::start(support::streamable::behave), Remote::start(support::streamable::behave));
    let (with_tls, without_tls) = (Tls::start(&with), Tls::start(&without));
    let folder = Folder::new();
    let shown = |name: &str| file(name).display().to_string();
    let config = folder.file(
        "servers.json",
        format!(
            r#"{{"mcpServers": {{
                "with": {{"url": "{}", "clientCert": "{}", "clientKey": "${{KEY}}"}},
                "without": {{"url": "{}"}}}}}}"#,
            with_tls.url("/mcp"),
            shown("client.pem"),
            without_tls.url("/mcp")
        ),
    );
    let mut command = proxy();
    command.arg("--verify-ssl").arg(file("ca.pem")).arg("--named-server-config").arg(config);
    let process = Process::start(command.env("KEY", file("client.key")));
    for (name, tls, wanted) in [("with", &with_tls, "tester"), ("without", &without_tls, "nobody")] {
        let mut http = support::http::Http::connect(&process.address());
        http.path = format!("/servers/{name}/mcp");
        assert_eq!(http.post(&support::client::initialize(1)).head.status, 200);
        wait_until("a connection", SOON, || !tls.clients().is_empty());
        assert!(tls.clients().iter().all(|client| client == wanted), "{name}: {:?}", tls.clients());
    }
}

#[test]
fn what_does_not_fit_stops_the_start() {
    for (chain, key, told) in [
        ("client.pem", "server.key", "the key in 'KEY' is not that of the certificate in 'CHAIN'"),
        ("client.key", "client.key", "'CHAIN' holds no certificate in PEM form"),
        ("client.pem", "client.pem", "'KEY' holds no private key in PEM form"),
        ("none.pem", "client.key", "'CHAIN' cannot be read: No such file or directory"),
    ] {
        let mut command = proxy();
        command.arg("--client-cert").arg(file(chain)).arg("--client-key").arg(file(key)).arg("https://localhost:1/");
        let mut process = Process::start(&mut command);
        assert_eq!(process.finish(SOON).code(), Some(2));
        let shown = |name: &str| file(name).display().to_string();
        let told = told.replace("CHAIN", &shown(chain)).replace("KEY", &shown(key));
        assert_eq!(process.stderr(), format!("mcp-proxy: option '--client-cert': {told}\n"));
    }
}

#[test]
fn no_proxy_sees_it() {
    let mut command = proxy();
    command.arg("--client-cert").arg(file("client.pem")).arg("--client-key").arg(file("client.key"));
    let mut process = Process::start(command.arg("https://remote.test/mcp").env("https_proxy", "https://localhost:1"));
    process.write(format!("{}\n", request(1, "hello", "{}")).as_bytes());
    let answer = String::from_utf8(process.lines(1).remove(0)).unwrap();
    assert!(answer.contains("a client certificate would go to the https proxy of the environment"), "{answer}");
}
