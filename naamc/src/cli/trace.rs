//! `naamc trace`: one message through the interpreter, with every UDMA step beside its C line.

use super::{Failure, load, say};
use naamc::abi::{BACK_EDGES_MAX, UDMA_OPERATIONS_MAX};
use naamc::activation::Activation;
use naamc::bundle::CheckedBundle;
use naamc::interpreter::{Environment, Interpreter, Issued, Outcome, Udma};
use naamc::memory::RegionMemory;
use naamc::quantity::{counted, grouped, parse_bytes};
use naamc::types::json_text;
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::PathBuf;

/// Bytes of a region that a trace holds at most.
const REGION_BYTES_MAX: u64 = 4 << 30;
/// Bytes of data shown for one step.
const SHOWN_BYTES: usize = 32;
/// Steps shown at the beginning, unless all are asked for: a loop that waits makes tens of thousands.
const FIRST_STEPS: u64 = 200;
/// Steps shown at the end.
const LAST_STEPS: usize = 50;

/// What to trace.
pub struct Request {
    /// Bundle, ELF or C file.
    pub file: PathBuf,
    /// The handler's name.
    pub handler: String,
    /// The message as JSON.
    pub message: String,
    /// `NAME=FILE|BYTES`.
    pub regions: Vec<String>,
    /// `CONSTANT=VALUE`.
    pub settings: Vec<String>,
    /// Number of the executor.
    pub executor: u32,
    /// `NAME=FILE`.
    pub saves: Vec<String>,
    /// Whether all steps are printed.
    pub all: bool,
}

/// Runs the message and prints its steps, its result and its reply.
pub fn run(request: &Request) -> Result<(), Failure> {
    let checked = configured(request)?;
    let bundle = checked.bundle();
    let name = request.file.display().to_string();
    let Some(index) = checked.handler(&request.handler) else {
        let known: Vec<&str> = bundle.meaning.handlers.iter().map(|handler| handler.function.name.as_str()).collect();
        return Err(Failure::Unusable(format!("{name} has no handler `{}`; it has {}", request.handler, known.join(", "))));
    };
    let handler = &bundle.meaning.handlers[index];
    let value =
        serde_json::from_str(&request.message).map_err(|error| Failure::Unusable(format!("--message is no JSON: {error}")))?;
    let body = bundle
        .meaning
        .types
        .from_json(handler.message, &value)
        .map_err(|finding| Failure::Rejected("--message".to_string(), vec![finding]))?;
    let saves = saves(request, &checked)?;
    let mut tracer = Tracer { regions: regions(request, &checked)?, executor: request.executor, execute: false, step: None };

    let proof = &checked.proofs()[index];
    let interpreter = Interpreter::new(proof, bundle.meaning.environment.read_only.as_slice().into());
    let mut activation = Activation::new_boxed();
    activation.begin(&body, BACK_EDGES_MAX, UDMA_OPERATIONS_MAX);
    let mut printer = Printer { all: request.all, steps: 0, last: VecDeque::new() };
    let outcome = loop {
        let point = activation.point as usize;
        let outcome = interpreter.run(&mut activation, &mut tracer);
        if let Some(step) = tracer.step.take() {
            let instruction = proof.contracts().suspensions[point].instruction;
            printer.step(|number| step_text(&checked, index, instruction, number, &step))?;
        }
        if outcome != Outcome::Suspended {
            break outcome;
        }
        tracer.execute = true;
    };
    printer.end()?;
    let text = match outcome {
        Outcome::Finished(result) => {
            let fuel = BACK_EDGES_MAX - activation.back_edges_left;
            // The rest of the struct does not come back.
            let reply_bytes = (activation.reply_bytes as usize).min(body.len());
            let reply = bundle.meaning.types.to_json(handler.message, &activation.body()[..reply_bytes]);
            format!(
                "result {}{}\nreply  {reply_bytes} of {} bytes\n{}\n{}, {}\n",
                result as i32,
                meaning(i64::from(result as i32)),
                body.len(),
                json_text(&reply),
                counted(printer.steps, "UDMA operation"),
                counted(u64::from(fuel), "metered back edge"),
            )
        }
        Outcome::Failed(failure) => format!("no result: {failure}{}\n", limit_text(failure)),
        Outcome::Suspended => unreachable!("the loop ends only otherwise"),
    };
    say(&text)?;
    for (index, path) in saves {
        naamc::output::write(path.as_ref(), tracer.regions[index].bytes()).map_err(|error| Failure::Unusable(error.to_string()))?;
    }
    if matches!(outcome, Outcome::Finished(_)) { Ok(()) } else { Err(Failure::Said) }
}

/// The limit that a message has here, and where it can have another one.
fn limit_text(failure: naamc::interpreter::Failure) -> String {
    let (limit, flag) = match failure {
        naamc::interpreter::Failure::BackEdgesExhausted => (BACK_EDGES_MAX, "--back-edges"),
        naamc::interpreter::Failure::UdmaOperationsExhausted => (UDMA_OPERATIONS_MAX, "--udma-operations"),
        _ => return String::new(),
    };
    format!(", {}; `naam-run deploy {flag} N` sets another one", grouped(limit.into()))
}

/// What a negative result says, behind its number.
fn meaning(result: i64) -> String {
    naamc::abi::error_meaning(result).map_or_else(String::new, |meaning| format!(" ({meaning})"))
}

/// The bundle, with the constants that were set.
fn configured(request: &Request) -> Result<CheckedBundle, Failure> {
    let checked = load(std::slice::from_ref(&request.file))?;
    if request.settings.is_empty() {
        return Ok(checked);
    }
    let mut settings = Vec::new();
    for setting in &request.settings {
        let (constant, value) = split(setting, "--set", "CONSTANT=VALUE")?;
        let declared = &checked.bundle().meaning.environment.constants;
        if !declared.iter().any(|declaration| declaration.name == constant) {
            let known = names(declared.iter().map(|declaration| declaration.name.as_str()));
            return Err(Failure::Unusable(format!("the bundle declares no constant `{constant}`; it declares {known}")));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_string()));
        settings.push((constant.to_string(), value));
    }
    let rejected = |findings| Failure::Rejected(request.file.display().to_string(), findings);
    checked.bundle().with_constants(&settings).map_err(rejected)?.check().map_err(rejected)
}

fn split<'a>(text: &'a str, flag: &str, form: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| Failure::Unusable(format!("{flag} takes {form}, not `{text}`")))
}

/// The regions' contents, in the order of the bundle's declarations.
fn regions(request: &Request, checked: &CheckedBundle) -> Result<Vec<RegionMemory>, Failure> {
    let declared = &checked.bundle().meaning.environment.regions;
    let mut given = Vec::new();
    for region in &request.regions {
        let (name, content) = split(region, "--region", "NAME=FILE or NAME=BYTES")?;
        if !declared.iter().any(|declaration| declaration.name == name) {
            return Err(undeclared(name, checked));
        }
        given.push((name, content));
    }
    let mut contents = Vec::new();
    for declaration in declared {
        let Some((_, content)) = given.iter().find(|(name, _)| *name == declaration.name) else {
            let name = &declaration.name;
            return Err(Failure::Unusable(format!(
                "region `{name}` needs a content: `--region {name}=FILE` or `--region {name}=BYTES`, as in {name}=64K"
            )));
        };
        let bytes = match parse_bytes(content) {
            Ok(length) if length <= REGION_BYTES_MAX => vec![0; length as usize],
            Ok(length) => {
                return Err(Failure::Unusable(format!(
                    "{}; a trace holds at most {}",
                    counted(length, "byte"),
                    grouped(REGION_BYTES_MAX)
                )));
            }
            Err(_) => std::fs::read(content).map_err(|error| Failure::Unusable(format!("cannot read {content}: {error}")))?,
        };
        if (bytes.len() as u64) < declaration.length_bytes_min {
            let (name, least) = (&declaration.name, declaration.length_bytes_min);
            return Err(Failure::Unusable(format!(
                "region `{name}` has {} bytes; its declaration asks for at least {least}",
                bytes.len()
            )));
        }
        contents.push(RegionMemory::new(bytes));
    }
    Ok(contents)
}

/// Which regions go to which files. Known before the run, whose result would be lost to a mistyped name.
fn saves<'a>(request: &'a Request, checked: &CheckedBundle) -> Result<Vec<(usize, &'a str)>, Failure> {
    let one = |save: &'a String| {
        let (name, path) = split(save, "--save", "NAME=FILE")?;
        let declared = &checked.bundle().meaning.environment.regions;
        let index = declared.iter().position(|declaration| declaration.name == name).ok_or_else(|| undeclared(name, checked))?;
        Ok((index, path))
    };
    request.saves.iter().map(one).collect()
}

fn undeclared(name: &str, checked: &CheckedBundle) -> Failure {
    let declared = &checked.bundle().meaning.environment.regions;
    let known = names(declared.iter().map(|declaration| declaration.name.as_str()));
    Failure::Unusable(format!("the bundle declares no region `{name}`; it declares {known}"))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

/// Prints steps as they come, or the first and the last ones.
struct Printer {
    all: bool,
    steps: u64,
    /// Texts of the latest steps behind the first ones.
    last: VecDeque<String>,
}

impl Printer {
    fn step(&mut self, text: impl FnOnce(u64) -> String) -> Result<(), Failure> {
        self.steps += 1;
        let text = text(self.steps);
        if self.all || self.steps <= FIRST_STEPS {
            return say(&text);
        }
        if self.last.len() == LAST_STEPS {
            self.last.pop_front();
        }
        self.last.push_back(text);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let shown = if self.all { self.steps } else { FIRST_STEPS + self.last.len() as u64 };
        if self.steps > shown {
            say(&format!("... {} left out (--all prints them)\n", counted(self.steps - shown, "step")))?;
        }
        self.last.drain(..).try_for_each(|text| say(&text))
    }
}

/// One UDMA operation as it was executed.
struct Step {
    region: u16,
    call: String,
    result: i64,
    data: Vec<u8>,
}

fn step_text(checked: &CheckedBundle, handler: usize, instruction: u32, number: u64, step: &Step) -> String {
    let bundle = checked.bundle();
    let region = &bundle.meaning.environment.regions[usize::from(step.region)].name;
    let mut text = format!("{number:>3}  {}", step.call.replacen("REGION", region, 1));
    if step.result != 0 {
        write!(text, " = {}{}", step.result, meaning(step.result)).expect("writing to a String cannot fail");
    }
    text.push('\n');
    if let Some(line) = bundle.line(handler, instruction) {
        writeln!(text, "     {}:{}  {}", line.file, line.line, line.text.trim()).expect("writing to a String cannot fail");
    }
    if !step.data.is_empty() {
        let shown: Vec<String> = step.data.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let more = if step.data.len() > SHOWN_BYTES { " ..." } else { "" };
        writeln!(text, "     {}{more}", shown.join(" ")).expect("writing to a String cannot fail");
    }
    text
}

/// Suspends before every UDMA call once, so that the trace knows where it stands, then executes it and keeps what happened.
struct Tracer {
    regions: Vec<RegionMemory>,
    executor: u32,
    execute: bool,
    step: Option<Step>,
}

impl Environment for Tracer {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if !std::mem::take(&mut self.execute) {
            return Issued::Suspend;
        }
        let region = operation.region();
        let call = match &operation {
            Udma::Read { offset, destination, .. } => format!("read(REGION, offset {offset}, {} bytes)", destination.len()),
            Udma::Write { offset, source, .. } => format!("write(REGION, offset {offset}, {} bytes)", source.len()),
            Udma::CompareSwap { offset, expected, desired, .. } => {
                format!("compare_swap(REGION, offset {offset}, expected {expected:#x}, desired {desired:#x})")
            }
            Udma::FetchAdd { offset, addend, .. } => format!("fetch_add(REGION, offset {offset}, addend {addend})"),
        };
        let (result, data) = self.regions[usize::from(region)].execute_and_show(operation);
        self.step = Some(Step { region, call, result, data });
        Issued::Done(result)
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, naamc::interpreter::Failure> {
        Ok(self.executor)
    }
}
