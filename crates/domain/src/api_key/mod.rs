//! A provider key that a person has stored. The sealed key itself is kept outside the log, so that it can be destroyed.

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::personal::Personal;

/// State of a stored key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Whether it has been added.
    pub exists: bool,
    /// Whether it has been removed.
    pub removed: bool,
}

/// What can be asked of a stored key.
#[derive(Clone, Debug)]
pub enum ApiKeyCommand {
    /// Stores it.
    Add(KeyDetails),
    /// Removes it.
    Remove,
}

/// What is known of a key without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDetails {
    /// Provider that it opens.
    pub provider: String,
    /// What the person calls it.
    pub name: Personal,
    /// Its last four characters, for a key that is long enough to show them.
    pub key_hint: Personal,
    /// Own base URL of a compatible host.
    pub base_url: Option<String>,
    /// Lower is tried first.
    pub priority: i32,
}

/// What has happened to a stored key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyEvent {
    /// It was stored.
    ApiKeyAdded {
        /// What is known of it.
        details: KeyDetails,
    },
    /// It was removed and its ciphertext destroyed.
    ApiKeyRemoved {},
}

crate::event_catalogue!(ApiKeyEvent {
    ApiKeyAdded => ("api_key_added", "1"),
    ApiKeyRemoved => ("api_key_removed", "1"),
});

/// Why a stored key refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ApiKeyError {
    /// The id is taken.
    #[error("the key exists already")]
    AlreadyAdded,
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
}

impl Aggregate for ApiKey {
    const TYPE: &'static str = "api_key";
    type Command = ApiKeyCommand;
    type Event = ApiKeyEvent;
    type Error = ApiKeyError;
    type Services = ();

    async fn handle(&mut self, command: ApiKeyCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ApiKeyError> {
        match command {
            ApiKeyCommand::Add(_) if self.exists => Err(ApiKeyError::AlreadyAdded),
            ApiKeyCommand::Add(details) => {
                sink.write(ApiKeyEvent::ApiKeyAdded { details }, self).await;
                Ok(())
            }
            ApiKeyCommand::Remove if !self.exists || self.removed => Err(ApiKeyError::NotFound),
            ApiKeyCommand::Remove => {
                sink.write(ApiKeyEvent::ApiKeyRemoved {}, self).await;
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: ApiKeyEvent) {
        match event {
            ApiKeyEvent::ApiKeyAdded { .. } => self.exists = true,
            ApiKeyEvent::ApiKeyRemoved {} => self.removed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn details() -> KeyDetails {
        KeyDetails {
            provider: "openai".into(),
            name: "work".into(),
            key_hint: "…abcd".into(),
            base_url: None,
            priority: 0,
        }
    }

    #[test]
    fn a_removed_key_is_gone() {
        let added = ApiKeyEvent::ApiKeyAdded { details: details() };
        TestFramework::<ApiKey>::with(())
            .given(vec![added.clone()])
            .when(ApiKeyCommand::Remove)
            .then_expect_events(vec![ApiKeyEvent::ApiKeyRemoved {}]);
        TestFramework::<ApiKey>::with(())
            .given(vec![added, ApiKeyEvent::ApiKeyRemoved {}])
            .when(ApiKeyCommand::Remove)
            .then_expect_error(ApiKeyError::NotFound);
    }
}
