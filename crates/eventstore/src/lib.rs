//! The event store: appending, loading and tailing the log, and the write-side tables that change with it.
//!
//! The log keeps the table contract of `postgres-es`; appending is ours, since the stock store commits before it
//! reports a conflict and writes one row per round trip. Commit order is `(xid, position)`. Personal fields of a
//! payload are sealed with the data key of their root before they reach the database.
//!
//! No projection and no message bus lives here.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod context;
pub mod effect;
pub mod erasure;
pub mod error;
pub mod execute;
pub mod follow_ups;
mod frame;
pub mod history;
pub mod idempotency;
mod insert;
pub mod keys;
pub mod load;
pub mod logged;
pub mod relay_state;
pub mod runs;
pub mod sealing;
pub mod seats;
mod session_cache;
mod statement;
pub mod store;
pub mod tail;
pub mod tree;
pub mod upcast;
pub mod vitals;

pub use self::{
    context::CommandContext,
    effect::Effect,
    error::{Refused, StoreError},
    execute::{Execute, ExecuteError, Executed, Root},
    seats::{NewRun, Seats},
    store::{Store, begin},
    tree::Beside,
};
