//! Counters of executors, in memory that the supervisor reads while they run.
//!
//! Each executor writes its own two cache lines, once per turn; whoever reads sees numbers that may be a turn apart, never torn ones.

use crate::memory::{CACHE_LINE_BYTES, Mapping};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Words of an executor's block: two lines, so that neighbours' prefetchers do not fetch each other's.
const BLOCK_WORDS: usize = 2 * CACHE_LINE_BYTES / 8;

/// What an executor has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Messages taken: requests, continuations, and UDMA operations of clients.
    pub requests: u64,
    /// Those answered with a result.
    pub results: u64,
    /// Those answered with a runtime error.
    pub errors: u64,
    /// Duplicates dropped, or answered from a record.
    pub duplicates: u64,
    /// Suspensions of messages.
    pub suspensions: u64,
    /// UDMA operations executed.
    pub udma_operations: u64,
    /// Time in turns that did something, in nanoseconds.
    pub busy_ns: u64,
    /// Turns that did something.
    pub turns: u64,
    /// Times that the executor blocked.
    pub sleeps: u64,
}

/// Blocks of all executors of a node.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mapping>);

impl Metrics {
    /// Bytes that blocks of this many executors take.
    pub fn bytes(executors: usize) -> u64 {
        (executors * BLOCK_WORDS * 8) as u64
    }

    /// Blocks in this memory.
    pub fn new(mapping: Arc<Mapping>) -> Metrics {
        Metrics(mapping)
    }

    /// The block of an executor, for it alone to write; `None` if the memory is too short.
    pub fn writer(&self, block: usize) -> Option<MetricsWriter> {
        let start = block.checked_mul(BLOCK_WORDS)?;
        self.0.words().get(start..start + BLOCK_WORDS)?;
        Some(MetricsWriter { mapping: Some(self.0.clone()), start })
    }

    /// What an executor has counted; zeros if the memory has no such block.
    pub fn read(&self, block: usize) -> Counters {
        let words = block.checked_mul(BLOCK_WORDS).and_then(|start| self.0.words().get(start..start + BLOCK_WORDS));
        let at = |index: usize| words.map_or(0, |words| words[index].load(Ordering::Relaxed));
        Counters {
            requests: at(0),
            results: at(1),
            errors: at(2),
            duplicates: at(3),
            suspensions: at(4),
            udma_operations: at(5),
            busy_ns: at(6),
            turns: at(7),
            sleeps: at(8),
        }
    }
}

/// One executor's block.
#[derive(Debug)]
pub struct MetricsWriter {
    mapping: Option<Arc<Mapping>>,
    start: usize,
}

impl MetricsWriter {
    /// Counters that nobody reads.
    pub fn nowhere() -> MetricsWriter {
        MetricsWriter { mapping: None, start: 0 }
    }

    /// Publishes the counters.
    pub fn write(&self, counters: &Counters) {
        let Some(mapping) = &self.mapping else { return };
        let values = [
            counters.requests,
            counters.results,
            counters.errors,
            counters.duplicates,
            counters.suspensions,
            counters.udma_operations,
            counters.busy_ns,
            counters.turns,
            counters.sleeps,
        ];
        for (word, value) in mapping.words()[self.start..].iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
