//! Many clients at the same moment: as many sessions as the limit says and no more, and no server that nobody needs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Barrier;
use std::thread;
use support::client::Client;
use support::served::Served;
use support::{SOON, wait_until};

/// So many clients that open a session at once; those that got one.
fn open_at_once(served: &Served, count: usize) -> Vec<Client> {
    let (address, start) = (served.address(), Barrier::new(count));
    thread::scope(|scope| {
        let open = || {
            start.wait();
            Client::try_open(&address)
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(open)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
    })
}

/// Servers that are alive; each is a shell and its child.
fn shells(served: &Served) -> usize {
    served.marked().iter().filter(|(_, line)| line.starts_with("sh ")).count()
}

#[test]
fn the_limit_of_sessions_is_exact() {
    let served = Served::script(&["--max-sessions", "3"], "cat >/dev/null");
    for round in 0..10 {
        let clients = open_at_once(&served, 24);
        assert_eq!(clients.len(), 3, "round {round}\n{}", served.report());
        drop(clients);
        wait_until("all places are free", SOON, || {
            let clients: Vec<_> = (0..3).map_while(|_| Client::try_open(&served.address()).ok()).collect();
            clients.len() == 3
        });
        wait_until("they are free again", SOON, || shells(&served) <= 1);
    }
}

#[test]
fn one_spare_is_started_for_many_clients() {
    let served = Served::script(&[], ": >$HERE/started-$$; cat >/dev/null");
    let clients = open_at_once(&served, 24);
    assert_eq!(clients.len(), 24);
    served.wait_for_notes(25, "started");
    wait_until("a server a client and the spare", SOON, || shells(&served) == 25);
    let log = served.process.stderr();
    assert!(!log.contains("before a client came"), "{log}");
}

#[test]
fn servers_that_take_their_time_to_end_are_not_piled_up() {
    let options = ["--max-sessions", "2", "--stop-timeout", "60"];
    let served = Served::script(&options, "trap '' TERM; : >$HERE/started-$$; while :; do sleep 1000; done");
    for _ in 0..20 {
        let _ = Client::try_open(&served.address()); // and gone again
        // A shell that starts its `sleep` is there twice for a moment; a server too many would stay.
        let most = 2 * 2 + 2; // two servers a session, the spare and one that may tell late what it speaks
        wait_until("no more servers than that", SOON, || shells(&served) <= most);
    }
    let refused = Client::try_open(&served.address()).map(drop);
    assert!(refused.is_err_and(|status| status.contains(" 503 ")));
}
