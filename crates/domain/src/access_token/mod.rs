//! A personal access token for scripts and SDKs. Only its hash is kept, outside the log.

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::personal::Personal;

/// State of a personal access token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Whether it has been issued.
    pub exists: bool,
    /// Whether it has been revoked.
    pub revoked: bool,
}

/// What can be asked of a personal access token.
#[derive(Clone, Debug)]
pub enum AccessTokenCommand {
    /// Issues it.
    Issue {
        /// What the person calls it.
        name: String,
        /// What it may be used for; empty for everything.
        scopes: Vec<String>,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
    },
    /// Ends it.
    Revoke,
}

/// What has happened to a personal access token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessTokenEvent {
    /// It was issued.
    AccessTokenIssued {
        /// What the person calls it.
        name: Personal,
        /// What it may be used for; empty for everything.
        scopes: Vec<String>,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
    },
    /// It was ended.
    AccessTokenRevoked {},
}

crate::event_catalogue!(AccessTokenEvent {
    AccessTokenIssued => ("access_token_issued", "1"),
    AccessTokenRevoked => ("access_token_revoked", "1"),
});

/// Why a personal access token refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AccessTokenError {
    /// The id is taken.
    #[error("the token exists already")]
    AlreadyIssued,
    /// There is no such token.
    #[error("there is no such token")]
    NotFound,
}

impl Aggregate for AccessToken {
    const TYPE: &'static str = "access_token";
    type Command = AccessTokenCommand;
    type Event = AccessTokenEvent;
    type Error = AccessTokenError;
    type Services = ();

    async fn handle(
        &mut self,
        command: AccessTokenCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), AccessTokenError> {
        match command {
            AccessTokenCommand::Issue { .. } if self.exists => Err(AccessTokenError::AlreadyIssued),
            AccessTokenCommand::Issue { name, scopes, expires_at } => {
                let issued = AccessTokenEvent::AccessTokenIssued { name: name.into(), scopes, expires_at };
                sink.write(issued, self).await;
                Ok(())
            }
            AccessTokenCommand::Revoke if !self.exists || self.revoked => Err(AccessTokenError::NotFound),
            AccessTokenCommand::Revoke => {
                sink.write(AccessTokenEvent::AccessTokenRevoked {}, self).await;
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: AccessTokenEvent) {
        match event {
            AccessTokenEvent::AccessTokenIssued { .. } => self.exists = true,
            AccessTokenEvent::AccessTokenRevoked {} => self.revoked = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    #[test]
    fn a_token_is_revoked_once() {
        let issued = AccessTokenEvent::AccessTokenIssued { name: "ci".into(), scopes: vec![], expires_at: None };
        TestFramework::<AccessToken>::with(())
            .given(vec![issued.clone()])
            .when(AccessTokenCommand::Revoke)
            .then_expect_events(vec![AccessTokenEvent::AccessTokenRevoked {}]);
        TestFramework::<AccessToken>::with(())
            .given(vec![issued, AccessTokenEvent::AccessTokenRevoked {}])
            .when(AccessTokenCommand::Revoke)
            .then_expect_error(AccessTokenError::NotFound);
    }
}
