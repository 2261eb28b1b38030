//! The tree of `handlers/cell`, as its clients see it: messages, results, how large its region is, and a whole tree built from sorted records.
//!
//! Layout and protocol are those of `handlers/cell/cell.c`; its README has the byte tables. Results have the numbers and names of MICA's.

use std::io::{self, Read};

/// Bytes of the largest tree node.
pub const NODE_BYTES_MAX: usize = 2048;
/// Bytes of the longest value.
pub const VALUE_BYTES_MAX: usize = 496;
/// Bytes of records in a page of a scan.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a page before its records.
pub const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of a key.
pub const KEY_BYTES: usize = 8;

/// The region, and its index among the bundle's regions.
pub const TREE: (&str, u16) = ("tree", 0);

/// Bytes before the first tree node.
pub const HEADER_BYTES: u64 = 4096;
/// Offset of the count of tree nodes that were handed out beside the first.
const NODES_USED: usize = 64;
/// 8-byte words of a line; the first is its version.
pub const LINE_WORDS: usize = 8;
/// Words of a directory: the link with the number of entries, the high fence, then the order.
pub const LINK: usize = 1;
/// See [`LINK`].
pub const HIGH: usize = 2;
/// See [`LINK`].
pub const ORDER: usize = 3;
/// Entries in the first line of a directory.
pub const ORDER_BYTES: [usize; 2] = [40, 56];
/// Records that a leaf must have room for.
const LEAF_RECORDS_MIN: usize = 3;

/// How full leaves are that are built from sorted records, in percent: every fifth place is left for inserts.
const LEAF_FILL_PERCENT: usize = 80;
/// The same of inner tree nodes, to which a place is lost only when a leaf is split.
const INNER_FILL_PERCENT: usize = 95;

/// How a tree is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a tree node: 512, 1024 or 2048.
    pub node_bytes: usize,
    /// Bytes of a value in the tree: a multiple of 8.
    pub value_bytes: usize,
}

impl Shape {
    /// For values of so many bytes, which are padded to whole words. `None` if there is no such tree.
    pub fn new(node_bytes: usize, value_bytes: usize) -> Option<Shape> {
        let shape = Shape { node_bytes, value_bytes: value_bytes.next_multiple_of(8) };
        (shape.value_bytes <= VALUE_BYTES_MAX && shape.capacity(0) >= LEAF_RECORDS_MIN).then_some(shape)
    }

    /// Lines of each of the two directories.
    pub fn directory_lines(self) -> usize {
        1 + self.node_bytes / 2048
    }

    /// The first word of the directory that counts at this version.
    pub fn directory(self, version: u64) -> usize {
        LINE_WORDS + (version as usize >> 1 & 1) * self.directory_lines() * LINE_WORDS
    }

    /// First word of the slots.
    pub fn slots(self) -> usize {
        (1 + 2 * self.directory_lines()) * LINE_WORDS
    }

    /// Words of an entry: its key, and a value or the number of a child.
    pub fn entry_words(self, level: usize) -> usize {
        if level > 0 { 2 } else { self.record_bytes() / 8 }
    }

    /// Bytes of a record in a message.
    pub fn record_bytes(self) -> usize {
        KEY_BYTES + self.value_bytes
    }

    /// Entries that a tree node has room for.
    pub fn capacity(self, level: usize) -> usize {
        let lines = (self.node_bytes / 64).saturating_sub(1 + 2 * self.directory_lines());
        let order: usize = ORDER_BYTES[..self.directory_lines().min(2)].iter().sum();
        (lines * (LINE_WORDS - 1) / self.entry_words(level)).min(order)
    }

    /// Entries of a tree node that is built from sorted records.
    fn fill(self, level: usize) -> usize {
        let percent = if level > 0 { INNER_FILL_PERCENT } else { LEAF_FILL_PERCENT };
        (self.capacity(level) * percent / 100).max(2)
    }

    /// The word with which slot `index` begins.
    fn slot(self, index: usize, level: usize) -> usize {
        let payload = index * self.entry_words(level);
        self.slots() + payload / (LINE_WORDS - 1) * LINE_WORDS + 1 + payload % (LINE_WORDS - 1)
    }

    /// Bytes of a region for a tree that is built from so many records, and for so many inserts, each of which may meet a full leaf: a
    /// split leaves two that are half full.
    pub fn region_bytes(self, records: u64, inserts: u64) -> u64 {
        let built = self.nodes(records).iter().sum::<u64>();
        // Above every level there is one of less than a fifth of the tree nodes.
        let split = if inserts > 0 { (built + inserts / (self.capacity(0) as u64).div_ceil(2)) * 5 / 4 + 64 } else { 0 };
        HEADER_BYTES + (built + split).max(8) * self.node_bytes as u64
    }

    /// Tree nodes on each level of a tree of so many records, the leaves first.
    fn nodes(self, records: u64) -> Vec<u64> {
        let mut levels = vec![records.div_ceil(self.fill(0) as u64).max(1)];
        while let Some(below) = levels.last().copied().filter(|below| *below > 1) {
            levels.push(below.div_ceil(self.fill(levels.len()) as u64));
        }
        levels
    }
}

/// The number of the word behind this one in a tree node, versions skipped.
#[inline]
pub fn next_word(word: usize) -> usize {
    word + 1 + (word % LINE_WORDS + 1) / LINE_WORDS
}

/// A region's bytes with a whole tree of sorted records, one tree node after another: as much memory as a key of each takes.
pub struct Image<F> {
    shape: Shape,
    /// Keys, ascending, and the number by which `value` knows each.
    records: Vec<(u64, u64)>,
    value: F,
    /// For each level the tree nodes' low fences, the leaves first.
    fences: Vec<Vec<u64>>,
    /// Level and index of the next tree node, its number, and what is not read yet of the one before.
    level: usize,
    index: usize,
    number: u64,
    bytes: Vec<u8>,
    read: usize,
}

impl<F: FnMut(u64, &mut [u8])> Image<F> {
    /// Of records with these keys, ascending, none twice; `value` fills in the value of the record with a number.
    pub fn new(shape: Shape, records: Vec<(u64, u64)>, value: F) -> Image<F> {
        let mut fences: Vec<Vec<u64>> = Vec::new();
        for (level, count) in shape.nodes(records.len() as u64).into_iter().enumerate() {
            let first = |index: usize| match (index, level) {
                (0, _) => 0,
                (_, 0) => records[index * shape.fill(0)].0,
                _ => fences[level - 1][index * shape.fill(level)],
            };
            let of_level = (0..count as usize).map(first).collect();
            fences.push(of_level);
        }
        let nodes = fences.iter().map(|level| level.len() as u64).sum::<u64>();
        let mut bytes = vec![0; HEADER_BYTES as usize];
        let root = (nodes - 1) | (fences.len() as u64 - 1) << 32;
        bytes[..8].copy_from_slice(&root.to_le_bytes());
        bytes[NODES_USED..NODES_USED + 8].copy_from_slice(&(nodes - 1).to_le_bytes());
        Image { shape, records, value, fences, level: 0, index: 0, number: 0, bytes, read: 0 }
    }

    /// Its length.
    pub fn length_bytes(&self) -> u64 {
        let nodes = self.fences.iter().map(|level| level.len() as u64).sum::<u64>();
        HEADER_BYTES + nodes * self.shape.node_bytes as u64
    }

    /// Makes the next tree node, at version 0. False after the last one.
    fn make_node(&mut self) -> bool {
        let Some(fences) = self.fences.get(self.level) else { return false };
        let (shape, level) = (self.shape, self.level);
        self.bytes.clear();
        self.bytes.resize(shape.node_bytes, 0);
        let mut set = |word: usize, value: u64| self.bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        set(0, (level as u64) << 48);
        set(1, fences[self.index]);
        let below = if level == 0 { self.records.len() } else { self.fences[level - 1].len() };
        let first = self.index * shape.fill(level);
        let count = below.min(first + shape.fill(level)).saturating_sub(first);
        let right = if self.index + 1 < fences.len() { self.number + 1 } else { 0 };
        let directory = shape.directory(0);
        set(directory + LINK, right | (count as u64) << 32);
        set(directory + HIGH, fences.get(self.index + 1).copied().unwrap_or(0));
        // The level below was made right before this one.
        let first_child = if level > 0 { self.number - self.index as u64 - below as u64 } else { 0 };
        for index in 0..count {
            let slot = shape.slot(index, level);
            let skipped = if index < ORDER_BYTES[0] { 0 } else { 8 };
            self.bytes[(directory + ORDER) * 8 + index + skipped] = slot as u8;
            let mut set = |word: usize, value: u64| self.bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            if level > 0 {
                set(slot, self.fences[level - 1][first + index]);
                set(next_word(slot), first_child + (first + index) as u64);
                continue;
            }
            let (key, number) = self.records[first + index];
            set(slot, key);
            let mut value = [0; VALUE_BYTES_MAX];
            (self.value)(number, &mut value[..shape.value_bytes]);
            let mut word = slot;
            for piece in value[..shape.value_bytes].chunks_exact(8) {
                word = next_word(word);
                self.bytes[word * 8..word * 8 + 8].copy_from_slice(piece);
            }
        }
        self.number += 1;
        self.index += 1;
        if self.index == self.fences[level].len() {
            (self.level, self.index) = (level + 1, 0);
        }
        true
    }
}

impl<F: FnMut(u64, &mut [u8])> Read for Image<F> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.read == self.bytes.len() {
            if !self.make_node() {
                return Ok(0);
            }
            self.read = 0;
        }
        let count = to.len().min(self.bytes.len() - self.read);
        to[..count].copy_from_slice(&self.bytes[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// Writes a request for a page of records from `key` on.
pub fn write_scan(message: &mut [u8], key: u64, records: u32) {
    message[..8].copy_from_slice(&key.to_le_bytes());
    message[8..SCAN_REQUEST_BYTES].copy_from_slice(&records.to_le_bytes());
}

/// Bytes of a request of `scan`.
pub const SCAN_REQUEST_BYTES: usize = 12;

/// A page that a scan returned.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Where the next page begins, unless the tree ends here.
    pub next: Option<u64>,
    /// The records' bytes.
    records: &'a [u8],
    record_bytes: usize,
}

impl<'a> Page<'a> {
    /// Parses a reply, if it is one.
    pub fn parse(reply: &'a [u8], shape: Shape) -> Option<Page<'a>> {
        let (header, records) = reply.split_first_chunk::<PAGE_HEADER_BYTES>()?;
        let word = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let (next, counts) = (word(0)?, word(8)?);
        let (count, more) = (counts as u32 as usize, counts >> 32);
        if more > 1 || records.len() != count * shape.record_bytes() {
            return None;
        }
        Some(Page { next: (more == 1).then_some(next), records, record_bytes: shape.record_bytes() })
    }

    /// Its records: keys and values.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (u64, &'a [u8])> {
        self.records.chunks_exact(self.record_bytes).map(|record| {
            let (key, value) = record.split_at(KEY_BYTES);
            (key.first_chunk().map_or(0, |key| u64::from_le_bytes(*key)), value)
        })
    }
}

#[cfg(test)]
#[path = "../../testdata/handlers/cell_tree.rs"]
mod tree;

#[cfg(test)]
mod tests {
    use super::tree::{self, Tree};
    use super::*;

    fn build(shape: Shape, records: u64) -> Vec<u8> {
        let keys = (0..records).map(|number| (number * 3 + 1, number)).collect();
        let mut image = Image::new(shape, keys, |number, value| value.fill(number as u8));
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, image.length_bytes());
        assert!(bytes.len() as u64 <= shape.region_bytes(records, 0));
        bytes
    }

    /// What is built is a whole tree of these records, for every shape and number of levels.
    #[test]
    fn images_are_whole_trees() {
        for (node_bytes, value_bytes) in [(512, 8), (512, 80), (1024, 64), (1024, 8), (2048, 8), (2048, 496)] {
            let shape = Shape::new(node_bytes, value_bytes).unwrap();
            for records in [0, 1, 2, 3, 100, 5000] {
                let tree = Tree::read(&build(shape, records), tree::Shape { node_bytes, value_bytes });
                assert!(tree.unknown == 0 && tree.lost == 0);
                let expected = (0..records).map(|number| (number * 3 + 1, vec![number as u8; value_bytes]));
                assert!(tree.records.into_iter().eq(expected), "{records} records in {shape:?}");
            }
        }
    }

    /// The sizes that the handlers refuse are no shapes.
    #[test]
    fn impossible_shapes_are_none() {
        for (node_bytes, value_bytes, possible) in
            [(512, 80, true), (512, 81, false), (1024, 232, true), (1024, 233, false), (2048, 496, true), (2048, 497, false)]
        {
            assert_eq!(Shape::new(node_bytes, value_bytes).is_some(), possible, "{node_bytes} {value_bytes}");
        }
        assert_eq!(Shape::new(1024, 60).unwrap().value_bytes, 64);
    }

    /// Replies that are cut, too long or say other counts are no pages.
    #[test]
    fn pages_are_parsed_whole_or_not_at_all() {
        let shape = Shape::new(1024, 16).unwrap();
        let mut reply = [7u64.to_le_bytes(), (2 | 1u64 << 32).to_le_bytes()].concat();
        reply.extend((0..6u64).flat_map(u64::to_le_bytes));
        let page = Page::parse(&reply, shape).unwrap();
        assert_eq!(page.next, Some(7));
        assert_eq!(page.records().map(|(key, value)| (key, value[8])).collect::<Vec<_>>(), [(0, 2), (3, 5)]);
        assert!(Page::parse(&reply[..reply.len() - 1], shape).is_none());
        assert!(Page::parse(&reply[..8], shape).is_none());
        reply[8] = 3;
        assert!(Page::parse(&reply, shape).is_none());
    }
}
