//! A hub of modern clients that does the least, and clients of both eras before it.

use super::*;
use crate::protocol::message::{INTERNAL_ERROR, Id, Kind as Is};

const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };
const MODERN: Key = Key(1);
const LEGACY: Key = Key(2);

/// Numbers the requests of all clients, and knows whose they are.
#[derive(Debug, Default)]
struct Fake {
    is_ready: bool,
    last: u64,
    joined: BTreeMap<Key, Kind>,
    open: BTreeMap<u64, (Key, Id)>,
    waiting: Vec<(Key, Message)>,
}

impl Fake {
    fn take(&mut self, id: Option<&Id>) -> Option<(Key, Id)> {
        self.open.remove(&id?.as_json().parse().ok()?)
    }

    fn fail_all(&mut self, why: &str, out: &mut Vec<Action>) {
        for (_, (key, id)) in std::mem::take(&mut self.open) {
            out.push(Action::ToClient(key, Message::error(Some(&id), INTERNAL_ERROR, why)));
        }
    }
}

impl Hub for Fake {
    fn begin(&mut self, out: &mut Vec<Action>) {
        self.is_ready = true;
        for (key, message) in std::mem::take(&mut self.waiting) {
            self.from_client(key, message, out);
        }
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn refusal(&self) -> Option<&Message> {
        None
    }

    fn join(&mut self, key: Key, kind: Kind) {
        self.joined.insert(key, kind);
    }

    fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        self.joined.remove(&key);
        for (number, _) in self.open.extract_if(.., |_, (of, _)| *of == key) {
            let params = format!(r#"{{"requestId":{number}}}"#);
            out.push(Action::ToServer(Message::notification("notifications/cancelled", &params)));
        }
    }

    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        assert!(self.joined.contains_key(&key));
        if !self.is_ready {
            self.waiting.push((key, message));
            return;
        }
        match message.kind() {
            Is::Request { id, method } if &**method == "refused" => {
                out.push(Action::ToClient(key, Message::error(Some(id), INTERNAL_ERROR, "refused")));
            }
            Is::Request { id, .. } => {
                self.last += 1;
                self.open.insert(self.last, (key, id.clone()));
                out.push(Action::ToServer(message.with_id(&Id::number(self.last))));
            }
            _ => out.push(Action::ToServer(message)),
        }
    }

    fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        match message.kind() {
            Is::Response { id } => {
                let found = self.take(id.as_ref());
                out.extend(found.map(|(key, id)| Action::ToClient(key, message.with_id(&id))));
            }
            _ => out.extend(self.joined.keys().map(|key| Action::ToClient(*key, message.clone()))),
        }
    }

    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        self.from_server(Message::error(message.id(), INTERNAL_ERROR, why), out);
    }

    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.is_ready = false;
        self.fail_all(why, out);
    }

    fn finish(&mut self, why: &str, out: &mut Vec<Action>) {
        self.fail_all(&format!("finish: {why}"), out);
    }

    fn tick(&mut self, now: Duration, _: &mut Vec<Action>) -> Option<Duration> {
        Some(now + Duration::from_secs(5))
    }

    fn parked(&self) -> usize {
        3
    }
}

fn message(text: &str) -> Message {
    Message::parse(text.replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).unwrap()
}

/// What came, without what a server is told of a client.
fn shown(out: &mut Vec<Action>) -> Vec<String> {
    let text = |message: &Message| {
        let text = message.text().replacen(r#""jsonrpc":"2.0","#, "", 1);
        match text.find(r#""_meta":{"io.modelcontextprotocol/protocolVersion""#) {
            Some(at) => format!("{}META{}", &text[..at], &text[at + text[at..].find("}}").unwrap() + 2..]),
            None => text,
        }
    };
    let one = |action: Action| match action {
        Action::ToServer(message) => format!("S: {}", text(&message)),
        Action::ToClient(key, message) => format!("{}: {}", key.0, text(&message)),
    };
    out.drain(..).map(one).collect()
}

/// One modern client and one legacy session that has begun, with a modern server that has too.
fn both() -> ModernServer<Fake> {
    let mut hub = ModernServer::new(Fake::default(), LIMITS);
    let mut out = Vec::new();
    hub.join(MODERN, Kind::Modern);
    hub.join(LEGACY, Kind::Session);
    hub.begin(&mut out);
    hub.from_client(LEGACY, message(r#"{"id":"i","method":"initialize"}"#), &mut out);
    let found =
        r#"{"id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}}"#;
    hub.from_server(message(found), &mut out);
    hub.from_client(LEGACY, message(r#"{"method":"notifications/initialized"}"#), &mut out);
    let acknowledged = r#"{"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2},"notifications":{}}}"#;
    hub.below.joined.remove(&MODERN); // the share tells by the tag whose it is
    hub.from_server(message(acknowledged), &mut out);
    hub.below.joined.insert(MODERN, Kind::Modern);
    assert_eq!(out.len(), 3, "{:?}", shown(&mut out));
    hub
}

#[test]
fn each_client_speaks_its_era() {
    let mut hub = both();
    assert!(hub.below.joined.values().all(|kind| *kind == Kind::Modern));
    let mut out = Vec::new();
    let call = |id: &str| message(&format!(r#"{{"id":{id},"method":"tools/call","params":{{}}}}"#));
    hub.from_client(MODERN, call("\"m\""), &mut out);
    hub.from_client(LEGACY, call("\"l\""), &mut out);
    let calls =
        [r#"S: {"id":3,"method":"tools/call","params":{}}"#, r#"S: {"id":4,"method":"tools/call","params":{META}}"#];
    assert_eq!(shown(&mut out), calls);
    for id in [3, 4] {
        hub.from_server(message(&format!(r#"{{"id":{id},"result":{{"resultType":"complete","x":1}}}}"#)), &mut out);
    }
    let answers = [r#"1: {"id":"m","result":{"resultType":"complete","x":1}}"#, r#"2: {"id":"l","result":{"x":1}}"#];
    assert_eq!(shown(&mut out), answers);
    hub.from_client(LEGACY, message(r#"{"id":1,"method":"refused","params":{}}"#), &mut out);
    assert_eq!(shown(&mut out), [r#"2: {"id":1,"error":{"code":-32603,"message":"refused"}}"#]);
    assert_eq!((hub.parked(), hub.is_ready(), hub.refusal()), (3, true, None));
}

#[test]
fn a_legacy_client_that_leaves_is_forgotten() {
    let mut hub = both();
    let mut out = Vec::new();
    hub.from_client(LEGACY, message(r#"{"id":1,"method":"tools/call","params":{}}"#), &mut out);
    shown(&mut out);
    hub.leave(LEGACY, &mut out);
    let cancelled = |id: u64| format!(r#"S: {{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    assert_eq!(shown(&mut out), [cancelled(2), cancelled(3)]);
    hub.from_server(message(r#"{"id":3,"result":{}}"#), &mut out);
    hub.from_client(MODERN, message(r#"{"method":"n"}"#), &mut out);
    hub.leave(LEGACY, &mut out);
    assert_eq!(shown(&mut out), [r#"S: {"method":"n"}"#]);
    assert!(hub.legacy.is_empty());
}

#[test]
fn a_lost_server_is_lost_for_both_and_the_next_is_listened_to() {
    for is_told in [true, false] {
        let mut hub = both();
        let mut out = Vec::new();
        for key in [MODERN, LEGACY] {
            hub.from_client(key, message(r#"{"id":7,"method":"tools/call","params":{}}"#), &mut out);
        }
        shown(&mut out);
        if is_told {
            hub.lose("lost", &mut out);
        } else {
            // The hub below may find out by itself when another begins.
            hub.below(&mut out, |below, actions| below.lose("lost", actions));
        }
        let mut told = shown(&mut out);
        told.sort();
        let error = r#"{"id":7,"error":{"code":-32603,"message":"lost"}}"#;
        assert_eq!(told, [format!("1: {error}"), format!("2: {error}")]);
        hub.begin(&mut out);
        let listen =
            r#"S: {"id":5,"method":"subscriptions/listen","params":{META,"notifications":{"toolsListChanged":true}}}"#;
        assert_eq!(shown(&mut out), [listen]);
    }
}

#[test]
fn what_waits_for_the_server_goes_on_once() {
    let mut hub = both();
    let mut out = Vec::new();
    hub.lose("lost", &mut out);
    hub.from_client(LEGACY, message(r#"{"id":7,"method":"m","params":{}}"#), &mut out);
    assert_eq!(shown(&mut out), [""; 0]);
    hub.begin(&mut out);
    assert_eq!(shown(&mut out).len(), 2, "the request, and the listening");
    hub.undelivered(&message(r#"{"id":3,"method":"m"}"#), "stuck", &mut out);
    assert_eq!(shown(&mut out), [r#"2: {"id":7,"error":{"code":-32603,"message":"stuck"}}"#]);
}

#[test]
fn the_end_is_told_to_both() {
    let mut hub = both();
    let mut out = Vec::new();
    for key in [MODERN, LEGACY] {
        hub.from_client(key, message(r#"{"id":7,"method":"tools/call","params":{}}"#), &mut out);
    }
    shown(&mut out);
    hub.finish("over", &mut out);
    let wanted = [
        r#"2: {"id":7,"error":{"code":-32603,"message":"over"}}"#,
        r#"1: {"id":7,"error":{"code":-32603,"message":"finish: over"}}"#,
    ];
    assert_eq!(shown(&mut out), wanted);
}

#[test]
fn the_time_is_that_of_whoever_is_first() {
    let mut hub = both();
    let mut out = Vec::new();
    let second = Duration::from_secs(1);
    assert_eq!(hub.tick(second, &mut out), Some(6 * second));
    hub.from_server(message(r#"{"id":2,"result":{}}"#), &mut out);
    assert_eq!(hub.tick(second, &mut out), Some(second + second / 2));
    assert_eq!(shown(&mut out), [""; 0]);
    hub.tick(2 * second, &mut out);
    assert!(shown(&mut out)[0].contains("subscriptions/listen"));
}
