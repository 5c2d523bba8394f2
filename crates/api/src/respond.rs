//! The success envelope.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use polyphony_eventstore::idempotency::StoredResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::idempotency;

/// `{"success": true, "data": …, "meta": …}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
}

/// Where a list stands.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    pub limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Pass it as `before` for the page before this one; null at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_before: Option<Option<uuid::Uuid>>,
}

/// A successful answer.
#[derive(Debug)]
pub struct Success<T> {
    status: StatusCode,
    location: Option<String>,
    envelope: Envelope<T>,
}

impl<T> Success<T> {
    pub fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, location: None, envelope: Envelope { success: true, data, meta: None } }
    }

    pub fn accepted(data: T) -> Self {
        Self { status: StatusCode::ACCEPTED, ..Self::ok(data) }
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn meta(mut self, meta: Meta) -> Self {
        self.envelope.meta = Some(meta);
        self
    }
}

impl Success<Value> {
    /// An answer that is kept for its idempotency key: what it created is found under `collection`.
    pub fn stored(response: StoredResponse, collection: &str) -> Self {
        let status = idempotency::status(&response);
        let id = response.data["id"].as_str().filter(|_| status == StatusCode::CREATED);
        let location = id.map(|id| format!("{collection}/{id}"));
        Self { location, ..Self::ok(response.data).status(status) }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.envelope)).into_response();
        let location = self.location.and_then(|location| HeaderValue::from_str(&location).ok());
        if let Some(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}
