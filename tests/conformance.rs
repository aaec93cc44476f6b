//! The official conformance suite. Its server scenarios run against one server on the Python SDK: directly, and
//! through us in each sharing mode; what passes directly must pass through us. Its client scenarios run against an SDK
//! client on stdio with our connect mode behind it.

mod support;

#[path = "peers/installed.rs"]
mod installed;

use installed::{hosted, node, python, script, serve, server, url};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use support::{Folder, Process, alive};

/// How long a run of the suite may take. It takes some seconds, but a scenario that hangs gives up after a minute.
const LIMIT: Duration = Duration::from_secs(90);

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

/// What the suite says of each scenario: passed, or what failed.
type Verdicts = BTreeMap<String, Result<(), String>>;

#[test]
fn server_scenarios_that_pass_directly_pass_through_us() {
    let mut runs: Vec<_> = vec![thread::spawn(|| verdicts(&hosted("conformance_server.py", "--http")))];
    for Mode { options, .. } in MODES {
        runs.push(thread::spawn(|| verdicts(&serve(options, &server("conformance_server.py")))));
    }
    let mut runs = runs.into_iter().map(|run| run.join().expect("a run of the suite"));
    let direct = runs.next().expect("the direct run");
    let through: Vec<Verdicts> = runs.collect();
    println!("{}", table(&direct, &through));
    let passed = direct.values().filter(|verdict| verdict.is_ok()).count();
    assert_eq!(passed, SERVER_SCENARIOS, "directly: {:?}", failures(&direct));
    let faults: Vec<String> = MODES.iter().zip(&through).flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}\n{}", table(&direct, &through), faults.join("\n"));
}

#[test]
fn client_scenarios_pass_through_connect() {
    let command = format!("{} {}", python("python").display(), script("conformance_client.py").display());
    let mut faults = Vec::new();
    for scenario in CLIENT_SCENARIOS {
        let mut suite = support::command(node("node"));
        suite.arg(node("conformance")).args(["client", "--command", &command, "--scenario", scenario]);
        let mut suite = Process::start(suite.env("MCP_PROXY_BIN", support::program()));
        suite.wait(LIMIT);
        // A reconnection that is a little late on a busy machine is a warning, not a failure.
        let said = suite.stderr();
        if !said.contains(", 0 failed, ") || said.contains("TIMED OUT") || said.contains("WITH ERROR") {
            faults.push(said);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Runs every server scenario against what listens. What has not run in time has no verdict.
fn verdicts(server: &Process) -> Verdicts {
    let folder = Folder::new();
    let mut suite = support::command(node("node"));
    suite.arg(node("conformance")).args(["server", "--suite", "all", "--url", &url(server, "/mcp")]);
    let suite = Process::start(suite.arg("--output-dir").arg(folder.path()));
    let end = Instant::now() + LIMIT;
    while alive(suite.id()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    fs::read_dir(folder.path())
        .expect("a folder of results")
        .flatten()
        .filter_map(|entry| verdict(&entry.path()))
        .collect()
}

/// The verdict in a folder that is named after the scenario and the time, as in `server-ping-2026-11-23T02-35-02-315Z`.
fn verdict(folder: &Path) -> Option<(String, Result<(), String>)> {
    let name = folder.file_name()?.to_str()?.strip_prefix("server-")?;
    let scenario = name.get(..name.len().checked_sub("-2026-11-23T02-35-02-315Z".len())?)?;
    let checks = fs::read_to_string(folder.join("checks.json")).ok()?;
    let failed = checks.contains(r#""status": "FAILURE""#);
    let reasons = checks.lines().filter(|line| line.contains("errorMessage")).map(str::trim);
    Some((scenario.to_owned(), if failed { Err(reasons.collect()) } else { Ok(()) }))
}

/// What of a run through us is not as it should be.
fn faults((mode, run): (&Mode, &Verdicts)) -> Vec<String> {
    let fault = |(scenario, verdict): (&String, &Result<(), String>)| {
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

/// A line a scenario, a column a run.
fn table(direct: &Verdicts, through: &[Verdicts]) -> String {
    let heading = MODES.map(|mode| format!("{:>20}", mode.name)).concat();
    let word = |run: &Verdicts, scenario: &str| match run.get(scenario) {
        Some(Ok(())) => "ok",
        Some(Err(_)) => "FAIL",
        None => "not run",
    };
    let line = |scenario: &String| {
        let words = through.iter().map(|run| format!("{:>20}", word(run, scenario)));
        format!("{scenario:<34}{:>10}{}\n", word(direct, scenario), words.collect::<String>())
    };
    format!("{:<34}{:>10}{heading}\n{}", "", "directly", direct.keys().map(line).collect::<String>())
}
