//! The search: from a key to the bucket, the item word and the record. Everything begins with it.

use super::machine::{BODY, BUCKET, KEY_REGISTER, Machine, Step, word_at};
use crate::mica::{
    BUCKET_BYTES, GROUP_EXTRAS_SHIFT, GROUP_SHIFT, HEAP, ITEM_HEADER_BYTES, ITEM_WORDS_MAX, KEY_BYTES_MAX, KEY_BYTES_MIN, SLOTS,
    TABLE, TABLE_HEADER_BYTES, UNIT_SHIFT, main_buckets,
};
use naamc::activation::Activation;
use naamc::interpreter::Outcome;

/// Position of the link in a bucket's word.
pub const LINK_SHIFT: u32 = 48;
/// Position of the owner in a bucket's word.
pub const OWNER_SHIFT: u32 = 32;
/// Position of the tag in an item word.
pub const TAG_SHIFT: u32 = 48;
/// Position of the record's words in an item word.
pub const WORDS_SHIFT: u32 = 40;
/// Position of the size class in an item word.
pub const CLASS_SHIFT: u32 = 32;

/// How much of a record a search reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Header and key.
    Key,
}

/// Offset in the heap of the block that an item word names.
pub fn block_offset(item: u64) -> u64 {
    u64::from(item as u32) << UNIT_SHIFT
}

/// Words of the record that an item word names, as far as a record can go.
pub fn item_words(item: u64) -> u64 {
    (item >> WORDS_SHIFT & 0xff).min(ITEM_WORDS_MAX)
}

/// Takes the key out of the message to where it stays, and hashes it: its tag, and the offset of its bucket. `None` if no record has a key of
/// this length.
#[inline(always)]
pub fn take_key(activation: &mut Activation, key_bytes: usize, start: usize, table_bytes: u64) -> Option<(u16, u64)> {
    const FACTOR: u64 = 0xD6E8_FEB8_6659_FD93;
    if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key_bytes) {
        return None;
    }
    let mut hash = (key_bytes as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for index in 0..key_bytes.div_ceil(8) {
        let mut word = word_at(activation, BODY + start + index * 8);
        if index * 8 + 8 > key_bytes {
            word &= u64::MAX >> (64 - key_bytes % 8 * 8);
        }
        activation.registers[KEY_REGISTER + index] = word;
        hash = (hash ^ word).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
    }
    hash = hash.wrapping_mul(FACTOR);
    hash ^= hash >> 29;
    let main_index = (hash >> 32).wrapping_mul(main_buckets(table_bytes)) >> 32;
    Some(((hash as u16).max(1), TABLE_HEADER_BYTES + main_index * BUCKET_BYTES))
}

/// Which slots of the bucket hold an item word that fits, one bit each. Without a branch for each: which one it is cannot be predicted.
#[inline(always)]
pub fn slots_with(activation: &Activation, fits: impl Fn(u64) -> bool) -> u32 {
    (0..SLOTS).fold(0, |set, slot| set | u32::from(fits(word_at(activation, BUCKET + 8 + slot * 8))) << slot)
}

/// Offset of extra bucket `number`, 1 or more, of the group of a main bucket.
#[inline]
pub fn extra_bucket(table_bytes: u64, bucket: u64, number: u64) -> u64 {
    let index = main_buckets(table_bytes) + (group(bucket) << GROUP_EXTRAS_SHIFT) + number - 1;
    TABLE_HEADER_BYTES + index * BUCKET_BYTES
}

/// Number of the group of a main bucket.
#[inline]
pub fn group(bucket: u64) -> u64 {
    ((bucket - TABLE_HEADER_BYTES) / BUCKET_BYTES) >> GROUP_SHIFT
}

impl Machine<'_, '_> {
    /// Takes the key out of the message, hashes it and finds its bucket. False if no record has a key of this length.
    pub fn take_key(&mut self, key_bytes: usize, start: usize) -> bool {
        let table_bytes = self.length_bytes(TABLE);
        let Some((tag, bucket)) = take_key(self.activation, key_bytes, start, table_bytes) else { return false };
        (self.state.key_bytes, self.state.tag, self.state.bucket) = (key_bytes as u32, tag, bucket);
        true
    }

    /// Zeros behind the key are part of a record.
    pub fn zero_key_padding(&mut self) {
        let last = self.state.key_words() as usize - 1;
        let word = self.key()[last];
        self.set_word(BODY + ITEM_HEADER_BYTES + last * 8, word);
    }

    /// Number of the group of the key's main bucket.
    pub fn group(&self) -> u64 {
        group(self.state.bucket)
    }

    /// Offset of extra bucket `number`, 1 or more, of the key's group.
    pub fn extra_bucket(&self, number: u64) -> u64 {
        extra_bucket(self.length_bytes(TABLE), self.state.bucket, number)
    }

    /// Searches the bucket and its chain, from the current step on. Whether the key is there; then its record, or the part asked for, lies at `to`.
    pub fn find(&mut self, to: usize, part: Part) -> Result<bool, Outcome> {
        loop {
            match self.state.step {
                Step::Item => {
                    let word = self.word(BUCKET + 8 + self.state.index as usize * 8);
                    if self.read_item(word, to, part)? {
                        return Ok(true);
                    }
                    self.state.index += 1;
                }
                Step::Chain => {
                    self.read(TABLE, self.state.at, BUCKET, BUCKET_BYTES as usize)?;
                    self.state.index = 0;
                }
                _ => {
                    self.state.step = Step::Bucket;
                    self.read(TABLE, self.state.bucket, BUCKET, BUCKET_BYTES as usize)?;
                    let word = self.word(BUCKET);
                    if word & 1 == 1 {
                        continue;
                    }
                    (self.state.word, self.state.at) = (word, self.state.bucket);
                    (self.state.slot, self.state.item, self.state.index) = (0, 0, 0);
                }
            }
            if self.scan() {
                self.state.step = Step::Item;
                continue;
            }
            self.state.last = self.state.at;
            let link = self.word(BUCKET) >> LINK_SHIFT;
            if link == 0 {
                return Ok(false);
            }
            self.state.at = self.extra_bucket(link);
            self.state.step = Step::Chain;
        }
    }

    /// Goes on through the bucket to the next item word with the key's tag, and notes the first free one. False at the bucket's end.
    fn scan(&mut self) -> bool {
        let tag = u64::from(self.state.tag);
        let matching = slots_with(self.activation, |word| word >> TAG_SHIFT == tag) & (u32::MAX << self.state.index);
        let free = if self.state.slot == 0 { slots_with(self.activation, |word| word == 0) } else { 0 };
        if free != 0 {
            self.state.slot = self.state.at + 8 + u64::from(free.trailing_zeros()) * 8;
        }
        self.state.index = matching.trailing_zeros();
        matching != 0
    }

    /// Reads the record that an item word names. Whether it has the key.
    fn read_item(&mut self, word: u64, to: usize, part: Part) -> Result<bool, Outcome> {
        let length = match part {
            Part::Whole => item_words(word) as usize * 8,
            Part::Key => ITEM_HEADER_BYTES + self.state.key_words() as usize * 8,
        };
        self.read(HEAP, block_offset(word), to, length)?;
        let same = self.word(to) as u8 == self.state.key_bytes as u8
            && self.key().iter().enumerate().all(|(index, key)| *key == self.word(to + ITEM_HEADER_BYTES + index * 8));
        if same {
            self.state.slot = self.state.at + 8 + u64::from(self.state.index) * 8;
            self.state.item = word;
        }
        Ok(same)
    }

    /// Whether nobody has written to the bucket since the search.
    pub fn unchanged(&mut self) -> Result<bool, Outcome> {
        Ok(self.read_word(TABLE, self.state.bucket)? == self.state.word)
    }
}
