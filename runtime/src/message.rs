//! Message headers: 64 little-endian bytes before every body (`docs/formats/message.md`).
//!
//! Bytes from outside go through [`Header::parse`] into values that cannot be illegal. What a header asks for (a deployment, a handler,
//! fuel) is still the sender's wish, and is judged by the executor.

use naamc::abi::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use naamc::interpreter::Failure;
use std::fmt;

/// Version of the format; 0 promises nothing.
pub const VERSION: u8 = 0;
/// Flows of a node: a message's flow is the low 10 bits of its key's hash, or of its session's id.
pub const FLOWS: usize = 1024;

/// The bytes of a header.
pub type HeaderBytes = [u8; HEADER_BYTES];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client asks a handler to run from its entry.
    Request = 1,
    /// The answer, with a result or a runtime error.
    Reply = 2,
    /// A handler under way, to be resumed at a suspension point.
    Continuation = 3,
}

/// Where a message ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Place {
    /// Nowhere: it was refused before it started.
    #[default]
    None = 0,
    /// In the client's own process.
    Client = 1,
    /// On the SmartNIC.
    Nic = 2,
    /// On a host core.
    Host = 3,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::None => "none",
            Place::Client => "client",
            Place::Nic => "nic",
            Place::Host => "host",
        })
    }
}

/// Why a request ended without a result. Travels in its own field, so it never shares numbers with handler results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u16)]
pub enum RuntimeError {
    /// Fuel for back edges is used up. Effects up to there have happened.
    #[error("the handler took more back edges than its limit")]
    BackEdgesExhausted = 1,
    /// Fuel for UDMA operations is used up. Effects up to there have happened.
    #[error("the handler issued more UDMA operations than its limit")]
    UdmaOperationsExhausted = 2,
    /// A region cannot be reached. Effects up to there have happened.
    #[error("a region cannot be reached")]
    RegionUnreachable = 3,
    /// The engine met a state that checked code cannot reach: a bug, or broken memory.
    #[error("the engine met a state that checked code cannot reach")]
    EngineFault = 5,
    /// The message is not one: lengths or fields contradict each other.
    #[error("malformed message")]
    Malformed = 16,
    /// No such deployment, or not of this generation any more.
    #[error("unknown deployment")]
    UnknownDeployment = 17,
    /// The deployment has no such handler.
    #[error("unknown handler")]
    UnknownHandler = 18,
    /// The session may not do this.
    #[error("not granted")]
    NotGranted = 19,
    /// The continuation is outside what its contract allows.
    #[error("bad continuation")]
    BadContinuation = 20,
    /// No room for it now. Nothing has happened.
    #[error("busy")]
    Busy = 21,
    /// Its executor died while it owned the request: effects may or may not have happened.
    #[error("uncertain: the executor died; effects may or may not have happened")]
    Uncertain = 22,
    /// The link has no room for the longest reply that the handler can give.
    #[error("the session's reply ring is too small for this handler's replies")]
    ReplyTooLong = 23,
}

impl RuntimeError {
    /// All of them.
    pub const ALL: [RuntimeError; 12] = [
        RuntimeError::BackEdgesExhausted,
        RuntimeError::UdmaOperationsExhausted,
        RuntimeError::RegionUnreachable,
        RuntimeError::EngineFault,
        RuntimeError::Malformed,
        RuntimeError::UnknownDeployment,
        RuntimeError::UnknownHandler,
        RuntimeError::NotGranted,
        RuntimeError::BadContinuation,
        RuntimeError::Busy,
        RuntimeError::Uncertain,
        RuntimeError::ReplyTooLong,
    ];

    /// The error with this number.
    pub fn from_number(number: u16) -> Option<RuntimeError> {
        RuntimeError::ALL.into_iter().find(|error| *error as u16 == number)
    }

    /// The error that a sender is told of when its handler failed; `None` if another execution of the request answers it.
    pub fn of(failure: Failure) -> Option<RuntimeError> {
        match failure {
            Failure::BackEdgesExhausted => Some(RuntimeError::BackEdgesExhausted),
            Failure::UdmaOperationsExhausted => Some(RuntimeError::UdmaOperationsExhausted),
            Failure::RegionUnreachable => Some(RuntimeError::RegionUnreachable),
            Failure::EngineFault => Some(RuntimeError::EngineFault),
            Failure::NotOwner => None,
        }
    }
}

/// Names a handler on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// Index of the deployment.
    pub deployment: u16,
    /// Its generation: a deployment's index may be used again, never with the same generation.
    pub generation: u16,
    /// Index of the handler in its bundle.
    pub handler: u16,
}

/// A header with legal values only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: Kind,
    /// The handler.
    pub target: Target,
    /// The client's session. In a request it says nothing: the executor knows the session by its link.
    pub session: u32,
    /// The session's slot that the request occupies.
    pub slot: u16,
    /// Number of the request within its slot, ascending and wrapping.
    pub sequence: u32,
    /// Identifies one run of a handler; all parts of its answer carry it. 0 before it runs.
    pub execution: u64,
    /// Bytes of the body that follows.
    pub body_bytes: u16,
    /// Bytes of the continuation that follows the body.
    pub continuation_bytes: u16,
    /// The handler's result. 0 unless this is a reply without an error.
    pub result: i32,
    /// The runtime error of a reply.
    pub error: Option<RuntimeError>,
    /// The executor that ran it.
    pub executor: u16,
    /// Where it ran.
    pub place: Place,
    /// The message's flow, below [`FLOWS`].
    pub flow: u16,
    /// Back edges of metered loops that are left: lowered to the deployment's limit on arrival.
    pub back_edges_left: u32,
    /// UDMA operations that are left: likewise.
    pub udma_operations_left: u32,
    /// How often it was suspended so far.
    pub suspensions: u32,
    /// UDMA operations executed so far.
    pub udma_operations: u32,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another version of the format.
    #[error("message format version {0}")]
    Version(u8),
    /// A field has a value that means nothing.
    #[error("a field has a value that means nothing")]
    Field,
    /// Lengths that contradict each other, or too many bytes.
    #[error("lengths that contradict each other")]
    Length,
}

impl Header {
    /// A request for a handler.
    pub fn request(target: Target, slot: u16, sequence: u32, flow: u16, body_bytes: u16) -> Header {
        Header {
            kind: Kind::Request,
            target,
            session: 0,
            slot,
            sequence,
            execution: 0,
            body_bytes,
            continuation_bytes: 0,
            result: 0,
            error: None,
            executor: 0,
            place: Place::None,
            flow,
            back_edges_left: u32::MAX,
            udma_operations_left: u32::MAX,
            suspensions: 0,
            udma_operations: 0,
        }
    }

    /// Bytes of the whole message: header, body and, at the next multiple of 8, the continuation.
    #[inline]
    pub fn message_bytes(&self) -> usize {
        match self.continuation_bytes {
            0 => HEADER_BYTES + usize::from(self.body_bytes),
            bytes => HEADER_BYTES + self.continuation_offset() + usize::from(bytes),
        }
    }

    /// Where the continuation begins, counted from the end of the header.
    pub fn continuation_offset(&self) -> usize {
        usize::from(self.body_bytes).next_multiple_of(8)
    }

    /// Slot and sequence number of bytes that may not be a header: where a refusal goes.
    pub fn return_address(bytes: &HeaderBytes) -> (u16, u32) {
        (u16::from_le_bytes([bytes[16], bytes[17]]), u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]))
    }

    /// Bytes of the whole message as its first field says, without a look at the rest. An allegation.
    pub fn length_field(bytes: &HeaderBytes) -> u32 {
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If some field has no meaning, or the lengths contradict each other.
    #[inline]
    pub fn parse(bytes: &HeaderBytes) -> Result<Header, Malformed> {
        let byte = |at: usize| bytes[at];
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if byte(4) != VERSION {
            return Err(Malformed::Version(byte(4)));
        }
        let kind = match byte(5) {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Continuation,
            _ => return Err(Malformed::Field),
        };
        let place = match byte(44) {
            0 => Place::None,
            1 => Place::Client,
            2 => Place::Nic,
            3 => Place::Host,
            _ => return Err(Malformed::Field),
        };
        let error = match half(40) {
            0 => None,
            number => Some(RuntimeError::from_number(number).ok_or(Malformed::Field)?),
        };
        if byte(45) != 0 || half(34) != 0 || usize::from(half(46)) >= FLOWS {
            return Err(Malformed::Field);
        }
        let header = Header {
            kind,
            target: Target { deployment: half(6), generation: half(8), handler: half(10) },
            session: word(12),
            slot: half(16),
            body_bytes: half(18),
            sequence: word(20),
            execution: u64::from(word(24)) | u64::from(word(28)) << 32,
            continuation_bytes: half(32),
            result: word(36) as i32,
            error,
            executor: half(42),
            place,
            flow: half(46),
            back_edges_left: word(48),
            udma_operations_left: word(52),
            suspensions: word(56),
            udma_operations: word(60),
        };
        let length = header.message_bytes();
        let continues = header.continuation_bytes > 0;
        if word(0) as usize != length || length > MESSAGE_BYTES_MAX || continues != (kind == Kind::Continuation) {
            return Err(Malformed::Length);
        }
        Ok(header)
    }

    /// Writes the header.
    #[inline]
    pub fn emit(&self) -> HeaderBytes {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(self.message_bytes() as u32).to_le_bytes());
        put(4, &[VERSION, self.kind as u8]);
        put(6, &self.target.deployment.to_le_bytes());
        put(8, &self.target.generation.to_le_bytes());
        put(10, &self.target.handler.to_le_bytes());
        put(12, &self.session.to_le_bytes());
        put(16, &self.slot.to_le_bytes());
        put(18, &self.body_bytes.to_le_bytes());
        put(20, &self.sequence.to_le_bytes());
        put(24, &self.execution.to_le_bytes());
        put(32, &self.continuation_bytes.to_le_bytes());
        put(36, &self.result.to_le_bytes());
        put(40, &self.error.map_or(0, |error| error as u16).to_le_bytes());
        put(42, &self.executor.to_le_bytes());
        put(44, &[self.place as u8, 0]);
        put(46, &self.flow.to_le_bytes());
        put(48, &self.back_edges_left.to_le_bytes());
        put(52, &self.udma_operations_left.to_le_bytes());
        put(56, &self.suspensions.to_le_bytes());
        put(60, &self.udma_operations.to_le_bytes());
        bytes
    }
}
