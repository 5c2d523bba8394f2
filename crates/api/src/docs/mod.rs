//! The OpenAPI document, made from the code, and a page to read it.

mod complete;

use axum::{
    Router,
    http::{HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use utoipa::openapi::{
    Components, Info, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};

pub use self::complete::complete;
use crate::{server, state::AppState};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
const PREAMBLE: &str = include_str!("preamble.md");
/// Nothing from elsewhere, nothing inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);
/// The resources, in the order in which one meets them.
const TAGS: &[(&str, &str)] = &[
    ("auth", "Registering, signing in and out, and exchanging refresh tokens."),
    ("users", "The caller's own account and personal access tokens."),
    ("models", "What can be talked to, at what price, and whether a key is there for it."),
    ("keys", "The caller's keys at providers."),
    ("sessions", "Conversations."),
    ("chat", "Asking, streaming, stopping. A stream that breaks goes on after `Last-Event-ID`, on any node."),
    ("messages", "What was said."),
    ("stats", "What it took: requests, tokens, cost."),
    ("openai", "OpenAI's interface, for its SDKs and for programs that speak it: each call is a turn like any other."),
    ("anthropic", "Anthropic's interface, likewise."),
    ("audit", "What was done with the account, by whom, from where."),
];

/// What stands above the routes.
pub fn info() -> OpenApi {
    let mut info = Info::new("Polyphony", env!("CARGO_PKG_VERSION"));
    info.description = Some(PREAMBLE.to_owned());
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("An access token (15 minutes) or a personal access token (`pat_…`).".to_owned());
    let mut components = Components::new();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let tags = TAGS.iter().map(|(name, meaning)| TagBuilder::new().name(*name).description(Some(*meaning)).build());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .tags(Some(tags))
        .security(Some([SecurityRequirement::new::<_, [String; 0], String>("bearer", [])]))
        .build()
}

/// The document as JSON.
///
/// # Errors
/// It can't be written as JSON, which a test rules out.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    Ok(server::documented().1.to_pretty_json()? + "\n")
}

/// Document and page.
pub fn router(document: &OpenApi) -> Router<AppState> {
    let json = document.to_json().unwrap_or_default();
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move {
            ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CONTENT_SECURITY_POLICY, POLICY)], text)
                .into_response()
        })
    };
    Router::new()
        .route("/api/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], json) }))
        .route("/api/docs", file("text/html; charset=utf-8", PAGE))
        .route("/api/docs.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/api/docs.css", file("text/css; charset=utf-8", STYLE))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, env, fs, path::Path};

    use serde_json::Value;

    #[test]
    fn the_committed_document_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let fresh = super::openapi_json().unwrap();
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), fresh, "run `cargo xtask codegen`");
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_words_and_an_error_shape() {
        let document: Value = serde_json::from_str(&super::openapi_json().unwrap()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let known: HashSet<_> = super::TAGS.iter().map(|(tag, _)| *tag).collect();
        let mut names = HashSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let place = format!("{method} {path}");
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{place}");
                assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{place}");
                assert!(known.contains(operation["tags"][0].as_str().unwrap()), "{place}");
                assert!(operation["responses"]["default"].is_object(), "{place}");
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let in_path = parameters.filter(|parameter| parameter["in"] == "path");
                let named = in_path.map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()));
                let parts = path.split('/').filter(|part| part.starts_with('{'));
                assert_eq!(named.collect::<Vec<_>>(), parts.collect::<Vec<_>>(), "{place}");
            }
        }
        references(&document, &document);
    }

    /// Every reference leads somewhere.
    fn references(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                }
                fields.values().for_each(|value| references(document, value));
            }
            Value::Array(items) => items.iter().for_each(|value| references(document, value)),
            _ => {}
        }
    }
}
