//! The chat session: title, system prompt and model. It holds no message content: that is in its turns.

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{ids::AccountId, personal::Personal};

/// State of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Whose it is; nobody's before it has been opened.
    pub owner_id: Option<AccountId>,
    /// Title that the person gave it.
    pub title: Option<Personal>,
    /// Model for its next turn, `provider/name`.
    pub model: Option<String>,
    /// What every model is told first.
    pub system_prompt: Option<Personal>,
    /// Free data of the client.
    pub metadata: Value,
}

/// What can be asked of a session.
#[derive(Clone, Debug)]
pub enum SessionCommand {
    /// Begins it.
    Open {
        /// Whose it is.
        owner_id: AccountId,
        /// Title.
        title: Option<String>,
        /// Model, `provider/name`.
        model: Option<String>,
        /// What every model is told first.
        system_prompt: Option<String>,
    },
    /// Changes what is given; `None` leaves a field as it is.
    Change {
        /// New title.
        title: Option<String>,
        /// New system prompt.
        system_prompt: Option<String>,
        /// New free data.
        metadata: Option<Value>,
    },
}

/// What has happened to a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// It was begun.
    SessionOpened {
        /// Whose it is.
        owner_id: AccountId,
        /// Title.
        title: Option<Personal>,
        /// Model, `provider/name`.
        model: Option<String>,
        /// What every model is told first.
        system_prompt: Option<Personal>,
    },
    /// It got another title.
    SessionRenamed {
        /// The title.
        title: Personal,
    },
    /// It got another system prompt.
    SystemPromptSet {
        /// The prompt.
        system_prompt: Personal,
    },
    /// The client attached free data (as JSON text, since it may hold personal data).
    SessionAnnotated {
        /// The data.
        metadata: Personal,
    },
}

crate::event_catalogue!(SessionEvent {
    SessionOpened => ("session_opened", "1"),
    SessionRenamed => ("session_renamed", "1"),
    SystemPromptSet => ("system_prompt_set", "1"),
    SessionAnnotated => ("session_annotated", "1"),
});

/// Why a session refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The id is taken.
    #[error("the session exists already")]
    AlreadyOpen,
    /// There is no such session.
    #[error("there is no such session")]
    NotFound,
}

impl Aggregate for Session {
    const TYPE: &'static str = "session";
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Error = SessionError;
    type Services = ();

    async fn handle(&mut self, command: SessionCommand, (): &(), sink: &EventSink<Self>) -> Result<(), SessionError> {
        match command {
            SessionCommand::Open { .. } if self.owner_id.is_some() => Err(SessionError::AlreadyOpen),
            SessionCommand::Open { owner_id, title, model, system_prompt } => {
                let (title, system_prompt) = (title.map(Personal::from), system_prompt.map(Personal::from));
                sink.write(SessionEvent::SessionOpened { owner_id, title, model, system_prompt }, self).await;
                Ok(())
            }
            SessionCommand::Change { .. } if self.owner_id.is_none() => Err(SessionError::NotFound),
            SessionCommand::Change { title, system_prompt, metadata } => {
                // What doesn't change leaves no trace in the log.
                if let Some(title) = title.map(Personal::from).filter(|title| self.title.as_ref() != Some(title)) {
                    sink.write(SessionEvent::SessionRenamed { title }, self).await;
                }
                let prompt = system_prompt.map(Personal::from);
                if let Some(system_prompt) = prompt.filter(|prompt| self.system_prompt.as_ref() != Some(prompt)) {
                    sink.write(SessionEvent::SystemPromptSet { system_prompt }, self).await;
                }
                if let Some(metadata) = metadata.filter(|metadata| &self.metadata != metadata) {
                    let metadata = Personal::from(metadata.to_string());
                    sink.write(SessionEvent::SessionAnnotated { metadata }, self).await;
                }
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::SessionOpened { owner_id, title, model, system_prompt } => {
                *self = Self { owner_id: Some(owner_id), title, model, system_prompt, metadata: Value::Null };
            }
            SessionEvent::SessionRenamed { title } => self.title = Some(title),
            SessionEvent::SystemPromptSet { system_prompt } => self.system_prompt = Some(system_prompt),
            SessionEvent::SessionAnnotated { metadata } => {
                self.metadata = serde_json::from_str(metadata.as_str()).unwrap_or(Value::Null);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn opened() -> SessionEvent {
        SessionEvent::SessionOpened {
            owner_id: AccountId::default(),
            title: Some("Tea".into()),
            model: None,
            system_prompt: None,
        }
    }

    fn change(title: Option<&str>, system_prompt: Option<&str>) -> SessionCommand {
        SessionCommand::Change {
            title: title.map(str::to_owned),
            system_prompt: system_prompt.map(str::to_owned),
            metadata: None,
        }
    }

    #[test]
    fn only_what_changes_is_recorded() {
        TestFramework::<Session>::with(())
            .given(vec![opened()])
            .when(change(Some("Tea"), Some("Be brief.")))
            .then_expect_events(vec![SessionEvent::SystemPromptSet { system_prompt: "Be brief.".into() }]);
    }

    #[test]
    fn an_unknown_session_cannot_be_renamed() {
        TestFramework::<Session>::with(())
            .given_no_previous_events()
            .when(change(Some("x"), None))
            .then_expect_error(SessionError::NotFound);
    }
}
