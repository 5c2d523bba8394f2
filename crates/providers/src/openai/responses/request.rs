//! What is sent in the Responses dialect. Nothing is stored at the provider: encrypted reasoning travels with the
//! conversation.

use polyphony_domain::{
    content::{Conversation, Part, Role, ToolChoice},
    turn::ResponseFormat,
};
use serde_json::{Value, json};

use crate::{
    Loss, Options, Rendered,
    conversation::{Echo, Files, IdRule, Losses, NameRule, Prepared, Prompted, Target, data_url, prepare},
    fields::{number, parsed, tool_answer},
    openai::models,
};

const fn target(provider: &str) -> Target<'_> {
    Target {
        provider,
        echo: Echo::Signed,
        system_inside: true,
        alternates: false,
        refusals: true,
        images: &["image/png", "image/jpeg", "image/gif", "image/webp"],
        files: Files::PdfOrUrl,
        ids: IdRule::Word(64),
        names: NameRule::Word(64),
    }
}

/// Writes the request of an answer.
pub(crate) fn render(provider: &str, conversation: &Conversation, options: &Options) -> Rendered {
    let mut prepared = prepare(conversation, &target(provider));
    let mut losses = std::mem::take(&mut prepared.losses);
    let mut body = json!({"model": options.model, "input": input(&prepared), "stream": true, "store": false});
    if !prepared.system.is_empty() {
        body["instructions"] = prepared.system.clone().into();
    }
    if models::reasons(&options.model) {
        body["include"] = json!(["reasoning.encrypted_content"]);
    }
    parameters(options, &mut body, &mut losses);
    tools(options, &mut body);
    Rendered { endpoint: "responses".to_owned(), body: body.to_string().into(), losses: losses.0 }
}

fn input(prepared: &Prepared) -> Vec<Value> {
    let mut items = Vec::new();
    for message in &prepared.messages {
        match message.role {
            Role::Assistant => assistant(message, &mut items),
            Role::User => user("user", message, &mut items),
            Role::System => user("developer", message, &mut items),
        }
    }
    items
}

fn user(role: &str, message: &Prompted, items: &mut Vec<Value>) {
    let mut content = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text } => content.push(json!({"type": "input_text", "text": text.as_str()})),
            Part::Image { media } => content.push(json!({"type": "input_image", "image_url": data_url(media)})),
            Part::File { name, media } => content.push(match data_url(media) {
                url if url.starts_with("data:") => {
                    json!({"type": "input_file", "filename": name.as_str(), "file_data": url})
                }
                url => json!({"type": "input_file", "file_url": url}),
            }),
            Part::ToolResult(result) => items.push(json!({"type": "function_call_output",
                "call_id": result.call_id, "output": tool_answer(result)})),
            _ => {}
        }
    }
    if !content.is_empty() {
        items.push(json!({"type": "message", "role": role, "content": content}));
    }
}

fn assistant(message: &Prompted, items: &mut Vec<Value>) {
    let mut content = Vec::new();
    let mut calls = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text } => content.push(json!({"type": "output_text", "text": text.as_str()})),
            Part::Refusal { text } => content.push(json!({"type": "refusal", "refusal": text.as_str()})),
            Part::Reasoning { text, opaque: Some(opaque) } => {
                let Ok(mut item) = serde_json::from_str::<Value>(opaque.as_str()) else { continue };
                item["type"] = "reasoning".into();
                let summary = Some(text.as_str()).filter(|text| !text.is_empty());
                item["summary"] =
                    summary.into_iter().map(|text| json!({"type": "summary_text", "text": text})).collect();
                items.push(item);
            }
            Part::ToolCall(call) => calls.push(json!({"type": "function_call", "call_id": call.call_id,
                "name": call.name, "arguments": call.arguments.as_str()})),
            _ => {}
        }
    }
    if !content.is_empty() {
        items.push(json!({"type": "message", "role": "assistant", "content": content}));
    }
    items.extend(calls);
}

fn parameters(options: &Options, body: &mut Value, losses: &mut Losses) {
    let params = &options.params;
    if let Some(most) = params.max_tokens {
        body["max_output_tokens"] = most.into();
    }
    for (name, value) in [("temperature", params.temperature), ("top_p", params.top_p)] {
        match value {
            None => {}
            Some(_) if models::reasons(&options.model) => {
                losses.say(Loss::parameter(name, "this model takes none"));
            }
            Some(value) => body[name] = number(value),
        }
    }
    let refused = [
        ("presence_penalty", params.presence_penalty.is_some()),
        ("frequency_penalty", params.frequency_penalty.is_some()),
        ("seed", params.seed.is_some()),
        ("stop", !params.stop.is_empty()),
    ];
    for (name, _) in refused.into_iter().filter(|(_, set)| *set) {
        losses.say(Loss::parameter(name, "the provider's Responses API takes none"));
    }
    if let Some(effort) = &params.reasoning_effort {
        // Who asks for an effort wants to see it; unasked, accounts that aren't verified would be refused.
        body["reasoning"] = json!({"effort": effort, "summary": "auto"});
    }
    match &params.response_format {
        None => {}
        Some(ResponseFormat::JsonObject) => body["text"] = json!({"format": {"type": "json_object"}}),
        Some(ResponseFormat::JsonSchema { name, schema, strict }) => {
            let mut format = json!({"type": "json_schema", "name": name, "schema": parsed(schema)});
            if let Some(strict) = strict {
                format["strict"] = (*strict).into();
            }
            body["text"] = json!({"format": format});
        }
    }
}

fn tools(options: &Options, body: &mut Value) {
    if options.tools.is_empty() {
        return;
    }
    let tools = options.tools.iter().map(|tool| {
        // Unlike in the chat dialect, the default is to enforce the schema, which not every schema allows.
        let strict = tool.strict.unwrap_or(false);
        let mut written =
            json!({"type": "function", "name": tool.name, "parameters": parsed(&tool.parameters), "strict": strict});
        if let Some(description) = &tool.description {
            written["description"] = description.as_str().into();
        }
        written
    });
    body["tools"] = tools.collect();
    if let Some(choice) = &options.tool_choice {
        body["tool_choice"] = match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        };
    }
    if let Some(parallel) = options.params.parallel_tool_calls {
        body["parallel_tool_calls"] = parallel.into();
    }
}
