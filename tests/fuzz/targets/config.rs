//! The file of named servers: a fault is one line that shows no value, and nothing is taken that cannot be started.

use mcp_proxy::config::{Defaults, File, Target, check_name};
use mcp_proxy::protocol::era::Protocol;
use mcp_proxy::upstream::http::{Transport, Verify};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const SECRET: &str = "hunter2hunter2";

pub fn check(data: &[u8]) {
    // A name in the file may lead to another: a certificate. None of those that are read without an end.
    let text = String::from_utf8_lossy(data);
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let path: PathBuf = std::env::temp_dir().join(format!("mcp-proxy-fuzz-{}.json", std::process::id()));
    std::fs::write(&path, data).expect("a temporary file");
    let defaults = Defaults {
        pass_environment: false,
        transport: Transport::Auto,
        protocol: Protocol::Auto,
        verify: Verify::Public,
        message_limit_bytes: 7,
        timeout: Duration::from_secs(8),
    };
    let file = File { path: path.clone(), defaults, others: Vec::new() };
    let read = file.load(&environment);
    let _ = std::fs::remove_file(path);
    match read {
        Err(error) => {
            assert_eq!(error.status(), 2);
            one_line(&error.to_string());
        }
        Ok(reading) => {
            reading.remarks.iter().for_each(|remark| one_line(remark));
            for server in reading.servers {
                assert_eq!(check_name(server.name.as_deref().expect("it has a name")), Ok(()));
                match server.target {
                    Target::Command(command) => {
                        assert!(!command.program.is_empty());
                        let words =
                            command.args.iter().chain(command.env.iter().flat_map(|(name, value)| [name, value]));
                        assert!(words.chain([&command.program]).all(|word| !word.as_encoded_bytes().contains(&0)));
                    }
                    Target::Remote(remote) => {
                        assert!(remote.url.host().is_some_and(|host| !host.is_empty()), "{}", remote.url);
                        assert!(!remote.url.authority().is_some_and(|authority| authority.as_str().contains('@')));
                    }
                }
            }
        }
    }
}

fn environment(name: &str) -> Option<OsString> {
    match name {
        "A" => Some("one".into()),
        "TOKEN" => Some(SECRET.into()),
        "EMPTY" => Some(OsString::new()),
        _ => None,
    }
}

fn one_line(text: &str) {
    assert!(!text.contains(SECRET), "a secret is shown: {text}");
    assert!(!text.contains(|c: char| c.is_control()), "it is one line: {text:?}");
    assert!(text.len() < 20_000, "it is short: {text}");
}
