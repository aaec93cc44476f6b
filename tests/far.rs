//! A remote server, offered here: over both transports towards it, in each way of sharing, with what it says by itself
//! and what it asks; and what it is told of who we are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Mutex;
use support::client::request;
use support::http::Http;
use support::puppet::{Puppet, Stage};
use support::remote::{Connection, Remote, Request};
use support::streamable::{self, respond};
use support::{Folder, Process, SOON, free_address, program, proxy, wait_until};

const NEWEST: &str = "2025-11-25";

fn status(address: &str) -> Value {
    let mut http = Http::connect(address);
    "/status".clone_into(&mut http.path);
    http.send("GET", &[], "");
    serde_json::from_str(&http.answer().body).unwrap()
}

fn call(id: u32, name: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{name}","_meta":{{"progressToken":"token-{name}"}}}}"#))
}

fn member(line: &str, pointer: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap().pointer(pointer).unwrap().to_string()
}

fn result(puppet: &Puppet, name: &str) -> String {
    let id = member(&puppet.gets(&format!("\"{name}\"")), "/id");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"of":"{name}"}}}}"#)
}

/// A proxy of ours in front of the far one.
fn front(far: &str, path: &str, options: &[&str]) -> Process {
    Process::start(proxy().args(["--port", "0"]).args(options).arg(format!("http://{far}{path}")))
}

/// What one client of the front sees of the far server.
fn everything_crosses(path: &str, options: &[&str]) {
    let is_stateless = options.contains(&"--stateless");
    let stage = Stage::open(&[]);
    let front = front(&stage.address(), path, options);
    let what = format!("{path} {options:?}");
    let mut http = Http::connect(&front.address());
    http.begin(NEWEST);
    let mut slow = http.another();
    slow.send("POST", &[], &call(1, "slow"));
    let mut puppet = stage.puppet("\"slow\"");
    // A slow call holds no other.
    let mut quick = http.another();
    quick.send("POST", &[], &call(2, "quick"));
    let line = result(&puppet, "quick");
    puppet.say(&line);
    let answer = quick.answer();
    assert!(answer.is_json() && answer.body.contains(r#""id":2,"#), "{what}: {answer:?}");
    // Progress, a question and its answer, and the result.
    let token = member(&puppet.gets("\"slow\""), "/params/_meta/progressToken");
    puppet.say(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    ));
    puppet.say(r#"{"jsonrpc":"2.0","id":"asks","method":"roots/list"}"#);
    let events = slow.events();
    assert_eq!(member(&events.message("progress"), "/params/progressToken"), "\"token-slow\"", "{what}");
    let question = member(&events.message("roots/list"), "/id");
    let roots = format!(r#"{{"jsonrpc":"2.0","id":{question},"result":{{"roots":["here"]}}}}"#);
    assert_eq!(http.post(&roots).head.status, 202);
    let got = puppet.gets("here");
    assert_eq!(member(&got, "/id"), "\"asks\"", "{what}");
    let line = result(&puppet, "slow");
    puppet.say(&line);
    assert_eq!(member(&events.message("result"), "/id"), "1", "{what}");
    events.wait_for_end(SOON);
    // What the server says by itself.
    if !is_stateless {
        let general = http.listen(None);
        puppet.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        let _ = general.message("list_changed");
        http.send("DELETE", &[], "");
        assert_eq!(http.answer().head.status, 204);
    }
    if options.is_empty() {
        wait_until("the far session ends too", SOON, || status(&stage.address())["sessions"] == 0);
    }
    front.signal("TERM");
    let mut front = front;
    assert_eq!(front.wait(SOON).code(), Some(0), "{what}");
    wait_until("no far session is left", SOON, || status(&stage.address())["sessions"] == 0);
}

#[test]
fn everything_crosses_over_streamable_http() {
    for options in [&[][..], &["--shared"], &["--stateless"]] {
        everything_crosses("/mcp", options);
    }
}

#[test]
fn everything_crosses_over_http_with_sse() {
    for options in [&[][..], &["--shared"], &["--stateless"]] {
        everything_crosses("/sse", options);
    }
}

#[test]
fn a_far_server_that_is_down_stops_nobody() {
    let free = free_address();
    let folder = Folder::new();
    let near = json!({"command": program(), "args": ["--demo"]});
    let far = json!({"url": format!("http://{free}/mcp")});
    let file = folder.file("servers.json", json!({"mcpServers": {"near": near, "far": far}}).to_string());
    let proxy = Process::start(proxy().args(["--port", "0", "--named-server-config"]).arg(file));
    let address = proxy.address();
    let mut http = Http::connect(&address);
    "/servers/near/mcp".clone_into(&mut http.path);
    http.begin(NEWEST);
    let mut http = Http::connect(&address);
    "/servers/far/mcp".clone_into(&mut http.path);
    let answer = http.post(&support::client::initialize(1));
    assert!(answer.body.contains("\"error\"") && answer.body.contains(&free.to_string()), "{answer:?}");
    // It comes up: the next client finds it.
    let up =
        Process::start(support::proxy().args(["--port", &free.port().to_string(), "--"]).arg(program()).arg("--demo"));
    let _ = up.address();
    let mut http = Http::connect(&address);
    "/servers/far/mcp".clone_into(&mut http.path);
    http.begin(NEWEST);
    drop(up);
    let answer = http.post(&request(5, "ping", "{}"));
    assert!(answer.body.contains(r#""id":5,"error""#), "{answer:?}");
}

#[test]
fn what_proves_who_we_are_goes_to_its_server_alone_and_is_shown_nowhere() {
    let far = Remote::start(streamable::behave);
    let folder = Folder::new();
    let config = json!({"mcpServers": {"far": {"url": far.url("/mcp"), "headers": {"X-Key": "${FAR_KEY}"}}}});
    let file = folder.file("servers.json", config.to_string());
    let mut command = proxy();
    command.env("FAR_KEY", "geheim").args(["--debug", "--port", "0", "--named-server-config"]).arg(file);
    let proxy = Process::start(&mut command);
    let mut http = Http::connect(&proxy.address());
    "/servers/far/mcp".clone_into(&mut http.path);
    http.send("POST", &[("Authorization", "Bearer of-the-client")], &support::client::initialize(1));
    assert_eq!(http.answer().head.status, 200);
    let requests = far.requests();
    assert!(requests.iter().all(|request| request.header("x-key") == "geheim"));
    assert!(requests.iter().all(|request| request.header("authorization").is_empty()));
    let told = format!("{}{}", proxy.stderr(), status(&proxy.address()));
    assert!(!told.contains("geheim") && !told.contains("of-the-client"), "{told}");
}

fn unauthorized(connection: &mut Connection<'_>, challenge: &str) {
    connection.write(respond("401 Unauthorized", challenge, ""));
}

/// A client of ours with these options begins a session and asks for something; gives its log.
fn logs_in(far: &Remote, options: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = proxy();
    command.envs(environment.iter().copied()).arg("--debug").args(options).arg(far.url("/mcp"));
    let mut client = Process::start(&mut command);
    for line in [support::client::initialize(1), request(2, "x", "{}"), request(3, "y", "{}")] {
        client.write(format!("{line}\n").as_bytes());
    }
    let lines = client.lines(3).concat();
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", client.id())).unwrap();
    client.close_stdin();
    assert_eq!(client.finish(SOON).code(), Some(0));
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.matches("\"result\"").count(), 3, "{lines}\n{}", client.report());
    format!("{lines}{}{}", client.stderr(), String::from_utf8_lossy(&cmdline))
}

#[test]
fn logs_in_with_a_password() {
    let basic = "Basic bWU6Z2VoZWlt"; // me:geheim
    let far = Remote::start(move |request, connection| {
        if request.header("authorization") == basic {
            streamable::behave(request, connection);
        } else {
            unauthorized(connection, "WWW-Authenticate: Basic realm=\"x\"\r\n");
        }
    });
    let folder = Folder::new();
    let file = folder.file("password", "geheim\n");
    let file = file.to_str().unwrap();
    for (options, environment) in [
        (&["--username", "me", "--password", "geheim"][..], &[][..]),
        (&["--username", "me", "--password-file", file], &[]),
        (&["--username", "me"], &[("MCP_PROXY_PASSWORD", "geheim")]),
    ] {
        let told = logs_in(&far, options, environment);
        assert!(!told.contains("geheim"), "{told}");
    }
}

#[test]
fn logs_in_by_digest() {
    let challenge = "WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", algorithm=SHA-256, nonce=\"abc\"\r\n";
    let far = Remote::start(move |request, connection| {
        let proof = request.header("authorization").to_owned();
        if proof.starts_with("Digest ") && proof.contains("username=\"me\"") && proof.contains("nonce=\"abc\"") {
            streamable::behave(request, connection);
        } else {
            unauthorized(connection, challenge);
        }
    });
    let told = logs_in(&far, &["--username", "me", "--password", "geheim", "--digest"], &[]);
    assert!(!told.contains("geheim"), "{told}");
    let challenged = far.requests().iter().filter(|request| request.header("authorization").is_empty()).count();
    assert_eq!(challenged, 1, "the nonce is used again");
    let counts: HashSet<_> = far.requests().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(counts.len(), far.requests().len(), "each proof is another one");
}

#[test]
fn gets_tokens_and_renews_them_once_when_they_are_refused() {
    static VALID: Mutex<String> = Mutex::new(String::new());
    fn tokens(request: &Request, connection: &mut Connection<'_>) {
        if request.line.contains("/token") {
            assert_eq!(request.header("authorization"), "Basic bWU6Z2VoZWlt");
            let number = connection.requests().iter().filter(|request| request.line.contains("/token")).count();
            let token = format!("token-{number}");
            VALID.lock().unwrap().clone_from(&token);
            let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}).to_string();
            return connection.write(respond("200 OK", "Content-Type: application/json\r\n", &body));
        }
        let is_valid = request.header("authorization") == format!("Bearer {}", VALID.lock().unwrap());
        if is_valid {
            if request.text().contains("\"x\"") {
                "revoked".clone_into(&mut VALID.lock().unwrap()); // the next request is refused
            }
            streamable::behave(request, connection);
        } else {
            unauthorized(connection, "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
        }
    }
    let far = Remote::start(tokens);
    let url = far.url("/token");
    let options = ["--client-id", "me", "--client-secret", "geheim", "--token-url", &url];
    let told = logs_in(&far, &options, &[]);
    assert!(!told.contains("geheim") && !told.contains("token-1"), "{told}");
    let fetched = far.requests().iter().filter(|request| request.line.contains("/token")).count();
    assert_eq!(fetched, 2);
}
