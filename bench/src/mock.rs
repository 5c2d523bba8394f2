//! The mock provider: OpenAI's chat completions, streamed, of marks instead of words.
//!
//! The model's name scripts it: `mock-n200-i10-f300` answers with 200 tokens, 10 ms apart, the first after 300 ms.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::marks;

/// What an answer is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    tokens: u32,
    interval: Duration,
    first: Duration,
}

impl Plan {
    fn of(model: &str) -> Self {
        let mut plan = Self { tokens: 200, interval: Duration::ZERO, first: Duration::ZERO };
        for part in model.split('-').skip(1) {
            let Some((key, number)) = part.split_at_checked(1) else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match key {
                "n" => plan.tokens = number,
                "i" => plan.interval = Duration::from_millis(number.into()),
                "f" => plan.first = Duration::from_millis(number.into()),
                _ => {}
            }
        }
        plan
    }
}

async fn chat(Json(request): Json<Value>) -> Response {
    let model = request["model"].as_str().unwrap_or("mock").to_owned();
    let (plan, begun) = (Plan::of(&model), Instant::now());
    let base =
        json!({"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model});
    let base = base.to_string();
    let head = format!("data: {},\"choices\":[{{\"index\":0,\"delta\":", base.trim_end_matches('}'));
    let tokens = {
        let head = head.clone();
        stream::iter(0..plan.tokens).then(move |number| {
            let head = head.clone();
            async move {
                // By the clock: a late token doesn't delay those after it.
                let due = begun + plan.first + plan.interval * number;
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                format!("{head}{{\"content\":\"{}\"}},\"finish_reason\":null}}]}}\n\n", marks::write(number))
            }
        })
    };
    let usage = json!({"prompt_tokens": 8, "completion_tokens": plan.tokens, "total_tokens": 8 + plan.tokens});
    let end = format!(
        "{head}{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: {},\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n",
        base.trim_end_matches('}')
    );
    let body = tokens.chain(stream::iter([end])).map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": "mock", "object": "model"}]}))
}

/// Serves until the process is told to end.
///
/// # Errors
/// The address is taken.
pub async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?.tap_io(|io| {
        // A token that waits for an acknowledgement would be measured as ours.
        let _ = io.set_nodelay(true);
    });
    let router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/healthz", get(async || "ok"));
    Ok(axum::serve(listener, router).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_model_is_the_plan() {
        let plan = Plan { tokens: 7, interval: Duration::from_millis(10), first: Duration::from_millis(300) };
        assert_eq!(Plan::of("mock-n7-i10-f300"), plan);
        assert_eq!(Plan::of("mock").tokens, 200);
    }
}
