//! The one error of the interface: a stable code, words for a person, nothing of the inside.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use polyphony_domain::catalog::Unfit;
use polyphony_eventstore::{ExecuteError, StoreError, error::Refused};
use polyphony_projections::ProjectionError;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// How a refusal or failure looks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// Always false.
    success: bool,
    error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorBody {
    /// Stable; for programs.
    #[schema(example = "VALIDATION_FAILED")]
    code: &'static str,
    /// For a person, in English or Chinese.
    #[schema(example = "limit: must be from 1 to 100")]
    message: String,
    /// What else there is to know; `fields` maps each refused field to the reason.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

/// What other renderers need to know of an error: each response that was made of one carries it as an extension.
#[derive(Clone, Debug)]
pub struct Facts {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// The field that was refused.
    pub field: Option<String>,
    /// Whether an answer was asked for, and this is how it ended.
    pub is_end: bool,
}

/// A refusal or failure.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Map<String, Value>,
    retry_after: Option<Duration>,
    /// Another request with the same idempotency key was quicker: its answer is the answer.
    lost_race: bool,
    /// An answer was asked for, and this is how it ended.
    is_end: bool,
    /// What is logged; never sent.
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (message, details) = (message.into(), Map::new());
        Self { status, code, message, details, retry_after: None, lost_race: false, is_end: false, source: None }
    }

    /// A field has a value that it can't have.
    pub fn invalid(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let mut error = Self::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", format!("{field}: {reason}"));
        error.details.insert("fields".to_owned(), json!({ field: reason }));
        error
    }

    /// What other renderers need to know.
    pub fn facts(&self) -> Facts {
        let fields = self.details.get("fields").and_then(Value::as_object);
        let field = fields.and_then(|fields| fields.keys().next().cloned());
        Facts { status: self.status, code: self.code, message: self.message.clone(), field, is_end: self.is_end }
    }

    /// A model can't do what is asked.
    pub fn unfit(unfit: &[Unfit]) -> Self {
        let first = unfit.first().map(|unfit| format!("{}: {}", unfit.field, unfit.reason)).unwrap_or_default();
        let fields: Map<String, Value> =
            unfit.iter().map(|unfit| (unfit.field.to_owned(), Value::from(unfit.reason.as_str()))).collect();
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", first).with_detail("fields", fields)
    }

    /// The field that was refused, and why.
    #[cfg(test)]
    pub fn field(&self) -> Option<(&str, &str)> {
        let (field, reason) = self.details.get("fields")?.as_object()?.iter().next()?;
        Some((field, reason.as_str()?))
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such thing")
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "a valid access token is needed")
    }

    pub fn in_progress() -> Self {
        let message = "an answer that this would build on is still in the making";
        Self::new(StatusCode::CONFLICT, "GENERATION_IN_PROGRESS", message)
    }

    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether another request with the same idempotency key was quicker.
    pub const fn lost_race(&self) -> bool {
        self.lost_race
    }

    pub fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    pub fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "the body is too large")
    }

    pub fn rate_limited(after: Duration) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "too many requests; please wait");
        Self { retry_after: Some(after), ..error }
    }

    pub fn queue_full() -> Self {
        let message = "too many of your answers are waiting already";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message);
        // About as long as a short answer takes to make room.
        Self { retry_after: Some(Duration::from_secs(5)), ..error }
    }

    /// Something is not there at the moment.
    pub fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let message = "the service can't do this at the moment";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message);
        Self { retry_after: Some(Duration::from_secs(2)), source: Some(Box::new(source)), ..error }
    }

    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "something went wrong on our side");
        Self { source: Some(source.into()), ..error }
    }

    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The status and words of a code that an answer failed with.
    pub fn of_answer(code: &str, message: &str) -> Self {
        let (status, code) = match code {
            "INVALID_API_KEY" => (StatusCode::UNPROCESSABLE_ENTITY, "INVALID_API_KEY"),
            "CONTEXT_TOO_LONG" => (StatusCode::UNPROCESSABLE_ENTITY, "CONTEXT_TOO_LONG"),
            "MODEL_UNAVAILABLE" => (StatusCode::UNPROCESSABLE_ENTITY, "MODEL_UNAVAILABLE"),
            "RATE_LIMITED" => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            "QUOTA_EXCEEDED" => (StatusCode::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED"),
            "PROVIDER_TIMEOUT" => (StatusCode::GATEWAY_TIMEOUT, "PROVIDER_TIMEOUT"),
            _ => (StatusCode::BAD_GATEWAY, "PROVIDER_ERROR"),
        };
        Self { is_end: true, ..Self::new(status, code, message) }
    }
}

/// Chinese words for the codes that every caller may meet; English ones come with the error.
fn chinese(code: &str) -> Option<&'static str> {
    Some(match code {
        "VALIDATION_FAILED" => "请求参数有误",
        "UNAUTHORIZED" => "需要有效的访问令牌",
        "INVALID_CREDENTIALS" => "邮箱或密码不正确",
        "TOKEN_EXPIRED" => "访问令牌已过期",
        "TOKEN_REUSED" => "刷新令牌已被使用，该设备已退出登录",
        "FORBIDDEN" => "没有权限",
        "NOT_FOUND" => "内容不存在",
        "METHOD_NOT_ALLOWED" => "不支持该请求方法",
        "CONFLICT" => "请求与当前状态冲突",
        "EMAIL_TAKEN" => "该邮箱已被注册",
        "GENERATION_IN_PROGRESS" => "回答仍在生成中",
        "PAYLOAD_TOO_LARGE" => "请求内容过大",
        "UNSUPPORTED_MEDIA_TYPE" => "请求内容类型不受支持",
        "NO_API_KEY" => "没有可用于该模型的密钥",
        "INVALID_API_KEY" => "API密钥无效或已过期",
        "CONTEXT_TOO_LONG" => "对话超出了模型的上下文长度",
        "EGRESS_BLOCKED" => "不允许访问该地址",
        "MODEL_UNAVAILABLE" => "该模型不可用",
        "RATE_LIMITED" => "请求过于频繁，请稍后再试",
        "QUOTA_EXCEEDED" => "额度已用尽",
        "PROVIDER_ERROR" => "模型服务商出错",
        "PROVIDER_TIMEOUT" => "模型服务商响应超时",
        "SERVICE_UNAVAILABLE" => "服务暂时不可用",
        "INTERNAL" => "服务器内部错误",
        _ => return None,
    })
}

tokio::task_local! {
    /// Whether the caller of this request reads Chinese.
    pub(crate) static READS_CHINESE: bool;
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // Logged once, here at the edge.
        if let Some(source) = &self.source {
            tracing::error!(code = self.code, error = &**source as &dyn std::error::Error, "a request failed");
        }
        let translated =
            READS_CHINESE.try_with(|chinese| *chinese).unwrap_or(false).then(|| chinese(self.code)).flatten();
        let mut facts = self.facts();
        let message = translated.map_or(self.message, str::to_owned);
        facts.message.clone_from(&message);
        let error = ErrorBody { code: self.code, message, details: self.details };
        let body = ErrorEnvelope { success: false, error };
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(facts);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refused) => refused.into(),
            StoreError::Erased => Self::not_found(),
            error if error.is_unavailable() => Self::unavailable(error),
            error => Self::internal(error),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::EmailTaken => {
                Self::new(StatusCode::CONFLICT, "EMAIL_TAKEN", "an account with this e-mail address exists")
            }
            Refused::GenerationInProgress => Self::in_progress(),
            Refused::QueueFull => Self::queue_full(),
            Refused::TreeChanged => Self::conflict("messages of the session came or went at the same time"),
            Refused::NotFound => Self::not_found(),
            Refused::RunTaken => Self::conflict("somebody else was quicker"),
            Refused::IdempotencyKeyUsed => {
                Self { lost_race: true, ..Self::conflict("the same request is being answered already") }
            }
        }
    }
}

impl<E: Into<ApiError>> From<ExecuteError<E>> for ApiError {
    fn from(error: ExecuteError<E>) -> Self {
        match error {
            ExecuteError::Domain(error) => error.into(),
            ExecuteError::Conflict => Self::conflict("it was changed by others at the same time"),
            ExecuteError::Store(error) => error.into(),
        }
    }
}

impl From<ProjectionError> for ApiError {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Store(error) => error.into(),
            ProjectionError::Clickhouse(error) => Self::unavailable(error),
            error => Self::internal(error),
        }
    }
}

/// Domain errors: a thing that isn't there, or one that is there already.
macro_rules! domain_errors {
    ($($error:path: $($missing:pat_param)|+ => missing),+ $(,)?) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                match error {
                    $($missing)|+ => Self::not_found(),
                    _ => Self::conflict("it is not in a state for this"),
                }
            }
        }
    )+};
}

use polyphony_domain::{
    access_token::AccessTokenError, account::AccountError, api_key::ApiKeyError, device_session::DeviceSessionError,
    model_config::ModelConfigError, session::SessionError, turn::TurnError,
};

domain_errors!(
    SessionError: SessionError::NotFound => missing,
    ApiKeyError: ApiKeyError::NotFound => missing,
    AccessTokenError: AccessTokenError::NotFound => missing,
    DeviceSessionError: DeviceSessionError::NotSignedIn => missing,
);

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::AlreadyRegistered => Self::conflict("the account exists already"),
            // Who is no account any more isn't signed in either.
            AccountError::NotFound => Self::unauthorized(),
        }
    }
}

impl From<TurnError> for ApiError {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::NotFound => Self::not_found(),
            TurnError::InProgress => Self::in_progress(),
            _ => Self::conflict("it is not in a state for this"),
        }
    }
}

impl From<ModelConfigError> for ApiError {
    fn from(error: ModelConfigError) -> Self {
        match error {}
    }
}
