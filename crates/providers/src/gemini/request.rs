//! What is sent to Gemini.

use polyphony_domain::{
    content::{Conversation, ToolChoice},
    turn::{Params, ResponseFormat},
};
use serde_json::{Map, Value, json};

use super::{
    contents::{contents, target},
    models::{Thinking, of},
};
use crate::{
    Loss, Options, Rendered,
    conversation::{Losses, prepare},
    fields::{number, parsed},
};

/// Most texts that end an answer.
const MOST_STOPS: usize = 5;

/// Writes the request of an answer.
pub(super) fn render(provider: &str, conversation: &Conversation, options: &Options) -> Rendered {
    let mut prepared = prepare(conversation, &target(provider));
    let mut losses = std::mem::take(&mut prepared.losses);
    let traits = of(bare(&options.model));
    let mut body = json!({"contents": contents(&prepared, traits.wants_signatures)});
    if !prepared.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": prepared.system}]});
    }
    tools(options, &mut body, &mut losses);
    let mut config = generation(&options.params, &mut losses);
    thinking(&options.params, traits.thinking, &mut config, &mut losses);
    if !config.is_empty() {
        body["generationConfig"] = config.into();
    }
    let endpoint = format!("{}:streamGenerateContent?alt=sse", path(&options.model));
    Rendered { endpoint, body: body.to_string().into(), losses: losses.0 }
}

fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// The path of a model. Its name is a person's word: what could leave the path is encoded.
pub(super) fn path(model: &str) -> String {
    let mut encoded = String::new();
    for byte in bare(model).bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("v1beta/models/{encoded}")
}

/// The request of counting the tokens of another one.
pub(super) fn counted(model: &str, rendered: &Rendered) -> Value {
    let mut body: Value = serde_json::from_slice(&rendered.body).unwrap_or_default();
    body["model"] = format!("models/{}", bare(model)).into();
    json!({"generateContentRequest": body})
}

fn generation(params: &Params, losses: &mut Losses) -> Map<String, Value> {
    let mut config = Map::new();
    for (name, value) in [
        ("temperature", params.temperature),
        ("topP", params.top_p),
        ("presencePenalty", params.presence_penalty),
        ("frequencyPenalty", params.frequency_penalty),
    ] {
        config.extend(value.map(|value| (name.to_owned(), number(value))));
    }
    config.extend(params.max_tokens.map(|most| ("maxOutputTokens".to_owned(), most.into())));
    if let Some(seed) = params.seed {
        match i32::try_from(seed) {
            Ok(seed) => config.insert("seed".to_owned(), seed.into()).map_or((), drop),
            Err(_) => losses.say(Loss::parameter("seed", "the provider takes 32 bits")),
        }
    }
    let mut stop = params.stop.clone();
    if stop.len() > MOST_STOPS {
        stop.truncate(MOST_STOPS);
        losses.say(Loss::parameter("stop", "only the first five texts are sent"));
    }
    if !stop.is_empty() {
        config.insert("stopSequences".to_owned(), stop.into());
    }
    if let Some(format) = &params.response_format {
        config.insert("responseMimeType".to_owned(), "application/json".into());
        if let ResponseFormat::JsonSchema { schema, .. } = format {
            config.insert("responseJsonSchema".to_owned(), parsed(schema));
        }
    }
    if params.parallel_tool_calls == Some(false) {
        losses.say(Loss::parameter("parallel_tool_calls", "the provider can't be told"));
    }
    config
}

/// A model that thinks shows its thoughts.
fn thinking(params: &Params, form: Thinking, config: &mut Map<String, Value>, losses: &mut Losses) {
    let effort = params.reasoning_effort.as_deref();
    let mut thinking = json!({"includeThoughts": true});
    match (form, effort) {
        (Thinking::No, None) => return,
        (Thinking::No, Some(_)) => return losses.say(Loss::parameter("reasoning_effort", "this model takes none")),
        (_, None) => {}
        (Thinking::Budget { least }, Some(effort)) => {
            let budget = match effort {
                "none" => 0,
                "minimal" => 512,
                "low" => 1_024,
                "medium" => 8_192,
                _ => 24_576,
            };
            if budget < least {
                losses.say(Loss::parameter("reasoning_effort", "this model always reasons a little"));
            }
            thinking["thinkingBudget"] = budget.max(least).into();
        }
        (Thinking::Level, Some(effort)) => {
            if ["none", "minimal"].contains(&effort) {
                losses.say(Loss::parameter("reasoning_effort", "`low` is the least that every model takes"));
            }
            thinking["thinkingLevel"] = if ["none", "minimal"].contains(&effort) { "low" } else { effort }.into();
        }
    }
    config.insert("thinkingConfig".to_owned(), thinking);
}

fn tools(options: &Options, body: &mut Value, losses: &mut Losses) {
    if options.tools.is_empty() {
        return;
    }
    if options.tools.iter().any(|tool| tool.strict == Some(true)) {
        losses.say(Loss::parameter("strict", "the provider can't be told to enforce a tool's schema"));
    }
    let declarations = options.tools.iter().map(|tool| {
        let mut written = json!({"name": tool.name, "parametersJsonSchema": parsed(&tool.parameters)});
        if let Some(description) = &tool.description {
            written["description"] = description.as_str().into();
        }
        written
    });
    body["tools"] = json!([{"functionDeclarations": declarations.collect::<Vec<Value>>()}]);
    if let Some(choice) = &options.tool_choice {
        let config = match choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Required => json!({"mode": "ANY"}),
            ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        body["toolConfig"] = json!({"functionCallingConfig": config});
    }
}
