//! Running one message in different ways that must not differ.

use naamc::abi::Helper;
use naamc::activation::Activation;
use naamc::interpreter::{Failure, Outcome};
use runtime::engine::{Engine, Program, Turn};
use runtime::memory::Regions;
use runtime::udma::Operation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Fuel of a message in these tests: enough for every honest one, little enough that spinning on nonsense ends soon.
pub const BACK_EDGES: u32 = 1 << 17;
/// As above.
pub const UDMA_OPERATIONS: u32 = 300;
/// Number of the executor; handlers write it into lock words.
pub const EXECUTOR: u32 = 7;

/// All that a message leaves behind, apart from regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The handler's result, or the number of the failure.
    pub result: Result<i32, u16>,
    /// The reply; nothing after a failure.
    pub reply: Vec<u8>,
    /// Fuel left: back edges, UDMA operations.
    pub fuel: (u32, u32),
}

impl Ending {
    /// Of an activation after its last turn.
    pub fn of(outcome: Outcome, activation: &Activation) -> Ending {
        let fuel = (activation.back_edges_left, activation.udma_operations_left);
        match outcome {
            Outcome::Finished(result) => {
                Ending { result: Ok(result as i32), reply: activation.body()[..activation.reply_bytes as usize].to_vec(), fuel }
            }
            Outcome::Failed(failure) => {
                assert_ne!(failure, Failure::EngineFault, "verifier and engine disagree");
                Ending { result: Err(failure as u16), reply: Vec::new(), fuel }
            }
            Outcome::Suspended => panic!("a suspended message has not ended"),
        }
    }
}

/// One turn with this many UDMA operations.
pub fn turn(program: &dyn Program, activation: &mut Activation, regions: &Regions, operations: u32) -> Outcome {
    let mut turn = Turn::new(regions, EXECUTOR);
    turn.operations_left = operations;
    program.run(activation, &mut turn)
}

/// Runs a message to its end, in turns of at most `operations` UDMA operations; with 1 it is suspended before every call.
pub fn run(program: &dyn Program, body: &[u8], regions: &Regions, operations: u32) -> Ending {
    let mut activation = Activation::new_boxed();
    activation.begin(body, BACK_EDGES, UDMA_OPERATIONS);
    let mut outcome = turn(program, &mut activation, regions, if operations == 1 { 0 } else { operations });
    while outcome == Outcome::Suspended {
        outcome = turn(program, &mut activation, regions, operations);
    }
    Ending::of(outcome, &activation)
}

/// Runs a message to its end with regions behind a DMA engine: before every call it is suspended, and the operation is performed. `operations`
/// has the helper at each suspension point.
pub fn run_behind_dma(program: &dyn Program, body: &[u8], regions: &Regions, operations: &[Helper], read_only: &[u8]) -> Ending {
    let mut activation = Activation::new_boxed();
    activation.begin(body, BACK_EDGES, UDMA_OPERATIONS);
    let mut outcome = turn(program, &mut activation, regions, u32::MAX);
    while outcome == Outcome::Suspended {
        let operation = Operation::pending(&activation, operations[activation.point as usize]).expect("an operation");
        operation.perform(&regions[usize::from(operation.region)], &mut activation, read_only);
        outcome = turn(program, &mut activation, regions, u32::MAX);
    }
    Ending::of(outcome, &activation)
}

/// Both engines.
pub fn engines() -> [Box<dyn Engine>; 2] {
    [Box::new(runtime::engine::InterpreterEngine), Box::new(runtime::engine::jit::JitEngine)]
}

/// Every handler of a bundle, prepared by an engine.
pub fn compile(engine: &dyn Engine, bundle: &naamc::bundle::CheckedBundle, regions: &Regions) -> Vec<Arc<dyn Program>> {
    let environment = &bundle.bundle().meaning.environment;
    let one = |proof| engine.compile(proof, environment, regions).expect("a checked handler compiles");
    bundle.proofs().iter().map(one).collect()
}
