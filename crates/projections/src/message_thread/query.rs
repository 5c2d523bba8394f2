//! Reading the messages: first the tree, then only those that are asked for.

use std::collections::HashMap;

use polyphony_domain::ids::{AccountId, SessionId};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{
    MessagePage, MessageRole, MessageRow, MessageThread,
    branch::{self, Node, Tree},
};
use crate::{
    ProjectionError, checkpoint,
    model::{self, RowModel},
    typed::TypedEvent,
};

/// Which messages of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageQuery {
    /// Only those before this one.
    pub(crate) before: Option<Uuid>,
    /// At most this many.
    pub(crate) limit: u32,
    /// The whole tree instead of the active branch.
    pub(crate) tree: bool,
}

/// The messages of an owner's session that hang from `parent`, or all of them.
async fn tree(
    pool: &PgPool,
    owner: AccountId,
    session: SessionId,
    parent: Option<Uuid>,
) -> Result<Tree, ProjectionError> {
    let rows = sqlx::query(
        "SELECT id, parent_id, is_answer, is_usable, first_xid::text AS xid_text, first_position FROM read.messages \
         WHERE session_id = $1 AND owner_id = $2 AND ($3::uuid IS NULL OR parent_id = $3)",
    )
    .bind(session.as_uuid())
    .bind(owner.as_uuid())
    .bind(parent)
    .fetch_all(pool)
    .await?;
    let node = |row: sqlx::postgres::PgRow| {
        Ok(Node {
            id: row.try_get(0)?,
            parent_id: row.try_get(1)?,
            is_answer: row.try_get(2)?,
            is_usable: row.try_get(3)?,
            first: checkpoint::cursor(row.try_get(4)?, row.try_get(5)?)?,
        })
    };
    rows.into_iter().map(|row| node(row).map(|node| (node.id, node))).collect()
}

/// Whether a session is a person's and has not been deleted, as the log has it.
async fn is_open(pool: &PgPool, owner: AccountId, session: SessionId) -> Result<bool, ProjectionError> {
    let row = sqlx::query(
        "SELECT owner_id = $2 AND event_type NOT IN ('session_deleted', 'session_erased') FROM events \
         WHERE aggregate_type = 'session' AND aggregate_id = $1 \
         AND (sequence = 1 OR event_type IN ('session_deleted', 'session_restored', 'session_erased')) \
         ORDER BY sequence DESC LIMIT 1",
    )
    .bind(session.to_string())
    .bind(owner.as_uuid())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// Some messages of a session. `None` when the session isn't the caller's, or `before` isn't among them. `missing`
/// are events of the session that the table has not seen.
pub(crate) async fn page(
    pool: &PgPool,
    owner: AccountId,
    session: SessionId,
    query: MessageQuery,
    missing: &[TypedEvent],
) -> Result<Option<MessagePage>, ProjectionError> {
    let changed = model::reduced::<MessageThread>(pool, missing).await?;
    let mut tree = tree(pool, owner, session, None).await?;
    tree.extend(changed.values().map(|row| (row.id, Node::from(row))));
    if !is_open(pool, owner, session).await? {
        return Ok(None);
    }
    let Some(chosen) = choose(&tree, query) else { return Ok(None) };
    let stored: Vec<Uuid> = chosen.ids.iter().filter(|id| !changed.contains_key(id)).copied().collect();
    let mut rows = model::load_rows::<MessageThread>(pool, MessageThread::TABLE, &stored).await?;
    rows.extend(changed);
    Ok(Some(chosen.page(&tree, rows)))
}

/// Some messages of a session that is known whole. `None` when `before` isn't among them.
pub(crate) fn of_rows(rows: HashMap<Uuid, MessageRow>, query: MessageQuery) -> Option<MessagePage> {
    let tree: Tree = rows.values().map(|row| (row.id, Node::from(row))).collect();
    choose(&tree, query).map(|chosen| chosen.page(&tree, rows))
}

/// The messages that a query is about.
struct Chosen {
    ids: Vec<Uuid>,
    /// Whether there are earlier ones.
    has_before: bool,
}

fn choose(tree: &Tree, query: MessageQuery) -> Option<Chosen> {
    let mut ids = if query.tree { branch::in_order(tree) } else { branch::active_branch(tree) };
    if let Some(before) = query.before {
        let end = ids.iter().position(|id| *id == before)?;
        ids.truncate(end);
    }
    let cut = ids.len().saturating_sub(query.limit as usize);
    Some(Chosen { ids: ids.split_off(cut), has_before: cut > 0 })
}

impl Chosen {
    fn page(self, tree: &Tree, mut rows: HashMap<Uuid, MessageRow>) -> MessagePage {
        let versions = branch::versions(tree);
        let found = self.ids.into_iter().filter_map(|id| rows.remove(&id));
        let messages: Vec<(MessageRow, u32)> = found
            .map(|row| {
                let count = match row.role {
                    MessageRole::User => 1,
                    MessageRole::Assistant => versions.get(&row.parent_id).copied().unwrap_or(1),
                };
                (row, count)
            })
            .collect();
        let next_before = messages.first().filter(|_| self.has_before).map(|(row, _)| row.id);
        MessagePage { messages, next_before }
    }
}

/// How many versions of a message there are among all messages of its session.
pub(crate) fn versions_of(row: &MessageRow, rows: &HashMap<Uuid, MessageRow>) -> u32 {
    if row.role == MessageRole::User {
        return 1;
    }
    let tree: Tree = rows.values().map(|row| (row.id, Node::from(row))).collect();
    branch::versions(&tree).get(&row.parent_id).copied().unwrap_or(1)
}

/// One message of a caller, with the number of its versions. `missing` are the caller's events that the table has
/// not seen.
pub(crate) async fn one(
    pool: &PgPool,
    owner: AccountId,
    id: Uuid,
    missing: &[TypedEvent],
) -> Result<Option<(MessageRow, u32)>, ProjectionError> {
    let mut changed = model::reduced::<MessageThread>(pool, missing).await?;
    let row = match changed.get(&id) {
        Some(row) => Some(row.clone()),
        None => model::load_rows::<MessageThread>(pool, MessageThread::TABLE, &[id]).await?.remove(&id),
    };
    let Some(row) = row.filter(|row| row.owner_id == owner) else { return Ok(None) };
    if !is_open(pool, owner, row.session_id).await? {
        return Ok(None);
    }
    if row.role == MessageRole::User {
        return Ok(Some((row, 1)));
    }
    let mut siblings = tree(pool, owner, row.session_id, row.parent_id).await?;
    changed.retain(|_, other| other.parent_id == row.parent_id);
    siblings.extend(changed.values().map(|row| (row.id, Node::from(row))));
    let count = branch::versions(&siblings).get(&row.parent_id).copied().unwrap_or(1);
    Ok(Some((row, count)))
}
