//! What every instruction does to a state. What must hold for it to be allowed is in `checker`; where control goes is in `pass`.

use super::arithmetic::{alu, byte_order, sign_extend, truncate, zero_extend};
use super::checker::{Argument, Checker, Look, Reach};
use super::contract::ByteRange;
use super::scalar::LOW;
use super::state::{Address, Definition, Kind, Linear, State, Symbols, Word};
use super::value::Scalar;
use crate::abi::{EFAULT, EINVAL, Extent, Helper, Parameter};
use crate::diagnostic::{Code, Finding};
use crate::isa::{AluOperation, AtomicOperation, Instruction, Operand, Register, Size, Symbol, Width};

/// A load from read-only data looks at no more than this many places of a table.
const TABLE_ENTRIES_MAX: u64 = 4096;

impl Checker<'_> {
    /// Executes an instruction that neither jumps nor ends the function.
    pub(super) fn step(&mut self, state: &mut State, at: u32, instruction: &Instruction) {
        match *instruction {
            Instruction::Alu { width, operation, destination, source } => {
                let right = self.operand(state, at, source);
                let word = if operation == AluOperation::Move {
                    self.moved(state, width, right)
                } else {
                    let left = self.defined(state, at, destination);
                    self.alu_word(state, width, operation, left, right)
                };
                self.set(state, at, destination, word);
            }
            Instruction::MoveSignExtend { width, bits, destination, source } => {
                let word = self.defined(state, at, source);
                let word = self.number_to_number(word, |checker, number| {
                    let extended = checker.sign_extended(state, number, bits.into());
                    if width == Width::W32 { checker.zero_extended(state, extended) } else { extended }
                });
                self.set(state, at, destination, word);
            }
            Instruction::Negate { width, destination } => {
                let word = self.defined(state, at, destination);
                let word = self.alu_word(state, width, AluOperation::Subtract, Word::constant(0), word);
                self.set(state, at, destination, word);
            }
            Instruction::ByteOrder { order, bits, destination } => {
                let word = self.defined(state, at, destination);
                let word = self.number_to_number(word, |checker, number| {
                    let facts = byte_order(order, bits, state.facts(&checker.symbols, number));
                    checker.symbols.fresh(Definition::Free, facts)
                });
                self.set(state, at, destination, word);
            }
            Instruction::LoadImmediate { destination, value } => self.set(state, at, destination, Word::constant(value)),
            Instruction::LoadAddress { destination, symbol } => {
                let word = self.symbol_address(at, symbol);
                self.set(state, at, destination, word);
            }
            Instruction::Load { size, signed, destination, base, offset } => {
                let word = self.load(state, at, size, base, offset);
                let word = match word {
                    Word::Number(number) if signed && size != Size::B8 => {
                        Word::Number(self.sign_extended(state, number, 8 * size.bytes() as u32))
                    }
                    word => word,
                };
                self.set(state, at, destination, word);
            }
            Instruction::Store { size, base, offset, source } => {
                let word = self.operand(state, at, source);
                self.store(state, at, size, base, offset, word);
            }
            Instruction::Atomic { operation, size, fetch, base, offset, source } => {
                self.atomic(state, at, (operation, size, fetch), (base, offset), source);
            }
            Instruction::CallHelper { number } => self.call(state, at, number),
            Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit | Instruction::CallLocal { .. } => {}
        }
    }

    fn operand(&mut self, state: &mut State, at: u32, operand: Operand) -> Word {
        match operand {
            Operand::Register(register) => self.defined(state, at, register),
            Operand::Immediate(value) => Word::constant(i64::from(value) as u64),
        }
    }

    /// Applies `compute` to a number; an address is beyond use then.
    fn number_to_number(&mut self, word: Word, compute: impl FnOnce(&mut Self, Linear) -> Linear) -> Word {
        match word {
            Word::Number(number) => Word::Number(compute(self, number)),
            Word::Reported => Word::Reported,
            Word::Pointer(_) | Word::Unusable | Word::Undefined => Word::Unusable,
        }
    }

    fn moved(&mut self, state: &State, width: Width, word: Word) -> Word {
        match width {
            Width::W64 => word,
            Width::W32 => self.number_to_number(word, |checker, number| checker.zero_extended(state, number)),
        }
    }

    pub(super) fn zero_extended(&mut self, state: &State, word: Linear) -> Linear {
        let facts = state.facts(&self.symbols, word);
        if facts.unsigned_max <= LOW { word } else { self.symbols.fresh(Definition::ZeroExtend(word), zero_extend(facts)) }
    }

    fn sign_extended(&mut self, state: &State, word: Linear, bits: u32) -> Linear {
        let facts = state.facts(&self.symbols, word);
        let extended = sign_extend(facts, bits);
        if extended == facts && facts.signed_min >= -1 << (bits - 1) && facts.signed_max < 1 << (bits - 1) {
            return word;
        }
        self.symbols.fresh(Definition::SignExtend(word, bits), extended)
    }

    fn alu_word(&mut self, state: &State, width: Width, operation: AluOperation, left: Word, right: Word) -> Word {
        use AluOperation::{Add, Or, Subtract};
        match (left, right) {
            (Word::Number(left), Word::Number(right)) => Word::Number(self.alu_number(state, width, operation, left, right)),
            (Word::Reported, _) | (_, Word::Reported) => Word::Reported,
            (Word::Pointer(address), Word::Number(number)) | (Word::Number(number), Word::Pointer(address))
                if width == Width::W64 && (operation == Add || operation == Or) =>
            {
                let disjoint = operation == Add || self.is_disjoint(state, &address, number);
                if disjoint { self.displaced(state, address, Add, number) } else { Word::Unusable }
            }
            (Word::Pointer(address), Word::Number(number)) if width == Width::W64 && operation == Subtract => {
                self.displaced(state, address, Subtract, number)
            }
            (Word::Pointer(left), Word::Pointer(right)) if width == Width::W64 && operation == Subtract => {
                match (left.single(), right.single()) {
                    (Some((kind, left)), Some((other, right))) if kind == other => {
                        Word::Number(self.alu_number(state, width, operation, left, right))
                    }
                    _ => Word::Unusable,
                }
            }
            _ => Word::Unusable,
        }
    }

    /// An address plus or minus a number. Null and handles of regions cannot be moved.
    fn displaced(&mut self, state: &State, address: Address, operation: AluOperation, by: Linear) -> Word {
        if by == Linear::constant(0) {
            return Word::Pointer(address);
        }
        if address.null || address.regions != 0 {
            return Word::Unusable;
        }
        Word::Pointer(address.map(|offset| self.alu_number(state, Width::W64, operation, offset, by)))
    }

    /// Whether no bit can be set in both an address and a number. Objects begin at multiples of 4,096, so an offset's low bits are the address's.
    fn is_disjoint(&self, state: &State, address: &Address, number: Linear) -> bool {
        let may = !state.facts(&self.symbols, number).zeros;
        let disjoint = |offset: &Linear| may & !state.facts(&self.symbols, *offset).zeros == 0;
        may < 4096 && [address.stack, address.body, address.read_only].iter().flatten().all(disjoint)
    }

    /// Arithmetic on numbers, remembering how the result came about where a later fact about it can be led back.
    fn alu_number(&mut self, state: &State, width: Width, operation: AluOperation, left: Linear, right: Linear) -> Linear {
        use AluOperation::{Add, And, Divide, Modulo, Multiply, Or, ShiftLeft, ShiftRight, ShiftRightSigned, Subtract, Xor};
        let (a, b) = (state.facts(&self.symbols, left), state.facts(&self.symbols, right));
        let (constant_a, constant_b) = (a.as_constant(), b.as_constant());
        let shift = |count: u64| (count & if width == Width::W64 { 63 } else { 31 }) as u32;
        match (width, operation, constant_a, constant_b) {
            (Width::W64, Add, _, Some(by)) => return left.plus(by),
            (Width::W64, Add, Some(by), _) => return right.plus(by),
            (Width::W64, Subtract, _, Some(by)) => return left.plus(by.wrapping_neg()),
            (Width::W64, Subtract, ..) if left.symbol == right.symbol => {
                return Linear::constant(left.delta.wrapping_sub(right.delta));
            }
            (Width::W32, Add | Subtract, _, Some(by)) => {
                let by = i64::from(by as i32) * if operation == Add { 1 } else { -1 };
                let fits = |value: u64| (0..=i128::from(LOW)).contains(&(i128::from(value) + i128::from(by)));
                if fits(a.unsigned_min) && fits(a.unsigned_max) {
                    return left.plus(by as u64);
                }
            }
            (Width::W32, And | Or | Xor | ShiftRight | Divide | Modulo, ..) if a.unsigned_max > LOW || b.unsigned_max > LOW => {
                let (left, right) = (self.zero_extended(state, left), self.zero_extended(state, right));
                return self.alu_number(state, width, operation, left, right);
            }
            (_, And, _, Some(mask)) if a.zeros | mask == u64::MAX => return left,
            (_, And, _, Some(LOW)) => return self.zero_extended(state, left),
            (Width::W64, ShiftRight | ShiftRightSigned, _, Some(count)) => {
                if let (Some(symbol), 0) = (left.symbol, left.delta)
                    && let Definition::ShiftLeft(inner, by) = self.symbols.definition(symbol)
                    && by == shift(count)
                {
                    match (operation, by) {
                        (ShiftRight, 32) => return self.zero_extended(state, inner),
                        (ShiftRightSigned, 32 | 48 | 56) => return self.sign_extended(state, inner, 64 - by),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let facts = alu(width, operation, a, b);
        // At 32 bits these are as at 64, if the operands have no upper halves and the result does not wrap.
        let plain = |max: Option<u64>| width == Width::W64 || (a.unsigned_max <= LOW && max.is_some_and(|max| max <= LOW));
        let definition = match (operation, constant_b) {
            (Add, _) => Definition::Add(width, left, right),
            (Subtract, _) => Definition::Subtract(width, left, right),
            (And, Some(mask)) if plain(Some(0)) => Definition::And(left, mask),
            (ShiftLeft, Some(count)) if plain(a.unsigned_max.checked_mul(1 << shift(count))) => {
                Definition::ShiftLeft(left, shift(count))
            }
            (ShiftRight, Some(count)) if plain(Some(0)) => Definition::ShiftRight(left, shift(count)),
            (Multiply, Some(factor)) if plain(a.unsigned_max.checked_mul(factor)) => Definition::Multiply(left, factor),
            _ => Definition::Free,
        };
        self.symbols.fresh(definition, facts)
    }

    fn symbol_address(&mut self, at: u32, symbol: Symbol) -> Word {
        match symbol {
            Symbol::Region(region) if usize::from(region) < self.environment.regions.len().min(64) => {
                Word::Pointer(Address { regions: 1 << region, ..Address::default() })
            }
            Symbol::Region(region) => {
                self.report(at, || Finding::new(Code::REGION_EXPECTED, format!("there is no region {region}")));
                Word::Reported
            }
            Symbol::ReadOnly(offset) => {
                Word::Pointer(Address { read_only: Some(Linear::constant(offset.into())), ..Address::default() })
            }
        }
    }

    fn load(&mut self, state: &mut State, at: u32, size: Size, base: Register, offset: i32) -> Word {
        let Some(reaches) = self.access(state, at, (base, offset), size, false) else { return Word::Reported };
        let mut all: Option<Word> = None;
        for reach in &reaches {
            let word = match (reach.kind, reach.exact()) {
                (Kind::ReadOnly, _) => Word::Number(self.load_constant(reach, size)),
                (_, Some(offset)) => {
                    let plain = self.read(state, reach.hull()) || state.memory.holds_secret(reach.hull());
                    if plain { self.load_cell(state, offset, size) } else { Word::Unusable }
                }
                _ if self.read(state, reach.hull()) => Word::Number(self.any_of(size)),
                _ => Word::Unusable,
            };
            all = Some(match all {
                None => word,
                Some(Word::Number(first)) if matches!(word, Word::Number(_)) => {
                    let Word::Number(second) = word else { continue };
                    let facts = state.facts(&self.symbols, first).join(state.facts(&self.symbols, second));
                    Word::Number(self.symbols.fresh(Definition::Free, facts))
                }
                Some(first) if first == word => first,
                Some(_) => Word::Unusable,
            });
        }
        all.unwrap_or(Word::Reported)
    }

    fn any_of(&mut self, size: Size) -> Linear {
        self.symbols.fresh(Definition::Free, truncate(Scalar::ANY, size.bytes()))
    }

    /// The union of a table's values.
    fn load_constant(&mut self, reach: &Reach, size: Size) -> Linear {
        let read_only = &self.environment.read_only;
        let value = |offset: u32| -> u64 {
            let bytes = read_only.get(offset as usize..offset as usize + size.bytes()).unwrap_or(&[]);
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let entries = u64::from(reach.last - reach.first) / reach.stride.max(1);
        if entries >= TABLE_ENTRIES_MAX {
            return self.any_of(size);
        }
        self.steps += entries;
        let all =
            (0..=entries).map(|entry| Scalar::constant(value(reach.first + (entry * reach.stride) as u32))).reduce(Scalar::join);
        self.symbols.fresh(Definition::Free, all.unwrap_or(Scalar::ANY))
    }

    /// What these bytes of stack or body hold.
    pub(super) fn load_cell(&mut self, state: &mut State, offset: u32, size: Size) -> Word {
        let range = ByteRange::of(offset, size);
        let cells = state.memory.overlapping(range);
        match cells {
            [] => {
                let word = Word::Number(self.any_of(size));
                state.memory.put(offset, size, word);
                word
            }
            [cell] if cell.offset == offset && cell.size == size => cell.word,
            _ if cells.iter().any(|cell| cell.word.is_secret()) => Word::Unusable,
            _ if cells.iter().any(|cell| cell.word == Word::Reported) => Word::Reported,
            [cell] if cell.range().covers(range) => {
                let Word::Number(whole) = cell.word else { return Word::Unusable };
                let down = Linear::constant(u64::from(8 * (offset - cell.offset)));
                let mask = Linear::constant((1u64 << (8 * size.bytes())) - 1);
                let shifted = self.alu_number(state, Width::W64, AluOperation::ShiftRight, whole, down);
                Word::Number(self.alu_number(state, Width::W64, AluOperation::And, shifted, mask))
            }
            _ => {
                let facts = composed(state, &self.symbols, range);
                Word::Number(self.symbols.fresh(Definition::Free, facts))
            }
        }
    }

    fn store(&mut self, state: &mut State, at: u32, size: Size, base: Register, offset: i32, word: Word) {
        let Some(reaches) = self.access(state, at, (base, offset), size, true) else { return };
        let word = match word {
            Word::Number(number) if size != Size::B8 => Word::Number(self.truncated(state, number, size)),
            word => word,
        };
        let exact = reaches.len() == 1;
        for reach in &reaches {
            let secret = word.is_secret();
            if secret && reach.kind == Kind::Body {
                self.report_leak(at, "is stored in the message");
            }
            match reach.exact() {
                _ if reach.kind == Kind::ReadOnly => {}
                Some(offset) if exact && secret && reach.kind == Kind::Body => state.memory.store(offset, size, Word::Undefined),
                Some(offset) if exact => state.memory.store(offset, size, word),
                _ if secret && reach.kind == Kind::Stack => state.memory.spoil(reach.hull()),
                _ => state.memory.forget(reach.hull()),
            }
        }
    }

    fn truncated(&mut self, state: &State, number: Linear, size: Size) -> Linear {
        match size {
            Size::B8 => number,
            Size::B4 => self.zero_extended(state, number),
            _ => {
                let mask = Linear::constant((1 << (8 * size.bytes())) - 1);
                self.alu_number(state, Width::W64, AluOperation::And, number, mask)
            }
        }
    }

    fn atomic(
        &mut self,
        state: &mut State,
        at: u32,
        (operation, size, fetch): (AtomicOperation, Size, bool),
        (base, offset): (Register, i32),
        source: Register,
    ) {
        self.number(state, at, source, "is the operand of an atomic operation");
        if operation == AtomicOperation::CompareExchange {
            self.number(state, at, Register::R0, "is the operand of an atomic operation");
        }
        let reaches = self.access(state, at, (base, offset), size, true);
        for reach in reaches.iter().flatten() {
            self.check_atomic(at, reach, size);
            if !self.read(state, reach.hull()) {
                self.report_leak(at, "is changed by an atomic operation");
            }
            match reach.exact() {
                Some(offset) if reaches.as_ref().is_some_and(|all| all.len() == 1) => {
                    state.memory.store(offset, size, Word::Undefined);
                }
                _ => state.memory.forget(reach.hull()),
            }
        }
        if fetch {
            let old = Word::Number(self.any_of(size));
            let destination = if operation == AtomicOperation::CompareExchange { Register::R0 } else { source };
            self.set(state, at, destination, old);
        }
    }

    /// Checks what must hold when a UDMA call is reached. What fails counts as reported after the cut point too.
    pub(super) fn before_call(&mut self, state: &mut State, at: u32, instruction: &Instruction) {
        if let Instruction::CallHelper { number } = instruction
            && let Some(helper) = Helper::from_number(*number)
        {
            self.arguments(state, at, helper, Look::Before);
        }
    }

    fn call(&mut self, state: &mut State, at: u32, number: i32) {
        let Some(helper) = Helper::from_number(number) else {
            self.report(at, || {
                Finding::new(Code::HELPER_UNKNOWN, format!("there is no helper {number}"))
                    .hint("call only functions that `naam.h` declares; use `naam_copy`, `naam_fill` and `naam_compare` for memory")
            });
            self.clobber(state, Word::Reported);
            return;
        };
        let look = if helper.is_udma() { Look::After } else { Look::Local };
        let arguments = self.arguments(state, at, helper, look);
        for (parameter, argument) in helper.parameters().iter().zip(&arguments) {
            let Parameter::Destination(extent) = parameter else { continue };
            let length = argument_length(&arguments, *extent);
            for reach in &argument.reaches {
                match reach.exact() {
                    Some(start) if argument.reaches.len() == 1 => {
                        let sure = start + length.unsigned_min as u32;
                        state.memory.overwrite(ByteRange { start, end: sure });
                        state.memory.forget(ByteRange { start: sure, end: reach.end });
                    }
                    _ => state.memory.forget(reach.hull()),
                }
            }
        }
        let result = self.helper_result(helper, &arguments);
        self.clobber(state, result);
    }

    fn helper_result(&mut self, helper: Helper, arguments: &[Argument]) -> Word {
        let facts = match helper {
            Helper::Read | Helper::Write => Scalar::constant(0).join(Scalar::constant(-EFAULT as u64)),
            Helper::CompareSwap | Helper::FetchAdd => {
                Scalar::constant(0).join(Scalar::constant(-EFAULT as u64)).join(Scalar::constant(-EINVAL as u64))
            }
            Helper::Length => {
                let of = |region: usize| self.environment.regions.get(region).map_or(0, |region| region.length_bytes_min);
                let regions = arguments.first().map_or(0, |argument| argument.regions);
                let min = (0..64).filter(|region| regions >> region & 1 == 1).map(of).min().unwrap_or(0);
                Scalar::unsigned(min, u64::MAX)
            }
            Helper::Compare => Scalar::signed(-1, 1),
            Helper::Executor => Scalar::unsigned(0, LOW),
            Helper::Reply | Helper::Copy | Helper::Fill => return Word::Undefined,
        };
        Word::Number(self.symbols.fresh(Definition::Free, facts))
    }

    /// After a call r0 is its result and r1 to r5 are lost.
    fn clobber(&mut self, state: &mut State, result: Word) {
        state.set(Register::R0, result);
        for register in Register::ARGUMENTS {
            state.set(register, Word::Undefined);
        }
    }
}

/// How many bytes a pointer argument refers to.
pub(super) fn argument_length(arguments: &[Argument], extent: Extent) -> Scalar {
    match extent {
        Extent::Word => Scalar::constant(8),
        Extent::Parameter(index) => arguments.get(index).and_then(|argument| argument.number).unwrap_or(Scalar::constant(0)),
    }
}

/// The number that several cells and unknown bytes form together.
pub(super) fn composed(state: &State, symbols: &Symbols, range: ByteRange) -> Scalar {
    let by = Scalar::constant;
    let mut all = truncate(Scalar::ANY, (range.end - range.start) as usize);
    for cell in state.memory.overlapping(range) {
        let Word::Number(word) = cell.word else { return Scalar::ANY };
        let facts = state.facts(symbols, word);
        let placed = if cell.offset >= range.start {
            alu(Width::W64, AluOperation::ShiftLeft, facts, by(u64::from(8 * (cell.offset - range.start))))
        } else {
            alu(Width::W64, AluOperation::ShiftRight, facts, by(u64::from(8 * (range.start - cell.offset))))
        };
        let bytes = |from: u32, to: u32| (from..to).fold(0u64, |mask, byte| mask | 0xff << (8 * (byte - range.start)));
        let mask = bytes(cell.offset.max(range.start), cell.range().end.min(range.end));
        all.ones |= placed.ones & mask;
        all.zeros |= placed.zeros & mask;
    }
    Scalar { stride: 1, ..all }.reduce().unwrap_or(Scalar::ANY)
}
