//! One pass over the code in reverse postorder: states flow along edges and are joined; at cut points contracts take their place.
//!
//! Inference and checking are the same pass; they differ in what happens when a state arrives at a cut point.

use super::branch::Test;
use super::checker::Checker;
use super::flow::RegisterLiveness;
use super::memory::Memory;
use super::state::{Address, Linear, State, Word};
use crate::abi::Helper;
use crate::cfg::{Block, Graph};
use crate::isa::{Instruction, Register};
use std::collections::BTreeMap;

/// Symbols of one pass: bounds its memory.
const SYMBOLS_MAX: usize = 2_000_000;
/// Known words and facts in all states that wait: bounds the memory of a pass.
const WAITING_WORDS_MAX: usize = 2_000_000;
/// What a state takes beside them, in words.
const WORDS_PER_STATE: usize = 48;

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
    /// Whether the loop at this head must be gone through again, because more arrived than was known when it was entered.
    fn again(&mut self, head: u32) -> bool {
        let _ = head;
        false
    }
    /// Whether [`Cuts::again`] is ever true.
    fn repeats(&self) -> bool {
        false
    }
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
    ///
    /// Loops are gone through again until they are stable before what follows them is looked at, as in Bourdoncle, "Efficient chaotic
    /// iteration strategies with widenings", 1993: else every loop would wait for all loops before it once a round.
    pub(super) fn pass(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, steps_max: u64) -> bool {
        let mut incoming = Incoming::default();
        let mut resumptions: BTreeMap<usize, (Incoming, usize)> = BTreeMap::new();
        let ends = if cuts.repeats() { self.loop_ends() } else { BTreeMap::new() };
        self.flow(checker, cuts, &mut incoming, 0, entry(checker));
        let mut index = 0;
        while let Some(block) = self.graph.blocks().get(index) {
            let mut state = incoming.take(index);
            if self.is_head(block.start) {
                if cuts.repeats() && !resumptions.contains_key(&index) {
                    checker.steps += incoming.words as u64 / 8;
                    resumptions.insert(index, (incoming.clone(), checker.symbols.len()));
                }
                state = enter(checker, cuts, Cut::Loop(block.start));
            }
            self.run(checker, cuts, &mut incoming, block, state, steps_max);
            let waiting = incoming.words + resumptions.values().map(|(incoming, _)| incoming.words).sum::<usize>();
            if checker.steps > steps_max || checker.symbols.len() > SYMBOLS_MAX || waiting > WAITING_WORDS_MAX {
                return false;
            }
            index += 1;
            for head in ends.get(&(index - 1)).into_iter().flatten() {
                if cuts.again(self.graph.blocks()[*head].start) {
                    resumptions.retain(|other, _| other <= head);
                    if let Some((before, symbols)) = resumptions.get(head) {
                        checker.steps += before.words as u64 / 8;
                        checker.symbols.forget(*symbols);
                        incoming = before.clone();
                        index = *head;
                        break;
                    }
                }
                resumptions.remove(head);
            }
        }
        true
    }

    fn is_head(&self, at: u32) -> bool {
        self.graph.loop_heads().binary_search(&at).is_ok()
    }

    /// The last blocks of loops with their heads, inner ones first.
    fn loop_ends(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for edge in self.graph.retreating_edges() {
            if let (Some(head), Some(from)) = (self.graph.block_of(edge.head), self.graph.block_of(edge.from_instruction)) {
                let end = last.entry(head).or_default();
                *end = from.max(*end);
            }
        }
        let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (head, end) in last.into_iter().rev() {
            ends.entry(end).or_default().push(head);
        }
        ends
    }

    /// Executes a block, or its front if the steps are used up on the way: a block can be the whole function.
    fn run(
        &self,
        checker: &mut Checker<'_>,
        cuts: &mut impl Cuts,
        incoming: &mut Incoming,
        block: &Block,
        mut state: Option<State>,
        steps_max: u64,
    ) {
        for at in block.start..block.end {
            if checker.steps > steps_max {
                return;
            }
            checker.steps += 1;
            let instruction = &self.instructions[at as usize];
            if is_suspension(instruction) {
                if let Some(state) = &mut state {
                    state.keep_registers(self.liveness.before(at));
                    checker.before_call(state, at, instruction);
                    cuts.arrive(checker, Cut::Suspension(at), state);
                }
                state = enter(checker, cuts, Cut::Suspension(at));
            }
            if let Some(state) = &mut state {
                // A store moves the known words behind it.
                checker.steps += state.memory.cells().len() as u64 / 16;
                checker.step(state, at, instruction);
            }
        }
        if let Some(state) = state {
            self.leave(checker, cuts, incoming, block.end - 1, state);
        }
    }

    /// Sends the state at the end of a block on its ways.
    fn leave(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, incoming: &mut Incoming, at: u32, mut state: State) {
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

    fn flow(&self, checker: &mut Checker<'_>, cuts: &mut impl Cuts, incoming: &mut Incoming, to: u32, mut state: State) {
        state.keep_registers(self.liveness.before(to));
        checker.steps += (state.collect(&checker.symbols) + state.size()) as u64 / 8;
        if self.is_head(to) {
            cuts.arrive(checker, Cut::Loop(to), &state);
        } else if let Some(block) = self.graph.block_of(to) {
            let joined = match incoming.take(block) {
                None => state,
                Some(other) => {
                    let mut joined = other.join(&state, &mut checker.symbols);
                    checker.steps += joined.collect(&checker.symbols) as u64 / 8;
                    joined
                }
            };
            incoming.put(block, joined);
        }
    }
}

/// What holds after a cut point. Its contract was made a state, in inference joined as well.
fn enter(checker: &mut Checker<'_>, cuts: &mut impl Cuts, cut: Cut) -> Option<State> {
    let state = cuts.enter(checker, cut)?;
    checker.steps += state.size() as u64;
    Some(state)
}

/// States that wait before their blocks.
#[derive(Clone, Default)]
struct Incoming {
    states: BTreeMap<usize, State>,
    /// Known words and facts in all of them, and some more for the states themselves.
    words: usize,
}

impl Incoming {
    fn take(&mut self, block: usize) -> Option<State> {
        let state = self.states.remove(&block)?;
        self.words -= state.size() + WORDS_PER_STATE;
        Some(state)
    }

    fn put(&mut self, block: usize, state: State) {
        self.words += state.size() + WORDS_PER_STATE;
        self.states.insert(block, state);
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
