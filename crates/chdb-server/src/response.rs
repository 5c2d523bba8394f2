//! Results and errors as ClickHouse's HTTP interface gives them.

use axum::{
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use crate::engine::{EngineError, Output};

const SUMMARY: HeaderName = HeaderName::from_static("x-clickhouse-summary");
const EXCEPTION_CODE: HeaderName = HeaderName::from_static("x-clickhouse-exception-code");

impl IntoResponse for Output {
    fn into_response(self) -> Response {
        // Numbers are text there.
        let counts = self.counts.into_iter().map(|(name, count)| (name.to_owned(), Value::String(count.to_string())));
        let summary = Value::Object(Map::from_iter(counts)).to_string();
        ([(CONTENT_TYPE, "application/octet-stream".to_owned()), (SUMMARY, summary)], self.rows).into_response()
    }
}

impl IntoResponse for EngineError {
    fn into_response(self) -> Response {
        let code = code(&self.0);
        (status(code), [(EXCEPTION_CODE, code.to_string())], format!("{}\n", self.0.trim_end())).into_response()
    }
}

/// The number of `Code: 60. DB::Exception: …`; 1002, unknown, for anything else.
fn code(text: &str) -> u32 {
    let number = text.strip_prefix("Code: ").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(1002)
}

/// The statuses of the real server, for the codes that clients meet.
const fn status(code: u32) -> StatusCode {
    match code {
        // Not parsed, wrong types or values, unknown settings.
        6 | 26 | 27 | 36 | 38 | 41 | 43 | 44 | 53 | 62 | 69 | 72 | 115 | 130 | 456 | 457 => StatusCode::BAD_REQUEST,
        // Unknown column, function, table, database, table function.
        16 | 46 | 47 | 60 | 80 | 81 => StatusCode::NOT_FOUND,
        // Timeout and too many rows or bytes.
        159 => StatusCode::REQUEST_TIMEOUT,
        158 | 396 => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_status_come_from_the_text() {
        assert_eq!(code("Code: 60. DB::Exception: Unknown table"), 60);
        assert_eq!(status(60), StatusCode::NOT_FOUND);
        assert_eq!(code("something else"), 1002);
        assert_eq!(status(1002), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
