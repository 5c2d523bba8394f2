//! A message as it is streamed: block after block.
//!
//! A signature is known when the answer is complete. A thought that waits for one stays open, and so does every block after
//! it; all of them close at the end, in order. SDKs tell deltas apart by the number of their block.

use polyphony_providers::registry::Registry;
use serde_json::{Value, json};

use super::{
    answer::{self, Usage, message_id, stop_reason, stop_sequence},
    thoughts,
};
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
enum Kind {
    Text,
    Thinking,
}

/// A block that has begun.
struct Block {
    index: usize,
    kind: Kind,
    /// What was thought in it.
    thought: String,
}

pub struct Words {
    id: String,
    model: String,
    /// What stands for a signature; none where the end is waited for.
    mark: Option<String>,
    /// The block that is written to.
    open: Option<Block>,
    /// Blocks that are full, and wait for a signature or for a block before them.
    waiting: Vec<Block>,
    /// Index of the next block.
    next: usize,
}

impl Words {
    pub fn new(answering: &Answering, registry: &Registry) -> Self {
        let (id, model) = (message_id(answering.viewing.place.answer_id), answering.model.clone());
        let provider = model.split('/').next().unwrap_or_default();
        let mark = (!registry.signs_thoughts(provider)).then(|| thoughts::mark(provider));
        Self { id, model, mark, open: None, waiting: vec![], next: 0 }
    }

    fn start(&mut self, out: &mut String, block: &Value) -> usize {
        let index = self.next;
        self.next += 1;
        named(out, &json!({"type": "content_block_start", "index": index, "content_block": block}));
        index
    }

    /// A block that comes whole.
    fn whole(&mut self, out: &mut String, block: &Value, filling: Option<&Value>) {
        let index = self.start(out, block);
        if let Some(filling) = filling {
            delta(out, index, filling);
        }
        stop(out, index);
    }

    fn close(&mut self, out: &mut String) {
        let Some(block) = self.open.take() else { return };
        match (&self.mark, block.kind) {
            (Some(mark), Kind::Thinking) => sign(out, block.index, mark),
            (None, Kind::Thinking) => return self.waiting.push(block),
            (_, Kind::Text) if !self.waiting.is_empty() => return self.waiting.push(block),
            (_, Kind::Text) => {}
        }
        stop(out, block.index);
    }

    /// Closes all blocks with the signatures that have come, and adds those that show nothing.
    fn settle(&mut self, outcome: &Outcome, out: &mut String) {
        self.close(out);
        let mut signed: Vec<answer::Block> = thoughts::signed(outcome).collect();
        for block in std::mem::take(&mut self.waiting) {
            let is_its = |signed: &answer::Block| match signed {
                answer::Block::Thinking { thinking, .. } => block.kind == Kind::Thinking && *thinking == block.thought,
                _ => false,
            };
            let signature = match signed.iter().position(is_its).map(|at| signed.remove(at)) {
                Some(answer::Block::Thinking { signature, .. }) => signature,
                _ => thoughts::mark(&outcome.record.model.provider),
            };
            if block.kind == Kind::Thinking {
                sign(out, block.index, &signature);
            }
            stop(out, block.index);
        }
        for block in signed {
            match block {
                answer::Block::RedactedThinking { .. } => self.whole(out, &json!(block), None),
                answer::Block::Thinking { thinking, signature } if thinking.is_empty() => {
                    let started = json!({"type": "thinking", "thinking": "", "signature": ""});
                    let signature = json!({"type": "signature_delta", "signature": signature});
                    self.whole(out, &started, Some(&signature));
                }
                // It was shown together with another one, under which it can't be signed.
                _ => {}
            }
        }
    }

    fn piece(&mut self, kind: Kind, piece: &str, out: &mut String) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(out);
            let started = match kind {
                Kind::Text => json!({"type": "text", "text": ""}),
                Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            };
            let index = self.start(out, &started);
            self.open = Some(Block { index, kind, thought: String::new() });
        }
        let Some(open) = &mut self.open else { return };
        match kind {
            Kind::Text => delta(out, open.index, &json!({"type": "text_delta", "text": piece})),
            Kind::Thinking => {
                open.thought.push_str(piece);
                delta(out, open.index, &json!({"type": "thinking_delta", "thinking": piece}));
            }
        }
    }
}

fn delta(out: &mut String, index: usize, delta: &Value) {
    named(out, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
}

fn sign(out: &mut String, index: usize, signature: &str) {
    delta(out, index, &json!({"type": "signature_delta", "signature": signature}));
}

fn stop(out: &mut String, index: usize) {
    named(out, &json!({"type": "content_block_stop", "index": index}));
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

    fn restart(&mut self) {
        // Whose the thoughts are is known at the end.
        self.mark = None;
    }

    fn text(&mut self, piece: &str, out: &mut String) {
        self.piece(Kind::Text, piece, out);
    }

    fn reasoning(&mut self, piece: &str, out: &mut String) {
        self.piece(Kind::Thinking, piece, out);
    }

    fn end(&mut self, outcome: &Outcome, out: &mut String) {
        self.settle(outcome, out);
        for call in outcome.calls() {
            let mut block = json!(answer::Block::of_call(call));
            block["input"] = json!({});
            let input = json!({"type": "input_json_delta", "partial_json": call.arguments.as_str()});
            self.whole(out, &block, Some(&input));
        }
        let delta = json!({"stop_reason": stop_reason(outcome), "stop_sequence": stop_sequence(outcome)});
        named(out, &json!({"type": "message_delta", "delta": delta, "usage": Usage::of(outcome)}));
        named(out, &json!({"type": "message_stop"}));
    }

    fn failed(&mut self, facts: &Facts, out: &mut String) {
        named(out, &error::anthropic(facts, None));
    }
}
