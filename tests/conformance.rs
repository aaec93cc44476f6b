//! The official conformance suite, 0.1.16. Its server scenarios run against one server on the Python SDK: directly, and
//! through us in each sharing mode; what passes directly must pass through us. Its client scenarios run against an SDK
//! client on stdio with our connect mode behind it.

mod support;

#[path = "peers/installed.rs"]
mod installed;
#[path = "peers/suite.rs"]
mod suite;

use installed::{hosted, serve, server};
use std::thread;
use suite::{Verdicts, client_scenario, server_scenarios, stable};
use support::Process;

/// How many server scenarios version 0.1.16 has for 2025-06-18 and 2025-11-25.
const SERVER_SCENARIOS: usize = 32;

/// The sharing modes.
const MODES: [Mode; 3] = [
    Mode { name: "a server a session", options: &[], impossible: &[] },
    Mode { name: "shared", options: &["--shared"], impossible: &[] },
    Mode { name: "stateless", options: &["--stateless"], impossible: &[] },
];

/// A sharing mode.
struct Mode {
    name: &'static str,
    options: &'static [&'static str],
    /// Scenarios that cannot pass in this mode; the reason stands beside each.
    impossible: &'static [&'static str],
}

/// The client scenarios that a proxy can be tried with. The other authorization scenarios need a user and a browser.
const CLIENT_SCENARIOS: [&str; 5] =
    ["initialize", "tools_call", "sse-retry", "elicitation-sep1034-client-defaults", "auth/client-credentials-basic"];

#[test]
fn server_scenarios_that_pass_directly_pass_through_us() {
    let mut runs: Vec<_> = vec![thread::spawn(|| verdicts(&hosted("conformance_server.py", "--http")))];
    for Mode { options, .. } in MODES {
        runs.push(thread::spawn(|| verdicts(&serve(options, &server("conformance_server.py")))));
    }
    let mut runs = runs.into_iter().map(|run| run.join().expect("a run of the suite"));
    let direct = runs.next().expect("the direct run");
    let through: Vec<Verdicts> = runs.collect();
    let named = MODES.iter().zip(&through).map(|(mode, run)| (mode.name, run));
    let table = suite::table(&[vec![("directly", &direct)], named.collect()].concat());
    println!("{table}");
    let passed = direct.values().filter(|verdict| verdict.is_ok()).count();
    assert_eq!(passed, SERVER_SCENARIOS, "directly: {:?}", failures(&direct));
    let faults: Vec<String> = MODES.iter().zip(&through).flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{table}\n{}", faults.join("\n"));
}

#[test]
fn client_scenarios_pass_through_connect() {
    let run = |scenario| client_scenario(&stable(), &["--scenario", scenario], "").err();
    let faults: Vec<String> = CLIENT_SCENARIOS.into_iter().filter_map(run).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Runs every server scenario against what listens.
fn verdicts(server: &Process) -> Verdicts {
    server_scenarios(&stable(), &["--suite", "all"], server)
}

/// What of a run through us is not as it should be.
fn faults((mode, run): (&Mode, &Verdicts)) -> Vec<String> {
    let fault = |(scenario, verdict): (&String, &suite::Verdict)| {
        let possible = !mode.impossible.contains(&scenario.as_str());
        (verdict.is_ok() != possible).then(|| format!("{}: {scenario}: {verdict:?}", mode.name))
    };
    let mut faults: Vec<String> = run.iter().filter_map(fault).collect();
    if run.len() != SERVER_SCENARIOS {
        faults.push(format!("{}: {} scenarios ran", mode.name, run.len()));
    }
    faults
}

fn failures(run: &Verdicts) -> Vec<(&String, &String)> {
    run.iter().filter_map(|(scenario, verdict)| Some((scenario, verdict.as_ref().err()?))).collect()
}
