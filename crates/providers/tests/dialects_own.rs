//! What Anthropic, Gemini and OpenAI's Responses do beyond the recordings: their own tools, odd orders, blocks, errors after
//! 200, JSON for a stream, and things that nobody has seen yet.
#![expect(clippy::panic, reason = "a test")]

use polyphony_domain::content::Part;
use polyphony_providers::{
    AdapterEvent, Converter, ErrorKind, Events, FinishReason, Usage, anthropic,
    compatible::{self, Quirks},
    gemini,
    openai::{self, Api},
};
use proptest::prelude::*;

fn responses() -> Converter {
    openai::converter(Api::Responses, &Quirks::COMMON)
}

fn read(mut converter: Converter, text: &str) -> Events {
    let mut events = Events::new();
    converter.feed(text.as_bytes(), &mut events);
    converter.finish(&mut events);
    events
}

/// Events of a stream, each the data of one.
fn stream(converter: Converter, data: &[&str]) -> Events {
    let text: String = data.iter().map(|data| format!("data: {data}\n\n")).collect();
    read(converter, &text)
}

fn text(events: &Events) -> String {
    events
        .iter()
        .filter_map(|it| if let Ok(AdapterEvent::Text(text)) = it { Some(text.as_str()) } else { None })
        .collect()
}

fn calls(events: &Events) -> Vec<(&str, &str)> {
    let parts = events.iter().filter_map(|it| if let Ok(AdapterEvent::Part(part)) = it { Some(part) } else { None });
    parts
        .filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
        .map(|call| (call.name.as_str(), call.arguments.as_str()))
        .collect()
}

fn sources(events: &Events) -> Vec<&str> {
    let parts = events.iter().filter_map(|it| if let Ok(AdapterEvent::Part(part)) = it { Some(part) } else { None });
    parts.filter_map(|part| if let Part::Citation(it) = part { Some(it.url.as_str()) } else { None }).collect()
}

fn usage(events: &Events) -> Usage {
    let mut reports =
        events.iter().filter_map(|it| if let Ok(AdapterEvent::Usage(usage)) = it { Some(usage) } else { None });
    reports.next_back().cloned().unwrap_or_default()
}

fn end(events: &Events) -> Result<FinishReason, ErrorKind> {
    match events.last() {
        Some(Ok(AdapterEvent::Finish(reason))) => Ok(reason.clone()),
        Some(Err(error)) => Err(error.kind),
        other => panic!("{other:?}"),
    }
}

const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_creation_input_tokens":7,"output_tokens":1}}}"#;
const HELLO: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn ended(reason: &str) -> String {
    format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":9}}}}"#)
}

#[test]
fn anthropics_own_tools_and_unknown_things_are_passed_over() {
    let events = stream(
        anthropic::converter(),
        &[
            START,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srv","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"srv","content":[{"url":"https://a"}]}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"something_new","x":[1]}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"something_delta","y":{}}}"#,
            r#"{"type":"event_of_tomorrow","index":"seven"}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"","citations":[]}}"#,
            HELLO,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"https://a","title":"A"}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"https://a","title":"A"}}}"#,
            r#"{"type":"content_block_stop","index":3}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"mcp_tool_use","id":"m","name":"x","input":{"a":1}}}"#,
            &ended("pause_turn"),
            STOP,
        ],
    );
    assert_eq!((text(&events).as_str(), calls(&events).len()), ("Hello", 0));
    assert_eq!(sources(&events), ["https://a"]);
    assert_eq!(end(&events), Ok(FinishReason::Other("pause_turn".to_owned())));
    assert_eq!((usage(&events).input, usage(&events).cache_write, usage(&events).output), (12, Some(7), 9));
}

#[test]
fn anthropics_blocks_may_lack_or_repeat_their_index() {
    let tool = |index: &str, id: &str, input: &str| {
        format!(
            r#"{{"type":"content_block_start"{index},"content_block":{{"type":"tool_use","id":"{id}","name":"f","input":{input}}}}}"#
        )
    };
    let piece = |index: &str, json: &str| {
        format!(
            r#"{{"type":"content_block_delta"{index},"delta":{{"type":"input_json_delta","partial_json":"{json}"}}}}"#
        )
    };
    let zero = r#","index":0"#;
    let events = stream(
        anthropic::converter(),
        &[
            START,
            &tool(zero, "a", "{}"),
            &piece(zero, r#"{\"x\":1}"#),
            &tool(zero, "b", r#"{"y":2}"#),
            &tool("", "c", "null"),
            &piece("", r#"{\"z\":3}"#),
            &ended("tool_use"),
            STOP,
        ],
    );
    assert_eq!(calls(&events), [("f", r#"{"x":1}"#), ("f", r#"{"y":2}"#), ("f", r#"{"z":3}"#)]);
    assert_eq!(end(&events), Ok(FinishReason::ToolCalls));
}

#[test]
fn anthropics_reasons_and_errors_have_their_kind() {
    for (word, reason) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::StopSequence(None)),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("refusal", FinishReason::Refusal),
    ] {
        assert_eq!(end(&stream(anthropic::converter(), &[START, HELLO, &ended(word), STOP])), Ok(reason));
    }
    let by_text = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}"#;
    let by_text = end(&stream(anthropic::converter(), &[START, HELLO, by_text, STOP]));
    assert_eq!(by_text, Ok(FinishReason::StopSequence(Some("END".to_owned()))));
    let stopped = ended("end_turn");
    for cut in [&[][..], &[START], &[START, HELLO], &[START, HELLO, &stopped]] {
        assert_eq!(end(&stream(anthropic::converter(), cut)), Err(ErrorKind::Interrupted));
    }
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let events = stream(anthropic::converter(), &[START, HELLO, error, STOP]);
    assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Err(ErrorKind::Overloaded)));
    let long = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#;
    assert_eq!(end(&read(anthropic::converter(), long)), Err(ErrorKind::ContextTooLong));
}

#[test]
fn json_instead_of_a_stream_is_understood_in_every_dialect() {
    let whole = r#"{"type":"message","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Hello"},
        {"type":"tool_use","id":"a","name":"f","input":{"x":1}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":1}}"#;
    let events = read(anthropic::converter(), whole);
    assert_eq!((text(&events).as_str(), calls(&events), usage(&events).input), ("Hello", vec![("f", r#"{"x":1}"#)], 5));
    assert_eq!(end(&events), Ok(FinishReason::ToolCalls));
    let whole = r#"{"object":"response","status":"completed","output":[{"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"hm"}]},
        {"type":"message","id":"m","content":[{"type":"output_text","text":"Hello","annotations":[{"type":"url_citation","url":"https://a"}]}]},
        {"type":"function_call","id":"f","call_id":"a","name":"f","arguments":"{}"}],"usage":{"input_tokens":5,"output_tokens":1}}"#;
    let events = read(responses(), whole);
    assert_eq!(
        (text(&events).as_str(), calls(&events), sources(&events)),
        ("Hello", vec![("f", "{}")], vec!["https://a"])
    );
    assert_eq!(end(&events), Ok(FinishReason::ToolCalls));
    let whole = r#"{"candidates":[{"content":{"parts":[{"text":"Hello"}]},"finishReason":"STOP"}]}"#;
    for form in [whole.to_owned(), format!("[{whole}]"), format!("[\r\n{whole}\r\n]\r\n")] {
        let events = read(gemini::converter(), &form);
        assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Ok(FinishReason::Stop)));
    }
}

#[test]
fn another_language_is_said_to_be_one() {
    let chat = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\ndata: {\"choices\":[]}\n\n";
    let claude = format!("event: message_start\ndata: {START}\n\nevent: message_stop\ndata: {STOP}\n\n");
    for foreign in [chat, r#"{"hello":"world"}"#, "<html>sorry</html>", "[1,2]", "data: {\"x\":1}\n\n"] {
        for converter in [anthropic::converter(), gemini::converter(), responses()] {
            assert_eq!(end(&read(converter, foreign)), Err(ErrorKind::Protocol), "{foreign}");
        }
    }
    assert_eq!(end(&read(compatible::converter(&Quirks::COMMON), &claude)), Err(ErrorKind::Protocol));
}

#[test]
fn geminis_blocks_and_errors_have_their_kind() {
    let chunk = |rest: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"Hi"}}]}}{rest}}}]}}"#);
    for (word, reason) in [
        ("STOP", FinishReason::Stop),
        ("MAX_TOKENS", FinishReason::Length),
        ("SAFETY", FinishReason::ContentFilter),
        ("PROHIBITED_CONTENT", FinishReason::ContentFilter),
        ("RECITATION", FinishReason::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", FinishReason::Other("malformed_function_call".to_owned())),
    ] {
        let chunk = chunk(&format!(r#","finishReason":"{word}""#));
        assert_eq!(end(&stream(gemini::converter(), &[&chunk])), Ok(reason));
    }
    assert_eq!(end(&stream(gemini::converter(), &[&chunk("")])), Err(ErrorKind::Interrupted));
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":9}}"#;
    let events = stream(gemini::converter(), &[blocked]);
    assert_eq!((end(&events), usage(&events).input), (Err(ErrorKind::ContentFilter), 9));
    let late = r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#;
    let events = stream(gemini::converter(), &[&chunk(""), late]);
    assert_eq!((text(&events).as_str(), end(&events)), ("Hi", Err(ErrorKind::Overloaded)));
    let key = r#"[{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}]"#;
    assert_eq!(end(&read(gemini::converter(), key)), Err(ErrorKind::InvalidKey));
}

#[test]
fn geminis_other_parts_and_candidates_are_passed_over() {
    let events = stream(
        gemini::converter(),
        &[
            r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"other"}]}},{"index":0,"content":{"parts":[{"executableCode":{"code":"1+1"}},{"codeExecutionResult":{"output":"2"}},{"inlineData":{"data":"QQ=="}},{"newPart":[]},{"text":"two"}]}}]}"#,
            r#"{"candidates":[{"content":{"role":"model"},"finishReason":"STOP","groundingMetadata":{"groundingChunks":[{"web":{"uri":"https://a","title":"A"}},{"unknown":{}}]}}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}"#,
        ],
    );
    assert_eq!((text(&events).as_str(), sources(&events), usage(&events).output), ("two", vec!["https://a"], 2));
    assert_eq!(end(&events), Ok(FinishReason::Stop));
}

#[test]
fn the_responses_dialect_survives_what_is_new_or_missing() {
    let done = r#"{"type":"response.completed","response":{"status":"completed","output":[],"usage":{"input_tokens":5,"output_tokens":2}}}"#;
    let events = stream(
        responses(),
        &[
            r#"{"type":"response.created","response":{}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"mcp_call","id":"m","name":"x","arguments":"{}"}}"#,
            r#"{"type":"response.mcp_call_arguments.delta","output_index":0,"delta":"{}"}"#,
            r#"{"type":"response.code_interpreter_call_code.delta","output_index":0,"delta":"1+1"}"#,
            r#"{"type":"response.audio.delta","delta":"QQ=="}"#,
            r#"{"type":"response.tomorrow.delta","delta":{"x":1}}"#,
            r#"{"type":"keepalive"}"#,
            r#"{"type":"response.output_text.delta","item_id":"t","delta":"Hello"}"#,
            r#"{"type":"response.output_item.added","item":{"type":"function_call","id":"f","call_id":"a","name":"g"}}"#,
            r#"{"type":"response.function_call_arguments.delta","item_id":"f","delta":"{\"x\":1}"}"#,
            done,
        ],
    );
    assert_eq!((text(&events).as_str(), calls(&events)), ("Hello", vec![("g", r#"{"x":1}"#)]));
    assert_eq!((end(&events), usage(&events).input), (Ok(FinishReason::ToolCalls), 5));
    // Only the end has the text.
    let silent = r#"{"type":"response.completed","response":{"status":"completed","output":[{"type":"message","id":"m","content":[{"type":"output_text","text":"Hello"}]}]}}"#;
    assert_eq!(text(&stream(responses(), &[silent])), "Hello");
    let refused = stream(responses(), &[r#"{"type":"response.refusal.delta","delta":"No."}"#, done]);
    assert!(
        refused.iter().any(|it| matches!(it, Ok(AdapterEvent::Part(Part::Refusal { text })) if text.as_str() == "No."))
    );
}

#[test]
fn the_responses_dialects_ends_have_their_kind() {
    let hello = r#"{"type":"response.output_text.delta","output_index":0,"delta":"Hello"}"#;
    let ended = |rest: &str| format!(r#"{{"type":"response.incomplete","response":{{{rest},"output":[]}}}}"#);
    let long = ended(r#""status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}"#);
    assert_eq!(end(&stream(responses(), &[hello, &long])), Ok(FinishReason::Length));
    let filtered = ended(r#""status":"incomplete","incomplete_details":{"reason":"content_filter"}"#);
    assert_eq!(end(&stream(responses(), &[hello, &filtered])), Ok(FinishReason::ContentFilter));
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"Please try again in 2s."}}}"#;
    let events = stream(responses(), &[hello, failed]);
    assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Err(ErrorKind::RateLimited)));
    let window = r#"{"type":"error","code":"context_length_exceeded","message":"Your input exceeds the context window of this model.","param":"input"}"#;
    for first in [window.to_owned(), format!(r#"{{"type":"error","error":{window}}}"#)] {
        assert_eq!(end(&stream(responses(), &[&first, failed])), Err(ErrorKind::ContextTooLong));
    }
    assert_eq!(end(&stream(responses(), &[hello])), Err(ErrorKind::Interrupted));
}

#[test]
fn a_chat_chunk_of_a_strange_form_is_read_as_far_as_it_makes_sense() {
    let events = stream(
        compatible::converter(&Quirks::COMMON),
        &[
            r#"{"choices":{"0":"odd"}}"#,
            r#"{"choices":[null,7,{"index":0,"delta":"odd"}],"x_groq":[]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hello","tool_calls":{"odd":1},"function_call":"odd"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":["odd",{"index":0,"id":"a","function":"odd"},{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"message":[],"delta":{},"finish_reason":"stop"}],"usage":"odd"}"#,
        ],
    );
    assert_eq!((text(&events).as_str(), calls(&events)), ("Hello", vec![("f", "{}")]));
    assert_eq!(end(&events), Ok(FinishReason::ToolCalls));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let names = "(type|index|delta|content|parts|text|candidates|item|response|output|usage|message|error|choices|tool_calls|id)";
    let words = "(text_delta|message_start|content_block_start|tool_use|response.completed|response.output_item.done|function_call|error|STOP|你)?";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-2_i64..3).prop_map(Into::into),
        words.prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((names, inner), 0..5)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_ends_every_dialect_exactly_once(values in prop::collection::vec(json(), 0..6), bare: bool) {
        let text: String =
            values.iter().map(|value| if bare { format!("{value}\n") } else { format!("data: {value}\n\n") }).collect();
        let chat = || compatible::converter(&Quirks::COMMON);
        for make in [chat as fn() -> Converter, anthropic::converter, gemini::converter, responses] {
            let events = read(make(), &text);
            let ends = events.iter().filter(|it| matches!(it, Ok(AdapterEvent::Finish(_)) | Err(_))).count();
            prop_assert_eq!(ends, 1, "{}", text);
            prop_assert!(matches!(events.last(), Some(Ok(AdapterEvent::Finish(_)) | Err(_))));
        }
    }
}
