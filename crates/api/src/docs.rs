//! The OpenAPI document, made from the code, and a page to read it.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use utoipa::openapi::{
    Components, Info, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use crate::{server, state::AppState};

const PAGE: &str = include_str!("docs.html");
const SCRIPT: &str = include_str!("docs.js");
const STYLE: &str = include_str!("docs.css");
/// Nothing from elsewhere, nothing inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// What stands above the routes.
pub fn info() -> OpenApi {
    let mut info = Info::new("Polyphony", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "One conversation, many models, on one event log. Errors have the form \
        {\"success\": false, \"error\": {\"code\", \"message\", \"details\"}}."
            .to_owned(),
    );
    let mut components = Components::new();
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
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
            let policy = HeaderName::from_static("content-security-policy");
            ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (policy, POLICY)], text).into_response()
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
    use std::{env, fs, path::Path};

    #[test]
    fn the_committed_document_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let fresh = super::openapi_json().unwrap();
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), fresh, "run `cargo xtask codegen`");
    }
}
