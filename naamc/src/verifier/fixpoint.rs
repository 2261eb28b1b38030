//! Inference of contracts: passes over the code until nothing changes.
//!
//! At loop heads what arrives is joined with what was there, after a few rounds widened to thresholds (constants that the loop compares
//! with and their neighbours), so that every chain of rounds ends. Two descending rounds then take back what widening gave away. Whether
//! the result holds is for the check to say, so nothing here is trusted.

use super::checker::Checker;
use super::contract::{Contract, Contracts};
use super::cut::{join, project, state_of};
use super::flow::RegisterLiveness;
use super::loops::bodies;
use super::pass::{Code, Cut, Cuts};
use super::state::State;
use super::value::{Pointer, Scalar, Value};
use crate::abi::{REGISTERS_MAX, STACK_BYTES};
use crate::cfg::Graph;
use crate::isa::{AluOperation, Instruction, Operand};
use crate::program::{Environment, Function};
use std::collections::BTreeMap;

/// Steps of an inference, all its passes together: as those of a check.
pub(super) const INFERENCE_STEPS_MAX: u64 = 4_000_000;
/// Rounds in which a loop's contract is joined before it is widened.
const JOINS_BEFORE_WIDENING: u32 = 2;
/// Rounds of widening to thresholds; after them only the ends of the number line are left.
const THRESHOLD_ROUNDS: u32 = 40;
/// Rounds after which whatever still changes is given up.
const GIVE_UP_ROUNDS: u32 = 80;
/// Bytes of the shortest walk by address whose end is a threshold.
const WALK_BYTES_MIN: u32 = 16;
/// Thresholds of one loop, and those that all loops share.
const THRESHOLDS_MAX: usize = 256;
/// Passes that take back what widening gave away.
const DESCENDING_PASSES: usize = 2;

/// Candidates for contracts: the ascending fixpoint, and what the descending passes made of it. The later one is the stronger.
pub(super) struct Inferred {
    pub(super) candidates: Vec<Contracts>,
}

/// Infers contracts; none if the budget is used up.
pub(super) fn infer(function: &Function, environment: &Environment, graph: &Graph) -> Option<Inferred> {
    let liveness = RegisterLiveness::new(graph, &function.instructions);
    let code = Code { graph, instructions: &function.instructions, liveness: &liveness };
    let mut cuts = Inference {
        liveness: &liveness,
        thresholds: Thresholds::new(graph, function, environment),
        contracts: BTreeMap::new(),
        arrived: BTreeMap::new(),
        rounds: BTreeMap::new(),
        descending: false,
        changed: false,
    };
    let mut steps = 0;
    let mut run = |cuts: &mut Inference| -> bool {
        let mut checker = Checker::new(function, environment, false);
        checker.steps = steps;
        let done = code.pass(&mut checker, cuts, INFERENCE_STEPS_MAX);
        steps = checker.steps;
        done
    };
    loop {
        cuts.changed = false;
        if !run(&mut cuts) {
            return None;
        }
        if !cuts.changed && !cuts.awaits() {
            break;
        }
    }
    let mut candidates = vec![cuts.contracts()];
    cuts.descending = true;
    for _ in 0..DESCENDING_PASSES {
        if !run(&mut cuts) {
            break;
        }
        candidates.push(cuts.contracts());
    }
    Some(Inferred { candidates })
}

struct Inference<'a> {
    liveness: &'a RegisterLiveness,
    thresholds: Thresholds,
    contracts: BTreeMap<Cut, Contract>,
    /// What reached a loop head since it was last entered.
    arrived: BTreeMap<u32, Contract>,
    /// How often the contract of a loop head changed.
    rounds: BTreeMap<u32, u32>,
    descending: bool,
    changed: bool,
}

impl Inference<'_> {
    fn contracts(&self) -> Contracts {
        let mut all = Contracts::default();
        for (cut, contract) in &self.contracts {
            match cut {
                Cut::Loop(_) => all.loops.push(contract.clone()),
                Cut::Suspension(_) => all.suspensions.push(contract.clone()),
            }
        }
        all
    }

    /// Whether something arrived at a loop head, after it was entered, that its contract does not hold yet.
    fn awaits_at(&self, head: u32) -> bool {
        match (self.arrived.get(&head), self.contracts.get(&Cut::Loop(head))) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(arrived), Some(contract)) => join(contract, arrived) != *contract,
        }
    }

    fn awaits(&self) -> bool {
        self.arrived.keys().any(|head| self.awaits_at(*head))
    }

    /// Takes what arrived at a loop head into its contract.
    fn take(&mut self, head: u32) {
        let Some(arrived) = self.arrived.remove(&head) else { return };
        let cut = Cut::Loop(head);
        let new = match self.contracts.get(&cut) {
            None => arrived,
            Some(_) if self.descending => arrived,
            Some(old) => {
                let joined = join(old, &arrived);
                if joined == *old {
                    return;
                }
                let rounds = self.rounds.entry(head).or_default();
                *rounds += 1;
                let thresholds = if *rounds > THRESHOLD_ROUNDS { Vec::new() } else { self.thresholds.of(head) };
                match *rounds {
                    ..=JOINS_BEFORE_WIDENING => joined,
                    GIVE_UP_ROUNDS.. => given_up(old, joined),
                    _ => widened(old, joined, &thresholds),
                }
            }
        };
        self.changed = true;
        self.contracts.insert(cut, new);
    }
}

impl Cuts for Inference<'_> {
    fn arrive(&mut self, checker: &mut Checker<'_>, cut: Cut, state: &State) {
        // Every two registers are looked at together.
        let together = if state.relates(&checker.symbols) { REGISTERS_MAX * state.facts_known() } else { 0 };
        checker.steps += (4 + state.size() + together / 8) as u64;
        match cut {
            Cut::Loop(head) => {
                let contract = project(state, &checker.symbols, head, self.liveness.before(head));
                let all = match self.arrived.remove(&head) {
                    None => contract,
                    Some(other) => join(&other, &contract),
                };
                self.arrived.insert(head, all);
            }
            Cut::Suspension(at) => {
                let contract = project(state, &checker.symbols, at, self.liveness.before(at));
                self.contracts.insert(cut, contract);
            }
        }
    }

    fn again(&mut self, head: u32) -> bool {
        !self.descending && self.awaits_at(head)
    }

    fn repeats(&self) -> bool {
        !self.descending
    }

    fn enter(&mut self, checker: &mut Checker<'_>, cut: Cut) -> Option<State> {
        if let Cut::Loop(head) = cut {
            self.take(head);
        }
        Some(state_of(self.contracts.get(&cut)?, &mut checker.symbols))
    }
}

fn widened(old: &Contract, new: Contract, thresholds: &[u64]) -> Contract {
    each_change(old, new, |old, new| match (old, new) {
        (Value::Scalar(old), Value::Scalar(new)) => Value::Scalar(old.widen(new, thresholds)),
        (Value::Pointer(old), Value::Pointer(new)) => {
            let offset = |old: Option<Scalar>, new: Option<Scalar>| match (old, new) {
                (Some(old), Some(new)) => Some(old.widen(new, thresholds)),
                _ => new,
            };
            Value::Pointer(Pointer {
                stack: offset(old.stack, new.stack),
                body: offset(old.body, new.body),
                read_only: offset(old.read_only, new.read_only),
                ..new
            })
        }
        (_, new) => new,
    })
}

fn given_up(old: &Contract, new: Contract) -> Contract {
    each_change(old, new, |_, new| match new {
        Value::Scalar(_) => Value::Scalar(Scalar::ANY),
        Value::Pointer(pointer) => {
            let any = |offset: Option<Scalar>| offset.map(|_| Scalar::ANY);
            Value::Pointer(Pointer {
                stack: any(pointer.stack),
                body: any(pointer.body),
                read_only: any(pointer.read_only),
                ..pointer
            })
        }
    })
}

/// Applies `change` to every value that is not what it was. Bounds of sums that moved are given up.
fn each_change(old: &Contract, mut new: Contract, change: impl Fn(Value, Value) -> Value) -> Contract {
    new.bounds.retain(|bound| old.bounds.contains(bound));
    for (register, value) in &mut new.registers {
        let before = old.registers.iter().find(|(other, _)| other == register);
        if let Some((_, before)) = before.filter(|(_, before)| before != value) {
            *value = change(*before, *value);
        }
    }
    for cell in &mut new.cells {
        let before = old.cells.iter().find(|other| other.offset == cell.offset && other.size == cell.size);
        if let Some(before) = before.filter(|before| before.value != cell.value) {
            let bits = 8 * cell.size.bytes();
            let changed = match change(before.value, cell.value) {
                Value::Scalar(scalar) if bits < 64 => {
                    Value::Scalar(scalar.meet(Scalar::unsigned(0, (1 << bits) - 1)).unwrap_or(scalar))
                }
                value => value,
            };
            cell.value = changed;
        }
    }
    new
}

/// Numbers near which values in loops may settle.
struct Thresholds {
    /// In every loop: sizes, constants that registers are set to, and ends of walks.
    common: Vec<u64>,
    /// What a loop compares with, by its head.
    own: BTreeMap<u32, Vec<u64>>,
}

impl Thresholds {
    fn new(graph: &Graph, function: &Function, environment: &Environment) -> Thresholds {
        let stack = STACK_BYTES as u64;
        let mut common = vec![0, stack, stack.wrapping_neg(), function.entry.body_bytes.into(), environment.read_only.len() as u64];
        for instruction in &function.instructions {
            match instruction {
                Instruction::Alu { operation: AluOperation::Move, source: Operand::Immediate(value), .. } => {
                    near(i64::from(*value) as u64, &mut common);
                }
                Instruction::LoadImmediate { value, .. } => near(*value, &mut common),
                // Where an address ends that a loop walks up to. Smaller numbers are steps.
                Instruction::Alu { operation: AluOperation::Add, source: Operand::Immediate(value), .. }
                    if value.unsigned_abs() >= WALK_BYTES_MIN =>
                {
                    near(i64::from(*value) as u64, &mut common);
                }
                _ => {}
            }
        }
        let mut own = BTreeMap::new();
        for body in bodies(graph) {
            let values: &mut Vec<u64> = own.entry(body.head).or_default();
            for block in body.blocks.iter().map(|block| &graph.blocks()[*block as usize]) {
                for at in block.start..block.end {
                    if let Instruction::JumpIf { right: Operand::Immediate(value), .. } = function.instructions[at as usize] {
                        near(i64::from(value) as u64, values);
                        near(u64::from(value as u32), values);
                    }
                }
            }
        }
        Thresholds { common, own }
    }

    fn of(&self, head: u32) -> Vec<u64> {
        self.common.iter().chain(self.own.get(&head).into_iter().flatten()).copied().collect()
    }
}

/// Adds a number and its neighbours.
fn near(value: u64, values: &mut Vec<u64>) {
    for value in [value.wrapping_sub(1), value, value.wrapping_add(1)] {
        if values.len() < THRESHOLDS_MAX && !values.contains(&value) {
            values.push(value);
        }
    }
}
