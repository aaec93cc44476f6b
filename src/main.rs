//! Runs the program: the command line → a mode → an exit status. Why it failed is said here, once, in one line.

use mcp_proxy::cli::{self, Invocation};
use mcp_proxy::error::Error;
use mcp_proxy::system::memory::Allocator;
use mcp_proxy::{connect, demo, log, serve, system};
use std::io::Write;
use std::process::ExitCode;

/// Memory that runs out shall not end the program.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    system::stacks::overflow_ends_us();
    let status = run().unwrap_or_else(|error| {
        log::last(format_args!("{error}"));
        error.status()
    });
    ExitCode::from(status)
}

fn run() -> Result<u8, Error> {
    let parsed = cli::parse(std::env::args_os().skip(1), &|name| std::env::var_os(name))?;
    log::set_level(parsed.log_level);
    log::set_format(parsed.log_format);
    system::hide_arguments(&parsed.secrets);
    system::hide_variable("MCP_PROXY_AUTH_TOKEN");
    for remark in &parsed.remarks {
        log::warning(format_args!("{remark}"));
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        log::error(format_args!("a thread failed{place}; this is a defect of mcp-proxy"));
    }));
    match parsed.invocation {
        Invocation::Help => Ok(show(&cli::help())),
        Invocation::Version => Ok(show(concat!("mcp-proxy ", env!("CARGO_PKG_VERSION"), "\n"))),
        Invocation::Demo => demo::run(),
        Invocation::Serve(options) => serve::run(options),
        Invocation::Connect(options) => connect::run(options),
    }
}

/// Writes to stdout. A reader that went away, such as `head`, is no failure.
fn show(text: &str) -> u8 {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    0
}
