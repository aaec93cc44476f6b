//! The Python program of the same name, version 0.13.0, and ours: the same command lines, side by side. The table says
//! what each does; where they differ, it is on purpose, and it says why. With `--nocapture` it is printed as seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the table is what the test is for")]

mod support;

#[path = "peers/installed.rs"]
mod installed;
#[path = "side_by_side/looks.rs"]
mod looks;
#[path = "side_by_side/table.rs"]
mod table;

use looks::{Stage, Started};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use table::{Row, TABLE};

/// How many command lines are looked at side by side: the Python program takes its time to start.
const AT_ONCE: usize = 4;

#[test]
fn the_same_words_do_the_same_or_differ_on_purpose() {
    let stage = Stage::set();
    let python = installed::python("mcp-proxy");
    let groups: Vec<_> = TABLE.chunk_by(|a, b| a.words == b.words && a.look.asks() && b.look.asks()).collect();
    let left = Mutex::new(groups.iter().enumerate());
    let seen = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let work = || {
            let next = || left.lock().unwrap().next();
            while let Some((place, rows)) = next() {
                let outcomes = [&python, &support::program()].map(|program| outcomes(program, rows, &stage));
                seen.lock().unwrap().push((place, rows, outcomes));
            }
        };
        (0..AT_ONCE).for_each(|_| drop(scope.spawn(work)));
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by_key(|(place, ..)| *place);
    let wrong: Vec<String> = seen
        .iter()
        .flat_map(|(_, rows, [python, ours])| rows.iter().zip(python.iter().zip(ours)))
        .filter_map(|(row, (python, ours))| judge(row, python, ours))
        .collect();
    assert!(wrong.is_empty(), "{} rows are not so:\n{}", wrong.len(), wrong.join("\n"));
}

/// What one program does for rows of the same words; those that only ask share one start. A look that fails says so,
/// and costs no other.
fn outcomes(program: &Path, rows: &[Row], stage: &Stage) -> Vec<String> {
    let mut started = Started::start(program, rows[0].words, stage);
    let mut look = |row: &Row| catch_unwind(AssertUnwindSafe(|| started.look(&row.look)));
    rows.iter().map(|row| look(row).unwrap_or_else(|_| "not to be seen".into())).collect()
}

/// Prints a row as seen; says what is wrong with it.
fn judge(row: &Row, python: &str, ours: &str) -> Option<String> {
    let what = row.look.shown();
    println!("| `{}` | {what} | {python} | {} | {} |", row.words, if python == ours { "same" } else { ours }, row.why);
    let is_right = python == row.python && ours == row.ours && (python == ours) == row.why.is_empty();
    (!is_right).then(|| {
        let Row { words, python: python_wanted, ours: ours_wanted, .. } = row;
        format!(
            "{words}: {what}\n  python {python:?}\n  wanted {python_wanted:?}\n  ours   {ours:?}\n  wanted {ours_wanted:?}"
        )
    })
}
