//! The private memory of one message under way, the same for every engine.
//!
//! Registers hold canonical addresses ([`crate::abi::address`]) and plain numbers, never machine addresses: an activation that one
//! engine suspended another can resume, and a continuation is a plain copy of its live parts.

use crate::abi::{BODY_BYTES_MAX, REGISTERS_MAX, STACK_BYTES};

/// Suspension point of an activation that has not started.
pub const POINT_START: u32 = u32::MAX;

/// One message under way. Only its executor touches it.
///
/// Compiled code reaches the fields by their offsets, hence `repr(C)`; the memory is 64-byte aligned because everything before it is.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Activation {
    /// Where it stands: the number of a suspension point, before its UDMA call, or [`POINT_START`].
    pub point: u32,
    /// 1 if the UDMA call at `point` has completed while the message was suspended: resuming goes on after it, with r0 = `completion`.
    pub completed: u32,
    /// Result of the completed call.
    pub completion: i64,
    /// Back edges of metered loops that are left.
    pub back_edges_left: u32,
    /// UDMA operations that are left. An operation counts when it is executed, not when it is suspended before.
    pub udma_operations_left: u32,
    /// Bytes of the reply: the body's size, unless the handler said less.
    pub reply_bytes: u32,
    /// UDMA operations executed so far, and suspensions: for the reply header.
    pub udma_operations: u32,
    /// How often the message was suspended.
    pub suspensions: u32,
    /// Bytes of the body, from its first on, that may hold something; those behind them are zero. Whoever writes to the body raises it
    /// ([`Activation::note_written`]), so that the next message of an activation clears no more than it must.
    pub body_used: u32,
    /// Registers by [`crate::isa::Register::index`]. At a suspension only the contract's are meaningful.
    pub registers: [u64; REGISTERS_MAX],
    /// Rounds what is above to whole cache lines.
    pub padding: [u64; 4],
    /// Stack, then body.
    pub memory: [u8; STACK_BYTES + BODY_BYTES_MAX],
}

const _: () = assert!(std::mem::offset_of!(Activation, memory).is_multiple_of(64));

impl Activation {
    /// A zeroed activation on the heap.
    pub fn new_boxed() -> Box<Activation> {
        Box::new(Activation {
            point: POINT_START,
            completed: 0,
            completion: 0,
            back_edges_left: 0,
            udma_operations_left: 0,
            reply_bytes: 0,
            udma_operations: 0,
            suspensions: 0,
            body_used: 0,
            registers: [0; REGISTERS_MAX],
            padding: [0; 4],
            memory: [0; STACK_BYTES + BODY_BYTES_MAX],
        })
    }

    /// Makes it a message that has not started: with this body, and fuel. Nothing of what it held before can be seen by the handler:
    /// stack bytes are zeroed or written before they are read, and the reply is a part of the body.
    ///
    /// # Panics
    /// If the body is larger than [`BODY_BYTES_MAX`].
    pub fn begin(&mut self, body: &[u8], back_edges: u32, udma_operations: u32) {
        self.point = POINT_START;
        self.completed = 0;
        self.completion = 0;
        self.back_edges_left = back_edges;
        self.udma_operations_left = udma_operations;
        self.reply_bytes = body.len() as u32;
        self.udma_operations = 0;
        self.suspensions = 0;
        // Whoever runs it may write anywhere.
        self.body_used = BODY_BYTES_MAX as u32;
        self.body_mut()[..body.len()].copy_from_slice(body);
    }

    /// Notes that bytes of the memory up to this offset were written.
    #[inline]
    pub fn note_written(&mut self, memory_end: usize) {
        self.body_used = self.body_used.max(memory_end.saturating_sub(STACK_BYTES) as u32);
    }

    /// The body, as large as it can be.
    pub fn body(&self) -> &[u8] {
        &self.memory[STACK_BYTES..]
    }

    /// The body, as large as it can be.
    pub fn body_mut(&mut self) -> &mut [u8] {
        &mut self.memory[STACK_BYTES..]
    }
}
