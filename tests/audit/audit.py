#!/usr/bin/env python3
"""Checks every crate that we depend on: where it comes from, its licence, double versions, what runs while building,
and known advisories. One line for each check; the status is 1 if anything is wrong, 2 if it could not be looked at.

Needs Python 3.11 (or an older one with pip) and cargo, and no network but for the advisories:
  ADVISORY_DB=FOLDER  a checkout of https://github.com/RustSec/advisory-db; else one is cloned below target/
  OFFLINE=1           do without the advisories; else it is a failure when they cannot be checked
The tests give `--lock`, `--metadata` and `--rules` of their own.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

import advisories
import dependencies

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATABASE = "https://github.com/RustSec/advisory-db"
CLONE_S = 120


def main():
    options = read_options()
    rules = tomllib.loads(options.rules.read_text())
    found = dependencies.Dependencies(tomllib.loads(options.lock.read_text()), read_metadata(options.metadata))
    good = [
        report("sources", dependencies.check_sources(found), f"{len(found.locked)} packages of Cargo.lock, from crates.io "
               "with a checksum, or our own"),
        report("licences", dependencies.check_licences(found, rules["licences"]),
               f"{len(found.foreign)} crates, under {', '.join(rules['licences'])}"),
        report("versions", dependencies.check_duplicates(found, rules["duplicates"]), "no crate twice without a reason"),
        report("building", dependencies.check_building(found, rules),
               f"{sum(len(rules[table]) for table in ('build-scripts', 'macros', 'for-building'))} crates run while we are "
               "built, each for the reason in rules.toml"),
    ]
    describe(found)
    good.append(audit_advisories(found, rules["advisories"], options.rustc))
    return 0 if all(good) else 1


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "Cargo.lock")
    parser.add_argument("--metadata", type=Path, help="what cargo metadata said")
    parser.add_argument("--rules", type=Path, default=HERE / "rules.toml")
    parser.add_argument("--rustc", help="the version of rustc, whose standard library is linked")
    return parser.parse_args()


def read_metadata(file):
    if file:
        return json.loads(file.read_text())
    platform = f"{os.uname().machine}-unknown-linux-musl"
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version=1", f"--filter-platform={platform}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        give_up("the crates are not on this machine: run `cargo fetch --locked`, or `cargo vendor` elsewhere")
    return json.loads(done.stdout)


def give_up(why):
    print(f"audit: {why}", file=sys.stderr)
    raise SystemExit(2)


def report(what, problems, otherwise):
    problems = list(problems)
    for problem in problems:
        print(f"{what}: BAD: {problem}")
    if not problems:
        print(f"{what}: ok: {otherwise}")
    return not problems


def describe(found):
    linked = [found.packages[id] for id in found.linked - {found.root}]
    counts = [(dependencies.count_unsafe(package), package["name"]) for package in linked]
    most = ", ".join(f"{crate} {count}" for count, crate in sorted(counts, reverse=True) if count)
    only_tests = {package["id"] for package in found.foreign} - found.linked - found.built
    print(f"linked: {len(linked)} crates; lines with `unsafe` in them: {most or 'none'}")
    print(f"only in tests: {', '.join(sorted(found.packages[id]['name'] for id in only_tests)) or 'none'}")


def audit_advisories(found, accepted, rustc):
    folder = os.environ.get("ADVISORY_DB") or clone()
    if folder is None:
        if os.environ.get("OFFLINE") == "1":
            print("advisories: NOT CHECKED, as OFFLINE=1 says")
            return True
        print(f"advisories: NOT CHECKED: {DATABASE} cannot be reached. Give a checkout of it (ADVISORY_DB=FOLDER), or say "
              "that it shall be so (OFFLINE=1)")
        return False
    known = advisories.read(folder, tomllib.loads)
    if not known:
        give_up(f"{folder} holds no advisories")
    hits = find_hits(found, known, rustc or rustc_version())
    problems = [f"{advisory.id} hits {what}: {advisory}" for advisory, what in hits if advisory.id not in accepted]
    problems += dependencies.unneeded("advisories", accepted, {advisory.id for advisory, _ in hits})
    for advisory, what in hits:
        if advisory.id in accepted:
            print(f"advisories: accepted: {advisory.id} hits {what}: {accepted[advisory.id]}")
    dates = [advisory.date for those in known.values() for advisory in those]
    return report("advisories", problems, f"none of {len(dates)}, the newest of {max(dates)}, hits what Cargo.lock or rustc "
                  "brings")


def find_hits(found, known, rustc):
    versions = [("crates", package["name"], package["version"]) for package in found.locked if "source" in package]
    versions += [("rust", "std", rustc)] if rustc else []
    return [(advisory, f"{package} {version}") for collection, package, version in versions
            for advisory in known.get((collection, package), []) if advisory.hits(version)]


def rustc_version():
    done = subprocess.run(["rustc", "--version"], capture_output=True, text=True)
    found = re.match(r"rustc (\S+)", done.stdout)
    return found and found[1]


def clone():
    """The newest database, from the network; `None` where there is none, or where nobody wants it."""
    if os.environ.get("OFFLINE") == "1":
        return None
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute() / "advisory-db"
    if folder.exists():
        return folder if git("-C", folder, "pull", "--quiet", "--ff-only") else None
    with tempfile.TemporaryDirectory(dir=make(folder.parent)) as unfinished:
        if not git("clone", "--quiet", "--depth=1", DATABASE, Path(unfinished) / "all"):
            return None
        return (Path(unfinished) / "all").rename(folder)


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def git(*words):
    try:
        done = subprocess.run(["git", *words], timeout=CLONE_S, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    except (OSError, subprocess.TimeoutExpired) as wrong:
        print(f"audit: {wrong}", file=sys.stderr)
        return False
    return done.returncode == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError) as wrong:
        give_up(f"{type(wrong).__name__}: {wrong}")
