//! Clients of both eras with servers of both eras, and us between them: every feature in every cell, between programs
//! that we did not write. `tests/peers/install.py` installs them once; `tests/peers/features.py` says what the features
//! are, `tests/peers/eras.rs` where they are tried and what cannot work.

mod support;

#[path = "peers/cells.rs"]
mod cells;
#[path = "peers/eras.rs"]
mod eras;
#[path = "peers/installed.rs"]
mod installed;
#[path = "peers/matrix.rs"]
mod matrix;

use cells::Filled;
use eras::{CLIENTS, Cell, Client, Impossible, SERVERS, Server, Way};
use installed::{LIMIT, url};
use matrix::FEATURES;
use support::http::Http;
use support::modern::modern;
use support::{Process, wait_until};

#[test]
fn every_client_uses_every_feature_of_every_server() {
    let wanted: Vec<Cell> = eras::cells().into_iter().filter(|cell| asked_for(*cell)).collect();
    let filled = cells::fill_all(&eras::rows(&wanted), eras::far, |cell, far| eras::fill(cell, far.as_ref()));
    let failed: String = filled.iter().filter_map(explained).collect();
    let table = format!("{}{}", table(&wanted, &filled), reasons(&filled));
    println!("{table}");
    assert!(failed.is_empty(), "\n{table}\n{failed}");
}

#[test]
fn clients_of_both_eras_use_one_port_at_the_same_moment() {
    for server in SERVERS {
        let served = eras::served(server, &[]);
        if server != Server::Legacy {
            wait_until_known(&served);
        }
        let target = ["http".into(), url(&served, "/mcp").into()];
        let clients = [Client::Python1, Client::Python2("auto")];
        let without = clients.map(|client| left_out(server, client));
        let mut running: Vec<Process> = Vec::new();
        for (client, without) in clients.iter().zip(&without) {
            let mut options: Vec<&str> = without.iter().flat_map(|feature| ["--without", feature]).collect();
            options.push("--wait");
            running.push(eras::start(*client, &options, &target));
        }
        let eras = running.iter().map(|client| eras::era(client).unwrap_or_default());
        assert_eq!(eras.collect::<Vec<_>>(), ["legacy", "modern"], "{server:?}");
        for client in &mut running {
            client.write(b"go\n");
        }
        for (client, without) in running.into_iter().zip(&without) {
            matrix::outcome(client, without).unwrap_or_else(|why| panic!("{server:?}:\n{why}"));
        }
    }
}

/// Waits until it is known what the server speaks. One that begins slowly is taken for a legacy one until it answers: then
/// a client is led to another process, which does not know what it said before.
fn wait_until_known(served: &Process) {
    let url = url(served, "");
    let mut http = Http::connect(url.strip_prefix("http://").expect("an address"));
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "server/discover")];
    http.send("POST", &headers, &modern(1, "server/discover", ""));
    assert_eq!(http.answer().head.status, 200);
    "/status".clone_into(&mut http.path);
    wait_until("it is known what the server speaks", LIMIT, || {
        http.send("GET", &[("Accept", "application/json")], "");
        !http.answer().body.contains("\"era_is_assumed\":true")
    });
}

/// What two clients cannot try at the same moment on one process: each would see what the other does to its state, and a
/// log message that names no request goes to nobody while two want some.
const LIMITS_OF_SHARING: [&str; 8] =
    ["log-messages", "log-level", "log-level-set", "subscriptions", "unsubscribing", "list-changed", "recall", "death"];

/// What this client cannot do with this server over our `/mcp` beside a client of the other era. A modern server has one
/// process for both.
fn left_out(server: Server, client: Client) -> Vec<&'static str> {
    let alone = eras::impossible((eras::MCP, server, client)).into_iter().map(|(feature, _)| feature);
    let shares = LIMITS_OF_SHARING.into_iter().filter(|_| server == Server::Modern);
    alone.chain(shares).collect()
}

/// Whether the cell is wanted: `BOTH_ERAS` may name one word of its way, server or client, to look at a part of the
/// matrix while working on it.
fn asked_for((way, server, client): Cell) -> bool {
    let words = std::env::var("BOTH_ERAS").unwrap_or_default();
    let name = format!("{way}; {server:?}; {client}");
    words.split('+').all(|word| name.contains(word.trim()))
}

/// What went wrong in a cell, if anything did.
fn explained(((way, server, client), came): &(Cell, Filled)) -> Option<String> {
    came.as_ref().err().map(|why| format!("{client} with {server:?} over {way}:\n{why}\n"))
}

/// The matrix: a line a way and server, a column a client.
fn table(wanted: &[Cell], filled: &[(Cell, Filled)]) -> String {
    let heading = CLIENTS.map(|client| format!("{client:>15}")).concat();
    let mut lines: Vec<(Way, Server)> = wanted.iter().map(|(way, server, _)| (*way, *server)).collect();
    lines.dedup();
    let line = |(way, server): &(Way, Server)| {
        let words = CLIENTS.map(|client| format!("{:>15}", word(filled, (*way, *server, client))));
        format!("{way:<20}{:<8}{}\n", format!("{server:?}"), words.concat())
    };
    format!("{:<28}{heading}\n{}", "", lines.iter().map(line).collect::<String>())
}

/// What came of a cell, in a word.
fn word(filled: &[(Cell, Filled)], wanted: Cell) -> String {
    match filled.iter().find(|(cell, _)| *cell == wanted) {
        Some((_, Ok(worked))) => format!("{worked}/{}", FEATURES.len()),
        Some((_, Err(_))) => "FAIL".to_owned(),
        None => "-".to_owned(),
    }
}

/// What is left out of the cells that were filled, which cells are not there, and why.
fn reasons(filled: &[(Cell, Filled)]) -> String {
    let mut reasons: Vec<Impossible> = filled.iter().flat_map(|(cell, _)| eras::impossible(*cell)).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let features = reasons.iter().map(|(feature, reason)| format!("without {feature}: {reason}\n"));
    let cells = eras::left_out().into_iter().map(|(way, reason)| format!("- at {way}: {reason}\n"));
    features.chain(cells).collect()
}
