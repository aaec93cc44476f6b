//! What the listener bounds: heads, bodies, connections, sessions, requests under way, times.

use super::house::{House, Raw, post};
use super::support::client::request;
use super::support::{SOON, wait_until};
use super::{Row, Scene};
use std::thread;
use std::time::{Duration, Instant};

const HEAD: &str = "431 close -32600 the request's head is too long";
const BODY: &str = "413 close -32600 the message is too long; --max-message-bytes allows longer ones";
const CROWDED: &str = "503 close retry-after: 5 -32603 too many long messages are being sent at the same time; --max-message-bytes allows more";
const CHUNK: &str = "400 close -32600 the request's body has a malformed chunk";
const HEAD_TIME: &str = "408 close -32600 the request's head took too long";
const BODY_TIME: &str = "408 close -32600 the request's body paused for too long";

/// What is beyond this is only announced.
const SENT: usize = 4 << 20;

struct Listener {
    house: House,
    go: fn(&mut House, usize, bool) -> String,
}

impl Scene for Listener {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        (self.go)(&mut self.house, amount, slowly)
    }

    fn good(&mut self) {
        self.house.beat();
    }

    fn pid(&self) -> Option<u32> {
        Some(self.house.pid())
    }
}

macro_rules! scene {
    ($options:expr, $go:expr) => {
        || Box::new(Listener { house: House::start(&$options), go: $go })
    };
}

pub fn rows() -> Vec<Row> {
    let row = |names, amounts, seen, growth_kb, scene| Row { names, amounts, seen, growth_kb, scene };
    vec![
        row(
            &["--max-header-bytes", "downstream/http.rs HEAD_PIECE_BYTES"],
            [8192, 8193, SENT],
            ["200", HEAD, HEAD],
            2048,
            scene!(["--max-header-bytes", "8192"], head_bytes),
        ),
        row(
            &["--max-message-bytes", "downstream/http.rs LINGER_BYTES", "downstream/http.rs PIECE_BYTES"],
            [5000, 5001, usize::MAX],
            ["202", BODY, BODY],
            2048,
            scene!(["--max-message-bytes", "5000"], body_bytes),
        ),
        row(&[], [5000, 5001, SENT], ["202", BODY, BODY], 4096, scene!(["--max-message-bytes", "5000"], chunk_bytes)),
        row(
            &["downstream/budget.rs BODIES", "downstream/budget.rs FREE_BYTES"],
            [4, 5, 40],
            ["all are taken", CROWDED, CROWDED],
            8192,
            scene!(["--max-message-bytes", "300000"], bodies),
        ),
        row(
            &["protocol/chunks.rs LINE_BYTES"],
            [64, 65, SENT],
            ["202", CHUNK, CHUNK],
            2048,
            scene!([] as [&str; 0], chunk_line),
        ),
        row(
            &["protocol/http/resource.rs HOST_BYTES"],
            [255, 256, 30_000],
            ["it is believed", "400", "400"],
            1024,
            scene!(["--auth-server", "https://login.example", "--trusted-proxy", "127.0.0.1"], forwarded_host),
        ),
        row(
            &["--max-connections", "downstream/listener.rs REFUSED_AT_ONCE", "downstream/place.rs SHARE"],
            [10, 11, 60],
            ["200", "503 or closed", "503 or closed"],
            4096,
            scene!(["--max-connections", "12"], streams),
        ),
        row(
            &["--max-sessions"],
            [3, 4, 60],
            ["200", "503 or closed", "503 or closed"],
            4096,
            scene!(["--max-sessions", "5"], streams),
        ),
        row(
            &["--max-open-requests"],
            [4, 5, 300],
            ["answered", "too many requests are unanswered (4)", "too many requests are unanswered (4)"],
            4096,
            scene!(["--max-open-requests", "4"], open_requests),
        ),
        row(
            &["--head-timeout"],
            [100, 1200, 2000],
            ["200", HEAD_TIME, HEAD_TIME],
            1024,
            scene!(["--head-timeout", "0.6"], |house, ms, slowly| pause(house, STATUS, ms, slowly)),
        ),
        row(
            &["--body-timeout"],
            [100, 1200, 2000],
            // A body may take its time, as long as it comes.
            ["202", BODY_TIME, "202"],
            1024,
            scene!(["--body-timeout", "0.6"], |house, ms, slowly| {
                let request = format!("{}{NOTIFICATION}", post("Content-Length: 30\r\n"));
                pause(house, &request, ms, slowly)
            }),
        ),
        row(
            &["--idle-timeout"],
            [100, 1200, 2000],
            ["200", "closed", "closed"],
            1024,
            scene!(["--idle-timeout", "0.6"], idle),
        ),
    ]
}

const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"x"}"#;
const STATUS: &str = "GET /status HTTP/1.1\r\nHost: @\r\n\r\n";

/// Sends bytes at once, or in twenty pieces; the peer may have refused us already.
fn send(raw: &mut Raw, bytes: &[u8], slowly: bool) {
    if !slowly {
        return raw.send_bytes(bytes);
    }
    for piece in bytes.chunks(bytes.len().div_ceil(20)) {
        raw.send_bytes(piece);
        thread::sleep(Duration::from_millis(5)); // that it comes slowly is what is tried
    }
}

/// The status, and for a refusal everything.
fn answer(raw: &mut Raw) -> String {
    let answer = raw.answer(false);
    if answer.starts_with('2') { answer[..3].to_owned() } else { answer }
}

fn head_bytes(house: &mut House, bytes: usize, slowly: bool) -> String {
    let mut raw = house.connect();
    let start = house.bytes("GET /status HTTP/1.1\r\nHost: @\r\nA: ");
    let fill = "x".repeat(bytes - start.len() - 4);
    send(&mut raw, &[&start, fill.as_bytes(), b"\r\n\r\n"].concat(), slowly);
    answer(&mut raw)
}

/// A message of so many bytes.
fn message(bytes: usize) -> String {
    let empty = NOTIFICATION.len() - 1;
    NOTIFICATION.replace("\"x\"", &format!("\"{}\"", "x".repeat(bytes.min(SENT) - empty)))
}

fn body_bytes(house: &mut House, bytes: usize, slowly: bool) -> String {
    let mut raw = house.connect();
    raw.send(&post(&format!("Content-Length: {bytes}\r\n")));
    send(&mut raw, message(bytes).as_bytes(), slowly);
    answer(&mut raw)
}

fn chunk_bytes(house: &mut House, bytes: usize, slowly: bool) -> String {
    let mut raw = house.connect();
    raw.send(&post("Transfer-Encoding: chunked\r\n"));
    let message = message(bytes);
    let chunks = message
        .as_bytes()
        .chunks(997)
        .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    send(&mut raw, &[chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat(), slowly);
    answer(&mut raw)
}

/// So many bodies of the greatest length that all lack their last byte, every second one in a chunk: four are taken
/// in the end, and how the others are refused. Small messages pass meanwhile, and a body behind a client that is gone.
fn bodies(house: &mut House, count: usize, slowly: bool) -> String {
    let mut open: Vec<_> = (0..count).map(|number| Body::begin(house, number % 2 == 1, slowly)).collect();
    let mut seen = "all are taken".to_owned();
    for _ in 4..count {
        seen = answer(&mut take_answered(&mut open).raw);
        assert!(seen.starts_with(CROWDED), "{seen}");
    }
    house.beat();
    assert_eq!(body_bytes(house, SMALL, slowly), "202", "small messages pass");
    if count > 4 {
        // Those that are left may not have been read so far.
        wait_until("a time when all is taken", SOON, || body_bytes(house, SMALL + 1, slowly).starts_with(CROWDED));
    }
    for body in &mut open {
        assert_eq!(body.end(), "202", "who was within the limit is not harmed");
    }
    drop((0..4).map(|_| Body::begin(house, false, false)).collect::<Vec<_>>());
    wait_until("what their bodies took", SOON, || body_bytes(house, WHOLE, false) == "202");
    seen
}

/// The greatest body, and the greatest one that is not counted.
const WHOLE: usize = 300_000;
const SMALL: usize = 64 << 10;

/// A body that lacks its end.
struct Body {
    raw: Raw,
    end: Vec<u8>,
}

impl Body {
    fn begin(house: &House, in_a_chunk: bool, slowly: bool) -> Self {
        let mut raw = house.connect();
        let (header, line, rest) = if in_a_chunk {
            ("Transfer-Encoding: chunked\r\n".into(), format!("{WHOLE:x}\r\n"), "\r\n0\r\n\r\n")
        } else {
            (format!("Content-Length: {WHOLE}\r\n"), String::new(), "")
        };
        raw.send(&post(&header));
        let body = message(WHOLE);
        let (most, last) = body.split_at(WHOLE - 1);
        send(&mut raw, format!("{line}{most}").as_bytes(), slowly);
        Self { raw, end: [last, rest].concat().into_bytes() }
    }

    fn is_answered(&self) -> bool {
        self.raw.socket.set_nonblocking(true).unwrap();
        let is_answered = self.raw.socket.peek(&mut [0]).is_ok();
        self.raw.socket.set_nonblocking(false).unwrap();
        is_answered
    }

    fn end(&mut self) -> String {
        self.raw.send_bytes(&self.end);
        answer(&mut self.raw)
    }
}

/// Takes one out that is answered before its end.
fn take_answered(open: &mut Vec<Body>) -> Body {
    let mut found = None;
    wait_until("an answer", SOON, || {
        found = open.iter().position(Body::is_answered);
        found.is_some()
    });
    open.swap_remove(found.unwrap())
}

/// A chunk whose line is so long, its end not counted.
fn chunk_line(house: &mut House, bytes: usize, slowly: bool) -> String {
    let mut raw = house.connect();
    raw.send(&post("Transfer-Encoding: chunked\r\n"));
    let line = format!("1e;{}", "x".repeat(bytes - 3));
    // The line comes before its end, so that it must be waited for.
    send(&mut raw, line.as_bytes(), slowly);
    thread::sleep(Duration::from_millis(50));
    raw.send(&format!("\r\n{NOTIFICATION}\r\n0\r\n\r\n"));
    answer(&mut raw)
}

/// A proxy before us names a host of so many bytes: what the document says of who we are.
fn forwarded_host(house: &mut House, bytes: usize, slowly: bool) -> String {
    let mut raw = house.connect();
    let host = "h".repeat(bytes);
    let path = "/.well-known/oauth-protected-resource/mcp";
    let head = house.bytes(&format!("GET {path} HTTP/1.1\r\nHost: @\r\nX-Forwarded-Host: {host}\r\n\r\n"));
    send(&mut raw, &head, slowly);
    let status = raw.hears("\r\n\r\n")[9..12].to_owned();
    let names_it = status == "200" && raw.hears("}").contains(&format!("\"resource\":\"http://{host}/mcp\""));
    if names_it { "it is believed".into() } else { status }
}

/// So many streams at once, each with a session: how the last one is taken.
fn streams(house: &mut House, count: usize, slowly: bool) -> String {
    let mut kept = Vec::new();
    let mut last = String::new();
    for number in 1..=count {
        let open = || {
            let mut raw = house.connect();
            raw.send("GET /sse HTTP/1.1\r\nHost: @\r\n\r\n");
            (raw.hears_if("\r\n\r\n").unwrap_or_default(), raw)
        };
        let (mut head, mut raw) = open();
        // Those of the last attempt may count still.
        let is_full = |head: &str| !head.starts_with("HTTP/1.1 200 ");
        if is_full(&head) && kept.len() + 1 == number && number <= 3 {
            wait_until("the end of the last attempt's streams", SOON, || {
                (head, raw) = open();
                !is_full(&head)
            });
        }
        last = if is_full(&head) { "503 or closed".into() } else { "200".into() };
        if last == "200" {
            kept.push(raw);
        } else {
            assert!(head.is_empty() || head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"), "{head}");
        }
        if slowly {
            thread::sleep(Duration::from_millis(5)); // that they come slowly is what is tried
        }
    }
    drop(kept);
    let free = || {
        let mut raw = house.connect();
        raw.send(STATUS);
        let status = raw.hears_if("\r\n\r\n").is_some_and(|head| head.starts_with("HTTP/1.1 200 "));
        status && raw.hears_if("}").is_some_and(|text| text.contains("\"active_sse_connections\":2"))
    };
    wait_until("the end of all these streams", SOON, free);
    last
}

/// So many requests that wait for their answer; how the last one is answered.
fn open_requests(house: &mut House, count: usize, slowly: bool) -> String {
    let call = |id: usize, tool: &str| request(u32::try_from(id).unwrap(), "tools/call", tool);
    let send = |house: &House, message: &str| {
        let mut raw = house.connect();
        raw.send(&format!("{}{message}", post(&format!("Content-Length: {}\r\n", message.len()))));
        assert_eq!(answer(&mut raw), "202");
    };
    for id in 1..count {
        send(house, &call(id, r#"{"name":"count","arguments":{"to":1000,"delay_ms":1000}}"#));
        if slowly {
            thread::sleep(Duration::from_millis(5));
        }
    }
    send(house, &call(9000, r#"{"name":"echo","arguments":{"text":"last one"}}"#));
    house.other.hears("\"id\":9000,");
    let last = house.other.hears("}}");
    for id in 1..count.min(5) {
        let cancelled =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
        send(house, &cancelled);
    }
    // A call that is cancelled is over once the server has seen that.
    send(house, &call(9001, r#"{"name":"echo","arguments":{"text":"all is over"}}"#));
    house.other.hears("all is over");
    let error =
        last.split_once("\"message\":\"").map(|(_, rest)| rest.split('"').next().unwrap_or_default().to_owned());
    error.unwrap_or_else(|| "answered".into())
}

/// What the limits of time are here.
const LIMIT_MS: usize = 600;

/// Waits for so long, and until `raw` hears something if that is over the limit: whatever comes then comes too late.
fn wait(raw: &Raw, ms: usize) {
    thread::sleep(Duration::from_millis(ms as u64));
    if ms > LIMIT_MS {
        let _ = raw.socket.peek(&mut [0]);
    }
}

/// A request with a pause of so many milliseconds before its end; slowly, it comes byte by byte in that time.
fn pause(house: &mut House, request: &str, ms: usize, slowly: bool) -> String {
    undisturbed(if slowly { ms / 10 } else { ms }, || {
        let mut raw = house.connect();
        let mut watch = Watch::start();
        let bytes = house.bytes(request);
        let (first, rest) = bytes.split_at(bytes.len() - 10);
        raw.send_bytes(first);
        if slowly {
            for byte in rest {
                wait(&raw, ms / 10);
                raw.send_bytes(&[*byte]);
                watch.look();
            }
        } else {
            wait(&raw, ms);
            raw.send_bytes(rest);
            watch.look();
        }
        (answer(&mut raw), watch)
    })
}

/// A connection that is idle for so long behind its first request.
fn idle(house: &mut House, ms: usize, _slowly: bool) -> String {
    undisturbed(ms, || {
        let mut raw = house.connect();
        let mut watch = Watch::start();
        raw.send(STATUS);
        assert_eq!(answer(&mut raw), "200");
        wait(&raw, ms);
        raw.send(STATUS);
        watch.look();
        (raw.hears_if("\r\n\r\n").map_or_else(|| "closed".into(), |head| head[9..12].to_owned()), watch)
    })
}

/// The longest time between two looks.
struct Watch {
    last: Instant,
    longest: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    fn look(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

/// Does something with pauses of so many milliseconds, and again where they were longer than the limit for once, because
/// the machine was busy with others.
fn undisturbed(ms: usize, mut attempt: impl FnMut() -> (String, Watch)) -> String {
    let is_disturbed = |watch: &Watch| ms < LIMIT_MS && watch.longest > Duration::from_millis(LIMIT_MS as u64 * 2 / 3);
    let mut all = std::iter::repeat_with(&mut attempt).take(20);
    all.find(|(_, watch)| !is_disturbed(watch)).expect("a machine that is not away for so long each time").0
}
