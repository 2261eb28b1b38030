//! Inlining keeps what a program computes: random programs run once with real calls and frames, once flat, by a stepper that knows both.

use fastrand::Rng;
use naamc::abi::{CALL_DEPTH_MAX, INSTRUCTIONS_MAX, REGISTERS_MAX, STACK_BYTES};
use naamc::diagnostic::Code;
use naamc::isa::{AluOperation, Condition, Instruction, Operand, Register, Size, Width};
use naamc::program::{CallableCode, Entry, FunctionSpan, flatten};

const ENTRY: Entry = Entry { body_bytes: 8, second_argument: None };
/// Bytes between the frames of real calls: more than any generated function uses.
const REAL_FRAME_BYTES: u64 = 1024;
const STACK_END: u64 = 1 << 32;
/// What a register holds that no program may read.
const POISON: u64 = 0xdead_beef_dead_beef;
const STEPS_MAX: usize = 1 << 20;

fn r(number: u8) -> Register {
    Register(number)
}

fn alu(operation: AluOperation, destination: u8, source: impl Into<Source>) -> Instruction {
    Instruction::Alu { width: Width::W64, operation, destination: r(destination), source: source.into().0 }
}

struct Source(Operand);
impl From<i32> for Source {
    fn from(number: i32) -> Source {
        Source(Operand::Immediate(number))
    }
}
impl From<Register> for Source {
    fn from(register: Register) -> Source {
        Source(Operand::Register(register))
    }
}

fn set(destination: u8, source: impl Into<Source>) -> Instruction {
    alu(AluOperation::Move, destination, source)
}

fn load(destination: u8, base: u8, offset: i32) -> Instruction {
    Instruction::Load { size: Size::B8, signed: false, destination: r(destination), base: r(base), offset }
}

fn store(base: u8, offset: i32, source: impl Into<Source>) -> Instruction {
    Instruction::Store { size: Size::B8, base: r(base), offset, source: source.into().0 }
}

fn jump_if(condition: Condition, left: u8, right: i32, target: u32) -> Instruction {
    Instruction::JumpIf { width: Width::W64, condition, left: r(left), right: Operand::Immediate(right), target }
}

fn call(target: u32) -> Instruction {
    Instruction::CallLocal { target }
}

/// Runs a program. Real calls save r6 to r9, lower r10, and leave nothing in r1 to r5.
struct Stepper {
    registers: [u64; REGISTERS_MAX],
    memory: Vec<u8>,
    frames: Vec<(u32, [u64; 4])>,
}

impl Stepper {
    fn run(code: &[Instruction], start: u32, stack_bytes: usize) -> u64 {
        let mut stepper = Stepper { registers: [POISON; REGISTERS_MAX], memory: vec![0; stack_bytes], frames: Vec::new() };
        stepper.registers[10] = STACK_END;
        let mut at = start;
        for _ in 0..STEPS_MAX {
            match stepper.step(code[at as usize], at) {
                Some(next) => at = next,
                None => return stepper.registers[0],
            }
        }
        panic!("the program does not end");
    }

    fn bytes(&mut self, base: Register, offset: i32) -> &mut [u8; 8] {
        let address = self.registers[base.index()].wrapping_add(offset as u64);
        let start = address - (STACK_END - self.memory.len() as u64);
        self.memory[start as usize..].first_chunk_mut().expect("the access lies on the stack")
    }

    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Register(register) => self.registers[register.index()],
            Operand::Immediate(number) => number as u64,
        }
    }

    fn step(&mut self, instruction: Instruction, at: u32) -> Option<u32> {
        match instruction {
            Instruction::Alu { operation, destination, source, .. } => {
                let (left, right) = (self.registers[destination.index()], self.value(source));
                self.registers[destination.index()] = match operation {
                    AluOperation::Move => right,
                    AluOperation::Add => left.wrapping_add(right),
                    AluOperation::Subtract => left.wrapping_sub(right),
                    AluOperation::Multiply => left.wrapping_mul(right),
                    AluOperation::Xor => left ^ right,
                    other => panic!("{other:?} is not generated"),
                };
            }
            Instruction::Load { destination, base, offset, .. } => {
                self.registers[destination.index()] = u64::from_le_bytes(*self.bytes(base, offset));
            }
            Instruction::Store { base, offset, source, .. } => {
                let value = self.value(source);
                *self.bytes(base, offset) = value.to_le_bytes();
            }
            Instruction::Jump { target } => return Some(target),
            Instruction::JumpIf { condition, left, right, target, .. } => {
                let (left, right) = (self.registers[left.index()], self.value(right));
                let holds = match condition {
                    Condition::NotEqual => left != right,
                    Condition::AnySet => left & right != 0,
                    other => panic!("{other:?} is not generated"),
                };
                return Some(if holds { target } else { at + 1 });
            }
            Instruction::CallLocal { target } => {
                self.frames.push((at + 1, *self.registers[6..].first_chunk().expect("r6 to r9")));
                self.registers[6..10].fill(POISON);
                self.registers[0] = POISON;
                self.registers[10] -= REAL_FRAME_BYTES;
                return Some(target);
            }
            Instruction::Exit => {
                let (back, saved) = self.frames.pop()?;
                self.registers[6..10].copy_from_slice(&saved);
                self.registers[1..6].fill(POISON);
                self.registers[10] += REAL_FRAME_BYTES;
                return Some(back);
            }
            other => panic!("{other:?} is not generated"),
        }
        Some(at + 1)
    }
}

/// One random function. Targets of jumps are relative to it, targets of calls are numbers of functions. r6, r8 and r9 hold numbers, r7 a pointer
/// to eight bytes of stack; pointers never become numbers, for they differ between both runs.
struct Writer<'a> {
    random: &'a mut Rng,
    out: Vec<Instruction>,
    callees: &'a [u32],
    calls_left: usize,
    slots: i32,
}

impl Writer<'_> {
    fn function(random: &mut Rng, is_first: bool, callees: &[u32]) -> Vec<Instruction> {
        let slots = random.i32(3..40);
        let mut writer = Writer { random, out: Vec::new(), callees, calls_left: 3, slots };
        if is_first {
            writer.out.extend([set(6, 77), set(7, Register::R10), alu(AluOperation::Add, 7, -16)]);
        } else {
            writer.out.extend([set(6, Register::R1), set(7, Register::R2)]);
        }
        let (eight, nine) = (writer.random.i32(..), writer.random.i32(..));
        writer.out.extend([set(8, eight), set(9, nine)]);
        for slot in 1..=slots {
            let number = writer.random.i32(..);
            writer.out.push(store(10, -8 * slot, number));
        }
        for _ in 0..writer.random.usize(2..10) {
            writer.piece(true);
        }
        writer.out.extend([set(0, r(6)), alu(AluOperation::Xor, 0, r(8)), alu(AluOperation::Add, 0, r(9)), Instruction::Exit]);
        writer.out
    }

    fn number(&mut self) -> u8 {
        [6, 8, 9][self.random.usize(..3)]
    }

    fn slot(&mut self) -> i32 {
        -8 * self.random.i32(2..=self.slots)
    }

    fn piece(&mut self, may_loop: bool) {
        let (a, b, slot) = (self.number(), self.number(), self.slot());
        match self.random.u32(..10) {
            0 => {
                use AluOperation::{Add, Multiply, Subtract, Xor};
                let operation = [Add, Multiply, Subtract, Xor][self.random.usize(..4)];
                self.out.push(alu(operation, a, r(b)));
            }
            1 => self.out.push(load(a, 10, slot)),
            2 => self.out.push(store(10, slot, r(a))),
            3 => self.out.extend([load(a, 7, 0), alu(AluOperation::Add, a, 3)]),
            4 => self.out.push(store(7, 0, r(a))),
            5 => self.out.extend([set(3, slot), alu(AluOperation::Add, 3, Register::R10), load(a, 3, 0)]),
            6 => {
                self.out.extend([set(3, Register::R10), alu(AluOperation::Subtract, 3, -slot), store(3, 0, r(a))]);
            }
            7 => self.branch(may_loop),
            8 if may_loop => self.repeat(),
            _ => self.call(),
        }
    }

    /// `if (a & bit) { piece }`, or an early exit.
    fn branch(&mut self, may_loop: bool) {
        let (a, bit, at) = (self.number(), 1 << self.random.u32(..8), self.out.len());
        self.out.push(Instruction::Exit);
        if self.random.u32(..3) == 0 {
            self.out.extend([set(0, r(a)), Instruction::Exit]);
        } else {
            self.piece(may_loop);
        }
        self.out[at] = jump_if(Condition::AnySet, a, bit, self.out.len() as u32);
    }

    /// A loop of three rounds; its counter is the slot that nothing else uses.
    fn repeat(&mut self) {
        self.out.push(store(10, -8, 3));
        let head = self.out.len() as u32;
        self.piece(false);
        self.out.extend([
            load(3, 10, -8),
            alu(AluOperation::Subtract, 3, 1),
            store(10, -8, r(3)),
            jump_if(Condition::NotEqual, 3, 0, head),
        ]);
    }

    fn call(&mut self) {
        if self.callees.is_empty() || self.calls_left == 0 {
            return;
        }
        self.calls_left -= 1;
        let (a, b, slot) = (self.number(), self.number(), self.slot());
        self.out.push(set(1, r(a)));
        if self.random.bool() {
            self.out.extend([set(2, Register::R10), alu(AluOperation::Add, 2, slot)]);
        } else {
            self.out.push(set(2, r(7)));
        }
        let callee = self.callees[self.random.usize(..self.callees.len())];
        self.out.extend([call(callee), alu(AluOperation::Xor, b, r(0))]);
    }
}

/// A program of some functions in random order; returns the code and where it starts.
fn program(random: &mut Rng) -> (CallableCode, u32) {
    let count = random.u32(1..7);
    let mut functions: Vec<(u32, Vec<Instruction>)> = (0..count)
        .map(|number| {
            let callees: Vec<u32> = (number + 1..count).collect();
            (number, Writer::function(random, number == 0, &callees))
        })
        .collect();
    random.shuffle(&mut functions);
    let mut starts = vec![0; count as usize];
    let mut next = 0;
    for (number, body) in &functions {
        starts[*number as usize] = next;
        next += body.len() as u32;
    }
    let mut code = CallableCode::default();
    for (number, body) in functions {
        let start = starts[number as usize];
        code.functions.push(FunctionSpan { name: format!("f{number}"), start, end: start + body.len() as u32 });
        code.instructions.extend(body.into_iter().map(|mut instruction| {
            match &mut instruction {
                Instruction::Jump { target } | Instruction::JumpIf { target, .. } => *target += start,
                Instruction::CallLocal { target } => *target = starts[*target as usize],
                _ => {}
            }
            instruction
        }));
    }
    // Programs without an ELF have no list of functions.
    if random.bool() {
        code.functions.clear();
    }
    (code, starts[0])
}

/// What a flat program computes is what real calls compute, for programs whose frames fit the stack.
#[test]
fn a_flat_program_computes_what_calls_compute() {
    let (mut compared, mut inlined) = (0, 0);
    for seed in 0..3000 {
        let mut random = Rng::with_seed(seed);
        let (code, start) = program(&mut random);
        let flat = flatten(&code, start, "first", ENTRY).unwrap_or_else(|findings| panic!("seed {seed}: {findings:?}"));
        let instructions = &flat.function.instructions;
        assert!(!instructions.iter().any(|instruction| matches!(instruction, Instruction::CallLocal { .. })), "seed {seed}");
        assert_eq!(flat.origins.len(), instructions.len(), "seed {seed}");
        let expected = Stepper::run(&code.instructions, start, REAL_FRAME_BYTES as usize * CALL_DEPTH_MAX);
        let found = Stepper::run(instructions, 0, STACK_BYTES);
        assert_eq!(found, expected, "seed {seed}");
        compared += 1;
        inlined += usize::from(
            instructions
                .iter()
                .any(|instruction| matches!(instruction, Instruction::Alu { destination, .. } if destination.0 > 10)),
        );
    }
    println!("{compared} programs, {inlined} of them with inlined calls");
    assert!(inlined > compared / 3, "only {inlined} of {compared} programs called anything");
}

/// A callee uses registers and stack of its own; its exit goes on behind the call.
#[test]
fn a_call_becomes_the_callee() {
    let code = CallableCode {
        instructions: vec![
            // f: an early exit, an access to its frame
            set(6, r(1)),
            jump_if(Condition::NotEqual, 6, 0, 4),
            set(0, 1),
            Instruction::Exit,
            store(10, -8, r(6)),
            set(2, Register::R10),
            load(0, 10, -8),
            Instruction::Exit,
            // first
            store(10, -100, 5),
            set(6, 3),
            set(1, r(6)),
            call(0),
            alu(AluOperation::Add, 0, r(6)),
            Instruction::Exit,
        ],
        functions: Vec::new(),
    };
    let flat = flatten(&code, 8, "first", ENTRY).expect("it can be inlined");
    let text: Vec<String> = flat.function.instructions.iter().map(|instruction| instruction.to_string()).collect();
    // The caller's frame is 128 bytes, and there are 4096 - 128 - 64 bytes to spare between both.
    assert_eq!(
        text,
        [
            "*(u64 *)(r10 - 100) = 5",
            "r6 = 3",
            "r1 = r6",
            "r6@1 = r1",
            "if r6@1 != 0 goto 7",
            "r0 = 1",
            "goto 11",
            "*(u64 *)(r10 - 4040) = r6@1",
            "r2 = r10",
            "r2 -= 4032",
            "r0 = *(u64 *)(r10 - 4040)",
            "r0 += r6",
            "exit",
        ]
    );
    assert_eq!(flat.origins, [8, 9, 10, 0, 1, 2, 3, 4, 5, 5, 6, 12, 13]);
}

/// Code that cannot be reached is left out, and an entry that is not the lowest instruction still comes first.
#[test]
fn only_what_is_reached_remains() {
    let code = CallableCode {
        instructions: vec![set(0, 2), Instruction::Exit, set(0, 9), Instruction::Jump { target: 0 }, set(0, 4), Instruction::Exit],
        functions: Vec::new(),
    };
    let flat = flatten(&code, 2, "first", ENTRY).expect("it can be inlined");
    let text: Vec<String> = flat.function.instructions.iter().map(|instruction| instruction.to_string()).collect();
    assert_eq!(text, ["goto 3", "r0 = 2", "exit", "r0 = 9", "goto 1"]);
}

/// A chain of functions, each calling the next `calls` times before `last`.
fn chain(length: u32, calls: usize, last: Vec<Instruction>, frame: i32) -> CallableCode {
    let mut code = CallableCode::default();
    for number in 0..length {
        let start = code.instructions.len() as u32;
        let mut body = if frame == 0 { Vec::new() } else { vec![store(10, -frame, 0)] };
        let behind = start + (body.len() + calls + 1) as u32;
        body.extend(std::iter::repeat_n(call(behind), calls));
        body.push(Instruction::Exit);
        if number + 1 == length {
            body = last.clone();
        }
        code.functions.push(FunctionSpan { name: format!("f{number}"), start, end: start + body.len() as u32 });
        code.instructions.extend(body);
    }
    code
}

#[test]
fn what_cannot_be_inlined_is_refused() {
    let exit = || vec![set(0, 0), Instruction::Exit];
    let one = |instructions: Vec<Instruction>| CallableCode { instructions, functions: Vec::new() };
    let used = |instruction| chain(2, 1, vec![instruction, set(0, 0), Instruction::Exit], 8);
    let r10 = Operand::Register(Register::R10);
    let span = |name: &str, start, end| FunctionSpan { name: name.to_string(), start, end };
    let two = |instructions| CallableCode { instructions, functions: vec![span("f", 0, 2), span("g", 2, 4)] };
    let cases: Vec<(CallableCode, Code, &str)> = vec![
        (one(vec![call(0), Instruction::Exit]), Code::RECURSION, "recursion: the function at 0 calls the function at 0"),
        (two(vec![call(2), Instruction::Exit, call(0), Instruction::Exit]), Code::RECURSION, "recursion: `f` calls `g` calls `f`"),
        (chain(9, 1, exit(), 0), Code::CALL_DEPTH, "deeper than 8: `f0` calls `f1`"),
        (chain(5, 1, exit(), 1100), Code::STACK_TOTAL, "`f0` and the functions that it calls need 4608 bytes"),
        (chain(8, 8, exit(), 0), Code::FUNCTION_LENGTH, "more than 65536 instructions"),
        // Nothing is left of these calls, however many there are.
        (chain(8, 40, vec![Instruction::Exit], 0), Code::FUNCTION_LENGTH, "more than 65536 instructions"),
        (one(vec![set(0, 0)]), Code::FALLS_OFF_END, "runs off its end"),
        (one(vec![Instruction::Jump { target: 7 }]), Code::JUMP_TARGET, "a jump leaves the function"),
        (one(vec![call(naamc::isa::UNRESOLVED), Instruction::Exit]), Code::JUMP_TARGET, "a jump leaves the function"),
        (
            two(vec![Instruction::Jump { target: 3 }, Instruction::Exit, set(0, 0), Instruction::Exit]),
            Code::JUMP_TARGET,
            "leaves `f`",
        ),
        (two(vec![set(0, 0), set(0, 0), set(0, 0), Instruction::Exit]), Code::FALLS_OFF_END, "`f` runs off its end"),
        (two(vec![call(3), Instruction::Exit, set(0, 0), Instruction::Exit]), Code::JUMP_TARGET, "the beginning of a function"),
        (used(store(1, 0, Register::R10)), Code::STACK_POINTER, "computes with r10"),
        (used(alu(AluOperation::Multiply, 1, Register::R10)), Code::STACK_POINTER, "computes with r10"),
        (
            used(Instruction::JumpIf { width: Width::W64, condition: Condition::Less, left: r(1), right: r10, target: 4 }),
            Code::STACK_POINTER,
            "computes with r10",
        ),
    ];
    for (code, expected, message) in cases {
        let findings = flatten(&code, 0, "first", ENTRY).expect_err(message);
        assert!(
            findings.iter().any(|finding| finding.code == expected && finding.message.contains(message)),
            "{findings:?} lack {message}"
        );
    }
    // One less of each is fine.
    for code in [chain(8, 1, exit(), 0), chain(5, 1, exit(), 1000), chain(4, 8, exit(), 0)] {
        let flat = flatten(&code, 0, "first", ENTRY).expect("within the limits");
        assert!(flat.function.instructions.len() <= INSTRUCTIONS_MAX);
    }
}
