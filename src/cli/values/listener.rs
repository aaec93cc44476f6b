//! The values of options that say where we listen, who may ask there, and what we keep.

use super::{quoted, text};
use crate::cli::draft::Draft;
use crate::config;
use crate::downstream::door::Address;
use crate::log;
use crate::protocol::network::Network;
use crate::protocol::uri::Origin;
use crate::restrict::Wish;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The path before ours, without the slash at its end.
pub(in crate::cli) fn base_path(word: &OsStr) -> Result<String, String> {
    let path = text(word)?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
    let kept = path.strip_suffix('/').unwrap_or(path);
    let is_odd = |segment: &str| matches!(segment, "" | "." | "..");
    match kept.strip_prefix('/') {
        _ if kept.is_empty() => Ok(String::new()),
        None => Err(format!("{} does not begin with a slash", quoted(path))),
        Some(inside) if !path.bytes().all(is_plain) || inside.split('/').any(is_odd) => {
            Err(format!("{} is not a path such as '/mcp-servers'", quoted(path)))
        }
        Some(_) => Ok(kept.to_owned()),
    }
}

pub(in crate::cli) fn network(word: &OsStr) -> Result<Network, String> {
    let network = text(word)?;
    let wrong = |()| format!("{} is not an IP address, a network such as '10.0.0.0/8', or 'unix'", quoted(network));
    network.parse().map_err(wrong)
}

/// Whether the word behind `--allow-origin` belongs to it. A URL with a path is none: it is the server's.
pub(in crate::cli) fn is_origin(word: &OsStr) -> bool {
    let Some(word) = word.to_str() else { return false };
    let Some((scheme, rest)) = word.split_once("://") else { return matches!(word, "*" | "null") };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    !scheme.is_empty() && !authority.is_empty() && !authority.contains(['/', '?', '#', ' '])
}

pub(in crate::cli) fn add_origin(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let origin = text(word)?;
    if !is_origin(word) {
        return Err(format!("{} is not an origin such as 'https://app.example' or '*'", quoted(origin)));
    }
    // Browsers send origins without the slash that people copy from the address line.
    draft.allow_origins.push(origin.strip_suffix('/').unwrap_or(origin).to_owned());
    Ok(())
}

pub(in crate::cli) fn port(word: &OsStr) -> Result<u16, String> {
    let number = text(word)?;
    number.trim().parse().map_err(|_| format!("{} is not a port from 0 to 65535", quoted(number)))
}

pub(in crate::cli) fn host(word: &OsStr) -> Result<String, String> {
    let host = text(word)?;
    // No address would mean every network, and that is never meant.
    if host.is_empty() { Err("the address is empty".to_owned()) } else { Ok(host.to_owned()) }
}

/// A place to listen on: `unix:PATH` or `HOST:PORT`.
pub(in crate::cli) fn listen(word: &OsStr) -> Result<Address, String> {
    if let Some(path) = word.as_bytes().strip_prefix(b"unix:") {
        return match path {
            b"" => Err("the path of the socket is empty".to_owned()),
            [b'@', ..] => {
                Err("an abstract socket has no permissions; give a path, as in 'unix:/run/mcp.sock'".to_owned())
            }
            path => Ok(Address::Unix(PathBuf::from(OsStr::from_bytes(path)))),
        };
    }
    let address = text(word)?;
    let wrong = || format!("{} is neither 'unix:PATH' nor 'HOST:PORT'", quoted(address));
    let (host, number) = address.rsplit_once(':').ok_or_else(wrong)?;
    let has_brackets = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(['/', ' ']) || host.contains(':') && !has_brackets {
        return Err(wrong());
    }
    Ok(Address::Tcp(host.to_owned(), port(OsStr::new(number))?))
}

/// Permissions of a file, in octal.
pub(in crate::cli) fn socket_mode(word: &OsStr) -> Result<u32, String> {
    let mode = text(word)?;
    let is_octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    u32::from_str_radix(mode, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= 0o777)
        .ok_or_else(|| format!("{} is no octal number such as 0660", quoted(mode)))
}

/// Whose a file is. The names are looked up when all is read.
pub(in crate::cli) fn owner(word: &OsStr) -> Result<String, String> {
    let owner = text(word)?;
    if owner.is_empty() { Err("the name of the user is empty".to_owned()) } else { Ok(owner.to_owned()) }
}

pub(in crate::cli) fn add_auth_server(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let url = text(word)?;
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"\\@".contains(&byte));
    if !config::is_url(word) || !is_plain || Origin::of(url).is_none() {
        return Err(format!("{} is no URL such as 'https://login.example'", quoted(&log::address(url))));
    }
    draft.auth_servers.push(url.to_owned());
    Ok(())
}

/// Scheme and host, without the slash at the end. The path is that of `--base-path`.
pub(in crate::cli) fn public_url(word: &OsStr) -> Result<String, String> {
    let url = text(word)?;
    let kept = url.strip_suffix('/').unwrap_or(url);
    let host = kept.split_once("://").map_or("", |(_, host)| host);
    let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte));
    if !config::is_url(word) || !is_plain || Origin::of(kept).is_none() {
        let shown = quoted(&log::address(url));
        return Err(format!(
            "{shown} is not a scheme and a host, as in 'https://host.example'; the path is --base-path's"
        ));
    }
    Ok(kept.to_owned())
}

/// A name that `Host` may have, with a port or for all ports.
pub(in crate::cli) fn add_host(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let host = text(word)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(format!("{} is not the name of a host, such as 'mcp.example'", quoted(host)));
    }
    draft.allow_hosts.push(host.to_owned());
    Ok(())
}

/// Whether the word behind `--restrict` belongs to it.
pub(in crate::cli) fn wants_restrict(word: &OsStr) -> bool {
    !word.is_empty() && restriction(word).is_some()
}

pub(in crate::cli) fn set_restrict(draft: &mut Draft, word: &OsStr) -> Result<(), String> {
    let wish = restriction(word)
        .ok_or_else(|| format!("{} is neither 'possible' nor 'all'", quoted(&word.to_string_lossy())))?;
    draft.restrict = wish;
    Ok(())
}

fn restriction(word: &OsStr) -> Option<Wish> {
    match word.to_str()? {
        "" | "possible" => Some(Wish::Possible),
        "all" => Some(Wish::All),
        _ => None,
    }
}
