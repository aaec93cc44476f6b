//! A server that is a local process.

use std::ffi::OsString;
use std::path::PathBuf;

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
    /// Whether it gets our whole environment; else only HOME, LOGNAME, PATH, SHELL, TERM and USER.
    pub pass_environment: bool,
}
