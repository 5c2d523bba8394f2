//! The shapes of the contract.

mod message;

use chrono::{DateTime, NaiveDate, Utc};
use polyphony_domain::catalog::{Model, Price, Rates, Tier, highest_temperature};
use polyphony_eventstore::{accounts::TokenRecord, api_keys::KeyRecord, history::Happening};
use polyphony_projections::SessionRow;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::message::Message;

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub nickname: Option<String>,
    pub avatar_url: Option<String>,
    pub role: &'static str,
    pub status: &'static str,
    pub settings: Value,
    pub created_at: Option<DateTime<Utc>>,
    pub updated_at: Option<DateTime<Utc>>,
    pub last_login_at: Option<DateTime<Utc>>,
}

/// A pair of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenAnswer {
    pub user: User,
    pub access_token: String,
    /// Absent where it is in a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    pub token_type: &'static str,
    /// Seconds that the access token lives.
    pub expires_in: i64,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    pub id: Uuid,
    pub title: Option<String>,
    pub model_id: Option<Uuid>,
    /// `provider/name`.
    pub model: Option<String>,
    pub system_prompt: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub archived_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    pub is_shared: bool,
    pub share_code: Option<String>,
    pub message_count: u64,
    pub last_message_at: Option<DateTime<Utc>>,
    pub tokens_input: u64,
    pub tokens_output: u64,
    pub cost_usd: String,
    pub metadata: Value,
}

impl Session {
    pub fn new(row: SessionRow, model_id: Option<Uuid>) -> Self {
        Self {
            id: row.id.as_uuid(),
            title: row.title,
            model_id,
            model: row.model,
            system_prompt: row.system_prompt,
            created_at: row.created_at,
            updated_at: row.updated_at,
            archived_at: row.archived_at,
            deleted_at: row.deleted_at,
            is_shared: false,
            share_code: None,
            message_count: row.message_count,
            last_message_at: row.last_message_at,
            tokens_input: row.tokens_input,
            tokens_output: row.tokens_output,
            cost_usd: row.cost.to_string(),
            metadata: row.metadata,
        }
    }
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelShape {
    pub id: Uuid,
    pub provider: String,
    pub name: String,
    pub display_name: String,
    pub context_length: u32,
    pub max_output: u32,
    /// Dollars for a thousand tokens; null where the price isn't known.
    pub input_price: Option<String>,
    pub output_price: Option<String>,
    /// Dollars for a million tokens, by class.
    pub prices: Value,
    pub capabilities: Vec<String>,
    /// Highest temperature that it takes; null for a model that takes none.
    pub max_temperature: Option<f32>,
    /// Day on which its provider is said to take it away.
    pub retires_on: Option<NaiveDate>,
    pub is_active: bool,
    pub has_key: bool,
    pub mcp_config: Value,
}

/// The prices of a model in dollars for a million tokens, by class.
fn price_table(price: &Price) -> Value {
    let rates = |rates: &Rates| {
        json!({
            "input": dollars(rates.input, 1),
            "cached_input": dollars(rates.cached_input.unwrap_or(rates.input), 1),
            "cache_write": dollars(rates.cache_write.unwrap_or(rates.input), 1),
            "output": dollars(rates.output, 1),
        })
    };
    let mut table = rates(&price.rates);
    table["version"] = json!(price.version);
    table["effective_from"] = json!(price.effective_from);
    table["source"] = json!(price.source);
    if !price.tiers.is_empty() {
        let tier = |tier: &Tier| {
            let mut table = rates(&tier.rates);
            table["above_input_tokens"] = tier.above.into();
            table
        };
        table["tiers"] = price.tiers.iter().map(tier).collect();
    }
    table
}

/// Nano-dollars for a million tokens, as dollars for `million / divisor` tokens.
fn dollars(nanos: i64, divisor: i64) -> String {
    // Prices have at most twelve decimals, so the picture is exact.
    let pico = i128::from(nanos) * 1_000 / i128::from(divisor);
    let (whole, rest) = (pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    let digits = format!("{rest:012}");
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { whole.to_string() } else { format!("{whole}.{digits}") }
}

impl ModelShape {
    pub fn new(model: &Model, has_key: bool) -> Self {
        let now = Utc::now();
        let price = model.price(now);
        Self {
            id: model.id.as_uuid(),
            provider: model.provider.clone(),
            name: model.name.clone(),
            display_name: model.display_name.clone(),
            context_length: model.context_length,
            max_output: model.max_output,
            input_price: price.map(|price| dollars(price.rates.input, 1_000)),
            output_price: price.map(|price| dollars(price.rates.output, 1_000)),
            prices: price.map_or_else(|| json!({}), price_table),
            max_temperature: (!model.fixed_sampling).then(|| highest_temperature(&model.provider)),
            retires_on: model.retires_on,
            capabilities: model.capabilities.clone(),
            is_active: !model.is_retired(now),
            has_key,
            mcp_config: json!({}),
        }
    }
}

/// A stored provider key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    pub id: Uuid,
    pub provider: String,
    pub name: String,
    pub key_hint: String,
    pub mode: &'static str,
    pub base_url: Option<String>,
    pub is_valid: bool,
    pub priority: i32,
    pub last_validated: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

impl From<KeyRecord> for Key {
    fn from(record: KeyRecord) -> Self {
        Self {
            id: record.key_id.as_uuid(),
            provider: record.provider,
            name: record.name,
            key_hint: record.key_hint,
            mode: "server",
            base_url: record.base_url,
            is_valid: record.is_valid,
            priority: record.priority,
            last_validated: record.last_validated,
            last_used_at: record.last_used_at,
            created_at: record.created_at,
            version: record.version,
        }
    }
}

/// Something that has happened, as the log has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Place in the log; `at` takes it.
    pub position: i64,
    pub event_id: Uuid,
    #[serde(rename = "type")]
    pub kind: String,
    pub version: String,
    pub aggregate: String,
    pub aggregate_id: Uuid,
    /// `user`, or a role of the service.
    pub actor: String,
    pub at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// What it says; erased texts read `[erased]`.
    pub data: Value,
}

impl From<Happening> for Event {
    fn from(happening: Happening) -> Self {
        let Happening { position, event_id, kind, version, aggregate, aggregate_id, actor, at, ip, user_agent, data } =
            happening;
        Self { position, event_id, kind, version, aggregate, aggregate_id, actor, at, ip, user_agent, data }
    }
}

/// A personal access token without the token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// A personal access token that has just been issued.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuedToken {
    /// Shown this once.
    pub token: String,
    #[serde(flatten)]
    pub about: Token,
}

impl From<TokenRecord> for Token {
    fn from(record: TokenRecord) -> Self {
        let TokenRecord { token_id, name, scopes, expires_at, created_at, .. } = record;
        Self { id: token_id.as_uuid(), name, scopes, expires_at, created_at }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn prices_are_exact_decimals() {
        assert_eq!(super::dollars(150_000_000, 1), "0.15");
        assert_eq!(super::dollars(150_000_000, 1_000), "0.00015");
        assert_eq!(super::dollars(0, 1), "0");
        assert_eq!(super::dollars(3_000_000_000, 1), "3");
    }
}
