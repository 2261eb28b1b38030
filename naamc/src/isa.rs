//! Instructions of eBPF (RFC 9669) as one enum, decoded once.
//!
//! `decode` turns the 8-byte slots of an ELF section into instructions; `encode` is its inverse, for tests and disassembly. Everything
//! later matches on [`Instruction`] and never sees an opcode. Jump targets are instruction indices, not slots.

use std::fmt;

/// A register of a flat function. 0 to 10 are eBPF's r0 to r10; r6 to r9 of calls inlined at depth `d >= 1` are `11 + 4 * (d - 1)`
/// and the three that follow, so that an inlined callee has its own and none needs saving.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub u8);

impl Register {
    /// Result of functions and helpers.
    pub const R0: Register = Register(0);
    /// First argument.
    pub const R1: Register = Register(1);
    /// Second argument.
    pub const R2: Register = Register(2);
    /// Third argument.
    pub const R3: Register = Register(3);
    /// Fourth argument.
    pub const R4: Register = Register(4);
    /// Fifth argument.
    pub const R5: Register = Register(5);
    /// One past the stack, read-only.
    pub const R10: Register = Register(10);
    /// r1 to r5.
    pub const ARGUMENTS: [Register; 5] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5];

    /// Its place in an array of registers.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..=10 => write!(f, "r{}", self.0),
            n => write!(f, "r{}@{}", 6 + (n - 11) % 4, 1 + (n - 11) / 4),
        }
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Width of an arithmetic instruction or a comparison. At 32 bits the low halves take part and the upper half of a result is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// Bytes of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Size {
    /// One byte.
    B1 = 1,
    /// Two bytes.
    B2 = 2,
    /// Four bytes.
    B4 = 4,
    /// Eight bytes.
    B8 = 8,
}

impl Size {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        self as usize
    }
}

/// The second operand of arithmetic, a comparison or a store. An immediate is sign-extended to 64 bits, then used at the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// A number from the instruction.
    Immediate(i32),
}

/// A binary operation, RFC 9669 section 4.1. Division by zero gives 0, modulo zero leaves the destination's value (at 32 bits zero-extended);
/// shifts use the low 5 or 6 bits of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AluOperation {
    Add,
    Subtract,
    Multiply,
    Divide,
    SignedDivide,
    Modulo,
    SignedModulo,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    Move,
}

/// A condition, RFC 9669 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Condition {
    Equal,
    NotEqual,
    /// `left & right != 0`
    AnySet,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    SignedGreater,
    SignedGreaterOrEqual,
    SignedLess,
    SignedLessOrEqual,
}

/// An atomic operation on memory, RFC 9669 section 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AtomicOperation {
    Add,
    Or,
    And,
    Xor,
    /// Always returns the old value.
    Exchange,
    /// Compares with r0, stores the source if equal, and returns the old value in r0.
    CompareExchange,
}

/// Byte order conversions, RFC 9669 section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// To little endian: truncates to the bits.
    Little,
    /// To big endian: swaps the low bytes, and truncates to the bits.
    Big,
    /// Unconditional swap (`bswap`), truncates to the bits.
    Swap,
}

/// What a 64-bit load of an address refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// The handle of a declared region, by its index in the bundle.
    Region(u16),
    /// A byte of the bundle's read-only data, by its offset.
    ReadOnly(u32),
}

/// One instruction. Jump and call targets are indices into the same list of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// `destination = destination op source`; `Move` ignores the old value.
    Alu {
        /// Bits that take part.
        width: Width,
        /// What is computed.
        operation: AluOperation,
        /// Left operand and result.
        destination: Register,
        /// Right operand.
        source: Operand,
    },
    /// `destination = sign_extend(low bits of source)` (`movsx`); at 32 bits the upper half becomes zero.
    MoveSignExtend {
        /// Bits of the result.
        width: Width,
        /// Bits that are extended: 8, 16, or 32 (at 64 bits only).
        bits: u8,
        /// Result.
        destination: Register,
        /// Number to extend.
        source: Register,
    },
    /// `destination = -destination`.
    Negate {
        /// Bits that take part.
        width: Width,
        /// Operand and result.
        destination: Register,
    },
    /// Converts the byte order of the low `bits` of the destination and zeroes the rest.
    ByteOrder {
        /// Which conversion.
        order: ByteOrder,
        /// 16, 32 or 64.
        bits: u8,
        /// Operand and result.
        destination: Register,
    },
    /// `destination = value` (`lddw`).
    LoadImmediate {
        /// Result.
        destination: Register,
        /// The number.
        value: u64,
    },
    /// `destination = address of symbol` (`lddw` with a relocation).
    LoadAddress {
        /// Result.
        destination: Register,
        /// What it points to.
        symbol: Symbol,
    },
    /// `destination = *(size *)(base + offset)`.
    Load {
        /// Bytes read.
        size: Size,
        /// Sign-extended to 64 bits (`ldxsb` and so on), else zero-extended.
        signed: bool,
        /// Result.
        destination: Register,
        /// Pointer.
        base: Register,
        /// Added to the pointer.
        offset: i32,
    },
    /// `*(size *)(base + offset) = source`.
    Store {
        /// Bytes written.
        size: Size,
        /// Pointer.
        base: Register,
        /// Added to the pointer.
        offset: i32,
        /// What is written: its low bytes.
        source: Operand,
    },
    /// An atomic read-modify-write of 4 or 8 bytes. `fetch` puts the old value (zero-extended) into `source`, or r0 for compare-exchange.
    Atomic {
        /// What is done.
        operation: AtomicOperation,
        /// Four or eight bytes.
        size: Size,
        /// Whether the old value is returned.
        fetch: bool,
        /// Pointer.
        base: Register,
        /// Added to the pointer.
        offset: i32,
        /// Operand.
        source: Register,
    },
    /// Goes to `target`.
    Jump {
        /// Index of the next instruction.
        target: u32,
    },
    /// Goes to `target` if the condition holds, else on.
    JumpIf {
        /// Bits that are compared.
        width: Width,
        /// When to jump.
        condition: Condition,
        /// Left operand.
        left: Register,
        /// Right operand.
        right: Operand,
        /// Index of the instruction if it holds.
        target: u32,
    },
    /// Calls a helper by its number, which may be unknown. r0 is the result, r1 to r5 are lost.
    CallHelper {
        /// The number.
        number: i32,
    },
    /// Calls a function of the same object; gone after inlining.
    CallLocal {
        /// Index of its first instruction.
        target: u32,
    },
    /// Returns r0.
    Exit,
}
