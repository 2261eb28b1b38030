//! The program `naamc`: commands, input files, exit codes.

mod args;
mod inspect;
mod render;
mod trace;

use args::{Args, Command};
use clap::Parser;
use naamc::bundle::{Bundle, CheckedBundle};
use naamc::diagnostic::{CODES, Code, Finding};
use naamc::quantity::counted;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command did not succeed.
pub enum Failure {
    /// An input was read and is refused: exit code 1.
    Rejected(String, Vec<Finding>),
    /// Usage is wrong, an input cannot be read or an output not be written: exit code 2.
    Unusable(String),
    /// Everything was said already; exit code 1.
    Said,
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Build { inputs, output } => build(&inputs, &output),
        Command::Check { inputs, json } => check(&inputs, json),
        Command::Inspect { file, json, handler, no_code } => inspect::run(&file, json, handler.as_deref(), !no_code),
        Command::Explain { code } => explain(code.as_deref()),
        Command::New { name } => new(&name),
        Command::Trace { file, handler, message, regions, settings, executor, saves, all } => {
            trace::run(&trace::Request { file, handler, message, regions, settings, executor, saves, all })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Rejected(input, findings)) => {
            render::print(&input, &findings);
            ExitCode::from(1)
        }
        Err(Failure::Said) => ExitCode::from(1),
        Err(Failure::Unusable(what)) => {
            // Who does not hear it still has the exit code.
            let _ = writeln!(std::io::stderr(), "naamc: {what}");
            ExitCode::from(2)
        }
    }
}

/// Prints to standard output.
pub fn say(text: &str) -> Result<(), Failure> {
    naamc::output::print(text).map_err(|error| Failure::Unusable(format!("cannot write to standard output: {error}")))
}

/// Reads a bundle, or makes one of an ELF or of C files, and proves it.
pub fn load(inputs: &[PathBuf]) -> Result<CheckedBundle, Failure> {
    let name = inputs.iter().map(|input| input.display().to_string()).collect::<Vec<_>>().join(" ");
    let rejected = |findings: Vec<Finding>| Failure::Rejected(name.clone(), findings);
    for input in inputs {
        std::fs::metadata(input).map_err(|error| Failure::Unusable(format!("cannot read {}: {error}", input.display())))?;
    }
    if inputs.iter().all(|input| has_extension(input, "c")) {
        let elf = naamc::compile::compile(inputs).map_err(|error| match error {
            naamc::compile::Error::Refused(finding) => rejected(vec![finding]),
            other => Failure::Unusable(other.to_string()),
        })?;
        return naamc::build(&elf).map_err(|findings| rejected(naamc::compile::found_in_sources(findings)));
    }
    let [input] = inputs else {
        return Err(Failure::Unusable("several inputs are compiled together only if all of them are C files".to_string()));
    };
    let bytes = std::fs::read(input).map_err(|error| Failure::Unusable(format!("cannot read {}: {error}", input.display())))?;
    if bytes.starts_with(&naamc::bundle::MAGIC) || has_extension(input, "naam") {
        let bundle = Bundle::parse(&bytes).map_err(|finding| rejected(vec![finding]))?;
        return bundle.check().map_err(rejected);
    }
    if !bytes.starts_with(b"\x7fELF") {
        let foreign = Finding::new(Code::OBJECT_MALFORMED, "this is neither a bundle (.naam), nor an ELF (.o), nor C (.c)");
        return Err(rejected(vec![foreign]));
    }
    naamc::build(&bytes).map_err(rejected)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn build(inputs: &[PathBuf], output: &Path) -> Result<(), Failure> {
    let checked = load(inputs)?;
    let bytes = checked.bundle().to_bytes();
    naamc::output::write(output, &bytes).map_err(|error| Failure::Unusable(error.to_string()))?;
    let handlers: Vec<&str> = checked.bundle().meaning.handlers.iter().map(|handler| handler.function.name.as_str()).collect();
    say(&format!(
        "{}  {} bytes, {}: {}\nid {}\n",
        output.display(),
        bytes.len(),
        counted(handlers.len() as u64, "handler"),
        handlers.join(", "),
        checked.id(),
    ))
}

fn check(inputs: &[PathBuf], json: bool) -> Result<(), Failure> {
    let mut rejected = false;
    let mut report = Vec::new();
    for input in inputs {
        match load(std::slice::from_ref(input)) {
            Ok(checked) if json => report.push(serde_json::json!({
                "input": input, "accepted": true, "id": checked.id().to_string(), "findings": [],
            })),
            Ok(checked) => {
                let handlers = counted(checked.proofs().len() as u64, "handler");
                say(&format!("{}: {handlers} verified, id {}\n", input.display(), checked.id()))?;
            }
            Err(Failure::Rejected(name, findings)) => {
                rejected = true;
                if json {
                    report.push(serde_json::json!({ "input": input, "accepted": false, "findings": render::json(&findings) }));
                } else {
                    render::print(&name, &findings);
                }
            }
            Err(other) => return Err(other),
        }
    }
    if json {
        say(&format!("{}\n", serde_json::to_string_pretty(&report).expect("JSON values have a text")))?;
    }
    if rejected { Err(Failure::Said) } else { Ok(()) }
}

fn explain(code: Option<&str>) -> Result<(), Failure> {
    let Some(code) = code else {
        let list: String = CODES.iter().map(|entry| format!("{}  {}\n", entry.code, entry.title)).collect();
        return say(&list);
    };
    let wanted = code.to_ascii_uppercase();
    match CODES.iter().find(|entry| entry.code.to_string() == wanted) {
        Some(entry) => say(&format!("{}: {}\n\n{}\n", entry.code, entry.title, wrap(entry.explanation, 100))),
        None => Err(Failure::Unusable(format!("there is no code {code}; `naamc explain` lists all"))),
    }
}

fn new(name: &str) -> Result<(), Failure> {
    if !naamc::abi::is_name(name) || name.contains('-') {
        return Err(Failure::Unusable(format!(
            "`{name}` cannot name the handler: a name begins with a letter or `_`, goes on with letters, digits and `_`, and has 1 to 64 of them"
        )));
    }
    if let Some(taken) = naamc::template::taken(name) {
        return Err(Failure::Unusable(format!("`{name}` cannot name the handler: it is {taken}")));
    }
    let path = PathBuf::from(format!("{name}.c"));
    let mut file = std::fs::File::create_new(&path)
        .map_err(|error| Failure::Unusable(format!("cannot create {}: {error}", path.display())))?;
    file.write_all(naamc::template::handler(name).as_bytes())
        .map_err(|error| Failure::Unusable(format!("cannot write {}: {error}", path.display())))?;
    say(&format!("wrote {name}.c; next:\n  naamc build {name}.c -o {name}.naam\n  naamc inspect {name}.naam\n"))
}

fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        if column + word.len() > width && column > 0 {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column = word.rfind('\n').map_or(column + word.len(), |at| word.len() - at - 1);
    }
    out
}
