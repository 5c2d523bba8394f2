//! What a person prefers.

use axum::extract::State;
use polyphony_domain::account::{Account, AccountCommand, Settings};
use polyphony_eventstore::Root;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{Body, Caller, Distinct, Origin},
    respond::{Envelope, Success},
    state::AppState,
};

/// Most bytes of what clients keep beside the known settings.
const LARGEST_CUSTOM: usize = 8 * 1024;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(settings, change_settings))
}

/// The caller's settings: `theme`, `language`, `encrypt_messages`, `default_model_id`, `auto_title`, and what clients
/// keep under `custom`.
#[utoipa::path(get, path = "/users/me/settings", tag = "users", responses((status = 200, body = Envelope<Value>)))]
async fn settings(State(state): State<AppState>, caller: Caller) -> Result<Success<Settings>, ApiError> {
    let (account, _) = state.store.load::<Account>(caller.account_id.as_uuid()).await?;
    Ok(Success::ok(account.settings))
}

/// Changes the settings that are given; null takes one back. Unknown ones are kept under `custom`, at most 8 KiB.
#[utoipa::path(put, path = "/users/me/settings", tag = "users", request_body = Object,
    responses((status = 200, body = Envelope<Value>)))]
async fn change_settings(
    State(state): State<AppState>,
    caller: Caller,
    origin: Origin,
    Body { value: Distinct(body), .. }: Body<Distinct>,
) -> Result<Success<Settings>, ApiError> {
    let account = caller.account_id.as_uuid();
    let (Account { mut settings, .. }, _) = state.store.load::<Account>(account).await?;
    for (name, value) in body {
        change(&state, &mut settings, &name, value)?;
    }
    if Value::Object(settings.custom.clone()).to_string().len() > LARGEST_CUSTOM {
        return Err(ApiError::invalid("custom", "must have at most 8 KiB"));
    }
    let executed = state
        .store
        .command::<Account>(origin.context(caller.account_id), Root::Existing(account))
        .run(account, AccountCommand::ChangeSettings { settings })
        .await?;
    state.bus.poke_relay().await;
    Ok(Success::ok(executed.aggregate.settings))
}

fn text(name: &str, value: Value) -> Result<Option<String>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(ApiError::invalid(name, "must be a text")),
    }
}

fn flag(name: &str, value: &Value) -> Result<Option<bool>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        _ => Err(ApiError::invalid(name, "must be true or false")),
    }
}

/// Whether a text has the shape of a language tag, for example `zh-Hans-CN`.
fn is_language(tag: &str) -> bool {
    let is_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    tag.len() <= 35 && tag.split('-').all(is_part)
}

fn change(state: &AppState, settings: &mut Settings, name: &str, value: Value) -> Result<(), ApiError> {
    let standard = Settings::default();
    match name {
        "theme" => {
            let theme = text(name, value)?.unwrap_or(standard.theme);
            if !["system", "light", "dark"].contains(&theme.as_str()) {
                return Err(ApiError::invalid(name, "must be system, light or dark"));
            }
            settings.theme = theme;
        }
        "language" => {
            let language = text(name, value)?;
            if language.as_ref().is_some_and(|tag| !is_language(tag)) {
                return Err(ApiError::invalid(name, "must be a language tag, for example zh-CN"));
            }
            settings.language = language;
        }
        "encrypt_messages" => {
            settings.encrypt_messages = flag(name, &value)?.unwrap_or(standard.encrypt_messages);
        }
        "auto_title" => settings.auto_title = flag(name, &value)?.unwrap_or(standard.auto_title),
        "default_model_id" => {
            let reference = text(name, value)?;
            let model = reference.map(|reference| {
                let model = state.catalog.resolve(&reference);
                model.ok_or_else(|| ApiError::invalid(name, "there is no such model"))
            });
            settings.default_model_id = model.transpose()?.map(|model| model.slug());
        }
        "custom" => match value {
            Value::Null => settings.custom.clear(),
            Value::Object(custom) => {
                custom.into_iter().for_each(|(name, value)| keep(settings, name, value));
            }
            _ => return Err(ApiError::invalid(name, "must be an object")),
        },
        _ => keep(settings, name.to_owned(), value),
    }
    Ok(())
}

fn keep(settings: &mut Settings, name: String, value: Value) {
    match value {
        Value::Null => drop(settings.custom.remove(&name)),
        value => drop(settings.custom.insert(name, value)),
    }
}
