//! Links to servers that many clients use: who waits for one is woken, who comes after its end finds another, and those
//! that nobody needs end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

#[path = "links/anew.rs"]
mod anew;

use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::before_puppets::{ASKED, QUESTION, call, get, id_of, request, result, send};
use support::client::Client;
use support::http::Http;
use support::modern::{behave, error};
use support::puppet::{Puppet, Stage};
use support::remote::{Connection, Remote, Request};
use support::served::Served;
use support::streamable::respond;
use support::{Folder, Process, SOON, program, proxy, wait_until};

const WAITS: &str = "a call waits for one of the links";

fn status(address: &str) -> Value {
    let mut http = Http::connect(address);
    "/status".clone_into(&mut http.path);
    http.send("GET", &[("Accept", "application/json")], "");
    get(&mut http)
}

fn answer(puppet: &mut Puppet, name: &str) {
    puppet.say(&result(&id_of(puppet, name), name));
}

#[test]
fn a_call_that_waits_for_a_link_gets_the_one_that_is_free() {
    let stage = Stage::open(&["--debug", "--max-links", "1"]);
    let mut one = call(&stage, 1, "of-one", ASKED);
    let mut puppet = stage.puppet("of-one");
    let mut two = call(&stage, 1, "of-two", ASKED);
    stage.served.process.wait_for_stderr(WAITS);
    answer(&mut puppet, "of-one");
    assert_eq!(get(&mut one)["result"]["of"], "of-one");
    answer(&mut puppet, "of-two");
    assert_eq!(get(&mut two)["result"]["of"], "of-two");
}

#[test]
fn a_call_whose_client_goes_while_it_waits_for_a_link_is_never_sent() {
    const GONE: &str = "a client has gone before its request was sent";
    let stage = Stage::open(&["--debug", "--max-links", "1"]);
    let mut one = call(&stage, 1, "of-one", ASKED);
    let mut puppet = stage.puppet("of-one");
    let two = call(&stage, 1, "of-two", ASKED);
    stage.served.process.wait_for_stderr(WAITS);
    drop(two);
    stage.served.process.wait_for_stderr(GONE); // while the link is busy still
    let also_two = call(&stage, 1, "of-two", ASKED);
    wait_until("another that waits", SOON, || stage.served.process.stderr().matches(WAITS).count() == 2);
    drop(also_two);
    answer(&mut puppet, "of-one"); // the link is free before anybody can have looked
    assert_eq!(get(&mut one)["result"]["of"], "of-one");
    wait_until("its end, too", SOON, || stage.served.process.stderr().matches(GONE).count() == 2);
    let mut three = call(&stage, 1, "of-three", ASKED);
    answer(&mut puppet, "of-three");
    assert_eq!(get(&mut three)["result"]["of"], "of-three");
    assert!(!puppet.got().iter().any(|line| line.contains("of-two")), "{:?}", puppet.got());
}

/// A link whose call waits for its client's input, one that is busy, and a call that waits for either.
fn all_taken(options: &[&str]) -> (Stage, Puppet, Puppet, [Http; 2]) {
    let stage = Stage::open(&[&["--debug", "--max-links", "1"], options].concat());
    let mut one = call(&stage, 1, "of-one", ASKED);
    let mut first = stage.puppet("of-one");
    first.say(QUESTION);
    assert_eq!(get(&mut one)["result"]["resultType"], "input_required");
    let two = call(&stage, 1, "of-two", ASKED);
    let second = stage.puppet("of-two");
    assert_ne!(first.pid, second.pid);
    let three = call(&stage, 1, "of-three", ASKED);
    stage.served.process.wait_for_stderr(WAITS);
    (stage, first, second, [two, three])
}

#[test]
fn a_call_that_waits_for_a_link_gets_the_one_that_is_lost() {
    let (stage, first, mut second, [mut two, mut three]) = all_taken(&[]);
    first.die();
    let mut again = stage.puppet("of-three");
    assert!(again.pid != first.pid && again.pid != second.pid);
    answer(&mut again, "of-three");
    assert_eq!(get(&mut three)["result"]["of"], "of-three");
    answer(&mut second, "of-two");
    assert_eq!(get(&mut two)["result"]["of"], "of-two");
}

#[test]
fn a_call_that_waits_for_a_link_gets_the_one_whose_client_does_not_answer() {
    let (_stage, mut first, _second, [_two, mut three]) = all_taken(&["--input-timeout", "3"]);
    assert!(first.gets("notifications/cancelled").contains("did not answer in time"));
    answer(&mut first, "of-one"); // until then, a question might be about that call
    answer(&mut first, "of-three");
    assert_eq!(get(&mut three)["result"]["of"], "of-three");
}

#[test]
fn a_cancelled_call_that_is_not_answered_breaks_nobodys_questions() {
    let stage = Stage::open(&["--max-links", "1"]);
    let gone = call(&stage, 1, "of-gone", ASKED);
    let mut first = stage.puppet("of-gone");
    drop(gone);
    let _ = first.gets("notifications/cancelled");
    let mut two = call(&stage, 1, "of-two", ASKED);
    let mut second = stage.puppet("of-two");
    assert_ne!(first.pid, second.pid, "nobody could tell whose call a question is about");
    second.say(QUESTION);
    assert_eq!(get(&mut two)["result"]["resultType"], "input_required");
    // Once the server has answered, calls go to it as before.
    answer(&mut first, "of-gone");
    first.say(r#"{"jsonrpc":"2.0","id":"seen","method":"ping"}"#);
    let _ = first.gets(r#""seen""#);
    let mut three = call(&stage, 1, "of-three", ASKED);
    assert_eq!(stage.puppet("of-three").pid, first.pid);
    answer(&mut first, "of-three");
    assert_eq!(get(&mut three)["result"]["of"], "of-three");
}

/// Four calls about which the server asks, one after another: how each is answered, and by which process. The server
/// answers those that it may not ask about.
fn asked_four_times(options: &[&str], name: &str) -> Vec<(Value, u32)> {
    let stage = Stage::open(options);
    let asked = |number: u32| {
        let name = format!("of-{number}{name}");
        let mut client = call(&stage, number, &name, ASKED);
        let mut puppet = stage.puppet(&name);
        puppet.say(&QUESTION.replace("who", &format!("who-{number}")));
        if number > 2 {
            let refused = puppet.gets(&format!("who-{number}"));
            assert!(refused.contains("too many"), "{refused}");
            answer(&mut puppet, &name);
        }
        (get(&mut client)["result"].clone(), puppet.pid)
    };
    (1..=4).map(asked).collect()
}

#[test]
fn what_waits_for_the_input_of_clients_is_bounded_over_all_links() {
    let long = "x".repeat(1000);
    for (options, name) in [(["--max-inputs", "2"], ""), (["--input-bytes", "2500"], &*long)] {
        let seen = asked_four_times(&options, name);
        let waits = |at: usize| seen[at].0["resultType"] == "input_required";
        assert!(waits(0) && waits(1), "{options:?}: {seen:?}");
        // Their links are kept for them; the others share one, and are served.
        assert!(seen[2].0["of"].is_string() && seen[3].0["of"].is_string(), "{options:?}: {seen:?}");
        assert!(seen[0].1 != seen[1].1 && seen[1].1 != seen[2].1 && seen[2].1 == seen[3].1, "{options:?}: {seen:?}");
    }
}

#[test]
fn a_legacy_session_outlives_the_modern_server_behind_the_bridge() {
    for options in [&[][..], &["--shared"]] {
        let stage = Stage::open_before("modern", options);
        let mut http = Http::connect(&stage.address());
        http.begin("2025-11-25");
        let client = Client::open(&stage.address());
        assert_eq!(client.post(&support::client::initialize(1)), 202);
        let _ = client.message("serverInfo");
        let ask = |name: &str| support::client::request(7, "tools/call", &format!(r#"{{"name":"{name}"}}"#));
        http.send("POST", &[], &ask("under-way"));
        let puppet = stage.puppet("under-way");
        puppet.die();
        let lost = get(&mut http);
        assert!(lost["error"]["message"].as_str().is_some_and(|why| why.contains("signal 9")), "{options:?} {lost}");
        http.send("POST", &[], &ask("of-http"));
        let mut next = stage.puppet("of-http");
        assert_ne!(next.pid, puppet.pid);
        answer(&mut next, "of-http");
        assert_eq!(get(&mut http)["result"]["of"], "of-http", "{options:?}");
        // Nothing is open when it ends now; the other session goes on too.
        next.die();
        wait_until("the end of the server", SOON, || !Path::new(&format!("/proc/{}", next.pid)).exists());
        assert_eq!(client.post(&ask("of-sse")), 202);
        let mut third = stage.puppet("of-sse");
        answer(&mut third, "of-sse");
        let _ = client.message(r#""of":"of-sse""#);
    }
}

/// A modern server: `FIRST` is done when a process gets its first line, and `BAD` is a file that lets it refuse.
const MODERN: &str = r#"
    IFS= read -r line; FIRST
    while :; do
        id=${line#*'"id":'} id=${id%%[,\}]*}
        case $line in
        *server/discover*) if [ -e "$HERE/BAD" ]
            then echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32603,"message":"the database is away"}}'
            else echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}'
            fi ;;
        *'"method":"initialize"'*)
            echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}' ;;
        *die*) exit 3 ;;
        *tools/call*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","content":[]}}' ;;
        esac
        IFS= read -r line || exit 0
    done"#;

#[test]
fn a_legacy_session_whose_server_refuses_to_begin_again_ends_and_another_begins() {
    for options in [&[][..], &["--shared"]] {
        let served = Served::script(options, &MODERN.replace("FIRST", ":"));
        let ask = |http: &mut Http, name: &str| {
            http.send("POST", &[], &support::client::request(7, "tools/call", &format!(r#"{{"name":"{name}"}}"#)));
            http.answer()
        };
        let mut http = Http::connect(&served.address());
        http.begin("2025-11-25");
        assert!(ask(&mut http, "x").body.contains("content"), "{options:?}");
        std::fs::write(served.folder().join("BAD"), "").unwrap();
        assert!(ask(&mut http, "die").body.contains("exited with status 3"), "{options:?}");
        // Either this request meets the process that refuses, or that has ended the session before.
        let refused = ask(&mut http, "x");
        let is_known = refused.body.contains("the database is away") || refused.head.status == 404;
        assert!(is_known, "{options:?}: {refused:?}");
        std::fs::remove_file(served.folder().join("BAD")).unwrap();
        let gone = ask(&mut http, "x");
        assert_eq!(gone.head.status, 404, "{options:?}: {gone:?}");
        let mut again = Http::connect(&served.address());
        again.begin("2025-11-25");
        assert!(ask(&mut again, "x").body.contains("content"), "{options:?}");
    }
}

#[test]
fn processes_that_crash_when_they_begin_say_nothing_of_the_era() {
    for crashes in 1..=3 {
        let first = r#"for n in 1 2 3; do [ $n -le CRASHES ] && mkdir "$HERE/crash-$n" 2>/dev/null && exit 4; done"#;
        let first = first.replace("CRASHES", &crashes.to_string());
        let served = Served::script(&[], &MODERN.replace("FIRST", &first));
        let ask = || {
            let mut http = Http::connect(&served.address());
            send(&mut http, &request(1, "tools/call", &json!({"name": "x"}), "{}"));
            http.answer()
        };
        if crashes == 3 {
            let lost = ask();
            assert!(lost.body.contains("exited with status 4"), "{lost:?}");
            assert_eq!(status(&served.address())["servers"]["default"]["era"], "unknown");
        }
        let answer = ask();
        assert!(answer.body.contains("content"), "{crashes}: {answer:?}");
        assert_eq!(status(&served.address())["servers"]["default"]["era"], "modern", "{crashes}");
    }
}

#[test]
fn links_to_a_server_that_is_not_offered_any_more_end_with_their_last_client() {
    let folder = Folder::new();
    let script = r#"echo $$ >>pids
        while read -r line; do
            id=${line#*'"id":'} id=${id%%[,\}]*}
            case $line in
            *server/discover*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"no"}}' ;;
            *initialize\"*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{}}}' ;;
            *of-one*) echo '{"jsonrpc":"2.0","id":'$id',"result":{}}' ;;
            *of-two*) while ! [ -e answer ]; do sleep 0.05; done
                echo '{"jsonrpc":"2.0","id":'$id',"result":{}}' ;;
            esac
        done"#;
    let goes = json!({"command": "sh", "args": ["-c", script.replace("${", "$${")], "cwd": folder.path()});
    let stays = json!({"command": program(), "args": ["--demo"]});
    let write = |servers: Value| folder.file("servers.json", json!({"mcpServers": servers}).to_string());
    let file = write(json!({"goes": goes, "stays": stays}));
    let proxy = Process::start(proxy().args(["--port", "0", "--named-server-config"]).arg(file));
    let ask = |name: &str, capabilities: &str| {
        let mut http = Http::connect(&proxy.address());
        "/servers/goes/mcp".clone_into(&mut http.path);
        send(&mut http, &request(1, "tools/call", &json!({"name": name}), capabilities));
        http
    };
    assert!(get(&mut ask("of-one", "{}"))["result"].is_object()); // and its link waits for the next client
    let mut open = ask("of-two", ASKED);
    let pids = || std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
    let alive = || pids().lines().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).count();
    wait_until("both links and the spare", SOON, || alive() == 3);
    write(json!({"stays": stays}));
    proxy.signal("HUP");
    wait_until("the end of what nobody uses", SOON, || alive() == 1);
    let _ = folder.file("answer", "");
    assert!(get(&mut open)["result"].is_object());
    wait_until("the end of the last link", SOON, || alive() == 0);
}

/// A remote server that fails as it is told to until it is up.
fn failing(kind: &'static str) -> (Remote, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let (up, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (is_up, requests) = (up.clone(), seen.clone());
    let remote = Remote::start(move |request: &Request, connection: &mut Connection<'_>| {
        if is_up.load(Ordering::SeqCst) {
            return behave(request, connection);
        }
        requests.lock().unwrap().push(request.line.clone());
        match kind {
            "closed" => connection.close(),
            "error" => connection.write(error("500 Oh", &Value::Null, -32603)),
            status => connection.write(respond(status, "", "")),
        }
    });
    (remote, up, seen)
}

#[test]
fn an_outage_of_a_remote_server_says_nothing_of_its_era() {
    // A 404 without a word is also how a legacy server refuses: what it speaks is found out anew when that proves wrong.
    let kinds = ["closed", "error", "503 Busy", "401 Who", "403 No", "429 Later", "404 Not Found"];
    for kind in kinds {
        let (remote, up, seen) = failing(kind);
        let front = Process::start(proxy().args(["--port", "0"]).arg(remote.url("/mcp")));
        let ask = |id: u32| {
            let mut http = Http::connect(&front.address());
            send(&mut http, &request(id, "tools/call", &json!({"name": "x"}), "{}"));
            http.answer()
        };
        let refused = ask(1);
        assert!(!refused.body.contains("\"result\""), "{kind}: {refused:?}");
        assert!(!seen.lock().unwrap().is_empty());
        let era = status(&front.address())["servers"]["default"]["era"].clone();
        assert!(era == "unknown" || kind.starts_with("404"), "{kind}: {era}");
        up.store(true, Ordering::SeqCst);
        let answer = ask(2);
        assert!(answer.body.contains(r#""did":"tools/call""#), "{kind}: {answer:?}\n{}", front.report());
        let is_begun = remote.posts().iter().any(|post| post.contains("\"initialize\""));
        assert_eq!(is_begun, kind.starts_with("404"), "{kind}: {:?}", remote.posts());
        // From then on nothing is in between: what our client did not say of itself is not said.
        let last = if is_begun { ask(3) } else { answer };
        assert!(last.body.contains(r#""did":"tools/call""#), "{kind}: {last:?}");
        assert!(!remote.posts().last().unwrap().contains("clientInfo"), "{kind}: {:?}", remote.posts());
        assert_eq!(status(&front.address())["servers"]["default"]["era"], "modern", "{kind}");
    }
}
