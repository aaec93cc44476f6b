//! What a process can give up for good, its threads to come and its children included: new privileges (prctl(2)), and
//! files, programs and ports (Landlock, landlock(7), by its system calls: there is nothing of it in libc).
//!
//! Always: only the calling thread and what it starts from then on is bound, so this comes before all other threads.

use super::check;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Rights on files, in the order of their bits.
const EXECUTE: u64 = 1 << 0;
const READ_FILE: u64 = 1 << 2;
const READ_FOLDER: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
/// All of the first version: those above; to write files; to remove and make everything that can stand in a folder.
const FILES: u64 = (1 << 13) - 1;
/// What the versions 2, 3 and 5 added: to move between folders, to cut off, to control devices.
const MOVE: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const CONTROL_DEVICE: u64 = 1 << 15;
/// Version 4: to open a TCP port.
const BIND_TCP: u64 = 1 << 0;
/// Version 6: abstract Unix sockets of others, and signals to others.
const SCOPED: u64 = 0b11;

const ASK_VERSION: libc::c_uint = 1;
const PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_ruleset_attr`; each version knows a longer beginning of it.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    folder: RawFd,
}

/// A program that is started from now on gets no more rights than we have: set-user-id bits mean nothing.
///
/// # Errors
/// The kernel is older than 3.5.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: a plain call with integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// The version of Landlock that the kernel has, if it has one that is switched on.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    // SAFETY: with this flag nothing is read, and a number is all that comes back.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0_usize, ASK_VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// From now on files are read in the folders of `read` only, removed in those of `remove` only, and not changed or
/// made at all; no program is started, and no TCP port opened, as far as this `version` of Landlock knows. What is open
/// stays usable. A folder that is not there allows nothing.
///
/// # Errors
/// The kernel refuses; [`no_new_privileges`] must have come before.
pub fn confine(version: u32, read: &[impl AsRef<Path>], remove: &[impl AsRef<Path>]) -> io::Result<()> {
    let since = |first: u32, rights: u64| if version >= first { rights } else { 0 };
    let rules = Ruleset {
        files: FILES | since(2, MOVE) | since(3, TRUNCATE) | since(5, CONTROL_DEVICE),
        network: since(4, BIND_TCP),
        scoped: since(6, SCOPED),
    };
    let known: usize = match version {
        ..4 => 8,
        4..6 => 16,
        6.. => 24,
    };
    // SAFETY: the structure is ours and at least as long as is said; the descriptor that comes back is ours alone.
    let ruleset = unsafe {
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, known, 0);
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        OwnedFd::from_raw_fd(fd)
    };
    for folder in read {
        allow(&ruleset, folder.as_ref(), READ_FILE | READ_FOLDER)?;
    }
    for folder in remove {
        allow(&ruleset, folder.as_ref(), REMOVE_FILE)?;
    }
    // SAFETY: a plain call with integers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn allow(ruleset: &OwnedFd, folder: &Path, allowed: u64) -> io::Result<()> {
    debug_assert_eq!(allowed & EXECUTE, 0, "nothing is ever started");
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let Ok(folder) = OpenOptions::new().read(true).custom_flags(flags).open(folder) else { return Ok(()) };
    let rule = Beneath { allowed, folder: folder.as_raw_fd() };
    // SAFETY: the structure is the one that this kind of rule has, and both descriptors are open.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
