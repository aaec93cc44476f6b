//! What a server speaks is found out anew: it answers late what it speaks, or another one takes its place.

use super::status;
use super::support::before_puppets::{ASKED, QUESTION, get, request, send};
use super::support::http::Http;
use super::support::modern::{behave, error, method};
use super::support::remote::{Connection, Remote, Request};
use super::support::served::Served;
use super::support::streamable::{self, json as body, message, respond};
use super::support::{Process, SOON, client, proxy, wait_until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server of both eras. What it speaks to modern clients it tells only once there is a note `now`.
const LATE: &str = r#"
    while IFS= read -r line; do
        id=${line#*'"id":'} id=${id%%[,\}]*}
        case $line in
        *'"method":"server/discover"'*)
            while ! [ -e "$HERE/now" ]; do sleep 0.05; done
            era=modern
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}' ;;
        *'"method":"initialize"'*)
            era=legacy
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}' ;;
        *'"name":"asks"'*) call=$id; echo 'QUESTION' ;;
        *'"id":"who"'*) echo '{"jsonrpc":"2.0","id":'$call',"result":{"of":"'$era'"}}' ;;
        *tools/call*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","of":"'$era'"}}' ;;
        esac
    done"#;

/// Most of the time that this takes passes while nobody does anything: as long as a server may take to answer.
#[test]
fn a_server_that_tells_late_what_it_speaks_is_believed_then() {
    let served = Served::script(&["--debug"], &LATE.replace("QUESTION", QUESTION));
    let call = |id, params: &Value| {
        let mut http = Http::connect(&served.address());
        send(&mut http, &request(id, "tools/call", params, ASKED));
        http
    };
    let known = || {
        let shown = &status(&served.address())["servers"]["default"];
        (shown["era"].as_str().unwrap().to_owned(), shown["era_is_assumed"] == true)
    };
    let mut first = call(1, &json!({"name": "x"}));
    let assumed = "speaks to modern clients: Assumed";
    wait_until(assumed, SOON * 2, || served.process.stderr().contains(assumed));
    assert_eq!(get(&mut first)["result"]["of"], "legacy");
    assert_eq!(known(), ("legacy".to_owned(), true));
    let asked = get(&mut call(2, &json!({"name": "asks"})))["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    std::fs::write(served.folder().join("now"), "").unwrap();
    wait_until("its answer", SOON, || known() == ("modern".to_owned(), false));
    assert_eq!(get(&mut call(3, &json!({"name": "x"})))["result"]["of"], "modern");
    // What is under way over the bridge ends there.
    let answers = json!({"who": {"action": "decline"}});
    let repeat = json!({"name": "asks", "requestState": asked["requestState"], "inputResponses": answers});
    assert_eq!(get(&mut call(4, &repeat))["result"]["of"], "legacy");
}

/// A modern server, whose processes are legacy ones from when there is a note `legacy`.
const TURNS: &str = r#"
    while IFS= read -r line; do
        id=${line#*'"id":'} id=${id%%[,\}]*}
        era=modern; [ -e "$HERE/legacy" ] && era=legacy
        case $era$line in
        *'"name":"die"'*) exit 3 ;;
        modern*'"method":"server/discover"'*)
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}' ;;
        legacy*'"method":"initialize"'*)
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}' ;;
        *'"method":"server/discover"'* | *'"method":"initialize"'*)
            echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"unknown"}}' ;;
        *tools/call*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","of":"'$era'"}}' ;;
        esac
    done"#;

#[test]
fn a_local_server_that_turns_into_a_legacy_one_is_found_out_by_the_next_requests() {
    for options in [&["--debug"][..], &["--debug", "--shared"]] {
        let served = Served::script(options, TURNS);
        let call = |name| {
            let mut http = Http::connect(&served.address());
            send(&mut http, &request(1, "tools/call", &json!({"name": name}), "{}"));
            get(&mut http)
        };
        assert_eq!(call("x")["result"]["of"], "modern", "{options:?}");
        std::fs::write(served.folder().join("legacy"), "").unwrap();
        assert!(call("die")["error"].is_object(), "{options:?}");
        // The first of these is refused, and another one if it comes before that is known to all.
        let mut answers = (0..3).map(|_| call("x"));
        assert!(answers.any(|answer| answer["result"]["of"] == "legacy"), "{options:?}: {}", served.report());
        assert_eq!(status(&served.address())["servers"]["default"]["era"], "legacy", "{options:?}");
        // One process for all has refused a legacy client once, and goes with the next.
        let begins = || Http::connect(&served.address()).post(&client::initialize(1)).body.contains("protocolVersion");
        wait_until("a session", SOON, begins);
        let clients = status(&served.address())["clients"].clone();
        assert!(clients.as_array().unwrap().iter().any(|one| one["bridged"] == false), "{options:?}: {clients}");
    }
}

/// A remote modern server that does not say at first that it is one; in the end a legacy one takes its place.
fn replaced(request: &Request, connection: &mut Connection<'_>, phase: usize, asked: &AtomicUsize) {
    match &*method(request) {
        _ if phase == 1
            && request.line.starts_with("POST ")
            && request.header("mcp-protocol-version") == "2026-07-28" =>
        {
            connection.write(error("400 Bad Request", &Value::Null, -32000));
        }
        _ if phase == 1 => streamable::behave(request, connection),
        "initialize" => {
            let unknown = r#""error":{"code":-32601,"message":"unknown"}"#;
            connection.write(body(&format!(r#"{{"jsonrpc":"2.0","id":{},{unknown}}}"#, message(request)["id"])));
        }
        "server/discover" if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            connection.write(respond("503 Busy", "", ""));
        }
        _ => behave(request, connection),
    }
}

#[test]
fn a_legacy_session_over_the_bridge_ends_when_a_legacy_server_takes_the_place_of_its_remote_modern_one() {
    let (phase, asked) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let now = phase.clone();
    let remote = Remote::start(move |request, connection| {
        replaced(request, connection, now.load(Ordering::SeqCst), &asked);
    });
    let front = Process::start(proxy().args(["--port", "0", "--debug"]).arg(remote.url("/mcp")));
    let ask = |http: &mut Http, id| http.post(&client::request(id, "tools/call", r#"{"name":"x"}"#));
    let mut http = Http::connect(&front.address());
    http.begin("2025-11-25");
    assert_eq!(status(&front.address())["clients"][0]["bridged"], true);
    assert!(ask(&mut http, 1).body.contains(r#""did":"tools/call""#));
    phase.store(1, Ordering::SeqCst);
    let lost = ask(&mut http, 2);
    assert!(lost.body.contains("\"error\""), "{lost:?}");
    // Now it is known: the client learns that it has to begin again, and does, straight.
    let gone = ask(&mut http, 3);
    assert_eq!(gone.head.status, 404, "{gone:?}\n{}", front.report());
    let mut again = Http::connect(&front.address());
    again.begin("2025-06-18");
    assert!(ask(&mut again, 4).body.contains(r#""did":"tools/call""#), "{}", front.report());
    let clients = status(&front.address())["clients"].clone();
    assert_eq!((clients.as_array().unwrap().len(), &clients[0]["bridged"]), (1, &json!(false)));
    let calls = remote.posts().iter().filter(|post| post.contains("tools/call")).count();
    assert_eq!(calls, 3, "no call is sent twice: {:?}", remote.posts());
}

#[test]
fn a_remote_modern_server_that_refuses_to_begin_says_why_and_is_asked_again() {
    for options in [&["--protocol", "modern"][..], &["--protocol", "modern", "--shared"]] {
        let asked = AtomicUsize::new(0);
        let remote = Remote::start(move |request, connection| {
            if method(request) == "server/discover" && asked.fetch_add(1, Ordering::SeqCst) == 0 {
                let away = r#""error":{"code":-32603,"message":"the database is away"}"#;
                let text = format!(r#"{{"jsonrpc":"2.0","id":{},{away}}}"#, message(request)["id"]);
                return connection.write(body(&text));
            }
            behave(request, connection);
        });
        let front = Process::start(proxy().args(["--port", "0"]).args(options).arg(remote.url("/mcp")));
        let mut http = Http::connect(&front.address());
        let refused = http.post(&client::initialize(1));
        assert!(refused.body.contains("the database is away"), "{options:?}: {refused:?}");
        // Until its link has ended the next ones are told the same.
        let begins = || Http::connect(&front.address()).post(&client::initialize(1)).body.contains("serverInfo");
        wait_until("a link that begins", SOON, begins);
        let mut again = Http::connect(&front.address());
        again.begin("2025-11-25");
        let answer = again.post(&client::request(2, "tools/call", r#"{"name":"x"}"#));
        assert!(answer.body.contains(r#""did":"tools/call""#), "{options:?}: {answer:?}\n{}", front.report());
    }
}
