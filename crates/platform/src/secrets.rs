//! Secrets of the deployment: the key ring, the token keys, the pepper. Without them nothing starts.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::vault::{self, Dek, OpenError, WrappedKey};

/// Why the secrets can't be used.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// None were given.
    #[error(
        "no secrets: set POLYPHONY_SECRETS_FILE to a file made by `polyphony config generate-secrets` \
         (`cargo xtask up` makes one by itself)"
    )]
    Missing,
    /// The file can't be read.
    #[error("the secrets file {path} can't be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content isn't what it should be. Never says what it is.
    #[error("the secrets are malformed: {0}")]
    Malformed(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ring {
    active: i32,
    keys: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kek_ring: Ring,
    jwt_keys: Ring,
    /// Missing in files that are older than the audit chain.
    audit_keys: Option<Ring>,
    pepper: String,
}

type Keys = BTreeMap<i32, Zeroizing<[u8; 32]>>;

fn key(text: &str) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    let bytes =
        Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SecretsError::Malformed("a key is not base64"))?);
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(SecretsError::Malformed("a key has not 32 bytes"));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

impl Ring {
    fn keys(&self) -> Result<Keys, SecretsError> {
        let mut keys = Keys::new();
        for (version, text) in &self.keys {
            let version = version.parse().map_err(|_| SecretsError::Malformed("a key's version is not a number"))?;
            keys.insert(version, key(text)?);
        }
        if keys.contains_key(&self.active) {
            Ok(keys)
        } else {
            Err(SecretsError::Malformed("the active version is not in the ring"))
        }
    }
}

/// Key encryption keys by version: one wraps, the others only unwrap.
#[derive(Clone)]
pub struct KekRing {
    active: i32,
    keys: Arc<Keys>,
}

const WRAP: &[u8] = b"polyphony/wrap/v1";

impl KekRing {
    /// Seals a data key with the active version.
    pub fn wrap(&self, dek: &Dek, aad: &[u8]) -> WrappedKey {
        let bytes = self.keys.get(&self.active).map(|kek| vault::seal_bytes(kek, WRAP, aad, dek.bytes()));
        WrappedKey { kek_version: self.active, bytes: bytes.unwrap_or_default() }
    }

    /// Opens a data key with the version that sealed it.
    ///
    /// # Errors
    /// [`OpenError`] when that version is gone or anything was changed.
    pub fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<Dek, OpenError> {
        let kek = self.keys.get(&wrapped.kek_version).ok_or(OpenError)?;
        Dek::from_bytes(&Zeroizing::new(vault::open_bytes(kek, WRAP, aad, &wrapped.bytes)?))
    }

    /// Whether the ring has a version.
    pub fn has(&self, version: i32) -> bool {
        self.keys.contains_key(&version)
    }

    /// Whether a key that was sealed with `version` should be sealed again.
    pub const fn needs_rewrap(&self, version: i32) -> bool {
        version != self.active
    }

    /// A ring with one random key, for tests.
    pub fn generate() -> Self {
        Self { active: 1, keys: Arc::new(Keys::from([(1, Zeroizing::new(vault::random_bytes()))])) }
    }
}

/// Keys that sign access tokens, by version: one signs, all verify.
#[derive(Clone)]
pub struct JwtRing {
    active: i32,
    keys: Arc<Keys>,
}

impl JwtRing {
    /// The signing key and its id.
    pub fn signing(&self) -> (String, &[u8]) {
        (self.active.to_string(), self.keys.get(&self.active).map(|key| &key[..]).unwrap_or_default())
    }

    /// The key with an id.
    pub fn verifying(&self, kid: &str) -> Option<&[u8]> {
        self.keys.get(&kid.parse::<i32>().ok()?).map(|key| &key[..])
    }
}

/// Seeds of the keys that sign the audit chain, by version: one signs, all verify. Version 0 is always there: it is
/// derived from the pepper, for deployments whose secrets are older than the chain.
#[derive(Clone)]
pub struct AuditRing {
    signing: Arc<Zeroizing<[u8; 32]>>,
    keys: Arc<Keys>,
}

/// The version of the derived key.
const DERIVED: i32 = 0;

impl AuditRing {
    fn new(ring: Option<&Ring>, pepper: &[u8; 32]) -> Result<Self, SecretsError> {
        let mut keys = ring.map(Ring::keys).transpose()?.unwrap_or_default();
        if keys.contains_key(&DERIVED) {
            return Err(SecretsError::Malformed("audit key 0 is the derived one; begin with 1"));
        }
        let mut derived = Zeroizing::new([0; 32]);
        // Expanding to one block can't fail: the limit is 255 of them.
        let _ = Hkdf::<Sha256>::new(None, pepper).expand(b"polyphony/audit/v1", derived.as_mut());
        keys.insert(DERIVED, derived);
        let active = ring.map_or(DERIVED, |ring| ring.active);
        let signing = keys.get(&active).ok_or(SecretsError::Malformed("the active version is not in the ring"))?;
        Ok(Self { signing: Arc::new(signing.clone()), keys: Arc::new(keys) })
    }

    /// The seed of the key that signs.
    pub fn signing(&self) -> &[u8; 32] {
        &self.signing
    }

    /// The seeds of all keys.
    pub fn seeds(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.keys.values().map(|seed| &**seed)
    }
}

/// Keys the blind indexes: what is looked up without being stored readable.
#[derive(Clone)]
pub struct Pepper(Arc<Zeroizing<[u8; 32]>>);

impl Pepper {
    /// HMAC-SHA256 of a text under a label.
    pub fn blind_index(&self, label: &str, text: &str) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0[..]) else { return [0; 32] };
        mac.update(&vault::aad(&[label.as_bytes(), text.as_bytes()]));
        mac.finalize().into_bytes().into()
    }

    /// What an e-mail address is found by: whoever reads the table finds no address in it. Case doesn't count.
    pub fn email_index(&self, email: &str) -> [u8; 32] {
        self.blind_index("email", &email.trim().to_lowercase())
    }
}

/// All secrets of the deployment.
#[derive(Clone)]
pub struct Secrets {
    /// Wraps data keys.
    pub kek: KekRing,
    /// Signs access tokens.
    pub jwt: JwtRing,
    /// Signs the audit chain.
    pub audit: AuditRing,
    /// Keys blind indexes.
    pub pepper: Pepper,
}

impl Secrets {
    /// Reads the file that `POLYPHONY_SECRETS_FILE` names, or `POLYPHONY_SECRETS` itself.
    ///
    /// # Errors
    /// [`SecretsError`]; its messages never hold a secret.
    pub fn load() -> Result<Self, SecretsError> {
        if let Ok(text) = env::var("POLYPHONY_SECRETS") {
            return Self::parse(&Zeroizing::new(text));
        }
        let path = PathBuf::from(env::var_os("POLYPHONY_SECRETS_FILE").ok_or(SecretsError::Missing)?);
        let text = fs::read_to_string(&path).map_err(|source| SecretsError::Unreadable { path, source })?;
        Self::parse(&Zeroizing::new(text))
    }

    /// Reads secrets from their TOML form.
    ///
    /// # Errors
    /// [`SecretsError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        use figment::providers::{Format, Toml};
        let file: File = figment::Figment::from(Toml::string(text)).extract().map_err(|_| {
            SecretsError::Malformed(
                "kek_ring, jwt_keys and pepper are needed, audit_keys may be there, and nothing else",
            )
        })?;
        let pepper = key(&file.pepper)?;
        Ok(Self {
            kek: KekRing { active: file.kek_ring.active, keys: Arc::new(file.kek_ring.keys()?) },
            jwt: JwtRing { active: file.jwt_keys.active, keys: Arc::new(file.jwt_keys.keys()?) },
            audit: AuditRing::new(file.audit_keys.as_ref(), &pepper)?,
            pepper: Pepper(Arc::new(pepper)),
        })
    }

    /// Fresh secrets in their TOML form, to be kept in a file that only the service can read.
    pub fn generate_toml() -> String {
        let key = || STANDARD.encode(vault::random_bytes::<32>());
        let mut text = String::from("# Secrets of one Polyphony deployment. Whoever has them can read its data.\n");
        let _ = writeln!(text, "pepper = \"{}\"", key());
        for ring in ["kek_ring", "jwt_keys", "audit_keys"] {
            let _ = writeln!(text, "\n[{ring}]\nactive = 1\n[{ring}.keys]\n1 = \"{}\"", key());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secrets_load_and_wrap_keys() {
        let secrets = Secrets::parse(&Secrets::generate_toml()).unwrap();
        let dek = Dek::generate();
        let wrapped = secrets.kek.wrap(&dek, b"root");
        assert_eq!(secrets.kek.unwrap(&wrapped, b"root").unwrap().bytes(), dek.bytes());
        assert!(secrets.kek.unwrap(&wrapped, b"other").is_err());
        assert!(Secrets::parse(&Secrets::generate_toml()).unwrap().kek.unwrap(&wrapped, b"root").is_err());
        let (kid, key) = secrets.jwt.signing();
        assert_eq!(secrets.jwt.verifying(&kid), Some(key));
        assert_eq!(secrets.jwt.verifying("2"), None);
        assert_ne!(secrets.pepper.blind_index("email", "a"), secrets.pepper.blind_index("email", "b"));
    }

    #[test]
    fn secrets_without_audit_keys_have_one_that_stays() {
        let with = Secrets::generate_toml();
        let without = with.split("\n[audit_keys]").next().unwrap();
        let (old, again) = (Secrets::parse(without).unwrap(), Secrets::parse(without).unwrap());
        assert_eq!((old.audit.signing(), old.audit.seeds().count()), (again.audit.signing(), 1));
        // Once there is a ring, the old key still verifies.
        let new = Secrets::parse(&with).unwrap();
        assert_ne!(new.audit.signing(), old.audit.signing());
        assert!(new.audit.seeds().any(|seed| seed == old.audit.signing()));
    }

    #[test]
    fn a_ring_without_its_active_key_is_refused() {
        let text = Secrets::generate_toml().replace("active = 1", "active = 2");
        assert!(matches!(Secrets::parse(&text), Err(SecretsError::Malformed(_))));
    }
}
