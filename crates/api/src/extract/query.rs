//! Queries without unknown or repeated parameters.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;

use super::fields;
use crate::{error::ApiError, state::AppState};

/// A query without unknown or repeated parameters.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    if let Some((name, _)) = pairs.clone().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        let name = if name.contains('\0') { "query" } else { &name };
        return Err(ApiError::invalid(name, "holds the character U+0000"));
    }
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
        .map_err(|error| fields::refused(&error.path().to_string(), &error.inner().to_string()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        limit: Option<u32>,
        #[serde(default)]
        archived: bool,
    }

    #[test]
    fn a_query_is_strict() {
        let parsed = super::parse::<Sample>("limit=5&archived=true").unwrap();
        assert_eq!((parsed.limit, parsed.archived), (Some(5), true));
        for (query, field) in [
            ("limit=x", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("limit=99999999999999", "limit"),
            ("archived=maybe", "archived"),
            ("sort=%27;--", "sort"),
            ("limit=%00", "limit"),
            ("%00=1", "query"),
        ] {
            assert_eq!(super::parse::<Sample>(query).unwrap_err().field().unwrap().0, field, "{query}");
        }
    }
}
