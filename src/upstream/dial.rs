//! How connections are opened: names are resolved here, not by ureq, and only where no connection is open.
//!
//! Works with ureq 3.5's `unversioned` parts, which may change with any release: `Cargo.lock` holds it.

use super::socket::Socket;
use super::waits::{LONG, Waits, stopped};
use crate::protocol::proxy;
use crate::system::{self, memory};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, Either, NextTimeout, RustlsConnector, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

/// A connection is looked at after so long a silence.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Addresses of one host that are tried.
const ADDRESSES: usize = 8;

/// Opens connections: resolves the name and connects, both in a thread of its own, since nothing can end them.
#[derive(Debug)]
pub struct Dialer {
    waits: Arc<Waits>,
    /// A proxy that gets whole addresses in its requests, instead of the host itself.
    forward: Option<Uri>,
}

impl Dialer {
    /// Connections whose waits are `waits`; to the `forward` proxy, if there is one.
    #[must_use]
    pub fn new(waits: Arc<Waits>, forward: Option<Uri>) -> Self {
        Self { waits, forward }
    }

    fn dial(&self, uri: &Uri, timeout: NextTimeout) -> Result<TcpStream, Error> {
        let allowed = self.waits.allowed(timeout);
        let (sender, dialed) = mpsc::channel();
        let (host, port) = destination(uri)?;
        let number = self.waits.begin(sender.clone())?;
        let until = allowed.and_then(|allowed| Instant::now().checked_add(allowed));
        let dialing = move || drop(sender.send(connect(&host, port, until)));
        let _never_joined = memory::begin(thread::Builder::new().name("dial".into()), memory::STACK_BYTES, dialing)
            .map_err(Error::Io)?;
        let found = self.waits.patiently(allowed, |limit| match limit {
            None => dialed.recv().map(Some).map_err(|_| stopped()),
            Some(limit) => match dialed.recv_timeout(limit) {
                Ok(found) => Ok(Some(found)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(stopped()),
            },
        });
        self.waits.end(number);
        Ok(found?.ok_or(Error::Timeout(Timeout::Connect))??)
    }
}

impl<In: Transport> Connector<In> for Dialer {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let stream = self.dial(self.forward.as_ref().unwrap_or(details.uri), details.timeout)?;
        stream.set_nodelay(true)?;
        // A write that waits comes back after this time, to look at its deadline.
        stream.set_write_timeout(Some(LONG))?;
        if self.waits.tells() {
            stream.set_read_timeout(Some(LONG))?;
        }
        // A stream may be silent for hours; only the kernel can tell whether its other end is still there.
        system::set_keepalive(stream.as_fd(), KEEP_ALIVE)?;
        let stream = Arc::new(stream);
        let handle: Weak<dyn ShutdownHandle> = Arc::<TcpStream>::downgrade(&stream);
        (details.register_shutdown)(handle)?;
        let front = self.forward.as_ref().and(details.uri.authority()).map(|authority| format!("http://{authority}"));
        Ok(Some(Either::B(Socket::new(stream, self.waits.clone(), front))))
    }
}

/// Host and port that `uri` names.
fn destination(uri: &Uri) -> Result<(String, u16), Error> {
    let host = uri.host().ok_or(Error::HostNotFound)?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(default)))
}

/// Connects to the first address of the host that answers.
fn connect(host: &str, port: u16, until: Option<Instant>) -> io::Result<TcpStream> {
    let addresses = addresses(host, port)?;
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name is not known");
    for (at, address) in addresses.iter().enumerate() {
        let tried = match until {
            None => TcpStream::connect(address),
            Some(until) => {
                // One address that swallows packets must not take all the time of the others.
                let share = u32::try_from(addresses.len() - at).unwrap_or(1).min(2);
                let left = until.saturating_duration_since(Instant::now()) / share;
                TcpStream::connect_timeout(address, left.max(Duration::from_millis(1)))
            }
        };
        match tried {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The addresses of a host. `localhost` needs no lookup, which musl could not do without `/etc/hosts`.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    if proxy::is_loopback(host) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let unknown = |error| io::Error::new(ErrorKind::NotFound, error);
    Ok((host, port).to_socket_addrs().map_err(|e| unknown(e.to_string()))?.take(ADDRESSES).collect())
}

/// Leaves resolving to the [`Dialer`]: ureq would resolve before every request, also where a connection is open.
#[derive(Debug)]
pub struct Unresolved;

impl Resolver for Unresolved {
    fn resolve(&self, _: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// One TLS set-up for several agents, so that it is made once and sessions are resumed.
#[derive(Debug, Clone, Default)]
pub struct SharedTls(Arc<RustlsConnector>);

impl<In: Transport> Connector<In> for SharedTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained)
    }
}
