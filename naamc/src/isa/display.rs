//! Disassembly in the notation of LLVM and the kernel, except that jump and call targets are instruction indices.

use super::{AluOperation, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Symbol, Width};
use crate::abi::Helper;
use std::fmt::{Display, Formatter, Result};

/// A register as an instruction of one width names it: `r1` or `w1`.
struct Named(Register, Width);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name = self.0.to_string();
        match self.1 {
            Width::W64 => f.write_str(&name),
            Width::W32 => write!(f, "w{}", &name[1..]),
        }
    }
}

/// A second operand at one width.
struct Second(Operand, Width);

impl Display for Second {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Operand::Register(register) => Named(register, self.1).fmt(f),
            Operand::Immediate(number) => number.fmt(f),
        }
    }
}

/// Memory as it is accessed: `*(u64 *)(r1 + 8)`.
struct Memory {
    size: Size,
    signed: bool,
    base: Register,
    offset: i32,
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let (kind, bits) = (if self.signed { 's' } else { 'u' }, self.size.bytes() * 8);
        write!(f, "*({kind}{bits} *)({} {sign} {})", self.base, self.offset.unsigned_abs())
    }
}

impl Display for Symbol {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Symbol::Region(region) => write!(f, "region {region}"),
            Symbol::ReadOnly(offset) => write!(f, "read_only + {offset}"),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Condition::Equal => "==",
            Condition::NotEqual => "!=",
            Condition::AnySet => "&",
            Condition::Greater => ">",
            Condition::GreaterOrEqual => ">=",
            Condition::Less => "<",
            Condition::LessOrEqual => "<=",
            Condition::SignedGreater => "s>",
            Condition::SignedGreaterOrEqual => "s>=",
            Condition::SignedLess => "s<",
            Condition::SignedLessOrEqual => "s<=",
        })
    }
}

impl Display for AluOperation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            AluOperation::Add => "+=",
            AluOperation::Subtract => "-=",
            AluOperation::Multiply => "*=",
            AluOperation::Divide => "/=",
            AluOperation::SignedDivide => "s/=",
            AluOperation::Modulo => "%=",
            AluOperation::SignedModulo => "s%=",
            AluOperation::Or => "|=",
            AluOperation::And => "&=",
            AluOperation::Xor => "^=",
            AluOperation::ShiftLeft => "<<=",
            AluOperation::ShiftRight => ">>=",
            AluOperation::ShiftRightSigned => "s>>=",
            AluOperation::Move => "=",
        })
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Instruction::Alu { width, operation, destination, source } => {
                write!(f, "{} {operation} {}", Named(destination, width), Second(source, width))
            }
            Instruction::MoveSignExtend { width, bits, destination, source } => {
                write!(f, "{} = (s{bits}){}", Named(destination, width), Named(source, width))
            }
            Instruction::Negate { width, destination } => {
                write!(f, "{} = -{}", Named(destination, width), Named(destination, width))
            }
            Instruction::ByteOrder { order, bits, destination } => {
                let name = match order {
                    ByteOrder::Little => "le",
                    ByteOrder::Big => "be",
                    ByteOrder::Swap => "bswap",
                };
                write!(f, "{destination} = {name}{bits} {destination}")
            }
            Instruction::LoadImmediate { destination, value } => write!(f, "{destination} = {value:#x} ll"),
            Instruction::LoadAddress { destination, symbol } => write!(f, "{destination} = {symbol} ll"),
            Instruction::Load { size, signed, destination, base, offset } => {
                write!(f, "{destination} = {}", Memory { size, signed, base, offset })
            }
            Instruction::Store { size, base, offset, source } => {
                let width = if size == Size::B8 { Width::W64 } else { Width::W32 };
                write!(f, "{} = {}", Memory { size, signed: false, base, offset }, Second(source, width))
            }
            Instruction::Atomic { operation, size, fetch, base, offset, source } => {
                atomic(f, operation, fetch, &Memory { size, signed: false, base, offset }, source)
            }
            Instruction::Jump { target } => write!(f, "goto {target}"),
            Instruction::JumpIf { width, condition, left, right, target } => {
                write!(f, "if {} {condition} {} goto {target}", Named(left, width), Second(right, width))
            }
            Instruction::CallHelper { number } => match Helper::from_number(number) {
                Some(helper) => write!(f, "call {}", helper.name()),
                None => write!(f, "call {number}"),
            },
            Instruction::CallLocal { target } => write!(f, "call instruction {target}"),
            Instruction::Exit => f.write_str("exit"),
        }
    }
}

fn atomic(f: &mut Formatter<'_>, operation: AtomicOperation, fetch: bool, memory: &Memory, source: Register) -> Result {
    let width = if memory.size == Size::B8 { Width::W64 } else { Width::W32 };
    let source = Named(source, width);
    let sign = if memory.offset < 0 { '-' } else { '+' };
    let (bits, place) = (memory.size.bytes() * 8, format!("{} {sign} {}", memory.base, memory.offset.unsigned_abs()));
    let (symbol, name) = match operation {
        AtomicOperation::Add => ("+=", "add"),
        AtomicOperation::Or => ("|=", "or"),
        AtomicOperation::And => ("&=", "and"),
        AtomicOperation::Xor => ("^=", "xor"),
        AtomicOperation::Exchange => return write!(f, "{source} = xchg{bits}({place}, {source})"),
        AtomicOperation::CompareExchange => {
            let result = Named(Register::R0, width);
            return write!(f, "{result} = cmpxchg{bits}({place}, {result}, {source})");
        }
    };
    match fetch {
        false => write!(f, "lock {memory} {symbol} {source}"),
        true => write!(f, "{source} = atomic_fetch_{name}((u{bits} *)({place}), {source})"),
    }
}
