//! Where we listen: sockets that we open, TCP or Unix, and those that are handed to us.
//!
//! Always: the file of a Unix socket has its mode and owner before anybody can open it; a file that is no socket, or on
//! which somebody listens, is left alone; ours is removed at the end, and nobody else's.

use super::socket::Socket;
use crate::error::Error;
use crate::log;
use crate::system::{self, Inherited};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// A place to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host, or its address, and a port; 0 takes any free one. `localhost` means both loopback families.
    Tcp(String, u16),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

/// Who may open the files of our Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Its permissions.
    pub mode: u32,
    /// Whose it is; ours where nothing is said.
    pub user: Option<u32>,
    /// Its group; ours where nothing is said.
    pub group: Option<u32>,
}

/// A socket that we listen on.
#[derive(Debug)]
pub enum Door {
    /// Over a network, or loopback.
    Tcp(TcpListener),
    /// Through a file: ours, or one that came with the socket.
    Unix(UnixListener, Option<SocketFile>),
}

/// A file that goes with us.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number, by which we know it again.
    identity: (u64, u64),
}

/// How a door is shown.
pub enum Shown {
    /// The beginning of the addresses behind it.
    Url(String),
    /// The path of its file.
    File(String),
}

impl Door {
    /// Accepts one connection.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => socket.accept().map(|(socket, _)| Socket::Tcp(socket)),
            Self::Unix(socket, _) => socket.accept().map(|(socket, _)| Socket::Unix(socket)),
        }
    }

    /// Accepting does not wait from now on.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket, _) => socket.set_nonblocking(true),
        }
    }

    /// Its address, where it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The file of ours that it has.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Unix(_, Some(file)) => Some(&file.path),
            _ => None,
        }
    }

    /// How it is shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        match self {
            Self::Tcp(socket) => {
                Shown::Url(socket.local_addr().map_or_else(|_| String::new(), |address| format!("http://{address}")))
            }
            Self::Unix(socket, _) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                Shown::File(path.map_or_else(String::new, |path| log::shortened(path.as_os_str().as_bytes())))
            }
        }
    }
}

impl Shown {
    /// The endpoints behind it that stand below a path.
    #[must_use]
    pub fn endpoints(&self, below: &str) -> String {
        match self {
            Self::Url(url) => format!("{url}{below}/sse and {url}{below}/mcp"),
            Self::File(path) => format!("unix:{path} ({below}/sse and {below}/mcp)"),
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket, _) => socket.as_fd(),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.path); // nobody is left to tell
        }
    }
}

/// Opens the sockets to listen on, and takes over as many as are handed to us.
///
/// # Errors
/// An address is not one, not ours, or taken; what is handed to us is no socket to listen on.
pub fn open(addresses: &[Address], rights: Rights, inherited: usize) -> Result<Vec<Door>, Error> {
    let mut doors = Vec::new();
    for socket in system::inherited_sockets(inherited).map_err(Error::Failed)? {
        doors.push(match socket {
            Inherited::Tcp(socket) => Door::Tcp(socket),
            Inherited::Unix(socket) => Door::Unix(socket, None),
        });
    }
    for address in addresses {
        match address {
            Address::Tcp(host, port) => {
                let explain = |error: io::Error| {
                    Error::Failed(format!("cannot listen on '{host}' port {port}: {}", log::cause(&error)))
                };
                doors.extend(open_tcp(host, *port).map_err(explain)?.into_iter().map(Door::Tcp));
            }
            Address::Unix(path) => {
                let shown = log::shortened(path.as_os_str().as_bytes());
                let explain = |why: String| Error::Failed(format!("cannot listen on 'unix:{shown}': {why}"));
                doors.push(open_unix(path, rights).map_err(explain)?);
            }
        }
    }
    Ok(doors)
}

fn open_tcp(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    if host.eq_ignore_ascii_case("localhost") {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = first.local_addr()?.port();
        // A machine without IPv6 has only the first.
        return Ok([first].into_iter().chain(TcpListener::bind((Ipv6Addr::LOCALHOST, port))).collect());
    }
    let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<SocketAddr> = (name, port).to_socket_addrs()?.collect();
    TcpListener::bind(&addresses[..]).map(|socket| vec![socket])
}

fn open_unix(path: &Path, rights: Rights) -> Result<Door, String> {
    let cause = |error: io::Error| log::cause(&error);
    let found = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            bind(path)
        }
        found => found,
    };
    let socket = found.map_err(cause)?;
    let identity = fs::symlink_metadata(path).map(|found| identity(&found)).map_err(cause)?;
    let file = SocketFile { path: path.into(), identity }; // what fails from here on takes the file with it
    if rights.user.is_some() || rights.group.is_some() {
        let explain = |error: io::Error| format!("it cannot be given to the owner of --socket-owner: {}", cause(error));
        lchown(path, rights.user, rights.group).map_err(explain)?;
    }
    fs::set_permissions(path, Permissions::from_mode(rights.mode)).map_err(cause)?;
    Ok(Door::Unix(socket, Some(file)))
}

/// Nobody may open it yet.
fn bind(path: &Path) -> io::Result<UnixListener> {
    system::without_permissions(|| UnixListener::bind(path))
}

/// Removes the socket that another one of us left behind when it was killed.
fn remove_stale(path: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| log::cause(&error))?;
    if !found.file_type().is_socket() {
        return Err("a file is there that is no socket".into());
    }
    // A datagram finds out without a wait, where to connect to one that is busy might take for ever: a socket that
    // lives refuses it for its kind.
    match UnixDatagram::unbound().and_then(|probe| probe.connect(path)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("the old socket cannot be removed: {}", log::cause(&error)))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err("a socket is there that we may not look at".into())
        }
        _ => Err("somebody listens there already".into()),
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
