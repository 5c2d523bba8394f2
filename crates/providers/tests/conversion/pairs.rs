//! All ordered pairs of adapters, in mid-conversation: what one of them answered, with reasoning and calls of tools, is
//! shown to the other, with pictures and documents.

use polyphony_domain::content::{Conversation, Media, MediaSource, Message, Part, Role, Tool, ToolResult};
use polyphony_providers::{LossKind, Options};
use uuid::Uuid;

use super::{Side, message, sides, valid};

/// One answer in each dialect: reasoning, text, and two calls of which the ids are no good.
pub(crate) fn answer(side: &Side) -> String {
    let events: &[&str] = match side.name {
        "openai (responses)" => &[
            r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"I must look."}],"encrypted_content":"SIGNED-openai"}}"#,
            r#"{"type":"response.output_text.delta","output_index":1,"delta":"Let me look."}"#,
            r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"same","name":"look","arguments":"{\"at\":1}"}}"#,
            r#"{"type":"response.output_item.done","output_index":3,"item":{"type":"function_call","id":"fc_2","call_id":"same","name":"look","arguments":""}}"#,
            r#"{"type":"response.completed","response":{"status":"completed","output":[],"usage":{"input_tokens":9,"output_tokens":9}}}"#,
        ],
        "anthropic" => &[
            r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"I must look."}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"SIGNED-anthropic"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"SIGNED-anthropic-2"}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"Let me look."}}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"same","name":"look","input":{"at":1}}}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"same","name":"look","input":{}}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        "gemini" => &[
            r#"{"candidates":[{"content":{"parts":[{"text":"I must look.","thought":true}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"Let me look."}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"look","args":{"at":1}},"thoughtSignature":"SIGNED-gemini"},{"functionCall":{"name":"look"}}]},"finishReason":"STOP"}]}"#,
        ],
        _ => &[
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"I must look."}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Let me look."}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"same","function":{"name":"look","arguments":"{\"at\":1}"}},{"id":"same","function":{"name":"look","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            "[DONE]",
        ],
    };
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn media(media_type: &str, source: MediaSource) -> Media {
    Media { media_type: media_type.to_owned(), source }
}

/// A person's message with everything that it can have.
fn prompt() -> Message {
    let inline = || MediaSource::Inline("QUJD".into());
    let parts = vec![
        Part::text("Compare these."),
        Part::Image { media: media("image/png", inline()) },
        Part::Image { media: media("image/jpeg", MediaSource::Url("https://example.org/a.jpg".into())) },
        Part::File { name: "a.pdf".into(), media: media("application/pdf", inline()) },
        Part::File { name: "b.txt".into(), media: media("text/plain", inline()) },
    ];
    Message { role: Role::User, parts, message_id: Some(Uuid::now_v7()), provider: None }
}

fn results() -> Message {
    let result = |n: u8| {
        let content = format!("result {n}").into();
        Part::ToolResult(ToolResult { call_id: "same".into(), name: "look".into(), content, is_error: n == 2 })
    };
    Message { role: Role::User, parts: vec![result(1), result(2)], message_id: Some(Uuid::now_v7()), provider: None }
}

/// What one side answered, in mid-conversation: the calls' ids as a stream gives them, made whole as the worker gets them.
fn conversation(from: &Side) -> Conversation {
    let mut messages = vec![prompt()];
    if from.converter.is_some() {
        let mut answered = message(from, &answer(from));
        let calls = answered.parts.iter_mut().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        });
        for call in calls {
            call.call_id = "same".to_owned();
        }
        messages.extend([answered, results()]);
    } else {
        messages.push(Message { provider: Some("demo".to_owned()), ..Message::text(Role::Assistant, "I am a demo.") });
    }
    messages.push(Message::text(Role::System, "Be brief."));
    messages.push(Message::text(Role::User, "And now?"));
    Conversation { system: Some("You look at things.".into()), messages }
}

#[test]
fn every_adapter_takes_over_from_every_other_in_mid_conversation() {
    for from in sides() {
        let conversation = conversation(&from);
        for to in sides() {
            let context = format!("{} → {}", from.name, to.name);
            let look = Tool { name: "look".into(), parameters: r#"{"type":"object"}"#.into(), ..Tool::default() };
            for tools in [vec![look], vec![]] {
                let options = Options { tools, ..to.options() };
                let rendered = to.adapter.render(&conversation, &options);
                let body: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
                valid::check(to.name, &body, &context);
                let written = body.to_string();
                let same = from.adapter.provider() == to.adapter.provider();
                // Signatures go back to the very same provider, and to nobody else.
                for provider in ["openai", "anthropic", "gemini"] {
                    let signed = written.contains(&format!("SIGNED-{provider}"));
                    assert!(!signed || (same && from.adapter.provider() == provider), "{context}: a foreign signature");
                }
                let lost = |kind| rendered.losses.iter().any(|loss| loss.kind == kind);
                let thoughts = written.contains("I must look.");
                if from.converter.is_some() && to.converter.is_some() {
                    assert!(written.contains("Let me look."), "{context}: the text is gone");
                    assert!(
                        written.contains("result 1") && written.contains("result 2"),
                        "{context}: a result is gone"
                    );
                    assert!(thoughts || written.contains("SIGNED") || lost(LossKind::Reasoning), "{context}: unsaid");
                    assert!(same || !thoughts, "{context}: foreign reasoning");
                }
                let keeps_signature =
                    from.name == to.name && ["openai (responses)", "anthropic", "gemini"].contains(&to.name);
                assert!(!keeps_signature || written.contains("SIGNED"), "{context}: its own signature is gone");
                assert!(written.contains("QUJD") || lost(LossKind::Image), "{context}: a lost picture is unsaid");
                assert!(
                    written.contains("application/pdf") || lost(LossKind::File),
                    "{context}: a lost document is unsaid"
                );
            }
        }
    }
}

#[test]
fn the_same_conversation_is_always_the_same_request() {
    for from in sides() {
        let conversation = conversation(&from);
        for to in sides() {
            let once = to.adapter.render(&conversation, &to.options());
            assert_eq!(once, to.adapter.render(&conversation, &to.options()), "{} → {}", from.name, to.name);
        }
    }
}
