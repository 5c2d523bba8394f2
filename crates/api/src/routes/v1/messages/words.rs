//! A message as it is streamed: block after block.

use serde_json::{Value, json};

use super::{message_id, stop_reason, tool_uses, usage};
use crate::{
    error::Facts,
    routes::v1::{
        call::Answering,
        error::{self, Shape},
        listen::Outcome,
        tell::{Teller, named},
    },
};

/// A kind of block that is streamed piece by piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
}

pub struct Words {
    id: String,
    model: String,
    /// The block that is open.
    open: Option<Block>,
    /// Blocks that were closed.
    closed: usize,
}

impl Words {
    pub fn new(answering: &Answering) -> Self {
        let id = message_id(answering.viewing.place.answer_id);
        Self { id, model: answering.model.clone(), open: None, closed: 0 }
    }

    fn start(&self, out: &mut String, block: &Value) {
        named(out, &json!({"type": "content_block_start", "index": self.closed, "content_block": block}));
    }

    fn delta(&self, out: &mut String, delta: &Value) {
        named(out, &json!({"type": "content_block_delta", "index": self.closed, "delta": delta}));
    }

    fn stop(&mut self, out: &mut String) {
        named(out, &json!({"type": "content_block_stop", "index": self.closed}));
        self.closed += 1;
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn piece(&mut self, block: Block, piece: &str, out: &mut String) {
        if self.open != Some(block) {
            self.close(out);
            self.start(
                out,
                &match block {
                    Block::Text => json!({"type": "text", "text": ""}),
                    Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                },
            );
            self.open = Some(block);
        }
        self.delta(
            out,
            &match block {
                Block::Text => json!({"type": "text_delta", "text": piece}),
                Block::Thinking => json!({"type": "thinking_delta", "thinking": piece}),
            },
        );
    }
}

impl Teller for Words {
    const SHAPE: Shape = Shape::Anthropic;

    fn begin(&mut self, out: &mut String) {
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 0, "output_tokens": 0},
        });
        named(out, &json!({"type": "message_start", "message": message}));
        named(out, &json!({"type": "ping"}));
    }

    fn text(&mut self, piece: &str, out: &mut String) {
        self.piece(Block::Text, piece, out);
    }

    fn reasoning(&mut self, piece: &str, out: &mut String) {
        self.piece(Block::Thinking, piece, out);
    }

    fn end(&mut self, outcome: &Outcome, out: &mut String) {
        self.close(out);
        for (mut block, input) in tool_uses(outcome) {
            block["input"] = json!({});
            self.start(out, &block);
            self.delta(out, &json!({"type": "input_json_delta", "partial_json": input}));
            self.stop(out);
        }
        let delta = json!({"stop_reason": stop_reason(outcome), "stop_sequence": null});
        named(out, &json!({"type": "message_delta", "delta": delta, "usage": usage(outcome)}));
        named(out, &json!({"type": "message_stop"}));
    }

    fn failed(&mut self, facts: &Facts, out: &mut String) {
        named(out, &error::anthropic(facts, None));
    }
}
