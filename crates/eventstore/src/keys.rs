//! Data keys: one for each session and account, wrapped by the key ring and kept in a table of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use polyphony_domain::ids::AccountId;
use polyphony_platform::{
    secrets::KekRing,
    vault::{self, Dek, WrappedKey},
};
use sqlx::Row;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    statement::{Statement, Why},
};

/// How long an opened key may be used without looking again whether it has been destroyed.
const FRESH: Duration = Duration::from_secs(30);
/// Most keys held open at a time: 50,000 × 32 bytes.
const CAPACITY: usize = 50_000;

/// A key that was looked up.
struct Opened {
    since: Instant,
    owner: AccountId,
    /// None for one that has been destroyed.
    key: Option<Arc<Dek>>,
}

impl Opened {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < FRESH
    }
}

/// The ring, and the keys that were opened lately.
pub(crate) struct DataKeys {
    kek: KekRing,
    open: Mutex<HashMap<Uuid, Opened>>,
}

impl DataKeys {
    pub(crate) fn new(kek: KekRing) -> Self {
        Self { kek, open: Mutex::default() }
    }

    fn cached(&self, root: Uuid) -> Option<Option<Arc<Dek>>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&root).filter(|opened| opened.is_fresh()).map(|opened| opened.key.clone())
    }

    pub(crate) fn remember(&self, root: Uuid, owner: AccountId, key: Option<Arc<Dek>>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= CAPACITY {
            open.retain(|_, opened| opened.is_fresh());
        }
        if open.len() >= CAPACITY {
            open.clear();
        }
        open.insert(root, Opened { since: Instant::now(), owner, key });
    }

    /// Forgets the key of a root and those of an owner: they may have been destroyed.
    pub(crate) fn forget(&self, root_or_owner: Uuid) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|root, opened| *root != root_or_owner && opened.owner.as_uuid() != root_or_owner);
    }

    fn aad(root: Uuid, owner: AccountId) -> Vec<u8> {
        vault::aad(&[b"dek", root.as_bytes(), owner.as_uuid().as_bytes()])
    }

    /// Makes a key for a new root; the row goes into the transaction of the root's first event.
    pub(crate) fn generate(&self, root: Uuid, owner: AccountId) -> (Arc<Dek>, WrappedKey) {
        let key = Dek::generate();
        let wrapped = self.kek.wrap(&key, &Self::aad(root, owner));
        (Arc::new(key), wrapped)
    }
}

/// Writes a new root's key. An account that has been erased, or is about to be, gets no new ones.
pub(crate) fn write(
    statement: &mut Statement,
    root: Uuid,
    owner: AccountId,
    wrapped: WrappedKey,
) -> Result<(), StoreError> {
    let (root, owner) = (statement.bind(root)?, statement.bind(owner.as_uuid())?);
    let (version, bytes) = (statement.bind(wrapped.kek_version)?, statement.bind(wrapped.bytes)?);
    statement.add(format!(
        "account AS (SELECT wrapped FROM ops.data_keys WHERE root_id = {owner} FOR SHARE), \
         keyed AS (INSERT INTO ops.data_keys (root_id, owner_id, kek_version, wrapped) \
             SELECT {root}, {owner}, {version}, {bytes} FROM (SELECT max(position) FROM logged) AS written \
             WHERE NOT EXISTS (SELECT FROM account WHERE wrapped IS NULL) RETURNING root_id)"
    ));
    statement.require("EXISTS (SELECT FROM keyed)", Why::Erased);
    Ok(())
}

impl Store {
    /// The data key of each root; `None` for one that has been destroyed. Unknown roots are left out.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a wrapped key doesn't open with the ring.
    pub async fn data_keys(&self, roots: &[Uuid]) -> Result<HashMap<Uuid, Option<Arc<Dek>>>, StoreError> {
        let mut found = HashMap::with_capacity(roots.len());
        let mut missing = Vec::new();
        for root in roots {
            match self.keys.cached(*root) {
                Some(key) => drop(found.insert(*root, key)),
                None => missing.push(*root),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let rows =
            sqlx::query("SELECT root_id, owner_id, kek_version, wrapped FROM ops.data_keys WHERE root_id = ANY($1)")
                .bind(&missing)
                .fetch_all(&self.pool)
                .await?;
        for row in rows {
            let (root, owner): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            let wrapped: Option<Vec<u8>> = row.try_get(3)?;
            let key = match wrapped {
                None => None,
                Some(bytes) => {
                    let wrapped = WrappedKey { kek_version: row.try_get(2)?, bytes };
                    let aad = DataKeys::aad(root, AccountId::new(owner));
                    Some(Arc::new(self.keys.kek.unwrap(&wrapped, &aad).map_err(|_| StoreError::Sealed)?))
                }
            };
            self.keys.remember(root, AccountId::new(owner), key.clone());
            found.insert(root, key);
        }
        Ok(found)
    }

    /// The data key of one root, to seal with.
    ///
    /// # Errors
    /// [`StoreError::Erased`] when it has been destroyed, [`StoreError::NoDataKey`] when there never was one.
    pub async fn data_key(&self, root: Uuid) -> Result<Arc<Dek>, StoreError> {
        match self.data_keys(&[root]).await?.remove(&root) {
            Some(Some(key)) => Ok(key),
            Some(None) => Err(StoreError::Erased),
            None => Err(StoreError::NoDataKey),
        }
    }

    /// Seals a column value of an account (a key's name, a stored response).
    ///
    /// # Errors
    /// See [`Store::data_key`].
    pub async fn seal_column(
        &self,
        account: AccountId,
        label: &str,
        id: Uuid,
        clear: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let key = self.data_key(account.as_uuid()).await?;
        let aad = vault::aad(&[b"column", label.as_bytes(), account.as_uuid().as_bytes(), id.as_bytes()]);
        Ok(vault::seal(&key, label.as_bytes(), &aad, clear))
    }

    /// Opens what [`Store::seal_column`] sealed.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when it was changed or belongs elsewhere; see also [`Store::data_key`].
    pub async fn open_column(
        &self,
        account: AccountId,
        label: &str,
        id: Uuid,
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let key = self.data_key(account.as_uuid()).await?;
        let aad = vault::aad(&[b"column", label.as_bytes(), account.as_uuid().as_bytes(), id.as_bytes()]);
        vault::open(&key, label.as_bytes(), &aad, sealed).map_err(|_| StoreError::Sealed)
    }
}
