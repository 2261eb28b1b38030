//! The `dma` backend of NIC executors: host memory behind a DMA engine with a latency.
//!
//! A SmartNIC reaches the host's memory over the bus, without any of the host's cores. Here the memory is mapped into the NIC place's
//! process and nothing of it is read or written before an operation's latency has passed: then the NIC's own thread performs it, and that is the
//! moment at which it takes effect. Operations complete in the order in which they were issued, many of them under way at a time.

use super::{Backend, Completion, NotIssued, Operation, Token};
use crate::memory::{Region, prefetch_lines};
use std::collections::VecDeque;

/// Latency of an operation, in nanoseconds, if nobody asks for another: the median of 64-byte reads that the engine of a Netronome
/// NFP-6000 SmartNIC makes from the memory of a Xeon E5 (Neugebauer et al., "Understanding PCIe performance for end host networking",
/// SIGCOMM 2018, section 6.2).
pub const LATENCY_NS_DEFAULT: u64 = 547;
/// Latency of an operation at most: a second. What takes longer is no engine's latency.
pub const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// Operations under way, each with the time at which it takes effect.
#[derive(Debug)]
pub struct Dma {
    latency_ns: u64,
    under_way: VecDeque<(u64, Token)>,
    room: usize,
}

impl Dma {
    /// An engine of this latency, with room for so many operations. With latency 0 they are due when they are next polled.
    pub fn new(latency_ns: u64, room: usize) -> Dma {
        Dma { latency_ns: latency_ns.min(LATENCY_NS_MAX), under_way: VecDeque::with_capacity(room), room }
    }
}

impl Backend for Dma {
    #[inline]
    fn issue(&mut self, now_ns: u64, token: Token, region: &Region, operation: &Operation, _: &[u8]) -> Result<(), NotIssued> {
        if region.remote_number().is_some() {
            return Err(NotIssued::Unreachable);
        }
        if self.under_way.len() == self.room {
            return Err(NotIssued::Full);
        }
        // Nothing takes effect by this: the thread that performs the operation when it is due need not wait for the host's memory then.
        prefetch_lines(region.address(operation.offset), operation.length_bytes);
        self.under_way.push_back((now_ns.saturating_add(self.latency_ns), token));
        Ok(())
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, completed: &mut dyn FnMut(Token, Completion<'_>)) {
        while let Some((due_ns, token)) = self.under_way.front().copied()
            && due_ns <= now_ns
        {
            self.under_way.pop_front();
            completed(token, Completion::Due);
        }
    }

    fn due_ns(&self) -> Option<u64> {
        self.under_way.front().map(|(due_ns, _)| *due_ns)
    }
}
