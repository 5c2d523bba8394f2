//! `POST /chat/discuss`: models answer, comment on each other's answers for some rounds, and a chair closes.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use polyphony_domain::{
    money::NanoUsd,
    turn::{Discussion, Params as Sampling, Prompt},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Asking,
    ask::{Asker, Order, wants_ids},
    choose,
    compare::{are_distinct, requests, several},
    parent,
};
use crate::{
    error::ApiError,
    extract::{Body, Caller, Origin},
    idempotency,
    respond::Envelope,
    state::AppState,
};

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(discuss))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiscussionBody {
    session_id: Uuid,
    content: String,
    /// 2 to 8 different models, by id, name or `provider/name`.
    model_ids: Vec<String>,
    /// The model that closes the discussion.
    chair_model_id: String,
    /// Rounds of comments after the answers, 1 to 4.
    rounds: u32,
    /// Dollars, as a decimal string or a number: no further round begins once they have been spent.
    #[schema(value_type = Option<String>)]
    max_cost_usd: Option<Value>,
    /// The answer to reply to; else that of the active branch.
    parent_id: Option<Uuid>,
    /// A message of the session that the prompt quotes.
    quote_message_id: Option<Uuid>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Sampling,
}

/// Reads an amount of dollars.
fn amount(value: &Value) -> Result<NanoUsd, ApiError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let refused = || ApiError::invalid("max_cost_usd", "must be a positive decimal number with at most 9 decimals");
    text.parse::<NanoUsd>().ok().filter(|amount| amount.0 > 0).ok_or_else(refused)
}

/// Has models discuss: each answers, then comments on the others' answers for some rounds, then the chair closes.
/// One stream carries everything up to the chair's verdict, its events told apart as in `/chat/compare`.
#[utoipa::path(post, path = "/chat/discuss", tag = "chat", request_body = DiscussionBody,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202, body = Envelope<Value>)))]
async fn discuss(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Body { value: body, request_hash }: Body<DiscussionBody>,
) -> Result<Response, ApiError> {
    let DiscussionBody { session_id, content, model_ids, chair_model_id, rounds, max_cost_usd, .. } = body;
    let DiscussionBody { parent_id, quote_message_id, attachments, params, .. } = body;
    let asking = Asking { session_id, content, parent_id, quote_message_id, attachments, params };
    asking.check(&state)?;
    let models = several(&state, &model_ids)?;
    if !are_distinct(&models) {
        return Err(ApiError::invalid("model_ids", "must name different models"));
    }
    let chair = choose::named(&state, "chair_model_id", &chair_model_id)?;
    if !(1..=4).contains(&rounds) {
        return Err(ApiError::invalid("rounds", "must be from 1 to 4"));
    }
    let max_cost = max_cost_usd.as_ref().map(amount).transpose()?;
    let key = idempotency::key(&headers, caller.account_id, request_hash)?;
    let asker = Asker { state: &state, caller, origin: &origin, key };
    let generation = match asker.again().await? {
        Some(found) => found,
        None => {
            let (owner, id) = (caller.account_id, asking.session_id.into());
            let (session, newest) = parent::session(&state, owner, id, asking.parent_id).await?;
            let (place, members, chair) = tokio::try_join!(
                parent::place(&state, id, &session, asking.parent_id, asking.quote_message_id, newest),
                requests(&asker, models, &asking.params),
                choose::request(&state, owner, chair, &asking.params),
            )?;
            let discussion = Some(Box::new(Discussion { rounds, chair, max_cost }));
            let guard = place.guard.clone();
            let prompt = Box::new(Prompt { discussion, ..asking.prompt(&place) });
            asker.ask(Order::Post { prompt, guard, follow_up: true }, members).await?
        }
    };
    if wants_ids(&headers) {
        return Ok(generation.ids().into_response());
    }
    generation.stream_all(state, &headers, true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_exact_and_positive() {
        assert_eq!(amount(&json!("0.05")).unwrap(), NanoUsd(50_000_000));
        assert_eq!(amount(&json!(2)).unwrap(), NanoUsd(2_000_000_000));
        for wrong in [json!("0"), json!(-1), json!("1e9"), json!("ten"), json!(null), json!("0.0000000001")] {
            assert!(amount(&wrong).is_err(), "{wrong}");
        }
    }
}
