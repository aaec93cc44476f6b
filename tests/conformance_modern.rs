//! The official conformance suite, 0.2.0-alpha: what the modern and the last legacy revision require. A server of each
//! era stands behind our port and is tried with both; what passes directly must pass through us, and through the bridge
//! every scenario passes whose feature the server has. The client scenarios run against a legacy SDK client on stdio
//! with our connect mode behind it.

mod support;

#[path = "peers/installed.rs"]
mod installed;
#[path = "peers/suite.rs"]
mod suite;

use installed::{hosted, run, sdk2, serve, server};
use std::thread::{self, JoinHandle};
use suite::{Verdicts, client_scenario, modern, server_scenarios};
use support::Process;

/// A revision of the protocol, as the suite names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Revision {
    Legacy,
    Modern,
}

/// How many server scenarios each revision has, those that are not scored included.
const LEGACY_SCENARIOS: usize = 33;
const MODERN_SCENARIOS: usize = 50;

/// Scenarios of the modern revision that fail because no server here has the extension of tasks, which cannot be
/// bridged either.
const WITHOUT_TASKS: [&str; 9] = [
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-wire-fields",
];

/// A server of its own for every session would be started for every legacy scenario, which `conformance.rs` does.
const SHARED: &[&str] = &["--shared"];

/// A client scenario and the options of the proxy that it passes with.
///
/// Some judge everything that reaches them, an `initialize` that finds out the server's era included, or answer one as
/// no modern server does: the era is pinned there.
const CLIENT_SCENARIOS: [(&str, &str); 10] = [
    ("tools_call", PINNED),
    ("request-metadata", PINNED),
    ("sep-2322-client-request-state", PINNED),
    ("sep-2322-client-request-state", ""),
    ("http-standard-headers", PINNED),
    ("http-custom-headers", PINNED),
    ("http-invalid-tool-headers", PINNED),
    ("json-schema-ref-no-deref", PINNED),
    ("json-schema-ref-no-deref", ""),
    ("json-schema-2020-12-preservation", PINNED),
];
const PINNED: &str = "--protocol modern";

#[test]
fn what_the_modern_revision_requires_passes_with_servers_of_both_eras() {
    let direct = Run::begin(Revision::Modern, modern_hosted);
    let straight = Run::begin(Revision::Modern, modern_served);
    let bridged = Run::begin(Revision::Modern, || legacy_served(&[]));
    let [direct, straight, bridged] = [direct, straight, bridged].map(Run::end).map(Ended::settled);
    let (table, faults) =
        judged(Revision::Modern, &[("directly", &direct), ("modern server", &straight), ("legacy server", &bridged)]);
    println!("{table}");
    assert!(faults.is_empty(), "\n{table}\n{}", faults.join("\n"));
}

#[test]
fn what_the_last_legacy_revision_requires_passes_with_servers_of_both_eras() {
    let direct = Run::begin(Revision::Legacy, || hosted("conformance_server.py", "--http"));
    let straight = Run::begin(Revision::Legacy, || legacy_served(SHARED));
    let bridged = Run::begin(Revision::Legacy, modern_served);
    let [direct, straight, bridged] = [direct, straight, bridged].map(Run::end).map(Ended::settled);
    let (table, faults) =
        judged(Revision::Legacy, &[("directly", &direct), ("legacy server", &straight), ("modern server", &bridged)]);
    println!("{table}");
    assert!(faults.is_empty(), "\n{table}\n{}", faults.join("\n"));
}

#[test]
fn modern_client_scenarios_pass_through_connect_with_a_legacy_client() {
    let run = |(scenario, words)| {
        let verdict = client_scenario(&modern(), &["--scenario", scenario, "--spec-version", "2026-07-28"], words);
        let word = if verdict.is_ok() { "ok" } else { "FAIL" };
        (format!("{scenario:<46}{words:<20}{word}"), verdict.err())
    };
    let (lines, faults): (Vec<String>, Vec<Option<String>>) = CLIENT_SCENARIOS.into_iter().map(run).unzip();
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    println!("{}", lines.join("\n"));
    assert!(faults.is_empty(), "\n{}\n{}", lines.join("\n"), faults.join("\n"));
}

/// The modern server on the SDK's own HTTP server.
fn modern_hosted() -> Process {
    run(&sdk2("modern_conformance_server.py"), &["--http"])
}

/// The modern server on stdio behind us.
fn modern_served() -> Process {
    serve(SHARED, &sdk2("modern_conformance_server.py"))
}

/// The legacy server on stdio behind us.
fn legacy_served(options: &[&str]) -> Process {
    serve(options, &server("conformance_server.py"))
}

/// A run of everything that a revision requires, against a server of its own.
struct Run {
    revision: Revision,
    make: fn() -> Process,
    verdicts: JoinHandle<Verdicts>,
}

impl Run {
    fn begin(revision: Revision, make: fn() -> Process) -> Self {
        let options = ["--requirements", revision.name()];
        let verdicts = thread::spawn(move || server_scenarios(&modern(), &options, &make()));
        Self { revision, make, verdicts }
    }

    fn end(self) -> Ended {
        let verdicts = self.verdicts.join().expect("a run of the suite");
        Ended { revision: self.revision, make: self.make, verdicts }
    }
}

/// A run that has ended.
struct Ended {
    revision: Revision,
    make: fn() -> Process,
    verdicts: Verdicts,
}

impl Ended {
    /// The verdicts. What failed is tried again, by itself and against a server that has begun: some scenarios give it half a
    /// second, in which it may have to begin a process, while three runs share the machine.
    fn settled(self) -> Verdicts {
        let Self { revision, make, mut verdicts } = self;
        let may_fail = |scenario: &String| WITHOUT_TASKS.contains(&scenario.as_str());
        let failed = verdicts.iter().filter(|(scenario, verdict)| verdict.is_err() && !may_fail(scenario));
        let failed: Vec<String> = failed.map(|(scenario, _)| scenario.clone()).collect();
        for scenario in failed {
            let (options, server) = (["--scenario", scenario.as_str(), "--spec-version", revision.name()], make());
            let [_, second] = [(); 2].map(|()| server_scenarios(&modern(), &options, &server));
            verdicts.extend(second);
        }
        verdicts
    }
}

impl Revision {
    fn name(self) -> &'static str {
        if self == Self::Modern { "2026-07-28" } else { "2025-11-25" }
    }
}

/// The table of the runs, and what failed in them but for what no server here has.
fn judged(revision: Revision, runs: &[(&str, &Verdicts)]) -> (String, Vec<String>) {
    let (scenarios, without): (_, &[&str]) = match revision {
        Revision::Legacy => (LEGACY_SCENARIOS, &[]),
        Revision::Modern => (MODERN_SCENARIOS, &WITHOUT_TASKS),
    };
    let faults = runs.iter().flat_map(|(name, run)| faults(name, run, scenarios, without)).collect();
    (suite::table(runs), faults)
}

/// What of a run is not as it should be.
fn faults(name: &str, run: &Verdicts, scenarios: usize, without: &[&str]) -> Vec<String> {
    let failed = run.iter().filter(|(scenario, _)| !without.contains(&scenario.as_str()));
    let mut faults: Vec<String> = failed
        .filter_map(|(scenario, verdict)| Some(format!("{name}: {scenario}: {}", verdict.as_ref().err()?)))
        .collect();
    if run.len() != scenarios {
        faults.push(format!("{name}: {} scenarios ran", run.len()));
    }
    faults
}
