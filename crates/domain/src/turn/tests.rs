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
    let end = AnswerEnd::Completed(record(attempt), Finish::new("stop"));
    TurnCommand::End { answer_id: answer_id(), end: Box::new(end) }
}

fn completed(attempt: u32) -> TurnEvent {
    let finish = Finish::new("stop");
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

fn lane(n: u128) -> AnswerId {
    AnswerId::new(Uuid::from_u128(n))
}

fn speaker(name: &str) -> AnswerRequest {
    AnswerRequest { model: ModelRef { name: name.into(), ..model() }, ..AnswerRequest::default() }
}

/// A discussion of `a` and `b`, with `c` as the chair, and what has happened since.
fn discussed(rounds: u32, max_cost: Option<i64>, since: Vec<TurnEvent>) -> Turn {
    let plan = Discussion { rounds, chair: speaker("c"), max_cost: max_cost.map(NanoUsd) };
    let mut turn = Turn::default();
    turn.apply(TurnEvent::PromptPosted(Prompt { discussion: Some(Box::new(plan)), ..prompt() }));
    let lanes = [(1, "a"), (2, "b")].into_iter().zip(1..);
    let asked = lanes.map(|((n, name), version)| TurnEvent::AnswerRequested {
        answer_id: lane(n),
        version,
        request: speaker(name),
    });
    asked.chain(since).for_each(|event| turn.apply(event));
    turn
}

fn ended(n: u128, name: &str, text: &str) -> TurnEvent {
    let record = AttemptRecord {
        attempt: 1,
        text: text.into(),
        cost: NanoUsd(10),
        ..AttemptRecord::empty(ModelRef { name: name.into(), ..model() })
    };
    let error = ErrorRecord { code: "PROVIDER_ERROR".into(), message: "down".into(), retryable: true };
    match text {
        "" => TurnEvent::AnswerFailed { answer_id: lane(n), record, error },
        _ => TurnEvent::AnswerCompleted { answer_id: lane(n), record, finish: Finish::new("stop") },
    }
}

/// Purpose, model and sources of the answers that the next step asks for.
fn next_step(turn: &Turn) -> Vec<(AnswerPurpose, String, Vec<AnswerId>)> {
    let ids = (100..108).map(lane).collect();
    let events = turn.decide(TurnCommand::Advance { answer_ids: ids }).unwrap();
    let asked = events.into_iter().filter_map(|event| match event {
        TurnEvent::AnswerRequested { request, .. } => Some((request.purpose, request.model.name, request.derived_from)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_round_follows_when_every_answer_of_the_one_before_has_ended() {
    let waiting = discussed(2, None, vec![ended(1, "a", "x")]);
    assert!(next_step(&waiting).is_empty());
    let complete = discussed(2, None, vec![ended(1, "a", "x"), ended(2, "b", "y")]);
    let first = AnswerPurpose::Comment { round: 1 };
    let expected = [(first, "a".to_owned(), vec![lane(2)]), (first, "b".to_owned(), vec![lane(1)])];
    assert_eq!(next_step(&complete), expected);
    // Once it has been asked for, it isn't asked for again.
    let mut asked = complete.clone();
    let command = TurnCommand::Advance { answer_ids: (3..11).map(lane).collect() };
    complete.decide(command).unwrap().into_iter().for_each(|event| asked.apply(event));
    assert!(next_step(&asked).is_empty());
    // The second round comments on the first one's comments.
    asked.apply(ended(3, "a", "x2"));
    asked.apply(ended(4, "b", ""));
    let second = AnswerPurpose::Comment { round: 2 };
    let expected = [(second, "a".to_owned(), vec![lane(2)]), (second, "b".to_owned(), vec![lane(3)])];
    assert_eq!(next_step(&asked), expected);
}

#[test]
fn the_chair_closes_a_discussion_after_its_rounds_or_when_the_money_is_spent() {
    let done = discussed(0, None, vec![ended(1, "a", "x"), ended(2, "b", "y")]);
    let verdict = vec![(AnswerPurpose::Verdict, "c".to_owned(), vec![lane(1), lane(2)])];
    assert_eq!(next_step(&done), verdict);
    let spent = discussed(4, Some(20), vec![ended(1, "a", "x"), ended(2, "b", "y")]);
    assert_eq!(next_step(&spent), verdict);
    let not_yet = discussed(4, Some(21), vec![ended(1, "a", "x"), ended(2, "b", "y")]);
    assert_eq!(next_step(&not_yet).len(), 2);
}

#[test]
fn a_failed_member_does_not_end_a_discussion_and_nobody_left_does() {
    let alone = discussed(2, None, vec![ended(1, "a", "x"), ended(2, "b", "")]);
    assert_eq!(next_step(&alone), [(AnswerPurpose::Verdict, "c".to_owned(), vec![lane(1)])]);
    let nobody = discussed(2, None, vec![ended(1, "a", ""), ended(2, "b", "")]);
    let events = nobody.decide(TurnCommand::Advance { answer_ids: vec![lane(3)] }).unwrap();
    assert_eq!(events, [TurnEvent::DiscussionClosed { reason: DiscussionEnd::NoAnswers }]);
}

#[test]
fn stopping_everything_closes_a_discussion_and_each_open_answer() {
    let turn = discussed(2, None, vec![ended(1, "a", "x")]);
    let events = turn.decide(TurnCommand::StopAll).unwrap();
    let stopped = TurnEvent::AnswerStopped { answer_id: lane(2), record: AttemptRecord::empty(speaker("b").model) };
    assert_eq!(events, [TurnEvent::DiscussionClosed { reason: DiscussionEnd::Stopped }, stopped]);
    let mut closed = turn;
    events.into_iter().for_each(|event| closed.apply(event));
    assert!(next_step(&closed).is_empty() && !closed.is_busy());
    assert_eq!(closed.decide(TurnCommand::StopAll), Ok(vec![]));
}

#[test]
fn nothing_is_added_while_an_answer_is_in_the_making() {
    let answers = vec![NewAnswer { answer_id: lane(8), request: request() }];
    given(vec![started(1)])
        .when(TurnCommand::AddAnswers { answers: answers.clone() })
        .then_expect_error(TurnError::InProgress);
    // Between two rounds of a discussion nothing runs, and yet it goes on.
    let between = discussed(1, None, vec![ended(1, "a", "x"), ended(2, "b", "y")]);
    assert_eq!(between.decide(TurnCommand::AddAnswers { answers }), Err(TurnError::InProgress));
}

#[test]
fn feedback_is_given_changed_and_taken_back() {
    let good = Feedback { rating: 1, comment: None };
    let give = TurnCommand::GiveFeedback { answer_id: answer_id(), feedback: good.clone() };
    let given_event = TurnEvent::FeedbackGiven { answer_id: answer_id(), feedback: good };
    given(vec![started(1)]).when(give.clone()).then_expect_error(TurnError::InProgress);
    given(vec![started(1), completed(1)]).when(give.clone()).then_expect_events(vec![given_event.clone()]);
    given(vec![started(1), completed(1), given_event.clone()]).when(give).then_expect_events(vec![]);
    let withdraw = TurnCommand::WithdrawFeedback { answer_id: answer_id() };
    let withdrawn = TurnEvent::FeedbackWithdrawn { answer_id: answer_id() };
    given(vec![started(1), completed(1)]).when(withdraw.clone()).then_expect_events(vec![]);
    given(vec![started(1), completed(1), given_event]).when(withdraw).then_expect_events(vec![withdrawn]);
}
