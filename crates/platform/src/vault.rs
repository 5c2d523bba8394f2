//! Sealing: AES-256-GCM with bound additional data, keys derived per use, tokens and their hashes.

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Nonce, Payload},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use rand::RngCore;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a GCM nonce, which precedes every ciphertext.
const NONCE: usize = 12;

/// A data key: seals what belongs to one session or account. It has no `Debug` and is wiped when dropped.
pub struct Dek(Zeroizing<[u8; 32]>);

impl Dek {
    /// A fresh random key.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes()))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, OpenError> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(OpenError);
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A data key as it is stored: sealed by one version of the key ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Version of the ring that sealed it.
    pub kek_version: i32,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

/// A sealed value did not open. One error for every cause, so that it tells an attacker nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a sealed value does not open")]
pub struct OpenError;

/// Length-prefixed encoding of additional data: no two lists of fields have the same bytes.
pub fn aad(fields: &[&[u8]]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        encoded.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        encoded.extend_from_slice(field);
    }
    encoded
}

fn cipher(key: &[u8; 32], info: &[u8]) -> Aes256Gcm {
    let mut derived = Zeroizing::new([0; 32]);
    // Expanding to one block can't fail: the limit is 255 of them.
    let _ = Hkdf::<Sha256>::new(None, key).expand(info, derived.as_mut());
    Aes256Gcm::new((&*derived).into())
}

/// Seals `clear` under a key derived from `key` for `info`, bound to `aad`: nonce, then ciphertext with its tag.
pub fn seal(key: &Dek, info: &[u8], aad: &[u8], clear: &[u8]) -> Vec<u8> {
    seal_bytes(key.bytes(), info, aad, clear)
}

/// Opens what [`seal`] made with the same key, info and additional data.
///
/// # Errors
/// [`OpenError`] when anything differs.
pub fn open(key: &Dek, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    open_bytes(key.bytes(), info, aad, sealed)
}

pub(crate) fn seal_bytes(key: &[u8; 32], info: &[u8], aad: &[u8], clear: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = random_bytes();
    let nonce = Nonce::<Aes256Gcm>::from(nonce);
    let mut sealed = nonce.to_vec();
    // Fails only beyond 64 GiB, which no caller can reach: bodies are bounded by megabytes.
    sealed.extend(cipher(key, info).encrypt(&nonce, Payload { msg: clear, aad }).unwrap_or_default());
    sealed
}

pub(crate) fn open_bytes(key: &[u8; 32], info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>().ok_or(OpenError)?;
    let nonce = Nonce::<Aes256Gcm>::from(*nonce);
    cipher(key, info).decrypt(&nonce, Payload { msg: ciphertext, aad }).map_err(|_| OpenError)
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A token of 256 random bits in base64url, after `prefix`.
pub fn random_token(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
}

/// What is stored of a random token. No salt is needed: it has 256 random bits.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_keeps_a_value_closed() {
        let key = Dek::generate();
        let sealed = seal(&key, b"info", b"aad", "文字".as_bytes());
        assert_eq!(open(&key, b"info", b"aad", &sealed).unwrap(), "文字".as_bytes());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(open(&key, b"info", b"aad", &changed), Err(OpenError));
        }
        assert_eq!(open(&key, b"other", b"aad", &sealed), Err(OpenError));
        assert_eq!(open(&key, b"info", b"other", &sealed), Err(OpenError));
        assert_eq!(open(&Dek::generate(), b"info", b"aad", &sealed), Err(OpenError));
        assert_eq!(open(&key, b"info", b"aad", &sealed[..5]), Err(OpenError));
    }

    #[test]
    fn additional_data_cannot_be_shifted_between_fields() {
        assert_ne!(aad(&[b"ab", b"c"]), aad(&[b"a", b"bc"]));
        assert_ne!(aad(&[b"ab"]), aad(&[b"ab", b""]));
    }
}
