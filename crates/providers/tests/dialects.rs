//! What hosts do beyond the recordings: errors after 200, odd ends, odd usage, odd pings, and JSON for a stream.
#![expect(clippy::panic, reason = "a test")]

use polyphony_domain::content::Part;
use polyphony_providers::{
    AdapterEvent, ErrorKind, Events, FinishReason, Usage,
    compatible::{Quirks, converter},
};

const HELLO: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}"#;
const STOP: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

fn raw(answer: &str) -> Events {
    let (mut converter, mut events) = (converter(&Quirks::COMMON), Events::new());
    converter.feed(answer.as_bytes(), &mut events);
    converter.finish(&mut events);
    events
}

fn stream(events: &[&str]) -> Events {
    raw(&format!("{}\n\n", events.join("\n\n")))
}

fn text(events: &Events) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Ok(AdapterEvent::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn usage(events: &Events) -> Option<Usage> {
    let mut reports = events.iter().filter_map(|event| match event {
        Ok(AdapterEvent::Usage(usage)) => Some(usage.clone()),
        _ => None,
    });
    reports.next_back()
}

/// The finish reason or the kind of the error, having seen that it's the last event and the only end.
fn end(events: &Events) -> Result<FinishReason, ErrorKind> {
    let ends = events.iter().filter(|event| matches!(event, Ok(AdapterEvent::Finish(_)) | Err(_))).count();
    assert_eq!(ends, 1, "{events:?}");
    match events.last() {
        Some(Ok(AdapterEvent::Finish(reason))) => Ok(reason.clone()),
        Some(Err(error)) => Err(error.kind),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_needs_a_finish_reason() {
    assert_eq!(end(&stream(&[HELLO, STOP, "data: [DONE]"])), Ok(FinishReason::Stop));
    assert_eq!(end(&stream(&[HELLO, STOP])), Ok(FinishReason::Stop));
    for cut in [&[][..], &[HELLO], &[": comment"], &["data: [DONE]"], &[HELLO, "data: [DONE]"]] {
        assert_eq!(end(&stream(cut)), Err(ErrorKind::Interrupted), "{cut:?}");
    }
}

#[test]
fn a_stream_cut_within_an_event_is_interrupted_and_keeps_its_text() {
    let whole = format!("{HELLO}\n\n{HELLO}\n\n{STOP}\n\n");
    for cut in 0..whole.len() - STOP.len() - 2 {
        let events = raw(&whole[..cut]);
        assert_eq!(end(&events), Err(ErrorKind::Interrupted), "cut at {cut}");
        assert!("HelloHello".starts_with(&text(&events)));
    }
}

#[test]
fn errors_after_200_end_the_answer_and_keep_its_text() {
    let cases = [
        (r#"data: {"error":{"message":"x","type":"server_error","code":null}}"#, ErrorKind::Overloaded),
        (
            r#"data: {"error":{"code":429,"message":"x"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            ErrorKind::RateLimited,
        ),
        (r#"data: {"error":"upstream trouble"}"#, ErrorKind::Overloaded),
        (r#"data: {"object":"error","message":"maximum context length is 9","code":400}"#, ErrorKind::ContextTooLong),
        (r#"data: {"detail":"not a valid model"}"#, ErrorKind::ModelUnavailable),
        (r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#, ErrorKind::Overloaded),
        (
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"insufficient_system_resource"}]}"#,
            ErrorKind::Overloaded,
        ),
        ("event: error\ndata: {\"message\":\"Overloaded\",\"type\":\"overloaded_error\"}", ErrorKind::Overloaded),
        ("event: error\ndata: out of memory", ErrorKind::Overloaded),
        (r#"error: {"code":500,"message":"slot gone","type":"server_error"}"#, ErrorKind::Overloaded),
        (r#"data: {"choices":[{"garbled"#, ErrorKind::Interrupted),
    ];
    for (error, kind) in cases {
        for after in ["data: [DONE]", HELLO, STOP] {
            let events = stream(&[HELLO, error, after]);
            assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Err(kind)), "{error}");
        }
    }
}

#[test]
fn what_is_no_error_does_not_end_the_answer() {
    let harmless = [
        "data: ping",
        r#"data: {"type":"ping"}"#,
        r#"data: {"choices":[],"error":null}"#,
        r#"data: {"choices":null,"prompt_filter_results":[]}"#,
        r#"data: {"choices":[{"index":0,"delta":{"content":null,"reasoning":{"x":1}},"finish_reason":""}],"error":{}}"#,
        r#"data: {"choices":[{"index":null,"delta":null,"logprobs":7}],"message":"ok"}"#,
        "event: unknown\ndata: {}",
        "data:",
        ": keep-alive",
        "id: 1\nretry: 5",
    ];
    for ping in harmless {
        let events = stream(&[ping, HELLO, ping, STOP, ping, "data: [DONE]", ping]);
        assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Ok(FinishReason::Stop)), "{ping}");
    }
}

#[test]
fn the_last_real_usage_counts_wherever_it_stands() {
    let report =
        |output: u64| format!(r#"data: {{"choices":[],"usage":{{"prompt_tokens":5,"completion_tokens":{output}}}}}"#);
    let (one, two, zero) =
        (report(1), report(2), r#"data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#);
    let output = |events: &[&str]| usage(&stream(events)).map(|usage| usage.output);
    assert_eq!(output(&[HELLO, STOP]), None);
    assert_eq!(output(&[&one, HELLO, &two, STOP]), Some(2));
    assert_eq!(output(&[HELLO, STOP, &one, &two, "data: [DONE]"]), Some(2));
    assert_eq!(output(&[HELLO, STOP, "data: [DONE]", &one]), Some(1));
    assert_eq!(output(&[HELLO, &two, STOP, zero]), Some(2));
    assert_eq!(output(&[HELLO, zero, STOP]), None);
}

#[test]
fn content_after_the_end_marker_is_not_shown() {
    let events = stream(&[HELLO, STOP, "data: [DONE]", HELLO]);
    assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Ok(FinishReason::Stop)));
}

#[test]
fn json_instead_of_a_stream_is_understood() {
    let whole = r#" {"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let events = raw(whole);
    assert_eq!((text(&events).as_str(), end(&events)), ("Hello", Ok(FinishReason::Stop)));
    assert_eq!(usage(&events).map(|usage| usage.input), Some(5));
    assert_eq!(end(&raw(&whole[..60])), Err(ErrorKind::Interrupted));
    assert_eq!(end(&raw(r#"{"error":{"message":"x","code":"insufficient_quota"}}"#)), Err(ErrorKind::QuotaExceeded));
    assert_eq!(end(&raw(r#"[{"error":{"code":400,"message":"API key not valid"}}]"#)), Err(ErrorKind::InvalidKey));
    assert_eq!(end(&raw("<html><body>Welcome</body></html>")), Err(ErrorKind::Protocol));
    assert_eq!(end(&raw("{]")), Err(ErrorKind::Protocol));
    let lines: Vec<&str> =
        [HELLO, HELLO, STOP].iter().map(|line| line.strip_prefix("data: ").unwrap_or(line)).collect();
    let events = raw(&lines.join("\n"));
    assert_eq!((text(&events).as_str(), end(&events)), ("HelloHello", Ok(FinishReason::Stop)));
}

#[test]
fn the_text_that_ended_an_answer_is_known_where_the_host_says_it() {
    for (field, reason) in [
        (r#""stop_reason":"END""#, FinishReason::StopSequence(Some("END".to_owned()))),
        (r#""matched_stop":"END""#, FinishReason::StopSequence(Some("END".to_owned()))),
        // The model's own end is no text.
        (r#""stop_reason":null"#, FinishReason::Stop),
        (r#""matched_stop":151645"#, FinishReason::Stop),
        (r#""stop_reason":{"a":[]}"#, FinishReason::Stop),
    ] {
        let stopped = format!(r#"data: {{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop",{field}}}]}}"#);
        assert_eq!(end(&stream(&[HELLO, &stopped])), Ok(reason), "{field}");
    }
}

#[test]
fn stop_after_tool_calls_means_tool_calls() {
    let call = r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}"#;
    let events = stream(&[call, STOP]);
    assert_eq!(end(&events), Ok(FinishReason::ToolCalls));
    assert!(matches!(&events[0], Ok(AdapterEvent::Part(Part::ToolCall(call))) if call.arguments.as_str() == "{}"));
    // A call that may lack its last fragments isn't given out.
    assert_eq!(stream(&[call]).len(), 1);
}
