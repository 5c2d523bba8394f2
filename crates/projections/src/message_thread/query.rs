//! Reading the messages: first the tree, then only those that are asked for.

use std::collections::HashMap;

use polyphony_domain::{
    branch::{Node, Tree},
    ids::{AccountId, SessionId},
    turn::Standing,
};
use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{MessagePage, MessageRole, MessageRow, MessageThread, Placed};
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

/// A standing as the table has it.
pub(super) const fn number(standing: Standing) -> i16 {
    match standing {
        Standing::Empty => 0,
        Standing::Aside => 1,
        Standing::Good => 2,
    }
}

fn node(row: &PgRow) -> Result<Node, ProjectionError> {
    let standing = row.try_get::<Option<i16>, _>(2)?;
    let chosen = match row.try_get::<Option<String>, _>(5)? {
        Some(xid) => Some(checkpoint::cursor(xid, row.try_get(6)?)?),
        None => None,
    };
    Ok(Node {
        id: row.try_get(0)?,
        parent: row.try_get(1)?,
        standing: standing.map(|standing| match standing {
            0 => Standing::Empty,
            1 => Standing::Aside,
            _ => Standing::Good,
        }),
        first: checkpoint::cursor(row.try_get(3)?, row.try_get(4)?)?,
        chosen,
        is_deleted: row.try_get(7)?,
        is_hidden: row.try_get(8)?,
    })
}

/// The messages of an owner's session; only those that hang from `parent` where one is given. `changed` are rows as
/// they will be once the table has seen everything.
async fn tree(
    pool: &PgPool,
    owner: AccountId,
    session: SessionId,
    parent: Option<Option<Uuid>>,
    changed: &HashMap<Uuid, MessageRow>,
) -> Result<Tree, ProjectionError> {
    let rows = sqlx::query(
        "SELECT id, parent_id, standing, first_xid::text AS xid_text, first_position, \
         chosen_xid::text AS chosen_text, chosen_position, is_deleted, is_hidden FROM read.messages \
         WHERE session_id = $1 AND owner_id = $2 AND ($3 OR parent_id IS NOT DISTINCT FROM $4)",
    )
    .bind(session.as_uuid())
    .bind(owner.as_uuid())
    .bind(parent.is_none())
    .bind(parent.flatten())
    .fetch_all(pool)
    .await?;
    let changed =
        changed.values().filter(|row| row.session_id == session && parent.is_none_or(|parent| row.parent_id == parent));
    rows.iter().map(node).chain(changed.map(|row| Ok(Node::from(row)))).collect()
}

/// Whether anything of a session is deleted or hidden, so that a message may have no place of its own.
async fn has_gone(
    pool: &PgPool,
    session: SessionId,
    changed: &HashMap<Uuid, MessageRow>,
) -> Result<bool, ProjectionError> {
    if changed.values().any(|row| row.session_id == session && (row.is_deleted || row.is_hidden)) {
        return Ok(true);
    }
    let row =
        sqlx::query("SELECT EXISTS (SELECT FROM read.messages WHERE session_id = $1 AND (is_deleted OR is_hidden))")
            .bind(session.as_uuid())
            .fetch_one(pool)
            .await?;
    Ok(row.try_get(0)?)
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

fn placed(tree: &Tree, row: MessageRow) -> Placed {
    let versions = u32::try_from(tree.siblings(row.id).len()).unwrap_or(u32::MAX);
    let version = if row.role == MessageRole::User { tree.place(row.id) } else { row.version };
    Placed { row, version, versions }
}

/// The stored rows of some messages, but for those that have changed since.
async fn load(
    pool: &PgPool,
    ids: &[Uuid],
    changed: &HashMap<Uuid, MessageRow>,
) -> Result<HashMap<Uuid, MessageRow>, ProjectionError> {
    let stored: Vec<Uuid> = ids.iter().filter(|id| !changed.contains_key(id)).copied().collect();
    model::load_rows::<MessageThread>(pool, MessageThread::TABLE, &stored).await
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
    let tree = tree(pool, owner, session, None, &changed).await?;
    if !is_open(pool, owner, session).await? {
        return Ok(None);
    }
    let Some(chosen) = choose(&tree, query) else { return Ok(None) };
    let mut rows = load(pool, &chosen.ids, &changed).await?;
    rows.extend(changed);
    Ok(Some(chosen.page(&tree, rows)))
}

/// Some messages of a session that is known whole. `None` when `before` isn't among them.
pub(crate) fn of_rows(rows: HashMap<Uuid, MessageRow>, query: MessageQuery) -> Option<MessagePage> {
    let tree: Tree = rows.values().map(Node::from).collect();
    choose(&tree, query).map(|chosen| chosen.page(&tree, rows))
}

/// One message of a session that is known whole; `None` where a person doesn't see it.
pub(crate) fn of_rows_one(mut rows: HashMap<Uuid, MessageRow>, id: Uuid) -> Option<Placed> {
    let tree: Tree = rows.values().map(Node::from).collect();
    tree.path_to(id)?;
    rows.remove(&id).map(|row| placed(&tree, row))
}

/// The messages that a query is about.
struct Chosen {
    ids: Vec<Uuid>,
    /// Whether there are earlier ones.
    has_before: bool,
}

fn choose(tree: &Tree, query: MessageQuery) -> Option<Chosen> {
    let mut ids = if query.tree { tree.in_order() } else { tree.active_branch() };
    if let Some(before) = query.before {
        let end = ids.iter().position(|id| *id == before)?;
        ids.truncate(end);
    }
    let cut = ids.len().saturating_sub(query.limit as usize);
    Some(Chosen { ids: ids.split_off(cut), has_before: cut > 0 })
}

impl Chosen {
    fn page(self, tree: &Tree, mut rows: HashMap<Uuid, MessageRow>) -> MessagePage {
        let found = self.ids.into_iter().filter_map(|id| rows.remove(&id));
        let messages: Vec<Placed> = found.map(|row| placed(tree, row)).collect();
        let next_before = messages.first().filter(|_| self.has_before).map(|placed| placed.row.id);
        MessagePage { messages, next_before }
    }
}

/// A message of a caller with the tree around it, at least as far as its siblings.
struct Found {
    row: MessageRow,
    tree: Tree,
    changed: HashMap<Uuid, MessageRow>,
}

async fn find(
    pool: &PgPool,
    owner: AccountId,
    id: Uuid,
    missing: &[TypedEvent],
) -> Result<Option<Found>, ProjectionError> {
    let changed = model::reduced::<MessageThread>(pool, missing).await?;
    let row = match changed.get(&id) {
        Some(row) => Some(row.clone()),
        None => model::load_rows::<MessageThread>(pool, MessageThread::TABLE, &[id]).await?.remove(&id),
    };
    let Some(row) = row.filter(|row| row.owner_id == owner) else { return Ok(None) };
    if !is_open(pool, owner, row.session_id).await? {
        return Ok(None);
    }
    // The whole tree only where a message may hang under something that is gone.
    let tree = if has_gone(pool, row.session_id, &changed).await? {
        let tree = tree(pool, owner, row.session_id, None, &changed).await?;
        if tree.path_to(id).is_none() {
            return Ok(None);
        }
        tree
    } else {
        tree(pool, owner, row.session_id, Some(row.parent_id), &changed).await?
    };
    Ok(Some(Found { row, tree, changed }))
}

/// One message of a caller. `missing` are the caller's events that the table has not seen.
pub(crate) async fn one(
    pool: &PgPool,
    owner: AccountId,
    id: Uuid,
    missing: &[TypedEvent],
) -> Result<Option<Placed>, ProjectionError> {
    let found = find(pool, owner, id, missing).await?;
    Ok(found.map(|found| placed(&found.tree, found.row)))
}

/// A message of a caller and those in its place, in the order in which they came.
pub(crate) async fn versions(
    pool: &PgPool,
    owner: AccountId,
    id: Uuid,
    missing: &[TypedEvent],
) -> Result<Option<Vec<Placed>>, ProjectionError> {
    let Some(Found { tree, mut changed, .. }) = find(pool, owner, id, missing).await? else { return Ok(None) };
    let ids = tree.siblings(id);
    let mut rows = load(pool, &ids, &changed).await?;
    let found = ids.into_iter().filter_map(|id| changed.remove(&id).or_else(|| rows.remove(&id)));
    Ok(Some(found.map(|row| placed(&tree, row)).collect()))
}
