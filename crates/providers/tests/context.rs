//! Conversations made to fit, with the real tokeniser.

use polyphony_domain::{
    catalog::Model,
    context::{Range, Thread},
    ids::{AnswerId, TurnId},
    session::Session,
    turn::{Answer, AnswerStatus, AttemptRecord, ModelRef, Prompt, Turn, TurnPurpose},
};
use polyphony_providers::{Options, context::Contexts, context::fit_transcript, tokens::count_conversation};
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
