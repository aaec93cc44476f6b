//! `--restrict`: what we give up after the start, so that whoever takes us over has little of it.
//!
//! | | new privileges | files, programs, ports |
//! |---|---|---|
//! | nobody is started by us: connect, and serve with remote servers only | given up | given up, where the kernel has Landlock |
//! | local servers are, or may be after the configuration is read again | given up, by the servers too | kept: the servers would lose them too |
//!
//! Always: one line in the log says what was given up and what was not.

use crate::error::Error;
use crate::log;
use crate::system::sandbox;
use std::path::{Path, PathBuf};

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Nothing is given up.
    #[default]
    Nothing,
    /// What can be given up here.
    Possible,
    /// All, or we do not run.
    All,
}

/// What is needed after the start.
#[derive(Debug, Default)]
pub struct Needs {
    /// Local servers are started.
    pub servers: bool,
    /// Folders with files that are read again.
    pub read: Vec<PathBuf>,
    /// Folders with files that are removed at the end.
    pub remove: Vec<PathBuf>,
}

/// Where the names of hosts are looked up: the files that say how, and the libraries that do it.
const LOOKUP: [&str; 10] = [
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/nix/store",
    "/gnu/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];
/// The first version of Landlock that knows all that is listed here.
const WHOLE_LANDLOCK: u32 = 4;

/// Gives up what is not needed. For the main thread, while there is no other.
///
/// # Errors
/// The user insists on what cannot be.
pub fn give_up(wish: Wish, needs: &Needs) -> Result<(), Error> {
    if wish == Wish::Nothing {
        return Ok(());
    }
    let refused = |why: String| Error::Failed(format!("option '--restrict': {why}"));
    if wish == Wish::All && needs.servers {
        return Err(Error::Usage(
            "option '--restrict': 'all' goes with remote servers alone, because local ones would lose their files too"
                .into(),
        ));
    }
    let version = sandbox::landlock_version();
    if wish == Wish::All && version.is_none_or(|version| version < WHOLE_LANDLOCK) {
        let found = version.map_or("no Landlock".to_owned(), |version| format!("Landlock {version} only"));
        return Err(refused(format!("this kernel has {found}; 'all' needs Landlock {WHOLE_LANDLOCK}")));
    }
    sandbox::no_new_privileges().map_err(|error| refused(format!("new privileges: {}", log::cause(&error))))?;
    match version {
        _ if needs.servers => log::info(format_args!(
            "restricted: no new privileges, for local servers too; files and programs are as open as before, because \
             local servers need them"
        )),
        None => log::warning(format_args!(
            "restricted: no new privileges; files and programs are as open as before, because this kernel has no \
             Landlock"
        )),
        Some(version) => {
            sandbox::confine(version, &read(needs), &needs.remove)
                .map_err(|error| refused(format!("Landlock: {}", log::cause(&error))))?;
            log::info(format_args!("{}", given_up(version, needs)));
        }
    }
    Ok(())
}

fn given_up(version: u32, needs: &Needs) -> String {
    let removed = if needs.remove.is_empty() { "" } else { ", none removed but where our socket is" };
    let cut = if version < 3 { " (but cut off, before Landlock 3)" } else { "" };
    let ports = if version < WHOLE_LANDLOCK { "" } else { ", no TCP port opened" };
    format!(
        "restricted: no new privileges, no program started, no file written{cut}{removed}{ports}; files are read where the names \
         of hosts are looked up, and where tokens and certificates are"
    )
}

fn read(needs: &Needs) -> Vec<PathBuf> {
    let lookup = LOOKUP.into_iter().map(PathBuf::from);
    // It may be a link that leads anywhere.
    let resolver = Path::new("/etc/resolv.conf").canonicalize().ok();
    let resolver = resolver.and_then(|file| file.parent().map(Path::to_owned));
    lookup.chain(resolver).chain(needs.read.iter().cloned()).collect()
}
