//! What runs without fuel is bounded: of a handler as a whole, and of one round of a metered loop, however many loops it is made of.

use naamc::activation::Activation;
use naamc::interpreter::{Environment as Surroundings, Failure, Interpreter, Issued, Observer, Udma};
use naamc::isa::assemble;
use naamc::program::{Entry, Environment, Function};
use naamc::verifier::Proof;
use std::fmt::Write;

/// Instructions without fuel, from a handler's start or a metered back edge on.
const UNMETERED_INSTRUCTIONS_MAX: u64 = 1 << 20;
/// Of these, what the loops inside a metered one run in a round.
const NESTED_INSTRUCTIONS_MAX: u64 = 1 << 12;

struct Nothing;

impl Surroundings for Nothing {
    fn udma(&mut self, _: Udma<'_>) -> Issued {
        Issued::Failed(Failure::EngineFault)
    }

    fn length_bytes(&mut self, _: u16) -> u64 {
        0
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Err(Failure::EngineFault)
    }
}

/// Counts instructions between two that take fuel.
#[derive(Default)]
struct Counting {
    back_edges_left: u32,
    back_edges: u32,
    instructions: u64,
    /// The largest count.
    most: u64,
}

impl Observer for Counting {
    fn before(&mut self, _: u32, activation: &Activation) {
        if activation.back_edges_left != self.back_edges_left {
            self.back_edges_left = activation.back_edges_left;
            self.instructions = 0;
            self.back_edges += 1;
        }
        self.instructions += 1;
        self.most = self.most.max(self.instructions);
    }
}

fn prove(text: &str) -> Proof {
    let instructions = assemble(&format!("{text}r0 = 0\nexit")).expect("the test assembles");
    let function = Function { name: "test".into(), entry: Entry { body_bytes: 64, second_argument: None }, instructions };
    Proof::prove(function, &Environment::default()).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"))
}

fn unmetered(proof: &Proof) -> usize {
    proof.analysis().loops.iter().filter(|found| !found.metered).count()
}

/// Runs it with so much fuel on a message of ones.
fn run(proof: &Proof, fuel: u32) -> Counting {
    let mut activation = Activation::new_boxed();
    activation.begin(&[1; 64], fuel, 0);
    let mut counting = Counting { back_edges_left: fuel, ..Counting::default() };
    Interpreter::new(proof, Vec::new().into()).observe(&mut activation, &mut Nothing, &mut counting);
    counting
}

fn row(count: usize, rounds: u32) -> String {
    (0..count).map(|index| format!("r1 = 0\nl{index}:\nr1 += 1\nif r1 < {rounds} goto l{index}\n")).collect()
}

/// Proves that loops whose sum is small need no fuel, and that of loops which are each small enough only so many go without.
#[test]
fn loops_in_a_row_are_bounded_together() {
    let few = prove(&row(200, 2_000));
    assert_eq!(unmetered(&few), 200);
    assert!(run(&few, 0).most > 700_000);
    for (count, rounds) in [(3_000, 520_000), (3_000, 2_000), (3, 250_000)] {
        let proof = prove(&row(count, rounds));
        let most = run(&proof, 0).most;
        assert!(unmetered(&proof) < count && most <= UNMETERED_INSTRUCTIONS_MAX, "{count} of {rounds}: {most}");
    }
    assert_eq!(unmetered(&prove(&row(3, 250_000))), 2, "no more are metered than has to be");
}

/// Proves the same of one round of a metered loop.
#[test]
fn loops_in_a_metered_loop_are_bounded_together() {
    let around = |inside: &str| format!("r6 = *(u64 *)(r1 + 0)\nround:\n{inside}r6 += -1\nif r6 != 0 goto round\n");
    assert_eq!(unmetered(&prove(&around(&row(10, 200)))), 10);
    assert_eq!(unmetered(&prove(&around(&row(3_000, 2_000)))), 1);
    let proof = prove(&around(&row(100, 2_000)));
    let counting = run(&proof, 1_000_000);
    assert_eq!(counting.back_edges, 1_000_000);
    let straight = proof.function().instructions.len() as u64;
    assert!(counting.most > 2_000 && counting.most <= NESTED_INSTRUCTIONS_MAX + straight, "{}", counting.most);
}

/// A nest of loops whose numbers of rounds are drawn; some are unknown.
fn nest(random: &mut fastrand::Rng, depth: u8, labels: &mut u32, text: &mut String) {
    for _ in 0..random.u8(1..4) {
        let (label, register) = (*labels, 6 + depth);
        *labels += 1;
        let rounds = [2, 30, 400, 900, 30_000, 400_000][random.usize(0..6)];
        match random.u8(0..4) {
            0 => writeln!(text, "r{register} = *(u64 *)(r10 - 8)").unwrap(),
            _ => writeln!(text, "r{register} = {rounds}").unwrap(),
        }
        writeln!(text, "l{label}:").unwrap();
        if depth < 3 && random.bool() {
            nest(random, depth + 1, labels, text);
        }
        writeln!(text, "r{register} += -1\nif r{register} != 0 goto l{label}").unwrap();
    }
}

/// Proves it of random nests by running them.
#[test]
fn nests_are_bounded_together() {
    let (mut with_fuel, mut without) = (0, 0);
    for seed in 0..60 {
        let mut text = String::from("r2 = *(u64 *)(r1 + 0)\n*(u64 *)(r10 - 8) = r2\n");
        nest(&mut fastrand::Rng::with_seed(seed), 0, &mut 0, &mut text);
        let proof = prove(&text);
        let metered = proof.analysis().loops.iter().filter(|found| found.metered).count();
        with_fuel += metered;
        without += unmetered(&proof);
        for fuel in [0, 3, 1_000] {
            let counting = run(&proof, fuel);
            assert!(counting.most <= UNMETERED_INSTRUCTIONS_MAX, "seed {seed}: {}\n{text}", counting.most);
        }
    }
    println!("{with_fuel} loops with fuel, {without} without");
    assert!(with_fuel > 60 && without > 60, "{with_fuel} {without}");
}
