//! What the words have said so far. It begins with the table's defaults, and its fields change by the table's setters.

use super::table::{Setter, TABLE};
use crate::downstream::door::Address;
use crate::downstream::listener::Limits;
use crate::log::{Format, Level, Secret};
use crate::protocol::era::Protocol;
use crate::protocol::network::Network;
use crate::restrict::Wish;
use crate::upstream::http::{Transport, Verify};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the words have said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one switch of the table")]
pub(super) struct Draft {
    pub show: Option<Show>,
    pub demo: bool,
    pub debug: bool,
    pub level: Level,
    pub log_format: Format,
    pub headers: Vec<(String, Secret)>,
    pub headers_source: Option<Source>,
    pub token: Option<Source>,
    pub client_id: Option<String>,
    pub client_secret: Option<Source>,
    pub token_url: Option<String>,
    pub username: Option<String>,
    pub password: Option<Source>,
    pub digest: bool,
    pub transport: Transport,
    pub protocol: Protocol,
    pub client_protocol: Protocol,
    pub verify: Verify,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub timeout: Duration,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<PathBuf>,
    pub pass_environment: bool,
    pub named: Vec<(String, Vec<OsString>)>,
    pub config: Option<PathBuf>,
    pub shared: bool,
    pub stateless: bool,
    pub stop_timeout: Duration,
    pub port: u16,
    pub host: String,
    pub listen: Vec<Address>,
    pub socket_mode: u32,
    pub socket_owner: Option<String>,
    pub auth_tokens: Option<Source>,
    pub auth_servers: Vec<String>,
    pub public_url: Option<String>,
    pub allow_hosts: Vec<String>,
    pub restrict: Wish,
    pub allow_origins: Vec<String>,
    pub expose_headers: Vec<String>,
    pub base_path: String,
    pub trusted_proxies: Vec<Network>,
    pub session_idle: Duration,
    pub replay_bytes: usize,
    pub replay_age: Duration,
    pub sessions: usize,
    pub open_requests: usize,
    pub links: usize,
    pub inputs: usize,
    pub input_bytes: usize,
    pub input_timeout: Duration,
    pub limits: Limits,
    /// The names of the options that stood on the command line.
    pub given: Vec<&'static str>,
    /// Their secret values.
    pub secrets: Vec<String>,
    /// What the user may want to know.
    pub remarks: Vec<String>,
}

/// What is shown instead of doing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Help,
    Version,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Literal(Secret),
    File(PathBuf),
}

impl Draft {
    /// What holds when nothing is said: every default of the table.
    pub fn new() -> Self {
        let mut draft = Self::blank();
        for row in TABLE {
            if let Setter::Word(set) = row.set
                && !row.default.is_empty()
            {
                set(&mut draft, row.default.as_ref()).expect("a default that its own setter takes");
            }
        }
        draft
    }

    /// Whether the option, or another form of it, stood on the command line.
    pub fn is_given(&self, name: &str) -> bool {
        TABLE.iter().any(|row| (row.name() == name || row.form_of == name) && self.given.contains(&row.name()))
    }

    /// Something that the user may want to know.
    pub fn remark(&mut self, text: &str) {
        self.remarks.push(text.to_owned());
    }

    /// A value that must not be seen in the list of processes.
    pub fn keep_secret(&mut self, value: &str) {
        if !value.is_empty() {
            self.secrets.push(value.to_owned());
        }
    }

    /// Nothing yet; [`Draft::new`] puts the table's defaults in place of the zeros.
    fn blank() -> Self {
        let zero = Duration::ZERO;
        Self {
            show: None,
            demo: false,
            debug: false,
            level: Level::Info,
            log_format: Format::Text,
            headers: Vec::new(),
            headers_source: None,
            token: None,
            client_id: None,
            client_secret: None,
            token_url: None,
            username: None,
            password: None,
            digest: false,
            transport: Transport::Auto,
            protocol: Protocol::Auto,
            client_protocol: Protocol::Auto,
            verify: Verify::Public,
            client_cert: None,
            client_key: None,
            timeout: zero,
            env: Vec::new(),
            cwd: None,
            pass_environment: false,
            named: Vec::new(),
            config: None,
            shared: false,
            stateless: false,
            stop_timeout: zero,
            port: 0,
            host: String::new(),
            listen: Vec::new(),
            socket_mode: 0,
            socket_owner: None,
            auth_tokens: None,
            auth_servers: Vec::new(),
            public_url: None,
            allow_hosts: Vec::new(),
            restrict: Wish::Nothing,
            allow_origins: Vec::new(),
            expose_headers: Vec::new(),
            base_path: String::new(),
            trusted_proxies: Vec::new(),
            session_idle: zero,
            replay_bytes: 0,
            replay_age: zero,
            sessions: 0,
            open_requests: 0,
            links: 0,
            inputs: 0,
            input_bytes: 0,
            input_timeout: zero,
            limits: Limits {
                connections: 0,
                header_bytes: 0,
                body_bytes: 0,
                head_timeout: zero,
                body_timeout: zero,
                idle_timeout: zero,
                stream_bytes: 0,
                keep_alive: zero,
            },
            given: Vec::new(),
            secrets: Vec::new(),
            remarks: Vec::new(),
        }
    }
}
