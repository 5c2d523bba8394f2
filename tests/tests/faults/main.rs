//! Processes die, lines break, stores vanish, providers misbehave. After each run the auditor holds what the clients saw
//! against the log, the views, the analytics and the provider's own record.
#![expect(clippy::unwrap_used, reason = "a test")]

mod api;
mod bus;
#[cfg(target_os = "linux")]
mod clocks;
mod database;
#[cfg(target_os = "linux")]
mod disks;
mod edges;
mod locks;
mod nodes;
mod processes;
mod provider;
mod queue;
mod scarce;
mod seats;
mod views;
mod worker;
