//! The hash table of `handlers/mica`, as its clients and its native twin see it: messages, results, and how large its regions are.
//!
//! Layout and protocol are those of `handlers/mica/mica.c`; its README has the byte tables.

/// Bytes of a record or message before the key.
pub const ITEM_HEADER_BYTES: usize = 8;
/// Bytes of the message of `read_modify_write` before the key.
pub const ADD_HEADER_BYTES: usize = 16;
/// Bytes of the largest record: the body of every message but that of `read_modify_write`.
pub const ITEM_BYTES_MAX: usize = ITEM_HEADER_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;
/// Bytes of the shortest key.
pub const KEY_BYTES_MIN: usize = 8;
/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 64;
/// Bytes of the longest value.
pub const VALUE_BYTES_MAX: usize = 1024;

/// The handler did what it was asked.
pub const OK: i32 = 0;
/// No record has this key.
pub const ABSENT: i32 = 1;
/// `insert`: a record has this key already.
pub const PRESENT: i32 = 2;
/// No block or bucket is left for it.
pub const FULL: i32 = 3;
/// A length or an offset that no record has.
pub const INVALID: i32 = 4;
/// Others wrote, or held the lock, for too long: nothing was done.
pub const BUSY: i32 = 5;

/// The region of buckets, and its index among the bundle's regions, which are in the order of their names.
pub const TABLE: (&str, u16) = ("table", 1);
/// The region of records, and its index among the bundle's regions.
pub const HEAP: (&str, u16) = ("heap", 0);

/// Bytes before the first bucket.
pub const TABLE_HEADER_BYTES: u64 = 4096;
/// Bytes of a bucket: a word with version, owner and link, then [`SLOTS`] item words.
pub const BUCKET_BYTES: u64 = 64;
/// Item words of a bucket.
pub const SLOTS: usize = 7;
/// Main buckets that share a counter of extra buckets (a power of two).
pub const GROUP_SHIFT: u32 = 18;
/// Extra buckets of such a group (a power of two).
pub const GROUP_EXTRAS_SHIFT: u32 = 15;
/// Groups at most.
pub const GROUPS: u64 = TABLE_HEADER_BYTES / 8;
/// Bytes before the first block: the count of units handed out, then the free lists.
pub const HEAP_HEADER_BYTES: u64 = 4096;
/// A block is so many units of 16 bytes (a power of two).
pub const UNIT_SHIFT: u32 = 4;
/// Bytes of a heap in which blocks can be named.
pub const HEAP_BYTES_MAX: u64 = 1 << (32 + UNIT_SHIFT);
/// Size classes of blocks.
pub const CLASSES: u32 = 21;
/// Free lists of each class.
pub const LISTS: u32 = 8;
/// Words between the heads of two of them.
pub const LIST_WORDS: u32 = 24;
/// 8-byte words of the largest record.
pub const ITEM_WORDS_MAX: u64 = ITEM_BYTES_MAX as u64 / 8;

/// The name of a handler's result in reports.
pub fn result_name(result: i32) -> &'static str {
    match result {
        OK => "ok",
        ABSENT => "not_found",
        PRESENT => "already_there",
        FULL => "full",
        INVALID => "invalid",
        BUSY => "busy",
        _ => "unknown_result",
    }
}

/// The size class for so many units: all up to 8, then every 2nd, 4th and 8th.
pub fn class_of(units: u32) -> u32 {
    match units {
        0..=8 => units.max(1) - 1,
        9..=16 => 8 + (units - 9) / 2,
        17..=32 => 12 + (units - 17) / 4,
        _ => 16 + (units - 33) / 8,
    }
}

/// Units of a block of this class.
pub fn class_units(class: u32) -> u32 {
    match class {
        0..=7 => class + 1,
        8..=11 => 10 + (class - 8) * 2,
        12..=15 => 20 + (class - 12) * 4,
        _ => 40 + (class - 16) * 8,
    }
}

/// Main buckets of a table of this length: seven eighths of all, the rest is for chains.
pub fn main_buckets(table_bytes: u64) -> u64 {
    let buckets = table_bytes.saturating_sub(TABLE_HEADER_BYTES) / BUCKET_BYTES;
    buckets - buckets / 8
}

/// Bytes of a table for so many records: a main bucket for every four, so that chains are rare (5 % of the buckets) and the
/// eighth of the table that is for chains holds them with room to spare.
pub fn table_bytes(records: u64) -> u64 {
    let main = records.div_ceil(4).max(64);
    TABLE_HEADER_BYTES + (main + main / 7 + 8) * BUCKET_BYTES
}

/// Bytes of a heap for so many records of one size, and for `spare` blocks that writers hold meanwhile.
pub fn heap_bytes(records: u64, key_bytes: usize, value_bytes: usize, spare: u64) -> u64 {
    let words = record_words(key_bytes, value_bytes);
    let units = class_units(class_of(words.div_ceil(2) as u32));
    HEAP_HEADER_BYTES + (((records + spare) * u64::from(units)) << UNIT_SHIFT)
}

/// 8-byte words of a record.
pub fn record_words(key_bytes: usize, value_bytes: usize) -> u64 {
    (1 + key_bytes.div_ceil(8) + value_bytes.div_ceil(8)) as u64
}

/// Where the value lies in a record.
pub fn value_offset(key_bytes: usize) -> usize {
    ITEM_HEADER_BYTES + key_bytes.next_multiple_of(8)
}

/// Writes the header of a record or message: the lengths of its key and value.
pub fn write_item_header(message: &mut [u8], key_bytes: usize, value_bytes: usize) {
    // As one word: it is soon read as one, which would wait for the stores of its parts.
    let header = key_bytes as u64 & 0xff | (value_bytes as u64 & 0xffff) << 16;
    message[..ITEM_HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
}

/// Writes the header of a `read_modify_write`: adds `number` to the word at `offset` in the value.
pub fn write_add_header(message: &mut [u8], key_bytes: usize, offset: u16, number: u64) {
    write_item_header(message, key_bytes, usize::from(offset));
    message[ITEM_HEADER_BYTES..ADD_HEADER_BYTES].copy_from_slice(&number.to_le_bytes());
}

/// Key and value of a record that a `get` returned, if it is one with a key of this length.
pub fn parse_item(reply: &[u8], key_bytes: usize) -> Option<(&[u8], &[u8])> {
    let header = reply.first_chunk::<ITEM_HEADER_BYTES>()?;
    let value_bytes = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let value_start = value_offset(key_bytes);
    let key = reply.get(ITEM_HEADER_BYTES..ITEM_HEADER_BYTES + key_bytes)?;
    let value = reply.get(value_start..value_start + value_bytes)?;
    (usize::from(header[0]) == key_bytes && reply.len() == value_start + value_bytes).then_some((key, value))
}

/// Bytes of a record by its header, with a key of this length.
pub fn item_bytes(record: &[u8], key_bytes: usize) -> usize {
    let value_bytes = record.get(2..4).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes));
    value_offset(key_bytes) + usize::from(value_bytes)
}

/// The field as it was before a `read_modify_write`.
pub fn parse_add(reply: &[u8]) -> Option<u64> {
    let number = reply.get(ITEM_HEADER_BYTES..ADD_HEADER_BYTES)?.first_chunk::<8>()?;
    (reply.len() == ADD_HEADER_BYTES).then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record fits the block of its class, and no smaller class would do.
    #[test]
    fn classes_hold_their_records() {
        for words in 3..=ITEM_WORDS_MAX {
            let units = words.div_ceil(2) as u32;
            let class = class_of(units);
            assert!(class < CLASSES && class_units(class) >= units, "{words} words");
            assert!(class == 0 || class_units(class - 1) < units, "{words} words would fit class {}", class - 1);
        }
    }

    /// Tables have a main bucket for every four records, and no more groups than there are counters.
    #[test]
    fn tables_have_the_buckets_that_were_asked_for() {
        for (records, main) in [(1, 64), (1_000_000, 250_000), (10_000, 2500), (8_000_000, 2_000_000)] {
            let bytes = table_bytes(records);
            assert!((main..=main + 8).contains(&main_buckets(bytes)), "{records} records: {}", main_buckets(bytes));
            assert!(main_buckets(bytes) >> GROUP_SHIFT <= GROUPS);
        }
    }

    /// What is written is what is parsed; cut, longer and foreign replies are none.
    #[test]
    fn records_survive_the_message() {
        for key_bytes in [8, 13, 64] {
            let mut message = vec![0; value_offset(key_bytes) + 100];
            write_item_header(&mut message, key_bytes, 100);
            let start = message.len() - 100;
            message[ITEM_HEADER_BYTES..ITEM_HEADER_BYTES + key_bytes].fill(7);
            message[start..].fill(9);
            let (key, value) = parse_item(&message, key_bytes).unwrap();
            assert_eq!(item_bytes(&message, key_bytes), message.len());
            assert_eq!((key, value), (&vec![7; key_bytes][..], &[9; 100][..]));
            assert_eq!(parse_item(&message[..message.len() - 1], key_bytes), None);
            assert_eq!(parse_item(&message, key_bytes - 1), None);
            message.push(0);
            assert_eq!(parse_item(&message, key_bytes), None);
            assert_eq!(parse_item(&[], key_bytes), None);
        }
        let mut message = [0; ADD_HEADER_BYTES];
        write_add_header(&mut message, 8, 0, 1 << 32);
        assert_eq!(parse_add(&message), Some(1 << 32));
        assert_eq!(parse_add(&message[..15]), None);
    }
}
