//! Towards the client.

pub mod listener;
