//! Contracts: what is proved of a message at a cut point, and all that the code after it relies on.

use super::value::Value;
use crate::isa::{Register, Size};

/// Everything known when execution stands before one instruction: a loop head or a UDMA call.
///
/// A register that is not listed and a stack byte that is not live are undefined: no path reads them before it writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Index of the instruction.
    pub instruction: u32,
    /// Live registers, ascending, without r10.
    pub registers: Vec<(Register, Value)>,
    /// Live stack bytes, as ascending disjoint ranges that do not touch. Offsets from the stack's first byte.
    pub live_stack: Vec<ByteRange>,
    /// Words of live stack or body of which more is known than "any bytes", ascending, disjoint.
    pub cells: Vec<Cell>,
}

/// A half-open range of bytes, as offsets from the stack's first byte; the body begins at [`crate::abi::STACK_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// First byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// A word in memory with what is known of it, zero-extended if it is a number. Pointers have eight aligned bytes on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Offset from the stack's first byte; the body begins at [`crate::abi::STACK_BYTES`].
    pub offset: u32,
    /// Its bytes.
    pub size: Size,
    /// What is known.
    pub value: Value,
}

/// All contracts of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contracts {
    /// At loop heads, ascending by instruction.
    pub loops: Vec<Contract>,
    /// At UDMA calls, ascending by instruction: the index here is the number of the suspension point.
    pub suspensions: Vec<Contract>,
}
