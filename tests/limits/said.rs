//! What is bounded of that which servers say inside their messages, and of what waits for one that takes nothing.

use super::support::client::{Client, INITIALIZED, initialize, request};
use super::support::http::Http;
use super::support::modern::{self, answer, error, method};
use super::support::remote::{self, Remote};
use super::support::served::Served;
use super::support::streamable::{self, json, message};
use super::support::{Process, proxy};
use super::{Row, Scene, note};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const TAKES_NOTHING: &str = "an error that says so";

pub fn rows() -> Vec<Row> {
    let row = |names, amounts, seen, growth_kb, scene| Row { names, amounts, seen, growth_kb, scene };
    vec![
        row(
            &["upstream/streamable/alone.rs PAGES"],
            [100, 101, 5000],
            ["all are asked for", "100 are asked for", "100 are asked for"],
            2048,
            Pages::open,
        ),
        row(
            &["protocol/share/from_server.rs ELICITATION_ERROR_BYTES"],
            [64 << 10, (64 << 10) + 1, 1 << 20],
            ["told of its end", "not told", "not told"],
            8192,
            || Required::open("error"),
        ),
        row(
            &["protocol/share/from_server.rs NAME_BYTES"],
            [1 << 10, (1 << 10) + 1, 60_000],
            ["told of its end", "not told", "not told"],
            4096,
            || Required::open("name"),
        ),
        row(
            &["protocol/bridge/to_legacy/results.rs ELICITATIONS"],
            [100, 101, 2000],
            ["all are asked", "-32603", "-32603"],
            4096,
            Urls::open,
        ),
        row(
            &["upstream/crew.rs WAITING_BYTES"],
            [16 << 20, (16 << 20) + 1, (64 << 20) + 500],
            ["it waits", TAKES_NOTHING, TAKES_NOTHING],
            16_384,
            Deaf::open,
        ),
    ]
}

/// Connect, with a modern server that refuses a call for its headers and has so many pages of tools.
struct Pages {
    left: Arc<AtomicUsize>,
    slowly: Arc<AtomicBool>,
    remote: Remote,
    client: streamable::Client,
    lines: usize,
}

impl Pages {
    fn open() -> Box<dyn Scene> {
        let (left, slowly): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let (more, pauses) = (left.clone(), slowly.clone());
        let remote = Remote::start(move |request, connection| match &*method(request) {
            "tools/call" => connection.write(error("400 Bad Request", &message(request)["id"], -32020)),
            "tools/list" => {
                if pauses.load(SeqCst) {
                    thread::sleep(Duration::from_millis(5)); // that it comes slowly is what is tried
                }
                let is_last = more.fetch_sub(1, SeqCst) == 1;
                let next = if is_last { "" } else { r#","nextCursor":"more""# };
                connection.write(json(&answer(request, &format!(r#""tools":[]{next}"#))));
            }
            _ => modern::behave(request, connection),
        });
        let client = streamable::Client(Process::start(proxy().arg("--debug").arg(remote.url("/mcp"))));
        Box::new(Self { left, slowly, remote, client, lines: 0 })
    }

    fn ask(&mut self, asked: &str) -> serde_json::Value {
        self.client.send(asked);
        self.lines += 1;
        self.client.line(self.lines)
    }
}

impl Scene for Pages {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        self.left.store(amount, SeqCst);
        self.slowly.store(slowly, SeqCst);
        let refused = self.ask(&modern::modern(1, "tools/call", r#","name":"t","arguments":{}"#));
        assert_eq!(refused["error"]["code"], -32020, "{refused}");
        match amount - self.left.load(SeqCst) {
            asked if asked == amount => "all are asked for".into(),
            asked => format!("{asked} are asked for"),
        }
    }

    fn good(&mut self) {
        let answer = self.ask(&modern::modern(2, "good", ""));
        assert_eq!(answer["result"]["did"], "good", "{answer} {}", self.remote.posts().len());
    }

    fn pid(&self) -> Option<u32> {
        Some(self.client.0.id())
    }
}

/// What the local servers do: `error` and `name` are refused with an elicitation that ends at once, in an error or with
/// an id that has as many bytes as the file `amount` tells; `tools/call` with so many elicitations.
const SERVER: &str = r#"
    x() { head -c "$1" /dev/zero | tr '\0' x; }
    pieces() { if [ -e "$HERE/slowly" ]; then for i in 1 2 3 4 5; do head -c 300; sleep 0.02; done; fi; cat; }
    ends() { printf '{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"%s"}}\n' "$1"; }
    required() { printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32042,"message":"%s","data":{"elicitations":[%s]}}}\n' "$id" "$1" "$2"; }
    while IFS= read -r line; do
        id=${line##*'"id":'}; id=${id%%[,\}]*}
        amount=$(cat "$HERE/amount" 2>/dev/null)
        case $line in
        *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
        *'"tools/call"'*)
            required '' "$(seq "$amount" | sed 's/.*/{"url":"http:\/\/u\/&","message":"m","elicitationId":"&"}/' | paste -sd,)" | pieces ;;
        *'"error"'*) empty=$(required '' '{"elicitationId":"E'"$id"'"}' | wc -c)
            required "$(x $((amount - empty + 1)))" '{"elicitationId":"E'"$id"'"}' | pieces; ends "E$id" ;;
        *'"name"'*) name=$id$(x $((amount - ${#id}))); required '' '{"elicitationId":"'"$name"'"}' | pieces; ends "$name" ;;
        *'"id":'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
        esac
    done
"#;

/// A shared server that wants a URL to be opened first: whether its client hears when that is done.
struct Required {
    how: &'static str,
    served: Served,
    client: Client,
    id: u32,
}

impl Required {
    fn open(how: &'static str) -> Box<dyn Scene> {
        let served = Served::script(&["--shared"], SERVER);
        let client = Client::open(&served.address());
        assert_eq!([client.post(&initialize(1)), client.post(INITIALIZED)], [202, 202]);
        Box::new(Self { how, served, client, id: 1 })
    }

    fn ask(&mut self, method: &str) -> String {
        self.id += 1;
        assert_eq!(self.client.post(&request(self.id, method, "{}")), 202);
        self.client.message(&format!("\"id\":{},", self.id))
    }

    fn told(&self) -> usize {
        self.client.messages().iter().filter(|message| message.contains("elicitation/complete")).count()
    }
}

impl Scene for Required {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        note(&self.served, amount, slowly);
        let before = self.told();
        let how = self.how;
        let refused = self.ask(how);
        assert!(refused.contains("-32042"), "it is relayed, whatever it is: {refused:.200}");
        self.good(); // what the server said before has come
        if self.told() > before { "told of its end".into() } else { "not told".into() }
    }

    fn good(&mut self) {
        let answer = self.ask("good");
        assert!(answer.contains("\"result\":{}"), "{answer}");
    }

    fn pid(&self) -> Option<u32> {
        Some(self.served.process.id())
    }
}

/// A modern client of a legacy server that wants so many URLs to be opened.
struct Urls {
    served: Served,
    http: Http,
}

impl Urls {
    fn open() -> Box<dyn Scene> {
        let served = Served::script(&["--protocol", "legacy"], SERVER);
        let http = Http::connect(&served.address());
        Box::new(Self { served, http })
    }

    fn ask(&mut self, method: &str, params: &str) -> String {
        let meta = modern::META.replace(r#""elicitation":{}"#, r#""elicitation":{"url":{}}"#);
        let asked = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{meta}{params}}}}}"#);
        let mut headers = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        headers.extend((!params.is_empty()).then_some(("Mcp-Name", "t")));
        self.http.send("POST", &headers, &asked);
        self.http.answer().messages().pop().unwrap()
    }
}

impl Scene for Urls {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        note(&self.served, amount, slowly);
        let answer = self.ask("tools/call", r#","name":"t","arguments":{}"#);
        let asked = answer.matches("elicitation/create").count();
        if asked == amount && answer.contains("input_required") {
            return "all are asked".into();
        }
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        format!("{} {asked}", answer["error"]["code"])
    }

    fn good(&mut self) {
        let answer = self.ask("tools/list", "");
        assert!(answer.contains("\"resultType\":\"complete\""), "{answer}");
    }

    fn pid(&self) -> Option<u32> {
        Some(self.served.process.id())
    }
}

/// A far server that takes nothing before the test lets it: what is sent waits.
struct Deaf {
    remote: Remote,
    front: Process,
}

const PIECE: usize = 1 << 20;

impl Deaf {
    fn open() -> Box<dyn Scene> {
        let remote = Remote::start(|request, connection| {
            if request.line.starts_with("GET ") {
                connection.stream(":\n\n"); // where to send is said later
            } else {
                remote::behave(request, connection);
            }
        });
        let front = Process::start(proxy().args(["--transport", "sse", "--port", "0"]).arg(remote.url("/sse")));
        Box::new(Self { remote, front })
    }

    /// A new session, whose server is there but says nothing.
    fn begin(&self) -> Client {
        let before = self.remote.streams();
        let client = Client::open(&self.front.address());
        assert_eq!(client.post(&initialize(1)), 202);
        self.remote.wait_for_streams(before + 1);
        client
    }

    fn release(&self) {
        self.remote.event("event: endpoint\ndata: /messages\n\n");
    }
}

/// A notification, or a request with the id 2, of so many bytes.
fn filled(bytes: usize, is_request: bool) -> String {
    let id = if is_request { r#""id":2,"# } else { "" };
    let empty = format!(r#"{{"jsonrpc":"2.0",{id}"method":"x","params":{{"x":""}}}}"#);
    empty.replace(r#""x":""#, &format!(r#""x":"{}"#, "x".repeat(bytes - empty.len())))
}

impl Scene for Deaf {
    fn reach(&mut self, amount: usize, slowly: bool) -> String {
        let client = self.begin();
        let mut left = amount - initialize(1).len();
        while left > PIECE + 1000 {
            let _ = client.post(&filled(PIECE, false)); // what is far over it is refused
            left -= PIECE;
            if slowly {
                thread::sleep(Duration::from_millis(5)); // that it comes slowly is what is tried
            }
        }
        assert_eq!(client.post(&filled(left, true)), 202);
        let refused =
            |message: &String| message.contains("has not taken what it was sent before, and there is no room for more");
        if client.messages().iter().any(refused) {
            return TAKES_NOTHING.into();
        }
        self.release();
        let answer = client.message("\"id\":2,");
        if refused(&answer) { TAKES_NOTHING.into() } else { "it waits".into() }
    }

    fn good(&mut self) {
        let client = self.begin();
        self.release();
        assert!(client.message("\"id\":1,").contains("result"));
    }

    fn pid(&self) -> Option<u32> {
        Some(self.front.id())
    }
}
