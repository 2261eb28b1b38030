//! What must survive a suspension: contracts are cut down to registers and bytes that are read later, and that must fit a message.
//!
//! Inference promises everything that it knows at a cut point; continuations carry, and engines flush, only what pruning leaves.

use crate::abi::{HEADER_BYTES, MESSAGE_BYTES_MAX, STACK_BYTES, message_bytes};
use crate::cfg::Graph;
use crate::diagnostic::{Code, Finding};
use crate::program::Function;
use crate::verifier::Analysis;
use crate::verifier::check::CHECK_STEPS_MAX;
use crate::verifier::contract::{ByteRange, Cell, Contract, Contracts};
use crate::verifier::flow::{Bytes, MemoryLiveness};

/// Contracts that promise only what is live. `analysis` is that of checking `contracts`; what comes out must be checked again.
pub fn prune(function: &Function, contracts: &Contracts, analysis: &Analysis) -> Contracts {
    let Ok(graph) = Graph::new(&function.instructions) else { return contracts.clone() };
    // The check that made `analysis` did the same within its steps.
    let mut left = CHECK_STEPS_MAX;
    let Some(liveness) = MemoryLiveness::new(&graph, &function.instructions, analysis, &mut left) else {
        return contracts.clone();
    };
    let all = |contracts: &[Contract]| {
        contracts.iter().map(|contract| pruned(contract, &liveness.before(contract.instruction))).collect()
    };
    Contracts { loops: all(&contracts.loops), suspensions: all(&contracts.suspensions) }
}

/// Registers are live already: inference leaves out the others.
fn pruned(contract: &Contract, live: &Bytes) -> Contract {
    let range = |cell: &Cell| ByteRange { start: cell.offset, end: cell.offset + cell.size.bytes() as u32 };
    let cells: Vec<Cell> = contract.cells.iter().filter(|cell| live.intersects(range(cell))).copied().collect();
    // A cell stays whole: its value is known as a whole.
    let mut kept = vec![false; STACK_BYTES];
    for byte in contract.live_stack.iter().flat_map(|range| range.start..range.end).filter(|byte| live.contains(*byte)) {
        kept[byte as usize] = true;
    }
    for byte in cells.iter().flat_map(|cell| range(cell).start..range(cell).end).filter(|byte| (*byte as usize) < STACK_BYTES) {
        kept[byte as usize] = true;
    }
    let mut live_stack: Vec<ByteRange> = Vec::new();
    for byte in (0..STACK_BYTES as u32).filter(|byte| kept[*byte as usize]) {
        match live_stack.last_mut() {
            Some(last) if last.end == byte => last.end += 1,
            _ => live_stack.push(ByteRange { start: byte, end: byte + 1 }),
        }
    }
    Contract { live_stack, cells, ..contract.clone() }
}

/// That a message suspended at its worst point would be larger than any message may be. Of contracts before pruning that says nothing.
pub fn too_long(function: &Function, contracts: &Contracts) -> Option<Finding> {
    let contract = contracts.largest_continuation()?;
    let (body_bytes, continuation_bytes) = (function.entry.body_bytes as usize, contract.continuation_bytes());
    let bytes = message_bytes(body_bytes, continuation_bytes);
    let excess = bytes.checked_sub(MESSAGE_BYTES_MAX).filter(|excess| *excess > 0)?;
    let message = format!("a message that waits for this call takes {bytes} bytes; {MESSAGE_BYTES_MAX} are possible");
    let parts = format!("{HEADER_BYTES} bytes of header, {body_bytes} of message struct, {continuation_bytes} of continuation");
    let hint = format!(
        "make the message struct {excess} bytes smaller, or use fewer local variables after the call that were set before it"
    );
    Some(Finding::new(Code::CONTINUATION_TOO_LONG, message).at(contract.instruction).known(parts).hint(hint))
}
