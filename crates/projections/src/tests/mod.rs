//! The projections on a real Postgres, NATS and ClickHouse engine.

mod faults;
mod model;
mod past;
mod poison;
mod reads;
mod rebuild;
mod stack;
mod stream;
mod usage;
mod writer;
