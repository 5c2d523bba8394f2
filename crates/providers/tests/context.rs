//! Conversations made to fit, with the real tokeniser.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Json, Router, routing::post};
use polyphony_domain::{
    catalog::Model,
    content::{Media, MediaSource, Part},
    context::{Range, Thread},
    ids::{AnswerId, TurnId},
    session::Session,
    turn::{Answer, AnswerStatus, AttemptRecord, ModelRef, Prompt, Turn, TurnPurpose},
};
use polyphony_providers::{
    Adapter, Options, ProviderKey,
    anthropic::Anthropic,
    context::{Contexts, fit_transcript},
    tokens::count_conversation,
};
use serde_json::{Value, json};
use uuid::Uuid;

struct Talk {
    session: Session,
    turns: Vec<(TurnId, Turn)>,
}

impl Talk {
    fn of(turns: usize, text: impl Fn(usize) -> String) -> Self {
        let session = Session { system_prompt: Some("Answer in one word.".into()), ..Session::default() };
        let mut talk = Self { session, turns: vec![] };
        for n in 0..turns {
            let parent = n.checked_sub(1).map(answer_id);
            talk.add(n, Prompt { parent, content: text(n).into(), ..Prompt::default() }, text(n));
        }
        talk
    }

    fn add(&mut self, n: usize, prompt: Prompt, answer: String) {
        let record = AttemptRecord { text: answer.into(), ..AttemptRecord::empty(ModelRef::default()) };
        let answer = Answer { status: AnswerStatus::Complete, record: Some(record), ..Answer::default() };
        self.turns.push((
            turn_id(n),
            Turn { prompt: Some(prompt), answers: [(answer_id(n), answer)].into(), ..Turn::default() },
        ));
    }

    fn history(&self) -> polyphony_domain::context::History<'_> {
        polyphony_domain::context::History::new(&self.session, self.turns.iter().map(|(id, turn)| (*id, turn)))
    }

    fn thread(&self, last: usize) -> Thread {
        Thread::to(&self.history(), turn_id(last))
    }
}

fn turn_id(n: usize) -> TurnId {
    TurnId::new(Uuid::from_u128(n as u128 * 2 + 1))
}

fn answer_id(n: usize) -> AnswerId {
    AnswerId::new(Uuid::from_u128(n as u128 * 2 + 2))
}

fn model(provider: &str, context_length: u32) -> Model {
    Model { context_length, max_output: context_length / 8, ..Model::declared(provider, "m") }
}

#[tokio::test]
async fn two_thousand_messages_fit_every_window_by_the_real_count() {
    let prose =
        |n: usize| format!("Message {n}: the kettle boils — 水开了，泡一壶茶吧。\n```rust\nlet cups = {n};\n```\n");
    let mut talk = Talk::of(1_000, prose);
    talk.session.pinned.extend([turn_id(3).as_uuid(), answer_id(500).as_uuid()]);
    let thread = talk.thread(999);
    let contexts = Contexts::default();
    for provider in ["openai", "anthropic", "gemini", "deepseek"] {
        for window in [2_048, 8_192, 32_768, 128_000] {
            let model = model(provider, window);
            let fitted = contexts.fit(&thread, &model, Options::default(), Uuid::nil()).await.unwrap();
            let receipt = &fitted.receipt;
            assert!(receipt.used <= receipt.budget, "{provider} {window}: {receipt:?}");
            // Marks included, it really has no more than was planned.
            let counted = count_conversation(fitted.conversation.clone(), provider).await;
            assert!(counted.tokens <= receipt.used, "{provider} {window}: {} > {}", counted.tokens, receipt.used);
            let shown: Vec<Uuid> =
                fitted.conversation.messages.iter().filter_map(|message| message.message_id).collect();
            assert!(talk.session.pinned.iter().all(|id| shown.contains(id)));
            assert_eq!(shown.last(), Some(&turn_id(999).as_uuid()));
            assert_eq!(receipt.lacks_room(), window < 128_000, "{provider} {window}");
        }
    }
}

#[tokio::test]
async fn after_a_refusal_less_is_sent_for_the_same_key_only() {
    let talk = Talk::of(60, |n| format!("{n} {}", "tea ".repeat(50)));
    let (thread, contexts, model) = (talk.thread(59), Contexts::default(), model("lab", 32_768));
    let (mine, yours) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut last = u64::MAX;
    for _ in 0..4 {
        let fitted = contexts.fit(&thread, &model, Options::default(), mine).await.unwrap();
        assert!(fitted.receipt.used < last);
        last = fitted.receipt.used;
        assert!(contexts.refused(&model, mine, &fitted.receipt));
    }
    assert!(!contexts.fit(&thread, &model, Options::default(), yours).await.unwrap().receipt.lacks_room());
}

#[tokio::test]
async fn a_range_is_summarised_within_the_window_and_its_summary_is_used() {
    let mut talk = Talk::of(100, |n| format!("第 {n} 句：{}", "水开了，泡一壶茶吧。".repeat(20)));
    let range = Range { first: turn_id(0), last: turn_id(89), parent: answer_id(89) };
    let contexts = Contexts::default();
    let small = model("lab", 16_384);
    let thread = Thread::of_range(&talk.history(), &range).unwrap();
    let asked = fit_transcript(&contexts, thread, &small, Options::default(), Uuid::nil()).await.unwrap();
    assert_eq!(asked.conversation.messages.len(), 1);
    assert!(asked.conversation.system.unwrap().as_str().contains("摘要"));
    let purpose = TurnPurpose::Summary { first: range.first, last: range.last, by_request: false };
    talk.add(200, Prompt { parent: Some(range.parent), purpose, ..Prompt::default() }, "一直在泡茶。".into());
    let fitted = contexts.fit(&talk.thread(99), &small, Options::default(), Uuid::nil()).await.unwrap();
    assert_eq!(fitted.receipt.summarized[0].count, 180);
    let first = fitted.conversation.messages[0].texts().next().unwrap();
    assert!(first.starts_with("以下是之前的对话记录（摘要）：\n\n一直在泡茶。"), "{first}");
    // A model with room for all of it is shown all of it.
    let large =
        contexts.fit(&talk.thread(99), &model("lab", 1_000_000), Options::default(), Uuid::nil()).await.unwrap();
    assert!(large.receipt.summarized.is_empty() && large.receipt.dropped.is_empty());
}

#[tokio::test]
async fn a_model_that_cannot_see_is_told_that_a_picture_was_there() {
    let mut talk = Talk::of(3, |n| format!("{n} tea"));
    for (id, turn) in &mut talk.turns {
        let media = Media { media_type: "image/png".into(), source: MediaSource::Inline("QUJD".into()) };
        let prompt = turn.prompt.as_mut().filter(|_| *id != turn_id(2));
        prompt.into_iter().for_each(|prompt| prompt.parts.push(Part::Image { media: media.clone() }));
    }
    let contexts = Contexts::default();
    let is_picture = |part: &Part| matches!(part, Part::Image { .. });
    for (sees, shown) in [(None, 2), (Some(true), 2), (Some(false), 0)] {
        let model = Model { sees, ..model("lab", 32_768) };
        let fitted = contexts.fit(&talk.thread(2), &model, Options::default(), Uuid::nil()).await.unwrap();
        let parts = fitted.conversation.messages.iter().flat_map(|message| &message.parts);
        assert_eq!(parts.clone().filter(|part| is_picture(part)).count(), shown);
        let told = parts.filter(|part| **part == Part::text("[A picture was left out here.]")).count();
        assert_eq!(told, 2 - shown);
        let said: Vec<(&str, u64)> = fitted.receipt.converted.iter().map(|it| (it.what.as_str(), it.count)).collect();
        assert_eq!(said, if shown == 0 { vec![("image", 2)] } else { vec![] });
        assert_eq!(fitted.receipt.used > 3_200, shown > 0, "{}", fitted.receipt.used);
    }
}

/// A host that counts tokens as Anthropic does: one for each `tokens`-th byte of the messages.
async fn counting_host(tokens: &'static AtomicU64) -> (Anthropic, Arc<AtomicU64>) {
    let asked = Arc::<AtomicU64>::default();
    let count = {
        let asked = asked.clone();
        move |Json(body): Json<Value>| {
            asked.fetch_add(1, Ordering::Relaxed);
            let bytes = body["messages"].to_string().len() as u64;
            std::future::ready(Json(json!({"input_tokens": bytes / tokens.load(Ordering::Relaxed)})))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().route("/v1/messages/count_tokens", post(count));
    tokio::spawn(axum::serve(listener, router).into_future());
    polyphony_platform::http::install_crypto_provider();
    (Anthropic::new("anthropic", &url, reqwest::Client::new()), asked)
}

#[tokio::test]
async fn near_the_end_of_the_window_the_provider_counts() {
    static BYTES: AtomicU64 = AtomicU64::new(4);
    let (adapter, asked) = counting_host(&BYTES).await;
    let key = ProviderKey::new(b"key".to_vec());
    let contexts = Contexts::default();
    let with = (&adapter as &dyn Adapter, Some(&key));
    let talk = Talk::of(100, |n| format!("{n} {}", "The kettle boils. ".repeat(20)));
    let thread = talk.thread(99);
    let options = || Options { model: "claude-sonnet-4-5".into(), ..Options::default() };
    // There is much room: our own count will do.
    let wide =
        contexts.fit_exactly(&thread, &model("anthropic", 1_000_000), options(), Uuid::nil(), with).await.unwrap();
    assert_eq!((wide.receipt.counted, asked.load(Ordering::Relaxed)), (None, 0));
    // Nearly full: the provider's own count stands in the receipt.
    let tight = model("anthropic", 8_192);
    let fitted = contexts.fit_exactly(&thread, &tight, options(), Uuid::nil(), with).await.unwrap();
    let counted = fitted.receipt.counted.unwrap();
    assert!(asked.load(Ordering::Relaxed) == 1 && counted <= fitted.receipt.budget, "{:?}", fitted.receipt);
    // It counts more than we do, and more than fits: less is shown, before anything was sent.
    BYTES.store(2, Ordering::Relaxed);
    let less = contexts.fit_exactly(&thread, &tight, options(), Uuid::nil(), with).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(less.conversation.messages.len() < fitted.conversation.messages.len());
    let real = adapter.count_tokens(&less.conversation, &less.options, Some(&key)).await.unwrap().unwrap();
    // The frames around messages are the dialect's: that is what the margin is for.
    assert!(real + less.receipt.reserved_output <= less.receipt.window, "{real} of {:?}", less.receipt);
    // A host that doesn't count leaves it at our own count.
    let nobody = Anthropic::new("anthropic", &"http://127.0.0.1:9".parse().unwrap(), reqwest::Client::new());
    let own = contexts.fit_exactly(&thread, &tight, options(), Uuid::nil(), (&nobody, None)).await.unwrap();
    assert_eq!(own.receipt.counted, None);
}
