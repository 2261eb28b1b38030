//! The manifest: the proved summary of what a handler may touch, and its bounds. It drives access control, placement and the removal
//! of checks, and is recomputed and compared wherever a bundle is loaded.

use crate::abi::{Helper, Parameter, REGIONS_MAX, Rights};
use crate::cfg::Graph;
use crate::isa::Register;
use crate::program::Environment;
use crate::verifier::loops::executions;
use crate::verifier::value::Scalar;
use crate::verifier::{Call, Proof};
use minicbor::{Decode, Encode};

/// What one handler may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    /// Rights used on each region that the handler touches, ascending by region.
    #[n(0)]
    pub rights: Vec<(u16, Rights)>,
    /// Its UDMA operations, ascending by instruction; the index is the number of the suspension point.
    #[n(1)]
    pub operations: Vec<Operation>,
    /// UDMA operations that one message issues at most from its start on, if proved. One that is taken up in the middle of a loop, in a state that
    /// the contracts allow and no run has come to, may go round once more; its deployment's limit holds for it all the same.
    #[n(2)]
    pub udma_operations_max: Option<u64>,
    /// Instructions that one message executes at most, if proved.
    #[n(3)]
    pub instructions_max: Option<u64>,
    /// Whether some loop takes fuel.
    #[n(4)]
    pub metered: bool,
    /// Whether it can change a region.
    #[n(5)]
    pub has_effects: bool,
    /// Whether it asks for its executor's number, and so claims its message.
    #[n(6)]
    pub uses_executor: bool,
    /// Body bytes that it may read before it writes them: all that a request needs to carry.
    #[n(7)]
    pub request_bytes: u32,
    /// Body bytes that go back at most.
    #[n(8)]
    pub reply_bytes_max: u32,
    /// Bytes of its largest continuation, 0 if it has no suspension point.
    #[n(9)]
    pub continuation_bytes_max: u32,
}

/// One UDMA call of the handler's code.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Operation {
    /// Index of the instruction.
    #[n(0)]
    pub instruction: u32,
    /// Which operation.
    #[n(1)]
    pub helper: Helper,
    /// Regions it may be applied to: bit `i` is region `i`.
    #[n(2)]
    pub regions: u64,
    /// Offsets in the region.
    #[n(3)]
    pub offset: Scalar,
    /// Smallest length in bytes; 8 for atomics.
    #[n(4)]
    pub length_min: u32,
    /// Largest length in bytes; 8 for atomics.
    #[n(5)]
    pub length_max: u32,
}

impl Manifest {
    /// The manifest of a checked handler. `environment` is the one it was checked in.
    pub fn of(proof: &Proof, environment: &Environment) -> Manifest {
        let (function, contracts, analysis) = (proof.function(), proof.contracts(), proof.analysis());
        let udma: Vec<&Call> = analysis.calls.iter().filter(|call| call.helper.is_udma()).collect();
        let operations = contracts.suspensions.iter().filter_map(|suspension| {
            let call = udma.iter().find(|call| call.instruction == suspension.instruction)?;
            Some(operation(call))
        });
        let calls = |wanted: fn(Helper) -> bool| analysis.calls.iter().any(|call| wanted(call.helper));
        let (udma_operations_max, instructions_max) = bounds(proof);
        Manifest {
            rights: rights(&udma, environment),
            operations: operations.collect(),
            udma_operations_max,
            instructions_max,
            metered: analysis.loops.iter().any(|found| found.metered),
            has_effects: calls(Helper::has_effect),
            uses_executor: calls(|helper| helper == Helper::Executor),
            request_bytes: analysis.body_bytes_read.min(function.entry.body_bytes),
            reply_bytes_max: analysis.reply_bytes_max,
            continuation_bytes_max: contracts.largest_continuation().map_or(0, |contract| contract.continuation_bytes() as u32),
        }
    }
}

fn operation(call: &Call) -> Operation {
    let number = |register| call.numbers.iter().find(|(other, _)| *other == register).map(|(_, number)| *number);
    let length = match call.helper {
        Helper::Read | Helper::Write => number(Register::R4).map_or((0, u32::MAX), |n| (n.low_unsigned_min, n.low_unsigned_max)),
        _ => (8, 8),
    };
    Operation {
        instruction: call.instruction,
        helper: call.helper,
        regions: call.regions,
        offset: number(Register::R2).unwrap_or(Scalar::ANY),
        length_min: length.0,
        length_max: length.1,
    }
}

/// Rights by region, as the operations need them.
fn rights(udma: &[&Call], environment: &Environment) -> Vec<(u16, Rights)> {
    let used = |index: usize| {
        let on_region = udma.iter().filter(|call| call.regions >> index & 1 == 1);
        on_region.fold(Rights::NONE, |all, call| match call.helper.parameters().first() {
            Some(Parameter::Region(rights)) => all | *rights,
            _ => all,
        })
    };
    let regions = (0..environment.regions.len().min(REGIONS_MAX)).map(|index| (index as u16, used(index)));
    regions.filter(|(_, rights)| *rights != Rights::NONE).collect()
}

/// UDMA operations and instructions of one message at most, where every loop around them has a bound.
fn bounds(proof: &Proof) -> (Option<u64>, Option<u64>) {
    let Ok(graph) = Graph::new(&proof.function().instructions) else { return (None, None) };
    let executions = executions(&graph, &proof.analysis().loops);
    let instructions = graph
        .blocks()
        .iter()
        .zip(&executions)
        .try_fold(0u64, |sum, (block, count)| sum.checked_add((*count)?.checked_mul(u64::from(block.end - block.start))?));
    let operations = proof
        .analysis()
        .calls
        .iter()
        .filter(|call| call.helper.is_udma())
        .try_fold(0u64, |sum, call| sum.checked_add(executions[graph.block_of(call.instruction)?]?));
    (operations, instructions)
}
