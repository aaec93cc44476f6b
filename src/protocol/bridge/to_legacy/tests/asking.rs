//! Transcripts of what the server asks, and of the rounds in which its clients answer.

use super::*;

const UNKNOWN: &str =
    r#"{"code":-32602,"message":"the requestState is not known: it was used already, has expired, or never was ours"}"#;

#[test]
fn a_question_is_asked_by_an_answer_and_answered_by_a_repeat() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1.0},$TOKEN}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x","arguments":{"a":1.0},"_meta":{"progressToken":2}}}
        S: {"id":"e","method":"elicitation/create","params":{"mode":"url","url":"u","elicitationId":"x","message":"\u0061","_meta":{"progressToken":9}}}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"e":{"method":"elicitation/create","params":{"mode":"url","url":"u","message":"\u0061"}}},"requestState":"TICKET 4",$INFO}}
        leave 1
        S: {"method":"notifications/progress","params":{"progressToken":2,"progress":1}}
        2: {"id":"b","method":"tools/call","params":{"arguments":{"a":1},"name":"x","inputResponses":{"e":{"action":"accept", "content":{"n":1e999}},"q9":{}},"requestState":"TICKET 4",$TOKEN}}
        -> S: {"id":"e","result":{"action":"accept", "content":{"n":1e999}}}
        S: {"method":"notifications/progress","params":{"progressToken":2,"progress":2}}
        -> 2: {"method":"notifications/progress","params":{"progressToken":"t","progress":2}}
        S: {"id":2,"result":{"content":[]}}
        -> 2: {"id":"b","result":{"resultType":"complete",$INFO,"content":[]}}
        "#,
    );
}

#[test]
fn several_questions_take_several_rounds() {
    check(
        r#"
        1: {"id":1,"method":"prompts/get","params":{"name":"x",$ALL}}
        -> S: {"id":2,"method":"prompts/get","params":{"name":"x"}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q3":{"method":"roots/list"}},"requestState":"TICKET 4",$INFO}}
        S: {"id":2,"method":"sampling/createMessage","params":{"maxTokens":1}}
        S: {"id":3,"method":"elicitation/create","params":{"message":"m"}}
        1: {"id":2,"method":"prompts/get","params":{"name":"x","inputResponses":{"q3":{"roots":[]},"q5":{"forged":1}},"requestState":"TICKET 4",$ALL}}
        -> S: {"id":1,"result":{"roots":[]}}
        -> 1: {"id":2,"result":{"resultType":"input_required","inputRequests":{"q5":{"method":"sampling/createMessage","params":{"maxTokens":1}},"q6":{"method":"elicitation/create","params":{"message":"m"}}},"requestState":"TICKET 7",$INFO}}
        1: {"id":3,"method":"prompts/get","params":{"name":"x","inputResponses":{"q6":{"action":"decline"}},"requestState":"TICKET 7",$ALL}}
        -> S: {"id":3,"result":{"action":"decline"}}
        -> 1: {"id":3,"result":{"resultType":"input_required","inputRequests":{"q5":{"method":"sampling/createMessage","params":{"maxTokens":1}}},"requestState":"TICKET 8",$INFO}}
        S: {"method":"notifications/cancelled","params":{"requestId":2.0}}
        1: {"id":4,"method":"prompts/get","params":{"name":"x","inputResponses":{"q5":{}},"requestState":"TICKET 8",$ALL}}
        S: {"id":2,"result":{}}
        -> 1: {"id":4,"result":{"resultType":"complete",$INFO}}
        "#,
    );
}

#[test]
fn a_handle_is_good_once_and_for_its_request() {
    check(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{"name":"x",$ALL}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{"name":"x"}}}}
        S: {{"id":1,"method":"roots/list"}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q3":{{"method":"roots/list"}}}},"requestState":"TICKET 4",$INFO}}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 5",$ALL}}}}
        -> 1: {{"id":2,"error":{UNKNOWN}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":"4",$ALL}}}}
        -> 1: {{"id":2,"error":{UNKNOWN}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":4,$ALL}}}}
        -> 1: {{"id":2,"error":{UNKNOWN}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 4","inputResponses":[],$ALL}}}}
        -> 1: {{"id":2,"error":{{"code":-32602,"message":"inputResponses is no object"}}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 4","inputResponses":{{"q3":null}},$ALL}}}}
        -> 1: {{"id":2,"error":{{"code":-32602,"message":"a member of inputResponses is no object"}}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 4",$ALL}}}}
        -> 1: {{"id":2,"result":{{"resultType":"input_required","inputRequests":{{"q3":{{"method":"roots/list"}}}},"requestState":"TICKET 5",$INFO}}}}
        1: {{"id":3,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 4","inputResponses":{{"q3":{{}}}},$ALL}}}}
        -> 1: {{"id":3,"error":{UNKNOWN}}}
        2: {{"id":3,"method":"tools/call","params":{{"name":"y","requestState":"TICKET 5","inputResponses":{{"q3":{{}}}},$ALL}}}}
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":2,"reason":"its client went on with another request"}}}}
        -> S: {{"id":1,"error":{{"code":-32603,"message":"its client went on with another request"}}}}
        -> 2: {{"id":3,"error":{{"code":-32602,"message":"the requestState belongs to another request; that one is given up"}}}}
        1: {{"id":4,"method":"tools/call","params":{{"name":"x","requestState":"TICKET 5",$ALL}}}}
        -> 1: {{"id":4,"error":{UNKNOWN}}}
        S: {{"id":2,"result":{{}}}}
        "#
    ));
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{"name":"x",$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x"}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q3":{"method":"roots/list"}},"requestState":"TICKET 4",$INFO}}
        1: {"id":2,"method":"prompts/get","params":{"name":"x","requestState":"TICKET 4",$ALL}}
        -> S: {"method":"notifications/cancelled","params":{"requestId":2,"reason":"its client went on with another request"}}
        -> S: {"id":1,"error":{"code":-32603,"message":"its client went on with another request"}}
        -> 1: {"id":2,"error":{"code":-32602,"message":"the requestState belongs to another request; that one is given up"}}
        "#,
    );
}

#[test]
fn a_parked_call_expires() {
    let mut hub = begun();
    play(
        &mut hub,
        r#"
        tick 10
        1: {"id":1,"method":"tools/call","params":{$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q3":{"method":"roots/list"}},"requestState":"TICKET 4",$INFO}}
        tick 69
        "#,
    );
    let mut out = Vec::new();
    assert_eq!(hub.tick(Duration::from_secs(69), &mut out), Some(Duration::from_secs(70)));
    assert_eq!(hub.parked(), 1);
    play(
        &mut hub,
        &format!(
            r#"
            tick 70
            -> S: {{"method":"notifications/cancelled","params":{{"requestId":2,"reason":"its client did not answer in time"}}}}
            -> S: {{"id":1,"error":{{"code":-32603,"message":"its client did not answer in time"}}}}
            1: {{"id":2,"method":"tools/call","params":{{"requestState":"TICKET 4",$ALL}}}}
            -> 1: {{"id":2,"error":{UNKNOWN}}}
            "#
        ),
    );
    assert_eq!((hub.parked(), hub.tick(Duration::from_secs(71), &mut out)), (0, None));
}

#[test]
fn an_answer_that_comes_early_is_kept_for_the_repeat() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q3":{"method":"roots/list"}},"requestState":"TICKET 4",$INFO}}
        S: {"id":2,"method":"roots/list"}
        S: {"id":2,"result":{"content":[]}}
        S: {"id":2,"result":{"content":["again"]}}
        1: {"id":2,"method":"tools/call","params":{"requestState":"TICKET 4","inputResponses":{"q3":{}},$ALL}}
        -> S: {"id":1,"result":{}}
        -> S: {"id":2,"error":{"code":-32603,"message":"the call that this was about is over"}}
        -> 1: {"id":2,"result":{"resultType":"complete",$INFO,"content":[]}}
        "#,
    );
    let large = "x".repeat(3000);
    check(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{$ALL}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{}}}}
        S: {{"id":1,"method":"roots/list"}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q3":{{"method":"roots/list"}}}},"requestState":"TICKET 4",$INFO}}}}
        S: {{"id":2,"result":{{"content":["{large}"]}}}}
        1: {{"id":2,"method":"tools/call","params":{{"requestState":"TICKET 4","inputResponses":{{"q3":{{}}}},$ALL}}}}
        -> S: {{"id":1,"result":{{}}}}
        -> 1: {{"id":2,"error":{{"code":-32603,"message":"the answer came while the client was asked, and was too large to be kept"}}}}
        "#
    ));
}

#[test]
fn what_is_asked_while_no_call_is_open_is_nobodys_where_there_are_several_clients() {
    let nobody = r#"{"code":-32603,"message":"clients can be asked only while a call of theirs is open, and several may use this server"}"#;
    check(&format!(
        r#"
        S: {{"id":1,"method":"roots/list"}}
        -> S: {{"id":1,"error":{nobody}}}
        1: {{"id":1,"method":"tools/list","params":{{$ALL}}}}
        -> S: {{"id":2,"method":"tools/list","params":{{}}}}
        S: {{"id":2,"method":"roots/list"}}
        -> S: {{"id":2,"error":{nobody}}}
        2: {{"id":2,"method":"tools/call","params":{{"name":"x",$ALL}}}}
        -> S: {{"id":3,"method":"tools/call","params":{{"name":"x"}}}}
        S: {{"id":3,"method":"roots/list"}}
        -> 2: {{"id":2,"result":{{"resultType":"input_required","inputRequests":{{"q4":{{"method":"roots/list"}}}},"requestState":"TICKET 5",$INFO}}}}
        "#
    ));
}

#[test]
fn what_is_asked_when_nobody_is_there_is_asked_first() {
    check_one_client(
        r#"
        S: {"id":1,"method":"roots/list"}
        S: {"id":2,"method":"sampling/createMessage","params":{}}
        1: {"id":1,"method":"tools/list","params":{$ALL}}
        -> S: {"id":4,"method":"tools/list","params":{}}
        1: {"id":2,"method":"tools/call","params":{"name":"x",$NONE}}
        -> S: {"id":5,"method":"tools/call","params":{"name":"x"}}
        S: {"id":5,"result":7}
        -> 1: {"id":2,"result":7}
        1: {"id":3,"method":"tools/call","params":{"name":"x",$ALL}}
        -> 1: {"id":3,"result":{"resultType":"input_required","inputRequests":{"q2":{"method":"roots/list"},"q3":{"method":"sampling/createMessage","params":{}}},"requestState":"TICKET 7",$INFO}}
        1: {"id":4,"method":"tools/call","params":{"name":"x","requestState":"TICKET 7","inputResponses":{"q2":{"roots":[]},"q3":{"role":"user"}},$TOKEN}}
        -> S: {"id":1,"result":{"roots":[]}}
        -> S: {"id":2,"result":{"role":"user"}}
        -> S: {"id":6,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":6}}}
        S: {"id":6,"result":7}
        -> 1: {"id":4,"result":7}
        "#,
    );
    check_one_client(
        r#"
        tick 1
        S: {"id":1,"method":"roots/list"}
        S: {"id":1.0,"method":"roots/list"}
        S: {"method":"notifications/cancelled","params":{"requestId":1.0}}
        tick 61
        -> S: {"id":1,"error":{"code":-32603,"message":"there was no client to ask in time"}}
        1: {"id":2,"method":"tools/call","params":{"name":"x",$ALL}}
        -> S: {"id":4,"method":"tools/call","params":{"name":"x"}}
        "#,
    );
    let mut deaf = settings(false);
    deaf.capabilities = "{}".to_owned();
    play(
        &mut begun_with(deaf, SERVER),
        r#"
        S: {"id":1,"method":"roots/list"}
        -> S: {"id":1,"error":{"code":-32601,"message":"the client did not declare the capability 'roots'"}}
        "#,
    );
}

#[test]
fn a_question_is_asked_of_the_call_that_it_is_about() {
    let unclear =
        r#"{"code":-32603,"message":"several clients share this server, and nobody can tell which of them is asked"}"#;
    let calls = r#"
        1: {"id":1,"method":"tools/call","params":{$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        1: {"id":2,"method":"tools/call","params":{$ALL}}
        -> S: {"id":3,"method":"tools/call","params":{}}
        1: {"id":3,"method":"tools/list","params":{$ALL}}
        -> S: {"id":4,"method":"tools/list","params":{}}
        "#;
    check(&format!(
        r#"
        {calls}
        S: {{"id":1,"method":"roots/list"}}
        -> S: {{"id":1,"error":{unclear}}}
        S for 4: {{"id":1,"method":"roots/list"}}
        -> S: {{"id":1,"error":{{"code":-32603,"message":"a client cannot be asked anything because of this request"}}}}
        S for 2: {{"id":1,"method":"roots/list"}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q5":{{"method":"roots/list"}}}},"requestState":"TICKET 6",$INFO}}}}
        S: {{"id":2,"method":"roots/list"}}
        -> S: {{"id":2,"error":{unclear}}}
        1: {{"method":"notifications/cancelled","params":{{"requestId":2}}}}
        -> S: {{"method":"notifications/cancelled","params":{{"requestId":3}}}}
        S for 3: {{"id":3,"method":"roots/list"}}
        -> S: {{"id":3,"error":{{"code":-32603,"message":"nobody waits for this request any more"}}}}
        "#
    ));
    check_one_client(&format!(
        r#"
        {calls}
        S: {{"id":1,"method":"roots/list"}}
        -> 1: {{"id":2,"result":{{"resultType":"input_required","inputRequests":{{"q5":{{"method":"roots/list"}}}},"requestState":"TICKET 6",$INFO}}}}
        S: {{"id":2,"method":"roots/list"}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q7":{{"method":"roots/list"}}}},"requestState":"TICKET 8",$INFO}}}}
        S: {{"id":3,"method":"roots/list"}}
        1: {{"id":4,"method":"tools/call","params":{{"requestState":"TICKET 6","inputResponses":{{"q5":{{}}}},$ALL}}}}
        -> S: {{"id":1,"result":{{}}}}
        -> 1: {{"id":4,"result":{{"resultType":"input_required","inputRequests":{{"q9":{{"method":"roots/list"}}}},"requestState":"TICKET 10",$INFO}}}}
        "#
    ));
}

#[test]
fn what_a_client_did_not_declare_it_is_not_asked() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{$NONE}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        S: {"id":1,"method":"elicitation/create","params":{}}
        -> S: {"id":1,"error":{"code":-32601,"message":"the client did not declare the capability 'elicitation'"}}
        S: {"id":2,"result":7}
        -> 1: {"id":1,"result":7}
        1: {"id":2,"method":"tools/call","params":{$ALL}}
        -> S: {"id":3,"method":"tools/call","params":{}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":2,"result":{"resultType":"input_required","inputRequests":{"q4":{"method":"roots/list"}},"requestState":"TICKET 5",$INFO}}
        1: {"id":3,"method":"tools/call","params":{"requestState":"TICKET 5",$NONE}}
        -> S: {"id":1,"error":{"code":-32601,"message":"the client did not declare the capability 'roots'"}}
        S: {"id":3,"result":7}
        -> 1: {"id":3,"result":7}
        "#,
    );
}

#[test]
fn what_is_parked_is_bounded() {
    let call = |n: usize, number: usize| {
        format!(
            r#"
            1: {{"id":{n},"method":"tools/call","params":{{"n":{n},$ALL}}}}
            -> S: {{"id":{number},"method":"tools/call","params":{{"n":{n}}}}}
            S for {number}: {{"id":{n},"method":"roots/list"}}
            "#
        )
    };
    let parked = |n: usize, number: usize| {
        format!(
            r#"{}
            -> 1: {{"id":{n},"result":{{"resultType":"input_required","inputRequests":{{"q{}":{{"method":"roots/list"}}}},"requestState":"TICKET {}",$INFO}}}}
            "#,
            call(n, number),
            number + 1,
            number + 2
        )
    };
    let mut hub = begun();
    play(&mut hub, &[parked(1, 2), parked(2, 5), parked(3, 8)].concat());
    play(
        &mut hub,
        &format!(
            r#"{}
            -> S: {{"id":4,"error":{{"code":-32603,"message":"too many calls wait for their clients' input already; --max-inputs and --input-bytes allow more"}}}}
            S: {{"id":11,"result":7}}
            -> 1: {{"id":4,"result":7}}
            "#,
            call(4, 11)
        ),
    );
    let large = "x".repeat(1500);
    check(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{$ALL}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{}}}}
        S: {{"id":1,"method":"sampling/createMessage","params":{{"x":"{large}{large}"}}}}
        -> S: {{"id":1,"error":{{"code":-32603,"message":"too many questions wait for clients already"}}}}
        1: {{"id":2,"method":"tools/call","params":{{"x":"{large}",$ALL}}}}
        -> S: {{"id":3,"method":"tools/call","params":{{"x":"{large}"}}}}
        S for 3: {{"id":1,"method":"sampling/createMessage","params":{{"x":"{large}"}}}}
        -> S: {{"id":1,"error":{{"code":-32603,"message":"too many calls wait for their clients' input already; --max-inputs and --input-bytes allow more"}}}}
        "#
    ));
}

#[test]
fn a_url_that_must_be_opened_is_asked_for_and_the_call_sent_anew() {
    let error = r#""error":{"code":-32042,"message":"first","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"u","message":"m"}]}}"#;
    check(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{"name":"x",$ALL}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{"name":"x"}}}}
        S: {{"id":2,{error}}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q3-0":{{"method":"elicitation/create","params":{{"mode":"url","url":"u","message":"m"}}}}}},"requestState":"TICKET 4",$INFO}}}}
        1: {{"id":2,"method":"tools/call","params":{{"name":"x","inputResponses":{{"q3-0":{{"action":"accept"}}}},"requestState":"TICKET 4",$TOKEN}}}}
        -> S: {{"id":3,"method":"tools/call","params":{{"name":"x","_meta":{{"progressToken":3}}}}}}
        S: {{"id":3,"result":7}}
        -> 1: {{"id":2,"result":7}}
        1: {{"id":3,"method":"tools/call","params":{{"name":"x",$NONE}}}}
        -> S: {{"id":5,"method":"tools/call","params":{{"name":"x"}}}}
        S: {{"id":5,{error}}}
        -> 1: {{"id":3,"error":{{"code":-32021,"message":"first","data":{{"requiredCapabilities":{{"elicitation":{{"url":{{}}}}}}}}}}}}
        1: {{"id":4,"method":"tools/list","params":{{$ALL}}}}
        -> S: {{"id":6,"method":"tools/list","params":{{}}}}
        S: {{"id":6,"error":{{"code":-32042,"message":"first"}}}}
        -> 1: {{"id":4,"error":{{"code":-32603,"message":"first"}}}}
        "#
    ));
}

#[test]
fn logs_follow_the_repeat() {
    check(
        r#"
        1: {"id":1,"method":"tools/call","params":{$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{}}
        S: {"id":1,"method":"roots/list"}
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"q3":{"method":"roots/list"}},"requestState":"TICKET 4",$INFO}}
        S for 2: {"method":"notifications/message","params":{"level":"error"}}
        1: {"id":2,"method":"tools/call","params":{"requestState":"TICKET 4","inputResponses":{"q3":{}},"_meta":{"io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/logLevel":"info"}}}
        -> S: {"id":5,"method":"logging/setLevel","params":{"level":"info"}}
        -> S: {"id":1,"result":{}}
        S: {"method":"notifications/message","params":{"level":"error"}}
        -> 1: {"method":"notifications/message","params":{"level":"error"}}
        "#,
    );
}

#[test]
fn a_loss_forgets_what_is_parked() {
    check(&format!(
        r#"
        1: {{"id":1,"method":"tools/call","params":{{$ALL}}}}
        -> S: {{"id":2,"method":"tools/call","params":{{}}}}
        S: {{"id":1,"method":"roots/list"}}
        -> 1: {{"id":1,"result":{{"resultType":"input_required","inputRequests":{{"q3":{{"method":"roots/list"}}}},"requestState":"TICKET 4",$INFO}}}}
        1: {{"id":2,"method":"tools/call","params":{{$ALL}}}}
        -> S: {{"id":5,"method":"tools/call","params":{{}}}}
        lose
        -> 1: {{"id":2,"error":{{"code":-32603,"message":"lost"}}}}
        begin
        {}
        1: {{"id":3,"method":"tools/call","params":{{"requestState":"TICKET 4",$ALL}}}}
        S: {{"id":6,"result":{{}}}}
        -> S: {{"method":"notifications/initialized"}}
        -> 1: {{"id":3,"error":{UNKNOWN}}}
        "#,
        BEGIN.replace(r#""id":1"#, r#""id":6"#)
    ));
}

#[test]
fn it_says_what_it_can_take() {
    let mut hub = begun();
    let request = |method: &str, params: &str| {
        let text = format!(r#"{{"id":1,"method":"{method}","params":{{{params}}}}}"#);
        message(&spelled_out(&new(), &text))
    };
    let asking = ["$ALL", "$ERROR"].map(|meta| request("tools/call", meta));
    let others =
        [request("tools/call", "$NONE"), request("tools/list", "$ALL"), request("subscriptions/listen", "$ALL")];
    assert!(asking.iter().chain(&others).all(|message| hub.is_free_for(message)));
    let mut out = Vec::new();
    for other in &others[..2] {
        hub.from_client(Key(1), other.clone(), &mut out);
    }
    assert!(asking.iter().chain(&others).all(|message| hub.is_free_for(message)));
    hub.from_client(Key(1), asking[0].clone(), &mut out);
    assert!(!asking.iter().any(|message| hub.is_free_for(message)));
    assert!(others.iter().all(|message| hub.is_free_for(message)));
    hub.from_server(message(r#"{"id":1,"method":"roots/list"}"#).with_related(&Id::number(hub.last)), &mut out);
    assert_eq!(hub.parked(), 1);
    assert!(!asking.iter().any(|message| hub.is_free_for(message)));
    let ticket = hub.tickets.make(*hub.parked.keys().next().unwrap());
    assert!(hub.resumes(&request("tools/call", &format!(r#""requestState":"{ticket}""#))));
    assert!(!hub.resumes(&request("tools/call", r#""requestState":"x""#)) && !hub.resumes(&asking[0]));
    assert!(!hub.resumes(&request("tools/list", &format!(r#""requestState":"{ticket}""#))));
    let mut alone = begun_with(settings(true), SERVER);
    alone.from_client(Key(1), asking[0].clone(), &mut out);
    assert!(alone.is_free_for(&asking[0]));
}

#[test]
fn a_cancelled_call_keeps_those_away_that_may_be_asked_until_it_is_answered() {
    let mut hub = begun();
    let mut out = Vec::new();
    let call = |id: u32, meta: &str| {
        let text = format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"x",{meta}}}}}"#);
        message(&spelled_out(&new(), &text))
    };
    hub.from_client(Key(1), call(1, "$ALL"), &mut out);
    hub.leave(Key(1), &mut out);
    assert!(hub.is_haunted() && !hub.is_free_for(&call(1, "$ALL")) && !hub.is_free_for(&call(1, "$ERROR")));
    assert!(hub.is_free_for(&call(1, "$NONE")));
    assert_eq!(hub.stuck_since(), None);
    hub.tick(Duration::from_secs(7), &mut out);
    hub.from_client(Key(2), call(1, "$NONE"), &mut out);
    assert_eq!(hub.stuck_since(), Some(Duration::from_secs(7)));
    hub.from_server(message(r#"{"id":3,"result":{}}"#), &mut out);
    assert_eq!(hub.stuck_since(), None, "it does answer");
    assert!(hub.is_haunted());
    hub.from_server(message(r#"{"id":2,"error":{"code":0,"message":"cancelled"}}"#), &mut out);
    assert!(!hub.is_haunted() && hub.is_free_for(&call(1, "$ALL")));
    // Where nothing may be asked, only one that wanted log messages haunts.
    let mut hub = begun_with(Settings { capabilities: "{}".into(), ..settings(false) }, SERVER);
    hub.from_client(Key(1), call(1, "$NONE"), &mut out);
    hub.leave(Key(1), &mut out);
    assert!(!hub.is_haunted());
    hub.from_client(Key(2), call(1, "$ERROR"), &mut out);
    hub.leave(Key(2), &mut out);
    assert!(hub.is_haunted());
}

#[test]
fn questions_that_are_asked_at_once_come_in_one_round() {
    let gathering = || begun_with(Settings { gather: Duration::from_secs(2), ..settings(false) }, SERVER);
    play(
        &mut gathering(),
        r#"
        tick 10
        1: {"id":1,"method":"tools/call","params":{"name":"x",$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x"}}
        S: {"id":"a","method":"roots/list"}
        tick 11
        S: {"id":2,"method":"roots/list"}
        tick 12
        tick 13
        -> 1: {"id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"q4":{"method":"roots/list"}},"requestState":"TICKET 5",$INFO}}
        1: {"id":2,"method":"tools/call","params":{"name":"x","inputResponses":{"a":{"n":1},"q4":{"n":2}},"requestState":"TICKET 5",$ALL}}
        -> S: {"id":"a","result":{"n":1}}
        -> S: {"id":2,"result":{"n":2}}
        S: {"id":2,"result":{}}
        -> 1: {"id":2,"result":{"resultType":"complete",$INFO}}
        "#,
    );
    // When a call that was parked just now is too old is known at once: nothing else may happen until then.
    let (mut hub, mut out) = (gathering(), Vec::new());
    let call = r#"1: {"id":1,"method":"tools/call","params":{"name":"x",$ALL}}"#;
    let call = spelled_out(&hub, call);
    do_step(&mut hub, &call, &mut out);
    do_step(&mut hub, r#"S: {"id":"a","method":"roots/list"}"#, &mut out);
    assert_eq!(hub.tick(Duration::from_secs(1), &mut out), Some(Duration::from_secs(2)));
    assert_eq!(hub.tick(Duration::from_secs(2), &mut out), Some(Duration::from_secs(62)));
    // An answer, or the client's end, comes before they are asked.
    play(
        &mut gathering(),
        r#"
        1: {"id":1,"method":"tools/call","params":{"name":"x",$ALL}}
        -> S: {"id":2,"method":"tools/call","params":{"name":"x"}}
        S: {"id":"a","method":"roots/list"}
        S: {"id":2,"result":{}}
        -> S: {"id":"a","error":{"code":-32603,"message":"the call that this was about is over"}}
        -> 1: {"id":1,"result":{"resultType":"complete",$INFO}}
        1: {"id":2,"method":"tools/call","params":{"name":"x",$ALL}}
        -> S: {"id":4,"method":"tools/call","params":{"name":"x"}}
        S: {"id":"b","method":"roots/list"}
        leave 1
        -> S: {"method":"notifications/cancelled","params":{"requestId":4,"reason":"its client is gone"}}
        -> S: {"id":"b","error":{"code":-32603,"message":"its client is gone"}}
        tick 20
        "#,
    );
}

#[test]
fn a_call_that_fails_for_want_of_a_capability_says_so() {
    for (failed, told) in [
        (
            r#""result":{"isError":true,"content":[]}"#,
            r#""error":{"code":-32021,"message":"the server needs a capability that the client did not declare","data":{"requiredCapabilities":{"sampling":{}}}}"#,
        ),
        (
            r#""error":{"code":-32603,"message":"no"}"#,
            r#""error":{"code":-32021,"message":"the server needs a capability that the client did not declare","data":{"requiredCapabilities":{"sampling":{}}}}"#,
        ),
        (r#""result":{"content":[]}"#, r#""result":{"resultType":"complete",$INFO,"content":[]}"#),
    ] {
        check(&format!(
            r#"
            1: {{"id":1,"method":"tools/call","params":{{"name":"x",$NONE}}}}
            -> S: {{"id":2,"method":"tools/call","params":{{"name":"x"}}}}
            S: {{"id":7,"method":"sampling/createMessage","params":{{}}}}
            -> S: {{"id":7,"error":{{"code":-32601,"message":"the client did not declare the capability 'sampling'"}}}}
            S: {{"id":2,{failed}}}
            -> 1: {{"id":1,{told}}}
            "#
        ));
    }
}
