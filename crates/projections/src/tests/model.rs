//! Properties of the pure part: `reduce`.

use polyphony_domain::{
    ids::{AccountId, EventId},
    record::Cursor,
    session::SessionEvent,
    turn::{AnswerRequest, AttemptReason, ErrorRecord, Finish, Prompt, TurnEvent},
};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::{
    stack::folded,
    writer::{model, record},
};
use crate::{
    message_thread::MessageThread,
    model::{RowModel, reduce_all},
    session_list::SessionList,
    typed::{Payload, TypedEvent},
};

fn prompt(session: Uuid, text: &str) -> Prompt {
    Prompt { session_id: session.into(), content: text.into(), ..Prompt::default() }
}

/// A log of a few sessions, turns and answers in which anything may follow anything.
fn log() -> impl Strategy<Value = Vec<TypedEvent>> {
    proptest::collection::vec((0..13_u32, 0..2_u128, 0..3_u128, 0..3_u128, "\\PC{0,80}"), 0..60).prop_map(|events| {
        let event = |(position, (kind, session, turn, answer, text)): (usize, (u32, u128, u128, u128, String))| {
            let session = Uuid::from_u128(100 + session);
            let turn = Uuid::from_u128(200 + turn);
            let answer_id = Uuid::from_u128(300 + answer).into();
            let error = ErrorRecord { code: "X".into(), message: text.clone(), retryable: false };
            let record = record(1, &text);
            let of_turn = |event| (turn, Payload::Turn(Box::new(event)));
            let of_session = |event| (session, Payload::Session(event));
            let (aggregate_id, payload) = match kind {
                0 => of_session(SessionEvent::SessionOpened {
                    owner_id: AccountId::default(),
                    title: None,
                    model: None,
                    system_prompt: None,
                }),
                1 => of_session(SessionEvent::SessionRenamed { title: text.into() }),
                2 => of_session(SessionEvent::SessionAnnotated { metadata: "{}".into() }),
                3 => of_turn(TurnEvent::PromptPosted(prompt(session, &text))),
                4 => of_turn(TurnEvent::AnswerRequested {
                    answer_id,
                    version: 1,
                    request: AnswerRequest { model: model(), ..AnswerRequest::default() },
                }),
                5 => of_turn(TurnEvent::AttemptStarted {
                    answer_id,
                    attempt: 1,
                    worker: text,
                    reason: AttemptReason::First,
                    model: None,
                }),
                6 => of_turn(TurnEvent::StopRequested { answer_id }),
                7 => of_turn(TurnEvent::AnswerCompleted { answer_id, record, finish: Finish::new(text) }),
                8 => of_turn(TurnEvent::AnswerFailed { answer_id, record, error }),
                9 => of_turn(TurnEvent::AttemptFailed { answer_id, record, error }),
                10 => of_session(SessionEvent::SessionArchived {}),
                11 => of_session(SessionEvent::SessionDeleted {}),
                _ => of_turn(TurnEvent::AnswerStopped { answer_id, record }),
            };
            TypedEvent {
                event_id: EventId::default(),
                cursor: Cursor { xid: 1 + position as u64 / 3, position: position as i64 },
                aggregate_id,
                root_id: session,
                owner_id: AccountId::default(),
                at: chrono::DateTime::from_timestamp(position as i64, 0).unwrap(),
                is_erased: false,
                payload,
            }
        };
        events.into_iter().enumerate().map(event).collect()
    })
}

/// Applies a log in two steps that overlap, as a projector does that was killed or fenced in between.
fn with_a_repetition<M: RowModel>(
    log: &[TypedEvent],
    from: usize,
    to: usize,
) -> std::collections::HashMap<Uuid, Value> {
    let (from, to) = (from.min(to).min(log.len()), from.max(to).min(log.len()));
    let mut rows = std::collections::HashMap::new();
    reduce_all::<M>(&mut rows, &log[..to]);
    reduce_all::<M>(&mut rows, &log[from..]);
    rows.into_iter().map(|(id, row)| (id, serde_json::to_value(row).unwrap())).collect()
}

proptest! {
    #[test]
    fn what_was_applied_changes_nothing_when_it_comes_again(log in log(), from in 0..60_usize, to in 0..60_usize) {
        prop_assert_eq!(with_a_repetition::<SessionList>(&log, from, to), folded::<SessionList>(&log));
        prop_assert_eq!(with_a_repetition::<MessageThread>(&log, from, to), folded::<MessageThread>(&log));
    }

    #[test]
    fn rows_survive_being_written_as_json(log in log()) {
        let mut rows = std::collections::HashMap::new();
        reduce_all::<MessageThread>(&mut rows, &log);
        for row in rows.into_values() {
            let text = serde_json::to_string(&row).unwrap();
            prop_assert_eq!(serde_json::from_str::<crate::MessageRow>(&text).unwrap(), row);
        }
    }
}

#[test]
fn a_session_without_title_is_called_by_its_first_prompt() {
    let prompt = |position: i64, text: &str| TypedEvent {
        event_id: EventId::default(),
        cursor: Cursor { xid: 1, position },
        aggregate_id: Uuid::from_u128(2),
        root_id: Uuid::from_u128(1),
        owner_id: AccountId::default(),
        at: chrono::DateTime::UNIX_EPOCH,
        is_erased: false,
        payload: Payload::Turn(Box::new(TurnEvent::PromptPosted(self::prompt(Uuid::from_u128(1), text)))),
    };
    let opened = TypedEvent {
        aggregate_id: Uuid::from_u128(1),
        payload: Payload::Session(SessionEvent::SessionOpened {
            owner_id: AccountId::default(),
            title: None,
            model: None,
            system_prompt: None,
        }),
        ..prompt(1, "")
    };
    let title = |text: &str| {
        let row = SessionList::reduce(SessionList::reduce(None, &opened), &prompt(2, text)).unwrap();
        SessionList::reduce(Some(row), &prompt(3, "another")).unwrap().title.unwrap()
    };
    assert_eq!(title("  What is\n tea? "), "What is tea?");
    assert_eq!(title(&"茶".repeat(61)), format!("{}…", "茶".repeat(60)));
    assert_eq!(title(&"茶".repeat(60)), "茶".repeat(60));
}
