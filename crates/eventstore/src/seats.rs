//! The fair queue: who may have how many answers in flight, and who is next.
//!
//! An answer that is asked for takes one of its account's seats in the command's own transaction; where none is free it
//! waits as a row, in no queue that anybody else stands in. Whoever ends an answer hands its seat to the account's
//! next; the sweeper gives out what fell between, round robin over the accounts.

use polyphony_domain::ids::{AccountId, AnswerId, SessionId, TurnId};
use sqlx::Row;

use crate::{
    Store, StoreError,
    statement::{Done, Statement, Why},
};

/// An account with more seats than this has them in several rows.
const SEATS_PER_SHARD: i32 = 64;
/// Most rows that an account's seats are in.
const MOST_SHARDS: i32 = 16;

/// How many answers may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats {
    /// Answers of one account at a time, where the account has no allowance of its own; none where nobody counts.
    pub in_flight: Option<u32>,
    /// Answers of one account that may wait; more are refused.
    pub waiting: u32,
    /// Jobs of all accounts that no worker has begun; more wait.
    pub unstarted: u32,
}

impl Seats {
    /// Nothing is counted.
    pub const UNCOUNTED: Self = Self { in_flight: None, waiting: u32::MAX, unstarted: u32::MAX };
}

/// An answer that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The answer.
    pub answer_id: AnswerId,
    /// Its place among the account's waiting answers, from 1.
    pub position: u32,
}

/// What a command's side writes have brought about besides.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// Answers of this command that wait for a seat: nobody is to be told of their jobs yet.
    pub waiting: Vec<Waiting>,
    /// Whether an answer that waited has been given a seat: the sweeper is to be told.
    pub seated: bool,
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl Aftermath {
    /// Adds what a statement has brought about.
    pub(crate) fn add(&mut self, done: Done) {
        self.waiting.extend(done.waiting);
        self.seated |= done.seated == Some(true);
    }
}

/// An answer that is asked for.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The answer.
    pub answer_id: AnswerId,
    /// Its turn.
    pub turn_id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
    /// Sequence of the turn's last event after the command.
    pub turn_version: u64,
    /// Refuses a second prompt with the same guard while this one is in flight.
    pub guard: Option<String>,
}

/// Makes an answer known and puts it in flight: on a seat, or waiting for one.
pub(crate) fn create(statement: &mut Statement, run: NewRun, seats: Seats) -> Result<(), StoreError> {
    let NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard } = run;
    let (answer, turn) = (statement.bind(answer_id.as_uuid())?, statement.bind(turn_id.as_uuid())?);
    let (session, owner) = (statement.bind(session_id.as_uuid())?, statement.bind(owner_id.as_uuid())?);
    let version = statement.bind(i64::try_from(turn_version).unwrap_or(i64::MAX))?;
    let guard = statement.bind(guard)?;
    let default = statement.bind(seats.in_flight.map(int))?;
    let (per_shard, most_shards) = (statement.bind(SEATS_PER_SHARD)?, statement.bind(MOST_SHARDS)?);
    let (unstarted, waiting) = (statement.bind(i64::from(seats.unstarted))?, statement.bind(i64::from(seats.waiting))?);
    // Without a place for its job, an answer doesn't even ask for a seat.
    statement.add(format!(
        "known AS (INSERT INTO ops.answers (answer_id, turn_id, session_id, owner_id) \
             VALUES ({answer}, {turn}, {session}, {owner})), \
         allowed AS (SELECT seats, greatest(1, least({most_shards}, seats / {per_shard})) AS shards \
             FROM (SELECT coalesce((SELECT in_flight FROM ops.allowances WHERE account_id = {owner}), {default}) AS seats) \
                 AS own \
             WHERE seats > 0 AND (SELECT count(*) FROM (SELECT FROM ops.runs \
                 WHERE worker IS NULL AND seat IS NOT NULL LIMIT {unstarted}) AS unstarted) < {unstarted}), \
         seat AS (INSERT INTO ops.seats AS own (account_id, shard, taken) \
             SELECT {owner}, abs(hashtext({answer}::text) % shards), 1 \
                 FROM allowed, (SELECT max(position) FROM logged) AS written \
             ON CONFLICT (account_id, shard) DO UPDATE SET taken = own.taken + 1 \
             WHERE own.taken < (SELECT seats / shards FROM allowed) RETURNING shard), \
         run AS (INSERT INTO ops.runs (answer_id, turn_id, session_id, owner_id, turn_version, guard, seat) \
             SELECT {answer}, {turn}, {session}, {owner}, {version}, {guard}, \
                 CASE WHEN {default} IS NULL THEN -1 ELSE (SELECT shard FROM seat) END \
                 FROM (SELECT max(position) FROM logged) AS written RETURNING seat), \
         queued AS MATERIALIZED (SELECT 1 + (SELECT count(*) FROM ops.runs WHERE owner_id = {owner} AND seat IS NULL) \
             AS position FROM run WHERE seat IS NULL)"
    ));
    statement.require(&format!("NOT EXISTS (SELECT FROM queued WHERE position > {waiting})"), Why::QueueFull);
    statement.tell_position("(SELECT position FROM queued)", answer_id);
    Ok(())
}

/// Ends the flight of an answer, if it is in this attempt, and hands its seat to the account's next.
pub(crate) fn end(statement: &mut Statement, answer: AnswerId, attempt: u32) -> Result<(), StoreError> {
    let (answer, attempt) = (statement.bind(answer.as_uuid())?, statement.bind(int(attempt))?);
    // The next one's job counts as never issued, so that the sweeper issues it at once.
    statement.add(format!(
        "gone AS (DELETE FROM ops.runs USING (SELECT max(position) FROM logged) AS written \
             WHERE answer_id = {answer} AND attempt = {attempt} RETURNING owner_id, seat), \
         next AS (UPDATE ops.runs SET seat = (SELECT seat FROM gone), issues = 0, issued_at = '-infinity' \
             WHERE answer_id = (SELECT waiting.answer_id FROM ops.runs AS waiting JOIN gone USING (owner_id) \
                 WHERE waiting.seat IS NULL AND gone.seat >= 0 ORDER BY waiting.requested_at, waiting.answer_id \
                 LIMIT 1 FOR UPDATE OF waiting SKIP LOCKED) RETURNING answer_id), \
         freed AS (UPDATE ops.seats SET taken = taken - 1 FROM gone \
             WHERE seats.account_id = gone.owner_id AND seats.shard = gone.seat AND NOT EXISTS (SELECT FROM next))"
    ));
    statement.tell_seated("(SELECT EXISTS (SELECT FROM next) FROM gone)");
    Ok(())
}

impl Store {
    /// Gives out seats that are free while somebody waits: to the account with the fewest answers in flight first, one
    /// at a time. Their jobs count as never issued. Returns how many were given.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn seat_waiting(&self) -> Result<u64, StoreError> {
        let seats = self.seats;
        let sql = "WITH accounts AS (SELECT owner_id, greatest(1, least($3, seats / $2)) AS shards, seats \
                 FROM (SELECT DISTINCT owner_id, coalesce((SELECT in_flight FROM ops.allowances \
                     WHERE account_id = owner_id), $1, 2147483647) AS seats FROM ops.runs WHERE seat IS NULL) AS own \
                 WHERE seats > 0), \
             rows AS (SELECT owner_id, one.shard, seats / shards AS seats, coalesce(taken, 0) AS taken FROM accounts \
                 CROSS JOIN LATERAL generate_series(0, shards - 1) AS one (shard) \
                 LEFT JOIN ops.seats AS own ON own.account_id = owner_id AND own.shard = one.shard), \
             free AS (SELECT owner_id, shard, taken + n AS load, \
                 row_number() OVER (PARTITION BY owner_id ORDER BY taken + n, shard) AS turn \
                 FROM rows CROSS JOIN LATERAL generate_series(1, least(seats - taken, $4::integer)) AS n), \
             queue AS (SELECT answer_id, owner_id, \
                 row_number() OVER (PARTITION BY owner_id ORDER BY requested_at, answer_id) AS turn \
                 FROM ops.runs WHERE seat IS NULL), \
             room AS (SELECT greatest($4 - count(*), 0) AS room FROM ops.runs WHERE worker IS NULL AND seat IS NOT NULL), \
             chosen AS (SELECT answer_id, owner_id, shard FROM queue JOIN free USING (owner_id, turn) \
                 ORDER BY load, answer_id LIMIT (SELECT room FROM room)), \
             taken AS (INSERT INTO ops.seats AS own (account_id, shard, taken) \
                 SELECT owner_id, shard, count(*)::integer FROM chosen GROUP BY owner_id, shard ORDER BY owner_id, shard \
                 ON CONFLICT (account_id, shard) DO UPDATE SET taken = own.taken + excluded.taken) \
             UPDATE ops.runs SET seat = chosen.shard, issues = 0, issued_at = '-infinity' FROM chosen \
             WHERE runs.answer_id = chosen.answer_id";
        let mut transaction = self.begin().await?;
        // One at a time: two that count the same free seats would give them out twice.
        let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('polyphony seats'))")
            .fetch_one(&mut *transaction)
            .await?;
        if !alone {
            return Ok(0);
        }
        let seated = sqlx::query(sql)
            .bind(seats.in_flight.map(int))
            .bind(SEATS_PER_SHARD)
            .bind(MOST_SHARDS)
            .bind(i64::from(seats.unstarted.min(10_000)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(seated.rows_affected())
    }

    /// Whether anybody waits for a seat.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn anybody_waits(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM ops.runs WHERE seat IS NULL)").fetch_one(&self.pool).await?)
    }

    /// The place of an answer among its account's waiting ones, from 1; `None` when it doesn't wait.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn queue_position(&self, answer: AnswerId) -> Result<Option<u32>, StoreError> {
        let ahead: Option<i64> = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM ops.runs AS other WHERE other.owner_id = own.owner_id AND other.seat IS NULL \
                AND (other.requested_at, other.answer_id) <= (own.requested_at, own.answer_id)) \
             FROM ops.runs AS own WHERE own.answer_id = $1 AND own.seat IS NULL",
        )
        .bind(answer.as_uuid())
        .fetch_optional(&self.pool)
        .await?;
        Ok(ahead.map(|ahead| u32::try_from(ahead).unwrap_or(u32::MAX)))
    }

    /// Answers in flight and waiting of an account, and the seats that it has.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn seats_of(&self, owner: AccountId) -> Result<SeatsOf, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT in_flight FROM ops.allowances WHERE account_id = $1), \
                count(*) FILTER (WHERE seat IS NOT NULL), count(*) FILTER (WHERE seat IS NULL) \
             FROM ops.runs WHERE owner_id = $1",
        )
        .bind(owner.as_uuid())
        .fetch_one(&self.pool)
        .await?;
        let count = |index| Ok::<_, StoreError>(u32::try_from(row.try_get::<i64, _>(index)?).unwrap_or(u32::MAX));
        let own = row.try_get::<Option<i32>, _>(0)?.and_then(|own| u32::try_from(own).ok());
        let allowance = self.seats.in_flight.map(|default| own.unwrap_or(default));
        Ok(SeatsOf { allowance, in_flight: count(1)?, waiting: count(2)?, most_waiting: self.seats.waiting })
    }
}

/// The seats of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatsOf {
    /// Answers that it may have in flight; none where nobody counts.
    pub allowance: Option<u32>,
    /// Answers that it has in flight.
    pub in_flight: u32,
    /// Answers that wait.
    pub waiting: u32,
    /// Answers that may wait.
    pub most_waiting: u32,
}
