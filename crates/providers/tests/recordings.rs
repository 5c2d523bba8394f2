//! Recorded streams of real hosts, whole, in small pieces, with CRLF and cut at every event.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

use polyphony_providers::{
    AdapterEvent, ErrorKind, ProviderError,
    compatible::{Converter, Quirks},
};
use serde_json::Value;

type Events = Vec<Result<AdapterEvent, ProviderError>>;

fn convert(pieces: &[&[u8]]) -> Events {
    let (mut converter, mut events) = (Converter::new(Quirks::COMMON), Events::new());
    for piece in pieces {
        converter.feed(piece, &mut events);
    }
    converter.finish(&mut events);
    events
}

#[derive(Debug, Default, PartialEq)]
struct Assembled {
    text: String,
    reasoning: String,
    tools: Vec<(String, String, String)>,
    usage: Option<Value>,
    finish: Option<String>,
    error: Option<ErrorKind>,
}

fn assemble(events: Events) -> Assembled {
    let mut whole = Assembled::default();
    for event in events {
        match event {
            Ok(AdapterEvent::Text(text)) => whole.text += &text,
            Ok(AdapterEvent::Reasoning(text)) => whole.reasoning += &text,
            Ok(AdapterEvent::ToolCall { id, name, arguments }) => whole.tools.push((id, name, arguments)),
            Ok(AdapterEvent::Usage(usage)) => whole.usage = Some(usage.raw),
            Ok(AdapterEvent::Finish(reason)) => whole.finish = Some(reason.as_str().to_owned()),
            Err(error) => whole.error = Some(error.kind),
        }
    }
    whole
}

fn recordings() -> Vec<(String, Vec<u8>, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let index: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    index
        .into_iter()
        .map(|entry| {
            let file = entry["file"].as_str().unwrap().to_owned();
            let bytes = fs::read(folder.join(&file)).unwrap();
            (file, bytes, entry["expected"].clone())
        })
        .collect()
}

#[test]
fn every_recording_assembles_to_what_its_provider_sent() {
    let recordings = recordings();
    assert!(recordings.len() >= 20);
    for (file, bytes, expected) in recordings {
        let got = assemble(convert(&[&bytes]));
        let choice = &expected["choices"]["0"];
        let said = format!("{}{}", choice["text"].as_str().unwrap_or(""), choice["refusal"].as_str().unwrap_or(""));
        assert_eq!(got.text, said, "{file}");
        assert_eq!(got.reasoning, choice["reasoning"].as_str().unwrap_or(""), "{file}");
        assert_eq!(got.error.is_some(), !expected["error"].is_null(), "{file}: {:?}", got.error);
        if got.error.is_none() {
            assert_eq!(got.finish.as_deref(), choice["finish"].as_str(), "{file}");
            let tools: Vec<_> = choice["tools"].as_object().into_iter().flatten().map(|(_, tool)| tool).collect();
            assert_eq!(got.tools.len(), tools.len(), "{file}");
            for ((id, name, arguments), tool) in got.tools.iter().zip(tools) {
                assert_eq!(
                    (id.as_str(), name.as_str()),
                    (tool["id"].as_str().unwrap(), tool["name"].as_str().unwrap())
                );
                let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                assert_eq!(read(arguments), read(tool["args"].as_str().unwrap()), "{file}");
            }
        }
        let count = |usage: &Value| (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64());
        assert_eq!(
            got.usage.as_ref().map(count),
            expected["usage"].as_object().map(|_| count(&expected["usage"])),
            "{file}"
        );
    }
}

#[test]
fn pieces_and_line_ends_make_no_difference() {
    for (file, bytes, _) in recordings() {
        let whole = convert(&[&bytes]);
        let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
        assert_eq!(convert(&pieces), whole, "{file} in pieces of three bytes");
        let text = String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
        assert_eq!(convert(&[text.as_bytes()]), whole, "{file} with CRLF");
    }
}

#[test]
fn a_cut_stream_is_never_a_completion() {
    for (file, bytes, _) in recordings() {
        let whole = assemble(convert(&[&bytes]));
        let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
        let finish = text.find(r#""finish_reason":""#).or_else(|| text.find(r#""finish_reason": ""#));
        for (end, _) in text.match_indices("\n\n") {
            let cut = assemble(convert(&[&text.as_bytes()[..end + 2]]));
            assert!(whole.text.starts_with(&cut.text), "{file} cut at {end}");
            if finish.is_none_or(|finish| end < finish) {
                assert_eq!(cut.finish, None, "{file} cut at {end}");
                assert!(cut.error.is_some(), "{file} cut at {end}");
            }
        }
    }
}
