//! Modern clients, MCP 2026-07-28, over HTTP: what is checked of a request, which way it takes to a server of either
//! era, and that nobody gets what is another's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use serde_json::{Value, json};
use support::before_puppets::{ASKED, REVISION, call, get, id_of, member, request, result, send};
use support::client::Client;
use support::http::{Events, Http};
use support::puppet::Stage;
use support::served::Served;
use support::{SOON, wait_until};

#[test]
fn a_request_is_checked_before_a_server_sees_it() {
    let stage = Stage::open_before("modern", &[]);
    let good = request(7, "x/y", &json!({}), "{}");
    let no_version = r#"{"jsonrpc":"2.0","id":7,"method":"x/y","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let no_capabilities = r#"{"jsonrpc":"2.0","id":7,"method":"x/y","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let old = good.replace(REVISION, "1900-01-01");
    let named = request(7, "tools/call", &json!({"name": "é"}), "{}");
    let version = ("MCP-Protocol-Version", REVISION);
    let method = ("Mcp-Method", "x/y");
    for (message, headers, status, code, text) in [
        (good.as_str(), &[version, ("Mcp-Method", "X/Y")][..], 400, -32020, "Mcp-Method"),
        (&good, &[version], 400, -32020, "Mcp-Method"),
        (&good, &[method], 400, -32020, "MCP-Protocol-Version"),
        (&good, &[("MCP-Protocol-Version", "2025-11-25"), method], 400, -32020, "MCP-Protocol-Version"),
        (&good, &[version, method, method], 400, -32020, "twice"),
        (no_version, &[version, method], 400, -32602, "protocolVersion"),
        (no_capabilities, &[version, method], 400, -32602, "clientCapabilities"),
        (&old, &[("MCP-Protocol-Version", "1900-01-01"), method], 400, -32022, "supported"),
        (&old, &[version, method], 400, -32020, "MCP-Protocol-Version"),
        (&named, &[version, ("Mcp-Method", "tools/call"), ("Mcp-Name", "=?base64?w6k?=")], 400, -32020, "Mcp-Name"),
        (&named, &[version, ("Mcp-Method", "tools/call")], 400, -32020, "Mcp-Name"),
    ] {
        let mut http = Http::connect(&stage.address());
        http.send("POST", headers, message);
        let answer = http.answer();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.head.status, body["error"]["code"].as_i64()),
            (status, Some(code)),
            "{headers:?} {answer:?}"
        );
        assert!(body["id"] == 7 && answer.body.contains(text), "{headers:?} {answer:?}");
    }
    for (verb, body) in [("GET", ""), ("DELETE", "")] {
        let mut http = Http::connect(&stage.address());
        http.session = Some("0123456789abcdef".into());
        http.send(verb, &[version], body);
        let answer = http.answer();
        assert_eq!((answer.head.status, answer.head.get("allow")), (405, Some("POST, OPTIONS")), "{verb} {answer:?}");
    }
    for (body, status) in [
        ("[]".to_owned(), 400),
        (format!("[{good}]"), 400),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), 400),
        (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#.to_owned(), 202),
    ] {
        let mut http = Http::connect(&stage.address());
        http.send("POST", &[version, method], &body);
        assert_eq!(http.answer().head.status, status, "{body}");
    }
}

#[test]
fn modern_clients_share_a_modern_server_and_get_what_is_theirs() {
    let stage = Stage::open_before("modern", &[]);
    let (mut one, mut two) = (call(&stage, 7, "of-one", "{}"), call(&stage, 7, "of-two", "{}"));
    let mut puppet = stage.puppet("of-one");
    let ids = ["of-one", "of-two"].map(|name| id_of(&puppet, name));
    assert_ne!(ids[0], ids[1]);
    let token = member(&puppet.gets("of-two"), "params")["_meta"]["progressToken"].clone();
    puppet.say(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    ));
    puppet.say(&result(&ids[1], "two"));
    puppet.say(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"none"}}}}"#, ids[0]));
    let refused = one.answer();
    assert_eq!((refused.head.status, member(&refused.body, "id")), (404, json!(7)), "{refused:?}");
    let streamed = two.answer();
    assert_eq!(streamed.messages().last(), Some(&result(&json!(7), "two")));
    assert!(streamed.messages()[0].contains(r#""progressToken":"t""#), "{streamed:?}");
    // Whoever goes away does not want the answer any more.
    let mut gone = call(&stage, 7, "of-three", "{}");
    let id = id_of(&puppet, "of-three");
    gone.cut();
    let told = puppet.gets("notifications/cancelled");
    assert_eq!(member(&told, "params")["requestId"], id);
    let probes = puppet.got().iter().filter(|line| line.contains("server/discover")).count();
    assert_eq!(probes, 1, "{:?}", puppet.got());
}

#[test]
fn the_first_question_of_a_client_is_the_probe() {
    let stage = Stage::open_before("modern", &[]);
    let mut http = Http::connect(&stage.address());
    send(&mut http, &request(9, "server/discover", &json!({}), r#"{"roots":{}}"#));
    let answer = get(&mut http);
    assert_eq!((&answer["id"], &answer["result"]["supportedVersions"][0]), (&json!(9), &json!(REVISION)), "{answer}");
    let puppet = stage.puppet("server/discover");
    assert_eq!(puppet.got().len(), 1, "{:?}", puppet.got());
    assert!(puppet.got()[0].contains(r#""roots""#));
}

fn listen(stage: &Stage, id: u32, filter: &Value) -> Events {
    let mut http = Http::connect(&stage.address());
    send(&mut http, &request(id, "subscriptions/listen", &json!({"notifications": filter}), "{}"));
    http.events()
}

#[test]
fn subscriptions_are_kept_apart_and_end_well() {
    let stage = Stage::open_before("modern", &[]);
    let one = listen(&stage, 5, &json!({"toolsListChanged": true}));
    let mut puppet = stage.puppet("toolsListChanged");
    let two = listen(&stage, 5, &json!({"resourceSubscriptions": ["file:///x"]}));
    let ids = ["toolsListChanged", "resourceSubscriptions"].map(|text| id_of(&puppet, text));
    for (id, method, more) in [
        (&ids[0], "notifications/subscriptions/acknowledged", r#","notifications":{"toolsListChanged":true}"#),
        (&ids[1], "notifications/subscriptions/acknowledged", r#","notifications":{}"#),
        (&ids[0], "notifications/tools/list_changed", ""),
        (&ids[1], "notifications/resources/updated", r#","uri":"file:///x""#),
    ] {
        puppet.say(&format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}{more}}}}}"#
        ));
    }
    let told = one.message("list_changed");
    assert_eq!(member(&told, "params")["_meta"]["io.modelcontextprotocol/subscriptionId"], 5);
    let _ = two.message("file:///x");
    assert!(!one.text().contains("file:///x") && !two.text().contains("list_changed"));
    assert!(one.messages()[0].contains("acknowledged"), "{:?}", one.messages());
    // A client that leaves is not listened for any more; who stays is told of the end.
    two.cut();
    assert_eq!(member(&puppet.gets("notifications/cancelled"), "params")["requestId"], ids[1]);
    Served::signal(stage.served.process.id(), "TERM");
    let end = one.message("\"result\"");
    assert_eq!(member(&end, "result")["_meta"]["io.modelcontextprotocol/subscriptionId"], 5, "{end}");
    one.wait_for_end(SOON);
}

#[test]
fn a_modern_server_that_dies_is_begun_again_for_the_next_request() {
    let stage = Stage::open_before("modern", &[]);
    let mut open = call(&stage, 1, "under-way", "{}");
    let puppet = stage.puppet("under-way");
    puppet.die();
    let answer = get(&mut open);
    assert!(answer["id"] == 1 && answer["error"]["message"].as_str().unwrap().contains("signal 9"), "{answer}");
    let mut next = call(&stage, 2, "afterwards", "{}");
    let mut puppet = stage.puppet("afterwards");
    puppet.say(&result(&id_of(&puppet, "afterwards"), "x"));
    assert_eq!(next.answer().head.status, 200);
}

#[test]
fn a_legacy_server_is_found_and_bridged() {
    let stage = Stage::open(&[]);
    let mut http = call(&stage, 1, "bridged", "{}");
    let mut puppet = stage.puppet("bridged");
    let got = puppet.got();
    assert!(got[0].contains("\"initialize\"") && got[1].contains("notifications/initialized"), "{got:?}");
    assert!(!puppet.gets("bridged").contains("io.modelcontextprotocol"), "{got:?}");
    puppet.say(&result(&id_of(&puppet, "bridged"), "x"));
    let answer = get(&mut http);
    assert_eq!(
        (&answer["result"]["resultType"], &answer["result"]["of"]),
        (&json!("complete"), &json!("x")),
        "{answer}"
    );
    assert_eq!(answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "puppet", "{answer}");
    // It is known from now on, and the same process is there for the next one.
    let mut http = call(&stage, 2, "again", "{}");
    puppet.say(&result(&id_of(&puppet, "again"), "y"));
    assert_eq!(get(&mut http)["result"]["of"], "y");
}

#[test]
fn a_question_of_a_legacy_server_comes_as_input_required_and_the_repeat_brings_the_answer() {
    let stage = Stage::open(&[]);
    let mut http = call(&stage, 1, "asks", ASKED);
    let mut puppet = stage.puppet("\"asks\"");
    // Together: what follows much later comes in another answer.
    let who = r#"{"jsonrpc":"2.0","id":"who","method":"elicitation/create","params":{"message":"Who?","requestedSchema":{}}}"#;
    puppet.say(&format!("{who}\n{}", r#"{"jsonrpc":"2.0","id":"where","method":"roots/list"}"#));
    let asked = get(&mut http);
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let questions = asked["result"]["inputRequests"].as_object().unwrap();
    assert_eq!(questions.len(), 2, "{asked}");
    assert_eq!(
        (&questions["who"]["method"], &questions["where"]["method"]),
        (&json!("elicitation/create"), &json!("roots/list"))
    );
    let handle = asked["result"]["requestState"].clone();
    let repeat = |id, name: &str, handle: &Value| {
        let responses = json!({"who": {"action": "accept", "content": {"name": "é"}}, "where": {"roots": []}});
        let params = json!({"name": name, "requestState": handle, "inputResponses": responses});
        let mut http = Http::connect(&stage.address());
        send(&mut http, &request(id, "tools/call", &params, ASKED));
        http
    };
    // Nobody can guess a state.
    let wrong = json!(format!("{}0", handle.as_str().unwrap()));
    assert_eq!(get(&mut repeat(2, "asks", &wrong))["error"]["code"], -32602);
    let mut http = repeat(3, "asks", &handle);
    assert_eq!(member(&puppet.gets("\"action\":\"accept\""), "id"), "who");
    assert_eq!(member(&puppet.gets("\"roots\":[]"), "id"), "where");
    puppet.say(&result(&id_of(&puppet, "\"asks\""), "done"));
    let answer = get(&mut http);
    assert_eq!((&answer["id"], &answer["result"]["of"]), (&json!(3), &json!("done")), "{answer}");
    // It was good once.
    assert_eq!(get(&mut repeat(4, "asks", &handle))["error"]["code"], -32602);
}

#[test]
fn calls_that_may_be_asked_something_have_servers_of_their_own_while_they_are_open() {
    let stage = Stage::open(&[]);
    let mut one = call(&stage, 1, "of-one", ASKED);
    let mut first = stage.puppet("of-one");
    let mut two = call(&stage, 1, "of-two", ASKED);
    let mut second = stage.puppet("of-two");
    assert_ne!(first.pid, second.pid);
    second.say(r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{"for":"two"}}"#);
    assert_eq!(get(&mut two)["result"]["inputRequests"]["s"]["params"]["for"], "two");
    first.say(&result(&id_of(&first, "of-one"), "one"));
    assert_eq!(get(&mut one)["result"]["of"], "one");
    // One after the other they find the same server, and what it remembers.
    let mut next = call(&stage, 1, "of-three", ASKED);
    first.say(&result(&id_of(&first, "of-three"), "three"));
    assert_eq!(get(&mut next)["result"]["of"], "three");
}

#[test]
fn both_eras_meet_at_one_port_and_no_legacy_process_is_ever_probed() {
    let stage = Stage::open_before("both", &[]);
    let mut modern = call(&stage, 1, "of-modern", "{}");
    let mut puppet = stage.puppet("of-modern");
    let mut legacy = Http::connect(&stage.address());
    legacy.begin("2025-11-25");
    legacy.send("POST", &[], &support::client::request(1, "tools/call", r#"{"name":"of-legacy"}"#));
    let mut other = stage.puppet("of-legacy");
    assert_ne!(puppet.pid, other.pid);
    other.say(&result(&json!(1), "legacy"));
    puppet.say(&result(&id_of(&puppet, "of-modern"), "modern"));
    assert_eq!(get(&mut legacy)["result"], json!({"of": "legacy"}));
    assert_eq!(get(&mut modern)["result"]["of"], "modern");
    assert!(!other.got().iter().any(|line| line.contains("discover")), "{:?}", other.got());
    let mut http = Http::connect(&stage.address());
    http.path = "/status".into();
    http.send("GET", &[("Accept", "application/json")], "");
    let status = get(&mut http);
    assert_eq!(status["servers"]["default"]["era"], "both", "{status}");
    assert_eq!((&status["clients"][0]["era"], &status["clients"][0]["bridged"]), (&json!("legacy"), &json!(false)));
}

#[test]
fn a_legacy_client_reaches_a_modern_server_over_either_transport() {
    for options in [&[][..], &["--shared"], &["--protocol", "modern"]] {
        let stage = Stage::open_before("modern", options);
        let mut http = Http::connect(&stage.address());
        let greeting = http.begin("2025-06-18");
        assert!(greeting.body.contains(r#""protocolVersion":"2025-06-18""#), "{options:?} {greeting:?}");
        let client = Client::open(&stage.address());
        assert_eq!(client.post(&support::client::initialize(1)), 202);
        let _ = client.message("serverInfo");
        http.send("POST", &[], &support::client::request(7, "tools/call", r#"{"name":"of-http"}"#));
        let mut puppet = stage.puppet("of-http");
        assert_eq!(client.post(&support::client::request(7, "tools/call", r#"{"name":"of-sse"}"#)), 202);
        let sent = member(&puppet.gets("of-http"), "params");
        assert_eq!(sent["_meta"]["io.modelcontextprotocol/protocolVersion"], REVISION, "{sent}");
        puppet.say(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","of":"sse"}}}}"#,
            id_of(&puppet, "of-sse")
        ));
        puppet.say(&result(&id_of(&puppet, "of-http"), "http"));
        assert_eq!(member(&client.message("\"of\""), "result"), json!({"of": "sse"}));
        assert_eq!(get(&mut http)["result"], json!({"of": "http"}));
    }
}

#[test]
fn an_era_can_be_pinned() {
    let stage = Stage::open_before("both", &["--client-protocol", "legacy"]);
    let mut http = Http::connect(&stage.address());
    send(&mut http, &request(1, "server/discover", &json!({}), "{}"));
    let answer = http.answer();
    assert_eq!((answer.head.status, answer.body.contains("-32601")), (400, true), "{answer:?}");
    let stage = Stage::open_before("both", &["--client-protocol", "modern"]);
    let mut http = Http::connect(&stage.address());
    let answer = http.post(&support::client::initialize(1));
    assert_eq!(answer.head.status, 400, "{answer:?}");
    assert!(answer.body.contains("-32022") && answer.body.contains(REVISION), "{answer:?}");
    assert!(Client::try_open(&stage.address()).is_err());
    // A server that could speak both is only ever spoken to as a legacy one.
    let stage = Stage::open_before("both", &["--protocol", "legacy"]);
    let _open = call(&stage, 1, "pinned", "{}");
    let puppet = stage.puppet("pinned");
    wait_until("an initialize", SOON, || puppet.got()[0].contains("\"initialize\""));
    assert!(!puppet.got().iter().any(|line| line.contains("discover")), "{:?}", puppet.got());
}
