//! `make audit` passes on this tree, and finds what it is there to find: each kind of bad dependency is made up here, as a
//! `Cargo.lock`, an answer of `cargo metadata` and a database of advisories, and the checker is run on it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use support::Folder;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn checker() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/audit.py"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("ADVISORY_DB").env_remove("OFFLINE");
    command
}

/// The status and everything that was said.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let done = command.output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

/// One made-up crate that we depend on.
#[derive(Clone)]
struct Crate {
    name: &'static str,
    version: &'static str,
    licence: &'static str,
    /// `lib`, `custom-build` or `proc-macro`
    target: &'static str,
    /// How we use it: `null`, `"build"` or `"dev"`.
    edge: &'static str,
    source: &'static str,
    checksum: &'static str,
}

const GOOD: Crate = Crate {
    name: "good",
    version: "1.2.3",
    licence: "MIT OR GPL-3.0-only",
    target: "lib",
    edge: "null",
    source: REGISTRY,
    checksum: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
};

/// A project that depends on made-up crates.
struct Project {
    folder: Folder,
    rules: String,
}

impl Project {
    fn new(crates: &[Crate]) -> Self {
        let project = Self { folder: Folder::new(), rules: rules("MIT = 'fine'", "", "") };
        project.write("Cargo.lock", &lock(crates));
        project.write("metadata.json", &metadata(crates));
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with_rules(self, licences: &str, duplicates: &str, advisories: &str) -> Self {
        Self { rules: rules(licences, duplicates, advisories), ..self }
    }

    /// Puts an advisory into the database.
    fn advise(&self, id: &str, package: &str, about: &str, versions: &str) {
        let head = format!("[advisory]\nid = '{id}'\npackage = '{package}'\ndate = '2026-01-02'\n{about}\n");
        let text = format!("```toml\n{head}[versions]\n{versions}\n```\n\n# It breaks\n\nText.\n");
        self.write(&format!("database/crates/{package}/{id}.md"), &text);
    }

    /// Runs the checker, with the database if there is one, and else without one.
    fn audit(&self) -> (Option<i32>, String) {
        let database = self.path("database");
        let mut command = self.checker();
        if database.exists() {
            command.env("ADVISORY_DB", database)
        } else {
            command.env("OFFLINE", "1")
        };
        run(&mut command)
    }

    fn checker(&self) -> Command {
        self.write("rules.toml", &self.rules);
        let mut command = checker();
        for (option, name) in [("--lock", "Cargo.lock"), ("--metadata", "metadata.json"), ("--rules", "rules.toml")] {
            command.arg(option).arg(self.path(name));
        }
        command.args(["--rustc", "1.95.0"]);
        command
    }

    /// Checks that this is all that is said to be wrong: nothing where it is empty.
    fn is_refused(&self, why: &str) {
        let (status, said) = self.audit();
        let bad: Vec<&str> = said.lines().filter_map(|line| line.split_once("BAD: ")).map(|(_, why)| why).collect();
        assert_eq!(bad.join("; "), why, "{said}");
        assert_eq!(status, Some(i32::from(!why.is_empty())), "{said}");
    }
}

fn rules(licences: &str, duplicates: &str, advisories: &str) -> String {
    format!(
        "[licences]\n{licences}\n[duplicates]\n{duplicates}\n[build-scripts]\n[macros]\n[for-building]\n\
         [advisories]\n{advisories}\n"
    )
}

fn lock(crates: &[Crate]) -> String {
    let mut lock = "version = 4\n[[package]]\nname = 'us'\nversion = '0.1.0'\n".to_owned();
    for Crate { name, version, source, checksum, .. } in crates {
        write!(lock, "[[package]]\nname = '{name}'\nversion = '{version}'\n").unwrap();
        for (key, value) in [("source", source), ("checksum", checksum)] {
            if !value.is_empty() {
                writeln!(lock, "{key} = '{value}'").unwrap();
            }
        }
    }
    lock
}

fn metadata(crates: &[Crate]) -> String {
    let (mut packages, mut nodes, mut edges) = (Vec::new(), Vec::new(), Vec::new());
    for Crate { name, version, licence, target, edge, .. } in crates {
        let licence = if licence.is_empty() { "null".to_owned() } else { format!("\"{licence}\"") };
        packages.push(format!(
            r#"{{"id":"{name} {version}","name":"{name}","version":"{version}","license":{licence},
                "targets":[{{"kind":["{target}"]}}],"manifest_path":"/nowhere/Cargo.toml"}}"#
        ));
        nodes.push(format!(r#"{{"id":"{name} {version}","deps":[]}}"#));
        edges.push(format!(r#"{{"pkg":"{name} {version}","dep_kinds":[{{"kind":{edge}}}]}}"#));
    }
    packages.push(
        r#"{"id":"us","name":"us","version":"0.1.0","license":"MIT","targets":[],
            "manifest_path":"/nowhere/Cargo.toml"}"#
            .to_owned(),
    );
    nodes.push(format!(r#"{{"id":"us","deps":[{}]}}"#, edges.join(",")));
    format!(r#"{{"packages":[{}],"resolve":{{"root":"us","nodes":[{}]}}}}"#, packages.join(","), nodes.join(","))
}

#[test]
fn this_tree_passes_without_a_network() {
    let (status, said) = run(checker().env("OFFLINE", "1"));
    assert_eq!(status, Some(0), "{said}");
    for check in ["sources", "licences", "versions", "building"] {
        assert!(said.contains(&format!("{check}: ok: ")), "{check}: {said}");
    }
    assert!(said.contains("\nadvisories: NOT CHECKED"), "{said}");
    assert!(said.contains("only in tests: ") && said.contains("tiny_http"), "{said}");
}

#[test]
fn the_database_is_cloned_and_what_cannot_be_cloned_is_a_failure() {
    let project = Project::new(&[GOOD]);
    project.advise("A-1", "good", "", "patched = []");
    fs::rename(project.path("database"), project.path("elsewhere")).unwrap();
    let clone = format!("for last; do :; done; cp -r '{}' \"$last\"", project.path("elsewhere").display());
    for (git, says) in [("exit 128", "advisories: NOT CHECKED: "), (&*clone, "advisories: BAD: A-1 hits good 1.2.3: ")]
    {
        project.write("bin/git", &format!("#!/bin/sh\n{git}\n"));
        fs::set_permissions(project.path("bin/git"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
        let (status, said) = run(project.checker().env("PATH", path).env("CARGO_TARGET_DIR", project.path("target")));
        assert!(status == Some(1) && said.contains(says), "{said}");
    }
}

#[test]
fn each_bad_dependency_is_found() {
    let cases: &[(Crate, &str)] = &[
        (GOOD, ""),
        (Crate { licence: "GPL-3.0-only", ..GOOD }, "good 1.2.3 has the licence GPL-3.0-only"),
        (Crate { licence: "MIT AND GPL-3.0-only", ..GOOD }, "good 1.2.3 has the licence MIT AND GPL-3.0-only"),
        (Crate { licence: "MIT AND (GPL-3.0-only OR MIT)", ..GOOD }, ""),
        (Crate { licence: "MIT/GPL-3.0-only", ..GOOD }, ""),
        (Crate { licence: "(MIT", ..GOOD }, "good 1.2.3: a licence with a parenthesis that is not closed"),
        (Crate { licence: "MIT MIT", ..GOOD }, "good 1.2.3: the licence MIT MIT cannot be understood"),
        (Crate { licence: "", ..GOOD }, "good 1.2.3 names no licence"),
        (
            Crate { source: "git+https://host.example/good#0123", checksum: "", ..GOOD },
            "good 1.2.3 comes from git+https://host.example/good#0123, not from crates.io",
        ),
        (
            Crate { source: "registry+https://host.example/index", ..GOOD },
            "good 1.2.3 comes from registry+https://host.example/index, not from crates.io",
        ),
        (Crate { source: "", checksum: "", ..GOOD }, "good 1.2.3 comes from a folder, not from crates.io"),
        (Crate { checksum: "", ..GOOD }, "good 1.2.3 has no checksum in Cargo.lock"),
        (Crate { checksum: "0123", ..GOOD }, "good 1.2.3 has no checksum in Cargo.lock"),
        (
            Crate { target: "custom-build", ..GOOD },
            "good runs while we are built, and [build-scripts] does not say why",
        ),
        (
            Crate { target: "proc-macro", edge: "\"dev\"", ..GOOD },
            "good runs while we are built, and [macros] does not say why",
        ),
        (Crate { edge: "\"build\"", ..GOOD }, "good runs while we are built, and [for-building] does not say why"),
    ];
    for (bad, why) in cases {
        // The second one keeps the allowed licence in use.
        let other = Crate { name: "other", licence: "MIT", ..GOOD };
        Project::new(&[bad.clone(), other]).is_refused(why);
    }
}

#[test]
fn versions_patches_and_the_rules_themselves_are_checked() {
    let twice = [GOOD, Crate { version: "2.0.0", ..GOOD }];
    Project::new(&twice).is_refused("good is there in 2 versions: 1.2.3, 2.0.0");
    Project::new(&twice).with_rules("MIT = 'fine'", "good = 'two halves'", "").is_refused("");
    let old = "of rules.toml accepts";
    Project::new(&[GOOD])
        .with_rules("MIT = 'fine'", "good = 'two halves'", "")
        .is_refused(&format!("[duplicates] {old} good, which nothing needs"));
    Project::new(&[GOOD])
        .with_rules("MIT = 'fine'\nISC = 'fine'", "", "")
        .is_refused(&format!("[licences] {old} ISC, which nothing needs"));

    let patched = Project::new(&[GOOD]);
    let patch = "[[patch.unused]]\nname = 'other'\nversion = '1.0.0'\n";
    patched.write("Cargo.lock", &format!("{}{patch}", lock(&[GOOD])));
    patched.is_refused("Cargo.toml has a patch for other 1.0.0");
    let other = Project::new(&[GOOD]);
    other.write("Cargo.lock", &lock(&[Crate { version: "1.2.4", ..GOOD }]));
    other.is_refused("good 1.2.3 is used and does not stand in Cargo.lock");
}

#[test]
fn an_advisory_hits_what_is_not_patched() {
    let hit = "A-1 hits good 1.2.3: It breaks (vulnerability; patched in >= 1.2.4)";
    let cases = [
        ("", "patched = ['>= 1.2.4']", hit),
        (
            "categories = ['memory-corruption']",
            "patched = []",
            "A-1 hits good 1.2.3: It breaks (memory-corruption; no patch)",
        ),
        ("informational = 'unmaintained'", "", "A-1 hits good 1.2.3: It breaks (unmaintained; no patch)"),
        ("", "patched = ['>= 1.2.3']", ""),
        ("", "patched = ['>= 2']\nunaffected = ['< 1.2.4']", ""),
        ("withdrawn = '2026-02-03'", "patched = []", ""),
    ];
    for (about, versions, why) in cases {
        let project = Project::new(&[GOOD]);
        project.advise("A-1", "good", about, versions);
        project.advise("A-2", "another", "", "patched = []");
        project.is_refused(why);
    }
    let project = Project::new(&[GOOD]).with_rules("MIT = 'fine'", "", "A-1 = 'we do not call it'");
    project.advise("A-1", "good", "", "patched = []");
    project.is_refused("");
    assert!(project.audit().1.contains("accepted: A-1 hits good 1.2.3: we do not call it"));
    project.advise("A-1", "good", "", "patched = ['1.2.3']");
    project.is_refused("[advisories] of rules.toml accepts A-1, which nothing needs");
}

#[test]
fn the_toolchain_has_advisories_too() {
    for (patched, why) in
        [("1.95.0", ""), ("1.95.1", "C-1 hits std 1.95.0: It breaks (vulnerability; patched in >= 1.95.1)")]
    {
        let project = Project::new(&[GOOD]);
        let head = "```toml\n[advisory]\nid = 'C-1'\npackage = 'std'\ndate = '2026-01-02'\n[versions]\n";
        project.write("database/rust/std/C-1.md", &format!("{head}patched = ['>= {patched}']\n```\n# It breaks\n"));
        project.is_refused(why);
    }
}

#[test]
fn a_database_that_cannot_be_read_is_a_mistake() {
    let project = Project::new(&[GOOD]);
    fs::create_dir(project.path("database")).unwrap();
    let (status, said) = project.audit();
    assert!(status == Some(2) && said.contains("holds no advisories"), "{said}");
    project.advise("A-1", "good", "", "patched = ['newer than 1']");
    let (status, said) = project.audit();
    assert!(status == Some(2) && said.contains("cannot be understood: 'newer than 1'"), "{said}");
    project.write("database/crates/good/A-1.md", "# It breaks\n");
    let (status, said) = project.audit();
    assert!(status == Some(2) && said.contains("A-1.md does not begin with its data"), "{said}");
}

/// Each range, a version, and whether it is in it: as an advisory that is patched there.
#[test]
fn ranges_of_versions_are_understood() {
    let cases = [
        (">= 1.2.3", "1.2.3", true),
        (">= 1.2.3", "1.2.2", false),
        (">= 1.2", "1.10.0", true),
        (">= 1.2", "1.3.0-beta.1", true),
        (">= 1.2.0", "1.2.0-beta.1", false),
        ("> 1.2.3", "1.2.3", false),
        ("> 1.2.3", "1.2.4", true),
        ("> 1.2", "1.2.9", false),
        ("> 1.2", "1.3.0", true),
        ("< 1.2.3", "1.2.3", false),
        ("< 1.2.3", "1.2.3-rc.1", true),
        ("< 1.2", "1.1.99", true),
        ("<= 1.2.3", "1.2.3", true),
        ("<= 1.2", "1.2.9", true),
        ("<= 1.2", "1.3.0", false),
        ("= 1.2.3", "1.2.3", true),
        ("=1.2.3", "1.2.4", false),
        ("= 1.2", "1.2.7", true),
        ("^1.2.3", "1.9.0", true),
        ("^1.2.3", "1.2.2", false),
        ("^1.2.3", "2.0.0", false),
        ("^1.2.3", "2.0.0-rc.1", false),
        ("^0.6.3", "0.6.9", true),
        ("^0.6.3", "0.7.0", false),
        ("^0.0.3", "0.0.4", false),
        ("1.2.3", "1.5.0", true),
        ("1.2.3", "2.0.0", false),
        ("~1.2.3", "1.2.9", true),
        ("~1.2.3", "1.3.0", false),
        ("~1", "1.9.0", true),
        ("1.2.*", "1.2.9", true),
        ("1.2.*", "1.3.0", false),
        ("1.*", "1.3.0", true),
        ("*", "0.0.1", true),
        (">= 1.0.2, < 1.1", "1.0.9", true),
        (">= 1.0.2, < 1.1", "1.1.0", false),
        (">= 1.0.2, < 1.1", "1.0.1", false),
        ("< 0.104.0-alpha.10", "0.104.0-alpha.9", true),
        ("< 0.104.0-alpha.10", "0.104.0-alpha.11", false),
        ("< 0.104.0-alpha.1", "0.104.0-alpha", true),
        ("< 0.104.0-alpha.beta", "0.104.0-alpha.1", true),
        (">= 0.11.1", "0.11.1+wasi-snapshot-preview1", true),
    ];
    let name = |at: usize| -> &'static str { format!("c{at}").leak() };
    let crates: Vec<Crate> =
        cases.iter().enumerate().map(|(at, (_, version, _))| Crate { name: name(at), version, ..GOOD }).collect();
    let project = Project::new(&crates);
    for (at, (range, ..)) in cases.iter().enumerate() {
        project.advise(&format!("A-{at}"), name(at), "", &format!("patched = ['{range}']"));
    }
    let said = project.audit().1;
    for (at, (range, version, is_in)) in cases.iter().enumerate() {
        assert_eq!(!said.contains(&format!("A-{at} hits c{at} {version}: ")), *is_in, "{version} in {range}: {said}");
    }
}
