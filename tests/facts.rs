//! Facts that stand in two places and can rot: the README against the code, the changelog against the package, the
//! dependencies against their limit, the sources against the rules of the house. Each failure says what to write.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that we chose ourselves. One more needs a reason in the README.
const DIRECT: [&str; 8] = ["lexopt", "libc", "memchr", "rustls", "serde_core", "serde_json", "ureq", "ureq-proto"];

/// How many crates the static binary may be built from, those included that only run while it is built.
const ALL_CRATES: usize = 31;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands in the README between `<!-- name -->` and `<!-- /name -->`.
fn readme_section(name: &str, wanted: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let begin = format!("<!-- {name} -->\n");
    let end = format!("<!-- /{name} -->");
    let section = readme.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let (section, _) = section.unwrap_or_else(|| panic!("README.md needs {begin}{wanted}{end}"));
    section.to_owned()
}

#[test]
fn the_readme_lists_the_options() {
    let wanted = mcp_proxy::cli::options_markdown();
    let section = readme_section("options", &wanted);
    assert!(section.trim() == wanted.trim(), "README.md's table of options is old, it should be:\n{wanted}");
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = read("CHANGELOG.md");
    let heading =
        changelog.lines().find_map(|line| line.strip_prefix("## ")).expect("CHANGELOG.md has a `## ` heading");
    let version = heading.split(' ').next().unwrap_or_default().trim_matches(['[', ']']);
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "CHANGELOG.md against Cargo.toml");
}

#[test]
fn the_readme_gives_a_reason_for_each_dependency() {
    let manifest = read("Cargo.toml");
    let direct: BTreeSet<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .collect();
    assert_eq!(direct, BTreeSet::from(DIRECT), "Cargo.toml against this test");

    let rows = "| crate | why |\n|---|---|\n| `name` | its reason |\n";
    let section = readme_section("dependencies", rows);
    let explained: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    assert_eq!(explained, direct, "README.md's table of dependencies against Cargo.toml");
}

#[test]
fn the_binary_is_built_from_few_crates() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--target", "x86_64-unknown-linux-musl"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    let crates: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| *name != "mcp-proxy").collect();
    assert!(crates.len() > DIRECT.len(), "cargo tree lists nothing: {tree}");
    assert!(crates.len() <= ALL_CRATES, "{} crates instead of {ALL_CRATES}: {crates:?}", crates.len());
}

/// One of our source files, without its tests and without lines that are only a comment.
struct Source {
    /// `src/protocol/sse.rs`
    path: String,
    /// `protocol`: the file or folder right below `src`.
    module: String,
    code: String,
}

impl Source {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_')
    }

    /// The modules of ours that it names: `crate::log`, `use crate::{connect, log::Secret}`.
    fn imports(&self) -> BTreeSet<String> {
        let first_word = |text: &str| {
            text.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
        };
        let behind_root = self.code.replace("mcp_proxy::", "crate::");
        behind_root
            .split("crate::")
            .skip(1)
            .flat_map(|rest| match rest.strip_prefix('{') {
                Some(list) => top_level(list).into_iter().map(|item| first_word(&item)).collect(),
                None => vec![first_word(rest)],
            })
            .filter(|name| !name.is_empty() && *name != "self")
            .collect()
    }
}

/// The items of `{a, b::{c, d}, e}`, of which the first brace is gone already.
fn top_level(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => items.last_mut().expect("there is one").push(c),
            _ => (),
        }
    }
    items
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root()).expect("below the root").display().to_string();
            let module = path["src/".len()..].split(['/', '.']).next().unwrap_or_default().to_owned();
            let text = fs::read_to_string(file).expect("a source file is text");
            assert!(text.starts_with("//!"), "{path} does not say what it does");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            Source { path, module, code }
        })
        .collect()
}

/// The Rust files below a folder, except those that are tests as a whole.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == "tests") {
                continue;
            }
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            files.push(path);
        }
    }
}

/// How high a module stands. It may name modules that stand lower, and no others.
fn height(module: &str) -> usize {
    let layers: [&[&str]; 8] = [
        &["error", "system", "time"],
        &["log", "protocol"],
        &["demo", "downstream", "restrict", "upstream"],
        &["config"],
        &["serve", "connect"],
        &["cli"],
        &["main"],
        &["lib"],
    ];
    layers.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| panic!("say where '{module}' stands"))
}

#[test]
fn imports_go_one_way() {
    for source in sources() {
        for import in source.imports().iter().filter(|import| **import != source.module) {
            let is_below = height(import) < height(&source.module);
            assert!(is_below, "{} must not name '{import}', which stands no lower", source.path);
        }
    }
    let protocol = sources().into_iter().filter(|source| source.module == "protocol");
    for source in protocol {
        for outside in
            ["std::fs", "TcpStream", "TcpListener", "std::process", "std::thread", "Instant::now", "SystemTime"]
        {
            assert!(!source.code.contains(outside), "{} is pure, but names '{outside}'", source.path);
        }
    }
}

#[test]
fn each_library_has_its_place() {
    let places: [(&str, &[&str]); 4] = [
        ("lexopt", &["src/cli.rs"]),
        ("rustls", &["src/upstream/"]),
        ("ureq", &["src/upstream/"]),
        ("ureq_proto", &["src/downstream/", "src/protocol/", "src/serve", "src/upstream/"]),
    ];
    for source in sources() {
        for (library, allowed) in places {
            let is_allowed = allowed.iter().any(|place| source.path.starts_with(place));
            assert!(is_allowed || source.words().all(|word| word != library), "{} names {library}", source.path);
        }
    }
}

#[test]
fn what_can_end_the_program_is_not_used() {
    for source in sources() {
        let path = &source.path;
        assert!(source.module == "system" || source.words().all(|word| word != "unsafe"), "{path} is unsafe");
        for (text, instead) in [
            (".unwrap()", "`?`, or `expect` with the reason why it cannot fail"),
            ("process::exit", "an exit status that goes up to `main`"),
            ("todo!", "the code"),
            ("unimplemented!", "the code"),
        ] {
            assert!(!source.code.contains(text), "{path} has {text}; write {instead}");
        }
    }
}
