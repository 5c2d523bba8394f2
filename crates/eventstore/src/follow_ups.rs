//! Turns after whose answers something is to follow. The rows only say where to look: what is to be done, and whether
//! it has been done, the log says.

use polyphony_domain::ids::{AccountId, SessionId, TurnId};
use sqlx::{Row, postgres::PgRow};

use crate::{Store, StoreError, statement::Statement};

/// A turn after whose answers something is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The turn.
    pub turn_id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
}

/// Remembers that something follows.
pub(crate) fn create(statement: &mut Statement, follow_up: FollowUp) -> Result<(), StoreError> {
    let FollowUp { turn_id, session_id, owner_id } = follow_up;
    let (turn, session) = (statement.bind(turn_id.as_uuid())?, statement.bind(session_id.as_uuid())?);
    let owner = statement.bind(owner_id.as_uuid())?;
    statement.add(format!(
        "followed AS (INSERT INTO ops.follow_ups (turn_id, session_id, owner_id) \
             SELECT {turn}, {session}, {owner} FROM (SELECT max(position) FROM logged) AS written)"
    ));
    Ok(())
}

fn read(row: &PgRow) -> Result<FollowUp, StoreError> {
    Ok(FollowUp {
        turn_id: TurnId::new(row.try_get(0)?),
        session_id: SessionId::new(row.try_get(1)?),
        owner_id: AccountId::new(row.try_get(2)?),
    })
}

const COLUMNS: &str = "follow_ups.turn_id, follow_ups.session_id, follow_ups.owner_id";

impl Store {
    /// What is to follow the answers of a turn; `None` when nothing is.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn follow_up(&self, turn: TurnId) -> Result<Option<FollowUp>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.follow_ups WHERE turn_id = $1");
        let row = sqlx::query(&sql).bind(turn.as_uuid()).fetch_optional(&self.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// The turns of a session after whose answers something is to follow.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn follow_ups_of_session(&self, session: SessionId) -> Result<Vec<FollowUp>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.follow_ups WHERE session_id = $1 ORDER BY turn_id");
        sqlx::query(&sql).bind(session.as_uuid()).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Those with no answer in flight that nobody has looked at for `after_seconds`; they count as looked at now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn due_follow_ups(&self, after_seconds: u32, limit: u32) -> Result<Vec<FollowUp>, StoreError> {
        let sql = format!(
            "UPDATE ops.follow_ups SET looked_at = now() FROM (\
                SELECT turn_id FROM ops.follow_ups AS f WHERE looked_at < now() - make_interval(secs => $1) \
                AND NOT EXISTS (SELECT FROM ops.runs WHERE runs.session_id = f.session_id AND runs.turn_id = f.turn_id) \
                ORDER BY looked_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS due \
             WHERE follow_ups.turn_id = due.turn_id RETURNING {COLUMNS}"
        );
        let rows =
            sqlx::query(&sql).bind(f64::from(after_seconds)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Forgets that something follows: all of it has been done.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_follow_up(&self, turn: TurnId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM ops.follow_ups WHERE turn_id = $1").bind(turn.as_uuid()).execute(&self.pool).await?;
        Ok(())
    }
}
