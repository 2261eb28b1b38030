//! Reads a whole Cell tree out of its region's bytes and panics where it is not one. Layout, from `handlers/cell/README.md`.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes before the first tree node.
const HEADER_BYTES: usize = 4096;

/// How a tree was deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a tree node.
    pub node_bytes: usize,
    /// Bytes of a record's value.
    pub value_bytes: usize,
}

/// What a tree holds.
#[derive(Debug, Default)]
pub struct Tree {
    /// All records.
    pub records: BTreeMap<u64, Vec<u8>>,
    /// Levels, the leaves included.
    pub levels: usize,
    /// Tree nodes on all levels.
    pub nodes: usize,
    /// Tree nodes that their parents do not know: links to the right lead there.
    pub unknown: usize,
    /// Tree nodes that were handed out, but are neither in the tree nor free.
    pub lost: usize,
}

struct Node<'a> {
    bytes: &'a [u8],
    shape: Shape,
    number: usize,
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("eight bytes"))
}

impl<'a> Node<'a> {
    fn at(region: &'a [u8], shape: Shape, number: usize) -> Node<'a> {
        let start = HEADER_BYTES + number * shape.node_bytes;
        Node { bytes: &region[start..start + shape.node_bytes], shape, number }
    }

    fn word(&self, index: usize) -> u64 {
        word(self.bytes, index)
    }

    fn level(&self) -> usize {
        (self.word(0) >> 48 & 0xff) as usize
    }

    fn directory_lines(&self) -> usize {
        1 + self.shape.node_bytes / 2048
    }

    fn directory(&self) -> usize {
        8 + (self.word(0) >> 1 & 1) as usize * self.directory_lines() * 8
    }

    fn low(&self) -> u64 {
        self.word(1)
    }

    /// The tree node to the right and its first key.
    fn right(&self) -> Option<(usize, u64)> {
        let link = self.word(self.directory() + 1) as u32 as usize;
        (link != 0).then(|| (link, self.word(self.directory() + 2)))
    }

    fn entry_words(&self) -> usize {
        if self.level() > 0 { 2 } else { 1 + self.shape.value_bytes / 8 }
    }

    /// Keys with their values or children, in the order of the directory.
    fn entries(&self) -> Vec<(u64, Vec<u8>)> {
        let count = (self.word(self.directory() + 1) >> 32 & 0xff) as usize;
        let mut used = BTreeSet::new();
        let mut entries = Vec::new();
        for index in 0..count {
            let at = (self.directory() + 3) * 8 + index + if index >= 40 { 8 } else { 0 };
            assert!(index < 40 + (self.directory_lines() - 1) * 56, "too many entries in tree node {}", self.number);
            let mut place = usize::from(self.bytes[at]);
            let mut words = Vec::new();
            while words.len() < self.entry_words() {
                if !place.is_multiple_of(8) {
                    assert!(place > (1 + 2 * self.directory_lines()) * 8, "a slot inside the directories of {}", self.number);
                    assert!(used.insert(place), "slots of tree node {} overlap", self.number);
                    words.push(self.word(place));
                }
                place += 1;
            }
            entries.push((words[0], words[1..].iter().flat_map(|word| word.to_le_bytes()).collect()));
        }
        entries
    }

    /// Panics unless all that must hold of a tree node at rest does.
    fn check(&self, level: usize) {
        let number = self.number;
        assert_eq!(self.word(0) >> 32 & 0xffff, 0, "tree node {number} has an owner");
        assert_eq!(self.word(0) & 1, 0, "tree node {number} is locked");
        assert_eq!(self.level(), level, "level of tree node {number}");
        let version = self.word(0) & 0xffff_ffff;
        assert!((1..self.shape.node_bytes / 64).all(|line| self.word(line * 8) == version), "lines of tree node {number} differ");
        let keys: Vec<u64> = self.entries().into_iter().map(|(key, _)| key).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "keys of tree node {number}: {keys:?}");
        assert!(keys.first().is_none_or(|first| *first >= self.low()), "a key of tree node {number} is too low");
        let high = self.right().map_or(u64::MAX, |(_, high)| high - 1);
        assert!(keys.last().is_none_or(|last| *last <= high), "a key of tree node {number} is too high");
        assert!(level == 0 || keys.first() == Some(&self.low()), "inner tree node {number} begins with another key");
    }
}

impl Tree {
    /// Of a region at rest.
    ///
    /// # Panics
    ///
    /// If it is not a whole tree.
    pub fn read(region: &[u8], shape: Shape) -> Tree {
        let root = word(region, 0);
        let mut tree = Tree { levels: (root >> 32 & 0xff) as usize + 1, ..Tree::default() };
        let mut seen = BTreeSet::new();
        let mut first = root as u32 as usize;
        // What the level above knows: keys and numbers of its children.
        let mut known: Option<BTreeMap<u64, usize>> = None;
        for level in (0..tree.levels).rev() {
            let mut children = BTreeMap::new();
            let (mut number, mut low) = (first, 0);
            loop {
                assert!(seen.insert(number), "tree node {number} is met twice");
                let node = Node::at(region, shape, number);
                node.check(level);
                assert_eq!(node.low(), low, "tree node {number} begins elsewhere than its neighbour ends");
                match known.as_mut().map(|known| known.remove(&low)) {
                    Some(Some(child)) => assert_eq!(child, number, "a parent knows another tree node for key {low}"),
                    Some(None) => tree.unknown += 1,
                    None => {}
                }
                for (key, payload) in node.entries() {
                    if level == 0 {
                        assert!(tree.records.insert(key, payload).is_none());
                    } else {
                        children.insert(key, word(&payload, 0) as usize);
                    }
                }
                let Some((right, high)) = node.right() else { break };
                (number, low) = (right, high);
            }
            assert!(known.is_none_or(|known| known.is_empty()), "a parent knows tree nodes that are not there");
            first = children.get(&0).copied().unwrap_or(0);
            known = Some(children);
        }
        tree.nodes = seen.len();
        let mut free = word(region, 16) as u32 as usize;
        while free != 0 {
            assert!(seen.insert(free), "free tree node {free} is in use");
            free = Node::at(region, shape, free).word(0) as u32 as usize;
        }
        tree.lost = word(region, 8) as usize + 1 - seen.len();
        tree
    }
}
