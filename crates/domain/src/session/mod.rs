//! The chat session: title, system prompt and model. It holds no message content: that is in its turns.

use std::collections::BTreeSet;

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    ids::{AccountId, AnswerId},
    personal::Personal,
};

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
    /// Whether it has been put away.
    pub is_archived: bool,
    /// Whether it has been deleted. It can be restored until its data key is destroyed.
    pub is_deleted: bool,
    /// Whether its data key has been destroyed.
    pub is_erased: bool,
    /// Messages (prompts and answers) that the active branch runs through, where it isn't the newest; newest choice
    /// last.
    pub activated: Vec<Uuid>,
    /// Messages that must stay in every context.
    pub pinned: BTreeSet<Uuid>,
    /// Summaries that must not stand for what they summarise.
    #[serde(default)]
    pub dismissed: BTreeSet<AnswerId>,
    /// Messages that were removed, each with everything that hangs under it.
    pub deleted: BTreeSet<Uuid>,
}

/// What can be asked of a session.
#[derive(Clone, Debug, PartialEq)]
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
    /// Gives it a title that a model found, unless it has one.
    Entitle {
        /// The title.
        title: String,
    },
    /// Has the next turns go to another model.
    SwitchModel {
        /// Model, `provider/name`.
        model: String,
    },
    /// Puts it away, or takes it out again.
    Archive(bool),
    /// Deletes it, or takes that back.
    Delete(bool),
    /// Destroys what it holds for ever. Only a deleted session can be erased.
    Erase,
    /// Has the active branch run through a message.
    Activate {
        /// A prompt or an answer.
        message_id: Uuid,
    },
    /// Keeps a message in every context, or no longer.
    Pin {
        /// A prompt or an answer.
        message_id: Uuid,
        /// Whether it is kept.
        pinned: bool,
    },
    /// Shows the messages themselves again instead of a summary of them.
    DismissSummary {
        /// The summary.
        summary: AnswerId,
    },
    /// Removes a message and everything that hangs under it.
    DeleteMessage {
        /// A prompt or an answer.
        message_id: Uuid,
        /// How many messages go with it, itself included.
        removed: u64,
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
    /// Its next turns go to another model.
    ModelSwitched {
        /// Model, `provider/name`.
        model: String,
    },
    /// It was put away.
    SessionArchived {},
    /// It was taken out again.
    SessionUnarchived {},
    /// It was deleted. It can be restored until its data key is destroyed.
    SessionDeleted {},
    /// The deletion was taken back.
    SessionRestored {},
    /// Its data key was destroyed, in the same transaction: nobody can read its texts any more.
    SessionErased {},
    /// The active branch runs through this message.
    BranchActivated {
        /// A prompt or an answer.
        message_id: Uuid,
    },
    /// A message stays in every context.
    MessagePinned {
        /// A prompt or an answer.
        message_id: Uuid,
    },
    /// It no longer does.
    MessageUnpinned {
        /// A prompt or an answer.
        message_id: Uuid,
    },
    /// A summary no longer stands for what it summarises.
    SummaryDismissed {
        /// The summary.
        summary: AnswerId,
    },
    /// A message was removed with everything that hangs under it.
    MessageDeleted {
        /// A prompt or an answer.
        message_id: Uuid,
        /// How many messages went with it, itself included.
        removed: u64,
    },
}

crate::event_catalogue!(SessionEvent {
    SessionOpened => ("session_opened", "1"),
    SessionRenamed => ("session_renamed", "1"),
    SystemPromptSet => ("system_prompt_set", "1"),
    SessionAnnotated => ("session_annotated", "1"),
    ModelSwitched => ("model_switched", "1"),
    SessionArchived => ("session_archived", "1"),
    SessionUnarchived => ("session_unarchived", "1"),
    SessionDeleted => ("session_deleted", "1"),
    SessionRestored => ("session_restored", "1"),
    SessionErased => ("session_erased", "1"),
    BranchActivated => ("branch_activated", "1"),
    MessagePinned => ("message_pinned", "1"),
    MessageUnpinned => ("message_unpinned", "1"),
    SummaryDismissed => ("summary_dismissed", "1"),
    MessageDeleted => ("message_deleted", "1"),
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

impl Session {
    /// The one event of a command; none when it is so already.
    fn decide(&self, command: SessionCommand) -> Result<Option<SessionEvent>, SessionError> {
        let of_deleted = matches!(command, SessionCommand::Delete(_) | SessionCommand::Erase);
        if self.is_erased || (self.is_deleted && !of_deleted) {
            return Err(SessionError::NotFound);
        }
        let (changes, event) = match command {
            SessionCommand::Open { .. } | SessionCommand::Change { .. } => return Ok(None),
            SessionCommand::Entitle { title } => {
                (self.title.is_none(), SessionEvent::SessionRenamed { title: title.into() })
            }
            SessionCommand::SwitchModel { model } => {
                (self.model.as_ref() != Some(&model), SessionEvent::ModelSwitched { model })
            }
            SessionCommand::Archive(true) => (!self.is_archived, SessionEvent::SessionArchived {}),
            SessionCommand::Archive(false) => (self.is_archived, SessionEvent::SessionUnarchived {}),
            SessionCommand::Delete(true) => (!self.is_deleted, SessionEvent::SessionDeleted {}),
            SessionCommand::Delete(false) => (self.is_deleted, SessionEvent::SessionRestored {}),
            // Restored meanwhile: nothing is erased.
            SessionCommand::Erase => (self.is_deleted, SessionEvent::SessionErased {}),
            // What was added since the same choice before it may have taken the branch elsewhere: it counts anew.
            SessionCommand::Activate { message_id } => (true, SessionEvent::BranchActivated { message_id }),
            SessionCommand::Pin { message_id, pinned: true } => {
                (!self.pinned.contains(&message_id), SessionEvent::MessagePinned { message_id })
            }
            SessionCommand::Pin { message_id, pinned: false } => {
                (self.pinned.contains(&message_id), SessionEvent::MessageUnpinned { message_id })
            }
            SessionCommand::DismissSummary { summary } => {
                (!self.dismissed.contains(&summary), SessionEvent::SummaryDismissed { summary })
            }
            SessionCommand::DeleteMessage { message_id, removed } => {
                (!self.deleted.contains(&message_id), SessionEvent::MessageDeleted { message_id, removed })
            }
        };
        Ok(changes.then_some(event))
    }
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
            _ if self.owner_id.is_none() => Err(SessionError::NotFound),
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
            command => {
                if let Some(event) = self.decide(command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::SessionOpened { owner_id, title, model, system_prompt } => {
                *self = Self { owner_id: Some(owner_id), title, model, system_prompt, ..Self::default() };
            }
            SessionEvent::SessionRenamed { title } => self.title = Some(title),
            SessionEvent::SystemPromptSet { system_prompt } => self.system_prompt = Some(system_prompt),
            SessionEvent::SessionAnnotated { metadata } => {
                self.metadata = serde_json::from_str(metadata.as_str()).unwrap_or(Value::Null);
            }
            SessionEvent::ModelSwitched { model } => self.model = Some(model),
            SessionEvent::SessionArchived {} => self.is_archived = true,
            SessionEvent::SessionUnarchived {} => self.is_archived = false,
            SessionEvent::SessionDeleted {} => self.is_deleted = true,
            SessionEvent::SessionRestored {} => self.is_deleted = false,
            SessionEvent::SessionErased {} => self.is_erased = true,
            SessionEvent::BranchActivated { message_id } => {
                self.activated.retain(|activated| *activated != message_id);
                self.activated.push(message_id);
            }
            SessionEvent::MessagePinned { message_id } => {
                self.pinned.insert(message_id);
            }
            SessionEvent::MessageUnpinned { message_id } => {
                self.pinned.remove(&message_id);
            }
            SessionEvent::SummaryDismissed { summary } => {
                self.dismissed.insert(summary);
            }
            SessionEvent::MessageDeleted { message_id, .. } => {
                self.deleted.insert(message_id);
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
    fn what_is_so_already_leaves_no_trace() {
        let message_id = Uuid::from_u128(1);
        for command in [
            SessionCommand::SwitchModel { model: "openai/gpt-4o".to_owned() },
            SessionCommand::Archive(true),
            SessionCommand::Delete(true),
            SessionCommand::Pin { message_id, pinned: true },
            SessionCommand::DismissSummary { summary: AnswerId::new(message_id) },
            SessionCommand::DeleteMessage { message_id, removed: 1 },
        ] {
            let mut session = Session::default();
            session.apply(opened());
            let event = session.decide(command.clone()).unwrap().unwrap();
            session.apply(event);
            assert_eq!(session.decide(command), Ok(None));
        }
    }

    #[test]
    fn a_model_names_only_what_nobody_has_named() {
        let entitle = SessionCommand::Entitle { title: "Coffee".to_owned() };
        TestFramework::<Session>::with(()).given(vec![opened()]).when(entitle.clone()).then_expect_events(vec![]);
        let SessionEvent::SessionOpened { owner_id, model, system_prompt, .. } = opened() else { unreachable!() };
        let untitled = SessionEvent::SessionOpened { owner_id, title: None, model, system_prompt };
        TestFramework::<Session>::with(())
            .given(vec![untitled])
            .when(entitle)
            .then_expect_events(vec![SessionEvent::SessionRenamed { title: "Coffee".into() }]);
    }

    #[test]
    fn a_deleted_session_can_only_be_restored() {
        TestFramework::<Session>::with(())
            .given(vec![opened(), SessionEvent::SessionDeleted {}])
            .when(SessionCommand::Archive(true))
            .then_expect_error(SessionError::NotFound);
        TestFramework::<Session>::with(())
            .given(vec![opened(), SessionEvent::SessionDeleted {}])
            .when(SessionCommand::Delete(false))
            .then_expect_events(vec![SessionEvent::SessionRestored {}]);
    }

    #[test]
    fn only_a_deleted_session_can_be_erased_and_then_nothing_more() {
        let (deleted, erased) = (SessionEvent::SessionDeleted {}, SessionEvent::SessionErased {});
        let given = |given| TestFramework::<Session>::with(()).given(given);
        given(vec![opened()]).when(SessionCommand::Erase).then_expect_events(vec![]);
        given(vec![opened(), deleted.clone()]).when(SessionCommand::Erase).then_expect_events(vec![erased.clone()]);
        for command in [SessionCommand::Delete(false), SessionCommand::Erase, SessionCommand::Archive(true)] {
            let given = given(vec![opened(), deleted.clone(), erased.clone()]);
            given.when(command).then_expect_error(SessionError::NotFound);
        }
    }

    #[test]
    fn an_unknown_session_cannot_be_renamed() {
        TestFramework::<Session>::with(())
            .given_no_previous_events()
            .when(change(Some("x"), None))
            .then_expect_error(SessionError::NotFound);
    }
}
