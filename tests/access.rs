//! Who may ask: tokens, hosts, where tokens come from. Whoever brings none learns nothing, and no token is seen where
//! it does not belong: not in the log, the status, an error, the list of processes, a server or another proxy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use std::fs;
use std::process::Command;
use support::client::{Client, initialize, request};
use support::http::{Answer, Http};
use support::remote::Remote;
use support::{Folder, Process, SOON, program, proxy, wait_until};

const NEWEST: &str = "2025-11-25";
const OLD: &str = "old-token-0123456789";
const NEW: &str = "new-token-0123456789";
const WRONG: &str = "wrong-token-0123456789";

/// Offers the demo server, under a name too, with this environment.
fn start(options: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut command = proxy();
    command.args(["--debug", "--port", "0", "--named-server", "secret-name"]);
    command.arg(format!("'{}' --demo", program().display())).args(options);
    Process::start(command.arg("--").arg(program()).arg("--demo").envs(environment.iter().copied()))
}

/// One request on a connection of its own.
fn ask(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut http = Http::connect(address);
    let (method, path) = line.split_once(' ').unwrap();
    http.path = path.into();
    http.send(method, headers, body);
    http.answer()
}

fn bearer(token: &str) -> (String, String) {
    ("Authorization".to_owned(), format!("Bearer {token}"))
}

/// The status of `GET /status` with this token.
fn status(address: &str, token: &str) -> u16 {
    let (name, value) = bearer(token);
    ask(address, "GET /status", &[(&name, &value)], "").head.status
}

fn initialize_body() -> String {
    let params =
        format!(r#"{{"protocolVersion":"{NEWEST}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}"#);
    request(1, "initialize", &params)
}

const ENDPOINTS: [&str; 14] = [
    "POST /mcp",
    "GET /mcp",
    "DELETE /mcp",
    "PUT /mcp",
    "GET /sse",
    "POST /messages/?session_id=1",
    "POST /servers/secret-name/mcp",
    "GET /servers/secret-name/sse",
    "POST /servers/nobody/mcp",
    "GET /status",
    "HEAD /status",
    "GET /metrics",
    "GET /",
    "POST /healthz",
];

#[test]
fn nothing_is_told_without_a_token() {
    let process = start(&[], &[("MCP_PROXY_AUTH_TOKEN", &format!("{OLD},{NEW}"))]);
    let address = process.address();
    let plain = "Bearer realm=\"mcp-proxy\"";
    let wrong = &format!("{plain}, error=\"invalid_token\"");
    for line in ENDPOINTS {
        for (value, challenge) in [
            ("", plain),
            ("Basic b2xkLXRva2VuLTAxMjM0NTY3ODk6", plain),
            (&format!("Bearer {WRONG}"), wrong),
            (&format!("Bearer {OLD}x"), wrong),
            (&format!("Bearer {}", &OLD[..OLD.len() - 1]), wrong),
            (&format!("Bearer {OLD}, {NEW}"), wrong),
            ("Bearer", wrong),
        ] {
            let headers = [("Authorization", value)];
            let headers = if value.is_empty() { &headers[1..] } else { &headers };
            let body = if line.starts_with("POST") { initialize_body() } else { String::new() };
            let mut http = Http::connect(&address);
            let (method, path) = line.split_once(' ').unwrap();
            http.path = path.into();
            http.send(method, headers, &body);
            let head = http.peek_head();
            assert_eq!((head.status, head.get("www-authenticate")), (401, Some(challenge)), "{line} {value}");
            assert_eq!(head.get("content-type"), Some("application/json"));
            if method != "HEAD" {
                let answer = http.answer();
                let error: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(
                    (&error["jsonrpc"], &error["id"], &error["error"]["code"]),
                    (&"2.0".into(), &Value::Null, &(-32600).into())
                );
                assert!(!answer.body.contains("secret-name") && !answer.body.contains("token-0"), "{}", answer.body);
            }
        }
        for token in [OLD, NEW] {
            let (name, value) = bearer(token);
            if line.starts_with("GET /s") && line.ends_with("/sse") || line.starts_with("HEAD") {
                continue; // a stream, and an answer without a body
            }
            let headers = [(name.as_str(), value.as_str())];
            let body = if line.starts_with("POST") { initialize_body() } else { String::new() };
            assert_ne!(ask(&address, line, &headers, &body).head.status, 401, "{line}");
        }
    }
    let refused = ask(&address, "GET /metrics", &[(&bearer(OLD).0, &bearer(OLD).1)], "").body;
    let count = refused.lines().find(|line| line.contains("401")).unwrap();
    assert!(count.ends_with(&format!(" {}", ENDPOINTS.len() * 7)), "{count}");
}

#[test]
fn some_things_are_for_anybody() {
    let environment = [("MCP_PROXY_AUTH_TOKEN", OLD)];
    let process = start(&["--allow-origin", "http://page.example"], &environment);
    let address = process.address();
    assert_eq!(ask(&address, "GET /healthz", &[], "").head.status, 200);
    let origin = ("Origin", "http://page.example");
    let preflight =
        [origin, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")];
    let answer = ask(&address, "OPTIONS /mcp", &preflight, "");
    assert_eq!(answer.head.status, 204);
    assert_eq!(answer.head.get("access-control-allow-headers"), Some("authorization"));
    // The page reads how to come in.
    let answer = ask(&address, "POST /mcp", &[origin], &initialize_body());
    assert_eq!((answer.head.status, answer.head.get("access-control-allow-origin")), (401, Some(origin.1)));
    let exposed = answer.head.get("access-control-expose-headers").unwrap();
    assert!(exposed.contains("WWW-Authenticate") && exposed.contains("Mcp-Session-Id"), "{exposed}");
    assert_eq!(ask(&address, "GET /status", &[("Origin", "http://evil.example")], "").head.status, 403);
    assert_eq!(ask(&address, "GET /status", &[("Host", "evil.example")], "").head.status, 403);
    let nothing = ask(&address, "GET /.well-known/oauth-protected-resource", &[], "");
    assert_eq!(nothing.head.status, 404);
    assert!(!nothing.body.contains("secret-name"), "{}", nothing.body);
}

#[test]
fn sessions_work_with_a_token() {
    let process = start(&[], &[("MCP_PROXY_AUTH_TOKEN", OLD)]);
    let address = process.address();
    for path in ["/mcp", "/sse", "/servers/secret-name/mcp"] {
        let url = format!("http://{address}{path}");
        let mut client = Process::start(proxy().arg(url).env("API_ACCESS_TOKEN", OLD));
        client.write(format!("{}\n", initialize_body()).as_bytes());
        assert!(String::from_utf8_lossy(&client.lines(1)[0]).contains("serverInfo"), "{path}");
        client.write(format!("{}\n{}\n", support::client::INITIALIZED, request(2, "tools/list", "{}")).as_bytes());
        assert!(String::from_utf8_lossy(&client.lines(2)[1]).contains("tools"), "{path}");
        client.close_stdin();
        assert!(client.finish(SOON).success());
    }
    // A session is nobody's without a token, whoever knows its id.
    let (name, value) = bearer(OLD);
    let begun = ask(&address, "POST /mcp", &[(&name, &value)], &initialize_body());
    let session = begun.head.get("mcp-session-id").unwrap();
    let known = ("Mcp-Session-Id", session);
    assert_eq!(ask(&address, "POST /mcp", &[known], &request(2, "ping", "{}")).head.status, 401);
    assert_eq!(ask(&address, "DELETE /mcp", &[known], "").head.status, 401);
    assert_eq!(ask(&address, "POST /mcp", &[known, (&name, &value)], &request(2, "ping", "{}")).head.status, 200);
    assert_eq!(ask(&address, "DELETE /mcp", &[known, (&name, &value)], "").head.status, 204);
    assert_eq!(Client::try_open(&address).err().as_deref(), Some("HTTP/1.1 401 Unauthorized"));
}

#[test]
fn tokens_change_without_a_gap() {
    let folder = Folder::new();
    let file = folder.file("tokens", format!("# the first\n{OLD}\n"));
    let process = start(&["--auth-token-file", file.to_str().unwrap()], &[("MCP_PROXY_AUTH_TOKEN", WRONG)]);
    let address = process.address();
    assert_eq!([OLD, NEW, WRONG].map(|token| status(&address, token)), [200, 401, 401]);
    // A connection that stays open, with the same head again and again.
    let mut kept = Http::connect(&address);
    kept.path = "/status".into();
    let mut again = |token: &str| {
        kept.send("GET", &[(&bearer(token).0, &bearer(token).1)], "");
        kept.answer().head.status
    };
    assert_eq!([again(OLD), again(OLD)], [200, 200]);
    let reload = |content: &str, told: &str| {
        fs::write(&file, content).unwrap();
        let seen = process.stderr().matches(told).count();
        process.signal("HUP");
        wait_until(told, SOON, || process.stderr().matches(told).count() > seen);
    };
    reload(&format!("{OLD}\n{NEW}\n"), "was read again: 2 tokens");
    assert_eq!([OLD, NEW, WRONG].map(|token| status(&address, token)), [200, 200, 401]);
    // What is wrong changes nothing.
    for bad in ["", "# nothing\n", &format!("{NEW}\nshort\n"), "two words of it\n", "\u{1}"] {
        reload(bad, "the tokens have not changed: option '--auth-token-file'");
        assert_eq!([OLD, NEW].map(|token| status(&address, token)), [200, 200], "{bad}");
    }
    fs::remove_file(&file).unwrap();
    let told = "cannot be read: No such file or directory";
    process.signal("HUP");
    process.wait_for_stderr(told);
    assert_eq!(again(OLD), 200);
    reload(&format!("{NEW}\n"), "was read again: 1 tokens");
    assert_eq!([OLD, NEW].map(|token| status(&address, token)), [401, 200]);
    assert_eq!(again(OLD), 401);
    assert_eq!(ask(&address, "GET /healthz", &[], "").head.status, 200);
}

#[test]
fn a_token_that_could_be_guessed_stops_the_start() {
    let folder = Folder::new();
    let file = folder.file("tokens", format!("{OLD}\nhunter2\n"));
    let file = file.to_str().unwrap();
    for (options, environment, told) in [
        (
            &["--auth-token-file", file][..],
            "",
            format!("option '--auth-token-file': '{file}': line 2: a token has 16 characters or more"),
        ),
        (&[], "hunter2", "variable 'MCP_PROXY_AUTH_TOKEN': token 1: a token has 16 characters or more".to_owned()),
        (&[], "", "variable 'MCP_PROXY_AUTH_TOKEN': there is no token; unset it if everybody may ask".to_owned()),
        (
            &["--auth-token-file", "/nowhere"],
            "",
            "option '--auth-token-file': '/nowhere' cannot be read: No such file or directory".to_owned(),
        ),
    ] {
        let mut process = start(options, &[("MCP_PROXY_AUTH_TOKEN", environment)]);
        assert_eq!(process.finish(SOON).code(), Some(2));
        assert_eq!(process.stderr(), format!("mcp-proxy: {told}\n"));
    }
}

#[test]
fn no_token_is_seen() {
    let server = r#"env | sed "s/^/has /"; tr '\0' ' ' </proc/$PPID/cmdline; echo; tr '\0' '\n' </proc/$PPID/environ; echo; while read -r line; do :; done"#;
    let mut command = proxy();
    command.args(["--debug", "--pass-environment", "--port", "0", "--auth-server", "https://login.example", "--"]);
    command.args(["sh", "-c", &format!("{{ {server}; }} >&2")]);
    let process = Process::start(
        command
            .env("MCP_PROXY_AUTH_TOKEN", OLD)
            .env("MCP_PROXY_PASSWORD", "x")
            .env("MCP_PROXY_CLIENT_SECRET", "x")
            .env("MCP_PROXY_HEADERS", "X: y")
            .env("PASSED", "yes"),
    );
    let address = process.address();
    process.wait_for_stderr("has PASSED=yes");
    process.wait_for_stderr("--pass-environment --port 0");
    process.wait_for_stderr("\nPASSED=yes");
    for name in ["AUTH_TOKEN", "PASSWORD", "CLIENT_SECRET", "HEADERS"] {
        assert!(!process.stderr().contains(&format!("has MCP_PROXY_{name}")), "{}", process.stderr());
    }
    let mut told = Vec::new();
    for line in ENDPOINTS.iter().filter(|line| !line.starts_with("HEAD")) {
        for token in [OLD, WRONG] {
            let (name, value) = bearer(token);
            if token == OLD && (line.ends_with("/sse") || line.starts_with("POST")) {
                continue; // the server does not answer
            }
            let answer = ask(&address, line, &[(&name, &value)], "");
            told.push(answer);
        }
    }
    let told = format!("{told:?}");
    assert!(!told.contains(OLD) && !told.contains(WRONG), "{told}");
    let shown = Command::new("ps").args(["-o", "args", "-p", &process.id().to_string()]).output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&shown).contains(OLD));
    assert!(!process.stderr().contains(OLD) && !process.stderr().contains(WRONG), "{}", process.stderr());
}

#[test]
fn the_clients_token_stays_with_us() {
    let sse = Remote::mcp();
    let streamable = Remote::start(support::streamable::behave);
    for (remote, path, options) in [
        (&sse, "/sse", &["-H", "X-Own: ours"][..]),
        (&streamable, "/mcp", &["-H", "X-Own: ours"]),
        (&streamable, "/mcp", &["-H", "X-Own: ours", "--api-access-token", "upstream-token"]),
    ] {
        let mut command = proxy();
        command.args(["--port", "0"]).args(options).arg(remote.url(path)).env("MCP_PROXY_AUTH_TOKEN", OLD);
        let process = Process::start(&mut command);
        let (name, value) = bearer(OLD);
        let also = [(name.as_str(), value.as_str()), ("Cookie", "c=1"), ("X-Forwarded-For", "1.2.3.4")];
        let seen = remote.requests().len();
        let answer = ask(&process.address(), "POST /mcp", &also, &initialize(1));
        assert_eq!(answer.head.status, 200, "{answer:?}");
        let requests = remote.requests().split_off(seen);
        assert!(!requests.is_empty());
        let wanted = if options.len() > 2 { "Bearer upstream-token" } else { "" };
        for request in requests {
            assert!(!format!("{request:?}").contains(OLD), "{request:?}");
            assert_eq!((request.header("authorization"), request.header("x-own")), (wanted, "ours"));
            assert_eq!((request.header("cookie"), request.header("x-forwarded-for")), ("", ""));
        }
    }
}

#[test]
fn where_tokens_come_from_is_told() {
    let options = ["--auth-server", "https://login.example", "--auth-server", "https://other.example/x"];
    let process = start(&options, &[("MCP_PROXY_AUTH_TOKEN", OLD)]);
    let address = process.address();
    let well_known = "/.well-known/oauth-protected-resource";
    for (line, tail) in [
        ("POST /mcp", "/mcp"),
        ("GET /sse", "/sse"),
        ("POST /servers/secret-name/mcp", "/servers/secret-name/mcp"),
        ("POST /messages/?session_id=1", "/sse"),
        ("GET /status", ""),
    ] {
        let answer = ask(&address, line, &[], "");
        let wanted = format!("Bearer realm=\"mcp-proxy\", resource_metadata=\"http://{address}{well_known}{tail}\"");
        assert_eq!((answer.head.status, answer.head.get("www-authenticate")), (401, Some(&*wanted)));
        let answer = ask(&address, &format!("GET {well_known}{tail}"), &[], "");
        assert_eq!((answer.head.status, answer.head.get("content-type")), (200, Some("application/json")));
        assert_eq!(answer.head.get("cache-control"), Some("no-store"));
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["resource"], format!("http://{address}{tail}"));
        assert_eq!(
            document["authorization_servers"],
            serde_json::json!(["https://login.example", "https://other.example/x"])
        );
        assert_eq!(document["bearer_methods_supported"], serde_json::json!(["header"]));
    }
    assert_eq!(ask(&address, &format!("POST {well_known}/mcp"), &[], "").head.status, 401);
    assert_eq!(ask(&address, &format!("GET {well_known}/status"), &[], "").head.status, 404);
}

#[test]
fn the_public_address_is_told_behind_a_reverse_proxy() {
    let well_known = ".well-known/oauth-protected-resource";
    let forwarded = [
        ("Host", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "tools.example"),
        ("X-Forwarded-Prefix", "/a"),
    ];
    for (options, wanted) in [
        (&["--trusted-proxy", "127.0.0.1"][..], "https://tools.example/a"),
        (&[], "http://127.0.0.1"),
        (&["--base-path", "/b"], "http://127.0.0.1/b"),
        (&["--public-url", "https://public.example/", "--base-path", "/b"], "https://public.example/b"),
    ] {
        let options = [&["--auth-server", "https://login.example"], options].concat();
        let process = start(&options, &[("MCP_PROXY_AUTH_TOKEN", OLD)]);
        let answer = ask(&process.address(), "POST /mcp", &forwarded, "");
        let challenge = answer.head.get("www-authenticate").unwrap();
        assert!(challenge.ends_with(&format!("resource_metadata=\"{wanted}/{well_known}/mcp\"")), "{challenge}");
        let answer = ask(&process.address(), &format!("GET /{well_known}/mcp"), &forwarded, "");
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["resource"], format!("{wanted}/mcp"));
    }
}

#[test]
fn hosts_are_those_that_are_named() {
    let asks =
        |address: &str, host: &str, path: &str| ask(address, &format!("GET {path}"), &[("Host", host)], "").head.status;
    let near = start(&["--allow-host", "mcp.example"], &[]);
    let address = near.address();
    for (host, wanted) in
        [("mcp.example", 200), ("MCP.example:443", 200), ("localhost", 200), (&*address, 200), ("evil.example", 403)]
    {
        assert_eq!(asks(&address, host, "/status"), wanted, "{host}");
    }
    let far = start(&["--host", "0.0.0.0", "--allow-host", "mcp.example"], &[]);
    let address = far.address();
    for (host, path, wanted) in [
        ("mcp.example", "/status", 200),
        ("localhost", "/status", 200),
        ("10.1.2.3", "/status", 403),
        ("evil.example", "/mcp", 403),
        ("10.1.2.3:8080", "/healthz", 200),
    ] {
        assert_eq!(asks(&address, host, path), wanted, "{host}");
    }
    let open = start(&["--host", "0.0.0.0"], &[]);
    assert_eq!(asks(&open.address(), "any.example", "/status"), 200);
}

#[test]
fn who_lets_strangers_in_is_told_so_once() {
    let warning = "warning: whoever reaches 0.0.0.0:";
    for (options, environment, times) in [
        (&["--host", "0.0.0.0", "--listen", "0.0.0.0:0"][..], &[][..], 1),
        (&["--host", "0.0.0.0"], &[("MCP_PROXY_AUTH_TOKEN", OLD)], 0),
        (&["--host", "localhost"], &[], 0),
    ] {
        let process = start(options, environment);
        let _ = process.address();
        assert_eq!(process.stderr().matches(warning).count(), times, "{}", process.stderr());
        assert_eq!(process.stderr().matches("give --auth-token-file FILE").count(), times);
    }
}
