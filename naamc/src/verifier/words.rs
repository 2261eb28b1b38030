//! What is known of values, in words, for findings.

use super::state::Kind;
use super::value::{Pointer, Scalar, Value};
use crate::abi::STACK_BYTES;
use std::fmt;

/// An interval this wide is not worth its ends.
const WIDE: u64 = 1 << 63;

impl fmt::Display for Scalar {
    /// "8", "8 to 56 in steps of 8", "any number".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(constant) = self.as_constant() {
            return write!(f, "{}", constant as i64);
        }
        if self.signed_max.abs_diff(self.signed_min) > WIDE {
            f.write_str("any number")?;
            if (self.low_unsigned_min, self.low_unsigned_max) != (0, u32::MAX) {
                write!(f, " with a low half of {} to {}", self.low_unsigned_min, self.low_unsigned_max)?;
            }
        } else if self.unsigned_max <= i64::MAX as u64 {
            match self.unsigned_max {
                0xffff_ffff if self.unsigned_min == 0 => f.write_str("any 32-bit number")?,
                max if max == i64::MAX as u64 => write!(f, "{} or more", self.unsigned_min)?,
                max => write!(f, "{} to {max}", self.unsigned_min)?,
            }
        } else {
            match (self.signed_min, self.signed_max) {
                (i64::MIN, max) => write!(f, "{max} or less")?,
                (min, i64::MAX) => write!(f, "{min} or more")?,
                (min, max) => write!(f, "{min} to {max}")?,
            }
        }
        if self.stride > 1 { write!(f, " in steps of {}", self.stride) } else { Ok(()) }
    }
}

impl fmt::Display for Pointer {
    /// "the message + 8 to 56", "region 0 or null".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str, offset: Option<Scalar>| match offset?.as_constant() {
            Some(0) => Some(name.to_string()),
            Some(offset) if (offset as i64) < 0 => Some(format!("{name} - {}", (offset as i64).unsigned_abs())),
            _ => Some(format!("{name} + {}", offset?)),
        };
        let regions = (0..64).filter(|region| self.regions >> region & 1 == 1).map(|region| format!("region {region}"));
        let parts: Vec<String> = [part("stack", self.stack), part("message", self.body), part("read-only data", self.read_only)]
            .into_iter()
            .flatten()
            .chain(regions)
            .chain(self.null.then(|| "null".to_string()))
            .collect();
        f.write_str(&parts.join(" or "))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(scalar) => scalar.fmt(f),
            Value::Pointer(pointer) => pointer.fmt(f),
        }
    }
}

/// Where an access begins.
pub(super) fn place(kind: Kind, offset: &Scalar) -> String {
    match kind {
        Kind::Stack => format!("the access begins at an offset from the end of the stack that is {offset}"),
        Kind::Body => format!("the access begins at an offset in the message that is {offset}"),
        Kind::ReadOnly => format!("the access begins at an offset in the read-only data that is {offset}"),
    }
}

/// How large the memory is.
pub(super) fn extent(kind: Kind, bytes: u64) -> String {
    match kind {
        Kind::Stack => format!("the stack is the {STACK_BYTES} bytes before its end"),
        Kind::Body => format!("the message has {bytes} bytes"),
        Kind::ReadOnly => format!("the read-only data has {bytes} bytes"),
    }
}
