//! The verifier at its limits: the largest and most tangled functions end in a proof or in a finding, within its budgets of steps and memory.

use naamc::abi::{INSTRUCTIONS_MAX, Rights};
use naamc::diagnostic::Code;
use naamc::isa::{Instruction, assemble};
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use std::time::Instant;

fn environment() -> Environment {
    let region = RegionDeclaration { name: "data".into(), rights: Rights::ALL, length_bytes_min: 0, element: None };
    Environment { regions: vec![region], ..Environment::default() }
}

/// Proves a function of this text, and says whether it was given up.
fn ends(name: &str, text: &str) -> Result<(), Vec<Code>> {
    let mut instructions: Vec<Instruction> = assemble(text).expect("the test assembles");
    instructions.truncate(INSTRUCTIONS_MAX - 2);
    instructions.extend(assemble("r0 = 0\nexit").unwrap());
    let (count, started) = (instructions.len(), Instant::now());
    let entry = Entry { body_bytes: 8000, second_argument: None };
    let proof = Proof::prove(Function { name: name.into(), entry, instructions }, &environment());
    let codes = proof.map(|_| ()).map_err(|findings| findings.iter().map(|finding| finding.code).collect::<Vec<_>>());
    println!("{name}: {count} instructions, {:?}, {codes:?}", started.elapsed());
    codes
}

fn proved_or_given_up(name: &str, text: &str) {
    let result = ends(name, text);
    assert!(result.is_ok() || result == Err(vec![Code::BUDGET_EXCEEDED]), "{name}: {result:?}");
}

#[test]
fn many_loops_side_by_side() {
    let text: String = (0..4_000).map(|index| format!("r6 = 9\nl{index}:\nr6 += -1\nif r6 != 0 goto l{index}\n")).collect();
    proved_or_given_up("many loops", &text);
}

#[test]
fn loops_in_loops_in_loops() {
    for depth in [30, 1_000] {
        let heads: String = (0..depth).map(|index| format!("*(u64 *)(r10 - {}) = 9\nl{index}:\n", 8 * (index % 500 + 1))).collect();
        let tails: String = (0..depth)
            .rev()
            .map(|index| {
                let place = 8 * (index % 500 + 1);
                format!("r6 = *(u64 *)(r10 - {place})\nr6 += -1\n*(u64 *)(r10 - {place}) = r6\nif r6 != 0 goto l{index}\n")
            })
            .collect();
        proved_or_given_up("nested loops", &format!("{heads}{tails}"));
    }
}

#[test]
fn a_thousand_known_words_and_a_branch_after_each_store() {
    let words: String = (1..=1_480)
        .map(|index| {
            if index <= 500 {
                format!("*(u64 *)(r10 - {}) = 1\n", 8 * index)
            } else {
                format!("*(u64 *)(r1 + {}) = 1\n", 8 * (index - 500))
            }
        })
        .collect();
    let branches: String = (0..20_000)
        .map(|index| {
            format!("r3 = *(u32 *)(r1 + 0)\nif r3 > {index} goto end\n*(u64 *)(r10 - {}) = {index}\n", 8 * (index % 500 + 1))
        })
        .collect();
    proved_or_given_up("known words", &format!("{words}{branches}\nend:\n"));
    let apart: String =
        (0..20_000).map(|index| format!("r3 = *(u32 *)(r1 + 0)\nif r3 > {index} goto m{}\n", 19_999 - index)).collect();
    let marks: String = (0..20_000).map(|index| format!("m{index}:\nr0 = 0\n")).collect();
    proved_or_given_up("waiting states", &format!("{words}{apart}{marks}"));
}

#[test]
fn suspension_points_everywhere() {
    let call = "r1 = region 0 ll\nr2 = 0\nr3 = r6\nr4 = 8\ncall naam_read\nr7 += r0\n";
    proved_or_given_up("many calls", &format!("r6 = r1\nr7 = 0\n{}", call.repeat(10_000)));
}

#[test]
fn jumps_between_everything() {
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..4 {
        let count = if round == 0 { 12_000 } else { 150 };
        let mut text = String::from("r6 = 0\nr7 = 1\n");
        for index in 0..count {
            let target = random.u32(0..count);
            text += &format!(
                "l{index}:\nr{} += {}\nif r{} < {} goto l{target}\n",
                random.u8(6..8),
                random.i32(-3..9),
                random.u8(6..8),
                random.u16(..)
            );
        }
        proved_or_given_up("tangle", &text);
    }
}
