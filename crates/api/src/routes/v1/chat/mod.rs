//! `POST /chat/completions`, as OpenAI's SDKs call it.

mod answer;
mod request;
mod words;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{answer::ChatCompletion, request::ChatRequest, words::Words};
use super::{
    call::{Calling, SessionHeader},
    listen, tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(completions))
}

/// Chat Completions, as OpenAI's SDKs call it. The whole conversation comes with each call; the messages after the last
/// answer are the prompt, and must be there. With `stream` the answer is a stream of `data:` lines, each a
/// `chat.completion.chunk`, with `[DONE]` at the end; one that fails ends with a line that holds `error` instead. Fields
/// that aren't named here are left alone.
#[utoipa::path(post, path = "/chat/completions", tag = "openai", params(SessionHeader), request_body = ChatRequest,
    responses((status = 200, content((ChatCompletion = "application/json"), (String = "text/event-stream")))))]
async fn completions(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let calling = Calling { state, caller, origin, headers, request_hash };
    let (is_streamed, with_usage) = (body.is_streamed(), body.wants_usage());
    let answering = body.into_call()?.ask(&calling).await?;
    if is_streamed {
        let words = Words::new(&answering, with_usage);
        return Ok(tell::stream(&calling, answering, words));
    }
    let outcome = listen::whole(&calling.state, answering).await?;
    Ok(Json(ChatCompletion::of(&outcome)).into_response())
}
