//! Transcripts: what is said, and what comes of it.
//!
//! A line is a step (`begin`, `lose`, `join 1`, `join 1 stateless`, `leave 1`, `1: …` said by client 1, `S: …` said by
//! the server, `undelivered …`), or, after an arrow, what must come of it: `-> S: …` is for the server, `-> 1: …` for
//! client 1. The member `jsonrpc` is left out everywhere.

mod search;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };

fn message(text: &str) -> Message {
    Message::parse(text.replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).unwrap()
}

fn shown(message: &Message) -> String {
    message.text().replacen(r#""jsonrpc":"2.0","#, "", 1)
}

/// Plays a script; `TICKET n` stands for the ticket with that number.
fn play(share: &mut Share, script: &str) {
    let mut out = Vec::new();
    let mut step = "";
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text =
            (1..40).rev().fold(line.to_owned(), |text, n| text.replace(&format!("TICKET {n}"), &share.tickets.make(n)));
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
        let key = |text: &str| Key(text.parse().unwrap());
        let words: Vec<_> = text.split(' ').collect();
        match &words[..] {
            ["begin"] => share.begin(&mut out),
            ["lose"] => share.lose("lost", &mut out),
            ["join", who] => share.join(key(who), Kind::Session),
            ["join", who, "stateless"] => share.join(key(who), Kind::Stateless),
            ["leave", who] => share.leave(key(who), &mut out),
            ["undelivered", ..] => share.undelivered(&message(&text["undelivered ".len()..]), "stuck", &mut out),
            ["S:", ..] => share.from_server(message(&text[3..]), &mut out),
            [who, ..] => share.from_client(key(&who[..who.len() - 1]), message(&text[who.len()..]), &mut out),
            [] => unreachable!(),
        }
    }
    assert_eq!(out, [], "this too came of '{step}'");
}

fn check(script: &str) {
    play(&mut Share::new(LIMITS, SECRET), script);
}

/// A server that has begun (its `initialize` was number 1) and three sessions that have, the first with every
/// capability, the second with roots, the third with none.
fn begun() -> Share {
    let mut share = Share::new(LIMITS, SECRET);
    let mut out = Vec::new();
    share.begin(&mut out);
    share.from_server(message(r#"{"id":1,"result":{"protocolVersion":"2025-11-25"}}"#), &mut out);
    let declared =
        [r#"{"roots":{},"sampling":{},"elicitation":{},"tasks":{}}"#, r#"{"roots":{},"sampling":null}"#, "{}"];
    for (key, declared) in (1..).zip(declared) {
        share.join(Key(key), Kind::Session);
        let initialize = format!(r#"{{"id":0,"method":"initialize","params":{{"capabilities":{declared}}}}}"#);
        share.from_client(Key(key), message(&initialize), &mut out);
    }
    assert!(share.is_ready());
    share
}

/// As [`check`], where [`begun`] is.
fn check_begun(script: &str) {
    play(&mut begun(), script);
}

const BEGIN: &str = concat!(
    r#"-> S: {"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}},"elicitation":{"form":{},"url":{}}},"#,
    r#""clientInfo":{"name":"mcp-proxy","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}}"#
);

#[test]
fn clients_wait_until_the_server_has_begun() {
    check(&format!(
        r#"
        join 1
        1: {{"id":"a","method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{}}}}}}
        begin
        {BEGIN}
        join 2
        2: {{"id":"a","method":"tools/list"}}
        1: {{"method":"notifications/initialized"}}
        1: {{"method":"notifications/roots/list_changed"}}
        S: {{"id":7,"method":"ping"}}
        -> S: {{"id":7,"result":{{}}}}
        S: {{"id":7,"method":"roots/list"}}
        -> S: {{"id":7,"error":{{"code":-32603,"message":"several clients share this server, and nobody can tell which of them is asked"}}}}
        S: {{"result": {{ "protocolVersion" : "2025-11-25","x":[1.0]}}, "id":1}}
        -> S: {{"method":"notifications/initialized"}}
        -> 1: {{"result": {{ "protocolVersion" : "2025-06-18","x":[1.0]}}, "id":"a"}}
        -> S: {{"id":2,"method":"tools/list"}}
        -> S: {{"method":"notifications/roots/list_changed"}}
        S: {{"id":2,"result":{{}}}}
        -> 2: {{"id":"a","result":{{}}}}
        "#
    ));
}

#[test]
fn each_client_is_promised_what_it_and_the_server_speak() {
    for (server, client, wanted) in [
        ("2025-11-25", r#""2024-11-05""#, "2024-11-05"),
        ("2025-11-25", r#""2025-03-26""#, "2025-03-26"),
        ("2025-11-25", r#""2025-11-25""#, "2025-11-25"),
        ("2025-11-25", r#""2026-07-28""#, "2025-11-25"),
        ("2025-11-25", r#""2025-01-01""#, "2025-11-25"),
        ("2025-11-25", "7", "2025-11-25"),
        ("2025-03-26", r#""2025-06-18""#, "2025-03-26"),
        ("2025-03-26", r#""2024-11-05""#, "2024-11-05"),
        ("2027-01-01", r#""2025-06-18""#, "2025-06-18"),
    ] {
        check(&format!(
            r#"
            begin
            {BEGIN}
            S: {{"id":1,"result":{{"protocolVersion":"{server}"}}}}
            -> S: {{"method":"notifications/initialized"}}
            join 1
            1: {{"id":5,"method":"initialize","params":{{"protocolVersion":{client}}}}}
            -> 1: {{"id":5,"result":{{"protocolVersion":"{wanted}"}}}}
            "#
        ));
    }
}

#[test]
fn a_refusal_to_begin_is_every_clients() {
    check(&format!(
        r#"
        begin
        {BEGIN}
        join 1
        1: {{"id":1,"method":"initialize"}}
        1: {{"id":2,"method":"tools/list"}}
        1: {{"method":"notifications/roots/list_changed"}}
        S: {{"id":1,"error":{{"code":-7,"message":"no"}}}}
        -> 1: {{"id":1,"error":{{"code":-7,"message":"no"}}}}
        -> 1: {{"id":2,"error":{{"code":-32603,"message":"the server refused to begin"}}}}
        join 2
        2: {{"id":"x","method":"initialize"}}
        -> 2: {{"id":"x","error":{{"code":-7,"message":"no"}}}}
        lose
        2: {{"id":"y","method":"initialize"}}
        lose
        -> 2: {{"id":"y","error":{{"code":-32603,"message":"lost"}}}}
        "#
    ));
}

#[test]
fn what_waits_is_bounded_and_can_be_cancelled() {
    check(
        r#"
        join 1
        join 2
        1: {"id":1,"method":"m"}
        1: {"id":2,"method":"m"}
        1: {"id":3,"method":"m"}
        1: {"id":4,"method":"m"}
        1: {"id":5,"method":"m"}
        -> 1: {"id":5,"error":{"code":-32603,"message":"too many requests are unanswered (4)"}}
        1: {"method":"n"}
        2: {"id":1,"method":"m"}
        1: {"method":"notifications/cancelled","params":{"requestId":1.0}}
        1: {"method":"notifications/cancelled","params":{"requestId":9}}
        leave 2
        1: {"id":6,"method":"m"}
        lose
        -> 1: {"id":2,"error":{"code":-32603,"message":"lost"}}
        -> 1: {"id":3,"error":{"code":-32603,"message":"lost"}}
        -> 1: {"id":4,"error":{"code":-32603,"message":"lost"}}
        -> 1: {"id":6,"error":{"code":-32603,"message":"lost"}}
        "#,
    );
    let large = "x".repeat(3000);
    check(&format!(
        r#"
        join 1
        join 2
        1: {{"id":1,"method":"{large}"}}
        2: {{"id":1,"method":"{large}"}}
        -> 2: {{"id":1,"error":{{"code":-32603,"message":"too much waits for the server already"}}}}
        leave 1
        2: {{"id":1,"method":"{large}{large}"}}
        "#
    ));
}

#[test]
fn ids_and_tokens_are_restored_as_they_were_written() {
    check_begun(
        r#"
        1: {"id":"\u0061","method":"m","params":{"_meta":{"progressToken":"t", "x":1 } }}
        -> S: {"id":2,"method":"m","params":{"_meta":{"progressToken":2, "x":1 } }}
        2: {"params":{"_meta":{"progressToken":1e0}},"method":"m", "id":"\u0061"}
        -> S: {"params":{"_meta":{"progressToken":3}},"method":"m", "id":3}
        3: {"id":1152921504606846977,"method":"m"}
        -> S: {"id":4,"method":"m"}
        S: {"method":"notifications/progress","params":{"progress":1,"progressToken":3}}
        -> 2: {"method":"notifications/progress","params":{"progress":1,"progressToken":1e0}}
        S: {"method":"notifications/progress","params":{"progress":1,"progressToken":2}}
        -> 1: {"method":"notifications/progress","params":{"progress":1,"progressToken":"t"}}
        S: {"method":"notifications/progress","params":{"progress":1,"progressToken":4}}
        S: {"method":"notifications/progress","params":{"progress":1,"progressToken":"t"}}
        S: {"id":3.0,"result":{"id":3}}
        -> 2: {"id":"\u0061","result":{"id":3}}
        S: {"id":4e0,"error":{"code":1,"message":"m"}}
        -> 3: {"id":1152921504606846977,"error":{"code":1,"message":"m"}}
        S: {"id":"2","result":{}}
        S: {"id":2,"result":{}}
        -> 1: {"id":"\u0061","result":{}}
        S: {"id":2,"result":{}}
        S: {"id":9,"result":{}}
        S: {"method":"notifications/progress","params":{"progress":1,"progressToken":2}}
        "#,
    );
}

#[test]
fn nobody_names_what_is_anothers() {
    let twice = r#"{"code":-32600,"message":"a member of the message stands twice in it, or in another case"}"#;
    check_begun(&format!(
        r#"
        1: {{"id":1,"method":"m","params":{{"_meta":{{"progressToken":1}}}}}}
        -> S: {{"id":2,"method":"m","params":{{"_meta":{{"progressToken":2}}}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":1}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":2}}}}
        2: {{"id":1,"method":"m"}}
        -> S: {{"id":3,"method":"m"}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":2,"requestId":1}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestID":2,"requestId":1}}}}
        2: {{"method":"notifications/cancelled","params":{{"RequestId":2}}}}
        2: {{"method":"notifications/cancelled"}}
        2: {{"id":7,"method":"m","params":{{"_meta":{{"progressToken":2,"progressToken":1}}}}}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":7,"method":"m","params":{{"_Meta":{{"progressToken":2}}}}}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"id":7,"ID":2,"method":"m"}}
        -> 2: {{"id":7,"error":{twice}}}
        2: {{"method":"n","Id":2}}
        2: {{"id":2,"result":{{}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":1.0,"reason":"r"}}}}
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":3,"reason":"r"}}}}
        2: {{"method":"notifications/cancelled","params":{{"requestId":1}}}}
        S: {{"id":3,"result":{{}}}}
        -> 2: {{"id":1,"result":{{}}}}
        9: {{"id":1,"method":"m"}}
        "#
    ));
}

#[test]
fn requests_of_one_client_are_bounded() {
    check_begun(
        r#"
        1: {"id":1,"method":"m"}
        -> S: {"id":2,"method":"m"}
        1: {"id":1,"method":"m"}
        -> S: {"id":3,"method":"m"}
        1: {"id":1,"method":"m"}
        -> S: {"id":4,"method":"m"}
        1: {"id":1,"method":"m"}
        -> S: {"id":5,"method":"m"}
        1: {"id":1,"method":"m"}
        -> 1: {"id":1,"error":{"code":-32603,"message":"too many requests are unanswered (4)"}}
        2: {"id":1,"method":"m"}
        -> S: {"id":6,"method":"m"}
        1: {"method":"notifications/cancelled","params":{"requestId":1}}
        -> S: {"method":"notifications/cancelled","params":{"requestId":2}}
        1: {"id":2,"method":"m"}
        -> S: {"id":7,"method":"m"}
        "#,
    );
}

#[test]
fn what_could_not_be_sent_is_answered() {
    check_begun(
        r#"
        1: {"id":"a","method":"resources/subscribe","params":{"uri":"u"}}
        -> S: {"id":2,"method":"resources/subscribe","params":{"uri":"u"}}
        undelivered {"id":2,"method":"resources/subscribe","params":{"uri":"u"}}
        -> 1: {"id":"a","error":{"code":-32603,"message":"stuck"}}
        undelivered {"id":2,"method":"resources/subscribe","params":{"uri":"u"}}
        undelivered {"id":2,"result":{}}
        undelivered {"method":"n"}
        S: {"method":"notifications/resources/updated","params":{"uri":"u"}}
        "#,
    );
    check(&format!(
        r#"
        join 1
        1: {{"id":5,"method":"initialize"}}
        begin
        {BEGIN}
        undelivered {{"id":1,"method":"initialize"}}
        -> 1: {{"id":5,"error":{{"code":-32603,"message":"stuck"}}}}
        "#
    ));
}

#[test]
fn a_question_finds_its_client_and_its_answer_the_server() {
    check_begun(
        r#"
        1: {"id":1,"method":"m"}
        -> S: {"id":2,"method":"m"}
        S: {"id":"q","method":"sampling/createMessage","params":{"_meta":{"progressToken":"p"}}}
        -> 1: {"id":3,"method":"sampling/createMessage","params":{"_meta":{"progressToken":3}}}
        2: {"id":3,"result":"forged"}
        2: {"method":"notifications/progress","params":{"progressToken":3}}
        1: {"method":"notifications/progress","params":{"progressToken":"p"}}
        1: {"method":"notifications/progress","params":{"progressToken":3.0}}
        -> S: {"method":"notifications/progress","params":{"progressToken":"p"}}
        1: {"id":"q","result":{}}
        1: {"id":3.0,"result":{}}
        -> S: {"id":"q","result":{}}
        1: {"id":3,"result":{}}
        S: {"id":"q","method":"elicitation/create"}
        -> 1: {"id":4,"method":"elicitation/create"}
        S: {"method":"notifications/cancelled","params":{"requestId":"other"}}
        S: {"method":"notifications/cancelled","params":{"requestId":"q"}}
        -> 1: {"method":"notifications/cancelled","params":{"requestId":4}}
        1: {"id":4,"result":{}}
        "#,
    );
}

#[test]
fn what_a_client_cannot_do_it_is_not_asked() {
    let lacks =
        |name: &str| format!(r#"{{"code":-32601,"message":"the client did not declare the capability '{name}'"}}"#);
    check_begun(&format!(
        r#"
        2: {{"id":1,"method":"m"}}
        -> S: {{"id":2,"method":"m"}}
        S: {{"id":7,"method":"roots/list"}}
        -> 2: {{"id":3,"method":"roots/list"}}
        S: {{"id":8,"method":"sampling/createMessage"}}
        -> S: {{"id":8,"error":{}}}
        S: {{"id":9,"method":"elicitation/create"}}
        -> S: {{"id":9,"error":{}}}
        S: {{"id":9,"method":"something/else"}}
        -> 2: {{"id":4,"method":"something/else"}}
        "#,
        lacks("sampling"),
        lacks("elicitation")
    ));
}

#[test]
fn a_question_of_which_nobody_can_tell_whose_it_is_goes_to_nobody() {
    let shared =
        r#"{"code":-32603,"message":"several clients share this server, and nobody can tell which of them is asked"}"#;
    let nobody = r#"{"code":-32603,"message":"there is no client to ask"}"#;
    check_begun(&format!(
        r#"
        S: {{"id":7,"method":"roots/list"}}
        -> S: {{"id":7,"error":{shared}}}
        S: {{"id":7,"method":"ping"}}
        -> S: {{"id":7,"result":{{}}}}
        1: {{"id":1,"method":"m"}}
        -> S: {{"id":2,"method":"m"}}
        2: {{"id":1,"method":"m"}}
        -> S: {{"id":3,"method":"m"}}
        S: {{"id":7,"method":"roots/list"}}
        -> S: {{"id":7,"error":{shared}}}
        S: {{"id":2,"result":{{}}}}
        -> 1: {{"id":1,"result":{{}}}}
        S: {{"id":7,"method":"roots/list"}}
        -> 2: {{"id":4,"method":"roots/list"}}
        leave 2
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":3,"reason":"its client is gone"}}}}
        -> S: {{"id":7,"error":{{"code":-32603,"message":"the client that was asked is gone"}}}}
        S: {{"id":3,"result":{{}}}}
        leave 3
        S: {{"id":8,"method":"roots/list"}}
        -> 1: {{"id":5,"method":"roots/list"}}
        leave 1
        -> S: {{"id":8,"error":{{"code":-32603,"message":"the client that was asked is gone"}}}}
        S: {{"id":9,"method":"roots/list"}}
        -> S: {{"id":9,"error":{nobody}}}
        "#
    ));
}

#[test]
fn a_request_that_was_given_up_may_still_ask() {
    let mut share = begun();
    let shared =
        r#"{"code":-32603,"message":"several clients share this server, and nobody can tell which of them is asked"}"#;
    play(
        &mut share,
        &format!(
            r#"
            1: {{"id":1,"method":"m"}}
            -> S: {{"id":2,"method":"m"}}
            1: {{"method":"notifications/cancelled","params":{{"requestId":1}}}}
            -> S: {{"method":"notifications/cancelled","params":{{"requestId":2}}}}
            S: {{"id":7,"method":"roots/list"}}
            -> 1: {{"id":3,"method":"roots/list"}}
            2: {{"id":1,"method":"m"}}
            -> S: {{"id":4,"method":"m"}}
            S: {{"id":8,"method":"roots/list"}}
            -> S: {{"id":8,"error":{shared}}}
            leave 1
            -> S: {{"id":7,"error":{{"code":-32603,"message":"the client that was asked is gone"}}}}
            S: {{"id":8,"method":"roots/list"}}
            -> S: {{"id":8,"error":{shared}}}
            "#
        ),
    );
    for n in 0..GHOST_ANSWERS {
        let id = n + 5;
        play(
            &mut share,
            &format!(
                r#"
                3: {{"id":1,"method":"m"}}
                -> S: {{"id":{id},"method":"m"}}
                S: {{"id":8,"method":"roots/list"}}
                -> S: {{"id":8,"error":{shared}}}
                S: {{"id":{id},"result":{{}}}}
                -> 3: {{"id":1,"result":{{}}}}
                "#
            ),
        );
    }
    let id = GHOST_ANSWERS + 5;
    play(&mut share, &format!("S: {{\"id\":8,\"method\":\"x\"}}\n-> 2: {{\"id\":{id},\"method\":\"x\"}}"));
}

#[test]
fn one_without_a_session_answers_by_a_ticket() {
    check_begun(
        r#"
        join 8 stateless
        8: {"id":1,"method":"m"}
        -> S: {"id":2,"method":"m"}
        S: {"id":7,"method":"sampling/createMessage","params":{"_meta":{"progressToken":7}}}
        -> 8: {"id":"TICKET 3","method":"sampling/createMessage","params":{"_meta":{"progressToken":"TICKET 3"}}}
        8: {"id":3,"result":{}}
        join 9 stateless
        9: {"id":3,"result":{}}
        9: {"id":"TICKET 2","result":{}}
        1: {"id":"TICKET 3","result":{}}
        9: {"method":"notifications/progress","params":{"progressToken":"TICKET 3"}}
        -> S: {"method":"notifications/progress","params":{"progressToken":7}}
        9: {"id":"TICKET 3","result":{}}
        -> S: {"id":7,"result":{}}
        9: {"id":"TICKET 3","result":{}}
        S: {"method":"notifications/tools/list_changed"}
        -> 1: {"method":"notifications/tools/list_changed"}
        -> 2: {"method":"notifications/tools/list_changed"}
        -> 3: {"method":"notifications/tools/list_changed"}
        S: {"method":"notifications/message","params":{"level":"info"}}
        -> 1: {"method":"notifications/message","params":{"level":"info"}}
        -> 2: {"method":"notifications/message","params":{"level":"info"}}
        -> 3: {"method":"notifications/message","params":{"level":"info"}}
        -> 8: {"method":"notifications/message","params":{"level":"info"}}
        S: {"id":7,"method":"x"}
        -> 8: {"id":"TICKET 4","method":"x"}
        leave 8
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client is gone"}}
        -> S: {"id":7,"error":{"code":-32603,"message":"the client that was asked is gone"}}
        9: {"id":"TICKET 4","result":{}}
        "#,
    );
}

#[test]
fn each_session_hears_from_its_own_level_on() {
    check_begun(
        r#"
        1: {"id":1,"method":"logging/setLevel","params":{"level":"warning"}}
        -> S: {"id":2,"method":"logging/setLevel","params":{"level":"warning"}}
        S: {"id":2,"result":{"of":1}}
        -> 1: {"id":1,"result":{"of":1}}
        2: {"id":1,"method":"logging/setLevel","params":{"level":"error"}}
        -> 2: {"id":1,"result":{}}
        S: {"method":"notifications/message","params":{"level":"warning"}}
        -> 1: {"method":"notifications/message","params":{"level":"warning"}}
        -> 3: {"method":"notifications/message","params":{"level":"warning"}}
        S: {"method":"notifications/message","params":{"level":"loud"}}
        -> 1: {"method":"notifications/message","params":{"level":"loud"}}
        -> 2: {"method":"notifications/message","params":{"level":"loud"}}
        -> 3: {"method":"notifications/message","params":{"level":"loud"}}
        1: {"id":2,"method":"logging/setLevel","params":{"level":"alert"}}
        -> S: {"id":4,"method":"logging/setLevel","params":{"level":"error"}}
        3: {"id":3,"method":"logging/setLevel","params":{"level":"loud"}}
        -> S: {"id":5,"method":"logging/setLevel","params":{"level":"loud"}}
        3: {"id":3,"method":"logging/setLevel","params":{"level":"debug"}}
        -> S: {"id":6,"method":"logging/setLevel","params":{"level":"debug"}}
        S: {"id":6,"error":{"code":1,"message":"m"}}
        -> 3: {"id":3,"error":{"code":1,"message":"m"}}
        leave 2
        -> S: {"id":7,"method":"logging/setLevel","params":{"level":"alert"}}
        leave 3
        -> S: {"method":"notifications/cancelled","params":{"requestId":5,"reason":"its client is gone"}}
        leave 1
        -> S: {"method":"notifications/cancelled","params":{"requestId":4,"reason":"its client is gone"}}
        "#,
    );
}

#[test]
fn an_update_goes_to_those_who_subscribed() {
    let update = r#"{"method":"notifications/resources/updated","params":{"uri":"\u0075"}}"#;
    check_begun(&format!(
        r#"
        S: {update}
        1: {{"id":1,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        -> S: {{"id":2,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        2: {{"id":1,"method":"resources/subscribe","params":{{"uri":"\u0075"}}}}
        -> S: {{"id":3,"method":"resources/subscribe","params":{{"uri":"\u0075"}}}}
        S: {{"id":2,"result":{{}}}}
        -> 1: {{"id":1,"result":{{}}}}
        S: {{"id":3,"result":{{}}}}
        -> 2: {{"id":1,"result":{{}}}}
        S: {update}
        -> 1: {update}
        -> 2: {update}
        3: {{"id":1,"method":"resources/unsubscribe","params":{{"uri":"u"}}}}
        -> 3: {{"id":1,"result":{{}}}}
        1: {{"id":2,"method":"resources/unsubscribe","params":{{"uri":"u"}}}}
        -> 1: {{"id":2,"result":{{}}}}
        S: {update}
        -> 2: {update}
        leave 2
        -> S: {{"id":4,"method":"resources/unsubscribe","params":{{"uri":"u"}}}}
        S: {{"id":4,"result":{{}}}}
        S: {update}
        1: {{"id":3,"method":"resources/unsubscribe","params":{{"uri":"u"}}}}
        -> S: {{"id":5,"method":"resources/unsubscribe","params":{{"uri":"u"}}}}
        1: {{"id":4,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        -> S: {{"id":6,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        S: {{"id":6,"error":{{"code":1,"message":"m"}}}}
        -> 1: {{"id":4,"error":{{"code":1,"message":"m"}}}}
        S: {update}
        "#
    ));
}

#[test]
fn tasks_and_elicitations_have_an_owner() {
    check_begun(
        r#"
        1: {"id":1,"method":"tools/call","params":{"task":{},"_meta":{"progressToken":"t"}}}
        -> S: {"id":2,"method":"tools/call","params":{"task":{},"_meta":{"progressToken":2}}}
        S: {"id":2,"result":{"task":{"taskId":"T"}}}
        -> 1: {"id":1,"result":{"task":{"taskId":"T"}}}
        S: {"method":"notifications/progress","params":{"progressToken":2}}
        -> 1: {"method":"notifications/progress","params":{"progressToken":"t"}}
        S: {"method":"notifications/tasks/status","params":{"taskId":"T"}}
        -> 1: {"method":"notifications/tasks/status","params":{"taskId":"T"}}
        S: {"method":"notifications/tasks/status","params":{"taskId":"U"}}
        2: {"id":1,"method":"m"}
        -> S: {"id":3,"method":"m"}
        S: {"id":"q","method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"T"}},"elicitationId":"E"}}
        -> 1: {"id":4,"method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"T"}},"elicitationId":"E"}}
        S: {"method":"notifications/elicitation/complete","params":{"elicitationId":"E"}}
        -> 1: {"method":"notifications/elicitation/complete","params":{"elicitationId":"E"}}
        S: {"id":3,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"elicitationId":"F"}]}}}
        -> 2: {"id":1,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"elicitationId":"F"}]}}}
        S: {"method":"notifications/elicitation/complete","params":{"elicitationId":"F"}}
        -> 2: {"method":"notifications/elicitation/complete","params":{"elicitationId":"F"}}
        S: {"method":"notifications/elicitation/complete","params":{"elicitationId":"G"}}
        "#,
    );
}

#[test]
fn a_notification_that_nobody_knows_tells_no_one_elses_business() {
    check_begun(
        r#"
        S: {"method":"x"}
        -> 1: {"method":"x"}
        -> 2: {"method":"x"}
        -> 3: {"method":"x"}
        S: {"method":"x","params":{ }}
        -> 1: {"method":"x","params":{ }}
        -> 2: {"method":"x","params":{ }}
        -> 3: {"method":"x","params":{ }}
        S: {"method":"x","params":{"a":1}}
        2: {"id":1,"method":"m"}
        -> S: {"id":2,"method":"m"}
        S: {"method":"x","params":{"a":1}}
        -> 2: {"method":"x","params":{"a":1}}
        join 4
        S: {"method":"notifications/prompts/list_changed"}
        -> 1: {"method":"notifications/prompts/list_changed"}
        -> 2: {"method":"notifications/prompts/list_changed"}
        -> 3: {"method":"notifications/prompts/list_changed"}
        "#,
    );
}

#[test]
fn the_servers_successor_finds_everything_as_it_was() {
    let begin = BEGIN.replacen(r#""id":1,"#, r#""id":7,"#, 1);
    check_begun(&format!(
        r#"
        1: {{"id":1,"method":"logging/setLevel","params":{{"level":"info"}}}}
        -> S: {{"id":2,"method":"logging/setLevel","params":{{"level":"info"}}}}
        2: {{"id":1,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        -> S: {{"id":3,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        S: {{"id":3,"result":{{}}}}
        -> 2: {{"id":1,"result":{{}}}}
        S: {{"id":2,"result":{{}}}}
        -> 1: {{"id":1,"result":{{}}}}
        2: {{"id":"w","method":"resources/subscribe","params":{{"uri":"w"}}}}
        -> S: {{"id":4,"method":"resources/subscribe","params":{{"uri":"w"}}}}
        2: {{"id":"l","method":"logging/setLevel","params":{{"level":"debug"}}}}
        -> S: {{"id":5,"method":"logging/setLevel","params":{{"level":"debug"}}}}
        S: {{"method":"notifications/cancelled","params":{{"requestId":1}}}}
        S: {{"id":7,"method":"roots/list"}}
        -> 2: {{"id":6,"method":"roots/list"}}
        lose
        -> 2: {{"id":"w","error":{{"code":-32603,"message":"lost"}}}}
        -> 2: {{"id":"l","error":{{"code":-32603,"message":"lost"}}}}
        -> 2: {{"method":"notifications/cancelled","params":{{"requestId":6,"reason":"lost"}}}}
        2: {{"id":6,"result":{{}}}}
        S: {{"id":4,"result":{{}}}}
        3: {{"id":1,"method":"waits"}}
        begin
        {begin}
        3: {{"id":2,"method":"resources/subscribe","params":{{"uri":"v"}}}}
        S: {{"id":7,"result":{{"protocolVersion":"2025-03-26"}}}}
        -> S: {{"method":"notifications/initialized"}}
        -> S: {{"id":8,"method":"logging/setLevel","params":{{"level":"info"}}}}
        -> S: {{"id":9,"method":"resources/subscribe","params":{{"uri":"u"}}}}
        -> S: {{"id":10,"method":"waits"}}
        -> S: {{"id":11,"method":"resources/subscribe","params":{{"uri":"v"}}}}
        S: {{"id":9,"result":{{}}}}
        S: {{"id":8,"result":{{}}}}
        1: {{"id":2,"method":"initialize"}}
        -> 1: {{"id":2,"result":{{"protocolVersion":"2025-03-26"}}}}
        S: {{"method":"notifications/resources/updated","params":{{"uri":"u"}}}}
        -> 2: {{"method":"notifications/resources/updated","params":{{"uri":"u"}}}}
        "#
    ));
}

#[test]
fn numbers_are_known_in_every_spelling() {
    for (text, wanted) in [
        ("7", Some(7)),
        ("7.0", Some(7)),
        ("0.7e1", Some(7)),
        ("70E-1", Some(7)),
        ("18446744073709551615", Some(u64::MAX)),
        ("7.5", None),
        ("-7", None),
        ("1e300", None),
        (r#""7""#, None),
    ] {
        assert_eq!(whole(&Id::from_json(text).unwrap()), wanted, "{text}");
    }
}

#[test]
fn what_is_shown_of_it_is_no_secret() {
    assert!(!format!("{:?}", Share::new(LIMITS, SECRET)).contains("key"));
}
