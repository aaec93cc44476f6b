//! The Python program of the same name, version 0.13.0, and ours: the same command lines, side by side. The table says
//! what each does; where they differ, it is on purpose, and it says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the table is what the test is for")]

mod support;

#[path = "peers/installed.rs"]
mod installed;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::thread;
use support::http::Http;
use support::{Folder, Process, SOON, command, program, wait_until};

/// What is looked at: a request of a served program, or how a program ends.
enum Look {
    /// Method, path, headers, body.
    Asks(&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str),
    /// The exit status.
    Ends,
    /// The names in the environment of the server, without those that every shell sets.
    Environment,
    /// The folder of the server.
    Folder,
    /// What a client on stdin reads of the server behind, through the other program.
    Connects,
}
use Look::{Asks, Connects, Ends, Environment, Folder as Place};

struct Row {
    words: &'static str,
    look: Look,
    python: &'static str,
    ours: &'static str,
    why: &'static str,
}

const fn same(words: &'static str, look: Look, both: &'static str) -> Row {
    Row { words, look, python: both, ours: both, why: "" }
}

const fn differ(words: &'static str, look: Look, python: &'static str, ours: &'static str, why: &'static str) -> Row {
    Row { words, look, python, ours, why }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const UNKNOWN: &[(&str, &str)] = &[("Mcp-Session-Id", "0123456789abcdef0123456789abcdef")];
const PAGE: &[(&str, &str)] = &[("Origin", "http://page.example")];
const EVIL: &[(&str, &str)] = &[("Origin", "http://evil.example")];

/// In the words, DEMO is a small server, SHELL one that tells of its surroundings, FOLDER an empty folder, FILE a file of
/// named servers, SCRIPT one that starts DEMO, and FAR the address of a program that serves DEMO.
const TABLE: &[Row] = &[
    same("--port 0 -- DEMO", Asks("GET", "/sse", &[], ""), "200 events /messages/?session_id="),
    differ(
        "--port 0 -- DEMO",
        Asks("GET", "/sse/", &[], ""),
        "404",
        "200 events /messages/?session_id=",
        "a slash too many costs nobody anything",
    ),
    same("--port 0 -- DEMO", Asks("POST", "/mcp", &[], INITIALIZE), "200 json result session"),
    same("--port 0 -- DEMO", Asks("POST", "/mcp/", &[], INITIALIZE), "200 json result session"),
    differ(
        "--port 0 -- DEMO",
        Asks("POST", "/mcp", &[], LIST),
        "400 json error -32600 session",
        "400 json error -32600",
        "a refusal opens no session",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("POST", "/mcp", &[], "nonsense"),
        "400 json error -32700 session",
        "400 json error -32700",
        "a refusal opens no session",
    ),
    same("--port 0 -- DEMO", Asks("POST", "/mcp", UNKNOWN, LIST), "404 json error -32600"),
    same("--port 0 -- DEMO", Asks("DELETE", "/mcp", UNKNOWN, ""), "404 json error -32600"),
    differ(
        "--port 0 -- DEMO",
        Asks("GET", "/mcp", &[], ""),
        "400 json error -32600 session",
        "400 json error -32600",
        "a refusal opens no session",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("POST", "/messages/?session_id=0123456789abcdef0123456789abcdef", &[], LIST),
        "404",
        "404 json error -32600",
        "every refusal of ours is JSON",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("POST", "/messages/", &[], LIST),
        "400",
        "400 json error -32600",
        "every refusal of ours is JSON",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("GET", "/", &[], ""),
        "404",
        "404 json error -32600",
        "every refusal of ours is JSON, and says what there is",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("GET", "/status", &[], ""),
        "200 json active_sse_connections api_last_activity server_instances default=configured",
        "200 json active_sse_connections api_last_activity server_instances servers sessions uptime_s version \
         default=running",
        "the word is what the server does, and more is told",
    ),
    same("--sse-port 0 --sse-host 127.0.0.1 -- DEMO", Asks("POST", "/mcp", &[], INITIALIZE), "200 json result session"),
    same("--host 127.0.0.1 --port 0 sh SCRIPT", Asks("POST", "/mcp", &[], INITIALIZE), "200 json result session"),
    same("--stateless --port 0 -- DEMO", Asks("POST", "/mcp", &[], INITIALIZE), "200 json result"),
    same("--stateless --port 0 -- DEMO", Asks("POST", "/mcp", &[], LIST), "200 json result"),
    same("--stateless --port 0 -- DEMO", Asks("POST", "/mcp", UNKNOWN, LIST), "200 json result"),
    same("--stateless --port 0 -- DEMO", Asks("DELETE", "/mcp", UNKNOWN, ""), "405 json error -32600"),
    same("--no-stateless --port 0 -- DEMO", Asks("POST", "/mcp", &[], INITIALIZE), "200 json result session"),
    same(
        "--port 0 --named-server a 'DEMO'",
        Asks("POST", "/servers/a/mcp", &[], INITIALIZE),
        "200 json result session",
    ),
    same(
        "--port 0 --named-server a 'DEMO'",
        Asks("GET", "/servers/a/sse", &[], ""),
        "200 events /servers/a/messages/?session_id=",
    ),
    differ(
        "--port 0 --named-server a 'DEMO'",
        Asks("POST", "/servers/b/mcp", &[], INITIALIZE),
        "404",
        "404 json error -32600",
        "every refusal of ours is JSON, and lists the servers",
    ),
    differ(
        "--port 0 --named-server a 'DEMO'",
        Asks("POST", "/mcp", &[], INITIALIZE),
        "404",
        "404 json error -32600",
        "every refusal of ours is JSON, and lists the servers",
    ),
    same(
        "--port 0 --named-server-config FILE",
        Asks("POST", "/servers/one/mcp", &[], INITIALIZE),
        "200 json result session",
    ),
    differ(
        "--port 0 --named-server-config FILE",
        Asks("POST", "/servers/off/mcp", &[], INITIALIZE),
        "404",
        "404 json error -32600",
        "every refusal of ours is JSON, and lists the servers",
    ),
    same(
        "--port 0 --allow-origin http://page.example -- DEMO",
        Asks("POST", "/mcp", PAGE, INITIALIZE),
        "200 json result session allowed",
    ),
    differ(
        "--port 0 --allow-origin http://page.example -- DEMO",
        Asks("POST", "/mcp", EVIL, INITIALIZE),
        "200 json result session",
        "403 json error -32600",
        "a page that is not allowed must not act either: it need not read the answer to do harm",
    ),
    differ(
        "--port 0 -- DEMO",
        Asks("POST", "/mcp", &[("Host", "evil.example")], INITIALIZE),
        "200 json result session",
        "403 json error -32600",
        "a foreign name that leads to a loopback address belongs to a page that had it changed",
    ),
    same("--port 0 -e ADDED value -- SHELL", Environment, "ADDED HOME PATH"),
    differ(
        "--port 0 --env ADDED=value -- SHELL",
        Environment,
        "does not start",
        "ADDED HOME PATH",
        "the oldest documentation shows this form",
    ),
    same("--port 0 --pass-environment -- SHELL", Environment, "HOME OURS PATH"),
    same("--port 0 -- SHELL", Environment, "HOME PATH"),
    same("--port 0 --cwd FOLDER -- SHELL", Place, "FOLDER"),
    same("FAR/sse", Connects, "a result and an error"),
    same("--transport streamablehttp FAR/mcp", Connects, "a result and an error"),
    differ("FAR/mcp", Connects, "nothing", "a result and an error", "which transport it is is found out"),
    same("--version", Ends, "0"),
    same("--help", Ends, "0"),
    same("--no-such-option http://127.0.0.1:1/sse", Ends, "2"),
    differ("", Ends, "1", "2", "it is a mistake on the command line"),
    differ(
        "--port 0 --named-server-config /no/such/file",
        Ends,
        "1",
        "2",
        "it is a mistake in what the command line names",
    ),
    differ("--port 0 -- /no/such/command", Ends, "1", "127", "as a shell says it"),
    differ("--client-id me http://127.0.0.1:1/sse", Ends, "1", "2", "a third of a login is none"),
];

/// A program that serves, and the folder that its words name.
struct Served {
    process: Process,
    folder: Folder,
}

fn words(text: &str, folder: &Folder, far: &str) -> Vec<OsString> {
    let demo = format!("{} --demo", program().display());
    let shell = "sh -c 'env >$PWD_FILE.new; pwd >>$PWD_FILE.new; mv $PWD_FILE.new $PWD_FILE; exec cat'";
    let shell = shell.replace("$PWD_FILE", &folder.path().join("told").display().to_string());
    let text = text
        .replace("DEMO", &demo)
        .replace("SHELL", &shell)
        .replace("FOLDER", &folder.path().display().to_string())
        .replace("SCRIPT", &folder.path().join("demo.sh").display().to_string())
        .replace("FILE", &folder.path().join("servers.json").display().to_string())
        .replace("FAR", far);
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).map(OsString::from).collect()
}

fn start(binary: &std::path::Path, text: &str, far: &str) -> Served {
    let folder = Folder::new();
    let demo = serde_json::json!({"command": program(), "args": ["--demo"]});
    let off = serde_json::json!({"command": program(), "args": ["--demo"], "enabled": false});
    let config = serde_json::json!({"mcpServers": {"one": demo, "off": off}});
    let _ = folder.file("servers.json", config.to_string());
    let _ = folder.file("demo.sh", format!("exec '{}' --demo", program().display()));
    let mut command = command(binary);
    command.env("OURS", "x").args(words(text, &folder, far));
    Served { process: Process::start(&mut command), folder }
}

impl Served {
    fn look(&mut self, look: &Look) -> String {
        match look {
            Asks(method, path, headers, body) => ask(&self.process.address(), method, path, headers, body),
            Ends => self.process.wait(SOON).code().unwrap_or(-1).to_string(),
            Environment => self.told().map_or("does not start".into(), |told| {
                let names: Vec<_> =
                    told.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
                let known = ["ADDED", "HOME", "OURS", "PATH"];
                known.into_iter().filter(|name| names.contains(name)).collect::<Vec<_>>().join(" ")
            }),
            Place => {
                let told = self.told().unwrap_or_default();
                let is_there = told.lines().last() == Some(&*self.folder.path().display().to_string());
                if is_there { "FOLDER".into() } else { told }
            }
            Connects => self.converse(),
        }
    }

    /// What the server said of its surroundings; nothing if the program ended instead.
    fn told(&mut self) -> Option<String> {
        let file = self.folder.path().join("told");
        let process = &mut self.process;
        wait_until("the server or an end", SOON, || file.exists() || !support::alive(process.id()));
        std::fs::read_to_string(file).ok()
    }

    fn converse(&mut self) -> String {
        for line in [INITIALIZE, support::client::INITIALIZED, LIST, r#"{"jsonrpc":"2.0","id":2,"method":"no/such"}"#] {
            self.process.write(format!("{line}\n").as_bytes());
        }
        let lines = || String::from_utf8_lossy(&self.process.stdout()).into_owned();
        wait_until("answers or an end", SOON, || lines().lines().count() >= 3 || !support::alive(self.process.id()));
        let lines = lines();
        match (lines.matches("\"result\"").count(), lines.matches("\"error\"").count()) {
            (2, 1) => "a result and an error".into(),
            (0, 0) => "nothing".into(),
            (results, errors) => format!("{results} results, {errors} errors: {lines}"),
        }
    }
}

/// One answer in a few words.
fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut http = Http::connect(address);
    path.clone_into(&mut http.path);
    let accept = [("Accept", "application/json, text/event-stream")];
    http.send(method, &[&accept, headers].concat(), body);
    let head = http.peek_head();
    let mut told = vec![head.status.to_string()];
    let kind = head.get("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    if kind == "text/event-stream" {
        let events = http.events();
        events.wait_for("data: ");
        let endpoint = events.all().first().map(|event| event.data.clone()).unwrap_or_default();
        let end = endpoint.find("session_id=").map_or(endpoint.len(), |at| at + "session_id=".len());
        return format!("{} events {}", told[0], &endpoint[..end]);
    }
    let answer = http.answer();
    if kind == "application/json" {
        told.push("json".into());
        let body: BTreeMap<String, serde_json::Value> = serde_json::from_str(&answer.body).unwrap();
        match (body.get("error"), body.get("result")) {
            (Some(error), _) => told.push(format!("error {}", error["code"])),
            (None, Some(_)) => told.push("result".into()),
            (None, None) => {
                told.extend(body.keys().cloned());
                told.extend(
                    body["server_instances"]
                        .as_object()
                        .unwrap()
                        .iter()
                        .map(|(name, word)| format!("{name}={}", word.as_str().unwrap())),
                );
            }
        }
    }
    if answer.head.get("mcp-session-id").is_some() {
        told.push("session".into());
    }
    if answer.head.get("access-control-allow-origin").is_some() {
        told.push("allowed".into());
    }
    told.join(" ")
}

#[test]
fn the_same_words_do_the_same_or_differ_on_purpose() {
    let far = start(&program(), "--port 0 -- DEMO", "");
    let far = (format!("http://{}", far.process.address()), far);
    let python = installed::python("mcp-proxy");
    let wrong: Vec<String> = TABLE
        .chunks(6)
        .flat_map(|rows| {
            // Those of a chunk start side by side: the Python program takes its time.
            thread::scope(|scope| {
                let look = |row: &'static Row| {
                    let binaries = [python.clone(), program()];
                    let far = &far.0;
                    scope.spawn(move || (row, binaries.map(|binary| start(&binary, row.words, far).look(&row.look))))
                };
                let threads: Vec<_> = rows.iter().map(look).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        })
        .filter_map(|(row, [python, ours])| {
            let what = match &row.look {
                Asks(method, path, headers, _) => format!("{method} {path} {headers:?}"),
                Ends => "exit status".into(),
                Environment => "environment".into(),
                Place => "folder".into(),
                Connects => "a conversation".into(),
            };
            println!(
                "| `{}` | {what} | {python} | {} | {} |",
                row.words,
                if python == ours { "same" } else { &ours },
                row.why
            );
            let is_right = python == row.python && ours == row.ours && (python == ours) == row.why.is_empty();
            (!is_right).then(|| {
                format!(
                    "{} {what}\n  python {python:?}\n  wanted {:?}\n  ours   {ours:?}\n  wanted {:?}",
                    row.words, row.python, row.ours
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
