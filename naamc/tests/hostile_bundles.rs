//! Bundles that no honest program wrote: a clear error with a stable code, or a bundle that does no harm. Never a panic.

use naamc::abi::INSTRUCTIONS_MAX;
use naamc::activation::Activation;
use naamc::bundle::{Bundle, CheckedBundle, DEBUG_LINES_MAX, DEBUG_TEXT_BYTES_MAX, Debug, DebugLine, FILE_BYTES_MAX};
use naamc::diagnostic::{CODES, Code, Finding};
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use naamc::isa::{Instruction, Operand, Register};
use naamc::memory::RegionMemory;
use naamc::verifier::contract::{ByteRange, Cell, Contract};
use naamc::verifier::value::{Pointer, Scalar, Value};
use std::collections::BTreeMap;

const SEED: u64 = 0x6e61_616d_0003;
const MUTANTS: usize = 10_000;

fn bundles() -> Vec<Bundle> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers");
    let build = |name: &str| {
        let elf = std::fs::read(format!("{folder}/{name}.o")).expect("a prebuilt ELF can be read");
        naamc::build(&elf).unwrap_or_else(|findings| panic!("{name}: {findings:#?}")).bundle().clone()
    };
    ["counter", "chase", "pointers", "bytes"].map(build).into()
}

fn assert_known(finding: &Finding) {
    assert!(CODES.iter().any(|entry| entry.code == finding.code), "{finding} has no stable code");
    assert!(!finding.message.is_empty());
}

#[test]
fn a_bundle_survives_the_file_and_proves_again() {
    for bundle in bundles() {
        let bytes = bundle.to_bytes();
        let parsed = Bundle::parse(&bytes).expect("what was written can be read");
        assert_eq!(parsed, bundle);
        let checked = parsed.check().expect("what was proved is proved again");
        assert_eq!(checked.id(), bundle.id());
    }
}

#[test]
fn a_bundle_changed_after_it_was_built_is_refused() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let files: Vec<Vec<u8>> = bundles().iter().map(Bundle::to_bytes).collect();
    for _ in 0..MUTANTS {
        let mut file = random.choice(&files).expect("there are files").clone();
        match random.u8(..4) {
            0 => file.truncate(random.usize(..file.len())),
            1 => file.extend_from_slice(&[0; 3]),
            _ => {
                let at = random.usize(..file.len());
                file[at] ^= 1 << random.u8(..8);
            }
        }
        assert_known(&Bundle::parse(&file).expect_err("its checksum or length does not match"));
    }
}

/// Bytes of the meaning are changed, and id and checksum computed anew: what the decoder itself must withstand.
#[test]
fn malformed_parts_are_refused_even_with_a_right_checksum() {
    let mut random = fastrand::Rng::with_seed(SEED + 1);
    let files: Vec<Vec<u8>> = bundles().iter().map(Bundle::to_bytes).collect();
    let mut parsed = 0;
    for _ in 0..MUTANTS {
        let mut file = random.choice(&files).expect("there are files").clone();
        let meaning = u32::from_le_bytes(file[8..12].try_into().expect("four bytes")) as usize;
        for _ in 0..random.usize(1..4) {
            let at = 48 + random.usize(..meaning);
            file[at] = if random.bool() { file[at] ^ 1 << random.u8(..8) } else { random.u8(..) };
        }
        seal(&mut file, meaning);
        match Bundle::parse(&file) {
            Ok(bundle) => {
                parsed += 1;
                judge(bundle, &mut random);
            }
            Err(finding) => assert_known(&finding),
        }
    }
    println!("{parsed} of {MUTANTS} changed files had the right shape");
}

/// Contracts may promise more than is needed, but not more than a message can carry.
#[test]
fn a_continuation_that_fits_no_message_is_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/verifier/accept/continuation_too_long.o");
    let built = naamc::build(&std::fs::read(path).expect("a prebuilt ELF can be read")).expect("its twin fits");
    let all_of_the_stack = |bytes| {
        let mut bundle = built.bundle().clone();
        bundle.meaning.handlers[0].contracts.suspensions[0].live_stack = vec![ByteRange { start: 0, end: bytes }];
        bundle.check().expect_err("the manifest is another").iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(all_of_the_stack(8), [Code::BUNDLE_MANIFEST], "which would follow from the contract");
    assert_eq!(all_of_the_stack(4096), [Code::CONTINUATION_TOO_LONG]);
}

/// The debug part is outside what is proved, and yet no larger than handlers make it: 8 million empty lists would take 200 MB.
#[test]
fn a_debug_part_that_is_too_large_is_refused() {
    let original = bundles().remove(0);
    let line = |text: usize| DebugLine { file: "a.c".into(), line: 1, column: 1, text: "x".repeat(text) };
    let refused = |change: &dyn Fn(&mut Debug)| {
        let mut bundle = original.clone();
        change(&mut bundle.debug);
        let file = bundle.to_bytes();
        assert!(file.len() <= FILE_BYTES_MAX, "the file itself is not too large");
        let parsed = Bundle::parse(&file).map(|_| ()).map_err(|finding| finding.code);
        let checked = bundle.check().map(|_| ()).map_err(|findings| findings[0].code);
        assert_eq!(parsed, checked);
        parsed
    };
    let handlers = original.meaning.handlers.len();
    assert_eq!(refused(&|debug| debug.lines.push(line(DEBUG_TEXT_BYTES_MAX))), Ok(()));
    assert_eq!(refused(&|debug| debug.handlers = vec![vec![0; INSTRUCTIONS_MAX]; handlers]), Ok(()));
    assert_eq!(refused(&|debug| *debug = Debug::default()), Ok(()), "lines may be unknown");
    let malformed = Err(Code::BUNDLE_MALFORMED);
    assert_eq!(refused(&|debug| debug.lines.push(line(DEBUG_TEXT_BYTES_MAX + 1))), malformed);
    assert_eq!(refused(&|debug| debug.lines = vec![line(0); DEBUG_LINES_MAX + 1]), malformed);
    assert_eq!(refused(&|debug| debug.handlers = vec![Vec::new(); handlers + 1]), malformed);
    assert_eq!(refused(&|debug| debug.handlers = vec![vec![0; INSTRUCTIONS_MAX + 1]]), malformed);
    assert_eq!(refused(&|debug| debug.handlers = vec![Vec::new(); 8_380_000]), malformed);
}

fn seal(file: &mut [u8], meaning: usize) {
    let id = blake3::hash(&file[48..48 + meaning]);
    file[16..48].copy_from_slice(id.as_bytes());
    let end = file.len() - 32;
    let checksum = blake3::hash(&file[..end]);
    file[end..].copy_from_slice(checksum.as_bytes());
}

/// One thing in a well-formed bundle is another, and id and checksum computed anew.
#[test]
fn bundles_that_lie_are_refused_or_harmless() {
    let mut random = fastrand::Rng::with_seed(SEED + 2);
    let originals = bundles();
    let mut parsed = 0;
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut harmless = 0;
    for _ in 0..MUTANTS {
        let mut bundle = random.choice(&originals).expect("there are bundles").clone();
        lie(&mut bundle, &mut random);
        match Bundle::parse(&bundle.to_bytes()) {
            Ok(bundle) => {
                parsed += 1;
                match judge(bundle, &mut random) {
                    Some(code) => *refused.entry(code).or_default() += 1,
                    None => harmless += 1,
                }
            }
            Err(finding) => assert_known(&finding),
        }
    }
    println!("{parsed} of {MUTANTS} passed the parser; refused {refused:?}; harmless {harmless}");
    assert!(parsed * 10 >= MUTANTS * 3, "only {parsed} mutants passed the outer parser");
    assert!(refused.values().sum::<usize>() > MUTANTS / 10);
}

/// The code of the first finding, or that everything the bundle does is harmless.
fn judge(bundle: Bundle, random: &mut fastrand::Rng) -> Option<String> {
    match bundle.check() {
        Ok(checked) => {
            exercise(&checked, random);
            None
        }
        Err(findings) => {
            assert!(!findings.is_empty());
            findings.iter().for_each(assert_known);
            Some(findings[0].code.to_string())
        }
    }
}

/// Runs every handler on a few messages. The interpreter looks at each access.
fn exercise(checked: &CheckedBundle, random: &mut fastrand::Rng) {
    let meaning = &checked.bundle().meaning;
    for proof in checked.proofs() {
        let interpreter = Interpreter::new(proof, meaning.environment.read_only.as_slice().into());
        for _ in 0..4 {
            let body: Vec<u8> =
                (0..proof.function().entry.body_bytes).map(|_| if random.bool() { 0 } else { random.u8(..) }).collect();
            let mut activation = Activation::new_boxed();
            activation.begin(&body, 500, 50);
            let regions = meaning.environment.regions.iter().map(|_| RegionMemory::new(vec![random.u8(..8); 4096])).collect();
            let outcome = interpreter.run(&mut activation, &mut Regions(regions));
            assert_ne!(
                outcome,
                Outcome::Failed(Failure::EngineFault),
                "{} was accepted and left its memory",
                proof.function().name
            );
            assert!(activation.reply_bytes as usize <= body.len());
        }
    }
}

struct Regions(Vec<RegionMemory>);

impl Environment for Regions {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        let region = usize::from(operation.region());
        Issued::Done(self.0[region].execute(operation))
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.0[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(1)
    }
}

fn lie(bundle: &mut Bundle, random: &mut fastrand::Rng) {
    let index = random.usize(..bundle.meaning.handlers.len());
    match random.u8(..16) {
        0 => bundle.meaning.handlers[index].function.entry.body_bytes ^= 1 << random.u8(..12),
        1 => bundle.meaning.handlers[index].message = random.u32(..16),
        2 => {
            if let Some(region) = bundle.meaning.environment.regions.first_mut() {
                region.rights.0 = random.u8(..8);
                region.length_bytes_min = random.u64(..);
            }
        }
        3 => {
            bundle.meaning.environment.regions.pop();
        }
        4 => bundle.meaning.environment.read_only.truncate(random.usize(..64)),
        5 => lie_in_manifest(bundle, index, random),
        6..9 => lie_in_code(&mut bundle.meaning.handlers[index].function.instructions, random),
        _ => {
            let contracts = &mut bundle.meaning.handlers[index].contracts;
            let list = if random.bool() { &mut contracts.loops } else { &mut contracts.suspensions };
            match random.u8(..8) {
                0 => drop(list.pop()),
                1 => list.reverse(),
                2 => list.extend(list.first().cloned()),
                _ => {
                    if let Some(at) = (!list.is_empty()).then(|| random.usize(..list.len())) {
                        lie_in_contract(&mut list[at], random);
                    }
                }
            }
        }
    }
}

fn lie_in_manifest(bundle: &mut Bundle, index: usize, random: &mut fastrand::Rng) {
    let manifest = &mut bundle.meaning.handlers[index].manifest;
    match random.u8(..8) {
        0 => manifest.rights.clear(),
        1 => manifest.has_effects = !manifest.has_effects,
        2 => manifest.uses_executor = !manifest.uses_executor,
        3 => manifest.request_bytes = random.u32(..64),
        4 => manifest.reply_bytes_max = random.u32(..),
        5 => manifest.metered = !manifest.metered,
        6 => drop(manifest.operations.pop()),
        _ => manifest.continuation_bytes_max = 0,
    }
}

fn lie_in_code(code: &mut Vec<Instruction>, random: &mut fastrand::Rng) {
    if code.is_empty() {
        return;
    }
    let at = random.usize(..code.len());
    let register = Register(random.u8(..40));
    let count = code.len() as u32;
    match &mut code[at] {
        Instruction::Load { offset, .. } | Instruction::Store { offset, .. } if random.bool() => *offset = random.i32(-5000..9000),
        Instruction::Load { base, .. } | Instruction::Store { base, .. } => *base = register,
        Instruction::Jump { target } | Instruction::JumpIf { target, .. } => *target = random.u32(..count + 2),
        Instruction::CallHelper { number } => *number = random.i32(-1..14),
        Instruction::Alu { source, .. } if random.bool() => *source = Operand::Immediate(random.i32(..)),
        Instruction::Alu { destination, .. } => *destination = register,
        Instruction::LoadImmediate { value, .. } => *value = random.u64(..),
        _ => drop(code.remove(at)),
    }
}

/// A scalar wider, narrower, elsewhere, or not even consistent.
fn lie_in_scalar(scalar: &mut Scalar, random: &mut fastrand::Rng) {
    match random.u8(..9) {
        0 => *scalar = Scalar::ANY,
        1 => *scalar = Scalar::constant(scalar.unsigned_min),
        2 => scalar.unsigned_max = scalar.unsigned_max.wrapping_add(random.u64(..16)),
        3 => scalar.unsigned_min = scalar.unsigned_min.wrapping_sub(random.u64(..16)),
        4 => scalar.signed_max = scalar.signed_max.wrapping_add(random.i64(-16..16)),
        5 => scalar.low_unsigned_max = random.u32(..),
        6 => scalar.ones ^= 1 << random.u8(..64),
        7 => scalar.zeros ^= 1 << random.u8(..64),
        _ => scalar.stride = random.u64(..10),
    }
}

fn lie_in_value(value: &mut Value, random: &mut fastrand::Rng) {
    match (value, random.u8(..6)) {
        (value, 0) => *value = Value::Scalar(Scalar::ANY),
        (value, 1) => *value = Value::Pointer(Pointer::default()),
        (Value::Scalar(scalar), _) => lie_in_scalar(scalar, random),
        (Value::Pointer(pointer), 2) => pointer.null = !pointer.null,
        (Value::Pointer(pointer), 3) => pointer.regions ^= 1 << random.u8(..64),
        (Value::Pointer(pointer), _) => {
            let part = match random.u8(..3) {
                0 => &mut pointer.stack,
                1 => &mut pointer.body,
                _ => &mut pointer.read_only,
            };
            match part {
                Some(offset) => lie_in_scalar(offset, random),
                None => *part = Some(Scalar::constant(random.u64(..64))),
            }
        }
    }
}

fn lie_in_contract(contract: &mut Contract, random: &mut fastrand::Rng) {
    match random.u8(..8) {
        0 => contract.instruction = contract.instruction.wrapping_add(random.u32(..3)).wrapping_sub(1),
        1 => drop(contract.registers.pop()),
        2 => contract.registers.push((Register(random.u8(..50)), Value::Scalar(Scalar::ANY))),
        3 => drop(contract.live_stack.pop()),
        4 => {
            if let Some(range) = contract.live_stack.first_mut() {
                range.end = range.end.wrapping_add(random.u32(..16)).wrapping_sub(8);
            }
        }
        5 => match contract.cells.first_mut() {
            Some(Cell { value, offset, .. }) if random.bool() => {
                lie_in_value(value, random);
                *offset = offset.wrapping_add(random.u32(..2));
            }
            Some(Cell { value, .. }) => lie_in_value(value, random),
            None => {}
        },
        _ => {
            let count = contract.registers.len();
            if count > 0 {
                lie_in_value(&mut contract.registers[random.usize(..count)].1, random);
            }
        }
    }
}
