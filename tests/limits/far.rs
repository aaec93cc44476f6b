//! What is bounded of servers, remote and local ones, and of the client that started us.

use super::support::client::request;
use super::support::http::Http;
use super::support::remote::{Connection, Remote, Request};
use super::support::served::Served;
use super::support::streamable::{Client, EVENTS, behave, json, message};
use super::support::{SOON, wait_until};
use super::{Row, Scene, note};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const LINE: &str = "over the limit";
const ANSWER: &str = "sent a message over the limit of 5000 bytes";
const EVENT: &str = "sent a message of";
const TOKEN: &str = "gave no token: its answer is longer than 262144 bytes";

pub fn rows() -> Vec<Row> {
    let row = |names, amounts, seen, growth_kb, scene| Row { names, amounts, seen, growth_kb, scene };
    vec![
        // A line of the client, to connect.
        row(&[], [5000, 5001, 16 << 20], ["answered", LINE, LINE], 4096, || Far::open("line")),
        // An answer as JSON, an answer as an event.
        row(&[], [5000, 5001, 16 << 20], ["answered", ANSWER, ANSWER], 4096, || Far::open("json")),
        row(&[], [5000, 5001, 16 << 20], ["answered", EVENT, EVENT], 4096, || Far::open("event")),
        row(
            &["upstream/agent.rs HEAD_BYTES"],
            [65_535, 66_000, 16 << 20],
            ["answered", "refused", "refused"],
            4096,
            || Far::open("head"),
        ),
        row(&["upstream/known.rs HEADERS"], [100, 101, 3000], ["answered", "refused", "refused"], 4096, || {
            Far::open("headers")
        }),
        row(
            &["upstream/exchange.rs REDIRECTS"],
            [5, 6, 100],
            ["answered", "redirects more than 5 times", "redirects more than 5 times"],
            4096,
            || Far::open("redirects"),
        ),
        row(
            &["upstream/oauth.rs ANSWER_BYTES"],
            [256 << 10, (256 << 10) + 1, 16 << 20],
            ["answered", TOKEN, TOKEN],
            4096,
            || Far::open("token"),
        ),
        // A line of a local server.
        row(
            &["upstream/child/stdout.rs READ_BYTES", "protocol/message/ends.rs KEPT_BYTES"],
            [5000, 5001, 16 << 20],
            ["answered 5000 bytes", "an error that says so", "an error that says so"],
            4096,
            || Near::open("stdout"),
        ),
        row(
            &["upstream/child/output.rs STDERR_LINE_BYTES"],
            [64 << 10, (64 << 10) + 1, 16 << 20],
            ["whole", "left out", "left out"],
            4096,
            || Near::open("stderr"),
        ),
    ]
}

/// What the remote server does next.
#[derive(Default)]
struct Plan {
    amount: AtomicUsize,
    slowly: AtomicBool,
    hops: AtomicUsize,
}

/// Connect, with a remote server that does what the plan says.
struct Far {
    how: &'static str,
    plan: Arc<Plan>,
    remote: Remote,
    client: Client,
    lines: usize,
}

impl Far {
    fn open(how: &'static str) -> Box<dyn Scene> {
        let plan = Arc::new(Plan::default());
        let shared = plan.clone();
        let remote = Remote::start(move |request, connection| match message(request)["method"].as_str() {
            Some("reach") if how != "token" => reach(how, &shared, request, connection),
            _ if request.line.ends_with("/token") => give_token(&shared, connection),
            _ => behave(request, connection),
        });
        let mut options = vec!["--max-message-bytes", "5000"];
        let url = remote.url("/token");
        if how == "token" {
            options.extend(["--client-id", "me", "--client-secret", "geheim", "--token-url", &url]);
        }
        let client = Client::begin(&remote, &options);
        Box::new(Self { how, plan, remote, client, lines: 1 })
    }

    /// The answer to what was sent last, which tells its request even where that was too long.
    fn answer(&mut self, id: u32) -> String {
        self.lines += 1;
        let answer = self.client.line(self.lines);
        assert_eq!(answer["id"], id, "{answer}");
        answer["error"]["message"].as_str().map_or_else(|| "answered".into(), str::to_owned)
    }
}

/// Gives a token, which is good for one request, in an answer of the plan's amount, or a small one.
fn give_token(plan: &Plan, connection: &mut Connection<'_>) {
    let empty = r#"{"access_token":"t","token_type":"Bearer","expires_in":0,"x":""}"#;
    let fill = "x".repeat(plan.amount.load(SeqCst).saturating_sub(empty.len()));
    write(connection, &json(&empty.replace("\"x\":\"", &format!("\"x\":\"{fill}"))), plan.slowly.load(SeqCst));
}

/// Writes all at once, or in pieces with pauses.
fn write(connection: &mut Connection<'_>, text: &str, slowly: bool) {
    let piece = if slowly { text.len().div_ceil(20) } else { text.len() };
    for piece in text.as_bytes().chunks(piece) {
        connection.write(piece);
        if slowly {
            thread::sleep(Duration::from_millis(5)); // that it comes slowly is what is tried
        }
    }
}

/// Answers a request so that the plan's amount is reached.
fn reach(how: &str, plan: &Plan, request: &Request, connection: &mut Connection<'_>) {
    let (amount, slowly) = (plan.amount.load(SeqCst), plan.slowly.load(SeqCst));
    let id = &message(request)["id"];
    let filled = |bytes: usize| {
        let empty = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":""}}"#);
        empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len())))
    };
    let small = filled(100);
    let text = match how {
        "json" => json(&filled(amount)),
        "event" => format!("{EVENTS}data: {}\n\n", filled(amount)),
        "head" | "headers" => {
            let whole = json(&small);
            let (head, body) = whole.split_once("\r\n\r\n").unwrap();
            let more = match how {
                "head" => format!("\r\nA: {}", "x".repeat(amount - head.len() - 9)),
                _ => "\r\nA: b".repeat(amount - 2),
            };
            format!("{head}{more}\r\n\r\n{body}")
        }
        "redirects" => {
            // Where they led in the end is remembered: they are counted, not numbered.
            if plan.hops.fetch_add(1, SeqCst) < amount {
                "HTTP/1.1 307 There\r\nLocation: /hop\r\nContent-Length: 0\r\n\r\n".to_owned()
            } else {
                json(&small)
            }
        }
        _ => unreachable!("{how}"),
    };
    write(connection, &text, slowly);
    if how == "event" {
        connection.close();
    }
}

impl Scene for Far {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        self.plan.amount.store(amount, SeqCst);
        self.plan.slowly.store(slowly, SeqCst);
        self.plan.hops.store(0, SeqCst);
        if self.how == "line" {
            let empty = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":""}"#.len();
            let line = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":\"{}\"}}\n",
                "x".repeat(amount - empty)
            );
            let piece = if slowly { line.len().div_ceil(20) } else { line.len() };
            for piece in line.as_bytes().chunks(piece) {
                self.client.0.write(piece);
                if slowly {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        } else {
            self.client.ask(1, "reach");
        }
        let answer = self.answer(1);
        self.plan.amount.store(0, SeqCst);
        let known = [ANSWER, EVENT, LINE, TOKEN, "redirects more than 5 times"];
        let found = known.into_iter().find(|known| answer.contains(known)).map(str::to_owned);
        let is_refused = matches!(self.how, "head" | "headers") && answer != "answered";
        found.unwrap_or_else(|| if is_refused { format!("refused: {answer}") } else { answer })
    }

    fn good(&mut self) {
        self.client.ask(2, "ping");
        let answer = self.answer(2);
        assert_eq!(answer, "answered", "{}\n{}", self.remote.posts().len(), self.client.0.report());
    }

    fn pid(&self) -> Option<u32> {
        Some(self.client.0.id())
    }
}

/// What the local server does: at each request it answers, and says as many bytes more as the file `amount` tells, to
/// stdout as an answer or to stderr.
const SERVER: &str = r#"
    x() { head -c "$1" /dev/zero | tr '\0' x; }
    while IFS= read -r line; do
        id=${line##*'"id":'}; id=${id%%[,\}]*}
        case $line in
        *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
        *'"stdout"'*)
            { printf '{"jsonrpc":"2.0","id":%s,"result":"' "$id"; x "$(($(cat "$HERE/amount") - 35 - ${#id}))"; printf '"}\n'; } | pieces ;;
        *'"stderr"'*) { x "$(cat "$HERE/amount")"; echo; } | pieces >&2
            printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
        *'"id":'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
        esac
    done
"#;

/// In one write, or in pieces with pauses.
const PIECES: &str =
    r#"pieces() { if [ -e "$HERE/slowly" ]; then for i in 1 2 3 4 5; do head -c 1000; sleep 0.02; done; fi; cat; }"#;

/// Serve, with a local server that says so much.
struct Near {
    how: &'static str,
    served: Served,
    http: Http,
}

impl Near {
    fn open(how: &'static str) -> Box<dyn Scene> {
        let served = Served::script(&["--debug", "--max-message-bytes", "5000"], &format!("{PIECES}\n{SERVER}"));
        let mut http = Http::connect(&served.address());
        http.begin("2025-06-18");
        Box::new(Self { how, served, http })
    }

    fn ask(&mut self, id: u32, method: &str) -> String {
        let answer = self.http.post(&request(id, method, "{}"));
        assert_eq!(answer.head.status, 200, "{answer:?}");
        answer.messages().pop().unwrap()
    }
}

impl Scene for Near {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        note(&self.served, amount, slowly);
        let logged = self.served.process.stderr().len();
        let answer = self.ask(1, self.how);
        if self.how == "stdout" {
            let over = format!("the server's answer has {amount} bytes, more than 5000");
            return if answer.contains(&over) {
                "an error that says so".into()
            } else {
                format!("answered {} bytes", answer.len())
            };
        }
        let whole = "x".repeat(amount.min(1 << 17));
        let left_out = format!("the server logged a line of {amount} bytes: left out");
        let mut seen = "";
        wait_until("what the log says", SOON, || {
            let log = self.served.process.stderr().split_off(logged);
            seen = if log.contains(&left_out) {
                "left out"
            } else if log.contains(&whole) {
                "whole"
            } else {
                ""
            };
            !seen.is_empty()
        });
        seen.into()
    }

    fn good(&mut self) {
        let answer = self.ask(2, "good");
        assert!(answer.contains("\"id\":2") && answer.contains("result"), "{answer}");
    }

    fn pid(&self) -> Option<u32> {
        Some(self.served.process.id())
    }
}
