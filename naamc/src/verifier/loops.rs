//! How often loops run: bounds on back edges from what contracts say at loop heads.
//!
//! If on every way around a loop some value changes by a constant, always in one direction, and the head's contract keeps it within an
//! interval that it cannot leave by wrapping, the interval's length bounds the rounds. The contract holds at every arrival, so that needs
//! no look at the exit test.

use super::contract::{ByteRange, Contract, Contracts};
use super::flow::registers;
use super::value::{Scalar, Value};
use super::{Access, Analysis, Loop};
use crate::abi::REGISTERS_MAX;
use crate::cfg::Graph;
use crate::isa::{AluOperation, Instruction, Operand, Register, Size, Width};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Instructions that a handler runs at most without fuel: from its start, or from one metered back edge, to the next or to its end.
const UNMETERED_INSTRUCTIONS_MAX: u64 = 1 << 20;
/// Of these, what unmetered loops inside a metered one run together in one of its rounds, of which there are as many as there is fuel.
const NESTED_INSTRUCTIONS_MAX: u64 = 1 << 12;
/// Work that all loops of a function together get; loops beyond it are metered.
const LOOP_STEPS_MAX: u64 = 2_000_000;

/// The blocks of a loop.
pub(super) struct Body {
    /// Index of the first instruction.
    pub(super) head: u32,
    /// Indices of blocks, ascending, that of the head among them.
    pub(super) blocks: Vec<u32>,
    /// Whether it can only be entered at its head.
    pub(super) reducible: bool,
    /// Whether all of its blocks are known.
    complete: bool,
}

/// The loops of a graph, ascending by head. Where loops are so many and so large that this takes too long, the rest have only their head.
pub(super) fn bodies(graph: &Graph) -> Vec<Body> {
    let mut steps = 0;
    let mut member = vec![u32::MAX; graph.blocks().len()];
    let mut bodies = Vec::new();
    for (number, head) in graph.loop_heads().iter().enumerate() {
        let Some(head_block) = graph.block_of(*head).map(|block| block as u32) else { continue };
        let mut blocks = vec![head_block];
        member[head_block as usize] = number as u32;
        let complete = steps <= LOOP_STEPS_MAX;
        let mut reducible = complete;
        let sources = graph.blocks()[head_block as usize].predecessors.iter().copied().filter(|source| *source >= head_block);
        let mut pending: Vec<u32> = if complete { sources.collect() } else { Vec::new() };
        while let Some(block) = pending.pop() {
            if std::mem::replace(&mut member[block as usize], number as u32) == number as u32 {
                continue;
            }
            steps += 1;
            reducible &= block != 0;
            blocks.push(block);
            pending.extend(&graph.blocks()[block as usize].predecessors);
        }
        blocks.sort_unstable();
        bodies.push(Body { head: *head, blocks, reducible, complete });
    }
    bodies
}

/// Bounds and metering of all loops.
pub(super) fn loops(graph: &Graph, instructions: &[Instruction], contracts: &Contracts, analysis: &Analysis) -> Vec<Loop> {
    let bodies = bodies(graph);
    let mut steps = 0;
    let mut found: Vec<Loop> = bodies
        .iter()
        .map(|body| {
            let place = contracts.loops.binary_search_by_key(&body.head, |contract| contract.instruction);
            let contract = place.ok().map(|place| &contracts.loops[place]);
            let trips_max = match contract {
                Some(contract) if body.reducible => Tracking { graph, instructions, analysis, body }.trips(contract, &mut steps),
                _ => None,
            };
            Loop { head: body.head, trips_max, metered: trips_max.is_none() }
        })
        .collect();
    meter(graph, &bodies, &mut found);
    found
}

/// Decides which bounded loops are metered all the same: first those that are too long alone, inner ones first, then the costliest of those
/// that are too long together.
fn meter(graph: &Graph, bodies: &[Body], loops: &mut [Loop]) {
    let mut around: Vec<Vec<u32>> = vec![Vec::new(); graph.blocks().len()];
    for (index, body) in bodies.iter().enumerate() {
        body.blocks.iter().for_each(|block| around[*block as usize].push(index as u32));
    }
    let work: u64 = around.iter().map(|loops| (loops.len() * loops.len()) as u64).sum();
    // Of a loop whose blocks are not known it is not known either what it repeats.
    if work > LOOP_STEPS_MAX || bodies.iter().any(|body| !body.complete) {
        loops.iter_mut().for_each(|found| found.metered = true);
        return;
    }
    let nest = Nest { graph, bodies, around };
    let mut order: Vec<usize> = (0..bodies.len()).collect();
    order.sort_by_key(|index| (bodies[*index].blocks.len(), *index));
    for index in &order {
        if !loops[*index].metered {
            loops[*index].metered = nest.instructions_of(loops, *index) > UNMETERED_INSTRUCTIONS_MAX;
        }
    }
    for index in &order {
        if !loops[*index].metered && nest.inside_metered(loops, *index) {
            loops[*index].metered = nest.instructions_of(loops, *index) > NESTED_INSTRUCTIONS_MAX;
        }
    }
    // Metering a loop makes all around it cheaper, and asks more of what is inside: so each has to be looked at once.
    let mut pending: Vec<usize> = (0..bodies.len()).filter(|index| loops[*index].metered).collect();
    let straight: u64 = graph.blocks().iter().map(|block| u64::from(block.end - block.start)).sum();
    nest.meter_costliest(loops, None, UNMETERED_INSTRUCTIONS_MAX.saturating_sub(straight), &mut pending);
    while let Some(index) = pending.pop() {
        nest.meter_costliest(loops, Some(index), NESTED_INSTRUCTIONS_MAX, &mut pending);
    }
}

/// Loops inside each other.
struct Nest<'a> {
    graph: &'a Graph,
    bodies: &'a [Body],
    /// The loops around each block.
    around: Vec<Vec<u32>>,
}

impl Nest<'_> {
    /// Meters the costliest of the outermost unmetered loops in a loop (or in the whole function) until all of them together run no more
    /// than `instructions_max` each time it is gone through. Loops that come to be metered are added to `pending`.
    fn meter_costliest(&self, loops: &mut [Loop], region: Option<usize>, instructions_max: u64, pending: &mut Vec<usize>) {
        // Of two that cost the same the first in the code is metered.
        let cost = |loops: &[Loop], index: usize| (self.instructions_of(loops, index), Reverse(index));
        let mut costs: BinaryHeap<(u64, Reverse<usize>)> =
            self.outermost(loops, region).into_iter().map(|index| cost(loops, index)).collect();
        let mut sum = costs.iter().map(|(instructions, _)| u128::from(*instructions)).sum::<u128>();
        while sum > u128::from(instructions_max)
            && let Some((instructions, Reverse(costliest))) = costs.pop()
        {
            loops[costliest].metered = true;
            pending.push(costliest);
            sum -= u128::from(instructions);
            for inner in self.outermost(loops, Some(costliest)) {
                let cost = cost(loops, inner);
                sum += u128::from(cost.0);
                costs.push(cost);
            }
        }
    }

    /// The unmetered loops in a loop, or in the whole function, that are in no other unmetered loop there.
    fn outermost(&self, loops: &[Loop], region: Option<usize>) -> Vec<usize> {
        let unmetered = |index: usize| !loops[index].metered && Some(index) != region;
        let inside =
            |index: usize| region.is_none_or(|region| self.bodies[region].blocks.binary_search(&self.head_block(index)).is_ok());
        let is_outermost = |index: usize| {
            let mut others = self.around[self.head_block(index) as usize].iter().map(|other| *other as usize);
            others.all(|other| other == index || !unmetered(other) || !inside(other))
        };
        let found = |index: &usize| unmetered(*index) && inside(*index) && is_outermost(*index);
        match region {
            None => (0..self.bodies.len()).filter(found).collect(),
            Some(region) => {
                let blocks = self.bodies[region].blocks.iter();
                let headed = |block: &u32| {
                    let around = self.around[*block as usize].iter().map(|index| *index as usize);
                    around.filter(|index| self.head_block(*index) == *block).collect::<Vec<usize>>()
                };
                blocks.flat_map(headed).filter(found).collect()
            }
        }
    }

    fn head_block(&self, index: usize) -> u32 {
        self.graph.block_of(self.bodies[index].head).map_or(0, |block| block as u32)
    }

    fn inside_metered(&self, loops: &[Loop], index: usize) -> bool {
        let around = self.around[self.head_block(index) as usize].iter();
        around.map(|outer| *outer as usize).any(|outer| outer != index && loops[outer].metered)
    }

    /// Instructions of one entry of a loop at most, metered loops inside it counted once.
    fn instructions_of(&self, loops: &[Loop], index: usize) -> u64 {
        let blocks_inside = self.bodies[index].blocks.len();
        let rounds = |block: u32| {
            let inside = self.around[block as usize].iter().map(|other| *other as usize);
            inside
                .filter(|other| *other == index || (self.bodies[*other].blocks.len() <= blocks_inside && !loops[*other].metered))
                .map(|other| loops[other].trips_max.map_or(u64::MAX, |trips| trips.saturating_add(1)))
                .fold(1, u64::saturating_mul)
        };
        let of = |block: &u32| {
            let code = &self.graph.blocks()[*block as usize];
            rounds(*block).saturating_mul(u64::from(code.end - code.start))
        };
        self.bodies[index].blocks.iter().map(of).fold(0, u64::saturating_add)
    }
}

/// How often each block runs for one message at most, by index of the block; none where a loop around it has no bound.
pub(crate) fn executions(graph: &Graph, loops: &[Loop]) -> Vec<Option<u64>> {
    let mut all = vec![Some(1u64); graph.blocks().len()];
    let bounded =
        |head: u32| loops.binary_search_by_key(&head, |other| other.head).is_ok_and(|place| loops[place].trips_max.is_some());
    let unbounded: BTreeSet<u32> = graph.loop_heads().iter().copied().filter(|head| !bounded(*head)).collect();
    for body in bodies(graph) {
        let place = loops.binary_search_by_key(&body.head, |other| other.head);
        let bound = place.ok().and_then(|place| loops[place].trips_max);
        if !body.reducible {
            // Its blocks are not known.
            return vec![None; all.len()];
        }
        let leaving = leaving(graph, &body, &unbounded);
        for (block, leaves) in body.blocks.iter().zip(leaving) {
            // What only leads round the loop runs as often as its back edges are taken, the rest once more.
            let factor = bound.and_then(|trips| trips.checked_add(leaves.into()));
            let count = &mut all[*block as usize];
            *count = count.zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
        }
    }
    all
}

/// For each block of a loop, whether some path leads from it out of the loop without passing the head, or into an unbounded loop inside, where
/// a run may stay until it has no fuel.
fn leaving(graph: &Graph, body: &Body, unbounded: &BTreeSet<u32>) -> Vec<bool> {
    let place = |block: &u32| body.blocks.binary_search(block).ok();
    let head = graph.block_of(body.head).map_or(0, |block| block as u32);
    let leaves = |index: &u32| {
        let block = &graph.blocks()[*index as usize];
        let stays = block.start != body.head && unbounded.contains(&block.start);
        stays || block.successors.is_empty() || block.successors.iter().any(|next| place(next).is_none())
    };
    let mut leaves: Vec<bool> = body.blocks.iter().map(leaves).collect();
    let mut pending: Vec<u32> = body.blocks.iter().zip(&leaves).filter(|(_, leaves)| **leaves).map(|(block, _)| *block).collect();
    while let Some(block) = pending.pop() {
        // What reaches the head goes round: that it may leave there is counted by the other rounds.
        let before = if block == head { &[][..] } else { &graph.blocks()[block as usize].predecessors };
        for previous in before {
            if let Some(index) = place(previous)
                && !std::mem::replace(&mut leaves[index], true)
            {
                pending.push(*previous);
            }
        }
    }
    leaves
}

/// A place whose change around the loop is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    Register(Register),
    Cell(u32, Size),
}

/// "This holds now what `source` held at the head, plus `delta`", in the low half only unless `whole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relation {
    source: Location,
    delta: u64,
    whole: bool,
}

/// Relations at one point. What is not listed is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Relations {
    registers: [Option<Relation>; REGISTERS_MAX],
    cells: Vec<(u32, Size, Relation)>,
}

impl Relations {
    fn of(contract: &Contract) -> Relations {
        let same = |source| Relation { source, delta: 0, whole: true };
        let mut relations = Relations { registers: [None; REGISTERS_MAX], cells: Vec::new() };
        for (register, _) in &contract.registers {
            relations.registers[register.index()] = Some(same(Location::Register(*register)));
        }
        for cell in contract.cells.iter().filter(|cell| cell.size >= Size::B4) {
            relations.cells.push((cell.offset, cell.size, same(Location::Cell(cell.offset, cell.size))));
        }
        relations
    }

    fn get(&self, location: Location) -> Option<Relation> {
        match location {
            Location::Register(register) => self.registers[register.index()],
            Location::Cell(offset, size) => {
                self.cells.iter().find(|(at, of, _)| (*at, *of) == (offset, size)).map(|(_, _, relation)| *relation)
            }
        }
    }

    fn kill(&mut self, range: ByteRange) {
        self.cells.retain(|(offset, size, _)| !ByteRange::of(*offset, *size).overlaps(range));
    }

    /// Keeps what both know; true if something was lost.
    fn meet(&mut self, other: &Relations) -> bool {
        let before = (self.registers, self.cells.len());
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            if mine != theirs {
                *mine = None;
            }
        }
        self.cells.retain(|(offset, size, relation)| other.get(Location::Cell(*offset, *size)) == Some(*relation));
        before != (self.registers, self.cells.len())
    }
}

struct Tracking<'a> {
    graph: &'a Graph,
    instructions: &'a [Instruction],
    analysis: &'a Analysis,
    body: &'a Body,
}

impl Tracking<'_> {
    /// The largest number of back edges that one entry takes, if some value bounds it.
    fn trips(&self, contract: &Contract, steps: &mut u64) -> Option<u64> {
        let around = self.around(contract, steps)?;
        let registers = contract.registers.iter().map(|(register, value)| (Location::Register(*register), value));
        let cells = contract.cells.iter().map(|cell| (Location::Cell(cell.offset, cell.size), &cell.value));
        registers.chain(cells).filter_map(|(location, value)| bound(location, value, &around)).min()
    }

    /// What holds at the end of each way around the loop.
    fn around(&self, contract: &Contract, steps: &mut u64) -> Option<Vec<Relations>> {
        let blocks = &self.body.blocks;
        let place = |block: u32| blocks.binary_search(&block).ok();
        let head = place(self.graph.block_of(self.body.head)? as u32)?;
        let mut before: Vec<Option<Relations>> = vec![None; blocks.len()];
        before[head] = Some(Relations::of(contract));
        let mut ends: Vec<Option<Relations>> = vec![None; blocks.len()];
        let mut pending = BTreeSet::from([head]);
        while let Some(index) = pending.pop_first() {
            let Some(mut relations) = before[index].clone() else { continue };
            let block = &self.graph.blocks()[blocks[index] as usize];
            *steps += u64::from(block.end - block.start) + 8 + relations.cells.len() as u64;
            if *steps > LOOP_STEPS_MAX {
                return None;
            }
            (block.start..block.end).for_each(|at| self.step(&mut relations, at));
            for next in block.successors.iter().filter_map(|next| place(*next)) {
                if next == head {
                    ends[index] = Some(relations.clone());
                    continue;
                }
                let changed = match &mut before[next] {
                    Some(known) => known.meet(&relations),
                    none => {
                        *none = Some(relations.clone());
                        true
                    }
                };
                if changed {
                    pending.insert(next);
                }
            }
        }
        Some(ends.into_iter().flatten().collect())
    }

    fn access(&self, at: u32) -> Option<&Access> {
        let found = self.analysis.accesses.binary_search_by_key(&at, |access| access.instruction).ok()?;
        Some(&self.analysis.accesses[found])
    }

    fn step(&self, relations: &mut Relations, at: u32) {
        let instruction = &self.instructions[at as usize];
        let kept = match instruction {
            Instruction::Alu { width, operation, destination, source } => {
                let moved = match (operation, source) {
                    (AluOperation::Move, Operand::Register(source)) => relations.registers[source.index()],
                    (AluOperation::Add, Operand::Immediate(by)) => plus(relations.registers[destination.index()], i64::from(*by)),
                    (AluOperation::Subtract, Operand::Immediate(by)) => {
                        plus(relations.registers[destination.index()], -i64::from(*by))
                    }
                    _ => None,
                };
                moved.map(|relation| Relation { whole: relation.whole && *width == Width::W64, ..relation })
            }
            Instruction::Load { size, signed: false, .. } => match self.exact(at) {
                Some(offset) => relations.get(Location::Cell(offset, *size)),
                None => None,
            },
            _ => None,
        };
        let stored = match instruction {
            Instruction::Store { size, source: Operand::Register(source), .. } if *size >= Size::B4 => {
                let relation = relations.registers[source.index()];
                relation.map(|relation| (*size, Relation { whole: relation.whole && *size == Size::B8, ..relation }))
            }
            _ => None,
        };
        let (_, lost) = registers(instruction);
        for index in (0..REGISTERS_MAX).filter(|index| lost >> index & 1 == 1) {
            relations.registers[index] = kept;
        }
        self.write(relations, at, instruction);
        if let (Some((size, relation)), Some(offset)) = (stored, self.exact(at)) {
            relations.cells.push((offset, size, relation));
        }
    }

    /// Where an access begins, if that is always the same place.
    fn exact(&self, at: u32) -> Option<u32> {
        let access = self.access(at).filter(|access| access.exact)?;
        access.touched.stack.or(access.touched.body).map(|range| range.start)
    }

    /// Forgets what an instruction may overwrite.
    fn write(&self, relations: &mut Relations, at: u32, instruction: &Instruction) {
        let mut kill =
            |touched: &super::Touched| touched.stack.iter().chain(&touched.body).for_each(|range| relations.kill(*range));
        match instruction {
            Instruction::Store { .. } | Instruction::Atomic { .. } => {
                self.access(at).iter().for_each(|access| kill(&access.touched))
            }
            Instruction::CallHelper { .. } => {
                if let Ok(found) = self.analysis.calls.binary_search_by_key(&at, |call| call.instruction) {
                    self.analysis.calls[found].memory.iter().for_each(|(_, touched)| kill(touched));
                }
            }
            _ => {}
        }
    }
}

fn plus(relation: Option<Relation>, by: i64) -> Option<Relation> {
    relation.map(|relation| Relation { delta: relation.delta.wrapping_add(by as u64), ..relation })
}

/// How often a value can change as it does before it would leave its interval.
fn bound(location: Location, value: &Value, around: &[Relations]) -> Option<u64> {
    let relations: Vec<Relation> = around.iter().map(|end| end.get(location)).collect::<Option<_>>()?;
    if relations.is_empty() || relations.iter().any(|relation| relation.source != location) {
        return None;
    }
    let whole = relations.iter().all(|relation| relation.whole);
    let deltas = || relations.iter().map(|relation| if whole { relation.delta as i64 } else { i64::from(relation.delta as i32) });
    let (min, max) = (deltas().min()?, deltas().max()?);
    if min <= 0 && max >= 0 {
        return None;
    }
    let (least, most) = (min.unsigned_abs().min(max.unsigned_abs()), min.unsigned_abs().max(max.unsigned_abs()));
    // From inside the interval a step lands inside again without wrapping only if it cannot jump over all that lies outside.
    let rounds = |span: u64, modulus: u128| (u128::from(span) + u128::from(most) < modulus).then(|| span / least);
    let of_whole = |scalar: &Scalar| {
        let unsigned = rounds(scalar.unsigned_max - scalar.unsigned_min, 1 << 64);
        let signed = rounds(scalar.signed_max.abs_diff(scalar.signed_min), 1 << 64);
        unsigned.into_iter().chain(signed).min()
    };
    match value {
        Value::Scalar(scalar) if whole => of_whole(scalar),
        Value::Scalar(scalar) => {
            let unsigned = rounds((scalar.low_unsigned_max - scalar.low_unsigned_min).into(), 1 << 32);
            let signed = rounds(scalar.low_signed_max.abs_diff(scalar.low_signed_min).into(), 1 << 32);
            unsigned.into_iter().chain(signed).min()
        }
        Value::Pointer(pointer) if whole && !pointer.null && pointer.regions == 0 => {
            match (&pointer.stack, &pointer.body, &pointer.read_only) {
                (Some(offset), None, None) | (None, Some(offset), None) | (None, None, Some(offset)) => of_whole(offset),
                _ => None,
            }
        }
        Value::Pointer(_) => None,
    }
}
