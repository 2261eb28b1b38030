//! The samples compute what the same C computes natively: `testdata/handlers/samples.txt` holds what the native build did.

use super::corpus::{self, Subject};
use super::drive;
use std::collections::BTreeMap;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes();
    assert!(digits.len().is_multiple_of(2), "bytes have two digits");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal digits");
    digits.chunks(2).map(byte).collect()
}

/// What a case expects.
#[derive(Default)]
struct Case {
    handler: String,
    body: Vec<u8>,
    result: i32,
    reply: Vec<u8>,
    after: Vec<(String, Vec<u8>)>,
}

#[test]
fn samples_compute_what_native_code_computes() {
    let path = corpus::path("counter").with_file_name("samples.txt");
    let text = std::fs::read_to_string(path).expect("the expectations can be read");
    let mut cases = 0;
    for part in text.split("file ").skip(1) {
        let (name, rest) = part.split_once('\n').expect("a file has cases");
        let subject = Subject::load(name.trim());
        let mut initial = BTreeMap::new();
        let mut list: Vec<Case> = Vec::new();
        for line in rest.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["region", name, content] => drop(initial.insert(name.to_string(), bytes(content))),
                ["case", handler, body] => list.push(Case { handler: handler.to_string(), body: bytes(body), ..Case::default() }),
                ["result", result] => list.last_mut().expect("a case").result = result.parse().expect("a number"),
                ["reply"] => {}
                ["reply", reply] => list.last_mut().expect("a case").reply = bytes(reply),
                ["after", name, content] => list.last_mut().expect("a case").after.push((name.to_string(), bytes(content))),
                [] => {}
                _ => panic!("samples.txt: {line}"),
            }
        }
        for engine in drive::engines() {
            for operations in [u32::MAX, 1] {
                run(&subject, &*engine, &initial, &list, operations);
                cases += list.len();
            }
        }
    }
    println!("{cases} runs of samples");
    assert!(cases > 200, "{cases} cases are too few");
}

fn run(
    subject: &Subject,
    engine: &dyn runtime::engine::Engine,
    initial: &BTreeMap<String, Vec<u8>>,
    cases: &[Case],
    operations: u32,
) {
    let declared = &subject.bundle.bundle().meaning.environment.regions;
    let position = |name: &str| declared.iter().position(|region| region.name == name).expect("the region is declared");
    let contents: Vec<Vec<u8>> = declared.iter().map(|region| initial[&region.name].clone()).collect();
    let regions = corpus::regions(&contents);
    let programs = drive::compile(engine, &subject.bundle, &regions);
    for case in cases {
        // Every case starts from the same regions.
        for (region, content) in regions.iter().zip(&contents) {
            assert_eq!(region.write(0, content), 0);
        }
        let handler = subject.bundle.handler(&case.handler).expect("the handler exists");
        let ending = drive::run(&*programs[handler], &case.body, &regions, operations);
        let context = format!("{}, {}/{} with {:02x?}", engine.name(), subject.name, case.handler, case.body);
        assert_eq!(ending.result, Ok(case.result), "{context}");
        assert_eq!(ending.reply, case.reply, "{context}");
        for (name, content) in &case.after {
            let mut found = vec![0; content.len()];
            assert_eq!(regions[position(name)].read(0, &mut found), 0);
            assert_eq!(&found, content, "{context}: region {name}");
        }
    }
}
