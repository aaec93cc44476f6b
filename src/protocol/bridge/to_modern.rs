//! A legacy client of a modern server.
