//! What may be known of one 64-bit value: the vocabulary of contracts.

use crate::abi::address;
use minicbor::{Decode, Encode};

/// A set of numbers: the intersection of all its parts. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Scalar {
    /// Smallest value, unsigned.
    #[n(0)]
    pub unsigned_min: u64,
    /// Largest value, unsigned.
    #[n(1)]
    pub unsigned_max: u64,
    /// Smallest value, signed.
    #[n(2)]
    pub signed_min: i64,
    /// Largest value, signed.
    #[n(3)]
    pub signed_max: i64,
    /// Smallest value of the low half, unsigned.
    #[n(4)]
    pub low_unsigned_min: u32,
    /// Largest value of the low half, unsigned.
    #[n(5)]
    pub low_unsigned_max: u32,
    /// Smallest value of the low half, signed.
    #[n(6)]
    pub low_signed_min: i32,
    /// Largest value of the low half, signed.
    #[n(7)]
    pub low_signed_max: i32,
    /// Bits known to be one.
    #[n(8)]
    pub ones: u64,
    /// Bits known to be zero.
    #[n(9)]
    pub zeros: u64,
    /// Every value is `signed_min` plus a multiple of this; 1 says nothing, 0 only if there is one value.
    #[n(10)]
    pub stride: u64,
}

impl Scalar {
    /// Every number.
    pub const ANY: Scalar = Scalar {
        unsigned_min: 0,
        unsigned_max: u64::MAX,
        signed_min: i64::MIN,
        signed_max: i64::MAX,
        low_unsigned_min: 0,
        low_unsigned_max: u32::MAX,
        low_signed_min: i32::MIN,
        low_signed_max: i32::MAX,
        ones: 0,
        zeros: 0,
        stride: 1,
    };

    /// One number.
    pub fn constant(value: u64) -> Scalar {
        Scalar {
            unsigned_min: value,
            unsigned_max: value,
            signed_min: value as i64,
            signed_max: value as i64,
            low_unsigned_min: value as u32,
            low_unsigned_max: value as u32,
            low_signed_min: value as i32,
            low_signed_max: value as i32,
            ones: value,
            zeros: !value,
            stride: 0,
        }
    }

    /// Whether `value` is in the set.
    pub fn admits(&self, value: u64) -> bool {
        let (signed, low) = (value as i64, value as u32);
        let on_stride = match self.stride {
            0 => signed == self.signed_min,
            stride => (signed.wrapping_sub(self.signed_min) as u64).is_multiple_of(stride),
        };
        (self.unsigned_min..=self.unsigned_max).contains(&value)
            && (self.signed_min..=self.signed_max).contains(&signed)
            && (self.low_unsigned_min..=self.low_unsigned_max).contains(&low)
            && (self.low_signed_min..=self.low_signed_max).contains(&(low as i32))
            && value & self.ones == self.ones
            && value & self.zeros == 0
            && on_stride
    }
}

/// A set of pointers: the union of its parts, at least one of which is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Pointer {
    /// Null.
    #[n(0)]
    pub null: bool,
    /// Into (or beside) the stack: signed offset from r10.
    #[n(1)]
    pub stack: Option<Scalar>,
    /// Into (or beside) the body: signed offset from its first byte.
    #[n(2)]
    pub body: Option<Scalar>,
    /// Into (or beside) the read-only data: signed offset from its first byte.
    #[n(3)]
    pub read_only: Option<Scalar>,
    /// Handles of regions: bit `i` is region `i`.
    #[n(4)]
    pub regions: u64,
}

impl Pointer {
    /// Whether the address `word` is in the set.
    pub fn admits(&self, word: u64) -> bool {
        let lies = |offset: &Option<Scalar>, start: u64| offset.is_some_and(|offset| offset.admits(word.wrapping_sub(start)));
        let region = word.wrapping_sub(address::REGION_START);
        (self.null && word == 0)
            || lies(&self.stack, address::STACK_END)
            || lies(&self.body, address::BODY_START)
            || lies(&self.read_only, address::READ_ONLY_START)
            || (region < 64 && self.regions >> region & 1 == 1)
    }
}

/// What a contract says of one live value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Value {
    /// A number.
    #[n(0)]
    Scalar(#[n(0)] Scalar),
    /// An address.
    #[n(1)]
    Pointer(#[n(0)] Pointer),
}

impl Value {
    /// Whether `word` is in the set.
    pub fn admits(&self, word: u64) -> bool {
        match self {
            Value::Scalar(scalar) => scalar.admits(word),
            Value::Pointer(pointer) => pointer.admits(word),
        }
    }
}
