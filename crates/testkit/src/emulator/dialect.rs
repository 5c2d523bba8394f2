//! What the three families of providers say on the wire.

use serde_json::{Value, json};

/// A family of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/chat/completions`.
    OpenAi,
    /// `/messages`.
    Anthropic,
    /// `:streamGenerateContent`.
    Gemini,
}

/// Tokens that a provider bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// Of the request, cached ones included.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
    /// How many of the input came from a cache.
    pub cached: u64,
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(event: &str, value: &Value) -> String {
    format!("event: {event}\ndata: {value}\n\n")
}

fn choice(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "emulated",
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

impl Dialect {
    /// The dialect that a path belongs to.
    pub fn of(path: &str) -> Option<Self> {
        if path.ends_with("/chat/completions") {
            Some(Self::OpenAi)
        } else if path.ends_with("/messages") {
            Some(Self::Anthropic)
        } else if path.ends_with("treamGenerateContent") {
            Some(Self::Gemini)
        } else {
            None
        }
    }

    /// What comes before the first piece.
    pub fn opening(self, billed: Billed) -> String {
        match self {
            Self::OpenAi => data(&choice(&json!({"role": "assistant", "content": ""}), None)),
            Self::Anthropic => {
                let usage = json!({"input_tokens": billed.input - billed.cached, "output_tokens": 1,
                                   "cache_read_input_tokens": billed.cached});
                let message = json!({"id": "m-1", "type": "message", "role": "assistant", "content": [],
                                     "model": "emulated", "stop_reason": null, "usage": usage});
                named("message_start", &json!({"type": "message_start", "message": message}))
                    + &named(
                        "content_block_start",
                        &json!({"type": "content_block_start", "index": 0,
                                "content_block": {"type": "text", "text": ""}}),
                    )
            }
            Self::Gemini => String::new(),
        }
    }

    /// What the opening says of the bill.
    pub fn billed_at_first(self, billed: Billed) -> Option<Billed> {
        (self == Self::Anthropic).then_some(Billed { output: 1, ..billed })
    }

    /// A piece of text.
    pub fn piece(self, text: &str) -> String {
        match self {
            Self::OpenAi => data(&choice(&json!({"content": text}), None)),
            Self::Anthropic => named(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
            ),
            Self::Gemini => data(&json!({"candidates": [{"index": 0,
                "content": {"role": "model", "parts": [{"text": text}]}}], "modelVersion": "emulated"})),
        }
    }

    /// Fragments of a call of a tool.
    pub fn tool_call(self) -> String {
        let fragment = |arguments: &str, id: Option<&str>| {
            let call = json!({"index": 0, "id": id, "type": "function",
                              "function": {"name": id.map(|_| "look_up"), "arguments": arguments}});
            data(&choice(&json!({"tool_calls": [call]}), None))
        };
        match self {
            Self::OpenAi => fragment("{\"ci", Some("call-1")) + &fragment("ty\":\"Köln\"}", None),
            Self::Anthropic | Self::Gemini => String::new(),
        }
    }

    /// A report of usage by itself, where the dialect has one.
    pub fn usage(self, billed: Billed) -> String {
        match self {
            Self::OpenAi => data(&json!({"id": "c-1", "object": "chat.completion.chunk", "choices": [],
                "usage": {"prompt_tokens": billed.input, "completion_tokens": billed.output,
                          "total_tokens": billed.input + billed.output,
                          "prompt_tokens_details": {"cached_tokens": billed.cached}}})),
            Self::Anthropic => named(
                "message_delta",
                &json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": billed.output}}),
            ),
            Self::Gemini => data(&json!({"candidates": [], "usageMetadata": Self::gemini_usage(billed)})),
        }
    }

    fn gemini_usage(billed: Billed) -> Value {
        json!({"promptTokenCount": billed.input, "candidatesTokenCount": billed.output,
               "cachedContentTokenCount": billed.cached, "totalTokenCount": billed.input + billed.output})
    }

    /// The reason of the end.
    pub fn finish(self, filtered: bool) -> String {
        match self {
            Self::OpenAi => data(&choice(&json!({}), Some(if filtered { "content_filter" } else { "stop" }))),
            Self::Anthropic => {
                let reason = if filtered { "refusal" } else { "end_turn" };
                named("content_block_stop", &json!({"type": "content_block_stop", "index": 0}))
                    + &named("message_delta", &json!({"type": "message_delta", "delta": {"stop_reason": reason}}))
            }
            Self::Gemini => {
                let reason = if filtered { "SAFETY" } else { "STOP" };
                data(&json!({"candidates": [{"index": 0, "finishReason": reason,
                    "content": {"role": "model", "parts": []}}]}))
            }
        }
    }

    /// The end marker.
    pub fn done(self) -> String {
        match self {
            Self::OpenAi => "data: [DONE]\n\n".to_owned(),
            Self::Anthropic => named("message_stop", &json!({"type": "message_stop"})),
            Self::Gemini => String::new(),
        }
    }

    /// An error within a stream.
    pub fn error(self) -> String {
        match self {
            Self::OpenAi => data(&json!({"error": {"message": "The server had an error", "type": "server_error"}})),
            Self::Anthropic => named(
                "error",
                &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            ),
            Self::Gemini => {
                data(&json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded"}}))
            }
        }
    }

    /// What nobody knows.
    pub fn noise(self) -> String {
        match self {
            Self::OpenAi => {
                "event: weather\ndata: {\"sunny\":true}\n\nid: 7\nretry: 10\n\n: a comment\n\n".to_owned()
                    + &data(&json!({"id": "c-1", "object": "chat.completion.chunk", "mystery": [1, 2],
                        "choices": [{"index": 0, "delta": {"aura": "blue"}, "finish_reason": null}]}))
            }
            Self::Anthropic => named("ping", &json!({"type": "ping"})) + &named("aura", &json!({"type": "aura"})),
            Self::Gemini => data(&json!({"aura": "blue"})),
        }
    }

    /// The body of a refusal.
    pub fn refusal(self, status: u16) -> Value {
        let message = "emulated refusal";
        match self {
            Self::OpenAi => json!({"error": {"message": message, "type": "emulated", "code": status}}),
            Self::Anthropic => json!({"type": "error", "error": {"type": "emulated", "message": message}}),
            Self::Gemini => json!({"error": {"code": status, "status": "EMULATED", "message": message}}),
        }
    }
}
