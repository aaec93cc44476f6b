//! `--help` and the README's table of options, made from the table. No line of help is longer than 80 columns.

use super::table::{Group, Row, TABLE};
use std::fmt::Write as _;

/// The column in which an option's explanation begins.
const INDENT: usize = 28;
/// The width of a terminal that nobody has touched.
const WIDTH: usize = 80;

const USAGE: &str = "\
Lets any client of the Model Context Protocol (MCP) talk to any server of it.

Usage:
  mcp-proxy [OPTIONS] URL
        connect: our stdin and stdout, and the remote server at URL
  mcp-proxy [OPTIONS] [--] COMMAND [ARGS...]
        serve: clients over HTTP (/mcp and /sse), and the local server COMMAND
  mcp-proxy [OPTIONS] --port PORT URL
        serve: clients over HTTP, and the remote server at URL
  mcp-proxy [OPTIONS] --named-server NAME COMMAND [[--] COMMAND [ARGS...]]
  mcp-proxy [OPTIONS] --named-server-config FILE [[--] COMMAND [ARGS...]]
        serve several, each under /servers/NAME/ (.../mcp and .../sse)
  mcp-proxy --demo
        a small server on stdin and stdout, to try things with

Options may also stand behind the URL or the command. What stands behind '--'
is the command's alone. Without a URL, SSE_URL of the environment is taken.

Examples:
  mcp-proxy http://localhost:8080/sse
  mcp-proxy -H Authorization 'Bearer TOKEN' https://host/mcp
  mcp-proxy --verify-ssl /etc/ssl/our-ca.pem https://host/sse
  mcp-proxy --port 8080 -- uvx mcp-server-fetch --user-agent Me
  mcp-proxy --port 8080 --host 0.0.0.0 -e KEY VALUE -- npx -y some-server
  mcp-proxy --port 8080 --named-server fetch 'uvx mcp-server-fetch'
  mcp-proxy --port 8080 --named-server-config servers.json
  mcp-proxy --port 8080 --allow-origin '*' -- mcp-proxy --demo
";

const STATUS: &str = "
Exit status: 0 after the end of input or a polite stop; 2 a mistake on the
command line or in a file that it names; 127 or 126 the command is not found
or cannot run; 128 + n after a second signal n; 1 anything else.
";

/// What `--help` shows.
#[must_use]
pub fn help() -> String {
    let mut help = USAGE.to_owned();
    for (group, title) in GROUPS {
        let _ = write!(help, "\n{title}:\n");
        for row in TABLE.iter().filter(|row| row.group == group) {
            describe(row, &mut help);
        }
    }
    help + STATUS
}

/// The README's table: a row an option.
#[must_use]
pub fn options_markdown() -> String {
    let mut table = "| Option | Meaning | Default | Variable |\n|---|---|---|---|\n".to_owned();
    for row in GROUPS.iter().flat_map(|(group, _)| TABLE.iter().filter(move |row| row.group == *group)) {
        let names = row.names.join("`, `");
        let value = if row.value.is_empty() { String::new() } else { format!(" {}", row.value) };
        let help = row.help.replace('*', "\\*");
        let _ = writeln!(table, "| `{names}{value}` | {help} | {} | {} |", code(row.default), code(row.variable));
    }
    table
}

const GROUPS: [(Group, &str); 9] = [
    (Group::Remote, "A remote server (a URL)"),
    (Group::Login, "What a remote server is told of us"),
    (Group::Local, "A local server (a command)"),
    (Group::Several, "Several servers"),
    (Group::Listener, "Serve: the listener"),
    (Group::Access, "Serve: who may ask"),
    (Group::Sessions, "Serve: sessions"),
    (Group::Limits, "Limits"),
    (Group::General, "General"),
];

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

/// The names of a row on the left, its explanation on the right.
fn describe(row: &Row, help: &mut String) {
    let names = format!("  {} {}", row.names.join(", "), row.value);
    let mut line = format!("{:<INDENT$}", names.trim_end());
    if !line.ends_with("  ") {
        let _ = writeln!(help, "{}", line.trim_end());
        line = " ".repeat(INDENT);
    }
    let facts = [("default", row.default), ("variable", row.variable)];
    let facts = facts.iter().filter(|(_, fact)| !fact.is_empty()).map(|(what, fact)| format!("[{what}: {fact}]"));
    for word in row.help.split(' ').map(str::to_owned).chain(facts) {
        if line.len() + word.len() > WIDTH {
            let _ = writeln!(help, "{}", line.trim_end());
            line = " ".repeat(INDENT);
        }
        line.push_str(&word);
        line.push(' ');
    }
    let _ = writeln!(help, "{}", line.trim_end());
}
