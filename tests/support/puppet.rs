//! Servers that say what the test says, and nothing else: the test sees every line that they got and writes every
//! line that they say.

use super::served::Served;
use super::{SOON, wait_until};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// What such a server is: it writes its stdin to a file and a pipe's lines to its stdout, and ends with its stdin.
/// `initialize` and `server/discover` it answers by itself, for the test must wait for the answer: as a server of the
/// eras that `SPEAKS` names.
const SCRIPT: &str = r#"
    mkfifo "$HERE/says-$$" && : >"$HERE/got-$$" && : >"$HERE/puppet-$$"
    exec 3<>"$HERE/says-$$"
    cat "$HERE/says-$$" & cat=$!
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$HERE/got-$$"
        id=${line#*'"id":'}
        case $SPEAKS$line in
        legacy*'"method":"server/discover"'*)
            printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}\n' "${id%%[,\}]*}" ;;
        *'"method":"server/discover"'*)
            printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true}},"ttlMs":0,"cacheScope":"public"}}\n' \
                "${id%%[,\}]*}" ;;
        modern*'"method":"initialize"'*)
            printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}\n' "${id%%[,\}]*}" ;;
        *'"method":"initialize"'*)
            revision=${line#*'"protocolVersion":"'}
            printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"%s","capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"puppet","version":"1"}}}\n' \
                "${id%%[,\}]*}" "${revision%%\"*}" ;;
        esac
    done
    kill $cat
"#;

/// A proxy whose servers are puppets.
pub struct Stage {
    /// The proxy.
    pub served: Served,
}

/// One such server.
pub struct Puppet {
    folder: PathBuf,
    /// Its process.
    pub pid: u32,
    says: File,
}

impl Stage {
    /// A proxy with these options before legacy servers.
    #[must_use]
    pub fn open(options: &[&str]) -> Self {
        Self::open_before("legacy", options)
    }

    /// A proxy before servers that speak `legacy`, `modern` or `both`.
    #[must_use]
    pub fn open_before(speaks: &str, options: &[&str]) -> Self {
        Self { served: Served::script(options, &format!("SPEAKS={speaks}\n{SCRIPT}")) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.served.address()
    }

    /// Every puppet that has been started, in the order of their start as far as it can be told.
    #[must_use]
    pub fn puppets(&self) -> Vec<u32> {
        let names = std::fs::read_dir(self.served.folder()).unwrap().flatten();
        let mut found: Vec<_> = names
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.strip_prefix("puppet-")?.parse().ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, pid))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, pid)| pid).collect()
    }

    /// The puppet that has got a line that holds `text`.
    #[must_use]
    pub fn puppet(&self, text: &str) -> Puppet {
        let mut found = None;
        wait_until(&format!("a server that got {text:?}"), SOON, || {
            found = self.puppets().into_iter().find(|pid| {
                let got = self.served.folder().join(format!("got-{pid}"));
                std::fs::read_to_string(got).is_ok_and(|got| got.contains(text))
            });
            found.is_some()
        });
        Puppet::find(self.served.folder().to_path_buf(), found.unwrap())
    }
}

impl Puppet {
    fn find(folder: PathBuf, pid: u32) -> Self {
        let says = OpenOptions::new().write(true).open(folder.join(format!("says-{pid}"))).unwrap();
        Self { folder, pid, says }
    }

    /// Says one line, or several at once, which come together as long as they have no more than 4096 bytes.
    pub fn say(&mut self, line: &str) {
        self.says.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The whole lines that it got so far.
    #[must_use]
    pub fn got(&self) -> Vec<String> {
        let text = std::fs::read(self.folder.join(format!("got-{}", self.pid))).unwrap();
        let text = String::from_utf8_lossy(&text);
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// Waits for a line that holds `text`.
    #[must_use]
    pub fn gets(&self, text: &str) -> String {
        let found = || self.got().into_iter().find(|line| line.contains(text));
        wait_until(&format!("a line with {text:?}"), SOON, || found().is_some());
        found().unwrap()
    }

    /// Kills it.
    pub fn die(&self) {
        super::kill("KILL", &self.pid.to_string());
    }
}
