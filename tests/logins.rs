//! Logins as users give them, with the real binary: in both modes, over both transports. What is secret goes to its
//! server and is shown nowhere, one thread asks for a token, and nobody waits for one at the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::client::{INITIALIZED, initialize, request};
use support::http::Http;
use support::remote::{self, Connection, Remote, Request};
use support::streamable::{self, respond};
use support::{Folder, Process, SOON, in_time, proxy, wait_until};

const NEWEST: &str = "2025-11-25";
const TOKEN_URL: &str = "/token";

/// A server that behaves over both transports.
fn behave(request: &Request, connection: &mut Connection<'_>) {
    if request.line.contains("/mcp") {
        streamable::behave(request, connection);
    } else {
        remote::behave(request, connection);
    }
}

fn refuse(connection: &mut Connection<'_>, challenge: &str) {
    let header = if challenge.is_empty() { String::new() } else { format!("WWW-Authenticate: {challenge}\r\n") };
    connection.write(respond("401 Unauthorized", &header, ""));
}

fn give(connection: &mut Connection<'_>, token: &str, lasts_s: u32) {
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": lasts_s}).to_string();
    connection.write(streamable::json(&body));
}

fn asks_for_token(request: &Request) -> bool {
    request.line.ends_with(TOKEN_URL)
}

fn token_requests(far: &Remote) -> usize {
    far.requests().iter().filter(|request| asks_for_token(request)).count()
}

fn client_options(far: &Remote) -> Vec<String> {
    let url = far.url(TOKEN_URL);
    ["--client-id", "me", "--client-secret", "geheim", "--token-url", &url].map(str::to_owned).to_vec()
}

/// How a row of a table logs in.
struct Login<'a> {
    options: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    far: &'a Remote,
}

impl Login<'_> {
    fn start(&self, mode: &[&str], path: &str) -> Process {
        let mut command = proxy();
        command.envs(self.environment.iter().copied()).arg("--debug").args(mode).args(self.options);
        Process::start(command.arg(self.far.url(path)))
    }

    /// Begins a session by each mode and each transport and asks for two things; gives all that was told.
    fn everywhere(&self) -> String {
        let ways = ["/mcp", "/sse"].map(|path| format!("{}{}", self.connects(path), self.serves(path)));
        ways.concat()
    }

    fn connects(&self, path: &str) -> String {
        let mut client = self.start(&[], path);
        for line in [&initialize(1), INITIALIZED, &request(2, "x", "{}"), &request(3, "y", "{}")] {
            client.write(format!("{line}\n").as_bytes());
        }
        let lines = String::from_utf8(client.lines(3).concat()).unwrap();
        let told = format!("{lines}{}", told(&client));
        client.close_stdin();
        assert_eq!(client.finish(SOON).code(), Some(0));
        format!("{told}{}", client.stderr())
    }

    fn serves(&self, path: &str) -> String {
        let mut front = self.start(&["--port", "0"], path);
        let mut http = Http::connect(&front.address());
        let begun = http.post(&initialize(1));
        http.session = begun.head.get("mcp-session-id").map(str::to_owned);
        let mut answers = begun.body;
        for method in ["x", "y"] {
            answers += &http.post(&request(2, method, "{}")).body;
        }
        for page in ["/status", "/metrics", "/healthz"] {
            page.clone_into(&mut http.path);
            http.send("GET", &[], "");
            answers += &http.answer().body;
        }
        let told = format!("{answers}{}", told(&front));
        front.signal("TERM");
        assert_eq!(front.finish(SOON).code(), Some(0));
        format!("{told}{}", front.stderr())
    }
}

/// What others see of a process while it runs.
fn told(process: &Process) -> String {
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", process.id())).unwrap();
    String::from_utf8_lossy(&cmdline).into_owned()
}

fn assert_silent(told: &str) {
    for secret in ["geheim", "Z2VoZWlt", "schein-"] {
        assert!(!told.contains(secret), "{secret} is shown: {told}");
    }
}

#[test]
fn a_login_is_taken_in_both_modes_over_both_transports() {
    const DIGEST: &str = "Digest realm=\"r\", qop=\"auth\", algorithm=SHA-256, nonce=\"n\"";
    let basic = Remote::start(|request, connection| match request.header("authorization") {
        "Basic bWU6Z2VoZWlt" => behave(request, connection), // me:geheim
        _ => refuse(connection, "Basic realm=\"x\""),
    });
    let digest = Remote::start(|request, connection| match request.header("authorization") {
        proof if proof.starts_with("Digest ") && proof.contains("username=\"me\"") => behave(request, connection),
        _ => refuse(connection, DIGEST),
    });
    let tokens = Remote::start(|request, connection| match request.header("authorization") {
        "Basic bWU6Z2VoZWlt" if asks_for_token(request) => give(connection, "schein-1", 3600),
        "Bearer schein-1" => behave(request, connection),
        _ => refuse(connection, "Bearer"),
    });
    let folder = Folder::new();
    let file = folder.file("secret", "geheim\n");
    let (file, url) = (file.to_str().unwrap(), tokens.url(TOKEN_URL));
    for (far, options, environment) in [
        (&basic, &["--username", "me", "--password", "geheim"][..], &[][..]),
        (&basic, &["--username", "me", "--password-file", file], &[]),
        (&basic, &["--username", "me"], &[("MCP_PROXY_PASSWORD", "geheim")]),
        (&digest, &["--username", "me", "--password", "geheim", "--digest"], &[]),
        (&tokens, &["--client-id", "me", "--client-secret", "geheim", "--token-url", &url], &[]),
        (&tokens, &["--client-id", "me", "--client-secret-file", file, "--token-url", &url], &[]),
        (&tokens, &["--client-id", "me", "--token-url", &url], &[("MCP_PROXY_CLIENT_SECRET", "geheim")]),
    ] {
        let told = Login { options, environment, far }.everywhere();
        assert_eq!(told.matches("\"result\":").count(), 12, "{options:?}: {told}");
        assert_silent(&told);
    }
}

#[test]
fn a_login_that_is_refused_is_explained_without_its_secret() {
    let far = Remote::start(|request, connection| match request.header("authorization") {
        "Basic bWU6Z2VoZWlt" if asks_for_token(request) => {
            let body = r#"{"error":"invalid_client","error_description":"geheim is wrong"}"#;
            connection.write(respond("401 Unauthorized", "Content-Type: application/json\r\n", body));
        }
        _ if asks_for_token(request) => connection.write(respond("400 Bad Request", "", "geheim")),
        _ => refuse(connection, "Basic realm=\"geheim\""),
    });
    let url = far.url(TOKEN_URL);
    for (options, expected) in [
        (&["--username", "me", "--password", "geheim"][..], "it does not take the name and the password"),
        (&["--client-id", "me", "--client-secret", "geheim", "--token-url", &url], "gave no token"),
        (&[], "log in with --client-id or --username"),
    ] {
        let shown = format!("\"last_error\":\"'{}", far.url(if options.len() == 6 { TOKEN_URL } else { "/mcp" }));
        let told = Login { options, environment: &[], far: &far }.everywhere();
        assert!(told.contains(expected) && !told.contains("\"result\":"), "{options:?}: {told}");
        assert!(told.contains(&shown), "{options:?}: {told}");
        assert_silent(&told);
    }
}

#[test]
fn a_nonce_that_is_stale_is_renewed() {
    let far = Remote::start(|request, connection| {
        // Each nonce is good for two requests.
        let proof = request.header("authorization");
        let good = connection.requests().iter().filter(|r| r.header("authorization").contains("Digest")).count();
        let nonce = format!("nonce=\"n{}\"", good / 3);
        if proof.contains(&nonce) && good % 3 != 0 {
            return behave(request, connection);
        }
        let stale = if proof.is_empty() { "" } else { ", stale=true" };
        let nonce = if proof.is_empty() { "nonce=\"n0\"".into() } else { nonce };
        refuse(connection, &format!("Digest realm=\"r\", qop=\"auth\", algorithm=SHA-256, {nonce}{stale}"));
    });
    let options = &["--username", "me", "--password", "geheim", "--digest"][..];
    let login = Login { options, environment: &[], far: &far };
    let mut client = login.start(&[], "/mcp");
    client.write(format!("{}\n", initialize(1)).as_bytes());
    for id in 2..8 {
        let _ = client.lines(id - 1);
        client.write(format!("{}\n", request(u32::try_from(id).unwrap(), "x", "{}")).as_bytes());
    }
    let lines = String::from_utf8(client.lines(7).concat()).unwrap();
    assert_eq!(lines.matches("\"result\"").count(), 7, "{lines}");
    let proofs: Vec<_> = far.requests().iter().map(|r| r.header("authorization").to_owned()).collect();
    assert!(proofs.iter().any(|proof| proof.contains("nonce=\"n1\"") && proof.contains("nc=00000001")), "{proofs:?}");
    assert_eq!(proofs.iter().filter(|proof| proof.is_empty()).count(), 1, "only the first goes without proof");
}

#[test]
fn many_sessions_share_one_token() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    for path in ["/mcp", "/sse"] {
        RELEASED.store(false, Ordering::SeqCst);
        let far = Remote::start(|request, connection| match request.header("authorization") {
            _ if asks_for_token(request) => {
                wait_until("all are waiting", SOON, || RELEASED.load(Ordering::SeqCst));
                give(connection, "schein-1", 3600);
            }
            "Bearer schein-1" => streams_apart(request, connection),
            _ => refuse(connection, "Bearer"),
        });
        let options = client_options(&far);
        let front = Process::start(proxy().args(["--debug", "--port", "0"]).args(&options).arg(far.url(path)));
        let mut clients: Vec<_> = (0..8).map(|_| Http::connect(&front.address())).collect();
        for client in &mut clients {
            client.send("POST", &[], &initialize(1));
        }
        wait_until("a session each", SOON, || status(&front.address())["sessions"] == 8);
        RELEASED.store(true, Ordering::SeqCst);
        for client in &mut clients {
            let answer = client.answer();
            assert!(answer.body.contains("\"result\""), "{path}: {answer:?}");
        }
        assert_eq!(token_requests(&far), 1, "{path}");
        assert_silent(&front.stderr());
    }
}

/// As [`behave`], but each client over HTTP+SSE has its own stream: what is posted is answered there.
fn streams_apart(request: &Request, connection: &mut Connection<'_>) {
    if request.line.contains("/mcp") {
        return streamable::behave(request, connection);
    }
    if request.line.starts_with("GET ") {
        return connection
            .numbered_stream(|number| format!("event: endpoint\ndata: /messages/?session_id={number}\n\n"));
    }
    let number = request.line.rsplit_once('=').and_then(|(_, number)| number.parse().ok()).unwrap();
    connection.write(remote::ACCEPTED);
    connection.event_to(number, remote::answer(&request.body).unwrap_or_default());
}

fn status(address: &str) -> Value {
    let mut http = Http::connect(address);
    "/status".clone_into(&mut http.path);
    http.send("GET", &[], "");
    serde_json::from_str(&http.answer().body).unwrap()
}

#[test]
fn a_session_that_goes_while_it_asks_for_a_token_takes_no_other_with_it() {
    for path in ["/mcp", "/sse"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let asking = asked.clone();
        let far = Remote::start(move |request, connection| match request.header("authorization") {
            // The first is never answered.
            _ if asks_for_token(request) => {
                if asking.fetch_add(1, Ordering::SeqCst) > 0 {
                    give(connection, "schein-1", 3600);
                }
            }
            "Bearer schein-1" => behave(request, connection),
            _ => refuse(connection, "Bearer"),
        });
        let options = client_options(&far);
        let front = Process::start(proxy().args(["--debug", "--port", "0"]).args(&options).arg(far.url(path)));
        let (mut first, mut second) = (Http::connect(&front.address()), Http::connect(&front.address()));
        first.send("POST", &[], &initialize(1));
        wait_until("a token is asked for", SOON, || asked.load(Ordering::SeqCst) == 1);
        second.send("POST", &[], &initialize(1));
        wait_until("both wait", SOON, || status(&front.address())["sessions"] == 2);
        let start = Instant::now();
        first.cut();
        let answer = second.answer();
        assert!(answer.body.contains("\"result\""), "{path}: {answer:?}");
        // The first would wait for 15 s, and the others with it.
        assert!(start.elapsed() < Duration::from_secs(12), "{path}: {:?}", start.elapsed());
    }
}

/// A server whose first token has no time left, and that gives no other.
fn gives_one_token() -> Remote {
    let asked = AtomicUsize::new(0);
    Remote::start(move |request, connection| match request.header("authorization") {
        _ if asks_for_token(request) => {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                give(connection, "schein-1", 0);
            }
        }
        "Bearer schein-1" => streamable::behave(request, connection),
        _ => refuse(connection, "Bearer"),
    })
}

#[test]
fn a_token_that_does_not_come_holds_no_end() {
    in_time("the end of connect", Duration::from_millis(1500), || {
        let far = gives_one_token();
        let mut client = Process::start(proxy().args(client_options(&far)).arg(far.url("/mcp")));
        client.write(format!("{}\n", initialize(1)).as_bytes());
        let _ = client.lines(1);
        client.write(format!("{}\n", request(2, "x", "{}")).as_bytes());
        wait_until("a token is asked for", SOON, || token_requests(&far) == 2);
        let start = Instant::now();
        client.close_stdin();
        assert_eq!(client.finish(SOON).code(), Some(0));
        let took = start.elapsed();
        let lines = String::from_utf8(client.stdout()).unwrap();
        assert!(lines.lines().nth(1).is_some_and(|line| line.contains("\"error\"")), "{lines}");
        took
    });
    in_time("the end of a session and of serve", Duration::from_millis(1500), a_session_ends_that_asks_for_a_token);
}

/// How long that and the end of the proxy take.
fn a_session_ends_that_asks_for_a_token() -> Duration {
    let far = gives_one_token();
    let mut front = Process::start(proxy().args(["--port", "0"]).args(client_options(&far)).arg(far.url("/mcp")));
    let mut http = Http::connect(&front.address());
    http.revision = Some(NEWEST);
    http.session = http.post(&initialize(1)).head.get("mcp-session-id").map(str::to_owned);
    let mut asking = http.another();
    asking.send("POST", &[], &request(2, "x", "{}"));
    wait_until("a token is asked for", SOON, || token_requests(&far) == 2);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", front.id())).unwrap().count();
    let before = threads();
    let start = Instant::now();
    http.send("DELETE", &[], "");
    assert_eq!(http.answer().head.status, 204);
    assert!(asking.answer().body.contains("\"error\""));
    wait_until("the end of its threads", SOON, || threads() < before);
    front.signal("TERM");
    assert_eq!(front.finish(SOON).code(), Some(0));
    start.elapsed()
}
