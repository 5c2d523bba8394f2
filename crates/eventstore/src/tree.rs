//! Adding to a session's tree of messages, and deleting from it, without either missing the other.
//!
//! A prompt is decided on what its session was like, and is an aggregate of its own: a deletion at the same time conflicts
//! with it nowhere, and it would hang under something that is gone. So whoever adds and whoever deletes pass the same door,
//! the ones together, the others alone, with the first statement of their transaction; what they find behind it is
//! compared with what they had seen.

use polyphony_domain::ids::SessionId;
use sqlx::PgConnection;

use crate::{StoreError, error::Refused};

/// Who else may be at work in the same session until the commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// Anybody: the command doesn't care.
    #[default]
    Anybody,
    /// Others who add to it.
    Others,
    /// Nobody who adds to it or deletes from it.
    Nobody,
}

/// What a command was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenTree {
    /// So many messages were deleted, and the session itself was not.
    Deletions(u64),
    /// There were so many prompts and answers.
    Messages {
        /// Prompts.
        prompts: u64,
        /// Answers.
        answers: u64,
    },
}

impl SeenTree {
    /// Refuses where it is another by now.
    pub(crate) async fn expect(self, connection: &mut PgConnection, session: SessionId) -> Result<(), StoreError> {
        let found = match self {
            Self::Deletions(_) => {
                let (count, is_deleted): (i64, bool) = sqlx::query_as(
                    "SELECT count(*) FILTER (WHERE event_type = 'message_deleted'), \
                        count(*) FILTER (WHERE event_type = 'session_deleted') \
                            > count(*) FILTER (WHERE event_type = 'session_restored') \
                     FROM events WHERE aggregate_type = 'session' AND aggregate_id = $1 \
                        AND event_type IN ('message_deleted', 'session_deleted', 'session_restored')",
                )
                .bind(session.to_string())
                .fetch_one(connection)
                .await?;
                if is_deleted {
                    return Err(Refused::TreeChanged.into());
                }
                Self::Deletions(count.unsigned_abs())
            }
            Self::Messages { .. } => {
                let (prompts, answers): (i64, i64) = sqlx::query_as(
                    "SELECT count(*) FILTER (WHERE event_type = 'prompt_posted'), \
                        count(*) FILTER (WHERE event_type = 'answer_requested') FROM events WHERE root_id = $1",
                )
                .bind(session.as_uuid())
                .fetch_one(connection)
                .await?;
                Self::Messages { prompts: prompts.unsigned_abs(), answers: answers.unsigned_abs() }
            }
        };
        if found == self { Ok(()) } else { Err(Refused::TreeChanged.into()) }
    }
}
