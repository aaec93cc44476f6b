//! The options as a table: one row an option. The parser, `--help` and the README's table come from it, so that none
//! of them can lie.

use super::draft::{Draft, Show, Source};
use super::values::{
    add_auth_server, add_host, add_named, add_origin, base_path, count, era, expose_header, file, host, is_origin,
    level, listen, log_format, login_name, network, owner, port, public_url, seconds, secret, set_env, set_header,
    set_restrict, set_token, set_token_url, set_transport, set_username, set_verify, socket_mode, unseen,
    wants_restrict, wants_verify,
};
use crate::upstream::http::Verify;
use std::ffi::OsStr;

/// One option.
pub(super) struct Row {
    /// How it is written; the first that begins with `--` names it in messages.
    pub names: &'static [&'static str],
    /// What follows the name, as help shows it.
    pub value: &'static str,
    /// Where help shows it, and which mode reads its variable.
    pub group: Group,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// What holds without it, as one would write it; empty where that says nothing.
    pub default: &'static str,
    /// The environment variable that is read where the option is not given; may be empty.
    pub variable: &'static str,
    /// The option of which it is another form; may be empty.
    pub form_of: &'static str,
    /// Whether the Python program has it; then its prefixes win over those of our own options.
    pub inherited: bool,
    /// What keeps its value.
    pub set: Setter,
}

impl Row {
    /// The name that stands for the option in messages.
    pub fn name(&self) -> &'static str {
        self.names.iter().find(|name| name.starts_with("--")).expect("every row has a long name")
    }
}

/// The parts of help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    General,
    Remote,
    Login,
    Local,
    Several,
    Listener,
    Access,
    Sessions,
    Limits,
}

/// What follows an option's name, and what keeps it.
pub(super) enum Setter {
    /// Nothing. False where the name begins with `--no-`.
    Switch(fn(&mut Draft, bool)),
    /// One word that names a file; its variable holds what else would stand in that.
    FileOr(fn(&mut Draft, &OsStr) -> Result<(), String>, fn(&mut Draft, &OsStr) -> Result<(), String>),
    /// One word.
    Word(fn(&mut Draft, &OsStr) -> Result<(), String>),
    /// A name and a value: one word that holds this byte between them, else two words.
    Pair(u8, fn(&mut Draft, &OsStr, &OsStr) -> Result<(), String>),
    /// Two words.
    Two(fn(&mut Draft, &OsStr, &OsStr) -> Result<(), String>),
    /// Nothing, or one word that looks like this.
    Optional(fn(&OsStr) -> bool, fn(&mut Draft, &OsStr) -> Result<(), String>),
    /// One word or more, while they look like this.
    Several(fn(&OsStr) -> bool, fn(&mut Draft, &OsStr) -> Result<(), String>),
}

/// What most of our own rows have in common.
const OURS: Row = Row {
    names: &[],
    value: "",
    group: Group::General,
    help: "",
    default: "",
    variable: "",
    form_of: "",
    inherited: false,
    set: Setter::Switch(|_, _| ()),
};

/// What most rows have in common that the Python program has too.
const INHERITED: Row = Row { inherited: true, ..OURS };

/// All options, in the order of help.
pub(super) static TABLE: &[Row] = &[
    Row {
        names: &["--transport"],
        value: "NAME",
        group: Group::Remote,
        help: "How to speak to the server: 'sse' (HTTP+SSE), 'streamablehttp' (Streamable HTTP), or 'auto', which finds \
               out.",
        default: "auto",
        set: Setter::Word(set_transport),
        ..INHERITED
    },
    Row {
        names: &["--protocol"],
        value: "ERA",
        group: Group::General,
        help: "Which revisions servers speak: 'legacy' (up to 2025-11-25), 'modern' (2026-07-28 and later), or 'auto', which \
               finds out. A client of the other era comes over the bridge.",
        default: "auto",
        set: Setter::Word(|draft, word| era(word).map(|value| draft.protocol = value)),
        ..OURS
    },
    Row {
        names: &["--client-protocol"],
        value: "ERA",
        group: Group::General,
        help: "Which revisions clients may speak: 'legacy', 'modern', or 'auto', which takes both.",
        default: "auto",
        set: Setter::Word(|draft, word| era(word).map(|value| draft.client_protocol = value)),
        ..OURS
    },
    Row {
        names: &["--verify-ssl"],
        value: "[VALUE]",
        group: Group::Remote,
        help: "Check the server's certificate: 'yes' against the public authorities, 'no' not at all, a PEM file against \
               the authorities in it.",
        default: "yes",
        set: Setter::Optional(wants_verify, set_verify),
        ..INHERITED
    },
    Row {
        names: &["--no-verify-ssl"],
        group: Group::Remote,
        help: "The same as --verify-ssl no.",
        set: Setter::Switch(|draft, _| draft.verify = Verify::Nothing),
        ..INHERITED
    },
    Row {
        names: &["--timeout"],
        value: "SECONDS",
        group: Group::Remote,
        help: "How long the server may take to accept one message or to open its stream.",
        default: "30",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.timeout = value)),
        ..OURS
    },
    Row {
        names: &["-H", "--headers"],
        value: "KEY VALUE",
        group: Group::Login,
        help: "Send a header with every request to the URL; -H 'KEY: VALUE' is the same. Can be given several times.",
        set: Setter::Pair(b':', set_header),
        ..INHERITED
    },
    Row {
        names: &["--headers-file"],
        value: "FILE",
        group: Group::Login,
        help: "Send the headers that stand in FILE too, 'KEY: VALUE' a line; no list of processes shows them. Those given \
               with -H win.",
        variable: "MCP_PROXY_HEADERS",
        set: Setter::FileOr(
            |draft, word| file(word).map(|path| draft.headers_source = Some(Source::File(path))),
            |draft, word| unseen(word).map(|text| draft.headers_source = Some(Source::Literal(text))),
        ),
        ..OURS
    },
    Row {
        names: &["--api-access-token"],
        value: "TOKEN",
        group: Group::Login,
        help: "Send 'Authorization: Bearer TOKEN'. An Authorization header given with -H wins.",
        variable: "API_ACCESS_TOKEN",
        set: Setter::Word(set_token),
        ..INHERITED
    },
    Row {
        names: &["--api-access-token-file"],
        value: "FILE",
        group: Group::Login,
        help: "Send the token that stands in FILE; no list of processes shows it.",
        form_of: "--api-access-token",
        set: Setter::Word(|draft, word| {
            draft.token = Some(Source::File(word.into()));
            Ok(())
        }),
        ..OURS
    },
    Row {
        names: &["--client-id"],
        value: "ID",
        group: Group::Login,
        help: "Get tokens as this OAuth 2 client (client credentials); goes with --client-secret and --token-url.",
        set: Setter::Word(|draft, word| login_name(word).map(|name| draft.client_id = name)),
        ..INHERITED
    },
    Row {
        names: &["--client-secret"],
        value: "SECRET",
        group: Group::Login,
        help: "The secret of that client.",
        variable: "MCP_PROXY_CLIENT_SECRET",
        set: Setter::Word(|draft, word| secret(draft, word).map(|secret| draft.client_secret = secret)),
        ..INHERITED
    },
    Row {
        names: &["--client-secret-file"],
        value: "FILE",
        group: Group::Login,
        help: "The file in which that secret stands.",
        form_of: "--client-secret",
        set: Setter::Word(|draft, word| {
            draft.client_secret = Some(Source::File(word.into()));
            Ok(())
        }),
        ..OURS
    },
    Row {
        names: &["--token-url"],
        value: "URL",
        group: Group::Login,
        help: "Where that client gets its tokens.",
        set: Setter::Word(set_token_url),
        ..INHERITED
    },
    Row {
        names: &["--username"],
        value: "NAME",
        group: Group::Login,
        help: "Log in by HTTP basic authentication; goes with --password.",
        set: Setter::Word(set_username),
        ..INHERITED
    },
    Row {
        names: &["--password"],
        value: "PASSWORD",
        group: Group::Login,
        help: "The password of that user.",
        variable: "MCP_PROXY_PASSWORD",
        set: Setter::Word(|draft, word| secret(draft, word).map(|password| draft.password = password)),
        ..INHERITED
    },
    Row {
        names: &["--password-file"],
        value: "FILE",
        group: Group::Login,
        help: "The file in which that password stands.",
        form_of: "--password",
        set: Setter::Word(|draft, word| {
            draft.password = Some(Source::File(word.into()));
            Ok(())
        }),
        ..OURS
    },
    Row {
        names: &["--digest"],
        group: Group::Login,
        help: "Log in by HTTP digest authentication instead.",
        set: Setter::Switch(|draft, _| draft.digest = true),
        ..INHERITED
    },
    Row {
        names: &["--client-cert"],
        value: "FILE",
        group: Group::Login,
        help: "Prove who we are by the certificate in this PEM file, where the server asks for one; goes with --client-key.",
        set: Setter::Word(|draft, word| file(word).map(|path| draft.client_cert = Some(path))),
        ..OURS
    },
    Row {
        names: &["--client-key"],
        value: "FILE",
        group: Group::Login,
        help: "The PEM file with the key of that certificate; it may be the same file.",
        set: Setter::Word(|draft, word| file(word).map(|path| draft.client_key = Some(path))),
        ..OURS
    },
    Row {
        names: &["--port"],
        value: "PORT",
        group: Group::Listener,
        help: "The port to listen on; 0 takes any free one.",
        default: "0",
        variable: "MCP_PROXY_PORT",
        set: Setter::Word(|draft, word| port(word).map(|value| draft.port = value)),
        ..INHERITED
    },
    Row {
        names: &["--host"],
        value: "ADDRESS",
        group: Group::Listener,
        help: "The address to listen on; 'localhost' means both 127.0.0.1 and ::1, '0.0.0.0' every network.",
        default: "127.0.0.1",
        variable: "MCP_PROXY_HOST",
        set: Setter::Word(|draft, word| host(word).map(|value| draft.host = value)),
        ..INHERITED
    },
    Row {
        names: &["--sse-port"],
        value: "PORT",
        group: Group::Listener,
        help: "The old name of --port; --port wins.",
        form_of: "--port",
        set: Setter::Word(|draft, word| {
            let port = port(word)?;
            if !draft.given.contains(&"--port") {
                draft.port = port;
            }
            Ok(())
        }),
        ..INHERITED
    },
    Row {
        names: &["--sse-host"],
        value: "ADDRESS",
        group: Group::Listener,
        help: "The old name of --host; --host wins.",
        form_of: "--host",
        set: Setter::Word(|draft, word| {
            let host = host(word)?;
            if !draft.given.contains(&"--host") {
                draft.host = host;
            }
            Ok(())
        }),
        ..INHERITED
    },
    Row {
        names: &["--listen"],
        value: "ADDRESS",
        group: Group::Listener,
        help: "Listen here: 'unix:/run/mcp.sock' or HOST:PORT. Can be given several times, and with --port. Sockets that \
               systemd opened for us (LISTEN_FDS) are used anyway.",
        set: Setter::Word(|draft, word| listen(word).map(|address| draft.listen.push(address))),
        ..OURS
    },
    Row {
        names: &["--socket-mode"],
        value: "MODE",
        group: Group::Listener,
        help: "The permissions of the file of such a Unix socket, in octal.",
        default: "0600",
        set: Setter::Word(|draft, word| socket_mode(word).map(|mode| draft.socket_mode = mode)),
        ..OURS
    },
    Row {
        names: &["--socket-owner"],
        value: "USER[:GROUP]",
        group: Group::Listener,
        help: "Whose that file is: names or numbers; ':GROUP' changes the group alone.",
        set: Setter::Word(|draft, word| owner(word).map(|owner| draft.socket_owner = Some(owner))),
        ..OURS
    },
    Row {
        names: &["--allow-origin"],
        value: "ORIGIN...",
        group: Group::Listener,
        help: "Let pages of these origins use the proxy, such as https://app.example; '*' means all. Can be given \
               several times.",
        set: Setter::Several(is_origin, add_origin),
        ..INHERITED
    },
    Row {
        names: &["--expose-header"],
        value: "NAME",
        group: Group::Listener,
        help: "A header that such pages may read. Can be given several times.",
        default: "Mcp-Session-Id",
        set: Setter::Word(expose_header),
        ..INHERITED
    },
    Row {
        names: &["--base-path"],
        value: "PATH",
        group: Group::Listener,
        help: "The path under which a reverse proxy offers us, such as /mcp-servers; clients are sent there.",
        variable: "MCP_PROXY_BASE_PATH",
        set: Setter::Word(|draft, word| base_path(word).map(|path| draft.base_path = path)),
        ..OURS
    },
    Row {
        names: &["--trusted-proxy"],
        value: "ADDRESS",
        group: Group::Listener,
        help: "A reverse proxy whose X-Forwarded-Prefix, -Proto and -Host are believed: an IP address, a network such as \
               10.0.0.0/8, or 'unix' for what comes through Unix sockets. Can be given several times.",
        set: Setter::Word(|draft, word| network(word).map(|network| draft.trusted_proxies.push(network))),
        ..OURS
    },
    Row {
        names: &["--keep-alive"],
        value: "SECONDS",
        group: Group::Listener,
        help: "How soon to notice that a client went away.",
        default: "15",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.limits.keep_alive = value)),
        ..OURS
    },
    Row {
        names: &["--auth-token-file"],
        value: "FILE",
        group: Group::Access,
        help: "Clients must bring one of the tokens in FILE ('Authorization: Bearer TOKEN'): one a line, # begins a comment. \
               Read again on HUP. The variable holds the tokens themselves.",
        variable: "MCP_PROXY_AUTH_TOKEN",
        set: Setter::FileOr(
            |draft, word| file(word).map(|path| draft.auth_tokens = Some(Source::File(path))),
            |draft, word| unseen(word).map(|text| draft.auth_tokens = Some(Source::Literal(text))),
        ),
        ..OURS
    },
    Row {
        names: &["--auth-server"],
        value: "URL",
        group: Group::Access,
        help: "Tell clients that they get tokens from this authorization server (RFC 9728). Can be given several times.",
        set: Setter::Word(add_auth_server),
        ..OURS
    },
    Row {
        names: &["--public-url"],
        value: "URL",
        group: Group::Access,
        help: "Scheme and host under which clients reach us, such as https://host.example; else what they send tells.",
        variable: "MCP_PROXY_PUBLIC_URL",
        set: Setter::Word(|draft, word| public_url(word).map(|url| draft.public_url = Some(url))),
        ..OURS
    },
    Row {
        names: &["--allow-host"],
        value: "NAME",
        group: Group::Access,
        help: "A further name by which clients may call us (Host). On loopback others are refused anyway; once one is given, \
               everywhere. Can be given several times.",
        set: Setter::Word(add_host),
        ..OURS
    },
    Row {
        names: &["-e", "--env"],
        value: "KEY VALUE",
        group: Group::Local,
        help: "Set a variable of the command's environment; -e KEY=VALUE is the same. Can be given several times.",
        set: Setter::Pair(b'=', set_env),
        ..INHERITED
    },
    Row {
        names: &["--cwd"],
        value: "DIR",
        group: Group::Local,
        help: "The folder in which the command runs.",
        set: Setter::Word(|draft, word| {
            draft.cwd = (!word.is_empty()).then(|| word.into());
            Ok(())
        }),
        ..INHERITED
    },
    Row {
        names: &["--pass-environment", "--no-pass-environment"],
        group: Group::Local,
        help: "Give every local server our whole environment, not only HOME, LOGNAME, PATH, SHELL, TERM and USER.",
        default: "no",
        set: Setter::Switch(|draft, yes| draft.pass_environment = yes),
        ..INHERITED
    },
    Row {
        names: &["--stop-timeout"],
        value: "SECONDS",
        group: Group::Local,
        help: "How long a local server may take to end before it is killed.",
        default: "5",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.stop_timeout = value)),
        ..OURS
    },
    Row {
        names: &["--named-server"],
        value: "NAME COMMAND",
        group: Group::Several,
        help: "Offer a server under /servers/NAME/. COMMAND is one word, split at blanks as a shell does it ('uvx \
               mcp-server-fetch'), or a URL. Can be given several times.",
        set: Setter::Two(add_named),
        ..INHERITED
    },
    Row {
        names: &["--named-server-config"],
        value: "FILE",
        group: Group::Several,
        help: "Offer the servers of this JSON file ('mcpServers', as desktop clients have it) under /servers/NAME/. Read again \
               on HUP.",
        set: Setter::Word(|draft, word| {
            draft.config = (!word.is_empty()).then(|| word.into());
            Ok(())
        }),
        ..INHERITED
    },
    Row {
        names: &["--shared", "--no-shared"],
        group: Group::Sessions,
        help: "Let all sessions of a server share one process; else each has its own.",
        default: "no",
        set: Setter::Switch(|draft, yes| draft.shared = yes),
        ..OURS
    },
    Row {
        names: &["--stateless", "--no-stateless"],
        group: Group::Sessions,
        help: "No sessions on /mcp: every request goes to the one shared process of its server.",
        default: "no",
        set: Setter::Switch(|draft, yes| draft.stateless = yes),
        ..INHERITED
    },
    Row {
        names: &["--max-sessions"],
        value: "N",
        group: Group::Sessions,
        help: "Sessions at the same time.",
        default: "512",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.sessions = value)),
        ..OURS
    },
    Row {
        names: &["--session-idle"],
        value: "SECONDS",
        group: Group::Sessions,
        help: "How long a session on /mcp lives without a request and without a stream.",
        default: "1800",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.session_idle = value)),
        ..OURS
    },
    Row {
        names: &["--max-open-requests"],
        value: "N",
        group: Group::Sessions,
        help: "Requests of one session that wait for their answer at the same time.",
        default: "1024",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.open_requests = value)),
        ..OURS
    },
    Row {
        names: &["--max-links"],
        value: "N",
        group: Group::Sessions,
        help: "Processes of one legacy server that work at the same time on calls of modern clients about which it may ask \
               something; further calls wait.",
        default: "8",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.links = value)),
        ..OURS
    },
    Row {
        names: &["--max-inputs"],
        value: "N",
        group: Group::Sessions,
        help: "Calls of a modern client to one legacy server that wait for the client's input at the same time.",
        default: "128",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.inputs = value)),
        ..OURS
    },
    Row {
        names: &["--input-bytes"],
        value: "N",
        group: Group::Sessions,
        help: "What is kept of all these calls.",
        default: "16777216",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.input_bytes = value)),
        ..OURS
    },
    Row {
        names: &["--input-timeout"],
        value: "SECONDS",
        group: Group::Sessions,
        help: "How long such a call waits before it is cancelled.",
        default: "300",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.input_timeout = value)),
        ..OURS
    },
    Row {
        names: &["--replay-bytes"],
        value: "N",
        group: Group::Sessions,
        help: "What is kept of one session for a client that resumes a broken stream.",
        default: "1048576",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.replay_bytes = value)),
        ..OURS
    },
    Row {
        names: &["--replay-age"],
        value: "SECONDS",
        group: Group::Sessions,
        help: "How long that is kept.",
        default: "300",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.replay_age = value)),
        ..OURS
    },
    Row {
        names: &["--max-connections"],
        value: "N",
        group: Group::Limits,
        help: "Connections at the same time.",
        default: "2048",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.limits.connections = value)),
        ..OURS
    },
    Row {
        names: &["--max-message-bytes"],
        value: "N",
        group: Group::Limits,
        help: "The size of one message: a line, a request's body, an event.",
        default: "67108864",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.limits.body_bytes = value)),
        ..OURS
    },
    Row {
        names: &["--max-header-bytes"],
        value: "N",
        group: Group::Limits,
        help: "The size of a request's head.",
        default: "32768",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.limits.header_bytes = value)),
        ..OURS
    },
    Row {
        names: &["--max-stream-bytes"],
        value: "N",
        group: Group::Limits,
        help: "What may wait for a client that reads slowly; over it, its stream is closed.",
        default: "67108864",
        set: Setter::Word(|draft, word| count(word).map(|value| draft.limits.stream_bytes = value)),
        ..OURS
    },
    Row {
        names: &["--head-timeout"],
        value: "SECONDS",
        group: Group::Limits,
        help: "How long a request's head may take.",
        default: "10",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.limits.head_timeout = value)),
        ..OURS
    },
    Row {
        names: &["--body-timeout"],
        value: "SECONDS",
        group: Group::Limits,
        help: "How long a request's body may pause.",
        default: "30",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.limits.body_timeout = value)),
        ..OURS
    },
    Row {
        names: &["--idle-timeout"],
        value: "SECONDS",
        group: Group::Limits,
        help: "How long a connection may stay open without a request.",
        default: "75",
        set: Setter::Word(|draft, word| seconds(word).map(|value| draft.limits.idle_timeout = value)),
        ..OURS
    },
    Row {
        names: &["--demo"],
        help: "Be a small MCP server on stdin and stdout, to try things with.",
        set: Setter::Switch(|draft, _| draft.demo = true),
        ..OURS
    },
    Row {
        names: &["--restrict"],
        value: "[WHAT]",
        help: "Give up what is not needed after the start: 'possible', what this kernel and local servers allow, 'all' or do \
               not run; the log says what.",
        set: Setter::Optional(wants_restrict, set_restrict),
        ..OURS
    },
    Row {
        names: &["--log-level"],
        value: "LEVEL",
        help: "The least important lines that are shown on stderr: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
        default: "INFO",
        variable: "MCP_PROXY_LOG_LEVEL",
        set: Setter::Word(|draft, word| level(word).map(|value| draft.level = value)),
        ..INHERITED
    },
    Row {
        names: &["--log-format"],
        value: "NAME",
        help: "How these lines are written: 'text', or 'json', an object a line.",
        default: "text",
        variable: "MCP_PROXY_LOG_FORMAT",
        set: Setter::Word(|draft, word| log_format(word).map(|value| draft.log_format = value)),
        ..OURS
    },
    Row {
        names: &["--debug", "--no-debug"],
        help: "Show everything, whatever --log-level says.",
        default: "no",
        set: Setter::Switch(|draft, yes| draft.debug = yes),
        ..INHERITED
    },
    Row {
        names: &["--version"],
        help: "Show the version.",
        set: Setter::Switch(|draft, _| draft.show = Some(Show::Version)),
        ..INHERITED
    },
    Row {
        names: &["-h", "--help"],
        help: "Show this help.",
        set: Setter::Switch(|draft, _| draft.show = Some(Show::Help)),
        ..INHERITED
    },
];
