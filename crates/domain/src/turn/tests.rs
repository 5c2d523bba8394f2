//! Given / when / then.

use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;

type Test = TestFramework<Turn>;

fn answer_id() -> AnswerId {
    AnswerId::new(Uuid::from_u128(7))
}

fn model() -> ModelRef {
    ModelRef { provider: "demo".into(), name: "demo".into(), ..ModelRef::default() }
}

fn prompt() -> Prompt {
    Prompt { content: "你好".into(), ..Prompt::default() }
}

fn request() -> AnswerRequest {
    AnswerRequest { model: model(), ..AnswerRequest::default() }
}

fn posted() -> Vec<TurnEvent> {
    vec![
        TurnEvent::PromptPosted(prompt()),
        TurnEvent::AnswerRequested { answer_id: answer_id(), version: 1, request: request() },
    ]
}

fn started(attempt: u32) -> TurnEvent {
    let reason = if attempt == 1 { AttemptReason::First } else { AttemptReason::LeaseExpired };
    TurnEvent::AttemptStarted { answer_id: answer_id(), attempt, worker: "w".into(), reason, model: None }
}

fn record(attempt: u32) -> AttemptRecord {
    AttemptRecord { attempt, text: "Hello".into(), ..AttemptRecord::empty(model()) }
}

fn complete(attempt: u32) -> TurnCommand {
    let end = AnswerEnd::Completed(record(attempt), Finish { reason: "stop".into() });
    TurnCommand::End { answer_id: answer_id(), end: Box::new(end) }
}

fn completed(attempt: u32) -> TurnEvent {
    let finish = Finish { reason: "stop".into() };
    TurnEvent::AnswerCompleted { answer_id: answer_id(), record: record(attempt), finish }
}

fn given(events: Vec<TurnEvent>) -> cqrs_es::test::AggregateTestExecutor<Turn> {
    Test::with(()).given(posted().into_iter().chain(events).collect())
}

#[test]
fn a_prompt_asks_its_models() {
    let new = NewAnswer { answer_id: answer_id(), request: request() };
    Test::with(())
        .given_no_previous_events()
        .when(TurnCommand::Post { prompt: prompt(), answers: vec![new] })
        .then_expect_events(posted());
}

#[test]
fn answers_that_are_added_are_the_next_versions() {
    let answer_id = AnswerId::new(Uuid::from_u128(8));
    let again = TurnEvent::AnswerRequested { answer_id, version: 2, request: request() };
    given(vec![started(1), completed(1)])
        .when(TurnCommand::AddAnswers { answers: vec![NewAnswer { answer_id, request: request() }] })
        .then_expect_events(vec![again]);
}

#[test]
fn an_attempt_that_failed_makes_room_for_another_model() {
    let error = ErrorRecord { code: "PROVIDER_ERROR".into(), message: "down".into(), retryable: true };
    let failed = TurnEvent::AttemptFailed { answer_id: answer_id(), record: record(1), error: error.clone() };
    let begun = |model| TurnEvent::AttemptStarted {
        answer_id: answer_id(),
        attempt: 2,
        worker: "w".into(),
        reason: AttemptReason::Failover,
        model,
    };
    let fail = |model| TurnCommand::FailAttempt {
        answer_id: answer_id(),
        record: record(1).into(),
        error: error.clone(),
        next: NextAttempt { worker: "w".into(), reason: AttemptReason::Failover, model },
    };
    let other = ModelRef { name: "other".into(), ..model() };
    given(vec![started(1)]).when(fail(other.clone())).then_expect_events(vec![failed.clone(), begun(Some(other))]);
    // The model that was asked for needs no naming.
    given(vec![started(1)]).when(fail(model())).then_expect_events(vec![failed.clone(), begun(None)]);
    given(vec![started(1), started(2)]).when(fail(model())).then_expect_error(TurnError::Superseded);
    given(vec![]).when(fail(model())).then_expect_error(TurnError::Superseded);
    given(vec![started(1), completed(1)]).when(fail(model())).then_expect_error(TurnError::AlreadyEnded);
}

#[test]
fn an_answer_ends_exactly_once() {
    given(vec![started(1)]).when(complete(1)).then_expect_events(vec![completed(1)]);
    given(vec![started(1), completed(1)]).when(complete(1)).then_expect_error(TurnError::AlreadyEnded);
}

#[test]
fn a_worker_that_was_overtaken_cannot_end_the_answer() {
    given(vec![started(1), started(2)]).when(complete(1)).then_expect_error(TurnError::Superseded);
    given(vec![started(1), started(2)]).when(complete(2)).then_expect_events(vec![completed(2)]);
}

#[test]
fn an_attempt_needs_a_new_number() {
    let again = TurnCommand::StartAttempt {
        answer_id: answer_id(),
        attempt: 1,
        worker: "w".into(),
        reason: AttemptReason::LeaseExpired,
        model: None,
    };
    given(vec![started(1)]).when(again).then_expect_error(TurnError::Superseded);
}

#[test]
fn stopping_a_queued_answer_ends_it_at_once() {
    let stopped = TurnEvent::AnswerStopped { answer_id: answer_id(), record: AttemptRecord::empty(model()) };
    given(vec![]).when(TurnCommand::Stop { answer_id: answer_id() }).then_expect_events(vec![stopped]);
}

#[test]
fn stopping_a_running_answer_asks_its_worker_once() {
    let asked = TurnEvent::StopRequested { answer_id: answer_id() };
    let stop = TurnCommand::Stop { answer_id: answer_id() };
    given(vec![started(1)]).when(stop.clone()).then_expect_events(vec![asked.clone()]);
    given(vec![started(1), asked]).when(stop.clone()).then_expect_events(vec![]);
    given(vec![started(1), completed(1)]).when(stop).then_expect_events(vec![]);
}

#[test]
fn nothing_can_be_asked_of_a_turn_that_was_never_posted() {
    Test::with(()).given_no_previous_events().when(complete(1)).then_expect_error(TurnError::NotFound);
}
