//! Object files: from an ELF that clang made to functions, regions, read-only data, types and C lines.
//!
//! An object is hostile until it is parsed: every part is bounded before it is read, nothing panics, and every finding has a stable code. What clang makes of
//! C that handlers cannot have (mutable globals, function pointers, library calls) is refused by name. [`Object::flatten`] makes the
//! flat function of a handler; proving that it is safe is the verifier's business.

mod btf;
mod code;
mod data;
mod elf;
mod layout;
mod lines;

pub use btf::BTF_TYPES_MAX;
pub use code::FUNCTIONS_MAX;
pub use data::CONSTANTS_MAX;
pub use elf::{FILE_BYTES_MAX, SECTIONS_MAX, SYMBOLS_MAX};
pub use lines::{RECORDS_MAX, TEXT_BYTES_MAX};

use crate::diagnostic::{Code, Finding, SourceLine};
use crate::program::{self, CallableCode, Entry, Environment, Function};
use crate::types::Types;

/// Findings of one object; what follows is most likely noise.
pub const FINDINGS_MAX: usize = 32;
/// Findings after which reading stops, repeated ones included: bounds the work on hostile objects.
const REPORTS_MAX: usize = 1024;

/// What an object file contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Regions, read-only data, settable constants; in the order of their addresses.
    pub environment: Environment,
    /// Types of messages, region elements and constants.
    pub types: Types,
    /// All functions.
    pub code: CallableCode,
    /// C lines, each once.
    pub lines: Vec<SourceLine>,
    /// For each instruction of `code` the index of its line plus one, or 0 if it is unknown.
    pub instruction_lines: Vec<u32>,
    /// Handlers, ascending by name; at least one.
    pub handlers: Vec<Handler>,
}

/// A handler of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Its name: that of its section, without `naam/`.
    pub name: String,
    /// Its first instruction, as an index into [`Object::code`].
    pub start: u32,
    /// Type of its message: index into the types.
    pub message: u32,
    /// Bytes of its message.
    pub body_bytes: u32,
}

/// Reads an object file.
///
/// # Errors
///
/// Every independent finding (N101 to N115, and N201 to N211 for instructions), at most [`FINDINGS_MAX`].
pub fn read(bytes: &[u8]) -> Result<Object, Vec<Finding>> {
    let fatal = |finding| vec![finding];
    let elf = elf::Elf::parse(bytes).map_err(fatal)?;
    let missing =
        |name: &str| vec![Finding::new(Code::BTF_MISSING, format!("the object has no section `{name}`")).hint("compile with `-g`")];
    let btf = elf.section(".BTF").ok_or_else(|| missing(".BTF"))?;
    let extension = elf.section(".BTF.ext").ok_or_else(|| missing(".BTF.ext"))?;
    let btf = btf::Btf::parse(btf.bytes).map_err(fatal)?;
    let lines = lines::Lines::parse(extension.bytes, &btf).map_err(fatal)?;
    let mut findings = Findings::default();
    let mut layouts = layout::Layouts::new(&btf);
    let data = data::read(&elf, &btf, &mut layouts, &mut findings);
    let functions = code::read(&elf, &lines, &data, &mut findings);
    let mut handlers = Vec::new();
    for entrance in &functions.handlers {
        let section = elf.sections[entrance.section].name;
        let prototype = match lines.function_at(section, entrance.offset) {
            Some(id) => layouts.prototype(id, &entrance.name),
            None => Err(Finding::new(Code::BTF_MISSING, format!("handler `{}` has no type information", entrance.name))
                .hint("compile with `-g`")),
        };
        match prototype {
            Ok((message, body_bytes)) => {
                handlers.push(Handler { name: entrance.name.clone(), start: entrance.start, message, body_bytes });
            }
            Err(mut finding) => {
                finding.place.function = Some(entrance.name.clone());
                finding.place.line = lines.at(section, entrance.offset).cloned();
                findings.push(finding);
            }
        }
    }
    if handlers.is_empty() && !findings.any() {
        findings.push(
            Finding::new(Code::HANDLER_ABSENT, "the object contains no handler")
                .hint("put `SEC(\"naam/NAME\")` before `int name(struct T *message)`"),
        );
    }
    if findings.any() {
        return Err(findings.list);
    }
    let (code, instruction_lines) = (functions.code, functions.lines);
    Ok(Object { environment: data.environment, types: layouts.types, code, lines: lines.lines, instruction_lines, handlers })
}

impl Object {
    /// The flat function of a handler, and for each of its instructions the index of its line plus one, or 0.
    ///
    /// # Errors
    ///
    /// What [`program::flatten`] refuses, with the C line. `place.instruction` is an index into [`Object::code`].
    pub fn flatten(&self, handler: &Handler) -> Result<(Function, Vec<u32>), Vec<Finding>> {
        let entry = Entry { body_bytes: handler.body_bytes, second_argument: None };
        let flat = program::flatten(&self.code, handler.start, &handler.name, entry)
            .map_err(|findings| findings.into_iter().map(|finding| self.locate(finding, handler)).collect::<Vec<_>>())?;
        let lines = flat.origins.iter().map(|origin| self.line_number(*origin)).collect();
        Ok((flat.function, lines))
    }

    fn line_number(&self, instruction: u32) -> u32 {
        self.instruction_lines.get(instruction as usize).copied().unwrap_or(0)
    }

    fn locate(&self, mut finding: Finding, handler: &Handler) -> Finding {
        finding.place.function = Some(handler.name.clone());
        let number = finding.place.instruction.map_or(0, |instruction| self.line_number(instruction)) as usize;
        finding.place.line = number.checked_sub(1).and_then(|index| self.lines.get(index)).cloned();
        finding
    }
}

/// Findings so far, each once, no more than [`FINDINGS_MAX`].
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    /// How many were reported, repeated ones included.
    reported: usize,
}

impl Findings {
    fn push(&mut self, finding: Finding) {
        self.reported += 1;
        // What a section contains is refused where it is used, if it is: there is a line.
        let placed = finding.place.function.is_some();
        let same = |known: &&mut Finding| known.code == finding.code && known.message == finding.message;
        let unplaced = |known: &&mut Finding| known.place.function.is_none();
        if placed && let Some(known) = self.list.iter_mut().filter(same).find(unplaced) {
            *known = finding;
        } else if self.list.len() < FINDINGS_MAX && !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    fn note(&mut self, result: Result<(), Finding>) {
        if let Err(finding) = result {
            self.push(finding);
        }
    }

    /// Whether looking for more is of no use.
    fn are_enough(&self) -> bool {
        self.reported >= REPORTS_MAX
    }

    fn any(&self) -> bool {
        !self.list.is_empty()
    }
}
