//! Provider keys.

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// A provider key: wiped when dropped, without `Debug`, `Clone` or `Serialize`.
pub struct ProviderKey(Zeroizing<Vec<u8>>);

impl ProviderKey {
    /// Takes a key.
    pub fn new(secret: Vec<u8>) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The value of a header that carries it; `None` if it has characters that no header can have.
    pub(crate) fn header(&self, prefix: &str) -> Option<HeaderValue> {
        let text = Zeroizing::new([prefix.as_bytes(), self.0.trim_ascii()].concat());
        let mut value = HeaderValue::from_bytes(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
