//! The bridge: a client and a server of different eras (MCP 2026-07-28, `basic/versioning`, whose compatibility matrix
//! says "fails" for both crossings).

pub mod both;
pub mod to_legacy;
pub mod to_modern;
