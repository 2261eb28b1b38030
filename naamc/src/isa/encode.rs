//! From instructions to 8-byte slots: the inverse of [`super::decode`], for tests and for programs that other eBPF machines shall read.

use super::decode::{LOAD_IMMEDIATE, SLOT_BYTES};
use super::{AluOperation, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Width};

/// Why an instruction has no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    /// It uses a register of an inlined callee.
    #[error("instruction {0} uses a register beyond r10")]
    Register(usize),
    /// It loads the address of a symbol, which takes a relocation.
    #[error("instruction {0} loads a symbol's address")]
    Symbol(usize),
    /// Its offset, distance or bit count does not fit its field.
    #[error("instruction {0} has a number that does not fit its field")]
    Range(usize),
}

/// Encodes a whole list of instructions, whose targets are indices into it.
///
/// # Errors
///
/// The first instruction without an encoding.
pub fn encode(instructions: &[Instruction]) -> Result<Vec<u8>, Unencodable> {
    let mut slots = Vec::with_capacity(instructions.len());
    let mut slot = 0i64;
    for instruction in instructions {
        slots.push(slot);
        slot += if matches!(instruction, Instruction::LoadImmediate { .. }) { 2 } else { 1 };
    }
    let mut bytes = Vec::with_capacity(slot as usize * SLOT_BYTES);
    for (index, instruction) in instructions.iter().enumerate() {
        let distance =
            |target: u32| slots.get(target as usize).map(|target| target - slots[index] - 1).ok_or(Unencodable::Range(index));
        let fields = fields(instruction, index, distance)?;
        bytes.extend_from_slice(&fields.bytes(index)?);
        if let Instruction::LoadImmediate { value, .. } = instruction {
            let high = Fields { immediate: (value >> 32) as i32, ..Fields::default() };
            bytes.extend_from_slice(&high.bytes(index)?);
        }
    }
    Ok(bytes)
}

/// The fields of a slot, before it is known that they fit.
#[derive(Default)]
struct Fields {
    opcode: u8,
    destination: u8,
    source: u8,
    offset: i32,
    immediate: i32,
}

impl Fields {
    fn bytes(&self, index: usize) -> Result<[u8; SLOT_BYTES], Unencodable> {
        if self.destination > 10 || self.source > 10 {
            return Err(Unencodable::Register(index));
        }
        let offset = i16::try_from(self.offset).map_err(|_| Unencodable::Range(index))?.to_le_bytes();
        let immediate = self.immediate.to_le_bytes();
        let registers = self.destination | self.source << 4;
        Ok([self.opcode, registers, offset[0], offset[1], immediate[0], immediate[1], immediate[2], immediate[3]])
    }

    /// Adds the second operand of arithmetic or a comparison.
    fn with(self, operand: Operand) -> Fields {
        match operand {
            Operand::Register(register) => Fields { opcode: self.opcode | 8, source: register.0, ..self },
            Operand::Immediate(immediate) => Fields { immediate, ..self },
        }
    }
}

/// Longer than a screen: a table, a row an instruction, that is read beside RFC 9669's and would hide gaps in pieces.
fn fields(
    instruction: &Instruction,
    index: usize,
    distance: impl Fn(u32) -> Result<i64, Unencodable>,
) -> Result<Fields, Unencodable> {
    let range = Unencodable::Range(index);
    if !instruction.is_possible() {
        return Err(range);
    }
    let fields = match *instruction {
        Instruction::Alu { width, operation, destination, source } => {
            let (code, offset) = alu_code(operation);
            Fields { opcode: code << 4 | alu_class(width), destination: destination.0, offset, ..Fields::default() }.with(source)
        }
        Instruction::MoveSignExtend { width, bits, destination, source } => {
            let Register(source) = source;
            Fields { opcode: 0xb8 | alu_class(width), destination: destination.0, source, offset: bits.into(), immediate: 0 }
        }
        Instruction::Negate { width, destination } => {
            Fields { opcode: 0x80 | alu_class(width), destination: destination.0, ..Fields::default() }
        }
        Instruction::ByteOrder { order, bits, destination } => {
            let opcode = match order {
                ByteOrder::Little => 0xd4,
                ByteOrder::Big => 0xdc,
                ByteOrder::Swap => 0xd7,
            };
            Fields { opcode, destination: destination.0, immediate: bits.into(), ..Fields::default() }
        }
        Instruction::LoadImmediate { destination, value } => {
            Fields { opcode: LOAD_IMMEDIATE, destination: destination.0, immediate: value as i32, ..Fields::default() }
        }
        Instruction::LoadAddress { .. } => return Err(Unencodable::Symbol(index)),
        Instruction::Load { size, signed, destination, base, offset } => {
            let mode = if signed { 0x80 } else { 0x60 };
            Fields { opcode: mode | size_code(size) | 1, destination: destination.0, source: base.0, offset, immediate: 0 }
        }
        Instruction::Store { size, base, offset, source } => {
            let opcode = 0x60 | size_code(size);
            match source {
                Operand::Immediate(immediate) => Fields { opcode: opcode | 2, destination: base.0, source: 0, offset, immediate },
                Operand::Register(source) => {
                    Fields { opcode: opcode | 3, destination: base.0, source: source.0, offset, immediate: 0 }
                }
            }
        }
        Instruction::Atomic { operation, size, fetch, base, offset, source } => {
            let immediate = atomic_code(operation) | i32::from(fetch);
            Fields { opcode: 0xc3 | size_code(size), destination: base.0, source: source.0, offset, immediate }
        }
        Instruction::Jump { target } => {
            let distance = distance(target)?;
            match i16::try_from(distance) {
                Ok(offset) => Fields { opcode: 0x05, offset: offset.into(), ..Fields::default() },
                Err(_) => {
                    let immediate = i32::try_from(distance).map_err(|_| range)?;
                    Fields { opcode: 0x06, immediate, ..Fields::default() }
                }
            }
        }
        Instruction::JumpIf { width, condition, left, right, target } => {
            let offset = i32::try_from(distance(target)?).map_err(|_| range)?;
            let class = if width == Width::W64 { 5 } else { 6 };
            Fields { opcode: condition_code(condition) << 4 | class, destination: left.0, offset, ..Fields::default() }.with(right)
        }
        Instruction::CallHelper { number } => Fields { opcode: 0x85, immediate: number, ..Fields::default() },
        Instruction::CallLocal { target } => {
            let immediate = i32::try_from(distance(target)?).map_err(|_| range)?;
            Fields { opcode: 0x85, source: 1, immediate, ..Fields::default() }
        }
        Instruction::Exit => Fields { opcode: 0x95, ..Fields::default() },
    };
    Ok(fields)
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => 4,
        Width::W64 => 7,
    }
}

/// The code, and the offset that makes it signed.
fn alu_code(operation: AluOperation) -> (u8, i32) {
    match operation {
        AluOperation::Add => (0x0, 0),
        AluOperation::Subtract => (0x1, 0),
        AluOperation::Multiply => (0x2, 0),
        AluOperation::Divide => (0x3, 0),
        AluOperation::SignedDivide => (0x3, 1),
        AluOperation::Or => (0x4, 0),
        AluOperation::And => (0x5, 0),
        AluOperation::ShiftLeft => (0x6, 0),
        AluOperation::ShiftRight => (0x7, 0),
        AluOperation::Modulo => (0x9, 0),
        AluOperation::SignedModulo => (0x9, 1),
        AluOperation::Xor => (0xa, 0),
        AluOperation::Move => (0xb, 0),
        AluOperation::ShiftRightSigned => (0xc, 0),
    }
}

fn condition_code(condition: Condition) -> u8 {
    match condition {
        Condition::Equal => 0x1,
        Condition::Greater => 0x2,
        Condition::GreaterOrEqual => 0x3,
        Condition::AnySet => 0x4,
        Condition::NotEqual => 0x5,
        Condition::SignedGreater => 0x6,
        Condition::SignedGreaterOrEqual => 0x7,
        Condition::Less => 0xa,
        Condition::LessOrEqual => 0xb,
        Condition::SignedLess => 0xc,
        Condition::SignedLessOrEqual => 0xd,
    }
}

fn atomic_code(operation: AtomicOperation) -> i32 {
    match operation {
        AtomicOperation::Add => 0x00,
        AtomicOperation::Or => 0x40,
        AtomicOperation::And => 0x50,
        AtomicOperation::Xor => 0xa0,
        AtomicOperation::Exchange => 0xe0,
        AtomicOperation::CompareExchange => 0xf0,
    }
}

/// The size bits of an opcode, in place.
fn size_code(size: Size) -> u8 {
    match size {
        Size::B4 => 0x00,
        Size::B2 => 0x08,
        Size::B1 => 0x10,
        Size::B8 => 0x18,
    }
}
