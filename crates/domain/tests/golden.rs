//! Golden JSON: every stored event of every released version must be readable for ever.
//!
//! The files hold events as the log stores them (personal fields opened). A file is never changed once it has been
//! released; a new version of an event gets a new file, and an upcaster.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use cqrs_es::DomainEvent;
use polyphony_domain::{
    access_token::AccessTokenEvent,
    account::{AccountEvent, Role},
    api_key::{ApiKeyEvent, KeyDetails},
    chunk_map::{ChunkKind, ChunkMap},
    content::{Citation, Media, MediaSource, Part, Tool, ToolCall, ToolChoice, ToolResult},
    context::{Change, Converted, Receipt, ReceiptPart},
    device_session::{DeviceSessionEvent, SignOutReason},
    ids::{AccountId, AnswerId, KeyId, ModelId, SessionId, TurnId},
    model_config::{Configuration, ModelConfigEvent},
    money::NanoUsd,
    session::SessionEvent,
    turn::{
        AnswerPurpose, AnswerRequest, AttemptReason, AttemptRecord, Discussion, DiscussionEnd, ErrorRecord, Feedback,
        Finish, ModelRef, Params, Prompt, ResponseFormat, Timings, TurnEvent, TurnPurpose, UsageRecord,
    },
};
use uuid::Uuid;

fn check<E: DomainEvent>(aggregate: &str, catalogue: &[(&str, &str)], examples: Vec<E>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut covered: BTreeSet<(String, String)> = BTreeSet::new();
    let mut examples_of: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in examples {
        let (name, version) = (event.event_type(), event.event_version());
        // Further examples of the same event show the fields that were added to it later.
        let before = examples_of.entry((name.clone(), version.clone())).or_insert(0);
        let again = ["", ".full", ".more"][*before];
        *before += 1;
        let path = folder.join(format!("{aggregate}.{name}.v{version}{again}.json"));
        if env::var_os("UPDATE_GENERATED").is_some() && !path.exists() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, serde_json::to_string_pretty(&event).unwrap() + "\n").unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<E>(&stored).unwrap(), event, "{}", path.display());
        let written: serde_json::Value = serde_json::to_value(&event).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), written, "{}", path.display());
        covered.insert((name, version));
    }
    let all: BTreeSet<_> =
        catalogue.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
    assert_eq!(covered, all, "every event of {aggregate} needs an example");
}

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn model() -> ModelRef {
    ModelRef { id: ModelId::new(uuid(4)), provider: "openai".into(), name: "gpt-4o".into() }
}

fn record() -> AttemptRecord {
    let mut chunks = ChunkMap::default();
    chunks.push(ChunkKind::Reasoning, 3);
    chunks.push(ChunkKind::Text, 200);
    AttemptRecord {
        attempt: 2,
        model: model(),
        text: "文".repeat(200 / 3 + 1).into(),
        reasoning: Some("hm.".into()),
        chunks,
        usage: UsageRecord {
            input: 10,
            output: 20,
            cached_input: 4,
            reasoning: 3,
            raw: "{}".into(),
            ..UsageRecord::default()
        },
        price_version: "2026-11-23".into(),
        cost: NanoUsd(1_234),
        timings: Timings { queue_ms: 1, first_chunk_ms: Some(2), total_ms: 3 },
        request_hash: "ab".repeat(32),
        parts: vec![],
        key_id: None,
        context: None,
    }
}

fn receipt() -> Receipt {
    let change = Change {
        message_id: Some(uuid(15)),
        last_message_id: Some(uuid(16)),
        count: 2,
        tokens: 300,
        what: "message".into(),
        why: "window".into(),
        summary: None,
    };
    Receipt {
        model: "openai/gpt-4o".into(),
        request_hash: "ab".repeat(32),
        window: 128_000,
        reserved_output: 16_384,
        budget: 106_496,
        used: 1_200,
        estimated: true,
        counted: None,
        parts: vec![ReceiptPart {
            kind: "message".into(),
            message_id: Some(uuid(17)),
            last_message_id: Some(uuid(18)),
            role: Some(polyphony_domain::content::Role::User),
            count: 1,
            tokens: 9,
        }],
        dropped: vec![change.clone()],
        summarized: vec![Change { summary: Some(AnswerId::new(uuid(19))), ..change }],
        converted: vec![Converted::new("image", Some(uuid(20)), "left out")],
    }
}

/// One part of each kind.
fn parts() -> Vec<Part> {
    let media = |source| Media { media_type: "image/png".into(), source };
    vec![
        Part::text("文"),
        Part::Image { media: media(MediaSource::Inline("aGk=".into())) },
        Part::Image { media: media(MediaSource::Url("https://example.org/a.png".into())) },
        Part::File { name: "a.pdf".into(), media: media(MediaSource::Stored(uuid(14))) },
        Part::Reasoning { text: "hm.".into(), opaque: Some("c2ln".into()) },
        Part::ToolCall(ToolCall {
            call_id: "c1".into(),
            name: "weather".into(),
            arguments: "{}".into(),
            opaque: Some("c2ln".into()),
        }),
        Part::ToolResult(ToolResult {
            call_id: "c1".into(),
            name: "weather".into(),
            content: "sunny".into(),
            is_error: true,
        }),
        Part::Refusal { text: "No.".into() },
        Part::Citation(Citation { url: "https://example.org".into(), title: Some("Example".into()) }),
    ]
}

#[test]
fn every_stored_event_is_readable_for_ever() {
    let account = AccountId::new(uuid(1));
    check(
        "account",
        AccountEvent::CATALOGUE,
        vec![
            AccountEvent::AccountRegistered {
                email: "a@example.org".into(),
                nickname: Some("小明".into()),
                role: Role::Admin,
            },
            AccountEvent::AllowanceSet { in_flight: 2_000 },
            AccountEvent::AccountErased {},
            AccountEvent::SettingsChanged { settings: "{\"theme\":\"dark\"}".into() },
        ],
    );
    let configuration = Configuration {
        temperature: Some(0.5),
        max_tokens: Some(100),
        top_p: Some(0.5),
        system_prompt: Some("Be brief.".into()),
        fallbacks: vec![model()],
    };
    check(
        "model_config",
        ModelConfigEvent::CATALOGUE,
        vec![ModelConfigEvent::ModelConfigured { model: model(), configuration }],
    );
    check(
        "device_session",
        DeviceSessionEvent::CATALOGUE,
        vec![
            DeviceSessionEvent::DeviceSignedIn { account_id: account, device_name: Some("laptop".into()) },
            DeviceSessionEvent::DeviceSignedOut { reason: SignOutReason::RefreshTokenReused },
        ],
    );
    check(
        "access_token",
        AccessTokenEvent::CATALOGUE,
        vec![
            AccessTokenEvent::AccessTokenIssued { name: "ci".into(), scopes: vec!["chat".into()], expires_at: None },
            AccessTokenEvent::AccessTokenRevoked {},
        ],
    );
    let details = KeyDetails {
        provider: "openai".into(),
        name: "work".into(),
        key_hint: "…abcd".into(),
        base_url: Some("https://example.org/v1".into()),
        priority: 1,
    };
    let base_url = details.base_url.clone();
    check(
        "api_key",
        ApiKeyEvent::CATALOGUE,
        vec![
            ApiKeyEvent::ApiKeyAdded { details },
            ApiKeyEvent::ApiKeyRotated { key_hint: "…wxyz".into(), base_url, version: 2 },
            ApiKeyEvent::ApiKeyRenamed { name: "work".into() },
            ApiKeyEvent::ApiKeyPrioritised { priority: 2 },
            ApiKeyEvent::ApiKeyRefused { version: 2 },
            ApiKeyEvent::ApiKeyAccepted { version: 2 },
            ApiKeyEvent::ApiKeyRemoved {},
        ],
    );
    check(
        "session",
        SessionEvent::CATALOGUE,
        vec![
            SessionEvent::SessionOpened {
                owner_id: account,
                title: Some("Tea".into()),
                model: Some("openai/gpt-4o".into()),
                system_prompt: Some("Be brief.".into()),
            },
            SessionEvent::SessionRenamed { title: "茶".into() },
            SessionEvent::SystemPromptSet { system_prompt: "Be long.".into() },
            SessionEvent::SessionAnnotated { metadata: "{\"a\":1}".into() },
            SessionEvent::ModelSwitched { model: "anthropic/claude-sonnet-4-5".into() },
            SessionEvent::SessionArchived {},
            SessionEvent::SessionUnarchived {},
            SessionEvent::SessionDeleted {},
            SessionEvent::SessionRestored {},
            SessionEvent::SessionErased {},
            SessionEvent::BranchActivated { message_id: uuid(3) },
            SessionEvent::MessagePinned { message_id: uuid(3) },
            SessionEvent::MessageUnpinned { message_id: uuid(3) },
            SessionEvent::SummaryDismissed { summary: AnswerId::new(uuid(3)) },
            SessionEvent::MessageDeleted { message_id: uuid(3), removed: 4 },
        ],
    );
    let answer_id = AnswerId::new(uuid(3));
    let error = ErrorRecord { code: "PROVIDER_ERROR".into(), message: "it broke off".into(), retryable: true };
    check(
        "turn",
        TurnEvent::CATALOGUE,
        vec![
            TurnEvent::PromptPosted(Prompt {
                session_id: SessionId::new(uuid(2)),
                parent: Some(AnswerId::new(uuid(9))),
                content: "你好".into(),
                ..Prompt::default()
            }),
            TurnEvent::AnswerRequested {
                answer_id,
                version: 1,
                request: AnswerRequest {
                    model: model(),
                    params: Params { temperature: Some(0.5), max_tokens: Some(100), ..Params::default() },
                    key_id: Some(KeyId::new(uuid(5))),
                    derived_from: vec![AnswerId::new(uuid(6))],
                    ..AnswerRequest::default()
                },
            },
            TurnEvent::AttemptStarted {
                answer_id,
                attempt: 2,
                worker: "w".into(),
                reason: AttemptReason::LeaseExpired,
                model: None,
            },
            TurnEvent::AttemptFailed { answer_id, record: record(), error: error.clone() },
            TurnEvent::AttemptFailed {
                answer_id,
                record: AttemptRecord { usage: UsageRecord { cache_write: 5, ..record().usage }, ..record() },
                error: error.clone(),
            },
            TurnEvent::PromptPosted(Prompt {
                session_id: SessionId::new(uuid(2)),
                parent: None,
                content: "What is this?".into(),
                parts: parts(),
                purpose: TurnPurpose::Summary {
                    first: TurnId::new(uuid(10)),
                    last: TurnId::new(uuid(11)),
                    by_request: false,
                },
                quote: Some(uuid(12)),
                edited_from: Some(TurnId::new(uuid(13))),
                given: Some("{\"messages\":[]}".into()),
                discussion: None,
            }),
            TurnEvent::AnswerRequested {
                answer_id,
                version: 2,
                request: AnswerRequest {
                    model: model(),
                    params: Params {
                        stop: vec!["END".into()],
                        presence_penalty: Some(0.5),
                        frequency_penalty: Some(-0.5),
                        seed: Some(7),
                        reasoning_effort: Some("low".into()),
                        response_format: Some(ResponseFormat::JsonSchema {
                            name: "point".into(),
                            schema: "{\"type\":\"object\"}".into(),
                            strict: Some(true),
                        }),
                        parallel_tool_calls: Some(false),
                        ..Params::default()
                    },
                    purpose: AnswerPurpose::Comment { round: 2 },
                    fallbacks: vec![model()],
                    tools: vec![Tool {
                        name: "weather".into(),
                        description: Some("Tells the weather".into()),
                        parameters: "{}".into(),
                        strict: None,
                    }],
                    tool_choice: Some(ToolChoice::Named("weather".into())),
                    ..AnswerRequest::default()
                },
            },
            TurnEvent::AttemptStarted {
                answer_id,
                attempt: 3,
                worker: "w".into(),
                reason: AttemptReason::Failover,
                model: Some(model()),
            },
            TurnEvent::StopRequested { answer_id },
            TurnEvent::AnswerCompleted { answer_id, record: record(), finish: Finish::new("stop") },
            TurnEvent::AnswerCompleted {
                answer_id,
                record: AttemptRecord { parts: parts(), key_id: Some(KeyId::new(uuid(5))), ..record() },
                finish: Finish::new("tool_calls"),
            },
            TurnEvent::AnswerCompleted {
                answer_id,
                record: record(),
                finish: Finish { stop_sequence: Some("END".into()), ..Finish::new("stop") },
            },
            TurnEvent::AnswerFailed { answer_id, record: record(), error: error.clone() },
            TurnEvent::AnswerStopped { answer_id, record: record() },
            TurnEvent::AnswerStopped {
                answer_id,
                record: AttemptRecord { context: Some(receipt().into()), ..record() },
            },
            TurnEvent::AnswerInterrupted { answer_id, record: record(), error },
            TurnEvent::PromptPosted(Prompt {
                content: "Which tea?".into(),
                discussion: Some(Box::new(Discussion {
                    rounds: 2,
                    chair: AnswerRequest { model: model(), ..AnswerRequest::default() },
                    max_cost: Some(NanoUsd(50_000_000)),
                })),
                ..Prompt::default()
            }),
            TurnEvent::AnswerRequested {
                answer_id,
                version: 3,
                request: AnswerRequest {
                    model: model(),
                    purpose: AnswerPurpose::Synthesis,
                    system_prompt: Some("Be brief.".into()),
                    instructions: Some("In verse.".into()),
                    ..AnswerRequest::default()
                },
            },
            TurnEvent::FeedbackGiven {
                answer_id,
                feedback: Feedback { rating: -1, comment: Some("Too long.".into()) },
            },
            TurnEvent::FeedbackWithdrawn { answer_id },
            TurnEvent::DiscussionClosed { reason: DiscussionEnd::Stopped },
        ],
    );
}
