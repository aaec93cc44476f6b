//! The listener: an accept loop, a thread per connection, limits and deadlines.

use std::time::Duration;

/// What one connection may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; one more is answered 503.
    pub connections: usize,
    /// Bytes of a request's head; over it 431.
    pub header_bytes: usize,
    /// Bytes of a request's body; over it 413.
    pub body_bytes: usize,
    /// How long a request's head may take; over it 408.
    pub head_timeout: Duration,
    /// How long a request's body may pause; over it 408.
    pub body_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// Bytes that wait for a slow reader of one stream; over it the stream is closed.
    pub stream_bytes: usize,
    /// A client that went away is noticed within this time; comments on a stream are sent twice as often.
    pub keep_alive: Duration,
}
