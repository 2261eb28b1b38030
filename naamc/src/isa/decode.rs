//! From the 8-byte slots of an ELF section to instructions, RFC 9669 section 3.
//!
//! This is the only place that knows opcodes' bits when reading; [`super::encode`] is its inverse. What an instruction does to a program
//! (falling off the end, uninitialised registers) is for control flow and verifier; what a relocation changes is for `object`.

use super::{AluOperation, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Width};
use crate::abi::{HANDLERS_MAX, INSTRUCTIONS_MAX};
use crate::diagnostic::{Code, Finding};

/// Bytes of a slot: an instruction has one, `lddw` two.
pub const SLOT_BYTES: usize = 8;
/// Slots that one section may have: more than all handlers of a bundle together need.
pub const SLOTS_MAX: usize = HANDLERS_MAX * INSTRUCTIONS_MAX;
/// Findings that are reported of one section; what follows is most likely noise.
pub const FINDINGS_MAX: usize = 32;

/// What `decode` makes of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The instructions in order. Targets are indices into this list.
    pub instructions: Vec<Instruction>,
    /// First slot of every instruction: ascending, starting at 0.
    pub slots: Vec<u32>,
    /// Calls between functions, ascending by instruction.
    pub local_calls: Vec<LocalCall>,
}

/// A call between functions. Relocations may move its target to another section: `object` then overrides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalCall {
    /// Index of the `CallLocal`.
    pub instruction: u32,
    /// The immediate: slots from the next one to the target, or what a relocation's addend is made of.
    pub immediate: i32,
    /// Index of the target if it is in this section; the `CallLocal` has it too. If there is none, that one has [`UNRESOLVED`].
    pub target: Option<u32>,
}

/// Target of a `CallLocal` that leaves the section: only a relocation can say where it goes.
pub const UNRESOLVED: u32 = u32::MAX;

impl Decoded {
    /// Index of the instruction whose first slot this is.
    pub fn index_of_slot(&self, slot: u32) -> Option<u32> {
        self.slots.binary_search(&slot).ok().map(|index| index as u32)
    }

    /// First slot of the instruction at `index`; for the index after the last one, the number of slots.
    pub fn slot_of_index(&self, index: u32) -> Option<u32> {
        match self.slots.get(index as usize) {
            Some(slot) => Some(*slot),
            None if index as usize == self.slots.len() => Some(self.slot_count()),
            None => None,
        }
    }

    /// Number of slots.
    pub fn slot_count(&self) -> u32 {
        match (self.slots.last(), self.instructions.last()) {
            (Some(slot), Some(Instruction::LoadImmediate { .. })) => slot + 2,
            (Some(slot), _) => slot + 1,
            (None, _) => 0,
        }
    }
}

/// Decodes a section's bytes.
///
/// # Errors
///
/// Every independent finding (codes N201 to N211), at most [`FINDINGS_MAX`]. Their `place.instruction` is the slot: as long as there
/// are findings there are no instructions to count.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Vec<Finding>> {
    if bytes.len() > SLOTS_MAX * SLOT_BYTES {
        return Err(vec![Finding::new(
            Code::CODE_LENGTH,
            format!("{} bytes of code; {} are allowed", bytes.len(), SLOTS_MAX * SLOT_BYTES),
        )]);
    }
    let (slots, rest) = bytes.as_chunks::<SLOT_BYTES>();
    let mut findings = Vec::new();
    if !rest.is_empty() {
        let text = format!("{} bytes of code are not a whole number of {SLOT_BYTES}-byte slots", bytes.len());
        findings.push(Finding::new(Code::CODE_LENGTH, text));
    }
    let mut decoded = Decoded::default();
    let mut jumps = Vec::new();
    let mut slot = 0;
    while slot < slots.len() && findings.len() < FINDINGS_MAX {
        let raw = Raw::new(&slots[slot]);
        decoded.slots.push(slot as u32);
        let following = slots.get(slot + 1).map(Raw::new);
        match instruction(&raw, following.as_ref()) {
            Ok(parsed) => {
                if let Some(distance) = parsed.distance {
                    jumps.push((decoded.instructions.len(), slot, distance));
                }
                decoded.instructions.push(parsed.instruction);
            }
            Err(finding) => {
                findings.push(finding.at(slot as u32));
                // A place holder that keeps the count; the list is dropped with the findings.
                decoded.instructions.push(Instruction::Exit);
            }
        }
        slot += if raw.opcode == LOAD_IMMEDIATE { 2 } else { 1 };
    }
    if findings.len() < FINDINGS_MAX {
        resolve(&mut decoded, &jumps, &mut findings);
    }
    if findings.is_empty() { Ok(decoded) } else { Err(findings) }
}

/// Turns distances in slots into indices.
fn resolve(decoded: &mut Decoded, jumps: &[(usize, usize, i32)], findings: &mut Vec<Finding>) {
    for &(index, slot, distance) in jumps {
        let wanted = slot as i64 + 1 + i64::from(distance);
        let found = u32::try_from(wanted).ok().and_then(|wanted| decoded.index_of_slot(wanted));
        match &mut decoded.instructions[index] {
            Instruction::CallLocal { target } => {
                *target = found.unwrap_or(UNRESOLVED);
                decoded.local_calls.push(LocalCall { instruction: index as u32, immediate: distance, target: found });
            }
            Instruction::Jump { target } | Instruction::JumpIf { target, .. } => match found {
                Some(found) => *target = found,
                None if findings.len() < FINDINGS_MAX => {
                    let text = format!("the jump in slot {slot} goes to slot {wanted}, where no instruction begins");
                    findings.push(Finding::new(Code::JUMP_TARGET, text).at(slot as u32));
                }
                None => return,
            },
            _ => {}
        }
    }
}

/// The fields of a slot.
struct Raw {
    opcode: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

/// A decoded instruction, with the distance in slots of its target, if it has one: the target itself is filled in later.
struct Parsed {
    instruction: Instruction,
    distance: Option<i32>,
}

impl From<Instruction> for Parsed {
    fn from(instruction: Instruction) -> Parsed {
        Parsed { instruction, distance: None }
    }
}

/// Opcode of `lddw`.
pub(super) const LOAD_IMMEDIATE: u8 = 0x18;

// Instruction classes: the low three bits of an opcode.
const CLASS_LD: u8 = 0;
const CLASS_LDX: u8 = 1;
const CLASS_ST: u8 = 2;
const CLASS_STX: u8 = 3;
const CLASS_ALU: u8 = 4;
const CLASS_JMP: u8 = 5;
const CLASS_JMP32: u8 = 6;
const CLASS_ALU64: u8 = 7;

impl Raw {
    fn new(slot: &[u8; SLOT_BYTES]) -> Raw {
        Raw {
            opcode: slot[0],
            destination: slot[1] & 15,
            source: slot[1] >> 4,
            offset: i16::from_le_bytes([slot[2], slot[3]]),
            immediate: i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]),
        }
    }

    fn class(&self) -> u8 {
        self.opcode & 7
    }

    /// The code of arithmetic and jumps: the high four bits.
    fn code(&self) -> u8 {
        self.opcode >> 4
    }

    /// Whether the second operand is a register.
    fn source_is_register(&self) -> bool {
        self.opcode & 8 != 0
    }

    /// The mode of loads and stores: the high three bits.
    fn mode(&self) -> u8 {
        self.opcode >> 5
    }

    fn size(&self) -> Size {
        match self.opcode >> 3 & 3 {
            0 => Size::B4,
            1 => Size::B2,
            2 => Size::B1,
            _ => Size::B8,
        }
    }

    fn unknown(&self) -> Finding {
        Finding::new(
            Code::OPCODE_UNKNOWN,
            format!("opcode {:#04x} is not in RFC 9669's base, divmul or atomic groups", self.opcode),
        )
    }

    fn reserved(&self, field: &str, value: i64) -> Finding {
        Finding::new(
            Code::RESERVED_FIELD,
            format!("opcode {:#04x} does not use its {field} field, which holds {value}", self.opcode),
        )
    }

    fn no_destination(&self) -> Result<(), Finding> {
        if self.destination == 0 { Ok(()) } else { Err(self.reserved("destination register", self.destination.into())) }
    }

    fn no_source(&self) -> Result<(), Finding> {
        if self.source == 0 { Ok(()) } else { Err(self.reserved("source register", self.source.into())) }
    }

    fn no_offset(&self) -> Result<(), Finding> {
        if self.offset == 0 { Ok(()) } else { Err(self.reserved("offset", self.offset.into())) }
    }

    fn no_immediate(&self) -> Result<(), Finding> {
        if self.immediate == 0 { Ok(()) } else { Err(self.reserved("immediate", self.immediate.into())) }
    }

    /// A register that is read.
    fn read(&self, number: u8) -> Result<Register, Finding> {
        if number <= 10 {
            Ok(Register(number))
        } else {
            Err(Finding::new(Code::REGISTER_UNKNOWN, format!("register {number} does not exist: there are r0 to r10")))
        }
    }

    /// A register that is written.
    fn written(&self, number: u8) -> Result<Register, Finding> {
        if number == 10 {
            return Err(Finding::new(Code::REGISTER_READ_ONLY, "r10, the end of the stack, is written"));
        }
        self.read(number)
    }

    /// The second operand, with the field that is then unused checked.
    fn operand(&self) -> Result<Operand, Finding> {
        if self.source_is_register() {
            self.no_immediate()?;
            Ok(Operand::Register(self.read(self.source)?))
        } else {
            self.no_source()?;
            Ok(Operand::Immediate(self.immediate))
        }
    }
}

fn instruction(raw: &Raw, following: Option<&Raw>) -> Result<Parsed, Finding> {
    match raw.class() {
        CLASS_ALU => arithmetic(raw, Width::W32).map(Parsed::from),
        CLASS_ALU64 => arithmetic(raw, Width::W64).map(Parsed::from),
        CLASS_JMP => jump(raw, Width::W64),
        CLASS_JMP32 => jump(raw, Width::W32),
        CLASS_LD => wide_load(raw, following).map(Parsed::from),
        CLASS_LDX => load(raw).map(Parsed::from),
        CLASS_ST => store(raw).map(Parsed::from),
        CLASS_STX => store_register(raw).map(Parsed::from),
        _ => Err(raw.unknown()),
    }
}

/// RFC 9669 section 4.1 and 4.2.
fn arithmetic(raw: &Raw, width: Width) -> Result<Instruction, Finding> {
    use AluOperation::{
        Add, And, Divide, Modulo, Move, Multiply, Or, ShiftLeft, ShiftRight, ShiftRightSigned, SignedDivide, SignedModulo,
        Subtract, Xor,
    };
    let (operation, signed) = match raw.code() {
        0x0 => (Add, None),
        0x1 => (Subtract, None),
        0x2 => (Multiply, None),
        0x3 => (Divide, Some(SignedDivide)),
        0x4 => (Or, None),
        0x5 => (And, None),
        0x6 => (ShiftLeft, None),
        0x7 => (ShiftRight, None),
        0x8 => return negate(raw, width),
        0x9 => (Modulo, Some(SignedModulo)),
        0xa => (Xor, None),
        0xb if raw.source_is_register() && raw.offset != 0 => return move_sign_extend(raw, width),
        0xb => (Move, None),
        0xc => (ShiftRightSigned, None),
        0xd => return byte_order(raw, width),
        _ => return Err(raw.unknown()),
    };
    let operation = match (raw.offset, signed) {
        (0, _) => operation,
        (1, Some(signed)) => signed,
        _ => return Err(raw.reserved("offset", raw.offset.into())),
    };
    Ok(Instruction::Alu { width, operation, destination: raw.written(raw.destination)?, source: raw.operand()? })
}

fn negate(raw: &Raw, width: Width) -> Result<Instruction, Finding> {
    if raw.source_is_register() {
        return Err(raw.unknown());
    }
    raw.no_source()?;
    raw.no_offset()?;
    raw.no_immediate()?;
    Ok(Instruction::Negate { width, destination: raw.written(raw.destination)? })
}

fn move_sign_extend(raw: &Raw, width: Width) -> Result<Instruction, Finding> {
    let bits = match (raw.offset, width) {
        (8, _) => 8,
        (16, _) => 16,
        (32, Width::W64) => 32,
        _ => return Err(raw.reserved("offset", raw.offset.into())),
    };
    raw.no_immediate()?;
    Ok(Instruction::MoveSignExtend { width, bits, destination: raw.written(raw.destination)?, source: raw.read(raw.source)? })
}

fn byte_order(raw: &Raw, width: Width) -> Result<Instruction, Finding> {
    let order = match (width, raw.source_is_register()) {
        (Width::W32, false) => ByteOrder::Little,
        (Width::W32, true) => ByteOrder::Big,
        (Width::W64, false) => ByteOrder::Swap,
        (Width::W64, true) => return Err(raw.unknown()),
    };
    raw.no_source()?;
    raw.no_offset()?;
    let bits = match raw.immediate {
        16 => 16,
        32 => 32,
        64 => 64,
        other => return Err(Finding::new(Code::OPCODE_UNKNOWN, format!("byte order of {other} bits: there are 16, 32 and 64"))),
    };
    Ok(Instruction::ByteOrder { order, bits, destination: raw.written(raw.destination)? })
}

/// RFC 9669 section 4.3.
fn jump(raw: &Raw, width: Width) -> Result<Parsed, Finding> {
    let condition = match raw.code() {
        0x0 => return always(raw, width),
        0x1 => Condition::Equal,
        0x2 => Condition::Greater,
        0x3 => Condition::GreaterOrEqual,
        0x4 => Condition::AnySet,
        0x5 => Condition::NotEqual,
        0x6 => Condition::SignedGreater,
        0x7 => Condition::SignedGreaterOrEqual,
        0x8 if width == Width::W64 => return call(raw),
        0x9 if width == Width::W64 && !raw.source_is_register() => {
            raw.no_destination()?;
            raw.no_source()?;
            raw.no_offset()?;
            raw.no_immediate()?;
            return Ok(Instruction::Exit.into());
        }
        0xa => Condition::Less,
        0xb => Condition::LessOrEqual,
        0xc => Condition::SignedLess,
        0xd => Condition::SignedLessOrEqual,
        0xe if width == Width::W64 && !raw.source_is_register() => {
            return Err(Finding::new(Code::MAY_GOTO, "`may_goto` is the kernel's, not RFC 9669's")
                .hint("write the loop as it is: loops without a provable bound are metered"));
        }
        _ => return Err(raw.unknown()),
    };
    let (left, right) = (raw.read(raw.destination)?, raw.operand()?);
    let instruction = Instruction::JumpIf { width, condition, left, right, target: 0 };
    Ok(Parsed { instruction, distance: Some(raw.offset.into()) })
}

/// `goto` with the distance in the offset field, and `gotol` with it in the immediate.
fn always(raw: &Raw, width: Width) -> Result<Parsed, Finding> {
    if raw.source_is_register() {
        return Err(match width {
            Width::W64 => Finding::new(Code::INDIRECT, "a jump through a register: a table of jump targets")
                .hint("build with `-fno-jump-tables`"),
            Width::W32 => raw.unknown(),
        });
    }
    raw.no_destination()?;
    raw.no_source()?;
    let distance = match width {
        Width::W64 => {
            raw.no_immediate()?;
            raw.offset.into()
        }
        Width::W32 => {
            raw.no_offset()?;
            raw.immediate
        }
    };
    Ok(Parsed { instruction: Instruction::Jump { target: 0 }, distance: Some(distance) })
}

fn call(raw: &Raw) -> Result<Parsed, Finding> {
    if raw.source_is_register() {
        return Err(Finding::new(Code::INDIRECT, "a call through a register")
            .hint("call the function by its name: handlers have no function pointers"));
    }
    raw.no_destination()?;
    raw.no_offset()?;
    match raw.source {
        0 => Ok(Instruction::CallHelper { number: raw.immediate }.into()),
        1 => Ok(Parsed { instruction: Instruction::CallLocal { target: UNRESOLVED }, distance: Some(raw.immediate) }),
        2 => Err(Finding::new(Code::KERNEL_REFERENCE, "a call of a kernel function by its BTF id")),
        other => Err(raw.reserved("source register", other.into())),
    }
}

/// RFC 9669 section 5.4: `lddw`, and section 5.5: legacy packet access.
fn wide_load(raw: &Raw, following: Option<&Raw>) -> Result<Instruction, Finding> {
    match raw.mode() {
        0 if raw.opcode == LOAD_IMMEDIATE => {}
        1 | 2 if raw.size() != Size::B8 => {
            return Err(Finding::new(Code::LEGACY_PACKET_ACCESS, "a legacy packet access")
                .hint("a handler's data is its message: read it through its argument"));
        }
        _ => return Err(raw.unknown()),
    }
    let destination = raw.written(raw.destination)?;
    raw.no_offset()?;
    match raw.source {
        0 => {}
        1..=6 => {
            let text = format!("a 64-bit load of kind {}: an object that a kernel loader has already resolved", raw.source);
            return Err(
                Finding::new(Code::KERNEL_REFERENCE, text).hint("give naamc the object as clang wrote it, with its relocations")
            );
        }
        other => return Err(raw.reserved("source register", other.into())),
    }
    let Some(second) = following else {
        return Err(Finding::new(Code::CODE_LENGTH, "the second slot of a 64-bit load is missing"));
    };
    if second.opcode != 0 {
        return Err(Finding::new(
            Code::RESERVED_FIELD,
            format!("the second slot of a 64-bit load has opcode {:#04x}", second.opcode),
        ));
    }
    second.no_destination()?;
    second.no_source()?;
    second.no_offset()?;
    let value = u64::from(raw.immediate as u32) | u64::from(second.immediate as u32) << 32;
    Ok(Instruction::LoadImmediate { destination, value })
}

/// RFC 9669 sections 5.1 and 5.2.
fn load(raw: &Raw) -> Result<Instruction, Finding> {
    let signed = match raw.mode() {
        3 => false,
        4 if raw.size() != Size::B8 => true,
        _ => return Err(raw.unknown()),
    };
    raw.no_immediate()?;
    let (destination, base) = (raw.written(raw.destination)?, raw.read(raw.source)?);
    Ok(Instruction::Load { size: raw.size(), signed, destination, base, offset: raw.offset.into() })
}

fn store(raw: &Raw) -> Result<Instruction, Finding> {
    if raw.mode() != 3 {
        return Err(raw.unknown());
    }
    raw.no_source()?;
    let (base, source) = (raw.read(raw.destination)?, Operand::Immediate(raw.immediate));
    Ok(Instruction::Store { size: raw.size(), base, offset: raw.offset.into(), source })
}

fn store_register(raw: &Raw) -> Result<Instruction, Finding> {
    let (base, offset) = (raw.read(raw.destination)?, i32::from(raw.offset));
    match raw.mode() {
        3 => {
            raw.no_immediate()?;
            Ok(Instruction::Store { size: raw.size(), base, offset, source: Operand::Register(raw.read(raw.source)?) })
        }
        6 => atomic(raw, base, offset),
        _ => Err(raw.unknown()),
    }
}

/// RFC 9669 section 5.3.
fn atomic(raw: &Raw, base: Register, offset: i32) -> Result<Instruction, Finding> {
    let size = raw.size();
    if size.bytes() < 4 {
        return Err(Finding::new(Code::ATOMIC_UNKNOWN, format!("an atomic operation on {} bytes: they have 4 or 8", size.bytes())));
    }
    let fetch = raw.immediate & 1 == 1;
    let operation = match raw.immediate {
        0x00 | 0x01 => AtomicOperation::Add,
        0x40 | 0x41 => AtomicOperation::Or,
        0x50 | 0x51 => AtomicOperation::And,
        0xa0 | 0xa1 => AtomicOperation::Xor,
        0xe1 => AtomicOperation::Exchange,
        0xf1 => AtomicOperation::CompareExchange,
        0x100 | 0x110 => {
            return Err(Finding::new(Code::ATOMIC_UNKNOWN, "a load-acquire or store-release, which is newer than RFC 9669")
                .hint("stack and body have one owner: plain loads and stores do"));
        }
        other => return Err(Finding::new(Code::ATOMIC_UNKNOWN, format!("atomic operation {other:#x} is not in RFC 9669"))),
    };
    // The old value replaces the source, except that compare-exchange returns it in r0.
    let source =
        if fetch && operation != AtomicOperation::CompareExchange { raw.written(raw.source)? } else { raw.read(raw.source)? };
    Ok(Instruction::Atomic { operation, size, fetch, base, offset, source })
}
