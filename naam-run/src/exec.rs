//! `naam-run exec`: one program as hex text, by the plugin protocol of the public eBPF conformance runner.
//!
//! The program is on standard input, its memory the first argument that does not begin with `--`. The result, r0, goes to standard output
//! as hex; anything else that happens goes to standard error, with another exit code.

use crate::failure::Failure;
use naamc::exec::{self, ExecError};
use naamc::program::Environment;
use runtime::engine::{Program, Turn};
use runtime::memory::Regions;
use runtime::place::bundles;
use runtime::supervisor::protocol::EngineChoice;
use std::io::Read;
use std::sync::Arc;

/// Bytes of text on standard input: far more than a program may have.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Runs the program that standard input has.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let (engine, memory) = parse(arguments)?;
    let mut text = String::new();
    std::io::stdin()
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    let program = exec::parse(&text, memory).map_err(|error| refused(&error))?;
    let environment = Environment::default();
    let proof = Arc::new(program.proof.clone());
    let compiled: Arc<dyn Program> = bundles::engine(engine)?
        .compile(&proof, &environment, &Regions::default())
        .map_err(|error| Failure::refused("engine", error))?;
    let result = program
        .run(|activation| compiled.run(activation, &mut Turn::new(&Regions::default(), 0)))
        .map_err(|error| refused(&error))?;
    println!("{result:x}");
    Ok(())
}

/// The engine, and the memory's text.
fn parse(arguments: &[String]) -> Result<(EngineChoice, Option<&str>), Failure> {
    let mut engine = EngineChoice::default();
    let mut memory = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let named = match argument.strip_prefix("--engine") {
            Some("") => rest.next().map(String::as_str),
            Some(value) => value.strip_prefix('='),
            None if argument.starts_with("--") => return Err(Failure::usage(format!("{argument}: only --engine is known"))),
            None => {
                memory = memory.or(Some(argument.as_str()));
                continue;
            }
        };
        engine = match named {
            Some("interpreter") => EngineChoice::Interpreter,
            Some("jit") => EngineChoice::Jit,
            _ => return Err(Failure::usage("--engine is interpreter or jit")),
        };
    }
    Ok((engine, memory))
}

fn refused(error: &ExecError) -> Failure {
    match error {
        ExecError::NotHex { .. } => Failure::usage(error),
        _ => Failure::refused("exec", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_any_order() {
        let parsed = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            parse(&arguments).ok().map(|(engine, memory)| (engine, memory.map(str::to_owned)))
        };
        let memory = Some("00 ff".to_owned());
        assert_eq!(parsed(&[]), Some((EngineChoice::default(), None)));
        assert_eq!(parsed(&["00 ff"]), Some((EngineChoice::default(), memory.clone())));
        assert_eq!(parsed(&["--engine", "jit", "00 ff"]), Some((EngineChoice::Jit, memory.clone())));
        assert_eq!(parsed(&["00 ff", "--engine=interpreter", "more"]), Some((EngineChoice::Interpreter, memory)));
        for wrong in [&["--engine"][..], &["--engine", "abacus"], &["--engineer"], &["--elf"]] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
