//! What follows from where we listen: who may ask there, what is said about it, what is needed after the start.

use super::house::House;
use super::{Options, Sharing};
use crate::config::{Server, Target};
use crate::downstream::door::{Door, Shown};
use crate::log;
use crate::protocol::http::Rules;
use crate::restrict::Needs;
use crate::upstream::http::Verify;
use std::path::{Path, PathBuf};

/// Who may ask, and under which paths.
pub fn rules(options: &Options, doors: &[Door]) -> Rules {
    let mut expose_headers = options.expose_headers.clone();
    if options.tokens.is_some() {
        expose_headers.push("WWW-Authenticate".to_owned()); // a page must read how to come in
    }
    let mut addresses = doors.iter().filter_map(Door::address).peekable();
    Rules {
        // A page reaches no Unix socket; where there is nothing else, whatever stands before it checks the host.
        loopback: addresses.peek().is_some() && addresses.all(|address| address.ip().is_loopback()),
        allow_hosts: options.allow_hosts.clone(),
        allow_origins: options.allow_origins.clone(),
        expose_headers,
        base_path: options.base_path.clone(),
        trusted_proxies: options.trusted_proxies.clone(),
        stateless: options.sharing == Sharing::Stateless,
        auth_servers: options.auth_servers.clone(),
        public_url: options.public_url.clone(),
    }
}

/// Says so where anybody may ask.
pub fn warn_of_strangers(options: &Options, doors: &[Door]) {
    let mut addresses = doors.iter().filter_map(Door::address);
    if options.tokens.is_none()
        && let Some(address) = addresses.find(|address| !address.ip().is_loopback())
    {
        log::warning(format_args!(
            "whoever reaches {address} may use the servers: give --auth-token-file FILE, or let something in front ask \
             who it is"
        ));
    }
}

/// What is needed after the start.
pub fn needs(options: &Options, doors: &[Door]) -> Needs {
    let folder = |file: &Path| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let is_local = |server: &Server| matches!(server.target, Target::Command(_));
    let mut files: Vec<&Path> = options.token_file.iter().map(|file| file.path.as_path()).collect();
    for server in &options.servers {
        let Target::Remote(remote) = &server.target else { continue };
        if let Verify::File(file) = &remote.verify {
            files.push(file);
        }
        files.extend(remote.certificate.iter().flat_map(|proof| [proof.chain.as_path(), &proof.key]));
    }
    Needs {
        servers: options.config.is_some() || options.servers.iter().any(is_local),
        read: files.into_iter().map(folder).collect(),
        remove: doors.iter().filter_map(|door| door.file().map(folder)).collect(),
    }
}

/// Says where the servers are.
pub fn announce(house: &House, door: &Shown) {
    let base = &house.options.base_path;
    for offer in &house.state().offers {
        let path = offer.server.name.as_ref().map_or_else(String::new, |name| format!("/servers/{name}"));
        log::info(format_args!("listening on {}", door.endpoints(&format!("{base}{path}"))));
    }
}
