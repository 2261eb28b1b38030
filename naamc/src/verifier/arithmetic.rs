//! What every arithmetic instruction makes of sets of numbers.
//!
//! Each function returns a set that holds the result for every choice of operands; that is tested against concrete arithmetic. A 32-bit
//! operation looks at the operands' low halves alone, as 64-bit numbers, and its result is cut to 32 bits.

use super::scalar::{LOW, gcd};
use super::value::Scalar;
use crate::isa::{AluOperation, ByteOrder, Width};

/// The result of `left operation right`, but for `Move`, which is `right`.
pub fn alu(width: Width, operation: AluOperation, left: Scalar, right: Scalar) -> Scalar {
    match width {
        Width::W64 => alu_64(operation, left, right),
        Width::W32 => alu_32(operation, left, right),
    }
}

fn alu_64(operation: AluOperation, a: Scalar, b: Scalar) -> Scalar {
    if let (Some(a), Some(b)) = (a.as_constant(), b.as_constant()) {
        return Scalar::constant(constant_64(operation, a, b));
    }
    match operation {
        AluOperation::Add => add(a, b),
        AluOperation::Subtract => subtract(a, b),
        AluOperation::Multiply => multiply(a, b),
        AluOperation::Divide => divide(a, b),
        AluOperation::SignedDivide => signed_divide(a, b),
        AluOperation::Modulo => modulo(a, b),
        AluOperation::SignedModulo => signed_modulo(a, b),
        AluOperation::Or | AluOperation::And | AluOperation::Xor => bitwise(operation, a, b),
        AluOperation::ShiftLeft => over_counts(b, 63, |count| shift_left(a, count)),
        AluOperation::ShiftRight => over_counts(b, 63, |count| shift_right(a, count)),
        AluOperation::ShiftRightSigned => over_counts(b, 63, |count| shift_right_signed(a, count)),
        AluOperation::Move => b,
    }
}

fn alu_32(operation: AluOperation, a: Scalar, b: Scalar) -> Scalar {
    let zero_extended = || zero_extend(alu_64(operation, zero_extend(a), zero_extend(b)));
    let sign_extended = || zero_extend(alu_64(operation, sign_extend(a, 32), sign_extend(b, 32)));
    match operation {
        // The low half of these depends on the low halves alone, however they are extended: both ways hold.
        AluOperation::Add | AluOperation::Subtract | AluOperation::Multiply => {
            zero_extended().meet(sign_extended()).unwrap_or_else(zero_extended)
        }
        AluOperation::SignedDivide | AluOperation::SignedModulo => sign_extended(),
        AluOperation::ShiftLeft => over_counts(b, 31, |count| zero_extend(shift_left(zero_extend(a), count))),
        AluOperation::ShiftRight => over_counts(b, 31, |count| shift_right(zero_extend(a), count)),
        AluOperation::ShiftRightSigned => over_counts(b, 31, |count| zero_extend(shift_right_signed(sign_extend(a, 32), count))),
        AluOperation::Divide
        | AluOperation::Modulo
        | AluOperation::Or
        | AluOperation::And
        | AluOperation::Xor
        | AluOperation::Move => zero_extended(),
    }
}

/// RFC 9669 section 4.1 on two numbers. Written apart from the interpreter: a mistake in both would hide from every test that holds one
/// against the other.
fn constant_64(operation: AluOperation, a: u64, b: u64) -> u64 {
    let (signed, by) = (a as i64, b as i64);
    match operation {
        AluOperation::Add => a.wrapping_add(b),
        AluOperation::Subtract => a.wrapping_sub(b),
        AluOperation::Multiply => a.wrapping_mul(b),
        AluOperation::Divide => a.checked_div(b).unwrap_or(0),
        AluOperation::SignedDivide => {
            if by == 0 {
                0
            } else {
                signed.wrapping_div(by) as u64
            }
        }
        AluOperation::Modulo => a.checked_rem(b).unwrap_or(a),
        AluOperation::SignedModulo => {
            if by == 0 {
                a
            } else {
                signed.wrapping_rem(by) as u64
            }
        }
        AluOperation::Or => a | b,
        AluOperation::And => a & b,
        AluOperation::Xor => a ^ b,
        AluOperation::ShiftLeft => a << (b & 63),
        AluOperation::ShiftRight => a >> (b & 63),
        AluOperation::ShiftRightSigned => (signed >> (b & 63)) as u64,
        AluOperation::Move => b,
    }
}

/// The part of a result that is known, reduced. Nothing is known if it seems empty: then an operand was.
fn result(scalar: Scalar) -> Scalar {
    scalar.reduce().unwrap_or(Scalar::ANY)
}

/// The interval of `a op b` for a monotone `op` with overflow flag: exact if both ends overflow or neither does.
fn ends<T: Copy>(min: (T, bool), max: (T, bool), any: (T, T)) -> (T, T) {
    if min.1 == max.1 { (min.0, max.0) } else { any }
}

fn add(a: Scalar, b: Scalar) -> Scalar {
    let mut sum = Scalar::ANY;
    (sum.unsigned_min, sum.unsigned_max) =
        ends(a.unsigned_min.overflowing_add(b.unsigned_min), a.unsigned_max.overflowing_add(b.unsigned_max), (0, u64::MAX));
    (sum.low_unsigned_min, sum.low_unsigned_max) = ends(
        a.low_unsigned_min.overflowing_add(b.low_unsigned_min),
        a.low_unsigned_max.overflowing_add(b.low_unsigned_max),
        (0, u32::MAX),
    );
    if let (Some(min), Some(max)) = (a.signed_min.checked_add(b.signed_min), a.signed_max.checked_add(b.signed_max)) {
        (sum.signed_min, sum.signed_max) = (min, max);
        sum.stride = gcd(a.stride, b.stride).max(1);
    }
    if let (Some(min), Some(max)) = (a.low_signed_min.checked_add(b.low_signed_min), a.low_signed_max.checked_add(b.low_signed_max))
    {
        (sum.low_signed_min, sum.low_signed_max) = (min, max);
    }
    // Known bits of a sum: Vishwanathan et al., "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers", CGO 2022.
    let (unknown_a, unknown_b) = (!(a.ones | a.zeros), !(b.ones | b.zeros));
    let least = a.ones.wrapping_add(b.ones);
    let most = least.wrapping_add(unknown_a.wrapping_add(unknown_b));
    let unknown = (most ^ least) | unknown_a | unknown_b;
    (sum.ones, sum.zeros) = (least & !unknown, !least & !unknown);
    result(sum)
}

fn subtract(a: Scalar, b: Scalar) -> Scalar {
    let mut difference = Scalar::ANY;
    (difference.unsigned_min, difference.unsigned_max) =
        ends(a.unsigned_min.overflowing_sub(b.unsigned_max), a.unsigned_max.overflowing_sub(b.unsigned_min), (0, u64::MAX));
    (difference.low_unsigned_min, difference.low_unsigned_max) = ends(
        a.low_unsigned_min.overflowing_sub(b.low_unsigned_max),
        a.low_unsigned_max.overflowing_sub(b.low_unsigned_min),
        (0, u32::MAX),
    );
    if let (Some(min), Some(max)) = (a.signed_min.checked_sub(b.signed_max), a.signed_max.checked_sub(b.signed_min)) {
        (difference.signed_min, difference.signed_max) = (min, max);
        difference.stride = gcd(a.stride, b.stride).max(1);
    }
    if let (Some(min), Some(max)) = (a.low_signed_min.checked_sub(b.low_signed_max), a.low_signed_max.checked_sub(b.low_signed_min))
    {
        (difference.low_signed_min, difference.low_signed_max) = (min, max);
    }
    // As for the sum.
    let (unknown_a, unknown_b) = (!(a.ones | a.zeros), !(b.ones | b.zeros));
    let value = a.ones.wrapping_sub(b.ones);
    let unknown = (value.wrapping_add(unknown_a) ^ value.wrapping_sub(unknown_b)) | unknown_a | unknown_b;
    (difference.ones, difference.zeros) = (value & !unknown, !value & !unknown);
    result(difference)
}

fn multiply(a: Scalar, b: Scalar) -> Scalar {
    let mut product = Scalar::ANY;
    if let Some(max) = a.unsigned_max.checked_mul(b.unsigned_max) {
        (product.unsigned_min, product.unsigned_max) = (a.unsigned_min * b.unsigned_min, max);
    }
    let corners =
        [(a.signed_min, b.signed_min), (a.signed_min, b.signed_max), (a.signed_max, b.signed_min), (a.signed_max, b.signed_max)]
            .map(|(a, b)| a.checked_mul(b));
    if let [Some(w), Some(x), Some(y), Some(z)] = corners {
        (product.signed_min, product.signed_max) = (w.min(x).min(y).min(z), w.max(x).max(y).max(z));
        let by = |constant: Option<u64>, other: Scalar| Some(other.stride.checked_mul((constant? as i64).unsigned_abs())?.max(1));
        if let Some(stride) = by(a.as_constant(), b).or_else(|| by(b.as_constant(), a)) {
            product.stride = stride;
        }
    }
    let low_zeros = (a.zeros.trailing_ones() + b.zeros.trailing_ones()).min(63);
    product.zeros = (1u64 << low_zeros) - 1;
    result(product)
}

fn divide(a: Scalar, b: Scalar) -> Scalar {
    if b.unsigned_max == 0 {
        return Scalar::constant(0);
    }
    let min = if b.unsigned_min == 0 { 0 } else { a.unsigned_min / b.unsigned_max };
    Scalar::unsigned(min, a.unsigned_max / b.unsigned_min.max(1))
}

fn signed_divide(a: Scalar, b: Scalar) -> Scalar {
    match b.as_constant().map(|constant| constant as i64) {
        Some(0) => Scalar::constant(0),
        Some(-1) => subtract(Scalar::constant(0), a),
        Some(by) => Scalar::signed((a.signed_min / by).min(a.signed_max / by), (a.signed_min / by).max(a.signed_max / by)),
        // A positive or zero divisor brings every number nearer to zero.
        None if b.signed_min >= 0 => Scalar::signed(a.signed_min.min(0), a.signed_max.max(0)),
        None => Scalar::ANY,
    }
}

fn modulo(a: Scalar, b: Scalar) -> Scalar {
    if b.unsigned_max == 0 || a.unsigned_max < b.unsigned_min {
        return a;
    }
    let rest = Scalar::unsigned(0, a.unsigned_max.min(b.unsigned_max - 1));
    match b.as_constant() {
        Some(power) if power.is_power_of_two() => bitwise(AluOperation::And, a, Scalar::constant(power - 1)),
        _ if b.unsigned_min == 0 => rest.join(a),
        _ => rest,
    }
}

fn signed_modulo(a: Scalar, b: Scalar) -> Scalar {
    // The rest has the dividend's sign and is no larger; by zero it is the dividend.
    let limit = match b.as_constant().map(|constant| (constant as i64).unsigned_abs()) {
        None | Some(0) => i64::MAX,
        Some(by) => i64::try_from(by - 1).unwrap_or(i64::MAX),
    };
    Scalar::signed(a.signed_min.min(0).max(-limit - i64::from(limit == i64::MAX)), a.signed_max.max(0).min(limit))
}

fn bitwise(operation: AluOperation, a: Scalar, b: Scalar) -> Scalar {
    let mut bits = Scalar::ANY;
    match operation {
        AluOperation::And => {
            (bits.ones, bits.zeros) = (a.ones & b.ones, a.zeros | b.zeros);
            bits.unsigned_max = a.unsigned_max.min(b.unsigned_max);
        }
        AluOperation::Or => {
            (bits.ones, bits.zeros) = (a.ones | b.ones, a.zeros & b.zeros);
            bits.unsigned_min = a.unsigned_min.max(b.unsigned_min);
        }
        _ => {
            bits.ones = (a.ones & b.zeros) | (a.zeros & b.ones);
            bits.zeros = (a.ones & b.ones) | (a.zeros & b.zeros);
        }
    }
    result(bits)
}

/// The union over every count that `counts`, masked, may be.
fn over_counts(counts: Scalar, mask: u32, shift: impl Fn(u32) -> Scalar) -> Scalar {
    let masked = bitwise(AluOperation::And, counts, Scalar::constant(mask.into()));
    let (min, max) = (masked.unsigned_min as u32, masked.unsigned_max as u32);
    (min + 1..=max).fold(shift(min), |all, count| all.join(shift(count)))
}

fn shift_left(a: Scalar, count: u32) -> Scalar {
    if count == 0 {
        return a;
    }
    let mut shifted = Scalar::ANY;
    if a.unsigned_max <= u64::MAX >> count {
        (shifted.unsigned_min, shifted.unsigned_max) = (a.unsigned_min << count, a.unsigned_max << count);
    } else if count == 32 {
        (shifted.unsigned_min, shifted.unsigned_max) = (u64::from(a.low_unsigned_min) << 32, u64::from(a.low_unsigned_max) << 32);
    }
    if (a.signed_min << count) >> count == a.signed_min && (a.signed_max << count) >> count == a.signed_max {
        (shifted.signed_min, shifted.signed_max) = (a.signed_min << count, a.signed_max << count);
        if a.stride.leading_zeros() > count {
            shifted.stride = (a.stride << count).max(1);
        }
    } else if count == 32 {
        (shifted.signed_min, shifted.signed_max) = (i64::from(a.low_signed_min) << 32, i64::from(a.low_signed_max) << 32);
    }
    if count < 32 && a.low_unsigned_max <= u32::MAX >> count {
        (shifted.low_unsigned_min, shifted.low_unsigned_max) = (a.low_unsigned_min << count, a.low_unsigned_max << count);
    }
    (shifted.ones, shifted.zeros) = (a.ones << count, (a.zeros << count) | ((1 << count) - 1));
    result(shifted)
}

fn shift_right(a: Scalar, count: u32) -> Scalar {
    if count == 0 {
        return a;
    }
    let mut shifted = Scalar::ANY;
    (shifted.unsigned_min, shifted.unsigned_max) = (a.unsigned_min >> count, a.unsigned_max >> count);
    (shifted.ones, shifted.zeros) = (a.ones >> count, (a.zeros >> count) | !(u64::MAX >> count));
    if a.signed_min >= 0 && a.stride.trailing_zeros() >= count {
        (shifted.signed_min, shifted.signed_max) = (a.signed_min >> count, a.signed_max >> count);
        shifted.stride = (a.stride >> count).max(1);
    }
    result(shifted)
}

fn shift_right_signed(a: Scalar, count: u32) -> Scalar {
    if count == 0 {
        return a;
    }
    let mut shifted = Scalar::ANY;
    (shifted.signed_min, shifted.signed_max) = (a.signed_min >> count, a.signed_max >> count);
    (shifted.ones, shifted.zeros) = ((a.ones as i64 >> count) as u64, (a.zeros as i64 >> count) as u64);
    if a.stride.trailing_zeros() >= count {
        shifted.stride = (a.stride >> count).max(1);
    }
    result(shifted)
}

/// The low half, zero-extended.
pub fn zero_extend(a: Scalar) -> Scalar {
    if a.unsigned_max <= LOW {
        return a;
    }
    result(Scalar {
        unsigned_max: LOW,
        signed_min: 0,
        signed_max: LOW as i64,
        unsigned_min: 0,
        ones: a.ones & LOW,
        zeros: a.zeros | !LOW,
        stride: 1,
        ..a
    })
}

/// The low 8, 16 or 32 bits, sign-extended to 64.
pub fn sign_extend(a: Scalar, bits: u32) -> Scalar {
    let (min, max) = (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1);
    if a.signed_min >= min && a.signed_max <= max {
        return a;
    }
    let shifted = shift_right_signed(shift_left(a, 64 - bits), 64 - bits);
    if bits == 32 {
        let low = Scalar::signed(a.low_signed_min.into(), a.low_signed_max.into());
        return shifted.meet(low).unwrap_or(shifted);
    }
    shifted
}

/// The low `bytes` bytes, zero-extended.
pub fn truncate(a: Scalar, bytes: usize) -> Scalar {
    match bytes {
        8 => a,
        4 => zero_extend(a),
        _ => bitwise(AluOperation::And, a, Scalar::constant((1 << (8 * bytes)) - 1)),
    }
}

/// Minus the number.
pub fn negate(width: Width, a: Scalar) -> Scalar {
    alu(width, AluOperation::Subtract, Scalar::constant(0), a)
}

/// The low bits in another byte order, the rest zero.
pub fn byte_order(order: ByteOrder, bits: u8, a: Scalar) -> Scalar {
    let bytes = usize::from(bits / 8);
    let low = truncate(a, bytes);
    if order == ByteOrder::Little {
        return low;
    }
    let swap = |word: u64| word.swap_bytes() >> (64 - u32::from(bits));
    let mask = u64::MAX >> (64 - u32::from(bits));
    result(Scalar { ones: swap(low.ones & mask), zeros: swap(low.zeros & mask) | !mask, ..Scalar::ANY })
}
