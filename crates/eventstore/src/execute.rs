//! Executing a command: load, decide, append. `cqrs-es` drives it; this module is the `EventStore` behind it.
//!
//! Events, idempotency row and side writes are committed together, the events first: by one statement, where all of it
//! fits into one. A conflict (another command appended to the same aggregate meanwhile) is decided again, a bounded number
//! of times.

use std::{
    collections::{HashMap, HashSet},
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cqrs_es::{Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventEnvelope, EventStore};
use polyphony_domain::{ids::EventId, record::Cursor};
use polyphony_platform::{armed, failpoint, mutated, vault::Dek};
use rand::Rng;
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    CommandContext, Effect, Store, StoreError,
    error::Refused,
    idempotency::{IdempotencyKey, StoredResponse},
    insert::Batch,
    keys,
    sealing::Binding,
    seats::Aftermath,
    statement::Statement,
    tree::Beside,
};

/// Longest pause of a command that met a conflict, in milliseconds.
const LONGEST_JITTER_MS: u64 = 500;
/// How often a command that met a conflict is decided again.
const RETRIES: u32 = 8;

/// The session or account whose data key seals the events.
#[derive(Clone, Copy, Debug)]
pub enum Root {
    /// It exists.
    Existing(Uuid),
    /// It begins with this command: its data key is made in the same transaction.
    New(Uuid),
}

impl Root {
    const fn id(self) -> Uuid {
        match self {
            Self::Existing(id) | Self::New(id) => id,
        }
    }
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Executed<A> {
    /// The aggregate after it.
    pub aggregate: A,
    /// Sequence of its last event.
    pub version: u64,
    /// Place of the last event in commit order; `None` when the command changed nothing.
    pub cursor: Option<Cursor>,
    /// What its side writes have brought about besides.
    pub after: Aftermath,
}

/// Why a command was not executed. Nothing was appended.
#[derive(Debug, Error)]
pub enum ExecuteError<E> {
    /// The aggregate refuses.
    #[error("the command was refused")]
    Domain(#[source] E),
    /// Others kept changing the aggregate.
    #[error("the command kept meeting conflicts")]
    Conflict,
    /// The store failed or refused a side write.
    #[error(transparent)]
    Store(StoreError),
}

impl<E> ExecuteError<E> {
    /// The refused side write, if that was it.
    pub const fn refused(&self) -> Option<Refused> {
        match self {
            Self::Store(StoreError::Refused(refused)) => Some(*refused),
            _ => None,
        }
    }
}

type MakeEffects<A> = Arc<dyn Fn(&A, u64) -> Vec<Effect> + Send + Sync>;
type MakeResponse<A> = Arc<dyn Fn(&A) -> StoredResponse + Send + Sync>;

/// A command about to be executed.
#[must_use = "nothing happens before `run`"]
pub struct Execute<A: Aggregate> {
    store: Store,
    context: CommandContext,
    root: Root,
    known: Option<(A, u64)>,
    effects: Option<MakeEffects<A>>,
    idempotency: Option<(IdempotencyKey, MakeResponse<A>)>,
    beside: Beside,
    retries: u32,
}

impl Store {
    /// Begins to describe a command on an aggregate under `root`.
    pub fn command<A: Aggregate + Clone + 'static>(&self, context: CommandContext, root: Root) -> Execute<A> {
        let (known, effects, idempotency, beside) = (None, None, None, Beside::default());
        Execute { store: self.clone(), context, root, known, effects, idempotency, beside, retries: RETRIES }
    }
}

impl<A> Execute<A>
where
    A: Aggregate + Clone + fmt::Debug + 'static,
    A::Services: Default,
    A::Command: Clone,
    A::Error: Send + Sync + 'static,
{
    /// Decides on this state first instead of loading it; a conflict loads it after all.
    pub fn from_known(mut self, aggregate: A, version: u64) -> Self {
        self.known = Some((aggregate, version));
        self
    }

    /// The aggregate is new: there is nothing to load.
    pub fn from_nothing(self) -> Self {
        self.from_known(A::default(), 0)
    }

    /// Side writes, made from the aggregate and its version after the command.
    pub fn effects(mut self, make: impl Fn(&A, u64) -> Vec<Effect> + Send + Sync + 'static) -> Self {
        self.effects = Some(Arc::new(make));
        self
    }

    /// Who else may be at work under the same root until the commit.
    pub fn beside(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    /// Keeps the answer under the caller's key, made from the aggregate after the command.
    pub fn idempotent(
        mut self,
        key: Option<IdempotencyKey>,
        respond: impl Fn(&A) -> StoredResponse + Send + Sync + 'static,
    ) -> Self {
        self.idempotency = key.map(|key| (key, Arc::new(respond) as MakeResponse<A>));
        self
    }

    /// Executes the command.
    ///
    /// # Errors
    /// The aggregate's refusal, [`ExecuteError::Conflict`] after some tries, or the store's failure. Nothing was
    /// appended, unless the connection broke during the commit itself.
    pub async fn run(mut self, id: Uuid, command: A::Command) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let started = Instant::now();
        let mut tries = 0;
        let result = loop {
            let done = Arc::new(Mutex::new(None));
            let attempt = Attempt { execute: &self, done: done.clone() };
            let framework = CqrsFramework::<A, _>::new(attempt.detach(), vec![], A::Services::default());
            let metadata = self.context.metadata();
            match framework.execute_with_metadata(&id.to_string(), command.clone(), metadata).await {
                Ok(()) => {
                    let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
                    break done.ok_or(ExecuteError::Conflict);
                }
                Err(AggregateError::AggregateConflict) if tries < self.retries => {
                    metrics::counter!("polyphony_append_conflicts_total").increment(1);
                    tries += 1;
                    self.known = None;
                    // Wide enough for dozens of commands on one aggregate to find their turn.
                    let jitter = rand::rng().random_range(1..=(8_u64 << tries).min(LONGEST_JITTER_MS));
                    tokio::time::sleep(Duration::from_millis(jitter)).await;
                }
                Err(AggregateError::AggregateConflict) => break Err(ExecuteError::Conflict),
                Err(AggregateError::UserError(error)) => break Err(ExecuteError::Domain(error)),
                Err(
                    AggregateError::DatabaseConnectionError(error)
                    | AggregateError::DeserializationError(error)
                    | AggregateError::UnexpectedError(error),
                ) => {
                    break Err(ExecuteError::Store(match error.downcast::<StoreError>() {
                        Ok(error) => *error,
                        Err(other) => StoreError::Database(sqlx::Error::Protocol(other.to_string())),
                    }));
                }
            }
        };
        metrics::histogram!("polyphony_event_append_seconds").record(started.elapsed().as_secs_f64());
        result
    }
}

/// One try at a command.
struct Attempt<'a, A: Aggregate> {
    execute: &'a Execute<A>,
    done: Arc<Mutex<Option<Executed<A>>>>,
}

impl<A: Aggregate + Clone> Attempt<'_, A> {
    fn detach(self) -> Append<A> {
        Append {
            store: self.execute.store.clone(),
            owner: self.execute.context.owner,
            root: self.execute.root,
            known: self.execute.known.clone(),
            effects: self.execute.effects.clone(),
            idempotency: self.execute.idempotency.clone(),
            beside: self.execute.beside,
            done: self.done,
        }
    }
}

/// The `EventStore` of one try.
struct Append<A: Aggregate> {
    store: Store,
    owner: polyphony_domain::ids::AccountId,
    root: Root,
    known: Option<(A, u64)>,
    effects: Option<MakeEffects<A>>,
    idempotency: Option<(IdempotencyKey, MakeResponse<A>)>,
    beside: Beside,
    done: Arc<Mutex<Option<Executed<A>>>>,
}

/// An aggregate with the sequence of its last event.
struct Loaded<A> {
    id: Uuid,
    aggregate: A,
    version: u64,
}

impl<A: Aggregate> AggregateContext<A> for Loaded<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

fn boxed<E: std::error::Error>(error: StoreError) -> AggregateError<E> {
    AggregateError::DatabaseConnectionError(Box::new(error))
}

impl<A: Aggregate + Clone + 'static> EventStore<A> for Append<A> {
    type AC = Loaded<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        self.store.envelopes::<A>(aggregate_id).await.map_err(boxed)
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loaded<A>, AggregateError<A::Error>> {
        let id = aggregate_id.parse().map_err(|error| AggregateError::UnexpectedError(Box::new(error)))?;
        if let Some((aggregate, version)) = self.known.clone() {
            return Ok(Loaded { id, aggregate, version });
        }
        let (aggregate, version) = self.store.load::<A>(id).await.map_err(boxed)?;
        Ok(Loaded { id, aggregate, version })
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: Loaded<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        match self.append(events, &context, metadata).await {
            Ok(written) => {
                let version = context.version + written.count;
                let Written { cursor, after, .. } = written;
                let executed = Executed { aggregate: context.aggregate, version, cursor, after };
                *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(executed);
                // No inline queries are registered, so nobody needs the envelopes.
                Ok(vec![])
            }
            Err(AppendError::Conflict) => Err(AggregateError::AggregateConflict),
            Err(AppendError::Store(error)) => Err(boxed(error)),
        }
    }
}

struct Written {
    count: u64,
    cursor: Option<Cursor>,
    after: Aftermath,
}

enum AppendError {
    Conflict,
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for AppendError {
    fn from(error: E) -> Self {
        let error = error.into();
        match &error {
            StoreError::Database(sqlx::Error::Database(database))
                if database.is_unique_violation()
                    && database.table().is_some_and(|table| table.starts_with("events")) =>
            {
                Self::Conflict
            }
            _ => Self::Store(error),
        }
    }
}

impl<A: Aggregate + Clone + 'static> Append<A> {
    async fn append(
        &self,
        events: Vec<A::Event>,
        context: &Loaded<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Written, AppendError> {
        let count = events.len() as u64;
        let effects = self.effects.as_ref().map(|make| make(&context.aggregate, context.version + count));
        let effects = if count == 0 { None } else { effects };
        if count == 0 && self.idempotency.is_none() {
            return Ok(Written { count, cursor: None, after: Aftermath::default() });
        }
        let (key, new_key) = match self.root {
            Root::New(root) => {
                let (key, wrapped) = self.store.keys.generate(root, self.owner);
                (key, Some(wrapped))
            }
            Root::Existing(root) => (self.store.data_key(root).await?, None),
        };
        let mut statement = if count == 0 { Statement::without_events() } else { Statement::new() };
        if count > 0 {
            self.seal(events, context, metadata, &key)?.write(&mut statement, self.beside)?;
        }
        if let Some(wrapped) = new_key {
            keys::write(&mut statement, self.root.id(), self.owner, wrapped)?;
        }
        if let Some((idempotency, respond)) = &self.idempotency
            && !mutated!("forget_idempotency")
        {
            let is_root = idempotency.scope.as_uuid() == self.root.id();
            let scope = if is_root { key.clone() } else { self.store.data_key(idempotency.scope.as_uuid()).await? };
            idempotency.clone().remember(&mut statement, &scope, &respond(&context.aggregate))?;
        }
        // One of a kind becomes a part of the statement; the others come after it.
        let (mut kinds, mut others) = (HashSet::new(), Vec::new());
        for effect in effects.unwrap_or_default() {
            if kinds.insert(mem::discriminant(&effect)) {
                others.extend(effect.write(&mut statement, self.store.seats)?);
            } else {
                others.push(effect);
            }
        }
        let mut after = Aftermath::default();
        if mutated!("reply_without_commit") && A::TYPE == "turn" && context.version == 0 {
            let mut transaction = self.store.begin().await?;
            let done = statement.run(&mut *transaction).await?;
            transaction.rollback().await?;
            return Ok(Written { count, cursor: Some(done.cursor), after });
        }
        let done = if others.is_empty() && !armed!("store.before_commit" of A::TYPE) {
            statement.run(&self.store.pool).await?
        } else {
            let mut transaction = self.store.begin().await?;
            let done = statement.run(&mut *transaction).await?;
            for effect in others {
                effect.apply(&mut transaction, self.store.seats, &mut after).await?;
            }
            failpoint!("store.before_commit" of A::TYPE);
            transaction.commit().await?;
            done
        };
        failpoint!("store.after_commit" of A::TYPE);
        after.add(done);
        if let Root::New(root) = self.root {
            self.store.keys.remember(root, self.owner, Some(key));
        }
        Ok(Written { count, cursor: (count > 0).then_some(done.cursor), after })
    }

    fn seal(
        &self,
        events: Vec<A::Event>,
        context: &Loaded<A>,
        metadata: HashMap<String, String>,
        key: &Dek,
    ) -> Result<Batch, StoreError> {
        let mut batch = Batch {
            aggregate_type: A::TYPE,
            aggregate_id: context.id,
            root_id: self.root.id(),
            owner_id: self.owner.as_uuid(),
            ..Batch::default()
        };
        let metadata: serde_json::Map<String, Value> =
            metadata.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
        let first = context.version + if mutated!("skip_sequence") { 2 } else { 1 };
        for (event, sequence) in events.into_iter().zip(first..) {
            let event_id = EventId::new(Uuid::now_v7());
            let (event_type, event_version) = (event.event_type(), event.event_version());
            let binding = Binding {
                event_id,
                aggregate_type: A::TYPE,
                aggregate_id: context.id,
                sequence,
                event_type: &event_type,
            };
            let mut payload = serde_json::to_value(&event)?;
            binding.seal_payload(key, &mut payload);
            let mut metadata = metadata.clone();
            binding.seal_metadata(key, &mut metadata);
            batch.sequences.push(i64::try_from(sequence).unwrap_or(i64::MAX));
            batch.types.push(event_type);
            batch.versions.push(event_version);
            batch.payloads.push(payload.to_string());
            batch.metadata.push(Value::Object(metadata).to_string());
            batch.event_ids.push(event_id.as_uuid());
        }
        Ok(batch)
    }
}
