//! The small table of MICA in which handlers die.

#[path = "../../../testdata/handlers/mica_table.rs"]
mod mica_table;

use mica_table::{BUCKET_BYTES, HEADER_BYTES};
pub use mica_table::{Census, addition, class_units, list_of, record};

/// Regions, in the bundle's order.
pub const HEAP: usize = 0;
pub const TABLE: usize = 1;

/// Bytes of the table: 64 buckets, of which 8 are extra ones.
pub const TABLE_BYTES: usize = HEADER_BYTES + 64 * BUCKET_BYTES;
/// Bytes of its heap.
pub const HEAP_BYTES: usize = HEADER_BYTES + 3 * 4096;

/// Offset of the main bucket of a key of eight bytes.
pub fn bucket_of(key: u64) -> usize {
    mica_table::bucket_of(key, TABLE_BYTES)
}

/// What the bytes of its regions say.
pub fn census(memory: &[Vec<u8>]) -> Census {
    Census::take(&memory[HEAP], &memory[TABLE])
}
