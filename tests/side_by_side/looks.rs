//! Starts a program with the words of a row, looks at it, and says in a few words what was seen.

use super::support::client::{self, Client, INITIALIZED, request};
use super::support::http::Http;
use super::support::remote::{self, Remote};
use super::support::{self, Folder, Process, SOON, command, descendants, free_address, program, wait_until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// What is looked at.
pub enum Look {
    /// A request: method, path, headers, body.
    Asks(&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str),
    /// A small session at `/mcp`, or at `/sse`.
    Session(&'static str),
    /// How many servers run for two sessions.
    Servers,
    /// The exit status.
    Ends,
    /// The exit status after TERM.
    Stops,
    /// The host on which it listens, and whether the port is FREE.
    Listens,
    /// What stdout and stderr hold.
    Logs,
    /// The names in the environment of the server, without those that every shell sets.
    Environment,
    /// The folder of the server.
    Place,
    /// The arguments of the server.
    Arguments,
    /// What a client on stdin reads through it, and the exit status after the end of input.
    Connects,
    /// Which headers reach the remote server HEARS.
    Sends,
}
use Look::{Arguments, Asks, Connects, Ends, Environment, Listens, Logs, Place, Sends, Servers, Session, Stops};

impl Look {
    /// Whether it leaves the program as it was.
    pub const fn asks(&self) -> bool {
        matches!(self, Asks(..) | Session(_))
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Asks(method, path, headers, body) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| format!(" ({name}: {value})")).collect();
                let method_of = |body: &Value| body["method"].as_str().map(|method| format!(" {method}"));
                let body = serde_json::from_str(body).ok().and_then(|body| method_of(&body));
                format!("{method} {path}{}{}", headers.concat(), body.unwrap_or_default())
            }
            Session(path) => format!("a session at {path}"),
            Servers => "servers for two sessions".into(),
            Ends => "exit status".into(),
            Stops => "exit status after TERM".into(),
            Listens => "where it listens".into(),
            Logs => "what it writes".into(),
            Environment => "environment of the server".into(),
            Place => "folder of the server".into(),
            Arguments => "arguments of the server".into(),
            Connects => "a session on stdin".into(),
            Sends => "headers to the remote server".into(),
        }
    }
}

/// What the words of all rows may name.
pub struct Stage {
    far: Process,
    taken: TcpListener,
}

impl Stage {
    /// Starts what is behind FAR, and takes the port TAKEN.
    pub fn set() -> Self {
        let far = Process::start(support::proxy().args(["--port", "0", "--"]).arg(program()).arg("--demo"));
        Self { far, taken: TcpListener::bind("127.0.0.1:0").unwrap() }
    }
}

/// A program that was started with the words of a row, and what these name.
pub struct Started {
    process: Process,
    folder: Folder,
    free: u16,
    hears: Remote,
}

impl Started {
    /// Starts `binary` with `text` as its words; words like `NAME=value` before the others are its environment.
    pub fn start(binary: &Path, text: &str, stage: &Stage) -> Self {
        let (folder, hears) = (folder(), Remote::start(hear));
        let free = free_address().port();
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        let text = text
            .replace("DEMO", &format!("{} --demo", program().display()))
            .replace("TELL", &format!("sh {}", in_folder("tell.sh")))
            .replace("SCRIPT", &in_folder("demo.sh"))
            .replace("FILE", &in_folder("servers.json"))
            .replace("BROKEN", &in_folder("broken.json"))
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("HEARS", &hears.url(""))
            .replace("FAR", &format!("http://{}", stage.far.address()))
            .replace("FREE", &free.to_string())
            .replace("TAKEN", &stage.taken.local_addr().unwrap().port().to_string());
        let mut command = command(binary);
        command.env("OURS", "x");
        let words = words(&text);
        let is_variable = |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_variable_name(name));
        let variables = words.iter().take_while(is_variable).count();
        command.envs(words[..variables].iter().filter_map(|word| word.split_once('=')));
        command.args(&words[variables..]);
        Self { process: Process::start(&mut command), folder, free, hears }
    }

    /// Says what is to be seen.
    pub fn look(&mut self, look: &Look) -> String {
        if matches!(look, Asks(..) | Session(_) | Servers | Stops | Listens) && !self.listens() {
            return ended(&mut self.process);
        }
        match look {
            Asks(method, path, headers, body) => ask(&self.process.address(), method, path, headers, body),
            Session("/sse") => session_by_sse(&self.process.address()),
            Session(path) => session(&self.process.address(), path),
            Servers => self.servers(),
            Ends => ended(&mut self.process),
            Stops => self.stop(),
            Listens => self.place(),
            Logs => self.logs(),
            Environment => self.told("environment", |told| {
                let has = |name: &&str| told.lines().any(|line| line.split_once('=').is_some_and(|v| v.0 == *name));
                ["ADDED", "HOME", "OURS", "PATH"].into_iter().filter(has).collect::<Vec<_>>().join(" ")
            }),
            Place => {
                let here = self.folder.path().display().to_string();
                self.told("place", |told| if told.trim() == here { "FOLDER".into() } else { "its own".into() })
            }
            Arguments => self.told("arguments", str::to_owned),
            Connects => self.converse(),
            Sends => self.sends(),
        }
    }

    /// What the server told of its surroundings.
    fn told(&mut self, what: &str, say: impl Fn(&str) -> String) -> String {
        let file = self.folder.path().join(what);
        let process = &mut self.process;
        let has_told = || self.folder.path().join("told").exists();
        wait_until("the server or an end", SOON, || has_told() || !support::alive(process.id()));
        if has_told() { say(&std::fs::read_to_string(file).unwrap()) } else { ended(process) }
    }

    fn servers(&self) -> String {
        let address = self.process.address();
        let sessions = [0; 2].map(|_| {
            let mut http = Http::connect(&address);
            http.begin("2025-06-18");
            assert!(http.post(LIST).body.contains("echo"));
            http
        });
        let count = descendants(self.process.id()).len();
        drop(sessions);
        if count == 1 { "one for both".into() } else { "one each".into() }
    }

    fn stop(&mut self) -> String {
        self.process.signal("TERM");
        let status = self.process.wait(SOON);
        std::os::unix::process::ExitStatusExt::signal(&status)
            .map_or_else(|| status.code().unwrap_or(-1).to_string(), |signal| format!("signal {signal}"))
    }

    /// Waits until it listens, or has ended instead.
    fn listens(&self) -> bool {
        let says = || support::listening(&self.process.stderr()).is_some();
        wait_until("that it listens or ends", SOON, || says() || !support::alive(self.process.id()));
        says()
    }

    fn place(&self) -> String {
        let address = self.process.address();
        let (host, port) = address.rsplit_once(':').unwrap();
        format!("{host}, {}", if port == self.free.to_string() { "at that port" } else { "at any port" })
    }

    /// Where it was told to listen at FREE, this waits for that: a quiet program says nothing.
    fn logs(&mut self) -> String {
        let id = self.process.id();
        let listens = || TcpStream::connect(("127.0.0.1", self.free)).is_ok();
        wait_until("that it listens or ends", SOON, || listens() || !support::alive(id));
        if !support::alive(id) {
            return ended(&mut self.process);
        }
        let mut http = Http::connect(&format!("127.0.0.1:{}", self.free));
        http.begin("2025-06-18");
        http.send("DELETE", &[], "");
        let _ = http.answer();
        self.process.signal("TERM");
        self.process.finish(SOON);
        let stderr = self.process.stderr();
        let is_debug = stderr.contains("[D ") || stderr.contains("mcp-proxy: debug: ");
        let is_info = stderr.contains("[I ") || stderr.contains("mcp-proxy: info: ");
        let level = if is_debug {
            "debug lines"
        } else if is_info {
            "info lines"
        } else {
            "nothing"
        };
        format!("{level} on stderr, {} on stdout", if self.process.stdout().is_empty() { "nothing" } else { "lines" })
    }

    fn converse(&mut self) -> String {
        let unknown = request(2, "no/such", "{}");
        for line in [INITIALIZE, INITIALIZED, LIST, &unknown] {
            self.process.offer(format!("{line}\n").as_bytes());
        }
        let lines = || String::from_utf8_lossy(&self.process.stdout()).into_owned();
        wait_until("answers or an end", SOON, || lines().lines().count() >= 3 || !support::alive(self.process.id()));
        let lines = lines();
        let count = |key| lines.matches(key).count();
        let (results, errors) = (count("\"result\""), count("\"error\""));
        self.process.close_stdin();
        let status = self.process.finish(SOON).code().unwrap_or(-1);
        format!("{results} results, {errors} errors, status {status}")
    }

    /// The headers of the first request that is not for a token.
    fn sends(&mut self) -> String {
        // The Python program speaks first, ours when its client does.
        self.process.offer(format!("{INITIALIZE}\n").as_bytes());
        let first = || self.hears.requests().into_iter().find(|request| !request.line.contains("/token"));
        let id = self.process.id();
        wait_until("a request or an end", SOON, || first().is_some() || !support::alive(id));
        let Some(first) = first() else { return ended(&mut self.process) };
        let mut told = first.line.split(' ').next().unwrap().to_owned();
        for name in ["authorization", "x-own"] {
            if !first.header(name).is_empty() {
                let _ = write!(told, ", {name} {}", first.header(name));
            }
        }
        told
    }
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
pub const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// The files that words may name.
fn folder() -> Folder {
    let folder = Folder::new();
    let demo = json!({"command": program(), "args": ["--demo"]});
    let (mut off, mut disabled) = (demo.clone(), demo.clone());
    off["enabled"] = false.into();
    disabled["disabled"] = true.into();
    let servers = json!({"mcpServers": {"one": demo, "off": off, "disabled": disabled}});
    let _ = folder.file("servers.json", servers.to_string());
    let _ = folder.file("broken.json", "{");
    let _ = folder.file("demo.sh", format!("exec '{}' --demo", program().display()));
    let here = folder.path().display();
    let tell = format!("env >{here}/environment; pwd >{here}/place; printf '<%s>' \"$@\" >{here}/arguments");
    let _ = folder.file("tell.sh", format!("{tell}; : >{here}/told; exec cat"));
    folder
}

/// Splits like a shell that knows only single quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut quoted) = (Vec::new(), false);
    let mut word: Option<String> = None;
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn ended(process: &mut Process) -> String {
    format!("ends with {}", process.wait(SOON).code().unwrap_or(-1))
}

/// A remote server that gives everybody a token.
fn hear(request: &remote::Request, connection: &mut remote::Connection<'_>) {
    if request.line.contains("/token") {
        let token = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", token.len());
        return connection.write(format!("{head}\r\n{token}"));
    }
    remote::behave(request, connection);
}

/// One answer in a few words.
fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut http = Http::connect(address);
    path.clone_into(&mut http.path);
    let accept = [("Accept", "application/json, text/event-stream")];
    let accept = if headers.iter().any(|(name, _)| *name == "Accept") { &[][..] } else { &accept };
    http.send(method, &[accept, headers].concat(), body);
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
    if kind == "application/json" {
        told.push("json".into());
        let body: Value = serde_json::from_str(&http.answer().body).unwrap();
        told.extend(about(&body));
    }
    if head.get("mcp-session-id").is_some() {
        told.push("session".into());
    }
    for (name, verb) in
        [("access-control-allow-origin", "allows"), ("access-control-expose-headers", "exposes"), ("allow", "knows")]
    {
        told.extend(head.get(name).map(|value| format!("{verb} {}", in_order(value))));
    }
    told.join(" ")
}

/// The members of a list in the order of the alphabet: that of the Python program changes from run to run.
fn in_order(list: &str) -> String {
    let list = list.to_lowercase();
    let mut members: Vec<_> = list.split(", ").collect();
    members.sort_unstable();
    members.join(", ")
}

/// What a body of JSON is: an error, a result, or the status.
fn about(body: &Value) -> Vec<String> {
    match (body.get("error"), body.get("result")) {
        (Some(error), _) => vec![format!("error {}", error["code"])],
        (None, Some(result)) if result["isError"] == true => vec!["failure".into()],
        (None, Some(_)) => vec!["result".into()],
        (None, None) => {
            let keys = body.as_object().unwrap().keys().cloned();
            let servers = body["server_instances"].as_object().into_iter().flatten();
            keys.chain(servers.map(|(name, word)| format!("{name}={}", word.as_str().unwrap()))).collect()
        }
    }
}

/// The questions of a small session: a list, a call, a call without its argument, an unknown tool, an unknown method.
fn questions() -> [String; 5] {
    [
        LIST.to_owned(),
        request(2, "tools/call", r#"{"name":"echo","arguments":{"text":"hello"}}"#),
        request(3, "tools/call", r#"{"name":"echo","arguments":{}}"#),
        request(4, "tools/call", r#"{"name":"nobody","arguments":{}}"#),
        request(5, "no/such", "{}"),
    ]
}

fn session(address: &str, path: &str) -> String {
    let mut http = Http::connect(address);
    path.clone_into(&mut http.path);
    http.begin("2025-06-18");
    let answer = |body: &str| about(&serde_json::from_str(body).unwrap()).concat();
    let mut told: Vec<String> = questions().iter().map(|question| answer(&http.post(question).body)).collect();
    if http.session.is_some() {
        http.send("DELETE", &[], "");
        told.push(format!("DELETE {}", http.answer().head.status));
        told.push(format!("then {}", http.post(LIST).head.status));
    }
    told.join(", ")
}

fn session_by_sse(address: &str) -> String {
    let client = Client::open(address);
    assert_eq!(client.post(&client::initialize(0)), 202);
    let _ = client.message("\"id\":0");
    assert_eq!(client.post(INITIALIZED), 202);
    let mut told = Vec::new();
    for (id, question) in (1..).zip(questions()) {
        assert_eq!(client.post(&question), 202);
        let answer = client.message(&format!("\"id\":{id}"));
        told.push(about(&serde_json::from_str(&answer).unwrap()).concat());
    }
    told.join(", ")
}
