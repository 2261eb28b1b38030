//! Contracts: what is proved of a message at a cut point, and all that the code after it relies on.

use super::value::{Scalar, Value};
use crate::abi::{CONTINUATION_PREFIX_BYTES, Extent, Helper, Parameter, STACK_BYTES, address};
use crate::isa::{Register, Size};
use minicbor::{Decode, Encode};

/// Everything known when execution stands before one instruction: a loop head or a UDMA call.
///
/// A register that is not listed and a stack byte that is not live are undefined: no path reads them before it writes them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Contract {
    /// Index of the instruction.
    #[n(0)]
    pub instruction: u32,
    /// Live registers, ascending, without r10.
    #[n(1)]
    pub registers: Vec<(Register, Value)>,
    /// Live stack bytes, as ascending disjoint ranges that do not touch. Offsets from the stack's first byte.
    #[n(2)]
    pub live_stack: Vec<ByteRange>,
    /// Words of live stack or body of which more is known than "any bytes", ascending, disjoint.
    #[n(3)]
    pub cells: Vec<Cell>,
    /// What is known of registers together, ascending by registers.
    #[n(4)]
    pub bounds: Vec<Bound>,
}

/// Two numbers whose sum is at most a constant, without wrapping: a place in a buffer and the length of what goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bound {
    /// A register that the contract lists as a number.
    #[n(0)]
    pub left: Register,
    /// Another, with a higher index.
    #[n(1)]
    pub right: Register,
    /// The largest sum.
    #[n(2)]
    pub max: u64,
}

impl Bound {
    /// Whether these registers, by [`Register::index`], keep the bound.
    pub fn admits(&self, registers: &[u64]) -> bool {
        let word = |register: Register| registers.get(register.index()).copied();
        word(self.left).zip(word(self.right)).and_then(|(left, right)| left.checked_add(right)).is_some_and(|sum| sum <= self.max)
    }
}

impl Contract {
    /// Bytes of a continuation at this point: prefix, live registers, live stack bytes.
    pub fn continuation_bytes(&self) -> usize {
        let stack: u32 = self.live_stack.iter().map(|range| range.end - range.start).sum();
        CONTINUATION_PREFIX_BYTES + 8 * self.registers.len() + stack as usize
    }

    /// Whether the memory that the pending call is given lies inside the object that each of its pointers points into. A contract says
    /// nothing about values together, so a state that keeps it can have an offset and a length that are each possible and too large
    /// together: who takes over a state from outside asks this as well. `registers` are the state's, by [`Register::index`].
    pub fn call_is_inside(&self, helper: Helper, registers: &[u64], body_bytes: u32) -> bool {
        helper.parameters().iter().zip(Register::ARGUMENTS).all(|(parameter, register)| {
            let (Parameter::Source(extent) | Parameter::Destination(extent)) = parameter else { return true };
            let word = |register: Register| registers.get(register.index()).copied().unwrap_or(u64::MAX);
            let length = match extent {
                Extent::Word => 8,
                Extent::Parameter(index) => Register::ARGUMENTS.get(*index).map_or(u32::MAX, |register| word(*register) as u32),
            };
            let inside = |part: &Option<Scalar>, start: u64, min: i64, max: i64| {
                let offset = word(register).wrapping_sub(start);
                let end = i128::from(offset as i64) + i128::from(length);
                part.is_some_and(|part| part.admits(offset)) && offset as i64 >= min && end <= i128::from(max)
            };
            match self.registers.iter().find(|(other, _)| *other == register) {
                Some((_, Value::Pointer(pointer))) => {
                    inside(&pointer.stack, address::STACK_END, -(STACK_BYTES as i64), 0)
                        || inside(&pointer.body, address::BODY_START, 0, body_bytes.into())
                        || inside(&pointer.read_only, address::READ_ONLY_START, 0, i64::MAX)
                }
                _ => false,
            }
        })
    }
}

/// A half-open range of bytes, as offsets from the stack's first byte; the body begins at [`crate::abi::STACK_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ByteRange {
    /// First byte.
    #[n(0)]
    pub start: u32,
    /// One past the last.
    #[n(1)]
    pub end: u32,
}

/// A word in memory with what is known of it, zero-extended if it is a number. Pointers have eight aligned bytes on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cell {
    /// Offset from the stack's first byte; the body begins at [`crate::abi::STACK_BYTES`].
    #[n(0)]
    pub offset: u32,
    /// Its bytes.
    #[n(1)]
    pub size: Size,
    /// What is known.
    #[n(2)]
    pub value: Value,
}

/// All contracts of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Contracts {
    /// At loop heads, ascending by instruction.
    #[n(0)]
    pub loops: Vec<Contract>,
    /// At UDMA calls, ascending by instruction: the index here is the number of the suspension point.
    #[n(1)]
    pub suspensions: Vec<Contract>,
}

impl Contracts {
    /// The suspension point with the largest continuation.
    pub fn largest_continuation(&self) -> Option<&Contract> {
        self.suspensions.iter().max_by_key(|contract| contract.continuation_bytes())
    }
}
