//! Building anew gives what is there, while it is there and goes on.

use polyphony_domain::record::Cursor;
use tokio::task::JoinHandle;

use super::{
    stack::{NAMES, Stack, eventually},
    writer::Writer,
};
use crate::{ProjectionError, checkpoint, message_thread::MessageThread, model::RowModel, rebuild, usage};

/// Events that no model wants, so that a log takes several batches to read.
async fn noise(stack: &Stack, events: i32) {
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
         event_id, root_id, owner_id) SELECT 'noise', gen_random_uuid()::text, 1, 'made', '1', '{}', '{}', \
         gen_random_uuid(), gen_random_uuid(), gen_random_uuid() FROM generate_series(1, $1)",
    )
    .bind(events)
    .execute(&stack.database.pool)
    .await
    .unwrap();
    let newest = stack.newest().await;
    eventually("the horizon", async || stack.store().head().await.unwrap() >= newest).await;
}

/// A rebuild that is held up by a lock after its first batch.
async fn in_the_middle(
    stack: &Stack,
) -> (sqlx::Transaction<'static, sqlx::Postgres>, JoinHandle<Result<rebuild::Built, ProjectionError>>) {
    for sql in [
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$",
        "CREATE TRIGGER gate BEFORE UPDATE ON read.rebuilds FOR EACH ROW WHEN (OLD.events > 0) EXECUTE FUNCTION gate()",
    ] {
        sqlx::query(sql).execute(&stack.database.pool).await.unwrap();
    }
    let mut gate = stack.database.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(4711)").execute(&mut *gate).await.unwrap();
    let (store, clickhouse) = (stack.store().clone(), stack.deps.clickhouse.clone());
    let building = tokio::spawn(async move { rebuild::rebuild(&store, &clickhouse, MessageThread::NAME).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
    eventually("the build waits", async || stack.number(waiting).await == 1).await;
    (gate, building)
}

#[tokio::test]
async fn a_rebuild_beside_the_living_equals_it_and_can_be_repeated() {
    let stack = Stack::new(16, 10).await;
    let (store, clickhouse) = (stack.store().clone(), stack.deps.clickhouse.clone());
    let (task, stop) = stack.project();
    let writers: Vec<_> = (0..3).map(|_| Writer::new(&store)).collect();
    let writing = futures::future::join_all(writers.iter().map(|writer| writer.stories(10)));
    let rebuilding = async {
        let has_begun = async || !store.read_after(Cursor::default(), 1).await.unwrap().is_empty();
        eventually("the first events are written", has_begun).await;
        for round in 1..=2 {
            for name in NAMES {
                assert!(rebuild::rebuild(&store, &clickhouse, name).await.unwrap().events > 0);
                assert_eq!(checkpoint::load(store.pool(), name).await.unwrap().epoch, round);
            }
        }
    };
    tokio::join!(writing, rebuilding);
    stack.level(&NAMES).await;
    stack.expect_all_equal_to_the_log().await;
    // And once more with nobody writing: the very same rows.
    let (sessions, messages) = (stack.table("read.sessions").await, stack.table("read.messages").await);
    for name in NAMES {
        rebuild::rebuild(&store, &clickhouse, name).await.unwrap();
    }
    assert_eq!((stack.table("read.sessions").await, stack.table("read.messages").await), (sessions, messages));
    stack.expect_all_equal_to_the_log().await;
    // The projector has found its way into the new tables.
    writers[0].story(3).await;
    stack.level(&NAMES).await;
    stack.expect_all_equal_to_the_log().await;
    stop.cancel();
    task.await.unwrap();
    let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE 'usage%'";
    assert_eq!(clickhouse.query(tables).fetch_one::<u64>().await.unwrap(), 5);
    assert_eq!(
        stack.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'read' AND tablename LIKE '%rebuild'").await,
        0
    );
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'read' AND tablename IN ('sessions', 'messages')";
    assert_eq!(stack.number(indexes).await, 5);
}

#[tokio::test]
async fn the_overview_is_the_same_before_and_after() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    writer.stories(3).await;
    stack.project_to_the_end().await;
    let reads = stack.reads();
    let before = reads.overview(writer.owner, crate::Period::All).await.unwrap();
    rebuild::rebuild(stack.store(), &stack.deps.clickhouse, usage::NAME).await.unwrap();
    let after = reads.overview(writer.owner, crate::Period::All).await.unwrap();
    assert_eq!((after.totals, after.series), (before.totals, before.series));
}

#[tokio::test]
async fn a_log_that_was_not_read_whole_is_an_error() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(2).await;
    stack.project_to_the_end().await;
    let before = stack.table(MessageThread::TABLE).await;
    // What a truncated replay looks like: it ends early, or passes over something.
    for (skipped, limit) in [(0, 5), (3, 1_000)] {
        let mut replay = rebuild::Replay::begin(stack.store(), MessageThread::NAME).await.unwrap();
        let expected = stack.number("SELECT count(*) FROM events").await.unsigned_abs();
        replay.next(limit, MessageThread::wants).await.unwrap();
        replay.read -= skipped;
        let result = replay.expect_whole(expected).await;
        assert!(matches!(result, Err(ProjectionError::Incomplete { .. })), "{result:?}");
    }
    assert_eq!(stack.table(MessageThread::TABLE).await, before);
}

#[tokio::test]
async fn only_one_rebuild_at_a_time_and_only_of_what_there_is() {
    let stack = Stack::new(512, 10).await;
    let _held = rebuild::lock(stack.store(), usage::NAME).await.unwrap();
    let result = rebuild::rebuild(stack.store(), &stack.deps.clickhouse, usage::NAME).await;
    assert!(matches!(result, Err(ProjectionError::Busy(_))), "{result:?}");
    rebuild::rebuild(stack.store(), &stack.deps.clickhouse, MessageThread::NAME).await.unwrap();
    let result = rebuild::rebuild(stack.store(), &stack.deps.clickhouse, "session_list_v9").await;
    assert!(matches!(result, Err(ProjectionError::Unknown(_))), "{result:?}");
}

#[tokio::test]
async fn a_rebuild_that_was_killed_goes_on_where_it_was() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    writer.stories(2).await;
    noise(&stack, 5_000).await;
    writer.stories(2).await;
    stack.project_to_the_end().await;
    let before = stack.table(MessageThread::TABLE).await;
    let (gate, building) = in_the_middle(&stack).await;
    building.abort();
    assert!(building.await.is_err_and(|error| error.is_cancelled()));
    gate.rollback().await.unwrap();
    // Nothing was switched, and the live table is as it was.
    assert_eq!(checkpoint::load(stack.store().pool(), MessageThread::NAME).await.unwrap().epoch, 0);
    assert_eq!(stack.table(MessageThread::TABLE).await, before);
    assert_eq!(stack.number("SELECT events FROM read.rebuilds").await, 1_000);
    let free = async || rebuild::lock(stack.store(), MessageThread::NAME).await.is_ok();
    eventually("the dead one's lock is gone", free).await;
    let log = stack.number("SELECT count(*) FROM events").await.unsigned_abs();
    let built = rebuild::rebuild(stack.store(), &stack.deps.clickhouse, MessageThread::NAME).await.unwrap();
    assert_eq!(built, rebuild::Built { events: log, resumed_at: 1_000 });
    assert_eq!(stack.table(MessageThread::TABLE).await, before);
    assert_eq!(stack.number("SELECT count(*) FROM read.rebuilds").await, 0);
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn a_rebuild_of_another_program_begins_again() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(2).await;
    stack.project_to_the_end().await;
    for sql in [
        "CREATE TABLE read.messages_rebuild (LIKE read.messages INCLUDING ALL)",
        "INSERT INTO read.messages_rebuild SELECT * FROM read.messages",
        "UPDATE read.messages_rebuild SET id = gen_random_uuid()",
        "INSERT INTO read.rebuilds (name, build, xid, position, events) \
         SELECT name, 'another', xid, position, 10 FROM read.checkpoints WHERE name = 'message_thread_v1'",
    ] {
        sqlx::query(sql).execute(&stack.database.pool).await.unwrap();
    }
    let built = rebuild::rebuild(stack.store(), &stack.deps.clickhouse, MessageThread::NAME).await.unwrap();
    assert_eq!(built.resumed_at, 0);
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn a_read_that_is_cut_off_is_an_error_and_switches_nothing() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(2).await;
    noise(&stack, 5_000).await;
    stack.project_to_the_end().await;
    let before = stack.table(MessageThread::TABLE).await;
    let (gate, building) = in_the_middle(&stack).await;
    // It goes on to its next look into the log, and there its connection is cut.
    let mut locked = stack.database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    gate.rollback().await.unwrap();
    let waiting = "FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass";
    let is_waiting = async || stack.number(&format!("SELECT count(*) {waiting}")).await == 1;
    eventually("the build reads", is_waiting).await;
    assert_eq!(stack.number(&format!("SELECT count(pg_terminate_backend(pid)) {waiting}")).await, 1);
    let result = building.await.unwrap();
    assert!(matches!(result, Err(ProjectionError::Store(_))), "{result:?}");
    locked.rollback().await.unwrap();
    assert_eq!(checkpoint::load(stack.store().pool(), MessageThread::NAME).await.unwrap().epoch, 0);
    assert_eq!(stack.table(MessageThread::TABLE).await, before);
}

#[tokio::test]
async fn what_is_live_equals_the_log_also_while_it_goes_on() {
    let stack = Stack::new(16, 10).await;
    let (store, clickhouse) = (stack.store().clone(), stack.deps.clickhouse.clone());
    let (task, stop) = stack.project();
    let writers: Vec<_> = (0..2).map(|_| Writer::new(&store)).collect();
    let writing = futures::future::join_all(writers.iter().map(|writer| writer.stories(12)));
    let verifying = async {
        for _ in 0..3 {
            for name in NAMES {
                let verdict = rebuild::verify(&store, &clickhouse, name).await.unwrap();
                assert!(verdict.is_equal(), "{name}: {verdict:?}");
            }
        }
    };
    tokio::join!(writing, verifying);
    stack.level(&NAMES).await;
    for name in NAMES {
        let verdict = rebuild::verify(&store, &clickhouse, name).await.unwrap();
        assert!(verdict.is_equal() && verdict.live > 0, "{name}: {verdict:?}");
        assert_eq!(verdict.at, stack.at(name).await);
    }
    stop.cancel();
    task.await.unwrap();
    let scratch = "SELECT count(*) FROM pg_tables WHERE schemaname = 'read' AND tablename LIKE '%verify'";
    assert_eq!(stack.number(scratch).await, 0);
}

#[tokio::test]
async fn a_row_that_was_changed_by_hand_is_named() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(3).await;
    stack.project_to_the_end().await;
    let verify = async |name: &str| rebuild::verify(stack.store(), &stack.deps.clickhouse, name).await.unwrap();
    let id = async |sql: &str| sqlx::query_scalar::<_, uuid::Uuid>(sql).fetch_one(&stack.database.pool).await.unwrap();
    let changed = id("UPDATE read.messages SET data = replace(data::text, 'green', 'black')::json \
         WHERE id = (SELECT id FROM read.messages WHERE data::text LIKE '%green%' ORDER BY id LIMIT 1) RETURNING id")
    .await;
    let gone =
        id("DELETE FROM read.messages WHERE id = (SELECT max(id::text)::uuid FROM read.messages) RETURNING id").await;
    let verdict = verify(MessageThread::NAME).await;
    let mut first = vec![changed.to_string(), gone.to_string()];
    first.sort();
    assert_eq!((verdict.differing, verdict.first, verdict.live + 1), (2, first, verdict.rebuilt));
    let added = id("INSERT INTO read.sessions SELECT gen_random_uuid(), owner_id, updated_at, archived, data \
         FROM read.sessions LIMIT 1 RETURNING id")
    .await;
    assert_eq!(verify("session_list_v1").await.first, [added.to_string()]);
    // The log itself is right: building anew makes it so.
    for name in NAMES {
        rebuild::rebuild(stack.store(), &stack.deps.clickhouse, name).await.unwrap();
        assert!(verify(name).await.is_equal());
    }
}

#[tokio::test]
async fn a_fact_or_a_sum_that_was_changed_by_hand_is_named() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(3).await;
    stack.project_to_the_end().await;
    let verify = async || rebuild::verify(stack.store(), &stack.deps.clickhouse, usage::NAME).await.unwrap();
    assert!(verify().await.is_equal());
    let run = async |sql: &str| stack.deps.clickhouse.query(sql).execute().await.unwrap();
    run("INSERT INTO usage_daily (user_id, day, requests) SELECT user_id, day, 1 FROM usage_daily LIMIT 1").await;
    let verdict = verify().await;
    assert_eq!(verdict.differing, 1);
    assert!(verdict.first[0].starts_with("usage_daily "), "{verdict:?}");
    run("INSERT INTO usage_events SELECT * FROM usage_events LIMIT 1").await;
    let verdict = verify().await;
    assert_eq!((verdict.live, verdict.differing), (verdict.rebuilt + 1, 2), "{verdict:?}");
    rebuild::rebuild(stack.store(), &stack.deps.clickhouse, usage::NAME).await.unwrap();
    assert!(verify().await.is_equal());
}

#[tokio::test]
async fn an_empty_log_is_verified_too() {
    let stack = Stack::new(512, 10).await;
    for name in NAMES {
        let verdict = rebuild::verify(stack.store(), &stack.deps.clickhouse, name).await.unwrap();
        assert_eq!((verdict.at, verdict.live, verdict.differing), (Cursor::default(), 0, 0));
    }
}
