//! A worker on a real log and a real bus, and people whose keys it uses.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use polyphony_bus::{
    Bus,
    wire::{ChunkBody, Job, JobClass, Said},
};
use polyphony_domain::{
    account::{Account, AccountCommand, Role},
    api_key::{ApiKey, ApiKeyCommand, KeyDetails},
    catalog::Catalog,
    ids::{AccountId, AnswerId, KeyId, SessionId, TurnId},
    session::{Session, SessionCommand},
    turn::{Answer, AnswerRequest, NewAnswer, Params, Prompt, Turn, TurnCommand},
};
use polyphony_eventstore::{CommandContext, Effect, NewRun, Root, Store, api_keys::label};
use polyphony_platform::{
    config::{Config, ProviderConfig},
    http::{EgressPolicy, guarded_client},
    secrets::KekRing,
    telemetry::TraceContext,
};
use polyphony_providers::registry::Registry;
use polyphony_testkit::{Private, TestDatabase, database, private_nats};
use polyphony_workers::{completion, routing::Switchboard};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::peer::Peer;

/// A worker that runs until this is dropped.
pub struct Stack {
    pub database: TestDatabase,
    pub store: Store,
    bus: Bus,
    catalog: Arc<Catalog>,
    stop: CancellationToken,
    _nats: Private,
}

/// Somebody with keys and a session.
pub struct Person {
    account: AccountId,
    session: SessionId,
}

/// How an answer came about.
pub struct Answered {
    pub answer: Answer,
    /// `restart` frames, as clients see them.
    pub restarts: Vec<Value>,
    /// What viewers are told that it waits for.
    pub waits: Vec<String>,
    /// The attempts that failed: their records and codes.
    pub failed: Vec<Value>,
}

impl Stack {
    /// `lab` stands for DeepSeek and `other` for OpenAI, each also with the models `one` and `two`; `operators` is the
    /// operator's key for the first.
    pub async fn new(lab: &Peer, other: &Peer, operators: Option<&str>) -> Self {
        polyphony_platform::http::install_crypto_provider();
        let (database, nats) = tokio::join!(database(), private_nats());
        let mut config = Config::load().unwrap();
        config.database.url.clone_from(&database.url);
        config.database.max_connections = 8;
        config.egress.allow = format!("{},{}", lab.address, other.address);
        for (name, peer, api_key) in [("deepseek", lab, operators), ("openai", other, None)] {
            let provider = ProviderConfig {
                kind: None,
                base_url: Some(peer.url().parse().unwrap()),
                models: "one,two".into(),
                vision: None,
                api_key: api_key.map(str::to_owned),
            };
            config.providers.insert(name.into(), provider);
        }
        let store = Store::connect(&config.database, KekRing::generate()).await.unwrap();
        let bus = Bus::connect(nats.url(), "test").await.unwrap();
        bus.ensure_streams().await.unwrap();
        let egress = Arc::new(EgressPolicy::from_config(&config));
        let registry = Registry::new(&config, guarded_client(egress.clone()).unwrap()).unwrap();
        let catalog = Arc::new(registry.catalog(&config).unwrap());
        let deps = completion::Deps {
            store: store.clone(),
            bus: bus.clone(),
            registry,
            catalog: catalog.clone(),
            switchboard: Arc::new(Switchboard::default()),
            contexts: polyphony_providers::context::Contexts::default(),
            egress,
            config: config.worker,
            name: "w".into(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(completion::run(deps, stop.clone()));
        Self { database, store, bus, catalog, stop, _nats: nats }
    }

    fn context(owner: AccountId) -> CommandContext {
        CommandContext::internal(owner, "user", Uuid::now_v7())
    }

    /// A new person.
    pub async fn person(&self) -> Person {
        let (account, session) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
        let register = AccountCommand::Register { email: "a@example.org".into(), nickname: None, role: Role::User };
        let command = self.store.command::<Account>(Self::context(account), Root::New(account.as_uuid()));
        command.run(account.as_uuid(), register).await.unwrap();
        let open = SessionCommand::Open { owner_id: account, title: None, model: None, system_prompt: None };
        let command = self.store.command::<Session>(Self::context(account), Root::New(session.as_uuid()));
        command.run(session.as_uuid(), open).await.unwrap();
        Person { account, session }
    }

    /// Gives a person a key.
    pub async fn key(&self, person: &Person, provider: &str, secret: &str, priority: i32) -> KeyId {
        let (account_id, key_id) = (person.account, KeyId::new(Uuid::now_v7()));
        let seal = async |label: &str, clear: &str| {
            self.store.seal_column(account_id, label, key_id.as_uuid(), clear.as_bytes()).await.unwrap()
        };
        let effect = Effect::CreateApiKey {
            key_id,
            account_id,
            provider: provider.into(),
            base_url: None,
            name: seal(label::NAME, "key").await,
            key_hint: seal(label::HINT, "…").await,
            sealed_key: seal(&label::secret(provider, None), secret).await,
            priority,
        };
        let details = KeyDetails {
            provider: provider.into(),
            name: "key".into(),
            key_hint: "…".into(),
            base_url: None,
            priority,
        };
        self.store
            .command::<ApiKey>(Self::context(account_id), Root::Existing(account_id.as_uuid()))
            .effects(move |_, _| vec![effect.clone()])
            .run(key_id.as_uuid(), ApiKeyCommand::Add(details))
            .await
            .unwrap();
        key_id
    }

    /// Asks a model and waits for the end.
    pub async fn ask(&self, person: &Person, model: &str, fallbacks: &[&str]) -> Answered {
        self.ask_with(person, model, fallbacks, Params::default(), "hello").await
    }

    /// Asks a model with parameters.
    pub async fn ask_with(
        &self,
        person: &Person,
        model: &str,
        fallbacks: &[&str],
        params: Params,
        content: &str,
    ) -> Answered {
        let prompt = Prompt { content: content.into(), ..Prompt::default() };
        self.ask_about(person, model, fallbacks, params, prompt).await
    }

    /// Asks a model about a prompt with everything that comes with it.
    pub async fn ask_about(
        &self,
        person: &Person,
        model: &str,
        fallbacks: &[&str],
        params: Params,
        prompt: Prompt,
    ) -> Answered {
        let reference = |name: &&str| self.catalog.resolve(name).unwrap().reference();
        let request = AnswerRequest {
            model: reference(&model),
            fallbacks: fallbacks.iter().map(reference).collect(),
            params,
            ..AnswerRequest::default()
        };
        let (turn_id, answer_id) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
        let (session_id, owner_id) = (person.session, person.account);
        let mut chunks = self.bus.subscribe_chunks().await.unwrap();
        let prompt = Prompt { session_id, ..prompt };
        let post = TurnCommand::Post { prompt, answers: vec![NewAnswer { answer_id, request }] };
        self.store
            .command::<Turn>(Self::context(owner_id), Root::Existing(session_id.as_uuid()))
            .effects(move |_, turn_version| {
                vec![Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard: None })]
            })
            .run(turn_id.as_uuid(), post)
            .await
            .unwrap();
        let now = chrono::Utc::now().timestamp_millis();
        let job =
            Job { answer_id, turn_id, session_id, owner_id, issue: 1, requested_at_ms: now, may_stand_alone: true };
        self.bus.publish_job(&job, JobClass::Interactive, &TraceContext::random()).await.unwrap();
        let (mut restarts, mut waits) = (Vec::new(), Vec::new());
        let ended = async {
            while let Some(chunk) = chunks.next().await {
                if chunk.answer_id != answer_id {
                    continue;
                }
                let frame = match chunk.said {
                    Said::Frame(frame) => frame,
                    Said::Waiting(said) => {
                        waits.push(said.reason);
                        continue;
                    }
                };
                match frame.body {
                    ChunkBody::Restart(data) => restarts.push(serde_json::from_slice(&data).unwrap()),
                    ChunkBody::Done(_) | ChunkBody::Error(_) => return,
                    ChunkBody::Text(_) | ChunkBody::Reasoning(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the answer never ended");
        let (turn, _) = self.store.load::<Turn>(turn_id.as_uuid()).await.unwrap();
        let failed = sqlx::query_scalar(
            "SELECT payload->'attempt_failed' FROM events WHERE aggregate_id = $1 AND event_type = 'attempt_failed' \
             ORDER BY sequence",
        );
        let failed: Vec<Value> = failed.bind(turn_id.to_string()).fetch_all(&self.database.pool).await.unwrap();
        Answered { answer: turn.answers[&answer_id].clone(), restarts, waits, failed }
    }

    /// One number from the database.
    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Answered {
    pub fn text(&self) -> &str {
        self.answer.record.as_ref().map_or("", |record| record.text.as_str())
    }

    /// Code of the error that it ended with.
    pub fn code(&self) -> &str {
        self.answer.error.as_ref().map_or("", |error| error.code.as_str())
    }

    pub fn key(&self) -> Option<KeyId> {
        self.answer.record.as_ref().and_then(|record| record.key_id)
    }
}
