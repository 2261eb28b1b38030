//! The verifier at its limits: the largest and most tangled functions end in a proof or in a finding, within its budgets of steps and memory.

use naamc::abi::{INSTRUCTIONS_MAX, Rights, STACK_BYTES};
use naamc::diagnostic::{Code, Finding};
use naamc::isa::{Instruction, Register, Size, assemble};
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use naamc::verifier::contract::{ByteRange, Cell, Contract, Contracts};
use naamc::verifier::value::{Scalar, Value};
use std::time::Instant;

/// Bytes of the message of every function here.
const BODY_BYTES: u32 = 8000;

fn environment() -> Environment {
    let region = RegionDeclaration { name: "data".into(), rights: Rights::ALL, length_bytes_min: 0, element: None };
    Environment { regions: vec![region], read_only: (0..4096).map(|byte| byte as u8).collect(), ..Environment::default() }
}

fn function(name: &str, text: &str) -> Function {
    let mut instructions: Vec<Instruction> = assemble(text).expect("the test assembles");
    instructions.truncate(INSTRUCTIONS_MAX - 2);
    instructions.extend(assemble("r0 = 0\nexit").unwrap());
    Function { name: name.into(), entry: Entry { body_bytes: BODY_BYTES, second_argument: None }, instructions }
}

fn codes(proof: Result<Proof, Vec<Finding>>) -> Result<(), Vec<Code>> {
    proof.map(|_| ()).map_err(|findings| findings.iter().map(|finding| finding.code).collect())
}

/// Proves a function of this text, and says whether it was given up.
fn ends(name: &str, text: &str) -> Result<(), Vec<Code>> {
    let function = function(name, text);
    let (count, started) = (function.instructions.len(), Instant::now());
    let codes = codes(Proof::prove(function, &environment()));
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

/// Many ways lead to one loop, whose contract lists every byte of stack and body: 5,000 times 12,000 values to look at.
#[test]
fn a_contract_with_all_that_it_can_say_of_many_ways() {
    let words: String = (1..=STACK_BYTES / 8).map(|index| format!("*(u64 *)(r10 - {}) = 0\n", 8 * index)).collect();
    let body: String = (0..BODY_BYTES / 8).map(|index| format!("*(u64 *)(r6 + {}) = 0\n", 8 * index)).collect();
    let ways: String = (0..5_000).map(|index| format!("if r0 == {index} goto head\n")).collect();
    let text = format!("r6 = r1\n{words}{body}call naam_executor\n{ways}head:\nr0 += -1\nif r0 != 0 goto head\n");
    let function = function("many ways", &text);
    let head = function.instructions.len() as u32 - 4;
    let cell = |offset, most| Cell { offset, size: Size::B1, value: Value::Scalar(Scalar::unsigned(0, most)) };
    let contracts = |bytes: u32, most| Contracts {
        loops: vec![Contract {
            instruction: head,
            registers: vec![(Register::R0, Value::Scalar(Scalar::ANY))],
            live_stack: vec![ByteRange { start: 0, end: STACK_BYTES as u32 }],
            cells: (0..bytes).map(|offset| cell(offset, most)).collect(),
            bounds: Vec::new(),
        }],
        suspensions: Vec::new(),
    };
    let check = |contracts| codes(Proof::check(function.clone(), &environment(), contracts));
    assert_eq!(check(contracts(8, 1)), Ok(()), "what it says is true");
    assert_eq!(check(contracts(STACK_BYTES as u32 + BODY_BYTES, 1)), Err(vec![Code::BUDGET_EXCEEDED]));
    assert_eq!(check(contracts(8, 255)), Err(vec![Code::CONTRACT_MALFORMED]), "a cell that says nothing");
}

/// Every comparison of a sum is a fact of its own, and every way carries all of them.
#[test]
fn facts_about_sums_everywhere() {
    let compare = |index: u32| format!("r3 = r6\nr3 += r7\nif r3 > {} goto m{index}\n", 100_000 - index);
    let compares: String = (0..4_000).map(compare).collect();
    let marks: String = (0..4_000).map(|index| format!("m{index}:\nr0 = 0\n")).collect();
    let text = format!("r6 = *(u16 *)(r1 + 0)\nr7 = *(u16 *)(r1 + 2)\n{compares}r8 = r6\nr8 += r7\n{marks}r0 += r6\nr0 += r7\n");
    assert_eq!(ends("sums", &text), Err(vec![Code::BUDGET_EXCEEDED]));
}

/// Each load from a table looks at all of its entries.
#[test]
fn tables_read_at_every_instruction() {
    let load = "r3 = *(u16 *)(r1 + 0)\nr3 &= 4095\nr2 = read_only + 0 ll\nr2 += r3\nr0 = *(u8 *)(r2 + 0)\n";
    let few = ends("a few tables", &load.repeat(20));
    assert_eq!(few, Ok(()));
    let function = function("many tables", &load.repeat(2_000));
    assert_eq!(codes(Proof::check(function.clone(), &environment(), Contracts::default())), Err(vec![Code::BUDGET_EXCEEDED]));
    assert_eq!(codes(Proof::prove(function, &environment())), Err(vec![Code::BUDGET_EXCEEDED]));
}

/// From each block a way leads two blocks back, so what one reads all others keep alive: a set of bytes that grows from one to the next and
/// back again. The budget pays for that too.
#[test]
fn back_edges_across_each_other() {
    let block = |index: usize| {
        format!("b{index}:\nr3 = *(u8 *)(r6 + {})\nif r3 == 1 goto b{}\n", index % BODY_BYTES as usize, index.saturating_sub(2))
    };
    let text = |count: usize| format!("r6 = r1\n{}", (0..count).map(block).collect::<String>());
    assert_eq!(ends("a few back edges", &text(250)), Ok(()));
    let many = function("many back edges", &text(4_000));
    let contracts = naamc::verifier::infer(&many, &environment()).expect("contracts are found");
    assert_eq!(codes(Proof::check(many, &environment(), contracts)), Err(vec![Code::BUDGET_EXCEEDED]));
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
