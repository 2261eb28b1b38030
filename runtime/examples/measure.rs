//! Prints nanoseconds per call of the kernels of `testdata/lowering/kernels.c`, on both engines; `testdata/lowering/measure.sh` compares
//! them with the same C compiled for this machine. The loop and the data are those of that file's `main`.

use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::Outcome;
use naamc::object;
use naamc::verifier::Proof;
use runtime::engine::jit::JitEngine;
use runtime::engine::jit::object::compile_object;
use runtime::engine::{Engine, InterpreterEngine, Program, Turn};
use runtime::memory::{Region, Regions};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kernels in the order of the report.
const KERNELS: [&str; 6] = ["empty", "lookup", "search", "copy64", "copy256", "sum"];
/// Calls timed together; the fastest round counts.
const CALLS: u64 = 500;
/// Time spent on each kernel and engine.
const EACH: Duration = Duration::from_millis(200);
/// What makes keys of numbers.
const SPREAD: u64 = 0x1_0000_0001;

fn main() {
    let path = std::env::args().nth(1).expect("usage: measure KERNELS.o [OBJECT_OUT]");
    let elf = std::fs::read(path).expect("the kernels can be read");
    let object = object::read(&elf).expect("the kernels are handlers");
    // The declared minimal lengths, in the order of the bundle's regions.
    let regions: Regions = object
        .environment
        .regions
        .iter()
        .map(|declared| {
            let region = Region::anonymous(declared.length_bytes_min).expect("memory");
            fill(&declared.name, &region);
            region
        })
        .collect();
    let mut proofs = Vec::new();
    println!("kernel interpreter_ns jit_ns compile_us");
    for name in KERNELS {
        let handler = object.handlers.iter().find(|handler| handler.name == name).expect("a kernel of this name");
        let (function, _) = object.flatten(handler).expect("it is flat");
        let proof = Arc::new(Proof::prove(function, &object.environment).expect("it is safe"));
        proofs.push(proof.clone());
        let start = Instant::now();
        let compiled = JitEngine.compile(&proof, &object.environment, &regions).expect("it compiles");
        let compile_us = start.elapsed().as_micros();
        let interpreted = InterpreterEngine.compile(&proof, &object.environment, &regions).expect("it compiles");
        let slow = nanoseconds(&*interpreted, &regions, handler.body_bytes as usize);
        let fast = nanoseconds(&*compiled, &regions, handler.body_bytes as usize);
        println!("{name} {slow:.2} {fast:.2} {compile_us}");
    }
    if let Some(out) = std::env::args().nth(2) {
        std::fs::write(out, compile_object(&proofs, &object.environment).expect("it compiles")).expect("the object can be written");
    }
}

/// The content of a region, as the kernels expect it.
fn fill(name: &str, region: &Region) {
    let write = |offset: u64, word: u64| assert_eq!(region.write(offset, &word.to_le_bytes()), 0, "inside {name}");
    for number in 0..1024u64 {
        let key = number * SPREAD;
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match name {
            "buckets" => {
                let bucket = (hash >> 40 & 8191) * 64;
                let word = |slot: u64| {
                    let mut bytes = [0; 8];
                    assert_eq!(region.read(bucket + 8 * slot, &mut bytes), 0);
                    u64::from_le_bytes(bytes)
                };
                let slot = (1..8).find(|slot| word(*slot) == 0).expect("a free slot");
                write(bucket + 8 * slot, hash >> 48 << 48 | number);
            }
            "items" => write(number * 72, key),
            _ => {
                let node = (number & 63) * 512;
                write(node, 30);
                (0..30).for_each(|key| write(node + 8 + 8 * key, key * 40));
            }
        }
    }
}

fn nanoseconds(program: &dyn Program, regions: &Regions, body_bytes: usize) -> f64 {
    let mut activation = Activation::new_boxed();
    activation.begin(&vec![0; body_bytes], 0, 0);
    let mut best = f64::MAX;
    let begin = Instant::now();
    while begin.elapsed() < EACH {
        let start = Instant::now();
        for call in 0..CALLS {
            let mut turn = Turn::new(regions, 1);
            activation.point = POINT_START;
            activation.back_edges_left = 1 << 20;
            activation.udma_operations_left = 4096;
            activation.body_mut()[..8].copy_from_slice(&((call & 1023) * SPREAD).to_le_bytes());
            let outcome = program.run(&mut activation, &mut turn);
            assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
        }
        best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
    }
    best
}
