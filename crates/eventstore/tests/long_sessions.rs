//! Long sessions: read in parts, and always the same as when read whole.
#![expect(clippy::unwrap_used, reason = "a test")]

use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    session::{Session, SessionCommand},
    turn::{
        AnswerEnd, AnswerRequest, AttemptReason, AttemptRecord, Finish, ModelRef, NewAnswer, Prompt, Turn, TurnCommand,
        TurnPurpose,
    },
};
use polyphony_eventstore::{CommandContext, Root, Store};
use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use polyphony_testkit::{TestDatabase, database};
use uuid::Uuid;

async fn store(database: &TestDatabase, kek: &KekRing) -> Store {
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 8,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    Store::connect(&config, kek.clone()).await.unwrap()
}

struct Talk {
    owner: AccountId,
    session: SessionId,
    parent: Option<AnswerId>,
}

impl Talk {
    async fn open(store: &Store) -> Self {
        let (owner, session) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
        let open = SessionCommand::Open { owner_id: owner, title: None, model: None, system_prompt: None };
        let context = CommandContext::internal(owner, "user", Uuid::now_v7());
        let command = store.command::<Session>(context, Root::New(session.as_uuid())).from_nothing();
        command.run(session.as_uuid(), open).await.unwrap();
        Self { owner, session, parent: None }
    }

    async fn turn(&mut self, store: &Store, text: &str, purpose: TurnPurpose) -> TurnId {
        let (turn, answer_id) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
        let prompt = Prompt {
            session_id: self.session,
            parent: self.parent,
            content: text.into(),
            purpose,
            ..Prompt::default()
        };
        let record = AttemptRecord { attempt: 1, text: text.into(), ..AttemptRecord::empty(ModelRef::default()) };
        let end = AnswerEnd::Completed(record, Finish::new("stop"));
        let reason = AttemptReason::First;
        for command in [
            TurnCommand::Post { prompt, answers: vec![NewAnswer { answer_id, request: AnswerRequest::default() }] },
            TurnCommand::StartAttempt { answer_id, attempt: 1, worker: "w".into(), reason, model: None },
            TurnCommand::End { answer_id, end: Box::new(end) },
        ] {
            let context = CommandContext::internal(self.owner, "user", Uuid::now_v7());
            let root = Root::Existing(self.session.as_uuid());
            store.command::<Turn>(context, root).run(turn.as_uuid(), command).await.unwrap();
        }
        if purpose.is_conversation() {
            self.parent = Some(answer_id);
        }
        turn
    }
}

#[tokio::test]
async fn a_session_that_was_read_before_is_the_same_as_one_that_is_read_whole() {
    let database = database().await;
    let kek = KekRing::generate();
    let store = store(&database, &kek).await;
    let mut talk = Talk::open(&store).await;
    for n in 0..40 {
        talk.turn(&store, &format!("第 {n} 句"), TurnPurpose::Conversation).await;
        // Another process has nothing in memory.
        let whole = self::store(&database, &kek).await.session_log(talk.session).await.unwrap();
        let kept = store.session_log(talk.session).await.unwrap();
        assert_eq!(kept.session.aggregate, whole.session.aggregate);
        assert_eq!(kept.turns.len(), n + 1);
        for (id, turn) in &whole.turns {
            assert_eq!((&kept.turns[id].aggregate, kept.turns[id].version), (&turn.aggregate, turn.version));
        }
    }
}

#[tokio::test]
async fn an_older_transaction_that_commits_later_is_not_missed() {
    let database = database().await;
    let store = store(&database, &KekRing::generate()).await;
    let mut talk = Talk::open(&store).await;
    for _ in 0..20 {
        talk.turn(&store, "before", TurnPurpose::Conversation).await;
    }
    // It takes its transaction id and its place now, and commits after a reader has seen later events.
    let late = TurnId::new(Uuid::now_v7());
    let mut slow = database.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
         event_id, root_id, owner_id) VALUES ('turn', $1, 1, 'prompt_posted', '1', $2::json, '{}', gen_random_uuid(), $3, $4)",
    )
    .bind(late.to_string())
    .bind(format!(r#"{{"prompt_posted":{{"session_id":"{}","parent":null,"content":{{"$erased":true}}}}}}"#, talk.session))
    .bind(talk.session.as_uuid())
    .bind(talk.owner.as_uuid())
    .execute(&mut *slow)
    .await
    .unwrap();
    talk.turn(&store, "meanwhile", TurnPurpose::Conversation).await;
    assert_eq!(store.session_log(talk.session).await.unwrap().turns.len(), 21);
    assert_eq!(store.session_log(talk.session).await.unwrap().turns.len(), 21);
    slow.commit().await.unwrap();
    let log = store.session_log(talk.session).await.unwrap();
    assert!(log.turns.contains_key(&late) && log.turns.len() == 22);
}

#[tokio::test]
async fn hidden_turns_are_not_the_newest_and_erased_sessions_are_forgotten() {
    let database = database().await;
    let kek = KekRing::generate();
    let store = store(&database, &kek).await;
    let mut talk = Talk::open(&store).await;
    let mut last = TurnId::default();
    for _ in 0..20 {
        last = talk.turn(&store, "secret", TurnPurpose::Conversation).await;
    }
    let hidden = TurnPurpose::Summary { first: last, last, by_request: false };
    talk.turn(&store, "a summary", hidden).await;
    let newest = store.newest_turn(talk.session).await.unwrap().1;
    assert_eq!(newest.map(|newest| newest.turn_id), Some(last));
    let text = |log: &polyphony_eventstore::load::SessionLog| {
        log.turns[&last].aggregate.prompt.as_ref().unwrap().content.as_str().to_owned()
    };
    assert_eq!(text(&store.session_log(talk.session).await.unwrap()), "secret");
    sqlx::query("UPDATE ops.data_keys SET wrapped = NULL, destroyed_at = now()").execute(&database.pool).await.unwrap();
    let other = self::store(&database, &kek).await;
    assert_eq!(text(&other.session_log(talk.session).await.unwrap()), "[erased]");
}
