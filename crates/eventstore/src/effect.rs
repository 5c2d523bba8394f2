//! Side writes: rows of the write side that change in the same transaction as a command's events.
//!
//! They come after the events, whose rows are what orders two commands on the same aggregate: those that most commands
//! have as parts of the statement that writes the events, the others as statements after it. An effect that is refused
//! takes the whole command back.

use chrono::{DateTime, Utc};
use polyphony_domain::ids::{AccountId, AnswerId, DeviceId, KeyId, SessionId, TokenId};
use sqlx::{PgConnection, postgres::PgQueryResult};

use crate::{
    StoreError, erasure,
    error::Refused,
    follow_ups::{self, FollowUp},
    runs::{self, Takes},
    seats::{self, Aftermath, NewRun, Seats},
    statement::{Statement, Why},
};

/// A side write.
#[derive(Clone)]
pub enum Effect {
    /// Reserves an e-mail address and stores the password hash.
    CreateCredential {
        /// The account.
        account_id: AccountId,
        /// Blind index of the address.
        email_index: [u8; 32],
        /// PHC string.
        password_hash: String,
    },
    /// Begins a device session.
    CreateDevice {
        /// The device.
        device_id: DeviceId,
        /// Whose.
        account_id: AccountId,
        /// Hash of its first refresh token.
        token_hash: [u8; 32],
        /// When the whole family ends.
        expires_at: DateTime<Utc>,
    },
    /// Ends a device session.
    EndDevice {
        /// The device.
        device_id: DeviceId,
    },
    /// Stores a personal access token.
    CreateAccessToken {
        /// The token.
        token_id: TokenId,
        /// Whose.
        account_id: AccountId,
        /// Its hash.
        token_hash: [u8; 32],
        /// Its name, sealed.
        name: Vec<u8>,
        /// What it may be used for; empty for everything.
        scopes: Vec<String>,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
    },
    /// Removes a personal access token.
    DeleteAccessToken {
        /// The token.
        token_id: TokenId,
        /// Whose.
        account_id: AccountId,
    },
    /// Stores a provider key.
    CreateApiKey {
        /// The key.
        key_id: KeyId,
        /// Whose.
        account_id: AccountId,
        /// Provider.
        provider: String,
        /// Own base URL.
        base_url: Option<String>,
        /// Its name, sealed.
        name: Vec<u8>,
        /// Its hint, sealed.
        key_hint: Vec<u8>,
        /// The key, sealed.
        sealed_key: Vec<u8>,
        /// Lower is tried first.
        priority: i32,
    },
    /// Puts another provider key in the place of one, and marks it as good until it is refused.
    RotateApiKey {
        /// The key.
        key_id: KeyId,
        /// Whose.
        account_id: AccountId,
        /// Own base URL.
        base_url: Option<String>,
        /// Its hint, sealed.
        key_hint: Vec<u8>,
        /// The key, sealed.
        sealed_key: Vec<u8>,
        /// Its version.
        version: u32,
    },
    /// Renames a provider key.
    RenameApiKey {
        /// The key.
        key_id: KeyId,
        /// Its name, sealed.
        name: Vec<u8>,
    },
    /// Changes when a provider key is tried.
    PrioritiseApiKey {
        /// The key.
        key_id: KeyId,
        /// Lower is tried first.
        priority: i32,
    },
    /// Says whether a provider takes a version of a key.
    JudgeApiKey {
        /// The key.
        key_id: KeyId,
        /// The version that was tried.
        version: u32,
        /// Whether it takes it.
        is_valid: bool,
    },
    /// Destroys a provider key.
    DeleteApiKey {
        /// The key.
        key_id: KeyId,
        /// Whose.
        account_id: AccountId,
    },
    /// Makes an answer known and puts it in flight, or in the account's queue for it.
    CreateRun(NewRun),
    /// Ends the flights among these that never began; the others go on.
    EndUnstarted {
        /// The answers.
        answer_ids: Vec<AnswerId>,
    },
    /// Remembers that something follows the answers of a turn.
    CreateFollowUp(FollowUp),
    /// Remembers that a session was deleted, so that it is erased in time.
    DeleteSession {
        /// The session.
        session_id: SessionId,
        /// Whose.
        owner_id: AccountId,
    },
    /// Forgets that a session was deleted.
    RestoreSession {
        /// The session.
        session_id: SessionId,
    },
    /// Destroys the data key of a session.
    EraseSession {
        /// The session.
        session_id: SessionId,
    },
    /// Destroys all data keys of an account, and removes what else the write side has of it.
    EraseAccount {
        /// The account.
        account_id: AccountId,
    },
    /// Tells the worker of a running answer to stop, with its next heartbeat at the latest.
    RequestStop {
        /// The answer.
        answer_id: AnswerId,
    },
    /// Takes the lease for the next attempt.
    StartRun {
        /// The answer.
        answer_id: AnswerId,
        /// The attempt, one more than the one before.
        attempt: u32,
        /// Who.
        worker: String,
        /// Seconds that the lease lasts without being renewed.
        lease_seconds: u32,
    },
    /// The worker that holds the lease goes on with the next attempt.
    ContinueRun {
        /// The answer.
        answer_id: AnswerId,
        /// The attempt, one more than the one that it holds.
        attempt: u32,
        /// Who.
        worker: String,
        /// Seconds that the lease lasts without being renewed.
        lease_seconds: u32,
    },
    /// Ends the flight; refused when the attempt has been taken over.
    EndRun {
        /// The answer.
        answer_id: AnswerId,
        /// The attempt that ends; 0 for one that never began.
        attempt: u32,
    },
    /// Says how many answers an account may have in flight.
    SetAllowance {
        /// The account.
        account_id: AccountId,
        /// How many.
        in_flight: u32,
    },
}

fn one(result: &PgQueryResult, otherwise: Refused) -> Result<(), StoreError> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(otherwise.into()) }
}

/// Turns the violation of a unique index into the refusal that it stands for.
fn unique(error: sqlx::Error, refused: Refused) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => refused.into(),
        _ => error.into(),
    }
}

impl Effect {
    /// Puts it into a statement, one of a kind; gives it back where it can't be a part of one.
    pub(crate) fn write(self, statement: &mut Statement, seats: Seats) -> Result<Option<Self>, StoreError> {
        match self {
            Self::CreateRun(run) => seats::create(statement, run, seats)?,
            Self::CreateFollowUp(follow_up) => follow_ups::create(statement, follow_up)?,
            Self::StartRun { answer_id, attempt, worker, lease_seconds } => {
                runs::lease(statement, Takes::Free, (answer_id, attempt), worker, lease_seconds)?;
            }
            Self::ContinueRun { answer_id, attempt, worker, lease_seconds } => {
                runs::lease(statement, Takes::Its, (answer_id, attempt), worker, lease_seconds)?;
            }
            Self::EndRun { answer_id, attempt } => {
                seats::end(statement, answer_id, attempt)?;
                statement.require("EXISTS (SELECT FROM gone)", Why::RunTaken);
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Executes the effect in the command's transaction. What it brings about besides is added to `after`.
    pub(crate) async fn apply(
        self,
        connection: &mut PgConnection,
        seats: Seats,
        after: &mut Aftermath,
    ) -> Result<(), StoreError> {
        match self {
            Self::CreateCredential { account_id, email_index, password_hash } => {
                sqlx::query("INSERT INTO ops.credentials (account_id, email_index, password_hash) VALUES ($1, $2, $3)")
                    .bind(account_id.as_uuid())
                    .bind(&email_index[..])
                    .bind(password_hash)
                    .execute(connection)
                    .await
                    .map_err(|error| unique(error, Refused::EmailTaken))?;
            }
            Self::CreateDevice { device_id, account_id, token_hash, expires_at } => {
                sqlx::query(
                    "INSERT INTO ops.devices (device_id, account_id, token_hash, expires_at) VALUES ($1, $2, $3, $4)",
                )
                .bind(device_id.as_uuid())
                .bind(account_id.as_uuid())
                .bind(&token_hash[..])
                .bind(expires_at)
                .execute(connection)
                .await?;
            }
            Self::EndDevice { device_id } => {
                sqlx::query("UPDATE ops.devices SET ended_at = now() WHERE device_id = $1 AND ended_at IS NULL")
                    .bind(device_id.as_uuid())
                    .execute(connection)
                    .await?;
            }
            Self::CreateAccessToken { token_id, account_id, token_hash, name, scopes, expires_at } => {
                sqlx::query(
                    "INSERT INTO ops.access_tokens (token_id, account_id, token_hash, name, scopes, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(token_id.as_uuid())
                .bind(account_id.as_uuid())
                .bind(&token_hash[..])
                .bind(name)
                .bind(scopes)
                .bind(expires_at)
                .execute(connection)
                .await?;
            }
            Self::DeleteAccessToken { token_id, account_id } => {
                let done = sqlx::query("DELETE FROM ops.access_tokens WHERE token_id = $1 AND account_id = $2")
                    .bind(token_id.as_uuid())
                    .bind(account_id.as_uuid())
                    .execute(connection)
                    .await?;
                one(&done, Refused::NotFound)?;
            }
            Self::CreateApiKey { key_id, account_id, provider, base_url, name, key_hint, sealed_key, priority } => {
                sqlx::query(
                    "INSERT INTO ops.api_keys (key_id, account_id, provider, base_url, name, key_hint, sealed_key, priority) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(key_id.as_uuid())
                .bind(account_id.as_uuid())
                .bind(provider)
                .bind(base_url)
                .bind(name)
                .bind(key_hint)
                .bind(sealed_key)
                .bind(priority)
                .execute(connection)
                .await?;
            }
            Self::RotateApiKey { key_id, account_id, base_url, key_hint, sealed_key, version } => {
                let done = sqlx::query(
                    "UPDATE ops.api_keys SET base_url = $3, key_hint = $4, sealed_key = $5, version = $6, \
                     is_valid = true, last_validated = NULL WHERE key_id = $1 AND account_id = $2",
                )
                .bind(key_id.as_uuid())
                .bind(account_id.as_uuid())
                .bind(base_url)
                .bind(key_hint)
                .bind(sealed_key)
                .bind(i32::try_from(version).unwrap_or(i32::MAX))
                .execute(connection)
                .await?;
                one(&done, Refused::NotFound)?;
            }
            Self::RenameApiKey { key_id, name } => {
                let done = sqlx::query("UPDATE ops.api_keys SET name = $2 WHERE key_id = $1")
                    .bind(key_id.as_uuid())
                    .bind(name)
                    .execute(connection)
                    .await?;
                one(&done, Refused::NotFound)?;
            }
            Self::PrioritiseApiKey { key_id, priority } => {
                let done = sqlx::query("UPDATE ops.api_keys SET priority = $2 WHERE key_id = $1")
                    .bind(key_id.as_uuid())
                    .bind(priority)
                    .execute(connection)
                    .await?;
                one(&done, Refused::NotFound)?;
            }
            Self::JudgeApiKey { key_id, version, is_valid } => {
                sqlx::query(
                    "UPDATE ops.api_keys SET is_valid = $3, last_validated = now() WHERE key_id = $1 AND version = $2",
                )
                .bind(key_id.as_uuid())
                .bind(i32::try_from(version).unwrap_or(i32::MAX))
                .bind(is_valid)
                .execute(connection)
                .await?;
            }
            Self::DeleteApiKey { key_id, account_id } => {
                let done = sqlx::query("DELETE FROM ops.api_keys WHERE key_id = $1 AND account_id = $2")
                    .bind(key_id.as_uuid())
                    .bind(account_id.as_uuid())
                    .execute(connection)
                    .await?;
                one(&done, Refused::NotFound)?;
            }
            Self::EndUnstarted { answer_ids } => {
                for answer_id in answer_ids {
                    let mut statement = Statement::without_events();
                    seats::end(&mut statement, answer_id, 0)?;
                    after.add(statement.run(&mut *connection).await?);
                }
            }
            Self::DeleteSession { session_id, owner_id } => {
                sqlx::query(
                    "INSERT INTO ops.deleted_sessions (session_id, owner_id) VALUES ($1, $2) \
                     ON CONFLICT (session_id) DO UPDATE SET deleted_at = now()",
                )
                .bind(session_id.as_uuid())
                .bind(owner_id.as_uuid())
                .execute(connection)
                .await?;
            }
            Self::RestoreSession { session_id } => {
                sqlx::query("DELETE FROM ops.deleted_sessions WHERE session_id = $1")
                    .bind(session_id.as_uuid())
                    .execute(connection)
                    .await?;
            }
            Self::EraseSession { session_id } => after.seated |= erasure::session(connection, session_id).await?,
            Self::EraseAccount { account_id } => erasure::account(connection, account_id).await?,
            Self::RequestStop { answer_id } => {
                sqlx::query("UPDATE ops.runs SET stop_requested = true WHERE answer_id = $1")
                    .bind(answer_id.as_uuid())
                    .execute(connection)
                    .await?;
            }
            Self::SetAllowance { account_id, in_flight } => {
                sqlx::query(
                    "INSERT INTO ops.allowances (account_id, in_flight) VALUES ($1, $2) \
                     ON CONFLICT (account_id) DO UPDATE SET in_flight = excluded.in_flight",
                )
                .bind(account_id.as_uuid())
                .bind(i32::try_from(in_flight).unwrap_or(i32::MAX))
                .execute(connection)
                .await?;
            }
            part @ (Self::CreateRun(_)
            | Self::CreateFollowUp(_)
            | Self::StartRun { .. }
            | Self::ContinueRun { .. }
            | Self::EndRun { .. }) => {
                let mut statement = Statement::without_events();
                part.write(&mut statement, seats)?;
                after.add(statement.run(connection).await?);
            }
        }
        Ok(())
    }
}
