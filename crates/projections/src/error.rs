//! What can go wrong with a read model, and what of it is an event's fault.

use polyphony_eventstore::StoreError;
use thiserror::Error;

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
    /// An event can't be understood.
    #[error("the event at position {position} can't be applied: {reason}")]
    Unreadable {
        /// Its place in the log.
        position: i64,
        /// Why.
        reason: String,
    },
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
    /// It is being built anew already.
    #[error("{0} is being built anew by another process")]
    Busy(String),
    /// There is no such projection.
    #[error("there is no projection {0}; there are {names}", names = crate::rebuild::NAMES.join(", "))]
    Unknown(String),
}

impl From<sqlx::Error> for ProjectionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ProjectionError {
    /// Whether an event is to blame, so that trying for ever would not help. Anything else may pass: an outage, a
    /// wrong key ring, a schema that has not been migrated yet.
    pub(crate) fn is_poison(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Store(StoreError::Json(_)) => true,
            // Data exceptions, violated constraints and exceeded limits: the database is well, the row is not.
            Self::Store(StoreError::Database(sqlx::Error::Database(error))) => {
                error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        }
    }
}
