//! One statement for a whole command: its events, and the rows that change with them.
//!
//! The parts of a statement see and lock the same rows as statements in a transaction would, and are committed or taken
//! back together, with one round trip instead of one for each and two for the transaction around them (ADR 41). What is
//! written beside the events waits for them: their primary key is what orders two commands on one aggregate.

use polyphony_domain::{ids::AnswerId, record::Cursor};
use sqlx::{Arguments, Encode, PgExecutor, Postgres, Row, Type, error::DatabaseError, postgres::PgArguments};

use crate::{StoreError, error::Refused, seats::Waiting};

/// SQLSTATE of `ops.refuse`; its message is the word for the refusal.
const REFUSED: &str = "PY001";

/// A statement that is being put together.
pub(crate) struct Statement {
    arguments: PgArguments,
    parts: Vec<String>,
    checks: Vec<String>,
    seated: &'static str,
    position: Option<(&'static str, AnswerId)>,
}

/// What a statement has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Place of the last event.
    pub(crate) cursor: Cursor,
    /// Whether the end of an answer gave its seat to another; none where no answer was ended.
    pub(crate) seated: Option<bool>,
    /// The new answer, where it has to wait.
    pub(crate) waiting: Option<Waiting>,
}

impl Statement {
    /// A statement with nothing in it yet.
    pub(crate) fn new() -> Self {
        let (parts, checks) = (vec![], vec![]);
        Self { arguments: PgArguments::default(), parts, checks, seated: "NULL::boolean", position: None }
    }

    /// A statement that stands beside others in a transaction whose events have been written.
    pub(crate) fn without_events() -> Self {
        let mut statement = Self::new();
        statement.add("logged AS (SELECT NULL::xid8 AS xid, NULL::bigint AS position)".to_owned());
        statement
    }

    /// Adds a value and returns its placeholder.
    pub(crate) fn bind<'q, T: Encode<'q, Postgres> + Type<Postgres> + 'q>(
        &mut self,
        value: T,
    ) -> Result<String, StoreError> {
        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        Ok(format!("${}", self.arguments.len()))
    }

    /// Adds `name AS (query)`. What must not happen before the events are written reads from `logged`.
    pub(crate) fn add(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Takes everything back unless the condition holds.
    pub(crate) fn require(&mut self, condition: &str, otherwise: Why) {
        let word = otherwise.word();
        self.checks.push(format!("CASE WHEN {condition} THEN 0 ELSE ops.refuse('{word}') END"));
    }

    /// Names what says whether a seat went to another answer.
    pub(crate) const fn tell_seated(&mut self, expression: &'static str) {
        self.seated = expression;
    }

    /// Names what says where a new answer stands in the queue, from 1; null where it has a seat.
    pub(crate) const fn tell_position(&mut self, expression: &'static str, answer: AnswerId) {
        self.position = Some((expression, answer));
    }

    /// Executes it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where something in it was refused, else the database's.
    pub(crate) async fn run(self, executor: impl PgExecutor<'_>) -> Result<Done, StoreError> {
        let Self { arguments, parts, checks, seated, position } = self;
        let queued = position.map_or("NULL::bigint", |(expression, _)| expression);
        let checks = if checks.is_empty() { "0".to_owned() } else { checks.join(" + ") };
        let sql = format!(
            "WITH {} SELECT (SELECT xid::text FROM logged LIMIT 1), (SELECT max(position) FROM logged), \
             {seated}, {queued}, {checks}",
            parts.join(", ")
        );
        let row = sqlx::query_with(&sql, arguments).fetch_one(executor).await.map_err(understood)?;
        let xid: Option<String> = row.try_get(0)?;
        let xid = xid.map_or(Ok(0), |xid| xid.parse()).map_err(|_| sqlx::Error::Decode("xid".into()))?;
        let cursor = Cursor { xid, position: row.try_get::<Option<i64>, _>(1)?.unwrap_or(0) };
        let place = row.try_get::<Option<i64>, _>(3)?.map(|place| u32::try_from(place).unwrap_or(u32::MAX));
        let waiting = place.zip(position).map(|(position, (_, answer_id))| Waiting { answer_id, position });
        Ok(Done { cursor, seated: row.try_get(2)?, waiting })
    }
}

/// Why a statement takes itself back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    RunTaken,
    QueueFull,
    TreeChanged,
    Erased,
}

impl Why {
    const ALL: [Self; 4] = [Self::RunTaken, Self::QueueFull, Self::TreeChanged, Self::Erased];

    /// The word for it in the database.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::RunTaken => "run_taken",
            Self::QueueFull => "queue_full",
            Self::TreeChanged => "tree_changed",
            Self::Erased => "erased",
        }
    }

    fn of(word: &str) -> Option<StoreError> {
        let why = Self::ALL.into_iter().find(|why| why.word() == word)?;
        Some(match why {
            Self::RunTaken => Refused::RunTaken.into(),
            Self::QueueFull => Refused::QueueFull.into(),
            Self::TreeChanged => Refused::TreeChanged.into(),
            Self::Erased => StoreError::Erased,
        })
    }
}

/// What the database tells as an error and is none.
fn understood(error: sqlx::Error) -> StoreError {
    error.as_database_error().and_then(refused).unwrap_or_else(|| error.into())
}

fn refused(error: &dyn DatabaseError) -> Option<StoreError> {
    if error.code().as_deref() == Some(REFUSED) {
        return Why::of(error.message());
    }
    match error.table().filter(|_| error.is_unique_violation())? {
        "idempotency" => Some(Refused::IdempotencyKeyUsed.into()),
        // The guard: another prompt has the place.
        "runs" => Some(Refused::GenerationInProgress.into()),
        _ => None,
    }
}
