//! Conversations that one provider made go on with every other: what its recordings hold, as the log keeps it, through the
//! planner and the renderers, with pictures, documents, calls of tools and what providers sign.

use std::{fs, path::Path};

use polyphony_domain::{
    catalog::Model,
    content::{Media, MediaSource, Part, ToolCall, ToolResult},
    context::{History, Thread},
    ids::{AnswerId, TurnId},
    session::Session,
    turn::{Answer, AnswerStatus, AttemptRecord, ModelRef, Prompt, Turn},
};
use polyphony_providers::{
    AdapterEvent, Converter, Events, LossKind, anthropic,
    compatible::{self, Quirks},
    context::{Contexts, note_losses},
    gemini,
    openai::{self, Api},
};
use serde_json::Value;
use uuid::Uuid;

use super::{Side, pairs, sides, valid};

/// A window that holds everything.
const WIDE: u32 = 1_000_000;
const PICTURE: &str = "UElDVFVSRQ==";
const ADDRESS: &str = "https://example.org/a.jpg";
const DOCUMENT: &str = "RE9DVU1FTlQ=";
/// "a text as a file", in base64.
const TEXT_FILE: &str = "YSB0ZXh0IGFzIGEgZmlsZQ==";

/// An answer as the log keeps it.
struct Made {
    file: String,
    provider: String,
    /// Dialect that it came in.
    dialect: String,
    record: AttemptRecord,
}

fn converter(dialect: &str) -> Converter {
    match dialect {
        "responses" => openai::converter(Api::Responses, &Quirks::COMMON),
        "anthropic" => anthropic::converter(),
        "gemini" | "gemini-array" => gemini::converter(),
        _ => compatible::converter(&Quirks::COMMON),
    }
}

impl Made {
    /// Reads an answer as the worker does; an error ends it with what came.
    fn read(file: String, provider: String, dialect: String, mut reader: Converter, bytes: &[u8]) -> Self {
        let mut events = Events::new();
        reader.feed(bytes, &mut events);
        reader.finish(&mut events);
        let (mut text, mut reasoning, mut parts) = (String::new(), String::new(), Vec::new());
        for event in events.into_iter().filter_map(Result::ok) {
            match event {
                AdapterEvent::Text(piece) => text += &piece,
                AdapterEvent::Reasoning(piece) => reasoning += &piece,
                AdapterEvent::Part(part) => {
                    if let Part::Refusal { text: refusal } = &part {
                        text += refusal.as_str();
                    }
                    parts.push(part);
                }
                _ => {}
            }
        }
        let model = ModelRef { provider: provider.clone(), name: "m".into(), ..ModelRef::default() };
        let reasoning = Some(reasoning).filter(|text| !text.is_empty()).map(Into::into);
        let record = AttemptRecord { text: text.into(), reasoning, parts, ..AttemptRecord::empty(model) };
        Self { file, provider, dialect, record }
    }

    fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.record.parts.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
    }

    /// What nobody but its provider may see.
    fn signed(&self) -> Vec<String> {
        let opaque = self.record.parts.iter().filter_map(|part| match part {
            Part::Reasoning { opaque, .. } => opaque.as_ref(),
            Part::ToolCall(call) => call.opaque.as_ref(),
            _ => None,
        });
        let inner = opaque.flat_map(|opaque| match serde_json::from_str::<Value>(opaque.as_str()) {
            Ok(item @ Value::Object(_)) => {
                let names = ["signature", "data", "encrypted_content"];
                names.iter().filter_map(|name| item[name].as_str().map(str::to_owned)).collect::<Vec<_>>()
            }
            _ => vec![opaque.as_str().to_owned()],
        });
        inner.collect()
    }

    /// Whether a side speaks for the provider that made it, in the dialect that it was made in.
    fn is_of(&self, side: &Side) -> bool {
        let dialect = match side.name {
            "openai (responses)" => "responses",
            "anthropic" => "anthropic",
            "gemini" => "gemini",
            _ => "chat",
        };
        self.provider == side.adapter.provider() && self.dialect.starts_with(dialect)
    }
}

/// All recorded answers, the broken ones too, and one of each dialect that signs all that can be signed.
fn made() -> Vec<Made> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let index: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let answers = index.into_iter().filter(|entry| !["error", "json"].contains(&entry["dialect"].as_str().unwrap()));
    let recorded = answers.map(|entry| {
        let (file, dialect) = (entry["file"].as_str().unwrap(), entry["dialect"].as_str().unwrap());
        let provider = match file.split('/').next().unwrap() {
            "azure" | "synthetic" => "openai",
            own => own,
        };
        let bytes = fs::read(folder.join(file)).unwrap();
        Made::read(file.to_owned(), provider.to_owned(), dialect.to_owned(), converter(dialect), &bytes)
    });
    let written = sides().into_iter().filter_map(|side| {
        let dialect = match side.name {
            "openai (responses)" => "responses",
            name @ ("anthropic" | "gemini") => name,
            _ => "chat",
        };
        let provider = side.adapter.provider().to_owned();
        let bytes = pairs::answer(&side).into_bytes();
        Some(Made::read(format!("written: {}", side.name), provider, dialect.to_owned(), side.converter?(), &bytes))
    });
    recorded
        .chain(written)
        .filter(|made| !made.record.text.as_str().is_empty() || made.calls().next().is_some())
        .collect()
}

/// Where the results of tools are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Results {
    /// In the next prompt.
    InPrompt,
    /// In the answer: the tools ran while it was made.
    InAnswer,
}

/// A session whose answers are these; the last prompt is still to be answered.
struct Talk {
    session: Session,
    turns: Vec<(TurnId, Turn)>,
}

fn turn_id(n: usize) -> TurnId {
    TurnId::new(Uuid::from_u128(n as u128 * 2 + 1))
}

fn answer_id(n: usize) -> AnswerId {
    AnswerId::new(Uuid::from_u128(n as u128 * 2 + 2))
}

fn media(media_type: &str, source: MediaSource) -> Media {
    Media { media_type: media_type.to_owned(), source }
}

/// A person's first message, with everything that it can have.
fn first() -> Prompt {
    let inline = |data: &str| MediaSource::Inline(data.into());
    let parts = vec![
        Part::Image { media: media("image/png", inline(PICTURE)) },
        Part::Image { media: media("image/jpeg", MediaSource::Url(ADDRESS.into())) },
        Part::File { name: "a.pdf".into(), media: media("application/pdf", inline(DOCUMENT)) },
        Part::File { name: "b.txt".into(), media: media("text/plain", inline(TEXT_FILE)) },
    ];
    Prompt { content: "prompt 0".into(), parts, ..Prompt::default() }
}

impl Talk {
    fn new(answers: &[&Made], place: Results) -> Self {
        let session = Session { system_prompt: Some("You look at things.".into()), ..Session::default() };
        let mut talk = Self { session, turns: vec![] };
        let mut prompt = first();
        for (n, made) in answers.iter().enumerate() {
            let results: Vec<Part> = made.calls().enumerate().map(|(at, call)| result(n, at, call)).collect();
            let mut record = made.record.clone();
            let mut next = Prompt { parent: Some(answer_id(n)), ..Prompt::default() };
            next.content = format!("prompt {}", n + 1).into();
            match place {
                Results::InAnswer => record.parts.extend(results),
                Results::InPrompt => next.parts = results,
            }
            let answer = Answer { status: AnswerStatus::Complete, record: Some(record), ..Answer::default() };
            let answers = [(answer_id(n), answer)].into();
            talk.turns.push((turn_id(n), Turn { prompt: Some(prompt), answers, ..Turn::default() }));
            prompt = next;
        }
        talk.turns.push((turn_id(answers.len()), Turn { prompt: Some(prompt), ..Turn::default() }));
        talk
    }

    fn thread(&self) -> Thread {
        let history = History::new(&self.session, self.turns.iter().map(|(id, turn)| (*id, turn)));
        Thread::to(&history, turn_id(self.turns.len() - 1))
    }
}

fn result(turn: usize, at: usize, call: &ToolCall) -> Part {
    let content = format!("result {at} of turn {turn}").into();
    Part::ToolResult(ToolResult { call_id: call.call_id.clone(), name: call.name.clone(), content, is_error: at == 1 })
}

/// Everything that is said in a request, and the JSON within it.
fn leaves(of: &Value, texts: &mut Vec<String>, objects: &mut Vec<Value>) {
    match of {
        Value::String(text) => {
            objects.extend(serde_json::from_str::<Value>(text).ok().filter(Value::is_object));
            texts.push(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, texts, objects)),
        Value::Object(fields) => {
            objects.push(of.clone());
            fields.values().for_each(|field| leaves(field, texts, objects));
        }
        _ => {}
    }
}

/// Asks a side, with this window. What comes is checked against all rules that don't depend on the window; the tokens that
/// were used are returned, none where it can't fit.
async fn ask(contexts: &Contexts, talk: &Talk, answers: &[&Made], to: &Side, window: u32, label: &str) -> Option<u64> {
    let model = Model { context_length: window, max_output: 64, ..Model::declared(to.adapter.provider(), to.model) };
    let fitted = contexts.fit(&talk.thread(), &model, to.options(), Uuid::nil()).await.ok()?;
    let rendered = to.adapter.render(&fitted.conversation, &fitted.options);
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    valid::check(to.name, &body, label);
    let (mut texts, mut objects) = (vec![], vec![]);
    leaves(&body, &mut texts, &mut objects);
    let says = |text: &str| texts.iter().any(|leaf| leaf.contains(text));
    let lost = |kind| rendered.losses.iter().any(|loss| loss.kind == kind);
    let last = talk.turns.len() - 1;
    assert!(says(&format!("prompt {last}")), "{label}: the last prompt is gone");
    for made in answers {
        let signed = made.signed();
        let foreign = made.provider != to.adapter.provider();
        assert!(!foreign || !signed.iter().any(|secret| says(secret)), "{label}: a foreign signature of {}", made.file);
    }
    let mut receipt = fitted.receipt;
    note_losses(&mut receipt, &rendered.losses);
    assert_eq!(receipt.converted.is_empty(), rendered.losses.is_empty(), "{label}: losses are in the receipt");
    if receipt.lacks_room() || to.converter.is_none() {
        return Some(receipt.used);
    }
    // Nothing was left out, so everything is there, or its loss is said.
    for (n, made) in answers.iter().enumerate() {
        let text = made.record.text.as_str().trim();
        assert!(says(text), "{label}: the text of {} is gone", made.file);
        assert!(says(&format!("prompt {n}")), "{label}: prompt {n} is gone");
        for (at, call) in made.calls().enumerate() {
            let arguments: Value = serde_json::from_str(call.arguments.as_str()).unwrap();
            assert!(says(&call.name) && objects.contains(&arguments), "{label}: the call of {} is gone", made.file);
            assert!(says(&format!("result {at} of turn {n}")), "{label}: a result is gone");
        }
        let signed = made.signed();
        let thought = made.record.reasoning.as_ref().map_or("", |text| text.as_str()).trim();
        let goes_back = says(thought) || signed.iter().any(|secret| says(secret));
        assert!(goes_back || lost(LossKind::Reasoning), "{label}: that reasoning isn't shown is unsaid");
        if made.provider != to.adapter.provider() {
            assert!(signed.is_empty() || lost(LossKind::Reasoning), "{label}: lost reasoning is unsaid");
        } else if made.is_of(to) {
            assert!(signed.iter().all(|secret| says(secret)), "{label}: its own signature is gone");
        }
    }
    assert!(says("a text as a file"), "{label}: the text document is gone");
    assert_eq!(says(PICTURE), says(ADDRESS), "{label}");
    assert_ne!(says(PICTURE), lost(LossKind::Image), "{label}: a picture is there, or its loss is said");
    // That a document is given as text is said of the other one.
    assert!(says(DOCUMENT) || lost(LossKind::File), "{label}: a lost document is unsaid");
    Some(receipt.used)
}

#[tokio::test]
async fn what_any_provider_answered_goes_on_with_every_other() {
    let (contexts, made, sides) = (Contexts::default(), made(), sides());
    assert!(made.len() >= 45, "{}", made.len());
    for own in &made {
        for place in [Results::InPrompt, Results::InAnswer] {
            let answers = [own];
            let talk = Talk::new(&answers, place);
            for to in &sides {
                let label = format!("{} → {} ({place:?})", own.file, to.name);
                let used = ask(&contexts, &talk, &answers, to, WIDE, &label).await.unwrap();
                // A window that is too small for all of it: what is shown of it is still a valid request.
                for share in [2, 3, 5] {
                    let window = u32::try_from(used).unwrap() * share / 4;
                    ask(&contexts, &talk, &answers, to, window, &format!("{label} in {window}")).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn signatures_come_back_to_their_provider_after_another_one_has_answered() {
    let (contexts, made, sides) = (Contexts::default(), made(), sides());
    let signed: Vec<&Made> = made.iter().filter(|made| !made.signed().is_empty()).collect();
    for dialect in ["responses", "anthropic", "gemini"] {
        assert!(signed.iter().any(|made| made.dialect.starts_with(dialect)), "{dialect}");
    }
    let calling = |made: &&&Made| made.calls().next().is_some();
    for first in &signed {
        for second in made.iter().collect::<Vec<_>>().iter().filter(calling) {
            for place in [Results::InPrompt, Results::InAnswer] {
                let answers = [*first, *second, *first];
                let talk = Talk::new(&answers, place);
                for to in sides.iter().filter(|side| first.is_of(side) || second.is_of(side)) {
                    let label = format!("{} → {} → {} ({place:?})", first.file, second.file, to.name);
                    ask(&contexts, &talk, &answers, to, WIDE, &label).await.unwrap();
                }
            }
        }
    }
}
