//! Continuations drawn at random from contracts, not only real ones: this is what a hostile peer with the right grants can send.
//!
//! Oracles: the interpreter looks at every access and would answer `EngineFault`; engines agree in every ending and every region byte;
//! canaries around the activation stay as they were; no reply is longer than the body. For every check that `decode` makes there is
//! evidence that these oracles notice when it is left out.

use super::corpus::{self, Subject};
use super::drive;
use naamc::activation::Activation;
use naamc::continuation::{self, BadContinuation, Check};
use naamc::interpreter::{Failure, Outcome};
use naamc::verifier::Proof;
use naamc::verifier::contract::Contract;
use naamc::verifier::value::{Pointer, Scalar, Value};
use runtime::engine::{Program, Turn};
use runtime::memory::Regions;
use std::collections::BTreeMap;

const SEED: u64 = 0x6e61_616d_0002;
/// Continuations for each suspension point.
const DRAWS: usize = 60;
/// Fuel: little, since a drawn loop counter may be anything that the contract admits.
const BACK_EDGES: u32 = 2_000;
const UDMA_OPERATIONS: u32 = 40;
const CANARY: u64 = 0x5ca1_ab1e_dead_beef;

/// An activation between canaries.
#[repr(C)]
struct Guarded {
    before: [u64; 512],
    activation: Activation,
    after: [u64; 512],
}

impl Guarded {
    fn new() -> Box<Guarded> {
        Box::new(Guarded { before: [CANARY; 512], activation: *Activation::new_boxed(), after: [CANARY; 512] })
    }

    fn assert_intact(&self, context: &str) {
        assert!(self.before.iter().chain(&self.after).all(|word| *word == CANARY), "{context}: wrote outside the activation");
    }
}

/// A number from the set, with a bias for its ends; `None` if none was hit.
fn draw_scalar(scalar: &Scalar, random: &mut fastrand::Rng) -> Option<u64> {
    for _ in 0..64 {
        let raw = match random.u8(..6) {
            0 => scalar.unsigned_min,
            1 => scalar.unsigned_max,
            2 => scalar.signed_min as u64,
            3 => scalar.signed_max as u64,
            4 => random.u64(scalar.unsigned_min..=scalar.unsigned_max),
            _ => random.u64(..),
        };
        let aligned = match scalar.stride {
            0 | 1 => raw,
            stride => raw.wrapping_sub(raw.wrapping_sub(scalar.signed_min as u64) % stride),
        };
        for candidate in [raw, (raw | scalar.ones) & !scalar.zeros, aligned] {
            if scalar.admits(candidate) {
                return Some(candidate);
            }
        }
    }
    None
}

fn draw_pointer(pointer: &Pointer, random: &mut fastrand::Rng) -> Option<u64> {
    use naamc::abi::address::{BODY_START, READ_ONLY_START, REGION_START, STACK_END};
    let mut choices = Vec::new();
    if pointer.null {
        choices.push(0);
    }
    for (offset, start) in [(&pointer.stack, STACK_END), (&pointer.body, BODY_START), (&pointer.read_only, READ_ONLY_START)] {
        choices.extend(offset.as_ref().and_then(|offset| draw_scalar(offset, random)).map(|offset| start.wrapping_add(offset)));
    }
    choices.extend((0..64).filter(|region| pointer.regions >> region & 1 == 1).map(|region| REGION_START + region));
    random.choice(choices)
}

fn draw_value(value: &Value, random: &mut fastrand::Rng) -> Option<u64> {
    match value {
        Value::Scalar(scalar) => draw_scalar(scalar, random),
        Value::Pointer(pointer) => draw_pointer(pointer, random),
    }
}

/// A value that the contract does not admit, of a kind that might do harm.
fn draw_foreign(value: &Value, random: &mut fastrand::Rng) -> Option<u64> {
    use naamc::abi::address::{BODY_START, READ_ONLY_START, REGION_START, STACK_END, STACK_START};
    let near = draw_value(value, random).unwrap_or(0);
    let candidates = [
        near.wrapping_add(1),
        near.wrapping_add(random.u64(..64)),
        near.wrapping_sub(random.u64(..64)),
        near.wrapping_add(random.u64(..10_000)),
        near.wrapping_sub(random.u64(..10_000)),
        near ^ (1 << random.u32(..64)),
        near ^ (1 << random.u32(..4)),
        random.u64(..16),
        random.u64(..16),
        random.u64(..16),
        random.u64(..),
        u64::from(random.u32(..)),
        STACK_END - 8,
        STACK_START,
        BODY_START,
        READ_ONLY_START,
        REGION_START + random.u64(..64),
        0,
    ];
    let start = random.usize(..candidates.len());
    candidates.iter().cycle().skip(start).take(candidates.len()).copied().find(|candidate| !value.admits(*candidate))
}

/// A continuation and its body, every value from the contract.
fn draw(proof: &Proof, point: usize, contract: &Contract, random: &mut fastrand::Rng) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut activation = Activation::new_boxed();
    let body_bytes = proof.function().entry.body_bytes as usize;
    activation.point = point as u32;
    activation.reply_bytes = random.u32(..=body_bytes as u32);
    let small = random.bool();
    activation.memory.iter_mut().for_each(|byte| *byte = if small { random.u8(..4) } else { random.u8(..) });
    for (register, value) in &contract.registers {
        activation.registers[register.index()] = draw_value(value, random)?;
    }
    for cell in &contract.cells {
        let at = cell.offset as usize;
        let word = draw_value(&cell.value, random)?;
        activation.memory[at..at + cell.size.bytes()].copy_from_slice(&word.to_le_bytes()[..cell.size.bytes()]);
    }
    let mut bytes = vec![0; contract.continuation_bytes()];
    continuation::encode(proof, &activation, &mut bytes).expect("the point exists and the space suffices");
    Some((bytes, activation.body()[..body_bytes].to_vec()))
}

/// How a run from a continuation ended, and what it left.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    outcome: Outcome,
    fuel: (u32, u32),
    reply: Vec<u8>,
    reply_too_long: bool,
    regions: Vec<Vec<u8>>,
}

/// The decoded continuation as an activation, unless `decode` refuses it.
fn decoded(proof: &Proof, bytes: &[u8], body: &[u8], omitted: Option<Check>) -> Result<Box<Guarded>, BadContinuation> {
    let mut guarded = Guarded::new();
    guarded.activation.memory.fill(0xa5);
    let decoded = match omitted {
        None => continuation::decode(proof, bytes, body, &mut guarded.activation),
        Some(_) => continuation::decode_with(proof, bytes, body, &mut guarded.activation, omitted),
    };
    guarded.activation.back_edges_left = BACK_EDGES;
    guarded.activation.udma_operations_left = UDMA_OPERATIONS;
    decoded.map(|()| guarded)
}

fn go(program: &dyn Program, guarded: &mut Guarded, body_bytes: usize, contents: &[Vec<u8>]) -> Left {
    let regions = corpus::regions(contents);
    let activation = &mut guarded.activation;
    let mut turn = Turn::new(&regions, drive::EXECUTOR);
    turn.operations_left = u32::MAX;
    let mut outcome = program.run(activation, &mut turn);
    // A compare-and-swap that did not swap ends the turn.
    while outcome == Outcome::Suspended {
        turn.operations_left = u32::MAX;
        outcome = program.run(activation, &mut turn);
    }
    let reply_bytes = activation.reply_bytes as usize;
    let reply = match outcome {
        Outcome::Finished(_) => activation.body()[..reply_bytes.min(body_bytes)].to_vec(),
        _ => Vec::new(),
    };
    let outcome = if let Outcome::Finished(result) = outcome { Outcome::Finished(u64::from(result as u32)) } else { outcome };
    let fuel = (activation.back_edges_left, activation.udma_operations_left);
    Left { outcome, fuel, reply, reply_too_long: reply_bytes > body_bytes, regions: corpus::contents(&regions) }
}

/// A subject with everything that a draw needs.
struct Bench {
    subject: Subject,
    contents: Vec<Vec<u8>>,
    programs: [Vec<std::sync::Arc<dyn Program>>; 2],
}

impl Bench {
    fn new(subject: Subject, random: &mut fastrand::Rng) -> Bench {
        let mut contents = subject.region_contents(random);
        // Small regions: they are compared whole after every draw.
        contents.iter_mut().for_each(|content| content.truncate(16 << 10));
        let regions: Regions = corpus::regions(&contents);
        let programs = drive::engines().map(|engine| drive::compile(&*engine, &subject.bundle, &regions));
        Bench { subject, contents, programs }
    }

    fn points(&self) -> impl Iterator<Item = (usize, &Proof, usize, &Contract)> {
        self.subject.bundle.proofs().iter().enumerate().flat_map(|(handler, proof)| {
            let contracts = proof.contracts().suspensions.iter().enumerate();
            contracts.map(move |(point, contract)| (handler, &**proof, point, contract))
        })
    }
}

#[test]
fn whatever_the_contracts_admit_stays_inside() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut ran, mut points, mut apart) = (0, 0, 0);
    for subject in Subject::all().into_iter().chain([Subject::crafted()]) {
        let bench = Bench::new(subject, &mut random);
        for (handler, proof, point, contract) in bench.points() {
            points += 1;
            let mut drawn = 0;
            for draw_number in 0..DRAWS {
                let Some((bytes, body)) = draw(proof, point, contract, &mut random) else { continue };
                if decoded(proof, &bytes, &body, None).is_err_and(|refusal| refusal == BadContinuation::PendingCall) {
                    // Offset and length of the call's memory were drawn apart, and do not fit together.
                    apart += 1;
                    continue;
                }
                drawn += 1;
                let context =
                    format!("{}/{} point {point} draw {draw_number} of seed {SEED:#x}", bench.subject.name, proof.function().name);
                let mut left = bench.programs.each_ref().map(|programs| {
                    let mut guarded = decoded(proof, &bytes, &body, None)
                        .unwrap_or_else(|refusal| panic!("{context}: refused what the contract admits: {refusal}"));
                    let left = go(&*programs[handler], &mut guarded, body.len(), &bench.contents);
                    guarded.assert_intact(&context);
                    assert_ne!(left.outcome, Outcome::Failed(Failure::EngineFault), "{context}");
                    assert!(!left.reply_too_long, "{context}: the reply is longer than the body");
                    left
                });
                let [interpreter, jit] = &mut left;
                assert_eq!(
                    (&interpreter.outcome, interpreter.fuel, &interpreter.reply),
                    (&jit.outcome, jit.fuel, &jit.reply),
                    "{context}"
                );
                assert!(interpreter.regions == jit.regions, "{context}: regions differ");
                ran += 1;
            }
            assert!(drawn > 0, "{} point {point}: nothing could be drawn from {contract:?}", proof.function().name);
        }
    }
    println!("{ran} continuations from {points} suspension points; {apart} were refused for their pending call");
    assert!(points >= 20 && ran > points * DRAWS / 2);
}

/// A continuation with one thing in it that `decode` must notice.
fn spoil(proof: &Proof, point: usize, contract: &Contract, random: &mut fastrand::Rng) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut bytes, mut body) = draw(proof, point, contract, random)?;
    if random.u8(..8) == 0 {
        // As drawn: offset and length of the pending call's memory may not fit together.
        return Some((bytes, body));
    }
    match random.u8(..8) {
        0 => {
            bytes.truncate(random.usize(8..=bytes.len()) - usize::from(bytes.len() > 8));
        }
        1 => bytes.extend_from_slice(&[random.u8(..); 8]),
        2 => {
            body.truncate(body.len().checked_sub(1 + random.usize(..8))?);
        }
        3 => bytes[4..8].copy_from_slice(&(body.len() as u32 + random.u32(1..64)).to_le_bytes()),
        4..=5 if !contract.registers.is_empty() => {
            let index = random.usize(..contract.registers.len());
            let word = draw_foreign(&contract.registers[index].1, random)?;
            bytes[8 + 8 * index..16 + 8 * index].copy_from_slice(&word.to_le_bytes());
        }
        _ => {
            let cell = contract.cells.get(random.usize(..contract.cells.len().max(1)))?;
            let word = draw_foreign(&cell.value, random)?.to_le_bytes();
            if let Some(at) = (cell.offset as usize).checked_sub(naamc::abi::STACK_BYTES) {
                body[at..at + cell.size.bytes()].copy_from_slice(&word[..cell.size.bytes()]);
            } else {
                let mut at = 8 + 8 * contract.registers.len();
                for range in &contract.live_stack {
                    if (range.start..range.end).contains(&cell.offset) {
                        let at = at + (cell.offset - range.start) as usize;
                        bytes[at..at + cell.size.bytes()].copy_from_slice(&word[..cell.size.bytes()]);
                    }
                    at += (range.end - range.start) as usize;
                }
            }
        }
    }
    Some((bytes, body))
}

/// Whether the oracles notice what came of a continuation that some check should have refused. Only the interpreter runs it: with a check
/// left out, compiled code could do anything.
fn noticed(bench: &Bench, handler: usize, proof: &Proof, bytes: &[u8], body: &[u8], omitted: Check) -> Option<bool> {
    let mut guarded = decoded(proof, bytes, body, Some(omitted)).ok()?;
    let body_bytes = proof.function().entry.body_bytes as usize;
    let contract = &proof.contracts().suspensions[guarded.activation.point as usize];
    if bytes.len() != contract.continuation_bytes() || body.len() != body_bytes {
        return Some(true);
    }
    let left = go(&*bench.programs[0][handler], &mut guarded, body_bytes, &bench.contents);
    Some(left.reply_too_long || left.outcome == Outcome::Failed(Failure::EngineFault))
}

#[test]
fn every_check_of_decode_is_needed() {
    let mut random = fastrand::Rng::with_seed(SEED + 1);
    let mut evidence: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut harmless_refused = 0;
    for subject in Subject::all().into_iter().chain([Subject::crafted()]) {
        let bench = Bench::new(subject, &mut random);
        for (handler, proof, point, contract) in bench.points() {
            let draws = if bench.subject.name == "crafted" { DRAWS * 100 } else { DRAWS * 4 };
            for _ in 0..draws {
                let Some((bytes, body)) = spoil(proof, point, contract, &mut random) else { continue };
                if decoded(proof, &bytes, &body, None).is_ok() {
                    // The spoilt word was cut to its cell's size and is admitted after all.
                    continue;
                }
                for omitted in Check::ALL {
                    let count = evidence.entry(format!("{omitted:?}")).or_default();
                    match noticed(&bench, handler, proof, &bytes, &body, omitted) {
                        Some(true) => count.0 += 1,
                        Some(false) => count.1 += 1,
                        None => harmless_refused += 1,
                    }
                }
            }
        }
    }
    println!(
        "continuations that only the omitted check refuses: (noticed, harmless): {evidence:?}; {harmless_refused} refused by another check"
    );
    for check in Check::ALL {
        let (found, _) = evidence[&format!("{check:?}")];
        assert!(found > 0, "nothing notices that {check:?} is left out: {evidence:?}");
    }
}
