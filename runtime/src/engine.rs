//! Engines: what executes checked handlers, and what one turn of an executor offers them.
//!
//! Every engine gives equal results, effects, fuel and errors; an activation that one engine suspended another can resume. Engines
//! know local region memory only as [`LocalRegion`]s, and everything else (remote regions, effects, claims) only as the turn's
//! [`Environment`]. Scheduling, claiming and prefetching belong to the executor.

use naamc::activation::Activation;
use naamc::interpreter::{Environment, Outcome};
use naamc::program;
use naamc::verifier::Proof;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Turns checked handlers into programs that run.
pub trait Engine: Send + Sync {
    /// Its name, for reports: `interpreter` or `jit`.
    fn name(&self) -> &'static str;

    /// Prepares a handler. `environment` is the one that it was checked against.
    ///
    /// # Errors
    /// If this machine cannot run it: out of memory, or nothing that the code generator can emit code for.
    fn compile(&self, proof: &Arc<Proof>, environment: &program::Environment) -> Result<Arc<dyn Program>, EngineError>;
}

/// A handler that is ready to run, on any thread.
pub trait Program: Send + Sync {
    /// Runs a message from where its activation stands until it ends or suspends.
    ///
    /// The activation is fresh (`point` is `POINT_START`), or was suspended by this handler on any engine, or was decoded against
    /// this handler's proof. Allocates nothing.
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome;
}

/// Why a handler cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The code generator has no back end for this machine, or refused the code.
    #[error("cannot generate code: {0}")]
    CodeGeneration(String),
    /// No memory for the code.
    #[error("cannot map memory for code")]
    CodeMemory(#[source] std::io::Error),
}

/// What an executor offers an engine while it runs one message.
pub struct Turn<'a> {
    /// The regions of the handler's bundle by index. Reads of a local one may bypass `environment`; nothing else does.
    pub regions: &'a [LocalRegion<'a>],
    /// Executes everything that is not a read of a local region.
    pub environment: &'a mut dyn Environment,
    /// Whether a read of more than [`PREFETCHED_READ_BYTES_MIN`] bytes of a local region first suspends and leaves `wanted`, so that the
    /// executor can prefetch and run another message. Resumed, the read is executed at once.
    pub prefetch: bool,
    /// UDMA operations until the next one suspends instead (turn budget, apart from fuel). Counts down.
    pub operations_left: u32,
    /// The read before which the message was suspended because of `prefetch`.
    pub wanted: Option<Wanted>,
}

/// Reads up to this long never suspend to be prefetched: one word, as versions and lock words are.
pub const PREFETCHED_READ_BYTES_MIN: u32 = 8;

/// A read that is about to be executed. Nothing of it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Index among the bundle's regions.
    pub region: u16,
    /// Byte offset in the region.
    pub offset: u64,
    /// Bytes.
    pub length_bytes: u32,
}

/// A region as an engine sees it: words of this process's memory, or nothing if it has to be reached through the environment.
///
/// `repr(C)`: compiled code reads both fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LocalRegion<'a> {
    base: *const AtomicU64,
    length_bytes: u64,
    words: PhantomData<&'a [AtomicU64]>,
}

impl<'a> LocalRegion<'a> {
    /// A region that is not in this process's memory.
    pub const REMOTE: LocalRegion<'static> = LocalRegion { base: std::ptr::null(), length_bytes: 0, words: PhantomData };

    /// A region of `length_bytes` in these words, of which the last may lie beyond it in part.
    ///
    /// # Panics
    /// If the words are fewer than the bytes need.
    pub fn new(words: &'a [AtomicU64], length_bytes: u64) -> LocalRegion<'a> {
        assert!(length_bytes <= words.len() as u64 * 8, "a region lies inside its words");
        LocalRegion { base: words.as_ptr(), length_bytes, words: PhantomData }
    }

    /// Whether it is in this process's memory.
    pub fn is_local(&self) -> bool {
        !self.base.is_null()
    }

    /// Its length; 0 if it is not local.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}
