//! The JIT: checked handlers as machine code, by Cranelift, for x86-64 and aarch64.
//!
//! A handler has two bodies. `start` runs from the entry; its loops are reducible and nothing enters them from the side. `resume` is entered at
//! any suspension point through one jump table. Code is made from a [`Proof`] and nothing else, so it
//! checks nothing that was proved; what it does not do inline it asks of Rust through its [`Surroundings`]. Which order things happen in
//! when a UDMA call is reached is [`Turn`]'s rule, the same for all engines.

mod call;
mod code;
#[cfg(test)]
mod golden;
mod lower;
mod memory;
pub mod object;
mod surroundings;

use super::{Engine, EngineError, Program, Turn};
use crate::memory::Regions;
use code::Code;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, ir};
use lower::{Body, Source};
use naamc::abi::{Helper, STACK_BYTES};
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::{Failure, Outcome};
use naamc::isa::{Instruction, Register};
use naamc::program;
use naamc::verifier::{Analysis, Proof};
use std::sync::{Arc, OnceLock};
pub(crate) use surroundings::Surroundings;
use surroundings::{Exit, Status};

/// Compiles handlers to machine code.
#[derive(Clone, Copy, Debug, Default)]
pub struct JitEngine;

impl Engine for JitEngine {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn compile(
        &self,
        proof: &Arc<Proof>,
        environment: &program::Environment,
        regions: &Regions,
    ) -> Result<Arc<dyn Program>, EngineError> {
        let source = Source { proof, regions: regions.extents() };
        let code = |body| Code::new(&machine_code(&source, body)?).map_err(EngineError::CodeMemory);
        let start = code(Body::Start)?;
        // At once, not when a message is first resumed: that would hold up the others on its executor.
        let resume = if proof.contracts().suspensions.is_empty() { None } else { Some(code(Body::Resume)?) };
        let surroundings = Surroundings::new(environment.read_only.as_slice().into());
        Ok(Arc::new(Compiled { start, resume, surroundings, regions: regions.clone(), unnoted_bytes: unnoted_bytes(proof) }))
    }
}

/// The code generator for this machine, made once.
fn target() -> Result<&'static OwnedTargetIsa, EngineError> {
    static TARGET: OnceLock<Result<OwnedTargetIsa, String>> = OnceLock::new();
    TARGET.get_or_init(make_target).as_ref().map_err(|reason| EngineError::CodeGeneration(reason.clone()))
}

fn make_target() -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    // The register allocator matters most: with the single-pass one, code that moves bytes is several times slower. The verifier of
    // Cranelift's own representation runs in tests.
    let settings = [
        ("opt_level", "speed"),
        ("regalloc_algorithm", "backtracking"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "false"),
    ];
    for (name, value) in settings {
        flags.set(name, value).map_err(|error| error.to_string())?;
    }
    let builder = cranelift_native::builder().map_err(str::to_string)?;
    builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())
}

/// Lowers one body to Cranelift's representation, for this machine.
fn lowered(source: &Source<'_>, body: Body) -> Result<ir::Function, EngineError> {
    lower::lower(source, body, target()?.frontend_config()).map_err(EngineError::CodeGeneration)
}

/// The machine code of one body: position-independent, without relocations.
fn machine_code(source: &Source<'_>, body: Body) -> Result<Vec<u8>, EngineError> {
    let mut context = Context::for_function(lowered(source, body)?);
    let compiled = context
        .compile(target()?.as_ref(), &mut ControlPlane::default())
        .map_err(|error| EngineError::CodeGeneration(format!("{:?}", error.inner)))?;
    if !compiled.buffer.relocs().is_empty() {
        return Err(EngineError::CodeGeneration("the code refers to something outside itself".to_string()));
    }
    Ok(compiled.code_buffer().to_vec())
}

/// A handler as machine code.
struct Compiled {
    start: Code,
    /// None without suspension points.
    resume: Option<Code>,
    surroundings: Surroundings,
    /// The regions whose extents were compiled in.
    regions: Regions,
    unnoted_bytes: u32,
}

impl Program for Compiled {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        if !turn.regions().fit(&self.regions) {
            return Outcome::Failed(Failure::EngineFault);
        }
        let code = if activation.point == POINT_START {
            &self.start
        } else {
            let Some(resume) = &self.resume else { return Outcome::Failed(Failure::EngineFault) };
            if activation.completed != 0 {
                // The call was executed while the message was suspended: it counts now.
                activation.udma_operations_left = activation.udma_operations_left.saturating_sub(1);
                activation.udma_operations = activation.udma_operations.saturating_add(1);
            }
            resume
        };
        turn.open(activation);
        turn.surroundings = &raw const self.surroundings;
        // SAFETY: the code was lowered from the proof of this handler for a turn of this shape; turn and activation are exclusively
        // borrowed; the turn's regions have the extents that were compiled in; the surroundings are this handler's; the activation is
        // fresh or was suspended or decoded by this handler's contracts (the contract of `run`), which is what the code relies on.
        let exit = unsafe { code.enter(&raw mut *turn, &raw mut *activation) };
        turn.book(activation);
        // Code that suspends before regions out of its reach leaves this rule, the first of all, to us. No other suspends without fuel.
        if exit.status == Status::Suspended as u64 && activation.udma_operations_left == 0 {
            return Outcome::Failed(Failure::UdmaOperationsExhausted);
        }
        if exit.status == Status::Prefetch as u64 {
            turn.prefetch(exit.value as usize, activation.registers[Register::R4.index()] as u32);
            return Outcome::Suspended;
        }
        outcome(exit)
    }

    fn unnoted_bytes(&self) -> u32 {
        self.unnoted_bytes
    }
}

/// Bytes of the body that a handler may write; reads of regions count where compiled code does not note them as they happen
/// ([`call::notes_its_end`]).
fn unnoted_bytes(proof: &Proof) -> u32 {
    let Analysis { accesses, calls, .. } = proof.analysis();
    let instructions = &proof.function().instructions;
    let stores = accesses.iter().filter(|access| !matches!(instructions[access.instruction as usize], Instruction::Load { .. }));
    let written = calls.iter().filter(|call| !call::notes_its_end(call)).flat_map(|call| {
        let destination = match call.helper {
            Helper::Read => Some(Register::R3),
            Helper::CompareSwap => Some(Register::R5),
            Helper::FetchAdd => Some(Register::R4),
            Helper::Copy | Helper::Fill => Some(Register::R1),
            _ => None,
        };
        call.memory.iter().filter(move |(parameter, _)| Some(*parameter) == destination).map(|(_, touched)| touched)
    });
    let ends = stores.map(|access| &access.touched).chain(written).filter_map(|touched| Some(touched.body?.end));
    ends.max().unwrap_or(0).saturating_sub(STACK_BYTES as u32)
}

fn outcome(exit: Exit) -> Outcome {
    const FAILURES: [Failure; 4] =
        [Failure::BackEdgesExhausted, Failure::UdmaOperationsExhausted, Failure::RegionUnreachable, Failure::NotOwner];
    if exit.status == Status::Finished as u64 {
        return Outcome::Finished(exit.value);
    }
    if exit.status == Status::Suspended as u64 {
        return Outcome::Suspended;
    }
    Outcome::Failed(FAILURES.into_iter().find(|failure| *failure as u64 == exit.value).unwrap_or(Failure::EngineFault))
}
