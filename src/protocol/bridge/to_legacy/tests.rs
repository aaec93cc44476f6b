//! Transcripts: what is said, and what comes of it.
//!
//! A line is a step (`begin`, `lose`, `finish`, `join 1`, `leave 1`, `tick 5`, `1: …` said by client 1, `S: …` said by
//! the server, `S for 2: …` on the stream of request 2, `undelivered …`), or, after an arrow, what must come of it:
//! `-> S: …` is for the server, `-> 1: …` for client 1. The member `jsonrpc` is left out everywhere. `TICKET n` stands
//! for the handle with that number, `$META` for the `_meta` that a client sends, with nothing, everything or log levels.

mod asking;
mod listening;
mod search;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };
const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"context":{},"tools":{}}}"#;

fn settings(one_client: bool) -> Settings {
    Settings {
        client_info: r#"{"name":"us"}"#.to_owned(),
        capabilities: ALL.to_owned(),
        one_client,
        is_remote: false,
        most_parked: 3,
        parked_bytes: 2000,
        parked_age: Duration::from_mins(1),
        gather: Duration::ZERO,
    }
}

fn new() -> ToLegacy {
    ToLegacy::new(LIMITS, settings(false), SECRET)
}

fn message(text: &str) -> Message {
    Message::parse(text.replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).unwrap()
}

fn shown(message: &Message) -> String {
    message.text().replacen(r#""jsonrpc":"2.0","#, "", 1)
}

/// The `_meta` of a client with these capabilities, and what else it holds.
fn meta_of(capabilities: &str, more: &str) -> String {
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{more}}}"#
    )
}

/// A line without its abbreviations.
fn spelled_out(hub: &ToLegacy, line: &str) -> String {
    let log = |level: &str| meta_of("{}", &format!(r#","io.modelcontextprotocol/logLevel":"{level}""#));
    let mut text = line.to_owned();
    for n in (1..60).rev() {
        text = text.replace(&format!("TICKET {n}"), &hub.tickets.make(n));
    }
    text.replace("$ALL", &meta_of(ALL, ""))
        .replace("$TOKEN", &meta_of(ALL, r#","progressToken":"t""#))
        .replace("$NONE", &meta_of("{}", ""))
        .replace("$DEBUG", &log("debug"))
        .replace("$ERROR", &log("error"))
        .replace("$LOUD", &log("loud"))
        .replace("$INFO", r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#)
        .replace("$SUB", "io.modelcontextprotocol/subscriptionId")
}

fn play(hub: &mut ToLegacy, script: &str) {
    let mut out = Vec::new();
    let mut step = "";
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text = spelled_out(hub, line);
        if let Some(wanted) = text.strip_prefix("-> ") {
            assert!(!out.is_empty(), "nothing came of '{step}', but this should have: {wanted}");
            let found = match out.remove(0) {
                Action::ToServer(message) => format!("S: {}", shown(&message)),
                Action::ToClient(key, message) => format!("{}: {}", key.0, shown(&message)),
            };
            assert_eq!(found, wanted, "after '{step}'");
            continue;
        }
        assert_eq!(out, [], "this too came of '{step}'");
        step = line;
        do_step(hub, &text, &mut out);
    }
    assert_eq!(out, [], "this too came of '{step}'");
}

fn do_step(hub: &mut ToLegacy, text: &str, out: &mut Vec<Action>) {
    let key = |text: &str| Key(text.parse().unwrap());
    let words: Vec<_> = text.split(' ').collect();
    match &words[..] {
        ["begin"] => hub.begin(out),
        ["lose"] => hub.lose("lost", out),
        ["finish"] => hub.finish("over", out),
        ["join", who] => hub.join(key(who), Kind::Modern),
        ["leave", who] => hub.leave(key(who), out),
        ["tick", now] => drop(hub.tick(Duration::from_secs(now.parse().unwrap()), out)),
        ["undelivered", ..] => hub.undelivered(&message(&text["undelivered ".len()..]), "stuck", out),
        ["S:", ..] => hub.from_server(message(&text[3..]), out),
        ["S", "for", number, ..] => {
            let id = Id::from_json(number.trim_end_matches(':')).unwrap();
            let start = text.find('{').unwrap();
            hub.from_server(message(&text[start..]).with_related(&id), out);
        }
        [who, ..] => hub.from_client(key(&who[..who.len() - 1]), message(&text[who.len()..]), out),
        [] => unreachable!(),
    }
}

/// A server that has begun (its `initialize` was number 1), can do everything, and is called `s`; and three clients.
fn begun_with(settings: Settings, capabilities: &str) -> ToLegacy {
    let mut hub = ToLegacy::new(LIMITS, settings, SECRET);
    let mut out = Vec::new();
    hub.begin(&mut out);
    hub.from_server(
        message(&format!(
            r#"{{"id":1,"result":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"s"}}}}}}"#
        )),
        &mut out,
    );
    (1..=3).for_each(|key| hub.join(Key(key), Kind::Modern));
    assert!(hub.is_ready());
    hub
}

const SERVER: &str =
    r#"{"logging":{},"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true,"listChanged":true}}"#;

fn begun() -> ToLegacy {
    begun_with(settings(false), SERVER)
}

fn check(script: &str) {
    play(&mut begun(), script);
}

fn check_one_client(script: &str) {
    play(&mut begun_with(settings(true), SERVER), script);
}

const BEGIN: &str = concat!(
    r#"-> S: {"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":"#,
    r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"context":{},"tools":{}}},"#,
    r#""clientInfo":{"name":"us"}}}"#
);

#[test]
fn clients_wait_until_the_server_has_begun() {
    play(
        &mut new(),
        &format!(
            r#"
            join 1
            1: {{"id":"a","method":"tools/list","params":{{$NONE}}}}
            begin
            {BEGIN}
            join 2
            1: {{"method":"notifications/initialized"}}
            1: {{"method":"notifications/roots/list_changed"}}
            1: {{"method":"x/y","params":{{$NONE}}}}
            2: {{"id":"a","method":"server/discover","params":{{$NONE}}}}
            S: {{"id":7,"method":"ping"}}
            -> S: {{"id":7,"result":{{}}}}
            S: {{"id":8,"method":"roots/list"}}
            -> S: {{"id":8,"error":{{"code":-32603,"message":"there is no client to ask yet"}}}}
            S: {{"id":1.0,"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}},"tasks":{{}}}},"instructions":"\u0061"}}}}
            -> S: {{"method":"notifications/initialized"}}
            -> S: {{"id":2,"method":"tools/list","params":{{}}}}
            -> S: {{"method":"x/y","params":{{}}}}
            -> 2: {{"id":"a","result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"instructions":"\u0061","ttlMs":0,"cacheScope":"private"}}}}
            S: {{"id":2,"result":{{}}}}
            -> 1: {{"id":"a","result":{{"resultType":"complete","ttlMs":0,"cacheScope":"private"}}}}
            "#
        ),
    );
}

#[test]
fn a_refusal_to_begin_is_every_clients() {
    let mut hub = new();
    play(
        &mut hub,
        &format!(
            r#"
            begin
            {BEGIN}
            join 1
            1: {{"id":1,"method":"m"}}
            1: {{"method":"n"}}
            S: {{"id":1,"error":{{"code":-7,"message":"no"}}}}
            -> 1: {{"id":1,"error":{{"code":-32603,"message":"the server refused to begin: no"}}}}
            1: {{"id":2,"method":"m"}}
            -> 1: {{"id":2,"error":{{"code":-32603,"message":"the server refused to begin: no"}}}}
            "#
        ),
    );
    assert_eq!(hub.refusal().and_then(Message::error_code), Some(-7));
    play(
        &mut hub,
        r#"
        lose
        1: {"id":3,"method":"m"}
        lose
        -> 1: {"id":3,"error":{"code":-32603,"message":"lost"}}
        "#,
    );
}

#[test]
fn what_waits_is_bounded_and_can_be_cancelled() {
    play(
        &mut new(),
        r#"
        join 1
        join 2
        1: {"id":1,"method":"m"}
        1: {"id":2,"method":"m"}
        1: {"id":3,"method":"m"}
        1: {"id":4,"method":"m"}
        1: {"id":5,"method":"m"}
        -> 1: {"id":5,"error":{"code":-32603,"message":"too many requests are unanswered (4)"}}
        2: {"id":1,"method":"m"}
        1: {"method":"notifications/cancelled","params":{"requestId":1.0}}
        1: {"method":"notifications/cancelled","params":{"requestId":9}}
        leave 2
        lose
        -> 1: {"id":2,"error":{"code":-32603,"message":"lost"}}
        -> 1: {"id":3,"error":{"code":-32603,"message":"lost"}}
        -> 1: {"id":4,"error":{"code":-32603,"message":"lost"}}
        "#,
    );
    let large = "x".repeat(3000);
    play(
        &mut new(),
        &format!(
            r#"
            join 1
            join 2
            1: {{"id":1,"method":"{large}"}}
            2: {{"id":1,"method":"{large}"}}
            -> 2: {{"id":1,"error":{{"code":-32603,"message":"too much waits for the server already"}}}}
            leave 1
            2: {{"id":1,"method":"{large}{large}"}}
            "#
        ),
    );
}

#[test]
fn a_call_crosses_and_its_id_and_token_are_restored() {
    check(
        r#"
        1: {"id":"\u0061","method":"tools/call","params":{"name":"x","arguments":{"a":1.0, "b":1e999},$TOKEN,"requestState2":1}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x","arguments":{"a":1.0, "b":1e999},"_meta":{"progressToken":2},"requestState2":1}}
        2: {"id":"\u0061","method":"unknown/one","params":{"requestState":7,$NONE}}
        -> S: {"id":3,"method":"unknown/one","params":{"requestState":7}}
        S: {"method":"notifications/progress","params":{"progressToken":2.0,"progress":1}}
        -> 1: {"method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        S: {"method":"notifications/progress","params":{"progressToken":3,"progress":1}}
        S: {"method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        S: {"id":3,"error":{"code":-32601,"message":"m"}}
        -> 2: {"id":"\u0061","error":{"code":-32601,"message":"m"}}
        S: {"id":2.0,"result":{"content":[],"isError":true}}
        -> 1: {"id":"\u0061","result":{"resultType":"complete",$INFO,"content":[],"isError":true}}
        S: {"id":2,"result":{}}
        S: {"method":"notifications/progress","params":{"progressToken":2,"progress":1}}
        1: {"id":1,"method":"resources/read","params":{"uri":"u",$NONE}}
        -> S: {"id":4,"method":"resources/read","params":{"uri":"u"}}
        S: {"id":4,"error":{"code":-32002,"message":"m","data":{"uri":"u"}}}
        -> 1: {"id":1,"error":{"code":-32602,"message":"m","data":{"uri":"u"}}}
        "#,
    );
}

#[test]
fn what_the_modern_era_does_not_have_is_not_passed_on() {
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/get",
        "tasks/new",
    ] {
        check(&format!(
            r#"
            1: {{"id":1,"method":"{method}","params":{{$NONE}}}}
            -> 1: {{"id":1,"error":{{"code":-32601,"message":"the method '{method}' does not exist in 2026-07-28"}}}}
            "#
        ));
    }
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{"task":{"ttl":1},"name":"x",$NONE,"inputResponses":{}}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x"}}
        S: {"method":"notifications/tasks/status","params":{"taskId":"x"}}
        S: {"method":"notifications/elicitation/complete","params":{"elicitationId":"x"}}
        S: {"id":9,"method":"tasks/list"}
        -> S: {"id":9,"error":{"code":-32601,"message":"clients cannot be asked this"}}
        1: {"id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}}
        -> 1: {"id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2027-01-01"}}}
        "#,
    );
}

#[test]
fn nobody_names_what_is_anothers() {
    let twice = r#"{"code":-32600,"message":"a member of the message stands twice in it, or in another case"}"#;
    check(&format!(
        r#"
        1: {{"id":1,"method":"m","params":{{"_meta":{{"progressToken":1}}}}}}
        -> S: {{"id":2,"method":"m","params":{{"_meta":{{"progressToken":2}}}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":1}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":2}}}}
        2: {{"id":1,"method":"m"}}
        -> S: {{"id":3,"method":"m"}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":2,"requestId":1}}}}
        2: {{"method":"notifications/cancelled"}}
        2: {{"id":7,"method":"m","params":{{"_meta":{{"progressToken":2,"progressToken":1}}}}}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":7,"method":"m","params":{{"_Meta":{{"progressToken":2}}}}}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":7,"method":"tools/call","params":{{"requestState":"a","RequestState":"b"}}}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":7,"ID":2,"method":"m"}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":2,"result":{{}}}}
        2: {{"method":"notifications/progress","params":{{"progressToken":2,"progress":1}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":1.0,"reason":"r",$NONE}}}}
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":3,"reason":"r"}}}}
        S: {{"id":3,"result":{{}}}}
        9: {{"id":1,"method":"m"}}
        S: {{"id":2,"result":7}}
        -> 1: {{"id":1,"result":7}}
        "#
    ));
}

#[test]
fn who_leaves_cancels_and_hears_nothing_more() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{$TOKEN}}
        -> S: {"id":2,"method":"tools/call","params":{"_meta":{"progressToken":2}}}
        leave 1
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client is gone"}}
        S: {"method":"notifications/progress","params":{"progressToken":2,"progress":1}}
        2: {"id":1,"method":"tools/call","params":{$ALL}}
        -> S: {"id":3,"method":"tools/call","params":{}}
        S: {"id":"q","method":"roots/list"}
        -> S: {"id":"q","error":{"code":-32603,"message":"several clients share this server, and nobody can tell which of them is asked"}}
        S: {"id":2,"result":{}}
        S: {"id":"q","method":"roots/list"}
        -> 2: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q4":{"method":"roots/list"}},"requestState":"TICKET 5",$INFO}}
        "#,
    );
}

#[test]
fn what_could_not_be_sent_is_answered() {
    check(
        r#"
        1: {"id":"a","method":"m","params":{}}
        -> S: {"id":2,"method":"m","params":{}}
        undelivered {"id":2,"method":"m","params":{}}
        -> 1: {"id":"a","error":{"code":-32603,"message":"stuck"}}
        undelivered {"id":2,"method":"m","params":{}}
        undelivered {"id":2,"result":{}}
        undelivered {"method":"n"}
        "#,
    );
    play(
        &mut new(),
        &format!(
            r#"
            join 1
            1: {{"id":5,"method":"m"}}
            begin
            {BEGIN}
            undelivered {{"id":1,"method":"initialize"}}
            -> 1: {{"id":5,"error":{{"code":-32603,"message":"the server refused to begin: stuck"}}}}
            "#
        ),
    );
}

#[test]
fn a_request_hears_the_log_from_its_level_on() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{$ERROR}}
        -> S: {"id":3,"method":"logging/setLevel","params":{"level":"error"}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        S: {"id":3,"result":{}}
        S: {"method":"notifications/message","params":{"level":"warning","data":1}}
        S: {"method":"notifications/message","params":{"level":"loud","data":1}}
        S: {"method":"notifications/message","params":{"level":"error","data":1.0}}
        -> 1: {"method":"notifications/message","params":{"level":"error","data":1.0}}
        2: {"id":1,"method":"tools/list","params":{$NONE}}
        -> S: {"id":4,"method":"tools/list","params":{}}
        S: {"method":"notifications/message","params":{"level":"error","data":2}}
        -> 1: {"method":"notifications/message","params":{"level":"error","data":2}}
        3: {"id":1,"method":"tools/call","params":{$DEBUG}}
        -> S: {"id":6,"method":"logging/setLevel","params":{"level":"debug"}}
        -> S: {"id":5,"method":"tools/call","params":{}}
        S: {"method":"notifications/message","params":{"level":"error","data":3}}
        S for 2: {"method":"notifications/message","params":{"level":"debug","data":3}}
        S for 5: {"method":"notifications/message","params":{"level":"debug","data":3}}
        -> 3: {"method":"notifications/message","params":{"level":"debug","data":3}}
        S for 4: {"method":"notifications/message","params":{"level":"error","data":3}}
        S: {"id":6,"error":{"code":1,"message":"m"}}
        S: {"id":5,"result":7}
        -> 3: {"id":1,"result":7}
        3: {"id":2,"method":"m","params":{$ERROR}}
        -> S: {"id":8,"method":"logging/setLevel","params":{"level":"error"}}
        -> S: {"id":7,"method":"m","params":{}}
        3: {"id":3,"method":"m","params":{$ERROR}}
        -> S: {"id":9,"method":"m","params":{}}
        3: {"id":4,"method":"m","params":{$LOUD}}
        -> 3: {"id":4,"error":{"code":-32602,"message":"io.modelcontextprotocol/logLevel names no level"}}
        "#,
    );
    play(
        &mut begun_with(settings(false), "{}"),
        r#"
        1: {"id":1,"method":"tools/call","params":{$ERROR}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        leave 1
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client is gone"}}
        2: {"id":1,"method":"tools/call","params":{$ERROR}}
        -> S: {"id":3,"method":"tools/call","params":{}}
        S: {"method":"notifications/message","params":{"level":"error","data":1}}
        S: {"id":2,"result":{}}
        S: {"method":"notifications/message","params":{"level":"error","data":1}}
        -> 2: {"method":"notifications/message","params":{"level":"error","data":1}}
        "#,
    );
    check_one_client(
        r#"
        1: {"id":1,"method":"tools/call","params":{$ERROR}}
        -> S: {"id":3,"method":"logging/setLevel","params":{"level":"error"}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        1: {"id":2,"method":"tools/call","params":{$DEBUG}}
        -> S: {"id":5,"method":"logging/setLevel","params":{"level":"debug"}}
        -> S: {"id":4,"method":"tools/call","params":{}}
        S: {"method":"notifications/message","params":{"level":"info","data":1}}
        -> 1: {"method":"notifications/message","params":{"level":"info","data":1}}
        "#,
    );
}

#[test]
fn an_unknown_notification_goes_where_it_is_known_to_belong() {
    check(
        r#"
        1: {"id":1,"method":"m","params":{}}
        -> S: {"id":2,"method":"m","params":{}}
        S: {"method":"x/y","params":{"a":1.0}}
        S for 2: {"method":"x/y","params":{"a":1.0}}
        -> 1: {"method":"x/y","params":{"a":1.0}}
        S for 9: {"method":"x/y","params":{"a":1.0}}
        "#,
    );
}
