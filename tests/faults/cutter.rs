//! A small TCP proxy that counts bytes: it cuts connections after so many of them, or stops forwarding without
//! closing. It knows which connections it cut, so that a client can tell a cut from a loss.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// The proxy.
#[derive(Clone)]
pub struct Cutter {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    lines: Mutex<Vec<Arc<Line>>>,
    /// The clients' ports of connections that were cut.
    cut: Mutex<HashSet<u16>>,
    /// Cut whatever carries so many more bytes this way.
    armed: Mutex<Option<(Way, u64)>>,
    passed: [AtomicU64; 2],
    stopped: AtomicBool,
}

/// One connection through it.
struct Line {
    port: u16,
    client: TcpStream,
    server: TcpStream,
    held: AtomicBool,
    over: AtomicBool,
}

impl Line {
    fn close(&self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Cutter {
    /// Stands before `HOST:PORT`.
    pub fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            lines: Mutex::default(),
            cut: Mutex::default(),
            armed: Mutex::default(),
            passed: Default::default(),
            stopped: AtomicBool::new(false),
        });
        let all = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if all.stopped.load(Ordering::SeqCst) {
                    return;
                }
                all.join(client);
            }
        });
        Self { address, shared }
    }

    /// Cuts the next connection that has carried so many more bytes this way: they are forwarded, and no more.
    pub fn arm(&self, way: Way, bytes: u64) {
        *self.shared.armed.lock().unwrap() = Some((way, bytes));
    }

    /// Takes that back; says whether it had not happened yet.
    pub fn disarm(&self) -> bool {
        self.shared.armed.lock().unwrap().take().is_some()
    }

    /// How many bytes were forwarded this way so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.passed[way as usize].load(Ordering::SeqCst)
    }

    /// Whether the connection from this port was cut, or found nobody.
    pub fn has_cut(&self, port: u16) -> bool {
        self.shared.cut.lock().unwrap().contains(&port)
    }

    /// Cuts one of the connections.
    pub fn cut(&self, number: u64) -> bool {
        let Some(line) = self.shared.line(number) else { return false };
        self.shared.cut(&line);
        true
    }

    /// Stops forwarding on one of the connections, for so long, and then cuts it.
    pub fn hold(&self, number: u64, within: Duration) -> bool {
        let Some(line) = self.shared.line(number) else { return false };
        line.held.store(true, Ordering::SeqCst);
        thread::sleep(within);
        self.shared.cut(&line);
        true
    }

    /// Cuts all of them.
    pub fn cut_all(&self) {
        let lines = self.shared.lines.lock().unwrap().clone();
        for line in &lines {
            self.shared.cut(line);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.lines.lock().unwrap().iter().for_each(|line| line.close());
    }
}

impl Shared {
    fn line(&self, number: u64) -> Option<Arc<Line>> {
        let lines = self.lines.lock().unwrap();
        let place = usize::try_from(number).unwrap_or(0).checked_rem(lines.len())?;
        lines.get(place).cloned()
    }

    fn cut(&self, line: &Line) {
        self.cut.lock().unwrap().insert(line.port);
        line.close();
    }

    fn join(self: &Arc<Self>, client: TcpStream) {
        let Ok(port) = client.peer_addr().map(|address| address.port()) else { return };
        let Ok(server) = TcpStream::connect(&self.target) else {
            self.cut.lock().unwrap().insert(port);
            return;
        };
        self.cut.lock().unwrap().remove(&port);
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let line = Arc::new(Line { port, client, server, held: AtomicBool::new(false), over: AtomicBool::new(false) });
        self.lines.lock().unwrap().push(line.clone());
        for way in [Way::Up, Way::Down] {
            let (all, line) = (self.clone(), line.clone());
            thread::spawn(move || {
                all.pump(&line, way);
                all.lines
                    .lock()
                    .unwrap()
                    .retain(|other| !Arc::ptr_eq(other, &line) || !line.over.load(Ordering::SeqCst));
            });
        }
    }

    fn pump(&self, line: &Line, way: Way) {
        let (mut from, mut to) = match way {
            Way::Up => (&line.client, &line.server),
            Way::Down => (&line.server, &line.client),
        };
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while line.held.load(Ordering::SeqCst) && !line.over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            let (count, cuts) = self.allow(way, count);
            let written = to.write_all(&buffer[..count]);
            self.passed[way as usize].fetch_add(count as u64, Ordering::SeqCst);
            if cuts {
                return self.cut(line);
            }
            if written.is_err() && way == Way::Up {
                return; // what the server has said last still reaches the client
            }
            if written.is_err() {
                break;
            }
        }
        line.close(); // none of our transports closes one half alone
    }

    /// How many of so many bytes may pass, and whether that is the end.
    fn allow(&self, way: Way, count: usize) -> (usize, bool) {
        let mut armed = self.armed.lock().unwrap();
        match &mut *armed {
            Some((which, left)) if *which == way => {
                if *left < count as u64 {
                    let allowed = usize::try_from(*left).unwrap();
                    *armed = None;
                    return (allowed, true);
                }
                *left -= count as u64;
                (count, false)
            }
            _ => (count, false),
        }
    }
}

/// Ends it: whoever listens is woken.
pub fn stop(cutter: &Cutter) {
    cutter.shared.stopped.store(true, Ordering::SeqCst);
    drop(TcpStream::connect(&cutter.address));
    cutter.cut_all();
}
