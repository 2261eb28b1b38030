//! Tests of lowering: `testdata/lowering/*.txt` hold small programs and what they are lowered to, before Cranelift optimises it.
//! `BLESS=1` writes them anew.

use super::lower::{Body, Source};
use super::object::compile_object;
use super::{lowered, target};
use crate::memory::Extent;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use naamc::abi::Rights;
use naamc::isa;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use std::path::PathBuf;
use std::sync::Arc;

/// A program of a golden file.
struct Golden {
    path: PathBuf,
    /// Everything before the results.
    head: String,
    results: String,
    proof: Arc<Proof>,
    environment: Environment,
    regions: Vec<Extent>,
}

impl Golden {
    /// Reads `regions LENGTH|remote ...`, `body BYTES`, `read_only BYTES`, `bodies start resume` where both are recorded, and `code`, then
    /// the program.
    fn read(name: &str) -> Golden {
        let path = PathBuf::from(format!("{}/../testdata/lowering/{name}.txt", env!("CARGO_MANIFEST_DIR")));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (head, results) = text.split_once("== start\n").unwrap_or((&text, ""));
        let (settings, code) = head.split_once("== code\n").expect("a program");
        let words = |key: &str| {
            let line = settings.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().map(str::to_string).collect::<Vec<_>>()
        };
        let number = |key: &str| words(key).first().map_or(0, |word| word.parse().expect("a number"));
        let regions: Vec<Extent> = words("regions ")
            .iter()
            .map(|word| Extent {
                is_local: word != "remote",
                length_bytes: word.parse().unwrap_or(4096),
                is_cold: word != "remote",
            })
            .collect();
        let declaration = |(index, region): (usize, &Extent)| RegionDeclaration {
            name: format!("region{index}"),
            rights: Rights::ALL,
            length_bytes_min: region.length_bytes,
            element: None,
        };
        let environment = Environment {
            regions: regions.iter().enumerate().map(declaration).collect(),
            read_only: vec![7; number("read_only ")],
            constants: Vec::new(),
        };
        let entry = Entry { body_bytes: number("body ") as u32, second_argument: None };
        let function = Function { name: name.to_string(), entry, instructions: isa::assemble(code).expect("it assembles") };
        let proof = Proof::prove(function, &environment).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        let (head, results) = (head.to_string(), results.to_string());
        Golden { path, head, results, proof: Arc::new(proof), environment, regions }
    }

    fn source(&self) -> Source<'_> {
        Source { proof: &self.proof, regions: &self.regions }
    }

    fn check(&self) {
        let mut found = lowered(&self.source(), Body::Start).expect("it lowers").display().to_string();
        if self.head.contains("\nbodies start resume\n") {
            found += "== resume\n";
            found += &lowered(&self.source(), Body::Resume).expect("it lowers").display().to_string();
        }
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&self.path, format!("{}== start\n{found}", self.head)).expect("the file can be written");
        } else {
            assert!(found == self.results, "{}: lowered to something else; BLESS=1 accepts it:\n{found}", self.path.display());
        }
    }
}

/// Proves that loads and stores on stack, body and read-only data become single accesses without checks, and selects only where the
/// verifier could not tell which of them it is.
#[test]
fn accesses() {
    Golden::read("accesses").check();
}

/// Proves that loops are metered only where the verifier found no bound, and at their retreating edges only.
#[test]
fn loops() {
    Golden::read("loops").check();
}

/// Proves what a suspension point saves, and what the body that is entered there loads again.
#[test]
fn resume() {
    Golden::read("resume").check();
}

/// Proves what is inlined of UDMA calls.
#[test]
fn udma() {
    Golden::read("udma").check();
}

/// Proves that helpers on local memory are inline for small constant lengths and calls for others.
#[test]
fn helpers() {
    Golden::read("helpers").check();
}

/// Proves that two reads of one word of a region stay two after optimisation: the second read of a version is what makes an optimistic read right.
#[test]
fn equal_region_reads_remain_two() {
    let golden = Golden::read("versions");
    golden.check();
    let mut context = Context::for_function(lowered(&golden.source(), Body::Start).expect("it lowers"));
    context.optimize(target().expect("a target").as_ref(), &mut ControlPlane::default()).expect("it optimises");
    let text = context.func.display().to_string();
    assert_eq!(text.matches("atomic_load.i64").count(), 2, "{text}");
}

/// Proves that the object for disassemblers is an ELF with a named symbol for every body.
#[test]
fn objects_name_every_body() {
    let golden = Golden::read("udma");
    let bytes = compile_object(std::slice::from_ref(&golden.proof), &golden.environment).expect("it compiles");
    assert_eq!(&bytes[..4], b"\x7fELF");
    for name in [&b"\0udma.start\0"[..], b"\0udma.resume\0"] {
        assert!(bytes.windows(name.len()).any(|window| window == name), "{}", String::from_utf8_lossy(name));
    }
}
