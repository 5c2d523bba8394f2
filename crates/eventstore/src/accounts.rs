//! Credentials, device sessions and personal access tokens: the lookups of signing in.

use chrono::{DateTime, Utc};
use polyphony_domain::ids::{AccountId, DeviceId, TokenId};
use sqlx::Row;
use uuid::Uuid;

use crate::{Store, StoreError};

/// What signing in is checked against.
#[derive(Clone)]
pub struct Credential {
    /// The account.
    pub account_id: AccountId,
    /// PHC string.
    pub password_hash: String,
}

/// A personal access token without the token.
#[derive(Clone, Debug)]
pub struct TokenRecord {
    /// The token.
    pub token_id: TokenId,
    /// Whose.
    pub account_id: AccountId,
    /// What the person calls it.
    pub name: String,
    /// What it may be used for; empty for everything.
    pub scopes: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What became of a refresh token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It was the current one: the new one has taken its place.
    Rotated {
        /// The device.
        device_id: DeviceId,
        /// Whose.
        account_id: AccountId,
    },
    /// It had been used before: the family must end.
    Reused {
        /// The device.
        device_id: DeviceId,
        /// Whose.
        account_id: AccountId,
    },
    /// It is unknown, expired, or its family has ended.
    Unknown,
}

/// Label under which a token's name is sealed.
pub const TOKEN_NAME: &str = "access_token.name";

impl Store {
    /// The credential behind the blind index of an e-mail address.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn credential(&self, email_index: &[u8; 32]) -> Result<Option<Credential>, StoreError> {
        let row = sqlx::query("SELECT account_id, password_hash FROM ops.credentials WHERE email_index = $1")
            .bind(&email_index[..])
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(Credential { account_id: AccountId::new(row.try_get(0)?), password_hash: row.try_get(1)? }))
            .transpose()
    }

    /// Replaces a password hash by a stronger one of the same password.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn upgrade_password_hash(&self, account: AccountId, old: &str, new: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE ops.credentials SET password_hash = $3, updated_at = now() WHERE account_id = $1 AND password_hash = $2")
            .bind(account.as_uuid())
            .bind(old)
            .bind(new)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Exchanges a refresh token: the presented one is used up, `next` takes its place. One statement decides,
    /// so that of two requests with one token at once exactly one gets a new one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rotate_refresh_token(&self, presented: &[u8; 32], next: &[u8; 32]) -> Result<Refresh, StoreError> {
        let mut transaction = self.begin().await?;
        let rotated = sqlx::query(
            "UPDATE ops.devices SET token_hash = $2, generation = generation + 1, last_seen_at = now() \
             WHERE token_hash = $1 AND ended_at IS NULL AND expires_at > now() RETURNING device_id, account_id",
        )
        .bind(&presented[..])
        .bind(&next[..])
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(row) = rotated {
            let device_id: Uuid = row.try_get(0)?;
            sqlx::query("INSERT INTO ops.used_refresh_tokens (token_hash, device_id) VALUES ($1, $2)")
                .bind(&presented[..])
                .bind(device_id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            return Ok(Refresh::Rotated {
                device_id: DeviceId::new(device_id),
                account_id: AccountId::new(row.try_get(1)?),
            });
        }
        let used = sqlx::query(
            "SELECT device_id, account_id FROM ops.used_refresh_tokens JOIN ops.devices USING (device_id) \
             WHERE used_refresh_tokens.token_hash = $1",
        )
        .bind(&presented[..])
        .fetch_optional(&mut *transaction)
        .await?;
        Ok(match used {
            Some(row) => Refresh::Reused {
                device_id: DeviceId::new(row.try_get(0)?),
                account_id: AccountId::new(row.try_get(1)?),
            },
            None => Refresh::Unknown,
        })
    }

    /// The device sessions of an account that have not ended.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn open_devices(&self, account: AccountId) -> Result<Vec<DeviceId>, StoreError> {
        let rows = sqlx::query("SELECT device_id FROM ops.devices WHERE account_id = $1 AND ended_at IS NULL")
            .bind(account.as_uuid())
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(|row| Ok(DeviceId::new(row.try_get(0)?))).collect()
    }

    /// The device sessions that ended within the last `seconds`: their access tokens may still be unexpired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn devices_ended_within(&self, seconds: u32) -> Result<Vec<DeviceId>, StoreError> {
        let rows = sqlx::query("SELECT device_id FROM ops.devices WHERE ended_at > now() - make_interval(secs => $1)")
            .bind(f64::from(seconds))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(|row| Ok(DeviceId::new(row.try_get(0)?))).collect()
    }

    /// The account and scopes behind the hash of a personal access token that has not expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn access_token(&self, hash: &[u8; 32]) -> Result<Option<(TokenId, AccountId, Vec<String>)>, StoreError> {
        let row = sqlx::query(
            "SELECT token_id, account_id, scopes FROM ops.access_tokens \
             WHERE token_hash = $1 AND (expires_at IS NULL OR expires_at > now())",
        )
        .bind(&hash[..])
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((TokenId::new(row.try_get(0)?), AccountId::new(row.try_get(1)?), row.try_get(2)?))).transpose()
    }

    /// The personal access tokens of an account, newest first.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a name was changed.
    pub async fn access_tokens(&self, account: AccountId) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT token_id, name, scopes, expires_at, created_at FROM ops.access_tokens \
             WHERE account_id = $1 ORDER BY token_id DESC",
        )
        .bind(account.as_uuid())
        .fetch_all(&self.pool)
        .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let token_id: Uuid = row.try_get(0)?;
            let name = self.open_column(account, TOKEN_NAME, token_id, &row.try_get::<Vec<u8>, _>(1)?).await?;
            records.push(TokenRecord {
                token_id: TokenId::new(token_id),
                account_id: account,
                name: String::from_utf8(name).map_err(|_| StoreError::Sealed)?,
                scopes: row.try_get(2)?,
                expires_at: row.try_get(3)?,
                created_at: row.try_get(4)?,
            });
        }
        Ok(records)
    }
}
