//! Tables of command lines and what they mean. What a row does not mention has its default.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use super::*;
use crate::config::Target;
use crate::downstream::door::{Address, Rights};
use crate::protocol::network::Peer;
use crate::restrict::Wish;
use crate::upstream::auth::Auth;
use crate::upstream::http::{Remote, Transport, Verify};
use std::collections::HashSet;

/// Splits at spaces; `'…'` keeps them.
fn words(line: &str) -> Vec<OsString> {
    let mut words: Vec<Option<String>> = vec![None];
    for (part, quoted) in line.split('\'').zip([false, true].into_iter().cycle()) {
        for (n, piece) in part.split(if quoted { '\'' } else { ' ' }).enumerate() {
            if n > 0 {
                words.push(None);
            }
            if quoted || !piece.is_empty() {
                words.last_mut().unwrap().get_or_insert_default().push_str(piece);
            }
        }
    }
    words.into_iter().flatten().map(OsString::from).collect()
}

/// Parses with this environment, `NAME=value` separated by semicolons.
fn parsed(line: &str, environment: &str) -> Result<Parsed, Error> {
    let environment = environment.to_owned();
    let lookup = move |name: &str| {
        environment.split(';').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(OsString::from)
    };
    parse(words(line), &lookup)
}

/// What a command line means, in words: the mode, and whatever differs from `mcp-proxy URL` or `mcp-proxy COMMAND`.
fn meaning(line: &str, environment: &str) -> String {
    match parsed(line, environment) {
        Err(error) => {
            let is_not_found = error.to_string().starts_with("cannot start");
            assert_eq!(error.status(), if is_not_found { 127 } else { 2 }, "{line}");
            assert!(!error.to_string().contains('\n'), "{line}: {error}");
            format!("error: {error}")
        }
        Ok(parsed) => {
            let mut facts = match parsed.invocation {
                Invocation::Help => vec!["help".to_owned()],
                Invocation::Version => vec!["version".to_owned()],
                Invocation::Demo => vec!["demo".to_owned()],
                Invocation::Serve(options) => served(&options),
                Invocation::Connect(options) => connected(&options),
            };
            if parsed.log_format != log::Format::Text {
                facts.push(format!("{:?}", parsed.log_format));
            }
            facts.extend(parsed.remarks.iter().map(|remark| format!("warning: {remark}")));
            if parsed.log_level != log::Level::Info {
                facts.push(format!("{:?}", parsed.log_level));
            }
            facts.join(", ")
        }
    }
}

fn served(options: &serve::Options) -> Vec<String> {
    let Ok(Parsed { invocation: Invocation::Serve(usual), .. }) = parsed("x", "") else { unreachable!() };
    let mut facts = Vec::new();
    if options.servers.first().is_none_or(|server| server.name.is_some()) {
        facts.push("serve".to_owned());
    }
    for server in &options.servers {
        let place = server.name.as_ref().map_or("serve".to_owned(), |name| format!("/{name}"));
        match &server.target {
            Target::Command(command) => {
                let all = [&command.program].into_iter().chain(&command.args);
                let all: Vec<_> = all.map(|word| word.to_string_lossy()).collect();
                facts.push(format!("{place} {}", all.join("|")));
            }
            Target::Remote(remote) => facts.extend(reached(&place, remote)),
        }
    }
    for address in options.listen.iter().filter(|address| !usual.listen.contains(address)) {
        match address {
            Address::Unix(path) => facts.push(format!("unix {}", path.display())),
            Address::Tcp(host, port) => {
                facts.extend((*port != 0).then(|| format!("port {port}")));
                facts.extend((host != "127.0.0.1").then(|| format!("host {host}")));
            }
        }
    }
    if options.rights != usual.rights {
        let Rights { mode, user, group } = options.rights;
        facts.push(format!("rights {mode:o} {user:?} {group:?}"));
    }
    facts.extend((options.inherited > 0).then(|| format!("{} inherited", options.inherited)));
    facts.extend(options.tokens.iter().map(|tokens| format!("{tokens:?}")));
    facts.extend(options.token_file.iter().map(|file| format!("tokens from {}", file.path.display())));
    facts.extend(options.auth_servers.iter().map(|url| format!("auth {url}")));
    facts.extend(options.public_url.iter().map(|url| format!("public {url}")));
    facts.extend(options.allow_hosts.iter().map(|host| format!("as {host}")));
    if options.restrict != usual.restrict {
        facts.push(format!("restrict {:?}", options.restrict));
    }
    for server in &options.servers {
        let Target::Command(command) = &server.target else { continue };
        let whole = command.pass_environment.then(|| "whole environment".to_owned());
        facts.extend(command.env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())));
        facts.extend(command.cwd.iter().map(|folder| format!("in {}", folder.display())));
        facts.extend(whole);
    }
    if options.sharing != usual.sharing {
        facts.push(format!("{:?}", options.sharing));
    }
    if !options.base_path.is_empty() {
        facts.push(format!("below {}", options.base_path));
    }
    facts.extend(options.config.iter().map(|file| format!("from {}", file.path.display())));
    if !options.allow_origins.is_empty() {
        facts.push(format!("origins {}", options.allow_origins.join("|")));
    }
    if options.expose_headers != usual.expose_headers {
        facts.push(format!("exposed {}", options.expose_headers.join("|")));
    }
    facts
}

fn connected(options: &connect::Options) -> Vec<String> {
    let mut facts = reached("connect", &options.remote);
    if options.restrict != Wish::Nothing {
        facts.push(format!("restrict {:?}", options.restrict));
    }
    facts
}

fn reached(how: &str, remote: &Remote) -> Vec<String> {
    let mut facts = vec![format!("{how} {}", remote.url)];
    facts.extend(remote.headers.iter().map(|(name, value)| format!("{name}: {}", value.reveal())));
    match &remote.auth {
        Auth::Nothing => (),
        Auth::Basic(login) => facts.push(format!("basic {}:{}", login.username, login.password.reveal())),
        Auth::Digest(login) => facts.push(format!("digest {}:{}", login.username, login.password.reveal())),
        Auth::ClientCredentials(client) => {
            let (id, secret) = (&client.client_id, client.client_secret.reveal());
            facts.push(format!("client {id}:{secret} at {}", client.token_url));
        }
    }
    if remote.transport != Transport::Auto {
        facts.push(format!("{:?}", remote.transport));
    }
    match &remote.verify {
        Verify::Public => (),
        Verify::Nothing => facts.push("unverified".to_owned()),
        Verify::File(file) => facts.push(format!("verified by {}", file.display())),
    }
    facts
}

fn check(rows: &[(&str, &str)]) {
    for (line, wanted) in rows {
        assert_eq!(meaning(line, ""), *wanted, "mcp-proxy {line}");
    }
}

fn check_with_environment(rows: &[(&str, &str, &str)]) {
    for (environment, line, wanted) in rows {
        assert_eq!(meaning(line, environment), *wanted, "{environment} mcp-proxy {line}");
    }
}

/// A file that is removed at the end.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-proxy-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn what_the_python_program_documents_until_0_5() {
    check(&[
        // 0.3
        ("http://localhost:8080/sse", "connect http://localhost:8080/sse"),
        ("http://example.io/sse", "connect http://example.io/sse"),
        (
            "--api-access-token YOUR_TOKEN http://localhost:8080/sse",
            "connect http://localhost:8080/sse, authorization: Bearer YOUR_TOKEN",
        ),
        (
            "--sse-port 8080 -- your-command --arg1 value1 --arg2 value2",
            "serve your-command|--arg1|value1|--arg2|value2, port 8080",
        ),
        (
            "your-command --sse-port 8080 -e KEY VALUE -e ANOTHER_KEY ANOTHER_VALUE",
            "serve your-command, port 8080, KEY=VALUE, ANOTHER_KEY=ANOTHER_VALUE",
        ),
        ("uvx mcp-server-fetch", "serve uvx|mcp-server-fetch"),
        ("--sse-port=8080 uvx mcp-server-fetch", "serve uvx|mcp-server-fetch, port 8080"),
        (
            "--sse-host=0.0.0.0 --sse-port=8080 uvx mcp-server-fetch",
            "serve uvx|mcp-server-fetch, port 8080, host 0.0.0.0",
        ),
        (
            "--sse-port=8080 -- uvx mcp-server-fetch --user-agent=YourUserAgent",
            "serve uvx|mcp-server-fetch|--user-agent=YourUserAgent, port 8080",
        ),
        // 0.5
        (
            "--headers Authorization 'Bearer YOUR_TOKEN' http://localhost:8080/sse",
            "connect http://localhost:8080/sse, authorization: Bearer YOUR_TOKEN",
        ),
        ("your-command --sse-port 8080 --allow-origin='*'", "serve your-command, port 8080, origins *"),
        (
            "--pass-environment --sse-port=8096 --sse-host 0.0.0.0 uvx mcp-server-fetch",
            "serve uvx|mcp-server-fetch, port 8096, host 0.0.0.0, whole environment",
        ),
        ("http://localhost:8932/sse", "connect http://localhost:8932/sse"),
    ]);
}

#[test]
fn what_the_python_program_documents_from_0_7_to_0_13() {
    check(&[
        ("--port=8080 uvx mcp-server-fetch", "serve uvx|mcp-server-fetch, port 8080"),
        ("--host=0.0.0.0 --port=8080 uvx mcp-server-fetch", "serve uvx|mcp-server-fetch, port 8080, host 0.0.0.0"),
        (
            "--port=8080 -- uvx mcp-server-fetch --user-agent=YourUserAgent",
            "serve uvx|mcp-server-fetch|--user-agent=YourUserAgent, port 8080",
        ),
        ("--no-verify-ssl https://server.local/sse", "connect https://server.local/sse, unverified"),
        (
            "--port 8080 -- your-command --arg1 value1 --arg2 value2",
            "serve your-command|--arg1|value1|--arg2|value2, port 8080",
        ),
        (
            "your-command --port 8080 -e KEY VALUE -e ANOTHER_KEY ANOTHER_VALUE",
            "serve your-command, port 8080, KEY=VALUE, ANOTHER_KEY=ANOTHER_VALUE",
        ),
        ("your-command --port 8080 --allow-origin='*'", "serve your-command, port 8080, origins *"),
        (
            "--port=8080 --allow-origin='*' --expose-header Custom-Header uvx mcp-server-fetch",
            "serve uvx|mcp-server-fetch, port 8080, origins *, exposed Custom-Header",
        ),
        (
            "--pass-environment --port=8096 --sse-host 0.0.0.0 uvx mcp-server-fetch",
            "serve uvx|mcp-server-fetch, port 8096, host 0.0.0.0, whole environment",
        ),
        ("http://127.0.0.1:8080/sse", "connect http://127.0.0.1:8080/sse"),
        ("--transport streamablehttp http://localhost:8080/mcp", "connect http://localhost:8080/mcp, StreamableHttp"),
        ("--transport=streamablehttp http://example.io/mcp", "connect http://example.io/mcp, StreamableHttp"),
        (
            "--client-id CLIENT_ID --client-secret CLIENT_SECRET --token-url https://auth.example.com/token \
             http://localhost:8080/sse",
            "connect http://localhost:8080/sse, client CLIENT_ID:CLIENT_SECRET at https://auth.example.com/token",
        ),
        (
            "--transport streamablehttp --username user --password pass https://server.local/mcp",
            "connect https://server.local/mcp, basic user:pass, StreamableHttp",
        ),
        (
            "your-command --port 8080 --allow-origin='*' --expose-header Custom-Header",
            "serve your-command, port 8080, origins *, exposed Custom-Header",
        ),
        ("--port 8080 -- my-default-command --arg1 value1", "serve my-default-command|--arg1|value1, port 8080"),
        (
            "--port 8080 -e KEY VALUE -e ANOTHER_KEY ANOTHER_VALUE -- my-default-command",
            "serve my-default-command, port 8080, KEY=VALUE, ANOTHER_KEY=ANOTHER_VALUE",
        ),
        ("--port 8080 --allow-origin='*' -- my-default-command", "serve my-default-command, port 8080, origins *"),
        ("--stateless --port 8080 uvx mcp-server-fetch", "serve uvx|mcp-server-fetch, port 8080, Stateless"),
        ("--no-stateless --cwd / --port 8080 uvx mcp-server-fetch", "serve uvx|mcp-server-fetch, port 8080, in /"),
        ("--named-server fetch 'uvx mcp-server-fetch' --port 8080", "serve, /fetch uvx|mcp-server-fetch, port 8080"),
        (
            "--port=8080 --named-server fetch 'uvx mcp-server-fetch' --named-server fetch2 'uvx mcp-server-fetch'",
            "serve, /fetch uvx|mcp-server-fetch, /fetch2 uvx|mcp-server-fetch, port 8080",
        ),
        (
            "--port 8080 --named-server fetch1 'uvx mcp-server-fetch' --named-server tool2 'my-custom-tool --verbose'",
            "serve, /fetch1 uvx|mcp-server-fetch, /tool2 my-custom-tool|--verbose, port 8080",
        ),
        ("--version", "version"),
        ("--help", "help"),
        ("-h", "help"),
        // the issue
        (
            "--sse-port 8080 --sse-host 0.0.0.0 --env FOO=BAR -- uvx mcp-server-fetch",
            "serve uvx|mcp-server-fetch, port 8080, host 0.0.0.0, FOO=BAR",
        ),
        ("--demo", "demo"),
        ("--port 8080 -- mcp-proxy --demo", "serve mcp-proxy|--demo, port 8080"),
    ]);
}

#[test]
fn the_first_word_chooses_the_mode() {
    check(&[
        ("HTTP://HOST/sse", "connect http://HOST/sse"),
        ("hTTps://host", "connect https://host/"),
        ("https://[::1]:8443/sse?key=1#part", "connect https://[::1]:8443/sse?key=1"),
        ("http://host:/sse", "connect http://host:/sse"),
        ("httpd", "serve httpd"),
        ("cmd http:/host", "serve cmd|http:/host"),
        ("-", "serve -"),
        ("-- http://host/sse", "connect http://host/sse"),
        // The Python program ignores words behind the URL, and the options of the other mode.
        ("http://host/sse more words", "connect http://host/sse"),
        ("http://host/sse -- --more", "connect http://host/sse"),
        ("-e K V --cwd /nowhere --pass-environment --allow-origin '*' -- http://host/", "connect http://host/"),
        ("-H A b --transport streamablehttp --verify-ssl=/nowhere --client-id half cmd", "serve cmd"),
        ("", "error: nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        ("--port 80", "error: nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        ("--", "error: nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'"),
        ("''", "error: the URL or command is empty, see 'mcp-proxy --help'"),
        // A URL together with a place to listen is served.
        ("--port 80 http://host/sse", "serve http://host/sse, port 80"),
        ("http://host/sse --sse-host ::", "serve http://host/sse, host ::"),
        ("-H A b http://host/mcp --host :: --transport sse", "serve http://host/mcp, a: b, Sse, host ::"),
        (
            "--sse-port 80 --username u --password p http://host/ --stateless --no-verify-ssl",
            "serve http://host/, basic u:p, unverified, port 80, Stateless",
        ),
    ]);
}

#[test]
fn the_demo_stands_alone() {
    let alone = "error: option '--demo': it goes with no URL and no command; \
                 '--' before a command makes it the command's";
    check(&[
        ("--demo --debug", "demo, Debug"),
        ("--dem", "demo"),
        ("--demo http://host/sse", alone),
        ("--demo cmd", alone),
        ("--port 8080 ./mcp-proxy --demo", alone),
        (
            "--demo --port 8080",
            "error: option '--demo': it speaks on stdin and stdout; \
             serve it with 'mcp-proxy --port PORT -- mcp-proxy --demo'",
        ),
    ]);
    assert_eq!(meaning("--demo", "SSE_URL=http://host/sse"), "demo");
}

#[test]
fn which_words_are_the_commands() {
    check(&[
        ("npx -y server --usr x", "serve npx|-y|server|--usr|x"),
        // What is ours by the Python program's rules stays ours, but is not lost silently.
        (
            "npx server --user x",
            "serve npx|server, warning: option '--username' is ours, for a URL; \
             '--' before the command leaves it to the command",
        ),
        ("-- npx server --user x", "serve npx|server|--user|x"),
        ("npx -y server --port 8080", "serve npx|-y|server, port 8080"),
        ("--port 1 cmd -- --port 2 -- -h", "serve cmd|--port|2|--|-h, port 1"),
        ("-- cmd -- x", "serve cmd|--|x"),
        ("-- --odd", "serve --odd"),
        ("cmd a --port 1 b", "serve cmd|a|b, port 1"),
        ("cmd --unknown=x -zx -", "serve cmd|--unknown=x|-zx|-"),
        ("cmd -e A B c", "serve cmd|c, A=B"),
        ("cmd --help", "help"),
        ("cmd -- --help", "serve cmd|--help"),
        // Short forms that the Python program refused there are the command's.
        ("java -encoding=utf8 -Host:x --dem --max 5", "serve java|-encoding=utf8|-Host:x|--dem|--max|5"),
        ("cmd --no- --p 3", "serve cmd|--no-|--p|3"),
        ("cmd --po 3", "serve cmd, port 3"),
        ("cmd '-a b'", "serve cmd|-a b"),
    ]);
    let raw = OsStr::from_bytes(b"--\xff");
    let Ok(Parsed { invocation: Invocation::Serve(options), .. }) = parse(["cmd".into(), raw.into()], &|_| None) else {
        panic!("refused")
    };
    let Target::Command(command) = &options.servers[0].target else { panic!("no command") };
    assert_eq!(command.args, [raw]);
}

#[test]
fn names_can_be_shortened_and_joined() {
    check(&[
        ("--po 1 cmd", "serve cmd, port 1"),
        ("--po=1 cmd", "serve cmd, port 1"),
        ("--pass-e cmd", "serve cmd, whole environment"),
        ("--head A b http://h/", "connect http://h/, a: b"),
        ("--header 'Authorization: Bearer x' http://h/", "connect http://h/, authorization: Bearer x"),
        ("--no-v http://h/", "connect http://h/, unverified"),
        ("--de cmd", "serve cmd, Debug"),
        ("--api T http://h/", "connect http://h/, authorization: Bearer T"),
        ("--keep 3 cmd", "serve cmd"),
        ("--sse-p 4 cmd", "serve cmd, port 4"),
        // What was unambiguous in the Python program stays so, whatever we add.
        ("--st cmd", "serve cmd, Stateless"),
        ("--no-s --stateless --no-st cmd", "serve cmd"),
        ("--tr sse http://h/", "connect http://h/, Sse"),
        ("--client-i a --client-s b --to http://t/ http://h/", "connect http://h/, client a:b at http://t/"),
        ("--h", "error: option '--h' could be '--headers' or '--host' or '--help'"),
        ("--user u --passw p --dig http://h/", "connect http://h/, digest u:p"),
        ("--pass cmd", "error: option '--pass' could be '--password' or '--pass-environment'"),
        ("--hos :: cmd", "serve cmd, host ::"),
        ("--log DEBUG cmd", "serve cmd, Debug"),
        ("--c / cmd", "error: option '--c' could be '--client-id' or '--client-secret' or '--cwd'"),
        ("--named-server=a 'b c' --port 1", "serve, /a b|c, port 1"),
        ("--named a b", "error: option '--named' could be '--named-server' or '--named-server-config'"),
        (
            "--named-server-c /nowhere.json",
            "error: option '--named-server-config': '/nowhere.json' cannot be read: No such file or directory",
        ),
        ("-eA=B cmd", "serve cmd, A=B"),
        ("-e=A=B cmd", "serve cmd, A=B"),
        ("'-HA: b' http://h/", "connect http://h/, a: b"),
        ("--env=A=B=C cmd", "serve cmd, A=B=C"),
        ("--env=A B cmd", "serve cmd, A=B"),
        ("'--headers=A: b' http://h/", "connect http://h/, a: b"),
        ("--cwd=/ cmd", "serve cmd, in /"),
        (
            "--no- http://h/",
            "error: option '--no-' could be '--no-verify-ssl' or '--no-pass-environment' or '--no-stateless' \
             or '--no-debug'",
        ),
        ("--sse 1 cmd", "error: option '--sse' could be '--sse-port' or '--sse-host'"),
        ("--p=1 cmd", "error: option '--p' could be '--password' or '--port' or '--pass-environment'"),
        (
            "--max 1 cmd",
            "error: option '--max' could be '--max-sessions' or '--max-open-requests' or '--max-links' or '--max-inputs' or '--max-connections' \
             or '--max-message-bytes' or '--max-header-bytes' or '--max-stream-bytes'",
        ),
    ]);
}

#[test]
fn unknown_options_are_named_without_their_values() {
    check(&[
        ("--stateful cmd", "error: unknown option '--stateful'"),
        ("--client-ids=secret http://h/", "error: unknown option '--client-ids'"),
        ("http://h/ --sharing", "error: unknown option '--sharing'"),
        ("--x=secret cmd", "error: unknown option '--x'"),
        ("'--x secret' cmd", "error: unknown option '--x'"),
        ("--=x cmd", "error: unknown option '--'"),
        ("-psecret cmd", "error: unknown option '-p'"),
        ("-port 80 cmd", "error: unknown option '-port', did you mean '--port'?"),
        ("-port=80 cmd", "error: unknown option '-port', did you mean '--port'?"),
        ("'-HKey secret' http://h/", "error: option '-H' and its value stand in one word, make them two"),
        (
            "'--api-access-token secret' http://h/",
            "error: option '--api-access-token' and its value stand in one word, make them two",
        ),
    ]);
}

#[test]
fn headers_take_one_word_or_two() {
    check(&[
        ("-H A b http://h/", "connect http://h/, a: b"),
        ("-H 'A: b' http://h/", "connect http://h/, a: b"),
        ("-H A:b:c http://h/", "connect http://h/, a: b:c"),
        ("-H A -b http://h/", "connect http://h/, a: -b"),
        ("-H A --unknown http://h/", "connect http://h/, a: --unknown"),
        ("-H A '' http://h/", "connect http://h/, a: "),
        ("-H A b -H B c -H a d http://h/", "connect http://h/, b: c, a: d"),
        ("-H A http://x/ http://h/", "connect http://h/, a: http://x/"),
        ("http://h/ -H A b", "connect http://h/, a: b"),
        ("-H A", "error: option '--headers': KEY VALUE expected"),
        ("-H A --debug http://h/", "error: option '--headers': KEY VALUE expected"),
        ("-H A -- http://h/", "error: option '--headers': KEY VALUE expected"),
        ("-H", "error: option '--headers': KEY VALUE expected"),
        ("-H A: secret http://h/", "error: option '--headers': KEY VALUE expected"),
        ("-H 'A Bearer secret' http://h/", "error: option '--headers': 'A' is not the name of a header"),
        ("-H 'Ü: secret' http://h/", "error: option '--headers': 'Ü' is not the name of a header"),
        ("-H : secret http://h/", "error: option '--headers': KEY VALUE expected"),
        ("-H '' secret http://h/", "error: option '--headers': '' is not the name of a header"),
    ]);
    for value in ["secret\nx", "secret\r", "\u{1}secret", "secretö"] {
        assert_eq!(
            meaning(&format!("-H A '{value}' http://h/"), ""),
            "error: option '--headers': the value of 'A' holds a character that a header cannot carry, \
             such as a line break"
        );
    }
}

#[test]
fn the_token_comes_from_four_places() {
    let file = File::new("token", " file\n");
    let empty = File::new("empty", "\n");
    let broken = File::new("broken", "secret\nsecret");
    check_with_environment(&[
        ("API_ACCESS_TOKEN=env", "http://h/", "connect http://h/, authorization: Bearer env"),
        ("API_ACCESS_TOKEN=env", "--api-access-token opt http://h/", "connect http://h/, authorization: Bearer opt"),
        ("API_ACCESS_TOKEN=env", "-H authorization own http://h/", "connect http://h/, authorization: own"),
        (
            "API_ACCESS_TOKEN=env",
            "--api-access-token opt -H 'Authorization: own' http://h/",
            "connect http://h/, authorization: own",
        ),
        ("API_ACCESS_TOKEN=", "http://h/", "connect http://h/"),
        ("API_ACCESS_TOKEN=env", "cmd", "serve cmd"),
        ("API_ACCESS_TOKEN=a\nb", "cmd", "serve cmd"),
        (
            "API_ACCESS_TOKEN=env",
            &format!("--api-access-token-file {} http://h/", file.path()),
            "connect http://h/, authorization: Bearer file",
        ),
        (
            "API_ACCESS_TOKEN=secret\n",
            "http://h/",
            "error: variable 'API_ACCESS_TOKEN': the token holds a character that a header cannot carry, \
             such as a line break",
        ),
        ("", "--api-access-token '' http://h/", "error: option '--api-access-token': the token is empty"),
        (
            "",
            "--api-access-token 'a\nb' http://h/",
            "error: option '--api-access-token': the token holds a character that a header cannot carry, \
             such as a line break",
        ),
        (
            "",
            "--api-access-token-file /nowhere/token http://h/",
            "error: option '--api-access-token-file': '/nowhere/token' cannot be read: No such file or directory",
        ),
        (
            "",
            &format!("--api-access-token-file {} http://h/", empty.path()),
            &format!("error: option '--api-access-token-file': '{}' is empty", empty.path()),
        ),
        (
            "",
            &format!("--api-access-token-file {} http://h/", broken.path()),
            &format!(
                "error: option '--api-access-token-file': '{}' holds a character that a header cannot carry, \
                 such as a line break",
                broken.path()
            ),
        ),
    ]);
}

#[test]
fn the_environment_fills_the_gaps() {
    check_with_environment(&[
        ("SSE_URL=http://h/sse", "", "connect http://h/sse"),
        ("SSE_URL=http://h/sse", "-H A b", "connect http://h/sse, a: b"),
        ("SSE_URL=http://h/sse", "https://other/", "connect https://other/"),
        ("SSE_URL=http://h/sse", "cmd", "serve cmd"),
        ("SSE_URL=http://h/sse", "--port 1", "serve http://h/sse, port 1"),
        ("SSE_URL=http://h/sse;MCP_PROXY_HOST=::", "--port 1", "serve http://h/sse, port 1, host ::"),
        ("SSE_URL=h", "", "error: variable 'SSE_URL': it is no http:// or https:// URL"),
        (
            "SSE_URL=",
            "",
            "error: nothing to do: give a URL to connect to or a command to serve, see 'mcp-proxy --help'",
        ),
        ("MCP_PROXY_PORT=81;MCP_PROXY_HOST=::", "cmd", "serve cmd, port 81, host ::"),
        ("MCP_PROXY_PORT=81;MCP_PROXY_HOST=::", "http://h/", "connect http://h/"),
        ("MCP_PROXY_PORT=81", "--port 82 cmd", "serve cmd, port 82"),
        ("MCP_PROXY_PORT=81", "--sse-port 82 cmd", "serve cmd, port 82"),
        ("MCP_PROXY_PORT=", "cmd", "serve cmd"),
        ("MCP_PROXY_PORT=tcp://10.0.0.1:80", "cmd", "serve cmd"),
        ("MCP_PROXY_PORT=x", "cmd", "error: variable 'MCP_PROXY_PORT': 'x' is not a port from 0 to 65535"),
        ("MCP_PROXY_PORT=x", "--port 1 cmd", "serve cmd, port 1"),
        ("MCP_PROXY_LOG_LEVEL=error", "cmd", "serve cmd, Error"),
        ("MCP_PROXY_LOG_LEVEL=error", "--log-level info cmd", "serve cmd"),
        (
            "MCP_PROXY_LOG_LEVEL=loud",
            "cmd",
            "error: variable 'MCP_PROXY_LOG_LEVEL': 'loud' is none of DEBUG, INFO, WARNING, ERROR and CRITICAL",
        ),
        ("MCP_PROXY_LOG_LEVEL=loud", "--help", "help"),
    ]);
}

#[test]
fn urls_are_checked() {
    check(&[
        ("http://", "error: 'http://' is not a URL"),
        ("http:///sse?key=secret", "error: 'http:///sse' is not a URL"),
        ("'http://a b/'", "error: 'http://a b/' is not a URL"),
        ("'http://h/\n'", "error: 'http://h/ ' is not a URL"),
        ("http://:80/", "error: 'http://:80/' has no host, or no port from 1 to 65535"),
        ("http://h:99999/", "error: 'http://h:99999/' has no host, or no port from 1 to 65535"),
        ("http://h:0/", "error: 'http://h:0/' has no host, or no port from 1 to 65535"),
        ("http://[::1]:x/", "error: 'http://[::1]:x/' has no host, or no port from 1 to 65535"),
        (
            "http://user:secret@h/?secret",
            "error: 'http://h/': user and password belong into '--username' and '--password', not into the URL",
        ),
    ]);
}

#[test]
fn a_url_with_a_mistake_is_told_from_a_command() {
    for (line, shown) in [
        ("http:/host", "http:/host"),
        ("http//host/sse", "http//host/sse"),
        ("htp://user:secret@host/x?secret", "htp://host/x"),
        ("localhost:8080/sse?secret", "localhost:8080/sse"),
        ("--cwd / etc:/passwd", "etc:/passwd"),
    ] {
        let wanted =
            format!("error: cannot start '{shown}': No such file or directory; a URL begins with http:// or https://");
        check(&[(line, &wanted)]);
    }
    check(&[
        ("--cwd / etc//passwd", "serve etc//passwd, in /"),
        ("no/such/file", "serve no/such/file"),
        ("host:80", "serve host:80"),
    ]);
}

#[test]
fn transports_are_checked() {
    check(&[
        ("--transport sse http://h/", "connect http://h/, Sse"),
        ("--transport=auto http://h/", "connect http://h/"),
        ("--transport streamablehttp http://h/mcp", "connect http://h/mcp, StreamableHttp"),
        (
            "--transport SSE http://h/",
            "error: option '--transport': 'SSE' is none of 'auto', 'sse' and 'streamablehttp'",
        ),
        ("--transport", "error: option '--transport': NAME expected"),
    ]);
}

#[test]
fn verify_ssl_takes_a_word_only_if_it_is_its_own() {
    let ca = File::new("ca", "text\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    let other = File::new("other", "text");
    check(&[
        ("--verify-ssl http://h/", "connect http://h/"),
        ("http://h/ --verify-ssl", "connect http://h/"),
        ("--verify-ssl --debug http://h/", "connect http://h/, Debug"),
        ("--verify-ssl no http://h/", "connect http://h/, unverified"),
        ("--verify-ssl 0 http://h/", "connect http://h/, unverified"),
        ("--verify-ssl=Off http://h/", "connect http://h/, unverified"),
        ("--verify-ssl=False http://h/", "connect http://h/, unverified"),
        ("--verify-ssl TRUE http://h/", "connect http://h/"),
        ("--no-verify-ssl --verify-ssl=1 http://h/", "connect http://h/"),
        ("--verify-ssl on --no-verify-ssl http://h/", "connect http://h/, unverified"),
        (&format!("--verify-ssl {} http://h/", ca.path()), &format!("connect http://h/, verified by {}", ca.path())),
        (&format!("http://h/ --verify-ssl={}", ca.path()), &format!("connect http://h/, verified by {}", ca.path())),
        (
            &format!("--verify-ssl {} http://h/", other.path()),
            &format!("error: option '--verify-ssl': '{}' holds no certificate in PEM form", other.path()),
        ),
        (
            "--verify-ssl=/nowhere http://h/",
            "error: option '--verify-ssl': '/nowhere' cannot be read: No such file or directory",
        ),
        (
            "--verify-ssl /nowhere/ca.pem http://h/",
            "error: option '--verify-ssl': '/nowhere/ca.pem' cannot be read: No such file or directory",
        ),
        ("--verify-ssl / http://h/", "serve /|http://h/"),
        ("--verify-ssl=/ http://h/", "error: option '--verify-ssl': '/' cannot be read: Is a directory"),
        ("--verify-ssl https://h/ca.pem", "connect https://h/ca.pem"),
        ("--verify-ssl= http://h/", "error: option '--verify-ssl': the value is empty"),
        ("--no-verify-ssl=yes http://h/", "error: option '--no-verify-ssl': it takes no value"),
    ]);
}

#[test]
fn the_servers_environment_and_folder() {
    check(&[
        ("-e A=B -e A=C cmd", "serve cmd, A=B, A=C"),
        ("-e A= cmd", "serve cmd, A="),
        ("-e A '' cmd", "serve cmd, A="),
        ("-e A -x cmd", "serve cmd, A=-x"),
        ("--env A 'b=c d' cmd", "serve cmd, A=b=c d"),
        ("-e FOO=BAR cmd", "serve cmd, FOO=BAR"),
        ("--no-pass-environment cmd", "serve cmd"),
        ("--pass-environment --no-pass-environment cmd", "serve cmd"),
        ("--cwd '' cmd", "serve cmd"),
        ("-e =B cmd", "error: option '--env': the name of the variable is empty"),
        ("-e '' B cmd", "error: option '--env': the name of the variable is empty"),
        ("-e A 'b\0' cmd", "error: option '--env': no variable can hold a NUL"),
        ("-e A", "error: option '--env': KEY VALUE expected"),
        ("-e A --port 1 cmd", "error: option '--env': KEY VALUE expected"),
        ("--cwd /nowhere cmd", "error: option '--cwd': '/nowhere' is not a folder"),
        ("--cwd -- cmd", "error: option '--cwd': DIR expected"),
        ("--pass-environment=1 cmd", "error: option '--pass-environment': it takes no value"),
    ]);
}

#[test]
fn the_listeners_options() {
    let port = |shown: &str| format!("error: option '--port': '{shown}' is not a port from 0 to 65535");
    check(&[
        ("--port 0 cmd", "serve cmd"),
        ("--port 65535 cmd", "serve cmd, port 65535"),
        ("--port 1 --port 2 cmd", "serve cmd, port 2"),
        ("--port 1 --sse-port 2 cmd", "serve cmd, port 1"),
        ("--sse-port 2 --port 1 --sse-port 3 cmd", "serve cmd, port 1"),
        ("--sse-port 2 --sse-port 3 cmd", "serve cmd, port 3"),
        ("--host a --sse-host b cmd", "serve cmd, host a"),
        ("--host localhost cmd", "serve cmd, host localhost"),
        ("--port 65536 cmd", &port("65536")),
        ("--port -5 cmd", &port("-5")),
        ("--port= cmd", &port("")),
        ("--port 80x cmd", &port("80x")),
        ("--sse-port x cmd", "error: option '--sse-port': 'x' is not a port from 0 to 65535"),
        ("--port --host x cmd", "error: option '--port': PORT expected"),
        ("--host= cmd", "error: option '--host': the address is empty"),
        (
            "--allow-origin https://a.example http://b:1 null * cmd x",
            "serve cmd|x, origins https://a.example|http://b:1|null|*",
        ),
        ("--allow-origin https://a.example/ -- cmd", "serve cmd, origins https://a.example"),
        ("--allow-origin https://a.example --allow-origin app://b cmd", "serve cmd, origins https://a.example|app://b"),
        ("cmd --allow-origin '*' x", "serve cmd|x, origins *"),
        ("--allow-origin=* http://h/sse", "connect http://h/sse"),
        ("--allow-origin '*' http://h/sse", "connect http://h/sse"),
        (
            "--allow-origin cmd x",
            "error: option '--allow-origin': 'cmd' is not an origin such as 'https://app.example' or '*'",
        ),
        ("--allow-origin --port 1 cmd", "error: option '--allow-origin': ORIGIN... expected"),
        ("--expose-header A --expose-header B cmd", "serve cmd, exposed A|B"),
        ("--expose-header 'A B' cmd", "error: option '--expose-header': 'A' is not the name of a header"),
    ]);
}

#[test]
fn the_level_of_the_log() {
    let none = "none of DEBUG, INFO, WARNING, ERROR and CRITICAL";
    check(&[
        ("--log-level DEBUG cmd", "serve cmd, Debug"),
        ("--log-level warning cmd", "serve cmd, Warning"),
        ("--log-level=Critical http://h/", "connect http://h/, Critical"),
        ("--debug --log-level ERROR cmd", "serve cmd, Debug"),
        ("--debug --no-debug --log-level ERROR cmd", "serve cmd, Error"),
        ("--log-level WARN cmd", &format!("error: option '--log-level': 'WARN' is {none}")),
        ("--debug=1 cmd", "error: option '--debug': it takes no value"),
    ]);
}

#[test]
fn help_and_version_end_the_reading() {
    check(&[
        ("--version --nonsense", "version"),
        ("--help --version", "help"),
        ("--vers", "version"),
        ("--nonsense --help", "error: unknown option '--nonsense'"),
        ("--help=all", "error: option '--help': it takes no value"),
    ]);
}

#[test]
fn times_and_numbers_are_checked() {
    let fault = |option: &str, value: &str, what: &str| format!("error: option '--{option}': '{value}' is not {what}");
    for row in TABLE.iter().filter(|row| ["SECONDS", "N"].contains(&row.value)) {
        let name = row.name().trim_start_matches("--");
        let (good, bad, what): (&[&str], &[&str], _) = match row.value {
            "SECONDS" => (
                &["0.5", "1", "1e3", "0.001"],
                &["0", "-1", "NaN", "inf", "1e300", "0.0009", "1000001", "5s", ""],
                "a number of seconds from 0.001 to 1000000",
            ),
            _ => (
                &["1", "4294967295"],
                &["0", "-1", "1.5", "4294967296", "99999999999999999999", "1k", ""],
                "a whole number from 1 to 4294967295",
            ),
        };
        for value in good {
            assert_eq!(meaning(&format!("--{name} {value} cmd"), ""), "serve cmd");
        }
        for value in bad {
            assert_eq!(meaning(&format!("--{name}={value} cmd"), ""), fault(name, value, what));
        }
    }
}

#[test]
fn every_limit_reaches_its_place() {
    let Ok(Parsed { invocation: Invocation::Serve(serve), .. }) = parsed(
        "--keep-alive 1 --stop-timeout 2 --max-sessions 3 --max-connections 4 --max-header-bytes 5 \
         --max-message-bytes 6 --head-timeout 7 --body-timeout 8 --idle-timeout 9 --max-stream-bytes 10 \
         --max-open-requests 11 cmd",
        "",
    ) else {
        panic!("refused")
    };
    let limits = serve.limits;
    let times = [limits.keep_alive, serve.stop_timeout, limits.head_timeout, limits.body_timeout, limits.idle_timeout];
    assert_eq!(times.map(|time| time.as_secs()), [1, 2, 7, 8, 9]);
    let numbers = [serve.sessions, limits.connections, limits.header_bytes, limits.body_bytes, limits.stream_bytes];
    assert_eq!(numbers, [3, 4, 5, 6, 10]);
    assert_eq!(serve.open_requests, 11);
    let line = "--session-idle 1 --replay-bytes 2 --replay-age 3 --trusted-proxy ::1 --trusted-proxy 10.0.0.0/8 cmd";
    let Ok(Parsed { invocation: Invocation::Serve(serve), .. }) = parsed(line, "") else { panic!("refused") };
    assert_eq!((serve.session_idle.as_secs(), serve.replay_bytes, serve.replay_age.as_secs()), (1, 2, 3));
    let trusted =
        |peer: &str| serve.trusted_proxies.iter().any(|network| network.contains(Peer::Address(peer.parse().unwrap())));
    assert_eq!(["::1", "10.9.8.7", "127.0.0.1"].map(trusted), [true, true, false]);

    let line = "--timeout 0.5 --max-message-bytes 6 --max-open-requests 7 http://h/";
    let Ok(Parsed { invocation: Invocation::Connect(connect), .. }) = parsed(line, "") else { panic!("refused") };
    assert_eq!(connect.remote.timeout.as_millis(), 500);
    assert_eq!((connect.remote.message_limit_bytes, connect.open_requests), (6, 7));
}

#[test]
fn the_defaults_are_those_that_are_promised() {
    let Ok(Parsed { invocation: Invocation::Serve(serve), .. }) = parsed("cmd", "") else { panic!("refused") };
    let limits = serve.limits;
    assert_eq!(serve.listen, [Address::Tcp("127.0.0.1".into(), 0)]);
    assert_eq!((serve.rights, serve.inherited), (Rights { mode: 0o600, user: None, group: None }, 0));
    assert_eq!((serve.tokens, serve.token_file, serve.public_url), (None, None, None));
    assert_eq!((serve.restrict, serve.auth_servers.len() + serve.allow_hosts.len()), (Wish::Nothing, 0));
    assert_eq!(serve.expose_headers, ["Mcp-Session-Id"]);
    assert_eq!((serve.sessions, serve.open_requests, limits.connections), (512, 1024, 2048));
    assert_eq!((limits.header_bytes, limits.body_bytes, limits.stream_bytes), (32 << 10, 64 << 20, 64 << 20));
    let times = [limits.head_timeout, limits.body_timeout, limits.idle_timeout, limits.keep_alive, serve.stop_timeout];
    assert_eq!(times.map(|time| time.as_secs()), [10, 30, 75, 15, 5]);
    assert_eq!((serve.session_idle.as_secs(), serve.replay_bytes, serve.replay_age.as_secs()), (1800, 1 << 20, 300));
    assert_eq!((serve.sharing, serve.config, serve.trusted_proxies), (serve::Sharing::Session, None, Vec::new()));
}

#[test]
fn secrets_are_told_and_never_shown() {
    let parsed =
        parsed("-H A one -H 'B: two' --api-access-token three -e C four -e D=five http://h/sse?key=six", "").unwrap();
    assert_eq!(parsed.secrets, ["one", "two", "three", "four", "five", "key=six"]);
    let Invocation::Connect(options) = parsed.invocation else { panic!("refused") };
    let shown = format!("{:?}", options.remote.headers);
    assert!(!["one", "two", "three"].iter().any(|secret| shown.contains(secret)), "{shown}");
}

#[test]
fn secrets_of_a_login_are_told_too() {
    let line = "--client-id id --client-secret hunter2 --token-url http://t/?two --port 1 http://h/ \
                --named-server a http://a/?three";
    let parsed = parsed(line, "").unwrap();
    assert_eq!(parsed.secrets, ["hunter2", "two", "three"]);
    assert!(!format!("{:?}", parsed.invocation).contains("hunter2"));
    assert_eq!(super::tests::parsed("--username u --password four http://h/", "").unwrap().secrets, ["four"]);
}

#[test]
fn a_login_is_whole_or_a_mistake() {
    let secret = File::new("secret", " s p \n");
    let empty = File::new("no-secret", "\n");
    let two = File::new("two-lines", "hunter2\nhunter2\n");
    let client = "--client-id a --client-secret b --token-url https://t/x";
    check(&[
        (&format!("{client} http://h/"), "connect http://h/, client a:b at https://t/x"),
        ("--username u --password p http://h/", "connect http://h/, basic u:p"),
        ("--username '' --password '' http://h/", "connect http://h/"),
        ("--username u --password '' http://h/", "error: option '--username': it needs '--password' too"),
        ("--username u --password p:q --digest http://h/", "connect http://h/, digest u:p:q"),
        (&format!("--username u --password-file {} http://h/", secret.path()), "connect http://h/, basic u: s p "),
        (
            &format!("--client-id a --client-secret-file {} --token-url http://t/ http://h/", secret.path()),
            "connect http://h/, client a: s p  at http://t/",
        ),
        // As compose files have it where a variable is empty.
        ("--client-id '' --client-secret '' --token-url '' http://h/", "connect http://h/"),
        ("--client-id a http://h/", "error: option '--client-id': it needs '--client-secret' and '--token-url' too"),
        (
            "--client-secret a http://h/",
            "error: option '--client-secret': it needs '--client-id' and '--token-url' too",
        ),
        (
            "--token-url http://t/ --client-id a http://h/",
            "error: option '--client-id': it needs '--client-secret' too",
        ),
        ("--username u http://h/", "error: option '--username': it needs '--password' too"),
        ("--password p http://h/", "error: option '--password': it needs '--username' too"),
        ("--digest http://h/", "error: option '--digest': it needs '--username' and '--password' too"),
        ("--digest --username u http://h/", "error: option '--digest': it needs '--password' too"),
        (
            &format!("{client} --username u --password p http://h/"),
            "connect http://h/, client a:b at https://t/x, \
             warning: option '--username': it is left out, because '--client-id' wins",
        ),
        (
            &format!("{client} --api-access-token x http://h/"),
            "error: option '--api-access-token': it does not go with '--client-id'",
        ),
        (
            "--username u --password p --api-access-token x http://h/",
            "error: option '--api-access-token': it does not go with '--username'",
        ),
        (
            &format!("{client} -H Authorization x -H A b http://h/"),
            "connect http://h/, a: b, client a:b at https://t/x, \
             warning: option '--headers': Authorization is left out, because it is made from the other options",
        ),
        ("--username a:b --password p http://h/", "error: option '--username': the name holds a colon"),
        (
            "--token-url t.example http://h/",
            "error: option '--token-url': 't.example' does not begin with http:// or https://",
        ),
        (
            "--client-id a --client-secret b --token-url http://:1/?k=hunter2 http://h/",
            "error: option '--token-url': 'http://:1/' has no host, or no port from 1 to 65535",
        ),
        (
            "--username u --password-file /nowhere http://h/",
            "error: option '--password-file': '/nowhere' cannot be read: No such file or directory",
        ),
        (
            &format!("--username u --password-file {} http://h/", empty.path()),
            &format!("error: option '--password-file': '{}' is empty", empty.path()),
        ),
        (
            &format!("--client-id a --client-secret-file {} --token-url http://t/ http://h/", two.path()),
            &format!("error: option '--client-secret-file': '{}' holds more than one line of text", two.path()),
        ),
    ]);
    check_with_environment(&[
        (
            "MCP_PROXY_CLIENT_SECRET=env",
            "--client-id a --token-url http://t/ http://h/",
            "connect http://h/, client a:env at http://t/",
        ),
        ("MCP_PROXY_PASSWORD=env", "--username u http://h/", "connect http://h/, basic u:env"),
        ("MCP_PROXY_PASSWORD=env", "--username u --password p http://h/", "connect http://h/, basic u:p"),
        (
            "MCP_PROXY_PASSWORD=env",
            &format!("--username u --password-file {} http://h/", secret.path()),
            "connect http://h/, basic u: s p ",
        ),
        // A variable alone asks for nothing, and a token of the environment gives way.
        ("MCP_PROXY_PASSWORD=env;MCP_PROXY_CLIENT_SECRET=env", "http://h/", "connect http://h/"),
        ("API_ACCESS_TOKEN=env", &format!("{client} http://h/"), "connect http://h/, client a:b at https://t/x"),
    ]);
}

#[test]
fn several_servers() {
    let file = File::new(
        "servers.json",
        r#"{"mcpServers": {"near": {"command": "x", "args": ["${A:-y}"]}, "far": {"url": "http://f/"}}}"#,
    );
    let none = File::new("none.json", r#"{"mcpServers": {"near": {"command": "x", "enabled": false}}}"#);
    let odd = File::new("odd.json", r#"{"mcpServers": {"a": {"command": "x", "odd": "${NONE}"}}}"#);
    let config = file.path();
    check(&[
        ("--named-server a b", "serve, /a b"),
        ("--named-server a 'b \"c d\"' -- e f", "serve e|f, /a b|c d"),
        ("e f --named-server a b -e K V", "serve e|f, /a b, K=V"),
        ("--named-server a https://h/mcp", "serve, /a https://h/mcp"),
        ("--named-server a https://h/mcp --transport sse --no-verify-ssl", "serve, /a https://h/mcp, Sse, unverified"),
        (
            "--named-server a b --named-server c d --pass-environment e",
            "serve e, /a b, /c d, whole environment, \
            whole environment, whole environment",
        ),
        ("--port 1 http://h/ --named-server a b", "serve http://h/, /a b, port 1"),
        ("'' --named-server a b", "serve, /a b"),
        // Without a place to listen, a URL is connected to, as in the Python program.
        (
            "http://h/ --named-server a b",
            "connect http://h/, \
             warning: the named servers are left out: without --port, a URL is offered on stdin and stdout",
        ),
        (
            "-e K V --cwd / --named-server a b",
            "serve, /a b, warning: option '--env': named servers do not get it, \
             warning: option '--cwd': named servers do not get it",
        ),
        (
            "-H A secret --named-server a http://h/ cmd",
            "serve cmd, /a http://h/, warning: option '--headers': named servers do not get it",
        ),
        ("-H A b --port 1 --named-server a http://h/ http://i/", "serve http://i/, a: b, /a http://h/, port 1"),
        (&format!("--named-server-config {config}"), &format!("serve, /near x|y, /far http://f/, from {config}")),
        (
            &format!("--port 8080 --named-server-config {config} -- my-default-command --arg1"),
            &format!("serve my-default-command|--arg1, /near x|y, /far http://f/, port 8080, from {config}"),
        ),
        (
            &format!("--named-server-config={config} --named-server a b"),
            &format!("serve, /a b, /near x|y, /far http://f/, from {config}"),
        ),
        (
            &format!("--named-server-config {config} --named-server near b"),
            &format!("error: '{config}': server 'near': the command line has a server of that name"),
        ),
        (
            &format!("--named-server-config {}", none.path()),
            &format!("error: '{}': no server is left to serve", none.path()),
        ),
        (&format!("--named-server-config {} cmd", none.path()), &format!("serve cmd, from {}", none.path())),
        (
            &format!("--named-server-config {}", odd.path()),
            &format!("serve, /a x, from {0}, warning: '{0}': ignored: 'odd' of 'a'", odd.path()),
        ),
    ]);
    check_with_environment(&[
        (
            "A=z",
            &format!("--named-server-config {config}"),
            &format!("serve, /near x|z, /far http://f/, from {config}"),
        ),
        (
            "SSE_URL=http://h/",
            "--named-server a b",
            "connect http://h/, \
             warning: the named servers are left out: without --port, a URL is offered on stdin and stdout",
        ),
        ("SSE_URL=http://h/", "--named-server a b --port 1", "serve http://h/, /a b, port 1"),
        ("SSE_URL=http://h/", "--named-server a b c", "serve c, /a b"),
        ("API_ACCESS_TOKEN=secret", "--named-server a http://h/", "serve, /a http://h/"),
        ("MCP_PROXY_PORT=81", "--named-server a b", "serve, /a b, port 81"),
    ]);
}

#[test]
fn mistakes_in_several_servers() {
    let broken = File::new("broken.json", r#"{"mcpServers": {"a": {"command": "x", "args": "y"}}}"#);
    check(&[
        (
            &format!("--named-server-config {}", broken.path()),
            &format!("error: '{}': server 'a': 'args' must be a list of strings", broken.path()),
        ),
        (
            "--named-server-config /nowhere cmd",
            "error: option '--named-server-config': '/nowhere' cannot be read: No such file or directory",
        ),
        (
            "--named-server-config / --port 1",
            "error: option '--named-server-config': '/' cannot be read: Is a directory",
        ),
        ("--named-server-config '' cmd", "serve cmd"),
        ("--named-server a b --named-server a c", "error: option '--named-server': server 'a' is there twice"),
        ("--named-server a", "error: option '--named-server': NAME COMMAND expected"),
        ("--named-server a --port 1", "error: option '--named-server': NAME COMMAND expected"),
        ("--named-server a ''", "error: option '--named-server': server 'a': the command is empty"),
        (
            "--named-server a \"b",
            "error: option '--named-server': server 'a': the command has a quote that is not closed",
        ),
        ("--named-server a 'http://h/ x'", "error: option '--named-server': server 'a': words behind the URL"),
        (
            "--named-server a http://h:0/?hunter2",
            "error: option '--named-server': server 'a': 'http://h:0/' has no host, or no port from 1 to 65535",
        ),
        (
            "--named-server a/b c",
            "error: option '--named-server': server 'a/b': a name is a part of an address: \
             letters, digits and -._~!$&'()*+,;=:@",
        ),
        ("--named-server '' c", "error: option '--named-server': the name of a server is empty"),
        (
            "--verify-ssl=/nowhere --named-server a http://h/",
            "error: option '--verify-ssl': '/nowhere' cannot be read: No such file or directory",
        ),
        ("--verify-ssl=/nowhere --named-server a b", "serve, /a b"),
        (
            "--demo --named-server a b",
            "error: option '--demo': it speaks on stdin and stdout; \
             serve it with 'mcp-proxy --port PORT -- mcp-proxy --demo'",
        ),
    ]);
}

#[test]
fn whose_a_process_is_and_where_we_are() {
    check(&[
        ("--shared cmd", "serve cmd, Shared"),
        ("--shared --no-shared cmd", "serve cmd"),
        ("--stateless --no-stateless cmd", "serve cmd"),
        ("--shared --stateless cmd", "serve cmd, Stateless"),
        ("--base-path /mcp cmd", "serve cmd, below /mcp"),
        ("--base-path /a/b.c/ cmd", "serve cmd, below /a/b.c"),
        ("--base-path / cmd", "serve cmd"),
        ("--base-path '' cmd", "serve cmd"),
        ("--base-path mcp cmd", "error: option '--base-path': 'mcp' does not begin with a slash"),
        ("--base-path /a?b cmd", "error: option '--base-path': '/a?b' is not a path such as '/mcp-servers'"),
        ("--base-path /a//b cmd", "error: option '--base-path': '/a//b' is not a path such as '/mcp-servers'"),
        ("--base-path //a cmd", "error: option '--base-path': '//a' is not a path such as '/mcp-servers'"),
        ("--base-path /a/../b cmd", "error: option '--base-path': '/a/../b' is not a path such as '/mcp-servers'"),
        (
            "--trusted-proxy host cmd",
            "error: option '--trusted-proxy': 'host' is not an IP address, a network such as '10.0.0.0/8', or 'unix'",
        ),
        ("--log-format json cmd", "serve cmd, Json"),
        ("--log-format=TEXT http://h/", "connect http://h/"),
        ("--log-format xml cmd", "error: option '--log-format': 'xml' is neither 'text' nor 'json'"),
    ]);
    check_with_environment(&[
        ("MCP_PROXY_BASE_PATH=/x", "cmd", "serve cmd, below /x"),
        ("MCP_PROXY_LOG_FORMAT=json", "http://h/", "connect http://h/, Json"),
    ]);
}

#[test]
fn the_table_holds_together() {
    let names: Vec<_> = all_names().map(|(_, name)| name).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "a name stands twice");
    let is_begun = |own: &str| all_names().any(|(row, name)| row.inherited && name.starts_with(own) && name != own);
    for row in TABLE {
        let name = row.name();
        assert!(row.inherited || !is_begun(name), "{name}: in the Python program it is short for another option");
        assert!(row.help.ends_with('.'), "{name}: its help is a sentence");
        assert!(row.form_of.is_empty() || names.contains(&row.form_of), "{name}: form of what?");
        assert_eq!(row.value.is_empty(), matches!(row.set, Setter::Switch(_)), "{name}: its value");
        assert!(
            row.variable.is_empty() || matches!(row.set, Setter::Word(_) | Setter::FileOr(..)),
            "{name}: its variable"
        );
        assert!(help().contains(name) && options_markdown().contains(name), "{name}: not explained");
    }
}

#[test]
fn help_fits_a_terminal() {
    for line in help().lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line}");
    }
    for row in options_markdown().lines() {
        assert_eq!(row.matches('|').count(), 5, "{row}");
    }
}

#[test]
fn where_we_listen() {
    let neither = "is neither 'unix:PATH' nor 'HOST:PORT'";
    check(&[
        ("--listen unix:/run/mcp.sock cmd", "serve cmd, unix /run/mcp.sock"),
        ("--listen unix:rel.sock --listen [::1]:80 cmd", "serve cmd, unix rel.sock, port 80, host [::1]"),
        ("--listen localhost:1 --port 2 cmd", "serve cmd, port 2, port 1, host localhost"),
        ("--listen unix:/x --host 0.0.0.0 cmd", "serve cmd, host 0.0.0.0, unix /x"),
        ("--listen unix:/x http://h/", "serve http://h/, unix /x"),
        ("--listen unix:/x --socket-mode 660 --socket-owner 1:2 cmd", "serve cmd, unix /x, rights 660 Some(1) Some(2)"),
        ("--listen unix:/x --socket-mode 0640 --socket-owner :root cmd", "serve cmd, unix /x, rights 640 None Some(0)"),
        ("--trusted-proxy unix cmd", "serve cmd"),
        ("--listen unix: cmd", "error: option '--listen': the path of the socket is empty"),
        (
            "--listen unix:@x cmd",
            "error: option '--listen': an abstract socket has no permissions; give a path, as in 'unix:/run/mcp.sock'",
        ),
        ("--listen 8080 cmd", &format!("error: option '--listen': '8080' {neither}")),
        ("--listen :8080 cmd", &format!("error: option '--listen': ':8080' {neither}")),
        ("--listen ::1:80 cmd", &format!("error: option '--listen': '::1:80' {neither}")),
        ("--listen http://h:80 cmd", &format!("error: option '--listen': 'http://h:80' {neither}")),
        ("--listen h:99999 cmd", "error: option '--listen': '99999' is not a port from 0 to 65535"),
        ("--socket-mode 0888 cmd", "error: option '--socket-mode': '0888' is no octal number such as 0660"),
        ("--socket-mode 4755 cmd", "error: option '--socket-mode': '4755' is no octal number such as 0660"),
        ("--socket-mode 66 cmd", "error: option '--socket-mode': '66' is no octal number such as 0660"),
        (
            "--socket-owner no-such-user cmd",
            "error: option '--socket-owner': there is no user 'no-such-user' in /etc/passwd",
        ),
        (
            "--demo --listen unix:/x",
            "error: option '--demo': it speaks on stdin and stdout; serve it with 'mcp-proxy --port PORT -- mcp-proxy --demo'",
        ),
    ]);
    let ours = std::process::id();
    check_with_environment(&[
        (&format!("LISTEN_PID={ours};LISTEN_FDS=2"), "cmd", "serve cmd, 2 inherited"),
        (&format!("LISTEN_PID={ours};LISTEN_FDS=1"), "http://h/", "serve http://h/, 1 inherited"),
        (&format!("LISTEN_PID={ours};LISTEN_FDS=1"), "--port 80 cmd", "serve cmd, port 80, 1 inherited"),
        (&format!("LISTEN_PID={ours};LISTEN_FDS=x"), "cmd", "error: variable 'LISTEN_FDS': it is no number of sockets"),
        ("LISTEN_PID=1;LISTEN_FDS=2", "cmd", "serve cmd"),
        ("LISTEN_FDS=2", "http://h/", "connect http://h/"),
    ]);
}

#[test]
fn who_may_ask() {
    let tokens = File::new("tokens", "# two\n1234567890123456\nabcdefghijklmnop\n");
    let short = File::new("short", "1234567890123456\nhunter2\n");
    let (good, bad) = (tokens.path(), short.path());
    check(&[
        (&format!("--auth-token-file {good} cmd"), &format!("serve cmd, Tokens(2), tokens from {good}")),
        (
            &format!("--auth-token-file {bad} cmd"),
            &format!("error: option '--auth-token-file': '{bad}': line 2: a token has 16 characters or more"),
        ),
        (
            "--auth-token-file /nowhere cmd",
            "error: option '--auth-token-file': '/nowhere' cannot be read: No such file or directory",
        ),
        (
            &format!("--auth-token-file {good} --auth-server https://a/x --auth-server http://b cmd"),
            &format!("serve cmd, Tokens(2), tokens from {good}, auth https://a/x, auth http://b"),
        ),
        (
            "--auth-server https://a cmd",
            "serve cmd, auth https://a, warning: option '--auth-server': nobody's token is checked here without \
             '--auth-token-file'",
        ),
        ("--auth-server a cmd", "error: option '--auth-server': 'a' is no URL such as 'https://login.example'"),
        (
            "--auth-server https://me:hunter2@a/?hunter2 cmd",
            "error: option '--auth-server': 'https://a/' is no URL such as 'https://login.example'",
        ),
        ("--public-url https://a.example:8443/ cmd", "serve cmd, public https://a.example:8443"),
        (
            "--public-url https://a/b cmd",
            "error: option '--public-url': 'https://a/b' is not a scheme and a host, as in 'https://host.example'; \
             the path is --base-path's",
        ),
        ("--allow-host a.example --allow-host [::1]:80 cmd", "serve cmd, as a.example, as [::1]:80"),
        (
            "--allow-host http://a cmd",
            "error: option '--allow-host': 'http://a' is not the name of a host, such as 'mcp.example'",
        ),
        ("--restrict cmd", "serve cmd, restrict Possible"),
        ("--restrict all http://h/", "connect http://h/, restrict All"),
        ("--restrict=all cmd", "serve cmd, restrict All"),
        ("--restrict=hard cmd", "error: option '--restrict': 'hard' is neither 'possible' nor 'all'"),
    ]);
    check_with_environment(&[
        ("MCP_PROXY_AUTH_TOKEN=1234567890123456, abcdefghijklmnop", "cmd", "serve cmd, Tokens(2)"),
        ("MCP_PROXY_AUTH_TOKEN=hunter2", "http://h/", "connect http://h/"),
        (
            "MCP_PROXY_AUTH_TOKEN=1234567890123456 hunter2",
            "cmd",
            "error: variable 'MCP_PROXY_AUTH_TOKEN': token 2: a token has 16 characters or more",
        ),
        (
            "MCP_PROXY_AUTH_TOKEN=,",
            "cmd",
            "error: variable 'MCP_PROXY_AUTH_TOKEN': there is no token; unset it if everybody may ask",
        ),
        (
            "MCP_PROXY_AUTH_TOKEN=",
            "cmd",
            "error: variable 'MCP_PROXY_AUTH_TOKEN': there is no token; unset it if everybody may ask",
        ),
        ("MCP_PROXY_AUTH_TOKEN=", "http://h/", "connect http://h/"),
        (
            "MCP_PROXY_AUTH_TOKEN=",
            &format!("--auth-token-file {good} cmd"),
            &format!("serve cmd, Tokens(2), tokens from {good}"),
        ),
        (
            "MCP_PROXY_AUTH_TOKEN=hunter2",
            &format!("--auth-token-file {good} cmd"),
            &format!("serve cmd, Tokens(2), tokens from {good}"),
        ),
    ]);
}

#[test]
fn headers_can_stand_in_a_file() {
    let headers = File::new("headers", "A: one\n\nB:two \nAuthorization: Bearer three\na: four\n");
    let odd = File::new("odd-headers", "A: one\nhunter2\n");
    let (good, bad) = (headers.path(), odd.path());
    check(&[
        (
            &format!("--headers-file {good} http://h/"),
            "connect http://h/, b: two, authorization: Bearer three, a: four",
        ),
        (
            &format!("--headers-file {good} -H B own --api-access-token x http://h/"),
            "connect http://h/, b: own, authorization: Bearer three, a: four",
        ),
        (
            &format!("--headers-file {bad} http://h/"),
            &format!("error: option '--headers-file': '{bad}': line 2 is not 'KEY: VALUE'"),
        ),
    ]);
    check_with_environment(&[
        ("MCP_PROXY_HEADERS=A: one", "http://h/", "connect http://h/, a: one"),
        ("MCP_PROXY_HEADERS=hunter2", "http://h/", "error: variable 'MCP_PROXY_HEADERS': line 1 is not 'KEY: VALUE'"),
        ("MCP_PROXY_HEADERS=A: one", "cmd", "serve cmd"),
    ]);
}

#[test]
fn a_client_certificate_is_whole_or_a_mistake() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls");
    let file = |name: &str| folder.join(name).display().to_string();
    let (chain, key, other) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let both = File::new("both", &[&chain, &key].map(|file| std::fs::read_to_string(file).unwrap()).concat());
    let broken = File::new("broken", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n");
    let locked =
        File::new("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMTIz\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let wrong = |text: &str| format!("error: option '--client-cert': {text}");
    let line = |chain: &str, key: &str| format!("--client-cert {chain} --client-key {key} http://h/");
    check(&[
        (&line(&chain, &key), "connect http://h/"),
        (&line(both.path(), both.path()), "connect http://h/"),
        (&format!("--client-cert {chain} http://h/"), "error: option '--client-cert': it needs '--client-key' too"),
        (&format!("--client-key {key} http://h/"), "error: option '--client-key': it needs '--client-cert' too"),
        (&line(&other, &key), &wrong(&format!("the key in '{key}' is not that of the certificate in '{other}'"))),
        (&line(&key, &key), &wrong(&format!("'{key}' holds no certificate in PEM form"))),
        (&line(&chain, &chain), &wrong(&format!("'{chain}' holds no private key in PEM form"))),
        (&line("/nowhere", &key), &wrong("'/nowhere' cannot be read: No such file or directory")),
        (
            &line(&chain, broken.path()),
            &wrong(&format!("the key in '{}' cannot be used: it is broken, or of an unknown kind", broken.path())),
        ),
        (
            &line(&chain, locked.path()),
            &wrong(&format!("'{}' holds an encrypted key; give it without a password", locked.path())),
        ),
    ]);
    let config = |entry: &str| {
        File::new("cert-config", &format!(r#"{{"mcpServers": {{"a": {{"url": "https://h/", {entry}}}}}}}"#))
    };
    let whole = config(&format!(r#""clientCert": "{chain}", "clientKey": "{key}""#));
    let line = format!("--named-server-config {}", whole.path());
    assert_eq!(meaning(&line, ""), format!("serve, /a https://h/, from {}", whole.path()));
    let half = config(&format!(r#""clientCert": "{chain}""#));
    let wanted = format!("error: '{}': server 'a': 'clientCert' needs 'clientKey' too", half.path());
    assert_eq!(meaning(&line, ""), wanted);
}
