//! The TCP connection under ureq: opened here, so that every wait of a link obeys one deadline, can be ended from
//! another thread and tells when it takes long; and so that head and body of a small request leave in one write.
//!
//! Works with ureq 3.5's `unversioned::transport`, which may change with any release: `Cargo.lock` holds it.

use crate::protocol::proxy;
use crate::system::{self, Poll};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, RustlsConnector, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

/// A wait longer than this is told to whoever wants to know.
pub const LONG: Duration = Duration::from_millis(200);
/// Bytes that are read, and written, at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What is held back for the next write leaves room for the largest head that we send.
const HELD_BYTES: usize = 16 * 1024;
/// A connection is looked at after so long a silence.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Addresses of one host that are tried.
const ADDRESSES: usize = 8;

/// What all waits of one link have in common.
pub struct Waits {
    state: Mutex<State>,
    on_long: Option<OnLong>,
}

/// What is called when a wait takes long.
pub type OnLong = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    deadline: Option<Instant>,
    stopped: bool,
    dials: u64,
    dialing: Vec<(u64, mpsc::Sender<Dialed>)>,
}

type Dialed = io::Result<TcpStream>;

impl Waits {
    /// Waits that end at `deadline`, if there is one; `on_long` is called when one takes long.
    #[must_use]
    pub fn new(deadline: Option<Instant>, on_long: Option<OnLong>) -> Self {
        Self { state: Mutex::new(State { deadline, ..State::default() }), on_long }
    }

    /// From now on a wait may take for ever.
    pub fn lift_deadline(&self) {
        self.state().deadline = None;
    }

    /// Ends the waits for a connection that are under way, and refuses later ones. Those for bytes are ended by
    /// [`ureq::Agent::shutdown`].
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for (_, dialing) in state.dialing.drain(..) {
            let _ = dialing.send(Err(stopped()));
        }
    }

    /// A wait for a connection begins, which `dialing` can end.
    fn begin(&self, dialing: mpsc::Sender<Dialed>) -> io::Result<u64> {
        let mut state = self.state();
        if state.stopped {
            return Err(stopped());
        }
        state.dials += 1;
        let number = state.dials;
        state.dialing.push((number, dialing));
        Ok(number)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a wait may take that ureq wants to end after `timeout`.
    fn allowed(&self, timeout: NextTimeout) -> Option<Duration> {
        let own = self.state().deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let asked = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        own.into_iter().chain(asked).min()
    }

    /// Calls `wait` with how long it may take until it is done; first shortly, then for the rest.
    fn patiently<T>(
        &self,
        allowed: Option<Duration>,
        mut wait: impl FnMut(Option<Duration>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        match &self.on_long {
            Some(on_long) if allowed.is_none_or(|all| all > LONG) => {
                if let Some(done) = wait(Some(LONG))? {
                    return Ok(Some(done));
                }
                on_long();
                wait(allowed.map(|all| all.saturating_sub(LONG)))
            }
            _ => wait(allowed),
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

fn stopped() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "stopped")
}

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
        let until = allowed.map(|allowed| Instant::now() + allowed);
        let dialing = move || drop(sender.send(connect(&host, port, until)));
        let _never_joined = thread::Builder::new().name("dial".into()).spawn(dialing).map_err(Error::Io)?;
        let found = self.waits.patiently(allowed, |limit| match limit {
            None => dialed.recv().map(Some).map_err(|_| stopped()),
            Some(limit) => match dialed.recv_timeout(limit) {
                Ok(found) => Ok(Some(found)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(stopped()),
            },
        });
        self.waits.state().dialing.retain(|(n, _)| *n != number);
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
        if self.waits.on_long.is_some() {
            stream.set_read_timeout(Some(LONG))?;
        }
        // A stream may be silent for hours; only the kernel can tell whether its other end is still there.
        system::set_keepalive(stream.as_fd(), KEEP_ALIVE)?;
        let stream = Arc::new(stream);
        let handle: Weak<dyn ShutdownHandle> = Arc::<TcpStream>::downgrade(&stream);
        (details.register_shutdown)(handle)?;
        let front = self.forward.as_ref().and(details.uri.authority()).map(|authority| format!("http://{authority}"));
        Ok(Some(Either::B(Socket { stream, waits: self.waits.clone(), buffers: Held::new(), front, just_read: false })))
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

/// One connection.
pub struct Socket {
    stream: Arc<TcpStream>,
    waits: Arc<Waits>,
    buffers: Held,
    /// What a proxy wants before the path of every request: scheme and host.
    front: Option<String>,
    just_read: bool,
}

impl Socket {
    /// Reads what is there, or what comes within the time. The first wait is the read's own (`SO_RCVTIMEO`, where
    /// there is something to tell after it), which saves a system call a message.
    fn read(&mut self, timeout: NextTimeout) -> Result<usize, Error> {
        let allowed = self.waits.allowed(timeout);
        let Self { stream, buffers, waits, .. } = self;
        let reads_at_once = match &waits.on_long {
            None => allowed.is_none(),
            Some(_) => allowed.is_none_or(|all| all > LONG),
        };
        let mut first = reads_at_once;
        let mut read = |limit| {
            if !std::mem::take(&mut first) && system::poll(&mut [Poll::readable(stream.as_fd())], limit)? == 0 {
                return Ok(None);
            }
            loop {
                match (&**stream).read(buffers.lazy.input_append_buf()) {
                    Ok(read) => return Ok(Some(read)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        waits.patiently(allowed, &mut read)?.ok_or(Error::Timeout(timeout.reason))
    }

    fn write(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let allowed = self.waits.allowed(timeout);
        let (unsent, begun) = (std::mem::take(&mut self.buffers.unsent), Instant::now());
        let (mut bytes, mut told) = (&self.buffers.lazy.output()[..unsent], false);
        while !bytes.is_empty() {
            match (&*self.stream).write(bytes) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if allowed.is_some_and(|allowed| begun.elapsed() >= allowed) {
                        return Err(Error::Timeout(timeout.reason));
                    }
                    if !std::mem::replace(&mut told, true) {
                        self.waits.on_long.iter().for_each(|on_long| on_long());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Keeps what is small: either more follows, or the wait for an answer sends it.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let amount = match &self.front {
            Some(front) if self.buffers.begins_request => self.buffers.insert(front, amount),
            _ => amount,
        };
        self.buffers.begins_request = false;
        self.buffers.unsent += amount;
        if self.buffers.unsent > HELD_BYTES { self.write(timeout) } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.write(timeout)?;
        let read = self.read(timeout)?;
        self.buffers.lazy.input_appended(read);
        (self.buffers.begins_request, self.just_read) = (true, true);
        Ok(read > 0)
    }

    /// Nothing may come between two requests: bytes are nobody's answer, the end is the end. ureq asks after every
    /// answer and before every request; the second time is enough.
    fn is_open(&mut self) -> bool {
        std::mem::take(&mut self.just_read)
            || matches!(system::poll(&mut [Poll::readable(self.stream.as_fd())], Some(Duration::ZERO)), Ok(0))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

/// ureq's buffers, with an output that can begin with what is still to be sent.
struct Held {
    lazy: LazyBuffers,
    unsent: usize,
    begins_request: bool,
}

impl Held {
    fn new() -> Self {
        Self { lazy: LazyBuffers::new(CHUNK_BYTES, CHUNK_BYTES), unsent: 0, begins_request: true }
    }

    /// Puts `front` before the target of the request whose head, `amount` bytes long, is to be sent; says how
    /// long it is then.
    fn insert(&mut self, front: &str, amount: usize) -> usize {
        let output = &mut self.lazy.output()[self.unsent..];
        let Some(target) = output[..amount].iter().position(|byte| *byte == b' ').map(|space| space + 1) else {
            return amount;
        };
        if amount + front.len() > output.len() {
            return amount; // the proxy refuses what it cannot understand
        }
        output.copy_within(target..amount, target + front.len());
        output[target..target + front.len()].copy_from_slice(front.as_bytes());
        amount + front.len()
    }
}

impl Buffers for Held {
    fn output(&mut self) -> &mut [u8] {
        &mut self.lazy.output()[self.unsent..]
    }

    fn input(&self) -> &[u8] {
        self.lazy.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.lazy.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.lazy.input_appended(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.lazy.input_consume(amount);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        let (tmp, output) = self.lazy.tmp_and_output();
        (tmp, &mut output[self.unsent..])
    }

    fn can_use_input(&self) -> bool {
        self.lazy.can_use_input()
    }
}
