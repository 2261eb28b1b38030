//! What the shipped handlers compute, as eBPF in the interpreter: the samples what the same C computed natively, MICA what a table of
//! records must, Cell what a sorted map must, whether a message runs through, is suspended before every UDMA call, or leaves there as a
//! continuation and is resumed in an activation full of somebody else's bytes.

mod cell;
mod harness;
mod mica;
#[path = "../../../testdata/handlers/samples.rs"]
mod samples;
#[path = "../../../testdata/handlers/cell_tree.rs"]
mod tree;

use harness::{Handlers, JOURNEYS, Surroundings};
use naamc::memory::RegionMemory;

/// The samples give the results, replies and region contents that a native run of the same C gave.
#[test]
fn samples_compute_what_the_same_c_computes_natively() {
    let mut cases = 0;
    for file in samples::files() {
        let handlers = Handlers::load(&file.name, &[]);
        for case in &file.cases {
            for journey in JOURNEYS {
                let memory = handlers.regions.iter().map(|region| RegionMemory::new(file.regions[region].clone())).collect();
                let mut surroundings = Surroundings { regions: memory, executor: 1, operations_left: 0 };
                let (result, reply) = handlers.call(&case.handler, &case.request, &mut surroundings, journey);
                let context = format!("{} {:02x?} {journey:?}", case.handler, case.request);
                assert_eq!((result, &reply), (case.result, &case.reply), "{context}");
                for (region, memory) in handlers.regions.iter().zip(&surroundings.regions) {
                    assert_eq!(memory.bytes(), case.after(&file, region), "{context}: region {region}");
                }
            }
        }
        cases += file.cases.len();
    }
    assert!(cases >= 300, "{cases} cases");
}
