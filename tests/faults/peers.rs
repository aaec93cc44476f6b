//! Another proxy under the same load and faults, to compare: each fault alone, with a fresh process, and one row of
//! figures.
//!
//! `FAULTS_PEER` is a line for `sh` that starts it at `$PORT` before the server whose command line is `$SERVER`;
//! without it, it is ours. `FAULTS_PATHS` names where it serves, `FAULTS_SECONDS` how long each fault is repeated.

use super::calls::{Act, Client};
use super::clients::{Door, Sse, Streamable};
use super::cutter::{self, Cutter};
use super::inject::{Kind, Target};
use super::ledger::{Counts, Ledger};
use super::run::{call, effects, free_port, server};
use super::seed::Seed;
use crate::support::{Folder, kill, program, wait_until};
use std::collections::HashSet;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to begin or to end.
const SETTLES: Duration = Duration::from_secs(15);
/// So many results show that it works.
const ENOUGH: u64 = 20;
/// How long things may recover between two faults.
const PAUSE: Duration = Duration::from_millis(500);
/// Faults that need nothing of a proxy but that it stands between clients and a server.
const KINDS: &[Kind] =
    &[Kind::Killed, Kind::Exits, Kind::Slow, Kind::Cut, Kind::CutUp, Kind::CutDown, Kind::HalfOpen, Kind::Space];

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// What came of it.
#[derive(Default)]
struct Row {
    counts: Counts,
    /// Processes of servers that outlived it.
    left: usize,
    /// The faults after which a fresh client was not served.
    dead: Vec<&'static str>,
    /// The faults after which it did not end when it was told to.
    stuck: Vec<&'static str>,
}

/// Lets it suffer each fault, and prints what came of it.
pub fn compare() {
    let mut row = Row::default();
    for kind in KINDS {
        suffer(*kind, &mut row);
    }
    let Row { counts, left, dead, stuck } = row;
    let all =
        |kinds: &[&str]| if kinds.is_empty() { "always".to_owned() } else { format!("not: {}", kinds.join(", ")) };
    println!(
        "| peer | sent | result | error | refused | cut by us | lost | foreign | double | effects twice | processes left | still serves | ends |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n\
         | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {left} | {} | {} |",
        variable("FAULTS_NAME", "ours"),
        counts.sent,
        counts.results,
        counts.errors,
        counts.refused,
        counts.cut,
        counts.lost,
        counts.foreign,
        counts.double,
        counts.twice,
        all(&dead),
        all(&stuck)
    );
}

/// Every client of the paths that it serves: one that goes there, and one whose connections may be cut.
fn clients(address: &str, cutter: &Cutter, ledger: &Arc<Ledger>) -> Vec<Box<dyn Client>> {
    let direct = Door { address: address.to_owned(), cutter: None };
    let cut = Door { address: cutter.address.clone(), cutter: Some(cutter.clone()) };
    let paths = variable("FAULTS_PATHS", "/mcp /sse");
    let at = |path: &str, door: &Door| match path {
        "/mcp" => Box::new(Streamable::new(door.clone(), false, ledger)) as Box<dyn Client>,
        _ => Box::new(Sse::new(door.clone(), ledger)),
    };
    paths.split(' ').flat_map(|path| [at(path, &direct), at(path, &cut), at(path, &direct)]).collect()
}

/// The peer, which ends with its value.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The peer, at this port.
fn start(folder: &Folder, port: u16) -> Peer {
    let ours = format!("{} --port $PORT -- $SERVER", program().display());
    let line = format!("exec {}", variable("FAULTS_PEER", &ours));
    let server = format!("env HERE={} {}", folder.path().display(), server().join(" "));
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env("PORT", port.to_string()).env("SERVER", server).process_group(0);
    Peer(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh"))
}

fn suffer(kind: Kind, row: &mut Row) {
    let (folder, mut seed) = (Folder::new(), Seed::from_environment(5));
    let port = free_port(&mut seed);
    let address = format!("127.0.0.1:{port}");
    let mut peer = start(&folder, port);
    wait_until("it listens", SETTLES, || TcpStream::connect(&address).is_ok());
    let (cutter, ledger) = (Cutter::before(&address), Arc::new(Ledger::tolerant(PATIENCE)));
    let target = Target {
        pids: vec![peer.0.id()],
        host: AtomicU32::new(peer.0.id()),
        cutter: cutter.clone(),
        orders: Mutex::default(),
        clock: None,
        over: AtomicBool::new(false),
    };
    let lasts = Duration::from_secs(variable("FAULTS_SECONDS", "5").parse().expect("FAULTS_SECONDS is a number"));
    thread::scope(|scope| {
        scope.spawn(|| call(&mut clients(&address, &cutter, &ledger), &target, &seed));
        scope.spawn(|| {
            let start = Instant::now();
            while ledger.counts().results < ENOUGH && start.elapsed() < SETTLES {
                thread::sleep(Duration::from_millis(20)); // first it works
            }
            target.suffer(&[kind], &mut seed.branch(7), &ledger, PAUSE, &|| {});
        });
        let start = Instant::now();
        while start.elapsed() < lasts || ledger.faults().is_empty() && start.elapsed() < 2 * SETTLES {
            thread::sleep(Duration::from_millis(20));
        }
        target.over.store(true, Ordering::SeqCst);
    });
    let before = ledger.counts().results;
    let mut fresh = clients(&address, &cutter, &ledger);
    for client in &mut fresh {
        client.call(&[(Act::Echo, 10)]);
    }
    if ledger.counts().results - before < fresh.len() as u64 {
        row.dead.push(kind.name());
    }
    drop(fresh);
    cutter::stop(&cutter);
    if !ends(&mut peer) {
        row.stuck.push(kind.name());
    }
    drop(peer);
    row.left += left(&folder);
    ledger.audit(&effects(folder.path()));
    add(&mut row.counts, &ledger.counts());
    println!("{}: {:?}", kind.name(), ledger.counts());
    // One of each sort.
    let mut sorts = HashSet::new();
    for what in ledger.complaints() {
        let sort: String = what.chars().filter(|c| !c.is_ascii_digit()).take(40).collect();
        if sorts.insert(sort) {
            println!("  {what}");
        }
    }
}

/// Whether it ends when it is told to; it ends in any case.
fn ends(peer: &mut Peer) -> bool {
    kill("TERM", &peer.0.id().to_string());
    let start = Instant::now();
    while peer.0.try_wait().unwrap().is_none() {
        if start.elapsed() > SETTLES {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// How many servers live on without it a second later; they end in any case.
fn left(folder: &Folder) -> usize {
    thread::sleep(Duration::from_secs(1));
    let here = format!("HERE={}", folder.path().display());
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == here.as_bytes())
    };
    let left: Vec<String> = all.filter(|pid| pid.parse::<u32>().is_ok()).filter(is_ours).collect();
    for pid in &left {
        kill("KILL", pid);
    }
    left.len()
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.sent += more.sent;
    sum.results += more.results;
    sum.errors += more.errors;
    sum.refused += more.refused;
    sum.cut += more.cut;
    sum.lost += more.lost;
    sum.foreign += more.foreign;
    sum.double += more.double;
    sum.twice += more.twice;
}
