//! Thoughts that nobody signed: they are shown, and go back to the provider that they came from and to no other.

use polyphony_tests::{Client, Deployment, MUSES, Peer, SAYS, SIGNATURE, read};
use reqwest::Method;
use serde_json::{Value, json};

use super::person;

async fn ask(token: &Client, path: &str, body: &Value) -> Value {
    let (status, answer) = read(token.request(Method::POST, path).json(body).send().await.unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The blocks of a stream, put together by their numbers, and the order in which they began and ended.
async fn streamed(token: &Client, body: &Value) -> (Vec<Value>, Vec<String>) {
    let mut body = body.clone();
    body["stream"] = true.into();
    let text = token.request(Method::POST, "/v1/messages").json(&body).send().await.unwrap().text().await.unwrap();
    let (mut blocks, mut order): (Vec<Value>, Vec<String>) = (vec![], vec![]);
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(data).unwrap();
        let index = usize::try_from(event["index"].as_u64().unwrap_or_default()).unwrap();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(index, blocks.len());
                blocks.push(event["content_block"].clone());
                order.push(format!("+{index}"));
            }
            "content_block_stop" => order.push(format!("-{index}")),
            "content_block_delta" => {
                assert!(!order.contains(&format!("-{index}")), "{event}");
                let (field, piece) = match event["delta"]["type"].as_str().unwrap() {
                    "text_delta" => ("text", &event["delta"]["text"]),
                    "thinking_delta" => ("thinking", &event["delta"]["thinking"]),
                    "signature_delta" => ("signature", &event["delta"]["signature"]),
                    _ => continue,
                };
                let before = blocks[index][field].as_str().unwrap().to_owned();
                blocks[index][field] = (before + piece.as_str().unwrap()).into();
            }
            _ => {}
        }
    }
    (blocks, order)
}

#[tokio::test]
async fn unsigned_thoughts_are_marked_and_go_to_no_other_provider() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let question = json!({"role": "user", "content": "The weather?"});
    let tool = json!({"name": "weather", "input_schema": {"type": "object", "properties": {}}});
    let mut body = json!({"model": "lab/muser", "max_tokens": 2000, "messages": [question], "tools": [tool]});
    let whole = ask(&token, "/v1/messages", &body).await;
    let thought = json!({"type": "thinking", "thinking": MUSES, "signature": "polyphony/lab"});
    assert_eq!((&whole["content"][0], &whole["content"][1]["type"]), (&thought, &json!("tool_use")), "{whole}");
    // A block that nobody signs is closed before the next one begins.
    let (blocks, order) = streamed(&token, &body).await;
    assert_eq!((&blocks[0], order.join(" ")), (&thought, "+0 -0 +1 -1".to_owned()));
    // A signed one waits for its signature, and those after it with it.
    let mut signed = body.clone();
    signed["model"] = "sage/claude-sonnet-4-5".into();
    let (blocks, order) = streamed(&token, &signed).await;
    let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "redacted_thinking", "tool_use"]);
    assert_eq!(order.join(" "), "+0 +1 -0 -1 +2 -2 +3 -3");

    // Where another model takes over, it is that one's thought.
    let (_, models) = person.call(Method::GET, "/models?provider=lab", None).await;
    let broken = models["data"].as_array().unwrap().iter().find(|model| model["name"] == "broken").unwrap();
    let config = format!("/models/{}/config", broken["id"].as_str().unwrap());
    for (fallback, signature) in [("sage/claude-sonnet-4-5", SIGNATURE), ("lab/muser", "polyphony/lab")] {
        let settings = json!({"fallback_model_ids": [fallback]});
        assert_eq!(person.call(Method::PUT, &config, Some(settings)).await.0, 200);
        let mut failing = body.clone();
        failing["model"] = "lab/broken".into();
        let (blocks, _) = streamed(&token, &failing).await;
        assert_eq!(blocks[0]["signature"], signature, "{fallback}");
        assert_eq!(ask(&token, "/v1/messages", &failing).await["content"][0]["signature"], signature, "{fallback}");
    }

    // What comes back is shown to nobody else: the model that checks signatures would refuse it.
    let result = json!({"type": "tool_result", "tool_use_id": whole["content"][1]["id"], "content": "rain"});
    let said = json!({"role": "assistant", "content": whole["content"]});
    body["messages"] = json!([question, said, {"role": "user", "content": [result]}]);
    for model in ["lab/muser", "lab/teller", "sage/claude-sonnet-4-5"] {
        body["model"] = model.into();
        let answer = ask(&token, "/v1/messages", &body).await;
        let last = answer["content"].as_array().unwrap().last().unwrap();
        assert_eq!(last["text"], SAYS, "{model}: {answer}");
    }
    assert!(peer.asked().iter().all(|body| !body.to_string().contains(MUSES)));

    // OpenAI's clients have it as a field beside the text, and may send that back.
    let chat = json!({"model": "lab/muser", "messages": [question]});
    let message = ask(&token, "/v1/chat/completions", &chat).await["choices"][0]["message"].clone();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!(MUSES), &json!(SAYS)));
    let next = json!({"model": "sage/claude-sonnet-4-5", "messages": [question, message, question]});
    let answer = ask(&token, "/v1/chat/completions", &next).await;
    assert_eq!(answer["choices"][0]["message"]["content"], SAYS);
    assert!(!peer.asked().last().unwrap().to_string().contains(MUSES));
}
