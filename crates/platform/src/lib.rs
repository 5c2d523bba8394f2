//! What every role stands on: configuration, secrets, vault primitives, passwords, outbound HTTP, telemetry, lifecycle.
//!
//! No database, no message bus and no web framework lives here.

pub mod config;
pub mod fault;
pub mod http;
pub mod lifecycle;
pub mod metrics_names;
pub mod password;
pub mod secrets;
pub mod telemetry;
pub mod vault;
