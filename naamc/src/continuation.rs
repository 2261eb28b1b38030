//! Continuations: what an activation needs to go on elsewhere, and the one check between foreign bytes and compiled code.
//!
//! A continuation is the state before a UDMA call: suspension point, reply length, live registers and live stack bytes, in the order of
//! the point's contract; the body travels beside it. [`encode`] copies, [`decode`] checks every value against the contract and then
//! copies. Engines trust the activation and nothing else.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | suspension point |
//! | 4 | 4 | reply length in bytes |
//! | 8 | 8 each | live registers of the contract, ascending |
//! | ... | | live stack bytes of the contract, ascending |

use crate::abi::{BODY_BYTES_MAX, CONTINUATION_PREFIX_BYTES, Helper, READ_ONLY_BYTES_MAX, REGIONS_MAX, STACK_BYTES, address};
use crate::activation::Activation;
use crate::isa::{Instruction, Size};
use crate::verifier::Proof;
use crate::verifier::contract::{Cell, Contract};
use crate::verifier::value::{Scalar, Value};

/// Why a continuation is refused. The message ends; its sender is told no more than the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadContinuation {
    /// The handler has no such suspension point.
    #[error("the handler has no such suspension point")]
    Point,
    /// Not as many bytes as the point's contract says.
    #[error("the continuation does not have the length of its suspension point")]
    Length,
    /// The body does not have the size of the handler's message.
    #[error("the body does not have the size of the handler's message")]
    Body,
    /// The reply would be longer than the body.
    #[error("the reply is longer than the body")]
    Reply,
    /// A register breaks the contract.
    #[error("a register is outside what its contract allows")]
    Register,
    /// The pending call is given memory that does not exist.
    #[error("the pending call's memory is not inside the handler's")]
    PendingCall,
    /// A word of stack or body breaks the contract.
    #[error("a word in memory is outside what its contract allows")]
    Cell,
}

/// Writes the continuation of a suspended activation to the front of `out` and returns its length; `None` if `out` is too short, or if the
/// activation does not stand before a UDMA call (it has not started, or its call has been issued and completes here).
pub fn encode(proof: &Proof, activation: &Activation, out: &mut [u8]) -> Option<usize> {
    let contract = proof.contracts().suspensions.get(activation.point as usize)?;
    if activation.completed != 0 {
        return None;
    }
    let out = out.get_mut(..contract.continuation_bytes())?;
    out[..4].copy_from_slice(&activation.point.to_le_bytes());
    out[4..8].copy_from_slice(&activation.reply_bytes.to_le_bytes());
    let mut at = CONTINUATION_PREFIX_BYTES;
    for (register, _) in &contract.registers {
        out[at..at + 8].copy_from_slice(&activation.registers[register.index()].to_le_bytes());
        at += 8;
    }
    for range in &contract.live_stack {
        let bytes = &activation.memory[range.start as usize..range.end as usize];
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
    Some(at)
}

/// Reads a continuation and its body into an activation, if every value lies inside the contract. Fuel is the caller's to set.
///
/// # Errors
/// The first check that fails. The activation then holds nothing that may be run.
pub fn decode(proof: &Proof, bytes: &[u8], body: &[u8], activation: &mut Activation) -> Result<(), BadContinuation> {
    decode_with(proof, bytes, body, activation, None)
}

/// One of the checks of [`decode`]. Tests leave one out to see that it is needed; nothing else does.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The length of the bytes.
    Length,
    /// The size of the body.
    Body,
    /// The reply's length.
    Reply,
    /// Values of registers.
    Registers,
    /// Values of words in memory.
    Cells,
    /// Intervals of numbers.
    Intervals,
    /// Known bits of numbers.
    KnownBits,
    /// Strides of numbers.
    Strides,
    /// Which object a pointer points into.
    PointerKinds,
    /// Where in the object.
    PointerOffsets,
    /// Values together: sums, and offset and length of the pending call's memory.
    Together,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 11] = [
        Check::Length,
        Check::Body,
        Check::Reply,
        Check::Registers,
        Check::Cells,
        Check::Intervals,
        Check::KnownBits,
        Check::Strides,
        Check::PointerKinds,
        Check::PointerOffsets,
        Check::Together,
    ];
}

/// [`decode`] without one of its checks.
#[doc(hidden)]
pub fn decode_with(
    proof: &Proof,
    bytes: &[u8],
    body: &[u8],
    activation: &mut Activation,
    omitted: Option<Check>,
) -> Result<(), BadContinuation> {
    let checks = |check| omitted != Some(check);
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let point = word(0).ok_or(BadContinuation::Point)?;
    let contract = proof.contracts().suspensions.get(point as usize).ok_or(BadContinuation::Point)?;
    if checks(Check::Length) && bytes.len() != contract.continuation_bytes() {
        return Err(BadContinuation::Length);
    }
    let body_bytes = proof.function().entry.body_bytes as usize;
    if checks(Check::Body) && body.len() != body_bytes {
        return Err(BadContinuation::Body);
    }
    let reply_bytes = word(4).ok_or(BadContinuation::Length)?;
    if checks(Check::Reply) && reply_bytes as usize > body_bytes {
        return Err(BadContinuation::Reply);
    }
    let mut rest = bytes.get(CONTINUATION_PREFIX_BYTES..).unwrap_or_default().iter().copied();
    for (register, value) in &contract.registers {
        let mut word = [0; 8];
        word.iter_mut().zip(&mut rest).for_each(|(to, from)| *to = from);
        let word = u64::from_le_bytes(word);
        if checks(Check::Registers) && !admits(value, word, omitted) {
            return Err(BadContinuation::Register);
        }
        activation.registers[register.index()] = word;
    }
    for range in &contract.live_stack {
        let stack = &mut activation.memory[range.start as usize..range.end as usize];
        stack.iter_mut().zip(&mut rest).for_each(|(to, from)| *to = from);
    }
    let arrived = body.len().min(body_bytes);
    activation.body_mut()[..arrived].copy_from_slice(&body[..arrived]);
    activation.body_mut()[arrived..body_bytes].fill(0);
    activation.note_written(STACK_BYTES + body_bytes);
    if checks(Check::Cells) && !contract.cells.iter().all(|cell| admits(&cell.value, load(cell, activation), omitted)) {
        return Err(BadContinuation::Cell);
    }
    if checks(Check::Together) && !contract.bounds.iter().all(|bound| bound.admits(&activation.registers)) {
        return Err(BadContinuation::Register);
    }
    if checks(Check::Together) && !pending_call_is_inside(proof, contract, activation) {
        return Err(BadContinuation::PendingCall);
    }
    activation.point = point;
    activation.completed = 0;
    activation.completion = 0;
    activation.reply_bytes = reply_bytes;
    Ok(())
}

/// Whether the UDMA call that the continuation stands before is given memory that exists.
fn pending_call_is_inside(proof: &Proof, contract: &Contract, activation: &Activation) -> bool {
    match proof.function().instructions.get(contract.instruction as usize) {
        Some(Instruction::CallHelper { number }) => Helper::from_number(*number)
            .is_some_and(|helper| contract.call_is_inside(helper, &activation.registers, proof.function().entry.body_bytes)),
        _ => false,
    }
}

/// The word of a cell, zero-extended.
fn load(cell: &Cell, activation: &Activation) -> u64 {
    let at = cell.offset as usize;
    let mut word = [0; 8];
    word[..Size::bytes(cell.size)].copy_from_slice(&activation.memory[at..at + cell.size.bytes()]);
    u64::from_le_bytes(word)
}

/// [`Value::admits`], or that without one of its parts.
fn admits(value: &Value, word: u64, omitted: Option<Check>) -> bool {
    let within = |start: u64, bytes: usize| word.wrapping_sub(start) < bytes as u64;
    value.admits(word)
        || match (omitted, value) {
            (Some(Check::Intervals), Value::Scalar(scalar)) => {
                let on_stride = (word.wrapping_sub(scalar.signed_min as u64)).is_multiple_of(scalar.stride.max(1));
                on_stride && word & scalar.ones == scalar.ones && word & scalar.zeros == 0
            }
            (Some(Check::KnownBits), Value::Scalar(scalar)) => Scalar { ones: 0, zeros: 0, ..*scalar }.admits(word),
            (Some(Check::Strides), Value::Scalar(scalar)) => Scalar { stride: scalar.stride.min(1), ..*scalar }.admits(word),
            (Some(Check::PointerOffsets), Value::Pointer(pointer)) => {
                (pointer.stack.is_some() && within(address::STACK_START, STACK_BYTES + 1))
                    || (pointer.body.is_some() && within(address::BODY_START, BODY_BYTES_MAX))
                    || (pointer.read_only.is_some() && within(address::READ_ONLY_START, READ_ONLY_BYTES_MAX))
            }
            (Some(Check::PointerKinds), Value::Pointer(_)) => {
                word == 0
                    || [address::STACK_END - 8, address::BODY_START, address::READ_ONLY_START].contains(&word)
                    || within(address::REGION_START, REGIONS_MAX)
            }
            _ => false,
        }
}
