//! Threads that end as they never should.

use super::super::session::ONLY;
use crate::serve::server::{Of, Owner};
use crate::serve::tests::{Home, Kept, call, session, wait_until};
use crate::upstream::{Event, Link, Receiver};
use std::panic;
use std::sync::Arc;

/// A way from a server whose reader fails.
struct Defect;

impl Receiver for Defect {
    fn recv(&mut self) -> Event {
        panic::resume_unwind(Box::new("a defect")) // without a word on stderr
    }
}

#[test]
fn a_server_whose_thread_fails_leaves_nobody_waiting() {
    let home = Home::of("legacy");
    let (offer, server) = (home.offer(), Arc::new(Kept::default()));
    let one = Arc::new(session(&offer, &home.house, server.clone(), false));
    one.take(&[call(1)], ONLY).unwrap();
    let link = Link { sender: server, receiver: Box::new(Defect) };
    home.house.keep_server(&offer, Owner::new(Of::Session(one.clone())), link).unwrap();
    wait_until("the end of the session", || one.is_ended());
    wait_until("the end of its server", || home.servers() == 1); // the spare
}
