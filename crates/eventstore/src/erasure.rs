//! Erasing: data keys are destroyed and the rows of the write side go, in the transaction of the event that says so.
//!
//! The log itself is never changed: what was sealed with a destroyed key can't be opened by anybody. Whoever holds the
//! key in memory forgets it when told, and within half a minute by itself.

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId},
    session::{Session, SessionCommand},
};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{CommandContext, Effect, ExecuteError, Refused, Root, Store, StoreError, seats, statement::Statement};

/// Tables of the write side with rows of an account, and their column with its id. All of these rows go with it.
pub const OF_ACCOUNT: [(&str, &str); 9] = [
    ("ops.credentials", "account_id"),
    ("ops.access_tokens", "account_id"),
    ("ops.api_keys", "account_id"),
    ("ops.idempotency", "scope"),
    ("ops.runs", "owner_id"),
    ("ops.follow_ups", "owner_id"),
    ("ops.seats", "account_id"),
    ("ops.allowances", "account_id"),
    ("ops.deleted_sessions", "owner_id"),
];

/// Tables with an account's id whose rows stay: what they hold is no use without the keys (`data_keys` keeps that they
/// were destroyed), is needed to refuse tokens (`devices`), or is nothing but ids (`answers`).
pub const KEPT: [&str; 3] = ["ops.data_keys", "ops.devices", "ops.answers"];

/// A session that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is.
    pub owner_id: AccountId,
}

/// Destroys a session's key, and ends what is in flight in it. Says whether an answer that waited got a seat.
pub(crate) async fn session(connection: &mut PgConnection, session: SessionId) -> Result<bool, StoreError> {
    for statement in [
        "UPDATE ops.data_keys SET wrapped = NULL, destroyed_at = now() WHERE root_id = $1 AND wrapped IS NOT NULL",
        "DELETE FROM ops.deleted_sessions WHERE session_id = $1",
        "DELETE FROM ops.follow_ups WHERE session_id = $1",
    ] {
        sqlx::query(statement).bind(session.as_uuid()).execute(&mut *connection).await?;
    }
    let runs =
        sqlx::query("SELECT answer_id, attempt FROM ops.runs WHERE session_id = $1 ORDER BY answer_id FOR UPDATE")
            .bind(session.as_uuid())
            .fetch_all(&mut *connection)
            .await?;
    let mut seated = false;
    for run in runs {
        let attempt = u32::try_from(run.try_get::<i32, _>(1)?).unwrap_or(0);
        let mut statement = Statement::without_events();
        seats::end(&mut statement, AnswerId::new(run.try_get(0)?), attempt)?;
        seated |= statement.run(&mut *connection).await?.seated == Some(true);
    }
    Ok(seated)
}

/// Destroys all keys of an account, signs it out everywhere, and removes what else there is of it.
pub(crate) async fn account(connection: &mut PgConnection, account: AccountId) -> Result<(), StoreError> {
    // The account's own key first: whoever opens a session takes a lock on it, so from here on nobody can.
    let done = sqlx::query(
        "UPDATE ops.data_keys SET wrapped = NULL, destroyed_at = now() WHERE root_id = $1 AND wrapped IS NOT NULL",
    )
    .bind(account.as_uuid())
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() != 1 {
        return Err(Refused::NotFound.into());
    }
    let mut statements = vec![
        "UPDATE ops.data_keys SET wrapped = NULL, destroyed_at = now() WHERE owner_id = $1 AND wrapped IS NOT NULL"
            .to_owned(),
        "DELETE FROM ops.used_refresh_tokens USING ops.devices \
         WHERE devices.account_id = $1 AND used_refresh_tokens.device_id = devices.device_id"
            .to_owned(),
        // Every node refuses the tokens of devices that have ended; which token it was says nothing any more.
        "UPDATE ops.devices SET ended_at = coalesce(ended_at, now()), token_hash = sha256(token_hash) \
         WHERE account_id = $1"
            .to_owned(),
    ];
    statements.extend(OF_ACCOUNT.map(|(table, column)| format!("DELETE FROM {table} WHERE {column} = $1")));
    for statement in statements {
        sqlx::query(&statement).bind(account.as_uuid()).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Forgets data keys that are held open: that of a root, and all of an owner.
    pub fn forget_keys(&self, root_or_owner: Uuid) {
        self.keys.forget(root_or_owner);
    }

    /// The password hash of an account; none for one that signs in by other means.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn password_hash(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT password_hash FROM ops.credentials WHERE account_id = $1")
            .bind(account.as_uuid())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Deleted sessions whose undo time is over.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn sessions_to_erase(&self, undo_seconds: u64, limit: u32) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query(
            "SELECT session_id, owner_id FROM ops.deleted_sessions \
             WHERE deleted_at <= now() - make_interval(secs => $1) ORDER BY deleted_at LIMIT $2",
        )
        .bind(undo_seconds as f64)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let due = |row: sqlx::postgres::PgRow| {
            Ok(Due { session_id: SessionId::new(row.try_get(0)?), owner_id: AccountId::new(row.try_get(1)?) })
        };
        rows.into_iter().map(due).collect()
    }

    /// Erases a deleted session: its key and its event, in one transaction. One that has been restored meanwhile
    /// stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Database`], or a conflict, which the next try will not meet.
    pub async fn erase_session(&self, due: Due) -> Result<(), StoreError> {
        let Due { session_id, owner_id } = due;
        let context = CommandContext::internal(owner_id, "relay", Uuid::now_v7());
        let command = self.command::<Session>(context, Root::Existing(session_id.as_uuid()));
        let command = command.effects(move |_, _| vec![Effect::EraseSession { session_id }]);
        match command.run(session_id.as_uuid(), SessionCommand::Erase).await {
            Ok(_) => {}
            // It is erased already, by another leader or with its account: only the reminder was left.
            Err(ExecuteError::Domain(_) | ExecuteError::Store(StoreError::Erased)) => {
                let mut connection = self.pool.acquire().await?;
                session(&mut connection, session_id).await?;
            }
            Err(ExecuteError::Conflict) => return Ok(()),
            Err(ExecuteError::Store(error)) => return Err(error),
        }
        self.forget_keys(session_id.as_uuid());
        Ok(())
    }
}
