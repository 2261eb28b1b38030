//! From an object file to a bundle: flatten, prove, summarise.

use crate::bundle::{Bundle, CheckedBundle, Debug, DebugLine, Handler, Meaning};
use crate::diagnostic::Finding;
use crate::manifest::Manifest;
use crate::object::{self, Object};
use crate::verifier::Proof;
use crate::verifier::contract::Contracts;

/// Reads an object file, proves its handlers and makes a bundle of them.
///
/// # Errors
/// Every finding of every stage that could be reached, with its C line.
pub fn build(elf: &[u8]) -> Result<CheckedBundle, Vec<Finding>> {
    let mut bundle = unproved(&object::read(elf)?)?;
    let mut findings = Vec::new();
    for index in 0..bundle.meaning.handlers.len() {
        let environment = &bundle.meaning.environment;
        match Proof::prove(bundle.meaning.handlers[index].function.clone(), environment) {
            Ok(proof) => {
                let manifest = Manifest::of(&proof, environment);
                let handler = &mut bundle.meaning.handlers[index];
                handler.manifest = manifest;
                handler.contracts = proof.contracts().clone();
            }
            Err(found) => findings.extend(found.into_iter().map(|finding| bundle.locate(index, finding))),
        }
    }
    if findings.is_empty() { bundle.check() } else { Err(findings) }
}

/// The bundle with its code, and nothing proved of it yet.
fn unproved(object: &Object) -> Result<Bundle, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut handlers = Vec::new();
    let mut handler_lines = Vec::new();
    for handler in &object.handlers {
        match object.flatten(handler) {
            Ok((function, lines)) => {
                let (contracts, manifest) = (Contracts::default(), Manifest::default());
                handlers.push(Handler { function, message: handler.message, contracts, manifest });
                handler_lines.push(lines);
            }
            Err(found) => findings.extend(found),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let line = |line: &crate::diagnostic::SourceLine| DebugLine {
        file: line.file.clone(),
        line: line.line,
        column: line.column,
        text: line.text.clone(),
    };
    let debug = Debug { lines: object.lines.iter().map(line).collect(), handlers: handler_lines };
    let meaning = Meaning { environment: object.environment.clone(), types: object.types.clone(), handlers };
    Ok(Bundle { meaning, debug })
}
