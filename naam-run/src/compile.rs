//! `naam-run compile`: what the JIT makes of a bundle, as a file for disassemblers and profilers.

use crate::failure::Failure;
use naamc::bundle::Bundle;
use runtime::engine::jit::object::compile_object;
use runtime::memory::Region;
use serde_json::json;
use std::num::NonZeroU32;
use std::path::Path;

/// Writes a native object.
pub fn run(file: &Path, output: &Path, as_json: bool) -> Result<(), Failure> {
    let bytes = std::fs::read(file).map_err(|error| {
        Failure::usage(format!("{}: {error}", file.display())).hint("build a bundle with `naamc build HANDLERS.c -o HANDLERS.naam`")
    })?;
    let refused = |finding: &naamc::diagnostic::Finding| Failure::refused(&finding.code.to_string(), finding);
    let checked = Bundle::parse(&bytes)
        .map_err(|finding| refused(&finding))?
        .check()
        .map_err(|findings| refused(&findings[0]).hint("`naamc check` tells all findings"))?;
    let declared = &checked.bundle().meaning.environment.regions;
    let regions = declared.iter().map(|region| stand_in(region.length_bytes_min)).collect::<std::io::Result<Vec<Region>>>();
    let regions = regions.map_err(|error| Failure::refused("system", error))?;
    let object = compile_object(checked.proofs(), &regions).map_err(|error| Failure::refused("compile", error))?;
    std::fs::write(output, &object).map_err(|error| Failure::usage(format!("{}: {error}", output.display())))?;
    let handlers = checked.proofs().len();
    let value = json!({ "file": output, "bytes": object.len(), "handlers": handlers });
    crate::print(as_json, &value, || {
        format!("Wrote {}: {handlers} handlers, {} bytes. `objdump -d` shows them.", output.display(), object.len())
    })
}

/// A region as a deployment would bind it: mapped, and as long as the bundle asks for. Nothing of it is touched.
fn stand_in(length_bytes_min: u64) -> std::io::Result<Region> {
    /// What longer regions than a page count are compiled for; nobody has more memory than can be mapped sparsely.
    const MAPPED_BYTES_MAX: u64 = 1 << 40;
    if length_bytes_min > MAPPED_BYTES_MAX {
        return Ok(Region::remote(NonZeroU32::MIN, length_bytes_min));
    }
    Region::anonymous(length_bytes_min.max(1))
}
