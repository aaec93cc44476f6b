//! Whoever makes a mistake with an address reads what to do, and no secret.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use support::remote::{ACCEPTED, Remote, behave};
use support::{Process, SOON, free_address, proxy};

fn connect(url: &str, options: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut process = Process::start(proxy().args(options).arg(url).envs(environment.iter().copied()));
    process.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n");
    process
}

#[test]
fn a_url_with_a_mistake_is_not_found() {
    let mut process = Process::start(proxy().arg("htp://me:geheim@host/sse?geheim"));
    assert_eq!(process.finish(SOON).code(), Some(127));
    let expected = "cannot start 'htp://host/sse': No such file or directory; a URL begins with http:// or https://";
    assert_eq!(process.stderr(), format!("mcp-proxy: {expected}\n"));
}

#[test]
fn headers_that_a_redirect_leaves_behind_are_told() {
    let other = Remote::mcp();
    let to = other.url("/sse?geheim");
    let answer = format!("HTTP/1.1 307 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let remote = Remote::start(move |_, connection| connection.write(&answer));
    let warning = format!(
        "mcp-proxy: warning: '{}' redirects to another origin ('{}'), which does not get your token and headers; \
         give its own address if it should\n",
        remote.url("/sse"),
        other.url("/sse")
    );
    for (options, is_told) in [(&["-H", "X-Key: geheim"][..], true), (&[], false)] {
        let process = connect(&remote.url("/sse"), options, &[]);
        assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains("result"));
        assert_eq!(process.stderr().contains(&warning), is_told, "{}", process.stderr());
        assert!(!process.stderr().contains("geheim"));
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let closed = free_address();
    for (variable, url) in [("http_proxy", "http://h.invalid/sse"), ("https_proxy", "https://h.invalid/sse")] {
        let process = connect(url, &[], &[(variable, &format!("http://me:geheim@{closed}"))]);
        let expected = format!(
            "cannot reach '{url}' through the proxy 'http://{closed}': connection refused; is the proxy running?"
        );
        let line = String::from_utf8_lossy(&process.lines(1)[0]).into_owned();
        assert!(line.contains(&expected), "{line}");
    }
}

#[test]
fn a_session_that_is_not_begun_again_is_explained() {
    let begun = AtomicBool::new(false);
    let remote = Remote::start(move |request, connection| {
        if request.text().contains("initialize") && begun.swap(true, Ordering::SeqCst) {
            connection.write(ACCEPTED); // and its answer never comes
        } else {
            behave(request, connection);
        }
    });
    let mut process = connect(&remote.url("/sse"), &["--timeout", "3"], &[]);
    assert!(String::from_utf8_lossy(&process.lines(1)[0]).contains("result"));
    remote.break_streams();
    process.wait_for_stderr("the connection is lost");
    process.write(b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\"}\n");
    let expected = format!("not answered: '{}' did not begin the session again within 3 s", remote.url("/sse"));
    let line = String::from_utf8_lossy(&process.lines(2)[1]).into_owned();
    assert!(line.contains(&expected), "{line}");
}
