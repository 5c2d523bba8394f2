//! From a provider's error to its kind. Every provider has its own words for the same thing, and some have none but
//! prose; the words here are from recorded answers (`tests/fixtures/errors.json`) and the providers' documentation.

use std::time::Duration;

use serde_json::Value;

use super::{ErrorKind, retry_after};

/// What an error says. Its words stay in this module: they may hold prompts, keys or hosts.
pub(super) struct Said {
    pub(super) status: Option<u16>,
    /// Codes and types in lower case, each between blanks.
    codes: String,
    /// The prose in lower case.
    message: String,
    /// Google's `RetryInfo`.
    retry_delay: Option<Duration>,
}

impl Said {
    /// Reads `{error: {…}}`, `[{error: {…}}]`, `{error: "…"}`, `{message, …}`, `{detail}`, the bare object, or text.
    pub(super) fn new(status: Option<u16>, body: &Value) -> Self {
        // Gemini's OpenAI-shaped endpoint wraps the object in an array.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| error.is_object() || error.is_string()).unwrap_or(body);
        let word = |name: &str| match error.get(name) {
            Some(Value::String(text)) => text.to_ascii_lowercase(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let details = error.get("details").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let reasons = details.iter().filter_map(|detail| detail.get("reason")?.as_str());
        let reasons = reasons.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        let number = |name: &str| match error.get(name)? {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|code| u16::try_from(code).ok()),
        };
        let message = match error {
            // A gateway's error page says nothing about this request.
            Value::String(text) if text.trim_start().starts_with('<') => String::new(),
            Value::String(text) => text.to_ascii_lowercase(),
            _ => [word("message"), word("detail"), word("msg")].join(" "),
        };
        Self {
            status: status.or_else(|| {
                ["status_code", "code", "status"]
                    .into_iter()
                    .find_map(|name| number(name).filter(|code| (400..600).contains(code)))
            }),
            codes: format!(" {} {} {} {reasons} ", word("code"), word("type"), word("status")),
            message,
            retry_delay: details
                .iter()
                .find_map(|detail| retry_after::go_duration(detail.get("retryDelay")?.as_str()?)),
        }
    }

    pub(super) fn wait(&self) -> Option<Duration> {
        self.retry_delay.or_else(|| retry_after::in_prose(&self.message))
    }

    fn coded(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.codes.contains(word))
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.codes.contains(word) || self.message.contains(word))
    }

    pub(super) fn kind(&self) -> ErrorKind {
        let status = self.status.unwrap_or(0);
        let client_error = status == 0 || (400..500).contains(&status);
        if status != 429 && self.says(CONTEXT) {
            return ErrorKind::ContextTooLong;
        }
        if client_error && status != 429 && self.says(SIGNATURE) {
            return ErrorKind::SignatureRefused;
        }
        // Google says "quota" for limits per minute too; then it names the wait.
        if status == 402
            || (client_error && self.retry_delay.is_none() && (self.says(QUOTA) || self.coded(&[" 1113 "])))
        {
            return ErrorKind::QuotaExceeded;
        }
        if status == 401
            || (client_error && (self.says(KEY) || self.coded(&[" 1000 ", " 1001 ", " 1002 ", " 1003 ", " 1004 "])))
        {
            return ErrorKind::InvalidKey;
        }
        if client_error && (self.says(FILTER) || self.coded(&[" 1301 "])) {
            return ErrorKind::ContentFilter;
        }
        if status == 429 {
            let overloaded = self.coded(&["overloaded", " 1305 "]);
            return if overloaded { ErrorKind::Overloaded } else { ErrorKind::RateLimited };
        }
        let missing = self.message.contains("does not exist") && self.message.contains("model");
        if status == 404 || (client_error && (missing || self.says(MODEL) || self.coded(&[" 1211 "]))) {
            return ErrorKind::ModelUnavailable;
        }
        match status {
            403 => ErrorKind::InvalidKey,
            408 | 504 => ErrorKind::Timeout,
            413 => ErrorKind::ContextTooLong,
            // "Too early" and "conflict" pass, as the official clients know too.
            409 | 425 => ErrorKind::Overloaded,
            400..=499 => ErrorKind::BadRequest,
            500..=599 => ErrorKind::Overloaded,
            _ if self.says(&["rate_limit", "rate limit", "too many requests"]) || self.coded(&[" 1302 ", " 1303 "]) => {
                ErrorKind::RateLimited
            }
            _ if self.coded(&[
                "invalid_request",
                "invalid_parameter",
                "bad_request",
                "badrequest",
                "unsupported",
                "tool_use_failed",
            ]) =>
            {
                ErrorKind::BadRequest
            }
            // An error within a stream comes from a request that was accepted: the trouble is the provider's.
            _ => ErrorKind::Overloaded,
        }
    }
}

const CONTEXT: &[&str] = &[
    "context_length_exceeded",
    "context_window_exceeded",
    "exceed_context",
    "maximum context length",
    "maximum prompt length",
    "context window",
    "context length",
    "context size",
    "context limit",
    "exceeded model token limit",
    "too many tokens",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "reduce the length",
    "range of input length",
    "exceeds the maximum number of tokens",
    "max_prompt_tokens",
    " 1261 ",
    "prompt 超长",
    "输入过长",
    "超出最大长度",
];

const SIGNATURE: &[&str] = &[
    "invalid_encrypted_content",
    "encrypted content",
    "thought signature",
    "thought_signature",
    "invalid `signature`",
    "expected `thinking`",
    "blocks in the latest assistant message cannot be modified",
    "of type 'reasoning' was provided without",
];

const QUOTA: &[&str] = &[
    "insufficient_quota",
    "exceeded_current_quota",
    "exceeded your current quota",
    "insufficient balance",
    "insufficient_balance",
    "insufficient credits",
    "requires more credits",
    "credit balance",
    // Not "billing" alone: the advice to upgrade in a rate limit's prose says it too.
    "billing_hard_limit",
    "billing_not_active",
    "arrearage",
    "余额不足",
    "欠费",
];

const KEY: &[&str] = &[
    "invalid_api_key",
    "invalidapikey",
    "api_key_invalid",
    "incorrect api key",
    "invalid api key",
    "invalid x-api-key",
    "api key not valid",
    "authentication_error",
    "invalid_authentication",
    "no auth credentials",
    "authentication fails",
];

const FILTER: &[&str] = &[
    "content_filter",
    "contentfilter",
    "content_policy",
    "content management policy",
    "data_inspection_failed",
    "datainspectionfailed",
    "responsible ai policy",
    "requires moderation",
    "flagged as potentially violating",
];

const MODEL: &[&str] = &[
    "model_not_found",
    "model_not_available",
    "model_decommissioned",
    "modelnotfound",
    "model not exist",
    "model not found",
    "unknown model",
    "no such model",
    "not a valid model",
    "invalid model",
    "模型不存在",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(status: u16, body: &Value) -> ErrorKind {
        Said::new(Some(status).filter(|status| *status != 200), body).kind()
    }

    #[test]
    fn every_recorded_error_has_its_kind() {
        let recorded: Vec<Value> = serde_json::from_str(include_str!("../../tests/fixtures/errors.json")).unwrap();
        assert!(recorded.len() >= 20);
        for error in recorded {
            let name = error["name"].as_str().unwrap();
            let expected = match name {
                name if name.contains("context") || name.contains("too-long") => ErrorKind::ContextTooLong,
                "400-input-plus-max-tokens" | "400-input-range" => ErrorKind::ContextTooLong,
                "401-invalid-key" | "401-auth" | "401-key-message-only" | "400-api-key-invalid" => {
                    ErrorKind::InvalidKey
                }
                "402-balance" => ErrorKind::QuotaExceeded,
                name if name.contains("overloaded") => ErrorKind::Overloaded,
                "stream-server-error" => ErrorKind::Overloaded,
                name if name.starts_with("429") => ErrorKind::RateLimited,
                other => panic!("no expectation for {other}"),
            };
            let status = u16::try_from(error["status"].as_u64().unwrap()).unwrap();
            assert_eq!(kind(status, &error["body"]), expected, "{name}");
        }
    }

    #[test]
    fn recorded_error_answers_have_their_kind_and_wait() {
        let body = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let cases = [
            (400, include_str!("../../tests/fixtures/openai/error-400-max-tokens-param.json"), ErrorKind::BadRequest),
            (400, include_str!("../../tests/fixtures/openai/error-400-unsupported-role.json"), ErrorKind::BadRequest),
            (400, include_str!("../../tests/fixtures/anthropic/error-400.json"), ErrorKind::BadRequest),
            (404, include_str!("../../tests/fixtures/anthropic/error-404-model.json"), ErrorKind::ModelUnavailable),
            (
                404,
                include_str!("../../tests/fixtures/anthropic/error-404-model-messages.json"),
                ErrorKind::ModelUnavailable,
            ),
            (429, include_str!("../../tests/fixtures/gemini/error-429-retryinfo.json"), ErrorKind::RateLimited),
            (429, include_str!("../../tests/fixtures/openrouter/error-429.json"), ErrorKind::RateLimited),
            (400, include_str!("../../tests/fixtures/groq/error-400-tool.json"), ErrorKind::BadRequest),
        ];
        for (status, text, expected) in cases {
            assert_eq!(kind(status, &body(text)), expected, "{text}");
        }
        let said = Said::new(Some(429), &body(include_str!("../../tests/fixtures/gemini/error-429-retryinfo.json")));
        assert_eq!(said.wait(), Some(Duration::from_millis(34_400)));
    }

    #[test]
    fn words_of_other_hosts_have_their_kind() {
        let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
        let cases = [
            (429, error("insufficient_quota", "You exceeded your current quota"), ErrorKind::QuotaExceeded),
            (429, error("exceeded_current_quota_error", "…"), ErrorKind::QuotaExceeded),
            (429, error("1113", "您的账户已欠费"), ErrorKind::QuotaExceeded),
            (400, error("Arrearage", "Access denied"), ErrorKind::QuotaExceeded),
            (429, error("rate_limit_exceeded", "Upgrade at https://x/settings/billing"), ErrorKind::RateLimited),
            (400, error("", "Model Not Exist"), ErrorKind::ModelUnavailable),
            (400, error("", "x/y is not a valid model ID"), ErrorKind::ModelUnavailable),
            (404, json!({"error": "model 'x' not found, try pulling it first"}), ErrorKind::ModelUnavailable),
            (400, error("1261", "Prompt 超长"), ErrorKind::ContextTooLong),
            (400, error("exceed_context_size_error", "…"), ErrorKind::ContextTooLong),
            (400, json!({"detail": "This model's maximum prompt length is 131072"}), ErrorKind::ContextTooLong),
            (400, error("data_inspection_failed", "…"), ErrorKind::ContentFilter),
            (400, error("content_filter", "…"), ErrorKind::ContentFilter),
            (400, error("unsupported_parameter", "'max_tokens' is not supported"), ErrorKind::BadRequest),
            (
                400,
                error("invalid_encrypted_content", "The encrypted content gAAA could not be verified."),
                ErrorKind::SignatureRefused,
            ),
            (
                400,
                error("", "messages.1.content.0: Invalid `signature` in `thinking` block"),
                ErrorKind::SignatureRefused,
            ),
            (400, error("INVALID_ARGUMENT", "Corrupted thought signature."), ErrorKind::SignatureRefused),
            (422, Value::Null, ErrorKind::BadRequest),
            (403, Value::Null, ErrorKind::InvalidKey),
            (529, Value::Null, ErrorKind::Overloaded),
            (502, json!("<html>maximum context length</html>"), ErrorKind::Overloaded),
            (503, json!("<html>"), ErrorKind::Overloaded),
            (504, Value::Null, ErrorKind::Timeout),
            (200, json!({"code": 400, "message": "Token limit reached"}), ErrorKind::BadRequest),
            (200, json!({"code": 502, "message": "Upstream"}), ErrorKind::Overloaded),
            (200, error("rate_limit_exceeded", "…"), ErrorKind::RateLimited),
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}}),
                ErrorKind::QuotaExceeded,
            ),
            (
                403,
                json!({"type": "error", "error": {"type": "permission_error", "message": "Your API key does not have permission"}}),
                ErrorKind::InvalidKey,
            ),
            (
                413,
                json!({"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
                ErrorKind::ContextTooLong,
            ),
            (
                529,
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                ErrorKind::Overloaded,
            ),
            (
                404,
                json!({"error": {"code": 404, "message": "models/x is not found for API version v1beta", "status": "NOT_FOUND"}}),
                ErrorKind::ModelUnavailable,
            ),
            (
                403,
                json!({"error": {"code": 403, "message": "Method doesn't allow unregistered callers", "status": "PERMISSION_DENIED"}}),
                ErrorKind::InvalidKey,
            ),
            (
                503,
                json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}),
                ErrorKind::Overloaded,
            ),
            (
                429,
                json!({"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}}),
                ErrorKind::RateLimited,
            ),
        ];
        for (status, body, expected) in cases {
            assert_eq!(kind(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn quota_per_minute_with_a_named_wait_is_a_rate_limit() {
        let body = json!({"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]}});
        let said = Said::new(Some(429), &body);
        assert_eq!((said.kind(), said.wait()), (ErrorKind::RateLimited, Some(Duration::from_millis(34_400))));
    }
}
