//! What the tests have in common: a stack, and what must come of its log.

use std::{collections::HashMap, sync::Arc, time::Duration};

use polyphony_bus::Bus;
use polyphony_domain::record::{Cursor, StoredEvent};
use polyphony_eventstore::Store;
use polyphony_platform::{
    config::{DatabaseConfig, ProjectorConfig},
    secrets::KekRing,
};
use polyphony_testkit::{Private, TestDatabase, clickhouse_database, database, private_nats};
use serde_json::Value;
use sqlx::Row;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    checkpoint,
    message_thread::MessageThread,
    model::{self, RowModel},
    reads::ReadModels,
    runner::{self, Deps, Rows},
    session_list::SessionList,
    typed::{self, TypedEvent},
    usage,
};

/// All three checkpoints.
pub(super) const NAMES: [&str; 3] = [SessionList::NAME, MessageThread::NAME, usage::NAME];

/// A database, a NATS server and a ClickHouse database of one test.
pub(super) struct Stack {
    pub(super) database: TestDatabase,
    pub(super) nats: Private,
    pub(super) deps: Deps,
}

pub(super) fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig {
        url: url.to_owned(),
        max_connections: 20,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    }
}

impl Stack {
    /// `poll_ms` is also how long a fenced projector stands by.
    pub(super) async fn new(batch: u32, poll_ms: u64) -> Self {
        let (database, nats, clickhouse) = tokio::join!(database(), private_nats(), clickhouse_database());
        let store = Store::connect(&config(&database.url), KekRing::generate()).await.unwrap();
        let bus = Bus::connect(nats.url(), "test").await.unwrap();
        let clickhouse = clickhouse::Client::default().with_url(&clickhouse.url).with_database(&clickhouse.name);
        usage::ensure(&clickhouse, 0).await.unwrap();
        let deps = Deps { store, bus, clickhouse, config: ProjectorConfig { batch, poll_ms } };
        Self { database, nats, deps }
    }

    pub(super) fn store(&self) -> &Store {
        &self.deps.store
    }

    pub(super) fn reads(&self) -> ReadModels {
        ReadModels::new(self.deps.store.clone(), self.deps.clickhouse.clone())
    }

    /// Runs all projections until the token is cancelled or the task aborted.
    pub(super) fn project(&self) -> (JoinHandle<()>, CancellationToken) {
        let stop = CancellationToken::new();
        (tokio::spawn(runner::run_all(self.deps.clone(), stop.clone())), stop)
    }

    pub(super) async fn at(&self, name: &str) -> Cursor {
        checkpoint::load(self.store().pool(), name).await.unwrap().cursor
    }

    /// The newest event, also above the horizon: that is held back by the transactions of other tests, too.
    pub(super) async fn newest(&self) -> Cursor {
        let sql = "SELECT e.xid::text, e.position FROM events AS e ORDER BY e.xid DESC, e.position DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&self.database.pool).await.unwrap();
        row.map_or_else(Cursor::default, |row| checkpoint::cursor(row.get(0), row.get(1)).unwrap())
    }

    /// The whole log, once all of it is below the horizon.
    pub(super) async fn stored(&self) -> Vec<StoredEvent> {
        let newest = self.newest().await;
        eventually("the horizon", async || self.store().head().await.unwrap() >= newest).await;
        self.store().read_after(Cursor::default(), 1_000_000).await.unwrap()
    }

    /// Waits until these projections are level with the log.
    pub(super) async fn level(&self, names: &[&str]) {
        let head = self.newest().await;
        for name in names {
            eventually(name, async || self.at(name).await >= head).await;
        }
    }

    /// Runs everything until level.
    pub(super) async fn project_to_the_end(&self) {
        let (task, stop) = self.project();
        self.level(&NAMES).await;
        stop.cancel();
        task.await.unwrap();
    }

    /// Runs one of the Postgres models.
    pub(super) fn project_one<M: RowModel>(&self) -> (JoinHandle<()>, CancellationToken) {
        let stop = CancellationToken::new();
        (tokio::spawn(runner::run(Rows::<M>::new(), Arc::new(self.deps.clone()), stop.clone())), stop)
    }

    /// The whole log, opened.
    pub(super) async fn log(&self) -> Vec<TypedEvent> {
        typed::read(self.store(), self.stored().await).await.unwrap().0
    }

    /// What a table holds, as JSON.
    pub(super) async fn table(&self, name: &str) -> HashMap<Uuid, Value> {
        let rows = sqlx::query(&format!("SELECT id, data FROM {name}")).fetch_all(&self.database.pool).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        sqlx::query(sql).fetch_one(&self.database.pool).await.unwrap().get(0)
    }

    /// Fails unless tables and facts are what the log says.
    pub(super) async fn expect_all_equal_to_the_log(&self) {
        let log = self.log().await;
        assert_eq!(self.table(SessionList::TABLE).await, folded::<SessionList>(&log));
        assert_eq!(self.table(MessageThread::TABLE).await, folded::<MessageThread>(&log));
        self.expect_usage_equal_to_the_log().await;
    }

    pub(super) async fn expect_usage_equal_to_the_log(&self) {
        let log = self.log().await;
        let epoch = checkpoint::load(self.store().pool(), usage::NAME).await.unwrap().epoch;
        assert_eq!(self.sums(epoch).await, sums_of(&log));
    }

    /// Requests, output tokens and cost in the facts, the hours and the days.
    pub(super) async fn sums(&self, epoch: i64) -> [(u64, u64, i64); 3] {
        let sums = async |table: &str, requests: &str| {
            let sql =
                format!("SELECT {requests}, sum(tokens_output), sum(cost_nanos) FROM {}", usage::table(table, epoch));
            self.deps.clickhouse.query(&sql).fetch_one::<(u64, u64, i64)>().await.unwrap()
        };
        [
            sums("usage_events", "count()").await,
            sums("usage_hourly", "sum(requests)").await,
            sums("usage_daily", "sum(requests)").await,
        ]
    }
}

/// Sums as the log has them.
pub(super) fn sums_of(log: &[TypedEvent]) -> [(u64, u64, i64); 3] {
    let mut sums = (0, 0, 0);
    for event in log {
        let typed::Payload::Turn(turn) = &event.payload else { continue };
        let Some((_, record)) = turn.end().filter(|(_, record)| record.attempt > 0) else { continue };
        sums = (sums.0 + 1, sums.1 + record.usage.output, sums.2 + record.cost.0);
    }
    [sums; 3]
}

/// The rows that the log makes when it is folded at once.
pub(super) fn folded<M: RowModel>(log: &[TypedEvent]) -> HashMap<Uuid, Value> {
    let mut rows = HashMap::new();
    model::reduce_all::<M>(&mut rows, log);
    rows.into_iter().map(|(id, row)| (id, serde_json::to_value(row).unwrap())).collect()
}

/// Waits until something is so; a minute is for ever.
pub(super) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what}: never"));
}

/// Publishes the log as the relay does, from `after` on, but for what `skip` says.
pub(super) async fn relay(stack: &Stack, after: Cursor, skip: impl Fn(usize) -> bool) -> Cursor {
    let mut previous = after;
    let events = stack.stored().await.into_iter().filter(|event| event.cursor > after);
    for (index, event) in events.enumerate() {
        if !skip(index) {
            stack.deps.bus.publish_event(&event, previous).await.unwrap().await.unwrap();
        }
        previous = event.cursor;
    }
    previous
}
