//! A run in front of a remote server, which is our serve mode behind the one who cuts connections: clients of connect
//! mode, and clients over HTTP of a proxy that offers the remote server here.

use super::calls::{Act, Client};
use super::clients::{Door, Sse, Streamable};
use super::connect::Connect;
use super::cutter::{self, Cutter};
use super::inject::{Target, as_nobody, count, status};
use super::ledger::Ledger;
use super::run::{
    AT_ONCE, Plan, SETTLES, SLACK_KB, SOON_FLAT, STOPS, bounded, call, cost, effects, judge, one_arena, pause, server,
    settle, started_with,
};
use super::soak::watch;
use crate::support::namespace::behind;
use crate::support::served::Served;
use crate::support::{Process, descendants, free_address, kill, proxy, wait_until};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The remote server, which can be killed and begun again at the same port.
struct Remote {
    options: Vec<String>,
    served: Mutex<Option<Served>>,
    /// What the servers of those that were killed did.
    effects: Mutex<String>,
    address: String,
}

impl Remote {
    fn start(options: &[&'static str]) -> Self {
        let address = free_address().to_string();
        let port = address.rsplit(':').next().expect("it has a port");
        let options = [&["--session-idle", "1", "--port", port], options].concat();
        let options = options.into_iter().map(str::to_owned).collect();
        let remote = Self { options, served: Mutex::default(), effects: Mutex::default(), address };
        remote.begin();
        remote
    }

    fn begin(&self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let served = Served::start(&options, &server());
        assert_eq!(served.address(), self.address);
        *self.served.lock().unwrap() = Some(served);
    }

    fn pid(&self) -> u32 {
        self.served.lock().unwrap().as_ref().expect("it runs").process.id()
    }

    /// Kills it with its servers, and begins another.
    fn restart(&self) {
        self.kill();
        self.begin();
    }

    fn kill(&self) {
        let served = self.served.lock().unwrap().take().expect("it runs");
        let all = descendants(served.process.id());
        served.process.signal("KILL");
        for pid in &all {
            kill("KILL", &pid.to_string());
        }
        wait_until("the end of its servers", SETTLES, || served.marked().is_empty());
        self.effects.lock().unwrap().push_str(&effects(served.folder()));
    }
}

/// Connections to the remote server that are kept for the next call, at most.
const KEPT: u64 = 16;

/// What a process of connect mode has.
fn has(pid: u32) -> (u64, u64) {
    (count(pid, "fd"), count(pid, "task"))
}

/// Each calls once, and again until all are served: what was broken may have to be found out first.
fn all_are_served(clients: &mut [Box<dyn Client>], ledger: &Ledger, when: &str) {
    for client in clients {
        let start = Instant::now();
        loop {
            let before = ledger.counts().results;
            client.call(&[(Act::Echo, 10), (Act::Tell, 10)]);
            if ledger.counts().results == before + 2 || ledger.has_failed() {
                break;
            }
            if start.elapsed() > SETTLES {
                return ledger.wrong(format!("{when}: a client is not served"));
            }
        }
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = proxy();
    command.args(words);
    command
}

/// Runs connect mode, and serve mode before a remote server.
pub fn connects(plan: &Plan) {
    let remote = Remote::start(plan.sharing.options());
    let cutter = Cutter::before(&remote.address);
    let ledger = Arc::new(Ledger::default());
    let url = |path: &str| format!("http://{}{path}", cutter.address);
    let words = [as_nobody(), one_arena()].concat();
    let start = |arguments: &[&str]| behind(&words, &command(arguments));
    let connects = ["/mcp", "/sse", "/mcp"].map(|path| Connect::of(&mut start(&[&url(path)]), &ledger));
    let mut front = Process::start(&mut start(&[&SOON_FLAT, &["--port", "0", &*url("/mcp")][..]].concat()));
    let (address, front_pid) = (front.address(), front.id());
    let door = Door { address: address.clone(), cutter: None };
    let pids: Vec<u32> = connects.iter().map(Connect::id).collect();
    let boxed = |client| Box::new(client) as Box<dyn Client>;
    let mut all: Vec<Box<dyn Client>> = connects.into_iter().map(boxed).collect();
    let over_http = || -> Vec<Box<dyn Client>> {
        vec![
            Box::new(Streamable::new(door.clone(), false, &ledger)),
            Box::new(Streamable::new(door.clone(), true, &ledger)),
            Box::new(Sse::new(door.clone(), &ledger)),
        ]
    };
    all_are_served(&mut all, &ledger, "before");
    all_are_served(&mut over_http(), &ledger, "before");
    wait_until("no session", SETTLES, || cost(front_pid, &address).sessions == 0);
    let mut first = settle(front_pid, &address, &cost(front_pid, &address), &ledger);
    first.descriptors += KEPT;
    let before: Vec<_> = pids.iter().map(|pid| has(*pid)).collect();
    let memory = || pids.iter().chain([&front_pid]).map(|pid| status(*pid, "RssAnon")).max().unwrap_or(0);
    let before_kb = memory();

    let target = Target {
        pids: [&pids[..], &[front_pid]].concat(),
        host: AtomicU32::new(remote.pid()),
        cutter: cutter.clone(),
        orders: Mutex::default(),
        clock: None,
        over: AtomicBool::new(false),
    };
    let restart = || {
        remote.restart();
        target.host.store(remote.pid(), Ordering::SeqCst);
    };
    all.extend(over_http());
    let end = bounded(plan.lasts, &target.pids, &ledger);
    thread::scope(|scope| {
        scope.spawn(|| call(&mut all, &target, &plan.seed));
        scope.spawn(|| target.suffer(plan.kinds, &mut plan.seed.branch(7), &ledger, pause(plan.sharing), &restart));
        watch(&format!("connect, {:?}", plan.sharing), &target.pids, plan.lasts, &ledger);
        target.over.store(true, Ordering::SeqCst);
    });
    drop(end);
    all_are_served(&mut all, &ledger, "after");
    for (pid, (fds, threads)) in pids.iter().zip(before) {
        let is_more = || has(*pid).0 > fds + KEPT || has(*pid).1 > threads + AT_ONCE;
        let start = Instant::now();
        while is_more() && start.elapsed() < SETTLES.min(ledger.patience()) {
            thread::sleep(Duration::from_millis(50));
        }
        if is_more() {
            ledger
                .left(1, format!("connect has {:?} descriptors and threads instead of {fds} and {threads}", has(*pid)));
        }
    }
    let after_kb = memory();
    ledger.memory(before_kb, after_kb);
    if after_kb > before_kb + SLACK_KB {
        ledger.wrong(format!("memory grew from {before_kb} kB to {after_kb} kB"));
    }
    for client in all {
        client.end();
    }
    let last = settle(front_pid, &address, &first, &ledger);
    if last.over(&first) > 0 {
        ledger.left(last.over(&first), format!("{last:?} is left instead of {first:?}"));
    }
    let start = Instant::now();
    front.signal("TERM");
    let status = front.finish(SETTLES).code();
    ledger.stopped(start.elapsed());
    if status != Some(0) || start.elapsed() > STOPS || front.stderr().contains("panicked") {
        ledger.wrong(format!("it stopped with {status:?} after {:?}: {}", start.elapsed(), front.report()));
    }
    cutter::stop(&cutter);
    remote.kill();
    ledger.audit(&remote.effects.lock().unwrap());
    judge(&ledger);
    started_with(plan);
}
