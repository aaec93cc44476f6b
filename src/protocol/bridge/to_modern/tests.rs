//! Transcripts: what is said, and what comes of it.
//!
//! A line is a step (`C: …` said by the client, `S: …` by the server, `S 3: …` on the stream of the answer to our
//! request 3, `undelivered …`, `lose`, `restore`, `leave`, `tick` and milliseconds), or, after an arrow, what must come
//! of it. `-> C 7: …` belongs to the client's request 7. The member `jsonrpc` is left out everywhere, and `META`
//! stands for what a server is told of a client that was not introduced.

mod search;

use super::*;

const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };
/// What a server is told of the client of [`check_begun`].
const KNOWN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/clientCapabilities":{"roots":{},"sampling":{},"elicitation":{"url":{},"form":{}}}"#;

fn message(text: &str) -> Message {
    Message::parse(text.replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).unwrap()
}

fn shown(message: &Message) -> String {
    message.text().replacen(r#""jsonrpc":"2.0","#, "", 1)
}

fn meta() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"mcp-proxy","version":"{version}"}},"io.modelcontextprotocol/clientCapabilities":{{}}"#
    )
}

/// Who is told, and what.
fn told(crossed: &Crossed) -> String {
    match crossed {
        Crossed::ToServer(message) => format!("S: {}", shown(message)),
        Crossed::ToClient(message) => match message.related() {
            Some(id) => format!("C {}: {}", id.as_json(), shown(message)),
            None => format!("C: {}", shown(message)),
        },
    }
}

fn play(bridge: &mut ToModern, script: &str) {
    let mut out = Vec::new();
    let mut step = "";
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(wanted) = line.strip_prefix("-> ") {
            assert!(!out.is_empty(), "nothing came of '{step}', but this should have: {wanted}");
            let found = told(&out.remove(0));
            assert_eq!(found, wanted.replace("META", &meta()).replace("KNOWN", KNOWN), "after '{step}'");
            continue;
        }
        let rest: Vec<_> = out.iter().map(told).collect();
        assert_eq!(rest, [""; 0], "this too came of '{step}'");
        step = line;
        let (word, said) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "C:" => bridge.from_client(message(said), &mut out),
            "S:" => bridge.from_server(message(said), &mut out),
            "S" => {
                let (number, said) = said.split_once(": ").unwrap();
                let number = Id::from_json(number).unwrap();
                bridge.from_server(message(said).with_related(&number), &mut out);
            }
            "undelivered" => bridge.undelivered(&message(said), "stuck", &mut out),
            "lose" => bridge.lose("lost", &mut out),
            "restore" => bridge.restore(&mut out),
            "leave" => bridge.leave(&mut out),
            "tick" => {
                let (now, next) = said.split_once(" next ").unwrap_or((said, ""));
                let found = bridge.tick(Duration::from_millis(now.parse().unwrap()), &mut out);
                let found = found.map(|next| next.as_millis().to_string()).unwrap_or_default();
                assert_eq!(found, next, "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    let rest: Vec<_> = out.iter().map(told).collect();
    assert_eq!(rest, [""; 0], "this too came of '{step}'");
}

/// A client that says nothing of itself.
fn check(script: &str) {
    play(&mut ToModern::new(LIMITS), script);
}

/// A client that can be asked everything, and a server that tells of everything; the last number is 1.
fn begun() -> ToModern {
    let mut bridge = ToModern::new(LIMITS);
    play(
        &mut bridge,
        r#"
        C: {"id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","clientInfo":{"name":"c"},"capabilities":{"roots":{"listChanged":true},"sampling":{},"elicitation":{"url":{},"form":{}}}}}
        -> S: {"id":1,"method":"server/discover","params":{"_meta":{KNOWN}}}
        S: {"id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":false},"resources":{"subscribe":true,"listChanged":true}}}}
        -> C: {"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":false},"resources":{"subscribe":true,"listChanged":true}},"serverInfo":{"name":"unknown","version":"0"}}}
        "#,
    );
    bridge
}

/// As [`check`], where [`begun`] is.
fn check_begun(script: &str) {
    play(&mut begun(), script);
}

#[test]
fn a_client_is_introduced_by_what_the_server_says_of_itself() {
    check(
        r#"
        C: {"id":"a","method":"tools/list","params":{}}
        -> S: {"id":1,"method":"tools/list","params":{"_meta":{META}}}
        C: {"id":1.0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"tasks":{}}}}
        -> S: {"id":2,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp-proxy","version":"0.1.0"},"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}}
        S: {"id":2,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"logging":{}},"instructions":"do","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}
        -> C: {"id":1.0,"result":{"protocolVersion":"2025-06-18","capabilities":{"logging":{}},"serverInfo":{"name":"s"},"instructions":"do"}}
        C: {"method":"notifications/initialized"}
        C: {"id":2,"method":"initialize","params":{"protocolVersion":"1999-01-01"}}
        -> S: {"id":3,"method":"server/discover","params":{"_meta":{META}}}
        S: {"id":3,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"prompts":{"listChanged":true}}}}
        -> C: {"id":2,"result":{"protocolVersion":"2025-11-25","capabilities":{"prompts":{"listChanged":true}},"serverInfo":{"name":"unknown","version":"0"}}}
        -> S: {"id":4,"method":"subscriptions/listen","params":{"_meta":{META},"notifications":{"promptsListChanged":true}}}
        "#
        .replace("0.1.0", env!("CARGO_PKG_VERSION"))
        .as_str(),
    );
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_server() {
    check(
        r#"
        C: {"id":1,"method":"initialize"}
        -> S: {"id":1,"method":"server/discover","params":{"_meta":{META}}}
        S: {"id":1,"error":{"code":-32022,"message":"no","data":{"supported":["2027-01-01"]}}}
        -> C: {"id":1,"error":{"code":-32603,"message":"the server does not speak MCP 2026-07-28, to which this client's revision is translated; it speaks: 2027-01-01"}}
        C: {"id":1,"method":"initialize"}
        -> S: {"id":2,"method":"server/discover","params":{"_meta":{META}}}
        S: {"id":2,"error":{"code":-7,"message":"not today"}}
        -> C: {"id":1,"error":{"code":-32603,"message":"the server did not say what it is: not today (-7)"}}
        C: {"id":1,"method":"initialize"}
        -> S: {"id":3,"method":"server/discover","params":{"_meta":{META}}}
        undelivered {"id":3,"method":"server/discover"}
        -> C: {"id":1,"error":{"code":-32603,"message":"stuck"}}
        "#,
    );
}

#[test]
fn requests_say_what_a_modern_server_must_know() {
    check_begun(
        r#"
        C: {"id":"\u0061","method":"tools/call","params":{ "arguments":{"x":1.0,"y":1e999},"_meta":{"progressToken":"t"} }}
        -> S: {"id":2,"method":"tools/call","params":{ "arguments":{"x":1.0,"y":1e999},"_meta":{KNOWN,"progressToken":"t"} }}
        C: {"method":"own/method", "id":1152921504606846977,"extra":1}
        -> S: {"params":{"_meta":{KNOWN}},"method":"own/method", "id":3,"extra":1}
        S: {"method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        -> C: {"method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        S 2: {"method":"notifications/message","params":{"level":"info","data":1}}
        -> C "\u0061": {"method":"notifications/message","params":{"level":"info","data":1}}
        S: {"result": {"resultType":"complete", "own" : [1.0]}, "id":3.0}
        -> C: {"result": { "own" : [1.0]}, "id":1152921504606846977}
        S: {"id":3,"result":{}}
        S 2: {"id":2,"error":{"code":-32602,"message":"m","data":1e999}}
        -> C "\u0061": {"id":"\u0061","error":{"code":-32602,"message":"m","data":1e999}}
        S 2: {"method":"notifications/progress","params":{"progressToken":"t","progress":2}}
        S 2: {"method":"own/notification"}
        -> C: {"method":"own/notification"}
        S: {"method":"own/notification"}
        -> C: {"method":"own/notification"}
        C: {"method":"own/notification"}
        -> S: {"method":"own/notification"}
        C: {"method":"notifications/roots/list_changed"}
        C: {"method":"notifications/progress","params":{"progressToken":1}}
        C: {"id":7,"result":{}}
        C: {"id":1,"method":"m","params":[1]}
        -> C: {"id":1,"error":{"code":-32602,"message":"params must be an object"}}
        S: {"id":1,"method":"sampling/createMessage"}
        -> S: {"id":1,"error":{"code":-32601,"message":"a server of this revision asks in its results only"}}
        "#,
    );
}

#[test]
fn what_the_server_does_not_know_any_more_is_answered_here() {
    let none = |method: &str| format!(r#"{{"code":-32601,"message":"'{method}' is not offered here"}}"#);
    check(&format!(
        r#"
        C: {{"id":1,"method":"ping"}}
        -> C: {{"id":1,"result":{{}}}}
        C: {{"id":1,"method":"tasks/get"}}
        -> C: {{"id":1,"error":{}}}
        C: {{"id":1,"method":"server/discover"}}
        -> C: {{"id":1,"error":{}}}
        C: {{"id":1,"method":"subscriptions/listen"}}
        -> C: {{"id":1,"error":{}}}
        C: {{"id":1,"method":"logging/setLevel","params":{{"level":"loud"}}}}
        -> C: {{"id":1,"error":{{"code":-32602,"message":"there is no such log level"}}}}
        C: {{"id":1,"method":"logging/setLevel"}}
        -> C: {{"id":1,"error":{{"code":-32602,"message":"there is no such log level"}}}}
        C: {{"id":1,"method":"logging/setLevel","params":{{"level":"warning"}}}}
        -> C: {{"id":1,"result":{{}}}}
        C: {{"id":1,"method":"tools/list","params":{{}}}}
        -> S: {{"id":1,"method":"tools/list","params":{{"_meta":{{META,"io.modelcontextprotocol/logLevel":"warning"}}}}}}
        "#,
        none("tasks/get"),
        none("server/discover"),
        none("subscriptions/listen"),
    ));
}

#[test]
fn results_and_errors_are_told_as_a_legacy_client_knows_them() {
    check(
        r#"
        C: {"id":1,"method":"tools/list","params":{}}
        -> S: {"id":1,"method":"tools/list","params":{"_meta":{META}}}
        S: {"id":1,"result":{"resultType":"task","taskId":"t"}}
        -> C: {"id":1,"error":{"code":-32603,"message":"the server answered with a result of a kind that is not known here: 'task'"}}
        C: {"id":1,"method":"tools/list","params":{}}
        -> S: {"id":2,"method":"tools/list","params":{"_meta":{META}}}
        S: {"id":2,"result":{"resultType":"input_required","requestState":"s"}}
        -> C: {"id":1,"error":{"code":-32603,"message":"the server asks for input in answer to 'tools/list', to which none is given"}}
        C: {"id":1,"method":"resources/read","params":{"uri":"u"}}
        -> S: {"id":3,"method":"resources/read","params":{"_meta":{META},"uri":"u"}}
        S: {"id":3,"error":{ "code" : -32602,"message":"gone","data":{"uri":"u"}}}
        -> C: {"id":1,"error":{ "code" : -32002,"message":"gone","data":{"uri":"u"}}}
        C: {"id":1,"method":"resources/read","params":{}}
        -> S: {"id":4,"method":"resources/read","params":{"_meta":{META}}}
        S: {"id":4,"error":{"code":-32602,"message":"which?"}}
        -> C: {"id":1,"error":{"code":-32602,"message":"which?"}}
        C: {"id":1,"method":"resources/read","params":{"uri":"u"}}
        -> S: {"id":5,"method":"resources/read","params":{"_meta":{META},"uri":"u"}}
        S: {"id":5,"result":{"resultType":"input_required","requestState":"s"}}
        -> S: {"id":6,"method":"resources/read","params":{"requestState":"s","_meta":{META},"uri":"u"}}
        S: {"id":6,"error":{"code":-32602,"message":"bad state"}}
        -> C: {"id":1,"error":{"code":-32602,"message":"bad state"}}
        C: {"id":1,"method":"m","params":{}}
        -> S: {"id":7,"method":"m","params":{"_meta":{META}}}
        S: {"id":7,"result":7.0}
        -> C: {"id":1,"result":7.0}
        S: {"id":null,"error":{"code":1,"message":"m"}}
        "#,
    );
}

#[test]
fn a_cancelled_request_is_over() {
    check(
        r#"
        C: {"id":1,"method":"tools/call","params":{"name":"x"}}
        -> S: {"id":1,"method":"tools/call","params":{"_meta":{META},"name":"x"}}
        C: {"method":"notifications/cancelled","params":{"requestId":"1"}}
        C: {"method":"notifications/cancelled","params":{"requestId":1,"requestId":1}}
        C: {"method":"notifications/cancelled"}
        C: {"method":"notifications/cancelled","params":{"requestId":1.0,"reason":"r"}}
        -> S: {"method":"notifications/cancelled","params":{"requestId":1,"reason":"r"}}
        C: {"method":"notifications/cancelled","params":{"requestId":1}}
        S: {"id":1,"result":{}}
        S 1: {"method":"notifications/message","params":{"level":"info"}}
        S: {"method":"notifications/cancelled","params":{"requestId":1}}
        "#,
    );
}

#[test]
fn what_is_open_is_bounded() {
    check(
        r#"
        C: {"id":1,"method":"m","params":{}}
        -> S: {"id":1,"method":"m","params":{"_meta":{META}}}
        C: {"id":1,"method":"m","params":{}}
        -> S: {"id":2,"method":"m","params":{"_meta":{META}}}
        C: {"id":1,"method":"m","params":{}}
        -> S: {"id":3,"method":"m","params":{"_meta":{META}}}
        C: {"id":7,"method":"resources/subscribe","params":{"uri":"u"}}
        -> S: {"id":4,"method":"subscriptions/listen","params":{"_meta":{META},"notifications":{"resourceSubscriptions":["u"]}}}
        C: {"id":2,"method":"m","params":{}}
        -> C: {"id":2,"error":{"code":-32603,"message":"too many requests are unanswered (4)"}}
        C: {"id":2,"method":"ping"}
        -> C: {"id":2,"result":{}}
        lose
        -> C: {"id":1,"error":{"code":-32603,"message":"lost"}}
        -> C: {"id":1,"error":{"code":-32603,"message":"lost"}}
        -> C: {"id":1,"error":{"code":-32603,"message":"lost"}}
        -> C: {"id":7,"error":{"code":-32603,"message":"lost"}}
        S: {"id":1,"result":{}}
        restore
        "#,
    );
    let large = "x".repeat(3000);
    check(&format!(
        r#"
        C: {{"id":1,"method":"tools/call","params":{{"x":"{large}"}}}}
        -> S: {{"id":1,"method":"tools/call","params":{{"_meta":{{META}},"x":"{large}"}}}}
        C: {{"id":2,"method":"tools/call","params":{{"x":"{large}"}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{"_meta":{{META}},"x":"{large}"}}}}
        S: {{"id":2,"result":{{"resultType":"input_required","requestState":"s"}}}}
        -> C: {{"id":2,"error":{{"code":-32603,"message":"the server asks for input, and too much is kept already to ask again with it"}}}}
        S: {{"id":1,"result":{{"resultType":"input_required","requestState":"s"}}}}
        -> S: {{"id":3,"method":"tools/call","params":{{"requestState":"s","_meta":{{META}},"x":"{large}"}}}}
        "#
    ));
}

#[test]
fn input_is_asked_for_and_the_request_made_again_with_it() {
    check_begun(
        r#"
        C: {"id":7,"method":"tools/call","params":{"name":"x","requestState":"own","_meta":{"progressToken":1}}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x","requestState":"own","_meta":{KNOWN,"progressToken":1}}}
        S: {"id":2,"result":{"resultType":"input_required","inputRequests":{"a\"b":{"method":"elicitation/create","params":{"message":"\u0061", "n":1.0}},"r":{"method":"roots/list"},"u":{"params":{ "mode":"url","url":"h"},"method":"elicitation/create"}},"requestState":"\u0073"}}
        -> C 7: {"id":"mcp-proxy-1","method":"elicitation/create","params":{"message":"\u0061", "n":1.0}}
        -> C 7: {"id":"mcp-proxy-2","method":"roots/list"}
        -> C 7: {"id":"mcp-proxy-3","method":"elicitation/create","params":{"elicitationId":"mcp-proxy-3", "mode":"url","url":"h"}}
        C: {"id":"mcp-proxy-2","result": {"roots":[ 1e999]}}
        C: {"id":"mcp-proxy-2","result":{"roots":"again"}}
        C: {"id":1,"result":{}}
        C: {"id":"mcp-proxy-9","result":{}}
        S: {"id":2,"result":{}}
        C: {"id":"mcp-proxy-1","result":{"action":"accept"}}
        C: {"id":"mcp\u002dproxy-3","result":{"action":"decline"}}
        -> S: {"id":3,"method":"tools/call","params":{"inputResponses":{"a\"b":{"action":"accept"},"r":{"roots":[ 1e999]},"u":{"action":"decline"}},"requestState":"\u0073","name":"x","_meta":{KNOWN,"progressToken":1}}}
        S: {"id":2,"result":{}}
        S: {"id":3,"result":{"resultType":"input_required","inputRequests":{"s":{"method":"sampling/createMessage","params":{}}}}}
        -> C 7: {"id":"mcp-proxy-4","method":"sampling/createMessage","params":{}}
        C: {"id":"mcp-proxy-4","result":{"role":"assistant"}}
        -> S: {"id":4,"method":"tools/call","params":{"inputResponses":{"s":{"role":"assistant"}},"name":"x","_meta":{KNOWN,"progressToken":1}}}
        S: {"id":4,"result":{"resultType":"input_required","inputRequests":{},"requestState":"t"}}
        -> S: {"id":5,"method":"tools/call","params":{"inputResponses":{},"requestState":"t","name":"x","_meta":{KNOWN,"progressToken":1}}}
        S: {"id":5,"result":{"resultType":"complete","content":[]}}
        -> C: {"id":7,"result":{"content":[]}}
        "#,
    );
}

/// What the server asks for, and why the request fails.
#[test]
fn what_cannot_be_asked_fails_the_request() {
    let one = |method: &str| format!(r#""inputRequests":{{"a":{{"method":"{method}"}}}}"#);
    let many: Vec<_> = (0..5).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
    for (asked, why) in [
        (String::from(r#""x":1"#), "the server asks for input, but not for which"),
        (r#""inputRequests":7"#.into(), "what the server asks for is no object"),
        (r#""inputRequests":{"a":7}"#.into(), "the server asks for something that a client does not give: ''"),
        (one("tools/list"), "the server asks for something that a client does not give: 'tools/list'"),
        (
            r#""inputRequests":{"a":{"method":"roots/list"},"\u0061":{"method":"roots/list"}}"#.into(),
            "the server asks for two things under one name",
        ),
        (format!(r#""inputRequests":{{{}}}"#, many.join(",")), "the client is asked too much at once (more than 4)"),
    ] {
        check_begun(&format!(
            r#"
            C: {{"id":7,"method":"tools/call","params":{{}}}}
            -> S: {{"id":2,"method":"tools/call","params":{{"_meta":{{KNOWN}}}}}}
            S: {{"id":2,"result":{{"resultType":"input_required",{asked}}}}}
            -> C: {{"id":7,"error":{{"code":-32603,"message":"{why}"}}}}
            "#
        ));
    }
    check(&format!(
        r#"
        C: {{"id":7,"method":"prompts/get","params":{{}}}}
        -> S: {{"id":1,"method":"prompts/get","params":{{"_meta":{{META}}}}}}
        S: {{"id":1,"result":{{"resultType":"input_required",{}}}}}
        -> C: {{"id":7,"error":{{"code":-32603,"message":"the server asks for 'roots/list', and the client did not declare the capability 'roots'"}}}}
        "#,
        one("roots/list")
    ));
}

#[test]
fn ten_rounds_are_enough() {
    let ask =
        |round: u64| format!(r#"S: {{"id":{round},"result":{{"resultType":"input_required","requestState":"s"}}}}"#);
    let again = |round: u64| {
        let number = round + 1;
        format!(r#"{{"id":{number},"method":"prompts/get","params":{{"requestState":"s","_meta":{{META}}}}}}"#)
    };
    let rounds: Vec<_> =
        (1..=u64::from(ROUNDS)).flat_map(|round| [ask(round), format!("-> S: {}", again(round))]).collect();
    check(&format!(
        r#"
        C: {{"id":7,"method":"prompts/get","params":{{}}}}
        -> S: {{"id":1,"method":"prompts/get","params":{{"_meta":{{META}}}}}}
        {}
        {}
        -> C: {{"id":7,"error":{{"code":-32603,"message":"the server asked for input more than 10 times"}}}}
        "#,
        rounds.join("\n"),
        ask(u64::from(ROUNDS) + 1)
    ));
}

#[test]
fn a_question_that_fails_fails_the_request_and_ends_the_others() {
    let ask = r#""resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"b":{"method":"roots/list"}},"requestState":"s""#;
    let asked = |n: u64, m: u64| {
        format!(
            r#"
            -> C 7: {{"id":"mcp-proxy-{n}","method":"roots/list"}}
            -> C 7: {{"id":"mcp-proxy-{m}","method":"roots/list"}}
            "#
        )
    };
    check_begun(&format!(
        r#"
        C: {{"id":7,"method":"tools/call","params":{{}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{"_meta":{{KNOWN}}}}}}
        S: {{"id":2,"result":{{{ask}}}}}
        {}
        C: {{"id":"mcp-proxy-2","error":{{"code":-1,"message":"no"}}}}
        -> C 7: {{"method":"notifications/cancelled","params":{{"requestId":"mcp-proxy-1","reason":"the client answered 'roots/list' with an error: no (-1)"}}}}
        -> C: {{"id":7,"error":{{"code":-32603,"message":"the client answered 'roots/list' with an error: no (-1)"}}}}
        C: {{"id":"mcp-proxy-1","result":{{}}}}
        C: {{"id":7,"method":"tools/call","params":{{}}}}
        -> S: {{"id":3,"method":"tools/call","params":{{"_meta":{{KNOWN}}}}}}
        S: {{"id":3,"result":{{{ask}}}}}
        {}
        C: {{"id":"mcp-proxy-3","result":{{}}}}
        C: {{"method":"notifications/cancelled","params":{{"requestId":7}}}}
        -> C 7: {{"method":"notifications/cancelled","params":{{"requestId":"mcp-proxy-4","reason":"its request was cancelled"}}}}
        C: {{"id":"mcp-proxy-4","result":{{}}}}
        C: {{"id":7,"method":"tools/call","params":{{}}}}
        -> S: {{"id":4,"method":"tools/call","params":{{"_meta":{{KNOWN}}}}}}
        S: {{"id":4,"result":{{{ask}}}}}
        {}
        lose
        -> C 7: {{"method":"notifications/cancelled","params":{{"requestId":"mcp-proxy-5","reason":"lost"}}}}
        -> C 7: {{"method":"notifications/cancelled","params":{{"requestId":"mcp-proxy-6","reason":"lost"}}}}
        -> C: {{"id":7,"error":{{"code":-32603,"message":"lost"}}}}
        C: {{"id":"mcp-proxy-5","result":{{}}}}
        C: {{"id":"mcp-proxy-6","result":{{}}}}
        "#,
        asked(1, 2),
        asked(3, 4),
        asked(5, 6)
    ));
}

#[test]
fn changes_are_listened_for_once_the_client_has_begun() {
    check_begun(
        r#"
        C: {"method":"notifications/initialized"}
        -> S: {"id":2,"method":"subscriptions/listen","params":{"_meta":{KNOWN},"notifications":{"toolsListChanged":true,"resourcesListChanged":true}}}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2}}}
        S 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2.0},"notifications":{"toolsListChanged":true}}}
        S: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2},"notifications":{}}}
        S 2: {"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2}}}
        -> C: {"method":"notifications/tools/list_changed","params":{}}
        S: {"method":"notifications/tools/list_changed","params":{ "_meta":{"io.modelcontextprotocol/subscriptionId":2, "x":1.0}}}
        -> C: {"method":"notifications/tools/list_changed","params":{ "_meta":{ "x":1.0}}}
        S: {"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":3}}}
        S: {"method":"notifications/tools/list_changed"}
        -> C: {"method":"notifications/tools/list_changed"}
        C: {"method":"notifications/initialized"}
        leave
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client is gone"}}
        tick 99999
        "#,
    );
}

const FILTER: &str = r#""toolsListChanged":true,"resourcesListChanged":true"#;

/// A client that listens by request 2.
fn listening() -> ToModern {
    let mut bridge = begun();
    let script = format!(
        r#"
        C: {{"method":"notifications/initialized"}}
        -> S: {}
        {}
        "#,
        listen(2, ""),
        acknowledged(2, "")
    );
    play(&mut bridge, &script);
    bridge
}

fn listen(number: u64, uris: &str) -> String {
    let uris = if uris.is_empty() { String::new() } else { format!(r#","resourceSubscriptions":[{uris}]"#) };
    format!(
        r#"{{"id":{number},"method":"subscriptions/listen","params":{{"_meta":{{KNOWN}},"notifications":{{{FILTER}{uris}}}}}}}"#
    )
}

fn acknowledged(number: u64, uris: &str) -> String {
    format!(
        r#"S: {{"method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}},"notifications":{{"resourceSubscriptions":[{uris}]}}}}}}"#
    )
}

fn updated(number: u64) -> String {
    format!(
        r#"S: {{"method":"notifications/resources/updated","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}},"uri":"a"}}}}"#
    )
}

const UPDATED: &str = r#"-> C: {"method":"notifications/resources/updated","params":{"uri":"a"}}"#;

fn end(number: u64) -> String {
    format!(
        r#"-> S: {{"method":"notifications/cancelled","params":{{"requestId":{number},"reason":"it is not needed any more"}}}}"#
    )
}

#[test]
fn subscriptions_are_a_part_of_the_listening() {
    let listen3 = listen(3, r#""a""#);
    let (listen4, listen5, listen6) = (listen(4, r#""a","b""#), listen(5, r#""b""#), listen(6, ""));
    let script = format!(
        r#"
        C: {{"id":"x","method":"resources/subscribe","params":{{"uri":"\u0061"}}}}
        -> S: {listen3}
        {u2}
        {UPDATED}
        C: {{"id":"y","method":"resources/subscribe","params":{{"uri":"b"}}}}
        C: {{"id":"z","method":"resources/subscribe","params":{{"uri":"a"}}}}
        {ack3}
        -> C: {{"id":"x","result":{{}}}}
        -> C: {{"id":"z","result":{{}}}}
        {end2}
        -> S: {listen4}
        {u2}
        {u3}
        {UPDATED}
        C: {{"id":"w","method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> C: {{"id":"w","result":{{}}}}
        {ack4}
        -> C: {{"id":"y","error":{{"code":-32602,"message":"the server takes no subscription to this resource"}}}}
        {end3}
        C: {{"id":"v","method":"resources/unsubscribe","params":{{"uri":"none"}}}}
        -> C: {{"id":"v","result":{{}}}}
        C: {{"id":"v","method":"resources/subscribe","params":{{"uri":"b"}}}}
        -> S: {listen5ab}
        C: {{"id":"u","method":"resources/unsubscribe","params":{{"uri":"a"}}}}
        -> C: {{"id":"u","result":{{}}}}
        {ack5}
        -> C: {{"id":"v","result":{{}}}}
        {end4}
        -> S: {listen6b}
        C: {{"id":"t","method":"resources/unsubscribe","params":{{"uri":"b"}}}}
        -> C: {{"id":"t","result":{{}}}}
        {ack6}
        {end5}
        -> S: {listen7}
        "#,
        u2 = updated(2),
        u3 = updated(3),
        ack3 = acknowledged(3, r#""a""#),
        ack4 = acknowledged(4, r#""a""#),
        ack5 = acknowledged(5, r#""a","b""#),
        ack6 = acknowledged(6, r#""b""#),
        end2 = end(2),
        end3 = end(3),
        end4 = end(4),
        end5 = end(5),
        listen5ab = listen4.replace(r#""id":4"#, r#""id":5"#),
        listen6b = listen5.replace(r#""id":5"#, r#""id":6"#),
        listen7 = listen6.replace(r#""id":6"#, r#""id":7"#),
    );
    play(&mut listening(), &script);
}

#[test]
fn a_subscription_that_cannot_be_is_refused() {
    let long = "x".repeat(subscribe::URI_BYTES + 1);
    check_begun(&format!(
        r#"
        C: {{"id":1,"method":"resources/subscribe","params":{{}}}}
        -> C: {{"id":1,"error":{{"code":-32602,"message":"it names no resource"}}}}
        C: {{"id":1,"method":"resources/unsubscribe","params":{{"uri":"a","URI":"b"}}}}
        -> C: {{"id":1,"error":{{"code":-32602,"message":"it names no resource"}}}}
        C: {{"id":1,"method":"resources/subscribe","params":{{"uri":"{long}"}}}}
        -> C: {{"id":1,"error":{{"code":-32603,"message":"the URI is too long for a subscription"}}}}
        "#
    ));
    check(
        r#"
        C: {"id":1,"method":"initialize"}
        -> S: {"id":1,"method":"server/discover","params":{"_meta":{META}}}
        S: {"id":1,"result":{"supportedVersions":["2026-07-28"]}}
        -> C: {"id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"unknown","version":"0"}}}
        C: {"id":1,"method":"resources/subscribe","params":{"uri":"a"}}
        -> C: {"id":1,"error":{"code":-32601,"message":"the server does not offer subscriptions to resources"}}
        "#,
    );
    check(
        r#"
        C: {"id":1,"method":"resources/subscribe","params":{"uri":"a"}}
        -> S: {"id":1,"method":"subscriptions/listen","params":{"_meta":{META},"notifications":{"resourceSubscriptions":["a"]}}}
        C: {"id":2,"method":"resources/subscribe","params":{"uri":"b"}}
        S: {"id":1,"error":{"code":-32601,"message":"what?"}}
        -> C: {"id":1,"error":{"code":-32601,"message":"what?"}}
        -> C: {"id":2,"error":{"code":-32601,"message":"the server does not offer subscriptions to resources"}}
        tick 99999
        C: {"id":2,"method":"resources/subscribe","params":{"uri":"b"}}
        -> C: {"id":2,"error":{"code":-32601,"message":"the server does not offer subscriptions to resources"}}
        "#,
    );
    let mut bridge = begun();
    let mut out = Vec::new();
    bridge.limits.open = 2000;
    for n in 0..=subscribe::SUBSCRIPTIONS {
        let subscribe = format!(r#"{{"id":{n},"method":"resources/subscribe","params":{{"uri":"{n}"}}}}"#);
        bridge.from_client(message(&subscribe), &mut out);
    }
    assert!(out.len() == 2 && told(&out[1]).contains("too many resources"), "{:?}", out[1]);
}

#[test]
fn a_subscription_that_is_not_wanted_any_more_is_none() {
    let script = format!(
        r#"
        C: {{"id":"x","method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> S: {}
        C: {{"method":"notifications/cancelled","params":{{"requestId":"x"}}}}
        {}
        {}
        -> S: {}
        C: {{"id":"x","method":"resources/subscribe","params":{{"uri":"a"}}}}
        C: {{"id":"y","method":"resources/unsubscribe","params":{{"uri":"a"}}}}
        -> C: {{"id":"x","result":{{}}}}
        -> C: {{"id":"y","result":{{}}}}
        {}
        {}
        "#,
        listen(3, r#""a""#),
        acknowledged(3, r#""a""#),
        end(2),
        listen(4, ""),
        acknowledged(4, ""),
        end(3),
    );
    play(&mut listening(), &script);
}

#[test]
fn a_listening_that_ends_begins_again_after_a_while() {
    let script = format!(
        r#"
        tick 1000
        S: {{"id":2,"result":{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":2}}}}}}
        tick 1000 next 1500
        tick 1499 next 1500
        tick 1500 next 31500
        -> S: {}
        S: {{"id":3,"error":{{"code":1,"message":"m"}}}}
        tick 1600 next 2500
        tick 2500 next 32500
        -> S: {}
        undelivered {{"id":4,"method":"subscriptions/listen"}}
        tick 2600 next 4500
        tick 4500 next 34500
        -> S: {}
        {}
        tick 4600
        S: {{"method":"notifications/cancelled","params":{{"requestId":5}}}}
        tick 4600 next 8600
        tick 8600 next 38600
        -> S: {}
        {}
        tick 30000
        S: {{"id":6,"result":{{}}}}
        tick 30000 next 30500
        C: {{"id":1,"method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> S: {}
        tick 30000 next 60000
        tick 60000 next 61000
        {}
        -> C: {{"id":1,"error":{{"code":-32603,"message":"the server did not acknowledge the subscription in time"}}}}
        lose
        tick 62000
        restore
        -> S: {}
        restore
        "#,
        listen(3, ""),
        listen(4, ""),
        listen(5, ""),
        acknowledged(5, ""),
        listen(6, ""),
        acknowledged(6, ""),
        listen(7, r#""a""#),
        end(7),
        listen(8, ""),
    );
    play(&mut listening(), &script);
}

#[test]
fn what_the_client_wants_outlives_the_server() {
    let script = format!(
        r#"
        C: {{"id":1,"method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> S: {}
        {}
        -> C: {{"id":1,"result":{{}}}}
        {}
        C: {{"id":1,"method":"logging/setLevel","params":{{"level":"info"}}}}
        -> C: {{"id":1,"result":{{}}}}
        C: {{"id":1,"method":"resources/subscribe","params":{{"uri":"b"}}}}
        -> S: {}
        lose
        -> C: {{"id":1,"error":{{"code":-32603,"message":"lost"}}}}
        {}
        C: {{"id":2,"method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> C: {{"id":2,"result":{{}}}}
        C: {{"id":3,"method":"resources/subscribe","params":{{"uri":"c"}}}}
        tick 99000
        restore
        -> S: {}
        {}
        -> C: {{"id":3,"result":{{}}}}
        {}
        {UPDATED}
        C: {{"id":4,"method":"m","params":{{}}}}
        -> S: {{"id":6,"method":"m","params":{{"_meta":{{{level}}}}}}}
        "#,
        listen(3, r#""a""#),
        acknowledged(3, r#""a""#),
        end(2),
        listen(4, r#""a","b""#).replace("KNOWN", &level()),
        updated(3),
        listen(5, r#""a","c""#).replace("KNOWN", &level()),
        acknowledged(5, r#""c""#),
        updated(5),
        level = level(),
    );
    play(&mut listening(), &script);
}

fn level() -> String {
    format!(r#"{KNOWN},"io.modelcontextprotocol/logLevel":"info""#)
}

/// It had been accepted, was ended, is wanted again, and the server answers neither change.
#[test]
fn who_subscribes_to_what_is_still_served_is_answered() {
    let script = format!(
        r#"
        C: {{"id":1,"method":"resources/subscribe","params":{{"uri":"a"}}}}
        -> S: {}
        {}
        -> C: {{"id":1,"result":{{}}}}
        {}
        C: {{"id":2,"method":"resources/unsubscribe","params":{{"uri":"a"}}}}
        -> S: {}
        -> C: {{"id":2,"result":{{}}}}
        C: {{"id":3,"method":"resources/subscribe","params":{{"uri":"a"}}}}
        S: {{"id":4,"error":{{"code":1,"message":"m"}}}}
        -> C: {{"id":3,"result":{{}}}}
        tick 99000
        {}
        {UPDATED}
        "#,
        listen(3, r#""a""#),
        acknowledged(3, r#""a""#),
        end(2),
        listen(4, ""),
        updated(3),
    );
    play(&mut listening(), &script);
}
