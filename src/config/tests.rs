//! Tables of files and what they mean: a line a server, with what differs from its defaults.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use super::*;
use std::path::PathBuf;

fn defaults() -> Defaults {
    Defaults {
        pass_environment: false,
        transport: Transport::Auto,
        protocol: Protocol::Auto,
        verify: Verify::Public,
        message_limit_bytes: 7,
        timeout: Duration::from_secs(8),
    }
}

fn environment(name: &str) -> Option<OsString> {
    match name {
        "A" => Some("one".into()),
        "TOKEN" => Some("hunter2".into()),
        "BROKEN" => Some("hunter2\n".into()),
        _ => None,
    }
}

fn described(server: &Server) -> String {
    let mut facts = vec![server.name.clone().unwrap_or_default()];
    match &server.target {
        Target::Command(command) => {
            let words = [&command.program].into_iter().chain(&command.args).map(|word| word.to_str().unwrap());
            facts.push(words.collect::<Vec<_>>().join("|"));
            facts.extend(command.env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())));
            facts.extend(command.cwd.iter().map(|folder| format!("in {}", folder.display())));
            facts.extend(command.pass_environment.then(|| "whole environment".to_owned()));
        }
        Target::Remote(remote) => {
            facts.push(remote.url.to_string());
            facts.extend(remote.headers.iter().map(|(name, value)| format!("{name}: {}", value.reveal())));
            facts.extend((remote.transport != Transport::Auto).then(|| format!("{:?}", remote.transport)));
        }
    }
    facts.join(" ")
}

/// Servers and remarks, or the fault.
fn meaning(text: &str) -> String {
    match parse(text, &defaults(), &environment) {
        Ok(reading) => {
            let lines: Vec<_> = reading.servers.iter().map(described).chain(reading.remarks).collect();
            lines.join("; ")
        }
        Err(fault) => {
            assert!(!fault.contains("hunter2") && !fault.contains('\n'), "{fault}");
            format!("error: {fault}")
        }
    }
}

/// The same for one entry that is called `s`.
fn entry(text: &str) -> String {
    meaning(&format!(r#"{{"mcpServers": {{"s": {text}}}}}"#))
}

#[test]
fn the_files_that_the_python_program_documents() {
    assert_eq!(
        meaning(
            r#"{
              "mcpServers": {
                "fetch": {
                  "disabled": false, "timeout": 60, "command": "uvx", "args": ["mcp-server-fetch"],
                  "transportType": "stdio"
                },
                "github": {
                  "timeout": 60, "command": "npx", "args": ["-y", "@modelcontextprotocol/server-github"],
                  "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "<YOUR_TOKEN>"}, "transportType": "stdio"
                }
              }
            }"#
        ),
        "fetch uvx|mcp-server-fetch; \
         github npx|-y|@modelcontextprotocol/server-github GITHUB_PERSONAL_ACCESS_TOKEN=<YOUR_TOKEN>; \
         ignored: 'timeout' of 'fetch' and 1 more"
    );
    assert_eq!(
        meaning(
            r#"{"mcpServers": {"fetch": {"enabled": true, "timeout": 60, "command": "uvx", "args": ["x"],
                                         "transportType": "stdio"}}}"#
        ),
        "fetch uvx|x; ignored: 'timeout' of 'fetch'"
    );
}

#[test]
fn the_file_as_a_whole() {
    for (text, wanted) in [
        (r#"{"mcpServers": {}}"#, ""),
        ("\u{feff}{\"mcpServers\": {}}", ""),
        (
            r#"{"mcpServers": {"b": {"command": "x"}, "a": {"command": "y"}}, "globalShortcut": "", "other": {}}"#,
            "b x; a y; ignored: 'globalShortcut', 'other'",
        ),
        ("{}", "error: it has no 'mcpServers'"),
        (r#"{"servers": {}}"#, "error: it has no 'mcpServers'"),
        (r#"{"mcpServers": []}"#, "error: 'mcpServers' must be an object"),
        (r#"{"mcpServers": null}"#, "error: 'mcpServers' must be an object"),
        ("[]", "error: it must be an object with the key 'mcpServers'"),
        ("", "error: EOF while parsing a value at line 1 column 0"),
        ("{\n  // no\n}", "error: key must be a string at line 2 column 3"),
        ("{\"mcpServers\": {},\n}", "error: trailing comma at line 2 column 1"),
        (r#"{"mcpServers": {}} x"#, "error: trailing characters at line 1 column 20"),
        ("{\"mcpServers\": {},\n \"mcpServers\": {}}", "error: key 'mcpServers' stands twice at line 2 column 13"),
        (
            r#"{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}"#,
            "error: key 'a' stands twice at line 1 column 42",
        ),
        (r#"{"mcpServers": {"a": 1}}"#, "error: server 'a' must be an object"),
    ] {
        assert_eq!(meaning(text), wanted, "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(meaning(&deep), "error: recursion limit exceeded at line 1 column 128");
    let many: Vec<_> = (0..20).map(|n| format!(r#""k{n:02}": {n}"#)).collect();
    let remark = meaning(&format!(r#"{{"mcpServers": {{}}, {}}}"#, many.join(",")));
    assert!(remark.ends_with("'k14', 'k15', 4 more"), "{remark}");
}

#[test]
fn local_servers() {
    for (text, wanted) in [
        (r#"{"command": "x"}"#, "s x"),
        (r#"{"command": "x", "args": null, "env": null, "cwd": null, "url": null, "disabled": null}"#, "s x"),
        (r#"{"command": "x y", "args": ["a b", "", "$A", "${A}"]}"#, "s x y|a b||$A|one"),
        (r#"{"command": "${A}/x", "cwd": "/${A}", "env": {"K": "${A}", "${A}": ""}}"#, "s one/x K=one ${A}= in /one"),
        (r#"{"command": "x", "cwd": ""}"#, "s x"),
        (r#"{"command": "x", "type": "stdio", "transport": "STDIO"}"#, "s x"),
        (
            r#"{"command": "x", "headers": {}, "autoApprove": []}"#,
            "s x; ignored: 'autoApprove' of 's', 'headers' of 's'",
        ),
        (r#"{"command": "x", "args": "y"}"#, "error: server 's': 'args' must be a list of strings"),
        (r#"{"command": "x", "args": [1]}"#, "error: server 's': 'args' must be a list of strings"),
        (r#"{"command": ["x"]}"#, "error: server 's': 'command' must be a string"),
        (r#"{"command": ""}"#, "error: server 's': 'command' is empty"),
        (r#"{"command": "x", "cwd": 1}"#, "error: server 's': 'cwd' must be a string"),
        (r#"{"command": "x", "env": []}"#, "error: server 's': 'env' must be an object of strings"),
        (r#"{"command": "x", "env": {"K": 80}}"#, "error: server 's': 'env': the value of 'K' must be a string"),
        (r#"{"command": "x", "env": {"": "y"}}"#, "error: server 's': 'env': '' is not the name of a variable"),
        (r#"{"command": "x", "env": {"a=b": "y"}}"#, "error: server 's': 'env': 'a=b' is not the name of a variable"),
        (r#"{"command": "x", "args": ["hunter2\u0000"]}"#, "error: server 's': 'args' holds a NUL"),
        (r#"{"command": "x", "args": ["${NONE}"]}"#, "error: server 's': 'args': variable 'NONE' is not set"),
        (r#"{"command": "x", "env": {"K": "${NONE}"}}"#, "error: server 's': 'env': variable 'NONE' is not set"),
        (r#"{"command": "x", "type": "sse"}"#, "error: server 's': 'type' goes with 'url', not with 'command'"),
        (r#"{"args": ["y"]}"#, "error: server 's': it needs 'command' or 'url'"),
        ("{}", "error: server 's': it needs 'command' or 'url'"),
    ] {
        assert_eq!(entry(text), wanted, "{text}");
    }
}

#[test]
fn remote_servers() {
    let none_of = "none of 'auto', 'stdio', 'sse', 'http' and 'streamable-http'";
    for (text, wanted) in [
        (r#"{"url": "https://h/mcp"}"#, "s https://h/mcp"),
        (r#"{"url": "HTTP://h"}"#, "s http://h/"),
        (r#"{"serverUrl": "https://h/sse"}"#, "s https://h/sse"),
        (r#"{"httpUrl": "https://h/mcp"}"#, "s https://h/mcp StreamableHttp"),
        (r#"{"httpUrl": "https://h/mcp", "transport": "auto"}"#, "s https://h/mcp"),
        (r#"{"url": "https://h/", "type": "sse"}"#, "s https://h/ Sse"),
        (r#"{"url": "https://h/", "type": "http"}"#, "s https://h/ StreamableHttp"),
        (r#"{"url": "https://h/", "type": "streamableHttp"}"#, "s https://h/ StreamableHttp"),
        (r#"{"url": "https://h/", "transport": "streamable-http"}"#, "s https://h/ StreamableHttp"),
        (r#"{"url": "https://h/", "transportType": "streamable_http"}"#, "s https://h/ StreamableHttp"),
        (
            r#"{"url": "https://${A}/?k=${TOKEN}", "headers": {"Authorization": "Bearer ${TOKEN}", "X": "${NO:-y}"}}"#,
            "s https://one/?k=hunter2 authorization: Bearer hunter2 x: y",
        ),
        (r#"{"url": "https://h/", "headers": {"A": "b", "a": "c"}}"#, "s https://h/ a: c"),
        (r#"{"url": "https://h/", "args": []}"#, "s https://h/; ignored: 'args' of 's'"),
        (r#"{"url": "https://h/", "type": "ws"}"#, &format!("error: server 's': 'type' is {none_of}")),
        (r#"{"url": "https://h/", "type": "stdio"}"#, "error: server 's': 'type' goes with 'command', not with 'url'"),
        (r#"{"url": "https://h/", "command": "x"}"#, "error: server 's': 'command' and 'url' exclude each other"),
        (r#"{"url": "https://h/", "httpUrl": "x"}"#, "error: server 's': 'url' and 'httpUrl' exclude each other"),
        (r#"{"url": "ws://hunter2/"}"#, "error: server 's': 'url' must begin with http:// or https://"),
        (r#"{"url": ""}"#, "error: server 's': 'url' must begin with http:// or https://"),
        (r#"{"url": "https://hunter2:0/"}"#, "error: server 's': 'url' has no host, or no port from 1 to 65535"),
        (r#"{"url": "https://h/ hunter2"}"#, "error: server 's': 'url' is not a URL"),
        (
            r#"{"url": "https://u:hunter2@h/"}"#,
            "error: server 's': 'url': user and password belong into 'headers', not into the URL",
        ),
        (r#"{"url": "https://h/", "headers": ["A: b"]}"#, "error: server 's': 'headers' must be an object of strings"),
        (
            r#"{"url": "https://h/", "headers": {"A b": "c"}}"#,
            "error: server 's': 'headers': 'A b' is not the name of a header",
        ),
        (
            r#"{"url": "https://h/", "headers": {"Content-Length": "1"}}"#,
            "error: server 's': 'headers': 'Content-Length' is ours to send",
        ),
        (r#"{"url": "https://h/", "headers": {"A": "${TOKEN} "}}"#, "s https://h/ a: hunter2"),
        (
            r#"{"url": "https://h/", "headers": {"A": "x${BROKEN}"}}"#,
            "error: server 's': 'headers': the value of 'A' holds a character that a header cannot carry, \
             such as a line break",
        ),
        (
            r#"{"url": "https://h/", "headers": {"A": "Bearer ${NONE}"}}"#,
            "error: server 's': 'headers': variable 'NONE' is not set",
        ),
    ] {
        assert_eq!(entry(text), wanted, "{text}");
    }
}

#[test]
fn a_server_can_be_left_out() {
    for (text, wanted) in [
        (r#"{"disabled": true, "command": "x"}"#, ""),
        (r#"{"enabled": false, "command": "x"}"#, ""),
        (r#"{"enabled": true, "disabled": true, "command": "x"}"#, ""),
        (r#"{"enabled": false, "disabled": false, "command": "x"}"#, ""),
        (r#"{"enabled": true, "disabled": false, "command": "x"}"#, "s x"),
        // Nothing else of it counts: a template may hold what is not there yet.
        (r#"{"disabled": true, "command": 1, "args": ["${NONE}"], "odd": 1}"#, ""),
        (r#"{"disabled": "yes", "command": "x"}"#, "error: server 's': 'disabled' must be true or false"),
        (r#"{"disabled": true, "enabled": 1}"#, "error: server 's': 'enabled' must be true or false"),
    ] {
        assert_eq!(entry(text), wanted, "{text}");
    }
}

#[test]
fn a_name_is_one_segment_of_a_path() {
    for name in ["a", "fetch2", "io.github.me~x", "@scope:x", "a_b-c!$&'()*+,;=", "..."] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "a b", "a/b", "a?b", "a#b", "a%62", "é", "a\\b", "a\"b", "<a>", "a\nb", "{a}", "a|b"] {
        assert!(check_name(name).is_err_and(|fault| !fault.contains('\n')), "{name}");
    }
    assert_eq!(
        meaning(r#"{"mcpServers": {"My Server": {"command": "x"}}}"#),
        "error: server 'My Server': a name is a part of an address: letters, digits and -._~!$&'()*+,;=:@"
    );
    assert_eq!(meaning(r#"{"mcpServers": {"My Server": {"command": "x", "disabled": true}}}"#), "");
}

#[test]
fn servers_get_the_defaults_of_the_command_line() {
    let defaults = Defaults {
        pass_environment: true,
        transport: Transport::Sse,
        protocol: Protocol::Auto,
        verify: Verify::Nothing,
        message_limit_bytes: 1,
        timeout: Duration::from_secs(2),
    };
    let text = r#"{"mcpServers": {"a": {"command": "x"}, "b": {"url": "http://h/"}, "c": {"url": "http://h/", "type": "http"}}}"#;
    let servers = parse(text, &defaults, &environment).unwrap().servers;
    let words: Vec<_> = servers.iter().map(described).collect();
    assert_eq!(words, ["a x whole environment", "b http://h/ Sse", "c http://h/ StreamableHttp"]);
    let Target::Remote(remote) = &servers[1].target else { panic!("a command") };
    assert_eq!((remote.message_limit_bytes, remote.timeout.as_secs(), &remote.verify), (1, 2, &Verify::Nothing));
    assert_eq!((&remote.auth, remote.headers.len()), (&Auth::Nothing, 0));
}

/// A file that is removed at the end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-proxy-config-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The file at `path`, beside one server at the top and one that is called `own`.
fn file(path: &Path) -> File {
    let command = || Target::Command(defaults().command("x".into(), Vec::new()));
    let own = Server { name: Some("own".into()), target: command() };
    File { path: path.into(), defaults: defaults(), others: vec![Server { name: None, target: command() }, own] }
}

#[test]
fn a_file_is_read_whenever_it_is_asked() {
    let written = Written::new("again", br#"{"mcpServers": {"a": {"command": "y"}}, "odd": 1}"#);
    let file = file(&written.0);
    let reading = file.load(&environment).unwrap();
    assert_eq!(reading.servers.iter().map(described).collect::<Vec<_>>(), [" x", "own x", "a y"]);
    assert_eq!(reading.remarks, [format!("'{}': ignored: 'odd'", written.0.display())]);
    std::fs::write(&written.0, r#"{"mcpServers": {}}"#).unwrap();
    assert_eq!(file.read().unwrap(), file.others);
    std::fs::write(&written.0, r#"{"mcpServers": {"own": {"command": "y"}}}"#).unwrap();
    let wanted = format!("'{}': server 'own': the command line has a server of that name", written.0.display());
    assert_eq!(file.read(), Err(Error::Usage(wanted)));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let long = Written::new("long", " ".repeat((1 << 20) + 1).as_bytes());
    let full = Written::new("full", format!(r#"{{"mcpServers": {{}}{}}}"#, " ".repeat((1 << 20) - 18)).as_bytes());
    let binary = Written::new("binary", b"{\"\xff\": 1}");
    let broken = Written::new("broken", br#"{"mcpServers": {"s": {"command": "x", "args": "y"}}}"#);
    assert!(file(&full.0).load(&environment).is_ok());
    for (path, wanted) in [
        (&long.0, "is longer than 1048576 bytes"),
        (&binary.0, "is not UTF-8"),
        (&PathBuf::from("/nowhere.json"), "cannot be read: No such file or directory"),
        (&PathBuf::from("/"), "cannot be read: Is a directory"),
    ] {
        let wanted = format!("option '--named-server-config': '{}' {wanted}", path.display());
        assert_eq!(file(path).load(&environment), Err(Error::Usage(wanted)));
    }
    let wanted = format!("'{}': server 's': 'args' must be a list of strings", broken.0.display());
    assert_eq!(file(&broken.0).load(&environment), Err(Error::Usage(wanted)));
}
