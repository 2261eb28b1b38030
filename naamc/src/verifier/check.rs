//! The check: one pass that sees whether given contracts hold. Nothing else is trusted about them.
//!
//! What makes it sound: a message is at its entry, or stands at a cut point within the contract (it arrived there, which the pass checked, or
//! a continuation was decoded against it). From each of these the pass follows every path up to the next cut points, and every access
//! on the way is checked. Contracts that no path reaches are followed all the same, for a continuation may name them.

use super::Analysis;
use super::checker::{Checker, Record};
use super::contract::{Contract, Contracts};
use super::cut::{malformed, state_of, violation};
use super::flow::{MemoryLiveness, RegisterLiveness, never_written};
use super::loops::loops;
use super::memory::StackBytes;
use super::pass::{Code, Cut, Cuts, is_suspension};
use super::state::{State, Word};
use crate::abi::{BODY_BYTES_MAX, Helper};
use crate::cfg::Graph;
use crate::diagnostic::{self, Finding};
use crate::isa::{Instruction, Register};
use crate::program::{Environment, Function};
use std::collections::BTreeMap;

/// Steps of a check: one for each instruction, and more for what a state, a contract, a table or a set of bytes makes it look at. MICA's
/// largest handler takes a 250th.
pub(super) const CHECK_STEPS_MAX: u64 = 4_000_000;
/// Steps for each value that a contract lists, at each arrival: what a word may be is computed anew from what it was made of.
const LISTED_VALUE_STEPS: u64 = 4;

pub(super) fn check(
    function: &Function,
    environment: &Environment,
    graph: &Graph,
    contracts: &Contracts,
) -> Result<Analysis, Vec<Finding>> {
    structure(function, environment, graph, contracts).map_err(|finding| vec![finding])?;
    let liveness = RegisterLiveness::new(graph, &function.instructions);
    let mut cuts = Check { contracts, zeroed: StackBytes::NONE, reported: BTreeMap::new(), broken: Vec::new() };
    let mut checker = Checker::new(function, environment, true);
    let code = Code { graph, instructions: &function.instructions, liveness: &liveness };
    if !code.pass(&mut checker, &mut cuts, CHECK_STEPS_MAX) {
        return Err(vec![too_complex()]);
    }
    let mut findings = checker.findings;
    if findings.is_empty() {
        findings = cuts.broken;
    }
    let mut left = CHECK_STEPS_MAX.saturating_sub(checker.steps);
    let analysed = analysis(function, graph, contracts, checker.record, &cuts.zeroed, &mut left);
    let analysis = analysed.ok_or_else(|| vec![too_complex()])?;
    let unwritten = never_written(graph, &function.instructions, &analysis, &mut left).ok_or_else(|| vec![too_complex()])?;
    // What was reported already is not reported for what follows from it.
    let new = |finding: &Finding| !findings.iter().any(|other| other.place.instruction == finding.place.instruction);
    let unwritten: Vec<Finding> = unwritten.into_iter().filter(new).collect();
    findings.extend(unwritten);
    if findings.is_empty() {
        return Ok(analysis);
    }
    findings.sort_by_key(|finding| (finding.place.instruction, finding.code));
    findings.dedup_by_key(|finding| (finding.place.instruction, finding.code));
    Err(findings)
}

pub(super) fn too_complex() -> Finding {
    Finding::new(diagnostic::Code::BUDGET_EXCEEDED, "the verifier gave up after its budget of steps")
        .hint("split the handler, or bound the values that its loops change by constants")
}

/// Whether the contracts belong to this function at all.
fn structure(function: &Function, environment: &Environment, graph: &Graph, contracts: &Contracts) -> Result<(), Finding> {
    let body_bytes = function.entry.body_bytes;
    if body_bytes as usize > BODY_BYTES_MAX {
        let message = format!("the message struct has {body_bytes} bytes; a message carries {BODY_BYTES_MAX}");
        return Err(Finding::new(diagnostic::Code::MESSAGE_TOO_LONG, message));
    }
    let wrong = |at: u32, reason: String| Finding::new(diagnostic::Code::CONTRACT_MALFORMED, reason).at(at);
    let heads = |at: u32| graph.loop_heads().binary_search(&at).is_ok();
    let calls = |at: u32| graph.block_of(at).is_some() && is_suspension(&function.instructions[at as usize]);
    for (list, loops) in [(&contracts.loops, true), (&contracts.suspensions, false)] {
        let mut last = None;
        for contract in list {
            let at = contract.instruction;
            let belongs = if loops { heads(at) } else { calls(at) };
            if !belongs || last.is_some_and(|last| last >= at) {
                return Err(wrong(at, format!("a contract for instruction {at} does not belong there")));
            }
            last = Some(at);
            if let Some(reason) = malformed(contract, body_bytes, environment.regions.len()) {
                return Err(wrong(at, reason));
            }
        }
    }
    Ok(())
}

struct Check<'a> {
    contracts: &'a Contracts,
    zeroed: StackBytes,
    /// Registers at cut points that a finding was reported of.
    reported: BTreeMap<Cut, u64>,
    /// Contracts that do not hold. They follow from findings, if there are any.
    broken: Vec<Finding>,
}

impl Check<'_> {
    fn contract(&self, cut: Cut) -> Option<&Contract> {
        let (list, at) = match cut {
            Cut::Loop(at) => (&self.contracts.loops, at),
            Cut::Suspension(at) => (&self.contracts.suspensions, at),
        };
        let place = list.binary_search_by_key(&at, |contract| contract.instruction).ok()?;
        list.get(place)
    }
}

impl Cuts for Check<'_> {
    fn arrive(&mut self, checker: &mut Checker<'_>, cut: Cut, state: &State) {
        let reported = (0..state.registers.len() as u8).filter(|index| state.get(Register(*index)) == Word::Reported);
        *self.reported.entry(cut).or_default() |= reported.fold(0, |all, index| all | 1 << index);
        let (Cut::Loop(at) | Cut::Suspension(at)) = cut;
        let mut zeroed = self.zeroed;
        let reason = match self.contract(cut) {
            None => Some("there is no contract for this place".to_string()),
            Some(contract) => {
                let values = contract.registers.len() + contract.live_stack.len() + contract.cells.len();
                let together = contract.bounds.len() * state.facts_known();
                checker.steps += LISTED_VALUE_STEPS * values as u64 + together as u64 / 8;
                violation(state, &mut checker.symbols, contract, &mut zeroed)
            }
        };
        self.zeroed = zeroed;
        if let Some(reason) = reason {
            self.broken.push(Finding::new(diagnostic::Code::CONTRACT_BROKEN, reason).at(at));
        }
    }

    fn enter(&mut self, checker: &mut Checker<'_>, cut: Cut) -> Option<State> {
        let mut state = state_of(self.contract(cut)?, &mut checker.symbols);
        let reported = self.reported.get(&cut).copied().unwrap_or(0);
        for index in (0..state.registers.len()).filter(|index| reported >> index & 1 == 1) {
            state.registers[index] = Word::Reported;
        }
        Some(state)
    }
}

/// Puts together what the pass recorded; none if that takes more steps than are `left`.
fn analysis(
    function: &Function,
    graph: &Graph,
    contracts: &Contracts,
    record: Record,
    zeroed: &StackBytes,
    left: &mut u64,
) -> Option<Analysis> {
    let mut all = record.zeroed;
    zeroed.ranges().into_iter().for_each(|range| all.insert(range));
    let mut analysis = Analysis {
        accesses: record.accesses,
        calls: record.calls,
        zeroed: all.ranges(),
        result: record.result,
        reply_bytes_max: reply_bytes_max(function, graph, record.reply_bytes_max),
        ..Analysis::default()
    };
    analysis.accesses.sort_by_key(|access| access.instruction);
    analysis.calls.sort_by_key(|call| call.instruction);
    analysis.loops = loops(graph, &function.instructions, contracts, &analysis);
    analysis.body_bytes_read = MemoryLiveness::new(graph, &function.instructions, &analysis, left)?.body_bytes_read();
    Some(analysis)
}

/// The largest length that is said, or the whole body where a path to an exit says none.
fn reply_bytes_max(function: &Function, graph: &Graph, said: Option<u32>) -> u32 {
    let body_bytes = function.entry.body_bytes;
    let is_reply = |at: u32| matches!(function.instructions[at as usize], Instruction::CallHelper { number } if Helper::from_number(number) == Some(Helper::Reply));
    let mut seen = vec![false; graph.blocks().len()];
    let mut pending = vec![0u32];
    while let Some(index) = pending.pop() {
        if std::mem::replace(&mut seen[index as usize], true) {
            continue;
        }
        let block = &graph.blocks()[index as usize];
        if (block.start..block.end).any(is_reply) {
            continue;
        }
        if function.instructions[block.end as usize - 1] == Instruction::Exit {
            return body_bytes;
        }
        pending.extend(&block.successors);
    }
    said.unwrap_or(body_bytes)
}
