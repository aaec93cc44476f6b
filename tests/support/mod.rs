//! What the integration tests share: the binary under test, processes that end with their test and show their
//! output if it failed, temporary folders, waiting for a condition. Nothing outlives its owner: dropping a
//! [`Process`] kills it with its group and everything it started, dropping a [`Folder`] removes it. Needs nothing
//! but std, `sh` and `/proc`.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

pub mod before_puppets;
pub mod client;
pub mod http;
pub mod modern;
pub mod namespace;
pub mod puppet;
pub mod remote;
pub mod served;
pub mod streamable;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a slow and busy machine: no test that passes waits for it to
/// pass.
pub const SOON: Duration = Duration::from_mins(1);

/// A command that runs the binary under test; `MCP_PROXY_BIN` names another one with the same command line.
#[must_use]
pub fn proxy() -> Command {
    command(program())
}

/// A command without those variables of the environment that the binary under test or its peers would read, and with the
/// signals as a terminal gives them: under `nohup`, or behind a `&` in a script, the tests have some that are ignored.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = if signals_are_ignored() { Command::new("env") } else { Command::new(&program) };
    if signals_are_ignored() {
        command.arg("--default-signal=HUP,INT,QUIT").arg(program);
    }
    for name in ["API_ACCESS_TOKEN", "SSE_URL", "PYTHONPATH", "PYTHONHOME", "NODE_OPTIONS"] {
        command.env_remove(name);
    }
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

/// Whether we were started with HUP, INT or QUIT ignored.
fn signals_are_ignored() -> bool {
    static ARE_IGNORED: LazyLock<bool> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        u64::from_str_radix(ignored, 16).unwrap() & 0b111 != 0
    });
    *ARE_IGNORED
}

/// The path of the binary under test.
#[must_use]
pub fn program() -> PathBuf {
    std::env::var_os("MCP_PROXY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-proxy").into()).into()
}

/// Polls `condition` until it holds; panics with `what` after `within`.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Does what takes no longer than `bound`, and gives how long it took. What is too slow may have been held up by others on
/// the machine: it is done again after a while, twice. What is slow by itself is slow each time. Where many wait for each
/// processor, times say nothing, and are not looked at.
pub fn in_time(what: &str, bound: Duration, mut attempt: impl FnMut() -> Duration) -> Duration {
    let mut all = Vec::new();
    for rest_s in [1, 5, 0] {
        let took = attempt();
        if took <= bound {
            return took;
        }
        all.push(took);
        thread::sleep(Duration::from_secs(rest_s));
    }
    let waiting = waiting_for_each_processor();
    assert!(waiting > 4.0, "{what}: not within {bound:?} but after {all:?}");
    eprintln!("{what}: not within {bound:?} but after {all:?}, while {waiting} waited for each processor");
    all[0]
}

/// How many threads of all on the machine wanted to run lately, for each of its processors.
fn waiting_for_each_processor() -> f64 {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let is_processor =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let processors = u32::try_from(read("/proc/stat").lines().filter(is_processor).count()).unwrap();
    load / f64::from(processors.max(1))
}

/// Does what turns out otherwise, and rightly so, where the machine is away for a fifth of a second: up to five times, until
/// it is as it should be. `Err` says how it was instead.
pub fn undisturbed(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let mut all = Vec::new();
    for _ in 0..5 {
        match attempt() {
            Ok(()) => return,
            Err(why) => all.push(why),
        }
        thread::sleep(Duration::from_secs(1));
    }
    panic!("{what}, each time: {}", all.join("\n"));
}

/// An address here at which nobody listens, and nobody will but who is told of it: its port is none of those that the
/// system gives away by itself.
#[must_use]
pub fn free_address() -> SocketAddr {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let next = || {
        let number = std::process::id() as usize * 37 + COUNT.fetch_add(1, Ordering::Relaxed);
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(10_000 + number % 10_000).unwrap()))
    };
    let is_free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    std::iter::repeat_with(next).find(is_free).unwrap()
}

/// A running program in a process group of its own, with its output gathered by threads.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts `command` with all three streams piped.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Output::gather(child.stdout.take().unwrap());
        let stderr = Output::gather(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, stderr }
    }

    /// The process id, which is also that of its group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its stdin.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap();
    }

    /// Writes to its stdin, which nobody may read any more.
    pub fn offer(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
    }

    /// Ends its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its stdout holds `lines` whole lines and returns them.
    #[must_use]
    pub fn lines(&self, lines: usize) -> Vec<Vec<u8>> {
        let whole = || self.stdout().split(|byte| *byte == b'\n').count() > lines;
        wait_until(&format!("{lines} lines on stdout"), SOON, whole);
        self.stdout().split_inclusive(|byte| *byte == b'\n').take(lines).map(<[u8]>::to_vec).collect()
    }

    /// Waits until its stderr holds `text`.
    pub fn wait_for_stderr(&self, text: &str) {
        wait_until(&format!("{text:?} on stderr"), SOON, || self.stderr().contains(text));
    }

    /// Waits for the line that says where it listens and returns `HOST:PORT`. Understands the line of uvicorn,
    /// the server under the Python program of the same name, too.
    #[must_use]
    pub fn address(&self) -> String {
        wait_until("a line that says where it listens", SOON, || listening(&self.stderr()).is_some());
        listening(&self.stderr()).expect("was there a moment ago")
    }

    /// Sends it alone a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        kill(name, &self.id().to_string());
    }

    /// Waits for its end and reaps it.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "did not end within {within:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end and for that of its output, which a process that it left behind may keep open.
    pub fn finish(&mut self, within: Duration) -> ExitStatus {
        let status = self.wait(within);
        wait_until("the end of its output", SOON, || self.stdout.ended() && self.stderr.ended());
        status
    }

    /// Its output, for the message of a failed test.
    #[must_use]
    pub fn report(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let started = descendants(self.id());
        kill("KILL", &format!("-{}", self.id()));
        for pid in started {
            kill("KILL", &format!("-{pid}"));
            kill("KILL", &pid.to_string());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- process {}\n{}", self.id(), self.report());
        }
    }
}

/// All processes that `pid` started and those that they started, as `/proc` shows them now.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let pairs = parents();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(pairs.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
        next += 1;
    }
    found.split_off(1)
}

/// Whether the process exists and is no zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// Sends a signal to a process, or to a process group if `target` begins with `-`. One that is gone is no error.
pub fn kill(signal: &str, target: &str) {
    let script = "kill -s \"$0\" -- \"$1\" 2>/dev/null";
    Command::new("sh").args(["-c", script, signal, target]).status().unwrap();
}

/// A temporary folder, removed with everything in it when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mcp-proxy-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and returns its path.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The gathered output of one stream.
struct Output(Arc<Mutex<Vec<u8>>>, JoinHandle<()>);

impl Output {
    /// Reads until the end of the stream on a thread of its own, which ends with the last process that holds it.
    fn gather(mut stream: impl Read + Send + 'static) -> Self {
        let gathered = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&gathered);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self(gathered, reader)
    }

    fn ended(&self) -> bool {
        self.1.is_finished()
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// `HOST:PORT` from the first whole line that tells an address we listen on.
#[must_use]
pub fn listening(stderr: &str) -> Option<String> {
    let whole = &stderr[..=stderr.rfind('\n')?];
    whole.lines().find_map(|line| {
        let (_, rest) = line.split_once("listening on http://").or_else(|| line.split_once("running on http://"))?;
        rest.split(['/', ' ']).next().map(str::to_owned)
    })
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| stat(pid).map(|(_, parent)| (pid, parent))).collect()
}

/// State and parent of a process. The name before them may hold anything, so they are found from its last `)`.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
