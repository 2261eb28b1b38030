//! What is read later and what was written before: liveness of registers, of stack and body, and bytes that no path writes.
//!
//! Registers need the code alone; memory needs what a check recorded of every access.

use super::contract::ByteRange;
use super::{Access, Analysis, Call, Touched};
use crate::abi::{BODY_BYTES_MAX, Extent, Helper, Parameter, STACK_BYTES};
use crate::cfg::{Block, Graph};
use crate::diagnostic::{Code, Finding};
use crate::isa::{AluOperation, AtomicOperation, Instruction, Operand, Register};
use std::collections::BTreeSet;
use std::rc::Rc;

/// A run of unwritten bytes shorter than this, beside written ones, is padding of a struct.
const PADDING_BYTES_MAX: u32 = 7;

/// Steps for each time that the bytes of a block are joined and compared, beside one for each edge and each effect.
const SET_STEPS: u64 = 2;

/// Registers as bits by [`Register::index`].
fn bit(register: Register) -> u64 {
    1 << register.index()
}

fn operand(operand: &Operand) -> u64 {
    match operand {
        Operand::Register(register) => bit(*register),
        Operand::Immediate(_) => 0,
    }
}

/// Registers that an instruction reads, and those that it sets or loses.
pub(super) fn registers(instruction: &Instruction) -> (u64, u64) {
    match instruction {
        Instruction::Alu { operation: AluOperation::Move, destination, source, .. } => (operand(source), bit(*destination)),
        Instruction::Alu { destination, source, .. } => (bit(*destination) | operand(source), bit(*destination)),
        Instruction::MoveSignExtend { destination, source, .. } => (bit(*source), bit(*destination)),
        Instruction::Negate { destination, .. } | Instruction::ByteOrder { destination, .. } => {
            (bit(*destination), bit(*destination))
        }
        Instruction::LoadImmediate { destination, .. } | Instruction::LoadAddress { destination, .. } => (0, bit(*destination)),
        Instruction::Load { destination, base, .. } => (bit(*base), bit(*destination)),
        Instruction::Store { base, source, .. } => (bit(*base) | operand(source), 0),
        Instruction::Atomic { operation, fetch, base, source, .. } => {
            let exchange = *operation == AtomicOperation::CompareExchange;
            let result = if exchange { bit(Register::R0) } else { bit(*source) };
            let expected = if exchange { bit(Register::R0) } else { 0 };
            (bit(*base) | bit(*source) | expected, if *fetch { result } else { 0 })
        }
        Instruction::JumpIf { left, right, .. } => (bit(*left) | operand(right), 0),
        Instruction::CallHelper { number } => {
            let arguments = Helper::from_number(*number).map_or(0, |helper| helper.parameters().len());
            (((1 << arguments) - 1) << 1, 0x3f)
        }
        Instruction::Exit => (bit(Register::R0), 0),
        Instruction::Jump { .. } | Instruction::CallLocal { .. } => (0, 0),
    }
}

/// Registers that are read later before they are set.
pub(super) struct RegisterLiveness {
    before: Vec<u64>,
}

impl RegisterLiveness {
    pub(super) fn new(graph: &Graph, instructions: &[Instruction]) -> RegisterLiveness {
        let mut before = vec![0u64; instructions.len()];
        let mut pending = Pending::all(graph, Direction::Backward);
        while let Some(index) = pending.next() {
            let block = &graph.blocks()[index];
            let mut live =
                block.successors.iter().fold(0, |live, next| live | before[graph.blocks()[*next as usize].start as usize]);
            let old = before[block.start as usize];
            for at in (block.start..block.end).rev() {
                let (reads, sets) = registers(&instructions[at as usize]);
                live = (live & !sets) | reads;
                before[at as usize] = live;
            }
            if live != old {
                pending.changed(index);
            }
        }
        RegisterLiveness { before }
    }

    /// The registers that are live before an instruction.
    pub(super) fn before(&self, at: u32) -> u64 {
        self.before.get(at as usize).copied().unwrap_or(0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From what comes first to what follows.
    Forward,
    /// From what follows to what comes first.
    Backward,
}

/// Blocks that must be looked at again, because what they depend on changed. They come in rounds along the direction: so what a block
/// depends on tends to be settled before it.
struct Pending<'a> {
    graph: &'a Graph,
    direction: Direction,
    blocks: BTreeSet<usize>,
    /// The block that came last.
    last: Option<usize>,
}

impl<'a> Pending<'a> {
    fn all(graph: &'a Graph, direction: Direction) -> Pending<'a> {
        Pending { graph, direction, blocks: (0..graph.blocks().len()).collect(), last: None }
    }

    fn next(&mut self) -> Option<usize> {
        let (blocks, last) = (&self.blocks, self.last);
        let next = match self.direction {
            Direction::Forward => last.and_then(|last| blocks.range(last + 1..).next()).or_else(|| blocks.first()),
            Direction::Backward => last.and_then(|last| blocks.range(..last).next_back()).or_else(|| blocks.last()),
        };
        self.last = next.copied();
        self.last.inspect(|block| {
            self.blocks.remove(block);
        })
    }

    /// Those that depend on a block, since it changed.
    fn changed(&mut self, block: usize) {
        let block = &self.graph.blocks()[block];
        let dependent = match self.direction {
            Direction::Forward => &block.successors,
            Direction::Backward => &block.predecessors,
        };
        self.blocks.extend(dependent.iter().map(|block| *block as usize));
    }
}

const MEMORY_WORDS: usize = (STACK_BYTES + BODY_BYTES_MAX).div_ceil(64);

/// A set of bytes of stack and body; equal neighbours share one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(Rc<[u64; MEMORY_WORDS]>);

impl Bytes {
    fn none() -> Bytes {
        Bytes(Rc::new([0; MEMORY_WORDS]))
    }

    fn insert(&mut self, range: ByteRange) {
        if range.words(64 * MEMORY_WORDS).any(|(word, bits)| self.0[word] & bits != bits) {
            let words = Rc::make_mut(&mut self.0);
            range.words(64 * MEMORY_WORDS).for_each(|(word, bits)| words[word] |= bits);
        }
    }

    fn remove(&mut self, range: ByteRange) {
        if self.intersects(range) {
            let words = Rc::make_mut(&mut self.0);
            range.words(64 * MEMORY_WORDS).for_each(|(word, bits)| words[word] &= !bits);
        }
    }

    fn union(&mut self, other: &Bytes) {
        if self.0.iter().all(|word| *word == 0) {
            self.0 = Rc::clone(&other.0);
        } else if self.0.iter().zip(other.0.iter()).any(|(word, bits)| bits & !word != 0) {
            let words = Rc::make_mut(&mut self.0);
            words.iter_mut().zip(other.0.iter()).for_each(|(word, bits)| *word |= bits);
        }
    }

    pub(crate) fn intersects(&self, range: ByteRange) -> bool {
        range.words(64 * MEMORY_WORDS).any(|(word, bits)| self.0[word] & bits != 0)
    }

    pub(crate) fn contains(&self, byte: u32) -> bool {
        self.0[byte as usize / 64] >> (byte % 64) & 1 == 1
    }

    /// One past the largest byte; 0 if there is none.
    fn end(&self) -> u32 {
        self.0.iter().rposition(|word| *word != 0).map_or(0, |word| 64 * word as u32 + 64 - self.0[word].leading_zeros())
    }
}

/// What an instruction does with memory.
struct Effect {
    at: u32,
    range: ByteRange,
    kind: EffectKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EffectKind {
    /// Every byte is read.
    Reads,
    /// Some bytes may be read.
    MayRead,
    /// Every byte is written.
    Writes,
    /// Some bytes may be written.
    MayWrite,
}

/// The effects of all recorded accesses and calls, ascending by instruction; of one instruction reads come before writes.
fn effects(analysis: &Analysis, instructions: &[Instruction]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for access in &analysis.accesses {
        access_effects(access, &instructions[access.instruction as usize], &mut effects);
    }
    for call in &analysis.calls {
        call_effects(call, &mut effects);
    }
    effects.sort_by_key(|effect| (effect.at, matches!(effect.kind, EffectKind::Writes | EffectKind::MayWrite)));
    effects
}

fn access_effects(access: &Access, instruction: &Instruction, effects: &mut Vec<Effect>) {
    let (reads, writes) = match instruction {
        Instruction::Load { .. } => (true, false),
        Instruction::Atomic { .. } => (true, true),
        _ => (false, true),
    };
    for range in ranges(&access.touched) {
        let mut add = |kind| effects.push(Effect { at: access.instruction, range, kind });
        if reads {
            add(if access.exact { EffectKind::Reads } else { EffectKind::MayRead });
        }
        if writes {
            add(if access.exact { EffectKind::Writes } else { EffectKind::MayWrite });
        }
    }
}

fn call_effects(call: &Call, effects: &mut Vec<Effect>) {
    for (parameter, register) in call.helper.parameters().iter().zip(Register::ARGUMENTS) {
        let (Parameter::Source(extent) | Parameter::Destination(extent)) = parameter else { continue };
        let Some((_, touched)) = call.memory.iter().find(|(other, _)| *other == register) else { continue };
        let (min, max) = match extent {
            Extent::Word => (8, 8),
            Extent::Parameter(index) => {
                let length = call.numbers.iter().find(|(other, _)| other.index() == index + 1);
                length.map_or((0, u64::from(u32::MAX)), |(_, length)| (length.unsigned_min, length.unsigned_max))
            }
        };
        let all: Vec<ByteRange> = ranges(touched).collect();
        for range in &all {
            let exact = call.exact.contains(&register);
            let mut add = |range, kind| effects.push(Effect { at: call.instruction, range, kind });
            let sure = ByteRange { start: range.start, end: range.start + if exact { min as u32 } else { 0 } };
            let source = matches!(parameter, Parameter::Source(_));
            if source {
                add(*range, if exact && min == max { EffectKind::Reads } else { EffectKind::MayRead });
            } else {
                add(*range, EffectKind::MayWrite);
                add(sure, EffectKind::Writes);
            }
        }
    }
}

fn ranges(touched: &Touched) -> impl Iterator<Item = ByteRange> {
    touched.stack.into_iter().chain(touched.body)
}

/// Stack and body bytes that are read later before they are written.
pub(crate) struct MemoryLiveness<'a> {
    graph: &'a Graph,
    effects: Vec<Effect>,
    /// By block.
    before: Vec<Bytes>,
}

impl<'a> MemoryLiveness<'a> {
    /// Finds it; none if that takes more steps than are `left`, which it takes them from.
    pub(crate) fn new(
        graph: &'a Graph,
        instructions: &[Instruction],
        analysis: &Analysis,
        left: &mut u64,
    ) -> Option<MemoryLiveness<'a>> {
        let effects = effects(analysis, instructions);
        let mut before: Vec<Bytes> = vec![Bytes::none(); graph.blocks().len()];
        let mut pending = Pending::all(graph, Direction::Backward);
        while let Some(index) = pending.next() {
            let block = &graph.blocks()[index];
            *left = left.checked_sub(set_steps(&effects, block))?;
            let live = live_at(graph, &effects, &before, index, block.start);
            if live != before[index] {
                before[index] = live;
                pending.changed(index);
            }
        }
        Some(MemoryLiveness { graph, effects, before })
    }

    /// The bytes that are live before an instruction; none in unreachable code.
    pub(crate) fn before(&self, at: u32) -> Bytes {
        match self.graph.block_of(at) {
            Some(block) => live_at(self.graph, &self.effects, &self.before, block, at),
            None => Bytes::none(),
        }
    }

    /// Body bytes that may be read before they are written: up to this one.
    pub(crate) fn body_bytes_read(&self) -> u32 {
        self.before[0].end().saturating_sub(STACK_BYTES as u32)
    }
}

/// What is live before instruction `at` of a block, given what is live before the blocks that follow.
fn live_at(graph: &Graph, effects: &[Effect], before: &[Bytes], block: usize, at: u32) -> Bytes {
    let block = &graph.blocks()[block];
    let mut live = Bytes::none();
    block.successors.iter().for_each(|next| live.union(&before[*next as usize]));
    for effect in in_range(effects, at, block.end).iter().rev() {
        match effect.kind {
            EffectKind::Reads | EffectKind::MayRead => live.insert(effect.range),
            EffectKind::Writes => live.remove(effect.range),
            EffectKind::MayWrite => {}
        }
    }
    live
}

fn in_range(effects: &[Effect], start: u32, end: u32) -> &[Effect] {
    let from = effects.partition_point(|effect| effect.at < start);
    let to = effects.partition_point(|effect| effect.at < end);
    &effects[from..to.max(from)]
}

/// Steps that it takes to go through a block with a set of bytes.
fn set_steps(effects: &[Effect], block: &Block) -> u64 {
    SET_STEPS
        + block.successors.len() as u64
        + block.predecessors.len() as u64
        + in_range(effects, block.start, block.end).len() as u64
}

/// Findings for stack bytes that are read and that no path writes before; none if that takes more steps than are `left`, which it takes
/// them from.
pub(super) fn never_written(
    graph: &Graph,
    instructions: &[Instruction],
    analysis: &Analysis,
    left: &mut u64,
) -> Option<Vec<Finding>> {
    let effects = effects(analysis, instructions);
    let count = graph.blocks().len();
    let mut after: Vec<Bytes> = vec![Bytes::none(); count];
    let before = |after: &[Bytes], index: usize| {
        let mut written = Bytes::none();
        graph.blocks()[index].predecessors.iter().for_each(|previous| written.union(&after[*previous as usize]));
        written
    };
    let mut pending = Pending::all(graph, Direction::Forward);
    while let Some(index) = pending.next() {
        let block = &graph.blocks()[index];
        *left = left.checked_sub(set_steps(&effects, block))?;
        let mut written = before(&after, index);
        in_range(&effects, block.start, block.end)
            .iter()
            .filter(|effect| writes(effect.kind))
            .for_each(|effect| written.insert(effect.range));
        if written != after[index] {
            after[index] = written;
            pending.changed(index);
        }
    }
    let mut findings = Vec::new();
    for (index, block) in graph.blocks().iter().enumerate() {
        let mut written = before(&after, index);
        for effect in in_range(&effects, block.start, block.end) {
            if writes(effect.kind) {
                written.insert(effect.range);
            } else if let Some(missing) = missing(&written, effect) {
                findings.push(unwritten(effect.at, missing));
            }
        }
    }
    Some(findings)
}

fn writes(kind: EffectKind) -> bool {
    matches!(kind, EffectKind::Writes | EffectKind::MayWrite)
}

/// Stack bytes of a read that are not written and more than padding.
fn missing(written: &Bytes, effect: &Effect) -> Option<ByteRange> {
    let end = effect.range.end.min(STACK_BYTES as u32);
    let mut longest: Option<ByteRange> = None;
    let mut start = effect.range.start;
    while start < end {
        let run = ByteRange { start, end: (start..end).find(|byte| written.contains(*byte)).unwrap_or(end) };
        let length = run.end - run.start;
        if length > longest.map_or(0, |run| run.end - run.start) {
            longest = Some(run);
        }
        start = run.end + 1;
    }
    let longest = longest?;
    let whole = longest == ByteRange { start: effect.range.start, end };
    let long = effect.kind == EffectKind::Reads && longest.end - longest.start > PADDING_BYTES_MAX;
    (whole || long).then_some(longest)
}

fn unwritten(at: u32, range: ByteRange) -> Finding {
    let below = |byte: u32| STACK_BYTES as u32 - byte;
    Finding::new(
        Code::NEVER_WRITTEN,
        format!("{} bytes of the stack are read, but no path writes them before", range.end - range.start),
    )
    .at(at)
    .known(format!("the bytes are {} to {} below the end of the stack", below(range.end - 1), below(range.start)))
    .hint("initialise the variable")
}
