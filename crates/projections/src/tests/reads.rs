//! A caller sees what the caller has written, however late the projections are.

use std::time::{Duration, Instant};

use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::Cursor,
    turn::{AnswerEnd, AnswerStatus},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    stack::{NAMES, Stack, relay},
    writer::{Writer, record},
};
use crate::{
    Placed, SessionQuery, SessionRow, message_thread::MessageThread, model::RowModel, reads::ReadModels,
    session_list::SessionList,
};

/// Some messages and where the page before them ends.
type Thread = (Vec<Placed>, Option<Uuid>);

/// Everything that can be read of some sessions.
#[derive(Debug, PartialEq)]
struct Seen {
    pages: Vec<(Vec<SessionRow>, u64)>,
    sessions: Vec<Option<SessionRow>>,
    threads: Vec<Option<Thread>>,
    messages: Vec<Option<Placed>>,
}

async fn see(reads: &ReadModels, owner: AccountId, sessions: &[SessionId]) -> Seen {
    let mut seen = Seen { pages: vec![], sessions: vec![], threads: vec![], messages: vec![] };
    for (page, limit) in [(1, 100), (1, 2), (2, 2), (3, 2), (9, 2)] {
        let page = reads.sessions(owner, SessionQuery { page, limit, archived: false }).await.unwrap();
        seen.pages.push((page.items, page.total));
    }
    for session in sessions {
        seen.sessions.push(reads.session(owner, *session).await.unwrap());
        let mut before = None;
        for (limit, tree) in [(50, false), (50, true), (2, false), (2, true)] {
            let page = reads.messages(owner, *session, before, limit, tree).await.unwrap();
            before = page.as_ref().and_then(|page| page.messages.last().map(|placed| placed.row.id));
            for placed in page.iter().flat_map(|page| &page.messages) {
                seen.messages.push(reads.message(owner, placed.row.id).await.unwrap());
            }
            seen.threads.push(page.map(|page| (page.messages, page.next_before)));
        }
    }
    seen
}

#[tokio::test]
async fn what_is_read_over_a_late_projection_is_what_the_tables_say_later() {
    let stack = Stack::new(512, 10).await;
    let (writer, stranger) = (Writer::new(stack.store()), Writer::new(stack.store()));
    // Some of it is in the tables, some changes what is there, some is new.
    let mut sessions = writer.stories(3).await;
    stranger.stories(1).await;
    stack.project_to_the_end().await;
    writer.rename(sessions[0], "renamed").await;
    writer.ask(sessions[1], None, "once more", 2).await;
    sessions.extend(writer.stories(2).await);
    sessions.push(writer.open(None).await);

    let reads = stack.reads();
    let begun = Instant::now();
    let late = see(&reads, writer.owner, &sessions).await;
    // It waited once for each projection, not for each read.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(late.pages[0].1, 6);
    assert!(late.sessions.iter().all(Option::is_some));
    assert_eq!(late.sessions[0].as_ref().unwrap().title.as_deref(), Some("renamed"));

    stack.project_to_the_end().await;
    assert_eq!(see(&reads, writer.owner, &sessions).await, late);
    // Nobody else's.
    let strange = see(&reads, stranger.owner, &sessions).await;
    assert_eq!(strange.pages[0].1, 1);
    assert!(strange.sessions.iter().all(Option::is_none) && strange.threads.iter().all(Option::is_none));
    for placed in late.messages.into_iter().flatten() {
        assert_eq!(reads.message(stranger.owner, placed.row.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_write_above_the_horizon_is_seen_at_once() {
    let stack = Stack::new(512, 10).await;
    let (task, stop) = stack.project();
    // Somebody's transaction is open: no projector may pass it.
    let mut open = stack.database.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let writer = Writer::new(stack.store());
    let sessions = writer.stories(2).await;
    let reads = stack.reads();
    let early = see(&reads, writer.owner, &sessions).await;
    assert_eq!(early.pages[0].1, 2);
    assert_eq!(stack.at(SessionList::NAME).await, Cursor::default());
    open.commit().await.unwrap();
    stack.level(&NAMES).await;
    assert_eq!(see(&reads, writer.owner, &sessions).await, early);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_read_is_woken_when_the_projection_is_there() {
    // The projector hears of events only by the stream, the reader of the projector only by pokes and its own looks.
    let stack = Stack::new(512, 3_600_000).await;
    let (task, stop) = stack.project();
    stack.level(&NAMES).await;
    let reads = stack.reads();
    let following = tokio::spawn({
        let (reads, bus, stop) = (reads.clone(), stack.deps.bus.clone(), stop.clone());
        async move { reads.follow(bus, stop).await }
    });
    let writer = Writer::new(stack.store());
    let mut at = stack.newest().await;
    for round in 1..=5 {
        let session = writer.open(Some("new")).await;
        let query = SessionQuery { page: 1, limit: 10, archived: false };
        let (page, relayed) = tokio::join!(reads.sessions(writer.owner, query), relay(&stack, at, |_| false));
        at = relayed;
        let page = page.unwrap();
        assert_eq!((page.total, page.items[0].id), (round, session));
        assert_eq!(stack.at(SessionList::NAME).await, at);
    }
    stop.cancel();
    task.await.unwrap();
    following.await.unwrap();
}

#[tokio::test]
async fn pokes_that_run_ahead_of_the_database_deceive_nobody() {
    let stack = Stack::new(512, 10).await;
    let reads = stack.reads();
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (reads, bus, stop) = (reads.clone(), stack.deps.bus.clone(), stop.clone());
        async move { reads.follow(bus, stop).await }
    });
    let writer = Writer::new(stack.store());
    let session = writer.story(1).await;
    for _ in 0..20 {
        stack.deps.bus.poke_projection(SessionList::NAME, Cursor { xid: u64::MAX, position: 1 }).await;
        tokio::task::yield_now().await;
    }
    assert!(reads.session(writer.owner, session).await.unwrap().is_some());
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn the_active_branch_is_that_of_the_write_side() {
    let stack = Stack::new(512, 10).await;
    let writer = Writer::new(stack.store());
    let session = writer.open(Some("branches")).await;
    let first = writer.ask(session, None, "one", 3).await;
    let parent = writer.answer(&first, 0, "a").await;
    writer.answer(&first, 1, "b").await;
    writer.start(&first, first.answers[2], 1).await;
    writer.end(&first, first.answers[2], AnswerEnd::Stopped(record(1, ""))).await;
    let second = writer.ask(session, Some(parent), "two", 2).await;
    writer.answer(&second, 0, "c").await;
    stack.project_to_the_end().await;
    let reads = stack.reads();
    let log = stack.store().session_log(session).await.unwrap();
    let newest = stack.store().newest_turn(session).await.unwrap().1.unwrap();
    let turn = newest.turn_id;
    assert_eq!((turn, newest.is_tip), (second.turn, true));
    let mut expected: Vec<Uuid> = Vec::new();
    for (id, turn) in log.path_to(turn) {
        expected.extend(turn.parent().map(|parent| parent.as_uuid()));
        expected.push(id.as_uuid());
    }
    expected.push(newest.turn.active_answer().unwrap().0.as_uuid());
    let page = reads.messages(writer.owner, session, None, 50, false).await.unwrap().unwrap();
    assert_eq!(page.messages.iter().map(|placed| placed.row.id).collect::<Vec<_>>(), expected);
    assert_eq!(page.messages.iter().map(|placed| placed.versions).collect::<Vec<_>>(), [1, 3, 1, 2]);
    assert_eq!(page.next_before, None);
    // From the end, two at a time.
    let last = reads.messages(writer.owner, session, None, 3, false).await.unwrap().unwrap();
    let before = last.next_before.unwrap();
    assert_eq!(before, expected[1]);
    let rest = reads.messages(writer.owner, session, Some(before), 3, false).await.unwrap().unwrap();
    assert_eq!((rest.messages.len(), rest.next_before), (1, None));
    assert!(reads.messages(writer.owner, session, Some(Uuid::nil()), 3, false).await.unwrap().is_none());
    // The whole tree, in order of time.
    let tree = reads.messages(writer.owner, session, None, 50, true).await.unwrap().unwrap();
    assert_eq!(tree.messages.len(), 7);
    let of_answer = |id: Uuid| tree.messages.iter().find(|placed| placed.row.id == id).unwrap().row.clone();
    assert_eq!(of_answer(first.answers[2].as_uuid()).status, AnswerStatus::Stopped);
    assert_eq!(of_answer(second.answers[1].as_uuid()).status, AnswerStatus::Queued);
    assert_eq!(stack.at(MessageThread::NAME).await, stack.newest().await);
}
