//! What stands between clients and a server, played from a text in the words of the transcripts beside the code: a line
//! is a step (`begin`, `lose`, `finish`, `join 1`, `join 1 stateless`, `leave 1`, `tick 5`, `1: …` said by client 1,
//! `S: …` said by the server, `S for 2: …` on the stream of request 2, `undelivered …`); any other is left out. The
//! member `jsonrpc` is put in.
//!
//! What is said need make no sense. Nevertheless: each request is answered once, unless its client cancelled it or left;
//! nobody gets what is another's; nothing goes to those who are gone; at the end nothing is left.

mod world;

use mcp_proxy::protocol::bridge::both::ModernServer;
use mcp_proxy::protocol::bridge::to_legacy::{Settings, ToLegacy};
use mcp_proxy::protocol::hub::{Hub, Kind, Limits};
use mcp_proxy::protocol::message::{Id, Message};
use mcp_proxy::protocol::modern;
use mcp_proxy::protocol::share::Share;
use mcp_proxy::protocol::ticket::Tickets;
use std::fmt::Debug;
use std::time::Duration;
use world::World;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LIMITS: Limits = Limits { open: 4, waiting_bytes: 4000 };
/// All capabilities that a client can have.
const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"context":{},"tools":{}}}"#;

/// Legacy clients of a legacy server.
pub fn share(data: &[u8]) {
    play(data, &[Kind::Session, Kind::Stateless], Share::new(LIMITS, SECRET));
}

/// Modern clients of a modern server.
pub fn modern_share(data: &[u8]) {
    play(data, &[Kind::Modern], modern::share::Share::new(LIMITS));
}

/// Modern clients of a legacy server.
pub fn to_legacy(data: &[u8]) {
    let settings = Settings {
        client_info: r#"{"name":"us"}"#.to_owned(),
        capabilities: ALL.to_owned(),
        one_client: data.len().is_multiple_of(4),
        is_remote: false,
        most_parked: 3,
        parked_bytes: 2000,
        parked_age: Duration::from_mins(1),
        gather: if data.len().is_multiple_of(3) { Duration::from_secs(1) } else { Duration::ZERO },
    };
    play(data, &[Kind::Modern], ToLegacy::new(LIMITS, settings, SECRET));
}

/// Clients of both eras and a modern server.
pub fn both(data: &[u8]) {
    let hub = ModernServer::new(modern::share::Share::new(LIMITS), LIMITS);
    play(data, &[Kind::Modern, Kind::Session, Kind::Stateless], hub);
}

fn play(data: &[u8], kinds: &[Kind], hub: impl Hub + Debug) {
    let text = String::from_utf8_lossy(data);
    // `#` marks whose a message is.
    let text = spelled_out(&text.replace('#', "_"));
    let mut world = World::new(hub, kinds);
    for line in text.lines() {
        let line = line.trim();
        if step(&mut world, line).is_some() {
            world.check();
        }
    }
    world.settle();
}

/// The text without its abbreviations.
fn spelled_out(text: &str) -> String {
    let meta = |capabilities: &str, more: &str| {
        format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{more}}}"#
        )
    };
    let log = |level: &str| meta("{}", &format!(r#","io.modelcontextprotocol/logLevel":"{level}""#));
    let mut text = text.to_owned();
    let tickets = Tickets::new(SECRET);
    while let Some(at) = text.find("TICKET ") {
        let digits = text[at + 7..].bytes().take_while(u8::is_ascii_digit).count().min(3);
        let ticket = tickets.make(text[at + 7..at + 7 + digits].parse().unwrap_or_default());
        text.replace_range(at..at + 7 + digits, &ticket);
    }
    text.replace("$ALL", &meta(ALL, ""))
        .replace("$TOKEN", &meta(ALL, r#","progressToken":"t""#))
        .replace("$NONE", &meta("{}", ""))
        .replace("$DEBUG", &log("debug"))
        .replace("$ERROR", &log("error"))
        .replace("$INFO", r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#)
        .replace("$SUB", "io.modelcontextprotocol/subscriptionId")
}

fn message(text: &str) -> Option<Message> {
    Message::parse(text.trim().replacen('{', r#"{"jsonrpc":"2.0","#, 1).into_bytes()).ok()
}

/// Takes a step; `None` where there is none.
fn step(world: &mut World<impl Hub + Debug>, line: &str) -> Option<()> {
    if let Some((who, said)) = line.split_once(':') {
        return match who.strip_prefix('S') {
            Some("") => world.server_says(&message(said)?),
            Some(rest) => {
                let request = Id::from_json(rest.strip_prefix(" for ")?)?;
                world.server_says(&message(said)?.with_related(&request))
            }
            None if who.starts_with("undelivered ") => world.undelivered(&message(&line["undelivered ".len()..])?),
            None => world.client_says(who.parse().ok()?, message(said)?),
        };
    }
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["begin"] => world.begin(),
        ["lose"] => world.lose(),
        ["finish"] => world.finish(),
        ["join", who] => world.join(who.parse().ok()?, 0),
        ["join", who, "stateless"] => world.join(who.parse().ok()?, 2),
        ["join", who, "legacy"] => world.join(who.parse().ok()?, 1),
        ["leave", who] => world.leave(who.parse().ok()?),
        ["tick", seconds] => {
            world.wait(Duration::from_secs(seconds.parse::<u64>().ok()?.min(100_000)));
            Some(())
        }
        _ => None,
    }
}
