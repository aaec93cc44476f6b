//! A server that is a local process: started in a process group of its own, reached through its three pipes.
//!
//! ```text
//!              stop()                      40 % of the limit          the whole limit            2 s
//!   Running ───────────▶ Closing (no stdin) ───────▶ Terminating (TERM) ──────▶ Killing (KILL) ──────▶ Ended
//!      └──────────────────────┴─────────────── the process ended ────┴───────────────┴────────────────▶ Ended
//! ```
//!
//! One thread a child, the one that calls [`recv`](super::Receiver::recv), reads its stdout and stderr, writes what
//! its stdin did not take at once, notices its end and drives its stop. Whoever sends writes to the pipe directly,
//! without ever waiting; only what does not fit is left to that thread. While only stdout has anything to say, the thread
//! waits for it in a plain read, and is called from there when anything else happens (see [`minder`](system::minder)). While
//! one connection alone asks, even that is left to the thread of the connection (see `loan`). After
//! [`Event::Ended`](super::Event::Ended) the whole process group is gone and the process has been waited for.

mod alone;
mod calm;
mod input;
mod lender;
mod loan;
mod output;
mod stdout;

use super::Link;
use crate::error::Error;
use crate::log;
use crate::system::{self, Waker, Watch, memory};
use input::Shared;
use output::Output;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How a local server is started. The words never meet a shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The program, looked up in `PATH` when it holds no slash.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What is added to its environment; the last of a name wins.
    pub env: Vec<(OsString, OsString)>,
    /// Its folder; ours where none is given.
    pub cwd: Option<PathBuf>,
    /// Whether it gets our whole environment, without our own secrets; else only HOME, LOGNAME, PATH, SHELL, TERM and
    /// USER.
    pub pass_environment: bool,
}

/// What a child may cost, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest line (bytes) of its stdout.
    pub line_bytes: usize,
    /// Bytes that may wait for it to read its stdin.
    pub waiting_bytes: usize,
    /// How long it may take to end before its process group is killed.
    pub stop_timeout: Duration,
    /// What marks its lines in our log, where there are several servers.
    pub mark: Option<Arc<str>>,
}
/// What it takes of our own memory to start one: threads and buffers.
const START_BYTES: usize = 1 << 20;
/// What a server gets of our environment when it does not get all of it.
const INHERITED: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];
/// What it does not get even then: our own secrets, and sockets that were opened for us alone.
const OURS: [&str; 7] = [
    "MCP_PROXY_AUTH_TOKEN",
    "MCP_PROXY_CLIENT_SECRET",
    "MCP_PROXY_HEADERS",
    "MCP_PROXY_PASSWORD",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

impl Command {
    /// Starts the server.
    ///
    /// # Errors
    /// The program is not there ([`Error::NotFound`]) or cannot run ([`Error::CannotRun`]).
    pub fn start(&self, limits: Limits) -> Result<Link, Error> {
        self.spawn(limits).map_err(|error| {
            let text = format!("cannot start '{}': {}", self.program.display(), log::cause(&error));
            if error.kind() == io::ErrorKind::NotFound { Error::NotFound(text) } else { Error::CannotRun(text) }
        })
    }

    fn spawn(&self, limits: Limits) -> io::Result<Link> {
        if !memory::has_room(START_BYTES) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let (waker, watch) = (Waker::new()?, Watch::new()?);
        let mut child = system::start_child(|| {
            let child = self.prepare().spawn()?;
            let pid = child.id();
            Ok((child, pid))
        })?;
        let shared = Arc::new(Shared::new(child.id(), child.stdin.take(), limits, waker));
        let output = Output::new(child, shared.clone(), watch);
        output.prepare()?; // what fails takes the process with it
        Ok(Link { sender: shared, receiver: Box::new(output) })
    }

    fn prepare(&self) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !self.pass_environment {
            let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
            command.env_clear().envs(inherited);
        }
        for name in OURS {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command
    }
}
