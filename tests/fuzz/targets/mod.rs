//! What is fuzzed: each target takes any bytes, and panics where something does not hold that always must.
//!
//! Two include this: the fuzzer (`make fuzz`), and `tests/corpora.rs`, which gives every file of `corpus/TARGET` to its
//! target. What a target compares with is written as simply as can be, for it must not have the same faults.

mod answer;
mod chunks;
mod cli;
mod config;
mod digest;
mod edit;
mod head;
mod lines;
mod message;
mod params;
mod sse;
mod transcript;
mod uri;

/// Panics if something is wrong.
pub type Check = fn(&[u8]);

/// The targets, named as the folders of their corpora.
pub const TARGETS: &[(&str, Check)] = &[
    ("answer", answer::check),
    ("both", transcript::both),
    ("chunks", chunks::check),
    ("cli", cli::check),
    ("config", config::check),
    ("digest", digest::check),
    ("edit", edit::check),
    ("head", head::check),
    ("lines", lines::check),
    ("message", message::check),
    ("modern_share", transcript::modern_share),
    ("params", params::check),
    ("share", transcript::share),
    ("sse", sse::check),
    ("to_legacy", transcript::to_legacy),
    ("uri", uri::check),
];

/// The pieces that `data` arrives in: the cuts come from the data itself, so that they can be found too.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut rest = data;
    let mut pieces = Vec::new();
    let mut state = data.iter().fold(7_usize, |state, byte| state.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (piece, behind) = rest.split_at(rest.len().min(1 + (state >> 33) % 9));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
