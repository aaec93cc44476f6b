//! The official conformance suite, and what it says of each scenario.

#![allow(dead_code, reason = "each test file uses a part of it")]

use super::installed::{node, peers, sdk1, url};
use super::support::{self, Folder, Process, alive};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a run of the suite may take. It takes some seconds, but a scenario that hangs gives up after a minute.
const LIMIT: Duration = Duration::from_mins(5);

/// What the suite says of a scenario: how many checks passed, or what failed.
pub type Verdict = Result<usize, String>;

/// The verdict of every scenario that ran.
pub type Verdicts = BTreeMap<String, Verdict>;

/// The program of version 0.1.16.
pub fn stable() -> PathBuf {
    node("conformance")
}

/// The program of version 0.2.0-alpha, which knows the modern revision.
pub fn modern() -> PathBuf {
    peers().join("node/node_modules/conformance-modern/dist/index.js")
}

/// Runs the server scenarios that `options` name against what listens. What has not run in time has no verdict.
pub fn server_scenarios(program: &Path, options: &[&str], server: &Process) -> Verdicts {
    let folder = Folder::new();
    let mut suite = support::command(node("node"));
    suite.arg(program).arg("server").args(options).args(["--url", &url(server, "/mcp")]);
    let suite = Process::start(suite.current_dir(folder.path()).arg("--output-dir").arg(folder.path()));
    let end = Instant::now() + LIMIT;
    while alive(suite.id()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let results = fs::read_dir(folder.path()).expect("a folder of results");
    results.flatten().filter_map(|entry| verdict(&entry.path())).collect()
}

/// The verdict in a folder that is named after the scenario and the time, as in `server-ping-2026-11-23T02-35-02-315Z`.
fn verdict(folder: &Path) -> Option<(String, Verdict)> {
    let name = folder.file_name()?.to_str()?.strip_prefix("server-")?;
    let scenario = name.get(..name.len().checked_sub("-2026-11-23T02-35-02-315Z".len())?)?;
    let checks = fs::read_to_string(folder.join("checks.json")).ok()?;
    let passed = checks.matches(r#""status": "SUCCESS""#).count();
    let failed = checks.contains(r#""status": "FAILURE""#);
    let reasons =
        checks.lines().filter(|line| line.contains("errorMessage")).map(|line| format!("\n    {}", line.trim()));
    Some((scenario.to_owned(), if failed { Err(reasons.collect()) } else { Ok(passed) }))
}

/// Runs a client scenario against an SDK client on stdio with our connect mode behind it, which gets `words`. `Err` is
/// what the suite said.
pub fn client_scenario(program: &Path, options: &[&str], words: &str) -> Result<(), String> {
    let command = sdk1("conformance_client.py").join(OsStr::new(" "));
    let folder = Folder::new();
    let mut suite = support::command(node("node"));
    suite.arg(program).args(["client", "--command"]).arg(command).args(options).current_dir(folder.path());
    suite.env("MCP_PROXY_BIN", support::program()).env("MCP_PROXY_WORDS", words).env("PYTHONWARNINGS", "ignore");
    let mut suite = Process::start(&mut suite);
    suite.wait(LIMIT);
    // A reconnection that is a little late on a busy machine is a warning, not a failure.
    let said = format!("{}{}", String::from_utf8_lossy(&suite.stdout()), suite.stderr());
    let passed = said.contains(", 0 failed, ") && !said.contains("TIMED OUT") && !said.contains("WITH ERROR");
    if passed { Ok(()) } else { Err(said) }
}

/// A line a scenario, a column a run, with the name of the run above it.
pub fn table(runs: &[(&str, &Verdicts)]) -> String {
    let heading = runs.iter().map(|(name, _)| format!("{name:>24}"));
    let mut scenarios: Vec<&String> = runs.iter().flat_map(|(_, run)| run.keys()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let line = |scenario: &&String| {
        let words = runs.iter().map(|(_, run)| format!("{:>24}", word(run.get(*scenario))));
        format!("{scenario:<46}{}\n", words.collect::<String>())
    };
    format!("{:<46}{}\n{}", "", heading.collect::<String>(), scenarios.iter().map(line).collect::<String>())
}

/// A verdict in a word: how many checks passed.
fn word(verdict: Option<&Verdict>) -> String {
    match verdict {
        Some(Ok(passed)) => passed.to_string(),
        Some(Err(_)) => "FAIL".to_owned(),
        None => "not run".to_owned(),
    }
}
