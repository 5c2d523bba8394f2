//! Stored provider keys: sealed with the account's data key, never in the log.

use chrono::{DateTime, Utc};
use polyphony_domain::{
    api_key::{ApiKey, ApiKeyCommand, ApiKeyError},
    ids::{AccountId, KeyId},
};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::{CommandContext, Effect, ExecuteError, Executed, Root, Store, StoreError};

/// A stored key without the key.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The key.
    pub key_id: KeyId,
    /// Provider.
    pub provider: String,
    /// Own base URL.
    pub base_url: Option<String>,
    /// What the person calls it.
    pub name: String,
    /// Its last characters.
    pub key_hint: String,
    /// Lower is tried first.
    pub priority: i32,
    /// Whether the provider took it when it was last tried.
    pub is_valid: bool,
    /// 1, then one more with each rotation.
    pub version: i32,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it was last tried.
    pub last_validated: Option<DateTime<Utc>>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct KeyRow {
    key_id: Uuid,
    provider: String,
    base_url: Option<String>,
    name: Vec<u8>,
    key_hint: Vec<u8>,
    priority: i32,
    is_valid: bool,
    version: i32,
    created_at: DateTime<Utc>,
    last_validated: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

/// Labels under which the columns are sealed.
pub mod label {
    /// The key's name.
    pub const NAME: &str = "api_key.name";
    /// Its hint.
    pub const HINT: &str = "api_key.hint";

    /// The key itself: bound to its provider and host, so that an edited row can't send it elsewhere.
    pub fn secret(provider: &str, base_url: Option<&str>) -> String {
        format!("api_key.secret\u{1f}{provider}\u{1f}{}", base_url.unwrap_or_default())
    }
}

/// A key that a provider has not refused, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutableKey {
    /// The key.
    pub key_id: KeyId,
    /// Lower is tried first.
    pub priority: i32,
    /// 1, then one more with each rotation.
    pub version: u32,
}

/// A key that opens a provider, with what to call.
pub struct UsableKey {
    /// The key.
    pub key_id: KeyId,
    /// Provider.
    pub provider: String,
    /// 1, then one more with each rotation.
    pub version: u32,
    /// Own base URL.
    pub base_url: Option<String>,
    /// The secret, in clear.
    pub secret: Vec<u8>,
}

impl Store {
    /// The stored keys of an account, by provider and priority.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a column was changed.
    pub async fn api_keys(&self, account: AccountId) -> Result<Vec<KeyRecord>, StoreError> {
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT key_id, provider, base_url, name, key_hint, priority, is_valid, version, created_at, \
             last_validated, last_used_at FROM ops.api_keys WHERE account_id = $1 ORDER BY provider, priority, key_id",
        )
        .bind(account.as_uuid())
        .fetch_all(&self.pool)
        .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let text = async |label, sealed: &[u8]| {
                let clear = self.open_column(account, label, row.key_id, sealed).await?;
                String::from_utf8(clear).map_err(|_| StoreError::Sealed)
            };
            records.push(KeyRecord {
                name: text(label::NAME, &row.name).await?,
                key_hint: text(label::HINT, &row.key_hint).await?,
                key_id: KeyId::new(row.key_id),
                provider: row.provider,
                base_url: row.base_url,
                priority: row.priority,
                is_valid: row.is_valid,
                version: row.version,
                created_at: row.created_at,
                last_validated: row.last_validated,
                last_used_at: row.last_used_at,
            });
        }
        Ok(records)
    }

    /// The providers for which an account has a key that its provider has not refused.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keyed_providers(&self, account: AccountId) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT provider FROM ops.api_keys WHERE account_id = $1 AND is_valid")
            .bind(account.as_uuid())
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The keys of an account for a provider that it has not refused, the first to try first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn routable_keys(&self, account: AccountId, provider: &str) -> Result<Vec<RoutableKey>, StoreError> {
        let rows: Vec<(Uuid, i32, i32)> = sqlx::query_as(
            "SELECT key_id, priority, version FROM ops.api_keys \
             WHERE account_id = $1 AND provider = $2 AND is_valid ORDER BY priority, key_id",
        )
        .bind(account.as_uuid())
        .bind(provider)
        .fetch_all(&self.pool)
        .await?;
        let routable = |(key_id, priority, version)| RoutableKey {
            key_id: KeyId::new(key_id),
            priority,
            version: u32::try_from(version).unwrap_or(1),
        };
        Ok(rows.into_iter().map(routable).collect())
    }

    /// The first usable key of an account for a provider.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn usable_key(&self, account: AccountId, provider: &str) -> Result<Option<KeyId>, StoreError> {
        let row = sqlx::query(
            "SELECT key_id FROM ops.api_keys WHERE account_id = $1 AND provider = $2 AND is_valid \
             ORDER BY priority, key_id LIMIT 1",
        )
        .bind(account.as_uuid())
        .bind(provider)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok(KeyId::new(row.try_get(0)?))).transpose()
    }

    /// Opens a key for one call; `None` when it has been removed.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the row was changed.
    pub async fn open_api_key(&self, account: AccountId, key: KeyId) -> Result<Option<UsableKey>, StoreError> {
        let row = sqlx::query(
            // To the minute: a write for each call would have each of them wait for the disk.
            "WITH used AS (UPDATE ops.api_keys SET last_used_at = now() WHERE key_id = $1 AND account_id = $2 \
                 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')) \
             SELECT provider, base_url, sealed_key, version FROM ops.api_keys WHERE key_id = $1 AND account_id = $2",
        )
        .bind(key.as_uuid())
        .bind(account.as_uuid())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (provider, base_url): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let label = label::secret(&provider, base_url.as_deref());
        let secret = self.open_column(account, &label, key.as_uuid(), &row.try_get::<Vec<u8>, _>(2)?).await?;
        let version = u32::try_from(row.try_get::<i32, _>(3)?).unwrap_or(1);
        Ok(Some(UsableKey { key_id: key, provider, version, base_url, secret }))
    }

    /// Stores whether a provider takes a version of a key. What was known already makes no event, and nor does word
    /// of a version that has been rotated away or removed.
    ///
    /// # Errors
    /// As any command.
    pub async fn judge_api_key(
        &self,
        context: CommandContext,
        key_id: KeyId,
        version: u32,
        is_valid: bool,
    ) -> Result<(), ExecuteError<ApiKeyError>> {
        let command = if is_valid { ApiKeyCommand::Accept { version } } else { ApiKeyCommand::Refuse { version } };
        let judge = Effect::JudgeApiKey { key_id, version, is_valid };
        let owner = context.owner.as_uuid();
        let executed = self
            .command::<ApiKey>(context, Root::Existing(owner))
            .effects(move |_, _| vec![judge.clone()])
            .run(key_id.as_uuid(), command)
            .await;
        match executed {
            Ok(Executed { cursor: None, .. }) => {
                // Nothing new, but it was tried.
                sqlx::query("UPDATE ops.api_keys SET last_validated = now() WHERE key_id = $1 AND version = $2")
                    .bind(key_id.as_uuid())
                    .bind(i32::try_from(version).unwrap_or(i32::MAX))
                    .execute(&self.pool)
                    .await
                    .map_err(|error| ExecuteError::Store(error.into()))?;
                Ok(())
            }
            Ok(_) | Err(ExecuteError::Domain(ApiKeyError::NotFound)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
