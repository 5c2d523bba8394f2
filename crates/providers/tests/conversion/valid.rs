//! The rules of each dialect, as its provider enforces them: a request that breaks one would be refused.

use std::collections::HashSet;

use serde_json::Value;

/// Panics if the request would be refused.
pub(crate) fn check(dialect: &str, body: &Value, context: &str) {
    match dialect {
        "openai (responses)" => responses(body, context),
        "anthropic" => anthropic(body, context),
        "gemini" => gemini(body, context),
        "demo" => {}
        host => chat(body, host == "mistral", context),
    }
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {of}"))
}

fn is_object(json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok_and(|value| value.is_object())
}

fn is_name(name: &str, most: usize, others: &[u8]) -> bool {
    (1..=most).contains(&name.len()) && name.bytes().all(|it| it.is_ascii_alphanumeric() || others.contains(&it))
}

/// Mistral's order of roles.
fn strict(body: &Value, context: &str) {
    let roles: Vec<&str> = list(body, "messages").iter().map(|message| text(message, "role")).collect();
    for pair in roles.windows(2) {
        let follows = match pair[0] {
            "system" | "assistant" => ["user", "tool"],
            "user" => ["assistant", ""],
            _ => ["tool", "assistant"],
        };
        assert!(follows.contains(&pair[1]), "{context}: {} after {}", pair[1], pair[0]);
    }
}

fn chat(body: &Value, is_mistral: bool, context: &str) {
    if is_mistral {
        strict(body, context);
    }
    let mut ids = HashSet::new();
    let mut due: Vec<&str> = Vec::new();
    for message in list(body, "messages") {
        let role = text(message, "role");
        if role == "tool" {
            assert_eq!(text(message, "tool_call_id"), due.remove(0), "{context}");
            assert!(message["content"].is_string(), "{context}");
            continue;
        }
        assert!(due.is_empty(), "{context}: calls without results");
        assert!(["system", "developer", "user", "assistant"].contains(&role), "{context}: {role}");
        for call in list(message, "tool_calls") {
            let id = text(call, "id");
            assert!(ids.insert(id) && id.len() <= 40, "{context}: id {id}");
            assert!(!is_mistral || id.len() == 9, "{context}: id {id}");
            assert!(is_object(text(&call["function"], "arguments")), "{context}");
            assert!(is_name(text(&call["function"], "name"), 64, b"_-"), "{context}: {call}");
            due.push(id);
        }
        let said = message["content"].as_str().is_some_and(|text| !text.is_empty()) || message["content"].is_array();
        assert!(said || !due.is_empty() || message["refusal"].is_string(), "{context}: an empty message");
    }
    assert!(due.is_empty(), "{context}: calls without results");
}

fn responses(body: &Value, context: &str) {
    let (mut ids, mut due) = (HashSet::new(), HashSet::new());
    let items = list(body, "input");
    for (n, item) in items.iter().enumerate() {
        match text(item, "type") {
            "message" => {
                let own = text(item, "role") == "assistant";
                for part in list(item, "content") {
                    let allowed: &[&str] =
                        if own { &["output_text", "refusal"] } else { &["input_text", "input_image", "input_file"] };
                    assert!(allowed.contains(&text(part, "type")), "{context}: {part}");
                }
            }
            "function_call" => {
                let id = text(item, "call_id");
                assert!((1..=64).contains(&id.len()) && is_object(text(item, "arguments")), "{context}: {item}");
                assert!(ids.insert(id) && is_name(text(item, "name"), 64, b"_-"), "{context}: {item}");
                due.insert(text(item, "call_id"));
            }
            "function_call_output" => {
                assert!(due.remove(text(item, "call_id")) && item["output"].is_string(), "{context}: {item}");
            }
            "reasoning" => {
                assert!(item["encrypted_content"].is_string() && item["summary"].is_array(), "{context}: {item}");
                let next = items.get(n + 1).map(|next| text(next, "type"));
                assert!(
                    next.is_some_and(|next| next != "function_call_output"),
                    "{context}: reasoning without its item"
                );
            }
            other => panic!("{context}: {other}"),
        }
    }
    assert!(due.is_empty(), "{context}: calls without results");
    assert_eq!(body["store"], false, "{context}");
}

fn anthropic(body: &Value, context: &str) {
    assert!(body["max_tokens"].as_u64().is_some_and(|most| most > 0), "{context}");
    let mut ids = HashSet::new();
    let mut due: Vec<&str> = Vec::new();
    let mut marks = body.to_string().matches("cache_control").count();
    for (n, message) in list(body, "messages").iter().enumerate() {
        assert_eq!(text(message, "role"), if n % 2 == 0 { "user" } else { "assistant" }, "{context}");
        let blocks = list(message, "content");
        assert!(!blocks.is_empty(), "{context}: an empty message");
        let mut after_results = false;
        for block in blocks {
            match text(block, "type") {
                "tool_result" => {
                    assert!(!after_results, "{context}: a result after text");
                    assert_eq!(text(block, "tool_use_id"), due.remove(0), "{context}");
                }
                kind => {
                    assert!(due.is_empty() || kind == "tool_use", "{context}: {kind} before the results");
                    after_results = true;
                    match kind {
                        "text" => assert!(!text(block, "text").trim().is_empty(), "{context}: blank text"),
                        "thinking" => {
                            assert!(block["signature"].is_string() && block["thinking"].is_string(), "{context}")
                        }
                        "tool_use" => {
                            let id = text(block, "id");
                            let word = id.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it));
                            let word = word && (1..=64).contains(&id.len());
                            assert!(ids.insert(id) && word && block["input"].is_object(), "{context}: {block}");
                            assert!(is_name(text(block, "name"), 128, b"_-"), "{context}: {block}");
                            due.push(id);
                        }
                        "image" | "document" => assert!(block["source"]["type"].is_string(), "{context}"),
                        "redacted_thinking" => assert!(block["data"].is_string(), "{context}"),
                        other => panic!("{context}: {other}"),
                    }
                }
            }
        }
    }
    assert!(due.is_empty(), "{context}: calls without results");
    assert!(ids.is_empty() || !list(body, "tools").is_empty(), "{context}: calls of undeclared tools");
    marks = marks.saturating_sub(4);
    assert_eq!(marks, 0, "{context}: more marks of the cache than are taken");
}

fn gemini(body: &Value, context: &str) {
    let mut due: Vec<&str> = Vec::new();
    for (n, content) in list(body, "contents").iter().enumerate() {
        assert_eq!(text(content, "role"), if n % 2 == 0 { "user" } else { "model" }, "{context}");
        let parts = list(content, "parts");
        assert!(!parts.is_empty(), "{context}: an empty message");
        let signed = parts.iter().find(|part| part.get("functionCall").is_some());
        assert!(
            signed.is_none_or(|call| call["thoughtSignature"].is_string()),
            "{context}: a call without a signature"
        );
        for part in parts {
            if let Some(response) = part.get("functionResponse") {
                assert_eq!(text(response, "name"), due.remove(0), "{context}");
                assert!(response["response"].is_object(), "{context}");
            } else if let Some(call) = part.get("functionCall") {
                assert!(call["args"].is_object(), "{context}");
                let name = text(call, "name");
                let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                assert!(begins && is_name(name, 64, b"_-.:"), "{context}: {call}");
                due.push(text(call, "name"));
            } else {
                let known = ["text", "inlineData", "fileData"].iter().any(|name| part.get(name).is_some());
                assert!(known && due.is_empty(), "{context}: {part}");
            }
        }
    }
    assert!(due.is_empty(), "{context}: calls without results");
}
