//! The binary's command line: what is shown on stdout, what is refused in one line on stderr, and the exit status.

use std::process::{Command, Output, Stdio};

/// A value that no output may hold.
const SECRET: &str = "hunter2";

fn run(words: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcp-proxy"))
        .args(words)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is UTF-8")
}

/// Runs something that ends by itself with 0 and gives what it shows.
fn shown(words: &[&str]) -> String {
    let output = run(words, &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{words:?}");
    text(&output.stdout).to_owned()
}

/// Runs something that is refused and gives the one line that says why.
fn refused(words: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(words, environment);
    let line = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{words:?}: {line}");
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{words:?}: not one line: {line:?}");
    assert!(!line.contains(SECRET), "{words:?}: shows the secret: {line}");
    line.trim_end().to_owned()
}

#[test]
fn help_reads_well_in_80_columns() {
    let help = shown(&["--help"]);
    assert_eq!(help, mcp_proxy::cli::help());
    assert_eq!(help, shown(&["-h"]));
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for expected in [
        "Usage:",
        "Examples:",
        "SSE_URL",
        "--named-server-config",
        "MCP_PROXY_PASSWORD",
        "API_ACCESS_TOKEN",
        "[default: 127.0.0.1]",
    ] {
        assert!(help.contains(expected), "{expected}");
    }
}

#[test]
fn the_examples_of_help_are_taken() {
    let help = shown(&["--help"]);
    let examples = help.split("Examples:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("examples");
    for line in examples.lines() {
        // Every second part stands between quotes, and is one word.
        let parts = line.split('\'').zip([false, true].into_iter().cycle());
        let words =
            parts.flat_map(|(part, quoted)| if quoted { vec![part] } else { part.split_whitespace().collect() });
        let words = words.skip(1).map(Into::into);
        match mcp_proxy::cli::parse(words, &|_| None) {
            Ok(_) => (),
            // The only thing that may be missing is an example's file.
            Err(error) => {
                let text = error.to_string();
                assert!(["our-ca.pem", "servers.json"].iter().any(|file| text.contains(file)), "{line}: {error}");
            }
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(shown(&["--version"]), format!("mcp-proxy {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-proxy"))
        .arg("--help")
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("the binary starts");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn mistakes_are_one_line_that_names_the_option() {
    for (words, line) in [
        (&[][..], "nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        (&["--stateful", "cmd"], "unknown option '--stateful'"),
        (&["--port", "99999", "cmd"], "option '--port': '99999' is not a port from 0 to 65535"),
        (&["--port", "80", "http://h:0/"], "'http://h:0/' has no host, or no port from 1 to 65535"),
        (&["--cwd", "/nowhere", "cmd"], "option '--cwd': '/nowhere' is not a folder"),
        (
            &["--verify-ssl=/nowhere", "https://h/"],
            "option '--verify-ssl': '/nowhere' cannot be read: No such file or directory",
        ),
        (&["--keep-alive", "0", "cmd"], "option '--keep-alive': '0' is not a number of seconds from 0.001 to 1000000"),
        (&["http:///"], "'http:///' is not a URL"),
        (
            &["--transport", "http", "http://h/mcp"],
            "option '--transport': 'http' is none of 'auto', 'sse' and 'streamablehttp'",
        ),
        (&["--client-id", "me", "http://h/"], "option '--client-id': it needs '--client-secret' and '--token-url' too"),
        (&["--digest", "--username", "me", "http://h/"], "option '--digest': it needs '--password' too"),
        (
            &["--named-server", "a", "x 'y"],
            "option '--named-server': server 'a': the command has a quote that is not closed",
        ),
        (
            &["--named-server-config", "/nowhere.json"],
            "option '--named-server-config': '/nowhere.json' cannot be read: No such file or directory",
        ),
        (&["--base-path", "x", "cmd"], "option '--base-path': 'x' does not begin with a slash"),
        (&["--log-format", "xml", "cmd"], "option '--log-format': 'xml' is neither 'text' nor 'json'"),
        (
            &["--port", "1", "mcp-proxy", "--demo"],
            "option '--demo': it goes with no URL and no command; '--' before a command makes it the command's",
        ),
    ] {
        assert_eq!(refused(words, &[]), format!("mcp-proxy: {line}"));
    }
}

#[test]
fn a_refusal_shows_no_secret() {
    for words in [
        &["-H", "Authorization", "Bearer hunter2\n", "http://h/"][..],
        &["-H", "Authorization: Bearer hunter2\u{7f}", "http://h/"],
        &["-H", "Authorization Bearer hunter2", "http://h/"],
        &["-H", "Authorization:", "Bearer hunter2", "http://h/"],
        &["-HAuthorization Bearer hunter2", "http://h/"],
        &["--headers=Authorization Bearer hunter2", "http://h/"],
        &["--header-s=hunter2", "http://h/"],
        &["--api-access-token", "hunter2\r", "http://h/"],
        &["--api-access-token hunter2", "http://h/"],
        &["--api-access-token=hunter2", "http://user:hunter2@h/"],
        &["http://h:0/?key=hunter2"],
        &["http:///sse?key=hunter2#hunter2"],
        &["-e", "=hunter2", "cmd"],
        &["-phunter2", "cmd"],
        &["--password=hunter2", "http://h/"],
        &["--username", "me", "--password", "hunter2", "--client-id", "me", "http://h/"],
        &["--username", "a:b", "--password", "hunter2", "http://h/"],
        &["--client-secret", "hunter2", "http://h/"],
        &["--client-id", "a", "--client-secret", "hunter2", "--token-url", "http://:0/?hunter2", "http://h/"],
        &["--token-url", "ftp://user:hunter2@h/?hunter2", "http://h/"],
        &["--named-server", "a", "http://me:hunter2@h/?hunter2"],
        &["--named-server", "a", "x 'hunter2"],
        &["--debug=hunter2", "cmd"],
    ] {
        refused(words, &[]);
    }
    refused(&["http://h/"], &[("API_ACCESS_TOKEN", "hunter2\n")]);
    refused(&[], &[("SSE_URL", "http://user:hunter2@h/?hunter2")]);
    refused(&[], &[("SSE_URL", "h/?hunter2")]);
}

/// Writes a file of named servers, runs with it, and gives the one line.
fn refused_file(content: &str) -> String {
    let path = std::env::temp_dir().join(format!("mcp-proxy-servers-{}.json", std::process::id()));
    std::fs::write(&path, content).expect("a temporary file");
    let shown = path.display().to_string();
    let line = refused(&["--named-server-config", &shown], &[("TOKEN", "hunter2\n")]);
    std::fs::remove_file(&path).expect("the file is still there");
    line.replace(&shown, "FILE")
}

#[test]
fn a_mistake_in_the_file_is_named_without_its_values() {
    for (entries, line) in [
        (r#"{"a": {"command": "x", "args": "hunter2"}}"#, "server 'a': 'args' must be a list of strings"),
        (r#"{"a": {"command": "x", "env": {"K": 1}}}"#, "server 'a': 'env': the value of 'K' must be a string"),
        (r#"{"a": {"command": "${NONE}"}}"#, "server 'a': 'command': variable 'NONE' is not set"),
        (
            r#"{"a": {"url": "http://h/", "headers": {"A": "${TOKEN}"}}}"#,
            "server 'a': 'headers': the value of 'A' holds a character that a header cannot carry, such as a line break",
        ),
        (r#"{"a": {"url": "hunter2"}}"#, "server 'a': 'url' must begin with http:// or https://"),
        (r#"{"a": {"command": "x"}, "a": {}}"#, "key 'a' stands twice at line 1 column 42"),
        (r#"{"a": {"command": "hunter2\q"}}"#, "invalid escape at line 1 column 43"),
        (r#"{"a": {"disabled": true}}"#, "no server is left to serve"),
    ] {
        let wanted = format!("mcp-proxy: 'FILE': {line}");
        assert_eq!(refused_file(&format!(r#"{{"mcpServers": {entries}}}"#)), wanted);
    }
}
