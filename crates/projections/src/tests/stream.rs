//! Following the stream, noticing what it lacks, and doing without it.

use polyphony_domain::record::Cursor;

use super::{
    stack::{NAMES, Stack, relay},
    writer::Writer,
};

/// So long that only the stream can be what brings the events.
const NEVER: u64 = 3_600_000;

#[tokio::test]
async fn events_are_taken_from_the_stream() {
    let stack = Stack::new(512, NEVER).await;
    let writer = Writer::new(stack.store());
    writer.story(1).await;
    // Other tests' transactions hold the horizon back; whoever looks only once must look after that.
    stack.stored().await;
    let (task, stop) = stack.project();
    stack.level(&NAMES).await;
    let mut at = stack.newest().await;
    for seed in 2..5 {
        writer.story(seed).await;
        at = relay(&stack, at, |_| false).await;
        stack.level(&NAMES).await;
    }
    stack.expect_all_equal_to_the_log().await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn what_the_stream_lacks_or_repeats_is_read_from_the_log() {
    let stack = Stack::new(5, NEVER).await;
    let writer = Writer::new(stack.store());
    let (task, stop) = stack.project();
    let mut at = Cursor::default();
    for seed in 0..6 {
        writer.story(seed).await;
        let before = at;
        // Never the last one: nobody can miss what nothing follows.
        at = relay(&stack, at, |index| (index + seed) % 3 == 0).await;
        relay(&stack, before, |index| index % 2 == 1).await;
        relay(&stack, before, |_| false).await;
    }
    stack.level(&NAMES).await;
    stack.expect_all_equal_to_the_log().await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn without_nats_the_log_is_read_by_itself() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    let (task, stop) = stack.project();
    writer.story(1).await;
    stack.nats.kill9();
    stack.nats.delete_data();
    writer.stories(3).await;
    stack.level(&NAMES).await;
    stack.expect_all_equal_to_the_log().await;
    stop.cancel();
    task.await.unwrap();
}
