//! Answers in flight: leases, hand-over, and finding those that nobody works on.

use chrono::{DateTime, Utc};
use polyphony_domain::ids::{AccountId, AnswerId, SessionId, TurnId};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    statement::{Statement, Why},
};

/// An answer in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The answer.
    pub answer_id: AnswerId,
    /// Its turn.
    pub turn_id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
    /// Newest attempt; 0 before the first.
    pub attempt: u32,
    /// Whether the worker of that attempt gave it back.
    pub handed_over: bool,
    /// How often its job has been issued.
    pub issues: u32,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct RunRow {
    answer_id: Uuid,
    turn_id: Uuid,
    session_id: Uuid,
    owner_id: Uuid,
    attempt: i32,
    handed_over: bool,
    issues: i32,
    requested_at: DateTime<Utc>,
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        Self {
            answer_id: AnswerId::new(row.answer_id),
            turn_id: TurnId::new(row.turn_id),
            session_id: SessionId::new(row.session_id),
            owner_id: AccountId::new(row.owner_id),
            attempt: u32::try_from(row.attempt).unwrap_or(0),
            handed_over: row.handed_over,
            issues: u32::try_from(row.issues).unwrap_or(0),
            requested_at: row.requested_at,
        }
    }
}

/// How a worker comes to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nobody works on the answer, or nobody any more.
    Free,
    /// It has the attempt before, and goes on.
    Its,
}

/// Gives the lease for an attempt, one more than the one before, to a worker.
pub(crate) fn lease(
    statement: &mut Statement,
    takes: Takes,
    (answer, attempt): (AnswerId, u32),
    worker: String,
    seconds: u32,
) -> Result<(), StoreError> {
    let answer = statement.bind(answer.as_uuid())?;
    let attempt = statement.bind(i32::try_from(attempt).unwrap_or(i32::MAX))?;
    let (worker, seconds) = (statement.bind(worker)?, statement.bind(f64::from(seconds))?);
    let may = match takes {
        Takes::Free => "seat IS NOT NULL AND (worker IS NULL OR handed_over OR lease_until < now())".to_owned(),
        Takes::Its => format!("worker = {worker} AND NOT handed_over"),
    };
    statement.add(format!(
        "leased AS (UPDATE ops.runs SET attempt = {attempt}, worker = {worker}, handed_over = false, \
             lease_until = now() + make_interval(secs => {seconds}) FROM (SELECT max(position) FROM logged) AS written \
             WHERE answer_id = {answer} AND attempt = {attempt} - 1 AND {may} RETURNING answer_id)"
    ));
    statement.require("EXISTS (SELECT FROM leased)", Why::RunTaken);
    Ok(())
}

const COLUMNS: &str = "answer_id, turn_id, session_id, owner_id, attempt, handed_over, issues, requested_at";

impl Store {
    /// The flight of an answer; `None` once it has ended.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn run(&self, answer: AnswerId) -> Result<Option<Run>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.runs WHERE answer_id = $1");
        let row: Option<RunRow> = sqlx::query_as(&sql).bind(answer.as_uuid()).fetch_optional(&self.pool).await?;
        Ok(row.map(Run::from))
    }

    /// The answers of a session that are in flight.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn runs_of_session(&self, session: SessionId) -> Result<Vec<Run>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.runs WHERE session_id = $1 ORDER BY answer_id");
        let rows: Vec<RunRow> = sqlx::query_as(&sql).bind(session.as_uuid()).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Run::from).collect())
    }

    /// The answers of an account that are in flight.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn runs_of_owner(&self, owner: AccountId) -> Result<Vec<Run>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ops.runs WHERE owner_id = $1 ORDER BY answer_id");
        let rows: Vec<RunRow> = sqlx::query_as(&sql).bind(owner.as_uuid()).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Run::from).collect())
    }

    /// Renews the leases that `worker` still holds and says which those are, and whether each is to stop; the
    /// others are lost.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn renew_leases(
        &self,
        worker: &str,
        held: &[(AnswerId, u32)],
        lease_seconds: u32,
    ) -> Result<Vec<(AnswerId, bool)>, StoreError> {
        let (answers, attempts): (Vec<Uuid>, Vec<i32>) = held
            .iter()
            .map(|(answer, attempt)| (answer.as_uuid(), i32::try_from(*attempt).unwrap_or(i32::MAX)))
            .unzip();
        let rows = sqlx::query(
            "UPDATE ops.runs SET lease_until = now() + make_interval(secs => $4) \
             FROM unnest($2::uuid[], $3::integer[]) AS held (answer_id, attempt) \
             WHERE runs.answer_id = held.answer_id AND runs.attempt = held.attempt AND runs.worker = $1 \
             RETURNING runs.answer_id, runs.stop_requested",
        )
        .bind(worker)
        .bind(answers)
        .bind(attempts)
        .bind(f64::from(lease_seconds))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(|row| Ok((AnswerId::new(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// Gives an attempt back, so that another worker may start the next one at once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn hand_over(&self, worker: &str, answer: AnswerId, attempt: u32) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE ops.runs SET handed_over = true, issued_at = '-infinity' \
             WHERE answer_id = $1 AND attempt = $2 AND worker = $3",
        )
        .bind(answer.as_uuid())
        .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
        .bind(worker)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Runs that nobody works on: not taken `after_seconds` since their job was issued, with a lease that has
    /// expired, or handed over. Each is marked as issued again, the wait doubling each time up to five minutes.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reissue_runs(&self, after_seconds: u32, limit: u32) -> Result<Vec<Run>, StoreError> {
        let columns = COLUMNS.replace("answer_id", "runs.answer_id");
        let sql = format!(
            "UPDATE ops.runs SET issues = issues + 1, issued_at = now() FROM (\
                SELECT answer_id FROM ops.runs WHERE seat IS NOT NULL AND (worker IS NULL OR handed_over OR lease_until < now()) \
                AND issued_at < now() - make_interval(secs => least($1 * power(2, least(issues - 1, 20)), 300)) \
                ORDER BY requested_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS due \
             WHERE runs.answer_id = due.answer_id RETURNING {columns}"
        );
        let rows: Vec<RunRow> =
            sqlx::query_as(&sql).bind(f64::from(after_seconds)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Run::from).collect())
    }
}
