//! The interpreter does what RFC 9669 says: every instruction, on operands chosen to overflow, wrap and change sign.

#[path = "conformance/driver.rs"]
mod driver;

use naamc::exec::Nothing;
use naamc::interpreter::Interpreter;
use naamc::verifier::Proof;
use std::sync::Arc;

fn interpreter(proof: Arc<Proof>) -> driver::Turn {
    let interpreter = Interpreter::new(&proof, Arc::new([]));
    Box::new(move |activation| interpreter.run(activation, &mut Nothing))
}

/// Proves that the interpreter agrees with an independent model of the RFC, on code that is decoded and verified as any handler's.
#[test]
fn every_instruction_does_what_the_rfc_says() {
    let count = driver::run_table(&interpreter);
    println!("interpreter: {} kinds of instructions, {} cases in {} programs", count.kinds, count.cases, count.programs);
    assert_eq!(count.kinds, driver::KINDS);
    assert!(count.cases > 50_000, "the table shrank");
}

/// Proves that whole programs, given as the public conformance runner gives them, verify and compute what they should, or are refused.
#[test]
fn programs_of_the_conformance_runner_give_their_results() {
    let count = driver::run_programs(&interpreter);
    println!("interpreter: {count} programs");
    assert!(count > 60);
}

/// Proves that the table is what its generator writes, where there is a Python to ask.
#[test]
fn the_table_is_what_its_generator_writes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/isa");
    match std::process::Command::new("python3").arg("conformance.py").current_dir(folder).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == std::fs::read(format!("{folder}/conformance.txt")).unwrap(), "run conformance.py again");
        }
        Err(_) => println!("skipped: there is no python3 to write the table again with"),
    }
}
