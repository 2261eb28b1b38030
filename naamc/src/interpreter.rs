//! The interpreter: the reference engine, in safe Rust. Every other engine must agree with it in result, effects, fuel and errors.
//!
//! What an engine needs from its surroundings is the [`Environment`]: regions behind UDMA, and who executes. Scheduling, and counting
//! how often a message was suspended, is the caller's.

mod arithmetic;
mod machine;

use crate::abi::{BODY_BYTES_MAX, Helper};
use crate::activation::Activation;
use crate::cfg::Graph;
use crate::isa::Instruction;
use crate::verifier::Proof;
use crate::verifier::contract::ByteRange;
use machine::Machine;
use std::sync::Arc;

/// A UDMA operation as a handler issues it. Lengths and places inside the activation are proved; the region access is not.
#[derive(Debug)]
pub enum Udma<'a> {
    /// Region bytes to memory.
    Read {
        /// Index among the bundle's regions.
        region: u16,
        /// Byte offset in the region.
        offset: u64,
        /// Where the bytes go.
        destination: &'a mut [u8],
    },
    /// Memory to region bytes.
    Write {
        /// Index among the bundle's regions.
        region: u16,
        /// Byte offset in the region.
        offset: u64,
        /// The bytes.
        source: &'a [u8],
    },
    /// Eight bytes become `desired` if they are `expected`.
    CompareSwap {
        /// Index among the bundle's regions.
        region: u16,
        /// Byte offset in the region, a multiple of 8.
        offset: u64,
        /// Value compared with.
        expected: u64,
        /// Value stored if equal.
        desired: u64,
        /// The old value.
        old: &'a mut u64,
    },
    /// Adds to eight bytes, wrapping.
    FetchAdd {
        /// Index among the bundle's regions.
        region: u16,
        /// Byte offset in the region, a multiple of 8.
        offset: u64,
        /// What is added.
        addend: u64,
        /// The old value.
        old: &'a mut u64,
    },
}

impl Udma<'_> {
    /// Index of the region it is applied to.
    pub fn region(&self) -> u16 {
        match self {
            Udma::Read { region, .. } | Udma::Write { region, .. } => *region,
            Udma::CompareSwap { region, .. } | Udma::FetchAdd { region, .. } => *region,
        }
    }
}

/// What became of a UDMA operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// It is done; r0 gets this: 0, `-EFAULT` or `-EINVAL`. If not 0, the engine zeroes destination or `old`.
    Done(i64),
    /// It is not executed: the engine suspends the message before it.
    Suspend,
    /// The message ends here.
    Failed(Failure),
}

/// Why a message ended without a result. These never share numbers with handler results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
// As wide as r0: an `Outcome` then travels in two registers.
#[repr(u64)]
pub enum Failure {
    /// Fuel for back edges is used up.
    #[error("the handler took more back edges than its limit")]
    BackEdgesExhausted = 1,
    /// Fuel for UDMA operations is used up.
    #[error("the handler issued more UDMA operations than its limit")]
    UdmaOperationsExhausted = 2,
    /// A region cannot be reached.
    #[error("a region cannot be reached")]
    RegionUnreachable = 3,
    /// Another execution of the same request owns its effects.
    #[error("another execution owns this request")]
    NotOwner = 4,
    /// The verifier and the engine disagree: checked code did what was proved impossible. Never happens; a test that sees it has found a
    /// bug.
    #[error("the engine stopped code that the verifier had proved harmless: this is a bug in naam")]
    EngineFault = 5,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned r0. A message's result is its low 32 bits, signed.
    Finished(u64),
    /// The message stands before the UDMA call that its activation names.
    Suspended,
    /// It ended without a result.
    Failed(Failure),
}

/// What an engine asks of its surroundings during a turn.
pub trait Environment {
    /// Executes, postpones or refuses a UDMA operation.
    fn udma(&mut self, operation: Udma<'_>) -> Issued;
    /// Bytes of a region.
    fn length_bytes(&mut self, region: u16) -> u64;
    /// The executor's number; claims the message.
    fn executor(&mut self) -> Result<u32, Failure>;
}

/// Sees what a handler does while it runs: for traces, and for tests that hold concrete states against proved ones.
pub trait Observer {
    /// The instruction at this index is about to be executed.
    fn before(&mut self, instruction: u32, activation: &Activation) {
        let _ = (instruction, activation);
    }

    /// The UDMA call at this suspension point was executed in this turn with this result; what it read is in the activation.
    fn executed(&mut self, point: u32, helper: Helper, activation: &Activation, result: i64) {
        let _ = (point, helper, activation, result);
    }
}

/// Sees nothing.
impl Observer for () {}

/// A checked handler, prepared for interpretation.
#[derive(Clone, Debug)]
pub struct Interpreter {
    steps: Box<[Step]>,
    /// Index of the UDMA call at every suspension point.
    points: Box<[u32]>,
    zeroed: Box<[ByteRange]>,
    body_bytes: usize,
    second_argument: Option<u64>,
    read_only: Arc<[u8]>,
}

/// An instruction and what else happens there.
#[derive(Clone, Copy, Debug)]
struct Step {
    instruction: Instruction,
    /// Going on with the following instruction takes fuel.
    following_metered: bool,
    /// Going to the target takes fuel.
    target_metered: bool,
    /// The suspension point, if this is a UDMA call; else [`NO_POINT`].
    point: u32,
}

const NO_POINT: u32 = u32::MAX;

impl Interpreter {
    /// Prepares a handler. `read_only` is the read-only data of the environment that it was checked against.
    pub fn new(proof: &Proof, read_only: Arc<[u8]>) -> Interpreter {
        let function = proof.function();
        let step = |instruction: &Instruction| Step {
            instruction: *instruction,
            following_metered: false,
            target_metered: false,
            point: NO_POINT,
        };
        let mut steps: Box<[Step]> = function.instructions.iter().map(step).collect();
        let points: Box<[u32]> = proof.contracts().suspensions.iter().map(|contract| contract.instruction).collect();
        for (point, at) in points.iter().enumerate() {
            if let Some(step) = steps.get_mut(*at as usize) {
                step.point = point as u32;
            }
        }
        let metered: Vec<u32> = proof.analysis().loops.iter().filter(|it| it.metered).map(|it| it.head).collect();
        // Checked code has a graph. Were there none, there were no checked code either.
        let graph = Graph::new(&function.instructions);
        let edges = graph.as_ref().map(Graph::retreating_edges).unwrap_or_default();
        for edge in edges.iter().filter(|edge| metered.binary_search(&edge.head).is_ok()) {
            let step = &mut steps[edge.from_instruction as usize];
            let target = match step.instruction {
                Instruction::Jump { target } | Instruction::JumpIf { target, .. } => Some(target),
                _ => None,
            };
            step.following_metered |= edge.from_instruction + 1 == edge.head;
            step.target_metered |= target == Some(edge.head);
        }
        Interpreter {
            steps,
            points,
            zeroed: proof.analysis().zeroed.clone().into(),
            body_bytes: (function.entry.body_bytes as usize).min(BODY_BYTES_MAX),
            second_argument: function.entry.second_argument,
            read_only,
        }
    }

    /// Runs a message from where its activation stands until it ends or suspends.
    ///
    /// Where `completed` is 1 the operation at the activation's point was executed while the message was suspended: whoever did that has
    /// left the destination (zeros after an error) in the activation; the fuel for it is taken here.
    pub fn run<E: Environment + ?Sized>(&self, activation: &mut Activation, environment: &mut E) -> Outcome {
        self.observe(activation, environment, &mut ())
    }

    /// Like [`Self::run`], with somebody who watches.
    pub fn observe<E, O>(&self, activation: &mut Activation, environment: &mut E, observer: &mut O) -> Outcome
    where
        E: Environment + ?Sized,
        O: Observer,
    {
        Machine { program: self, activation, environment, observer }.turn()
    }
}

#[cfg(test)]
mod tests;
