//! The success envelope.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// `{"success": true, "data": …, "meta": …}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
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

    pub fn created(data: T, location: String) -> Self {
        Self { status: StatusCode::CREATED, location: Some(location), ..Self::ok(data) }
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
