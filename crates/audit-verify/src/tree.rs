//! The Merkle tree of RFC 6962: leaves and nodes are hashed apart, and no leaf is ever moved as the tree grows.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf's data.
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A complete subtree: `2^level` leaves, the `index`-th of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subtree {
    /// Height above the leaves.
    pub level: u32,
    /// Place among the subtrees of its level.
    pub index: u64,
}

/// The right edge of a growing tree: the roots of its complete subtrees, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree of `size` leaves with these peaks; `None` when there can't be so many.
    pub fn new(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// How many leaves there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf, and tells of each subtree that it completes.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(Subtree, Hash)) {
        let (mut hash, mut level, mut rest) = (leaf, 0, self.size);
        while rest & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node(&left, &hash);
            level += 1;
            rest >>= 1;
            completed(Subtree { level, index: self.size >> level }, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }
}

/// The root over peaks, the largest first.
fn fold(peaks: &[Hash]) -> Hash {
    let mut peaks = peaks.iter().rev();
    let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
    peaks.fold(*last, |right, left| node(left, &right))
}

/// The complete subtrees that the leaves from `begin` to `end` (which is not among them) are made of, in order.
/// `begin` is a place where a subtree of that size can begin, as in every step of a proof.
fn cover(begin: u64, end: u64) -> Vec<Subtree> {
    let (mut subtrees, mut at) = (Vec::new(), begin);
    while at < end {
        let fits = (end - at).ilog2();
        let level = if at == 0 { fits } else { fits.min(at.trailing_zeros()) };
        subtrees.push(Subtree { level, index: at >> level });
        at += 1 << level;
    }
    subtrees
}

/// The complete subtrees at the edge of a tree of `size` leaves.
pub fn peaks_of(size: u64) -> Vec<Subtree> {
    cover(0, size)
}

/// One step of an inclusion proof: the root over these subtrees.
pub type Step = Vec<Subtree>;

/// What an inclusion proof of a leaf is made of, from the leaf to the root.
pub fn steps(index: u64, size: u64) -> Vec<Step> {
    let (mut steps, mut begin, mut end) = (Vec::new(), 0, size);
    while end - begin > 1 {
        // The largest power of two that is smaller than the range.
        let half = 1 << (end - begin - 1).ilog2();
        if index < begin + half {
            steps.push(cover(begin + half, end));
            end = begin + half;
        } else {
            steps.push(cover(begin, begin + half));
            begin += half;
        }
    }
    steps.reverse();
    steps
}

/// The hash of a step, given the roots of its subtrees.
pub fn step_hash(roots: &[Hash]) -> Hash {
    fold(roots)
}

/// The root of a complete subtree, given its leaves or any level of its nodes.
pub fn complete(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes =
            hashes.chunks(2).map(|pair| pair.iter().skip(1).fold(pair[0], |left, right| node(&left, right))).collect();
    }
    fold(&hashes)
}

/// The root that a leaf and its proof lead to; `None` when the proof has another length than it must.
pub fn root_of(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let mut sides = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let half = 1 << (end - begin - 1).ilog2();
        let is_left = index < begin + half;
        sides.push(is_left);
        if is_left { end = begin + half } else { begin += half }
    }
    if sides.len() != path.len() {
        return None;
    }
    let hash = sides.iter().rev().zip(path).fold(
        leaf,
        |hash, (is_left, other)| {
            if *is_left { node(&hash, other) } else { node(other, &hash) }
        },
    );
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in RFC 6962, section 2.1, word for word.
    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let half = 1 << (leaves.len() - 1).ilog2();
                node(&root(&leaves[..half]), &root(&leaves[half..]))
            }
        }
    }

    #[test]
    fn the_hashes_are_those_of_the_published_test_vectors() {
        let data: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::default();
        assert_eq!(hex::encode(frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for data in data {
            frontier.push(leaf(data), |_, _| {});
        }
        assert_eq!(hex::encode(frontier.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn roots_peaks_and_proofs_agree_with_the_definition() {
        let leaves: Vec<Hash> = (0..70_u8).map(|n| leaf(&[n])).collect();
        let mut frontier = Frontier::default();
        let mut completed = std::collections::HashMap::new();
        for size in 0..leaves.len() {
            assert_eq!(frontier.root(), root(&leaves[..size]));
            frontier.push(leaves[size], |subtree, hash| {
                completed.insert(subtree, hash);
            });
        }
        for (subtree, hash) in &completed {
            let begin = usize::try_from(subtree.index << subtree.level).unwrap();
            let below = leaves[begin..begin + (1 << subtree.level)].to_vec();
            assert_eq!(complete(below), *hash);
        }
        let hash_of = |subtree: &Subtree| match subtree.level {
            0 => leaves[usize::try_from(subtree.index).unwrap()],
            _ => completed[subtree],
        };
        for size in 1..=leaves.len() as u64 {
            let all = &leaves[..usize::try_from(size).unwrap()];
            let peaks: Vec<Hash> = peaks_of(size).iter().map(hash_of).collect();
            assert_eq!(Frontier::new(size, peaks).unwrap().root(), root(all));
            for index in 0..size {
                let path: Vec<Hash> = steps(index, size)
                    .iter()
                    .map(|step| step_hash(&step.iter().map(hash_of).collect::<Vec<_>>()))
                    .collect();
                let leaf = all[usize::try_from(index).unwrap()];
                assert_eq!(root_of(leaf, index, size, &path), Some(root(all)), "{index} of {size}");
                assert_ne!(root_of(leaf, (index + 1) % (size + 1), size, &path), Some(root(all)));
                assert_eq!(root_of(leaf, index, size, &[path, vec![leaf]].concat()), None);
            }
        }
    }
}
