//! A thousand hostile connections at once, of every kind, while a client with a session and clients that come new are
//! served as if they were made to somebody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stderr, reason = "the figures")]

#[path = "hostile/attack.rs"]
mod attack;
#[path = "hostile/good.rs"]
mod good;
mod support;

use attack::{Attack, Somebody};
use good::{call, visit};
use mcp_proxy::system::raise_descriptor_limit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use support::client::request;
use support::http::Http;
use support::{Process, SOON, program, proxy, wait_until};

const HOSTILE: usize = 1000;
/// One test after the other: each would be the noise of the other's times.
static TURN: Mutex<()> = Mutex::new(());
/// Within this time a client that comes new has done all its work, or within four times what it takes without an attack.
const VISIT: Duration = Duration::from_secs(5);
/// So many of them show something.
const VISITORS: usize = 6;
/// By so much the memory of the proxy may grow in all.
const GROWTH_KB: u64 = 128 << 10;

fn serve(options: &[&str]) -> Process {
    raise_descriptor_limit(); // for both ends of each connection, and the proxy inherits it
    let options = [&["--port", "0", "--shared"], options].concat();
    Process::start(proxy().args(options).arg("--").arg(program()).arg("--demo"))
}

/// What `/proc/PID/status` says of a size, in kB.
fn memory(proxy: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Ends the visits.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Clients that come new, one after the other, while `meanwhile` runs, which sees how many there were so far; how many
/// there were in all, and the longest time.
fn visited<T>(address: &str, meanwhile: impl FnOnce(&AtomicUsize) -> T) -> (T, usize, Duration) {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let end = End(&stop);
    thread::scope(|scope| {
        let visitors = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !stop.load(Relaxed) {
                longest = longest.max(visit(address));
                count.fetch_add(1, Relaxed);
                thread::sleep(Duration::from_millis(100)); // they come now and then
            }
            longest
        });
        let end = end;
        let done = meanwhile(&count);
        drop(end); // and so does a panic, that the scope may end
        let longest = visitors.join().unwrap();
        (done, count.load(Relaxed), longest)
    })
}

/// Quiet, hostile, quiet; fails at once where something is not answered, and says whether the times are as they must
/// be. While it is quiet, somebody else is attacked: what an attack costs the machine is not what it does to us.
fn is_unharmed() -> Result<String, String> {
    let proxy = serve(&[]);
    let address = proxy.address();
    let mut http = Http::connect(&address);
    http.begin("2025-06-18");
    let quiet = |http: &mut Http| {
        let somebody = Somebody::start();
        let _attack = Attack::start(&somebody.address, HOSTILE);
        visited(&address, |_| call(http))
    };
    let ((before, _, usual), at_rest) = (quiet(&mut http), memory(&proxy, "VmRSS:"));
    let attack = Attack::start(&address, HOSTILE);
    let (hostile, visitors, longest) = visited(&address, |_| call(&mut http));
    let (connected, cut_off, open) = (attack.connected(), attack.cut_off(), attack.open());
    drop(attack);
    let most = memory(&proxy, "VmHWM:");
    let (after, ..) = quiet(&mut http);
    let figures = format!(
        "quiet: {before}; hostile: {hostile}; quiet again: {after}; {visitors} new clients, at most {longest:?} each, \
         {usual:?} while it was quiet; {connected} hostile connections, {open} open at the end, {cut_off} cut off; \
         memory {at_rest} kB, at most {most} kB"
    );
    assert!(connected >= HOSTILE && cut_off > HOSTILE / 2 && open > HOSTILE / 4, "no attack: {figures}");
    assert!(visitors >= VISITORS && longest < VISIT.max(4 * usual), "{figures}");
    assert!(most - at_rest < GROWTH_KB, "{figures}\n{}", proxy.report());
    let quiet = before.p99.max(after.p99);
    if hostile.p99 <= 3 * quiet { Ok(figures) } else { Err(figures) }
}

/// Other tests of the machine may run in just one of the phases. So an attempt that fails is made again, twice: what
/// harms the client harms it each time.
#[test]
fn a_thousand_hostile_connections_are_not_noticed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut faults = Vec::new();
    for _ in 0..3 {
        match is_unharmed() {
            Ok(figures) => return eprintln!("{} kinds; {figures}", attack::kinds().len()),
            Err(figures) => faults.push(figures),
        }
    }
    panic!("p99 under attack is over three times the quiet one, each time:\n{}", faults.join("\n"));
}

#[test]
fn more_hostile_connections_than_places_lock_nobody_out() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = serve(&["--max-connections", "300"]);
    let address = proxy.address();
    let mut http = Http::connect(&address);
    http.begin("2025-06-18");
    let attack = Attack::start(&address, HOSTILE);
    let end = Instant::now() + Duration::from_secs(3);
    let mut number = 0;
    let (calls, _, longest) = visited(&address, |visitors| {
        while Instant::now() < end || number <= 10 || visitors.load(Relaxed) < VISITORS {
            number += 1;
            assert_eq!(http.post(&request(number, "ping", "{}")).head.status, 200);
            thread::sleep(Duration::from_millis(20)); // it need not be quick to keep its place
        }
        number
    });
    assert!(longest < 2 * VISIT, "{calls} calls, at most {longest:?} for a visit");
    assert!(memory(&proxy, "Threads:") < 300 + 300, "{}", memory(&proxy, "Threads:"));
    proxy.wait_for_stderr(
        "no place is left for connections (--max-connections, descriptors, threads); those that wait are closed",
    );
    drop(attack);
    wait_until("the end of all hostile connections", SOON, || memory(&proxy, "Threads:") < 20);
    visit(&address);
}
