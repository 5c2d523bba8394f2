//! What is sent to Anthropic.

use std::collections::BTreeSet;

use polyphony_domain::{
    content::{Conversation, Part, Role, Tool, ToolChoice},
    turn::{Params, ResponseFormat},
};
use serde_json::{Value, json};

use super::{
    messages::{cache_control, messages, target},
    models::{Thinking, Traits, of},
};
use crate::{
    Loss, LossKind, Options, Rendered,
    conversation::{Losses, Prepared, prepare},
    fields::{format_in_words, number, parsed},
};

/// The least budget of thinking that is taken.
const LEAST_BUDGET: u32 = 1_024;

/// Writes the request of an answer.
pub(super) fn render(provider: &str, conversation: &Conversation, options: &Options) -> Rendered {
    let mut prepared = prepare(conversation, &target(provider));
    let mut losses = std::mem::take(&mut prepared.losses);
    let (params, traits) = (&options.params, of(&options.model));
    let mut body = json!({"model": options.model, "stream": true});
    shape(params, traits, &mut prepared, &mut body, &mut losses);
    let thinks = thinking(options, traits, &prepared, &mut body, &mut losses);
    sampling(params, traits, thinks, &mut body, &mut losses);
    tools(options, thinks, &prepared, &mut body, &mut losses);
    if !prepared.system.is_empty() {
        body["system"] = json!([{"type": "text", "text": prepared.system, "cache_control": cache_control()}]);
    }
    body["messages"] = messages(&prepared).into();
    Rendered { endpoint: "v1/messages".to_owned(), body: body.to_string().into(), losses: losses.0 }
}

/// The fields of a request that the counting of its tokens takes.
pub(super) fn counted(rendered: &Rendered) -> Value {
    let mut body: Value = serde_json::from_slice(&rendered.body).unwrap_or_default();
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|name, _| {
            ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"]
                .contains(&name.as_str())
        });
    }
    body
}

fn shape(params: &Params, traits: Traits, prepared: &mut Prepared, body: &mut Value, losses: &mut Losses) {
    match &params.response_format {
        None => {}
        Some(ResponseFormat::JsonSchema { schema, .. }) if traits.json_schema => {
            body["output_config"]["format"] = json!({"type": "json_schema", "schema": parsed(schema)});
        }
        Some(format) => format_in_words(format, &mut prepared.system, losses),
    }
}

/// Writes `thinking` and `max_tokens`; whether it thinks.
fn thinking(options: &Options, traits: Traits, prepared: &Prepared, body: &mut Value, losses: &mut Losses) -> bool {
    let most = options.params.max_tokens;
    let limit = most.unwrap_or(traits.max_tokens);
    body["max_tokens"] = limit.into();
    let Some(effort) = options.params.reasoning_effort.as_deref() else { return false };
    let lost = |losses: &mut Losses, why: &str| losses.say(Loss::parameter("reasoning_effort", why));
    if traits.thinking == Thinking::No {
        lost(losses, "this model takes none");
        return false;
    }
    if effort == "none" {
        return false;
    }
    if calls_without_thoughts(prepared) {
        lost(losses, "the tool calls under way were made without reasoning that can be shown to the model");
        return false;
    }
    if traits.thinking == Thinking::Adaptive {
        body["thinking"] = json!({"type": "adaptive"});
        body["output_config"]["effort"] = if effort == "minimal" { "low" } else { effort }.into();
        return true;
    }
    let budget = match effort {
        "minimal" => LEAST_BUDGET,
        "low" => 2_048,
        "medium" => 8_192,
        _ => 16_384,
    };
    // The budget is part of the limit: nobody's own limit is raised, but an answer needs room beside it.
    let (budget, limit) = match most {
        None => (budget, limit + budget),
        Some(most) => (budget.min(most.saturating_sub(1)), most),
    };
    if budget < LEAST_BUDGET {
        lost(losses, "max_tokens leaves no room for it");
        return false;
    }
    body["max_tokens"] = limit.into();
    body["thinking"] = json!({"type": "enabled", "budget_tokens": budget});
    true
}

/// Whether the results of tools are due whose calls don't begin with signed reasoning.
fn calls_without_thoughts(prepared: &Prepared) -> bool {
    let mut newest = prepared.messages.iter().rev();
    let due = newest.next().is_some_and(|last| {
        last.role == Role::User && last.parts.iter().all(|part| matches!(part, Part::ToolResult(_)))
    });
    due && newest.next().is_some_and(|before| !matches!(before.parts.first(), Some(Part::Reasoning { .. })))
}

fn sampling(params: &Params, traits: Traits, thinks: bool, body: &mut Value, losses: &mut Losses) {
    let both = params.temperature.is_some() && params.top_p.is_some() && traits.one_sampling;
    for (name, value) in [("temperature", params.temperature), ("top_p", params.top_p)] {
        match value {
            None => {}
            Some(_) if thinks => losses.say(Loss::parameter(name, "none is taken together with reasoning")),
            Some(_) if both && name == "top_p" => {
                losses.say(Loss::parameter(name, "this model takes none beside a temperature"));
            }
            Some(value) if value > 1.0 => {
                losses.say(Loss::parameter(name, "1 is the most that is taken"));
                body[name] = 1.into();
            }
            Some(value) => body[name] = number(value),
        }
    }
    let refused = [
        ("presence_penalty", params.presence_penalty.is_some()),
        ("frequency_penalty", params.frequency_penalty.is_some()),
        ("seed", params.seed.is_some()),
    ];
    for (name, _) in refused.into_iter().filter(|(_, set)| *set) {
        losses.say(Loss::parameter(name, "the provider takes none"));
    }
    let (stop, blank): (Vec<&String>, Vec<&String>) = params.stop.iter().partition(|text| !text.trim().is_empty());
    if !blank.is_empty() {
        losses.say(Loss::parameter("stop", "texts of blanks alone are not taken"));
    }
    if !stop.is_empty() {
        body["stop_sequences"] = json!(stop);
    }
}

fn tools(options: &Options, thinks: bool, prepared: &Prepared, body: &mut Value, losses: &mut Losses) {
    let mut offered: Vec<Value> = options.tools.iter().map(tool).collect();
    let mut choice = options.tool_choice.clone();
    if offered.is_empty() {
        // Calls in the history are taken only of tools that are declared.
        let parts = prepared.messages.iter().flat_map(|message| &message.parts);
        let called =
            parts.filter_map(|part| if let Part::ToolCall(call) = part { Some(call.name.as_str()) } else { None });
        let called: BTreeSet<&str> = called.collect();
        if called.is_empty() {
            return;
        }
        losses
            .say(Loss::of(LossKind::Tool, "tools of the history: declared without their schema, and not to be called"));
        offered = called.into_iter().map(|name| json!({"name": name, "input_schema": {"type": "object"}})).collect();
        choice = Some(ToolChoice::None);
    }
    if let Some(last) = offered.last_mut() {
        last["cache_control"] = cache_control();
    }
    body["tools"] = offered.into();
    if thinks && matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        losses.say(Loss::parameter("tool_choice", "no tool can be required together with reasoning"));
        choice = None;
    }
    let one_at_a_time = options.params.parallel_tool_calls == Some(false);
    let mut written = match &choice {
        None if one_at_a_time => json!({"type": "auto"}),
        None => return,
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => json!({"type": "none"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
    };
    if one_at_a_time && choice != Some(ToolChoice::None) {
        written["disable_parallel_tool_use"] = true.into();
    }
    body["tool_choice"] = written;
}

fn tool(tool: &Tool) -> Value {
    let mut written = json!({"name": tool.name, "input_schema": parsed(&tool.parameters)});
    if let Some(description) = &tool.description {
        written["description"] = description.as_str().into();
    }
    if tool.strict == Some(true) {
        written["strict"] = true.into();
    }
    written
}
