//! Every limit of the program: at it, just over it, far over it, and slowly over it. After each, a client that does no
//! harm is served as before, and the memory of the proxy has not grown by more than the row says.
//!
//! A limit that is added without a row here fails `every_limit_is_tried`: the sources are looked through for constants
//! that are numbers or times, and the options for those that take a number or a time. Each has a row, or a test
//! elsewhere that reaches it, or a reason why it is no limit that anybody can reach (`limits/names.rs`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "limits/far.rs"]
mod far;
#[path = "http/house.rs"]
mod house;
#[path = "limits/listener.rs"]
mod listener;
#[path = "limits/names.rs"]
mod names;
#[path = "limits/said.rs"]
mod said;
#[path = "limits/start.rs"]
mod start;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use support::served::Served;

/// How often the memory is looked at, a hundred times at most.
const LOOK: Duration = Duration::from_millis(50);

/// One limit.
struct Row {
    /// The options, or the constants with their files, that set it.
    names: &'static [&'static str],
    /// At it, just over it and far over it: bytes, milliseconds or a count.
    amounts: [usize; 3],
    /// What is seen at it, over it, and over it slowly: the beginning of it.
    seen: [&'static str; 3],
    /// By how much the memory may grow when it is far over.
    growth_kb: u64,
    /// What it is tried with.
    scene: fn() -> Box<dyn Scene>,
}

/// A program whose limits are reached.
trait Scene {
    /// Goes to this amount, in pieces with pauses if `slowly`; tells what is seen.
    fn reach(&mut self, amount: usize, slowly: bool) -> String;
    /// A client that does no harm is served.
    fn good(&mut self);
    /// The program's process, as long as it runs.
    fn pid(&self) -> Option<u32>;
}

/// Tells a server that is a script how far to go, and whether in pieces: by files in its folder.
fn note(served: &Served, amount: usize, slowly: bool) {
    fs::write(served.folder().join("amount"), amount.to_string()).unwrap();
    if slowly {
        fs::write(served.folder().join("slowly"), "").unwrap();
    }
}

/// What `/proc/PID/status` says of the memory of a process, in kB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Tries a table of rows, and tells all faults together.
fn check(rows: &[Row]) {
    let mut faults = Vec::new();
    for Row { names, amounts, seen, growth_kb, scene } in rows {
        let mut scene = scene();
        scene.good();
        let [at, over, far] = *amounts;
        let mut attempt = |how: &str, amount: usize, slowly: bool, wanted: &str| {
            let before = scene.pid().map(resident);
            let found = scene.reach(amount, slowly);
            scene.good();
            if !found.starts_with(wanted) {
                faults.push(format!("{names:?}: {how}: {amount}\n   is {found:?}\n  not {wanted:?}"));
            }
            let Some(before) = before else { return };
            let is_back = || scene.pid().map(resident).is_some_and(|now| now <= before + growth_kb);
            // What has ended may take a moment to be gone.
            if !(0..100).any(|_| {
                is_back() || {
                    thread::sleep(LOOK);
                    false
                }
            }) {
                let after = scene.pid().map(resident);
                faults.push(format!("{names:?}: {how}: the memory grew from {before} to {after:?} kB"));
            }
        };
        attempt("at it", at, false, seen[0]);
        attempt("just over it", over, false, seen[1]);
        attempt("far over it", far, false, seen[1]);
        attempt("slowly over it", over, true, seen[2]);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn limits_of_the_listener() {
    check(&listener::rows());
}

#[test]
fn limits_towards_servers() {
    check(&far::rows());
}

#[test]
fn limits_of_what_servers_say_and_take() {
    check(&said::rows());
}

#[test]
fn limits_of_files() {
    check(&start::rows());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All sources below a folder, as paths from it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Constants that are numbers or times, each as `file NAME`. Those of tests are left out.
fn constants() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let folder = root().join("src");
    for path in sources(&folder) {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        if name.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in text.lines() {
            let line = line.trim_start();
            let line =
                line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
            let Some((constant, rest)) = line.strip_prefix("const ").and_then(|rest| rest.split_once(": ")) else {
                continue;
            };
            let kind = rest.split(" =").next().unwrap();
            let is_number =
                ["usize", "u16", "u32", "u64", "u128", "rlim_t", "Duration"].iter().any(|n| kind.contains(n));
            if is_number && !kind.contains('[') && !constant.contains("fn ") {
                found.insert(format!("{name} {constant}"));
            }
        }
    }
    found
}

/// Options that take a number or a time.
fn options() -> BTreeSet<String> {
    let table = mcp_proxy::cli::options_markdown();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let numbers = cells.filter_map(|cell| cell.strip_suffix(" N").or_else(|| cell.strip_suffix(" SECONDS")));
    numbers.map(str::to_owned).collect()
}

#[test]
fn every_limit_is_tried() {
    let all_rows = [listener::rows(), far::rows(), said::rows(), start::rows()].into_iter().flatten();
    let rows: BTreeSet<String> = all_rows.flat_map(|row| row.names).map(|name| (*name).into()).collect();
    let elsewhere: BTreeSet<String> =
        names::ELSEWHERE.iter().flat_map(|(names, _)| *names).map(|n| (*n).into()).collect();
    let reasons: BTreeSet<String> = names::REASONS.iter().flat_map(|(names, _)| *names).map(|n| (*n).into()).collect();
    let (options, constants) = (options(), constants());
    assert!(options.len() > 15 && constants.len() > 100, "the sources have changed their form");
    let known: BTreeSet<String> = rows.iter().chain(&elsewhere).chain(&reasons).cloned().collect();
    let all: BTreeSet<String> = options.union(&constants).cloned().collect();
    let untried: Vec<_> = all.difference(&known).collect();
    assert!(untried.is_empty(), "without a row, a test elsewhere, or a reason: {untried:#?}");
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(gone.is_empty(), "these are no limits any more: {gone:#?}");
    assert_eq!(rows.len() + elsewhere.len() + reasons.len(), known.len(), "one stands in two places");
    for (_, place) in names::ELSEWHERE {
        let (file, test) = place.split_once("::").unwrap();
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "{place} is no test");
    }
}
