//! The verifier on small programs in assembly.

use naamc::diagnostic::Finding;
use naamc::isa::assemble;
use naamc::program::{Entry, Environment, Function};
use naamc::verifier::Proof;

fn prove(body_bytes: u32, text: &str) -> Result<Proof, Vec<Finding>> {
    let instructions = assemble(text).expect("the test assembles");
    let entry = Entry { body_bytes, second_argument: None };
    Proof::prove(Function { name: "test".into(), entry, instructions }, &Environment::default())
}

#[test]
fn smoke() {
    let proof =
        prove(64, "r2 = *(u32 *)(r1 + 0)\nif w2 > 7 goto 5\nr2 <<= 3\nr1 += r2\nr0 = *(u64 *)(r1 + 0)\nr0 = 0\nexit").unwrap();
    println!("{:?}", proof);
    let proof =
        prove(64, "r6 = 0\nr7 = 0\nr2 = r1\nr2 += r6\nr3 = *(u8 *)(r2 + 0)\nr7 += r3\nr6 += 1\nif r6 != 64 goto 2\nr0 = r7\nexit")
            .unwrap();
    println!("{:#?}", proof);
}
