//! Inlining: from functions that call each other to one flat function.
//!
//! Works on instructions alone, so that it serves objects and bare programs alike. What makes the result equal to real calls:
//!
//! 1. A callee at depth `d` has its own r6 to r9 ([`Register`]), so the caller's survive without being saved.
//! 2. It has its own range of the one stack, below its caller's: what it adds to r10 is shifted by a constant.
//! 3. r0 to r5 are shared: arguments and results need no moves. By eBPF's convention r1 to r5 hold nothing after a call, while here they
//!    hold what the callee left there. No later stage needs to know: a program that reads them reads a defined value, the same on every engine, and the
//!    verifier tracks that value like any other. clang never reads them.
//! 4. Its `exit` becomes a jump behind the call.
//!
//! Frames overlap with those of calls before and after, so a callee's stack is not zero at its entry; C promises nothing else.

use super::{Entry, Function};
use crate::abi::{CALL_DEPTH_MAX, INSTRUCTIONS_MAX, STACK_BYTES};
use crate::diagnostic::{Code, Finding};
use crate::isa::{AluOperation, Instruction, Operand, Register, Width};
use std::collections::{BTreeMap, BTreeSet};

/// Frames begin at multiples of this, as the stack does.
const FRAME_ALIGNMENT: u32 = 64;

/// Instructions of one or many functions. Targets of jumps and calls are indices into the one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallableCode {
    /// The instructions.
    pub instructions: Vec<Instruction>,
    /// Where functions lie, ascending. May be empty: then a function is what can be reached from its first instruction.
    pub functions: Vec<FunctionSpan>,
}

/// Where a function lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpan {
    /// Its name.
    pub name: String,
    /// Its first instruction.
    pub start: u32,
    /// One past its last.
    pub end: u32,
}

/// A flat function, and where its instructions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// The function.
    pub function: Function,
    /// For each of its instructions the index of the original that it was made from.
    pub origins: Vec<u32>,
}

/// Inlines every call of the function whose first instruction is `start`. Instructions that cannot be reached are left out.
///
/// # Errors
///
/// Recursion, calls too deep, too many instructions, frames over the stack's size, code that leaves its function. `place.instruction` is an index into
/// `code`.
pub fn flatten(code: &CallableCode, start: u32, name: &str, entry: Entry) -> Result<Flat, Vec<Finding>> {
    let routines = Routines::find(code, start)?;
    let gap = routines.gap(start)?;
    let mut emitter = Emitter { routines: &routines, gap, walked: 0, instructions: Vec::new(), origins: Vec::new() };
    emitter.emit(start, Site { depth: 0, shift: 0 }).map_err(|finding| vec![finding])?;
    let function = Function { name: name.to_string(), entry, instructions: emitter.instructions };
    Ok(Flat { function, origins: emitter.origins })
}

/// What can be reached of one function.
struct Routine {
    /// Its instructions with their indices, ascending.
    instructions: Vec<(u32, Instruction)>,
    /// Bytes of stack that it uses, a multiple of [`FRAME_ALIGNMENT`].
    frame_bytes: u32,
}

/// All functions that can be called, by their first instruction.
struct Routines<'a> {
    code: &'a CallableCode,
    found: BTreeMap<u32, Routine>,
}

impl<'a> Routines<'a> {
    /// Follows jumps and calls from `start`. Refuses recursion and depth on the way, so what comes after may recurse over calls.
    fn find(code: &'a CallableCode, start: u32) -> Result<Routines<'a>, Vec<Finding>> {
        let mut routines = Routines { code, found: BTreeMap::new() };
        let mut waiting = vec![start];
        let (mut findings, mut total) = (Vec::new(), 0);
        while let Some(start) = waiting.pop() {
            if routines.found.contains_key(&start) {
                continue;
            }
            match routine(code, start) {
                Ok(routine) => {
                    total += routine.instructions.len();
                    if total > 2 * INSTRUCTIONS_MAX {
                        return Err(vec![too_long(start)]);
                    }
                    waiting.extend(routine.calls().map(|(_, target)| target));
                    routines.found.insert(start, routine);
                }
                Err(finding) => {
                    findings.push(finding);
                    // Known, and empty: reported once.
                    routines.found.insert(start, Routine { instructions: Vec::new(), frame_bytes: 0 });
                }
            }
        }
        if let Err(finding) = routines.check_calls(start) {
            findings.push(finding);
        }
        if findings.is_empty() { Ok(routines) } else { Err(findings) }
    }

    /// A depth-first search over calls: no cycle, no chain longer than [`CALL_DEPTH_MAX`].
    fn check_calls(&self, start: u32) -> Result<(), Finding> {
        // Depth of the deepest chain below each function that is done: bounds the search to one visit each.
        let mut height = BTreeMap::new();
        self.visit(start, start, &mut Vec::new(), &mut height)?;
        Ok(())
    }

    fn visit(&self, start: u32, call: u32, chain: &mut Vec<u32>, height: &mut BTreeMap<u32, usize>) -> Result<usize, Finding> {
        if let Some(position) = chain.iter().position(|caller| *caller == start) {
            let mut names: Vec<String> = chain[position..].iter().map(|start| self.name(*start)).collect();
            names.push(self.name(start));
            return Err(Finding::new(Code::RECURSION, format!("recursion: {}", names.join(" calls ")))
                .hint("write a loop")
                .at(call));
        }
        let below = match height.get(&start) {
            Some(known) => *known,
            None => {
                if chain.len() >= CALL_DEPTH_MAX {
                    return Err(self.too_deep(chain, start, call));
                }
                chain.push(start);
                let mut below = 0;
                for (call, target) in self.found[&start].calls() {
                    below = below.max(1 + self.visit(target, call, chain, height)?);
                }
                chain.pop();
                height.insert(start, below);
                below
            }
        };
        if chain.len() + 1 + below > CALL_DEPTH_MAX { Err(self.too_deep(chain, start, call)) } else { Ok(below) }
    }

    fn too_deep(&self, chain: &[u32], start: u32, call: u32) -> Finding {
        let names: Vec<String> = chain.iter().chain([&start]).map(|start| self.name(*start)).collect();
        Finding::new(Code::CALL_DEPTH, format!("calls are nested deeper than {CALL_DEPTH_MAX}: {}", names.join(" calls ")))
            .hint("declare functions in the middle `static __always_inline`")
            .at(call)
    }

    fn name(&self, start: u32) -> String {
        match span(self.code, start) {
            Some(span) => format!("`{}`", span.name),
            None => format!("the function at {start}"),
        }
    }

    /// Bytes of stack that the deepest use of the function at `start` needs, and the calls on the longest chain below it.
    fn needs(&self, start: u32, known: &mut BTreeMap<u32, (u32, u32)>) -> (u32, u32) {
        if let Some(known) = known.get(&start) {
            return *known;
        }
        let routine = &self.found[&start];
        let (mut bytes, mut depth) = (0, 0);
        for (_, target) in routine.calls() {
            let below = self.needs(target, known);
            bytes = bytes.max(below.0);
            depth = depth.max(below.1 + 1);
        }
        let needs = (routine.frame_bytes + bytes, depth);
        known.insert(start, needs);
        needs
    }

    /// Bytes left free below every frame that has one below it. A frame's size is what its instructions show; a loop that walks down an array shows less than
    /// the array. So what the stack has left is spread between the frames.
    fn gap(&self, start: u32) -> Result<u32, Vec<Finding>> {
        let (bytes, depth) = self.needs(start, &mut BTreeMap::new());
        match (STACK_BYTES as u32).checked_sub(bytes) {
            Some(left) => Ok(left.checked_div(depth).unwrap_or(0) / FRAME_ALIGNMENT * FRAME_ALIGNMENT),
            // A function that calls nothing is the verifier's: it names the access.
            None if depth == 0 => Ok(0),
            None => {
                let text = format!(
                    "{} and the functions that it calls need {bytes} bytes of stack; there are {STACK_BYTES}",
                    self.name(start)
                );
                Err(vec![
                    Finding::new(Code::STACK_TOTAL, text)
                        .hint("make local arrays smaller, or share one buffer by a pointer")
                        .at(start),
                ])
            }
        }
    }
}

impl Routine {
    /// Calls of other functions: index of the call, and of the callee's first instruction.
    fn calls(&self) -> impl Iterator<Item = (u32, u32)> {
        self.instructions.iter().filter_map(|(index, instruction)| match instruction {
            Instruction::CallLocal { target } => Some((*index, *target)),
            _ => None,
        })
    }
}

fn span(code: &CallableCode, start: u32) -> Option<&FunctionSpan> {
    let position = code.functions.binary_search_by_key(&start, |span| span.start).ok()?;
    code.functions.get(position)
}

/// Collects what can be reached from `start` without following calls.
fn routine(code: &CallableCode, start: u32) -> Result<Routine, Finding> {
    let all = 0..code.instructions.len() as u32;
    let range = match span(code, start) {
        Some(span) => span.start..span.end,
        None if code.functions.is_empty() => all,
        None => return Err(Finding::new(Code::JUMP_TARGET, "a call that does not go to the beginning of a function").at(start)),
    };
    let mut reached = BTreeSet::new();
    let mut waiting = vec![(start, start)];
    while let Some((index, from)) = waiting.pop() {
        if !range.contains(&index) || !(index as usize) < code.instructions.len() {
            return Err(left(code, start, index, from));
        }
        if !reached.insert(index) {
            continue;
        }
        if reached.len() > INSTRUCTIONS_MAX {
            return Err(too_long(start));
        }
        match code.instructions[index as usize] {
            Instruction::Exit => {}
            Instruction::Jump { target } => waiting.push((target, index)),
            Instruction::JumpIf { target, .. } => waiting.extend([(target, index), (index + 1, index)]),
            _ => waiting.push((index + 1, index)),
        }
    }
    let instructions: Vec<_> = reached.into_iter().map(|index| (index, code.instructions[index as usize])).collect();
    let frame_bytes = frame_bytes(&instructions);
    Ok(Routine { instructions, frame_bytes })
}

/// Control left a function from `from` to `index`.
fn left(code: &CallableCode, start: u32, index: u32, from: u32) -> Finding {
    let name = span(code, start).map_or_else(|| "the function".to_string(), |span| format!("`{}`", span.name));
    if from.checked_add(1) == Some(index) {
        Finding::new(Code::FALLS_OFF_END, format!("{name} runs off its end")).at(from)
    } else {
        Finding::new(Code::JUMP_TARGET, format!("a jump leaves {name}")).at(from)
    }
}

fn too_long(at: u32) -> Finding {
    let text = format!("with its calls inlined the handler has more than {INSTRUCTIONS_MAX} instructions");
    Finding::new(Code::FUNCTION_LENGTH, text).hint("call large functions from fewer places, for instance in a loop").at(at)
}

/// Bytes of stack that a function's instructions show: the lowest address that they form with a constant from r10, or from a copy of it.
fn frame_bytes(instructions: &[(u32, Instruction)]) -> u32 {
    let has = |set: u64, register: Register| set >> (register.0 & 63) & 1 == 1;
    // Registers that hold r10 or something made from it anywhere in the function.
    let mut derived = 1u64 << Register::R10.0;
    loop {
        let before = derived;
        for (_, instruction) in instructions {
            if let Instruction::Alu { destination, source: Operand::Register(source), .. } = instruction
                && has(derived, *source)
            {
                derived |= 1 << (destination.0 & 63);
            }
        }
        if derived == before {
            break;
        }
    }
    let is_derived = |register: Register| has(derived, register);
    let mut lowest = 0i64;
    for (_, instruction) in instructions {
        let added = match *instruction {
            Instruction::Load { base, offset, .. }
            | Instruction::Store { base, offset, .. }
            | Instruction::Atomic { base, offset, .. }
                if is_derived(base) =>
            {
                i64::from(offset)
            }
            Instruction::Alu { width: Width::W64, operation, destination, source: Operand::Immediate(immediate) }
                if is_derived(destination) =>
            {
                match operation {
                    AluOperation::Add => i64::from(immediate),
                    AluOperation::Subtract => -i64::from(immediate),
                    _ => 0,
                }
            }
            _ => 0,
        };
        // A number beyond the stack is no offset into it.
        if added >= -(STACK_BYTES as i64) {
            lowest = lowest.min(added);
        }
    }
    (lowest.unsigned_abs() as u32).next_multiple_of(FRAME_ALIGNMENT)
}

/// Writes functions, one inside the other.
struct Emitter<'a> {
    routines: &'a Routines<'a>,
    gap: u32,
    /// Original instructions gone through: bounds trees of calls that leave nothing behind.
    walked: usize,
    instructions: Vec<Instruction>,
    origins: Vec<u32>,
}

/// Where one inlined call stands.
#[derive(Clone, Copy)]
struct Site {
    /// Depth of the call; 0 is the handler.
    depth: usize,
    /// Bytes from the stack's end down to the frame's end: what is subtracted from r10.
    shift: u32,
}

impl Emitter<'_> {
    /// Writes the function that begins at `start`. Recursion is bounded: depths were checked.
    fn emit(&mut self, start: u32, site: Site) -> Result<(), Finding> {
        let routine = &self.routines.found[&start];
        let indices: Vec<u32> = routine.instructions.iter().map(|(index, _)| *index).collect();
        let mut positions = Vec::with_capacity(indices.len());
        // Jumps inside the function: position in the output, and the original target.
        let mut jumps = Vec::new();
        let mut exits = Vec::new();
        if indices.first() != Some(&start) {
            jumps.push((self.instructions.len(), start));
            self.push(Instruction::Jump { target: 0 }, start);
        }
        for (index, instruction) in &routine.instructions {
            let (index, instruction) = (*index, *instruction);
            self.walked += 1;
            if self.instructions.len() > INSTRUCTIONS_MAX || self.walked > 2 * INSTRUCTIONS_MAX {
                return Err(too_long(index));
            }
            positions.push(self.instructions.len() as u32);
            match instruction {
                Instruction::CallLocal { target } => {
                    let shift = site.shift + routine.frame_bytes + self.gap;
                    self.emit(target, Site { depth: site.depth + 1, shift })?;
                }
                Instruction::Exit if site.depth > 0 => {
                    // The last one already stands before what follows the call.
                    if indices.last() != Some(&index) {
                        exits.push(self.instructions.len());
                        self.push(Instruction::Jump { target: 0 }, index);
                    }
                }
                Instruction::Jump { target } | Instruction::JumpIf { target, .. } => {
                    let renamed = rename(instruction, site).map_err(|finding| finding.at(index))?;
                    jumps.push((self.instructions.len(), target));
                    self.push(renamed, index);
                }
                _ => {
                    let renamed = rename(instruction, site).map_err(|finding| finding.at(index))?;
                    self.push(renamed, index);
                    if let Some(adjust) = adjust(instruction, site) {
                        self.push(adjust, index);
                    }
                }
            }
        }
        for (position, target) in jumps {
            // Every target was reached, so it has a position.
            let found = indices.binary_search(&target).map_or(0, |found| positions[found]);
            set_target(&mut self.instructions[position], found);
        }
        let behind = self.instructions.len() as u32;
        for position in exits {
            set_target(&mut self.instructions[position], behind);
        }
        Ok(())
    }

    fn push(&mut self, instruction: Instruction, origin: u32) {
        self.instructions.push(instruction);
        self.origins.push(origin);
    }
}

fn set_target(instruction: &mut Instruction, wanted: u32) {
    if let Instruction::Jump { target } | Instruction::JumpIf { target, .. } = instruction {
        *target = wanted;
    }
}

/// The second half of an instruction that uses r10 as a number: r10 of the call is lower than r10 of the flat function.
fn adjust(instruction: Instruction, site: Site) -> Option<Instruction> {
    let Instruction::Alu { width, operation, destination, source: Operand::Register(Register::R10) } = instruction else {
        return None;
    };
    let operation = match operation {
        AluOperation::Subtract => AluOperation::Add,
        _ => AluOperation::Subtract,
    };
    let source = Operand::Immediate(site.shift as i32);
    (site.shift != 0).then_some(Instruction::Alu { width, operation, destination: register(destination, site), source })
}

/// The register of a flat function.
fn register(original: Register, site: Site) -> Register {
    match original.0 {
        6..=9 if site.depth > 0 => Register(11 + 4 * (site.depth as u8 - 1) + (original.0 - 6)),
        _ => original,
    }
}

/// An instruction with the registers of the call's depth, and its accesses through r10 in the call's frame.
fn rename(instruction: Instruction, site: Site) -> Result<Instruction, Finding> {
    let r = |original: Register| register(original, site);
    let unusual = |what: &str| Finding::new(Code::STACK_POINTER, format!("a called function {what} r10"));
    // A use of r10 that is neither base nor operand of a 64-bit copy, addition or subtraction.
    let number = |original: Register| match original {
        Register::R10 if site.shift != 0 => Err(unusual("computes with")),
        other => Ok(r(other)),
    };
    let operand = |operand: Operand| match operand {
        Operand::Register(original) => number(original).map(Operand::Register),
        immediate => Ok(immediate),
    };
    let shifted = |base: Register, offset: i32| if base == Register::R10 { offset - site.shift as i32 } else { offset };
    Ok(match instruction {
        Instruction::Alu {
            width: width @ Width::W64,
            operation,
            destination,
            source: source @ Operand::Register(Register::R10),
        } if matches!(operation, AluOperation::Move | AluOperation::Add | AluOperation::Subtract) => {
            Instruction::Alu { width, operation, destination: r(destination), source }
        }
        Instruction::Alu { width, operation, destination, source } => {
            Instruction::Alu { width, operation, destination: r(destination), source: operand(source)? }
        }
        Instruction::MoveSignExtend { width, bits, destination, source } => {
            Instruction::MoveSignExtend { width, bits, destination: r(destination), source: number(source)? }
        }
        Instruction::Negate { width, destination } => Instruction::Negate { width, destination: r(destination) },
        Instruction::ByteOrder { order, bits, destination } => Instruction::ByteOrder { order, bits, destination: r(destination) },
        Instruction::LoadImmediate { destination, value } => Instruction::LoadImmediate { destination: r(destination), value },
        Instruction::LoadAddress { destination, symbol } => Instruction::LoadAddress { destination: r(destination), symbol },
        Instruction::Load { size, signed, destination, base, offset } => {
            Instruction::Load { size, signed, destination: r(destination), base: r(base), offset: shifted(base, offset) }
        }
        Instruction::Store { size, base, offset, source } => {
            Instruction::Store { size, base: r(base), offset: shifted(base, offset), source: operand(source)? }
        }
        Instruction::Atomic { operation, size, fetch, base, offset, source } => {
            Instruction::Atomic { operation, size, fetch, base: r(base), offset: shifted(base, offset), source: number(source)? }
        }
        Instruction::JumpIf { width, condition, left, right, target } => {
            Instruction::JumpIf { width, condition, left: number(left)?, right: operand(right)?, target }
        }
        Instruction::Jump { .. } | Instruction::CallHelper { .. } | Instruction::CallLocal { .. } | Instruction::Exit => {
            instruction
        }
    })
}
