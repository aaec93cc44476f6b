//! Processes that end: our own children, their groups, and the orphans of theirs.
//!
//! Always: the exit status of a child that we started is left for the code that waits for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

/// A descriptor that becomes readable when the process ends; `None` where the kernel has none (before 5.3).
#[must_use]
pub fn process_end(pid: u32) -> Option<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: a plain call with two integers; the descriptor that it gives is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        Some(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends a signal to every process of the group that `leader` leads. A group that is gone is no error.
pub fn signal_group(leader: u32, number: i32) {
    if let Ok(group @ 2..) = libc::pid_t::try_from(leader) {
        // SAFETY: a plain call with two integers; 0 and 1, which would mean others, are excluded.
        unsafe { libc::kill(-group, number) };
    }
}

/// Our own children, so that nobody takes their exit status from the code that waits for it.
#[derive(Default)]
struct Ours {
    pids: Vec<u32>,
    starting: usize,
}

static OURS: Mutex<Ours> = Mutex::new(Ours { pids: Vec::new(), starting: 0 });

fn ours() -> std::sync::MutexGuard<'static, Ours> {
    OURS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `start` and remembers the child that it gives until [`forget_child`].
///
/// # Errors
/// Those of `start`.
pub fn start_child<T>(start: impl FnOnce() -> io::Result<(T, u32)>) -> io::Result<T> {
    ours().starting += 1;
    let started = start();
    let mut ours = ours();
    ours.starting -= 1;
    let (child, pid) = started?;
    ours.pids.push(pid);
    Ok(child)
}

/// The child has been waited for.
pub fn forget_child(pid: u32) {
    ours().pids.retain(|known| *known != pid);
    reap_orphans();
}

/// Processes whose parent ended are given to us from now on, so that none of a server's is left behind when we
/// end. PID 1 has this office already.
pub fn adopt_orphans() {
    // SAFETY: a plain call with integers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Waits for every ended process that is our child only because its parent is gone. The exit status of a child
/// that we started is left alone: it is looked at without being taken, and stays until its owner waits.
pub fn reap_orphans() {
    loop {
        let known = ours();
        if known.starting > 0 {
            return; // its pid is not known yet; the signal of its end, or its owner, brings us back
        }
        // SAFETY: the structure is ours; all zeroes is a valid value of it; WNOHANG means that this never waits.
        let ended = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) != 0 { 0 } else { info.si_pid() }
        };
        let Ok(pid @ 1..) = u32::try_from(ended) else { return };
        if known.pids.contains(&pid) {
            return; // its owner waits for it and comes back here
        }
        // SAFETY: the process is an ended child of ours that nobody else waits for.
        unsafe { libc::waitpid(ended, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Kills every process whose parent we are: what escaped from its group and was given to us. For the very end.
pub fn kill_orphans() {
    for _ in 0..200 {
        let children = children();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // SAFETY: a plain call with two integers; the process is a child of ours, so its pid is not reused.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
        reap_orphans();
    }
}

/// The processes whose parent we are, as `/proc` tells it; none where there is no `/proc`.
fn children() -> Vec<libc::pid_t> {
    let parent = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |pid: &libc::pid_t| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow the last one.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
