//! The demo model: built in, free, without a key. It says what it is and shows what the page can display.
//!
//! The name of the model scripts it: `demo-n2000-i5` answers with 2,000 pieces, 5 ms apart. The same conversation
//! always gets the same answer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use polyphony_domain::{
    content::{Conversation, Message, Part, Role},
    personal::Personal,
    turn::Params,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::{
    Adapter, AdapterEvent, AdapterStream, Capabilities, FinishReason, Loss, LossKind, ModelInfo, Options,
    ProviderError, ProviderKey, Rendered, Usage,
};

/// Pause between two pieces.
const PAUSE: Duration = Duration::from_millis(15);
/// Characters of the last prompt that are quoted.
const QUOTE: usize = 60;

/// The adapter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demo;

/// What `render` makes and `stream` plays.
#[derive(Serialize, Deserialize)]
struct Script {
    model: String,
    prompt: String,
    turns: usize,
    input: u64,
    max_tokens: Option<u32>,
}

/// How many pieces, how far apart; by the model's name.
fn plan(model: &str) -> (Option<usize>, Duration) {
    let (mut pieces, mut pause) = (None, PAUSE);
    for part in model.split('-').skip(1) {
        if let Some(n) = part.strip_prefix('n').and_then(|n| n.parse().ok()) {
            pieces = Some(n);
        } else if let Some(i) = part.strip_prefix('i').and_then(|i| i.parse().ok()) {
            pause = Duration::from_millis(i);
        }
    }
    (pieces, pause)
}

fn answer(script: &Script) -> String {
    let mut quote: String = script.prompt.chars().take(QUOTE).collect();
    if quote.len() < script.prompt.len() {
        quote.push('…');
    }
    let quote = quote.replace('\n', " ");
    format!(
        "I am the **built-in demo model** of Polyphony. I need no key, cost nothing, and do not think: this answer is \
         written in advance. You wrote “{quote}”, and I see {} earlier message(s) in this conversation.\n\n\
         What a real model's answer may hold:\n\n\
         ```rust\nfn main() {{\n    println!(\"Hello, 世界\");\n}}\n```\n\n\
         | model | speaks | costs |\n|---|---|---|\n| demo | English, 中文 | $0.00 |\n\n\
         Mathematics: $e^{{i\\pi}} + 1 = 0$.\n\n\
         中文：你好！这是内置的演示模型。添加一个服务商的密钥后，就可以与真正的模型对话，并在同一个会话中随时切换。👋\n",
        script.turns
    )
}

/// Cuts a text into pieces of about a token: a word with its blank, or a few characters of Chinese.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in text.chars() {
        let full = pieces.last().is_some_and(|piece: &String| {
            piece.ends_with([' ', '\n']) || piece.chars().count() >= if piece.is_ascii() { 6 } else { 2 }
        });
        if full {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

/// It reads texts and heeds `max_tokens`; everything else it leaves, and says so.
fn losses(conversation: &Conversation, options: &Options) -> Vec<Loss> {
    let mut losses = Vec::new();
    for message in &conversation.messages {
        for part in &message.parts {
            let kind = match part {
                Part::Text { .. } => continue,
                Part::Image { .. } => LossKind::Image,
                Part::File { .. } => LossKind::File,
                Part::Reasoning { .. } => LossKind::Reasoning,
                Part::ToolCall(_) => LossKind::ToolCall,
                Part::ToolResult(_) => LossKind::ToolResult,
                Part::Refusal { .. } => LossKind::Refusal,
                _ => LossKind::Citation,
            };
            let loss = Loss::within(message.message_id, kind, "the demo model reads texts alone");
            if !losses.contains(&loss) {
                losses.push(loss);
            }
        }
    }
    if !options.tools.is_empty() {
        losses.push(Loss::of(LossKind::Tool, "the demo model calls no tools"));
    }
    let heeded = Params { max_tokens: options.params.max_tokens, ..Params::default() };
    if options.params != heeded {
        losses.push(Loss::of(LossKind::Parameter, "the demo model heeds max_tokens alone"));
    }
    losses
}

/// A long answer of numbered pieces, some of several bytes.
fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| if n % 5 == 0 { format!("第{n}个🌊 ") } else { format!("w{n} ") }).collect()
}

#[async_trait]
impl Adapter for Demo {
    fn provider(&self) -> &'static str {
        "demo"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn render(&self, conversation: &Conversation, options: &Options) -> Rendered {
        let texts = |role: Option<Role>| {
            conversation
                .messages
                .iter()
                .filter(move |message| role.is_none_or(|role| message.role == role))
                .flat_map(Message::texts)
        };
        let script = Script {
            model: options.model.clone(),
            prompt: texts(Some(Role::User)).last().unwrap_or_default().to_owned(),
            turns: conversation.messages.len().saturating_sub(1),
            input: texts(None)
                .chain(conversation.system.as_ref().map(Personal::as_str))
                .map(|text| pieces(text).len() as u64)
                .sum(),
            max_tokens: options.params.max_tokens,
        };
        let body = Bytes::from(serde_json::to_vec(&script).unwrap_or_default());
        Rendered { endpoint: String::new(), body, losses: losses(conversation, options) }
    }

    async fn stream(&self, rendered: Rendered, _key: Option<&ProviderKey>) -> Result<AdapterStream, ProviderError> {
        let script: Script =
            serde_json::from_slice(&rendered.body).map_err(|_| ProviderError::of(crate::ErrorKind::BadRequest))?;
        let (count, pause) = plan(&script.model);
        let mut words = count.map_or_else(|| pieces(&answer(&script)), numbered);
        let most = script.max_tokens.map_or(usize::MAX, |most| most as usize);
        let finish = if words.len() > most { FinishReason::Length } else { FinishReason::Stop };
        words.truncate(most);
        let usage = Usage { input: script.input, output: words.len() as u64, ..Usage::default() };
        let begin = Instant::now();
        let text = stream::iter(words.into_iter().zip(0_u32..)).then(move |(word, n)| async move {
            // By the clock, not one after another: a late piece doesn't delay those after it.
            sleep_until(begin + pause * n).await;
            Ok(AdapterEvent::Text(word))
        });
        let end = stream::iter([Ok(AdapterEvent::Usage(usage)), Ok(AdapterEvent::Finish(finish))]);
        Ok(text.chain(end).boxed())
    }

    async fn validate_key(&self, _key: &ProviderKey) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn list_models(&self, _key: Option<&ProviderKey>) -> Result<Vec<ModelInfo>, ProviderError> {
        Ok(vec![ModelInfo { name: "demo".to_owned(), ..ModelInfo::default() }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn play(model: &str, max_tokens: Option<u32>) -> (String, Vec<AdapterEvent>) {
        let conversation = Conversation { system: None, messages: vec![Message::text(Role::User, "你好")] };
        let params = Params { max_tokens, ..Params::default() };
        let options = Options { model: model.into(), params, ..Options::default() };
        let events: Vec<_> = Demo.stream(Demo.render(&conversation, &options), None).await.unwrap().collect().await;
        let events: Vec<_> = events.into_iter().map(Result::unwrap).collect();
        let text = events
            .iter()
            .filter_map(|event| if let AdapterEvent::Text(text) = event { Some(text.as_str()) } else { None });
        (text.collect(), events)
    }

    #[tokio::test(start_paused = true)]
    async fn the_demo_answers_honestly_and_always_the_same() {
        let (text, events) = play("demo", None).await;
        assert!(text.contains("built-in demo model") && text.contains("你好"));
        assert_eq!(events.last(), Some(&AdapterEvent::Finish(FinishReason::Stop)));
        assert_eq!(play("demo", None).await.0, text);
    }

    #[tokio::test(start_paused = true)]
    async fn its_name_sets_its_length() {
        let (text, events) = play("demo-n12-i5", None).await;
        assert_eq!(events.len(), 14);
        assert!(text.starts_with("w1 w2 ") && text.contains("第10个🌊"));
        assert_eq!(play("demo-n12-i5", Some(3)).await.1.last(), Some(&AdapterEvent::Finish(FinishReason::Length)));
    }
}
