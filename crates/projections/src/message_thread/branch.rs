//! The active branch: the one path through the tree that a conversation shows and goes on from.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{MessageRole, MessageRow};

/// The messages of the active branch, oldest first: from the newest prompt upward, and below it its active answer.
pub(crate) fn active_branch(rows: &HashMap<Uuid, MessageRow>) -> Vec<&MessageRow> {
    let newest = rows.values().filter(|row| row.role == MessageRole::User).max_by_key(|row| row.first);
    let Some(newest) = newest else { return vec![] };
    let answers = rows.values().filter(|row| row.parent_id == Some(newest.id) && row.role == MessageRole::Assistant);
    // What can be gone on from, and of that the newest: the rule of the write side.
    let active = answers.max_by_key(|row| (row.status.is_final() && !row.content.is_empty(), row.id));
    let (mut branch, mut seen, mut next) = (Vec::new(), HashSet::new(), active.or(Some(newest)));
    while let Some(row) = next.filter(|row| seen.insert(row.id)) {
        branch.push(row);
        next = row.parent_id.and_then(|parent| rows.get(&parent));
    }
    branch.reverse();
    branch
}
