//! A response as it is streamed: item after item, each event numbered.

use chrono::Utc;
use polyphony_domain::ids::AnswerId;
use serde_json::{Value, json};

use super::answer::{Item, Response, Summary, Text, id};
use crate::{
    error::Facts,
    routes::v1::{
        call::Answering,
        error::{self, Shape},
        listen::Outcome,
        tell::{Teller, named},
    },
};

/// An item that is streamed piece by piece.
struct Open {
    id: String,
    is_reasoning: bool,
    text: String,
}

pub struct Words {
    answer: AnswerId,
    model: String,
    created: i64,
    /// Number of the next event.
    number: u64,
    open: Option<Open>,
    /// Items that are complete.
    items: Vec<Item>,
}

impl Words {
    pub fn new(answering: &Answering) -> Self {
        let (answer, model) = (answering.viewing.place.answer_id, answering.model.clone());
        Self { answer, model, created: Utc::now().timestamp(), number: 0, open: None, items: vec![] }
    }

    fn say(&mut self, out: &mut String, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.number.into();
        self.number += 1;
        named(out, &event);
    }

    /// An event of the item that is streamed.
    fn say_of(&mut self, out: &mut String, kind: &str, item: &str, is_reasoning: bool, mut event: Value) {
        event["item_id"] = item.into();
        event["output_index"] = self.items.len().into();
        event[if is_reasoning { "summary_index" } else { "content_index" }] = 0.into();
        self.say(out, kind, event);
    }

    fn item(&mut self, out: &mut String, kind: &str, item: &Item) {
        let index = self.items.len();
        self.say(out, kind, json!({"output_index": index, "item": item}));
    }

    fn piece(&mut self, is_reasoning: bool, piece: &str, out: &mut String) {
        if self.open.as_ref().is_none_or(|open| open.is_reasoning != is_reasoning) {
            self.close(out);
            let id = id(if is_reasoning { "rs" } else { "msg" }, self.answer, self.items.len());
            let (item, part, added) = if is_reasoning {
                let part = json!(Summary::new(String::new()));
                (Item::reasoning(id.clone(), None), part, "response.reasoning_summary_part.added")
            } else {
                (Item::no_text(id.clone()), json!(Text::new(String::new())), "response.content_part.added")
            };
            self.item(out, "response.output_item.added", &item);
            self.say_of(out, added, &id, is_reasoning, json!({"part": part}));
            self.open = Some(Open { id, is_reasoning, text: String::new() });
        }
        let Some(open) = &mut self.open else { return };
        open.text.push_str(piece);
        let id = open.id.clone();
        if is_reasoning {
            self.say_of(out, "response.reasoning_summary_text.delta", &id, true, json!({"delta": piece}));
        } else {
            self.say_of(out, "response.output_text.delta", &id, false, json!({"delta": piece, "logprobs": []}));
        }
    }

    fn close(&mut self, out: &mut String) {
        let Some(Open { id, is_reasoning, text }) = self.open.take() else { return };
        let item = if is_reasoning {
            self.say_of(out, "response.reasoning_summary_text.done", &id, true, json!({"text": text}));
            self.say_of(
                out,
                "response.reasoning_summary_part.done",
                &id,
                true,
                json!({"part": Summary::new(text.clone())}),
            );
            Item::reasoning(id, Some(text))
        } else {
            self.say_of(out, "response.output_text.done", &id, false, json!({"text": text, "logprobs": []}));
            self.say_of(out, "response.content_part.done", &id, false, json!({"part": Text::new(text.clone())}));
            Item::text(id, text)
        };
        self.done(out, item);
    }

    fn done(&mut self, out: &mut String, item: Item) {
        self.item(out, "response.output_item.done", &item);
        self.items.push(item);
    }
}

impl Teller for Words {
    const SHAPE: Shape = Shape::OpenAi;

    fn begin(&mut self, out: &mut String) {
        let begun = json!(Response::begun(self.answer, &self.model, self.created));
        self.say(out, "response.created", json!({"response": begun}));
        self.say(out, "response.in_progress", json!({"response": begun}));
    }

    fn text(&mut self, piece: &str, out: &mut String) {
        self.piece(false, piece, out);
    }

    fn reasoning(&mut self, piece: &str, out: &mut String) {
        self.piece(true, piece, out);
    }

    fn end(&mut self, outcome: &Outcome, out: &mut String) {
        self.close(out);
        for item in Item::calls(outcome, self.items.len()) {
            let Item::FunctionCall { id, call_id, name, arguments, .. } = item.clone() else { continue };
            let (begun, status) = (String::new(), "in_progress");
            let started = Item::FunctionCall { id: id.clone(), status, call_id, name, arguments: begun };
            self.item(out, "response.output_item.added", &started);
            let index = self.items.len();
            let of = |field: &str| json!({"item_id": id, "output_index": index, field: arguments});
            self.say(out, "response.function_call_arguments.delta", of("delta"));
            self.say(out, "response.function_call_arguments.done", of("arguments"));
            self.done(out, item);
        }
        let whole = Response::of(outcome, self.created, std::mem::take(&mut self.items));
        self.say(out, &format!("response.{}", whole.status), json!({"response": whole}));
    }

    fn failed(&mut self, facts: &Facts, out: &mut String) {
        let mut event = error::openai(facts);
        for field in ["message", "code", "param"] {
            event[field] = event["error"][field].clone();
        }
        self.say(out, "error", event);
    }
}
