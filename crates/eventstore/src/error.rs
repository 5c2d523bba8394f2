//! What can go wrong in the store.

use thiserror::Error;

/// Why the store could not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Postgres can't be reached, or refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database could not be migrated")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored event can't be read: a version without upcaster, or a damaged row.
    #[error("event {event_type} v{event_version} at position {position} can't be read")]
    Unreadable {
        /// Stored type.
        event_type: String,
        /// Stored version.
        event_version: String,
        /// Place in the log.
        position: i64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Something could not be written as JSON.
    #[error("a value can't be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The data key of this root has been destroyed: nothing can be added under it.
    #[error("the data of this session or account has been erased")]
    Erased,
    /// There is no data key for this root.
    #[error("there is no data key for this root")]
    NoDataKey,
    /// A wrapped key or a sealed column does not open: a wrong key ring, or a row that was changed.
    #[error("a sealed value does not open")]
    Sealed,
    /// The audit chain is not what was signed, or a part of it is missing.
    #[error("the audit chain is damaged: run `polyphony audit verify`")]
    AuditChain,
    /// A side write was refused, and with it the whole command.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl StoreError {
    /// Whether the database can't be reached or is overloaded, so that asking again later may help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Protocol(_),
            ) => true,
            // 08 connection, 53 resources, 57 operator intervention (shutdown, statement timeout).
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        }
    }
}

/// Why a side write of a command was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Another account has this e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The same idempotency key was used while this command ran.
    #[error("the idempotency key is in use")]
    IdempotencyKeyUsed,
    /// Another worker has the attempt, or the answer has ended.
    #[error("the attempt belongs to another worker")]
    RunTaken,
    /// An answer under the same parent is still in the making.
    #[error("a generation is in progress")]
    GenerationInProgress,
    /// The account has too many answers waiting.
    #[error("too many answers are waiting")]
    QueueFull,
    /// Messages of the session came or went since it was looked at.
    #[error("the session's messages have changed meanwhile")]
    TreeChanged,
    /// What should be changed isn't there.
    #[error("it is not there")]
    NotFound,
}
