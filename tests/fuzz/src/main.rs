//! The fuzzer: libFuzzer, and the one target that `FUZZ_TARGET` names.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static CHECK: OnceLock<targets::Check> = OnceLock::new();

fn choose() -> targets::Check {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET='{wanted}' names no target")).1
}

fuzz_target!(|data: &[u8]| CHECK.get_or_init(choose)(data));
