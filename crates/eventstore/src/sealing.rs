//! Sealing and opening the personal fields of a payload and of its metadata.
//!
//! A field's key is derived from the root's data key and the event's id; its additional data binds the event's
//! type, place and the field's path, so that a ciphertext moved to another event, row or field does not open.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use polyphony_domain::{
    ids::EventId,
    personal::{CLEAR, ERASED, SEALED},
};
use polyphony_platform::vault::{self, Dek};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::StoreError;

/// Metadata fields that belong to a person.
const PERSONAL_METADATA: [&str; 2] = ["ip", "user_agent"];
/// Marks a sealed metadata value, which must stay a string for the stock reader.
const SEALED_PREFIX: &str = "sealed:";

/// What a sealed field is bound to.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    /// The event.
    pub event_id: EventId,
    /// `Aggregate::TYPE`.
    pub aggregate_type: &'a str,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Sequence within the aggregate.
    pub sequence: u64,
    /// Stored event type.
    pub event_type: &'a str,
}

impl Binding<'_> {
    fn aad(&self, path: &str) -> Vec<u8> {
        vault::aad(&[
            b"evt",
            self.event_type.as_bytes(),
            self.aggregate_type.as_bytes(),
            self.aggregate_id.as_bytes(),
            &self.sequence.to_be_bytes(),
            path.as_bytes(),
        ])
    }

    fn seal(&self, key: &Dek, path: &str, text: &str) -> String {
        let sealed = vault::seal(key, self.event_id.as_uuid().as_bytes(), &self.aad(path), text.as_bytes());
        BASE64.encode(sealed)
    }

    fn open(&self, key: &Dek, path: &str, sealed: &str) -> Result<String, StoreError> {
        let sealed = BASE64.decode(sealed).map_err(|_| StoreError::Sealed)?;
        let text = vault::open(key, self.event_id.as_uuid().as_bytes(), &self.aad(path), &sealed)
            .map_err(|_| StoreError::Sealed)?;
        String::from_utf8(text).map_err(|_| StoreError::Sealed)
    }

    /// Replaces every personal field of `payload` by its sealed form.
    pub fn seal_payload(&self, key: &Dek, payload: &mut Value) {
        walk(payload, &mut String::new(), &mut |path, object| {
            let Some(Value::String(text)) = object.remove(CLEAR) else { return Ok(()) };
            object.insert(SEALED.to_owned(), self.seal(key, path, &text).into());
            Ok(())
        })
        .unwrap_or_default();
    }

    /// Opens every sealed field of `payload`; without a key they become tombstones.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a field was changed or belongs elsewhere.
    pub fn open_payload(&self, key: Option<&Dek>, payload: &mut Value) -> Result<(), StoreError> {
        walk(payload, &mut String::new(), &mut |path, object| {
            let Some(Value::String(sealed)) = object.remove(SEALED) else { return Ok(()) };
            match key {
                Some(key) => object.insert(CLEAR.to_owned(), self.open(key, path, &sealed)?.into()),
                None => object.insert(ERASED.to_owned(), true.into()),
            };
            Ok(())
        })
    }

    /// Seals address and agent.
    pub fn seal_metadata(&self, key: &Dek, metadata: &mut Map<String, Value>) {
        for field in PERSONAL_METADATA {
            if let Some(Value::String(text)) = metadata.get_mut(field) {
                *text = format!("{SEALED_PREFIX}{}", self.seal(key, field, text));
            }
        }
    }

    /// Opens address and agent; without a key they are removed.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a field was changed or belongs elsewhere.
    pub fn open_metadata(&self, key: Option<&Dek>, metadata: &mut Map<String, Value>) -> Result<(), StoreError> {
        for field in PERSONAL_METADATA {
            let Some(Value::String(text)) = metadata.get_mut(field) else { continue };
            match (text.strip_prefix(SEALED_PREFIX), key) {
                (None, _) => {}
                (Some(sealed), Some(key)) => *text = self.open(key, field, sealed)?,
                (Some(_), None) => {
                    metadata.remove(field);
                }
            }
        }
        Ok(())
    }
}

type Visit<'a> = dyn FnMut(&str, &mut Map<String, Value>) -> Result<(), StoreError> + 'a;

/// Calls `visit` with every object of `value` and its path.
fn walk(value: &mut Value, path: &mut String, visit: &mut Visit<'_>) -> Result<(), StoreError> {
    let length = path.len();
    match value {
        Value::Object(object) => {
            visit(path, object)?;
            for (key, child) in object {
                path.push('/');
                path.push_str(key);
                walk(child, path, visit)?;
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter_mut().enumerate() {
                path.push('/');
                path.push_str(&index.to_string());
                walk(child, path, visit)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(sequence: u64) -> Binding<'static> {
        Binding {
            event_id: EventId::new(Uuid::from_u128(1)),
            aggregate_type: "turn",
            aggregate_id: Uuid::from_u128(2),
            sequence,
            event_type: "prompt_posted",
        }
    }

    #[test]
    fn personal_fields_are_sealed_and_open_where_they_belong() {
        let key = Dek::generate();
        let clear = json!({"a": {"$personal": "你好 👩‍👩‍👧‍👦"}, "b": [{"c": {"$personal": ""}}], "n": 1});
        let mut payload = clear.clone();
        binding(1).seal_payload(&key, &mut payload);
        assert!(!payload.to_string().contains("你好"));
        assert_eq!(payload["n"], 1);
        let mut elsewhere = payload.clone();
        assert!(matches!(binding(2).open_payload(Some(&key), &mut elsewhere), Err(StoreError::Sealed)));
        let mut swapped = json!({"b": payload["a"].clone()});
        assert!(matches!(binding(1).open_payload(Some(&key), &mut swapped), Err(StoreError::Sealed)));
        let mut erased = payload.clone();
        binding(1).open_payload(None, &mut erased).unwrap();
        assert_eq!(erased["a"], json!({"$erased": true}));
        binding(1).open_payload(Some(&key), &mut payload).unwrap();
        assert_eq!(payload, clear);
    }
}
