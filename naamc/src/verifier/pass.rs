//! One pass over the code in reverse postorder: states flow along edges and are joined; at cut points contracts take their place.
//!
//! Inference and checking are the same pass; they differ in what happens when a state arrives at a cut point.

use super::branch::Test;
use super::checker::Checker;
use super::flow::RegisterLiveness;
use super::memory::Memory;
use super::state::{Address, Linear, State, Word};
use crate::abi::Helper;
use crate::cfg::Graph;
use crate::isa::{Instruction, Register};

/// A place where only a contract holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Cut {
    /// The loop that begins at this instruction.
    Loop(u32),
    /// Before the UDMA call at this instruction.
    Suspension(u32),
}

/// Who keeps the contracts.
pub(super) trait Cuts {
    /// A state arrives at a cut point.
    fn arrive(&mut self, checker: &mut Checker<'_>, cut: Cut, state: &State);
    /// What holds after it; none if nothing can be there.
    fn enter(&mut self, checker: &mut Checker<'_>, cut: Cut) -> Option<State>;
}

/// The code and what was found out about it once.
pub(super) struct Code<'a> {
    pub(super) graph: &'a Graph,
    pub(super) instructions: &'a [Instruction],
    pub(super) liveness: &'a RegisterLiveness,
}

/// Whether an instruction is a UDMA call.
pub(super) fn is_suspension(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::CallHelper { number } if Helper::from_number(*number).is_some_and(Helper::is_udma))
}

impl Code<'_> {
    /// Runs one pass; false if the checker's steps exceed the limit on the way.
    pub(super) fn pass(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, steps_max: u64) -> bool {
        let mut incoming: Vec<Option<State>> = vec![None; self.graph.blocks().len()];
        self.flow(checker, cuts, &mut incoming, 0, entry(checker));
        for (index, block) in self.graph.blocks().iter().enumerate() {
            let mut state = incoming[index].take();
            if self.graph.loop_heads().binary_search(&block.start).is_ok() {
                state = cuts.enter(checker, Cut::Loop(block.start));
            }
            for at in block.start..block.end {
                checker.steps += 1;
                let instruction = &self.instructions[at as usize];
                if is_suspension(instruction) {
                    if let Some(state) = &mut state {
                        state.keep_registers(self.liveness.before(at));
                        checker.before_call(state, at, instruction);
                        cuts.arrive(checker, Cut::Suspension(at), state);
                    }
                    state = cuts.enter(checker, Cut::Suspension(at));
                }
                if let Some(state) = &mut state {
                    checker.step(state, at, instruction);
                }
            }
            if let Some(state) = state {
                self.leave(checker, cuts, &mut incoming, block.end - 1, state);
            }
            if checker.steps > steps_max {
                return false;
            }
        }
        true
    }

    /// Sends the state at the end of a block on its ways.
    fn leave(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, incoming: &mut [Option<State>], at: u32, mut state: State) {
        match self.instructions[at as usize] {
            Instruction::Exit => checker.exit(&mut state, at),
            Instruction::Jump { target } => self.flow(checker, cuts, incoming, target, state),
            Instruction::JumpIf { width, condition, left, right, target } => {
                let (taken, other) = checker.branch(state, at, Test { width, condition, left, right });
                for (to, state) in [(at + 1, other), (target, taken)] {
                    if let Some(state) = state {
                        self.flow(checker, cuts, incoming, to, state);
                    }
                }
            }
            _ => self.flow(checker, cuts, incoming, at + 1, state),
        }
    }

    fn flow(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, incoming: &mut [Option<State>], to: u32, mut state: State) {
        state.keep_registers(self.liveness.before(to));
        state.collect(&checker.symbols);
        if self.graph.loop_heads().binary_search(&to).is_ok() {
            cuts.arrive(checker, Cut::Loop(to), &state);
        } else if let Some(block) = self.graph.block_of(to) {
            checker.steps += state.memory.cells().len() as u64 / 8;
            incoming[block] = Some(match incoming[block].take() {
                None => state,
                Some(other) => other.join(&state, &mut checker.symbols),
            });
        }
    }
}

/// What holds when the function starts.
fn entry(checker: &Checker<'_>) -> State {
    let mut state = State::new(Memory::at_entry());
    state.set(Register::R1, Word::Pointer(Address { body: Some(Linear::constant(0)), ..Address::default() }));
    if let Some(argument) = checker.function.entry.second_argument {
        state.set(Register::R2, Word::constant(argument));
    }
    state
}
