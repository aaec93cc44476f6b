//! The clients that must not notice anything: one with a session, whose calls are timed, and new ones.

use crate::support::client::request;
use crate::support::http::Http;
use std::thread;
use std::time::{Duration, Instant};

/// Calls of one phase.
pub const CALLS: usize = 1200;
/// A phase's calls are looked at in parts of this size: what the machine did meanwhile hits some of them only.
const WINDOW: usize = 150;
/// The pause between two calls.
const PACE: Duration = Duration::from_millis(3);

/// How long the calls of one phase took, in microseconds.
pub struct Times {
    p50: u128,
    /// The median of the windows' p99.
    pub p99: u128,
    most: u128,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} µs, p99 {} µs, longest {} µs", self.p50, self.p99, self.most)
    }
}

/// Calls the server again and again, each call answered as it must be.
pub fn call(http: &mut Http) -> Times {
    let took = (0..CALLS).map(|number| {
        let text = format!("call {number}");
        let message = request(7, "tools/call", &format!(r#"{{"name":"echo","arguments":{{"text":"{text}"}}}}"#));
        let begun = Instant::now();
        let answer = http.post(&message);
        let took = begun.elapsed().as_micros();
        assert!(answer.head.status == 200 && answer.body.contains(&text), "{answer:?}");
        thread::sleep(PACE); // clients think, too
        took
    });
    let took: Vec<_> = took.collect();
    let windows = took.chunks(WINDOW).map(|window| at(window, 99)).collect::<Vec<_>>();
    Times { p50: at(&took, 50), p99: at(&windows, 50), most: at(&took, 100) }
}

fn at(values: &[u128], percent: usize) -> u128 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1]
}

/// A client that comes for the first time, does its work and goes; says how long that took.
pub fn visit(address: &str) -> Duration {
    let begun = Instant::now();
    let mut http = Http::connect(address);
    http.begin("2025-06-18");
    let answer = http.post(&request(1, "tools/list", "{}"));
    assert!(answer.head.status == 200 && answer.body.contains("echo"), "{answer:?}");
    http.send("DELETE", &[], "");
    assert_eq!(http.answer().head.status, 204);
    begun.elapsed()
}
