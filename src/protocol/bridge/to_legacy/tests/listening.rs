//! Transcripts of `subscriptions/listen`.

use super::*;

#[test]
fn a_listen_is_acknowledged_with_what_the_server_can_do() {
    check(
        r#"
        1: {"id":"\u0061","method":"subscriptions/listen","params":{$NONE,"notifications":{"toolsListChanged":true,"promptsListChanged":true}}}
        -> 1: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":"\u0061"},"notifications":{"toolsListChanged":true}}}
        2: {"id":1.0,"method":"subscriptions/listen","params":{$NONE,"notifications":{"resourcesListChanged":true}}}
        -> 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1.0},"notifications":{"resourcesListChanged":true}}}
        S: {"method":"notifications/tools/list_changed"}
        -> 1: {"params":{"_meta":{"$SUB":"\u0061"}},"method":"notifications/tools/list_changed"}
        S: {"method":"notifications/prompts/list_changed","params":{}}
        S: {"method":"notifications/resources/list_changed","params":{"a":1.0,"_meta":{"b":2}}}
        -> 2: {"method":"notifications/resources/list_changed","params":{"a":1.0,"_meta":{"$SUB":1.0,"b":2}}}
        1: {"method":"notifications/cancelled","params":{"requestId":"a"}}
        S: {"method":"notifications/tools/list_changed"}
        finish
        -> 2: {"id":1.0,"result":{"resultType":"complete","_meta":{"$SUB":1.0,"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}
        "#,
    );
    let wrong = r#"{"code":-32602,"message":"params.notifications is no filter of notifications"}"#;
    for params in ["{}", r#"{"notifications":7}"#, r#"{"notifications":{"toolsListChanged":"yes"}}"#] {
        check(&format!(
            r#"
            1: {{"id":1,"method":"subscriptions/listen","params":{params}}}
            -> 1: {{"id":1,"error":{wrong}}}
            "#
        ));
    }
}

#[test]
fn resources_are_subscribed_to_as_long_as_somebody_listens() {
    check(
        r#"
        1: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["file:///a","x"]}}}
        -> S: {"id":3,"method":"resources/subscribe","params":{"uri":"file:///a"}}
        -> S: {"id":4,"method":"resources/subscribe","params":{"uri":"x"}}
        2: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["x","file:///a"]}}}
        S: {"method":"notifications/resources/updated","params":{"uri":"x"}}
        S: {"id":4,"error":{"code":-32002,"message":"no"}}
        S: {"id":3,"result":{}}
        -> 1: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1},"notifications":{"resourceSubscriptions":["file:///a"]}}}
        -> 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1},"notifications":{"resourceSubscriptions":["file:///a"]}}}
        S: {"method":"notifications/resources/updated","params":{"uri":"x"}}
        S: {"method":"notifications/resources/updated","params":{"uri":"file:///ab"}}
        S: {"method":"notifications/resources/updated","params":{"uri":"file:///a/b"}}
        -> 1: {"method":"notifications/resources/updated","params":{"_meta":{"$SUB":1},"uri":"file:///a/b"}}
        -> 2: {"method":"notifications/resources/updated","params":{"_meta":{"$SUB":1},"uri":"file:///a/b"}}
        leave 1
        S: {"method":"notifications/resources/updated","params":{"uri":"file:///a"}}
        -> 2: {"method":"notifications/resources/updated","params":{"_meta":{"$SUB":1},"uri":"file:///a"}}
        3: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["file:///a"]}}}
        -> 3: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1},"notifications":{"resourceSubscriptions":["file:///a"]}}}
        leave 3
        2: {"method":"notifications/cancelled","params":{"requestId":1}}
        -> S: {"id":7,"method":"resources/unsubscribe","params":{"uri":"file:///a"}}
        S: {"id":7,"result":{}}
        S: {"method":"notifications/resources/updated","params":{"uri":"file:///a"}}
        2: {"id":2,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["y"]}}}
        -> S: {"id":9,"method":"resources/subscribe","params":{"uri":"y"}}
        undelivered {"id":9,"method":"resources/subscribe","params":{"uri":"y"}}
        -> 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":2},"notifications":{}}}
        lose
        -> 2: {"id":2,"error":{"code":-32603,"message":"lost"}}
        "#,
    );
    play(
        &mut begun_with(settings(false), r#"{"resources":{"subscribe":false}}"#),
        r#"
        1: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["x"]}}}
        -> 1: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1},"notifications":{}}}
        "#,
    );
}

#[test]
fn a_subscription_that_nobody_waits_for_any_more_is_ended() {
    check(
        r#"
        1: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["x"]}}}
        -> S: {"id":3,"method":"resources/subscribe","params":{"uri":"x"}}
        leave 1
        -> S: {"id":4,"method":"resources/unsubscribe","params":{"uri":"x"}}
        2: {"id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["x"]}}}
        -> S: {"id":6,"method":"resources/subscribe","params":{"uri":"x"}}
        S: {"id":3,"error":{"code":1,"message":"m"}}
        S: {"id":4,"result":{}}
        S: {"id":6,"result":{}}
        -> 2: {"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"$SUB":1},"notifications":{"resourceSubscriptions":["x"]}}}
        "#,
    );
}

#[test]
fn listens_are_bounded() {
    let uris = |from: usize, to: usize| serde_json::Value::from((from..to).collect::<Vec<_>>()).to_string();
    let strings = |from, to| uris(from, to).replace('[', "[\"").replace(',', "\",\"").replace(']', "\"]");
    let mut hub = begun();
    let mut out = Vec::new();
    let mut listen = |from, to| {
        let list = strings(from, to);
        let text = format!(
            r#"{{"id":1,"method":"subscriptions/listen","params":{{"notifications":{{"resourceSubscriptions":{list}}}}}}}"#
        );
        out.clear();
        hub.from_client(Key(1), message(&text), &mut out);
        out.len()
    };
    assert_eq!(listen(0, 1025), 1);
    assert_eq!(listen(0, 1000), 1000);
    assert_eq!(listen(1000, 1025), 1);
    assert_eq!(listen(1000, 1024), 24);
}
