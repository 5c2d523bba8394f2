//! The document says what is really answered.

use polyphony_tests::{Deployment, Peer, read};
use reqwest::Method;
use serde_json::{Value, json};

use super::person;

/// Whether a value is what a schema says; what is wrong otherwise. A field that the schema doesn't name is wrong.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        let target = document.pointer(target.trim_start_matches('#')).ok_or_else(|| format!("{place}: {target}"))?;
        return check(document, target, value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let tried = choices.iter().map(|choice| check(document, choice, value, place));
        let wrong: Vec<String> = tried.filter_map(Result::err).collect();
        return if wrong.len() < choices.len() { Ok(()) } else { Err(wrong.join(" | ")) };
    }
    let is_of = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let is_right = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is_of),
        name => is_of(name),
    };
    if !is_right || schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{place}: {value} is not {schema}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, &format!("{place}[]"))?;
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            let schema = known.get(name).ok_or_else(|| format!("{place}.{name} is not in the document"))?;
            check(document, schema, field, &format!("{place}.{name}"))?;
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{place}.{name} is missing"));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_document_says_what_is_really_answered() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (_, token) = person(&all.url()).await;
    let (_, document) = token.call(Method::GET, "/api/openapi.json", None).await;
    let hi = json!([{"role": "user", "content": "hi"}]);
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "weather", "parameters": weather});
    let tools = json!([{"type": "function", "function": function}]);
    let flat = json!([{"type": "function", "name": "weather", "parameters": weather}]);
    let own = json!([{"name": "weather", "input_schema": weather}]);
    let think = json!({"type": "enabled", "budget_tokens": 1024});
    let thinker = "sage/claude-sonnet-4-5";
    for (path, body, status) in [
        ("/v1/chat/completions", json!({"model": "demo/demo", "messages": hi}), 200),
        ("/v1/chat/completions", json!({"model": "lab/teller", "messages": hi, "tools": tools}), 200),
        ("/v1/chat/completions", json!({"model": thinker, "messages": hi, "reasoning_effort": "low"}), 200),
        ("/v1/chat/completions", json!({"model": "demo/demo"}), 400),
        ("/v1/messages", json!({"model": "demo/demo", "max_tokens": 9, "messages": hi}), 200),
        ("/v1/messages", json!({"model": "lab/teller", "max_tokens": 9, "messages": hi, "tools": own}), 200),
        ("/v1/messages", json!({"model": thinker, "max_tokens": 2000, "messages": hi, "thinking": think}), 200),
        ("/v1/messages", json!({"model": "nobody", "max_tokens": 9, "messages": hi}), 404),
        ("/v1/messages/count_tokens", json!({"model": "demo/demo", "messages": hi}), 200),
        ("/v1/responses", json!({"model": "demo/demo", "input": "hi"}), 200),
        ("/v1/responses", json!({"model": "demo/demo", "input": "hi", "max_output_tokens": 2}), 200),
        ("/v1/responses", json!({"model": "lab/teller", "input": "hi", "tools": flat}), 200),
        ("/v1/responses", json!({"model": thinker, "input": "hi", "reasoning": {"effort": "low"}}), 200),
        ("/v1/responses", json!({"model": "nobody", "input": "hi"}), 404),
    ] {
        let operation = &document["paths"][path]["post"];
        let asked = &operation["requestBody"]["content"]["application/json"]["schema"];
        if status == 200 {
            check(&document, asked, &body, path).unwrap();
        }
        let (got, answer) = read(token.request(Method::POST, path).json(&body).send().await.unwrap()).await;
        assert_eq!(got.as_u16(), status, "{answer}");
        checked(&document, operation, status, &answer, path);
    }
    for version in [None, Some("2023-06-01")] {
        for (path, described) in [("/v1/models", "/v1/models"), ("/v1/models/demo/demo", "/v1/models/{id}")] {
            let request = token.request(Method::GET, path);
            let request =
                if let Some(version) = version { request.header("anthropic-version", version) } else { request };
            let (_, answer) = read(request.send().await.unwrap()).await;
            checked(&document, &document["paths"][described]["get"], 200, &answer, path);
        }
    }
}

fn checked(document: &Value, operation: &Value, status: u16, answer: &Value, path: &str) {
    let described = &operation["responses"][status.to_string()];
    let described = if described.is_null() { &operation["responses"]["default"] } else { described };
    let described = match described["$ref"].as_str() {
        Some(target) => document.pointer(target.trim_start_matches('#')).unwrap(),
        None => described,
    };
    let schema = &described["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{path} {status}");
    assert_eq!(check(document, schema, answer, path), Ok(()), "{answer}");
}
