//! What fuzzing has found interesting, without the fuzzer: every file of every corpus through its target. A new finding
//! of `make fuzz` becomes a file here, and a test beside the code that says what it was.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// More would be slow, and nobody would look at them.
const MOST_FILES: usize = 60;
const MOST_BYTES: u64 = 100_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry of it").path()).collect()
}

#[test]
fn nothing_in_the_corpora_goes_wrong() {
    let mut count = 0;
    for (name, check) in targets::TARGETS {
        for file in files(&corpus().join(name)) {
            let bytes = fs::read(&file).expect("a file of ours");
            let shown = file.display();
            catch_unwind(|| check(&bytes)).unwrap_or_else(|_| panic!("target '{name}' fails on {shown}"));
            count += 1;
        }
    }
    assert!(count > targets::TARGETS.len() * 3, "the corpora are nearly empty: {count}");
}

#[test]
fn each_target_has_a_small_corpus() {
    let known: BTreeSet<_> = targets::TARGETS.iter().map(|(name, _)| corpus().join(name)).collect();
    assert_eq!(files(&corpus()).into_iter().collect::<BTreeSet<_>>(), known, "a folder for each target");
    for folder in known {
        let files = files(&folder);
        let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file of ours").len()).sum();
        let shown = folder.display();
        let is_small = files.len() <= MOST_FILES && bytes <= MOST_BYTES;
        assert!(is_small, "{shown} is too large: {} files, {bytes} bytes; 'tests/fuzz/run minimise'", files.len());
    }
}
