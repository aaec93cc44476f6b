//! Watching processes for a long time: a line of figures now and then, and whether what they have stays flat.

use super::inject::{count, status};
use super::ledger::Ledger;
use crate::support::descendants;
use std::thread;
use std::time::{Duration, Instant};

/// How often there is a line.
const LINE: Duration = Duration::from_secs(30);
/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A run that is shorter says nothing about what stays flat.
const LONG: Duration = Duration::from_secs(50);
/// The names of the figures, and by how much the last tenth may be more than the second: memory that an allocator has
/// found a use for, and what is under way at a moment.
const FIGURES: [(&str, u64); 4] =
    [("kB of anonymous memory", 3 << 10), ("descriptors", 12), ("threads", 12), ("processes below", 8)];

fn look(pids: &[u32]) -> [u64; 4] {
    let sum = |figure: &dyn Fn(u32) -> u64| pids.iter().map(|pid| figure(*pid)).sum();
    [
        sum(&|pid| status(pid, "RssAnon")),
        sum(&|pid| count(pid, "fd")),
        sum(&|pid| count(pid, "task")),
        sum(&|pid| descendants(pid).len() as u64),
    ]
}

fn median(samples: &[[u64; 4]], figure: usize) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(|sample| sample[figure]).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Watches the processes for so long, or until something was that should never be.
pub fn watch(name: &str, pids: &[u32], lasts: Duration, ledger: &Ledger) {
    let (start, mut told, mut samples) = (Instant::now(), Instant::now(), Vec::new());
    while start.elapsed() < lasts && !ledger.has_failed() {
        thread::sleep(LOOK);
        samples.push(look(pids));
        if told.elapsed() >= LINE {
            told = Instant::now();
            let counts = ledger.counts();
            let faults: u64 = ledger.faults().values().sum();
            let [memory, descriptors, threads, processes] = samples[samples.len() - 1];
            println!(
                "{name} {:>5} s: {faults} faults, {} sent, {} results, {} errors, {} refused, {} cut, {} lost, {} foreign, \
                 {} double; {memory} kB, {descriptors} descriptors, {threads} threads, {processes} processes",
                start.elapsed().as_secs(),
                counts.sent,
                counts.results,
                counts.errors,
                counts.refused,
                counts.cut,
                counts.lost,
                counts.foreign,
                counts.double,
            );
        }
    }
    let tenth = samples.len() / 10;
    if lasts < LONG || ledger.has_failed() {
        return;
    }
    for (figure, (what, slack)) in FIGURES.into_iter().enumerate() {
        let [second, last] = [&samples[tenth..2 * tenth], &samples[samples.len() - tenth..]].map(|s| median(s, figure));
        println!("{name}: {what}: {second} in the second tenth, {last} in the last");
        if last > second + slack {
            ledger.wrong(format!("{name}: {what} grew from {second} to {last}"));
        }
    }
}
