//! Several servers behind one port: the configuration file, its reload, and what is told about them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::{Value, json};
use support::client::Client;
use support::http::Http;
use support::{Folder, Process, SOON, program, proxy, wait_until};

fn get(address: &str, path: &str) -> (u16, String) {
    let mut http = Http::connect(address);
    path.clone_into(&mut http.path);
    http.send("GET", &[("Accept", "*/*")], "");
    let answer = http.answer();
    (answer.head.status, answer.body)
}

fn status(address: &str) -> Value {
    serde_json::from_str(&get(address, "/status").1).unwrap()
}

fn demo() -> Value {
    json!({"command": program(), "args": ["--demo"]})
}

fn write(folder: &Folder, servers: &Value) -> std::path::PathBuf {
    folder.file("servers.json", json!({"mcpServers": servers}).to_string())
}

fn start(folder: &Folder, servers: &Value, more: &[&str]) -> Process {
    let file = write(folder, servers);
    Process::start(proxy().args(["--port", "0", "--named-server-config"]).arg(file).args(more))
}

/// A session at a named server, which says hello.
fn talk(address: &str, name: &str) -> Http {
    let mut http = Http::connect(address);
    http.path = format!("/servers/{name}/mcp");
    http.begin("2025-11-25");
    greet(&mut http);
    http
}

fn greet(http: &mut Http) {
    let echo = r#"{"name":"echo","arguments":{"text":"hello"}}"#;
    let answer = http.post(&support::client::request(1, "tools/call", echo));
    assert!(answer.is_json() && answer.body.contains("hello"), "{answer:?}");
}

#[test]
fn each_server_has_its_paths() {
    let folder = Folder::new();
    let servers = json!({"a": demo(), "b": demo(), "off": {"command": "x", "disabled": true}});
    let proxy = start(&folder, &servers, &["--named-server", "c", &format!("{} --demo", program().display())]);
    let address = proxy.address();
    for name in ["a", "b", "c"] {
        let session = talk(&address, name);
        // A session belongs to its server.
        let mut elsewhere = session.another();
        elsewhere.path = format!("/servers/{}/mcp", if name == "a" { "b" } else { "a" });
        assert_eq!(elsewhere.post(&support::client::request(9, "ping", "{}")).head.status, 404);
    }
    let (not_found, body) = get(&address, "/");
    assert!(not_found == 404 && body.contains("/servers/a/"), "{not_found} {body}");
    assert_eq!(get(&address, "/sse").0, 404);
    assert_eq!(get(&address, "/servers/off/sse").0, 404);
    let status = status(&address);
    assert_eq!(status["server_instances"].as_object().unwrap().len(), 3, "{status}");
    assert_eq!(status["servers"]["a"]["state"], "running", "{status}");
}

#[test]
fn a_server_that_cannot_start_does_not_stop_the_others() {
    let folder = Folder::new();
    let late = folder.path().join("late");
    let proxy = start(&folder, &json!({"good": demo(), "bad": {"command": late}}), &[]);
    let address = proxy.address();
    talk(&address, "good");
    let (unhealthy, body) = get(&address, "/healthz");
    assert!(unhealthy == 503 && body.contains("bad") && !body.contains("good"), "{unhealthy} {body}");
    assert_eq!(status(&address)["servers"]["bad"]["state"], "failed");
    let mut http = Http::connect(&address);
    http.path = "/servers/bad/mcp".to_owned();
    let refused = http.post(&support::client::initialize(1));
    assert!(refused.head.status == 503 && refused.body.contains("cannot start"), "{refused:?}");
    // Now it can.
    let script = format!("#!/bin/sh\nexec '{}' --demo\n", program().display());
    let file = folder.file("late.new", script);
    std::process::Command::new("chmod").args(["+x"]).arg(&file).status().unwrap();
    std::fs::rename(file, late).unwrap();
    wait_until("it is tried again", SOON, || get(&address, "/healthz").0 == 200);
    talk(&address, "bad");
    assert_eq!(status(&address)["servers"]["bad"]["restarts"], 1);
}

#[test]
fn the_file_is_read_again_on_hup() {
    let folder = Folder::new();
    let proxy = start(&folder, &json!({"stays": demo(), "goes": demo()}), &[]);
    let address = proxy.address();
    let (mut stays, mut goes) = (talk(&address, "stays"), talk(&address, "goes"));
    let pid = status(&address)["servers"]["stays"]["pids"].clone();
    write(&folder, &json!({"comes": demo(), "stays": demo()}));
    proxy.signal("HUP");
    proxy.wait_for_stderr("was read again");
    talk(&address, "comes");
    greet(&mut stays);
    assert_eq!(status(&address)["servers"]["stays"]["pids"], pid);
    greet(&mut goes); // its session goes on
    let mut late = Http::connect(&address);
    late.path = "/servers/goes/mcp".to_owned();
    assert_eq!(late.post(&support::client::initialize(1)).head.status, 404);
    goes.send("DELETE", &[], "");
    assert_eq!(goes.answer().head.status, 204);
    // A mistake changes nothing.
    let _ = folder.file("servers.json", r#"{"mcpServers": {"stays": {"args": 1}}}"#);
    proxy.signal("HUP");
    proxy.wait_for_stderr("nothing has changed");
    std::fs::remove_file(folder.path().join("servers.json")).unwrap();
    proxy.signal("HUP");
    proxy.wait_for_stderr("nothing has changed: option '--named-server-config': '");
    greet(&mut stays);
}

#[test]
fn what_is_counted() {
    let proxy = Process::start(proxy().args(["--port", "0", "--"]).arg(program()).arg("--demo"));
    let address = proxy.address();
    let mut http = Http::connect(&address);
    http.begin("2025-11-25");
    greet(&mut http);
    assert_eq!(http.post("nonsense").head.status, 400);
    let old = Client::open(&address);
    let (ok, text) = get(&address, "/metrics");
    assert_eq!(ok, 200);
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value(r#"mcp_proxy_requests_total{server="default",method="tools/call"}"#) >= 1.0);
    assert!((value(r#"mcp_proxy_sessions{server="default"}"#) - 2.0).abs() < 0.1, "{text}");
    drop(old);
    assert_eq!(get(&address, "/healthz"), (200, r#"{"status":"ok"}"#.to_owned()));
}

#[test]
fn behind_a_reverse_proxy_the_paths_are_those_that_the_client_sees() {
    let options = ["--port", "0", "--base-path", "/tools", "--trusted-proxy", "127.0.0.1", "--"];
    let proxy = Process::start(proxy().args(options).arg(program()).arg("--demo"));
    let address = proxy.address();
    for (path, headers, wanted) in [
        ("/sse", &[][..], "data: /tools/messages/"),
        ("/tools/sse", &[], "data: /tools/messages/"),
        ("/sse", &[("X-Forwarded-Prefix", "/deep/er")], "data: /deep/er/messages/"),
        ("/sse", &[("X-Forwarded-Prefix", "//evil.example")], "data: /tools/messages/"),
    ] {
        let mut http = Http::connect(&address);
        path.clone_into(&mut http.path);
        http.send("GET", headers, "");
        http.events().wait_for(wanted);
    }
    let mut http = Http::connect(&address);
    http.path = "/tools/mcp".to_owned();
    http.begin("2025-11-25");
    greet(&mut http);
}

#[test]
fn what_a_named_server_logs_bears_its_name() {
    let folder = Folder::new();
    let loud = |word: &str| json!({"command": "sh", "args": ["-c", format!("echo {word} >&2; exec cat")]});
    let proxy = start(&folder, &json!({"one": loud("uno"), "two": loud("due")}), &[]);
    proxy.wait_for_stderr("one: uno\n");
    proxy.wait_for_stderr("two: due\n");
    let json = start(&folder, &json!({"one": loud("uno")}), &["--log-format", "json"]);
    json.wait_for_stderr(r#""server":"one""#);
}
