//! The store itself: the pool, the data keys, the schema.

use std::{sync::Arc, time::Duration};

use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use sqlx::{
    PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Seats, StoreError, keys::DataKeys, session_cache::SessionCache};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Begins a transaction, wherever its caller is cancelled.
///
/// A connection whose `BEGIN` is under way when the caller goes (a client that hangs up is enough) would come back into the
/// pool with a transaction that nobody knows of, and the next single statement on it would never be committed. So the
/// beginning is a task of its own: what nobody waits for any more is rolled back as soon as it is there.
///
/// # Errors
/// The database's.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    match tokio::spawn(async move { pool.begin().await }).await {
        Ok(begun) => begun,
        Err(error) => Err(sqlx::Error::Io(std::io::Error::other(error))),
    }
}

/// A handle on the log and the write-side tables; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) keys: Arc<DataKeys>,
    pub(crate) seats: Seats,
    pub(crate) sessions: Arc<SessionCache>,
}

impl Store {
    /// Connects. Every statement and every idle transaction has a bound, so that no session can hold the horizon
    /// of the log back for long.
    ///
    /// # Errors
    /// [`StoreError::Database`] when Postgres can't be reached within the acquire timeout.
    pub async fn connect(config: &DatabaseConfig, kek: KekRing) -> Result<Self, StoreError> {
        let statement_timeout = config.statement_timeout_ms.to_string();
        let options: PgConnectOptions = config.url.parse()?;
        let options = options.application_name("polyphony").options([
            ("statement_timeout", statement_timeout.as_str()),
            ("idle_in_transaction_session_timeout", "30000"),
            // Its own plan for one aggregate is what a prepared statement wants; planning all partitions is slow.
            ("plan_cache_mode", "force_generic_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
            // A ping per acquire would double the round trips of most commands.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self { pool, keys: Arc::new(DataKeys::new(kek)), seats: Seats::UNCOUNTED, sessions: Arc::default() })
    }

    /// Counts answers in flight by these rules from now on.
    #[must_use]
    pub const fn with_seats(mut self, seats: Seats) -> Self {
        self.seats = seats;
        self
    }

    /// Brings the schema up to date. Several processes may do it at once: they wait for one another.
    ///
    /// # Errors
    /// [`StoreError::Migrate`] when a migration fails or was changed after it had run.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(MIGRATIONS.run(&self.pool).await?)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        begin(&self.pool).await
    }

    /// The pool, for the read models that live in the same database.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Answers when the database does.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}
