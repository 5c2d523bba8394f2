//! Personal data inside an event payload.
//!
//! A [`Personal`] field serialises as `{"$personal": "…"}`. The event store replaces that object by
//! `{"$sealed": "…"}` before it writes, and opens it again when it reads; a field whose key has been destroyed
//! comes back as [`Personal::Erased`]. The domain itself never sees a ciphertext.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// JSON key of a personal field in clear.
pub const CLEAR: &str = "$personal";
/// JSON key of a sealed personal field.
pub const SEALED: &str = "$sealed";
/// JSON key of a personal field whose data key is gone.
pub const ERASED: &str = "$erased";
/// What a reader shows for an erased text.
pub const TOMBSTONE: &str = "[erased]";

/// A text that belongs to a person and is erased with that person's key.
#[derive(Clone, PartialEq, Eq)]
pub enum Personal {
    /// The text.
    Clear(String),
    /// The data key was destroyed: the text can't be read any more.
    Erased,
}

impl Personal {
    /// The text, or the tombstone where it has been erased.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Clear(text) => text,
            Self::Erased => TOMBSTONE,
        }
    }

    /// The text by value, or the tombstone.
    pub fn into_string(self) -> String {
        match self {
            Self::Clear(text) => text,
            Self::Erased => TOMBSTONE.to_owned(),
        }
    }

    /// Whether the text has been erased.
    pub const fn is_erased(&self) -> bool {
        matches!(self, Self::Erased)
    }
}

impl Default for Personal {
    fn default() -> Self {
        Self::Clear(String::new())
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Self {
        Self::Clear(text)
    }
}

impl From<&str> for Personal {
    fn from(text: &str) -> Self {
        Self::Clear(text.to_owned())
    }
}

impl fmt::Debug for Personal {
    /// Never the text: events are printed in logs and test failures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(text) => write!(f, "Personal({} bytes)", text.len()),
            Self::Erased => f.write_str("Personal(erased)"),
        }
    }
}

impl Serialize for Personal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Clear(text) => map.serialize_entry(CLEAR, text)?,
            Self::Erased => map.serialize_entry(ERASED, &true)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Personal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            #[serde(rename = "$personal")]
            clear: Option<String>,
            #[serde(rename = "$erased")]
            erased: Option<bool>,
        }
        match Form::deserialize(deserializer)? {
            Form { clear: Some(text), .. } => Ok(Self::Clear(text)),
            Form { erased: Some(true), .. } => Ok(Self::Erased),
            _ => Err(de::Error::custom("a personal field that has not been opened")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Personal;

    #[test]
    fn personal_text_never_appears_in_debug_output() {
        let text = Personal::from("秘密");
        assert_eq!(format!("{text:?}"), "Personal(6 bytes)");
        assert_eq!(serde_json::to_string(&text).unwrap(), r#"{"$personal":"秘密"}"#);
        assert_eq!(serde_json::from_str::<Personal>(r#"{"$erased":true}"#).unwrap().as_str(), "[erased]");
        assert!(serde_json::from_str::<Personal>(r#"{"$sealed":"AAAA"}"#).is_err());
    }
}
