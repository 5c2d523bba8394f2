//! Building anew gives what is there, while it is there and goes on.

use super::{
    stack::{NAMES, Stack},
    writer::Writer,
};
use crate::{ProjectionError, checkpoint, message_thread::MessageThread, model::RowModel, rebuild, usage};

#[tokio::test]
async fn a_rebuild_beside_the_living_equals_it_and_can_be_repeated() {
    let stack = Stack::new(16, 10).await;
    let (store, clickhouse) = (stack.store().clone(), stack.deps.clickhouse.clone());
    let (task, stop) = stack.project();
    let writers: Vec<_> = (0..3).map(|_| Writer::new(&store)).collect();
    let writing = futures::future::join_all(writers.iter().map(|writer| writer.stories(10)));
    let rebuilding = async {
        for round in 1..=2 {
            for name in NAMES {
                assert!(rebuild::rebuild(&store, &clickhouse, name).await.unwrap() > 0);
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
    assert_eq!(stack.number(indexes).await, 4);
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
