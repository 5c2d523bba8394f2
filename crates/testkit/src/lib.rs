//! A real Postgres, NATS and ClickHouse engine for tests, and the product's binary as a child process.
//!
//! Under `cargo xtask test` all test binaries share one stack. Under plain `cargo test` each test binary starts the
//! servers it asks for, in a temporary folder that goes with its process. Either way a test gets its own database:
//!
//! ```no_run
//! # async fn example() {
//! let database = polyphony_testkit::database().await; // migrated, empty, dropped at the end
//! sqlx::query("SELECT 1").execute(&database.pool).await.unwrap();
//! # }
//! ```
//!
//! What goes wrong in here panics: a test has nothing better to do with it.
#![expect(clippy::panic, reason = "test support: a stack that doesn't start is a failed test")]

mod binaries;
mod clickhouse;
pub mod clock;
mod database;
pub mod emulator;
mod private;
pub mod proxy;
mod role;
mod servers;

pub use binaries::binary;
pub use clickhouse::{ClickhouseDatabase, clickhouse_database};
pub use database::{TestDatabase, database, empty_database, migrate};
pub use private::{Private, private_clickhouse, private_nats, private_on_small_disks, private_postgres};
pub use role::{Role, run, secrets};
pub use servers::{TestStack, nats_url, stack};

use polyphony_devstack::ports::Port;

/// The environment variable with the path of the shared stack's URLs, as JSON.
pub const STACK_VARIABLE: &str = "POLYPHONY_TEST_STACK";
/// The environment variable with the folder of binaries that needn't be built again.
pub const BINARIES_VARIABLE: &str = "POLYPHONY_TEST_BINARIES";

/// A loopback port that nothing else in these tests is given, for as long as this process lives.
pub fn free_port() -> u16 {
    let port = ok(Port::free());
    let number = port.number();
    // Its reservation ends with the process.
    std::mem::forget(port);
    number
}

/// A word that no other test has, for names of databases, buckets and streams.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", ok(polyphony_devstack::random::hex(6)))
}

#[track_caller]
fn ok<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("test stack: {error:#}"))
}
