//! The JIT agrees with the RFC and with the interpreter.
#![cfg(feature = "jit")]

#[path = "jit/differential.rs"]
mod differential;
#[path = "../../naamc/tests/conformance/driver.rs"]
mod driver;
#[path = "../../naamc/tests/soundness/generator.rs"]
mod edge;
#[path = "jit/generator.rs"]
mod generator;
#[path = "../../testdata/handlers/samples.rs"]
mod samples;

use differential::{Case, is_fault};
use fastrand::Rng;
use naamc::abi::Rights;
use naamc::activation::Activation;
use naamc::interpreter::{Failure, Outcome};
use naamc::isa;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, Turn};
use runtime::memory::{Region, Regions};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Prepares a program without regions.
fn jit(proof: Arc<Proof>) -> driver::Turn {
    let program = JitEngine.compile(&proof, &Environment::default(), &Regions::default()).expect("compiles");
    Box::new(move |activation| program.run(activation, &mut Turn::new(&Regions::default(), 0)))
}

/// Proves that compiled code agrees with an independent model of RFC 9669, on every instruction, with operands from memory and with
/// operands that the code generator knows.
#[test]
fn every_instruction_does_what_the_rfc_says() {
    let count = driver::run_table(&jit);
    println!("jit: {} kinds of instructions, {} cases in {} programs", count.kinds, count.cases, count.programs);
    assert_eq!(count.kinds, driver::KINDS);
    assert!(count.cases > 50_000, "the table shrank");
}

/// Proves that whole programs, given as the public conformance runner gives them, compute what they should when compiled.
#[test]
fn programs_of_the_conformance_runner_give_their_results() {
    let count = driver::run_programs(&jit);
    println!("jit: {count} programs");
    assert!(count > 60);
}

/// Programs of each generator.
const PROGRAMS: u64 = 300;

/// A function and what to check it against.
type Draw = dyn Fn(&mut Rng) -> (Function, Environment);

/// Runs random programs in every way; how many the verifier accepted. `NAAM_SEED` says with which seed to begin.
fn agree_on(region_bytes: usize, draw: &Draw) -> u64 {
    let (mut accepted, mut finished, mut exhausted, mut suspensions) = (0, 0, 0, 0);
    let first: u64 = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + PROGRAMS {
        let mut random = Rng::with_seed(seed);
        let (function, environment) = draw(&mut random);
        let body_bytes = function.entry.body_bytes as usize;
        let Ok(proof) = Proof::prove(function, &environment) else { continue };
        accepted += 1;
        let mut bytes = |length: usize| std::iter::repeat_with(|| random.u8(..)).take(length).collect::<Vec<u8>>();
        let regions = environment.regions.iter().map(|_| bytes(region_bytes)).collect();
        let body = bytes(body_bytes);
        // Every fourth one runs out of something.
        let short = seed % 4 == 0;
        let udma_operations = if short { random.u32(..4) } else { 4096 };
        let back_edges = if short { random.u32(..8) } else { 1 << 20 };
        let case = Case::new(Arc::new(proof), &environment, regions, body, back_edges, udma_operations);
        println!("seed {seed}: NAAM_SEED={seed} runs it first");
        let (result, stops) = case.agree();
        assert!(!is_fault(result.outcome), "seed {seed}: {result:?}");
        match result.outcome {
            Outcome::Finished(_) => finished += 1,
            Outcome::Failed(Failure::BackEdgesExhausted | Failure::UdmaOperationsExhausted) => exhausted += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
        suspensions += stops;
    }
    println!("{accepted} programs: {finished} finished, {exhausted} ran out of fuel, {suspensions} suspensions");
    assert!(finished > accepted / 2 && exhausted > 0 && suspensions > 150);
    accepted
}

/// Proves that runs of helper calls become calls once they are many: code that grows without end takes the code generator minutes.
#[test]
fn inlined_helpers_are_limited() {
    let call = "r1 = r6\nr2 = r6\nr2 += 1000\nr3 = 32\ncall naam_compare\n";
    let code = |calls: usize| {
        let text = format!("r6 = r1\n{}r0 = 0\nexit", call.repeat(calls));
        let entry = Entry { body_bytes: 2000, second_argument: None };
        let function = Function { name: "compare".to_string(), entry, instructions: isa::assemble(&text).expect("it assembles") };
        let proof = Arc::new(Proof::prove(function, &Environment::default()).expect("it verifies"));
        runtime::engine::jit::object::compile_object(&[proof], &Environment::default()).expect("it compiles").len()
    };
    let (some, more, most) = (code(256), code(512), code(1024));
    assert!(most - more < 2 * (more - some), "{some}, {more} and {most} bytes of code for 256, 512 and 1,024 calls");
}

/// A pointer to the stack or to read-only data, unknown which: what it reads must be what was stored before, and not after.
const EITHER: &str = "
    r8 = *(u64 *)(r1 + 0)
    r7 = read_only + 0 ll
    if r8 == 0 goto chosen
    r7 = r10
    r7 += -8
chosen:
    r1 = 1
    *(u64 *)(r10 - 8) = r1
    r0 = *(u64 *)(r7 + 0)
    r1 = 2
    *(u64 *)(r10 - 8) = r1
    r2 = *(u64 *)(r10 - 8)
    exit";

/// Proves that compiled code keeps the order of stores and loads where a load may touch memory of two kinds.
#[test]
fn loads_of_either_kind_see_what_was_stored() {
    let environment = Environment { regions: Vec::new(), read_only: vec![7; 8], constants: Vec::new() };
    let entry = Entry { body_bytes: 8, second_argument: None };
    let function = Function { name: "either".to_string(), entry, instructions: isa::assemble(EITHER).expect("it assembles") };
    let proof = Arc::new(Proof::prove(function, &environment).expect("it verifies"));
    for (body, expected) in [(0u64, 0x0707_0707_0707_0707), (1, 1)] {
        let case = Case::new(proof.clone(), &environment, Vec::new(), body.to_le_bytes().to_vec(), 0, 0);
        assert_eq!(case.agree().0.outcome, Outcome::Finished(expected));
    }
}

/// Proves that both engines agree on random programs: result, body, regions, fuel and failures, in one turn and suspended before every UDMA
/// call, resumed by the other engine. These programs use every instruction and helper.
#[test]
fn engines_agree_on_random_programs() {
    let accepted = agree_on(generator::REGION_BYTES as usize, &|random| {
        let environment = generator::environment(random);
        (generator::function(random), environment)
    });
    assert!(accepted >= PROGRAMS * 9 / 10, "the verifier refuses too many");
}

/// The same for the programs that the verifier's soundness is tested with: pointers of several kinds in one register, pointers on the stack,
/// stack bytes that only some paths write.
#[test]
fn engines_agree_at_the_edge_of_what_verifies() {
    let accepted = agree_on(edge::REGION_BYTES, &|random| {
        let length_bytes_min = edge::REGION_BYTES as u64;
        let region =
            |name: &str| RegionDeclaration { name: name.to_string(), rights: Rights::ALL, length_bytes_min, element: None };
        let instructions = isa::assemble(&edge::handler(random)).expect("it assembles");
        let entry = Entry { body_bytes: edge::BODY_BYTES, second_argument: None };
        let environment = Environment { regions: vec![region("one"), region("two")], read_only: Vec::new(), constants: Vec::new() };
        (Function { name: "edge".to_string(), entry, instructions }, environment)
    });
    assert!(accepted >= PROGRAMS / 3, "the verifier refuses too many");
}

/// Proves that the sample handlers, as clang compiled them, compute on both engines and with any suspensions what the same C computes natively.
#[test]
fn samples_compute_what_native_code_computes() {
    let (mut count, mut suspensions) = (0, 0);
    for file in samples::files() {
        let path = format!("{}/../testdata/handlers/{}.o", env!("CARGO_MANIFEST_DIR"), file.name);
        let elf = std::fs::read(path).expect("its ELF is there");
        let object = naamc::object::read(&elf).expect("it is an object");
        let regions = &object.environment.regions;
        for expected in &file.cases {
            let handler = object.handlers.iter().find(|found| found.name == expected.handler).expect("it has the handler");
            let (function, _) = object.flatten(handler).expect("it is flat");
            // Whether all of them verify is another test's question.
            let Ok(proof) = Proof::prove(function, &object.environment) else { continue };
            let before: Vec<Vec<u8>> = regions.iter().map(|region| file.regions[&region.name].clone()).collect();
            let case = Case::new(Arc::new(proof), &object.environment, before, expected.request.clone(), 1 << 20, 4096);
            let (result, stops) = case.agree();
            let Outcome::Finished(value) = result.outcome else { panic!("{}: {result:?}", handler.name) };
            assert_eq!(value as i32, expected.result, "{}", handler.name);
            assert_eq!(result.body[..result.reply_bytes as usize], expected.reply, "{}", handler.name);
            let after: Vec<&[u8]> = regions.iter().map(|region| expected.after(&file, &region.name)).collect();
            assert!(result.regions == after, "{}: regions differ", handler.name);
            count += 1;
            suspensions += stops;
        }
    }
    println!("{count} cases, {suspensions} suspensions");
    assert!(count > 100 && suspensions > 1000);
}

/// Proves that compiled code, which relies on the lengths of the regions that it was compiled for, does not run with others.
#[test]
fn code_does_not_run_with_regions_that_it_was_not_compiled_for() {
    let declared = RegionDeclaration { name: "one".to_string(), rights: Rights::ALL, length_bytes_min: 0, element: None };
    let environment = Environment { regions: vec![declared], read_only: Vec::new(), constants: Vec::new() };
    let code = "r3 = r1\nr2 = 4000\nr4 = 8\nr1 = region 0 ll\ncall naam_read\nexit";
    let entry = Entry { body_bytes: 8, second_argument: None };
    let function = Function { name: "read".to_string(), entry, instructions: isa::assemble(code).expect("it assembles") };
    let proof = Arc::new(Proof::prove(function, &environment).expect("it verifies"));
    let region = |length_bytes| Region::anonymous(length_bytes).expect("memory");
    let program = JitEngine.compile(&proof, &environment, &vec![region(4096)].into()).expect("it compiles");
    let run = |regions: &Regions| {
        let mut activation = Activation::new_boxed();
        activation.begin(&[0; 8], 0, 1);
        program.run(&mut activation, &mut Turn::new(regions, 1))
    };
    assert_eq!(run(&vec![region(4096)].into()), Outcome::Finished(0));
    let (remote, mut cold) = (Region::remote(NonZeroU32::MIN, 4096), region(4096));
    cold.set_cold(true);
    for regions in [vec![region(1024)], vec![region(8192)], vec![remote], vec![cold], vec![]] {
        assert_eq!(run(&regions.into()), Outcome::Failed(Failure::EngineFault));
    }
}
