//! An event that can't be applied is put aside; what isn't its fault never is.

use polyphony_domain::record::Cursor;
use polyphony_eventstore::Store;
use polyphony_platform::secrets::KekRing;
use uuid::Uuid;

use super::{
    stack::{NAMES, Stack, config},
    writer::Writer,
};
use crate::{
    checkpoint,
    message_thread::MessageThread,
    model::RowModel,
    runner::{Projection, Rows},
    session_list::SessionList,
    usage::UsageFacts,
};

/// An event that no build has ever written.
async fn insert_unreadable(stack: &Stack, root: Uuid) {
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
         event_id, root_id, owner_id) VALUES ('turn', $1, 1, 'prompt_sung', '1', '{\"prompt_sung\": {}}', '{}', \
         gen_random_uuid(), $2, gen_random_uuid())",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(root)
    .execute(&stack.database.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn an_unreadable_event_is_parked_and_the_projections_go_on() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    let session = writer.story(1).await;
    insert_unreadable(&stack, session.as_uuid()).await;
    writer.story(2).await;
    // This one has no data key, either.
    insert_unreadable(&stack, Uuid::now_v7()).await;
    writer.story(3).await;
    stack.project_to_the_end().await;
    let parked = "SELECT count(*) FROM read.parked_events";
    assert_eq!(stack.number(parked).await, 6);
    let reason = "SELECT count(*) FROM read.parked_events WHERE error LIKE '%prompt_sung%unknown variant%'";
    assert_eq!(stack.number(reason).await, 3);
    stack.expect_all_equal_to_the_log().await;
    // A rebuild meets them again, and counts them once.
    for name in NAMES {
        crate::rebuild::rebuild(stack.store(), &stack.deps.clickhouse, name).await.unwrap();
    }
    assert_eq!(stack.number(parked).await, 6);
    stack.expect_all_equal_to_the_log().await;
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_parked_alone() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    writer.story(1).await;
    let session = writer.open(Some("forbidden")).await;
    writer.story(2).await;
    sqlx::query("ALTER TABLE read.sessions ADD CHECK (data->>'title' <> 'forbidden')")
        .execute(&stack.database.pool)
        .await
        .unwrap();
    stack.project_to_the_end().await;
    assert_eq!(stack.number("SELECT count(*) FROM read.parked_events").await, 1);
    assert_eq!(stack.number("SELECT count(*) FROM read.sessions").await, 2);
    assert!(!stack.table(SessionList::TABLE).await.contains_key(&session.as_uuid()));
}

#[tokio::test]
async fn a_wrong_key_ring_makes_poison_of_nothing() {
    let mut stack = Stack::new(512, 10).await;
    Writer::new(stack.store()).story(1).await;
    let right = stack.deps.store.clone();
    stack.deps.store = Store::connect(&config(&stack.database.url), KekRing::generate()).await.unwrap();
    let from = checkpoint::load(stack.store().pool(), MessageThread::NAME).await.unwrap();
    let events = stack.stored().await;
    let error = Rows::<MessageThread>::new().apply(&stack.deps, from, events.clone()).await.unwrap_err();
    assert!(!error.is_poison(), "{error}");
    let error = UsageFacts::default().apply(&stack.deps, from, events).await.unwrap_err();
    assert!(!error.is_poison(), "{error}");
    assert_eq!(stack.at(MessageThread::NAME).await, Cursor::default());
    assert_eq!(stack.number("SELECT count(*) FROM read.parked_events").await, 0);
    stack.deps.store = right;
    stack.project_to_the_end().await;
    stack.expect_all_equal_to_the_log().await;
}
