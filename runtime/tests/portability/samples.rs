//! The samples compute what the same C computes natively.

#[path = "../../../testdata/handlers/samples.rs"]
mod recorded;

use super::corpus::{self, Subject};
use super::drive;

#[test]
fn samples_compute_what_native_code_computes() {
    let mut cases = 0;
    for file in recorded::files() {
        let subject = Subject::load(&file.name);
        for engine in drive::engines() {
            for operations in [u32::MAX, 1] {
                run(&subject, &*engine, &file, operations);
                cases += file.cases.len();
            }
        }
    }
    println!("{cases} runs of samples");
    assert!(cases > 200, "{cases} cases are too few");
}

fn run(subject: &Subject, engine: &dyn runtime::engine::Engine, file: &recorded::File, operations: u32) {
    let declared = &subject.bundle.bundle().meaning.environment.regions;
    let contents: Vec<Vec<u8>> = declared.iter().map(|region| file.regions[&region.name].clone()).collect();
    let regions = corpus::regions(&contents);
    let programs = drive::compile(engine, &subject.bundle, &regions);
    for case in &file.cases {
        // Every case starts from the same regions.
        for (region, content) in regions.iter().zip(&contents) {
            assert_eq!(region.write(0, content), 0);
        }
        let handler = subject.bundle.handler(&case.handler).expect("the handler exists");
        let ending = drive::run(&*programs[handler], &case.request, &regions, operations);
        let context = format!("{}, {}/{} with {:02x?}", engine.name(), subject.name, case.handler, case.request);
        assert_eq!(ending.result, Ok(case.result), "{context}");
        assert_eq!(ending.reply, case.reply, "{context}");
        for (declared, region) in declared.iter().zip(regions.iter()) {
            let expected = case.after(file, &declared.name);
            let mut found = vec![0; expected.len()];
            assert_eq!(region.read(0, &mut found), 0);
            assert_eq!(found, expected, "{context}: region {}", declared.name);
        }
    }
}
