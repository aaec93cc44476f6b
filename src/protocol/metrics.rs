//! What is counted, and its text for Prometheus (exposition format 0.0.4).
//!
//! Always: a count only grows; counting costs a few atomic additions and never waits; no label has a value that a
//! client chose, so the number of lines is bounded.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: [Count; METHODS.len() + 1],
    answers: [Count; ANSWERS.len()],
    /// Answers by how long they took; the last is for those that took longer than all limits.
    latency: [Count; BUCKETS.len() + 1],
    latency_us: Count,
    received_bytes: Count,
    sent_bytes: Count,
}

/// What is counted of the requests that were not granted, whomever they were meant for.
#[derive(Debug, Default)]
pub struct Refusals([Count; STATUSES.len() + 1]);

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The server gave a result.
    Result,
    /// The server gave an error.
    Error,
    /// We gave an error in the server's place.
    OwnError,
}

/// How one server is at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Gauges<'a> {
    /// Its name.
    pub server: &'a str,
    /// Its open sessions.
    pub sessions: usize,
    /// Their open streams.
    pub streams: usize,
    /// Whether it runs, or would as soon as it is needed.
    pub running: bool,
    /// How often it was started again.
    pub restarts: u64,
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

/// The methods that are counted by their names (MCP 2025-11-25, `schema.ts`, `ClientRequest`).
const METHODS: [&str; 17] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tools/call",
    "tools/list",
];
const ANSWERS: [(Answer, &str); 3] =
    [(Answer::Result, "result"), (Answer::Error, "error"), (Answer::OwnError, "own_error")];
/// The statuses that we refuse with.
const STATUSES: [u16; 19] =
    [400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 415, 417, 429, 431, 500, 501, 503, 505];
/// Limits of the latencies: in microseconds, and in seconds as they are shown.
const BUCKETS: [(u64, &str); 15] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];
const OTHER: &str = "other";

impl Count {
    fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// A client has sent a request.
    pub fn asked(&self, method: &str) {
        // From behind: the tools are asked for most.
        let place = METHODS.iter().rposition(|known| *known == method).unwrap_or(METHODS.len());
        self.requests[place].add(1);
    }

    /// A request was answered, so long after it came.
    pub fn answered(&self, answer: Answer, latency: Duration) {
        if let Some(place) = ANSWERS.iter().position(|(kind, _)| *kind == answer) {
            self.answers[place].add(1);
        }
        let took_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS.iter().position(|(limit_us, _)| took_us <= *limit_us).unwrap_or(BUCKETS.len());
        self.latency[place].add(1);
        self.latency_us.add(took_us);
    }

    /// A message came from a client.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64);
    }

    /// A message went to a client.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.add(bytes as u64);
    }
}

impl Refusals {
    /// A request was refused with this status.
    pub fn refused(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        self.0[place].add(1);
    }
}

/// The text for Prometheus.
#[must_use]
pub fn render(rows: &[(Gauges<'_>, &Metrics)], refusals: &Refusals) -> String {
    let mut text = Text::default();
    counts(&mut text, rows);
    latencies(&mut text, rows);
    gauges(&mut text, rows);
    text.family("refused_total", "counter", "Requests that were not granted, by the HTTP status of the answer.");
    let shown = STATUSES.iter().map(u16::to_string).chain([OTHER.to_owned()]);
    for (status, count) in shown.zip(&refusals.0) {
        text.sample("", &[("status", &status)], count.get());
    }
    text.text
}

fn counts(text: &mut Text, rows: &[(Gauges<'_>, &Metrics)]) {
    text.family("requests_total", "counter", "Requests of clients, by method.");
    for (Gauges { server, .. }, metrics) in rows {
        for (method, count) in METHODS.iter().chain([&OTHER]).zip(&metrics.requests) {
            text.sample("", &[("server", server), ("method", method)], count.get());
        }
    }
    text.family("answers_total", "counter", "Answers to clients: the server's results and errors, and our own errors.");
    for (Gauges { server, .. }, metrics) in rows {
        for ((_, kind), count) in ANSWERS.iter().zip(&metrics.answers) {
            text.sample("", &[("server", server), ("kind", kind)], count.get());
        }
    }
    text.family("received_bytes_total", "counter", "Bytes of messages from clients.");
    for (Gauges { server, .. }, metrics) in rows {
        text.sample("", &[("server", server)], metrics.received_bytes.get());
    }
    text.family("sent_bytes_total", "counter", "Bytes of messages to clients.");
    for (Gauges { server, .. }, metrics) in rows {
        text.sample("", &[("server", server)], metrics.sent_bytes.get());
    }
}

fn latencies(text: &mut Text, rows: &[(Gauges<'_>, &Metrics)]) {
    text.family("request_duration_seconds", "histogram", "Time from a request to its answer.");
    for (Gauges { server, .. }, metrics) in rows {
        let limits = BUCKETS.iter().map(|(_, shown)| *shown).chain(["+Inf"]);
        let mut total = 0; // a bucket counts those before it, too
        for (limit, count) in limits.zip(&metrics.latency) {
            total += count.get();
            text.sample("_bucket", &[("server", server), ("le", limit)], total);
        }
        let sum_us = metrics.latency_us.get();
        text.sample("_sum", &[("server", server)], format!("{}.{:06}", sum_us / 1_000_000, sum_us % 1_000_000));
        text.sample("_count", &[("server", server)], total);
    }
}

fn gauges(text: &mut Text, rows: &[(Gauges<'_>, &Metrics)]) {
    type Read = fn(&Gauges<'_>) -> u64;
    let families: [(&'static str, &str, &str, Read); 4] = [
        ("sessions", "gauge", "Open sessions.", |gauges| gauges.sessions as u64),
        ("streams", "gauge", "Open event streams.", |gauges| gauges.streams as u64),
        ("server_up", "gauge", "1 while the server runs, or can be started; 0 when it failed.", |gauges| {
            u64::from(gauges.running)
        }),
        ("restarts_total", "counter", "How often the server was started again.", |gauges| gauges.restarts),
    ];
    for (name, kind, help, read) in families {
        text.family(name, kind, help);
        for (gauges, _) in rows {
            text.sample("", &[("server", gauges.server)], read(gauges));
        }
    }
}

/// The text, and the family of metrics that is being written.
#[derive(Default)]
struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP mcp_proxy_{name} {help}\n# TYPE mcp_proxy_{name} {kind}");
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "mcp_proxy_{}{suffix}{{", self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(self.text, "{comma}{name}=\"{}\"", escaped(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(server: &str) -> Gauges<'_> {
        Gauges { server, sessions: 2, streams: 3, running: true, restarts: 4 }
    }

    /// The lines that are no comments and do not say 0.
    fn told(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).collect()
    }

    #[test]
    fn the_whole_text() {
        let (metrics, refusals) = (Metrics::default(), Refusals::default());
        metrics.asked("tools/call");
        metrics.asked("tools/call");
        metrics.asked("x\"} 1\n");
        metrics.asked("Tools/call");
        metrics.answered(Answer::Result, Duration::from_millis(1));
        metrics.answered(Answer::Error, Duration::from_micros(1_001));
        metrics.answered(Answer::OwnError, Duration::from_millis(2_400));
        metrics.answered(Answer::OwnError, Duration::from_secs(61));
        metrics.received(10);
        metrics.received(5);
        metrics.sent(7);
        refusals.refused(404);
        refusals.refused(418);
        let text = render(&[(gauges("a"), &metrics)], &refusals);
        let bucket = |limit: &str, total: u64| {
            format!("mcp_proxy_request_duration_seconds_bucket{{server=\"a\",le=\"{limit}\"}} {total}")
        };
        let wanted = [
            "mcp_proxy_requests_total{server=\"a\",method=\"tools/call\"} 2",
            "mcp_proxy_requests_total{server=\"a\",method=\"other\"} 2",
            "mcp_proxy_answers_total{server=\"a\",kind=\"result\"} 1",
            "mcp_proxy_answers_total{server=\"a\",kind=\"error\"} 1",
            "mcp_proxy_answers_total{server=\"a\",kind=\"own_error\"} 2",
            "mcp_proxy_received_bytes_total{server=\"a\"} 15",
            "mcp_proxy_sent_bytes_total{server=\"a\"} 7",
            &bucket("0.001", 1),
            &bucket("0.0025", 2),
            &bucket("0.005", 2),
            &bucket("0.01", 2),
            &bucket("0.025", 2),
            &bucket("0.05", 2),
            &bucket("0.1", 2),
            &bucket("0.25", 2),
            &bucket("0.5", 2),
            &bucket("1", 2),
            &bucket("2.5", 3),
            &bucket("5", 3),
            &bucket("10", 3),
            &bucket("30", 3),
            &bucket("60", 3),
            &bucket("+Inf", 4),
            "mcp_proxy_request_duration_seconds_sum{server=\"a\"} 63.402001",
            "mcp_proxy_request_duration_seconds_count{server=\"a\"} 4",
            "mcp_proxy_sessions{server=\"a\"} 2",
            "mcp_proxy_streams{server=\"a\"} 3",
            "mcp_proxy_server_up{server=\"a\"} 1",
            "mcp_proxy_restarts_total{server=\"a\"} 4",
            "mcp_proxy_refused_total{status=\"404\"} 1",
            "mcp_proxy_refused_total{status=\"other\"} 1",
        ];
        assert_eq!(told(&text), wanted);
    }

    #[test]
    fn each_family_stands_together_behind_its_head() {
        let metrics = Metrics::default();
        let text = render(&[(gauges("a"), &metrics), (gauges("b"), &metrics)], &Refusals::default());
        assert!(text.ends_with('\n'));
        let (mut family, mut known) = ("", Vec::new());
        for line in text.lines() {
            let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            let name = name.split([' ', '{']).next().unwrap();
            if line.starts_with("# HELP ") {
                assert!(!known.contains(&name), "{name} comes twice");
                known.push(name);
                family = name;
            }
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} stands behind {family}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
            assert!(line.starts_with('#') || line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
        assert_eq!(known.len(), 10);
        assert!(text.starts_with(
            "# HELP mcp_proxy_requests_total Requests of clients, by method.\n\
             # TYPE mcp_proxy_requests_total counter\n\
             mcp_proxy_requests_total{server=\"a\",method=\"completion/complete\"} 0\n"
        ));
        assert!(text.contains("# TYPE mcp_proxy_request_duration_seconds histogram\n"));
    }

    #[test]
    fn every_known_label_has_its_own_count() {
        let (metrics, refusals) = (Metrics::default(), Refusals::default());
        for (times, method) in METHODS.iter().enumerate() {
            (0..=times).for_each(|_| metrics.asked(method));
        }
        for (times, status) in STATUSES.iter().enumerate() {
            (0..=times).for_each(|_| refusals.refused(*status));
        }
        let text = render(&[(gauges("a"), &metrics)], &refusals);
        for (times, method) in METHODS.iter().enumerate() {
            assert!(text.contains(&format!("method=\"{method}\"}} {}\n", times + 1)), "{method}");
        }
        for (times, status) in STATUSES.iter().enumerate() {
            assert!(text.contains(&format!("status=\"{status}\"}} {}\n", times + 1)), "{status}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let metrics = Metrics::default();
        let text = render(&[(gauges("a\"b\\c\nd"), &metrics)], &Refusals::default());
        assert!(text.contains(r#"mcp_proxy_sessions{server="a\"b\\c\nd"} 2"#), "{text}");
    }

    #[test]
    fn many_threads_lose_no_count() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        metrics.asked("ping");
                        metrics.answered(Answer::Result, Duration::from_micros(1));
                    }
                });
            }
        });
        let text = render(&[(gauges("a"), &metrics)], &Refusals::default());
        assert!(text.contains("method=\"ping\"} 4000\n") && text.contains("kind=\"result\"} 4000\n"));
        assert!(text.contains("_sum{server=\"a\"} 0.004000\n") && text.contains("_count{server=\"a\"} 4000\n"));
    }

    #[test]
    fn a_latency_without_end_does_no_harm() {
        let metrics = Metrics::default();
        metrics.answered(Answer::Result, Duration::MAX);
        assert!(render(&[(gauges("a"), &metrics)], &Refusals::default()).contains("le=\"+Inf\"} 1\n"));
    }
}
