//! Execution of one turn: registers, memory, helper calls.
//!
//! Checked code cannot leave its memory, its registers or its instructions. This engine looks anyway, at each step, and answers
//! [`Failure::EngineFault`] instead of a panic: whatever is proved wrongly is found by the reference engine first.

use super::{Environment, Failure, Interpreter, Issued, Observer, Outcome, Udma, arithmetic};
use crate::abi::address::{BODY_START, READ_ONLY_START, REGION_START, STACK_END, STACK_START};
use crate::abi::{Helper, REGIONS_MAX, STACK_BYTES};
use crate::activation::{Activation, POINT_START};
use crate::isa::{AtomicOperation, Instruction, Operand, Register, Size, Symbol, Width};
use std::ops::Range;

/// How execution goes on after an instruction.
enum Next {
    /// With the following one.
    Following,
    /// With the one at this index.
    Target(u32),
}

/// Why a turn ends: an [`Outcome`] whose number is still in r0. Small, since every step may return it.
#[derive(Clone, Copy)]
enum End {
    Finished,
    Suspended,
    Failed(Failure),
}

/// What checked code can never do.
const FAULT: End = End::Failed(Failure::EngineFault);

/// Bytes behind an address.
enum Place {
    /// In the activation's memory.
    Memory(Range<usize>),
    /// In the read-only data.
    ReadOnly(Range<usize>),
}

pub(super) struct Machine<'a, E: ?Sized, O> {
    pub(super) program: &'a Interpreter,
    pub(super) activation: &'a mut Activation,
    pub(super) environment: &'a mut E,
    pub(super) observer: &'a mut O,
}

impl<E: Environment + ?Sized, O: Observer> Machine<'_, E, O> {
    pub(super) fn turn(&mut self) -> Outcome {
        match self.steps() {
            End::Finished => Outcome::Finished(self.activation.registers[Register::R0.index()]),
            End::Suspended => Outcome::Suspended,
            End::Failed(failure) => Outcome::Failed(failure),
        }
    }

    fn steps(&mut self) -> End {
        let mut at = match self.begin() {
            Ok(at) => at,
            Err(end) => return end,
        };
        loop {
            let Some(step) = self.program.steps.get(at) else { return FAULT };
            self.observer.before(at as u32, self.activation);
            let (metered, next) = match self.execute(&step.instruction, step.point) {
                Ok(Next::Following) => (step.following_metered, at + 1),
                Ok(Next::Target(target)) => (step.target_metered, target as usize),
                Err(end) => return end,
            };
            if metered {
                match self.activation.back_edges_left.checked_sub(1) {
                    Some(left) => self.activation.back_edges_left = left,
                    None => return End::Failed(Failure::BackEdgesExhausted),
                }
            }
            at = next;
        }
    }

    /// Index of the instruction that the turn starts with.
    fn begin(&mut self) -> Result<usize, End> {
        self.activation.registers[Register::R10.index()] = STACK_END;
        if self.activation.point == POINT_START {
            for range in &self.program.zeroed {
                self.activation.memory.get_mut(range.start as usize..range.end as usize).ok_or(FAULT)?.fill(0);
            }
            self.set(Register::R1, BODY_START)?;
            if let Some(number) = self.program.second_argument {
                self.set(Register::R2, number)?;
            }
            return Ok(0);
        }
        let at = *self.program.points.get(self.activation.point as usize).ok_or(FAULT)? as usize;
        if self.activation.completed == 0 {
            return Ok(at);
        }
        self.activation.completed = 0;
        self.executed(self.activation.completion)?;
        // A call has one way on, but that may be a retreating edge.
        match self.program.steps.get(at) {
            Some(step) if step.following_metered => {
                let left = self.activation.back_edges_left.checked_sub(1);
                self.activation.back_edges_left = left.ok_or(End::Failed(Failure::BackEdgesExhausted))?;
            }
            _ => {}
        }
        Ok(at + 1)
    }

    #[inline(always)]
    fn get(&self, register: Register) -> Result<u64, End> {
        self.activation.registers.get(register.index()).copied().ok_or(FAULT)
    }

    #[inline(always)]
    fn set(&mut self, register: Register, value: u64) -> Result<(), End> {
        *self.activation.registers.get_mut(register.index()).ok_or(FAULT)? = value;
        Ok(())
    }

    #[inline(always)]
    fn operand(&self, operand: Operand) -> Result<u64, End> {
        match operand {
            Operand::Register(register) => self.get(register),
            Operand::Immediate(number) => Ok(i64::from(number) as u64),
        }
    }

    fn execute(&mut self, instruction: &Instruction, point: u32) -> Result<Next, End> {
        match *instruction {
            Instruction::Alu { width, operation, destination, source } => {
                let value = arithmetic::alu(width, operation, self.get(destination)?, self.operand(source)?);
                self.set(destination, value)?;
            }
            Instruction::MoveSignExtend { width, bits, destination, source } => {
                let value = arithmetic::sign_extend(self.get(source)?, bits.into());
                self.set(destination, if width == Width::W64 { value } else { u64::from(value as u32) })?;
            }
            Instruction::Negate { width, destination } => {
                let value = self.get(destination)?.wrapping_neg();
                self.set(destination, if width == Width::W64 { value } else { u64::from(value as u32) })?;
            }
            Instruction::ByteOrder { order, bits, destination } => {
                self.set(destination, arithmetic::byte_order(order, bits, self.get(destination)?))?;
            }
            Instruction::LoadImmediate { destination, value } => self.set(destination, value)?,
            Instruction::LoadAddress { destination, symbol } => {
                let address = match symbol {
                    Symbol::Region(region) => REGION_START + u64::from(region),
                    Symbol::ReadOnly(offset) => READ_ONLY_START + u64::from(offset),
                };
                self.set(destination, address)?;
            }
            Instruction::Load { size, signed, destination, base, offset } => {
                let value = self.load(self.address(base, offset)?, size)?;
                let bits = size.bytes() as u32 * 8;
                self.set(destination, if signed { arithmetic::sign_extend(value, bits) } else { value })?;
            }
            Instruction::Store { size, base, offset, source } => {
                self.store(self.address(base, offset)?, size, self.operand(source)?)?;
            }
            Instruction::Atomic { operation, size, fetch, base, offset, source } => {
                let address = self.address(base, offset)?;
                let old = self.load(address, size)?;
                let new = arithmetic::atomic(operation, size, old, self.get(source)?, self.get(Register::R0)?);
                self.store(address, size, new)?;
                match operation {
                    AtomicOperation::CompareExchange => self.set(Register::R0, old)?,
                    _ if fetch => self.set(source, old)?,
                    _ => {}
                }
            }
            Instruction::Jump { target } => return Ok(Next::Target(target)),
            Instruction::JumpIf { width, condition, left, right, target } => {
                if arithmetic::holds(width, condition, self.get(left)?, self.operand(right)?) {
                    return Ok(Next::Target(target));
                }
            }
            Instruction::CallHelper { number } => self.call(Helper::from_number(number).ok_or(FAULT)?, point)?,
            Instruction::CallLocal { .. } => return Err(FAULT),
            Instruction::Exit => return Err(End::Finished),
        }
        Ok(Next::Following)
    }

    #[inline(always)]
    fn address(&self, base: Register, offset: i32) -> Result<u64, End> {
        Ok(self.get(base)?.wrapping_add_signed(offset.into()))
    }

    /// The bytes behind an address. No access spans stack and body.
    #[inline(always)]
    fn place(&self, address: u64, length: usize) -> Result<Place, End> {
        if length == 0 {
            return Ok(Place::Memory(0..0));
        }
        let inside = |start: u64, bytes: usize| {
            let offset = usize::try_from(address.checked_sub(start)?).ok()?;
            let end = offset.checked_add(length)?;
            (end <= bytes).then_some(offset..end)
        };
        if let Some(range) = inside(STACK_START, STACK_BYTES) {
            return Ok(Place::Memory(range));
        }
        if let Some(range) = inside(BODY_START, self.program.body_bytes) {
            return Ok(Place::Memory(range.start + STACK_BYTES..range.end + STACK_BYTES));
        }
        inside(READ_ONLY_START, self.program.read_only.len()).map(Place::ReadOnly).ok_or(FAULT)
    }

    fn bytes(&self, address: u64, length: usize) -> Result<&[u8], End> {
        match self.place(address, length)? {
            Place::Memory(range) => self.activation.memory.get(range).ok_or(FAULT),
            Place::ReadOnly(range) => self.program.read_only.get(range).ok_or(FAULT),
        }
    }

    fn bytes_mut(&mut self, address: u64, length: usize) -> Result<&mut [u8], End> {
        match self.place(address, length)? {
            Place::Memory(range) => self.activation.memory.get_mut(range).ok_or(FAULT),
            Place::ReadOnly(_) => Err(FAULT),
        }
    }

    #[inline(always)]
    fn load(&self, address: u64, size: Size) -> Result<u64, End> {
        let mut word = [0; 8];
        word[..size.bytes()].copy_from_slice(self.bytes(address, size.bytes())?);
        Ok(u64::from_le_bytes(word))
    }

    #[inline(always)]
    fn store(&mut self, address: u64, size: Size, value: u64) -> Result<(), End> {
        self.bytes_mut(address, size.bytes())?.copy_from_slice(&value.to_le_bytes()[..size.bytes()]);
        Ok(())
    }

    /// A `u32` argument: the low half of its register.
    fn number(&self, register: Register) -> Result<usize, End> {
        Ok(self.get(register)? as u32 as usize)
    }

    fn region(&self, register: Register) -> Result<u16, End> {
        match self.get(register)?.wrapping_sub(REGION_START) {
            region if region < REGIONS_MAX as u64 => Ok(region as u16),
            _ => Err(FAULT),
        }
    }

    /// Calls a helper. Those without a result leave 0 in r0.
    fn call(&mut self, helper: Helper, point: u32) -> Result<(), End> {
        let result = match helper {
            Helper::Read | Helper::Write | Helper::CompareSwap | Helper::FetchAdd => return self.udma(helper, point),
            Helper::Length => {
                let region = self.region(Register::R1)?;
                self.environment.length_bytes(region)
            }
            Helper::Reply => {
                let length = self.number(Register::R1)?;
                if length > self.program.body_bytes {
                    return Err(FAULT);
                }
                self.activation.reply_bytes = length as u32;
                0
            }
            Helper::Copy => {
                self.copy(self.get(Register::R1)?, self.get(Register::R2)?, self.number(Register::R3)?)?;
                0
            }
            Helper::Fill => {
                let byte = self.get(Register::R2)? as u8;
                let length = self.number(Register::R3)?;
                self.bytes_mut(self.get(Register::R1)?, length)?.fill(byte);
                0
            }
            Helper::Compare => {
                let length = self.number(Register::R3)?;
                let left = self.bytes(self.get(Register::R1)?, length)?;
                left.cmp(self.bytes(self.get(Register::R2)?, length)?) as i64 as u64
            }
            Helper::Executor => u64::from(self.environment.executor().map_err(End::Failed)?),
        };
        self.set(Register::R0, result)
    }

    /// Copies bytes that may overlap.
    fn copy(&mut self, to: u64, from: u64, length: usize) -> Result<(), End> {
        let Place::Memory(to) = self.place(to, length)? else { return Err(FAULT) };
        match self.place(from, length)? {
            // `place` gives ranges inside the memory only, which is what `copy_within` asks for.
            Place::Memory(from) => self.activation.memory.copy_within(from, to.start),
            Place::ReadOnly(from) => {
                let from = self.program.read_only.get(from).ok_or(FAULT)?;
                self.activation.memory.get_mut(to).ok_or(FAULT)?.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// A UDMA call: everything live is in the activation already, so to suspend is to return.
    fn udma(&mut self, helper: Helper, point: u32) -> Result<(), End> {
        if self.program.points.get(point as usize).is_none() {
            return Err(FAULT);
        }
        self.activation.point = point;
        if self.activation.udma_operations_left == 0 {
            return Err(End::Failed(Failure::UdmaOperationsExhausted));
        }
        let issued = match helper {
            Helper::Read => self.read()?,
            Helper::Write => self.write()?,
            Helper::CompareSwap => {
                let (expected, desired) = (self.get(Register::R3)?, self.get(Register::R4)?);
                self.word(self.get(Register::R5)?, |region, offset, old| Udma::CompareSwap {
                    region,
                    offset,
                    expected,
                    desired,
                    old,
                })?
            }
            _ => {
                let addend = self.get(Register::R3)?;
                self.word(self.get(Register::R4)?, |region, offset, old| Udma::FetchAdd { region, offset, addend, old })?
            }
        };
        match issued {
            Issued::Done(result) => {
                self.executed(result)?;
                self.observer.executed(point, helper, self.activation, result);
                Ok(())
            }
            Issued::Suspend => Err(End::Suspended),
            Issued::Failed(failure) => Err(End::Failed(failure)),
        }
    }

    /// Counts an operation and takes its result.
    fn executed(&mut self, result: i64) -> Result<(), End> {
        self.activation.udma_operations_left = self.activation.udma_operations_left.saturating_sub(1);
        self.activation.udma_operations = self.activation.udma_operations.saturating_add(1);
        self.set(Register::R0, result as u64)
    }

    fn read(&mut self) -> Result<Issued, End> {
        let (region, offset) = (self.region(Register::R1)?, self.get(Register::R2)?);
        let Place::Memory(range) = self.place(self.get(Register::R3)?, self.number(Register::R4)?)? else { return Err(FAULT) };
        let destination = self.activation.memory.get_mut(range).ok_or(FAULT)?;
        let issued = self.environment.udma(Udma::Read { region, offset, destination: &mut *destination });
        if matches!(issued, Issued::Done(result) if result != 0) {
            destination.fill(0);
        }
        Ok(issued)
    }

    fn write(&mut self) -> Result<Issued, End> {
        let (region, offset) = (self.region(Register::R1)?, self.get(Register::R2)?);
        let source = match self.place(self.get(Register::R3)?, self.number(Register::R4)?)? {
            Place::Memory(range) => self.activation.memory.get(range).ok_or(FAULT)?,
            Place::ReadOnly(range) => self.program.read_only.get(range).ok_or(FAULT)?,
        };
        Ok(self.environment.udma(Udma::Write { region, offset, source }))
    }

    /// An atomic on eight bytes; the old value, or 0 after an error, goes to `destination`.
    fn word(&mut self, destination: u64, operation: impl FnOnce(u16, u64, &mut u64) -> Udma<'_>) -> Result<Issued, End> {
        let (region, offset) = (self.region(Register::R1)?, self.get(Register::R2)?);
        let Place::Memory(range) = self.place(destination, Size::B8.bytes())? else { return Err(FAULT) };
        let mut old = 0;
        let issued = self.environment.udma(operation(region, offset, &mut old));
        if let Issued::Done(result) = issued {
            let old = if result == 0 { old } else { 0 };
            self.activation.memory.get_mut(range).ok_or(FAULT)?.copy_from_slice(&old.to_le_bytes());
        }
        Ok(issued)
    }
}
