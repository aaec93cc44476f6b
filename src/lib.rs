//! The library behind the `mcp-proxy` binary.
//!
//! ```text
//!   main ──▶ cli ──▶ serve, connect ──▶ downstream (towards the client), upstream (towards the server) ──▶ protocol
//! ```
//!
//! In reading order: [`protocol`] has every rule and does no I/O; [`upstream`] reaches servers, whatever they run over,
//! through a [`upstream::Link`]; [`downstream`] takes clients; [`serve`] and [`connect`] wire the two and own all threads
//! of their mode; [`cli`] and [`config`] say what is wired. [`system`], [`restrict`], [`log`], [`time`] and [`error`] are
//! leaves.
//!
//! Always: a message that needs no change leaves with the bytes it came with; it goes to one stream of one session, or to
//! nobody; every request that was taken is answered once; everything that can grow is bounded; every thread has an owner
//! that ends it.

pub mod cli;
pub mod config;
pub mod connect;
pub mod demo;
pub mod downstream;
pub mod error;
pub mod log;
pub mod protocol;
pub mod restrict;
pub mod serve;
pub mod system;
pub mod time;
pub mod upstream;
