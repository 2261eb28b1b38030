//! The ELF container as a checked view: sections, symbols, relocations. goblin reads the records; everything is bounded before it is read.
//!
//! Says nothing about what a section means: that is `object`'s business.

use crate::diagnostic::{Code, Finding};
use goblin::container::Ctx;
use goblin::elf::header::{EM_BPF, ET_REL};
use goblin::elf::section_header::{
    SHN_ABS, SHN_COMMON, SHN_UNDEF, SHN_XINDEX, SHT_NOBITS, SHT_REL, SHT_RELA, SHT_SYMTAB, SectionHeader,
};
use goblin::elf::sym::{STT_FUNC, STT_OBJECT, STT_SECTION};
use goblin::elf::{Elf as Goblin, RelocSection, Symtab};
use std::collections::HashMap;

/// Bytes of an object file; clang's are some hundred kilobytes at most.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// Sections: clang makes two for each handler, and about thirty more.
pub const SECTIONS_MAX: usize = 2048;
/// Symbols.
pub const SYMBOLS_MAX: usize = 65_536;
/// Bytes of one name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of an ELF symbol.
const SYMBOL_BYTES: u64 = 24;

/// An object file for eBPF.
#[derive(Debug)]
pub struct Elf<'a> {
    /// Sections in the order of the file; elsewhere they are named by their index.
    pub sections: Vec<Section<'a>>,
    /// Symbols in the order of the file.
    pub symbols: Vec<Symbol<'a>>,
    /// Functions and variables of each section, ascending by value.
    named: HashMap<usize, Vec<usize>>,
}

/// A section.
#[derive(Debug)]
pub struct Section<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes; empty if it has none in the file (`.bss`).
    pub bytes: &'a [u8],
    /// Its size, also if it has no bytes in the file.
    pub size: u64,
    /// Its alignment: a power of two.
    pub alignment: u64,
    /// Whether a loader would load it.
    pub allocated: bool,
    /// Whether it holds code.
    pub executable: bool,
    /// Relocations of its bytes, ascending by offset. Read only for sections that are loaded.
    pub relocations: Vec<Relocation>,
}

/// A relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte of the section.
    pub offset: u64,
    /// Index of the symbol.
    pub symbol: usize,
    /// `R_BPF_...`.
    pub kind: u32,
}

/// A symbol.
#[derive(Debug)]
pub struct Symbol<'a> {
    /// Its name; that of the section for a section's symbol.
    pub name: &'a str,
    /// What it names.
    pub kind: SymbolKind,
    /// Where it is.
    pub home: Home,
    /// Byte of the section.
    pub value: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A variable.
    Variable,
    /// A section.
    Section,
    /// A label, a file or something unknown.
    Other,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the section with this index, which exists.
    Section(usize),
    /// In another object.
    Undefined,
    /// In memory that a linker would allocate (`-fcommon`).
    Common,
    /// Nowhere: a number.
    Absolute,
}

impl<'a> Elf<'a> {
    /// Reads the container.
    ///
    /// # Errors
    ///
    /// N101 if the bytes are not such an object, N102 beyond a limit.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, Finding> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(limit(format!("{} bytes; an object file has at most {FILE_BYTES_MAX}", bytes.len())));
        }
        let header = Goblin::parse_header(bytes).map_err(|error| malformed(format!("it is not an ELF: {error}")))?;
        let container = header.container().map_err(|error| malformed(error.to_string()))?;
        let endianness = header.endianness().map_err(|error| malformed(error.to_string()))?;
        if header.e_machine != EM_BPF || !container.is_big() || !endianness.is_little() {
            return Err(malformed("it is not for little-endian 64-bit eBPF".to_string())
                .hint("compile with `clang -target bpf`, not for the machine you are on"));
        }
        if header.e_type != ET_REL {
            return Err(malformed("it is not a relocatable object".to_string()).hint("compile with `-c`, do not link"));
        }
        if usize::from(header.e_shnum) > SECTIONS_MAX {
            return Err(limit(format!("{} sections; {SECTIONS_MAX} are allowed", header.e_shnum)));
        }
        if header.e_shnum == 0 {
            return Err(malformed("it has no sections".to_string()));
        }
        let context = Ctx::new(container, endianness);
        let start = usize::try_from(header.e_shoff).map_err(|_| malformed("its section table lies outside".to_string()))?;
        let headers = SectionHeader::parse(bytes, start, header.e_shnum.into(), context)
            .map_err(|error| malformed(format!("its section table cannot be read: {error}")))?;
        let contents = contents(bytes, &headers)?;
        let names = contents.get(usize::from(header.e_shstrndx)).ok_or_else(|| malformed("it has no section names".to_string()))?;
        let mut sections = Vec::with_capacity(headers.len());
        for (header, bytes) in headers.iter().zip(&contents) {
            sections.push(Section {
                name: text(names, header.sh_name as u64)?,
                bytes,
                size: header.sh_size,
                alignment: match header.sh_addralign {
                    0 => 1,
                    alignment if alignment.is_power_of_two() => alignment,
                    other => return Err(malformed(format!("a section is aligned to {other} bytes, which is no power of two"))),
                },
                allocated: header.is_alloc(),
                executable: header.is_executable(),
                relocations: Vec::new(),
            });
        }
        let symbols = symbols(bytes, &headers, &contents, &sections, context)?;
        relocations(bytes, &headers, &mut sections, symbols.len(), context)?;
        let mut named: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, symbol) in symbols.iter().enumerate() {
            if let (Home::Section(section), SymbolKind::Function | SymbolKind::Variable) = (symbol.home, symbol.kind) {
                named.entry(section).or_default().push(index);
            }
        }
        named.values_mut().for_each(|list| list.sort_by_key(|index| symbols[*index].value));
        Ok(Elf { sections, symbols, named })
    }

    /// The first section with this name.
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Name of what lies at a byte of a section: the function or variable around it.
    pub fn name_at(&self, section: usize, offset: u64) -> Option<&'a str> {
        self.symbol_at(section, offset).map(|symbol| symbol.name)
    }

    /// Functions and variables of a section, ascending by value.
    pub fn symbols_of(&self, section: usize) -> impl Iterator<Item = &Symbol<'a>> {
        self.named.get(&section).into_iter().flatten().map(|index| &self.symbols[*index])
    }

    /// The function or variable around a byte of a section.
    pub fn symbol_at(&self, section: usize, offset: u64) -> Option<&Symbol<'a>> {
        let list = self.named.get(&section)?;
        let behind = list.partition_point(|index| self.symbols[*index].value <= offset);
        let symbol = &self.symbols[list[behind.checked_sub(1)?]];
        (offset - symbol.value < symbol.size.max(1)).then_some(symbol)
    }
}

/// The bytes of every section. Sections of an object do not overlap, so together they are no larger than the file: this bounds
/// everything that is made of them.
fn contents<'a>(bytes: &'a [u8], headers: &[SectionHeader]) -> Result<Vec<&'a [u8]>, Finding> {
    let mut total = 0usize;
    let mut contents = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        let range = match header.sh_type {
            SHT_NOBITS => Some(0..0),
            _ if index == 0 => Some(0..0),
            _ => usize::try_from(header.sh_offset)
                .ok()
                .zip(usize::try_from(header.sh_size).ok())
                .and_then(|(start, size)| Some(start..start.checked_add(size)?)),
        };
        let Some(section) = range.and_then(|range| bytes.get(range)) else {
            return Err(malformed(format!("section {index} lies outside the file")));
        };
        total += section.len();
        contents.push(section);
    }
    if total > bytes.len() {
        return Err(malformed("its sections overlap".to_string()));
    }
    Ok(contents)
}

fn symbols<'a>(
    bytes: &'a [u8],
    headers: &[SectionHeader],
    contents: &[&'a [u8]],
    sections: &[Section<'a>],
    context: Ctx,
) -> Result<Vec<Symbol<'a>>, Finding> {
    let Some(header) = headers.iter().find(|header| header.sh_type == SHT_SYMTAB) else {
        return Err(malformed("it has no symbol table".to_string()).hint("do not strip the object"));
    };
    let count = header.sh_size / SYMBOL_BYTES;
    if count > SYMBOLS_MAX as u64 {
        return Err(limit(format!("{count} symbols; {SYMBOLS_MAX} are allowed")));
    }
    let names = contents.get(header.sh_link as usize).ok_or_else(|| malformed("the symbol table has no names".to_string()))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let table = Symtab::parse(bytes, header.sh_offset as usize, count as usize, context)
        .map_err(|error| malformed(format!("its symbols cannot be read: {error}")))?;
    let mut symbols = Vec::with_capacity(count as usize);
    for symbol in table.iter() {
        let home = match symbol.st_shndx as u32 {
            SHN_UNDEF => Home::Undefined,
            SHN_ABS => Home::Absolute,
            SHN_COMMON => Home::Common,
            SHN_XINDEX => return Err(malformed("a symbol has an extended section index".to_string())),
            index if (index as usize) < sections.len() => Home::Section(index as usize),
            index => return Err(malformed(format!("a symbol is in section {index}, which does not exist"))),
        };
        let kind = match symbol.st_type() {
            STT_FUNC => SymbolKind::Function,
            STT_OBJECT => SymbolKind::Variable,
            STT_SECTION => SymbolKind::Section,
            _ => SymbolKind::Other,
        };
        let name = match (kind, home) {
            (SymbolKind::Section, Home::Section(index)) => sections[index].name,
            _ => text(names, symbol.st_name as u64)?,
        };
        symbols.push(Symbol { name, kind, home, value: symbol.st_value, size: symbol.st_size });
    }
    Ok(symbols)
}

fn relocations(
    bytes: &[u8],
    headers: &[SectionHeader],
    sections: &mut [Section],
    symbol_count: usize,
    context: Ctx,
) -> Result<(), Finding> {
    for header in headers.iter().filter(|header| matches!(header.sh_type, SHT_REL | SHT_RELA)) {
        let Some(section) = sections.get_mut(header.sh_info as usize) else {
            return Err(malformed("a relocation section belongs to no section".to_string()));
        };
        if !section.allocated {
            continue;
        }
        if header.sh_type == SHT_RELA {
            return Err(malformed(format!("`{}` has relocations with addends, which eBPF does not use", section.name)));
        }
        let table = RelocSection::parse(bytes, header.sh_offset as usize, header.sh_size as usize, false, context)
            .map_err(|error| malformed(format!("its relocations cannot be read: {error}")))?;
        for relocation in &table {
            if relocation.r_sym >= symbol_count {
                return Err(malformed(format!(
                    "a relocation of `{}` names symbol {}, which does not exist",
                    section.name, relocation.r_sym
                )));
            }
            if relocation.r_offset >= section.size {
                return Err(malformed(format!("a relocation of `{}` lies outside of it", section.name)));
            }
            let (offset, symbol, kind) = (relocation.r_offset, relocation.r_sym, relocation.r_type);
            section.relocations.push(Relocation { offset, symbol, kind });
        }
        section.relocations.sort_by_key(|relocation| relocation.offset);
    }
    Ok(())
}

/// The zero-terminated name at an offset of a string table.
fn text(table: &[u8], offset: u64) -> Result<&str, Finding> {
    let rest = usize::try_from(offset).ok().and_then(|offset| table.get(offset..));
    // Every string table begins with the empty name; an object without names may have none at all.
    let rest = match rest {
        Some(rest) => rest,
        None if offset == 0 => return Ok(""),
        None => return Err(malformed("a name lies outside of its table".to_string())),
    };
    let within = &rest[..rest.len().min(NAME_BYTES_MAX + 1)];
    let Some(end) = within.iter().position(|byte| *byte == 0) else {
        return Err(limit(format!("a name has more than {NAME_BYTES_MAX} bytes")));
    };
    std::str::from_utf8(&within[..end]).map_err(|_| malformed("a name is not UTF-8".to_string()))
}

fn malformed(what: String) -> Finding {
    Finding::new(Code::OBJECT_MALFORMED, what)
}

pub(super) fn limit(what: String) -> Finding {
    Finding::new(Code::OBJECT_LIMIT, what)
}
