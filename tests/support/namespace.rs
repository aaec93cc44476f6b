//! Commands in namespaces of their own. It works as root, and else where the kernel lets everybody have user
//! namespaces; where neither holds, a test that needs it fails with a line that says so.

use std::fs;
use std::process::{Command, Stdio};

/// The words in front of a command that give it namespaces of its own: `["--pid", "--fork"]`, `["--net"]`.
#[must_use]
pub fn unshare(kinds: &[&str]) -> Vec<String> {
    let with = |first: &[&str]| first.iter().chain(kinds).map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let ways = [with(&["unshare"]), with(&["unshare", "--user", "--map-root-user"])];
    let works = |way: &&Vec<String>| {
        let mut probe = Command::new(&way[0]);
        probe.args(&way[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(works);
    way.unwrap_or_else(|| panic!("this test needs root or user namespaces: 'unshare {}' fails", kinds.join(" ")))
        .clone()
}

/// The words in front of a command that change its root folder.
#[must_use]
pub fn chroot(folder: &str, kinds: &[&str]) -> Vec<String> {
    // A mount namespace is what `unshare` is asked for when there is nothing else: it costs and shows nothing.
    let mut words = unshare(if kinds.is_empty() { &["--mount"] } else { kinds });
    words.extend(["chroot".to_owned(), folder.to_owned()]);
    words
}

/// `command` behind `words`, with the same changes to its environment.
#[must_use]
pub fn behind(words: &[String], command: &Command) -> Command {
    let mut whole = Command::new(&words[0]);
    whole.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

const NETWORK: &str = "MCP_PROXY_TEST_NETWORK";

/// Runs the test called `name` once more in a network of its own, whose loopback is up, and says false; says true
/// inside. So a test begins with `if !in_own_network("its_name") { return; }`.
#[must_use]
pub fn in_own_network(name: &str) -> bool {
    let here = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    if let Ok(outside) = std::env::var(NETWORK) {
        assert_ne!(here, outside, "still in the network of the machine");
        set_loopback(true);
        return true;
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([name, "--exact", "--nocapture"]).env(NETWORK, here);
    let status = behind(&unshare(&["--net"]), &test).status().unwrap();
    assert!(status.success(), "{name} failed in its own network: {status}");
    false
}

/// Sets the loopback device of a network of our own up or down: down is a pulled plug.
pub fn set_loopback(up: bool) {
    assert!(std::env::var_os(NETWORK).is_some(), "never in the network of the machine");
    let state = if up { "up" } else { "down" };
    let python = "import fcntl,socket,struct,sys\n\
                  fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', int(sys.argv[1] == 'up')))";
    let script = "ip link set lo \"$0\" 2>/dev/null || python3 -c \"$1\" \"$0\"";
    let status = Command::new("sh").args(["-c", script, state, python]).status().unwrap();
    assert!(status.success(), "cannot set the loopback device {state}: neither 'ip' nor 'python3' does it");
}
