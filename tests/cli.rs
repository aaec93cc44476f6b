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
    for expected in ["Usage:", "Examples:", "SSE_URL", "API_ACCESS_TOKEN", "[default: 127.0.0.1]"] {
        assert!(help.contains(expected), "{expected}");
    }
}

#[test]
fn the_examples_of_help_are_taken() {
    let help = shown(&["--help"]);
    let examples = help.split("Examples:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("examples");
    for line in examples.lines() {
        let words: Vec<String> =
            line.trim().replace("'Bearer TOKEN'", "Bearer-TOKEN").split(' ').map(str::to_owned).collect();
        let words = words.iter().skip(1).map(|word| word.trim_matches('\'').into());
        match mcp_proxy::cli::parse(words, &|_| None) {
            Ok(_) => (),
            // The only thing that may be missing is the example's file.
            Err(error) => assert!(error.to_string().contains("our-ca.pem"), "{line}: {error}"),
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
        (&["--stateless", "cmd"], "unknown option '--stateless'"),
        (&["--port", "99999", "cmd"], "option '--port': '99999' is not a port from 0 to 65535"),
        (&["--port", "80", "http://h/"], "option '--port': this version serves a command, but no URL yet"),
        (&["--cwd", "/nowhere", "cmd"], "option '--cwd': '/nowhere' is not a folder"),
        (
            &["--verify-ssl=/nowhere", "https://h/"],
            "option '--verify-ssl': '/nowhere' cannot be read: No such file or directory",
        ),
        (&["--keep-alive", "0", "cmd"], "option '--keep-alive': '0' is not a number of seconds from 0.001 to 1000000"),
        (&["http:///"], "'http:///' is not a URL"),
        (
            &["--transport", "streamablehttp", "http://h/mcp"],
            "option '--transport': this version does not speak 'streamablehttp' yet, only 'sse'",
        ),
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
        &["--debug=hunter2", "cmd"],
    ] {
        refused(words, &[]);
    }
    refused(&["http://h/"], &[("API_ACCESS_TOKEN", "hunter2\n")]);
    refused(&[], &[("SSE_URL", "http://user:hunter2@h/?hunter2")]);
    refused(&[], &[("SSE_URL", "h/?hunter2")]);
}
