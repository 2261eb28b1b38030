//! Sets of numbers as a lattice: union, intersection, inclusion, widening, and the mutual tightening of their parts.
//!
//! A [`Scalar`] is a reduced product: intervals of the whole value and of its low half, each signed and unsigned, known bits and a
//! stride. Whatever one part knows, [`Scalar::reduce`] lets the others know. Arithmetic is in `arithmetic`, conditions in `comparison`.

use super::value::Scalar;

/// The low half of a word.
pub(super) const LOW: u64 = 0xffff_ffff;
/// Tightening stops after this many rounds; most sets need two.
const REDUCE_ROUNDS_MAX: usize = 6;
/// Largest factor by which a stride is refined to agree with known low bits.
const STRIDE_FACTOR_MAX: u64 = 64;

impl Scalar {
    /// The numbers from `min` to `max`, unsigned. `min` must not be larger.
    pub fn unsigned(min: u64, max: u64) -> Scalar {
        Scalar { unsigned_min: min, unsigned_max: max, ..Scalar::ANY }.reduce().unwrap_or(Scalar::ANY)
    }

    /// The numbers from `min` to `max`, signed. `min` must not be larger.
    pub fn signed(min: i64, max: i64) -> Scalar {
        Scalar { signed_min: min, signed_max: max, ..Scalar::ANY }.reduce().unwrap_or(Scalar::ANY)
    }

    /// The only number, if there is one.
    pub fn as_constant(&self) -> Option<u64> {
        (self.unsigned_min == self.unsigned_max).then_some(self.unsigned_min)
    }

    /// Lets every part know what the others know; none if the set is empty (not every empty set is seen to be). No number gets lost; a few
    /// are added where known low bits and stride cannot be expressed as one stride.
    pub fn reduce(self) -> Option<Scalar> {
        let base = self.signed_min;
        self.reduce_from(base)
    }

    /// As [`Scalar::reduce`], for a set whose stride counts from `base` instead of `signed_min`.
    pub(super) fn reduce_from(mut self, base: i64) -> Option<Scalar> {
        let mut base = base;
        if self.stride == 0 {
            (self.signed_min, self.signed_max) = (self.signed_min.max(base), self.signed_max.min(base));
            self.stride = 1;
        }
        for _ in 0..REDUCE_ROUNDS_MAX {
            let before = self;
            self.intersect_signs();
            self.halves_from_whole();
            self.whole_from_halves()?;
            self.bits_from_intervals();
            self.intervals_from_bits();
            if self.is_plainly_empty() {
                return None;
            }
            self.agree_on_stride(&mut base)?;
            if self.signed_min == self.signed_max {
                let only = Scalar::constant(self.signed_min as u64);
                return self.admits(self.signed_min as u64).then_some(only);
            }
            if self == before {
                break;
            }
        }
        (!self.is_plainly_empty()).then_some(self)
    }

    fn is_plainly_empty(&self) -> bool {
        self.unsigned_min > self.unsigned_max
            || self.signed_min > self.signed_max
            || self.low_unsigned_min > self.low_unsigned_max
            || self.low_signed_min > self.low_signed_max
            || self.ones & self.zeros != 0
    }

    /// Where a whole interval lies on one side of the sign, signed and unsigned are the same interval; likewise for the low half.
    fn intersect_signs(&mut self) {
        if self.signed_min >= 0 || self.signed_max < 0 {
            self.unsigned_min = self.unsigned_min.max(self.signed_min as u64);
            self.unsigned_max = self.unsigned_max.min(self.signed_max as u64);
        }
        if self.unsigned_max <= i64::MAX as u64 || self.unsigned_min > i64::MAX as u64 {
            self.signed_min = self.signed_min.max(self.unsigned_min as i64);
            self.signed_max = self.signed_max.min(self.unsigned_max as i64);
        }
        if self.low_signed_min >= 0 || self.low_signed_max < 0 {
            self.low_unsigned_min = self.low_unsigned_min.max(self.low_signed_min as u32);
            self.low_unsigned_max = self.low_unsigned_max.min(self.low_signed_max as u32);
        }
        if self.low_unsigned_max <= i32::MAX as u32 || self.low_unsigned_min > i32::MAX as u32 {
            self.low_signed_min = self.low_signed_min.max(self.low_unsigned_min as i32);
            self.low_signed_max = self.low_signed_max.min(self.low_unsigned_max as i32);
        }
    }

    fn halves_from_whole(&mut self) {
        if self.unsigned_min >> 32 == self.unsigned_max >> 32 {
            self.low_unsigned_min = self.low_unsigned_min.max(self.unsigned_min as u32);
            self.low_unsigned_max = self.low_unsigned_max.min(self.unsigned_max as u32);
        }
        if self.signed_min >> 32 == self.signed_max >> 32 {
            self.low_unsigned_min = self.low_unsigned_min.max(self.signed_min as u32);
            self.low_unsigned_max = self.low_unsigned_max.min(self.signed_max as u32);
        }
        if self.signed_min >= i64::from(i32::MIN) && self.signed_max <= i64::from(i32::MAX) {
            self.low_signed_min = self.low_signed_min.max(self.signed_min as i32);
            self.low_signed_max = self.low_signed_max.min(self.signed_max as i32);
        }
    }

    /// Moves the ends of the whole intervals to the nearest numbers whose low halves are possible.
    fn whole_from_halves(&mut self) -> Option<()> {
        let (low_min, low_max) = (u64::from(self.low_unsigned_min), u64::from(self.low_unsigned_max));
        let up = |value: i128| -> i128 {
            let low = value & i128::from(LOW);
            match (low as u64) < low_min || (low as u64) > low_max {
                false => value,
                true if (low as u64) < low_min => value - low + i128::from(low_min),
                true => value - low + (1 << 32) + i128::from(low_min),
            }
        };
        let down = |value: i128| -> i128 {
            let low = value & i128::from(LOW);
            match (low as u64) < low_min || (low as u64) > low_max {
                false => value,
                true if (low as u64) > low_max => value - low + i128::from(low_max),
                true => value - low - (1 << 32) + i128::from(low_max),
            }
        };
        self.unsigned_min = u64::try_from(up(self.unsigned_min.into())).ok()?;
        self.unsigned_max = u64::try_from(down(self.unsigned_max.into())).ok()?;
        self.signed_min = i64::try_from(up(self.signed_min.into())).ok()?;
        self.signed_max = i64::try_from(down(self.signed_max.into())).ok()?;
        if self.signed_min >= i64::from(i32::MIN) && self.signed_max <= i64::from(i32::MAX) {
            self.signed_min = self.signed_min.max(self.low_signed_min.into());
            self.signed_max = self.signed_max.min(self.low_signed_max.into());
        }
        Some(())
    }

    /// Bits above the highest one in which the ends of an interval differ are known.
    fn bits_from_intervals(&mut self) {
        let differ = self.unsigned_min ^ self.unsigned_max;
        let known = if differ == 0 { u64::MAX } else { !(u64::MAX >> differ.leading_zeros()) };
        let differ_low = self.low_unsigned_min ^ self.low_unsigned_max;
        let known_low = if differ_low == 0 { u32::MAX } else { !(u32::MAX >> differ_low.leading_zeros()) };
        let low = u64::from(self.low_unsigned_min);
        self.ones |= (self.unsigned_min & known) | (low & u64::from(known_low));
        self.zeros |= (!self.unsigned_min & known) | (!low & u64::from(known_low));
    }

    fn intervals_from_bits(&mut self) {
        const SIGN: u64 = 1 << 63;
        let (ones, may) = (self.ones, !self.zeros);
        self.unsigned_min = self.unsigned_min.max(ones);
        self.unsigned_max = self.unsigned_max.min(may);
        self.signed_min = self.signed_min.max((ones | (may & SIGN)) as i64);
        self.signed_max = self.signed_max.min((may & (!SIGN | ones)) as i64);
        self.low_unsigned_min = self.low_unsigned_min.max(ones as u32);
        self.low_unsigned_max = self.low_unsigned_max.min(may as u32);
        const SIGN_LOW: u32 = 1 << 31;
        self.low_signed_min = self.low_signed_min.max((ones as u32 | (may as u32 & SIGN_LOW)) as i32);
        self.low_signed_max = self.low_signed_max.min((may as u32 & (!SIGN_LOW | ones as u32)) as i32);
    }

    /// Known low bits and stride say the same in two ways; the ends of the signed interval lie on the stride.
    fn agree_on_stride(&mut self, base: &mut i64) -> Option<()> {
        let known_low_bits = (self.ones | self.zeros).trailing_ones().min(62);
        let modulus = 1u64 << known_low_bits;
        let residue = self.ones & (modulus - 1);
        let factor = modulus >> self.stride.trailing_zeros().min(known_low_bits);
        if factor > STRIDE_FACTOR_MAX || (factor > 1 && self.stride == 1) {
            if modulus > self.stride {
                self.stride = modulus;
                *base = residue as i64;
            }
        } else {
            // The first multiple of the stride whose low bits are the known ones; there is none if the two contradict each other.
            let step = (0..factor).find(|step| {
                let candidate = (*base as u64).wrapping_add(self.stride.wrapping_mul(*step));
                candidate & (modulus - 1) == residue
            })?;
            if let Some(stride) = self.stride.checked_mul(factor) {
                let moved = i128::from(*base) + i128::from(self.stride) * i128::from(step);
                if let Ok(moved) = i64::try_from(moved) {
                    (*base, self.stride) = (moved, stride);
                }
            }
        }
        let stride = i128::from(self.stride);
        let (from, min, max) = (i128::from(*base), i128::from(self.signed_min), i128::from(self.signed_max));
        let min = min + (from - min).rem_euclid(stride);
        let max = max - (max - from).rem_euclid(stride);
        if min > max {
            return None;
        }
        (self.signed_min, self.signed_max) = (i64::try_from(min).ok()?, i64::try_from(max).ok()?);
        *base = self.signed_min;
        let bits = (1u64 << self.stride.trailing_zeros().min(63)) - 1;
        self.ones |= self.signed_min as u64 & bits;
        self.zeros |= !(self.signed_min as u64) & bits;
        Some(())
    }

    /// Every number of either.
    pub fn join(self, other: Scalar) -> Scalar {
        if self == other {
            return self;
        }
        let stride = gcd(gcd(self.stride, other.stride), self.signed_min.abs_diff(other.signed_min));
        let hull = Scalar {
            unsigned_min: self.unsigned_min.min(other.unsigned_min),
            unsigned_max: self.unsigned_max.max(other.unsigned_max),
            signed_min: self.signed_min.min(other.signed_min),
            signed_max: self.signed_max.max(other.signed_max),
            low_unsigned_min: self.low_unsigned_min.min(other.low_unsigned_min),
            low_unsigned_max: self.low_unsigned_max.max(other.low_unsigned_max),
            low_signed_min: self.low_signed_min.min(other.low_signed_min),
            low_signed_max: self.low_signed_max.max(other.low_signed_max),
            ones: self.ones & other.ones,
            zeros: self.zeros & other.zeros,
            stride,
        };
        hull.reduce().unwrap_or(hull)
    }

    /// The numbers of both (or a few more: one of two strides is kept); none if there are none.
    pub fn meet(self, other: Scalar) -> Option<Scalar> {
        if self == other {
            return Some(self);
        }
        for (one, many) in [(self, other), (other, self)] {
            if let Some(constant) = one.as_constant() {
                return (one.admits(constant) && many.admits(constant)).then_some(one);
            }
        }
        let (coarse, _) = if self.stride >= other.stride { (self, other) } else { (other, self) };
        let both = Scalar {
            unsigned_min: self.unsigned_min.max(other.unsigned_min),
            unsigned_max: self.unsigned_max.min(other.unsigned_max),
            signed_min: self.signed_min.max(other.signed_min),
            signed_max: self.signed_max.min(other.signed_max),
            low_unsigned_min: self.low_unsigned_min.max(other.low_unsigned_min),
            low_unsigned_max: self.low_unsigned_max.min(other.low_unsigned_max),
            low_signed_min: self.low_signed_min.max(other.low_signed_min),
            low_signed_max: self.low_signed_max.min(other.low_signed_max),
            ones: self.ones | other.ones,
            zeros: self.zeros | other.zeros,
            stride: coarse.stride,
        };
        both.reduce_from(coarse.signed_min)
    }

    /// Keeps of this set what agrees with `low` in the low half.
    pub(super) fn meet_low(self, low: Scalar) -> Option<Scalar> {
        let base = self.signed_min;
        Scalar {
            low_unsigned_min: self.low_unsigned_min.max(low.low_unsigned_min),
            low_unsigned_max: self.low_unsigned_max.min(low.low_unsigned_max),
            low_signed_min: self.low_signed_min.max(low.low_signed_min),
            low_signed_max: self.low_signed_max.min(low.low_signed_max),
            ones: self.ones | (low.ones & LOW),
            zeros: self.zeros | (low.zeros & LOW),
            ..self
        }
        .reduce_from(base)
    }

    /// Whether every part of this set lies in the same part of the other: then the set does.
    pub fn is_within(&self, other: &Scalar) -> bool {
        let on_stride = match other.stride {
            0 => self.signed_min == self.signed_max && self.signed_min == other.signed_min,
            stride => self.stride.is_multiple_of(stride) && self.signed_min.abs_diff(other.signed_min).is_multiple_of(stride),
        };
        on_stride
            && self.unsigned_min >= other.unsigned_min
            && self.unsigned_max <= other.unsigned_max
            && self.signed_min >= other.signed_min
            && self.signed_max <= other.signed_max
            && self.low_unsigned_min >= other.low_unsigned_min
            && self.low_unsigned_max <= other.low_unsigned_max
            && self.low_signed_min >= other.low_signed_min
            && self.low_signed_max <= other.low_signed_max
            && other.ones & !self.ones == 0
            && other.zeros & !self.zeros == 0
    }

    /// A set that holds `self` and `next`, which holds `self`; ends that moved go to the next of the ascending `thresholds`.
    pub fn widen(self, next: Scalar, thresholds: &[u64]) -> Scalar {
        let unsigned_up = |value: u64| thresholds.iter().copied().filter(|t| *t >= value).min().unwrap_or(u64::MAX);
        let unsigned_down = |value: u64| thresholds.iter().copied().filter(|t| *t <= value).max().unwrap_or(0);
        let signed_up = |value: i64| thresholds.iter().map(|t| *t as i64).filter(|t| *t >= value).min().unwrap_or(i64::MAX);
        let signed_down = |value: i64| thresholds.iter().map(|t| *t as i64).filter(|t| *t <= value).max().unwrap_or(i64::MIN);
        let low_up = |value: u32| thresholds.iter().map(|t| *t as u32).filter(|t| *t >= value).min().unwrap_or(u32::MAX);
        let low_down = |value: u32| thresholds.iter().map(|t| *t as u32).filter(|t| *t <= value).max().unwrap_or(0);
        let low_signed_up = |value: i32| thresholds.iter().map(|t| *t as i32).filter(|t| *t >= value).min().unwrap_or(i32::MAX);
        let low_signed_down = |value: i32| thresholds.iter().map(|t| *t as i32).filter(|t| *t <= value).max().unwrap_or(i32::MIN);
        fn moved<T: PartialEq + Copy>(old: T, new: T, to: impl Fn(T) -> T) -> T {
            if old == new { old } else { to(new) }
        }
        // Bits that are not stable are given up together, all but the run of low ones: they are the alignment.
        let known = next.ones | next.zeros;
        let stable = known == self.ones | self.zeros;
        let keep = if stable { known } else { (1u64 << known.trailing_ones().min(63)) - 1 };
        let wide = Scalar {
            unsigned_min: moved(self.unsigned_min, next.unsigned_min, unsigned_down),
            unsigned_max: moved(self.unsigned_max, next.unsigned_max, unsigned_up),
            signed_min: moved(self.signed_min, next.signed_min, signed_down),
            signed_max: moved(self.signed_max, next.signed_max, signed_up),
            low_unsigned_min: moved(self.low_unsigned_min, next.low_unsigned_min, low_down),
            low_unsigned_max: moved(self.low_unsigned_max, next.low_unsigned_max, low_up),
            low_signed_min: moved(self.low_signed_min, next.low_signed_min, low_signed_down),
            low_signed_max: moved(self.low_signed_max, next.low_signed_max, low_signed_up),
            ones: next.ones & keep,
            zeros: next.zeros & keep,
            stride: next.stride.max(1),
        };
        wide.reduce_from(next.signed_min).unwrap_or(Scalar::ANY)
    }
}

/// Greatest common divisor; of 0 and a number it is the number.
pub(super) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
