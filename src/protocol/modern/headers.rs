//! The headers of a modern POST that say what its body says (MCP 2026-07-28, `basic/transports/streamable-http`, "Request
//! Metadata").
