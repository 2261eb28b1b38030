//! Programs without an ELF: code and memory as hex text, as the public eBPF conformance runner gives them to the machine under test.
//!
//! Such a program gets its memory's address in r1 and the memory's length in r2, and its result is r0. Here it is parsed and proved, and
//! run by whatever engine the caller has; the protocol (standard input, arguments, exit codes) is the program's.

use crate::abi::BODY_BYTES_MAX;
use crate::activation::Activation;
use crate::diagnostic::{Code, Finding};
use crate::interpreter::{Failure, Issued, Outcome, Udma};
use crate::isa;
use crate::program::{CallableCode, flatten};
use crate::program::{Entry, Environment};
use crate::verifier::Proof;
use std::sync::Arc;

/// Back edges of metered loops that such a program may take: enough for any test, and an end for every loop (seconds when interpreted).
pub const BACK_EDGES: u32 = 1 << 26;

/// A program that was proved, and its memory.
#[derive(Clone, Debug)]
pub struct Program {
    /// The code.
    pub proof: Arc<Proof>,
    /// The memory as it is at the start.
    pub memory: Vec<u8>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The text is not what was asked for.
    #[error("{what} is not hex text: {reason}")]
    NotHex {
        /// The program or the memory.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is more memory than a message can have.
    #[error("the memory has {0} bytes; a message has at most {BODY_BYTES_MAX}")]
    MemoryTooLarge(usize),
    /// The code was refused.
    #[error("{}", .0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Finding>),
    /// It ended without a result.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// It waits for something that nobody will do.
    #[error("the program suspended, and there is nothing that it could wait for")]
    Suspended,
}

/// Parses and proves a program.
///
/// Blanks may stand anywhere in both texts. No memory is memory of length 0.
///
/// # Errors
///
/// All of [`ExecError`] but what only a run can give.
pub fn parse(program: &str, memory: Option<&str>) -> Result<Program, ExecError> {
    let memory = bytes_of("the memory", memory.unwrap_or_default())?;
    if memory.len() > BODY_BYTES_MAX {
        return Err(ExecError::MemoryTooLarge(memory.len()));
    }
    let code = bytes_of("the program", program)?;
    let proof = prove(&code, memory.len() as u32).map_err(ExecError::Refused)?;
    Ok(Program { proof: Arc::new(proof), memory })
}

/// Proves code that is given the address and the length of that much memory.
///
/// # Errors
///
/// Every independent finding.
pub fn prove(code: &[u8], memory_bytes: u32) -> Result<Proof, Vec<Finding>> {
    let decoded = isa::decode(code)?;
    let entry = Entry { body_bytes: memory_bytes, second_argument: Some(memory_bytes.into()) };
    if decoded.instructions.is_empty() {
        return Err(vec![Finding::new(Code::FUNCTION_LENGTH, "there is no code")]);
    }
    let outside = decoded.local_calls.iter().filter(|call| call.target.is_none());
    let findings: Vec<Finding> = outside
        .map(|call| Finding::new(Code::JUMP_TARGET, "a call goes to where no instruction begins").at(call.instruction))
        .collect();
    if !findings.is_empty() {
        return Err(findings);
    }
    let callable = CallableCode { instructions: decoded.instructions, functions: Vec::new() };
    Proof::prove(flatten(&callable, 0, "exec", entry)?.function, &Environment::default())
}

impl Program {
    /// Runs it: `engine` takes a fresh activation through a turn.
    ///
    /// # Errors
    ///
    /// If the program ends without a result.
    pub fn run(&self, engine: impl FnOnce(&mut Activation) -> Outcome) -> Result<u64, ExecError> {
        let mut activation = Activation::new_boxed();
        activation.begin(&self.memory, BACK_EDGES, 0);
        match engine(&mut activation) {
            Outcome::Finished(result) => Ok(result),
            Outcome::Failed(failure) => Err(failure.into()),
            Outcome::Suspended => Err(ExecError::Suspended),
        }
    }
}

/// The surroundings of a program without regions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl crate::interpreter::Environment for Nothing {
    fn udma(&mut self, _: Udma<'_>) -> Issued {
        Issued::Failed(Failure::RegionUnreachable)
    }

    fn length_bytes(&mut self, _: u16) -> u64 {
        0
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(0)
    }
}

fn bytes_of(what: &'static str, text: &str) -> Result<Vec<u8>, ExecError> {
    let mut digits = Vec::with_capacity(text.len());
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        match character.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None => return Err(ExecError::NotHex { what, reason: format!("it has {character:?}") }),
        }
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ExecError::NotHex { what, reason: format!("it has {} digits, and a byte has two", digits.len()) });
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
