//! Clients that mean no good, many at once on one thread: each does its worst, and comes again when it is cut off.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often each of them does something.
const ROUND: Duration = Duration::from_secs(1);
/// In so many parts a round is done, so that they do not all come in the same moment.
const PARTS: usize = 50;
/// So many connections somebody else keeps.
const HELD: usize = 850;

/// What one of them does. `@` stands for the address.
struct Kind {
    name: &'static str,
    /// What it says first.
    opens: Vec<u8>,
    /// What it says every round from then on.
    drips: &'static [u8],
    /// It never reads.
    deaf: bool,
    /// It says that it will say no more, and stays.
    half: bool,
}

/// The attack, which ends with this.
pub struct Attack {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    connected: AtomicUsize,
    cut_off: AtomicUsize,
    open: AtomicUsize,
}

/// One of them.
struct Client {
    kind: usize,
    socket: Option<TcpStream>,
}

impl Attack {
    /// So many of them, of all kinds; returns when all have been connected once.
    pub fn start(address: &str, count: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let (address, shared) = (address.to_owned(), tally.clone());
        let thread = thread::spawn(move || attack(&address, count, &shared));
        let attack = Self { tally, thread: Some(thread) };
        crate::support::wait_until("all hostile clients", crate::support::SOON, || attack.connected() >= count);
        attack
    }

    /// Connections that they made so far.
    pub fn connected(&self) -> usize {
        self.tally.connected.load(Relaxed)
    }

    /// How often one of them was cut off so far.
    pub fn cut_off(&self) -> usize {
        self.tally.cut_off.load(Relaxed)
    }

    /// Connections that they hold.
    pub fn open(&self) -> usize {
        self.tally.open.load(Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.tally.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Somebody else who takes connections, answers nothing, and lets those go that have been there for longest: about as many
/// as we cut off.
pub struct Somebody {
    /// Where that is.
    pub address: String,
    over: Arc<AtomicBool>,
}

impl Somebody {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        thread::spawn(move || {
            let mut held = VecDeque::new();
            for socket in listener.incoming().flatten().take_while(|_| !is_over.load(Relaxed)) {
                held.push_back(socket);
                if held.len() > HELD {
                    held.pop_front();
                }
            }
        });
        Self { address, over }
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        drop(TcpStream::connect(&self.address)); // wakes whoever accepts
    }
}

/// The names of all kinds.
pub fn kinds() -> Vec<&'static str> {
    all("").into_iter().map(|kind| kind.name).collect()
}

fn all(address: &str) -> Vec<Kind> {
    let kind = |name, opens: &str, drips: &'static [u8]| Kind {
        name,
        opens: opens.replace('@', address).into_bytes(),
        drips,
        deaf: false,
        half: false,
    };
    let post = "POST /mcp HTTP/1.1\r\nHost: @\r\nContent-Type: application/json\r\nAccept: application/json\r\n";
    let slow = format!("{post}Content-Length: 100000\r\n\r\n{{");
    let get = "GET /status HTTP/1.1\r\nHost: @\r\n\r\n";
    let hello = "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}";
    vec![
        kind("slow head", "GET /status HTTP/1.1\r\nHost: @\r\nX: ", b"x"),
        kind("slow body", &slow, b" "),
        kind(
            "a request, then a slow body behind the same head",
            &format!("{post}Content-Length: 2\r\n\r\n{{}}{slow}"),
            b" ",
        ),
        kind("largest length", &format!("{post}Content-Length: 67108864\r\n\r\n"), b""),
        kind("giant length", &format!("{post}Content-Length: 99999999999\r\n\r\n{{"), b" "),
        kind("giant chunk", &format!("{post}Transfer-Encoding: chunked\r\n\r\n3ffffff\r\n{{"), b"  "),
        kind("giant chunk size", &format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{{"), b"  "),
        Kind { deaf: true, ..kind("event stream that nobody reads", "GET /sse HTTP/1.1\r\nHost: @\r\n\r\n", b"") },
        Kind { deaf: true, ..kind("answers that nobody reads", &get.repeat(20), b"") },
        Kind { half: true, ..kind("half a head and the end", "GET /status HTT", b"") },
        kind("TLS", hello, b"\x16"),
        kind("garbage", "\u{7f}\u{1}\u{2} no HTTP at all\r\n\r\n", b"\0\r\n"),
        kind("silence", "", b""),
        kind("one request, then silence", get, b""),
        kind("whole requests of one byte each", "G", b"E"),
    ]
}

fn attack(address: &str, count: usize, tally: &Tally) {
    let kinds = all(address);
    let mut clients: Vec<_> = (0..count).map(|number| Client { kind: number % kinds.len(), socket: None }).collect();
    let part = count.div_ceil(PARTS);
    let mut first = true;
    loop {
        for clients in clients.chunks_mut(part) {
            let begun = Instant::now();
            for client in clients {
                step(client, &kinds, address, tally);
            }
            if tally.stop.load(Relaxed) {
                return;
            }
            if !first {
                // All of them come at once, and in turns afterwards.
                thread::sleep((ROUND / u32::try_from(PARTS).unwrap()).saturating_sub(begun.elapsed()));
            }
        }
        first = false;
    }
}

fn step(client: &mut Client, kinds: &[Kind], address: &str, tally: &Tally) {
    let kind = &kinds[client.kind];
    let Some(socket) = &mut client.socket else {
        let Ok(mut socket) = TcpStream::connect(address) else { return };
        socket.set_nonblocking(true).unwrap();
        let _ = socket.write(&kind.opens);
        if kind.half {
            let _ = socket.shutdown(Shutdown::Write);
        }
        client.socket = Some(socket);
        tally.connected.fetch_add(1, Relaxed);
        tally.open.fetch_add(1, Relaxed);
        return;
    };
    let written = if kind.half { Ok(0) } else { socket.write(kind.drips) };
    let goes_on = |result: std::io::Result<usize>, least: usize| match result {
        Ok(count) => count >= least,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    let is_open = goes_on(written, 0) && (kind.deaf || goes_on(socket.read(&mut [0; 4096]), 1));
    if !is_open {
        client.socket = None;
        tally.cut_off.fetch_add(1, Relaxed);
        tally.open.fetch_sub(1, Relaxed);
    }
}
