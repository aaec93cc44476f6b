//! The rules of the protocol, pure: no file, socket, thread, process or clock. What needs the time gets it
//! as an argument, what decides returns a value on which the edge acts.

pub mod access;
pub mod backlog;
pub mod base64;
pub mod bridge;
pub mod chunks;
pub mod digest;
mod edit;
pub mod era;
pub mod head;
pub mod http;
pub mod hub;
pub mod level;
pub mod lines;
pub mod member;
pub mod message;
pub mod metrics;
pub mod modern;
pub mod network;
mod noted;
pub mod proxy;
pub mod reconnect;
pub mod remote;
pub mod replay;
pub mod retry;
pub mod session;
pub mod share;
pub mod sole;
pub mod sse;
pub mod ticket;
pub mod uri;
mod walk;
