//! Key numbers and the bytes that stand for them: YCSB's "hashed" key order.

/// Bytes of a key at least: the hashed key number.
pub const KEY_BYTES_MIN: usize = 8;
/// Bytes of a key at most: what `handlers/mica` stores.
pub const KEY_BYTES_MAX: usize = 64;

/// FNV-1a (64 bits) over the eight little-endian bytes of `number`, as an absolute value: YCSB's `Utils.hash`.
///
/// The offset basis and the prime are those of YCSB; Java's absolute value leaves `i64::MIN` as it is, and so does this.
pub fn fnv(number: u64) -> u64 {
    const OFFSET_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 1_099_511_628_211;
    let hash = number.to_le_bytes().iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    (hash as i64).wrapping_abs() as u64
}

/// Writes the key with this number over the whole of `key`: the hash of the number, then words that follow from it.
///
/// # Panics
///
/// If `key` is shorter than [`KEY_BYTES_MIN`].
pub fn write_key(number: u64, key: &mut [u8]) {
    let hash = fnv(number);
    let (head, padding) = key.split_at_mut(KEY_BYTES_MIN);
    head.copy_from_slice(&hash.to_le_bytes());
    let mut word = hash;
    for piece in padding.chunks_mut(8) {
        word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors are YCSB's own: the Java class gives these.
    #[test]
    fn fnv_gives_the_hashes_of_ycsb() {
        let vectors = [
            (0, 6284781860667377211),
            (1, 8517097267634966620),
            (2, 1820151046732198393),
            (3, 4052466453699787802),
            (1000, 5952875239596136740),
        ];
        for (number, hash) in vectors {
            assert_eq!(fnv(number), hash, "hash of {number}");
        }
    }

    /// Longer keys begin with the short one, are the same each time, and differ from key to key in their padding too.
    #[test]
    fn longer_keys_extend_the_hash() {
        for length in [8, 9, 16, 31, 64] {
            let (mut first, mut again, mut other) = (vec![0; length], vec![0xff; length], vec![0; length]);
            write_key(7, &mut first);
            write_key(7, &mut again);
            write_key(8, &mut other);
            assert_eq!(first, again);
            assert_eq!(first[..8], fnv(7).to_le_bytes());
            assert!(length < 16 || first[length - 4..].iter().any(|byte| *byte != 0), "padding of {length} bytes is filled");
            assert!(first.chunks(8).zip(other.chunks(8)).all(|(a, b)| a != b));
        }
    }

    /// No two of a million key numbers share a key.
    #[test]
    fn a_million_keys_are_distinct() {
        let mut hashes: Vec<u64> = (0..1_000_000).map(fnv).collect();
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
