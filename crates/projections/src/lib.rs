//! Read models: what they are made of, how they follow the log, how they are read and built anew.
//!
//! A projection applies a batch of events and its checkpoint in one transaction. It follows the event stream for
//! speed and the log for truth. Queries show a caller everything that the caller has written.

mod checkpoint;
pub mod message_thread;
mod model;
pub mod reads;
pub mod rebuild;
pub mod runner;
pub mod session_list;
mod typed;
pub mod usage;

use polyphony_eventstore::StoreError;
use thiserror::Error;

pub use self::{
    message_thread::{MessagePage, MessageRow},
    reads::{Page, ReadModels, SessionQuery},
    session_list::SessionRow,
    usage::{Overview, Period},
};

/// Why a read model can't be read or written.
#[derive(Debug, Error)]
pub enum ProjectionError {
    /// The log or Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// ClickHouse failed.
    #[error("ClickHouse failed")]
    Clickhouse(#[from] clickhouse::error::Error),
    /// Another process has moved the checkpoint.
    #[error("another projector has moved the checkpoint")]
    Fenced,
    /// A rebuild read fewer or more events than the log has.
    #[error("the rebuild of {name} read {read} events, the log has {expected}")]
    Incomplete {
        /// The projection.
        name: String,
        /// Events read.
        read: u64,
        /// Events in the log.
        expected: u64,
    },
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(String),
}

impl From<sqlx::Error> for ProjectionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
