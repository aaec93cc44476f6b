//! Everything outside tests that the compiler cannot vouch for, each with its reason: `unsafe`, what can panic by its
//! name, and threads. The tables and the sources must agree; each failure says which row is missing or left over.
//!
//! A row holds its file, how the place begins (blanks and line breaks are one), and why it is sound, cannot fail or is
//! there. Rows that begin in the same way are found as often as they stand here.

use std::fs;
use std::path::Path;

type Row = (&'static str, &'static str, &'static str);

/// Beside each block stands in the source why it is sound; here stands what it is there for.
const UNSAFE: &[Row] = &[
    (
        "src/system/signals.rs",
        "unsafe { let errno = *libc::__errno_location(); libc::write(",
        "a signal tells its pipe",
    ),
    ("src/system/signals.rs", "unsafe { libc::signal(libc::SIGQUIT, ", "QUIT ends us again, where it was not ignored"),
    ("src/system/signals.rs", "unsafe { let mut action: libc::sigaction = ", "TERM, INT, HUP and CHLD are caught"),
    ("src/system/readiness.rs", "unsafe { libc::poll(polls.as_mut_ptr()", "waits for several descriptors"),
    (
        "src/system/readiness.rs",
        "unsafe { let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))",
        "makes pipes non-blocking",
    ),
    (
        "src/system/readiness.rs",
        "unsafe { Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(",
        "waits in a server's thread",
    ),
    ("src/system/readiness.rs", "unsafe { libc::epoll_wait(", "waits in a server's thread"),
    ("src/system/readiness.rs", "unsafe { libc::epoll_ctl(", "waits in a server's thread"),
    ("src/system/readiness.rs", "unsafe { let fd = check(libc::eventfd(", "wakes a thread that waits in poll"),
    (
        "src/system/readiness.rs",
        "unsafe { libc::write(self.0.as_raw_fd(), (&raw const one)",
        "wakes a thread that waits in poll",
    ),
    (
        "src/system/readiness.rs",
        "unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count)",
        "forgets that it was woken",
    ),
    ("src/system/children.rs", "unsafe { let fd = libc::syscall(libc::SYS_pidfd_open, ", "learns that a process ended"),
    ("src/system/children.rs", "unsafe { libc::kill(-group, number) }", "stops a server with all its children"),
    ("src/system.rs", "unsafe { libc::getrandom(", "session ids, which nobody shall guess"),
    ("src/system/sockets.rs", "unsafe { libc::send(", "writes what the socket takes at once, without waiting"),
    ("src/system/sockets.rs", "unsafe { let mut message: libc::msghdr = ", "the same for several parts, with no copy"),
    (
        "src/system/sockets.rs",
        "unsafe { libc::recv(socket.as_raw_fd(), buffer.",
        "reads what is there, without waiting",
    ),
    (
        "src/system/sockets.rs",
        "unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte)",
        "sees whether a client went away",
    ),
    ("src/system/sockets.rs", "unsafe { let mut info: libc::tcp_info = ", "sees whether a client's machine went away"),
    (
        "src/system/secrets.rs",
        "unsafe { std::slice::from_raw_parts_mut(start",
        "overwrites secrets among our arguments",
    ),
    ("src/system/secrets.rs", "unsafe { std::slice::from_raw_parts_mut(start", "overwrites secrets in our environment"),
    ("src/system/sockets.rs", "unsafe { libc::setsockopt(", "notices dead connections (TCP keep-alive)"),
    (
        "src/system/descriptors.rs",
        "unsafe { let mut limit: libc::rlimit = ",
        "takes as many descriptors as we may have",
    ),
    (
        "src/system/children.rs",
        "unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, ",
        "orphans of servers become our children",
    ),
    ("src/system/children.rs", "unsafe { let mut info: libc::siginfo_t = ", "looks for an orphan that ended"),
    ("src/system/children.rs", "unsafe { libc::waitpid(ended, ", "collects that orphan"),
    ("src/system/children.rs", "unsafe { libc::kill(pid, libc::SIGKILL) }", "leaves no orphan behind at the end"),
    (
        "src/system/descriptors.rs",
        "unsafe { libc::syscall(libc::SYS_close_range, ",
        "servers get no descriptor of ours",
    ),
    ("src/system/descriptors.rs", "unsafe { libc::fcntl(fd, libc::F_SETFD, ", "the same, before Linux 5.11"),
    ("src/system/descriptors.rs", "unsafe { BorrowedFd::borrow_raw(fd) }", "looks at a socket of systemd"),
    ("src/system/descriptors.rs", "unsafe { OwnedFd::from_raw_fd(fd) }", "takes over a socket of systemd"),
    ("src/system/descriptors.rs", "unsafe { libc::getsockopt(", "looks at a socket of systemd"),
    (
        "src/system/descriptors.rs",
        "unsafe { libc::umask(0o777) }",
        "nobody may use a Unix socket before its mode is set",
    ),
    ("src/system/descriptors.rs", "unsafe { libc::umask(before) }", "puts the mask back"),
    (
        "src/system/memory.rs",
        "unsafe impl GlobalAlloc for Allocator",
        "an allocation that fails is tried again, instead of ending us",
    ),
    ("src/system/memory.rs", "unsafe fn alloc(&self, ", "what that trait demands"),
    ("src/system/memory.rs", "unsafe { System.alloc(layout) }", "the system's own, as it was called"),
    ("src/system/memory.rs", "unsafe fn alloc_zeroed(&self, ", "what that trait demands"),
    ("src/system/memory.rs", "unsafe { System.alloc_zeroed(layout) }", "the system's own, as it was called"),
    ("src/system/memory.rs", "unsafe fn dealloc(&self, ", "what that trait demands"),
    ("src/system/memory.rs", "unsafe { System.dealloc(at, layout) }", "the system's own, as it was called"),
    ("src/system/memory.rs", "unsafe fn realloc(&self, ", "what that trait demands"),
    ("src/system/memory.rs", "unsafe { System.realloc(at, layout, size) }", "the system's own, as it was called"),
    ("src/system/memory.rs", "unsafe { libc::mmap(", "finds out whether there is memory, and keeps some"),
    ("src/system/memory.rs", "unsafe { libc::munmap(", "gives it back"),
    (
        "src/system/stacks.rs",
        "unsafe(link_section = \".init_array\")]",
        "comes before std takes memory for each thread",
    ),
    ("src/system/stacks.rs", "unsafe { libc::signal(number, libc::SIG_IGN) }", "so that std takes none"),
    ("src/system/stacks.rs", "unsafe { libc::signal(number, libc::SIG_DFL) }", "as it was, from main on"),
    (
        "src/system/minder.rs",
        "unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(",
        "the minder waits for all servers",
    ),
    ("src/system/minder.rs", "unsafe { libc::epoll_ctl(", "the minder waits for all servers"),
    ("src/system/minder.rs", "unsafe { libc::epoll_wait(", "the minder waits for all servers"),
    ("src/system/callee.rs", "unsafe { libc::syscall(libc::SYS_tgkill, ", "calls a thread out of its read"),
    ("src/system/callee.rs", "unsafe { libc::syscall(libc::SYS_gettid) }", "which thread is to be called"),
    ("src/system/callee.rs", "unsafe { let mut action: libc::sigaction = ", "what calls a thread ends its read"),
    (
        "src/system/callee.rs",
        "unsafe { let mut set: libc::sigset_t = ",
        "whoever started us may have blocked the signal",
    ),
    ("src/system/sandbox.rs", "unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ", "--restrict: no new privileges"),
    (
        "src/system/sandbox.rs",
        "unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr",
        "which Landlock there is",
    ),
    (
        "src/system/sandbox.rs",
        "unsafe { let fd = libc::syscall(libc::SYS_landlock_create_ruleset, ",
        "--restrict: the rules",
    ),
    (
        "src/system/sandbox.rs",
        "unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ",
        "--restrict: they hold from now",
    ),
    ("src/system/sandbox.rs", "unsafe { libc::syscall(libc::SYS_landlock_add_rule, ", "--restrict: one folder stays"),
];

/// What panics, and why it never does. Input of others decides about none of them.
const PANICS: &[Row] = &[
    ("src/cli.rs", ".expect(\"the value behind `=` was taken before\")", "called between words only"),
    (
        "src/cli/draft.rs",
        ".expect(\"a default that its own setter takes\")",
        "a constant table, all of it run by each start",
    ),
    ("src/cli/table.rs", ".expect(\"every row has a long name\")", "a constant table, all of it tested"),
    ("src/demo.rs", ".expect(\"writing to a string cannot fail\")", "a String takes everything"),
    ("src/log/json.rs", ".expect(\"there is one\")", "the list begins with one and only grows"),
    (
        "src/protocol/message.rs",
        ".expect(\"one character of ASCII for another\")",
        "blanks for line breaks in what was UTF-8",
    ),
    (
        "src/system/sandbox.rs",
        "debug_assert_eq!(allowed & EXECUTE, 0, ",
        "two constants of this file; not in a release",
    ),
];

/// Each thread, and what bounds how many there are of it.
const THREADS: &[Row] = &[
    ("src/connect.rs", "start(\"server\", ", "one: connects, then reads what the server sends"),
    ("src/connect.rs", "start(\"client\", ", "one: reads stdin"),
    ("src/connect.rs", "start(\"signals\", ", "one: waits for signals"),
    ("src/connect.rs", "thread::Builder::new().name(name.into())", "starts the three above"),
    (
        "src/connect.rs",
        "thread::Builder::new().name(\"last\"",
        "one at the end: the last answers, which may not hold us up",
    ),
    (
        "src/connect/relay/from_client.rs",
        "thread::Builder::new().name(\"client\"",
        "reads stdin on; --max-open-requests",
    ),
    ("src/connect/relay/link.rs", "thread::Builder::new().name(\"waiting\"", "one a link: sends what waited for it"),
    ("src/downstream/listener.rs", "thread::Builder::new().name(\"accept\"", "one: accepts connections"),
    ("src/downstream/listener.rs", "thread::Builder::new().name(\"connection\"", "one a connection; --max-connections"),
    (
        "src/downstream/stream/keep.rs",
        "thread::Builder::new()",
        "one an answer whose client reads slowly; its connection",
    ),
    ("src/serve.rs", "thread::Builder::new().name(\"signals\"", "one: waits for signals, collects orphans"),
    (
        "src/serve/house/servers.rs",
        "thread::Builder::new().name(\"server\"",
        "one a server process or link; --max-sessions",
    ),
    (
        "src/system/minder.rs",
        "thread::Builder::new().name(\"minder\"",
        "one: watches servers whose threads read stdout",
    ),
    (
        "src/upstream/child/lender.rs",
        "thread::Builder::new().name(\"lender\"",
        "one: looks at servers whose stdout connections read",
    ),
    ("src/upstream/bridge.rs", "start(state, \"bridge\", ", "one a bridged link: reads it"),
    ("src/upstream/bridge.rs", "start(state, \"clock\", ", "one a bridge, while anything waits for a time"),
    ("src/upstream/bridge.rs", "thread::Builder::new().name(name.into())", "starts the two above"),
    (
        "src/upstream/crew.rs",
        "thread::Builder::new().name(\"post\"",
        "sends requests side by side; --max-open-requests",
    ),
    (
        "src/upstream/dial.rs",
        "thread::Builder::new().name(\"dial\"",
        "looks up and connects, which nothing can end; one a request",
    ),
    ("src/upstream/streamable/listen.rs", "thread::Builder::new().name(\"listener\"", "one a link: the GET stream"),
];

/// Which words begin a place, and what stands before them when they do not.
const UNSAFE_BEGINS: &[&str] = &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait", "unsafe("];
const PANIC_BEGINS: &[&str] = &[
    ".expect(",
    ".expect_err(",
    ".unwrap()",
    ".unwrap_err()",
    ".unwrap_unchecked()",
    "panic!",
    "unreachable!",
    "todo!",
    "unimplemented!",
    "assert!",
    "assert_eq!",
    "assert_ne!",
    "debug_assert!",
    "debug_assert_eq!",
    "debug_assert_ne!",
    "process::exit",
    "process::abort",
    "resume_unwind",
];
const THREAD_BEGINS: &[&str] =
    &["thread::Builder::new()", "thread::spawn", "thread::scope", "start(\"", "start(state, \""];

#[test]
fn every_unsafe_has_its_reason() {
    compare("UNSAFE", UNSAFE, UNSAFE_BEGINS);
}

#[test]
fn every_panic_has_its_reason() {
    compare("PANICS", PANICS, PANIC_BEGINS);
}

#[test]
fn every_thread_has_its_reason() {
    compare("THREADS", THREADS, THREAD_BEGINS);
}

/// The tables are as good as what finds the places.
#[test]
fn places_are_found() {
    let source = "\
//! unsafe { not_here() }
fn a() { unsafe {
    b() } }
#[cfg(test)]
pub fn is_asking(&self) -> bool {
    x.unwrap()
}
fn c() {
    // y.unwrap()
    debug_assert!(z
        .expect(\"why\"));
}
#[cfg(test)]
mod tests;
fn d() { todo!() }
#[cfg(test)]
mod more {
    fn e() { panic!(\"}\") }
}
";
    let code = without_tests(source);
    assert_eq!(
        places(&code, UNSAFE_BEGINS),
        ["unsafe { b() } } fn c() { debug_assert!(z .expect(\"why\")); } fn d() { todo!() }"]
    );
    let panics = places(&code, PANIC_BEGINS);
    let begins: Vec<&str> = panics.iter().map(|place| place.split('(').next().unwrap_or_default()).collect();
    assert_eq!(begins, ["debug_assert!", ".expect", "todo!"]);
}

fn compare(table: &str, rows: &[Row], begins: &[&str]) {
    let mut left: Vec<&Row> = rows.iter().collect();
    let mut missing = Vec::new();
    for (path, place) in
        sources().iter().flat_map(|(path, code)| places(code, begins).into_iter().map(move |place| (path, place)))
    {
        match left.iter().position(|(file, text, _)| file == path && place.starts_with(text)) {
            Some(row) => drop(left.remove(row)),
            None => missing.push(format!("{path}: {}", place.chars().take(90).collect::<String>())),
        }
    }
    assert!(rows.iter().all(|(.., reason)| !reason.is_empty()), "a row of {table} has no reason");
    assert!(missing.is_empty(), "{table} of tests/inventory.rs does not say why there is\n{}", missing.join("\n"));
    assert!(left.is_empty(), "{table} of tests/inventory.rs has rows for what is not there (any more): {left:#?}");
}

/// Our source files that are no tests, with their code.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    assert!(found.len() > 100, "{} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join(folder)).expect("a folder of ours");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry of it").file_name()).collect();
    names.sort();
    for path in
        names.iter().map(|name| folder.join(name)).filter(|path| path.file_stem().is_none_or(|stem| stem != "tests"))
    {
        if root.join(&path).is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source file is text");
            found.push((path.display().to_string(), without_tests(&text)));
        }
    }
}

/// What is left of a source file without its tests and its comments, on one line. Its format is rustfmt's: an item ends
/// where its closing brace is indented as its attribute is.
fn without_tests(text: &str) -> String {
    let mut code = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        if bare == "#[cfg(test)]" {
            let end = format!("{indent}}}");
            let _last =
                lines.find(|line| *line == end || (line.ends_with(';') && !line[indent.len()..].starts_with(' ')));
        } else if !bare.starts_with("//") {
            code.extend(line.split_whitespace());
        }
    }
    let code = code.join(" ");
    assert!(!code.contains("#[test]"), "a test is taken for code: {code}");
    code
}

/// Where one of the words begins, each place with what follows.
fn places<'a>(code: &'a str, begins: &[&str]) -> Vec<&'a str> {
    let is_inside = |at: usize| code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut found: Vec<usize> = begins
        .iter()
        .flat_map(|begin| code.match_indices(begin).map(|(at, _)| at))
        .filter(|at| code[*at..].starts_with('.') || !is_inside(*at))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|at| &code[at..]).collect()
}
