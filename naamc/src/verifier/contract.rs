//! Contracts: what is proved of a message at a cut point, and all that the code after it relies on.

use super::value::Value;
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
