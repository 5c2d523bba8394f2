//! Adding to a session's tree of messages, and deleting from it, without either missing the other.
//!
//! A prompt is decided on what its session was like, and is an aggregate of its own: a deletion at the same time conflicts
//! with it nowhere, and it would hang under something that is gone. So whoever adds and whoever deletes pass the same door,
//! the ones together, the others alone, before their events are written; what they find behind it is compared with what
//! they had seen.

use crate::{StoreError, statement::Statement};

/// Who else may be at work in the same session until the commit, and what the command was decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// Anybody: the command doesn't care.
    #[default]
    Anybody,
    /// Others who add to it. The session isn't deleted, and so many of its messages are.
    Others {
        /// Deleted messages.
        deletions: u64,
    },
    /// Nobody who adds to it or deletes from it.
    Nobody,
    /// The same, and there are so many messages.
    NobodySince {
        /// Prompts.
        prompts: u64,
        /// Answers.
        answers: u64,
    },
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Beside {
    /// Puts the door into the statement, and returns what the events have to be selected from besides.
    pub(crate) fn write(self, statement: &mut Statement, session: &str) -> Result<&'static str, StoreError> {
        // Functions, since a statement's own snapshot is older than its way through the door.
        let passed = match self {
            Self::Anybody => return Ok(""),
            Self::Others { deletions } => {
                let deletions = statement.bind(count(deletions))?;
                format!("ops.add_to_tree({session}, {deletions})")
            }
            Self::Nobody => format!("ops.delete_from_tree({session}, NULL, NULL)"),
            Self::NobodySince { prompts, answers } => {
                let (prompts, answers) = (statement.bind(count(prompts))?, statement.bind(count(answers))?);
                format!("ops.delete_from_tree({session}, {prompts}, {answers})")
            }
        };
        statement.add(format!("door AS MATERIALIZED (SELECT {passed})"));
        Ok(", door")
    }
}
