//! How we are doing, for people (`/status`), for orchestrators (`/healthz`) and for Prometheus (`/metrics`).

use super::house::House;
use super::offer::Offer;
use super::server::Of;
use super::session::Session;
use super::shared::Shared;
use crate::config::Target;
use crate::downstream::http::Response;
use crate::protocol::http::Refusal;
use crate::protocol::metrics::{self, Gauges};
use crate::time;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::SystemTime;
use ureq_proto::http::{HeaderValue, StatusCode, header};

/// How one server is doing.
struct Report {
    offer: Arc<Offer>,
    state: &'static str,
    pids: Vec<u32>,
    servers: usize,
    sessions: usize,
    streams: usize,
    restarts: u64,
    failure: Option<String>,
    last_error: Option<String>,
}

fn reports(house: &House) -> Vec<Report> {
    let (offers, sessions, servers) = {
        let state = house.state();
        let sessions: Vec<_> = state.sessions.values().flatten().cloned().collect();
        let servers: Vec<_> = state.servers.values().cloned().collect();
        (state.offers.clone(), sessions, servers)
    };
    let report = |offer: Arc<Offer>| {
        let own: Vec<_> = sessions.iter().filter(|session| Arc::ptr_eq(&session.offer, &offer)).collect();
        let live: Vec<_> = servers.iter().filter(|(of, _)| Arc::ptr_eq(of, &offer)).collect();
        let streams = own.iter().map(|session| session.connected().0).sum();
        let live: Vec<_> = live.iter().filter(|(_, server)| !matches!(server.owner.get(), Of::Ended)).collect();
        let (restarts, failure, last_error) = {
            let state = offer.state();
            (state.restarts, state.failure.clone(), state.last_error.clone())
        };
        let state = match (&failure, live.is_empty()) {
            (Some(_), _) => "failed",
            (None, false) => "running",
            (None, true) if offer.is_prepared() => "stopped",
            (None, true) => "idle",
        };
        Report {
            state,
            pids: live.iter().filter_map(|(_, server)| server.sender.pid()).collect(),
            servers: live.len(),
            sessions: own.len(),
            streams,
            restarts,
            failure,
            last_error,
            offer,
        }
    };
    offers.into_iter().map(report).collect()
}

/// `GET /status`. The keys of the Python program keep their names.
pub fn status(house: &House) -> Response {
    let activity = house.state().last_activity;
    let activity = activity.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map(time::rfc3339);
    let reports = reports(house);
    let words: Map<String, Value> =
        reports.iter().map(|report| (report.offer.shown().to_owned(), report.state.into())).collect();
    let servers: Map<String, Value> =
        reports.iter().map(|report| (report.offer.shown().to_owned(), report.json())).collect();
    let sessions: Vec<_> = house.state().sessions.values().flatten().cloned().collect();
    let body = json!({
        "api_last_activity": activity,
        "active_sse_connections": reports.iter().map(|report| report.streams).sum::<usize>(),
        "server_instances": words,
        "servers": servers,
        "sessions": reports.iter().map(|report| report.sessions).sum::<usize>(),
        "clients": sessions.iter().map(session).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": house.begun.elapsed().as_secs(),
    });
    fresh(Response::json(StatusCode::OK, body.to_string().into()))
}

/// A link that clients share which are not all legacy ones of a legacy server.
fn link((era, shared): &(&'static str, Arc<Shared>)) -> Value {
    let (clients, inputs) = shared.counts();
    json!({"server_era": era, "clients": clients, "waiting_for_input": inputs})
}

/// A session. Its id is a secret of its client; its beginning tells sessions apart.
fn session(session: &Arc<Session>) -> Value {
    json!({
        "session": session.shown(),
        "server": session.offer.shown(),
        "era": "legacy",
        "bridged": session.is_bridged() || session.offer.bridges_legacy(),
        "streams": session.connected().0,
    })
}

impl Report {
    fn json(&self) -> Value {
        let kind = match self.offer.server.target {
            Target::Command(_) => "command",
            Target::Remote(_) => "remote",
        };
        json!({
            "state": self.state,
            "kind": kind,
            "pid": self.pids.first(),
            "pids": self.pids,
            "processes": self.servers,
            "restarts": self.restarts,
            "last_error": self.last_error,
            "sessions": self.sessions,
            "streams": self.streams,
            "era": self.offer.eras(),
            "era_is_assumed": self.offer.modern.is_assumed(),
            "links": self.offer.modern.shown().iter().map(link).collect::<Vec<_>>(),
        })
    }
}

/// `GET /healthz`: 503 when a server that should run does not.
pub fn health(house: &House) -> Response {
    let failing: Map<String, Value> = reports(house)
        .into_iter()
        .filter_map(|report| Some((report.offer.shown().to_owned(), report.failure?.into())))
        .collect();
    if failing.is_empty() {
        return fresh(Response::json(StatusCode::OK, json!({"status": "ok"}).to_string().into()));
    }
    let body = json!({"status": "failing", "servers": failing});
    fresh(Response::json(StatusCode::SERVICE_UNAVAILABLE, body.to_string().into()))
}

/// `GET /metrics`.
pub fn metrics(house: &House) -> Response {
    let reports = reports(house);
    let rows: Vec<_> = reports
        .iter()
        .map(|report| {
            let gauges = Gauges {
                server: report.offer.shown(),
                sessions: report.sessions,
                streams: report.streams,
                running: report.failure.is_none(),
                restarts: report.restarts,
            };
            (gauges, &report.offer.metrics)
        })
        .collect();
    let mut response = Response::json(StatusCode::OK, metrics::render(&rows, &house.refusals).into());
    response.headers[0].1 = HeaderValue::from_static(metrics::CONTENT_TYPE);
    fresh(response)
}

/// What is true now must not be kept by anybody in between.
pub fn fresh(mut response: Response) -> Response {
    response.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response
}

impl House {
    /// Where nothing but named servers is offered, a path that leads nowhere is answered with their list.
    pub fn explain_not_found(&self, mut refusal: Refusal) -> Refusal {
        let state = self.state();
        if refusal.status == StatusCode::NOT_FOUND && state.offers.iter().any(|offer| offer.server.name.is_some()) {
            let names: Vec<_> = state.offers.iter().filter_map(|offer| offer.server.name.as_deref()).collect();
            refusal.reason = format!(
                "there is nothing at this path; the servers are at {}",
                names.iter().map(|name| format!("/servers/{name}/mcp")).collect::<Vec<_>>().join(", ")
            );
        }
        refusal
    }
}
