//! The log on a real Postgres: order, conformance with the stock reader, append only, erasure.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use cqrs_es::persist::PersistedEventRepository;
use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::Cursor,
    session::{Session, SessionCommand},
};
use polyphony_eventstore::{CommandContext, Root, Store};
use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use polyphony_testkit::{TestDatabase, database};
use postgres_es::PostgresEventRepository;
use uuid::Uuid;

async fn store(database: &TestDatabase) -> Store {
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 16,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    Store::connect(&config, KekRing::generate()).await.unwrap()
}

fn context(owner: AccountId) -> CommandContext {
    let mut context = CommandContext::internal(owner, "user", Uuid::now_v7());
    context.ip = Some([192, 0, 2, 7].into());
    context
}

async fn open(store: &Store, title: &str) -> (AccountId, SessionId) {
    let (owner, id) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
    let command = SessionCommand::Open { owner_id: owner, title: Some(title.into()), model: None, system_prompt: None };
    let command =
        store.command::<Session>(context(owner), Root::New(id.as_uuid())).from_nothing().run(id.as_uuid(), command);
    assert_eq!(command.await.unwrap().version, 1);
    (owner, id)
}

fn rename(title: String) -> SessionCommand {
    SessionCommand::Change { title: Some(title), system_prompt: None, metadata: None }
}

#[tokio::test]
async fn a_reader_in_commit_order_misses_nothing_and_sees_nothing_twice() {
    let database = database().await;
    let store = store(&database).await;
    let writers = (0..12_u32).map(|writer| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            for round in 0..40_u32 {
                let mut transaction = pool.begin().await.unwrap();
                for sequence in 1..=1 + (round % 3) {
                    sqlx::query(
                        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                         metadata, event_id, root_id, owner_id) VALUES ('race', $1, $2, 'raced', '1', '{}', '{}', \
                         gen_random_uuid(), gen_random_uuid(), gen_random_uuid())",
                    )
                    .bind(Uuid::from_u128(u128::from(writer) << 64 | u128::from(round)).to_string())
                    .bind(i64::from(sequence))
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                    // Inside the transaction: whoever took an earlier position commits later.
                    sqlx::query("SELECT pg_sleep($1)").bind(f64::from((writer * 7 + round) % 11) / 2_000.0).execute(&mut *transaction).await.unwrap();
                }
                if (writer + round) % 20 == 0 { transaction.rollback().await.unwrap() } else { transaction.commit().await.unwrap() }
            }
        })
    });
    let writers = futures::future::join_all(writers.collect::<Vec<_>>());
    let reader = async {
        let (mut at, mut seen, mut idle) = (Cursor::default(), Vec::new(), 0);
        while idle < 40 {
            let events = store.read_after(at, 100).await.unwrap();
            idle = if events.is_empty() { idle + 1 } else { 0 };
            for event in events {
                assert!(event.cursor > at, "the order went back");
                at = event.cursor;
                seen.push(event.cursor.position);
            }
            tokio::task::yield_now().await;
            if idle > 0 {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        seen
    };
    let (_, seen) = tokio::join!(writers, reader);
    let stored: Vec<i64> = sqlx::query_scalar("SELECT position FROM events").fetch_all(&database.pool).await.unwrap();
    let (unique, stored): (HashSet<i64>, HashSet<i64>) = (seen.iter().copied().collect(), stored.into_iter().collect());
    assert!(stored.len() > 700);
    assert_eq!((seen.len(), unique), (stored.len(), stored));
}

#[tokio::test]
async fn fifty_commands_at_once_leave_a_sequence_without_holes() {
    let database = database().await;
    let store = Arc::new(store(&database).await);
    let (owner, id) = open(&store, "Tea").await;
    let renames = (0..50).map(|n| {
        let store = store.clone();
        async move {
            let command = store.command::<Session>(context(owner), Root::Existing(id.as_uuid()));
            command.run(id.as_uuid(), rename(format!("title {n}"))).await.is_ok()
        }
    });
    let done = futures::future::join_all(renames).await.into_iter().filter(|done| *done).count();
    let sequences: Vec<i64> = sqlx::query_scalar("SELECT sequence FROM events ORDER BY xid, position")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(sequences, (1..=i64::try_from(done).unwrap() + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_stock_reader_reads_the_same_rows() {
    let database = database().await;
    let store = store(&database).await;
    let (owner, id) = open(&store, "Tea").await;
    let command = store.command::<Session>(context(owner), Root::Existing(id.as_uuid()));
    command.run(id.as_uuid(), rename("Coffee".into())).await.unwrap();
    let stock = PostgresEventRepository::new(database.pool.clone());
    let theirs = stock.get_events::<Session>(&id.to_string()).await.unwrap();
    // Another transaction of the server, in whatever database, may hold the horizon back for a moment.
    let ours = loop {
        let ours = store.read_after(Cursor::default(), 10).await.unwrap();
        if ours.len() == theirs.len() {
            break ours;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(theirs.len(), 2);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.aggregate_id, ours.aggregate_id.to_string());
        assert_eq!((theirs.sequence as u64, &theirs.event_type), (ours.sequence, &ours.event_type));
        assert_eq!((&theirs.payload, &theirs.metadata), (&ours.payload, &ours.metadata));
        assert_eq!((&theirs.event_version, &theirs.aggregate_type), (&ours.event_version, &ours.aggregate_type));
    }
}

#[tokio::test]
async fn personal_data_is_sealed_in_the_log_and_goes_with_its_key() {
    let database = database().await;
    let store = store(&database).await;
    let (_, id) = open(&store, "a canary in Chinese: 金丝雀").await;
    let dump: String = sqlx::query_scalar("SELECT string_agg(payload::text || metadata::text, '') FROM events")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(!dump.contains("canary") && !dump.contains("金丝雀") && !dump.contains("192.0.2.7"), "{dump}");
    let (session, _) = store.load::<Session>(id.as_uuid()).await.unwrap();
    assert_eq!(session.title.unwrap().as_str(), "a canary in Chinese: 金丝雀");
    sqlx::query("UPDATE ops.data_keys SET wrapped = NULL, destroyed_at = now()").execute(&database.pool).await.unwrap();
    // Another process: it has no key in memory.
    let other = self::store(&database).await;
    let (session, version) = other.load::<Session>(id.as_uuid()).await.unwrap();
    assert_eq!((session.title.unwrap().as_str(), version), ("[erased]", 1));
}

#[tokio::test]
async fn the_log_can_only_grow() {
    let database = database().await;
    let store = store(&database).await;
    open(&store, "Tea").await;
    for statement in
        ["UPDATE events SET event_type = 'x'", "DELETE FROM events", "TRUNCATE events", "TRUNCATE events_default"]
    {
        let refused = sqlx::query(statement).execute(&database.pool).await.unwrap_err();
        assert!(refused.to_string().contains("append only"), "{statement}: {refused}");
    }
}

#[tokio::test]
async fn a_command_whose_commit_fails_has_failed() {
    let database = database().await;
    let store = store(&database).await;
    // It refuses at the very end: after the statement has given its row, and before it is committed.
    for statement in [
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON ops.data_keys DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION late()",
    ] {
        sqlx::query(statement).execute(&database.pool).await.unwrap();
    }
    let (owner, id) = (AccountId::new(Uuid::now_v7()), Uuid::now_v7());
    let command = SessionCommand::Open { owner_id: owner, title: None, model: None, system_prompt: None };
    let opened = store.command::<Session>(context(owner), Root::New(id)).from_nothing().run(id, command).await;
    assert!(opened.is_err(), "{opened:?}");
    assert_eq!(store.load::<Session>(id).await.unwrap().1, 0);
}

#[tokio::test]
async fn a_transaction_that_nobody_waits_for_any_more_swallows_no_command() {
    let database = database().await;
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 1,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    let store = Store::connect(&config, KekRing::generate()).await.unwrap();
    for _ in 0..50 {
        // Given up with `BEGIN` on its way: the first time it is asked, it sends that.
        {
            let mut beginning = std::pin::pin!(store.begin());
            let _ = futures::poll!(beginning.as_mut());
            tokio::task::yield_now().await;
        }
        let (_, session) = open(&store, "Tea").await;
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE root_id = $1")
            .bind(session.as_uuid())
            .fetch_one(&database.pool)
            .await
            .unwrap();
        assert_eq!(seen, 1);
    }
}
