//! Usage: facts in ClickHouse, exactly once, and the dashboards' numbers from its rollups.

mod batch;
mod fact;
mod overview;
mod schema;
mod verify;

#[cfg(test)]
pub(crate) use self::batch::boundary;
pub(crate) use self::{
    batch::{NAME, UsageFacts, token, wants},
    fact::{Fact, insert},
    overview::overview,
    schema::{SCRATCH, drop_tables, ensure, table, within},
    verify::{differing_rollups, hashes},
};
pub use self::{
    overview::{Day, Overview, Period, Totals},
    schema::{client, ensure_schema},
};
