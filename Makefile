PROXY := $(or $(CARGO_TARGET_DIR),target)/release/mcp-proxy

.PHONY: run test check static audit fuzz soak clean

# Offers the built-in demo server at http://127.0.0.1:8080/mcp and /sse.
run:
	cargo build --locked --release
	$(PROXY) --port 8080 -- $(PROXY) --demo

# Every test; the programs that the tests talk to are installed first, once.
test:
	tests/run

# What must hold before a change is merged: format, lints, documentation, tests.
check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	$(MAKE) test

# Everything breaks for an hour while clients call, and nothing may grow; SOAK_SECONDS=600 for ten minutes.
soak:
	cargo test --locked --release --test faults -- --ignored --nocapture --test-threads 1 --skip a_peer

# The static musl binary; the last line of its output says where it is.
static:
	tests/static/build

# Where our dependencies come from, their licences, double versions, what runs while building, and known advisories.
# ADVISORY_DB=FOLDER: a checkout of https://github.com/RustSec/advisory-db; OFFLINE=1: without advisories.
audit:
	tests/audit/audit.py

# Gives random input to everything that reads foreign input, FUZZ_SECONDS (60) for each target, or for FUZZ_TARGET alone.
# Needs a C++ compiler. What makes a target fail is left in a file, and its path is printed.
fuzz:
	tests/fuzz/run

# Removes what was built and what the tests installed.
clean:
	cargo clean
	rm -rf tests/.peers
