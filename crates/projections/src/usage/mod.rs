//! Usage: facts in ClickHouse, exactly once, and the dashboards' numbers from its rollups.

mod batch;
mod fact;
mod key_usage;
mod overview;
mod schema;
mod verify;

#[cfg(test)]
pub(crate) use self::batch::boundary;
pub(crate) use self::{
    batch::{NAME, UsageFacts, token, wants},
    fact::{Fact, insert},
    key_usage::key_usage,
    overview::overview,
    schema::{SCRATCH, drop_tables, ensure, table, within},
    verify::{differing_rollups, hashes},
};
pub use self::{
    key_usage::KeyUsage,
    overview::{Day, Overview, Period, Totals},
    schema::{client, ensure_schema},
};
