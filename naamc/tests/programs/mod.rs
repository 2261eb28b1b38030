//! Random programs that are likely, but not sure, to be safe: sequences of checked accesses, loops, branches and calls, with a few
//! instructions changed at random afterwards.

use fastrand::Rng;
use naamc::abi::{Helper, Rights};
use naamc::isa::{AluOperation, Condition, Instruction, Operand, Register, Size, Symbol, Width};
use naamc::program::{Entry, Environment, Function, RegionDeclaration};

/// Bytes of the message.
const BODY_BYTES: u32 = 96;
/// Stack bytes that programs use.
const FRAME_BYTES: i32 = 64;

pub fn environment() -> Environment {
    let region = |name: &str, rights| RegionDeclaration { name: name.into(), rights, length_bytes_min: 128, element: None };
    Environment {
        regions: vec![region("all", Rights::ALL), region("some", Rights::READ | Rights::WRITE)],
        read_only: (0..64u8).map(|byte| byte.wrapping_mul(37)).collect(),
        constants: Vec::new(),
    }
}

/// The program, an instruction a line.
pub fn text(function: &Function) -> String {
    function.instructions.iter().enumerate().map(|(index, instruction)| format!("{index:4} {instruction}\n")).collect()
}

pub fn generate(random: &mut Rng) -> Function {
    let mut maker = Maker { random, code: Vec::new(), ends: Vec::new() };
    maker.start();
    for _ in 0..maker.random.usize(2..7) {
        maker.statement(2);
    }
    maker.finish();
    let mut code = maker.code;
    if random.u8(0..3) == 0 {
        for _ in 0..random.usize(1..4) {
            change(&mut code, random);
        }
    }
    Function { name: "random".into(), entry: Entry { body_bytes: BODY_BYTES, second_argument: None }, instructions: code }
}

/// All but `Move`.
const OPERATIONS: &[AluOperation] = AluOperation::ALL.split_at(AluOperation::ALL.len() - 1).0;

const SIZES: [Size; 4] = [Size::B1, Size::B2, Size::B4, Size::B8];

/// r6 is the message, r7 to r9 are numbers that survive calls, r0 to r5 are for the moment.
struct Maker<'a> {
    random: &'a mut Rng,
    code: Vec<Instruction>,
    /// Jumps that lead to the end.
    ends: Vec<usize>,
}

impl Maker<'_> {
    fn width(&mut self) -> Width {
        if self.random.bool() { Width::W32 } else { Width::W64 }
    }

    fn number(&mut self) -> Register {
        Register(self.random.u8(7..10))
    }

    fn size(&mut self) -> Size {
        SIZES[self.random.usize(0..4)]
    }

    fn alu(&mut self, width: Width, operation: AluOperation, destination: Register, source: Operand) {
        self.code.push(Instruction::Alu { width, operation, destination, source });
    }

    fn set(&mut self, destination: Register, value: i32) {
        self.alu(Width::W64, AluOperation::Move, destination, Operand::Immediate(value));
    }

    fn copy(&mut self, destination: Register, source: Register) {
        self.alu(Width::W64, AluOperation::Move, destination, Operand::Register(source));
    }

    fn start(&mut self) {
        self.copy(Register(6), Register::R1);
        for register in 7..10 {
            match self.random.u8(0..3) {
                0 => {
                    let value = self.random.i32(-3..70);
                    self.set(Register(register), value);
                }
                _ => self.load_field(Register(register)),
            }
        }
    }

    fn finish(&mut self) {
        let number = self.number();
        let end = self.code.len() as u32 + 1;
        self.copy(Register::R0, number);
        for jump in std::mem::take(&mut self.ends) {
            if let Instruction::JumpIf { target, .. } = &mut self.code[jump] {
                *target = end - 1;
            }
        }
        self.code.push(Instruction::Exit);
    }

    fn load_field(&mut self, destination: Register) {
        let (size, signed) = (self.size(), self.random.u8(0..5) == 0);
        let offset = self.random.i32(0..BODY_BYTES as i32 / 8) * 8;
        let signed = signed && size != Size::B8;
        self.code.push(Instruction::Load { size, signed, destination, base: Register(6), offset });
    }

    fn statement(&mut self, depth: u32) {
        match self.random.u8(0..if depth == 0 { 9 } else { 12 }) {
            0 => {
                let number = self.number();
                self.load_field(number);
            }
            1 | 2 => self.arithmetic(),
            3 => self.indexed(),
            4 => self.slot(),
            5 => self.spill(),
            6 | 7 => self.call(),
            8 => self.leave_if(),
            9 | 10 => self.choose(depth),
            _ => self.repeat(depth),
        }
    }

    fn arithmetic(&mut self) {
        let (width, destination) = (self.width(), self.number());
        let operation = OPERATIONS[self.random.usize(0..OPERATIONS.len())];
        let source = match self.random.u8(0..4) {
            0 => Operand::Register(self.number()),
            1 => Operand::Immediate(self.random.i32(..)),
            _ => Operand::Immediate(self.random.i32(-8..64)),
        };
        self.alu(width, operation, destination, source);
    }

    fn test(&mut self, left: Register) -> Instruction {
        let right = match self.random.u8(0..4) {
            0 => Operand::Register(self.number()),
            _ => Operand::Immediate(self.random.i32(-2..70)),
        };
        let condition = Condition::ALL[self.random.usize(0..Condition::ALL.len())];
        Instruction::JumpIf { width: self.width(), condition, left, right, target: 0 }
    }

    /// Leaves if a number is too large, so that it can be an index after.
    fn leave_if(&mut self) {
        let left = self.number();
        let right = Operand::Immediate(self.random.i32(0..80));
        let condition = if self.random.u8(0..4) == 0 { Condition::SignedGreater } else { Condition::Greater };
        self.ends.push(self.code.len());
        let width = self.width();
        self.code.push(Instruction::JumpIf { width, condition, left, right, target: 0 });
    }

    /// Reads or writes an element of the message or of a table, most often after a test of the index.
    fn indexed(&mut self) {
        let index = self.number();
        let (base, count) = match self.random.u8(0..4) {
            0 => (None, 64),
            1 => (Some(Register::R10), FRAME_BYTES),
            _ => (Some(Register(6)), BODY_BYTES as i32),
        };
        let size = self.size();
        let bytes = size.bytes() as i32;
        if self.random.u8(0..6) != 0 {
            let slack = if self.random.u8(0..12) == 0 { self.random.i32(-1..3) } else { 0 };
            self.ends.push(self.code.len());
            let right = Operand::Immediate(count - bytes + slack);
            self.code.push(Instruction::JumpIf { width: Width::W64, condition: Condition::Greater, left: index, right, target: 0 });
        }
        match base {
            Some(base) => self.copy(Register::R2, base),
            None => self.code.push(Instruction::LoadAddress { destination: Register::R2, symbol: Symbol::ReadOnly(0) }),
        }
        if base == Some(Register::R10) {
            self.alu(Width::W64, AluOperation::Add, Register::R2, Operand::Immediate(-FRAME_BYTES));
        }
        self.alu(Width::W64, AluOperation::Add, Register::R2, Operand::Register(index));
        if base.is_some() && self.random.bool() {
            let source = Operand::Register(self.number());
            self.code.push(Instruction::Store { size, base: Register::R2, offset: 0, source });
        } else {
            let destination = self.number();
            self.code.push(Instruction::Load { size, signed: false, destination, base: Register::R2, offset: 0 });
        }
    }

    /// Writes a stack slot, or reads one.
    fn slot(&mut self) {
        let size = self.size();
        let offset = -self.random.i32(1..=FRAME_BYTES / 8) * 8;
        if self.random.u8(0..3) != 0 {
            let source =
                if self.random.bool() { Operand::Register(self.number()) } else { Operand::Immediate(self.random.i32(..)) };
            self.code.push(Instruction::Store { size, base: Register::R10, offset, source });
        }
        if self.random.bool() {
            let (destination, signed) = (self.number(), size != Size::B8 && self.random.bool());
            self.code.push(Instruction::Load { size, signed, destination, base: Register::R10, offset });
        }
    }

    /// Puts an address on the stack and uses it from there, perhaps after a call.
    fn spill(&mut self) {
        let offset = -self.random.i32(1..=4) * 8;
        self.copy(Register::R3, Register(6));
        let by = self.random.i32(0..40);
        self.alu(Width::W64, AluOperation::Add, Register::R3, Operand::Immediate(by));
        self.code.push(Instruction::Store { size: Size::B8, base: Register::R10, offset, source: Operand::Register(Register::R3) });
        if self.random.bool() {
            self.call();
        }
        self.code.push(Instruction::Load { size: Size::B8, signed: false, destination: Register::R4, base: Register::R10, offset });
        let (destination, size) = (self.number(), self.size());
        self.code.push(Instruction::Load { size, signed: false, destination, base: Register::R4, offset: 8 });
    }

    fn call(&mut self) {
        let helper = [
            Helper::Read,
            Helper::Read,
            Helper::Write,
            Helper::FetchAdd,
            Helper::CompareSwap,
            Helper::Length,
            Helper::Reply,
            Helper::Copy,
            Helper::Fill,
            Helper::Compare,
        ][self.random.usize(0..10)];
        let length = if self.random.bool() { None } else { Some(self.number()) };
        let clamp = self.random.i32(0..=40);
        if let Some(length) = length {
            self.ends.push(self.code.len());
            self.code.push(Instruction::JumpIf {
                width: Width::W32,
                condition: Condition::Greater,
                left: length,
                right: Operand::Immediate(clamp),
                target: 0,
            });
        }
        let start = length.and_then(|length| self.start_with_room(length));
        for (parameter, register) in helper.parameters().iter().zip(Register::ARGUMENTS) {
            match parameter {
                naamc::abi::Parameter::Region(rights) => {
                    let region = if rights.contains(Rights::ATOMIC) { 0 } else { self.random.u16(0..2) };
                    self.code.push(Instruction::LoadAddress { destination: register, symbol: Symbol::Region(region) });
                }
                naamc::abi::Parameter::U64 => {
                    let number = self.number();
                    self.copy(register, number);
                }
                naamc::abi::Parameter::U32 => match length {
                    Some(length) => self.copy(register, length),
                    None => self.set(register, clamp),
                },
                naamc::abi::Parameter::Source(_) | naamc::abi::Parameter::Destination(_) => {
                    let (base, by) = match self.random.bool() {
                        true => (Register::R10, -self.random.i32(5..=8) * 8),
                        false => (Register(6), self.random.i32(0..7) * 8),
                    };
                    self.copy(register, base);
                    match start {
                        // Room for start and length together was tested.
                        Some(start) => {
                            let by = if base == Register::R10 {
                                -FRAME_BYTES
                            } else {
                                self.random.i32(0..=BODY_BYTES as i32 - FRAME_BYTES)
                            };
                            self.alu(Width::W64, AluOperation::Add, register, Operand::Immediate(by));
                            self.alu(Width::W64, AluOperation::Add, register, Operand::Register(start));
                        }
                        None => self.alu(Width::W64, AluOperation::Add, register, Operand::Immediate(by)),
                    }
                }
            }
        }
        self.code.push(Instruction::CallHelper { number: helper as i32 });
        if !matches!(helper, Helper::Reply | Helper::Copy | Helper::Fill) && self.random.bool() {
            let number = self.number();
            self.copy(number, Register::R0);
        }
    }

    /// Sometimes a number that fits into the frame together with a length, by a test of the sum or of what is left.
    fn start_with_room(&mut self, length: Register) -> Option<Register> {
        let start = self.number();
        if start == length || self.random.bool() {
            return None;
        }
        let slack = if self.random.u8(0..12) == 0 { 1 } else { 0 };
        let leave = |maker: &mut Self, left: Register, right: Operand| {
            maker.ends.push(maker.code.len());
            maker.code.push(Instruction::JumpIf { width: Width::W64, condition: Condition::Greater, left, right, target: 0 });
        };
        leave(self, start, Operand::Immediate(FRAME_BYTES));
        leave(self, length, Operand::Immediate(FRAME_BYTES));
        let width = self.width();
        match self.random.bool() {
            true => {
                self.copy(Register::R5, start);
                self.alu(width, AluOperation::Add, Register::R5, Operand::Register(length));
                leave(self, Register::R5, Operand::Immediate(FRAME_BYTES + slack));
            }
            false => {
                self.set(Register::R5, FRAME_BYTES + slack);
                self.alu(width, AluOperation::Subtract, Register::R5, Operand::Register(start));
                leave(self, length, Operand::Register(Register::R5));
            }
        }
        if self.random.u8(0..3) == 0 {
            self.call();
        }
        Some(start)
    }

    fn choose(&mut self, depth: u32) {
        let left = self.number();
        let jump = self.code.len();
        let test = self.test(left);
        self.code.push(test);
        self.some(depth);
        if self.random.bool() {
            let over = self.code.len();
            self.code.push(Instruction::Jump { target: 0 });
            self.aim(jump);
            self.some(depth);
            self.aim(over);
        } else {
            self.aim(jump);
        }
    }

    fn some(&mut self, depth: u32) {
        for _ in 0..self.random.usize(1..3) {
            self.statement(depth - 1);
        }
    }

    /// Lets the jump at this place lead here.
    fn aim(&mut self, jump: usize) {
        let here = self.code.len() as u32;
        match &mut self.code[jump] {
            Instruction::JumpIf { target, .. } | Instruction::Jump { target } => *target = here,
            _ => {}
        }
    }

    /// A loop that counts in a register or in a stack slot.
    fn repeat(&mut self, depth: u32) {
        let counter = self.number();
        let (from, step, rounds) = (self.random.i32(0..4), self.random.i32(1..4), self.random.i32(1..20));
        let down = self.random.bool();
        let (start, end) = if down { (from + step * rounds, from) } else { (from, from + step * rounds) };
        self.set(counter, start);
        let slot = (self.random.u8(0..3) == 0).then(|| -self.random.i32(1..=8) * 8);
        if let Some(offset) = slot {
            self.code.push(Instruction::Store { size: Size::B8, base: Register::R10, offset, source: Operand::Register(counter) });
        }
        let head = self.code.len() as u32;
        self.some(depth);
        if let Some(offset) = slot {
            self.code.push(Instruction::Load { size: Size::B8, signed: false, destination: counter, base: Register::R10, offset });
        }
        let width = self.width();
        self.alu(width, AluOperation::Add, counter, Operand::Immediate(if down { -step } else { step }));
        if let Some(offset) = slot {
            self.code.push(Instruction::Store { size: Size::B8, base: Register::R10, offset, source: Operand::Register(counter) });
        }
        let condition = match (self.random.u8(0..3), down) {
            (0, _) => Condition::NotEqual,
            (1, true) => Condition::SignedGreater,
            (_, true) => Condition::Greater,
            (1, false) => Condition::SignedLess,
            (_, false) => Condition::Less,
        };
        self.code.push(Instruction::JumpIf { width, condition, left: counter, right: Operand::Immediate(end), target: head });
    }
}

/// Changes one instruction a little.
fn change(code: &mut [Instruction], random: &mut Rng) {
    let length = code.len() as u32;
    let at = random.usize(0..code.len() - 1);
    match &mut code[at] {
        Instruction::Alu { operation, source, width, destination } => match random.u8(0..4) {
            0 => *operation = OPERATIONS[random.usize(0..OPERATIONS.len())],
            1 => *source = Operand::Register(Register(random.u8(0..11))),
            2 => *width = if *width == Width::W32 { Width::W64 } else { Width::W32 },
            _ => *destination = Register(random.u8(0..10)),
        },
        Instruction::Load { offset, .. } | Instruction::Store { offset, .. } => *offset += random.i32(-16..17),
        Instruction::JumpIf { target, condition, .. } => match random.bool() {
            true => *target = random.u32(0..length),
            false => *condition = Condition::ALL[random.usize(0..Condition::ALL.len())],
        },
        Instruction::CallHelper { number } => *number = random.i32(1..11),
        other => *other = Instruction::LoadImmediate { destination: Register(random.u8(0..10)), value: random.u64(0..200) },
    }
}
