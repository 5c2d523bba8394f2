//! Recorded answers of real providers: whole, in small pieces, with CRLF, and cut at every event.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{collections::HashSet, fs, path::Path};

use polyphony_domain::content::Part;
use polyphony_providers::{
    AdapterEvent, Converter, ErrorKind, Events, anthropic,
    compatible::{self, Quirks},
    gemini,
    openai::{self, Api},
};
use serde_json::{Map, Value, json};

/// The hosts that were recorded end with their marker.
const QUIRKS: Quirks = Quirks { ends_with_done: true, ..Quirks::COMMON };

struct Recording {
    file: String,
    dialect: String,
    bytes: Vec<u8>,
    expected: Value,
}

impl Recording {
    fn converter(&self) -> Converter {
        match self.dialect.as_str() {
            "chat" | "chat-json" => compatible::converter(&QUIRKS),
            "responses" => openai::converter(Api::Responses, &QUIRKS),
            "anthropic" => anthropic::converter(),
            "gemini" | "gemini-array" => gemini::converter(),
            other => panic!("{other}"),
        }
    }

    fn is_json(&self) -> bool {
        self.file.ends_with(".json")
    }

    fn convert(&self, pieces: &[&[u8]]) -> Events {
        let (mut converter, mut events) = (self.converter(), Events::new());
        for piece in pieces {
            converter.feed(piece, &mut events);
        }
        converter.finish(&mut events);
        events
    }
}

/// All recordings of answers.
fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let index: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let answers = index.into_iter().filter(|entry| !["error", "json"].contains(&entry["dialect"].as_str().unwrap()));
    answers
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            let bytes = fs::read(folder.join(text("file"))).unwrap();
            Recording { file: text("file"), dialect: text("dialect"), bytes, expected: entry["expected"].clone() }
        })
        .collect()
}

/// What an answer comes to.
#[derive(Debug, Default, PartialEq)]
struct Assembled {
    text: String,
    reasoning: String,
    refusal: String,
    /// Names and arguments.
    tools: Vec<(String, Value)>,
    usage: Value,
    finish: String,
    failed: bool,
}

fn assemble(events: &Events) -> Assembled {
    let mut whole = Assembled::default();
    for event in events {
        match event {
            Ok(AdapterEvent::Text(text)) => whole.text += text,
            Ok(AdapterEvent::Reasoning(text)) => whole.reasoning += text,
            Ok(AdapterEvent::Part(Part::Refusal { text })) => whole.refusal += text.as_str(),
            Ok(AdapterEvent::Part(Part::ToolCall(call))) => {
                whole.tools.push((call.name.clone(), serde_json::from_str(call.arguments.as_str()).unwrap()));
            }
            Ok(AdapterEvent::Part(_) | AdapterEvent::Limits(_)) => {}
            Ok(AdapterEvent::Usage(usage)) => whole.usage = usage.raw.clone(),
            Ok(AdapterEvent::Finish(reason)) => whole.finish = reason.as_str().to_owned(),
            Err(_) => whole.failed = true,
        }
    }
    whole
}

fn string(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_default().to_owned()
}

/// Arguments may be text or an object; nothing means an empty object.
fn arguments(of: &Value) -> Value {
    match of {
        Value::String(text) if text.is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    }
}

/// What the recording's own project says it comes to, in our words.
fn expected(recording: &Recording) -> Assembled {
    let said = &recording.expected;
    let tools = |list: &[Value]| list.iter().map(|tool| (string(tool, "name"), arguments(&tool["args"]))).collect();
    let mut whole = Assembled {
        text: string(said, "text"),
        reasoning: string(said, "reasoning"),
        refusal: string(said, "refusal"),
        usage: said["usage"].clone(),
        failed: !said["error"].is_null(),
        ..Assembled::default()
    };
    match recording.dialect.as_str() {
        "chat" => {
            let choice = &said["choices"]["0"];
            let calls: Vec<Value> = choice["tools"].as_object().unwrap_or(&Map::new()).values().cloned().collect();
            (whole.text, whole.reasoning) = (string(choice, "text"), string(choice, "reasoning"));
            (whole.refusal, whole.finish) = (string(choice, "refusal"), string(choice, "finish"));
            whole.tools = tools(&calls);
        }
        "chat-json" => {
            let answer = &said["json"]["choices"][0];
            let message = &answer["message"];
            (whole.text, whole.reasoning) = (string(message, "content"), string(message, "reasoning"));
            (whole.finish, whole.usage) = (string(answer, "finish_reason"), said["json"]["usage"].clone());
        }
        "responses" => {
            whole.tools = said["args"].as_object().unwrap().values().map(|it| (String::new(), arguments(it))).collect();
            whole.finish = if whole.tools.is_empty() { "stop".to_owned() } else { "tool_calls".to_owned() };
        }
        "anthropic" => {
            let calls: Vec<Value> = said["tools"].as_array().unwrap().clone();
            let own: Vec<Value> = calls.into_iter().filter(|tool| tool["kind"] == "tool_use").collect();
            whole.tools = tools(&own);
            whole.finish = match said["stop_reason"].as_str().unwrap_or_default() {
                "end_turn" => "stop".to_owned(),
                "tool_use" => "tool_calls".to_owned(),
                other => other.to_owned(),
            };
        }
        _ => {
            whole.tools = tools(said["tools"].as_array().unwrap());
            whole.finish = match said["finish"].as_str().unwrap() {
                "STOP" if whole.tools.is_empty() => "stop".to_owned(),
                "STOP" => "tool_calls".to_owned(),
                "SAFETY" => "content_filter".to_owned(),
                other => other.to_owned(),
            };
        }
    }
    whole
}

#[test]
fn every_recording_assembles_to_what_its_provider_sent() {
    let recordings = recordings();
    assert!(recordings.len() >= 45);
    for recording in recordings {
        let mut got = assemble(&recording.convert(&[&recording.bytes]));
        let mut expected = expected(&recording);
        if recording.dialect == "responses" {
            got.tools.iter_mut().for_each(|(name, _)| name.clear());
        }
        if expected.failed {
            (got.finish, expected.finish) = (String::new(), String::new());
            (got.tools, expected.tools) = (vec![], vec![]);
        }
        assert_eq!(got, expected, "{}", recording.file);
    }
}

#[test]
fn pieces_and_line_ends_make_no_difference() {
    for recording in recordings() {
        let (file, bytes) = (&recording.file, &recording.bytes);
        let whole = assemble(&recording.convert(&[bytes]));
        let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
        assert_eq!(assemble(&recording.convert(&pieces)), whole, "{file} in pieces of three bytes");
        let text = String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
        assert_eq!(assemble(&recording.convert(&[text.as_bytes()])), whole, "{file} with CRLF");
    }
}

#[test]
fn a_cut_stream_is_never_a_completion() {
    for recording in recordings() {
        let file = &recording.file;
        let whole = assemble(&recording.convert(&[&recording.bytes]));
        let text = String::from_utf8(recording.bytes.clone()).unwrap().replace("\r\n", "\n");
        let ends: Vec<usize> = if recording.is_json() {
            (0..text.trim_end_matches(['\n', ']', '}']).len()).step_by(7).collect()
        } else {
            text.match_indices("\n\n").map(|(end, _)| end + 2).filter(|end| *end < text.trim_end().len()).collect()
        };
        for end in ends {
            if !text.is_char_boundary(end) {
                continue;
            }
            let events = recording.convert(&[&text.as_bytes()[..end]]);
            let cut = assemble(&events);
            assert!(whole.text.starts_with(&cut.text), "{file} cut at {end}");
            assert!(cut.failed && cut.finish.is_empty(), "{file} cut at {end} of {}", text.len());
            assert!(cut.tools.is_empty(), "{file} cut at {end}: half a call is nobody's to act on");
            let kind = events.last().unwrap().as_ref().unwrap_err().kind;
            assert!(whole.failed || kind == ErrorKind::Interrupted, "{file} cut at {end}: {kind:?}");
        }
    }
}

#[test]
fn signatures_and_encrypted_reasoning_are_kept_for_the_echo() {
    let opaque = |file: &str| {
        let recording = recordings().into_iter().find(|recording| recording.file == file).unwrap();
        let kept = recording.convert(&[&recording.bytes]).into_iter().filter(|event| match event {
            Ok(AdapterEvent::Part(Part::Reasoning { opaque, .. })) => opaque.is_some(),
            Ok(AdapterEvent::Part(Part::ToolCall(call))) => call.opaque.is_some(),
            _ => false,
        });
        kept.count()
    };
    assert_eq!(opaque("openai/responses-reasoning.sse"), 1);
    assert_eq!(opaque("openai/responses-web-search-cached.sse"), 2);
    assert_eq!(opaque("gemini/tool-thought-signature.sse"), 1);
    assert_eq!(opaque("gemini/json-array-stream.json"), 1);
    assert_eq!(opaque("gemini/tool-args-stream-vertex.sse"), 1);
}

#[test]
fn sources_are_named_once() {
    let recording = recordings().into_iter().find(|recording| recording.file == "gemini/web-search.sse").unwrap();
    let events = recording.convert(&[&recording.bytes]);
    let urls = events.iter().filter_map(|event| match event {
        Ok(AdapterEvent::Part(Part::Citation(source))) => Some(source.url.as_str()),
        _ => None,
    });
    let urls: Vec<&str> = urls.collect();
    let distinct: HashSet<&&str> = urls.iter().collect();
    assert!(urls.len() >= 3 && distinct.len() == urls.len(), "{urls:?}");
}
