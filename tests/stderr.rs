//! A stderr that nobody reads costs lines of the log and nobody's time: messages pass, and every way to stop works.
//! Many clients start us with a pipe there and never look into it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use support::client::initialize;
use support::{Process, SOON, proxy, wait_until};

/// More lines than a pipe of 64 KiB takes.
const FLOOD: usize = 3000;
/// From the reason to stop to the end, with what a slow and busy machine may add: whoever waits for a reader waits for ever.
const BOUND: Duration = Duration::from_secs(15);

/// A process whose stderr is a pipe that is read by the test alone.
struct Unread(Child);

impl Unread {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Stops it and checks how.
    fn stops(mut self, way: &str, stdin: ChildStdin) {
        let start = Instant::now();
        let mut stdin = Some(stdin);
        match way {
            "end of input" => drop(stdin.take()),
            signal => support::kill(signal, &self.0.id().to_string()),
        }
        wait_until(way, SOON, || self.0.try_wait().unwrap().is_some());
        assert!(start.elapsed() < BOUND, "{way}: took {:?}", start.elapsed());
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{way}");
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends what is no message; each gets an error on stdout and a line on stderr.
fn flood(stdin: &mut ChildStdin, answers: &mut impl BufRead) {
    for _ in 0..FLOOD {
        stdin.write_all(b"nonsense\n").unwrap();
        assert!(answers.read_line(&mut String::new()).unwrap() > 0);
    }
}

#[test]
fn connect_goes_on_and_stops() {
    for (level, way) in [("INFO", "end of input"), ("INFO", "TERM"), ("DEBUG", "end of input"), ("DEBUG", "INT")] {
        let mut process = Unread::start(proxy().args(["--log-level", level, "http://127.0.0.1:1/sse"]));
        let mut stdin = process.0.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
        flood(&mut stdin, &mut stdout);
        process.stops(way, stdin);
    }
}

#[test]
fn a_reader_that_comes_back_is_told_how_much_it_missed() {
    let mut process = Unread::start(proxy().arg("http://127.0.0.1:1/sse"));
    let mut stdin = process.0.stdin.take().unwrap();
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
    flood(&mut stdin, &mut stdout);
    let mut stderr = process.0.stderr.take().unwrap();
    assert!(stderr.read(&mut vec![0; 32 * 1024]).unwrap() > 16 * 1024);
    stdin.write_all(b"nonsense\n").unwrap();
    drop(stdin);
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert!(text.contains(" lines are left out, since nobody read them\nmcp-proxy: "), "{text}");
}

#[test]
fn serve_goes_on_and_stops() {
    let script = "read -r line; head -c 300000 /dev/zero | tr '\\0' x | fold -w 100 >&2; \
                  echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'; cat >/dev/null";
    let mut process = Unread::start(proxy().args(["--port", "0", "--", "sh", "-c", script]));
    let stdin = process.0.stdin.take().unwrap();
    let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.split_whitespace().last().unwrap();
    let mut client = Process::start(proxy().arg(address));
    client.write(format!("{}\n", initialize(1)).as_bytes());
    assert!(String::from_utf8_lossy(&client.lines(1)[0]).contains("\"result\""));
    process.stops("TERM", stdin);
}

/// Every line of the log as JSON; one that is none fails the test.
fn objects(text: &str) -> Vec<serde_json::Value> {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
    text.lines().map(read).collect()
}

#[test]
fn json_is_json_whatever_a_server_says() {
    let script =
        r#"printf 'a "word"\033[1m \377 \\ \000\n' >&2; head -c 10000 /dev/zero | tr '\0' x >&2; cat >/dev/null"#;
    let mut proxy = Unread::start(proxy().args(["--port", "0", "--log-format", "json", "--", "sh", "-c", script]));
    let stdin = proxy.0.stdin.take().unwrap();
    let mut stderr = BufReader::new(proxy.0.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains(r#""source":"server""#) {
        assert!(stderr.read_line(&mut text).unwrap() > 0, "{text}");
    }
    proxy.stops("TERM", stdin);
    stderr.read_to_string(&mut text).unwrap();
    let objects = objects(&text);
    let said = |source: &str| -> String {
        let own = objects.iter().filter(|object| object["source"].as_str().unwrap_or_default() == source);
        own.filter_map(|object| object["message"].as_str()).collect()
    };
    assert!(said("").contains("listening on http://127.0.0.1:") && said("").contains("stopping"), "{text}");
    assert_eq!(said("server"), format!("a \"word\"\u{1b}[1m \u{fffd} \\ \0{}", "x".repeat(10_000)));
    for object in &objects {
        let time = object["time"].as_str().unwrap();
        assert!(time.len() == "2026-07-28T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(object["level"], "info", "{object}");
    }
}

#[test]
fn json_stays_json_when_nobody_reads() {
    let mut process = Unread::start(proxy().args(["--log-format", "json", "http://127.0.0.1:1/sse"]));
    let mut stdin = process.0.stdin.take().unwrap();
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
    flood(&mut stdin, &mut stdout);
    let mut stderr = process.0.stderr.take().unwrap();
    let mut text = vec![0; 32 * 1024];
    stderr.read_exact(&mut text).unwrap();
    stdin.write_all(b"nonsense\n").unwrap();
    drop(stdin);
    stderr.read_to_end(&mut text).unwrap();
    let objects = objects(std::str::from_utf8(&text).unwrap());
    let told = |object: &serde_json::Value| object["message"].as_str().unwrap().contains("since nobody read them");
    assert_eq!(objects.iter().filter(|object| told(object)).count(), 1);
    assert!(objects.len() > 2 && objects.iter().all(|object| object["level"] != "info"));
}

#[test]
fn the_last_line_is_json_too() {
    let mut command = proxy();
    command.args(["--log-format", "json", "--port", "0", "--", "/no/such/server"]);
    let output = command.output().unwrap();
    let objects = objects(std::str::from_utf8(&output.stderr).unwrap());
    assert_eq!(objects.last().unwrap()["level"], "critical");
}
