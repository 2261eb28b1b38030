//! Values that prove what they are: whose they are, which version, and that no byte of them is from another.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0 to 4 | key number |
//! | 4 to 8 | version: 1 when loaded, raised by each write to the record |
//! | from 8 | words that follow from both; the last may be cut short |
//!
//! A read-modify-write adds [`VERSION_STEP`] to the first word, so there the version counts the changes. Workloads with such writes
//! make the other words follow from the key alone ([`Stamp::Counted`]).

/// Bytes of a value at least.
pub const VALUE_BYTES_MIN: usize = 8;
/// Bytes of a value at most: what `handlers/mica` stores.
pub const VALUE_BYTES_MAX: usize = 1024;
/// What one read-modify-write adds to a value's first word.
pub const VERSION_STEP: u64 = 1 << 32;

/// What the words after the first follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Key number and version: a value made of two versions is found.
    Versioned,
    /// The key number: the handler itself raises the version.
    Counted,
}

impl Stamp {
    /// Fills `value`.
    ///
    /// # Panics
    ///
    /// If `value` is shorter than [`VALUE_BYTES_MIN`].
    pub fn fill(self, key_number: u64, version: u32, value: &mut [u8]) {
        let (first, rest) = value.split_at_mut(VALUE_BYTES_MIN);
        first.copy_from_slice(&first_word(key_number, version).to_le_bytes());
        let mut word = self.base(key_number, version);
        for piece in rest.chunks_mut(8) {
            word = word.wrapping_add(STEP);
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
        }
    }

    /// The version inside `value`, if every byte is as [`Stamp::fill`] makes it for this key and that version, and the length is
    /// `value_bytes`.
    pub fn check(self, key_number: u64, value_bytes: usize, value: &[u8]) -> Option<u32> {
        if value.len() != value_bytes {
            return None;
        }
        let (first, rest) = value.split_first_chunk::<8>()?;
        let first = u64::from_le_bytes(*first);
        if first as u32 != key_number as u32 {
            return None;
        }
        let version = (first >> 32) as u32;
        let mut word = self.base(key_number, version);
        let (words, tail) = rest.as_chunks::<8>();
        // Word by word: the reply was copied so just now, and a load of two words would wait for every store before.
        for piece in words {
            word = word.wrapping_add(STEP);
            if u64::from_le_bytes(*piece) != word {
                return None;
            }
        }
        let last = word.wrapping_add(STEP).to_le_bytes();
        (tail.is_empty() || tail == &last[..tail.len()]).then_some(version)
    }

    fn base(self, key_number: u64, version: u32) -> u64 {
        let seed = match self {
            Stamp::Versioned => first_word(key_number, version),
            Stamp::Counted => key_number,
        };
        seed.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(32).wrapping_mul(0xCA5A_8263_9512_1157)
    }
}

/// Between neighbouring words; odd, so that no two words of a value are alike.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

fn first_word(key_number: u64, version: u32) -> u64 {
    u64::from(version) << 32 | key_number & 0xFFFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMPS: [Stamp; 2] = [Stamp::Versioned, Stamp::Counted];

    /// What is filled passes, at every length, and says its version.
    #[test]
    fn filled_values_pass() {
        for stamp in STAMPS {
            for length in [8, 9, 15, 16, 64, 100, 1000, 1024] {
                let mut value = vec![0; length];
                stamp.fill(77, 5, &mut value);
                assert_eq!(stamp.check(77, length, &value), Some(5));
            }
        }
    }

    /// Any changed byte, another key, and another length are found. Counted values let the version change, and only that.
    #[test]
    fn wrong_values_are_found() {
        for stamp in STAMPS {
            let mut value = vec![0; 67];
            stamp.fill(77, 5, &mut value);
            assert_eq!(stamp.check(78, 67, &value), None, "another key's value");
            assert_eq!(stamp.check(77, 68, &value), None, "another length");
            assert_eq!(stamp.check(77, 4, &value[..4]), None, "no first word");
            for byte in 0..value.len() {
                value[byte] ^= 0x10;
                let counted = stamp == Stamp::Counted && (4..8).contains(&byte);
                assert_eq!(stamp.check(77, 67, &value).is_some(), counted, "byte {byte} of {stamp:?}");
                value[byte] ^= 0x10;
            }
        }
    }

    /// A value torn between two versions at any word is found.
    #[test]
    fn torn_values_are_found() {
        let (mut old, mut new) = (vec![0; 64], vec![0; 64]);
        Stamp::Versioned.fill(3, 1, &mut old);
        Stamp::Versioned.fill(3, 2, &mut new);
        for cut in (8..64).step_by(8) {
            let torn = [&new[..cut], &old[cut..]].concat();
            assert_eq!(Stamp::Versioned.check(3, 64, &torn), None, "torn at {cut}");
            let torn = [&old[..cut], &new[cut..]].concat();
            assert_eq!(Stamp::Versioned.check(3, 64, &torn), None, "torn at {cut}");
        }
    }

    /// Adding the step to the first word is what a read-modify-write does: the value stays right and one version newer.
    #[test]
    fn read_modify_write_raises_the_version() {
        let mut value = vec![0; 64];
        Stamp::Counted.fill(9, 1, &mut value);
        let word = u64::from_le_bytes(value[..8].try_into().unwrap()) + VERSION_STEP;
        value[..8].copy_from_slice(&word.to_le_bytes());
        assert_eq!(Stamp::Counted.check(9, 64, &value), Some(2));
    }
}
