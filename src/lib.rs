//! The library behind the `mcp-proxy` binary.

pub mod cli;
pub mod config;
pub mod connect;
pub mod demo;
pub mod downstream;
pub mod error;
pub mod log;
pub mod protocol;
pub mod serve;
pub mod system;
pub mod time;
pub mod upstream;
