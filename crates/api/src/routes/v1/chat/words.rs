//! A chat completion as it is streamed.

use chrono::Utc;
use serde_json::{Value, json};

use super::answer::{ChatToolCall, ChatUsage, completion_id, finish};
use crate::{
    error::Facts,
    routes::v1::{
        call::Answering,
        error::{self, Shape},
        listen::Outcome,
        tell::{Teller, data},
    },
};

pub struct Words {
    id: String,
    model: String,
    created: i64,
    with_usage: bool,
}

impl Words {
    pub fn new(answering: &Answering, with_usage: bool) -> Self {
        let id = completion_id(answering.viewing.place.answer_id);
        Self { id, model: answering.model.clone(), created: Utc::now().timestamp(), with_usage }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        });
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, out: &mut String, delta: &Value, finish: Option<&str>) {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        data(out, &self.chunk(json!([choice])));
    }
}

impl Teller for Words {
    const SHAPE: Shape = Shape::OpenAi;

    fn begin(&mut self, out: &mut String) {
        self.delta(out, &json!({"role": "assistant", "content": "", "refusal": null}), None);
    }

    fn text(&mut self, piece: &str, out: &mut String) {
        self.delta(out, &json!({"content": piece}), None);
    }

    fn reasoning(&mut self, piece: &str, out: &mut String) {
        self.delta(out, &json!({"reasoning_content": piece}), None);
    }

    fn end(&mut self, outcome: &Outcome, out: &mut String) {
        for (index, call) in ChatToolCall::all(outcome).into_iter().enumerate() {
            let mut call = json!(call);
            call["index"] = index.into();
            self.delta(out, &json!({"tool_calls": [call]}), None);
        }
        self.delta(out, &json!({}), Some(finish(outcome)));
        if self.with_usage {
            let mut last = self.chunk(json!([]));
            last["usage"] = json!(ChatUsage::of(outcome));
            data(out, &last);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn failed(&mut self, facts: &Facts, out: &mut String) {
        data(out, &error::openai(facts));
    }
}
