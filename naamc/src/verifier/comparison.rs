//! What the outcome of a comparison says of its operands.

use super::arithmetic::{sign_extend, zero_extend};
use super::value::Scalar;
use crate::isa::{Condition, Width};

/// What is left of both operands where `left condition right` holds (or does not, if `holds` is false); none if that cannot be.
pub fn refine(width: Width, condition: Condition, holds: bool, left: Scalar, right: Scalar) -> Option<(Scalar, Scalar)> {
    if width == Width::W64 {
        return refine_64(condition, holds, left, right);
    }
    // The low halves are compared as 64-bit numbers, and what that says goes back into the low halves.
    let unsigned = |left: Scalar, right: Scalar| {
        let (low_left, low_right) = refine_64(condition, holds, zero_extend(left), zero_extend(right))?;
        Some((left.meet_low(low_left)?, right.meet_low(low_right)?))
    };
    let signed = |left: Scalar, right: Scalar| {
        let (low_left, low_right) = refine_64(condition, holds, sign_extend(left, 32), sign_extend(right, 32))?;
        Some((left.meet_low(low_left)?, right.meet_low(low_right)?))
    };
    match condition {
        Condition::Equal | Condition::NotEqual => {
            let (left, right) = unsigned(left, right)?;
            signed(left, right)
        }
        Condition::SignedGreater | Condition::SignedGreaterOrEqual | Condition::SignedLess | Condition::SignedLessOrEqual => {
            signed(left, right)
        }
        Condition::AnySet | Condition::Greater | Condition::GreaterOrEqual | Condition::Less | Condition::LessOrEqual => {
            unsigned(left, right)
        }
    }
}

fn refine_64(condition: Condition, holds: bool, left: Scalar, right: Scalar) -> Option<(Scalar, Scalar)> {
    let swapped = |pair: Option<(Scalar, Scalar)>| pair.map(|(left, right)| (right, left));
    match (condition, holds) {
        (Condition::Equal, true) | (Condition::NotEqual, false) => {
            let both = left.meet(right)?;
            Some((both, both))
        }
        (Condition::Equal, false) | (Condition::NotEqual, true) => {
            let left = without(left, right)?;
            Some((left, without(right, left)?))
        }
        (Condition::AnySet, holds) => bits(holds, left, right),
        (Condition::Less, true) | (Condition::GreaterOrEqual, false) => less(left, right, 1),
        (Condition::LessOrEqual, true) | (Condition::Greater, false) => less(left, right, 0),
        (Condition::Greater, true) | (Condition::LessOrEqual, false) => swapped(less(right, left, 1)),
        (Condition::GreaterOrEqual, true) | (Condition::Less, false) => swapped(less(right, left, 0)),
        (Condition::SignedLess, true) | (Condition::SignedGreaterOrEqual, false) => signed_less(left, right, 1),
        (Condition::SignedLessOrEqual, true) | (Condition::SignedGreater, false) => signed_less(left, right, 0),
        (Condition::SignedGreater, true) | (Condition::SignedLessOrEqual, false) => swapped(signed_less(right, left, 1)),
        (Condition::SignedGreaterOrEqual, true) | (Condition::SignedLess, false) => swapped(signed_less(right, left, 0)),
    }
}

/// `set` without the one number that `other` is, where that is an end of an interval.
fn without(set: Scalar, other: Scalar) -> Option<Scalar> {
    let Some(number) = other.as_constant() else { return Some(set) };
    let (base, mut rest) = (set.signed_min, set);
    if rest.unsigned_min == number {
        rest.unsigned_min = number.checked_add(1)?;
    }
    if rest.unsigned_max == number {
        rest.unsigned_max = number.checked_sub(1)?;
    }
    let number = number as i64;
    if rest.signed_min == number {
        rest.signed_min = number.checked_add(1)?;
    }
    if rest.signed_max == number {
        rest.signed_max = number.checked_sub(1)?;
    }
    rest.reduce_from(base)
}

/// `left & right != 0`, or its opposite.
fn bits(holds: bool, left: Scalar, right: Scalar) -> Option<(Scalar, Scalar)> {
    let knowing = |set: Scalar, other: Scalar| match (holds, other.as_constant()) {
        (false, _) => Scalar { zeros: set.zeros | other.ones, ..set }.reduce_from(set.signed_min),
        (true, Some(bit)) if bit.is_power_of_two() => Scalar { ones: set.ones | bit, ..set }.reduce_from(set.signed_min),
        (true, _) if !set.zeros & !other.zeros == 0 => None,
        (true, _) => without(set, Scalar::constant(0)),
    };
    Some((knowing(left, right)?, knowing(right, left)?))
}

/// `left + gap <= right`, unsigned.
fn less(left: Scalar, right: Scalar, gap: u64) -> Option<(Scalar, Scalar)> {
    let max = left.unsigned_max.min(right.unsigned_max.checked_sub(gap)?);
    let min = right.unsigned_min.max(left.unsigned_min.checked_add(gap)?);
    let left = Scalar { unsigned_max: max, ..left }.reduce_from(left.signed_min)?;
    Some((left, Scalar { unsigned_min: min, ..right }.reduce_from(right.signed_min)?))
}

/// `left + gap <= right`, signed.
fn signed_less(left: Scalar, right: Scalar, gap: i64) -> Option<(Scalar, Scalar)> {
    let max = left.signed_max.min(right.signed_max.checked_sub(gap)?);
    let min = right.signed_min.max(left.signed_min.checked_add(gap)?);
    let left = Scalar { signed_max: max, ..left }.reduce_from(left.signed_min)?;
    Some((left, Scalar { signed_min: min, ..right }.reduce_from(right.signed_min)?))
}
