//! The interpreter: the reference engine, in safe Rust. Every other engine must agree with it in result, effects, fuel and errors.
//!
//! What an engine needs from its surroundings is the [`Environment`]: regions behind UDMA, and who executes.

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
#[repr(u16)]
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
