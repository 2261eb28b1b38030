//! The machine on code that nobody verified: what verified code can reach must be right, and nothing may panic.

use super::*;
use crate::abi::address::{BODY_START, READ_ONLY_START, REGION_START, STACK_END};
use crate::abi::{EFAULT, EINVAL, REGISTERS_MAX, STACK_BYTES};
use crate::isa::{AluOperation, AtomicOperation, ByteOrder, Condition, Operand, Register, Size, Symbol, Width};
use crate::memory::RegionMemory;
use fastrand::Rng;

const BODY_BYTES: usize = 64;
const READ_ONLY: &[u8] = b"read-only data";

/// A program without proof. Every UDMA call is a suspension point, every jump and every call takes fuel.
fn unproved(instructions: &[Instruction]) -> Interpreter {
    let is_udma = |instruction: &Instruction| match instruction {
        Instruction::CallHelper { number } => Helper::from_number(*number).is_some_and(Helper::is_udma),
        _ => false,
    };
    let points: Vec<u32> = (0..instructions.len() as u32).filter(|at| is_udma(&instructions[*at as usize])).collect();
    let step = |(at, instruction): (usize, &Instruction)| Step {
        instruction: *instruction,
        following_metered: matches!(instruction, Instruction::CallHelper { .. }),
        target_metered: true,
        point: points.iter().position(|point| *point as usize == at).map_or(NO_POINT, |point| point as u32),
    };
    Interpreter {
        steps: instructions.iter().enumerate().map(step).collect(),
        zeroed: [ByteRange { start: 4000, end: 4096 }].into(),
        body_bytes: BODY_BYTES,
        second_argument: Some(BODY_BYTES as u64),
        read_only: READ_ONLY.into(),
        points: points.into(),
    }
}

/// One region, with a chosen answer for every operation that is not executed.
struct Surroundings {
    region: RegionMemory,
    answers: Vec<Issued>,
    executor: Result<u32, Failure>,
}

impl Surroundings {
    fn new() -> Surroundings {
        let bytes = (0..128).collect();
        Surroundings { region: RegionMemory::new(bytes), answers: Vec::new(), executor: Ok(7) }
    }
}

impl Environment for Surroundings {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        match self.answers.pop() {
            Some(answer) => answer,
            None => Issued::Done(self.region.execute(operation)),
        }
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.region.length_bytes() + u64::from(region)
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        self.executor
    }
}

fn fresh() -> Box<Activation> {
    let mut activation = Activation::new_boxed();
    activation.memory.fill(0xaa);
    let body: Vec<u8> = (0..BODY_BYTES as u8).collect();
    activation.begin(&body, 100, 10);
    activation
}

fn set(destination: u8, value: u64) -> Instruction {
    Instruction::LoadImmediate { destination: Register(destination), value }
}

/// A call with these arguments.
fn call(helper: Helper, arguments: &[u64]) -> Vec<Instruction> {
    let mut list: Vec<_> = arguments.iter().zip(1..).map(|(value, register)| set(register, *value)).collect();
    list.push(Instruction::CallHelper { number: helper as i32 });
    list
}

/// Runs one call and returns how it ended and what the activation then is.
fn after(helper: Helper, arguments: &[u64]) -> (Outcome, Box<Activation>) {
    let mut activation = fresh();
    let mut program = call(helper, arguments);
    program.push(Instruction::Exit);
    let outcome = unproved(&program).run(&mut activation, &mut Surroundings::new());
    (outcome, activation)
}

const FAULT: Outcome = Outcome::Failed(Failure::EngineFault);

#[test]
fn local_helpers_do_what_the_header_says() {
    let (outcome, activation) = after(Helper::Copy, &[BODY_START + 4, BODY_START, 0xffff_ffff_0000_0008]);
    assert_eq!(outcome, Outcome::Finished(0), "a u32 length is the low half of its register");
    assert_eq!(activation.body()[..14], [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 12, 13], "copies may overlap upwards");
    let (_, activation) = after(Helper::Copy, &[BODY_START, BODY_START + 4, 8]);
    assert_eq!(activation.body()[..10], [4, 5, 6, 7, 8, 9, 10, 11, 8, 9], "copies may overlap downwards");
    let (_, activation) = after(Helper::Copy, &[STACK_END - 4, READ_ONLY_START, 4]);
    assert_eq!(&activation.memory[STACK_BYTES - 4..STACK_BYTES], b"read");
    let (_, activation) = after(Helper::Fill, &[BODY_START + 60, 0x1_5a, 4]);
    assert_eq!(activation.body()[59..65], [59, 0x5a, 0x5a, 0x5a, 0x5a, 0xaa]);
    for (left, right, result) in [(0, 0, 0), (0, 1, -1), (1, 0, 1_i64)] {
        let (outcome, _) = after(Helper::Compare, &[BODY_START + left, BODY_START + right, 8]);
        assert_eq!(outcome, Outcome::Finished(result as u64));
    }
    assert_eq!(after(Helper::Compare, &[0, 1, 0]).0, Outcome::Finished(0), "no bytes are equal anywhere");
    let (outcome, activation) = after(Helper::Reply, &[0xf_0000_0011]);
    assert_eq!((outcome, activation.reply_bytes), (Outcome::Finished(0), 17));
    assert_eq!(after(Helper::Length, &[REGION_START + 3]).0, Outcome::Finished(131));
    assert_eq!(after(Helper::Executor, &[]).0, Outcome::Finished(7));
}

#[test]
fn what_cannot_be_is_an_engine_fault() {
    let impossible: [(Helper, &[u64]); 11] = [
        (Helper::Copy, &[BODY_START + 60, BODY_START, 5]),
        (Helper::Copy, &[READ_ONLY_START, BODY_START, 1]),
        (Helper::Copy, &[STACK_END - 4, BODY_START, 8]),
        (Helper::Fill, &[READ_ONLY_START, 0, 1]),
        (Helper::Compare, &[READ_ONLY_START, BODY_START, 15]),
        (Helper::Reply, &[65]),
        (Helper::Length, &[REGION_START + 64]),
        (Helper::Read, &[REGION_START - 1, 0, BODY_START, 8]),
        (Helper::Read, &[REGION_START, 0, READ_ONLY_START, 8]),
        (Helper::Write, &[REGION_START, 0, BODY_START + 57, 8]),
        (Helper::FetchAdd, &[REGION_START, 0, 1, BODY_START + 57]),
    ];
    for (helper, arguments) in impossible {
        assert_eq!(after(helper, arguments).0, FAULT, "{} {arguments:x?}", helper.name());
    }
    let load = |base: u64| {
        let load = Instruction::Load { size: Size::B8, signed: false, destination: Register::R0, base: Register(3), offset: 0 };
        unproved(&[set(3, base), load, Instruction::Exit]).run(&mut fresh(), &mut Surroundings::new())
    };
    assert_eq!(load(READ_ONLY_START), Outcome::Finished(u64::from_le_bytes(*b"read-onl")));
    assert_eq!(load(BODY_START + 56), Outcome::Finished(u64::from_le_bytes([56, 57, 58, 59, 60, 61, 62, 63])));
    assert_eq!(load(STACK_END - 8), Outcome::Finished(0), "the stack is zeroed where the proof says so");
    for base in [0, BODY_START + 57, STACK_END - 4, READ_ONLY_START + 7, READ_ONLY_START - 1, REGION_START, u64::MAX] {
        assert_eq!(load(base), FAULT, "{base:#x}");
    }
    let unknown = [Instruction::CallHelper { number: 11 }, Instruction::CallLocal { target: 0 }];
    for instruction in unknown {
        assert_eq!(unproved(&[instruction]).run(&mut fresh(), &mut Surroundings::new()), FAULT);
    }
    assert_eq!(unproved(&[]).run(&mut fresh(), &mut Surroundings::new()), FAULT, "no instruction");
    let mut activation = fresh();
    activation.point = 1;
    assert_eq!(unproved(&call(Helper::Executor, &[])).run(&mut activation, &mut Surroundings::new()), FAULT, "no such point");
}

#[test]
fn udma_results_and_errors_reach_the_handler() {
    let word = |activation: &Activation| u64::from_le_bytes(activation.body()[..8].try_into().unwrap());
    let (outcome, activation) = after(Helper::Read, &[REGION_START, 100, BODY_START, 28]);
    assert_eq!((outcome, &activation.body()[26..29]), (Outcome::Finished(0), &[126, 127, 28][..]));
    assert_eq!((activation.udma_operations, activation.udma_operations_left), (1, 9));
    let (outcome, activation) = after(Helper::Read, &[REGION_START, 101, BODY_START, 28]);
    assert_eq!(outcome, Outcome::Finished(-EFAULT as u64));
    assert_eq!(activation.body()[..30], [&[0; 28][..], &[28, 29]].concat(), "after an error the destination reads as zeros");
    let (outcome, activation) = after(Helper::FetchAdd, &[REGION_START, 8, 1, BODY_START]);
    assert_eq!((outcome, word(&activation)), (Outcome::Finished(0), 0x0f0e_0d0c_0b0a_0908));
    let (outcome, activation) = after(Helper::CompareSwap, &[REGION_START, 4, 0, 1, BODY_START]);
    assert_eq!((outcome, word(&activation)), (Outcome::Finished(-EINVAL as u64), 0));
    let (outcome, _) = after(Helper::Write, &[REGION_START, 128, READ_ONLY_START, 0]);
    assert_eq!(outcome, Outcome::Finished(0), "a write of nothing succeeds at the end");
}

/// Proves that suspending before a call, resuming after its completion by somebody else, and executing it at once are the same.
#[test]
fn suspension_changes_nothing() {
    let mut program = call(Helper::Read, &[REGION_START, 100, BODY_START, 8]);
    program.extend(call(Helper::FetchAdd, &[REGION_START, 8, 1, BODY_START + 8]));
    program.push(Instruction::Exit);
    let program = unproved(&program);
    let mut at_once = fresh();
    assert_eq!(program.run(&mut at_once, &mut Surroundings::new()), Outcome::Finished(0));

    let mut suspended = fresh();
    let mut surroundings = Surroundings::new();
    surroundings.answers = vec![Issued::Suspend];
    assert_eq!(program.run(&mut suspended, &mut surroundings), Outcome::Suspended);
    assert_eq!((suspended.point, suspended.udma_operations, suspended.udma_operations_left), (0, 0, 10));
    surroundings.answers = vec![Issued::Suspend];
    assert_eq!(program.run(&mut suspended, &mut surroundings), Outcome::Suspended, "resumed at the call, which is put off again");
    let read = Udma::Read { region: 0, offset: 100, destination: &mut suspended.memory[STACK_BYTES..STACK_BYTES + 8] };
    suspended.completion = surroundings.region.execute(read);
    suspended.completed = 1;
    surroundings.answers = vec![Issued::Suspend];
    assert_eq!(program.run(&mut suspended, &mut surroundings), Outcome::Suspended);
    assert_eq!((suspended.point, suspended.completed, suspended.udma_operations), (1, 0, 1));
    assert_eq!(program.run(&mut suspended, &mut surroundings), Outcome::Finished(0));
    assert_eq!(suspended.memory, at_once.memory);
    assert_eq!(suspended.udma_operations_left, at_once.udma_operations_left);
    assert_eq!(suspended.back_edges_left, at_once.back_edges_left);
}

#[test]
fn fuel_ends_a_message_before_what_it_does_not_pay_for() {
    let program = unproved(&[Instruction::Jump { target: 0 }]);
    let mut activation = fresh();
    assert_eq!(program.run(&mut activation, &mut Surroundings::new()), Outcome::Failed(Failure::BackEdgesExhausted));
    assert_eq!(activation.back_edges_left, 0);

    let mut program = call(Helper::FetchAdd, &[REGION_START, 0, 1, BODY_START]);
    program.push(Instruction::Jump { target: 0 });
    let (mut activation, mut surroundings) = (fresh(), Surroundings::new());
    let start = u64::from_le_bytes(surroundings.region.bytes()[..8].try_into().unwrap());
    let outcome = unproved(&program).run(&mut activation, &mut surroundings);
    assert_eq!(outcome, Outcome::Failed(Failure::UdmaOperationsExhausted));
    let end = u64::from_le_bytes(surroundings.region.bytes()[..8].try_into().unwrap());
    assert_eq!((end - start, activation.udma_operations), (10, 10));
}

#[test]
fn failures_of_the_surroundings_end_the_message() {
    let mut surroundings = Surroundings::new();
    surroundings.answers = vec![Issued::Failed(Failure::RegionUnreachable)];
    surroundings.executor = Err(Failure::NotOwner);
    let outcome = unproved(&call(Helper::Write, &[REGION_START, 0, BODY_START, 8])).run(&mut fresh(), &mut surroundings);
    assert_eq!(outcome, Outcome::Failed(Failure::RegionUnreachable));
    let outcome = unproved(&call(Helper::Executor, &[])).run(&mut fresh(), &mut surroundings);
    assert_eq!(outcome, Outcome::Failed(Failure::NotOwner));
}

/// Proves that code which no verifier has seen, with registers, targets and numbers out of all bounds, ends without a panic.
#[test]
fn no_code_makes_the_interpreter_panic() {
    let mut random = Rng::with_seed(0x1e7);
    let (mut finished, mut faults) = (0, 0);
    for _ in 0..20_000 {
        let length = random.usize(1..24);
        let program: Vec<_> = (0..length).map(|_| arbitrary(&mut random, length as u32)).collect();
        let mut activation = fresh();
        activation.registers = std::array::from_fn(|_| pointer_or_number(&mut random));
        activation.point = if random.bool() { crate::activation::POINT_START } else { random.u32(0..3) };
        activation.completed = random.u32(0..2);
        match unproved(&program).run(&mut activation, &mut Surroundings::new()) {
            Outcome::Finished(_) => finished += 1,
            Outcome::Failed(Failure::EngineFault) => faults += 1,
            _ => {}
        }
    }
    println!("20000 programs: {finished} finished, {faults} engine faults");
    assert!(finished > 500 && faults > 500, "the programs are all alike");
}

fn pointer_or_number(random: &mut Rng) -> u64 {
    let near = random.u64(0..80).wrapping_sub(random.u64(0..8));
    match random.u8(0..6) {
        0 => STACK_END.wrapping_sub(near),
        1 => BODY_START.wrapping_add(near),
        2 => READ_ONLY_START.wrapping_add(near),
        3 => REGION_START.wrapping_add(near),
        4 => near,
        _ => random.u64(..) >> random.u8(0..64),
    }
}

fn arbitrary(random: &mut Rng, length: u32) -> Instruction {
    use AluOperation as A;
    use AtomicOperation as M;
    let register = |random: &mut Rng| match random.u8(0..30) {
        0 => Register(random.u8(..)),
        1 => Register(REGISTERS_MAX as u8 - 1),
        n => Register(n % 11),
    };
    let (destination, source) = (register(random), register(random));
    let operand = if random.bool() { Operand::Register(source) } else { Operand::Immediate(random.i32(..) >> random.u8(0..32)) };
    let width = if random.bool() { Width::W32 } else { Width::W64 };
    let size = [Size::B1, Size::B2, Size::B4, Size::B8][random.usize(0..4)];
    let (base, offset) = (register(random), random.i32(-64..64));
    let target = random.u32(0..length + 1);
    let bits = if random.u8(0..10) == 0 { random.u8(..) } else { 8 << random.u8(0..4) };
    match random.u8(0..14) {
        0 | 1 => {
            let operation =
                [A::Add, A::Divide, A::SignedDivide, A::Modulo, A::SignedModulo, A::ShiftLeft, A::ShiftRightSigned, A::Move]
                    [random.usize(0..8)];
            Instruction::Alu { width, operation, destination, source: operand }
        }
        2 => Instruction::MoveSignExtend { width, bits, destination, source },
        3 => Instruction::Negate { width, destination },
        4 => {
            let order = [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap][random.usize(0..3)];
            Instruction::ByteOrder { order, bits, destination }
        }
        5 => Instruction::LoadImmediate { destination, value: pointer_or_number(random) },
        6 => {
            let symbol = if random.bool() { Symbol::Region(random.u16(..)) } else { Symbol::ReadOnly(random.u32(..)) };
            Instruction::LoadAddress { destination, symbol }
        }
        7 => Instruction::Load { size, signed: random.bool(), destination, base, offset },
        8 => Instruction::Store { size, base, offset, source: operand },
        9 => {
            let operation = [M::Add, M::Exchange, M::CompareExchange][random.usize(0..3)];
            Instruction::Atomic { operation, size, fetch: random.bool(), base, offset, source }
        }
        10 => Instruction::Jump { target },
        11 => {
            let condition = if random.bool() { Condition::SignedLess } else { Condition::AnySet };
            Instruction::JumpIf { width, condition, left: destination, right: operand, target }
        }
        12 => Instruction::CallHelper { number: random.i32(0..12) },
        _ => Instruction::Exit,
    }
}
