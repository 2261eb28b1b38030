//! The manifest: the proved summary of what a handler may touch, and its bounds. It drives access control, placement and the removal
//! of checks, and is recomputed and compared wherever a bundle is loaded.

use crate::abi::{Helper, Rights};
use crate::verifier::value::Scalar;

/// What one handler may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Rights used on each region that the handler touches, ascending by region.
    pub rights: Vec<(u16, Rights)>,
    /// Its UDMA operations, ascending by instruction; the index is the number of the suspension point.
    pub operations: Vec<Operation>,
    /// UDMA operations that one message issues at most, if proved.
    pub udma_operations_max: Option<u64>,
    /// Instructions that one message executes at most, if proved.
    pub instructions_max: Option<u64>,
    /// Whether some loop takes fuel.
    pub metered: bool,
    /// Whether it can change a region.
    pub has_effects: bool,
    /// Whether it asks for its executor's number, and so claims its message.
    pub uses_executor: bool,
    /// Body bytes that it may read before it writes them: all that a request needs to carry.
    pub request_bytes: u32,
    /// Body bytes that go back at most.
    pub reply_bytes_max: u32,
    /// Bytes of its largest continuation.
    pub continuation_bytes_max: u32,
}

/// One UDMA call of the handler's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of the instruction.
    pub instruction: u32,
    /// Which operation.
    pub helper: Helper,
    /// Regions it may be applied to: bit `i` is region `i`.
    pub regions: u64,
    /// Offsets in the region.
    pub offset: Scalar,
    /// Smallest length in bytes; 8 for atomics.
    pub length_min: u32,
    /// Largest length in bytes; 8 for atomics.
    pub length_max: u32,
}
