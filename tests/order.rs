//! Messages reach the server in the order in which the client wrote them, as long as the server accepts them at
//! once; one that it is slow to accept is passed by the others, which keep their order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use support::remote::{ACCEPTED, Remote, behave};
use support::{Process, SOON, proxy, wait_until};

/// Shorter than what counts as slow, longer than a thread needs to go on.
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_slow_post_that_ends_lets_nobody_overtake_another() {
    for _ in 0..3 {
        let came = Arc::new((Mutex::new(Vec::<(String, Instant)>::new()), Condvar::new()));
        let seen = came.clone();
        let remote = Remote::start(move |request, connection| {
            let text = request.text();
            let Some(name) = ["first", "second", "third"].into_iter().find(|name| text.contains(name)) else {
                return behave(request, connection);
            };
            let (list, condition) = &*seen;
            let mut list = list.lock().unwrap();
            list.push((name.to_owned(), Instant::now()));
            condition.notify_all();
            match name {
                // It is answered while the second one is under way.
                "first" => drop(condition.wait_timeout_while(list, SOON, |list| list.len() < 2).unwrap()),
                "second" => drop(condition.wait_timeout_while(list, SHORT, |list| list.len() < 3).unwrap()),
                _ => drop(list),
            }
            connection.write(ACCEPTED);
        });
        let mut process = Process::start(proxy().arg(remote.url("/sse")));
        let methods = ["initialize", "first", "second", "third"];
        for (id, method) in methods.iter().enumerate() {
            process.write(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\"}}\n").as_bytes());
            if id == 0 {
                assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains("result"));
            }
        }
        wait_until("all messages", SOON, || came.0.lock().unwrap().len() == 3);
        let list = came.0.lock().unwrap().clone();
        let names: Vec<_> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["first", "second", "third"]);
        let apart = list[2].1 - list[1].1;
        assert!(apart >= SHORT, "the third message did not wait for the second: {apart:?}");
    }
}
