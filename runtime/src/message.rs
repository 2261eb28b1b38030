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

/// The bytes of a header as eight little-endian words: what links copy, so that no byte of it goes through memory twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderWords(pub [u64; HEADER_BYTES / 8]);

impl HeaderWords {
    /// The header in these bytes.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> HeaderWords {
        let (words, _) = bytes.as_chunks::<8>();
        HeaderWords(std::array::from_fn(|index| u64::from_le_bytes(words[index])))
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    /// Bytes of the whole message as its first field says, without a look at the rest. An allegation.
    #[inline]
    pub fn length_field(&self) -> u32 {
        self.0[0] as u32
    }

    /// Fuel that is left: back edges and UDMA operations. In a request an allegation too.
    #[inline]
    pub fn fuel(&self) -> (u32, u32) {
        (self.0[6] as u32, (self.0[6] >> 32) as u32)
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client asks a handler to run from its entry.
    #[default]
    Request = 1,
    /// The answer, with a result or a runtime error.
    Reply = 2,
    /// A handler under way, to be resumed at a suspension point.
    Continuation = 3,
    /// A UDMA operation ([`crate::udma::wire`]) on the region that the target names in place of a handler.
    Udma = 4,
}

/// Where a message ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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

impl Place {
    /// Its name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Place::None => "none",
            Place::Client => "client",
            Place::Nic => "nic",
            Place::Host => "host",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
    /// Its executor died, or the link to it broke, while the request was under way: effects may or may not have happened.
    #[error("its executor died while the request was under way; if the handler has effects, they may or may not have happened")]
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

    /// Whether nothing of the message has run. If so, nothing has happened; with [`RuntimeError::Uncertain`] nobody knows; else what the
    /// handler did up to there stays done.
    pub fn is_refusal(self) -> bool {
        match self {
            RuntimeError::Malformed
            | RuntimeError::UnknownDeployment
            | RuntimeError::UnknownHandler
            | RuntimeError::NotGranted
            | RuntimeError::BadContinuation
            | RuntimeError::Busy
            | RuntimeError::ReplyTooLong => true,
            RuntimeError::BackEdgesExhausted
            | RuntimeError::UdmaOperationsExhausted
            | RuntimeError::RegionUnreachable
            | RuntimeError::EngineFault
            | RuntimeError::Uncertain => false,
        }
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

/// What of a request's header goes back in its answer, in the words that it arrived in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    words: [u64; 3],
    flow: u16,
}

impl Origin {
    /// Of a request; `None` if [`Header::parse`] finds no header or not one of a request. Says the same, by fewer instructions: whole
    /// words are checked by masks.
    #[inline]
    pub fn of_request(header: &HeaderWords) -> Option<Origin> {
        /// Reserved bits, and those that are zero in every place and flow.
        const ZERO: u64 = !(FLOWS as u64 - 1) << 48 | 0xff << 40 | (!(Place::Host as u64) & 0xff) << 32;
        let [w0, _, w2, _, w4, w5, ..] = header.0;
        let (body_bytes, error) = ((w2 >> 16) as u16, w5 as u16);
        let is_request = (w0 >> 32) as u16 == u16::from(VERSION) | (Kind::Request as u16) << 8;
        let message_bytes = HEADER_BYTES as u32 + u32::from(body_bytes);
        let adds_up = w0 as u32 == message_bytes && message_bytes as usize <= MESSAGE_BYTES_MAX;
        let legal = is_request && adds_up && w4 as u32 == 0 && w5 & ZERO == 0;
        (legal && (error == 0 || RuntimeError::from_number(error).is_some())).then_some(Origin::of_header(header))
    }

    /// Of any header.
    #[inline]
    pub fn of_header(header: &HeaderWords) -> Origin {
        let [w0, w1, w2, _, _, w5, ..] = header.0;
        Origin { words: [w0, w1, w2], flow: (w5 >> 48) as u16 }
    }

    /// Of what may not be a header: nothing but where a refusal goes.
    pub fn of_unknown(header: &HeaderWords) -> Origin {
        Origin { words: [0, 0, header.0[2]], flow: 0 }
    }

    /// The handler.
    #[inline]
    pub fn target(&self) -> Target {
        let [w0, w1, _] = self.words;
        Target { deployment: (w0 >> 48) as u16, generation: w1 as u16, handler: (w1 >> 16) as u16 }
    }

    /// The session's slot that the request occupies.
    #[inline]
    pub fn slot(&self) -> u16 {
        self.words[2] as u16
    }

    /// Number of the request within its slot.
    #[inline]
    pub fn sequence(&self) -> u32 {
        (self.words[2] >> 32) as u32
    }

    /// Bytes of the request's body.
    #[inline]
    pub fn body_bytes(&self) -> u16 {
        (self.words[2] >> 16) as u16
    }

    /// The message's flow.
    #[inline]
    pub fn flow(&self) -> u16 {
        self.flow
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
            bytes => naamc::abi::message_bytes(usize::from(self.body_bytes), usize::from(bytes)),
        }
    }

    /// Where the continuation begins, counted from the end of the header.
    pub fn continuation_offset(&self) -> usize {
        usize::from(self.body_bytes).next_multiple_of(8)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If some field has no meaning, or the lengths contradict each other.
    #[inline]
    pub fn parse(header: &HeaderWords) -> Result<Header, Malformed> {
        let [w0, w1, w2, execution, w4, w5, w6, w7] = header.0;
        let version = (w0 >> 32) as u8;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let kind = match (w0 >> 40) as u8 {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Continuation,
            4 => Kind::Udma,
            _ => return Err(Malformed::Field),
        };
        let place = match (w5 >> 32) as u8 {
            0 => Place::None,
            1 => Place::Client,
            2 => Place::Nic,
            3 => Place::Host,
            _ => return Err(Malformed::Field),
        };
        let error = match w5 as u16 {
            0 => None,
            number => Some(RuntimeError::from_number(number).ok_or(Malformed::Field)?),
        };
        let (flow, reserved) = ((w5 >> 48) as u16, (w4 >> 16) as u16 | u16::from((w5 >> 40) as u8));
        if reserved != 0 || usize::from(flow) >= FLOWS {
            return Err(Malformed::Field);
        }
        let header = Header {
            kind,
            target: Target { deployment: (w0 >> 48) as u16, generation: w1 as u16, handler: (w1 >> 16) as u16 },
            session: (w1 >> 32) as u32,
            slot: w2 as u16,
            body_bytes: (w2 >> 16) as u16,
            sequence: (w2 >> 32) as u32,
            execution,
            continuation_bytes: w4 as u16,
            result: (w4 >> 32) as i32,
            error,
            executor: (w5 >> 16) as u16,
            place,
            flow,
            back_edges_left: w6 as u32,
            udma_operations_left: (w6 >> 32) as u32,
            suspensions: w7 as u32,
            udma_operations: (w7 >> 32) as u32,
        };
        let length = header.message_bytes();
        let continues = header.continuation_bytes > 0;
        if w0 as u32 as usize != length || length > MESSAGE_BYTES_MAX || continues != (kind == Kind::Continuation) {
            return Err(Malformed::Length);
        }
        Ok(header)
    }

    /// Writes the header. Always inline: a header that is built to be sent never exists in memory.
    #[inline(always)]
    pub fn emit(&self) -> HeaderWords {
        let error = self.error.map_or(0, |error| error as u16);
        let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let quarters = |parts: [u16; 4]| parts.iter().rev().fold(0, |word, part| word << 16 | u64::from(*part));
        let Target { deployment, generation, handler } = self.target;
        HeaderWords([
            halves(self.message_bytes() as u32, 0)
                | u64::from(VERSION) << 32
                | (self.kind as u64) << 40
                | u64::from(deployment) << 48,
            quarters([generation, handler, 0, 0]) | u64::from(self.session) << 32,
            quarters([self.slot, self.body_bytes, 0, 0]) | u64::from(self.sequence) << 32,
            self.execution,
            halves(u32::from(self.continuation_bytes), self.result as u32),
            quarters([error, self.executor, self.place as u16, self.flow]),
            halves(self.back_edges_left, self.udma_operations_left),
            halves(self.suspensions, self.udma_operations),
        ])
    }
}
