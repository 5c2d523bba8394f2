//! Leases on a real Postgres: who may begin the next attempt.
#![expect(clippy::unwrap_used, reason = "a test")]

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    session::{Session, SessionCommand},
    turn::{
        AnswerRequest, AttemptReason, AttemptRecord, ErrorRecord, ModelRef, NewAnswer, NextAttempt, Prompt, Turn,
        TurnCommand, TurnError,
    },
};
use polyphony_eventstore::{CommandContext, Effect, ExecuteError, NewRun, Root, Store, error::Refused};
use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use polyphony_testkit::database;
use uuid::Uuid;

/// An answer of one prompt.
struct Asked {
    store: Store,
    session: SessionId,
    turn: TurnId,
    answer: AnswerId,
    owner: AccountId,
}

impl Asked {
    async fn new(store: &Store) -> Self {
        let (owner, session) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
        let (turn, answer) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
        let asked = Self { store: store.clone(), session, turn, answer, owner };
        let open = SessionCommand::Open { owner_id: owner, title: None, model: None, system_prompt: None };
        let command = store.command::<Session>(asked.context(), Root::New(session.as_uuid())).from_nothing();
        command.run(session.as_uuid(), open).await.unwrap();
        let prompt = Prompt { session_id: session, content: "hi".into(), ..Prompt::default() };
        let answers = vec![NewAnswer { answer_id: answer, request: AnswerRequest::default() }];
        let create = Effect::CreateRun(NewRun {
            answer_id: answer,
            turn_id: turn,
            session_id: session,
            owner_id: owner,
            turn_version: 2,
            guard: None,
        });
        asked.run(TurnCommand::Post { prompt, answers }, create).await.unwrap();
        asked
    }

    fn context(&self) -> CommandContext {
        CommandContext::internal(self.owner, "worker", Uuid::now_v7())
    }

    async fn run(&self, command: TurnCommand, effect: Effect) -> Result<Turn, ExecuteError<TurnError>> {
        let root = Root::Existing(self.session.as_uuid());
        let execute = self.store.command::<Turn>(self.context(), root).effects(move |_, _| vec![effect.clone()]);
        execute.run(self.turn.as_uuid(), command).await.map(|executed| executed.aggregate)
    }

    async fn start(&self, worker: &str, attempt: u32, lease_seconds: u32) -> Result<Turn, ExecuteError<TurnError>> {
        let (answer_id, worker) = (self.answer, worker.to_owned());
        let reason = AttemptReason::LeaseExpired;
        let start = TurnCommand::StartAttempt { answer_id, attempt, worker: worker.clone(), reason, model: None };
        self.run(start, Effect::StartRun { answer_id, attempt, worker, lease_seconds }).await
    }

    async fn go_on(&self, worker: &str, attempt: u32) -> Result<Turn, ExecuteError<TurnError>> {
        let (answer_id, worker) = (self.answer, worker.to_owned());
        let record = AttemptRecord { attempt: attempt - 1, ..AttemptRecord::empty(ModelRef::default()) };
        let error = ErrorRecord { code: "PROVIDER_ERROR".into(), message: "down".into(), retryable: true };
        let model = ModelRef { name: "other".into(), ..ModelRef::default() };
        let next = NextAttempt { worker: worker.clone(), reason: AttemptReason::Failover, model };
        let fail = TurnCommand::FailAttempt { answer_id, record: record.into(), error, next };
        self.run(fail, Effect::ContinueRun { answer_id, attempt, worker, lease_seconds: 30 }).await
    }
}

#[tokio::test]
async fn only_the_holder_of_the_lease_goes_on_with_the_next_attempt() {
    let database = database().await;
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 4,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    let store = Store::connect(&config, KekRing::generate()).await.unwrap();
    let asked = Asked::new(&store).await;
    asked.start("a", 1, 30).await.unwrap();
    // Another worker can neither take the lease nor speak for its holder; nothing of it is in the log.
    assert_eq!(asked.start("b", 2, 30).await.unwrap_err().refused(), Some(Refused::RunTaken));
    assert_eq!(asked.go_on("b", 2).await.unwrap_err().refused(), Some(Refused::RunTaken));
    let (turn, version) = store.load::<Turn>(asked.turn.as_uuid()).await.unwrap();
    assert_eq!((turn.answers[&asked.answer].attempt, version), (1, 3));

    let turn = asked.go_on("a", 2).await.unwrap();
    let answer = &turn.answers[&asked.answer];
    assert_eq!((answer.attempt, answer.attempt_failed, answer.model.name.as_str()), (2, false, "other"));
    assert_eq!(store.renew_leases("a", &[(asked.answer, 2)], 30).await.unwrap(), [(asked.answer, false)]);
    assert_eq!(store.renew_leases("a", &[(asked.answer, 1)], 30).await.unwrap(), []);

    // It hands the answer over; another worker takes it, and the first one has nothing more to say.
    assert!(store.hand_over("a", asked.answer, 2).await.unwrap());
    assert_eq!(asked.go_on("a", 3).await.unwrap_err().refused(), Some(Refused::RunTaken));
    asked.start("b", 3, 30).await.unwrap();
    assert!(matches!(asked.go_on("a", 3).await, Err(ExecuteError::Domain(TurnError::Superseded))));
    assert_eq!(asked.go_on("b", 4).await.unwrap().answers[&asked.answer].attempt, 4);
}
