//! A remote server as a link for many clients' threads: to send never waits, and every request is answered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use mcp_proxy::protocol::era::Protocol;
use mcp_proxy::protocol::message::Message;
use mcp_proxy::upstream::auth::Auth;
use mcp_proxy::upstream::http::{Client, Remote as Target, Transport, Verify};
use mcp_proxy::upstream::remote::{self, Crossing};
use mcp_proxy::upstream::{Event, Sender, Undelivered};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::remote::{Remote, behave as behave_sse};
use support::streamable::{EVENTS, INITIALIZE, INITIALIZED, ask, behave, json, message, respond, result};
use support::{SOON, free_address, wait_until};

/// What a send takes that waits for an answer which does not come.
const WAITS: Duration = Duration::from_secs(5);

/// A link and all that came of it.
struct Linked {
    sender: Arc<dyn Sender>,
    got: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<String>>,
}

impl Linked {
    fn to(url: &str, open_requests: usize) -> Self {
        let target = Target {
            url: url.parse().unwrap(),
            headers: Vec::new(),
            transport: Transport::Auto,
            protocol: Protocol::Auto,
            auth: Auth::Nothing,
            certificate: None,
            verify: Verify::Public,
            message_limit_bytes: 1 << 20,
            timeout: WAITS,
        };
        let got = Arc::new(Mutex::new(Vec::new()));
        let delivered = got.clone();
        let deliver = move |message: Message| delivered.lock().unwrap().push(message.text().to_owned());
        let mut link = remote::link(
            Arc::new(Client::new(target).unwrap()),
            Arc::new(deliver),
            Arc::new(|_: &str| ()),
            open_requests,
            Crossing::Refused,
        );
        let received = got.clone();
        let reader = std::thread::spawn(move || {
            loop {
                match link.receiver.recv() {
                    Event::Message(message) => received.lock().unwrap().push(message.text().to_owned()),
                    Event::Ended(why) => return why,
                }
            }
        });
        Self { sender: link.sender, got, reader: Some(reader) }
    }

    fn try_send(&self, text: &str) -> Result<(), Undelivered> {
        self.sender.send(&Message::parse(text.as_bytes().to_vec()).unwrap())
    }

    fn send(&self, text: &str) {
        let start = Instant::now();
        self.try_send(text).unwrap();
        assert!(start.elapsed() < WAITS, "to send does not wait");
    }

    /// Waits for a message that holds `text`.
    fn wait_for(&self, text: &str) -> String {
        let found = || self.got.lock().unwrap().iter().find(|message| message.contains(text)).cloned();
        wait_until(text, SOON, || found().is_some());
        found().unwrap()
    }

    fn end(mut self) -> String {
        self.sender.stop();
        self.ended()
    }

    fn ended(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap()
    }
}

/// The names of the threads of this process that belong to links.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| matches!(name.trim(), "post" | "listener")).count()
}

#[test]
fn messages_go_out_in_order_and_no_call_holds_another() {
    let remote = Remote::start(|request, connection| match message(request)["method"].as_str() {
        Some("slow") => {
            let last = || connection.requests().iter().any(|r| r.text() == ask(99, "last"));
            wait_until("the last one", SOON, last);
            connection.write(json(&result(request)));
        }
        Some("asks") => {
            connection.write(format!("{EVENTS}data: {{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"roots/list\"}}\n\n"));
            wait_until("the answer", SOON, || connection.requests().iter().any(|r| r.text().contains("roots\":")));
            connection.write(format!("data: {}\n\n", result(request)));
            connection.close();
        }
        _ => behave(request, connection),
    });
    let linked = Linked::to(&remote.url("/mcp"), 64);
    linked.send(INITIALIZE);
    linked.send(INITIALIZED);
    for id in 0..10 {
        linked.send(&ask(id, "slow"));
    }
    linked.send(&ask(50, "asks"));
    linked.wait_for("roots/list");
    linked.send(r#"{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}"#);
    linked.wait_for(r#""id":50,"#);
    linked.send(&ask(99, "last"));
    for id in (0..10).chain([99]) {
        linked.wait_for(&format!(r#""id":{id},"result""#));
    }
    let posts = remote.posts();
    assert_eq!(posts[..2], [INITIALIZE, INITIALIZED]);
    assert_eq!(posts.len(), 15);
    assert_eq!(linked.end(), "the connection was closed by us");
    let _ = remote.wait_for_ends(1);
}

#[test]
fn what_cannot_be_sent_is_answered_and_the_link_lives_on() {
    let closed = free_address();
    let linked = Linked::to(&format!("http://{closed}/mcp"), 8);
    linked.send(INITIALIZE);
    assert!(linked.wait_for("-32603").contains("connection refused; is the server running?"));
    let _remote =
        Remote::start_at(&closed.to_string(), |request, connection| match message(request)["method"].as_str() {
            Some("refused") => connection.write(respond("500 Oops", "", "")),
            _ => behave(request, connection),
        });
    linked.send(&ask(1, "ping"));
    linked.wait_for(r#""did":"ping""#);
    linked.send(&ask(2, "refused"));
    assert!(linked.wait_for(r#""id":2,"error""#).contains("500 Internal Server Error"));
    linked.end();
}

#[test]
fn an_http_and_sse_server_is_found_and_its_end_is_that_of_the_link() {
    let remote = Remote::start(|request, connection| match &*request.line {
        "POST /mcp" => connection.write(respond("405 No", "", "")),
        _ => behave_sse(request, connection),
    });
    for path in ["/mcp", "/sse"] {
        let mut linked = Linked::to(&remote.url(path), 8);
        linked.send(INITIALIZE);
        linked.send(INITIALIZED);
        linked.send(&ask(1, "ping"));
        linked.wait_for(r#""did":"initialize""#);
        linked.wait_for(r#""did":"ping""#);
        remote.break_streams();
        assert!(linked.ended().ends_with("closed the stream"));
        assert!(matches!(linked.try_send(INITIALIZE), Err(Undelivered::Gone(_))));
    }
}

#[test]
fn no_thread_is_left() {
    let remote = Remote::start(behave);
    let links: Vec<_> = (0..4).map(|_| Linked::to(&remote.url("/mcp"), 8)).collect();
    for linked in &links {
        linked.send(INITIALIZE);
        linked.send(INITIALIZED);
        linked.send(&ask(1, "hang"));
        linked.send(&ask(2, "ping"));
        linked.wait_for(r#""did":"ping""#);
    }
    assert!(threads() >= 8);
    for linked in links {
        linked.end();
    }
    // Other tests of this process have threads of their own, which come and go.
    wait_until("their end", SOON, || threads() == 0);
}
