//! Code sections: all functions as one list of instructions, with relocations applied.

use super::Findings;
use super::data::{self, Data, Meaning};
use super::elf::{Elf, Home, Relocation, SymbolKind};
use super::lines::Lines;
use crate::abi::HANDLERS_MAX;
use crate::abi::is_name;
use crate::diagnostic::{Code, Finding};
use crate::isa::{self, Decoded, Instruction, SLOT_BYTES, Symbol};
use crate::program::{CallableCode, FunctionSpan};
use std::collections::HashMap;

/// Functions of one object.
pub const FUNCTIONS_MAX: usize = 4096;

// Relocation types of eBPF (`Documentation/bpf/llvm_reloc.rst`).
const R_BPF_NONE: u32 = 0;
/// The address in a 64-bit load.
const R_BPF_64_64: u32 = 1;
/// The distance in a call.
const R_BPF_64_32: u32 = 10;

/// All code of an object.
#[derive(Default)]
pub struct Functions {
    /// Instructions of all sections, one after the other.
    pub code: CallableCode,
    /// For each instruction the index of its line plus one, or 0.
    pub lines: Vec<u32>,
    /// Section and name of each handler, with its first instruction and its first byte.
    pub handlers: Vec<Entrance>,
    /// Instructions of each section: where they begin in `code`.
    sections: HashMap<usize, (u32, Decoded)>,
}

/// Where a handler begins.
pub struct Entrance {
    /// Its name.
    pub name: String,
    /// Its section.
    pub section: usize,
    /// Its first byte in the section.
    pub offset: u64,
    /// Its first instruction in the code.
    pub start: u32,
}

/// Reads all code sections.
pub fn read(elf: &Elf, lines: &Lines, data: &Data, findings: &mut Findings) -> Functions {
    let mut functions = Functions::default();
    for (index, section) in elf.sections.iter().enumerate() {
        if data::meaning(section) == Meaning::Code && !section.bytes.is_empty() {
            functions.decode(elf, lines, index, findings);
        }
    }
    for (index, section) in elf.sections.iter().enumerate() {
        if functions.sections.contains_key(&index) {
            functions.relocate(elf, lines, data, index, findings);
            if let Some(name) = section.name.strip_prefix("naam/")
                && let Err(mut finding) = functions.enter(elf, index, name)
            {
                finding.place.function = elf.name_at(index, 0).map(str::to_string);
                finding.place.line = lines.at(section.name, 0).cloned();
                findings.push(finding);
            }
        }
    }
    functions.handlers.sort_by(|a, b| a.name.cmp(&b.name));
    functions
}

impl Functions {
    fn decode(&mut self, elf: &Elf, lines: &Lines, index: usize, findings: &mut Findings) {
        let section = &elf.sections[index];
        let place = |mut finding: Finding, offset: u64| {
            finding.place.function = elf.name_at(index, offset).map(str::to_string);
            finding.place.line = lines.at(section.name, offset).cloned();
            finding
        };
        let decoded = match isa::decode(section.bytes) {
            Ok(decoded) => decoded,
            Err(found) => {
                for finding in found {
                    let offset = u64::from(finding.place.instruction.unwrap_or_default()) * SLOT_BYTES as u64;
                    findings.push(place(finding, offset));
                }
                return;
            }
        };
        let base = self.code.instructions.len() as u32;
        for (instruction, slot) in decoded.instructions.iter().zip(&decoded.slots) {
            let line = lines.index_at(section.name, u64::from(*slot) * SLOT_BYTES as u64);
            self.lines.push(line.map_or(0, |line| line + 1));
            self.code.instructions.push(moved(*instruction, base));
        }
        let spans = spans(elf, index, &decoded, base);
        self.sections.insert(index, (base, decoded));
        match spans {
            Ok(spans) if self.code.functions.len() + spans.len() > FUNCTIONS_MAX => {
                findings.push(super::elf::limit(format!("more than {FUNCTIONS_MAX} functions")));
            }
            Ok(spans) => self.code.functions.extend(spans),
            Err(finding) => findings.push(finding),
        }
    }

    /// Applies the relocations of a section, then looks for calls that none of them resolved.
    fn relocate(&mut self, elf: &Elf, lines: &Lines, data: &Data, index: usize, findings: &mut Findings) {
        let section = &elf.sections[index];
        for relocation in &section.relocations {
            if findings.are_enough() {
                break;
            }
            if let Err(mut finding) = self.apply(elf, data, index, relocation) {
                finding.place.function = elf.name_at(index, relocation.offset).map(str::to_string);
                finding.place.line = lines.at(section.name, relocation.offset).cloned();
                findings.push(finding);
            }
        }
        let (base, decoded) = &self.sections[&index];
        for call in &decoded.local_calls {
            let instruction = base + call.instruction;
            if self.code.instructions[instruction as usize] == (Instruction::CallLocal { target: isa::UNRESOLVED })
                && !findings.any()
            {
                let mut finding = Finding::new(Code::JUMP_TARGET, "a call that leaves its section, without a relocation");
                finding.place.instruction = Some(instruction);
                findings.push(finding);
            }
        }
    }

    fn apply(&mut self, elf: &Elf, data: &Data, index: usize, relocation: &Relocation) -> Result<(), Finding> {
        let wrong = |what: String| Err(Finding::new(Code::RELOCATION, what));
        let (base, decoded) = &self.sections[&index];
        let slot = u32::try_from(relocation.offset / SLOT_BYTES as u64)
            .ok()
            .filter(|_| relocation.offset.is_multiple_of(SLOT_BYTES as u64));
        let Some(position) = slot.and_then(|slot| decoded.index_of_slot(slot)).map(|position| (base + position) as usize) else {
            return wrong(format!(
                "a relocation at byte {} of `{}`, where no instruction begins",
                relocation.offset, elf.sections[index].name
            ));
        };
        match (relocation.kind, self.code.instructions[position], decoded.instructions[position - *base as usize]) {
            (R_BPF_NONE, ..) => Ok(()),
            (R_BPF_64_64, Instruction::LoadImmediate { destination, value }, _) => {
                let symbol = address(elf, data, relocation.symbol, value)?;
                self.code.instructions[position] = Instruction::LoadAddress { destination, symbol };
                Ok(())
            }
            (R_BPF_64_32, Instruction::CallLocal { .. }, Instruction::CallLocal { .. }) => {
                let immediate = decoded
                    .local_calls
                    .binary_search_by_key(&(position as u32 - base), |call| call.instruction)
                    .map_or(0, |found| decoded.local_calls[found].immediate);
                let target = self.callee(elf, relocation.symbol, immediate)?;
                self.code.instructions[position] = Instruction::CallLocal { target };
                Ok(())
            }
            (kind, ..) => wrong(format!("a relocation of type {kind} for an instruction that has no such address")),
        }
    }

    /// First instruction of the function that a call's symbol and immediate name.
    fn callee(&self, elf: &Elf, symbol: usize, immediate: i32) -> Result<u32, Finding> {
        let symbol = &elf.symbols[symbol];
        let Home::Section(section) = symbol.home else {
            return Err(undefined(symbol.name));
        };
        let slot = i128::from(symbol.value / SLOT_BYTES as u64) + i128::from(immediate) + 1;
        let target = match self.sections.get(&section) {
            Some((base, decoded)) => u32::try_from(slot).ok().and_then(|slot| Some(base + decoded.index_of_slot(slot)?)),
            None => None,
        };
        target.ok_or_else(|| Finding::new(Code::RELOCATION, format!("a call of `{}`, where no function begins", symbol.name)))
    }

    /// Finds the one function of a handler's section.
    fn enter(&mut self, elf: &Elf, section: usize, name: &str) -> Result<(), Finding> {
        let wrong = |what: String| Err(Finding::new(Code::HANDLER_NAME, what));
        if !is_name(name) {
            return wrong(format!("`{name}` is not a handler's name: letters, digits, `_` and `-`, at most 64, no digit first"));
        }
        if self.handlers.iter().any(|handler| handler.name == name) {
            return wrong(format!("two handlers are named `{name}`"));
        }
        if self.handlers.len() >= HANDLERS_MAX {
            return Err(super::elf::limit(format!("more than {HANDLERS_MAX} handlers")));
        }
        let mut functions = elf.symbols_of(section).filter(|symbol| symbol.kind == SymbolKind::Function);
        let Some(function) = functions.next() else {
            return wrong(format!("section `naam/{name}` contains no function"));
        };
        if let Some(other) = functions.next() {
            return wrong(format!(
                "section `naam/{name}` contains `{}` and `{}`; a handler is alone in its section",
                function.name, other.name
            ));
        }
        let (base, decoded) = &self.sections[&section];
        let slot = u32::try_from(function.value / SLOT_BYTES as u64).ok();
        match slot.and_then(|slot| decoded.index_of_slot(slot)) {
            Some(index) => {
                let start = base + index;
                self.handlers.push(Entrance { name: name.to_string(), section, offset: function.value, start });
                Ok(())
            }
            None => wrong(format!("`{}` begins where no instruction does", function.name)),
        }
    }
}

/// What a 64-bit load with this symbol and number refers to.
fn address(elf: &Elf, data: &Data, symbol: usize, addend: u64) -> Result<Symbol, Finding> {
    let symbol = &elf.symbols[symbol];
    let wrong = |code: Code, what: String| Err(Finding::new(code, what));
    let Home::Section(index) = symbol.home else {
        return match symbol.home {
            Home::Common => Err(data::mutable(symbol.name)),
            Home::Absolute => wrong(Code::RELOCATION, format!("`{}` is no address", symbol.name)),
            _ => Err(undefined(symbol.name)),
        };
    };
    let section = &elf.sections[index];
    let offset = symbol.value.checked_add(addend).filter(|offset| *offset <= section.size);
    let Some(offset) = offset else {
        return wrong(Code::RELOCATION, format!("an address outside of `{}`", section.name));
    };
    // A section's symbol says little to people: what lies there says more.
    let name = elf.name_at(index, offset).unwrap_or(symbol.name);
    match data::meaning(section) {
        Meaning::Regions => match data.regions.get(&(index, offset)) {
            // A refused region was reported: its uses add nothing.
            Some(region) => Ok(Symbol::Region(region.unwrap_or_default())),
            None => wrong(
                Code::REGION_DECLARATION,
                format!("an address inside the declaration of region `{name}`: a region is only a handle"),
            ),
        },
        Meaning::ReadOnly if data::contains_addresses(elf, index, offset) => Err(data::address_table(elf, index, offset)),
        Meaning::ReadOnly => match data.read_only.get(&index) {
            Some(start) => Ok(Symbol::ReadOnly(start + offset as u32)),
            None => wrong(Code::RELOCATION, format!("`{}` was refused", section.name)),
        },
        Meaning::Mutable => Err(data::mutable(name)),
        Meaning::AddressTable => Err(data::address_table(elf, index, offset)),
        Meaning::Code => Err(Finding::new(Code::FUNCTION_POINTER, format!("the address of function `{name}` is taken"))
            .hint("call it by its name; choose between functions by `if` or `switch`")),
        Meaning::Ignored | Meaning::Unknown => Err(data::unknown(elf, index, offset)),
    }
}

fn undefined(name: &str) -> Finding {
    let finding = Finding::new(Code::FUNCTION_UNDEFINED, format!("`{name}` is not defined"));
    match name {
        "memcpy" | "memmove" => finding.hint("use naam_copy"),
        "memset" | "bzero" => finding.hint("use naam_fill"),
        "memcmp" | "bcmp" => finding.hint("use naam_compare"),
        _ => finding.hint("include its definition: all functions of a handler are compiled together"),
    }
}

/// Where a section's functions lie: ascending, disjoint, on instructions.
fn spans(elf: &Elf, index: usize, decoded: &Decoded, base: u32) -> Result<Vec<FunctionSpan>, Finding> {
    let mut spans: Vec<FunctionSpan> = Vec::new();
    let symbols = elf.symbols_of(index).filter(|symbol| symbol.kind == SymbolKind::Function);
    let boundary = |offset: u64| {
        let slot = u32::try_from(offset / SLOT_BYTES as u64).ok().filter(|_| offset.is_multiple_of(SLOT_BYTES as u64))?;
        if slot == decoded.slot_count() { Some(decoded.instructions.len() as u32) } else { decoded.index_of_slot(slot) }
    };
    for symbol in symbols {
        let range = boundary(symbol.value).zip(symbol.value.checked_add(symbol.size).and_then(boundary));
        match range {
            Some((start, end)) if start < end => {
                spans.push(FunctionSpan { name: symbol.name.to_string(), start: base + start, end: base + end });
            }
            _ => {
                let text = format!("function `{}` does not lie on instructions of its section", symbol.name);
                return Err(Finding::new(Code::OBJECT_MALFORMED, text));
            }
        }
    }
    spans.sort_by_key(|span| span.start);
    if let Some(pair) = spans.windows(2).find(|pair| pair[0].end > pair[1].start) {
        return Err(Finding::new(Code::OBJECT_MALFORMED, format!("functions `{}` and `{}` overlap", pair[0].name, pair[1].name)));
    }
    Ok(spans)
}

/// An instruction whose targets are moved by the place of its section.
fn moved(mut instruction: Instruction, base: u32) -> Instruction {
    if let Instruction::Jump { target } | Instruction::JumpIf { target, .. } | Instruction::CallLocal { target } = &mut instruction
        && *target != isa::UNRESOLVED
    {
        *target += base;
    }
    instruction
}
