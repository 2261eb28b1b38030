//! What the verifier proves is true: concrete runs of random handlers lie inside all that is claimed of them.
//!
//! At every instruction of a run an observer holds the machine's state against the contracts and the analysis. Runs are repeated with
//! other garbage in what the handler must not see, and with the message encoded, decoded into a garbage activation and resumed at UDMA
//! calls; they are also resumed from continuations drawn at random from the contracts.

#[path = "soundness/generator.rs"]
mod generator;
#[path = "soundness/widths.rs"]
mod widths;

use fastrand::Rng;
use generator::{BODY_BYTES, REGION_BYTES};
use naamc::abi::{Extent, Helper, Parameter, Rights, STACK_BYTES, address};
use naamc::activation::Activation;
use naamc::cfg::Graph;
use naamc::continuation;
use naamc::diagnostic::Code;
use naamc::interpreter::{self, Failure, Interpreter, Issued, Observer, Outcome, Udma};
use naamc::isa::{Instruction, Register, assemble};
use naamc::manifest::Manifest;
use naamc::memory::RegionMemory;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::contract::Contract;
use naamc::verifier::value::{Scalar, Value};
use naamc::verifier::{Access, Call, Proof, Touched};
use std::collections::{BTreeMap, HashMap};

const HANDLERS: usize = 1_500;
const WIDTH_HANDLERS: usize = 1_000;
const BACK_EDGES: u32 = 2_000;
const UDMA_OPERATIONS: u32 = 200;

/// Proves that concrete states lie inside proved ones, that suspension and garbage change nothing, and that continuations drawn from the
/// contracts do no harm.
#[test]
fn runs_lie_inside_what_is_proved() {
    let count = examined(HANDLERS, 0x50d4, &environment(Vec::new()), generator::handler, any_body);
    assert!(count.states > 50_000 && count.resumed > 1_000 && count.drawn > 1_000, "too little was seen");
}

/// Proves the same of handlers that mix widths, signs and kinds of words.
#[test]
fn runs_that_mix_widths_lie_inside_what_is_proved() {
    let count = examined(WIDTH_HANDLERS, 0x50d5, &environment(widths::read_only()), widths::handler, widths::body);
    assert!(count.states > 50_000 && count.resumed > 1_000 && count.drawn > 1_000, "too little was seen");
}

/// Examines so many handlers on random bodies; panics if one breaks what is proved of it.
fn examined(
    handlers: usize,
    seed: u64,
    environment: &Environment,
    handler: fn(&mut Rng) -> String,
    body: fn(&mut Rng) -> Vec<u8>,
) -> Count {
    let mut random = Rng::with_seed(seed);
    let mut count = Count::default();
    for number in 0..handlers {
        let text = handler(&mut random);
        let instructions = assemble(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let entry = Entry { body_bytes: BODY_BYTES, second_argument: None };
        let function = Function { name: format!("random_{number}"), entry, instructions };
        let proof = match Proof::prove(function, environment) {
            Ok(proof) => proof,
            Err(findings) => {
                *count.refused.entry(findings[0].code).or_default() += 1;
                continue;
            }
        };
        count.proved += 1;
        let contracts = proof.contracts().loops.iter().chain(&proof.contracts().suspensions);
        count.bounds += contracts.map(|contract| contract.bounds.len()).sum::<usize>();
        let subject = Subject::new(proof, environment);
        let result = subject.examine(body, &mut random, &mut count);
        if let Err(wrong) = result {
            panic!("seed {seed:#x}, handler {number}: {wrong}\n{}", listing(subject.proof.function()));
        }
    }
    println!("{count:?}");
    // What inference found holds, or there is another finding.
    assert!(!count.refused.contains_key(&Code::CONTRACT_BROKEN), "a proposal of inference is refused");
    assert!(count.proved > handlers / 4 && count.refused.values().sum::<usize>() > handlers / 50, "the handlers are all alike");
    count
}

/// A body of any bytes, of small ones, or of words that make an address null.
fn any_body(random: &mut Rng) -> Vec<u8> {
    let mut body = bytes(random, BODY_BYTES as usize);
    if random.bool() {
        body.iter_mut().for_each(|byte| *byte &= 7);
    } else if random.u8(0..4) == 0 {
        let start = [address::BODY_START, address::STACK_END][random.usize(..2)];
        body.chunks_mut(8).for_each(|word| word.copy_from_slice(&start.wrapping_neg().to_le_bytes()[..word.len()]));
    }
    body
}

/// What was seen.
#[derive(Debug, Default)]
struct Count {
    proved: usize,
    /// By the first finding.
    refused: BTreeMap<Code, usize>,
    /// States at cut points held against contracts.
    states: usize,
    /// Accesses and calls held against the analysis.
    accesses: usize,
    /// Messages that moved to another activation.
    resumed: usize,
    /// Drawn continuations that were let in.
    drawn: usize,
    /// Bounds of sums among the contracts.
    bounds: usize,
    finished: usize,
    out_of_fuel: usize,
}

fn environment(read_only: Vec<u8>) -> Environment {
    let region = |name: &str| RegionDeclaration {
        name: name.to_owned(),
        rights: Rights::ALL,
        length_bytes_min: REGION_BYTES as u64,
        element: None,
    };
    Environment { regions: vec![region("one"), region("two")], read_only, constants: Vec::new() }
}

fn listing(function: &Function) -> String {
    function.instructions.iter().enumerate().map(|(index, instruction)| format!("{index:4} {instruction}\n")).collect()
}

/// A proved handler, and what is claimed of it by instruction.
struct Subject {
    proof: Proof,
    manifest: Manifest,
    interpreter: Interpreter,
    graph: Graph,
    contracts: HashMap<u32, Contract>,
    accesses: HashMap<u32, Access>,
    calls: HashMap<u32, Call>,
}

/// Result, reply length, body and regions: all that others can see.
type Effects = (Outcome, u32, Vec<u8>, Vec<RegionMemory>);

impl Subject {
    fn new(proof: Proof, environment: &Environment) -> Subject {
        let contracts = proof.contracts().loops.iter().chain(&proof.contracts().suspensions);
        Subject {
            manifest: Manifest::of(&proof, environment),
            interpreter: Interpreter::new(&proof, environment.read_only.as_slice().into()),
            graph: Graph::new(&proof.function().instructions).expect("proved code has a graph"),
            contracts: contracts.map(|contract| (contract.instruction, contract.clone())).collect(),
            accesses: proof.analysis().accesses.iter().map(|access| (access.instruction, *access)).collect(),
            calls: proof.analysis().calls.iter().map(|call| (call.instruction, call.clone())).collect(),
            proof,
        }
    }

    fn examine(&self, body: fn(&mut Rng) -> Vec<u8>, random: &mut Rng, count: &mut Count) -> Result<(), String> {
        for _ in 0..4 {
            let mut body = body(random);
            let start = random.fork();
            let straight = self.run(&body, 0x00, None, &mut start.clone(), count)?;
            match straight.0 {
                Outcome::Finished(_) => count.finished += 1,
                Outcome::Failed(Failure::BackEdgesExhausted | Failure::UdmaOperationsExhausted) => count.out_of_fuel += 1,
                other => return Err(format!("ended with {other:?}")),
            }
            let garbage = self.run(&body, 0xee, None, &mut start.clone(), count)?;
            if garbage != straight {
                return Err("what the activation held before matters".to_owned());
            }
            let moved = self.run(&body, 0x11, Some(2), &mut start.clone(), count)?;
            if moved != straight {
                return Err(format!("suspension changes {straight:?}\nto {moved:?}"));
            }
            let unread = (self.proof.analysis().body_bytes_read as usize).min(body.len());
            body[unread..].fill(random.u8(..));
            let other = self.run(&body, 0x00, None, &mut start.clone(), count)?;
            // The body's unread end goes back as it came; everything else is the same.
            if (&other.0, other.1) != (&straight.0, straight.1) || other.3 != straight.3 {
                return Err(format!("bytes from {unread} on are read: {straight:?}\n{other:?}"));
            }
        }
        self.draw(random, count)
    }

    /// Runs a message; `suspends` is one in how many UDMA calls it is moved to another activation at.
    fn run(&self, body: &[u8], garbage: u8, suspends: Option<u32>, random: &mut Rng, count: &mut Count) -> Result<Effects, String> {
        let mut activation = Activation::new_boxed();
        activation.memory.fill(garbage);
        activation.registers.fill(u64::from_ne_bytes([garbage; 8]));
        activation.begin(body, BACK_EDGES, UDMA_OPERATIONS);
        let mut regions = Regions::new(random);
        regions.suspends = suspends;
        regions.random = random.fork();
        let mut watch = Watch::new(self, count);
        loop {
            let outcome = self.interpreter.observe(&mut activation, &mut regions, &mut watch);
            if let Some(wrong) = watch.wrong {
                return Err(wrong);
            }
            match outcome {
                Outcome::Suspended => {
                    watch.count.resumed += 1;
                    activation = self.moved(&activation, garbage.wrapping_add(0x33))?;
                    regions.executes_next = true;
                }
                Outcome::Failed(Failure::EngineFault) => return Err("an engine fault".to_owned()),
                _ => {
                    watch.ended(outcome, &activation)?;
                    let body = activation.body()[..BODY_BYTES as usize].to_vec();
                    return Ok((outcome, activation.reply_bytes, body, regions.regions));
                }
            }
        }
    }

    /// The message in another activation, by way of its continuation.
    fn moved(&self, from: &Activation, garbage: u8) -> Result<Box<Activation>, String> {
        let mut bytes = vec![0; 8192];
        let length = continuation::encode(&self.proof, from, &mut bytes).ok_or("it cannot be encoded")?;
        let mut to = Activation::new_boxed();
        to.memory.fill(garbage);
        to.registers.fill(u64::from_ne_bytes([garbage; 8]));
        continuation::decode(&self.proof, &bytes[..length], &from.body()[..BODY_BYTES as usize], &mut to)
            .map_err(|error| format!("its continuation is refused: {error}"))?;
        (to.back_edges_left, to.udma_operations_left) = (from.back_edges_left, from.udma_operations_left);
        (to.udma_operations, to.suspensions) = (from.udma_operations, from.suspensions);
        Ok(to)
    }

    /// Resumes from states that no run led to, but that the contracts allow.
    fn draw(&self, random: &mut Rng, count: &mut Count) -> Result<(), String> {
        for (point, contract) in self.proof.contracts().suspensions.iter().enumerate() {
            for _ in 0..8 {
                let mut bytes = Vec::new();
                bytes.extend((point as u32).to_le_bytes());
                bytes.extend(random.u32(0..=BODY_BYTES).to_le_bytes());
                contract.registers.iter().for_each(|(_, value)| bytes.extend(draw_value(random, value).to_le_bytes()));
                let mut memory: Vec<u8> = bytes_like(random, STACK_BYTES + BODY_BYTES as usize);
                for cell in &contract.cells {
                    let (start, size) = (cell.offset as usize, cell.size.bytes());
                    memory[start..start + size].copy_from_slice(&draw_value(random, &cell.value).to_le_bytes()[..size]);
                }
                contract.live_stack.iter().for_each(|range| bytes.extend(&memory[range.start as usize..range.end as usize]));
                let mut activation = Activation::new_boxed();
                activation.memory.fill(0xcd);
                if continuation::decode(&self.proof, &bytes, &memory[STACK_BYTES..], &mut activation).is_err() {
                    continue;
                }
                count.drawn += 1;
                (activation.back_edges_left, activation.udma_operations_left) = (BACK_EDGES, UDMA_OPERATIONS);
                let mut watch = Watch::new(self, count);
                watch.from_the_middle = true;
                let outcome = self.interpreter.observe(&mut activation, &mut Regions::new(random), &mut watch);
                if let Some(wrong) = watch.wrong {
                    return Err(format!("resumed at point {point}: {wrong}"));
                }
                if outcome == Outcome::Failed(Failure::EngineFault) {
                    return Err(format!("resumed at point {point}: an engine fault"));
                }
            }
        }
        Ok(())
    }
}

fn bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.u8(..)).collect()
}

/// Bytes among which small numbers are frequent.
fn bytes_like(random: &mut Rng, length: usize) -> Vec<u8> {
    let mask = if random.bool() { 0x03 } else { 0xff };
    (0..length).map(|_| random.u8(..) & mask).collect()
}

/// A value that the contract most likely allows; `decode` decides.
fn draw_value(random: &mut Rng, value: &Value) -> u64 {
    match value {
        Value::Scalar(scalar) => draw_scalar(random, scalar),
        Value::Pointer(pointer) => {
            let parts = [
                (pointer.stack, address::STACK_END),
                (pointer.body, address::BODY_START),
                (pointer.read_only, address::READ_ONLY_START),
            ];
            let mut choices: Vec<u64> = Vec::new();
            for (offset, start) in parts {
                if let Some(offset) = offset {
                    choices.push(start.wrapping_add(draw_scalar(random, &offset)));
                }
            }
            choices
                .extend((0..64).filter(|region| pointer.regions >> region & 1 == 1).map(|region| address::REGION_START + region));
            choices.extend(pointer.null.then_some(0));
            choices[random.usize(0..choices.len())]
        }
    }
}

fn draw_scalar(random: &mut Rng, scalar: &Scalar) -> u64 {
    let stride = scalar.stride.max(1);
    for _ in 0..16 {
        let value = match random.u8(0..6) {
            0 => scalar.unsigned_min,
            1 => scalar.unsigned_max,
            2 => scalar.signed_min as u64,
            3 => scalar.signed_max as u64,
            4 => (scalar.signed_min as u64).wrapping_add(stride.wrapping_mul(random.u64(0..64))),
            _ => (random.u64(..) >> random.u8(0..64)) & !scalar.zeros | scalar.ones,
        };
        if scalar.admits(value) {
            return value;
        }
    }
    scalar.signed_min as u64
}

/// Two regions, and whether a call is put off.
struct Regions {
    regions: Vec<RegionMemory>,
    suspends: Option<u32>,
    executes_next: bool,
    random: Rng,
}

impl Regions {
    fn new(random: &mut Rng) -> Regions {
        let regions = (0..2).map(|_| RegionMemory::new(bytes_like(random, REGION_BYTES))).collect();
        Regions { regions, suspends: None, executes_next: false, random: random.fork() }
    }
}

impl interpreter::Environment for Regions {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if let Some(n) = self.suspends
            && !std::mem::take(&mut self.executes_next)
            && self.random.u32(0..n) == 0
        {
            return Issued::Suspend;
        }
        Issued::Done(self.regions[usize::from(operation.region())].execute(operation))
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(1)
    }
}

/// Holds every state against what is claimed.
struct Watch<'a> {
    subject: &'a Subject,
    count: &'a mut Count,
    previous: Option<u32>,
    /// Back edges into each loop head since it was entered.
    trips: HashMap<u32, u64>,
    instructions: u64,
    /// Whether the run began at a suspension: then totals say nothing.
    from_the_middle: bool,
    wrong: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(subject: &'a Subject, count: &'a mut Count) -> Watch<'a> {
        Watch { subject, count, previous: None, trips: HashMap::new(), instructions: 0, from_the_middle: false, wrong: None }
    }

    fn state(&mut self, at: u32, activation: &Activation) -> Result<(), String> {
        if let Some(contract) = self.subject.contracts.get(&at) {
            self.count.states += 1;
            admits(contract, activation)?;
        }
        let instruction = &self.subject.proof.function().instructions[at as usize];
        match instruction {
            Instruction::Load { size, base, offset, .. }
            | Instruction::Store { size, base, offset, .. }
            | Instruction::Atomic { size, base, offset, .. } => {
                self.count.accesses += 1;
                let claim = self.subject.accesses.get(&at).ok_or("an access that is said to be unreachable")?;
                let start = activation.registers[base.index()].wrapping_add_signed(i64::from(*offset));
                covers(&claim.touched, start, size.bytes() as u64)?;
                if claim.exact && hull_bytes(&claim.touched) != size.bytes() as u32 {
                    return Err("an exact access whose range is not its size".to_owned());
                }
            }
            Instruction::CallHelper { number } => {
                self.count.accesses += 1;
                let claim = self.subject.calls.get(&at).ok_or("a call that is said to be unreachable")?;
                call(claim, Helper::from_number(*number).ok_or("an unknown helper")?, activation)?;
            }
            _ => {}
        }
        self.loops(at)
    }

    fn loops(&mut self, at: u32) -> Result<(), String> {
        self.instructions += 1;
        if let Some(claim) = self.subject.proof.analysis().loops.iter().find(|claim| claim.head == at) {
            let again = self.previous.is_some_and(|previous| self.subject.graph.is_retreating(previous, at));
            let trips = self.trips.entry(at).or_default();
            *trips = if again { *trips + 1 } else { 0 };
            // A run that begins in the middle of a loop has trips behind it, but not more than the rest.
            if claim.trips_max.is_some_and(|max| *trips > max) {
                return Err(format!("{trips} back edges; at most {:?} were proved", claim.trips_max));
            }
        }
        self.previous = Some(at);
        Ok(())
    }

    /// Claims about the whole run.
    fn ended(&self, outcome: Outcome, activation: &Activation) -> Result<(), String> {
        let (analysis, manifest) = (self.subject.proof.analysis(), &self.subject.manifest);
        if let Outcome::Finished(result) = outcome {
            let claim = analysis.result.ok_or("it ends, which is said to be impossible")?;
            if !claim.admits(result) && !claim.admits(u64::from(result as u32)) && !claim.admits(result as u32 as i32 as u64) {
                return Err(format!("result {result:#x} is not in {claim:?}"));
            }
            if activation.reply_bytes > analysis.reply_bytes_max {
                return Err(format!(
                    "a reply of {} bytes; at most {} were proved",
                    activation.reply_bytes, analysis.reply_bytes_max
                ));
            }
        }
        if manifest.udma_operations_max.is_some_and(|max| u64::from(activation.udma_operations) > max) {
            return Err(format!(
                "{} UDMA operations; at most {:?} were proved",
                activation.udma_operations, manifest.udma_operations_max
            ));
        }
        // A call that was put off is seen twice.
        if manifest.instructions_max.is_some_and(|max| self.instructions > max + u64::from(activation.udma_operations)) {
            return Err(format!("{} instructions; at most {:?} were proved", self.instructions, manifest.instructions_max));
        }
        let metered = analysis.loops.iter().any(|claim| claim.metered);
        if !metered && activation.back_edges_left != BACK_EDGES {
            return Err("fuel is taken without a metered loop".to_owned());
        }
        Ok(())
    }
}

impl Observer for Watch<'_> {
    fn before(&mut self, instruction: u32, activation: &Activation) {
        if self.wrong.is_none()
            && let Err(wrong) = self.state(instruction, activation)
        {
            self.wrong = Some(format!("at instruction {instruction}: {wrong}"));
        }
    }
}

/// Whether a state lies inside a contract.
fn admits(contract: &Contract, activation: &Activation) -> Result<(), String> {
    for (register, value) in &contract.registers {
        let word = activation.registers[register.index()];
        if !value.admits(word) {
            return Err(format!("{register} is {word:#x}, not in {value:?}"));
        }
    }
    for cell in &contract.cells {
        let mut word = [0; 8];
        word[..cell.size.bytes()].copy_from_slice(&activation.memory[cell.offset as usize..][..cell.size.bytes()]);
        let word = u64::from_le_bytes(word);
        if !cell.value.admits(word) {
            return Err(format!("the word at {} is {word:#x}, not in {:?}", cell.offset, cell.value));
        }
    }
    match contract.bounds.iter().find(|bound| !bound.admits(&activation.registers)) {
        Some(bound) => Err(format!("{} + {} is over {}", bound.left, bound.right, bound.max)),
        None => Ok(()),
    }
}

/// Whether `length` bytes at an address are among those that are said to be touched.
fn covers(touched: &Touched, start: u64, length: u64) -> Result<(), String> {
    let within = |range: Option<naamc::verifier::contract::ByteRange>, first: u64| {
        let offset = start.wrapping_sub(first);
        range.is_some_and(|range| offset >= range.start.into() && offset.saturating_add(length) <= range.end.into())
    };
    let stack_or_body = if start < address::BODY_START { touched.stack } else { touched.body };
    let inside = length == 0 || within(stack_or_body, address::STACK_START) || within(touched.read_only, address::READ_ONLY_START);
    if inside { Ok(()) } else { Err(format!("{length} bytes at {start:#x} are not in {touched:?}")) }
}

fn hull_bytes(touched: &Touched) -> u32 {
    [touched.stack, touched.body, touched.read_only].into_iter().flatten().map(|range| range.end - range.start).sum()
}

fn call(claim: &Call, helper: Helper, activation: &Activation) -> Result<(), String> {
    let value = |register: Register| activation.registers[register.index()];
    let register = |index: usize| Register::ARGUMENTS[index];
    for (index, parameter) in helper.parameters().iter().enumerate() {
        let word = value(register(index));
        match parameter {
            Parameter::Region(_) => {
                let region = word.wrapping_sub(address::REGION_START);
                if region >= 64 || claim.regions >> region & 1 == 0 {
                    return Err(format!("region {region} is not in {:#x}", claim.regions));
                }
            }
            Parameter::U64 | Parameter::U32 => {
                let word = if *parameter == Parameter::U32 { u64::from(word as u32) } else { word };
                let scalar = claim.numbers.iter().find(|(named, _)| *named == register(index)).ok_or("a number without a claim")?;
                if !scalar.1.admits(word) {
                    return Err(format!("{} is {word:#x}, not in {:?}", register(index), scalar.1));
                }
            }
            Parameter::Source(extent) | Parameter::Destination(extent) => {
                let length = match extent {
                    Extent::Word => 8,
                    Extent::Parameter(length) => u64::from(value(register(*length)) as u32),
                };
                let memory = claim.memory.iter().find(|(named, _)| *named == register(index)).ok_or("memory without a claim")?;
                covers(&memory.1, word, length)?;
            }
        }
    }
    Ok(())
}
