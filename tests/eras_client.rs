//! Clients and remote servers of different eras: what a server speaks is found out by what the client says, the bridge is
//! put in between where it is needed, and nobody else notices anything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use mcp_proxy::protocol::era::Protocol;
use mcp_proxy::protocol::message::Message;
use mcp_proxy::upstream::auth::Auth;
use mcp_proxy::upstream::http::{Client as Target, Remote as Address, Transport, Verify};
use mcp_proxy::upstream::remote::{self, Crossing, Inputs};
use mcp_proxy::upstream::{Event, Sender};
use serde_json::{Value, json as value};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::modern::{CANCELLED, answer, behave as behave_modern, error, method, modern};
use support::remote::{ACCEPTED, Connection, Remote, Request};
use support::streamable::{Client, EVENTS, INITIALIZED, TAKEN, json, message, respond};
use support::{Process, SOON, in_time, proxy, wait_until};

const BEGIN: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"old","version":"1"}}}"#;

const ALLOWED: Crossing = Crossing::Allowed(Inputs { most: 10, bytes: 1 << 20, age: Duration::from_mins(1) });

fn ask(id: u32, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"x","arguments":{{}}}}}}"#)
}

fn begun(request: &Request) -> String {
    let id = &message(request)["id"];
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"legacy","version":"1"}}}}}}"#
    )
}

fn called(request: &Request) -> String {
    let id = &message(request)["id"];
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"hi"}}]}}}}"#)
}

/// A server with sessions, which refuses what belongs to none.
fn behave_legacy(request: &Request, connection: &mut Connection<'_>) {
    let said = message(request);
    let in_session = request.header("mcp-session-id") == "s";
    let text = match said["method"].as_str() {
        _ if request.line.starts_with("DELETE ") => respond("200 OK", "", ""),
        _ if !request.line.starts_with("POST ") => respond("405 No", "", ""),
        Some("initialize") => {
            respond("200 OK", "Content-Type: application/json\r\nMcp-Session-Id: s\r\n", &begun(request))
        }
        _ if !in_session => error("400 Bad Request", &"server-error".into(), -32600),
        Some("hang") => return,
        _ if said.get("id").is_some() => json(&called(request)),
        _ => TAKEN.to_owned(),
    };
    connection.write(text);
}

/// A server of 2024-11-05: the stream is at `/sse` and at `/mcp`.
fn behave_sse(request: &Request, connection: &mut Connection<'_>) {
    let said = message(request);
    if request.line.starts_with("GET ") {
        return connection.stream("event: endpoint\r\ndata: /messages/?session_id=1\r\n\r\n");
    }
    if !request.line.contains("/messages/") {
        return connection.write(respond("405 Method Not Allowed", "", ""));
    }
    connection.write(ACCEPTED);
    let streams = connection.streams();
    match said["method"].as_str() {
        Some("initialize") => connection.event_to(streams - 1, format!("data: {}\n\n", begun(request))),
        Some("hang") => {}
        _ if said.get("id").is_some() => connection.event_to(streams - 1, format!("data: {}\n\n", called(request))),
        _ => {}
    }
}

fn connect(remote: &Remote, path: &str) -> Client {
    Client(Process::start(proxy().arg("--debug").arg(remote.url(path))))
}

/// The methods that a server was asked for, in order.
fn methods(remote: &Remote) -> Vec<String> {
    remote.requests().iter().map(|r| if r.line.starts_with("POST ") { method(r) } else { r.line.clone() }).collect()
}

/// A link and all that came of it.
struct Linked {
    sender: Arc<dyn Sender>,
    got: Arc<Mutex<Vec<Message>>>,
    reader: Option<JoinHandle<String>>,
}

fn target(url: &str, protocol: Protocol) -> Arc<Target> {
    let address = Address {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        transport: Transport::Auto,
        protocol,
        certificate: None,
        auth: Auth::Nothing,
        verify: Verify::Public,
        message_limit_bytes: 1 << 20,
        timeout: Duration::from_secs(5),
    };
    Arc::new(Target::new(address).unwrap())
}

impl Linked {
    fn to(target: &Arc<Target>, crossing: Crossing) -> Self {
        Self::hearing(target, crossing, |_| ())
    }

    /// The same, where whoever delivers a message goes on once `hear` is done with it.
    fn hearing(target: &Arc<Target>, crossing: Crossing, hear: impl Fn(&Message) + Send + Sync + 'static) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let delivered = got.clone();
        let deliver = move |message: Message| {
            delivered.lock().unwrap().push(message.clone());
            hear(&message);
        };
        let mut link = remote::link(target.clone(), Arc::new(deliver), Arc::new(|_: &str| ()), 100, crossing);
        let received = got.clone();
        let reader = std::thread::spawn(move || {
            loop {
                match link.receiver.recv() {
                    Event::Message(message) => received.lock().unwrap().push(message),
                    Event::Ended(why) => return why,
                }
            }
        });
        Self { sender: link.sender, got, reader: Some(reader) }
    }

    fn send(&self, text: &str) {
        self.sender.send(&Message::parse(text.as_bytes().to_vec()).unwrap()).unwrap();
    }

    /// The answer to the request with this id, once it is there.
    fn answer(&self, id: u32) -> Value {
        let is_it =
            |found: &&Message| found.method().is_none() && found.id().is_some_and(|i| i.as_json() == id.to_string());
        let found = || self.got.lock().unwrap().iter().find(is_it).map(|found| found.text().to_owned());
        wait_until(&format!("the answer to {id}"), SOON, || found().is_some());
        serde_json::from_str(&found().unwrap()).unwrap()
    }

    fn end(mut self) -> String {
        self.sender.stop();
        self.reader.take().unwrap().join().unwrap()
    }
}

/// Refuses an `initialize`, each time in another way; without a word that would tell what the server speaks, too.
fn refuse_differently(request: &Request, connection: &mut Connection<'_>, kind: &str) {
    let id = message(request)["id"].clone();
    let body = |id: &Value| error("200 OK", id, -32022);
    match (&*method(request), kind) {
        ("initialize", "answer") => connection.write(body(&id)),
        ("initialize", "nobody's") => connection.write(error("400 Bad Request", &Value::Null, -32022)),
        ("initialize", "header") => connection.write(error("400 Bad Request", &Value::Null, -32020)),
        ("initialize", "stream") => {
            let body = body(&id);
            let text = body.split("\r\n\r\n").nth(1).unwrap();
            connection.write(format!("{EVENTS}data: {text}\n\n"));
            connection.close();
        }
        ("initialize", "silent") => connection.write(respond("404 Not Found", "", "")),
        _ => behave_modern(request, connection),
    }
}

#[test]
fn a_legacy_client_of_a_modern_server_is_bridged_however_it_is_refused() {
    for kind in ["usual", "answer", "nobody's", "header", "stream", "silent"] {
        let remote = Remote::start(move |request, connection| refuse_differently(request, connection, kind));
        let mut client = connect(&remote, "/mcp");
        client.send(BEGIN);
        let begun = client.line(1);
        assert_eq!(
            (&begun["id"], &begun["result"]["protocolVersion"]),
            (&0.into(), &"2025-06-18".into()),
            "{kind}: {begun}"
        );
        client.send(INITIALIZED);
        client.send(&ask(1, "tools/call"));
        assert_eq!(client.line(2)["result"], value!({ "did": "tools/call" }), "{kind}");
        assert_eq!(client.end(), 2, "nothing of the refusal reaches the client");
        let mut wanted = vec!["initialize", "server/discover", "tools/call"];
        if kind == "silent" {
            wanted.splice(1..1, ["GET /mcp", "server/discover"]);
        }
        assert_eq!(methods(&remote), wanted, "{kind}");
        let call = remote.requests().pop().unwrap();
        assert_eq!((call.header("mcp-protocol-version"), call.header("mcp-name")), ("2026-07-28", "x"));
        assert_eq!(call.header("mcp-session-id"), "");
    }
}

#[test]
fn a_modern_client_of_a_legacy_server_is_bridged() {
    for (path, behave) in
        [("/mcp", behave_legacy as fn(&Request, &mut Connection<'_>)), ("/mcp", behave_sse), ("/sse", behave_sse)]
    {
        let remote = Remote::start(behave);
        let mut client = connect(&remote, path);
        client.send(&modern(1, "server/discover", ""));
        let found = client.line(1);
        assert_eq!(found["result"]["resultType"], "complete", "{path}: {found} {}", client.0.report());
        client.send(&modern(2, "tools/call", r#","name":"x""#));
        let found = client.line(2);
        assert_eq!((&found["id"], &found["result"]["content"][0]["text"]), (&2.into(), &"hi".into()), "{found}");
        client.send(&modern(1, "tools/call", r#","name":"x""#));
        assert_eq!(client.line(3)["id"], 1);
        assert_eq!(client.end(), 3);
        let is_taken = |r: &&Request| method(r) == "initialize" && r.line != "POST /mcp";
        let begun = remote.requests().iter().filter(is_taken).count() + usize::from(remote.streams() == 0);
        assert_eq!(begun, 1, "one session: {path}: {:?}", methods(&remote));
        let initialize = remote.posts().into_iter().find(|text| text.contains("initialize")).unwrap();
        let initialize: Value = serde_json::from_str(&initialize).unwrap();
        assert_eq!(initialize["params"]["clientInfo"]["name"], "tester");
        assert!(initialize["params"]["capabilities"].get("elicitation").is_some());
        for request in remote.requests().iter().filter(|r| method(r) == "tools/call") {
            assert_eq!(request.header("mcp-method"), "");
        }
    }
}

#[test]
fn a_modern_first_message_other_than_discover_is_just_sent() {
    let remote = Remote::start(behave_legacy);
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(1)["result"]["content"][0]["text"], "hi", "{}", client.0.report());
    assert_eq!(client.end(), 1);
    let _ = remote.wait_for_ends(1);
    let seen = methods(&remote);
    assert_eq!(seen[..2], ["tools/call", "initialize"], "{seen:?}");
}

#[test]
fn the_same_era_on_both_sides_costs_nothing() {
    let remote = Remote::start(behave_legacy);
    let mut client = connect(&remote, "/mcp");
    client.send(BEGIN);
    let _ = client.line(1);
    client.send(INITIALIZED);
    client.send(&ask(1, "tools/call"));
    let _ = client.line(2);
    client.end();
    let _ = remote.wait_for_ends(1);
    let mut seen = methods(&remote);
    seen.retain(|line| line != "GET /mcp");
    assert_eq!(seen, ["initialize", "notifications/initialized", "tools/call", "DELETE /mcp"]);
    let remote = Remote::start(behave_modern);
    let link = Linked::to(&target(&remote.url("/mcp"), Protocol::Auto), Crossing::Refused);
    link.send(&modern(1, "tools/call", r#","name":"x""#));
    assert_eq!(link.answer(1)["result"]["did"], "tools/call");
    link.send(&modern(2, "server/discover", ""));
    let _ = link.answer(2);
    link.end();
    assert_eq!(methods(&remote), ["tools/call", "server/discover"]);
}

#[test]
fn what_was_found_is_remembered() {
    let remote = Remote::start(behave_modern);
    let server = target(&remote.url("/mcp"), Protocol::Auto);
    for _ in 0..2 {
        let link = Linked::to(&server, Crossing::Refused);
        link.send(BEGIN);
        assert_eq!(link.answer(0)["result"]["protocolVersion"], "2025-06-18");
        link.end();
    }
    assert_eq!(methods(&remote), ["initialize", "server/discover", "server/discover"]);
    let remote = Remote::start(behave_legacy);
    let server = target(&remote.url("/mcp"), Protocol::Auto);
    for _ in 0..2 {
        let link = Linked::to(&server, ALLOWED);
        link.send(&modern(1, "tools/call", r#","name":"x""#));
        assert_eq!(link.answer(1)["result"]["content"][0]["text"], "hi");
        link.end();
    }
    let _ = remote.wait_for_ends(2);
    let seen = methods(&remote);
    let count = |name: &str| seen.iter().filter(|method| *method == name).count();
    assert_eq!((count("tools/call"), count("initialize"), count("DELETE /mcp")), (3, 2, 2), "{seen:?}");
}

#[test]
fn where_no_bridge_is_allowed_a_modern_client_gets_an_error_that_shows_a_legacy_server() {
    let remote = Remote::start(|request, connection| {
        if request.line.starts_with("POST /bare") {
            return connection.write(respond("404 Not Found", "", ""));
        }
        behave_legacy(request, connection);
    });
    for (path, code) in [("/mcp", -32600), ("/bare", -32601)] {
        let server = target(&remote.url(path), Protocol::Auto);
        let link = Linked::to(&server, Crossing::Refused);
        link.send(&modern(1, "server/discover", ""));
        assert_eq!(link.answer(1)["error"]["code"], code);
        let before = remote.requests().len();
        link.send(&modern(2, "server/discover", ""));
        assert_eq!(link.answer(2)["error"]["code"], -32601);
        assert_eq!(remote.requests().len(), before, "it is known");
        link.end();
    }
}

#[test]
fn a_server_that_takes_the_place_of_one_of_the_other_era_is_found_out() {
    static LEGACY: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| match LEGACY.load(Ordering::SeqCst) {
        0 => behave_modern(request, connection),
        _ => behave_legacy(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(1)["result"]["did"], "tools/call");
    LEGACY.store(1, Ordering::SeqCst);
    client.send(&modern(2, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(2)["result"]["content"][0]["text"], "hi");
    LEGACY.store(0, Ordering::SeqCst);
    client.send(&modern(3, "tools/call", r#","name":"x""#));
    let _ = client.line(3); // the session is lost, which costs this call
    client.send(&modern(4, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(4)["result"]["did"], "tools/call", "{}", client.0.report());
    client.end();
}

#[test]
fn a_session_of_a_server_that_was_replaced_begins_again_over_the_bridge() {
    for forgets in [true, false] {
        let is_modern = Arc::new(AtomicUsize::new(0));
        let replaced = is_modern.clone();
        let remote = Remote::start(move |request, connection| match replaced.load(Ordering::SeqCst) {
            0 => behave_legacy(request, connection),
            _ if forgets && request.header("mcp-session-id") == "s" => {
                connection.write(respond("404 Not Found", "", ""));
            }
            _ => behave_modern(request, connection),
        });
        let mut client = connect(&remote, "/mcp");
        client.send(BEGIN);
        let _ = client.line(1);
        client.send(INITIALIZED);
        let _ = remote.wait_for_posts(2);
        is_modern.store(1, Ordering::SeqCst);
        client.send(&ask(1, "tools/call"));
        let _ = client.error(2);
        // What is asked before the loss has gone round is lost with it.
        let is_lost = |client: &mut Client, id: u32| {
            client.send(&ask(id, "tools/call"));
            let answer = client.line(id as usize + 1);
            assert!(answer["error"].is_object() || answer["result"] == value!({ "did": "tools/call" }), "{answer}");
            answer["error"].is_object()
        };
        let id = (2..12).find(|id| !is_lost(&mut client, *id)).unwrap_or_else(|| panic!("{}", client.0.report()));
        assert_eq!(client.end(), id as usize + 1, "the second answer to initialize is not the client's");
    }
}

#[test]
fn a_legacy_server_may_use_the_codes_of_the_modern_era() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "odd" => connection.write(error("400 Bad Request", &message(request)["id"], -32022)),
        _ => behave_legacy(request, connection),
    });
    let mut client = connect(&remote, "/mcp");
    client.send(BEGIN);
    let _ = client.line(1);
    client.send(INITIALIZED);
    for id in 1..3 {
        client.send(&ask(id, "odd"));
        assert_eq!(client.line(id as usize + 1)["error"]["code"], -32022);
    }
    client.end();
    let begun = methods(&remote).iter().filter(|method| *method == "initialize").count();
    assert_eq!(begun, 2, "the session is begun again once, to see whether the server is another one");
}

#[test]
fn what_the_user_says_is_not_found_out() {
    let (legacy, new) = (Remote::start(behave_legacy), Remote::start(behave_modern));
    // A legacy client of what is said to be modern.
    let link = Linked::to(&target(&new.url("/mcp"), Protocol::Modern), Crossing::Refused);
    link.send(BEGIN);
    assert_eq!(link.answer(0)["result"]["protocolVersion"], "2025-06-18");
    link.end();
    assert_eq!(methods(&new), ["server/discover"]);
    // A modern client of what is said to be legacy.
    for (crossing, wanted) in [(Crossing::Refused, vec![]), (ALLOWED, vec!["initialize"])] {
        let before = legacy.requests().len();
        let link = Linked::to(&target(&legacy.url("/mcp"), Protocol::Legacy), crossing);
        link.send(&modern(1, "tools/call", r#","name":"x""#));
        let found = link.answer(1);
        assert_eq!(found.get("error").is_some(), crossing == Crossing::Refused, "{found}");
        link.end();
        assert_eq!(methods(&legacy)[before..].first().map(String::as_str), wanted.first().copied());
    }
    // What is said and wrong is an error.
    let link = Linked::to(&target(&new.url("/mcp"), Protocol::Legacy), Crossing::Refused);
    link.send(BEGIN);
    assert_eq!(link.answer(0)["error"]["code"], -32022);
    link.end();
    let link = Linked::to(&target(&legacy.url("/mcp"), Protocol::Modern), ALLOWED);
    link.send(&modern(1, "tools/call", r#","name":"x""#));
    assert_eq!(link.answer(1)["error"]["code"], -32600);
    link.end();
}

#[test]
fn a_call_over_the_bridge_is_cancelled() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let remote = Remote::start(|request, connection| {
        if method(request) == "hang" {
            connection.wait_for_close();
            CLOSED.fetch_add(1, Ordering::SeqCst);
            return;
        }
        behave_modern(request, connection);
    });
    let mut client = connect(&remote, "/mcp");
    client.send(BEGIN);
    let _ = client.line(1);
    client.send(INITIALIZED);
    client.send(&ask(1, "hang"));
    let _ = remote.wait_for_posts(3);
    client.send(CANCELLED);
    wait_until("the end of the request", SOON, || CLOSED.load(Ordering::SeqCst) == 1);
    assert_eq!(client.end(), 1);
    let remote = Remote::start(behave_legacy);
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "hang", ""));
    wait_until("the call", SOON, || methods(&remote).iter().filter(|method| *method == "hang").count() == 2);
    client.send(CANCELLED);
    wait_until("the cancellation", SOON, || methods(&remote).contains(&"notifications/cancelled".to_owned()));
    assert_eq!(client.end(), 0);
}

#[test]
fn notes_of_a_server_tell_whose_they_are() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "tools/call" => {
            let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
            connection.write(format!("{EVENTS}data: {note}\n\ndata: {}\n\n", answer(request, r#""content":[]"#)));
        }
        _ => behave_modern(request, connection),
    });
    let link = Linked::to(&target(&remote.url("/mcp"), Protocol::Auto), Crossing::Refused);
    link.send(&modern(7, "tools/call", r#","name":"x""#));
    let _ = link.answer(7);
    let related = link.got.lock().unwrap()[0].related().map(|id| id.as_json().to_owned());
    assert_eq!(related.as_deref(), Some("7"));
    link.end();
}

#[test]
fn a_session_behind_the_bridge_that_is_lost_costs_what_is_open_and_the_next_call_begins_another() {
    let remote = Remote::start(behave_sse);
    let mut client = connect(&remote, "/mcp");
    client.send(&modern(1, "tools/call", r#","name":"x""#));
    let _ = client.line(1);
    client.send(&modern(2, "hang", ""));
    wait_until("the call", SOON, || methods(&remote).iter().filter(|method| *method == "hang").count() == 1);
    remote.break_streams();
    assert!(client.error(2).contains("stream"), "{}", client.error(2));
    client.send(&modern(3, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(3)["result"]["content"][0]["text"], "hi", "{}", client.0.report());
    assert_eq!((client.end(), remote.streams()), (3, 2));
}

#[test]
fn many_calls_cross_at_once() {
    const CALLS: u32 = 60;
    let remote = Remote::start(behave_modern);
    let mut client = connect(&remote, "/mcp");
    client.send(BEGIN);
    let _ = client.line(1);
    client.send(INITIALIZED);
    let all: Vec<_> = (1..=CALLS).map(|id| ask(id, "tools/call")).collect();
    client.send(&all.join("\n"));
    let mut ids: Vec<_> = (2..CALLS as usize + 2).map(|line| client.line(line)["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=u64::from(CALLS)).collect::<Vec<_>>());
    assert_eq!(client.end(), CALLS as usize + 1);
}

#[test]
fn a_server_that_speaks_nothing_is_explained_to_a_modern_client() {
    let remote = Remote::start(|_, connection| connection.write(respond("404 Not Found", "", "")));
    let mut client = connect(&remote, "/mcp");
    for number in 1..3 {
        let before = remote.requests().len();
        client.send(&modern(1, "server/discover", ""));
        let why = client.error(number);
        assert!(why.contains("speaks neither Streamable HTTP") && why.contains("is the path right?"), "{why}");
        assert_eq!(methods(&remote)[before..], ["server/discover", "initialize", "GET /mcp"], "nothing is believed");
    }
    client.end();
}

#[test]
fn a_server_that_has_come_up_is_found_by_the_request_that_follows_the_refusal() {
    let is_up = Arc::new(AtomicBool::new(false));
    let (asked, asks) = mpsc::channel();
    let (serves, asks) = (is_up.clone(), Mutex::new(asks));
    let remote = Remote::start(move |request, connection| {
        if !serves.load(Ordering::SeqCst) {
            return connection.write(respond("404 Not Found", "", ""));
        }
        if method(request) == "initialize" {
            let _ = asked.send(());
        }
        behave_legacy(request, connection);
    });
    let sender: Arc<OnceLock<Arc<dyn Sender>>> = Arc::default();
    let sends = sender.clone();
    let call = |id| Message::parse(modern(id, "tools/call", r#","name":"x""#).into_bytes()).unwrap();
    let next = call(2);
    // The thread that delivers the refusal is one of the refused connection, which cannot end before.
    let link = Linked::hearing(&target(&remote.url("/mcp"), Protocol::Auto), ALLOWED, move |message| {
        if message.is_error() && message.id().is_some_and(|id| id.as_json() == "1") {
            is_up.store(true, Ordering::SeqCst);
            sends.get().unwrap().send(&next).unwrap();
            let _ = asks.lock().unwrap().recv_timeout(SOON / 2); // what came instead is in the answer
        }
    });
    sender.get_or_init(|| link.sender.clone()).send(&call(1)).unwrap();
    assert!(link.answer(1)["error"]["message"].as_str().unwrap().contains("is the path right?"));
    let answer = link.answer(2);
    assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer}");
    link.end();
}

#[test]
fn what_may_wait_for_the_input_of_our_client_is_an_option() {
    let remote = Remote::start(|request, connection| match &*method(request) {
        "tools/call" if request.header("mcp-session-id") == "s" => {
            let id = &message(request)["id"];
            let question = format!(
                r#"{{"jsonrpc":"2.0","id":"q-{id}","method":"elicitation/create","params":{{"message":"?","requestedSchema":{{}}}}}}"#
            );
            connection.write(format!("{EVENTS}data: {question}\n\n"));
        }
        _ => behave_legacy(request, connection),
    });
    let options = ["--debug", "--max-inputs", "1"];
    let mut client = Client(Process::start(proxy().args(options).arg(remote.url("/mcp"))));
    client.send(&modern(1, "tools/call", r#","name":"x""#));
    assert_eq!(client.line(1)["result"]["resultType"], "input_required");
    client.send(&modern(2, "tools/call", r#","name":"x""#));
    let refusal = || remote.posts().into_iter().find(|post| post.contains("too many calls wait"));
    wait_until("the refusal of the second question", SOON, || refusal().is_some());
    client.end();
}

/// A process whose output nobody gathers, and which does not outlive its test.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a server that is not held up sends by itself.
const FLOOD: usize = 320;
const FLOOD_BYTES: usize = 100_000;

/// A legacy server whose answer to a call is more than a pipe takes. Once `reached` is not 0, it sends a flood.
fn flood(request: &Request, connection: &mut Connection<'_>, reached: &AtomicUsize, sent: &AtomicUsize) {
    if request.line.starts_with("GET ") {
        connection.write(EVENTS);
        wait_until("the answer to the call", SOON, || reached.load(Ordering::SeqCst) > 0);
        for number in 0..FLOOD {
            let params = format!(r#"{{"number":{number},"padding":"{}"}}"#, "x".repeat(FLOOD_BYTES));
            connection
                .write(format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{params}}}\n\n"));
            sent.fetch_add(1, Ordering::SeqCst);
        }
    } else if method(request) == "tools/call" && request.header("mcp-session-id") == "s" {
        let id = &message(request)["id"];
        let text = "x".repeat(1_000_000);
        connection.write(json(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
        )));
    } else {
        behave_legacy(request, connection);
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_the_server_behind_the_bridge() {
    let ends_after = |reads_on: bool| {
        let (reached, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (reached.clone(), sent.clone());
        let remote = Remote::start(move |request, connection| flood(request, connection, &told, &counted));
        let mut command = proxy();
        command.arg(remote.url("/mcp")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = Unread(command.spawn().unwrap());
        let mut stdin = client.0.stdin.take().unwrap();
        let mut stdout = BufReader::with_capacity(1, client.0.stdout.take().unwrap());
        stdin.write_all(format!("{}\n", modern(1, "tools/call", r#","name":"x""#)).as_bytes()).unwrap();
        stdout.read_exact(&mut [0]).unwrap(); // whoever delivers the answer waits for us now
        reached.store(1, Ordering::SeqCst);
        let mut last = (0, Instant::now());
        wait_until("the flood is held up, or over", SOON, || {
            let now = sent.load(Ordering::SeqCst);
            if now != last.0 {
                last = (now, Instant::now());
            }
            now == FLOOD || now > 0 && last.1.elapsed() > Duration::from_secs(1)
        });
        let kept = sent.load(Ordering::SeqCst);
        assert!(kept < FLOOD / 2, "{kept} messages were taken, and none delivered");
        if reads_on {
            let mut lines = BufReader::new(stdout).split(b'\n').map(Result::unwrap);
            let _ = lines.next().unwrap();
            for number in 0..FLOOD {
                let line: Value = serde_json::from_slice(&lines.next().unwrap()).unwrap();
                assert_eq!(line["params"]["number"], number, "all of it comes, in order");
            }
            drop(stdin);
            assert!(client.0.wait().unwrap().success());
            return Duration::ZERO;
        }
        let start = Instant::now();
        drop(stdin);
        wait_until("the end", SOON, || client.0.try_wait().unwrap().is_some());
        start.elapsed()
    };
    ends_after(true);
    in_time("the end", Duration::from_millis(1500 + 700), || ends_after(false));
}

/// A legacy server with sessions `s1`, `s2`, … whose tool `ask` asks its user.
fn behave_asking(request: &Request, connection: &mut Connection<'_>) {
    let said = message(request);
    let is_first = |r: &&Request| method(r) == "initialize";
    let text = match said["method"].as_str() {
        Some("initialize") => {
            let number = connection.requests().iter().filter(is_first).count();
            let headers = format!("Content-Type: application/json\r\nMcp-Session-Id: s{number}\r\n");
            respond("200 OK", &headers, &begun(request))
        }
        Some("tools/call") if said["params"]["name"] == "ask" && request.header("mcp-session-id").starts_with('s') => {
            let question = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}"#;
            format!("{EVENTS}data: {question}\n\n")
        }
        Some(_) if request.header("mcp-session-id").starts_with('s') => {
            let mut same = request.clone();
            same.headers.iter_mut().filter(|(name, _)| name == "mcp-session-id").for_each(|(_, id)| *id = "s".into());
            return behave_legacy(&same, connection);
        }
        _ => return behave_legacy(request, connection),
    };
    connection.write(text);
}

#[test]
fn a_client_that_declares_more_than_the_server_was_told_gets_another_session_once_nothing_is_open() {
    let remote = Remote::start(behave_asking);
    let mut client = connect(&remote, "/mcp");
    let said = |capabilities: &str, text: &str| text.replace(r#"{"elicitation":{}}"#, capabilities);
    let call = |id: u32, capabilities: &str, name: &str| {
        said(capabilities, &modern(id, "tools/call", &format!(r#","name":"{name}""#)))
    };
    let seen = |name: &str| methods(&remote).iter().filter(|method| *method == name).count();
    client.send(&said("{}", &modern(10, "server/discover", "")));
    assert_eq!(client.line(1)["id"], 10);
    client.send(&said("{}", &modern(1, "hang", "")));
    wait_until("the call", SOON, || seen("hang") == 1);
    client.send(&call(2, r#"{"sampling":{}}"#, "x")); // a call is open
    assert_eq!(client.line(2)["id"], 2);
    client.send(CANCELLED);
    wait_until("the cancellation", SOON, || seen("notifications/cancelled") == 1);
    for (line, capabilities) in [(3, r#"{"sampling":{}}"#), (4, r#"{"elicitation":{}}"#), (5, "{}")] {
        client.send(&call(line, capabilities, "x"));
        assert_eq!(client.line(line as usize)["result"]["content"][0]["text"], "hi", "{}", client.0.report());
    }
    client.send(&call(6, r#"{"elicitation":{}}"#, "ask"));
    assert_eq!(client.line(6)["result"]["resultType"], "input_required", "{}", client.0.report());
    client.send(&call(7, r#"{"roots":{}}"#, "x")); // a call waits for its user
    assert_eq!(client.line(7)["id"], 7);
    assert_eq!(client.end(), 7);
    let told = remote.requests().iter().filter(|r| method(r) == "initialize").map(message).collect::<Vec<_>>();
    let told: Vec<_> = told.iter().map(|said| said["params"]["capabilities"].clone()).collect();
    let all = value!({ "elicitation": { "form": {} }, "sampling": {} });
    assert_eq!(told, [value!({}), value!({ "sampling": {} }), all]);
    let calls = remote.requests().into_iter().filter(|r| method(r) == "tools/call");
    let sessions: Vec<_> = calls.map(|r| r.header("mcp-session-id").to_owned()).collect();
    assert_eq!(sessions, ["s1", "s2", "s3", "s3", "s3", "s3"]);
    let mut ended: Vec<_> = remote.wait_for_ends(3).iter().map(|r| r.header("mcp-session-id").to_owned()).collect();
    ended.sort_unstable();
    assert_eq!(ended, ["s1", "s2", "s3"], "each is ended");
}
