//! Random programs that a verifier accepts: structured, every register and stack byte written before it is read, every access inside by
//! a mask, every loop counted.
//!
//! r6 is the body, r10 the stack; r0, r1 to r5 and r7 to r9 hold numbers or nothing. The first [`WORDS`] words below r10 always hold numbers, the
//! [`BUFFER_BYTES`] below those are bytes for helper calls.

use fastrand::Rng;
use naamc::abi::{Helper, Rights};
use naamc::isa::{AluOperation, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Symbol, Width};
use naamc::program::{Entry, Environment, Function, RegionDeclaration};

/// Bytes of the body.
pub const BODY_BYTES: u32 = 256;
/// Bytes of each region.
pub const REGION_BYTES: u64 = 1024;
/// Regions.
pub const REGIONS: u16 = 2;
/// Bytes of read-only data.
pub const READ_ONLY_BYTES: usize = 128;

/// Numbers on the stack.
const WORDS: i32 = 6;
/// Bytes on the stack.
const BUFFER_BYTES: i32 = 128;
const BUFFER: i32 = -8 * WORDS - BUFFER_BYTES;
/// Loops inside each other at most; each keeps its counter in a word of its own below the buffer.
const LOOPS: i32 = 2;
const BODY: Register = Register(6);

/// What the programs are checked against.
pub fn environment(random: &mut Rng) -> Environment {
    let region = |index: u16| RegionDeclaration {
        name: format!("region{index}"),
        rights: Rights::ALL,
        length_bytes_min: REGION_BYTES,
        element: None,
    };
    let read_only = std::iter::repeat_with(|| random.u8(..)).take(READ_ONLY_BYTES).collect();
    Environment { regions: (0..REGIONS).map(region).collect(), read_only, constants: Vec::new() }
}

/// A random function.
pub fn function(random: &mut Rng) -> Function {
    let mut generator = Generator { random, code: Vec::new(), defined: 0, loops: 0 };
    generator.prologue();
    for _ in 0..generator.random.usize(2..10) {
        generator.statement(0);
    }
    generator.epilogue();
    let entry = Entry { body_bytes: BODY_BYTES, second_argument: None };
    Function { name: "random".to_string(), entry, instructions: generator.code }
}

struct Generator<'a> {
    random: &'a mut Rng,
    code: Vec<Instruction>,
    /// Registers that hold numbers: bit `i` is register `i`.
    defined: u16,
    loops: i32,
}

impl Generator<'_> {
    fn emit(&mut self, instruction: Instruction) {
        self.code.push(instruction);
    }

    fn move_to(&mut self, destination: Register, source: Operand) {
        self.emit(Instruction::Alu { width: Width::W64, operation: AluOperation::Move, destination, source });
    }

    fn alu(&mut self, operation: AluOperation, destination: Register, source: Operand) {
        self.emit(Instruction::Alu { width: Width::W64, operation, destination, source });
    }

    fn store(&mut self, size: Size, base: Register, offset: i32, source: Operand) {
        self.emit(Instruction::Store { size, base, offset, source });
    }

    fn load(&mut self, size: Size, signed: bool, destination: Register, base: Register, offset: i32) {
        self.emit(Instruction::Load { size, signed, destination, base, offset });
    }

    fn prologue(&mut self) {
        self.move_to(BODY, Operand::Register(Register::R1));
        for word in 1..=WORDS {
            match self.random.bool() {
                true => {
                    self.load(Size::B8, false, Register::R2, BODY, 8 * word);
                    self.store(Size::B8, Register::R10, -8 * word, Operand::Register(Register::R2));
                }
                false => {
                    let number = self.random.i32(..);
                    self.store(Size::B8, Register::R10, -8 * word, Operand::Immediate(number));
                }
            }
        }
        self.move_to(Register::R1, Operand::Register(Register::R10));
        self.alu(AluOperation::Add, Register::R1, Operand::Immediate(BUFFER));
        let byte = self.random.i32(..);
        self.move_to(Register::R2, Operand::Immediate(byte));
        self.move_to(Register::R3, Operand::Immediate(BUFFER_BYTES));
        self.call(Helper::Fill);
        for register in [7, 8, 9] {
            self.load(Size::B8, false, Register(register), BODY, i32::from(register) * 8);
            self.defined |= 1 << register;
        }
    }

    fn epilogue(&mut self) {
        let defined = self.defined;
        for register in (1..10).map(Register).filter(|register| defined >> register.0 & 1 == 1) {
            self.store(Size::B8, BODY, i32::from(register.0) * 8, Operand::Register(register));
        }
        self.load(Size::B8, false, Register::R0, Register::R10, -8);
        for word in 2..=WORDS {
            self.load(Size::B8, false, Register::R1, Register::R10, -8 * word);
            self.alu(AluOperation::Xor, Register::R0, Operand::Register(Register::R1));
        }
        self.emit(Instruction::Exit);
    }

    fn call(&mut self, helper: Helper) {
        self.emit(Instruction::CallHelper { number: helper as i32 });
        self.defined &= !0b11_1111;
        // Those without a result leave nothing in r0.
        if !matches!(helper, Helper::Reply | Helper::Copy | Helper::Fill) {
            self.defined |= 1;
        }
    }

    /// A register that holds a number; one is loaded if none does.
    fn number(&mut self) -> Register {
        let some: Vec<u8> = (0..10).filter(|register| self.defined >> register & 1 == 1).collect();
        Register(some[self.random.usize(..some.len())])
    }

    /// A register to write a number to.
    fn target(&mut self) -> Register {
        let register = Register([0, 1, 2, 3, 4, 5, 7, 8, 9][self.random.usize(..9)]);
        self.defined |= 1 << register.0;
        register
    }

    fn operand(&mut self) -> Operand {
        match self.random.u8(..4) {
            0 => Operand::Immediate(self.random.i32(-9..9)),
            1 => Operand::Immediate(self.random.i32(..)),
            _ => Operand::Register(self.number()),
        }
    }

    fn width(&mut self) -> Width {
        if self.random.bool() { Width::W32 } else { Width::W64 }
    }

    fn size(&mut self) -> Size {
        [Size::B1, Size::B2, Size::B4, Size::B8][self.random.usize(..4)]
    }

    fn statement(&mut self, depth: u32) {
        match self.random.u8(..20) {
            0..=4 => self.arithmetic(),
            5..=6 => self.constant_access(),
            7..=8 => self.variable_access(),
            9 => self.atomic(),
            10 => self.local_helper(),
            11..=14 => self.udma(),
            15..=16 if depth < 3 => self.branch(depth),
            17 if depth < 3 && self.loops < LOOPS => self.repeat(depth),
            18 => self.read_only(),
            _ => self.arithmetic(),
        }
    }

    fn arithmetic(&mut self) {
        let width = self.width();
        let source = self.number();
        match self.random.u8(..10) {
            0 => {
                let destination = self.number();
                self.emit(Instruction::Negate { width, destination });
            }
            1 => {
                let bits = [8, 16, 32][self.random.usize(..if width == Width::W64 { 3 } else { 2 })];
                let destination = self.target();
                self.emit(Instruction::MoveSignExtend { width, bits, destination, source });
            }
            2 => {
                let order = [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap][self.random.usize(..3)];
                let bits = [16, 32, 64][self.random.usize(..3)];
                let destination = self.number();
                self.emit(Instruction::ByteOrder { order, bits, destination });
            }
            3 => {
                let (destination, value) = (self.target(), self.random.u64(..));
                self.emit(Instruction::LoadImmediate { destination, value });
            }
            4 => {
                let destination = self.target();
                self.emit(Instruction::Alu {
                    width,
                    operation: AluOperation::Move,
                    destination,
                    source: Operand::Register(source),
                });
            }
            _ => {
                use AluOperation::*;
                let operations = [
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
                ];
                let operation = operations[self.random.usize(..operations.len())];
                let mut source = self.operand();
                if matches!(operation, ShiftLeft | ShiftRight | ShiftRightSigned) && matches!(source, Operand::Immediate(_)) {
                    source = Operand::Immediate(self.random.i32(0..if width == Width::W64 { 64 } else { 32 }));
                }
                let destination = self.number();
                self.emit(Instruction::Alu { width, operation, destination, source });
            }
        }
    }

    fn constant_access(&mut self) {
        let (size, bytes) = (self.size(), 8);
        let (base, offset) = match self.random.u8(..3) {
            0 => (BODY, self.random.i32(0..BODY_BYTES as i32 - bytes)),
            1 => (Register::R10, BUFFER + self.random.i32(0..BUFFER_BYTES - bytes)),
            _ => (Register::R10, -8 * self.random.i32(1..=WORDS)),
        };
        if self.random.bool() {
            let (signed, destination) = (size != Size::B8 && self.random.bool(), self.target());
            self.load(size, signed, destination, base, offset);
        } else {
            let source = self.operand();
            self.store(size, base, offset, source);
        }
    }

    /// Puts a pointer to 8 bytes at a variable place of the body or the buffer into a register, which then holds no number.
    fn pointer(&mut self, register: Register) {
        let index = self.number();
        self.defined &= !(1 << register.0);
        if index != register {
            self.move_to(register, Operand::Register(index));
        }
        self.alu(AluOperation::And, register, Operand::Immediate(0x38));
        if self.random.bool() {
            self.alu(AluOperation::Add, register, Operand::Register(BODY));
        } else {
            self.alu(AluOperation::Add, register, Operand::Register(Register::R10));
            self.alu(AluOperation::Add, register, Operand::Immediate(BUFFER));
        }
    }

    fn variable_access(&mut self) {
        let register = Register(self.random.u8(1..6));
        self.pointer(register);
        let (size, offset) = (self.size(), self.random.i32(0..8));
        if self.random.bool() {
            let destination = self.target();
            self.load(size, false, destination, register, offset);
        } else {
            let source = self.operand();
            self.store(size, register, offset, source);
        }
    }

    fn atomic(&mut self) {
        use AtomicOperation::*;
        let register = Register(self.random.u8(1..5));
        self.pointer(register);
        let operation = [Add, Or, And, Xor, Exchange, CompareExchange][self.random.usize(..6)];
        let source = self.number();
        if self.defined & 1 == 0 {
            self.move_to(Register::R0, Operand::Register(source));
            self.defined |= 1;
        }
        let fetch = self.random.bool() || matches!(operation, Exchange | CompareExchange);
        let size = if self.random.bool() { Size::B4 } else { Size::B8 };
        self.emit(Instruction::Atomic { operation, size, fetch, base: register, offset: 0, source });
    }

    fn read_only(&mut self) {
        let register = Register(self.random.u8(1..6));
        let index = self.number();
        let destination = self.target();
        self.defined &= !(1 << register.0);
        self.move_to(destination, Operand::Register(index));
        self.alu(AluOperation::And, destination, Operand::Immediate(0x3f));
        let pointer = if register == destination { Register(1 + register.0 % 5) } else { register };
        self.defined &= !(1 << pointer.0);
        let symbol = Symbol::ReadOnly(self.random.u32(..32));
        self.emit(Instruction::LoadAddress { destination: pointer, symbol });
        self.alu(AluOperation::Add, pointer, Operand::Register(destination));
        let size = self.size();
        self.load(size, false, destination, pointer, 0);
        self.defined |= 1 << destination.0;
    }

    /// A length in a register: constant, or up to `max` (a power of two less one).
    fn length(&mut self, register: Register, max: i32) {
        if self.random.bool() {
            let constant = self.random.i32(0..=max);
            self.move_to(register, Operand::Immediate(constant));
        } else {
            let number = self.number();
            self.move_to(register, Operand::Register(number));
            self.alu(AluOperation::And, register, Operand::Immediate(max));
        }
        // Parameters of 32 bits may have anything above.
        if self.random.u8(..4) == 0 {
            self.defined |= 1 << register.0;
            let high = Register::R5;
            self.emit(Instruction::LoadImmediate { destination: high, value: 0xdead_beef << 32 });
            self.alu(AluOperation::Or, register, Operand::Register(high));
        }
        self.defined &= !(1 << register.0);
    }

    /// The same, or read-only data.
    fn bytes_to_read(&mut self, register: Register) {
        if self.random.bool() {
            return self.bytes(register);
        }
        let symbol = Symbol::ReadOnly(self.random.u32(..64));
        self.emit(Instruction::LoadAddress { destination: register, symbol });
        self.defined &= !(1 << register.0);
    }

    /// Bytes of the buffer or the body, at least 64 of them.
    fn bytes(&mut self, register: Register) {
        if self.random.bool() {
            self.move_to(register, Operand::Register(Register::R10));
            let start = BUFFER + self.random.i32(0..BUFFER_BYTES - 64);
            self.alu(AluOperation::Add, register, Operand::Immediate(start));
        } else {
            self.move_to(register, Operand::Register(BODY));
            let start = self.random.i32(0..BODY_BYTES as i32 - 64);
            self.alu(AluOperation::Add, register, Operand::Immediate(start));
        }
        self.defined &= !(1 << register.0);
    }

    fn local_helper(&mut self) {
        match self.random.u8(..5) {
            0 => {
                let region = Symbol::Region(self.random.u16(..REGIONS));
                self.emit(Instruction::LoadAddress { destination: Register::R1, symbol: region });
                self.call(Helper::Length);
            }
            1 => {
                self.length(Register::R1, 0xff);
                self.call(Helper::Reply);
            }
            2 => {
                self.length(Register::R3, 63);
                self.bytes(Register::R1);
                self.bytes(Register::R2);
                self.call(Helper::Copy);
            }
            3 => {
                self.length(Register::R3, 63);
                let byte = self.number();
                self.move_to(Register::R2, Operand::Register(byte));
                self.bytes(Register::R1);
                self.call(Helper::Fill);
            }
            _ => {
                self.length(Register::R3, 63);
                self.bytes(Register::R1);
                self.bytes_to_read(Register::R2);
                self.call(Helper::Compare);
            }
        }
    }

    fn udma(&mut self) {
        let helper = [Helper::Read, Helper::Read, Helper::Write, Helper::CompareSwap, Helper::FetchAdd][self.random.usize(..5)];
        // Lengths first: they may use any number.
        match helper {
            Helper::Read => {
                self.length(Register::R4, 63);
                self.bytes(Register::R3);
            }
            Helper::Write => {
                self.length(Register::R4, 63);
                self.bytes_to_read(Register::R3);
            }
            Helper::CompareSwap => {
                for register in [Register::R3, Register::R4] {
                    let number = self.number();
                    self.move_to(register, Operand::Register(number));
                    self.alu(AluOperation::And, register, Operand::Immediate(1));
                }
                self.bytes(Register::R5);
            }
            _ => {
                let number = self.number();
                self.move_to(Register::R3, Operand::Register(number));
                self.bytes(Register::R4);
            }
        }
        match self.random.u8(..4) {
            0 => {
                let offset = 8 * self.random.i32(0..REGION_BYTES as i32 / 8);
                self.move_to(Register::R2, Operand::Immediate(offset));
            }
            1 => {
                let number = self.number();
                self.move_to(Register::R2, Operand::Register(number));
            }
            2 => {
                let number = self.number();
                self.move_to(Register::R2, Operand::Register(number));
                self.alu(AluOperation::And, Register::R2, Operand::Immediate(0x3f8));
            }
            _ => {
                let number = self.number();
                self.move_to(Register::R2, Operand::Register(number));
                self.alu(AluOperation::And, Register::R2, Operand::Immediate(0x7ff));
            }
        }
        let (one, other) = (self.random.u16(..REGIONS), self.random.u16(..REGIONS));
        self.emit(Instruction::LoadAddress { destination: Register::R1, symbol: Symbol::Region(one) });
        if self.random.u8(..4) == 0 {
            // One region or the other.
            let saved = self.defined & 0b11_1000_0000;
            self.defined = saved;
            let left = self.number();
            let target = self.code.len() as u32 + 2;
            let right = Operand::Immediate(self.random.i32(-2..2));
            self.emit(Instruction::JumpIf { width: Width::W64, condition: Condition::SignedLess, left, right, target });
            self.emit(Instruction::LoadAddress { destination: Register::R1, symbol: Symbol::Region(other) });
        }
        self.call(helper);
    }

    fn branch(&mut self, depth: u32) {
        use Condition::*;
        let conditions = [
            Equal,
            NotEqual,
            AnySet,
            Greater,
            GreaterOrEqual,
            Less,
            LessOrEqual,
            SignedGreater,
            SignedGreaterOrEqual,
            SignedLess,
            SignedLessOrEqual,
        ];
        let condition = conditions[self.random.usize(..conditions.len())];
        let (width, left, right) = (self.width(), self.number(), self.operand());
        let jump = self.code.len();
        self.emit(Instruction::JumpIf { width, condition, left, right, target: 0 });
        let before = self.defined;
        for _ in 0..self.random.usize(1..4) {
            self.statement(depth + 1);
        }
        let after_one = self.defined;
        self.defined = before;
        if self.random.bool() {
            let end = self.code.len();
            self.emit(Instruction::Jump { target: 0 });
            self.patch(jump);
            for _ in 0..self.random.usize(1..4) {
                self.statement(depth + 1);
            }
            self.patch(end);
        } else {
            self.patch(jump);
        }
        self.defined &= after_one;
    }

    /// Makes a jump go to the next instruction.
    fn patch(&mut self, jump: usize) {
        let next = self.code.len() as u32;
        if let Instruction::Jump { target } | Instruction::JumpIf { target, .. } = &mut self.code[jump] {
            *target = next;
        }
    }

    fn repeat(&mut self, depth: u32) {
        let counter = BUFFER - 8 * (1 + self.loops);
        self.loops += 1;
        let trips = self.random.i32(1..6);
        self.store(Size::B8, Register::R10, counter, Operand::Immediate(trips));
        // What the body loses must not be needed at its start: r7 to r9 alone survive everything.
        self.defined &= 0b11_1000_0000;
        let head = self.code.len() as u32;
        for _ in 0..self.random.usize(1..4) {
            self.statement(depth + 1);
        }
        self.load(Size::B8, false, Register::R5, Register::R10, counter);
        self.alu(AluOperation::Add, Register::R5, Operand::Immediate(-1));
        self.store(Size::B8, Register::R10, counter, Operand::Register(Register::R5));
        self.emit(Instruction::JumpIf {
            width: Width::W64,
            condition: Condition::NotEqual,
            left: Register::R5,
            right: Operand::Immediate(0),
            target: head,
        });
        self.loops -= 1;
        self.defined &= 0b11_1000_0000;
    }
}
