//! What is bounded of the files and values that we are started with. There is nobody else to serve: those that are
//! refused do not start.

use super::support::{Folder, Process, SOON, proxy, wait_until};
use super::{Row, Scene};
use std::fmt::Write as _;

const LONG: &str = "is longer than 1048576 bytes";

pub fn rows() -> Vec<Row> {
    let row = |names, amounts, seen, scene| Row { names, amounts, seen, growth_kb: 0, scene };
    vec![
        row(&["config.rs FILE_LIMIT_BYTES"], [1 << 20, (1 << 20) + 1, 64 << 20], ["runs", LONG, LONG], || {
            Start::of("--named-server-config", LONG, |bytes| {
                let servers = r#"{"mcpServers":{"a":{"url":"http://127.0.0.1:1/mcp"}}}"#;
                format!("{servers}{}", " ".repeat(bytes - servers.len()))
            })
        }),
        row(&[], [1 << 20, (1 << 20) + 1, 64 << 20], ["runs", LONG, LONG], || {
            Start::of("--auth-token-file", LONG, |bytes| format!("0123456789abcdef\n#{}", "x".repeat(bytes - 18)))
        }),
        row(
            &["protocol/access.rs MOST"],
            [1000, 1001, 20_000],
            ["runs", "there are more than 1000 tokens", "there are more than 1000 tokens"],
            || {
                Start::of("--auth-token-file", "there are more than 1000 tokens", |count| {
                    (0..count).fold(String::new(), |mut text, number| {
                        let _ = writeln!(text, "token-{number:016}");
                        text
                    })
                })
            },
        ),
        row(
            &["protocol/access.rs LONGEST_BYTES"],
            [4096, 4097, 500_000],
            ["runs", "a token has 4096 characters or fewer", "a token has 4096 characters or fewer"],
            || Start::of("--auth-token-file", "a token has 4096 characters or fewer", |bytes| "x".repeat(bytes)),
        ),
        row(
            &["protocol/access.rs SHORTEST_BYTES"],
            [16, 15, 1],
            ["runs", "a token has 16 characters or more", "a token has 16 characters or more"],
            || Start::of("--auth-token-file", "a token has 16 characters or more", |bytes| "x".repeat(bytes)),
        ),
    ]
}

/// A start with a file.
struct Start {
    option: &'static str,
    refusal: &'static str,
    content: fn(usize) -> String,
}

impl Start {
    fn of(option: &'static str, refusal: &'static str, content: fn(usize) -> String) -> Box<dyn Scene> {
        Box::new(Self { option, refusal, content })
    }
}

impl Scene for Start {
    fn reach(&mut self, amount: usize, _slowly: bool) -> String {
        let folder = Folder::new();
        let file = folder.file("file", (self.content)(amount));
        let mut command = proxy();
        command.args(["--port", "0", self.option]).arg(file);
        if self.option != "--named-server-config" {
            command.args(["--", "cat"]);
        }
        let mut process = Process::start(&mut command);
        let runs = |process: &Process| process.stderr().contains("listening on");
        wait_until("a start or a refusal", SOON, || runs(&process) || process.stderr().contains("mcp-proxy: "));
        if !runs(&process) {
            assert_eq!(process.finish(SOON).code(), Some(2), "{}", process.report());
            let said = process.stderr();
            assert_eq!(said.lines().count(), 1, "one clear line: {said}");
            return if said.contains(self.refusal) { self.refusal.into() } else { said };
        }
        "runs".into()
    }

    fn good(&mut self) {}

    fn pid(&self) -> Option<u32> {
        None
    }
}
