//! Steering: the flow table, through which clients know where to send.
//!
//! A flow's entry is the number of an executor, or [`CLIENT`]. The supervisor writes the table, clients and places map it read-only. An executor
//! serves a new message even if the table sends its flow elsewhere; what it has under way when that changes leaves if it may.

use crate::memory::{CACHE_LINE_BYTES, Mapping, ReadOnlyMapping};
use crate::message::FLOWS;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entry of a flow that is served in the client's own process. Executor numbers are 16 bits, so none is this.
pub const CLIENT: u32 = 1 << 31;
/// Entry of a flow that nobody serves yet.
pub const NOBODY: u32 = 0;

/// Bytes of a flow table: entries of 32 bits, two in a word, the even one low; then, on a line of its own, how often executors came or went,
/// and how often entries were changed.
pub const FLOW_TABLE_BYTES: u64 = FLOWS as u64 * 4 + CACHE_LINE_BYTES as u64;
/// Index of the word that counts executors' coming and going.
const CHANGES: usize = FLOWS / 2;
/// Index of the word that counts changes of entries.
const STEERINGS: usize = CHANGES + 1;

/// The flow of a message whose key hashes to this, or of a session with this id.
#[inline]
pub fn flow_of(hash: u64) -> u16 {
    (hash % FLOWS as u64) as u16
}

/// The table as its writer sees it: the supervisor.
#[derive(Clone, Debug)]
pub struct FlowTable(Arc<Mapping>);

impl FlowTable {
    /// A table in this memory; `None` if it is too short.
    pub fn new(mapping: Arc<Mapping>) -> Option<FlowTable> {
        (mapping.length_bytes() >= FLOW_TABLE_BYTES).then_some(FlowTable(mapping))
    }

    /// Sets the entry of a flow: one atomic store, seen by every client's next message. Flows beyond the table do not exist.
    pub fn set(&self, flow: u16, entry: u32) {
        let Some(word) = self.0.words().get(usize::from(flow) / 2).filter(|_| usize::from(flow) < FLOWS) else { return };
        let shift = u32::from(flow % 2) * 32;
        let _ = word.fetch_update(Ordering::Release, Ordering::Relaxed, |old| {
            Some(old & !(u64::from(u32::MAX) << shift) | u64::from(entry) << shift)
        });
    }

    /// The entry of a flow.
    pub fn get(&self, flow: u16) -> u32 {
        let word = self.0.words().get(usize::from(flow) / 2).map_or(0, |word| word.load(Ordering::Acquire));
        half(word, flow)
    }

    /// How often executors came or went.
    pub fn changes(&self) -> u64 {
        self.0.words()[CHANGES].load(Ordering::Relaxed)
    }

    /// Lets every client know that executors came or went, after it was told of it.
    pub fn announce(&self) {
        self.0.words()[CHANGES].fetch_add(1, Ordering::Release);
    }

    /// Lets every executor know that entries were changed.
    pub fn announce_steering(&self) {
        self.0.words()[STEERINGS].fetch_add(1, Ordering::Release);
    }
}

/// The table as a client sees it.
#[derive(Clone, Debug)]
pub struct FlowView(Arc<ReadOnlyMapping>);

impl FlowView {
    /// A table in this memory; `None` if it is too short.
    pub fn new(mapping: Arc<ReadOnlyMapping>) -> Option<FlowView> {
        (mapping.length_bytes() >= FLOW_TABLE_BYTES).then_some(FlowView(mapping))
    }

    /// The entry of a flow: an executor's number or [`CLIENT`].
    #[inline]
    pub fn get(&self, flow: u16) -> u32 {
        half(self.0.load(usize::from(flow) / 2, Ordering::Acquire).unwrap_or(0), flow)
    }

    /// How often executors came or went: the client was told each time, or is about to be.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.0.load(CHANGES, Ordering::Acquire).unwrap_or(0)
    }

    /// How often entries were changed.
    #[inline]
    pub fn steerings(&self) -> u64 {
        self.0.load(STEERINGS, Ordering::Acquire).unwrap_or(0)
    }
}

#[inline]
fn half(word: u64, flow: u16) -> u32 {
    (word >> (u32::from(flow % 2) * 32)) as u32
}
