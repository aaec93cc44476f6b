//! The proxy under test and raw connections to it, in the notation of `http.rs`.

#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::support::client::{Client, INITIALIZED, initialize, request};
use crate::support::{Process, SOON, program, proxy};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

/// The proxy in front of the demo server, and the client that must not notice anything.
pub struct House {
    proxy: Process,
    pub address: String,
    pub good: Client,
    beats: u32,
    /// The stream of the session that `ENDPOINT` stands for.
    pub other: Raw,
    endpoint: String,
    faults: Vec<String>,
}

impl House {
    pub fn start(options: &[&str]) -> Self {
        let proxy = Process::start(proxy().args(["--port", "0"]).args(options).arg("--").arg(program()).arg("--demo"));
        let address = proxy.address();
        let good = Client::open(&address);
        assert_eq!([good.post(&initialize(0)), good.post(INITIALIZED)], [202, 202]);
        let mut other = Raw::connect(&address, "");
        other.send("GET /sse HTTP/1.1\r\nHost: @\r\n\r\n");
        let endpoint = other.hears("data: /messages/?session_id=") + &other.hears("\n");
        let endpoint = endpoint.rsplit("data: ").next().unwrap().trim_end().to_owned();
        let mut house = Self { proxy, address, good, beats: 0, other, endpoint, faults: Vec::new() };
        let first = initialize(0);
        let mut raw = house.connect();
        raw.send(&format!("{}{first}", post(&format!("Content-Length: {}\r\n", first.len()))));
        assert_eq!(raw.answer(false), "202");
        house.other.hears("serverInfo");
        house.beat();
        house
    }

    pub fn pid(&self) -> u32 {
        self.proxy.id()
    }

    pub fn connect(&self) -> Raw {
        Raw::connect(&self.address, &self.endpoint)
    }

    pub fn bytes(&self, text: &str) -> Vec<u8> {
        bytes(text, &self.address, &self.endpoint)
    }

    /// The well-behaved client says something and hears it again.
    pub fn beat(&mut self) {
        self.beats += 1;
        let text = format!("beat-{}-", self.beats);
        let echo = format!(r#"{{"name":"echo","arguments":{{"text":"{text}"}}}}"#);
        assert_eq!(self.good.post(&request(self.beats, "tools/call", &echo)), 202, "{}", self.proxy.report());
        let _ = self.good.message(&text);
    }

    /// One rule: what is answered to `request`, all of it. The whole table is gone through before a fault is told.
    pub fn check(&mut self, request: &str, wanted: &[&str]) {
        let mut raw = self.connect();
        raw.send(request);
        let bodies = wanted.len() - request.matches("HEAD ").count();
        for (number, wanted) in (1..).zip(wanted) {
            let answer = raw.answer(number > bodies); // HEAD stands last
            if answer != *wanted {
                self.faults.push(format!("answer {number} to {request:?}\n   is {answer:?}\n  not {wanted:?}"));
                return;
            }
        }
        if !wanted.last().is_some_and(|last| last.contains(" close")) {
            raw.send("GET /status HTTP/1.1\r\nHost: @\r\nConnection: close\r\n\r\n");
            let answer = raw.answer(false);
            assert_eq!(answer, "200 close {status}", "after the answers to {request:?}");
        }
        assert_eq!(raw.rest(), "", "after the answers to {request:?}");
        self.beat();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let log = self.proxy.stderr();
        if !thread::panicking() {
            assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
            assert!(!log.contains("a thread failed"), "{log}");
            assert!(!log.contains("session_id"), "a session's id is a secret: {log}");
        }
    }
}

/// One connection, without any knowledge of what is sent on it.
pub struct Raw {
    pub socket: TcpStream,
    address: String,
    endpoint: String,
    received: Vec<u8>,
}

impl Raw {
    fn connect(address: &str, endpoint: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, address: address.into(), endpoint: endpoint.into(), received: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        let bytes = bytes(text, &self.address, &self.endpoint);
        self.send_bytes(&bytes);
    }

    /// A peer that has refused us already may not take everything.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Reads some more; says whether there was more.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true, // a read with a timeout is not begun again
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came within {SOON:?}"),
            Err(error) => panic!("the connection broke: {error}"),
        }
    }

    /// As [`hears`](Self::hears), where the connection may end or break before that.
    pub fn hears_if(&mut self, text: &str) -> Option<String> {
        let mut buffer = [0; 16 * 1024];
        while !String::from_utf8_lossy(&self.received).contains(text) {
            match self.socket.read(&mut buffer) {
                Ok(count @ 1..) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came within {SOON:?}"),
                Ok(_) | Err(_) => return None,
            }
        }
        Some(self.hears(text))
    }

    /// Reads up to and with `text`.
    pub fn hears(&mut self, text: &str) -> String {
        loop {
            let all = String::from_utf8_lossy(&self.received).into_owned();
            if let Some(at) = all.find(text) {
                self.received.clear();
                self.received.extend_from_slice(&all.as_bytes()[at + text.len()..]);
                return all[..at + text.len()].to_owned();
            }
            assert!(self.read(), "the connection ended before {text:?}: {all}");
        }
    }

    /// The next answer, in this file's notation.
    pub fn answer(&mut self, bodiless: bool) -> String {
        let head = self.hears("\r\n\r\n");
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("a status line: {first:?}"));
        let mut headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("a header: {line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut take = |name: &str| {
            let at = headers.iter().position(|(known, _)| known == name)?;
            Some(headers.remove(at).1)
        };
        let (length, kind, connection) = (take("content-length"), take("content-type"), take("connection"));
        let length = length.map_or(0, |length| length.parse().unwrap());
        assert!(length == 0 || kind.as_deref() == Some("application/json"), "a body of type {kind:?}");
        let body = if bodiless { Vec::new() } else { self.take(length) };
        headers.sort();
        // What is true now is not to be kept.
        headers.retain(|(name, value)| (&**name, &**value) != ("cache-control", "no-store"));
        let others: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let close = connection.map_or("", |word| if word == "close" { "close" } else { "keep-alive" });
        let parts = [&status[..3], close, &others.join(", "), &shown(&body)];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.read(), "the connection ended in a body");
        }
        self.received.drain(..length).collect()
    }

    /// The next answer, which is the last one; none is wanted where `wanted` is empty.
    pub fn last(&mut self, wanted: &str) -> String {
        let answer = if wanted.is_empty() { String::new() } else { self.answer(false) };
        assert_eq!(self.rest(), "", "after {answer}");
        answer
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> String {
        while self.read() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }
}

fn bytes(text: &str, address: &str, endpoint: &str) -> Vec<u8> {
    let text = text.replace("ENDPOINT", endpoint).replace('@', address);
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

/// A body in this file's notation.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let error = text.strip_prefix(r#"{"jsonrpc":"2.0","id":null,"error":{"code":"#);
    match error.and_then(|rest| rest.strip_suffix(r#""}}"#)?.split_once(r#","message":""#)) {
        Some((code, reason)) => format!("{code} {}", reason.replace("\\\"", "\"")),
        None if text.contains(r#""api_last_activity":"#) => "{status}".into(),
        None => text,
    }
}

/// The head of a POST with these headers.
pub fn post(headers: &str) -> String {
    format!("POST ENDPOINT HTTP/1.1\r\nHost: @\r\n{headers}\r\n")
}
