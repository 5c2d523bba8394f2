//! Views as they were are the views that were there.

use polyphony_domain::{
    ids::SessionId,
    turn::{AnswerEnd, Finish},
};

use super::{
    stack::{NAMES, Stack, eventually},
    writer::{Asked, Writer, record},
};
use crate::{MessagePage, Moment, SessionRow};

/// What a session's owner saw after a command.
#[derive(Debug)]
struct Seen {
    position: i64,
    session: SessionRow,
    branch: String,
    tree: String,
}

/// Pages have no equality of their own; what they print is all that they hold.
fn text(page: Option<MessagePage>) -> String {
    format!("{:?}", page.unwrap())
}

async fn look(stack: &Stack, writer: &Writer, session: SessionId) -> Seen {
    let reads = stack.reads();
    let page = async |tree| reads.messages(writer.owner, session, None, 100, tree).await.unwrap();
    Seen {
        position: stack.newest().await.position,
        session: reads.session(writer.owner, session).await.unwrap().unwrap(),
        branch: text(page(false).await),
        tree: text(page(true).await),
    }
}

#[tokio::test]
async fn a_view_as_it_was_is_the_view_that_was_there() {
    let stack = Stack::new(64, 10).await;
    let writer = Writer::new(stack.store());
    let (task, stop) = stack.project();
    let session = writer.open(None).await;
    let mut seen = vec![look(&stack, &writer, session).await];
    let mut parent = None;
    for round in 0..4 {
        let asked: Asked = writer.ask(session, parent, &format!("question {round} 茶"), 2).await;
        seen.push(look(&stack, &writer, session).await);
        for (index, answer) in asked.answers.iter().copied().enumerate() {
            writer.start(&asked, answer, 1).await;
            seen.push(look(&stack, &writer, session).await);
            let end = if (round + index) % 2 == 0 {
                AnswerEnd::Completed(record(1, &format!("answer {round}.{index} \0")), Finish::new("stop"))
            } else {
                AnswerEnd::Stopped(record(1, "so f"))
            };
            writer.end(&asked, answer, end).await;
            seen.push(look(&stack, &writer, session).await);
            parent = Some(answer);
        }
        // Somebody else's events lie between.
        Writer::new(stack.store()).story(round).await;
        writer.rename(session, &format!("title {round}")).await;
        seen.push(look(&stack, &writer, session).await);
    }
    assert_eq!(seen.len(), 1 + 4 * 6);
    let reads = stack.reads();
    for was in &seen {
        // The time of a view is that of its newest event.
        let times = sqlx::query_scalar("SELECT recorded_at FROM events WHERE position = $1").bind(was.position);
        let time = times.fetch_one(&stack.database.pool).await.unwrap();
        for at in [Moment::Position(was.position), Moment::Time(time)] {
            let session_then = reads.session_at(writer.owner, session, at).await.unwrap();
            assert_eq!(session_then.as_ref(), Some(&was.session), "{at:?}");
            let page = async |tree| text(reads.messages_at(writer.owner, session, None, 100, tree, at).await.unwrap());
            assert_eq!(page(false).await, was.branch, "{at:?}");
            assert_eq!(page(true).await, was.tree, "{at:?}");
        }
    }
    // The same as a page, and as single messages.
    let (last, at) = (seen.last().unwrap(), Moment::Position(i64::MAX));
    let whole = reads.messages_at(writer.owner, session, None, 100, true, at).await.unwrap();
    assert_eq!(text(whole.clone()), last.tree);
    // The writer keeps no runs, with which an answer's place is stored.
    stack.level(&NAMES).await;
    let known = "INSERT INTO ops.answers SELECT id, parent_id, session_id, owner_id FROM read.messages WHERE is_answer";
    sqlx::query(known).execute(&stack.database.pool).await.unwrap();
    for placed in whole.unwrap().messages {
        let id = placed.row.id;
        let live = reads.message(writer.owner, id).await.unwrap();
        assert_eq!(live, Some(placed));
        assert_eq!(reads.message_at(writer.owner, id, at).await.unwrap(), live);
        assert!(reads.message_at(writer.owner, id, Moment::Position(seen[0].position)).await.unwrap().is_none());
    }
    let (now, then) = (
        reads.messages(writer.owner, session, None, 2, false).await.unwrap(),
        reads.messages_at(writer.owner, session, None, 2, false, at).await.unwrap(),
    );
    assert!(now.as_ref().unwrap().next_before.is_some());
    assert_eq!(text(now), text(then));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn nobody_sees_a_session_before_it_was_or_of_somebody_else() {
    let stack = Stack::new(64, 10).await;
    let writer = Writer::new(stack.store());
    let session = writer.open(Some("mine")).await;
    let (reads, stranger) = (stack.reads(), Writer::new(stack.store()));
    let opened = stack.newest().await.position;
    let at = async |owner, at| reads.session_at(owner, session, at).await.unwrap().is_some();
    assert!(at(writer.owner, Moment::Position(opened)).await);
    assert!(!at(writer.owner, Moment::Position(opened - 1)).await);
    assert!(!at(writer.owner, Moment::Time(chrono::DateTime::UNIX_EPOCH)).await);
    assert!(!at(stranger.owner, Moment::Position(opened)).await);
    let messages = reads.messages_at(stranger.owner, session, None, 10, false, Moment::Position(opened)).await;
    assert!(messages.unwrap().is_none());
    eventually("the horizon", async || stack.store().head().await.unwrap().position >= opened).await;
}
