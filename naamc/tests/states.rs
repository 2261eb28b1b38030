//! What the verifier knows, as golden files: assembly in, contracts, loops, manifest or findings out.
//!
//! A file of `testdata/verifier/states` has three parts, separated by `---`: what the function gets (`body BYTES`, `region NAME RIGHTS`), the
//! assembly, and what is proved of it. `BLESS=1` rewrites the third.

use naamc::abi::{Rights, STACK_BYTES};
use naamc::diagnostic::Finding;
use naamc::isa::assemble;
use naamc::manifest::Manifest;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use naamc::verifier::contract::Contract;
use naamc::verifier::value::Value;
use std::fmt::Write;
use std::path::Path;

#[test]
fn states_are_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/verifier/states");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 18, "{}", paths.len());
    let mut differing = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let parts: Vec<&str> = text.splitn(3, "---\n").collect();
        let [head, code, recorded] = parts[..] else { panic!("{} has three parts", path.display()) };
        let found = judged(head, code);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, format!("{head}---\n{code}---\n{found}")).unwrap();
        } else if found != recorded {
            write!(differing, "{}: found\n{found}recorded\n{recorded}", path.display()).unwrap();
        }
    }
    assert!(differing.is_empty(), "{differing}");
}

fn judged(head: &str, code: &str) -> String {
    let mut environment = Environment::default();
    let mut entry = Entry { body_bytes: 0, second_argument: None };
    for line in head.lines().filter(|line| !line.starts_with('#')) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["body", bytes] => entry.body_bytes = bytes.parse().unwrap(),
            ["region", name, rights] => environment.regions.push(RegionDeclaration {
                name: name.into(),
                rights: if rights == "read" { Rights::READ } else { Rights::ALL },
                length_bytes_min: 0,
                element: None,
            }),
            _ => panic!("{line:?} is not understood"),
        }
    }
    let instructions = assemble(code).unwrap_or_else(|error| panic!("{error}"));
    let function = Function { name: "test".into(), entry, instructions };
    match Proof::prove(function, &environment) {
        Ok(proof) => proved(&proof, &environment),
        Err(findings) => findings.iter().map(refused).collect(),
    }
}

fn refused(finding: &Finding) -> String {
    let at = finding.place.instruction.map_or(String::from("-"), |at| at.to_string());
    let mut text = format!("{at}: {} {}\n", finding.code, finding.message);
    finding.known.iter().for_each(|fact| writeln!(text, "    {fact}").unwrap());
    text
}

fn proved(proof: &Proof, environment: &Environment) -> String {
    let mut text = String::new();
    let (contracts, analysis) = (proof.contracts(), proof.analysis());
    for (kind, list) in [("loop", &contracts.loops), ("suspension", &contracts.suspensions)] {
        for contract in list {
            write_contract(&mut text, kind, contract);
        }
    }
    for found in &analysis.loops {
        let trips = found.trips_max.map_or(String::from("without bound"), |trips| format!("at most {trips} back edges"));
        writeln!(text, "loop at {}: {trips}{}", found.head, if found.metered { ", metered" } else { "" }).unwrap();
    }
    let zeroed: Vec<String> = analysis.zeroed.iter().map(|range| format!("{}..{}", below(range.start), below(range.end))).collect();
    if !zeroed.is_empty() {
        writeln!(text, "zeroed: {}", zeroed.join(", ")).unwrap();
    }
    let manifest = Manifest::of(proof, environment);
    for operation in &manifest.operations {
        let lengths = format!("{} to {}", operation.length_min, operation.length_max);
        writeln!(text, "{} at {}: offset {}, {lengths} bytes", operation.helper.name(), operation.instruction, operation.offset)
            .unwrap();
    }
    let bound = |bound: Option<u64>| bound.map_or(String::from("any number"), |bound| bound.to_string());
    writeln!(text, "instructions {}, operations {}", bound(manifest.instructions_max), bound(manifest.udma_operations_max))
        .unwrap();
    let result = analysis.result.map_or(String::from("none"), |result| result.to_string());
    writeln!(
        text,
        "request {} bytes, continuation {} bytes, result {result}",
        manifest.request_bytes, manifest.continuation_bytes_max
    )
    .unwrap();
    text
}

/// A stack offset from r10.
fn below(offset: u32) -> i64 {
    i64::from(offset) - STACK_BYTES as i64
}

fn write_contract(text: &mut String, kind: &str, contract: &Contract) {
    writeln!(text, "{kind} {}:", contract.instruction).unwrap();
    for (register, value) in &contract.registers {
        writeln!(text, "    {register} is {}", words(value)).unwrap();
    }
    for range in &contract.live_stack {
        writeln!(text, "    stack {}..{} is live", below(range.start), below(range.end)).unwrap();
    }
    for cell in &contract.cells {
        let place = match (cell.offset as usize).checked_sub(STACK_BYTES) {
            Some(offset) => format!("body {offset}"),
            None => format!("stack {}", below(cell.offset)),
        };
        writeln!(text, "    {} bytes at {place} are {}", cell.size.bytes(), words(&cell.value)).unwrap();
    }
    for bound in &contract.bounds {
        writeln!(text, "    {} + {} is at most {}", bound.left, bound.right, bound.max).unwrap();
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) => scalar.to_string(),
        Value::Pointer(pointer) => {
            let mut parts: Vec<String> = Vec::new();
            parts.extend(pointer.null.then(|| "null".into()));
            parts.extend(pointer.stack.map(|offset| format!("stack {offset}")));
            parts.extend(pointer.body.map(|offset| format!("body {offset}")));
            parts.extend(pointer.read_only.map(|offset| format!("read-only {offset}")));
            parts.extend((pointer.regions != 0).then(|| format!("regions {:#b}", pointer.regions)));
            parts.join(" or ")
        }
    }
}
