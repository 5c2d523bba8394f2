//! The active branch: the one path through the tree that a conversation shows and goes on from.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use polyphony_domain::record::Cursor;
use uuid::Uuid;

use super::{MessageRole, MessageRow};

/// A message as the tree sees it: everything but what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) is_answer: bool,
    /// An answer that can be gone on from.
    pub(crate) is_usable: bool,
    /// Place of its first event.
    pub(crate) first: Cursor,
}

impl From<&MessageRow> for Node {
    fn from(row: &MessageRow) -> Self {
        Self {
            id: row.id,
            parent_id: row.parent_id,
            is_answer: row.role == MessageRole::Assistant,
            is_usable: row.is_usable(),
            first: row.first,
        }
    }
}

/// The messages of a session by id.
pub(crate) type Tree = HashMap<Uuid, Node>;

/// The active branch, oldest first: the newest prompt with what it hangs from, and below it its active answer.
pub(crate) fn active_branch(tree: &Tree) -> Vec<Uuid> {
    let mut prompts: Vec<&Node> = tree.values().filter(|node| !node.is_answer).collect();
    prompts.sort_unstable_by_key(|node| Reverse((node.first, node.id)));
    // A prompt under something that isn't there is no part of the conversation, unless there is nothing else.
    let newest = prompts.iter().find(|node| path_to(tree, node).1).or_else(|| prompts.first());
    let Some(newest) = newest else { return vec![] };
    let (mut branch, _) = path_to(tree, newest);
    let answers = tree.values().filter(|node| node.is_answer && node.parent_id == Some(newest.id));
    let answers = answers.filter(|node| !branch.contains(&node.id));
    // The rule of `Turn::active_answer`: the newest with something to go on from, else the newest of all.
    let active = answers.max_by_key(|node| (node.is_usable, node.id)).map(|node| node.id);
    branch.extend(active);
    branch
}

/// The path from the root to a node, and whether it is whole.
fn path_to(tree: &Tree, node: &Node) -> (Vec<Uuid>, bool) {
    let (mut path, mut seen, mut node) = (vec![node.id], HashSet::from([node.id]), node);
    let is_whole = loop {
        let Some(parent) = node.parent_id else { break true };
        let Some(parent) = tree.get(&parent).filter(|parent| seen.insert(parent.id)) else { break false };
        path.push(parent.id);
        node = parent;
    };
    path.reverse();
    (path, is_whole)
}

/// All messages in the order in which they came.
pub(crate) fn in_order(tree: &Tree) -> Vec<Uuid> {
    let mut nodes: Vec<&Node> = tree.values().collect();
    nodes.sort_unstable_by_key(|node| (node.first, node.id));
    nodes.into_iter().map(|node| node.id).collect()
}

/// Number of answers by the prompt that they hang from: the versions that each of them is one of.
pub(crate) fn versions(tree: &Tree) -> HashMap<Option<Uuid>, u32> {
    let mut versions = HashMap::new();
    for node in tree.values().filter(|node| node.is_answer) {
        *versions.entry(node.parent_id).or_default() += 1;
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: i64) -> Uuid {
        Uuid::from_u128(n as u128)
    }

    fn node(n: i64, parent: Option<i64>, is_answer: bool, is_usable: bool) -> (Uuid, Node) {
        let first = Cursor { xid: 1, position: n };
        (id(n), Node { id: id(n), parent_id: parent.map(id), is_answer, is_usable, first })
    }

    fn prompt(n: i64, parent: Option<i64>) -> (Uuid, Node) {
        node(n, parent, false, false)
    }

    #[test]
    fn the_branch_ends_with_the_newest_usable_answer_of_the_newest_prompt() {
        let mut tree = Tree::from([
            prompt(1, None),
            node(2, Some(1), true, true),
            node(3, Some(1), true, true),
            prompt(4, Some(2)),
            node(5, Some(4), true, true),
            node(6, Some(4), true, false),
        ]);
        assert_eq!(active_branch(&tree), [1, 2, 4, 5].map(id));
        assert_eq!(versions(&tree), HashMap::from([(Some(id(1)), 2), (Some(id(4)), 2)]));
        assert_eq!(in_order(&tree), [1, 2, 3, 4, 5, 6].map(id));
        // None is usable: the newest of all.
        tree.extend([node(5, Some(4), true, false)]);
        assert_eq!(active_branch(&tree), [1, 2, 4, 6].map(id));
    }

    #[test]
    fn a_prompt_under_something_that_is_gone_is_not_the_newest() {
        let tree = Tree::from([prompt(1, None), node(2, Some(1), true, true), prompt(9, Some(8))]);
        assert_eq!(active_branch(&tree), [1, 2].map(id));
        let tree = Tree::from([prompt(9, Some(8))]);
        assert_eq!(active_branch(&tree), [id(9)]);
        assert!(active_branch(&Tree::new()).is_empty());
    }

    #[test]
    fn a_circle_ends() {
        let tree = Tree::from([prompt(1, Some(2)), node(2, Some(1), true, true)]);
        assert_eq!(active_branch(&tree), [2, 1].map(id));
    }
}
