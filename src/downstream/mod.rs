//! Towards the client: HTTP connections and the event streams on them, our own stdin and stdout.

mod budget;
pub mod door;
pub mod http;
pub mod listener;
mod outgoing;
pub mod place;
pub mod socket;
pub mod stdio;
pub mod stream;
