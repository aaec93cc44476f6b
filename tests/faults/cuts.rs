//! A connection is cut at every byte: of a request and of its answer, for each transport, towards clients and towards
//! a remote server. After each cut the call was done at most once, not at all if it did not arrive whole, its client
//! knows what became of it, and the next one is served.

use super::calls::{Act, Call, Client, INITIALIZE, INITIALIZED, META, MODERN, REVISION};
use super::connect::Connect;
use super::cutter::{self, Cutter, Way};
use super::ledger::Ledger;
use super::run::{effects, ends, judge, server};
use super::wire::{Wire, events};
use crate::support::http::Http;
use crate::support::served::Served;
use crate::support::{SOON, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What a call is cut within.
const PAYLOAD: usize = 20;

/// One transport: what its request is besides the body, and how a client of it begins.
struct Transport {
    name: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    meta: &'static str,
    /// The stream on which the answers come, where they do not come over the request's connection.
    stream: Option<TcpStream>,
}

fn legacy(address: &str) -> Transport {
    let mut http = Http::connect(address);
    http.begin(REVISION);
    let headers = vec![
        ("Accept", "application/json, text/event-stream".to_owned()),
        ("Content-Type", "application/json".to_owned()),
        ("Mcp-Session-Id", http.session.clone().expect("a session")),
    ];
    Transport { name: "/mcp", path: "/mcp".into(), headers, meta: "", stream: None }
}

fn modern() -> Transport {
    let headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("MCP-Protocol-Version", MODERN),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "call"),
    ];
    let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
    Transport { name: "/mcp, modern", path: "/mcp".into(), headers, meta: META, stream: None }
}

/// Reads until the text holds this.
fn read_until(stream: &mut TcpStream, part: &str) -> String {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(part) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended without {part:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// Reads so many bytes of an answer; all of it where it has fewer, because two events have come in one chunk.
fn read_some(socket: &mut TcpStream, count: usize) {
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut some = Vec::new();
    while some.len() < count && !some.ends_with(b"\r\n0\r\n\r\n") {
        let mut rest = vec![0; count - some.len()];
        let read = socket.read(&mut rest).unwrap();
        assert!(read > 0, "the answer ended: {}", String::from_utf8_lossy(&some));
        some.extend_from_slice(&rest[..read]);
    }
}

fn sse(address: &str) -> Transport {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(Wire::request(address, "GET", "/sse", &[], "").as_bytes()).unwrap();
    let text = read_until(&mut stream, "session_id=");
    let text = if text.ends_with("\n\r\n") { text } else { text + &read_until(&mut stream, "\n\r\n") };
    let path = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an endpoint").trim().to_owned();
    let headers = vec![("Content-Type", "application/json".to_owned())];
    let transport = Transport { name: "/sse", path, headers, meta: "", stream: Some(stream) };
    for message in [&INITIALIZE.replace("REVISION", "2024-11-05"), INITIALIZED] {
        let mut post = TcpStream::connect(address).unwrap();
        post.write_all(transport.request(address, message).as_bytes()).unwrap();
        let _ = read_until(&mut post, "202 ");
    }
    transport
}

impl Transport {
    fn request(&self, address: &str, body: &str) -> String {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Wire::request(address, "POST", &self.path, &headers, body)
    }
}

/// What one transport was cut at.
struct Cuts {
    in_request: usize,
    in_answer: usize,
}

fn call(ledger: &Ledger, act: Act) -> Call {
    Call { uid: ledger.number(), id: 7, act, size: PAYLOAD }
}

/// The whole answer to a call, which is an event stream.
fn whole_answer(address: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    read_until(&mut socket, "\r\n0\r\n\r\n")
}

/// Cuts every byte of a request, and of the answer where it comes over the same connection.
fn cut_one(served: &Served, transport: &mut Transport, ledger: &Ledger) -> Cuts {
    let address = served.address();
    let done = |call: &Call| effects(served.folder()).lines().filter(|line| *line == call.uid.to_string()).count();
    let length = transport.request(&address, &call(ledger, Act::Tell).message(transport.meta)).len();
    let mut never = Vec::new();
    for cut in 0..length {
        let call = call(ledger, Act::Tell);
        let request = transport.request(&address, &call.message(transport.meta));
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(&request.as_bytes()[..cut.min(request.len() - 1)]).unwrap();
        // Half of them end, the others vanish at once.
        let how = if cut % 2 == 0 { Shutdown::Write } else { Shutdown::Both };
        socket.shutdown(how).unwrap();
        let mut rest = String::new();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let _ = socket.read_to_string(&mut rest);
        if rest.contains("\"result\"") {
            ledger.wrong(format!("{}: cut at {cut} it was answered: {rest}", transport.name));
        }
        never.push(call);
    }
    let whole = call(ledger, Act::Tell);
    let in_answer = match &mut transport.stream {
        Some(_) => 0,
        None => whole_answer(&address, &transport.request(&address, &whole.message(transport.meta))).len(),
    };
    for cut in 0..in_answer {
        let call = call(ledger, Act::Tell);
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(transport.request(&address, &call.message(transport.meta)).as_bytes()).unwrap();
        read_some(&mut socket, cut);
        drop(socket);
        // A modern client that leaves has cancelled its call, which a server need not see that was not sent it yet.
        if cut > 0 || transport.meta.is_empty() {
            wait_until("the call is done", SOON, || done(&call) > 0);
        }
    }
    for call in never.iter().filter(|call| done(call) > 0) {
        ledger.wrong(format!("{}: call {} was done and never arrived whole", transport.name, call.uid));
    }
    Cuts { in_request: length, in_answer }
}

/// Cuts a client's stream of HTTP+SSE at every byte of what follows the handshake.
fn cut_streams(served: &Served, ledger: &Ledger) -> usize {
    let address = served.address();
    let once = |cut: Option<usize>| {
        let mut transport = sse(&address);
        let mut stream = transport.stream.take().expect("it has one");
        let call = call(ledger, Act::Tell);
        let mut post = TcpStream::connect(&address).unwrap();
        post.write_all(transport.request(&address, &call.message("")).as_bytes()).unwrap();
        let _ = read_until(&mut post, "202 ");
        let Some(cut) = cut else { return read_until(&mut stream, "\"content\"").len() };
        let mut some = vec![0; cut];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
        wait_until("the call is done", SOON, || effects(served.folder()).contains(&format!("{}\n", call.uid)));
        cut
    };
    // The first answer, that to `initialize`, may come with it: what there is for sure is cut.
    let length = once(None).min(200);
    for cut in 0..length {
        once(Some(cut));
    }
    length
}

/// Cuts a transport at every byte; what its session had before it still has.
fn cut_transport(served: &Served, mut transport: Transport, ledger: &Ledger) {
    let cuts = cut_one(served, &mut transport, ledger);
    println!("{}: {} cuts in a request, {} in an answer", transport.name, cuts.in_request, cuts.in_answer);
    let (address, call) = (served.address(), call(ledger, Act::Tell));
    let request = transport.request(&address, &call.message(transport.meta));
    let answer = match &mut transport.stream {
        Some(stream) => {
            let mut post = TcpStream::connect(&address).unwrap();
            post.write_all(request.as_bytes()).unwrap();
            let text = read_until(stream, "\"result\":{\"content\"");
            events(&text).into_iter().map(|(_, data)| data).collect()
        }
        None => whole_answer(&address, &request),
    };
    assert!(answer.contains("\"result\""), "{}: {answer}", transport.name);
}

/// Every cut between clients and serve mode.
pub fn here() {
    let served = Served::start(&["--session-idle", "30", "--shared"], &server());
    let address = served.address();
    let ledger = Ledger::default();
    thread::scope(|scope| {
        for transport in [legacy(&address), modern(), sse(&address)] {
            scope.spawn(|| cut_transport(&served, transport, &ledger));
        }
        scope.spawn(|| println!("/sse: {} cuts in a stream", cut_streams(&served, &ledger)));
    });
    let text = effects(served.folder());
    let mut done: Vec<_> = text.lines().collect();
    let all = done.len();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), all, "a call was done twice");
    let wrong = ledger.complaints();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!served.process.stderr().contains("panicked"), "{}", served.report());
}

/// How many processes of connect mode share the work: a cut stream is resumed after a while, in which they wait.
const AT_ONCE: u64 = 16;

/// Every cut between connect mode and a remote server, of a call that is answered by JSON or by an event stream.
pub fn there(path: &str, act: Act) {
    let served = Served::start(&["--session-idle", "1", "--shared"], &server());
    let ledger = Arc::new(Ledger::default());
    let start = Instant::now();
    let cuts: Vec<[u64; 4]> = thread::scope(|scope| {
        let work = |part| {
            let (address, ledger) = (served.address(), ledger.clone());
            scope.spawn(move || cut_part(&address, path, act, part, &ledger))
        };
        (0..AT_ONCE).map(work).collect::<Vec<_>>().into_iter().map(|part| part.join().unwrap()).collect()
    });
    let [up, down, cut_up, cut_down] = [0, 1, 2, 3].map(|place| cuts.iter().map(|part| part[place]).sum::<u64>());
    println!(
        "connect to {path}, {act:?}: cut at {cut_up} of {up} bytes up, {cut_down} of {down} down, {:?}",
        start.elapsed()
    );
    assert!(2 * (cut_up + cut_down) > up + down, "hardly anything was cut");
    ends(served, &ledger);
    judge(&ledger);
}

/// Cuts at those bytes that are this part's: how many there were, and at how many it was cut, up and down.
fn cut_part(address: &str, path: &str, act: Act, part: u64, ledger: &Arc<Ledger>) -> [u64; 4] {
    let cutter = Cutter::before(address);
    let mut client = Connect::start(&format!("http://{}{path}", cutter.address), &[], ledger);
    let acts = [(act, PAYLOAD)];
    let served = |client: &mut Connect| {
        let mut answers = || {
            let before = client.results();
            client.call(&acts);
            client.results() > before
        };
        wait_until("it is served", SOON, &mut answers);
    };
    let passed = || {
        thread::sleep(Duration::from_millis(50)); // the last bytes are counted
        [Way::Up, Way::Down].map(|way| cutter.passed(way))
    };
    (0..3).for_each(|_| served(&mut client));
    let before = passed();
    served(&mut client);
    let after = passed();
    let mut cuts = [0; 4];
    for (place, way) in [Way::Up, Way::Down].into_iter().enumerate() {
        for at in (0..after[place] - before[place]).filter(|at| at % AT_ONCE == part) {
            cutter.arm(way, at);
            client.call(&acts);
            cuts[place] += 1;
            if !cutter.disarm() {
                cuts[place + 2] += 1;
                ledger.fault("connection cut at every byte");
            }
        }
    }
    served(&mut client);
    Box::new(client).end();
    cutter::stop(&cutter);
    cuts
}
