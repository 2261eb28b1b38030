//! Data sections: which regions are declared, one block of read-only data, settable constants. What handlers cannot have is refused by name.

use super::Findings;
use super::btf::{Btf, BtfType};
use super::elf::{Elf, Home, Section, SymbolKind, limit};
use super::layout::Layouts;
use crate::abi::is_name;
use crate::abi::{READ_ONLY_BYTES_MAX, REGIONS_MAX};
use crate::diagnostic::{Code, Finding};
use crate::program::{Constant, Environment, RegionDeclaration};
use std::collections::HashMap;

/// Constants that a deployment may set.
pub const CONSTANTS_MAX: usize = 1024;
/// Alignment of read-only data; the stack and body have no more.
const ALIGNMENT_MAX: u64 = 64;

/// What a section is to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Functions.
    Code,
    /// Region declarations.
    Regions,
    /// Constant data.
    ReadOnly,
    /// Variables, which handlers cannot have.
    Mutable,
    /// Constant data with addresses inside.
    AddressTable,
    /// Nothing: debug information, licences, notes.
    Ignored,
    /// Something that must not be ignored.
    Unknown,
}

/// Sorts a section by name and flags.
pub fn meaning(section: &Section) -> Meaning {
    let is = |name: &str| section.name == name || section.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    match section.name {
        _ if !section.allocated => Meaning::Ignored,
        "license" | "version" => Meaning::Ignored,
        _ if section.executable && (is(".text") || section.name.starts_with("naam/")) => Meaning::Code,
        _ if section.size == 0 => Meaning::Ignored,
        _ if section.executable => Meaning::Unknown,
        ".maps" => Meaning::Regions,
        _ if is(".rodata") => Meaning::ReadOnly,
        _ if is(".data.rel.ro") => Meaning::AddressTable,
        _ if is(".data") || is(".bss") => Meaning::Mutable,
        _ => Meaning::Unknown,
    }
}

/// The environment of all handlers, and where its parts come from.
pub struct Data {
    /// Regions, read-only data, constants.
    pub environment: Environment,
    /// Offset of each read-only section in the read-only data.
    pub read_only: HashMap<usize, u32>,
    /// Region at each address of a section; `None` if it was refused.
    pub regions: HashMap<(usize, u64), Option<u16>>,
}

/// Reads all data sections.
pub fn read(elf: &Elf, btf: &Btf, layouts: &mut Layouts, findings: &mut Findings) -> Data {
    let mut data = Data { environment: Environment::default(), read_only: HashMap::new(), regions: HashMap::new() };
    let types: HashMap<&str, u32> = variables(btf, |section| section == ".maps").collect();
    for (index, section) in elf.sections.iter().enumerate() {
        let result = match meaning(section) {
            Meaning::Regions => data.declare(elf, &types, layouts, index, findings),
            Meaning::ReadOnly => data.append(elf, index, findings),
            Meaning::Mutable => refuse_variables(elf, index, findings),
            Meaning::AddressTable => Err(address_table(elf, index, 0)),
            Meaning::Unknown => Err(unknown(elf, index, 0)),
            Meaning::Code | Meaning::Ignored => Ok(()),
        };
        findings.note(result);
    }
    for symbol in elf.symbols.iter().filter(|symbol| symbol.home == Home::Common) {
        findings.push(mutable(symbol.name));
    }
    let result = data.constants(elf, btf, layouts);
    findings.note(result);
    data
}

impl Data {
    /// Regions of a `.maps` section, by address.
    fn declare(
        &mut self,
        elf: &Elf,
        types: &HashMap<&str, u32>,
        layouts: &mut Layouts,
        index: usize,
        findings: &mut Findings,
    ) -> Result<(), Finding> {
        let symbols = elf.symbols_of(index).filter(|symbol| symbol.kind == SymbolKind::Variable);
        for symbol in symbols {
            if findings.are_enough() {
                break;
            }
            if self.environment.regions.len() >= REGIONS_MAX {
                return Err(limit(format!("more than {REGIONS_MAX} regions")));
            }
            let name = symbol.name;
            let wrong = |what: &str| Finding::new(Code::REGION_DECLARATION, format!("region `{name}` {what}"));
            self.regions.entry((index, symbol.value)).or_insert(None);
            if !is_name(name) {
                findings.push(wrong("has no name that deployments can use: letters, digits and `_`, at most 64"));
                continue;
            }
            if self.environment.regions.iter().any(|region| region.name == name) {
                findings.push(wrong("is declared twice"));
                continue;
            }
            let declaration = match types.get(name) {
                Some(id) => layouts.region(*id, name),
                None => Err(wrong("has no type information")),
            };
            match declaration {
                Ok(declaration) => {
                    let region = self.environment.regions.len() as u16;
                    if self.regions.insert((index, symbol.value), Some(region)).flatten().is_some() {
                        findings.push(wrong("has the address of another one"));
                    }
                    self.environment.regions.push(RegionDeclaration {
                        name: name.to_string(),
                        rights: declaration.rights,
                        length_bytes_min: declaration.length_bytes_min,
                        element: declaration.element,
                    });
                }
                Err(finding) => findings.push(finding),
            }
        }
        Ok(())
    }

    /// Appends a section to the read-only data.
    fn append(&mut self, elf: &Elf, index: usize, findings: &mut Findings) -> Result<(), Finding> {
        let section = &elf.sections[index];
        for relocation in &section.relocations {
            if findings.are_enough() {
                break;
            }
            findings.push(address_table(elf, index, relocation.offset));
        }
        if section.alignment > ALIGNMENT_MAX {
            return Err(limit(format!(
                "`{}` is aligned to {} bytes; at most {ALIGNMENT_MAX} are possible",
                section.name, section.alignment
            )));
        }
        let block = &mut self.environment.read_only;
        let start = block.len().next_multiple_of(section.alignment as usize);
        if start + section.bytes.len() > READ_ONLY_BYTES_MAX {
            return Err(
                limit(format!("more than {READ_ONLY_BYTES_MAX} bytes of read-only data")).hint("keep large tables in a region")
            );
        }
        block.resize(start, 0);
        block.extend_from_slice(section.bytes);
        self.read_only.insert(index, start as u32);
        Ok(())
    }

    /// `const volatile` variables, by address.
    fn constants(&mut self, elf: &Elf, btf: &Btf, layouts: &mut Layouts) -> Result<(), Finding> {
        let settable: HashMap<&str, u32> =
            variables(btf, |section| section.starts_with(".rodata")).filter(|(_, id)| layouts.is_settable(*id)).collect();
        let mut constants = Vec::new();
        for symbol in elf.symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Variable) {
            let Home::Section(section) = symbol.home else { continue };
            let (Some(start), Some(id)) = (self.read_only.get(&section), settable.get(symbol.name)) else { continue };
            // Names with a dot are local to a function: a deployment cannot name them.
            if !is_name(symbol.name) {
                continue;
            }
            if constants.len() >= CONSTANTS_MAX {
                return Err(limit(format!("more than {CONSTANTS_MAX} constants that a deployment may set")));
            }
            let type_index = layouts.convert(*id, &format!("constant `{}`", symbol.name))?;
            let bytes = layouts.types.size(type_index).unwrap_or_default();
            let inside = symbol.value.checked_add(bytes.into()).is_some_and(|end| end <= elf.sections[section].size);
            if !inside || u64::from(bytes) != symbol.size {
                return Err(Finding::new(
                    Code::OBJECT_MALFORMED,
                    format!("constant `{}` has a size that is not its type's", symbol.name),
                ));
            }
            constants.push(Constant { name: symbol.name.to_string(), offset: start + symbol.value as u32, type_index, bytes });
        }
        constants.sort_by_key(|constant| constant.offset);
        for (index, constant) in constants.iter().enumerate() {
            if constants[..index].iter().any(|other| other.name == constant.name) {
                return Err(Finding::new(Code::OBJECT_MALFORMED, format!("two constants are named `{}`", constant.name))
                    .hint("a deployment names constants, so their names differ within a bundle"));
            }
        }
        self.environment.constants = constants;
        Ok(())
    }
}

/// Names and types of the variables that BTF lists for sections.
fn variables<'a, 'b>(btf: &'b Btf<'a>, wanted: impl Fn(&str) -> bool + 'b) -> impl Iterator<Item = (&'a str, u32)> + 'b {
    let sections = btf.types().iter().filter_map(move |entry| match entry {
        BtfType::DataSection { name, variables } if wanted(name) => Some(variables),
        _ => None,
    });
    sections.flatten().filter_map(|id| match btf.get(*id) {
        BtfType::Variable { name, variable_type } => Some((*name, *variable_type)),
        _ => None,
    })
}

fn refuse_variables(elf: &Elf, index: usize, findings: &mut Findings) -> Result<(), Finding> {
    let inside = elf.symbols_of(index).filter(|symbol| symbol.kind == SymbolKind::Variable);
    let names: Vec<&str> = inside.map(|symbol| symbol.name).collect();
    names.iter().for_each(|name| findings.push(mutable(name)));
    if names.is_empty() { Err(mutable(elf.sections[index].name)) } else { Ok(()) }
}

/// A variable that handlers could change.
pub fn mutable(name: &str) -> Finding {
    Finding::new(Code::MUTABLE_GLOBAL, format!("`{name}` is a mutable global variable"))
        .hint("make it `const`, `const volatile` (set at deploy), local, a field of the message, or keep it in a region")
}

/// Whether the variable at a byte of a section contains addresses.
pub fn contains_addresses(elf: &Elf, index: usize, offset: u64) -> bool {
    let relocations = &elf.sections[index].relocations;
    let Some(symbol) = elf.symbol_at(index, offset) else { return false };
    let first = relocations.partition_point(|relocation| relocation.offset < symbol.value);
    relocations.get(first).is_some_and(|relocation| relocation.offset - symbol.value < symbol.size)
}

/// Constant data that contains addresses.
pub fn address_table(elf: &Elf, index: usize, offset: u64) -> Finding {
    let name = elf.name_at(index, offset).unwrap_or(elf.sections[index].name);
    Finding::new(Code::ADDRESS_TABLE, format!("`{name}` contains addresses"))
        .hint("use indices instead of pointers, and arrays of characters instead of arrays of strings")
}

/// What lies in a section that handlers do not have.
pub fn unknown(elf: &Elf, index: usize, offset: u64) -> Finding {
    let section = &elf.sections[index];
    let what = elf.name_at(index, offset).map_or_else(|| "something".to_string(), |name| format!("`{name}`"));
    let finding =
        Finding::new(Code::SECTION_UNKNOWN, format!("{what} is in section `{}`, which handlers do not have", section.name));
    match section.executable {
        true => finding.hint("a handler is declared with `SEC(\"naam/NAME\")`"),
        false => finding.hint("a region is declared with `SEC(\".maps\")`"),
    }
}
