//! `naam-run compile`: what the JIT makes of a bundle, as a file for disassemblers and profilers.

use crate::failure::Failure;
use naamc::bundle::Bundle;
use naamc::quantity::{counted, grouped};
use runtime::engine::jit::object::compile_object;
use serde_json::json;
use std::path::Path;

/// Writes a native object.
pub fn run(file: &Path, output: &Path, as_json: bool) -> Result<(), Failure> {
    let build = "build a bundle with `naamc build HANDLERS.c -o HANDLERS.naam`";
    let bytes = std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())).hint(build))?;
    let refused = |finding: &naamc::diagnostic::Finding| Failure::refused(&finding.code.to_string(), finding);
    let checked = Bundle::parse(&bytes)
        .map_err(|finding| refused(&finding).hint(finding.hint.as_deref().unwrap_or(build)))?
        .check()
        .map_err(|findings| refused(&findings[0]).hint("`naamc check` tells all findings"))?;
    let environment = &checked.bundle().meaning.environment;
    let object = compile_object(checked.proofs(), environment).map_err(|error| Failure::refused("compile", error))?;
    naamc::output::write(output, &object).map_err(Failure::usage)?;
    let handlers = checked.proofs().len();
    let value = json!({ "file": output, "bytes": object.len(), "handlers": handlers });
    crate::print(as_json, &value, || {
        let (handlers, bytes) = (counted(handlers as u64, "handler"), grouped(object.len() as u64));
        format!("Wrote {}: {handlers}, {bytes} bytes. `objdump -d` shows the code.", output.display())
    })
}
