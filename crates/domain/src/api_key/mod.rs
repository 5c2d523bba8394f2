//! A provider key that a person has stored. The sealed key itself is kept outside the log, so that it can be destroyed.

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::personal::Personal;

/// State of a stored key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// 1, then one more with each rotation; 0 before it has been added.
    pub version: u32,
    /// Whether the provider has refused this version.
    pub refused: bool,
    /// Whether it has been removed.
    pub removed: bool,
}

/// What can be asked of a stored key.
#[derive(Clone, Debug)]
pub enum ApiKeyCommand {
    /// Stores it.
    Add(KeyDetails),
    /// Puts another key in its place.
    Rotate {
        /// End of the new key.
        key_hint: Personal,
        /// Own base URL of the new key.
        base_url: Option<String>,
    },
    /// Calls it differently.
    Rename {
        /// What the person calls it.
        name: Personal,
    },
    /// Changes when it is tried.
    Prioritise {
        /// Lower is tried first.
        priority: i32,
    },
    /// The provider has refused a version of it. Once is enough, and a version that is gone doesn't matter.
    Refuse {
        /// The version that was tried.
        version: u32,
    },
    /// The provider takes a version of it.
    Accept {
        /// The version that was tried.
        version: u32,
    },
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
    /// Another key was put in its place, and the old ciphertext destroyed.
    ApiKeyRotated {
        /// End of the new key.
        key_hint: Personal,
        /// Own base URL of the new key.
        base_url: Option<String>,
        /// Version of the new key.
        version: u32,
    },
    /// It is called differently.
    ApiKeyRenamed {
        /// What the person calls it.
        name: Personal,
    },
    /// It is tried earlier or later.
    ApiKeyPrioritised {
        /// Lower is tried first.
        priority: i32,
    },
    /// The provider refused it; it isn't used any more until it is accepted or rotated.
    ApiKeyRefused {
        /// The version that was tried.
        version: u32,
    },
    /// The provider takes it after all.
    ApiKeyAccepted {
        /// The version that was tried.
        version: u32,
    },
    /// It was removed and its ciphertext destroyed.
    ApiKeyRemoved {},
}

crate::event_catalogue!(ApiKeyEvent {
    ApiKeyAdded => ("api_key_added", "1"),
    ApiKeyRotated => ("api_key_rotated", "1"),
    ApiKeyRenamed => ("api_key_renamed", "1"),
    ApiKeyPrioritised => ("api_key_prioritised", "1"),
    ApiKeyRefused => ("api_key_refused", "1"),
    ApiKeyAccepted => ("api_key_accepted", "1"),
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

impl ApiKey {
    fn decide(&self, command: ApiKeyCommand) -> Result<Option<ApiKeyEvent>, ApiKeyError> {
        match command {
            ApiKeyCommand::Add(_) if self.version > 0 => Err(ApiKeyError::AlreadyAdded),
            ApiKeyCommand::Add(details) => Ok(Some(ApiKeyEvent::ApiKeyAdded { details })),
            _ if self.version == 0 || self.removed => Err(ApiKeyError::NotFound),
            ApiKeyCommand::Rotate { key_hint, base_url } => {
                Ok(Some(ApiKeyEvent::ApiKeyRotated { key_hint, base_url, version: self.version + 1 }))
            }
            ApiKeyCommand::Rename { name } => Ok(Some(ApiKeyEvent::ApiKeyRenamed { name })),
            ApiKeyCommand::Prioritise { priority } => Ok(Some(ApiKeyEvent::ApiKeyPrioritised { priority })),
            ApiKeyCommand::Refuse { version } => {
                let is_new = version == self.version && !self.refused;
                Ok(is_new.then_some(ApiKeyEvent::ApiKeyRefused { version }))
            }
            ApiKeyCommand::Accept { version } => {
                let is_new = version == self.version && self.refused;
                Ok(is_new.then_some(ApiKeyEvent::ApiKeyAccepted { version }))
            }
            ApiKeyCommand::Remove => Ok(Some(ApiKeyEvent::ApiKeyRemoved {})),
        }
    }
}

impl Aggregate for ApiKey {
    const TYPE: &'static str = "api_key";
    type Command = ApiKeyCommand;
    type Event = ApiKeyEvent;
    type Error = ApiKeyError;
    type Services = ();

    async fn handle(&mut self, command: ApiKeyCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ApiKeyError> {
        if let Some(event) = self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ApiKeyEvent) {
        match event {
            ApiKeyEvent::ApiKeyAdded { .. } => self.version = 1,
            ApiKeyEvent::ApiKeyRotated { version, .. } => {
                self.version = version;
                self.refused = false;
            }
            ApiKeyEvent::ApiKeyRenamed { .. } | ApiKeyEvent::ApiKeyPrioritised { .. } => {}
            ApiKeyEvent::ApiKeyRefused { .. } => self.refused = true,
            ApiKeyEvent::ApiKeyAccepted { .. } => self.refused = false,
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

    #[test]
    fn a_key_is_refused_once_until_it_is_rotated_or_accepted() {
        let added = ApiKeyEvent::ApiKeyAdded { details: details() };
        let refused = |version| ApiKeyEvent::ApiKeyRefused { version };
        let rotated = ApiKeyEvent::ApiKeyRotated { key_hint: "…wxyz".into(), base_url: None, version: 2 };
        let rotate = ApiKeyCommand::Rotate { key_hint: "…wxyz".into(), base_url: None };
        let accepted = ApiKeyEvent::ApiKeyAccepted { version: 1 };
        let cases = [
            (vec![], ApiKeyCommand::Refuse { version: 1 }, vec![refused(1)]),
            (vec![refused(1)], ApiKeyCommand::Refuse { version: 1 }, vec![]),
            (vec![refused(1)], rotate, vec![rotated.clone()]),
            // Word of the old key comes late.
            (vec![refused(1), rotated.clone()], ApiKeyCommand::Refuse { version: 1 }, vec![]),
            (vec![refused(1), rotated.clone()], ApiKeyCommand::Accept { version: 1 }, vec![]),
            (vec![refused(1), rotated], ApiKeyCommand::Refuse { version: 2 }, vec![refused(2)]),
            (vec![refused(1)], ApiKeyCommand::Accept { version: 1 }, vec![accepted]),
            (vec![], ApiKeyCommand::Accept { version: 1 }, vec![]),
        ];
        for (before, command, expected) in cases {
            let given = std::iter::once(added.clone()).chain(before).collect();
            TestFramework::<ApiKey>::with(()).given(given).when(command).then_expect_events(expected);
        }
        TestFramework::<ApiKey>::with(())
            .given(vec![added, ApiKeyEvent::ApiKeyRemoved {}])
            .when(ApiKeyCommand::Refuse { version: 1 })
            .then_expect_error(ApiKeyError::NotFound);
    }
}
