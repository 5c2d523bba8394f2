//! Whatever breaks off a projector, and whoever runs beside it, the rows are those of the log.

use std::time::Duration;

use polyphony_eventstore::Store;
use polyphony_platform::secrets::KekRing;
use polyphony_testkit::{private_clickhouse, private_postgres};

use super::{
    stack::{NAMES, Stack, config, eventually},
    writer::Writer,
};
use crate::{message_thread::MessageThread, model::RowModel, session_list::SessionList, usage};

#[tokio::test]
async fn rows_and_facts_are_the_fold_of_the_log() {
    for batch in [1, 7, 512] {
        let stack = Stack::new(batch, 20).await;
        Writer::new(stack.store()).stories(5).await;
        stack.project_to_the_end().await;
        stack.expect_all_equal_to_the_log().await;
        assert_eq!(stack.number("SELECT count(*) FROM read.usage_batches").await, 0);
    }
}

#[tokio::test]
async fn projectors_that_are_killed_again_and_again_leave_the_same_rows() {
    let stack = Stack::new(3, 5).await;
    let writer = Writer::new(stack.store());
    let writing = tokio::spawn(async move { writer.stories(12).await });
    // Killed at another moment each time, also in the middle of a transaction or an insert.
    for round in 0..40_u64 {
        let (task, _stop) = stack.project();
        tokio::time::sleep(Duration::from_micros(500 + round * 1_700 % 30_000)).await;
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
    writing.await.unwrap();
    stack.project_to_the_end().await;
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn a_second_projector_is_fenced_out_and_harmless() {
    let stack = Stack::new(4, 10).await;
    let projectors: Vec<_> = (0..3).map(|_| stack.project()).collect();
    let writers: Vec<_> = (0..4).map(|_| Writer::new(stack.store())).collect();
    futures::future::join_all(writers.iter().map(|writer| writer.stories(6))).await;
    stack.level(&NAMES).await;
    stack.expect_all_equal_to_the_log().await;
    for (task, stop) in projectors {
        stop.cancel();
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_after_the_rows_leaves_neither_rows_nor_checkpoint() {
    let stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).stories(2).await;
    let break_writes = "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM nextval('faults'); RAISE EXCEPTION 'a fault'; END $$";
    for sql in [
        "CREATE SEQUENCE faults",
        break_writes,
        "CREATE TRIGGER fault AFTER INSERT ON read.messages FOR EACH STATEMENT EXECUTE FUNCTION fault()",
    ] {
        sqlx::query(sql).execute(&stack.database.pool).await.unwrap();
    }
    let (task, stop) = stack.project_one::<MessageThread>();
    eventually("two tries", async || stack.number("SELECT last_value FROM faults").await >= 2).await;
    assert_eq!(stack.at(MessageThread::NAME).await, polyphony_domain::record::Cursor::default());
    assert!(stack.table(MessageThread::TABLE).await.is_empty());
    // It is no event's fault, so nothing was put aside.
    assert_eq!(stack.number("SELECT count(*) FROM read.parked_events").await, 0);
    sqlx::query("DROP TRIGGER fault ON read.messages").execute(&stack.database.pool).await.unwrap();
    stack.level(&[MessageThread::NAME]).await;
    stop.cancel();
    task.await.unwrap();
    stack.project_to_the_end().await;
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn without_clickhouse_only_the_facts_are_late() {
    let mut stack = Stack::new(512, 10).await;
    let clickhouse = private_clickhouse().await;
    stack.deps.clickhouse = clickhouse::Client::default().with_url(clickhouse.url()).with_database("usage");
    clickhouse.stop();
    Writer::new(stack.store()).stories(2).await;
    let (task, stop) = stack.project();
    stack.level(&[SessionList::NAME, MessageThread::NAME]).await;
    assert_eq!(stack.at(usage::NAME).await, polyphony_domain::record::Cursor::default());
    clickhouse.start();
    stack.level(&[usage::NAME]).await;
    stack.expect_all_equal_to_the_log().await;
    // Gone in mid-run, with everything it knew of.
    clickhouse.kill9();
    Writer::new(stack.store()).stories(2).await;
    clickhouse.start();
    stack.level(&NAMES).await;
    stop.cancel();
    task.await.unwrap();
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn a_database_that_goes_and_comes_back_is_no_events_fault() {
    let mut stack = Stack::new(3, 10).await;
    let postgres = private_postgres().await;
    let store = Store::connect(&config(postgres.url()), KekRing::generate()).await.unwrap();
    store.migrate().await.unwrap();
    stack.database.pool = store.pool().clone();
    stack.deps.store = store.clone();
    let (task, stop) = stack.project();
    for _ in 0..2 {
        Writer::new(&store).stories(2).await;
        postgres.kill9();
        postgres.start();
        eventually("a new connection", async || store.ping().await.is_ok()).await;
    }
    stack.level(&NAMES).await;
    stop.cancel();
    task.await.unwrap();
    stack.expect_all_equal_to_the_log().await;
    assert_eq!(stack.number("SELECT count(*) FROM read.parked_events").await, 0);
}
