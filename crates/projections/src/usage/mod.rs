//! Usage: facts in ClickHouse, exactly once, and the dashboards' numbers from its rollups.

mod batch;
mod fact;
mod overview;
mod schema;

#[cfg(test)]
pub(crate) use self::{batch::boundary, schema::table};
pub(crate) use self::{
    batch::{NAME, UsageFacts, token, wants},
    fact::{Fact, insert},
    overview::overview,
    schema::{drop_tables, ensure},
};
pub use self::{
    overview::{Day, Overview, Period, Totals},
    schema::{client, ensure_schema},
};
