//! What is known of stack and body between cut points: words in some places, and for every stack byte whether it may be read.
//!
//! Offsets count from the stack's first byte; the body begins at [`STACK_BYTES`]. Body bytes may always be read and never hold addresses.

use super::contract::ByteRange;
use super::state::Word;
use crate::abi::STACK_BYTES;
use crate::isa::Size;

/// A set of stack bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StackBytes([u64; STACK_BYTES / 64]);

impl StackBytes {
    pub(super) const NONE: StackBytes = StackBytes([0; STACK_BYTES / 64]);
    pub(super) const ALL: StackBytes = StackBytes([u64::MAX; STACK_BYTES / 64]);

    pub(super) fn insert(&mut self, range: ByteRange) {
        range.words(STACK_BYTES).for_each(|(word, bits)| self.0[word] |= bits);
    }

    pub(super) fn remove(&mut self, range: ByteRange) {
        range.words(STACK_BYTES).for_each(|(word, bits)| self.0[word] &= !bits);
    }

    /// Whether every byte of the range that lies on the stack is in the set.
    pub(super) fn contains(&self, range: ByteRange) -> bool {
        range.words(STACK_BYTES).all(|(word, bits)| self.0[word] & bits == bits)
    }

    /// Adds the bytes of `range` that are not in `except`.
    pub(super) fn insert_except(&mut self, range: ByteRange, except: &StackBytes) {
        range.words(STACK_BYTES).for_each(|(word, bits)| self.0[word] |= bits & !except.0[word]);
    }

    fn intersection(&self, other: &StackBytes) -> StackBytes {
        StackBytes(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The set as ascending disjoint ranges that do not touch.
    pub(super) fn ranges(&self) -> Vec<ByteRange> {
        let mut ranges: Vec<ByteRange> = Vec::new();
        for byte in (0..STACK_BYTES).filter(|byte| self.0[byte / 64] >> (byte % 64) & 1 == 1) {
            match ranges.last_mut() {
                Some(last) if last.end as usize == byte => last.end += 1,
                _ => ranges.push(ByteRange { start: byte as u32, end: byte as u32 + 1 }),
            }
        }
        ranges
    }
}

impl ByteRange {
    /// The bytes of a word.
    pub(super) fn of(offset: u32, size: Size) -> ByteRange {
        ByteRange { start: offset, end: offset + size.bytes() as u32 }
    }

    /// For a set that has a bit for each of `bytes`: the index of every word with bytes of the range, and their bits in it.
    pub(super) fn words(self, bytes: usize) -> impl Iterator<Item = (usize, u64)> {
        let end = (self.end as usize).min(bytes);
        let mut at = self.start as usize;
        std::iter::from_fn(move || {
            let count = (64 - at % 64).min(end.checked_sub(at).filter(|left| *left > 0)?);
            let item = (at / 64, (u64::MAX >> (64 - count)) << (at % 64));
            at += count;
            Some(item)
        })
    }

    pub(super) fn overlaps(self, other: ByteRange) -> bool {
        self.start < other.end && other.start < self.end
    }

    pub(super) fn covers(self, other: ByteRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A place whose content is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownCell {
    pub(super) offset: u32,
    pub(super) size: Size,
    /// A number is at most as large as the size allows. Secrets have eight aligned bytes on the stack.
    pub(super) word: Word,
}

impl KnownCell {
    pub(super) fn range(&self) -> ByteRange {
        ByteRange::of(self.offset, self.size)
    }
}

/// Stack and body.
#[derive(Clone)]
pub(super) struct Memory {
    /// Ascending and disjoint.
    cells: Vec<KnownCell>,
    /// Stack bytes that were written since entry on every path, or that a contract promises.
    written: StackBytes,
    /// Stack bytes that may be read: no contract left them out, and they hold no part of an address. A whole address is in a cell.
    readable: StackBytes,
}

impl Memory {
    /// At entry: nothing written, and what is read before it is written reads as zero.
    pub(super) fn at_entry() -> Memory {
        Memory { cells: Vec::new(), written: StackBytes::NONE, readable: StackBytes::ALL }
    }

    /// After a cut point: the live bytes are there, no others.
    pub(super) fn of_live(live: &[ByteRange]) -> Memory {
        let mut bytes = StackBytes::NONE;
        live.iter().for_each(|range| bytes.insert(*range));
        Memory { cells: Vec::new(), written: bytes, readable: bytes }
    }

    pub(super) fn cells(&self) -> &[KnownCell] {
        &self.cells
    }

    pub(super) fn written(&self) -> &StackBytes {
        &self.written
    }

    pub(super) fn is_readable(&self, range: ByteRange) -> bool {
        self.readable.contains(range)
    }

    /// Stack bytes that may become part of a contract.
    pub(super) fn presentable(&self) -> StackBytes {
        let mut bytes = self.readable;
        for cell in self.cells.iter().filter(|cell| cell.word == Word::Unusable) {
            bytes.remove(cell.range());
        }
        bytes
    }

    /// The cells that have bytes of `range`.
    pub(super) fn overlapping(&self, range: ByteRange) -> &[KnownCell] {
        &self.cells[self.overlap(range)]
    }

    fn overlap(&self, range: ByteRange) -> std::ops::Range<usize> {
        if range.start >= range.end {
            return 0..0;
        }
        let start = self.cells.partition_point(|cell| cell.range().end <= range.start);
        let end = self.cells.partition_point(|cell| cell.offset < range.end);
        start..end.max(start)
    }

    /// Whether the bytes hold an address or a part of one.
    pub(super) fn holds_secret(&self, range: ByteRange) -> bool {
        self.overlapping(range).iter().any(|cell| cell.word.is_secret())
    }

    /// The bytes now hold `word`.
    pub(super) fn store(&mut self, offset: u32, size: Size, word: Word) {
        let range = ByteRange::of(offset, size);
        self.overwrite(range);
        if word.is_secret() && (size != Size::B8 || !offset.is_multiple_of(8)) {
            self.readable.remove(range);
        } else if word != Word::Undefined {
            self.put(offset, size, word);
        }
    }

    /// Names the content of bytes that no cell covers.
    pub(super) fn put(&mut self, offset: u32, size: Size, word: Word) {
        let place = self.cells.partition_point(|cell| cell.offset < offset);
        self.cells.insert(place, KnownCell { offset, size, word });
    }

    /// All these bytes were written with unknown numbers.
    pub(super) fn overwrite(&mut self, range: ByteRange) {
        self.forget(range);
        self.written.insert(range);
        self.readable.insert(range);
    }

    /// Some of these bytes may have been written with unknown numbers.
    pub(super) fn forget(&mut self, range: ByteRange) {
        let overlap = self.overlap(range);
        for index in overlap.clone() {
            if self.cells[index].word.is_secret() {
                let cell = self.cells[index].range();
                self.readable.remove(cell);
            }
        }
        self.cells.drain(overlap);
    }

    /// Some of these bytes may now hold a part of an address.
    pub(super) fn spoil(&mut self, range: ByteRange) {
        self.forget(range);
        self.readable.remove(range);
    }

    /// What holds if either does; `join` does so for words.
    pub(super) fn join(&self, other: &Memory, mut join: impl FnMut(Word, Word) -> Word) -> Memory {
        let mut joined = Memory {
            cells: Vec::new(),
            written: self.written.intersection(&other.written),
            readable: self.readable.intersection(&other.readable),
        };
        let twin = |memory: &Memory, cell: &KnownCell| {
            let place = memory.cells.binary_search_by_key(&cell.offset, |cell| cell.offset).ok()?;
            (memory.cells[place].size == cell.size).then_some(memory.cells[place].word)
        };
        for cell in &self.cells {
            match twin(other, cell) {
                Some(word) => joined.cells.push(KnownCell { word: join(cell.word, word), ..*cell }),
                None if cell.word.is_secret() => joined.readable.remove(cell.range()),
                None => {}
            }
        }
        for cell in other.cells.iter().filter(|cell| cell.word.is_secret() && twin(self, cell).is_none()) {
            joined.readable.remove(cell.range());
        }
        let spoiled: Vec<KnownCell> = joined.cells.iter().filter(|cell| cell.word == Word::Unusable).copied().collect();
        for cell in spoiled.into_iter().filter(|cell| cell.size != Size::B8) {
            joined.spoil(cell.range());
        }
        joined
    }
}
