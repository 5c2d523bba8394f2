//! `POST /messages` and `POST /messages/count_tokens`, as Anthropic's SDKs call them.

mod answer;
mod request;
mod thoughts;
mod words;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::thoughts::FAMILY;
use self::{
    answer::{Message, Tokens},
    request::MessagesRequest,
    words::Words,
};
use super::{
    call::{self, Calling, SessionHeader},
    listen, tell,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(messages)).routes(routes!(count_tokens))
}

/// Messages, as Anthropic's SDKs call it; the token may come as `x-api-key`. The whole conversation comes with each call,
/// and must end with a message of the user. With `stream` the answer is a stream of Anthropic's events; one that fails
/// ends with `error` and without `message_stop`. `max_tokens` is needed. Fields that aren't named here are left alone.
#[utoipa::path(post, path = "/messages", tag = "anthropic", params(SessionHeader), request_body = MessagesRequest,
    responses((status = 200, content((Message = "application/json"), (String = "text/event-stream")))))]
async fn messages(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<MessagesRequest>,
) -> Result<Response, ApiError> {
    let calling = Calling { state, caller, origin, headers, request_hash };
    let is_streamed = body.is_streamed();
    body.check_most()?;
    let answering = body.into_call()?.ask(&calling).await?;
    if is_streamed {
        let words = Words::new(&answering, &calling.state.registry);
        return Ok(tell::stream(&calling, answering, words));
    }
    let outcome = listen::whole(&calling.state, answering).await?;
    Ok(Json(Message::of(&outcome)).into_response())
}

/// Counts what a message would be asked with. It is an estimate where the model's own tokeniser isn't public.
#[utoipa::path(post, path = "/messages/count_tokens", tag = "anthropic", request_body = MessagesRequest,
    responses((status = 200, body = Tokens)))]
async fn count_tokens(
    State(state): State<AppState>,
    caller: Caller,
    Body { value: body, .. }: Body<MessagesRequest>,
) -> Result<Json<Tokens>, ApiError> {
    let call = body.into_call()?;
    let model = call::model(&state, &call.model)?;
    let input_tokens = call.count(&state, caller.account_id, model).await?;
    Ok(Json(Tokens { input_tokens }))
}
