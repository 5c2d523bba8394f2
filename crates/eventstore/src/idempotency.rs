//! Idempotent commands: the first answer to a key is kept with the command's events and given again.

use polyphony_domain::ids::AccountId;
use polyphony_platform::vault::{self, Dek};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;

use crate::{Store, StoreError, statement::Statement};

/// A caller's idempotency key with a hash of what was asked under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Who asks; keys of different accounts don't meet.
    pub scope: AccountId,
    /// The caller's key.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request_hash: [u8; 32],
}

/// The answer that a command gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// The `data` of the envelope.
    pub data: Value,
}

/// What is known of a key.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// Nothing: the command may run.
    No,
    /// The same request ran before.
    Same(StoredResponse),
    /// Another request was made with this key.
    Different,
}

const LABEL: &[u8] = b"idempotency";

impl IdempotencyKey {
    fn aad(&self) -> Vec<u8> {
        vault::aad(&[LABEL, self.scope.as_uuid().as_bytes(), self.key.as_bytes(), &self.request_hash])
    }

    /// Stores the answer with the command.
    pub(crate) fn remember(
        self,
        statement: &mut Statement,
        key: &Dek,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        let sealed = vault::seal(key, LABEL, &self.aad(), &serde_json::to_vec(response)?);
        let (scope, key) = (statement.bind(self.scope.as_uuid())?, statement.bind(self.key)?);
        let (hash, sealed) = (statement.bind(self.request_hash.to_vec())?, statement.bind(sealed)?);
        statement.add(format!(
            "remembered AS (INSERT INTO ops.idempotency (scope, key, request_hash, response) \
                 SELECT {scope}, {key}, {hash}, {sealed} FROM (SELECT max(position) FROM logged) AS written)"
        ));
        Ok(())
    }
}

impl Store {
    /// Looks a key up.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored answer was changed.
    pub async fn idempotency(&self, key: &IdempotencyKey) -> Result<Seen, StoreError> {
        let row = sqlx::query("SELECT request_hash, response FROM ops.idempotency WHERE scope = $1 AND key = $2")
            .bind(key.scope.as_uuid())
            .bind(&key.key)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(Seen::No) };
        let (hash, sealed): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        if hash != key.request_hash {
            return Ok(Seen::Different);
        }
        let data_key = self.data_key(key.scope.as_uuid()).await?;
        let clear = vault::open(&data_key, LABEL, &key.aad(), &sealed).map_err(|_| StoreError::Sealed)?;
        Ok(Seen::Same(serde_json::from_slice(&clear)?))
    }

    /// Forgets keys that are older than `days`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_idempotency_keys(&self, days: i32) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM ops.idempotency WHERE created_at < now() - make_interval(days => $1)")
            .bind(days)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
