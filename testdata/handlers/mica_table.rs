//! Reads MICA's whole table out of its regions' bytes and panics where it is none; and its messages. Layout, from
//! `handlers/mica/README.md`.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes before the first bucket, and before the first block.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a bucket.
pub const BUCKET_BYTES: usize = 64;
/// Item words of a bucket.
const SLOTS: usize = 7;
const CLASSES: u64 = 21;
/// Free lists of each class.
const LISTS: u64 = 8;

/// Offset of the head of one of them.
fn free_list(list: u64, class: u64) -> usize {
    64 + (list * 24 + class) as usize * 8
}

/// Units of 16 bytes in a block of this size class.
pub fn class_units(class: u64) -> u64 {
    match class {
        0..8 => class + 1,
        8..12 => 10 + (class - 8) * 2,
        12..16 => 20 + (class - 12) * 4,
        _ => 40 + (class - 16) * 8,
    }
}

fn main_buckets(table_bytes: usize) -> usize {
    let buckets = (table_bytes - HEADER_BYTES) / BUCKET_BYTES;
    buckets - buckets / 8
}

/// Offset of the main bucket of a key of eight bytes in a table of this length.
pub fn bucket_of(key: u64, table_bytes: usize) -> usize {
    HEADER_BYTES + (((hash(key) >> 32) as usize * main_buckets(table_bytes)) >> 32) * BUCKET_BYTES
}

/// The free list of such a key's blocks.
pub fn list_of(key: u64) -> u64 {
    (hash(key) & 0xffff).max(1) % LISTS
}

fn hash(key: u64) -> u64 {
    let mut hash = 8u64.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ key).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^ hash >> 29
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

/// Everything that a table's bytes say.
#[derive(Debug)]
pub struct Census {
    /// Values, by keys of eight bytes.
    pub records: BTreeMap<u64, Vec<u8>>,
    /// Owners of locked buckets, by offset.
    pub locked: BTreeMap<usize, u16>,
    /// Units in a row that were handed out, and are neither in a record nor in a free block.
    pub lost: Vec<u64>,
    /// Extra buckets that were taken and are in no chain.
    pub lost_extras: u64,
}

impl Census {
    /// Of the regions' bytes.
    pub fn take(heap: &[u8], table: &[u8]) -> Census {
        let main = main_buckets(table.len());
        let mut census =
            Census { records: BTreeMap::new(), locked: BTreeMap::new(), lost: Vec::new(), lost_extras: word(table, 0) };
        let mut used = BTreeSet::new();
        let mut take = |block: u64, class: u64| {
            for unit in block..block + class_units(class) {
                assert!(used.insert(unit), "unit {unit} is used twice");
            }
        };
        for main_bucket in (0..main).map(|index| HEADER_BYTES + index * BUCKET_BYTES) {
            let lock = word(table, main_bucket);
            assert!(lock & 1 == 1 || lock >> 32 & 0xffff == 0, "a bucket that is not locked has an owner");
            if lock & 1 == 1 {
                census.locked.insert(main_bucket, (lock >> 32) as u16);
            }
            let mut at = main_bucket;
            loop {
                for slot in 1..=SLOTS {
                    let item = word(table, at + slot * 8);
                    if item == 0 {
                        continue;
                    }
                    take(item & 0xffff_ffff, item >> 32 & 0xff);
                    let (key, value) = record_at(heap, item);
                    assert_eq!(bucket_of(key, table.len()), main_bucket, "key {key} is in another key's bucket");
                    assert!(census.records.insert(key, value).is_none(), "key {key} is there twice");
                }
                match (word(table, at) >> 48) as usize {
                    0 => break,
                    extra => at = HEADER_BYTES + (main + extra - 1) * BUCKET_BYTES,
                }
                census.lost_extras -= 1;
            }
        }
        for (list, class) in (0..LISTS).flat_map(|list| (0..CLASSES).map(move |class| (list, class))) {
            let mut block = word(heap, free_list(list, class)) & 0xffff_ffff;
            while block != 0 {
                take(block, class);
                block = word(heap, block as usize * 16) & 0xffff_ffff;
            }
        }
        let first = HEADER_BYTES as u64 / 16;
        let mut last_lost = None;
        for unit in (first..first + word(heap, 0)).filter(|unit| !used.contains(unit)) {
            if last_lost.is_some_and(|last| last + 1 == unit) {
                *census.lost.last_mut().expect("one was lost") += 1;
            } else {
                census.lost.push(1);
            }
            last_lost = Some(unit);
        }
        assert!(used.iter().all(|unit| (first..first + word(heap, 0)).contains(unit)), "a block outside of what was handed out");
        census
    }

    /// Panics if a lock is held, or a block or an extra bucket is lost.
    pub fn check_whole(&self) {
        assert!(self.locked.is_empty(), "locked buckets and their owners: {:?}", self.locked);
        assert!(self.lost.is_empty() && self.lost_extras == 0, "lost: {:?} units, {} extra buckets", self.lost, self.lost_extras);
    }
}

/// Key and value of the record that an item word names. Nothing in it may contradict the word.
fn record_at(heap: &[u8], item: u64) -> (u64, Vec<u8>) {
    let start = (item & 0xffff_ffff) as usize * 16;
    let record = &heap[start..start + (item >> 40 & 0xff) as usize * 8];
    assert_eq!(record[..2], [8, 0], "a record with another key than was ever sent");
    let value_bytes = usize::from(u16::from_le_bytes([record[2], record[3]]));
    assert_eq!(record.len(), 16 + value_bytes.next_multiple_of(8), "a record of another length than its item says");
    (word(record, 8), record[16..16 + value_bytes].to_vec())
}

/// The message of get, put, insert and delete.
pub fn record(key: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0];
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key.to_le_bytes());
    bytes.extend(value);
    bytes
}

/// The message of read_modify_write: adds to the value's first word.
pub fn addition(key: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend(key.to_le_bytes());
    bytes
}
