//! An outside opinion: random programs, verified here, give the same result and memory on solana_rbpf's interpreter.
//!
//! That machine has no 32-bit jumps, no signed division and no atomics, stops at a division by zero, and sign-extends some 32-bit results: programs
//! avoid the first four, and truncate every 32-bit result themselves.

use fastrand::Rng;
use naamc::activation::Activation;
use naamc::exec::{self, Nothing};
use naamc::interpreter::{Interpreter, Outcome};
use naamc::isa::{AluOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Width, encode};
use solana_rbpf::aligned_memory::AlignedMemory;
use solana_rbpf::ebpf::{HOST_ALIGN, MM_HEAP_START, MM_INPUT_START, MM_STACK_START};
use solana_rbpf::elf::Executable;
use solana_rbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_rbpf::program::{BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_rbpf::vm::{EbpfVm, TestContextObject};
use std::sync::Arc;

const MEMORY_BYTES: usize = 64;
/// Stack bytes that programs use.
const STACK_BYTES: i32 = 64;
const PROGRAMS: usize = 1_000;
/// Holds the memory's address.
const MEMORY: Register = Register(6);
/// Counts the rounds of the loop around everything.
const ROUNDS: Register = Register(8);
/// Registers that hold random numbers.
const NUMBERS: [Register; 7] = [Register::R0, Register::R1, Register::R2, Register::R3, Register::R4, Register(7), Register(9)];

/// Proves that the interpreter agrees with a machine that others wrote, on programs with loops, branches, stack and memory.
#[test]
fn random_programs_give_the_same_result_elsewhere() {
    let mut random = Rng::with_seed(0x501a);
    for number in 0..PROGRAMS {
        let program = random_program(&mut random);
        let code = encode(&program).expect("only what has an encoding is generated");
        let memory: Vec<u8> = (0..MEMORY_BYTES).map(|_| random.u8(..)).collect();
        let listing = || program.iter().map(|instruction| format!("{instruction}\n")).collect::<String>();
        let here = here(&code, &memory).unwrap_or_else(|error| panic!("program {number}: {error}\n{}", listing()));
        let elsewhere = elsewhere(&code, &memory);
        assert_eq!(here, elsewhere, "program {number}\n{}", listing());
    }
    println!("{PROGRAMS} random programs agree");
}

/// r0 and the memory at the end.
fn here(code: &[u8], memory: &[u8]) -> Result<(u64, Vec<u8>), String> {
    let proof = exec::prove(code, memory.len() as u32).map_err(|findings| format!("{findings:?}"))?;
    let mut activation = Activation::new_boxed();
    activation.begin(memory, 1000, 0);
    match Interpreter::new(&proof, Arc::new([])).run(&mut activation, &mut Nothing) {
        Outcome::Finished(result) => Ok((result, activation.body()[..memory.len()].to_vec())),
        other => Err(format!("{other:?}")),
    }
}

/// The same on the other machine.
fn elsewhere(code: &[u8], memory: &[u8]) -> (u64, Vec<u8>) {
    let mut memory = memory.to_vec();
    let loader = Arc::new(BuiltinProgram::new_mock());
    let executable =
        Executable::<TestContextObject>::new_from_text_bytes(code, loader.clone(), SBPFVersion::V1, FunctionRegistry::default())
            .expect("the other machine takes the code");
    let mut context = TestContextObject::new(1_000_000);
    let config = executable.get_config();
    let mut stack = AlignedMemory::<HOST_ALIGN>::zero_filled(config.stack_size());
    let stack_bytes = stack.len();
    // Regions lie 4 GiB apart, and none may be left out.
    let regions = vec![
        executable.get_ro_region(),
        MemoryRegion::new_writable_gapped(stack.as_slice_mut(), MM_STACK_START, config.stack_frame_size as u64),
        MemoryRegion::new_readonly(&[], MM_HEAP_START),
        MemoryRegion::new_writable(&mut memory, MM_INPUT_START),
    ];
    let mapping = MemoryMapping::new(regions, config, executable.get_sbpf_version()).expect("the regions are apart");
    let mut machine = EbpfVm::new(loader, executable.get_sbpf_version(), &mut context, mapping, stack_bytes);
    let (_, result) = machine.execute_program(&executable, true);
    let result: Result<u64, _> = result.into();
    let result = result.expect("the program ends on the other machine");
    drop(machine);
    (result, memory)
}

fn random_program(random: &mut Rng) -> Vec<Instruction> {
    let mut program = vec![alu(Width::W64, AluOperation::Move, MEMORY, Operand::Register(Register::R1))];
    for register in NUMBERS {
        program.push(Instruction::LoadImmediate { destination: register, value: number(random) });
    }
    for at in 0..STACK_BYTES / 8 {
        let source = Operand::Register(NUMBERS[random.usize(0..NUMBERS.len())]);
        program.push(Instruction::Store { size: Size::B8, base: Register::R10, offset: -8 * (at + 1), source });
    }
    program.push(alu(Width::W64, AluOperation::Move, ROUNDS, Operand::Immediate(random.i32(1..8))));

    // Jumps go forward to the beginning of a step, or behind the last one.
    let steps: Vec<Vec<Instruction>> = (0..random.usize(4..24)).map(|_| step(random)).collect();
    let head = program.len() as u32;
    let mut starts = vec![head];
    for step in &steps {
        starts.push(starts.last().expect("it begins with the head") + step.len() as u32);
    }
    for (index, mut step) in steps.into_iter().enumerate() {
        for instruction in &mut step {
            if let Instruction::JumpIf { target, .. } = instruction {
                *target = starts[random.usize(index + 1..starts.len())];
            }
        }
        program.extend(step);
    }
    program.push(alu(Width::W64, AluOperation::Subtract, ROUNDS, Operand::Immediate(1)));
    program.push(Instruction::JumpIf {
        width: Width::W64,
        condition: Condition::NotEqual,
        left: ROUNDS,
        right: Operand::Immediate(0),
        target: head,
    });
    // Everything takes part in the result.
    for register in NUMBERS {
        program.push(alu(Width::W64, AluOperation::Multiply, Register::R0, Operand::Immediate(0x01000193)));
        program.push(alu(Width::W64, AluOperation::Xor, Register::R0, Operand::Register(register)));
    }
    for at in 0..STACK_BYTES / 8 {
        program.push(Instruction::Load {
            size: Size::B8,
            signed: false,
            destination: Register::R1,
            base: Register::R10,
            offset: -8 * (at + 1),
        });
        program.push(alu(Width::W64, AluOperation::Multiply, Register::R0, Operand::Immediate(0x01000193)));
        program.push(alu(Width::W64, AluOperation::Xor, Register::R0, Operand::Register(Register::R1)));
    }
    program.push(Instruction::Exit);
    program
}

fn alu(width: Width, operation: AluOperation, destination: Register, source: Operand) -> Instruction {
    Instruction::Alu { width, operation, destination, source }
}

fn number(random: &mut Rng) -> u64 {
    match random.u8(0..4) {
        0 => random.u64(0..100),
        1 => (random.u64(0..100)).wrapping_neg(),
        2 => 1 << random.u8(0..64),
        _ => random.u64(..),
    }
}

/// One thing to do: an operation, a load, a store, or a jump whose target is filled in later.
fn step(random: &mut Rng) -> Vec<Instruction> {
    let destination = NUMBERS[random.usize(0..NUMBERS.len())];
    let source = NUMBERS[random.usize(0..NUMBERS.len())];
    let sizes = [Size::B1, Size::B2, Size::B4, Size::B8];
    let size = sizes[random.usize(0..4)];
    let (base, offset) = match random.bool() {
        true => (MEMORY, random.i32(0..=MEMORY_BYTES as i32 - size.bytes() as i32)),
        false => (Register::R10, -random.i32(size.bytes() as i32..=STACK_BYTES)),
    };
    match random.u8(0..10) {
        0..=4 => operation(random, destination, source),
        5 => vec![Instruction::Load { size, signed: false, destination, base, offset }],
        6 => {
            let source = if random.bool() { Operand::Register(source) } else { Operand::Immediate(random.i32(..)) };
            vec![Instruction::Store { size, base, offset, source }]
        }
        7 => {
            let order = if random.bool() { ByteOrder::Big } else { ByteOrder::Little };
            vec![Instruction::ByteOrder { order, bits: [16, 32, 64][random.usize(0..3)], destination }]
        }
        _ => {
            use Condition::{
                AnySet, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual, SignedGreater, SignedGreaterOrEqual,
                SignedLess, SignedLessOrEqual,
            };
            let conditions = [
                AnySet,
                Equal,
                Greater,
                GreaterOrEqual,
                Less,
                LessOrEqual,
                NotEqual,
                SignedGreater,
                SignedGreaterOrEqual,
                SignedLess,
                SignedLessOrEqual,
            ];
            let right = if random.bool() { Operand::Register(source) } else { Operand::Immediate(number(random) as i32) };
            let condition = conditions[random.usize(0..conditions.len())];
            vec![Instruction::JumpIf { width: Width::W64, condition, left: destination, right, target: 0 }]
        }
    }
}

/// Arithmetic, with what the other machine needs around it.
fn operation(random: &mut Rng, destination: Register, source: Register) -> Vec<Instruction> {
    use AluOperation::{Add, And, Divide, Modulo, Move, Multiply, Or, ShiftLeft, ShiftRight, ShiftRightSigned, Subtract, Xor};
    let operations = [Add, And, Divide, Modulo, Move, Multiply, Or, ShiftLeft, ShiftRight, ShiftRightSigned, Subtract, Xor];
    let operation = operations[random.usize(0..operations.len())];
    let width = if random.bool() { Width::W32 } else { Width::W64 };
    let mut list = Vec::new();
    if random.u8(0..16) == 0 {
        list.push(Instruction::Negate { width, destination });
    } else if random.bool() {
        if matches!(operation, Divide | Modulo) {
            list.push(alu(Width::W64, Or, source, Operand::Immediate(1)));
        }
        list.push(alu(width, operation, destination, Operand::Register(source)));
    } else {
        let immediate = match operation {
            ShiftLeft | ShiftRight | ShiftRightSigned => random.i32(0..32),
            _ => (number(random) as i32) | i32::from(matches!(operation, Divide | Modulo)),
        };
        list.push(alu(width, operation, destination, Operand::Immediate(immediate)));
    }
    if width == Width::W32 {
        list.push(alu(Width::W64, ShiftLeft, destination, Operand::Immediate(32)));
        list.push(alu(Width::W64, ShiftRight, destination, Operand::Immediate(32)));
    }
    list
}
