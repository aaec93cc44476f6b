//! The operating system: signals, children, sockets, readiness, randomness, and what is built on them.
//!
//! Only this file and those below it have `unsafe` blocks; each says why it is sound. Nothing here keeps state, except
//! the pipe that the signal handler writes to, the list of our own children, the [`minder`], which threads can be called
//! ([`callee`]), and what [`memory`] keeps.
#![allow(unsafe_code)]

pub mod callee;
mod children;
mod descriptors;
pub mod memory;
pub mod minder;
mod readiness;
pub mod sandbox;
mod secrets;
mod signals;
mod sockets;
pub mod stacks;

pub use children::{adopt_orphans, forget_child, kill_orphans, process_end, reap_orphans, signal_group, start_child};
pub use descriptors::{Inherited, inherited_sockets, keep_descriptors, raise_descriptor_limit, without_permissions};
pub use readiness::{Poll, Ready, Waker, Watch, poll, set_nonblocking};
pub use secrets::{hide_arguments, hide_variable};
pub use signals::{Signal, Signals, signal_name, signals};
pub use sockets::{is_silent, peek_now, receive_now, send_now, set_keepalive};

use std::io;

/// 128 bits from the operating system's random source, as 32 hexadecimal digits.
///
/// # Errors
/// The source is not there.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is as long as is said; up to 256 bytes come in one piece.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got) != Ok(bytes.len()) {
        return Err(io::Error::last_os_error());
    }
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| random_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
