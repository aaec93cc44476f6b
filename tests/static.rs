//! The static binary that `make static` gives needs nothing: no loader, no library, no file. Both modes run in an
//! empty folder as their root, as PID 1 too. It is built twice here, side by side and in two folders, and is the same
//! byte for byte; its bill of materials names what it was made from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the size of the binary")]

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use support::client::{INITIALIZED, initialize, request};
use support::namespace::{behind, chroot};
use support::{Folder, Process, SOON, alive, descendants, kill, wait_until};

/// The binary of this folder.
fn binary() -> &'static Path {
    &builds()[0]
}

/// Builds it, once: here and in another folder at the same time. `make test` has begun with that before.
fn builds() -> &'static [PathBuf; 2] {
    static BUILDS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILDS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/static/twice");
        let building = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(building.status.success(), "tests/static/twice failed: {}", building.status);
        let said = String::from_utf8(building.stdout).unwrap();
        let mut last: Vec<PathBuf> = said.lines().rev().take(2).map(PathBuf::from).collect();
        last.reverse();
        assert_ne!(last[0], last[1]);
        last.try_into().unwrap()
    })
}

/// A folder that holds nothing but the binary.
fn empty_root() -> Folder {
    let folder = Folder::new();
    fs::copy(binary(), folder.path().join("mcp-proxy")).unwrap();
    folder
}

/// The binary in `root`, which is its root folder, with nothing in its environment.
fn inside(root: &Folder, kinds: &[&str], args: &[&str]) -> Process {
    let mut command = Command::new("/mcp-proxy");
    command.args(args);
    let words = chroot(root.path().to_str().unwrap(), kinds);
    Process::start(&mut behind(&words, &command))
}

#[test]
fn nothing_is_loaded_with_it() {
    let bytes = fs::read(binary()).unwrap();
    let found = needs(&bytes);
    assert!(found.is_empty(), "the binary is not static: {found:?}");
    println!("{} bytes", bytes.len());
    assert!(bytes.len() < 5_000_000, "{} bytes", bytes.len());
}

#[test]
fn what_is_loaded_with_an_ordinary_binary_is_found() {
    let found = needs(&fs::read("/bin/sh").unwrap());
    assert!(found.contains(&"a loader") && found.contains(&"a library"), "{found:?}");
}

#[test]
fn another_folder_gives_the_same_bytes() {
    let [here, there] = builds().each_ref().map(|binary| fs::read(binary).unwrap());
    if let Some(at) = (0..here.len().max(there.len())).find(|at| here.get(*at) != there.get(*at)) {
        let around = |bytes: &[u8]| {
            let part = bytes.get(at.saturating_sub(40)..bytes.len().min(at + 80)).unwrap_or_default();
            part.escape_ascii().to_string()
        };
        panic!(
            "they differ at byte {at} of {} and {}:\n{}\n{}",
            here.len(),
            there.len(),
            around(&here),
            around(&there)
        );
    }
    let [here, there] = builds().each_ref().map(|binary| fs::read_to_string(bill_of(binary)).unwrap());
    assert_eq!(here, there, "the bills of materials");
}

#[test]
fn nothing_tells_where_it_was_built() {
    let bytes = fs::read(binary()).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("/cargo/registry/src/"), "what panics does not tell its source file");
    let home = std::env::var("HOME").unwrap();
    let home = if home.len() > 1 { format!("{home}/") } else { "/.cargo".to_owned() };
    for place in [env!("CARGO_MANIFEST_DIR"), &home, ".cargo/registry", "other cargo home"] {
        assert!(!holds(place), "{place} stands in the binary");
    }
}

fn bill_of(binary: &Path) -> PathBuf {
    binary.with_file_name("mcp-proxy.cdx.json")
}

#[test]
fn its_bill_of_materials_is_true_and_complete() {
    let bill: Value = serde_json::from_slice(&fs::read(bill_of(binary())).unwrap()).unwrap();
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"], &bill["version"]),
        (&"CycloneDX".into(), &"1.6".into(), &1.into())
    );
    let serial = bill["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    let parts: Vec<usize> = serial.split('-').map(str::len).collect();
    assert!(parts == [8, 4, 4, 4, 12] && serial.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-')), "{serial}");
    assert!(bill["metadata"]["timestamp"].is_null(), "a time differs with each build");

    let ours = &bill["metadata"]["component"];
    assert_eq!((&ours["type"], &ours["name"]), (&"application".into(), &"mcp-proxy".into()));
    assert_eq!(ours["hashes"][0]["content"], sha256sum(binary()));

    let components: BTreeMap<&str, &Value> =
        bill["components"].as_array().unwrap().iter().map(|part| (part["bom-ref"].as_str().unwrap(), part)).collect();
    assert_eq!(components.len(), bill["components"].as_array().unwrap().len(), "a name stands twice");
    for scope in ["required", "excluded"] {
        let listed: BTreeSet<String> =
            components.values().filter(|part| part["scope"] == scope).filter_map(|part| crate_of(part)).collect();
        assert_eq!(listed, crates(scope), "{scope}");
    }
    assert!(
        components["rust-std"]["version"].as_str().unwrap().starts_with("1."),
        "the standard library is linked too"
    );
    check_dependencies(&bill, &components);
}

/// `name version` of a crate whose entry holds what the format and its reader want.
fn crate_of(part: &Value) -> Option<String> {
    assert_eq!(part["type"], "library", "{part}");
    let purl = part["purl"].as_str()?;
    let (name, version) = (part["name"].as_str().unwrap(), part["version"].as_str().unwrap());
    assert_eq!((purl, purl), (&*format!("pkg:cargo/{name}@{version}"), part["bom-ref"].as_str().unwrap()));
    assert!(part["licenses"][0]["expression"].as_str().is_some_and(|licence| !licence.contains('/')), "{part}");
    assert_eq!(part["hashes"][0]["alg"], "SHA-256");
    let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let (_, rest) = lock.split_once(&locked).unwrap_or_else(|| panic!("Cargo.lock has no {purl}"));
    let hash = part["hashes"][0]["content"].as_str().unwrap();
    assert!(hash.len() == 64 && rest.lines().nth(1) == Some(&format!("checksum = \"{hash}\"")), "{purl}: {hash}");
    Some(format!("{name} {version}"))
}

/// What cargo says is linked, or only runs while building.
fn crates(scope: &str) -> BTreeSet<String> {
    let tree = |edges: &str| -> BTreeSet<String> {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}", "--edges", edges])
            .args(["--target", &target])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        let words = tree.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        words.filter(|words| words[0] != "mcp-proxy").map(|words| format!("{} {}", words[0], &words[1][1..])).collect()
    };
    let linked = tree("normal");
    if scope == "required" { linked } else { tree("normal,build").difference(&linked).cloned().collect() }
}

/// Everything has one entry, names only what is there, and is reached from the program.
fn check_dependencies(bill: &Value, components: &BTreeMap<&str, &Value>) {
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in bill["dependencies"].as_array().unwrap() {
        let names = entry["dependsOn"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(below.insert(entry["ref"].as_str().unwrap(), names).is_none(), "{entry} stands twice");
    }
    let mut todo = vec![bill["metadata"]["component"]["bom-ref"].as_str().unwrap()];
    let mut reached = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if reached.insert(name) {
            todo.extend(below.get(name).unwrap_or_else(|| panic!("{name} has no entry")));
        }
    }
    assert_eq!(below.keys().copied().collect::<BTreeSet<_>>(), reached);
    assert_eq!(reached.len(), components.len() + 1);
}

fn sha256sum(file: &Path) -> String {
    let said = Command::new("sha256sum").arg(file).output().unwrap().stdout;
    String::from_utf8(said).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn both_modes_run_in_an_empty_folder() {
    let (here, there) = (empty_root(), empty_root());
    let serve = inside(&here, &[], &["--port", "0", "--", "/mcp-proxy", "--demo"]);
    let port = serve.address().rsplit_once(':').unwrap().1.to_owned();
    let mut connect = inside(&there, &[], &[&format!("http://localhost:{port}/sse")]);
    talk(&mut connect);
    connect.close_stdin();
    assert_eq!(connect.wait(SOON).code(), Some(0), "{}", connect.report());
    stop(serve);
}

#[test]
fn it_is_pid_1_of_an_empty_container() {
    let (here, there) = (empty_root(), empty_root());
    let container = &["--pid", "--fork", "--mount"];
    let serve = inside(&here, container, &["--port", "0", "--", "/mcp-proxy", "--demo"]);
    let address = serve.address();
    let mut connect = inside(&there, container, &[&format!("http://{address}/sse")]);
    talk(&mut connect);
    connect.close_stdin();
    assert_eq!(connect.wait(SOON).code(), Some(0), "{}", connect.report());
    stop(serve);
}

/// A short conversation through both modes with the demo server.
fn talk(connect: &mut Process) {
    let call = request(3, "tools/call", r#"{"name":"echo","arguments":{"text":"over the wall"}}"#);
    let list = request(2, "tools/list", "{}");
    connect.write(format!("{}\n{INITIALIZED}\n{list}\n{call}\n", initialize(1)).as_bytes());
    let answers = connect.lines(3);
    for (id, holds) in [(1, "\"serverInfo\""), (2, "\"tools\""), (3, "over the wall")] {
        let mut texts = answers.iter().map(|answer| String::from_utf8_lossy(answer));
        let answer =
            texts.find(|text| text.contains(&format!("\"id\":{id},")) || text.contains(&format!("\"id\":{id}}}")));
        assert!(answer.is_some_and(|text| text.contains(holds)), "{holds}: {}", connect.report());
    }
}

/// Stops the proxy itself, which may be a child of what we started.
fn stop(mut serve: Process) {
    let below = descendants(serve.id());
    let is_proxy = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("mcp-proxy"));
    let proxy = [serve.id()].into_iter().chain(below.clone()).find(is_proxy).expect("the proxy runs");
    kill("TERM", &proxy.to_string());
    assert_eq!(serve.wait(SOON).code(), Some(0), "{}", serve.report());
    wait_until("nothing is left", SOON, || !below.iter().any(|pid| alive(*pid)));
}

/// What an ELF binary of 64 bits, little endian, wants loaded with it.
fn needs(elf: &[u8]) -> Vec<&'static str> {
    const INTERP: usize = 3;
    const DYNAMIC: usize = 2;
    const NEEDED: usize = 1;
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "not such a binary");
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let mut found = Vec::new();
    for header in (0..count).map(|index| table + index * size) {
        let (start, length) = (number(header + 8, 8), number(header + 32, 8));
        match number(header, 4) {
            INTERP => found.push("a loader"),
            DYNAMIC if (start..start + length).step_by(16).any(|entry| number(entry, 8) == NEEDED) => {
                found.push("a library");
            }
            _ => {}
        }
    }
    found
}
