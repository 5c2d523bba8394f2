//! What serde says of a body or a query, as a field and a reason for a person. Values are never repeated: one of them
//! may be a password in the wrong field.

use crate::error::ApiError;

/// The error for what serde refused at `path`.
pub fn refused(path: &str, message: &str) -> ApiError {
    let (name, reason) = explain(message);
    let path = if path == "." { "" } else { path };
    let field = match name {
        // The path of an unknown field holds the field itself, that of a missing one doesn't.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => "body".to_owned(),
        None => path.to_owned(),
    };
    ApiError::invalid(&field, reason)
}

/// The field that the message itself names, if it does, and what is wrong.
fn explain(message: &str) -> (Option<&str>, String) {
    for (begin, reason) in [
        ("missing field `", "is needed"),
        ("unknown field `", "is not known here"),
        ("duplicate field `", "is given twice"),
    ] {
        if let Some((name, _)) = message.strip_prefix(begin).and_then(|rest| rest.split_once('`')) {
            // An unknown name comes from the caller and may be of any length.
            let sane = name.len() <= 64 && name.chars().all(|c| !c.is_control());
            return (Some(name).filter(|_| sane), reason.to_owned());
        }
    }
    let message = message.split(" at line ").next().unwrap_or(message);
    let reason = match message.rsplit_once("expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => "has a value that it can't have".to_owned(),
    };
    (None, reason)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sample {
        email: String,
        age: Option<u32>,
        inner: Option<Box<Sample>>,
    }

    #[test]
    fn the_field_is_named_and_the_value_is_not() {
        for (body, field, reason) in [
            (json!({}), "email", "is needed"),
            (json!({"email": "a", "password": "hunter22"}), "password", "is not known here"),
            (json!({"email": 12345}), "email", "must be a string"),
            (json!({"email": "a", "age": "hunter22"}), "age", "must be u32"),
            (json!({"email": "a", "inner": {"email": "b", "x": 1}}), "inner.x", "is not known here"),
            (json!({"email": "a", "inner": {}}), "inner.email", "is needed"),
            (json!("hunter22"), "body", "must be struct Sample"),
        ] {
            let error = serde_path_to_error::deserialize::<_, Sample>(body.clone()).unwrap_err();
            let error = refused(&error.path().to_string(), &error.inner().to_string());
            let shown = format!("{error:?}");
            assert_eq!(error.field(), Some((field, reason)), "{body}");
            assert!(!shown.contains("hunter22") && !shown.contains("12345"), "{shown}");
        }
    }
}
