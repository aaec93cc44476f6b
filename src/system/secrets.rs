//! Secrets of our own command line and environment, which other users of the machine could read in `/proc`.
//!
//! Always: only what the kernel says is ours is overwritten, and only where the length of it agrees.

/// Overwrites `secrets` in our own command line, so that no list of processes shows them from here on.
/// Where `/proc` does not tell where the words are, they stay as they are.
pub fn hide_arguments(secrets: &[String]) {
    let Some((start, length)) = arguments() else { return };
    for secret in secrets.iter().map(String::as_bytes).filter(|secret| secret.len() >= 4) {
        // SAFETY: the kernel says that our arguments are there; the area is ours, writable, never freed, and only
        // std reads it, byte by byte into copies, from the thread that calls this before there are others.
        let words = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) };
        let mut from = 0;
        while let Some(at) = words[from..].windows(secret.len()).position(|found| found == secret) {
            words[from + at..][..secret.len()].fill(b'*');
            from += at + secret.len();
        }
    }
}

/// Overwrites the value of a variable in our own environment, so that nobody sees it there from here on, no server of
/// ours either. Where `/proc` does not tell where it is, it stays as it is.
pub fn hide_variable(name: &str) {
    let Some((start, length)) = area(50, "/proc/self/environ") else { return };
    // SAFETY: the kernel says that our environment is there; the area is ours, writable, never freed, and only std
    // reads it, byte by byte into copies, from the thread that calls this before there are others.
    let variables = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) };
    for variable in variables.split_mut(|byte| *byte == 0) {
        if let Some(at) =
            variable.iter().position(|byte| *byte == b'=').filter(|at| variable[..*at] == *name.as_bytes())
        {
            variable[at + 1..].fill(b'*');
        }
    }
}

/// Where the words of our command line are: address and length.
fn arguments() -> Option<(usize, usize)> {
    area(48, "/proc/self/cmdline")
}

/// Where something is that `file` shows, between the addresses in two fields of proc(5), counted from 1.
fn area(field: usize, file: &str) -> Option<(usize, usize)> {
    let ours = std::fs::read_to_string("/proc/self/stat").ok()?;
    // What follows the name in parentheses begins with the third.
    let mut fields = ours.rsplit_once(") ")?.1.split_whitespace().skip(field - 3);
    let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // What else stands there must agree, or this is not the place.
    let length = end.checked_sub(start).filter(|length| start != 0 && *length > 0)?;
    (std::fs::read(file).ok()?.len() == length).then_some((start, length))
}
