//! The interface over a real listener, with a real Postgres and a real NATS behind it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't be set up has failed")]

mod contract;
mod devices;
mod doors;
mod history;
mod keys;
mod listener;
mod node;
mod person;
mod sessions;
mod tokens;
