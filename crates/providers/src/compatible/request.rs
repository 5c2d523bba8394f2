//! What is sent to the host.

use polyphony_domain::{content::Conversation, turn::ResponseFormat};
use serde_json::{Value, json};

use super::{
    Quirks,
    hosts::Effort,
    messages::{messages, target, tools},
};
use crate::{
    Loss, Options, Rendered,
    conversation::{Losses, prepare},
    fields::{format_in_words, number, parsed},
};

/// Most texts that end an answer.
const MOST_STOPS: usize = 4;

/// Writes the request of an answer.
pub(crate) fn render(quirks: &Quirks, provider: &str, conversation: &Conversation, options: &Options) -> Rendered {
    let mut prepared = prepare(conversation, &target(quirks, provider));
    let mut losses = std::mem::take(&mut prepared.losses);
    let mut body = json!({"model": options.model, "stream": true});
    if quirks.usage_on_request {
        body["stream_options"] = json!({"include_usage": true});
    }
    sampling(quirks, options, &mut body, &mut losses);
    if let Some(effort) = &options.params.reasoning_effort {
        reasoning(quirks.effort, effort, &mut body, &mut losses);
    }
    if let Some(format) = &options.params.response_format {
        body["response_format"] = match format {
            ResponseFormat::JsonSchema { name, schema, strict } if quirks.json_schema => {
                let mut wanted = json!({"name": name, "schema": parsed(schema)});
                if let Some(strict) = strict {
                    wanted["strict"] = (*strict).into();
                }
                json!({"type": "json_schema", "json_schema": wanted})
            }
            ResponseFormat::JsonSchema { .. } => {
                format_in_words(format, &mut prepared.system, &mut losses);
                json!({"type": "json_object"})
            }
            ResponseFormat::JsonObject => json!({"type": "json_object"}),
        };
    }
    tools(options, &mut body);
    if let (Some(parallel), false) = (options.params.parallel_tool_calls, options.tools.is_empty()) {
        set(quirks, "parallel_tool_calls", "parallel_tool_calls", parallel.into(), &mut body, &mut losses);
    }
    body["messages"] = messages(quirks, &prepared, &mut losses).into();
    Rendered { endpoint: "chat/completions".to_owned(), body: body.to_string().into(), losses: losses.0 }
}

fn sampling(quirks: &Quirks, options: &Options, body: &mut Value, losses: &mut Losses) {
    let params = &options.params;
    if let Some(most) = params.max_tokens {
        body[quirks.max_tokens_field] = most.into();
    }
    let fixed = quirks.fixed_sampling.iter().any(|beginning| options.model.starts_with(beginning));
    for (name, value) in [
        ("temperature", params.temperature),
        ("top_p", params.top_p),
        ("presence_penalty", params.presence_penalty),
        ("frequency_penalty", params.frequency_penalty),
    ] {
        match value {
            None => {}
            Some(_) if fixed => losses.say(Loss::parameter(name, "this model takes none")),
            Some(value) => set(quirks, name, name, number(value), body, losses),
        }
    }
    if let Some(seed) = params.seed {
        set(quirks, "seed", quirks.seed_field, seed.into(), body, losses);
    }
    let mut stop = params.stop.clone();
    if stop.len() > MOST_STOPS {
        stop.truncate(MOST_STOPS);
        losses.say(Loss::parameter("stop", "only the first four texts are sent"));
    }
    if !stop.is_empty() {
        set(quirks, "stop", "stop", stop.into(), body, losses);
    }
}

/// Writes a field, unless the host refuses it.
fn set(quirks: &Quirks, name: &str, field: &str, value: Value, body: &mut Value, losses: &mut Losses) {
    if quirks.refuses.contains(&name) {
        losses.say(Loss::parameter(name, "the host takes none"));
    } else {
        body[field] = value;
    }
}

fn reasoning(form: Effort, effort: &str, body: &mut Value, losses: &mut Losses) {
    let thinks = effort != "none";
    match form {
        Effort::Field => body["reasoning_effort"] = effort.into(),
        Effort::Object => body["reasoning"] = json!({"effort": effort}),
        Effort::Thinking => body["thinking"] = json!({"type": if thinks { "enabled" } else { "disabled" }}),
        Effort::Switch => body["enable_thinking"] = thinks.into(),
        Effort::No => losses.say(Loss::parameter("reasoning_effort", "the host takes none")),
    }
}

#[cfg(test)]
mod tests {
    use polyphony_domain::{
        content::{Message, Role},
        turn::Params,
    };

    use super::*;
    use crate::compatible::preset;

    fn body(quirks: &Quirks, model: &str) -> (Value, Vec<Loss>) {
        let conversation = Conversation {
            system: Some("Be brief.".into()),
            messages: vec![
                Message::text(Role::User, "你好"),
                Message::text(Role::Assistant, "Hello."),
                Message::text(Role::User, "Why?"),
            ],
        };
        let params = Params { temperature: Some(0.7), top_p: Some(0.9), max_tokens: Some(9), ..Params::default() };
        let options = Options { model: model.to_owned(), params, ..Options::default() };
        let rendered = render(quirks, "host", &conversation, &options);
        (serde_json::from_slice(&rendered.body).unwrap(), rendered.losses)
    }

    #[test]
    fn the_common_dialect_is_written() {
        let (body, losses) = body(&Quirks::COMMON, "m");
        let expected = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9,
            "temperature": 0.7, "top_p": 0.9, "messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Why?"}]});
        assert_eq!((body, losses), (expected, vec![]));
    }

    #[test]
    fn what_a_host_refuses_is_not_sent_and_the_loss_is_said() {
        let (mistral, _) = body(&preset("mistral").unwrap().quirks, "mistral-large");
        assert!(mistral.get("stream_options").is_none());
        let (openai, losses) = body(&preset("openai").unwrap().quirks, "gpt-5-mini");
        assert!(openai.get("temperature").is_none() && openai.get("max_tokens").is_none());
        assert_eq!((openai["max_completion_tokens"].as_u64(), losses.len()), (Some(9), 2));
        assert!(body(&preset("openai").unwrap().quirks, "gpt-4o").1.is_empty());
    }

    #[test]
    fn parameters_take_the_hosts_own_names() {
        let written = |name: &str, params: Params| {
            let options = Options { model: "m".to_owned(), params, ..Options::default() };
            let rendered = render(&preset(name).unwrap().quirks, name, &Conversation::default(), &options);
            (serde_json::from_slice::<Value>(&rendered.body).unwrap(), rendered.losses.len())
        };
        let effort = |name| written(name, Params { reasoning_effort: Some("high".into()), ..Params::default() });
        assert_eq!(effort("groq").0["reasoning_effort"], "high");
        assert_eq!(effort("openrouter").0["reasoning"]["effort"], "high");
        assert_eq!(effort("zhipu").0["thinking"]["type"], "enabled");
        assert_eq!(effort("qwen").0["enable_thinking"], true);
        assert_eq!(effort("moonshot").1, 1);
        assert_eq!(written("mistral", Params { seed: Some(7), ..Params::default() }).0["random_seed"], 7);
        let stop = (0..5).map(|n| n.to_string()).collect();
        let (body, losses) = written("openai", Params { stop, ..Params::default() });
        assert_eq!((body["stop"].as_array().unwrap().len(), losses), (4, 1));
        let schema =
            ResponseFormat::JsonSchema { name: "s".into(), schema: r#"{"type":"object"}"#.into(), strict: Some(true) };
        let format = |name| written(name, Params { response_format: Some(schema.clone()), ..Params::default() });
        assert_eq!(format("openai").0["response_format"]["json_schema"]["strict"], true);
        let (deepseek, losses) = format("deepseek");
        assert_eq!((deepseek["response_format"]["type"].as_str(), losses), (Some("json_object"), 1));
        assert!(deepseek["messages"][0]["content"].as_str().unwrap().contains("schema"));
    }
}
