//! Parameters of tools that a modern POST repeats in headers: `x-mcp-header` and `Mcp-Param-…` (MCP 2026-07-28,
//! `basic/transports/streamable-http`, "Custom Headers from Tool Parameters").
