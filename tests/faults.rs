//! Everything breaks while many clients call: servers, connections, the remote, descriptors, threads, the log, the
//! clock. From a seed, which is printed; `FAULTS_SEED` runs it again. After each run every request was answered once,
//! nobody got what is another's, nothing was done twice, nothing is left, and a fresh client is served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

mod support;

#[path = "faults/clients.rs"]
mod clients;
#[path = "faults/cutter.rs"]
mod cutter;
#[path = "faults/inject.rs"]
mod inject;
#[path = "faults/ledger.rs"]
mod ledger;
#[path = "faults/run.rs"]
mod run;
#[path = "faults/seed.rs"]
mod seed;
#[path = "faults/wire.rs"]
mod wire;

use inject::Kind;
use run::{Plan, Sharing, serves};
use seed::Seed;
use std::time::Duration;

/// How long each of the short runs breaks things.
const SHORT: Duration = Duration::from_secs(4);

/// What can be broken between clients and servers here.
const HERE: &[Kind] = &[
    Kind::Killed,
    Kind::Stopped,
    Kind::Slow,
    Kind::Mute,
    Kind::Deaf,
    Kind::Exits,
    Kind::Cut,
    Kind::CutUp,
    Kind::CutDown,
    Kind::HalfOpen,
];

fn short(sharing: Sharing, number: u64) {
    let seed = Seed::from_environment(5).branch(number);
    serves(&Plan { sharing, seed, lasts: SHORT, kinds: HERE });
}

#[test]
fn own_servers_break() {
    short(Sharing::Own, 1);
}

#[test]
fn a_shared_server_breaks() {
    short(Sharing::Shared, 2);
}

#[test]
fn a_server_without_sessions_breaks() {
    short(Sharing::Stateless, 3);
}
