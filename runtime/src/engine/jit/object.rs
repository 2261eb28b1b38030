//! The JIT's code as a native relocatable object, for disassemblers and profilers. Nothing runs from it.

use super::lower::{Body, Source};
use super::{EngineError, machine_code};
use crate::memory::Extent;
use naamc::program::Environment;
use naamc::verifier::Proof;
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use std::sync::Arc;

/// Alignment of every body.
const ALIGNMENT_BYTES: u64 = 16;
/// Length that is compiled in for regions that declare none.
pub const UNDECLARED_REGION_BYTES: u64 = 1 << 20;

/// Compiles handlers for this machine into an ELF relocatable object. Every handler has the symbols `NAME.start` and `NAME.resume`.
///
/// The code is what a host's executor would run if every region were as long as its declaration asks for, or
/// [`UNDECLARED_REGION_BYTES`]: all of them count as local and cold.
///
/// # Errors
/// As [`crate::engine::Engine::compile`].
pub fn compile_object(proofs: &[Arc<Proof>], environment: &Environment) -> Result<Vec<u8>, EngineError> {
    let architecture = if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 };
    let mut object = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    let section = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    let bound = |declared_bytes| match declared_bytes {
        0 => Extent { is_local: true, length_bytes: UNDECLARED_REGION_BYTES, is_cold: true },
        length_bytes => Extent { is_local: true, length_bytes, is_cold: true },
    };
    let regions: Vec<Extent> = environment.regions.iter().map(|region| bound(region.length_bytes_min)).collect();
    for proof in proofs {
        let source = Source { proof, regions: &regions };
        for (body, suffix) in [(Body::Start, "start"), (Body::Resume, "resume")] {
            if body == Body::Resume && proof.contracts().suspensions.is_empty() {
                continue;
            }
            let code = machine_code(&source, body)?;
            let symbol = object.add_symbol(Symbol {
                name: format!("{}.{suffix}", proof.function().name).into_bytes(),
                value: 0,
                size: code.len() as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
            object.add_symbol_data(symbol, section, &code, ALIGNMENT_BYTES);
        }
    }
    object.write().map_err(|error| EngineError::CodeGeneration(error.to_string()))
}
