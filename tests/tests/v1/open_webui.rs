//! Open WebUI as a client: bodies as it sends them to a connection of OpenAI's kind.

use polyphony_tests::{Deployment, JSON, Peer, SAYS, read};
use reqwest::Method;
use serde_json::{Value, json};

use super::person;

const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/// What it adds to the body of a chat for its own use, where nothing takes it out again.
fn chat(messages: Value) -> Value {
    json!({
        "stream": true, "model": "lab/teller", "messages": messages, "stream_options": {"include_usage": true},
        "params": {"function_calling": "native"}, "tool_ids": [], "tool_servers": [], "files": [], "filter_ids": [],
        "features": {"voice": false, "image_generation": false, "code_interpreter": false, "web_search": false},
        "variables": {"{{USER_NAME}}": "Ann", "{{CURRENT_DATETIME}}": "2026-11-28 12:00:00"},
        "model_item": {"id": "lab/teller", "name": "teller", "object": "model", "owned_by": "lab", "urlIdx": 0},
        "session_id": "rQ3mVtU", "chat_id": "7c0a9c3e-1f0b-4e55-8f5c-1f7d6f3a7b10", "id": "2d6f4c1b-reply",
        "parent_id": null, "background_tasks": {"title_generation": true, "tags_generation": true},
        "metadata": {"user_id": "u-1", "chat_id": "7c0a9c3e", "type": "user_response", "features": {}},
        "user": {"name": "Ann", "id": "u-1", "email": "ann@example.org", "role": "user"},
        "reasoning": {"effort": "low"}, "logit_bias": {"50256": -100}, "top_k": 40, "min_p": 0.1, "repeat_penalty": 1.1,
        "num_ctx": 4096, "temperature": 0.7, "top_p": 0.9, "seed": 7, "stop": ["<|end|>"], "max_tokens": 128,
        "frequency_penalty": 0.1, "presence_penalty": 0.1,
    })
}

/// The pieces of a stream, which ends as it should.
fn pieces(text: &str) -> Vec<Value> {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, pieces) = lines.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect()
}

#[tokio::test]
async fn open_webui_lists_models_chats_runs_tools_and_names_chats() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let post =
        async |body: &Value| token.request(Method::POST, "/v1/chat/completions").json(body).send().await.unwrap();

    // A connection is verified, and filled, by its models.
    let (status, models) = read(token.request(Method::GET, "/v1/models").send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &models["object"]), (200, &json!("list")));
    let teller = models["data"].as_array().unwrap().iter().find(|model| model["id"] == "lab/teller").unwrap();
    assert_eq!((&teller["name"], &teller["owned_by"]), (&json!("teller"), &json!("lab")));

    // A chat with a picture, its own extra fields at each message, and instructions in the middle and at the end.
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "assistant", "content": "<details type=\"reasoning\" done=\"true\"><summary>Thought</summary></details>Tea."},
        {"role": "system", "content": "Answer in English."},
        {"role": "user", "content": [{"type": "text", "text": "Which?", "cache_control": {"type": "ephemeral"}}], "id": "m-3",
         "timestamp": 1_764_331_200, "models": ["lab/teller"], "files": []},
        {"role": "system", "content": "Context: none."},
    ]);
    let streamed = post(&chat(messages)).await;
    assert!(streamed.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let heard = pieces(&streamed.text().await.unwrap());
    let said: String = heard.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((said.as_str(), &heard.last().unwrap()["usage"]["total_tokens"]), (SAYS, &json!(13)));
    let asked = peer.asked().pop().unwrap();
    let roles: Vec<&str> = asked["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "system", "system", "user"], "{asked}");
    assert!(asked["messages"][1].to_string().contains(PNG));
    let params = ["temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"];
    assert!(params.iter().all(|name| !asked[*name].is_null()), "{asked}");
    assert_eq!((&asked["stop"], asked["max_tokens"].as_u64()), (&json!(["<|end|>"]), Some(128)));

    // Its own loop of tools: what was called stands beside an empty text.
    let function = json!({"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}});
    let mut loops = chat(json!([{"role": "user", "content": "The weather?"}]));
    loops["tools"] = json!([{"type": "function", "function": function}]);
    let heard = pieces(&post(&loops).await.text().await.unwrap());
    let call = heard.iter().find_map(|piece| piece["choices"][0]["delta"]["tool_calls"][0].as_object()).unwrap();
    assert_eq!((&call["index"], &call["function"]["name"]), (&json!(0), &json!("weather")));
    let results = [
        json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": call["id"], "content": "rain", "name": "weather"}),
    ];
    loops["messages"].as_array_mut().unwrap().extend(results);
    let heard = pieces(&post(&loops).await.text().await.unwrap());
    let said: String = heard.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, SAYS);

    // Titles, tags and the like are asked for whole, in one message.
    let task = json!({
        "model": "lab/teller", "stream": false, "max_completion_tokens": 1000,
        "messages": [{"role": "user", "content": "### Task:\nGenerate a concise title.\n<chat_history>…</chat_history>"}],
        "metadata": {"task": "title_generation", "task_body": {"model": "lab/teller", "messages": []}, "chat_id": "7c0a9c3e"},
    });
    let (status, title) = read(post(&task).await).await;
    assert_eq!((status.as_u16(), &title["choices"][0]["message"]["content"]), (200, &json!(SAYS)), "{title}");
    let mut tags = task.clone();
    tags["response_format"] = json!({"type": "json_object"});
    assert_eq!(read(post(&tags).await).await.1["choices"][0]["message"]["content"], JSON);

    // What it shows of an error.
    let mut gone = task;
    gone["model"] = "lab/gone".into();
    let (status, error) = read(post(&gone).await).await;
    assert_eq!((status.as_u16(), error["error"]["message"].is_string()), (404, true), "{error}");

    // Each of its users has a session of one's own.
    let (_, sessions) = person.call(Method::GET, "/sessions", None).await;
    let titles: Vec<&str> = sessions["data"].as_array().unwrap().iter().map(|s| s["title"].as_str().unwrap()).collect();
    assert!(titles.len() == 2 && titles.iter().any(|title| title.ends_with(", u-1")), "{titles:?}");
}
