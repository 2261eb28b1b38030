//! Instructions of eBPF (RFC 9669) as one enum, decoded once.
//!
//! [`decode()`] turns the 8-byte slots of an ELF section into instructions; [`encode()`] is its inverse, for tests. Everything later matches
//! on [`Instruction`] and never sees an opcode. Jump targets are instruction indices, not slots. `Display` disassembles, and
//! [`assemble()`] reads that back.

mod assemble;
mod decode;
mod display;
mod encode;

pub use assemble::{AssembleError, assemble};
pub use decode::{Decoded, FINDINGS_MAX, LocalCall, SLOT_BYTES, SLOTS_MAX, UNRESOLVED, decode};
pub use encode::{Unencodable, encode};

use crate::abi::REGISTERS_MAX;
use minicbor::{Decode, Encode};
use std::fmt;

/// A register of a flat function. 0 to 10 are eBPF's r0 to r10; r6 to r9 of calls inlined at depth `d >= 1` are `11 + 4 * (d - 1)`
/// and the three that follow, so that an inlined callee has its own and none needs saving.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Register(#[n(0)] pub u8);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Width {
    /// 32 bits.
    #[n(0)]
    W32,
    /// 64 bits.
    #[n(1)]
    W64,
}

/// Bytes of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[repr(u8)]
#[cbor(index_only)]
pub enum Size {
    /// One byte.
    #[n(0)]
    B1 = 1,
    /// Two bytes.
    #[n(1)]
    B2 = 2,
    /// Four bytes.
    #[n(2)]
    B4 = 4,
    /// Eight bytes.
    #[n(3)]
    B8 = 8,
}

impl Size {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        self as usize
    }
}

/// The second operand of arithmetic, a comparison or a store. An immediate is sign-extended to 64 bits, then used at the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Operand {
    /// A register.
    #[n(0)]
    Register(#[n(0)] Register),
    /// A number from the instruction.
    #[n(1)]
    Immediate(#[n(0)] i32),
}

/// A binary operation, RFC 9669 section 4.1. Division by zero gives 0, modulo zero leaves the destination's value (at 32 bits zero-extended);
/// shifts use the low 5 or 6 bits of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[allow(missing_docs)]
#[cbor(index_only)]
pub enum AluOperation {
    #[n(0)]
    Add,
    #[n(1)]
    Subtract,
    #[n(2)]
    Multiply,
    #[n(3)]
    Divide,
    #[n(4)]
    SignedDivide,
    #[n(5)]
    Modulo,
    #[n(6)]
    SignedModulo,
    #[n(7)]
    Or,
    #[n(8)]
    And,
    #[n(9)]
    Xor,
    #[n(10)]
    ShiftLeft,
    #[n(11)]
    ShiftRight,
    #[n(12)]
    ShiftRightSigned,
    #[n(13)]
    Move,
}

impl AluOperation {
    /// All operations, `Move` last.
    pub const ALL: [AluOperation; 14] = [
        AluOperation::Add,
        AluOperation::Subtract,
        AluOperation::Multiply,
        AluOperation::Divide,
        AluOperation::SignedDivide,
        AluOperation::Modulo,
        AluOperation::SignedModulo,
        AluOperation::Or,
        AluOperation::And,
        AluOperation::Xor,
        AluOperation::ShiftLeft,
        AluOperation::ShiftRight,
        AluOperation::ShiftRightSigned,
        AluOperation::Move,
    ];
}

/// A condition, RFC 9669 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[allow(missing_docs)]
#[cbor(index_only)]
pub enum Condition {
    #[n(0)]
    Equal,
    #[n(1)]
    NotEqual,
    /// `left & right != 0`
    #[n(2)]
    AnySet,
    #[n(3)]
    Greater,
    #[n(4)]
    GreaterOrEqual,
    #[n(5)]
    Less,
    #[n(6)]
    LessOrEqual,
    #[n(7)]
    SignedGreater,
    #[n(8)]
    SignedGreaterOrEqual,
    #[n(9)]
    SignedLess,
    #[n(10)]
    SignedLessOrEqual,
}

impl Condition {
    /// All conditions.
    pub const ALL: [Condition; 11] = [
        Condition::Equal,
        Condition::NotEqual,
        Condition::AnySet,
        Condition::Greater,
        Condition::GreaterOrEqual,
        Condition::Less,
        Condition::LessOrEqual,
        Condition::SignedGreater,
        Condition::SignedGreaterOrEqual,
        Condition::SignedLess,
        Condition::SignedLessOrEqual,
    ];
}

/// An atomic operation on memory, RFC 9669 section 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[allow(missing_docs)]
#[cbor(index_only)]
pub enum AtomicOperation {
    #[n(0)]
    Add,
    #[n(1)]
    Or,
    #[n(2)]
    And,
    #[n(3)]
    Xor,
    /// Always returns the old value.
    #[n(4)]
    Exchange,
    /// Compares with r0, stores the source if equal, and returns the old value in r0.
    #[n(5)]
    CompareExchange,
}

/// Byte order conversions, RFC 9669 section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ByteOrder {
    /// To little endian: truncates to the bits.
    #[n(0)]
    Little,
    /// To big endian: swaps the low bytes, and truncates to the bits.
    #[n(1)]
    Big,
    /// Unconditional swap (`bswap`), truncates to the bits.
    #[n(2)]
    Swap,
}

/// What a 64-bit load of an address refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Symbol {
    /// The handle of a declared region, by its index in the bundle.
    #[n(0)]
    Region(#[n(0)] u16),
    /// A byte of the bundle's read-only data, by its offset.
    #[n(1)]
    ReadOnly(#[n(0)] u32),
}

/// One instruction. Jump and call targets are indices into the same list of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Instruction {
    /// `destination = destination op source`; `Move` ignores the old value.
    #[n(0)]
    Alu {
        /// Bits that take part.
        #[n(0)]
        width: Width,
        /// What is computed.
        #[n(1)]
        operation: AluOperation,
        /// Left operand and result.
        #[n(2)]
        destination: Register,
        /// Right operand.
        #[n(3)]
        source: Operand,
    },
    /// `destination = sign_extend(low bits of source)` (`movsx`); at 32 bits the upper half becomes zero.
    #[n(1)]
    MoveSignExtend {
        /// Bits of the result.
        #[n(0)]
        width: Width,
        /// Bits that are extended: 8, 16, or 32 (at 64 bits only).
        #[n(1)]
        bits: u8,
        /// Result.
        #[n(2)]
        destination: Register,
        /// Number to extend.
        #[n(3)]
        source: Register,
    },
    /// `destination = -destination`.
    #[n(2)]
    Negate {
        /// Bits that take part.
        #[n(0)]
        width: Width,
        /// Operand and result.
        #[n(1)]
        destination: Register,
    },
    /// Converts the byte order of the low `bits` of the destination and zeroes the rest.
    #[n(3)]
    ByteOrder {
        /// Which conversion.
        #[n(0)]
        order: ByteOrder,
        /// 16, 32 or 64.
        #[n(1)]
        bits: u8,
        /// Operand and result.
        #[n(2)]
        destination: Register,
    },
    /// `destination = value` (`lddw`).
    #[n(4)]
    LoadImmediate {
        /// Result.
        #[n(0)]
        destination: Register,
        /// The number.
        #[n(1)]
        value: u64,
    },
    /// `destination = address of symbol` (`lddw` with a relocation).
    #[n(5)]
    LoadAddress {
        /// Result.
        #[n(0)]
        destination: Register,
        /// What it points to.
        #[n(1)]
        symbol: Symbol,
    },
    /// `destination = *(size *)(base + offset)`.
    #[n(6)]
    Load {
        /// Bytes read.
        #[n(0)]
        size: Size,
        /// Sign-extended to 64 bits (`ldxsb` and so on), else zero-extended.
        #[n(1)]
        signed: bool,
        /// Result.
        #[n(2)]
        destination: Register,
        /// Pointer.
        #[n(3)]
        base: Register,
        /// Added to the pointer.
        #[n(4)]
        offset: i32,
    },
    /// `*(size *)(base + offset) = source`.
    #[n(7)]
    Store {
        /// Bytes written.
        #[n(0)]
        size: Size,
        /// Pointer.
        #[n(1)]
        base: Register,
        /// Added to the pointer.
        #[n(2)]
        offset: i32,
        /// What is written: its low bytes.
        #[n(3)]
        source: Operand,
    },
    /// An atomic read-modify-write of 4 or 8 bytes. `fetch` puts the old value (zero-extended) into `source`, or r0 for compare-exchange.
    #[n(8)]
    Atomic {
        /// What is done.
        #[n(0)]
        operation: AtomicOperation,
        /// Four or eight bytes.
        #[n(1)]
        size: Size,
        /// Whether the old value is returned.
        #[n(2)]
        fetch: bool,
        /// Pointer.
        #[n(3)]
        base: Register,
        /// Added to the pointer.
        #[n(4)]
        offset: i32,
        /// Operand.
        #[n(5)]
        source: Register,
    },
    /// Goes to `target`.
    #[n(9)]
    Jump {
        /// Index of the next instruction.
        #[n(0)]
        target: u32,
    },
    /// Goes to `target` if the condition holds, else on.
    #[n(10)]
    JumpIf {
        /// Bits that are compared.
        #[n(0)]
        width: Width,
        /// When to jump.
        #[n(1)]
        condition: Condition,
        /// Left operand.
        #[n(2)]
        left: Register,
        /// Right operand.
        #[n(3)]
        right: Operand,
        /// Index of the instruction if it holds.
        #[n(4)]
        target: u32,
    },
    /// Calls a helper by its number, which may be unknown. r0 is the result, r1 to r5 are lost.
    #[n(11)]
    CallHelper {
        /// The number.
        #[n(0)]
        number: i32,
    },
    /// Calls a function of the same object; gone after inlining.
    #[n(12)]
    CallLocal {
        /// Index of its first instruction.
        #[n(0)]
        target: u32,
    },
    /// Returns r0.
    #[n(13)]
    Exit,
}

impl Instruction {
    /// Whether eBPF has this instruction: what arrives in a bundle may be a value of this type and still none. Targets are not looked at.
    pub fn is_well_formed(&self) -> bool {
        self.is_possible() && self.registers().iter().flatten().all(|register| register.index() < REGISTERS_MAX)
    }

    /// Whether decoding can give its width, size and flags.
    pub fn is_possible(&self) -> bool {
        match *self {
            Instruction::MoveSignExtend { width, bits, .. } => matches!((width, bits), (_, 8 | 16) | (Width::W64, 32)),
            Instruction::ByteOrder { bits, .. } => matches!(bits, 16 | 32 | 64),
            Instruction::Load { size, signed, .. } => !(signed && size == Size::B8),
            Instruction::Atomic { operation, size, fetch, .. } => {
                let exchanges = matches!(operation, AtomicOperation::Exchange | AtomicOperation::CompareExchange);
                size >= Size::B4 && (fetch || !exchanges)
            }
            _ => true,
        }
    }

    /// Every register that it names.
    pub fn registers(&self) -> [Option<Register>; 2] {
        let operand = |operand: Operand| match operand {
            Operand::Register(register) => Some(register),
            Operand::Immediate(_) => None,
        };
        match *self {
            Instruction::Alu { destination, source, .. } => [Some(destination), operand(source)],
            Instruction::MoveSignExtend { destination, source, .. } => [Some(destination), Some(source)],
            Instruction::Load { destination, base, .. } => [Some(destination), Some(base)],
            Instruction::Store { base, source, .. } => [Some(base), operand(source)],
            Instruction::Atomic { base, source, .. } => [Some(base), Some(source)],
            Instruction::JumpIf { left, right, .. } => [Some(left), operand(right)],
            Instruction::Negate { destination, .. }
            | Instruction::ByteOrder { destination, .. }
            | Instruction::LoadImmediate { destination, .. }
            | Instruction::LoadAddress { destination, .. } => [Some(destination), None],
            Instruction::Jump { .. } | Instruction::CallHelper { .. } | Instruction::CallLocal { .. } | Instruction::Exit => {
                [None, None]
            }
        }
    }
}
