//! The tree of a session's messages and its active branch: the one path that a conversation shows and goes on from.
//!
//! At each fork the branch takes the side that was touched last: a prompt or an answer was added there, or a person
//! chose a message there. What was deleted, and turns that are no conversation, are no part of it.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::{record::Cursor, turn::Standing};

/// A message as the tree sees it: everything but what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The message.
    pub id: Uuid,
    /// What it hangs from: a prompt from an answer, an answer from its prompt.
    pub parent: Option<Uuid>,
    /// What it is worth, for an answer; none for a prompt.
    pub standing: Option<Standing>,
    /// Place of its first event.
    pub first: Cursor,
    /// Place of the newest event by which a person chose it.
    pub chosen: Option<Cursor>,
    /// Whether it was deleted.
    pub is_deleted: bool,
    /// Whether it belongs to a turn that is no conversation.
    pub is_hidden: bool,
}

impl Node {
    /// Whether a person sees neither it nor what hangs under it.
    const fn is_gone(&self) -> bool {
        self.is_deleted || self.is_hidden
    }
}

/// The messages of a session.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: HashMap<Uuid, Node>,
    /// By parent, in the order in which they came.
    children: HashMap<Option<Uuid>, Vec<Uuid>>,
}

impl FromIterator<Node> for Tree {
    /// Of two nodes with one id the later one counts.
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        let nodes: HashMap<Uuid, Node> = nodes.into_iter().map(|node| (node.id, node)).collect();
        let mut in_order: Vec<&Node> = nodes.values().collect();
        in_order.sort_unstable_by_key(|node| (node.first, node.id));
        let mut children: HashMap<Option<Uuid>, Vec<Uuid>> = HashMap::new();
        for node in in_order {
            children.entry(node.parent).or_default().push(node.id);
        }
        Self { nodes, children }
    }
}

impl Tree {
    /// A message.
    pub fn get(&self, id: Uuid) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// Whether it has no messages at all, not even deleted ones.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn children(&self, parent: Option<Uuid>) -> impl Iterator<Item = &Node> {
        self.children.get(&parent).into_iter().flatten().filter_map(|id| self.nodes.get(id))
    }

    fn shown(&self, parent: Option<Uuid>) -> impl Iterator<Item = &Node> {
        self.children(parent).filter(|node| !node.is_gone())
    }

    /// The messages that a person sees, in the order in which they came: those with a whole path to the beginning.
    pub fn in_order(&self) -> Vec<Uuid> {
        let mut nodes: Vec<&Node> = self.below(None).filter_map(|id| self.nodes.get(&id)).collect();
        nodes.sort_unstable_by_key(|node| (node.first, node.id));
        nodes.into_iter().map(|node| node.id).collect()
    }

    /// A message and everything that hangs under it, as far as it is shown.
    pub fn subtree(&self, id: Uuid) -> Vec<Uuid> {
        std::iter::once(id).chain(self.below(Some(id))).collect()
    }

    /// What is shown below a parent. Every node has one parent, so a walk from the top meets each at most once.
    fn below(&self, parent: Option<Uuid>) -> impl Iterator<Item = Uuid> {
        let mut waiting: Vec<Uuid> = self.shown(parent).map(|node| node.id).collect();
        let mut seen = HashSet::new();
        std::iter::from_fn(move || {
            let id = waiting.pop()?;
            waiting.extend(self.shown(Some(id)).map(|node| node.id).filter(|child| seen.insert(*child)));
            Some(id)
        })
    }

    /// The path from the beginning to a message; `None` when there is none that a person sees.
    pub fn path_to(&self, id: Uuid) -> Option<Vec<Uuid>> {
        let (mut path, mut seen, mut next) = (vec![], HashSet::new(), Some(id));
        while let Some(id) = next {
            let node = self.nodes.get(&id).filter(|node| !node.is_gone() && seen.insert(node.id))?;
            path.push(id);
            next = node.parent;
        }
        path.reverse();
        Some(path)
    }

    /// The messages in the place of this one, itself included, in the order in which they came: the answers to the
    /// same prompt, or the prompts after the same answer.
    pub fn siblings(&self, id: Uuid) -> Vec<Uuid> {
        self.nodes.get(&id).map_or_else(Vec::new, |node| self.shown(node.parent).map(|node| node.id).collect())
    }

    /// The place of a prompt among those after the same answer, from 1; deleted ones keep theirs.
    pub fn place(&self, id: Uuid) -> u32 {
        let parent = self.nodes.get(&id).and_then(|node| node.parent);
        let before = self.children(parent).filter(|node| !node.is_hidden).take_while(|node| node.id != id);
        u32::try_from(before.count() + 1).unwrap_or(u32::MAX)
    }

    /// The active branch, oldest first.
    pub fn active_branch(&self) -> Vec<Uuid> {
        let touched = self.touched();
        let (mut branch, mut seen, mut parent) = (vec![], HashSet::new(), None);
        while let Some(next) = self.shown(parent).max_by_key(|node| (touched.get(&node.id), node.id)) {
            if !seen.insert(next.id) {
                break;
            }
            branch.push(next.id);
            parent = Some(next.id);
        }
        branch
    }

    /// When each message or something below it was touched last. An answer that came to nothing touches nothing, and
    /// an aside less than anything else.
    fn touched(&self) -> HashMap<Uuid, (Standing, Cursor)> {
        let own = |node: &Node| {
            let added = (node.standing.unwrap_or(Standing::Good), node.first);
            node.chosen.map_or(added, |chosen| added.max((Standing::Good, chosen)))
        };
        let mut nodes: Vec<&Node> = self.nodes.values().filter(|node| !node.is_gone()).collect();
        let mut touched: HashMap<Uuid, (Standing, Cursor)> = nodes.iter().map(|node| (node.id, own(node))).collect();
        // Children come after their parents, so from the newest on each is whole before it is passed up.
        nodes.sort_unstable_by_key(|node| std::cmp::Reverse((node.first, node.id)));
        for node in nodes {
            let Some(child) = touched.get(&node.id).copied() else { continue };
            if let Some(parent) = node.parent.and_then(|parent| touched.get_mut(&parent)) {
                *parent = child.max(*parent);
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: i64) -> Uuid {
        Uuid::from_u128(n as u128)
    }

    fn node(n: i64, parent: Option<i64>, standing: Option<Standing>) -> Node {
        let first = Cursor { xid: 1, position: n };
        let parent = parent.map(id);
        Node { id: id(n), parent, standing, first, chosen: None, is_deleted: false, is_hidden: false }
    }

    fn prompt(n: i64, parent: Option<i64>) -> Node {
        node(n, parent, None)
    }

    fn answer(n: i64, parent: i64) -> Node {
        node(n, Some(parent), Some(Standing::Good))
    }

    fn branch(nodes: &[Node]) -> Vec<u128> {
        let tree: Tree = nodes.iter().copied().collect();
        tree.active_branch().into_iter().map(|id| id.as_u128()).collect()
    }

    /// Two versions of an answer, a conversation that goes on from the first, with two versions at its end.
    fn conversation() -> Vec<Node> {
        vec![prompt(1, None), answer(2, 1), answer(3, 1), prompt(4, Some(2)), answer(5, 4), answer(6, 4)]
    }

    #[test]
    fn the_branch_goes_where_something_was_added_last() {
        let mut nodes = conversation();
        assert_eq!(branch(&nodes), [1, 2, 4, 6]);
        nodes.push(answer(7, 1));
        assert_eq!(branch(&nodes), [1, 7]);
        nodes.push(prompt(8, Some(3)));
        assert_eq!(branch(&nodes), [1, 3, 8]);
    }

    #[test]
    fn an_answer_that_came_to_nothing_is_shown_only_where_there_is_no_other() {
        let mut nodes = conversation();
        nodes[5].standing = Some(Standing::Empty);
        assert_eq!(branch(&nodes), [1, 2, 4, 5]);
        nodes[4].standing = Some(Standing::Empty);
        assert_eq!(branch(&nodes), [1, 2, 4, 6]);
        // A failed new version of an answer in the middle takes nobody away from the end.
        nodes.push(node(7, Some(1), Some(Standing::Empty)));
        assert_eq!(branch(&nodes), [1, 2, 4, 6]);
    }

    #[test]
    fn an_aside_stands_behind_the_answers_until_somebody_goes_on_from_it() {
        let mut nodes = vec![prompt(1, None), answer(2, 1), node(3, Some(1), Some(Standing::Aside))];
        assert_eq!(branch(&nodes), [1, 2]);
        nodes.push(prompt(4, Some(3)));
        assert_eq!(branch(&nodes), [1, 3, 4]);
    }

    #[test]
    fn a_choice_counts_until_something_newer_happens_elsewhere() {
        let mut nodes = conversation();
        nodes[2].chosen = Some(Cursor { xid: 2, position: 7 });
        assert_eq!(branch(&nodes), [1, 3]);
        nodes[4].chosen = Some(Cursor { xid: 2, position: 8 });
        assert_eq!(branch(&nodes), [1, 2, 4, 5]);
        let mut newer = prompt(9, Some(3));
        newer.first = Cursor { xid: 3, position: 9 };
        nodes.push(newer);
        assert_eq!(branch(&nodes), [1, 3, 9]);
    }

    #[test]
    fn what_is_deleted_goes_with_everything_under_it() {
        let mut nodes = conversation();
        nodes[1].is_deleted = true;
        assert_eq!(branch(&nodes), [1, 3]);
        let tree: Tree = nodes.iter().copied().collect();
        assert_eq!(tree.in_order(), [1, 3].map(id));
        assert_eq!(tree.path_to(id(5)), None);
        assert_eq!(tree.path_to(id(3)), Some(vec![id(1), id(3)]));
        assert_eq!(tree.siblings(id(3)), [id(3)]);
    }

    #[test]
    fn hidden_turns_are_no_part_of_the_conversation() {
        let mut nodes = conversation();
        nodes.push(Node { is_hidden: true, ..prompt(7, Some(6)) });
        nodes.push(answer(8, 7));
        nodes.push(prompt(9, Some(6)));
        let tree: Tree = nodes.iter().copied().collect();
        assert_eq!(branch(&nodes), [1, 2, 4, 6, 9]);
        assert_eq!((tree.in_order().len(), tree.path_to(id(8)), tree.place(id(9))), (7, None, 1));
        assert_eq!(tree.subtree(id(4)).len(), 4);
    }

    #[test]
    fn edited_prompts_are_siblings_that_keep_their_places() {
        let mut nodes = conversation();
        nodes.extend([prompt(7, Some(2)), prompt(8, Some(2))]);
        let tree: Tree = nodes.iter().copied().collect();
        assert_eq!(tree.siblings(id(4)), [4, 7, 8].map(id));
        assert_eq!([4, 7, 8].map(|n| tree.place(id(n))), [1, 2, 3]);
        nodes[3].is_deleted = true;
        let tree: Tree = nodes.iter().copied().collect();
        assert_eq!((tree.siblings(id(7)).len(), tree.place(id(7))), (2, 2));
    }

    #[test]
    fn what_hangs_from_nothing_or_in_a_circle_is_not_shown() {
        assert!(branch(&[prompt(9, Some(8))]).is_empty());
        assert!(branch(&[prompt(1, Some(2)), answer(2, 1)]).is_empty());
        assert!(branch(&[]).is_empty());
    }

    #[test]
    fn a_very_long_conversation_is_walked_without_recursion() {
        let nodes = (1..=20_000).map(|n| match (n, n % 2) {
            (1, _) => prompt(1, None),
            (_, 1) => prompt(n, Some(n - 1)),
            _ => answer(n, n - 1),
        });
        assert_eq!(nodes.collect::<Tree>().active_branch().len(), 20_000);
    }
}
