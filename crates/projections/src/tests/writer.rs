//! What happens in the tests: people, sessions, prompts, answers.

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    money::NanoUsd,
    session::{Session, SessionCommand},
    turn::{
        AnswerEnd, AnswerRequest, AttemptReason, AttemptRecord, ErrorRecord, Finish, ModelRef, NewAnswer, Prompt,
        Timings, Turn, TurnCommand, UsageRecord,
    },
};
use polyphony_eventstore::{CommandContext, Root, Store};
use uuid::Uuid;

/// A person who writes.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) owner: AccountId,
}

/// A prompt and its answers.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) session: SessionId,
    pub(super) turn: TurnId,
    pub(super) answers: Vec<AnswerId>,
}

pub(super) fn model() -> ModelRef {
    ModelRef { id: Uuid::from_u128(7).into(), provider: "demo".into(), name: "demo".into() }
}

impl Writer {
    pub(super) fn new(store: &Store) -> Self {
        Self { store: store.clone(), owner: Uuid::now_v7().into() }
    }

    fn context(&self) -> CommandContext {
        CommandContext::internal(self.owner, "user", Uuid::now_v7())
    }

    pub(super) async fn open(&self, title: Option<&str>) -> SessionId {
        let id = SessionId::new(Uuid::now_v7());
        let title = title.map(str::to_owned);
        let open = SessionCommand::Open { owner_id: self.owner, title, model: None, system_prompt: None };
        let command = self.store.command::<Session>(self.context(), Root::New(id.as_uuid()));
        command.run(id.as_uuid(), open).await.unwrap();
        id
    }

    pub(super) async fn rename(&self, session: SessionId, title: &str) {
        let change = SessionCommand::Change {
            title: Some(title.to_owned()),
            system_prompt: None,
            metadata: Some(serde_json::json!({"tag": title})),
        };
        let command = self.store.command::<Session>(self.context(), Root::Existing(session.as_uuid()));
        command.run(session.as_uuid(), change).await.unwrap();
    }

    pub(super) async fn ask(
        &self,
        session: SessionId,
        parent: Option<AnswerId>,
        content: &str,
        models: usize,
    ) -> Asked {
        let turn = TurnId::new(Uuid::now_v7());
        let answers: Vec<AnswerId> = (0..models).map(|_| Uuid::now_v7().into()).collect();
        let new =
            |answer_id| NewAnswer { answer_id, request: AnswerRequest { model: model(), ..AnswerRequest::default() } };
        let prompt = Prompt { session_id: session, parent, content: content.into(), ..Prompt::default() };
        let post = TurnCommand::Post { prompt, answers: answers.iter().copied().map(new).collect() };
        let asked = Asked { session, turn, answers };
        self.turn(&asked, post).await;
        asked
    }

    pub(super) async fn start(&self, asked: &Asked, answer: AnswerId, attempt: u32) {
        let reason = AttemptReason::First;
        self.turn(
            asked,
            TurnCommand::StartAttempt { answer_id: answer, attempt, worker: "w".into(), reason, model: None },
        )
        .await;
    }

    pub(super) async fn end(&self, asked: &Asked, answer: AnswerId, end: AnswerEnd) {
        self.turn(asked, TurnCommand::End { answer_id: answer, end: Box::new(end) }).await;
    }

    pub(super) async fn stop(&self, asked: &Asked, answer: AnswerId) {
        self.turn(asked, TurnCommand::Stop { answer_id: answer }).await;
    }

    async fn turn(&self, asked: &Asked, command: TurnCommand) {
        let turn = self.store.command::<Turn>(self.context(), Root::Existing(asked.session.as_uuid()));
        turn.run(asked.turn.as_uuid(), command).await.unwrap();
    }

    /// An answer from its start to its end.
    pub(super) async fn answer(&self, asked: &Asked, index: usize, text: &str) -> AnswerId {
        let answer = asked.answers[index];
        self.start(asked, answer, 1).await;
        self.end(asked, answer, AnswerEnd::Completed(record(1, text), Finish::new("stop"))).await;
        answer
    }

    /// A session with everything that can happen in it; `seed` varies it.
    pub(super) async fn story(&self, seed: usize) -> SessionId {
        let session = self.open((seed.is_multiple_of(2)).then_some("Tea")).await;
        let first = self.ask(session, None, &format!("{seed} 你好，茶 👩‍👩‍👧‍👦"), 2).await;
        let answer = self.answer(&first, 0, "green tea").await;
        self.start(&first, first.answers[1], 1).await;
        self.start(&first, first.answers[1], 2).await;
        let error = ErrorRecord { code: "PROVIDER_ERROR".into(), message: "it broke".into(), retryable: true };
        let end = match seed % 3 {
            0 => AnswerEnd::Failed(record(2, ""), error.clone()),
            1 => AnswerEnd::Interrupted(record(2, "par"), error),
            _ => AnswerEnd::Completed(record(2, "with U+0000: \0"), Finish::new("length")),
        };
        self.end(&first, first.answers[1], end).await;
        self.rename(session, &format!("title {seed}")).await;
        let second = self.ask(session, Some(answer), "and then?", 1).await;
        if seed.is_multiple_of(4) {
            self.stop(&second, second.answers[0]).await;
        } else {
            self.start(&second, second.answers[0], 1).await;
            self.stop(&second, second.answers[0]).await;
            self.end(&second, second.answers[0], AnswerEnd::Stopped(record(1, "stopped he"))).await;
        }
        session
    }

    /// Some stories, one after the other.
    pub(super) async fn stories(&self, count: usize) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        for seed in 0..count {
            sessions.push(self.story(seed).await);
        }
        sessions
    }
}

/// What an attempt leaves.
pub(super) fn record(attempt: u32, text: &str) -> AttemptRecord {
    AttemptRecord {
        attempt,
        model: model(),
        text: text.into(),
        usage: UsageRecord { input: 11, output: text.len() as u64, cached_input: 3, ..UsageRecord::default() },
        price_version: "1".into(),
        cost: NanoUsd(1_000_000_007),
        timings: Timings { queue_ms: 2, first_chunk_ms: Some(30), total_ms: 400 },
        ..AttemptRecord::empty(model())
    }
}
