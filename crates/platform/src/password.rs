//! Password hashes: Argon2id for new ones; bcrypt hashes are accepted and upgraded.
//!
//! Hashing costs tens of milliseconds of a core, so it runs beside the async threads and never more at a time than
//! there are cores: a storm of sign-ins queues here instead of starving everything else.

use std::sync::{Arc, LazyLock};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use thiserror::Error;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// OWASP's floor for Argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static SLOTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)))
});

/// A hash that costs what a real one costs to check, for accounts that don't exist.
static DUMMY: LazyLock<String> = LazyLock::new(|| hash_now("no account has this password").unwrap_or_default());

/// Hashing failed: out of memory or of randomness.
#[derive(Clone, Copy, Debug, Error)]
#[error("a password could not be hashed")]
pub struct HashError;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the password is right.
    pub ok: bool,
    /// Whether the stored hash should be replaced by a fresh one.
    pub needs_upgrade: bool,
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash_now(password: &str) -> Result<String, HashError> {
    argon2().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| HashError)
}

fn verify_now(password: &str, stored: &str) -> Verdict {
    if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| stored.starts_with(prefix)) {
        return Verdict { ok: bcrypt::verify(password, stored).unwrap_or(false), needs_upgrade: true };
    }
    let Ok(parsed) = PasswordHash::new(stored) else { return Verdict { ok: false, needs_upgrade: false } };
    let ok = argon2().verify_password(password.as_bytes(), &parsed).is_ok();
    let current = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$");
    Verdict { ok, needs_upgrade: !stored.starts_with(&current) }
}

async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
    let _slot = SLOTS.clone().acquire_owned().await.map_err(|_| HashError)?;
    tokio::task::spawn_blocking(work).await.map_err(|_| HashError)
}

/// Hashes a password into a PHC string.
///
/// # Errors
/// [`HashError`].
pub async fn hash(password: Zeroizing<String>) -> Result<String, HashError> {
    beside(move || hash_now(&password)).await?
}

/// Checks a password against a stored hash.
///
/// # Errors
/// [`HashError`] when the check could not run.
pub async fn verify(password: Zeroizing<String>, stored: String) -> Result<Verdict, HashError> {
    beside(move || verify_now(&password, &stored)).await
}

/// Takes as long as [`verify`] and is never right: for accounts that don't exist.
///
/// # Errors
/// [`HashError`] when the check could not run.
pub async fn verify_dummy(password: Zeroizing<String>) -> Result<(), HashError> {
    beside(move || {
        verify_now(&password, &DUMMY);
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_and_new_hashes_are_checked_and_old_ones_upgraded() {
        let secret = || Zeroizing::new("correct horse battery".to_owned());
        let new = hash(secret()).await.unwrap();
        assert_eq!(verify(secret(), new.clone()).await.unwrap(), Verdict { ok: true, needs_upgrade: false });
        let wrong = Zeroizing::new("correct horse batter".to_owned());
        assert!(!verify(wrong, new).await.unwrap().ok);
        let old = bcrypt::hash("correct horse battery", 4).unwrap();
        assert_eq!(verify(secret(), old).await.unwrap(), Verdict { ok: true, needs_upgrade: true });
        assert!(!verify(secret(), "garbage".into()).await.unwrap().ok);
    }
}
