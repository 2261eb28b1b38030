//! Engines: what runs a handler, and the turn in which it runs.
//!
//! An executor knows handlers as [`Program`]s and nothing of what is behind them: the interpreter, compiled code, or native Rust that
//! serves as a yardstick. All of them act on an [`Activation`] and reach regions through a [`Turn`], by the same rules.

#[cfg(feature = "jit")]
#[allow(unsafe_code)]
pub mod jit;

use crate::memory::{Region, Regions, prefetch_lines};
use crate::session::{Owner, Request, SlotTable, Standing};
use naamc::abi::BODY_BYTES_MAX;
use naamc::activation::Activation;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use naamc::program;
use naamc::verifier::Proof;
use std::sync::Arc;

#[cfg(feature = "jit")]
pub(crate) use jit::Surroundings;
/// Without compiled code there is nothing that it reaches.
#[cfg(not(feature = "jit"))]
pub(crate) enum Surroundings {}

/// UDMA operations that a message executes in one turn at most: then another message gets the core.
pub const TURN_UDMA_OPERATIONS_MAX: u32 = 64;
/// Reads of more bytes than this of a cold region are prefetched and suspend; shorter ones are executed at once.
pub const SHORT_READ_BYTES_MAX: u32 = 8;

/// Turns checked handlers into programs that run.
pub trait Engine: Send + Sync {
    /// Its name, for reports: `interpreter` or `jit`.
    fn name(&self) -> &'static str;

    /// Prepares a handler for these regions. `environment` is the one that it was checked against; `regions` are those that its turns
    /// will offer, or others of the same extents: code may rely on these, but not on where regions are mapped.
    ///
    /// # Errors
    /// If this machine cannot run it: out of memory, or nothing that the code generator can emit code for.
    fn compile(
        &self,
        proof: &Arc<Proof>,
        environment: &program::Environment,
        regions: &Regions,
    ) -> Result<Arc<dyn Program>, EngineError>;
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

/// A handler that is ready to run, on any thread.
pub trait Program: Send + Sync {
    /// Runs until the message ends, or stands before a UDMA operation that must wait.
    ///
    /// If `activation.point` is [`naamc::activation::POINT_START`] it starts at the handler's entry, else it goes on at that point: after
    /// the call with its `completion` if `completed` is 1, else with the call itself. Before it returns
    /// [`Outcome::Suspended`] the point is set and its live registers are in the activation: r1 to r5 hold the operation's arguments. Allocates nothing.
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome;

    /// Bytes of the body, from its first on, that it may write without noting it ([`Activation::note_written`]): whoever begins a message
    /// notes as many. By default all of the body.
    fn unnoted_bytes(&self) -> u32 {
        BODY_BYTES_MAX as u32
    }
}

/// The reference engine: runs bytecode as it is, on every machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterpreterEngine;

impl Engine for InterpreterEngine {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn compile(
        &self,
        proof: &Arc<Proof>,
        environment: &program::Environment,
        _: &Regions,
    ) -> Result<Arc<dyn Program>, EngineError> {
        Ok(Arc::new(Interpreter::new(proof, environment.read_only.as_slice().into())))
    }
}

impl Program for Interpreter {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        Interpreter::run(self, activation, turn)
    }
}

/// How a request is made its executor's own before its first effect.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Records of its session.
    pub slots: &'a SlotTable,
    /// The request.
    pub request: Request,
    /// Who claims it.
    pub owner: Owner,
}

/// One message's time on the core: its regions, and what it may do before another message gets its turn.
///
/// Rules that every engine follows at a UDMA call, in this order, and that compiled code may inline:
/// 1. fuel: `activation.udma_operations_left` is 0: the message fails with `UdmaOperationsExhausted`;
/// 2. `operations_left` is 0: it suspends before the call;
/// 3. the region is not local: it suspends before the call, and a UDMA backend performs the operation;
/// 4. a read of more than [`SHORT_READ_BYTES_MAX`] bytes of a region whose `cold` is 1: if `suspend_reads` is 1 its lines are
///    prefetched, `prefetched` becomes 1 and it suspends before the call; else it is executed and `suspend_reads` becomes `hides_latency`;
/// 5. a write or atomic calls [`Turn::claim`], and fails if that does;
/// 6. it executes the operation, takes 1 from `operations_left` and from the fuel, adds 1 to `activation.udma_operations`;
/// 7. a compare-and-swap that did not swap sets `operations_left` to 0: the one that it waits for may need this core.
///
/// Fuel is the engine's part (steps 1 and 6); [`Turn::udma`] does all the others. Compiled code reaches the fields by their offsets, hence
/// `repr(C)`.
#[repr(C)]
pub struct Turn<'a> {
    /// UDMA operations left before the message must let others run. Between [`Turn::open`] and [`Turn::book`] fuel is counted by it too.
    pub operations_left: u32,
    /// What `operations_left` was when its operations were last booked as fuel.
    pub(crate) booked: u32,
    /// What `suspend_reads` becomes after a long read: 1 if this executor hides latency by suspension, else 0.
    pub hides_latency: u32,
    /// The executor's number.
    pub executor: u32,
    /// 1 if the next long read of cold memory suspends. 0 while the call that was suspended for it is still to come. Not beside
    /// `hides_latency`: a compiler that copies both by one load makes it wait for both stores, which costs more than a message.
    pub suspend_reads: u32,
    /// 1 if a compare-and-swap of this turn did not swap.
    pub contended: u32,
    /// 1 if it suspended for lines that are on their way.
    pub prefetched: u32,
    /// The regions again, as compiled code finds them.
    pub(crate) first_region: *const Region,
    /// What compiled code can reach beside turn and activation. Null until such code is entered.
    pub(crate) surroundings: *const Surroundings,
    regions: &'a Regions,
    /// What is still to be done before the first effect. `None` once it is done, or if there is nothing to do.
    claim: Option<Claim<'a>>,
}

impl<'a> Turn<'a> {
    /// A turn that suspends for nothing but its budget and remote regions. Nobody else can hold its message, unless it has a
    /// [`claim`](Turn::must_claim).
    #[inline(always)]
    pub fn new(regions: &'a Regions, executor: u32) -> Turn<'a> {
        Turn {
            operations_left: TURN_UDMA_OPERATIONS_MAX,
            booked: 0,
            hides_latency: 0,
            executor,
            suspend_reads: 0,
            contended: 0,
            prefetched: 0,
            first_region: regions.as_ptr(),
            surroundings: std::ptr::null(),
            regions,
            claim: None,
        }
    }

    /// Says that the message must be claimed before its first effect.
    #[inline]
    pub fn must_claim(&mut self, claim: Claim<'a>) {
        self.claim = Some(claim);
    }

    /// The deployment's regions.
    #[inline]
    pub fn regions(&self) -> &'a Regions {
        self.regions
    }

    /// Whether nothing is left to claim.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        self.claim.is_none()
    }

    /// Claims the message, once.
    ///
    /// # Errors
    /// [`Failure::NotOwner`] if another execution owns it: the message ends here.
    #[inline]
    pub fn claim(&mut self) -> Result<(), Failure> {
        if let Some(Claim { slots, request, owner }) = &self.claim {
            if slots.claim(*request, *owner) != Standing::Unclaimed {
                return Err(Failure::NotOwner);
            }
            self.claim = None;
        }
        Ok(())
    }

    /// Makes one number of what turn and fuel allow: from here on `operations_left` counts both, until [`Turn::book`].
    #[inline(always)]
    pub fn open(&mut self, activation: &Activation) {
        self.operations_left = self.operations_left.min(activation.udma_operations_left);
        self.booked = self.operations_left;
    }

    /// Books what was executed since [`Turn::open`] or this: fuel, and the operations of the reply's header.
    #[inline(always)]
    pub fn book(&mut self, activation: &mut Activation) {
        // Fuel is never less than what was booked, of which some was taken.
        let executed = self.booked - self.operations_left;
        self.booked = self.operations_left;
        activation.udma_operations_left -= executed;
        activation.udma_operations = activation.udma_operations.saturating_add(executed);
    }

    /// `naam_read`, for native programs and engines' general case.
    #[inline(always)]
    pub fn read(&mut self, region: u16, offset: u64, destination: &mut [u8]) -> Issued {
        let region = match self.reach(region) {
            Ok(region) => region,
            Err(issued) => return issued,
        };
        if destination.len() > SHORT_READ_BYTES_MAX as usize && region.cold != 0 {
            if self.suspend_reads != 0 {
                self.prefetch(region.address(offset), destination.len() as u32);
                return Issued::Suspend;
            }
            self.suspend_reads = self.hides_latency;
        }
        self.operations_left -= 1;
        Issued::Done(region.read(offset, destination))
    }

    /// Asks for the lines of a long read before which the message suspends, from this address on.
    #[inline]
    pub(crate) fn prefetch(&mut self, address: usize, length_bytes: u32) {
        prefetch_lines(address, length_bytes);
        self.prefetched = 1;
    }

    /// `naam_write`.
    #[inline]
    pub fn write(&mut self, region: u16, offset: u64, source: &[u8]) -> Issued {
        self.effect(region, |region| region.write(offset, source))
    }

    /// `naam_compare_swap`. `old` is left alone on an error.
    #[inline]
    pub fn compare_swap(&mut self, region: u16, offset: u64, expected: u64, desired: u64, old: &mut u64) -> Issued {
        let issued = self.effect(region, |region| region.compare_swap(offset, expected, desired, old));
        if issued == Issued::Done(0) && *old != expected {
            self.operations_left = 0;
            self.contended = 1;
        }
        issued
    }

    /// `naam_fetch_add`. `old` is left alone on an error.
    #[inline]
    pub fn fetch_add(&mut self, region: u16, offset: u64, addend: u64, old: &mut u64) -> Issued {
        self.effect(region, |region| region.fetch_add(offset, addend, old))
    }

    #[inline(always)]
    fn effect(&mut self, region: u16, operation: impl FnOnce(&Region) -> i64) -> Issued {
        let region = match self.reach(region) {
            Ok(region) => region,
            Err(issued) => return issued,
        };
        if let Err(failure) = self.claim() {
            return Issued::Failed(failure);
        }
        self.operations_left -= 1;
        Issued::Done(operation(region))
    }

    #[inline(always)]
    fn reach(&self, region: u16) -> Result<&'a Region, Issued> {
        if self.operations_left == 0 {
            return Err(Issued::Suspend);
        }
        match self.regions.get(usize::from(region)) {
            Some(region) if region.is_local() => Ok(region),
            Some(_) => Err(Issued::Suspend),
            None => Err(Issued::Failed(Failure::RegionUnreachable)),
        }
    }
}

impl Environment for Turn<'_> {
    #[inline(always)]
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        match operation {
            Udma::Read { region, offset, destination } => self.read(region, offset, destination),
            Udma::Write { region, offset, source } => self.write(region, offset, source),
            Udma::CompareSwap { region, offset, expected, desired, old } => {
                self.compare_swap(region, offset, expected, desired, old)
            }
            Udma::FetchAdd { region, offset, addend, old } => self.fetch_add(region, offset, addend, old),
        }
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions.get(usize::from(region)).map_or(0, Region::length_bytes)
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        self.claim()?;
        Ok(self.executor)
    }
}
