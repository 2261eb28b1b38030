//! The verifier: proves that a function touches nothing but its registers, its stack, its body and the regions it declares.
//!
//! [`infer`] finds contracts by a fixpoint with widening; [`check`] needs one linear pass to see that given contracts hold, and is all
//! that a node trusts. Both use the same transformer and the same checker.

pub mod arithmetic;
mod branch;
mod check;
mod checker;
pub mod comparison;
pub mod contract;
mod cut;
mod fixpoint;
pub(crate) mod flow;
pub(crate) mod loops;
mod memory;
mod pass;
mod scalar;
mod state;
mod suspend;
mod transfer;
pub mod value;
mod words;

use crate::cfg::Graph;
use crate::diagnostic::Finding;
use crate::isa::Register;
use crate::program::{Environment, Function};
use contract::{ByteRange, Contracts};
use value::Scalar;

/// A function that was checked: all that engines and continuations take. Only the verifier makes one.
#[derive(Clone, Debug)]
pub struct Proof {
    function: Function,
    contracts: Contracts,
    analysis: Analysis,
}

/// Finds contracts for a function. They are a proposal: only [`check`] decides whether they hold.
///
/// # Errors
///
/// Findings of control flow, or that the budget of steps is used up.
pub fn infer(function: &Function, environment: &Environment) -> Result<Contracts, Vec<Finding>> {
    let graph = Graph::new(&function.instructions)?;
    let mut candidates = fixpoint::infer(function, environment, &graph).ok_or_else(|| vec![check::too_complex()])?.candidates;
    // Later candidates are stronger, but only the first is sure to be a fixpoint.
    while candidates.len() > 1 {
        if let Some(last) = candidates.pop()
            && check::check(function, environment, &graph, &last).is_ok()
        {
            return Ok(last);
        }
    }
    Ok(candidates.pop().unwrap_or_default())
}

/// Sees in one pass whether `contracts`, wherever they come from, hold, and whether everything that the function does is allowed.
///
/// # Errors
///
/// Every independent finding, ascending by instruction.
pub fn check(function: &Function, environment: &Environment, contracts: &Contracts) -> Result<Analysis, Vec<Finding>> {
    let graph = Graph::new(&function.instructions)?;
    check::check(function, environment, &graph, contracts)
}

impl Proof {
    /// Infers contracts, prunes them to what is live, and checks them.
    ///
    /// # Errors
    ///
    /// Every independent finding, ascending by instruction.
    pub fn prove(function: Function, environment: &Environment) -> Result<Proof, Vec<Finding>> {
        let inferred = infer(&function, environment)?;
        let analysis = check(&function, environment, &inferred)?;
        let contracts = suspend::prune(&function, &inferred, &analysis);
        Proof::check(function, environment, contracts)
    }

    /// Checks contracts that came with a function.
    ///
    /// # Errors
    ///
    /// Every independent finding, ascending by instruction.
    pub fn check(function: Function, environment: &Environment, contracts: Contracts) -> Result<Proof, Vec<Finding>> {
        let analysis = check(&function, environment, &contracts)?;
        if let Some(finding) = suspend::too_long(&function, &contracts) {
            return Err(vec![finding]);
        }
        Ok(Proof { function, contracts, analysis })
    }

    /// The code.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// What holds at its cut points.
    pub fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// What was proved beyond the contracts.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }
}

/// What [`check`] proved of a function beyond its contracts: what engines may rely on, and what manifests are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Loads, stores and atomics, ascending by instruction. Unreachable ones are absent.
    pub accesses: Vec<Access>,
    /// Helper calls, ascending by instruction. Unreachable ones are absent.
    pub calls: Vec<Call>,
    /// Loops, ascending by head.
    pub loops: Vec<Loop>,
    /// Stack bytes that must be zeroed at entry: those not proved written before they are read. Ascending, disjoint.
    pub zeroed: Vec<ByteRange>,
    /// Body bytes that may be read before they are written: this prefix.
    pub body_bytes_read: u32,
    /// What r0 may be at exit.
    pub result: Option<Scalar>,
    /// Largest length given to `naam_reply`, or the body's size if a path does not call it.
    pub reply_bytes_max: u32,
}

/// The memory that a pointer may touch: the hull of the bytes, by kind. At least one is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Stack bytes, as offsets from the stack's first byte.
    pub stack: Option<ByteRange>,
    /// Body bytes, as offsets from the stack's first byte: they begin at [`crate::abi::STACK_BYTES`].
    pub body: Option<ByteRange>,
    /// Read-only bytes, as offsets into the read-only data.
    pub read_only: Option<ByteRange>,
}

/// A load, store or atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Index of the instruction.
    pub instruction: u32,
    /// What it may touch.
    pub touched: Touched,
    /// Whether the address is the same constant on every path (its range then has exactly the access's size).
    pub exact: bool,
}

/// A helper call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the instruction.
    pub instruction: u32,
    /// Which helper.
    pub helper: crate::abi::Helper,
    /// Regions that r1 may be: bit `i` is region `i`; 0 if the helper takes none.
    pub regions: u64,
    /// For every numeric parameter: what it may be (u32 parameters after truncation).
    pub numbers: Vec<(Register, Scalar)>,
    /// For every pointer parameter: what it may touch.
    pub memory: Vec<(Register, Touched)>,
    /// Pointer parameters whose address is the same constant on every path.
    pub exact: Vec<Register>,
}

/// A loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Index of its first instruction.
    pub head: u32,
    /// Largest number of times its back edges are taken each time it is entered, if proved.
    pub trips_max: Option<u64>,
    /// Whether its back edges take fuel: no bound was proved, or with it the handler would run over 2^20 instructions without fuel.
    pub metered: bool,
}
