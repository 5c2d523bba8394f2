//! Reading the session list.

use std::cmp::Reverse;

use polyphony_domain::ids::AccountId;
use sqlx::{PgPool, Row, types::Json};
use uuid::Uuid;

use super::{SessionList, SessionRow};
use crate::{
    ProjectionError,
    model::{self, RowModel},
    reads::{Page, SessionQuery},
    typed::TypedEvent,
};

/// One page, newest activity first, with events applied that the table has not seen.
pub(crate) async fn page(
    pool: &PgPool,
    owner: AccountId,
    query: SessionQuery,
    missing: &[TypedEvent],
) -> Result<Page<SessionRow>, ProjectionError> {
    let (limit, skip) = (u64::from(query.limit), u64::from(query.page.saturating_sub(1)) * u64::from(query.limit));
    if missing.is_empty() {
        return stored(pool, owner, query.archived, &[], skip, limit).await;
    }
    // The rows that change are taken out of the table's order and put in where they belong now.
    let changed = model::reduced::<SessionList>(pool, missing).await?;
    let without: Vec<Uuid> = model::keys::<SessionList>(missing);
    let mut page = stored(pool, owner, query.archived, &without, 0, skip + limit).await?;
    let changed = changed
        .into_values()
        .filter(|row| row.owner_id == owner && row.is_archived() == query.archived && !row.is_deleted());
    let before = page.items.len();
    page.items.extend(changed);
    page.total += (page.items.len() - before) as u64;
    page.items.sort_by_key(|row| Reverse((row.updated_at, row.id)));
    page.items = page.items.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).collect();
    page.items.truncate(query.limit as usize);
    Ok(page)
}

/// Some rows of the table and the number of all, `without` left out. The total is there also beyond the last page.
async fn stored(
    pool: &PgPool,
    owner: AccountId,
    archived: bool,
    without: &[Uuid],
    skip: u64,
    limit: u64,
) -> Result<Page<SessionRow>, ProjectionError> {
    let of_owner = "FROM read.sessions WHERE owner_id = $1 AND archived = $2 AND NOT deleted AND id <> ALL($3)";
    let sql = format!(
        "SELECT (SELECT count(*) {of_owner}), page.data FROM (SELECT) AS one LEFT JOIN LATERAL \
         (SELECT id, updated_at, data {of_owner} ORDER BY updated_at DESC, id DESC LIMIT $4 OFFSET $5) AS page ON true \
         ORDER BY page.updated_at DESC, page.id DESC"
    );
    let rows = sqlx::query(&sql)
        .bind(owner.as_uuid())
        .bind(archived)
        .bind(without)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(i64::try_from(skip).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?;
    let mut page = Page { items: Vec::with_capacity(rows.len()), total: 0 };
    for row in &rows {
        page.total = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
        page.items.extend(row.try_get::<Option<Json<SessionRow>>, _>(1)?.map(|row| row.0));
    }
    Ok(page)
}

/// One session of a caller.
pub(crate) async fn one(
    pool: &PgPool,
    owner: AccountId,
    id: Uuid,
    missing: &[TypedEvent],
) -> Result<Option<SessionRow>, ProjectionError> {
    let mut rows = model::load_rows::<SessionList>(pool, SessionList::TABLE, &[id]).await?;
    model::reduce_all::<SessionList>(&mut rows, missing);
    Ok(rows.remove(&id).filter(|row| row.owner_id == owner && !row.is_deleted()))
}
