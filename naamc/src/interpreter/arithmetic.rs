//! Arithmetic, comparisons and byte order as RFC 9669 sections 4.1 to 4.3 define them, on plain numbers.

use crate::isa::{AluOperation, AtomicOperation, ByteOrder, Condition, Size, Width};

/// `left op right` at a width; at 32 bits the low halves take part and the upper half of the result is zero.
pub(super) fn alu(width: Width, operation: AluOperation, left: u64, right: u64) -> u64 {
    match width {
        Width::W64 => alu64(operation, left, right),
        Width::W32 => u64::from(alu32(operation, left as u32, right as u32)),
    }
}

fn alu64(operation: AluOperation, left: u64, right: u64) -> u64 {
    match operation {
        AluOperation::Add => left.wrapping_add(right),
        AluOperation::Subtract => left.wrapping_sub(right),
        AluOperation::Multiply => left.wrapping_mul(right),
        AluOperation::Divide => left.checked_div(right).unwrap_or(0),
        AluOperation::Modulo => left.checked_rem(right).unwrap_or(left),
        AluOperation::SignedDivide if right == 0 => 0,
        AluOperation::SignedDivide => (left as i64).wrapping_div(right as i64) as u64,
        AluOperation::SignedModulo if right == 0 => left,
        AluOperation::SignedModulo => (left as i64).wrapping_rem(right as i64) as u64,
        AluOperation::Or => left | right,
        AluOperation::And => left & right,
        AluOperation::Xor => left ^ right,
        AluOperation::ShiftLeft => left.wrapping_shl(right as u32),
        AluOperation::ShiftRight => left.wrapping_shr(right as u32),
        AluOperation::ShiftRightSigned => (left as i64).wrapping_shr(right as u32) as u64,
        AluOperation::Move => right,
    }
}

fn alu32(operation: AluOperation, left: u32, right: u32) -> u32 {
    match operation {
        AluOperation::Add => left.wrapping_add(right),
        AluOperation::Subtract => left.wrapping_sub(right),
        AluOperation::Multiply => left.wrapping_mul(right),
        AluOperation::Divide => left.checked_div(right).unwrap_or(0),
        AluOperation::Modulo => left.checked_rem(right).unwrap_or(left),
        AluOperation::SignedDivide if right == 0 => 0,
        AluOperation::SignedDivide => (left as i32).wrapping_div(right as i32) as u32,
        AluOperation::SignedModulo if right == 0 => left,
        AluOperation::SignedModulo => (left as i32).wrapping_rem(right as i32) as u32,
        AluOperation::Or => left | right,
        AluOperation::And => left & right,
        AluOperation::Xor => left ^ right,
        AluOperation::ShiftLeft => left.wrapping_shl(right),
        AluOperation::ShiftRight => left.wrapping_shr(right),
        AluOperation::ShiftRightSigned => (left as i32).wrapping_shr(right) as u32,
        AluOperation::Move => right,
    }
}

/// Whether a condition holds at a width.
pub(super) fn holds(width: Width, condition: Condition, left: u64, right: u64) -> bool {
    // Extended to 64 bits each in its own way, halves compare as the whole does.
    let (unsigned, signed) = match width {
        Width::W64 => ((left, right), (left as i64, right as i64)),
        Width::W32 => {
            ((u64::from(left as u32), u64::from(right as u32)), (i64::from(left as u32 as i32), i64::from(right as u32 as i32)))
        }
    };
    match condition {
        Condition::Equal => unsigned.0 == unsigned.1,
        Condition::NotEqual => unsigned.0 != unsigned.1,
        Condition::AnySet => unsigned.0 & unsigned.1 != 0,
        Condition::Greater => unsigned.0 > unsigned.1,
        Condition::GreaterOrEqual => unsigned.0 >= unsigned.1,
        Condition::Less => unsigned.0 < unsigned.1,
        Condition::LessOrEqual => unsigned.0 <= unsigned.1,
        Condition::SignedGreater => signed.0 > signed.1,
        Condition::SignedGreaterOrEqual => signed.0 >= signed.1,
        Condition::SignedLess => signed.0 < signed.1,
        Condition::SignedLessOrEqual => signed.0 <= signed.1,
    }
}

/// The low `bits` of a number, sign-extended to 64 bits.
pub(super) fn sign_extend(value: u64, bits: u32) -> u64 {
    let unused = 64_u32.saturating_sub(bits);
    ((value as i64).wrapping_shl(unused)).wrapping_shr(unused) as u64
}

/// Converts the byte order of the low `bits`.
pub(super) fn byte_order(order: ByteOrder, bits: u8, value: u64) -> u64 {
    let swapped = order != ByteOrder::Little;
    match bits {
        16 if swapped => u64::from((value as u16).swap_bytes()),
        16 => u64::from(value as u16),
        32 if swapped => u64::from((value as u32).swap_bytes()),
        32 => u64::from(value as u32),
        _ if swapped => value.swap_bytes(),
        _ => value,
    }
}

/// What an atomic operation leaves in memory; the memory keeps only the low bytes of it. `expected` is r0.
pub(super) fn atomic(operation: AtomicOperation, size: Size, old: u64, source: u64, expected: u64) -> u64 {
    let expected = if size == Size::B8 { expected } else { u64::from(expected as u32) };
    match operation {
        AtomicOperation::Add => old.wrapping_add(source),
        AtomicOperation::Or => old | source,
        AtomicOperation::And => old & source,
        AtomicOperation::Xor => old ^ source,
        AtomicOperation::Exchange => source,
        AtomicOperation::CompareExchange if old == expected => source,
        AtomicOperation::CompareExchange => old,
    }
}
