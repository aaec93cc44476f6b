//! Transcripts: what is said, and what comes of it.
//!
//! A line is a step (`begin`, `lose`, `finish`, `join 1`, `leave 1`, `1: …` said by client 1, `S: …` said by the server,
//! `S on 5: …` said on the stream of the answer to request 5, `undelivered …`), or, after an arrow, what must come of it:
//! `-> S: …` is for the server, `-> 1: …` for client 1. The member `jsonrpc` is left out everywhere, and `~` stands for
//! `io.modelcontextprotocol`.

mod search;

use super::*;

const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };

fn message(text: &str) -> Message {
    Message::parse(text.replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).unwrap()
}

fn shown(message: &Message) -> String {
    message.text().replacen(r#""jsonrpc":"2.0","#, "", 1)
}

fn play(share: &mut Share, script: &str) {
    let mut out = Vec::new();
    let mut step = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text = line.replace('~', "io.modelcontextprotocol");
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
        line.clone_into(&mut step);
        let key = |text: &str| Key(text.parse().unwrap());
        let rest = text.split_once(": ").map_or("", |(_, rest)| rest);
        match &text.split(' ').collect::<Vec<_>>()[..] {
            ["begin"] => share.begin(&mut out),
            ["begin", "with:", ..] => share.begin_with(rest, &mut out),
            ["lose"] => share.lose("lost", &mut out),
            ["finish"] => share.finish("finished", &mut out),
            ["join", who] => share.join(key(who), Kind::Modern),
            ["leave", who] => share.leave(key(who), &mut out),
            ["undelivered", ..] => share.undelivered(&message(&text["undelivered ".len()..]), "stuck", &mut out),
            ["S:", ..] => share.from_server(message(rest), &mut out),
            ["S", "on", id, ..] => {
                let id = Id::from_json(id.trim_end_matches(':')).unwrap();
                share.from_server(message(rest).with_related(&id), &mut out);
            }
            [who, ..] => share.from_client(key(&who[..who.len() - 1]), message(rest), &mut out),
            [] => unreachable!(),
        }
    }
    assert_eq!(out, [], "this too came of '{step}'");
}

fn check(script: &str) {
    play(&mut Share::new(LIMITS), script);
}

/// A server that has begun (its `server/discover` was number 1) and three clients.
fn begun() -> Share {
    let mut share = Share::new(LIMITS);
    share.begin(&mut Vec::new());
    share.from_server(message(r#"{"id":1,"result":{"supportedVersions":["2026-07-28"]}}"#), &mut Vec::new());
    (1..=3).for_each(|key| share.join(Key(key), Kind::Modern));
    assert!(share.is_ready() && share.refusal().is_none());
    share
}

/// As [`check`], where [`begun`] is.
fn check_begun(script: &str) {
    play(&mut begun(), script);
}

const BEGIN: &str = concat!(
    r#"-> S: {"id":1,"method":"server/discover","params":{"_meta":{"~/protocolVersion":"2026-07-28","#,
    r#""~/clientInfo":{"name":"mcp-proxy","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""},"~/clientCapabilities":{}}}}"#
);

#[test]
fn clients_wait_until_the_server_is_known() {
    check(&format!(
        r#"
        join 1
        1: {{"id":"a","method":"tools/list"}}
        begin
        {BEGIN}
        join 2
        2: {{"id":"a","method":"server/discover"}}
        2: {{"method":"notifications/x","params":{{ "a":1.0 }}}}
        2: {{"id":"b","method":"never"}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":"b"}}}}
        S: {{"id":1,"result":{{"supportedVersions":["2026-07-28"]}}}}
        -> S: {{"id":2,"method":"tools/list"}}
        -> S: {{"id":3,"method":"server/discover"}}
        -> S: {{"method":"notifications/x","params":{{ "a":1.0 }}}}
        S: {{"result": {{ "n":1e999 }}, "id":3}}
        -> 2: {{"result": {{ "n":1e999 }}, "id":"a"}}
        S: {{"id":3,"result":{{}}}}
        S: {{"id":1,"result":{{}}}}
        S: {{"id":99,"result":{{}}}}
        S: {{"error":{{"code":1,"message":"no"}}}}
        S: {{"id":2,"error":{{"code":-32022,"message":"no"}}}}
        -> 1: {{"id":"a","error":{{"code":-32022,"message":"no"}}}}
        "#
    ));
}

#[test]
fn what_the_server_answers_shows_what_it_is() {
    for (answer, is_ready, refusal) in [
        (r#""result":{"supportedVersions":["2026-07-28"]}"#, true, None),
        (r#""error":{"code":-32022,"message":"no","data":{"supported":["2027-01-01"]}}"#, true, None),
        (r#""error":{"code":-32020,"message":"no"}"#, true, None),
        (r#""error":{"code":-32601,"message":"no"}"#, false, Some(-32601)),
        (r#""error":{"code":-32602,"message":"no"}"#, false, Some(-32602)),
        (r#""result":{}"#, false, Some(-32603)),
        (r#""result":{"supportedVersions":"2026-07-28"}"#, false, Some(-32603)),
    ] {
        let mut share = Share::new(LIMITS);
        assert!(share.answer().is_none());
        share.begin(&mut Vec::new());
        assert!(share.answer().is_none() && !share.is_ready());
        share.from_server(message(&format!(r#"{{"id":1,{answer}}}"#)), &mut Vec::new());
        assert_eq!(share.is_ready(), is_ready, "{answer}");
        assert_eq!(share.refusal().and_then(Message::error_code), refusal, "{answer}");
        assert!(share.answer().is_some());
    }
}

#[test]
fn the_words_of_a_client_may_begin() {
    check(
        r#"
        begin with: {"_meta":{"progressToken":"t", "~/protocolVersion":"v9","x":1.0}}
        -> S: {"id":1,"method":"server/discover","params":{"_meta":{"progressToken":1, "~/protocolVersion":"v9","x":1.0}}}
        S: {"method":"notifications/progress","params":{"progressToken":1}}
        S: {"id":1,"error":{"code":-32022,"message":"no"}}
        join 1
        1: {"id":5,"method":"tools/list"}
        -> S: {"id":2,"method":"tools/list"}
        "#,
    );
    let twice = r#"begin with: {"_meta":{"progressToken":2,"progressToken":3}}"#;
    check(&format!("{twice}\n{BEGIN}"));
}

#[test]
fn a_refusal_is_every_clients() {
    check(&format!(
        r#"
        begin
        {BEGIN}
        join 1
        1: {{"id":"a","method":"server/discover"}}
        1: {{"id":"b","method":"tools/list"}}
        S: {{"id":1,"error":{{"code":-32601,"message":"no such method"}}}}
        -> 1: {{"id":"a","error":{{"code":-32601,"message":"no such method"}}}}
        -> 1: {{"id":"b","error":{{"code":-32603,"message":"the server refused to begin: no such method"}}}}
        1: {{"id":7,"method":"server/discover"}}
        -> 1: {{"id":7,"error":{{"code":-32601,"message":"no such method"}}}}
        1: {{"method":"notifications/x"}}
        lose
        1: {{"id":8,"method":"tools/list"}}
        lose
        -> 1: {{"id":8,"error":{{"code":-32603,"message":"lost"}}}}
        "#
    ));
}

#[test]
fn ids_and_tokens_are_kept_apart() {
    check_begun(
        r#"
        1: {"method":"tools/call","id":1,"params":{"_meta":{ "progressToken" : "t" },"x":1.0}}
        -> S: {"method":"tools/call","id":2,"params":{"_meta":{ "progressToken" : 2 },"x":1.0}}
        2: {"id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"}}}
        -> S: {"id":3,"method":"tools/call","params":{"_meta":{"progressToken":3}}}
        2: {"id":1.0,"method":"tools/call","params":{"_meta":{"progressToken":null}}}
        -> S: {"id":4,"method":"tools/call","params":{"_meta":{"progressToken":null}}}
        S: {"method":"notifications/progress","params":{"progress":1.0,"progressToken":3.0}}
        -> 2: {"method":"notifications/progress","params":{"progress":1.0,"progressToken":"t"}}
        S: {"method":"notifications/progress","params":{"progressToken":2}}
        -> 1: {"method":"notifications/progress","params":{"progressToken":"t"}}
        S: {"method":"notifications/progress","params":{"progressToken":4}}
        S: {"method":"notifications/progress","params":{"progressToken":"t"}}
        S on 2: {"method":"notifications/progress","params":{"progressToken":"t"}}
        S: {"id":4,"result":{"resultType":"input_required","requestState":"s"}}
        -> 2: {"id":1.0,"result":{"resultType":"input_required","requestState":"s"}}
        S: {"id":2,"result":{"_meta":{"~/subscriptionId":2}}}
        -> 1: {"id":1,"result":{"_meta":{"~/subscriptionId":2}}}
        S: {"method":"notifications/progress","params":{"progressToken":2}}
        "#,
    );
}

#[test]
fn what_is_ambiguous_is_refused() {
    let reason = "a member of the message stands twice in it, or in another case";
    for text in [
        r#"{"id":1,"ID":2,"method":"x"}"#,
        r#"{"id":1,"method":"x","Params":{}}"#,
        r#"{"id":1,"method":"x","params":{"_meta":{},"_META":{}}}"#,
        r#"{"id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
    ] {
        check_begun(&format!("1: {text}\n-> 1: {{\"id\":1,\"error\":{{\"code\":-32600,\"message\":\"{reason}\"}}}}"));
    }
    check_begun(
        r#"
        1: {"method":"x","Method":"notifications/cancelled"}
        1: {"id":2,"result":{}}
        1: {"method":"notifications/progress","params":{"progressToken":2}}
        1: {"method":"notifications/cancelled","params":{"requestId":2,"requestId":2}}
        9: {"id":1,"method":"x"}
        "#,
    );
}

#[test]
fn subscriptions_have_the_id_that_their_client_gave() {
    check_begun(
        r#"
        1: {"id":"s","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}
        -> S: {"id":2,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}
        2: {"id":"s","method":"subscriptions/listen"}
        -> S: {"id":3,"method":"subscriptions/listen"}
        3: {"id":"s","method":"tools/list"}
        -> S: {"id":4,"method":"tools/list"}
        S: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{ "~/subscriptionId" : 3 },"x":1.0}}
        -> 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{ "~/subscriptionId" : "s" },"x":1.0}}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":2}}}
        -> 1: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":"s"}}}
        S on 3: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":3}}}
        -> 2: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":"s"}}}
        S on 3: {"method":"notifications/tools/list_changed"}
        -> 2: {"method":"notifications/tools/list_changed"}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":4}}}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":"s"}}}
        S: {"method":"notifications/tools/list_changed"}
        S: {"id":2,"result":{"resultType":"complete","_meta":{"~/subscriptionId":2,"x":1.0}}}
        -> 1: {"id":"s","result":{"resultType":"complete","_meta":{"~/subscriptionId":"s","x":1.0}}}
        S: {"method":"notifications/cancelled","params":{"requestId":2}}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"~/subscriptionId":2}}}
        S: {"id":3,"result":{}}
        -> 2: {"id":"s","result":{}}
        "#,
    );
}

#[test]
fn a_subscription_that_the_server_ends_is_ended_once() {
    check_begun(
        r#"
        1: {"id":"s","method":"subscriptions/listen"}
        -> S: {"id":2,"method":"subscriptions/listen"}
        1: {"id":"t","method":"tools/call"}
        -> S: {"id":3,"method":"tools/call"}
        S: {"method":"notifications/cancelled","params":{"requestId":3}}
        S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"r","_meta":{"~/subscriptionId":2}}}
        -> 1: {"method":"notifications/cancelled","params":{"requestId":"s","reason":"r","_meta":{"~/subscriptionId":"s"}}}
        -> 1: {"id":"s","result":{"resultType":"complete","_meta":{"~/subscriptionId":"s"}}}
        S: {"id":2,"result":{}}
        S: {"method":"notifications/cancelled","params":{"requestId":2}}
        S: {"id":3,"result":{}}
        -> 1: {"id":"t","result":{}}
        "#,
    );
}

#[test]
fn what_is_cancelled_is_not_answered() {
    check_begun(
        r#"
        1: {"id":7,"method":"tools/call"}
        -> S: {"id":2,"method":"tools/call"}
        2: {"id":7,"method":"subscriptions/listen"}
        -> S: {"id":3,"method":"subscriptions/listen"}
        1: {"method":"notifications/cancelled","params":{"requestId":2}}
        1: {"method":"notifications/cancelled","params":{"reason":"r","requestId": 7.0}}
        -> S: {"method":"notifications/cancelled","params":{"reason":"r","requestId": 2}}
        1: {"method":"notifications/cancelled","params":{"requestId":7}}
        S: {"id":2,"result":{}}
        leave 2
        -> S: {"method":"notifications/cancelled","params":{"requestId":3,"reason":"its client is gone"}}
        S: {"method":"notifications/x","params":{"_meta":{"~/subscriptionId":3}}}
        S: {"id":3,"result":{}}
        2: {"id":7,"method":"tools/call"}
        "#,
    );
}

#[test]
fn log_messages_go_to_the_only_one_who_asked() {
    let log = r#"{"method":"notifications/message","params":{"level":"info","data":1.0}}"#;
    let ask = r#""params":{"_meta":{"~/logLevel":"debug"}}"#;
    check_begun(&format!(
        r#"
        S: {log}
        1: {{"id":1,"method":"tools/call"}}
        -> S: {{"id":2,"method":"tools/call"}}
        S: {log}
        S on 2: {log}
        -> 1: {log}
        2: {{"id":1,"method":"tools/call",{ask}}}
        -> S: {{"id":3,"method":"tools/call",{ask}}}
        S: {log}
        -> 2: {log}
        2: {{"id":2,"method":"tools/call",{ask}}}
        -> S: {{"id":4,"method":"tools/call",{ask}}}
        S: {log}
        -> 2: {log}
        3: {{"id":9,"method":"subscriptions/listen",{ask}}}
        -> S: {{"id":5,"method":"subscriptions/listen",{ask}}}
        S: {log}
        -> 2: {log}
        3: {{"id":1,"method":"tools/call",{ask}}}
        -> S: {{"id":6,"method":"tools/call",{ask}}}
        S: {log}
        S on 6: {log}
        -> 3: {log}
        S on 4: {log}
        -> 2: {log}
        leave 3
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":5,"reason":"its client is gone"}}}}
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":6,"reason":"its client is gone"}}}}
        S: {log}
        S on 6: {log}
        S: {{"id":6,"result":{{}}}}
        S: {{"id":5,"result":{{}}}}
        S: {log}
        -> 2: {log}
        S: {{"method":"notifications/x"}}
        S: {{"id":2,"result":{{}}}}
        -> 1: {{"id":1,"result":{{}}}}
        S: {{"method":"notifications/x"}}
        -> 2: {{"method":"notifications/x"}}
        "#
    ));
    check_begun(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{"_meta":{{"~/logLevel":"loud"}}}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{"_meta":{{"~/logLevel":"loud"}}}}}}
        S: {log}
        "#
    ));
}

#[test]
fn a_ghost_is_given_up() {
    let mut share = begun();
    let x = r#"S: {"method":"notifications/x"}"#;
    play(
        &mut share,
        r#"
        1: {"id":1,"method":"tools/call"}
        -> S: {"id":2,"method":"tools/call"}
        leave 1
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client is gone"}}
        "#,
    );
    for number in 3..3 + GHOST_ANSWERS {
        play(
            &mut share,
            &format!(
                r#"
                2: {{"id":1,"method":"m"}}
                -> S: {{"id":{number},"method":"m"}}
                {x}
                S: {{"id":{number},"result":{{}}}}
                -> 2: {{"id":1,"result":{{}}}}
                "#
            ),
        );
    }
    let number = 3 + GHOST_ANSWERS;
    play(
        &mut share,
        &format!("2: {{\"id\":1,\"method\":\"m\"}}\n-> S: {{\"id\":{number},\"method\":\"m\"}}\n{x}\n-> 2{}", &x[1..]),
    );
    assert!(share.ghosts.is_empty());
}

#[test]
fn a_server_that_asks_is_refused() {
    check_begun(
        r#"
        1: {"id":1,"method":"tools/call"}
        -> S: {"id":2,"method":"tools/call"}
        S: {"id":"q","method":"roots/list"}
        -> S: {"id":"q","error":{"code":-32601,"message":"a server of a modern revision asks nothing by itself"}}
        "#,
    );
}

#[test]
fn a_loss_is_told_to_all_who_wait() {
    let begin = BEGIN.replace(r#""id":1"#, r#""id":4"#);
    check_begun(&format!(
        r#"
        1: {{"id":"a","method":"subscriptions/listen"}}
        -> S: {{"id":2,"method":"subscriptions/listen"}}
        2: {{"id":"b","method":"tools/call"}}
        -> S: {{"id":3,"method":"tools/call"}}
        lose
        -> 1: {{"id":"a","error":{{"code":-32603,"message":"lost"}}}}
        -> 2: {{"id":"b","error":{{"code":-32603,"message":"lost"}}}}
        S: {{"id":3,"result":{{}}}}
        2: {{"id":"c","method":"tools/call"}}
        2: {{"method":"notifications/x"}}
        begin
        {begin}
        undelivered {{"id":4,"method":"server/discover"}}
        -> 2: {{"id":"c","error":{{"code":-32603,"message":"the server refused to begin: stuck"}}}}
        "#
    ));
}

#[test]
fn an_end_that_is_ours_ends_subscriptions_well() {
    check_begun(
        r#"
        1: {"id":"a","method":"subscriptions/listen"}
        -> S: {"id":2,"method":"subscriptions/listen"}
        1: {"id":"b","method":"tools/call"}
        -> S: {"id":3,"method":"tools/call"}
        2: {"id":1.0,"method":"subscriptions/listen"}
        -> S: {"id":4,"method":"subscriptions/listen"}
        finish
        -> 1: {"id":"a","result":{"resultType":"complete","_meta":{"~/subscriptionId":"a"}}}
        -> 2: {"id":1.0,"result":{"resultType":"complete","_meta":{"~/subscriptionId":1.0}}}
        -> 1: {"id":"b","error":{"code":-32603,"message":"finished"}}
        3: {"id":"c","method":"subscriptions/listen"}
        finish
        -> 3: {"id":"c","error":{"code":-32603,"message":"finished"}}
        "#,
    );
}

#[test]
fn what_cannot_be_sent_is_answered() {
    check_begun(
        r#"
        1: {"id":"a","method":"tools/call"}
        -> S: {"id":2,"method":"tools/call"}
        undelivered {"method":"notifications/cancelled","params":{"requestId":2}}
        undelivered {"id":2,"method":"tools/call"}
        -> 1: {"id":"a","error":{"code":-32603,"message":"stuck"}}
        "#,
    );
}

#[test]
fn what_is_kept_is_bounded() {
    check(
        r#"
        join 1
        1: {"id":1,"method":"m"}
        1: {"id":2,"method":"m"}
        1: {"method":"n"}
        1: {"id":3,"method":"m"}
        1: {"method":"n"}
        1: {"id":4,"method":"m"}
        -> 1: {"id":4,"error":{"code":-32603,"message":"too many requests are unanswered (4)"}}
        "#,
    );
    let long = "x".repeat(LIMITS.waiting_bytes);
    check(&format!(
        r#"
        join 1
        1: {{"id":1,"method":"{long}"}}
        1: {{"id":2,"method":"m"}}
        -> 1: {{"id":2,"error":{{"code":-32603,"message":"too much waits for the server already"}}}}
        leave 1
        join 2
        2: {{"id":2,"method":"m"}}
        "#
    ));
    let mut share = begun();
    for n in 0..1000 {
        share.join(Key(10 + n), Kind::Modern);
        share.from_client(Key(10 + n), message(r#"{"id":1,"method":"m"}"#), &mut Vec::new());
        share.leave(Key(10 + n), &mut Vec::new());
    }
    assert_eq!(share.ghosts.len(), LIMITS.open * LINK_FACTOR);
    assert!(share.owners.is_empty());
}
