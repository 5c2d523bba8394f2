//! Facts are counted once, wherever the projector broke off, and the overview adds them up.

use polyphony_domain::{
    money::NanoUsd,
    record::{Cursor, StoredEvent},
};

use super::{
    stack::{Stack, sums_of},
    writer::Writer,
};
use crate::{
    ProjectionError,
    checkpoint::{self, Checkpoint},
    runner::Projection,
    typed,
    usage::{self, Fact, Period, UsageFacts},
};

/// A stack with some stories, and its log.
async fn told() -> (Stack, Checkpoint, Vec<StoredEvent>) {
    let stack = Stack::new(512, 20).await;
    Writer::new(stack.store()).stories(4).await;
    let from = checkpoint::load(stack.store().pool(), usage::NAME).await.unwrap();
    let events = stack.stored().await;
    (stack, from, events)
}

async fn facts(stack: &Stack, events: &[StoredEvent]) -> Vec<Fact> {
    let events = typed::read(stack.store(), events.to_vec()).await.unwrap().0;
    events.iter().filter_map(Fact::of).collect()
}

/// What a projector does until it has sent a batch, and dies.
async fn send(stack: &Stack, from: Checkpoint, events: &[StoredEvent]) -> Cursor {
    let to = usage::boundary(stack.store().pool(), from, events.last().unwrap().cursor).await.unwrap();
    let sent = facts(stack, events).await;
    usage::insert(&stack.deps.clickhouse, from.epoch, &usage::token(from, to), &sent).await.unwrap();
    to
}

#[tokio::test]
async fn a_batch_whose_boundary_is_stored_is_sent_whole_with_other_batch_sizes() {
    let (mut stack, from, events) = told().await;
    let end = events[events.len() - 5].cursor;
    assert_eq!(usage::boundary(stack.store().pool(), from, end).await.unwrap(), end);
    // Asked for another end, it says the one that is stored.
    assert_eq!(usage::boundary(stack.store().pool(), from, events[3].cursor).await.unwrap(), end);
    stack.deps.config.batch = 2;
    assert_eq!(UsageFacts::default().apply(&stack.deps, from, events[..2].to_vec()).await.unwrap(), end);
    assert_eq!(stack.number("SELECT count(*) FROM read.usage_batches").await, 0);
    stack.project_to_the_end().await;
    stack.expect_usage_equal_to_the_log().await;
}

#[tokio::test]
async fn a_batch_that_was_sent_but_not_confirmed_counts_once() {
    let (mut stack, from, events) = told().await;
    for _ in 0..3 {
        send(&stack, from, &events[..20]).await;
    }
    stack.deps.config.batch = 3;
    stack.project_to_the_end().await;
    stack.expect_usage_equal_to_the_log().await;
    // The facts themselves and both rollups have it once: three equal sums of all.
    assert_eq!(stack.sums(0).await, sums_of(&stack.log().await));
}

#[tokio::test]
async fn a_projector_that_comes_too_late_can_not_send_another_batch() {
    let (stack, from, events) = told().await;
    let projection = UsageFacts::default();
    projection.apply(&stack.deps, from, events[..20].to_vec()).await.unwrap();
    // It still believes that the checkpoint is where it was, and has heard of fewer or of more events.
    for late in [&events[..10], &events[..]] {
        let late = UsageFacts::default().apply(&stack.deps, from, late.to_vec()).await;
        assert!(matches!(late, Err(ProjectionError::Fenced)), "{late:?}");
    }
    stack.project_to_the_end().await;
    stack.expect_usage_equal_to_the_log().await;
}

#[tokio::test]
async fn a_stretch_without_facts_does_not_pass_a_batch_on_its_way() {
    let (stack, from, events) = told().await;
    let end = send(&stack, from, &events[..20]).await;
    // The first two events hold no fact, but a batch that has begun reaches further.
    let to = UsageFacts::default().apply(&stack.deps, from, events[..2].to_vec()).await.unwrap();
    assert_eq!(to, end);
    stack.project_to_the_end().await;
    stack.expect_usage_equal_to_the_log().await;
}

#[tokio::test]
async fn late_answers_of_clickhouse_count_once() {
    let (mut stack, from, events) = told().await;
    // Every step twice, batch by batch.
    stack.deps.config.batch = 7;
    let (mut at, mut rest) = (from, events.as_slice());
    while !rest.is_empty() {
        let (batch, more) = rest.split_at(rest.len().min(7));
        rest = more;
        let facts = facts(&stack, batch).await;
        let last = batch.last().unwrap().cursor;
        at.cursor = UsageFacts::default().apply(&stack.deps, at, batch.to_vec()).await.unwrap();
        assert_eq!(at.cursor, last);
        // The insert of a process that was thought dead arrives now.
        let before = Checkpoint {
            cursor: if batch[0].cursor == events[0].cursor { from.cursor } else { previous(&events, batch) },
            ..from
        };
        usage::insert(&stack.deps.clickhouse, 0, &usage::token(before, last), &facts).await.unwrap();
    }
    stack.expect_usage_equal_to_the_log().await;
}

fn previous(events: &[StoredEvent], batch: &[StoredEvent]) -> Cursor {
    let first = events.iter().position(|event| event.cursor == batch[0].cursor).unwrap();
    events[first - 1].cursor
}

#[tokio::test]
async fn the_overview_adds_up_one_person_alone() {
    let stack = Stack::new(512, 20).await;
    let (writer, other) = (Writer::new(stack.store()), Writer::new(stack.store()));
    let empty = stack.reads().overview(writer.owner, Period::Week).await.unwrap();
    assert_eq!((empty.totals.requests, empty.totals.latency_ms, empty.series.len()), (0, (0.0, 0.0), 0));
    // Seeds 0 to 3: three answers each, the last one stopped before its start where the seed is 0.
    writer.stories(4).await;
    other.stories(2).await;
    let late = stack.reads().overview(writer.owner, Period::Week).await.unwrap();
    stack.project_to_the_end().await;
    for period in [Period::Week, Period::Month, Period::All] {
        let overview = stack.reads().overview(writer.owner, period).await.unwrap();
        let totals = &overview.totals;
        assert_eq!((totals.requests, totals.errors, totals.sessions), (11, 3, 4));
        assert_eq!((totals.tokens_input, totals.cost), (11 * 11, NanoUsd(11 * 1_000_000_007)));
        assert_eq!((totals.latency_ms, totals.first_chunk_ms), ((400.0, 400.0), (30.0, 30.0)));
        assert_eq!(overview.series.iter().map(|day| day.totals.requests).sum::<u64>(), 11);
        assert_eq!(overview.previous.map(|totals| totals.requests), (period != Period::All).then_some(0));
        // The earlier one had said that it knew nothing of these stories yet.
        assert!(overview.as_of > late.as_of);
    }
    assert_eq!(late.totals.requests, 0);
}
