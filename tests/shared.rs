//! One server for many clients: `--shared` and `--stateless`. What each client sees is its own and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::client::{Client, request};
use support::http::Http;
use support::puppet::{Puppet, Stage};
use support::{SOON, wait_until};

const NEWEST: &str = "2025-11-25";

fn call(id: u32, name: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{name}","_meta":{{"progressToken":"token"}}}}"#))
}

/// The id under which the server got the call of this name.
fn id_of(puppet: &Puppet, name: &str) -> String {
    member(&puppet.gets(&format!("\"{name}\"")), "id")
}

fn member(line: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[name].to_string()
}

fn result(id: &str, of: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"of":"{of}"}}}}"#)
}

#[test]
fn clients_with_the_same_ids_get_their_own_answers() {
    let stage = Stage::open(&["--shared"]);
    let (mut one, mut two) = (Http::connect(&stage.address()), Http::connect(&stage.address()));
    let greetings = [one.begin(NEWEST), two.begin("2025-06-18")];
    assert!(greetings[0].body.contains(NEWEST) && greetings[1].body.contains("2025-06-18"), "{greetings:?}");
    let old = Client::open(&stage.address());
    assert_eq!(old.post(&support::client::initialize(1)), 202);
    assert!(old.message("serverInfo").contains("2024-11-05"));
    one.send("POST", &[], &call(7, "of-one"));
    two.send("POST", &[], &call(7, "of-two"));
    assert_eq!(old.post(&call(7, "of-old")), 202);
    let mut puppet = stage.puppet("of-one");
    let ids = ["of-one", "of-two", "of-old"].map(|name| id_of(&puppet, name));
    assert_ne!(ids[0], ids[1]);
    let token = member(&puppet.gets("of-two"), "params");
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    let token = token["_meta"]["progressToken"].to_string();
    puppet.say(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    ));
    for (id, name) in [(&ids[2], "of-old"), (&ids[1], "of-two"), (&ids[0], "of-one")] {
        puppet.say(&result(id, name));
    }
    assert_eq!(one.answer().body, result("7", "of-one"));
    let answer = two.answer();
    assert_eq!(answer.messages().last(), Some(&result("7", "of-two")));
    assert!(answer.messages()[0].contains(r#""progressToken":"token""#), "{answer:?}");
    assert_eq!(old.message("of-old"), result("7", "of-old"));
    let initializations = puppet.got().iter().filter(|line| line.contains("\"initialize\"")).count();
    assert_eq!(initializations, 1, "{:?}", puppet.got());
    assert_eq!(stage.puppets().len(), 1);
}

#[test]
fn a_question_of_the_server_goes_to_the_client_whose_call_is_open() {
    let stage = Stage::open(&["--shared"]);
    let (mut one, mut two) = (Http::connect(&stage.address()), Http::connect(&stage.address()));
    let _ = [one.begin(NEWEST), two.begin(NEWEST)];
    let mut asked = one.another();
    asked.send("POST", &[], &call(1, "of-one"));
    let mut puppet = stage.puppet("of-one");
    puppet.say(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    let events = asked.events();
    let id = member(&events.message("roots/list"), "id");
    // An answer of another client is nobody's.
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":["ROOT"]}}}}"#);
    assert_eq!(two.post(&answer.replace("ROOT", "false")).head.status, 202);
    assert_eq!(one.post(&answer.replace("ROOT", "true")).head.status, 202);
    let got = puppet.gets("\"roots\":[");
    assert_eq!(member(&got, "id"), "\"q\"");
    assert!(got.contains("true"), "{got}");
    // Two calls of two clients are open: nobody can tell whose question it is.
    two.another().send("POST", &[], &call(1, "of-two"));
    let mut open = two.another();
    open.send("POST", &[], &call(2, "of-two-again"));
    let _ = puppet.gets("of-two-again");
    puppet.say(r#"{"jsonrpc":"2.0","id":"w","method":"roots/list"}"#);
    assert!(puppet.gets("\"w\"").contains("error"));
}

#[test]
fn a_server_that_died_is_there_again() {
    let stage = Stage::open(&["--shared"]);
    let mut http = Http::connect(&stage.address());
    http.begin(NEWEST);
    assert_eq!(http.another().session, http.session);
    let mut subscribes = http.another();
    subscribes.send("POST", &[], &request(3, "resources/subscribe", r#"{"uri":"file:///subscribed"}"#));
    let mut puppet = stage.puppet("subscribed");
    puppet.say(&result(&id_of(&puppet, "resources/subscribe"), "x"));
    assert_eq!(subscribes.answer().head.status, 200);
    let mut open = http.another();
    open.send("POST", &[], &call(1, "under-way"));
    let _ = puppet.gets("under-way");
    puppet.die();
    let answer = open.answer();
    assert!(answer.body.contains(r#""id":1,"error""#) && answer.body.contains("signal 9"), "{answer:?}");
    http.send("POST", &[], &call(2, "afterwards"));
    let mut next = stage.puppet("afterwards");
    assert_ne!(next.pid, puppet.pid);
    let _ = next.gets("file:///subscribed");
    next.say(&result(&id_of(&next, "afterwards"), "y"));
    assert_eq!(http.answer().body, result("2", "y"));
    let general = http.listen(None);
    next.say(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///subscribed"}}"#);
    let _ = general.message("file:///subscribed");
}

#[test]
fn without_sessions_any_connection_will_do() {
    let stage = Stage::open(&["--stateless"]);
    let mut http = Http::connect(&stage.address());
    http.begin("2025-06-18");
    assert_eq!(http.session, None);
    http.send("GET", &[], "");
    assert_eq!(http.answer().head.status, 405);
    http.send("DELETE", &[], "");
    assert_eq!(http.answer().head.status, 405);
    let mut other = http.another();
    http.send("POST", &[], &call(5, "first"));
    other.send("POST", &[], &call(5, "second"));
    let mut puppet = stage.puppet("second");
    let (first, second) = (id_of(&puppet, "first"), id_of(&puppet, "second"));
    puppet.say(&result(&second, "second"));
    puppet.say(&result(&first, "first"));
    assert_eq!([http.answer().body, other.answer().body], [result("5", "first"), result("5", "second")]);
    // The server asks during a call; the answer comes on another connection.
    let mut calling = http.another();
    calling.send("POST", &[], &call(6, "asks"));
    let id = id_of(&puppet, "asks");
    puppet.say(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    let events = calling.events();
    let asked = member(&events.message("roots/list"), "id");
    assert_eq!(http.post(r#"{"jsonrpc":"2.0","id":1,"result":{"roots":["guessed"]}}"#).head.status, 202);
    assert_eq!(
        http.post(&format!(r#"{{"jsonrpc":"2.0","id":{asked},"result":{{"roots":["known"]}}}}"#)).head.status,
        202
    );
    let got = puppet.gets("roots\":[");
    assert!(got.contains("known") && got.contains(r#""id":1,"#), "{got}");
    puppet.say(&result(&id, "asks"));
    let _ = events.message("\"asks\"");
    events.wait_for_end(SOON);
}

#[test]
fn the_server_is_told_when_a_client_leaves() {
    let stage = Stage::open(&["--shared"]);
    let mut http = Http::connect(&stage.address());
    http.begin(NEWEST);
    let mut open = http.another();
    open.send("POST", &[], &call(1, "abandoned"));
    let puppet = stage.puppet("abandoned");
    let id = id_of(&puppet, "abandoned");
    http.send("DELETE", &[], "");
    assert_eq!(http.answer().head.status, 204);
    let answer = open.answer();
    assert!(answer.body.contains("error"), "{answer:?}");
    let cancelled = puppet.gets("notifications/cancelled");
    assert!(cancelled.contains(&format!(r#""requestId":{id}"#)), "{cancelled}");
    wait_until("the server lives on", SOON, || support::alive(puppet.pid));
}
